# What was read ahead, and leaves by lines. A part of buffers.pyx.


cdef enum Form:
    # How lines leave a buffer: not at all, as bytes, as UTF-8 with surrogateescape.
    NO_LINES = -1
    AS_BYTES = 0
    AS_TEXT = 1


cdef Py_ssize_t content_size(const char *line, Py_ssize_t size) noexcept:
    """The size of a line without its LF or CR LF."""
    size -= 1
    return size - 1 if size and line[size - 1] == b'\r' else size


cdef class ReadBuffer:
    """Bytes that were read and not yet asked for.

    ``form`` is what ``next_line`` gives: bytes (0) or text (1, UTF-8 with surrogateescape), or no lines at all (-1); of
    lines longer than ``limit`` none. ``lenient`` text lines end with LF where CR LF was sent. ``is_socket`` says
    that what is read from is one.
    """
    cdef char *memory
    cdef size_t capacity, start, end, scanned
    cdef readonly bint ended
    cdef readonly long long received
    cdef readonly Py_ssize_t asked
    """Bytes of the last question that have been taken."""
    cdef public int form
    cdef Py_ssize_t limit
    cdef bint lenient, is_socket

    def __cinit__(self):
        self.memory = NULL
        self.capacity = self.start = self.end = self.scanned = 0
        self.ended = False
        self.received = 0

    def __init__(self, int form=NO_LINES, Py_ssize_t limit=-1, *, bint lenient=False, bint is_socket=False):
        self.form = form
        self.limit = limit
        self.lenient = lenient
        self.is_socket = is_socket

    def __dealloc__(self):
        free(self.memory)

    def __len__(self):
        return self.end - self.start

    cdef int make_room(self, size_t room) except -1:
        cdef size_t held = self.end - self.start, wanted
        cdef char *memory
        if held == 0:
            self.start = self.end = self.scanned = 0
        if self.capacity - self.end >= room:
            return 0
        if self.start:
            memmove(self.memory, self.memory + self.start, held)
            self.scanned -= self.start
            self.end = held
            self.start = 0
        if self.capacity - self.end < room:
            wanted = self.capacity * 2
            if wanted < self.end + room:
                wanted = self.end + room
            memory = <char *>realloc(self.memory, wanted)
            if memory == NULL:
                raise MemoryError()
            self.memory = memory
            self.capacity = wanted
        return 0

    def fill(self, int fd, size_t size):
        """One read(2) of at most ``size`` bytes: the count, 0 at the end, -1 when it would block."""
        return self.read_into(fd, size)

    cdef Py_ssize_t read_into(self, int fd, size_t size) except -2:
        cdef Py_ssize_t count
        self.make_room(size)
        count = read_some(fd, self.memory + self.end, size, self.is_socket)
        if count > 0:
            self.end += count
            self.received += count
        elif count == 0:
            self.ended = True
        return count

    def fill_when_ready(self, int fd, size_t size, long long deadline, long long seen=-1):
        """Waits, then ``fill``; None at the deadline, ``wait.CLOSED`` when closed meanwhile.

        -1 too when a descriptor was closed since ``closings_so_far()`` was ``seen``.
        """
        cdef short ready = wait_fd(fd, POLLIN, deadline, seen)
        if ready == IS_OUTDATED:
            return -1
        if ready == 0:
            return None
        if ready == IS_CLOSED:
            return ready
        return self.read_into(fd, size)

    def await_line(self, int fd, size_t size, long long deadline, long long seen):
        """``next_line``, waited for. None when the caller has to look: the end, the deadline, a full read without a line.

        None too when a descriptor was closed since ``closings_so_far()`` was ``seen``, or this one is meanwhile.
        """
        cdef Py_ssize_t count
        cdef short ready
        while True:
            line = self.next_line()
            if (line is not None or self.ended or self.form == NO_LINES
                    or (self.limit >= 0 and <Py_ssize_t>(self.end - self.start) > self.limit)):
                return line
            ready = wait_fd(fd, POLLIN, deadline, seen)
            if ready == 0 or ready == IS_CLOSED or ready == IS_OUTDATED:
                return None
            count = self.read_into(fd, size)
            if count == <Py_ssize_t>size or over(deadline):
                return self.next_line()

    cpdef object exchange(self, object line, int sink, int source, size_t size, long long deadline, bint crlf=False,
                          Py_ssize_t most=-1):
        """Writes a line (its newline is added if it lacks one), and gives the one that is read then.

        Both are of the buffer's form; the answer is without LF or CR LF. With ``crlf`` a line of text is sent with
        that. None when this cannot be done in one go: the line is long or of the wrong kind, not all of it was
        taken, the wait ended without a line, ``most`` bytes came without one, or one of the two is closed (-1).
        What is missing is then for the caller to do; of the question so much was ``asked``.
        """
        cdef char out[LONGEST_QUESTION + 1]
        cdef const char *start
        cdef Py_ssize_t length = 0, count
        cdef short ready
        cdef bint text = self.form == AS_TEXT
        # From here on: a handler that runs in a wait may close them, and their numbers be others' by the next.
        cdef long long seen = closings_now()
        self.asked = 0
        if sink < 0 or source < 0:
            return None
        if text and isinstance(line, str):
            try:
                start = PyUnicode_AsUTF8AndSize(line, &length)
            except UnicodeEncodeError:
                return None
        elif self.form == AS_BYTES and isinstance(line, bytes):
            start, length = PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line)
        else:
            return None
        crlf = crlf and text
        if length > LONGEST_QUESTION - crlf:
            return None
        memcpy(out, start, length)
        if crlf:
            if length and memchr(start, b'\n', length) != NULL:
                return None
            out[length] = b'\r'
            length += 1
        if length == 0 or out[length - 1] != b'\n':
            out[length] = b'\n'
            length += 1
        if self.is_socket:
            count = send(sink, out, length, MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            count = write_bytes(sink, out, length)
        if count != length:
            self.asked = count if count > 0 else 0
            return None
        self.asked = count
        while True:
            length = self.line_size()
            if length:
                start = self.memory + self.start
                if self.limit >= 0 and content_size(start, length) > self.limit:
                    return None
                self.start += length
                self.scanned = self.start
                length = content_size(start, length)
                if text:
                    return PyUnicode_DecodeUTF8(start, length, b"surrogateescape")
                return PyBytes_FromStringAndSize(start, length)
            if self.ended or (self.limit >= 0 and <Py_ssize_t>(self.end - self.start) > self.limit):
                return None
            if 0 <= most < <Py_ssize_t>(self.end - self.start):
                return None
            PyErr_CheckSignals()
            # The place to read to only from here on: a handler may have read into this very buffer, and moved it.
            if waits_alone(deadline):
                count = self.read_into(source, size) if comes_at_first_look(source, deadline, seen) else -1
            else:
                self.make_room(size)
                count = read_at_first_look(source, self.memory + self.end, size, deadline, self.is_socket, seen)
                if count > 0:
                    self.end += count
                    self.received += count
            if count < 0:
                ready = wait_fd(source, POLLIN, deadline, seen)
                if ready == 0 or ready == IS_CLOSED or ready == IS_OUTDATED:
                    return None
                self.read_into(source, size)
            if self.line_size() == 0 and over(deadline):
                return None  # a peer that always has more is no excuse

    def append(self, const unsigned char[::1] data):
        """Adds a copy of ``data``, as if it had been read."""
        cdef size_t size = data.shape[0]
        if size:
            self.make_room(size)
            memcpy(self.memory + self.end, &data[0], size)
            self.end += size
            self.received += size

    def end_here(self):
        """No more will come."""
        self.ended = True

    def forget_end(self):
        """Whoever reads again has to ask the descriptor, and hears that it is closed."""
        self.ended = False

    def take(self, Py_ssize_t size):
        """At most ``size`` bytes off the front; all of them when negative."""
        cdef size_t held = self.end - self.start
        cdef size_t count = held if size < 0 or <size_t>size > held else <size_t>size
        cdef bytes result = PyBytes_FromStringAndSize(self.memory + self.start, count)
        self.start += count
        if self.scanned < self.start:
            self.scanned = self.start
        return result

    def peek(self, Py_ssize_t size):
        """The last ``size`` bytes (all when negative), which stay."""
        cdef size_t held = self.end - self.start
        cdef size_t count = held if size < 0 or <size_t>size > held else <size_t>size
        return PyBytes_FromStringAndSize(self.memory + self.end - count, count)

    cdef Py_ssize_t line_size(self):
        """Bytes up to and with the first newline; 0 when there is none. Never scans a byte twice."""
        cdef char *newline
        if self.scanned < self.end:
            newline = <char *>memchr(self.memory + self.scanned, b'\n', self.end - self.scanned)
            if newline != NULL:
                return newline - (self.memory + self.start) + 1
            self.scanned = self.end
        return 0

    cpdef object next_line(self):
        """The first line with its newline; None when the caller has to look: nothing whole is there, or too much."""
        cdef char *line
        cdef Py_ssize_t size
        if self.form == NO_LINES:
            return None
        size = self.line_size()
        line = self.memory + self.start
        if size == 0 or (self.limit >= 0 and size > self.limit and content_size(line, size) > self.limit):
            return None
        self.start += size
        self.scanned = self.start
        if self.form == AS_BYTES:
            return PyBytes_FromStringAndSize(line, size)
        if self.lenient and size > 1 and line[size - 2] == b'\r':
            size -= 1
            line[size - 1] = b'\n'
        return PyUnicode_DecodeUTF8(line, size, b"surrogateescape")

    def take_line(self, Py_ssize_t limit):
        """The first line with its newline, or ``limit`` bytes of it; b"" when it is not complete.

        After the end, what is left counts as a line.
        """
        cdef Py_ssize_t size = self.line_size()
        cdef Py_ssize_t held = self.end - self.start
        if size == 0 and (self.ended or (limit >= 0 and held >= limit)):
            size = held
        if limit >= 0 and size > limit:
            size = limit
        return self.take(size)
