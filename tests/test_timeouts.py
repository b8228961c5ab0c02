"""A timeout is total: it bounds starting, I/O, waiting, and grandchildren that hold the pipes."""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing import stubborn
from hornpipe.testing.processes import children, look_at
from hornpipe.testing.stubborn import find_marked, new_mark, wait_gone, wait_until

TIMEOUT = 0.2
GRACE = 0.1
SLACK = 5.0
"""The promise is 50 ms; a machine that runs many tests at once is not the place to measure them."""


@contextlib.contextmanager
def over_in_time(
    timeout: float = TIMEOUT, grace: float = GRACE, kind: type[TimeoutError] = hp.CommandTimeout
) -> Iterator[pytest.ExceptionInfo[Any]]:
    """The block times out: not before its limit, not long after it, and leaves no child, not even a zombie."""
    before = {child.pid for child in children()}
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        yield caught
    took = time.monotonic() - began
    assert timeout <= took < timeout + grace + SLACK
    assert {child.pid for child in children()} <= before


def time_out(
    call: Callable[[float], object], came_so_far: Callable[[], bool], grace: float = GRACE
) -> hp.CommandTimeout:
    """What it raises when its limit passes: as long a one as a busy machine needs for what the program does first."""
    for timeout in (TIMEOUT, 2.0, 10.0):
        with over_in_time(timeout=timeout, grace=grace) as caught:
            call(timeout)
        if came_so_far():
            break
    assert caught.value.timeout == timeout
    error: hp.CommandTimeout = caught.value
    return error


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """A file that a program makes when it has done what it does first."""
    return tmp_path / "said"


def and_say_so(argv: list[str], said: Path) -> list[str]:
    """Run it as a child, and tell of its end."""
    return ["sh", "-c", '"$@"; : >"$0"', str(said), *argv]


@contextlib.contextmanager
def marked() -> Iterator[str]:
    """A mark; what still carries it at the end of the block is ended, since nobody else can."""
    mark = new_mark()
    try:
        yield mark
    finally:
        for pid in find_marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not find_marked(mark), what="the end of all that carry the mark")


def limited(argv: list[str], timeout: float = TIMEOUT, grace: float = GRACE, **options: Any) -> hp.Command[str]:
    return hp.cmd(*argv, timeout=timeout, grace=grace, **options)


def slow(seconds: float = 30.0) -> None:
    time.sleep(seconds)


def read_all_with_reader(command: Any) -> None:
    with command.reader() as file:
        file.read()


def read_lines(command: Any) -> None:
    list(command.lines())


def close_a_writer(command: Any) -> None:
    with command.writer():
        pass


def fill_a_writer(command: Any) -> None:
    with command.writer() as file:
        for _ in range(1000):
            file.write("x" * 65536)


def ask(command: Any) -> None:
    with command.duplex() as both:
        both.readline()
        both.ask("anybody there?")


def take_events(command: Any) -> None:
    with command.duplex(stderr=True) as both:
        list(both.events())


def start_and_wait(command: Any) -> None:
    command.start().wait()


VERBS: dict[str, Callable[[Any], object]] = {
    "run": lambda command: command.run(),
    "read": lambda command: command.read(),
    "capture": lambda command: command.capture(),
    "lines": read_lines,
    "reader": read_all_with_reader,
    "writer": close_a_writer,
    "ask": ask,
    "events": take_events,
    "start": start_and_wait,
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
CAPTURING = {name: VERBS[name] for name in ("read", "capture", "lines", "reader", "events")}
every_capturing_verb = pytest.mark.parametrize("verb", CAPTURING.values(), ids=CAPTURING.keys())


# Every verb


@every_verb
def test_every_verb_ends_a_child_that_ignores_term(verb: Callable[[Any], object]) -> None:
    """perlipc:S11b, gotcha:T3: no zombie, no polling steps to wait out."""
    with over_in_time(timeout=0.3) as caught:
        verb(limited(stubborn.ignores_term("TERM", "INT", "HUP", "PIPE"), timeout=0.3))
    assert caught.value.timeout == 0.3
    assert caught.value.survivors == ()


@every_verb
def test_every_verb_ends_a_stopped_child(verb: Callable[[Any], object]) -> None:
    """gotcha:T4: a stopped child ignores TERM until CONT."""
    with over_in_time(grace=5):
        verb(limited(["sh", "-c", "kill -STOP $$; exec sleep 30"], grace=5))


@every_verb
def test_every_verb_ends_a_pipeline_whose_every_stage_ignores_term(verb: Callable[[Any], object]) -> None:
    """S11b: two children, no zombie."""
    deaf = hp.cmd("sh", "-c", "trap '' TERM INT HUP PIPE; exec sleep 30")
    with over_in_time():
        verb((deaf | deaf | deaf).with_options(timeout=TIMEOUT, grace=GRACE))


@every_verb
def test_every_verb_needs_no_pidfd_to_be_on_time(verb: Callable[[Any], object], without_pidfd: None) -> None:
    """gotcha:T3, on the portable path."""
    with over_in_time():
        verb(limited(["sleep", "30"]))


@every_capturing_verb
def test_a_grandchild_that_keeps_the_pipes_cannot_hold_a_verb(verb: Callable[[Any], object], said: Path) -> None:
    """gotcha:T1: the child has long ended with success, and the group is ended with all that is in it."""
    with marked() as mark:
        program = and_say_so(stubborn.grandchild_keeps_pipes(mark=mark), said)
        error = time_out(lambda timeout: verb(limited(program, timeout)), said.exists)
        assert wait_gone(find_marked(mark)) == []
    assert "held open" in str(error)


@every_capturing_verb
def test_a_grandchild_that_keeps_the_pipes_and_ignores_term_is_killed(
    verb: Callable[[Any], object], said: Path
) -> None:
    """gotcha:T1, gotcha:T4: the group is signalled though its leader has ended."""
    with marked() as mark:
        program = and_say_so(stubborn.grandchild_keeps_pipes(mark=mark, ignores_term=True), said)
        time_out(lambda timeout: verb(limited(program, timeout)), said.exists)
        assert wait_gone(find_marked(mark)) == []


@every_capturing_verb
@pytest.mark.parametrize("lingers", [False, True], ids=["child gone", "child there"])
def test_a_grandchild_in_another_session_cannot_hold_a_verb(verb: Callable[[Any], object], lingers: bool) -> None:
    """gotcha:T5: no signal of ours reaches it, but the call is over all the same."""
    with marked() as mark, over_in_time():
        verb(limited(stubborn.grandchild_in_new_session(mark=mark, lingers=lingers)))


@pytest.mark.parametrize("verb", [CAPTURING["read"], CAPTURING["capture"]], ids=["read", "capture"])
def test_a_child_that_never_reads_its_input_cannot_hold_a_verb(verb: Callable[[Any], object]) -> None:
    """gotcha:T1: megabytes are left to feed."""
    with over_in_time() as caught:
        verb(limited(stubborn.never_reads(), timeout=0.3, input="x" * 10_000_000))
    assert caught.value.timeout == 0.3


def test_a_child_that_never_reads_its_input_cannot_hold_run() -> None:
    """perlipc:O10: run with an input."""
    with over_in_time():
        limited(stubborn.never_reads(), input=b"x" * 10_000_000, stdout=hp.NULL).run()


def test_an_endless_input_does_not_outlast_the_limit() -> None:
    """gotcha:T1: feeding is bounded too."""

    def endless() -> Iterator[str]:
        while True:
            yield "x" * 1000

    with over_in_time():
        limited(["cat"], stdout=hp.NULL, input=endless()).run()


def test_a_writer_to_a_child_that_never_reads_times_out() -> None:
    with over_in_time():
        fill_a_writer(limited(stubborn.never_reads(), stdout=hp.NULL))


def test_a_duplex_with_a_child_that_never_reads_times_out() -> None:
    with over_in_time(), limited(stubborn.never_reads(), timeout=0.3).duplex() as both:
        both.send("x" * 10_000_000)


def test_output_without_end_does_not_postpone_the_limit() -> None:
    """gotcha:T1: there is always something to read, and the time is looked at all the same."""
    texts: list[Any] = []

    def read(timeout: float) -> None:
        try:
            limited(["yes"], timeout).read()
        except hp.CommandTimeout as error:
            texts.append(error.stdout)
            raise

    time_out(read, lambda: texts[-1] != "")
    assert texts[-1].startswith("y\ny\n")


@pytest.mark.parametrize("kind", ["lines", "reader", "events"])
def test_output_without_end_does_not_postpone_the_limit_of_a_stream(kind: str) -> None:
    """gotcha:T1: each line is there at once, so nobody ever has to wait; the limit holds at the next call."""
    command = limited(["yes"])
    too_late = time.monotonic() + TIMEOUT + GRACE + SLACK
    with over_in_time(), contextlib.ExitStack() as stack:
        stream: Any
        if kind == "lines":
            stream = stack.enter_context(command.lines())
        elif kind == "reader":
            stream = stack.enter_context(command.reader())
        else:
            stream = stack.enter_context(command.duplex()).events()
        for _ in stream:
            if time.monotonic() > too_late:
                break


# What the error says


def test_the_error_carries_what_was_read(said: Path) -> None:
    program = ["sh", "-c", 'echo out; echo err >&2; : >"$0"; exec sleep 30', str(said)]
    error = time_out(lambda timeout: limited(program, timeout).capture(), said.exists)
    assert (error.stdout, error.stderr) == ("out\n", "err\n")
    assert error.status is not None
    assert error.status.signal == signal.SIGTERM
    assert isinstance(error, TimeoutError)
    assert "sleep 30" in str(error)
    assert f"{error.timeout:g} s" in str(error)


def test_the_error_of_bytes_carries_bytes(said: Path) -> None:
    program = ["sh", "-c", r"""printf '\377'; : >"$0"; exec sleep 30""", str(said)]
    error = time_out(lambda timeout: limited(program, timeout).as_bytes().read(), said.exists)
    assert error.stdout == b"\xff"


def test_the_error_carries_the_last_words_too(said: Path) -> None:
    """What the child says on TERM, within its grace, is read."""
    script = "trap 'echo last; exit 3' TERM; echo first; : >\"$0\"; while :; do sleep 0.01; done"
    program = ["sh", "-c", script, str(said)]
    error = time_out(lambda timeout: limited(program, timeout, grace=30).read(), said.exists, grace=30)
    assert error.stdout == "first\nlast\n"


def test_last_words_longer_than_a_pipe_do_not_hold_the_child(said: Path) -> None:
    """A child that writes much on TERM would never end if nobody read it."""
    source = "import signal, sys\n"
    source += "signal.signal(15, lambda *_: (sys.stdout.write('x' * 1000000), sys.stdout.flush(), sys.exit(0)))\n"
    source += "print('ready', flush=True)\nopen(sys.argv[1], 'w').close()\nwhile True: signal.pause()\n"
    program = [sys.executable, "-ISc", source, str(said)]
    error = time_out(lambda timeout: limited(program, timeout, grace=30).read(), said.exists, grace=30)
    assert len(error.stdout) == 1_000_006


def test_a_partial_line_is_in_the_error_of_lines(said: Path) -> None:
    program = ["sh", "-c", 'printf "Password: "; : >"$0"; exec sleep 30', str(said)]
    error = time_out(lambda timeout: list(limited(program, timeout).lines()), said.exists)
    assert "Password: " in str(error.stdout)


def test_what_ask_had_read_is_in_its_error() -> None:
    with hp.cmd("sh", "-c", "printf half; exec sleep 30").duplex() as both:
        assert select.select([both], [], [], 30)[0]
        with pytest.raises(TimeoutError, match="half"):
            both.ask("whole?", timeout=TIMEOUT)
        both.terminate() if hasattr(both, "terminate") else os.kill(both.pid, signal.SIGKILL)
        with contextlib.suppress(hp.CommandFailed):
            both.close()


# call()


def test_a_callable_is_ended_in_time() -> None:
    with over_in_time():
        hp.fn(slow).with_options(timeout=TIMEOUT, grace=GRACE).call()


def test_a_callable_that_ignores_term_is_ended_in_time() -> None:
    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        slow()

    with over_in_time():
        hp.fn(deaf).with_options(timeout=TIMEOUT, grace=GRACE).call()


def test_a_callable_that_stops_is_ended_in_time() -> None:
    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        slow()

    with over_in_time():
        hp.fn(stop).with_options(timeout=TIMEOUT, grace=GRACE).call()


def test_a_callables_answer_does_not_wait_for_its_grandchild() -> None:
    """gotcha:T1: the grandchild has every pipe, the answer is there."""
    with marked() as mark:

        def work() -> int:
            subprocess.Popen([*stubborn.never_reads(), mark], close_fds=False)
            return 7

        began = time.monotonic()
        assert hp.fn(work).with_options(timeout=20).call() == 7
        assert time.monotonic() - began < SLACK


@pytest.mark.parametrize("verb", [VERBS["read"], VERBS["lines"], VERBS["capture"], VERBS["run"]])
def test_a_callable_is_ended_in_time_by_the_other_verbs(verb: Callable[[Any], object]) -> None:
    with over_in_time():
        verb(hp.fn(slow).with_options(timeout=TIMEOUT, grace=GRACE))


# Pipelines


def test_the_error_of_a_pipeline_carries_what_came_out_of_its_end(said: Path) -> None:
    last = hp.cmd("sh", "-c", 'read line; echo $line; : >"$0"; exec cat', str(said))
    pipeline = hp.sh("echo a; exec sleep 30") | last
    error = time_out(lambda timeout: pipeline.with_options(timeout=timeout, grace=GRACE).read(), said.exists)
    assert error.stdout == "a\n"


def test_a_stage_whose_child_has_ended_is_cleared_with_its_group() -> None:
    """gotcha:T4: the grandchildren of every stage are in their stage's group."""
    with marked() as mark:
        with over_in_time():
            (hp.cmd(*stubborn.grandchild_keeps_pipes(mark=mark)) | hp.cmd("cat")).with_options(
                timeout=TIMEOUT, grace=GRACE
            ).read()
        assert wait_gone(find_marked(mark)) == []


# start()


def test_a_started_process_has_its_limit_at_the_next_wait() -> None:
    with over_in_time():
        process = limited(["sleep", "30"]).start()
        process.wait()


def test_a_started_pipeline_has_its_limit_at_the_next_wait() -> None:
    with over_in_time():
        (hp.cmd("sleep", "30") | hp.cmd("sleep", "30")).with_options(timeout=TIMEOUT, grace=GRACE).start().wait()


@pytest.mark.parametrize("contain", [False, True])
def test_a_started_process_has_its_limit_at_the_end_of_its_block(contain: bool) -> None:
    with over_in_time(), limited(["sleep", "30"], contain=contain).start():
        pass


def test_wait_with_its_own_timeout_leaves_the_process_running() -> None:
    with hp.cmd("sleep", "30").start() as process:
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            process.wait(0.1)
        assert 0.1 <= time.monotonic() - began < 0.1 + SLACK
        assert not isinstance(caught.value, hp.CommandTimeout)
        with pytest.raises(TimeoutError):
            process.wait(0)
        assert process.poll() is None
        status = process.terminate()
        assert status is not None
        assert status.signal == signal.SIGTERM


def test_a_pipelines_wait_has_one_timeout_for_all_its_stages() -> None:
    job = (hp.cmd("sleep", "30") | hp.cmd("sleep", "30")).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        job.wait(0.2)
    assert 0.2 <= time.monotonic() - began < 0.2 + SLACK
    job.terminate()
    assert children() == []


def test_a_started_pipelines_time_out_ends_every_stage() -> None:
    """S11b: the first stage has ended, the last one is late."""
    with over_in_time():
        (hp.cmd("true") | hp.cmd("sleep", "30")).with_options(timeout=TIMEOUT, grace=GRACE).start().wait()


def test_terminate_ends_a_stopped_process() -> None:
    """gotcha:T4: CONT follows TERM."""
    process = hp.cmd("sleep", "30").start()
    process.kill("STOP")
    began = time.monotonic()
    status = process.terminate(20)
    assert time.monotonic() - began < SLACK
    assert status is not None
    assert status.signal == signal.SIGTERM


def test_a_slow_consumer_of_lines_meets_the_limit_at_its_next_call() -> None:
    with over_in_time(timeout=0.1), limited(stubborn.partial_line("a\nb"), timeout=0.1).lines() as lines:
        assert next(lines) == "a"
        wait_until_passed = time.monotonic() + 0.1
        wait_until(lambda: time.monotonic() >= wait_until_passed)
        next(lines)


def test_leaving_lines_early_ends_a_deaf_child_within_its_grace() -> None:
    began = time.monotonic()
    with hp.cmd(*stubborn.ignores_term(), grace=GRACE).lines() as lines:
        assert next(lines) == "ready"
        began = time.monotonic()
    assert time.monotonic() - began < GRACE + SLACK
    assert children() == []


def test_an_exception_in_the_block_ends_the_child() -> None:
    with pytest.raises(ZeroDivisionError), hp.cmd("sleep", "30", grace=GRACE).start() as process:
        raise ZeroDivisionError
    assert look_at(process.pid) is None
    assert children() == []


# The limit itself


@pytest.mark.parametrize("bad", [-1, -0.001, math.nan, -math.inf])
@pytest.mark.parametrize("name", ["timeout", "grace"])
def test_a_time_that_is_none_is_refused_at_once(name: str, bad: float) -> None:
    """gotcha:T2: NaN and negatives."""
    with pytest.raises(ValueError, match=name):
        hp.cmd("true", **{name: bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=name):
        hp.fn(slow).with_options(**{name: bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=name):
        (hp.cmd("true") | hp.cmd("true")).with_options(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["1", True, b"1", [1], 1j])
def test_a_time_that_is_no_number_is_refused_at_once(bad: Any) -> None:
    """gotcha:T2."""
    with pytest.raises(TypeError, match="timeout"):
        hp.cmd("true", timeout=bad)


@pytest.mark.parametrize("bad", [-1, math.nan])
def test_wait_and_terminate_refuse_a_bad_time_and_leave_the_process_alone(bad: float) -> None:
    """gotcha:T2."""
    with hp.cmd("cat", stdin=hp.NULL).start() as process:
        with pytest.raises(ValueError, match="timeout"):
            process.wait(bad)
        with pytest.raises(ValueError, match="grace"):
            process.terminate(bad)
        assert process.wait()


@pytest.mark.parametrize("ever", [math.inf, 1e300, 10**30, sys.maxsize, None])
def test_for_ever_is_no_overflow(ever: Any) -> None:
    """gotcha:T2: infinite and absurdly long limits arrive."""
    assert hp.cmd("echo", "x", timeout=ever).read() == "x\n"
    assert hp.fn(int, 3).with_options(timeout=ever).call() == 3
    assert hp.cmd("true", timeout=ever).start().wait(ever)


@pytest.mark.parametrize("grace", [math.inf, 1e300])
def test_an_endless_grace_is_no_overflow(grace: float) -> None:
    """gotcha:T2."""
    with over_in_time(grace=0):
        limited(["sleep", "30"], grace=grace).read()
    with over_in_time(grace=0):
        limited(["sleep", "30"], grace=grace, contain=True).read()


@pytest.mark.parametrize("contain", [False, True])
def test_a_timeout_of_zero_does_not_wait(contain: bool) -> None:
    """gotcha:T2: 0 is a limit, not none; the start itself may already be too late."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        limited(["sleep", "30"], timeout=0, contain=contain).read()
    assert time.monotonic() - began < GRACE + SLACK
    assert children() == []


def test_a_grace_of_zero_kills_at_once() -> None:
    with over_in_time(grace=0) as caught:
        limited(["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done"], grace=0).read()
    assert caught.value.status is not None
    assert caught.value.status.signal == signal.SIGKILL


def test_a_child_that_is_quick_enough_is_not_touched() -> None:
    """gotcha:T3: and its end is seen when it comes, not at the limit."""
    began = time.monotonic()
    assert limited(["echo", "x"], timeout=60).read() == "x\n"
    assert limited(["true"], timeout=60).run()
    assert limited(["true"], timeout=60).start().wait(60)
    assert time.monotonic() - began < SLACK


def test_a_timed_wait_does_not_poll() -> None:
    """gotcha:T3: waiting costs no processor time."""
    before = time.thread_time()
    with over_in_time(timeout=0.5):
        limited(["sleep", "30"], timeout=0.5).run()
    assert time.thread_time() - before < 0.1


def test_a_program_that_waits_for_a_fifo_is_ended_in_time(tmp_path: Path) -> None:
    """In open(2), where no signal handler of its own would run."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with over_in_time():
        limited(stubborn.waits_for_gate(str(gate))).read()


_STUCK = """
import os, sys, time
import hornpipe as hp
began = time.monotonic()
command = hp.sh("head -c 200000 /dev/zero >&2; echo oops >&2; echo out; exec sleep 30", stderr=hp.TAIL, grace=0.2)
if sys.argv[1] == "leave":
    os.write(2, b"+" * 60000)
    with hp.sh("head -c 20000 /dev/zero >&2; yes", stderr=hp.TAIL, grace=0.2).lines() as lines:
        assert next(lines) == "y"
        began = time.monotonic()
else:
    try:
        getattr(command.with_options(timeout=0.3), sys.argv[1])()
    except hp.CommandTimeout as late:
        print(len(late.stderr) > 4000, end=" ")
print(time.monotonic() - began < 0.3 + 0.2 + 5.0, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("verb", ["run", "read", "leave"])
def test_our_own_stderr_that_nobody_reads_cannot_hold_a_verb(verb: str) -> None:
    """gotcha:T1: with stderr=TAIL, what we pass on has to wait, but no longer than we have."""
    ours, theirs = os.pipe()
    with subprocess.Popen([sys.executable, "-c", _STUCK, verb], stdout=subprocess.PIPE, stderr=theirs) as stuck:
        try:
            os.close(theirs)
            assert stuck.stdout is not None
            ready, _, _ = select.select([stuck.stdout], [], [], 30)
            assert ready, "it hangs"
            assert stuck.stdout.read().split()[-1] == b"True"
        finally:
            stuck.kill()
            os.close(ours)


def test_a_slow_reader_of_our_stderr_gets_all_of_it() -> None:
    """gotcha:P6, promise 7: through a pipe that is full most of the time, from two stages at once."""
    source = """
import hornpipe as hp
loud = hp.sh("head -c 300000 /dev/zero | tr '\\\\0' x >&2; cat", stderr=hp.TAIL)
(loud | loud).read()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        assert program.stderr.read() == b"x" * 600_000


# The start

TOO_LONG = 10.0
"""Seconds for which a start is held up: over_in_time would have none of it."""

_LEASE = """
import fcntl, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
signal.sigtimedwait([signal.SIGIO], 30)
time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def leased(path: Path, seconds: float = TOO_LONG) -> Iterator[None]:
    """Whoever executes the file is held up in the kernel, as by a file server that is slow to answer.

    Another process has a lease on it (fcntl(2)), is told by SIGIO that somebody wants the file, and takes its time.
    """
    command = [sys.executable, "-ISc", _LEASE, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"leased\n":
                pytest.skip("no leases here")
            yield
        finally:
            holder.kill()


@pytest.mark.parametrize("slow", ["program", "interpreter"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contain": True},
        {"user": os.geteuid()},
    ],
    ids=["alone", "contained", "forked"],
)
def test_a_slow_exec_cannot_hold_the_start(options: dict[str, Any], slow: str, tmp_path: Path) -> None:
    """Promise 3: a timeout bounds starting."""
    interpreter = tmp_path / "interpreter"
    shutil.copy("/bin/sh", interpreter)
    script = tmp_path / "script"
    script.write_text(f"#!{interpreter}\nexec sleep 30\n")
    script.chmod(0o755)
    with leased(script if slow == "program" else interpreter), over_in_time(kind=TimeoutError):
        limited([str(script)], **options).read()


def test_a_slow_exec_keeps_no_handler_waiting_and_happens_once(tmp_path: Path) -> None:
    """Promise 6, gotcha:SIG17: the thread that starts a program by vfork stands still until its exec."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho started >>ran\nps -o ppid= -p $$\n")
    script.chmod(0o755)
    ran, handled = tmp_path / "ran", []
    with leased(script, 0.5), hp.SIG.local(ALRM=lambda sig: handled.append(ran.exists())):
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        assert hp.cmd(str(script), cwd=tmp_path).read().split() == [str(os.getpid())]
        assert time.monotonic() - began > 0.5
    assert handled == [False]  # its own time of arrival says nothing: meanwhile it is blocked
    assert ran.read_text() == "started\n"


_RUN = """
import signal, sys, hornpipe as hp
from hornpipe import reaper
def handler(sig):
    handled.append(sig)
    if len(handled) == int(sys.argv[2]):
        raise KeyError("enough")
handled = []
with hp.SIG.local(ALRM=handler):
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        print(hp.cmd(sys.argv[1]).run())
    except KeyError as error:
        print(error)
    signal.setitimer(signal.ITIMER_REAL, 0)
print(len(handled) > 1, reaper.children())
"""


@pytest.mark.parametrize(("seconds", "most"), [(0.5, 1000), (TOO_LONG, 2)], ids=["waited for", "left"])
def test_a_slow_exec_of_what_is_run_is_a_part_of_the_run(seconds: float, most: int, tmp_path: Path) -> None:
    """Promise 6, gotcha:SIG17: nothing is known of an exec until the end, and whoever has one thread is not held up."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho started\n")
    script.chmod(0o755)
    began = time.monotonic()
    with leased(script, seconds):
        output = hp.cmd(sys.executable, "-c", _RUN, script, str(most), timeout=60).read()
    if seconds == TOO_LONG:
        assert output == "'enough'\nTrue {}\n"
        assert time.monotonic() - began < TOO_LONG
    else:
        assert output == "started\nexited successfully\nTrue {}\n"


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_fifo_whose_other_end_comes_too_late_cannot_hold_the_start(name: str, tmp_path: Path) -> None:
    """Promise 3, perlipc:F3."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    too_late = f"import sys, time; time.sleep({TOO_LONG}); open(sys.argv[1], sys.argv[2])"
    mode = "w" if name == "stdin" else "r"
    with subprocess.Popen([sys.executable, "-ISc", too_late, str(path), mode]) as other:
        try:
            with over_in_time(kind=TimeoutError):
                limited(["sleep", "30"], **{name: path}).run()
        finally:
            other.kill()
