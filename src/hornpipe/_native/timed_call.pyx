"""Blocking calls that have no descriptor to poll, bounded by a timer (timer_create(2)).

The clock signal is SIGRTMAX: its handler does next to nothing and has no SA_RESTART, so a call that
it interrupts returns EINTR. It is sent to the waiting thread alone; neither SIGALRM nor anybody's
itimer is touched. Its handler stays in place once it was needed. Deadlines are as in ``wait``.
"""
from libc.errno cimport ECHILD, EINTR, errno
from posix.types cimport pid_t

cdef extern from *:
    """
    #include <Python.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/file.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>

    #define WAITING 0
    #define ALARM 1

    static long long monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
    }

    static void (*clock_hook)(void *);

    static void on_clock_signal(int number, siginfo_t *info, void *context) {
        int error = errno;
        if (info->si_code == SI_TIMER && info->si_value.sival_int == ALARM)
            PyErr_SetInterruptEx(number);
        if (clock_hook)
            clock_hook(context);
        errno = error;
    }

    /* Also after signal.signal, which puts CPython's handler in this one's place. */
    static void hold_clock_signal(void) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_clock_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGRTMAX, &action, NULL);
    }

    static void only_clock_signal(sigset_t *set) {
        sigemptyset(set);
        sigaddset(set, SIGRTMAX);
    }

    static int make_clock(timer_t *clock, int what) {
        struct sigevent event;
        memset(&event, 0, sizeof event);
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGRTMAX;
        event.sigev_value.sival_int = what;
    #ifdef sigev_notify_thread_id
        event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    #else
        event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    #endif
        return timer_create(CLOCK_MONOTONIC, &event, clock);
    }

    static int start_clock(timer_t *clock, sigset_t *before) {
        sigset_t mine;
        hold_clock_signal();
        if (make_clock(clock, WAITING) < 0)
            return -1;
        only_clock_signal(&mine);
        pthread_sigmask(SIG_UNBLOCK, &mine, before);
        return 0;
    }

    static void set_clock(timer_t clock, long long deadline) {
        /* At the deadline, then every 2 ms: an expiry that falls between our look at the time
         * and the system call is lost, the next one is not. No later than 40 ms from now in any
         * case: that bounds how long a Python handler waits whose signal fell into that gap. */
        struct itimerspec when = {{0, 2000000}, {0, 40000000}};
        if (deadline >= 0) {
            long long left = deadline - monotonic_ns();
            if (left < 40000000)
                when.it_value.tv_nsec = left < 1 ? 1 : left;
        }
        timer_settime(clock, 0, &when, NULL);
    }

    static void set_alarm(timer_t clock, long long deadline) {
        /* Again and again until Python has looked: an expiry between its last look and a system call
         * would not end that call. */
        struct itimerspec when = {{0, 5000000}, {0, 0}};
        long long left = deadline < 0 ? 0 : deadline - monotonic_ns();
        if (deadline >= 0 && left < 1)
            left = 1;
        when.it_value.tv_sec = left / 1000000000LL;
        when.it_value.tv_nsec = left % 1000000000LL;
        timer_settime(clock, 0, &when, NULL);
    }

    /* CPython's own calls look for handlers once when a signal has ended them, and then wait again at once.
     * What could not be handed out in that look would wait for the next signal: this is the next one. */
    static timer_t nudging;
    static pid_t nudged; /* whose timer it is: a fork does not inherit it */
    static void nudge(int on) {
        struct itimerspec when = {{0, 5000000}, {0, 1000000}}, never = {{0, 0}, {0, 0}};
        if (nudged != getpid()) {
            if (!on)
                return;
            hold_clock_signal();
            if (make_clock(&nudging, WAITING) < 0)
                return; /* too many timers: they wait, and are not lost */
            nudged = getpid();
        }
        timer_settime(nudging, 0, on ? &when : &never, NULL);
    }

    static void stop_clock(timer_t clock, const sigset_t *before) {
        int error = errno;
        timer_delete(clock);
        pthread_sigmask(SIG_SETMASK, before, NULL);
        errno = error;
    }

    /* The calls themselves: each takes its arguments in a structure. */
    struct opening { const char *path; int flags; mode_t mode; };
    static long do_open(void *arguments) {
        struct opening *opening = arguments;
        return open(opening->path, opening->flags, opening->mode);
    }

    /* A FIFO's end for writing, and at once a fresh FIFO in its place: whoever opens the used one in
     * between shares it with its first reader, so in between lies nothing but this. */
    struct renewing { const char *path, *fresh; int flags, renewed; };
    static long do_renew(void *arguments) {
        struct renewing *renewing = arguments;
        struct stat used, now;
        int fd = open(renewing->path, renewing->flags);
        if (fd >= 0 && fstat(fd, &used) == 0 && S_ISFIFO(used.st_mode) && lstat(renewing->path, &now) == 0 &&
            now.st_ino == used.st_ino && now.st_dev == used.st_dev)
            renewing->renewed = rename(renewing->fresh, renewing->path) == 0;
        return fd;
    }

    struct locking { int fd, operation; };
    static long do_flock(void *arguments) {
        struct locking *locking = arguments;
        return flock(locking->fd, locking->operation);
    }

    static long do_waitid(void *arguments) {
        siginfo_t facts;
        return waitid(P_PID, (id_t)*(pid_t *)arguments, &facts, WEXITED | WNOWAIT);
    }

    static int waitid_now(pid_t pid) {
        siginfo_t facts;
        facts.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOWAIT | WNOHANG) < 0)
            return -1;
        return facts.si_pid != 0;
    }
    """
    ctypedef void *timer_t
    ctypedef struct sigset_t:
        pass
    ctypedef unsigned int mode_t
    struct opening:
        const char *path
        int flags
        mode_t mode
    struct renewing:
        const char *path
        const char *fresh
        int flags
        int renewed
    struct locking:
        int fd
        int operation
    int SIGRTMAX, ALARM
    long long monotonic_ns() nogil
    void (*clock_hook)(void *) noexcept
    void hold_clock_signal()
    int make_clock(timer_t *, int)
    int timer_delete(timer_t)
    int start_clock(timer_t *, sigset_t *)
    void set_clock(timer_t, long long) nogil
    void set_alarm(timer_t, long long)
    void nudge(int)
    void stop_clock(timer_t, const sigset_t *)
    long do_open(void *) nogil
    long do_renew(void *) nogil
    long do_flock(void *) nogil
    long do_waitid(void *) nogil
    int waitid_now(pid_t) nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)
    object PyErr_SetFromErrnoWithFilename(object, const char *)

CLOCK_SIGNAL = SIGRTMAX


cdef void use_clock_hook(void (*hook)(void *) noexcept) noexcept:
    """Puts the clock signal's handler in place, with ``hook`` for what else it does."""
    global clock_hook
    clock_hook = hook
    hold_clock_signal()


cdef void end_calls_until_told(bint on) noexcept:
    """From 1 ms from now on, end what this thread waits in, for Python to look for signals; or not any more."""
    nudge(on)


cdef long timed(long (*call)(void *) noexcept nogil, void *arguments, long long deadline) except? -3:
    """The call's result, -1 with errno, or LATE. Python's signal handlers run in between."""
    cdef timer_t clock
    cdef sigset_t before
    cdef long result
    if start_clock(&clock, &before) < 0:
        PyErr_SetFromErrno(OSError)
    try:
        while True:
            PyErr_CheckSignals()
            # Entered at least once, however little time there is: a timeout of 0 tries (the clock then goes
            # off at once, which ends only a call that would have to wait).
            with nogil:
                set_clock(clock, deadline)
                result = call(arguments)
            if result >= 0 or errno != EINTR:
                return result
            if deadline >= 0 and monotonic_ns() >= deadline:
                return LATE
    finally:
        stop_clock(clock, &before)


def child(int pid, long long deadline):
    """waitid(2) with WNOWAIT: whether the child has ended by the deadline; -1 if it is not ours."""
    cdef pid_t wanted = pid
    cdef int found = waitid_now(pid)
    cdef long result
    if found != 0:
        return found
    result = timed(do_waitid, &wanted, deadline)
    if result == LATE:
        return waitid_now(pid)
    if result < 0:
        if errno == ECHILD:
            return -1
        PyErr_SetFromErrno(OSError)
    return 1


def open_path(bytes path not None, int flags, int mode, long long deadline):
    """open(2), which waits for a FIFO's other end: the descriptor, or -1 at the deadline."""
    cdef opening arguments
    cdef long result
    arguments.path, arguments.flags, arguments.mode = path, flags, mode
    result = timed(do_open, &arguments, deadline)
    if result == LATE:
        return -1
    if result < 0:
        PyErr_SetFromErrnoWithFilename(OSError, path)
    return result


def open_renewed(bytes path not None, bytes fresh not None, int flags, long long deadline):
    """open(2) of a FIFO, and rename(2) of ``fresh`` onto its name: ``(fd, renewed)``; -1 at the deadline.

    With the deadline 0 it does not wait: ENXIO says that nobody reads.
    """
    cdef renewing arguments
    cdef long result
    arguments.path, arguments.fresh, arguments.flags, arguments.renewed = path, fresh, flags, 0
    result = timed(do_renew, &arguments, deadline) if deadline else do_renew(&arguments)
    if result == LATE:
        return -1, False
    if result < 0:
        PyErr_SetFromErrnoWithFilename(OSError, path)
    return result, bool(arguments.renewed)


def lock_file(int fd, int operation, long long deadline):
    """flock(2): whether the lock was had by the deadline."""
    cdef locking arguments
    cdef long result
    arguments.fd, arguments.operation = fd, operation
    result = timed(do_flock, &arguments, deadline)
    if result == -1:
        PyErr_SetFromErrno(OSError)
    return result != LATE


cdef class AlarmClock:
    """timer_create(2) for the main thread: the interpreter calls ``ring`` from the deadline on, until it is set anew."""
    cdef timer_t clock
    cdef bint made

    def __init__(self, ring):
        from _signal import signal

        # Held first, so that the signal never meets the default, which would kill the process.
        hold_clock_signal()
        signal(SIGRTMAX, ring)
        hold_clock_signal()
        if make_clock(&self.clock, ALARM) < 0:
            PyErr_SetFromErrno(OSError)
        self.made = True

    def set(self, long long deadline):
        """When it rings next; -1 for never."""
        set_alarm(self.clock, deadline)

    def __dealloc__(self):
        if self.made:
            timer_delete(self.clock)
