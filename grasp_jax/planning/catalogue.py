"""The memory and the traffic of a loss over the whole catalogue, for `planning.step`.

The copies of arrays are those of programs that XLA compiles for an H100; a test compares their memory (kernels-h100).
"""

import math
from typing import NamedTuple

from grasp_jax.parallel.blocks import ARRAYS_OF_GATES, rows_of_block
from grasp_jax.planning.workload import FLOAT, Layout, Workload

# Arrays as large as something of all items, forward and backward, as XLA compiles them: features of gates; a hidden layer; the vectors of
# one tower, and those of several, which are also split and joined.
FEATURE_COPIES, HIDDEN_COPIES, VECTOR_COPIES, TOWER_COPIES = 5, 2, 2, 4
# A block of scores is written, read for the maximum and for the sum, read and written as exponentials, and read by two products.
LOSS_PASSES = 7


class Blocks(NamedTuple):
    """The blocks of scores over a whole catalogue that a device computes one after the other: their number for each loss; bytes of one."""

    number: int = 0
    bytes: float = 0.0


def score_blocks(work: Workload, layout: Layout) -> Blocks:
    """The blocks of a step that scores all items; none if negatives are drawn.

    A block has scores and their exponentials for the items of this device; with gates, `ARRAYS_OF_GATES` numbers for each pair.
    """
    if not work.catalogue:
        return Blocks()
    targets = work.pairs if layout.devices == 1 else work.places
    if work.gated:
        rows = rows_of_block(targets, ARRAYS_OF_GATES * work.items, "gpu")
        pairs = ARRAYS_OF_GATES * float(rows) * work.items
        return Blocks(math.ceil(targets / rows), FLOAT * pairs / layout.devices)
    local_targets, local_items = (
        math.ceil(targets / layout.data),
        math.ceil(work.items / layout.table),
    )
    rows = rows_of_block(local_targets, local_items, "gpu")
    return Blocks(math.ceil(local_targets / rows), FLOAT * 2.0 * rows * local_items)


def catalogue_bytes(work: Workload, layout: Layout) -> float:
    """Bytes of the vectors or features of all items; 0 if negatives are drawn.

    Vectors are on every device, with their gradient, and so are the results of experts. Hidden layers and the rows that networks read are
    sharded. With gates there are no vectors of items but features.
    """
    if not work.catalogue:
        return 0.0
    vectors = work.vectors
    if work.gated:
        return FLOAT * FEATURE_COPIES * float(work.items) * vectors.numbers / layout.devices
    copies = TOWER_COPIES if work.backbones > 1 else VECTOR_COPIES
    of_item = copies * work.backbones * work.features + VECTOR_COPIES * vectors.match
    of_item += HIDDEN_COPIES * vectors.mixed
    of_row = HIDDEN_COPIES * vectors.hidden + vectors.joined
    local_items = math.ceil(work.items / layout.table)
    return FLOAT * (float(work.items) * of_item + float(local_items) * of_row)


def catalogue_traffic(work: Workload, layout: Layout) -> float:
    """Bytes that a step with the loss over all items moves in addition to writing and reading each array once.

    Each loss writes and reads all its blocks of scores, and each block reads the items twice and adds to their gradient. Networks read all
    rows, forward and for the gradient of their kernels. Adam reads and writes all parameters and moments; where negatives are drawn, it
    defers most rows of an ID table.
    """
    if not work.catalogue:
        return 0.0
    vectors, blocks = work.vectors, score_blocks(work, layout)
    local_items = float(math.ceil(work.items / layout.table))
    times = 2 if work.gated else LOSS_PASSES / 2  # that each of a block's arrays is written or read
    again = (times * blocks.number * len(vectors.losses) - 2) * blocks.bytes
    items = 4 * blocks.number * local_items * sum(vectors.losses) * FLOAT
    rows = 2 * local_items * vectors.row_bytes
    return work.models * (again + items + rows + 6 * work.parameters * FLOAT)
