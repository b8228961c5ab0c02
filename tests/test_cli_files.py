"""``hornpipe fifo`` and ``hornpipe cat``, from a shell's point of view."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sysconfig
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))


def run(*arguments, stdin=b"", **options):
    return subprocess.run([HORNPIPE, *arguments], input=stdin, capture_output=True, timeout=50, check=False, **options)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@contextlib.contextmanager
def serving(*arguments, path="sig"):
    """``hornpipe fifo``, up and running."""
    words = [HORNPIPE, "fifo", *arguments]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_until(lambda: hp.is_fifo(path), 20, "the FIFO")
            yield server
        except BaseException:
            server.kill()
            raise
        if server.poll() is None:
            server.terminate()


class TestFifo:
    """perlipc:F2."""

    def test_each_reader_gets_a_run_of_its_own(self):
        """perlipc:F2, gotcha:FI3"""
        line = "read n <count; n=$((n+1)); echo $n >count; echo run $n"
        Path("count").write_text("0\n")
        with serving("sig", "--", "sh", "-c", line):
            for n in range(1, 40):
                assert Path("sig").read_text() == f"run {n}\n"

    def test_bytes_pass_as_they_are(self):
        with serving("sig", "--", "printf", r"\377\000\n"):
            assert Path("sig").read_bytes() == b"\xff\x00\n"

    def test_options_of_the_command_are_the_commands(self):
        with serving("sig", "echo", "--mode", "-h"):
            assert Path("sig").read_text() == "--mode -h\n"

    @pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
    def test_it_ends_by_the_signal_and_removes_its_name(self, name):
        """perlipc:F2, gotcha:FI6"""
        with serving("sig", "--", "echo", "x") as server:
            assert Path("sig").read_text() == "x\n"
            server.send_signal(getattr(signal, f"SIG{name}"))
            assert server.wait(20) == -getattr(signal, f"SIG{name}")
            assert server.stderr.read() == ""
        assert os.listdir() == []

    def test_a_signal_while_the_command_runs_ends_both(self):
        """perlipc:F2"""
        with (
            serving("sig", "--", "sh", "-c", "echo $$ >pid; exec sleep 60") as server,
            subprocess.Popen(["cat", "sig"], stdout=subprocess.PIPE) as reader,
        ):
            wait_until(lambda: os.path.exists("pid") and Path("pid").read_text(), what="the command")
            server.terminate()
            assert server.wait(20) == -signal.SIGTERM
            assert reader.stdout.read() == b""
        assert not hp.alive(int(Path("pid").read_text()))
        assert os.listdir() == ["pid"]

    def test_a_command_that_fails_is_reported_and_the_next_reader_served(self):
        """perlipc:O3"""
        with serving("sig", "--", "sh", "-c", "echo some; exit 3") as server:
            assert [Path("sig").read_text() for _ in range(3)] == ["some\n"] * 3
            server.terminate()
            assert server.stderr.read() == "hornpipe fifo: sh: exited with code 3\n" * 3

    def test_the_mode_is_exact(self):
        """gotcha:FI6"""
        with serving("--mode", "0644", "sig", "--", "true"):
            wait_until(lambda: stat.S_IMODE(os.lstat("sig").st_mode) == 0o644)

    def test_something_else_is_left_alone_unless_it_is_to_be_replaced(self):
        """gotcha:FI6"""
        Path("sig").write_text("precious\n")
        done = run("fifo", "sig", "--", "true")
        assert done.returncode == 1
        assert done.stderr == b"hornpipe fifo: sig: a file is there already, not a FIFO\n"
        assert Path("sig").read_text() == "precious\n"
        with serving("--replace", "sig", "--", "echo", "x"):
            assert Path("sig").read_text() == "x\n"

    def test_a_folder_that_is_not_there_is_named(self):
        done = run("fifo", "no/sig", "--", "true")
        assert (done.returncode, done.stderr) == (1, b"hornpipe fifo: no/sig: No such file or directory\n")

    def test_a_command_that_is_not_there_is_known_at_once(self):
        """perlipc:O4"""
        done = run("fifo", "sig", "--", "no-such-program")
        assert done.returncode == 127
        assert done.stderr == b"hornpipe fifo: no-such-program: not found, or not executable\n"
        assert run("fifo", "sig", "--").returncode == 2
        assert os.listdir() == []

    @pytest.mark.parametrize("mode", ["888", "1000", "rw", "", "-1", "0o600"])
    def test_a_mode_that_is_none_is_refused(self, mode):
        done = run("fifo", f"--mode={mode}", "sig", "--", "true")
        assert done.returncode == 2
        assert b"is no mode such as 600" in done.stderr


class TestCat:
    """perlipc:O6."""

    def test_it_prints_what_cat_prints(self):
        """perlipc:O6"""
        Path("a").write_bytes(b"1\n\xff\x00\r\n2")
        Path("b").write_bytes(b"x" * 200_000 + b"\n")
        for words in (["a", "b"], ["a", "-", "a"], ["-"], []):
            assert (
                run("cat", *words, stdin=b"in\nput").stdout
                == subprocess.run(["cat", *words], input=b"in\nput", capture_output=True, check=True).stdout
            )

    def test_numbers_are_cats_numbers(self):
        """perlipc:O6"""
        Path("a").write_text("".join(f"{n}\n" for n in range(1200)))
        expected = subprocess.run(["cat", "-n", "a", "a"], capture_output=True, check=True).stdout
        assert run("cat", "-n", "a", "a").stdout == expected

    def test_names_are_names(self):
        """perlipc:O6, gotcha:PR4"""
        for name in ("> file", " lead", "echo x|", "-n"):
            Path(name).write_text(f"{name}\n")
        done = run("cat", "--", "> file", " lead", "echo x|", "-n")
        assert done.stdout.decode() == "> file\n lead\necho x|\n-n\n"

    def test_commands_run_when_asked_for(self):
        """perlipc:O6"""
        assert run("cat", "--commands", "echo x | tr x y|").stdout == b"y\n"

    def test_what_cannot_be_read_is_reported_and_the_rest_printed(self):
        """perlipc:O6"""
        Path("a").write_text("a\n")
        done = run("cat", "none", "a", "--commands", "exit 4|")
        assert (done.returncode, done.stdout) == (1, b"a\n")
        assert done.stderr.startswith(b"none: No such file or directory\nexit 4|: ")

    def test_a_reader_that_has_seen_enough_ends_it_quietly(self):
        """perlipc:O5"""
        Path("a").write_text("line\n" * 100_000)
        line = 'exec 3>&1; { "$1" cat a; echo $? >&3; } | head -n 1'
        done = subprocess.run(
            ["sh", "-c", line, "sh", HORNPIPE], capture_output=True, text=True, timeout=50, check=True
        )
        assert sorted(done.stdout.split()) == ["141", "line"]
        assert done.stderr == ""

    def test_it_is_ended_by_int_as_by_int(self):
        """gotcha:SIG16: while it waits for its input."""
        os.mkfifo("never")
        with subprocess.Popen([HORNPIPE, "cat", "never"], stdout=subprocess.PIPE) as cat:
            feeder = hp.Fifo("never").writer(timeout=20)  # it has opened it, so it is past its own start
            cat.send_signal(signal.SIGINT)
            assert cat.wait(20) == -signal.SIGINT
            feeder.close()


@pytest.mark.parametrize("command", ["fifo", "cat", "daemon start"])
def test_help_shows_an_example(command):
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert f"hornpipe {command}" in done.stdout.decode().split("Example")[1]
