"""The memory of ranking on each device, for validation, test and answers; `planning.step` adds it to the tables of a run.

Arrays of all items and of a block of users and items are counted as XLA compiles them for a CPU (`tests/test_plan_compiled.py`); a program
for a GPU may join more operations, and need less. Vectors of items are on every device, and devices share the users of a block.
"""

import math

from grasp_jax.planning.workload import FLOAT, Layout, Workload

# Numbers of a user-item pair of a block of the full ranking: products, comparisons and masks; with gates also logits and bounds.
OF_PAIR, OF_GATED_PAIR = 3, 16
# Arrays of H numbers of all items while their expansion is computed (`evaluation.bounds`).
EXPANDING = 9


def ranking_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes on a device while users are ranked, in addition to `planning.step.table_bytes`."""
    features = work.vectors.trained + work.vectors.numbers
    expansion = (4 * work.features + work.hidden + 2) * work.gated
    users = math.ceil(min(work.user_block, work.users) / layout.devices)
    full = min(work.item_block, work.items) * (OF_GATED_PAIR if work.gated else OF_PAIR)
    among = (1 + work.candidates) * (features + expansion + OF_GATED_PAIR * work.gated)
    history = work.interactions / max(work.users, 1) * (6 * work.features + 1.5 * work.length)
    tested = math.ceil(work.tested / layout.devices)
    making = EXPANDING * work.hidden if work.gated else work.vectors.hidden + work.vectors.joined
    return {
        "test set": float(tested * (1 + work.candidates) * (1 + 2 * work.gated) * FLOAT),
        "vectors of items": float(work.items * (features + expansion) * FLOAT),
        # made before the first block, and then dropped
        "temporaries": FLOAT
        * max(
            float(work.items) * making,
            users * max(float(full), float(among), work.backbones * history),
        ),
    }
