"""The cores of this machine that the process may use."""

import os


def cores() -> int:
    """Their number; where the system cannot tell (macOS, Windows), all cores of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
