"""Names in the file system: FIFOs, files of the command line, locks."""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from pathlib import Path

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row

_SHORT = 0.05


@row("sort")
def named_pipe(judge: Judge) -> str:
    """A named pipe to a program that reads a file; opening it waits, with a limit.

    Breaks with a ``sort`` that does not read it.
    """
    with tempfile.TemporaryDirectory() as folder, hp.Fifo(Path(folder, "pipe")) as fifo:
        with judge.raised(TimeoutError) as caught:
            fifo.writer(timeout=_SHORT)
        with hp.cmd("sort", "-rn", fifo.path, timeout=PATIENCE).reader() as reader:
            with fifo.writer(timeout=PATIENCE) as out:
                print("1\n10\n9", file=out)
            judge.same(reader.read(), "10\n9\n1\n", "what it sorted")
        return f"sorted; before that {str(caught[0]).replace(f'{folder}/', '')}"


@row("cat")
def a_fresh_answer(judge: Judge) -> str:
    """A file that is a program: every reader of the FIFO gets an answer of its own.

    Breaks with a ``cat`` that reads something else, or when two get the same.
    """
    with tempfile.TemporaryDirectory() as folder, hp.Fifo(Path(folder, "signature")) as fifo:
        server = hp.fn(_answer, fifo).with_options(timeout=PATIENCE, check=False)
        with server.start() as serving:
            answers = [hp.cmd("cat", fifo.path, timeout=PATIENCE).read() for _ in range(3)]
            serving.terminate(grace=1)
        judge.same(answers, [f"answer {n}\n" for n in (1, 2, 3)], "what the readers got")
    return " ".join(answers)


@row("tac")
def inputs(judge: Judge) -> str:
    """The lines of files and, when asked for, of commands: Perl's diamond without its traps.

    Breaks with a ``tac`` that says something else.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("precious").write_text("one\ntwo\n")
        complaints = io.StringIO()
        with contextlib.redirect_stderr(complaints):
            lines = hp.inputs(["precious", "tac precious|", ">precious"], commands=True)
            seen = [f"{lines.lineno} {line}" for line in lines]
        judge.same(seen, ["1 one\n", "2 two\n", "1 two\n", "2 one\n"], "the lines")
        judge.within(complaints.getvalue(), ">precious: No such file", "the complaint")
        judge.same(Path("precious").read_text(), "one\ntwo\n", "what Perl would have emptied")
    return " ".join("".join(seen).split()) + "; '>precious' is only a name"


@row("flock", "cat")
def lock(judge: Judge) -> str:
    """A lock on a file, with a limit, and who has it.

    Breaks when nobody else holds it, or everybody can.
    """
    with tempfile.NamedTemporaryFile() as file:
        with hp.cmd("flock", file.name, "cat", timeout=PATIENCE).duplex() as holder:
            judge.same(holder.ask("held"), "held", "what the holder says")
            with judge.raised(TimeoutError) as caught, hp.lock(file.name, timeout=_SHORT):
                pass
            judge.within(caught[0], f"held by process {holder.pid}", "the error")
        with hp.lock(file.name, timeout=PATIENCE):
            status = hp.cmd("flock", "-n", file.name, "cat", check=False, timeout=PATIENCE).capture().status
        judge.same(str(status), "exited with code 1", "what flock gets while we have it")
    return f"it was {str(caught[0]).rpartition('it is ')[2]}; then ours, and flock {status}"


# What the rows' children do.


def _answer(fifo: hp.Fifo[str]) -> None:
    hp.signals.unwind("TERM")
    numbers = itertools.count(1)
    fifo.serve(lambda: f"answer {next(numbers)}\n")
