"""Becoming a daemon, with a starter that knows whether it worked (perlipc:D3, gotcha:DM1 to DM7)."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self, Union

from hornpipe import image, reaper, reexec, supervision, wait
from hornpipe._native import spawn as _spawn
from hornpipe._native import wait as _wait
from hornpipe.deadline import NEVER, after, check_timeout
from hornpipe.errors import spawn_error
from hornpipe.fd import Descriptor, above_stdio, flush_printed, pipe
from hornpipe.pidfile import PidFile
from hornpipe.signals import SIG
from hornpipe.spawn.recipe import find_ids

if TYPE_CHECKING:
    from pathlib import Path

Output = Union["Path", int, None]
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
                os.write(starter.fileno(), _READY)
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
        if self.supervised:
            supervision.notify(STOPPING=1)
        if self._pidfile is not None:
            self._pidfile.remove()
            self._pidfile = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def drop_privileges(
    who: str, user: str | int | None, group: str | int | None = None, groups: Iterable[str | int] | None = None
) -> None:
    """Become this user for good, with all threads; ``SpawnError`` when that is not permitted (gotcha:PR1, PR2)."""
    ids = find_ids(who, user, group, None if groups is None else tuple(groups))
    if ids is None:
        return
    try:
        # Groups, gid, uid: in any other order the later calls lack the privilege. These are libc's,
        # which change all threads; the raw calls would change this one alone.
        os.setgroups(ids.groups)
        os.setresgid(ids.gid, ids.gid, ids.gid)
        os.setresuid(ids.uid, ids.uid, ids.uid)
    except OSError as error:
        raise spawn_error(
            error.errno or 0, f"{who} cannot become user {ids.name!r}: {error.strerror}", stage="user"
        ) from None
    if os.getresuid() != (ids.uid,) * 3 or os.getresgid() != (ids.gid,) * 3 or _way_back(ids.uid):
        # Neither here nor there: nothing may go on running like this.
        os.write(2, b"privileges could be had back after they were dropped\n")
        os._exit(70)


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
    its exit code (1 if that was 0). The daemon lives in a session of its own without a terminal, works in
    ``chdir`` with ``umask``, ignores no signal and blocks none (handlers stay), has /dev/null or the given
    files as its standard streams, and no descriptor but those in ``keep``: close files before.

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
    folder = above_stdio(os.open(chdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
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
    flush_printed()
    words, telling = pipe()
    # The caller's handlers are the daemon's, and nothing for the process in between.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        first = os.fork()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if first:
        telling.close()
        _start(first, words, timeout, mask)
    # Garbage of before may own descriptors; closed later by number, they would be somebody else's.
    gc.freeze()
    words.close()
    _leave_session(telling)
    _reset_signals()
    os.umask(umask)
    os.fchdir(folder)
    null = Descriptor(above_stdio(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)))
    # Copied before any of the three changes, since they may be meant themselves.
    becomes_out = Descriptor(above_stdio(os.dup(null.fileno() if out is None else out)))
    final = Descriptor(above_stdio(os.dup(null.fileno() if err is None else err)))
    os.dup2(null.fileno(), 0)
    os.dup2(becomes_out.fileno(), 1)
    os.dup2(telling.fileno(), 2)  # the starter shows it until we are ready
    null.close()
    becomes_out.close()
    stays = {*kept, telling.fileno(), final.fileno()} | ({held.fileno()} if held is not None else set())
    for each in opened:
        each.detach() if each.fileno() in stays else each.close()
    _wait.abandon()  # its pipe is among what is closed; the next wait makes another
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
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    opened.append(Descriptor(above_stdio(file)))
    return opened[-1].fileno()


def _stay_in_front(
    held: PidFile | None, folder: int, umask: int, out: int | None, err: int | None, opened: list[Descriptor]
) -> Daemon:
    flush_printed()
    os.umask(umask)
    os.fchdir(folder)
    # There only when HUP came before ready(): the starter still shows what goes to stderr.
    final, starter = (None if fd is None else Descriptor(fd) for fd in (image.claim(_STDERR), image.claim(_STARTER)))
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
        ended = _pidfd(daemon)
        # Nothing of the caller's may be held open here, least of all the lock of a daemon that has died.
        _wait.abandon()
        _spawn.close_all_but({telling.fileno()} | ({ended} if ended is not None else set()))
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


def _pidfd(pid: int) -> int | None:
    try:
        return above_stdio(os.pidfd_open(pid))
    except (AttributeError, OSError):
        return None


def _start(first: int, words: Descriptor, timeout: float | None, mask: Iterable[int]) -> NoReturn:
    """The starter's end. Whatever its signal handlers raise, it does not return to the caller's code."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = _await_ready(first, words, timeout)
    except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt or whatever a handler raised ends both of us
        _end(first, words)
        if isinstance(error, KeyboardInterrupt):
            code = 128 + signal.SIGINT
        elif isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) and error.code > 0 else 1
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _await_ready(first: int, words: Descriptor, timeout: float | None) -> int:
    """Show what the daemon says; the exit code that it deserves."""
    deadline = after(timeout)
    # A child of the daemon may hold the pipe open after the daemon's death, so the end is not all we wait for.
    over = _pidfd(first)
    held_back = b""
    said = False
    while True:
        ends = [(words.fileno(), wait.READ)] + ([(over, wait.READ)] if over is not None else [])
        ready = dict(wait.until(ends, deadline))
        if not ready:
            _show(held_back + b"the daemon was not ready within %g s, and was ended\n" % (timeout or 0))
            _end(first, words)
            return 1
        if words.fileno() in ready:
            data = os.read(words.fileno(), 65536)
            if data:
                said = True
                before, is_ready, behind = (held_back + data).partition(_READY)
                if is_ready:
                    _show(before + behind)
                    return 0
                # The last bytes may be the beginning of it.
                shown = max(0, len(before) - len(_READY) + 1)
                held_back = before[shown:]
                _show(before[:shown])
                continue
        elif over is not None:
            how = os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if how is not None and how.si_code != os.CLD_EXITED:
                # Somebody killed the process in between; the daemon lives as long as the pipe is open.
                over = None
                continue
        _show(held_back)
        if not said:
            _show(b"the daemon ended before it was ready\n")
        wait.child(first, after(1.0))
        pid, raw = os.waitpid(first, os.WNOHANG)
        code = os.waitstatus_to_exitcode(raw) if pid else 1
        return code if code > 0 else 1


def _end(first: int, words: Descriptor) -> None:
    """End the daemon, and all of its session's first group, kindly at first."""
    try:
        os.killpg(first, signal.SIGTERM)
    except ProcessLookupError:
        # It has no group of its own yet. Once it is dead it starts nothing more, but it may have until now.
        os.kill(first, signal.SIGKILL)
    else:
        if wait.one(words.fileno(), 0, after(1.0)):
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(first, signal.SIGKILL)


def _show(text: bytes) -> None:
    while text:
        try:
            text = text[os.write(2, text) :]
        except OSError:
            return


def _reset_signals() -> None:
    """What whoever started us ignores and blocks is not the daemon's affair (gotcha:SIG13)."""
    signal.set_wakeup_fd(-1)
    # Python itself ignores these two, and raises errors instead.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            # A shell has its background jobs ignore INT, and Python then leaves it so.
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
