"""What a job is made of: its stages, the streams between them and to us, and the terms of the whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hornpipe import deadline as deadlines
from hornpipe import pty, spawn
from hornpipe.errors import CommandTimeout, brief, indented
from hornpipe.fd import Descriptor, owned, pipe
from hornpipe.lines import Codec
from hornpipe.process import GRACE, Process
from hornpipe.pump import Keeper, Pump, Sink, Tee, pieces
from hornpipe.redirections import NULL, STDOUT, TAIL, open_redirection, our_stderr
from hornpipe.spawn.recipe import Recipe

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


class Streams:
    """The standard streams of all stages: what each is given, and the ends that are ours."""

    stdin: Descriptor | None = None
    stdout: Descriptor | None = None
    stderr: Descriptor | None = None
    _terminal: Descriptor | None = None
    _buffer_limit: int | None = None
    read_so_far: Callable[[], bytes] | None = None
    """What a time-out shows of the output."""

    def __init__(self, stages: Sequence[Stage], terms: Terms) -> None:
        self._stages = stages
        self._terms = terms
        self._deadline = deadlines.after(terms.timeout)
        self._pump = Pump()
        self._stderr: list[Keeper | Tee | None] = [None] * len(stages)

    @property
    def pump(self) -> Pump:
        """What moves the bytes."""
        return self._pump

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
            self._terminal = owned(os.dup, ours.fileno())

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
                    self.stdin = owned(os.dup, ours.fileno())
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

    def _feed(self, process: Process) -> None:
        """Let the pump write the first stage's input to it."""
        first = self._stages[0]
        if first.input is not None and self.stdin is not None:
            data: Any = first.input
            if first.pty:
                data = pty.typed(pieces(data, self._terms.codec))
            stop = process.pidfd
            self._pump.feed(self.stdin, data, self._terms.codec, stop, lambda: process.ended)
            self.stdin = None

    def keep_stdout(self, sink: Sink) -> None:
        """Let the pump read stdout into ``sink``."""
        assert self.stdout is not None
        self._pump.drain(self.stdout, sink)
        self.stdout = None

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

    def drained_stderr(self) -> str:
        """What the stages said on stderr, for a message."""
        while self._pump.busy and self._pump.step(0):
            pass
        kept = b"".join(sink.kept.peek() for sink in self.kept_stderr())
        return indented("stderr", kept)

    def _hang_up(self) -> None:
        if self._terminal is not None:
            self._terminal.close()


def _leniently(codec: Codec[Any], data: bytes) -> Any:
    """For an error: an undecodable byte must not hide what really happened."""
    if not codec.is_text:
        return data
    try:
        return codec.decode(data)
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")
