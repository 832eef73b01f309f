"""A Ray cluster, and tasks for its workers; `launch/` has the programs that use it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grasp_jax.errors import UserError


@contextlib.contextmanager
def started_ray(address: str, workers: int) -> Iterator[None]:
    """The cluster at an address, or one of this machine's own for so many workers.

    Raises:
      UserError: Ray is not installed, or nobody is at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "launch/: this program needs Ray; pip install 'grasp-jax[ray]', or do the same on this machine by python -m grasp_jax.main"
        ) from error
    try:
        ray.init(
            address=address or None,
            num_cpus=None if address else workers + 1,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--address: {address!r}: no Ray cluster: {' '.join(str(error).split())[:200]}"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    # Not after an error: if a thread of Ray is still running, Ray ends the process before the error is printed. Ray shuts down at exit
    # anyway.
    ray.shutdown()


def on_ray(
    about: Any,
    workers: int,
    gpus: float,
    worker: type,
    tasks: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """What workers make of tasks, in any order.

    Args:
      about: what each worker is made with.
      workers: how many, at most.
      gpus: of each.
      worker: a class whose objects are called with a task.
      tasks: one after the other.

    Raises:
      UserError: what Ray says of workers that cannot be had; what a worker itself raises is its task's "error", for `stop_if_failed`.
    """
    import ray

    if not tasks:
        return
    data = ray.data.from_items(list(tasks), override_num_blocks=len(tasks))
    pool = min(workers, len(tasks))
    try:
        yield from data.map(
            worker, fn_constructor_args=(about,), concurrency=pool, num_gpus=gpus or None
        ).iter_rows()
    except ray.exceptions.RayError as error:
        raise UserError(
            f"Ray: {' '.join(str(error).split())[:300]}; finished work is kept; run the same command again to continue"
        ) from error


def stop_if_failed(done: Mapping[str, Any]) -> None:
    """Raises UserError with what a worker could not do."""
    if done["error"]:
        raise UserError(str(done["error"]))
