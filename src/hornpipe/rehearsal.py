"""A rehearsal of a restart: the new program beside the old one, which goes on until it has come up (gotcha:H3)."""

from __future__ import annotations

import _thread
import fcntl
import os
import signal
import struct
from contextlib import ExitStack
from typing import Any, NoReturn

from hornpipe import image
from hornpipe.command import Command, cmd
from hornpipe.deadline import after
from hornpipe.fd import nonblocking, pipe
from hornpipe.redirections import NULL
from hornpipe.succession import environment

_UP = b"\0up\0"
"""What a rehearsal says when it has come up; no text has it."""
_SHOWN = 2000
"""Bytes of a failed rehearsal's last words that go into the log."""
_F_SETOWN_EX, _F_OWNER_TID = 15, 0
"""fcntl(2); Python does not name them."""


def come_up(telling: int) -> NoReturn:
    """Say that we have come up, and end.

    Nothing is tidied up on the way out: the names, locks and files belong to the one that runs.
    """
    try:
        os.write(telling, _UP)
    finally:
        os._exit(0)


class Rehearsal:
    """The new program, beside the old one, which is told by HUP itself when there is news of it.

    No thread waits for it and no handler: the pipe on which it speaks sends us a signal whenever there
    is something to read (O_ASYNC, fcntl(2)), so that service goes on until it has come up. The deadline
    is held by its supervisor.
    """

    def __init__(self, arguments: list[str], check: bool | Command[Any], timeout: float) -> None:
        self._words = b""
        self._must_come_up = isinstance(check, bool)
        self._timeout = timeout
        self._told, telling = pipe()
        with ExitStack() as on_failure, telling:
            on_failure.callback(self._told.close)
            told = self._told.fileno()
            nonblocking(told)
            # To this thread. Of two HUPs for the process the kernel keeps the first while they wait, and with it
            # what it was about: somebody's wish would vanish in our news.
            fcntl.fcntl(told, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, _thread.get_native_id()))
            fcntl.fcntl(told, fcntl.F_SETSIG, signal.SIGHUP)
            command = check if not isinstance(check, bool) else _rehearsed(arguments, telling.fileno())
            self._process = command.with_options(
                stdin=NULL, stdout=NULL, stderr=telling.fileno(), contain=True, timeout=timeout
            ).start()
            on_failure.pop_all()
        # From here on it signals; what came before this is seen by whoever made us, who looks at once.
        fcntl.fcntl(told, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def over(self) -> bool:
        """Whether it has come up, or ended."""
        while not self._came_up():
            try:
                data = os.read(self._told.fileno(), 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._words = (self._words + data)[-_SHOWN:]
        return True

    def _came_up(self) -> bool:
        return self._must_come_up and self._words.endswith(_UP)

    def end(self) -> str | None:
        """End it, once it is over: why the program cannot be restarted, ``None`` if it can."""
        self._told.close()
        status = self._process.wait_until(after(1.0))
        if self._process.expired:
            reason = f"the rehearsal had not come up within {self._timeout:g} s"
        elif status is None:
            self._process.terminate(0)
            reason = "the rehearsal closed its standard error, and went on"
        else:
            reason = "the rehearsal ended before it had come up" if status else f"the rehearsal failed: {status}"
        if self._came_up() if self._must_come_up else status:
            return None
        words = self._words.decode(errors="backslashreplace").strip()
        return f"{reason}; its last words:\n{words}" if words else reason


def _rehearsed(arguments: list[str], telling: int) -> Command[str]:
    descriptors = image.to_keep()
    wanted = environment(descriptors, [f"rehearsal {telling}"])
    # What it says to a service manager would be taken for ours.
    for name in (b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID"):
        wanted.pop(name, None)
    changes: dict[Any, Any] = {name: None for name in os.environb if name not in wanted} | wanted
    return cmd(
        *arguments,
        cwd=image.directory,
        env=changes,
        pass_fds=tuple({telling, *(fd for fd in descriptors.values() if fd > 2)}),
    )
