"""The programs of the manual page that talk over sockets: Perl on the other side, both ways, and a web server."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp

EXAMPLES = Path(__file__).parent.parent / "examples"
EOF = hp.expect.EOF


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / script), *map(str, arguments)]


def run(script: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(script, *arguments), capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL, **options
    )


def said(script: str, *arguments: object, **options) -> str:
    done = run(script, *arguments, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def running(script: str, *arguments: object, stderr=None, ready: int = 1) -> Iterator[list[str]]:
    """A server; the lines by which it says that it is there. It has to end in good order when it is told to."""
    words = command(script, *arguments)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=stderr, text=True) as server:
        try:
            lines = [server.stdout.readline() for _ in range(ready)]
            yield lines
            server.terminate()
            assert server.wait(20) in {0, -signal.SIGTERM}
        finally:
            server.kill()


def port_of(line: str) -> str:
    found = re.search(r"://\S*:(\d+)", line)
    assert found, line
    return found[1]


def perl(program: str, *arguments: object, **options) -> str:
    return subprocess.run(
        ["perl", "-MIO::Socket", "-we", f"use strict; {program}", "--", *map(str, arguments)],
        capture_output=True, text=True, check=True, timeout=30, **options,
    ).stdout  # fmt: skip


# Perl's clients: everything that a server says, over TCP and at a Unix name.
TCP_CLIENT = "my $s = IO::Socket::INET->new('127.0.0.1:' . shift) or die qq(connect: $!); print <$s>"

UNIX_CLIENT = "my $s = IO::Socket::UNIX->new(shift) or die qq(connect: $!); print <$s>"


@contextlib.contextmanager
def perl_server(body: str, *arguments: object) -> Iterator[str]:
    """A Perl server that does *body* with each ``$client``; its port, or the name that it was given."""
    program = f"""
        use strict; use warnings; use IO::Socket; $| = 1;
        my $listener = @ARGV ? IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5)
            : IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1");
        die "listen: $!" unless $listener;
        print @ARGV ? $ARGV[0] : $listener->sockport, "\\n";
        while (my $client = $listener->accept) {{ $client->autoflush(1); {body}; close $client }}
    """
    words = ["perl", "-e", program, "--", *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class TestInternet:
    def test_our_client_prints_what_perls_server_says(self):
        """perlipc:N4, N9"""
        with perl_server(r'print $client "Hello there\015\012", "it is now\n", "no newline"') as port:
            assert said("tcp_client.py", "localhost", port) == "Hello there\nit is now\nno newline"
            assert said("daytime.py", "127.0.0.1", "--port", port) == "Hello there\nit is now\nno newline"
        done = run("tcp_client.py", "localhost", "1")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert run("tcp_client.py", "localhost", "no-such-service").returncode == 1

    def test_perls_client_is_greeted_with_the_internets_newline(self):
        """perlipc:N4, N2"""
        with running("greeting_server.py", "tcp://127.0.0.1:0") as (line,):
            for _ in range(3):
                greeting = perl(f"binmode STDOUT; {TCP_CLIENT}", port_of(line))
                assert re.fullmatch(r"Hello there, tcp://127\.0\.0\.1:\d+, it's now .* \d{4}\n", greeting)
            raw = subprocess.run(
                ["nc", "-N", "127.0.0.1", port_of(line)], stdin=subprocess.DEVNULL, capture_output=True, timeout=20
            )
            assert raw.stdout.endswith(b"\r\n")

    def test_every_client_gets_a_greeting_and_a_fortune_at_the_same_time(self):
        """perlipc:N5, N16, N18: fortune writes bare newlines, and the client gets none."""
        with running("fortune_server.py", "tcp://127.0.0.1:0", stderr=subprocess.DEVNULL) as (line,):
            where = ("127.0.0.1", int(port_of(line)))
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection(where, timeout=20)) for _ in range(5)]
                for client in clients:
                    data = b""
                    while piece := client.recv(65536):
                        data += piece
                    assert data.startswith(b"Hello there, ")
                    assert data.count(b"\n") == data.count(b"\r\n") >= 2
            assert "Hello there, " in perl(TCP_CLIENT, where[1])

    def test_an_address_that_is_taken_is_one_line(self):
        """perlipc:N17"""
        with hp.listen("tcp://127.0.0.1:0") as listener:
            for script in ("greeting_server.py", "fortune_server.py", "command_server.py"):
                done = run(script, str(listener.address))
                assert done.returncode == 1
                assert len(done.stderr.splitlines()) == 1
                assert "in use" in done.stderr


class TestUnixNames:
    def test_both_sides_are_ours_or_perls(self, tmp_path):
        """perlipc:N8, N20"""
        path = tmp_path / "catsock"
        with running("catsock_server.py", path) as (line,):
            assert line == f"server started on {path}\n"
            for text in (said("catsock_client.py", path), perl(UNIX_CLIENT, path)):
                greeting, _, fortune = text.partition("\n")
                assert greeting.startswith("Hello there, it's now ")
                assert fortune.strip()
        assert not path.exists()
        with perl_server('print $client "from Perl\\n"', path):
            assert said("catsock_client.py", path) == "from Perl\n"
        # It was killed, and its name is still there.
        assert hp.is_socket(path)
        done = run("catsock_client.py", path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "nobody listens" in done.stderr
        with running("catsock_server.py", path):
            assert said("catsock_client.py", path).startswith("Hello there")
            again = run("catsock_server.py", path)
            assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)

    def test_what_is_no_socket_is_known_before(self, tmp_path):
        """perlipc:N20"""
        (tmp_path / "file").write_text("precious")
        assert "is no socket" in run("catsock_client.py", tmp_path / "file").stderr
        assert run("catsock_server.py", tmp_path / "file").returncode == 1
        assert (tmp_path / "file").read_text() == "precious"


class TestClocks:
    def test_perls_clocks_and_who_is_not_there(self):
        """perlipc:N7"""
        with perl_server("print $client pack 'N', time + 2208988800 + 60") as port:
            done = run("tcp_clocks.py", "--port", port, "127.0.0.1", "no-such-host.invalid", "localhost")
        assert done.returncode == 1
        here, *there = done.stdout.splitlines()
        assert here.split()[:2] == ["localhost", "0"]
        assert [line.split()[0] for line in there] == ["127.0.0.1", "no-such-host.invalid", "localhost"]
        assert all(58 <= int(line.split()[1]) <= 62 for line in (there[0], there[2]))

    def test_by_datagrams_all_at_once(self):
        """perlipc:N13: Perl's clock, one that refuses, and one that is silent."""
        clock = """
            $| = 1; my $s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1") or die;
            print $s->sockport, "\\n";
            while (my $from = $s->recv(my $q, 10)) { $s->send(pack("N", time + 2208988800 - 60), 0, $from) }
        """
        words = ["perl", "-MIO::Socket", "-e", clock]
        with (
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process,
            hp.open_datagram(local="udp://127.0.0.1:0"),
        ):
            port = process.stdout.readline().strip()
            out = said("udp_clocks.py", "--port", port, "127.0.0.1", "127.0.0.1")
            assert len(out.splitlines()) == 3
            assert all(-62 <= int(line.split()[1]) <= -58 for line in out.splitlines()[1:])
            process.kill()
        done = run("udp_clocks.py", "--port", "1", "--timeout", "5", "127.0.0.1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Connection refused" in done.stdout

    def test_who_is_silent_is_counted(self):
        """perlipc:N13, gotcha:U3"""
        with hp.open_datagram(local="udp://127.0.0.1:0") as silent:
            done = run("udp_clocks.py", "--port", silent.local.port, "--timeout", "0.2", "127.0.0.1")
        assert (done.returncode, done.stderr) == (1, "1 have not answered\n")

    def test_our_services_are_what_perl_asks_for(self):
        """perlipc:N5, N7, N13: Perl's clients; and ours, to the same services."""
        with running(
            "small_services.py", "--time", 0, "--daytime", 0, "--echo", 0, "--host", "127.0.0.1", ready=4
        ) as up:
            ports = {line.split()[0] + line.split()[2][:3]: port_of(line) for line in up}
            program = """
                my ($p, $n) = @ARGV;
                my $s = IO::Socket::INET->new(Proto => $p, PeerAddr => '127.0.0.1', PeerPort => $n) or die qq($!);
            """
            ask = program + "$s->send('x') if $p eq 'udp'; $s->recv(my $t, 4); print unpack('N', $t) - 2208988800"
            for proto in ("tcp", "udp"):
                assert abs(int(perl(ask, proto, ports[f"time{proto}"])) - time.time()) <= 2
            assert str(time.localtime().tm_year) in perl(TCP_CLIENT, ports["daytimetcp"])
            assert said("daytime.py", "127.0.0.1", "--port", ports["daytimetcp"]).endswith("\n")
            echo = program + r"$s->send(qq(a\0b)); shutdown $s, 1; local $/; print <$s>"
            assert perl(echo, "tcp", ports["echotcp"]) == "a\0b"
            for proto in ("tcp", "udp"):
                lines = said(f"{proto}_clocks.py", "--port", ports[f"time{proto}"], "127.0.0.1").splitlines()
                assert abs(int(lines[1].split()[1])) <= 2


class TestWebget:
    def test_documents_come_with_their_heads(self, apache):
        """perlipc:N10: from Apache, as the page had it."""
        with apache() as web:
            (web.pages / "one").write_text("one\n")
            out = said("webget.py", "--port", web.port, "127.0.0.1", "/one", "/guanaco.html")
        assert out.startswith("HTTP/1.1 200 OK\n")
        assert "\none\nHTTP/1.1 404 Not Found" in out

    def test_nobody_there(self):
        done = run("webget.py", "--port", "1", "127.0.0.1", "/")
        assert done.returncode == 1
        assert done.stderr.startswith("cannot fetch from 127.0.0.1: ")


class TestConversations:
    COMMANDS = r"""
        print $client "Command? ";
        while (my $line = <$client>) { last if $line =~ /quit/; print $client "you said $line", "Command? " }
    """

    def test_our_interactive_client_at_a_terminal_with_perls_server(self):
        """perlipc:N11"""
        with perl_server(self.COMMANDS) as port:
            words = command("interactive_client.py", "localhost", port)
            child = hp.expect.spawn(words[0], words[1:], timeout=20)
            child.expect(r"\[Connected to \S+\]\r\n")
            child.expect_exact("Command? ")
            child.sendline("hello")
            child.expect_exact("you said hello\r\nCommand? ")
            child.sendline("quit")
            child.expect(EOF)
            child.close()
        assert child.exitstatus == 0

    def test_the_command_server_obeys_perl(self):
        """perlipc:N12"""
        with running("command_server.py", "tcp://127.0.0.1:0") as (line,):
            client = r"""
                my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => shift) or die "connect: $!";
                print $s map { "$_\r\n" } "date", "", "who", "COOKIE", "motd", "nonsense; id", "quit"; print <$s>;
            """
            said_ = perl(client, port_of(line))
        greeting, date, blank, who, cookie, motd, help_, end = said_.split("Command? ")
        assert greeting == "Welcome; type help for command list.\n"
        assert re.fullmatch(r"\w{3} \w{3} .* \d{4}\n", date)
        assert (blank, end) == ("", "")
        assert who == subprocess.run(["who"], capture_output=True, text=True).stdout
        assert cookie.strip()
        cat = subprocess.run(["cat", "/etc/motd"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert motd == cat.stdout
        assert help_ == "Commands: quit date who cookie motd\n"

    def test_one_client_at_a_time_each_at_a_terminal(self):
        """perlipc:N12, N11: both programs of the page together."""
        with running("command_server.py", "tcp://127.0.0.1:0") as (line,):
            words = command("interactive_client.py", "localhost", port_of(line))
            first = hp.expect.spawn(words[0], words[1:], timeout=20)
            first.expect_exact("Command? ")
            second = hp.expect.spawn(words[0], words[1:], timeout=20)
            second.expect_exact("]\r\n")
            first.sendline("help")
            first.expect("Commands: quit date who cookie motd\r+\nCommand[?] ")
            first.sendline("quit")
            first.expect(EOF)
            second.expect_exact("Command? ")  # it has waited for its turn
            second.sendeof()
            second.expect(EOF)
            for client in (first, second):
                client.close()
                assert client.exitstatus == 0


class TestTerminal:
    def at_terminal(self, script: str, *arguments: object) -> hp.expect.spawn:
        return hp.expect.spawn(sys.executable, command(script, *arguments)[1:], timeout=20, encoding="utf-8")

    def test_the_clients_say_the_same_there(self, tmp_path):
        """perlipc:N4, N7, N8, N9, N10, N13"""
        any_port = ["--time", 0, "--daytime", 0, "--echo", 0]
        with (
            running("small_services.py", "--host", "127.0.0.1", *any_port, ready=4) as up,
            running("catsock_server.py", tmp_path / "sock"),
            perl_server(
                r'while (<$client>) { last unless /\S/ } print $client "HTTP/1.0 200 OK\n\n12:00:00 2026\n"'
            ) as web,
        ):
            ports = {line.split()[0] + line.split()[2][:3]: port_of(line) for line in up}
            for words in (
                ["tcp_client.py", "127.0.0.1", ports["daytimetcp"]],
                ["daytime.py", "127.0.0.1", "--port", ports["daytimetcp"]],
                ["tcp_clocks.py", "--port", ports["timetcp"], "127.0.0.1"],
                ["udp_clocks.py", "--port", ports["timeudp"], "127.0.0.1"],
                ["webget.py", "--port", web, "127.0.0.1", "/"],
                ["catsock_client.py", tmp_path / "sock"],
            ):
                child = self.at_terminal(*words)
                child.expect(EOF)
                child.close()
                assert child.exitstatus == 0, child.before
                assert re.search(r"\d\d:\d\d:\d\d \d{4}", child.before), child.before

    @pytest.mark.parametrize(
        "line",
        [
            "greeting_server.py tcp://127.0.0.1:0",
            "fortune_server.py tcp://127.0.0.1:0",
            "command_server.py tcp://127.0.0.1:0",
            "catsock_server.py sock",
            "private_daemon.py sock",
            "small_services.py --host 127.0.0.1 --time 0 --daytime 0 --echo 0",
        ],
    )
    def test_ctrl_c_ends_a_server_without_a_word(self, line, tmp_path, monkeypatch):
        """perlipc:N5, N12"""
        monkeypatch.chdir(tmp_path)
        child = self.at_terminal(*line.split())
        child.expect(r"(udp|tcp)://127|sock\r\n")
        if line.startswith("small"):
            child.expect("udp://127")
        child.sendintr()
        child.expect(EOF)
        child.close()
        assert child.exitstatus == 130 or child.signalstatus == signal.SIGINT
        assert "Traceback" not in child.before
        assert not list(tmp_path.iterdir())


class TestPrivateDaemon:
    """perlipc:N20, N15: a daemon that the web reaches by a CGI program alone, through Apache."""

    @pytest.fixture
    def served(self, tmp_path, apache):
        words = tmp_path / "words.sock"
        with apache(f"SetEnv WORDS_SOCKET {words}") as web:
            program = web.pages / "cgi-bin" / "ask"
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {EXAMPLES / "ask_daemon.py"} "$@"\n')
            program.chmod(0o755)
            yield words, web

    def curl(self, web, query: str) -> tuple[str, str]:
        url = f"http://127.0.0.1:{web.port}/cgi-bin/ask{query}"
        done = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code}", url], capture_output=True, text=True, check=True, timeout=50
        )
        return done.stdout[-3:], done.stdout[:-3]

    def test_the_web_asks_and_the_daemon_answers(self, served):
        """perlipc:N20, N3"""
        path, web = served
        with running("private_daemon.py", path):
            assert self.curl(web, "?word=fifo") == ("200", "<p>fifo: a pipe that has a name</p>\n")
            assert self.curl(web, "?word=nonsense")[1] == "<p>nonsense: I do not know that word</p>\n"
            client = (
                r'my $s = IO::Socket::UNIX->new(shift) or die; print $s "socket\n"; print scalar(<$s>), scalar <$s>'
            )
            assert perl(client, path) == "a pipe that goes both ways\n.\n"

    @pytest.mark.parametrize("query", ["", "?word=", "?word=a%0aquit", "?word=%3Cscript%3E", "?word=$(id)"])
    def test_what_is_no_word_does_not_reach_the_daemon(self, served, query):
        """perlipc:N15, gotcha:PR4"""
        path, web = served
        with hp.listen(f"unix://{path}") as listener:
            assert self.curl(web, query) == ("400", "<p>ask for a word: ?word=fifo</p>\n")
            with pytest.raises(TimeoutError):
                listener.accept(timeout=0)

    def test_without_the_daemon_it_says_so_and_logs_why(self, served):
        """perlipc:N20"""
        path, web = served
        code, text = self.curl(web, "?word=fifo")
        assert (code, "try again later" in text) == ("503", True)
        assert str(path) not in text
        assert "127.0.0.1: 503 Service Unavailable" in web.log.read_text()
        assert str(path) in web.log.read_text()
