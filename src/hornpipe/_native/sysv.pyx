# cython: binding=False, embedsignature=True, embedsignature.format=clinic
# Methods that CPython calls without a detour; inspect reads their signatures in their documentation.
"""System V's shared memory, semaphore sets and message queues: svipc(7).

Every call that may wait is first tried without (IPC_NOWAIT, the GIL kept, as a try is shorter than giving it
away), and then goes through ``timed_call``. What is an error, and what it is called, is for the classes that
are made from these: they have ``_failed(errno, doing)`` and ``_expired(timeout, doing)``, which give the
exception, and ``_deadline(timeout)``. A caller's numbers are taken as ``Py_ssize_t``, which refuses a float; as
``int`` and ``long`` it would be cut.
"""
from cython cimport auto_pickle, final, freelist
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport E2BIG, EAGAIN, EIDRM, EINVAL, ENOMSG, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from hornpipe._native.signals import Held

from hornpipe._native.timed_call cimport BOUNDS_ITSELF, CAN_BE_GUARDED, LATE, expect_births, timed

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/ipc.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include "clock.h"
    #include "direct.h"
    """
    struct ipc_perm:
        int key "__key"
        unsigned uid, gid, cuid, cgid, mode
    int c_create "IPC_CREAT", c_exclusive "IPC_EXCL", c_private "IPC_PRIVATE", c_nowait "IPC_NOWAIT"
    int IPC_STAT, IPC_SET, IPC_RMID
    long long monotonic_ns()

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object)
    bint PyFloat_Check(object)
    double PyFloat_AS_DOUBLE(object)

IPC_CREAT = c_create
IPC_EXCL = c_exclusive
IPC_PRIVATE = c_private
IPC_NOWAIT = c_nowait


cdef int check(int result) except -1:
    if result < 0:
        PyErr_SetFromErrno(OSError)
    return result


cdef tuple common(const ipc_perm *perm):
    return perm.key, perm.uid, perm.gid, perm.cuid, perm.cgid, perm.mode


cdef void change(ipc_perm *perm, long uid, long gid, int mode) noexcept:
    if uid >= 0:
        perm.uid = uid
    if gid >= 0:
        perm.gid = gid
    if mode >= 0:
        perm.mode = mode


cdef inline bint is_time(timeout) noexcept:
    """Whether it needs no further look: None, or a float that is a timeout; of the rest ``_deadline`` says more."""
    return timeout is None or PyFloat_Check(timeout) and PyFloat_AS_DOUBLE(timeout) >= 0


@auto_pickle(False)
cdef class Identified:
    """An object of the kernel's: its id and key, whether this one made it, and the process that is to remove it."""
    cdef readonly int id, key
    cdef readonly bint created
    cdef public int _maker

    def __cinit__(self):
        self.id = -1  # nobody's: 0 would be somebody's

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace, /):
        """``_leave(error)``, as a whole: what is not removed now is there until somebody finds it. Were this Python's
        own code, a signal's handler could raise before the first line of it."""
        with Held():
            self._leave(error)


include "segments.pxi"
include "semaphores.pxi"
include "queues.pxi"
