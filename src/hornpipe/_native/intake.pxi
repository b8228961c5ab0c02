cdef extern from "sought.h":
    """
    #include <fcntl.h>

    static int never_blocks(int fd) { return fcntl(fd, F_GETFL) & O_NONBLOCK; }
    """
    struct sought:
        pass
    void seek(sought *, const char *, size_t, int)
    int comes(const sought *, const char *, size_t, const char *, size_t, size_t)
    int is_ascii(const char *, size_t)
    int never_blocks(int)

cdef enum:
    FLOOD = 2048  # bytes of a read after which there will be more at once


cdef class Lookout:
    """What is looked for while more is read: ``[(string, folded), ...]``; a folded one is in small letters and stands
    for capital ones as well. Of ``text`` also anything beyond ASCII.

    Of a long string the last 16 bytes are looked for, so that what comes may be what is wanted, and need not.
    """
    cdef sought *strings
    cdef Py_ssize_t count
    cdef bint text

    def __cinit__(self, list strings, bint text=False):
        cdef bytes string
        self.count = 0
        self.text = text
        self.strings = <sought *>malloc((len(strings) + 1) * sizeof(sought))
        if self.strings == NULL:
            raise MemoryError()
        for string, folded in strings:
            if not string:
                raise ValueError("an empty string is always there")
            seek(&self.strings[self.count], string, len(string), folded)
            self.count += 1

    def __dealloc__(self):
        free(self.strings)

    cdef bint sees(self, bytes before, const char *data, size_t old, size_t size):
        """Whether one of them ends after the first ``old`` bytes of the data."""
        cdef Py_ssize_t i
        for i in range(self.count):
            if comes(&self.strings[i], PyBytes_AS_STRING(before), PyBytes_GET_SIZE(before), data, old, size):
                return True
        return self.text and not is_ascii(data + old, size - old)


cdef class Intake(ReadBuffer):
    """What has come of a stream in which nothing is of interest before something is seen."""
    cdef readonly bint seen
    """Whether the lookout has seen something in what was read last."""

    def read_on(self, int fd, Lookout lookout, bytes before, size_t size, size_t most, long long deadline,
                long long closed=-1):
        """Reads (read(2), of ``size`` bytes) until the lookout sees something, or ``most`` bytes or the end have come.

        What has come, b"" at the end; at the deadline what there is, None if nothing. ``wait.CLOSED`` when closed
        meanwhile, -1 when a descriptor was closed since ``closings_so_far()`` was ``closed``. ``before`` is what came just
        before. What was read when a signal handler raises stays, for ``take``.
        """
        cdef size_t old = 0, held
        cdef Py_ssize_t count
        cdef short ready
        cdef bint at_once = False
        self.seen = False
        while True:
            # Much is coming. A terminal gives out some 4 KiB and is filled again by a thread of the kernel, for which the
            # next read waits, though it does not block: whatever is done in between keeps that thread waiting.
            while at_once and self.end - self.start < most and not over(deadline):
                PyErr_CheckSignals()
                if closed >= 0 and closed != closings_now():
                    return -1
                count = self.read_into(fd, size)
                if count < FLOOD:
                    at_once = False
            held = self.end - self.start
            if held > old:
                self.seen = lookout.sees(before, self.memory + self.start, old, held)
                if self.seen or held >= most or self.ended or over(deadline):
                    break
                old = held
            elif self.ended:
                break
            ready = wait_fd(fd, POLLIN, deadline, closed)
            if ready == IS_CLOSED or ready == IS_OUTDATED:
                return -1 if ready == IS_OUTDATED else ready
            if ready == 0:
                if not held:
                    return None
                break
            count = self.read_into(fd, size)
            at_once = count >= FLOOD and never_blocks(fd)
        self.ended = False  # others may write there again
        return self.take(-1)
