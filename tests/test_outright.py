"""Programs that are run to their end: begun without waiting for their exec, and alone in one native call.

Each test is a program of its own, with one thread, as a script has, or with more; the tests' own has more (see
``_native/guard.h``).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

import hornpipe as hp

BEGINNING = """if True:
    import os, resource, signal, sys, threading, time
    import hornpipe as hp
    from hornpipe import reaper
    from hornpipe._native import spawn, timed_call

    over = threading.Event()
    if sys.argv[1] == "among threads":
        threading.Thread(target=over.wait).start()
    elif sys.argv[1] == "without pidfds":
        spawn.use_pidfd(False)
    elif not timed_call.guards():
        print("not alone", file=sys.stderr)

    def tell(*words):
        try:
            print(repr(hp.cmd(*words).run()), flush=True)
        except (OSError, hp.CommandFailed) as error:
            print(type(error).__name__, error, flush=True)
    try:
"""
ENDING = """
    finally:
        over.set()
        assert not reaper.ours and not reaper.children(), (reaper.ours, reaper.children())
"""

# From 6.15 on, a pidfd keeps the status of a process that somebody else has reaped.
KERNEL_KEEPS_STATUSES = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 15)

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")


@pytest.fixture(params=["alone", "among threads", "without pidfds"])
def mechanism(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def program(body: str, *words: str) -> list[str]:
    """What it prints. Its own complaints are the test's."""
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    done = hp.cmd(sys.executable, "-c", BEGINNING + indented + ENDING, *words, timeout=60).capture()
    known = "not alone" if os.uname().machine != "x86_64" else ""
    assert done.stderr.strip() in ("", known)
    return done.stdout.splitlines()


def test_it_is_said_how_it_ended_or_why_it_was_not_started(mechanism: str, tmp_path: Path) -> None:
    """gotcha:SP1, SP2: all errors of exec are heard, though nobody waits for the exec."""
    (tmp_path / "text").write_text("echo\n")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "executable").write_text("echo\n")
    (tmp_path / "executable").chmod(0o755)
    (tmp_path / "sh").symlink_to("/bin/sh")
    body = """
os.environ["PATH"] = sys.argv[2] + ":/bin:/usr/bin"
tell("/bin/true")
tell("true")
tell(b"sh", b"-c", "exit 0 # \\u00e9\\udc80")
tell("/bin/sh", "-c", "exit 3")
tell("/bin/sh", "-c", "kill -9 $$")
for name in ("/no/such/program", "no-such-program", sys.argv[2] + "/text", "text"):
    tell(name)
for name in (sys.argv[2] + "/script", sys.argv[2], sys.argv[2] + "/executable"):
    tell(name)
tell("/bin/true", "x" * 140_000)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), limits[1]))
tell("/no/such/program")
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
"""
    # A child of whom nobody but us can take the status is waited for by its number then (gotcha:R2).
    needs_none = mechanism == "without pidfds" or (mechanism == "alone" and os.uname().machine == "x86_64")
    expected = [
        ("ExitStatus(0)", ""),
        ("ExitStatus(0)", ""),
        ("ExitStatus(0)", ""),
        ("CommandFailed", "exited with code 3"),
        ("CommandFailed", "was killed by KILL"),
        ("SpawnError", "no such file: '/no/such/program'"),
        ("SpawnError", "no program 'no-such-program' in PATH"),
        ("SpawnError", "is not executable (mode 0644)"),
        ("SpawnError", "is not executable (mode 0644)"),
        ("SpawnError", "needs the interpreter '/no/such/interpreter', which does not exist"),
        ("SpawnError", "is a directory"),
        ("SpawnError", "is neither a binary for this machine nor a script with a #! line"),
        ("SpawnError", "argument 1 has 140000 bytes"),
        ("SpawnError", "no such file: '/no/such/program'" if needs_none else "no descriptor is left for it"),
    ]
    told = program(body, mechanism, str(tmp_path))
    assert len(told) == len(expected)
    for line, (kind, words) in zip(told, expected, strict=True):
        assert line.startswith(kind)
        assert words in line


def test_it_starts_with_nothing_of_its_parents(mechanism: str) -> None:
    """gotcha:SIG5, SIG13, SP7: mask, dispositions and descriptors; and the environment as it is now."""
    body = """
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGRTMAX - 3):
    signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGRTMIN + 5])
os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
os.environ.update(OURS="now", THEIRS="gone")
del os.environ["THEIRS"]
hp.cmd("/bin/sh", "-c", 'echo "$OURS$THEIRS"; cat /proc/self/status; ls /proc/self/fd').run()
print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
"""
    told = program(body, mechanism)
    assert (told[0], told[-1]) == ("now", "2")
    sets = dict(line.split(":\t") for line in told if line.startswith("Sig"))
    own = 1 << 31 | 1 << 32  # 32 and 33 belong to the C library
    assert [int(sets[name], 16) & ~own for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
    assert told[-5:-1] == ["0", "1", "2", "3"]  # the last is the directory itself


def test_handlers_run_meanwhile_and_may_do_as_they_like(mechanism: str) -> None:
    """Promise 6: they run at once, also one that was told not to interrupt; start threads and programs; and raise."""
    body = """
def handler(*_):
    handled.append(time.monotonic() - begun < 10)
    if len(handled) == 1:
        signal.siginterrupt(signal.SIGALRM, False)
    if len(handled) == 2:
        hp.cmd("/bin/true").run()
    if len(handled) == 3:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.02)
    if len(handled) == 5:
        raise KeyError("enough")
hp.cmd("/bin/true").run()
handled, begun, used = [], time.monotonic(), time.process_time()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
try:
    hp.cmd("/bin/sleep", "20").run()
except KeyError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(error, handled, time.process_time() - used < 0.2)
"""
    assert program(body, mechanism) == ["'enough' [True, True, True, True, True] True"]


def test_whoever_waits_for_all_children_cannot_make_a_success_of_it(mechanism: str) -> None:
    """gotcha:R3, SIG6: a handler of CHLD takes the status; or the kernel does."""
    body = """
def take(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, take)
tell("/bin/sh", "-c", "exit 3")
tell("/no/such/program")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
tell("/bin/sh", "-c", "exit 3")
tell("/no/such/program")
"""
    told = program(body, mechanism)
    kept = mechanism != "without pidfds" and KERNEL_KEEPS_STATUSES
    for line in (told[0], told[2]):
        assert line.startswith("CommandFailed")
        assert "exited with code 3" in line or ("unknown" in line and not kept)
    for line in (told[1], told[3]):
        assert line.startswith("SpawnError")
        assert "no such file" in line


def test_hundreds_of_them_leave_nothing(mechanism: str) -> None:
    """Promise 1: no descriptor, no child, whether they were started or not."""
    body = """
def held():
    return len(os.listdir("/proc/self/fd"))
def both():
    hp.cmd("/bin/true").run()
    try:
        hp.cmd("/no/such/program").run()
    except FileNotFoundError:
        pass
both()
hp.cmd("/bin/sleep", "0.1").run()  # what a wait makes for its thread is made once
before = held()
for _ in range(100):
    both()
print(held() - before)
"""
    assert program(body, mechanism) == ["0"]
