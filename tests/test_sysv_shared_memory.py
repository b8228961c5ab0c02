"""Shared memory: bytes in their place, views, who leaves when, and what must not crash (perlipc:V1)."""

from __future__ import annotations

import array
import errno
import os
import struct
import subprocess
import sys

import numpy
import pytest

import hornpipe as hp
from hornpipe.sysv import SharedMemory
from hornpipe.testing.patience import wait_until


@pytest.fixture
def shm():
    with SharedMemory.create(2000) as made:
        yield made


class TestBytes:
    def test_what_is_written_is_read_exactly_nuls_and_all(self, shm):
        """perlipc:V1, gotcha:Y10: the page cuts at the first NUL."""
        data = b"\0binary\0\0data\0"
        shm.write(data, 100)
        assert shm.read(100, len(data)) == data
        assert shm.read(100 + len(data), 1) == b"\0"

    def test_with_a_size_nuls_follow_what_is_shorter(self, shm):
        """perlipc:V1: Perl's shmwrite."""
        shm.write(b"x" * 20)
        shm.write(b"ab", 5, 10)
        assert shm.read(0, 20) == b"xxxxxab" + bytes(8) + b"xxxxx"

    def test_more_than_the_size_is_refused_before_anything_is_written(self, shm):
        with pytest.raises(ValueError, match="3 bytes do not fit into the 2"):
            shm.write(b"abc", 0, 2)
        assert shm.read(0, 3) == bytes(3)

    @pytest.mark.parametrize(
        ("offset", "size"), [(1999, 2), (2001, 0), (0, 2001), (-1, 1), (0, -1), (2**62, 2**62), (5, 2**63 - 1)]
    )
    def test_nothing_outside_of_the_size_that_was_asked_for(self, shm, offset, size):
        """gotcha:Y10: the page behind it is mapped as well, and C writes there."""
        with pytest.raises(ValueError, match="not inside the 2000"):
            shm.read(offset, size)
        with pytest.raises(ValueError, match="not inside the 2000|do not fit"):
            shm.write(b"x", offset, size)

    @pytest.mark.parametrize("size", [1 << 18, (1 << 18) - 1, 5 << 20])
    def test_much_is_copied_as_well_as_little(self, size):
        data = os.urandom(size)
        with SharedMemory.create(size + 3) as big:
            big.write(data, 3)
            assert big.read(3) == data
            big.write(big.buf[3 : size + 3], 0)  # they overlap
            assert big.read(0, size) == data

    @pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc"), array.array("B", b"abc")])
    def test_anything_with_bytes_can_be_written(self, shm, data):
        shm.write(data)
        assert shm.read(0, 3) == b"abc"
        with pytest.raises(TypeError):
            shm.write("abc")

    def test_numpy_works_in_it_without_a_copy(self, shm):
        """perlipc:V1"""
        numbers = numpy.ndarray((250,), dtype=numpy.float64, buffer=shm.buf)
        numbers[:] = range(250)
        assert struct.unpack("d", shm.read(8, 8)) == (1.0,)
        shm.write(bytes(8), 8)
        assert numbers[1] == 0
        with pytest.raises(BufferError):
            shm.detach()
        del numbers

    def test_the_view_is_the_memory_itself(self, shm):
        """perlipc:V1"""
        with shm.buf as view, view.cast("q") as numbers:
            numbers[3] = -7
        assert int.from_bytes(shm.read(24, 8), sys.byteorder, signed=True) == -7


class TestLeaving:
    def test_it_is_not_detached_under_a_view(self, shm):
        """gotcha:Y13: a live memoryview over a detached segment is a crash."""
        view = shm.buf
        with pytest.raises(BufferError, match="views that live"):
            shm.detach()
        view[0] = 1
        view.release()
        shm.detach()
        assert not shm.attached
        for use in (lambda: shm.read(0, 1), lambda: shm.write(b"x"), lambda: shm.buf):
            with pytest.raises(ValueError, match="not attached any more"):
                use()
        shm.detach()

    def test_the_makers_block_removes_it_and_an_openers_does_not(self):
        """gotcha:Y11"""
        key = hp.sysv.key_for(f"org.hornpipe.tests.{os.getpid()}")
        with SharedMemory.create(10, key) as made:
            with SharedMemory.open(key) as opened, SharedMemory.from_id(made.id) as again:
                assert (made.created, opened.created) == (True, False)
                opened.write(b"seen")
                assert again.read(0, 4) == b"seen"
                assert made.stat().attaches == 3
            assert made.read(0, 4) == b"seen"
        with pytest.raises(FileNotFoundError):
            SharedMemory.open(key)

    def test_a_forked_child_has_it_and_does_not_remove_it(self, shm):
        """gotcha:Y11: fork adds an attachment; the block of a child is not the maker's."""

        def child():
            shm.write(b"from the child")
            shm.__exit__(None, None, None)

        assert shm.stat().attaches == 1
        hp.fn(child).call()
        assert shm.read(0, 14) == b"from the child"
        wait_until(lambda: shm.stat().attaches == 1)

    def test_an_executed_program_does_not_have_it(self, shm):
        """gotcha:Y11: exec drops the attachment."""
        with hp.cmd("cat").duplex():
            wait_until(lambda: shm.stat().attaches == 1)

    def test_removed_it_goes_on_for_who_has_it(self):
        """gotcha:Y11: the key goes at once, and Linux even attaches by the id."""
        with SharedMemory.create(10) as shm:
            shm.write(b"still")
            shm.remove()
            shm.remove()
            assert shm.stat().doomed
            with SharedMemory.from_id(shm.id) as other:
                assert other.read(0, 5) == b"still"
            number = shm.id
        with pytest.raises(FileNotFoundError, match=f"no shared memory segment {number}"):
            SharedMemory.from_id(number)

    def test_a_transient_one_goes_with_its_last_process_however_that_ends(self):
        """gotcha:Y11"""
        program = """if True:
            import hornpipe as hp, os, sys
            shm = hp.sysv.SharedMemory.create(10, transient=True)
            print(shm.id, os.getpid(), flush=True)
            sys.stdin.read()"""
        with hp.cmd(sys.executable, "-c", program).with_options(check=False).duplex() as maker:
            number, pid = map(int, maker.readline().split())
            with SharedMemory.from_id(number) as ours:
                hp.kill("KILL", pid)
                wait_until(lambda: ours.stat().attaches == 1)
        with pytest.raises(FileNotFoundError):
            SharedMemory.from_id(number)


class TestWaysToAttach:
    def test_read_only_is_so_for_views_too(self, shm):
        with SharedMemory.from_id(shm.id, read_only=True) as reader:
            shm.write(b"look")
            assert reader.read(0, 4) == b"look"
            assert reader.buf.readonly
            with pytest.raises(TypeError):
                reader.buf[0] = 1
            with pytest.raises(TypeError, match="read-only"):
                reader.write(b"x")

    def test_at_an_address(self, shm):
        with SharedMemory.create(4096) as probe:
            free = probe.address
        with SharedMemory.from_id(shm.id, address=free) as other:
            assert other.address == free
            with pytest.raises(ValueError, match="cannot be attached at"):
                SharedMemory.from_id(shm.id, address=free)
        with pytest.raises(ValueError, match="no multiple of a page"):
            SharedMemory.from_id(shm.id, address=free + 1)
        before = {segment.id for segment in hp.sysv.segments()}
        with pytest.raises(ValueError, match="no multiple of a page"):
            SharedMemory.create(4096, address=free + 1)
        assert {segment.id for segment in hp.sysv.segments()} <= before

    def test_open_or_create_makes_it_once(self):
        """perlipc:V4"""
        key = hp.sysv.key_for(f"org.hornpipe.tests.{os.getpid()}")
        with SharedMemory.open_or_create(key, 100) as first, SharedMemory.open_or_create(key, 50) as second:
            assert (first.created, second.created, second.size) == (True, False, 100)
            with pytest.raises(ValueError, match="has 100 bytes, not 101"):
                SharedMemory.open_or_create(key, 101)
            assert first.stat().attaches == 2
        with pytest.raises(ValueError, match="at least 1 byte"):
            SharedMemory.create(0)

    def test_what_there_is_no_memory_for_names_its_size(self):
        """perlipc:Y1."""
        with pytest.raises(OSError, match=f"no memory for a segment of {1 << 60} bytes") as caught:
            SharedMemory.create(1 << 60)
        assert caught.value.errno == errno.ENOMEM

    def test_huge_pages_are_had_or_it_is_said_who_sets_them_aside(self):
        try:
            with SharedMemory.create(1, huge_pages=True) as shm:
                shm.write(b"x")
        except OSError as error:
            assert "/proc/sys/vm/nr_hugepages" in str(error)  # noqa: PT017
        with pytest.raises(ValueError, match="power of two"):
            SharedMemory.create(1, huge_pages=3000)

    def test_locked_in_memory(self, shm):
        shm.lock()
        assert shm.stat().locked
        shm.unlock()
        assert not shm.stat().locked


class TestFacts:
    def test_who_made_it_and_when(self, shm):
        """perlipc:V1"""
        found = shm.stat()
        assert (found.size, found.attaches, found.creator_pid, found.last_pid) == (2000, 1, os.getpid(), os.getpid())
        assert found.owner == hp.sysv.Owner(0, os.geteuid(), os.getegid(), os.geteuid(), os.getegid(), 0o600)
        assert found.attach_time >= found.change_time > 0
        assert found.detach_time == 0

    def test_its_mode_and_owner_can_be_changed(self, shm):
        shm.chmod(0o640)
        assert shm.stat().owner.mode == 0o640
        shm.chown(gid=os.getegid())
        assert shm.stat().owner.gid == os.getegid()
        with pytest.raises(ValueError, match="mode must be"):
            shm.chmod(0o1000)
        shown = subprocess.run(["ipcs", "-m", "-i", str(shm.id)], capture_output=True, text=True, check=True).stdout
        assert "mode=0640" in shown
