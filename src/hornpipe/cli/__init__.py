"""The command ``hornpipe``.

``hornpipe run`` stands in front of other programs, in scripts and as PID 1 of containers, so it needs nothing but the
library and starts in the time that takes. All else is for people and stands on click and rich, the extra
``hornpipe[cli]``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn, TextIO

_ABSENT = "hornpipe: this command needs click and rich: pip install 'hornpipe[cli]' (hornpipe run works without)"
_USAGE = 2


def main() -> NoReturn:
    """The entry point: run the command line of this process and exit."""
    if sys.argv[1:2] == ["run"]:
        from hornpipe.cli import run

        leave(run.main(sys.argv[2:]))
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        # Theirs alone: a module that click itself misses is a broken installation, to be seen in full.
        if error.name not in {"click", "rich"}:
            raise
        complain(_ABSENT)
        leave(_USAGE)
    from hornpipe.cli import app

    leave(app.main(sys.argv[1:]))


def complain(sentence: str) -> None:
    """Say one line on stderr, if there is anybody to hear it."""
    if sys.stderr is None:
        return  # we were started without it: print would say it on stdout
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        pass


def printable(text: str) -> str:
    r"""What somebody else has said, on one line and harmless: terminals obey what they are shown.

    >>> printable("two\n lines, \x1b[2J")
    'two lines, ?[2J'
    """
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def reason(error: OSError) -> str:
    """What an error of the system says, in one line and without its number.

    >>> reason(FileNotFoundError(2, "No such file or directory", "/no/such"))
    '/no/such: No such file or directory'
    """
    words = (str(error).splitlines() or [type(error).__name__])[0]
    if error.strerror is None or error.strerror.startswith(words):
        return words  # a sentence of ours
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


def leave(code: int) -> NoReturn:
    """Exit, quietly also when the reader of our output has gone (``| head``)."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = reader_gone()
    except OSError as error:
        if not code:  # else it has been told of
            complain(f"hornpipe: {reason(error)}")
        reader_gone()
        code = code or 1
    sys.exit(code)


def closed_stdout() -> TextIO:
    """In place of a stdout that we were started without: what is written there fails, and is not lost in silence."""
    import io

    null = os.open(os.devnull, os.O_RDONLY)
    if null != 1:
        os.dup2(null, 1)
        os.close(null)
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))


def reader_gone() -> int:
    """Make the flush at exit harmless; the exit code of a program that PIPE has ended."""
    # What is still in Python's buffer goes where it can be written.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return 128 + signal.SIGPIPE


def die_of(number: int) -> int:
    """Die of the signal, so that a shell that runs us in a loop stops looping; if we survive, the code to exit with."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    # PID 1 of a container is spared by the kernel.
    return 128 + number
