"""pexpect's own tests and examples, taken from its source distribution, with only the import changed.

What is left out of the 257 tests:

- ``test_ansi``, ``test_screen``, ``test_FSM``, 21 tests: modules that pexpect itself deprecates; there are better
  emulators.
- ``test_bad_child_pid``: sets a flag inside of ptyprocess, which we do not stand on.
- ``test_existing_spawn``, ``test_zsh``: they fail with pexpect as well, where bash brackets what is pasted and where
  there is no zsh.

And of the 16 examples, 8 that fail with pexpect itself as well:

- ``chess``, ``chess2``, ``chess3``: stand on the module ANSI; and one compares bytes with text, one uses a variable
  that was never set, one calls ``read`` with two sizes.
- ``cgishell.cgi``: imports ``pxssh`` and ``ANSI`` as modules of their own.
- ``script``, ``hive``, ``monitor``: mix text and bytes, as one could in Python 2.
- ``ssh_tunnel``: its command is a format with an error in it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hornpipe.expect as pexpect
from hornpipe.expect import fdpexpect, popen_spawn, pxssh, replwrap, socket_pexpect

LEFT_OUT = ("test_ansi.py", "test_screen.py", "test_FSM.py")
DESELECTED = ("test_bad_child_pid", "test_existing_spawn", "test_zsh")
# These sleep for one second to eleven each, nineteen minutes in twenty of the whole; the other tests always run.
SLEEPERS = (
    *("socket_fd.py::ExpectTestCase::test_multiple_interrupts", "socket.py::ExpectTestCase::test_multiple_interrupts"),
    *("socket_fd.py::ExpectTestCase::test_interrupt", "socket.py::ExpectTestCase::test_interrupt"),
    *("socket_fd.py::ExpectTestCase::test_timeout", "socket.py::ExpectTestCase::test_timeout"),
    *("expect.py::ExpectTestCase::test_waitnoecho_order", "destructor.py::TestCaseDestructor::test_destructor"),
    *("run.py::RunFuncTestCase::test_run_callback", "run.py::RunUnicodeFuncTestCase::test_run_callback"),
    *("expect.py::ExpectTestCase::test_expect_timeout", "popen_spawn.py::ExpectTestCase::test_expect_timeout"),
    *("expect.py::ExpectTestCase::test_signal_handling", "timeout_pattern.py", "performance.py"),
    *("replwrap.py::REPLWrapTestCase::test_long_running_continuation", "async.py::AsyncTests::test_timeout"),
    *("replwrap.py::REPLWrapTestCase::test_long_running_multiline", "async.py::AsyncTests::test_async_and_gc"),
    *("misc.py::TestCaseMisc::test_sighup", "misc.py::TestCaseMisc::test_exception_tb"),
    *("misc.py::TestCaseMisc::test_read_poll_timeout", "isalive.py::IsAliveTestCase::test_signal_wait"),
    *("expect.py::ExpectTestCase::test_expect_index", "isalive.py::IsAliveTestCase::test_expect_wait"),
    *("expect.py::ExpectTestCase::test_increasing_searchwindowsize", "delay.py::TestCaseDelay::test_delaybeforesend"),
)
PASSED, PASSED_AWAKE = 233, 197
WHOLE = bool(os.environ.get("HORNPIPE_SOAK"))

_IMPORTS = (
    (r"^(\s*)import pexpect$", r"\1import hornpipe.expect as pexpect"),
    (r"^(\s*)import pexpect, ", r"\1import hornpipe.expect as pexpect, "),
    (r"^(\s*)from pexpect import", r"\1from hornpipe.expect import"),
    (r"^(\s*)from pexpect\.(\w+)", r"\1from hornpipe.expect.\2"),
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pexpect")
    # With fewer attempts than the watchdog has patience: without a network this is skipped, and does not fail.
    download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", "--timeout=10"]
    download += ["download", "-qq", "--no-deps"]
    got = subprocess.run(
        [*download, "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder), "pexpect==4.9.0"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    if got.returncode:
        pytest.skip(f"pexpect's sources cannot be had: {got.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    (folder / "pexpect-4.9.0").rename(folder / "changed")
    tests = folder / "changed" / "tests"
    # Where the original could be imported by mistake, nothing of it is left.
    (folder / "original").mkdir()
    (tests.parent / "pexpect").rename(folder / "original" / "pexpect")
    for name in LEFT_OUT:
        (tests / name).unlink()
    for path in (*tests.glob("*.py"), *(tests.parent / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for old, new in _IMPORTS:
            text = re.sub(old, new, text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")
    return tests


def signatures(path: Path, name: str) -> dict[str, list[str]]:
    """The public methods of a class in a source, with their parameters."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in found.body
        if isinstance(node, ast.FunctionDef)
        and not node.decorator_list  # a property, which is no word to be called
        and (node.name == "__init__" or not node.name.startswith("_"))
    }


@pytest.mark.parametrize(
    ("module", "name", "ours"),
    [
        ("spawnbase", "SpawnBase", pexpect.SpawnBase),
        ("pty_spawn", "spawn", pexpect.spawn),
        ("fdpexpect", "fdspawn", fdpexpect.fdspawn),
        ("popen_spawn", "PopenSpawn", popen_spawn.PopenSpawn),
        ("socket_pexpect", "SocketSpawn", socket_pexpect.SocketSpawn),
        ("replwrap", "REPLWrapper", replwrap.REPLWrapper),
        ("pxssh", "pxssh", pxssh.pxssh),
    ],
)
def test_every_word_has_the_same_parameters(suite: Path, module: str, name: str, ours: type):
    own = {"try_read_prompt", "levenshtein_distance"}  # how pxssh does it, and no word of its face
    for method, parameters in signatures(suite.parent.parent / "original" / "pexpect" / f"{module}.py", name).items():
        if method not in own:
            taken = list(inspect.signature(getattr(ours, method)).parameters)
            assert taken[: len(parameters)] == parameters, method


# What the original has and we do not, since nobody was told of it.
INTERNAL = {
    "Expecter": "how its loop works",
    "async_pw_transport": "how its loop works",
    "buffer_type": "what its buffers are",
    "ptyproc": "what it stands on",
}
ATTRIBUTES = """
import json, os, socket, sys, warnings
import {0} as pexpect
from {0} import fdpexpect, popen_spawn, pxssh, replwrap, socket_pexpect
warnings.simplefilter("ignore")
def facts(thing):
    names = [name for name in dir(thing) if not name.startswith("_") or name in ("__version__", "__revision__")]
    return {{name: repr(value) for name in names if isinstance(value := getattr(thing, name, None), plain)}} | {{
        name: None for name in names if not isinstance(getattr(thing, name, None), plain)
    }}
plain = (bool, int, float, str, bytes, tuple, type(None))
found = {{"pexpect": facts(pexpect)}}
for encoding in (None, "utf-8"):
    with pexpect.spawn("cat", encoding=encoding) as child:
        found[f"spawn {{encoding}}"] = facts(child)
    child = popen_spawn.PopenSpawn("cat", encoding=encoding)
    found[f"PopenSpawn {{encoding}}"] = facts(child)
    child.sendeof(); child.wait()
    ours, theirs = socket.socketpair()
    found[f"SocketSpawn {{encoding}}"] = facts(socket_pexpect.SocketSpawn(ours, encoding=encoding))
    found[f"fdspawn {{encoding}}"] = facts(fdpexpect.fdspawn(os.dup(1), encoding=encoding))
print(json.dumps(found))
"""


def test_every_attribute_is_there_with_the_same_value(suite: Path):
    def facts(module: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(suite.parent.parent / "original")}
        source = ATTRIBUTES.format(module)
        return json.loads(subprocess.check_output([sys.executable, "-c", source], env=environment, timeout=30))

    # Other numbers in each run; how things are called; and delays, which are the point.
    other = {"pid", "child_fd", "name", "delaybeforesend", "delayafterread"}
    theirs, ours = facts("pexpect"), facts("hornpipe.expect")
    for thing, known in theirs.items():
        for name, value in known.items():
            if name in INTERNAL or (thing == "pexpect" and value is None and name not in pexpect.__all__):
                continue
            assert name in ours[thing], (thing, name)
            # That a PopenSpawn had terminated before it began is a slip.
            if name not in other and (thing[:10], name) != ("PopenSpawn", "terminated"):
                assert ours[thing][name] == value, (thing, name)


@pytest.mark.soak
def test_pexpects_own_tests_pass_with_the_import_changed(suite: Path):
    deselected = ["-k", " and ".join(f"not {name}" for name in DESELECTED)]
    if not WHOLE:
        deselected += [f"--deselect=tests/test_{name}" for name in SLEEPERS]
    # The installed pexpect, if there is one, must not answer in our place.
    blocked = "import sys; sys.modules['pexpect'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--no-header", f"--rootdir={suite.parent}", *deselected]
    # One of them listens at a port that any other connection on this machine may happen to have.
    alone = ["unshare", "--map-root-user", "--net", "sh", "-ec", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    done = subprocess.run(
        [*alone, sys.executable, "-c", blocked, *options, str(suite)],
        cwd=suite.parent,
        # One of its programs prints in a handler of WINCH, which Python's buffers refuse when the signal comes while
        # they are being flushed: as soon after the last word as we are, it does. Its Python prompts are those of the
        # plain one: from 3.13 on the other draws, and its own tests ask for the plain one as well by now.
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHON_BASIC_REPL": "1"},
        capture_output=True,
        text=True,
        timeout=1500 if WHOLE else 58,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= (PASSED if WHOLE else PASSED_AWAKE), done.stdout[-200:]


# --- the examples ---

PROGRAMS = {
    "uptime": "echo ' 14:06:01 up 63 days, 18 min,  3 users,  load average: 0.32, 0.08, 0.02'",
    "netstat": """
        echo 'Proto Recv-Q Send-Q Local Address Foreign Address State'
        for host in 10.0.0.9 10.0.0.7 10.0.0.8 10.0.0.7; do echo "tcp 0 0 10.0.0.1:22 $host:4711 ESTABLISHED"; done""",
    "apachectl": "echo '12.5 requests/sec - 3.1 kB/second'",
    "passwd": """
        stty -echo; printf '(current) UNIX password: '; read old; echo; printf 'New password: '; read new; echo
        printf 'Retype new password: '; read again; stty echo; echo
        [ "$old/$new/$again" = s3cret/n3w/n3w ] && echo changed | tee "$HOME/passwd" """,
    "ssh": """
        stty -echo; printf "me@host's password: "; read word; stty echo; echo
        [ "$word" = s3cret ] || { echo 'Permission denied'; exit 255; }
        PS1='$ ' exec sh -i""",
    "ftp": """
        printf 'Name (ftp.openbsd.org:me): '; read name
        stty -echo; printf 'Password: '; read word; stty echo; echo
        while printf 'ftp> '; read command; do [ "$command" = bye ] && exit; echo "200 $name: $command"; done""",
}
# Python 2 had this name as well; with it, one more example is whole.
FILE = """
import builtins, runpy, sys
builtins.file = open
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def example(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pexpect.spawn]:
    for name, script in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {"PYTHON_BASIC_REPL": "1", "PYTHON_COLORS": "0", "TERM": "dumb"}

    def start(name: str, *arguments: str) -> pexpect.spawn:
        words = ["-c", FILE, str(suite.parent / "examples" / f"{name}.py"), *arguments]
        return pexpect.spawn(sys.executable, words, cwd=tmp_path, env=environment, encoding="utf-8", timeout=20)

    return start


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("df", [], r"Filesystem \S+ is at \S+%"),
        ("uptime", [], r"63, 0, 18, 3, 0\.32, 0\.08, 0\.02"),
        ("topip", [], r"connections_max.value 2\r\nconnections_avg.value 1\.33"),
        ("astat", ["-s", "host", "-u", "me", "-p", "s3cret"], r"b'12\.5'"),
    ],
)
def test_examples_that_only_report(example, name, arguments, says):
    with example(name, *arguments) as program:
        program.expect(says)
        program.expect(pexpect.EOF)
        assert program.wait() == 0


def test_the_example_that_stands_on_an_emulator(suite, tmp_path):
    """perlipc:B4: pyte shows what was said. Its third part waits five seconds for ``less``."""
    path = suite.parent / "examples" / "terminal_emulation.py"
    parts = path.read_text(encoding="utf-8").partition('print("\\nThird example')
    (tmp_path / path.name).write_text("".join(parts) if WHOLE else parts[0], encoding="utf-8")
    out = subprocess.check_output([sys.executable, tmp_path / path.name], text=True, timeout=50)
    line = "-" * 40
    assert f"{line}\nThis message should not be in red\n{line}\n" in out
    assert f"{line}\n{'aaaabbbb' * 5}\n{'aaaabbbb' * 3}\n{line}\n" in out
    assert ("pexpect with pyte, an ANSI terminal" in out) == WHOLE


def test_the_example_that_hands_python_over(example):
    """perlipc:B4."""
    with example("python") as person:
        person.expect_exact("Escape character is '^]'.")
        person.expect_exact(">>> ")
        person.sendline("6 * 7")
        person.expect_exact("42\r\n")
        person.send("\x1d")
        person.expect(r"is alive: (True|False)")
        person.expect(pexpect.EOF)
        assert person.wait() == 0


def test_the_example_that_hands_an_ftp_session_over(example):
    """perlipc:B4: an ftp-like program, which asks for a password."""
    with example("ftp") as person:
        person.expect_exact("Escape character is '^]'.")
        person.expect_exact("ftp> ")
        person.sendline("status")
        person.expect_exact("200 anonymous: status")
        person.send("\x1d")
        person.expect_exact("Left interactve mode.")
        person.expect_exact("Child exited gracefully.")


def test_the_example_that_changes_passwords_by_ssh(example, tmp_path):
    """gotcha:TTY8: ssh- and passwd-like programs."""
    with example("passmass", "host") as person:
        for question, answer in (("Username", "me"), ("Current", "s3cret"), ("New", "n3w"), ("Confirm New", "n3w")):
            person.expect_exact(f"{question}{'' if question == 'Username' else ' Password'}: ")
            person.sendline(answer)
        person.expect_exact("Changing password on host: host")
        person.expect(pexpect.EOF)
        assert person.wait() == 0
    assert (tmp_path / "passwd").read_text() == "changed\n"
    assert "s3cret" not in (tmp_path / "LOG.TXT").read_text()
