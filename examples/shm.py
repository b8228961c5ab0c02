#!/usr/bin/env python3
"""Write a message to shared memory, read it back, and remove the segment."""

import argparse

import hornpipe as hp


def main() -> None:
    """Removed by its maker's with block, whatever happens inside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("message", nargs="?", default="Message #1")
    message = parser.parse_args().message.encode()
    with hp.sysv.SharedMemory.create(size=2000) as shm:
        print(f"shm id {shm.id}")
        shm.write(message, size=60)  # filled up with NULs
        print(f"wrote: {message!r}")
        read = shm.read(size=60).rstrip(b"\0")
        print(f"read : {read!r}")
        print("swell" if read == message else "unswell")
        print(f"deleting shm {shm.id}")


if __name__ == "__main__":
    main()
