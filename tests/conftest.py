"""Every test of hornpipe leaves nothing behind; its watchdog is pytest's ``faulthandler_timeout``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _nothing_is_left(no_leaks: None) -> None:
    """The public fixture is opt-in; in this suite everyone has opted in."""


IN_A_NETWORK = """
import os, socket, sys, threading, time
import hornpipe as hp
from hornpipe.deadline import after

def took(begun):
    return time.monotonic() - begun
"""


@pytest.fixture
def in_a_network(tmp_path: Path) -> Callable[..., str]:
    """Runs Python source in a network namespace with a loopback only, and with a resolver of its own: what it prints.

    *setup* is shell, run before with $0 as a folder to write to.
    """

    def run(source: str, *arguments: str, setup: str = "true") -> str:
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:30 attempts:3\n")
        (tmp_path / "nsswitch.conf").write_text("hosts: files dns\nservices: files\n")
        prepare = (
            'mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && '
            f'ip link set lo up && {setup} && exec "$@"'
        )
        unshare = ["unshare", "--map-root-user", "--net", "--mount"]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode:
            pytest.skip("no namespaces for us here")
        ran = subprocess.run(
            [*unshare, "sh", "-ec", prepare, str(tmp_path), sys.executable, "-c", IN_A_NETWORK + source, *arguments],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run
