# What is done when a signal comes, sigaction(2), and what our handler does at once. A part of signals.pyx.

cdef extern from *:
    """
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
    """
    int kind_of(int, sigaction_t *)
    int set_plain(int, int, int)
    int SA_NOCLDSTOP, SA_NOCLDWAIT, SA_NODEFER, SA_RESETHAND, SA_RESTART

cdef extern from "<signal.h>" nogil:
    int c_sigaction "sigaction"(int, const sigaction_t *, sigaction_t *)

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
