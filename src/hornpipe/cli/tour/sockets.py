"""Sockets: other people's clients and servers on the other end."""

from __future__ import annotations

import select
import ssl
import tempfile

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, Wrong, row

PERL_TCP = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n"; my $c = $s->accept; while (<$c>) { print $c scalar reverse(tr/\\r\\n//dr), "\\r\\n" }
"""
PERL_UDP = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n"; for (1 .. 2) { my $from = $s->recv(my $q, 100); $s->send("$q? noon", 0, $from) if $_ == 2 }
"""
PERL_UNIX = """
use IO::Socket; $| = 1; my $s = IO::Socket::UNIX->new(Listen => 1, Local => $ARGV[0]) or die $!; print "up\\n"; <STDIN>;
"""


@row("perl")
def connect(judge: Judge) -> str:
    """A line to a Perl server and its answer, whose CR LF is a newline here.

    Breaks when nobody answers, or what comes back is not the line reversed.
    """
    with (
        hp.cmd("perl", "-e", PERL_TCP, timeout=PATIENCE).lines() as perl,
        hp.connect(f"tcp://localhost:{next(perl)}", timeout=PATIENCE) as connection,
    ):
        answer = connection.ask("stressed")
        print("drawer", file=connection)
        line = connection.readline()
        shown = f"{answer}, {line.rstrip()} from {connection.peer}"
    judge.same((answer, line), ("desserts", "reward\n"))
    return shown


@row("nc")
def listen(judge: Judge) -> str:
    """A port of our own, whoever is free, and netcat as its client.

    Breaks when netcat does not come, or is not told what we said.
    """
    with hp.listen("tcp://127.0.0.1:0", timeout=PATIENCE) as listener:
        host, port = listener.address.host, str(listener.address.port)
        with hp.cmd("nc", "-N", host, port, timeout=PATIENCE, check=False).duplex() as netcat:
            # It can be polled as everything that waits, beside the client's output: who will not come says so there.
            if listener.fileno() not in select.select([listener.fileno(), netcat.fileno()], [], [], PATIENCE)[0]:
                raise Wrong(f"netcat did not come, but said {netcat.readline()!r}")
            netcat.send("hello\n")
            netcat.close_input()
            with listener.accept() as connection:
                said = connection.read()
                connection.write("welcome")
            told = netcat.read()
    judge.same((said, told), ("hello\n", "welcome"), "what each was told")
    return f"at port {port}: {said.rstrip()!r}, and netcat heard {told!r}"


@row("perl")
def stale_name(judge: Judge) -> str:
    """A Unix name of a server that died is replaced, a living one's is not touched.

    Breaks when the name of the living is taken, or that of the dead is in the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix://{folder}/catsock"
        with hp.cmd("perl", "-e", PERL_UNIX, f"{folder}/catsock", timeout=PATIENCE, check=False).duplex() as perl:
            judge.same(perl.readline(), "up\n", "what Perl said")
            with judge.raised(OSError) as caught:
                hp.listen(address).close()
            judge.within(caught[0], f"held by process {perl.pid}", "the error")
            perl.close_input()
        with hp.listen(address, timeout=PATIENCE) as listener, hp.connect(address) as client:
            print("hello", file=client)
            with listener.accept(PATIENCE) as connection:
                judge.same(connection.readline(), "hello\n", "what our client said")
    return f"refused while it lived: {str(caught[0]).replace(folder, '')}"


@row("perl")
def datagrams(judge: Judge) -> str:
    """A question by UDP, asked again since the first one was dropped.

    Breaks when the question is not repeated, or the answer is not Perl's.
    """
    with (
        hp.cmd("perl", "-e", PERL_UDP, timeout=PATIENCE).lines() as perl,
        hp.open_datagram(f"udp://127.0.0.1:{next(perl)}") as asking,
    ):
        answer = asking.ask(b"time", tries=6, timeout=PATIENCE / 2)
    judge.same((answer.data, answer.truncated), (b"time? noon", False), "the answer")
    return f"{answer.data.decode()} from {answer.sender}"


@row("tr")
def relay(judge: Judge) -> str:
    """Two sockets passed on to each other by the kernel, half-closes as well.

    Breaks when the program on the other side says something else, or never hears of the end.
    """
    (user, one), (other, far) = hp.socket_pair(timeout=PATIENCE), hp.socket_pair(timeout=PATIENCE)
    with user, one, other, hp.cmd("tr", "a-z", "A-Z", stdin=far, stdout=far, timeout=PATIENCE).start():
        far.leave()
        print("from one end to the other", file=user)
        user.shutdown()
        relayed = hp.relay(one, other, timeout=PATIENCE)
        answer = user.read()
    judge.same(answer, "FROM ONE END TO THE OTHER\n", "what came back")
    judge.same(relayed, (26, 26), "the bytes that went each way")
    return f"{relayed.forth} bytes forth, {relayed.back} back: {answer.rstrip()}"


@row("openssl")
def tls(judge: Judge) -> str:
    """An encrypted port, and OpenSSL's own client, which checks our certificate.

    Breaks when the client does not come, or what it hears was not ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/key", f"{folder}/cert"]
        make = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=here.test"]
        hp.cmd("openssl", "req", *make, "-keyout", files[0], "-out", files[1], timeout=PATIENCE).capture()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files[1], files[0])
        with hp.listen("tcp://127.0.0.1:0", tls=context, timeout=PATIENCE) as listener:
            where = f"127.0.0.1:{listener.address.port}"
            checks = ["-CAfile", files[1], "-verify_return_error", "-quiet"]
            # What it says of the certificate goes to stderr, where it would stand among the rows.
            options: hp.Options = {"stderr": hp.NULL, "timeout": PATIENCE, "check": False}
            client = hp.cmd("openssl", "s_client", "-connect", where, *checks, **options)
            with client.duplex() as openssl:
                openssl.send("hello\n")
                with listener.accept(PATIENCE) as connection:
                    said = connection.readline()
                    print("welcome", file=connection)
                    session = connection.tls
                heard = openssl.readline()
                openssl.close_input()
    judge.same((said, heard), ("hello\n", "welcome\n"), "what each was told")
    assert session is not None
    return f"{said.rstrip()!r} over {session.version()}, {session.cipher()}"
