"""sysv_ipc's own tests, taken from its source distribution, with hornpipe under its words.

The words are those of ``sysv_ipc_adapter.py``, which lists every difference and its reason. No test is left out; one of
theirs skips itself on Linux, as it misreads what a negative type selects.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

FILES = ("memory", "message_queues", "module", "semaphores")
RUN = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
import sysv_ipc
assert "hornpipe" in sysv_ipc.__license__, "the original answers in our place"
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sysv_ipc")
    download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
    got = subprocess.run(
        [*download, "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder), "sysv_ipc==1.2.0"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    if got.returncode:
        pytest.skip(f"sysv_ipc's sources cannot be had: {got.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    tests = folder / "sysv_ipc-1.2.0" / "tests"
    shutil.copy(Path(__file__).with_name("sysv_ipc_adapter.py"), tests.parent / "sysv_ipc.py")
    return tests


def test_sysv_ipcs_own_tests_pass_with_hornpipe_under_its_words(suite: Path):
    """perlipc:V1, perlipc:V2, perlipc:V3"""
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--no-header", "-rs"]
    # Side by side: much of it is waiting for clocks that tick once a second.
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(suite.parent), *options, str(suite / f"test_{name}.py")],
            cwd=suite.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in FILES
    ]
    told = [process.communicate(timeout=55)[0] for process in running]
    for process, text in zip(running, told, strict=True):
        assert process.returncode == 0, text[-6000:]
    assert sum(text.count("SKIPPED") for text in told) == 1, "\n".join(told)
