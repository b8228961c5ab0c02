"""The starter of a daemon: waits until that is ready, or shows its complaints and exits as it did (gotcha:DM2)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn

from hornpipe import wait
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, above_stdio

READY = b"\0ready\0"
"""What ends the daemon's words to its starter; no text has it."""


def await_ready(first: int, words: Descriptor, timeout: float | None, mask: Iterable[int]) -> NoReturn:
    """The starter's end. Whatever its signal handlers raise, it does not return to the caller's code."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = _code_of_daemon(first, words, timeout)
    except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt or whatever a handler raised ends both of us
        _end(first, words)
        if isinstance(error, KeyboardInterrupt):
            code = 128 + signal.SIGINT
        elif isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) and error.code > 0 else 1
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _code_of_daemon(first: int, words: Descriptor, timeout: float | None) -> int:
    """Show what the daemon says; the exit code that it deserves."""
    deadline = after(timeout)
    # A child of the daemon may hold the pipe open after the daemon's death, so the end is not all we wait for.
    over = pidfd_of(first)
    held_back = b""
    said = False
    while True:
        ends = [(words.fileno(), wait.READ)] + ([(over, wait.READ)] if over is not None else [])
        ready = dict(wait.until(ends, deadline))
        if not ready:
            _show(held_back + b"the daemon was not ready within %g s, and was ended\n" % (timeout or 0))
            _end(first, words)
            return 1
        if words.fileno() in ready:
            data = os.read(words.fileno(), 65536)
            if data:
                said = True
                before, is_ready, behind = (held_back + data).partition(READY)
                if is_ready:
                    _show(before + behind)
                    return 0
                # The last bytes may be the beginning of it.
                shown = max(0, len(before) - len(READY) + 1)
                held_back = before[shown:]
                _show(before[:shown])
                continue
        elif over is not None:
            how = os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if how is not None and how.si_code != os.CLD_EXITED:
                # Somebody killed the process in between; the daemon lives as long as the pipe is open.
                over = None
                continue
        _show(held_back)
        if not said:
            _show(b"the daemon ended before it was ready\n")
        wait.child(first, after(1.0))
        pid, raw = os.waitpid(first, os.WNOHANG)
        code = os.waitstatus_to_exitcode(raw) if pid else 1
        return code if code > 0 else 1


def _end(first: int, words: Descriptor) -> None:
    """End the daemon, and all of its session's first group, kindly at first."""
    try:
        os.killpg(first, signal.SIGTERM)
    except ProcessLookupError:
        # It has no group of its own yet. Once it is dead it starts nothing more, but it may have until now.
        os.kill(first, signal.SIGKILL)
    else:
        if wait.one(words.fileno(), 0, after(1.0)):
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(first, signal.SIGKILL)


def _show(text: bytes) -> None:
    while text:
        try:
            text = text[os.write(2, text) :]
        except OSError:
            return


def pidfd_of(pid: int) -> int | None:
    """Readable once it has ended; ``None`` where the system has none."""
    try:
        return above_stdio(os.pidfd_open(pid))
    except (AttributeError, OSError):
        return None
