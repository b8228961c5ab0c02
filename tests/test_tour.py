"""The tour passes here, and each row can fail: every tool is taken away, and replaced by an impostor."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.alarms import alarm
from hornpipe.cli import tour

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
ROWS = list(tour.ROWS.values())
TOOLS = [pytest.param(row, tool, id=f"{row.name}-{tool}") for row in ROWS for tool in row.tools]
# Their sabotage needs something else than another program.
WITHOUT_TOOLS = {"missing-program", "call", "made-once"}


@pytest.fixture
def tools(monkeypatch):
    """An empty folder that is all of PATH. Not below tmp_path: other users must be able to look into it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        originals = {tool: shutil.which(tool) for row in ROWS for tool in row.tools}
        monkeypatch.setenv("PATH", folder)
        yield Path(folder), originals


def install(folder, originals, row, without=""):
    for tool in row.tools:
        if tool != without:
            (folder / tool).symlink_to(originals[tool])


def impostor(path):
    path.write_text("#!/bin/sh\necho sabotaged\n")
    path.chmod(0o755)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_passes_with_the_tools_it_names_and_no_others(row, tools):
    install(*tools, row)
    outcome = tour.perform(row)
    assert outcome.problem == ""
    assert outcome.ok
    assert outcome.glimpse


@pytest.mark.parametrize(("row", "tool"), TOOLS)
def test_a_row_fails_without_its_tool_and_names_it(row, tool, tools):
    install(*tools, row, without=tool)
    outcome = tour.perform(row)
    assert not outcome.ok
    assert f"no {tool}" in outcome.problem


@pytest.mark.parametrize(("row", "tool"), TOOLS)
def test_a_row_fails_when_its_tool_says_something_else(row, tool, tools, monkeypatch):
    monkeypatch.setattr(tour.files, "PATIENCE", 0.3)
    monkeypatch.setattr(tour.looking, "SLACK", 0.3)
    install(*tools, row, without=tool)
    impostor(tools[0] / tool)
    outcome = tour.perform(row)
    assert not outcome.ok, outcome.glimpse
    assert outcome.problem


def test_every_row_can_be_sabotaged():
    assert {row.name for row in ROWS if not row.tools} == WITHOUT_TOOLS


def test_the_row_of_the_missing_program_fails_when_there_is_one(tools):
    impostor(tools[0] / "hornpipe-no-such-program")
    assert not tour.perform(tour.ROWS["missing-program"]).ok


def test_the_row_of_the_callable_fails_when_it_is_called_here(monkeypatch):
    class Here:
        def __init__(self, function, *arguments):
            self.call = lambda: function(*arguments)

        def with_options(self, **_):
            return self

    monkeypatch.setattr(hp, "fn", Here)
    outcome = tour.perform(tour.ROWS["call"])
    assert not outcome.ok
    assert "this process" in outcome.problem


@contextlib.contextmanager
def never_undone(_, **changes):
    for name, disposition in changes.items():
        hp.SIG[name] = disposition
    yield


@contextlib.contextmanager
def ignored(_, **changes):
    before = {name: hp.SIG[name] for name in changes}
    for name in changes:
        hp.SIG[name] = "IGNORE"
    try:
        yield
    finally:
        for name, disposition in before.items():
            hp.SIG[name] = disposition


def set_after_making(key, initial):
    """As everybody does who does not know better."""
    try:
        sems = hp.sysv.SemaphoreSet.create([0] * len(initial), key)
    except FileExistsError:
        return hp.sysv.SemaphoreSet.open(key)
    time.sleep(0.1)
    sems.values = initial
    return sems


def the_first(queue, **_):
    return hp.sysv.MessageQueue.from_id(queue.id).peek()


serve = hp.Fifo.serve


def the_same_for_all(fifo, make):
    serve(fifo, functools.cache(make))


# In the background, but in the session and on the terminal of whoever has started it.
half_a_daemon = """
import os, signal, sys
reader, writer = os.pipe()
if os.fork():
    os._exit(os.read(reader, 1) != b"!")
with open(sys.argv[1], "w") as file:
    print(os.getpid(), file=file)
os.write(writer, b"!")
signal.pause()
"""


@pytest.mark.parametrize(
    ("name", "owner", "facility", "broken"),
    [
        ("handler", type(hp.SIG), "local", ignored),
        ("ignored-for-a-while", type(hp.SIG), "local", never_undone),
        ("hang-up-the-group", hp.signals, "kill_group", lambda _: None),
        ("queued", hp.signals, "block", lambda *_: contextlib.nullcontext()),
        ("watch", hp.Signal, "pid", 1),
        ("alarm", hp, "alarm", lambda _: alarm(0)),
        ("wake-up", type(hp.SIG), "local", ignored),
        ("unwind", hp.signals, "unwind", lambda *_: None),
        ("immediate", hp.Immediate, "exit", lambda _: hp.Immediate.write(1, b"no end")),
        ("connect", hp.Connection, "ask", lambda *_: "sabotaged"),
        ("listen", hp.Connection, "write", lambda *_: 0),
        ("stale-name", hp, "listen", lambda address, **_: hp.sockets.listen("tcp://127.0.0.1:0")),
        ("datagrams", hp.DatagramSocket, "ask", lambda *_, **__: hp.Datagram(b"sabotaged", None)),
        ("relay", hp, "relay", lambda *_, **__: hp.Relayed(26, 26)),
        ("tls", hp.Connection, "readline", lambda *_: "sabotaged"),
        ("named-pipe", hp.Fifo, "writer", lambda *_, **__: io.StringIO()),
        ("a-fresh-answer", hp.Fifo, "serve", the_same_for_all),
        ("inputs", hp, "inputs", lambda *_, **__: ()),
        ("lock", hp, "lock", lambda *_, **__: contextlib.nullcontext()),
        ("daemonize", tour.daemons, "_DAEMON", half_a_daemon),
        ("restart-on-hup", tour.daemons, "_SERVICE", tour.daemons._SERVICE.replace("hp.restart_on_hup", "dict")),
        ("daemon", tour.daemons, "_HORNPIPE", "import sys; print(*sys.argv[2:3])"),
        ("shared-memory", hp.sysv.SharedMemory, "write", lambda *_, **__: None),
        ("semaphores", hp.sysv.SemaphoreSet, "op", lambda *_, **__: None),
        ("given-back", hp, "kill", lambda *_: None),
        ("made-once", hp.sysv.SemaphoreSet, "open_or_create", set_after_making),
        ("messages", hp.sysv.MessageQueue, "receive", the_first),
        ("shared-variable", hp.sysv.Cell, "value", 7),
        ("removed-under-us", hp.sysv.MessageQueue, "receive", the_first),
        ("orphans", hp.sysv, "orphaned_since", lambda _: None),
    ],
)
def test_a_row_fails_when_its_facility_does_not_work(name, owner, facility, broken, monkeypatch):
    interrupt = hp.SIG["INT"]
    monkeypatch.setattr(owner, facility, broken)
    for module in (tour.signals, tour.sockets, tour.sysv, tour.files):
        monkeypatch.setattr(module, "PATIENCE", 0.3)
    for module in (tour.looking, tour.sysv):
        monkeypatch.setattr(module, "SLACK", 0.3)
    try:
        assert tour.perform(tour.ROWS[name]).problem
    finally:
        hp.SIG["INT"] = interrupt


def test_a_row_that_compares_nothing_fails():
    outcome = tour.perform(tour.Row("idle", "does nothing", (), lambda judge: "all is well"))
    assert not outcome.ok
    assert outcome.problem == "it compared nothing"


def test_a_row_that_breaks_is_a_failed_row_and_not_the_end_of_the_tour():
    def broken(judge):
        raise KeyError("x")

    outcome = tour.perform(tour.Row("broken", "breaks", (), broken))
    assert not outcome.ok
    assert outcome.problem == "KeyError: 'x'"


def test_every_row_says_what_it_shows_and_how_it_breaks():
    for row in ROWS:
        assert len(row.what) < 100, row.name
        assert "Breaks " in row.show.__doc__, row.name


# --- the command ---


def hornpipe(*arguments, **options):
    return subprocess.run(
        [HORNPIPE, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **options
    )


def test_the_whole_tour_passes():
    done = hornpipe("tour")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[3] for line in done.stdout.splitlines() if line.startswith("ok ")] == list(tour.ROWS)
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if line in tour.CHAPTERS] == list(tour.CHAPTERS)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_chapter_is_all_of_its_rows_once():
    done = hornpipe("tour", "bidirectional", "expecting", "read", "--json")
    told = json.loads(done.stdout)
    assert [entry["row"] for entry in told] == ["read", *tour.CHAPTERS["bidirectional"]]
    assert {entry["chapter"] for entry in told} == {"open", "bidirectional"}


def test_json_has_one_object_for_each_row():
    daemons = {"daemonize", "restart-on-hup", "daemon"}  # which take most of its time
    asked = [name for name in tour.ROWS if name not in daemons]
    done = hornpipe("tour", "--json", *asked)
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert [entry["row"] for entry in told] == asked
    assert all(entry["ok"] and entry["glimpse"] and entry["seconds"] >= 0 for entry in told)


def test_the_exit_status_is_1_when_a_row_fails(tools):
    done = hornpipe("tour", "--json", "read", "call")
    assert done.returncode == 1
    assert [entry["ok"] for entry in json.loads(done.stdout)] == [False, True]
    done = hornpipe("tour", "read", "call")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 of 2 rows failed: read"


def test_on_a_terminal_it_is_a_table():
    out = hp.cmd(
        HORNPIPE, "tour", "call", "status", pty=True, env={"TERM": "xterm", "NO_COLOR": None}, timeout=30
    ).read()
    assert "\x1b[" in out
    assert "2 rows, all as they should be" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out)


def test_a_row_that_does_not_exist_is_one_line_and_2():
    done = hornpipe("tour", "no-such-row")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no-such-row" in done.stderr
    assert "bidirectional" in done.stderr


def test_an_option_that_does_not_exist_is_one_line_and_2():
    done = hornpipe("tour", "--colour")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ([], "Try it: hornpipe tour"),
        (["tour"], "Examples: hornpipe tour"),
        (["run"], "Example: a backup that may take an hour, and leaves nothing running: hornpipe run --timeout 3600"),
    ],
)
def test_help_has_an_example(arguments, example):
    done = hornpipe(*arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert example in " ".join(done.stdout.split())


def test_a_reader_that_leaves_early_is_answered_with_silence():
    """gotcha:SIG16"""
    command = [HORNPIPE, "tour", "status", "timeout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        assert process.stdout.readline().startswith("ok ")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("absent", ["click", "rich"])
def test_without_the_extra_it_says_so_in_one_line(absent):
    program = f"import sys; sys.modules[{absent!r}] = None; from hornpipe.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "tour"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'hornpipe[cli]'" in done.stderr
