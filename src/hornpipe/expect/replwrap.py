"""Talking to interpreters: a command in, its output out."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from hornpipe.expect.exceptions import TIMEOUT
from hornpipe.expect.pty_spawn import spawn

PEXPECT_PROMPT = "[PEXPECT_PROMPT>"
PEXPECT_CONTINUATION_PROMPT = "[PEXPECT_PROMPT+"


class REPLWrapper:
    r"""An interpreter that shows a prompt, and the next command's turn when it does.

    ``prompt_change`` is a command that makes it show prompts which no output can be taken for; ``{0}`` and ``{1}``
    in it stand for the two. ``None`` leaves its own.

    >>> with REPLWrapper("sh", r"[$#] ", "PS1='{0}' PS2='{1}'") as shell:
    ...     shell.run_command("echo one; echo two")
    'one\r\ntwo\r\n'
    """

    def __init__(
        self,
        cmd_or_spawn: Any,
        orig_prompt: Any,
        prompt_change: str | None,
        new_prompt: str = PEXPECT_PROMPT,
        continuation_prompt: str = PEXPECT_CONTINUATION_PROMPT,
        extra_init_cmd: str | None = None,
    ) -> None:
        if isinstance(cmd_or_spawn, str):
            self.child = spawn(cmd_or_spawn, echo=False, encoding="utf-8")
        else:
            self.child = cmd_or_spawn
        if self.child.echo:
            self.child.setecho(False)
        self.prompt: Any = new_prompt
        self.continuation_prompt = continuation_prompt
        if prompt_change is None:
            self.prompt = orig_prompt
        else:
            self.set_prompt(orig_prompt, prompt_change.format(new_prompt, continuation_prompt))
        self._expect_prompt()
        if extra_init_cmd is not None:
            self.run_command(extra_init_cmd)

    def set_prompt(self, orig_prompt: Any, prompt_change: str) -> None:
        """Wait for the prompt it shows now, and make it show another one."""
        self.child.expect(orig_prompt)
        self.child.sendline(prompt_change)

    def _expect_prompt(self, timeout: float | None = -1, async_: bool = False) -> Any:
        return self.child.expect_exact([self.prompt, self.continuation_prompt], timeout=timeout, async_=async_)

    def run_command(self, command: str, timeout: float | None = -1, async_: bool = False) -> Any:
        """Run a command, of one line or more; its output. ``ValueError`` when the interpreter waits for more of it."""
        lines = command.splitlines()
        if command.endswith("\n"):
            lines.append("")
        if not lines:
            raise ValueError("No command was given")
        if async_:
            return self._run_async(command, lines, timeout)
        output = []
        self.child.sendline(lines[0])
        for line in lines[1:]:
            self._expect_prompt(timeout)
            output.append(self.child.before)
            self.child.sendline(line)
        return self._finish(self._expect_prompt(timeout), command, output)

    def _run_async(self, command: str, lines: list[str], timeout: float | None) -> Coroutine[Any, Any, str]:
        async def running() -> str:
            output = []
            self.child.sendline(lines[0])
            for line in lines[1:]:
                await self._expect_prompt(timeout, async_=True)
                output.append(self.child.before)
                self.child.sendline(line)
            return self._finish(await self._expect_prompt(timeout, async_=True), command, output)

        return running()

    def _finish(self, index: int, command: str, output: list[str]) -> str:
        if index == 1:
            # It waits for the rest of the command: it is interrupted, so that the next one starts anew.
            self._interrupt()
            raise ValueError(f"Continuation prompt found - input was incomplete:\n{command}")
        return "".join([*output, self.child.before])

    def _interrupt(self) -> None:
        # A signal that comes between an interpreter's last check and its read is not acted on before the read is over
        # (Python's are like that): the second one finds it reading.
        for last in (False, True):
            self.child.kill(signal.SIGINT)
            try:
                self._expect_prompt(timeout=1)
                return
            except TIMEOUT:
                if last:
                    raise

    def __enter__(self) -> REPLWrapper:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close()


def python(command: str = sys.executable) -> REPLWrapper:
    r"""Python's interpreter.

    >>> with python() as interpreter:
    ...     interpreter.run_command("6 * 7")
    '42\r\n'
    """
    # From 3.13 on its own editor draws colours and moves the cursor about.
    child = spawn(
        command, ["-i"], echo=False, encoding="utf-8", env=_environment(PYTHON_BASIC_REPL="1", PYTHON_COLORS="0")
    )
    return REPLWrapper(child, ">>> ", "import sys; sys.ps1={0!r}; sys.ps2={1!r}")


def bash(command: str = "bash") -> REPLWrapper:
    r"""A bash without anybody's start-up files.

    >>> with bash() as shell:
    ...     shell.run_command("echo $((6 * 7))")
    '42\r\n'
    """
    child = spawn(command, ["--norc", "--noprofile"], echo=False, encoding="utf-8", env=_environment(PS1="$ "))
    return _shell(child, r"[$#]", "PS1='{0}' PS2='{1}' PROMPT_COMMAND=''", "bind 'set enable-bracketed-paste off'; ")


def zsh(command: str = "zsh", args: tuple[str, ...] = ("--no-rcs", "-V", "+Z")) -> REPLWrapper:
    """A zsh without anybody's start-up files."""
    child = spawn(command, list(args), echo=False, encoding="utf-8", env=_environment())
    return _shell(child, r"(%|#)", "PROMPT='{0}' PROMPT2='{1}' RPROMPT='' unsetopt zle", "")


def _environment(**added: str) -> dict[str, str]:
    return {**os.environ, **added}


def _shell(child: spawn, prompt: str, change: str, before: str) -> REPLWrapper:
    # What echoes the change itself must not be taken for the new prompt: hence the empty expansion in the middle.
    empty = r"\[\]" if before else "%{%}"
    parts = [f"{word[:5]}{empty}{word[5:]}" for word in (PEXPECT_PROMPT, PEXPECT_CONTINUATION_PROMPT)]
    return REPLWrapper(child, prompt, before + change.format(*parts), extra_init_cmd="export PAGER=cat")
