"""A lock file: one process at a time in a folder, also on a file system that several hosts share.

The file names its holder, which touches it every half minute. Another process may take the lock over if the holder has died (on the same
host) or has not touched it for ten minutes (on another host, whose processes cannot be looked up). A lock whose time is in the future has
no known age and is not taken over.
"""

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from grasp_jax.core.errors import UserError

TOUCHED_EVERY = 30.0  # seconds
_HELD: dict[pathlib.Path, str] = {}  # the locks of this process, and what is written in them
DEAD_AFTER = 600.0  # seconds without a touch, for holders on another host; clocks of two hosts may differ by minutes


@contextlib.contextmanager
def only_one(path: pathlib.Path, busy: str) -> Iterator[None]:
    """Holds the lock file `path`.

    Args:
      path: of the lock file; its folder is made.
      busy: what the user may do while another process holds it, for the message.

    Raises:
      UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "id": uuid.uuid4().hex,
        }
    )
    while not _created(path, own):
        _take_over(path, busy)
    # drafts of processes that were killed; a living one makes another
    for left in path.parent.glob(f"{path.name}.*"):
        left.unlink(missing_ok=True)
    done = threading.Event()
    threading.Thread(target=_touch, args=(path, done), daemon=True).start()
    _HELD[path] = own
    try:
        yield
    finally:
        done.set()
        _release(path)


def release_all() -> None:
    """Releases the locks of this process, which is about to end; otherwise the job could not go on on another host for ten minutes."""
    for path in list(_HELD):
        _release(path)


def _release(path: pathlib.Path) -> None:
    own = _HELD.pop(path, None)
    with contextlib.suppress(OSError):
        if own is not None and path.read_text(encoding="utf-8") == own:
            path.unlink()


def _created(path: pathlib.Path, content: str) -> bool:
    """Tries to create the lock file. It is written elsewhere and linked into place, so no process sees it incomplete."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(content, encoding="utf-8")
        try:
            os.link(draft, path)  # unlike a rename, it fails if the name exists; on NFS too
        except (FileExistsError, FileNotFoundError):
            # another process has the lock; or it has removed our draft
            return False
        except OSError:  # a file system without links
            with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                file.write(content)
                return True
            return False
        return True
    finally:
        draft.unlink(missing_ok=True)


def _take_over(path: pathlib.Path, busy: str) -> None:
    """Removes the lock of a holder that is dead.

    Raises:
      UserError: the holder lives, or the lock cannot be read.
    """
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return  # its holder has just released it
    except OSError as error:
        expected = f"expected the lock file of a process that works here; {busy}"
        raise UserError(f"{path}: not readable ({error.strerror}); {expected}") from error
    try:
        holder = json.loads(content)
        host, pid, started = str(holder["host"]), int(holder["pid"]), holder["started"]
    except (ValueError, KeyError, TypeError):
        host, pid, started = "", 0, None
    if host == socket.gethostname():
        if _started(pid) == started and started is not None:
            raise UserError(f"{path}: process {pid} on {host} works here; {busy}")
    elif (age := time.time() - touched) < DEAD_AFTER:
        who = f"process {pid} on {host} works here" if host else "this lock names no process"
        raise UserError(
            f"{path}: {who}, and {_touched(age)}; {busy}, or remove this file if nothing runs there"
        )
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        os.rename(path, aside)  # of several processes that find it dead only one succeeds
        # then another process was faster, and this is its new lock
        if aside.read_text(encoding="utf-8", errors="replace") != content:
            with contextlib.suppress(OSError):
                os.link(aside, path)
        aside.unlink()


def _touched(age: float) -> str:
    """When a lock was touched, in words, and when it is taken over."""
    if age < -DEAD_AFTER:  # more than clocks of two hosts differ
        return "its time is in the future (was a clock set back?), so its age is not known and it is not taken over"
    minutes = int(max(age, 0.0) // 60)
    ago = "less than a minute ago" if not minutes else f"{minutes} minute{'s' * (minutes > 1)} ago"
    return f"was last touched {ago}; {DEAD_AFTER / 60:.0f} minutes after that the next call takes it over"


def _started(pid: int) -> str | None:
    """When a process of this host was started, to distinguish it from a later one with the same number; None if there is none."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot}-{fields[19]}"
    except OSError:
        pass
    if pathlib.Path("/proc/self/stat").exists() or pid <= 0:
        return None
    try:  # no /proc: macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "runs"
    return "runs"


def _touch(path: pathlib.Path, done: threading.Event) -> None:
    while not done.wait(TOUCHED_EVERY):
        with contextlib.suppress(OSError):
            os.utime(path)
