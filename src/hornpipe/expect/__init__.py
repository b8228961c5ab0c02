r"""Programs that insist on a terminal, and how to talk to them: in the words of pexpect.

Changing the import to ``import hornpipe.expect as pexpect`` is the whole migration.

>>> import hornpipe.expect as pexpect
>>> child = pexpect.spawn("bc -q", encoding="utf-8", echo=False)
>>> child.sendline("6 * 7")
6
>>> child.expect(r"(\d+)\r\n")
0
>>> child.match.group(1)
'42'
>>> child.close()

The rooms: ``matcher`` knows what has come and no transport, ``searches`` how one pattern is looked for, ``analysis``
how far it can see. ``transport`` moves bytes, ``spawnbase`` has the words that all share, ``terminal`` those of
terminals; ``pty_spawn``, ``fdpexpect``, ``popen_spawn`` and ``socket_pexpect`` are what a user starts with, and
``run``, ``replwrap``, ``pxssh`` and ``interaction`` stand on these.
"""

from hornpipe.expect.exceptions import EOF, TIMEOUT, ExceptionPexpect
from hornpipe.expect.matcher import searcher_re, searcher_string
from hornpipe.expect.pty_spawn import spawn, spawnu
from hornpipe.expect.run import run, runu
from hornpipe.expect.spawnbase import SpawnBase
from hornpipe.expect.utils import is_executable_file, split_command_line, which

PY3 = True
"""What programs of that time ask."""
__version__ = "4.9.0"
"""The version of pexpect whose words these are."""
__revision__ = ""

__all__ = [
    "EOF",
    "PY3",
    "TIMEOUT",
    "ExceptionPexpect",
    "SpawnBase",
    "is_executable_file",
    "run",
    "runu",
    "searcher_re",
    "searcher_string",
    "spawn",
    "spawnu",
    "split_command_line",
    "which",
]
