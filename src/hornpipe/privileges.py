"""Giving up what only root may do, for good (perlipc:D3, gotcha:PR1, PR2)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from hornpipe.errors import spawn_error
from hornpipe.spawn.recipe import find_ids


def drop_privileges(
    who: str, user: str | int | None, group: str | int | None = None, groups: Iterable[str | int] | None = None
) -> None:
    """Become this user for good, with all threads; ``SpawnError`` when that is not permitted (gotcha:PR1, PR2)."""
    ids = find_ids(who, user, group, None if groups is None else tuple(groups))
    if ids is None:
        return
    try:
        # Groups, gid, uid: in any other order the later calls lack the privilege. These are libc's,
        # which change all threads; the raw calls would change this one alone.
        os.setgroups(ids.groups)
        os.setresgid(ids.gid, ids.gid, ids.gid)
        os.setresuid(ids.uid, ids.uid, ids.uid)
    except OSError as error:
        raise spawn_error(
            error.errno or 0, f"{who} cannot become user {ids.name!r}: {error.strerror}", stage="user"
        ) from None
    if os.getresuid() != (ids.uid,) * 3 or os.getresgid() != (ids.gid,) * 3 or _way_back(ids.uid):
        # Neither here nor there: nothing may go on running like this.
        os.write(2, b"privileges could be had back after they were dropped\n")
        os._exit(70)


def _way_back(uid: int) -> bool:
    if uid == 0:
        return False
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return False
    return True
