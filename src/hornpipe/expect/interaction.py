"""Our user's keyboard and screen, lent to a program on a terminal of ours."""

from __future__ import annotations

import errno
import os
import signal
import struct
import termios
import tty
from collections.abc import Callable
from contextlib import ExitStack
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

from hornpipe import wait
from hornpipe.deadline import NEVER
from hornpipe.expect.exceptions import EOF
from hornpipe.signals import Watch, watch

if TYPE_CHECKING:
    from hornpipe.expect.pty_spawn import spawn

_READ = 4096
_Filter = Callable[[bytes], bytes] | None


class _OurTerminal:
    """What is on our stdin: raw for a while, if it is a terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: Any = termios.tcgetattr(fd) if os.isatty(fd) else None

    def raw(self) -> None:
        if self._before is None:
            return
        try:
            tty.setraw(self._fd, termios.TCSADRAIN)
        except termios.error:
            pass  # it has hung up, as the next read will tell: the kernel sends CONT after the HUP

    def restore(self) -> None:
        if self._before is None:
            return
        try:
            # Not TCSAFLUSH, which would throw away what our user has typed ahead (gotcha:TTY9).
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # it has hung up: nothing is left to be restored

    def pass_size_on(self, child: spawn) -> None:
        if self._before is None:
            return
        try:
            rows, columns, _, _ = struct.unpack("HHHH", ioctl(self._fd, termios.TIOCGWINSZ, bytes(8)))
            child.setwinsize(rows, columns)
        except OSError:
            pass  # one of the two has just gone, as the next read will tell


def interact(child: spawn, escape_character: Any, input_filter: _Filter, output_filter: _Filter) -> None:
    """Copy both ways until somebody has had enough (gotcha:TTY10)."""
    escape = escape_character.encode("latin-1") if isinstance(escape_character, str) else escape_character
    child.write_to_stdout(child.take_buffer())
    child.stdout.flush()
    ours = _OurTerminal(child.STDIN_FILENO)
    with ExitStack() as stack:
        signals = stack.enter_context(watch("WINCH", "TSTP", "CONT"))
        stack.callback(ours.restore)
        ours.raw()
        _copy(child, ours, signals, escape, input_filter, output_filter)


def _copy(
    child: spawn,
    ours: _OurTerminal,
    signals: Watch,
    escape: bytes | None,
    input_filter: _Filter,
    output_filter: _Filter,
) -> None:
    wanted = [(fd, wait.READ) for fd in (child.child_fd, child.STDIN_FILENO, signals.fileno())]
    while True:
        ready = dict(wait.until(wanted, NEVER))
        if signals.fileno() in ready:
            _handle(signals, child, ours)
        if child.child_fd in ready:
            try:
                data = child.take_raw(_READ)
            except EOF:
                return
            if data and not _show(child, data if output_filter is None else output_filter(data)):
                return
        if child.STDIN_FILENO in ready:
            data = _read_ours(child.STDIN_FILENO)
            if input_filter is not None and data:
                data = input_filter(data)
            at = data.rfind(escape) if escape else -1
            typed = data if at < 0 else data[:at]
            if typed:
                child.type_raw(typed)
            # While room for it was waited for, the program may have said something.
            if not _show(child, child.take_buffer()) or at >= 0 or not data:
                return


def _read_ours(fd: int) -> bytes:
    try:
        return os.read(fd, _READ)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""  # our terminal has hung up, or we are in the background for good
        raise


def _show(child: spawn, data: bytes) -> bool:
    """Write it to our user's screen; false when that has hung up."""
    fd, view = child.STDOUT_FILENO, memoryview(data)
    while view:
        wait.one(fd, wait.WRITE, NEVER)
        try:
            # Short, since our stdout is not ours alone to make non-blocking (gotcha:P5).
            view = view[os.write(fd, view[:512]) :]
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
    return True


def _handle(signals: Watch, child: spawn, ours: _OurTerminal) -> None:
    while True:
        try:
            seen = signals.get(0)
        except TimeoutError:
            return
        match str(seen):
            case "WINCH":
                ours.pass_size_on(child)
            case "TSTP":
                # Somebody else's doing: in raw mode Ctrl-Z is a byte like others. Our user gets the terminal back.
                ours.restore()
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                ours.raw()
                ours.pass_size_on(child)
