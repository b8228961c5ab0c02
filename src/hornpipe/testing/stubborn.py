"""Ill-behaved programs, ready to run, for tests of whatever has to cope with them.

Each function returns an argv: a list to be handed to hornpipe, ``subprocess`` or anything else::

    hp.cmd(*stubborn.ignores_term(), timeout=0.5, grace=0.1).read()

They share three habits. One that has something to prepare prints the line ``ready`` when it has; read it instead of
sleeping. None outlives its ``seconds``, so even one that escapes from a failed test is gone after a while. And those
that leave processes behind take a ``mark`` (from :func:`new_mark`), which stays in the arguments of every process they
start: :func:`find_marked` finds the survivors, whatever else they have cast off.

Most are Python: it can do everything asked here, and is certainly installed. It starts in isolated mode without
``site``, in about 10 ms. The interpreter itself ignores PIPE and XFSZ and handles INT; programs for which that matters
undo it.
"""

from __future__ import annotations

import secrets
import signal as _signal
import sys
from textwrap import dedent

from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import find_marked, wait_gone

__all__ = [
    "READY",
    "answers_at_eof",
    "buffers_in_blocks",
    "closes_stdin_early",
    "daemonizes_completely",
    "dies_by",
    "echo_lines",
    "exits",
    "find_marked",
    "floods",
    "grandchild_in_new_session",
    "grandchild_keeps_pipes",
    "ignores_term",
    "keeps_moving",
    "never_reads",
    "new_mark",
    "partial_line",
    "says",
    "slow_start",
    "stops_itself",
    "wait_gone",
    "wait_until",
    "waits_for_gate",
]

READY = b"ready\n"
"""What a program prints when it has taken its position."""

_LIFE = 30.0


def new_mark() -> str:
    """A string that no other process has in its arguments.

    >>> find_marked(new_mark())
    []
    """
    return f"stubborn-{secrets.token_hex(8)}"


# Deaf and motionless


def ignores_term(*signals: str, seconds: float = _LIFE) -> list[str]:
    """Ignores TERM, INT and HUP (or those named); only KILL, or time, ends it.

    >>> ignores_term("TERM", "QUIT", seconds=5)[-3:]
    ['5', 'TERM', 'QUIT']
    """
    # A shell is deaf a millisecond after its start: the sooner, the less is seen of it before that.
    program = 'life=$1; shift; trap "" "$@"; echo ready; exec sleep "$life"'
    return ["sh", "-c", program, "ignores_term", f"{seconds:g}", *(signals or ("TERM", "INT", "HUP"))]


def stops_itself(seconds: float = _LIFE) -> list[str]:
    """Says ``ready`` and stops, so that TERM waits until somebody sends CONT; then says ``continued`` and exits.

    If nobody does, it continues itself after ``seconds``.

        >>> stops_itself(seconds=5)[-1]
        '5'
    """
    return _python(
        """
        # A stopped process runs no timer of its own, so a helper, which holds none of our pipes, sends the CONT. It
        # leaves at once when we have ended: then the pipe between us has no writer.
        r, w = os.pipe()
        me = os.getpid()
        if not os.fork():
            os.close(w)
            null = os.open("/dev/null", os.O_RDWR)
            for number in 0, 1, 2:
                os.dup2(null, number)
            if not select.select([r], [], [], float(sys.argv[1]))[0]:
                os.kill(me, signal.SIGCONT)
            os._exit(0)
        os.close(r)
        ready()
        os.kill(me, signal.SIGSTOP)
        os.write(1, b"continued\\n")
        """,
        f"{seconds:g}",
    )


def never_reads(seconds: float = _LIFE) -> list[str]:
    """Keeps its stdin open and never reads from it, so the pipe fills.

    >>> never_reads(seconds=5)[-1]
    '5'
    """
    return _python("ready(); time.sleep(float(sys.argv[1]))", f"{seconds:g}")


def slow_start(seconds: float) -> list[str]:
    """Gives no sign of life for so long, then says ``ready`` and exits; for time-outs that must come before.

    >>> slow_start(0.5)[-1]
    '0.5'
    """
    return _python("time.sleep(float(sys.argv[1])); ready()", f"{seconds:g}")


def waits_for_gate(fifo: str) -> list[str]:
    """Gives no sign of life until somebody opens the FIFO for writing, then says ``ready`` and exits.

    The deterministic :func:`slow_start`: the test decides when.

        >>> waits_for_gate("/tmp/gate")[-1]
        '/tmp/gate'
    """
    return _python(f"signal.alarm({_LIFE:.0f}); open(sys.argv[1]).close(); ready()", fifo)


# Too much, too little, too late


def floods(stream: str = "stdout", size: int | None = None, line: int | None = 64) -> list[str]:
    """Writes ``size`` bytes as fast as it can to ``stdout``, ``stderr`` or ``both`` (``size`` to each, in turns).

    Each line has ``line`` bytes with its newline; ``None`` makes one endless line. With ``size=None`` it writes until
    its reader leaves, and then dies of PIPE as programs do. There is no ``ready``, only the flood.

        >>> floods("both", size=1_000_000)[-3:]
        ['both', '1000000', '64']
    """
    if stream not in {"stdout", "stderr", "both"}:
        raise ValueError(f"stream must be 'stdout', 'stderr' or 'both', not {stream!r}")
    return _python(
        """
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.alarm(int(sys.argv[1]))
        numbers = {"stdout": [1], "stderr": [2], "both": [1, 2]}[sys.argv[2]]
        length = int(sys.argv[4])
        piece = (b"x" * (length - 1) + b"\\n") * (65536 // length + 1) if length else b"x" * 65536
        left = int(sys.argv[3])
        while left:
            part = piece if left < 0 else piece[:left]
            for number in numbers:
                rest = part
                while rest:
                    rest = rest[os.write(number, rest):]
            left -= 0 if left < 0 else len(part)
        """,
        f"{2 * _LIFE:.0f}",
        stream,
        str(-1 if size is None else size),
        str(line or 0),
    )


def partial_line(text: str = "partial", seconds: float = _LIFE) -> list[str]:
    """Writes *text* without a newline and then keeps stdout open, so neither the line nor the file ends.

    >>> partial_line("Password: ")[-1]
    'Password: '
    """
    return _python(
        "os.write(1, os.fsencode(sys.argv[2])); time.sleep(float(sys.argv[1]))",
        f"{seconds:g}",
        text,
    )


def says(stdout: str = "", stderr: str = "", code: int = 0) -> list[str]:
    """Writes *stdout* and *stderr* and exits with *code*: no mischief, but often the start of a test.

    >>> import subprocess
    >>> subprocess.run(says("out", code=3), stdout=subprocess.PIPE)  # doctest: +ELLIPSIS
    CompletedProcess(args=[...], returncode=3, stdout=b'out')
    """
    return ["sh", "-c", 'printf %s "$1"; printf %s "$2" >&2; exit "$3"', "says", stdout, stderr, str(code)]


def closes_stdin_early(after: int = 0, seconds: float = 0.0) -> list[str]:
    """Reads *after* bytes, closes its stdin, says ``ready``, lives on for *seconds* and exits with success.

    Whoever writes to it meets EPIPE while it still lives.

        >>> closes_stdin_early(after=10, seconds=5)[-2:]
        ['10', '5']
    """
    return _python(
        """
        left = int(sys.argv[1])
        while left > 0 and (got := os.read(0, left)):
            left -= len(got)
        os.close(0)
        ready()
        time.sleep(float(sys.argv[2]))
        """,
        str(after),
        f"{seconds:g}",
    )


# Partners in a conversation


def echo_lines() -> list[str]:
    r"""Sends back each line as soon as it is complete, until its input ends.

    >>> import subprocess
    >>> subprocess.run(echo_lines(), input=b"once more\n", stdout=subprocess.PIPE).stdout
    b'once more\n'
    """
    return _python(
        """
        for line in iter(sys.stdin.buffer.readline, b""):
            os.write(1, line)
        """
    )


def answers_at_eof() -> list[str]:
    r"""Says nothing before its input has ended, then all lines in order, as sort does.

    >>> import subprocess
    >>> subprocess.run(answers_at_eof(), input=b"b\na\n", stdout=subprocess.PIPE).stdout
    b'a\nb\n'
    """
    return _python("sys.stdout.buffer.writelines(sorted(sys.stdin.buffer.readlines()))")


def buffers_in_blocks() -> list[str]:
    """Copies lines like :func:`echo_lines`, but through stdio's habit: by line on a terminal, by block on a pipe.

    So on a pipe a conversation with it stands still. It is a Perl program, since Python's own buffering differs.

        >>> buffers_in_blocks()[0]
        'perl'
    """
    return ["perl", "-ne", "print"]


# Ways to end


def exits(code: int) -> list[str]:
    """Exits with *code*, and does nothing else.

    >>> exits(3)
    ['sh', '-c', 'exit 3']
    """
    return ["sh", "-c", f"exit {code}"]


def dies_by(signal: str | int) -> list[str]:
    """Kills itself by *signal* (``"TERM"`` or a number), whatever mask and dispositions it was started with.

    >>> import subprocess
    >>> subprocess.run(dies_by("TERM")).returncode
    -15
    """
    number = signal if isinstance(signal, int) else int(_signal.Signals[f"SIG{signal}"])
    return _python(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core file for the machine's owner to wonder about
        number = int(sys.argv[1])
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        """,
        str(number),
    )


# Families


def grandchild_keeps_pipes(seconds: float = _LIFE, mark: str = "", ignores_term: bool = False) -> list[str]:
    """Exits with success at once, but a grandchild holds stdin, stdout and stderr open for *seconds*.

    It says ``ready`` when the grandchild is in position, before it exits.

        >>> grandchild_keeps_pipes(seconds=5, mark="some-mark")[-1]
        'some-mark'
    """
    return _family(seconds, mark, "ignore" if ignores_term else "", "")


def grandchild_in_new_session(
    seconds: float = _LIFE, mark: str = "", keeps_pipes: bool = True, lingers: bool = False
) -> list[str]:
    """Like :func:`grandchild_keeps_pipes`, with a grandchild in its own session, where no signal to our group arrives.

    With ``keeps_pipes=False`` it has /dev/null instead; with ``lingers=True`` the child stays as well.

        >>> grandchild_in_new_session(mark="some-mark", lingers=True)[-1]
        'some-mark'
    """
    return _family(seconds, mark, "session", "" if keeps_pipes else "quiet", "linger" if lingers else "")


def daemonizes_completely(seconds: float = _LIFE, mark: str = "", lingers: bool = False) -> list[str]:
    """Leaves a daemon that has cut every tie: new session, double fork, all descriptors closed, environment empty.

    The child says ``ready`` when all that is done and exits (with ``lingers=True`` it stays), so its end, too, means
    that the daemon is on its own. Only *mark*, in its arguments, tells it from any other process.

        >>> daemonizes_completely(mark="some-mark")[-1]
        'some-mark'
    """
    return _python(
        """
        # The daemon has nothing left by which it could tell us. Close-on-exec: this pipe reaches its end of file when
        # the daemon executes its new image, and that is after everything else but one thing. The kernel closes the
        # pipe before it notes where the new arguments are, and in between the process has none to be known by.
        r, w = os.pipe()
        if not os.fork():
            os.setsid()
            daemon = os.fork()
            if daemon:
                os.write(w, b"%d" % daemon)
                os._exit(0)
            os.chdir("/")
            os.closerange(0, w)
            os.closerange(w + 1, 65536)
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c",
                "import sys, time; time.sleep(float(sys.argv[1]))", sys.argv[1], *sys.argv[3:]], {})
        os.close(w)
        said = b""
        while data := os.read(r, 100):
            said += data
        try:
            while not open(b"/proc/%s/cmdline" % said).read() and ") Z" not in open(b"/proc/%s/stat" % said).read():
                time.sleep(0.001)
        except OSError:
            pass  # it has been ended already, or there is no /proc
        ready()
        if sys.argv[2] == "linger":
            time.sleep(float(sys.argv[1]))
        """,
        f"{seconds:g}",
        "linger" if lingers else "",
        mark,
    )


def keeps_moving(seconds: float = 5.0, mark: str = "") -> list[str]:
    """Every 5 ms it forks and the parent exits: a kill that first lists processes always comes too late for one.

    Each generation is in the group of the first. The first says ``ready`` and exits; the last exits after *seconds*.
    That is short by default: where PID 1 reaps no strangers, as in some containers, each generation leaves a zombie.

        >>> keeps_moving(seconds=5, mark="some-mark")[-1]
        'some-mark'
    """
    return _python(
        """
        end = time.monotonic() + float(sys.argv[1])
        ready()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            time.sleep(0.005)
        """,
        f"{seconds:g}",
        mark,
    )


def _family(seconds: float, mark: str, *habits: str) -> list[str]:
    return _python(
        """
        habits = sys.argv[2].split(",")
        r, w = os.pipe()
        if not os.fork():
            os.close(r)
            if "ignore" in habits:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if "session" in habits:
                os.setsid()
            if "quiet" in habits:
                null = os.open("/dev/null", os.O_RDWR)
                for number in 0, 1, 2:
                    os.dup2(null, number)
            os.close(w)
            time.sleep(float(sys.argv[1]))
            os._exit(0)
        os.close(w)
        os.read(r, 1)
        ready()
        if "linger" in habits:
            time.sleep(float(sys.argv[1]))
        """,
        f"{seconds:g}",
        ",".join(filter(None, habits)),
        mark,
    )


_PRELUDE = """\
import os, select, signal, sys, time
def ready():
    os.write(1, b"ready\\n")
"""


def _python(source: str, *arguments: str) -> list[str]:
    program = _PRELUDE + dedent(source).strip("\n") + "\n"
    return [sys.executable, "-I", "-S", "-c", program, *arguments]
