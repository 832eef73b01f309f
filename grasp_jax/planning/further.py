"""What LLM-ESR and RLMRec compute in a step in addition to the other methods: cross-attention between two views, and losses beside Eq. 6.

`planning.step` adds these figures to those of the parts that all methods have.
"""

import math
from typing import NamedTuple

from grasp_jax.planning.workload import FLOAT, Layout, Workload

HEADS = 2  # of the cross-attention (`models.backbones.dual_view`)
CROSSED = 12  # arrays of D numbers of a place that a cross-attention keeps


class Pairs(NamedTuple):
    """One contrastive loss: the logits of `anchors` representations and `keys` texts."""

    anchors: float
    keys: float


def pairs_of(work: Workload, layout: Layout) -> list[Pairs]:
    """The contrastive losses of a step, over all devices: of users, of the items of histories, and of negatives; or one of all."""
    contrast = work.further.contrast
    if contrast is None:
        return []
    batch, places = work.batch, work.places
    if contrast.generative:
        return [Pairs(batch + places, batch + places)]
    # the first negative of each target; for all items in the loss as many as there are places
    negatives = places if work.catalogue or layout.devices > 1 else work.pairs
    users = work.users if contrast.all_users else batch
    return [Pairs(batch, users), Pairs(places, places), Pairs(negatives, negatives)]


def texts_read(work: Workload, layout: Layout) -> float:
    """Rows of texts that the contrastive losses of a step read, over all devices."""
    own = pairs_of(work, layout)
    all_users = work.further.contrast is not None and work.further.contrast.all_users
    return sum(each.anchors for each in own) + work.users * all_users


def further_flops(work: Workload, layout: Layout) -> float:
    """Operations of matrix products on all devices together.

    Products with texts have no gradient of the texts. `gen` contrasts with the texts themselves, so these have none in the contrast either.
    """
    total = 0.0
    if work.further.views > 1:
        of_place = 2 * 4 * work.features**2 + 2 * 2 * work.length * work.features
        total += 3 * work.further.views * work.places * of_place
    if (contrast := work.further.contrast) is None:
        return total
    network, rows = contrast.network, texts_read(work, layout)
    passes = (3, 2) if contrast.generative else (2, 3)  # of the first layer, and of the contrast
    of_row = passes[0] * network.inputs * network.first + 3 * network.hidden * network.outputs
    pairs = sum(own.anchors * own.keys for own in pairs_of(work, layout))
    return total + 2 * rows * of_row + passes[1] * 2 * pairs * network.outputs
    

def further_tables(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes of frozen tables and of states on a device: RLMRec's texts, LLM-ESR's similar users, and the states of all users."""
    share = {"device": 1.0, "sharded": 1.0 / layout.devices, "host": 0.0}[layout.users]
    of_text = work.width * work.table_bytes * (work.further.contrast is not None)
    similar = work.further.similar
    states = work.models * work.vector_width * (similar > 0)
    return {
        "item tables": math.ceil(work.items / layout.table) * of_text,
        "user tables": math.ceil(work.users * share) * of_text
        + work.users * (similar + states) * FLOAT,
    }


def crossing_bytes(work: Workload, layout: Layout) -> float:
    """Bytes on a device of the cross-attention between views, which are kept for the backward pass."""
    if work.further.views == 1:
        return 0.0
    of_place = CROSSED * work.features + 4 * HEADS * work.length
    return FLOAT * work.further.views * work.places / layout.devices * of_place


def loss_bytes(work: Workload, layout: Layout) -> float:
    """Bytes on a device of the additional loss.

    XLA computes the contrastive losses one after the other, each with its gradient, so the largest one counts: its logits and their
    gradient, the rows of texts, and the results of both layers.
    """
    batch = math.ceil(work.batch / layout.devices)
    distilled = batch * (work.further.similar + 2) * work.vector_width * (work.further.similar > 0)
    contrast = work.further.contrast
    if contrast is None:
        return FLOAT * float(distilled)
    network = contrast.network
    of_row = network.inputs + network.hidden + network.outputs
    return FLOAT * max(
        2.0 * own.anchors * own.keys + max(own.anchors, own.keys) * of_row
        for own in pairs_of(work, layout)
    )
