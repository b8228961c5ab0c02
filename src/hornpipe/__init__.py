"""Every way Unix processes talk to each other, behind one small, safe and fast library.

The rooms, each of which imports only from those above it:

    _native                                  system calls that Python lacks
    names  status  errors  deadline  lines   data and pure logic
    wait                                     the one place that blocks
    fd  handle  pump                         descriptors, file objects, bytes on the move
    reaper  process  spawn                   children: who owns them, how they start
    contain  pty                             their bounds, their terminals
    job  command                             one to n processes; the verbs
"""

from hornpipe.command import (
    Captured,
    Command,
    Duplex,
    Function,
    Lines,
    Options,
    Pipeline,
    Reader,
    Runnable,
    Writer,
    cmd,
    fn,
    sh,
)
from hornpipe.errors import (
    CommandFailed,
    CommandTimeout,
    ForkWarning,
    LimitExceeded,
    NoAnswer,
    ReaderGone,
    RemoteError,
    SpawnError,
)
from hornpipe.handle import Handle
from hornpipe.job import CLOSED, NULL, STDOUT, TAIL, Job
from hornpipe.lines import Head, Tail
from hornpipe.process import Detached, Process
from hornpipe.status import ExitStatus

__version__ = "0.1.0"

__all__ = [
    "CLOSED",
    "NULL",
    "STDOUT",
    "TAIL",
    "Captured",
    "Command",
    "CommandFailed",
    "CommandTimeout",
    "Detached",
    "Duplex",
    "ExitStatus",
    "ForkWarning",
    "Function",
    "Handle",
    "Head",
    "Job",
    "LimitExceeded",
    "Lines",
    "NoAnswer",
    "Options",
    "Pipeline",
    "Process",
    "Reader",
    "ReaderGone",
    "RemoteError",
    "Runnable",
    "SpawnError",
    "Tail",
    "Writer",
    "cmd",
    "fn",
    "sh",
]
