cdef short wait_fd(int fd, short events, long long deadline, long long seen) except -1
cdef void keep_clock_signal(void (*hook)(void *) noexcept) noexcept
