"""Children that serve one client each: taking clients in, forking and reaping, without Python in between. No policy.

accept4(2), fork(2), pidfd_open(2), waitid(2), epoll(7). After a fork each page that either side writes to is
copied, and Python writes to a page for every object that it looks at: in Python, this loop costs several times
what the fork does.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from hornpipe._native.shared cimport Numbers

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <errno.h>
    #include <netinet/in.h>
    #include <signal.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <sys/un.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>

    #ifndef P_PIDFD
    #define P_PIDFD 3
    #endif

    union any_name {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        struct sockaddr_un local;
    };

    static int taken_in(int listener, union any_name *name, socklen_t *size) {
        int fd;
        *size = sizeof *name;
        memset(name, 0, sizeof *name);
        do
            fd = accept4(listener, &name->any, size, SOCK_CLOEXEC);
        while (fd < 0 && errno == EINTR);
        return fd;
    }

    /* Whom a limit for each address counts: a host, or at a Unix name a user. Never 0. */
    static uint64_t whom(int fd, const union any_name *name) {
        const unsigned char *bytes;
        size_t size;
        struct ucred who;
        socklen_t length = sizeof who;
        if (name->any.sa_family == AF_INET) {
            bytes = (const unsigned char *)&name->four.sin_addr, size = 4;
        } else if (name->any.sa_family == AF_INET6) {
            bytes = name->six.sin6_addr.s6_addr, size = 16;
            if (IN6_IS_ADDR_V4MAPPED(&name->six.sin6_addr))
                bytes += 12, size = 4;
        } else {
            if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
                return 1;
            bytes = (const unsigned char *)&who.uid, size = sizeof who.uid;
        }
        uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
        for (size_t i = 0; i < size; i++)
            hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
        return hash ? hash : 1;
    }

    /* accept(2): errors of the connection that waited, which is gone with them. */
    static int is_lost(int error) {
        switch (error) {
        case ECONNABORTED: case EPROTO: case ENETDOWN: case ENOPROTOOPT: case EHOSTDOWN: case EHOSTUNREACH:
        case EOPNOTSUPP: case ENETUNREACH: case EPERM: case ETIMEDOUT:
    #ifdef ENONET
        case ENONET:
    #endif
            return 1;
        }
        return 0;
    }

    static int is_lack(int error) {
        return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
    }

    static int64_t instant(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }

    static int pidfd_of(pid_t pid) {
    #ifdef SYS_pidfd_open
        return (int)syscall(SYS_pidfd_open, pid, 0);
    #else
        (void)pid;
        return -1;
    #endif
    }

    /* As waitid says it: -1 it runs, -2 somebody else has had its status, else the raw status. */
    static int raw_status(pid_t pid, int pidfd) {
        siginfo_t facts;
        int result;
        facts.si_pid = 0;
        do
            result = pidfd >= 0 ? waitid((idtype_t)P_PIDFD, (id_t)pidfd, &facts, WEXITED | WNOHANG)
                                : waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOHANG);
        while (result < 0 && errno == EINTR);
        if (result < 0)
            return -2;
        if (facts.si_pid == 0)
            return -1;
        return facts.si_code == CLD_EXITED ? (facts.si_status & 0xff) << 8 : (facts.si_status & 0x7f);
    }

    /* malloc(3) sorts what was freed when it next looks for something big: now, and not in each child. */
    static void tidy(void) {
        void *volatile big = malloc(1 << 20);
        free(big);
    }

    static int signal_child(pid_t pid, int pidfd, int number) {
        /* A child leads its own group; not reaped yet, its number is nobody else's. */
        if (kill(-pid, number) == 0)
            return 0;
    #ifdef SYS_pidfd_send_signal
        if (pidfd >= 0)
            return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
    #endif
        return kill(pid, number);
    }
    """
    ctypedef unsigned int socklen_t
    ctypedef int pid_t
    union any_name:
        pass
    int taken_in(int, any_name *, socklen_t *) nogil
    uint64_t whom(int, const any_name *) nogil
    int is_lost(int) nogil
    int is_lack(int) nogil
    int64_t instant() nogil
    int pidfd_of(pid_t) nogil
    int raw_status(pid_t, int) nogil
    int signal_child(pid_t, int, int) nogil
    void tidy() nogil
    int close(int) nogil
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
    LISTENER = 1
    MEMBER = 2
    EVENTS = 32
    DOORS = 64
    IN_A_ROW = 16

LOOK = 40
"""Milliseconds that it waits at most: a signal that comes just before is not seen until then, as in ``wait``."""


cdef struct member:
    pid_t pid
    int pidfd
    uint64_t whom
    int64_t since
    bint marked
    int older, newer


cdef struct door:
    int fd
    int left


cdef class Name:
    """Who was taken in: called, it tells the name as the socket module has it. Most clients are never named."""
    cdef any_name name
    cdef socklen_t size

    def __call__(self):
        return name_of(&self.name, self.size)


cdef class Brood:
    """The children, the sockets whose clients they serve, and what else is waited for.

    ``child(listener, taken, name)`` is a child's life, which ends with the status that it returns; without one nobody
    is forked, and who is taken in is the caller's.
    """
    cdef int epoll, most, alive, eldest, youngest, blind_count, in_a_row
    cdef object child
    cdef bint is_open, wanted_open, draining, told_drained, wants_pidfd
    cdef member *members
    cdef int *free_places
    cdef door doors[DOORS]
    cdef int count_of_doors
    cdef any_name name
    cdef socklen_t size
    cdef Numbers numbers
    cdef Py_ssize_t begun, ended
    cdef int per_address
    cdef readonly int taken
    """The client that came in last: our descriptor of it."""
    cdef readonly int listener
    """At which socket it came in."""
    cdef readonly int error
    """Of NO_ROOM: the errno."""
    cdef readonly int place
    """Of ENDED, and of the child that was started last: its place, which another one may have after it."""
    cdef readonly int status
    """Of ENDED: the raw wait status, or -2 when somebody else has taken it."""
    cdef readonly int pid
    """Of ENDED, and of the child that was started last."""
    cdef readonly bint killed
    """Of ENDED: whether it was killed by us."""

    def __cinit__(self, list listeners, int most, int per_address, Numbers numbers, Py_ssize_t begun, Py_ssize_t ended,
                  object child, bint pidfds):
        cdef int i
        self.members = NULL
        self.free_places = NULL
        self.epoll = -1
        self.taken = -1
        if len(listeners) > DOORS:
            raise ValueError(f"clients are taken in at {DOORS} sockets at most, not at {len(listeners)}")
        self.count_of_doors = len(listeners)
        for i in range(self.count_of_doors):
            self.doors[i].fd = listeners[i]
            self.doors[i].left = -1
        self.most, self.per_address, self.child, self.wants_pidfd = most, per_address, child, pidfds
        self.numbers, self.begun, self.ended = numbers, begun, ended
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

    cdef int add(self, int fd, uint64_t data, unsigned int events=EPOLLIN) except -1:
        cdef epoll_event event
        event.events = events
        event.data.u64 = data
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef void remove(self, int fd) noexcept:
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, NULL)

    def beside(self, int fd):
        """Return OTHER when this is readable."""
        self.add(fd, 0)

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

    def client_name(self):
        """Who was taken in last."""
        cdef Name made = Name.__new__(Name)
        made.name, made.size = self.name, self.size
        return made

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

    def adopt(self, int pid, int pidfd):
        """Mind this child, which was started for the client that came in last; its place."""
        return self.born(pid, pidfd)

    cdef int born(self, pid_t pid, int pidfd) except -1:
        cdef int place = self.free_places[self.most - 1 - self.alive]
        cdef member *made = self.members + place
        made.pid, made.pidfd = pid, pidfd
        made.whom = whom(self.taken, &self.name) if self.per_address else 0
        made.since = instant()
        made.marked = False
        made.older, made.newer = self.youngest, -1
        if self.youngest >= 0:
            self.members[self.youngest].newer = place
        else:
            self.eldest = place
        self.youngest = place
        self.alive += 1
        self.place, self.pid = place, pid
        self.numbers.more(self.begun, 1)
        if pidfd >= 0:
            self.add(pidfd, <uint64_t>MEMBER << 32 | place)
        else:
            self.blind_count += 1
        self.swing()
        return place

    cdef int died(self, int place, int status) except -1:
        cdef member *dead = self.members + place
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
        self.numbers.more(self.ended, 1)
        self.swing()
        return 0

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
        if self.child is not None:
            tidy()
        while True:
            PyErr_CheckSignals()
            # On a busy server somebody is there: asked before it is waited for, but not for ever.
            while self.in_a_row > 0 and self.is_open and not self.draining:
                self.in_a_row -= 1
                told = self.take_in(0)
                if told >= 0:
                    return told
            limit = LOOK if not self.blind_count else 10
            if deadline >= 0:
                limit = <int>max(0, min(limit, (deadline - instant() + 999999) // 1000000))
            if self.draining and self.is_open and not self.is_drained():
                limit = 0
            with nogil:
                ready = epoll_wait(self.epoll, events, EVENTS, limit)
            if ready < 0:
                if errno != EINTR:
                    PyErr_SetFromErrno(OSError)
                continue
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

    cdef int bury(self, int place) except -2:
        cdef int status
        if self.members[place].pid == 0:
            return -1
        status = raw_status(self.members[place].pid, self.members[place].pidfd)
        if status == -1:
            return -1
        self.died(place, status)
        return AN_ENDED if status or self.killed or (self.draining and not self.alive) else -1

    cdef bint find_dead(self) except -1:
        """Without pidfds: look at each."""
        cdef int place = self.eldest, newer
        while place >= 0:
            newer = self.members[place].newer
            if self.members[place].pidfd < 0 and self.bury(place) >= 0:
                return True
            place = newer
        return False

    cdef void finish(self, int which) noexcept:
        if self.is_open:
            self.remove(self.doors[which].fd)
        self.doors[which].left = 0

    cdef int take_in(self, int which) except -2:
        cdef int fd
        if not self.is_open:
            return -1
        fd = taken_in(self.doors[which].fd, &self.name, &self.size)
        if fd < 0:
            if errno == EAGAIN:
                self.in_a_row = 0
                if self.draining:
                    self.finish(which)
                    return AN_OTHER
                return -1
            if is_lost(errno):
                return -1
            if not is_lack(errno):
                PyErr_SetFromErrno(OSError)
            self.error = errno
            return A_NO_ROOM
        self.taken, self.listener = fd, self.doors[which].fd
        if self.draining:
            self.doors[which].left -= 1
            if self.doors[which].left == 0:
                self.remove(self.doors[which].fd)
        if self.per_address and self.count(whom(fd, &self.name)) >= self.per_address:
            close(fd)
            return A_REFUSED
        return A_TAKEN if self.child is None else self.serve()

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
            self.born(pid, pidfd_of(pid) if self.wants_pidfd else -1)
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
            status = self.child(self.listener, self.taken, self.client_name())
        finally:
            _exit(status)

    cdef void leave(self):
        """In the child: the sockets that listen, the siblings and the epoll descriptor are the parent's (gotcha:SRV2)."""
        cdef int place = self.eldest, i
        for i in range(self.count_of_doors):
            close(self.doors[i].fd)
        while place >= 0:
            if self.members[place].pidfd >= 0:
                close(self.members[place].pidfd)
            place = self.members[place].newer
        self.let_go()


cdef object name_of(any_name *name, socklen_t size):
    return made_name(name, size)


cdef extern from *:
    """
    static PyObject *made_name(const union any_name *name, socklen_t size) {
        char text[INET6_ADDRSTRLEN];
        if (name->any.sa_family == AF_INET) {
            inet_ntop(AF_INET, &name->four.sin_addr, text, sizeof text);
            return Py_BuildValue("(si)", text, (int)ntohs(name->four.sin_port));
        }
        if (name->any.sa_family == AF_INET6) {
            inet_ntop(AF_INET6, &name->six.sin6_addr, text, sizeof text);
            return Py_BuildValue("(siII)", text, (int)ntohs(name->six.sin6_port), (unsigned)ntohl(name->six.sin6_flowinfo),
                                 (unsigned)name->six.sin6_scope_id);
        }
        if (size <= sizeof(sa_family_t))
            return PyBytes_FromStringAndSize("", 0);
        size -= sizeof(sa_family_t);
        /* An abstract name begins with a NUL; a path ends at one. */
        if (name->local.sun_path[0])
            size = (socklen_t)strnlen(name->local.sun_path, size);
        return PyBytes_FromStringAndSize(name->local.sun_path, (Py_ssize_t)size);
    }
    """
    object made_name(any_name *, socklen_t)
