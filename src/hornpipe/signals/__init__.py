"""Signals: handlers by name, streams for any thread, and the rest of POSIX."""

from hornpipe.signals.arrival import Signal
from hornpipe.signals.dispositions import Foreign, Handler
from hornpipe.signals.immediate import Immediate
from hornpipe.signals.mapping import SIG, Disposition, Entry, sigaction
from hornpipe.signals.masks import block, pending, suspend, wait
from hornpipe.signals.sending import alive, kill, kill_group, queue
from hornpipe.signals.unwinding import Unwound, unwind
from hornpipe.signals.watching import Watch, watch

table = SIG.table

__all__ = [
    "SIG",
    "Disposition",
    "Entry",
    "Foreign",
    "Handler",
    "Immediate",
    "Signal",
    "Unwound",
    "Watch",
    "alive",
    "block",
    "kill",
    "kill_group",
    "pending",
    "queue",
    "sigaction",
    "suspend",
    "table",
    "unwind",
    "wait",
    "watch",
]
