"""Many datagrams in one system call: recvmmsg(2), sendmmsg(2), and udp(7)'s segments (UDP_SEGMENT, UDP_GRO).

No policy: nothing waits here, and what to do about errors is the caller's.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.errno cimport EAGAIN, errno
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

cdef extern from *:
    """
    #include <netinet/in.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>

    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif

    #define BATCH 64
    #define HEAD 512 /* bytes of each message that lie side by side: small ones stay within the cache */
    #define MOST_SEGMENTS 64      /* UDP_MAX_SEGMENTS of older kernels */
    #define LONGEST_MESSAGE 65507 /* what an IPv4 packet has room for */
    #define CONTROL CMSG_SPACE(sizeof(int))

    #ifdef __linux__
    #define HAVE_BATCHES 1
    #else
    #define HAVE_BATCHES 0
    struct mmsghdr {
        struct msghdr msg_hdr;
        unsigned int msg_len;
    };
    static int recvmmsg(int fd, struct mmsghdr *heads, unsigned int count, int flags, void *timeout) {
        (void)fd, (void)heads, (void)count, (void)flags, (void)timeout;
        errno = ENOSYS;
        return -1;
    }
    static int sendmmsg(int fd, struct mmsghdr *heads, unsigned int count, int flags) {
        (void)fd, (void)heads, (void)count, (void)flags;
        errno = ENOSYS;
        return -1;
    }
    #endif

    /* The size of the datagrams that the kernel has put together, or 0 if it is one. */
    static size_t size_of_segments(struct msghdr *head) {
        for (struct cmsghdr *each = CMSG_FIRSTHDR(head); each; each = CMSG_NXTHDR(head, each))
            if (each->cmsg_level == SOL_UDP && each->cmsg_type == UDP_GRO) {
                int size;
                memcpy(&size, CMSG_DATA(each), sizeof size);
                return size > 0 ? (size_t)size : 0;
            }
        return 0;
    }

    /* Ask the kernel to cut the message into datagrams of this size. */
    static void ask_for_segments(struct msghdr *head, char *control, uint16_t size) {
        struct cmsghdr *asked = (struct cmsghdr *)control;
        head->msg_control = control;
        head->msg_controllen = CMSG_SPACE(sizeof size);
        asked->cmsg_level = SOL_UDP;
        asked->cmsg_type = UDP_SEGMENT;
        asked->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(asked), &size, sizeof size);
    }
    """
    enum: HAVE_BATCHES, BATCH, HEAD, MOST_SEGMENTS, LONGEST_MESSAGE, CONTROL, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC
    ctypedef unsigned short uint16_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct sockaddr_storage:
        pass
    int recvmmsg(int, mmsghdr *, unsigned int, int, void *) nogil
    int sendmmsg(int, mmsghdr *, unsigned int, int) nogil
    size_t size_of_segments(msghdr *) nogil
    void ask_for_segments(msghdr *, char *, uint16_t) nogil

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_alloc)(PyTypeObject *, Py_ssize_t)
    void PyTuple_SET_ITEM(object, Py_ssize_t, object)
    object PyErr_SetFromErrno(object)

AVAILABLE = bool(HAVE_BATCHES)
LONGEST_BATCH = BATCH


cdef class Inbox:
    """Room for a batch of messages of at most ``size`` bytes.

    Of each a ``kind(data, sender, truncated, ())`` is made, a named tuple, with what ``address_of(raw name)``
    makes of its sender's name, which is remembered.
    """
    cdef mmsghdr *heads
    cdef iovec *pieces
    cdef sockaddr_storage *names
    cdef char *controls
    cdef char *starts
    cdef char *rests
    cdef readonly size_t size
    cdef object kind, address_of
    cdef dict known
    cdef bytes last_name
    cdef object last_sender

    def __cinit__(self, size_t size, type kind, address_of):
        cdef Py_ssize_t i
        self.heads = <mmsghdr *>calloc(BATCH, sizeof(mmsghdr))
        self.pieces = <iovec *>calloc(2 * BATCH, sizeof(iovec))
        self.names = <sockaddr_storage *>calloc(BATCH, sizeof(sockaddr_storage))
        self.controls = <char *>calloc(BATCH, CONTROL)
        self.starts = <char *>malloc(BATCH * HEAD)
        self.rests = <char *>malloc(BATCH * size)  # address space only, until something is written there
        if not (self.heads and self.pieces and self.names and self.controls and self.starts and self.rests):
            raise MemoryError()
        for i in range(BATCH):
            self.pieces[2 * i].iov_base = self.starts + i * HEAD
            self.pieces[2 * i].iov_len = HEAD
            self.pieces[2 * i + 1].iov_base = self.rests + i * size
            self.pieces[2 * i + 1].iov_len = size
            self.heads[i].msg_hdr.msg_iov = &self.pieces[2 * i]
            self.heads[i].msg_hdr.msg_iovlen = 2
            self.heads[i].msg_hdr.msg_name = &self.names[i]
            self.heads[i].msg_hdr.msg_control = self.controls + i * CONTROL
        self.size = size
        self.kind = kind
        self.address_of = address_of
        self.known = {}

    def __dealloc__(self):
        free(self.heads)
        free(self.pieces)
        free(self.names)
        free(self.controls)
        free(self.starts)
        free(self.rests)

    def receive(self, int fd, Py_ssize_t most, size_t longest, peer):
        """What is there, in a list: ``most`` messages, and those that came in one piece with the last of them.

        Of longer ones ``longest`` bytes. ``peer`` is who sends messages without a name.
        """
        cdef Py_ssize_t i
        cdef int count
        cdef list found = []
        if most > BATCH:
            most = BATCH
        for i in range(most):
            self.heads[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
            self.heads[i].msg_hdr.msg_controllen = CONTROL
        with nogil:
            count = recvmmsg(fd, self.heads, <unsigned int>most, MSG_DONTWAIT, NULL)
        if count < 0:
            if errno != EAGAIN:
                PyErr_SetFromErrno(OSError)
            return found
        for i in range(count):
            self.take_out(&self.heads[i], found, longest, peer)
        return found

    cdef int take_out(self, mmsghdr *head, list found, size_t longest, peer) except -1:
        cdef size_t length = head.msg_len, at = 0, piece = size_of_segments(&head.msg_hdr), taken
        cdef const iovec *pieces = head.msg_hdr.msg_iov
        cdef object sender = self.sender_of(&head.msg_hdr, peer)
        if piece == 0:
            piece = length
        while True:
            taken = piece if length - at > piece else length - at
            message = (<PyTypeObject *>self.kind).tp_alloc(<PyTypeObject *>self.kind, 4)
            give(message, 0, joined(pieces, at, longest if taken > longest else taken))
            give(message, 1, sender)
            give(message, 2, taken > longest or (head.msg_hdr.msg_flags & MSG_TRUNC) != 0)
            give(message, 3, ())
            found.append(message)
            at += taken
            if at >= length:
                return 0

    cdef object sender_of(self, msghdr *head, peer):
        cdef Py_ssize_t size = head.msg_namelen
        cdef bytes name
        if size == 0:
            return peer
        name = self.last_name
        # Mostly it is the same as before.
        if name is None or PyBytes_GET_SIZE(name) != size or memcmp(PyBytes_AS_STRING(name), head.msg_name, size):
            name = PyBytes_FromStringAndSize(<const char *>head.msg_name, size)
            sender = self.known.get(name)
            if sender is None:
                sender = self.address_of(name)
                if len(self.known) >= 1024:
                    self.known.clear()
                self.known[name] = sender
            self.last_name, self.last_sender = name, sender
        return self.last_sender


cdef inline bytes joined(const iovec *pieces, size_t at, size_t size):
    """The bytes from ``at`` on, which may lie in both pieces."""
    cdef const char *start = <const char *>pieces[0].iov_base
    cdef const char *rest = <const char *>pieces[1].iov_base
    cdef size_t first
    if at + size <= HEAD:
        return PyBytes_FromStringAndSize(start + at, size)
    if at >= HEAD:
        return PyBytes_FromStringAndSize(rest + at - HEAD, size)
    first = HEAD - at
    result = PyBytes_FromStringAndSize(NULL, size)
    memcpy(PyBytes_AS_STRING(result), start + at, first)
    memcpy(PyBytes_AS_STRING(result) + first, rest, size - first)
    return result


cdef inline void give(message, Py_ssize_t place, value):
    Py_INCREF(value)
    PyTuple_SET_ITEM(message, place, value)


cdef inline bytes item(list values, Py_ssize_t place):
    value = values[place]
    if not isinstance(value, bytes):
        raise TypeError(f"a message must be bytes, not {type(value).__name__}")
    return value


def send(int fd, list messages, names, Py_ssize_t start, bint segments):
    """Send ``messages`` (bytes) from ``start`` on, in one system call: how many went, -1 when none would without waiting.

    ``names`` is the raw name of whom they are for, or a list of one for each; ``None`` means the peer. With
    ``segments`` the kernel is given those of one size that follow each other to one receiver in one piece.
    """
    cdef Py_ssize_t left = len(messages) - start, i, j, used = 0
    cdef int count
    cdef bytes name
    cdef mmsghdr *heads
    cdef iovec *pieces
    cdef char *controls
    if left > BATCH * MOST_SEGMENTS:
        left = BATCH * MOST_SEGMENTS
    heads = <mmsghdr *>calloc(BATCH, sizeof(mmsghdr))
    pieces = <iovec *>malloc(left * sizeof(iovec))
    controls = <char *>calloc(BATCH, CONTROL)
    try:
        if not (heads and pieces and controls):
            raise MemoryError()
        i = 0
        while i < left and used < BATCH:
            if names is not None:
                name = names if isinstance(names, bytes) else names[start + i]
                heads[used].msg_hdr.msg_name = PyBytes_AS_STRING(name)
                heads[used].msg_hdr.msg_namelen = <unsigned int>PyBytes_GET_SIZE(name)
            heads[used].msg_hdr.msg_iov = &pieces[i]
            j = put_together(pieces, messages, names, start, i, left, segments)
            heads[used].msg_hdr.msg_iovlen = j - i
            if j - i > 1:
                ask_for_segments(&heads[used].msg_hdr, controls + used * CONTROL, <uint16_t>pieces[i].iov_len)
            used += 1
            i = j
        with nogil:
            count = sendmmsg(fd, heads, <unsigned int>used, MSG_DONTWAIT | MSG_NOSIGNAL)
        if count < 0:
            if errno == EAGAIN:
                return -1
            PyErr_SetFromErrno(OSError)
        left = 0
        for i in range(count):
            left += heads[i].msg_hdr.msg_iovlen
        return left
    finally:
        free(heads)
        free(pieces)
        free(controls)


cdef Py_ssize_t put_together(
    iovec *pieces, list messages, names, Py_ssize_t start, Py_ssize_t first, Py_ssize_t last, bint segments
) except -1:
    """Fill in the pieces that make one system message, from ``first`` on; the first that is not part of it."""
    cdef Py_ssize_t i = first
    cdef size_t size, total = 0
    cdef bytes data
    while True:
        data = item(messages, start + i)
        pieces[i].iov_base = PyBytes_AS_STRING(data)
        pieces[i].iov_len = PyBytes_GET_SIZE(data)
        total += pieces[i].iov_len
        i += 1
        # Of one size; the last may be shorter.
        if not segments or i == last or i - first == MOST_SEGMENTS or pieces[i - 1].iov_len != pieces[first].iov_len:
            return i
        size = PyBytes_GET_SIZE(item(messages, start + i))
        if size == 0 or size > pieces[first].iov_len or total + size > LONGEST_MESSAGE:
            return i
        if names is not None and not isinstance(names, bytes) and names[start + i] != names[start + first]:
            return i
