"""Ctrl-C while a program runs in our own process group: it gets the INT as we do, and it decides.

An editor or a shell takes INT as a wish about its own work and goes on; a program that wants to end
dies of it. So we wait and see, as a shell does: only when it died of INT was the whole meant, and us.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, Self

from hornpipe._native import process as _process
from hornpipe.errors import CommandFailed
from hornpipe.status import ExitStatus


def shared() -> bool:
    """Whether Ctrl-C at our terminal reaches us and our children alike, and nobody has said what to do then."""
    if not _process.has_terminal() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    threading: Any = sys.modules.get("threading")
    return threading is None or threading.current_thread() is threading.main_thread()


class Patience:
    """For the time that a program runs in our group: a typed INT is the program's first."""

    def __init__(self) -> None:
        from hornpipe.signals import SIG

        self._typed = False
        self._local = SIG.local(INT=self._arrived)

    def _arrived(self, sig: Any) -> None:
        # The terminal's driver has no pid; an INT that somebody sent is for us alone.
        if sig.code != "KERNEL":
            raise KeyboardInterrupt
        self._typed = True

    def __enter__(self) -> Self:
        self._local.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._local.__exit__(kind, error, trace)
        if self._typed and isinstance(error, CommandFailed) and error.status.signal == int(signal.SIGINT):
            raise KeyboardInterrupt from None

    def look(self, status: ExitStatus) -> None:
        """Raise ``KeyboardInterrupt`` when the program died of what was typed."""
        if self._typed and status.signal == int(signal.SIGINT):
            raise KeyboardInterrupt
