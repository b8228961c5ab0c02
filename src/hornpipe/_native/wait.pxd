cdef short wait_fd(int fd, short events, long long deadline) except -1
