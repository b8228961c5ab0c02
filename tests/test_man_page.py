"""The manual page and the completion of the command: made of its own help, and understood by man and bash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hornpipe as hp

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/hornpipe.1"
COMMAND = str(Path(sys.executable).parent / "hornpipe")


def test_the_manual_page_is_what_the_help_says_now() -> None:
    made = hp.cmd(sys.executable, str(ROOT / "tools/man_page.py"), env={"COLUMNS": None}).read()
    assert made == PAGE.read_text(), "the help has changed since: make man"


def test_groff_has_nothing_to_say_about_it() -> None:
    formatted = hp.cmd("groff", "-man", "-ww", "-Tutf8", str(PAGE)).capture()
    assert formatted.stderr == ""
    assert "every way Unix processes talk to each other" in formatted.stdout


def test_it_is_installed_with_the_command() -> None:
    assert (Path(sys.prefix) / "share/man/man1/hornpipe.1").read_text() == PAGE.read_text()


@pytest.mark.parametrize(
    ("words", "found"),
    [("hornpipe sig", "signals"), ("hornpipe daemon rel", "reload"), ("hornpipe signals --js", "--json")],
)
def test_bash_completes_commands_and_options(words: str, found: str) -> None:
    script = """
    source <(hornpipe completion bash)
    COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _hornpipe_completion hornpipe
    echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert hp.cmd("bash", "-c", script, "bash", words, env={"PATH": path}).read().split() == [found]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_theirs(shell: str) -> None:
    said = subprocess.run([COMMAND, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert "_HORNPIPE_COMPLETE" in said


def test_a_shell_that_is_unknown_is_refused_in_one_line() -> None:
    ran = subprocess.run([COMMAND, "completion", "csh"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["signals", "abc"], "hornpipe signals: Invalid value for '[PID]...': 'abc' is not a valid number. (see: "),
        (["ipcs", "-q", "1x"], "hornpipe ipcs: Invalid value for '[ID]...': '1x' is not a valid number. (see: "),
        (["tour", "signls"], "hornpipe tour: there is no chapter or row 'signls'; did you mean 'signals'? (see: "),
        (["tour", "zzz"], "hornpipe tour: there is no chapter or row 'zzz'; the chapters are signals, "),
        (
            ["daemon", "start", "--pidfile", "/no/x", "--", "true"],
            "hornpipe daemon start: /no/x: No such file",
        ),
    ],
)
def test_an_error_is_one_line_that_says_whose_it_is(words: list[str], said: str) -> None:
    ran = subprocess.run([COMMAND, *words], capture_output=True, text=True)
    assert ran.returncode in {1, 2}
    assert ran.stderr.startswith(said)
    assert len(ran.stderr.splitlines()) == 1


def test_each_command_is_told_in_one_whole_sentence() -> None:
    ran = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    listed = ran.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) > 10
    assert [line for line in listed if line.endswith("...") or len(line) > 80] == []
