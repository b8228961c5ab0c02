"""Running as somebody else: all of him, for good, and nothing of ours that comes along unasked.

These tests change credentials for real, so they run as root, as in CI; anybody else is told so.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import hornpipe as hp

PR_GET_DUMPABLE = 3
NOBODY = pwd.getpwnam("nobody")
SECRET = "hunter2-is-the-secret"


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("test_users.py changes users and groups and therefore has to run as root", pytrace=False)


def ids_of(command: hp.Command[str]) -> dict[str, list[int]]:
    """What /proc/self/status says inside, read by a program that runs there."""
    lines = [line.partition(":") for line in command.read().splitlines()]
    return {name: [int(word) for word in rest.split()] for name, _, rest in lines}


def status_as(**options: object) -> dict[str, list[int]]:
    return ids_of(hp.cmd("grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status", **options))


def dumpable() -> int:
    return ctypes.CDLL(None, use_errno=True).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)


class TestAProgramAsSomebodyElse:
    """perlipc:O12, gotcha:PR1, PR2."""

    def test_has_all_four_of_his_user_and_group_ids_and_his_groups(self):
        """gotcha:PR1, PR2: real, effective, saved and file system ids; root's groups are gone."""
        seen = status_as(user="nobody")
        assert seen["Uid"] == [NOBODY.pw_uid] * 4
        assert seen["Gid"] == [NOBODY.pw_gid] * 4
        assert sorted(seen["Groups"]) == sorted(os.getgrouplist("nobody", NOBODY.pw_gid))

    def test_may_be_given_by_number(self):
        """gotcha:PR1"""
        assert status_as(user=NOBODY.pw_uid) == status_as(user="nobody")

    def test_is_who_id_says(self):
        """perlipc:O12"""
        assert hp.cmd("id", "-un", user="nobody").read() == "nobody\n"
        assert hp.cmd("id", "-u", user="nobody").read() == f"{NOBODY.pw_uid}\n"

    def test_may_have_another_group_and_other_groups(self):
        """gotcha:PR1"""
        daemon = grp.getgrnam("daemon").gr_gid
        seen = status_as(user="nobody", group="daemon", groups=("mail", 4242))
        assert seen["Uid"] == [NOBODY.pw_uid] * 4
        assert seen["Gid"] == [daemon] * 4
        assert sorted(seen["Groups"]) == sorted([grp.getgrnam("mail").gr_gid, 4242])

    def test_may_have_no_groups_at_all(self):
        """gotcha:PR1"""
        assert status_as(user="nobody", groups=())["Groups"] == []

    def test_may_change_the_group_alone(self):
        """gotcha:PR1"""
        daemon = grp.getgrnam("daemon").gr_gid
        seen = status_as(group="daemon")
        assert seen["Uid"] == [0] * 4
        assert seen["Gid"] == [daemon] * 4
        assert seen["Groups"] == [daemon]

    @pytest.mark.parametrize("code", ["$> = 0;", "$< = 0;", "($<, $>) = (0, 0);", "use POSIX; setuid(0);"])
    def test_cannot_come_back(self, code: str):
        """gotcha:PR2: the saved id would let it."""
        told = hp.cmd("perl", "-e", f'{code} print "$< $>"', user="nobody").read()
        assert told == f"{NOBODY.pw_uid} {NOBODY.pw_uid}"

    def test_cannot_take_its_groups_back(self):
        """gotcha:PR1, PR2"""
        told = hp.cmd("perl", "-e", '$) = "0 0"; $( = 0; print "$)"', user="nobody").read()
        assert set(told.split()) == {str(NOBODY.pw_gid)}

    def test_leaves_ourselves_as_we_were(self):
        """gotcha:PR1"""
        before = os.getresuid(), os.getresgid(), os.getgroups()
        status_as(user="nobody", group="daemon", groups=(4242,))
        assert (os.getresuid(), os.getresgid(), os.getgroups()) == before

    def test_leaves_us_dumpable(self):
        """gotcha:PR7: vfork with changed credentials would not."""
        assert dumpable() == 1
        hp.cmd("true", user="nobody").run()
        hp.fn(int).with_options(user="nobody").call()
        hp.cmd("true", user="nobody", contain=True).run()
        assert dumpable() == 1

    @pytest.mark.parametrize("options", [{"contain": True}, {"timeout": 20.0}, {"new_session": True}])
    def test_is_him_under_every_other_option(self, options: dict[str, object]):
        """gotcha:PR1"""
        assert status_as(user="nobody", **options)["Uid"] == [NOBODY.pw_uid] * 4

    def test_is_him_in_each_stage_that_says_so(self):
        """gotcha:PR1"""
        pipeline = hp.cmd("id", "-u", user="nobody") | hp.sh("cat; id -u")
        assert pipeline.read() == f"{NOBODY.pw_uid}\n0\n"

    @pytest.mark.parametrize("what", ["user", "group"])
    def test_that_does_not_exist_is_refused_by_name(self, what: str):
        """gotcha:PR1"""
        with pytest.raises(hp.SpawnError, match=f"no {what} 'no-such-one'"):
            hp.cmd("true", **{what: "no-such-one"}).run()
        with pytest.raises(hp.SpawnError, match="no group 'no-such-one'"):
            hp.cmd("true", groups=("no-such-one",)).run()

    def test_that_has_no_entry_needs_a_group(self):
        """gotcha:PR1"""
        with pytest.raises(hp.SpawnError, match="no user 54321"):
            hp.cmd("true", user=54321).run()
        assert status_as(user=54321, group=54321) == {"Uid": [54321] * 4, "Gid": [54321] * 4, "Groups": [54321]}

    def test_is_for_root_alone_and_the_error_says_so(self):
        """gotcha:PR1"""

        def become_root() -> None:
            hp.cmd("true", user="root").run()

        with pytest.raises(hp.RemoteError, match="only root may") as caught:
            hp.fn(become_root).with_options(user="nobody").call()
        assert caught.value.type_name.endswith("SpawnError")

    def test_may_not_run_what_is_forbidden_to_him_and_the_error_names_him(self, tmp_path: Path):
        """gotcha:PR1"""
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        with pytest.raises(hp.SpawnError, match="nobody"):
            hp.cmd(program, user="nobody").run()

    def test_may_not_bind_a_low_port(self):
        """gotcha:PR5"""
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
            pytest.skip("here anybody may bind low ports")

        def bind() -> None:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 79))

        with pytest.raises(hp.RemoteError, match="PermissionError"):
            hp.fn(bind).with_options(user="nobody").call()


class TestAFunctionAsSomebodyElse:
    """gotcha:PR7, perlipc:O11, O12."""

    def test_has_his_ids(self):
        """gotcha:PR1, PR2"""
        ids = hp.fn(lambda: (os.getresuid(), os.getresgid(), os.getgroups())).with_options(user="nobody").call()
        assert ids == ((NOBODY.pw_uid,) * 3, (NOBODY.pw_gid,) * 3, [NOBODY.pw_gid])

    def test_cannot_come_back(self):
        """gotcha:PR2"""
        for back in (os.setuid, os.seteuid, os.setgid, os.setegid):
            with pytest.raises(hp.RemoteError, match="PermissionError"):
                hp.fn(back, 0).with_options(user="nobody").call()

    @pytest.mark.parametrize(
        "value", [None, True, 0, -(2**70), 1.5, "tëxt\udcff", b"\0\xff", [1, [2]], (1, (2,)), {1, 2}, {"a": (1, b"x")}]
    )
    def test_sends_plain_values_back(self, value: object):
        """gotcha:PR7"""
        returned = hp.fn(lambda: value).with_options(user="nobody").call()
        assert returned == value
        assert type(returned) is type(value)

    def test_sends_no_other_value_back(self):
        """gotcha:PR7"""
        with pytest.raises(hp.RemoteError, match="plain values only"):
            hp.fn(lambda: Path("/")).with_options(user="nobody").call()

    def test_raises_a_remote_error_with_type_text_and_traceback(self):
        """gotcha:PR7"""
        with pytest.raises(hp.RemoteError) as caught:
            hp.fn(lambda: int("seven")).with_options(user="nobody").call()
        assert caught.value.type_name == "ValueError"
        assert "'seven'" in caught.value.text
        assert "Traceback" in caught.value.traceback

    @pytest.mark.parametrize("group", [{"group": "daemon"}, {"groups": ()}])
    def test_is_not_trusted_either_when_only_its_groups_differ(self, group: dict[str, object]):
        """gotcha:PR7"""
        with pytest.raises(hp.RemoteError):
            hp.fn(int, "seven").with_options(**group).call()

    def test_that_sends_a_pickle_by_itself_does_not_own_us(self, tmp_path: Path):
        """gotcha:PR7: loading a pickle runs what it says."""
        bomb = b"cposix\nsystem\n(S'touch " + os.fsencode(tmp_path / "owned") + b"'\ntR."

        def attack() -> None:
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2:
                    try:
                        os.write(int(name), len(bomb).to_bytes(8, "big") + bomb)
                    except OSError:
                        pass
            os._exit(0)

        with pytest.raises((ValueError, hp.CommandFailed)):
            hp.fn(attack).with_options(user="nobody").call()
        assert not (tmp_path / "owned").exists()

    def test_works_in_a_fresh_interpreter_whose_modules_he_may_not_read(self, tmp_path: Path):
        """gotcha:PR7: what the child needs must have been imported before it became somebody else."""
        home = tmp_path / "closed"
        home.mkdir(mode=0o700)
        out = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, hornpipe as hp\n"
                "fn = hp.fn(pow, 2, 3).with_options(user='nobody')\n"
                "print(fn.call())\n"
                "try: hp.fn(int, 'x').with_options(user='nobody').call()\n"
                "except hp.RemoteError as error: print(error.type_name)\n",
            ],
            capture_output=True,
            text=True,
            cwd=home,
            timeout=20,
        )
        assert out.stdout == "8\nValueError\n", out.stderr


class TestTheEnvironment:
    """gotcha:PR3, PR4, PR6."""

    def test_when_minimal_keeps_nothing_that_steers_a_program(self, monkeypatch: pytest.MonkeyPatch):
        """gotcha:PR3"""
        steering = ["IFS", "ENV", "BASH_ENV", "CDPATH", "LD_LIBRARY_PATH", "PERL5OPT", "X"]
        for name in steering:
            monkeypatch.setenv(name, "/nowhere")
        monkeypatch.setenv("PATH", "/tmp:" + os.environ["PATH"])
        monkeypatch.setenv("LC_ALL", "C")
        lines = hp.cmd("/usr/bin/env", user="nobody", env_base="minimal", env={"MINE": "1"}).read().splitlines()
        seen = dict(line.split("=", 1) for line in lines)
        assert not seen.keys() & set(steering)
        assert "/tmp" not in seen["PATH"]
        assert seen["HOME"] == NOBODY.pw_dir
        assert seen["USER"] == seen["LOGNAME"] == "nobody"
        assert seen["LC_ALL"] == "C"
        assert seen["MINE"] == "1"

    def test_does_not_let_a_relative_path_entry_choose_the_program(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """gotcha:PR3"""
        trap = tmp_path / "id"
        trap.write_text("#!/bin/sh\necho trapped\n")
        trap.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PATH", ":.:" + os.environ["PATH"])
        assert hp.cmd("id", "-un", user="nobody").read() == "nobody\n"

    def test_and_arguments_reach_no_shell(self):
        """gotcha:PR4"""
        nasty = ["-n", "a\nb", "$(id)", "`id`", "; id", "id|", "*", ""]
        told = hp.cmd("printf", "%s\\0", *nasty).read()
        assert told.split("\0")[:-1] == nasty

    @pytest.mark.parametrize("how", ["missing", "failing", "late", "function", "cwd"])
    def test_never_shows_in_an_error(self, how: str, monkeypatch: pytest.MonkeyPatch):
        """gotcha:PR6: an exception with the whole environment is how secrets get into logs."""
        monkeypatch.setenv("INHERITED_SECRET", SECRET)
        env = {"SECRET": SECRET}
        command = {
            "missing": hp.cmd("no-such-program", env=env),
            "failing": hp.cmd("false", env=env),
            "late": hp.cmd("sleep", "60", env=env, timeout=0.02, grace=0),
            "function": hp.fn(os._exit, 3).with_options(env=env),
            "cwd": hp.cmd("true", env=env, cwd="/no/such/place"),
        }[how]
        with pytest.raises(OSError) as caught:
            command.run()
        error = caught.value
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))
        assert SECRET not in shown

    def test_of_a_stored_input_is_no_name_in_a_shared_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """gotcha:PR5: names there can be squatted."""
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        process = hp.cmd("cat", input="secret\n", stdout=hp.NULL).start()
        assert list(tmp_path.iterdir()) == []
        assert process.wait()
