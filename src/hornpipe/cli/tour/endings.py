"""How programs end, and how they are made to."""

from __future__ import annotations

import signal
import time

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row
from hornpipe.cli.tour.looking import SLACK

_LIMIT = 0.4
"""The timeout of rows that show one."""
_GRACE = 0.2
_LONG = "60"
"""Seconds for which the stubborn programs would stay."""


@row("ls")
def failure(judge: Judge) -> str:
    """A failure is an exception that says what happened.

    Breaks with an ``ls`` that finds what is not there.
    """
    with judge.raised(hp.CommandFailed) as caught:
        hp.cmd("ls", "/no/such/place", timeout=PATIENCE).capture()
    error = caught[0]
    judge.within(error.stderr, "/no/such/place", "its stderr")
    judge.within(error, "ls /no/such/place", "the message")
    return str(error).replace("\n", " ")


@row("sh")
def status(judge: Judge) -> str:
    """Exit codes and signals are kept apart.

    Breaks when the program ends otherwise.
    """
    coded = hp.cmd("sh", "-c", "exit 137", check=False, timeout=PATIENCE).run()
    killed = hp.cmd("sh", "-c", "kill -KILL $$", check=False, timeout=PATIENCE).run()
    judge.same((coded.code, coded.signal), (137, None), "the first status")
    judge.same((killed.code, killed.signal), (None, signal.SIGKILL), "the second status")
    return f"one {coded}, one {killed}"


@row()
def missing_program(judge: Judge) -> str:
    """A missing program is an error at once, by its name.

    Breaks when there is such a program.
    """
    with judge.raised(FileNotFoundError) as caught:
        hp.cmd("hornpipe-no-such-program", stdout=hp.NULL, stderr=hp.NULL, timeout=PATIENCE).start().wait()
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
    judge.soon(seconds, _LIMIT + _GRACE + SLACK, "the call")
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
    judge.soon(seconds, _LIMIT + _GRACE + SLACK, "the call")
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
    out = hp.sh(script, contain=True, stderr=hp.STDOUT, timeout=PATIENCE).read()
    pid = out.split()[0] if out.split() else ""
    judge.same(out.split(), [pid, pid, "sleep", _LONG], "pid, session and program that escaped")
    judge.ended(int(pid), "what escaped")
    return f"sleep, pid {pid}, led a session of its own and is gone"
