"""Signals as the kernel gives them: sigaction(2) with siginfo, rings, sigqueue(3).

What a signal means to whom is decided above; here it is only taken down and handed out.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from posix.types cimport pid_t, uid_t

from hornpipe._native.timed_call cimport BOUNDS_ITSELF, CAN_BE_GUARDED, LATE, expect_births, timed, use_clock_hook
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
    void rings_act(int, const action *, int)
    long long rings_recorded(int)
    long long rings_merged(int)
    void rings_forget(int) noexcept
    int RINGS_RECORDED
    int rings_marked
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
    #include "alone.h"
    #include "clock.h"

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

    /* Until a deadline: 0 is now, -1 never. */
    struct taking { int number; long long deadline; sigset_t set; siginfo_t info; struct timespec left; };
    static long take_pending(void *arguments, long *words) {
        struct taking *taking = arguments;
        struct timespec *left = time_left(taking->deadline, &taking->left);
        sigemptyset(&taking->set);
        sigaddset(&taking->set, taking->number);
        if (words) {
            words[0] = SYS_rt_sigtimedwait, words[1] = (long)&taking->set, words[2] = (long)&taking->info;
            words[3] = (long)left, words[4] = NSIG / 8;
            return 0;
        }
        return sigtimedwait(&taking->set, &taking->info, left);
    }
    static void record_taken(struct taking *taking, struct signal_record *record) {
        if (taking->info.si_code == SI_TKILL)
            taking->info.si_code = SI_USER; /* as glibc has it, and the system call not */
        record_of(taking->number, &taking->info, record);
    }

    static int first_queued(void) { return SIGRTMIN; }

    static void block_all(sigset_t *before) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, before);
    }
    """
    int send_value(pid_t, int, long long)
    int send_record "send_again"(const signal_record *)
    int blocked_here(int)
    struct taking:
        int number
        long long deadline
    long take_pending(void *, long *) noexcept nogil
    void record_taken(taking *, signal_record *)
    int first_queued()
    ctypedef struct sigset_t:
        pass
    void block_all(sigset_t *)
    int is_first_thread()
    int SIG_SETMASK
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int sigaddset(sigset_t *, int)
    int sigdelset(sigset_t *, int)
    int sigismember(const sigset_t *, int)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    pid_t getpid()

cdef extern from "<signal.h>" nogil:
    int kill(pid_t, int)

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    int PyDict_Next(dict, Py_ssize_t *, PyObject **, PyObject **)
    int Py_AtExit(void (*)() noexcept)
    int PyErr_SetInterruptEx(int)
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)


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


# One module: the state of the ring, of who holds it and of who is handing out is one.
include "dispositions.pxi"
include "held.pxi"
include "delivery.pxi"


def queue(int pid, int number, long long value):
    """sigqueue(3)."""
    if send_value(pid, number, value) < 0:
        PyErr_SetFromErrno(OSError)


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
    wanted.number, wanted.deadline = number, deadline
    if deadline:
        result = timed(take_pending, &wanted, deadline, BOUNDS_ITSELF | CAN_BE_GUARDED)
    else:
        result = take_pending(&wanted, NULL)
    if result > 0:
        record_taken(&wanted, &arrived.record)
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


cdef void forget_in_child(int threads) noexcept:
    """What has not been read belongs to the parent."""
    global holding
    if holding:
        holding = 0  # of a thread that is not here: the one that forks is not in the middle of a change
    rings_forget(threads)
    if rings_marked & RINGS_RECORDED and delivery is not None:
        delivery.forget()
    if threads and lock is not None:
        lock._at_fork_reinit()


expect_births(forget_in_child, &holding)
expect_births(forget_in_child, &rings_marked)


def abandon(int kept):
    """In a forked child with default dispositions: no ring but ``kept`` is in use, and nothing is routed."""
    rings_abandon(kept)


# --- dying of it ---

cdef extern from *:
    """
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
    int last_signal
    void die_of_it() noexcept

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
