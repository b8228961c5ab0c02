"""``hp.lock``: flock(2) with a deadline, as other processes and Perl see it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at

HOLDS = """
use Fcntl ":flock";
open(my $file, "+<", $ARGV[0]) or die "$ARGV[0]: $!";
flock($file, $ARGV[1] eq "shared" ? LOCK_SH : LOCK_EX) or die "flock: $!";
$| = 1;
print "held\\n";
<STDIN>;
"""
TRIES = """
use Fcntl ":flock";
open(my $file, "+<", $ARGV[0]) or die "$ARGV[0]: $!";
print flock($file, ($ARGV[1] eq "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB) ? "had" : "not";
"""


@contextlib.contextmanager
def perl_holding(path, how="exclusive"):
    """Somebody else who holds the lock until the block is left; yields his pid."""
    with subprocess.Popen(
        ["perl", "-e", HOLDS, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as perl:
        assert perl.stdout.readline() == "held\n"
        try:
            yield perl
        finally:
            perl.stdin.close()


def perl_can_have(path, how="exclusive"):
    tried = subprocess.run(["perl", "-e", TRIES, path, how], stdout=subprocess.PIPE, text=True, check=True, timeout=20)
    assert tried.stdout in {"had", "not"}
    return tried.stdout == "had"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_text("kept\n")
    return path


def as_path(path, _stack):
    return path


def as_text(path, _stack):
    return str(path)


def as_bytes(path, _stack):
    return os.fsencode(path)


def as_file(path, stack):
    return stack.enter_context(open(path, "r+"))


def as_descriptor(path, stack):
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


@pytest.mark.parametrize("form", [as_path, as_text, as_bytes, as_file, as_descriptor])
def test_inside_the_block_nobody_else_has_it_and_after_it_anybody(path, form):
    """perlipc:S11"""
    with contextlib.ExitStack() as stack:
        file = form(path, stack)
        with hp.lock(file, timeout=10):
            assert not perl_can_have(path)
        assert perl_can_have(path)
    assert path.read_text() == "kept\n"


def test_a_file_that_is_not_there_is_made(tmp_path):
    with (lock := hp.lock(tmp_path / "new", timeout=0)) as held:
        assert held is lock
        assert not perl_can_have(tmp_path / "new")


def test_one_that_is_kept_may_be_taken_again(path):
    ours = hp.lock(path)
    for _ in range(3):
        with ours:
            assert not perl_can_have(path)
        assert perl_can_have(path)


def test_an_exception_lets_go_of_it(path):
    with pytest.raises(ZeroDivisionError), hp.lock(path):
        raise ZeroDivisionError
    assert perl_can_have(path)


def test_zero_only_tries_and_says_who_has_it(path):
    with perl_holding(path) as perl:
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught, hp.lock(path, timeout=0):
            pass
        assert time.monotonic() - began < 20
    said = str(caught.value)
    assert str(path) in said
    # Where /proc/locks has other device numbers than stat, as on some stacked file systems, it says no number.
    assert re.search(rf"held by (process {perl.pid}|another process)$", said)


def test_zero_takes_one_that_is_free(path):
    with hp.lock(path, timeout=0):
        assert not perl_can_have(path)


def test_the_timeout_holds_and_leaves_nothing(path):
    with perl_holding(path):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"within 0\.3 s"), hp.lock(path, timeout=0.3):
            pass
        assert 0.29 < time.monotonic() - began < 20
    assert perl_can_have(path)


def test_it_comes_as_soon_as_the_other_lets_go(path):
    """No look now and then: the kernel wakes us."""
    with perl_holding(path) as perl:
        threading.Timer(0.05, perl.stdin.close).start()
        with hp.lock(path, timeout=20):
            assert not perl_can_have(path)


def test_a_signal_is_handled_while_it_waits_and_the_wait_goes_on(path):
    """perlipc:S13"""
    handled = []

    def poke_and_let_go():
        wait_until(lambda: look_at(os.getpid()).state == "S", what="the wait")
        os.kill(os.getpid(), signal.SIGUSR1)
        # Only then is it free.
        wait_until(lambda: handled, what="the handler")
        perl.stdin.close()

    with perl_holding(path) as perl, hp.SIG.local(USR1=handled.append):
        poke = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        poke.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError), hp.lock(path, timeout=0.4):
            pass
        assert 0.39 < time.monotonic() - began < 20
        poke.join()
        handled.clear()
        poke = threading.Thread(target=poke_and_let_go)
        poke.start()
        with hp.lock(path, timeout=40):
            assert len(handled) == 1
        poke.join()


def test_what_a_handler_raises_ends_the_wait(path):
    """perlipc:S11: the page's alarm around flock."""
    with perl_holding(path), pytest.raises(TimeoutError), hp.alarm(0.2), hp.lock(path):
        pass
    assert perl_can_have(path)


def test_shared_ones_go_together_and_keep_an_exclusive_one_out(path):
    with perl_holding(path, "shared"):
        with hp.lock(path, timeout=5, shared=True):
            assert perl_can_have(path, "shared")
            assert not perl_can_have(path)
        with pytest.raises(TimeoutError), hp.lock(path, timeout=0):
            pass


def test_closing_another_descriptor_of_the_file_does_not_lose_it(path):
    """gotcha:DM5: as it would be lost with fcntl's locks."""
    with hp.lock(path):
        with open(path) as other:
            assert other.read() == "kept\n"
        assert not perl_can_have(path)


def test_fcntl_locks_are_lost_that_way(path):
    """gotcha:DM5: the reason for flock, seen on this kernel."""
    tries = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("not")
else:
    print("had")
"""

    def other_process():
        return hp.cmd(sys.executable, "-c", tries, path).read()

    with open(path, "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = other_process()
        open(path).close()
        assert (before, other_process()) == ("not\n", "had\n")


def test_a_forked_child_shares_it_until_it_closes_the_file(path):
    """gotcha:DM5"""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with hp.lock(path):
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    os.close(reader)
    shared = not perl_can_have(path)
    os.close(writer)
    os.waitpid(child, 0)
    assert shared
    assert perl_can_have(path)


def test_a_callable_started_inside_the_block_does_not_have_it(path):
    """gotcha:DM5: fn() closes in its child what was not listed."""
    with hp.lock(path):
        child = hp.fn(signal.pause).start()
    try:
        assert perl_can_have(path)
    finally:
        child.kill()
        child.wait(20)


def test_a_program_started_inside_the_block_does_not_have_it(path):
    """gotcha:R8: close-on-exec."""
    with hp.lock(path):
        child = hp.cmd("sleep", "60").start()
    try:
        assert perl_can_have(path)
    finally:
        child.kill()
        child.wait(20)


def test_it_keeps_python_processes_apart(path):
    """Two hundred increments by four processes, none lost."""
    program = """
import sys, hornpipe as hp
for _ in range(50):
    with hp.lock(sys.argv[1] + ".lock", timeout=50):
        with open(sys.argv[1]) as file:
            count = int(file.read())
        with open(sys.argv[1], "w") as file:
            file.write(str(count + 1))
"""
    path.write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(4)]
    assert [worker.wait(50) for worker in workers] == [0, 0, 0, 0]
    assert path.read_text() == "200"


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(path, timeout):
    with pytest.raises(ValueError, match="timeout"):
        hp.lock(path, timeout=timeout)


def test_a_program_that_has_waited_for_a_lock_may_execute_another(tmp_path):
    """gotcha:SIG11: what it was told of signals by is closed by the exec, and is nothing to be killed by."""
    path = tmp_path / "file"
    path.touch()
    with perl_holding(path):
        child = os.fork()
        if not child:
            try:
                with contextlib.suppress(TimeoutError), hp.lock(path, timeout=0.01):
                    pass
                os.execvp("true", ["true"])
            finally:
                os._exit(70)
    assert os.waitpid(child, 0)[1] == 0
