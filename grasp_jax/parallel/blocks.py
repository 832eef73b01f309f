"""How many rows of scores over a whole catalogue are held at a time."""

import math

FLOAT = 4  # bytes
# Bytes of a block of scores. On a CPU a block that stays in the cache is fastest (`benchmarks.cross_entropy` compares it with other forms).
# But each block reads and writes the gradient of all items, so it should have at least 128 targets, within the limit.
CACHED_BYTES, FEWEST, LIMIT_BYTES = 8 << 20, 128, 128 << 20
ACCELERATOR_BYTES = 256 << 20
ARRAYS_OF_GATES = 12  # numbers of a pair that gates need: two logits, their three forms, three gates, a score, and gradients of some


def rows_of_block(num_targets: int, num_items: int, backend: str) -> int:
    """How many targets are scored at a time; of equal blocks."""
    row = FLOAT * num_items
    rows = ACCELERATOR_BYTES // row
    if backend == "cpu":
        rows = min(max(CACHED_BYTES // row, FEWEST), LIMIT_BYTES // row)
    blocks = math.ceil(num_targets / max(rows, 1))
    return math.ceil(num_targets / blocks)
