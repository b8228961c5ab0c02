"""Becoming a daemon, with a starter that knows whether it worked (perlipc:D3, gotcha:DM1 to DM7)."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, Self

from hornpipe import image, reexec, supervision, wait
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import after, check_timeout
from hornpipe.errors import spawn_error
from hornpipe.fd import Descriptor, pipe
from hornpipe.pidfile import PidFile
from hornpipe.signals import SIG
from hornpipe.spawn.recipe import find_ids

Output = Path | int | None
"""Where a standard stream goes: a file (appended to), a descriptor, or /dev/null."""

_READY = b"\0ready\0"
"""What ends the daemon's words to its starter; no text has it."""


_STDERR, _STARTER = "hornpipe: stderr of the daemon", "hornpipe: starter of the daemon"


class Daemon:
    """The daemon we have become. As a context manager it removes its pidfile at the end.

    Until ``ready()`` is called whatever goes to stderr is shown by the starter, which waits.
    """

    def __init__(
        self,
        pidfile: PidFile | None = None,
        stderr: Descriptor | None = None,
        starter: Descriptor | None = None,
        *,
        supervised: bool = False,
    ) -> None:
        self._pidfile = pidfile
        self._stderr = stderr
        self._starter = starter
        self.supervised = supervised
        """Whether we stayed in front, since a service manager or a container waits for this process."""

    def ready(self) -> None:
        """The set-up is done: the starter exits with 0, a service manager is told; again does nothing."""
        starter, self._starter = self._starter, None
        if starter is not None:
            _flush()
            if self._stderr is not None:
                os.dup2(self._stderr.fileno(), 2)
                self._stderr.close()
            with starter:
                os.write(starter.fileno(), _READY)
        if self.supervised:
            supervision.notify(READY=1, MAINPID=os.getpid())

    def drop_privileges(
        self, user: str | int, group: str | int | None = None, groups: Iterable[str | int] | None = None
    ) -> None:
        """Become this user for good, after what only root can do has been done; verified to be irrevocable.

        ``SpawnError`` when there is no such user, or when it is not permitted: nothing has changed then.
        """
        ids = find_ids("the daemon", user, group, None if groups is None else tuple(groups))
        assert ids is not None
        try:
            # Groups, gid, uid: in any other order the later calls lack the privilege. These are libc's,
            # which change all threads; the raw calls would change this one alone.
            os.setgroups(ids.groups)
            os.setresgid(ids.gid, ids.gid, ids.gid)
            os.setresuid(ids.uid, ids.uid, ids.uid)
        except OSError as error:
            raise spawn_error(
                error.errno or 0, f"cannot become user {ids.name!r}: {error.strerror}", stage="user"
            ) from None
        if os.getresuid() != (ids.uid,) * 3 or os.getresgid() != (ids.gid,) * 3 or _way_back(ids.uid):
            # Neither here nor there: nothing may go on running like this.
            os.write(2, b"privileges could be had back after they were dropped\n")
            os._exit(70)

    def close(self) -> None:
        """Remove the pidfile and tell the service manager that we are stopping."""
        if self.supervised:
            supervision.notify(STOPPING=1)
        if self._pidfile is not None:
            self._pidfile.remove()
            self._pidfile = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _way_back(uid: int) -> bool:
    if uid == 0:
        return False
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return False
    return True


def daemonize(
    pidfile: str | os.PathLike[Any] | None = None,
    *,
    chdir: str | os.PathLike[Any] = "/",
    umask: int = 0o022,
    stdout: Output = None,
    stderr: Output = None,
    keep: Iterable[int] = (),
    timeout: float | None = 30,
) -> Daemon:
    """Go to the background; returns in the daemon, and never in the process that called it.

    That one waits until the daemon calls ``.ready()`` and exits with 0; or, when the daemon ends before
    that or is not ready within ``timeout`` seconds, shows what it wrote to stderr, ends it, and exits with
    its exit code (1 if that was 0). The daemon leads a session of its own without a terminal, works in
    ``chdir`` with ``umask``, with default signal dispositions and an empty mask, has /dev/null or the given
    files as its standard streams, and no descriptor but those in ``keep``.

    ``pidfile`` is locked for as long as the daemon lives: ``AlreadyRunning`` names the one that is there.
    Where a service manager or a container waits for this very process it stays in front. Raises
    ``RuntimeError``, naming them, when other threads live: a fork would lose them without a word.

    In the daemon that ``restart_on_hup()`` has started again it returns at once: it is a daemon already,
    and has kept the lock of its pidfile.
    """
    check_timeout(timeout)
    if not 0 <= umask <= 0o777:
        raise ValueError(f"umask must be between 0 and 0o777, not {umask!r}")
    if image.rehearsal is not None:
        # Beside the one that runs: whatever is his, pidfile and log files and starter, is left alone.
        os.umask(umask)
        os.chdir(chdir)
        return Daemon()
    if isinstance(SIG["HUP"], reexec.Restart):
        raise RuntimeError(
            "daemonize() forks, and the daemon would not restart: call restart_on_hup() after it, when all is set up"
        )
    again = image.was_daemon()
    others = (
        [] if again else [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    )
    if others:
        raise RuntimeError(
            f"daemonize() forks, and the daemon would be without these threads: {', '.join(others)}; start them later"
        )
    # All that can fail because of the caller fails here, before anything has happened, on his terminal.
    folder = os.open(chdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened = [Descriptor(folder)]
    kept = {_number(each) for each in keep}
    try:
        out, err = (_open(target, opened) for target in (stdout, stderr))
        held = None if pidfile is None else PidFile(pidfile)
        if held is not None:
            held.hold()
    except BaseException:
        for each in opened:
            each.close()
        raise
    image.is_daemon = True
    if again or supervision.supervised():
        return _stay_in_front(held, folder, umask, out, err, opened)
    _flush()
    words, telling = pipe()
    first = os.fork()
    if first:
        telling.close()
        _await_ready(first, words, timeout)
    words.close()
    _leave_session(telling)
    _reset_signals()
    os.umask(umask)
    os.fchdir(folder)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(out if out is not None else null, 1)
    os.dup2(telling.fileno(), 2)  # the starter shows it until we are ready
    final = Descriptor(os.dup(err if err is not None else null))
    stays = {*kept, telling.fileno(), final.fileno()} | ({held.fileno()} if held is not None else set())
    for each in opened:
        each.detach() if each.fileno() in stays else each.close()
    _spawn.close_all_but(stays)
    if held is not None:
        held.write()
        _remove_at_exit(held)
    image.keep(_STDERR, final)
    image.keep(_STARTER, telling)
    return Daemon(held, final, telling)


def _number(fd: int) -> int:
    os.fstat(fd)  # OSError here, and not in a daemon that nobody sees
    return fd


def _open(target: Output, opened: list[Descriptor]) -> int | None:
    if target is None or isinstance(target, int):
        return target
    opened.append(Descriptor(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)))
    return opened[-1].fileno()


def _stay_in_front(
    held: PidFile | None, folder: int, umask: int, out: int | None, err: int | None, opened: list[Descriptor]
) -> Daemon:
    _flush()
    os.umask(umask)
    os.fchdir(folder)
    # There only when HUP came before ready(): the starter still shows what goes to stderr.
    final, starter = (
        Descriptor(fd) if fd is not None else None for fd in map(image.kept_descriptors().get, (_STDERR, _STARTER))
    )
    for target, number in ((out, 1), (err, 2)):
        if target is not None and (number == 1 or starter is None):
            os.dup2(target, number)
    for each in opened:
        each.close()
    if held is not None:
        held.write()
        _remove_at_exit(held)
    if final is not None and starter is not None:
        image.keep(_STDERR, final)
        image.keep(_STARTER, starter)
    return Daemon(held, final, starter, supervised=supervision.supervised())


def _remove_at_exit(held: PidFile) -> None:
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            held.remove()

    atexit.register(remove)
    # A worker that outlives us must not hold our lock (gotcha:DM5).
    os.register_at_fork(after_in_child=held.close)


def _leave_session(telling: Descriptor) -> None:
    """The daemon goes on; the process in between becomes the leader of its session and waits for it.

    setsid fails for the leader of a group, hence the fork before; only the leader of a session can get a
    terminal again, hence this one (setsid(2), gotcha:DM1).
    """
    os.setsid()
    daemon = os.fork()
    if not daemon:
        return
    # Its exit status is the daemon's if that ends first; what it says is read by the starter.
    status = 70
    try:
        telling.close()
        for number in (0, 1, 2):
            os.close(number)
        wait.child(daemon, after(None))
        raw = os.waitpid(daemon, os.WNOHANG)[1]
        status = os.waitstatus_to_exitcode(raw)
        status = 128 - status if status < 0 else status
    finally:
        os._exit(status)


def _await_ready(first: int, words: Descriptor, timeout: float | None) -> NoReturn:
    """The starter's end: show what the daemon says, and exit as it deserves."""
    deadline = after(timeout)
    tail = b""
    while wait.one(words.fileno(), wait.READ, deadline):
        data = os.read(words.fileno(), 65536)
        tail += data
        if tail.endswith(_READY):
            _show(tail.removesuffix(_READY))
            os._exit(0)
        if not data:
            _show(tail)
            wait.child(first, after(1.0))
            pid, raw = os.waitpid(first, os.WNOHANG)
            code = os.waitstatus_to_exitcode(raw) if pid else 1
            _show(b"" if tail else b"the daemon ended before it was ready\n")
            os._exit(code if code > 0 else 1)
        whole, tail = tail[: -len(_READY)], tail[-len(_READY) :]
        _show(whole)
    _show(tail + b"the daemon was not ready within %g s, and was ended\n" % (timeout or 0))
    try:
        os.killpg(first, signal.SIGTERM)
        if not wait.one(words.fileno(), 0, after(1.0)):
            os.killpg(first, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os._exit(1)


def _show(text: bytes) -> None:
    while text:
        try:
            text = text[os.write(2, text) :]
        except OSError:
            return


def _reset_signals() -> None:
    """What we were started with or set up is not the daemon's: ignored signals, handlers, the mask (gotcha:SIG13)."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            try:
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # libc keeps some for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
