"""Blocking calls that have no descriptor to poll, bounded by a timer (timer_create(2)).

The clock signal is SIGRTMAX: its handler does next to nothing and has no SA_RESTART, so a call that
it interrupts returns EINTR. It is sent to the waiting thread alone; neither SIGALRM nor anybody's
itimer is touched. Its handler stays in place once it was needed, and the timer for as long as the thread.
While the main thread waits, SIGSTKFLT tells it in the same way that a handler of Python's is to be run: see
``clock.h``; or it needs not be told, since there is no other thread: see ``guard.h``. Deadlines are as in ``wait``.
"""
from libc.errno cimport ECHILD, EINTR, errno
from posix.types cimport pid_t
from posix import register_at_fork

cdef extern from *:
    """
    #include <fcntl.h>
    #include <sys/file.h>
    #include <sys/stat.h>
    #include <sys/wait.h>

    /* The calls themselves: each takes its arguments in a structure. */
    struct opening { const char *path; int flags; mode_t mode; };
    static long do_open(void *arguments, long *words) {
        (void)words;
        struct opening *opening = arguments;
        return open(opening->path, opening->flags, opening->mode);
    }

    /* A FIFO's end for writing, and at once a fresh FIFO in its place: whoever opens the used one in
     * between shares it with its first reader, so in between lies nothing but this. */
    struct renewing { const char *path, *fresh; int flags, renewed; };
    static long do_renew(void *arguments, long *words) {
        (void)words;
        struct renewing *renewing = arguments;
        struct stat used, now;
        int fd = open(renewing->path, renewing->flags);
        if (fd >= 0 && fstat(fd, &used) == 0 && S_ISFIFO(used.st_mode) && lstat(renewing->path, &now) == 0 &&
            now.st_ino == used.st_ino && now.st_dev == used.st_dev)
            renewing->renewed = rename(renewing->fresh, renewing->path) == 0;
        return fd;
    }

    struct locking { int fd, operation; };
    static long do_flock(void *arguments, long *words) {
        (void)words;
        struct locking *locking = arguments;
        return flock(locking->fd, locking->operation);
    }

    static long do_waitid(void *arguments, long *words) {
        (void)words;
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
    long do_open(void *, long *) nogil
    long do_renew(void *, long *) nogil
    long do_flock(void *, long *) nogil
    long do_waitid(void *, long *) nogil
    int waitid_now(pid_t) nogil

cdef extern from "clock.h":
    ctypedef void *timer_t
    struct clock_use:
        int entered
    int SIGRTMAX, ARRIVAL_SIGNAL
    long long monotonic_ns() nogil
    void (*clock_hook)(void *) noexcept
    void hold_clock_signal()
    int make_alarm(timer_t *)
    void set_alarm(timer_t, long long)
    void nudge(int, long long)
    int clock_prepare()
    int clock_begin(clock_use *, int)
    void clock_end(clock_use *)
    int clock_set(clock_use *, long long)
    int clock_watches(const clock_use *)
    int clock_is_set(const clock_use *)
    long clock_enter(clock_use *, long (*)(void *, long *) noexcept nogil, void *) nogil
    void clock_in_child()
    void clock_abandon()

cdef extern from "births.h":
    void births_expect(void (*)(int) noexcept, const int *)
    void births_begin()

cdef extern from "guard.h":
    void guard_prepare()
    int guard_use(int)
    int guard_usable()
    int guard_alone()
    void guard_open()
    long guard_enter(const long *) nogil

cdef extern from "<time.h>":
    int timer_delete(timer_t)

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)
    object PyErr_SetFromErrnoWithFilename(object, const char *)

guard_prepare()

KEPT_SIGNALS = (SIGRTMAX, ARRIVAL_SIGNAL)


cdef void use_clock_hook(void (*hook)(void *) noexcept) noexcept:
    """Puts the clock signal's handler in place, with ``hook`` for what else it does."""
    global clock_hook
    clock_hook = hook
    hold_clock_signal()


cdef void interrupt_until_told(int number, long long first) noexcept:
    """From ``first`` nanoseconds from now on, have Python look for this signal, and end what this thread waits in.

    With 0 not any more.
    """
    nudge(number, first)


cdef long timed(
    long (*call)(void *, long *) noexcept nogil, void *arguments, long long deadline, int kind
) except? -3:
    """The call's result, -1 with errno, or LATE. Python's signal handlers run in between.

    ``kind``: BOUNDS_ITSELF says that the call has been told the deadline, and needs no timer for it;
    CAN_BE_GUARDED that it can also be told in words, see ``clock_call``.
    """
    cdef clock_use use
    cdef long words[6]
    cdef long result
    # The shortest way, measured beside C: in a program without threads there is nothing to make nor to tell.
    while kind & CAN_BE_GUARDED and (deadline < 0 or kind & BOUNDS_ITSELF) and can_guard():
        PyErr_CheckSignals()
        guard_open()
        PyErr_CheckSignals()
        if not guard_alone():
            break  # a handler has started a thread
        call(arguments, words)
        # The GIL is kept: there is nobody who could take it.
        result = guard_enter(words)
        if result >= 0 or errno != EINTR:
            return result
        if deadline >= 0 and monotonic_ns() >= deadline:
            return LATE
    if clock_begin(&use, kind) < 0:
        PyErr_SetFromErrno(OSError)
    try:
        while True:
            if clock_set(&use, deadline) < 0:
                PyErr_SetFromErrno(OSError)
            PyErr_CheckSignals()
            if clock_watches(&use):
                PyErr_CheckSignals()
            if not clock_is_set(&use):
                continue
            with nogil:
                result = clock_enter(&use, call, arguments)
            if result >= 0 or errno != EINTR:
                return result
            if use.entered and deadline >= 0 and monotonic_ns() >= deadline:
                return LATE
    finally:
        clock_end(&use)


cdef bint can_guard() noexcept:
    """Whether calls are, in this process as it is now: then there is no other thread, and this is the main one."""
    return guard_usable() and guard_alone()


cdef void open_guard() noexcept:
    """Before Python's last look; what is ``guarded`` after it is not entered if a signal comes meanwhile."""
    guard_open()


cdef long guarded(const long *words) noexcept nogil:
    """The system call with this number and arguments, unless a signal has come: see ``guard.h``."""
    return guard_enter(words)


def use_guard(bint flag):
    """Whether calls are guarded where that is possible; gives what was before. For tests of the portable path."""
    return bool(guard_use(flag))


def guards():
    """Whether they are, in this process as it is now."""
    return can_guard()


def prepare():
    """Makes this thread's timer now, and for the main thread the pipe, instead of at its first wait."""
    if clock_prepare() < 0:
        PyErr_SetFromErrno(OSError)


def _begin_as_child():
    """The one hook of all native modules. The wake-up descriptor is not left with a pipe that is the parent's."""
    clock_in_child()
    births_begin()


register_at_fork(after_in_child=_begin_as_child)


cdef void expect_births(void (*what)(int) noexcept, const int *mark) noexcept:
    """Have this called in forked children: see births.h."""
    births_expect(what, mark)


cdef void abandon() noexcept:
    """In a forked child that begins with default dispositions and is about to close every descriptor."""
    clock_abandon()


def child(int pid, long long deadline):
    """waitid(2) with WNOWAIT: whether the child has ended by the deadline; -1 if it is not ours."""
    cdef pid_t wanted = pid
    cdef int found = waitid_now(pid)
    cdef long result
    if found != 0:
        return found
    result = timed(do_waitid, &wanted, deadline, 0)
    if result == LATE:
        return waitid_now(pid)
    if result < 0:
        if errno == ECHILD:
            return -1
        PyErr_SetFromErrno(OSError)
    return 1


def open_path(owner, bytes path not None, int flags, int mode, long long deadline):
    """open(2), which waits for a FIFO's other end, into ``owner._fd``: false at the deadline. See ``wait.own``."""
    cdef opening arguments
    cdef long result
    arguments.path, arguments.flags, arguments.mode = path, flags, mode
    result = timed(do_open, &arguments, deadline, 0)
    if result == LATE:
        return False
    if result < 0:
        PyErr_SetFromErrnoWithFilename(OSError, path)
    owner._fd = result
    return True


def open_renewed(owner, bytes path not None, bytes fresh not None, int flags, long long deadline):
    """open(2) of a FIFO into ``owner._fd``, and rename(2) of ``fresh`` onto its name: whether it was renamed.

    None at the deadline.

    With the deadline 0 it does not wait: ENXIO says that nobody reads.
    """
    cdef renewing arguments
    cdef long result
    arguments.path, arguments.fresh, arguments.flags, arguments.renewed = path, fresh, flags, 0
    result = timed(do_renew, &arguments, deadline, 0) if deadline else do_renew(&arguments, NULL)
    if result == LATE:
        return None
    if result < 0:
        PyErr_SetFromErrnoWithFilename(OSError, path)
    owner._fd = result
    return bool(arguments.renewed)


def lock_file(int fd, int operation, long long deadline):
    """flock(2): whether the lock was had by the deadline."""
    cdef locking arguments
    cdef long result
    arguments.fd, arguments.operation = fd, operation
    result = timed(do_flock, &arguments, deadline, 0)
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
        if make_alarm(&self.clock) < 0:
            PyErr_SetFromErrno(OSError)
        self.made = True

    def set(self, long long deadline):
        """When it rings next; -1 for never."""
        set_alarm(self.clock, deadline)

    def __dealloc__(self):
        if self.made:
            timer_delete(self.clock)
