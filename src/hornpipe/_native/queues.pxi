# Message queues: msgget(2), msgop(2), msgctl(2). A part of sysv.pyx.

cdef extern from *:
    """
    #include <sys/msg.h>

    #ifndef MSG_COPY
    #define MSG_COPY 040000
    #endif

    /* A message as the calls want it. */
    struct text { long type; char bytes[]; };
    /* In the stack; more of it than Linux's msgmax is not worth while. */
    #define ROOM 8192
    struct page { long type; char bytes[ROOM + 1]; };
    /* For the shortest way: a function that has more of its own is not inlined by gcc (see direct.h). */
    #define BRIEF 488
    struct note { long type; char bytes[BRIEF]; };

    /* At once or not at all. Where the kernel has one entry for all calls of System V (ipc(2)), the C library's. */
    static inline int send_now(int id, const struct text *letter, size_t size) {
    #ifdef SYS_msgsnd
        return (int)direct(SYS_msgsnd, id, (long)letter, (long)size, IPC_NOWAIT, 0);
    #else
        return msgsnd(id, letter, size, IPC_NOWAIT);
    #endif
    }
    static inline long receive_now(int id, struct text *letter, size_t size, long type, int flags) {
    #ifdef SYS_msgrcv
        return direct(SYS_msgrcv, id, (long)letter, (long)size, type, flags | IPC_NOWAIT);
    #else
        return msgrcv(id, letter, size, type, flags | IPC_NOWAIT);
    #endif
    }

    struct mail { int id; struct text *letter; size_t size; long type; int flags; };
    static long do_send(void *arguments, long *words) {
        struct mail *mail = arguments;
    #ifdef SYS_msgsnd
        if (words) {
            words[0] = SYS_msgsnd, words[1] = mail->id, words[2] = (long)mail->letter, words[3] = (long)mail->size;
            words[4] = mail->flags;
            return 0;
        }
    #endif
        return msgsnd(mail->id, mail->letter, mail->size, mail->flags);
    }
    static long do_receive(void *arguments, long *words) {
        struct mail *mail = arguments;
    #ifdef SYS_msgrcv
        if (words) {
            words[0] = SYS_msgrcv, words[1] = mail->id, words[2] = (long)mail->letter, words[3] = (long)mail->size;
            words[4] = mail->type, words[5] = mail->flags;
            return 0;
        }
    #endif
        return msgrcv(mail->id, mail->letter, mail->size, mail->type, mail->flags);
    }
    """
    struct msqid_ds:
        ipc_perm msg_perm
        long msg_stime, msg_rtime, msg_ctime
        unsigned long cbytes "__msg_cbytes"
        unsigned long msg_qnum, msg_qbytes
        int msg_lspid, msg_lrpid
    struct text:
        long type
        char bytes[1]
    enum:
        ROOM
        BRIEF
    struct page:
        char bytes[1]
    struct note:
        pass
    struct mail:
        int id
        text *letter
        size_t size
        long type
        int flags
    int MSG_NOERROR, MSG_EXCEPT, MSG_COPY
    int msgget(int, int)
    int msgctl(int, int, msqid_ds *)
    int send_now(int, const text *, size_t)
    long receive_now(int, text *, size_t, long, int)
    long do_send(void *, long *) noexcept nogil
    long do_receive(void *, long *) noexcept nogil

cdef enum:
    UNKNOWN = -2  # no deadline yet
    UNTRIED = 15  # receives that wait at once, after one that was tried in vain


def get_queue(int key, int flags):
    """msgget(2)."""
    return check(msgget(key, flags))


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
        self.id, self.key, self.created, self.room = id, key, created, BRIEF

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
        cdef note space
        cdef text *letter = <text *>&space
        cdef bint tried = False
        if type < 1:
            raise ValueError(f"a message's type is 1 or more, not {type}")
        if not is_time(timeout):
            self._deadline(timeout)
        # The case without any trouble, on the shortest way: it is measured beside C.
        if PyBytes_CheckExact(data) and PyBytes_GET_SIZE(data) <= BRIEF:
            letter.type = type
            memcpy(letter.bytes, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if send_now(self.id, letter, PyBytes_GET_SIZE(data)) == 0:
                return
            tried = errno == EAGAIN
        self.put(data, type, timeout, tried)

    @final
    cdef int put(self, data, long type, timeout, bint tried) except -1:
        """``tried``: in vain; it has to wait."""
        cdef Py_buffer given
        cdef mail sent
        cdef page space
        cdef text *letter = <text *>&space
        cdef long result = -1
        PyObject_GetBuffer(data, &given, PyBUF_SIMPLE)
        try:
            if <size_t>given.len > ROOM:
                letter = <text *>malloc(sizeof(long) + given.len)
                if letter == NULL:
                    raise MemoryError()
            letter.type = type
            memcpy(letter.bytes, given.buf, given.len)
            if not tried:
                result = send_now(self.id, letter, given.len)
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
            if letter != <text *>&space:
                free(letter)
            PyBuffer_Release(&given)
        return 0

    @final
    cdef Message take(self, long type, int flags, size_t most, bint whole, timeout):
        """``most`` bytes of a message; with ``whole`` all of it, however many. None if there is none at once."""
        cdef mail wanted
        cdef page space
        cdef text *letter
        cdef long result
        cdef long long deadline = UNKNOWN  # one for all tries
        cdef int error
        while True:
            if whole:
                most = self.room
            letter = <text *>&space if most <= sizeof(space.bytes) else <text *>malloc(sizeof(long) + most)
            if letter == NULL:
                raise MemoryError()
            try:
                result = receive_now(self.id, letter, most, type, flags)
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
                if letter != <text *>&space:
                    free(letter)
            if error == ENOMSG:
                return None
            if error == E2BIG and not whole:
                raise self._longer(most)
            if error != E2BIG:
                raise self._failed(error, "receive")
            # Longer than any so far. It has stayed where it was.
            self.room = ROOM if self.room < ROOM else max(2 * self.room, <size_t>self._largest())

    def receive(self, Py_ssize_t type=0, timeout=None, except_type=None, max_size=None, bint truncate=False):
        """Take a message out of the queue, waiting while there is none (msgrcv(2)).

        ``type=0`` is the oldest of all; above 0, the oldest of this type; below, of the lowest type up to
        ``-type``; ``except_type`` the oldest of any other. One that is longer than ``max_size`` bytes stays where
        it is (``LimitExceeded``), or loses its end with ``truncate``. ``TimeoutError`` when none comes within
        ``timeout`` seconds; ``ObjectRemoved`` when the queue has gone.
        """
        cdef mail wanted
        cdef note space
        cdef text *letter = <text *>&space
        cdef long result = -1
        cdef bint waits
        # The case without any trouble, on the shortest way: it is measured beside C.
        if timeout is None and except_type is None and max_size is None and not truncate and self.room == BRIEF:
            waits = self.vain > 0
            if waits:
                # Where one has had to wait, the next one mostly has to as well; and a call that waits is a try, too.
                self.vain -= 1
            else:
                result = receive_now(self.id, letter, BRIEF, type, 0)
                waits = result < 0 and errno == ENOMSG
                if waits:
                    self.vain = UNTRIED
            if waits:
                wanted.id, wanted.letter, wanted.size, wanted.type, wanted.flags = self.id, letter, BRIEF, type, 0
                result = timed(do_receive, &wanted, -1, CAN_BE_GUARDED)
            if result >= 0:
                return opened(letter, result)
            if errno != E2BIG:
                raise self._failed(errno, "receive")
        return self.get(type, timeout, except_type, max_size, truncate)

    @final
    cdef Message get(self, Py_ssize_t type, timeout, except_type, max_size, bint truncate):
        cdef Message message
        cdef int flags = 0
        cdef Py_ssize_t most = 0
        if not is_time(timeout):
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
