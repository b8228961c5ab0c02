"""Pipelines: all stages start or none, each keeps its status."""

from __future__ import annotations

import sys

import pytest

import hornpipe as hp
from hornpipe.testing.stubborn import find_marked, new_mark


def upper() -> None:
    sys.stdout.write(sys.stdin.read().upper())


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestPipelines:
    def test_each_stage_has_its_status_and_the_error_names_the_first_that_failed(self) -> None:
        """gotcha:P1, gotcha:P10"""
        with pytest.raises(hp.CommandFailed, match="stage 2 of") as caught:
            (hp.cmd("true") | hp.sh("cat; exit 3") | hp.sh("cat; exit 4")).read()
        assert [status.code for status in caught.value.statuses] == [0, 3, 4]
        assert (caught.value.stage, caught.value.status.code) == (1, 3)

    def test_nothing_is_left_running_when_a_later_stage_cannot_start(self) -> None:
        """gotcha:P10"""
        mark = new_mark()
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            (hp.cmd("perl", "-e", "sleep 30", mark) | hp.cmd("no-such-program")).read()
        assert not find_marked(mark)

    def test_a_writer_whose_reader_had_enough_succeeds(self) -> None:
        """gotcha:P2"""
        made = (hp.cmd("yes") | hp.cmd("head", "-1")).with_options(timeout=10).capture()
        assert (made.stdout, made.statuses[0].signal) == ("y\n", 13)

    def test_a_callable_is_a_stage(self) -> None:
        """Row B5."""
        assert (hp.cmd("echo", "a") | hp.fn(upper) | hp.cmd("cat")).read() == "A\n"

    def test_a_signal_reaches_every_stage(self) -> None:
        """gotcha:P10"""
        with (hp.cmd("sleep", "30") | hp.cmd("sleep", "30", stdout=hp.NULL)).start() as job:
            try:
                assert job.kill("TERM")
                job.processes[0].wait(5)
                assert job.processes[1].wait(1).signal == 15
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
