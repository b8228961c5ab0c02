"""A shell on another machine, by ssh."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from hornpipe import deadline as deadlines
from hornpipe.expect.exceptions import EOF, TIMEOUT, ExceptionPexpect
from hornpipe.expect.pty_spawn import spawn
from hornpipe.expect.utils import split_command_line

__all__ = ["ExceptionPxssh", "pxssh"]


class ExceptionPxssh(ExceptionPexpect):
    """The log-in went wrong, or the prompt could not be set."""


class pxssh(spawn):
    """Log in to another machine's shell, wait for its prompt after each command, log out.

        with pxssh() as far:
            far.login("host", "me", "secret")
            far.sendline("uptime")
            far.prompt()
            print(far.before)

    The password is sent once the far side has switched echo off for it (gotcha:TTY8).
    """

    def __init__(
        self,
        timeout: float | None = 30,
        maxread: int = 2000,
        searchwindowsize: int | None = None,
        logfile: Any = None,
        cwd: Any = None,
        env: Mapping[str, str] | None = None,
        ignore_sighup: bool = True,
        echo: bool = True,
        options: Mapping[str, str] | None = None,
        encoding: str | None = None,
        codec_errors: str = "strict",
        debug_command_string: bool = False,
        use_poll: bool = False,
    ) -> None:
        super().__init__(
            None,
            timeout=timeout,
            maxread=maxread,
            searchwindowsize=searchwindowsize,
            logfile=logfile,
            cwd=cwd,
            env=env,
            ignore_sighup=ignore_sighup,
            echo=echo,
            encoding=encoding,
            codec_errors=codec_errors,
            use_poll=use_poll,
        )
        self.name = "<pxssh>"
        self.UNIQUE_PROMPT = r"\[PEXPECT\][\$\#] "
        self.PROMPT: Any = self.UNIQUE_PROMPT
        self.PROMPT_SET_SH = r"PS1='[PEXPECT]\$ '"
        self.PROMPT_SET_CSH = r"set prompt='[PEXPECT]\$ '"
        self.PROMPT_SET_ZSH = "prompt restore;\nPS1='[PEXPECT]%(!.#.$) '"
        self.SSH_OPTS = " -o 'PubkeyAuthentication=no'"
        self.force_password = False
        self.debug_command_string = debug_command_string
        self.options = dict(options or {})

    # --- the command ---

    def _words(
        self,
        server: str,
        username: str | None,
        port: int | None,
        ssh_key: Any,
        quiet: bool,
        check_local_ip: bool,
        ssh_tunnels: Mapping[str, list[Any]],
        ssh_config: str | None,
        cmd: str,
    ) -> list[str]:
        words = split_command_line(cmd)
        for name, value in self.options.items():
            words += ["-o", f"{name}={value}"]
        if quiet:
            words.append("-q")
        if not check_local_ip:
            words += ["-o", "NoHostAuthenticationForLocalhost=yes"]
        if self.force_password:
            words += split_command_line(self.SSH_OPTS)
        if ssh_config is not None:
            words += ["-F", _existing(ssh_config, "SSH config")]
        if port is not None:
            words += ["-p", str(port)]
        if ssh_key is True:
            words.append("-A")
        elif ssh_key is not None:
            words += ["-i", _existing(ssh_key, "private ssh key")]
        for kind, flag in (("local", "-L"), ("remote", "-R"), ("dynamic", "-D")):
            for tunnel in ssh_tunnels.get(kind, ()):
                words += [flag, str(tunnel)]
        if username is not None:
            words += ["-l", username]
        return [*words, server]

    # --- logging in ---

    def login(
        self,
        server: str,
        username: str | None = None,
        password: str = "",
        terminal_type: str = "ansi",
        original_prompt: str = r"[#$]",
        login_timeout: float | None = 10,
        port: int | None = None,
        auto_prompt_reset: bool = True,
        ssh_key: Any = None,
        quiet: bool = True,
        sync_multiplier: float = 1,
        check_local_ip: bool = True,
        password_regex: str = r"(?i)(?:password:)|(?:passphrase for key)",
        ssh_tunnels: Mapping[str, list[Any]] | None = None,
        spawn_local_ssh: bool = True,
        sync_original_prompt: bool = True,
        ssh_config: str | None = None,
        cmd: str = "ssh",
    ) -> Any:
        """Log in, and make the far shell show a prompt that no output can be taken for.

        ``ExceptionPxssh`` when that fails, with nothing left running.
        """
        if username is None and ssh_config is None:
            raise TypeError("login() needs either a username or an ssh_config")
        words = self._words(server, username, port, ssh_key, quiet, check_local_ip, ssh_tunnels or {}, ssh_config, cmd)
        if username is None and ssh_config is not None:
            _check_config(ssh_config, server)
        if self.debug_command_string:
            return shlex.join(words)
        if spawn_local_ssh:
            self._spawn(words[0], words[1:])
        else:
            self.sendline(shlex.join(words))
        try:
            self._answer_questions(password, terminal_type, original_prompt, login_timeout, password_regex)
            if sync_original_prompt and not self.sync_original_prompt(sync_multiplier):
                raise ExceptionPxssh("could not synchronize with original prompt")
            if auto_prompt_reset and not self.set_unique_prompt():
                raise ExceptionPxssh(f"could not set shell prompt (seen: {self.before!r}, wanted: {self.PROMPT!r})")
        except BaseException:
            self.close()
            raise
        return True

    def _answer_questions(
        self, password: str, terminal_type: str, original_prompt: str, timeout: float | None, password_regex: str
    ) -> None:
        questions = [
            r"(?i)are you sure you want to continue connecting",
            password_regex,
            r"(?i)terminal type",
            original_prompt,
            r"(?i)permission denied",
            r"(?i)connection closed by remote host",
            EOF,
            TIMEOUT,
        ]
        asked: set[int] = set()
        while True:
            index = self.expect(questions, timeout=timeout)
            if index in asked and index < 3:
                raise ExceptionPxssh("password refused" if index == 1 else f"asked twice: {self.after!r}")
            asked.add(index)
            match index:
                case 0:
                    self.sendline("yes")
                case 1:
                    self.waitnoecho(1)
                    self.sendline(password)
                case 2:
                    self.sendline(terminal_type)
                case 3:
                    return
                case 4:
                    raise ExceptionPxssh("permission denied")
                case 5:
                    raise ExceptionPxssh("connection closed")
                case 6:
                    raise ExceptionPxssh(f"Could not establish connection to host: {self.before!r}")
                case _:
                    # Perhaps a prompt of an unusual kind: setting a prompt of ours will tell.
                    return

    def sync_original_prompt(self, sync_multiplier: float = 1.0) -> bool:
        """Whether the far side answers an empty line with a prompt each time, and with the same one.

        Each answer is awaited until the line is quiet, so a fast host costs little. One that pauses in the middle of
        an answer is asked again, with more patience.
        """
        longest = 3.0 * sync_multiplier
        for quiet in (0.1 * sync_multiplier, 0.3 * sync_multiplier, sync_multiplier):
            self._until_quiet(quiet, quiet)
            answers = []
            for _ in range(2):
                self.sendline()
                answers.append(self._until_quiet(quiet, longest))
            first, second = answers
            if not first:
                return False
            if _distance(first, second) * 5 < 2 * len(first):
                return True
        return False

    def _until_quiet(self, quiet: float, longest: float) -> Any:
        """What comes until nothing has come for a while; the first of it may take longer."""
        seen = self._empty
        end = deadlines.after(longest)
        while True:
            try:
                left = deadlines.seconds_left(end)
                seen += self.read_nonblocking(4096, left if not seen else min(quiet, left or 0.0))
            except TIMEOUT:
                return seen

    def set_unique_prompt(self) -> bool:
        """Give the far shell the prompt that ``prompt`` waits for, whichever shell it is; whether that worked."""
        self.sendline("unset PROMPT_COMMAND")
        for change in (self.PROMPT_SET_SH, self.PROMPT_SET_CSH, self.PROMPT_SET_ZSH):
            self.sendline(change)
            if self.expect([TIMEOUT, self.PROMPT], timeout=10) == 1:
                return True
        return False

    def prompt(self, timeout: float | None = -1) -> bool:
        """Wait for the next prompt; false when it did not come in time. What came before it is in ``before``."""
        return bool(self.expect([self.PROMPT, TIMEOUT], timeout=self.timeout if timeout == -1 else timeout) == 0)

    def logout(self) -> None:
        """Leave the far shell; a second time, if it speaks of stopped jobs."""
        self.sendline("exit")
        if self.expect([EOF, r"(?i)there are (?:stopped|running) jobs"]) == 1:
            self.sendline("exit")
            self.expect(EOF)
        self.close()


def _existing(path: str, what: str) -> str:
    if not os.path.isfile(path):
        raise ExceptionPxssh(f"{what} does not exist or is not a file.")
    return path


def _check_config(path: str, server: str) -> None:
    """Without a user's name the configuration must have one for this host."""
    with open(path) as file:
        lines = [line.split() for line in file]
    entries = [line for line in lines if len(line) > 1]
    hosts = [place for place, line in enumerate(entries) if line[0].lower() == "host"]
    for place in hosts:
        if server not in entries[place][1:]:
            continue
        end = min((other for other in hosts if other > place), default=len(entries))
        if any(line[0].lower() == "user" for line in entries[place:end]):
            return
        raise TypeError(f"login() ssh_config has no user entry for {server}")
    raise TypeError(f"login() ssh_config has no Host entry for {server}")


def _distance(one: Any, other: Any) -> int:
    """How many edits make the one the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (left != right))
    return row[-1]
