"""System calls that Python lacks, and inner loops that pay in C. No policy lives here."""

from hornpipe._native.spawn import use_pidfd

__all__ = ["use_pidfd"]
