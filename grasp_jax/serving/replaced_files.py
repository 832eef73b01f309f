"""Several files of a folder that are replaced together: after a kill at any moment, the earlier ones or the new ones can be read.

The new files are written in the subfolder `.unfinished`, the last of them when all others are complete. From then on the new ones count:
they are moved, and if the process is killed before the last move, `finish_replacing` moves the rest.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

UNFINISHED = ".unfinished"


@contextlib.contextmanager
def replacing_together(folder: pathlib.Path, names: Sequence[str]) -> Iterator[pathlib.Path]:
    """A subfolder for new files, which replace the earlier ones of a folder at the end. If writing fails, the earlier ones stay.

    Args:
      folder: exists; no other process writes there.
      names: of the files. The last one says that the others are complete: the caller writes it last, and in one step
        (`core.files.replacing`).
    """
    finish_replacing(folder, names)
    unfinished = folder / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    try:
        yield unfinished
    except BaseException:
        # first, because without it a kill within `rmtree` leaves nothing that would be moved
        (unfinished / names[-1]).unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)  # a full disk must not stay full
        raise
    finish_replacing(folder, names)


def finish_replacing(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Moves new files that are complete into their folder, and removes incomplete ones; the arguments are those of `replacing_together`."""
    unfinished, last = folder / UNFINISHED, names[-1]
    if is_complete(folder, last):
        # while earlier and new files are mixed, nothing says that they are complete
        (folder / last).unlink(missing_ok=True)
        for name in names:
            if (unfinished / name).exists():  # otherwise a killed call has moved it
                os.replace(unfinished / name, folder / name)
    shutil.rmtree(unfinished, ignore_errors=True)


def is_complete(folder: pathlib.Path, last: str) -> bool:
    """Whether new files of a folder are complete and not all moved; `last` is the last name of `replacing_together`."""
    return (folder / UNFINISHED / last).is_file()
