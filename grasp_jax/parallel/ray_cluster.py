"""Starts or connects to a Ray cluster, and runs tasks on its workers, for the programs in `launch/`."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line


@contextlib.contextmanager
def started_ray(address: str, workers: int) -> Iterator[None]:
    """Context with the cluster at an address or, without an address, a local cluster for so many workers.

    Raises:
      UserError: Ray is not installed, or there is no cluster at the address.
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
        raise UserError(f"--address: {address!r}: no Ray cluster: {one_line(error)}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    # Not after an error: if a thread of Ray is still running, Ray ends the process before the error is printed. Ray shuts down at exit
    # anyway.
    ray.shutdown()


def on_ray(
    argument: Any,
    workers: int,
    gpus: float,
    worker: type,
    tasks: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yields the results of tasks, in any order.

    Args:
      argument: the argument of the worker's constructor.
      workers: largest number of workers.
      gpus: number of GPUs of each worker.
      worker: a class whose objects are called with a task and return its result.
      tasks: the tasks.

    Raises:
      UserError: Ray cannot start the workers. An exception within a worker is the "error" of its result, for `stop_if_failed`.
    """
    import ray

    if not tasks:
        return
    data = ray.data.from_items(list(tasks), override_num_blocks=len(tasks))
    pool = min(workers, len(tasks))
    try:
        yield from data.map(
            worker, fn_constructor_args=(argument,), concurrency=pool, num_gpus=gpus or None
        ).iter_rows()
    except ray.exceptions.RayError as error:
        raise UserError(
            f"Ray: {one_line(error, 300)}; finished work is kept; run the same command again to continue"
        ) from error


def stop_if_failed(result: Mapping[str, Any]) -> None:
    """Raises UserError if the result of a task has an error."""
    if result["error"]:
        raise UserError(str(result["error"]))
