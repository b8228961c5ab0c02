"""One behaviour over every transport: a terminal, pipes, a socket, any descriptor."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time

import pytest

import hornpipe.expect as pexpect
from hornpipe.expect import fdpexpect, popen_spawn, socket_pexpect

pytestmark = pytest.mark.usefixtures("with_and_without_pidfd")


class OverPty:
    line = "\r\n"
    lines = 4000
    """More than lies between us and it both ways, so that somebody who only sends comes to a stop."""

    def __enter__(self) -> pexpect.SpawnBase:
        self.child = pexpect.spawn("cat", echo=False, encoding="utf-8", timeout=30)
        return self.child

    def __exit__(self, *_: object) -> None:
        self.child.close()

    def end(self) -> None:
        self.child.sendeof()


class OverPipes(OverPty):
    line = "\n"
    lines = 60_000

    def __enter__(self) -> pexpect.SpawnBase:
        self.child = popen_spawn.PopenSpawn("cat", encoding="utf-8", timeout=30)
        return self.child


class OverSocket(OverPty):
    line = "\n"
    lines = 80_000

    def __enter__(self) -> pexpect.SpawnBase:
        self.ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(["cat"], stdin=theirs, stdout=theirs)
        theirs.close()
        self.child = socket_pexpect.SocketSpawn(self.ours, encoding="utf-8", timeout=30)
        return self.child

    def __exit__(self, *_: object) -> None:
        self.child.close()
        self.process.wait()

    def end(self) -> None:
        self.ours.shutdown(1)


class OverSocketWithTimeout(OverSocket):
    def __enter__(self) -> pexpect.SpawnBase:
        child = super().__enter__()
        self.ours.settimeout(30)
        return child


class OverDescriptor(OverSocket):
    def __enter__(self) -> pexpect.SpawnBase:
        super().__enter__()
        self.child = fdpexpect.fdspawn(self.ours, encoding="utf-8", timeout=30)
        return self.child

    def __exit__(self, *_: object) -> None:
        self.child.close()
        self.ours.detach()
        self.process.wait()


@pytest.fixture(params=[OverPty, OverPipes, OverSocket, OverSocketWithTimeout, OverDescriptor])
def transport(request: pytest.FixtureRequest) -> OverPty:
    made: OverPty = request.param()
    return made


class TestEveryTransport:
    def test_first_match_then_order(self, transport):
        """gotcha:TTY11."""
        with transport as child:
            child.sendline("abcde")
            assert child.expect_exact(["xyz", "de", "bcd", "bc"]) == 2
            assert (child.before, child.after, child.match_index) == ("a", "bcd", 2)
            assert child.expect("e(.*)" + transport.line) == 0
            assert child.match[1] == ""

    def test_kinds_of_patterns_mix(self, transport):
        with transport as child:
            child.sendline("a.c 17")
            compiled = child.compile_pattern_list([r"\d+", pexpect.EOF, pexpect.TIMEOUT])
            assert child.expect_list(["a.c", *compiled]) == 0
            assert child.match == "a.c"
            assert child.expect_list(["a.c", *compiled]) == 1
            assert child.match[0] == "17"

    def test_end(self, transport):
        with transport as child:
            child.sendline("last")
            transport.end()
            assert child.expect(["never", pexpect.EOF]) == 1
            assert (child.before, child.after) == ("last" + transport.line, pexpect.EOF)
            with pytest.raises(EOFError):
                child.expect("never")
            assert child.flag_eof

    def test_time_out(self, transport):
        with transport as child:
            began = time.monotonic()
            with pytest.raises(pexpect.TIMEOUT):
                child.expect("never", timeout=0.1)
            assert 0.1 <= time.monotonic() - began < 20
            assert child.expect(["never", pexpect.TIMEOUT], timeout=0) == 1
            with pytest.raises(ValueError, match="timeout"):
                child.expect("never", timeout=float("nan"))

    def test_volume_in_both_directions(self, transport):
        """gotcha:TTY7."""
        with transport as child:
            text = "0123456789\n" * transport.lines
            assert child.send(text) == len(text)
            child.sendline("over")
            child.expect_exact("over")
            assert child.before == text.replace("\n", transport.line)

    def test_asynchronously(self, transport):
        async def talk(child: pexpect.SpawnBase) -> list[object]:
            child.sendline("one two")
            said: list[object] = [await child.expect("o(n)e", async_=True), child.match[1]]
            said.append(await child.expect_exact(["no", " two"], async_=True))
            said.append(await child.expect(["never", pexpect.TIMEOUT], timeout=0.05, async_=True))
            waiting = asyncio.ensure_future(child.expect("late", async_=True))
            await asyncio.sleep(0)
            child.sendline("late")
            said.append(await waiting)
            transport.end()
            said.append(await child.expect(["never", pexpect.EOF], async_=True))
            return said

        with transport as child:
            assert asyncio.run(talk(child)) == [0, "n", 1, 1, 0, 1]

    def test_a_closed_one_says_so(self, transport):
        with transport as child:
            child.close()
            child.close()
            with pytest.raises(ValueError):
                child.expect("x")
            with pytest.raises(ValueError):
                child.send("x")
