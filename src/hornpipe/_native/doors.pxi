# The sockets at which clients come in: which of them are watched, and when they are to be left. A part of brood.pyx.

cdef enum:
    LISTENER = 1  # of what epoll tells
    DOORS = 64


cdef struct door:
    int fd
    int left  # how many may still come in; -1 is without end
    int place  # the descriptor at which its children find their clients


cdef class Doors(Siblings):
    """Sockets that listen, and are watched while there is room for another child."""
    cdef door doors[DOORS]
    cdef int count_of_doors
    cdef bint is_open, wanted_open, draining

    cdef int set_up(self, list listeners) except -1:
        cdef int i
        if len(listeners) > DOORS:
            raise ValueError(f"clients are taken in at {DOORS} sockets at most, not at {len(listeners)}")
        self.count_of_doors = len(listeners)
        for i in range(self.count_of_doors):
            self.doors[i].fd = listeners[i]
            self.doors[i].left = -1
        return 0

    def open(self):
        """Take clients in, as long as there is room."""
        self.wanted_open = True
        self.swing()

    def shut(self):
        """Take nobody in."""
        self.wanted_open = False
        self.swing()

    cdef int swing(self) except -1:
        """Open or shut, as is wanted and as there is room."""
        cdef int i
        cdef bint wanted = self.wanted_open and self.alive < self.most
        if wanted == self.is_open:
            return 0
        self.is_open = wanted
        for i in range(self.count_of_doors):
            if self.doors[i].left and wanted:
                # Of those who wait at a socket one is woken, not all (gotcha:SRV4).
                self.add(self.doors[i].fd, <uint64_t>LISTENER << 32 | i, EPOLLIN | EPOLLEXCLUSIVE)
            elif self.doors[i].left:
                self.remove(self.doors[i].fd)
        return 0

    def drain(self, list left):
        """Take in so many at each socket, or those who wait, if they are fewer; then nobody."""
        cdef int i
        self.shut()
        for i in range(self.count_of_doors):
            self.doors[i].left = 0 if i >= len(left) else <int>left[i]
        self.draining = True
        self.open()

    @property
    def drained(self):
        """Whether nobody will be taken in any more."""
        return self.is_drained()

    cdef bint is_drained(self) noexcept:
        cdef int i
        for i in range(self.count_of_doors):
            if self.doors[i].left:
                return False
        return True

    cdef bint nobody_waits(self, epoll_event *events, int ready) noexcept:
        """Before the end: shut the doors at which nobody is (any more); whether those were the last ones."""
        cdef int which, i
        cdef bint knocks
        if self.is_drained():
            return False
        for which in range(self.count_of_doors):
            knocks = ready == EVENTS  # there may be more
            for i in range(ready):
                knocks = knocks or events[i].data.u64 == (<uint64_t>LISTENER << 32 | which)
            if self.doors[which].left and not knocks:
                self.finish(which)
        return self.is_drained()

    cdef void finish(self, int which) noexcept:
        if self.is_open:
            self.remove(self.doors[which].fd)
        self.doors[which].left = 0
