"""Memory that grows under a stream of bytes: read(2) into place, lines cut out in C.

No policy: when to wait, what to do at the end or over a limit is the caller's.
"""
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EIO, errno
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memmove
from _thread import allocate_lock

from hornpipe._native.wait cimport closings_now, deadline_after, over, read_at_first_look, wait_fd

cdef extern from *:
    """
    #include <malloc.h>
    #include <poll.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <unistd.h>

    #define LONGEST_QUESTION 4095 /* with its newline it is written whole or not at all: PIPE_BUF */
    #define SHORT 16384 /* bytes that are copied sooner than another thread takes over and gives back */

    #ifdef Py_GIL_DISABLED
    #define ONE_AT_A_TIME 0
    #else
    #define ONE_AT_A_TIME 1
    #endif

    /* Memory of this size is filled once and kept: huge pages spare one page fault per 4 KiB,
     * which is most of the time that a big capture takes. The advice goes to the whole of malloc's
     * mapping (its header lies 16 bytes before the object): for a part of it the kernel would split
     * the mapping, mremap would then fail, and realloc would copy. Only advice, so errors do not
     * matter. */
    static void ask_for_huge_pages(char *start) {
    #ifdef MADV_HUGEPAGE
        uintptr_t first = (uintptr_t)start - 16;
        if (first & 4095)
            return; /* not a mapping of its own */
        madvise((void *)first, (malloc_usable_size(start) + 16 + 4095) & ~(size_t)4095, MADV_HUGEPAGE);
    #else
        (void)start;
    #endif
    }
    """
    void ask_for_huge_pages(char *) nogil
    Py_ssize_t read_bytes "read"(int, void *, size_t) nogil
    Py_ssize_t write_bytes "write"(int, const void *, size_t) nogil
    Py_ssize_t recv(int, void *, size_t, int) nogil
    Py_ssize_t send(int, const void *, size_t, int) nogil
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK
    enum: LONGEST_QUESTION
    enum: SHORT
    enum: ONE_AT_A_TIME
    short POLLIN

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    char *bytes_start "PyBytes_AS_STRING"(PyObject *)
    object PyErr_SetFromErrno(object)
    int PyErr_CheckSignals() except -1
    ctypedef struct PyTypeObject:
        void *tp_iternext
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

WOULD_BLOCK = -1
RESET = 2

cdef enum:
    CLOSED_MEANWHILE = -32768
    RESET_BY_PEER = 2


cdef Py_ssize_t read_some(int fd, char *where, size_t size, bint is_socket=False) except -2:
    """read(2) or recv(2): the count, 0 at the end, -1 when it would block.

    A socket may be shared with a child that was quicker, and is left in blocking mode.
    """
    cdef Py_ssize_t count
    while True:
        if is_socket and size <= SHORT:
            # It does not wait: letting other threads in, and waiting until they let us, would take longer.
            count = recv(fd, where, size, MSG_DONTWAIT)
        else:
            with nogil:
                count = recv(fd, where, size, MSG_DONTWAIT) if is_socket else read_bytes(fd, where, size)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return -1
        if errno == EIO:
            # A pty master whose last slave closed. Nobody writes now: that is the end of this
            # stream; whether the child is dead is another question.
            return 0
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()


cdef class ByteSink:
    """A bytes object that grows in place, so that the last copy of a big capture is never made."""
    cdef PyObject *data
    cdef size_t capacity
    cdef readonly size_t used

    def __cinit__(self):
        self.data = NULL
        self.capacity = 0
        self.used = 0

    def __dealloc__(self):
        Py_XDECREF(self.data)

    def __len__(self):
        return self.used

    cdef int reserve(self, size_t room) except -1:
        cdef size_t wanted
        if self.capacity - self.used >= room:
            return 0
        if self.data == NULL:
            self.data = new_bytes(NULL, room)
            self.capacity = room
            return 0
        # Address space is free and mremap moves pages instead of copying them, so big buffers
        # grow by four; what stays untouched is given back by finish().
        wanted = self.capacity * (4 if self.capacity >= (1 << 20) else 2)
        if wanted < self.used + room:
            wanted = self.used + room
        try:
            self.resize(wanted)
        except MemoryError:
            if wanted == self.used + room:
                raise
            self.resize(self.used + room)
        if self.capacity >= (8 << 20):
            ask_for_huge_pages(<char *>self.data)
        return 0

    cdef int resize(self, size_t size) except -1:
        # _PyBytes_Resize frees the object when it fails; keep what was read.
        try:
            _PyBytes_Resize(&self.data, size)
        except MemoryError:
            self.capacity = self.used = 0
            raise
        self.capacity = size
        return 0

    def fill(self, int fd, size_t size):
        """One read(2) of at most ``size`` bytes: the count, 0 at the end, -1 when it would block."""
        cdef Py_ssize_t count
        cdef char first[65536]
        if self.data == NULL and size <= sizeof(first):
            # Most outputs are short or empty: 64 KiB from the heap, only to give them back, cost more than the read.
            count = read_some(fd, first, size)
            if count > 0:
                self.reserve(count)
                memcpy(bytes_start(self.data), first, count)
                self.used = count
            return count
        self.reserve(size)
        count = read_some(fd, bytes_start(self.data) + self.used, size)
        if count > 0:
            self.used += count
        return count

    def fill_when_ready(self, int fd, size_t size, long long deadline, long long seen=-1):
        """Waits, then ``fill``; None at the deadline, -32768 when closed by another thread.

        -1 too when a descriptor was closed since ``closings_so_far()`` was ``seen``.
        """
        cdef short ready = wait_fd(fd, POLLIN, deadline, seen)
        if ready == -32767:
            return -1
        if ready == 0:
            return None
        if ready == -32768:
            return ready
        return self.fill(fd, size)

    def append(self, const unsigned char[::1] data):
        """Adds a copy of ``data``."""
        cdef size_t size = data.shape[0]
        if size:
            self.reserve(size)
            memcpy(bytes_start(self.data) + self.used, &data[0], size)
            self.used += size

    def finish(self):
        """The bytes, without a copy. The sink is empty afterwards."""
        cdef object result
        if self.data == NULL:
            return b""
        if self.capacity != self.used:
            _PyBytes_Resize(&self.data, self.used)
        result = <object>self.data
        Py_XDECREF(self.data)
        self.data = NULL
        self.capacity = self.used = 0
        return result


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
        """Waits, then ``fill``; None at the deadline, -32768 when closed by another thread.

        -1 too when a descriptor was closed since ``closings_so_far()`` was ``seen``.
        """
        cdef short ready = wait_fd(fd, POLLIN, deadline, seen)
        if ready == -32767:
            return -1
        if ready == 0:
            return None
        if ready == -32768:
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
            if ready == 0 or ready <= -32767:
                return None
            count = self.read_into(fd, size)
            if count == <Py_ssize_t>size or over(deadline):
                return self.next_line()

    def exchange(self, object line, int sink, int source, size_t size, long long deadline, bint crlf=False,
                 Py_ssize_t most=-1):
        """Writes a line (its newline is added if it lacks one) and reads one: ``(answer, taken)``.

        Both are of the buffer's form; the answer is without LF or CR LF. With ``crlf`` a line of text is sent with
        that. The answer is None when this cannot be done in one go: the line is long or of the wrong kind, not
        all of it was ``taken``, the wait ended without a line, or ``most`` bytes came without one. What is missing
        is then for the caller to do.
        """
        cdef Py_ssize_t taken
        answer = self.converse(line, sink, source, size, deadline, crlf, most, &taken)
        return answer, taken

    cdef object converse(self, object line, int sink, int source, size_t size, long long deadline, bint crlf,
                         Py_ssize_t most, Py_ssize_t *taken):
        cdef char out[LONGEST_QUESTION + 1]
        cdef const char *start
        cdef Py_ssize_t length = 0, count
        cdef short ready
        cdef bint text = self.form == AS_TEXT
        taken[0] = 0
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
            taken[0] = count if count > 0 else 0
            return None
        taken[0] = count
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
            self.make_room(size)
            count = read_at_first_look(source, self.memory + self.end, size, deadline, self.is_socket)
            if count > 0:
                self.end += count
                self.received += count
            else:
                ready = wait_fd(source, POLLIN, deadline, -1)
                if ready == 0 or ready <= -32767:
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
        """The lock that is held while something is sent in several steps; made when it is first asked for."""
        if self.lock is None:
            made = allocate_lock()
            if self.lock is None:
                self.lock = made
        return self.lock

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
            if ready == -32767 or self.source != fd:
                continue
            if ready == 0 or ready == CLOSED_MEANWHILE:
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
        if not ONE_AT_A_TIME or self.sink < 0 or (self.lock is not None and self.lock.locked()):
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
        cdef Py_ssize_t taken
        self.said = 0
        if self.source < 0 or self.sink < 0 or PyByteArray_GET_SIZE(self.pending):
            return None
        if by == -2:
            by = self.deadline()
        answer = self.converse(line, self.sink, self.source, SHORT, by, self.crlf, -1, &taken)
        self.taken += taken
        self.said = taken
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


cdef class HandleLines:
    """An iterator over the lines of a handle, which cuts out of its buffer what is there, and reads more from a socket.

    For the rest, and at the end, it asks the handle's own ``readline()``.
    """
    cdef ReadBuffer buffer
    cdef SocketBuffer socket
    cdef object readline

    def __init__(self, ReadBuffer buffer, readline):
        self.buffer = buffer
        self.socket = buffer if isinstance(buffer, SocketBuffer) else None
        self.readline = readline

    def __iter__(self):
        return self

    def __next__(self):
        line = self.buffer.next_line() if self.socket is None else self.socket.awaited_line()
        if line is None:
            line = self.readline()
            if not line:
                raise StopIteration
        return line


cdef class LineReader(ReadBuffer):
    """An iterator over lines without their terminators (LF or CR LF).

    A subclass gives ``_refill()``, which waits and fills or ends the buffer, and
    ``_line_too_long()``, which raises.
    """
    cdef object decode

    def __init__(self, bint text=False, Py_ssize_t limit=-1, decode=None):
        """Bytes, or UTF-8 text with surrogateescape, or what ``decode(bytes)`` makes of a line."""
        self.form = NO_LINES if decode is not None else AS_TEXT if text else AS_BYTES
        self.decode = decode
        self.limit = limit

    def __iter__(self):
        return self

    def __next__(self):
        cdef char *line
        cdef Py_ssize_t size, next_start
        while True:
            size = self.line_size()
            line = self.memory + self.start
            if size:
                next_start = self.start + size
                size = content_size(line, size)
            elif self.ended:
                size = self.end - self.start
                if size == 0:
                    # May raise: how the program ended decides whether this was a good end.
                    self._at_end()
                    raise StopIteration
                next_start = self.end
            else:
                if self.limit >= 0 and <Py_ssize_t>(self.end - self.start) > self.limit + 2:
                    self._line_too_long()
                self._refill()
                continue
            if self.limit >= 0 and size > self.limit:
                self._line_too_long()
            self.start = next_start
            if self.scanned < self.start:
                self.scanned = self.start
            if self.form == AS_BYTES:
                return PyBytes_FromStringAndSize(line, size)
            if self.form == AS_TEXT:
                return PyUnicode_DecodeUTF8(line, size, b"surrogateescape")
            return self.decode(PyBytes_FromStringAndSize(line, size))


def iterated_natively(type cls):
    """A decorator for subclasses of LineReader that leave ``__next__`` alone.

    The interpreter gives them a slot that looks ``__next__`` up for every line, which costs as much
    as making the line; this puts ours back.
    """
    (<PyTypeObject *>cls).tp_iternext = (<PyTypeObject *>LineReader).tp_iternext
    return cls
