"""Programs that are run to their end: begun without a stop until the exec, and waited for. No policy.

clone(2), execve(2), waitid(2).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact
from libc.stdint cimport uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcpy, memset, strchr
from posix.types cimport pid_t

from hornpipe._native.spawn cimport (
    Plan, _Strings, add_to, child_failure, child_plan, may_be_ignored, strings, wants_pidfd,
)
from hornpipe._native.timed_call cimport CAN_BE_GUARDED, can_guard, timed
from hornpipe._native.wait cimport close_one

cdef extern from "child.h" nogil:
    struct child_birth:
        pass
    pid_t child_begin(const child_plan *, int, child_birth **, int *)
    int child_has_our_memory(const child_birth *)
    int child_has_failed(const child_birth *, child_failure *)
    void child_end_birth(child_birth *)

cdef extern from *:
    """
    #include "pidfd.h"

    extern char **environ;

    #ifdef __GLIBC__
    #define STRINGS_STAY 1
    #else
    #define STRINGS_STAY 0
    #endif

    struct reaping { int pidfd; pid_t pid; siginfo_t facts; };
    static long do_reap(void *arguments, long *words) {
        struct reaping *reaping = arguments;
        int kind = reaping->pidfd >= 0 ? P_PIDFD : P_PID, number = reaping->pidfd >= 0 ? reaping->pidfd : reaping->pid;
        if (words) {
            words[0] = SYS_waitid, words[1] = kind, words[2] = number, words[3] = (long)&reaping->facts;
            words[4] = WEXITED, words[5] = 0;
            return 0;
        }
        return waitid((idtype_t)kind, (id_t)number, &reaping->facts, WEXITED);
    }
    """
    char **environ
    enum: STRINGS_STAY
    ctypedef struct siginfo_t:
        pass
    struct reaping:
        int pidfd
        pid_t pid
        siginfo_t facts
    long do_reap(void *, long *) noexcept nogil
    int raw_status(const siginfo_t *)

cdef extern from "Python.h":
    void Py_INCREF(object)
    bint PyUnicode_CheckExact(object)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    const char *PyUnicode_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

cdef tuple STARTED = (0, 0, 0)


cdef class Birth:
    """A start that has not held us up: what the child reads until its exec, and why there was none."""
    cdef child_birth *birth
    cdef object kept

    def __cinit__(self):
        self.birth = NULL

    def __dealloc__(self):
        if self.birth == NULL:
            return
        if child_has_our_memory(self.birth):
            Py_INCREF(self.kept)  # its exec hangs, and so does the end of a killed one: it is never freed
        else:
            child_end_birth(self.birth)

    cdef int begin(self, const child_plan *plan, bint alone, child, set ours) except -1:
        """Whether it could be done; ``kept`` is set already."""
        cdef int pidfd = -1
        cdef pid_t pid
        add_to(ours, child)
        pid = child_begin(plan, alone, &self.birth, &pidfd)
        if pid < 0:
            ours.discard(child)
            return False
        child.pid = pid
        child.pidfd = pidfd
        return True

    def failure(self):
        """Of a child that has ended: ``(error, stage, which)``; the error is 0 if it had become the program."""
        cdef child_failure failure
        if not child_has_failed(self.birth, &failure):
            return STARTED
        return failure.error, failure.stage, failure.which


def begin(Plan plan, list candidates, list argv, list environment, child, set ours):
    """Starts a program for whoever waits for its end in any case, and hears then whether it could be started.

    None, and nothing has happened, where that cannot be done: ``plan.launch`` can. ``child`` is as there.
    """
    cdef Birth birth
    cdef _Strings c_candidates, c_argv, c_environment
    if not wants_pidfd():
        return None
    birth = Birth.__new__(Birth)
    c_candidates, c_argv, c_environment = strings(candidates), strings(argv), strings(environment)
    plan.plan.candidates = <const char *const *>c_candidates.items
    plan.plan.argv = c_argv.items
    plan.plan.envp = c_environment.items
    plan.plan.may_be_ignored = may_be_ignored()
    birth.kept = plan, c_candidates, c_argv, c_environment, candidates, argv, environment
    return birth if birth.begin(&plan.plan, False, child, ours) else None


cdef _Strings plain_strings(tuple values):
    """Points into what has the bytes of execve(2) as it is; None if something else is among it."""
    cdef _Strings made = _Strings.__new__(_Strings)
    cdef Py_ssize_t i = 0
    made.items = <char **>malloc((len(values) + 1) * sizeof(char *))
    if made.items == NULL:
        raise MemoryError()
    for value in values:
        if PyUnicode_CheckExact(value) and PyUnicode_IS_COMPACT_ASCII(value):
            made.items[i] = <char *>PyUnicode_DATA(value)
        elif PyBytes_CheckExact(value):
            made.items[i] = PyBytes_AS_STRING(value)
        else:
            return None
        i += 1
    made.items[i] = NULL
    return made


cdef _Strings environment_as_it_is():
    """``environ`` for as long as no other thread is there to change it. A handler of ours may add to it or take from it,
    which makes another array, or changes this one; but glibc keeps the strings for ever (setenv(3))."""
    cdef _Strings made
    cdef size_t count = 0
    if not STRINGS_STAY:
        return strings(None)
    while environ != NULL and environ[count] != NULL:
        count += 1
    made = _Strings.__new__(_Strings)
    made.items = <char **>malloc((count + 1) * sizeof(char *))
    if made.items == NULL:
        raise MemoryError()
    if count:
        memcpy(made.items, environ, count * sizeof(char *))
    made.items[count] = NULL
    return made


def are_plain(tuple values):
    """Whether each is text that is neither empty nor has a NUL in it, and stands for the same bytes in any encoding."""
    cdef Py_ssize_t size
    for value in values:
        if not PyUnicode_CheckExact(value) or not PyUnicode_IS_COMPACT_ASCII(value):
            return False
        size = PyUnicode_GET_LENGTH(value)
        if size == 0 or memchr(PyUnicode_DATA(value), 0, size) != NULL:
            return False
    return True


def run(tuple argv, child, set ours, uint64_t stay_ignored, success):
    """Starts a program that is named by its path, and waits for its end: ``(error, stage, which)`` as of ``Birth``.

    None, and nothing has happened, where that is for others: among threads, or with arguments that have to be encoded.
    The ``child`` has the status ``success`` then, and nothing else is to be done; or it has ended with another one, or
    somebody else has reaped it.
    """
    cdef Birth birth
    cdef _Strings c_argv, c_environment
    cdef child_plan plan
    cdef reaping wanted
    if not wants_pidfd() or not can_guard():
        return None
    c_argv = plain_strings(argv)
    if c_argv is None or strchr(c_argv.items[0], b'/') == NULL:
        return None
    c_environment = environment_as_it_is()
    memset(&plan, 0, sizeof(plan))
    plan.terminal = plan.foreground = plan.umask = plan.cgroup = -1
    plan.stay_ignored = stay_ignored
    plan.may_be_ignored = may_be_ignored()
    plan.argv = c_argv.items
    plan.envp = c_environment.items
    birth = Birth.__new__(Birth)
    birth.kept = argv, c_argv, c_environment
    if not birth.begin(&plan, True, child, ours):
        return None
    wanted.pidfd, wanted.pid = child.pidfd, child.pid
    if timed(do_reap, &wanted, -1, CAN_BE_GUARDED) < 0:
        # A handler has waited for it, which was somebody else's or the same one's.
        return birth.failure()
    child._raw.append(raw_status(&wanted.facts))
    if child._raw[0] == 0:
        child.status = success
        ours.discard(child)
        child.pidfd = -1
        if wanted.pidfd >= 0:
            close_one(wanted.pidfd)
    return birth.failure()
