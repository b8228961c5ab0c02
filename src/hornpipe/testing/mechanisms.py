"""Forcing hornpipe onto its portable paths, so that they are tested on machines that do not need them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_pidfd() -> Iterator[None]:
    """Inside the block hornpipe behaves as on a kernel without pidfds, for processes it starts there.

        with without_pidfd():
            hp.cmd("true").run()

    The switch is the whole process's, so such blocks must not overlap in two threads.
    """
    # Not at the top: pytest imports the plugin in every run, also where no test needs hornpipe.
    from hornpipe import _native

    previous = _native.use_pidfd(False)
    try:
        yield
    finally:
        _native.use_pidfd(previous)
