"""Signals as the kernel gives them: sigaction(2) with siginfo, rings, sigqueue(3).

What a signal means to whom is decided above; here it is only taken down and handed out.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from posix.types cimport pid_t, uid_t

from posix import register_at_fork

from hornpipe._native.timed_call cimport BOUNDS_ITSELF, CAN_BE_GUARDED, LATE, guarded, timed, use_clock_hook
from hornpipe._native.timed_call cimport interrupt_until_told as nudge

cdef extern from "rings.h" nogil:
    struct signal_record:
        int number, code
        pid_t pid
        uid_t uid
        int status
        long long value, address
        long long when
    struct action:
        int kind, number
        size_t length
        const char *bytes
    enum:
        ACTION_EXIT
        ACTION_WRITE
        ACTION_KILL_GROUP
        ACTION_COUNT
    struct sigaction_t "sigaction":
        pass
    int ring_open(int, int)
    void ring_close(int)
    void ring_route(int, int, int)
    int ring_take(int, signal_record *)
    void ring_rearm(int)
    size_t ring_length(int)
    int is_event(int)
    int rings_install(int, int)
    void rings_merge(int)
    int rings_installed(int)
    void rings_act(int, const action *, int)
    long long rings_recorded(int)
    long long rings_merged(int)
    void rings_forget()
    void rings_abandon(int)
    void rings_relieve(void *) noexcept

cdef extern from "clock.h" nogil:
    int SIGRTMAX
    long long monotonic_ns()

cdef extern from *:
    """
    #include <errno.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    #include "clock.h"

    /* 0 default, 1 ignored, 2 ours, 3 somebody else's; -1 with errno. */
    static int kind_of(int number, struct sigaction *action) {
        struct sigaction found;
        if (sigaction(number, NULL, &found) < 0)
            return -1;
        /* Copied by its parts: libc's mask is longer than the kernel's, and the rest of it is not set. */
        memset(action, 0, sizeof *action);
        action->sa_sigaction = found.sa_sigaction;
        action->sa_flags = found.sa_flags;
        for (int other = 1; other < NSIG; other++)
            if (sigismember(&found.sa_mask, other) == 1)
                sigaddset(&action->sa_mask, other);
        if (rings_installed(number))
            return 2;
        if (action->sa_flags & SA_SIGINFO)
            return 3;
        return action->sa_handler == SIG_DFL ? 0 : action->sa_handler == SIG_IGN ? 1 : 3;
    }

    static int set_plain(int number, int ignore, int flags) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = ignore ? SIG_IGN : SIG_DFL;
        action.sa_flags = flags;
        return sigaction(number, &action, NULL);
    }

    static int send_value(pid_t pid, int number, long long value) {
        union sigval carried;
        carried.sival_ptr = (void *)(intptr_t)value;
        return sigqueue(pid, number, carried);
    }

    /* To ourselves, as it came: the kernel lets a process say anything to itself. */
    static int send_again(const struct signal_record *record) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = record->number;
        info.si_code = record->code;
        info.si_pid = record->pid;
        info.si_uid = record->uid;
        if (record->number == SIGCHLD)
            info.si_status = record->status;
        else
            info.si_value.sival_ptr = (void *)(intptr_t)record->value;
        return (int)syscall(SYS_rt_sigqueueinfo, getpid(), record->number, &info);
    }

    static int blocked_here(int number) {
        sigset_t set;
        pthread_sigmask(SIG_BLOCK, NULL, &set);
        return sigismember(&set, number) == 1;
    }

    static long (*guarded_call)(const long *words);

    /* Until a deadline: 0 is now, -1 never. */
    struct taking { int number; long long deadline; struct signal_record *record; };
    static long take_pending(void *arguments, int guarded) {
        struct taking *taking = arguments;
        struct timespec limit = {0, 0};
        sigset_t set;
        siginfo_t info;
        long result;
        sigemptyset(&set);
        sigaddset(&set, taking->number);
        if (taking->deadline > 0) {
            long long ns = taking->deadline - monotonic_ns();
            if (ns > 0) {
                limit.tv_sec = ns / 1000000000LL;
                limit.tv_nsec = ns % 1000000000LL;
            }
        }
        if (guarded) {
            long words[6] = {SYS_rt_sigtimedwait, (long)&set, (long)&info, (long)(taking->deadline < 0 ? NULL : &limit),
                             NSIG / 8};
            result = guarded_call(words);
            if (result > 0 && info.si_code == SI_TKILL)
                info.si_code = SI_USER; /* as glibc has it */
        } else
            result = sigtimedwait(&set, &info, taking->deadline < 0 ? NULL : &limit);
        if (result > 0)
            record_of(taking->number, &info, taking->record);
        return result;
    }

    static int first_queued(void) { return SIGRTMIN; }

    static void block_all(sigset_t *before) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, before);
    }

    static int in_main_thread(void) { return getpid() == (pid_t)syscall(SYS_gettid); }

    static int last_signal;
    static void die_of_it(void) {
        if (last_signal) {
            sigset_t set;
            set_plain(last_signal, 0, 0);
            sigemptyset(&set);
            sigaddset(&set, last_signal);
            raise(last_signal);
            sigprocmask(SIG_UNBLOCK, &set, NULL);
        }
    }
    """
    int kind_of(int, sigaction_t *)
    int set_plain(int, int, int)
    int send_value(pid_t, int, long long)
    int send_record "send_again"(const signal_record *)
    int blocked_here(int)
    long (*guarded_call)(const long *) noexcept nogil
    struct taking:
        int number
        long long deadline
        signal_record *record
    long take_pending(void *, int) noexcept nogil
    int first_queued()
    ctypedef struct sigset_t:
        pass
    void block_all(sigset_t *)
    int in_main_thread()
    int SIG_SETMASK
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int sigaddset(sigset_t *, int)
    int sigdelset(sigset_t *, int)
    int sigismember(const sigset_t *, int)
    int last_signal
    void die_of_it() noexcept
    int SA_NOCLDSTOP, SA_NOCLDWAIT, SA_NODEFER, SA_RESETHAND, SA_RESTART

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    pid_t getpid()

cdef extern from "<signal.h>" nogil:
    int kill(pid_t, int)
    int c_sigaction "sigaction"(int, const sigaction_t *, sigaction_t *)

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    int PyDict_Next(dict, Py_ssize_t *, PyObject **, PyObject **)
    int Py_AtExit(void (*)() noexcept)
    int PyErr_SetInterruptEx(int)
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)

guarded_call = guarded

NOCLDSTOP = SA_NOCLDSTOP
NOCLDWAIT = SA_NOCLDWAIT
NODEFER = SA_NODEFER
RESETHAND = SA_RESETHAND
RESTART = SA_RESTART
EXIT = ACTION_EXIT
WRITE = ACTION_WRITE
KILL_GROUP = ACTION_KILL_GROUP
MOST_ACTIONS = ACTION_COUNT

DEFAULT, IGNORED, OURS, FOREIGN = range(4)

cdef enum:
    MOST_LATE = 4096  # beyond that they stay in the ring, and then in the kernel
    MOST_LATE_OF_ONE = 32  # standard signals, of which the kernel would keep one
    CROWD = 256  # signals at once, from which on the time that they take is looked at
    FLOOD = 30000000  # nanoseconds of handlers alone, after which the program is to get on
    REST = 10000000  # nanoseconds for it


cdef class Record:
    """One signal as it arrived. Read-only."""
    cdef signal_record record

    @property
    def number(self):
        return self.record.number

    @property
    def raw_code(self):
        return self.record.code

    @property
    def pid(self):
        return self.record.pid

    @property
    def uid(self):
        return self.record.uid

    @property
    def raw_status(self):
        return self.record.status

    @property
    def value(self):
        return self.record.value

    @property
    def address(self):
        return self.record.address

    @property
    def nanoseconds(self):
        return self.record.when

    def send_again(self):
        """rt_sigqueueinfo(2) to this process, with all that it came with."""
        if send_record(&self.record) < 0:
            PyErr_SetFromErrno(OSError)


def open_ring(int wake_fd, bint ours_alone=False):
    """Takes a ring into use; ``wake_fd`` is written to, or with -1 the interpreter is interrupted.

    One that is ``ours_alone`` is out of use in a forked child: its signals do nothing there.
    """
    cdef int ring = ring_open(wake_fd, ours_alone)
    if ring < 0:
        PyErr_SetFromErrno(OSError)
    return ring


def close_ring(int ring):
    """Nothing is put into it any more once this returns."""
    with nogil:
        ring_close(ring)


def route(int ring, int number, bint on):
    """Whether signals of this number go into the ring."""
    ring_route(ring, number, on)


cdef Record made(kind):
    return <Record>(<type>kind).__new__(kind)


def take(int ring, type kind not None):
    """The oldest signal in the ring as a ``kind`` (a Record), or None."""
    cdef Record arrived = made(kind)
    return arrived if ring_take(ring, &arrived.record) else None


def take_and_rest(int ring, int reader, int writer, type kind not None):
    """The same for the reader of a pipe, which says afterwards whether there is more.

    In one piece, so that no handler of the program's comes between taking a signal and handing it over.
    """
    cdef Record arrived = made(kind)
    cdef char drained[64]
    cdef bint taken = ring_take(ring, &arrived.record)
    if not ring_length(ring):
        while read(reader, drained, sizeof(drained)) > 0:
            pass
        ring_rearm(ring)
        # From here on the next one wakes its reader again; one that came meanwhile did not.
        taken = taken or ring_take(ring, &arrived.record)
        if ring_length(ring):
            write(writer, b"+", 1)
    return arrived if taken else None


def length(int ring):
    """Signals in the ring."""
    return ring_length(ring)


def install(int number, int flags):
    """sigaction(2) with our handler."""
    if number >= first_queued():
        use_clock_hook(rings_relieve)  # a full ring blocks these where they arrive: see rings.c
    if rings_install(number, flags) < 0:
        PyErr_SetFromErrno(OSError)


def look(int number):
    """The disposition in force: its kind, and its bytes for ``restore``."""
    cdef sigaction_t found
    cdef int kind = kind_of(number, &found)
    if kind < 0:
        PyErr_SetFromErrno(OSError)
    return kind, (<char *>&found)[:sizeof(sigaction_t)]


def restore(int number, bytes saved):
    """sigaction(2) with what ``look`` gave."""
    cdef sigaction_t before
    if PyBytes_GET_SIZE(saved) != sizeof(sigaction_t):
        raise ValueError("a disposition has another size")
    memcpy(&before, PyBytes_AS_STRING(saved), sizeof(sigaction_t))
    if c_sigaction(number, &before, NULL) < 0:
        PyErr_SetFromErrno(OSError)


def set_simply(int number, bint ignore, int flags):
    """sigaction(2) with SIG_IGN or SIG_DFL."""
    if set_plain(number, ignore, flags) < 0:
        PyErr_SetFromErrno(OSError)


_kept = {}


def act(int number, list actions):
    """What the handler does at once, before anything else: ``[(kind, number, bytes), ...]``."""
    cdef action wanted[ACTION_COUNT]
    cdef int i = 0
    if len(actions) > ACTION_COUNT:
        raise ValueError(f"a signal does at most {ACTION_COUNT} things at once")
    for kind, argument, data in actions:
        wanted[i].kind, wanted[i].number = kind, argument
        wanted[i].bytes = PyBytes_AS_STRING(data)
        wanted[i].length = PyBytes_GET_SIZE(data)
        i += 1
    with nogil:
        rings_act(number, wanted, i)
    _kept[number] = actions  # the handler reads their bytes


def queue(int pid, int number, long long value):
    """sigqueue(3)."""
    if send_value(pid, number, value) < 0:
        PyErr_SetFromErrno(OSError)


cdef int holding = 0
cdef Delivery delivery = None


cdef class Held:
    """A ``with`` block in which no signal is handled: what it changes, it changes as a whole.

    Blocks everything in this thread (sigprocmask(2)), and lets our handlers wait for what had come before
    or comes to another thread. Native, since a handler could run between two of Python's instructions,
    and what it raised would leave the mask behind. Handlers that wait are called at the end.
    """
    cdef sigset_t before
    cdef bint main

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, kind, error, trace):
        self.finish()

    cdef void begin(self) noexcept:
        global holding
        block_all(&self.before)
        self.main = in_main_thread()
        if self.main:
            holding += 1

    cdef int finish(self) except -1:
        global holding
        if self.main:
            holding -= 1
        pthread_sigmask(SIG_SETMASK, &self.before, NULL)
        if self.main and not holding and delivery is not None:
            delivery.again(0)
            PyErr_CheckSignals()
            if delivery.more():
                delivery()  # for signals that nobody handles any more, the interpreter does not call us
        return 0

    def change(self, list numbers, bint block):
        """Which of these are blocked from the end on, or are not; those that are changed by it."""
        changed = [number for number in numbers if sigismember(&self.before, number) != block]
        for number in changed:
            if block:
                sigaddset(&self.before, number)
            else:
                sigdelset(&self.before, number)
        return changed


cdef class Scope:
    """A context manager that no handler can tear: it is entered and left as a whole, or not at all.

    A subclass has ``_begin(held)`` and ``_end(held, error)``. Were it Python's own code that is called at
    the end of a block, a handler that raises could come before the first line of it.
    """

    def __enter__(self):
        cdef Held held = Held()
        held.begin()
        try:
            self._begin(held)
        except:
            held.finish()
            raise
        try:
            held.finish()
        except BaseException as error:  # of a handler that had waited: the block will not be run, nor left
            held.begin()
            try:
                self._end(held, error)
            finally:
                held.finish()
            raise

    def __exit__(self, kind, error, trace):
        cdef Held held = Held()
        held.begin()
        try:
            self._end(held, error)
        finally:
            held.finish()


cdef class Delivery:
    """What Python calls for our signals: hands out all that have arrived, each to its handler, in order.

    Here and not in Python, since between two of Python's instructions another handler may run: it
    would overtake a signal that has been taken out and not been handed over yet, and what it raised
    would lose it.
    """
    cdef int ring
    cdef uint64_t busy
    cdef dict armed
    cdef object nobody, kind, late
    cdef int held[2][65]
    cdef bint nudging
    cdef long long flooded, resting  # since when handlers alone run, and until when none does; 0 is not at all

    def __init__(self, int ring, dict armed, type kind, nobody):
        """``armed``: number to (handler, mask of the numbers that wait meanwhile, ...); ``nobody`` gets the rest."""
        from collections import deque

        global delivery
        delivery = self
        self.ring = ring
        self.armed = armed
        self.kind = kind
        self.nobody = nobody
        self.late = deque()
        self.busy = 0
        self.flooded = self.resting = 0

    cdef bint waits(self, int number):
        return self.busy >> (number - 1) & 1

    cdef Record next(self):
        cdef Record arrived
        cdef Py_ssize_t place
        cdef int number
        cdef int event
        for place in range(len(self.late)):
            arrived = <Record>self.late[place]
            if not self.waits(arrived.record.number):
                del self.late[place]
                self.held[is_event(arrived.record.code)][arrived.record.number] -= 1
                return arrived
        while len(self.late) < MOST_LATE:
            # Made first: making it may set off the garbage collector, and so any code, and so us again.
            arrived = made(self.kind)
            if not ring_take(self.ring, &arrived.record):
                break
            number = arrived.record.number
            if not self.waits(number):
                return arrived
            event = is_event(arrived.record.code)
            if number < first_queued() and self.held[event][number] >= MOST_LATE_OF_ONE:
                rings_merge(number)
            else:
                self.late.append(arrived)
                self.held[event][number] += 1
        return None

    cdef bint more(self):
        """Whether something is there that can be handed out now."""
        cdef Py_ssize_t place
        for place in range(len(self.late)):
            if not self.waits((<Record>self.late[place]).record.number):
                return True
        return len(self.late) < MOST_LATE and ring_length(self.ring) > 0

    cdef int known(self, int number):
        """This one, or another that Python's table has a handler for: for others the interpreter does not call us."""
        cdef Py_ssize_t place = 0
        cdef PyObject *any
        if number not in self.armed and PyDict_Next(self.armed, &place, &any, NULL):
            number = <object>any
        return number

    cdef int again(self, int number) except -1:
        """Let the interpreter call us once more at its next safe point, without another signal."""
        if self.more():
            number = self.known(number)
            PyErr_SetInterruptEx(number)
            # We may have been called from within accept(2) or read(2), where Python looks once and waits again.
            nudge(number, 1000000)
            self.nudging = True
        return 0

    cdef void rest(self, int number) noexcept:
        """Call nobody for a while: what floods us waits in the ring, and then in the kernel; the program gets on."""
        self.flooded = 0
        self.resting = monotonic_ns() + REST
        nudge(self.known(number), REST)
        self.nudging = True

    def __call__(self, number=0, frame=None):
        cdef Record arrived
        cdef uint64_t added
        cdef object entry
        cdef int last = 0
        if holding:
            return
        if self.resting:
            if monotonic_ns() < self.resting:
                return  # we are called when that is over
            self.resting = 0
        if self.nudging:
            self.nudging = False
            nudge(0, 0)
        # What comes meanwhile is for the next call: in a storm the program must get a word in.
        cdef Py_ssize_t left = len(self.late) + ring_length(self.ring)
        cdef bint crowd = left > CROWD
        if crowd and not self.flooded:
            self.flooded = monotonic_ns()
        elif not crowd:
            self.flooded = 0
        ring_rearm(self.ring)
        while left > 0:
            left -= 1
            if crowd and monotonic_ns() - self.flooded > FLOOD and not blocked_here(SIGRTMAX):
                self.rest(last)
                return
            arrived = self.next()
            if arrived is None:
                break
            last = arrived.record.number
            entry = self.armed.get(last)
            if entry is None:
                self.nobody(arrived)
                continue
            added = <uint64_t>entry[1] & ~self.busy
            self.busy |= added
            try:
                entry[0](arrived)
            except:
                self.busy &= ~added
                self.again(last)
                raise
            self.busy &= ~added
        if crowd and not self.more():
            self.flooded = 0
        self.again(last)

    cdef int forget(self) except -1:
        """In a forked child: what has not been handed out is the parent's."""
        self.flooded = self.resting = 0
        if len(self.late):
            self.late.clear()
        memset(self.held, 0, sizeof(self.held))

    def abandon(self):
        """In one that does not return into the handlers under way: none of them holds anything back."""
        self.busy = 0


cdef class Insistent:
    """A handler that sends itself its signal again when something else than ``gives_up`` comes out of it.

    Another signal's handler has raised in the middle of it then, or the time of an alarm() was over, and
    what it was to do is not done. Native, since that happens before its first instruction as well.
    """
    cdef tuple gives_up

    def __init__(self, tuple gives_up not None):
        self.gives_up = gives_up

    def __call__(self, Record sig not None):
        try:
            self.act(sig)
        except BaseException as error:
            if not isinstance(error, self.gives_up):
                kill(getpid(), sig.record.number)
            raise


def blocked(int number):
    """Whether this thread blocks the signal (pthread_sigmask(3))."""
    return bool(blocked_here(number))


def take_blocked(int number, long long deadline, type kind not None):
    """sigtimedwait(2): one pending blocked signal as a ``kind`` (a Record), or None at the deadline.

    With the deadline 0 it does not wait.
    """
    cdef Record arrived = made(kind)
    cdef taking wanted
    cdef long result
    wanted.number, wanted.deadline, wanted.record = number, deadline, &arrived.record
    if deadline:
        result = timed(take_pending, &wanted, deadline, BOUNDS_ITSELF | CAN_BE_GUARDED)
    else:
        result = take_pending(&wanted, False)
    if result > 0:
        return arrived
    if result != LATE and errno not in (EAGAIN, EINTR):
        PyErr_SetFromErrno(OSError)
    return None


def counted(int number):
    """How many of these signals the handler has seen, and how many it has merged in a full ring."""
    return rings_recorded(number), rings_merged(number)


cdef object lock = None


def guard(new_lock):
    """A lock that a thread which a forked child lacks must not hold there for ever."""
    global lock
    lock = new_lock


def _forget_in_child():
    """What has not been read belongs to the parent. Here and not in Python, which touches, and so copies, ten times
    the pages."""
    global holding
    holding = 0  # of a thread that is not here: the one that forks is not in the middle of a change
    rings_forget()
    if delivery is not None:
        delivery.forget()
    if lock is not None:
        lock._at_fork_reinit()


register_at_fork(after_in_child=_forget_in_child)


def abandon(int kept):
    """In a forked child with default dispositions: no ring but ``kept`` is in use, and nothing is routed."""
    rings_abandon(kept)


cdef bint registered = False


def die_at_exit(int number):
    """When the interpreter has finished everything else, the process dies of this signal; 0 takes it back."""
    global last_signal, registered
    if not registered:
        registered = True
        Py_AtExit(die_of_it)
    last_signal = number


def told_to_die():
    """The signal that ``die_at_exit`` was given, or 0."""
    return last_signal


def die():
    """Dies of it now."""
    die_of_it()

