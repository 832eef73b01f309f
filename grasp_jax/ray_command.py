"""What the programs of launch/ share that do the work of one mode on a Ray cluster: flags, their checks, and the cluster that they name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from absl import flags

from grasp_jax import command
from grasp_jax.core.errors import UserError
from grasp_jax.parallel.ray_cluster import on_ray, started_ray

FLAGS = flags.FLAGS


def define_flags(workers: str) -> None:
    """Adds the flags of a cluster to those of the command line; `workers` says what its workers do."""
    flags.DEFINE_string(
        "address", "", "Address of a Ray cluster; empty: Ray is started on this machine."
    )
    flags.DEFINE_integer("workers", 2, workers, lower_bound=1)
    flags.DEFINE_float("gpus-per-worker", 0.0, "GPUs of each.", lower_bound=0)


def take_mode(mode: str, arguments: Sequence[str]) -> None:
    """Sets `--mode`, which the user need not give, and checks the flags.

    Raises:
      UserError: another mode or an argument that is no flag is given, or a flag that the mode does not read.
    """
    command.refuse_left_over(arguments)
    if FLAGS.mode not in ("all", mode):
        raise UserError(
            f"--mode={FLAGS.mode}: this program does --mode={mode} on a Ray cluster; for other modes use python -m grasp_jax.main"
        )
    FLAGS["mode"].value = mode
    command.check_flags()


def started_cluster() -> AbstractContextManager[None]:
    """The cluster that the flags name; errors as of `started_ray`."""
    return started_ray(FLAGS.address, FLAGS.workers)


def on_cluster(
    about: Any, worker: type, tasks: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """As `on_ray`, with the workers that the flags name."""
    return on_ray(about, FLAGS.workers, FLAGS["gpus-per-worker"].value or 0.0, worker, tasks)
