"""Which code is the user's own: neither of this package nor of an installed one."""

import pathlib
import sysconfig
import traceback

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
INSTALLED = tuple(
    pathlib.Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")
)


def is_own(file: str) -> bool:
    """Whether a source file is the user's own; one that does not exist, such as "<string>", is not."""
    path = pathlib.Path(file).resolve()
    return path.is_file() and not any(map(path.is_relative_to, (PACKAGE, *INSTALLED)))


def own_line(error: BaseException) -> str:
    """FILE:LINE where the user's own code raised an error; empty if it was raised in this package, or by what this package called."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_own(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
        if pathlib.Path(frame.filename).resolve().is_relative_to(PACKAGE):
            return ""
    return ""


def blamed(error: BaseException) -> str:
    """One line about an unexpected error: what it is and whose code raised it."""
    reason = " ".join(str(error).split())[:300]
    line = own_line(error)
    whose = f"in {line}, your code" if line else "this is a fault of grasp_jax, not of your input"
    return f"unexpected {type(error).__name__}: {reason}; {whose}"
