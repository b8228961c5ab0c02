"""The programs of the manual page that talk to programs, files and themselves: each as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
EOF = hp.expect.EOF


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / script), *map(str, arguments)]


def run(script: str, *arguments: object, stdin: str = "", **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(script, *arguments), input=stdin, capture_output=True, text=True, timeout=50, **options
    )


def said(script: str, *arguments: object, stdin: str = "", **options) -> str:
    """What a script prints that has nothing to complain about."""
    done = run(script, *arguments, stdin=stdin, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def running(script: str, *arguments: object, **options) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(script, *arguments), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def at_terminal(script: str, *arguments: object) -> hp.expect.spawn:
    return hp.expect.spawn(sys.executable, command(script, *arguments)[1:], timeout=20, encoding="utf-8")


class TestAll:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_it_has_help_runs_as_it_stands_and_is_short(self, script):
        path = EXAMPLES / script
        help_text = said(script, "--help")
        assert "usage:" in help_text
        lines = path.read_text().splitlines()
        assert lines[0] == "#!/usr/bin/env python3"
        assert path.stat().st_mode & stat.S_IXUSR
        assert len(lines) <= 90

    def test_the_list_has_them_all_and_no_others(self):
        readme = (EXAMPLES / "README.md").read_text()
        listed = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\)", readme, re.MULTILINE)
        assert sorted(name for name, _ in listed) == SCRIPTS
        assert all(name == link for name, link in listed)


class TestSignals:
    def test_interrupts_are_counted_and_the_third_is_the_end(self):
        """perlipc:S1, S9"""
        with running("catch_zap.py", stderr=subprocess.PIPE) as script:
            assert script.stdout.readline() == f"kill -INT {script.pid}\n"
            for _ in range(3):
                script.send_signal(signal.SIGINT)
                assert script.stdout.readline() == f"pid {os.getpid()} sent me a INT\n"
            assert script.wait(20) == 1
            assert script.stderr.read() == "Outta here!\n"

    def test_at_a_terminal_they_come_from_the_keyboard(self):
        """perlipc:S1"""
        child = at_terminal("catch_zap.py")
        child.expect("kill -INT")
        for _ in range(3):
            child.sendintr()
            child.expect("sent me a INT")
        child.expect("Outta here!")
        child.expect(EOF)
        child.close()

    def test_names_and_numbers_are_perls(self):
        """perlipc:S2"""
        program = (
            'my @n = split " ", $Config{sig_num}; my $i = 0; print "$n[$i++] $_\n" for split " ", $Config{sig_name}'
        )
        perl = subprocess.run(["perl", "-MConfig", "-e", program], capture_output=True, text=True, check=True).stdout
        ours = said("signames.py").splitlines()
        # Perl has names that the kernel does not (ZERO, NUM32), and old ones for the same number.
        assert {line for line in ours if "RT" not in line} <= set(perl.splitlines())
        assert said("signames.py", "17", "ALRM") == "14 ALRM\n17 CHLD\n"

    def test_what_is_precious_is_not_interrupted(self):
        """perlipc:S6"""
        child = at_terminal("precious.py")
        child.expect("press Enter")
        child.sendintr()
        child.expect_exact("^C")
        child.sendline()
        child.expect("and now they are not")
        child.sendintr()
        child.expect(EOF)
        child.close()
        assert child.signalstatus == signal.SIGINT

    def test_the_group_hangs_up_but_for_its_leader(self):
        """perlipc:S7"""
        lines = said("hang_up_group.py", 4).splitlines()
        assert [line.partition(": ")[2] for line in lines] == ["killed by HUP"] * 4 + ["still here"]

    def test_who_is_dead_is_known_and_who_is_somebody_elses_lives(self):
        """perlipc:S8"""
        with subprocess.Popen(["true"]) as dead:
            pass
        done = run("looks_dead.py", 1, os.getpid(), dead.pid)
        assert done.returncode == 1
        assert done.stdout == f"1 lives\n{os.getpid()} lives\n{dead.pid} looks dead\n"

    @pytest.mark.parametrize("options", [[], ["--thief"]])
    def test_no_status_is_lost_and_none_is_made_up(self, options):
        """perlipc:S10, S10b"""
        counts = {}
        for line in said("reaper.py", *options, 60).splitlines():
            count, _, end = line.partition(" ")
            counts[end] = int(count)
        assert sum(counts.values()) == 60
        # Where the kernel does not keep what a thief took, it is unknown; it is never a success.
        assert counts["exited successfully"] <= 20
        if not options:
            assert counts == {"exited successfully": 20, "exited with code 1": 20, "exited with code 2": 20}

    def test_a_lock_of_perls_is_waited_for_and_not_for_ever(self, tmp_path):
        """perlipc:S11: Perl's flock on the other side."""
        lock = tmp_path / "lock"
        program = 'open F, ">>", $ARGV[0] or die; flock F, 2 or die; syswrite STDOUT, "locked\n"; sysread STDIN, $_, 1'
        with subprocess.Popen(
            ["perl", "-e", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as perl:
            assert perl.stdout.readline() == "locked\n"
            done = run("lock_in_time.py", "--wait", "0.2", lock, "--", "echo", "held")
            assert (done.returncode, done.stdout) == (75, "")
            with running("lock_in_time.py", "--wait", "20", lock, "--", "sh", "-c", "echo held; exit 3") as script:
                waits = f"-> FLOCK  ADVISORY  WRITE {script.pid} "
                wait_until(lambda: waits in Path("/proc/locks").read_text(), 20, "its wait for the lock")
                perl.stdin.write("x")
                perl.stdin.flush()
                assert script.stdout.readline() == "held\n"
                assert script.wait(20) == 3

    @pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
    def test_told_to_end_it_cleans_up_and_dies_of_that(self, name):
        """perlipc:S22"""
        number = getattr(signal, f"SIG{name}")
        with running("sigtrap.py") as script:
            words = script.stdout.readline().split()
            folder, worker = words[4], int(words[-1])
            assert os.path.isdir(folder)
            script.send_signal(number)
            assert script.wait(20) == -number
            assert script.stdout.read() == "cleaned up\n"
        assert not os.path.exists(folder)
        wait_until(lambda: not hp.alive(worker), what="the worker's end")


class TestDaemonsAndNames:
    @pytest.mark.parametrize("how", ["path", "name in its folder"])
    def test_hup_begins_it_again_every_time(self, how):
        """perlipc:D1: the third time like the first."""
        words = ["--every", "0.05", "one", "two words"]
        options = {}
        if how == "path":
            arguments = command("self_restarting_daemon.py", *words)
        else:
            arguments = [sys.executable, "self_restarting_daemon.py", *words]
            options["cwd"] = EXAMPLES
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, **options) as daemon:
            for _ in range(4):
                while (line := daemon.stdout.readline()) != f"PID: {daemon.pid}\n":
                    assert line.strip().isdecimal()
                assert daemon.stdout.readline() == "ARGV: --every 0.05 one two words\n"
                assert daemon.stdout.readline() == "1\n"
                daemon.send_signal(signal.SIGHUP)
            daemon.terminate()

    def test_each_reader_gets_a_signature_of_its_own(self, tmp_path):
        """perlipc:F2: read by Perl and by cat."""
        path = tmp_path / ".signature"
        with running("signature.py", "--path", path, "--name", "Jo") as script:
            wait_until(lambda: hp.is_fifo(path), 20)
            for reader in (["perl", "-e", "print while <>", path], ["cat", path]) * 3:
                text = subprocess.run(reader, capture_output=True, text=True, check=True, timeout=20).stdout
                assert text.startswith("Jo\n")
                assert text.count("Jo\n") == 1
                assert len(text) > 4
            script.terminate()
            assert script.wait(20) == -signal.SIGTERM
        assert not path.exists()

    def test_what_is_in_the_background_goes_on(self, tmp_path):
        """perlipc:D4"""
        out = tmp_path / "out"
        with out.open("w") as file:
            words = command("background.py", "--", "sh", "-c", "echo working; exec sleep 60 2>&-")
            done = subprocess.run(words, stdout=file, stderr=subprocess.PIPE, text=True, timeout=50)
        assert (done.returncode, done.stderr) == (0, "")
        lines = wait_until(lambda: len(out.read_text().splitlines()) == 2 and out.read_text().splitlines(), 20)
        assert "working" in lines
        pid = int(next(line for line in lines if line != "working"))
        assert hp.alive(pid)
        os.kill(pid, signal.SIGKILL)

    def test_a_daemon_works_before_its_starter_leaves(self, tmp_path):
        """perlipc:D3"""
        pidfile, log = tmp_path / "pid", tmp_path / "log"
        assert said("daemonize.py", pidfile, log) == ""
        pid = int(pidfile.read_text())
        try:
            assert os.getsid(pid) == os.getpgid(pid) != os.getsid(0)
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            wait_until(lambda: log.read_text(), 20, "the log")
            again = run("daemonize.py", pidfile, log)
            assert again.returncode == 1
            assert f"process {pid} is running already" in again.stderr
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), 20, "the daemon's end")
        wait_until(lambda: not hp.alive(pid), 20, "the daemon's end")

    def test_a_daemon_whose_lines_go_to_syslog(self, tmp_path):
        """perlipc:D3"""
        pidfile, log = tmp_path / "pid", tmp_path / "log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.bind(str(log))
            syslog.settimeout(20)
            assert said("logged_daemon.py", pidfile, "--", "logger", "--socket", log, "--tag", "clock") == ""
            pid = int(pidfile.read_text())
            try:
                assert re.fullmatch(r"<13>.* clock: \w{3} \w{3} .* \d{4}", syslog.recv(4096).decode())
            finally:
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not hp.alive(pid), 20, "the daemon's end")


class TestPipes:
    def test_a_spool_arrives_or_it_is_known_that_it_did_not(self, tmp_path):
        """perlipc:O1, O3, O5"""
        assert said("spooler.py", "--to", f"tee {tmp_path}/copy", stdin="st\tuff\x01\n") == "st\tuff^A\n"
        assert (tmp_path / "copy").read_text() == "st\tuff^A\n"
        done = run("spooler.py", "--to", "exit 3", stdin="stuff\n")
        assert (done.returncode, done.stderr) == (1, "bad spool: exited with code 3\n")
        done = run("spooler.py", "--to", "exit 3", stdin="stuff\n" * 1_000_000)
        assert done.returncode == 1
        assert done.stderr.startswith(("bad spool: ", "spooler pipe broke: "))

    @pytest.mark.parametrize("script", ["netstat.py", "backticks.py"])
    def test_netstat_without_tcp_and_udp(self, script, tmp_path):
        """perlipc:O2, O7, O3"""
        out = said(script)
        assert "Active UNIX domain sockets" in out
        assert not re.search("^(tcp|udp)", out, re.MULTILINE)
        fake = tmp_path / "netstat"
        fake.write_text("#!/bin/sh\necho 'tcp x'; echo 'unix y' >&2; exit 7\n")
        fake.chmod(0o755)
        done = run(script, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 1
        assert done.stderr.startswith("bad netstat: ")
        assert "exited with code 7" in done.stderr
        line = f'exec 3>&1; {{ "$@"; echo $? >&3; }} | head -n 1 >{tmp_path}/first'
        done = subprocess.run(
            ["bash", "-c", line, "bash", *command(script)], capture_output=True, text=True, timeout=50
        )
        assert (done.stdout, done.stderr) in {("0\n", ""), ("141\n", "")}

    def test_files_commands_and_stdin_are_one_input(self, tmp_path):
        """perlipc:O6: the same as Perl's diamond, with the same words."""
        (tmp_path / "f1").write_text("one\ntwo\n")
        words = ["f1", "echo cmd1|", "-", "f1"]
        program = 'while (<>) { print "$ARGV:$.: $_" } continue { close ARGV if eof }'
        options = {"cwd": tmp_path, "input": "typed\n", "capture_output": True, "text": True, "check": True}
        perl = subprocess.run(["perl", "-e", program, *words], **options)
        assert said("diamond.py", *words, stdin="typed\n", cwd=tmp_path) == perl.stdout

    def test_what_is_not_there_is_known_at_once_and_what_does_not_listen_in_the_end(self):
        """perlipc:O4, O5"""
        done = run("bogus.py", "no-such-program")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("can't start it: ")
        done = run("bogus.py", "true")
        assert (done.returncode, done.stdout) == (1, "it has been started\n")
        assert done.stderr.startswith("it reads no more: ")
        assert run("bogus.py", "wc").returncode == 0

    def test_the_child_writes_the_file_and_says_when_it_cannot(self, tmp_path):
        """perlipc:O11"""
        assert said("safe_file.py", tmp_path / "safe", stdin="some data\n" * 1000) == ""
        assert (tmp_path / "safe").read_text() == "some data\n" * 1000
        done = run("safe_file.py", tmp_path / "none" / "safe", stdin="data")
        assert done.returncode == 1
        assert "kid exited with code" in done.stderr

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_the_child_has_the_rights_of_somebody_else(self, tmp_path):
        """perlipc:O12"""
        done = run("safe_file.py", "--user", "nobody", tmp_path / "safe", stdin="data")
        assert done.returncode == 1
        assert "PermissionError" in done.stderr
        assert not (tmp_path / "safe").exists()

    def test_no_shell_sees_the_arguments(self):
        """perlipc:O13"""
        hard = ["$(id)", "; ls", "two  words", "*", "it's"]
        out = said("safe_read.py", "printf", "<%s>\\n", *hard)
        assert [line.partition("<")[2] for line in out.splitlines()] == [f"{word}>" for word in hard]
        assert said("safe_read.py", "ps", "aux").splitlines()[0].split()[:3] == ["1", "USER", "PID"]
        assert said("safe_write.py", "grep", "-c", "-e", "[3-5]", stdin="1\n3\n4\n7\n") == "2\n"

    def test_programs_that_fail_are_failures(self):
        """perlipc:O3, O5"""
        done = run("safe_read.py", "sh", "-c", "echo some; exit 3")
        assert (done.returncode, done.stdout) == (1, "     1  some\n")
        assert "exited with code 3" in done.stderr
        done = run("safe_write.py", "true", stdin="x\n" * 1_000_000)
        assert done.returncode == 1
        assert done.stderr.startswith("whoops, true pipe broke")


class TestConversations:
    def test_both_ends_of_a_program(self):
        """perlipc:B1"""
        assert said("open2.py", "stuff", "nonsense") == "got back: 1\tstuff\ngot back: 2\tnonsense\n"

    def test_three_streams_without_a_loop(self):
        """perlipc:B2"""
        out = said("open3.py", "tr a-z A-Z; echo done >&2; exit 3", stdin="text\n")
        assert sorted(out.splitlines()) == ["exited with code 3", "stderr: done", "stdout: TEXT"]
        # More than any pipe holds, both ways at once.
        out = said("open3.py", "cat", stdin="line\n" * 200_000)
        assert out.count("stdout: line\n") == 200_000

    def test_a_terminal_makes_it_answer_at_once(self):
        """perlipc:B3, B4"""
        assert said("open_proc.py", 3) == "".join(f"got back      {n}\ta line\n" for n in (1, 2, 3))

    @pytest.mark.parametrize("script", ["pipe1.py", "pipe2.py"])
    def test_it_talks_with_itself(self, script):
        """perlipc:B5"""
        found = re.fullmatch(
            r"Parent Pid (\d+) just read this: Child Pid (\d+) is sending this, having read: "
            r"Parent Pid (\d+) is sending this\n",
            said(script),
        )
        assert found
        assert found[1] == found[3] != found[2]

    @pytest.mark.parametrize(
        "line",
        [
            "pipe1.py",
            "pipe2.py",
            "open2.py",
            "open_proc.py",
            "shm.py",
            "messages.py",
            "signames.py",
            "hang_up_group.py 2",
            "looks_dead.py 1",
            "reaper.py 6",
            "lock_in_time.py lock -- echo held",
            "netstat.py",
            "backticks.py",
            "safe_read.py ps",
            "diamond.py file",
            "background.py -- true",
        ],
    )
    def test_at_a_terminal_it_is_the_same(self, line, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_text("a line\n")
        child = at_terminal(*line.split())
        child.expect(EOF)
        child.close()
        assert child.exitstatus == 0
        assert child.before.strip()
        assert "Traceback" not in child.before

    @pytest.mark.parametrize(
        ("line", "shown"),
        [("spooler.py --to cat", 2), ("safe_write.py cat", 2), ("safe_file.py file", 1), ("open3.py cat", 2)],
    )
    def test_what_is_typed_is_its_input(self, line, shown, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        child = at_terminal(*line.split())
        child.sendline("typed")
        child.sendeof()
        child.expect(EOF)
        child.close()
        assert child.exitstatus == 0
        assert child.before.count("typed") == shown
        assert [path.read_text() for path in tmp_path.iterdir()] == ["typed\n"] * (2 - shown)


class TestSystemV:
    """perlipc:V1, V2, V3: with Perl's IPC::SysV on the other side."""

    def perl(self, program: str, *arguments: object) -> str:
        return subprocess.run(
            ["perl", "-MIPC::SysV=:all", "-e", program, *map(str, arguments)],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout  # fmt: skip

    @pytest.fixture
    def key(self) -> Iterator[int]:
        number = 0x4E500000 | os.getpid() & 0xFFFFF
        yield number
        run("semaphores.py", "--key", number, "--remove")

    def test_shared_memory(self):
        """perlipc:V1"""
        lines = said("shm.py", "Message #7").splitlines()
        assert lines[1:4] == ["wrote: b'Message #7'", "read : b'Message #7'", "swell"]
        number = lines[0].split()[-1]
        assert self.perl('print shmread(shift, $_, 0, 1) ? "there" : "gone"', number) == "gone"

    def test_a_taker_waits_until_somebody_gives(self, key):
        """perlipc:V2"""
        assert said("semaphores.py", "--key", key).startswith("sem id ")
        assert said("take.py", "--key", key) == "taken\n"
        done = run("take.py", "--key", key, "--timeout", "0.1")
        assert (done.returncode, done.stdout) == (1, "")
        with running("take.py", "--key", key) as waiting:
            sems = hp.sysv.SemaphoreSet.open(key)
            wait_until(lambda: sems[0].waiting_for_zero == 1, 20, "the second taker")
            assert said("give.py", "--key", key) == "given\n"
            assert waiting.wait(20) == 0
            assert waiting.stdout.read() == "taken\n"
        assert said("give.py", "--key", key) == "given\n"
        assert run("give.py", "--key", key).stderr == "nobody has taken it\n"

    def test_perl_takes_and_gives_of_the_same_set(self, key):
        """perlipc:V2: the page's own operations."""
        said("semaphores.py", "--key", key)
        take = 'semop(semget(shift, 0, 0) // die("get: $!"), pack "s!3s!3", 2, 0, 0, 2, 1, 0) or die "op: $!"'
        give = 'semop(semget(shift, 0, 0) // die("get: $!"), pack "s!3", 2, -1, 0) or die "op: $!"'
        self.perl(take, key)
        assert run("take.py", "--key", key, "--number", 2, "--timeout", "0").returncode == 1
        self.perl(give, key)
        assert said("take.py", "--key", key, "--number", 2, "--timeout", "0") == "taken\n"
        self.perl(give, key)
        assert run("give.py", "--key", key, "--number", 2).returncode == 1

    def test_without_a_set_it_says_so(self):
        done = run("take.py", "--key", 0x4E4F4E45)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1

    def test_messages(self):
        """perlipc:V3"""
        assert said("messages.py", "a message", "--type", 7) == "okay\n"
