# Changes that no handler can tear. A part of signals.pyx.

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
        self.main = is_first_thread()
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
