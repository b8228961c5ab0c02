# Segments of shared memory: shmget(2), shmop(2), shmctl(2). A part of sysv.pyx.

cdef extern from *:
    """
    #include <sys/shm.h>

    #ifndef SHM_HUGE_SHIFT
    #define SHM_HUGE_SHIFT 26
    #endif
    """
    struct shmid_ds:
        ipc_perm shm_perm
        size_t shm_segsz
        long shm_atime, shm_dtime, shm_ctime
        int shm_cpid, shm_lpid
        unsigned long shm_nattch
    int c_lock "SHM_LOCK", c_unlock "SHM_UNLOCK", SHM_RDONLY
    int c_locked "SHM_LOCKED", c_doomed "SHM_DEST", c_hugetlb "SHM_HUGETLB", SHM_HUGE_SHIFT
    int shmget(int, size_t, int)
    void *shmat(int, const void *, int)
    int shmdt(const void *)
    int shmctl(int, int, shmid_ds *)

SHM_LOCK = c_lock
SHM_UNLOCK = c_unlock
SHM_LOCKED = c_locked
SHM_DEST = c_doomed
SHM_HUGETLB = c_hugetlb
HUGE_SHIFT = SHM_HUGE_SHIFT

cdef enum:
    LARGE = 1 << 18  # bytes from which copying gives the GIL away: some ten microseconds


def get_segment(int key, Py_ssize_t size, int flags):
    """shmget(2)."""
    return check(shmget(key, size, flags))


def segment_facts(int id):
    """shmctl(2), IPC_STAT: (key, uid, gid, cuid, cgid, mode), then size, attaches, pids (creator's, last), times."""
    cdef shmid_ds facts
    check(shmctl(id, IPC_STAT, &facts))
    return common(&facts.shm_perm), (facts.shm_segsz, facts.shm_nattch, facts.shm_cpid, facts.shm_lpid,
                                     facts.shm_atime, facts.shm_dtime, facts.shm_ctime)


def change_segment(int id, Py_ssize_t uid, Py_ssize_t gid, int mode):
    """shmctl(2), IPC_SET; -1 leaves a value as it is. All are written back: they are read first."""
    cdef shmid_ds facts
    check(shmctl(id, IPC_STAT, &facts))
    change(&facts.shm_perm, uid, gid, mode)
    check(shmctl(id, IPC_SET, &facts))


def control_segment(int id, int command):
    """shmctl(2), SHM_LOCK and SHM_UNLOCK."""
    check(shmctl(id, command, NULL))


def remove_segment(int id):
    """shmctl(2), IPC_RMID."""
    check(shmctl(id, IPC_RMID, NULL))


@auto_pickle(False)
cdef class Lease:
    """What a view of a segment belongs to. numpy's ndarray(buffer=view) keeps this alive, and not the view."""
    cdef Segment segment

    def __dealloc__(self):
        if self.segment is not None:
            self.segment.views -= 1


@auto_pickle(False)
cdef class Segment(Identified):
    """shmat(2) for as long as it lives or until it is detached, with the buffer protocol."""
    cdef char *at
    cdef readonly Py_ssize_t size
    cdef readonly bint read_only
    cdef Py_ssize_t views

    def _attach(self, int id, int key, bint created, Py_ssize_t size, bint read_only, Py_ssize_t address):
        cdef void *at = shmat(id, <void *>address, SHM_RDONLY if read_only else 0)
        if at == <void *>-1:
            PyErr_SetFromErrno(OSError)
        self.id, self.key, self.created = id, key, created
        self.at, self.size, self.read_only = <char *>at, size, read_only

    def _detach(self):
        """shmdt(2). False, and nothing is done, while somebody looks at the memory."""
        if self.views:
            return False
        if self.at != NULL:
            check(shmdt(self.at))
            self.at = NULL
        return True

    @property
    def address(self):
        """Where it is attached; 0 when it is not."""
        return <size_t>self.at

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.at == NULL:
            raise self._gone()
        if self.read_only and flags & PyBUF_WRITABLE:
            raise BufferError("the segment is attached read-only")
        cdef Lease lease = Lease.__new__(Lease)
        lease.segment = self
        self.views += 1
        buffer.buf = self.at
        buffer.obj = lease
        buffer.len = self.size
        buffer.readonly = self.read_only
        buffer.itemsize = 1
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = "B"
        buffer.ndim = 1
        buffer.shape = &self.size
        buffer.strides = &buffer.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL

    cdef int inside(self, Py_ssize_t offset, Py_ssize_t size) except -1:
        if self.at == NULL:
            raise self._gone()
        if offset < 0 or size < 0 or offset > self.size or size > self.size - offset:
            raise self._outside(offset, size)
        return 0

    cdef void copy(self, char *to, const char *source, Py_ssize_t size) noexcept:
        if size < LARGE:
            memmove(to, source, size)
            return
        self.views += 1  # another thread must not detach it now
        with nogil:
            memmove(to, source, size)
        self.views -= 1

    def read(self, Py_ssize_t offset=0, size=None):
        """Exactly ``size`` bytes from ``offset`` on, NULs and all; without ``size`` all that follow.

        ``ValueError`` for what is not inside of the segment, and when it has been detached.
        """
        cdef Py_ssize_t wanted = self.size - offset if size is None else size
        cdef bytes data
        self.inside(offset, wanted)
        if wanted < LARGE:
            return PyBytes_FromStringAndSize(self.at + offset, wanted)
        data = PyBytes_FromStringAndSize(NULL, wanted)
        self.copy(PyBytes_AS_STRING(data), self.at + offset, wanted)
        return data

    def write(self, data, Py_ssize_t offset=0, size=None):
        """Copy ``data``, bytes-like, to ``offset``. With ``size``, so many bytes are written: NULs follow what is shorter.

        ``ValueError`` for what is not inside of the segment, for data longer than ``size``, and when it has been
        detached; ``TypeError`` when it is attached read-only.
        """
        cdef Py_buffer given
        cdef Py_ssize_t room
        PyObject_GetBuffer(data, &given, PyBUF_SIMPLE)
        try:
            room = given.len if size is None else size
            self.inside(offset, room)
            if self.read_only:
                raise self._protected()
            if given.len > room:
                raise ValueError(f"{given.len} bytes do not fit into the {room} that are to be written")
            self.copy(self.at + offset, <const char *>given.buf, given.len)
            if room > given.len:
                memset(self.at + offset + given.len, 0, room - given.len)
        finally:
            PyBuffer_Release(&given)

    def __dealloc__(self):
        if self.at != NULL:
            shmdt(self.at)
