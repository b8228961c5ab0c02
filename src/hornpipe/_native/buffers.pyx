"""Memory that grows under a stream of bytes: read(2) into place, lines cut out in C.

No policy: when to wait, what to do at the end or over a limit is the caller's.
"""
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memmove
from _thread import RLock

from hornpipe._native.wait cimport (
    IS_CLOSED, IS_OUTDATED, closings_now, comes_at_first_look, deadline_after, over, read_at_first_look, read_now,
    wait_fd, waits_alone,
)

cdef extern from *:
    """
    #include <malloc.h>
    #include <poll.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <unistd.h>

    #define LONGEST_QUESTION 4095 /* with its newline it is written whole or not at all: PIPE_BUF */
    #define SHORT 16384 /* bytes that are copied sooner than another thread takes over and gives back */

    #ifdef Py_GIL_DISABLED
    #define ONE_AT_A_TIME 0
    #else
    #define ONE_AT_A_TIME 1
    #endif

    /* Memory of this size is filled once and kept: huge pages spare one page fault per 4 KiB,
     * which is most of the time that a big capture takes. The advice goes to the whole of malloc's
     * mapping (its header lies 16 bytes before the object): for a part of it the kernel would split
     * the mapping, mremap would then fail, and realloc would copy. Only advice, so errors do not
     * matter. */
    static void ask_for_huge_pages(char *start) {
    #ifdef MADV_HUGEPAGE
        uintptr_t first = (uintptr_t)start - 16;
        if (first & 4095)
            return; /* not a mapping of its own */
        madvise((void *)first, (malloc_usable_size(start) + 16 + 4095) & ~(size_t)4095, MADV_HUGEPAGE);
    #else
        (void)start;
    #endif
    }
    """
    void ask_for_huge_pages(char *) nogil
    Py_ssize_t write_bytes "write"(int, const void *, size_t) nogil
    Py_ssize_t recv(int, void *, size_t, int) nogil
    Py_ssize_t send(int, const void *, size_t, int) nogil
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK
    enum: LONGEST_QUESTION
    enum: SHORT
    enum: ONE_AT_A_TIME
    short POLLIN

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *, Py_ssize_t) except NULL
    char *bytes_start "PyBytes_AS_STRING"(PyObject *)
    object PyErr_SetFromErrno(object)
    int PyErr_CheckSignals() except -1
    ctypedef struct PyTypeObject:
        void *tp_iternext
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

cdef enum:
    RESET_BY_PEER = 2

RESET = RESET_BY_PEER


cdef Py_ssize_t read_some(int fd, char *where, size_t size, bint is_socket=False) except -2:
    """read(2) or recv(2): the count, 0 at the end, -1 when it would block, or when a signal's handler has run.

    A socket may be shared with a child that was quicker, and is left in blocking mode.
    """
    cdef Py_ssize_t count
    if is_socket and size <= SHORT:
        # It does not wait: letting other threads in, and waiting until they let us, would take longer.
        count = recv(fd, where, size, MSG_DONTWAIT)
    elif is_socket:
        with nogil:
            count = recv(fd, where, size, MSG_DONTWAIT)
    else:
        count = read_now(fd, where, size)
    if count >= 0:
        return count
    if errno == EINTR:
        # Not tried again from here: the handler may have closed it, or read into the same buffer, which then lies
        # somewhere else.
        PyErr_CheckSignals()
        return -1
    if errno == EAGAIN:
        return -1
    if errno == EIO:
        # A pty master whose last slave closed. Nobody writes now: that is the end of this
        # stream; whether the child is dead is another question.
        return 0
    PyErr_SetFromErrno(OSError)


# One module, so that a line that is cut out, read or sent is a call within it.
include "byte_sink.pxi"
include "read_buffer.pxi"
include "socket_buffer.pxi"
include "line_iterators.pxi"
include "intake.pxi"
