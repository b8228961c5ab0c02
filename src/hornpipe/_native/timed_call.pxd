cdef enum:
    LATE = -2

cdef long timed(
    long (*call)(void *) noexcept nogil, void *arguments, long long deadline, bint bounds_itself
) except? -3
cdef void use_clock_hook(void (*hook)(void *) noexcept) noexcept
cdef void end_calls_until_told(bint on) noexcept
cdef void abandon() noexcept
