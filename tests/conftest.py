"""Every test of hornpipe leaves nothing behind; its watchdog is pytest's ``faulthandler_timeout``."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

from hornpipe.testing.patience import wait_until

pytest_plugins = ["pytester"]

# The same examples in every run, and no clock: a verdict is about the change, not about luck and a busy machine. New
# examples are looked for under `make soak`.
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    database=None,
    derandomize=os.environ.get("HORNPIPE_SOAK") != "1",
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")


_arm = faulthandler.dump_traceback_later


def _arm_a_deaf_watchdog(*arguments: Any, **options: Any) -> None:
    """Its thread has every signal open for a moment, until it closes them itself; on a busy machine that may be long.

    1. The test blocks a signal.  2. It is sent to this process, and the thread has it open still.  3. The thread takes
    it: the test waits in vain, or the default ends us all. What it inherits closed it need not close.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        _arm(*arguments, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


faulthandler.dump_traceback_later = _arm_a_deaf_watchdog


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage, and need not be looked at in every collection.

    One of those takes a tenth of a second otherwise, in the middle of whatever is measured; and in every forked child
    it copies all the pages that it looks at.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_is_left(no_leaks: None) -> None:
    """The public fixture is opt-in; in this suite everyone has opted in."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as the system allows us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def certificate_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a folder with the key and the certificate of a host."""

    def made(host: str) -> Path:
        folder = tmp_path_factory.mktemp("tls")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}",
             "-keyout", folder / "key", "-out", folder / "cert"],
            check=True, capture_output=True,
        )  # fmt: skip
        return folder

    return made


@pytest.fixture(scope="session")
def certificate(certificate_of: Callable[[str], Path]) -> Path:
    """That of here.test."""
    return certificate_of("here.test")


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


class WebServer(NamedTuple):
    """Debian's Apache, at work."""

    port: int
    """Where it listens on 127.0.0.1."""
    pages: Path
    """What it serves; programs in ``cgi-bin`` are run."""
    log: Path


APACHE = """
ServerRoot {root}
ServerName localhost
PidFile {root}/pid
ErrorLog {root}/error.log
LogLevel notice
Mutex pthread
Listen 127.0.0.1:{port}
DocumentRoot {root}/pages
ScriptAlias /cgi-bin/ {root}/pages/cgi-bin/
TypesConfig /dev/null
PassEnv PATH
StartServers 4
"""
MODULES = ["mpm_prefork", "authz_core", "alias", "cgi", "env", "mime", "ssl"]


@pytest.fixture
def apache(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[WebServer]]:
    """Starts a real web server; its arguments are further lines of configuration."""

    @contextlib.contextmanager
    def start(*lines: str) -> Iterator[WebServer]:
        root = tmp_path / "apache"
        (root / "pages" / "cgi-bin").mkdir(parents=True)
        # Bound, and not listening: nobody is given the port before Apache listens there, which may, since it also sets
        # SO_REUSEADDR (socket(7)).
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        loaded = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES]
        configuration = [*loaded, APACHE.format(root=root, port=port), *lines]
        (root / "conf").write_text("\n".join(configuration) + "\n")
        # As root it wants to become somebody who may not look into our folders: so it is nobody special from its start.
        unshare = ["unshare", "--user", "--map-user=33", "--map-group=33", "--"] if os.geteuid() == 0 else []
        command = [*unshare, "/usr/sbin/apache2", "-DFOREGROUND", "-f", str(root / "conf")]
        # A group of its own: told to end, it tells its group.
        with (
            held,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0) as server,
        ):
            try:
                wait_until(lambda: server.poll() is not None or reachable(port), 30, "Apache")
                log = root / "error.log"
                assert server.poll() is None, log.read_text() if log.exists() else "no Apache"
                yield WebServer(port, root / "pages", log)
            finally:
                server.terminate()

    return start


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
