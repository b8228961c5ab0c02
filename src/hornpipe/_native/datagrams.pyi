from collections.abc import Callable
from typing import Any

AVAILABLE: bool
LONGEST_BATCH: int

class Inbox:
    size: int
    def __init__(self, size: int, kind: type[Any], address_of: Callable[[bytes], Any]) -> None: ...
    def receive(self, fd: int, most: int, longest: int, peer: Any) -> list[Any]: ...

def send(fd: int, messages: list[bytes], names: bytes | list[bytes] | None, start: int, segments: bool) -> int: ...
