"""Children: callables, what they get, what they leave."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row
from hornpipe.cli.tour.looking import settle, state_of


@row()
def call(judge: Judge) -> str:
    """A callable in a child: its value comes back, and its exception.

    Breaks when it is called in this process.
    """
    pid, product = hp.fn(_multiply, 6, 7).with_options(timeout=PATIENCE).call()
    judge.same(product, 42, "the product")
    judge.same(pid == os.getpid(), False, "whether it was this process")
    with judge.raised(ZeroDivisionError) as caught:
        hp.fn(_divide, 1, 0).with_options(timeout=PATIENCE).call()
    return f"6 x 7 = {product} in pid {pid}; 1 / 0: {caught[0]}"


@row("seq", "sort")
def stage_in_python(judge: Judge) -> str:
    """A callable between two programs of a pipeline.

    Breaks when either program does something else.
    """
    stages = hp.cmd("seq", "3") | hp.fn(_square_lines) | hp.cmd("sort", "-rn")
    out = stages.with_options(timeout=PATIENCE).read()
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
        settle(detached.pid)
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
        out = hp.cmd("ls", "/proc/self/fd", timeout=PATIENCE).read()
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
        where = hp.cmd("pwd", "-P", cwd=folder, timeout=PATIENCE).read().rstrip("\n")
        judge.same(where, os.path.realpath(folder), "the directory")
    secret = f"HORNPIPE_SECRET_{os.getpid()}"
    os.environ[secret] = "1"
    try:
        # By its path: the minimal environment has a PATH of its own.
        program = shutil.which("env")
        judge.same(program is None, False, "whether env is missing")
        out = hp.cmd(program or "", env={"TUNE": "hornpipe"}, env_base="minimal", timeout=PATIENCE).read()
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
    out = hp.cmd("tty", pty=True, timeout=PATIENCE).read()
    judge.same(out.startswith("/dev/"), True, "whether it is a terminal")
    return out


@row("id")
def another_user(judge: Judge) -> str:
    """Another user's rights: for root the drop is complete, for others refused.

    Breaks with an ``id`` that is somebody else.
    """
    if os.geteuid() == 0:
        out = hp.cmd("id", "-u", user=65534, group=65534, groups=(), cwd="/", timeout=PATIENCE).read()
        judge.same(out, "65534\n", "the user")
        return f"root runs id as {out}"
    with judge.raised(PermissionError) as caught:
        hp.cmd("id", "-u", user=0, timeout=PATIENCE).read()
    judge.same(hp.cmd("id", "-u", timeout=PATIENCE).read(), f"{os.geteuid()}\n", "the user")
    return str(caught[0])


@row("sh")
def lost_status(judge: Judge) -> str:
    """With CHLD ignored the kernel reaps: the status is recovered, or unknown, never success.

    Breaks when the program succeeds.
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        status = hp.cmd("sh", "-c", "exit 7", check=False, timeout=PATIENCE).run()
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
            settle(pid)
        judge.same(Counter(map(state_of, pids)), Counter({"": 50}), "their state")
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
