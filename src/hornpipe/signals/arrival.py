"""One signal as it arrived: what the kernel said about it (siginfo, sigaction(2))."""

from __future__ import annotations

from signal import SIGCHLD

from hornpipe._native.signals import Record
from hornpipe.names import signal_name
from hornpipe.status import ExitStatus

_CODES = {0: "USER", 0x80: "KERNEL", -1: "QUEUE", -2: "TIMER", -3: "MESGQ", -4: "ASYNCIO", -5: "SIGIO", -6: "TKILL"}
_CHILD_CODES = {1: "EXITED", 2: "KILLED", 3: "DUMPED", 4: "TRAPPED", 5: "STOPPED", 6: "CONTINUED"}
_CHLD = int(SIGCHLD)


class Signal(Record):
    """One signal: which, from whom, when, and what it carried.

    Given to handlers, and taken out of a ``watch``. As text it is its name; as an index its number.

    >>> import hornpipe as hp, os
    >>> with hp.watch("USR1") as signals:
    ...     hp.kill("USR1", os.getpid())
    ...     sig = signals.get(timeout=5)
    >>> str(sig), sig.number, sig.code, sig.pid == os.getpid()
    ('USR1', 10, 'USER', True)
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The canonical name, without SIG."""
        return signal_name(self.number)

    @property
    def code(self) -> str:
        """How it came about: ``"USER"`` (kill), ``"QUEUE"``, ``"KERNEL"``, ``"TIMER"``, ``"TKILL"``...; for CHLD what
        happened to the child: ``"EXITED"``, ``"KILLED"``, ``"DUMPED"``, ``"STOPPED"``, ``"CONTINUED"``, ``"TRAPPED"``.
        """
        codes = _CHILD_CODES if self.number == _CHLD and self.raw_code > 0 else _CODES
        return codes.get(self.raw_code, str(self.raw_code))

    @property
    def status(self) -> ExitStatus | None:
        """For CHLD: how the child ended; ``None`` when it has not, and for any other signal."""
        code = self.code
        if self.number != _CHLD or code not in ("EXITED", "KILLED", "DUMPED"):
            return None
        if code == "EXITED":
            return ExitStatus((self.raw_status & 0xFF) << 8)
        return ExitStatus(self.raw_status | (0x80 if code == "DUMPED" else 0))

    @property
    def time(self) -> float:
        """When it arrived, on the clock of ``time.monotonic()``: how late its handler runs is the difference."""
        return self.nanoseconds / 1e9

    def __index__(self) -> int:
        return self.number

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name} by {self.code} from pid {self.pid}, uid {self.uid}, value {self.value}>"
