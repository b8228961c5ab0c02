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

/* Whether this machine can, and nobody has said that we should not; a change gives what was before. */
int guard_usable(void);
int guard_use(int wanted);
/* Whether there is no other thread, which could get a signal that this one is to handle: then this is the main one. */
int guard_alone(void);
/* From here on signals of this thread are noticed, if it can be; before Python's last look, with no system call between
 * it and ours: what is delivered at the end of one need not be noticed. */
void guard_open(void);
/* The call that comes next is not entered: there is something to look at. */
void guard_trip(void);
/* The system call with this number and up to five words more: its result, or -1 with errno; EINTR if it was not
 * entered. Only of a thread that has opened the guard. */
long guard_enter(const long words[6]);
#endif
