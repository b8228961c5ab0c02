"""Signals: who handles them, who is spared, and what they can interrupt."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import tempfile
import threading
import time

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row
from hornpipe.cli.tour.looking import SLACK

_LIMIT = 0.3
"""Seconds that the row with an alarm gives to a lock it cannot get."""
_PROMPT = 0.05
"""Seconds within which a handler has run: what is promised."""


@row("sh")
def handler(judge: Judge) -> str:
    """A handler by name, told who sent the signal: Perl's %SIG.

    Breaks with a ``sh`` that sends none.
    """
    came: list[hp.Signal] = []
    with hp.SIG.local(USR1=came.append):
        out = hp.cmd("sh", "-c", 'echo $$; kill -USR1 "$0"', str(os.getpid()), timeout=PATIENCE).read()
    judge.same([f"{sig} from pid {sig.pid}" for sig in came], [f"USR1 from pid {out.strip()}"], "what was handled")
    return f"{came[0]} from pid {came[0].pid}, by {came[0].code}"


@row("sh")
def ignored_for_a_while(judge: Judge) -> str:
    """A signal ignored inside a block, and only there: local $SIG{INT}.

    Breaks with a ``sh`` that sends none.
    """
    came: list[str] = []
    interrupt = hp.cmd("sh", "-c", 'kill -INT "$0" && echo sent', str(os.getpid()), timeout=PATIENCE)
    with hp.SIG.local(INT=lambda sig: came.append("handled")):
        with hp.SIG.local(INT="IGNORE"):
            came.append(interrupt.read().strip())
        came.append(interrupt.read().strip())
    judge.same(came, ["sent", "handled", "sent"], "what happened")
    return f"inside: {came[0]}, and ignored; outside: sent, and {came[1]}"


@row("env", "cat")
def hang_up_the_group(judge: Judge) -> str:
    """HUP for the whole process group, which only we survive.

    Breaks with a ``cat`` that is not there to be hung up on.
    """
    alone = hp.fn(_hang_up).with_options(new_session=True, timeout=PATIENCE)
    leader, ends = alone.call()
    judge.same(ends, ["killed by HUP"] * 3, "how the others ended")
    return f"pid {leader} told its group and lives; three programs {ends[0]}"


@row("kill")
def queued(judge: Judge) -> str:
    """Real-time signals queue, each with its number; others merge.

    Breaks with a ``kill`` that knows no queue.
    """
    values, came, plain = [3, 1, 4, 1, 5], list[int](), list[hp.Signal]()
    handlers = hp.SIG.local({"RTMIN+3": lambda sig: came.append(sig.value)}, USR1=plain.append)
    with handlers, hp.signals.block("RTMIN+3", "USR1"):
        for value in values:
            for words in (["-q", str(value), "-s", str(signal.SIGRTMIN + 3)], ["-s", "USR1"]):
                judge.same(_kill(*words, str(os.getpid())), "", "what kill says")
    judge.same(came, values, "what the queued ones carried")
    judge.same(len(plain), 1, "the number of USR1")
    return f"5 queued: {' '.join(map(str, came))}; 5 times USR1: {len(plain)}"


@row("sh")
def watch(judge: Judge) -> str:
    """Signals as a stream, in a thread that is not the main one.

    Breaks with a ``sh`` that sends none.
    """
    came: queue.SimpleQueue[tuple[str, int, str]] = queue.SimpleQueue()
    with hp.watch("HUP", "TERM") as signals, hp.cmd("sh", timeout=PATIENCE).duplex() as shell:

        def collect() -> None:
            for sig in signals:
                came.put((sig.name, sig.pid, threading.current_thread().name))

        thread = threading.Thread(target=collect, name="watchman")
        thread.start()
        try:
            for name in ("HUP", "TERM"):
                judge.same(shell.ask(f"kill -{name} {os.getpid()}; echo $$"), str(shell.pid), "what the shell says")
                judge.same(came.get(timeout=PATIENCE), (name, shell.pid, "watchman"), "what the thread saw")
        finally:
            signals.close()
            thread.join()
    return f"HUP and TERM from pid {shell.pid}, in the thread {thread.name!r}"


@row("flock", "cat")
def alarm(judge: Judge) -> str:
    """A time limit on a call that takes none: Perl's alarm around flock.

    Breaks when nobody holds the lock.
    """
    with tempfile.NamedTemporaryFile() as file:
        with hp.cmd("flock", file.name, "cat", timeout=PATIENCE).duplex() as holder:
            judge.same(holder.ask("locked"), "locked", "what the holder says")
            started = time.monotonic()
            with judge.raised(TimeoutError) as caught, hp.alarm(_LIMIT):
                fcntl.flock(file, fcntl.LOCK_EX)
            waited = time.monotonic() - started
            judge.same(waited >= _LIMIT, True, "whether it was waited for")
            judge.soon(waited, _LIMIT + SLACK, "waiting for it")
        with hp.alarm(PATIENCE):
            fcntl.flock(file, fcntl.LOCK_EX)
    return f"{caught[0]}; once it was free we had it"


@row("sh")
def wake_up(judge: Judge) -> str:
    """A signal reaches its handler in a blocked read, which then goes on.

    Breaks with a ``sh`` that sends none.
    """
    reader, writer = os.pipe()
    late: list[float] = []

    def answer(sig: hp.Signal) -> None:
        late.append(time.monotonic() - sig.time)
        # What the shell waits for, while we wait for the shell.
        os.write(writer, b"go on\n")

    try:
        script = """
            until read -r line <"/proc/$0/stat" && [ -z "${line##*) S *}" ]; do :; done  # until we sleep
            kill -USR1 "$0"
            read -r words
            echo "told to $words"
        """
        shell = hp.cmd("sh", "-c", script, str(os.getpid()), stdin=reader, timeout=PATIENCE)
        with hp.SIG.local(USR1=answer), shell.reader() as output:
            judge.same(output.readline(), "told to go on\n", "what the read gave")
    finally:
        os.close(reader)
        os.close(writer)
    judge.soon(late[0], _PROMPT + SLACK, "reaching the handler")
    return f"handled after {late[0] * 1000:.1f} ms; the read went on"


@row("cat", "kill")
def unwind(judge: Judge) -> str:
    """Told to end, a program cleans up, ends its children, dies of it.

    Breaks when there is no child, or nobody who tells.
    """
    with hp.fn(_serve).with_options(check=False, timeout=PATIENCE).reader() as server:
        pid, said = server.readline().split()
        judge.same(said, "serving", "what its child says")
        judge.same(_kill("-s", "TERM", str(server.pid)), "", "what kill says")
        judge.same(server.read(), "cleaned up\n", "its last words")
    judge.same(str(server.status), "killed by TERM", "how it ended")
    judge.ended(int(pid), "its child")
    return f"cleaned up, ended its child {pid}, {server.status}"


@row("kill")
def immediate(judge: Judge) -> str:
    """What a signal does at once, even while the interpreter is stuck.

    Breaks when nobody sends it.
    """
    with hp.fn(_get_stuck).with_options(check=False, timeout=PATIENCE).reader() as stuck:
        judge.same(stuck.readline(), "counting\n", "what it says")
        judge.same(_kill("-s", "TERM", str(stuck.pid)), "", "what kill says")
        words = stuck.read()
    judge.same((words, str(stuck.status)), ("stuck!", "exited with code 3"), "its end")
    return f"in the middle of one long call: {words!r}, and it {stuck.status}"


def _kill(*words: str) -> str:
    return hp.cmd("kill", *words, stderr=hp.STDOUT, timeout=PATIENCE).read()


# What the rows' children do.


def _hang_up() -> tuple[int, list[str]]:
    # Under nohup it is ignored, which children inherit.
    cat = hp.cmd("env", "--default-signal=HUP", "cat", check=False)
    with contextlib.ExitStack() as stack:
        cats = [stack.enter_context(cat.duplex()) for _ in range(3)]
        there = [cat.ask("there") for cat in cats]
        hp.signals.kill_group("HUP")
        stack.close()
    return os.getpid(), [str(cat.status) for cat, said in zip(cats, there, strict=True) if said == "there"]


def _serve() -> None:
    hp.signals.unwind("TERM")
    with hp.cmd("cat").duplex() as cat:
        try:
            print(cat.pid, cat.ask("serving"), flush=True)
            cat.read()
        finally:
            print("cleaned up", flush=True)


def _get_stuck() -> None:
    hp.SIG["TERM"] = hp.Immediate.write(1, b"stuck!") + hp.Immediate.exit(3)
    print("counting", flush=True)
    sum(range(10**12))
