"""Listening: ports and names, who has them, and what accepting survives."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.fd import Descriptor, pipe
from hornpipe.sockets import unix_names
from hornpipe.sockets.descriptor import Calls, Socket
from hornpipe.testing import hostile
from hornpipe.testing.between_lines import before_each_line
from hornpipe.testing.patience import wait_until


def talk(client: hp.Connection[str], listener: hp.Listener) -> str:
    """What a client says, through the listener."""
    with client, listener.accept(timeout=30) as connection:
        print("hello", file=client)
        return connection.readline(timeout=30)


@contextlib.contextmanager
def dead_name(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    yield


class TestPorts:
    def test_a_free_port_is_found(self) -> None:
        """perlipc:N17"""
        with hp.listen("tcp://127.0.0.1:0") as listener:
            assert listener.address.port != 0
            assert talk(hp.connect(listener.address, timeout=30), listener) == "hello\n"

    def test_every_interface_is_one_port_for_both_families(self) -> None:
        """gotcha:SO6"""
        with hp.listen("tcp://:0") as listener:
            port = listener.address.port
            assert str(listener.address) == f"tcp://:{port}"
            for host in ("127.0.0.1", "[::1]"):
                with hp.connect(f"tcp://{host}:{port}", timeout=30), listener.accept(timeout=30) as connection:
                    assert connection.peer is not None
                    assert connection.peer.host == host.strip("[]")

    def test_a_name_with_several_addresses_has_one_port_on_each(self, in_a_network: Callable[..., str]) -> None:
        """gotcha:SO6"""
        source = """
with hp.listen("tcp://both.test:0") as listener:
    print(len({address.port for address in listener.addresses}), sorted(each.host for each in listener.addresses))
    for address in listener.addresses:
        hp.connect(address, timeout=30)
        print(listener.accept(30).local == address)
"""
        setup = 'printf "::1 both.test\\n127.0.0.1 both.test\\n" > "$0/hosts" && mount --bind "$0/hosts" /etc/hosts'
        assert in_a_network(source, setup=setup).splitlines() == ["1 ['127.0.0.1', '::1']", "True", "True"]

    def test_an_ipv6_address_is_for_ipv6_only(self) -> None:
        """gotcha:SO6"""
        with hp.listen("tcp://[::]:0") as listener, pytest.raises(ConnectionRefusedError):
            hp.connect(f"tcp://127.0.0.1:{listener.address.port}", timeout=30)

    def test_several_addresses_are_one_listener(self, tmp_path: Path) -> None:
        """perlipc:N17"""
        path = f"unix://{tmp_path}/name"
        with hp.listen("tcp://127.0.0.1:0", path) as listener:
            for address in listener.addresses:
                client = hp.connect(address, timeout=30)
                assert select.select([listener], [], [], 30)[0]
                assert talk(client, listener) == "hello\n"
            assert select.select([listener], [], [], 0)[0] == []

    def test_who_is_busy_does_not_keep_the_other_from_being_heard(self) -> None:
        with hp.listen("tcp://127.0.0.1:0", "tcp://127.0.0.1:0") as listener:
            one, other = listener.addresses
            clients = [hp.connect(address, timeout=30) for address in (one, one, one, other)]
            heard = []
            for _ in range(2):
                with listener.accept(timeout=30) as connection:
                    heard.append(connection.local)
            assert sorted(map(str, heard)) == sorted(map(str, (one, other)))
            for each in clients:
                each.close()

    def test_a_port_in_use_says_who_has_it(self) -> None:
        """perlipc:N17"""
        with hp.listen("tcp://127.0.0.1:0") as listener:
            with pytest.raises(
                OSError, match=rf"{listener.address} is in use, held by process {os.getpid()} \("
            ) as caught:
                hp.listen(listener.address)
            assert caught.value.errno == errno.EADDRINUSE

    def test_the_next_generation_does_not_meet_the_last_one_s_connections(self) -> None:
        """gotcha:SO1"""
        with hp.listen("tcp://127.0.0.1:0") as listener:
            address = listener.address
            with hp.connect(address, timeout=30) as client:
                listener.accept(timeout=30).close()  # who closes first has the TIME_WAIT
                assert client.read() == ""
        hp.listen(address).close()
        with pytest.raises(OSError, match="in use"):
            hp.listen(address, reuse=False)


def somebody_waits_for_our_lock() -> bool:
    with open("/proc/locks") as file:
        return any("->" in line and f" {os.getpid()} " in line for line in file)


class TestUnixNames:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "name"

    @pytest.mark.parametrize("mode", [0o600, 0o666, 0o000])
    def test_it_has_its_mode_whatever_the_umask(self, path: Path, mode: int) -> None:
        """gotcha:SO8"""
        before = os.umask(0o027)
        try:
            with hp.listen(f"unix://{path}", mode=mode):
                assert stat.S_IMODE(path.stat().st_mode) == mode
        finally:
            os.umask(before)

    def test_a_dead_one_is_replaced(self, path: Path) -> None:
        """gotcha:SO7, perlipc:N8"""
        with dead_name(path), hp.listen(f"unix://{path}") as listener:
            assert talk(hp.connect(f"unix://{path}"), listener) == "hello\n"
        assert not path.exists()

    def test_a_living_one_is_never_touched(self, path: Path) -> None:
        """gotcha:SO7, perlipc:N8"""
        with hp.listen(f"unix://{path}") as listener:
            made = path.stat().st_ino
            with pytest.raises(OSError, match=f"is in use, held by process {os.getpid()}") as caught:
                hp.listen(f"unix://{path}")
            assert caught.value.errno == errno.EADDRINUSE
            assert path.stat().st_ino == made
            listener.accept(timeout=30).close()  # the look whether it lives
            assert talk(hp.connect(f"unix://{path}"), listener) == "hello\n"

    @pytest.mark.parametrize("kind", ["full", "bound", "datagram"])
    def test_a_living_one_need_not_answer(self, path: Path, kind: str) -> None:
        """gotcha:SO7: with a full queue, between bind and listen, or of another type."""
        with contextlib.ExitStack() as stack:
            if kind == "full":
                stack.enter_context(hostile.never_accepting(path))
            else:
                living = stack.enter_context(
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
                )
                living.bind(str(path))
            with pytest.raises(OSError, match="in use"):
                hp.listen(f"unix://{path}")
            assert path.exists()

    @pytest.mark.parametrize("kind", ["a file", "a directory", "a symlink", "a FIFO"])
    def test_what_is_no_socket_is_never_touched(self, path: Path, kind: str) -> None:
        """gotcha:SO7, perlipc:N8"""
        match kind:
            case "a file":
                path.write_text("dear")
            case "a directory":
                path.mkdir()
            case "a symlink":
                path.symlink_to("elsewhere")
            case _:
                os.mkfifo(path)
        before = path.lstat()
        with pytest.raises(FileExistsError, match=f"{kind} is there, not a socket"):
            hp.listen(f"unix://{path}")
        assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_of_many_starters_one_wins_and_stays(self, path: Path) -> None:
        """gotcha:SO7: two that find it dead must not remove each other's."""
        source = f"""
import sys, hornpipe as hp
sys.stdin.readline()
try:
    listener = hp.listen("unix://{path}")
except OSError as error:
    print("lost", error, flush=True)
else:
    print("won", flush=True)
    sys.stdin.readline()
"""
        for _ in range(3):
            with dead_name(path), contextlib.ExitStack() as stack:
                each = [
                    stack.enter_context(hp.cmd(sys.executable, "-c", source, timeout=30, check=False).duplex())
                    for _ in range(6)
                ]
                for starter in each:
                    starter.send("go\n")
                said = [starter.readline() for starter in each]
                assert sum(line == "won\n" for line in said) == 1, said
                assert all("in use" in line for line in said if line != "won\n")
                hp.connect(f"unix://{path}", timeout=30).close()
                for starter in each:
                    starter.close_input()
                    starter.read()
            path.unlink(missing_ok=True)

    def test_nobody_looks_while_another_one_is_just_replacing_it(self, path: Path) -> None:
        """gotcha:SO7: finding it dead and taking its place are one step."""
        folder = Descriptor(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY))
        with dead_name(path), folder, hp.lock(folder):
            before = path.stat().st_ino
            made: list[hp.Listener] = []
            thread = threading.Thread(target=lambda: made.append(hp.listen(f"unix://{path}")))
            thread.start()
            wait_until(somebody_waits_for_our_lock, what="the starter's wait")
            assert path.stat().st_ino == before
        thread.join()
        made[0].close()

    def test_only_its_maker_removes_it(self, path: Path) -> None:
        """gotcha:SO7"""
        with hp.listen(f"unix://{path}") as listener:
            hp.fn(listener.close).with_options(pass_fds=[listener.fileno()]).call()
            assert path.exists()
        assert not path.exists()

    def test_what_stands_there_by_now_is_not_removed(self, path: Path) -> None:
        """gotcha:SO7"""
        with hp.listen(f"unix://{path}"):
            path.unlink()
            path.write_text("somebody else's")
        assert path.read_text() == "somebody else's"

    def test_it_is_removed_although_the_directory_is_another_one_by_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gotcha:DM3"""
        monkeypatch.chdir(tmp_path)
        with hp.listen("unix://catsock"):
            monkeypatch.chdir("/")
            assert (tmp_path / "catsock").is_socket()
        assert not (tmp_path / "catsock").exists()

    def test_what_is_raised_once_it_has_its_name_leaves_none(self, path: Path) -> None:
        """gotcha:SO7: by a signal's handler, say."""

        def refuse() -> None:
            raise InterruptedError

        with Socket(Calls(socket.AF_UNIX, socket.SOCK_STREAM, 0)) as made, pytest.raises(InterruptedError):
            unix_names.bind(made, hp.Address.parse(f"unix://{path}"), 0o600, refuse)
        assert not path.exists()

    def test_one_whose_owner_goes_while_it_is_looked_at_is_no_obstacle(self, path: Path) -> None:
        """gotcha:SO7: it has been removed by then, or somebody lives there still."""
        address = hp.Address.parse(f"unix://{path}")
        owners: list[hp.Listener] = []
        free = 0
        for line in before_each_line(lambda: owners[-1].close()):
            owners.append(hp.listen(address))
            try:
                with line:
                    unix_names._clear(address)
                free += not path.exists()
            except OSError as error:
                assert error.errno == errno.EADDRINUSE  # noqa: PT017
            owners.pop().close()
        assert free > 5

    def test_a_name_that_cannot_be_removed_keeps_no_socket_open(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        listener = hp.listen(f"unix://{tmp_path}/folder/name")
        (tmp_path / "folder").rename(tmp_path / "elsewhere")
        (tmp_path / "folder").symlink_to("folder")
        with pytest.raises(OSError, match="symbolic links"):
            listener.close()
        assert listener.closed
        listener.close()

    def test_an_abstract_name_is_no_file(self, tmp_path: Path) -> None:
        """gotcha:SO8"""
        address = f"unix://@hornpipe-{os.getpid()}"
        with hp.listen(address) as listener:
            assert talk(hp.connect(address), listener) == "hello\n"
            with pytest.raises(OSError, match=f"is in use, held by process {os.getpid()}"):
                hp.listen(address)
        with pytest.raises(ConnectionRefusedError):
            hp.connect(address)

    def test_a_folder_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="cannot listen at"):
            hp.listen(f"unix://{tmp_path}/no/name")


class TestAccepting:
    @pytest.fixture
    def listener(self) -> Iterator[hp.Listener]:
        with hp.listen("tcp://127.0.0.1:0", timeout=30) as listener:
            yield listener

    def test_nobody_comes(self, listener: hp.Listener) -> None:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=rf"no connection to {listener.address} within 0.1 s"):
            listener.accept(timeout=0.1)
        assert 0.1 <= time.monotonic() - begun < 20

    def test_the_connections_are_as_was_asked_for(self) -> None:
        with (
            hp.listen("tcp://127.0.0.1:0", timeout=0.05, newline="\r\n", line_limit=3) as listener,
            hp.connect(listener.address, timeout=30) as client,
            listener.accept(timeout=30) as connection,
        ):
            assert connection.nodelay
            assert not os.get_inheritable(connection.fileno())
            print("x", file=connection)
            assert client.as_bytes().read_exactly(3) == b"x\r\n"

    def test_those_who_have_gone_again_are_no_harm(self, listener: hp.Listener) -> None:
        for _ in range(5):
            hostile.impatient_client(("127.0.0.1", listener.address.port), b"x")
        with hp.connect(listener.address, timeout=30) as client:
            for _ in range(6):
                with listener.accept(timeout=30) as connection:
                    if connection.peer == client.local:
                        return
        pytest.fail("the patient one never came")

    def test_a_connection_that_was_aborted_is_passed_over(self, listener: hp.Listener) -> None:
        """accept(2): Linux tells of it seldom, others always."""
        errors = [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN]

        class Aborting(socket.socket):
            def _accept(self) -> object:
                if errors:
                    raise OSError(errors.pop(), "the connection has gone")
                return super()._accept()  # type: ignore[misc]

        (listening, _) = listener._sockets[listener.fileno()]
        calls = listening.calls
        listening._calls = Aborting(calls.family, calls.type, calls.proto, fileno=calls.detach())
        with hp.connect(listener.address, timeout=30) as client, listener.accept(timeout=30) as connection:
            assert connection.peer == client.local
        assert errors == []

    def test_signal_handlers_run_and_it_goes_on(self, listener: hp.Listener) -> None:
        """perlipc:S13"""
        seen: list[int] = []

        def come(number: int, frame: object) -> None:
            seen.append(number)
            if len(seen) == 3:
                clients.append(hp.connect(listener.address, timeout=30))

        clients: list[hp.Connection[str]] = []
        before = signal.signal(signal.SIGALRM, come)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with listener.accept(timeout=30):
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(seen) >= 3
        clients[0].close()

    def test_without_descriptors_it_backs_off_and_recovers(self, listener: hp.Listener) -> None:
        with hp.connect(listener.address, timeout=30) as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                begun = time.process_time()
                with pytest.raises(TimeoutError, match="Too many open files") as caught:
                    listener.accept(timeout=0.5)
                assert time.process_time() - begun < 0.1, "it spins"
                assert isinstance(caught.value.__cause__, OSError)
                relief = threading.Timer(0.1, resource.setrlimit, (resource.RLIMIT_NOFILE, (soft, hard)))
                relief.start()
                with listener.accept(timeout=30) as connection:
                    assert connection.peer == client.local
                relief.join()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_one_that_a_sibling_took_is_no_trap(self, listener: hp.Listener) -> None:
        """What poll has promised may be gone: accept must not block then."""
        results: list[str] = []

        def accept() -> None:
            try:
                listener.accept(timeout=0.7).close()
                results.append("accepted")
            except TimeoutError:
                results.append("nobody")

        threads = [threading.Thread(target=accept) for _ in range(4)]
        for each in threads:
            each.start()
        with hp.connect(listener.address, timeout=30):
            for each in threads:
                each.join()
        assert sorted(results) == ["accepted", "nobody", "nobody", "nobody"]

    def test_closing_from_another_thread_ends_it(self, listener: hp.Listener) -> None:
        """gotcha:R8"""
        timer = threading.Timer(0.05, listener.close)
        timer.start()
        with pytest.raises(ValueError, match="closed"):
            listener.accept(timeout=30)
        timer.join()
        for call in (listener.accept, listener.fileno, lambda: listener.address):
            with pytest.raises(ValueError, match="closed"):
                call()

    def test_iterating_takes_one_after_another(self, listener: hp.Listener) -> None:
        """perlipc:N4"""
        clients = [hp.connect(listener.address, timeout=30) for _ in range(3)]
        served = []
        for connection in listener:
            with connection:
                served.append(connection.peer)
            if len(served) == 3:
                break
        assert served == [client.local for client in clients]
        for each in clients:
            each.close()

    def test_it_is_no_connection_s_descriptor_for_a_child(self, listener: hp.Listener) -> None:
        """gotcha:R7"""
        assert not os.get_inheritable(listener.fileno())


PASSED = """
import os, socket, sys
for place, fd in enumerate(sys.argv[1:]):
    os.dup2(int(fd), 3 + place)
import hornpipe as hp
os.environ["LISTEN_PID"] = str(os.getpid())
web = hp.listen("tcp://127.0.0.1:1", passed="web")
print(web.address)
print(hp.listen(passed="admin").address)
try:
    hp.listen(passed="nobody")
except FileNotFoundError as error:
    print(error)
try:
    hp.listen(passed="client")
except ValueError as error:
    print(error)
try:
    hp.listen(passed="pipe")
except ValueError as error:
    print(error)
print(str(hp.listen("tcp://127.0.0.1:0", passed="nobody").address)[:16])
with web.accept(timeout=30) as connection:
    print(connection.readline(), end="")
"""


def test_sockets_of_a_service_manager_are_taken_by_name(tmp_path: Path) -> None:
    """perlipc:N17"""
    with contextlib.ExitStack() as stack:
        web = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        admin = stack.enter_context(socket.socket(socket.AF_UNIX))
        admin.bind(f"{tmp_path}/admin")
        admin.listen()
        client = stack.enter_context(socket.create_connection(web.getsockname()))
        client.sendall(b"hello\n")
        reader, writer = pipe()
        writer.close()
        fds = [each.fileno() for each in (web, admin, client, stack.enter_context(reader))]
        output = hp.cmd(
            sys.executable, "-c", PASSED, *map(str, fds),
            env={"LISTEN_FDS": "4", "LISTEN_FDNAMES": "web:admin:client:pipe"},
            pass_fds=fds,
            timeout=30,
        ).read()  # fmt: skip
        assert output.splitlines() == [
            "tcp://{}:{}".format(*web.getsockname()),
            f"unix://{tmp_path}/admin",
            "[Errno 2] no socket named 'nobody' was passed to this process",
            "the passed socket 'client' is not one that listens for streams",
            "what was passed as 'pipe' is no socket: Socket operation on non-socket",
            "tcp://127.0.0.1:",
            "hello",
        ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "options", "complaint"),
        [
            ((), {}, "needs an address"),
            (("udp://127.0.0.1:0",), {}, "open_datagram"),
            (("tcp://127.0.0.1:0",), {"mode": 0o1000}, "mode"),
            (("tcp://127.0.0.1:0",), {"newline": "\r"}, "newline"),
            (("tcp://127.0.0.1:0",), {"timeout": float("nan")}, "timeout"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, arguments: tuple[str, ...], options: dict[str, object], complaint: str
    ) -> None:
        with pytest.raises(ValueError, match=complaint):
            hp.listen(*arguments, **options)

    def test_an_address_that_is_not_here_is_told(self) -> None:
        with pytest.raises(OSError, match="cannot listen at tcp://192.0.2.1:0: Cannot assign") as caught:
            hp.listen("tcp://192.0.2.1:0")
        assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("client", ["perl", "nc", "socat"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_others_clients_are_served(kind: str, client: str, tmp_path: Path) -> None:
    """perlipc:N4, perlipc:N8"""
    path = f"{tmp_path}/name"
    with hp.listen("tcp://127.0.0.1:0" if kind == "tcp" else f"unix://{path}", timeout=30) as listener:
        port = "0" if kind == "unix" else str(listener.address.port)
        new = f'INET->new("127.0.0.1:{port}")' if kind == "tcp" else f'UNIX->new(Peer => "{path}")'
        perl = f"use IO::Socket; $s = IO::Socket::{new} or die $!; print $s scalar <STDIN>; shutdown($s, 1); print <$s>"
        command = {
            "perl": ("perl", "-e", perl),
            "nc": ("nc", "-N", *(("-U", path) if kind == "unix" else ("127.0.0.1", port))),
            "socat": ("socat", "-", f"UNIX-CONNECT:{path}" if kind == "unix" else f"TCP:127.0.0.1:{port}"),
        }[client]
        with (hp.cmd("echo", "hello") | hp.cmd(*command)).with_options(timeout=20).lines() as lines:
            with listener.accept(timeout=30) as connection:
                assert connection.read() == "hello\n"
                print("welcome", file=connection)
            assert list(lines) == ["welcome"]
