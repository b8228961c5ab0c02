"""What a process asks of the kernel about its children and itself, once they are started: calls that Python lacks. No policy.

waitid(2), pidfd_send_signal(2), ioctl_pidfd(2), tcgetpgrp(3), prctl(2), close_range(2).
"""
from posix.types cimport pid_t

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/ioctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/prctl.h>
    #endif

    /* linux/pidfd.h of Linux 6.15; declared here so that older headers build it too. */
    struct pidfd_facts {
        uint64_t mask, cgroup;
        uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
        int32_t exit_code;
    };
    #define PIDFD_FACTS _IOWR(0xFF, 11, struct pidfd_facts)
    #define PIDFD_FACTS_EXIT (1UL << 3)

    static int pidfd_exit_status(int pidfd, int *status) {
        struct pidfd_facts facts = {0};
        facts.mask = PIDFD_FACTS_EXIT;
        if (ioctl(pidfd, PIDFD_FACTS, &facts) < 0)
            return -1;
        if (!(facts.mask & PIDFD_FACTS_EXIT)) {
            errno = EAGAIN; /* still running, or dead but not reaped yet */
            return -1;
        }
        *status = facts.exit_code;
        return 0;
    }

    static int in_foreground(void) {
        /* stdin may be redirected while the others are the terminal still. */
        int streams[] = {0, 2, 1};
        for (int i = 0; i < 3; i++) {
            pid_t group = tcgetpgrp(streams[i]);
            if (group >= 0 && group == getpgrp())
                return 1;
        }
        return 0;
    }

    static int subreap(void) {
    #ifdef PR_SET_CHILD_SUBREAPER
        return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    #else
        errno = ENOSYS;
        return -1;
    #endif
    }

    static void close_between(int first, int last) {
    #ifdef SYS_close_range
        if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0) == 0)
            return;
    #endif
        long end = sysconf(_SC_OPEN_MAX);
        if (end < 0 || end > 65536)
            end = 65536;
        for (int fd = first; fd <= last && fd < end; fd++)
            close(fd);
    }
    """
    int pidfd_exit_status(int, int *)
    int in_foreground()
    int subreap()
    void close_between(int, int)

cdef extern from "pidfd.h":
    enum:
        STILL_RUNS
        NOT_TOLD
    int signal_pidfd(int, int)
    int reap_now(pid_t, int)

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object)


def send_signal(int pidfd, int number):
    """pidfd_send_signal(2). Raises ProcessLookupError when the process has been reaped."""
    if signal_pidfd(pidfd, number) < 0:
        PyErr_SetFromErrno(OSError)


def reap(int pid, int pidfd, list found):
    """waitid(2) without blocking: appends the raw wait status, or -2 when it is not ours; nothing while it runs.

    The kernel says it once. Were it returned, a signal handler could run before the caller has it.
    """
    cdef int status = reap_now(pid, pidfd)
    if status == NOT_TOLD:
        PyErr_SetFromErrno(OSError)
    if status != STILL_RUNS:
        found.append(status)


def lost_status(int pidfd):
    """The raw status of a child that somebody else reaped (PIDFD_GET_INFO, Linux 6.15), or -1."""
    cdef int status = 0
    if pidfd < 0 or pidfd_exit_status(pidfd, &status) < 0:
        return -1
    return status


def has_terminal():
    """tcgetpgrp(3): whether our process group is in front on the terminal of a standard stream."""
    return bool(in_foreground())


def become_subreaper():
    """prctl(2), PR_SET_CHILD_SUBREAPER: orphaned descendants become our children. Survives execve."""
    if subreap() < 0:
        PyErr_SetFromErrno(OSError)


def close_all_but(kept):
    """Closes every descriptor above 2 that is not in ``kept`` (close_range(2))."""
    cdef int first = 3
    for number in sorted(kept):
        if number > first:
            close_between(first, number - 1)
        if number >= first:
            first = number + 1
    close_between(first, 0x7fffffff)
