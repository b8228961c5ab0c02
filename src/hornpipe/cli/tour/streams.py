"""Programs and the bytes that go in and out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row


@row("ps")
def read(judge: Judge) -> str:
    """What a program says, as a string: Perl's backticks.

    Breaks with a ``ps`` that does not know this process.
    """
    out = hp.cmd("ps", "-o", "pid=,ppid=", "-p", str(os.getpid()), timeout=PATIENCE).read()
    judge.same(out.split(), [str(os.getpid()), str(os.getppid())], "what ps says of us")
    return f"ps: pid and parent {' '.join(out.split())}"


@row("printf")
def arguments(judge: Judge) -> str:
    """Arguments arrive as they are: no shell sees them.

    Breaks with a ``printf`` that expands anything.
    """
    hard = ["two words", "$(id)", "a;b", "*", "it's", ""]
    out = hp.cmd("printf", "<%s>", *hard, timeout=PATIENCE).read()
    judge.same(out, "".join(f"<{word}>" for word in hard))
    return out


@row("sort", "uniq")
def shell(judge: Judge) -> str:
    """A shell, on purpose and in plain sight.

    Breaks with any ``sort`` or ``uniq`` that does not do its work.
    """
    out = hp.sh("sort | uniq -c", input="pear\nfig\npear\n", stderr=hp.STDOUT, timeout=PATIENCE).read()
    judge.same([line.split() for line in out.splitlines()], [["1", "fig"], ["2", "pear"]])
    return " ".join(out.split())


@row("seq", "sort", "head")
def pipeline(judge: Judge) -> str:
    """Programs piped together; `head` may leave early, as a user means it.

    Breaks when a stage fails or passes on something else.
    """
    stages = hp.cmd("seq", "100000") | hp.cmd("sort", "-rn") | hp.cmd("head", "-n", "2")
    out = stages.with_options(timeout=PATIENCE).read()
    judge.same(out, "100000\n99999\n")
    return " ".join(out.split())


@row("yes")
def lines(judge: Judge) -> str:
    """Lines while the program runs; leaving early ends it.

    Breaks when ``yes`` says anything else, or is still there afterwards.
    """
    with hp.sh("echo $$; exec yes hornpipe 2>&1", timeout=PATIENCE).lines() as output:
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
        command = hp.sh('tr a-z A-Z >"$target" 2>&1', env={"target": str(target)}, timeout=PATIENCE)
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
    with hp.cmd("bc", "-q", timeout=PATIENCE).duplex() as bc:
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
    out = hp.cmd("cat", input=data, timeout=PATIENCE).as_bytes().read()
    judge.same(len(out), len(data), "the number of bytes")
    judge.same(hashlib.sha256(out).hexdigest(), hashlib.sha256(data).hexdigest(), "their checksum")
    return f"{len(out):,} bytes back, sha256 {hashlib.sha256(out).hexdigest()[:12]}"
