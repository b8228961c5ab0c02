"""A program from its start to its end in one call, with answers to what it asks."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any

from hornpipe.expect.exceptions import EOF, TIMEOUT
from hornpipe.expect.pty_spawn import spawn


def run(
    command: Any,
    timeout: float | None = 30,
    withexitstatus: bool = False,
    events: Mapping[Any, Any] | list[tuple[Any, Any]] | None = None,
    extra_args: Any = None,
    logfile: Any = None,
    cwd: Any = None,
    env: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    r"""Run a program on a terminal; its output, and its exit code when ``withexitstatus`` is true.

    ``events`` maps patterns to answers: a string is sent; a function is called with a mapping of what is known here
    (``child``, ``event_count``, ``index``, ``extra_args``), and the string that it returns is sent, while any other
    true value ends the talk. It also ends when nothing has matched for ``timeout`` seconds, or with the output.

    >>> run("sh -c 'echo name?; read x; echo hello $x'", events={"name[?]": "you\n"}, encoding="utf-8", echo=False)
    'name?\r\nhello you\r\n'
    >>> run("expr 6 '*' 7", encoding="utf-8", withexitstatus=True)
    ('42\r\n', 0)
    """
    with spawn(
        command,
        timeout=30 if timeout == -1 else timeout,
        maxread=2000,
        logfile=logfile,
        cwd=cwd,
        env=env,
        **kwargs,
    ) as child:
        output = _talk(child, events, extra_args)
        if child.flag_eof:
            # The end of the output is not yet the end of the program (gotcha:TTY2).
            child.wait_for_end(child.timeout)
    return (output, child.exitstatus) if withexitstatus else output


def _talk(child: spawn, events: Any, extra_args: Any) -> Any:
    pairs = events if isinstance(events, list) else list((events or {}).items())
    patterns: Any = [pattern for pattern, _ in pairs] or EOF
    answers = [answer for _, answer in pairs]
    pieces: list[Any] = []
    event_count = 0
    while True:
        try:
            index = child.expect(patterns)
        except (EOF, TIMEOUT):
            pieces.append(child.before)
            break
        matched = isinstance(child.after, child.allowed_string_types)
        pieces.append(child.before + child.after if matched else child.before)
        if not answers:
            break
        answer = answers[index]
        if isinstance(answer, FunctionType | MethodType):
            answer = answer(
                {
                    "child": child,
                    "event_count": event_count,
                    "index": index,
                    "extra_args": extra_args,
                    "child_result_list": pieces,
                    "patterns": patterns,
                    "responses": answers,
                    "events": events,
                }
            )
            if isinstance(answer, child.allowed_string_types):
                child.send(answer)
            elif answer:
                break
        elif isinstance(answer, child.allowed_string_types):
            child.send(answer)
        else:
            raise TypeError(
                f"the answer to {pairs[index][0]!r} must be a string or a function, not {type(answer).__name__}"
            )
        event_count += 1
    return child.string_type().join(pieces)


def runu(*args: Any, **kwargs: Any) -> Any:
    """``run`` in text; an old name for ``run(..., encoding="utf-8")``."""
    return run(*args, **{"encoding": "utf-8", **kwargs})
