"""Message queues: whole messages, by type, never cut in silence (perlipc:V3)."""

from __future__ import annotations

import os
import pickle
import threading

import pytest

import hornpipe as hp
from hornpipe.sysv import Message, MessageQueue, ObjectRemoved
from hornpipe.testing.patience import wait_until

KEY = hp.sysv.key_for(f"hornpipe test of queues {os.getpid()}")


@pytest.fixture
def queue():
    with MessageQueue.create() as made:
        yield made


class TestTypes:
    """gotcha:Y9"""

    @pytest.mark.parametrize("kind", [1, 2**31, 2**40, 2**63 - 1])
    def test_the_whole_width_of_a_native_long(self, queue, kind):
        """perlipc:V3, gotcha:Y9"""
        queue.send(b"x", kind)
        assert queue.receive(kind, timeout=0) == Message(b"x", kind)

    @pytest.mark.parametrize("kind", [0, -1])
    def test_a_type_below_one_is_refused(self, queue, kind):
        """gotcha:Y9: the page packs an undefined variable."""
        with pytest.raises(ValueError, match="type is 1 or more"):
            queue.send(b"x", kind)
        with pytest.raises(ValueError, match="type is 1 or more"):
            queue.receive(except_type=kind)
        assert queue.stat().messages == 0

    @pytest.mark.parametrize(
        ("selection", "order"),
        [
            ({}, ["a9", "b2", "c5", "d2"]),
            ({"type": 2}, ["b2", "d2"]),
            ({"type": -5}, ["b2", "d2", "c5"]),
            ({"except_type": 2}, ["a9", "c5"]),
            ({"type": 7}, []),
            ({"type": -1}, []),
        ],
    )
    def test_any_exactly_at_most_and_all_but(self, queue, selection, order):
        """perlipc:V3, gotcha:Y9"""
        for each in ["a9", "b2", "c5", "d2"]:
            queue.send(each.encode(), type=int(each[1]))
        taken = []
        with pytest.raises(TimeoutError):
            while True:
                taken.append(queue.receive(timeout=0, **selection).data.decode())
        assert taken == order
        with pytest.raises(ValueError, match="either type or except_type"):
            queue.receive(type=1, except_type=2)


class TestSizes:
    @pytest.mark.parametrize("size", [0, 1, 64, 8191, 8192])
    def test_whole_messages_up_to_the_systems_limit(self, queue, size):
        """gotcha:Y7: a fixed buffer is too small for one of them, and the message stays."""
        data = os.urandom(size)
        queue.send(data)
        queue.send(bytearray(data))
        assert queue.receive(timeout=0).data == data
        assert queue.receive(1, timeout=1).data == data

    def test_a_message_is_cut_only_when_asked_and_says_so(self, queue):
        """gotcha:Y7"""
        queue.send(b"0123456789", 3)
        with pytest.raises(hp.LimitExceeded, match="longer than 4 bytes and has stayed") as caught:
            queue.receive(max_size=4, timeout=0)
        assert caught.value.limit == 4
        assert queue.stat().messages == 1
        cut = queue.receive(max_size=4, truncate=True, timeout=0)
        assert (cut.data, cut.type, cut.truncated) == (b"0123", 3, True)
        queue.send(b"0123", 3)
        assert not queue.receive(max_size=4, truncate=True, timeout=0).truncated
        for wrong in ({"truncate": True}, {"max_size": -1}):
            with pytest.raises(ValueError, match="max_size"):
                queue.receive(**wrong)

    def test_more_than_the_system_allows_says_how_much_and_where(self, queue):
        """gotcha:Y8"""
        most = hp.sysv.limits().MSGMAX
        with pytest.raises(hp.sysv.SystemLimit, match=f"{most + 1} bytes is more than {most} .MSGMAX.") as caught:
            queue.send(bytes(most + 1))
        assert (caught.value.name, caught.value.value, caught.value.knob) == (
            "MSGMAX",
            most,
            "/proc/sys/kernel/msgmax",
        )
        assert isinstance(caught.value, ValueError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), again.name) == (type(caught.value), str(caught.value), "MSGMAX")

    def test_what_an_empty_queue_has_no_room_for_is_not_waited_for(self, queue):
        """gotcha:Y8: the kernel would wait for ever."""
        queue.set_max_bytes(100)
        with pytest.raises(hp.sysv.SystemLimit, match="more than this queue's 100"):
            queue.send(bytes(101))

    def test_a_full_queue_says_what_is_in_it(self, queue):
        """gotcha:Y8: two messages of the greatest size fill one."""
        queue.send(bytes(8192))
        queue.send(bytes(8192))
        with pytest.raises(TimeoutError, match="2 messages, 16384 of 16384 bytes"):
            queue.send(b"x", timeout=0)

    def test_empty_messages_are_bounded_by_their_number(self, queue):
        """gotcha:Y8"""
        queue.set_max_bytes(3)
        for _ in range(3):
            queue.send(b"")
        with pytest.raises(TimeoutError, match="3 messages, 0 of 3 bytes"):
            queue.send(b"", timeout=0)

    def test_a_message_longer_than_any_before_is_received_whole(self):
        """gotcha:Y7: the system's limit was raised after we had looked."""
        program = """if True:
            import hornpipe as hp
            open("/proc/sys/kernel/msgmnb", "w").write("1000000")
            with hp.sysv.MessageQueue.create() as queue:
                open("/proc/sys/kernel/msgmax", "w").write("300000")
                queue.send(bytes(300_000))
                queue.send(b"x" * 20_000)
                print(len(queue.receive().data), len(queue.peek().data), len(queue.receive(timeout=1).data))"""
        assert in_an_ipc_namespace(program) == "300000 20000 20000\n"

    @pytest.mark.parametrize("way", [{}, {"timeout": 20}, {"type": 7}, {"max_size": 8192}], ids=repr)
    def test_messages_of_every_length_come_whole_in_every_way(self, queue, way):
        """gotcha:Y7: for brief ones there is a shortest way, which has little room; a longer one stays where it is."""
        for size in (0, 1, 487, 488, 489, 8191, 8192, 3):
            for kind in (bytes, bytearray):
                data = os.urandom(size)
                queue.send(kind(data), 7)
                assert queue.peek() == queue.receive(**way) == Message(data, 7)


def in_an_ipc_namespace(program: str) -> str:
    import sys

    return hp.cmd("unshare", "--map-root-user", "--ipc", sys.executable, "-c", program).read()


class TestPeeking:
    def test_it_stays_where_it_is(self, queue):
        for each in (b"first", b"second"):
            queue.send(each, 5)
        assert [queue.peek().data, queue.peek(1).data, queue.peek(0).data] == [b"first", b"second", b"first"]
        assert queue.stat().messages == 2
        for index in (2, -1):
            with pytest.raises(IndexError):
                queue.peek(index)


class TestBeingRemoved:
    @pytest.mark.parametrize("call", ["send", "receive"])
    def test_a_waiter_and_every_later_call_say_removed(self, call):
        """gotcha:Y4"""
        queue = MessageQueue.create()
        queue.set_max_bytes(1)
        if call == "send":
            queue.send(b"1")
        work = {"send": lambda: queue.send(b"2", timeout=20), "receive": lambda: queue.receive(timeout=20)}[call]
        remover = threading.Timer(0.1, queue.remove)
        remover.start()
        for _ in range(2):
            with pytest.raises(ObjectRemoved, match=f"message queue {queue.id} was removed"):
                work()
        remover.join()
        for other in (queue.stat, queue.peek, lambda: queue.chmod(0o600), lambda: queue.set_max_bytes(5)):
            with pytest.raises(ObjectRemoved):
                other()

    def test_a_bad_argument_is_not_mistaken_for_it(self, queue):
        """gotcha:Y4: EINVAL is both."""
        with pytest.raises(hp.sysv.SystemLimit):
            queue.send(bytes(100_000))
        with pytest.raises(OverflowError):
            queue.receive(type=2**64)
        assert queue.stat().messages == 0


class TestFindingOne:
    def test_by_key_and_by_id(self):
        """perlipc:V3"""
        with MessageQueue.create(KEY) as made:
            for other in (MessageQueue.open(KEY), MessageQueue.from_id(made.id), MessageQueue.open_or_create(KEY)):
                assert (other.id, other.key, other.created) == (made.id, KEY, False)
                with other:
                    other.send(b"hello")
                assert made.receive(timeout=0).data == b"hello"
            with pytest.raises(FileExistsError, match="already; open"):
                MessageQueue.create(KEY)
        with pytest.raises(FileNotFoundError, match=f"with key {KEY:#x} in this IPC namespace"):
            MessageQueue.open(KEY)

    def test_facts(self, queue):
        """perlipc:V3"""
        queue.send(b"four")
        found = queue.stat()
        assert (found.bytes, found.messages, found.last_send_pid, found.last_receive_pid) == (4, 1, os.getpid(), 0)
        assert found.send_time > 0 == found.receive_time
        hp.fn(queue.receive).run()
        wait_until(lambda: queue.stat().messages == 0)
        assert queue.stat().last_receive_pid not in (0, os.getpid())

    def test_a_message_travels(self):
        message = Message(b"x", 5, True)
        assert pickle.loads(pickle.dumps(message)) == message
        assert repr(message) == "Message(b'x', type=5, truncated=True)"
        assert len({message, Message(b"x", 5, True), Message(b"x", 5)}) == 2
