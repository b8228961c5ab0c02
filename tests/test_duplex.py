"""Conversations with a command."""

from __future__ import annotations

import select
import signal
import socket
import sys
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, pipe
from hornpipe.lines import TEXT
from hornpipe.testing import stubborn

MIB = 1 << 20


def echo() -> None:
    for line in sys.stdin:
        print(line, end="", flush=True)


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable", "pty"])
class TestConversation:
    def command(self, mechanism: str) -> Any:
        if mechanism == "callable":
            return hp.fn(echo).with_options(timeout=30)
        return hp.cmd(*stubborn.echo_lines(), pty=mechanism == "pty", timeout=30)

    def test_each_question_has_its_answer(self, mechanism: str) -> None:
        """perlipc:B1, B5, gotcha:P9."""
        with self.command(mechanism).duplex() as talk:
            assert [talk.ask(word) for word in ("one", "two")] == ["one", "two"]

    def test_a_closed_input_lets_the_rest_be_read(self, mechanism: str) -> None:
        """perlipc:B1, gotcha:P9."""
        with self.command(mechanism).duplex() as talk:
            talk.send("a\nb\n")
            talk.close_input()
            assert talk.read() == "a\nb\n"


def test_bc_calculates() -> None:
    """perlipc:B1."""
    with hp.cmd("bc", timeout=30).duplex() as bc:
        assert (bc.ask("6*7"), bc.ask("2^10")) == ("42", "1024")


def test_sort_answers_at_the_end_of_its_input() -> None:
    """gotcha:P9"""
    with hp.cmd("sort", timeout=30).duplex() as sort:
        sort.send("b\na\n")
        sort.close_input()
        assert sort.readlines() == ["a\n", "b\n"]


def test_ask_says_what_was_read_in_time_and_the_conversation_goes_on() -> None:
    """perlipc:B2, gotcha:P4."""
    script = "printf part; read a; read b; echo ial; read c; echo again"
    with hp.sh(script, timeout=30).duplex() as talk:
        assert select.select([talk], [], [], 20)[0]
        with pytest.raises(TimeoutError, match="part"):
            talk.ask("a", timeout=0.05)
        assert (talk.ask("b"), talk.ask("c")) == ("partial", "again")


def test_no_answer_comes_with_the_status() -> None:
    """gotcha:P1"""
    with hp.sh("read a; printf half; exit 3", check=False).duplex() as talk:
        with pytest.raises(hp.NoAnswer, match="exited with code 3 before it answered 'a'; it wrote 'half'") as caught:
            talk.ask("a")
        assert caught.value.status is not None
        assert (caught.value.read, caught.value.status.code) == ("half", 3)


def test_no_answer_of_one_that_still_runs_says_so() -> None:
    """gotcha:P1"""
    with hp.sh("read a; exec sleep 60 >&-", check=False, grace=0).duplex() as talk:
        with pytest.raises(hp.NoAnswer, match="closed its output before it answered 'a'; it wrote ''") as caught:
            talk.ask("a")
        assert caught.value.status is None


@pytest.mark.parametrize("pty", [False, True], ids=["pipe", "terminal"])
def test_sending_to_a_program_that_has_gone_is_a_broken_pipe_with_its_status(pty: bool) -> None:
    """gotcha:P1, gotcha:TTY1: a terminal takes no more then, and gives no error by itself."""
    with pytest.raises(BrokenPipeError) as caught, hp.sh("exit 3", pty=pty, timeout=30).duplex() as talk:
        for _ in range(1000):
            talk.send("never read\n" * 100)
    assert caught.value.status.code == 3
    assert 0 <= caught.value.taken < 1_100_000


def test_events_come_from_both_streams() -> None:
    """perlipc:B2."""
    with hp.sh("echo o; echo e >&2", timeout=30).duplex(stderr=True) as talk:
        assert sorted(talk.events()) == [("stderr", "e\n"), ("stdout", "o\n")]


def test_twenty_mebibytes_go_both_ways_at_once() -> None:
    """gotcha:P9"""
    data = b"0123456789abcdef" * (20 * MIB // 16)
    with hp.cmd("cat", timeout=30).as_bytes().duplex() as cat:
        cat.send(data)
        cat.close_input()
        assert cat.read() == data


def test_unread_output_beyond_the_limit_is_refused() -> None:
    """gotcha:C4"""
    with pytest.raises(hp.LimitExceeded, match="buffer_limit"), hp.cmd("cat", buffer_limit=MIB).duplex() as cat:
        cat.send("x" * (8 * MIB))


def test_ask_has_its_own_limit_after_a_read_as_well() -> None:
    """gotcha:P4: what was read ahead is characters by then."""
    with hp.sh("printf 'ab'; read x; read y; echo later", timeout=30).duplex() as talk:
        assert talk.read(1) == "a"
        with pytest.raises(TimeoutError, match="did not answer in time; read so far: 'b'"):
            talk.ask("x", timeout=0.05)
        assert talk.ask("y") == "blater"


@pytest.mark.parametrize("stderr", [False, True], ids=["one", "two"])
def test_an_answer_without_end_or_newline_is_refused_and_can_still_be_read(stderr: bool) -> None:
    """gotcha:C4"""
    with hp.sh("read question; yes | tr -d '\\n'", buffer_limit=MIB, timeout=30, grace=0.1).duplex(stderr) as talk:
        with pytest.raises(hp.LimitExceeded, match=f"ended no line.*buffer_limit={MIB}") as caught:
            talk.ask("a line?")
        assert caught.value.limit == MIB
        assert talk.read(MIB) == "y" * MIB
        with pytest.raises(hp.LimitExceeded, match="ended no line"):
            talk.readline()


def test_what_is_closed_has_no_end() -> None:
    cat = hp.cmd("cat").duplex()
    cat.close()
    for call in (cat.read, cat.readline, cat.read_some, lambda: cat.read(1)):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("output", ["kept", "closed"])
def test_a_deadline_that_passes_while_it_is_closed_is_a_timeout(output: str) -> None:
    """Within its grace the child may end by itself; its deadline stays what it was."""
    close = "exec >&-;" if output == "closed" else ""
    with pytest.raises(hp.CommandTimeout) as caught, hp.sh(f"{close} exec sleep 30", timeout=0.2, grace=20).duplex():
        pass
    assert caught.value.status is not None
    assert caught.value.status.signal == signal.SIGTERM


def test_a_child_that_outlives_its_grace_is_ended_and_that_is_no_failure() -> None:
    with hp.cmd("sleep", "30", timeout=30, grace=0.1).duplex():
        pass


def test_an_encoding_with_a_mark_at_the_start_is_refused_for_lines() -> None:
    """gotcha:P8: each line would lose one of its own, and each that is sent would get one."""
    marked = hp.cmd("cat").as_text("utf-8-sig")
    for begin in (marked.duplex, marked.lines):
        with pytest.raises(ValueError, match="utf-8-sig.*utf-8 "):
            begin()
    with hp.cmd("printf", r"\357\273\277a\n\357\273\277b\n").as_text("utf-8-sig").reader() as file:
        assert file.readlines() == ["a\n", "\ufeffb\n"]


def test_what_a_terminal_would_obey_or_cut_is_refused_and_the_rest_goes_on() -> None:
    """gotcha:TTY4, gotcha:TTY5: in a conversation as in what is fed."""
    with hp.cmd("cat", pty=True, timeout=30).duplex() as cat:
        assert cat.ask("x" * 4095) == "x" * 4095
        for text, why in (("a\x03b\n", "the byte 0x03 as an order"), ("y" * 4096 + "\n", "4095 at most")):
            with pytest.raises(ValueError, match=why):
                cat.send(text)
        assert cat.ask("z") == "z"
    for text, why in (("a\x04b\n", "the byte 0x04 as an order"), ("y" * 4096 + "\n", "4095 at most")):
        with pytest.raises(ValueError, match=why):
            hp.cmd("cat", pty=True, input=text, timeout=30).read()


def test_what_was_read_ahead_is_not_lost_to_ask() -> None:
    """gotcha:P4"""
    with hp.sh("printf 'ab\\n'; read x; echo later", timeout=30).duplex() as talk:
        assert talk.read(1) == "a"
        assert talk.ask("x") == "b"


def test_what_was_read_ahead_is_not_lost_to_events() -> None:
    """gotcha:P4"""
    with hp.cmd("echo", "ab", timeout=30).duplex() as talk:
        assert talk.read(1) == "a"
        assert "".join(data for _, data in talk.events()) == "b\n"


# Programs that gather their answers into blocks when they see a pipe: two of C, with stdio, and two that have buffers
# of their own, which stdbuf does not reach. Each with its own flag against it, where there is one.
UPPER = "import sys\nfor line in sys.stdin: sys.stdout.write(line.upper())"
HOARDERS: dict[str, tuple[list[str], list[str] | None]] = {
    "tr": (["tr", "a-z", "A-Z"], None),
    "sed": (["sed", "s/.*/\\U&/"], ["sed", "-u", "s/.*/\\U&/"]),
    "perl": (["perl", "-pe", "$_ = uc"], ["perl", "-pe", "BEGIN { $| = 1 } $_ = uc"]),
    "python": ([sys.executable, "-Sc", UPPER], [sys.executable, "-uSc", UPPER]),
}


def hoarder(*argv: str, **options: Any) -> hp.Command[str]:
    return hp.cmd(*argv, env={"PYTHONUNBUFFERED": None}, timeout=30, **options)


class TestAProgramThatBuffersInBlocks:
    """gotcha:P3, perlipc:B3: nobody outside can change it, and there are three cures."""

    @pytest.mark.parametrize("name", HOARDERS)
    def test_keeps_its_answer_back_on_a_pipe_until_its_input_ends(self, name: str) -> None:
        """gotcha:P3, gotcha:P9: half-close is the first cure."""
        with hoarder(*HOARDERS[name][0]).duplex() as talk:
            with pytest.raises(TimeoutError, match="did not answer in time; nothing was read"):
                talk.ask("one", timeout=0.3)
            talk.send("two\n")
            talk.close_input()
            assert talk.read() == "ONE\nTWO\n"

    @pytest.mark.parametrize("name", HOARDERS)
    def test_answers_at_once_on_a_terminal(self, name: str) -> None:
        """gotcha:P3: pty=True is the second, for any program."""
        with hoarder(*HOARDERS[name][0], pty=True).duplex() as talk:
            assert [talk.ask(word) for word in ("one", "two")] == ["ONE", "TWO"]

    @pytest.mark.parametrize(
        "argv",
        [
            *([*("stdbuf", "-oL"), *HOARDERS[name][0]] for name in ("tr", "sed")),
            *(flagged for _, flagged in HOARDERS.values() if flagged),
        ],
        ids=lambda argv: argv[0].rpartition("/")[2],
    )
    def test_answers_at_once_under_stdbuf_or_with_its_own_flag(self, argv: list[str]) -> None:
        """gotcha:P3: the third, where the program uses C's stdio, or has a flag."""
        with hoarder(*argv).duplex() as talk:
            assert [talk.ask(word) for word in ("one", "two")] == ["ONE", "TWO"]

    def test_is_betrayed_by_what_ask_had_read_when_the_time_was_over(self) -> None:
        """gotcha:P3, gotcha:P9: the prompt had come, the answer had not, and nothing of either is lost."""
        program = "$| = 1; print 'Name: '; $| = 0; print \"Hello $_\" while <STDIN>"
        with hoarder("perl", "-e", program).duplex() as talk:
            assert select.select([talk], [], [], 20)[0]
            with pytest.raises(TimeoutError, match=r"did not answer in time; read so far: 'Name: '"):
                talk.ask("Larry", timeout=0.2)
            talk.close_input()
            assert talk.read() == "Name: Hello Larry\n"


def test_bars_around_a_command_are_part_of_its_name() -> None:
    """perlipc:O14: Perl looks into the string, and grumbles under -w; here duplex is the verb for both ends."""
    assert "bidirectional pipe" in hp.cmd("perl", "-we", 'open(my $both, "| cat |")').capture().stderr
    with pytest.raises(FileNotFoundError, match=r"no program '\| cat \|' in PATH") as caught:
        hp.cmd("| cat |").duplex()
    assert caught.value.filename == "| cat |"
    with hp.sh("| cat |", stderr=hp.NULL, check=False).duplex() as nobody:
        assert nobody.read() == ""
    assert nobody.status is not None
    assert nobody.status.code == 2  # to the shell it is a syntax error


# Perl at the other end

CONVERSATION = """
import sys
import hornpipe as hp
with hp.cmd("sed", "-u", "s/^/you said /").duplex() as sed:
    for line in sys.stdin:
        print(sed.ask(line.rstrip("\\n")), flush=True)
sys.exit(hp.sh("echo a complaint >&2; exit 5", check=False).run().code)
"""
OUR_PROGRAM = (sys.executable, "-c", CONVERSATION)

OPEN2 = """
use strict; use warnings; use IPC::Open2;
my $pid = open2(my $from, my $to, @ARGV);
for my $word ("one", "two") { print $to "$word\\n"; print scalar <$from> }
close $to; print "then: ", defined(<$from>) ? "more" : "the end", "\\n";
waitpid $pid, 0; print "status ", $? >> 8, "\\n";
"""

OPEN3 = """
use strict; use warnings; use IPC::Open3; use Symbol "gensym";
my $pid = open3(my $to, my $from, my $errors = gensym, @ARGV);
for my $word ("one", "two") { print $to "$word\\n"; print scalar <$from> }
close $to; print "then: ", defined(<$from>) ? "more" : "the end", "\\n";
print "stderr: ", <$errors>;
waitpid $pid, 0; print "status ", $? >> 8, "\\n";
"""

SAID = "you said one\nyou said two\nthen: the end\n"


def test_perls_open2_talks_to_a_program_of_ours() -> None:
    """perlipc:B1: its coprocess is a program that itself talks to one, through hornpipe."""
    told = hp.cmd("perl", "-e", OPEN2, *OUR_PROGRAM, timeout=30).capture()
    # open2 leaves stderr where it was.
    assert (told.stdout, told.stderr) == (SAID + "status 5\n", "a complaint\n")


def test_perls_open3_talks_to_a_program_of_ours_and_hears_its_stderr() -> None:
    """perlipc:B2."""
    told = hp.cmd("perl", "-e", OPEN3, *OUR_PROGRAM, timeout=30).capture()
    assert (told.stdout, told.stderr) == (SAID + "stderr: a complaint\nstatus 5\n", "")


def test_a_perl_program_with_a_coprocess_of_its_own_answers_us() -> None:
    """perlipc:B1: our line goes through two pairs of pipes, the second by open2, and comes back."""
    program = """
    use IPC::Open2; $| = 1;
    my $pid = open2(my $from, my $to, "sed", "-u", "s/^/sed saw /");
    while (<STDIN>) { print $to $_; print "perl saw ", scalar <$from> }
    close $to; waitpid $pid, 0; exit $? >> 8;
    """
    with hp.cmd("perl", "-e", program, timeout=30).duplex() as perl:
        assert [perl.ask(word) for word in ("one", "two")] == ["perl saw sed saw one", "perl saw sed saw two"]


# Two plain pipes, or a socketpair (perlipc:B5), with Perl at the one end and us at the other

ANSWER = 'while (<$in>) { chomp; print $out "pid $$ just read this: $_\\n" }'


def bare_handle(source: Descriptor, sink: Descriptor) -> hp.Handle[str]:
    return hp.Handle(source, sink, TEXT, by_line=True, deadline=after(20))


def converse(handle: hp.Handle[str], pid: int) -> None:
    for word in ("one", "two"):
        print(word, file=handle)
        assert handle.readline() == f"pid {pid} just read this: {word}\n"


def test_perl_converses_over_two_plain_pipes() -> None:
    """perlipc:B5: pipes that we made, given to a Perl program that finds them by number."""
    program = 'open my $in, "<&=", shift; open my $out, ">&=", shift; $out->autoflush(1); ' + ANSWER
    (theirs_in, ours_out), (ours_in, theirs_out) = pipe(), pipe()
    numbers = theirs_in.fileno(), theirs_out.fileno()
    with theirs_in, theirs_out:
        perl = hp.cmd("perl", "-MIO::Handle", "-e", program, *map(str, numbers), pass_fds=numbers).start()
    with perl:
        with bare_handle(ours_in, ours_out) as handle:
            converse(handle, perl.pid)
        assert perl.wait(20)  # its input has ended with our handle


@pytest.mark.parametrize("place", ["its stdin and stdout", "a number of its own"])
def test_perl_converses_over_a_socketpair(place: str) -> None:
    """perlipc:B5: one descriptor at each end, for both directions."""
    ours, theirs = socket.socketpair()
    with theirs:
        if place == "a number of its own":
            program = 'open my $in, "+<&=", shift; my $out = $in; $out->autoflush(1); ' + ANSWER
            number = theirs.fileno()
            perl = hp.cmd("perl", "-MIO::Handle", "-e", program, str(number), pass_fds=[number]).start()
        else:
            program = "my ($in, $out) = (*STDIN, *STDOUT); $| = 1; " + ANSWER
            perl = hp.cmd("perl", "-e", program, stdin=theirs, stdout=theirs).start()
    end = Descriptor(ours.detach())
    with perl:
        with bare_handle(end, end) as handle:
            converse(handle, perl.pid)
        assert perl.wait(20)


TWO_PIPES = """
pipe(my $from, my $child_out) or die; pipe(my $child_in, my $to) or die;
my $pid = fork // die;
if (!$pid) { open STDIN, "<&", $child_in; open STDOUT, ">&", $child_out; exec @ARGV or die }
close $child_in; close $child_out;
"""
SOCKETPAIR = """
use Socket; socketpair(my $from, my $child, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die; my $to = $from;
my $pid = fork // die;
if (!$pid) { open STDIN, "<&", $child; open STDOUT, ">&", $child; exec @ARGV or die }
close $child;
"""
TALK = """
$to->autoflush(1);
for my $word ("one", "two") { print $to "$word\\n"; print scalar <$from> }
$end->(); print "then: ", defined(<$from>) ? "more" : "the end", "\\n";
waitpid $pid, 0; print "status ", $? >> 8, "\\n";
"""


@pytest.mark.parametrize(
    "parent",
    [TWO_PIPES + "my $end = sub { close $to };" + TALK, SOCKETPAIR + "my $end = sub { shutdown $to, 1 };" + TALK],
    ids=["two pipes", "socketpair"],
)
def test_a_perl_parent_converses_with_a_child_of_ours(parent: str) -> None:
    """perlipc:B5: the child's stdin and stdout are what Perl made by hand."""
    told = hp.cmd("perl", "-MIO::Handle", "-we", parent, *OUR_PROGRAM, timeout=30).capture()
    assert (told.stdout, told.stderr) == (SAID + "status 5\n", "a complaint\n")


def test_what_was_said_on_stderr_can_be_had_at_any_time() -> None:
    with hp.sh("while read line; do echo no $line >&2; echo yes; done").duplex(stderr=True) as talk:
        assert talk.ask("coffee") == "yes"
        assert talk.read_errors() == "no coffee\n"
        assert talk.read_errors() == ""


def test_a_handle_says_which_ways_it_goes_and_has_no_position() -> None:
    with hp.cmd("cat", pty=True).duplex() as talk, hp.cmd("true").reader() as reader, hp.cmd("cat").writer() as writer:
        ways = [(end.readable(), end.writable(), end.seekable(), end.isatty()) for end in (talk, reader, writer)]
    assert ways == [(True, True, False, True), (True, False, False, False), (False, True, False, False)]
