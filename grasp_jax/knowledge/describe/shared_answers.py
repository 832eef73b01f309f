"""One open cache of answers for all threads of a process, such as those of a service that encodes texts for several callers."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.knowledge.endpoint.cache import AnswerCache, open_answers

OTHERS_SECONDS = 3.0  # how long a call waits for another process, which has a folder open for as long as a request takes


class _Shared:
    """The cache in a folder while threads use it, their number, and the lock under which it is opened and closed."""

    def __init__(self) -> None:
        self.cache: AnswerCache | None = None
        self.users, self.lock = 0, threading.Lock()


_shared: dict[str, _Shared] = {}  # of each folder that this process has used, by its real path
_all = threading.Lock()


@contextlib.contextmanager
def shared_answers(folder: str) -> Iterator[AnswerCache]:
    """The cache in a folder, open while any thread of this process is within.

    Raises:
      EndpointError: the cache cannot be opened, or another process has it open for `OTHERS_SECONDS`.
    """
    deadline = time.monotonic() + OTHERS_SECONDS
    with _all:
        shared = _shared.setdefault(os.path.realpath(os.path.expanduser(folder)), _Shared())
    with shared.lock:
        if shared.cache is None:
            shared.cache = _opened_by(deadline, folder)
        cache = shared.cache
        shared.users += 1
    try:
        yield cache
    finally:
        with shared.lock:
            shared.users -= 1
            if not shared.users:
                shared.cache = None
                cache.close()


def _opened_by(deadline: float, folder: str) -> AnswerCache:
    """The cache in a folder; waits for another process until `time.monotonic()` is at the deadline. Errors as of `shared_answers`."""
    while True:
        try:
            return open_answers(folder)
        except UserError as error:
            # an error of the service where there is one: none of its callers can mend it
            if time.monotonic() > deadline or not isinstance(error.__cause__, BlockingIOError):
                raise EndpointError(str(error), folder) from error
        time.sleep(0.05)
