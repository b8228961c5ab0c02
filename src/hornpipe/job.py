"""One to n processes, one deadline, one outcome."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from hornpipe import deadline as deadlines
from hornpipe import foreground, pty, spawn, wait
from hornpipe.errors import CommandFailed, CommandTimeout, brief, indented
from hornpipe.fd import Descriptor, above_stdio, pipe, widen
from hornpipe.lines import Codec
from hornpipe.process import AFTER_KILL, GRACE, Process
from hornpipe.pump import Keeper, Pump, Sink, Tee, pieces
from hornpipe.reaper import Child
from hornpipe.redirections import NULL, STDOUT, TAIL, UNCHANGED, check_open, open_redirection, our_stderr
from hornpipe.spawn.diagnosis import without_descriptors
from hornpipe.spawn.recipe import Recipe
from hornpipe.status import ExitStatus

KEPT_OF_STDERR = 8192
"""Bytes of stderr that ``TAIL`` keeps."""


class Stage:
    """One process of a job before its start: its recipe, its redirections, its input."""

    __slots__ = ("input", "pty", "recipe", "redirections")

    def __init__(self, recipe: Recipe, redirections: tuple[Any, Any, Any], fed: object, terminal: bool) -> None:
        self.recipe = recipe
        self.redirections = redirections
        self.input = fed
        self.pty = terminal

    def refuse_tail(self, who: str) -> None:
        """``ValueError`` for ``stderr=TAIL`` where nobody stays to read it and to pass it on."""
        if self.redirections[2] is TAIL:
            raise ValueError(f"{who} has nobody to read stderr=TAIL; name a file, or STDOUT")


WHOLE = frozenset(("timeout", "grace", "ok_codes", "check", "contain"))
"""The options that belong to a job as a whole, and not to its stages."""


class Terms:
    """What belongs to the whole of a job."""

    timeout: float | None = None
    grace: float = GRACE
    ok_codes: tuple[int, ...] = (0,)
    check: bool = True
    contain: bool = False

    def __init__(self, command: object, codec: Codec[Any], options: Mapping[str, Any]) -> None:
        self._command = command
        self.codec = codec
        for name in options:
            if name in WHOLE:
                setattr(self, name, options[name])

    @property
    def label(self) -> str:
        """The command as a line that can be pasted into a shell."""
        return brief(str(self._command))


class Job:
    """The processes of one command or pipeline.

    What ``start()`` gives for a pipeline; inside, what every verb stands on.
    """

    _foreground: foreground.Foreground | None = None
    _terminal: Descriptor | None = None
    _settled = False
    _buffer_limit: int | None = None
    stdin: Descriptor | None = None
    stdout: Descriptor | None = None
    stderr: Descriptor | None = None
    read_so_far: Callable[[], bytes] | None = None
    """What a time-out shows of the output."""

    def __init__(self, stages: Sequence[Stage], terms: Terms) -> None:
        self._stages = stages
        self._terms = terms
        self._deadline = deadlines.after(terms.timeout)
        self._pump = Pump()
        self._stderr: list[Keeper | Tee | None] = [None] * len(stages)
        self.processes: list[Process] = []
        """One for each stage."""

    @property
    def deadline(self) -> int:
        """When it must be over."""
        return self._deadline

    @property
    def label(self) -> str:
        """The command as a line that can be pasted into a shell."""
        return self._terms.label

    @property
    def grace(self) -> float:
        """Seconds between TERM and KILL."""
        return self._terms.grace

    @property
    def pump(self) -> Pump:
        """What moves its bytes."""
        return self._pump

    # --- starting ---

    def start(
        self,
        *,
        stdin: str = "inherit",
        stdout: str = "inherit",
        stderr: str = "inherit",
        interactive: bool = False,
        buffer_limit: int | None = None,
    ) -> None:
        """Start all stages, or none.

        Each of the job's ends is ``"inherit"``, ``"null"`` or ``"pipe"`` where the stage does not say
        otherwise; with stderr ``"keep"`` or ``"pipe"``. ``interactive`` hands the terminal over;
        ``buffer_limit`` is how many bytes are kept of each stream that is read here.
        """
        for stage in self._stages:
            if stage.redirections != UNCHANGED or stage.recipe.pass_fds:
                check_open(stage.recipe, stage.redirections)
        temporary: list[Descriptor] = []
        self._buffer_limit = buffer_limit
        try:
            if interactive and (self._terms.timeout is not None or self._terms.contain):
                self._foreground = foreground.foreground()
                if self._foreground is not None and len(self._stages) > 1:
                    self._foreground.gather(self._stages[0].recipe, self._deadline)
            above: Descriptor | None = None
            last = len(self._stages) - 1
            for number, stage in enumerate(self._stages):
                below: Descriptor | None = None
                writer: Descriptor | None = None
                if number < last:
                    below, writer = pipe()
                    widen(writer.fileno())
                    temporary += below, writer
                ends, terminal = self._ends(number, stage, above, writer, stdin, stdout, stderr, temporary)
                self._start_stage(number, stage.recipe, ends, terminal)
                # At once: a reader sees the end only when every copy of the write end is closed.
                for descriptor in temporary:
                    if descriptor is not below:
                        descriptor.close()
                temporary = [] if below is None else [below]
                above = below
            self._feed()
        except BaseException as error:
            for descriptor in temporary:
                descriptor.close()
            self.abort()
            for process in self.processes:
                process.release()  # an exception that is kept must not keep their pidfds
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                recipe = self._stages[min(len(self.processes), len(self._stages) - 1)].recipe
                raise without_descriptors(recipe, error) from None
            raise

    def _start_stage(self, number: int, recipe: Recipe, ends: spawn.Ends, terminal: int) -> None:
        terms = self._terms
        alone = len(self._stages) == 1
        # One with a session of its own has left our terminal.
        front = self._foreground if alone or not recipe.new_session else None
        if terms.contain or front is not None:
            from hornpipe import contain as containment

            process, supervisor = containment.start(
                recipe,
                ends,
                contain=terms.contain,
                grace=terms.grace,
                terminal=terminal,
                foreground=front.fd if front is not None and alone else -1,
                group=0 if front is None else front.group,
                deadline=self._deadline,
            )
            self.processes.append(process)
            if front is not None:
                front.watch(process, supervisor)
        else:
            process = spawn.start(
                recipe,
                ends,
                group=terms.timeout is not None,
                terminal=terminal,
                deadline=self._deadline,
            )
            self.processes.append(process)
        if terms.timeout is not None:
            process.limit(terms.timeout, self._deadline, terms.grace)

    def _ends(
        self,
        number: int,
        stage: Stage,
        above: Descriptor | None,
        below: Descriptor | None,
        stdin: str,
        stdout: str,
        stderr: str,
        temporary: list[Descriptor],
    ) -> tuple[spawn.Ends, int]:
        """The descriptors of one stage; what only the child needs goes into ``temporary``."""
        wanted_in, wanted_out, wanted_err = stage.redirections
        terminal: Descriptor | None = None
        controlling = -1

        def opened(wanted: Any, flags: int) -> int | None:
            try:
                return open_redirection(wanted, flags, temporary, self._deadline)
            except TimeoutError as error:
                terms = self._terms
                raise CommandTimeout(
                    f"{terms.label!r} did not start within {terms.timeout:g} s: {error}",
                    command=terms.label,
                    timeout=terms.timeout,
                    status=None,
                ) from None

        ours: Descriptor | None = None
        if stage.pty:
            ours, terminal = pty.open_pair()
            temporary.append(terminal)
            # A program may close its terminal and work on. Were our side closed then, as the end of
            # its output has it, the kernel would send it HUP (gotcha:TTY3).
            self._terminal = Descriptor(above_stdio(os.dup(ours.fileno())))

        ends: list[int | None] = [None, None, None]
        if above is not None:
            ends[0] = above.fileno()
        elif wanted_in is not None:
            ends[0] = opened(wanted_in, os.O_RDONLY)
        elif terminal is not None:
            ends[0] = terminal.fileno()
        elif stage.input is not None or stdin == "pipe":
            reader, self.stdin = pipe()
            temporary.append(reader)
            ends[0] = reader.fileno()
        elif stdin == "null":
            ends[0] = opened(NULL, os.O_RDONLY)

        if below is not None:
            ends[1] = below.fileno()
        elif wanted_out is not None:
            ends[1] = opened(wanted_out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        elif stdout == "pipe":
            if terminal is not None and ours is not None:
                ends[1] = terminal.fileno()
                self.stdout = ours
                if ends[0] == terminal.fileno():
                    self.stdin = Descriptor(above_stdio(os.dup(ours.fileno())))
                    if stdin == "null":
                        pty.end_input(self.stdin, stage.input)
            else:
                self.stdout, writer = pipe()
                temporary.append(writer)
                ends[1] = writer.fileno()

        if terminal is not None:
            controlling = 0 if ends[0] == terminal.fileno() else 1
        if wanted_err is STDOUT or (wanted_err is None and terminal is not None):
            ends[2] = ends[1] if ends[1] is not None else 1
        elif wanted_err is TAIL:
            ends[2] = self._keep_stderr(number, Tee(our_stderr(), KEPT_OF_STDERR), temporary)
        elif wanted_err is not None:
            ends[2] = opened(wanted_err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        elif stderr == "keep":
            ends[2] = self._keep_stderr(number, Keeper(self._buffer_limit), temporary)
        elif stderr == "pipe" and number == len(self._stages) - 1:
            self.stderr, writer = pipe()
            temporary.append(writer)
            ends[2] = writer.fileno()
        return (ends[0], ends[1], ends[2]), controlling

    def _keep_stderr(self, number: int, sink: Keeper | Tee, temporary: list[Descriptor]) -> int:
        reader, writer = pipe()
        temporary.append(writer)
        self._stderr[number] = sink
        self._pump.drain(reader, sink)
        return writer.fileno()

    def _feed(self) -> None:
        first = self._stages[0]
        if first.input is not None and self.stdin is not None:
            data: Any = first.input
            if first.pty:
                data = pty.typed(pieces(data, self._terms.codec))
            process = self.processes[0]
            stop = process.pidfd
            self._pump.feed(self.stdin, data, self._terms.codec, stop, lambda: process.ended)
            self.stdin = None

    def keep_stdout(self, sink: Sink) -> None:
        """Let the pump read stdout into ``sink``."""
        assert self.stdout is not None
        self._pump.drain(self.stdout, sink)
        self.stdout = None

    def take_over(self, child: Child, pump: Pump, output: Keeper | None, errors: Keeper | None) -> Job:
        """Let it end, or judge, what was started without it."""
        self.processes.append(Process(child, self._stages[0].recipe.command))
        self._pump = pump
        self._stderr[0] = errors
        if output is not None:
            self.read_so_far = output.kept.peek
        return self

    # --- the end ---

    def complete(self, early: bool = False) -> ExitStatus:
        """Move what is to be moved, wait for everything, judge."""
        try:
            if self._pump.busy and not self._pump.run(self._deadline):
                self.expire()
            front = self._foreground
            if front is not None and not front.wait_for_end(self._deadline):
                self.expire()
            # Waited for together before any is reaped: the group of a process that is gone cannot be
            # signalled any more. One alone can be reaped at once.
            for process in self.processes if len(self.processes) > 1 else ():
                if not process.wait_for_end(self._deadline):
                    self.expire()
            statuses = self._statuses(self._deadline)
            if front is not None and any(status.signal == int(signal.SIGINT) for status in statuses):
                # Ctrl-C went to the group in front alone; the user meant the whole, and us.
                raise KeyboardInterrupt
        except BaseException:
            self.abort()
            raise
        if front is not None:
            self._release_terminal(restore=any(status.signal is not None for status in statuses))
        self._hang_up()
        return self.judge(statuses, early)

    def _hang_up(self) -> None:
        if self._terminal is not None:
            self._terminal.close()

    def _release_terminal(self, restore: bool) -> None:
        front, self._foreground = self._foreground, None
        if front is not None:
            front.close(restore)

    def _statuses(self, deadline: int) -> list[ExitStatus]:
        statuses = []
        for process in self.processes:
            status = process.wait_until(deadline)
            if status is None or process.expired:  # or a supervisor was quicker than we
                self.expire()
            statuses.append(status)
        self._settled = True
        return statuses

    @property
    def statuses(self) -> tuple[ExitStatus | None, ...]:
        """One for each stage; ``None`` for one that still runs."""
        return tuple(process.poll() for process in self.processes)

    def judge(self, statuses: Sequence[ExitStatus], early: bool = False) -> ExitStatus:
        """The outcome: ``CommandFailed`` for the first stage that failed, else the last one's status.

        With ``early`` the reader left before the end, and how the processes took that is no failure.
        """
        worst = self._first_failure(statuses)
        if worst is None or early:
            return statuses[-1]
        if not self._terms.check:
            return statuses[worst]
        recipe = self._stages[worst].recipe
        if len(statuses) > 1:
            message = f"stage {worst + 1} of {self._terms.label!r}, {recipe.label!r}, {_past(statuses[worst])}"
        else:
            message = f"{recipe.label!r} {_past(statuses[worst])}"
        raise CommandFailed(
            message,
            command=self._terms.label,
            argv=recipe.argv,
            status=statuses[worst],
            statuses=tuple(statuses),
            stage=worst,
            stdout=self._seen(),
            stderr=self.stderr_of(worst),
        )

    def _first_failure(self, statuses: Sequence[ExitStatus]) -> int | None:
        for number, status in enumerate(statuses):
            if status.raw == 0 and 0 in self._terms.ok_codes:
                continue  # nearly all of them
            if status.code in self._terms.ok_codes:  # a status without a code is none of them
                continue
            # A writer whose reader had enough (`yes | head -1`) dies by PIPE: success, as a user means it.
            if status.signal == int(signal.SIGPIPE) and number < len(statuses) - 1:
                continue
            return number
        return None

    def _seen(self) -> Any:
        if self.read_so_far is None:
            return None
        return _leniently(self._terms.codec, self.read_so_far())

    def stderr_of(self, number: int) -> Any:
        """What one stage wrote to its stderr, where that was ours to see."""
        sink = self._stderr[number]
        return None if sink is None else _leniently(self._terms.codec, sink.kept.peek())

    def kept_stderr(self) -> list[Keeper | Tee]:
        """What was kept of stderr, stage by stage."""
        return [sink for sink in self._stderr if sink is not None]

    def expire(self) -> NoReturn:
        """The deadline has passed: end everything, and say what had been read."""
        waiting = "its output is still held open" if all(p.ended for p in self.processes) else ""
        last = self.end(self._terms.grace)
        survivors = tuple(pid for process in self.processes for pid in process.survivors())
        terms = self._terms
        message = f"{terms.label!r} did not finish within {terms.timeout:g} s"
        if last is not None and not waiting:
            message += f"; {_past(last)}" if not last else "; it finished while being ended"
        elif waiting:
            message += f"; it {_past(last)}, but {waiting} by a process it started" if last is not None else ""
        if survivors:
            message += f"; still there after KILL: {', '.join(map(str, survivors))}"
        self._settled = True
        self._release_terminal(restore=True)
        raise CommandTimeout(
            message,
            command=terms.label,
            timeout=terms.timeout,
            status=last,
            stdout=self._seen(),
            stderr=self.stderr_of(len(self.processes) - 1),
            survivors=survivors,
        )

    def end(self, grace: float) -> ExitStatus | None:
        """End what runs: TERM, then KILL after ``grace`` seconds; the last stage's status."""
        shared = None if self._terms.contain else self._foreground  # what is contained gets it from its supervisor
        if grace > 0:
            limit = deadlines.after(grace)
            if shared is not None:
                shared.signal(signal.SIGTERM)
            for process in self.processes:
                if shared is None or not shared.shared_by(process):
                    process.ask_to_end(grace)
            self._move_until_ended(limit)
        if shared is not None:
            shared.signal(signal.SIGKILL)
        for process in self.processes:
            if not process.ended or process.rung in ("group", "session"):
                process.kill("KILL")
        self._move_until_ended(deadlines.after(AFTER_KILL))
        self._pump.close()
        self._hang_up()
        statuses = [process.wait_until(0) for process in self.processes]
        for process in self.processes:
            if process.poll() is None:
                process.forget()
        return statuses[-1] if statuses else None

    def _move_until_ended(self, limit: int) -> None:
        """Go on moving bytes meanwhile: a process that writes its last words to a full pipe cannot end."""
        while not deadlines.passed(limit):
            running = [process for process in self.processes if not process.ended]
            if not running:
                # What they left in the pipes; the rest belongs to processes that hold them open.
                while self._pump.busy and not deadlines.passed(limit) and self._pump.step(0):
                    pass
                return
            beside = [(process.pidfd, wait.READ) for process in running if process.pidfd >= 0]
            if len(beside) == len(running):
                self._pump.step(limit, beside)
            else:
                running[0].wait_for_end(deadlines.sooner(limit, deadlines.after(0.01)))
                self._pump.step(0)

    def leave(self) -> None:
        """The reader or writer has had enough: end everything, and call nothing a failure."""
        self._settled = True
        self._hang_up()
        self.end(self._terms.grace)

    def drained_stderr(self) -> str:
        """What the stages said on stderr, for a message."""
        while self._pump.busy and self._pump.step(0):
            pass
        kept = b"".join(sink.kept.peek() for sink in self.kept_stderr())
        return indented("stderr", kept)

    def abort(self) -> None:
        """An exception is leaving: end everything first, and quietly."""
        self._hang_up()
        if not self._settled:
            self._settled = True
            for end in (self.stdin, self.stdout, self.stderr):
                if end is not None:
                    end.close()
            self.end(self._terms.grace)
        else:
            self._pump.close()
        self._release_terminal(restore=True)

    # --- what start() of a pipeline gives ---

    @property
    def pids(self) -> tuple[int, ...]:
        """One for each stage."""
        return tuple(process.pid for process in self.processes)

    def wait(self, timeout: float | None = None) -> ExitStatus:
        """Wait for all stages: the first failure's status, or the last stage's.

        ``TimeoutError`` after ``timeout`` seconds, and they go on running.
        """
        asked = deadlines.after(timeout)
        try:
            for process in self.processes:
                process.wait(deadlines.seconds_left(asked))
        except CommandTimeout:
            self.terminate()
            raise
        statuses = self._statuses(deadlines.NEVER)
        worst = self._first_failure(statuses)
        return statuses[-1 if worst is None else worst]

    def poll(self) -> ExitStatus | None:
        """The same without waiting: ``None`` while any stage runs."""
        return self.wait(0) if all(status is not None for status in self.statuses) else None

    def kill(self, which: str | int = "KILL") -> bool:
        """Send a signal to every stage; false when none is left."""
        reached = [process.kill(which) for process in self.processes]
        return True in reached

    def terminate(self, grace: float | None = None) -> ExitStatus | None:
        """End every stage: TERM, and KILL after ``grace`` seconds."""
        self._settled = True
        return self.end(self._terms.grace if grace is None else grace)

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.terminate()
        else:
            self.wait()

    def __repr__(self) -> str:
        return f"<Job {self._terms.label!r}, pids {', '.join(map(str, self.pids))}>"


def _past(status: ExitStatus) -> str:
    return f"was {status}" if status.signal is not None else str(status) if status.known else f"ended, {status}"


def _leniently(codec: Codec[Any], data: bytes) -> Any:
    """For an error: an undecodable byte must not hide what really happened."""
    if not codec.is_text:
        return data
    try:
        return codec.decode(data)
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")
