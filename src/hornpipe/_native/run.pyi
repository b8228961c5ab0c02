from typing import TypeVar

from hornpipe._native.spawn import Plan, _Child

_C = TypeVar("_C", bound=_Child)

class Birth:
    def failure(self) -> tuple[int, int, int]: ...

def begin(
    plan: Plan, candidates: list[bytes], argv: list[bytes], environment: list[bytes] | None, child: _C, ours: set[_C]
) -> Birth | None: ...
def run(
    argv: tuple[str | bytes, ...], child: _C, ours: set[_C], stay_ignored: int, success: object
) -> tuple[int, int, int] | None: ...
def are_plain(values: tuple[object, ...]) -> bool: ...
