"""What `import hornpipe` adds to an interpreter's life, in isolated mode and an empty environment."""

from __future__ import annotations

import sys

from benchmarks.contest import MILLISECONDS, US, Measurement, adds_at_most, at_most

PEER = "import subprocess, socket"
BARE = "bare interpreter"

importing = Measurement(
    "import",
    "interpreter start + import + exit",
    unit=MILLISECONDS,
    size=1,
    quick=1,
    peer=PEER,
    targets=[adds_at_most(15e-3, BARE), at_most(1.0, PEER)],
    turns=20,
)
for name, code in {
    BARE: "pass",
    PEER: PEER,
    US: "import hornpipe",
    # Rooms are opened at their first use: this is what a program pays that does more than import.
    f"{US} (first command)": "import hornpipe; hornpipe.cmd",
    "duct": "import duct",
    "pexpect": "import pexpect",
    "plumbum": "import plumbum",
    "sh": "import sh",
}.items():
    importing.whole(name, [sys.executable, "-I", "-c", code])

MEASUREMENTS = [importing]
