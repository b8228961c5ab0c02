"""``hornpipe tour``: every facility live on this machine, each verdict from comparing what really happened.

A row is one function with a docstring: the docstring is what the row says, the body does it with real programs, tells
its ``Judge`` what came and what should have come, and returns the glimpse that is shown. A row that compares nothing
fails. The decorator names the programs that the row needs; the tests take each away, put an impostor in its place, and
want to see the row fail.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

import hornpipe as hp

_PATIENCE = 20.0
"""Seconds that a step of a healthy row may take on a very busy machine: a hang has to end as a failed row."""
_SLACK = 0.5
"""Seconds by which a row that measures time may be late on a busy machine; the promise is 0.05."""
_LIMIT = 0.4
"""The timeout of rows that show one."""
_GRACE = 0.2
_LONG = "60"
"""Seconds for which the stubborn programs would stay."""
_GLIMPSE = 60
"""Characters shown of a row's output."""


class Wrong(Exception):
    """Something came out otherwise than it should have."""


class Judge:
    """Compares, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.compared = 0

    def same(self, got: object, wanted: object, what: str = "the output") -> None:
        """*got* has to equal *wanted*.

        >>> Judge().same("4", "5", "the sum")
        Traceback (most recent call last):
        ...
        hornpipe.cli.tour.Wrong: the sum is '4', not '5'
        """
        self.compared += 1
        if got != wanted:
            raise Wrong(f"{what} is {_brief(repr(got))}, not {_brief(repr(wanted))}")

    def within(self, got: object, wanted: str, what: str = "the output") -> None:
        """*wanted* has to occur in the text of *got*."""
        self.compared += 1
        if wanted not in str(got):
            raise Wrong(f"{what} is {_brief(repr(str(got)))}, without {wanted!r}")

    def soon(self, seconds: float, limit: float, what: str) -> None:
        """*seconds* must not exceed *limit*."""
        self.compared += 1
        if seconds > limit:
            raise Wrong(f"{what} took {seconds:.2f} s, {limit:g} s were allowed")

    def gone(self, pid: int, what: str) -> None:
        """No process has this number, not even a zombie."""
        self.compared += 1
        state = _state(pid)
        if state:
            raise Wrong(f"{what} (pid {pid}) is still there, in state {state}")

    def ended(self, pid: int, what: str) -> None:
        """No process of this number runs; one that is not our child may wait to be reaped by somebody else."""
        self.compared += 1
        _settle(pid, "ZX")
        state = _state(pid)
        if state and state not in "ZX":
            raise Wrong(f"{what} (pid {pid}) still runs, in state {state}")

    @contextmanager
    def raised(self, kind: type[BaseException]) -> Iterator[list[Any]]:
        """The block has to raise *kind*, which is then in the list."""
        caught: list[Any] = []
        self.compared += 1
        try:
            yield caught
        except kind as error:
            caught.append(error)
        else:
            raise Wrong(f"no {kind.__name__} was raised")


class Row(NamedTuple):
    """One facility."""

    name: str
    what: str
    """The docstring's first sentence."""
    tools: tuple[str, ...]
    """The programs it runs, as they are looked up in PATH."""
    show: Callable[[Judge], str]


class Outcome(NamedTuple):
    """What became of a row."""

    row: Row
    ok: bool
    glimpse: str
    """Of the real output."""
    problem: str
    """Why it failed, on one line."""
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "row": self.row.name,
            "what": self.row.what,
            "ok": self.ok,
            "glimpse": self.glimpse,
            "problem": self.problem,
            "seconds": round(self.seconds, 4),
        }


ROWS: dict[str, Row] = {}


def row(*tools: str) -> Callable[[Callable[[Judge], str]], Callable[[Judge], str]]:
    """Make a function a row of the tour; *tools* are the programs it runs."""

    def add(function: Callable[[Judge], str]) -> Callable[[Judge], str]:
        name = function.__name__.replace("_", "-")
        what = " ".join((function.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
        assert what, f"{name} needs a docstring: it is what the row says"
        ROWS[name] = Row(name, what, tools, function)
        return function

    return add


def perform(row: Row) -> Outcome:
    """Do a row; whatever it raises is its failure, never the tour's."""
    judge, glimpse, problem = Judge(), "", ""
    started = time.monotonic()
    try:
        glimpse = _brief(row.show(judge))
        if not judge.compared:
            problem = "it compared nothing"
    except Exception as error:  # noqa: BLE001  any failure of a row is what the row is there to show
        problem = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, Wrong | hp.CommandFailed | hp.CommandTimeout | hp.SpawnError):
            problem = f"{type(error).__name__}: {problem}"
    seconds = time.monotonic() - started
    if problem and (missing := [tool for tool in row.tools if shutil.which(tool) is None]):
        problem = f"this machine has no {', no '.join(missing)}: {problem}"
    return Outcome(row, not problem, glimpse, problem, seconds)


# --- the rows ---


@row("ps")
def read(judge: Judge) -> str:
    """What a program says, as a string: Perl's backticks.

    Breaks with a ``ps`` that does not know this process.
    """
    out = hp.cmd("ps", "-o", "pid=,ppid=", "-p", str(os.getpid()), timeout=_PATIENCE).read()
    judge.same(out.split(), [str(os.getpid()), str(os.getppid())], "what ps says of us")
    return f"ps: pid and parent {' '.join(out.split())}"


@row("printf")
def arguments(judge: Judge) -> str:
    """Arguments arrive as they are: no shell sees them.

    Breaks with a ``printf`` that expands anything.
    """
    hard = ["two words", "$(id)", "a;b", "*", "it's", ""]
    out = hp.cmd("printf", "<%s>", *hard, timeout=_PATIENCE).read()
    judge.same(out, "".join(f"<{word}>" for word in hard))
    return out


@row("sort", "uniq")
def shell(judge: Judge) -> str:
    """A shell, on purpose and in plain sight.

    Breaks with any ``sort`` or ``uniq`` that does not do its work.
    """
    out = hp.sh("sort | uniq -c", input="pear\nfig\npear\n", stderr=hp.STDOUT, timeout=_PATIENCE).read()
    judge.same([line.split() for line in out.splitlines()], [["1", "fig"], ["2", "pear"]])
    return " ".join(out.split())


@row("seq", "sort", "head")
def pipeline(judge: Judge) -> str:
    """Programs piped together; `head` may leave early, as a user means it.

    Breaks when a stage fails or passes on something else.
    """
    stages = hp.cmd("seq", "100000") | hp.cmd("sort", "-rn") | hp.cmd("head", "-n", "2")
    out = stages.with_options(timeout=_PATIENCE).read()
    judge.same(out, "100000\n99999\n")
    return " ".join(out.split())


@row("yes")
def lines(judge: Judge) -> str:
    """Lines while the program runs; leaving early ends it.

    Breaks when ``yes`` says anything else, or is still there afterwards.
    """
    with hp.sh("echo $$; exec yes hornpipe 2>&1", timeout=_PATIENCE).lines() as output:
        pid = int(next(output))
        said = [next(output, "(nothing)") for _ in range(3)]
        judge.same(said, ["hornpipe"] * 3)
    judge.gone(pid, "the endless yes")
    return f"{' '.join(said)}, and pid {pid} is gone"


@row("tr")
def writer(judge: Judge) -> str:
    """Print into a shell pipeline; leaving the block waits and checks.

    Breaks when ``tr`` writes something else to its file.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "shouted")
        command = hp.sh('tr a-z A-Z >"$target" 2>&1', env={"target": str(target)}, timeout=_PATIENCE)
        with command.writer() as out:
            print("horn for signals", file=out)
            print("pipe for pipes", file=out)
        judge.same(target.read_text(), "HORN FOR SIGNALS\nPIPE FOR PIPES\n", "the file")
        return target.read_text().replace("\n", " ")


@row("bc")
def conversation(judge: Judge) -> str:
    """A conversation with a running program.

    Breaks with a ``bc`` that cannot count.
    """
    with hp.cmd("bc", "-q", timeout=_PATIENCE).duplex() as bc:
        bc.send("x = 2 ^ 64\n")
        answers = [bc.ask("x").strip(), bc.ask("x - 1").strip()]
        bc.close_input()
    judge.same(answers, ["18446744073709551616", "18446744073709551615"], "what bc answers")
    return f"2^64 = {answers[0]}, less one = {answers[1]}"


@row("cat")
def both_ways(judge: Judge) -> str:
    """20 MB in and out at once, without deadlock.

    Breaks with a ``cat`` that loses or changes a byte.
    """
    data = hashlib.shake_256(b"hornpipe").digest(1 << 20) * 20
    out = hp.cmd("cat", input=data, timeout=_PATIENCE).as_bytes().read()
    judge.same(len(out), len(data), "the number of bytes")
    judge.same(hashlib.sha256(out).hexdigest(), hashlib.sha256(data).hexdigest(), "their checksum")
    return f"{len(out):,} bytes back, sha256 {hashlib.sha256(out).hexdigest()[:12]}"


@row("ls")
def failure(judge: Judge) -> str:
    """A failure is an exception that says what happened.

    Breaks with an ``ls`` that finds what is not there.
    """
    with judge.raised(hp.CommandFailed) as caught:
        hp.cmd("ls", "/no/such/place", timeout=_PATIENCE).capture()
    error = caught[0]
    judge.within(error.stderr, "/no/such/place", "its stderr")
    judge.within(error, "ls /no/such/place", "the message")
    return str(error).replace("\n", " ")


@row("sh")
def status(judge: Judge) -> str:
    """Exit codes and signals are kept apart.

    Breaks when the program ends otherwise.
    """
    coded = hp.cmd("sh", "-c", "exit 137", check=False, timeout=_PATIENCE).run()
    killed = hp.cmd("sh", "-c", "kill -KILL $$", check=False, timeout=_PATIENCE).run()
    judge.same((coded.code, coded.signal), (137, None), "the first status")
    judge.same((killed.code, killed.signal), (None, signal.SIGKILL), "the second status")
    return f"one {coded}, one {killed}"


@row()
def missing_program(judge: Judge) -> str:
    """A missing program is an error at once, by its name.

    Breaks when there is such a program.
    """
    with judge.raised(FileNotFoundError) as caught:
        hp.cmd("hornpipe-no-such-program", stdout=hp.NULL, stderr=hp.NULL, timeout=_PATIENCE).start().wait()
    judge.within(caught[0], "hornpipe-no-such-program", "the message")
    return str(caught[0])


@row("sleep")
def timeout(judge: Judge) -> str:
    """A time-out ends a program that ignores TERM, and keeps what it said.

    Breaks when the program ends by itself, or outlives the time-out.
    """
    command = hp.sh(f"trap '' TERM; echo $$; exec sleep {_LONG} 2>&1", timeout=_LIMIT, grace=_GRACE)
    started = time.monotonic()
    with judge.raised(hp.CommandTimeout) as caught:
        command.read()
    seconds = time.monotonic() - started
    error = caught[0]
    judge.soon(seconds, _LIMIT + _GRACE + _SLACK, "the call")
    judge.same(str(error.status), "killed by KILL", "how it ended")
    judge.gone(int(error.stdout), "the stubborn sleep")
    return f"gave up after {seconds:.2f} s; it had said {error.stdout.strip()!r} and {error.status}"


@row("sleep")
def grandchild(judge: Judge) -> str:
    """A time-out is total: a grandchild that holds the pipe is ended too.

    Breaks when the grandchild lets go by itself, or is still there afterwards.
    """
    command = hp.sh(f"sleep {_LONG} 2>&1 & echo $!", timeout=_LIMIT, grace=_GRACE)
    started = time.monotonic()
    with judge.raised(hp.CommandTimeout) as caught:
        command.read()
    seconds = time.monotonic() - started
    pid = int(caught[0].stdout)
    judge.soon(seconds, _LIMIT + _GRACE + _SLACK, "the call")
    judge.ended(pid, "the grandchild")
    return f"gave up after {seconds:.2f} s, grandchild {pid} is gone"


@row("setsid", "sh", "sleep", "ps")
def containment(judge: Judge) -> str:
    """Nothing outlives a contained command, not even what left its session.

    Breaks when the escape does not even start, or succeeds.
    """
    script = f"""
        pid=$(setsid sh -c 'echo $$; exec sleep {_LONG} >/dev/null 2>&1 </dev/null' &)
        for try in 1 2 3 4 5 6 7 8 9 10; do
            seen=$(ps -o pid=,sess=,args= -p "$pid")
            case $seen in *" sleep {_LONG}") break; esac
        done
        echo "$seen"
    """
    out = hp.sh(script, contain=True, stderr=hp.STDOUT, timeout=_PATIENCE).read()
    pid = out.split()[0] if out.split() else ""
    judge.same(out.split(), [pid, pid, "sleep", _LONG], "pid, session and program that escaped")
    judge.ended(int(pid), "what escaped")
    return f"sleep, pid {pid}, led a session of its own and is gone"


@row()
def call(judge: Judge) -> str:
    """A callable in a child: its value comes back, and its exception.

    Breaks when it is called in this process.
    """
    pid, product = hp.fn(_multiply, 6, 7).with_options(timeout=_PATIENCE).call()
    judge.same(product, 42, "the product")
    judge.same(pid == os.getpid(), False, "whether it was this process")
    with judge.raised(ZeroDivisionError) as caught:
        hp.fn(_divide, 1, 0).with_options(timeout=_PATIENCE).call()
    return f"6 x 7 = {product} in pid {pid}; 1 / 0: {caught[0]}"


@row("seq", "sort")
def stage_in_python(judge: Judge) -> str:
    """A callable between two programs of a pipeline.

    Breaks when either program does something else.
    """
    stages = hp.cmd("seq", "3") | hp.fn(_square_lines) | hp.cmd("sort", "-rn")
    out = stages.with_options(timeout=_PATIENCE).read()
    judge.same(out.split(), ["9", "4", "1"])
    return f"squares, sorted: {' '.join(out.split())}"


@row("touch")
def background(judge: Judge) -> str:
    """A program in the background, and no zombie afterwards.

    Breaks with a ``touch`` that makes no file.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "been-here")
        detached = hp.cmd("touch", str(target)).background()
        _settle(detached.pid)
        judge.gone(detached.pid, "the background process")
        judge.same(detached.alive(), False, "whether it is alive")
        judge.same(target.exists(), True, "whether it did its work")
        return f"pid {detached.pid} made {target.name} and left no zombie"


@row("ls")
def descriptors(judge: Judge) -> str:
    """A child gets stdin, stdout, stderr and nothing else.

    Breaks when one descriptor more, or fewer, is listed.
    """
    leaky = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    try:
        for fd in leaky:
            os.set_inheritable(fd, True)
        out = hp.cmd("ls", "/proc/self/fd", timeout=_PATIENCE).read()
    finally:
        for fd in leaky:
            os.close(fd)
    # The fourth is the directory that ls itself reads.
    judge.same(out.split(), ["0", "1", "2", "3"], "the list")
    return f"ls has {' '.join(out.split())}, though we offered {' '.join(map(str, leaky))}"


@row("env", "pwd")
def surroundings(judge: Judge) -> str:
    """Directory and environment are the command's own.

    Breaks when either program sees something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = hp.cmd("pwd", "-P", cwd=folder, timeout=_PATIENCE).read().rstrip("\n")
        judge.same(where, os.path.realpath(folder), "the directory")
    secret = f"HORNPIPE_SECRET_{os.getpid()}"
    os.environ[secret] = "1"
    try:
        # By its path: the minimal environment has a PATH of its own.
        program = shutil.which("env")
        judge.same(program is None, False, "whether env is missing")
        out = hp.cmd(program or "", env={"TUNE": "hornpipe"}, env_base="minimal", timeout=_PATIENCE).read()
    finally:
        del os.environ[secret]
    names = {line.partition("=")[0] for line in out.splitlines()}
    judge.same({"TUNE", secret} & names, {"TUNE"}, "what it knows")
    return f"{where}; {len(names)} variables, our secret is none of them"


@row("tty")
def terminal(judge: Judge) -> str:
    """A terminal instead of pipes, for programs that care.

    Breaks with a ``tty`` that sees none.
    """
    out = hp.cmd("tty", pty=True, timeout=_PATIENCE).read()
    judge.same(out.startswith("/dev/"), True, "whether it is a terminal")
    return out


@row("id")
def another_user(judge: Judge) -> str:
    """Another user's rights: for root the drop is complete, for others refused.

    Breaks with an ``id`` that is somebody else.
    """
    if os.geteuid() == 0:
        out = hp.cmd("id", "-u", user=65534, group=65534, groups=(), cwd="/", timeout=_PATIENCE).read()
        judge.same(out, "65534\n", "the user")
        return f"root runs id as {out}"
    with judge.raised(PermissionError) as caught:
        hp.cmd("id", "-u", user=0, timeout=_PATIENCE).read()
    judge.same(hp.cmd("id", "-u", timeout=_PATIENCE).read(), f"{os.geteuid()}\n", "the user")
    return str(caught[0])


@row("sh")
def lost_status(judge: Judge) -> str:
    """With CHLD ignored the kernel reaps: the status is recovered, or unknown, never success.

    Breaks when the program succeeds.
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        status = hp.cmd("sh", "-c", "exit 7", check=False, timeout=_PATIENCE).run()
    finally:
        signal.signal(signal.SIGCHLD, before)
    judge.same(bool(status), False, "whether it counts as success")
    judge.same(status.code in {7, None}, True, "whether the status is right")
    return str(status)


@row("true")
def no_zombies(judge: Judge) -> str:
    """50 programs started and forgotten leave no zombie.

    Breaks when one of them cannot be started, or writes a word.
    """
    with tempfile.TemporaryFile() as said:
        pids = [hp.cmd("true", stdout=said, stderr=said).background().pid for _ in range(50)]
        for pid in pids:
            _settle(pid)
        judge.same(Counter(map(_state, pids)), Counter({"": 50}), "their state")
        judge.same(os.fstat(said.fileno()).st_size, 0, "what they wrote")
    return f"{len(pids)} started, 0 left"


# What the rows' children do. Functions of a module, so that a row's text stays what the row shows.


def _multiply(a: int, b: int) -> tuple[int, int]:
    return os.getpid(), a * b


def _divide(a: int, b: int) -> float:
    return a / b


def _square_lines() -> None:
    for line in sys.stdin:
        print(int(line) ** 2)


# What they look with: /proc, and not hornpipe, which is what is being judged.


def _state(pid: int) -> str:
    """The letter of ps, ``Z`` for a zombie; empty when there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else "?"
    except ProcessLookupError:
        return ""


def _settle(pid: int, enough: str = "") -> None:
    """Give a process that is on its way out the time to go, or to reach one of the states that are *enough*."""
    end = time.monotonic() + _SLACK * 4
    while (state := _state(pid)) and state not in enough and time.monotonic() < end:
        time.sleep(0.002)


# --- showing them ---


def _brief(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _GLIMPSE else line[: _GLIMPSE - 3] + "..."


def show_plain(rows: list[Row]) -> list[Outcome]:
    """A line for each row, as soon as it is known, aligned with spaces: for pipes and files."""
    outcomes = []
    names = max(len(row.name) for row in rows)
    for row in rows:
        outcome = perform(row)
        outcomes.append(outcome)
        verdict = "ok  " if outcome.ok else "FAIL"
        # Not print: it would keep the lines from a reader that is waiting for them.
        click.echo(f"{verdict} {outcome.seconds * 1000:6.0f} ms  {row.name:{names}}  {row.what}")
        click.echo(f"{'':{16 + names}}  {outcome.glimpse if outcome.ok else outcome.problem}")
    click.echo(_summary(outcomes))
    return outcomes


def show_table(rows: list[Row]) -> list[Outcome]:
    """A table for a person, each row as soon as it is known."""
    from rich import box
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", title="hornpipe, live on this machine")
    table.add_column("row", style="bold", no_wrap=True)
    table.add_column("what was done, and a glimpse of what came")
    table.add_column("", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    outcomes = []
    # Rich must not touch stdout in between: the rows' programs share the terminal.
    with Live(table, console=console, redirect_stdout=False, redirect_stderr=False, vertical_overflow="visible"):
        for row in rows:
            outcome = perform(row)
            outcomes.append(outcome)
            seen = Text(row.what)
            seen.append(f"\n{outcome.glimpse or outcome.problem}", style="dim" if outcome.ok else "red")
            verdict = Text("ok", style="green") if outcome.ok else Text("FAIL", style="bold red")
            table.add_row(row.name, seen, verdict, f"{outcome.seconds * 1000:.0f}")
    console.print(_summary(outcomes))
    return outcomes


def _summary(outcomes: list[Outcome]) -> str:
    failed = [outcome.row.name for outcome in outcomes if not outcome.ok]
    seconds = sum(outcome.seconds for outcome in outcomes)
    if failed:
        return f"{len(failed)} of {len(outcomes)} rows failed: {', '.join(failed)}"
    return f"{len(outcomes)} rows, all as they should be, in {seconds:.1f} s"
