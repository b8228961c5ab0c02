"""Blocking: poll(2), and calls without a descriptor bounded by timer_create(2).

The only native code that waits. Deadlines are CLOCK_MONOTONIC instants in nanoseconds; -1 is
never, 0 (any instant in the past) tries once. Signal handlers run before each wait and after
each interruption, in the thread where Python runs them; their exceptions come out here, else
the wait goes on until its deadline.
"""
from libc.errno cimport ECHILD, EINTR, errno
from libc.stdlib cimport free, malloc
from posix.types cimport pid_t

from _signal import set_wakeup_fd

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <poll.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>

    static long long monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
    }

    /* Closing a descriptor does not wake a thread that polls it, and the number may soon be
     * somebody else's. So every wait is on this list, with a pipe of its thread's own in the
     * poll set; whoever closes a descriptor first wakes the waits that name it. */
    struct waiter {
        struct waiter *next;
        const struct pollfd *set;
        nfds_t count;
        int wake;
        int closed;
    };
    static struct waiter *waiters;
    static long long closings; /* how many descriptors have been closed so far */
    static pthread_mutex_t waiters_lock = PTHREAD_MUTEX_INITIALIZER;

    struct thread_pipe {
        int ends[2];
        int main; /* whether Python's handlers run in this thread */
    };
    static pthread_key_t pipe_key;
    static pthread_once_t pipe_once = PTHREAD_ONCE_INIT;

    static void drop_pipe(void *memory) {
        struct thread_pipe *pipe_of_thread = memory;
        close(pipe_of_thread->ends[0]);
        close(pipe_of_thread->ends[1]);
        free(pipe_of_thread);
    }

    static void lock_before_fork(void) { pthread_mutex_lock(&waiters_lock); }
    static void unlock_after_fork(void) { pthread_mutex_unlock(&waiters_lock); }
    static void start_anew_in_child(void) {
        waiters = NULL; /* the waits of threads that do not exist here */
        pthread_mutex_init(&waiters_lock, NULL);
        struct thread_pipe *inherited = pthread_getspecific(pipe_key);
        if (inherited) {
            /* Shared with the parent, whose wake-ups it would steal. */
            close(inherited->ends[0]);
            close(inherited->ends[1]);
            free(inherited);
            pthread_setspecific(pipe_key, NULL);
        }
    }

    static void prepare_pipes(void) {
        pthread_key_create(&pipe_key, drop_pipe);
        pthread_atfork(lock_before_fork, unlock_after_fork, start_anew_in_child);
    }

    static struct thread_pipe *pipe_of_this_thread(void) {
        pthread_once(&pipe_once, prepare_pipes);
        struct thread_pipe *mine = pthread_getspecific(pipe_key);
        if (mine)
            return mine;
        mine = malloc(sizeof *mine);
        if (!mine)
            return NULL;
        if (pipe2(mine->ends, O_CLOEXEC | O_NONBLOCK) < 0) {
            free(mine);
            return NULL;
        }
        for (int i = 0; i < 2; i++)
            if (mine->ends[i] < 3) { /* 0, 1 and 2 are for what the program opens itself */
                int lifted = fcntl(mine->ends[i], F_DUPFD_CLOEXEC, 3);
                if (lifted >= 0) {
                    close(mine->ends[i]);
                    mine->ends[i] = lifted;
                }
            }
        mine->main = getpid() == (pid_t)syscall(SYS_gettid);
        pthread_setspecific(pipe_key, mine);
        return mine;
    }

    /* Nanoseconds. */
    #define FIRST_LOOK 40000000

    /* One poll, of FIRST_LOOK at most if `look`; interrupted by signals and closings. set[count] must be free for the wake-up. */
    static int poll_once(struct pollfd *set, nfds_t count, long long deadline, int look, long long seen, int onward,
                         int *closed) {
        struct timespec left = {0, FIRST_LOOK}, *limit = look ? &left : NULL;
        struct thread_pipe *mine = NULL;
        *closed = 0;
        if (deadline >= 0) {
            long long ns = deadline ? deadline - monotonic_ns() : 0;
            if (ns < 0)
                ns = 0;
            if (!look || ns < FIRST_LOOK) {
                left.tv_sec = ns / 1000000000LL;
                left.tv_nsec = ns % 1000000000LL;
            }
            limit = &left;
            if (ns == 0)
                return ppoll(set, count, limit, NULL);
        }
        mine = pipe_of_this_thread();
        if (!mine)
            return ppoll(set, count, limit, NULL);
        struct waiter waiter = {NULL, set, count, mine->ends[1], 0};
        set[count].fd = mine->ends[0];
        set[count].events = POLLIN;
        set[count].revents = 0;
        pthread_mutex_lock(&waiters_lock);
        waiter.next = waiters;
        waiters = &waiter;
        /* Who closed our descriptor before we were on the list did not wake us, and its number may
         * be somebody else's already: whoever cares counts the closings first, then looks up the
         * number, and starts over when there has been another one since. */
        int outdated = seen >= 0 && seen != closings;
        pthread_mutex_unlock(&waiters_lock);
        int result = outdated ? -1 : ppoll(set, count + 1, limit, NULL);
        int error = errno;
        pthread_mutex_lock(&waiters_lock);
        struct waiter **at = &waiters;
        while (*at != &waiter)
            at = &(*at)->next;
        *at = waiter.next;
        pthread_mutex_unlock(&waiters_lock);
        if (result > 0 && set[count].revents) {
            char drained[64];
            ssize_t size;
            while ((size = read(mine->ends[0], drained, sizeof drained)) > 0)
                if (onward >= 0 && write(onward, drained, (size_t)size) < 0)
                    continue; /* full: its owner has been woken */
            result--;
            if (result == 0 && !waiter.closed) {
                result = -1; /* woken for nothing we know of: look again */
                error = EINTR;
            }
        }
        *closed = outdated ? 2 : waiter.closed;
        errno = error;
        return result;
    }

    /* The write end of this thread's pipe if Python's handlers run here, else -1. */
    static int pipe_for_signals(void) {
        struct thread_pipe *mine = pipe_of_this_thread();
        return mine && mine->main ? mine->ends[1] : -1;
    }

    /* Open these signals in this thread until one was handled: 1; 0 at the deadline; -1 interrupted. */
    static int look_for_signals(long long deadline, int onward) {
        struct thread_pipe *mine = pipe_of_this_thread();
        struct timespec left, *limit = NULL;
        char seen[64];
        ssize_t size;
        int any = 0;
        while ((size = read(mine->ends[0], seen, sizeof seen)) > 0)
            for (ssize_t i = 0; i < size; i++) {
                any |= seen[i] != 0; /* a closing writes 0 */
                if (onward >= 0 && write(onward, &seen[i], 1) < 0)
                    continue; /* full: its owner has been woken */
            }
        if (any)
            return 1;
        if (deadline >= 0) {
            long long ns = deadline ? deadline - monotonic_ns() : 0;
            if (ns <= 0)
                return 0;
            left.tv_sec = ns / 1000000000LL;
            left.tv_nsec = ns % 1000000000LL;
            limit = &left;
        }
        struct pollfd set = {mine->ends[0], POLLIN, 0};
        ppoll(&set, 1, limit, NULL);
        return -1;
    }

    static void wake_waiters_of(int fd) {
        pthread_mutex_lock(&waiters_lock);
        closings++;
        for (struct waiter *waiter = waiters; waiter; waiter = waiter->next)
            for (nfds_t i = 0; i < waiter->count; i++)
                if (waiter->set[i].fd == fd) {
                    waiter->closed = 1;
                    if (write(waiter->wake, "", 1) < 0)
                        break; /* full: a wake-up is under way already */
                    break;
                }
        pthread_mutex_unlock(&waiters_lock);
    }

    /* The clock that interrupts calls without a descriptor. SIGRTMAX, with a handler that does
     * next to nothing and no SA_RESTART, so that the call returns EINTR; sent to this thread alone, so
     * neither SIGALRM nor anybody's itimer is touched. */
    #ifdef __linux__
    static void (*clock_hook)(void *);
    #include <Python.h>

    #define ALARM 1
    static void clock_signal(int number, siginfo_t *info, void *context) {
        if (info->si_code == SI_TIMER && info->si_value.sival_int == ALARM)
            PyErr_SetInterruptEx(number);
        if (clock_hook)
            clock_hook(context);
    }
    static int clocks;
    static struct sigaction before_clocks;

    static void end_clock(void) {
        pthread_mutex_lock(&waiters_lock);
        if (--clocks == 0)
            sigaction(SIGRTMAX, &before_clocks, NULL);
        pthread_mutex_unlock(&waiters_lock);
    }

    /* Again after signal.signal, which puts CPython's handler in this one's place. */
    static void hold_clock_signal_again(void) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = clock_signal;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGRTMAX, &action, NULL);
    }

    static void hold_clock_signal(void) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = clock_signal;
        action.sa_flags = SA_SIGINFO;
        pthread_mutex_lock(&waiters_lock);
        if (clocks++ == 0)
            sigaction(SIGRTMAX, &action, &before_clocks);
        pthread_mutex_unlock(&waiters_lock);
    }

    static void use_clock_hook(void (*hook)(void *)) {
        if (!clock_hook) {
            clock_hook = hook;
            hold_clock_signal();
        }
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
        hold_clock_signal();
        if (make_clock(clock, 0) < 0) {
            end_clock();
            return -1;
        }
        sigset_t mine;
        sigemptyset(&mine);
        sigaddset(&mine, SIGRTMAX);
        pthread_sigmask(SIG_UNBLOCK, &mine, before);
        return 0;
    }

    static void set_clock(timer_t clock, long long deadline) {
        /* At the deadline, then every 2 ms: an expiry that falls between our look at the time
         * and the system call is lost, the next one is not. No later than 40 ms from now in any
         * case: that bounds how long a Python handler waits whose signal fell into that gap. */
        long long ns = 40000000;
        if (deadline >= 0) {
            long long left = deadline - monotonic_ns();
            if (left < ns)
                ns = left < 1 ? 1 : left;
        }
        struct itimerspec when;
        when.it_value.tv_sec = 0;
        when.it_value.tv_nsec = ns;
        when.it_interval.tv_sec = 0;
        when.it_interval.tv_nsec = 2000000;
        timer_settime(clock, 0, &when, NULL);
    }

    static void set_alarm(timer_t clock, long long deadline) {
        /* Again and again until Python has looked: an expiry between its last look and a system call
         * would not end that call. */
        struct itimerspec when = {{0, 5000000}, {0, 0}};
        long long ns = deadline < 0 ? 0 : deadline - monotonic_ns();
        if (deadline >= 0 && ns < 1)
            ns = 1;
        when.it_value.tv_sec = ns / 1000000000LL;
        when.it_value.tv_nsec = ns % 1000000000LL;
        timer_settime(clock, 0, &when, NULL);
    }

    static void stop_clock(timer_t clock, const sigset_t *before) {
        timer_delete(clock);
        /* An expiry may still be pending; with the handler gone it would kill the process. */
        struct timespec now = {0, 0};
        sigset_t mine;
        sigemptyset(&mine);
        sigaddset(&mine, SIGRTMAX);
        pthread_sigmask(SIG_BLOCK, &mine, NULL);
        while (sigtimedwait(&mine, NULL, &now) > 0)
            ;
        end_clock();
        pthread_sigmask(SIG_SETMASK, before, NULL);
    }
    #endif
    """
    struct pollfd:
        int fd
        short events
        short revents
    ctypedef unsigned long nfds_t
    ctypedef void *timer_t
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        pass
    int P_PID, WEXITED, WNOWAIT, WNOHANG, WSTOPPED
    long long monotonic_ns() nogil
    long long closings
    int poll_once(pollfd *, nfds_t, long long, int, long long, int, int *) nogil
    int pipe_for_signals()
    int look_for_signals(long long, int) nogil
    int SIG_UNBLOCK, SIG_SETMASK
    int sigemptyset(sigset_t *)
    int sigaddset(sigset_t *, int)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    void use_clock_hook(void (*)(void *) noexcept)
    void *pipe_of_this_thread() nogil
    void wake_waiters_of(int) nogil
    int start_clock(timer_t *, sigset_t *) nogil
    int make_clock(timer_t *, int)
    void set_alarm(timer_t, long long)
    void hold_clock_signal()
    void hold_clock_signal_again()
    int timer_delete(timer_t)
    int ALARM
    int SIGRTMAX
    void set_clock(timer_t, long long) nogil
    void stop_clock(timer_t, const sigset_t *) nogil
    int waitid(int, int, siginfo_t *, int) nogil
    short POLLNVAL

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)

CLOSED = -32768  # not a combination of poll's bits


cdef class Wakeup:
    """CPython's wake-up descriptor is our pipe while the main thread waits (gotcha:SIG17, SIG12).

    A signal that comes between the last look and the poll then ends the poll. The descriptor is one
    per process, so whoever had set one is told what comes meanwhile, and has it back afterwards.
    """
    cdef int ours
    cdef int onward

    def __cinit__(self):
        self.ours = pipe_for_signals()
        self.onward = set_wakeup_fd(self.ours, warn_on_full_buffer=False)

    cdef int put_back(self) except -1:
        cdef int now
        try:
            now = set_wakeup_fd(self.onward)
        except (OSError, ValueError):
            now = set_wakeup_fd(-1)  # its owner has closed it meanwhile
        if now != self.ours:
            set_wakeup_fd(now)  # a handler has set another one
        return 0


cdef int first_look() noexcept:
    """Whether a wait first ends early: in the main thread, where short ones are spared the wake-up descriptor.

    It costs as much as the wait itself; a signal that falls into the gap is handled 40 ms late then.
    """
    return pipe_for_signals() >= 0


cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1:
    """The bits that are ready, or 0 at the deadline; CLOSED when the descriptor was closed meanwhile.

    -32767 when ``closings()`` was ``seen`` before the number was looked up, and has changed.
    """
    cdef pollfd set[2]
    cdef int result, closed = 0
    cdef int look = deadline != 0 and first_look()
    cdef Wakeup wakeup = None
    set[0].fd = fd
    set[0].events = events
    try:
        while True:
            PyErr_CheckSignals()
            set[0].revents = 0
            with nogil:
                result = poll_once(set, 1, deadline, look, seen, -1 if wakeup is None else wakeup.onward, &closed)
            if closed:
                return -32767 if closed == 2 else -32768
            if result > 0:
                return set[0].revents
            if result == 0:
                # The kernel rounds a wait up, never down.
                if not look or (deadline >= 0 and monotonic_ns() >= deadline):
                    return 0
                look = False
                wakeup = Wakeup()
            elif errno != EINTR:
                PyErr_SetFromErrno(OSError)
            elif deadline == 0:
                PyErr_CheckSignals()
    finally:
        if wakeup is not None:
            wakeup.put_back()


def one(int fd, short events, long long deadline):
    """poll(2) on one descriptor: its ready bits, 0 at the deadline, CLOSED if it was closed."""
    return wait_fd(fd, events, deadline, -1)


def closings_so_far():
    """How many descriptors have been closed so far; taken before a number is looked up that another
    thread may be about to close."""
    return closings


def many(list wanted, long long deadline):
    """poll(2) on ``[(fd, events), ...]``: the ready ones as ``[(fd, bits), ...]``, empty at the deadline.

    A descriptor that was closed meanwhile comes with the bits CLOSED.
    """
    cdef Py_ssize_t i, count = len(wanted)
    cdef pollfd *set = <pollfd *>malloc((count + 1) * sizeof(pollfd))
    cdef int result, closed = 0
    cdef int look = deadline != 0 and first_look()
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
            with nogil:
                result = poll_once(set, count, deadline, look, -1, -1 if wakeup is None else wakeup.onward, &closed)
            if result > 0 or closed:
                return [(set[i].fd, CLOSED if closed and not set[i].revents else set[i].revents)
                        for i in range(count) if set[i].revents or closed]
            if result == 0:
                if not look or (deadline >= 0 and monotonic_ns() >= deadline):
                    return []
                look = False
                wakeup = Wakeup()
            elif errno != EINTR:
                PyErr_SetFromErrno(OSError)
            elif deadline == 0:
                PyErr_CheckSignals()
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


def child(int pid, long long deadline):
    """waitid(2) with WNOWAIT: whether the child has ended by the deadline; -1 if it is not ours.

    Without a pidfd there is nothing to poll, so a timer interrupts the call.
    """
    cdef siginfo_t facts
    cdef timer_t clock
    cdef sigset_t before
    cdef int result, error
    cdef long long now
    result = waitid_now(pid)
    if result != 0:
        return result
    if start_clock(&clock, &before) < 0:
        PyErr_SetFromErrno(OSError)
    try:
        while True:
            PyErr_CheckSignals()
            if deadline >= 0:
                now = monotonic_ns()
                if now >= deadline:
                    return waitid_now(pid)
            with nogil:
                set_clock(clock, deadline)
                result = waitid(P_PID, pid, &facts, WEXITED | WNOWAIT)
                error = errno
            if result == 0:
                return 1
            if error == ECHILD:
                return -1
            if error != EINTR:
                raise OSError(error, "waitid")
    finally:
        stop_clock(clock, &before)


cdef extern from *:
    """
    static int waitid_now(pid_t pid) {
        siginfo_t facts;
        facts.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOWAIT | WNOHANG) < 0)
            return -1;
        return facts.si_pid != 0;
    }
    """
    int waitid_now(pid_t) nogil


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
    # First: what was pending is delivered by the opening, and must leave its trace in the pipe.
    wakeup = Wakeup()
    pthread_sigmask(SIG_UNBLOCK, &wanted, &before)
    try:
        while result < 0:
            PyErr_CheckSignals()
            with nogil:
                result = look_for_signals(deadline, wakeup.onward)
        PyErr_CheckSignals()
        return result == 1
    finally:
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        wakeup.put_back()


CLOCK_SIGNAL = SIGRTMAX


cdef class AlarmClock:
    """timer_create(2) for the main thread: the interpreter calls ``ring`` from the deadline on, until it is set anew."""
    cdef timer_t clock
    cdef bint made

    def __init__(self, ring):
        from _signal import signal

        # Held first, so that the signal never meets the default, which would kill the process.
        hold_clock_signal()
        signal(SIGRTMAX, ring)
        hold_clock_signal_again()
        if make_clock(&self.clock, ALARM) < 0:
            PyErr_SetFromErrno(OSError)
        self.made = True

    def set(self, long long deadline):
        """When it rings next; -1 for never."""
        set_alarm(self.clock, deadline)

    def __dealloc__(self):
        if self.made:
            timer_delete(self.clock)


def now():
    """CLOCK_MONOTONIC in nanoseconds, the clock of every deadline."""
    return monotonic_ns()


cdef void keep_clock_signal(void (*hook)(void *) noexcept) noexcept:
    """Puts the clock signal's handler in place for good, with ``hook`` for what else it does."""
    use_clock_hook(hook)
