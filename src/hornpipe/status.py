"""How a process ended (perlipc:O3): code, signal and core kept apart, and *unknown* for what nobody knows."""

from __future__ import annotations

from typing import final

from hornpipe.names import SignalNumber


@final
class ExitStatus:
    """The status of a process that has ended; true when it succeeded.

    Nothing is inferred: an exit code of 137 stays a code, although shells use it to tell of a KILL.
    A status that was lost (somebody else reaped the process and the kernel has not kept it) is
    unknown, which is never success.

    >>> status = ExitStatus(256)
    >>> status.code, status.signal, status.raw, bool(status), str(status)
    (1, None, 256, False, 'exited with code 1')
    >>> str(ExitStatus(9 | 0x80))
    'killed by KILL (core dumped)'
    >>> bool(ExitStatus(0)), bool(ExitStatus(None))
    (True, False)
    """

    __slots__ = ("raw", "reason")

    raw: int | None
    """The status word as waitpid(2) gives it, Perl's ``$?``; ``None`` when unknown."""
    reason: str
    """Why the status is unknown; empty when it is known."""

    def __init__(self, raw: int | None, reason: str = "") -> None:
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "reason", reason)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an ExitStatus is a fact; its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an ExitStatus is a fact; its {name} cannot be deleted")

    @property
    def known(self) -> bool:
        """Whether anybody knows how the process ended."""
        return self.raw is not None

    @property
    def code(self) -> int | None:
        """The exit code, 0 to 255; ``None`` when a signal ended the process or nothing is known."""
        return self.raw >> 8 if self.raw is not None and not self.raw & 0x7F else None

    @property
    def signal(self) -> SignalNumber | None:
        """The signal that ended the process, an ``int`` that prints as its name; else ``None``."""
        return SignalNumber(self.raw & 0x7F) if self.raw is not None and self.raw & 0x7F else None

    @property
    def core_dumped(self) -> bool:
        """Whether the process left a core (the kernel's word: the file may have gone elsewhere)."""
        return self.raw is not None and bool(self.raw & 0x80)

    def __bool__(self) -> bool:
        return self.raw == 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExitStatus) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        if self.raw is None:
            return f"status unknown: {self.reason}" if self.reason else "status unknown"
        if self.signal is not None:
            return f"killed by {self.signal}" + (" (core dumped)" if self.core_dumped else "")
        return f"exited with code {self.code}" if self.raw else "exited successfully"

    def __repr__(self) -> str:
        return f"ExitStatus({self.raw!r})" if not self.reason else f"ExitStatus({self.raw!r}, {self.reason!r})"

    def __reduce__(self) -> tuple[type[ExitStatus], tuple[int | None, str]]:
        return ExitStatus, (self.raw, self.reason)
