"""Each ready-made program and peer misbehaves exactly as its docstring says, seen with the standard library alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from hornpipe.testing import hostile, stubborn
from hornpipe.testing.mechanisms import without_pidfd
from hornpipe.testing.processes import look_at
from hornpipe.testing.stubborn import READY, find_marked, new_mark, wait_gone, wait_until

PIPE = subprocess.PIPE


@contextlib.contextmanager
def running(argv: list[str], **options: int) -> Iterator[subprocess.Popen[bytes]]:
    """A child with all pipes, which does not outlive the block."""
    with subprocess.Popen(argv, **{"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **options}) as child:  # type: ignore[call-overload]
        try:
            yield child
        finally:
            child.kill()


def out(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdout is not None
    return child.stdout


def write_to(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    os.write(child.stdin.fileno(), data)


def end_marked(mark: str) -> None:
    for pid in find_marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not find_marked(mark), what="the end of all that carry the mark")


def is_silent(file: IO[bytes], seconds: float = 0.05) -> bool:
    return not select.select([file], [], [], seconds)[0]


# Waiting and finding


def test_waiting_for_a_fact_is_bounded_and_names_it() -> None:
    with pytest.raises(TimeoutError, match=r"waited 0\.01 s in vain for the moon"):
        wait_until(lambda: False, timeout=0.01, what="the moon")


def test_a_process_that_does_not_end_is_reported_as_still_there() -> None:
    with running(["sleep", "60"]) as child:
        assert wait_gone([child.pid], timeout=0.01) == [child.pid]
        child.kill()
        assert wait_gone([child.pid]) == []


def test_waiting_for_ends_works_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with running(["sleep", "60"]) as child:
        assert wait_gone([child.pid], timeout=0.01) == [child.pid]
        child.kill()
        assert wait_gone([child.pid]) == []


def test_an_empty_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="every process"):
        find_marked("")


# Deaf and motionless


def test_ignores_term_survives_it_and_not_kill() -> None:
    with running(stubborn.ignores_term()) as child:
        assert out(child).readline() == READY
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            child.send_signal(number)
        assert wait_gone([child.pid], timeout=0.05) == [child.pid]
        child.kill()
        assert child.wait() == -signal.SIGKILL


def test_ignores_term_ignores_what_it_is_told_to() -> None:
    with running(stubborn.ignores_term("QUIT")) as child:
        assert out(child).readline() == READY
        child.send_signal(signal.SIGQUIT)
        child.terminate()
        assert child.wait() == -signal.SIGTERM


def test_stops_itself_ignores_term_until_it_is_continued() -> None:
    with running(stubborn.stops_itself()) as child:
        assert out(child).readline() == READY
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        child.terminate()
        assert wait_gone([child.pid], timeout=0.05) == [child.pid]
        child.send_signal(signal.SIGCONT)
        assert child.wait() == -signal.SIGTERM


def test_stops_itself_goes_on_when_continued() -> None:
    with running(stubborn.stops_itself()) as child:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        child.send_signal(signal.SIGCONT)
        assert out(child).read() == READY + b"continued\n"
        assert child.wait() == 0


def test_stops_itself_does_not_stay_for_ever() -> None:
    assert subprocess.run(stubborn.stops_itself(seconds=0.1), stdout=PIPE, check=True).stdout.endswith(b"continued\n")


def unread(descriptor: int) -> int:
    """Bytes in the pipe, whichever end of it this is."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    return int(count)


def test_never_reads_lets_its_stdin_fill_and_lives_on() -> None:
    with running(stubborn.never_reads()) as child:
        assert out(child).readline() == READY
        assert child.stdin is not None
        stdin = child.stdin.fileno()
        os.set_blocking(stdin, False)
        taken = os.write(stdin, b"x" * 1024 * 1024)  # as much as fits
        with pytest.raises(BlockingIOError):
            os.write(stdin, b"x" * 4096)
        assert wait_gone([child.pid], timeout=0.05) == [child.pid]  # time in which it could have ended, or read
        assert unread(stdin) == taken


def test_never_reads_does_not_mind_the_end_of_its_input_either() -> None:
    ours, theirs = os.pipe()
    with running(stubborn.never_reads(), stdin=ours) as child:
        assert out(child).readline() == READY
        os.write(theirs, b"x")
        os.close(theirs)
        assert wait_gone([child.pid], timeout=0.05) == [child.pid]
        assert unread(ours) == 1
        os.close(ours)


def test_slow_start_is_silent_for_so_long() -> None:
    started = time.monotonic()
    assert subprocess.run(stubborn.slow_start(0.1), stdout=PIPE, check=True).stdout == READY
    assert time.monotonic() - started >= 0.1


def test_waits_for_gate_is_silent_until_the_gate_opens(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running(stubborn.waits_for_gate(str(gate))) as child:
        assert is_silent(out(child))
        gate.open("w").close()
        assert out(child).read() == READY
        assert child.wait() == 0


# Too much, too little, too late


@pytest.mark.parametrize(
    ("stream", "sizes"), [("stdout", (99999, 0)), ("stderr", (0, 99999)), ("both", (99999, 99999))]
)
def test_floods_writes_exactly_so_much(stream: str, sizes: tuple[int, int]) -> None:
    done = subprocess.run(stubborn.floods(stream, size=99999), capture_output=True, check=True)
    assert (len(done.stdout), len(done.stderr)) == sizes


def test_floods_has_lines_of_the_length_asked_for_or_none() -> None:
    done = subprocess.run(stubborn.floods(size=100_000, line=10), stdout=PIPE, check=True)
    assert done.stdout == b"xxxxxxxxx\n" * 10_000
    done = subprocess.run(stubborn.floods(size=100_000, line=None), stdout=PIPE, check=True)
    assert done.stdout == b"x" * 100_000


def test_an_endless_flood_dies_of_pipe_when_its_reader_leaves() -> None:
    with running(stubborn.floods()) as child:
        out(child).read(1_000_000)
        out(child).close()
        assert child.wait() == -signal.SIGPIPE


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'stdin'"):
        stubborn.floods("stdin")


def test_partial_line_ends_neither_its_line_nor_the_file() -> None:
    with running(stubborn.partial_line("Password: ")) as child:
        assert os.read(out(child).fileno(), 100) == b"Password: "
        assert is_silent(out(child))


def test_says_writes_both_streams_and_exits_as_told() -> None:
    done = subprocess.run(stubborn.says("o%s\\n\n", "-e", code=7), capture_output=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"o%s\\n\n", b"-e", 7)


def test_closes_stdin_early_gives_its_writer_a_broken_pipe_while_it_lives() -> None:
    with running(stubborn.closes_stdin_early(after=3, seconds=30)) as child:
        write_to(child, b"abc")
        assert out(child).readline() == READY
        with pytest.raises(BrokenPipeError):
            write_to(child, b"d")
        assert child.poll() is None


# Partners in a conversation


def test_echo_lines_answers_each_line_at_once() -> None:
    with running(stubborn.echo_lines()) as child:
        for line in (b"one\n", b"two\n"):
            write_to(child, line)
            assert out(child).readline() == line
        assert child.communicate(b"last, without newline")[0] == b"last, without newline"


def test_answers_at_eof_is_silent_before() -> None:
    with running(stubborn.answers_at_eof()) as child:
        write_to(child, b"b\na\n")
        assert is_silent(out(child))
        assert child.communicate()[0] == b"a\nb\n"


def test_buffers_in_blocks_keeps_a_line_back_on_a_pipe() -> None:
    with running(stubborn.buffers_in_blocks()) as child:
        write_to(child, b"line\n")
        assert is_silent(out(child))
        assert child.communicate()[0] == b"line\n"


# Ways to end


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_exits_with_its_code(code: int) -> None:
    assert subprocess.run(stubborn.exits(code), check=False).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "PIPE", "SEGV", "RTMIN"])
def test_dies_by_its_signal(name: str) -> None:
    assert subprocess.run(stubborn.dies_by(name), check=False).returncode == -signal.Signals[f"SIG{name}"]


def test_dies_by_its_signal_even_when_started_with_it_ignored_and_blocked() -> None:
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        assert subprocess.run(stubborn.dies_by(15), check=False).returncode == -15
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGTERM, old)


# Families


def test_a_grandchild_keeps_the_pipes_when_the_child_has_exited() -> None:
    mark = new_mark()
    with running(stubborn.grandchild_keeps_pipes(mark=mark)) as child:
        assert child.wait() == 0
        assert out(child).readline() == READY
        assert is_silent(out(child))  # neither data nor an end of file
        (grandchild,) = find_marked(mark)
        assert os.getpgid(grandchild) == os.getpgrp()
        os.kill(grandchild, signal.SIGTERM)
        assert out(child).read() == b""


def test_a_grandchild_that_keeps_the_pipes_may_ignore_term() -> None:
    mark = new_mark()
    with running(stubborn.grandchild_keeps_pipes(mark=mark, ignores_term=True)) as child:
        assert out(child).readline() == READY
        child.wait()
        (grandchild,) = find_marked(mark)
        os.kill(grandchild, signal.SIGTERM)
        assert is_silent(out(child))
        os.kill(grandchild, signal.SIGKILL)
        assert out(child).read() == b""


def test_a_grandchild_goes_by_itself_after_its_time() -> None:
    with running(stubborn.grandchild_keeps_pipes(seconds=0.1)) as child:
        assert out(child).read() == READY


@pytest.mark.parametrize("keeps_pipes", [True, False])
def test_a_grandchild_in_a_new_session_is_out_of_reach_of_our_group(keeps_pipes: bool) -> None:
    mark = new_mark()
    program = stubborn.grandchild_in_new_session(mark=mark, keeps_pipes=keeps_pipes)
    with running(program) as child:
        assert child.wait() == 0
        assert out(child).readline() == READY
        (grandchild,) = find_marked(mark)
        assert os.getsid(grandchild) == grandchild
        assert is_silent(out(child)) is keeps_pipes
        end_marked(mark)


def test_a_lingering_child_stays_beside_its_grandchild() -> None:
    mark = new_mark()
    with running(stubborn.grandchild_in_new_session(mark=mark, lingers=True)) as child:
        assert out(child).readline() == READY
        assert len(find_marked(mark)) == 2
        assert child.pid in find_marked(mark)
        end_marked(mark)


def test_a_complete_daemon_has_nothing_of_ours_left() -> None:
    mark = new_mark()
    r, w = os.pipe()
    os.set_inheritable(w, True)
    with running(stubborn.daemonizes_completely(mark=mark), pass_fds=(w,)) as child:  # type: ignore[arg-type]
        os.close(w)
        assert out(child).readline() == READY
        assert child.wait() == 0
        (daemon,) = find_marked(mark)
        seen = look_at(daemon)
        assert seen is not None
        assert seen.parent != os.getpid()
        assert os.getsid(daemon) not in {os.getsid(0), daemon}  # a session of its own, which it does not lead
        assert os.getpgid(daemon) != os.getpgrp()
        assert Path(f"/proc/{daemon}/environ").read_bytes() == b""
        # The descriptors that its interpreter opens while it starts are not ours.
        assert os.read(r, 1) == b""
        assert out(child).read() == b""
        os.close(r)
        end_marked(mark)


def test_a_moving_target_is_never_long_the_same_process() -> None:
    mark = new_mark()
    with running(stubborn.keeps_moving(mark=mark, seconds=0.5)) as child:
        assert out(child).readline() == READY
        assert child.wait() == 0
        seen: set[int] = set()

        def four_generations() -> bool:
            seen.update(find_marked(mark))
            return len(seen) >= 4

        wait_until(four_generations, what="four generations")
        # Its group is ours, so its end is awaited and not forced: the last one closes the pipe.
        assert out(child).read() == b""


# Hostile peers

Server = Callable[[], AbstractContextManager[hostile.Peer]]


def connect(peer: hostile.Peer) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(peer.address, str) else socket.AF_INET)
    client.settimeout(30)
    client.connect(peer.address)
    return client


@pytest.fixture(params=["tcp", "unix"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "socket" if request.param == "unix" else None


def test_a_silent_server_reads_and_says_nothing(place: Path | None) -> None:
    with hostile.silent_server(place) as peer, connect(peer) as client:
        client.sendall(b"hello")
        wait_until(lambda: peer.received == b"hello", what="the greeting")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_deaf_server_brings_its_client_to_a_stop(place: Path | None) -> None:
    with hostile.deaf_server(place) as peer, connect(peer) as client:
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 64 * 1024 * 1024)


def test_a_flooding_server_sends_no_newline_and_ends_after_so_much(place: Path | None) -> None:
    with hostile.flooding_server(place, most=300_000) as peer, connect(peer) as client, client.makefile("rb") as file:
        assert file.readline() == b"x" * 300_000


def test_a_flooding_server_ends_with_the_block_although_nobody_reads(place: Path | None) -> None:
    with hostile.flooding_server(place) as peer, connect(peer):
        wait_until(lambda: peer.sent > 0, what="the flood")


def test_a_resetting_server_resets() -> None:
    with hostile.resetting_server() as peer, connect(peer) as client:
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_resetting_server_can_speak_before() -> None:
    with hostile.resetting_server(after=b"220 hel") as peer, connect(peer) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"220 hel"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_dripping_server_takes_its_time_for_each_byte(place: Path | None) -> None:
    began = time.monotonic()
    with hostile.dripping_server(b"abc", interval=0.02, unix=place) as peer, connect(peer) as client:
        received = b""
        while len(received) < 3:
            received += client.recv(10)
        assert received == b"abc"
    assert time.monotonic() - began >= 0.04


def test_a_half_closing_server_still_reads(place: Path | None) -> None:
    with hostile.half_closing_server(b"bye", place) as peer, connect(peer) as client:
        assert (client.recv(10), client.recv(10)) == (b"bye", b"")
        client.sendall(b"still here")
        wait_until(lambda: peer.received == b"still here", what="what came after the half-close")


def test_a_server_that_never_accepts_keeps_its_clients_waiting(place: Path | None) -> None:
    with hostile.never_accepting(place) as peer, socket.socket(socket.AF_UNIX if place else socket.AF_INET) as client:
        client.settimeout(0.05)
        # SO11: a full Unix queue answers EAGAIN where TCP waits.
        with pytest.raises(BlockingIOError if place else TimeoutError):
            client.connect(peer.address)


def test_a_server_serves_many_clients_and_leaves_no_name_behind(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with hostile.half_closing_server(b"x", place) as peer:
        assert peer.url == f"unix://{place}"
        for _ in range(50):
            with connect(peer) as client:
                assert client.recv(10) == b"x"
    assert not place.exists()


def test_a_slow_client_sends_single_bytes(place: Path | None) -> None:
    with hostile.silent_server(place) as server, hostile.slow_client(server.address, b"GET", 0.01) as client:
        wait_until(lambda: server.received == b"GET", what="the request")
        assert client.sent == 3


def test_a_flooding_client_stops_at_its_bound(place: Path | None) -> None:
    with hostile.silent_server(place) as server, hostile.flooding_client(server.address, most=1_000_000):
        wait_until(lambda: len(server.received) == 1_000_000, what="the whole flood")
        assert b"\n" not in server.received


def test_a_deaf_client_brings_its_server_to_a_stop(place: Path | None) -> None:
    with hostile.flooding_server(place) as server, hostile.deaf_client(server.address, b"LIST"):
        wait_until(lambda: server.sent > 0, what="the first answer")
        # The buffers of both sides together hold a few megabytes; much less than the 64 on offer.
        assert server.sent < 32 * 1024 * 1024


def test_an_impatient_client_is_gone_before_it_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hostile.impatient_client(listener.getsockname(), b"GET")
        connection, _ = listener.accept()
        with connection, connection.makefile("rb", buffering=0) as file, pytest.raises(ConnectionResetError):
            # Linux still hands out what arrived before the reset, so one read is not enough.
            file.readall()


# Mechanisms


def test_the_portable_path_is_forced_for_one_block_only() -> None:
    from hornpipe import _native

    before = _native.use_pidfd(True)
    try:
        with without_pidfd():
            assert _native.use_pidfd(False) is False
        assert _native.use_pidfd(before) is True
    finally:
        _native.use_pidfd(before)


def test_a_suite_can_run_over_both_mechanisms(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from hornpipe import _native

        def test_portable(without_pidfd):
            assert _native.use_pidfd(False) is False

        def test_both(with_and_without_pidfd):
            if with_and_without_pidfd == "no pidfd":
                assert _native.use_pidfd(False) is False
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_the_programs_need_no_site_packages_and_no_environment() -> None:
    argv = stubborn.echo_lines()
    assert argv[:3] == [sys.executable, "-I", "-S"]
    assert subprocess.run(argv, input=b"x\n", stdout=PIPE, env={}, check=True).stdout == b"x\n"
