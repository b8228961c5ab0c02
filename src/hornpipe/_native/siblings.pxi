# The children that are alive, in the order of their age, each minded by an epoll descriptor. A part of brood.pyx.

cdef extern from *:
    """
    #include "pidfd.h"

    static int signal_child(pid_t pid, int pidfd, int number) {
        /* A child leads its own group; not reaped yet, its number is nobody else's. */
        if (kill(-pid, number) == 0)
            return 0;
        return pidfd >= 0 ? signal_pidfd(pidfd, number) : kill(pid, number);
    }
    """
    int signal_child(pid_t, int, int)

cdef extern from "pidfd.h":
    enum:
        STILL_RUNS
        NOT_OURS
        NOT_TOLD
    int open_pidfd(pid_t)
    int reap_now(pid_t, int)


cdef enum:
    MEMBER = 2  # of what epoll tells, beside those of brood.pyx


cdef struct member:
    pid_t pid
    int pidfd
    uint64_t whom
    int64_t since
    bint marked
    int older, newer


cdef class Siblings:
    """``most`` children at most: who they are, who has ended."""
    cdef int epoll, most, alive, eldest, youngest, blind_count
    cdef member *members
    cdef int *free_places
    cdef readonly int place
    """Of the child that has come or gone last: its place, which another one may have after it."""
    cdef readonly int pid
    """Of the same."""
    cdef readonly int status
    """Of who has gone last: the raw wait status, or -2 when somebody else has taken it."""
    cdef readonly bint killed
    """Of the same: whether it was killed by us."""

    def __cinit__(self):
        self.members = NULL
        self.free_places = NULL
        self.epoll = -1

    cdef int make_room(self, int most) except -1:
        cdef int i
        self.most = most
        self.eldest = self.youngest = -1
        self.members = <member *>calloc(most, sizeof(member))
        self.free_places = <int *>calloc(most, sizeof(int))
        if self.members == NULL or self.free_places == NULL:
            raise MemoryError()
        for i in range(most):
            self.free_places[i] = most - 1 - i
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    def __dealloc__(self):
        self.let_go()
        free(self.members)
        free(self.free_places)

    cdef void let_go(self) noexcept:
        if self.epoll >= 0:
            close(self.epoll)
        self.epoll = -1

    def close(self):
        """Close the epoll descriptor; nobody is ended by it."""
        self.let_go()

    def fileno(self):
        """Readable when there is something to do."""
        return self.epoll

    def __len__(self):
        return self.alive

    cdef bint is_added(self, int fd, uint64_t data, unsigned int events) noexcept:
        cdef epoll_event event
        event.events = events
        event.data.u64 = data
        return epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) == 0

    cdef int add(self, int fd, uint64_t data, unsigned int events=EPOLLIN) except -1:
        if not self.is_added(fd, data, events):
            PyErr_SetFromErrno(OSError)
        return 0

    cdef void remove(self, int fd) noexcept:
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, NULL)

    def oldest(self):
        """``(place, since)`` of the child that has been at it for longest and was not killed; ``None`` without one."""
        cdef int place = self.eldest
        while place >= 0 and self.members[place].marked:
            place = self.members[place].newer
        return None if place < 0 else (place, self.members[place].since)

    def kill(self, int place, int pid, int number):
        """Send a signal to the child in this place, if it (still) is ``pid``, and to the group that it leads.

        Its end is told of in any case, with ``killed``.
        """
        if self.members[place].pid != pid:
            return False
        self.members[place].marked = True
        return signal_child(pid, self.members[place].pidfd, number) == 0

    def everyone(self):
        """``(place, pid)`` of each child."""
        cdef int place = self.eldest
        cdef list found = []
        while place >= 0:
            found.append((place, self.members[place].pid))
            place = self.members[place].newer
        return found

    @property
    def blind(self):
        """Whether there are children that have no pidfd, and whose end wakes nobody."""
        return self.blind_count > 0

    cdef int count(self, uint64_t who) noexcept:
        cdef int place = self.eldest, found = 0
        while place >= 0:
            found += self.members[place].whom == who
            place = self.members[place].newer
        return found

    cdef void enter(self, pid_t pid, int pidfd, uint64_t who) noexcept:
        cdef int place = self.free_places[self.most - 1 - self.alive]
        cdef member *made = self.members + place
        made.pid, made.pidfd, made.whom = pid, pidfd, who
        made.since = monotonic_ns()
        made.marked = False
        made.older, made.newer = self.youngest, -1
        if self.youngest >= 0:
            self.members[self.youngest].newer = place
        else:
            self.eldest = place
        self.youngest = place
        self.alive += 1
        self.place, self.pid = place, pid
        if pidfd >= 0 and not self.is_added(pidfd, <uint64_t>MEMBER << 32 | place, EPOLLIN):
            close(pidfd)  # the user has used up what may be watched (epoll(7)): it goes on without
            made.pidfd = -1
        self.blind_count += made.pidfd < 0

    cdef bint reap(self, int place) noexcept:
        """Whether the child in this place has ended, and is reaped now; the place is free then."""
        cdef member *dead = self.members + place
        cdef int status
        if dead.pid == 0:
            return False
        status = reap_now(dead.pid, dead.pidfd)
        if status == STILL_RUNS:
            return False
        if status == NOT_TOLD:
            status = NOT_OURS
        if dead.pidfd >= 0:
            self.remove(dead.pidfd)
            close(dead.pidfd)
        else:
            self.blind_count -= 1
        if dead.older >= 0:
            self.members[dead.older].newer = dead.newer
        else:
            self.eldest = dead.newer
        if dead.newer >= 0:
            self.members[dead.newer].older = dead.older
        else:
            self.youngest = dead.older
        self.pid, self.place, self.status, self.killed = dead.pid, place, status, dead.marked
        dead.pid = 0
        self.alive -= 1
        self.free_places[self.most - 1 - self.alive] = place
        return True
