cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1
cdef bint over(long long deadline) noexcept
