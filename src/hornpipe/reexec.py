"""HUP: executing oneself again (perlipc:D1), or only reading the configuration again (perlipc:D2).

The process stays: its pid, its children, the descriptors it was told to keep. The program is started
anew, as it was at first. Two things make it safe. A rehearsal: the new program is first started beside
the old one, which gives way only when that has come up (gotcha:H3). And HUP stays blocked from before
the exec until the new program has a handler for it: one that comes in between waits (gotcha:H1).
"""

from __future__ import annotations

import _thread
import atexit
import fcntl
import gc
import io
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn

from hornpipe import image, reaper, supervision
from hornpipe._native import signals as _signals
from hornpipe._native.timed_call import KEPT_SIGNALS
from hornpipe.command import Command, cmd
from hornpipe.deadline import NEVER, after, check_timeout, passed
from hornpipe.fd import Descriptor, flush, flush_printed, nonblocking, pipe
from hornpipe.job import NULL
from hornpipe.locks import HasFileno
from hornpipe.signals import SIG, Signal, Unwound
from hornpipe.signals.dispositions import check_main_thread
from hornpipe.signals.watching import send_back

_UP = b"\0up\0"
"""What a rehearsal says when it has come up; no text has it."""
_SHOWN = 2000
"""Bytes of a failed rehearsal's last words that go into the log."""
_HELD_UP = 2.0
"""Seconds that it waits for the rest of a line, if nobody reads it."""
_POLLED = range(1, 7)
"""``si_code`` of a signal that a descriptor sent: POLL_IN to POLL_HUP (sigaction(2))."""
_F_SETOWN_EX, _F_OWNER_TID = 15, 0
"""fcntl(2); Python does not name them."""
# Python ignores these two from its start. Made deadly for as much as a microsecond, PIPE would end the
# process when another thread writes to a client that has gone.
_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
# What ends the program: nobody wants a restart of it then.
_LEAVING = (KeyboardInterrupt, SystemExit)
_UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}


def restart_on_hup(
    *, check: bool | Command[Any] = True, keep: Mapping[str, int | HasFileno] | None = None, timeout: float = 30
) -> None:
    """On HUP, start this program again in this process: the same arguments, directory and environment as at first.

    To be called when everything is set up, ``daemonize()`` included. The descriptors in ``keep``, by name,
    stay open, and ``kept_descriptors()`` gives them to the new program; all others are closed.

    Before the old program gives way, the new one is started beside it, with the kept descriptors, and has
    to reach its own ``restart_on_hup()`` within ``timeout`` seconds; it ends there, and tidies nothing up.
    Meanwhile service goes on; and if it does not come up for good: the log (``"hornpipe"``) says why.
    ``check`` can be another command to succeed in its place, or ``False``.

    A restart comes wherever the main thread is: ``with hp.signals.block("HUP")`` holds it back. In the new
    program HUP is blocked until it calls this or ``on_hup()``; what ``subprocess`` starts before that inherits
    the block, what hornpipe starts does not. Forked children do not restart, and neither does a program
    that is ending. ``ValueError`` off the main thread; ``RuntimeError`` if the program was read from stdin,
    and is gone.
    """
    if image.rehearsal is not None:
        _come_up(image.rehearsal)
    check_timeout(timeout)
    check_main_thread("restart_on_hup()")
    arguments = _same_again()
    for name, thing in (keep or {}).items():
        os.fstat(thing if isinstance(thing, int) else thing.fileno())
        image.keep(name, thing)
    SIG["HUP"] = Restart(arguments, check, timeout)
    _take_over()


def on_hup(reload: Callable[[], object]) -> None:
    """On HUP, call ``reload``, which reads the configuration again; an exception leaves service as it is.

    The log (``"hornpipe"``) then has the traceback. ``sys.exit()`` in ``reload`` counts as an exception
    as well. So that the old configuration stays whole, ``reload`` puts the new one in place at its end.

    >>> import hornpipe as hp, os
    >>> hp.on_hup(lambda: print("read again"))
    >>> hp.kill("HUP", os.getpid())
    read again
    >>> hp.SIG["HUP"] = "DEFAULT"
    """
    SIG["HUP"] = ReadAgain(reload)
    _take_over()


def _take_over() -> None:
    """After a restart: the children of the image before are reaped when they end, and HUP can come."""
    if image.restarted():
        while image.children:
            reaper.adopt(image.children.pop())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def _come_up(telling: int) -> NoReturn:
    # Nothing is tidied up on the way out: the names, locks and files belong to the one that runs.
    try:
        os.write(telling, _UP)
    finally:
        os._exit(0)


def _tell_reloading() -> None:
    # The time is what tells the manager which reload a READY belongs to (sd_notify(3)).
    _tell(RELOADING=1, MONOTONIC_USEC=after(0) // 1000)


def _tell(**state: str | int) -> None:
    """Tell the service manager; that it does not listen is no reason to break off what a handler of HUP interrupted."""
    try:
        supervision.notify(**state)
    except (OSError, ValueError) as error:
        _log(f"the service manager was not told: {error}")


def _log(text: str, trace: bool = False) -> None:
    import logging

    logging.getLogger("hornpipe").error(text, exc_info=trace)


def _same_again() -> list[str]:
    """The command line of this image; ``RuntimeError`` when it cannot be had again."""
    if not sys.executable:
        raise RuntimeError("Python does not know its own program here, so it cannot be started again")
    if sys.argv[:1] in ([], [""], ["-"]):
        raise RuntimeError("this program was read from standard input, so it cannot be started again")
    # Not the name it was called by, which may mean another Python by now, or another environment.
    return [sys.executable, *sys.orig_argv[1:]]


def _environment(descriptors: dict[str, int], facts: list[str]) -> dict[bytes, bytes]:
    made = {**image.environment, image.VARIABLE.encode(): os.fsencode(image.bequest(facts, descriptors))}
    passed = made.get(b"LISTEN_FDS", b"")
    if not passed.isdigit() or not set(range(3, 3 + int(passed))) <= set(descriptors.values()):
        # Not all kept, so there is nothing behind the numbers any more.
        for name in (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES"):
            made.pop(name, None)
    return made


class Restart(_signals.Insistent):
    """The handler of HUP."""

    def __init__(self, arguments: list[str], check: bool | Command[Any], timeout: float) -> None:
        super().__init__(_LEAVING)
        self._arguments = arguments
        self._check = check
        self._timeout = timeout
        self._owner = os.getpid()
        self._rehearsal: _Rehearsal | None = None
        self._again = False
        self._due = NEVER
        atexit.register(self._retire)

    def _retire(self) -> None:
        self._owner = 0

    def act(self, sig: Signal) -> None:
        """Somebody wants a restart, or there is news of the rehearsal."""
        # A worker's HUP is its parent's business. Who has been told to end (unwind), or has ended but for what
        # atexit does, is not brought back to life.
        if os.getpid() != self._owner or _signals.told_to_die():
            return
        if self._due != NEVER:
            self._go()
        elif sig.raw_code not in _POLLED:
            if self._rehearsal is None:
                self._begin()
            else:
                self._again = True  # what it is about may have changed since the rehearsal read it
        while self._rehearsal is not None and self._rehearsal.over():
            self._judge(self._rehearsal)

    def _begin(self) -> None:
        _tell_reloading()
        if self._check is False:
            self._go()
            return
        try:
            self._rehearsal = _Rehearsal(self._arguments, self._check, self._timeout)
        except OSError as error:
            self._stay(str(error))

    def _judge(self, rehearsal: _Rehearsal) -> None:
        self._rehearsal = None
        again, self._again = self._again, False
        reason = rehearsal.end()
        if reason is None:
            self._go()
        else:
            self._stay(reason)
        if again:
            self._begin()

    def _go(self) -> None:
        """Give way, but not in the middle of a line: what has not been written yet would be lost with us."""
        if not _flush():
            if self._due == NEVER:
                self._due = after(_HELD_UP)
            if not passed(self._due):
                os.kill(self._owner, signal.SIGHUP)  # as soon as the interrupted call has returned, or been at it
                return
        self._due = NEVER
        self._stay(_become_again(self._arguments))

    def _stay(self, reason: str) -> None:
        _log(f"not restarted, and going on as before: {reason}")
        _tell(READY=1, STATUS=f"not restarted: {reason.splitlines()[0]}")


class ReadAgain(_signals.Insistent):
    """The handler of HUP that only reads the configuration."""

    def __init__(self, reload: Callable[[], object]) -> None:
        super().__init__(_LEAVING)
        self._reload = reload

    def act(self, sig: Signal) -> None:
        """Do it."""
        _tell_reloading()
        try:
            self._reload()
        except Unwound:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 (whatever it is, service goes on; the log has it all)
            _log("the configuration stays as it was: reading it again failed", trace=True)
            _tell(READY=1, STATUS="the configuration stays as it was: reading it again failed")
        else:
            _tell(READY=1)


class _Rehearsal:
    """The new program, beside the old one, which is told by HUP itself when there is news of it.

    No thread waits for it and no handler: the pipe on which it speaks sends us a signal whenever there
    is something to read (O_ASYNC, fcntl(2)), so that service goes on until it has come up. The deadline
    is held by its supervisor.
    """

    def __init__(self, arguments: list[str], check: bool | Command[Any], timeout: float) -> None:
        self._words = b""
        self._must_come_up = isinstance(check, bool)
        self._timeout = timeout
        self._told, telling = pipe()
        with ExitStack() as on_failure, telling:
            on_failure.callback(self._told.close)
            told = self._told.fileno()
            nonblocking(told)
            # To this thread. Of two HUPs for the process the kernel keeps the first while they wait, and with it
            # what it was about: somebody's wish would vanish in our news.
            fcntl.fcntl(told, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, _thread.get_native_id()))
            fcntl.fcntl(told, fcntl.F_SETSIG, signal.SIGHUP)
            command = check if not isinstance(check, bool) else _rehearsed(arguments, telling.fileno())
            self._process = command.with_options(
                stdin=NULL, stdout=NULL, stderr=telling.fileno(), contain=True, timeout=timeout
            ).start()
            on_failure.pop_all()
        # From here on it signals; what came before this is seen by whoever made us, who looks at once.
        fcntl.fcntl(told, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def over(self) -> bool:
        """Whether it has come up, or ended."""
        while not self._came_up():
            try:
                data = os.read(self._told.fileno(), 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._words = (self._words + data)[-_SHOWN:]
        return True

    def _came_up(self) -> bool:
        return self._must_come_up and self._words.endswith(_UP)

    def end(self) -> str | None:
        """End it, once it is over: why the program cannot be restarted, ``None`` if it can."""
        self._told.close()
        status = self._process.wait_until(after(1.0))
        if self._process.expired:
            reason = f"the rehearsal had not come up within {self._timeout:g} s"
        elif status is None:
            self._process.terminate(0)
            reason = "the rehearsal closed its standard error, and went on"
        else:
            reason = "the rehearsal ended before it had come up" if status else f"the rehearsal failed: {status}"
        if self._came_up() if self._must_come_up else status:
            return None
        words = self._words.decode(errors="backslashreplace").strip()
        return f"{reason}; its last words:\n{words}" if words else reason


def _rehearsed(arguments: list[str], telling: int) -> Command[str]:
    descriptors = image.to_keep()
    wanted = _environment(descriptors, [f"rehearsal {telling}"])
    # What it says to a service manager would be taken for ours.
    for name in (b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID"):
        wanted.pop(name, None)
    changes: dict[Any, Any] = {name: None for name in os.environb if name not in wanted} | wanted
    return cmd(
        *arguments,
        cwd=image.directory,
        env=changes,
        pass_fds=tuple({telling, *(fd for fd in descriptors.values() if fd > 2)}),
    )


# --- the exec ---


def _become_again(arguments: list[str]) -> str:
    """Execute this program again (execve(2)). If that fails everything is as it was, and the reason is returned."""
    with _mask(signal.valid_signals()):
        # Signals that have been taken down and not been handled yet would be lost with us: Python calls their
        # handlers now, in the order of their numbers, HUP first. One of them may raise, and we stay.
        _thread.interrupt_main(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            _exec(arguments)
        except OSError as error:
            return f"the exec failed: {error}"


def _exec(arguments: list[str]) -> NoReturn:
    descriptors = image.to_keep()
    facts = [f"pid {os.getpid()}", *(f"child {pid}" for pid in reaper.children())]
    environment = _environment(descriptors, facts)
    with _only_these_stay_open({*descriptors.values()}), _started_directory(), _no_timers(), _default_dispositions():
        send_back()
        # Whatever has come since all were blocked meets the default here, as it would a moment later.
        with _mask([signal.SIGHUP]):
            os.execve(arguments[0], arguments, environment)


@contextmanager
def _mask(numbers: Iterable[int]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _default_dispositions() -> Iterator[None]:
    """Ignored signals would stay so in the new image, and those with handlers would be taken down by us, who go.

    What whoever started us had made us ignore does stay so (gotcha:SIG16).
    """
    before = {}
    try:
        # Not the clock signal: by the default it ends the process, and a limit may run out at any moment.
        for number in signal.valid_signals() - _PYTHONS_OWN - _UNCHANGEABLE - {signal.SIGHUP, *KEPT_SIGNALS}:
            kind, raw = _signals.look(number)
            inherited = kind == _signals.IGNORED and image.ignored >> (number - 1) & 1
            if kind != _signals.DEFAULT and not inherited:
                _signals.set_simply(number, False, 0)
                before[number] = raw
        yield
    finally:
        for number, raw in before.items():
            _signals.restore(number, raw)


@contextmanager
def _only_these_stay_open(kept: set[int]) -> Iterator[None]:
    changed = []
    try:
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            with suppress(OSError):  # the descriptor of the listing itself
                if fd > 2 and os.get_inheritable(fd) != (fd in kept):
                    os.set_inheritable(fd, fd in kept)
                    changed.append(fd)
        yield
    finally:
        for fd in changed:
            with suppress(OSError):  # closed by another thread meanwhile
                os.set_inheritable(fd, fd not in kept)


@contextmanager
def _started_directory() -> Iterator[None]:
    if image.directory is None:
        yield
        return
    with Descriptor(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as here:
        os.chdir(image.directory)
        try:
            yield
        finally:
            os.fchdir(here.fileno())


@contextmanager
def _no_timers() -> Iterator[None]:
    """Interval timers and alarm(2) would go on, and strike an image that knows nothing of them."""
    kinds = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    before = [signal.setitimer(kind, 0) for kind in kinds]
    try:
        yield
    finally:
        for kind, (first, interval) in zip(kinds, before, strict=True):
            signal.setitimer(kind, first, interval)


def _flush() -> bool:
    """What we have written comes before what the next image writes; atexit is not run by an exec.

    False when HUP came in the middle of writing, so that the rest is in nobody's reach.
    """
    whole = flush_printed()
    # Regular files only: a pipe that nobody reads would hold us up for ever.
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for stream in [each for each in gc.get_objects() if type(each) in kinds]:
        try:
            regular = not stream.closed and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        except (OSError, ValueError):
            continue
        if regular:
            whole &= flush(stream)
    return whole
