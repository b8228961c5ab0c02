"""Pipelines: ``cmd(...) | cmd(...)``. Bytes go from stage to stage inside the kernel."""

from __future__ import annotations

from typing import Any, Self, TypedDict, Unpack

from hornpipe.command.options import WHOLE, Given
from hornpipe.command.verbs import Other, Runnable
from hornpipe.job import Job
from hornpipe.lines import BYTES, TEXT, Codec, Str, text_codec
from hornpipe.stages import Stage


class WholeOptions(TypedDict, total=False):
    """The options of a pipeline as a whole; see ``Options``."""

    timeout: float | None
    grace: float | None
    ok_codes: tuple[int, ...] | list[int] | None
    check: bool | None
    contain: bool | None


class Pipeline(Runnable[Str]):
    """Programs and callables in a row, each reading what the one before it writes. Immutable.

    All start or none; each keeps its status; the first that failed is the one the error names.
    A stage whose reader had enough (``yes | head -1``) dies by PIPE, which is success.
    """

    stages: tuple[Runnable[Any], ...]

    def __init__(self, stages: tuple[Runnable[Any], ...], options: Given, codec: Codec[Str]) -> None:
        self._put(stages=stages, _options=options, _codec=codec)

    def with_options(self, **options: Unpack[WholeOptions]) -> Self:
        """The same with other options; the rest of them belong to the stages."""
        for name in options:
            if name not in WHOLE:
                raise TypeError(f"{name} belongs to a stage of the pipeline, not to the whole; give it to cmd()")
        return self._with(options)

    def as_bytes(self) -> Pipeline[bytes]:
        """The same, speaking bytes."""
        return Pipeline(self.stages, self._options, BYTES)

    def as_text(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> Pipeline[str]:
        """The same, speaking text."""
        return Pipeline(self.stages, self._options, text_codec(encoding, errors))

    def _copy(self, options: Given, codec: Codec[Any]) -> Any:
        return Pipeline(self.stages, options, codec)

    def __or__(self, other: Runnable[Other]) -> Pipeline[Other]:
        return joined(self, other)

    def _stages(self) -> list[Stage]:
        return [stage for part in self.stages for stage in part._stages()]

    def _first_options(self) -> Given:
        return self.stages[0]._options

    def _last_options(self) -> Given:
        return self.stages[-1]._options

    def start(self) -> Job:
        """Start all stages and return at once; it captures nothing.

        >>> import hornpipe as hp
        >>> job = (hp.cmd("echo", "x") | hp.cmd("cat", stdout=hp.NULL)).start()
        >>> job.wait()
        ExitStatus(0)
        """
        job: Job = self._started("start")
        return job

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pipeline)
            and self.stages == other.stages
            and self._options == other._options
            and self._codec == other._codec
        )

    def __hash__(self) -> int:
        return hash((self.stages, self._codec))

    def __str__(self) -> str:
        return " | ".join(map(str, self.stages))

    def __repr__(self) -> str:
        made = " | ".join(map(repr, self.stages))
        if self._options:
            made = f"({made}).with_options({', '.join(f'{name}={value!r}' for name, value in self._options.items())})"
        if self._codec == TEXT:
            return made
        end = (
            ".as_bytes()" if not self._codec.is_text else f".as_text({self._codec.encoding!r}, {self._codec.errors!r})"
        )
        return f"({made}){end}" if not self._options else made + end


def joined(left: Runnable[Any], right: object) -> Pipeline[Any]:
    """``left | right``, checked: what would have to be ignored is refused."""
    if not isinstance(right, Runnable):
        raise TypeError(f"{str(left)!r} can be piped into a command, not into {type(right).__name__}")
    stages: list[Runnable[Any]] = []
    whole: dict[str, Any] = {}
    for part in (left, right):
        if isinstance(part, Pipeline):
            stages += part.stages
            whole |= part._options
        else:
            stages.append(part)
    last = len(stages) - 1
    for number, stage in enumerate(stages):
        options: Any = stage._options
        for name in WHOLE:
            if name in options:
                raise ValueError(
                    f"{name} belongs to the pipeline as a whole, not to its stage {str(stage)!r}: "
                    f"give it by (a | b).with_options({name}={options[name]!r})"
                )
        taken = ["pty"]
        taken += ["stdin", "input"] if number else []
        taken += ["stdout"] if number < last else []
        for name in taken:
            if name in options and options[name] is not False:
                raise ValueError(f"{name} of {str(stage)!r} cannot be honoured in the middle of a pipeline")
    return Pipeline(tuple(stages), whole, right._codec)
