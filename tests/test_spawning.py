"""How a program comes to life: what it is given, what it is not, and what is said when it cannot start."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import hornpipe as hp

LONGEST = 131_071
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run programs as somebody else")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="reads /proc")


@pytest.fixture(params=["alone", "contained"])
def bounds(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The options under which a program is started: by itself, or inside a containment."""
    return {"contain": True} if request.param == "contained" else {}


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def interpreter(source: str, *arguments: str, **options: Any) -> str:
    """What an interpreter of its own prints: for what would be a leak in this one."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(source), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def failure_of(command: Any) -> hp.SpawnError:
    with pytest.raises(hp.SpawnError) as caught:
        command.read()
    return caught.value


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestWhatCannotStart:
    """gotcha:SP1, SP2, perlipc:O4: the failure is raised where the program was started, and names what is missing."""

    def test_a_missing_program_is_named_with_the_path_that_was_searched(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP1, perlipc:O4."""
        error = failure_of(hp.cmd("no-such-program", "x", env={"PATH": "/nowhere:/bin"}, **bounds))
        assert isinstance(error, FileNotFoundError)
        assert (error.errno, error.filename, error.stage) == (errno.ENOENT, "no-such-program", "exec")
        assert "'no-such-program'" in str(error)
        assert "/nowhere:/bin" in str(error)
        assert error.argv == ("no-such-program", "x")

    @pytest.mark.parametrize("verb", ["run", "read", "capture", "lines", "reader", "writer", "duplex", "start"])
    def test_every_verb_notices_a_missing_program_at_once(self, verb: str, bounds: dict[str, Any]) -> None:
        """perlipc:O4: Perl notices only at the first write or close, by SIGPIPE."""
        with pytest.raises(FileNotFoundError, match="'/no/such/program'"):
            getattr(hp.cmd("/no/such/program", **bounds), verb)()

    def test_a_missing_program_in_a_pipeline_starts_none_of_the_stages(self) -> None:
        """gotcha:SP1: the first stage had started, and is ended and reaped (the leak watch looks)."""
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            (hp.cmd("sleep", "60") | hp.cmd("no-such-program")).run()

    def test_a_missing_interpreter_is_named_not_just_its_script(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """gotcha:SP2."""
        path = script(tmp_path / "script", "#!/no/such/interpreter -x\n")
        error = failure_of(hp.cmd(path, **bounds))
        assert isinstance(error, FileNotFoundError)
        assert error.filename == "/no/such/interpreter"
        assert repr(str(path)) in str(error)
        assert "'/no/such/interpreter'" in str(error)

    def test_a_carriage_return_after_the_interpreter_is_pointed_out(self, tmp_path: Path) -> None:
        """gotcha:SP2: the file came from a system with other line ends."""
        path = script(tmp_path / "script", "#!/bin/sh\r\necho x\r\n")
        assert "carriage return" in str(failure_of(hp.cmd(path)))

    def test_a_text_without_interpreter_line_is_not_run_by_a_shell(
        self, tmp_path: Path, bounds: dict[str, Any]
    ) -> None:
        """gotcha:SP2, perlipc:O13."""
        path = script(tmp_path / "text", f"touch {tmp_path}/proof\n")
        error = failure_of(hp.cmd(path, **bounds))
        assert error.errno == errno.ENOEXEC
        assert "#!" in str(error)
        assert str(path) in str(error)
        assert not (tmp_path / "proof").exists()

    def test_an_empty_file_is_no_program(self, tmp_path: Path) -> None:
        """gotcha:SP2."""
        assert failure_of(hp.cmd(script(tmp_path / "empty", ""))).errno == errno.ENOEXEC

    def test_a_directory_is_said_to_be_one(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """gotcha:SP2."""
        error = failure_of(hp.cmd(tmp_path, **bounds))
        assert isinstance(error, PermissionError)
        assert "is a directory" in str(error)

    def test_a_file_without_execute_permission_is_shown_with_its_mode(self, tmp_path: Path) -> None:
        """gotcha:SP2."""
        path = script(tmp_path / "script", "#!/bin/sh\n", 0o644)
        error = failure_of(hp.cmd(path))
        assert isinstance(error, PermissionError)
        assert "not executable (mode 0644)" in str(error)

    def test_a_dangling_link_is_named_with_what_it_points_to(self, tmp_path: Path) -> None:
        """gotcha:SP2."""
        (tmp_path / "link").symlink_to("gone")
        assert "a link to 'gone', which does not exist" in str(failure_of(hp.cmd(tmp_path / "link")))

    def test_a_path_through_a_file_is_no_path(self) -> None:
        """gotcha:SP2."""
        error = failure_of(hp.cmd("/etc/passwd/program"))
        assert isinstance(error, NotADirectoryError)
        assert "'/etc/passwd/program'" in str(error)

    @pytest.mark.parametrize(
        ("name", "kind", "words"),
        [
            ("gone", FileNotFoundError, "does not exist"),
            ("file", NotADirectoryError, "is not a directory"),
        ],
    )
    def test_a_wrong_working_directory_is_named_not_the_program(
        self, tmp_path: Path, bounds: dict[str, Any], name: str, kind: type[OSError], words: str
    ) -> None:
        """gotcha:SP1: a bad cwd once raised inside the child, and the caller's program ran twice."""
        (tmp_path / "file").touch()
        error = failure_of(hp.cmd("true", cwd=tmp_path / name, **bounds))
        assert isinstance(error, kind)
        assert error.stage == "cwd"
        assert error.filename == str(tmp_path / name)
        assert f"{str(tmp_path / name)!r} {words}" in str(error)

    def test_an_unknown_user_or_group_is_named(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP1."""
        with pytest.raises(hp.SpawnError, match="no user 'nobody-at-all'") as caught:
            hp.cmd("true", user="nobody-at-all", **bounds).run()
        assert caught.value.stage == "user"
        with pytest.raises(hp.SpawnError, match="no group 'no-such-group'"):
            hp.cmd("true", group="no-such-group", **bounds).run()

    @as_root
    def test_a_directory_that_another_user_may_not_enter_is_refused_with_his_name(
        self, tmp_path: Path, bounds: dict[str, Any]
    ) -> None:
        """gotcha:SP1."""
        closed = tmp_path / "closed"
        closed.mkdir(0o700)
        error = failure_of(hp.cmd("/bin/true", user="nobody", cwd=closed, **bounds))
        assert isinstance(error, PermissionError)
        assert "may not be entered as user 'nobody'" in str(error)

    @as_root
    def test_a_program_that_another_user_may_not_run_is_refused_with_his_name(self, tmp_path: Path) -> None:
        """gotcha:SP1."""
        path = script(tmp_path / "mine", "#!/bin/sh\n", 0o700)
        error = failure_of(hp.cmd(path, user="nobody"))
        assert isinstance(error, PermissionError)
        assert "as user 'nobody'" in str(error)

    def test_a_callable_whose_directory_is_missing_never_runs(self, tmp_path: Path) -> None:
        """gotcha:SP1, SP6: neither the callable nor the caller's code goes on in the child."""
        proof = tmp_path / "proof"
        with pytest.raises(FileNotFoundError, match="does not exist"):
            hp.fn(proof.touch).with_options(cwd=tmp_path / "gone").run()
        assert not proof.exists()

    def test_a_closed_descriptor_among_those_to_pass_is_named(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP1, R7."""
        error = failure_of(hp.cmd("true", pass_fds=[987], **bounds))
        assert error.errno == errno.EBADF
        assert "987" in str(error)

    def test_a_closed_descriptor_as_a_redirection_is_named(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP1."""
        with pytest.raises(OSError, match="987") as caught:
            hp.cmd("true", stdout=987, **bounds).run()
        assert caught.value.errno == errno.EBADF

    @pytest.mark.parametrize("verb", ["read", "writer", "duplex"])
    def test_a_closed_number_is_not_mistaken_for_the_pipe_that_takes_it(self, verb: str) -> None:
        """gotcha:R7: the child would hold its own stdin's write end, and never read an end of file."""
        free = [os.dup(0) for _ in range(6)]
        for fd in free:
            os.close(fd)
        made = None
        try:
            with pytest.raises(hp.SpawnError, match=f"descriptor {free[0]} "):
                made = getattr(hp.cmd("cat", pass_fds=free, timeout=2), verb)()
        finally:
            if hasattr(made, "close"):
                try:
                    made.close()
                except OSError:
                    pass

    @needs_proc
    @pytest.mark.parametrize("argv", [("/no/such/program",), ("true", "x" * (LONGEST + 1))], ids=["missing", "big"])
    def test_a_failure_that_is_kept_holds_no_descriptor(self, bounds: dict[str, Any], argv: tuple[str, ...]) -> None:
        """gotcha:SP1, R7: an error in a log or a list of results keeps its traceback alive."""
        failure_of(hp.cmd(*argv, **bounds))  # what is made once is made now
        before = set(os.listdir("/proc/self/fd"))
        kept = failure_of(hp.cmd(*argv, **bounds))
        assert set(os.listdir("/proc/self/fd")) <= before, kept.stage

    def test_a_limit_above_the_hard_one_is_named(self) -> None:
        """gotcha:SP1."""
        source = """
            import resource, os, hornpipe as hp
            hp.cmd  # loaded while Python's own files can still be read
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.setresgid(54321, 54321, 54321)
            os.setresuid(54321, 54321, 54321)
            try:
                hp.cmd("/bin/true", limits={"CORE": 100}).run()
            except hp.SpawnError as error:
                print(error)
        """
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        assert "limit CORE cannot be set to 100" in interpreter(source)


class TestWhatCannotBeMeant:
    """gotcha:SP4: refused before anything is started."""

    def test_a_command_needs_a_program(self) -> None:
        """gotcha:SP4."""
        with pytest.raises(TypeError):
            hp.cmd()  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="the program is empty"):
            hp.cmd("")
        with pytest.raises(ValueError, match="empty"):
            hp.sh(" ")

    @pytest.mark.parametrize("argument", ["a\0b", b"a\0b", Path("a\0b")])
    def test_a_nul_is_refused_with_its_place(self, argument: Any) -> None:
        """gotcha:SP4."""
        with pytest.raises(ValueError, match="argument 2 has a NUL"):
            hp.cmd("echo", "x", argument)
        with pytest.raises(ValueError, match="the program has a NUL"):
            hp.cmd(argument)

    def test_a_list_or_a_number_as_argument_is_refused_with_advice(self) -> None:
        """gotcha:SP4."""
        with pytest.raises(TypeError, match=r"cmd\(\*arguments\)"):
            hp.cmd(["echo", "x"])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"str\(3\)"):
            hp.cmd("sleep", 3)  # type: ignore[arg-type]

    def test_a_text_that_no_bytes_stand_for_is_refused_with_a_sentence(self) -> None:
        """gotcha:SP4: a lone surrogate that did not come from a byte."""
        with pytest.raises(ValueError, match="argument 1"):
            hp.cmd("echo", "\ud800").read()


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestSizes:
    """gotcha:SP4."""

    def test_the_longest_argument_arrives_whole(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP4."""
        assert hp.cmd("printf", "%s", "x" * LONGEST, **bounds).read() == "x" * LONGEST

    def test_one_byte_more_is_refused_with_its_place_and_size(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP4."""
        error = failure_of(hp.cmd("printf", "%s", "x" * (LONGEST + 1), **bounds))
        assert error.errno == errno.E2BIG
        assert "argument 2 has 131072 bytes" in str(error)
        assert "131071 at most" in str(error)

    def test_a_variable_too_long_is_named_but_not_shown(self) -> None:
        """gotcha:SP4, SP11: its value may be a secret."""
        error = failure_of(hp.cmd("true", env={"BIG": "x" * LONGEST}))
        assert error.errno == errno.E2BIG
        assert "BIG" in str(error)
        assert "xxx" not in str(error)

    def test_arguments_too_long_together_are_counted(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP4."""
        error = failure_of(hp.cmd("true", *["x" * 100_000] * 70, **bounds))
        assert error.errno == errno.E2BIG
        assert any(int(word) > 7_000_000 for word in str(error).split() if word.isdigit())

    def test_an_environment_too_long_is_counted_as_the_child_would_get_it(self) -> None:
        """gotcha:SP4, SP11."""
        error = failure_of(hp.cmd("true", env={f"V{number}": "x" * 100_000 for number in range(70)}))
        assert error.errno == errno.E2BIG
        total = str(error)[-200:]
        assert any(int(word) > 7_000_000 for word in total.split() if word.isdigit()), total


class TestExhaustion:
    """gotcha:SP5, and descriptors that have run out: in interpreters of their own."""

    @pytest.mark.parametrize("how", ["plain", "fed", "contained"])
    @pytest.mark.parametrize("pidfd", [False, True])
    def test_exhausted_descriptors_are_said_to_be_and_none_is_lost(self, how: str, pidfd: bool) -> None:
        """gotcha:SP1, R7: whichever step is the one that meets the limit."""
        source = """
            import os, resource, sys, hornpipe as hp
            from hornpipe import _native
            _native.use_pidfd(sys.argv[2] == "True")
            command = hp.cmd("printf", "x")
            if sys.argv[1] != "plain":
                command = hp.cmd("cat", input="x", contain=sys.argv[1] == "contained")
            command.capture()
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            taken = []
            while True:
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            refused = 0
            while True:
                before = sorted(os.listdir("/proc/self/fd")) if taken[-1] < 39 else None
                try:
                    assert command.capture().stdout == "x"
                    break
                except hp.SpawnError as error:
                    assert "RLIMIT_NOFILE is 40" in str(error), str(error)
                    assert command.argv[0] in str(error)
                    refused += 1
                if before is not None:
                    assert sorted(os.listdir("/proc/self/fd")) == before
                os.close(taken.pop())
                try:
                    os.waitpid(-1, os.WNOHANG)
                    raise SystemExit("a child is left")
                except ChildProcessError:
                    pass
            print(refused)
        """
        assert int(interpreter(source, how, str(pidfd))) >= 4

    BECOME = """
        import os, resource, signal, sys, time, hornpipe as hp
        from hornpipe import _native
        _native.use_pidfd(sys.argv[1] == "True")
        try:
            hp.cmd("/no/such/program").run()  # loads what is loaded late, while the files may be read
        except hp.SpawnError:
            pass
        uid = 2_000_000 + os.getpid()  # nobody else's processes count
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 1000))
    """

    @as_root
    @pytest.mark.parametrize("pidfd", [False, True])
    def test_a_system_without_room_is_asked_again_but_not_for_ever(self, pidfd: bool) -> None:
        """gotcha:SP5."""
        source = (
            self.BECOME
            + """
        begun = time.monotonic()
        try:
            hp.cmd("/bin/true").run()
        except BlockingIOError as error:
            assert isinstance(error, hp.SpawnError)
            print(error.stage, time.monotonic() - begun)
            assert "RLIMIT_NPROC is 0" in str(error)
        """
        )
        stage, seconds = interpreter(source, str(pidfd)).split()
        assert stage == "fork"
        assert 0.3 < float(seconds) < 20

    @as_root
    @pytest.mark.parametrize("pidfd", [False, True])
    def test_a_program_starts_when_room_appears_meanwhile(self, pidfd: bool) -> None:
        """gotcha:SP5: the handler runs while we wait for room."""
        source = (
            self.BECOME
            + """
        signal.signal(signal.SIGALRM, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000)))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        print(hp.cmd("/bin/echo", "room").read())
        """
        )
        assert interpreter(source, str(pidfd)).strip() == "room"

    @as_root
    def test_a_timeout_bounds_the_asking_too(self) -> None:
        """gotcha:SP5."""
        source = (
            self.BECOME
            + """
        def ask():
            begun = time.monotonic()
            try:
                hp.cmd("/bin/true", timeout=0.05).run()
            except (BlockingIOError, TimeoutError):
                return time.monotonic() - begun
        print(any(ask() < 0.25 for _ in range(20)))  # a busy machine may be late, but not each time
        """
        )
        assert interpreter(source, "True").strip() == "True"


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestWhereProgramsAreFound:
    """gotcha:SP3."""

    def test_a_working_directory_is_where_it_works(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """gotcha:SP3."""
        here = os.getcwd()
        assert hp.cmd("pwd", "-P", cwd=tmp_path, **bounds).read().strip() == str(tmp_path.resolve())
        assert os.getcwd() == here

    def test_a_relative_program_means_the_same_with_and_without_a_working_directory(
        self, tmp_path: Path, bounds: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gotcha:SP3: in plain Unix it would be looked for after chdir."""
        (tmp_path / "other").mkdir()
        script(tmp_path / "tool", "#!/bin/sh\necho ours\n")
        script(tmp_path / "other" / "tool", "#!/bin/sh\necho other\n")
        monkeypatch.chdir(tmp_path)
        assert hp.cmd("./tool", **bounds).read() == "ours\n"
        assert hp.cmd("./tool", cwd="other", **bounds).read() == "ours\n"

    def test_a_bare_name_is_looked_up_in_the_path_of_the_given_environment(
        self, tmp_path: Path, bounds: dict[str, Any]
    ) -> None:
        """gotcha:SP3."""
        script(tmp_path / "tool", "#!/bin/sh\necho found\n")
        assert hp.cmd("tool", env={"PATH": str(tmp_path)}, **bounds).read() == "found\n"
        with pytest.raises(FileNotFoundError):
            hp.cmd("tool", **bounds).run()
        with pytest.raises(FileNotFoundError):
            hp.cmd("ls", env={"PATH": str(tmp_path)}, **bounds).run()

    def test_the_path_of_this_moment_counts_not_that_of_the_description(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gotcha:SP3."""
        script(tmp_path / "tool", "#!/bin/sh\necho found\n")
        command = hp.cmd("tool")
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert command.read() == "found\n"

    @pytest.mark.parametrize("path", ["", ":/bin", "/bin:", "/bin::/usr/bin", "."])
    def test_an_empty_entry_is_our_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """gotcha:SP3."""
        script(tmp_path / "odd-tool", "#!/bin/sh\necho here\n")
        monkeypatch.chdir(tmp_path)
        assert hp.cmd("odd-tool", env={"PATH": path}).read() == "here\n"
        assert hp.cmd("odd-tool", env={"PATH": path}, cwd="/").read() == "here\n"

    @as_root
    @pytest.mark.parametrize("path", [":/bin", ".:/bin", "bin:/bin"])
    def test_an_empty_entry_is_nothing_where_privileges_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """gotcha:SP3: anybody may have put a program there."""
        (tmp_path / "bin").mkdir()
        script(tmp_path / "odd-tool", "#!/bin/sh\necho here\n")
        script(tmp_path / "bin" / "odd-tool", "#!/bin/sh\necho here\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match="no program 'odd-tool'"):
            hp.cmd("odd-tool", env={"PATH": path}, user="nobody").run()

    def test_what_may_not_be_executed_does_not_hide_what_comes_later(self, tmp_path: Path) -> None:
        """gotcha:SP3: as execvp(3) has it; a directory is no program either."""
        for name in ("a", "b", "c", "d"):
            (tmp_path / name).mkdir()
        script(tmp_path / "a" / "tool", "#!/bin/sh\n", 0o644)
        (tmp_path / "b" / "tool").mkdir()
        path = ":".join(str(tmp_path / name) for name in ("a", "b", "c", "d"))
        assert isinstance(failure_of(hp.cmd("tool", env={"PATH": path})), PermissionError)
        script(tmp_path / "d" / "tool", "#!/bin/sh\necho last\n")
        assert hp.cmd("tool", env={"PATH": path}).read() == "last\n"

    def test_a_path_that_is_unset_is_the_systems_own(self) -> None:
        """gotcha:SP3."""
        assert hp.cmd("echo", "x", env={"PATH": None}).read() == "x\n"

    def test_a_removed_current_directory_hinders_no_program_that_does_not_need_it(self, tmp_path: Path) -> None:
        """gotcha:SP3: a relative entry in PATH is then one that leads nowhere."""
        source = """
            import os, sys, hornpipe as hp
            os.mkdir(sys.argv[1])
            os.chdir(sys.argv[1])
            os.rmdir(sys.argv[1])
            print(hp.cmd("echo", "absolute").read(), end="")
            print(hp.cmd("echo", "empty entry", env={"PATH": "/bin::/usr/bin"}).read(), end="")
        """
        assert interpreter(source, str(tmp_path / "gone")) == "absolute\nempty entry\n"


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestArguments:
    """perlipc:O13, gotcha:SP4: no shell sees them."""

    ODD = (
        *("", " ", "a b", "'", '"', ";", "$(whoami)", "`id`", "*", "~", "\\", "\n", "\t", "-n", "--", "#"),
        *("é", "\udcff"),
    )

    def test_arguments_arrive_verbatim(self, bounds: dict[str, Any]) -> None:
        """perlipc:O13, gotcha:SP4."""
        assert hp.cmd("printf", r"%s\0", *self.ODD, **bounds).read() == "".join(f"{word}\0" for word in self.ODD)

    def test_bytes_and_paths_are_arguments_too(self) -> None:
        """perlipc:O13."""
        made = hp.cmd(b"printf", b"%s|%s", b"\xff\xfe", Path("/a b")).as_bytes().read()
        assert made == b"\xff\xfe|/a b"

    def test_a_name_with_blanks_is_one_program(self, tmp_path: Path) -> None:
        """perlipc:O13: nothing is split."""
        path = script(tmp_path / "two words;x", "#!/bin/sh\necho $#\n")
        assert hp.cmd(path, "a b").read() == "1\n"
        with pytest.raises(FileNotFoundError):
            hp.cmd("echo x").run()

    def test_the_line_of_a_command_can_be_pasted_into_sh(self) -> None:
        """perlipc:O13."""
        words = [word for word in self.ODD if word.isprintable()]
        command = hp.cmd("printf", r"%s\n", *words)
        pasted = subprocess.run(["sh", "-c", str(command)], capture_output=True, text=True, check=True).stdout
        assert pasted == command.read()

    def test_the_line_of_a_command_with_control_characters_can_be_pasted_into_bash(self) -> None:
        """perlipc:O13."""
        command = hp.cmd("printf", r"%s|", *self.ODD, "it's\x01f", b"\xff\xfe0", "a\\\n'b").as_bytes()
        pasted = subprocess.run(["bash", "-c", str(command)], capture_output=True, check=True).stdout
        assert pasted == command.read()

    def test_the_name_of_a_program_is_no_assignment_when_pasted(self, tmp_path: Path) -> None:
        """perlipc:O13: a shell takes a first word with ``=`` for a variable."""
        script(tmp_path / "A=b", "#!/bin/sh\necho ran\n")
        command = hp.cmd("A=b", "x", env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
        assert command.read() == "ran\n"
        env = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
        pasted = subprocess.run(["sh", "-c", str(command)], capture_output=True, text=True, check=False, env=env)
        assert pasted.stdout == "ran\n"

    @pytest.mark.parametrize("word", ["if", "for", "{", "!", "case"])
    def test_the_name_of_a_program_is_no_keyword_when_pasted(self, tmp_path: Path, word: str) -> None:
        """perlipc:O13."""
        script(tmp_path / word, "#!/bin/sh\necho ran\n")
        env = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
        line = str(hp.cmd(word))
        pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, env=env)
        assert pasted.stdout == "ran\n"


@needs_proc
@pytest.mark.usefixtures("with_and_without_pidfd")
class TestDescriptors:
    """gotcha:SP7, R7, perlipc:O13, O15."""

    def test_a_child_has_its_three_streams_and_nothing_else(self, bounds: dict[str, Any]) -> None:
        """gotcha:R7: ls itself opens the fourth; our own open one is not close-on-exec."""
        ours = os.open("/dev/null", os.O_RDONLY)
        try:
            os.set_inheritable(ours, True)
            assert hp.cmd("ls", "/proc/self/fd", **bounds).read().split() == ["0", "1", "2", "3"]
        finally:
            os.close(ours)

    def test_children_of_fifty_threads_see_only_their_own(self) -> None:
        """gotcha:R7: no pipe of another thread's child, in either direction."""
        seen: list[list[str]] = []
        gate = threading.Barrier(50)

        def work(number: int) -> None:
            gate.wait()
            for turn in range(3):
                command = hp.cmd("ls", "/proc/self/fd", input="x" if (number + turn) % 2 else None)
                seen.append((command.capture().stdout if number % 3 else command.read()).split())

        threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 150
        assert [one for one in seen if one != ["0", "1", "2", "3"]] == []

    def test_contained_children_of_many_threads_see_only_their_own(self) -> None:
        """gotcha:R7, SP9: they outlive nothing, and their thread's end ends none of them."""
        seen: list[list[str]] = []
        gate = threading.Barrier(10)

        def work() -> None:
            gate.wait()
            seen.append(hp.cmd("ls", "/proc/self/fd", contain=True).read().split())

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [["0", "1", "2", "3"]] * 10

    def test_a_child_outlives_the_thread_that_started_it(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP9: a death signal bound to the thread would have killed it."""
        made: list[Any] = []
        thread = threading.Thread(target=lambda: made.append(hp.cmd("cat", **bounds).duplex()))
        thread.start()
        thread.join()
        with made[0] as cat:
            assert cat.ask("still there?") == "still there?"

    def test_passed_descriptors_keep_their_numbers(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """gotcha:SP7: dup2(n, n) would have left them close-on-exec."""
        (tmp_path / "file").write_text("through the descriptor\n")
        with open(tmp_path / "file") as file:
            fd = file.fileno()
            assert hp.cmd("cat", f"/proc/self/fd/{fd}", pass_fds=[fd], **bounds).read() == "through the descriptor\n"
            assert not os.get_inheritable(fd)

    def test_numbers_of_parent_and_child_may_cross(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """gotcha:SP7: the streams come from descriptors that are passed on as well, in any order."""
        files = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT, 0o600) for name in "abcd"]
        try:
            line = "; ".join(f"echo {name} >&{fd}" for name, fd in zip("abcd", files, strict=True))
            command = hp.cmd(  # sh may know descriptors of one digit only
                "bash",
                "-c",
                line + "; echo out; echo err >&2",
                stdin=files[3],
                stdout=files[1],
                stderr=files[0],
                pass_fds=list(reversed(files)),
                **bounds,
            )
            command.run()
        finally:
            for fd in files:
                os.close(fd)
        assert [(tmp_path / name).read_text() for name in "abcd"] == ["a\nerr\n", "b\nout\n", "c\n", "d\n"]

    def test_stdout_and_stderr_can_change_places(self) -> None:
        """gotcha:SP7: 2 becomes 1 and 1 becomes 2."""
        source = """
            import hornpipe as hp
            hp.sh("echo to stdout; echo to stderr >&2", stdout=2, stderr=1).run()
        """
        done = subprocess.run([sys.executable, "-c", dedent(source)], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("to stderr\n", "to stdout\n")

    @pytest.mark.parametrize("contain", [False, True])
    @pytest.mark.parametrize("shut", ["0", "1", "2", "01", "02", "12", "012"])
    def test_a_parent_with_closed_streams_has_children_with_whole_ones(
        self, tmp_path: Path, shut: str, contain: bool
    ) -> None:
        """gotcha:SP7: new pipes get those very numbers."""
        source = """
            import os, sys
            for number in sys.argv[1]:
                os.close(int(number))
            import hornpipe as hp
            options = {"contain": sys.argv[3] == "True"}
            told = [
                hp.cmd("cat", input="fed", **options).read(),
                hp.cmd("cat", **options).read(),
                hp.cmd("sh", "-c", "cat; echo err >&2", input="both", **options).capture().stderr,
                (hp.cmd("echo", "piped") | hp.cmd("cat")).with_options(**options).read(),
                " ".join(sorted(hp.cmd("sh", "-c", "for n in 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo $n; done",
                    ok_codes=[0, 1], stdin=hp.NULL, stderr=hp.NULL, **options).read().split())),
            ]
            with hp.cmd("cat", **options).duplex() as cat:
                told.append(cat.ask("asked"))
            open(sys.argv[2], "w").write(repr(told))
        """
        result = tmp_path / "result"
        subprocess.run(
            [sys.executable, "-c", dedent(source), shut, str(result), str(contain)],
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=30,
        )
        assert result.read_text() == repr(["fed", "", "err\n", "piped\n", "", "asked"])

    @pytest.mark.parametrize("shut", ["0", "1", "2", "012"])
    def test_what_is_closed_in_the_parent_is_closed_in_a_child_that_inherits_it(
        self, tmp_path: Path, shut: str
    ) -> None:
        """gotcha:SP7: and it is no pipe of ours by accident."""
        source = """
            import os, sys
            for number in sys.argv[1]:
                os.close(int(number))
            import hornpipe as hp
            line = 'for n in 0 1 2; do test -e /proc/$$/fd/$n || printf $n >> "$0"; done; true'
            hp.cmd("sh", "-c", line, sys.argv[2]).run()
        """
        subprocess.run([sys.executable, "-c", dedent(source), shut, str(tmp_path / "result")], check=True, timeout=30)
        assert (tmp_path / "result").read_text() == shut

    @pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
    def test_a_stream_can_be_closed(self, tmp_path: Path, bounds: dict[str, Any], name: str) -> None:
        """perlipc:O15."""
        number = ("stdin", "stdout", "stderr").index(name)
        line = 'for n in 0 1 2; do test -e /proc/$$/fd/$n || printf $n >> "$0"; done; true'
        options: Any = {name: hp.CLOSED, **bounds}
        hp.cmd("sh", "-c", line, tmp_path / "result", **options).run()
        assert (tmp_path / "result").read_text() == str(number)

    def test_streams_go_to_files_by_path(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """perlipc:O15: written anew, not appended to."""
        (tmp_path / "in").write_text("content")
        (tmp_path / "out").write_text("a longer text than what is written")
        hp.sh(
            "cat; echo err >&2",
            stdin=tmp_path / "in",
            stdout=tmp_path / "out",
            stderr=tmp_path / "err",
            **bounds,
        ).run()
        assert (tmp_path / "out").read_text() == "content"
        assert (tmp_path / "err").read_text() == "err\n"

    def test_a_file_that_cannot_be_opened_for_a_stream_is_named(self, tmp_path: Path) -> None:
        """perlipc:O15, gotcha:SP1."""
        with pytest.raises(FileNotFoundError, match="no/such/file"):
            hp.cmd("cat", stdin=tmp_path / "no/such/file").run()

    def test_streams_go_to_descriptors_and_open_files(self, tmp_path: Path, bounds: dict[str, Any]) -> None:
        """perlipc:O15: where the file stands, at both ends."""
        with open(tmp_path / "out", "w") as out, open(os.devnull) as nothing:
            out.write("ours, ")
            out.flush()
            hp.cmd("sh", "-c", "cat; echo theirs", stdin=nothing, stdout=out, **bounds).run()
            hp.cmd("echo", "again", stdout=out.fileno(), **bounds).run()
            out.write("ours\n")
        assert (tmp_path / "out").read_text() == "ours, theirs\nagain\nours\n"

    def test_null_takes_everything_and_gives_nothing(self, bounds: dict[str, Any]) -> None:
        """perlipc:O15."""
        hp.sh("cat; echo x >&2", stdin=hp.NULL, stdout=hp.NULL, stderr=hp.NULL, **bounds).run()

    def test_stderr_goes_where_stdout_goes_in_the_order_of_writing(
        self, tmp_path: Path, bounds: dict[str, Any]
    ) -> None:
        """perlipc:O15."""
        line = "echo 1; echo 2 >&2; echo 3"
        assert hp.sh(line, stderr=hp.STDOUT, **bounds).read() == "1\n2\n3\n"
        hp.sh(line, stdout=tmp_path / "out", stderr=hp.STDOUT, **bounds).run()
        assert (tmp_path / "out").read_text() == "1\n2\n3\n"


@pytest.fixture
def deaf() -> Iterator[None]:
    """A parent that ignores, blocks and handles signals."""
    handlers = {
        number: signal.signal(number, what)
        for number, what in (
            (signal.SIGPIPE, signal.SIG_IGN),
            (signal.SIGUSR1, signal.SIG_IGN),
            (signal.SIGUSR2, lambda *_: None),
            (signal.SIGQUIT, signal.SIG_IGN),
            (signal.SIGRTMIN + 3, signal.SIG_IGN),
        )
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP, signal.SIGRTMAX])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@needs_proc
@pytest.mark.usefixtures("with_and_without_pidfd", "deaf")
class TestSignals:
    """gotcha:SIG5, SIG13, P2: a child hears everything, whatever its parent does."""

    @staticmethod
    def sets(status: str) -> dict[str, int]:
        pairs = (line.split(":") for line in status.splitlines() if line.startswith("Sig"))
        own = 1 << 31 | 1 << 32  # 32 and 33 belong to the C library
        return {name: int(value, 16) & ~own for name, value in pairs if name in ("SigBlk", "SigIgn", "SigCgt")}

    def test_a_program_starts_with_nothing_blocked_and_nothing_ignored(self, bounds: dict[str, Any]) -> None:
        """gotcha:SIG5, SIG13, P2."""
        status = hp.cmd("cat", "/proc/self/status", **bounds).read()
        assert self.sets(status) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}

    def test_so_does_every_stage_of_a_pipeline(self) -> None:
        """gotcha:SIG5, SIG13, P2."""
        status = (hp.cmd("true") | hp.cmd("cat", "/proc/self/status")).read()
        assert self.sets(status) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}

    @as_root
    def test_so_does_a_program_of_another_user(self) -> None:
        """gotcha:SIG5, SIG13."""
        status = hp.cmd("cat", "/proc/self/status", user="nobody").read()
        assert self.sets(status) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}

    def test_a_callable_starts_with_nothing_blocked_and_nothing_ignored(self) -> None:
        """gotcha:SIG5, SIG13, P2."""
        status = hp.fn(Path("/proc/self/status").read_text).call()
        assert self.sets(status) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}

    def test_the_parent_stays_as_it_was(self) -> None:
        """gotcha:SIG13."""

        def own_sets() -> dict[str, int]:
            # RTMAX bounds calls: the first that has to wait opens it, for good. Without a pidfd, any may be it.
            status = Path("/proc/thread-self/status").read_text()
            return {name: signals & ~(1 << signal.SIGRTMAX - 1) for name, signals in self.sets(status).items()}

        before = own_sets()
        hp.cmd("true").run()
        with pytest.raises(FileNotFoundError):
            hp.cmd("/no/such/program").run()
        assert own_sets() == before

    def test_yes_dies_in_silence_when_its_reader_had_enough(self) -> None:
        """gotcha:P2."""
        done = hp.sh("yes | head -n 1").capture()
        assert (done.stdout, done.stderr) == ("y\n", "")

    def test_a_blocked_term_ends_a_child_all_the_same(self, bounds: dict[str, Any]) -> None:
        """gotcha:SIG13."""
        process = hp.cmd("sleep", "60", **bounds).start()
        process.kill("TERM")
        assert process.wait().signal == signal.SIGTERM


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestEnvironment:
    """gotcha:SP11."""

    def environment(self, **options: Any) -> dict[bytes, bytes]:
        data = hp.cmd("/usr/bin/env", "-0", **options).as_bytes().read()
        return dict(entry.split(b"=", 1) for entry in data.split(b"\0") if entry)  # type: ignore[misc]

    def test_ours_is_inherited_as_it_is_at_the_start(
        self, bounds: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gotcha:SP11."""
        monkeypatch.setenv("ADDED", "late")
        made = self.environment(**bounds)
        for name in (b"LINES", b"COLUMNS"):  # C code, here readline, may have set them behind Python's back
            if name not in os.environb:
                made.pop(name, None)
        assert made == dict(os.environb)

    def test_variables_are_merged_and_unset(self, bounds: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """gotcha:SP11: merging and replacing are different wishes."""
        monkeypatch.setenv("OLD", "old")
        monkeypatch.setenv("KEPT", "kept")
        made = self.environment(env={"NEW": "new", "OLD": None, "EMPTY": "", "NEVER_THERE": None}, **bounds)
        expected = dict(os.environb) | {b"NEW": b"new", b"EMPTY": b""}
        del expected[b"OLD"]
        assert made == expected
        assert os.environ["OLD"] == "old"
        assert "NEW" not in os.environ

    def test_a_minimal_one_holds_what_is_harmless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """gotcha:SP11."""
        for name in ("LD_PRELOAD_X", "PYTHONPATH", "IFS", "BASH_ENV", "SECRET"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("LC_ALL", "C")
        made = self.environment(env_base="minimal", env={"OWN": "1"})
        assert made[b"LC_ALL"] == b"C"
        assert made[b"OWN"] == b"1"
        assert made[b"PATH"].endswith(b"/bin")
        allowed = {b"OWN", b"PATH", b"HOME", b"USER", b"LOGNAME", b"LANG", b"LANGUAGE", b"TZ", b"TERM", b"COLUMNS"}
        assert {name for name in made if not name.startswith(b"LC_")} <= allowed | {b"LINES"}

    def test_bytes_that_are_no_text_pass_in_names_and_values(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP11."""
        made = self.environment(env={b"N\xff": b"\xfe\xfd", "T": "\udcff"}, **bounds)
        assert (made[b"N\xff"], made[b"T"]) == (b"\xfe\xfd", b"\xff")

    def test_undecodable_variables_of_ours_are_inherited(self) -> None:
        """gotcha:SP11."""
        source = """
            import hornpipe as hp
            command = hp.cmd("printenv", b"N\\xff").as_bytes()
            print(command.read(), command.with_options(env={"A": "1"}).read())
        """
        assert interpreter(source, env={**os.environb, b"N\xff": b"\xfe"}) == "b'\\xfe\\n' b'\\xfe\\n'\n"

    def test_a_value_may_be_a_path_or_hold_an_equals_sign_and_lines(self, tmp_path: Path) -> None:
        """gotcha:SP11."""
        made = self.environment(env={"P": tmp_path, "E": "a=b\nc"})
        assert (made[b"P"], made[b"E"]) == (os.fsencode(tmp_path), b"a=b\nc")

    def test_a_callable_sees_it_too(self) -> None:
        """gotcha:SP11."""
        assert hp.fn(os.environ.get, "ADDED").with_options(env={"ADDED": "x"}).call() == "x"
        assert "ADDED" not in os.environ


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestCircumstances:
    """Umask, limits, session."""

    def test_a_umask_is_the_childs_alone(self, bounds: dict[str, Any]) -> None:
        """perlipc:O15."""
        assert hp.sh("umask", umask=0o027, **bounds).read().strip() == "0027"
        assert hp.sh("umask", umask=0, **bounds).read().strip() == "0000"

    def test_limits_are_the_childs_alone(self, bounds: dict[str, Any]) -> None:
        """perlipc:O15."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        made = hp.sh("ulimit -Sn; ulimit -Hn; ulimit -Sc", limits={"NOFILE": (64, 128), "CORE": 0}, **bounds).read()
        assert made.split() == ["64", "128", "0"]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

    def test_a_new_session_is_the_childs_own(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP10."""
        pid, session = hp.sh("cut -d' ' -f1,6 /proc/$$/stat; exit", new_session=True, **bounds).read().split()
        assert pid == session
        assert session != str(os.getsid(0))

    def test_a_status_says_code_or_signal_never_a_mix(self, bounds: dict[str, Any]) -> None:
        """gotcha:SP8, perlipc:O3."""
        status = hp.sh("exit 137", check=False, **bounds).run()
        assert (status.code, status.signal) == (137, None)
        status = hp.sh("kill -KILL $$", check=False, **bounds).run()
        assert (status.code, status.signal) == (None, signal.SIGKILL)
        assert status.raw & 0x7F == 9
        assert hp.sh("exit 256", check=False, **bounds).run()

    def test_a_failure_is_raised_with_its_status(self, bounds: dict[str, Any]) -> None:
        """perlipc:O3."""
        with pytest.raises(hp.CommandFailed) as caught:
            hp.sh("exit 3", **bounds).run()
        assert caught.value.status.code == 3
        assert caught.value.status.raw == 3 << 8


class TestForkedCallables:
    """gotcha:SP6: a child never walks on in the caller's code."""

    def test_exit_handlers_and_unflushed_output_stay_the_parents(self) -> None:
        """gotcha:SP6."""
        source = """
            import atexit, sys, hornpipe as hp
            atexit.register(print, "at exit")
            sys.stdout.write("once\\n")
            kept = open("/dev/stdout", "w")
            kept.write("kept\\n")
            hp.fn(print, "child").run()
            hp.fn(sys.exit, 0).run()
            assert hp.fn(lambda: 1 / 0).with_options(check=False, stderr=hp.NULL).run().code == 1
        """
        lines = interpreter(source).split("\n")
        assert sorted(filter(None, lines)) == ["at exit", "child", "kept", "once"]

    def test_a_program_that_cannot_start_runs_nothing_of_the_caller_twice(self) -> None:
        """gotcha:SP1, SP6."""
        source = """
            import atexit, hornpipe as hp
            atexit.register(print, "at exit")
            for options in {}, {"cwd": "/no/such/directory"}, {"contain": True}:
                try:
                    hp.cmd("/no/such/program", **options).run()
                except FileNotFoundError:
                    print("refused")
        """
        assert interpreter(source) == "refused\n" * 3 + "at exit\n"
