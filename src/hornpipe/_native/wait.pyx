"""Blocking on descriptors: poll(2).

With timed_call the only native code that waits. Deadlines are CLOCK_MONOTONIC instants in nanoseconds; -1 is
never, 0 (any instant in the past) tries once. Signal handlers run before each wait and after
each interruption, in the thread where Python runs them; their exceptions come out here, else
the wait goes on until its deadline. A program with one thread is told by the kernel what came between the last look
and the poll (``guard.h``); one with more by the wake-up descriptor.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc
from _signal import set_wakeup_fd

from hornpipe._native.timed_call cimport abandon as abandon_clock, can_guard, expect_births, guarded, open_guard

cdef extern from "waiters.h":
    """
    #include <signal.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    """
    struct pollfd:
        int fd
        short events
        short revents
    ctypedef unsigned long nfds_t
    ctypedef struct sigset_t:
        pass
    long long closings
    int lent
    int poll_once(pollfd *, nfds_t, long long, int, long long, int, int *) nogil
    void wake_waiters_of(int) nogil
    void *pipe_of_this_thread() nogil
    void drop_pipe_of_this_thread()
    int pipe_for_signals() nogil
    void empty_pipe_of_signals()
    int look_for_signals(long long, int) nogil
    int handles_signals() nogil
    int is_first_thread() nogil
    int SIG_UNBLOCK, SIG_SETMASK
    int sigemptyset(sigset_t *)
    int sigaddset(sigset_t *, int)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int close_descriptor "close"(int) nogil
    short POLLIN
    int MSG_DONTWAIT
    Py_ssize_t recv(int, void *, size_t, int) nogil
    Py_ssize_t read_bytes "read"(int, void *, size_t) nogil
    Py_ssize_t write_bytes "write"(int, const void *, size_t) nogil

cdef extern from "clock.h":
    """
    /* poll_once by a call that is undone when a signal comes before it (guard.h): nothing has to be made or watched for
     * that, and the wait is as long as it is. */
    static long (*guarded_call)(const long *words);
    static int poll_guarded(struct pollfd *set, nfds_t count, long long deadline) {
        struct timespec left;
        long words[6] = {SYS_ppoll, (long)set, (long)count, (long)time_left(deadline, &left), 0, 0};
        return (int)guarded_call(words);
    }
    """
    long long monotonic_ns() nogil
    long (*guarded_call)(const long *) noexcept nogil
    int poll_guarded(pollfd *, nfds_t, long long) nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)

guarded_call = guarded

CLOSED = IS_CLOSED
OUTDATED = IS_OUTDATED


cdef enum:
    LOOKED = -3

cdef int onward = -1  # somebody else's, that had its place


cdef class Wakeup:
    """CPython's wake-up descriptor is our pipe while the main thread waits (gotcha:SIG17, SIG12).

    A signal that comes between the last look and the poll then ends the poll. The descriptor is one
    per process, so whoever had set one is told what comes meanwhile, and has it back afterwards.
    """
    cdef int ours, before, lent_before, onward_before

    def __cinit__(self):
        global lent, onward
        self.lent_before, self.onward_before = lent, onward
        self.ours = pipe_for_signals()
        self.before = set_wakeup_fd(self.ours, warn_on_full_buffer=False)
        lent = self.ours
        # In a handler that waits, while the wait it has interrupted goes on: told to ourselves, each
        # signal would be told for ever.
        if self.before != self.ours:
            onward = self.before

    cdef int put_back(self) except -1:
        global lent, onward
        cdef int now
        lent, onward = self.lent_before, self.onward_before
        try:
            now = set_wakeup_fd(self.before)
        except (OSError, ValueError):
            now = set_wakeup_fd(-1)  # its owner has closed it meanwhile
        if now != self.ours:
            set_wakeup_fd(now)  # a handler has set another one
        return 0


cdef void take_back_in_child(int threads) noexcept:
    """In a forked child: the pipe of a thread that is not here is the parent's, whom we must not wake."""
    global lent, onward
    cdef int before = onward
    if lent < 0 or lent == pipe_for_signals():
        return
    lent = onward = -1
    try:
        set_wakeup_fd(before)
    except (OSError, ValueError):
        set_wakeup_fd(-1)


expect_births(take_back_in_child, NULL)


cdef int told() noexcept nogil:
    """Who is told of what is found in this thread's pipe; also before it is lent, if a handler waits within a wait."""
    return onward if onward >= 0 and handles_signals() else -1


cdef bint first_look() noexcept:
    """Whether a wait first ends early: in the main thread, where short ones are spared the wake-up descriptor.

    It costs as much as the wait itself; a signal that falls into the gap is handled 40 ms late then.
    """
    return handles_signals()


cdef int poll_now(pollfd *set, nfds_t count, long long deadline, Wakeup wakeup, long long seen, int *closed) except -2:
    """One poll(2): how many are ready; -1 with errno; 0 at the deadline, LOOKED at the end of a first look.

    Of a program with one thread nobody could want the interpreter's lock meanwhile.
    """
    global errno
    cdef bint look = deadline != 0 and wakeup is None
    cdef int result
    closed[0] = 0
    if look and waits_alone(deadline):
        open_guard()
        PyErr_CheckSignals()
        if not can_guard():  # a handler has started a thread
            errno = EINTR
            return -1
        if seen >= 0 and seen != closings:  # or has closed it
            closed[0] = 2
            return -1
        return poll_guarded(set, count, deadline)
    look = look and first_look()
    with nogil:
        result = poll_once(set, count, deadline, look, seen, told(), closed)
    if result == 0 and look and (deadline < 0 or monotonic_ns() < deadline):
        return LOOKED
    return result


cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1:
    """The bits that are ready, or 0 at the deadline; IS_CLOSED when the descriptor was closed meanwhile.

    IS_OUTDATED when a descriptor was closed since ``closings_now()`` was ``seen``, before the number was looked up.
    """
    cdef pollfd set[2]
    cdef int result, closed = 0
    cdef Wakeup wakeup = None
    set[0].fd = fd
    set[0].events = events
    try:
        while True:
            PyErr_CheckSignals()
            set[0].revents = 0
            result = poll_now(set, 1, deadline, wakeup, seen, &closed)
            if closed:
                return IS_OUTDATED if closed == 2 else IS_CLOSED
            if result > 0:
                return set[0].revents
            if result == 0:
                return 0  # the kernel rounds a wait up, never down
            if result == LOOKED:
                wakeup = Wakeup()
            elif errno != EINTR:
                PyErr_SetFromErrno(OSError)
    finally:
        if wakeup is not None:
            wakeup.put_back()


cdef Py_ssize_t read_now(int fd, char *where, size_t size) noexcept:
    """read(2) of what is there."""
    cdef Py_ssize_t count
    if can_guard():
        return read_bytes(fd, where, size)  # the interpreter's lock is wanted by nobody
    with nogil:
        count = read_bytes(fd, where, size)
    return count


cdef bint waits_alone(long long deadline) noexcept:
    """Whether a wait needs nothing but the guard, and nobody wants the interpreter's lock meanwhile."""
    return deadline != 0 and lent < 0 and can_guard()


cdef bint comes_at_first_look(int fd, long long deadline, long long seen) except -1:
    """Of who ``waits_alone``: wait once, until it can be read. False when the caller has to wait and look by himself.

    Nearly always the answer to a question has come by the end of the first look.
    """
    cdef pollfd set[2]
    cdef int closed = 0
    set[0].fd = fd
    set[0].events = POLLIN
    set[0].revents = 0
    return poll_now(set, 1, deadline, None, seen, &closed) > 0 and not closed


cdef Py_ssize_t read_at_first_look(
    int fd, char *where, size_t size, long long deadline, bint is_socket, long long seen
) noexcept:
    """The same for all others, and read(2) at once: the count, or -1. No handler runs in between, who has just been
    asked for."""
    cdef pollfd set[2]
    cdef int closed = 0, look = deadline != 0 and first_look()
    cdef Py_ssize_t count = -1
    set[0].fd = fd
    set[0].events = POLLIN
    set[0].revents = 0
    with nogil:
        if poll_once(set, 1, deadline, look, seen, told(), &closed) > 0 and not closed:
            count = recv(fd, where, size, MSG_DONTWAIT) if is_socket else read_bytes(fd, where, size)
    return count if count > 0 else -1


def one(int fd, short events, long long deadline, long long seen=-1):
    """poll(2) on one descriptor: its ready bits, 0 at the deadline, CLOSED if it was closed.

    OUTDATED if a descriptor was closed since ``closings_so_far()`` was ``seen``, so that the number may be another's.
    """
    return wait_fd(fd, events, deadline, seen)


def closings_so_far():
    """How many descriptors have been closed so far; taken before a number is looked up that another
    thread may be about to close."""
    return closings


def many(list wanted, long long deadline, long long seen=-1):
    """poll(2) on ``[(fd, events), ...]``: the ready ones as ``[(fd, bits), ...]``, empty at the deadline.

    A descriptor that was closed meanwhile comes with the bits CLOSED; OUTDATED is as with ``one``.
    """
    cdef Py_ssize_t i, count = len(wanted)
    cdef pollfd *set = <pollfd *>malloc((count + 1) * sizeof(pollfd))
    cdef int result, closed = 0
    cdef Wakeup wakeup = None
    if set == NULL:
        raise MemoryError()
    try:
        for i in range(count):
            set[i].fd, set[i].events = wanted[i]
        while True:
            PyErr_CheckSignals()
            for i in range(count):
                set[i].revents = 0
            result = poll_now(set, count, deadline, wakeup, seen, &closed)
            if closed == 2:
                return [(set[i].fd, OUTDATED) for i in range(count)]
            if result > 0 or closed:
                return [(set[i].fd, CLOSED if closed and not set[i].revents else set[i].revents)
                        for i in range(count) if set[i].revents or closed]
            if result == 0:
                return []
            if result == LOOKED:
                wakeup = Wakeup()
            elif errno != EINTR:
                PyErr_SetFromErrno(OSError)
    finally:
        free(set)
        if wakeup is not None:
            wakeup.put_back()


def prepare():
    """Makes this thread's wake-up pipe now instead of at its first wait."""
    pipe_of_this_thread()


def wake(int fd):
    """Ends every wait on this descriptor, in any thread: it is about to be closed."""
    wake_waiters_of(fd)


include "finalizers.pxi"


def close(int fd):
    """close(2), after ``wake``."""
    cdef int result
    with nogil:
        result = close_one(fd)
    if result < 0:
        PyErr_SetFromErrno(OSError)


cdef int close_one(int fd) noexcept nogil:
    wake_waiters_of(fd)
    return close_descriptor(fd)


def own(owner, call, *arguments):
    """``owner._fd = call(*arguments)``, where ``call`` is native, in one step.

    Between two of Python's a signal's handler may raise, and the number is nobody's then.
    """
    owner._fd = call(*arguments)


def own_both(one, other, call, *arguments):
    """The same for a call that opens two."""
    one._fd, other._fd = call(*arguments)


def own_first(owner, call, *arguments):
    """The same for a call that gives something else as well, which is returned."""
    owner._fd, more = call(*arguments)
    return more


def write_some(int fd, data):
    """One write(2) of what is bytes-like: the count, or 0 when there is no room now, or a handler came first."""
    global errno
    cdef Py_buffer given
    cdef Py_ssize_t count
    cdef int failed
    PyObject_GetBuffer(data, &given, PyBUF_SIMPLE)
    with nogil:
        count = write_bytes(fd, given.buf, given.len)
        failed = errno if count < 0 else 0
    PyBuffer_Release(&given)
    if not failed:
        return count
    if failed == EINTR:
        PyErr_CheckSignals()
    elif failed != EAGAIN:
        errno = failed
        PyErr_SetFromErrno(OSError)
    return 0


def suspend(opened, long long deadline):
    """sigsuspend(2) with a deadline: opens these signals in the main thread until a handler has run.

    False when the deadline passed first. What was blocked is blocked again afterwards.
    """
    cdef sigset_t wanted, before
    cdef int result = -1
    cdef Wakeup wakeup
    sigemptyset(&wanted)
    for number in opened:
        sigaddset(&wanted, number)
    if pipe_for_signals() < 0:
        raise ValueError("signals are handled in the main thread, which this is not")
    empty_pipe_of_signals()
    # First: what was pending is delivered by the opening, and must leave its trace in the pipe.
    wakeup = Wakeup()
    pthread_sigmask(SIG_UNBLOCK, &wanted, &before)
    try:
        while result < 0:
            PyErr_CheckSignals()
            with nogil:
                result = look_for_signals(deadline, onward)
        PyErr_CheckSignals()
        return result == 1
    finally:
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        wakeup.put_back()


def abandon():
    """In a forked child that begins with default dispositions and is about to close every descriptor."""
    global lent, onward
    lent = onward = -1
    drop_pipe_of_this_thread()
    abandon_clock()


cdef long long closings_now() noexcept:
    return closings


cdef long long deadline_after(double seconds) noexcept:
    """The deadline so many seconds from now, as deadline.after() has it; -1 for none."""
    if seconds < 0 or seconds >= 1e9:
        return -1
    return <long long>(seconds * 1e9 + 0.999) + monotonic_ns()


cdef bint over(long long deadline) noexcept:
    """Whether the deadline lies in the past."""
    return deadline >= 0 and monotonic_ns() >= deadline


def in_main_thread():
    """Whether Python's signal handlers run in this thread. (threading need not be imported for the answer: its
    hooks at a fork touch more pages than all of ours.)"""
    return is_first_thread()


def now():
    """CLOCK_MONOTONIC in nanoseconds, the clock of every deadline."""
    return monotonic_ns()


# The importing thread is nearly always the main one, which lives as long as its pipe: made now, it
# is not mistaken for a leak of whoever waits first.
pipe_of_this_thread()
