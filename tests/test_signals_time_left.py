"""Interrupted again and again, a call with a limit is neither longer nor shorter for it (perlipc:S13, gotcha:SIG11)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing.mechanisms import without_pidfd

LATE = 0.05


def without_processor() -> float:
    """Seconds that this thread was ready to run and the machine had other things to do."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


SLEEP = hp.cmd("sleep", "60", grace=0, stdin=hp.NULL)
LIMIT = 0.25


def give_up(call: Callable[[Any], object]) -> Callable[[], None]:
    """With a process that does not end by itself, and its own limit to the call."""

    def limited() -> None:
        with SLEEP.start() as process:
            try:
                call(process)
            finally:
                process.kill()

    return limited


def wait_for_a_pipeline() -> None:
    with (hp.cmd("sleep", "60") | hp.cmd("cat")).start() as job:
        try:
            job.wait(timeout=LIMIT)
        finally:
            job.kill()


def watch_for(seconds: float) -> None:
    with hp.watch("USR1") as watch:
        watch.get(timeout=seconds)


def wait_for_a_blocked_signal() -> None:
    with hp.signals.block("USR1"):
        hp.signals.wait("USR1", timeout=LIMIT)


def ask() -> None:
    with hp.cmd("sh", "-c", "read line; read line").duplex() as child:
        child.ask("?", timeout=LIMIT)


TIMED: dict[str, Callable[[], object]] = {
    "run": SLEEP.with_options(timeout=LIMIT).run,
    "read": SLEEP.with_options(timeout=LIMIT).read,
    "capture": SLEEP.with_options(timeout=LIMIT).capture,
    "contain": SLEEP.with_options(timeout=LIMIT, contain=True).run,
    "lines": lambda: list(SLEEP.with_options(timeout=LIMIT).lines()),
    "reader": lambda: SLEEP.with_options(timeout=LIMIT).reader().read(),
    "writer": lambda: hp.cmd("sleep", "60", timeout=LIMIT, grace=0).writer().write("x" * 200_000),
    "call": hp.fn(signal.sigwait, [signal.SIGUSR1]).with_options(timeout=LIMIT, grace=0).call,
    "Process.wait": give_up(lambda process: process.wait(LIMIT)),
    "Job.wait": wait_for_a_pipeline,
    "Watch.get": partial(watch_for, LIMIT),
    "wait": wait_for_a_blocked_signal,
    "ask": ask,
}


@pytest.mark.parametrize("mechanism", ["pidfd", "no pidfd"])
@pytest.mark.parametrize("name", TIMED)
def test_a_call_goes_on_with_the_time_it_had_left(name, mechanism):
    """perlipc:S13, gotcha:SIG11: interrupted again and again it is neither longer nor shorter."""

    def on_time() -> bool:
        """Never before its time. On a machine with other things to do it may be later than that tells of."""
        late: list[float] = []

        def handler(sig: hp.Signal) -> None:
            late.append(time.monotonic() - sig.time - (without_processor() - idle))

        with hp.SIG.local(ALRM=handler):
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            try:
                idle, begin = without_processor(), time.monotonic()
                with pytest.raises(TimeoutError):
                    TIMED[name]()
                took, busy = time.monotonic() - begin, without_processor() - idle
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert took >= LIMIT
        # Its children had to start and to end as well.
        return took < LIMIT + 0.05 + busy + 0.1 and len(late) > 5 and max(late) < LATE

    with without_pidfd() if mechanism == "no pidfd" else contextlib.nullcontext():
        assert any(on_time() for _ in range(10))
