"""Programs: ``cmd`` and ``sh``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from hornpipe import image, spawn
from hornpipe._native import process as _process
from hornpipe._native import run as _run
from hornpipe.command import keyboard
from hornpipe.command.options import Given, Options, Text, merged, recipe_of
from hornpipe.command.quoting import line_of
from hornpipe.command.verbs import Other, Runnable
from hornpipe.deadline import NEVER
from hornpipe.fd import Descriptor, flush_printed, pipe
from hornpipe.lines import BYTES, TEXT, Codec, Str, text_codec
from hornpipe.process import Process
from hornpipe.pump import Keeper, Pump
from hornpipe.reaper import SUCCESS, Child, ours
from hornpipe.redirections import STDOUT, UNCHANGED, open_redirection
from hornpipe.spawn.diagnosis import failure, without_descriptors
from hornpipe.spawn.recipe import Recipe
from hornpipe.stages import Stage
from hornpipe.status import ExitStatus

if TYPE_CHECKING:
    from hornpipe.command.pipeline import Pipeline


class Command(Runnable[Str]):
    """A program with its arguments: what to run, apart from how to talk to it. Immutable.

    No shell sees the arguments, and no byte of them is changed on the way (perlipc:O13).
    """

    argv: tuple[str | bytes, ...]
    """The program and its arguments."""
    _script: str | None

    def __init__(
        self,
        argv: tuple[str | bytes, ...],
        options: Given,
        codec: Codec[Str],
        script: str | None = None,
    ) -> None:
        # Not by _put: as with running it, each call counts.
        fields = self.__dict__
        fields["argv"] = argv
        fields["_options"] = options
        fields["_codec"] = codec
        fields["_script"] = script

    def with_options(self, **options: Unpack[Options]) -> Self:
        """The same with other options; ``env`` is merged, ``None`` goes back to the default.

        >>> import hornpipe as hp
        >>> hp.cmd("make").with_options(timeout=60)
        cmd('make', timeout=60)
        """
        return self._with(options)

    def as_bytes(self) -> Command[bytes]:
        r"""The same, speaking bytes.

        >>> import hornpipe as hp
        >>> hp.cmd("printf", r"\377").as_bytes().read()
        b'\xff'
        """
        return Command(self.argv, self._options, BYTES, self._script)

    def as_text(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> Command[str]:
        """The same, speaking text."""
        return Command(self.argv, self._options, text_codec(encoding, errors), self._script)

    def _copy(self, options: Given, codec: Codec[Any]) -> Any:
        return Command(self.argv, options, codec, self._script)

    def __or__(self, other: Runnable[Other]) -> Pipeline[Other]:
        from hornpipe.command.pipeline import joined

        return joined(self, other)

    def _stages(self) -> list[Stage]:
        options = self._options
        return [
            Stage(
                recipe_of(self, self.argv, options),
                (options.get("stdin"), options.get("stdout"), options.get("stderr")),
                options.get("input"),
                options.get("pty", False),
            )
        ]

    def _run_at_once(self) -> ExitStatus | None:
        if self._options:
            return None
        flush_printed()
        if _process.has_terminal() and keyboard.shared():
            return None
        # Whatever we touch has to be fetched anew when the program has ended: a call of Python's is a five hundredth of
        # the time that a small one takes. So nearly all of it is one native call.
        child = Child()
        try:
            told = _run.run(self.argv, child, ours, image.ignored, SUCCESS)
            if child.status is SUCCESS:
                return SUCCESS
            status = None if told is None else child.wait(NEVER)
        except BaseException:
            self._abandon(child, Pump())
            raise
        if told is None or status is None:
            return self._run_plainly()
        child.close()
        spawn.check_birth(Recipe(self, self.argv), told)
        return self._job().take_over(child, Pump()).judge([status])

    def _run_plainly(self, output: Keeper | None = None, errors: Keeper | None = None) -> ExitStatus:
        # A job is made only to say what went wrong, or to end what runs.
        child, pump = Child(), Pump()
        ends: spawn.Ends = UNCHANGED
        theirs: list[Descriptor] = []
        recipe = Recipe(self, self.argv)
        try:
            if output is not None:
                try:
                    ends = self._ends(pump, output, errors, theirs)
                except OSError as error:
                    raise without_descriptors(recipe, error) from None
            birth = spawn.begin(child, recipe, ends)
            for end in theirs:
                end.close()
            if output is not None:
                pump.run(NEVER)
            status = child.wait(NEVER)
        except BaseException:
            for end in theirs:
                end.close()
            self._abandon(child, pump, output, errors)
            raise
        child.close()
        assert status is not None
        if birth is not None:
            spawn.check_birth(recipe, birth.failure())
        return status if status else self._job().take_over(child, pump, output, errors).judge([status])

    def _abandon(self, child: Child, pump: Pump, output: Keeper | None = None, errors: Keeper | None = None) -> None:
        """An exception has come in the middle: end what was started."""
        if not child.pid:
            pump.close()
        else:
            job = self._job().take_over(child, pump, output, errors)
            job.abort()
            job.processes[0].release()  # an exception that is kept must not keep the pidfd

    def _ends(self, pump: Pump, output: Keeper, errors: Keeper | None, theirs: list[Descriptor]) -> spawn.Ends:
        """Nothing to read, and pipes for what it writes; its side of them goes into ``theirs``."""
        for sink in (output,) if errors is None else (output, errors):
            reader, writer = pipe()
            pump.drain(reader, sink)
            theirs.append(writer)
        return spawn.EMPTY, theirs[0].fileno(), None if errors is None else theirs[1].fileno()

    def start(self) -> Process:
        """Start it and return at once; it captures nothing.

        >>> import hornpipe as hp
        >>> process = hp.cmd("sleep", "60").start()
        >>> process.kill("TERM"), process.wait().signal
        (True, <TERM: 15>)
        """
        process: Process = super().start()
        return process

    def exec(self) -> NoReturn:
        """Become the program; does not return. ``SpawnError`` if that fails, and nothing has changed but
        the redirections that were already carried out.
        """
        self._refuse("exec", "pty", "timeout", "contain", "input")
        flush_printed()
        stage = self._stages()[0]
        stage.refuse_tail("exec()")
        recipe = stage.recipe
        opened: list[Any] = []
        flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        wanted = stage.redirections
        ends = [
            None if target is None or target is STDOUT else open_redirection(target, flag, opened)
            for target, flag in zip(wanted, flags, strict=True)
        ]
        if wanted[2] is STDOUT:
            ends[2] = ends[1] if ends[1] is not None else 1
        candidates = recipe.candidates()
        plan = spawn.plan_of(recipe, (ends[0], ends[1], ends[2]), group=False, terminal=-1, foreground=-1)
        error, step, which = plan.replace(candidates, recipe.arguments, recipe.environment_list())
        raise failure(recipe, error, step, which, candidates)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Command)
            and self.argv == other.argv
            and self._options == other._options
            and self._codec == other._codec
        )

    def __hash__(self) -> int:
        return hash((self.argv, self._codec))

    def __str__(self) -> str:
        return line_of(self.argv) if self._script is None else self._script

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._options.items())
        if self._script is not None:
            made = f"sh({self._script!r}{options})"
        else:
            made = f"cmd({', '.join(map(repr, self.argv))}{options})"
        if not self._codec.is_text:
            return made + ".as_bytes()"
        if self._codec != TEXT:
            return made + f".as_text({self._codec.encoding!r}, {self._codec.errors!r})"
        return made


def argument(value: object, place: int) -> str | bytes:
    """One argument, checked."""
    made = value if isinstance(value, str | bytes) else None
    if isinstance(value, os.PathLike):
        made = os.fspath(value)
    what = "the program" if place == 0 else f"argument {place}"
    if made is None:
        hint = ""
        if isinstance(value, list | tuple):
            hint = "; give each argument by itself: cmd(*arguments)"
        elif isinstance(value, int | float):
            hint = f"; write str({value!r})"
        raise TypeError(f"{what} must be str, bytes or a path, not {type(value).__name__}{hint}")
    try:
        os.fsencode(made)
    except UnicodeEncodeError:
        raise ValueError(f"{what} is text that no bytes stand for: {made!r}") from None
    if ("\0" in made) if isinstance(made, str) else (b"\0" in made):
        raise ValueError(f"{what} has a NUL in it, which no program can be given: {made!r}")
    if place == 0 and not made:
        raise ValueError("the program is empty")
    return made


def cmd(program: Text, *arguments: Text, **options: Unpack[Options]) -> Command[str]:
    r"""A program and its arguments; no shell ever sees them (perlipc:O13).

    Nothing is started yet, but what cannot be meant is refused here: ``TypeError`` or ``ValueError``
    for an empty program, a NUL, an unknown option or a value out of range.

    >>> import hornpipe as hp
    >>> hp.cmd("echo", "a b", "; $(whoami)").read()
    'a b ; $(whoami)\n'
    >>> print(hp.cmd("echo", "a b"))
    echo 'a b'
    """
    argv: Any = (program, *arguments)
    if not _run.are_plain(argv):
        argv = tuple([argument(value, place) for place, value in enumerate(argv)])
    return Command(argv, merged({}, options) if options else {}, TEXT)


def sh(script: str, **options: Unpack[Options]) -> Command[str]:
    r"""A line for the shell (``sh -c``), on purpose and in plain sight.

    Never build the line from data: give data as ``input`` or in the environment.

    >>> import hornpipe as hp
    >>> hp.sh("printf 'b\na\n' | sort").read()
    'a\nb\n'
    """
    if not isinstance(script, str):
        raise TypeError(f"sh() takes one line of shell, not {type(script).__name__}; cmd() takes a list of arguments")
    line = argument(script, 1)
    if not script.strip():
        raise ValueError("the shell's line is empty")
    return Command(("/bin/sh", "-c", line), merged({}, options), TEXT, script)
