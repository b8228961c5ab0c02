"""Numbers that a process and its children count together: mmap(2) with atomic additions. No policy."""
from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>

    static int64_t *map_numbers(size_t count) {
        void *made = mmap(NULL, count * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        return made == MAP_FAILED ? NULL : made;
    }

    static int64_t add_to(int64_t *number, int64_t more) {
        return __atomic_add_fetch(number, more, __ATOMIC_SEQ_CST);
    }

    static int64_t value_of(int64_t *number) { return __atomic_load_n(number, __ATOMIC_SEQ_CST); }

    static void set_to(int64_t *number, int64_t value) { __atomic_store_n(number, value, __ATOMIC_SEQ_CST); }
    """
    int64_t *map_numbers(size_t)
    int64_t add_to(int64_t *, int64_t)
    int64_t value_of(int64_t *)
    void set_to(int64_t *, int64_t)
    int munmap(void *, size_t)

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object)


cdef class Numbers:
    """``count`` whole numbers of 64 bits, all 0; shared with the children that are forked from here on."""

    def __cinit__(self, Py_ssize_t count):
        self.numbers = NULL
        if count < 1:
            raise ValueError(f"count must be 1 or more, not {count}")
        self.count = count
        self.numbers = map_numbers(count)
        if self.numbers == NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.numbers != NULL:
            munmap(self.numbers, self.count * sizeof(int64_t))

    cdef int64_t *place(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} numbers, and no number {index}")
        return self.numbers + index

    cdef int64_t more(self, Py_ssize_t index, int64_t count) except? -1:
        return add_to(self.place(index), count)

    def add(self, Py_ssize_t index, int64_t more):
        """Adds, whoever else does at the same time; the sum."""
        return add_to(self.place(index), more)

    def __getitem__(self, Py_ssize_t index):
        return value_of(self.place(index))

    def __setitem__(self, Py_ssize_t index, int64_t value):
        set_to(self.place(index), value)
