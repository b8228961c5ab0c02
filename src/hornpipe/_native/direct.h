/* System calls made where they are wanted, and not in a function of the C library.
 *
 * Where Linux guards a processor against speculation across returns (retbleed, SRSO: see
 * /sys/devices/system/cpu/vulnerabilities), the way back from the kernel leaves it without knowing where the functions that
 * are open return to, and each of them then costs a misprediction: 12 ns on an EPYC, a tenth of the time of a system
 * call that has little to do. So few are to be open around one that is to be as fast as in C. */
#ifndef HORNPIPE_DIRECT_H
#define HORNPIPE_DIRECT_H

#include <errno.h>
#include <unistd.h>

/* The system call with this number: its result, or -1 with errno. */
static inline long direct(long number, long first, long second, long third, long fourth, long fifth) {
#if defined(__x86_64__) && defined(__linux__) && !defined(__ILP32__)
    register long r10 __asm__("r10") = fourth, r8 __asm__("r8") = fifth;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
#else
    return syscall(number, first, second, third, fourth, fifth);
#endif
}

#endif
