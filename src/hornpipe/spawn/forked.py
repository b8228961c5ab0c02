"""A callable in a forked child: Perl's ``open(H, "-|")`` (perlipc:O11).

No path returns from the child into the caller's frames: it leaves by ``_exit`` in every case, so
that exit handlers and the buffers it inherited stay the parent's alone (gotcha:SP6, perlipc:O9).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from hornpipe import image, wait
from hornpipe._native import process as _process
from hornpipe._native import spawn as _spawn
from hornpipe._native import wait as _wait
from hornpipe.deadline import NEVER
from hornpipe.endings import run_endings
from hornpipe.spawn.recipe import Recipe

_kept: list[Any] = []
"""What must not be finalized in a child: objects that flush or close something of the parent's."""


def run_child(
    recipe: Recipe, plan: _spawn.Plan, report: int, kept: Iterable[int], parent: int = 0, gate: int = -1
) -> None:
    """The life of the child, from just after the fork to its end; none without its ``parent``, if given.

    With a ``gate`` the callable begins when a byte comes there, and not at all where it ends without one.
    """
    status = 70
    try:
        # Cyclic garbage made before the fork may own descriptors; closing them here by number
        # would hit whatever has the number by then.
        gc.freeze()
        _reset_signals()
        report, error, stage, which = plan.apply(report)
        # The plan asked for a signal at the parent's death; one that came before was not announced.
        if parent and os.getppid() != parent:
            os._exit(127)
        if error:
            os.write(report, _spawn.build_report(error, stage, which))
            os._exit(127)
        # Listeners, locks, the other ends of everybody's pipes: the parent's (gotcha:R6).
        _process.close_all_but([*kept, report, *([gate] if gate >= 0 else [])])
        _renew_standard_streams()
        if recipe.environment is not None:
            os.environb.clear()
            os.environb.update(recipe.environment)
        os.close(report)  # its end of file says that we are on our way
        if gate >= 0 and not _let_in(gate):
            os._exit(127)
        assert recipe.function is not None
        status = _exit_code_of(recipe.function)
        _die_if_told()
    finally:
        os._exit(status)


def _let_in(gate: int) -> bool:
    wait.one(gate, wait.READ, NEVER)
    try:
        return bool(os.read(gate, 1))
    finally:
        os.close(gate)


def _reset_signals() -> None:
    """Python's own table, which the plan's reset of the kernel's does not touch."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        found = signal.getsignal(number)
        if found == signal.SIG_IGN and image.ignored >> (number - 1) & 1:
            continue
        if found not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    _wait.abandon()
    if "hornpipe.signals.watching" in sys.modules:
        from hornpipe.signals import dispositions, watching

        dispositions.abandon()
        watching.abandon()


def _renew_standard_streams() -> None:
    # The old objects hold what the parent had printed and not flushed: kept alive, never flushed.
    _kept.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin = sys.__stdin__ = _stream(0, "r", "surrogateescape")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", "surrogateescape")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace")  # type: ignore[misc]


def _stream(fd: int, mode: str, errors: str) -> Any:
    try:
        stream: Any = open(fd, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    except OSError:
        return None  # closed, as Python itself shows it
    if fd == 2:
        stream.reconfigure(line_buffering=True)
    return stream


def _exit_code_of(function: Callable[[], Any]) -> int:
    try:
        try:
            function()
            code = 0
        except SystemExit as error:
            code = _code_of_exit(error)
    except BaseException:  # noqa: BLE001  whatever it is, it must not walk on into the parent's frames
        # The interpreter's own: as somebody else we may not be allowed to read what the traceback module loads.
        sys.__excepthook__(*sys.exc_info())
        code = 1
    return code if _flush() else code or 1


def _die_if_told() -> None:
    """A signal that ``unwind`` named: exit handlers are the parent's, the rest of the leaving is ours."""
    signals = sys.modules.get("hornpipe._native.signals")
    if signals is not None and signals.told_to_die():
        run_endings()
        signals.die()


def _code_of_exit(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    if sys.stderr is not None:
        print(error.code, file=sys.stderr)
    return 1


def _flush() -> bool:
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            whole = False
        except RuntimeError:
            pass  # forked by a handler in the middle of a print, which is the parent's
    return whole
