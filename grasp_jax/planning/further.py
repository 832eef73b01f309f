"""What LLM-ESR and RLMRec compute in a step in addition to the other methods: cross-attention between two views, and losses beside Eq. 6.

`planning.step` adds these figures to those of the parts that all methods have.
"""

import math
from typing import NamedTuple

from grasp_jax.models.backbones.dual_view import DualView
from grasp_jax.planning.workload import FLOAT, Further, Layout, Workload

HEADS = DualView.num_heads  # of the cross-attention
CROSSED = 12  # numbers of D of a place that a cross-attention keeps


class Pairs(NamedTuple):
    """One contrastive loss: the logits of `anchors` representations and `keys` texts.

    Attributes:
      anchors, keys: their numbers in a step.
      texts: rows of texts that it reads.
      devices: number of devices that share it; the others repeat it.
    """

    anchors: float
    keys: float
    texts: float
    devices: int


def pairs_of(work: Workload, layout: Layout) -> list[Pairs]:
    """The contrastive losses of a step: of users, of the items of histories, and of negatives; or one of users and items together."""
    contrast, batch, places = work.further.contrast, work.batch, work.places
    if contrast is None:
        return []
    if contrast.generative:
        every = batch + places
        return [Pairs(every, every, every, layout.devices)]
    # the first negative of each target; as many as there are places, if each target is scored against all items
    negatives = places if work.catalogue or layout.devices > 1 else work.pairs
    users = work.users if contrast.all_users else batch
    texts = batch + users * contrast.all_users
    of_users = Pairs(batch, users, texts, 1)
    return [of_users, *(Pairs(n, n, n, layout.devices) for n in (places, negatives))]


def further_flops(work: Workload, layout: Layout) -> float:
    """Operations of matrix products on a device.

    Products with texts have no gradient of the texts. `gen` contrasts with the texts themselves, so these have none in the contrast either.
    """
    total = 0.0
    if work.further.views > 1:
        of_place = 2 * 4 * work.features**2 + 2 * 2 * work.length * work.features
        total += 3 * work.further.views * work.places * of_place / layout.devices
    contrast = work.further.contrast
    if contrast is None:
        return total
    network = contrast.network
    passes = (3, 2) if contrast.generative else (2, 3)  # of the first layer, and of the contrast
    of_text = passes[0] * network.inputs * network.first + 3 * network.hidden * network.outputs
    for own in pairs_of(work, layout):
        of_pairs = passes[1] * own.anchors * own.keys * network.outputs
        total += 2 * (own.texts * of_text + of_pairs) / own.devices
    return total


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


def further_bytes(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes on a device during a step of one model; empty for methods without such parts."""
    if work.further == Further():
        return {}
    of_loss = {"additional loss": _loss_bytes(work, layout)}
    if work.further.views == 1:
        return of_loss
    of_place = CROSSED * work.features + 4 * HEADS * work.length
    crossed = FLOAT * work.further.views * work.places / layout.devices * of_place
    return {"cross-attention": crossed, **of_loss}


def further_sent(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes that a device sends in a step of one model; empty for methods without such parts."""
    sent = _numbers_sent(work, layout) * (layout.devices - 1) / layout.devices
    return {} if work.further == Further() else {"additional loss": FLOAT * sent}


def _loss_bytes(work: Workload, layout: Layout) -> float:
    """Bytes on a device of the additional loss.

    XLA for a GPU computes the contrastive losses one after the other, each with its gradient, so the largest one counts: its logits and
    their gradient, the rows of texts, and the results of both layers.
    """
    similar, contrast = work.further.similar, work.further.contrast
    if contrast is None:
        return FLOAT * float(work.batch * (similar + 2) * work.vector_width * (similar > 0))
    network = contrast.network
    of_text = network.inputs + network.hidden + network.outputs
    return FLOAT * max(
        (2.0 * own.anchors * own.keys + own.texts * of_text) / own.devices
        + own.keys * network.outputs * (own.devices > 1)
        for own in pairs_of(work, layout)
    )


def _numbers_sent(work: Workload, layout: Layout) -> float:
    """Numbers of the arrays that devices exchange for the additional loss, twice if they are reduced.

    All devices get the keys of a contrast that they share, and reduce the gradient of keys that are computed. With split item tables all
    devices get the rows of texts. `gen` joins users and items, and divides them anew, forward and backward. States of the newest items are
    on all devices.
    """
    contrast = work.further.contrast
    newest = 2.0 * work.batch * work.vector_width
    if contrast is None:
        numbers = newest * (work.further.similar > 0)
    elif contrast.generative:
        of_both = work.width + work.features
        every = work.batch + work.places
        numbers = 2.5 * newest + every * (work.width + 2 * of_both / layout.devices)
        numbers += 2 * work.places * work.width * (layout.table > 1)
    else:
        shared = [own for own in pairs_of(work, layout) if own.devices > 1]
        of_key = 3 * work.features + 2 * work.width * (layout.table > 1)
        numbers = newest + of_key * sum(own.keys for own in shared)
        if contrast.all_users and layout.users == "sharded":
            numbers += 3.0 * work.users * work.features
    if contrast is not None and layout.users == "sharded":
        numbers += 2 * work.batch * work.width
    return numbers
