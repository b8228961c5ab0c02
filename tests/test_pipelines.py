"""Pipelines: all stages start or none, each keeps its status."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing.processes import children

MIB = 1 << 20


def copy() -> None:
    while data := os.read(0, 65536):
        os.write(1, data)


def copy_and_exit(code: int) -> None:
    copy()
    os._exit(code)


def say_for_ever() -> None:
    while True:
        os.write(1, b"y\n" * 1000)


def take_a_line() -> None:
    print(sys.stdin.readline(), end="")


def wait_for_ever() -> None:
    while True:
        signal.pause()


# Each stage as a program, and as the callable that does the same.
STAGES: dict[str, tuple[Any, Any]] = {
    "copy": (hp.cmd("cat"), hp.fn(copy)),
    "fail with 3": (hp.sh("cat; exit 3"), hp.fn(copy_and_exit, 3)),
    "fail with 4": (hp.sh("cat; exit 4"), hp.fn(copy_and_exit, 4)),
    "say for ever": (hp.cmd("yes"), hp.fn(say_for_ever)),
    "take a line": (hp.cmd("head", "-1"), hp.fn(take_a_line)),
    "wait for ever": (hp.cmd("sleep", "30"), hp.fn(wait_for_ever)),
}


# Where the callables stand: a terminal is refused in a pipeline.
@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize(
    "callables", [(), (0,), (1,), (2,), (0, 1, 2)], ids=["programs", "first", "second", "third", "callables"]
)
class TestPipelines:
    def pipeline(self, callables: tuple[int, ...], *names: str) -> hp.Pipeline[str]:
        stages = [STAGES[name][number in callables] for number, name in enumerate(names)]
        joined = stages[0] | stages[1]
        for stage in stages[2:]:
            joined = joined | stage
        return joined

    def test_each_stage_has_its_status_and_the_error_names_the_first_that_failed(
        self, callables: tuple[int, ...]
    ) -> None:
        """gotcha:P1, gotcha:P10"""
        with pytest.raises(hp.CommandFailed, match="stage 2 of") as caught:
            self.pipeline(callables, "copy", "fail with 3", "fail with 4").read()
        assert [status.code for status in caught.value.statuses] == [0, 3, 4]
        assert (caught.value.stage, caught.value.status.code) == (1, 3)

    def test_mebibytes_go_through_while_they_are_fed(self, callables: tuple[int, ...]) -> None:
        """gotcha:C1, gotcha:P10: no stage keeps an end of another's pipe, so each reads its end of file."""
        data = b"0123456789abcdef" * (8 * MIB // 16)
        first, second, third = [STAGES["copy"][number in callables] for number in range(3)]
        fed = first.with_options(input=data) | second | third
        assert fed.with_options(timeout=30).as_bytes().read() == data

    def test_nothing_is_left_running_when_a_later_stage_cannot_start(self, callables: tuple[int, ...]) -> None:
        """gotcha:P10"""
        started = self.pipeline(callables, "wait for ever", "wait for ever")
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            (started | hp.cmd("no-such-program")).read()
        assert children() == []

    def test_a_writer_whose_reader_had_enough_succeeds(self, callables: tuple[int, ...]) -> None:
        """gotcha:P2"""
        made = self.pipeline(callables, "say for ever", "take a line").with_options(timeout=30).capture()
        assert (made.stdout, made.statuses[0].signal) == ("y\n", signal.SIGPIPE)

    def test_leaving_early_ends_every_stage(self, callables: tuple[int, ...]) -> None:
        """perlipc:O8, gotcha:P10."""
        with self.pipeline(callables, "say for ever", "copy", "copy").lines() as lines:
            assert next(lines) == "y"
            assert len(children()) == 3
        assert children() == []

    def test_a_signal_reaches_every_stage(self, callables: tuple[int, ...]) -> None:
        """gotcha:P10"""
        with self.pipeline(callables, "wait for ever", "wait for ever", "wait for ever").start() as job:
            try:
                assert job.kill("TERM")
                assert [process.wait(30).signal for process in job.processes] == [signal.SIGTERM] * 3
            finally:
                job.terminate()


@pytest.mark.parametrize("option", [{"input": "x"}, {"input": ""}, {"stdin": hp.NULL}, {"stdin": 0}])
def test_an_input_for_a_later_stage_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="middle of a pipeline"):
        hp.cmd("true") | hp.cmd("cat", **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"timeout": 1}, {"check": False}, {"ok_codes": (1,)}, {"grace": 1}])
def test_what_belongs_to_the_whole_is_refused_in_a_stage(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="pipeline as a whole"):
        hp.cmd("true", **option) | hp.cmd("cat")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="belongs to a stage"):
        (hp.cmd("true") | hp.cmd("cat")).with_options(cwd="/")  # type: ignore[call-arg]
