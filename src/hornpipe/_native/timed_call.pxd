cdef void use_clock_hook(void (*hook)(void *) noexcept) noexcept
