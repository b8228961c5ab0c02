cdef enum:
    LATE = -2
    BOUNDS_ITSELF = 1
    CAN_BE_GUARDED = 2

cdef long timed(
    long (*call)(void *, long *) noexcept nogil, void *arguments, long long deadline, int kind
) except? -3
cdef bint can_guard() noexcept
cdef void open_guard() noexcept
cdef long guarded(const long *words) noexcept nogil
cdef void use_clock_hook(void (*hook)(void *) noexcept) noexcept
cdef void interrupt_until_told(int number, long long first) noexcept
cdef void abandon() noexcept
cdef void expect_births(void (*what)(int) noexcept, const int *mark) noexcept
