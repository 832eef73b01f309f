"""Times attention over packed rows: with all weights in memory, as in SASRec's einsum, and by the kernels.

    python -m benchmarks.attention [--data=FOLDER] [--rounds=15] [--out=JSON] [--quick]

The rows are batches of paper Beauty (128 users, L=100, D=64). "evaluation" is the forward pass; "training" is forward and backward with
dropout on the weights. Before anything is timed, outputs and gradients must agree with the kernels' reference. The kernels need a GPU;
with --quick they are interpreted at a tiny size, only to show that the benchmark runs: those times mean nothing.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import lengths
from benchmarks.arguments import parser_of
from benchmarks.kernels.packed_attention import (
    NORMALISERS,
    AttentionForm,
    packed_attention,
    packed_attention_reference,
)
from benchmarks.packed_rows import PAPER, PASSES, QUICK, Sizes, packed_segments
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from benchmarks.workload import temporary_bytes
from grasp_jax.core.errors import UserError
from grasp_jax.kernels import backend
from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.kernels.counter_bits import SeededDropout

DROPOUT, CAUSAL = 0.2, True
PARITY_LIMIT = 1e-5
Attend = Callable[..., jax.Array]  # (queries, keys, values, segments, form) -> attended values


def einsum_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    segments: jax.Array,
    form: AttentionForm,
) -> jax.Array:
    """Attention as in `grasp_jax.models.backbones.sasrec.SelfAttention`; dropout draws bits for all [R, n, L', L'] weights."""
    allowed = attention_mask(segments, form.causal)[:, None]
    scores = jnp.einsum("rqnd,rknd->rnqk", queries, keys) / jnp.sqrt(jnp.float32(queries.shape[-1]))
    if form.normaliser == "softmax":
        weights = jax.nn.softmax(jnp.where(allowed, scores, -1e9), axis=-1)
    else:
        weights = jnp.where(allowed, jax.nn.sigmoid(scores), 0.0)
    if form.dropout is not None:
        kept = 1.0 - form.dropout.rate
        drawn = jax.random.bernoulli(jax.random.key(form.dropout.seed), kept, weights.shape)
        weights = jnp.where(drawn, weights / kept, 0.0)
    return jnp.einsum("rnqk,rknd->rqnd", weights, values)


def random_inputs(segments: np.ndarray, heads: int, sizes: Sizes) -> tuple[jax.Array, ...]:
    """Queries, keys, values and the direction of the gradient, each [R, L', n, D / n]."""
    shape = (*segments.shape[1:], heads, sizes.features // heads)
    return tuple(jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0), 4))


def difference(
    attend: Attend,
    inputs: tuple[jax.Array, ...],
    segments: np.ndarray,
    normaliser: str,
    rate: float | None,
) -> float:
    """Largest difference between `attend` and the reference, in outputs and gradients, as a share of the largest value."""

    @jax.jit
    def worst(
        queries: jax.Array, keys: jax.Array, values: jax.Array, along: jax.Array, own: jax.Array
    ) -> jax.Array:
        dropout = None if rate is None else SeededDropout(jnp.float32(rate), jnp.uint32(1))
        form = AttentionForm(CAUSAL, normaliser, dropout)

        def all_of(function: Attend) -> tuple[jax.Array, ...]:
            attended, pull_back = jax.vjp(
                lambda *given: function(*given, own, form), queries, keys, values
            )
            return attended, *pull_back(along)

        pairs = zip(all_of(attend), all_of(packed_attention_reference), strict=True)
        return jnp.stack(
            [jnp.abs(ours - theirs).max() / jnp.abs(theirs).max() for ours, theirs in pairs]
        ).max()

    # otherwise the difference would only be that between TF32 and float32
    with jax.default_matmul_precision("highest"):
        return float(worst(*inputs, jnp.asarray(segments[0])))


def many_steps(attend: Attend, normaliser: str, part: str) -> Callable[..., tuple[jax.Array, ...]]:
    """A pass over each batch in turn; each pass reads the result of the one before, so that XLA cannot drop any."""

    def step(
        carry: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, ...], None]:
        queries, keys, values, along, rate = carry
        own, seed = inputs
        if part == "evaluation":
            attended = attend(queries, keys, values, own, AttentionForm(CAUSAL, normaliser))
            return (queries + 1e-3 * attended, keys, values, along, rate), None
        form = AttentionForm(CAUSAL, normaliser, SeededDropout(rate, seed))
        _, pull_back = jax.vjp(lambda *given: attend(*given, own, form), queries, keys, values)
        moved = [
            given - 1e-3 * slope
            for given, slope in zip((queries, keys, values), pull_back(along), strict=True)
        ]
        return (*moved, along, rate), None

    def run(
        inputs: tuple[jax.Array, ...], segments: jax.Array, rate: jax.Array
    ) -> tuple[jax.Array, ...]:
        seeds = jax.random.bits(jax.random.key(0), (len(segments),))
        return jax.lax.scan(step, (*inputs, rate), (segments, seeds))[0]

    return run


def measure(
    forms: dict[str, Attend],
    inputs: tuple[jax.Array, ...],
    segments: np.ndarray,
    case: tuple[str, str],
    rounds: int,
) -> Any:
    """Figures of each form: milliseconds of a step in interleaved rounds, and bytes of temporaries."""
    arguments = inputs, jnp.asarray(segments), jnp.float32(DROPOUT)
    compiled = {
        name: jax.jit(many_steps(attend, *case)).lower(*arguments).compile()
        for name, attend in forms.items()
    }
    times = interleaved(
        {name: functools.partial(run, *arguments) for name, run in compiled.items()}, rounds
    )
    return {
        name: spread(own, len(segments)) | {"temporary_bytes": temporary_bytes(compiled[name])}
        for name, own in times.items()
    }


def found_of(cases: list[dict[str, Any]]) -> str:
    """The benchmark's last line: a comparison for each case with both forms."""
    times = []
    for case in cases:
        if case["pass"] == "training" and "kernels" in case["forms"]:
            einsum, kernels = (case["forms"][name]["median_ms"] for name in ("einsum", "kernels"))
            times.append(
                f"{einsum / kernels:.1f}x with {case['normaliser']}, {case['heads']} heads"
            )
    return f"forward and backward, kernels over einsum: {'; '.join(times) or 'not measured, kernels need a GPU'}"


def check(
    forms: dict[str, Attend], inputs: tuple[jax.Array, ...], segments: np.ndarray, normaliser: str
) -> list[dict[str, Any]]:
    """Difference of each form from the reference; for the kernels also with dropout.

    Raises:
      UserError: a form does not compute the same function.
    """
    found = []
    for name, rate in [(name, None) for name in forms] + [
        (name, DROPOUT) for name in forms if name == "kernels"
    ]:
        off, heads = difference(forms[name], inputs, segments, normaliser, rate), inputs[0].shape[2]
        found.append(
            {
                "form": name,
                "heads": heads,
                "normaliser": normaliser,
                "dropout": rate,
                "difference": off,
            }
        )
        if not off <= PARITY_LIMIT:  # NaN fails too
            raise UserError(f"parity FAILED: {found[-1]}; limit {PARITY_LIMIT:.0e}")
    return found


def lines_of(cases: list[dict[str, Any]]) -> list[list[str]]:
    """A printed line for each case and form."""
    lines = []
    for case in cases:
        for name, own in case["forms"].items():
            speed_up = case["forms"]["einsum"]["median_ms"] / own["median_ms"]
            times = [f"{own[field]:.3f}" for field in ("median_ms", "p10_ms", "p90_ms")]
            lines.append(
                [
                    f"{case['pass']}, {case['normaliser']}, heads={case['heads']}, {name}",
                    *times,
                    f"{speed_up:.2f}x",
                ]
            )
    return lines


def main() -> None:
    """Checks that the forms agree, prints a line for each case, and writes all as JSON."""
    parser = parser_of("attention", __doc__)
    parser.add_argument(
        "--data",
        default=None,
        help="folder with inter.txt; by default paper Beauty, or synthetic lengths like its own",
    )
    parser.add_argument("--rounds", type=int, default=None)
    given = parser.parse_args()
    sizes = QUICK if given.quick else PAPER
    sizes = dataclasses.replace(sizes, rounds=given.rounds or sizes.rounds)
    data = given.data or (
        "" if given.quick or not lengths.PAPER_BEAUTY.exists() else str(lengths.PAPER_BEAUTY)
    )
    log_name, segments = packed_segments(data, sizes)
    forms: dict[str, Attend] = {"einsum": einsum_attention}
    if given.quick or not backend.interpret():
        forms["kernels"] = packed_attention
    shown = " x ".join(str(size) for size in segments.shape)
    print(
        f"{log_name}: steps x rows x length {shown}, {100 * (segments >= 0).mean():.0f} % filled; {jax.devices()[0].device_kind}"
    )

    contention, cases = Contention(), []
    parity: list[dict[str, Any]] = []
    for heads in sizes.heads:
        inputs = random_inputs(segments, heads, sizes)
        for normaliser in NORMALISERS:
            parity += check(forms, inputs, segments, normaliser)
            for part in PASSES:
                figures = measure(forms, inputs, segments, (normaliser, part), sizes.rounds)
                cases.append(
                    {"heads": heads, "normaliser": normaliser, "pass": part, "forms": figures}
                )
    print(
        f"parity ok: largest difference {max(own['difference'] for own in parity):.1e}, limit {PARITY_LIMIT:.0e}"
    )
    print(table(["a step", "median ms", "p10", "p90", "over einsum"], lines_of(cases)))
    if "kernels" not in forms:
        print("kernels not timed: they need a GPU")
    facts = {
        "sizes": dataclasses.asdict(sizes)
        | {"data": log_name, "rows": segments.shape[1], "row_length": segments.shape[2]},
        "dropout": DROPOUT,
        "causal": CAUSAL,
        "interpreted": "kernels" in forms and backend.interpret(),
        "filled": float((segments >= 0).mean()),
        "parity_limit": PARITY_LIMIT,
        "parity": parity,
        "cases": cases,
    }
    keep("attention", facts, contention, given, found_of(cases))


if __name__ == "__main__":
    run(main)
