"""Where temporary files of tests lie: in memory where there is room, because a small training waits for the disk 150 times."""

import os
import pathlib

IN_MEMORY = pathlib.Path("/dev/shm")
LEAST_FREE = 4 << 30  # bytes; a session writes 200 MB, and Ray keeps its objects there too


def quick_folder(folder: pathlib.Path = IN_MEMORY, least_free: int = LEAST_FREE) -> str | None:
    """The folder in memory, or None where files in it would not do: it is missing, small, not writable, or no program may start from it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    about = os.statvfs(folder)
    roomy = about.f_bavail * about.f_frsize >= least_free
    return str(folder) if roomy and not about.f_flag & os.ST_NOEXEC else None
