"""pexpect's own tests, taken from its source distribution, with only the import changed.

What is left out:

- ``test_ansi``, ``test_screen``, ``test_FSM``: modules that pexpect itself deprecates; there are better emulators.
- ``test_bad_child_pid``: sets a flag inside of ptyprocess, which we do not stand on.
- ``test_existing_spawn``, ``test_zsh``: they fail with pexpect as well, where bash brackets what is pasted and where
  there is no zsh.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import hornpipe.expect as pexpect
from hornpipe.expect import fdpexpect, popen_spawn, pxssh, replwrap, socket_pexpect

LEFT_OUT = ("test_ansi.py", "test_screen.py", "test_FSM.py")
DESELECTED = ("test_bad_child_pid", "test_existing_spawn", "test_zsh")
# A taste that takes seconds; the rest sleeps much.
TASTE = (
    *("constructor", "ctrl_chars", "env", "filedescriptor", "interact", "isalive", "log", "misc", "missing_command"),
    *("pxssh", "repr", "socket_pexpect", "unicode", "which", "winsize"),
)
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
    download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
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
    tests = folder / "pexpect-4.9.0" / "tests"
    # Where the original could be imported by mistake, nothing of it is left.
    (tests.parent / "pexpect").rename(folder / "original")
    for name in LEFT_OUT:
        (tests / name).unlink()
    for path in tests.glob("*.py"):
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
    for method, parameters in signatures(suite.parent.parent / "original" / f"{module}.py", name).items():
        if method not in own:
            taken = list(inspect.signature(getattr(ours, method)).parameters)
            assert taken[: len(parameters)] == parameters, method


@pytest.mark.soak
def test_pexpects_own_tests_pass_with_the_import_changed(suite: Path):
    files = sorted(suite.glob("test_*.py")) if WHOLE else [suite / f"test_{name}.py" for name in TASTE]
    deselected = " and ".join(f"not {name}" for name in DESELECTED)
    # The installed pexpect, if there is one, must not answer in our place.
    blocked = "import sys; sys.modules['pexpect'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--no-header", "-k", deselected]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *options, *map(str, files)],
        cwd=suite.parent,
        # One of its programs prints in a handler of WINCH, which Python's buffers refuse when the signal comes while
        # they are being flushed: as soon after the last word as we are, it does.
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=1500 if WHOLE else 55,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
