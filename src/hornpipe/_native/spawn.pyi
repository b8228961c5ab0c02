from collections.abc import Callable
from typing import Protocol, TypeVar

class _Child(Protocol):
    pid: int
    pidfd: int

_C = TypeVar("_C", bound=_Child)

class Plan:
    def __init__(
        self,
        moves: tuple[tuple[int, int], ...],
        cwd: bytes | None = None,
        new_session: bool = False,
        new_group: bool = False,
        terminal: int = -1,
        foreground: int = -1,
        umask: int = -1,
        cgroup: int = -1,
        death_signal: int = 0,
        ids: tuple[int, int, tuple[int, ...]] | None = None,
        limits: tuple[tuple[int, int, int], ...] = (),
        stay_ignored: int = 0,
        group: int = 0,
    ) -> None: ...
    def launch(
        self,
        candidates: list[bytes],
        argv: list[bytes],
        environment: list[bytes] | None,
        share_memory: bool,
        child: _C,
        ours: set[_C],
        report: object,
    ) -> tuple[int, int, int]: ...
    def apply(self, keep: int) -> tuple[int, int, int, int]: ...
    def replace(
        self, candidates: list[bytes], argv: list[bytes], environment: list[bytes] | None
    ) -> tuple[int, int, int]: ...

def use_pidfd(flag: bool) -> bool: ...
def parse_report(report: bytes) -> tuple[int, int, int]: ...
def build_report(error: int, stage: int, which: int) -> bytes: ...
def fork_child(child_main: Callable[[], object], child: _C, ours: set[_C]) -> int: ...
def fork_children(wanted: list[tuple[Callable[[], None], _C]], ours: set[_C]) -> int: ...
def pidfd_open(pid: int) -> int: ...
