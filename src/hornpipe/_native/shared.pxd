from libc.stdint cimport int64_t


cdef class Numbers:
    cdef int64_t *numbers
    cdef readonly Py_ssize_t count
    cdef int64_t *place(self, Py_ssize_t index) except NULL
    cdef int64_t more(self, Py_ssize_t index, int64_t count) except? -1
