r"""Every way Unix processes talk to each other, behind one small, safe and fast library.

    >>> import hornpipe as hp
    >>> hp.cmd("sort", input="b\na\n").read()
    'a\nb\n'

===========================  ==================================================================
programs                     ``cmd`` ``sh`` ``fn``, joined by ``|``; their verbs: ``run`` ``read``
                             ``capture`` ``call`` ``lines`` ``reader`` ``writer`` ``duplex`` ``start``
signals                      ``SIG`` ``watch`` ``kill`` ``alive`` ``alarm``, and ``hornpipe.signals``
files                        ``Fifo`` ``lock`` ``inputs``
sockets                      ``connect`` ``listen`` ``socket_pair`` ``open_datagram`` ``relay``
servers                      ``serve`` ``Server``
daemons                      ``daemonize`` ``restart_on_hup`` ``on_hup``
terminals, in pexpect's way  ``hornpipe.expect``
System V                     ``hornpipe.sysv``
tests                        ``hornpipe.testing``
===========================  ==================================================================

Errors are built-in exceptions that carry facts: ``CommandFailed``, ``CommandTimeout``, ``SpawnError`` ...
Times are seconds, sizes bytes. Each name is loaded with its room when it is first used, so that the
import costs nothing; the rooms and their order are in docs/architecture.md.
"""

from hornpipe import image as _image  # noqa: F401 (how we were started is read before the program changes it)

TYPE_CHECKING = False
if TYPE_CHECKING:  # what a checker sees; at run time each name is looked up at its first use
    from hornpipe import expect as expect
    from hornpipe import signals as signals
    from hornpipe import sysv as sysv
    from hornpipe.address import Address
    from hornpipe.alarms import alarm
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
    from hornpipe.daemon import Daemon, daemonize
    from hornpipe.errors import (
        CommandFailed,
        CommandTimeout,
        ForkWarning,
        LimitExceeded,
        NoAnswer,
        ReaderGone,
        RemoteError,
        SignalWarning,
        SpawnError,
    )
    from hornpipe.fifo import Fifo, is_fifo
    from hornpipe.handle import Handle
    from hornpipe.image import kept_descriptors
    from hornpipe.input_files import Inputs, inputs
    from hornpipe.job import Job
    from hornpipe.lines import Head, Tail
    from hornpipe.locks import lock
    from hornpipe.pidfile import AlreadyRunning
    from hornpipe.process import Detached, Process
    from hornpipe.redirections import CLOSED, NULL, STDOUT, TAIL
    from hornpipe.reexec import on_hup, restart_on_hup
    from hornpipe.relays import Relayed, relay
    from hornpipe.resolve import host_name
    from hornpipe.server import Counts, Server, ServerOptions, serve
    from hornpipe.signals import SIG, Foreign, Immediate, Signal, Watch, alive, kill, watch
    from hornpipe.sockets import (
        Connection,
        Credentials,
        Datagram,
        DatagramSocket,
        Listener,
        connect,
        datagram_pair,
        is_socket,
        listen,
        open_datagram,
        socket_pair,
    )
    from hornpipe.status import ExitStatus

__version__ = "0.1.0"

__all__ = [
    "CLOSED",
    "NULL",
    "SIG",
    "STDOUT",
    "TAIL",
    "Address",
    "AlreadyRunning",
    "Captured",
    "Command",
    "CommandFailed",
    "CommandTimeout",
    "Connection",
    "Counts",
    "Credentials",
    "Daemon",
    "Datagram",
    "DatagramSocket",
    "Detached",
    "Duplex",
    "ExitStatus",
    "Fifo",
    "Foreign",
    "ForkWarning",
    "Function",
    "Handle",
    "Head",
    "Immediate",
    "Inputs",
    "Job",
    "LimitExceeded",
    "Lines",
    "Listener",
    "NoAnswer",
    "Options",
    "Pipeline",
    "Process",
    "Reader",
    "ReaderGone",
    "Relayed",
    "RemoteError",
    "Runnable",
    "Server",
    "ServerOptions",
    "Signal",
    "SignalWarning",
    "SpawnError",
    "Tail",
    "Watch",
    "Writer",
    "alarm",
    "alive",
    "cmd",
    "connect",
    "daemonize",
    "datagram_pair",
    "expect",
    "fn",
    "host_name",
    "inputs",
    "is_fifo",
    "is_socket",
    "kept_descriptors",
    "kill",
    "listen",
    "lock",
    "on_hup",
    "open_datagram",
    "relay",
    "restart_on_hup",
    "serve",
    "sh",
    "signals",
    "socket_pair",
    "sysv",
    "watch",
]

_ROOMS = {
    "address": ("Address",),
    "alarms": ("alarm",),
    "command": (
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
    ),
    "daemon": ("Daemon", "daemonize"),
    "errors": (
        "CommandFailed",
        "CommandTimeout",
        "ForkWarning",
        "LimitExceeded",
        "NoAnswer",
        "ReaderGone",
        "RemoteError",
        "SignalWarning",
        "SpawnError",
    ),
    "fifo": ("Fifo", "is_fifo"),
    "handle": ("Handle",),
    "image": ("kept_descriptors",),
    "input_files": ("Inputs", "inputs"),
    "job": ("Job",),
    "lines": ("Head", "Tail"),
    "locks": ("lock",),
    "pidfile": ("AlreadyRunning",),
    "process": ("Detached", "Process"),
    "redirections": ("CLOSED", "NULL", "STDOUT", "TAIL"),
    "reexec": ("on_hup", "restart_on_hup"),
    "relays": ("Relayed", "relay"),
    "resolve": ("host_name",),
    "server": ("Counts", "Server", "ServerOptions", "serve"),
    "signals": ("SIG", "Foreign", "Immediate", "Signal", "Watch", "alive", "kill", "watch"),
    "sockets": (
        "Connection",
        "Credentials",
        "Datagram",
        "DatagramSocket",
        "Listener",
        "connect",
        "datagram_pair",
        "is_socket",
        "listen",
        "open_datagram",
        "socket_pair",
    ),
    "status": ("ExitStatus",),
}
_OPEN = {"expect", "signals", "sysv"}
"""Rooms that are part of the face themselves."""
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    """A room is opened when something of it is first used: who wants sockets does not pay for terminals."""
    if name in _OPEN:
        return __import__(f"hornpipe.{name}", fromlist=["*"])
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(__import__(f"hornpipe.{room}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
