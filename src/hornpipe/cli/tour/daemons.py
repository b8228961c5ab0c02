"""Daemons: becoming one, being started again, and making one of any program."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row

# Whatever manages this process is not to be told of ours, and they go to the background all the same.
_UNMANAGED = dict.fromkeys(("NOTIFY_SOCKET", "INVOCATION_ID", "LISTEN_PID"))

_DAEMON = """
import sys, hornpipe as hp
hp.signals.unwind("TERM")
with hp.daemonize(pidfile=sys.argv[1]) as daemon:
    daemon.ready()
    hp.signals.suspend()
"""
_SERVICE = """
import os, hornpipe as hp
kept = hp.kept_descriptors()
hp.restart_on_hup(keep={"stdin": 0})
print(os.getpid(), "started again" if kept else "started", flush=True)
while True:
    hp.signals.suspend()
"""
_HORNPIPE = "from hornpipe.cli import main; main()"


@row("ps")
def daemonize(judge: Judge) -> str:
    """A program becomes a daemon, and its starter returns when it is ready.

    Breaks with a ``ps`` that does not know it, or when it stays where it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        pidfile = Path(folder, "pid")
        with _ended(pidfile):
            _python(_DAEMON, str(pidfile)).run()
            pid = int(pidfile.read_text())
            out = hp.cmd("ps", "-o", "pid=,sid=,tty=", "-p", str(pid), timeout=PATIENCE).read()
            number, session, terminal = out.split()[:3]
            judge.same((int(number), terminal), (pid, "?"), "process and terminal")
            judge.same(int(session) in (pid, os.getsid(0)), False, "whether it leads its session, or is in ours")
            os.kill(pid, signal.SIGTERM)
            judge.ended(pid, "the daemon")
        judge.same(pidfile.exists(), False, "whether the pidfile is left")
    return f"pid {pid} of session {session} on no terminal; its pidfile went with it"


@row("kill")
def restart_on_hup(judge: Judge) -> str:
    """On HUP a program executes itself again: the same process, with what it kept.

    Breaks with a ``kill`` that sends nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "service.py")
        script.write_text(_SERVICE)
        command = hp.cmd(sys.executable, str(script), env=_UNMANAGED, check=False, timeout=PATIENCE)
        with command.reader() as service:
            said = [service.readline()]
            for _ in range(2):
                words = hp.cmd("kill", "-s", "HUP", str(service.pid), stderr=hp.STDOUT, timeout=PATIENCE).read()
                judge.same(words, "", "what kill says")
                said.append(service.readline())
            judge.same(said, [f"{service.pid} {words}\n" for words in _SAID], "what it said")
            hp.kill("TERM", service.pid)
    return " ".join("".join(said).split())


_SAID = ("started", "started again", "started again")


@row("sleep")
def daemon(judge: Judge) -> str:
    """Any program made a daemon from the shell, asked for, and surely stopped.

    Breaks with a ``sleep`` that does not sleep.
    """
    with tempfile.TemporaryDirectory() as folder:
        pidfile = Path(folder, "pid")
        with _ended(pidfile):
            told = [_daemon("start", pidfile, "--", "sleep", "60"), _daemon("status", pidfile)]
            pid = pidfile.read_text().strip() if pidfile.exists() else "none"
            told += [_daemon("stop", pidfile), _daemon("status", pidfile)]
        wanted = [(0, ""), (0, f"running: process {pid}"), (0, f"stopped: process {pid}"), (3, "not running")]
        judge.same(told, wanted, "what it said")
    return "; ".join(words for _, words in told if words)


def _python(program: str, *arguments: str) -> hp.Command[str]:
    return hp.cmd(sys.executable, "-c", program, *arguments, env=_UNMANAGED, timeout=PATIENCE)


def _daemon(verb: str, pidfile: Path, *arguments: str) -> tuple[int | None, str]:
    command = _python(_HORNPIPE, "daemon", verb, "--pidfile", str(pidfile), *arguments)
    result = command.with_options(check=False, stderr=hp.STDOUT).capture()
    return result.status.code, result.stdout.strip()


@contextlib.contextmanager
def _ended(pidfile: Path) -> Iterator[None]:
    """Nothing may be left of a row that fails."""
    try:
        yield
    finally:
        if pidfile.exists() and (pid := pidfile.read_text().strip()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
