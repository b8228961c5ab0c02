"""Plain values as text, for what a child with other credentials sends back (gotcha:PR7).

Never pickle: loading a pickle runs what it says. This is JSON with a tag for what JSON lacks, and
reading it makes nothing but None, bools, numbers, str, bytes, lists, tuples, dicts and sets.
"""

from __future__ import annotations

import json
from typing import Any


def dump(value: Any) -> bytes:
    """The bytes of a plain value; ``TypeError`` for any other.

    >>> load(dump({"a": (1, b"x", None), 2: {3.5}}))
    {'a': (1, b'x', None), 2: {3.5}}
    >>> dump(object())
    Traceback (most recent call last):
    ...
    TypeError: a child with other credentials can send back plain values only, not object
    """
    return json.dumps(_tagged(value)).encode()


def load(data: bytes) -> Any:
    """The value; ``ValueError`` when it is none of ``dump``'s."""
    try:
        return _untagged(json.loads(data))
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"this is no plain value: {error}") from None


def _tagged(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if -(2**53) < value < 2**53 else ["int", hex(value)]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [_tagged(item) for item in value]]
    if kind is dict:
        return ["dict", [[_tagged(key), _tagged(item)] for key, item in value.items()]]
    raise TypeError(f"a child with other credentials can send back plain values only, not {kind.__name__}")


_KINDS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def _untagged(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    tag, content = value
    if tag == "int":
        return int(content, 16)
    if tag == "bytes":
        return bytes.fromhex(content)
    if tag == "dict":
        return {_untagged(key): _untagged(item) for key, item in content}
    return _KINDS[tag](_untagged(item) for item in content)
