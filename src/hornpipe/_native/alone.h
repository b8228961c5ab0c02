/* Which thread this is. */
#ifndef HORNPIPE_ALONE_H
#define HORNPIPE_ALONE_H

#include <sys/syscall.h>
#include <unistd.h>

/* Whether it is the one that the process began with, in which Python's handlers run; after a fork, the one there is. */
static inline int is_first_thread(void) { return getpid() == (pid_t)syscall(SYS_gettid); }

/* ALONE: whether there is and was no other. */
#if defined(__GLIBC__) && defined(__has_include)
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define ALONE __libc_single_threaded
#endif
#endif
#ifndef ALONE
#define ALONE 0
#endif

#endif
