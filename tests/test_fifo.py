"""Named pipes, with real readers and writers in Perl and shell at the other end."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at, read_proc, wait_gone

SOAK = bool(os.environ.get("HORNPIPE_SOAK"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pipe"


@contextlib.contextmanager
def running(*argv, **options):
    """A program that a failing test does not wait for."""
    options = {"stdin": subprocess.DEVNULL, "text": True, **options}
    with subprocess.Popen([word if isinstance(word, str) else os.fspath(word) for word in argv], **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def perl(program, *arguments, **options):
    return running("perl", "-e", program, *arguments, **options)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def make_file(path):
    path.write_text("precious\n")


def make_folder(path):
    path.mkdir()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_link_to_fifo(path):
    os.mkfifo(f"{path}.real")
    path.symlink_to(f"{path}.real")


def make_link_to_file(path):
    Path(f"{path}.real").write_text("precious\n")
    path.symlink_to(f"{path}.real")


def make_dangling_link(path):
    path.symlink_to("nowhere")


OTHERS = [
    (make_file, "a file"),
    (make_folder, "a directory"),
    (make_socket, "a socket"),
    (make_link_to_fifo, "a symlink"),
    (make_link_to_file, "a symlink"),
    (make_dangling_link, "a symlink"),
]
every_other = pytest.mark.parametrize(("make", "words"), OTHERS, ids=[make.__name__[5:] for make, _ in OTHERS])


def put_in_place(make, path):
    """Something else where a FIFO stands that its server would put back."""
    other = path.with_name("other")
    make(other)
    while True:
        try:
            other.rename(path)
            return
        except NotADirectoryError:  # only a directory cannot take the place at once
            path.unlink()


class TestTheName:
    """perlipc:F1, gotcha:FI6."""

    @pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
    @pytest.mark.parametrize("mode", [0o600, 0o622, 0o666, 0o640, 0])
    def test_its_mode_is_what_was_asked_for(self, path, umask, mode):
        """gotcha:FI6"""
        before = os.umask(umask)
        try:
            with hp.Fifo(path, mode):
                assert mode_of(path) == mode
                assert hp.is_fifo(path)
        finally:
            os.umask(before)
        assert os.listdir(path.parent) == []

    def test_perl_takes_it_for_a_fifo(self, path):
        """perlipc:F1"""
        with hp.Fifo(path):
            assert hp.cmd("perl", "-e", "print -p $ARGV[0] ? 'yes' : 'no'", path).read() == "yes"

    def test_is_fifo_is_perls_p(self, tmp_path):
        """perlipc:F1"""
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "link").symlink_to("fifo")
        (tmp_path / "dangling").symlink_to("nowhere")
        make_file(tmp_path / "file")
        make_socket(tmp_path / "socket")
        paths = [tmp_path / name for name in ("fifo", "link", "dangling", "file", "socket", "none", "file/below")]
        paths += [tmp_path, Path("/dev/null")]
        perls = hp.cmd("perl", "-e", "print -p $_ ? 1 : 0 for @ARGV", *paths).read()
        assert "".join(str(int(hp.is_fifo(each))) for each in paths) == perls == "110000000"

    def test_one_that_is_there_is_used_as_it_is_and_stays(self, path):
        """gotcha:FI6"""
        os.mkfifo(path)
        os.chmod(path, 0o640)
        there = os.lstat(path)
        with hp.Fifo(path, 0o600) as fifo:
            assert fifo.create() is False
        assert os.lstat(path).st_ino == there.st_ino
        assert mode_of(path) == 0o640

    @every_other
    def test_anything_else_is_a_clear_error_and_stays(self, path, make, words):
        """gotcha:FI6"""
        make(path)
        before = os.lstat(path)
        with pytest.raises(FileExistsError, match=f"{words} .*not a FIFO.*{path.name}"), hp.Fifo(path):
            pass
        after = os.lstat(path)
        assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)

    @every_other
    @pytest.mark.parametrize("end", ["reader", "writer", "persistent"])
    def test_neither_end_opens_anything_else(self, path, make, words, end):
        """gotcha:FI6, gotcha:PR5"""
        make(path)
        fifo = hp.Fifo(path)
        with pytest.raises(FileExistsError, match=f"{words} is there, not a FIFO"):
            if end == "writer":
                fifo.writer(timeout=0.2)
            else:
                fifo.reader(timeout=0.2, persistent=end == "persistent")

    @pytest.mark.parametrize("end", ["reader", "writer", "persistent"])
    def test_neither_end_makes_one(self, path, end):
        fifo = hp.Fifo(path)
        with pytest.raises(FileNotFoundError):
            if end == "writer":
                fifo.writer(timeout=0.2)
            else:
                fifo.reader(timeout=0.2, persistent=end == "persistent")

    def test_it_is_removed_although_the_directory_is_another_one_by_now(self, tmp_path, monkeypatch):
        """gotcha:DM3"""
        monkeypatch.chdir(tmp_path)
        with hp.Fifo("pipe"):
            monkeypatch.chdir("/")
            assert (tmp_path / "pipe").is_fifo()
        assert not (tmp_path / "pipe").exists()

    def test_an_empty_name_is_none(self):
        with pytest.raises(FileNotFoundError) as caught:
            hp.Fifo("").create()
        assert caught.value.filename == ""

    def test_what_came_in_its_place_is_not_removed(self, path):
        """gotcha:FI6"""
        with hp.Fifo(path):
            path.unlink()
            make_file(path)
        assert path.read_text() == "precious\n"

    def test_another_ones_fifo_in_its_place_is_not_removed(self, path):
        """gotcha:FI6"""
        with hp.Fifo(path) as fifo:
            os.rename(path, f"{path}.old")  # kept, so that its number is not given out again
            os.mkfifo(path)
            assert fifo.remove() is False
        assert hp.is_fifo(path)

    @pytest.mark.parametrize("redirection", ["<", ">"])
    def test_who_waits_for_its_other_end_waits_no_more(self, path, redirection):
        """gotcha:FI1"""
        fifo = hp.Fifo(path)
        fifo.create()
        line = f'echo ready; : {redirection}"$1"; echo on'
        with running("sh", "-c", line, "sh", path, stdout=subprocess.PIPE) as shell:
            assert shell.stdout.readline() == "ready\n"
            # In its next system call but the open, it would not sleep.
            wait_until(lambda: look_at(shell.pid).state == "S", what="the shell's open")
            fifo.remove()
            assert shell.communicate(timeout=20)[0] == "on\n"

    def test_a_forked_child_neither_removes_it_nor_closes_what_has_its_number_by_now(self, path):
        """gotcha:FI6: in a child of fn() the descriptor by which it is known again has been closed."""

        def child():
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
            removed = fifo.remove()
            with contextlib.suppress(hp.ReaderGone):
                fifo.serve(lambda: "from the child", readers=1, timeout=20)
            return removed, [fd for fd in others if not os.path.exists(f"/proc/self/fd/{fd}")]

        with hp.Fifo(path) as fifo:
            with perl('open(my $in, "<", $ARGV[0]); print <$in>', path, stdout=subprocess.PIPE) as reader:
                assert hp.fn(child).call() == (False, [])
                assert reader.stdout.read() == "from the child"
            assert hp.is_fifo(path)

    def test_one_that_somebody_removed_is_no_error(self, path):
        with hp.Fifo(path) as fifo:
            path.unlink()
        assert fifo.remove() is False

    def test_many_who_make_it_at_once_make_one(self, path):
        """gotcha:FI6: and exactly one of them removes it."""
        program = """
import sys, hornpipe as hp
fifo = hp.Fifo(sys.argv[1])
print(fifo.create(), flush=True)
sys.stdin.read()
fifo.remove()
"""
        with contextlib.ExitStack() as stack:
            makers = [
                stack.enter_context(
                    running(sys.executable, "-c", program, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                for _ in range(8)
            ]
            assert Counter(maker.stdout.readline() for maker in makers) == {"True\n": 1, "False\n": 7}
            assert os.listdir(path.parent) == [path.name]
            for maker in makers:
                maker.stdin.close()
        assert os.listdir(path.parent) == []

    @pytest.mark.parametrize("mode", [-1, 0o1000, 0o10644])
    def test_a_mode_that_is_none_is_refused(self, path, mode):
        with pytest.raises(ValueError, match="mode"):
            hp.Fifo(path, mode)


class TestOpening:
    """perlipc:F3, gotcha:FI1."""

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_the_timeout_holds(self, path, end):
        """perlipc:F3"""
        with hp.Fifo(path) as fifo:
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=rf"nobody opened {path} for (reading|writing) within 0\.3 s"):
                getattr(fifo, end)(timeout=0.3)
            assert 0.29 < time.monotonic() - began < 20

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_waiting_costs_next_to_nothing(self, path, end):
        """perlipc:F3, gotcha:FI2: the kernel holds us; a loop of looks would show as time or as switches."""
        with hp.Fifo(path) as fifo:
            before = resource.getrusage(resource.RUSAGE_THREAD)
            with pytest.raises(TimeoutError):
                getattr(fifo, end)(timeout=0.5)
            after = resource.getrusage(resource.RUSAGE_THREAD)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.05
        assert after.ru_nvcsw - before.ru_nvcsw < 10

    def test_a_reader_gets_what_perl_writes(self, path):
        """perlipc:F3"""
        program = 'open(my $out, ">", $ARGV[0]) or die; print $out "from perl\\n"; close $out or die'
        with hp.Fifo(path) as fifo, perl(program, path), fifo.reader(timeout=20) as reader:
            assert list(reader) == ["from perl\n"]

    def test_a_writer_feeds_what_perl_reads(self, path):
        """perlipc:F3"""
        with (
            hp.Fifo(path) as fifo,
            perl('open(my $in, "<", $ARGV[0]) or die; print <$in>', path, stdout=subprocess.PIPE) as reader,
        ):
            with fifo.writer(timeout=20) as writer:
                print("to perl", file=writer)
            assert reader.stdout.read() == "to perl\n"

    @pytest.mark.parametrize("who", ["reader", "writer"])
    def test_a_shells_redirection_meets_us(self, path, who):
        """perlipc:F3"""
        with hp.Fifo(path) as fifo:
            if who == "reader":
                with running("sh", "-c", 'echo shell >"$1"', "sh", path), fifo.reader(timeout=20) as reader:
                    assert reader.read() == "shell\n"
            else:
                with running("sh", "-c", 'cat <"$1"', "sh", path, stdout=subprocess.PIPE) as shell:
                    with fifo.writer(timeout=20) as writer:
                        writer.write("shell\n")
                    assert shell.stdout.read() == "shell\n"

    def test_there_is_no_end_before_the_first_writer(self, path):
        """gotcha:FI1"""
        with hp.Fifo(path) as fifo:
            feeding = threading.Timer(0.05, lambda: path.write_text("late\n"))
            feeding.start()
            with fifo.reader(timeout=20) as reader:
                assert reader.read() == "late\n"
            feeding.join()

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_a_signal_is_handled_while_it_waits_and_the_wait_goes_on(self, path, end):
        """perlipc:S13"""
        handled, other = [], []

        def poke_and_open():
            wait_until(lambda: look_at(os.getpid()).state == "S", what="the wait")
            os.kill(os.getpid(), signal.SIGUSR1)
            # Only then does the other end come.
            wait_until(lambda: handled, what="the handler")
            other.append(os.open(path, os.O_RDWR))

        with hp.Fifo(path) as fifo, hp.SIG.local(USR1=handled.append):
            poke = threading.Thread(target=poke_and_open)
            poke.start()
            getattr(fifo, end)(timeout=40).close()
            poke.join()
            os.close(other[0])
            assert len(handled) == 1
            # And what is left of the time is all that it goes on for.
            poke = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
            poke.start()
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                getattr(fifo, end)(timeout=0.4)
            assert 0.39 < time.monotonic() - began < 20
            poke.join()

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_what_a_handler_raises_ends_the_wait(self, path, end):
        """perlipc:S9"""
        with hp.Fifo(path) as fifo, pytest.raises(TimeoutError), hp.alarm(0.2):
            getattr(fifo, end)()

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_zero_tries_once(self, path, end):
        """Somebody who is there already is met; nobody is waited for."""
        with hp.Fifo(path) as fifo:
            with pytest.raises(TimeoutError):
                getattr(fifo, end)(timeout=0)
            other = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # both ends
            try:
                for _ in range(100):
                    getattr(fifo, end)(timeout=0).close()
            finally:
                os.close(other)

    def test_the_ends_are_close_on_exec_and_above_stdio(self, path):
        """gotcha:R8, gotcha:SP7"""
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader, fifo.writer(timeout=30) as writer:
            for end in (reader, writer):
                assert end.fileno() > 2
                assert not os.get_inheritable(end.fileno())

    def test_bytes_are_bytes(self, path):
        raw = bytes(range(256)) * 300
        with (
            hp.Fifo(path).as_bytes() as fifo,
            running("sh", "-c", 'cat <"$1"', "sh", path, stdout=-1, text=False) as cat,
        ):
            with fifo.writer(timeout=20) as writer:
                writer.write(raw)
            assert cat.stdout.read() == raw

    def test_a_path_of_bytes_and_a_relative_one_will_do(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for path in (b"caf\xe9", "plain"):
            with hp.Fifo(path):
                assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(path)]


class TestReading:
    """gotcha:FI2."""

    def test_the_end_comes_when_the_last_writer_has_left(self, path):
        """gotcha:FI2"""
        with hp.Fifo(path) as fifo:
            line = "sh -c 'echo first; sleep 0.1; echo last' >\"$0\""
            with running("sh", "-c", line, path), fifo.reader(timeout=20) as reader:
                assert list(reader) == ["first\n", "last\n"]
                assert reader.read() == ""

    def test_a_persistent_one_sees_writers_come_and_go(self, path):
        """gotcha:FI2"""
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader:
            for n in range(20):
                subprocess.run(["sh", "-c", f'echo {n} >"$1"', "sh", path], check=True, timeout=20)
                assert reader.readline() == f"{n}\n"

    def test_a_persistent_one_waits_without_a_turn_of_a_loop(self, path):
        """gotcha:FI2: after the writers have gone, poll would say HUP again and again."""
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader:
            subprocess.run(["sh", "-c", 'echo x >"$1"', "sh", path], check=True, timeout=20)
            assert reader.readline() == "x\n"
            before = resource.getrusage(resource.RUSAGE_THREAD)
            with pytest.raises(TimeoutError), hp.alarm(0.5):
                reader.readline()
            after = resource.getrusage(resource.RUSAGE_THREAD)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.02
        assert after.ru_nvcsw - before.ru_nvcsw < 10

    def test_a_persistent_one_waits_for_nobody_when_it_opens(self, path):
        """gotcha:FI1"""
        with hp.Fifo(path) as fifo, fifo.reader(timeout=0, persistent=True) as reader:
            subprocess.run(["sh", "-c", 'echo x >"$1"', "sh", path], check=True, timeout=20)
            assert reader.readline() == "x\n"

    def test_a_readers_poll_is_silent_until_there_is_something(self, path):
        """gotcha:FI2"""
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader:
            poll = select.poll()
            poll.register(reader, select.POLLIN)
            assert poll.poll(0) == []
            with fifo.writer(timeout=30) as writer:
                writer.write("x\n")
            assert poll.poll(30_000) == [(reader.fileno(), select.POLLIN)]


class TestWriting:
    """gotcha:FI4, gotcha:FI5."""

    def test_a_reader_that_has_left_is_an_error_that_counts(self, path):
        """gotcha:FI4"""
        with hp.Fifo(path) as fifo:
            with running("sh", "-c", 'head -n 1 <"$1"', "sh", path, stdout=subprocess.PIPE) as head:
                writer = fifo.writer(timeout=20)
                with pytest.raises(BrokenPipeError) as caught:
                    while True:
                        writer.write("line\n" * 1000)
                assert head.stdout.read() == "line\n"
            assert 0 < caught.value.taken == writer.taken
            assert str(path) in str(caught.value)
            with contextlib.suppress(BrokenPipeError):
                writer.close()

    def test_records_of_many_writers_are_never_torn(self, path):
        """gotcha:FI5: four processes, records of every length up to the limit."""
        program = """
import sys, hornpipe as hp
letter, path, count = sys.argv[1:]
with hp.Fifo(path).writer(timeout=30) as writer:
    for n in range(int(count)):
        size = 4096 - n % 7 * 500
        writer.record(letter * (size - 1) + "\\n")
"""
        count = 3000 if SOAK else 300
        with contextlib.ExitStack() as stack:
            fifo = stack.enter_context(hp.Fifo(path))
            reader = stack.enter_context(fifo.reader(persistent=True))
            for letter in "abcd":
                stack.enter_context(running(sys.executable, "-c", program, letter, path, str(count)))
            seen: Counter[str] = Counter()
            sizes = {4096 - n * 500 for n in range(7)}
            for _ in range(4 * count):
                line = reader.readline()
                assert set(line) == {line[0], "\n"}
                assert len(line) in sizes
                seen[line[0]] += 1
        assert seen == dict.fromkeys("abcd", count)

    def test_a_record_of_the_limit_goes_and_one_byte_more_is_refused(self, path):
        """gotcha:FI5"""
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader, fifo.writer(timeout=30) as writer:
            writer.record("x" * 4095 + "\n")
            assert len(reader.readline()) == 4096
            with pytest.raises(ValueError, match=r"4097 bytes.* 4096 "):
                writer.record("x" * 4096 + "\n")
            with pytest.raises(ValueError, match=r"4098 bytes"):
                writer.record("\N{MUSICAL SYMBOL G CLEF}" * 1024 + "é")  # bytes count, not characters
            assert writer.taken == 4096

    def test_a_record_comes_after_what_was_written_before(self, path):
        with hp.Fifo(path) as fifo, fifo.reader(persistent=True) as reader, fifo.writer(timeout=30) as writer:
            writer.write("first\n")
            writer.record("second\n")
            assert [reader.readline(), reader.readline()] == ["first\n", "second\n"]


class TestAsking:
    """perlipc:F3: one FIFO there and another back."""

    @pytest.fixture
    def both(self, tmp_path):
        """The FIFOs, with nobody at their other ends."""
        with hp.Fifo(tmp_path / "there") as there, hp.Fifo(tmp_path / "back") as back:
            yield there, back

    @pytest.fixture
    def ends(self, both):
        """Both ends of both, in this process."""
        there, back = both
        with (
            there.reader(persistent=True) as asked,
            there.writer(timeout=5) as to,
            back.reader(persistent=True) as answers,
            back.writer(timeout=5) as answer,
        ):
            yield asked, to, answers, answer

    @pytest.mark.parametrize("kind", [str, bytes])
    def test_each_question_has_its_answer(self, both, kind):
        program = r"""
            open(my $in, "<", $ARGV[0]) or die; open(my $out, ">", $ARGV[1]) or die; $out->autoflush(1);
            while (<$in>) { tr/a-z/A-Z/; s/\n/\r\n/ if /CRLF/; print $out $_; }
        """
        there, back = (fifo if kind is str else fifo.as_bytes() for fifo in both)
        questions = ["one", "two\n", "three crlf", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "", "x" * 4000]
        with perl(program, there.path, back.path), there.writer(timeout=20) as to, back.reader(timeout=20) as answers:
            for question in questions * 3:
                wanted = "".join(letter.upper() if letter.isascii() else letter for letter in question.rstrip("\n"))
                asked, wanted = (question, wanted) if kind is str else (question.encode(), wanted.encode())
                assert to.ask(asked, answers) == wanted
            # What was written before comes first, and is answered first.
            to.write("a" if kind is str else b"a")
            assert to.ask("b" if kind is str else b"b", answers) in ("AB", b"AB")

    def test_a_question_is_a_record(self, ends):
        """gotcha:FI5: a longer one is refused, and nothing has been written."""
        asked, to, answers, answer = ends
        answer.record("yes\n")
        assert to.ask("x" * 4095, answers) == "yes"
        assert asked.readline() == "x" * 4095 + "\n"
        with pytest.raises(ValueError, match="4097 bytes"):
            to.ask("x" * 4096, answers)
        assert to.taken == 4096

    def test_an_answer_that_is_late_is_an_error_and_still_to_be_had(self, ends):
        asked, to, answers, answer = ends
        answer.record("begun, ")
        with pytest.raises(TimeoutError, match="back"):
            to.ask("anybody?", answers, timeout=0.05)
        assert asked.readline() == "anybody?\n"
        answer.record("and done\n")
        assert answers.readline() == "begun, and done\n"
        answer.record("again\n")
        assert to.ask("again?", answers, timeout=20) == "again"

    def test_a_question_that_nobody_takes_is_late_as_well_and_is_not_torn(self, ends):
        """gotcha:FI5"""
        asked, to, answers, answer = ends
        count = 0
        with contextlib.suppress(BlockingIOError):
            while os.write(to.fileno(), b"x" * 4095 + b"\n"):
                count += 1
        with pytest.raises(TimeoutError, match="there"):
            to.ask("anybody?", answers, timeout=0.05)
        assert {asked.readline() for _ in range(count)} == {"x" * 4095 + "\n"}
        answer.record("yes\n")
        assert to.ask("now?", answers, timeout=20) == "yes"
        assert asked.readline() == "now?\n"

    def test_nobody_to_answer_is_the_end_of_it(self, both):
        there, back = both
        with (
            there.reader(persistent=True),
            there.writer() as to,
            running("sh", "-c", 'printf half >"$1"', "", back.path),
            back.reader(timeout=20) as answers,
        ):
            with pytest.raises(EOFError, match=r"'anybody\?' has no answer") as caught:
                to.ask("anybody?", answers)
            assert caught.value.read == "half"

    def test_nobody_to_ask_is_a_broken_pipe(self, ends):
        """gotcha:FI4"""
        asked, to, answers, _ = ends
        asked.close()
        with pytest.raises(BrokenPipeError, match="there"):
            to.ask("anybody?", answers)

    @pytest.mark.parametrize("which", [1, 2])
    def test_a_closed_end_is_an_error_that_names_it(self, ends, which):
        ends[which].close()
        with pytest.raises(ValueError, match=["there", "back"][which - 1] + " is closed"):
            ends[1].ask("anybody?", ends[2])


ANSWER = re.compile(r"answer (\d+)\n")


class Server:
    """A process that answers each reader with its number; what it was told to do about the end comes after."""

    PROGRAM = """
import itertools, sys, hornpipe as hp
numbers = itertools.count(1)
size = int(sys.argv[2])
def make():
    number = next(numbers)
    return f"answer {number}\\n" + "x" * size
try:
    with hp.Fifo(sys.argv[1]) as fifo:
        print("up", flush=True)
        fifo.serve(make, replace="replace" in sys.argv)
except KeyboardInterrupt:
    pass
finally:
    print(next(numbers) - 1, flush=True)
"""

    def __init__(self, path, size=0, *options):
        self._argv = [sys.executable, "-c", self.PROGRAM, str(path), str(size), *options]
        self.made = None

    def __enter__(self):
        self.process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"
        return self

    def stop(self):
        """Ask it to end by INT, as Ctrl-C does; how many answers it made."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        assert err == ""
        return int(out)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def read_with(reader, path):
    argv = {
        "cat": ["cat", path],
        "perl": ["perl", "-e", 'open(my $in, "<", $ARGV[0]) or die; print <$in>', path],
        "shell": ["sh", "-c", 'cat <"$1"', "sh", path],
    }[reader]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=20, check=True).stdout


class TestServing:
    """perlipc:F2."""

    @pytest.mark.parametrize("reader", ["cat", "perl", "shell", "open"])
    def test_readers_in_a_row_get_one_whole_fresh_answer_each(self, path, reader):
        """perlipc:F2, gotcha:FI3: and nobody sleeps two seconds."""
        count = 2000 if SOAK else 500 if reader in {"cat", "open"} else 100
        with Server(path) as server:
            if reader == "open":
                answers = [path.read_text() for _ in range(count)]
            elif reader == "cat":
                # One after another in one shell: no process of ours in between gives the server time.
                line = 'n=0; while [ $n -lt "$2" ]; do cat "$1"; echo; n=$((n+1)); done'
                shell = subprocess.run(
                    ["sh", "-c", line, "sh", path, str(count)], stdout=subprocess.PIPE, text=True, timeout=50
                )
                answers = shell.stdout.removesuffix("\n\n").split("\n\n")
                answers = [answer + "\n" for answer in answers]
            else:
                answers = [read_with(reader, path) for _ in range(count)]
            assert answers == [f"answer {n}\n" for n in range(1, count + 1)]
            assert server.stop() == count
        assert os.listdir(path.parent) == []

    def test_many_readers_need_no_descriptor_each(self, path):
        """gotcha:FI3: used-up FIFOs are kept for those who are late, for two seconds, and 256 of them at most."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (310, limits[1]))
        try:
            server = Server(path)
            server.__enter__()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        try:
            for number in range(1, 401):
                with hp.Fifo(path).reader(timeout=20) as reader:
                    assert reader.read() == f"answer {number}\n"
            assert server.stop() == 400
        finally:
            server.__exit__()

    def test_readers_at_the_same_instant_never_get_two_or_half_or_the_same(self, path, record_property):
        """perlipc:F2, gotcha:FI3, gotcha:FI4: a pipe cannot tell them apart, so some may get nothing."""
        rounds, many = (20, 60) if SOAK else (3, 60)
        empty = 0
        with Server(path) as server:
            seen = []
            for _ in range(rounds):
                # They all wait for one gate, and open at once when it closes.
                gate = subprocess.PIPE
                herd = [
                    subprocess.Popen(
                        ["sh", "-c", 'read x; exec cat "$1"', "sh", path], stdin=gate, stdout=-1, text=True
                    )
                    for _ in range(many)
                ]
                for each in herd:
                    each.stdin.close()
                for each in herd:
                    with each:
                        answer = each.stdout.read()
                    assert each.returncode == 0
                    if answer:
                        assert ANSWER.fullmatch(answer)
                        seen.append(answer)
                    else:
                        empty += 1
            assert len(set(seen)) == len(seen)
            assert len(seen) + empty == rounds * many
            # What comes after them is served as if nothing had been.
            assert ANSWER.fullmatch(path.read_text())
            assert server.stop() >= len(seen)
        record_property("empty", f"{empty} of {rounds * many}")
        assert os.listdir(path.parent) == []

    @pytest.mark.parametrize("reader", ["cat", "perl", "shell"])
    def test_an_answer_longer_than_the_pipe_is_whole(self, path, reader):
        """perlipc:F2"""
        size = 3_000_000
        with Server(path, size) as server:
            for n in range(1, 4):
                assert read_with(reader, path) == f"answer {n}\n" + "x" * size
            assert server.stop() == 3

    def test_a_reader_that_leaves_early_leaves_nothing_to_the_next(self, path):
        """gotcha:FI4"""
        with Server(path, 1_000_000) as server:
            for n in range(1, 20, 2):
                with open(path, "rb", buffering=0) as early:
                    assert early.read(8) == (b"answer %d" % n)[:8]
                assert path.read_text().startswith(f"answer {n + 1}\nx")
            server.stop()

    def test_a_reader_that_is_killed_is_no_failure(self, path):
        """gotcha:FI4"""
        with Server(path, 1_000_000) as server:
            for n in range(1, 10, 2):
                with running(
                    "sh", "-c", 'exec <"$1"; read x; echo "$x"; exec sleep 60', "sh", path, stdout=-1
                ) as reader:
                    assert reader.stdout.readline() == f"answer {n}\n"
                    reader.kill()
                assert path.read_text().startswith(f"answer {n + 1}\nx")
            server.stop()

    def test_one_that_somebody_removed_is_put_back(self, path):
        """perlipc:F2"""
        with Server(path) as server:
            for n in range(1, 4):
                assert path.read_text() == f"answer {n}\n"
                path.unlink()
                wait_until(path.exists, what="the FIFO")
            assert mode_of(path) == 0o600
            assert path.read_text() == "answer 4\n"
            server.stop()

    @every_other
    def test_something_else_in_its_place_is_left_alone(self, path, make, words):
        """perlipc:F2, gotcha:FI6: the page unlinks whatever is there."""
        with Server(path) as server:
            assert path.read_text() == "answer 1\n"
            put_in_place(make, path)
            before = os.lstat(path)
            _, err = server.process.communicate(timeout=20)
            assert server.process.returncode == 1
            assert f"FileExistsError: [Errno 17] {words} has come in its place" in err
            after = os.lstat(path)
            assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
        assert set(os.listdir(path.parent)) - {"other.real"} == {path.name}

    @pytest.mark.parametrize("when", ["before", "meanwhile"])
    @pytest.mark.parametrize(("make", "words"), [each for each in OTHERS if each[0] is not make_folder])
    def test_replace_puts_it_in_its_place_and_follows_nothing(self, path, make, words, when):
        """perlipc:F2, gotcha:PR5"""
        if when == "before":
            make(path)
            fifo = hp.Fifo(path)
            serving = threading.Thread(
                target=fifo.serve, args=(lambda: "answer 1\n",), kwargs={"readers": 1, "replace": True}
            )
            serving.start()
            wait_until(lambda: hp.is_fifo(path) and not path.is_symlink(), what="the FIFO")
            assert path.read_text() == "answer 1\n"
            serving.join(20)
            assert fifo.remove()
        else:
            with Server(path, 0, "replace") as server:
                put_in_place(make, path)
                wait_until(lambda: stat.S_ISFIFO(os.lstat(path).st_mode), what="the FIFO")
                assert path.read_text() == "answer 1\n"
                server.stop()
        for real in path.parent.glob("*.real"):
            assert hp.is_fifo(real) or real.read_text() == "precious\n"
        assert not os.path.lexists(path)

    def test_a_directory_is_never_replaced(self, path):
        path.mkdir()
        with pytest.raises(FileExistsError, match="a directory is there, which is not replaced"):
            hp.Fifo(path).serve(str, readers=1, replace=True)
        assert path.is_dir()

    def test_int_leaves_no_name(self, path):
        """perlipc:F2"""
        with Server(path) as server:
            assert path.read_text() == "answer 1\n"
            assert len(os.listdir(path.parent)) == 2  # itself, and the folder of those that lie ready
            server.stop()
        assert os.listdir(path.parent) == []

    def test_a_signal_at_any_moment_leaves_no_name(self, path):
        """perlipc:F2: also between the making of a name and the note of it."""
        rounds = 400 if SOAK else 40
        for n in range(rounds):
            thrice = 'for (1..3) { open(my $in, "<", $ARGV[0]) or exit; print <$in> }'
            with Server(path) as server, perl(thrice, path, stdout=subprocess.PIPE) as reader:
                # From the start to well after the third answer, a little later each time.
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: False, n % 40 * 0.0005)
                server.stop()
                reader.kill()
            assert os.listdir(path.parent) == []

    def test_the_mode_is_kept_for_every_reader(self, path):
        """gotcha:FI6"""
        before = os.umask(0o077)
        try:
            with hp.Fifo(path, 0o644) as fifo:
                modes = []
                serving = threading.Thread(target=fifo.serve, args=(str,), kwargs={"readers": 30})
                serving.start()
                for _ in range(30):
                    path.read_text()
                    modes.append(mode_of(path))
                serving.join(20)
        finally:
            os.umask(before)
        assert set(modes) == {0o644}

    def test_it_ends_after_so_many_readers(self, path):
        with hp.Fifo(path) as fifo:
            counts = []
            serving = threading.Thread(target=lambda: counts.append(fifo.serve(lambda: "x", readers=3)))
            serving.start()
            assert [path.read_text() for _ in range(3)] == ["x", "x", "x"]
            serving.join(20)
        assert counts == [3]

    def test_it_ends_when_the_time_is_over(self, path):
        with hp.Fifo(path) as fifo:
            began = time.monotonic()
            assert fifo.serve(str, timeout=0.3) == 0
            assert 0.29 < time.monotonic() - began < 20

    def test_a_reader_that_does_not_read_cannot_hold_it_beyond_its_time(self, path):
        """The timeout is total."""
        line = 'echo ready; exec <"$1"; exec sleep 60'
        with hp.Fifo(path) as fifo, running("sh", "-c", line, "sh", path, stdout=subprocess.PIPE) as deaf:
            assert deaf.stdout.readline() == "ready\n"
            wait_until(lambda: look_at(deaf.pid).state == "S", what="its open")
            began = time.monotonic()
            assert fifo.serve(lambda: "x" * 1_000_000, timeout=0.5) == 1
            assert time.monotonic() - began < 20
            deaf.kill()

    def test_what_make_raises_comes_out_and_leaves_nothing(self, path):
        def fail():
            raise ZeroDivisionError

        with hp.Fifo(path) as fifo, running("cat", path, stdout=subprocess.PIPE) as cat:
            with pytest.raises(ZeroDivisionError):
                fifo.serve(fail)
            assert cat.stdout.read() == ""
        assert os.listdir(path.parent) == []

    def test_a_timeout_of_makes_own_comes_out(self, path):
        def fail():
            raise TimeoutError("of make")

        with (
            hp.Fifo(path) as fifo,
            running("cat", path, stdout=subprocess.DEVNULL),
            pytest.raises(TimeoutError, match="of make"),
        ):
            fifo.serve(fail)

    def test_serving_nobody_costs_next_to_nothing(self, path):
        """gotcha:FI2"""
        with Server(path) as server:
            assert path.read_text() == "answer 1\n"

            def ticks():
                fields = read_proc(server.process.pid, "stat").rpartition(b")")[2].split()
                return int(fields[11]) + int(fields[12])

            before = ticks()
            assert wait_gone([server.process.pid], timeout=1) == [server.process.pid]
            assert ticks() - before <= 0.05 * os.sysconf("SC_CLK_TCK")
            server.stop()
