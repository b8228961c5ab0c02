"""The options of a command, typed once and checked before anything happens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import IO, Any, Literal, TypedDict

from hornpipe.deadline import check_timeout
from hornpipe.errors import brief
from hornpipe.locks import HasFileno
from hornpipe.redirections import STDOUT, TAIL, Redirect
from hornpipe.spawn.recipe import Ids, Recipe, find_ids
from hornpipe.stages import WHOLE

Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Target = Redirect | os.PathLike[str] | os.PathLike[bytes] | int | HasFileno
Input = str | bytes | bytearray | memoryview | Iterable[str] | Iterable[bytes] | IO[Any]


class Options(TypedDict, total=False):
    """How a command is run. Times are in seconds, sizes in bytes."""

    cwd: Text | None
    """The directory in which it works; what its name means does not depend on it."""
    env: Mapping[str, str | None] | Mapping[bytes, bytes | None] | None
    """Merged into the environment; ``None`` unsets."""
    env_base: Literal["inherit", "minimal"] | None
    """What ``env`` is merged into: ours, or a harmless allow-list with a fixed PATH."""
    user: str | int | None
    """Run as this user, with his group and groups unless others are given. Irrevocable, and verified."""
    group: str | int | None
    """Run with this group, in place of the user's own."""
    groups: tuple[str | int, ...] | list[str | int] | None
    """Its supplementary groups, in place of the user's own; ``()`` for none."""
    umask: int | None
    """The permissions that new files do not get: ``0o077``."""
    limits: Mapping[str, int | tuple[int, int]] | None
    """Resource limits by their names without ``RLIMIT_``, ``{"NOFILE": 64, "CPU": (10, 20)}``. A number is both
    limits, a pair the soft and the hard one; the units are those of setrlimit(2)."""
    input: Input | None
    """Fed to its stdin while its output is read: text, bytes, an open file, or an iterable that may be endless."""
    stdin: Target | None
    """Where it reads from: a ``Path``, a descriptor, an open file, ``NULL`` or ``CLOSED``."""
    stdout: Target | None
    """Where it writes to, of the same kinds; a ``Path`` is emptied first."""
    stderr: Target | None
    """The same; or ``STDOUT``, for wherever stdout goes, or ``TAIL``, for ours with the end kept for the error."""
    timeout: float | None
    """Seconds for everything: starting, input, output, waiting, and its own children that hold the pipes."""
    grace: float | None
    """Seconds from a polite TERM to KILL (1)."""
    ok_codes: tuple[int, ...] | list[int] | None
    """Exit codes that are no failure, ``(0,)``."""
    check: bool | None
    """Whether a failure raises ``CommandFailed`` (it does)."""
    pty: bool | None
    """Give it a terminal instead of pipes."""
    new_session: bool | None
    """In a session of its own (setsid(2)): no terminal, and no signal from its keys."""
    contain: bool | None
    """Its whole tree ends with it, with us, or with its deadline."""
    pass_fds: tuple[int, ...] | list[int] | None
    """Descriptors that it gets besides 0, 1 and 2, under the same numbers."""
    buffer_limit: int | None
    """Bytes kept in memory: the head of a capture (or ``Tail(n)``), what a duplex has not read yet."""
    line_limit: int | None
    """Bytes of the longest line; beyond it, ``LimitExceeded``."""


_NAMES = frozenset(Options.__annotations__)


Given = dict[str, Any]
"""Options as they are kept: checked, and without a ``None``."""


def merged(old: Given, new: Mapping[str, object]) -> Given:
    """The options with ``new`` on top: checked, ``env`` merged, ``None`` back to the default."""
    if not new:
        return old
    check(new)
    result: Given = dict(old)
    value: Any
    for name, value in new.items():
        if value is None:
            result.pop(name, None)
        elif name == "env":
            # Names as text, so that b"A" and "A" are one variable.
            result["env"] = {**result.get("env", {}), **{os.fsdecode(key): content for key, content in value.items()}}
        elif name == "limits":
            result[name] = dict(value)
        elif name in ("ok_codes", "pass_fds", "groups"):
            result[name] = tuple(value)  # ours: the caller's list may change
        else:
            result[name] = value
    if "stdin" in result and "input" in result:
        # Whichever was said last is what is read.
        if new.get("stdin") is not None and new.get("input") is not None:
            raise ValueError("stdin and input both say what the command reads: give one of them")
        del result["input" if new.get("stdin") is not None else "stdin"]
    return result


def check(options: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant, naming the option, the value and what to do."""
    for name, value in options.items():
        if name not in _NAMES:
            import difflib

            close = difflib.get_close_matches(name, _NAMES, 1)
            raise TypeError(f"there is no option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        if value is None:
            continue
        if name in _CHECKS:
            _CHECKS[name](name, value)


def _time(name: str, value: Any) -> None:
    check_timeout(value, name)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def _size(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a number of bytes, 1 or more, not {value!r}")


def _env(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key, content in value.items():
        if not isinstance(key, str | bytes) or not (content is None or isinstance(content, str | bytes | os.PathLike)):
            raise TypeError(f"{name} maps names to text or None; {key!r} is given a {type(content).__name__}")
        plain = os.fsencode(key)
        if not plain or b"=" in plain or b"\0" in plain:
            raise ValueError(f"{name}: {key!r} cannot be the name of a variable")
        if content is not None and b"\0" in os.fsencode(content):
            raise ValueError(f"{name}: the value of {key!r} has a NUL in it")


def _stream(name: str, value: Any) -> None:
    if isinstance(value, str | bytes):
        raise TypeError(f"{name}={value!r}: a file is given as a Path, so that it cannot be confused with text")
    if isinstance(value, Redirect):
        if value in (STDOUT, TAIL) and name != "stderr":
            raise ValueError(f"{name}={value!r}: only stderr can go there")
    elif isinstance(value, bool) or not (isinstance(value, int | os.PathLike) or hasattr(value, "fileno")):
        raise TypeError(f"{name} must be a Path, a descriptor, an open file, NULL or CLOSED, not {value!r}")
    elif isinstance(value, int) and value < 0:
        raise ValueError(f"{name}={value}: there is no such descriptor")


def _codes(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list | set | frozenset | range) or not all(
        isinstance(code, int) and 0 <= code <= 255 for code in value
    ):
        raise ValueError(f"{name} must be exit codes from 0 to 255, not {value!r}")


def _descriptors(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list | set | frozenset):
        raise TypeError(f"{name} must be a list of descriptors, not {value!r}")
    for fd in value:
        if isinstance(fd, bool) or not isinstance(fd, int) or fd < 3:
            raise ValueError(
                f"{name} holds {fd!r}: descriptors from 3 up are passed on; 0, 1 and 2 have their own options"
            )


def _umask(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        raise ValueError(f"{name} must be between 0 and 0o777, not {value!r}")


def _limits(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be a mapping, such as {{"NOFILE": 64}}, not {value!r}')
    limits_of(value)


def _identity(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{name} must be a name or a number, not {value!r}")
    if (isinstance(value, int) and value < 0) or value == "":
        raise ValueError(f"{name} cannot be {value!r}")


def _identities(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list | set | frozenset):
        raise TypeError(f"{name} must be a list of names or numbers, not {value!r}")
    for entry in value:
        _identity(name, entry)


def _path(name: str, value: Any) -> None:
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{name} must be a path, not {value!r}")
    if b"\0" in os.fsencode(value):
        raise ValueError(f"{name}: {value!r} has a NUL in it")
    if not os.fsencode(value):
        raise ValueError(f"{name} is empty")


def _base(name: str, value: Any) -> None:
    if value not in ("inherit", "minimal"):
        raise ValueError(f"{name} must be 'inherit' or 'minimal', not {value!r}")


def _input(name: str, value: Any) -> None:
    if isinstance(value, int) or not (
        isinstance(value, str | bytes | bytearray | memoryview) or hasattr(value, "read") or hasattr(value, "__iter__")
    ):
        raise TypeError(f"{name} must be text, bytes, an iterable or an open file, not {type(value).__name__}")


_CHECKS: dict[str, Any] = {
    "timeout": _time,
    "grace": _time,
    "check": _flag,
    "pty": _flag,
    "new_session": _flag,
    "contain": _flag,
    "buffer_limit": _size,
    "line_limit": _size,
    "env": _env,
    "env_base": _base,
    "stdin": _stream,
    "stdout": _stream,
    "stderr": _stream,
    "ok_codes": _codes,
    "pass_fds": _descriptors,
    "umask": _umask,
    "limits": _limits,
    "cwd": _path,
    "input": _input,
    "user": _identity,
    "group": _identity,
    "groups": _identities,
}


def limits_of(limits: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """(resource, soft, hard) for each of ``limits``; a single number sets both."""
    import resource

    made = []
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper().removeprefix('RLIMIT_')}", None)
        if number is None:
            raise ValueError(f"limits: this system has no limit {name!r}")
        soft, hard = value if isinstance(value, tuple) else (value, value)
        if not (isinstance(soft, int) and isinstance(hard, int)):
            raise TypeError(f"limits: {name} must be a number or a pair (soft, hard), not {value!r}")
        if hard != resource.RLIM_INFINITY and (soft > hard or soft == resource.RLIM_INFINITY):
            raise ValueError(f"limits: {name}: the soft limit {soft} is above the hard limit {hard}")
        for part in (soft, hard):
            if part < 0 and part != resource.RLIM_INFINITY:
                raise ValueError(f"limits: {name} cannot be {part}")
        made.append((number, soft, hard))
    return tuple(made)


def recipe_of(command: object, argv: tuple[str | bytes, ...], options: Given, function: Any = None) -> Recipe:
    """What the spawn room needs. ``SpawnError`` for a user or group that does not exist."""
    if not options:
        return Recipe(command, argv, function=function)
    ids: Ids | None = None
    if "user" in options or "group" in options or "groups" in options:
        groups = options.get("groups")
        ids = find_ids(
            brief(str(command)), options.get("user"), options.get("group"), None if groups is None else tuple(groups)
        )
    return Recipe(
        command,
        argv,
        function=function,
        cwd=options.get("cwd"),
        env=options.get("env"),
        env_base=options.get("env_base", "inherit"),
        ids=ids,
        umask=options.get("umask"),
        limits=limits_of(options["limits"]) if "limits" in options else (),
        new_session=options.get("new_session", False) or options.get("pty", False),
        pass_fds=tuple(options.get("pass_fds", ())),
    )


__all__ = ["WHOLE", "Given", "Options", "Text", "check", "merged", "recipe_of"]
