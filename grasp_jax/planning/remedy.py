"""What to change if no mesh holds a job: the largest arrays that remain on the best mesh, and the fields that make them smaller."""

from grasp_jax.planning.devices import Device
from grasp_jax.planning.ranking import ranking_bytes
from grasp_jax.planning.step import (
    MESHES,
    USABLE,
    Accepts,
    least_layout,
    ranking_total,
    step_bytes,
    table_bytes,
    total_bytes,
)
from grasp_jax.planning.words import size_of
from grasp_jax.planning.workload import Layout, Workload

NAMED = 2  # arrays
BATCH = "config.train.batch_size"
WIDTHS = "config.model.features or model.mlp"
TRAINED = "config.model.features"
SEVERAL = f"{TRAINED}, or train fewer seeds, learning rates and dropouts together"
FIELDS = {  # "": none
    "interactions": "",
    "item tables": "config.knowledge.reduction.width, or set model.table_dtype=float16",
    "user tables": "config.knowledge.reduction.width, or set model.table_dtype=float16 or tables.users=host",
    "validation": "config.eval.num_negatives or eval.valid_users",
    "test set": "config.eval.num_negatives",
    "vectors of items": WIDTHS,
    "hidden layer": f"{BATCH} or model.mlp",
}


def remedy(work: Workload, device: Device, accepts: Accepts) -> str:
    """A sentence for a job that `planning.step.smallest_layout` cannot place."""
    layout = least_layout(work, accepts)
    training = total_bytes(work, layout) >= ranking_total(work, layout)
    extra = step_bytes(work, layout) if training else ranking_bytes(work, layout)
    needed = total_bytes(work, layout) if training else ranking_total(work, layout)
    rows = table_bytes(work, layout) | extra
    largest = sorted(rows, key=lambda name: rows[name], reverse=True)[:NAMED]
    named = "; ".join(
        f"{name}, {size_of(rows[name])} ({_advice(name, work, layout)})" for name in largest
    )
    return (
        f"no mesh of up to {MESHES[-1]} devices holds it: with {layout.data} x {layout.table} devices and tables.users={layout.users}, "
        f"which need least, {'training' if training else 'ranking'} takes {size_of(needed)} of each, and "
        f"{size_of(USABLE * device.memory)} may be used; the largest parts are {named}; or use a device with more memory"
    )


def _advice(name: str, work: Workload, layout: Layout) -> str:
    """What makes an array smaller, in words."""
    field = FIELDS.get(name, BATCH)
    if name in ("parameters", "gradients"):
        field = SEVERAL if work.models > 1 else TRAINED
    if name in ("items' numbers", "scores") and work.catalogue:
        field = TRAINED if name == "items' numbers" else BATCH
    if name == "temporaries":
        field = _of_temporaries(work, layout)
    if not field:
        return "no field makes it smaller, because every device has the whole log"
    return f"lower {field}"


def _of_temporaries(work: Workload, layout: Layout) -> str:
    """The fields that decide the temporary arrays of ranking: the block of users, if a smaller one needs less."""
    smaller = ranking_bytes(work._replace(user_block=1), layout)["temporaries"]
    if smaller >= ranking_bytes(work, layout)["temporaries"]:
        return WIDTHS
    few = work._replace(candidates=1)
    by_candidates = ranking_bytes(few, layout)["temporaries"]
    if by_candidates < ranking_bytes(work, layout)["temporaries"]:
        return "config.eval.user_block or eval.num_negatives"
    return "config.eval.user_block or eval.item_block"
