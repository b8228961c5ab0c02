"""``hornpipe ipcs`` and ``hornpipe ipcrm``: System V objects.

Both are told by the same words which are meant: what the one shows, the other removes.
"""

from __future__ import annotations

import functools
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click

import hornpipe as hp
from hornpipe.cli import complain
from hornpipe.cli.tables import print_table
from hornpipe.cli.wording import Number
from hornpipe.sysv import Listed, ListedQueue, ListedSegment, ListedSet

_KINDS: dict[type[Listed], str] = {ListedSegment: "shm", ListedSet: "sem", ListedQueue: "msg"}
_NOUNS = {"shm": "segment", "sem": "semaphore set", "msg": "queue"}
_LISTS: dict[str, Callable[[], Sequence[Listed]]] = {
    "shm": hp.sysv.segments,
    "sem": hp.sysv.semaphore_sets,
    "msg": hp.sysv.queues,
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HEADS = ("kind", "id", "key", "owner", "mode", "used", "state", "what is in it")


class Wanted(NamedTuple):
    """Which objects a command line speaks of."""

    kinds: tuple[str, ...]
    ids: tuple[int, ...]
    keys: tuple[int, ...]
    owner: int | None
    orphaned: float | None

    def includes(self, entry: Listed) -> bool:
        """Whether it is one of them."""
        if (self.ids or self.keys) and entry.id not in self.ids and _key_of(entry) not in self.keys:
            return False
        if self.owner is not None and entry.owner.uid != self.owner:
            return False
        if self.orphaned is None:
            return True
        since = hp.sysv.orphaned_since(entry)
        return since is not None and time.time() - since > self.orphaned


def _kind(entry: Listed) -> str:
    return _KINDS[type(entry)]


def _key_of(entry: Listed) -> int:
    """As everybody writes it, without a sign."""
    return entry.owner.key & 0xFFFF_FFFF


def _number(text: str) -> int | None:
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]+|[1-9][0-9]*|0", text) else None


def _key(_ctx: click.Context, _option: click.Parameter, texts: Sequence[str]) -> tuple[int, ...]:
    keys = []
    for text in texts:
        key = _number(text)
        if key is None or not 0 <= key < 1 << 32:
            raise click.BadParameter(f"{text!r} is no key such as 1234 or 0x4d2")
        if key == 0:
            raise click.BadParameter("0 is the key of every private object, so these are known by their ids only")
        keys.append(key)
    return tuple(keys)


def _user(_ctx: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        if text.isascii() and text.isdigit():
            return int(text)
        raise click.BadParameter(f"there is no user {text!r}") from None


def _age(_ctx: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no time such as 90, 15m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _words(function: Callable[..., None]) -> Callable[..., None]:
    """The words by which both commands are told which objects are meant; the function gets them as a ``Wanted``."""

    @functools.wraps(function)
    def told(
        shm: bool,
        sem: bool,
        msg: bool,
        ids: tuple[int, ...],
        keys: tuple[int, ...],
        owner: int | None,
        orphaned: float | None,
        **others: bool,
    ) -> None:
        kinds = tuple(kind for kind, given in (("shm", shm), ("sem", sem), ("msg", msg)) if given)
        if ids and len(kinds) != 1:
            raise click.UsageError("objects of two kinds may have the same id: with an ID goes one of -m, -s and -q")
        function(Wanted(kinds or tuple(_LISTS), ids, keys, owner, orphaned), **others)

    made: Callable[..., None] = told
    for option in (
        click.argument("ids", nargs=-1, metavar="[ID]...", type=Number(0, 0x7FFF_FFFF)),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON list."),
        click.option(
            "--orphaned",
            callback=_age,
            metavar="AGE",
            help="Those that nobody has used for longer than AGE (90, 15m, 2h, 7d), and whose last users are gone.",
        ),
        click.option("--owner", callback=_user, metavar="USER", help="Those that belong to USER."),
        click.option("-k", "--key", "keys", multiple=True, callback=_key, metavar="KEY", help="The one with this key."),
        click.option("-q", "msg", is_flag=True, help="Message queues."),
        click.option("-s", "sem", is_flag=True, help="Semaphore sets."),
        click.option("-m", "shm", is_flag=True, help="Shared memory segments."),
    ):
        made = option(made)
    return made


@click.command(
    "ipcs",
    short_help="List System V objects: memory, semaphores, queues.",
    epilog="\b\nExamples:\n  hornpipe ipcs\n  hornpipe ipcs -q --owner www-data\n"
    "  hornpipe ipcs --orphaned 1d --json | jq length",
)
@_words
def ipcs_command(wanted: Wanted, as_json: bool) -> None:
    """List System V objects: all, or those that every word given fits.

    "in use" is what has a process that is known to use it, or that may; "orphaned" is what nobody has attached or waits
    in, and whose last users are gone; "removed" is a segment that goes when it is detached. Who waits for a queue's
    first message is not known to anybody: an orphan of a minute may be none.

    The exit status is 1 if there is no object with an ID or a KEY that was given.
    """
    found = _find(wanted)
    _show(found, as_json)
    if _absent(wanted, found, "ipcs"):
        raise click.exceptions.Exit(1)


@click.command(
    "ipcrm",
    short_help="Remove System V objects.",
    epilog="\b\nExamples:\n  hornpipe ipcrm -q 7\n  hornpipe ipcrm --key 0x4d2 --dry-run\n"
    "  hornpipe ipcrm --orphaned 1d --yes",
)
@_words
@click.option("--yes", is_flag=True, help="Remove them without asking.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and leave it.")
def ipcrm_command(wanted: Wanted, as_json: bool, yes: bool, dry_run: bool) -> None:
    """Remove System V objects: those that every word given fits, and that are ours.

    Another user's are removed only with --owner, where the system allows it. What would be removed is shown, and
    removed after a yes; without a terminal to ask on, --yes has to be given.

    The exit status is 1 if something that was asked for was not removed.
    """
    if not (wanted.ids or wanted.keys or wanted.owner is not None or wanted.orphaned is not None):
        raise click.UsageError("say what to remove: an ID, --key, --owner or --orphaned")
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run do not go together")
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: give --yes or --dry-run")
    if wanted.owner is None and not (wanted.ids or wanted.keys):
        wanted = wanted._replace(owner=os.geteuid())
    seen = _find(wanted)
    problem = _absent(wanted, seen, "ipcrm")
    found = [entry for entry in seen if _may_go(entry, wanted)]
    problem |= len(found) < len(seen)
    if not yes and not as_json:
        _show(found, as_json=False)
    facts = [_facts(entry) for entry in found] if as_json else []
    removed: list[Listed] = []
    if found and not dry_run:
        if yes or _agreed(len(found)):
            removed = [entry for entry in found if _remove(entry, wanted, tell=not as_json)]
        problem |= len(removed) < len(found)
    if as_json:
        told = [{**each, "gone": entry in removed} for each, entry in zip(facts, found, strict=True)]
        click.echo(json.dumps(told, indent=2))
    raise click.exceptions.Exit(1 if problem else 0)


def _find(wanted: Wanted) -> list[Listed]:
    return [entry for kind in wanted.kinds for entry in _LISTS[kind]() if wanted.includes(entry)]


def _absent(wanted: Wanted, found: Sequence[Listed], command: str) -> bool:
    """Say what was asked for by number and is not there; whether there was any such."""
    missing = [f"{_NOUNS[wanted.kinds[0]]} {each}" for each in wanted.ids if all(each != it.id for it in found)]
    missing += [f"object with the key {key:#x}" for key in wanted.keys if all(key != _key_of(it) for it in found)]
    fitting = " that fits" if wanted.owner is not None or wanted.orphaned is not None else ""
    for what in missing:
        complain(f"hornpipe {command}: there is no {what}{fitting}")
    return bool(missing)


def _may_go(entry: Listed, wanted: Wanted) -> bool:
    """Whether it is ours to remove, or its owner was named; says so if not."""
    if entry.owner.uid == os.geteuid() or wanted.owner is not None:
        return True
    owner = _user_name(entry.owner.uid)
    complain(f"hornpipe ipcrm: {_name(entry)} belongs to {owner}, and is removed only with --owner {owner}")
    return False


def _agreed(count: int) -> bool:
    if not os.isatty(0):
        complain("hornpipe ipcrm: nothing was removed: there is no terminal to ask on, and --yes was not given")
        return False
    # On stderr: the list may be on its way into a file.
    return click.confirm(f"Remove {'it' if count == 1 else f'these {count}'}?", err=True)


def _remove(entry: Listed, wanted: Wanted, tell: bool) -> bool:
    """Remove one; whether it is gone."""
    # 1. We show it.  2. Somebody begins to use it, or it is removed and another one gets its id.  3. The answer is yes.
    now = [each for each in _LISTS[_kind(entry)]() if each.id == entry.id]
    if now and not (now[0].owner == entry.owner and wanted.includes(now[0])):
        complain(f"hornpipe ipcrm: {_name(entry)} has changed meanwhile, and was left")
        return False
    if now:
        try:
            hp.sysv.remove(entry)
        except PermissionError as error:
            complain(f"hornpipe ipcrm: {error.strerror}")
            return False
    if tell:
        click.echo(f"removed: {_name(entry)}")
    return True


def _name(entry: Listed) -> str:
    return f"{_NOUNS[_kind(entry)]} {entry.id}"


def _user_name(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
    return name if name.isprintable() else str(uid)


# --- showing ---


def _facts(entry: Listed) -> dict[str, object]:
    return {
        "kind": _kind(entry),
        **entry._asdict(),
        "owner": _user_name(entry.owner.uid),
        **entry.owner._asdict(),
        "key": _key_of(entry),
        "last_use": hp.sysv.last_use(entry),
        "orphaned_since": hp.sysv.orphaned_since(entry),
    }


def _show(found: Sequence[Listed], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_facts(entry) for entry in found], indent=2))
    elif sys.stdout.isatty():
        rows = ([*_cells(entry)[:5], _ago(entry), *_cells(entry)[5:]] for entry in found)
        print_table(_HEADS, rows, bold="id", right={"id", "used"}, whole=True)
    else:
        for entry in found:
            kind, number, key, owner, mode, state, holds = _cells(entry)
            used = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(hp.sysv.last_use(entry)))
            click.echo(f"{kind} {number:>10} {key:>10} {owner:12} {mode} {used} {state:8}  {holds}")


def _cells(entry: Listed) -> list[str]:
    """The words of a line but for the time."""
    if isinstance(entry, ListedSegment) and entry.doomed:
        state = "removed"
    else:
        state = "in use" if hp.sysv.orphaned_since(entry) is None else "orphaned"
    owner, key = entry.owner, _key_of(entry)
    name = f"{key:#010x}" if key else "private"
    return [
        _kind(entry),
        str(entry.id),
        name,
        _user_name(owner.uid),
        f"{owner.mode:03o}",
        state,
        _contents(entry),
    ]


def _ago(entry: Listed) -> str:
    seconds = max(0, int(time.time()) - hp.sysv.last_use(entry))
    unit = [unit for unit, length in _UNITS.items() if length <= max(seconds, 1)][-1]
    return f"{seconds // _UNITS[unit]}{unit} ago"


def _contents(entry: Listed) -> str:
    """What is in it, and who has used it."""
    who: tuple[tuple[str, int], ...] = ()
    if isinstance(entry, ListedSegment):
        often = {0: "not attached", 1: "attached once"}.get(entry.attaches, f"attached {entry.attaches} times")
        facts = [_count(entry.size, "byte"), often]
        who = (("made", entry.creator_pid), ("last", entry.last_pid))
    elif isinstance(entry, ListedSet):
        facts = [_count(entry.semaphores, "semaphore")]
    else:
        facts = [f"{_count(entry.messages, 'message')} of {_count(entry.bytes, 'byte')}"]
        who = (("sent", entry.last_send_pid), ("received", entry.last_receive_pid))
    return ", ".join([*facts, *(f"{verb} by {pid}" for verb, pid in who if pid)])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
