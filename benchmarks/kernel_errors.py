"""Errors of each kernel, and of XLA's form of the same function, against float64: python -m benchmarks.kernel_errors [--quick]

Values and all gradients at the shape of paper Beauty, without dropout, of the kernels of the package and of those that only benchmarks
time. The truth is `kernel_oracles` in float64 on the CPU. An error is the largest difference as a share of the largest value. A GPU
multiplies float32 in TF32 by default, in kernels as in XLA's form; the third form, XLA's at the highest precision, shows what of an error
this is. A kernel that is much less exact than XLA's form at the same precision has a fault.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import kernel_oracles as oracles
from benchmarks.arguments import parser_of
from benchmarks.gru import begins
from benchmarks.kernels.packed_attention import (
    AttentionForm,
    packed_attention,
    packed_attention_reference,
)
from benchmarks.packed_rows import PAPER, QUICK, packed_segments
from benchmarks.record import Contention, keep, run, table
from grasp_jax.core.errors import UserError
from grasp_jax.kernels import backend
from grasp_jax.kernels.attention_blocks import attention_mask
from grasp_jax.kernels.gru import gru, gru_scan
from grasp_jax.kernels.sasrec_layer import (
    Layer,
    LayersForm,
    sasrec_layers,
    sasrec_layers_reference,
)
from grasp_jax.kernels.sasrec_layer_kernels import Finish, Project

LEAST, FACTOR = 1e-5, 4.0  # a kernel may be this exact, or so many times as inexact as XLA's form
LAYERS, HEADS = 2, 2
Function = Callable[..., jax.Array]


class Case(NamedTuple):
    """A kernel, XLA's form and the truth, each a function of the same differentiable arguments (trees of NumPy arrays)."""

    name: str
    kernel: Function
    xla: Function
    truth: Function
    arguments: tuple[Any, ...]


def cases(quick: bool) -> list[Case]:
    """All kernels, with random arguments."""
    sizes, rng = QUICK if quick else PAPER, np.random.default_rng(0)
    segments = packed_segments("", sizes)[1][0]
    width = sizes.features

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    rows, own = segments.shape, jnp.asarray(segments)
    allowed: Any = np.asarray(attention_mask(own, True))
    first: Any = begins(segments[None])[0]
    start = jnp.zeros(width)
    found = [
        Case(
            "gru",
            lambda shares, weights: gru(shares, weights, jnp.asarray(first), start),
            lambda shares, weights: gru_scan(shares, weights, jnp.asarray(first), start),
            functools.partial(oracles.gru, first=first),
            (draw(*rows, 3 * width), draw(width, 3 * width) / width**0.5),
        )
    ]
    layers = [random_layer(draw, width) for _ in range(LAYERS)]
    form = LayersForm(HEADS, causal=True)
    found.append(
        Case(
            "sasrec_layer",
            functools.partial(_with_last_arguments, sasrec_layers, (own, form)),
            functools.partial(_with_last_arguments, sasrec_layers_reference, (own, form)),
            functools.partial(oracles.sasrec_layers, allowed=allowed, num_heads=HEADS),
            (draw(*rows, width), layers),
        )
    )
    for normaliser in ("softmax", "sigmoid"):
        heads = tuple(draw(*rows, HEADS, width // HEADS) for _ in range(3))
        given = own, AttentionForm(True, normaliser)
        found.append(
            Case(
                f"packed_attention, {normaliser}",
                functools.partial(_with_last_arguments, packed_attention, given),
                functools.partial(_with_last_arguments, packed_attention_reference, given),
                functools.partial(oracles.attention, allowed=allowed, normaliser=normaliser),
                heads,
            )
        )
    return found


def random_layer(draw: Callable[..., np.ndarray], width: int) -> Layer:
    """Parameters of the size of a trained layer's."""
    matrices: list[Any] = [draw(width, width) / np.float32(width**0.5) for _ in range(6)]
    vectors: list[Any] = [np.float32(0.1) * draw(width) for _ in range(12)]
    one = np.float32(1)
    q, k, v, out, first, second = matrices
    before = Project(q, k, v, *vectors[:3], one + vectors[3], vectors[4])  # type: ignore[call-arg]
    norms = one + vectors[8], vectors[9], one + vectors[10], vectors[11]
    return before, Finish(out, first, second, *vectors[5:8], *norms)  # type: ignore[call-arg]


def _with_last_arguments(function: Function, last: tuple[Any, ...], *first: Any) -> jax.Array:
    return function(*first, *last)


def with_gradients(function: Function, arguments: tuple[Any, ...], along: np.ndarray) -> list[Any]:
    """The value and the gradients of each array of the arguments along a direction, as NumPy arrays."""

    @jax.jit
    def all_of(arguments: tuple[Any, ...], along: jax.Array) -> Any:
        out, pull_back = jax.vjp(lambda *given: function(*given), *arguments)
        return out, pull_back(along.astype(out.dtype))

    return [np.asarray(leaf) for leaf in jax.tree.leaves(all_of(arguments, along))]


def measure(case: Case) -> dict[str, Any]:
    """The largest error of each form, over the value and all gradients."""
    shape = jax.eval_shape(case.xla, *case.arguments).shape
    along = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), case.arguments)
        truth = with_gradients(case.truth, wide, along.astype(np.float64))
    assert truth[0].dtype == np.float64
    errors = {
        "kernel": _error(with_gradients(case.kernel, case.arguments, along), truth),
        "xla": _error(with_gradients(case.xla, case.arguments, along), truth),
    }
    with jax.default_matmul_precision("highest"):
        errors["xla_highest"] = _error(with_gradients(case.xla, case.arguments, along), truth)
    return {"kernel": case.name, "errors": errors}


def _error(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    # A gradient that is rounding alone, such as that of the keys' biases, is measured against 1.
    return max(
        float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1.0))
        for ours, theirs in zip(found, truth, strict=True)
    )


def found_of(rows: list[dict[str, Any]]) -> str:
    """The benchmark's last line."""
    worst = max(rows, key=lambda row: row["errors"]["kernel"])
    return f"largest error of a kernel: {worst['errors']['kernel']:.1e} ({worst['kernel']})"


def main() -> None:
    """Prints the errors of each kernel, and writes them as JSON.

    Raises:
      UserError: a kernel is much less exact than XLA's form.
    """
    given = parser_of("kernel_errors", __doc__).parse_args()
    if backend.interpret() and not given.quick:
        raise UserError(
            "benchmarks.kernel_errors: kernels need a GPU; --quick interprets them at a small size"
        )
    contention, rows = Contention(), [measure(case) for case in cases(given.quick)]
    header = ["kernel", "its error", "XLA's", "XLA's at the highest precision"]
    print(
        table(
            header, [[row["kernel"], *(f"{e:.1e}" for e in row["errors"].values())] for row in rows]
        )
    )
    keep("kernel_errors", {"rows": rows}, contention, given, found_of(rows))
    for row in rows:
        errors = row["errors"]
        if not errors["kernel"] <= max(LEAST, FACTOR * errors["xla"]):  # NaN fails too
            raise UserError(
                f"{row['kernel']}: error {errors['kernel']:.1e}, XLA's form {errors['xla']:.1e}; the kernel has a fault"
            )


if __name__ == "__main__":
    run(main)
