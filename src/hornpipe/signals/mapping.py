"""``SIG``: every signal's disposition by name, as Perl's ``%SIG`` has it (perlipc:S1, S3, S6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from hornpipe._native import signals as _signals
from hornpipe.names import SIGNALS, signal_name
from hornpipe.signals import dispositions
from hornpipe.signals.dispositions import Armed, Foreign, Handler
from hornpipe.signals.immediate import Immediate

Disposition = Handler | Foreign | Immediate | Literal["DEFAULT", "IGNORE"]


class Entry(NamedTuple):
    """One line of ``SIG.table()``."""

    name: str
    number: int
    default: str
    """What it does to a process that has said nothing: terminate, core, ignore, stop or continue."""
    disposition: object
    """What ``SIG[name]`` gives."""


_CORE = ["QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "XCPU", "XFSZ", "SYS"]
_OTHERS = {"CHLD": "ignore", "URG": "ignore", "WINCH": "ignore", "CONT": "continue"}
_STOPPING = ["STOP", "TSTP", "TTIN", "TTOU"]


def default_action(number: int) -> str:
    """What the kernel does when nobody has said anything (signal(7))."""
    name = signal_name(number)
    if name in _CORE:
        return "core"
    return "stop" if name in _STOPPING else _OTHERS.get(name, "terminate")


class Dispositions:
    """A mapping from signals to what they do: a handler, ``"DEFAULT"`` or ``"IGNORE"``.

    Keys are names (with or without SIG) or numbers. A handler is called in the main thread, with
    one ``Signal``; what it raises comes out of the code that it interrupted. A handler that
    somebody else installed reads as an opaque ``Foreign`` and can be assigned again.

    >>> import hornpipe as hp, os
    >>> hp.SIG["USR1"] = lambda sig: print(f"{sig} from {'us' if sig.pid == os.getpid() else sig.pid}")
    >>> hp.kill("USR1", os.getpid())
    USR1 from us
    >>> hp.SIG["USR1"] = "IGNORE"
    >>> hp.SIG["SIGUSR1"], hp.SIG[12]
    ('IGNORE', 'DEFAULT')
    >>> hp.SIG["USR1"] = "DEFAULT"
    """

    def __getitem__(self, which: str | int) -> Disposition:
        number = dispositions.number_of(which, settable=False)
        found = dispositions.current(number)
        if isinstance(found, Armed):
            return found.handler
        if isinstance(found, Foreign | Immediate):
            return found
        return "IGNORE" if found == "IGNORE" else "DEFAULT"

    def __setitem__(self, which: str | int, disposition: Disposition) -> None:
        sigaction(which, disposition)

    def __iter__(self) -> Iterator[str]:
        return iter(SIGNALS.values())

    def __len__(self) -> int:
        return len(SIGNALS)

    def __contains__(self, which: object) -> bool:
        try:
            dispositions.number_of(which, settable=False)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
        return True

    def local(self, changes: Mapping[str, Disposition] | None = None, /, **more: Disposition) -> Local:
        """Other dispositions inside a ``with`` block; whatever was there is there again afterwards.

        >>> import hornpipe as hp
        >>> with hp.SIG.local(HUP="IGNORE", TERM="IGNORE"):
        ...     hp.SIG["HUP"]
        'IGNORE'
        >>> hp.SIG["HUP"]
        'DEFAULT'
        """
        return Local({**(changes or {}), **more})

    def displaced(self) -> tuple[str, ...]:
        """The signals whose handler or watch of ours was replaced behind our back, by name."""
        return tuple(signal_name(number) for number in dispositions.all_displaced())

    def rearm(self) -> tuple[str, ...]:
        """Put ours back in all of those; their names."""
        found = dispositions.all_displaced()
        if found:
            dispositions.check_main_thread("SIG.rearm()")
        for number in found:
            dispositions.rearm(number)
        return tuple(signal_name(number) for number in found)

    def table(self) -> list[Entry]:
        """Every signal of this system with its number, default action and disposition.

        >>> import hornpipe as hp
        >>> [entry for entry in hp.SIG.table() if entry.name == "KILL"]
        [Entry(name='KILL', number=9, default='terminate', disposition='DEFAULT')]
        """
        return [Entry(name, number, default_action(number), self[number]) for number, name in SIGNALS.items()]

    def __repr__(self) -> str:
        changed = {entry.name: entry.disposition for entry in self.table() if entry.disposition != "DEFAULT"}
        return f"<SIG {changed}>"


class Local(_signals.Scope):
    """Dispositions for the time of a ``with`` block."""

    def __init__(self, changes: dict[str, Disposition]) -> None:
        for which, disposition in changes.items():
            _check(dispositions.number_of(which), disposition)
        self._changes = changes
        self._before: list[tuple[int, dispositions.Saved]] = []

    def _begin(self, held: _signals.Held) -> None:
        dispositions.check_main_thread("SIG.local()")
        depth = len(self._before)
        try:
            for which, disposition in self._changes.items():
                number = dispositions.number_of(which)
                self._before.append((number, dispositions.snapshot(number)))
                SIG[number] = disposition
        except BaseException:
            self._put_back(depth)
            raise

    def _end(self, held: _signals.Held, error: object) -> None:
        self._put_back(len(self._before) - len(self._changes))

    def _put_back(self, depth: int) -> None:
        # The last change first: the same signal may have been named twice, by two of its names.
        while len(self._before) > depth:
            number, before = self._before.pop()
            _end_immediate(number)
            before.put_back(number)


def _end_immediate(number: int) -> None:
    acting = dispositions.immediate.get(number)
    if isinstance(acting, Immediate):
        acting.take_away(number)


def _check(number: int, disposition: object) -> None:
    if isinstance(disposition, Foreign):
        if disposition.number != number:
            raise ValueError(f"{disposition!r} was read from another signal than {signal_name(number)}")
    elif disposition in ("DEFAULT", "IGNORE"):
        if disposition == "IGNORE":
            dispositions.check_catchable(number)
    elif isinstance(disposition, str):
        raise ValueError(f"a signal is handled by a callable, 'DEFAULT' or 'IGNORE', not {disposition!r}")
    elif not callable(disposition) and not isinstance(disposition, Immediate):
        raise TypeError(
            f"a signal is handled by a callable, 'DEFAULT' or 'IGNORE', not by a {type(disposition).__name__}"
        )
    else:
        dispositions.check_catchable(number)


def sigaction(
    which: str | int,
    disposition: Disposition,
    *,
    restart: bool = False,
    nodefer: bool = False,
    resethand: bool = False,
    nocldstop: bool = False,
    nocldwait: bool = False,
    mask: Iterable[str | int] = (),
) -> None:
    """Set what a signal does, with the flags of POSIX (sigaction(2), perlipc:S14).

    ``restart``: system calls go on by themselves. ``nodefer``: the handler may be interrupted by its
    own signal. ``resethand``: once only, then the default. ``nocldstop`` and ``nocldwait``: CHLD only
    for deaths; no zombies. ``mask``: these signals' handlers wait while this one runs.
    ``ValueError`` off the main thread, for KILL and STOP, and for faults (perlipc:S5, S16).

    >>> import hornpipe as hp, os
    >>> hp.signals.sigaction("USR1", lambda sig: print("once"), resethand=True)
    >>> hp.kill("USR1", os.getpid())
    once
    >>> hp.SIG["USR1"]
    'DEFAULT'
    """
    number = dispositions.number_of(which)
    _check(number, disposition)
    blocked = tuple(dispositions.number_of(other) for other in mask)
    dispositions.check_main_thread("SIG")
    flags = (
        restart * _signals.RESTART
        | nodefer * _signals.NODEFER
        | resethand * _signals.RESETHAND
        | nocldstop * _signals.NOCLDSTOP
        | nocldwait * _signals.NOCLDWAIT
    )
    _end_immediate(number)
    if isinstance(disposition, Foreign | Immediate):
        disposition.put_back(number)
    elif disposition == "DEFAULT" or disposition == "IGNORE":
        dispositions.simply(number, disposition == "IGNORE", flags)
    else:
        handler: Handler = disposition
        dispositions.arm(number, dispositions.armed_with(handler, flags, blocked))


SIG = Dispositions()
"""The dispositions of this process."""
