"""What a ``Signal`` says: which, from whom, how, when, and what it carried (perlipc:S1, S17).

Each fact has another witness: the sender's own pid, the clock of another process, the status that wait gives.
"""

from __future__ import annotations

import ctypes
import operator
import os
import signal
import struct
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hornpipe as hp

LIBC = ctypes.CDLL(None, use_errno=True)


def one(which: str, cause: object) -> hp.Signal:
    """The signal that comes of calling ``cause``."""
    with hp.watch(which) as signals:
        cause()  # type: ignore[operator]
        return signals.get(timeout=30)


class TestTheSender:
    def test_of_kill_is_named(self):
        """perlipc:S7: from Perl, with the signal first."""
        with hp.watch("USR1") as signals:
            perl = hp.cmd("perl", "-e", "print $$; kill USR1 => getppid").capture()
            sig = signals.get(timeout=30)
        assert (str(sig), sig.code, sig.pid, sig.uid) == ("USR1", "USER", int(perl.stdout), os.getuid())
        assert (sig.value, sig.address, sig.status) == (0, 0, None)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root has two uids: its own to be allowed, another to be named")
    def test_has_the_uid_of_whoever_it_was(self):
        program = "import os; os.setresuid(65534, 0, 0); os.kill(os.getppid(), 10)"
        sig = one("USR1", lambda: hp.cmd(sys.executable, "-S", "-c", program).run())
        assert sig.uid == 65534

    def test_of_a_signal_to_one_thread(self):
        sig = one("USR1", lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        assert (sig.code, sig.pid) == ("TKILL", os.getpid())

    def test_of_an_interval_timer_is_the_kernel(self):
        sig = one("ALRM", lambda: signal.setitimer(signal.ITIMER_REAL, 0.01))
        assert (sig.code, sig.pid, sig.uid) == ("KERNEL", 0, 0)

    def test_of_a_posix_timer_is_nobody(self):
        """timer_create(2) with a value; it is not mistaken for a pid."""
        event = (ctypes.c_char * 64)()
        struct.pack_into("qii", event, 0, 77, signal.SIGUSR1, 0)
        timer = ctypes.c_void_p()
        assert LIBC.timer_create(1, event, ctypes.byref(timer)) == 0
        try:
            sig = one("USR1", lambda: LIBC.timer_settime(timer, 0, struct.pack("qqqq", 0, 0, 0, 1000), None))
        finally:
            LIBC.timer_delete(timer)
        assert (sig.code, sig.pid, sig.value) == ("TIMER", 0, 77)


class TestTheValue:
    """perlipc:S17"""

    @given(st.integers(-(2**63), 2**63 - 1))
    @settings(max_examples=50, deadline=None)
    def test_arrives_as_it_was_sent(self, value):
        sig = one("RTMIN+1", lambda: hp.signals.queue("RTMIN+1", os.getpid(), value))
        assert (sig.value, sig.code, sig.pid) == (value, "QUEUE", os.getpid())

    def test_goes_with_standard_signals_too(self):
        assert one("USR1", lambda: hp.signals.queue("USR1", os.getpid(), -5)).value == -5

    def test_of_another_program_is_the_same(self):
        """util-linux has sigqueue as kill --queue."""
        with hp.watch("USR1") as signals:
            hp.cmd("kill", "--queue", "4711", "--signal", "USR1", str(os.getpid())).run()
            assert signals.get(timeout=30).value == 4711

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
    def test_too_big_for_a_signal_is_refused(self, value):
        with pytest.raises(ValueError, match="8 bytes"):
            hp.signals.queue("RTMIN", os.getpid(), value)

    @pytest.mark.parametrize("value", [1.0, True, "7", None])
    def test_is_a_number(self, value):
        with pytest.raises(TypeError, match="carries a number"):
            hp.signals.queue("RTMIN", os.getpid(), value)


class TestChld:
    """perlipc:S10: what the kernel says about the child, against what wait says."""

    @pytest.mark.parametrize(
        "script", ["exit 0", "exit 7", "exit 255", "kill -TERM $$", "kill -9 $$", "kill -RTMIN $$"]
    )
    def test_carries_the_status(self, script):
        with hp.watch("CHLD") as signals:
            process = hp.cmd("bash", "-c", script, check=False).start()
            status = process.wait(30)
            sig = signals.get(timeout=30)
        assert (sig.pid, sig.uid) == (process.pid, os.getuid())
        assert sig.code == ("EXITED" if status.signal is None else "KILLED")
        assert sig.status == status

    def test_knows_of_a_core(self, tmp_path):
        with hp.watch("CHLD") as signals:
            script = "ulimit -c unlimited 2>/dev/null; kill -ABRT $$"
            status = hp.cmd("sh", "-c", script, cwd=tmp_path, check=False).run()
            sig = signals.get(timeout=30)
        assert sig.code == ("DUMPED" if status.core_dumped else "KILLED")
        assert sig.status is not None
        assert (sig.status.signal, sig.status.core_dumped) == (signal.SIGABRT, status.core_dumped)

    def test_says_stopped_and_continued_without_a_status(self):
        with hp.watch("CHLD") as signals, hp.cmd("sleep", "60").start() as process:
            for which, code in (("STOP", "STOPPED"), ("CONT", "CONTINUED")):
                process.kill(which)
                sig = signals.get(timeout=30)
                assert (sig.code, sig.pid, sig.status) == (code, process.pid, None)
            process.kill("KILL")
            assert signals.get(timeout=30).code == "KILLED"

    def test_sent_by_hand_is_no_death(self):
        sig = one("CHLD", lambda: hp.kill("CHLD", os.getpid()))
        assert (sig.code, sig.status, sig.pid) == ("USER", None, os.getpid())


class TestTheRest:
    def test_the_time_is_that_of_the_arrival_on_the_monotonic_clock(self):
        """perlipc:S20"""
        before = time.monotonic()
        with hp.watch("USR1") as signals:
            hp.kill("USR1", os.getpid())
            after = time.monotonic()
            while time.monotonic() < after + 0.05:
                pass
            assert before <= signals.get(timeout=30).time <= after

    def test_the_address_of_a_trap(self):
        """As the kernel gives it; said by ourselves to ourselves, since a real trap needs a debugger's help."""
        info = bytearray(128)
        struct.pack_into("iiiiQ", info, 0, signal.SIGTRAP, 0, 2, 0, 0xDEAD_BEEF)
        SYS_rt_tgsigqueueinfo = {"x86_64": 297, "aarch64": 240}.get(os.uname().machine)
        if SYS_rt_tgsigqueueinfo is None:
            pytest.skip("the number of rt_tgsigqueueinfo is not known here")
        buffer = (ctypes.c_char * 128).from_buffer(info)
        pid = os.getpid()
        sig = one("TRAP", lambda: LIBC.syscall(SYS_rt_tgsigqueueinfo, pid, pid, int(signal.SIGTRAP), buffer))
        assert (sig.address, sig.pid) == (0xDEAD_BEEF, 0)

    def test_it_is_text_number_and_picture(self):
        sig = one("RTMIN+1", lambda: hp.signals.queue("RTMIN+1", os.getpid(), 7))
        assert str(sig) == f"{sig}" == sig.name == "RTMIN+1"
        assert operator.index(sig) == sig.number == signal.SIGRTMIN + 1
        assert repr(sig) == f"<RTMIN+1 by QUEUE from pid {os.getpid()}, uid {os.getuid()}, value 7>"

    def test_it_cannot_be_changed(self):
        sig = one("USR1", lambda: hp.kill("USR1", os.getpid()))
        for name in ("number", "pid", "value", "anything"):
            with pytest.raises(AttributeError):
                setattr(sig, name, 1)

    def test_handlers_and_watches_are_told_the_same(self):
        told: list[hp.Signal] = []
        with hp.SIG.local(USR1=told.append):
            sig = one("USR1", lambda: hp.signals.queue("USR1", os.getpid(), 3))
        assert [repr(each) for each in told] == [repr(sig)]
        assert told[0].time == sig.time
