"""What to change if no mesh holds a job: the largest arrays that remain on the best mesh, and the fields that make them smaller."""

from collections.abc import Mapping

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
FIELDS_NAMED = 3  # for an array
# A field is named if an array has at most this share of its bytes with the field lowered.
SAVES = 0.9


def remedy(
    work: Workload, device: Device, accepts: Accepts, lowered: Mapping[str, Workload]
) -> str:
    """A sentence for a job that `planning.step.smallest_layout` cannot place.

    Args:
      work: the step.
      device: the kind of device.
      accepts: function that says whether a run accepts a layout.
      lowered: what one may change, in words, and the step after it (`planning.lowered`).
    """
    layout = least_layout(work, accepts)
    if layout is None:
        return f"these settings accept no mesh of up to {MESHES[-1]} devices"
    training = total_bytes(work, layout) >= ranking_total(work, layout)
    needed = total_bytes(work, layout) if training else ranking_total(work, layout)
    rows = _rows(work, layout, training)
    after = {words: _rows(own, layout, training) for words, own in lowered.items()}
    largest = sorted(rows, key=lambda name: rows[name], reverse=True)[:NAMED]
    named = "; ".join(
        f"{name}, {size_of(rows[name])} ({_advice(name, rows, after)})" for name in largest
    )
    return (
        f"no mesh of up to {MESHES[-1]} devices holds it: with {layout.data} x {layout.table} devices and tables.users={layout.users}, "
        f"which need least, {'training' if training else 'ranking'} takes {size_of(needed)} of each, and "
        f"{size_of(USABLE * device.memory)} may be used; the largest parts are {named}; or use a device with more memory"
    )


def _rows(work: Workload, layout: Layout, training: bool) -> dict[str, float]:
    """Bytes of each array on a device."""
    extra = step_bytes(work, layout) if training else ranking_bytes(work, layout)
    return table_bytes(work, layout) | extra


def _advice(name: str, rows: Mapping[str, float], after: Mapping[str, Mapping[str, float]]) -> str:
    """What makes an array clearly smaller, in words: what saves most stands first."""
    left = {words: own.get(name, 0.0) for words, own in after.items()}
    helps = [words for words, count in left.items() if count <= SAVES * rows[name]]
    if not helps:
        return "no field makes it smaller; only fewer items or users do"
    return ", or ".join(sorted(helps, key=lambda words: left[words])[:FIELDS_NAMED])
