"""Times gather, gate and projection of a training step: XLA's form (`HolisticEncoder.project`, then `combine`) against the kernel.

    python -m benchmarks.gated_projection [--quick] [--out=FILE.json]

It times the forward pass alone, and the forward pass with the gradients that training with frozen gates needs (kernels and bias), in
interleaved rounds of many steps with new ids. Both forms start from float32 parameters, as in training. The kernel is timed on a GPU only;
`--quick` runs everything at a tiny size, interpreted if there is no GPU.

A step cannot be faster than its limit, the larger of two times: its operations divided by the measured rate of operations, and its bytes
divided by the measured memory rate. The operations are those of the matrix products. The bytes are all that must move, each once: the rows
of distinct ids of both tables, kernels in the type of the products (XLA may cast them once for all steps), gates, ids and result; for the
gradients the rows, gates and ids again, the gradient of the result, and the gradients of kernels and bias in float32.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.kernels.gated_projection import (
    Tokens,
    Weights,
    gated_projection,
    gated_projection_reference,
)
from benchmarks.limits import Limits, limits
from benchmarks.record import Contention, keep, run, table
from benchmarks.timing import interleaved, spread
from benchmarks.workload import device_memory
from grasp_jax.core.errors import UserError
from grasp_jax.models.encoders.holistic import HolisticEncoder, combine

ROUNDS = {"gpu": 20, "cpu": 5}
STEPS = {"gpu": 100, "cpu": 1}  # of one dispatch
TABLE_SHARE = 0.25  # largest share of the memory for both tables
# shares of the largest value; on a GPU float32 products use TF32
PARITY_LIMITS = {"float32": 3e-3, "bfloat16": 3e-2}
Params = dict[str, jax.Array]
Results = dict[str, jax.Array]
Form = Callable[..., jax.Array]  # (params, items, similar, ids, gates) -> [T, H]


class Shape(NamedTuple):
    """T tokens of a step, V items, width E, the model's layers, and the types of the tables to time."""

    name: str
    tokens: int
    items: int
    width: int
    features: int
    hidden: tuple[int, ...]
    dtypes: tuple[str, ...] = ("float32", "bfloat16")

    @property
    def columns(self) -> int:
        """Width H of the first layer."""
        return (*self.hidden, self.features)[0]


SHAPES = (
    Shape("beauty, 256", 2100, 57_289, 1536, 64, (256,)),
    Shape("beauty, linear", 2100, 57_289, 1536, 64, ()),
    Shape(
        "industry, 256", 7300, 1_205_282, 4096, 64, (256,), ("bfloat16",)
    ),  # float32 tables would fill most of the memory
    Shape("industry, linear", 7300, 1_205_282, 4096, 64, (), ("bfloat16",)),
)
QUICK_SHAPES = (Shape("quick", 40, 60, 24, 8, (20,)),)


class Work(NamedTuple):
    """Arguments of both forms: frozen tables [V, E]; parameters; and for each of S steps ids [S, T], gates [S, T, 3], gradients [T, H]."""

    items: jax.Array
    items_similar: jax.Array
    params: Params
    ids: jax.Array
    gates: jax.Array
    gradient: jax.Array


def xla_form(encoder: HolisticEncoder) -> Form:
    """The form that training uses without the kernel."""

    def form(
        params: Params, items: jax.Array, similar: jax.Array, ids: jax.Array, gates: jax.Array
    ) -> jax.Array:
        projected = encoder.bind({"params": params}).project(items[ids], similar[ids])
        return combine(projected, gates, params["first_bias"])

    return form


def fused_form(encoder: HolisticEncoder, projection: Callable[..., jax.Array]) -> Form:
    """The form of the kernel, or of its reference."""

    def form(
        params: Params, items: jax.Array, similar: jax.Array, ids: jax.Array, gates: jax.Array
    ) -> jax.Array:
        own, other = (
            (encoder.row_norm * params[name]).astype(encoder.dtype)
            for name in ("own_kernel", "similar_kernel")
        )
        weights = Weights(own, other, params["first_bias"])
        return projection(Tokens(items, similar, ids), gates, weights)

    return form


def one_step(form: Form, backward: bool, work: Work, ids: jax.Array, gates: jax.Array) -> Results:
    """The result [T, H] and, if requested, the gradients of the parameters."""
    run = functools.partial(
        form, items=work.items, similar=work.items_similar, ids=ids, gates=gates
    )
    if not backward:
        return {"x": run(work.params)}
    x, pullback = jax.vjp(run, work.params)
    return {"x": x, **pullback(work.gradient)[0]}


def make_steps(form: Form, backward: bool) -> Callable[[Work], Results]:
    """All steps of a `Work` in one dispatch. A step overwrites the result of the step before, so there is no additional work."""

    def steps(work: Work) -> Results:
        step = functools.partial(one_step, form, backward, work)
        empty = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(step, work.ids[0], work.gates[0]),
        )
        return jax.lax.scan(lambda _, own: (step(*own), None), empty, (work.ids, work.gates))[0]

    return jax.jit(steps)


def make_work(shape: Shape, dtype: str, steps: int, num_items: int) -> Work:
    """Random unit rows, parameters of a fresh model's scale, gates between 0 and 1, uniform ids."""

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def unit_rows(key: jax.Array, rows: int, width: int) -> jax.Array:
        drawn = jax.random.normal(key, (rows, width), dtype)
        return drawn * jax.lax.rsqrt(
            jnp.square(drawn.astype(jnp.float32)).sum(axis=1, keepdims=True)
        ).astype(dtype)

    keys = iter(jax.random.split(jax.random.key(0), 8))
    sizes = {name: (2, shape.width, shape.columns) for name in ("own_kernel", "similar_kernel")} | {
        "first_bias": (shape.columns,)
    }
    return Work(
        items=unit_rows(next(keys), num_items, shape.width),
        items_similar=unit_rows(next(keys), num_items, shape.width),
        params={name: jax.random.normal(next(keys), size) for name, size in sizes.items()},
        ids=jax.random.randint(next(keys), (steps, shape.tokens), 0, num_items),
        gates=jax.random.uniform(next(keys), (steps, shape.tokens, 3)),
        gradient=jax.random.normal(next(keys), (shape.tokens, shape.columns)),
    )


def items_that_fit(shape: Shape, dtype: str) -> int:
    """V, or fewer if both tables would take too much of the memory."""
    return min(
        shape.items,
        int(TABLE_SHARE * device_memory() / (2 * shape.width * jnp.dtype(dtype).itemsize)),
    )


def check_parity(
    forms: dict[str, Form], encoder: HolisticEncoder, work: Work, dtype: str
) -> dict[str, float]:
    """Largest difference of each form, value and gradients of one step, from the reference in float32, relative to the largest value.

    Raises:
      UserError: a form does not compute the same function.
    """

    def first(form: Form) -> Results:
        return jax.device_get(
            jax.jit(functools.partial(one_step, form, True))(work, work.ids[0], work.gates[0])
        )

    exact = encoder.clone(dtype=jnp.float32)
    with jax.default_matmul_precision("highest"):
        expected = first(fused_form(exact, gated_projection_reference))
    found = {}
    for name, form in forms.items():
        ours = first(form)
        found[name] = max(
            float(np.abs(ours[key] - right).max() / np.abs(right).max())
            for key, right in expected.items()
        )
        if not found[name] <= PARITY_LIMITS[dtype]:  # true for NaN too
            raise UserError(
                f"{name} in {dtype} differs from the reference by {found[name]:.1e} of the largest value; their times mean nothing"
            )
    return found


def counted(shape: Shape, dtype: str, distinct: float, backward: bool) -> dict[str, float]:
    """Operations and bytes of one step that every implementation needs (module docstring)."""
    size = jnp.dtype(dtype).itemsize
    rows, tokens, result = (
        2 * distinct * shape.width * size,
        4 * shape.tokens * (3 + 1),
        4 * shape.tokens * shape.columns,
    )
    kernels = 4 * shape.width * shape.columns  # numbers in Wa to Wd
    passes = 2 if backward else 1
    gradients = 4 * (kernels + shape.columns) if backward else 0
    moved = passes * (rows + tokens + result) + size * kernels + 4 * shape.columns + gradients
    return {"operations": passes * 2.0 * shape.tokens * kernels, "bytes": moved}


def measure(
    shape: Shape, dtype: str, rates: Limits, kernel: bool, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """One record for each pass and form."""
    num_items = items_that_fit(shape, dtype)
    work = make_work(shape, dtype, steps, num_items)
    encoder = HolisticEncoder(
        shape.width, shape.features, shape.hidden, row_norm=shape.width**0.5, dtype=jnp.dtype(dtype)
    )
    forms = {"xla": xla_form(encoder)} | (
        {"kernel": fused_form(encoder, gated_projection)} if kernel else {}
    )
    parity = check_parity(forms, encoder, work, dtype)
    distinct = float(np.mean([len(np.unique(own)) for own in np.asarray(work.ids)]))
    records = []
    for backward in (False, True):
        cost = counted(shape, dtype, distinct, backward)
        limit = 1e3 * max(
            cost["operations"] / rates.flops[dtype], cost["bytes"] / rates.bytes_per_second
        )
        times = interleaved(
            {
                name: functools.partial(make_steps(form, backward), work)
                for name, form in forms.items()
            },
            rounds,
        )
        for name, seconds in times.items():
            own = spread(seconds, len(work.ids))
            records.append(
                {
                    "shape": shape.name,
                    "dtype": dtype,
                    "form": name,
                    "backward": backward,
                    "limit_ms": limit,
                    "share_of_limit": limit / own["median_ms"],
                    "difference": parity[name],
                    "items": num_items,
                    "items_wanted": shape.items,
                    "distinct_ids": distinct,
                    **cost,
                    **own,
                }
            )
    return records


def found_of(records: list[dict[str, Any]]) -> str:
    """The benchmark's last line, for both passes together."""
    both = [row for row in records if row["backward"]]
    xla = {(row["shape"], row["dtype"]): row["median_ms"] for row in both if row["form"] == "xla"}
    ratios = [
        f"{xla[row['shape'], row['dtype']] / row['median_ms']:.1f}x ({row['shape']}, {row['dtype']})"
        for row in both
        if row["form"] == "kernel"
    ]
    return f"forward and backward, kernel over XLA: {', '.join(ratios) or 'not measured, the kernel needs a GPU'}"


def main() -> None:
    """Prints a line for each shape, type, pass and form, and writes them as JSON."""
    parser = parser_of("gated_projection", __doc__)
    given = parser.parse_args()
    device = jax.default_backend()
    kind = "gpu" if device == "gpu" else "cpu"
    steps, rounds = (2, 2) if given.quick else (STEPS[kind], ROUNDS[kind])
    contention, rates = Contention(), limits(given.quick)
    records = []
    for shape in QUICK_SHAPES if given.quick else SHAPES:
        for dtype in shape.dtypes:
            records += measure(shape, dtype, rates, given.quick or kind == "gpu", steps, rounds)
            if records[-1]["items"] < shape.items:
                print(
                    f"{shape.name}, {dtype}: {records[-1]['items']:,} of {shape.items:,} items, for memory"
                )
    lines = [
        [
            f"{row['shape']}, {row['dtype']}",
            "forward, backward" if row["backward"] else "forward",
            row["form"],
            *(f"{row[key]:.3f}" for key in ("median_ms", "p10_ms", "p90_ms", "limit_ms")),
            f"{100 * row['share_of_limit']:.0f} %",
        ]
        for row in records
    ]
    print(
        table(
            ["one step", "pass", "form", "median ms", "p10", "p90", "limit ms", "share of limit"],
            lines,
        )
    )
    facts = {"limits": rates._asdict(), "steps_per_dispatch": steps, "rows": records}
    keep("gated_projection", facts, contention, given, found_of(records))


if __name__ == "__main__":
    run(main)
