/* Children by a descriptor that no other process can come to have, or by their number where the system has none:
 * pidfd_open(2), pidfd_send_signal(2), waitid(2). */
#ifndef HORNPIPE_PIDFD_H
#define HORNPIPE_PIDFD_H

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__ /* for older headers: one number for every architecture but alpha */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static inline int open_pidfd(pid_t pid) {
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

static inline int signal_pidfd(int pidfd, int number) {
#ifdef SYS_pidfd_send_signal
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
#else
    (void)pidfd, (void)number;
    errno = ENOSYS;
    return -1;
#endif
}

/* The status word that wait(2) gives. */
static inline int raw_status(const siginfo_t *facts) {
    if (facts->si_code == CLD_EXITED)
        return (facts->si_status & 0xff) << 8;
    return (facts->si_status & 0x7f) | (facts->si_code == CLD_DUMPED ? 0x80 : 0);
}

enum { STILL_RUNS = -1, NOT_OURS = -2, NOT_TOLD = -3 };

/* Reaps it, if it has ended: the status word, or that it still runs, is not ours to wait for, or see errno. */
static inline int reap_now(pid_t pid, int pidfd) {
    siginfo_t facts;
    int result;
    facts.si_pid = 0;
    do
        result = pidfd >= 0 ? waitid((idtype_t)P_PIDFD, (id_t)pidfd, &facts, WEXITED | WNOHANG)
                            : waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOHANG);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return errno == ECHILD ? NOT_OURS : NOT_TOLD;
    return facts.si_pid == 0 ? STILL_RUNS : raw_status(&facts);
}

#endif
