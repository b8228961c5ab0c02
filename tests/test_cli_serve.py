"""``hornpipe serve``: programs for clients, over every model, with Perl, nc and socat for clients."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
ANY = "tcp://127.0.0.1:0"


def run(*arguments: object):
    return subprocess.run(
        [HORNPIPE, "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
    )


class Served:
    """A server that is up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        line = process.stderr.readline()
        assert line.startswith("hornpipe serve: at "), line
        self.addresses = re.findall(r"\S+://\S+", line)
        self.log = ""

    @property
    def port(self) -> int:
        return hp.Address.parse(self.addresses[0]).port

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.log = self.process.stderr.read()
        return self.process.wait(20)


@contextlib.contextmanager
def serving(*arguments: object) -> Iterator[Served]:
    words = [HORNPIPE, "serve", *map(str, arguments)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


def ask(address: str, text: str = "") -> str:
    with hp.connect(address, timeout=20) as client:
        client.write(text)
        client.shutdown()
        return client.read()


@pytest.mark.parametrize("model", ["fork", "prefork", "thread", "inline"])
class TestModels:
    """perlipc:N5"""

    def test_perls_clients_talk_to_a_program_each(self, model):
        """perlipc:N5, N18"""
        client = r"""
            use strict; use IO::Socket; my @all = map { IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die $! } 1 .. 3;
            for (@all) { print $_ "horn and pipe\n"; shutdown $_, 1; print <$_>; close $_ }
        """
        with serving("--model", model, ANY, "--", "tr", "a-z", "A-Z") as served:
            done = subprocess.run(["perl", "-e", client, str(served.port)], capture_output=True, text=True, timeout=30)
            assert (done.stdout, done.stderr) == ("HORN AND PIPE\n" * 3, "")
            assert served.end() == 0
        assert served.log.count(": connected") == 3

    def test_term_lets_who_is_there_finish(self, model):
        """gotcha:SRV6"""
        with (
            serving("--model", model, ANY, "--", "cat") as served,
            hp.connect(served.addresses[0], timeout=20) as client,
        ):
            print("still", file=client)
            assert client.readline() == "still\n"
            served.process.terminate()
            print("served", file=client)
            assert client.readline() == "served\n"
            client.shutdown()
            assert client.read() == ""
            assert served.process.wait(20) == 0

    def test_a_program_that_fails_is_logged_and_the_next_one_started(self, model):
        """gotcha:SRV7"""
        with serving("--model", model, ANY, "--", "sh", "-c", "echo before; exit 3") as served:
            assert [ask(served.addresses[0]) for _ in range(3)] == ["before\n"] * 3
            assert served.end() == 0
        assert served.log.count("exited with code 3") >= 3


class TestPrograms:
    def test_fortune_with_the_internets_newlines(self):
        """perlipc:N5, N18"""
        with (
            serving("--crlf", ANY, "--", "/usr/games/fortune") as served,
            socket.create_connection(("127.0.0.1", served.port), timeout=20) as client,
        ):
            data = b"".join(iter(lambda: client.recv(65536), b""))
        assert data.count(b"\n") == data.count(b"\r\n") >= 1

    def test_the_client_is_in_the_environment_and_little_else(self, monkeypatch):
        """perlipc:N15, gotcha:PR3"""
        monkeypatch.setenv("SECRET", "x")
        monkeypatch.setenv("LD_PRELOAD", "")
        with serving(ANY, "--", "env") as served:
            found = dict(line.split("=", 1) for line in ask(served.addresses[0]).splitlines())
        assert found["TCPREMOTEIP"] == found["REMOTE_ADDR"] == "127.0.0.1"
        assert found["TCPLOCALPORT"] == str(served.port)
        assert not {"SECRET", "LD_PRELOAD"} & {*found}

    def test_no_shell_sees_the_arguments(self):
        """perlipc:N15, O13"""
        with serving(ANY, "--", "printf", "%s", "$(id); *") as served:
            assert ask(served.addresses[0]) == "$(id); *"

    def test_several_addresses_and_nc_and_socat_for_clients(self, tmp_path):
        """perlipc:N8"""
        with serving(ANY, f"unix://{tmp_path}/sock", "--", "wc", "-c") as served:
            assert len(served.addresses) == 2
            nc = ["nc", "-NU", f"{tmp_path}/sock"]
            socat = ["socat", "-", f"TCP:127.0.0.1:{served.port}"]
            for words in (nc, socat):
                assert (
                    subprocess.run(words, input=b"x" * 100_000, capture_output=True, timeout=20).stdout == b"100000\n"
                )
            assert served.end() == 0
        assert not (tmp_path / "sock").exists()

    def test_an_exit_by_int_is_one(self):
        """gotcha:SIG16"""
        with serving(ANY, "--", "cat") as served:
            assert served.end(signal.SIGINT) == -signal.SIGINT
            assert "Traceback" not in served.log


class TestLimits:
    def test_the_time_of_a_client_is_over(self):
        """gotcha:SRV7"""
        with serving("--timeout", "0.2", ANY, "--", "sh", "-c", "echo begun; exec sleep 60") as served:
            assert ask(served.addresses[0]) == "begun\n"
            assert served.end() == 0

    def test_who_says_nothing_is_given_up(self):
        """gotcha:SRV7"""
        with (
            serving("--idle", "0.2", ANY, "--", "cat") as served,
            hp.connect(served.addresses[0], timeout=20) as client,
        ):
            assert client.read() == ""

    def test_one_host_has_no_more_than_its_share(self):
        with (
            serving("--max-per-address", "1", ANY, "--", "cat") as served,
            hp.connect(served.addresses[0], timeout=20) as first,
        ):
            print("in", file=first)
            assert first.readline() == "in\n"
            with hp.connect(served.addresses[0], timeout=20) as second, contextlib.suppress(ConnectionError):
                assert second.read() == ""

    def test_workers_are_renewed_by_hup(self):
        """gotcha:SRV8"""
        program = ["--", "sh", "-c", "read x; ps -o ppid= -p $$"]
        with serving("--model", "prefork", "--workers", "1", ANY, *program) as served:
            before = ask(served.addresses[0], "\n")
            assert before == ask(served.addresses[0], "\n")
            served.process.send_signal(signal.SIGHUP)
            wait_until(lambda: ask(served.addresses[0], "\n") != before, what="another worker")


def test_at_a_terminal_the_log_is_seen_and_ctrl_c_ends_it():
    child = hp.expect.spawn(HORNPIPE, ["serve", ANY, "--", "echo", "hello"], timeout=20, encoding="utf-8")
    child.expect(r"at (tcp://\S+)\r\n")
    assert ask(child.match[1]) == "hello\n"
    child.expect("connected")
    child.sendintr()
    child.expect(hp.expect.EOF)
    child.close()
    assert child.signalstatus == signal.SIGINT


@pytest.mark.parametrize(
    "words",
    [
        ["localhost:9000", "--", "cat"],
        ["udp://:9000", "--", "cat"],
        ["tcp://localhost", "--", "cat"],
        [ANY],
        [ANY, "--"],
        [],
        ["--workers", "2", ANY, "--", "cat"],
        ["--max-clients", "0", ANY, "--", "cat"],
    ],
)
def test_what_cannot_be_served_is_refused(words):
    done = run(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_failures_at_the_start_are_one_line(tmp_path):
    """perlipc:O4, N17"""
    done = run(ANY, "--", "no-such-program")
    assert (done.returncode, len(done.stderr.splitlines())) == (127, 1)
    (tmp_path / "file").write_text("precious")
    done = run(f"unix://{tmp_path}/file", "--", "cat")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    with hp.listen(ANY) as listener:
        done = run(listener.address, "--", "cat")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "in use" in done.stderr


def test_quiet_is_quiet():
    with serving("-q", ANY, "--", "true") as served:
        assert ask(served.addresses[0]) == ""
        assert served.end() == 0
    assert served.log == ""


def test_help_shows_an_example():
    done = run("--help")
    assert done.returncode == 0
    assert "hornpipe serve " in done.stdout.split("Examples:")[1]


def test_clients_are_encrypted_with_a_certificate(certificate: Path, tmp_path: Path) -> None:
    """perlipc:N5, N11"""
    both = tmp_path / "both"
    both.write_text(Path(certificate, "cert").read_text() + Path(certificate, "key").read_text())
    with serving("--cert", both, ANY, "--", "tr", "a-z", "A-Z") as served:
        address = served.addresses[0]
        trusting = ["--tls", "--ca", str(certificate / "cert")]
        for words, text, error in (
            ([*trusting, "--server-name", "here.test"], "HORN\n" * 20_000, ""),
            (trusting, "", "IP address mismatch"),
        ):
            done = subprocess.run(
                [HORNPIPE, "connect", *words, address],
                input="horn\n" * 20_000, capture_output=True, text=True, timeout=50,
            )  # fmt: skip
            assert (done.stdout, done.returncode) == (text, 1 if error else 0)
            assert error in done.stderr
        assert served.end() == 0
    for words, why in (
        (["--key", certificate / "key", ANY, "--", "cat"], "--key is for --cert"),
        (["--cert", certificate / "cert", ANY, "--", "cat"], "a certificate (and its key) as PEM"),
    ):
        refused = run(*words)
        assert (refused.returncode, why in refused.stderr) == (2, True)
