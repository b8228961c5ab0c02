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
