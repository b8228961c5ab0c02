"""What expecting can end in, besides a match."""

from __future__ import annotations

import sys
import traceback


class ExceptionPexpect(Exception):
    """The base of all that is special to expecting."""

    def __init__(self, value: object = "") -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return str(self.value)

    def get_trace(self) -> str:
        """Where it was raised, without the frames of this package."""
        frames = traceback.extract_tb(sys.exc_info()[2])
        return "".join(traceback.format_list([frame for frame in frames if "hornpipe/expect" not in frame.filename]))


class EOF(ExceptionPexpect, EOFError):
    """The other side has closed its output."""


class TIMEOUT(ExceptionPexpect, TimeoutError):
    """What was expected did not come in time."""
