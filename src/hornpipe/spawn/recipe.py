"""What is to be started, decided and checked before anything happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from hornpipe.errors import brief, spawn_error

LONGEST_ARGUMENT = 131_071
"""Bytes in one argument or environment entry: MAX_ARG_STRLEN of execve(2), 32 pages with the final NUL."""

MINIMAL_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HARMLESS = ("LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES")


class Ids:
    """The user, group and groups a child gets, all of them, looked up beforehand."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], name: str, home: str | None) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        self.home = home


class Recipe:
    """One process to be: a program with its arguments, or a callable; and its circumstances."""

    __slots__ = (
        "arguments",
        "argv",
        "command",
        "cwd",
        "environment",
        "function",
        "ids",
        "limits",
        "new_session",
        "pass_fds",
        "program",
        "umask",
    )

    def __init__(
        self,
        command: object,
        argv: tuple[str | bytes, ...],
        *,
        function: Callable[[], Any] | None = None,
        cwd: str | bytes | os.PathLike[Any] | None = None,
        env: Mapping[Any, Any] | None = None,
        env_base: str = "inherit",
        ids: Ids | None = None,
        umask: int | None = None,
        limits: tuple[tuple[int, int, int], ...] = (),
        new_session: bool = False,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.command = command
        self.argv = argv
        self.arguments = [os.fsencode(argument) for argument in argv]
        """``argv`` for execve(2)."""
        self.function = function
        self.cwd = None if cwd is None else os.fsencode(cwd)
        self.ids = ids
        self.umask = -1 if umask is None else umask
        self.limits = limits
        self.new_session = new_session
        self.pass_fds = pass_fds
        self.environment = None if env is None and env_base == "inherit" else _environment(env, env_base, ids)
        """``None`` means ours as it is at the start."""

    @property
    def label(self) -> str:
        """What is to be run, for a message: what ``str`` makes of the command. Seldom wanted, so not made before."""
        return brief(str(self.command))

    def path(self) -> bytes:
        """The PATH in which the program is looked up: the child's own."""
        if self.environment is None:
            return os.environb.get(b"PATH", os.defpath.encode())
        return self.environment.get(b"PATH", os.defpath.encode())

    def environment_list(self) -> list[bytes] | None:
        """For execve(2)."""
        if self.environment is None:
            return None
        return [name + b"=" + value for name, value in self.environment.items()]

    def candidates(self) -> list[bytes]:
        """The files that the program's name may mean, all absolute or relative to *our* directory."""
        program = self.arguments[0]
        if b"/" in program:
            # cwd= is where the program works, not where it is looked for: a relative name means
            # what it means to the caller.
            if self.cwd is not None and not program.startswith(b"/"):
                return [os.path.join(os.getcwdb(), program)]
            return [program]
        found = []
        for entry in self.path().split(b":"):
            if not entry.startswith(b"/"):
                # An empty entry is the current directory (execvp(3)); when privileges change it
                # could be one in which anybody may put a program (gotcha:SP3).
                if self.ids is not None:
                    continue
                try:
                    entry = os.path.join(os.getcwdb(), entry) if entry else os.getcwdb()
                except FileNotFoundError:
                    continue  # our directory has been removed, and what was in it
            found.append(entry + b"/" + program)
        return found


def _environment(env: Mapping[Any, Any] | None, base: str, ids: Ids | None) -> dict[bytes, bytes]:
    if base == "minimal":
        made = _minimal(ids)
    else:
        made = dict(os.environb)
    for name, value in (env or {}).items():
        key = os.fsencode(name)
        if value is None:
            made.pop(key, None)
        else:
            made[key] = os.fsencode(value)
    return made


def _minimal(ids: Ids | None) -> dict[bytes, bytes]:
    """An allow-list, since whatever is not known to be harmless may steer a program (gotcha:PR3)."""
    uid = os.geteuid() if ids is None else ids.uid
    made = {b"PATH": (_ROOT_PATH if uid == 0 else MINIMAL_PATH).encode()}
    made |= {
        name: value for name, value in os.environb.items() if os.fsdecode(name) in _HARMLESS or name.startswith(b"LC_")
    }
    if ids is None:
        import pwd

        try:
            user = pwd.getpwuid(uid)
            ids = Ids(uid, user.pw_gid, (), user.pw_name, user.pw_dir)
        except KeyError:
            return made
    if ids.home is not None:
        made[b"HOME"] = os.fsencode(ids.home)
        made[b"USER"] = made[b"LOGNAME"] = os.fsencode(ids.name)
    return made


def find_ids(
    label: str,
    user: str | int | None,
    group: str | int | None,
    groups: tuple[str | int, ...] | None,
) -> Ids | None:
    """Look up whom to run as. ``SpawnError`` when there is no such user or group.

    A user brings his own group and supplementary groups along unless others are given; a bare
    group brings just itself.
    """
    if user is None and group is None and groups is None:
        return None
    import grp
    import pwd

    def missing(what: str, name: object) -> Exception:
        return spawn_error(
            errno.ENOENT, f"cannot start {label!r}: there is no {what} {name!r}", stage="user", filename=name
        )

    def group_number(name: str | int) -> int:
        if isinstance(name, int):
            return name
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            raise missing("group", name) from None

    entry = None
    if isinstance(user, str):
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise missing("user", user) from None
    else:
        try:
            entry = pwd.getpwuid(os.geteuid() if user is None else user)
        except KeyError:
            if user is not None and group is None:
                raise missing("user", user) from None
    if entry is None:
        uid = int(user) if user is not None else os.geteuid()
    else:
        uid = entry.pw_uid
    if group is not None:
        gid = group_number(group)
    elif user is not None and entry is not None:
        gid = entry.pw_gid
    else:
        gid = os.getegid()
    if groups is not None:
        numbers = tuple(group_number(name) for name in groups)
    elif user is not None and entry is not None:
        numbers = tuple(os.getgrouplist(entry.pw_name, gid))
    else:
        numbers = (gid,)
    name = entry.pw_name if entry is not None else str(uid)
    return Ids(uid, gid, numbers, name, entry.pw_dir if entry is not None else None)
