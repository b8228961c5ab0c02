#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

static int unwanted;

int guard_use(int wanted) {
    int before = !unwanted;
    unwanted = !wanted;
    return before;
}

int guard_alone(void) {
    static const char *single;
    static int looked;
    if (!looked) {
        single = dlsym(RTLD_DEFAULT, "__libc_single_threaded"); /* glibc 2.32 */
        looked = 1;
    }
    return single && *single;
}

#if defined(__x86_64__) && defined(__linux__)
/* What the kernel is told of the sequence, by the layout of struct rseq_cs: from where, how long, and where to go. */
__asm__(".pushsection .data.rel.ro, \"aw\"\n"
        ".balign 32\n"
        ".type guarded, @object\n"
        "guarded:\n"
        ".long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".size guarded, . - guarded\n"
        ".popsection\n"
        ".pushsection .text\n"
        ".balign 16\n"
        ".type enter, @function\n"
        "enter:\n"
        ".cfi_startproc\n"
        "mov %rdi, %rcx\n"
        "mov (%rsi), %rax\n"
        "mov 8(%rsi), %rdi\n"
        "mov 24(%rsi), %rdx\n"
        "mov 32(%rsi), %r10\n"
        "mov 40(%rsi), %r8\n"
        "mov 16(%rsi), %rsi\n"
        "lea guarded(%rip), %r11\n"
        "1:\n"
        "cmp %r11, (%rcx)\n"
        "jne 4f\n"
        "syscall\n"
        "2:\n"
        "ret\n"
        ".byte 0x0f, 0xb9, 0x3d\n" /* an instruction that is none, of which this is the rest: */
        ".long 0x53053053\n"       /* RSEQ_SIG, by which glibc lets the kernel know the place */
        "4:\n"
        "mov $-4, %rax\n" /* -EINTR */
        "ret\n"
        ".cfi_endproc\n"
        ".size enter, . - enter\n"
        ".popsection\n");

extern const char guarded[] __attribute__((visibility("hidden")));
extern long enter(volatile uint64_t *field, const long *words) __attribute__((visibility("hidden")));

/* struct rseq's rseq_cs of this thread; NULL if glibc has not registered one. */
static volatile uint64_t *field(void) {
    static ptrdiff_t offset;
    static int found;
    char *thread;
    if (!found) {
        const unsigned *size = dlsym(RTLD_DEFAULT, "__rseq_size"); /* glibc 2.35; 0 if the kernel has refused */
        const ptrdiff_t *at = dlsym(RTLD_DEFAULT, "__rseq_offset");
        found = size && *size && at ? 1 : -1;
        if (found > 0)
            offset = *at;
    }
    if (found < 0)
        return NULL;
    __asm__("mov %%fs:0, %0" : "=r"(thread));
    return (volatile uint64_t *)(thread + offset + 8);
}

int guard_usable(void) { return !unwanted && field(); }
void guard_open(void) { *field() = (uintptr_t)guarded; }
void guard_trip(void) {
    volatile uint64_t *mine = field();
    if (mine && *mine == (uintptr_t)guarded) /* it is there for others, too */
        *mine = 0;
}

long guard_enter(const long words[6]) {
    long result = enter(field(), words);
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
#else
int guard_usable(void) { return 0; }
void guard_open(void) {}
void guard_trip(void) {}
long guard_enter(const long words[6]) {
    return syscall(words[0], words[1], words[2], words[3], words[4], words[5]);
}
#endif
