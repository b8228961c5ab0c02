"""Signals by name and number, from the system's own list (perlipc:S2).

Names are given without SIG; ``INT``, ``SIGINT``, ``signal.SIGINT``, ``2`` and ``RTMIN+1`` are all
understood, and one canonical name is printed for each number.
"""

from __future__ import annotations

import signal

# More names for one number: the value is the one we print.
_ALIASES = {"CLD": "CHLD", "POLL": "IO", "IOT": "ABRT", "UNUSED": "SYS"}


def _table() -> tuple[dict[str, int], dict[int, str]]:
    numbers: dict[str, int] = {}
    for name in dir(signal):
        if name.startswith("SIG") and not name.startswith("SIG_"):
            numbers[name[3:]] = int(getattr(signal, name))
    names = {number: name for name, number in numbers.items() if name not in _ALIASES}
    if "RTMIN" in numbers:
        # 32 and 33 belong to libc, so this list starts where libc says and not where the kernel does.
        low, high = numbers["RTMIN"], numbers["RTMAX"]
        middle = (low + high) // 2
        for number in range(low + 1, high):
            names[number] = f"RTMIN+{number - low}" if number <= middle else f"RTMAX-{high - number}"
    return numbers, names


_NUMBERS, _NAMES = _table()

SIGNALS = dict(sorted(_NAMES.items()))
"""Every signal of this system: number and canonical name."""


def signal_number(which: str | int) -> int:
    """The number of a signal given by name or number.

    Raises ``ValueError`` for one that this system does not have.

    >>> signal_number("INT"), signal_number("SIGKILL"), signal_number(15)
    (2, 9, 15)
    >>> signal_name(signal_number("RTMIN+1"))
    'RTMIN+1'
    """
    if isinstance(which, str):
        name = which.upper().removeprefix("SIG")
        number = _NUMBERS.get(name)
        if number is None:
            number = _relative(name)
        if number is not None:
            return number
        raise ValueError(f"no signal is named {which!r} on this system{_nearest(name)}")
    if type(which) is int and which in _NAMES:
        return which
    if isinstance(which, bool) or not isinstance(which, int):
        raise TypeError(f"a signal is given by name or number, not as {type(which).__name__}")
    if int(which) not in _NAMES:
        raise ValueError(f"no signal has the number {int(which)} on this system")
    return int(which)


def _relative(name: str) -> int | None:
    for start, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        step = name.removeprefix(start)
        if step != name and step.isdecimal():
            number = _NUMBERS[start[:5]] + sign * int(step)
            return number if _NUMBERS["RTMIN"] <= number <= _NUMBERS["RTMAX"] else None
    return None


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, _NUMBERS, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def signal_name(number: int) -> str:
    """The canonical name, without SIG; a number that has none is given as digits.

    >>> signal_name(9)
    'KILL'
    """
    return _NAMES.get(number, str(number))


class SignalNumber(int):
    """A signal's number that prints as its name.

    >>> number = SignalNumber(9)
    >>> number == 9, str(number), number.name
    (True, 'KILL', 'KILL')
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The canonical name, without SIG."""
        return signal_name(int(self))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name}: {int(self)}>"
