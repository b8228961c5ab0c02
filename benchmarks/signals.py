"""Signals: how soon a handler has run, what it costs to wait for one, and how soon somebody else is woken."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from benchmarks.contest import MICROSECONDS, US, Measurement, Unit, at_most
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

# Fewer than any machine queues for a user (RLIMIT_SIGPENDING), more than hornpipe keeps outside of the kernel.
BATCH = 5_000
THOUSANDS_PER_SECOND = Unit("k/s", lambda cost: 1e-3 / cost, "{:,}".format)
QUEUED = signal.SIGRTMIN + 3

handler = Measurement(
    "handler",
    "signal ourselves and have it handled, {size} times",
    unit=MICROSECONDS,
    size=100_000,
    quick=10_000,
    peer="signal.signal",
    targets=[at_most(1.30, "signal.signal")],
)
handler.program("C", [c("handler"), "SIZE"])
handler.program(
    "perl %SIG", perl("my $n = 0; $SIG{USR1} = sub { $n++ }; kill USR1 => $$ for 1 .. $size; $n == $size or die")
)


def kill_ourselves(figures: Figures, size: int, handled: list[object]) -> None:
    kill, pid, number = os.kill, os.getpid(), signal.SIGUSR1
    with figures:
        for _ in range(size):
            kill(pid, number)
    expect(len(handled), size)


@handler.contender(US)
def handled_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    handled: list[object] = []
    hp.SIG["USR1"] = lambda sig: handled.append(None)
    kill_ourselves(figures, size, handled)


@handler.contender("hornpipe (hp.kill)")
def sent_and_handled_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    handled: list[object] = []
    hp.SIG["USR1"] = lambda sig: handled.append(None)
    pid = os.getpid()
    with figures:
        for _ in range(size):
            hp.kill("USR1", pid)
    expect(len(handled), size)


@handler.contender("signal.signal")
def handled_by_python(figures: Figures, size: int) -> None:
    handled: list[object] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(None))
    kill_ourselves(figures, size, handled)


take = Measurement(
    "take",
    "queue a blocked signal to ourselves and take it, {size} times",
    unit=MICROSECONDS,
    size=20_000,
    quick=2_000,
    peer="signal.sigtimedwait",
)
take.program("C", [c("take"), "SIZE", "1"])
# Perl can wait for a signal, but not take it: there is a handler in between.
take.program(
    "perl sigsuspend",
    perl(
        """
        use POSIX; my ($n, $all) = (0, POSIX::SigSet->new);
        $SIG{USR1} = sub { $n++ }; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR1));
        start_now();
        for (1 .. $size) { kill USR1 => $$; sigsuspend($all) }
        $n == $size or die;
        """
    ),
)


@take.contender(US)
def taken_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    pid = os.getpid()
    with hp.signals.block(QUEUED), figures:
        for value in range(size):
            hp.signals.queue(QUEUED, pid, value)
            sig = hp.signals.wait(QUEUED, timeout=5)
    expect(sig.value, size - 1)


@take.contender("hornpipe (suspend)")
def suspended_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    pid = os.getpid()
    handled: list[int] = []
    hp.SIG[QUEUED] = lambda sig: handled.append(sig.value)
    with hp.signals.block(QUEUED), figures:
        for value in range(size):
            hp.signals.queue(QUEUED, pid, value)
            hp.signals.suspend(QUEUED, timeout=5)
    expect(handled, list(range(size)))


@take.contender("signal.sigtimedwait")
def taken_by_python(figures: Figures, size: int) -> None:
    pid = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [QUEUED])
    with figures:
        for _ in range(size):
            os.kill(pid, QUEUED)
            expect(signal.sigtimedwait([QUEUED], 5).si_pid, pid)


drain = Measurement(
    "drain",
    "take {size} queued signals, " + f"{BATCH:,} at once",
    unit=THOUSANDS_PER_SECOND,
    size=100_000,
    quick=10_000,
    peer="signal.sigtimedwait",
)
drain.program("C", [c("take"), "SIZE", str(BATCH)])
# Handlers of %SIG merge them; those that sigaction runs at once, between any two instructions, do not.
drain.program(
    "perl sigaction (unsafe)",
    perl(
        """
        use POSIX; my ($n, $number, $batch) = (0, SIGRTMIN + 3, $args[0]); my $set = POSIX::SigSet->new($number);
        sigaction($number, POSIX::SigAction->new(sub { $n++ }));
        start_now();
        for (1 .. $size / $batch) {
            my $begun = clock_gettime(CLOCK_MONOTONIC);
            sigprocmask(SIG_BLOCK, $set); kill $number => $$ for 1 .. $batch;
            $start += clock_gettime(CLOCK_MONOTONIC) - $begun;
            sigprocmask(SIG_UNBLOCK, $set);
        }
        $n == $size or die "$n";
        """,
        str(BATCH),
    ),
)


def in_batches(figures: Figures, size: int, work: Callable[[], object]) -> None:
    """Time what is done with each batch, not the queueing."""
    import hornpipe as hp

    pid = os.getpid()
    for _ in range(size // BATCH):
        signal.pthread_sigmask(signal.SIG_BLOCK, [QUEUED])
        for value in range(BATCH):
            hp.signals.queue(QUEUED, pid, value)
        with figures:
            work()


@drain.contender("hornpipe watch")
def drained_by_watch(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [QUEUED])
        for wanted in range(BATCH):
            expect(signals.get().value, wanted)

    with hp.watch(QUEUED) as signals:
        in_batches(figures, size, work)


@drain.contender("hornpipe SIG")
def drained_by_handler(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [QUEUED])
        while len(handled) < BATCH:
            pass  # a flood leaves the program some time between handlers
        expect(handled, list(range(BATCH)))
        handled.clear()

    handled: list[int] = []
    hp.SIG[QUEUED] = lambda sig: handled.append(sig.value)
    in_batches(figures, size, work)


@drain.contender("hornpipe wait")
def drained_by_wait(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def work() -> None:
        for wanted in range(BATCH):
            expect(hp.signals.wait(QUEUED, timeout=5).value, wanted)

    in_batches(figures, size, work)


@drain.contender("signal.sigtimedwait")
def drained_by_python(figures: Figures, size: int) -> None:
    def work() -> None:
        for _ in range(BATCH):
            expect(signal.sigtimedwait([QUEUED], 5).si_signo, QUEUED)

    in_batches(figures, size, work)


def chat(name: str, between: str) -> Measurement:
    return Measurement(
        name,
        f"a signal to another {between} and one back, on one CPU, {{size}} times",
        unit=MICROSECONDS,
        size=20_000,
        quick=2_000,
        peer="signal.sigwaitinfo",
        one_cpu=True,
    )


processes = chat("wake-process", "process")
processes.program("C", [c("signal_chat"), "SIZE", "processes"])
processes.program(
    "perl sigsuspend",
    perl(
        """
        use POSIX; my $all = POSIX::SigSet->new; my $n = 0;
        $SIG{USR1} = sub { $n++ }; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR1));
        my $parent = $$; my $child = fork;
        if (!$child) { while (1) { sigsuspend($all); kill USR1 => $parent } }
        start_now();
        for (1 .. $size) { kill USR1 => $child; sigsuspend($all) }
        kill KILL => $child; waitpid $child, 0; $? = 0; $n == $size or die;
        """
    ),
)


@processes.contender(US)
def other_process_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def answer() -> None:
        with hp.watch("USR2") as signals:
            os.kill(parent, signal.SIGUSR1)
            for sig in signals:
                os.kill(sig.pid, signal.SIGUSR1)

    parent = os.getpid()
    with hp.watch("USR1") as signals, hp.fn(answer).start() as child:
        signals.get(timeout=5)
        with figures:
            for _ in range(size):
                os.kill(child.pid, signal.SIGUSR2)
                sig = signals.get()
        expect(sig.pid, child.pid)
        child.kill("KILL")
        child.wait()


@processes.contender("signal.sigwaitinfo")
def other_process_by_python(figures: Figures, size: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    parent = os.getpid()
    child = os.fork()
    while not child:
        signal.sigwaitinfo([signal.SIGUSR2])
        os.kill(parent, signal.SIGUSR1)
    with figures:
        for _ in range(size):
            os.kill(child, signal.SIGUSR2)
            found = signal.sigwaitinfo([signal.SIGUSR1])
    expect(found.si_pid, child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


threads = chat("wake-thread", "thread")
threads.program("C", [c("signal_chat"), "SIZE", "threads"])


@threads.contender(US)
def other_thread_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def answer() -> None:
        for _ in asked:
            os.kill(pid, signal.SIGUSR1)

    pid = os.getpid()
    with hp.watch("USR1") as signals, hp.watch("USR2") as asked:
        thread = threading.Thread(target=answer)
        thread.start()
        with figures:
            for _ in range(size):
                os.kill(pid, signal.SIGUSR2)
                signals.get()
        asked.close()
        thread.join()


@threads.contender("signal.sigwaitinfo")
def other_thread_by_python(figures: Figures, size: int) -> None:
    def answer() -> None:
        for _ in range(size):
            signal.sigwaitinfo([signal.SIGUSR2])
            os.kill(pid, signal.SIGUSR1)

    pid = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    thread = threading.Thread(target=answer)
    thread.start()
    with figures:
        for _ in range(size):
            os.kill(pid, signal.SIGUSR2)
            signal.sigwaitinfo([signal.SIGUSR1])
    thread.join()


MEASUREMENTS = [handler, take, drain, processes, threads]
