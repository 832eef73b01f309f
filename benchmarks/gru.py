"""Times a GRU over packed rows: as a scan over positions, with one or several positions per iteration, and by the kernel.

    python -m benchmarks.gru [--quick] [--out=JSON]

The rows are batches of paper Beauty (128 users, L=100, D=64). "evaluation" is the forward pass, "training" forward and backward. Before
anything is timed, states and gradients must agree with the scan's. The kernel needs a GPU; with --quick it is interpreted at a tiny size.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.lengths import PAPER_BEAUTY
from benchmarks.packed_rows import PAPER, PASSES, QUICK, Sizes, packed_segments
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from benchmarks.workload import temporary_bytes
from grasp_jax.core.errors import UserError
from grasp_jax.kernels import backend
from grasp_jax.kernels.gru import gru, gru_scan

UNROLLS, QUICK_UNROLLS = (2, 4, 8, 16), (2,)
BASE = "scan"
PARITY_LIMIT = 1e-4  # of the largest value
Recurrence = Callable[..., jax.Array]  # (from_input, recurrent, first, start) -> states


def forms_of(with_kernel: bool, unrolls: tuple[int, ...]) -> dict[str, Recurrence]:
    """Name of a form -> its recurrence."""
    scans = {
        f"scan, {unroll} to an iteration": functools.partial(gru_scan, unroll=unroll)
        for unroll in unrolls
    }
    return {BASE: gru_scan, **scans, **({"kernel": gru} if with_kernel else {})}


def random_inputs(segments: np.ndarray, features: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Shares of the input [R, L', 3D], weights of the state [D, 3D], and the direction of the gradient [R, L', D]."""
    shapes = (
        (*segments.shape[1:], 3 * features),
        (features, 3 * features),
        (*segments.shape[1:], features),
    )
    keys = jax.random.split(jax.random.key(0), 3)
    shares, weights, along = (
        jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)
    )
    return shares, weights / features**0.5, along


def begins(segments: np.ndarray) -> np.ndarray:
    """[S, R, L'] bool: whether the next user's history, or padding, begins at a place."""
    first = np.ones_like(segments, bool)
    first[..., 1:] = segments[..., 1:] != segments[..., :-1]
    return first


def difference(form: Recurrence, inputs: tuple[jax.Array, ...], first: jax.Array) -> float:
    """Largest difference between `form` and the scan, in states and gradients, as a share of the largest value."""

    @jax.jit
    def worst(shares: jax.Array, weights: jax.Array, along: jax.Array) -> jax.Array:
        def all_of(own: Recurrence) -> tuple[jax.Array, ...]:
            states, pull_back = jax.vjp(
                lambda *given: own(*given, first, jnp.zeros(along.shape[-1])), shares, weights
            )
            return states, *pull_back(along)

        pairs = zip(all_of(form), all_of(gru_scan), strict=True)
        return jnp.stack(
            [jnp.abs(ours - theirs).max() / jnp.abs(theirs).max() for ours, theirs in pairs]
        ).max()

    # otherwise the difference would only be that between TF32 and float32
    with jax.default_matmul_precision("highest"):
        return float(worst(*inputs))


def many_steps(form: Recurrence, part: str) -> Callable[..., tuple[jax.Array, ...]]:
    """A pass over each batch in turn; each pass reads the result of the one before, so that XLA cannot drop any."""

    def step(carry: tuple[jax.Array, ...], first: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        shares, weights, along = carry
        start = jnp.zeros(along.shape[-1])
        if part == "evaluation":
            return (
                shares.at[..., : along.shape[-1]].add(1e-3 * form(shares, weights, first, start)),
                weights,
                along,
            ), None
        _, pull_back = jax.vjp(lambda *given: form(*given, first, start), shares, weights)
        by_shares, by_weights = pull_back(along)
        return (shares - 1e-3 * by_shares, weights - 1e-6 * by_weights, along), None

    return lambda inputs, firsts: jax.lax.scan(step, inputs, firsts)[0]


def measure(
    forms: dict[str, Recurrence],
    inputs: tuple[jax.Array, ...],
    firsts: jax.Array,
    part: str,
    rounds: int,
) -> dict[str, Any]:
    """Figures of each form: milliseconds of a step in interleaved rounds, and bytes of temporaries."""
    compiled = {
        name: jax.jit(many_steps(form, part)).lower(inputs, firsts).compile()
        for name, form in forms.items()
    }
    times = interleaved(
        {name: functools.partial(own, inputs, firsts) for name, own in compiled.items()}, rounds
    )
    return {
        name: spread(own, len(firsts)) | {"temporary_bytes": temporary_bytes(compiled[name])}
        for name, own in times.items()
    }


def found_of(figures: dict[str, Any]) -> str:
    """The benchmark's last line: the forms compared in training."""
    best = min(figures, key=lambda name: figures[name]["median_ms"])
    ratio = figures[BASE]["median_ms"] / figures[best]["median_ms"]
    return f"forward and backward: the fastest form, {best}, is {ratio:.1f}x as fast as the scan"


def main() -> None:
    """Checks that the forms agree, prints a line for each pass and form, and writes all as JSON.

    Raises:
      UserError: a form does not compute the same function.
    """
    parser = parser_of("gru", __doc__)
    given = parser.parse_args()
    sizes: Sizes = QUICK if given.quick else PAPER
    log_name, segments = packed_segments(
        str(PAPER_BEAUTY) if PAPER_BEAUTY.exists() and not given.quick else "", sizes
    )
    contention, firsts, inputs = (
        Contention(),
        jnp.asarray(begins(segments)),
        random_inputs(segments, sizes.features),
    )
    unrolls = QUICK_UNROLLS if given.quick else UNROLLS
    forms = forms_of(given.quick or not backend.interpret(), unrolls)
    parity = {name: difference(form, inputs, firsts[0]) for name, form in forms.items()}
    for name, found in parity.items():
        if not found <= PARITY_LIMIT:  # NaN fails too
            raise UserError(
                f"{name} differs from the scan by {found:.1e} of the largest value; their times mean nothing"
            )
    print(f"parity ok: largest difference {max(parity.values()):.1e}, limit {PARITY_LIMIT:.0e}")
    cases = {part: measure(forms, inputs, firsts, part, sizes.rounds) for part in PASSES}
    lines = []
    for part, figures in cases.items():
        for name, own in figures.items():
            speed_up = figures[BASE]["median_ms"] / own["median_ms"]
            lines.append(
                [
                    f"{part}, {name}",
                    *(f"{own[key]:.3f}" for key in ("median_ms", "p10_ms", "p90_ms")),
                    f"{speed_up:.2f}x",
                ]
            )
    print(table(["a step", "median ms", "p10", "p90", "over the scan"], lines))
    if "kernel" not in forms:
        print("kernel not timed: it needs a GPU")
    facts = {
        "sizes": dataclasses.asdict(sizes)
        | {"data": log_name, "rows": segments.shape[1], "row_length": segments.shape[2]},
        "parity": parity,
        "cases": cases,
    }
    keep("gru", facts, contention, given, found_of(cases["training"]))


if __name__ == "__main__":
    run(main)
