"""Containment: a child whose whole tree ends with it, with us, or with its deadline.

The ladder: ``cgroup.kill`` where a cgroup is delegated to us, else a child subreaper with a
lifeline. Both live in the supervisor, a tiny program of its own: it outlives our KILL, and exec'ing
it costs the same however large we are. What can escape: a setuid program when we are not root, and
work that is handed to a daemon.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from typing import Any

from hornpipe import image, wait
from hornpipe._native import process as _process
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import NEVER
from hornpipe.fd import Descriptor, nonblocking, owned
from hornpipe.process import Process
from hornpipe.reaper import Child
from hornpipe.spawn import SHUT, Ends, await_report, fork_child, launch, plan_of, report_pipe
from hornpipe.spawn.diagnosis import EXEC, FORK, failure
from hornpipe.spawn.recipe import Recipe
from hornpipe.status import ExitStatus

# Keep in step with supervisor.c.
_STARTED, _FAILED, _STOPPED, _EXITED, _EXPIRED, _SURVIVORS = range(1, 7)
_SIGNAL, _TERMINATE, _RESUME = range(1, 4)
_RUNGS = ("group", "subreaper", "cgroup")
_REPORT = struct.Struct("=iiii")
_ORDER = struct.Struct("=iiq")

_PROGRAM = os.path.join(os.path.dirname(_spawn.__file__), "supervisor")


def _nanoseconds(grace: float) -> int:
    return int(min(grace, 1e9) * 1e9)


class Supervisor:
    """The supervisor's client."""

    def __init__(self, control: Descriptor) -> None:
        self._control = control
        self.pid = 0
        """The program's process, once it has started."""
        self.rung = ""
        self.stopped_by = 0
        """The signal that stopped the program, on a terminal; 0 while it runs."""
        self.expired = False
        """Whether the supervisor has seen the deadline pass."""
        self.failed: tuple[int, int, int] | None = None
        self._raw: int | None = None
        self._survivors: tuple[int, ...] = ()

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._control.fileno()

    def listen(self) -> bool:
        """Take in what the supervisor has said; false when it has gone."""
        while not self._control.closed:
            try:
                packet = os.read(self._control.fileno(), _REPORT.size)
            except BlockingIOError:
                return True
            except ConnectionError:
                # It went with an order of ours unread; that is said once, and its reports are still there.
                continue
            if len(packet) < _REPORT.size:
                return False
            kind, a, b, c = _REPORT.unpack(packet)
            if kind == _STARTED:
                self.pid, self.rung = a, _RUNGS[b]
            elif kind == _FAILED:
                self.failed = a, b, c
            elif kind == _STOPPED:
                self.stopped_by = a
            elif kind == _EXITED:
                self._raw = a
            elif kind == _EXPIRED:
                self.expired = True
            elif kind == _SURVIVORS:
                self._survivors = tuple(pid for pid in (b, c) if pid)
        return False

    def _order(self, kind: int, a: int = 0, b: int = 0) -> None:
        try:
            os.write(self._control.fileno(), _ORDER.pack(kind, a, b))
        except (OSError, ValueError):
            pass  # it has gone, and everything with it

    def signal(self, number: int) -> None:
        """Send a signal to everything inside."""
        self._order(_SIGNAL, number)

    def terminate(self, grace: float) -> None:
        """TERM now, KILL after ``grace`` seconds."""
        self._order(_TERMINATE, 0, _nanoseconds(grace))

    def resume(self) -> None:
        """The program has the terminal again: let it go on."""
        self.stopped_by = 0
        self._order(_RESUME)

    def status(self) -> ExitStatus | None:
        """How the program ended, once that is known."""
        self.listen()
        return None if self._raw is None else ExitStatus(self._raw)

    def survivors(self) -> tuple[int, ...]:
        """Processes that outlived a KILL, by pid (two at most)."""
        self.listen()
        return self._survivors

    def close(self) -> None:
        """Cut the lifeline: whatever is left inside is killed."""
        self._control.close()


def start(
    recipe: Recipe,
    ends: Ends,
    *,
    contain: bool,
    grace: float,
    terminal: int = -1,
    foreground: int = -1,
    group: int = 0,
    deadline: int = NEVER,
) -> tuple[Process, Supervisor]:
    """Start a program or a callable under a supervisor, which enforces the deadline by itself.

    Without ``contain`` the supervisor only watches a program that has the terminal, for its stops. One
    that joins a ``group`` is then ended by whoever made that, together with the others in it.
    """
    control, theirs = _socket_pair(recipe)
    supervisor = Supervisor(control)
    keys: dict[str, Any] = {
        "parent": os.getpid(),
        "deadline": deadline if contain or not group else NEVER,
        "grace": _nanoseconds(grace),
        "contain": int(contain),
    }
    if group:
        keys["group"] = group
    cgroup = delegated_cgroup() if contain else None
    if cgroup is not None:
        keys["cgroup"] = cgroup
    child = Child()
    try:
        with theirs:
            if recipe.function is None:
                _start_program(recipe, ends, keys, theirs, terminal, foreground, deadline, child)
            else:
                _start_callable(recipe, ends, keys, theirs, terminal, foreground, group, deadline, child)
        _await_start(recipe, supervisor, child, deadline)
        return Process(child, recipe.command, containment=supervisor), supervisor
    except BaseException:
        supervisor.close()  # kills what may have been started
        if child.pid:
            child.wait(NEVER)
            child.close()
        raise


def _socket_pair(recipe: Recipe) -> tuple[Descriptor, Descriptor]:
    try:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    except OSError as error:
        raise failure(recipe, error.errno or 0, FORK, 1, []) from None
    control = owned(ours.detach)
    nonblocking(control.fileno())
    return control, owned(theirs.detach)


def _start_program(
    recipe: Recipe,
    ends: Ends,
    keys: dict[str, Any],
    theirs: Descriptor,
    terminal: int,
    foreground: int,
    deadline: int,
    child: Child,
) -> None:
    candidates = recipe.candidates()
    if not candidates:
        raise failure(recipe, errno.ENOENT, EXEC, 0, [])
    # A number above everything that is passed on, so that it stays free in the program.
    number = max((2, *recipe.pass_fds)) + 1
    keys |= {"control": number, "fds": ",".join(map(str, recipe.pass_fds))}
    if recipe.ids is not None:
        ids = recipe.ids
        keys["ids"] = f"{ids.uid}:{ids.gid}:{','.join(map(str, ids.groups))}"
    if recipe.limits:
        keys["limits"] = ";".join(f"{resource}:{soft}:{hard}" for resource, soft, hard in recipe.limits)
    if recipe.umask >= 0:
        keys["umask"] = f"{recipe.umask:o}"
    if recipe.new_session:
        keys["session"] = 1
    if terminal >= 0:
        keys["terminal"] = terminal
    if foreground >= 0:
        keys["foreground"] = foreground
    if not keys["fds"]:
        del keys["fds"]
    argv: list[bytes] = _arguments(keys)
    if recipe.cwd is not None:
        argv.append(b"cwd=" + recipe.cwd)
    argv += [b"--", *candidates, b"--", *map(os.fsencode, recipe.argv)]
    moves = tuple((end, at) for at, end in enumerate(ends) if end is not None)
    moves += (*((fd, fd) for fd in recipe.pass_fds), (theirs.fileno(), number))
    plan = _spawn.Plan(moves, new_group=True, stay_ignored=image.ignored)
    launch(_Supervised(recipe), plan, deadline, child, argv)


class _Supervised(Recipe):
    """The supervisor's own start: our program, in our name, with the recipe's environment.

    Not with its credentials: it must be able to signal whatever the program becomes, and the
    program must not be able to signal it.
    """

    __slots__ = ()

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe.label, recipe.argv)
        self.environment = recipe.environment

    def candidates(self) -> list[bytes]:
        return [os.fsencode(_PROGRAM)]


def _start_callable(
    recipe: Recipe,
    ends: Ends,
    keys: dict[str, Any],
    theirs: Descriptor,
    terminal: int,
    foreground: int,
    group: int,
    deadline: int,
    child: Child,
) -> None:
    """Fork a child that forks the callable and then becomes the supervisor.

    The callable must be the supervisor's child, or its orphans could not be adopted. Nothing of it
    may run before the supervisor watches, or what it leaves behind would survive our KILL:
      1. We fork the child, which forks the callable's process, and are KILLed.
      2. The callable would daemonize: from then on only a living subreaper can find its tree.
      3. The child ends without a round of killing: KILLed with our process group, which it has not left
         yet, or by a failed exec; or it execs the supervisor, which finds that its caller has gone.
      4. The callable's process dies with its parent (PR_SET_PDEATHSIG); its orphans do not.
    So it waits at a gate, which the supervisor opens with a byte once it has the tree in hand. The gate's
    end of file would not do: a dying process closes its descriptors before it sends the death signal.
    """
    from hornpipe.spawn.forked import run_child

    reader, writer = report_pipe(recipe)
    gate, opener = report_pipe(recipe)
    worker = plan_of(recipe, ends, group=True, joined=group, terminal=terminal, foreground=foreground, death_signal=9)

    def become_supervisor() -> None:
        try:
            _process.become_subreaper()
            # Ignored, it has the kernel reap the callable before there is a supervisor to look (gotcha:SIG6).
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            kept = (0, 1, 2, *recipe.pass_fds)
            us = os.getpid()
            program = Child()
            _spawn.fork_child(
                lambda: run_child(recipe, worker, writer.fileno(), kept, us, gate.fileno()), program, set()
            )
            argv = _arguments({**keys, "control": 3, "gate": 4, "adopt": program.pid})
            plan = _spawn.Plan(((theirs.fileno(), 3), (opener.fileno(), 4)), new_group=True)
            plan.replace([os.fsencode(_PROGRAM)], [*argv, b"--", b"--"], None)
        finally:
            os._exit(70)

    with writer, gate, opener:
        fork_child(recipe, become_supervisor, deadline, child)
    await_report(recipe, child, reader, deadline, [])


def hold_group(recipe: Recipe, deadline: int) -> Child:
    """A process that leads a group for others to join, and ends with us."""
    child = Child()
    plan = _spawn.Plan(((SHUT, 0), (SHUT, 1), (SHUT, 2)), new_group=True)
    try:
        launch(_Supervised(recipe), plan, deadline, child, _arguments({"parent": os.getpid(), "hold": 1}))
    except BaseException:
        child.end()
        raise
    return child


def _arguments(keys: dict[str, Any]) -> list[bytes]:
    return [b"hornpipe-supervisor", *(os.fsencode(f"{name}={value}") for name, value in keys.items())]


def _await_start(recipe: Recipe, supervisor: Supervisor, child: Child, deadline: int) -> None:
    while not supervisor.pid:
        if not wait.one(supervisor.fileno(), wait.READ, deadline):
            raise TimeoutError(f"{recipe.label!r} could not be started in time")
        alive = supervisor.listen()
        if supervisor.failed is not None:
            raise failure(recipe, *supervisor.failed, recipe.candidates() if recipe.function is None else [])
        if not alive and not supervisor.pid:
            raise ChildProcessError(f"cannot start {recipe.label!r}: its supervisor {child.wait(NEVER)}")


_delegated: list[str | None] = []


def delegated_cgroup() -> str | None:
    """The cgroup v2 directory in which we may make cgroups of our own, if there is one.

    Root could write anywhere; but below systemd a service's cgroup is systemd's unless it was
    delegated, which its extended attribute says.
    """
    if not _delegated:
        _delegated.append(_find_delegated())
    return _delegated[0]


def _find_delegated() -> str | None:
    try:
        with open("/proc/self/cgroup") as file:
            path = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        with open("/proc/self/mountinfo") as file:
            root, mount = next(
                (fields[3], fields[4]) for fields in map(str.split, file) if fields[fields.index("-") + 1] == "cgroup2"
            )
    except (OSError, StopIteration, ValueError):
        return None
    if root != "/":
        if not (path + "/").startswith(root + "/"):
            return None
        path = path[len(root) :]
    directory = os.path.join(mount, path.lstrip("/")).rstrip("/")
    if not os.access(directory, os.W_OK | os.X_OK) or not os.access(os.path.join(directory, "cgroup.procs"), os.W_OK):
        return None
    if os.path.isdir("/run/systemd/system") and not _marked_delegated(directory):
        return None
    return directory


def _marked_delegated(directory: str) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            pass
    return os.stat(directory).st_uid == os.geteuid() != 0
