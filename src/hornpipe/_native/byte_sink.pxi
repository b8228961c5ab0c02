# Output that is kept whole. A part of buffers.pyx.


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
