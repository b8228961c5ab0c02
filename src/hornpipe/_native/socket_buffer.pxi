# A socket's lines, in both directions. A part of buffers.pyx.


cdef class SocketBuffer(ReadBuffer):
    """What was read from a socket and what is to be sent to it: a line that comes or goes is one call.

    ``source`` and ``sink`` are its descriptor, or -1 where it may not be read or written like this. ``timeout`` is for
    each call, in seconds, ``life`` a deadline for all; -1 is none. What is out of the ordinary is left to the caller.
    """
    cdef public int source, sink
    cdef public double timeout
    cdef public long long life
    cdef public long long taken
    """Bytes that the kernel has taken."""
    cdef readonly bytearray pending
    """What was gathered to be sent."""
    cdef readonly int said
    """Why ``read_line`` has given nothing: 0 the time was over, CLOSED, RESET by the peer, or 1: look yourself."""
    cdef object lock
    cdef bint crlf

    def __init__(self, int form=NO_LINES, Py_ssize_t limit=-1, *, bint crlf=False, double timeout=-1):
        ReadBuffer.__init__(self, form, limit, lenient=True, is_socket=True)
        self.begin(-1)
        self.crlf, self.timeout = crlf, timeout

    cdef void begin(self, int fd):
        self.source = self.sink = fd
        self.life = -1
        self.taken = 0
        self.pending = bytearray()

    def fresh(self, int fd):
        """An empty one for another socket, with the settings of this one."""
        cdef SocketBuffer made = SocketBuffer.__new__(SocketBuffer)
        made.form, made.limit, made.lenient, made.is_socket = self.form, self.limit, self.lenient, True
        made.crlf, made.timeout = self.crlf, self.timeout
        made.begin(fd)
        return made

    def inherit(self, SocketBuffer other):
        """Take over what is to be sent, and the limits."""
        self.pending, self.taken, self.lock = other.pending, other.taken, other.lock
        self.timeout, self.life = other.timeout, other.life
        self.source, self.sink = other.source, other.sink

    @property
    def sending(self):
        """The lock that is held while something is sent in several steps; made when it is first asked for.

        Anew in the same thread: a signal's handler may write in the middle of it, and must not wait for itself."""
        if self.lock is None:
            made = RLock()
            if self.lock is None:
                self.lock = made
        return self.lock

    cdef bint is_being_sent(self) except -1:
        """Whether somebody sends just now, be it whom our handler of a signal has interrupted."""
        if self.lock is None:
            return False
        if self.lock._is_owned() or not self.lock.acquire(False):
            return True
        self.lock.release()
        return False

    cdef long long deadline(self):
        cdef long long by = deadline_after(self.timeout)
        return self.life if by < 0 or 0 <= self.life < by else by

    def read_line(self):
        """The next line, waited for; None when the caller has to look, and ``said`` tells why."""
        return self.awaited_line()

    cdef object awaited_line(self):
        cdef long long by = 0, seen
        cdef bint waited = False
        cdef short ready
        cdef int fd
        self.said = 1
        while True:
            line = self.next_line()
            if line is not None:
                return line
            if (self.source < 0 or self.ended or self.form == NO_LINES or PyByteArray_GET_SIZE(self.pending)
                    or (self.limit >= 0 and <Py_ssize_t>(self.end - self.start) > self.limit)):
                return None
            if not waited:
                by = self.deadline()
            elif over(by):
                self.said = 0  # a peer that always has more is no excuse
                return None
            waited = True
            seen = closings_now()
            fd = self.source
            ready = wait_fd(fd, POLLIN, by, seen)
            if ready == IS_OUTDATED or self.source != fd:
                continue
            if ready == 0 or ready == IS_CLOSED:
                self.said = ready
                return None
            try:
                self.read_into(fd, SHORT)
            except ConnectionResetError:
                self.said = RESET_BY_PEER
                return None

    def write(self, data):
        """Send it, or gather it until a line is whole: 1.

        0: nothing was done, which is the caller's. -1: not all of it was taken, and the rest is ``pending``.
        """
        cdef const char *start
        cdef Py_ssize_t length, held = PyByteArray_GET_SIZE(self.pending)
        # Without a lock: no other thread runs Python from here to the end.
        if not ONE_AT_A_TIME or self.sink < 0 or self.is_being_sent():
            return 0
        if self.form == AS_TEXT and not self.crlf and isinstance(data, str) and PyUnicode_GET_LENGTH(data) <= SHORT:
            try:
                start = PyUnicode_AsUTF8AndSize(data, &length)
            except UnicodeEncodeError:
                return 0
        elif self.form == AS_BYTES and isinstance(data, bytes):
            start, length = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        else:
            return 0
        if held + length > SHORT:
            return 0
        if memchr(start, b'\n', length) == NULL:
            self.gather(start, length)
            return 1
        if held:
            self.gather(start, length)
            start, length = PyByteArray_AS_STRING(self.pending), held + length
        return self.send_now(start, length, held != 0)

    cdef int gather(self, const char *start, Py_ssize_t length) except -1:
        cdef Py_ssize_t held = PyByteArray_GET_SIZE(self.pending)
        PyByteArray_Resize(self.pending, held + length)
        memcpy(PyByteArray_AS_STRING(self.pending) + held, start, length)
        return 0

    cdef int send_now(self, const char *start, Py_ssize_t length, bint gathered) except -2:
        """One send(2); an error is left to the next one."""
        cdef Py_ssize_t count = send(self.sink, start, length, MSG_DONTWAIT | MSG_NOSIGNAL)
        if count < 0:
            return -1 if gathered else 0
        self.taken += count
        if gathered:
            memmove(<char *>start, start + count, length - count)
            PyByteArray_Resize(self.pending, length - count)
        elif count < length:
            self.gather(start + count, length - count)
        return 1 if count == length else -1

    def ask(self, object line, long long by=-2):
        """Send a line and read one, as ``exchange`` does; None when what is left of it is the caller's to do.

        ``said`` is then how many bytes of the question have been taken.
        """
        self.said = 0
        if self.source < 0 or self.sink < 0 or PyByteArray_GET_SIZE(self.pending):
            return None
        if by == -2:
            by = self.deadline()
        answer = self.exchange(line, self.sink, self.source, SHORT, by, self.crlf)
        self.taken += self.asked
        self.said = self.asked
        return answer

    def leave_at_rest(self):
        """Whether closing destroys nothing, since all is sent, and nothing unread has come (recv(2), MSG_PEEK); if so,
        nothing is read or written here any more."""
        cdef char byte
        if self.source < 0 or PyByteArray_GET_SIZE(self.pending):
            return False
        if self.taken and not self.ended and recv(self.source, &byte, 1, MSG_DONTWAIT | MSG_PEEK) > 0:
            return False
        self.source = self.sink = -1
        return True
