"""Python callables in a forked child: ``fn`` (perlipc:O11, B5)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, Unpack, cast

from hornpipe.command.options import Given, Options, merged, recipe_of
from hornpipe.command.verbs import Other, Runnable
from hornpipe.errors import CommandFailed, RemoteError
from hornpipe.fd import Descriptor, flush_printed, pipe
from hornpipe.job import aborting
from hornpipe.lines import BYTES, TEXT, Codec, Str, text_codec
from hornpipe.process import Process
from hornpipe.pump import read_some
from hornpipe.stages import Stage

if TYPE_CHECKING:
    from hornpipe.command.pipeline import Pipeline

T = TypeVar("T")
P = ParamSpec("P")


class Function(Runnable[Str], Generic[T, Str]):
    """A callable to be run in a forked child. Immutable.

    The child's stdin, stdout and stderr are what ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` are
    there; it has no other descriptor but those in ``pass_fds``. It exits with 0, with what it gave
    ``sys.exit``, or with 1 after a traceback.
    """

    _function: Callable[..., T]
    _arguments: tuple[Any, ...]
    _keywords: dict[str, Any]

    def __init__(
        self,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        options: Given,
        codec: Codec[Str],
    ) -> None:
        self._put(_function=function, _arguments=arguments, _keywords=keywords, _options=options, _codec=codec)

    def with_options(self, **options: Unpack[Options]) -> Self:
        """The same with other options."""
        return self._with(options)

    def as_bytes(self) -> Function[T, bytes]:
        """The same, with bytes in its pipes."""
        return Function(self._function, self._arguments, self._keywords, self._options, BYTES)

    def as_text(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> Function[T, str]:
        """The same, with text in its pipes."""
        codec = text_codec(encoding, errors)
        return Function(self._function, self._arguments, self._keywords, self._options, codec)

    def _copy(self, options: Given, codec: Codec[Any]) -> Any:
        return Function(self._function, self._arguments, self._keywords, options, codec)

    def __or__(self, other: Runnable[Other]) -> Pipeline[Other]:
        from hornpipe.command.pipeline import joined

        return joined(self, other)

    def _stages(self) -> list[Stage]:
        return [self._stage(lambda: self._function(*self._arguments, **self._keywords), self._options)]

    def _stage(self, function: Callable[[], Any], options: Given) -> Stage:
        return Stage(
            recipe_of(str(self), (str(self),), options, function),
            (options.get("stdin"), options.get("stdout"), options.get("stderr")),
            options.get("input"),
            options.get("pty", False),
        )

    def start(self) -> Process:
        """Start it and return at once; it captures nothing."""
        process: Process = super().start()
        return process

    def call(self) -> T:
        """Run it and return its value, or raise its exception with the child's traceback as the cause.

        A child that ends otherwise (a signal, ``os._exit``) raises ``CommandFailed`` with its status.
        From a child with other credentials only plain values come back (None, bool, int, float, str,
        bytes and lists, tuples, sets and dicts of them), and exceptions as ``RemoteError``.

        >>> import hornpipe as hp
        >>> hp.fn(pow, 2, 10).call()
        1024
        >>> hp.fn(int, "seven").call()
        Traceback (most recent call last):
        ...
        ValueError: invalid literal for int() with base 10: 'seven'
        """
        self._refuse("call", "pty")
        # Now: as somebody else the child may not be allowed to read our modules.
        import pickle  # noqa: F401
        import traceback  # noqa: F401

        import hornpipe.command.plain  # noqa: F401

        flush_printed()
        reader, writer = pipe()
        with writer:
            options = dict(self._options)
            passed = tuple(self._options.get("pass_fds", ()))
            options["pass_fds"] = (*passed, writer.fileno())
            number = writer.fileno()
            plain = any(name in options for name in ("user", "group", "groups"))
            if plain:
                import tokenize  # noqa: F401  traceback loads it when it shows a line, from Python 3.13 on
            stage = self._stage(lambda: _answer(self, number, plain), options)
            answer = _Answer()
            try:
                with reader, aborting(self._job_of(stage)) as job:
                    job.start()
                    writer.close()  # the end of what it writes comes with its end
                    job.pump.drain(reader, answer)
                    status = job.complete()
            except CommandFailed:
                if answer.whole:
                    return self._unpacked(answer.content, plain)
                raise
        if not answer.whole:
            raise CommandFailed(
                f"{str(self)!r} {status} without returning a value",
                command=str(self),
                argv=(str(self),),
                status=status,
                stderr=job.stderr_of(0),
            )
        return self._unpacked(answer.content, plain)

    def _job_of(self, stage: Stage) -> Any:
        made = Function(self._function, self._arguments, self._keywords, self._options, self._codec)
        made._put(_stages=lambda: [stage])
        return made._job()

    def _unpacked(self, content: bytes, plain: bool) -> T:
        import pickle

        from hornpipe.command.plain import load

        ok, value, facts = load(content) if plain else pickle.loads(content)
        if ok:
            return cast(T, value)
        remote = RemoteError(*map(str, facts))
        if plain or value is None:
            raise remote
        raise pickle.loads(value) from remote

    def __str__(self) -> str:
        words = [repr(value) for value in self._arguments]
        words += [f"{name}={value!r}" for name, value in self._keywords.items()]
        return f"{_name_of(self._function)}({', '.join(words)})"

    def __repr__(self) -> str:
        words = [_name_of(self._function), *map(repr, self._arguments)]
        words += [f"{name}={value!r}" for name, value in self._keywords.items()]
        made = f"fn({', '.join(words)})"
        if self._options:
            made += f".with_options({', '.join(f'{name}={value!r}' for name, value in self._options.items())})"
        return made if self._codec.is_text else made + ".as_bytes()"


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class _Answer:
    """The child's message: its length in eight bytes, then itself.

    Not until end of file: a process that the callable started may hold the pipe open for ever.
    """

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def whole(self) -> bool:
        return len(self._data) >= 8 and len(self._data) >= 8 + int.from_bytes(self._data[:8], "big")

    @property
    def content(self) -> bytes:
        return bytes(self._data[8:])

    def fill(self, source: Descriptor, size: int) -> int:
        data = read_some(source, size)
        if data:
            self._data += data
        return -1 if data is None else 0 if self.whole else len(data)


def _answer(function: Function[Any, Any], fd: int, plain: bool) -> None:
    """In the child: call, and send back what came of it."""
    os.set_inheritable(fd, False)
    try:
        value = function._function(*function._arguments, **function._keywords)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  it is the caller's, whatever it is
        content = _packed_exception(error, plain)
    else:
        content = _packed_value(value, plain)
    data = memoryview(len(content).to_bytes(8, "big") + content)
    while data:
        data = data[os.write(fd, data) :]


def _packed_value(value: Any, plain: bool) -> bytes:
    import pickle

    from hornpipe.command.plain import dump

    try:
        return dump((True, value, ())) if plain else pickle.dumps((True, value, ()))
    except Exception as error:  # noqa: BLE001  pickle raises whatever the value's own methods raise
        told = TypeError(f"the value of {type(value).__name__} cannot be sent back from the child: {error}")
        return _packed_exception(told, plain)


def _packed_exception(error: BaseException, plain: bool) -> bytes:
    import pickle
    import traceback

    from hornpipe.command.plain import dump

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    # Our own frame, which called the callable, is of no interest.
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    facts = (name, str(error), "".join(traceback.format_exception(kind, error, trace)))
    if plain:
        return dump((False, None, facts))
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # one that cannot be made again is better told as text
    except Exception:  # noqa: BLE001
        packed = None
    return pickle.dumps((False, packed, facts))


def fn(function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> Function[T, str]:
    r"""A callable with its arguments, to be run in a forked child: Perl's ``open(H, "-|")`` (perlipc:O11).

    All keywords are the callable's; options are given by ``with_options``.

    >>> import hornpipe as hp
    >>> hp.fn(print, "from", "the child", sep="/").read()
    'from/the child\n'
    """
    if not callable(function):
        raise TypeError(
            f"fn() takes a callable and its arguments, not {function!r}: write fn(work, 7), not fn(work(7))"
        )
    return Function(function, arguments, keywords, merged({}, {}), TEXT)
