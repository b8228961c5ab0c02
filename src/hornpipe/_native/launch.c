/* Starting a child: from the plan to a process that has exec'ed, or to the reason why none has. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

/* A vfork holds the calling thread until the exec, which may take for ever: of a program on a server that does not
 * answer, under a virus scanner's eyes, or with somebody else's lease (fcntl(2)) on it. Neither its deadline nor its
 * signals would mean anything to the thread. So the child has a timer that kills it when it is late; timers end with
 * the exec (timer_create(2)). A caller who finds it killed so tries again with a real fork, and waits for that.
 *
 * We are woken before that end of the timers, when the child gives our memory back:
 *   1. The child has done so, and we go on.  2. It loses the processor, on a busy machine for long.
 *   3. The timer kills it, and so a program that we have called started.
 * So we go on only when it is over this point, of which the kernel says that it "has execed": to setpgid(2), which may
 * change nothing then. A system call more, and nearly always one is enough. */
#define LATE 30000000L /* nanoseconds; handlers have to run within 50 ms, and the fork takes its time too */

static void die_when_late(void) {
    struct sigevent event;
    struct itimerspec when = {{0, 0}, {0, LATE}};
    timer_t timer;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &when, NULL);
}

enum { EXITING = 0x4, FORKED_AND_NOT_EXECED = 0x40 }; /* PF_EXITING, PF_FORKNOEXEC of linux/sched.h */

/* The process's flags (proc(5)), which a zombie still has; 0 where they are not to be had. */
static unsigned long flags_of(pid_t pid) {
    char path[40], text[256], *at;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    at = strrchr(text, ')'); /* its name may have anything in it */
    for (int field = 2; at && field < 9; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoul(at, NULL, 10) : 0;
}

/* Waits until it has exec'ed, or failed to in time: then it is dying, or dead, and has not exec'ed. The timer was first,
 * and it has done nothing. From waitid(2) the same could be somebody's KILL a moment after the exec, and we are awake
 * before it is a zombie. */
static int was_late(const struct child_plan *plan, pid_t pid) {
    pid_t group = !plan->new_group ? getpgrp() : plan->group > 0 ? plan->group : pid; /* where it is already */
    for (;;) {
        /* Of a child in another session it says only that. */
        if (!plan->new_session && setpgid(pid, group) < 0 && (errno == EACCES || errno == ESRCH))
            return 0;
        unsigned long flags = flags_of(pid);
        if (!(flags & FORKED_AND_NOT_EXECED))
            return 0;
        if (flags & EXITING)
            return 1;
        sched_yield(); /* to the child */
    }
}

struct launch {
    const struct child_plan *plan;
    struct child_failure *failure; /* in the parent's memory when that is shared */
    int report;                    /* else the pipe's write end; -1 when shared */
    pid_t parent;                  /* who has to be there still, with a death signal */
    int unhandled;                 /* no signal has a handler in the child */
};

static int run_child(void *argument) {
    struct launch *launch = argument;
    const struct child_plan *plan = launch->plan;
    struct child_failure failure = {0, 0, 0};
    int report = launch->report;
    if (report < 0)
        die_when_late();
    child_reset_signals(launch->unhandled ? plan->may_be_ignored : ~0ULL, plan->stay_ignored);
    if (child_prepare(plan, &report, &failure) == 0) {
        if (plan->death_signal && getppid() != launch->parent)
            _exit(127);
        child_exec(plan, &failure);
    }
    if (report >= 0) {
        /* Smaller than PIPE_BUF into an empty pipe: whole, and it cannot block. */
        if (write(report, &failure, sizeof failure) < 0)
            _exit(126);
    } else
        *launch->failure = failure;
    _exit(127);
}

#ifdef CHILD_CLONES_UNHANDLED
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

struct request { /* struct clone_args of linux/sched.h, as it was at first */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static int refused; /* by a kernel before 5.5, or by a sandbox, which cannot look into the request */

pid_t child_clone_unhandled(uint64_t flags, int (*main)(void *), void *argument, char *stack, size_t size, int *pidfd,
                            int32_t *cleared) {
    if (__atomic_load_n(&refused, __ATOMIC_RELAXED)) {
        errno = ENOSYS;
        return -1;
    }
    struct request request = {
        .flags = flags | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)pidfd,
        .child_tid = (uintptr_t)cleared,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = size,
    };
    register int (*child)(void *) __asm__("r8") = main;
    register void *given __asm__("r9") = argument;
    long pid;
    /* No return address may lie between the call and the child's first word: it would be gone when we go on. */
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t" /* the outermost frame, for whoever looks at the stack */
                     "mov %%r9, %%rdi\n\t"
                     "call *%%r8\n\t" /* does not return */
                     "ud2\n"
                     "1:"
                     : "=a"(pid)
                     : "a"(SYS_clone3), "D"(&request), "S"(sizeof request), "r"(child), "r"(given)
                     : "rcx", "r11", "memory");
    if (pid >= 0)
        return (pid_t)pid;
    errno = (int)-pid;
    if (errno == ENOSYS || errno == EPERM || errno == EINVAL) {
        __atomic_store_n(&refused, 1, __ATOMIC_RELAXED);
        errno = ENOSYS;
    }
    return -1;
}

static pid_t start_unhandled(struct launch *launch, char *stack, size_t size, int want_pidfd, int *pidfd) {
    launch->unhandled = 1;
    pid_t pid = child_clone_unhandled(CLONE_VM | CLONE_VFORK | (want_pidfd ? CLONE_PIDFD : 0), run_child, launch, stack,
                                      size, pidfd, NULL);
    if (pid < 0)
        launch->unhandled = 0;
    return pid;
}
#endif

static pid_t start_child(struct launch *launch, int share_memory, int want_pidfd, int *pidfd) {
#if defined(__linux__) && !defined(__hppa__) && !defined(__ia64__)
    /* On a stack of its own, so that nothing of our frames is disturbed while the memory is
     * shared; we are here until it execs, so a piece of our stack will do. A forked child
     * gets a copy of it. CLONE_PIDFD closes the race in which somebody else's wait(-1) reaps the
     * child before pidfd_open; kernels before 5.2 ignore the flag and leave *pidfd alone. */
    char stack[65536] __attribute__((aligned(16)));
    pid_t pid;
#ifdef CHILD_CLONES_UNHANDLED
    if (share_memory) {
        pid = start_unhandled(launch, stack, sizeof stack, want_pidfd, pidfd);
        if (pid >= 0 || errno != ENOSYS)
            return pid;
    }
#endif
    int flags = SIGCHLD;
    if (share_memory)
        flags |= CLONE_VM | CLONE_VFORK;
    if (want_pidfd)
        flags |= CLONE_PIDFD;
    pid = clone(run_child, stack + sizeof stack, flags, launch, pidfd);
    /* A sandbox may refuse the flag (gotcha:R2). What else these say would be said again. */
    if (pid < 0 && want_pidfd && (errno == EPERM || errno == EINVAL || errno == ENOSYS))
        pid = clone(run_child, stack + sizeof stack, flags & ~CLONE_PIDFD, launch, pidfd);
    return pid;
#else
    pid_t pid = share_memory ? vfork() : fork();
    if (pid == 0)
        run_child(launch);
    (void)want_pidfd, (void)pidfd;
    return pid;
#endif
}

pid_t child_launch(const struct child_plan *plan, int share_memory, int want_pidfd,
                   int *pidfd, int *report, struct child_failure *failure) {
    int pipe_ends[2] = {-1, -1};
    *pidfd = *report = -1;
    *failure = (struct child_failure){0};
    if (!share_memory && pipe2(pipe_ends, O_CLOEXEC) < 0) {
        child_failed(failure, STAGE_FORK, 1);
        return -1;
    }
    /* All signals blocked: none of our handlers may run in the child, and one that arrives for
     * the child before its exec waits for the child's own default. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct launch launch = {plan, failure, pipe_ends[1], plan->death_signal ? getpid() : 0, 0};
    pid_t pid = start_child(&launch, share_memory, want_pidfd, pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!share_memory)
        close(pipe_ends[1]);
    if (pid < 0) {
        if (!share_memory)
            close(pipe_ends[0]);
        errno = error;
        child_failed(failure, STAGE_FORK, 0);
        return -1;
    }
    if (share_memory && !failure->error && was_late(plan, pid)) {
        errno = ETIME;
        child_failed(failure, STAGE_EXEC, 0);
    }
    if (failure->error) { /* only a shared memory can have filled it */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        if (*pidfd >= 0)
            close(*pidfd);
        *pidfd = -1;
        return -1;
    }
    *report = pipe_ends[0];
    return pid;
}
