"""Commands: what to run, apart from how to talk to it."""

from hornpipe.command.duplex import Duplex
from hornpipe.command.function import Function, fn
from hornpipe.command.options import Options
from hornpipe.command.pipeline import Pipeline
from hornpipe.command.program import Command, cmd, sh
from hornpipe.command.streams import Lines, Reader, Writer
from hornpipe.command.verbs import Captured, Runnable

__all__ = [
    "Captured",
    "Command",
    "Duplex",
    "Function",
    "Lines",
    "Options",
    "Pipeline",
    "Reader",
    "Runnable",
    "Writer",
    "cmd",
    "fn",
    "sh",
]
