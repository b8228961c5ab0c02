"""Expecting from a program on pipes: no terminal, so no echo and no line discipline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from hornpipe import deadline as deadlines
from hornpipe import wait
from hornpipe.expect.exceptions import TIMEOUT, ExceptionPexpect
from hornpipe.expect.spawnbase import SpawnBase
from hornpipe.expect.starting import start_with_preparation
from hornpipe.expect.transport import deadline_of
from hornpipe.expect.utils import split_command_line, which, whole_environment
from hornpipe.fd import Descriptor, nonblocking, pipe
from hornpipe.process import Process
from hornpipe.spawn import start
from hornpipe.spawn.recipe import Recipe
from hornpipe.wait import finalizer


class PopenSpawn(SpawnBase):
    r"""Start a program with pipes for its stdin and stdout; its stderr goes where its stdout does.

    >>> from hornpipe.expect import EOF
    >>> with PopenSpawn("cat", encoding="utf-8") as child:
    ...     child.sendline("one")
    ...     child.expect_exact("one\n")
    ...     child.sendeof()
    ...     child.expect(EOF), child.wait()
    4
    0
    (0, 0)
    """

    _longest_read = 64 * 1024

    def __init__(
        self,
        cmd: Any,
        timeout: float | None = 30,
        maxread: int = 2000,
        searchwindowsize: int | None = None,
        logfile: Any = None,
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        encoding: str | None = None,
        codec_errors: str = "strict",
        preexec_fn: Callable[[], object] | None = None,
        *,
        before_limit: int | None = None,
    ) -> None:
        super().__init__(timeout, maxread, searchwindowsize, logfile, encoding, codec_errors, before_limit=before_limit)
        # Lines end as our system ends them: nobody turns NL into CR NL on a pipe.
        self.crlf = self.linesep
        words = split_command_line(os.fsdecode(cmd)) if isinstance(cmd, str | bytes) else list(cmd)
        if not words:
            raise ExceptionPexpect("The command is empty.")
        self.command = words[0]
        self.args = words
        self.name = "<" + " ".join(os.fsdecode(word) for word in words) + ">"
        self._input: Descriptor | None = None
        self.proc = self._start(words, preexec_fn, {"cwd": cwd, "env": whole_environment(env)}, env)
        self.pid = self.proc.pid
        self.child_fd = self._output.fileno()
        self.closed = False
        self.terminated = False

    def _start(
        self,
        words: list[Any],
        prepare: Callable[[], object] | None,
        options: dict[str, Any],
        env: Mapping[str, str] | None,
    ) -> Process:
        deadline = deadline_of(self.timeout)
        theirs_in, self._input = pipe()
        self._output, theirs_out = pipe()
        ends = (theirs_in.fileno(), theirs_out.fileno(), theirs_out.fileno())
        with theirs_in, theirs_out:
            nonblocking(self._input.fileno())
            nonblocking(self._output.fileno())
            try:
                if prepare is None:
                    return start(Recipe(self.name, tuple(words), **options), ends, deadline=deadline)
                path = which(os.fsdecode(words[0]), env) or words[0]
                return start_with_preparation(
                    self.name, (path, *words[1:]), options, ends, -1, False, prepare, deadline
                )
            except BaseException:
                self._input.close()
                self._output.close()
                raise

    def _write(self, data: bytes) -> int:
        """All of it, under the object's timeout; what the program says meanwhile is kept."""
        sink = self._input
        if sink is None:
            raise ValueError("the program has been sent its end of file")
        deadline = deadline_of(self.timeout)
        view, sent, reading = memoryview(data), 0, True

        def wanted() -> list[tuple[int, int]]:
            room = (sink.fileno(), wait.WRITE)
            return [room, (self._open_fd(), wait.READ)] if reading else [room]

        while sent < len(view):
            count = wait.write_some(sink.fileno(), view[sent:])
            sent += count
            if count:
                continue
            ready = dict(wait.on_any(wanted, deadline))
            # Output without end is always ready, and no excuse.
            if not ready or (sink.fileno() not in ready and deadlines.passed(deadline)):
                raise TIMEOUT(
                    f"{self.name} does not read what is sent to it: "
                    f"{sent} of {len(view)} bytes were taken within {self.timeout:g} s"
                )
            if self.child_fd in ready:
                reading = self._take_meanwhile()
        return sent

    def sendeof(self) -> None:
        """Close the program's stdin."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def isalive(self) -> bool:
        """Whether it runs. Never waits."""
        return self._runs(self.proc)

    def wait(self) -> int | None:
        """Wait until it has ended: its exit code, or the signal's number as a negative one, as subprocess has it."""
        self.proc.wait_until(deadlines.NEVER)
        self.isalive()
        return self.exitstatus if self.signalstatus is None else -self.signalstatus

    def kill(self, sig: int) -> None:
        """Send it a signal, if it runs."""
        if self.isalive():
            self.proc.kill(sig)

    def close(self, force: bool = True) -> None:
        """Close its stdin and stdout, and end it: it has ``delayafterclose`` to go by itself, then TERM, then KILL."""
        if self.closed:
            return
        self.closed = True
        self.sendeof()
        self._output.close()
        self.child_fd = -1
        patience = self.delayafterclose or 0.0
        if self.proc.wait_until(deadlines.after(patience)) is None:
            self.proc.terminate(patience)
        self.isalive()

    __del__ = finalizer(SpawnBase._left_alone)
