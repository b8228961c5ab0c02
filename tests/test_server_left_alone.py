"""A server that is left alone: signals, deaths, lacks, and who it is. Real programs, real signals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at, wait_gone

PATIENCE = 30.0
SOAK = os.environ.get("HORNPIPE_SOAK") == "1"
MODELS = ["inline", "fork", "prefork", "thread"]
FORKING = ["fork", "prefork"]

PROGRAM = r"""
import json, logging, os, signal, stat, sys, time
import hornpipe as hp

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")

def obey(client):
    for line in client:
        match line.split():
            case ["pid"]:
                print(os.getpid(), file=client)
            case ["echo", *words]:
                print(*words, file=client)
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["fail"]:
                raise RuntimeError("told to fail")
            case ["poison", path]:
                for fd in map(int, os.listdir("/proc/self/fd")):
                    if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISFIFO(os.fstat(fd).st_mode):
                        try:
                            os.write(fd, f"cos\nsystem\n(S'touch {path}'\ntR.".encode())
                        except OSError:
                            pass
                print("poisoned", file=client)
            case ["spin"]:
                while True:
                    time.sleep(0.01)
            case ["ids"]:
                print(*os.getresuid(), *os.getresgid(), *os.getgroups(), file=client)
            case ["regain"]:
                try:
                    os.setresuid(0, 0, 0)
                    print("root again", file=client)
                except PermissionError:
                    print("refused", file=client)
            case ["fds"]:
                print(*sorted(os.listdir("/proc/self/fd"), key=int), file=client)

def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\n")

options = json.loads(sys.argv[2])
exec(options.pop("before", ""))
server = hp.Server(sys.argv[1], obey, ready=lambda: say(port=server.addresses[0].service, pid=os.getpid()), **options)
try:
    say(counts=server.run()._asdict())
except KeyboardInterrupt:
    say(interrupted=True)
"""


class Program:
    """A server in a process of its own."""

    def __init__(self, address: str = "tcp://127.0.0.1:0", env: dict[str, str] | None = None, **options: Any) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the program)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **(env or {})},
        )
        self.pid = self.process.pid
        port = self.says()["port"]
        self.address = address.replace(":0", f":{port}") if address.endswith(":0") else address

    def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, "it says nothing"
        line = self.process.stdout.readline()
        assert line, self.complaints()
        found: dict[str, Any] = json.loads(line)
        return found

    def connect(self, timeout: float = PATIENCE) -> hp.Connection[str]:
        return hp.connect(self.address, timeout=timeout)

    def ask(self, line: str) -> str:
        with self.connect() as client:
            print(line, file=client)
            return client.readline()

    def children(self) -> list[int]:
        seen = [look_at(int(name)) for name in os.listdir("/proc") if name.isdigit()]
        return [each.pid for each in seen if each is not None and each.parent == self.pid]

    def signal(self, name: str) -> None:
        os.kill(self.pid, getattr(signal, f"SIG{name}"))

    def end(self) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr; nothing of it is left."""
        children = self.children()
        self.process.wait(timeout=PATIENCE)
        assert wait_gone(children, PATIENCE) == []
        return self.process.returncode, self.complaints()

    def complaints(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


@contextlib.contextmanager
def running(*arguments: Any, **options: Any) -> Iterator[Program]:
    program = Program(*arguments, **options)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.terminate()
            try:
                program.process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        assert program.process.stdout is not None
        program.process.stdout.close()
        program.errors.close()


@pytest.mark.parametrize("model", MODELS)
class TestEnding:
    def test_term_serves_who_is_there_and_nobody_else(self, model: str) -> None:
        """gotcha:SRV6"""
        with running(model=model) as server, server.connect() as client:
            print("echo before", file=client)
            assert client.readline() == "before\n"
            server.signal("TERM")
            wait_until(lambda: refused(server.address), PATIENCE) if model != "inline" else None
            print("echo after", file=client)
            assert client.readline() == "after\n"
            client.shutdown()
            assert client.read() == ""
            counts = server.says()["counts"]
            assert (counts["begun"] - counts["ended"], counts["failed"]) == (0, 0)
            assert server.end()[0] == 0

    def test_term_has_a_bound(self, model: str) -> None:
        """gotcha:SRV6"""
        with running(model=model, stop_grace=0.2) as server, server.connect() as client:
            print("spin", file=client)
            client.flush()
            wait_until(lambda: busy(server, model), PATIENCE)
            server.signal("TERM")
            assert client.read() == ""
            assert server.end()[0] == 0

    def test_int_ends_it_at_once(self, model: str) -> None:
        """gotcha:SRV6"""
        with running(model=model, stop_grace=60) as server, server.connect() as client:
            print("spin", file=client)
            client.flush()
            wait_until(lambda: busy(server, model), PATIENCE)
            server.signal("INT")
            with contextlib.suppress(ConnectionResetError):
                assert client.read() == ""
            assert server.says() == {"interrupted": True}
            assert server.end()[0] == 0


@pytest.mark.parametrize("model", ["fork", "prefork", "thread"])
def test_a_second_term_hurries(model: str) -> None:
    """gotcha:SRV6: an inline server's thread is its handler's, so that it has its bound alone."""
    with running(model=model, stop_grace=60) as server, server.connect() as client:
        print("spin", file=client)
        client.flush()
        wait_until(lambda: busy(server, model), PATIENCE)
        server.signal("TERM")
        wait_until(lambda: refused(server.address), PATIENCE)
        server.signal("TERM")
        with contextlib.suppress(ConnectionResetError):
            assert client.read() == ""
        assert server.end()[0] == 0


@pytest.mark.parametrize(("model", "name"), [("fork", "TERM"), ("inline", "HUP")])
def test_what_unwinds_the_program_lets_clients_finish_first(model: str, name: str) -> None:
    """gotcha:SRV6, gotcha:SIG16: and whoever waits for it sees what it died of."""
    with running(model=model, before="hp.signals.unwind('TERM', 'HUP')") as server, server.connect() as client:
        print("echo before", file=client)
        assert client.readline() == "before\n"
        server.signal(name)
        wait_until(lambda: refused(server.address), PATIENCE) if model != "inline" else None
        print("echo after", file=client)
        assert client.readline() == "after\n"
        client.shutdown()
        assert client.read() == ""
        assert server.end()[0] == -getattr(signal, f"SIG{name}")


def refused(address: str) -> bool:
    try:
        hp.connect(address, timeout=PATIENCE).leave()
    except ConnectionRefusedError:
        return True
    except (ConnectionError, TimeoutError):
        return False
    return False


def busy(server: Program, model: str) -> bool:
    """Whether a client is being served: it is no longer in the queue, and its process or thread has read."""
    port = int(server.address.rpartition(":")[2])
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    ours = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return bool(ours) and all(row[4].endswith(":00000000") for row in ours)


class TestHup:
    def test_new_workers_are_there_before_the_old_ones_go(self) -> None:
        """gotcha:SRV8"""
        with running(model="prefork", workers=2) as server:
            before = set(server.children())
            with server.connect() as client:
                print("pid", file=client)
                old = int(client.readline())
                server.signal("HUP")
                wait_until(lambda: len(set(server.children()) - before) == 2, PATIENCE)
                wait_until(lambda: set(server.children()) & before == {old}, PATIENCE)
                print("echo still here", file=client)
                assert client.readline() == "still here\n"
            wait_until(lambda: not set(server.children()) & before, PATIENCE)
            assert int(server.ask("pid")) not in before

    @pytest.mark.soak
    @pytest.mark.parametrize("how", ["workers", "program"])
    def test_hup_under_load_costs_no_connection(self, how: str, tmp_path: Path) -> None:
        """gotcha:H4, gotcha:SRV3: clients never retry; a refused, reset or short answer counts."""
        seconds, interval = (10.0, 0.1) if SOAK else (0.5, 0.1)
        address = f"unix://{tmp_path}/name" if how == "workers" else "tcp://127.0.0.1:0"
        before = "hp.restart_on_hup()" if how == "program" else ""
        with running(address, model="prefork", workers=2, before=before) as server:
            listening = inodes(server.address)
            failures: list[str] = []
            answers: list[int] = []
            over = threading.Event()

            def client() -> None:
                while not over.is_set():
                    try:
                        answers.append(int(server.ask("pid")))
                    except (OSError, ValueError, EOFError) as error:
                        failures.append(repr(error))

            clients = [threading.Thread(target=client) for _ in range(4)]
            for each in clients:
                each.start()
            begun = time.monotonic()
            # For so long, and until there have been enough of them: the workers are others every time.
            while (lasted := time.monotonic() - begun) < seconds or (len(set(answers)) <= 4 and lasted < PATIENCE):
                server.signal("HUP")
                over.wait(interval)
            over.set()
            for each in clients:
                each.join(PATIENCE)
            assert failures == []
            assert len(set(answers)) > 4
            assert inodes(server.address) == listening != []  # and the socket is the same
            # Whatever was started is served, and asked to end, as ever.
            wait_until(lambda: server.ask("echo fine") == "fine\n", PATIENCE)


def inodes(address: str) -> list[str]:
    """The sockets that listen there."""
    where = hp.Address.parse(address)
    if where.is_unix:
        rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        return [row[6] for row in rows if row[7:] == [where.path] and row[3] == "00010000"]  # __SO_ACCEPTCON
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return [row[9] for row in rows if row[1].endswith(f":{where.port:04X}") and row[3] == "0A"]


@pytest.mark.parametrize("model", MODELS)
def test_a_handler_that_fails_is_logged_once_with_its_client_and_its_line(model: str) -> None:
    """gotcha:SRV7, gotcha:PR6: and without what is in the environment."""
    with running(model=model, env={"PASSWORD": "open sesame"}) as server:
        with server.connect() as client:
            print("fail", file=client)
            assert client.read() == ""
            name = client.local
        server.signal("TERM")
        counts = server.says()["counts"]
        assert (counts["ended"], counts["failed"]) == (1, 1)
        told = server.end()[1]
    assert told.count(f"ERROR the handler failed for {name}\n") == told.count("RuntimeError: told to fail") == 1
    assert told.count("Traceback") == told.count(", in obey") == 1
    assert "sesame" not in told


@pytest.mark.parametrize("model", FORKING)
def test_a_process_that_serves_has_no_say_in_its_parent(model: str, tmp_path: Path) -> None:
    """gotcha:PR7: numbers are all that goes from one to the other."""
    with running(model=model) as server:
        assert server.ask(f"poison {tmp_path}/had") == "poisoned\n"
        assert server.ask("echo fine") == "fine\n"
        server.signal("TERM")
        assert server.says()["counts"]["failed"] == 0
        assert server.end()[0] == 0
    assert list(tmp_path.iterdir()) == []


class TestDeaths:
    @pytest.mark.parametrize("model", FORKING)
    def test_a_process_that_dies_costs_its_client_and_is_told(self, model: str) -> None:
        """gotcha:SRV7, gotcha:SRV8"""
        with running(model=model) as server:
            with server.connect() as client:
                print("die", file=client)
                with contextlib.suppress(ConnectionResetError):
                    assert client.read() == ""
            assert server.ask("echo fine") == "fine\n"
            server.signal("TERM")
            counts = server.says()["counts"]
            assert (counts["begun"], counts["ended"], counts["failed"]) == (2, 2, 1)
            assert "killed by KILL" in server.end()[1]

    @pytest.mark.soak
    def test_whoever_kills_workers_hurts_nobody_for_long(self) -> None:
        """gotcha:SRV8: every client gets an answer, or a clean end."""
        with running(model="prefork", workers=3) as server:
            wrong: list[str] = []
            over = threading.Event()
            answered: list[int] = []

            def client() -> None:
                while not over.is_set():
                    try:
                        line = server.ask("pid")
                        answered.append(1)
                        if line and not line.endswith("\n"):
                            wrong.append(line)
                    except (ConnectionResetError, BrokenPipeError):
                        pass  # it was served by one that was killed
                    except OSError as error:
                        wrong.append(repr(error))

            clients = [threading.Thread(target=client) for _ in range(3)]
            for each in clients:
                each.start()
            begun, killed = time.monotonic(), set()
            seconds = 20 if SOAK else 0.5
            while (lasted := time.monotonic() - begun) < seconds or (
                (len(answered) <= 10 or len(killed) <= 4) and lasted < PATIENCE
            ):
                for pid in server.children()[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                over.wait(0.1)
            over.set()
            for each in clients:
                each.join(PATIENCE)
            assert wrong == []
            assert len(answered) > 10
            wait_until(lambda: len(server.children()) == 3, PATIENCE)
            server.signal("TERM")
            assert server.says()["counts"]["replaced"] >= 3

    def test_after_a_rush_each_worker_still_takes_a_client_in(self) -> None:
        """gotcha:SRV4: in a rush most workers leave the clients to those who are awake, and none stays away for it."""
        with running(model="prefork", workers=4) as server:
            for _ in range(5):
                for number in range(40):
                    assert server.ask(f"echo {number}") == f"{number}\n"
                with contextlib.ExitStack() as stack:
                    pids = set()
                    for _ in range(4):  # none of them goes: each needs a worker of its own
                        client = stack.enter_context(server.connect())
                        print("pid", file=client)
                        pids.add(client.readline())
                    assert len(pids) == 4

    def test_who_sleeps_at_the_door_may_be_killed(self) -> None:
        """gotcha:SRV4, gotcha:SRV8"""
        with running(model="prefork", workers=2) as server:
            for number in range(40):
                assert server.ask(f"echo {number}") == f"{number}\n"
            for pid in server.children():
                os.kill(pid, signal.SIGKILL)
            for number in range(40):
                assert server.ask(f"echo {number}") == f"{number}\n"

    def test_workers_that_cannot_come_up_are_tried_ever_less_often(self) -> None:
        """gotcha:SRV8"""
        before = "os.register_at_fork(after_in_child=lambda: os._exit(3))"
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "tcp://127.0.0.1:0", json.dumps({"model": "prefork", "before": before})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert program.stderr is not None
        try:
            seen = []
            while len(seen) < 3:
                line = program.stderr.readline().decode()
                assert line, "it gave up"
                if "do not come up" in line:
                    seen.append(line)
            assert "exited with code 3" in seen[0]
            assert [line.split("in ")[-1].strip() for line in seen] == ["0.1 s", "0.2 s", "0.4 s"]
        finally:
            program.send_signal(signal.SIGTERM)
            program.communicate(timeout=PATIENCE)

    @pytest.mark.parametrize("model", FORKING)
    def test_nobody_outlives_a_killed_parent(self, model: str) -> None:
        """gotcha:SRV5"""
        with running(model=model, idle_timeout=2) as server:
            assert server.ask("echo x") == "x\n"
            children = server.children()
            server.process.kill()
            server.process.wait(PATIENCE)
            assert wait_gone(children, PATIENCE) == []
            assert refused(server.address)

    def test_children_are_reaped_whatever_else_is_done_with_chld(self) -> None:
        """perlipc:S10, perlipc:N6: ignored by the program, and taken by a greedy wait."""
        for before in (
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
            "import threading\n"
            "def greedy():\n"
            "    while True:\n"
            "        try:\n"
            "            os.waitpid(-1, os.WNOHANG)\n"
            "        except ChildProcessError:\n"
            "            pass\n"
            "        time.sleep(0.001)\n"
            "import warnings; warnings.simplefilter('ignore')\n"
            "threading.Thread(target=greedy, daemon=True).start()",
        ):
            with running(model="fork", before=before) as server:
                for number in range(20):
                    assert server.ask(f"echo {number}") == f"{number}\n"
                wait_until(lambda: server.children() == [], PATIENCE)
                server.signal("TERM")
                assert server.says()["counts"]["ended"] == 20

    @pytest.mark.soak
    @pytest.mark.parametrize("model", MODELS)
    def test_a_storm_of_signals_costs_nobody_a_connection(self, model: str) -> None:
        """perlipc:N6, perlipc:S10: CHLD and ALRM come while clients are taken in."""
        before = "hp.SIG['ALRM'] = lambda sig: None; hp.SIG['CHLD'] = lambda sig: None"
        with running(model=model, before=before) as server:
            over = threading.Event()

            def storm() -> None:
                while not over.wait(0.0005):
                    with contextlib.suppress(ProcessLookupError):
                        server.signal("CHLD")
                        server.signal("ALRM")

            thread = threading.Thread(target=storm)
            thread.start()
            try:
                for number in range(3000 if SOAK else 100):
                    assert server.ask(f"echo {number}") == f"{number}\n"
            finally:
                over.set()
                thread.join(PATIENCE)


def at_hand(pid: int) -> list[str]:
    """The sockets and pidfds that it has."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return sorted(link for link in found if link.startswith("socket:") or "pidfd" in link)


class TestLacks:
    @pytest.mark.parametrize("model", MODELS)
    def test_without_descriptors_it_waits_and_goes_on(self, model: str) -> None:
        """gotcha:SRV1"""
        before = (
            "import resource, threading; hog = []; full = threading.Event()\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
            "def use_up():\n"
            "    while full.is_set():\n"
            "        try: hog.append(os.open('/dev/null', os.O_RDONLY))\n"
            "        except OSError: time.sleep(0.001)\n"
            "    while hog: os.close(hog.pop())\n"
            "def begin(sig): full.set(); threading.Thread(target=use_up, daemon=True).start()\n"
            "hp.SIG['USR1'] = begin; hp.SIG['USR2'] = lambda sig: full.clear()"
        )
        options: dict[str, Any] = {"workers": 1} if model == "prefork" else {}
        with running(model=model, before=before, **options) as server:
            # Of prefork's, the worker is the one that takes clients in.
            victim = wait_until(server.children, PATIENCE)[0] if model == "prefork" else server.pid
            idle = at_hand(victim)
            assert server.ask("echo x") == "x\n"
            # What is still held for that client would be let go later, and leave room for the next one.
            wait_until(lambda: at_hand(victim) == idle, PATIENCE)
            os.kill(victim, signal.SIGUSR1)
            wait_until(lambda: len(os.listdir(f"/proc/{victim}/fd")) == 40, PATIENCE)
            with server.connect() as client:
                print("echo late", file=client)
                used = cpu_time(victim)
                with pytest.raises(TimeoutError):
                    client.readline(timeout=0.5)
                assert cpu_time(victim) - used < 0.3  # it does not spin
                os.kill(victim, signal.SIGUSR2)
                assert client.readline() == "late\n"
            server.signal("TERM")
            assert "no room for more clients" in server.end()[1]

    def test_without_processes_it_waits_and_goes_on(self) -> None:
        """gotcha:SRV1"""
        if os.getuid() != 0:
            pytest.skip("the limit counts all processes of a user: only root can become one that has none")
        before = (
            "import resource\n"
            "hp.SIG['USR1'] = lambda sig: resource.setrlimit(resource.RLIMIT_NPROC, (0, 4000))\n"
            "hp.SIG['USR2'] = lambda sig: resource.setrlimit(resource.RLIMIT_NPROC, (4000, 4000))"
        )
        with running(model="fork", before=before, user=54321, group=54321) as server:
            assert server.ask("echo x") == "x\n"
            server.signal("USR1")
            wait_until(lambda: limit_of(server.pid) == "0", PATIENCE)
            with server.connect() as client:
                print("echo late", file=client)
                with pytest.raises(TimeoutError):
                    client.readline(timeout=0.5)
                server.signal("USR2")
                assert client.readline() == "late\n"
            server.signal("TERM")
            assert "no room for more clients" in server.end()[1]

    def test_the_limit_of_clients_holds_and_refuses_nobody(self) -> None:
        """gotcha:SRV2"""
        for model in ("fork", "thread"):
            with running(model=model, max_clients=2) as server, contextlib.ExitStack() as stack:
                first = [stack.enter_context(server.connect()) for _ in range(2)]
                for client in first:
                    print("echo in", file=client)
                    assert client.readline() == "in\n"
                third = stack.enter_context(server.connect())
                print("echo third", file=third)
                with pytest.raises(TimeoutError):
                    third.readline(timeout=0.2)
                first[0].close()
                assert third.readline() == "third\n"


def cpu_time(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limit_of(pid: int) -> str:
    with open(f"/proc/{pid}/limits") as file:
        return next(line.split()[2] for line in file if line.startswith("Max processes"))


class TestWhoItIs:
    @pytest.mark.parametrize("model", MODELS)
    def test_privileges_are_dropped_after_binding_and_for_good(self, model: str) -> None:
        """gotcha:PR1, gotcha:PR2, gotcha:PR5, perlipc:N15"""
        if os.getuid() != 0:
            pytest.skip("only root has something to drop")
        port = low_port()
        with running(f"tcp://127.0.0.1:{port}", model=model, user="nobody") as server:
            import pwd

            nobody = pwd.getpwnam("nobody")
            ids = server.ask("ids").split()
            assert ids[:6] == [str(nobody.pw_uid)] * 3 + [str(nobody.pw_gid)] * 3
            assert set(ids[6:]) <= {str(nobody.pw_gid)}
            assert server.ask("regain") == "refused\n"

    def test_a_user_that_does_not_exist_is_an_error_and_nobody_listens(self) -> None:
        """gotcha:PR1"""
        with pytest.raises(FileNotFoundError, match="no user 'nosuchuser'"):
            hp.serve("tcp://127.0.0.1:0", lambda client: None, user="nosuchuser")

    def test_a_child_has_neither_the_listener_nor_its_siblings(self) -> None:
        """gotcha:SRV2"""
        with running(model="fork") as server, server.connect() as other:
            print("echo x", file=other)
            other.readline()
            with server.connect() as client:
                print("pid", file=client)
                child = int(client.readline())
                held = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
                listening = listeners()
                assert not [each for each in held if each in listening]
                assert sum(each.startswith("socket:") for each in held) == 1
                assert not [each for each in held if "pidfd" in each]

    def test_a_child_of_one_of_several_listeners_has_its_client_and_no_place_of_another(self, tmp_path: Path) -> None:
        """gotcha:SRV2: each listener has a descriptor that will be the client's; a child needs one of them."""

        def held(client: hp.Connection[str]) -> None:
            files = list(own_files())
            peer = "nobody" if client.peer is None else client.peer.host
            print(files.count(os.readlink(f"/proc/self/fd/{client.fileno()}")), peer, files.count(polled), file=client)

        polled = "anon_inode:[eventpoll]"
        before = list(own_files()).count(polled)
        addresses = ["tcp://127.0.0.1:0", f"unix://{tmp_path}/s", "tcp://127.0.0.1:0"]
        with hp.Server(addresses, held, model="fork") as server:
            for address in (*server.addresses, *server.addresses):
                with hp.connect(address, timeout=PATIENCE) as client:
                    count, peer, polls = client.readline().split()
                assert (count, peer) == ("1", "nobody" if address.is_unix else "127.0.0.1")
                assert int(polls) - before <= 3  # the two of the loop, and the listener's


def own_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing
            yield os.readlink(f"/proc/self/fd/{fd}")


def low_port() -> int:
    for port in range(700, 1023):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def listeners() -> set[str]:
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name) as table:
            found |= {f"socket:[{row.split()[9]}]" for row in list(table)[1:] if row.split()[3] == "0A"}
    return found


class TestServiceManagers:
    def test_it_is_told_when_clients_are_served_and_when_it_stops(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(PATIENCE)
            with running(model="prefork", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
                assert manager.recv(100) == b"READY=1"
                server.signal("TERM")
                assert manager.recv(100) == b"STOPPING=1"

    def test_it_is_told_of_renewals_and_that_all_is_well(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(PATIENCE)
            env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
            with running(model="prefork", workers=1, env=env) as server:
                assert [manager.recv(100) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
                before = server.children()
                server.signal("HUP")
                said = [line for line in iter(lambda: manager.recv(100), b"READY=1") if line != b"WATCHDOG=1"]
                assert [line.partition(b"_USEC=")[0] for line in said] == [b"RELOADING=1\nMONOTONIC"]
                wait_until(lambda: not set(server.children()) & set(before), PATIENCE)

    def test_its_sockets_are_taken(self) -> None:
        """gotcha:PR5: whoever starts us may bind what we may not."""
        source = (
            "import os, hornpipe as hp\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
            "listener = hp.listen(passed='web')\n"
            "hp.serve(listener, lambda client: client.write('hello\\n'), model='prefork')\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as theirs:
            program = subprocess.Popen(
                [sys.executable, "-c", source], preexec_fn=lambda: os.dup2(theirs.fileno(), 3), pass_fds=[3]
            )
            try:
                assert hp.connect("tcp://{}:{}".format(*theirs.getsockname()), timeout=PATIENCE).read() == "hello\n"
            finally:
                program.terminate()
                program.wait(PATIENCE)


def test_an_error_before_anything_happens_names_what_is_wrong() -> None:
    def handler(client: hp.Connection[str]) -> None:
        raise AssertionError

    for options, text in (
        ({"model": "forks"}, "model must be one of inline, fork, prefork, thread, not 'forks'"),
        ({"workers": 2}, "workers= is not for model='fork'"),
        ({"model": "prefork", "max_clients": 2}, "max_clients= is not for model='prefork': workers= says it"),
        ({"max_clients": 0}, "max_clients must be a number, 1 or more"),
        ({"idle_timeout": -1}, "idle_timeout must be 0 or more seconds"),
        ({"newline": "\r"}, "newline must be"),
    ):
        with pytest.raises(ValueError, match=text.replace("(", r"\(")):
            hp.Server("tcp://127.0.0.1:0", handler, **options)
    with pytest.raises(TypeError, match="no option 'modell'"):
        hp.Server("tcp://127.0.0.1:0", handler, modell="fork")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="a handler is a callable"):
        hp.Server("tcp://127.0.0.1:0", "cat")  # type: ignore[arg-type]
    with pytest.raises(OSError) as caught, hp.listen("tcp://127.0.0.1:0") as taken:
        hp.serve(taken.address, handler)
    assert caught.value.errno == errno.EADDRINUSE
