"""Programs that insist on a terminal."""

from __future__ import annotations

import io

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row


@row("cat")
def expecting(judge: Judge) -> str:
    """Expect and send, in the words of pexpect: Comm.pl's cat -n.

    Breaks with a ``cat`` that does not count, or keeps its lines back.
    """
    seen = []
    with hp.expect.spawn("cat -n", encoding="utf-8", echo=False, timeout=PATIENCE) as cat:
        for line in ("horn", "pipe"):
            cat.sendline(line)
            cat.expect(r"(\d+)\t(.*)\r\n")
            seen.append(cat.match.groups())
        pid = cat.pid
    judge.same(seen, [("1", "horn"), ("2", "pipe")], "what cat says")
    judge.gone(pid or 0, "the closed cat")
    return " ".join(f"{number} {line}" for number, line in seen)


@row("stty")
def password(judge: Judge) -> str:
    """A password is typed when nobody can see it, and is in no log.

    Breaks with an ``stty`` that does not switch the echo.
    """
    script = "stty -echo; printf 'Password: '; read word; stty echo; echo; echo ${#word} letters"
    log = io.StringIO()
    with hp.expect.spawn("/bin/sh", ["-c", script], encoding="utf-8", timeout=PATIENCE) as child:
        child.logfile = log
        child.expect_exact("Password: ")
        judge.same(child.waitnoecho(2), True, "the echo's going")
        child.sendline("s3cret")
        child.expect(r"(\d+) letters\r\n")
        judge.same(child.match.group(1), "6", "the number of letters")
    judge.same("s3cret" in log.getvalue(), False, "the secret's being logged")
    return log.getvalue()


@row("tr")
def terminal_for_a_coprocess(judge: Judge) -> str:
    """A program that keeps its answers back on a pipe gives them on a terminal.

    Breaks with a ``tr`` that answers otherwise.
    """
    with hp.cmd("tr", "a-z", "A-Z", pty=True, timeout=PATIENCE).duplex() as tr:
        answers = [tr.ask(word, timeout=PATIENCE / 2) for word in ("horn", "pipe")]
    judge.same(answers, ["HORN", "PIPE"], "what tr answers")
    return " ".join(answers)


@row("seq")
def flood(judge: Judge) -> str:
    """A prompt after much output, of which only the end is kept.

    Breaks with a ``seq`` that miscounts.
    """
    script = "seq 200000; printf 'ready> '; read x"
    with hp.expect.spawn("/bin/sh", ["-c", script], encoding="utf-8", timeout=PATIENCE, before_limit=16) as child:
        child.expect_exact("ready> ")
        judge.same(child.before, "199999\r\n200000\r\n", "what came before the prompt")
        return f"...{child.before}{child.after}"
