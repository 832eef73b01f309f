"""The number of targets whose scores over the whole catalogue are in memory at a time."""

import math

FLOAT = 4  # bytes
# Bytes of a block of scores. On a CPU a block that stays in the cache is fastest.
# But each block reads and writes the gradient of all items, so it should have at least 128 targets, within the limit.
CACHED_BYTES, MIN_ROWS, LIMIT_BYTES = 8 << 20, 128, 128 << 20
ACCELERATOR_BYTES = 256 << 20
ARRAYS_OF_GATES = 12  # numbers of a pair in a model with gates: two logits, three of attention, three gates, a score, and gradients


def rows_of_block(num_targets: int, num_items: int, backend: str) -> int:
    """Number of targets that are scored at a time, the same for all blocks but the last."""
    row = FLOAT * num_items
    rows = ACCELERATOR_BYTES // row
    if backend == "cpu":
        rows = min(max(CACHED_BYTES // row, MIN_ROWS), LIMIT_BYTES // row)
    blocks = math.ceil(num_targets / max(rows, 1))
    return math.ceil(num_targets / blocks)
