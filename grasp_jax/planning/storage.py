"""The memory of the host and the disk that a job needs for its tables, for `--mode=plan`."""

import jax.numpy as jnp

from grasp_jax.config import Config
from grasp_jax.planning.words import size_of
from grasp_jax.planning.workload import FLOAT, Workload


def storage_lines(config: Config, work: Workload) -> list[str]:
    """What the disk holds and, with tables.users=host, what the host's memory should hold; reading the log is not counted.

    Args:
      config: of the method alone.
      work: of its step; the width is 0 if it reads no text.
    """
    of_number = jnp.dtype(config.knowledge.dtype).itemsize
    bank = 2.0 * (work.users + work.items) * work.width * of_number
    negatives = float(work.evaluated + work.tested) * work.candidates * FLOAT
    parts = [f"the knowledge bank {size_of(bank)}"] if bank else []
    if config.data.split != "none":
        parts.append(f"the negatives of validation and test {size_of(negatives)}")
    lines = [f"on disk: {', '.join(parts or ['nothing'])}; checkpoints are not counted"]
    held = 2.0 * work.users * work.width * of_number * work.gated
    if config.tables.users == "host" and held:
        lines.append(
            f"memory of each host: the user tables, {size_of(held)}, read from the bank; the times assume that they are in memory."
            " With less memory each step waits for the disk, which is not counted"
        )
    return lines
