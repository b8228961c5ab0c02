"""System V IPC: shared memory, semaphore sets and message queues (perlipc:V1-V6).

- ``shared_memory``, ``semaphores``, ``message_queue``: the three; ``lasting``: what they have in common
- ``cells``: single values and arrays of them in memory that is shared
- ``keys``: how unrelated processes find the same object
- ``limits``, ``failures``: what the system allows, and what its refusals mean
- ``listing``: what there is, whoever made it
"""

from __future__ import annotations

from hornpipe._native.sysv import IPC_NOWAIT, SEM_UNDO, Message
from hornpipe.errors import ObjectRemoved, SystemLimit
from hornpipe.sysv.cells import Cell, Cells
from hornpipe.sysv.keys import ftok, key_for
from hornpipe.sysv.lasting import Owner
from hornpipe.sysv.limits import Limits, limits
from hornpipe.sysv.listing import (
    Listed,
    ListedQueue,
    ListedSegment,
    ListedSet,
    last_use,
    orphaned_since,
    queues,
    remove,
    segments,
    semaphore_sets,
)
from hornpipe.sysv.message_queue import MessageQueue, QueueStat
from hornpipe.sysv.semaphores import Semaphore, SemaphoreSet, SetStat
from hornpipe.sysv.shared_memory import SegmentStat, SharedMemory

__all__ = [
    "IPC_NOWAIT",
    "SEM_UNDO",
    "Cell",
    "Cells",
    "Limits",
    "Listed",
    "ListedQueue",
    "ListedSegment",
    "ListedSet",
    "Message",
    "MessageQueue",
    "ObjectRemoved",
    "Owner",
    "QueueStat",
    "SegmentStat",
    "Semaphore",
    "SemaphoreSet",
    "SetStat",
    "SharedMemory",
    "SystemLimit",
    "ftok",
    "key_for",
    "last_use",
    "limits",
    "orphaned_since",
    "queues",
    "remove",
    "segments",
    "semaphore_sets",
]
