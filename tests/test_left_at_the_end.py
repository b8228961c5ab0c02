"""What a program still holds when it ends: no word on stderr, no hang, its own exit status. Real programs that end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HELD = {
    "processes": """
        process = hp.cmd("true").start()
        pipeline = (hp.cmd("true") | hp.cmd("cat", stdout=hp.NULL)).start()
        limited = hp.cmd("cat", stdin=hp.NULL, timeout=50).start()
        detached = hp.cmd("true").background()
        sleeper = hp.cmd("sleep", "0.2").start()
    """,
    "conversations": """
        duplex = hp.cmd("cat").duplex(); duplex.ask("a")
        reader = hp.cmd("yes").reader(); reader.readline()
        writer = hp.cmd("cat", stdout=hp.NULL).writer(); writer.write("a")
        lines = hp.cmd("yes").lines(); next(lines)
        contained = hp.cmd("yes", contain=True).lines(); next(contained)
        function = hp.fn(print, 7).reader(); function.readline()
        child = hp.expect.spawn("cat"); child.sendline("a")
    """,
    "signals": """
        watch = hp.watch("USR2"); watch.__enter__()
        hp.SIG["USR1"] = lambda sig: None
        alarm = hp.alarm(50); alarm.__enter__()
        block = hp.signals.block("HUP"); block.__enter__()
    """,
    "files and sockets": """
        import hornpipe.fd
        hornpipe.fd.kept = hornpipe.fd.pipe()  # in a module that is emptied itself
        lock = hp.lock(__file__); lock.__enter__()
        inputs = hp.inputs([__file__]); next(iter(inputs))
        listener = hp.listen("tcp://127.0.0.1:0")
        client = hp.connect(listener.address); served = listener.accept(); client.write("a")
        datagrams = hp.open_datagram("udp://127.0.0.1:9")
        servers = [hp.Server("tcp://127.0.0.1:0", print, model=model).__enter__() for model in ("fork", "thread")]
    """,
    "System V": """
        objects = hp.sysv.SharedMemory.create(10), hp.sysv.SemaphoreSet.create([1]), hp.sysv.MessageQueue.create()
        for each in objects:
            each.remove()
    """,
}
ENDS = {
    "at its end": ("", 0),
    "by an exception": ("raise SystemError('the end')", 1),
    "after its threads": ("import threading, time; threading.Thread(target=time.sleep, args=(0.05,)).start()", 0),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("held", HELD)
def test_a_program_may_end_while_it_holds(held: str, end: str, tmp_path: Path) -> None:
    """gotcha:R4: in its module, or in the frames of its last exception, whose names Python clears one by one."""
    last, code = ENDS[end]
    body = f"global kept\n{textwrap.dedent(HELD[held])}\nkept = locals()\n{last}\n"
    program = tmp_path / "program.py"
    program.write_text("import hornpipe as hp\ndef main():\n" + textwrap.indent(body, "    ") + "main()\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    said = done.stderr.splitlines()
    assert done.returncode == code
    assert said[-1:] == (["SystemError: the end"] if code else [])
    assert not code or said[0] == "Traceback (most recent call last):"
    assert "ignored" not in done.stderr
