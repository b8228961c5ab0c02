"""Every test of hornpipe leaves nothing behind; its watchdog is pytest's ``faulthandler_timeout``."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _nothing_is_left(no_leaks: None) -> None:
    """The public fixture is opt-in; in this suite everyone has opted in."""
