"""What the kernel's error numbers mean here, in words and with the facts (gotcha:Y4, Y5, Y13)."""

from __future__ import annotations

import errno
import os

from hornpipe.errors import ObjectRemoved
from hornpipe.sysv.limits import table_rows, used_up

NAMES = {"shm": "shared memory segment", "sem": "semaphore set", "msg": "message queue"}
_IDS = {"shm": "shmid", "sem": "semid", "msg": "msqid"}


def named(table: str, id: int | None, key: int) -> str:
    """An object in words; with the key, unless it is private."""
    number = "" if id is None else f" {id}"
    shown = f"key {key & 0xFFFFFFFF:#x}"
    if not key:
        return NAMES[table] + number
    return f"{NAMES[table]}{number} ({shown})" if number else f"{NAMES[table]} with {shown}"


def removed(table: str, id: int, key: int) -> ObjectRemoved:
    """Somebody has removed it."""
    return ObjectRemoved(f"{named(table, id, key)} was removed", id=id)


def failure(table: str, error: int, doing: str, *, id: int | None = None, key: int = 0) -> OSError:
    """The error for what could not be done with an object that is not ours to make."""
    what = named(table, id, key)
    if error == errno.EIDRM and id is not None:
        return removed(table, id, key)
    if error in (errno.EACCES, errno.EPERM):
        return PermissionError(error, f"{doing}: {what} {_owned(table, id, key)}")
    if error == errno.ENOSYS:
        return OSError(error, f"{doing}: this kernel, or the sandbox we are in, has no System V IPC")
    if error == errno.ENOENT or (error == errno.EINVAL and id is not None and not row_of(table, id, key)):
        return FileNotFoundError(errno.ENOENT, f"{doing}: there is no {what} in this IPC namespace")
    if error == errno.EEXIST:
        return FileExistsError(error, f"{doing}: there is a {what} already; open() or open_or_create() takes it")
    return OSError(error, f"{doing}: {what}: {os.strerror(error)}")


def not_created(table: str, error: int, key: int, wanted: int) -> OSError:
    """The error for an object that could not be made; ``wanted`` semaphores or pages."""
    if error == errno.ENOSPC:
        return used_up(table, wanted)
    return failure(table, error, "create", key=key)


def row_of(table: str, id: int | None, key: int = 0) -> dict[str, int] | None:
    """What /proc tells of an object by its id, or else its key; of those too that we may not look into."""
    for row in table_rows(table):
        if row[_IDS[table]] == id if id is not None else row["key"] == key:
            return row
    return None


def _owned(table: str, id: int | None, key: int) -> str:
    row = row_of(table, id, key)
    if row is None:
        return "is not ours"
    creator = "" if row["cuid"] == row["uid"] else f" (made by {_user(row['cuid'])})"
    mode = f"mode {row['perms'] & 0o777:04o}"
    return f"belongs to {_user(row['uid'])}{creator} with {mode}, and we are {_user(os.geteuid())}"


def _user(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
