"""Starting children: the calls that Python lacks. No policy.

clone(2), execve(2), fork(2), pidfd_open(2).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen
from posix.types cimport gid_t, pid_t

from _signal import SIG_IGN as IGNORED, getsignal

from hornpipe._native.timed_call cimport expect_births

cdef extern from *:
    """
    #include <signal.h>
    #include <stdint.h>
    #include <unistd.h>

    extern char **environ;

    #define BIT(number) (1ULL << ((number) - 1))
    /* What C libraries may ignore without telling Python. */
    static const uint64_t ignored_by_some =
        BIT(SIGHUP) | BIT(SIGINT) | BIT(SIGQUIT) | BIT(SIGUSR1) | BIT(SIGUSR2) | BIT(SIGPIPE) | BIT(SIGALRM) |
        BIT(SIGTERM) | BIT(SIGCHLD) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU) | BIT(SIGXFSZ) | BIT(SIGIO);

    """
    char **environ
    const uint64_t ignored_by_some

cdef extern from "pidfd.h":
    int open_pidfd(pid_t)

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()
    int PyErr_CheckSignals() except -1

cdef extern from "<unistd.h>" nogil:
    pid_t fork()
    int pipe2(int *, int)
    int close(int)
    Py_ssize_t read(int, void *, size_t)
    Py_ssize_t write(int, const void *, size_t)
    void _exit(int)

cdef extern from "<fcntl.h>" nogil:
    int O_CLOEXEC

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t *)
    int sigemptyset(sigset_t *)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)


cdef bint pidfd_wanted = True
cdef set children_of_parent = None
cdef int any_children = 0  # whether there has been one


cdef int add_to(set ours, child) except -1:
    global children_of_parent, any_children
    children_of_parent, any_children = ours, 1
    ours.add(child)
    return 0


cdef void forget_in_child(int threads) noexcept:
    """The parent's children are not the child's."""
    if children_of_parent is not None and len(children_of_parent):
        children_of_parent.clear()


expect_births(forget_in_child, &any_children)


def use_pidfd(bint flag):
    """Whether children get a pidfd; returns what was in force. Tests force the portable path with it."""
    global pidfd_wanted
    cdef bint before = pidfd_wanted
    pidfd_wanted = flag
    return before


# Asked for once: those that whoever started us had made us ignore. Python does not know the two that glibc hides.
cdef uint64_t ignored_at_first = child_ignored_signals()


cdef bint wants_pidfd() noexcept:
    return pidfd_wanted


cdef uint64_t may_be_ignored() except? 0:
    """A superset of the signals that are ignored: what is asked for costs a call, in the child."""
    cdef uint64_t found = ignored_by_some | ignored_at_first
    cdef int number
    for number in range(1, 65):
        if not found >> (number - 1) & 1:
            if getsignal(number) is IGNORED:
                found |= <uint64_t>1 << (number - 1)
    return found


cdef class _Strings:
    """A NULL-terminated array of C strings in one piece of memory."""

    def __cinit__(self):
        self.items = NULL

    def __dealloc__(self):
        free(self.items)

    cdef int copy_environ(self) except -1:
        # A copy, since another thread may call setenv(3) while the child still reads it.
        cdef size_t count = 0, size = 0, length
        cdef char *at
        if environ != NULL:
            while environ[count] != NULL:
                size += strlen(environ[count]) + 1
                count += 1
        self.items = <char **>malloc((count + 1) * sizeof(char *) + size)
        if self.items == NULL:
            raise MemoryError()
        at = <char *>(self.items + count + 1)
        for i in range(count):
            length = strlen(environ[i]) + 1
            memcpy(at, environ[i], length)
            self.items[i] = at
            at += length
        self.items[count] = NULL
        return 0


cdef _Strings strings(object values):
    """Points into the bytes objects, which the caller keeps alive."""
    cdef _Strings made = _Strings.__new__(_Strings)
    cdef Py_ssize_t count, i = 0
    cdef bytes value
    if values is None:
        made.copy_environ()
        return made
    count = len(values)
    made.items = <char **>malloc((count + 1) * sizeof(char *))
    if made.items == NULL:
        raise MemoryError()
    for value in values:
        made.items[i] = PyBytes_AS_STRING(value)
        i += 1
    made.items[count] = NULL
    return made


cdef class Plan:
    """A child_plan with the memory it points into. See child.h for what each field does."""

    def __cinit__(self):
        self.numbers = NULL
        self.groups = NULL
        self.limits = NULL

    def __dealloc__(self):
        free(self.numbers)
        free(self.groups)
        free(self.limits)

    def __init__(self, tuple moves, bytes cwd=None, bint new_session=False, bint new_group=False,
                 int terminal=-1, int foreground=-1, int umask=-1, int cgroup=-1, int death_signal=0,
                 tuple ids=None, tuple limits=(), uint64_t stay_ignored=0, int group=0):
        cdef Py_ssize_t i, count = len(moves)
        self.numbers = <int *>malloc((2 * count + 1) * sizeof(int))
        if self.numbers == NULL:
            raise MemoryError()
        for i in range(count):
            self.numbers[i], self.numbers[count + i] = moves[i]
        self.plan.sources = self.numbers
        self.plan.targets = self.numbers + count
        self.plan.moves = <int>count
        self.kept = cwd
        self.plan.cwd = NULL if cwd is None else PyBytes_AS_STRING(cwd)
        self.plan.stay_ignored = stay_ignored
        self.plan.new_session = new_session
        self.plan.new_group = new_group
        self.plan.group = group
        self.plan.terminal = terminal
        self.plan.foreground = foreground
        self.plan.umask = umask
        self.plan.cgroup = cgroup  # entered before the exec; what starts slowly there is what tests of slow starts need
        self.plan.death_signal = death_signal
        self.plan.change_ids = ids is not None
        if ids is not None:
            self.plan.uid, self.plan.gid, groups = ids
            count = len(groups)
            self.groups = <gid_t *>malloc((count + 1) * sizeof(gid_t))
            if self.groups == NULL:
                raise MemoryError()
            for i in range(count):
                self.groups[i] = groups[i]
            self.plan.groups = self.groups
            self.plan.group_count = <int>count
        count = len(limits)
        if count:
            self.limits = <child_limit *>malloc(count * sizeof(child_limit))
            if self.limits == NULL:
                raise MemoryError()
            for i in range(count):
                resource, soft, hard = limits[i]
                self.limits[i].resource = resource
                # RLIM_INFINITY is -1 in Python's resource module.
                self.limits[i].soft = <unsigned long><long long>soft
                self.limits[i].hard = <unsigned long><long long>hard
        self.plan.limits = self.limits
        self.plan.limit_count = <int>count

    def launch(self, list candidates, list argv, list environment, bint share_memory, child, set ours, report):
        """clone(2) and execve(2): ``(error, stage, which)``; ``child`` gets its ``pid`` and ``pidfd``.

        It is in ``ours`` from before its birth, unless that fails: a signal handler runs, and may
        raise, as soon as we return, and what we return is lost then.

        ``error`` is 0 or the errno of the step that failed. For a child that does not share our memory
        ``report._fd`` is set to a descriptor that gives a failure, or end of file once the exec is done.
        """
        cdef _Strings c_candidates = strings(candidates)
        cdef _Strings c_argv = strings(argv)
        cdef _Strings c_environment = strings(environment)
        cdef child_failure failure
        cdef int pidfd = -1, report_fd = -1
        cdef pid_t pid
        cdef bint want_pidfd = pidfd_wanted
        self.plan.candidates = <const char *const *>c_candidates.items
        self.plan.argv = c_argv.items
        self.plan.envp = c_environment.items
        self.plan.may_be_ignored = may_be_ignored()
        add_to(ours, child)
        if share_memory and child_stays_when_dead():
            # The calling thread stands still until the exec; the others need not.
            with nogil:
                pid = child_launch(&self.plan, 1, want_pidfd, &pidfd, &report_fd, &failure)
        else:
            # With the GIL: a child that another Python thread forks meanwhile would keep a copy
            # of the report pipe, and its end of file would never come.
            pid = child_launch(&self.plan, 0, want_pidfd, &pidfd, &report_fd, &failure)
        if pid < 0:
            ours.discard(child)
        else:
            child.pid = pid
            child.pidfd = pidfd
        if report_fd >= 0:
            report._fd = report_fd
        return failure.error, failure.stage, failure.which

    def apply(self, int keep):
        """Carries the plan out in this process (a forked child): ``(keep, error, stage, which)``.

        ``keep`` is a descriptor that must survive; its number may change.
        """
        cdef child_failure failure
        cdef sigset_t none
        failure.error = failure.stage = failure.which = 0
        child_reset_signals(~<uint64_t>0, self.plan.stay_ignored)
        child_prepare(&self.plan, &keep, &failure)
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, NULL)
        return keep, failure.error, failure.stage, failure.which

    def replace(self, list candidates, list argv, list environment):
        """Becomes the program, without a fork: ``(error, stage, which)``, or no return at all."""
        cdef _Strings c_candidates = strings(candidates)
        cdef _Strings c_argv = strings(argv)
        cdef _Strings c_environment = strings(environment)
        cdef child_failure failure
        failure.error = failure.stage = failure.which = 0
        self.plan.candidates = <const char *const *>c_candidates.items
        self.plan.argv = c_argv.items
        self.plan.envp = c_environment.items
        child_reset_signals(~<uint64_t>0, self.plan.stay_ignored)
        if child_prepare(&self.plan, NULL, &failure) == 0:
            child_exec(&self.plan, &failure)
        return failure.error, failure.stage, failure.which


def parse_report(bytes report):
    """``(error, stage, which)`` of what a child wrote on its report descriptor."""
    cdef child_failure failure
    if PyBytes_GET_SIZE(report) != sizeof(child_failure):
        raise ValueError("a report has another size")
    memcpy(&failure, PyBytes_AS_STRING(report), sizeof(child_failure))
    return failure.error, failure.stage, failure.which


def build_report(int error, int stage, int which):
    """The bytes that ``parse_report`` reads."""
    cdef child_failure failure
    failure.error = error
    failure.stage = stage
    failure.which = which
    return (<char *>&failure)[:sizeof(child_failure)]


def fork_child(child_main, child, set ours):
    """fork(2): 0, or an errno; the child calls ``child_main()`` and never returns. See ``launch`` for ``child``.

    ``child_main`` runs with every signal blocked and must leave by ``_exit``; if it returns or
    raises, the child exits with status 70 (EX_SOFTWARE).
    """
    return fork_one(child_main, child, ours)


def fork_children(list wanted, set ours):
    """``fork_child`` for each ``(child_main, child)``, until one fails.

    Without Python in between: what the parent writes from one to the next is copied, and the old page is left to
    those that were forked before.
    """
    cdef int error
    for child_main, child in wanted:
        error = fork_one(child_main, child, ours)
        if error:
            return error
    return 0


cdef int fork_one(object child_main, object child, set ours) except -1:
    cdef sigset_t every, before
    cdef int gate[2]
    cdef int error
    cdef char byte = 0
    cdef pid_t pid
    if pipe2(gate, O_CLOEXEC) < 0:
        return errno
    sigfillset(&every)
    # Blocked over the fork: a signal for the child must meet the child's own dispositions.
    pthread_sigmask(SIG_SETMASK, &every, &before)
    try:
        # Else a handler that is due would run in a hook of the fork, which swallows what it raises.
        PyErr_CheckSignals()
        add_to(ours, child)
    except BaseException:
        close(gate[0])
        close(gate[1])
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        raise
    PyOS_BeforeFork()
    pid = fork()
    error = errno
    if pid == 0:
        try:
            PyOS_AfterFork_Child()
            # Wait until the parent has our pidfd: ended and reaped by a stranger's wait(-1)
            # before that, we could not be told from a process that got our number.
            close(gate[1])
            while read(gate[0], &byte, 1) < 0 and errno == EINTR:
                pass
            close(gate[0])
            child_main()
        except BaseException:
            pass
        finally:
            _exit(70)
    PyOS_AfterFork_Parent()
    if pid < 0:
        ours.discard(child)
    else:
        child.pid = pid
        if pidfd_wanted:
            child.pidfd = open_pidfd(pid)
    close(gate[0])
    # A byte, not the closing: a child forked meanwhile by another thread may hold a copy.
    if pid > 0:
        write(gate[1], &byte, 1)
    close(gate[1])
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return error if pid < 0 else 0


def pidfd_open(int pid):
    """pidfd_open(2), or -1 where there is none for this process (or none at all)."""
    if not pidfd_wanted:
        return -1
    return open_pidfd(pid)
