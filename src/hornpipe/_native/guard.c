#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <unistd.h>

struct guard guard;

void guard_prepare(void) {
    guard.single = dlsym(RTLD_DEFAULT, "__libc_single_threaded"); /* glibc 2.32 */
#if GUARDS
    const unsigned *size = dlsym(RTLD_DEFAULT, "__rseq_size"); /* glibc 2.35; 0 if the kernel has refused */
    const ptrdiff_t *at = dlsym(RTLD_DEFAULT, "__rseq_offset");
    if (size && *size && at)
        guard.field = *at + 8; /* after cpu_id_start and cpu_id */
#endif
}

int guard_use(int wanted) {
    int before = !guard.unwanted;
    guard.unwanted = !wanted;
    return before;
}

#if GUARDS
/* What the kernel is told of the sequence, by the layout of struct rseq_cs: from where, how long, and where to go. */
__asm__(".pushsection .data.rel.ro, \"aw\"\n"
        ".balign 32\n"
        ".globl guard_sequence\n"
        ".hidden guard_sequence\n"
        ".type guard_sequence, @object\n"
        "guard_sequence:\n"
        ".long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".size guard_sequence, . - guard_sequence\n"
        ".popsection\n"
        ".pushsection .text\n"
        ".balign 16\n"
        ".globl guard_entered\n"
        ".hidden guard_entered\n"
        ".type guard_entered, @function\n"
        "guard_entered:\n"
        ".cfi_startproc\n"
        "mov %fs:0, %rcx\n"
        "add guard(%rip), %rcx\n" /* the field: struct guard begins with it */
        "mov (%rdi), %rax\n"
        "mov 16(%rdi), %rsi\n"
        "mov 24(%rdi), %rdx\n"
        "mov 32(%rdi), %r10\n"
        "mov 40(%rdi), %r8\n"
        "mov 8(%rdi), %rdi\n"
        "lea guard_sequence(%rip), %r11\n"
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
        ".size guard_entered, . - guard_entered\n"
        ".popsection\n");

void guard_trip(void) {
    if (guard.field && *guard_field() == (uintptr_t)guard_sequence) /* it is there for others, too */
        *guard_field() = 0;
}
#else
void guard_trip(void) {}
long guard_entered(const long words[6]) {
    long result = syscall(words[0], words[1], words[2], words[3], words[4], words[5]);
    return result < 0 ? -errno : result;
}
#endif
