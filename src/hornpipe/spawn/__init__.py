"""From a recipe and descriptors to a running process."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator

from hornpipe import image, reaper, wait
from hornpipe._native import run as _run
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import NEVER, after, passed, sooner
from hornpipe.errors import ForkWarning
from hornpipe.fd import Descriptor, pipe
from hornpipe.process import Process
from hornpipe.reaper import Child
from hornpipe.spawn.diagnosis import EXEC, FORK, failure
from hornpipe.spawn.recipe import Recipe

Ends = tuple[int | None, int | None, int | None]
"""The child's stdin, stdout and stderr: a descriptor of ours, ``SHUT``, ``EMPTY``, or ``None`` for the same as ours."""

SHUT = -1
"""The child starts with this one closed."""
EMPTY = -2
"""The child finds nothing to read there: /dev/null, which it opens itself."""

_RETRIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Seconds between tries while fork says EAGAIN: two thirds of a second in all (gotcha:SP5)."""


def moves_of(ends: Ends, pass_fds: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Which of our descriptors becomes which of the child's."""
    if ends == (None, None, None) and not pass_fds:
        return ()
    moves = tuple([(end, number) for number, end in enumerate(ends) if end is not None])
    return moves + tuple((fd, fd) for fd in pass_fds) if pass_fds else moves


def plan_of(
    recipe: Recipe, ends: Ends, *, group: bool, terminal: int, foreground: int, death_signal: int = 0, joined: int = 0
) -> _spawn.Plan:
    """The native room's plan. With ``group`` the child leads a process group, or joins the one ``joined``."""
    ids = recipe.ids
    return _spawn.Plan(
        moves_of(ends, recipe.pass_fds),
        recipe.cwd,
        recipe.new_session,
        group,
        terminal,
        foreground,
        recipe.umask,
        -1,
        death_signal,
        None if ids is None else (ids.uid, ids.gid, ids.groups),
        recipe.limits,
        image.ignored,
        joined,
    )


def start(
    recipe: Recipe,
    ends: Ends,
    *,
    group: bool = False,
    terminal: int = -1,
    foreground: int = -1,
    deadline: int = NEVER,
) -> Process:
    """Start it. ``SpawnError`` when that fails, with nothing left behind.

    With ``group`` the child leads a process group of its own, which ``kill`` then reaches as a whole.
    """
    child = Child()
    try:
        start_child(child, recipe, ends, group, terminal, foreground, deadline)
        return Process(child, recipe.command, rung="session" if recipe.new_session else "group" if group else "process")
    except BaseException:
        child.end(group or recipe.new_session)
        raise


def start_child(
    child: Child,
    recipe: Recipe,
    ends: Ends,
    group: bool = False,
    terminal: int = -1,
    foreground: int = -1,
    deadline: int = NEVER,
) -> None:
    """The same; whoever made the ``child`` has to end it if an exception comes, perhaps a signal handler's."""
    plan = plan_of(recipe, ends, group=group, terminal=terminal, foreground=foreground)
    if recipe.function is None:
        launch(recipe, plan, deadline, child)
    else:
        fork(recipe, plan, deadline, child)


def begin(child: Child, recipe: Recipe, ends: Ends) -> _run.Birth | None:
    """Start a program without waiting for its exec, for whoever waits for its end in any case.

    ``check_birth`` tells him then whether it was started; ``None``: it was.
    """
    candidates = recipe.candidates()
    if not candidates:
        raise failure(recipe, errno.ENOENT, EXEC, 0, [])
    plan = plan_of(recipe, ends, group=False, terminal=-1, foreground=-1)
    birth = _run.begin(plan, candidates, recipe.arguments, recipe.environment_list(), child, reaper.ours)
    if birth is None:
        launch(recipe, plan, NEVER, child)
    else:
        reaper.catch_up()
    return birth


def check_birth(recipe: Recipe, told: tuple[int, int, int]) -> None:
    """``SpawnError`` if a child that has ended had not become the program: what its birth has told."""
    error, stage, which = told
    if error:
        raise failure(recipe, error, stage, which, recipe.candidates())


def launch(recipe: Recipe, plan: _spawn.Plan, deadline: int, child: Child, argv: list[bytes] | None = None) -> None:
    """Start a program, with ``argv`` instead of its own arguments if given. The ``child`` is as for ``start_child``."""
    candidates = recipe.candidates()
    if not candidates:
        raise failure(recipe, errno.ENOENT, EXEC, 0, [])
    if argv is None:
        argv = recipe.arguments
    environment = recipe.environment_list()
    retries: Iterator[float] | None = None
    # A child with other credentials is forked: had it borrowed our memory, the kernel would
    # leave us undumpable for good (gotcha:PR7).
    share = recipe.ids is None
    report = Descriptor()
    while True:
        error, stage, which = plan.launch(candidates, argv, environment, share, child, reaper.ours, report)
        if error == errno.ETIME and share:
            share = False  # the exec takes long, and is waited for where deadlines and signals are heard
            continue
        if error == errno.EAGAIN and stage == FORK and which == 0:
            retries = retries or iter(_RETRIES)
            if _wait_a_little(retries, deadline):
                continue
        break
    reaper.catch_up()
    if not child.pid:
        raise failure(recipe, error, stage, which, candidates)
    if not report.closed:
        await_report(recipe, child, report, deadline, candidates)


def _wait_a_little(retries: Iterator[float], deadline: int) -> bool:
    delay = next(retries, None)
    if delay is None or passed(deadline):
        return False
    wait.until([], sooner(deadline, after(delay)))
    return True


def await_report(recipe: Recipe, child: Child, report: Descriptor, deadline: int, candidates: list[bytes]) -> None:
    """End of file says that the child is on its way; anything else why it is not."""
    try:
        if not wait.one(report.fileno(), wait.READ, deadline):
            raise TimeoutError(f"{recipe.label!r} could not be started in time")
        told = os.read(report.fileno(), 64)
    except BaseException:
        child.signal(9)
        child.wait(after(0.05))
        raise
    finally:
        report.close()
    if told:
        child.wait(NEVER)
        error, stage, which = _spawn.parse_report(told)
        child.close()
        raise failure(recipe, error, stage, which, candidates)


def fork(recipe: Recipe, plan: _spawn.Plan, deadline: int, child: Child) -> None:
    """Start a callable in a forked child."""
    from hornpipe.spawn.forked import run_child

    kept = (0, 1, 2, *recipe.pass_fds)
    reader, writer = report_pipe(recipe)
    with writer:
        fork_child(recipe, lambda: run_child(recipe, plan, writer.fileno(), kept), deadline, child)
    await_report(recipe, child, reader, deadline, [])


def report_pipe(recipe: Recipe) -> tuple[Descriptor, Descriptor]:
    """Where a forked child says what failed before it was on its way."""
    try:
        return pipe()
    except OSError as error:
        raise failure(recipe, error.errno or 0, FORK, 1, []) from None


def fork_child(recipe: Recipe, child_main: Callable[[], None], deadline: int, child: Child) -> None:
    """fork(2), tried again for a while when the system has no room."""
    warn_of_threads(recipe)
    retries = iter(_RETRIES)
    while error := _spawn.fork_child(child_main, child, reaper.ours):
        if error != errno.EAGAIN or not _wait_a_little(retries, deadline):
            raise failure(recipe, error, FORK, 0, [])
    reaper.catch_up()


def fork_children(recipe: Recipe, wanted: list[tuple[Callable[[], None], Child]]) -> None:
    """fork(2) for each, one right after the other; ``SpawnError`` when there was not room for all: some have no pid."""
    warn_of_threads(recipe)
    error = _spawn.fork_children(wanted, reaper.ours)
    reaper.catch_up()
    if error:
        raise failure(recipe, error, FORK, 0, [])


def warn_of_threads(recipe: Recipe) -> None:
    """A lock that another thread holds at the fork stays locked in the child for ever (gotcha:R5)."""
    import sys

    threading = sys.modules.get("threading")
    if threading is None:
        return
    others = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.name.startswith("hornpipe-")
    ]
    if others:
        warnings.warn(
            f"{recipe.label!r} forks while other threads live ({', '.join(others[:5])}): locks that they hold "
            "stay locked in the child for ever; run a program with cmd(), or fork before starting threads",
            ForkWarning,
            stacklevel=2,
        )
