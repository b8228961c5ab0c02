"""One to n processes, one deadline, one outcome."""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from hornpipe import deadline as deadlines
from hornpipe import spawn, wait
from hornpipe.errors import CommandFailed, CommandTimeout
from hornpipe.fd import Descriptor, pipe, widen
from hornpipe.process import AFTER_KILL, Process
from hornpipe.pump import Keeper, Pump
from hornpipe.reaper import Child
from hornpipe.redirections import UNCHANGED, check_open
from hornpipe.spawn.diagnosis import without_descriptors
from hornpipe.spawn.recipe import Recipe
from hornpipe.stages import Stage, Streams, Terms
from hornpipe.status import ExitStatus

if TYPE_CHECKING:
    from hornpipe.foreground import Foreground


class Job(Streams):
    """The processes of one command or pipeline.

    What ``start()`` gives for a pipeline; inside, what every verb stands on.
    """

    _foreground: Foreground | None = None
    _settled = False

    def __init__(self, stages: Sequence[Stage], terms: Terms) -> None:
        super().__init__(stages, terms)
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
                from hornpipe.foreground import foreground

                self._foreground = foreground()
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
            self._feed(self.processes[0])
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

    def take_over(self, child: Child, pump: Pump, output: Keeper | None = None, errors: Keeper | None = None) -> Job:
        """Let it end, or judge, what was started without it."""
        self.processes.append(Process(child, self._stages[0].recipe.command))
        self._pump = pump
        self._stderr[0] = errors
        if output is not None:
            self.read_so_far = output.kept.peek
        return self

    # --- the end ---

    def complete(self) -> ExitStatus:
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
        return self.judge(statuses)

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

    def judge(self, statuses: Sequence[ExitStatus]) -> ExitStatus:
        """The outcome: ``CommandFailed`` for the first stage that failed, else the last one's status."""
        worst = self._first_failure(statuses)
        if worst is None:
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
        self._hang_up()
        self.end(self._terms.grace)
        self._settled = True

    def abort(self) -> None:
        """An exception is leaving: end everything first, and quietly."""
        self._hang_up()
        if not self._settled:
            for end in (self.stdin, self.stdout, self.stderr):
                if end is not None:
                    end.close()
            self.end(self._terms.grace)
            self._settled = True
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


class aborting:
    """A ``with`` block around the start of a job and what follows it: no exception leaves it before the job is over.

    Also none of a signal's handler, which can come between any two lines of ours.
    """

    __slots__ = ("_job",)

    def __init__(self, job: Job) -> None:
        self._job = job

    def __enter__(self) -> Job:
        return self._job

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._job.abort()


def _past(status: ExitStatus) -> str:
    return f"was {status}" if status.signal is not None else str(status) if status.known else f"ended, {status}"
