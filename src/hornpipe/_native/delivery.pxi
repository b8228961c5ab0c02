# How signals that have arrived get to their handlers. A part of signals.pyx.

cdef enum:
    MOST_LATE = 4096  # beyond that they stay in the ring, and then in the kernel
    MOST_LATE_OF_ONE = 32  # standard signals, of which the kernel would keep one
    CROWD = 256  # signals at once, from which on the time that they take is looked at
    FLOOD = 30000000  # nanoseconds of handlers alone, after which the program is to get on
    REST = 10000000  # nanoseconds for it


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
