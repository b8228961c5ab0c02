"""What the system refuses, in words: which limit, what it is now, where it is set, whose, which mode (perlipc:V5)."""

from __future__ import annotations

import errno
import os
import sys

import pytest

import hornpipe as hp
from hornpipe.sysv import MessageQueue, SemaphoreSet, SharedMemory, SystemLimit, ftok, key_for

KEY = key_for(f"hornpipe test of limits {os.getpid()}")


def in_a_namespace(program: str, *settings: str) -> str:
    """In an IPC namespace of its own, after its limits were set."""
    prelude = "".join(
        f"open('/proc/sys/kernel/{name}', 'w').write({value!r})\n"
        for name, value in (setting.split("=") for setting in settings)
    )
    source = prelude + "import hornpipe as hp\nfrom hornpipe.sysv import *\n" + program
    return hp.cmd("unshare", "--map-root-user", "--ipc", sys.executable, "-c", source).read()


SHOW = """
try:
    while True:
        made.append(make())
except OSError as error:
    print(error.errno, type(error).__name__, error.name, error.value, error)
"""


class TestTheSystemsTables:
    """gotcha:Y5: ENOSPC has nothing to do with disks."""

    @pytest.mark.parametrize(
        ("setting", "make", "says"),
        [
            ("shmmni=2", "SharedMemory.create(1)", "SHMMNI 2 the system has 2 shared memory segments; it allows 2"),
            ("shmall=3", "SharedMemory.create(8192)", "SHMALL 3 the system has 2 pages of shared memory, and 2 more"),
            ("sem=100 1000 10 2", "SemaphoreSet.create([1])", "SEMMNI 2 the system has 2 semaphore sets; it allows 2"),
            ("sem=100 5 10 9", "SemaphoreSet.create([1, 1])", "SEMMNS 5 the system has 4 semaphores, and 2 more"),
            ("msgmni=1", "MessageQueue.create()", "MSGMNI 1 the system has 1 message queues; it allows 1"),
        ],
    )
    def test_a_full_table_is_named_with_its_knob(self, setting, make, says):
        """perlipc:V5, gotcha:Y5"""
        said = in_a_namespace(f"made = []\nmake = lambda: {make}\n" + SHOW, setting)
        assert said.startswith(f"{errno.ENOSPC} SystemLimit {says}")
        assert f"/proc/sys/kernel/{setting.split('=')[0]}" in said

    @pytest.mark.parametrize(
        ("setting", "call", "says"),
        [
            ("shmmax=5000", "SharedMemory.create(5001)", "SHMMAX 5000 5001 bytes are more than a segment may have"),
            ("sem=3 100 10 9", "SemaphoreSet.create([1] * 4)", "SEMMSL 3 4 semaphores are more than the set may have"),
            ("sem=9 100 3 9", "SemaphoreSet.create([1]).op([(0, 1)] * 4)", "SEMOPM 3 op: more operations at once"),
            ("msgmax=100", "MessageQueue.create().send(bytes(101))", "MSGMAX 100 a message of 101 bytes is more"),
        ],
    )
    def test_too_much_at_once_is_a_value_error(self, setting, call, says):
        """perlipc:V5, gotcha:Y5, gotcha:Y8"""
        program = f"made = []\nmake = lambda: {call}\n{SHOW}    assert isinstance(error, ValueError)"
        assert f"SystemLimit {says}" in in_a_namespace(program, setting)

    def test_a_value_too_high_is_an_overflow(self):
        """gotcha:Y5: SEMVMX, fixed in the kernel."""
        with SemaphoreSet.create([32767]) as sems:
            for call in (sems[0].release, lambda: setattr(sems[0], "value", 32768)):
                with pytest.raises(SystemLimit, match="32767 .SEMVMX.; that is fixed in the kernel") as caught:
                    call()
                assert isinstance(caught.value, OverflowError)
            with pytest.raises(ValueError, match="moves by at most 32767"):
                sems[0].acquire(32768)
        with pytest.raises(SystemLimit):
            SemaphoreSet.create([32768])

    def test_limits_are_what_proc_says(self):
        """gotcha:Y8"""
        said = in_a_namespace("print(limits())", "sem=11 22 33 44", "msgmnb=55", "shmmni=66")
        for each in ("SEMMSL=11", "SEMMNS=22", "SEMOPM=33", "SEMMNI=44", "MSGMNB=55", "SHMMNI=66", "SEMVMX=32767"):
            assert each in said

    def test_ids_live_in_a_namespace(self):
        """gotcha:Y13"""
        with MessageQueue.create(KEY) as queue:
            program = f"""if True:
                for find in (lambda: MessageQueue.open({KEY}), lambda: MessageQueue.from_id({queue.id})):
                    try:
                        find()
                    except FileNotFoundError as error:
                        print(error)"""
            said = in_a_namespace(program)
        assert said.count("in this IPC namespace") == 2

    def test_a_sandbox_without_system_v_is_named(self, monkeypatch):
        """gotcha:Y13"""
        from hornpipe.sysv.failures import failure

        error = failure("msg", errno.ENOSYS, "create")
        assert "this kernel, or the sandbox we are in, has no System V IPC" in str(error)
        assert error.errno == errno.ENOSYS


@pytest.mark.skipif(os.geteuid() != 0, reason="being somebody else needs root")
class TestPermissions:
    """gotcha:Y13: EACCES on use, EPERM on removal; the default is for nobody else."""

    @pytest.mark.parametrize("kind", ["SharedMemory.create(1)", "SemaphoreSet.create([1])", "MessageQueue.create()"])
    def test_the_owner_and_the_mode_are_named(self, kind):
        """perlipc:V5, gotcha:Y13"""
        with eval(kind, vars(hp.sysv)) as made:

            def stranger() -> list[str]:
                said = []
                for call in (
                    lambda: type(made).from_id(made.id).stat(),
                    lambda: made.chmod(0o777),
                    lambda: made.remove(),
                ):
                    try:
                        call()
                    except PermissionError as error:
                        said.append(str(error))
                return said

            said = hp.fn(stranger).with_options(user="nobody").call()
            assert made.stat().owner.mode == 0o600
        assert len(said) == 3
        for each in said:
            assert "belongs to root (uid 0) with mode 0600, and we are nobody (uid" in each

    def test_a_queue_is_not_made_larger_by_a_user(self):
        """gotcha:Y8"""

        def stranger() -> str:
            with MessageQueue.create() as queue:
                queue.set_max_bytes(100)
                try:
                    queue.set_max_bytes(1 << 24)
                except PermissionError as error:
                    return str(error)
            return ""

        said = hp.fn(stranger).with_options(user="nobody").call()
        assert f"more than the {hp.sysv.limits().MSGMNB} of /proc/sys/kernel/msgmnb" in said


class TestKeys:
    def test_zero_is_refused_since_it_finds_nothing(self):
        """gotcha:Y12: 0 is IPC_PRIVATE, and always new."""
        for call in (
            lambda: SharedMemory.open(0),
            lambda: SemaphoreSet.open_or_create(0, [1]),
            lambda: MessageQueue.create(0),
        ):
            with pytest.raises(ValueError, match="names no object"):
                call()

    @pytest.mark.parametrize("key", [2**32, -(2**31) - 1, "name", 1.5, True])
    def test_a_key_has_32_bits(self, key):
        with pytest.raises((ValueError, TypeError), match="a key"):
            MessageQueue.open(key)

    def test_the_upper_half_is_the_negative_half(self):
        with MessageQueue.create(0xFFFF0000 | os.getpid() & 0xFFFF) as queue:
            assert queue.key < 0
            assert MessageQueue.open(queue.key).id == queue.id
            assert MessageQueue.open(queue.key + 2**32).id == queue.id

    def test_opening_asks_for_no_size(self):
        """gotcha:Y12: a larger size is EINVAL, and one's own guess may be."""
        with SharedMemory.create(10, KEY), SharedMemory.open(KEY) as shm:
            assert shm.size == 10

    def test_ftok_is_what_c_makes_of_a_file(self, tmp_path):
        """gotcha:Y12"""
        found = os.stat(tmp_path)
        key = ftok(tmp_path, 0x41) & 0xFFFFFFFF
        assert (key >> 24, key >> 16 & 0xFF, key & 0xFFFF) == (0x41, found.st_dev & 0xFF, found.st_ino & 0xFFFF)
        with pytest.raises(FileNotFoundError):
            ftok(tmp_path / "not there", 1)

    @pytest.mark.parametrize("project", [0, -1, 256, 0x141])
    def test_ftok_refuses_what_would_be_cut(self, project):
        """gotcha:Y12: to C, 0x141 is 0x41."""
        with pytest.raises(ValueError, match="only its lower 8 bits would count"):
            ftok("/", project)

    def test_names_have_keys_of_their_own(self):
        """gotcha:Y12"""
        keys = {key_for(f"org.example/{number}") for number in range(1000)}
        assert len(keys) == 1000
        assert all(0 < key < 2**31 for key in keys)
        assert key_for("org.example.printer/jobs") == 0x788794CF
        with pytest.raises(ValueError, match="empty name"):
            key_for("")
