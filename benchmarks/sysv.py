"""System V objects: a semaphore taken and given, messages to oneself and to another, bytes into shared memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from benchmarks.contest import GIGABYTES_PER_SECOND, MIB, US, Measurement, Unit, ahead_of, at_least, at_most
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

NANOSECONDS = Unit("ns", lambda cost: cost * 1e9, "{:,}".format)
PIECE = b"x" * 64
# As many copies are made, and the fastest counts: memory is what varies most on a busy machine.
COPIES = 10


def semaphore(name: str, title: str, flags: str, peer: str) -> Measurement:
    made = Measurement(
        name,
        title,
        unit=NANOSECONDS,
        size=200_000,
        quick=20_000,
        peer=peer,
        turns=3,
        targets=[at_most(1.15, "C"), *ahead_of("sysv_ipc"), at_most(1.05, "perl semop", aim="level with Perl:")],
    )
    made.program("C", [c("sysv"), "SIZE", "undo" if flags else "sem"])
    made.program(
        "perl semop",
        perl(
            f"""
            use IPC::SysV qw(IPC_PRIVATE IPC_RMID SETVAL SEM_UNDO); my $flags = {flags or 0};
            my $id = semget(IPC_PRIVATE, 1, 0600) // die; semctl($id, 0, SETVAL, 1) // die;
            my ($take, $give) = (pack("s!s!s!", 0, -1, $flags), pack("s!s!s!", 0, 1, $flags));
            start_now();
            for (1 .. $size) {{ semop($id, $take) || die; semop($id, $give) || die }}
            semctl($id, 0, IPC_RMID, 0) // die;
            """
        ),
    )

    @made.contender("sysv_ipc")
    def taken_by_sysv_ipc(figures: Figures, size: int) -> None:
        import sysv_ipc

        sem = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX, initial_value=1)
        sem.undo = bool(flags)
        acquire, release = sem.acquire, sem.release
        try:
            with figures:
                for _ in range(size):
                    acquire()
                    release()
            expect(sem.value, 1)
        finally:
            sem.remove()

    return made


sem = semaphore("sem", "take a semaphore and give it back, {size} times", "", "sysv_ipc")
undo = semaphore(
    "sem-undo", "the same by a with block, given back at death (SEM_UNDO), {size} times", "SEM_UNDO", "sysv_ipc"
)


@sem.contender(US)
def taken(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.sysv.SemaphoreSet.create(initial=[1]) as sems:
        acquire, release = sems[0].acquire, sems[0].release
        with figures:
            for _ in range(size):
                acquire()
                release()
        expect(sems[0].value, 1)


@undo.contender(US)
def taken_by_with(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.sysv.SemaphoreSet.create(initial=[1]) as sems:
        lock = sems[0]
        with figures:
            for _ in range(size):
                with lock:
                    pass


msg = Measurement(
    "msg",
    "send 64 bytes to ourselves and receive them, {size} times",
    unit=NANOSECONDS,
    size=100_000,
    quick=10_000,
    peer="sysv_ipc",
    turns=3,
    targets=[at_most(1.20, "C"), *ahead_of("sysv_ipc"), at_most(1.05, "perl msgsnd", aim="level with Perl:")],
)
msg.program("C", [c("sysv"), "SIZE", "msg"])
msg.program(
    "perl msgsnd",
    perl(
        """
        use IPC::SysV qw(IPC_PRIVATE IPC_RMID); my $id = msgget(IPC_PRIVATE, 0600) // die; my ($text, $got) = "x" x 64;
        start_now();
        for (1 .. $size) { msgsnd($id, pack("l! a*", 1, $text), 0) || die; msgrcv($id, $got, 64, 0, 0) || die }
        msgctl($id, IPC_RMID, 0) // die; length($got) == 64 + length pack("l!", 1) or die;
        """
    ),
)


@msg.contender(US)
def sent_to_ourselves(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.sysv.MessageQueue.create() as queue:
        send, receive = queue.send, queue.receive
        with figures:
            for _ in range(size):
                send(PIECE)
                message = receive()
        expect(message.data, PIECE)


@msg.contender("sysv_ipc")
def sent_by_sysv_ipc(figures: Figures, size: int) -> None:
    import sysv_ipc

    queue = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX)
    try:
        with figures:
            for _ in range(size):
                queue.send(PIECE)
                message = queue.receive()
        expect(message, (PIECE, 1))
    finally:
        queue.remove()


chat = Measurement(
    "msg-chat",
    "64 bytes to another process and back over two queues, on one CPU, {size} times",
    unit=NANOSECONDS,
    size=30_000,
    quick=3_000,
    peer="sysv_ipc",
    one_cpu=True,
    turns=3,
    targets=[at_most(1.10, "C")],
)
chat.program("C", [c("sysv"), "SIZE", "chat"])
chat.program(
    "perl msgsnd",
    perl(
        """
        use IPC::SysV qw(IPC_PRIVATE IPC_RMID);
        my ($there, $back) = map { msgget(IPC_PRIVATE, 0600) // die } 1 .. 2; my ($text, $got) = "x" x 64;
        my $child = fork // die;
        if (!$child) {
            while (msgrcv($there, $got, 64, 0, 0)) { msgsnd($back, $got, 0) || die }
            require POSIX; POSIX::_exit(0);
        }
        start_now();
        for (1 .. $size) { msgsnd($there, pack("l! a*", 1, $text), 0) || die; msgrcv($back, $got, 64, 0, 0) || die }
        msgctl($there, IPC_RMID, 0) // die; waitpid $child, 0; msgctl($back, IPC_RMID, 0) // die; $? = 0;
        """
    ),
)


def talk(figures: Figures, size: int, ask: Callable[[], object], answer: Callable[[], None], end: tuple) -> object:
    """Time the asking; the other side answers until its queue is removed, which raises one of the `end`."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                answer()
        except end:
            os._exit(0)
        finally:
            os._exit(1)
    with figures:
        for _ in range(size):
            answered = ask()
    return answered, child


@chat.contender(US)
def talked(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def ask() -> object:
        send(PIECE)
        return receive()

    def answer() -> None:
        back.send(there.receive().data)

    with hp.sysv.MessageQueue.create() as back:
        with hp.sysv.MessageQueue.create() as there:
            send, receive = there.send, back.receive
            message, child = talk(figures, size, ask, answer, (hp.sysv.ObjectRemoved,))
        os.waitpid(child, 0)
        expect(message.data, PIECE)


@chat.contender("sysv_ipc")
def talked_by_sysv_ipc(figures: Figures, size: int) -> None:
    import sysv_ipc

    def ask() -> object:
        there.send(PIECE)
        return back.receive()

    def answer() -> None:
        back.send(there.receive()[0])

    there, back = (sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX) for _ in range(2))
    message, child = talk(figures, size, ask, answer, (sysv_ipc.ExistentialError,))
    there.remove()
    os.waitpid(child, 0)
    back.remove()
    expect(message, (PIECE, 1))


shm = Measurement(
    "shm",
    "write 64 bytes to shared memory and read them, {size} times",
    unit=NANOSECONDS,
    size=200_000,
    quick=20_000,
    peer="sysv_ipc",
    turns=3,
    targets=[
        *ahead_of("sysv_ipc"),
        *ahead_of("sysv_ipc memoryview", ours="hornpipe memoryview"),
        at_least(20, "perl shmwrite"),
    ],
)
shm.program("C", [c("sysv"), "SIZE", "shm"])
shm.program(
    "perl shmwrite",
    perl(
        """
        use IPC::SysV qw(IPC_PRIVATE IPC_RMID); my $id = shmget(IPC_PRIVATE, 4096, 0600) // die;
        my ($text, $got) = "x" x 64;
        start_now();
        for (1 .. $size) { shmwrite($id, $text, 0, 64) || die; shmread($id, $got, 0, 64) || die }
        shmctl($id, IPC_RMID, 0) // die; $got eq $text or die;
        """
    ),
    share=0.1,
)


@shm.contender(US)
def written(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.sysv.SharedMemory.create(size=4096) as segment:
        write, read = segment.write, segment.read
        with figures:
            for _ in range(size):
                write(PIECE)
                got = read(0, 64)
        expect(got, PIECE)


def through(view: memoryview, figures: Figures, size: int) -> None:
    with figures:
        for _ in range(size):
            view[:64] = PIECE
            got = bytes(view[:64])
    expect(got, PIECE)
    view.release()


@shm.contender("hornpipe memoryview")
def written_through_a_view(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.sysv.SharedMemory.create(size=4096) as segment:
        through(segment.buf, figures, size)


@shm.contender("sysv_ipc")
def written_by_sysv_ipc(figures: Figures, size: int) -> None:
    import sysv_ipc

    segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=4096)
    segment.remove()
    with figures:
        for _ in range(size):
            segment.write(PIECE)
            got = segment.read(64)
    expect(got, PIECE)


@shm.contender("sysv_ipc memoryview")
def written_through_a_view_by_sysv_ipc(figures: Figures, size: int) -> None:
    import sysv_ipc

    segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=4096)
    segment.remove()
    through(memoryview(segment), figures, size)


copy = Measurement(
    "shm-copy",
    "copy {size} into shared memory",
    unit=GIGABYTES_PER_SECOND,
    size=64 * MIB,
    quick=8 * MIB,
    peer="sysv_ipc",
    turns=3,
    warm=2.1,
    targets=[at_least(0.95, "C")],
)
copy.program("C", [c("sysv"), "SIZE", "copy"])
copy.program(
    "perl shmwrite",
    perl(
        """
        use IPC::SysV qw(IPC_PRIVATE IPC_RMID); my $text = "x" x $size;
        my $id = shmget(IPC_PRIVATE, $size, 0600) // die;
        shmwrite($id, $text, 0, $size) || die;
        start_now();
        shmwrite($id, $text, 0, $size) || die;
        shmctl($id, IPC_RMID, 0) // die;
        """
    ),
)


def fastest(figures: Figures, work: Callable[[], object]) -> None:
    """The time of the fastest of some, as the C program takes it."""
    work()
    with figures:
        pass
    seconds = []
    for _ in range(COPIES):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    figures.seconds = min(seconds)


@copy.contender(US)
def copied(figures: Figures, size: int) -> None:
    import hornpipe as hp

    data = b"x" * size
    with hp.sysv.SharedMemory.create(size=size) as segment:
        fastest(figures, lambda: segment.write(data))


@copy.contender("sysv_ipc")
def copied_by_sysv_ipc(figures: Figures, size: int) -> None:
    import sysv_ipc

    data = b"x" * size
    segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=size)
    segment.remove()
    fastest(figures, lambda: segment.write(data))


MEASUREMENTS = [sem, undo, msg, chat, shm, copy]
