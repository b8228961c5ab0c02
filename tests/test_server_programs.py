"""Programs that serve: the client is their stdin and stdout (perlipc:N5, perlipc:N18)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

PATIENCE = 30.0
MODELS = ["inline", "fork", "prefork", "thread"]


def answer(server: hp.Server, said: bytes = b"") -> bytes:
    with hp.connect(server.address, timeout=PATIENCE).as_bytes() as client:
        client.write(said)
        client.shutdown()
        return client.read()


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    def test_the_client_is_its_stdin_and_stdout(self, model: Any) -> None:
        """perlipc:N5"""
        with hp.Server("tcp://127.0.0.1:0", hp.cmd("tr", "a-z", "A-Z"), model=model) as server:
            for _ in range(3):
                assert answer(server, b"hello\n") == b"HELLO\n"
        assert (server.counts.ended, server.counts.failed) == (3, 0)

    def test_its_environment_is_clean_and_says_who_the_client_is(self, model: Any, tmp_path: Path) -> None:
        """perlipc:N15, gotcha:PR3"""
        os.environ["PERL5OPT"] = "-Mevil"
        try:
            with hp.Server(["tcp://127.0.0.1:0", f"unix://{tmp_path}/name"], hp.cmd("env"), model=model) as server:
                with hp.connect(server.address, timeout=PATIENCE) as client:
                    assert client.local is not None
                    port = client.local.service
                    found = dict(line.rstrip("\n").split("=", 1) for line in client)
                with hp.connect(server.addresses[1], timeout=PATIENCE) as client:
                    local = dict(line.rstrip("\n").split("=", 1) for line in client)
        finally:
            del os.environ["PERL5OPT"]
        assert "PERL5OPT" not in found
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert found["PATH"] == (system if os.geteuid() == 0 else "/usr/local/bin:/usr/bin:/bin")
        assert (found["PROTO"], found["TCPREMOTEIP"], found["TCPREMOTEPORT"]) == ("TCP", "127.0.0.1", port)
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("127.0.0.1", port)
        assert found["TCPLOCALPORT"] == found["SERVER_PORT"] == server.address.service
        assert (local["PROTO"], local["UNIXLOCALPATH"]) == ("UNIX", f"{tmp_path}/name")
        assert local["UNIXREMOTEEUID"] == str(os.getuid())

    def test_it_has_no_descriptor_of_ours(self, model: Any) -> None:
        """perlipc:N15, gotcha:SRV2"""
        with (
            open("/etc/passwd") as ours,
            hp.Server("tcp://127.0.0.1:0", hp.cmd("ls", "/proc/self/fd"), model=model) as s,
        ):
            os.set_inheritable(ours.fileno(), True)
            assert answer(s).split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own

    def test_no_shell_sees_what_a_client_says(self, model: Any, tmp_path: Path) -> None:
        """gotcha:PR4"""
        with hp.Server("tcp://127.0.0.1:0", hp.cmd("cat"), model=model) as server:
            said = f"$(touch {tmp_path}/x); `touch {tmp_path}/x`\n".encode()
            assert answer(server, said) == said
        assert list(tmp_path.iterdir()) == []

    def test_its_line_feeds_become_cr_lf(self, model: Any) -> None:
        r"""perlipc:N18: and CR LF from the client becomes a line feed."""
        command = hp.cmd("sh", "-c", r"echo one; printf 'two\r\nthree'; cat -A")
        with hp.Server("tcp://127.0.0.1:0", command, model=model, newline="crlf") as server:
            assert answer(server, b"a\r\nb\nc\rd\r") == b"one\r\ntwo\r\nthreea$\r\nb$\r\nc^Md^M"

    def test_its_time_is_bounded(self, model: Any) -> None:
        """gotcha:SRV7"""
        with hp.Server("tcp://127.0.0.1:0", hp.cmd("sleep", "60"), model=model, per_client_timeout=0.2) as server:
            with hp.connect(server.address, timeout=PATIENCE) as client:
                assert client.read() == ""
            wait_until(lambda: server.counts.ended == 1, PATIENCE)
        assert server.counts.timed_out == 1

    def test_a_failure_is_counted(self, model: Any) -> None:
        with hp.Server("tcp://127.0.0.1:0", hp.cmd("false"), model=model) as server:
            assert answer(server) == b""
            wait_until(lambda: server.counts.ended == 1, PATIENCE)
        assert server.counts.failed == 1


def test_much_in_both_directions_at_once_is_translated_without_a_deadlock() -> None:
    """Promise 2: the client writes all before it reads anything."""
    with (
        hp.Server("tcp://127.0.0.1:0", hp.cmd("cat"), newline="crlf") as server,
        socket.create_connection((server.address.host, server.address.port), PATIENCE) as client,
    ):
        lines = b"line\n" * 200_000
        writer = hp.fn(client.sendall, lines).with_options(pass_fds=[client.fileno()]).start()
        received = bytearray()
        while len(received) < len(lines) + 200_000:
            data = client.recv(1 << 16)
            assert data
            received += data
        writer.wait(PATIENCE)
        assert bytes(received) == lines.replace(b"\n", b"\r\n")


@pytest.fixture
def _one_processor() -> Iterator[None]:
    """On which a thread that was started comes to its first wait only when whoever started it has come to his."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("_one_processor")
def test_over_tls_it_is_spoken_to_in_the_clear(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key"), str(tmp_path / "cert")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    hp.cmd("openssl", "req", "-x509", *curve, *names, "-keyout", key, "-out", certificate, stderr=hp.NULL).read()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert"))
    for model in MODELS:
        with hp.Server("tcp://127.0.0.1:0", hp.cmd("tr", "a-z", "A-Z"), tls=context, model=model) as server:  # type: ignore[arg-type]
            with hp.connect(server.address, tls=trusting, timeout=PATIENCE) as client:
                print("secret", file=client)
                client.shutdown()
                assert client.read() == "SECRET\n"
            # Who cannot shake hands costs nobody else anything.
            with socket.create_connection((server.address.host, server.address.port), PATIENCE) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while stranger.recv(100):
                    pass
            with hp.connect(server.address, tls=trusting, timeout=PATIENCE) as client:
                print("again", file=client)
                client.shutdown()
                assert client.read() == "AGAIN\n"


def test_the_kernel_gives_up_on_a_client_that_says_nothing() -> None:
    """gotcha:SRV7: nobody stands between the program and the socket."""
    command = hp.cmd("cat", stderr=hp.NULL)
    with (
        hp.Server("tcp://127.0.0.1:0", command, idle_timeout=0.2) as server,
        hp.connect(server.address, timeout=PATIENCE) as client,
    ):
        assert client.read() == ""


def test_its_stderr_goes_where_the_command_says(tmp_path: Path) -> None:
    """perlipc:N18"""
    command = hp.sh("echo out; echo err >&2", stderr=tmp_path / "errors")
    with hp.Server("tcp://127.0.0.1:0", command) as server:
        assert [answer(server), answer(server)] == [b"out\n"] * 2
    assert (tmp_path / "errors").read_text() == "err\n" * 2
    with hp.Server("tcp://127.0.0.1:0", hp.sh("echo out; echo err >&2", stderr=hp.STDOUT)) as server:
        assert answer(server) == b"out\nerr\n"


def test_a_program_that_is_not_there_is_an_error_before_anybody_listens() -> None:
    with pytest.raises(FileNotFoundError, match="no program 'no-such-program'"):
        hp.Server("tcp://127.0.0.1:0", hp.cmd("no-such-program")).start()


def test_options_that_cannot_be_meant_are_refused() -> None:
    for options in ({"stdin": hp.NULL}, {"timeout": 5}, {"pty": True}, {"input": "x"}):
        with pytest.raises(ValueError, match=f"cannot have {next(iter(options))}="):
            hp.Server("tcp://127.0.0.1:0", hp.cmd("cat", **options))  # type: ignore[arg-type]


def test_perl_s_client_gets_its_lines() -> None:
    """perlipc:N5, perlipc:N18: IO::Socket on the other side."""
    source = r"""
        use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], Proto => "tcp") or die;
        { local $/ = "\015\012"; while (<$s>) { chomp; print "<$_>\n" } }
    """
    with hp.Server("tcp://127.0.0.1:0", hp.sh("echo one; echo two"), newline="crlf") as server:
        where = f"127.0.0.1:{server.address.service}"
        assert hp.cmd("perl", "-e", source, where, timeout=PATIENCE).read() == "<one>\n<two>\n"
