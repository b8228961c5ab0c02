"""The log, which is not imported before it has something to say: a lean process forks faster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

NAME = "hornpipe.server"
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40


class Journal:
    """What a server has to say, for ``logging``."""

    def __init__(self, logger: logging.Logger | None, *, mute: bool = False) -> None:
        self._logger = logger
        self._mute = mute

    def wants(self, level: int) -> bool:
        """Whether anybody wants to read messages of this level."""
        if self._mute:
            return False
        if self._logger is None:
            logging: Any = sys.modules.get("logging")
            if logging is None:
                return level >= WARNING  # what logging does that nobody has configured
            self._logger = logging.getLogger(NAME)
        return self._logger.isEnabledFor(level)

    def say(self, level: int, message: str, *facts: object, trace: bool = False, **extra: Any) -> None:
        """Log it; ``extra`` becomes attributes of the record, and with ``trace`` the exception comes along."""
        if self.wants(level):
            if self._logger is None:
                import logging

                self._logger = logging.getLogger(NAME)
            self._logger.log(level, message, *facts, exc_info=trace, extra=extra)
