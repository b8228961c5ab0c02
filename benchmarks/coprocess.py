"""Conversations: a line to a coprocess, a line back."""

from __future__ import annotations

import subprocess

from benchmarks.contest import MICROSECONDS, US, Measurement, at_most
from benchmarks.play import Figures, expect
from benchmarks.programs import LINE, bash, c, perl

ECHO = c("echo")

chat = Measurement(
    "chat",
    "line round trip with a coprocess on one CPU, {size} times",
    unit=MICROSECONDS,
    size=20_000,
    quick=2_000,
    peer="perl open3",
    targets=[at_most(1.30, "C"), at_most(1.30, "C", ours="hornpipe (text)")],
    one_cpu=True,
)
chat.program("C", [c("chat"), "SIZE", ECHO, LINE])
chat.program(
    "perl open3",
    perl(
        """
        use IPC::Open3; use IO::Handle;
        my $pid = open3(my $to, my $from, '>&STDERR', $args[0]); $to->autoflush(1);
        start_now();
        for (1 .. $size) { print $to "$args[1]\\n"; <$from> eq "$args[1]\\n" or die }
        close $to; waitpid $pid, 0;
        """,
        ECHO,
        LINE,
    ),
)
chat.program(
    "bash coproc (1/10)",
    bash(
        """
        coproc "$1"; start=${EPOCHREALTIME/./}
        for ((i = 0; i < size; i++)); do
            echo "$2" >&"${COPROC[1]}"; read -r reply <&"${COPROC[0]}"; [[ $reply == "$2" ]] || exit 1
        done; done_now
        """,
        ECHO,
        LINE,
    ),
    share=0.1,
)


@chat.contender(US)
def by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    line = LINE.encode()
    with hp.cmd(ECHO).as_bytes().duplex() as echo:
        expect(echo.ask(line), line)
        with figures:
            for _ in range(size):
                echo.ask(line)
        expect(echo.ask(b"in step"), b"in step")


@chat.contender("hornpipe (text)")
def text_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.cmd(ECHO).duplex() as echo:
        expect(echo.ask(LINE), LINE)
        with figures:
            for _ in range(size):
                echo.ask(LINE)
        expect(echo.ask("in step"), "in step")


@chat.contender("Popen")
def by_subprocess(figures: Figures, size: int) -> None:
    line = LINE.encode() + b"\n"
    with subprocess.Popen([ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        assert echo.stdin
        assert echo.stdout
        with figures:
            for _ in range(size):
                echo.stdin.write(line)
                echo.stdin.flush()
                reply = echo.stdout.readline()
        expect(reply, line)


@chat.contender("Popen text")
def text_by_subprocess(figures: Figures, size: int) -> None:
    line = LINE + "\n"
    with subprocess.Popen([ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as echo:
        assert echo.stdin
        assert echo.stdout
        with figures:
            for _ in range(size):
                echo.stdin.write(line)
                echo.stdin.flush()
                reply = echo.stdout.readline()
        expect(reply, line)


@chat.contender("pexpect popen_spawn (1/20)", share=0.05)
def by_pexpect(figures: Figures, size: int) -> None:
    from pexpect.popen_spawn import PopenSpawn

    echo = PopenSpawn([ECHO])
    with figures:
        for _ in range(size):
            echo.sendline(LINE)
            echo.readline()
    echo.sendeof()
    echo.wait()


MEASUREMENTS = [chat]
