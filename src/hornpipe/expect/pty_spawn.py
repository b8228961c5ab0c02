"""A program on a terminal of its own."""

from __future__ import annotations

import os
import termios
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hornpipe import deadline as deadlines
from hornpipe import pty, wait
from hornpipe.expect.exceptions import ExceptionPexpect
from hornpipe.expect.starting import start_with_preparation
from hornpipe.expect.terminal import OnTerminal
from hornpipe.expect.transport import deadline_of
from hornpipe.expect.utils import split_command_line, which, whole_environment
from hornpipe.fd import Descriptor, nonblocking
from hornpipe.process import AFTER_KILL, Process
from hornpipe.spawn import start
from hornpipe.spawn.recipe import Recipe
from hornpipe.wait import finalizer

_MOMENT = 0.1
"""Seconds between a program's closing of its terminal and its end; where nothing is wrong less than a millisecond."""
_LONGEST_LEAVING = 1.0
"""The same for one that is in exit(2) already, and only slowed down."""
_EXITING = 0x4
"""PF_EXITING of the kernel's flags in /proc/PID/stat, set before a process closes what it has open."""


def _is_leaving(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return True
    return fields[0] in b"ZX" or bool(int(fields[6]) & _EXITING)


class spawn(OnTerminal):
    r"""Start a program on a terminal of its own and talk to it.

    ``command`` is split into words as :func:`split_command_line` does; with ``args`` it is the program itself.

    >>> with spawn("cat", echo=False, encoding="utf-8") as child:
    ...     child.sendline("one")
    ...     child.expect(r"o(n)e\r\n")
    ...     child.match.group(1)
    4
    0
    'n'

    Leaving the ``with`` block, or ``close``, hangs up and ends the program.
    """

    use_native_pty_fork = True
    STDIN_FILENO = 0
    STDOUT_FILENO = 1
    STDERR_FILENO = 2
    str_last_chars = 100
    """How many characters of what came last ``str()`` shows."""
    _process: Process | None = None
    _terminal: Descriptor | None = None

    def __init__(
        self,
        command: Any,
        args: list[Any] | None = None,
        timeout: float | None = 30,
        maxread: int = 2000,
        searchwindowsize: int | None = None,
        logfile: Any = None,
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        ignore_sighup: bool = False,
        echo: bool = True,
        preexec_fn: Callable[[], object] | None = None,
        encoding: str | None = None,
        codec_errors: str = "strict",
        dimensions: tuple[int, int] | None = None,
        use_poll: bool = False,
        *,
        before_limit: int | None = None,
    ) -> None:
        super().__init__(timeout, maxread, searchwindowsize, logfile, encoding, codec_errors, before_limit=before_limit)
        self.cwd = cwd
        self.env = env
        self.echo = echo
        self.ignore_sighup = ignore_sighup
        self.use_poll = use_poll
        self.command: Any = None
        self.args: list[Any] | None = None
        if command is None:
            self.name = "<pexpect factory incomplete>"
        else:
            self._spawn(command, args or [], preexec_fn, dimensions)

    def __str__(self) -> str:
        last = self.str_last_chars
        facts = {
            "command": self.command,
            "args": self.args,
            "pid": self.pid,
            "child_fd": self.child_fd,
            "closed": self.closed,
            "timeout": self.timeout,
            "flag_eof": self.flag_eof,
            "exitstatus": self.exitstatus,
            "signalstatus": self.signalstatus,
            f"buffer (last {last} characters)": self.buffer[-last:],
            f"before (last {last} characters)": self.before[-last:] if self.before else self.before,
            "after": self.after,
            "searcher": None if self.searcher is None else str(self.searcher),
        }
        return "\n".join([repr(self), *(f"{name}: {value!r}" for name, value in facts.items())])

    # --- starting ---

    def _spawn(
        self,
        command: Any,
        args: list[Any] | None = None,
        preexec_fn: Callable[[], object] | None = None,
        dimensions: tuple[int, int] | None = None,
    ) -> None:
        if isinstance(command, int):
            raise ExceptionPexpect("a number is no command: maybe you want to use fdpexpect.fdspawn")
        if args is not None and not isinstance(args, list):
            raise TypeError("The argument, args, must be a list.")
        words = [command, *args] if args else split_command_line(os.fsdecode(command))
        if not words:
            raise ExceptionPexpect("The command is empty.")
        path = which(os.fsdecode(words[0]), self.env)
        if path is None:
            raise ExceptionPexpect(
                f"The command was not found or was not executable: {os.fsdecode(words[0])}: "
                f"looked in {(self.env or os.environ).get('PATH')}"
            )
        self.command = path
        self.args = [path, *words[1:]]
        self.name = "<" + " ".join(os.fsdecode(word) for word in self.args) + ">"
        if self.pid is not None:
            raise ExceptionPexpect("The pid member must be None: this object has started a program already.")
        rows, columns = dimensions or (24, 80)
        ours, theirs = pty.open_pair(rows, columns)
        with theirs:
            try:
                modes = termios.tcgetattr(theirs.fileno())
                modes[1] |= termios.ONLCR
                if self.echo:
                    modes[3] |= termios.ECHO
                termios.tcsetattr(theirs.fileno(), termios.TCSANOW, modes)
                nonblocking(ours.fileno())
                self._process = self._start(theirs.fileno(), preexec_fn)
            except BaseException:
                ours.close()
                raise
        self._terminal = ours
        self._echo_wanted = self.echo
        self.child_fd = ours.fileno()
        self.pid = self._process.pid
        self.terminated = False
        self.closed = False

    def _start(self, terminal: int, preexec_fn: Callable[[], object] | None) -> Process:
        assert self.args is not None
        argv = tuple(self.args)
        options: dict[str, Any] = {"cwd": self.cwd, "env": whole_environment(self.env), "new_session": True}
        deadline = deadline_of(self.timeout)
        ends = (terminal, terminal, terminal)
        if preexec_fn is not None or self.ignore_sighup:
            return start_with_preparation(self.name, argv, options, ends, 0, self.ignore_sighup, preexec_fn, deadline)
        recipe = Recipe(self.name, argv, **options)
        return start(recipe, ends, terminal=0, deadline=deadline)

    # --- whether it lives ---

    def isalive(self) -> bool:
        """Whether it runs. Never waits (gotcha:TTY2)."""
        return self._process is not None and self._runs(self._process)

    def wait(self) -> int | None:
        """Wait until it has ended; its exit code, ``None`` after a death by signal.

        What it says meanwhile is kept for later, so that it can end.
        """
        if self._process is None:
            raise ExceptionPexpect("Cannot wait: no program was started.")
        self.wait_for_end(None)
        return self.exitstatus

    def wait_for_end(self, timeout: float | None) -> bool:
        """Whether it has ended within so many seconds; what it says meanwhile is kept."""
        deadline, process = deadline_of(timeout), self._process
        assert process is not None
        reading = not self.closed and not self.flag_eof

        def wanted() -> list[tuple[int, int]]:
            pidfd, output = process.pidfd, self.child_fd
            if pidfd < 0 or (reading and output < 0):
                raise wait.ClosedMeanwhile(f"the pidfd or the terminal of {self.name} was closed meanwhile")
            return [(pidfd, wait.READ), (output, wait.READ)] if reading else [(pidfd, wait.READ)]

        while self.isalive():
            if process.pidfd < 0:
                # Nothing to poll beside the terminal: short waits, and looks at the output between them.
                process.wait_for_end(deadlines.sooner(deadline, deadlines.after(0.02)))
                if reading:
                    reading = self._take_meanwhile()
            else:
                try:
                    ready = dict(wait.on_any(wanted, deadline))
                except wait.ClosedMeanwhile:
                    # By a handler, or another thread, that saw it end or closed the terminal: look again.
                    reading = reading and not self.closed
                    continue
                if reading and self.child_fd in ready:
                    reading = self._take_meanwhile()
            if deadlines.passed(deadline):
                return not self.isalive()
        return True

    def _ended(self) -> NoReturn:
        first, self.flag_eof = not self.flag_eof, True
        # Most programs close their terminal on their way out, and whoever has seen the end of the output asks for the
        # status next. One that goes on working costs this moment once (gotcha:TTY2).
        if first and self.pid is not None and not self.wait_for_end(_MOMENT) and _is_leaving(self.pid):
            self.wait_for_end(_LONGEST_LEAVING)
        super()._ended()

    # --- ending it ---

    def close(self, force: bool = True) -> None:
        """Hang up, and end the program: HUP, CONT and INT, and with ``force`` KILL when these were not enough.

        No process and no terminal is left (gotcha:TTY3); how it ended is in ``exitstatus`` and ``signalstatus``.
        """
        if self.closed:
            return
        self.flush()
        self.closed = True
        terminal, self._terminal = self._terminal, None
        self.child_fd = -1
        if terminal is not None:
            terminal.close()
        if not self._see_off(force, self.delayafterclose):
            raise ExceptionPexpect("Could not terminate the child.")

    def terminate(self, force: bool = False) -> bool:
        """End the program: HUP, CONT and INT, and with ``force`` KILL; whether it has ended."""
        if not self.isalive():
            return True
        assert self._process is not None
        self._process.kill("HUP")
        return self._see_off(force, self.delayafterterminate)

    def _see_off(self, force: bool, patience: float | None) -> bool:
        """It has been told by HUP: see to it that it goes, each time with so much patience."""
        if self._process is None or not self.isalive():
            return True
        patience = patience or 0.0
        # A stopped process acts on HUP only when it goes on.
        self._process.kill("CONT")
        if self.wait_for_end(patience):
            return True
        self._process.kill("INT")
        if self.wait_for_end(patience):
            return True
        if not force:
            return False
        self._process.kill("KILL")
        ended = self.wait_for_end(max(patience, AFTER_KILL))
        if not ended:
            self._process.forget()
        return ended

    def kill(self, sig: int) -> None:
        """Send it a signal, if it runs."""
        if not self.isalive() or self._process is None or self.pid is None:
            return
        # The program itself and not its group, as everybody who knows the word expects.
        self._process.kill_program(sig)

    __del__ = finalizer(OnTerminal._left_alone)

    def eof(self) -> bool:
        """Whether the end of the output has been seen."""
        return self.flag_eof

    # --- a person takes over ---

    def interact(
        self,
        escape_character: Any = "\x1d",
        input_filter: Callable[[bytes], bytes] | None = None,
        output_filter: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Give our user the keyboard, until the escape character (Ctrl-], or ``None``), or the program's end.

        The end of our own input, or the hang-up of our terminal, ends it as well (gotcha:TTY10); our terminal is as it
        was afterwards. Changes of its size are passed on.
        """
        from hornpipe.expect.interaction import interact

        interact(self, escape_character, input_filter, output_filter)

    def take_buffer(self) -> bytes:
        """What has come and nobody has looked at, as the program wrote it; it is gone from here then."""
        for text in self._ahead:
            self._stream.feed(text)
        self._ahead.clear()
        rest = self._stream.rest()
        self._stream.replace(self._empty)
        return self._encode(rest)

    def take_raw(self, size: int) -> bytes:
        """What has just come, undecoded; raises ``EOF``."""
        data = self._receive(size, 0)
        if data is None:
            return b""
        if not data:
            self._ended()
        self._log_raw(data, "read")
        return data

    def type_raw(self, data: bytes) -> None:
        """Send these bytes, as our user has typed them."""
        self._log_raw(data, "send")
        self._write(data)

    def _log_raw(self, data: bytes, direction: str) -> None:
        self._log(data if self.encoding is None else data.decode(self.encoding, "replace"), direction)


class spawnu(spawn):
    """An old name for ``spawn(..., encoding="utf-8")``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"encoding": "utf-8", **kwargs})
