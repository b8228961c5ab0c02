"""The process image: how it was started, and what the image before it, with the same pid, left to it.

Read as soon as ``hornpipe`` is imported: whoever becomes a daemon changes the directory, and many a
program its environment (gotcha:H2). Nothing of it reaches our children: the variable in which an image
speaks to the next one is gone from the environment before they are started (gotcha:DM6).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself makes enumerations, which takes its time
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hornpipe.locks import HasFileno

VARIABLE = "HORNPIPE_RESTART"


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it has been removed, or may not be looked at: whoever restarts us stays where he is


def _ignored() -> int:
    # Python ignores two by itself, and no longer says what they had been; and a child that has CHLD ignored
    # cannot have the status of its own children (gotcha:SIG6).
    others = {_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD}
    return sum(
        1 << (number - 1)
        for number in range(1, _signal.NSIG)
        if _signal.getsignal(number) == _signal.SIG_IGN and number not in others
    )


_left = [line.partition(" ")[::2] for line in os.environ.pop(VARIABLE, "").split("\n") if line]

directory = _directory()
"""Where this image was started; ``None`` if that has no name."""
ignored = _ignored()
"""The signals that whoever started us had made us ignore (nohup HUP, a shell's ``&`` INT and QUIT): bits, number - 1.

They are meant for all that we start as well, and stay ignored in our children as long as they are ignored here
(gotcha:SIG16). What the program comes to ignore by itself does not (gotcha:SIG5).
"""
environment = dict(os.environb)
"""The environment it was started with."""
is_daemon = False
"""Whether it has become a daemon, by itself or before a restart."""


def _numbers(kind: str) -> list[int]:
    return [int(value) for what, value in _left if what == kind]


_restarted_as = _numbers("pid")
rehearsal = next(iter(_numbers("rehearsal")), None)
"""Where to say that we have come up, if that is all we are to do."""
children = _numbers("child")
"""The children that the image before this one had."""
_kept = {name: int(number) for what, value in _left if what == "fd" for number, _, name in [value.partition(" ")]}


def _take_in() -> None:
    for fd in (*_kept.values(), *_numbers("rehearsal")):
        if fd > 2:  # the standard streams are everybody's, and no exec closes them
            os.set_inheritable(fd, False)
    if rehearsal is not None and "LISTEN_PID" in os.environ:
        # The manager's sockets were passed on to the rehearsal, and it is to find them as the service does.
        os.environ["LISTEN_PID"] = str(os.getpid())


_take_in()


def restarted() -> bool:
    """Whether this process ran an image before this one.

    >>> restarted()
    False
    """
    return os.getpid() in _restarted_as


def was_daemon() -> bool:
    """Whether the image before this one, or the one that rehearses us, had become a daemon."""
    return (rehearsal is not None or restarted()) and ("daemon", "") in _left


# --- descriptors, from one image to the next ---

_keeping: dict[str, int | HasFileno] = {}


def keep(name: str, thing: int | HasFileno) -> None:
    r"""Hand this descriptor over at a restart, under this name, unless it has been closed by then.

    >>> keep("a\nb", 3)
    Traceback (most recent call last):
    ...
    ValueError: the name of a kept descriptor has no line feed and no NUL, unlike 'a\nb'
    """
    if "\n" in name or "\0" in name:
        raise ValueError(f"the name of a kept descriptor has no line feed and no NUL, unlike {name!r}")
    _keeping[name] = thing


def kept_descriptors() -> dict[str, int]:
    """The descriptors that the image before this one was told to ``keep``, by name; close-on-exec, and ours to close.

    Empty in a program that was not restarted.

    >>> kept_descriptors()
    {}
    """
    return dict(_kept) if rehearsal is not None or restarted() else {}


def claim(name: str) -> int | None:
    """One of them, once: whoever gets the number closes it, and then it may be somebody else's."""
    fd = kept_descriptors().get(name)
    _kept.pop(name, None)
    return fd


def to_keep() -> dict[str, int]:
    """What a restart hands over now: what is still open of all that is to be kept."""
    found = {}
    for name, thing in _keeping.items():
        try:
            fd = thing if isinstance(thing, int) else thing.fileno()
            os.fstat(fd)
        except (OSError, ValueError):
            continue  # closed since
        found[name] = fd
    return found


def bequest(facts: list[str], descriptors: dict[str, int]) -> str:
    """What is left to the next image, for ``VARIABLE``."""
    lines = [*facts, *(f"fd {fd} {name}" for name, fd in descriptors.items())]
    return "\n".join([*lines, "daemon"] if is_daemon else lines)
