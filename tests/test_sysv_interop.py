"""The same objects from both sides: ours, and Perl's, C's and util-linux's.

The Perl is the manual page's, as it stands there but for the waiting that lets the other side have its turn, and for
the type of the message, which the page packs from a variable that it never sets (gotcha:Y9).
"""

from __future__ import annotations

import errno
import os
import re
import signal
import struct

import pytest

import hornpipe as hp
from hornpipe.sysv import MessageQueue, ObjectRemoved, SemaphoreSet, SharedMemory
from hornpipe.testing.patience import wait_until

KEY = hp.sysv.key_for(f"hornpipe tests of interop {os.getpid()}")
PATIENCE = 30


@pytest.fixture(scope="module", autouse=True)
def _the_number_0_is_used_up():
    """The page's ``|| die`` takes the id 0 for a failure, and the first object of a machine or container has it."""
    with SharedMemory.create(1), SemaphoreSet.create([0]), MessageQueue.create():
        pass


def perl(program, *arguments, **options):
    """A Perl program to talk with, line by line."""
    program = f"use strict; $| = 1; {program}"
    return hp.cmd("perl", "-we", program, *map(str, arguments), timeout=50, **options).duplex()


def tool(*words):
    return hp.cmd(*words, timeout=50).read()


# --- shared memory ---

PAGES_SHM = """
    use IPC::SysV qw(IPC_PRIVATE IPC_RMID S_IRWXU);
    my $size = 2000;
    my $id = shmget(IPC_PRIVATE, $size, S_IRWXU) || die "$!";
    my $message = "Message #1";
    shmwrite($id, $message, 0, 60) || die "$!";
    print "$id\n";  <STDIN>;
    my $buff;
    shmread($id, $buff, 0, 60) || die "$!";
    substr($buff, index($buff, "\\0")) = '';
    print "un" unless $buff eq $message;
    print "swell\n";
    shmctl($id, IPC_RMID, 0) || die "$!";
"""


class TestSharedMemory:
    """perlipc:V1"""

    @pytest.mark.parametrize(("written", "verdict"), [(None, "swell"), (b"Message #2", "unswell")])
    def test_the_pages_program_on_the_other_side(self, written, verdict):
        """perlipc:V1, gotcha:Y10"""
        with perl(PAGES_SHM) as other:
            shm = SharedMemory.from_id(int(other.readline()))
            assert (shm.size, shm.created) == (2000, False)
            assert shm.read(0, 61) == b"Message #1" + b"\0" * 51
            if written is not None:
                shm.write(written, size=60)
            assert other.ask("go on") == verdict
            assert other.read() == ""
        assert shm.stat().doomed
        shm.detach()

    def test_a_segment_of_ours_read_and_written_by_perl(self):
        """perlipc:V1, gotcha:Y10: all bytes, in its place, NULs and all."""
        program = """
            my $id = shift; my $got;
            shmread($id, $got, 3, 256) || die "$!"; print unpack("H*", $got), "\n";
            shmwrite($id, "\\0\\1\\377", 1000, 5) || die "$!"; print "written\n";
            shmwrite($id, "x", 2000, 1) and die; print $! + 0, "\n";
        """
        every = bytes(range(256))
        with SharedMemory.create(2000) as shm:
            shm.buf[:] = b"-" * 2000
            shm.write(every, 3)
            with perl(program, shm.id) as other:
                assert bytes.fromhex(other.readline()) == every
                assert other.readline() == "written\n"
                assert int(other.readline()) == errno.EFAULT
                pid = other.pid
            assert shm.read(999, 7) == b"-\0\x01\xff\0\0-"
            assert shm.stat().last_pid == pid

    def test_perl_finds_it_by_its_key(self):
        """perlipc:V1"""
        with SharedMemory.create(100, KEY) as shm:
            program = f'my $id = shmget({KEY}, 0, 0) // die "$!"; print "$id\n"'
            with perl(program) as other:
                assert int(other.readline()) == shm.id


# --- semaphores ---

PAGES_CREATE = """
    use IPC::SysV qw(IPC_CREAT);
    my $IPC_KEY = shift;
    my $id = semget($IPC_KEY, 10, 0666 | IPC_CREAT) || die "$!";
    print "shm key $id\n";
"""
PAGES_TAKE = """
    my $IPC_KEY = shift;
    my $id = semget($IPC_KEY, 0, 0);
    die if !defined($id);
    my $semnum = 0;
    my $semflag = 0;
    my $semop = 0;
    my $opstring1 = pack("s!s!s!", $semnum, $semop, $semflag);
    $semop = 1;
    my $opstring2 = pack("s!s!s!", $semnum, $semop, $semflag);
    my $opstring = $opstring1 . $opstring2;
    print "taking\n";
    semop($id, $opstring) || die "$!";
    print "taken\n";
"""
PAGES_GIVE = """
    my $IPC_KEY = shift;
    my $id = semget($IPC_KEY, 0, 0);
    die if !defined($id);
    my $semnum = 0;
    my $semflag = 0;
    my $semop = -1;
    my $opstring = pack("s!s!s!", $semnum, $semop, $semflag);
    semop($id, $opstring) || die "$!";
"""
TAKE, GIVE = [(0, 0), (0, +1)], [(0, -1)]


def run_perl(program, *arguments):
    with perl(program, *arguments) as other:
        return other.read()


class TestSemaphores:
    """perlipc:V2"""

    def test_the_pages_programs_take_and_give_with_ours(self):
        """perlipc:V2, gotcha:Y3"""
        made = int(run_perl(PAGES_CREATE, KEY).split()[-1])
        sems = SemaphoreSet.open(KEY)
        try:
            assert (sems.id, len(sems), sems.values, sems.created) == (made, 10, [0] * 10, False)
            assert run_perl(PAGES_TAKE, KEY) == "taking\ntaken\n"
            with pytest.raises(TimeoutError):
                sems.op(TAKE, timeout=0)
            # Theirs gives, and ours goes on.
            assert run_perl(PAGES_GIVE, KEY) == ""
            sems.op(TAKE, timeout=PATIENCE)
            # Ours gives, and theirs goes on.
            with perl(PAGES_TAKE, KEY) as other:
                assert other.readline() == "taking\n"
                wait_until(lambda: sems[0].waiting_for_zero, PATIENCE, "Perl to wait")
                sems.op(GIVE)
                assert other.readline() == "taken\n"
                assert sems[0].pid == other.pid
            assert sems.values == [1] + [0] * 9
        finally:
            sems.remove()

    def test_a_set_of_ours_for_the_pages_programs(self):
        """perlipc:V2"""
        with SemaphoreSet.create([0] * 10, KEY) as sems:
            assert int(run_perl(PAGES_CREATE, KEY).split()[-1]) == sems.id
            assert run_perl(PAGES_TAKE, KEY) == "taking\ntaken\n"
            assert sems[0].value == 1
            run_perl(PAGES_GIVE, KEY)
            assert sems[0].value == 0

    def test_values_waiters_and_pids_are_the_same_from_both_sides(self):
        """perlipc:V2"""
        program = """
            use IPC::SysV qw(GETALL SETALL GETNCNT GETPID SETVAL); my $id = shift;
            semctl($id, 0, GETALL, my $all) // die "$!"; print join(" ", unpack("s!*", $all)), "\n";
            print semctl($id, 2, GETNCNT, 0) + 0, " ", semctl($id, 0, GETPID, 0) + 0, "\n"; <STDIN>;
            semctl($id, 0, SETALL, pack("s!*", 9, 32767, 0)) // die "$!"; print "set\n";
        """
        waiter = hp.fn(lambda: sems[2].acquire(timeout=PATIENCE))
        with SemaphoreSet.create([3, 4, 0]) as sems:
            sems[0].acquire()
            with waiter.start() as child:
                wait_until(lambda: sems[2].waiting, PATIENCE, "the waiter")
                with perl(program, sems.id) as other:
                    assert other.readline() == "2 4 0\n"
                    assert other.readline() == f"1 {os.getpid()}\n"
                    assert other.ask("go on") == "set"
                assert sems.values == [9, 32767, 0]
                sems[2].release()
                assert child.wait()

    def test_who_is_killed_gives_back_what_he_took_whoever_he_is(self):
        """perlipc:V4, gotcha:Y2"""
        program = """
            use IPC::SysV qw(SEM_UNDO); my $id = shift;
            semop($id, pack("s!3", 0, -1, SEM_UNDO)) || die "$!"; print "taken\n"; <STDIN>;
        """
        with SemaphoreSet.create([1]) as sems:
            with perl(program, sems.id, check=False) as other:
                assert other.readline() == "taken\n"
                assert sems[0].value == 0
                hp.kill("KILL", other.pid)
                sems[0].acquire(timeout=PATIENCE)
            sems[0].release()

            def hold():
                with sems[0]:
                    print("taken", flush=True)
                    signal.pause()

            with hp.fn(hold).with_options(check=False).reader() as child:
                assert child.readline() == "taken\n"
                with perl(program, sems.id) as other:
                    wait_until(lambda: sems[0].waiting, PATIENCE, "Perl to wait")
                    hp.kill("KILL", child.pid)
                    assert other.readline() == "taken\n"
            wait_until(lambda: sems[0].value == 1, PATIENCE, "Perl's end")


# --- messages ---


class TestMessages:
    """perlipc:V3"""

    def test_the_pages_message_arrives_here(self):
        """perlipc:V3, gotcha:Y9"""
        program = """
            use IPC::SysV qw(IPC_PRIVATE IPC_RMID IPC_CREAT S_IRWXU);
            my $id = msgget(IPC_PRIVATE, IPC_CREAT | S_IRWXU) // die "# msgget failed\n";
            my $sent = "message";
            my $type_sent = 1234;
            msgsnd($id, pack("l! a*", $type_sent, $sent), 0) || die "# msgsnd failed\n";
            print "$id\n";  <STDIN>;
            msgrcv($id, my $rcvd, 60, 0, 0) || die "# msgrcv failed\n";
            (my $type_rcvd, $rcvd) = unpack("l! a*", $rcvd);
            print $rcvd eq $sent && $type_rcvd == $type_sent ? "okay\n" : "not okay\n";
            msgctl($id, IPC_RMID, 0) || die "# msgctl failed: $!\n";
        """
        with perl(program) as other:
            queue = MessageQueue.from_id(int(other.readline()))
            assert queue.peek() == hp.sysv.Message(b"message", 1234)
            message = queue.receive(timeout=0)
            assert (message.data, message.type) == (b"message", 1234)
            assert queue.stat().last_send_pid == other.pid
            queue.send(message.data, message.type)
            assert other.ask("go on") == "okay"

    @pytest.mark.parametrize("kind", [1, 2**31 + 1, 2**40, 2**63 - 1])
    def test_types_are_native_longs_on_both_sides(self, kind):
        """perlipc:V3, gotcha:Y9"""
        program = """
            my ($id, $type) = @ARGV;
            msgrcv($id, my $got, 9000, $type, 0) || die "$!"; my ($came, $text) = unpack("l! a*", $got);
            msgsnd($id, pack("l! a*", $came, scalar reverse $text), 0) || die "$!"; print "$came\n";
        """
        every = bytes(range(256)) * 32  # 8192, the most there is
        with MessageQueue.create() as queue:
            queue.send(every, type=kind)
            with perl(program, queue.id, kind) as other:
                assert int(other.readline()) == kind
            assert queue.receive(timeout=PATIENCE) == hp.sysv.Message(every[::-1], kind)

    def test_selection_by_type_is_the_same(self):
        """perlipc:V3, gotcha:Y9"""
        program = """
            use IPC::SysV qw(IPC_NOWAIT MSG_NOERROR); my $id = shift;
            for my $want (-4, 5, 0, -2) {
                my $n = msgrcv($id, my $got, 2, $want, IPC_NOWAIT | MSG_NOERROR);
                print $n ? join(" ", unpack("l! a*", $got)) : $! + 0, "\n";
            }
        """
        types = [5, 3, 4, 5]

        def fill():
            for kind in types:
                queue.send(str(kind).encode() * 3, type=kind)

        with MessageQueue.create() as queue:
            fill()
            theirs = run_perl(program, queue.id).splitlines()
            assert theirs == ["3 33", "5 55", "4 44", str(errno.ENOMSG)]
            fill()
            queue.receive()
            ours = []
            for want in (-4, 5, 0):
                message = queue.receive(type=want, timeout=0, max_size=2, truncate=True)
                ours.append(f"{message.type} {message.data.decode()}")
            with pytest.raises(TimeoutError):
                queue.receive(type=-2, timeout=0)
        assert ours == theirs[:3]

    def test_a_receiver_of_the_other_kind_is_woken(self):
        """perlipc:V3"""
        program = """
            my ($there, $back) = @ARGV;
            while (msgrcv($there, my $got, 100, 0, 0)) { msgsnd($back, $got, 0) || die "$!" }
            print $! + 0, "\n";
        """
        with (
            MessageQueue.create() as there,
            MessageQueue.create() as back,
            perl(program, there.id, back.id) as echo,
        ):
            for number in range(100):
                there.send(b"%d" % number, type=number + 1)
                assert back.receive(timeout=PATIENCE) == hp.sysv.Message(b"%d" % number, number + 1)
            there.remove()
            # The other number is for one that was not back in msgrcv yet.
            assert int(echo.readline()) in {errno.EIDRM, errno.EINVAL}


# --- util-linux ---


class TestTools:
    """perlipc:V4"""

    def test_what_ipcmk_makes_is_found_and_what_ipcrm_removes_is_gone(self):
        """perlipc:V4, gotcha:Y4"""
        for words, letter, kind, call in (
            (["-M", "4321", "-p", "0600"], "m", SharedMemory, lambda shm: shm.stat()),
            (["-S", "3", "-p", "0600"], "s", SemaphoreSet, lambda sems: sems[2].release()),
            (["-Q", "-p", "0600"], "q", MessageQueue, lambda queue: queue.send(b"x")),
        ):
            number = int(re.search(r"\d+", tool("ipcmk", *words))[0])
            made = kind.from_id(number)
            assert made.key
            assert kind.open(made.key).id == number
            if isinstance(made, SharedMemory):
                assert made.size == 4321
                made.detach()
            if isinstance(made, SemaphoreSet):
                assert made.values == [0, 0, 0]
            call(made)
            tool("ipcrm", f"-{letter}", str(number))
            with pytest.raises(ObjectRemoved):
                call(made)
            with pytest.raises(FileNotFoundError):
                kind.open(made.key)

    def test_ipcs_shows_what_we_say(self):
        """perlipc:V4"""
        with SharedMemory.create(4321, mode=0o640) as shm, MessageQueue.create(KEY, mode=0o620) as queue:
            queue.send(b"hello")
            queue.send(b"")
            segment, shown = tool("ipcs", "-m", "-i", str(shm.id)), tool("ipcs", "-q", "-i", str(queue.id))
        assert "bytes=4321" in segment
        assert "nattch=1" in segment
        assert f"cpid={os.getpid()}" in segment
        assert "access_perms=0640" in segment
        assert re.search(r"cbytes=5\s+qbytes=\d+\s+qnum=2", shown)
        with SemaphoreSet.create([3, 1, 4]) as sems:
            sems[1].acquire()
            rows = re.findall(
                r"^(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", tool("ipcs", "-s", "-i", str(sems.id)), re.MULTILINE
            )
        assert [(int(row[0]), int(row[1])) for row in rows] == [(0, 3), (1, 0), (2, 4)]
        assert int(rows[1][4]) == os.getpid()


# --- C ---

C_SIDE = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

struct record { int8_t a; int16_t b; int32_t c; int64_t d; float e; double f; char name[5]; uint16_t list[3]; };
struct letter { long type; struct { char flag; double x; int n; } text; };
union semun { int val; struct semid_ds *buf; unsigned short *array; };

static void owner(const struct ipc_perm *p)
{
    printf("%d %u %u %u %u %o\n", p->__key, p->uid, p->gid, p->cuid, p->cgid, p->mode & 0777u);
}

int main(int argc, char **argv)
{
    const char *what = argv[1];
    int id = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "ftok")) {
        printf("%d\n", ftok(argv[2], atoi(argv[3])));
    } else if (!strcmp(what, "segment")) {
        struct shmid_ds s;
        if (shmctl(id, IPC_STAT, &s)) return 1;
        owner(&s.shm_perm);
        printf("%zu %lu %d %d %ld %ld %ld\n", s.shm_segsz, (unsigned long)s.shm_nattch, s.shm_cpid, s.shm_lpid,
               (long)s.shm_atime, (long)s.shm_dtime, (long)s.shm_ctime);
    } else if (!strcmp(what, "set")) {
        struct semid_ds s;
        if (semctl(id, 0, IPC_STAT, (union semun){.buf = &s})) return 1;
        owner(&s.sem_perm);
        printf("%lu %ld %ld\n", (unsigned long)s.sem_nsems, (long)s.sem_otime, (long)s.sem_ctime);
    } else if (!strcmp(what, "queue")) {
        struct msqid_ds s;
        if (msgctl(id, IPC_STAT, &s)) return 1;
        owner(&s.msg_perm);
        printf("%lu %lu %lu %d %d %ld %ld %ld\n", (unsigned long)s.__msg_cbytes, (unsigned long)s.msg_qnum,
               (unsigned long)s.msg_qbytes, s.msg_lspid, s.msg_lrpid, (long)s.msg_stime, (long)s.msg_rtime,
               (long)s.msg_ctime);
    } else if (!strcmp(what, "record")) {
        struct record *r = (struct record *)((char *)shmat(id, NULL, 0) + 64);
        printf("%zu %d %d %d %lld %g %g %s %d %d %d\n", sizeof *r, r->a, r->b, r->c, (long long)r->d, r->e, r->f,
               r->name, r->list[0], r->list[1], r->list[2]);
        *r = (struct record){-128, -32768, INT32_MIN, INT64_MIN, -0.5f, 1e300, "back", {65535, 0, 1}};
    } else if (!strcmp(what, "letter")) {
        struct letter l;
        if (msgrcv(id, &l, sizeof l.text, 0, IPC_NOWAIT) != (long)sizeof l.text) return 1;
        printf("%ld %d %g %d\n", l.type, l.text.flag, l.text.x, l.text.n);
        l.type = 2 * l.type;
        l.text.n = -l.text.n;
        if (msgsnd(id, &l, sizeof l.text, IPC_NOWAIT)) return 1;
    } else {
        return 2;
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def c_side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    source, program = folder / "side.c", folder / "side"
    source.write_text(C_SIDE)
    tool("gcc", "-std=gnu11", "-Wall", "-o", str(program), str(source))
    return lambda *words: tool(str(program), *map(str, words)).splitlines()


def numbers(*values):
    return " ".join(map(str, values))


class TestC:
    """Layouts: what a struct is there."""

    def test_facts_are_those_that_c_sees(self, c_side):
        """perlipc:V1, perlipc:V2, perlipc:V3"""
        with SharedMemory.create(12345, KEY, mode=0o620) as shm, SharedMemory.from_id(shm.id):
            stat = shm.stat()
            owner = f"{numbers(*stat.owner[:5])} {stat.owner.mode:o}"
            assert c_side("segment", shm.id) == [owner, numbers(*stat[1:8])]
            assert (stat.owner.key, stat.owner.mode, stat.size, stat.attaches) == (KEY, 0o620, 12345, 2)
        with SemaphoreSet.create([1] * 7, mode=0o602) as sems:
            sems[1].acquire()
            found = sems.stat()
            assert c_side("set", sems.id) == [f"{numbers(*found.owner[:5])} 602", numbers(*found[1:])]
        with MessageQueue.create() as queue:
            queue.send(b"123")
            queue.send(b"4567")
            queue.receive()
            seen = queue.stat()
            assert c_side("queue", queue.id) == [f"{numbers(*seen.owner[:5])} 600", numbers(*seen[1:])]
            assert (seen.bytes, seen.messages) == (4, 1)

    def test_a_struct_in_shared_memory(self, c_side):
        """perlipc:V1"""
        layout = struct.Struct("@bhiqfd5s3H")
        with SharedMemory.create(4096) as shm:
            layout.pack_into(shm, 64, 127, -2, 1 << 30, 1 << 60, 0.25, 1e-300, b"here", 1, 2, 65535)
            assert c_side("record", shm.id) == [
                f"{-(-layout.size // 8) * 8} 127 -2 {1 << 30} {1 << 60} 0.25 1e-300 here 1 2 65535"
            ]
            assert layout.unpack_from(shm, 64) == (
                *(-128, -(1 << 15), -(1 << 31), -(1 << 63), -0.5, 1e300),
                *(b"back\0", 65535, 0, 1),
            )
            assert shm.read(0, 64) == bytes(64)

    def test_a_struct_in_a_message(self, c_side):
        """perlipc:V3, gotcha:Y9"""
        layout = struct.Struct("@cdi0d")
        with MessageQueue.create() as queue:
            queue.send(layout.pack(b"\x07", 2.5, 42), type=2**40)
            assert c_side("letter", queue.id) == [f"{2**40} 7 2.5 42"]
            message = queue.receive(timeout=0)
            assert (message.type, layout.unpack(message.data)) == (2**41, (b"\x07", 2.5, -42))

    def test_a_letter_is_no_project(self) -> None:
        with pytest.raises(TypeError, match=r"not 'a'; for a letter take its ord\(\)"):
            hp.sysv.ftok("/", "a")  # type: ignore[arg-type]

    def test_ftok_is_theirs(self, c_side, tmp_path):
        """gotcha:Y12"""
        for path in ("/", str(tmp_path), __file__):
            for project in (1, 65, 127, 128, 255):
                key = hp.sysv.ftok(path, project)
                assert c_side("ftok", path, project) == [str(key)]
            theirs = tool("perl", "-MIPC::SysV=ftok", "-e", "print ftok($ARGV[0], 65)", path)
            assert (int(theirs) - hp.sysv.ftok(path, 65)) % (1 << 32) == 0
