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
from posix import register_at_fork

from hornpipe._native.timed_call cimport BOUNDS_ITSELF, CAN_BE_GUARDED, LATE, guarded, timed

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/ipc.h>
    #include <sys/msg.h>
    #include <sys/sem.h>
    #include <sys/shm.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include "clock.h"

    #ifndef MSG_COPY
    #define MSG_COPY 040000
    #endif
    #ifndef SHM_HUGE_SHIFT
    #define SHM_HUGE_SHIFT 26
    #endif

    union semaphore_argument { int value; struct semid_ds *facts; unsigned short *values; };

    static int set_control(int id, int index, int command, union semaphore_argument argument) {
        return semctl(id, index, command, argument);
    }

    /* The calls that wait. Where the kernel has one entry for all of them (ipc(2)), none is guarded. */
    #ifndef SYS_semtimedop
    #define SYS_semtimedop -1
    #define SYS_msgsnd -1
    #define SYS_msgrcv -1
    #endif
    static long (*guarded_call)(const long *words);

    struct operations { int id; struct sembuf *list; size_t count; long long deadline; };
    static long do_operations(void *arguments, int guarded) {
        struct operations *operations = arguments;
        struct timespec limit, *left = NULL;
        if (operations->deadline >= 0) {
            long long ns = operations->deadline - monotonic_ns();
            if (ns < 0)
                ns = 0;
            limit.tv_sec = ns / 1000000000LL;
            limit.tv_nsec = ns % 1000000000LL;
            left = &limit;
        }
        if (guarded) {
            long words[6] = {SYS_semtimedop, operations->id, (long)operations->list, (long)operations->count, (long)left};
            return guarded_call(words);
        }
        return semtimedop(operations->id, operations->list, operations->count, left);
    }

    /* A message as the calls want it; more of it in the stack than Linux's msgmax is not worth while. */
    #define ROOM 8192
    struct text { long type; char bytes[ROOM + 1]; };

    struct mail { int id; struct text *letter; size_t size; long type; int flags; };
    static long do_send(void *arguments, int guarded) {
        struct mail *mail = arguments;
        if (guarded) {
            long words[6] = {SYS_msgsnd, mail->id, (long)mail->letter, (long)mail->size, mail->flags};
            return guarded_call(words);
        }
        return msgsnd(mail->id, mail->letter, mail->size, mail->flags);
    }
    static long do_receive(void *arguments, int guarded) {
        struct mail *mail = arguments;
        if (guarded) {
            long words[6] = {SYS_msgrcv, mail->id, (long)mail->letter, (long)mail->size, mail->type, mail->flags};
            return guarded_call(words);
        }
        return msgrcv(mail->id, mail->letter, mail->size, mail->type, mail->flags);
    }
    """
    struct ipc_perm:
        int key "__key"
        unsigned uid, gid, cuid, cgid, mode
    struct shmid_ds:
        ipc_perm shm_perm
        size_t shm_segsz
        long shm_atime, shm_dtime, shm_ctime
        int shm_cpid, shm_lpid
        unsigned long shm_nattch
    struct semid_ds:
        ipc_perm sem_perm
        long sem_otime, sem_ctime
        unsigned long sem_nsems
    struct msqid_ds:
        ipc_perm msg_perm
        long msg_stime, msg_rtime, msg_ctime
        unsigned long cbytes "__msg_cbytes"
        unsigned long msg_qnum, msg_qbytes
        int msg_lspid, msg_lrpid
    struct sembuf:
        unsigned short sem_num
        short sem_op, sem_flg
    union semaphore_argument:
        int value
        semid_ds *facts
        unsigned short *values
    struct operations:
        int id
        sembuf *list
        size_t count
        long long deadline
    enum:
        ROOM
    struct text:
        long type
        char bytes[1]
    struct mail:
        int id
        text *letter
        size_t size
        long type
        int flags
    int c_create "IPC_CREAT", c_exclusive "IPC_EXCL", c_private "IPC_PRIVATE", c_nowait "IPC_NOWAIT"
    int IPC_STAT, IPC_SET, IPC_RMID
    int c_undo "SEM_UNDO", GETALL, SETALL, SETVAL, GETVAL, GETPID, GETNCNT, GETZCNT
    int c_lock "SHM_LOCK", c_unlock "SHM_UNLOCK", SHM_RDONLY
    int c_locked "SHM_LOCKED", c_doomed "SHM_DEST", c_hugetlb "SHM_HUGETLB", SHM_HUGE_SHIFT
    int MSG_NOERROR, MSG_EXCEPT, MSG_COPY
    int shmget(int, size_t, int)
    void *shmat(int, const void *, int)
    int shmdt(const void *)
    int shmctl(int, int, shmid_ds *)
    int semget(int, int, int)
    int c_semop "semop"(int, sembuf *, size_t)
    int set_control(int, int, int, semaphore_argument)
    int msgget(int, int)
    int msgctl(int, int, msqid_ds *)
    int c_msgsnd "msgsnd"(int, const void *, size_t, int)
    ssize_t c_msgrcv "msgrcv"(int, void *, size_t, long, int)
    long long monotonic_ns()
    long (*guarded_call)(const long *) noexcept nogil
    long do_operations(void *, int) noexcept nogil
    long do_send(void *, int) noexcept nogil
    long do_receive(void *, int) noexcept nogil

cdef extern from "debts.h":
    struct c_debts "debts":
        int *owed
    c_debts *open_debts(int, size_t, int)
    void close_debts(c_debts *)
    void forget_debts(int)
    void debts_in_child()

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object)

guarded_call = guarded

IPC_CREAT = c_create
IPC_EXCL = c_exclusive
IPC_PRIVATE = c_private
IPC_NOWAIT = c_nowait
SEM_UNDO = c_undo
SHM_LOCK = c_lock
SHM_UNLOCK = c_unlock
SHM_LOCKED = c_locked
SHM_DEST = c_doomed
SHM_HUGETLB = c_hugetlb
HUGE_SHIFT = SHM_HUGE_SHIFT

cdef enum:
    LARGE = 1 << 18  # bytes from which copying gives the GIL away: some ten microseconds
    FEW = 8  # operations that need no memory of their own
    MOST = 32767  # SEMVMX
    UNKNOWN = -2  # no deadline yet
    UNTRIED = 15  # receives that wait at once, after one that was tried in vain


def _owe_nothing_in_child():
    """A forked child inherits no undo."""
    debts_in_child()


register_at_fork(after_in_child=_owe_nothing_in_child)


cdef int check(int result) except -1:
    if result < 0:
        PyErr_SetFromErrno(OSError)
    return result


cdef int check_set(int result, int id) except -1:
    """The same for a set, which owes and is owed nothing any more when it is gone."""
    if result < 0 and errno in (EINVAL, EIDRM):
        forget_debts(id)
    return check(result)


cdef tuple common(const ipc_perm *perm):
    return perm.key, perm.uid, perm.gid, perm.cuid, perm.cgid, perm.mode


cdef void change(ipc_perm *perm, long uid, long gid, int mode) noexcept:
    if uid >= 0:
        perm.uid = uid
    if gid >= 0:
        perm.gid = gid
    if mode >= 0:
        perm.mode = mode


def get_segment(int key, Py_ssize_t size, int flags):
    """shmget(2)."""
    return check(shmget(key, size, flags))


def get_set(int key, int count, int flags):
    """semget(2)."""
    return check(semget(key, count, flags))


def get_queue(int key, int flags):
    """msgget(2)."""
    return check(msgget(key, flags))


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


def set_facts(int id):
    """semctl(2), IPC_STAT: (key, uid, gid, cuid, cgid, mode), then count and the times of operation and change."""
    cdef semid_ds facts
    cdef semaphore_argument argument
    argument.facts = &facts
    check_set(set_control(id, 0, IPC_STAT, argument), id)
    return common(&facts.sem_perm), (facts.sem_nsems, facts.sem_otime, facts.sem_ctime)


def change_set(int id, Py_ssize_t uid, Py_ssize_t gid, int mode):
    """semctl(2), IPC_SET."""
    cdef semid_ds facts
    cdef semaphore_argument argument
    argument.facts = &facts
    check(set_control(id, 0, IPC_STAT, argument))
    change(&facts.sem_perm, uid, gid, mode)
    check(set_control(id, 0, IPC_SET, argument))


def remove_set(int id):
    """semctl(2), IPC_RMID."""
    cdef semaphore_argument argument
    argument.value = 0
    check_set(set_control(id, 0, IPC_RMID, argument), id)
    forget_debts(id)


def queue_facts(int id):
    """msgctl(2), IPC_STAT: (key, uid, gid, cuid, cgid, mode), then bytes, messages, limit, pids and times."""
    cdef msqid_ds facts
    check(msgctl(id, IPC_STAT, &facts))
    return common(&facts.msg_perm), (facts.cbytes, facts.msg_qnum, facts.msg_qbytes, facts.msg_lspid,
                                     facts.msg_lrpid, facts.msg_stime, facts.msg_rtime, facts.msg_ctime)


def change_queue(int id, Py_ssize_t uid, Py_ssize_t gid, int mode, Py_ssize_t limit):
    """msgctl(2), IPC_SET."""
    cdef msqid_ds facts
    check(msgctl(id, IPC_STAT, &facts))
    change(&facts.msg_perm, uid, gid, mode)
    if limit >= 0:
        facts.msg_qbytes = limit
    check(msgctl(id, IPC_SET, &facts))


def remove_queue(int id):
    """msgctl(2), IPC_RMID."""
    check(msgctl(id, IPC_RMID, NULL))


@auto_pickle(False)
cdef class Identified:
    """An object of the kernel's: its id and key, whether this one made it, and the process that is to remove it."""
    cdef readonly int id, key
    cdef readonly bint created
    cdef public int _maker

    def __cinit__(self):
        self.id = -1  # nobody's: 0 would be somebody's


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


@auto_pickle(False)
cdef class Semaphores(Identified):
    """semop(2) and semctl(2) on one set."""
    cdef Py_ssize_t count
    cdef c_debts *debts

    def _use(self, int id, int key, bint created, int count):
        self.debts = open_debts(id, count, created)
        if self.debts == NULL:
            raise MemoryError()
        self.id, self.key, self.created, self.count = id, key, created, count

    def __dealloc__(self):
        if self.debts != NULL:
            close_debts(self.debts)

    def __len__(self):
        return self.count

    cdef Py_ssize_t place(self, Py_ssize_t index) except -1:
        if index < 0 or index >= self.count:
            raise IndexError(f"semaphore {index} of a set of {self.count}")
        return index

    cdef int fill(self, sembuf *one, Py_ssize_t index, Py_ssize_t delta, int flags) except -1:
        one.sem_num = <unsigned short>self.place(index)
        cdef int owed = self.debts.owed[index]
        if not -MOST <= delta <= MOST:
            raise ValueError(f"a semaphore moves by at most {MOST} at once, not by {delta}")
        if flags & ~(c_undo | c_nowait):
            raise ValueError(f"flags are IPC_NOWAIT and SEM_UNDO, not {flags:#o}")
        one.sem_op, one.sem_flg = <short>delta, <short>flags
        # What was taken with undo and given back without is given back twice: now and at our end.
        if not flags & c_undo and (delta > 0 < owed or delta < 0 > owed):
            raise self._mixed(index, delta)
        return 0

    cdef int perform(self, sembuf *tries, Py_ssize_t count, timeout, bint tried, str doing) except -1:
        """``tries`` has room for twice ``count``: the second half are the same with IPC_NOWAIT.

        ``tried``: in vain; it has to wait.
        """
        cdef operations waiting
        cdef Py_ssize_t i
        cdef long result = -1
        if timeout is not None and not (isinstance(timeout, float) and <double>timeout >= 0):
            self._deadline(timeout)  # refuses what is no time
        if not tried:
            memcpy(tries + count, tries, count * sizeof(sembuf))
            for i in range(count, 2 * count):
                tries[i].sem_flg |= c_nowait
            result = c_semop(self.id, tries + count, count)
        if tried or result < 0 and errno == EAGAIN:
            if timeout == 0:
                raise self._expired(timeout, doing)
            waiting.id, waiting.list, waiting.count = self.id, tries, count
            waiting.deadline = self._deadline(timeout)
            result = timed(do_operations, &waiting, waiting.deadline, BOUNDS_ITSELF | CAN_BE_GUARDED)
            # EAGAIN is also said of an operation with IPC_NOWAIT (gotcha:Y6).
            if result == LATE or (
                result < 0 and errno == EAGAIN and 0 <= waiting.deadline <= monotonic_ns()
            ):
                raise self._expired(timeout, doing)
        if result < 0:
            raise self._failed(errno, doing)
        for i in range(count):
            if tries[i].sem_flg & c_undo:
                self.debts.owed[tries[i].sem_num] -= tries[i].sem_op
        return 0

    def op(self, list_of_operations, timeout=None, bint undo=False):
        """semop(2): all of ``[(index, delta), (index, delta, flags), ...]`` at once, or none of it.

        A delta above 0 gives, one below takes and waits until it can, and 0 waits for zero. ``TimeoutError`` when
        that is not possible within ``timeout`` seconds; ``ObjectRemoved`` when the set has gone. With ``undo``
        the kernel takes it all back when this process ends, however it does.

        >>> import hornpipe as hp
        >>> with hp.sysv.SemaphoreSet.create([2, 0]) as sems:
        ...     sems.op([(0, -1), (1, 1)], timeout=5)
        ...     sems.values
        [1, 1]
        """
        cdef sembuf few[2 * FEW]
        cdef sembuf *list = few
        cdef tuple operations = tuple(list_of_operations)  # nobody makes it longer meanwhile
        cdef Py_ssize_t i = 0, count = len(operations)
        cdef int flags = c_undo if undo else 0
        if count > FEW:
            list = <sembuf *>malloc(2 * count * sizeof(sembuf))
            if list == NULL:
                raise MemoryError()
        try:
            for each in operations:
                # Unpacked, which counts: an index would not be checked here.
                if len(each) == 2:
                    index, delta = each
                    more = 0
                else:
                    index, delta, more = each
                self.fill(list + i, index, delta, flags | <int><Py_ssize_t>more)
                i += 1
            if i == 0:
                raise ValueError("no operation was given")
            self.perform(list, i, timeout, False, "op")
        finally:
            if list != few:
                free(list)

    def _values(self):
        """semctl(2), GETALL."""
        cdef unsigned short *values = <unsigned short *>malloc(self.count * sizeof(unsigned short))
        cdef semaphore_argument argument
        if values == NULL:
            raise MemoryError()
        try:
            argument.values = values
            check(set_control(self.id, 0, GETALL, argument))
            return [values[i] for i in range(self.count)]
        finally:
            free(values)

    def _set_values(self, given):
        """semctl(2), SETALL; it takes back every undo."""
        cdef unsigned short *values
        cdef semaphore_argument argument
        cdef Py_ssize_t i = 0
        cdef tuple wanted = tuple(given)  # nobody makes it longer meanwhile
        if len(wanted) != self.count:
            raise ValueError(f"{len(wanted)} values for a set of {self.count}")
        values = <unsigned short *>malloc(self.count * sizeof(unsigned short))
        if values == NULL:
            raise MemoryError()
        try:
            for value in wanted:
                if not 0 <= value <= MOST:
                    raise self._too_high(value)
                values[i] = <unsigned short><Py_ssize_t>value
                i += 1
            argument.values = values
            check(set_control(self.id, 0, SETALL, argument))
            memset(self.debts.owed, 0, self.count * sizeof(int))
        finally:
            free(values)

    cdef int ask(self, Py_ssize_t index, int command) except -1:
        cdef semaphore_argument argument
        argument.value = 0
        return check(set_control(self.id, self.place(index), command, argument))

    def _value(self, Py_ssize_t index):
        """semctl(2), GETVAL."""
        return self.ask(index, GETVAL)

    def _set_value(self, Py_ssize_t index, Py_ssize_t value):
        """semctl(2), SETVAL; it takes back every undo of that semaphore."""
        cdef semaphore_argument argument
        if not 0 <= value <= MOST:
            raise self._too_high(value)
        argument.value = value
        check(set_control(self.id, self.place(index), SETVAL, argument))
        self.debts.owed[index] = 0

    def _pid(self, Py_ssize_t index):
        """semctl(2), GETPID."""
        return self.ask(index, GETPID)

    def _waiting(self, Py_ssize_t index, bint for_zero):
        """semctl(2), GETNCNT and GETZCNT."""
        return self.ask(index, GETZCNT if for_zero else GETNCNT)


@auto_pickle(False)
cdef class OneSemaphore:
    """One of a set."""
    cdef readonly Semaphores set
    cdef readonly Py_ssize_t index

    def __cinit__(self, Semaphores set not None, Py_ssize_t index):
        self.set, self.index = set, set.place(index)

    @final
    cdef int move(self, long delta, timeout, int flags, str doing) except -1:
        cdef sembuf one[2]
        cdef Semaphores set = self.set
        cdef bint tried = False
        # The case without any trouble, on the shortest way: it is measured beside C.
        cdef int *owed = &set.debts.owed[self.index]
        if -MOST <= delta <= MOST and (flags or (owed[0] <= 0 if delta > 0 else owed[0] >= 0)) and (
            timeout is None or isinstance(timeout, float) and <double>timeout >= 0
        ):
            one[0].sem_num, one[0].sem_op = <unsigned short>self.index, <short>delta
            one[0].sem_flg = <short>flags | c_nowait
            if c_semop(set.id, one, 1) == 0:
                if flags:
                    owed[0] -= delta
                return 0
            tried = errno == EAGAIN
        set.fill(one, self.index, delta, flags)
        return set.perform(one, 1, timeout, tried, doing)

    def acquire(self, Py_ssize_t count=1, timeout=None, bint undo=False):
        """Take ``count`` as soon as there are that many (semop(2)).

        ``TimeoutError`` when there are not within ``timeout`` seconds; ``ObjectRemoved`` when the set has gone.
        With ``undo`` the kernel gives them back when this process ends, however it does; ``with semaphore:``
        is that for one.

        >>> import hornpipe as hp
        >>> with hp.sysv.SemaphoreSet.create([1]) as sems:
        ...     sems[0].acquire(timeout=5)
        ...     sems[0].acquire(timeout=0)
        Traceback (most recent call last):
        TimeoutError: ...
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self.move(-count, timeout, c_undo if undo else 0, "acquire")

    def release(self, Py_ssize_t count=1, bint undo=False):
        """Give ``count`` back. What was taken with ``undo`` is given back with it, and the other way round."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if undo and self.set.debts.owed[self.index] < count:
            # The kernel would take it away again at our end.
            raise self.set._mixed(self.index, count)
        self.move(count, None, c_undo if undo else 0, "release")

    def wait_for_zero(self, timeout=None):
        """Wait until the value is 0 (semop(2)).

        ``TimeoutError`` when it is not within ``timeout`` seconds; ``ObjectRemoved`` when the set has gone.
        """
        self.move(0, timeout, 0, "wait_for_zero")

    def __enter__(self):
        self.move(-1, None, c_undo, "acquire")
        return self

    def __exit__(self, kind, error, trace):
        self.move(1, None, c_undo, "release")


@freelist(8)
cdef class Message:
    """What came out of a queue."""
    cdef readonly bytes data
    cdef readonly long type
    cdef readonly bint truncated

    def __init__(self, bytes data not None, long type, bint truncated=False):
        self.data, self.type, self.truncated = data, type, truncated

    def __repr__(self):
        cut = ", truncated=True" if self.truncated else ""
        return f"Message({self.data!r}, type={self.type}{cut})"

    def __eq__(self, other):
        if not isinstance(other, Message):
            return NotImplemented
        return (self.data, self.type, self.truncated) == (other.data, other.type, other.truncated)

    def __hash__(self):
        return hash((self.data, self.type, self.truncated))

    def __reduce__(self):
        return Message, (self.data, self.type, self.truncated)


cdef Message opened(text *letter, Py_ssize_t size):
    cdef Message message = Message.__new__(Message)
    message.type = letter.type
    message.data = PyBytes_FromStringAndSize(letter.bytes, size)
    return message


@auto_pickle(False)
cdef class Queue(Identified):
    """msgsnd(2) and msgrcv(2) on one queue."""
    cdef size_t room  # bytes of a message that receiving is ready for
    cdef Py_ssize_t holds  # bytes that it has room for when it is empty, as it was last heard
    cdef int vain  # receives that are not tried first, since the last try was in vain

    def _use(self, int id, int key, bint created):
        self.id, self.key, self.created, self.room = id, key, created, ROOM

    def send(self, data, Py_ssize_t type=1, timeout=None):
        """Put ``data``, bytes-like, into the queue, waiting while it is full (msgsnd(2)).

        ``type`` is a number from 1 up that receivers can choose by. ``TimeoutError`` when there is no room within
        ``timeout`` seconds; ``SystemLimit`` (a ``ValueError``) when it is larger than any message may be;
        ``ObjectRemoved`` when the queue has gone.

        >>> import hornpipe as hp
        >>> with hp.sysv.MessageQueue.create() as queue:
        ...     queue.send(b"later", type=2, timeout=5)
        ...     queue.send(b"now", timeout=5)
        ...     queue.receive(type=1, timeout=5).data
        b'now'
        """
        cdef Py_buffer given
        cdef mail sent
        cdef text space
        cdef text *letter = &space
        cdef long result = -1
        cdef bint tried = False
        if type < 1:
            raise ValueError(f"a message's type is 1 or more, not {type}")
        if timeout is not None and not (isinstance(timeout, float) and <double>timeout >= 0):
            self._deadline(timeout)
        if PyBytes_CheckExact(data) and PyBytes_GET_SIZE(data) <= <Py_ssize_t>sizeof(space.bytes):
            # The case without any trouble, on the shortest way: it is measured beside C.
            space.type = type
            memcpy(space.bytes, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if c_msgsnd(self.id, &space, PyBytes_GET_SIZE(data), c_nowait) == 0:
                return
            tried = errno == EAGAIN
        PyObject_GetBuffer(data, &given, PyBUF_SIMPLE)
        try:
            if <size_t>given.len > ROOM:
                letter = <text *>malloc(sizeof(long) + given.len)
                if letter == NULL:
                    raise MemoryError()
            letter.type = type
            memcpy(letter.bytes, given.buf, given.len)
            if not tried:
                result = c_msgsnd(self.id, letter, given.len, c_nowait)
            if tried or result < 0 and errno == EAGAIN:
                if given.len > self.holds:
                    self.holds = self._must_fit(given.len)
                sent.id, sent.letter, sent.size, sent.flags = self.id, letter, given.len, 0
                result = timed(do_send, &sent, self._deadline(timeout), CAN_BE_GUARDED) if timeout != 0 else LATE
                if result == LATE:
                    raise self._expired(timeout, "send")
            if result < 0:
                raise self._not_sent(errno, given.len)
        finally:
            if letter != &space:
                free(letter)
            PyBuffer_Release(&given)

    @final
    cdef Message take(self, long type, int flags, size_t most, bint whole, timeout):
        """``most`` bytes of a message; with ``whole`` all of it, however many. None if there is none at once."""
        cdef mail wanted
        cdef text space
        cdef text *letter
        cdef long result
        cdef long long deadline = UNKNOWN  # one for all tries
        cdef int error
        while True:
            if whole:
                most = self.room
            letter = &space if most <= sizeof(space.bytes) else <text *>malloc(sizeof(long) + most)
            if letter == NULL:
                raise MemoryError()
            try:
                result = c_msgrcv(self.id, letter, most, type, flags | c_nowait)
                if result < 0 and errno == ENOMSG and not flags & MSG_COPY:
                    wanted.id, wanted.letter, wanted.size, wanted.type, wanted.flags = self.id, letter, most, type, flags
                    if deadline == UNKNOWN and timeout != 0:
                        deadline = -1 if timeout is None else self._deadline(timeout)
                    result = timed(do_receive, &wanted, deadline, CAN_BE_GUARDED) if timeout != 0 else LATE
                    if result == LATE:
                        raise self._expired(timeout, "receive")
                if result >= 0:
                    return opened(letter, result)
                error = errno
            finally:
                if letter != &space:
                    free(letter)
            if error == ENOMSG:
                return None
            if error == E2BIG and not whole:
                raise self._longer(most)
            if error != E2BIG:
                raise self._failed(error, "receive")
            # Longer than any so far. It has stayed where it was.
            self.room = max(2 * self.room, <size_t>self._largest())

    def receive(self, Py_ssize_t type=0, timeout=None, except_type=None, max_size=None, bint truncate=False):
        """Take a message out of the queue, waiting while there is none (msgrcv(2)).

        ``type=0`` is the oldest of all; above 0, the oldest of this type; below, of the lowest type up to
        ``-type``; ``except_type`` the oldest of any other. One that is longer than ``max_size`` bytes stays where
        it is (``LimitExceeded``), or loses its end with ``truncate``. ``TimeoutError`` when none comes within
        ``timeout`` seconds; ``ObjectRemoved`` when the queue has gone.
        """
        cdef Message message
        cdef mail wanted
        cdef text space
        cdef long result
        cdef int flags = 0
        cdef bint waits
        cdef Py_ssize_t most = 0
        # The case without any trouble, on the shortest way: it is measured beside C.
        if timeout is None and except_type is None and max_size is None and not truncate:
            result = -1
            waits = self.vain > 0
            if waits:
                # Where one has had to wait, the next one mostly has to as well; and a call that waits is a try, too.
                self.vain -= 1
            else:
                result = c_msgrcv(self.id, &space, sizeof(space.bytes), type, c_nowait)
                waits = result < 0 and errno == ENOMSG
                if waits:
                    self.vain = UNTRIED
            if waits:
                wanted.id, wanted.letter, wanted.size, wanted.type = self.id, &space, sizeof(space.bytes), type
                wanted.flags = 0
                result = timed(do_receive, &wanted, -1, CAN_BE_GUARDED)
            if result >= 0:
                return opened(&space, result)
            if errno != E2BIG:
                raise self._failed(errno, "receive")
        if timeout is not None and not (isinstance(timeout, float) and <double>timeout >= 0):
            self._deadline(timeout)
        if except_type is not None:
            if type:
                raise ValueError("either type or except_type")
            type, flags = except_type, MSG_EXCEPT
            if type < 1:
                raise ValueError(f"a message's type is 1 or more, not {type}")
        if max_size is None:
            if truncate:
                raise ValueError("truncate needs max_size")
            return self.take(type, flags, 0, True, timeout)
        most = max_size
        if most < 0:
            raise ValueError(f"max_size must be 0 or more, not {most}")
        if not truncate:
            return self.take(type, flags, most, False, timeout)
        # One byte more than is wanted says whether something was cut off.
        message = self.take(type, flags | MSG_NOERROR, most + 1, False, timeout)
        if len(message.data) > most:
            message.data, message.truncated = message.data[:most], True
        return message

    def _forget(self):
        """How much it holds has been changed."""
        self.holds = 0

    def _peek(self, Py_ssize_t index):
        """msgrcv(2) with MSG_COPY: the message at that place, which stays; None if there are not so many."""
        return self.take(index, MSG_COPY, 0, True, 0)
