"""What can be done with a command: each verb a few lines on top of the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NoReturn, Self, TypeVar

from hornpipe.command import keyboard
from hornpipe.command.duplex import Duplex
from hornpipe.command.options import Given, merged
from hornpipe.command.streams import Lines, Reader, Writer
from hornpipe.errors import LimitExceeded
from hornpipe.fd import Descriptor, flush_printed
from hornpipe.job import Job, aborting
from hornpipe.lines import Codec, Kept, Str, Tail
from hornpipe.process import Detached
from hornpipe.pump import Keeper, StrictKeeper
from hornpipe.stages import Stage, Terms
from hornpipe.status import ExitStatus

Other = TypeVar("Other", bound="str | bytes")
"""What the last stage of a pipeline speaks."""


class Captured(Generic[Str]):
    """What ``capture()`` gives."""

    __slots__ = ("status", "statuses", "stderr", "stdout", "truncated")

    def __init__(
        self,
        stdout: Str,
        stderr: Str,
        status: ExitStatus,
        statuses: tuple[ExitStatus, ...],
        truncated: bool,
    ) -> None:
        self.stdout = stdout
        """What the (last) program wrote there, all of it unless ``truncated``."""
        self.stderr = stderr
        """The same, of all stages one after another."""
        self.status = status
        """The last stage's; with ``check=False``, that of the first one that failed."""
        self.statuses = statuses
        """One for each stage."""
        self.truncated = truncated
        """Whether ``buffer_limit`` cut something off."""

    def __bool__(self) -> bool:
        return bool(self.status)

    def __repr__(self) -> str:
        cut = ", truncated=True" if self.truncated else ""
        return f"Captured(stdout={self.stdout!r}, stderr={self.stderr!r}, status={self.status!r}{cut})"


class Runnable(Generic[Str]):
    """Something that can be run: a ``Command``, a ``Function`` or a ``Pipeline``. Immutable."""

    _codec: Codec[Str]
    _options: Given

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a {type(self).__name__} is a description and does not change; with_options() makes another"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is a description and does not change")

    def _put(self, **fields: object) -> None:
        self.__dict__.update(fields)

    # --- what each kind says of itself ---

    def _stages(self) -> list[Stage]:
        raise NotImplementedError

    def _first_options(self) -> Given:
        return self._options

    def _last_options(self) -> Given:
        return self._options

    def _copy(self, options: Given, codec: Codec[Any]) -> Any:
        raise NotImplementedError

    def _with(self, options: Mapping[str, object]) -> Self:
        made: Self = self._copy(merged(self._options, options), self._codec)
        return made

    # --- the job ---

    def _job(self) -> Job:
        return Job(self._stages(), Terms(self, self._codec, self._options))

    def _refuse(self, verb: str, *names: str) -> None:
        """Options that a verb cannot honour are refused, not ignored."""
        first, last = self._first_options(), self._last_options()
        if not first and not last:
            return
        for name in names:
            options = first if name in ("stdin", "input") else last
            if name in options and options[name] is not False:
                raise ValueError(f"{verb}() has its own use for {name}; {name}={options[name]!r} cannot be honoured")

    def _run_at_once(self) -> ExitStatus | None:
        """Run what has no options and shares no keyboard with us; else ``None``, and nothing has happened."""
        return None

    def _run_plainly(self, output: Keeper | None = None, errors: Keeper | None = None) -> ExitStatus | None:
        """Run what has no options, and keep what it writes; ``None`` where that takes a job."""
        return None

    # --- the verbs ---

    def run(self) -> ExitStatus:
        """Run it to its end with our own stdin, stdout and stderr: Perl's ``system`` (perlipc:O10).

        Its status; ``CommandFailed`` when that is not among ``ok_codes``, unless ``check=False``.
        Ctrl-C is the program's first: ``KeyboardInterrupt`` comes when it died of that.

        >>> import hornpipe as hp
        >>> hp.cmd("true").run()
        ExitStatus(0)
        >>> hp.cmd("false", check=False).run().code
        1
        """
        ended = self._run_at_once()
        if ended is not None:
            return ended
        self._refuse("run", "pty")
        flush_printed()
        shared = keyboard.shared()
        interactive = "stdin" not in self._first_options() and "input" not in self._first_options()
        if not shared:
            with aborting(self._job()) as job:
                job.start(interactive=interactive)
                return job.complete()
        with keyboard.Patience() as patience, aborting(self._job()) as job:
            job.start(interactive=interactive)
            status = job.complete()
            patience.look(status)
        return status

    def read(self) -> Str:
        r"""Run it and return all of its stdout: Perl's backticks (perlipc:O7).

        Its stdin is empty unless ``input`` or ``stdin`` says otherwise. More output than
        ``buffer_limit`` raises ``LimitExceeded`` (a ``BufferError``), at once unless its ``Tail`` was
        asked for.

        >>> import hornpipe as hp
        >>> hp.cmd("echo", "$HOME;  two").read()
        '$HOME;  two\n'
        >>> hp.cmd("sort", input="b\na\n").read()
        'a\nb\n'
        """
        self._refuse("read", "stdout")
        if not self._options:
            sink = Keeper(None)
            if self._run_plainly(sink) is not None:
                return self._codec.decode(sink.kept.finish())
        limit = self._last_options().get("buffer_limit")

        def exceeded(kept: Kept) -> LimitExceeded:
            return LimitExceeded(
                f"{str(self)!r} wrote {kept.seen} bytes, more than buffer_limit={limit}",
                limit=limit or 0,
                data=self._codec.decode(kept.peek()),
            )

        # The end of an output is to be had only at its end; for the rest an endless one is not waited for.
        sink = Keeper(limit) if limit is None or isinstance(limit, Tail) else StrictKeeper(limit, exceeded)
        with aborting(self._job()) as job:
            job.start(stdin="null", stdout="pipe")
            job.keep_stdout(sink)
            job.read_so_far = sink.kept.peek
            job.complete()
        if sink.kept.truncated:
            raise exceeded(sink.kept)
        return self._codec.decode(sink.kept.finish())

    def capture(self) -> Captured[Str]:
        r"""Run it and return stdout, stderr and status; any volume on both at once (gotcha:C1).

        Beyond ``buffer_limit`` only the head (or, with ``Tail(n)``, the tail) of each is kept, and
        ``.truncated`` says so.

        >>> import hornpipe as hp
        >>> hp.sh("echo out; echo err >&2; exit 3", check=False).capture()
        Captured(stdout='out\n', stderr='err\n', status=ExitStatus(768))
        """
        self._refuse("capture", "stdout")
        if not self._options:
            sink, kept = Keeper(None), Keeper(None)
            status = self._run_plainly(sink, kept)
            if status is not None:
                out, err = sink.kept.finish(), kept.kept.finish()
                return Captured(self._codec.decode(out), self._codec.decode(err), status, (status,), False)
        limit = self._last_options().get("buffer_limit")
        sink = Keeper(limit)
        with aborting(self._job()) as job:
            job.start(stdin="null", stdout="pipe", stderr="keep", buffer_limit=limit)
            job.keep_stdout(sink)
            job.read_so_far = sink.kept.peek
            status = job.complete()
        errors = job.kept_stderr()
        return Captured(
            self._codec.decode(sink.kept.finish()),
            self._codec.decode(b"".join(kept.kept.finish() for kept in errors)),
            status,
            tuple(status for status in job.statuses if status is not None),
            sink.kept.truncated or any(kept.kept.truncated for kept in errors),
        )

    def lines(self) -> Lines[Str]:
        """Run it and iterate over its lines, without terminators, while it runs (perlipc:O2).

        Leaving early (by ``break`` or the ``with`` block) ends it and is no error; its status is
        checked at the end of the output.

        >>> import hornpipe as hp
        >>> list(hp.cmd("seq", "3").lines())
        ['1', '2', '3']
        >>> with hp.cmd("yes").lines() as lines:
        ...     next(lines)
        'y'
        """
        self._refuse("lines", "stdout")
        self._codec.check_lines()
        with aborting(self._job()) as job:
            job.start(stdin="null", stdout="pipe")
            return Lines(job, _taken(job, "stdout"), self._codec, self._last_options().get("line_limit"))

    def reader(self) -> Reader[Str]:
        r"""Run it and read its stdout through a file object: ``open "-|"`` (perlipc:O2, O8).

        >>> import hornpipe as hp
        >>> with hp.cmd("echo", "hello").reader() as file:
        ...     file.read(4), file.read()
        ('hell', 'o\n')
        """
        self._refuse("reader", "stdout")
        with aborting(self._job()) as job:
            job.start(stdin="null", stdout="pipe")
            return Reader(job, _taken(job, "stdout"), self._codec, self._last_options().get("line_limit"))

    def writer(self) -> Writer[Str]:
        """Run it and write to its stdin through a file object: ``open "|-"`` (perlipc:O1, O5).

        >>> import hornpipe as hp
        >>> with hp.cmd("cat", stdout=hp.NULL).writer() as file:
        ...     print("hello", file=file)
        """
        self._refuse("writer", "stdin", "input", "pty")
        flush_printed()
        with aborting(self._job()) as job:
            job.start(stdin="pipe")
            return Writer(job, _taken(job, "stdin"), self._codec)

    def duplex(self, stderr: bool = False) -> Duplex[Str]:
        """Run it and hold both of its ends: ``open2``; with its stderr too, ``open3`` (perlipc:B1, B2).

        >>> import hornpipe as hp
        >>> with hp.cmd("cat").duplex() as cat:
        ...     cat.ask("anybody there?")
        'anybody there?'
        """
        self._refuse("duplex", "stdin", "stdout", "input")
        last = self._last_options()
        if stderr and last.get("stderr") is not None:
            raise ValueError(f"duplex(stderr=True) reads stderr; stderr={last['stderr']!r} cannot be honoured")
        self._codec.check_lines()
        with aborting(self._job()) as job:
            job.start(stdin="pipe", stdout="pipe", stderr="pipe" if stderr else "inherit")
            errors, job.stderr = job.stderr, None
            return Duplex(
                job,
                _taken(job, "stdout"),
                _taken(job, "stdin"),
                errors,
                self._codec,
                buffer_limit=last.get("buffer_limit"),
                line_limit=last.get("line_limit"),
                terminal=bool(self._first_options().get("pty")),
            )

    def start(self) -> Any:
        """Start it and return at once; it captures nothing."""
        job = self._started("start")
        return job if len(job.processes) > 1 else job.processes[0]

    def background(self) -> Detached:
        """Start it and let it go: it shares our stdout and stderr and is never a zombie (perlipc:D4).

        >>> import hornpipe as hp
        >>> process = hp.cmd("sleep", "60").background()
        >>> process.alive(), process.kill()
        (True, True)
        """
        if self._options.get("timeout") is not None:
            raise ValueError("background() has nobody to enforce timeout; use start(), or contain=True with it")
        job = self._started("background")
        for process in job.processes[:-1]:
            process.forget()
        return Detached(job.processes[-1])

    def _started(self, verb: str) -> Job:
        from hornpipe.command.stored_input import as_file

        self._refuse(verb, "pty")
        flush_printed()
        stages = self._stages()
        first = stages[0]
        file: Descriptor | None = None
        if first.input is not None:
            # Nobody will be there to feed it, so it is stored where the program can read it by itself.
            file = as_file(verb, first.input, self._codec)
            first.input = None
            first.redirections = (file.fileno(), *first.redirections[1:])
        for stage in stages:
            stage.refuse_tail(f"{verb}()")
        with aborting(Job(stages, Terms(self, self._codec, self._options))) as job:
            try:
                job.start(stdin="null" if verb == "background" else "inherit")
            finally:
                if file is not None:
                    file.close()
            return job

    def exec(self) -> NoReturn:
        """Become the program; does not return."""
        raise TypeError(f"a {type(self).__name__} cannot be exec'ed: it is not one program")


def _taken(job: Job, name: str) -> Descriptor:
    end: Descriptor = getattr(job, name)
    setattr(job, name, None)
    return end


__all__ = ["Captured", "Other", "Runnable"]
