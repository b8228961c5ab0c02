cdef enum:  # in the place of poll's bits, of which they are no combinations
    IS_CLOSED = -32768
    IS_OUTDATED = -32767

cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1
cdef bint over(long long deadline) noexcept
cdef long long closings_now() noexcept
cdef long long deadline_after(double seconds) noexcept
cdef bint waits_alone(long long deadline) noexcept
cdef bint comes_at_first_look(int fd, long long deadline, long long seen) except -1
cdef Py_ssize_t read_at_first_look(
    int fd, char *where, size_t size, long long deadline, bint is_socket, long long seen
) noexcept
cdef Py_ssize_t read_now(int fd, char *where, size_t size) noexcept
cdef int close_one(int fd) noexcept nogil
