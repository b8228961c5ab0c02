"""Children that serve one client each: taking clients in, forking and reaping, without Python in between. No policy.

accept4(2), fork(2), pidfd_open(2), waitid(2), epoll(7). After a fork each page that either side writes to is
copied, and Python writes to a page for every object that it looks at: in Python, this loop costs several times
what the fork does.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from hornpipe._native.shared cimport Numbers

cdef extern from "client.h" nogil:
    ctypedef unsigned int socklen_t
    union any_name:
        pass
    int client_take_in(int, any_name *, socklen_t *)
    int client_is_lost(int)
    int client_lacks_room(int)
    uint64_t client_whom(int, const any_name *)

cdef extern from "client.h":
    object client_name(const any_name *, socklen_t)

cdef extern from "clock.h" nogil:
    int64_t monotonic_ns()

cdef extern from *:
    """
    #include <fcntl.h>
    #include <poll.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/epoll.h>
    #include <unistd.h>

    /* malloc(3) sorts what was freed when it next looks for something big: now, and not in each child. */
    static void tidy(void) {
        void *volatile big = malloc(1 << 20);
        free(big);
    }
    """
    ctypedef int pid_t
    struct pollfd:
        int fd
        short events
    short POLLIN
    int poll(pollfd *, unsigned long, int) nogil
    pid_t getpid() nogil
    void tidy() nogil
    int close(int) nogil
    int dup3(int, int, int) nogil
    int O_CLOEXEC
    void perror(const char *) nogil
    void _exit(int) nogil
    pid_t fork() nogil
    int setpgid(pid_t, pid_t) nogil
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t *) nogil
    int pthread_sigmask(int, const sigset_t *, sigset_t *) nogil
    ctypedef union epoll_data:
        uint64_t u64
    struct epoll_event:
        unsigned int events
        epoll_data data
    int EPOLLIN, EPOLLEXCLUSIVE, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    int epoll_create1(int) nogil
    int epoll_ctl(int, int, int, epoll_event *) nogil
    int epoll_wait(int, epoll_event *, int, int) nogil

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()
    object PyErr_SetFromErrno(object)
    int PyErr_CheckSignals() except -1

TIME, OTHER, TAKEN, NO_ROOM, REFUSED, ENDED = range(6)
cdef enum:
    A_TIME, AN_OTHER, A_TAKEN, A_NO_ROOM, A_REFUSED, AN_ENDED
cdef enum:
    EVENTS = 32
    IN_A_ROW = 16
    CLOSELY = 1000000  # nanoseconds
    AWAY = 4  # milliseconds

LOOK = 40
"""Milliseconds that it waits at most: a signal that comes just before is not seen until then, as in ``wait``."""


include "siblings.pxi"
include "doors.pxi"


cdef class Name:
    """Who was taken in: called, it tells the name as the socket module has it. Most clients are never named."""
    cdef any_name name
    cdef socklen_t size

    def __call__(self):
        return client_name(&self.name, self.size)


cdef class Brood(Doors):
    """The children, the sockets whose clients they serve, and what else is waited for.

    Until ``fork_for_each`` has said what children do nobody is forked, and who is taken in is the caller's.
    """
    cdef list lives
    cdef bint told_drained, wants_pidfd
    cdef int in_a_row, door
    cdef readonly Name name
    """Who came in last."""
    cdef Numbers numbers
    cdef Py_ssize_t begun, ended
    cdef int per_address
    cdef Numbers shared
    cdef Py_ssize_t keeper
    cdef int beside_us
    cdef int64_t me, last_taken
    cdef bint brisk
    cdef readonly int taken
    """The client that came in last: our descriptor of it."""
    cdef readonly int listener
    """At which socket it came in."""
    cdef readonly int error
    """Of NO_ROOM: the errno."""

    def __cinit__(self, list listeners, int most, int per_address, Numbers numbers, Py_ssize_t begun, Py_ssize_t ended,
                  bint pidfds):
        self.taken = self.beside_us = -1
        self.name = Name.__new__(Name)
        self.set_up(listeners)
        self.per_address, self.wants_pidfd = per_address, pidfds
        self.numbers, self.begun, self.ended = numbers, begun, ended
        self.make_room(most)

    def fork_for_each(self, list lives not None, list places not None):
        """Fork for each client from now on. What a child of the i-th socket does is ``lives[i]()``, whose result is its
        exit status; it has its client at the descriptor ``places[i]``, which holds something else here, and the client's
        ``name``. So all that a child needs is made already: what it had to make itself would cost it pages."""
        cdef int i
        if len(lives) != self.count_of_doors or len(places) != self.count_of_doors:
            raise ValueError(f"there are {self.count_of_doors} sockets, and {len(lives)} lives at {len(places)} places")
        for i in range(self.count_of_doors):
            self.doors[i].place = places[i]
        self.lives = lives

    def beside(self, int fd):
        """Return OTHER when this is readable."""
        self.add(fd, 0)
        self.beside_us = fd

    def share(self, Numbers shared not None, Py_ssize_t keeper):
        """Other processes wait at the same sockets: ``shared[keeper]`` is the one of them that sleeps there, or 0.

        While clients follow each other closely, who has served one and finds nobody waiting leaves the next ones to that
        other one for ``AWAY`` ms: each wake-up spared is time for a client. Nothing hangs on the number being right but
        those milliseconds.
        """
        self.shared, self.keeper, self.me = shared, keeper, getpid()

    def client_name(self):
        """Who was taken in last, whoever comes after him."""
        cdef Name made = Name.__new__(Name)
        made.name, made.size = self.name.name, self.name.size
        return made

    def adopt(self, int pid, int pidfd):
        """Mind this child, which was started for the client that came in last; its place."""
        return self.born(pid, pidfd)

    cdef int born(self, pid_t pid, int pidfd) except -1:
        self.numbers.more(self.begun, 1)
        self.enter(pid, pidfd, client_whom(self.taken, &self.name.name) if self.per_address else 0)
        self.swing()
        return self.place

    def run(self, int64_t deadline):
        """Take in, start and reap until there is something to say, or ``LOOK`` ms or the deadline (-1: none) are over.

        TIME; OTHER: something beside is readable; TAKEN: a client has come, and is the caller's; NO_ROOM; REFUSED: a
        client was turned away, its address having enough; ENDED: a child has, and not with status 0 (one that has is
        reaped without a word, but the last one of all).
        """
        cdef epoll_event events[EVENTS]
        cdef int i, ready, limit, told
        cdef uint64_t kind
        cdef bint other
        if self.lives is not None:
            tidy()
        self.is_up()
        while True:
            PyErr_CheckSignals()
            # On a busy server somebody is there: asked before it is waited for, but not for ever.
            while self.in_a_row > 0 and self.is_open and not self.draining:
                self.in_a_row -= 1
                told = self.take_in(0)
                if told >= 0:
                    return told
            if self.gives_way():
                continue
            limit = LOOK if not self.blind_count else 10
            if deadline >= 0:
                limit = <int>max(0, min(limit, (deadline - monotonic_ns() + 999999) // 1000000))
            if self.draining and self.is_open and not self.is_drained():
                limit = 0
            with nogil:
                ready = epoll_wait(self.epoll, events, EVENTS, limit)
            if ready < 0:
                if errno != EINTR:
                    PyErr_SetFromErrno(OSError)
                continue
            if ready > 0:
                self.is_up()
            if self.blind_count and self.find_dead():
                return AN_ENDED
            if self.draining and self.is_open and self.nobody_waits(events, ready):
                return AN_OTHER
            if ready == 0:
                return A_TIME
            other = False
            for i in range(ready):
                kind = events[i].data.u64 >> 32
                if kind == MEMBER:
                    told = self.bury(<int>(events[i].data.u64 & 0xffffffff))
                elif kind == LISTENER:
                    self.in_a_row = IN_A_ROW if self.count_of_doors == 1 else 0
                    told = self.take_in(<int>(events[i].data.u64 & 0xffffffff))
                else:
                    other, told = True, -1
                if told >= 0:
                    return told  # what else is ready will be so again
            if other or (self.draining and not self.told_drained and self.is_drained()):
                self.told_drained = self.draining and self.is_drained()
                return AN_OTHER

    cdef int is_up(self) except -1:
        if self.shared is not None and self.shared.place(self.keeper)[0] == self.me:
            self.shared.place(self.keeper)[0] = 0
        return 0

    cdef bint gives_way(self) except -1:
        """Before we sleep: whether we have been away instead; else we may be the one that sleeps at the door."""
        cdef int64_t *keeper
        cdef pollfd beside
        if self.shared is None:
            return False
        keeper = self.shared.place(self.keeper)
        if keeper[0] == 0:
            keeper[0] = self.me
        if keeper[0] == self.me or not self.brisk:
            return False
        self.brisk = False
        beside.fd, beside.events = self.beside_us, POLLIN
        with nogil:
            poll(&beside, 1, AWAY)
        self.in_a_row = self.count_of_doors == 1
        return True

    cdef int bury(self, int place) except -2:
        if not self.reap(place):
            return -1
        self.numbers.more(self.ended, 1)
        self.swing()
        return AN_ENDED if self.status or self.killed or (self.draining and not self.alive) else -1

    cdef bint find_dead(self) except -1:
        """Without pidfds: look at each."""
        cdef int place = self.eldest, newer
        while place >= 0:
            newer = self.members[place].newer
            if self.members[place].pidfd < 0 and self.bury(place) >= 0:
                return True
            place = newer
        return False

    cdef int take_in(self, int which) except -2:
        cdef int fd
        cdef int64_t now
        if not self.is_open:
            return -1
        fd = client_take_in(self.doors[which].fd, &self.name.name, &self.name.size)
        if fd < 0:
            if errno == EAGAIN:
                self.in_a_row = 0
                if self.draining:
                    self.finish(which)
                    return AN_OTHER
                return -1
            if client_is_lost(errno):
                return -1
            if not client_lacks_room(errno):
                PyErr_SetFromErrno(OSError)
            self.error = errno
            return A_NO_ROOM
        self.taken, self.listener, self.door = fd, self.doors[which].fd, which
        if self.shared is not None:
            now = monotonic_ns()
            self.brisk, self.last_taken = now - self.last_taken < CLOSELY, now
        if self.draining:
            self.doors[which].left -= 1
            if self.doors[which].left == 0:
                self.remove(self.doors[which].fd)
        if self.per_address and self.count(client_whom(fd, &self.name.name)) >= self.per_address:
            close(fd)
            return A_REFUSED
        return A_TAKEN if self.lives is None else self.serve()

    def again(self):
        """Start a child for the client that came in last, for whom there was no room: as ``run`` says."""
        return self.serve()

    cdef int serve(self) except -2:
        cdef sigset_t every, before
        cdef int error
        cdef pid_t pid
        sigfillset(&every)
        # Blocked over the fork: a signal for the child must meet the child's own dispositions (gotcha:SRV5), and no
        # handler of ours may reap it before we have its pidfd.
        pthread_sigmask(SIG_SETMASK, &every, &before)
        try:
            PyErr_CheckSignals()
        except BaseException:
            pthread_sigmask(SIG_SETMASK, &before, NULL)
            raise
        PyOS_BeforeFork()
        pid = fork()
        error = errno
        if pid == 0:
            PyOS_AfterFork_Child()
            setpgid(0, 0)
            self.leave()
            pthread_sigmask(SIG_SETMASK, &before, NULL)
            self.live()
        PyOS_AfterFork_Parent()
        if pid > 0:
            setpgid(pid, pid)
            self.born(pid, open_pidfd(pid) if self.wants_pidfd else -1)
            close(self.taken)
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        if pid < 0:
            self.error = error
            return A_NO_ROOM
        return -1

    cdef int live(self) except -1:
        """The child's life, to its end: nothing of the parent's Python goes on in it, whose pages would be copied."""
        cdef int status = 70
        try:
            status = self.lives[self.door]()
        finally:
            _exit(status)

    cdef void leave(self):
        """In the child: the client is where its life looks for it; the sockets that listen, the siblings and the epoll
        descriptor are the parent's (gotcha:SRV2)."""
        cdef int place = self.eldest, i
        for i in range(self.count_of_doors):
            close(self.doors[i].fd)
            if i != self.door:
                close(self.doors[i].place)
        if dup3(self.taken, self.doors[self.door].place, O_CLOEXEC) < 0:
            perror(b"hornpipe: a client's child cannot have its descriptor")  # the limit was lowered below it meanwhile
            _exit(70)
        close(self.taken)
        while place >= 0:
            if self.members[place].pidfd >= 0:
                close(self.members[place].pidfd)
            place = self.members[place].newer
        self.let_go()
