"""HUP: a program that executes itself again, or reads its configuration again. Real programs, real HUPs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.pidfile import running
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import find_marked, look_at, pids, read_proc, wait_gone

PATIENCE = 30.0
SOAK = bool(os.environ.get("HORNPIPE_SOAK"))

PRELUDE = r"""
import json, os, select, signal, socket, sys
import hornpipe as hp

def status(name):
    with open("/proc/self/status") as file:
        signals = next(int(line.split()[1], 16) for line in file if line.startswith(name))
    # Not those that hornpipe keeps for itself, from when it first needs them: at a wait, or when a signal comes before
    # the handler of another one has returned.
    return signals & ~(1 << signal.SIGRTMAX - 1 | 1 << signal.SIGSTKFLT - 1)

def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\n")

def listener(name="http"):
    fd = hp.kept_descriptors().get(name)
    return socket.socket(fileno=fd) if fd is not None else socket.create_server(("127.0.0.1", 0))

def rest():
    while True:
        hp.signals.suspend()  # and not signal.pause(), which may begin just after a signal has been taken down
"""


class Program:
    """A running program that says what it has to say in lines of JSON."""

    def __init__(self, argv: list[Any], **options: Any) -> None:
        self.process = subprocess.Popen(
            list(map(os.fspath, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        self.pid = self.process.pid
        self._buffers = {self.process.stdout: b"", self.process.stderr: b""}

    def _line(self, stream: Any, patience: float = PATIENCE) -> bytes:
        deadline = time.monotonic() + patience
        while b"\n" not in self._buffers[stream]:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no line; so far {self._buffers!r}")
            data = os.read(stream.fileno(), 65536)
            if not data:
                errors = self._buffers[self.process.stderr] + (self.process.stderr.read() or b"")
                raise EOFError(f"the program has ended: {self.process.wait()}; {errors.decode()}")
            self._buffers[stream] += data
        line, _, self._buffers[stream] = self._buffers[stream].partition(b"\n")
        return line

    def says(self) -> dict[str, Any]:
        """The next thing it says."""
        return json.loads(self._line(self.process.stdout))

    def complains(self, text: str) -> None:
        """Wait until it has written this to its stderr."""
        seen = []
        try:
            while text not in (line := self._line(self.process.stderr).decode()):
                seen.append(line)
        except TimeoutError:
            pytest.fail(f"no {text!r} in {seen!r}")

    def tell(self, text: str) -> None:
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def hup(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def started(*argv: Any, **options: Any) -> Iterator[Program]:
    program = Program(list(argv), **options)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(source: str, name: str = "program.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(PRELUDE + source)
        fresh.replace(path)
        return path

    return write


SERVICE = r"""
s = listener()
started = dict(
    pid=os.getpid(), argv=sys.argv[1:], orig=sys.orig_argv, cwd=os.getcwd(), port=s.getsockname()[1],
    mood=os.environ.get("MOOD"), optimize=sys.flags.optimize, dev=sys.flags.dev_mode,
    told="HORNPIPE_RESTART" in os.environ,
)
os.environ["MOOD"] = "changed"
os.chdir("/")
hp.restart_on_hup(keep={"http": s})
say(**started)
rest()
"""


def check_that_it_restarts(program: Program, times: int = 3) -> dict[str, Any]:
    first = program.says()
    assert first["pid"] == program.pid
    for _ in range(times):
        program.hup()
        again = program.says()
        assert again["orig"][0] == sys.executable  # at first it may have been a bare name
        assert {**again, "orig": again["orig"][1:]} == {**first, "orig": first["orig"][1:]}
    with socket.create_connection(("127.0.0.1", first["port"]), timeout=PATIENCE):
        pass  # the listener is open, and still the same
    return first


class TestHoweverItWasStarted:
    """perlipc:D1, gotcha:H2."""

    def test_as_a_script(self, write):
        with started(sys.executable, write(SERVICE), "a b", "") as program:
            facts = check_that_it_restarts(program)
        assert facts["argv"] == ["a b", ""]
        assert not facts["told"]

    def test_by_a_relative_path_with_a_chdir_afterwards(self, write):
        """gotcha:H2: the program is in / when HUP comes, and its name means nothing there."""
        folder = write(SERVICE, "bin/service.py").parent.parent
        with started(sys.executable, "bin/service.py", cwd=folder) as program:
            facts = check_that_it_restarts(program)
        assert facts["cwd"] == str(folder)

    def test_with_options_of_the_interpreter(self, write):
        """gotcha:H2: sys.argv does not have them."""
        path = write(SERVICE)
        with started(sys.executable, "-OO", "-X", "dev", "-W", "error", path) as program:
            facts = check_that_it_restarts(program)
        assert facts["optimize"] == 2
        assert facts["dev"]

    @pytest.mark.parametrize("module", ["service", "package.service", "package"])
    def test_as_a_module(self, write, module):
        """gotcha:H2: sys.argv loses -m, and the folder in which it was found."""
        folder = write(SERVICE, "service.py").parent
        write("", "package/__init__.py")
        write(SERVICE, "package/service.py")
        write(SERVICE, "package/__main__.py")
        with started(sys.executable, "-m", module, "x", cwd=folder) as program:
            facts = check_that_it_restarts(program)
        assert facts["orig"][1:] == ["-m", module, "x"]

    @pytest.mark.parametrize("by", ["path", "relative", "absolute"])
    def test_as_a_console_script(self, write, by):
        script = write(SERVICE, "bin/service")
        script.write_text(f"#!{sys.executable}\n{script.read_text()}")
        script.chmod(0o755)
        name = {"path": "service", "relative": "bin/service", "absolute": script}[by]
        path = f"{script.parent}:{os.environ['PATH']}"
        with started("env", f"PATH={path}", name, "x", cwd=script.parent.parent) as program:
            facts = check_that_it_restarts(program)
        assert facts["argv"] == ["x"]

    def test_from_its_command_line(self):
        with started(sys.executable, "-c", PRELUDE + SERVICE, "x") as program:
            check_that_it_restarts(program)

    @pytest.mark.parametrize("arguments", [[], ["-"]])
    def test_what_was_read_from_stdin_cannot_be_started_again(self, arguments):
        """It says so at once, and not at the first HUP."""
        ended = subprocess.run(
            [sys.executable, *arguments], input=PRELUDE + SERVICE, capture_output=True, text=True, timeout=PATIENCE
        )
        assert ended.returncode == 1
        assert "RuntimeError: this program was read from standard input" in ended.stderr

    def test_the_environment_is_that_of_the_start(self, write):
        """gotcha:H2: what the program did to its environment is not done twice."""
        with started(sys.executable, write(SERVICE), env={**os.environ, "MOOD": "calm"}) as program:
            assert check_that_it_restarts(program)["mood"] == "calm"

    def test_in_another_virtual_environment_than_python_itself(self, write):
        """argv[0] of the first start may be a bare name, found in a PATH that means another Python now."""
        source = SERVICE.replace("os.chdir", "os.environ['PATH'] = '/nowhere'; os.chdir")
        folder = str(Path(sys.executable).parent)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        with started("env", "python", write(source), env=environment) as program:
            check_that_it_restarts(program, times=1)

    @pytest.mark.parametrize("sender", [["kill", "-HUP"], ["perl", "-e", "kill HUP => shift or die"]])
    def test_hup_from_other_programs(self, write, sender):
        with started(sys.executable, write(SERVICE)) as program:
            first = program.says()
            for _ in range(2):
                subprocess.run([*sender, str(program.pid)], check=True, timeout=PATIENCE)
                assert program.says() == first


class TestTheNextImage:
    def test_the_tenth_hup_works_like_the_first(self, write):
        """perlipc:D1, gotcha:H1: Perl's mask was 1 after the first; what was ignored stays so over an exec."""
        source = """
before = status("SigBlk")
hp.restart_on_hup(check=False)
facts = dict(blocked=status("SigBlk"), before=before, ignored=status("SigIgn"))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])
hp.SIG["USR1"] = hp.SIG["CHLD"] = "IGNORE"
hp.SIG["WINCH"] = lambda sig: None
say(**facts)
rest()
"""
        bit = 1 << signal.SIGHUP - 1
        with started(sys.executable, write(source)) as program:
            first = program.says()
            assert first["before"] == 0
            for _ in range(10):
                program.hup()
                assert program.says() == {**first, "before": bit}

    def test_what_whoever_started_it_had_ignored_stays_so(self, write):
        """gotcha:SIG16: a script's & has its jobs ignore INT, and the tenth image is still that job."""
        source = """
before = status("SigIgn")
hp.restart_on_hup(check=False)
children = hp.cmd("grep", "SigIgn", "/proc/self/status").read().split()[1]
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
say(before=before, children=int(children, 16))
rest()
"""
        bit = 1 << signal.SIGINT - 1
        with started("sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, write(source)) as program:
            first = program.says()
            assert (first["before"] & bit, first["children"]) == (bit, bit)
            for _ in range(2):
                program.hup()
                assert program.says() == first

    def test_its_children_have_an_empty_mask(self, write):
        """gotcha:H1: HUP is blocked until the handler stands, but not in what is started before."""
        source = """
mask = hp.cmd("grep", "SigBlk", "/proc/self/status").read().split()[1]
hp.restart_on_hup(check=False)
say(mask=int(mask, 16))
rest()
"""
        with started(sys.executable, write(source)) as program:
            for _ in range(2):
                assert program.says() == {"mask": 0}
                program.hup()

    def test_a_hup_during_its_start_waits(self, write):
        """gotcha:H1: with a clean mask it would be deadly. It is not lost either: the next image comes by itself."""
        source = """
say(starting=True)
sys.stdin.buffer.raw.readline()
hp.restart_on_hup(check=False)
say(up=True)
rest()
"""
        with started(sys.executable, write(source)) as program:
            assert program.says() == {"starting": True}
            program.tell("go")
            assert program.says() == {"up": True}
            program.hup()
            assert program.says() == {"starting": True}
            for _ in range(60):
                program.hup()
            program.tell("go")
            while (said := program.says()) != {"starting": True}:
                assert said == {"up": True}
            program.tell("go")
            assert program.says() == {"up": True}
            assert program.process.poll() is None

    def test_hups_that_come_faster_than_it_starts_keep_service_waiting_and_lose_nobody(self, write):
        """gotcha:H1: without a rehearsal, during which service goes on; who has come by then waits at the listener."""
        source = """
s = listener()
say(port=s.getsockname()[1])
sys.stdin.buffer.raw.readline()
hp.restart_on_hup(keep={"http": s}, check=False)
say(up=True)
client, _ = s.accept()
client.send(b"served\\n")
rest()
"""
        with started(sys.executable, write(source)) as program:
            port = program.says()["port"]
            program.tell("go")
            assert program.says() == {"up": True}
            program.hup()
            assert program.says() == {"port": port}
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                for _ in range(5):
                    for _ in range(10):
                        program.hup()
                    program.tell("go")
                    assert program.says() == {"port": port}
                program.tell("go")
                assert program.says() == {"up": True}
                assert client.makefile().readline() == "served\n"

    @pytest.mark.parametrize("check", [True, False])
    def test_sixty_hups_in_a_burst_are_survived(self, write, check):
        """perlipc:D1, gotcha:H1"""
        source = f"hp.restart_on_hup(check={check})\nsay(pid=os.getpid())\nrest()\n"
        with started(sys.executable, write(source)) as program:
            assert program.says() == {"pid": program.pid}
            for _ in range(60):
                program.hup()
            assert program.says() == {"pid": program.pid}
            program.hup()
            assert program.says() == {"pid": program.pid}

    @pytest.mark.parametrize("meanwhile", ["pass", "import gc; gc.freeze()"])
    def test_what_was_written_is_written(self, write, tmp_path, meanwhile):
        """gotcha:H3: an exec flushes nothing; and a server that forks freezes its heap, which hides the files in it."""
        source = """
out = open(sys.argv[1], "a")
raw = open(sys.argv[1] + ".raw", "ab")
out.write("text\\n")
raw.write(b"bytes\\n")
print('{"printed": true}')
hp.restart_on_hup(check=False)
MEANWHILE
os.kill(os.getpid(), signal.SIGHUP) if os.fstat(out.fileno()).st_size == 0 else say(done=True)
rest()
"""
        target = tmp_path / "out"
        with started(sys.executable, write(source.replace("MEANWHILE", meanwhile)), target) as program:
            assert program.says() == {"printed": True}
            assert program.says() == {"done": True}
            assert target.read_text() == "text\n"
            assert (tmp_path / "out.raw").read_text() == "bytes\n"

    @pytest.mark.parametrize("check", [True, False])
    def test_it_does_not_come_in_the_middle_of_a_line(self, write, check):
        """gotcha:H3: it waits for room, and HUP finds the stream busy: the rest of the line is in nobody's reach."""
        source = f"""
hp.restart_on_hup(check={check})
first = True
while True:
    sys.stdout.write(json.dumps(dict(first=first, filling="x" * 300_000)) + "\\n")
    first = False
"""
        with started(sys.executable, write(source)) as program:
            # Nobody has read yet, so it is in the middle of the first or the second line.
            wait_until(lambda: look_at(program.pid).state == "S", what="the pipe to be full")
            program.hup()
            if check:
                wait_until(lambda: rehearsal_of(program), PATIENCE, "the rehearsal")
                wait_until(lambda: not rehearsal_of(program), PATIENCE, "its end")
            images = 0
            while images < 2:
                images += program.says()["first"]

    def test_timers_do_not_strike_it(self, write):
        """gotcha:H3: an alarm survives an exec, and its handler does not."""
        source = """
kinds = [signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF]
left = [signal.getitimer(kind) for kind in kinds]
hp.restart_on_hup(check=False)
for kind in kinds:
    signal.setitimer(kind, 1000)
say(left=left)
rest()
"""
        with started(sys.executable, write(source)) as program:
            first = program.says()
            program.hup()
            assert program.says() == first == {"left": [[0.0, 0.0]] * 3}

    def test_a_time_limit_that_runs_out_just_then_is_not_its_end(self, write):
        """gotcha:H3: the clock signal of hp.alarm, pending over the change of dispositions, would meet the default."""
        source = """
hp.restart_on_hup(check=False)
say(up=True)
while True:
    with contextlib.suppress(TimeoutError), hp.alarm(0.0005):
        rest()
"""
        with started(sys.executable, write(f"import contextlib\n{source}")) as program:
            for _ in range(10):
                assert program.says() == {"up": True}
                program.hup()
            assert program.says() == {"up": True}

    def test_what_another_handler_raises_meanwhile_does_not_make_it_forget(self, write):
        """perlipc:S9, gotcha:H1: whoever sent the HUP would wait for ever."""
        source = """
def fail(sig):
    say(failing=True)
    raise LookupError

hp.SIG["USR1"] = fail
hp.restart_on_hup(check=False)
say(up=True)
while True:
    with contextlib.suppress(LookupError):
        rest()
"""
        with started(sys.executable, write(f"import contextlib\n{source}")) as program:
            assert program.says() == {"up": True}
            program.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: look_at(program.pid).state == "T", what="the stop")
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT):
                program.process.send_signal(number)
            assert program.says() == {"failing": True}
            assert program.says() == {"up": True}

    def test_it_reaps_the_children_of_the_one_before(self, write):
        """gotcha:H3: those that are dead already, and those that end later; whoever started them."""
        source = """
import subprocess
import hornpipe.image
hp.restart_on_hup(check=False)
if not hp.image.restarted():
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    living = subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE)
    ours = hp.cmd("sh", "-c", "kill -STOP $$").start()
    os.waitid(os.P_PID, ours.pid, os.WSTOPPED | os.WNOWAIT)
    say(dead=dead.pid, living=living.pid, ours=ours.pid)
else:
    say(again=True)
rest()
"""
        with started(sys.executable, write(source)) as program:
            children = program.says()
            try:
                assert look_at(children["dead"]).is_zombie
                program.hup()
                assert program.says() == {"again": True}
                wait_until(lambda: look_at(children["dead"]) is None, what="the dead child to be reaped")
                # Its stdin was the old image's, and has been closed by the exec.
                wait_until(lambda: look_at(children["living"]) is None, what="the child that ended to be reaped")
                assert look_at(children["ours"]).state == "T"
            finally:
                os.kill(children["ours"], signal.SIGKILL)
            wait_until(lambda: look_at(children["ours"]) is None, what="the killed child to be reaped")

    def test_it_has_the_kept_descriptors_and_no_other(self, write):
        """gotcha:H4: not even those that were meant for children."""
        source = """
before = sorted(map(int, os.listdir("/proc/self/fd")))
r, w = os.pipe()
os.set_inheritable(w, True)
s = listener("one, two")
raw = hp.kept_descriptors().get("raw") or os.open("/dev/zero", os.O_RDONLY)
closed = socket.socket()
hp.restart_on_hup(keep={"one, two": s, "raw": raw, "closed": closed}, check=False)
closed.close()
kept = hp.kept_descriptors()
say(kept=kept, name=s.getsockname()[1], closes=[not os.get_inheritable(fd) for fd in kept.values()],
    same=sorted({*before} - {*kept.values()}), inheritable=os.get_inheritable(s.fileno()),
    zero=os.read(raw, 1) == b"\\0")
rest()
"""
        with started(sys.executable, write(source)) as program:
            first = program.says()
            assert first["kept"] == {}
            for _ in range(3):
                program.hup()
                facts = program.says()
                assert set(facts["kept"]) == {"one, two", "raw"}
                assert facts["closes"] == [True, True]
                assert facts["same"] == first["same"]
                assert facts["name"] == first["name"]
                assert facts["zero"]
                assert not facts["inheritable"]

    def test_a_standard_stream_may_be_kept_as_well(self, write):
        """gotcha:H4: it is passed on whatever its name, and not made close-on-exec by the one that finds it."""
        source = """
hp.restart_on_hup(keep={"input": 0}, check=False)
say(kept=hp.kept_descriptors(), read=sys.stdin.buffer.raw.readline().decode())
rest()
"""
        with started(sys.executable, write(source)) as program:
            program.tell("1")
            assert program.says() == {"kept": {}, "read": "1\n"}
            for line in "23":
                program.tell(line)
                program.hup()
                assert program.says() == {"kept": {"input": 0}, "read": f"{line}\n"}

    def test_a_descriptor_that_is_not_open_is_refused_at_once(self):
        with pytest.raises(OSError, match="Bad file descriptor"):
            hp.restart_on_hup(keep={"x": 9999})
        with pytest.raises(ValueError, match="line feed"):
            hp.restart_on_hup(keep={"x\ny": 0})
        with pytest.raises(TypeError, match="check must be"):
            hp.restart_on_hup(check="true")
        assert hp.SIG["HUP"] == "DEFAULT"

    def test_only_the_main_thread_may_ask_for_it(self):
        caught: list[Exception] = []

        def ask(function: Callable[[], None]) -> None:
            try:
                function()
            except ValueError as error:
                caught.append(error)

        for function in (hp.restart_on_hup, lambda: hp.on_hup(lambda: None)):
            thread = threading.Thread(target=ask, args=(function,))
            thread.start()
            thread.join()
        assert len(caught) == 2

    def test_a_forked_worker_does_not_restart(self, write):
        source = """
hp.restart_on_hup(check=False)
hp.SIG["USR1"] = lambda sig: say(worker=os.getpid() != parent)
parent = os.getpid()
if not os.fork():
    say(worker=os.getpid())
rest()
"""
        with started(sys.executable, write(source)) as program:
            worker = program.says()["worker"]
            try:
                os.kill(worker, signal.SIGHUP)
                os.kill(worker, signal.SIGUSR1)
                assert program.says() == {"worker": True}
            finally:
                os.kill(worker, signal.SIGKILL)


FLEXIBLE = r"""
s = listener()
{before}
hp.restart_on_hup(keep={{"http": s}}, {options})
{after}
say(pid=os.getpid(), generation={generation})
while True:
    client, _ = s.accept()
    client.send(b"generation {generation}\n")
    client.close()
"""


def flexible(generation: int, before: str = "", options: str = "", after: str = "") -> str:
    return FLEXIBLE.format(before=before, options=options, after=after, generation=generation)


def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        return client.makefile().readline().strip()


def ports_of(pid: int) -> list[int]:
    """The ports on which it listens, as the kernel has it."""
    inodes = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


def port_of(pid: int) -> int:
    (port,) = ports_of(pid)
    return port


class TestTheRehearsal:
    """gotcha:H3: the old program gives way only to one that comes up."""

    @pytest.mark.parametrize(
        ("broken", "reason", "words"),
        [
            ("raise RuntimeError('broken by hand')", "failed: exited with code 1", "RuntimeError: broken by hand"),
            ("def f(:", "failed: exited with code 1", "SyntaxError"),
            ("sys.exit(0)", "ended before it had come up", None),
            ("os.kill(os.getpid(), 9)", "failed: killed by KILL", None),
            ("os.closerange(0, 100); rest()", "closed its standard error, and went on", None),
            ("say(noise=1); rest()", "had not come up within 1 s", None),
        ],
    )
    def test_a_program_that_does_not_come_up_changes_nothing(self, write, broken, reason, words):
        """perlipc:D1, gotcha:H3: service goes on, it says why, and the repaired program is started."""
        path = write(flexible(1, options="timeout=1" if "noise" in broken else ""))
        with started(sys.executable, path) as program:
            assert program.says()["generation"] == 1
            port = port_of(program.pid)
            write(flexible(2, before=broken))
            program.hup()
            program.complains(f"not restarted, and going on as before: the rehearsal {reason}")
            if words is not None:
                program.complains(words)
            assert ask(port) == "generation 1"
            write(flexible(3))
            program.hup()
            assert program.says() == {"pid": program.pid, "generation": 3}
            assert ask(port) == "generation 3"

    def test_service_goes_on_while_it_lasts(self, write):
        """gotcha:H3: the handler of HUP waits for nothing, however slow the new program is."""
        path = write(flexible(1))
        with started(sys.executable, path) as program:
            program.says()
            port = port_of(program.pid)
            write(flexible(2, before="b = socket.create_server(('127.0.0.1', 0)); b.accept()"))
            program.hup()
            gate = wait_until(lambda: gate_of(program, port), PATIENCE, "the rehearsal's set-up")
            assert ask(port) == "generation 1"
            # The one that is started for good waits at its gate too.
            with socket.create_connection(("127.0.0.1", gate)):
                gate = wait_until(lambda: next((p for p in ports_of(program.pid) if p != port), None), PATIENCE, "exec")
                with socket.create_connection(("127.0.0.1", gate)):
                    assert program.says() == {"pid": program.pid, "generation": 2}
            assert ask(port) == "generation 2"

    def test_a_hup_that_comes_meanwhile_is_about_a_newer_program(self, write):
        """The rehearsal may have read what was repaired only then: it fails, and is held again."""
        path = write(flexible(1))
        with started(sys.executable, path) as program:
            program.says()
            port = port_of(program.pid)
            write(flexible(2, before="b = socket.create_server(('127.0.0.1', 0)); b.accept(); sys.exit(5)"))
            program.hup()
            gate = wait_until(lambda: gate_of(program, port), PATIENCE, "the rehearsal's set-up")
            write(flexible(3))
            program.hup()
            assert ask(port) == "generation 1"  # after this connection the handler has run
            with socket.create_connection(("127.0.0.1", gate)):
                assert program.says() == {"pid": program.pid, "generation": 3}

    def test_a_hup_beside_news_of_the_rehearsal_is_not_taken_for_such(self, write, tmp_path):
        """gotcha:H1: both wait because HUP is blocked; of two for the process the kernel would keep the first."""
        gate = tmp_path / "gate"
        source = f"""
hp.restart_on_hup(check=hp.cmd("sh", "-c", "read line <'{gate}'; exit 3"))
say(up=True)
while line := sys.stdin.buffer.raw.readline().strip():
    signal.pthread_sigmask(signal.SIG_BLOCK if line == b"block" else signal.SIG_UNBLOCK, [signal.SIGHUP])
    say(did=line.decode())
"""
        with hp.Fifo(gate) as fifo, started(sys.executable, write(source)) as program:

            def let_it_end() -> None:
                fifo.writer(timeout=PATIENCE).close()

            def pending(name: bytes) -> bool:
                line = next(line for line in read_proc(program.pid, "status").splitlines() if line.startswith(name))
                return bool(int(line.split()[1], 16) & 1 << signal.SIGHUP - 1)

            assert program.says() == {"up": True}
            program.hup()
            wait_until(lambda: rehearsal_of(program), PATIENCE, "the rehearsal")
            program.tell("block")
            assert program.says() == {"did": "block"}
            let_it_end()
            wait_until(lambda: pending(b"SigPnd"), PATIENCE, "the news")
            program.hup()
            wait_until(lambda: pending(b"ShdPnd"), PATIENCE, "the HUP")
            program.tell("open")
            program.complains("the rehearsal failed: exited with code 3")
            let_it_end()
            program.complains("the rehearsal failed: exited with code 3")

    def test_one_hup_is_one_rehearsal(self, write):
        """Its words and its end are two signals, both taken down while Python is in a long call of C."""
        source = """
hp.restart_on_hup()
hp.SIG["USR1"] = lambda sig: say(counted=True)
say(up=True)
while True:
    sum(range(3 * 10**7))
"""
        with started(sys.executable, write(source)) as program:
            program.says()
            write("raise SystemExit('broken')")
            for _ in range(2):
                program.hup()
                program.complains("broken")
                os.kill(program.pid, signal.SIGUSR1)
                assert program.says() == {"counted": True}
                assert rehearsal_of(program) == []

    def test_killed_in_the_middle_it_leaves_no_rehearsal_behind(self, write):
        path = write(flexible(1))
        with started(sys.executable, path) as program:
            program.says()
            write(flexible(2, before="rest()"))
            program.hup()
            slow = wait_until(lambda: rehearsals(program), PATIENCE, "the rehearsal")
            program.end(signal.SIGKILL)
            assert wait_gone(slow) == []

    def test_it_does_not_see_that_it_is_another_process(self, write):
        """The kept descriptors, arguments, directory and options are those of the restart; stdin and stdout are not.

        And it tidies nothing up: what it would remove is the running program's.
        """
        source = """
s = listener()
facts = [s.getsockname()[1], sys.orig_argv, os.getcwd(), sys.flags.dev_mode, sorted(os.environ)]
with open("seen", "a") as file:
    print(json.dumps(facts), file=file)
print("a banner", sys.stdin.read(1) if hp.image.rehearsal else "")
here = os.getcwd()
atexit.register(lambda: os.unlink(here + "/seen"))
os.chdir("/")
hp.restart_on_hup(keep={"http": s})
say(up=True)
rest()
"""
        path = write("import atexit, hornpipe.image\n" + source)
        with started(sys.executable, "-u", "-X", "dev", path.name, "x", cwd=path.parent) as program:
            for round_ in range(2):
                assert program._line(program.process.stdout).strip() == b"a banner"
                assert program.says() == {"up": True}
                if not round_:
                    program.hup()
            lines = (path.parent / "seen").read_text().splitlines()
        assert len(lines) == 3  # the start, the rehearsal, the restart
        assert len(set(lines)) == 1

    def test_another_command_can_take_its_place(self, write, tmp_path):
        flag = tmp_path / "flag"
        flag.touch()
        path = write(flexible(1, options=f"check=hp.cmd('rm', {str(flag)!r})"))
        with started(sys.executable, path) as program:
            program.says()
            program.hup()
            assert program.says() == {"pid": program.pid, "generation": 1}
            program.hup()
            program.complains("not restarted, and going on as before: the rehearsal failed: exited with code 1")
            flag.touch()
            program.hup()
            assert program.says() == {"pid": program.pid, "generation": 1}

    def test_a_command_that_is_not_there_changes_nothing(self, write):
        path = write(flexible(1, options="check=hp.cmd('/nowhere/at/all')"))
        with started(sys.executable, path) as program:
            program.says()
            port = port_of(program.pid)
            program.hup()
            program.complains("not restarted, and going on as before: ")
            assert ask(port) == "generation 1"


def gate_of(program: Program, port: int) -> int | None:
    """The other port on which a rehearsal listens."""
    ports = {each for pid in rehearsals(program) for each in ports_of(pid)}
    return next(iter(ports - {port}), None)


def rehearsal_of(program: Program) -> list[int]:
    """The children that it has: only while it rehearses."""
    return [pid for pid in pids() if (seen := look_at(pid)) and seen.parent == program.pid]


def rehearsals(program: Program) -> list[int]:
    """The processes that run the same command line beside it."""
    mine = read_proc(program.pid, "cmdline")
    found = find_marked(os.fsdecode(mine.split(b"\0")[1]))
    return [pid for pid in found if pid != program.pid and read_proc(pid, "cmdline") == mine]


class TestAFailingExec:
    def test_service_goes_on_as_it_was(self, tmp_path, write):
        """gotcha:H3: Python itself has gone. Nothing of the preparations is left, and the next HUP works."""
        source = """
os.environ["MOOD"] = "set"
r, w = os.pipe()
os.set_inheritable(w, True)
s = listener()
hp.restart_on_hup(keep={"http": s}, check=False)
hp.SIG["USR1"] = "IGNORE"
hp.SIG["USR2"] = lambda sig: say(
    cwd=os.getcwd(), blocked=status("SigBlk"), ignored=status("SigIgn"), caught=status("SigCgt"),
    passed=[os.get_inheritable(s.fileno()), os.get_inheritable(w)], timer=signal.getitimer(signal.ITIMER_REAL)[1],
)
signal.setitimer(signal.ITIMER_REAL, 1000, 500)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
os.chdir("/")
say(up=True)
rest()
"""
        folder = tmp_path / "python"
        folder.mkdir()
        home = Path(sys.executable).parent.parent
        for name in ("lib", "pyvenv.cfg"):
            (folder / name).symlink_to(home / name)
        python = folder / "bin" / "python"
        python.parent.mkdir()
        python.symlink_to(os.path.realpath(sys.executable))
        with started(python, write(source)) as program:
            assert program.says() == {"up": True}
            os.kill(program.pid, signal.SIGUSR2)
            before = program.says()
            assert before["passed"] == [False, True]
            assert before["timer"] == 500
            python.rename(folder / "elsewhere")
            for _ in range(2):
                program.hup()
                program.complains("not restarted, and going on as before: the exec failed: [Errno 2]")
                os.kill(program.pid, signal.SIGUSR2)
                assert program.says() == before
            (folder / "elsewhere").rename(python)
            program.hup()
            assert program.says() == {"up": True}

    def test_a_directory_that_has_gone_is_reason_enough_to_stay(self, write):
        """gotcha:H2"""
        folder = write(SERVICE.replace("hp.restart_on_hup(", "hp.restart_on_hup(check=False, "), "in/service.py").parent
        with started(sys.executable, "service.py", cwd=folder) as program:
            first = program.says()
            folder.rename(folder.with_name("out"))
            program.hup()
            program.complains("the exec failed: [Errno 2]")
            with socket.create_connection(("127.0.0.1", first["port"]), timeout=PATIENCE):
                pass
            folder.with_name("out").rename(folder)
            program.hup()
            assert program.says() == first


class TestBadMoments:
    @pytest.mark.soak
    @pytest.mark.parametrize(
        "how",
        [
            "hp.SIG['TERM'] = lambda sig: os._exit(7)",
            "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))",
            "hp.signals.unwind('TERM')",
            "watch = hp.watch('TERM'); watch.__enter__()",
        ],
        ids=["SIG", "signal", "unwind", "watch"],
    )
    def test_a_term_beside_a_hup_is_not_lost(self, write, how):
        """gotcha:H1: taken down and not yet handled, it would go with the old image; whoever sent it waits for ever."""
        source = f"""
{how}
hp.restart_on_hup(check=False)
say(up=True)
rest()
"""
        path = write(source)
        for round_ in range(40 if SOAK else 8):
            with started(sys.executable, path) as program:
                program.says()
                both = [signal.SIGHUP, signal.SIGTERM]
                if round_ % 2:
                    # Both are there when it goes on: taken down one after the other, before Python sees either.
                    os.kill(program.pid, signal.SIGSTOP)
                    wait_until(lambda pid=program.pid: look_at(pid).state == "T", what="the stop")
                for number in both:
                    os.kill(program.pid, number)
                os.kill(program.pid, signal.SIGCONT)
                if "watch" in how:
                    # Nobody takes it out of the watch of an image that is not restarted after all.
                    assert program.process.wait(PATIENCE) == -signal.SIGTERM
                else:
                    assert program.process.wait(PATIENCE) in (7, -signal.SIGTERM)

    @pytest.mark.parametrize("leaving", ["sys.exit(7)", "hp.kill('TERM', os.getpid())"])
    def test_a_program_that_ends_is_not_brought_back_to_life(self, write, leaving):
        """A HUP after it has begun to leave: the one who stopped it would find it running again."""
        source = f"""
import atexit
hp.signals.unwind("TERM")
atexit.register(lambda: say(leaving=os.kill(os.getpid(), signal.SIGHUP)))
if hp.kept_descriptors():
    say(again=True)
hp.restart_on_hup(check=False, keep={{"any": 0}})
try:
    {leaving}
finally:
    "TERM" in {leaving!r} and os.kill(os.getpid(), signal.SIGHUP)
"""
        with started(sys.executable, write(source)) as program:
            assert program.says() == {"leaving": None}
            assert program.process.wait(PATIENCE) == (7 if "exit" in leaving else -signal.SIGTERM)
            assert program.process.stdout.read() == b""

    @pytest.mark.soak
    def test_no_connection_is_lost(self, write):
        """perlipc:D1, gotcha:H4: HUP every 100 ms under full load; it is held back while a client is served."""
        source = """
s = listener()
hp.restart_on_hup(keep={"http": s}, check=False)
s.setblocking(False)
say(port=s.getsockname()[1])
poll = select.poll()
poll.register(s, select.POLLIN)
while True:
    poll.poll()
    with hp.signals.block("HUP"):
        try:
            client, _ = s.accept()
        except BlockingIOError:
            continue
        client.setblocking(True)
        with client:
            client.sendall(client.recv(100))
"""
        with started(sys.executable, write(source)) as program:
            port = program.says()["port"]
            served, lost = [0, 0], []
            enough = threading.Event()

            def client(number: int) -> None:
                while not enough.is_set() and not lost:
                    try:
                        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                            connection.sendall(b"hello")
                            assert connection.recv(100) == b"hello"
                            served[number] += 1
                    except (OSError, AssertionError) as error:
                        lost.append(error)

            clients = [threading.Thread(target=client, args=(number,)) for number in range(2)]
            for each in clients:
                each.start()
            try:
                for _ in range(100 if SOAK else 8):
                    before = list(served)
                    enough.wait(0.1)
                    program.hup()
                    assert program.says() == {"port": port}
                    # Each of them by this image or the one before, however busy the machine is.
                    answered = wait_until(lambda b=before: lost or all(map(int.__lt__, b, served)), PATIENCE)
                    assert answered is True
            finally:
                enough.set()
                for each in clients:
                    each.join()
            assert lost == []


class TestOnHup:
    """perlipc:D2"""

    SOURCE = """
def reload():
    with open(sys.argv[1]) as file:
        text = file.read()
    if "exit" in text:
        sys.exit("the file is no good")
    global config
    config = json.loads(text)
    say(config=config)
config = None
reload()
hp.on_hup(reload)
hp.SIG["USR1"] = lambda sig: say(pid=os.getpid(), config=config)
say(up=True)
rest()
"""

    def test_the_configuration_is_read_again(self, write, tmp_path):
        """perlipc:D2: without stopping, each time."""
        file = tmp_path / "config"
        file.write_text("0")
        with started(sys.executable, write(self.SOURCE), file) as program:
            assert [program.says(), program.says()] == [{"config": 0}, {"up": True}]
            for number in range(1, 12):
                file.write_text(str(number))
                program.hup()
                assert program.says() == {"config": number}
                os.kill(program.pid, signal.SIGUSR1)
                assert program.says() == {"pid": program.pid, "config": number}

    @pytest.mark.parametrize("broken", ["{nonsense", "exit"])
    def test_a_broken_configuration_changes_nothing(self, write, tmp_path, broken):
        """perlipc:D2, gotcha:H3: it is logged with its traceback, and the next HUP works."""
        file = tmp_path / "config"
        file.write_text("1")
        with started(sys.executable, write(self.SOURCE), file) as program:
            assert [program.says(), program.says()] == [{"config": 1}, {"up": True}]
            file.write_text(broken)
            program.hup()
            program.complains("the configuration stays as it was: reading it again failed")
            program.complains("in reload")
            program.complains("JSONDecodeError" if broken != "exit" else "SystemExit: the file is no good")
            os.kill(program.pid, signal.SIGUSR1)
            assert program.says()["config"] == 1
            file.write_text("2")
            program.hup()
            assert program.says() == {"config": 2}

    def test_what_ends_the_programs_work_meanwhile_is_no_end_of_it(self, write):
        """gotcha:H3: what a time limit raises, for example, is about the interrupted work; the reading begins anew."""
        source = """
class Over(BaseException):
    pass

def over(sig):
    raise Over

def reload():
    say(reading=True)
    sys.stdin.buffer.raw.readline()
    say(read=True)

hp.SIG["USR1"] = over
hp.on_hup(reload)
try:
    say(up=True)  # HUP may come before this has returned
    rest()
except Over:
    say(over=True)
"""
        with started(sys.executable, write(source)) as program:
            program.says()
            program.hup()
            assert program.says() == {"reading": True}
            os.kill(program.pid, signal.SIGUSR1)
            assert program.says() == {"reading": True}
            program.tell("go")
            assert [program.says(), program.says()] == [{"read": True}, {"over": True}]

    def test_a_term_while_it_is_read_is_obeyed(self, write):
        source = """
hp.signals.unwind("TERM")
hp.on_hup(lambda: (say(reading=True), rest()))
say(up=True)
rest()
"""
        with started(sys.executable, write(source)) as program:
            program.says()
            program.hup()
            assert program.says() == {"reading": True}
            assert program.end() == -signal.SIGTERM


DAEMON = r"""
import pathlib
folder = pathlib.Path(sys.argv[1])
was = os.getcwd()
daemon = hp.daemonize(pidfile=folder / "pid", stderr=folder / "log", keep=[int(sys.argv[2])])
s = listener()
{before}
hp.restart_on_hup(keep={{"http": s, "news": int(sys.argv[2])}}{options})
def report():
    facts = dict(
        pid=os.getpid(), generation={generation}, cwd=os.getcwd(), was=was, session=os.getsid(0),
        port=s.getsockname()[1], descriptors=sorted(os.readlink(f"/proc/self/fd/{{n}}") for n in [0, 1, 2]),
        supervised=daemon.supervised, blocked=status("SigBlk"),
    )
    os.write(int(sys.argv[2]), json.dumps(facts).encode() + b"\n")
{between}
daemon.ready()
report()
rest()
"""


def daemon(generation: int, before: str = "", options: str = "", between: str = "") -> str:
    return DAEMON.format(generation=generation, before=before, options=options, between=between)


class News:
    """What a daemon reports, and its end."""

    def __init__(self, reader: int) -> None:
        self._stream = open(reader, "rb", buffering=0)  # noqa: SIM115
        self.pid = 0

    def get(self) -> dict[str, Any]:
        assert select.select([self._stream], [], [], PATIENCE)[0], "no news"
        facts = json.loads(self._stream.readline())
        self.pid = facts["pid"]
        return facts

    def close(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            wait_gone([self.pid])
        self._stream.close()


@contextlib.contextmanager
def daemonized(path: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], News]]:
    r, w = os.pipe()
    news = News(r)
    command = [sys.executable, path, folder, str(w)]
    environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "INVOCATION_ID")}
    starter = subprocess.Popen(command, pass_fds=[w], env=environment, stderr=subprocess.PIPE)
    os.close(w)
    try:
        yield starter, news
    finally:
        news.close()
        starter.communicate()


class TestADaemon:
    def test_it_stays_one(self, write, tmp_path):
        """perlipc:D1, gotcha:H2, DM4: no second fork; its pidfile is locked at every moment; ready() does no harm."""
        path = write(daemon(1))
        with daemonized(path, tmp_path) as (starter, news):
            first = news.get()
            assert starter.wait(PATIENCE) == 0
            assert first["session"] != first["pid"]
            assert first["cwd"] == "/"
            lost: list[int | None] = []
            ended = threading.Event()

            def watch_the_lock() -> None:
                while not ended.is_set():
                    holder = running(tmp_path / "pid")
                    if holder != first["pid"]:
                        lost.append(holder)

            watcher = threading.Thread(target=watch_the_lock)
            watcher.start()
            try:
                for generation in range(2, 5):
                    write(daemon(generation))
                    os.kill(first["pid"], signal.SIGHUP)
                    assert news.get() == {**first, "generation": generation}
            finally:
                ended.set()
                watcher.join()
            assert lost == []
            again = subprocess.run(
                [sys.executable, path, tmp_path, "1"], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert again.returncode == 1
            assert f"AlreadyRunning: [Errno 17] process {first['pid']} is running already" in again.stderr
        assert running(tmp_path / "pid") is None

    def test_what_was_in_a_file_that_it_has_lost_goes_into_no_other(self, write, tmp_path):
        """gotcha:DM3: the number of a file that daemonize has closed is soon another file's."""
        opened = "{0} = [open(name, 'a') for name in {1}]\nfor file in {0}: file.write('{0}\\n')\n"
        names = {kind: [str(tmp_path / f"{kind}{number}") for number in range(20)] for kind in ("lost", "own")}
        lost, own = (opened.format(kind, names[kind]) for kind in names)
        path = write(lost + daemon(1, between=own, options=", check=False"))
        with daemonized(path, tmp_path) as (_, news):
            first = news.get()
            os.kill(first["pid"], signal.SIGHUP)
            news.get()
            assert [Path(name).read_text() for name in names["own"]] == ["own\n"] * 20

    def test_a_broken_one_does_not_take_its_place(self, write, tmp_path):
        """gotcha:H3: the rehearsal leaves pidfile and log file alone; why it failed is in the log file."""
        path = write(daemon(1))
        with daemonized(path, tmp_path) as (_, news):
            first = news.get()
            write(daemon(2, before="raise RuntimeError('not yet')"))
            os.kill(first["pid"], signal.SIGHUP)
            log = tmp_path / "log"
            wait_until(lambda: "RuntimeError: not yet" in log.read_text(), PATIENCE, "the log")
            assert "not restarted, and going on as before: the rehearsal failed: exited with code 1" in log.read_text()
            assert running(tmp_path / "pid") == first["pid"]
            write(daemon(3))
            os.kill(first["pid"], signal.SIGHUP)
            assert news.get() == {**first, "generation": 3}

    def test_its_log_file_is_opened_again(self, write, tmp_path):
        """HUP is what a log's rotation sends."""
        path = write(daemon(1, between="print('generation', 1 + hp.image.restarted(), file=sys.stderr)"))
        path.write_text(f"import hornpipe.image\n{path.read_text()}")
        with daemonized(path, tmp_path) as (_, news):
            first = news.get()
            (tmp_path / "log").rename(tmp_path / "log.1")
            os.kill(first["pid"], signal.SIGHUP)
            assert news.get() == first
            assert (tmp_path / "log").read_text() == "generation 2\n"

    def test_a_hup_before_it_is_ready_leaves_the_starter_waiting(self, write, tmp_path):
        """gotcha:DM2: its starter hears ready() from the next image, and what that says to stderr until then."""
        between = """
if {restarted}:
    print("second thoughts", file=sys.stderr, flush=True)
else:
    report()
    rest()
"""
        path = write(daemon(1, between=between.format(restarted="hp.kept_descriptors()"), options=", check=False"))
        with daemonized(path, tmp_path) as (starter, news):
            first = news.get()
            assert starter.poll() is None
            os.kill(first["pid"], signal.SIGHUP)
            news.get()
            assert starter.wait(PATIENCE) == 0
            assert starter.stderr.read() == b"second thoughts\n"
            assert str(tmp_path / "log") in os.readlink(f"/proc/{first['pid']}/fd/2")

    def test_the_order_is_checked(self, write, tmp_path):
        """Before the forks it would be about a process that is gone."""
        source = "hp.restart_on_hup()\nhp.daemonize()\n"
        ended = subprocess.run(
            [sys.executable, write(source)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert "RuntimeError: daemonize() forks" in ended.stderr


class TestUnderAServiceManager:
    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(PATIENCE)
            yield manager

    def told(self, manager: socket.socket) -> dict[str, str]:
        return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())

    def test_it_is_told_of_the_restart(self, write, tmp_path, manager):
        """gotcha:DM6: RELOADING with its time, then READY; the rehearsal tells it nothing."""
        source = """
from hornpipe.supervision import notify
notify(STATUS="starting")
daemon = hp.daemonize()
hp.restart_on_hup()
daemon.ready()
say(pid=os.getpid(), ours=daemon.supervised)
rest()
"""
        path = write(source)
        with started(sys.executable, path, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as program:
            ready = {"READY": "1", "MAINPID": str(program.pid)}
            assert self.told(manager) == {"STATUS": "starting"}
            assert self.told(manager) == ready
            for _ in range(2):
                assert program.says() == {"pid": program.pid, "ours": True}
                earliest = time.monotonic_ns() // 1000
                program.hup()
                reloading = self.told(manager)
                assert reloading.pop("RELOADING") == "1"
                assert earliest <= int(reloading.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
                assert reloading == {}
                assert self.told(manager) == {"STATUS": "starting"}
                assert self.told(manager) == ready
            assert program.says() == {"pid": program.pid, "ours": True}
            write("raise SystemExit('broken')")
            program.hup()
            assert self.told(manager)["RELOADING"] == "1"
            told = self.told(manager)
            assert told["READY"] == "1"
            assert told["STATUS"].startswith("not restarted: the rehearsal failed: exited with code 1")

    def test_that_it_does_not_listen_any_more_is_logged_and_changes_nothing(self, write, tmp_path, manager):
        """gotcha:H3: an error of the handler would come out of whatever the program is doing."""
        path = write("hp.restart_on_hup(check=False)\nsay(up=True)\nrest()\n")
        with started(sys.executable, path, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as program:
            program.says()
            (tmp_path / "notify").unlink()
            program.hup()
            program.complains("the service manager was not told: [Errno 2]")
            assert program.says() == {"up": True}

    def test_it_is_told_of_a_configuration_that_is_read_again(self, write, tmp_path, manager):
        """perlipc:D2"""
        path = write("hp.on_hup(lambda: 1 / bool(sys.stdin.readline().strip()))\nsay(up=True)\nrest()\n")
        with started(sys.executable, path, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as program:
            program.says()
            for line, told in (("good", {"READY": "1"}), ("", {"READY": "1", "STATUS": "the configuration stays"})):
                program.hup()
                assert self.told(manager)["RELOADING"] == "1"
                program.tell(line)
                answer = self.told(manager)
                assert answer.keys() == told.keys()
                assert all(answer[name].startswith(value) for name, value in told.items())

    @pytest.mark.parametrize("kept", [True, False])
    def test_its_sockets_are_found_again_if_they_were_kept(self, write, kept):
        """gotcha:DM6: by the rehearsal as well; otherwise nothing says that they are there."""
        source = f"""
from hornpipe.supervision import passed_descriptors
passed = passed_descriptors()
s = socket.socket(fileno=next(iter(passed))) if passed or {kept} else None
hp.restart_on_hup(keep={{"web": s}} if {kept} and s else {{}})
say(passed=passed, port=s and s.getsockname()[1])
rest()
"""
        path = write(source)
        launcher = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "
        launcher += "'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'web'})"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd, port = listener.fileno(), listener.getsockname()[1]
            with started(sys.executable, "-c", launcher, str(fd), sys.executable, path, pass_fds=[fd]) as program:
                facts = {"passed": {"3": "web"}, "port": port}
                assert program.says() == facts
                for _ in range(2):
                    program.hup()
                    assert program.says() == (facts if kept else {"passed": {}, "port": None})
