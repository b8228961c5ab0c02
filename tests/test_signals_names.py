"""Signals by name and number, and what each does to a process that has said nothing.

The other witnesses are Perl's own list and real processes that are sent every signal there is.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hornpipe as hp
from hornpipe.names import SIGNALS, SignalNumber, signal_name, signal_number

EVERY = sorted(map(int, signal.valid_signals()))
ENDS = ("terminate", "core")

numbers = st.sampled_from(EVERY)
spelt = st.sampled_from([str, str.lower, lambda name: f"SIG{name}", lambda name: f"sig{name}".lower()])


class TestNamesAndNumbers:
    """perlipc:S2, gotcha:SIG3"""

    @given(numbers, spelt)
    def test_every_number_has_one_name_that_leads_back_to_it(self, number, spell):
        """gotcha:SIG3"""
        assert signal_number(spell(signal_name(number))) == number
        assert signal_number(number) == number

    @given(
        st.one_of(numbers, st.text(max_size=12), st.integers(), st.from_regex(r"RTM(IN\+|AX-)\d{1,3}", fullmatch=True))
    )
    def test_whatever_is_understood_is_printed_canonically(self, which):
        """gotcha:SIG3"""
        if which not in hp.SIG:
            with pytest.raises(ValueError, match=r"^no signal (is named|has the number) "):
                signal_number(which)
            return
        assert signal_number(which) in EVERY
        assert signal_name(signal_number(which)) in list(hp.SIG)

    def test_the_names_are_those_that_perl_has(self):
        """perlipc:S2: the page takes them out of Config, and so does this."""
        program = 'use Config; @n = split " ", $Config{sig_name}; @i = split " ", $Config{sig_num};'
        program += 'print "$n[$_] $i[$_]\\n" for 1..$#n'
        pairs = [line.split() for line in hp.cmd("perl", "-e", program).lines()]
        assert len(pairs) > 60
        for name, number in pairs:
            if not name.startswith("NUM"):  # Perl has no words for the real-time signals between the ends
                assert signal_number(name) == int(number)

    @pytest.mark.parametrize(("alias", "name"), [("CLD", "CHLD"), ("POLL", "IO"), ("IOT", "ABRT"), ("SIGCLD", "CHLD")])
    def test_an_alias_is_understood_and_never_printed(self, alias, name):
        """gotcha:SIG3: which of two names is printed must not depend on the order of a table."""
        assert signal_name(signal_number(alias)) == name
        assert alias not in SIGNALS.values()

    def test_enumeration_members_are_numbers(self):
        assert signal_number(signal.SIGINT) == 2
        assert signal_number(SignalNumber(15)) == 15

    def test_real_time_signals_are_counted_from_both_ends(self):
        """perlipc:S2"""
        low, high = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
        for step in range(high - low + 1):
            assert signal_number(f"RTMIN+{step}") == low + step
            assert signal_number(f"RTMAX-{step}") == high - step
        assert signal_name(low) == "RTMIN"
        assert signal_name(high) == "RTMAX"

    @pytest.mark.parametrize(
        "which", [32, 33, 0, -1, 65, 10**20, "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "", "SIG"]
    )
    def test_what_is_no_signal_here_is_refused(self, which):
        """gotcha:SIG3: 32 and 33 belong to libc."""
        with pytest.raises(ValueError, match="signal"):
            signal_number(which)
        assert which not in hp.SIG

    @pytest.mark.parametrize("which", [None, 1.0, True, b"INT", ["INT"]])
    def test_what_cannot_name_a_signal_is_a_type_error(self, which):
        with pytest.raises(TypeError, match="by name or number"):
            signal_number(which)

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("SIGTREM", "TERM"), ("HUPP", "HUP"), ("urs1", "USR1"), ("WINSH", "WINCH"), ("KIL", "KILL")],
    )
    def test_an_unknown_name_is_answered_with_the_nearest(self, typed, meant):
        with pytest.raises(ValueError, match=re.escape(f"did you mean {meant!r}?")):
            hp.SIG[typed]
        with pytest.raises(ValueError, match=re.escape(f"did you mean {meant!r}?")):
            hp.kill(typed, os.getpid())

    def test_a_name_like_no_other_gets_no_suggestion(self):
        with pytest.raises(ValueError, match="no signal is named 'XYZZY'") as caught:
            hp.SIG["XYZZY"]
        assert "mean" not in str(caught.value)


class TestTheTable:
    """perlipc:S2"""

    def test_has_every_signal_once(self):
        table = hp.signals.table()
        assert [entry.number for entry in table] == EVERY
        assert len({entry.name for entry in table}) == len(EVERY)
        assert list(hp.SIG) == [entry.name for entry in table]
        assert len(hp.SIG) == len(table)

    def test_says_what_is_in_force(self):
        with hp.SIG.local(USR1="IGNORE", USR2=print):
            found = {entry.name: entry.disposition for entry in hp.SIG.table()}
        assert found["USR1"] == "IGNORE"
        assert found["USR2"] is print
        assert found["KILL"] == "DEFAULT"

    @pytest.mark.parametrize("entry", hp.SIG.table(), ids=lambda entry: entry.name)
    def test_says_what_the_kernel_does_by_default(self, entry):
        """Each signal is sent to a real process, and the table has to be right about it."""
        # In a group of its own, whose parent is in ours: in an orphaned one the kernel discards default stops.
        process = hp.cmd("sleep", "60", timeout=120).start()
        with process:
            if entry.default == "continue":
                process.kill("STOP")
                _wait_for(process, os.WSTOPPED)
            assert process.kill(entry.number)
            if entry.default == "stop":
                assert _wait_for(process, os.WSTOPPED).si_status == entry.number
            elif entry.default == "continue":
                assert _wait_for(process, os.WCONTINUED).si_code == os.CLD_CONTINUED
            elif entry.default in ENDS:
                assert process.wait(30).signal == entry.number
            else:
                assert entry.default == "ignore"
            process.kill("KILL")  # had the one before it ended the process, the status would say so
            assert process.wait(30).signal == (entry.number if entry.default in ENDS else signal.SIGKILL)

    @pytest.mark.parametrize("name", [entry.name for entry in hp.SIG.table() if entry.default == "core"])
    def test_knows_which_ones_leave_a_core(self, name, tmp_path):
        if not _killed_by("ABRT", tmp_path).core_dumped:
            pytest.skip("this machine keeps no cores")
        assert _killed_by(name, tmp_path).core_dumped


def _wait_for(process: hp.Process, what: int) -> os.waitid_result:
    found = os.waitid(os.P_PID, process.pid, what)
    assert found is not None
    return found


def _killed_by(name: str, directory: Path) -> hp.ExitStatus:
    return hp.sh(f"ulimit -c unlimited 2>/dev/null; kill -{name} $$", cwd=directory, check=False).run()
