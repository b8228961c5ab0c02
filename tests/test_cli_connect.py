"""``hornpipe connect``: both directions at once, over pipes and at a terminal, with Perl on the other side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sysconfig
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing import hostile
from hornpipe.testing.patience import wait_until

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
EOF = hp.expect.EOF


def connect(*arguments: object, stdin: bytes = b""):
    return subprocess.run([HORNPIPE, "connect", *map(str, arguments)], input=stdin, capture_output=True, timeout=50)


@contextlib.contextmanager
def perl(script: str, *arguments: str) -> Iterator[str]:
    """A Perl server of one client after another, in ``$client``; where it is."""
    server = """
        use strict; use warnings; use IO::Socket; $| = 1; my %%arg = @ARGV;
        my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => "127.0.0.1") or die "listen: $!";
        print $listener->sockport, "\\n";
        while (my $client = $listener->accept) { $client->autoflush(1); %s }
    """
    command = ["perl", "-e", server % script, "--", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"tcp://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


# Asks without a newline, as the page's command server does, and hangs up when it is told to quit.
PROMPTS = r"""
    print $client "Command? ";
    while (defined(my $line = <$client>)) {
        last if $line =~ /^quit/;
        print $client "you said ", $line =~ s/\r?\n//r, ($line =~ /\r\n/ ? " with CR\n" : "\n"), "Command? ";
    }
    print $client "bye\n"; close $client;
"""
# Reads everything first, and answers then.
COUNTS = "my $n = 0; $n += length while <$client>; print $client qq($n bytes\n); close $client;"
# What a terminal's own program would do: a byte, at once.
BYTES = "while (sysread $client, my $byte, 1) { last if $byte eq 'q'; syswrite $client, qq(<$byte>) } close $client;"


@pytest.fixture(params=["tcp", "unix"])
def answered(request, tmp_path) -> Iterator[tuple[hp.Listener, str]]:
    """A listener of either kind, and its address."""
    where = "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/sock"
    with hp.listen(where, timeout=20) as listener:
        yield listener, str(listener.address)


class TestPipes:
    """perlipc:N11: the input and the output are pipes and files."""

    def test_a_question_and_its_late_answer(self):
        """perlipc:N11, gotcha:SO13: the end of the input is passed on, and the answer is not lost."""
        with perl(COUNTS) as address:
            done = connect(address, stdin=b"x" * 3_000_000)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"3000000 bytes\n", b"")

    def test_it_ends_when_the_server_closes(self, answered):
        """perlipc:N11: the page's parent kills its child; nobody else would end the input."""
        listener, address = answered
        reader, writer = os.pipe()
        with open(reader, "rb") as source, open(writer, "wb"):
            command = [HORNPIPE, "connect", address]
            with subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE) as client:
                try:
                    with listener.accept() as connection:
                        connection.write("closing down\n")
                    assert client.wait(30) == 0
                finally:
                    client.kill()
                assert client.stdout.read() == b"closing down\n"

    def test_bytes_pass_as_they_are_and_at_once(self, answered):
        listener, address = answered
        data = bytes(range(256)) * 1000
        command = [HORNPIPE, "connect", address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            with listener.accept() as connection, connection.as_bytes() as bare:
                for n in range(3):
                    bare.write(b"%d" % n)
                    bare.flush()
                    assert client.stdout.read(1) == b"%d" % n
                client.stdin.write(data)
                client.stdin.close()
                assert bare.read() == data
                bare.write(data)
            assert client.stdout.read() == data
            assert client.wait(20) == 0

    def test_a_server_that_does_not_take_everything_is_told(self):
        """gotcha:SO2"""
        with hostile.resetting_server(b"enough\n") as peer:
            done = connect(peer.url, stdin=b"x" * 20_000_000)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1

    def test_a_reader_that_leaves_early_ends_it_quietly(self):
        """perlipc:O5"""
        line = 'exec 3>&1; { "$1" connect "$2"; echo $? >&3; } | head -c 3'
        with hostile.flooding_server() as peer:
            done = subprocess.run(["sh", "-c", line, "sh", HORNPIPE, peer.url], capture_output=True, timeout=50)
        assert (done.stdout, done.stderr) in {(b"xxx141\n", b""), (b"141\nxxx", b"")}

    def test_lines_end_as_the_internet_wants(self):
        """perlipc:N2"""
        with perl(PROMPTS) as address:
            assert b"you said a\nCommand? you said b\n" in connect(address, stdin=b"a\nb\nquit\n").stdout
            said = connect("--crlf", address, stdin=b"a\nb\r\nquit\n").stdout
        assert said == b"Command? you said a with CR\nCommand? you said b with CR\nCommand? bye\n"

    def test_the_end_of_what_is_sent_with_cr_lf_is_passed_on_too(self):
        """perlipc:N2, gotcha:SO13"""
        with perl(COUNTS) as address:
            assert connect("--crlf", address, stdin=b"line\n" * 100_000 + b"rest").stdout == b"600004 bytes\n"

    def test_netcat_is_talked_to(self, tmp_path):
        """perlipc:N11: nc on the other side of a Unix name."""
        where = tmp_path / "sock"
        command = ["nc", "-lNU", str(where)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nc:
            # The name is there when it is bound, and a client is refused until it listens (0x10000 of <linux/net.h>).
            wait_until(lambda: " 00010000 " in entry_of(where), 20, "nc")
            nc.stdin.write(b"from nc\n")
            nc.stdin.close()
            done = connect(f"unix://{where}", stdin=b"to nc\n")
            assert (done.returncode, done.stdout) == (0, b"from nc\n")
            assert nc.stdout.read() == b"to nc\n"

    @pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
    def test_a_signal_ends_it_by_that_signal(self, name):
        """gotcha:SIG16"""
        number = getattr(signal, f"SIG{name}")
        with hostile.silent_server() as peer, subprocess.Popen(
            ["env", f"--default-signal={name}", HORNPIPE, "connect", peer.url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as client:  # fmt: skip
            client.stdin.write(b"x")
            client.stdin.flush()
            wait_until(lambda: peer.received, 20, "the connection")
            client.send_signal(number)
            assert client.wait(20) == -number
            assert client.stderr.read().strip() == b""


def entry_of(name: Path) -> str:
    """What the kernel says about a Unix socket that has this name."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return next((line for line in lines if line.endswith(f" {name}")), "")


class TestTerminal:
    """perlipc:N11: somebody sits there."""

    @pytest.mark.parametrize(("options", "heard"), [([], ""), (["--crlf"], " with CR")])
    def test_prompts_without_a_newline_are_seen_and_quitting_ends_it(self, options, heard):
        """perlipc:N11, N12, N2"""
        with perl(PROMPTS) as address:
            child = hp.expect.spawn(HORNPIPE, ["connect", *options, address], timeout=20)
            child.expect_exact(f"[connected to {address}]\r\n")
            child.expect_exact("Command? ")
            child.sendline("hello there")
            child.expect_exact(f"you said hello there{heard}\r\nCommand? ")
            child.sendline("quit")
            child.expect_exact("bye\r\n")
            child.expect(EOF)
            child.close()
        assert child.exitstatus == 0

    def test_the_end_of_input_is_ctrl_d(self):
        """gotcha:SO13"""
        with perl(COUNTS) as address:
            child = hp.expect.spawn(HORNPIPE, ["connect", address], timeout=20)
            child.expect_exact("]\r\n")
            child.sendline("12345")
            child.sendeof()
            child.expect_exact("6 bytes\r\n")
            child.expect(EOF)
            child.close()
        assert child.exitstatus == 0

    def test_keys_one_by_one_and_the_terminal_is_as_it_was(self):
        """perlipc:N11: the page's variant for servers that send a byte at a time."""
        with perl(BYTES) as address, hp.expect.spawn("sh", timeout=20, encoding="utf-8") as shell:
            shell.sendline(f"PS1=; {HORNPIPE} connect --bytes {address}; stty -a; echo over")
            shell.expect_exact("]\r\n")
            wait_until(lambda: not termios.tcgetattr(shell.child_fd)[3] & termios.ICANON, 20, "the terminal's mode")
            for key in "ab":
                shell.send(key)
                shell.expect_exact(f"<{key}>")
                assert key not in shell.before  # no echo of ours
            shell.send("q")
            shell.expect_exact("over\r\n")
            assert " icanon" in shell.before
            assert " echo " in shell.before

    def test_ctrl_c_ends_it_and_the_terminal_is_as_it_was(self):
        """gotcha:SIG16"""
        with perl(BYTES) as address, hp.expect.spawn("sh", timeout=20, encoding="utf-8") as shell:
            # In quotes, so that what is typed is not taken for the prompt.
            shell.sendline(f"PS1='rea''dy> '; {HORNPIPE} connect --bytes {address}")
            shell.expect_exact("]\r\n")
            wait_until(lambda: not termios.tcgetattr(shell.child_fd)[3] & termios.ICANON, 20, "the terminal's mode")
            shell.sendintr()
            shell.expect_exact("ready> ")
            shell.sendline("stty -a")
            shell.expect_exact("ready> ")
            assert " icanon" in shell.before

    def test_after_ctrl_z_and_fg_the_keys_come_one_by_one_again(self):
        """perlipc:S19"""
        with perl(BYTES) as address, hp.expect.spawn("bash --norc", timeout=20) as shell:
            shell.sendline(f"PS1='ready> '; {HORNPIPE} connect --bytes {address}")
            shell.expect_exact("]\r\n")
            wait_until(lambda: not termios.tcgetattr(shell.child_fd)[3] & termios.ICANON, 20, "the terminal's mode")
            shell.sendcontrol("z")
            shell.expect_exact("ready> ")
            shell.sendline("fg")
            shell.expect_exact("connect --bytes")
            wait_until(lambda: not termios.tcgetattr(shell.child_fd)[3] & termios.ICANON, 20, "the terminal's mode")
            shell.send("x")
            shell.expect_exact("<x>")
            shell.send("q")
            shell.expect_exact("ready> ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["localhost:80"],
        ["udp://localhost:80"],
        ["tcp://localhost"],
        ["--crlf", "--bytes", "tcp://x:1"],
        ["tcp://:80"],
        [],
    ],
)
def test_what_cannot_be_connected_to_is_refused(arguments):
    done = connect(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_nobody_is_there(tmp_path):
    done = connect("tcp://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (
        1,
        b"hornpipe connect: no connection to tcp://127.0.0.1:1: Connection refused\n",
    )
    assert connect(f"unix://{tmp_path}/none").returncode == 1
    with hostile.never_accepting() as peer:
        done = connect("--timeout", "0.2", peer.url)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_help_shows_an_example():
    done = connect("--help")
    assert done.returncode == 0
    assert b"hornpipe connect tcp://" in done.stdout.split(b"Examples:")[1]
