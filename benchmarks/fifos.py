"""FIFOs: a conversation over two of them, and one whose content is a program's."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.contest import MICROSECONDS, US, Measurement, at_most
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

ECHO = c("echo")
LINE = "x" * 63 + "\n"

chat = Measurement(
    "fifo-chat",
    "64 bytes to another process and back over two FIFOs, on one CPU, {size} times",
    unit=MICROSECONDS,
    size=30_000,
    quick=3_000,
    peer="os.read, os.write",
    one_cpu=True,
    turns=3,
    targets=[at_most(1.25, "C"), at_most(1.25, "C", ours="hornpipe (text)")],
)
chat.program("C", [c("fifochat"), "SIZE", ECHO])
chat.program("C, with poll", [c("fifochat"), "SIZE", ECHO, "poll"])
chat.program(
    "perl sysread",
    perl(
        """
        use POSIX qw(mkfifo); use File::Temp qw(tempdir); my $folder = tempdir(CLEANUP => 1);
        mkfifo("$folder/$_", 0600) || die for qw(there back); my ($text, $got) = ("x" x 63 . "\\n", "");
        my $child = fork // die;
        if (!$child) {
            open STDIN, "<", "$folder/there" or die; open STDOUT, ">", "$folder/back" or die; exec @args;
        }
        open my $to, ">", "$folder/there" or die; open my $from, "<", "$folder/back" or die; start_now();
        for (1 .. $size) { syswrite $to, $text; sysread $from, $got, 4096; $got eq $text or die }
        close $to; waitpid $child, 0; $? = 0;
        """,
        ECHO,
    ),
)


@contextlib.contextmanager
def between() -> Iterator[tuple[str, str]]:
    """The FIFOs there and back, with an echo at their other ends."""
    with tempfile.TemporaryDirectory() as folder:
        there, back = f"{folder}/there", f"{folder}/back"
        os.mkfifo(there)
        os.mkfifo(back)
        with subprocess.Popen(["sh", "-c", 'exec "$0" <"$1" >"$2"', ECHO, there, back]):
            yield there, back


def talk_by_hornpipe(figures: Figures, size: int, kind: Any, line: Any) -> None:
    import hornpipe as hp

    with between() as (there, back), kind(hp.Fifo(there)).writer() as to, kind(hp.Fifo(back)).reader() as answers:
        with figures:
            for _ in range(size):
                answer = to.ask(line, answers)
        expect(answer, line[:-1])


@chat.contender(US)
def talked(figures: Figures, size: int) -> None:
    talk_by_hornpipe(figures, size, lambda fifo: fifo.as_bytes(), LINE.encode())


@chat.contender("hornpipe (text)")
def talked_in_text(figures: Figures, size: int) -> None:
    talk_by_hornpipe(figures, size, lambda fifo: fifo, LINE)


@chat.contender("hornpipe, record, readline")
def talked_in_two_steps(figures: Figures, size: int) -> None:
    import hornpipe as hp

    line = LINE.encode()
    with between() as (there, back):
        to, answers = hp.Fifo(there).as_bytes().writer(), hp.Fifo(back).as_bytes().reader()
        with to, answers:
            with figures:
                for _ in range(size):
                    to.record(line)
                    answer = answers.readline()
            expect(answer, line)


@chat.contender("os.write, poll, os.read")
def talked_by_hand_and_poll(figures: Figures, size: int) -> None:
    line = LINE.encode()
    with between() as (there, back):
        to, answers = os.open(there, os.O_WRONLY), os.open(back, os.O_RDONLY)
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        with figures:
            for _ in range(size):
                os.write(to, line)
                poll.poll()
                answer = os.read(answers, 4096)
        expect(answer, line)
        os.close(to)
        os.close(answers)


@chat.contender("os.read, os.write")
def talked_by_hand(figures: Figures, size: int) -> None:
    line = LINE.encode()
    with between() as (there, back):
        to, back_from = os.open(there, os.O_WRONLY), os.open(back, os.O_RDONLY)
        with figures:
            for _ in range(size):
                os.write(to, line)
                answer = os.read(back_from, 4096)
        expect(answer, line)
        os.close(to)
        os.close(back_from)


@chat.contender("open()")
def talked_by_files(figures: Figures, size: int) -> None:
    line = LINE.encode()
    with between() as (there, back), open(there, "wb") as to, open(back, "rb") as back_from:
        with figures:
            for _ in range(size):
                to.write(line)
                to.flush()
                answer = back_from.readline()
        expect(answer, line)


answers = Measurement(
    "fifo-answers",
    "a file that is a program: a fresh answer for each reader of a FIFO, {size} one after the other",
    unit=MICROSECONDS,
    size=10_000,
    quick=1_000,
    peer="perl, as the page has it",
)
READ = c("fiforead")
answers.program("C", [READ, "SIZE", "any", c("signature")])
answers.program(
    "perl, as the page has it",
    [
        *(READ, "SIZE", "any", "perl", "-e"),
        """
        $FIFO = 'name'; $SIG{PIPE} = 'IGNORE';
        while (1) {
            unless (-p $FIFO) { unlink $FIFO; system('mknod', $FIFO, 'p') && die "can't mknod $FIFO: $!"; }
            open (FIFO, "> $FIFO") || die "can't write $FIFO: $!";
            print FIFO "John Smith (smith\\@host.org)\\n", $number++, "\\n";
            close FIFO;
        }
        """,
    ],
)
SERVE = r"""
import itertools
import hornpipe as hp
number = itertools.count()
hp.Fifo("name").serve(lambda: f"John Smith (smith@host.org)\n{next(number)}\n")
"""
answers.program(US, [READ, "SIZE", "each", sys.executable, "-c", SERVE])

MEASUREMENTS = [chat, answers]
