# Lines, one after another. A part of buffers.pyx.

cdef extern from *:
    """
    /* Lines as bytes. Whoever goes through lines has mostly let go of each when he asks for the next but one: it is
     * made over then, since to free one and to allocate another takes as long as all the rest (as enumerate() does
     * with its pairs). Nobody can see it: where anybody has it, is looking at it, or has it as a key, that is a
     * reference. All lines of about a size are of one size underneath, that which the allocator gives them. */
    struct lines { PyObject *given[2]; Py_ssize_t room[2]; int next; };

    static Py_ssize_t room_for(Py_ssize_t size) {
        Py_ssize_t head = (Py_ssize_t)offsetof(PyBytesObject, ob_sval) + 1;
        return ((size + head + 15) & ~(Py_ssize_t)15) - head;
    }

    static PyObject *line_of(struct lines *lines, const char *from, Py_ssize_t size) {
        Py_ssize_t room = room_for(size);
        PyObject *line = lines->given[lines->next];
        /* One byte and none are for all to share. Without a GIL a count of one means little. */
        if (!ONE_AT_A_TIME || size < 2 || size > 400)
            return PyBytes_FromStringAndSize(from, size);
        if (!line || Py_REFCNT(line) != 1 || lines->room[lines->next] != room) {
            if (!(line = PyBytes_FromStringAndSize(NULL, room)))
                return NULL;
            Py_XSETREF(lines->given[lines->next], line);
            lines->room[lines->next] = room;
        }
        Py_SET_SIZE((PyVarObject *)line, size);
        #pragma GCC diagnostic push
        #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        ((PyBytesObject *)line)->ob_shash = -1; /* not asked for yet */
        #pragma GCC diagnostic pop
        memcpy(PyBytes_AS_STRING(line), from, (size_t)size);
        PyBytes_AS_STRING(line)[size] = 0;
        lines->next = !lines->next;
        Py_INCREF(line);
        return line;
    }

    static void let_go_of_lines(struct lines *lines) {
        Py_CLEAR(lines->given[0]);
        Py_CLEAR(lines->given[1]);
    }
    """
    struct lines:
        pass
    object line_of(lines *, const char *, Py_ssize_t)
    void let_go_of_lines(lines *)


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
    cdef lines given

    def __dealloc__(self):
        let_go_of_lines(&self.given)

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
                return line_of(&self.given, line, size)
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
