# Sets of semaphores: semget(2), semop(2), semctl(2). A part of sysv.pyx.

cdef extern from *:
    """
    #include <sys/sem.h>

    union semaphore_argument { int value; struct semid_ds *facts; unsigned short *values; };

    static int set_control(int id, int index, int command, union semaphore_argument argument) {
        return semctl(id, index, command, argument);
    }

    /* At once or not at all. Where the kernel has one entry for all calls of System V (ipc(2)), the C library's. */
    static inline int operate_now(int id, struct sembuf *list, size_t count) {
        for (size_t i = 0; i < count; i++)
            list[i].sem_flg |= IPC_NOWAIT;
    #ifdef SYS_semop
        return (int)direct(SYS_semop, id, (long)list, (long)count, 0, 0);
    #else
        return semop(id, list, count);
    #endif
    }

    /* One operation without any trouble, on the shortest way: it is measured beside C. What is mixed (see `fill`) and
     * what fails goes the long one. */
    enum { MOVED, IN_VAIN, NOT_MOVED };
    struct place { int id; unsigned short index; int *owed; };
    __attribute__((always_inline)) static inline int move_now(struct place *place, long delta, int flags) {
        struct sembuf one = {place->index, (short)delta, (short)flags};
        if (delta != one.sem_op || (!flags && (delta > 0 ? *place->owed > 0 : *place->owed < 0)))
            return NOT_MOVED;
        if (operate_now(place->id, &one, 1) < 0)
            return errno == EAGAIN ? IN_VAIN : NOT_MOVED;
        if (flags)
            *place->owed -= one.sem_op;
        return MOVED;
    }

    struct operations { int id; struct sembuf *list; size_t count; long long deadline; struct timespec left; };
    static long do_operations(void *arguments, long *words) {
        struct operations *operations = arguments;
        struct timespec *left = time_left(operations->deadline, &operations->left);
    #ifdef SYS_semtimedop
        if (words) {
            words[0] = SYS_semtimedop, words[1] = operations->id, words[2] = (long)operations->list;
            words[3] = (long)operations->count, words[4] = (long)left;
            return 0;
        }
    #endif
        return semtimedop(operations->id, operations->list, operations->count, left);
    }
    """
    struct semid_ds:
        ipc_perm sem_perm
        long sem_otime, sem_ctime
        unsigned long sem_nsems
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
        MOVED
        IN_VAIN
        NOT_MOVED
    struct c_place "place":
        int id
        unsigned short index
        int *owed
    int c_undo "SEM_UNDO"
    int GETALL, SETALL, SETVAL, GETVAL, GETPID, GETNCNT, GETZCNT
    int semget(int, int, int)
    int set_control(int, int, int, semaphore_argument)
    int operate_now(int, sembuf *, size_t)
    int move_now(c_place *, long, int)
    long do_operations(void *, long *) noexcept nogil

cdef extern from "debts.h":
    struct c_debts "debts":
        int *owed
    c_debts *open_debts(int, size_t, int)
    void close_debts(c_debts *)
    void forget_debts(int)
    void debts_in_child(int) noexcept
    int debts_opened

SEM_UNDO = c_undo

cdef enum:
    FEW = 8  # operations that need no memory of their own
    MOST = 32767  # SEMVMX


expect_births(debts_in_child, &debts_opened)


cdef int check_set(int result, int id) except -1:
    """The same as ``check`` for a set, which owes and is owed nothing any more when it is gone."""
    if result < 0 and errno in (EINVAL, EIDRM):
        forget_debts(id)
    return check(result)


def get_set(int key, int count, int flags):
    """semget(2)."""
    return check(semget(key, count, flags))


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
        if not is_time(timeout):
            self._deadline(timeout)  # refuses what is no time
        if not tried:
            memcpy(tries + count, tries, count * sizeof(sembuf))
            result = operate_now(self.id, tries + count, count)
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
    cdef c_place place

    def __cinit__(self, Semaphores set not None, Py_ssize_t index):
        self.set, self.index = set, set.place(index)
        self.place.id, self.place.index, self.place.owed = set.id, <unsigned short>index, set.debts.owed + index

    @final
    cdef int move(self, int found, long delta, timeout, int flags, str doing) except -1:
        """What ``move_now`` has not done, as ``found`` says."""
        cdef sembuf one[2]
        self.set.fill(one, self.index, delta, flags)
        return self.set.perform(one, 1, timeout, found == IN_VAIN, doing)

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
        cdef int flags = c_undo if undo else 0
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        cdef int found = move_now(&self.place, -count, flags) if is_time(timeout) else NOT_MOVED
        if found != MOVED:
            self.move(found, -count, timeout, flags, "acquire")

    def release(self, Py_ssize_t count=1, bint undo=False):
        """Give ``count`` back. What was taken with ``undo`` is given back with it, and the other way round."""
        cdef int flags = c_undo if undo else 0
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if undo and self.place.owed[0] < count:
            # The kernel would take it away again at our end.
            raise self.set._mixed(self.index, count)
        cdef int found = move_now(&self.place, count, flags)
        if found != MOVED:
            self.move(found, count, None, flags, "release")

    def wait_for_zero(self, timeout=None):
        """Wait until the value is 0 (semop(2)).

        ``TimeoutError`` when it is not within ``timeout`` seconds; ``ObjectRemoved`` when the set has gone.
        """
        cdef int found = move_now(&self.place, 0, 0) if is_time(timeout) else NOT_MOVED
        if found != MOVED:
            self.move(found, 0, timeout, 0, "wait_for_zero")

    def __enter__(self):
        cdef int found = move_now(&self.place, -1, c_undo)
        if found != MOVED:
            self.move(found, -1, None, c_undo, "acquire")
        return self

    def __exit__(self, kind, error, trace, /):
        cdef int found = move_now(&self.place, 1, c_undo)
        if found != MOVED:
            self.move(found, 1, None, c_undo, "release")
