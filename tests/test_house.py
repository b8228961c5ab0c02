"""The house itself: the order of the rooms, the one place that blocks, and what an import costs.

Everything here reads source text or asks a fresh interpreter; each reader is also shown text that
breaks its rule, so that a green run means "looked and found nothing", not "did not look".
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import hornpipe

PACKAGE = Path(hornpipe.__file__).parent
NATIVE_SOURCES = Path(__file__).parent.parent / "src" / "hornpipe" / "_native"
CYTHON = (".pyx", ".pxd", ".pxi")

# The rooms in their order. A module imports from lines above its own and, on its own line, from
# the left.
ORDER = """
    _native
    names status errors deadline lines endings
    wait
    fd locks image
    signals
    handle
    pump relays
    reaper
    process
    spawn
    contain pty
    foreground
    redirections
    stages
    job
    command
    fifo_answers fifo input_files address resolve alarms
    supervision sockets sysv
    succession rehearsal reexec pidfile privileges
    outlets starter daemon server expect
    testing
    cli
"""
RANK = {room: rank for rank, room in enumerate(ORDER.split())}
FACE = "hornpipe"

# Rooms whose use of a module-level `import hornpipe` is natural: they drive the public face.
ABOVE_THE_FACE = {"testing", "cli"}


class Source(NamedTuple):
    """One module of the package, or a sample that stands for one."""

    name: str
    text: str
    is_package: bool = False

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(module: str) -> str:
    """The room a module belongs to; the package's own `__init__` is the face."""
    parts = module.split(".")
    if len(parts) == 1:
        return FACE
    return parts[1]


def sources(root: Path = PACKAGE) -> list[Source]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = ["hornpipe", *path.relative_to(root).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        found.append(Source(".".join(parts[:-1] if is_package else parts), path.read_text(), is_package))
    return found


def complaint(source: Source, line: int, text: str) -> str:
    return f"{source.name}:{line}: {text}"


# --- the order ---


def imported_modules(source: Source) -> Iterator[tuple[int, str]]:
    """Line and absolute name of all that a module imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = source.name.split(".")
                if not source.is_package:
                    package = package[:-1]
                package = package[: len(package) - (node.level - 1)]
                base = ".".join([*package, base] if base else package)
            if base == FACE:
                # `from hornpipe import pump` means the room, `from hornpipe import cmd` the face.
                for alias in node.names:
                    yield node.lineno, f"{FACE}.{alias.name}" if alias.name in RANK else FACE
            else:
                yield node.lineno, base
        elif isinstance(node, ast.Call) and called_name(node.func, {}).split(".")[-1] in {
            "import_module",
            "__import__",
        }:
            match node.args:
                case [ast.Constant(value=str(name)), *_] if not name.startswith("."):
                    yield node.lineno, name
                case _:
                    yield node.lineno, "?"


def imports_against_the_order(source: Source) -> list[str]:
    found = []
    room = source.room
    for line, name in imported_modules(source):
        if name == "?":
            # The face loads rooms on first use, by a name it looks up.
            if room != FACE:
                found.append(complaint(source, line, "an import that cannot be read"))
            continue
        if name.split(".")[0] != FACE:
            continue
        target = room_of(name)
        if target == room:
            continue
        if room == FACE:
            allowed = target not in ABOVE_THE_FACE
        elif target == FACE:
            allowed = room in ABOVE_THE_FACE
        else:
            allowed = target in RANK and room in RANK and RANK[target] < RANK[room]
        if not allowed:
            found.append(complaint(source, line, f"{room} imports {target}"))
    return found


def test_every_room_has_its_place_in_the_order():
    rooms = {source.room for source in sources()} - {FACE}
    assert rooms <= RANK.keys(), "a new room needs a place in ORDER, and in docs/architecture.md"


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_a_room_imports_only_from_rooms_before_it(source):
    assert imports_against_the_order(source) == []


def test_the_native_room_imports_nothing_of_the_house():
    pattern = re.compile(r"^\s*(?:from|import|cimport)\s+hornpipe(?!\._native)\b.*$", re.MULTILINE)
    found = {path.name: pattern.findall(path.read_text()) for path in NATIVE_SOURCES.iterdir() if path.suffix in CYTHON}
    assert len(found) > 20
    assert {name: imports for name, imports in found.items() if imports} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hornpipe.names", "from hornpipe.status import ExitStatus"),
        ("hornpipe.fd", "def late():\n    import hornpipe.pump"),
        ("hornpipe.fd", "from . import pump"),
        ("hornpipe.signals.drain", "from ..handle import Handle"),
        ("hornpipe.pump", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hornpipe.relays import relay"),
        ("hornpipe.job", "import importlib\nimportlib.import_module('hornpipe.command')"),
        ("hornpipe.job", "import importlib\nimportlib.import_module(somewhere)"),
        ("hornpipe.job", "from hornpipe import cmd"),
        ("hornpipe.job", "import hornpipe"),
        ("hornpipe.job", "from hornpipe.attic import cat"),
        ("hornpipe.testing.leaks", "from hornpipe.cli import main"),
        ("hornpipe", "from hornpipe.cli import main"),
        ("hornpipe", "from hornpipe.testing import no_leaks"),
    ],
)
def test_an_import_against_the_order_is_seen(name, text):
    assert len(imports_against_the_order(Source(name, text, name == FACE))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hornpipe.status", "from hornpipe.names import signal_name\nimport os"),
        (
            "hornpipe.signals.masks",
            "from . import x\nfrom .. import _native\nfrom hornpipe.signals.watching import x",
        ),
        ("hornpipe.cli.tour", "import hornpipe as hp\nfrom hornpipe import cmd\nfrom hornpipe.testing import stubborn"),
        ("hornpipe", "from hornpipe.command import cmd\nimport importlib\nimportlib.import_module(f'hornpipe.{x}')"),
    ],
)
def test_an_import_along_the_order_is_no_complaint(name, text):
    assert imports_against_the_order(Source(name, text, name == FACE)) == []


# --- the one place that blocks ---

# Reads and writes are not in these tables: whether they block is up to the descriptor, and a
# reader of source cannot know it. The rule for them is that wait said "ready" first.
BLOCKING_FUNCTIONS = {
    "input",
    "time.sleep",
    "select.select",
    "select.poll",
    "select.epoll",
    "select.kqueue",
    "os.wait",
    "os.wait3",
    "os.wait4",
    "os.waitpid",
    "os.waitid",
    "os.system",
    "os.popen",
    "os.lockf",
    "fcntl.flock",
    "fcntl.lockf",
    "pty.spawn",
    "signal.pause",
    "signal.sigwait",
    "signal.sigwaitinfo",
    "signal.sigtimedwait",
    "socket.create_connection",
    "socket.getaddrinfo",
    "socket.getfqdn",
    "socket.getnameinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.gethostbyname_ex",
}
BLOCKING_MODULES = {"subprocess", "selectors", "asyncio", "multiprocessing", "concurrent"}
BLOCKING_METHODS = {"accept", "connect", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"}
# Flags that turn a call of the tables into a question that is answered at once.
NON_BLOCKING = {"WNOHANG", "LOCK_NB", "F_TLOCK", "F_TEST", "F_ULOCK", "LOCK_UN", "MSG_DONTWAIT"}
NON_BLOCKING |= {"NO_WAIT"}  # MSG_DONTWAIT | MSG_NOSIGNAL: see sockets.descriptor

# What makes objects whose innocent-looking methods block, and which methods those are.
BLOCKING_OBJECTS = {
    "threading.Thread": {"join"},
    "threading.Timer": {"join"},
    "threading.Event": {"wait"},
    "threading.Barrier": {"wait"},
    "threading.Condition": {"wait", "wait_for", "acquire"},
    "queue.Queue": {"get", "put", "join"},
    "queue.LifoQueue": {"get", "put", "join"},
    "queue.PriorityQueue": {"get", "put", "join"},
    "queue.SimpleQueue": {"get"},
}

# Whole rooms that may block, and why.
MAY_BLOCK = {
    "wait": "it is the place",
    "testing": "drives programs and waits for them, in tests",
    "cli.tour": "shows programs to a person, some of them slow on purpose",
}

# Single calls that may: (module, function, call) -> reason.
ALLOWED: dict[tuple[str, str, str], str] = {
    ("hornpipe.resolve", "_look_up", "_socket.getaddrinfo"): "in a thread of its own, abandoned at the deadline",
    ("hornpipe.resolve", "_own_name.ask", "_socket.getaddrinfo"): "the same",
    ("hornpipe.resolve", "_name_of", "_socket.getnameinfo"): "the same",
    ("hornpipe.sockets.listening", "Listener.fileno", "select.epoll"): "only its descriptor is used, by others",
    ("hornpipe.server.loop", "Loop.__init__", "select.epoll"): "wait waits for it; it is only asked what is there",
    (
        "hornpipe.cli.encryption",
        "plainly",
        "thread.join",
    ): "its sockets have just been cut: it meets the end",
    ("hornpipe.reaper", "_stop_before_fork", "thread.join"): "bounded; the thread has just been told to end",
    (
        "hornpipe.expect.transport",
        "Transport._readable_async",
        "asyncio.get_running_loop",
    ): "asks which loop is to do the waiting",
}


# Who imports from the C half of a module means the same functions.
BLOCKING_FUNCTIONS |= {name.replace("socket.", "_socket.") for name in BLOCKING_FUNCTIONS if name.startswith("socket.")}


def called_name(node: ast.expr, imported: dict[str, str]) -> str:
    """`time.sleep` for every spelling of it that the module's imports allow; "" for what is no name."""
    match node:
        case ast.Name(id=name):
            return imported.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            base = called_name(value, imported)
            return f"{base}.{attr}" if base else f".{attr}"
    return ""


def names_imported(tree: ast.AST) -> dict[str, str]:
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def blocking_objects(tree: ast.AST, imported: dict[str, str]) -> dict[str, set[str]]:
    """Variables and attributes that hold an event, a queue, a thread: their last name -> methods that block."""
    held: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=ast.Call(func=func)):
                pass
            case ast.AnnAssign(target=target, value=ast.Call(func=func)):
                targets = [target]
            case ast.NamedExpr(target=target, value=ast.Call(func=func)):
                targets = [target]
            case _:
                continue
        methods = BLOCKING_OBJECTS.get(called_name(func, imported))
        if methods:
            for target in targets:
                held[called_name(target, {}).split(".")[-1]] = methods
    return held


def is_thread_join(call: ast.Call) -> bool:
    """Whether a `.join(...)` cannot be that of strings, which takes exactly one iterable, nor of paths."""
    if not call.args or any(keyword.arg == "timeout" for keyword in call.keywords):
        return True
    match call.args:
        case [ast.Constant(value=int() | float() | None)]:
            return True
        case [ast.Name(id=name) | ast.Attribute(attr=name)]:
            return name in {"timeout", "deadline", "remaining"}
    return False


def tries_only(call: ast.Call) -> bool:
    """Whether an `acquire`, `get` or `put` was told not to wait."""
    given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg in {"block", "blocking"})]
    if any(isinstance(value, ast.Constant) and value.value is False for value in given):
        return True
    return any(
        keyword.arg == "timeout" and isinstance(keyword.value, ast.Constant) and keyword.value.value == 0
        for keyword in call.keywords
    )


class BlockingCalls(ast.NodeVisitor):
    """Collects (function, line, call) for the calls of one module that may wait."""

    def __init__(self, tree: ast.AST) -> None:
        self.imported = names_imported(tree)
        self.objects = blocking_objects(tree, self.imported)
        self.scope: list[str] = []
        self.found: list[tuple[str, int, str]] = []
        self.visit(tree)

    def enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = enter

    def visit_Call(self, node: ast.Call) -> None:
        name = called_name(node.func, self.imported)
        if self.blocks(node, name):
            self.found.append((".".join(self.scope), node.lineno, name.lstrip(".")))
        self.generic_visit(node)

    def blocks(self, call: ast.Call, name: str) -> bool:
        words = {word.id for word in ast.walk(call) if isinstance(word, ast.Name)}
        words |= {word.attr for word in ast.walk(call) if isinstance(word, ast.Attribute)}
        if words & NON_BLOCKING:
            return False
        if name in BLOCKING_FUNCTIONS or name.split(".")[0] in BLOCKING_MODULES:
            return True
        owner, _, method = name.rpartition(".")
        if not isinstance(call.func, ast.Attribute) or owner.split(".")[0] == FACE:
            return False
        if method == "acquire":
            return not tries_only(call)
        if method == "join" and not isinstance(call.func.value, ast.Constant):
            return owner != "os.path" and is_thread_join(call)
        if method in BLOCKING_METHODS:
            return True
        return method in self.objects.get(owner.split(".")[-1], ()) and not tries_only(call)


def blocking_calls(source: Source) -> list[str]:
    place = source.name.removeprefix("hornpipe.")
    if any(place == room or place.startswith(f"{room}.") for room in MAY_BLOCK):
        return []
    return [
        complaint(source, line, f"{name} in {function or 'the module'}")
        for function, line, name in BlockingCalls(ast.parse(source.text)).found
        if (source.name, function, name) not in ALLOWED
    ]


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_only_wait_blocks(source):
    assert blocking_calls(source) == []


def test_every_exception_to_the_rule_is_still_needed():
    used = {
        (source.name, function, name)
        for source in sources()
        for function, _, name in BlockingCalls(ast.parse(source.text)).found
    }
    assert ALLOWED.keys() <= used


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(0.05)",
        "from time import sleep as nap\nnap(1)",
        "import time as clock\nclock.sleep(1)",
        "import select\nselect.poll()",
        "import select\nselect.select([], [], [])",
        "import os\nos.waitpid(pid, 0)",
        "import os\nos.waitid(os.P_PID, pid, os.WEXITED)",
        "import os\nos.system('true')",
        "import subprocess\nsubprocess.run(['true'])",
        "from subprocess import Popen\nPopen(['true'])",
        "import fcntl\nfcntl.flock(fd, fcntl.LOCK_EX)",
        "import signal\nsignal.sigwait({1})",
        "import socket\nsocket.getaddrinfo('h', 1)",
        "from _socket import getaddrinfo\ngetaddrinfo('h', 1)",
        "input()",
        "thread.join()",
        "thread.join(timeout)",
        "self._thread.join(timeout=left)",
        "thread.join(0.5)",
        "import threading\nself._ready = threading.Event()\nself._ready.wait()",
        "from threading import Condition\nfilled: Condition = Condition()\nfilled.wait_for(full)",
        "import queue\ntasks = queue.Queue()\ntasks.get()",
        "lock.acquire()",
        "lock.acquire(timeout=5)",
        "listener.accept()",
        "sock.recv(100)",
        "self.sock.connect(address)",
        "import asyncio\nasyncio.run(main())",
    ],
)
def test_a_call_that_blocks_is_seen(text):
    function = "def work(self):\n" + "\n".join(f"    {line}" for line in text.splitlines())
    assert len(blocking_calls(Source("hornpipe.pump", text))) == 1
    assert len(blocking_calls(Source("hornpipe.pump", function))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "', '.join(names)",
        "separator.join(names)",
        "import os\nos.path.join(a, b)\nos.path.join(a)",
        "import os\nos.waitpid(pid, os.WNOHANG)",
        "import os\nos.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)",
        "import fcntl\nfcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "with lock:\n    pass",
        "lock.acquire(blocking=False)",
        "lock.acquire(False)",
        "import queue\ntasks = queue.Queue()\ntasks.get(block=False)",
        "sock.recv(100, socket.MSG_DONTWAIT)",
        "process.wait(timeout)",
        "options.get('timeout')",
        "from hornpipe.wait import until\nuntil([fd], deadline)",
        "from hornpipe import resolve\nresolve.connect(address)",
    ],
)
def test_a_call_that_returns_at_once_is_no_complaint(text):
    assert blocking_calls(Source("hornpipe.pump", text)) == []


def test_the_place_that_may_block_is_left_alone():
    assert blocking_calls(Source("hornpipe.wait", "import select\nselect.poll()")) == []
    assert blocking_calls(Source("hornpipe.testing.plugin", "import time\ntime.sleep(1)")) == []
    assert len(blocking_calls(Source("hornpipe.waiting", "import time\ntime.sleep(1)"))) == 1


# --- the same in C and Cython ---

C_BLOCKING = re.compile(
    r"""(?<![\w.>]) (?P<name>
        p?poll | p?select | epoll_p?wait2? | nanosleep | clock_nanosleep | u?sleep | pause
        | sigwait | sigwaitinfo | sigtimedwait | sigsuspend
        | wait | wait3 | wait4 | waitpid | waitid
        | semop | semtimedop | msgrcv | msgsnd | sem_wait | sem_timedwait | mq_receive | mq_send
        | flock | lockf | accept4? | connect | recv | recvfrom | recvmsg | recvmmsg
        | system | popen | getaddrinfo | getnameinfo
        | pthread_join | pthread_cond_wait | pthread_cond_timedwait
    ) \s* \(""",
    re.VERBOSE,
)
# A word before the name makes it a declaration, unless it is one of these.
NO_TYPES = {"return", "else", "do", "case", "and", "or", "not", "in", "if", "elif", "while", "is", "with", "yield"}

NATIVE_MAY_BLOCK = {
    "wait.pyx": "the native half of wait: poll",
    "waiters.c": "a part of it",
    "timed_call.pyx": "calls that have no descriptor to poll",
    "supervisor.c": "a program of its own; no thread of ours is in it",
    "cgroup.c": "a part of it",
}
# (file, function, call) -> reason
NATIVE_ALLOWED = {
    ("launch.c", "child_launch", "waitpid"): "takes the status of a child that has reported its failure and is leaving",
    ("signals.pyx", "take_pending", "sigtimedwait"): "called by timed_call, or its time is zero",
    ("semaphores.pxi", "operate_now", "semop"): "makes each operation one that does not wait",
    ("semaphores.pxi", "do_operations", "semtimedop"): "called by timed_call alone",
    ("queues.pxi", "do_send", "msgsnd"): "the same",
    ("queues.pxi", "do_receive", "msgrcv"): "the same",
    ("run.pyx", "do_reap", "waitid"): "the same",
    ("brood.pyx", "gives_way", "poll"): "four milliseconds, in which another takes in who comes",
    ("brood.pyx", "run", "epoll_wait"): "40 ms at most, as the first look of wait, which goes on for it",
    ("client.c", "client_take_in", "accept4"): "the listener is in non-blocking mode",
}


def blank(match: re.Match[str]) -> str:
    """Spaces for text, so that lines keep their numbers."""
    return re.sub(r"[^\n]", " ", match[0])


C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
PYX_NOISE = re.compile(r"#[^\n]*|(?<!\w)\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
TRIPLE = re.compile(r'(?P<head>cdef extern from[^\n]*:\s*)?"""(?P<body>.*?)"""', re.DOTALL)


def bare_native(name: str, text: str) -> str:
    """The text without comments and strings; in Cython, C given verbatim to `cdef extern` counts as C."""
    if not name.endswith(CYTHON):
        return C_NOISE.sub(blank, text)

    parts, at = [], 0
    for match in TRIPLE.finditer(text):
        parts.append(PYX_NOISE.sub(blank, text[at : match.start()]))
        verbatim = C_NOISE.sub(blank, match["body"]) if match["head"] else re.sub(r"[^\n]", " ", match["body"])
        parts.append(f"{match['head'] or ''}   {verbatim}   ")
        at = match.end()
    return "".join([*parts, PYX_NOISE.sub(blank, text[at:])])


def arguments(text: str, opening: int) -> str:
    depth = 0
    for at in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[opening + 1 : at]
    return text[opening + 1 :]


DEFINITION = re.compile(
    r"^[ \t]*(?![ \t]*(?:return|else|if|while|for|switch)\b)[\w][\w \t*,\[\]]*?\b(\w+)\s*\(", re.MULTILINE
)


def enclosing_function(text: str, at: int) -> str:
    """The nearest definition above that is indented less than the line of the call."""
    line_start = text.rfind("\n", 0, at) + 1
    indent = len(text[line_start:at]) - len(text[line_start:at].lstrip())
    name = ""
    for match in DEFINITION.finditer(text, 0, line_start):
        line = text[match.start() : match.end()]
        words = re.findall(r"\w+", line)
        if len(words) > 1 and len(line) - len(line.lstrip()) < indent:
            name = match[1]
    return name


def native_blocking_calls(name: str, text: str) -> list[tuple[str, int, str]]:
    found = []
    # A system call by its number is the call of that name.
    bare = re.sub(r"\b(?:child_call|direct|syscall)\s*\(\s*SYS_(\w+)", r"\1(", bare_native(name, text))
    for match in C_BLOCKING.finditer(bare):
        before = bare[bare.rfind("\n", 0, match.start()) + 1 : match.start()].rstrip()
        word = re.search(r"(\w+)[\s*]*$", before)
        if word and not before.endswith(("=", "(", ")")) and word[1] not in NO_TYPES:
            continue
        given = arguments(bare, match.end() - 1)
        if any(re.search(rf"\b{flag}\b", given) for flag in [*NON_BLOCKING, "IPC_NOWAIT"]):
            continue
        if match["name"] in {"poll", "ppoll"} and given.rsplit(",", 1)[-1].strip() == "0":
            continue
        found.append((enclosing_function(bare, match.start()), bare.count("\n", 0, match.start()) + 1, match["name"]))
    return found


def test_only_the_native_half_of_wait_blocks():
    complaints = [
        f"{path.name}:{line}: {call} in {function}"
        for path in sorted(NATIVE_SOURCES.iterdir())
        if path.suffix in {*CYTHON, ".c", ".h"} and path.name not in NATIVE_MAY_BLOCK
        for function, line, call in native_blocking_calls(path.name, path.read_text())
        if (path.name, function, call) not in NATIVE_ALLOWED
    ]
    assert complaints == []


C_SAMPLE = """
/* poll(a) is only talked about here. */
int poll(struct pollfd *set, int count, int timeout);
static int helper(int fd)
{
    const char *words = "pause()";
    %s
    return 0;
}
"""
PYX_SAMPLE = '''
"""Uses poll(2) and pause()."""
cdef extern from *:
    """
    static int inner(int fd) {
        /* waitpid(0) */
        %s
    }
    """
    int inner(int) nogil
    int poll(pollfd *, int, int) nogil  # poll(2)

cdef int helper(int fd) except -1 nogil:
    %s
    return 0

def wait(fd):
    """Never calls pause()."""
    thing.wait(fd)
    return helper(fd)
'''


@pytest.mark.parametrize(
    "call",
    [
        "poll(set, 1, -1);",
        "int n = ppoll(set, 1, &limit, NULL);",
        "if (waitpid(pid, NULL, 0) < 0) x = 1;",
        "return waitid(P_PID, pid, &facts, WEXITED);",
        "nanosleep(&limit, NULL);",
        "while ((n = semop(id, ops, 1)) < 0) n = 0;",
        "(void)pause();",
        "flock(fd, LOCK_EX);",
    ],
)
def test_a_native_call_that_blocks_is_seen(call):
    name = re.search(r"(\w+)\(\w*,?.*;", call.replace("if (", "").replace("while ((n =", "").replace("(void)", ""))[1]
    assert [(f, n) for f, _, n in native_blocking_calls("x.c", C_SAMPLE % call)] == [("helper", name)]
    assert [(f, n) for f, _, n in native_blocking_calls("x.pyx", PYX_SAMPLE % (call, "pass"))] == [("inner", name)]


@pytest.mark.parametrize("call", ["direct(SYS_msgrcv, id, at, 8, 0, 0);", "syscall(SYS_msgrcv, id, at, 8, 0, 0);"])
def test_a_system_call_by_its_number_is_the_call_of_that_name(call):
    assert [(f, n) for f, _, n in native_blocking_calls("x.c", C_SAMPLE % call)] == [("helper", "msgrcv")]


@pytest.mark.parametrize("call", ["n = poll(set, 1, -1)", "return waitpid(pid, &raw, 0)", "pause()"])
def test_a_cython_call_that_blocks_is_seen(call):
    assert [f for f, _, _ in native_blocking_calls("x.pyx", PYX_SAMPLE % (";", call))] == ["helper"]


@pytest.mark.parametrize(
    "call",
    [
        "waitpid(pid, NULL, WNOHANG);",
        "waitid(P_PID, pid, &facts, WEXITED | WNOHANG);",
        "poll(set, 1, 0);",
        "my_poll(set); set->wait(1); set.pause();",
        "flock(fd, LOCK_EX | LOCK_NB);",
        "direct(SYS_msgrcv, id, at, 8, 0, IPC_NOWAIT);",
    ],
)
def test_a_native_call_that_returns_at_once_is_no_complaint(call):
    assert native_blocking_calls("x.c", C_SAMPLE % call) == []
    assert native_blocking_calls("x.pyx", PYX_SAMPLE % (call, "pass")) == []


# --- cheap to import ---

TOO_HEAVY = {"dataclasses", "inspect"}


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_nothing_below_the_command_imports_dataclasses_or_inspect(source):
    if source.room != "cli":
        assert {name.split(".")[0] for _, name in imported_modules(source)} & TOO_HEAVY == set()


def test_a_heavy_import_is_seen():
    sample = Source("hornpipe.job", "def f():\n    from inspect import signature")
    assert {name for _, name in imported_modules(sample)} == {"inspect"}


def test_import_hornpipe_leaves_the_heavy_modules_alone():
    heavy = TOO_HEAVY | {
        "argparse",
        "asyncio",
        "click",
        "concurrent",
        "ctypes",
        "doctest",
        "email",
        "hornpipe.cli",
        "hornpipe.testing",
        "importlib.metadata",
        "json",
        "logging",
        "multiprocessing",
        "pickle",
        "pytest",
        "random",
        "rich",
        "shutil",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "traceback",
        "unittest",
    }
    # Compared with a bare start, as a machine's own start-up files may import what they like.
    program = "import sys; before = {*sys.modules}; import hornpipe; print(*{*sys.modules} - before)"
    fresh = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(fresh.stdout.split())
    assert "hornpipe" in loaded
    assert loaded & heavy == set()


# --- the wheel ---


def test_the_installed_wheel_is_what_is_tested():
    assert Path(__file__).parent.parent / "src" not in PACKAGE.parents
    assert metadata.version("hornpipe") == getattr(hornpipe, "__version__", metadata.version("hornpipe"))


def test_the_wheel_has_types_for_everything():
    assert (PACKAGE / "py.typed").is_file()
    modules = {path.name.split(".")[0] for path in (PACKAGE / "_native").glob("*.so")}
    stubs = {path.stem for path in (PACKAGE / "_native").glob("*.pyi")} - {"__init__"}
    assert modules
    assert modules == stubs


def test_the_wheel_has_no_sources_of_the_native_room():
    assert [path.name for path in PACKAGE.rglob("*") if path.suffix in {*CYTHON, ".c", ".h"}] == []


def test_the_supervisor_in_the_wheel_can_be_executed():
    assert os.access(PACKAGE / "_native" / "supervisor", os.X_OK)


@pytest.mark.parametrize(("tool", "words"), [("setup-venv", ["no-such-python"]), ("install", ["no-such-package"])])
def test_what_it_takes_to_build_it_and_is_not_there_is_said_in_one_line(tool, words, tmp_path):
    """As for a newcomer: without the system's programs but the shell, make and what they call."""
    for name in ("sh", "dirname", "id"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [Path(__file__).parent.parent / "tools" / tool, *words, tmp_path / "venv"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words[0] in done.stderr


# --- the face ---


def test_every_name_of_the_face_is_there():
    """Rooms are opened at first use: what the checkers see and what is found at run time are the same."""
    for name in hornpipe.__all__:
        assert getattr(hornpipe, name) is not None
    listed = {name for names in hornpipe._ROOMS.values() for name in names} | hornpipe._OPEN
    assert listed == set(hornpipe.__all__)
    assert set(hornpipe.__all__) <= set(dir(hornpipe))


def test_no_room_hides_a_name_of_the_face():
    """Importing `hornpipe.x` binds `hornpipe.x`: a function of that name would be gone."""
    rooms = {source.room for source in sources()} - {FACE}
    assert rooms & set(hornpipe.__all__) == hornpipe._OPEN


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="hornpipe' has no attribute 'cmdd'"):
        hornpipe.cmdd  # noqa: B018


def test_the_page_on_the_architecture_shows_every_room_in_its_place():
    page = (Path(__file__).parent.parent / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", page, re.MULTILINE)
    shown = [room for row in rows for room in re.findall(r"`(\w+)`", row)]
    assert shown[: len(RANK)] == list(RANK)
