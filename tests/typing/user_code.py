"""What users write, under ``mypy --strict``: every verb, and the types that come out of it. Checked, never run."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, assert_type

import hornpipe as hp


def work(times: int, loud: bool = False) -> list[str]:
    return ["work"] * times


def nothing() -> None:
    pass


# --- descriptions ---

ls = hp.cmd("ls", "-l", Path("/tmp"), b"raw", cwd="/", env={"LANG": "C", "DEBUG": None}, timeout=5)
ls_bytes = ls.as_bytes()
line = hp.sh("netstat -an 2>&1 | sort", stderr=hp.STDOUT, stdout=Path("log"), stdin=hp.NULL)
job = hp.fn(work, 7, loud=True)

assert_type(ls, hp.Command[str])
assert_type(ls_bytes, hp.Command[bytes])
assert_type(ls_bytes.as_text("latin-1"), hp.Command[str])
assert_type(line, hp.Command[str])
assert_type(job, hp.Function[list[str], str])
assert_type(job.as_bytes(), hp.Function[list[str], bytes])
assert_type(ls.with_options(user="nobody", contain=True, limits={"NOFILE": 64, "CPU": (1, 2)}), hp.Command[str])
assert_type(job.with_options(timeout=3), hp.Function[list[str], str])
assert_type(str(ls), str)

# --- the verbs of a command ---

assert_type(ls.run(), hp.ExitStatus)
assert_type(ls.read(), str)
assert_type(ls_bytes.read(), bytes)
assert_type(ls.capture().stdout, str)
assert_type(ls_bytes.capture().stderr, bytes)
assert_type(ls.capture().status, hp.ExitStatus)
assert_type(ls.capture().truncated, bool)

for text in ls.lines():
    assert_type(text, str)
for data in ls_bytes.lines():
    assert_type(data, bytes)
with ls.lines() as lines:
    assert_type(next(lines), str)

with ls.reader() as reader:
    assert_type(reader.readline(), str)
    assert_type(reader.read(), str)
    for text in reader:
        assert_type(text, str)
with ls_bytes.reader() as bytes_reader:
    assert_type(bytes_reader.read(10), bytes)

with ls.writer() as writer:
    print("hello", file=writer)
    writer.write("text")
with ls_bytes.writer() as bytes_writer:
    bytes_writer.write(b"data")

with hp.cmd("bc").duplex() as bc:
    assert_type(bc.ask("1 + 1"), str)
    assert_type(bc.ask("1 + 1", timeout=2), str)
    bc.send("quit\n")
    bc.close_input()
    assert_type(bc.read(), str)
with ls_bytes.duplex(stderr=True) as both:
    assert_type(both.ask(b"?"), bytes)
    for stream, data in both.events():
        assert_type(stream, Literal["stdout", "stderr"])
        assert_type(data, bytes)

process = ls.start()
assert_type(process, hp.Process)
assert_type(process.pid, int)
assert_type(process.fileno(), int)
assert_type(process.wait(5), hp.ExitStatus)
assert_type(process.poll(), hp.ExitStatus | None)
assert_type(process.kill("TERM"), bool)
assert_type(process.terminate(0.5), hp.ExitStatus | None)

detached = ls.background()
assert_type(detached, hp.Detached)
assert_type(detached.alive(), bool)
assert_type(detached.pid, int)

# --- callables ---

assert_type(job.call(), list[str])
assert_type(job.with_options(timeout=2, user="nobody").call(), list[str])
assert_type(hp.fn(pow, 2, 10).read(), str)
assert_type(hp.fn(lambda: 7).call(), int)
assert_type(hp.fn(nothing).start(), hp.Process)

hp.fn(work, "seven")  # type: ignore[arg-type]
hp.fn(work, 7, quiet=True)  # type: ignore[call-arg]

# --- pipelines ---

pipeline = hp.cmd("ps", "aux") | hp.cmd("sort") | hp.fn(nothing) | hp.cmd("head")
assert_type(pipeline, hp.Pipeline[str])
assert_type(pipeline.read(), str)
assert_type(pipeline.as_bytes().read(), bytes)
assert_type(pipeline.with_options(timeout=5, check=False).run(), hp.ExitStatus)
assert_type(pipeline.start(), hp.Job)
assert_type((hp.cmd("zcat", "x.gz") | hp.cmd("sort").as_bytes()).read(), bytes)
for text in pipeline.lines():
    assert_type(text, str)

# --- refused before it is run ---

hp.cmd("ls", colour=True)  # type: ignore[call-arg]
hp.cmd("ls", timeout="soon")  # type: ignore[arg-type]
hp.cmd(["ls", "-l"])  # type: ignore[arg-type]
hp.cmd("a") | "b"  # type: ignore[operator]

# --- System V ---


def shared() -> None:
    with hp.sysv.SharedMemory.create(100) as shm, hp.sysv.SemaphoreSet.create([1, 0]) as sems:
        assert_type(shm, hp.sysv.SharedMemory)
        assert_type(shm.read(0, 5), bytes)
        assert_type(shm.buf[0], int)
        total = hp.sysv.Cell(shm, "q", guard=sems[0])
        assert_type(total, hp.sysv.Cell[int])
        with total:
            total.value += 1
        assert_type(hp.sysv.Cells(shm, "d", 3)[:], list[float])
        sems.op([(0, 0), (1, +1, hp.sysv.IPC_NOWAIT)], timeout=1.5, undo=True)
        assert_type(sems[1].value, int)
        assert_type(sems.values, list[int])
    with hp.sysv.MessageQueue.open_or_create(hp.sysv.key_for("x")) as queue:
        queue.send(bytearray(b"x"), 7)
        assert_type(queue.receive(-10, timeout=1).data, bytes)
        assert_type(queue.stat().owner.mode, int)
    try:
        queue.send(b"x")
    except hp.sysv.SystemLimit as error:
        assert_type(error.value, int | None)
    except hp.sysv.ObjectRemoved as error:
        assert_type(error.id, int)
    entries: list[hp.sysv.Listed] = [*hp.sysv.segments(), *hp.sysv.semaphore_sets(), *hp.sysv.queues()]
    for entry in entries:
        if entry.owner.uid == 1000 and (since := hp.sysv.orphaned_since(entry)) is not None:
            assert_type(since, int)
            hp.sysv.remove(entry)
    assert_type(hp.sysv.queues()[0].owner.key, int)
    assert_type(hp.sysv.limits().MSGMAX, int | None)


# --- statuses and errors ---


def explain(status: hp.ExitStatus) -> str:
    assert_type(status.code, int | None)
    assert_type(status.core_dumped, bool)
    assert_type(status.raw, int | None)
    assert_type(status.known, bool)
    if status.signal is not None and status.signal == 15:
        return "asked to end"
    return "fine" if status else str(status)


def guarded() -> Iterator[str]:
    try:
        yield from hp.cmd("make", timeout=60).lines()
    except hp.CommandFailed as error:
        assert_type(error.status, hp.ExitStatus)
        assert_type(error.statuses, tuple[hp.ExitStatus, ...])
        assert_type(error.stderr, str | bytes | None)
    except hp.CommandTimeout as error:
        assert_type(error.status, hp.ExitStatus | None)
        assert_type(error.survivors, tuple[int, ...])
    except hp.SpawnError as error:
        assert_type(error.stage, str)


def become() -> None:
    hp.cmd("vi").exec()


# --- sockets ---


def sockets(context: ssl.SSLContext) -> None:
    with hp.connect("tcp://localhost:daytime(13)", timeout=5, tls=True) as client:
        assert_type(client, hp.Connection[str])
        assert_type(client.readline(timeout=1), str)
        assert_type(client.as_bytes().read_exactly(4), bytes)
        assert_type(client.tls, ssl.SSLObject | None)
        assert_type(client.peer, hp.Address | None)
        print("hello", file=client)
    with hp.listen("tcp://:0", "unix:///tmp/name", tls=context, timeout=30) as listener:
        assert_type(listener.address, hp.Address)
        for connection in listener:
            connection.handshake(timeout=5)
            assert_type(connection.ask("who?", timeout=5), str)
            assert_type(list(connection), list[str])
            assert_type(hp.cmd("fortune", stdin=connection, stdout=connection).run(), hp.ExitStatus)
            assert_type(hp.relay(connection, (0, 1)), hp.Relayed)
    with hp.open_datagram("udp://localhost:time(37)", timeout=1) as datagrams:
        assert_type(datagrams.ask(b""), hp.Datagram)
        assert_type(datagrams.receive_many(100), list[hp.Datagram])
        datagrams.send_many([b"one", b"two"], "udp://localhost:37")
        datagrams.send_many([(b"one", "udp://localhost:37")])
        datagrams.send_many(datagrams.receive_many())


# --- servers ---


def greet(client: hp.Connection[str]) -> None:
    print("hello", client.readline(), file=client)


def servers(context: ssl.SSLContext) -> None:
    assert_type(hp.serve("tcp://:9000", greet, model="prefork", workers=4, max_requests=1000), hp.Counts)
    hp.serve(["tcp://:9000", "unix:///tmp/name"], hp.cmd("fortune"), newline="crlf", user="nobody", tls=context)
    hp.serve(hp.listen(passed="web"), lambda client: client.read(), max_per_address=10, per_client_timeout=60)
    with hp.Server("tcp://127.0.0.1:0", greet, model="thread", idle_timeout=None) as server:
        assert_type(server.address, hp.Address)
        assert_type(server.counts.active, int)
        server.restart()
        assert_type(server.stop(), hp.Counts)
    options: hp.ServerOptions = {"model": "inline", "stop_grace": 1.0}
    hp.serve("tcp://:9000", greet, **options)


# --- daemons ---


def daemons() -> None:
    log = hp.cmd("logger", "--tag", "mine")
    with hp.daemonize("/run/mine.pid", stdout=log, stderr=log) as daemon:
        assert_type(daemon, hp.Daemon)
        daemon.ready()
    hp.daemonize(stdout=Path("/var/log/mine"), stderr=hp.fn(print).as_bytes() | hp.cmd("cat"))
    hp.daemonize(stdout=1, stderr=None, keep=[3])
