"""Which code is the user's own: neither of this package nor of an installed one."""

import pathlib
import sysconfig
import traceback

from grasp_jax.core.words import one_line

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = {"site-packages", "dist-packages"}  # of any environment or user
INSTALLED = tuple(
    pathlib.Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")
)


def is_own(file: str) -> bool:
    """Whether a source file is the user's own; one that does not exist, such as "<string>", is not."""
    path = pathlib.Path(file).resolve()
    # not of the resolved path alone: a folder of packages may be a link to another one
    if FOLDERS.intersection((*pathlib.Path(file).parts, *path.parts)):
        return False
    return path.is_file() and not any(map(path.is_relative_to, (PACKAGE, *INSTALLED)))


def own_line(error: BaseException) -> str:
    """FILE:LINE where the user's own code raised an error; empty if it was raised in this package, or by what this package called."""
    line, inside = _own_frame(error)
    return "" if inside else line


def _own_frame(error: BaseException) -> tuple[str, bool]:
    """FILE:LINE of the deepest frame of the user's own code, and whether that code called this package, which raised the error.

    Own code that was not called by this package does not count then: it is the program that calls the package.
    """
    inside, line = False, ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        of_package = pathlib.Path(frame.filename).resolve().is_relative_to(PACKAGE)
        if line and of_package:
            return line, True
        if of_package:
            inside = True
        elif not line and is_own(frame.filename):
            line = f"{frame.filename}:{frame.lineno}"
            if not inside:
                return line, False
    return "", False


def blamed(error: BaseException) -> str:
    """One line about an unexpected error: what it is and whose code raised it."""
    reason = one_line(error, 300)
    line, inside = _own_frame(error)
    if inside:
        whose = f"perhaps your code, in {line}, or else a fault of grasp_jax"
    elif line:
        whose = f"in {line}, your code"
    else:
        whose = "this is a fault of grasp_jax, not of your input"
    return f"unexpected {type(error).__name__}: {reason}; {whose}"
