"""Two ends to each other: everything arrives, ends are passed on, and nobody waits for nobody."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.fd import pipe
from hornpipe.testing import hostile

MIB = 1 << 20


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[hp.Connection[str], hp.Connection[str]]]:
    with (
        hp.listen("tcp://127.0.0.1:0", timeout=30) as listener,
        hp.connect(listener.address, timeout=30) as client,
        listener.accept(timeout=30) as server,
    ):
        yield client, server


@contextlib.contextmanager
def unix_pair() -> Iterator[tuple[hp.Connection[str], hp.Connection[str]]]:
    one, other = hp.socket_pair(timeout=30)
    with one, other:
        yield one, other


PAIRS = {"tcp": tcp_pair, "unix": unix_pair}


@contextlib.contextmanager
def relaying(one: object, other: object, timeout: float | None = 20) -> Iterator[list[object]]:
    """A relay in a thread; what it returned or raised, once the block is over."""
    results: list[object] = []

    def work() -> None:
        try:
            results.append(hp.relay(one, other, timeout=timeout))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        thread.join(30)


@pytest.mark.parametrize("one", PAIRS)
@pytest.mark.parametrize("other", PAIRS)
class TestSockets:
    def test_both_directions_at_once(self, one: str, other: str) -> None:
        """gotcha:SO13, promise 2: more than fits anywhere, both ways."""
        size = 8 * MIB
        with PAIRS[one]() as (user, near), PAIRS[other]() as (far, server):
            data = os.urandom(MIB)
            with relaying(near, far) as results:
                ends = [each.as_bytes() for each in (user, server)]
                with ends[0], ends[1]:
                    threads = []
                    for end in ends:

                        def send(end: hp.Connection[bytes] = end) -> None:
                            for _ in range(size // MIB):
                                end.write(data)
                            end.shutdown()

                        threads.append(threading.Thread(target=send))
                    got: list[bytes] = []
                    threads.append(threading.Thread(target=lambda: got.append(ends[1].read())))
                    for thread in threads:
                        thread.start()
                    got.append(ends[0].read())
                    for thread in threads:
                        thread.join()
            assert results == [(size, size)]
            assert all(each == data * (size // MIB) for each in got)

    def test_an_end_is_passed_on_and_the_answer_still_comes(self, one: str, other: str) -> None:
        """gotcha:SO13"""
        with PAIRS[one]() as (user, near), PAIRS[other]() as (far, server), relaying(near, far) as results:
            user.write("question")
            user.shutdown()
            assert server.read() == "question"
            server.write("answer")
            server.shutdown()
            assert user.read() == "answer"
        assert results == [(8, 6)]

    def test_what_was_read_ahead_is_not_lost(self, one: str, other: str) -> None:
        with PAIRS[one]() as (user, near), PAIRS[other]() as (far, server):
            user.write("GET x\nrest of it\n")
            assert near.readline() == "GET x\n"
            with relaying(near, far):
                assert server.readline() == "rest of it\n"
                user.shutdown()
                server.shutdown()

    def test_the_descriptors_are_as_they_were(self, one: str, other: str) -> None:
        """gotcha:P5"""
        with PAIRS[one]() as (user, near), PAIRS[other]() as (far, server):
            user.shutdown()
            server.shutdown()
            hp.relay(near, far, timeout=5)
            assert os.get_blocking(near.fileno())
            assert os.get_blocking(far.fileno())


def swallow(peer: hostile.Peer, connection: socket.socket) -> None:
    while connection.recv(MIB):
        pass


class TestDeadlines:
    def test_nobody_says_anything(self) -> None:
        with unix_pair() as (_, near), unix_pair() as (far, _):
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="0 bytes went forth, 0 back"):
                hp.relay(near, far, timeout=0.1)
            assert 0.1 <= time.monotonic() - begun < 20

    def test_a_flood_is_no_way_around_it(self) -> None:
        with (
            hostile.flooding_server(most=1 << 40) as flood,
            hostile.serving(swallow) as sink,
            hp.connect(flood.url) as near,
            hp.connect(sink.url) as far,
        ):
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match=r"[1-9]\d+ bytes went forth"):
                hp.relay(near, far, timeout=0.2)
            assert time.monotonic() - begun < 20

    def test_a_peer_that_never_reads_keeps_nobody_from_being_heard(self) -> None:
        """promise 2"""
        with (
            hostile.flooding_server(most=1 << 40) as flood,
            hp.connect(flood.url) as near,
            unix_pair() as (far, deaf),
        ):
            with relaying(near, far, timeout=0.5) as results:
                deaf.write("heard\n")
            assert isinstance(results[0], TimeoutError)
            assert "6 back" in str(results[0])


class TestOtherEnds:
    def test_a_program_behind_two_pipes(self) -> None:
        """perlipc:B1"""
        from_user, to_program = pipe()
        from_program, to_user = pipe()
        with unix_pair() as (user, near), from_program:
            with hp.cmd(
                "tr", "a-z", "A-Z", stdin=from_user.fileno(), stdout=to_user.fileno(), timeout=20
            ).start() as tr:
                from_user.close()
                to_user.close()
                with relaying(near, (from_program, to_program)) as results:
                    user.write("shout")
                    user.shutdown()
                    assert user.read() == "SHOUT"
                tr.wait(30)
            assert results == [(5, 5)]

    def test_pipes_of_others_keep_their_mode(self) -> None:
        """gotcha:P5"""
        (reader, writer), (back_reader, back_writer) = pipe(), pipe()
        numbers = reader.fileno(), back_writer.fileno()
        with unix_pair() as (user, near), reader, writer, back_reader, back_writer, relaying(near, numbers):
            os.write(writer.fileno(), b"x")
            assert user.read_exactly(1) == "x"
            assert [os.get_blocking(number) for number in numbers] == [True, True]
            writer.close()
            user.shutdown()

    def test_a_terminal_is_told_the_end_as_a_terminal_is(self) -> None:
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        with unix_pair() as (user, near), hp.cmd("cat", stdin=slave, stdout=slave, timeout=20).start() as cat:
            os.close(slave)
            with relaying(near, master) as results:
                print("hello", file=user)
                assert user.readline() == "hello\n"
                user.shutdown()
                assert user.read() == ""
            cat.wait(30)
        os.close(master)
        assert results == [(6, 7)]

    def test_a_terminal_is_told_the_end_in_the_middle_of_a_line_too(self) -> None:
        """gotcha:TTY6"""
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        with unix_pair() as (user, near), hp.cmd("cat", stdin=slave, stdout=slave, timeout=20).start() as cat:
            os.close(slave)
            with relaying(near, master) as results:
                user.write("no newline")
                user.shutdown()
                assert user.read() == "no newline"
            cat.wait(30)
        os.close(master)
        assert results == [(10, 10)]

    def test_a_raw_terminal_carries_every_byte(self) -> None:
        master, slave = pty.openpty()
        tty.setraw(slave)
        data = bytes(range(256))
        with unix_pair() as (user, near), relaying(near, master), user.as_bytes() as bare:
            bare.write(data)
            bare.flush()
            got = b""
            while len(got) < len(data):
                got += os.read(slave, 1000)
            assert got == data
            os.write(slave, data)
            assert bare.read_exactly(len(data)) == data
            bare.shutdown()
            os.close(slave)
            assert bare.read() == b""
        os.close(master)

    def test_files_are_ends_too(self, tmp_path: Path) -> None:
        """What cannot be spliced to, as a file that is appended to, is written to."""
        (tmp_path / "in").write_bytes(b"x" * 3 * MIB)
        (tmp_path / "out").write_bytes(b"begin ")
        with (
            unix_pair() as (user, near),
            open(tmp_path / "in", "rb") as source,
            open(tmp_path / "out", "ab") as sink,
            relaying(near, (source, sink)),
        ):
            user.write("and end")
            user.shutdown()
            assert len(user.read()) == 3 * MIB
        assert (tmp_path / "out").read_bytes() == b"begin and end"

    def test_standard_streams(self) -> None:
        """perlipc:N7: the interactive client, whose answer is not lost when stdin ends first."""
        source = "import sys, hornpipe as hp; print(hp.relay((0, 1), hp.connect(sys.argv[1], timeout=30), timeout=30))"
        with hp.listen("tcp://127.0.0.1:0", timeout=30) as listener:
            command = hp.cmd("echo", "question") | hp.cmd(sys.executable, "-c", source, str(listener.address))
            with command.with_options(timeout=20).lines() as lines:
                with listener.accept(timeout=30) as connection:
                    assert connection.read() == "question\n"
                    print("late answer", file=connection)
                assert list(lines) == ["late answer", "Relayed(forth=9, back=12)"]


class TestUntilTheOtherHasFinished:
    """perlipc:N11: the user's input goes on for ever, and the server hangs up."""

    def test_what_the_one_has_still_to_say_is_not_waited_for(self) -> None:
        with unix_pair() as (user, near), unix_pair() as (far, server):
            user.write("question\n")
            server.write("answer\n")
            server.shutdown()
            assert hp.relay(near, far, until="other", timeout=30).back == 7
            assert user.readline() == "answer\n"

    def test_the_end_of_the_one_is_passed_on_and_the_answer_waited_for(self) -> None:
        """gotcha:SO13"""
        with unix_pair() as (user, near), unix_pair() as (far, server):
            user.write("question")
            user.shutdown()
            results: list[object] = []
            thread = threading.Thread(target=lambda: results.append(hp.relay(near, far, until="other", timeout=20)))
            thread.start()
            assert server.read() == "question"
            server.write("late answer")
            server.shutdown()
            thread.join()
            assert results == [(8, 11)]

    def test_anything_else_is_refused(self) -> None:
        with unix_pair() as (one, other), pytest.raises(ValueError, match="'both' or 'other', not 'one'"):
            hp.relay(one, other, until="one")  # type: ignore[arg-type]


class TestBrokenEnds:
    def test_who_reads_no_more_is_told_when_the_rest_is_over(self) -> None:
        """gotcha:SO2"""
        with unix_pair() as (user, near), unix_pair() as (far, server):
            with socket.socket(fileno=os.dup(server.fileno())) as same:
                same.shutdown(socket.SHUT_RD)
            with relaying(near, far) as results:
                user.write("x" * MIB)
                server.write("last words")
                server.shutdown()
                assert user.read() == "last words"
            assert isinstance(results[0], hp.ReaderGone)
            assert "reads no more" in str(results[0])

    def test_a_reset_is_told(self) -> None:
        with hostile.resetting_server() as peer, hp.connect(peer.url) as near, unix_pair() as (far, server):
            with relaying(near, far) as results:
                server.write("x\n")
                assert server.read() == ""
                server.shutdown()
            assert isinstance(results[0], OSError)


def test_socat_s_other_side(tmp_path: Path) -> None:
    """perlipc:N4"""
    with (
        hp.listen(f"unix://{tmp_path}/name", timeout=30) as listener,
        unix_pair() as (user, near),
        hp.cmd("socat", f"UNIX-CONNECT:{tmp_path}/name", "EXEC:cat", timeout=20).start() as socat,
    ):
        with listener.accept(timeout=30) as far, relaying(near, far):
            user.write("through two of them")
            user.shutdown()
            assert user.read() == "through two of them"
        socat.wait(30)
