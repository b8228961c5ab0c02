"""Why a program could not be started, as a sentence that names what is missing (gotcha:SP1, SP2, SP4)."""

from __future__ import annotations

import errno
import os
import resource
import stat

from hornpipe.errors import SpawnError, spawn_error
from hornpipe.spawn.recipe import LONGEST_ARGUMENT, Recipe

# In step with enum child_stage of child.h.
STAGES = (
    "fork",
    "session",
    "descriptors",
    "terminal",
    "foreground",
    "limits",
    "cgroup",
    "groups",
    "gid",
    "uid",
    "verify",
    "cwd",
    "exec",
)
FORK, EXEC = STAGES.index("fork"), STAGES.index("exec")


def failure(recipe: Recipe, error: int, stage: int, which: int, candidates: list[bytes]) -> SpawnError:
    """The exception for a step that failed in the child."""
    name = STAGES[stage]
    filename: object = None
    user = f" as user {recipe.ids.name!r}" if recipe.ids is not None else ""
    match name:
        case "fork" if which == 1 or error in (errno.EMFILE, errno.ENFILE):
            reason = no_descriptor()
        case "fork" if error == errno.EAGAIN:
            reason = f"no more processes may be made (RLIMIT_NPROC is {_limit(resource.RLIMIT_NPROC)})"
        case "fork":
            reason = f"no process could be made: {os.strerror(error)}"
        case "descriptors" if error == errno.EBADF:
            reason = f"descriptor {which} is to be given to it, and is not open"
        case "descriptors" if error in (errno.ENOENT, errno.EACCES, errno.ENXIO):
            reason = f"{os.devnull}: {os.strerror(error)}"
        case "descriptors":
            reason = no_descriptor()
        case "limits":
            number, soft, hard = recipe.limits[which]
            reason = f"limit {_limit_name(number)} cannot be set to {soft} (hard {hard}): {os.strerror(error)}"
        case "groups" | "gid" | "uid":
            reason = f"only root may run programs as somebody else{user}: the {name} could not be set"
        case "verify":
            reason = f"the change of user{user} could be undone, so it was not trusted"
        case "cwd":
            filename = os.fsdecode(recipe.cwd or b"")
            reason = f"its working directory {filename!r} {_about_directory(error, user)}"
        case "exec":
            filename, reason = _about_program(recipe, error, which, candidates, user)
        case _:
            reason = f"{name}: {os.strerror(error)}"
    return spawn_error(
        error, f"cannot start {recipe.label!r}: {reason}", stage=name, filename=filename, argv=recipe.argv
    )


def without_descriptors(recipe: Recipe, error: OSError) -> SpawnError:
    """The exception for a start for which descriptors are exhausted."""
    message = f"cannot start {recipe.label!r}: {no_descriptor()}"
    return spawn_error(error.errno or 0, message, stage="descriptors", argv=recipe.argv)


def no_descriptor() -> str:
    """What to say then."""
    return f"no descriptor is left for it (RLIMIT_NOFILE is {_limit(resource.RLIMIT_NOFILE)})"


def _limit(number: int) -> object:
    soft = resource.getrlimit(number)[0]
    return "unlimited" if soft == resource.RLIM_INFINITY else soft


def _limit_name(number: int) -> str:
    for name in dir(resource):
        if name.startswith("RLIMIT_") and getattr(resource, name) == number:
            return name[7:]
    return str(number)


def _about_directory(error: int, user: str) -> str:
    if error == errno.ENOENT:
        return "does not exist"
    if error == errno.ENOTDIR:
        return "is not a directory"
    if error == errno.EACCES:
        return f"may not be entered{user}"
    return f"could not be entered: {os.strerror(error)}"


def _about_program(recipe: Recipe, error: int, which: int, candidates: list[bytes], user: str) -> tuple[str, str]:
    program = os.fsdecode(recipe.argv[0])
    at = candidates[which] if which < len(candidates) else os.fsencode(program)
    if error == errno.E2BIG:
        return program, _about_size(recipe)
    if error in (errno.ENOENT, errno.ENOTDIR):
        # The error names the script even when it is the interpreter that is missing.
        existing = [path for path in candidates if os.path.lexists(path)]
        if existing:
            return _about_interpreter(existing[0], error, user)
        if "/" not in program:
            return program, f"no program {program!r} in PATH ({os.fsdecode(recipe.path())})"
        return program, f"no such file: {program!r}"
    path = os.fsdecode(at)
    if error == errno.ENOEXEC:
        return path, f"{path!r} is neither a binary for this machine nor a script with a #! line"
    if error == errno.EACCES:
        return _about_permission(path, user)
    return path, f"{path!r}: {os.strerror(error)}"


def _first_line(path: str | bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, 256).split(b"\n")[0]
    except OSError:
        return b""
    finally:
        os.close(fd)


def _interpreter(path: str | bytes) -> str | None:
    line = _first_line(path)
    if not line.startswith(b"#!"):
        return None
    words = line[2:].strip(b" \t").split(None, 1) if b"\r" not in line else [line[2:].strip(b" \t")]
    return os.fsdecode(words[0]) if words else ""


def _about_interpreter(path: bytes, error: int, user: str) -> tuple[str, str]:
    script = os.fsdecode(path)
    if os.path.islink(path) and not os.path.exists(path):
        return script, f"{script!r} is a link to {os.readlink(script)!r}, which does not exist"
    interpreter = _interpreter(path)
    if interpreter is None:
        return script, f"{script!r} needs a loader that this system does not have"
    hint = " (the line ends in a carriage return)" if interpreter.endswith("\r") else ""
    return interpreter, f"{script!r} needs the interpreter {interpreter!r}, which does not exist{hint}"


def _about_permission(path: str, user: str) -> tuple[str, str]:
    try:
        facts = os.stat(path)
    except OSError:
        return path, f"{path!r} may not be reached{user}"
    if stat.S_ISDIR(facts.st_mode):
        return path, f"{path!r} is a directory"
    if not facts.st_mode & 0o111:
        return path, f"{path!r} is not executable (mode {stat.S_IMODE(facts.st_mode):04o})"
    interpreter = _interpreter(path)
    if interpreter and not os.access(interpreter, os.X_OK):
        return interpreter, f"the interpreter {interpreter!r} of {path!r} is not executable"
    return path, f"{path!r} may not be executed{user} (mode {stat.S_IMODE(facts.st_mode):04o})"


def _about_size(recipe: Recipe) -> str:
    for number, argument in enumerate(recipe.argv):
        size = len(os.fsencode(argument))
        if size > LONGEST_ARGUMENT:
            return f"argument {number} has {size} bytes; one may have {LONGEST_ARGUMENT} at most"
    environment = recipe.environment if recipe.environment is not None else dict(os.environb)
    for name, value in environment.items():
        size = len(name) + len(value) + 1
        if size > LONGEST_ARGUMENT:
            return f"the environment's {os.fsdecode(name)} has {size} bytes; it may have {LONGEST_ARGUMENT} at most"
    total = sum(len(os.fsencode(argument)) + 9 for argument in recipe.argv)
    total += sum(len(name) + len(value) + 10 for name, value in environment.items())
    return f"arguments and environment together have {total} bytes, more than the system allows (ARG_MAX)"
