"""``hornpipe get``: against Apache beside curl, and against servers that answer as they should not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing import hostile
from hornpipe.testing.hostile import Peer

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
FILE, NETWORK, TLS, PROTOCOL, REFUSED = 3, 4, 5, 7, 8


def get(*arguments: object, **options):
    return subprocess.run(
        [HORNPIPE, "get", *map(str, arguments)], capture_output=True, timeout=50, stdin=subprocess.DEVNULL, **options
    )


def curl(*arguments: object) -> bytes:
    return subprocess.run(
        ["curl", "-sS", "--max-time", "20", *map(str, arguments)], capture_output=True, timeout=50, check=True
    ).stdout


@contextlib.contextmanager
def answering(*replies: bytes, unix: Path | None = None) -> Iterator[tuple[Peer, list[bytes]]]:
    """A server that gives each connection these replies, one for each request, and the requests it got."""
    asked: list[bytes] = []

    def behaviour(peer: Peer, connection: socket.socket) -> None:
        for reply in replies:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                data = connection.recv(65536)
                if not data:
                    return
                request += data
            asked.append(request)
            peer.send(connection, reply)

    with hostile.serving(behaviour, unix) as peer:
        yield peer, asked


def at(peer: Peer, path: str = "/") -> str:
    return peer.url.replace("tcp:", "http:") + path


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"


class TestApache:
    """perlipc:N10: a real server, and curl to say what it serves."""

    def test_documents_are_those_that_curl_gets(self, apache):
        """perlipc:N10"""
        with apache() as web:
            (web.pages / "big").write_bytes(os.urandom(3_000_000))
            (web.pages / "two words").write_bytes(b"spaced")
            (web.pages / "empty").write_bytes(b"")
            (web.pages / "é").write_bytes(b"accented")
            urls = [f"http://127.0.0.1:{web.port}/{name}" for name in ("big", "two%20words", "empty", "%C3%A9", "big")]
            done = get(*urls)
            assert (done.returncode, done.stderr) == (0, b"")
            assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(curl(*urls)).digest()
            # As it would be typed.
            assert get(f"http://localhost:{web.port}/two words", f"http://127.0.0.1:{web.port}/é#top").stdout == (
                b"spacedaccented"
            )

    def test_a_document_that_is_made_comes_in_chunks(self, apache):
        """perlipc:N10: what has no length is chunked in HTTP/1.1."""
        with apache() as web:
            program = web.pages / "cgi-bin" / "count"
            program.write_text('#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\nseq "$QUERY_STRING"\n')
            program.chmod(0o755)
            url = f"http://127.0.0.1:{web.port}/cgi-bin/count?50000"
            done = get("-i", url)
            head, _, document = done.stdout.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Transfer-Encoding: chunked" in head
            assert document == curl(url) == b"".join(b"%d\n" % n for n in range(1, 50001))

    def test_it_goes_where_it_is_sent(self, apache):
        with apache("Redirect permanent /old /new", "Redirect temp /older /old") as web:
            (web.pages / "new").write_bytes(b"here")
            url = f"http://127.0.0.1:{web.port}/older"
            assert get(url).stdout == curl("-L", url) == b"here"

    def test_a_refusal_is_a_code_and_a_line_and_the_others_come_all_the_same(self, apache):
        """perlipc:N10: the page's own example, a document that is not there."""
        with apache() as web:
            (web.pages / "there").write_bytes(b"there\n")
            base = f"http://127.0.0.1:{web.port}"
            done = get(f"{base}/there", f"{base}/guanaco.html", f"{base}/there")
            assert (done.returncode, done.stdout) == (REFUSED, b"there\nthere\n")
            assert done.stderr.decode() == f"hornpipe get: {base}/guanaco.html: 404 Not Found\n"
            done = get("--include", f"{base}/guanaco.html")
            assert done.returncode == REFUSED
            assert done.stdout.startswith(b"HTTP/1.1 404 Not Found\r\n")
            assert b"not found on this server" in done.stdout

    def test_encrypted_and_the_certificate_has_to_fit(self, apache, tmp_path, certificate):
        """perlipc:N10"""
        lines = ["SSLEngine on", f"SSLCertificateFile {certificate}/cert", f"SSLCertificateKeyFile {certificate}/key"]
        with apache(*lines) as web:
            (web.pages / "secret").write_bytes(b"secret\n" * 10_000)
            trusting = {**os.environ, "SSL_CERT_FILE": str(certificate / "cert")}
            url = f"https://localhost:{web.port}/secret"
            done = get(url, url, env=trusting)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout == curl("--cacert", certificate / "cert", url) * 2
            assert get("--ca", certificate / "cert", url).stdout == b"secret\n" * 10_000
            done = get(url)
            assert (done.returncode, done.stdout) == (TLS, b"")
            assert done.stderr.decode() == f"hornpipe get: {url}: self-signed certificate\n"
            done = get(f"https://127.0.0.1:{web.port}/secret", env=trusting)
            assert done.returncode == TLS
            assert b"IP address mismatch" in done.stderr

    def test_into_files(self, apache, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with apache() as web:
            (web.pages / "a.html").write_bytes(b"a")
            (web.pages / "b.html").write_bytes(b"b")
            base = f"http://127.0.0.1:{web.port}"
            assert get("-o", "both", f"{base}/a.html", f"{base}/b.html").returncode == 0
            assert Path("both").read_bytes() == b"ab"
            done = get("--into", "pages", f"{base}/a.html?query", f"{base}/none.html", f"{base}/b.html")
            assert done.returncode == REFUSED
            assert sorted(os.listdir("pages")) == ["a.html", "b.html"]


@pytest.fixture(scope="module")
def certificate(certificate_of: Callable[[str], Path]) -> Path:
    return certificate_of("localhost")


class TestProtocol:
    def test_a_server_of_version_1_0_ends_the_document_by_closing(self):
        """perlipc:N10"""
        with answering(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"old\n" * 100_000) as (peer, asked):
            done = get("-i", at(peer, "/a?b=c"))
            assert done.stdout.endswith(b"\r\n\r\n" + b"old\n" * 100_000)
            assert done.stdout.startswith(b"HTTP/1.0 200 OK\r\n")
            assert asked[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
            assert b"\r\nHost: 127.0.0.1:%d\r\n" % peer.address[1] in asked[0]

    def test_a_perl_server_that_writes_bare_newlines_is_understood(self, tmp_path):
        """perlipc:N2, N10: be lenient in what you take."""
        server = """
            use strict; use warnings; use IO::Socket; $| = 1;
            my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die "listen: $!";
            print $listener->sockport, "\\n";
            for (1 .. 2) {
                my $client = $listener->accept or die "accept: $!";
                while (defined(my $line = <$client>)) { last unless $line =~ /\\S/ }
                print $client "HTTP/1.0 200 OK\\nContent-Type: text/plain\\n\\nfrom Perl\\n";
            }
        """
        with hp.cmd("perl", "-e", server, timeout=50).reader() as perl:
            url = f"http://127.0.0.1:{perl.readline().strip()}/"
            assert get(url, url).stdout == b"from Perl\n" * 2

    def test_one_connection_serves_several_documents(self):
        with answering(OK, OK, OK) as (peer, asked):
            assert get(*[at(peer, f"/{n}") for n in range(3)]).stdout == b"yes" * 3
            assert len(asked) == 3
        with answering(OK) as (peer, asked):
            # It closes after the first, as servers may do at any moment.
            assert get(at(peer), at(peer)).stdout == b"yesyes"
            assert len(asked) == 2

    def test_what_is_left_of_a_refusal_is_not_the_beginning_of_the_next_document(self):
        refusal = b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nforbidden"
        with answering(refusal, OK) as (peer, _):
            done = get(at(peer), at(peer))
            assert (done.returncode, done.stdout) == (REFUSED, b"")
        with answering(refusal + OK) as (peer, _):
            assert get("-i", at(peer), at(peer)).stdout.count(b"forbidden") == 2

    def test_a_document_is_seen_while_it_is_made(self):
        """Chunked or with a length: nobody waits for more than there is."""
        for reply in (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst\n",
        ):
            with (
                answering(reply, b"") as (peer, _),
                hp.cmd(HORNPIPE, "get", at(peer), stderr=hp.NULL, check=False, timeout=50).reader() as output,
            ):
                assert output.readline() == "first\n"

    def test_over_a_unix_socket(self, tmp_path):
        with answering(OK, unix=tmp_path / "web") as (_, asked):
            assert get("--unix", tmp_path / "web", "http://engine/info").stdout == b"yes"
            assert b"\r\nHost: engine\r\n" in asked[0]


class TestFailures:
    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (b"SSH-2.0-OpenSSH_9.2\r\n", "is no HTTP: SSH-2.0"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes", "cut short: 3 bytes came, 6 are missing"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nyes", "cut short, in the middle"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "got more than 100 headers"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "got more than 65536 bytes"),
            (b"HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\n\r\n", "sent to where we do not go"),
        ],
    )
    def test_an_answer_that_is_not_as_it_should_be(self, reply, why):
        with answering(reply) as (peer, _):
            done = get(at(peer))
            assert done.returncode == PROTOCOL, done.stderr
            assert why in done.stderr.decode()
            assert len(done.stderr.splitlines()) == 1

    def test_it_is_told_where_it_does_not_go(self):
        with answering(b"HTTP/1.1 302 Found\r\nLocation: http://300.1.1.1/\r\nContent-Length: 0\r\n\r\n") as (peer, _):
            done = get(at(peer))
        assert done.returncode == PROTOCOL
        assert b"sent to where we do not go: 'http://300.1.1.1/' names no server" in done.stderr

    def test_a_circle_of_redirects_ends(self):
        with answering(b"HTTP/1.1 301 Round\r\nLocation: /\r\nContent-Length: 0\r\n\r\n") as (peer, asked):
            done = get(at(peer))
            assert (done.returncode, len(asked)) == (PROTOCOL, 21)
            assert b"sent on more than 20 times" in done.stderr

    def test_no_server(self):
        done = get("http://127.0.0.1:1/")
        assert done.returncode == NETWORK
        assert (
            done.stderr
            == b"hornpipe get: http://127.0.0.1:1/: no connection to tcp://127.0.0.1:1: Connection refused\n"
        )
        with answering(b"") as (peer, _):
            done = get(at(peer))
            assert done.returncode == NETWORK
            assert b"closed the connection without an answer" in done.stderr

    def test_the_timeout_is_the_documents_whole_time(self):
        """promise 3: also for a server that sends a byte now and then."""
        with hostile.dripping_server(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 90, 0.05) as peer:
            begun = time.monotonic()
            done = get("--timeout", "0.5", at(peer))
            assert done.returncode == NETWORK
            assert b"time ran out" in done.stderr
            assert time.monotonic() - begun < 15  # of 27 that the whole would take

    def test_the_smallest_code_counts(self):
        with answering(b"HTTP/1.1 500 Ouch\r\nContent-Length: 0\r\n\r\n") as (peer, _):
            assert get(at(peer), "http://127.0.0.1:1/").returncode == NETWORK

    def test_files_that_cannot_be_written(self, tmp_path):
        with answering(OK) as (peer, asked):
            done = get("-o", tmp_path, at(peer))
            assert (done.returncode, asked) == (FILE, [])
            assert done.stderr.decode() == f"hornpipe get: {tmp_path}: Is a directory\n"
            assert get("-o", "/dev/full", at(peer)).returncode == FILE

    @pytest.mark.parametrize(
        "url",
        ["localhost", "ftp://x/", "http://", "http://u:secret@x/", "http://x:99999/", "http://[/", "http://127.1/"],
    )
    def test_what_is_no_url_of_the_web_is_refused_at_once(self, url):
        """gotcha:PR6: and a password in it is not repeated."""
        done = get(url)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert b"secret" not in done.stderr

    def test_a_reader_that_leaves_early_ends_it_quietly(self):
        """perlipc:O5"""
        line = 'exec 3>&1; { "$1" get "$2"; echo $? >&3; } | head -c 3'
        with answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1_000_000) as (peer, _):
            done = subprocess.run(["sh", "-c", line, "sh", HORNPIPE, at(peer)], capture_output=True, timeout=50)
        assert (done.stdout.replace(b"x", b""), done.stderr) == (b"141\n", b"")


def test_in_a_terminal_the_document_is_shown_and_ctrl_c_ends_it():
    """perlipc:N10"""
    child = hp.expect.spawn(HORNPIPE, ["get", "http://127.0.0.1:1/"], timeout=20)
    child.expect("Connection refused")
    child.expect(hp.expect.EOF)
    child.close()
    assert child.exitstatus == NETWORK
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun\n", b"") as (peer, _):
        child = hp.expect.spawn(HORNPIPE, ["get", at(peer)], timeout=20)
        child.expect("begun\r\n")
        child.sendintr()
        child.expect(hp.expect.EOF)
        child.close()
        assert child.signalstatus == 2


def test_help_shows_an_example():
    done = get("--help")
    assert done.returncode == 0
    assert b"hornpipe get http" in done.stdout.split(b"Examples:")[1]
