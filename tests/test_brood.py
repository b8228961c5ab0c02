"""The native half of servers whose clients have a child each: what it does when the system refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hornpipe._native.brood import ENDED, TIME, Brood
from hornpipe._native.shared import Numbers
from hornpipe.deadline import after
from hornpipe.status import ExitStatus


@pytest.fixture
def brood() -> Iterator[Brood]:
    made = Brood([], 2, 0, Numbers(2), 0, 1, True)
    yield made
    made.close()


def shell(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)


def ended(brood: Brood) -> ExitStatus:
    """How the next child ends."""
    deadline = after(20)
    while (told := brood.run(deadline)) == TIME:
        pass
    assert told == ENDED
    return ExitStatus(brood.status)


def test_a_child_that_the_kernel_cannot_watch_any_more_is_looked_at_now_and_then(brood: Brood, tmp_path: Path):
    """gotcha:R2; epoll(7), max_user_watches: epoll refuses a file as it refuses a pidfd then."""
    brood.adopt(shell("exit 3"), os.open(tmp_path / "file", os.O_CREAT | os.O_CLOEXEC))
    assert brood.blind
    assert ended(brood).code == 3
    assert not brood.blind


def test_a_child_that_has_left_a_core_is_said_to(brood: Brood, tmp_path: Path):
    """gotcha:SP8"""
    pid = shell(f"cd {tmp_path}; ulimit -c unlimited; kill -ABRT $$")
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    brood.adopt(pid, os.pidfd_open(pid))
    assert ended(brood).core_dumped == (found.si_code == os.CLD_DUMPED)
