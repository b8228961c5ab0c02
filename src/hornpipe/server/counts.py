"""What a server has done so far, counted by all of its processes together."""

from __future__ import annotations

from typing import NamedTuple

from hornpipe._native.shared import Numbers


class Counts(NamedTuple):
    """What has happened since the start."""

    begun: int = 0
    """Clients that were taken in."""
    ended: int = 0
    """Clients whose connection is over, however it ended."""
    failed: int = 0
    """Of those: the handler raised, or its process died or, being a program, said that it failed."""
    timed_out: int = 0
    """Of those: ``idle_timeout`` or ``per_client_timeout`` was over."""
    gone: int = 0
    """Of those: the client went away in the middle."""
    refused: int = 0
    """Turned away at once: their address had ``max_per_address`` connections."""
    received: int = 0
    """Bytes that handlers have read."""
    sent: int = 0
    """Bytes that clients' kernels were given."""
    replaced: int = 0
    """Workers that died and were replaced."""

    @property
    def active(self) -> int:
        """Clients that are being served."""
        return self.begun - self.ended


FIELDS = len(Counts._fields)
BEGUN, ENDED, FAILED, TIMED_OUT, GONE, REFUSED, RECEIVED, SENT, REPLACED = range(FIELDS)


def read(numbers: Numbers) -> Counts:
    """The counts as they are now; each is right, though another may be a moment younger."""
    # The ends first, so that nobody seems to have ended who has not begun.
    ended = numbers[ENDED]
    values = [numbers[place] for place in range(FIELDS)]
    values[ENDED] = ended
    return Counts(*values)
