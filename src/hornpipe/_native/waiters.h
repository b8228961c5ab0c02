/* The threads that wait for descriptors, and what wakes them: closings, and signals whose handlers run there. */
#ifndef HORNPIPE_WAITERS_H
#define HORNPIPE_WAITERS_H

#include "alone.h"

#include <poll.h>

/* How many descriptors have been closed so far. */
extern long long closings;
/* Our pipe, while it is CPython's wake-up descriptor, else -1. */
extern int lent;

/* One poll, of FIRST_LOOK at most if `look`; interrupted by signals and closings. set[count] must be free for the
 * wake-up, whose bytes are passed on to `onward`. `closed` is 1 when a descriptor of the set was closed meanwhile, 2
 * when any was since `closings` was `seen`. */
int poll_once(struct pollfd *set, nfds_t count, long long deadline, int look, long long seen, int onward, int *closed);
/* Ends every wait on this descriptor, in any thread: it is about to be closed. */
void wake_waiters_of(int fd);

/* Makes it if need be; NULL when that fails. */
struct thread_pipe *pipe_of_this_thread(void);
void drop_pipe_of_this_thread(void);
/* Its write end if Python's handlers run in this thread, else -1. */
int pipe_for_signals(void);
/* Of what came when an earlier wait was just over. */
void empty_pipe_of_signals(void);
/* Waits until a signal was handled: 1; 0 at the deadline; -1 interrupted. */
int look_for_signals(long long deadline, int onward);

/* Whether Python's handlers run in this thread: is_first_thread, without a system call where it has a pipe. */
int handles_signals(void);
#endif
