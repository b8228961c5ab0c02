"""Who has an address, as /proc tells it: for the error that says "in use" (perlipc:N17)."""

from __future__ import annotations

import os

from hornpipe.resolve import Place

_LISTENING = "0A"


def holders(place: Place) -> str:
    """``held by process 12 (nginx)``; empty when the system does not tell, as about other users' processes."""
    inodes = _unix_inodes(place.name) if isinstance(place.name, bytes) else _tcp_inodes(place)
    found = _processes_with(inodes) if inodes else []
    return ", held by " + " and ".join(f"process {pid} ({name})" for pid, name in found) if found else ""


def is_bound(path: bytes) -> bool:
    """Whether a socket that is open somewhere in this network namespace was bound by this name."""
    return bool(_unix_inodes(path))


def _lines(name: str) -> list[bytes]:
    try:
        with open(f"/proc/net/{name}", "rb") as file:
            return file.read().split(b"\n")[1:]
    except OSError:
        return []


def _tcp_inodes(place: Place) -> set[str]:
    wanted = f":{place.name[1]:04X}"
    found = set()
    # A socket for both families is in the second file only, and is in the way of both.
    for name in ("tcp", "tcp6"):
        for line in _lines(name):
            fields = line.decode().split()
            if len(fields) > 9 and fields[1].endswith(wanted) and fields[3] == _LISTENING:
                found.add(fields[9])
    return found


def _unix_inodes(path: bytes) -> set[str]:
    # Num RefCount Protocol Flags Type St Inode Path: the path may have blanks, and @ is an abstract one's NUL.
    shown = path.replace(b"\0", b"@")
    found = set()
    for line in _lines("unix"):
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == shown:
            found.add(fields[6].decode())
    return found


def _processes_with(inodes: set[str]) -> list[tuple[int, str]]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if not any(_link(entry.path) in wanted for entry in entries):
                    continue
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                found.append((pid, file.read().rstrip("\n")))
        except OSError:
            continue  # gone, or somebody else's
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
