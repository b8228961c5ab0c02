"""The matcher, without any transport: against a plain oracle, in any chunking, and what it costs."""

from __future__ import annotations

import itertools
import os
import re
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hornpipe import wait
from hornpipe._native.buffers import Intake, Lookout
from hornpipe.expect.analysis import INFINITE, reach_of
from hornpipe.expect.exceptions import EOF, TIMEOUT
from hornpipe.expect.matcher import Patterns, Stream
from hornpipe.fd import pipe

Result = tuple[int, Any, Any] | None

# Few characters, so that patterns meet their matches, their beginnings and each other.
TEXT = st.text("abA\u017fs\n ", max_size=40)
LITERAL = st.text("ab\n ", min_size=1, max_size=4)
REGEX = st.recursive(
    st.sampled_from(
        [
            "a",
            "b",
            "\n",
            " ",
            ".",
            "[ab]",
            "[^a]",
            r"\s",
            r"\w",
            r"\S",
            "ab",
            "$",
            "^",
            r"\b",
            r"\B",
            r"\A",
            r"\Z",
            "(?=b)",
            "(?!a)",
            "(?<=a)",
            "(?<!b)",
            "(?<=a )",
            "(?m:^)",
            "(?m:$)",
            "(?s:.)",
            "(?i:A)",
            "(?=a\n)",
            "[bs]",
            "sa",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "*?", "{2,3}?", "++"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        inner.map(lambda part: f"(?:({part})|c)"),
        inner.map(lambda part: f"(?={part})"),
    ),
    max_leaves=6,
)


def compiled(source: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(source, flags)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def comes(string: Any, folded: bool, before: Any, chunk: Any) -> bool:
    """Whether it ends in the chunk, and begins there or in what came before."""
    text = (before + chunk).lower() if folded else before + chunk
    return string in text[max(0, len(before) - len(string) + 1) :]


def fed(patterns: list[Any], chunks: list[str], passing: bool = False) -> list[Result]:
    """What the matcher says after each chunk, until it has found something.

    With ``passing`` it is spared those that bring nothing of what has to come first, as long as they are ASCII.
    """
    stream = Stream("")
    stream.begin(Patterns(patterns), None)
    said: list[Result] = [stream.search()]
    for chunk in chunks:
        if said[-1] is not None:
            break
        heralds, before = stream.heralds() if passing and chunk.isascii() else None, stream.tail(15)
        if heralds is None or any(comes(one.string, one.folded, before, chunk) for one in heralds):
            stream.feed(chunk)
        elif not stream.pass_over(chunk):
            # Nothing can match yet: neither in it, nor with it.
            stream.feed(chunk)
            assert stream.search() is None
        said.append(stream.search())
    return said


def oracle(patterns: list[Any], chunks: list[str], seen: str = "") -> list[Result]:
    """The same by looking at everything each time."""
    said: list[Result] = []
    for chunk in ["", *chunks]:
        seen += chunk
        found = []
        for index, pattern in enumerate(patterns):
            if isinstance(pattern, str):
                at = seen.find(pattern)
                if at >= 0:
                    found.append((at, index, at + len(pattern)))
            else:
                match = pattern.search(seen)
                if match:
                    found.append((match.start(), index, match.end()))
        if found:
            start, index, end = min(found, key=lambda entry: entry[:2])
            return [*said, (index, seen[:start], seen[start:end])]
        said.append(None)
    return said


CUTS = st.lists(st.integers(0, 40), max_size=12)
PATTERNS = st.lists(
    st.one_of(
        LITERAL, *(REGEX.map(lambda r, flags=flags: compiled(r, flags)) for flags in (0, re.DOTALL, re.IGNORECASE))
    ),
    max_size=3,
)


@settings(max_examples=400)
@given(PATTERNS, TEXT, CUTS)
@example([re.compile("^b")], "aaaabaa", [6])
@example([re.compile("(?<=a)b")], "aaaab", [4])
@example([re.compile("a[^\n]*b")], "b ba  b", [4, 5, 6])
@example([re.compile("a.*\n.*b")], "bba\n  b", [3, 4, 5, 6])
@example([re.compile("(?m:^)a")], "b\n\na", [3])
@example([re.compile("b$")], "bab", [1, 2])
@example([re.compile("a.*b", re.DOTALL)], "  \na\n\n\n\nb", [4, 5, 6, 7])
@example([re.compile("a+b")], "a" * 70 + " aab", [30, 72])
@example([re.compile("sb", re.IGNORECASE)], "SB", [1])
@example([re.compile("sb", re.IGNORECASE)], "\u017fB", [1])
@example([re.compile("(?:ab|b )a", re.IGNORECASE)], " aBB A", [2, 3, 4, 5])
@example(["ab"], "bbab", [3])
@example([re.compile(r"\w+ b")], "aaaa b", [4])
@example([re.compile("ab"), re.compile(r"\w+ b")], "aaaa b", [4])
def test_nothing_is_missed_and_nothing_invented_by_not_looking_again(patterns, text, cuts):
    """gotcha:TTY11, gotcha:TTY12: the same as by looking at everything after each chunk."""
    chunks = pieces(text, cuts)
    assert fed(patterns, chunks) == fed(patterns, chunks, passing=True) == oracle(patterns, chunks)


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=20).map(bytes.lower), st.booleans()), max_size=4),
    st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.integers(0, 3)), min_size=1, max_size=6),
    st.booleans(),
)
@example([(b"ready>", False)], [b"x" * 5000 + b"rea", b"dy", b"> "], False)
@example([(b"password: ", True)], [b"PaSs", b"woRD: "], False)
@example([(b"0123456789abcdefghij", False)], [b"0123456789", b"abcdefghij"], False)
@example([], [b"a", "\u017f".encode(), b"b"], True)
def test_the_lookout_sees_what_comes_however_it_is_cut(strings, chunks, ascii_only):
    """A string of the list stands for a piece of it, so that they come; of a long one the last 16 bytes count."""
    reader, writer = pipe()
    with reader, writer:
        intake, lookout, before = Intake(), Lookout(strings, ascii_only), b""
        for chunk in chunks:
            piece: bytes = chunk if isinstance(chunk, bytes) else strings[chunk][0] if chunk < len(strings) else b"."
            for part in (piece[: len(piece) // 2], piece[len(piece) // 2 :]):
                os.write(writer.fileno(), part)
                read = wait.read_on(intake, reader.fileno(), lookout, before[-15:], 16384, 65536, 0, -1)
                expected = any(comes(string[-16:], folded, before[-15:], part) for string, folded in strings)
                assert (read, intake.seen and bool(read)) == (
                    part or None,
                    bool(part) and (expected or (ascii_only and not part.isascii())),
                )
                before += part


def test_a_flood_is_read_until_there_is_something_to_see():
    """In one call, whatever the pieces are: up to the piece in which it comes, the bound, or the end."""
    reader, writer = pipe()
    with reader:
        os.set_blocking(reader.fileno(), False)
        with writer:
            os.write(writer.fileno(), b"-" * 30_000 + b"$ and more")
            read = wait.read_on(Intake(), reader.fileno(), Lookout([(b"$ ", False)]), b"", 4096, 65536, -1, -1)
            assert read == b"-" * 30_000 + b"$ and more"
            os.write(writer.fileno(), b"-" * 30_000)
            read = wait.read_on(Intake(), reader.fileno(), Lookout([(b"$ ", False)]), b"", 4096, 8192, -1, -1)
            assert read == b"-" * 8192
        seen = [wait.read_on(Intake(), reader.fileno(), Lookout([]), b"", 4096, 65536, -1, -1) for _ in range(3)]
        assert seen == [b"-" * (30_000 - 8192), b"", b""]


@given(st.lists(LITERAL, min_size=1, max_size=3), TEXT, CUTS)
def test_any_chunking_gives_the_same_where_a_match_cannot_grow(patterns, text, cuts):
    """gotcha:TTY11: the earliest match wins, provided that no other one ends before it has come."""
    ends = sorted(
        (at + len(pattern), at, index)
        for index, pattern in enumerate(patterns)
        for at in [text.find(pattern)]
        if at >= 0
    )
    whole = fed(patterns, [text])[-1]
    if whole is not None:
        _index, before, after = whole
        assume(all(end >= len(before) + len(after) for end, _, _ in ends))
    assert fed(patterns, pieces(text, cuts))[-1] == whole
    assert fed(patterns, list(text))[-1] == whole


@given(st.lists(LITERAL, min_size=1, max_size=2), TEXT, CUTS)
def test_what_is_left_is_what_came_after_the_match(patterns, text, cuts):
    stream = Stream("")
    for chunk in pieces(text, cuts):
        stream.feed(chunk)
    stream.begin(Patterns(patterns), None)
    found = stream.search()
    if found is None:
        assert stream.seen() == stream.rest() == text
    else:
        _, before, after = found
        assert before + after + stream.rest() == text


@given(PATTERNS, PATTERNS, TEXT, CUTS)
def test_other_patterns_see_what_the_first_have_passed_over(first, second, text, cuts):
    stream = Stream("")
    chunks = pieces(text, cuts)
    stream.begin(Patterns(first), None)
    for chunk in chunks:
        stream.feed(chunk)
        if stream.search() is not None:
            return
    stream.begin(Patterns(second), None)
    assert stream.search() == oracle(second, [], text)[-1]


def test_the_earliest_wins_and_then_the_order_of_the_list():
    """gotcha:TTY11."""
    assert fed(["cd", "bc", "bcd"], ["abcde"])[-1] == (1, "a", "bc")
    assert fed(["bcd", "bc"], ["abcde"])[-1] == (0, "a", "bcd")
    assert fed([re.compile("x?b"), "bc"], ["abc"])[-1] == (0, "a", "b")


def test_a_dollar_means_the_end_of_what_has_arrived():
    """gotcha:TTY11: as pexpect has it."""
    assert fed([re.compile("par$")], ["par", "tial"])[-1] == (0, "", "par")
    assert fed([re.compile("par$")], ["partial"])[-1] is None


def test_eof_and_timeout_are_no_text():
    patterns = Patterns([EOF, "a", TIMEOUT])
    assert (patterns.eof_index, patterns.timeout_index) == (0, 2)
    assert fed([EOF, "a", TIMEOUT], ["ba"])[-1] == (1, "b", "a")


@pytest.mark.parametrize(
    ("pattern", "prefix", "needed"),
    [
        ("abc", ["abc"], ["abc"]),
        ("ab+cd", ["ab"], ["ab"]),
        ("a.cd", ["a"], ["cd"]),
        ("(?i)Password: ", ["password: "], ["password: "]),
        ("(?i)\u017f!", [], ["!"]),
        ("ab|cd", ["ab", "cd"], ["ab", "cd"]),
        ("ab|", [], []),
        ("(ab)c", ["abc"], ["abc"]),
        ("(login|password): ", ["login: ", "password: "], ["login: ", "password: "]),
        ("a|ab", ["a"], ["a"]),
        ("a(?:bc)?d", ["a"], ["a"]),
        (r"\w+@.*[$#>] $", [], ["$ ", "# ", "> "]),
        (r"\b[Nn]ame", ["Name", "name"], ["Name", "name"]),
        ("[a-z]bc", [], ["bc"]),
        ("[^a]b", [], ["b"]),
        ("(?i:A)b", [], ["b"]),
        ("(?=a)b?c", [], ["c"]),
        ("x*", [], []),
    ],
)
def test_strings_that_every_match_has(pattern, prefix, needed):
    for kind in (str, str.encode):
        if kind is str or pattern.isascii():
            found = reach_of(re.compile(kind(pattern)))
            assert (found.prefix, found.needed) == (tuple(map(kind, prefix)), tuple(map(kind, needed)))


@pytest.mark.parametrize(
    ("pattern", "width", "newlines", "behind"),
    [
        ("abc", 3, 0, 0),
        (r"[#$] ", 2, 0, 0),
        (r"\w+: ", INFINITE, 0, 0),
        (r"a.*b", INFINITE, 0, 0),
        (r"(?s)a.*b", INFINITE, INFINITE, 0),
        (r"[^a]+", INFINITE, INFINITE, 0),
        (r"[^a\n]+", INFINITE, 0, 0),
        (r"a{2,5}(?=bc)", 7, 0, 0),
        (r"(?<=abc)d$", 3, 1, 3),
        (r"(ab|c)\1", 4, 0, 0),
        ("(x)?(?(1)a|bc)", 3, 0, 0),
        (r"\r?\n", 2, 1, 0),
        (r"(?s:.)\D", 2, 2, 0),
    ],
)
def test_how_far_a_pattern_can_see(pattern, width, newlines, behind):
    found = reach_of(re.compile(pattern))
    assert (found.width, found.newlines, found.behind) == (width, newlines, behind)


# --- cost ---

CHUNK = (b"x" * 78 + b"\r\n") * 800  # 64000 bytes


@pytest.mark.parametrize(
    "patterns",
    [
        [b"prompt> "],
        [re.compile(rb"[#$] ", re.DOTALL)],
        [re.compile(rb"\w+@[^\n]*> $")],
        [re.compile(rb"START.*END", re.DOTALL)],
        [re.compile(rb"login:"), re.compile(rb"(?i)password: $"), re.compile(rb"\d+ items"), b"# "],
    ],
    ids=["literal", "regex", "a line", "unbounded with a beginning", "three regexes and a literal"],
)
def test_cost_grows_with_the_output_and_memory_does_not(patterns):
    """gotcha:TTY12: ten times as much takes ten times as long, and with a limit nothing piles up."""

    def seconds(count: int) -> float:
        stream = Stream(b"", limit=1000)
        stream.begin(Patterns(patterns), None)
        began = time.process_time()
        for _ in range(count):
            stream.feed(CHUNK)
            assert stream.search() is None
        return time.process_time() - began

    seconds(2)
    few = min(seconds(20) for _ in range(3))
    assert seconds(200) < 10 * few * 3
    tracemalloc.start()
    try:
        seconds(20)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_pattern_without_bounds_is_not_tried_at_each_chunk():
    """gotcha:TTY12: while data keeps coming, it looks at everything whenever that has grown by a half."""
    stream = Stream(b"")
    stream.begin(Patterns([re.compile(rb"START.*END", re.DOTALL)]), None)
    stream.feed(b"START")
    looks = 0
    for _ in range(400):
        stream.feed(CHUNK)
        if not stream.deferrable:
            looks += 1
            assert stream.search() is None
    assert looks < 30
    stream.feed(b"END")
    found = stream.search()
    assert found is not None
    assert (found[0], len(found[1]), len(found[2])) == (0, 0, 400 * len(CHUNK) + 8)


def test_a_search_window_bounds_how_far_back_a_match_may_begin():
    stream = Stream("")
    stream.feed("abcdef")
    stream.begin(Patterns(["abc"]), 4)
    assert stream.search() is None
    stream.begin(Patterns(["cde"]), 4)
    assert stream.search() == (0, "ab", "cde")
    stream.begin(Patterns(["g", "i"]), 2)
    assert stream.search() is None
    stream.feed("ghi")
    assert stream.search() == (1, "fgh", "i")
