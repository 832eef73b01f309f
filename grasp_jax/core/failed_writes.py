"""What to say of a write that the disk or the system refused; the command line and Python say the same."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import disk_is_full


def memory_ran_out(error: BaseException) -> bool:
    """Whether the host or a device has no more memory; the message of a device has words that TensorStore also has for a full disk."""
    of_device = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (of_device and "RESOURCE_EXHAUSTED" in str(error))


def write_failure(
    error: BaseException, place: str | os.PathLike[str] | None, again: str = "run the same command"
) -> str:
    """One line about a full disk, or about a path that the system refuses; empty for any other error, such as a device without memory.

    Args:
      error: what was raised.
      place: a folder or file on the disk, named if the error itself names none; None: it is not known.
      again: what to do once there is space.
    """
    if memory_ran_out(error):
        return ""
    if disk_is_full(error):
        named = (error.filename if isinstance(error, OSError) else None) or place
        where = f" ({os.fsdecode(named)})" if named else ""
        return f"the disk is full{where}; free space and {again} again"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}; expected a path that can be read and written"
    return ""


@contextlib.contextmanager
def refusing_failed_writes(folder: pathlib.Path, call: str) -> Iterator[None]:
    """Raises UserError where a write into the folder meets a full disk or a path that the system refuses.

    Args:
      folder: what is written.
      call: the function that the user has called, such as "save".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := write_failure(error, folder, f"call {call}"):
            raise UserError(f"{call}: {reason}") from error
        raise
