"""A mark that every descendant of this process carries while a test runs.

An orphan has no parent to be found by. What a process cannot easily get rid of is what the kernel hands on over both
fork and exec, and of that a resource limit is the one thing that holds a number of our choice, changes nothing and
can be read by everybody in /proc/PID/limits. So the mark is the soft RLIMIT_RTTIME: the processor time, in
microseconds, that a real-time process may use without sleeping. Ours lie between 35 and 71 years.

What was not taken: PR_SET_CHILD_SUBREAPER would bring the orphans to us, but then the test would run in another world
than the user's program (waitpid(-1), getppid in the grandchild, and a library that makes itself a subreaper all
behave differently). The environment is easily cleared, and a child that is forked without an exec shows its parent's
first environment in /proc, not the present one. It is set all the same: for children that change the limit.
"""

from __future__ import annotations

import os
import resource
import secrets

from hornpipe.testing.processes import Seen, look_at, pids, read_proc

VARIABLE = "HORNPIPE_TEST"


class Mark:
    """Sets a unique mark on this process, and so on every process that descends from it until :meth:`remove`.

    >>> mark = Mark()
    >>> mark.bearers()
    []
    >>> mark.remove()
    """

    def __init__(self) -> None:
        self._others = frozenset(pids())
        self._number = b"%d" % (1 << 50 | secrets.randbits(50))
        self._old_variable = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = self._number.decode()
        self._old_limit: tuple[int, int] | None = None
        try:
            soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
            resource.setrlimit(resource.RLIMIT_RTTIME, (int(self._number), hard))
            self._old_limit = soft, hard
        except (AttributeError, OSError, ValueError):
            pass  # no such limit here, or a hard limit below our number: the environment has to do

    def bearers(self) -> list[Seen]:
        """The living processes that carry the mark, this one excepted."""
        # A process that was there before cannot descend from the test. Its number could, in the lifetime of one
        # test, have passed to one that does; reading every process's limits in every test is not worth that.
        new = [pid for pid in pids() if pid not in self._others and pid != os.getpid() and self._is_on(pid)]
        seen = (look_at(pid) for pid in new)
        return [process for process in seen if process is not None and not process.is_zombie]

    def remove(self) -> None:
        """Take the mark off this process; its descendants keep theirs."""
        if self._old_variable is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._old_variable
        if self._old_limit is not None:
            resource.setrlimit(resource.RLIMIT_RTTIME, self._old_limit)
            self._old_limit = None

    def _is_on(self, pid: int) -> bool:
        return self._number in read_proc(pid, "limits") or self._number in read_proc(pid, "environ")
