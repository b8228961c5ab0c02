"""Programs on terminals: starting and ending them, conversations, and prompts that come after much else."""

from __future__ import annotations

import itertools
import re
from typing import Any

from benchmarks.contest import (
    GIGABYTES_PER_SECOND,
    MIB,
    MICROSECONDS,
    US,
    Measurement,
    Target,
    ahead_of,
    at_least,
    at_most,
    grows_below,
)
from benchmarks.play import Figures, expect
from benchmarks.programs import LINE, c, perl, tcl

NOOP = c("noop")
FLOOD = c("flood")
PROMPT = "ready>"
PEERS = ("tcl expect", "Expect.pm")

ending = Measurement(
    "expect_spawn",
    "start a no-op on a terminal, expect the end of its output, close, {size} times",
    unit=MICROSECONDS,
    size=200,
    quick=40,
    turns=2,
    peer="tcl expect",
    targets=[at_most(2.00, "C"), *ahead_of(*PEERS)],
)
ending.program("C", [c("ptyspawn"), "SIZE", NOOP])
ending.program(
    "tcl expect",
    tcl("for {set i 0} {$i < $size} {incr i} { spawn -noecho [lindex $args 0]; expect eof; wait }", NOOP),
)
ending.program(
    "Expect.pm",
    perl(
        """
        use Expect; $Expect::Log_Stdout = 0;
        for (1 .. $size) { my $e = Expect->spawn($args[0]); $e->expect(undef); $e->soft_close }
        """,
        NOOP,
    ),
    share=0.05,
)


@ending.contender(US)
def ending_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe.expect as pexpect

    figures.each(size, lambda: _to_the_end(pexpect))


@ending.contender("pexpect", share=0.1)
def ending_by_pexpect(figures: Figures, size: int) -> None:
    import pexpect

    figures.each(size, lambda: _to_the_end(pexpect))


def _to_the_end(pexpect: Any) -> None:
    child = pexpect.spawn(NOOP)
    child.expect(pexpect.EOF)
    child.close()
    expect(child.exitstatus, 0)


chat = Measurement(
    "expect_chat",
    "line round trip with cat on a terminal, on one CPU, {size} times",
    unit=MICROSECONDS,
    size=3_000,
    quick=300,
    turns=6,
    peer="tcl expect",
    targets=[at_most(1.50, "C"), at_most(1.50, "C", ours="hornpipe (text)"), *ahead_of(*PEERS)],
    one_cpu=True,
    others_busy=True,
)
chat.program("C", [c("ptychat"), "SIZE", LINE])
chat.program(
    "tcl expect",
    tcl(
        """
        set line [join $args]; set stty_init -echo; spawn -noecho cat; send "$line\\r"; expect -exact "$line\\r\\n"
        start_now
        for {set i 0} {$i < $size} {incr i} { send "$line\\r"; expect -exact "$line\\r\\n" }
        """,
        LINE,
    ),
)
chat.program(
    "Expect.pm",
    perl(
        """
        use Expect; $Expect::Log_Stdout = 0; my $e = Expect->new; $e->slave->stty('-echo'); $e->spawn('cat');
        $e->send("$args[0]\\n"); $e->expect(10, "$args[0]\\r\\n");
        start_now();
        for (1 .. $size) { $e->send("$args[0]\\n"); $e->expect(10, "$args[0]\\r\\n") or die }
        """,
        LINE,
    ),
)


@chat.contender(US)
def chat_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe.expect as pexpect

    _converse(pexpect, figures, size)


@chat.contender("hornpipe (text)")
def text_chat_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe.expect as pexpect

    _converse(pexpect, figures, size, encoding="utf-8")


@chat.contender("pexpect, no delay", share=0.2)
def chat_by_pexpect(figures: Figures, size: int) -> None:
    import pexpect

    _converse(pexpect, figures, size, delay=None)


@chat.contender("pexpect", share=0.003)
def chat_by_pexpect_as_it_is(figures: Figures, size: int) -> None:
    import pexpect

    _converse(pexpect, figures, size, delay=0.05)


def _converse(pexpect: Any, figures: Figures, size: int, *, encoding: str | None = None, delay: Any = None) -> None:
    child = pexpect.spawn("cat", echo=False, encoding=encoding)
    child.delaybeforesend = delay
    answer = LINE + "\r\n" if encoding else LINE.encode() + b"\r\n"
    child.sendline(LINE)
    child.expect_exact(answer)
    with figures:
        for _ in range(size):
            child.sendline(LINE)
            child.expect_exact(answer)
    child.sendline("in step")
    child.expect("in (step)\r\n")
    expect(child.before, answer[:0])
    child.close()


# --- a prompt after much output ---

SIZES = {32: 1 / 8, 96: 3 / 8, 256: 1.0}
"""MiB, and the share of the whole size."""
KINDS: dict[str, tuple[str, ...]] = {
    "literal": (PROMPT,),
    "regex": (r"rea(dy)+>",),
    "three regexes": (r"(?i)password: ", r"[$#] $", r"rea(dy)+>"),
}
RIVALS = (*PEERS, "pexpect, window (1/32)")


def _flat(kind: str, ours: str) -> Target:
    """The cost of a MiB does not depend on how many of them there are (a tenth is what the machine varies by)."""
    few, many = (f"{ours} {kind}, {mib} MiB" for mib in (32, 256))
    return Target(
        f"{ours} {kind}: a MiB of 256 costs at most 1.10 x one of 32",
        (few, many),
        lambda r: r[many].cost / r[few].cost,
        lambda x: x <= 1.10,
    )


def _prompts(name: str, ours: str, least: float) -> Measurement:
    every = [f"{ours} {kind}, {mib} MiB" for kind in KINDS for mib in SIZES]
    return Measurement(
        name,
        f"expect a prompt after 32, 96 and {{size}} of output, {'text' if 'text' in name else 'bytes'}",
        unit=GIGABYTES_PER_SECOND,
        size=256 * MIB,
        quick=8 * MIB,
        turns=3,  # one and the same reader takes from 0.8 to 1.3 of what it took before, C's as well
        peer="C",
        targets=[
            *(at_least(least, "C", ours=each) for each in every),
            *(_flat(kind, ours) for kind in KINDS),
            *(grows_below(32 * MIB, ours=each) for each in every),
            *itertools.chain(*(ahead_of(*RIVALS, ours=f"{ours} {kind}, 32 MiB") for kind in KINDS)),
        ],
        memory=True,
    )


def _enter(measurement: Measurement, ours: str, encoding: str | None) -> None:
    measurement.program("C", [c("ptyread"), "SIZE", FLOOD, PROMPT])
    measurement.program(
        "tcl expect",
        tcl("spawn -noecho {*}[linsert $args 1 $size]; expect -exact [lindex $args 1]; close", FLOOD, PROMPT),
        share=1 / 8,
    )
    measurement.program(
        "Expect.pm",
        perl(
            """
            use Expect; $Expect::Log_Stdout = 0; my $e = Expect->spawn($args[0], $size, $args[1]); $e->max_accum(8192);
            $e->expect(60, $args[1]) or die; $e->hard_close;
            """,
            FLOOD,
            PROMPT,
        ),
        share=1 / 8,
    )
    for kind, patterns in KINDS.items():
        for mib, share in SIZES.items():

            @measurement.contender(f"{ours} {kind}, {mib} MiB", share=share)
            def by_hornpipe(figures: Figures, size: int, patterns: tuple[str, ...] = patterns) -> None:
                import hornpipe.expect as pexpect

                _until_the_prompt(pexpect, figures, size, patterns, encoding, before_limit=8192)

    @measurement.contender("pexpect, window (1/32)", share=1 / 32)
    def by_pexpect(figures: Figures, size: int) -> None:
        import pexpect

        _until_the_prompt(pexpect, figures, size, KINDS["literal"], encoding, searchwindowsize=2000)

    @measurement.contender("pexpect (1/64)", share=1 / 64)
    def by_pexpect_as_it_is(figures: Figures, size: int) -> None:
        import pexpect

        _until_the_prompt(pexpect, figures, size, KINDS["regex"], encoding)


def _until_the_prompt(
    pexpect: Any, figures: Figures, size: int, patterns: tuple[str, ...], encoding: str | None, **options: Any
) -> None:
    with figures:
        child = pexpect.spawn(FLOOD, [str(size), PROMPT], encoding=encoding, timeout=100, **options)
        if patterns == KINDS["literal"]:
            which = child.expect_exact(list(patterns))
        else:
            which = child.expect([re.compile(p if encoding else p.encode()) for p in patterns])
        child.close()
    expect(which, len(patterns) - 1)
    expect(child.before[-9:], "200 OK)\r\n" if encoding else b"200 OK)\r\n")


in_bytes = _prompts("expect_prompt", US, 0.85)
_enter(in_bytes, US, None)
in_text = _prompts("expect_prompt_text", US, 0.60)
_enter(in_text, US, "utf-8")

MEASUREMENTS = [ending, chat, in_bytes, in_text]
