"""Variables that processes share, which perlipc says cannot be had (perlipc:V6)."""

from __future__ import annotations

import mmap
import os

import pytest

import hornpipe as hp
from hornpipe.sysv import Cell, Cells, SemaphoreSet, SharedMemory


@pytest.fixture(params=["segment", "mmap"])
def memory(request):
    made = SharedMemory.create(4096) if request.param == "segment" else mmap.mmap(-1, 4096)
    with made:
        yield made


@pytest.fixture
def sems():
    with SemaphoreSet.create([1]) as made:
        yield made


class TestOneValue:
    def test_a_child_changes_what_its_parent_sees(self, memory):
        """perlipc:V6"""
        cell = Cell(memory, "q", 8)
        hp.fn(setattr, cell, "value", -5).call()
        assert cell.value == -5
        assert Cell(memory, "q").value == 0

    def test_no_addition_is_lost_under_the_guard(self, memory, sems):
        """perlipc:V6"""
        total = Cell(memory, "l", guard=sems[0])

        def add() -> None:
            for _ in range(300):
                with total:
                    total.value += 1

        adders = [hp.fn(add).start() for _ in range(4)]
        assert all(each.wait(60) for each in adders)
        assert total.value == 1200

    def test_a_holder_that_is_killed_leaves_no_lock_behind(self, memory, sems):
        """perlipc:V6, gotcha:Y2"""
        cell = Cell(memory, "d", guard=sems[0])

        def child() -> None:
            with cell:
                cell.value = 0.5
                os.kill(os.getpid(), 9)

        assert hp.fn(child).with_options(check=False).run().signal == 9
        assert sems[0].value == 1
        with cell:
            assert cell.value == 0.5

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("b", -128), ("B", 255), ("H", 65535), ("i", -1), ("Q", 2**64 - 1), ("?", True), ("f", 0.25)],
    )
    def test_it_has_the_range_of_its_type(self, memory, kind, value):
        cell = Cell(memory, kind, 64)
        cell.value = value
        assert (cell.value, type(cell.value)) == (value, type(value))
        if isinstance(value, int) and kind != "?":
            with pytest.raises((ValueError, TypeError)):
                cell.value = 2**64
            assert cell.value == value

    def test_what_cannot_be_a_place_is_refused(self, memory):
        for kind, offset, says in (
            ("q", 4, "seen half written"),
            ("q", 4096, "not inside"),
            ("q", -8, "half written"),
            ("s", 0, "native format"),
            ("2q", 0, "native format"),
            ("", 0, "native format"),
        ):
            with pytest.raises(ValueError, match=says):
                Cell(memory, kind, offset)
        with pytest.raises(TypeError, match="read-only"):
            Cell(b"12345678", "q")
        with pytest.raises(ValueError, match="nothing guards it"), Cell(memory, "q"):
            pass

    def test_it_is_not_in_the_way_of_leaving(self):
        """gotcha:Y13"""
        with SharedMemory.create(8) as shm:
            cell = Cell(shm, "q")
            cell.value = 1
        with pytest.raises(ValueError, match="not attached"):
            cell.value  # noqa: B018


class TestManyValues:
    def test_they_are_one_after_the_other(self, memory):
        """perlipc:V6"""
        cells = Cells(memory, "i", 5, 16)
        cells[:] = [1, 2, 3, 4, 5]
        cells[-1] = 50
        cells[0:4:2] = [10, 30]
        assert (len(cells), list(cells), cells[1:3]) == (5, [10, 2, 30, 4, 50], [2, 30])
        assert Cell(memory, "i", 16).value == 10
        assert Cell(memory, "i", 36).value == 0

    def test_outside_and_of_another_length_is_refused(self, memory):
        cells = Cells(memory, "i", 2)
        for index in (2, -3):
            with pytest.raises(IndexError):
                cells[index]
        with pytest.raises(ValueError, match="3 values for 2 places"):
            cells[:] = [1, 2, 3]
        with pytest.raises(ValueError, match="not inside"):
            Cells(memory, "q", 513)
        with pytest.raises(ValueError, match="at least one"):
            Cells(memory, "q", 0)
        assert list(cells) == [0, 0]
