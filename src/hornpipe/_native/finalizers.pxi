# What is done for an object that was forgotten, and what a signal's handler raises meanwhile. A part of wait.pyx.

cdef extern from "Python.h":
    int Py_AddPendingCall(int (*)(void *) except -1, void *) except? -1


cdef int raise_now(void *handed_on) except -1:
    cdef object error = <object>handed_on
    Py_DECREF(error)
    raise error


cdef int finish(object body, object owner) except -1:
    """``body(owner)``. The interpreter prints what a finalizer raises, and goes on: Ctrl-C would be lost.

    So what only a handler raises, be it time that is over, is raised at the interpreter's next safe point, in the
    frame that has forgotten the object; and the body, which may have got no further than its entry, runs again.
    """
    cdef object handed_on = None
    cdef int tries = 2
    while tries:
        tries -= 1
        try:
            body(owner)
            tries = 0
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, TimeoutError) or not is_first_thread():
                raise
            handed_on = error
    if handed_on is not None:
        Py_INCREF(handed_on)
        if Py_AddPendingCall(raise_now, <void *>handed_on) < 0:
            Py_DECREF(handed_on)
            raise handed_on
    return 0


def finalizer(body):
    """A ``__del__`` that calls ``body(owner)``, which has to bear being called again."""
    def __del__(owner):
        finish(body, owner)
    return __del__


def let_go(owner):
    """A finalizer: ``owner._left_open()`` where ``owner._fd`` is still a descriptor; else no frame is entered."""
    if <int>getattr(owner, "_fd", -1) >= 0:
        finish(type(owner)._left_open, owner)
