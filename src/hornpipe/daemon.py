"""Becoming a daemon, with a starter that knows whether it worked (perlipc:D3, gotcha:DM1 to DM7)."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, Self

from hornpipe import image, reaper, reexec, succession, supervision, wait
from hornpipe._native import process as _process
from hornpipe._native import wait as _wait
from hornpipe.deadline import NEVER, check_timeout
from hornpipe.fd import Descriptor, flush_printed, owned, pipe
from hornpipe.outlets import Outlet, Outlets
from hornpipe.pidfile import PidFile
from hornpipe.privileges import drop_privileges
from hornpipe.signals import SIG
from hornpipe.starter import READY, await_ready, pidfd_of

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
        """The set-up is done: the starter exits with 0, a service manager is told; again does nothing.

        ``BrokenPipeError`` when the starter has been killed: nobody was told that there is a daemon now.
        """
        starter, self._starter = self._starter, None
        if starter is not None:
            flush_printed()
            if self._stderr is not None:
                os.dup2(self._stderr.fileno(), 2)
                self._stderr.close()
            with starter:
                os.write(starter.fileno(), READY)
        if self.supervised:
            supervision.notify(READY=1, MAINPID=os.getpid())

    def drop_privileges(
        self, user: str | int, group: str | int | None = None, groups: Iterable[str | int] | None = None
    ) -> None:
        """Become this user for good, after what only root can do has been done; verified to be irrevocable.

        ``SpawnError`` when there is no such user, or when it is not permitted: nothing has changed then.
        """
        drop_privileges("the daemon", user, group, groups)

    def close(self) -> None:
        """Remove the pidfile and tell the service manager that we are stopping."""
        try:
            if self.supervised:
                supervision.notify(STOPPING=1)
        finally:
            if self._pidfile is not None:
                self._pidfile.remove()
                self._pidfile = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def daemonize(
    pidfile: str | os.PathLike[Any] | None = None,
    *,
    chdir: str | os.PathLike[Any] = "/",
    umask: int = 0o022,
    stdout: Outlet = None,
    stderr: Outlet = None,
    keep: Iterable[int] = (),
    timeout: float | None = 30,
) -> Daemon:
    """Go to the background; returns in the daemon, and never in the process that called it.

    That one waits until the daemon calls ``.ready()`` and exits with 0; or, when the daemon ends before
    that or is not ready within ``timeout`` seconds, shows what it wrote to stderr, ends it, and exits with
    its exit code (1 if that was 0). The daemon lives in a session of its own without a terminal, works in
    ``chdir`` with ``umask``, ignores no signal and blocks none (handlers stay), has /dev/null or the given
    files as its standard streams, and no descriptor but those in ``keep``: close files before.

    ``stdout`` and ``stderr`` may also be commands, ``hp.cmd("logger", "--tag", "mine")``, whose stdin they are
    then; the same one for both runs once. It is started at once (``SpawnError``), started again if it dies while
    the daemon lives, and ends with it. Until ``.ready()`` stderr goes to the starter all the same.

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
    import threading

    again = image.was_daemon()
    alive = [] if again else [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    others = [thread.name for thread in alive if not reaper.is_ours(thread)]
    if others:
        raise RuntimeError(
            f"daemonize() forks, and the daemon would be without these threads: {', '.join(others)}; start them later"
        )
    loops = sys.modules.get("asyncio.events")
    if loops is not None and loops._get_running_loop() is not None:
        raise RuntimeError("daemonize() closes the descriptors of the event loop that runs it; start the loop later")
    # All that can fail because of the caller fails here, before anything has happened, on his terminal.
    folder = owned(os.open, chdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    outlets = Outlets(chdir, umask)
    outlets.opened.append(folder)
    kept = {_number(each) for each in keep}
    held = None if pidfile is None else PidFile(pidfile)
    try:
        if held is not None:
            held.hold()
        out, err = (outlets.descriptor_of(outlet) for outlet in (stdout, stderr))
    except BaseException:
        outlets.close()
        if held is not None:
            held.remove()
        raise
    image.is_daemon = True
    if again or supervision.supervised():
        return _stay_in_front(held, folder, umask, out, err, outlets)
    flush_printed()
    words, telling = pipe()
    # The caller's handlers are the daemon's, and nothing for the process in between.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        first = os.fork()
    except BaseException:
        image.is_daemon = False
        outlets.close()
        if held is not None:
            held.remove()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if first:
        telling.close()
        await_ready(first, words, timeout, mask)
    # Garbage of before may own descriptors; closed later by number, they would be somebody else's.
    gc.freeze()
    words.close()
    _leave_session(telling)
    _reset_signals()
    os.umask(umask)
    os.fchdir(folder.fileno())
    null = owned(os.open, os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # Copied before any of the three changes, since they may be meant themselves.
    becomes_out = owned(os.dup, null.fileno() if out is None else out)
    final = owned(os.dup, null.fileno() if err is None else err)
    os.dup2(null.fileno(), 0)
    os.dup2(becomes_out.fileno(), 1)
    os.dup2(telling.fileno(), 2)  # the starter shows it until we are ready
    null.close()
    becomes_out.close()
    stays = {*kept, telling.fileno(), final.fileno()} | ({held.fileno()} if held is not None else set())
    for each in outlets.opened:
        each.detach() if each.fileno() in stays else each.close()
    _wait.abandon()  # its pipe is among what is closed; the next wait makes another
    succession.give_up_files(kept)
    _process.close_all_but(stays)
    if held is not None:
        held.write()
        _remove_at_exit(held)
    image.keep(_STDERR, final)
    image.keep(_STARTER, telling)
    return Daemon(held, final, telling)


def _number(fd: int) -> int:
    os.fstat(fd)  # OSError here, and not in a daemon that nobody sees
    return fd


def _stay_in_front(
    held: PidFile | None, folder: Descriptor, umask: int, out: int | None, err: int | None, outlets: Outlets
) -> Daemon:
    flush_printed()
    os.umask(umask)
    os.fchdir(folder.fileno())
    # There only when HUP came before ready(): the starter still shows what goes to stderr.
    final, starter = (None if fd is None else Descriptor(fd) for fd in (image.claim(_STDERR), image.claim(_STARTER)))
    for target, number in ((out, 1), (err, 2)):
        if target is not None and (number == 1 or starter is None):
            os.dup2(target, number)
    outlets.close()
    if held is not None:
        held.write()
        _remove_at_exit(held)
    if final is not None and starter is not None:
        image.keep(_STDERR, final)
        image.keep(_STARTER, starter)
    if supervision.supervised():
        supervision.adopt()
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
    """The daemon goes on; the process in between leads its session, for as long as the starter is interested.

    setsid fails for the leader of a group, hence the fork before; only the leader of a session can get a
    terminal again, hence this one (setsid(2), gotcha:DM1).
    """
    try:
        os.setsid()
        daemon = os.fork()
    except OSError as error:
        # Not into the caller's code, which is the daemon's alone; and there is none.
        os.write(telling.fileno(), f"cannot become a daemon: {error.strerror}\n".encode())
        os._exit(71)
    if not daemon:
        return
    # Its exit status is the daemon's if that ends first; what it says is read by the starter.
    status = 70
    try:
        ended = pidfd_of(daemon)
        # Nothing of the caller's may be held open here, least of all the lock of a daemon that has died.
        _wait.abandon()
        _process.close_all_but({telling.fileno()} | ({ended} if ended is not None else set()))
        for number in (0, 1, 2):
            with contextlib.suppress(OSError):
                os.close(number)
        if ended is None:
            telling.close()
            wait.child(daemon, NEVER)
        else:
            # The starter's end of the pipe is the starter's life: without it nobody wants to know.
            wait.until([(ended, wait.READ), (telling.fileno(), 0)], NEVER)
        pid, raw = os.waitpid(daemon, os.WNOHANG)
        if pid:
            status = os.waitstatus_to_exitcode(raw)
            status = 128 - status if status < 0 else status
    finally:
        os._exit(status)


def _reset_signals() -> None:
    """What whoever started us ignores and blocks is not the daemon's affair (gotcha:SIG13)."""
    signal.set_wakeup_fd(-1)
    # Python itself ignores these two, and raises errors instead.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            # A shell has its background jobs ignore INT, and Python then leaves it so.
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
