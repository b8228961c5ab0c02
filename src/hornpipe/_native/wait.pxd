cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1
cdef bint over(long long deadline) noexcept
cdef long long closings_now() noexcept
cdef long long deadline_after(double seconds) noexcept
