"""Blocking: poll(2), and calls without a descriptor bounded by timer_create(2).

The only native code that waits. Deadlines are CLOCK_MONOTONIC instants in nanoseconds; -1 is
never, 0 (any instant in the past) tries once. Signal handlers run before each wait and after
each interruption, in the thread where Python runs them; their exceptions come out here, else
the wait goes on until its deadline.
"""
from libc.errno cimport ECHILD, EINTR, errno
from libc.stdlib cimport free, malloc
from posix.types cimport pid_t

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
        pid_t owner;
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
        pthread_setspecific(pipe_key, mine);
        return mine;
    }

    /* One poll, interrupted by signals and closings. set[count] must be free for the wake-up. */
    static int poll_once(struct pollfd *set, nfds_t count, long long deadline, long long seen, int *closed) {
        struct timespec left, *limit = NULL;
        struct thread_pipe *mine = NULL;
        *closed = 0;
        if (deadline >= 0) {
            long long ns = deadline ? deadline - monotonic_ns() : 0;
            if (ns < 0)
                ns = 0;
            left.tv_sec = ns / 1000000000LL;
            left.tv_nsec = ns % 1000000000LL;
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
            while (read(mine->ends[0], drained, sizeof drained) > 0)
                ;
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
     * nothing and no SA_RESTART, so that the call returns EINTR; sent to this thread alone, so
     * neither SIGALRM nor anybody's itimer is touched. */
    #ifdef __linux__
    static void no_operation(int number) { (void)number; }
    static int clocks;
    static struct sigaction before_clocks;

    static void end_clock(void) {
        pthread_mutex_lock(&waiters_lock);
        if (--clocks == 0)
            sigaction(SIGRTMAX, &before_clocks, NULL);
        pthread_mutex_unlock(&waiters_lock);
    }

    static int start_clock(timer_t *clock, sigset_t *before) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = no_operation;
        pthread_mutex_lock(&waiters_lock);
        if (clocks++ == 0)
            sigaction(SIGRTMAX, &action, &before_clocks);
        pthread_mutex_unlock(&waiters_lock);
        struct sigevent event;
        memset(&event, 0, sizeof event);
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGRTMAX;
    #ifdef sigev_notify_thread_id
        event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    #else
        event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    #endif
        if (timer_create(CLOCK_MONOTONIC, &event, clock) < 0) {
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
    int poll_once(pollfd *, nfds_t, long long, long long, int *) nogil
    void *pipe_of_this_thread() nogil
    void wake_waiters_of(int) nogil
    int start_clock(timer_t *, sigset_t *) nogil
    void set_clock(timer_t, long long) nogil
    void stop_clock(timer_t, const sigset_t *) nogil
    int waitid(int, int, siginfo_t *, int) nogil
    short POLLNVAL

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyErr_SetFromErrno(object)

CLOSED = -32768  # not a combination of poll's bits


cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1:
    """The bits that are ready, or 0 at the deadline; CLOSED when the descriptor was closed meanwhile.

    -32767 when ``closings()`` was ``seen`` before the number was looked up, and has changed.
    """
    cdef pollfd set[2]
    cdef int result, closed = 0
    set[0].fd = fd
    set[0].events = events
    while True:
        PyErr_CheckSignals()
        set[0].revents = 0
        with nogil:
            result = poll_once(set, 1, deadline, seen, &closed)
        if closed:
            return -32767 if closed == 2 else -32768
        if result > 0:
            return set[0].revents
        if result == 0:
            # The kernel rounds a wait up, never down, so the deadline has passed.
            return 0
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        if deadline == 0:
            PyErr_CheckSignals()


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
                result = poll_once(set, count, deadline, -1, &closed)
            if result > 0 or closed:
                return [(set[i].fd, CLOSED if closed and not set[i].revents else set[i].revents)
                        for i in range(count) if set[i].revents or closed]
            if result == 0:
                return []
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            if deadline == 0:
                PyErr_CheckSignals()
    finally:
        free(set)


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


def now():
    """CLOCK_MONOTONIC in nanoseconds, the clock of every deadline."""
    return monotonic_ns()
