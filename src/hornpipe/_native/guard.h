/* Calls that are not entered when a signal has come since the last look for one (gotcha:SIG17).
 *
 * Between Python's last look and the system call lie some instructions, and a signal that falls there would be handled
 * when the call is over: perhaps never. Whose handler it is does not matter here, nor does this cost a system call. The
 * kernel undoes restartable sequences (rseq(2), which glibc asks for in each thread) when a signal is delivered in the
 * midst of one: the one here ends with the instruction that enters the kernel. And what a thread has said of its next
 * one is forgotten when it gets a signal before, which we find when we come to it.
 *
 * For the thread that asks, and for calls that a signal always ends (signal(7): never restarted): of one that another
 * thread gets, and of one whose handler restarts the call, this knows nothing. */
#ifndef HORNPIPE_GUARD_H
#define HORNPIPE_GUARD_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__linux__) && !defined(__ILP32__)
#define GUARDS 1
#else
#define GUARDS 0
#endif

/* What there is, found by guard_prepare. */
extern struct guard {
    ptrdiff_t field;    /* rseq_cs of struct rseq, from a thread's own beginning; 0: glibc has registered none */
    const char *single; /* whether there is no other thread */
    int unwanted;       /* somebody has said so */
} guard __attribute__((visibility("hidden")));
void guard_prepare(void);
/* Whether this machine may; a change gives what was before. */
int guard_use(int wanted);

/* Inline, as few functions as can be are gone through around the call: see direct.h. */
static inline int guard_usable(void) { return guard.field && !guard.unwanted; }
/* Whether there is no other thread, which could get a signal that this one is to handle: then this is the main one. */
static inline int guard_alone(void) { return guard.single && *guard.single; }
#if GUARDS
extern const char guard_sequence[] __attribute__((visibility("hidden")));
static inline volatile uint64_t *guard_field(void) {
    char *thread;
    __asm__("mov %%fs:0, %0" : "=r"(thread));
    return (volatile uint64_t *)(thread + guard.field);
}
#endif
/* From here on signals of this thread are noticed, if it can be; before Python's last look, with no system call between
 * it and ours: what is delivered at the end of one need not be noticed. */
static inline void guard_open(void) {
#if GUARDS
    *guard_field() = (uintptr_t)guard_sequence;
#endif
}
/* The call that comes next is not entered: there is something to look at. */
void guard_trip(void);
/* For the next one: what the kernel says, -errno for a failure. */
long guard_entered(const long words[6]);
/* The system call with this number and up to five words more: its result, or -1 with errno; EINTR if it was not
 * entered. Only of a thread that has opened the guard. */
static inline long guard_enter(const long words[6]) {
    long result = guard_entered(words);
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
#endif
