"""A terminal on whose other side a program sits: what is typed, and the modes that decide what becomes of it."""

from __future__ import annotations

import struct
import termios
from fcntl import ioctl
from typing import Any

from hornpipe import deadline as deadlines
from hornpipe import pty, wait
from hornpipe.expect.spawnbase import SpawnBase
from hornpipe.expect.transport import deadline_of

_LINE_ENDS = b"\n\r\x03\x04\x15\x1c\x1a"
"""After these the terminal's line begins anew."""
_ENDED = {bytes([byte]) for byte in _LINE_ENDS}
_LOOKS_AT_ECHO = 0.002
"""Seconds between two looks at a flag that has no event."""


class OnTerminal(SpawnBase):
    """The words for which the other side has to be a terminal."""

    echo: bool
    _echo_wanted = True
    _line = 0
    """Bytes of the line that the terminal is gathering."""

    # --- keys ---

    def _prepare_to_send(self, s: Any, data: bytes) -> None:
        logged = self.logfile is not None or self.logfile_send is not None
        if logged or self._line + len(data) > pty.LONGEST_LINE:
            modes = self._modes()
            self._check_line(data, modes)
            if logged:
                self._log(self._shown(s, modes), "send")
        if data[-1:] in _ENDED:
            self._line = 0
            return
        end = max(data.rfind(byte) for byte in _LINE_ENDS)
        self._line = len(data) - end - 1 if end >= 0 else self._line + len(data)

    def _check_line(self, data: bytes, modes: list[Any] | None) -> None:
        if modes is None or not modes[3] & termios.ICANON:
            self._line = 0
            return
        length = self._line
        for line in data.replace(b"\r", b"\n").split(b"\n"):
            length += len(line)
            if length > pty.LONGEST_LINE:
                raise ValueError(
                    f"a line of {length} bytes: the terminal takes {pty.LONGEST_LINE} at most, and drops the rest"
                )
            length = 0

    def _shown(self, s: Any, modes: list[Any] | None) -> Any:
        # A program that reads lines and has switched echo off wants a secret; where we did it ourselves, or where
        # the program edits lines in its own way, that means nothing (gotcha:TTY8).
        if modes is None or not self._echo_wanted or modes[3] & termios.ECHO or not modes[3] & termios.ICANON:
            return s
        hidden = "<not shown>"
        if isinstance(s, bytes):
            return hidden.encode() + (b"\n" if s.endswith(b"\n") else b"")
        return hidden + ("\n" if s.endswith("\n") else "")

    def sendcontrol(self, char: str) -> int:
        """Press a control key: ``sendcontrol("c")`` is Ctrl-C."""
        code = "@abcdefghijklmnopqrstuvwxyz[\\]^_".find(char.lower())
        if code < 0 and char != "?":
            return 0
        return self._press(bytes([127 if char == "?" else code]))

    def sendeof(self) -> None:
        """Say end of file.

        The character for it is asked from this terminal; in the middle of a line it takes two: the first sends the
        line off (gotcha:TTY6).
        """
        modes = self._modes()
        canonical = modes is not None and bool(modes[3] & termios.ICANON)
        key = self._key(modes, termios.VEOF, b"\x04")
        self._press(key * (2 if canonical and self._line else 1))

    def sendintr(self) -> None:
        """Interrupt, as Ctrl-C does, with the character this terminal has for it."""
        self._press(self._key(self._modes(), termios.VINTR, b"\x03"))

    def _key(self, modes: list[Any] | None, place: int, usual: bytes) -> bytes:
        key = None if modes is None else modes[6][place]
        return key if isinstance(key, bytes) and key != b"\0" else usual

    def _press(self, key: bytes) -> int:
        self._log(key if self.encoding is None else key.decode("latin-1"), "send")
        self._line = 0
        return self._write(key)

    # --- modes and size ---

    def _modes(self) -> list[Any] | None:
        try:
            return termios.tcgetattr(self._open_fd())
        except termios.error:
            return None  # the other side has gone, on systems that then forget the modes

    def getecho(self) -> bool:
        """Whether the terminal echoes what is sent."""
        modes = self._modes()
        return modes is not None and bool(modes[3] & termios.ECHO)

    def setecho(self, state: bool) -> None:
        """Switch the echo; what was sent before and not read yet is echoed in either case."""
        modes = termios.tcgetattr(self._open_fd())
        modes[3] = modes[3] | termios.ECHO if state else modes[3] & ~termios.ECHO
        # Not TCSAFLUSH, which would throw away what was typed ahead (gotcha:TTY9).
        termios.tcsetattr(self._open_fd(), termios.TCSADRAIN, modes)
        self.echo = self._echo_wanted = state

    def waitnoecho(self, timeout: float | None = -1) -> bool:
        """Wait until the program has switched echo off, as it does for a password; false when that took too long.

        -1 is the object's own timeout, ``None`` waits for ever (gotcha:TTY8).
        """
        deadline = deadline_of(self.timeout if timeout == -1 else timeout)
        reading = not self.flag_eof
        while self.getecho():
            if deadlines.passed(deadline):
                return False
            # The flag has no event. What the program says is taken meanwhile, lest it wait for us.
            pause = deadlines.sooner(deadline, deadlines.after(_LOOKS_AT_ECHO))
            if wait.on(self._open_fd, wait.READ, pause) if reading else wait.until([], pause):
                reading = self._take_meanwhile()
            elif not reading and not self.isalive():
                return False
        return True

    def getwinsize(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns, _, _ = struct.unpack("HHHH", ioctl(self._open_fd(), termios.TIOCGWINSZ, bytes(8)))
        return rows, columns

    def setwinsize(self, rows: int, cols: int) -> None:
        """Set rows and columns; the program is told by WINCH if they have changed."""
        ioctl(self._open_fd(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
