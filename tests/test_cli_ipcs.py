"""``hornpipe ipcs`` and ``hornpipe ipcrm``, beside util-linux's, in an IPC namespace where nobody else has anything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.cli import app

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
ROOT = os.geteuid() == 0
NOBODY = 65534

# Says one line once it has done its part, and stays until its stdin ends.
HOLDER = "use IPC::SysV qw(:all); $| = 1; %s; print qq(ready\n); <STDIN>;"


class Namespace:
    """An IPC namespace of the test's own: objects in it are nobody's, and gone with it."""

    def __init__(self) -> None:
        # Without a user namespace root stays able to be somebody else.
        self.unshare = ["unshare", "--ipc"] if ROOT else ["unshare", "--map-root-user", "--ipc"]
        self.keeper = subprocess.Popen(
            [*self.unshare, "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self.keeper.stdout.readline() != "ready\n":
            why = self.keeper.communicate()[1]
            pytest.skip(f"no IPC namespace for us here: {why.strip()}")
        users = [] if ROOT else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", *users, "--ipc", "--target", str(self.keeper.pid), "--"]

    def run(self, *words, check=False, **options):
        return subprocess.run(
            [*self.enter, *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=50,
            check=check,
            **options,
        )

    def hornpipe(self, *words, **options):
        return self.run(HORNPIPE, *words, **options)

    def told(self, *words):
        done = self.hornpipe("ipcs", "--json", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def make(self, *words, user=None):
        """An object by ipcmk(1), which ends at once and leaves it: its id."""
        other = ["setpriv", f"--reuid={user}", "--clear-groups"] if user else []
        return int(re.search(r"\d+$", self.run(*other, "ipcmk", *words, check=True).stdout.strip())[0])

    def ids(self):
        """What there is, by ipcs(1): pairs of letter and id."""
        listed = self.run("ipcs", check=True).stdout
        parts = re.split(r"------ (\w)", listed)[1:]
        letters = {"M": "q", "S": "s"}
        found = set()
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            letter = "m" if "Memory" in text.splitlines()[0] else letters[name]
            found |= {(letter, int(number)) for number in re.findall(r"^0x\w+ +(\d+)", text, re.MULTILINE)}
        return found

    @contextlib.contextmanager
    def perl(self, program):
        """A process that does something with an object and stays."""
        with subprocess.Popen(
            [*self.enter, "perl", "-e", HOLDER % program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def terminal(self, *words):
        """The command on a terminal; ended if the test does not end it."""
        child = hp.expect.spawn(self.enter[0], [*self.enter[1:], HORNPIPE, *words], timeout=40, encoding="utf-8")
        try:
            yield child
        finally:
            child.close(force=True)


@pytest.fixture
def space():
    made = Namespace()
    try:
        yield made
    finally:
        made.keeper.communicate()


class TestIpcs:
    """The list."""

    def test_it_lists_what_ipcs_lists(self, space):
        """perlipc:V4"""
        made = {("m", space.make("-M", "2000")), ("s", space.make("-S", "7")), ("q", space.make("-Q", "-p", "0640"))}
        assert space.ids() == made
        found = space.told()
        kinds = {"shm": "m", "sem": "s", "msg": "q"}
        assert {(kinds[each["kind"]], each["id"]) for each in found} == made
        segment, sems, queue = found
        assert (segment["size"], segment["attaches"], segment["mode"]) == (2000, 0, 0o644)
        assert (sems["semaphores"], sems["operation_time"]) == (7, 0)
        assert (queue["messages"], queue["bytes"], queue["mode"]) == (0, 0, 0o640)
        for each in found:
            assert (each["owner"], each["uid"], each["creator_uid"]) == ("root", 0, 0)
            shown = space.run("ipcs", f"-{kinds[each['kind']]}", check=True).stdout
            assert f"{each['key']:#010x} {each['id']}" in shown
            assert abs(each["change_time"] - time.time()) < 60

    def test_an_empty_system_is_an_empty_list(self, space):
        done = space.hornpipe("ipcs")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert space.told() == []

    def test_each_word_narrows_the_choice(self, space):
        segment, sems, queue = space.make("-M", "1"), space.make("-S", "1"), space.make("-Q")
        keys = {each["kind"]: each["key"] for each in space.told()}

        def kinds(*words):
            return [each["kind"] for each in space.told(*words)]

        assert kinds("-m") == ["shm"]
        assert kinds("-m", "-q") == ["shm", "msg"]
        assert kinds("-s", str(sems)) == ["sem"]
        assert kinds("-k", hex(keys["msg"])) == ["msg"]
        assert kinds("--key", str(keys["shm"]), "--key", str(keys["sem"])) == ["shm", "sem"]
        assert kinds("--owner", "0") == kinds("--owner", "root") == ["shm", "sem", "msg"]
        assert kinds("--owner", "1") == []
        assert kinds("--orphaned", "0") == ["shm", "sem", "msg"]
        assert kinds("--orphaned", "1h") == []
        assert segment >= 0
        assert queue >= 0

    def test_a_line_for_each_in_a_pipe_and_a_table_on_a_terminal(self, space):
        queue = space.make("-Q")
        with space.perl(f"msgsnd({queue}, pack('l! a*', 1, 'hello'), 0) or die") as sender:
            (line,) = space.hornpipe("ipcs").stdout.splitlines()
            words = line.split()
            assert words[:2] == ["msg", str(queue)]
            assert words[3:5] == ["root", "644"]
            assert line.endswith(f"in use    1 message of 5 bytes, sent by {sender.pid}")
            with space.terminal("ipcs") as shown:
                shown.expect(hp.expect.EOF)
                assert "\x1b[" in shown.before
                text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.before)
                assert "what is in it" in text
                assert re.search(r"s ago +in use +1 message of 5", text)
                assert all(len(row) <= 80 for row in text.splitlines())

    def test_what_is_asked_for_and_not_there_is_one_line_and_1(self, space):
        queue = space.make("-Q")
        done = space.hornpipe("ipcs", "-q", str(queue), "77", "--key", "0xbeef")
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "hornpipe ipcs: there is no queue 77",
            "hornpipe ipcs: there is no object with the key 0xbeef",
        ]
        assert len(done.stdout.splitlines()) == 1

    def test_without_proc_it_says_so_in_one_line(self, space):
        mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        done = space.run(*mount, HORNPIPE, "ipcs")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "/proc is not mounted" in done.stderr


def test_what_somebody_outside_of_our_pid_namespace_made_is_no_orphan(space):
    space.make("-M", "1")
    (found,) = space.told()
    assert found["orphaned_since"] == found["change_time"]
    done = space.run("unshare", "--pid", "--fork", "--mount-proc", HORNPIPE, "ipcs", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["creator_pid"], found["orphaned_since"]) == (0, None)


class TestIpcrm:
    """Removal, and what is spared."""

    def test_without_a_terminal_nothing_is_removed_unless_told(self, space):
        queue = space.make("-Q")
        done = space.hornpipe("ipcrm", "-q", str(queue))
        assert done.returncode == 1
        assert done.stdout.split()[:2] == ["msg", str(queue)]
        assert done.stderr.splitlines() == [
            "hornpipe ipcrm: nothing was removed: there is no terminal to ask on, and --yes was not given"
        ]
        assert space.ids() == {("q", queue)}
        done = space.hornpipe("ipcrm", "-q", str(queue), "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        assert space.ids() == {("q", queue)}
        done = space.hornpipe("ipcrm", "-q", str(queue), "--yes")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"removed: queue {queue}\n", "")
        assert space.ids() == set()

    def test_ids_keys_owners_and_all_kinds(self, space):
        made = [space.make(*words) for words in (["-M", "9"], ["-M", "9"], ["-S", "2"], ["-S", "2"], ["-Q"], ["-Q"])]
        keys = [each["key"] for each in space.told()]
        assert space.hornpipe("ipcrm", "--yes", "-m", str(made[0])).returncode == 0
        assert space.ids() == {("m", made[1]), *(("s", n) for n in made[2:4]), *(("q", n) for n in made[4:])}
        assert space.hornpipe("ipcrm", "--yes", "--key", hex(keys[3]), "--key", str(keys[5])).returncode == 0
        assert space.ids() == {("m", made[1]), ("s", made[2]), ("q", made[4])}
        done = space.hornpipe("ipcrm", "--yes", "--owner", "root", "-m", "-q")
        assert done.stdout == f"removed: segment {made[1]}\nremoved: queue {made[4]}\n"
        done = space.hornpipe("ipcrm", "--yes", "--orphaned", "1h")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert space.ids() == {("s", made[2])}

    def test_orphans_go_and_the_others_stay(self, space):
        left, used = space.make("-Q"), space.make("-Q")
        with space.perl(f"msgsnd({used}, pack('l! a*', 1, 'x'), 0) or die"):
            assert space.hornpipe("ipcrm", "--yes", "--orphaned", "0").stdout == f"removed: queue {left}\n"
            assert space.ids() == {("q", used)}

    def test_on_a_terminal_it_asks(self, space):
        queue = space.make("-Q")
        for answer, there in (("n", {("q", queue)}), ("", {("q", queue)}), ("y", set())):
            with space.terminal("ipcrm", "-q", str(queue)) as asking:
                asking.expect_exact("Remove it? [y/N]: ")
                assert space.ids() == {("q", queue)}
                asking.sendline(answer)
                asking.expect(hp.expect.EOF)
                asking.wait()
                assert asking.exitstatus == (1 if there else 0)
            assert space.ids() == there

    def test_ctrl_c_is_a_no(self, space):
        queue = space.make("-Q")
        with space.terminal("ipcrm", "-q", str(queue)) as asking:
            asking.expect_exact("[y/N]: ")
            # More than once: what comes before it has begun to read is seen when it has read.
            while asking.expect([hp.expect.EOF, hp.expect.TIMEOUT], timeout=0.2):
                asking.sendintr()
            asking.wait()
            assert asking.signalstatus == signal.SIGINT
        assert space.ids() == {("q", queue)}

    def test_what_somebody_uses_by_the_time_of_the_answer_is_left(self, space):
        queue = space.make("-Q")
        with space.terminal("ipcrm", "--orphaned", "0") as asking:
            asking.expect_exact("Remove it? [y/N]: ")
            with space.perl(f"msgsnd({queue}, pack('l! a*', 1, 'x'), 0) or die"):
                asking.sendline("y")
                asking.expect_exact(f"queue {queue} has changed meanwhile, and was left")
                asking.expect(hp.expect.EOF)
                asking.wait()
                assert asking.exitstatus == 1
        assert space.ids() == {("q", queue)}

    def test_what_is_gone_by_the_time_of_the_answer_is_gone(self, space):
        queue = space.make("-Q")
        with space.terminal("ipcrm", "-q", str(queue)) as asking:
            asking.expect_exact("[y/N]: ")
            space.run("ipcrm", "-q", str(queue), check=True)
            asking.sendline("y")
            asking.expect(hp.expect.EOF)
            asking.wait()
            assert asking.exitstatus == 0

    @pytest.mark.skipif(not ROOT, reason="being somebody else needs root")
    def test_another_users_is_spared_unless_he_is_named(self, space):
        """gotcha:Y13"""
        ours, theirs = space.make("-Q"), space.make("-Q", "-p", "0666", user=NOBODY)
        who = next(each["owner"] for each in space.told() if each["uid"] == NOBODY)
        done = space.hornpipe("ipcrm", "--yes", "-q", str(ours), str(theirs))
        assert (done.returncode, done.stdout) == (1, f"removed: queue {ours}\n")
        assert done.stderr.splitlines() == [
            f"hornpipe ipcrm: queue {theirs} belongs to {who}, and is removed only with --owner {who}"
        ]
        done = space.hornpipe("ipcrm", "--yes", "--orphaned", "0")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert space.ids() == {("q", theirs)}
        assert space.hornpipe("ipcrm", "--yes", "-q", str(theirs), "--owner", who).returncode == 0
        assert space.ids() == set()

    @pytest.mark.skipif(not ROOT, reason="being somebody else needs root")
    def test_what_the_system_forbids_is_one_line_and_1(self, space):
        """gotcha:Y13"""
        queue = space.make("-Q", "-p", "0666")
        # Somebody else, once all is loaded: who may not remove it may not read this folder either.
        program = """
import difflib, os, sys
from hornpipe.cli import app, sysv
os.setgroups([])
os.setuid(65534)
sys.exit(app.main(sys.argv[1:]))
"""
        done = space.run(sys.executable, "-c", program, "ipcrm", "--yes", "-q", str(queue), "--owner", "root", cwd="/")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert f"queue {queue}" in done.stderr
        assert "root" in done.stderr
        assert space.ids() == {("q", queue)}

    def test_json_says_what_is_gone(self, space):
        queue = space.make("-Q")
        done = space.hornpipe("ipcrm", "--json", "--dry-run", "-q", str(queue))
        assert [(each["id"], each["gone"]) for each in json.loads(done.stdout)] == [(queue, False)]
        done = space.hornpipe("ipcrm", "--json", "--yes", "-q", str(queue))
        assert [(each["id"], each["gone"]) for each in json.loads(done.stdout)] == [(queue, True)]
        done = space.hornpipe("ipcrm", "--json", "--yes", "-q", str(queue))
        assert (done.returncode, json.loads(done.stdout)) == (1, [])
        assert done.stderr == f"hornpipe ipcrm: there is no queue {queue}\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ipcs", "7"], "one of -m, -s and -q"),
        (["ipcs", "-m", "-q", "7"], "one of -m, -s and -q"),
        (["ipcs", "-m", "x"], "x"),
        (["ipcs", "--key", "0"], "private"),
        (["ipcs", "--key", "0x1ffffffff"], "0x1ffffffff"),
        (["ipcs", "--owner", "no-such-user"], "no-such-user"),
        (["ipcs", "--orphaned", "soon"], "soon"),
        (["ipcrm", "--yes"], "say what to remove"),
        (["ipcrm", "--yes", "-q"], "say what to remove"),
        (["ipcrm", "--json", "-q", "1"], "--yes or --dry-run"),
        (["ipcrm", "--yes", "--dry-run", "-q", "1"], "do not go together"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_2(words, named, capsys):
    assert app.main(words) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert named in told.err


@pytest.mark.parametrize("command", ["ipcs", "ipcrm"])
def test_help_has_an_example(command):
    done = subprocess.run([HORNPIPE, command, "--help"], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"hornpipe {command} -q" in done.stdout


def test_a_reader_that_leaves_early_is_answered_with_silence(space):
    """gotcha:SIG16"""
    space.make("-Q")
    with subprocess.Popen([*space.enter, HORNPIPE, "ipcs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
