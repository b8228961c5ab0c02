"""Reading from and writing to one running command: lines, readers, writers."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import io
import os
import resource
import select
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hornpipe as hp
from hornpipe import wait
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, nonblocking, pipe
from hornpipe.handle import Handle
from hornpipe.lines import BYTES, TEXT, text_codec
from hornpipe.testing import stubborn
from hornpipe.testing.processes import children
from hornpipe.testing.stubborn import wait_gone

MIB = 1 << 20


def gated(gate: str) -> None:
    print("one", flush=True)
    with open(gate) as opened:
        opened.read()
    print("two")


@pytest.fixture
def gate(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "gate")
    return str(tmp_path / "gate")


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable", "pty"])
class TestLines:
    def command(self, mechanism: str, gate: str) -> Any:
        if mechanism == "callable":
            return hp.fn(gated, gate).with_options(timeout=30)
        return hp.sh('echo one; read x <"$GATE"; echo two', env={"GATE": gate}, pty=mechanism == "pty", timeout=30)

    def test_a_line_arrives_as_soon_as_its_newline_does(self, mechanism: str, gate: str) -> None:
        """perlipc:O2, gotcha:P3, gotcha:P4: the child cannot go on before we have seen its line."""
        with self.command(mechanism, gate).lines() as lines:
            assert next(lines) == "one"
            Path(gate).write_text("go\n")
            assert list(lines) == ["two"]

    def test_leaving_early_ends_the_child_without_an_error(self, mechanism: str, gate: str) -> None:
        """perlipc:O8."""
        with self.command(mechanism, gate).lines() as lines:
            assert next(lines) == "one"
        assert lines.status is not None


def test_a_last_line_needs_no_newline_and_cr_lf_is_one_terminator() -> None:
    """gotcha:P8"""
    assert list(hp.cmd("printf", "a\\r\\nb\\n\\nc").lines()) == ["a", "b", "", "c"]


@pytest.mark.parametrize(("head", "tail", "whole"), [("a\\r", "\\nb", ["a", "b"]), ("\\303", "\\251\\n", ["é"])])
def test_a_terminator_or_character_may_be_split_between_two_reads(
    head: str, tail: str, whole: list[str], gate: str
) -> None:
    """gotcha:P8"""
    script = f"printf 'x\\n{head}'; read x <\"$GATE\"; printf '{tail}'"
    with hp.sh(script, env={"GATE": gate}, timeout=30).lines() as lines:
        assert next(lines) == "x"
        Path(gate).write_text("go\n")
        assert list(lines) == whole


def test_undecodable_bytes_come_back_as_they_were() -> None:
    """gotcha:P8"""
    data = bytes(range(256))
    text = hp.cmd("cat", input=data).read()
    assert hp.cmd("cat", input=text).as_bytes().read() == data


@pytest.mark.parametrize("keep", [1, 2, 3, 7])
def test_a_line_that_somebody_has_stays_as_it_was(keep: int, tmp_path: Path) -> None:
    """Promise 7: one that nobody has is made over into another; a name, a key, a view and a set all have it."""
    wanted = [(b"%d " % number * 120)[: number * 7 % 450] for number in range(3000)]
    wanted += [b"%063d" % number for number in range(3000)]
    (tmp_path / "file").write_bytes(b"\n".join([*wanted, b""]))
    kept, keys, views, hashes, passed = [], {}, [], set(), 0
    for number, line in enumerate(hp.cmd("cat", tmp_path / "file").as_bytes().lines()):
        passed += line == wanted[number] and hash(line) == hash(wanted[number]) and len(line) == len(wanted[number])
        if number % keep == 0:
            kept.append(line)
        elif number % keep == 1:
            keys[line] = number
        elif number % keep == 2:
            views.append(memoryview(line))
        hashes.add(hash(line))
    assert passed == len(wanted)
    assert kept == wanted[::keep]
    assert list(keys) == list(dict.fromkeys(wanted[1::keep] if keep > 1 else []))
    assert views == (wanted[2::keep] if keep > 2 else [])
    assert hashes == set(map(hash, wanted))


@pytest.mark.parametrize("verb", ["lines", "reader"])
def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not(verb: str) -> None:
    """gotcha:C4"""
    assert [line.rstrip("\n") for line in getattr(hp.cmd("echo", "x" * 10, line_limit=10), verb)()] == ["x" * 10]
    with pytest.raises(hp.LimitExceeded), getattr(hp.cmd("echo", "x" * 11, line_limit=10), verb)() as lines:
        list(lines)


def test_a_line_beyond_the_limit_is_the_end_of_lines_and_of_their_program() -> None:
    """gotcha:C4: at once, also where no block is left. (What a reader has can still be read.)"""
    lines = hp.sh("echo 0123456789x; exec sleep 60", line_limit=10).lines()
    with pytest.raises(hp.LimitExceeded):
        next(lines)
    assert children() == []


def test_the_line_limit_holds_after_a_read_as_well() -> None:
    """gotcha:C4"""
    with pytest.raises(hp.LimitExceeded), hp.cmd("echo", "x" * 100, line_limit=10).reader() as file:
        file.read(1)
        file.readline()


def test_a_writer_whose_reader_has_gone_says_how_and_how_much() -> None:
    """perlipc:O5, gotcha:P1, gotcha:P6."""
    with pytest.raises(BrokenPipeError) as caught, hp.sh("exit 3").writer() as file:
        for _ in range(1000):
            file.write("x" * 4096)
    assert caught.value.status.code == 3
    assert 0 <= caught.value.taken < 4096000


def test_a_writer_into_a_shell_pipeline_checks_the_status(tmp_path: Path) -> None:
    """perlipc:O1."""
    with hp.sh("cat -v | sort", stdout=tmp_path / "out").writer() as file:
        file.write("b\na\n")
    assert (tmp_path / "out").read_text() == "a\nb\n"
    with pytest.raises(hp.CommandFailed), hp.sh("cat >/dev/null; exit 2").writer() as file:
        file.write("x")


def test_children_have_the_default_sigpipe() -> None:
    """gotcha:P2"""
    assert hp.sh("kill -PIPE $$", check=False).run().signal == 13


# Descriptors that others share (gotcha:P5)

_LOOK = "import os, sys; open(sys.argv[1], 'w').write(repr([os.get_blocking(number) for number in range(3)]))"


def look(path: str) -> None:
    Path(path).write_text(repr([os.get_blocking(number) for number in range(3)]))


def read_with_reader(command: Any) -> None:
    with command.reader() as file:
        file.read()


def write_with_writer(command: Any) -> None:
    with command.writer() as file:
        file.write("")


def converse(command: Any) -> None:
    with command.duplex(stderr=True) as both:
        list(both.events())


VERBS: dict[str, Callable[[Any], object]] = {
    "run": lambda command: command.run(),
    "read": lambda command: command.read(),
    "read with an input": lambda command: command.with_options(input="never read").read(),
    "capture": lambda command: command.capture(),
    "lines": lambda command: list(command.lines()),
    "reader": read_with_reader,
    "writer": write_with_writer,
    "duplex": converse,
    "start": lambda command: command.start().wait(),
    "stderr to ours and kept": lambda command: command.with_options(stderr=hp.TAIL).run(),
    "on a terminal": lambda command: command.with_options(pty=True).read(),
    "contained": lambda command: command.with_options(contain=True).read(),
    "first of a pipeline": lambda command: (command | hp.cmd("cat")).read(),
    "last of a pipeline": lambda command: (hp.cmd("echo") | command).read(),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
@pytest.mark.parametrize("mechanism", ["program", "callable"])
def test_a_child_has_blocking_streams(mechanism: str, verb: Callable[[Any], object], tmp_path: Path) -> None:
    """gotcha:P5: what is non-blocking at our end of a pipe is another open file than what the child has."""
    path = str(tmp_path / "seen")
    verb(hp.cmd(sys.executable, "-ISc", _LOOK, path) if mechanism == "program" else hp.fn(look, path))
    assert Path(path).read_text() == "[True, True, True]"


_SHARING = """
import os, hornpipe as hp
def look(where):
    seen = [os.get_blocking(number) for number in range(3)]
    assert seen == [True, True, True], (where, seen)
say = hp.sh("echo out; echo err >&2")
say.run(); look("run")
say.with_options(stderr=hp.TAIL).run(); look("TAIL")
say.start().wait(); look("start")
say.with_options(timeout=20).run(); look("a limit")
say.with_options(contain=True).run(); look("containment")
hp.cmd("head", "-c1", stdin=0).read(); look("our stdin, captured")
(hp.cmd("head", "-c1") | hp.cmd("cat")).run(); look("a pipeline between our stdin and our stdout")
with hp.cmd("cat").writer() as writer:
    look("an open writer")
    writer.write("x" * 100)
    writer.flush()
look("a closed writer")
with hp.cmd("cat", stderr=hp.TAIL).duplex() as both:
    look("an open duplex")
    both.ask("?")
look("a closed duplex")
with say.lines() as lines:
    look("open lines")
    assert list(lines) == ["out"]
look("closed lines")
hp.fn(print, "out").run(); look("a callable")
assert hp.fn(pow, 2, 3).call() == 8; look("call")
hp.cmd("true").background(); look("the background")
os._exit(0)
"""


def test_what_we_inherited_stays_blocking_for_those_who_share_it() -> None:
    """gotcha:P5: O_NONBLOCK belongs to the open file. Set on our stdin it would break the shell that we came from."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(3) for end in pipe()]
        stdin, feed, out, stdout, err, stderr = ends
        os.write(feed.fileno(), b"input")
        argv = [sys.executable, "-c", _SHARING]
        done = subprocess.run(argv, stdin=stdin.fileno(), stdout=stdout.fileno(), stderr=stderr.fileno(), timeout=30)
        told = os.read(err.fileno(), 65536).decode()
        assert done.returncode == 0, told
        assert told.count("err\n") == 6
        assert [os.get_blocking(end.fileno()) for end in (stdin, stdout, stderr)] == [True, True, True]
        assert os.read(out.fileno(), 65536).startswith(b"out\n")


def test_a_handle_on_what_others_share_leaves_it_blocking() -> None:
    """gotcha:P5"""
    reader, writer = pipe()
    with reader, writer, hp.Handle(None, Descriptor(os.dup(writer.fileno())), TEXT):
        assert os.get_blocking(writer.fileno())


# Somebody else writes to the same pipe (gotcha:P6)


class RobbedHandle(hp.Handle[bytes]):
    """Each time that poll has said "writable", a rival is quicker and fills the pipe; now and then all is read."""

    def __init__(self, source: Descriptor, sink: Descriptor) -> None:
        nonblocking(sink.fileno())
        super().__init__(None, sink, BYTES, deadline=after(20))
        self.reading = source
        self.received = bytearray()
        self.robberies = 0

    def drain(self) -> None:
        while wait.one(self.reading.fileno(), wait.READ, 0):
            self.received += os.read(self.reading.fileno(), 65536)

    def _wait_for_room(self) -> None:
        self.drain()
        super()._wait_for_room()
        if self.robberies % 4 < 3:  # robbed three times in a row, then let through
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self._writing_to(), b"-" * 4096)
        self.robberies += 1


def test_another_writer_may_be_quicker_after_writable_and_nothing_is_lost() -> None:
    """gotcha:P6: the write that poll promised would succeed says EAGAIN, or is a partial one."""
    data = b"0123456789" * 50_000
    reader, writer = pipe()
    with reader, RobbedHandle(reader, writer) as handle:
        handle.write(data)
        handle.flush()
        handle.drain()
        assert handle.taken == len(data)
        assert handle.robberies > 10
        assert bytes(handle.received).replace(b"-", b"") == data


def tally() -> None:
    counts: collections.Counter[int] = collections.Counter()
    while data := os.read(0, 65536):
        counts.update(data)
    print(counts[ord("a")], counts[ord("b")])


def write_small_pieces(size: int) -> None:
    for _ in range(size // 1000):
        os.write(1, b"b" * 1000)


def test_two_processes_that_write_much_to_one_pipe_lose_nothing() -> None:
    """gotcha:P6: the other one writes small pieces, which fit wherever there is room, and ours are always partial."""
    reader, writer = pipe()
    with hp.fn(tally).with_options(stdin=reader, timeout=20).reader() as counts:
        reader.close()
        # The same pipe, opened once more: our end is non-blocking, which is none of the rival's business.
        with Descriptor(os.open(f"/proc/self/fd/{writer.fileno()}", os.O_WRONLY)) as theirs:
            rival = hp.fn(write_small_pieces, 3 * MIB).with_options(stdout=theirs, timeout=20).start()
        with rival, hp.Handle(None, writer, BYTES, deadline=after(20)) as handle:
            handle.write(b"a" * (3 * MIB))
        assert handle.taken == 3 * MIB
        assert counts.read() == f"{3 * MIB} {3 * MIB // 1000 * 1000}\n"


def write_lines(letter: str, number: int) -> None:
    with hp.Handle(None, Descriptor(number), TEXT, by_line=True, deadline=after(20)) as handle:
        for _ in range(5000):
            print(letter * 79, file=handle)


def test_the_lines_of_two_processes_are_not_mixed_on_one_pipe() -> None:
    """gotcha:P6: a line of at most PIPE_BUF bytes is one write, and that is all or nothing."""
    reader, writer = pipe()
    number = writer.fileno()
    with contextlib.ExitStack() as stack:
        with writer:
            for letter in "ab":
                command = hp.fn(write_lines, letter, number).with_options(pass_fds=[number], timeout=20)
                stack.enter_context(command.start())
        with hp.Handle(reader, None, TEXT, deadline=after(20)) as handle:
            assert collections.Counter(handle) == {"a" * 79 + "\n": 5000, "b" * 79 + "\n": 5000}


@pytest.mark.parametrize("blocking", [True, False])
def test_the_lines_of_two_threads_are_not_mixed_and_none_is_lost(blocking: bool) -> None:
    """gotcha:P5: each line is several times what the pipe holds, so each has to wait for room in its middle."""
    reader, writer = pipe()
    if not blocking:
        nonblocking(writer.fileno())
    letters = "ab"
    out = Handle(None, writer, TEXT, deadline=after(30), by_line=True)
    lines = Handle(reader, None, TEXT, deadline=after(30))

    def write(letter: str) -> None:
        for _ in range(10):
            out.write(letter * 4 * 65536 + "\n")

    threads = [threading.Thread(target=write, args=letter) for letter in letters]
    with lines, out:
        for thread in threads:
            thread.start()
        seen = collections.Counter(lines.readline() for _ in range(20))
        for thread in threads:
            thread.join()
    assert seen == {letter * 4 * 65536 + "\n": 10 for letter in letters}


def test_what_was_written_before_the_end_is_read_after_it() -> None:
    """gotcha:P6: HUP comes together with unread data."""
    with hp.sh("head -c 60000 /dev/zero | tr '\\0' x; echo", timeout=30).duplex() as talk:
        assert wait_gone([talk.pid]) == []
        assert select_by_poll(talk, 0)
        assert talk.readline() == "x" * 60000 + "\n"


# Who waits for our handles by other means (gotcha:P7)


def select_by_poll(file: Any, seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def select_by_epoll(file: Any, seconds: float) -> bool:
    with select.epoll() as epoll:
        epoll.register(file, select.EPOLLIN)
        return bool(epoll.poll(seconds))


def select_by_selectors(file: Any, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def select_by_asyncio(file: Any, seconds: float) -> bool:
    async def wait_for_it() -> bool:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(file, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(file)
        return True

    return asyncio.run(wait_for_it())


SELECTORS = [select_by_poll, select_by_epoll, select_by_selectors, select_by_asyncio]


class TestWaitingByOtherMeans:
    """gotcha:P7: whatever waits has fileno()."""

    @pytest.mark.parametrize("selected", SELECTORS, ids=lambda function: function.__name__.rpartition("_")[2])
    @pytest.mark.parametrize("verb", ["lines", "reader", "duplex", "start"])
    def test_sees_output_when_it_comes_and_not_before(
        self, verb: str, selected: Callable[[Any, float], bool], gate: str
    ) -> None:
        """gotcha:P7"""
        command = hp.sh('read x <"$GATE"; echo out', env={"GATE": gate}, timeout=20)
        if verb == "start":
            command = command.with_options(stdout=hp.NULL)
        handle: Any = getattr(command, verb)()
        with handle:
            assert not selected(handle, 0)
            Path(gate).write_text("go\n")
            assert selected(handle, 10)
            if verb == "start":
                assert handle.wait(0)
            else:
                assert next(iter(handle)).rstrip("\n") == "out"
                assert selected(handle, 10)  # and the end
                assert list(handle) == []

    def test_is_not_told_of_a_handle_that_was_closed_while_children_live(self) -> None:
        """gotcha:P7: epoll goes on reporting a closed number while a copy of it lives; no child has one."""
        with select.epoll() as epoll, contextlib.ExitStack() as stack:
            stack.callback(lambda: [child.terminate() for child in started])
            reader = hp.cmd("yes").reader()
            epoll.register(reader, select.EPOLLIN)
            assert [number for number, _ in epoll.poll(10)] == [reader.fileno()]
            commands: list[Any] = [hp.cmd("sleep", "30"), hp.cmd("sleep", "30", contain=True), hp.fn(time.sleep, 30)]
            commands.append(hp.fn(time.sleep, 30).with_options(contain=True))
            started = [command.start() for command in commands]
            reader.close()
            assert epoll.poll(0) == []
            with pytest.raises(ValueError, match="closed"):
                epoll.register(reader, select.EPOLLIN)

    def test_is_refused_by_epoll_for_a_regular_file_which_we_read_all_the_same(self, tmp_path: Path) -> None:
        """gotcha:P7"""
        (tmp_path / "file").write_text("one\ntwo\n")
        with hp.Handle(Descriptor(os.open(tmp_path / "file", os.O_RDONLY)), None, TEXT, deadline=after(10)) as handle:
            with pytest.raises(PermissionError):
                select_by_epoll(handle, 0)
            assert (handle.readline(), handle.read()) == ("one\n", "two\n")
        with open(tmp_path / "file") as file:
            assert hp.cmd("cat", input=file, timeout=30).read() == "one\ntwo\n"
        assert (hp.cmd("cat", stdin=tmp_path / "file") | hp.cmd("cat")).read() == "one\ntwo\n"


@pytest.mark.usefixtures("with_and_without_pidfd")
def test_descriptors_beyond_1024_are_no_obstacle() -> None:
    """gotcha:P7: select(2) would refuse them, or worse."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1400:
        pytest.skip("not that many descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1400, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with hp.cmd("cat", timeout=30).duplex() as cat:
            assert cat.fileno() > 1024
            assert cat.ask("x") == "x"
        assert list(hp.cmd("seq", "2").lines()) == ["1", "2"]
        got = hp.sh("cat; echo err >&2", input="x", timeout=30).capture()
        assert (got.stdout, got.stderr) == ("x", "err\n")
        assert (hp.cmd("echo", "y") | hp.cmd("cat")).read() == "y\n"
        assert hp.fn(pow, 2, 3).call() == 8
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What a stream may be made of: line ends of every kind, and characters, whole, in halves, and such as are none.
ATOMS = [b"a", b"bc", b"\r", b"\n", b"\r\n", b"\n\r", b"\0", b"\xc3\xa9", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80"]
ATOMS += [b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\x81\x5c", b"\xed\xa0\x80"]
PACKETS = st.lists(st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6).map(b"".join), max_size=12)
CODECS = [
    ("utf-8", "surrogateescape"),
    ("utf-8", "replace"),
    ("utf-8", "backslashreplace"),
    ("utf-8-sig", "replace"),
    ("latin-1", "strict"),
    ("ascii", "surrogateescape"),
    ("shift_jis", "replace"),
    ("gb18030", "ignore"),
    ("cp037", "strict"),
    ("utf-16-le", "replace"),
    ("utf-32-be", "replace"),
    None,
]
CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline"]), st.integers(0, 7)),
        st.tuples(st.just("readlines"), st.integers(-1, 9)),
        st.tuples(st.sampled_from(["readline", "readlines"]), st.sampled_from([-1, None])),
        st.tuples(st.sampled_from(["next", "read_some"]), st.none()),
    ),
    max_size=12,
)


def oracle_of(data: bytes, codec: tuple[str, str] | None) -> Any:
    """The standard library's file over the same bytes; line ends as they are, as with ours."""
    raw = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    return raw if codec is None else io.TextIOWrapper(raw, *codec, newline="\n")


def assert_reads_alike(ours: Any, oracle: Any, calls: list[tuple[str, int | None]]) -> None:
    for name, size in [*calls, ("read", -1), ("read", 1), ("readline", -1), ("read", None)]:
        if name == "next":
            assert next(ours, None) == next(oracle, None)
        elif name == "read_some":  # as much as is there; never nothing before the end
            some = ours.read_some()
            assert some == oracle.read(len(some) or 1)
        else:
            # None is "all of it" everywhere in io but in TextIOWrapper.readline.
            assert getattr(ours, name)(size) == getattr(oracle, name)(-1 if size is None else size), (name, size)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: "-".join(codec) if codec else "bytes")
@settings(max_examples=150, deadline=None, database=None)
@given(PACKETS, CALLS)
def test_a_handle_reads_as_the_standard_library_does(
    codec: tuple[str, str] | None, packets: list[bytes], calls: list[tuple[str, int | None]]
) -> None:
    """perlipc:O2, gotcha:P8; the oracle is io.TextIOWrapper (or io.BufferedReader).

    The pipe is in packet mode (pipe(2), O_DIRECT), so each packet comes by a read(2) of its own, and where they are
    cut is where characters and line ends are split.
    """
    reader, writer = map(Descriptor, os.pipe2(os.O_CLOEXEC | os.O_DIRECT))
    with writer:
        for packet in packets:
            os.write(writer.fileno(), packet)
    with hp.Handle(reader, None, text_codec(*codec) if codec else BYTES) as handle:
        assert_reads_alike(handle, oracle_of(b"".join(packets), codec), calls)


@settings(max_examples=60, deadline=None, database=None)
@given(PACKETS, CALLS, st.sampled_from(CODECS))
def test_a_reader_of_a_command_reads_as_the_standard_library_does(
    packets: list[bytes], calls: list[tuple[str, int | None]], codec: tuple[str, str] | None
) -> None:
    """perlipc:O2, gotcha:P8."""
    data = b"".join(packets)
    cat: Any = hp.cmd("cat", input=data)
    with (cat.as_text(*codec) if codec else cat.as_bytes()).reader() as file:
        assert_reads_alike(file, oracle_of(data, codec), calls)


def test_a_character_cut_off_at_the_end_is_not_lost_between_calls() -> None:
    """gotcha:P8"""
    with hp.cmd("printf", "a\\360\\237\\230").reader() as file:
        assert file.read(2) == "a\udcf0"
        assert file.readline() == "\udc9f\udc98"


def test_a_partial_line_does_not_block_a_reader_of_characters() -> None:
    """gotcha:P4"""
    with hp.cmd(*stubborn.partial_line("Password: "), timeout=30).reader() as file:
        assert file.read(9) == "Password:"


def test_a_callable_writes_what_sys_stdout_is_there() -> None:
    """perlipc:O7."""
    assert hp.fn(lambda: sys.stdout.write("x")).read() == "x"
