"""Measures the highest rates of this device: of a large matrix product, and of a large pass over memory."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import median_seconds

ROUNDS = 5
PRODUCT_ROWS = {"gpu": 8192, "cpu": 1024}
PASS_BYTES = {"gpu": 2**31, "cpu": 2**27}  # well above the caches
QUICK_ROWS, QUICK_BYTES = 64, 2**16


class Limits(NamedTuple):
    """Measured rates; matrix products at JAX's default precision, which on a GPU is TF32 for float32.

    Attributes:
      flops: operations per second of a large matrix product, by the type of its operands: "float32" and "bfloat16", summed in float32.
      bytes_per_second: read and written, together, by a pass over a large array.
      in_place: whether that pass writes where it reads. One that writes into new memory, as in records of before, measures on a CPU mostly
        how fast the system gives memory.
    """

    flops: dict[str, float]
    bytes_per_second: float
    in_place: bool = False


def limits(quick: bool = False) -> Limits:
    """Measures the default device; with `quick` at sizes too small for meaningful rates, to test the code."""
    kind = "gpu" if jax.default_backend() == "gpu" else "cpu"
    rows = QUICK_ROWS if quick else PRODUCT_ROWS[kind]
    flops = {}
    for dtype in ("float32", "bfloat16"):
        square = jax.random.normal(jax.random.key(0), (rows, rows)).astype(dtype)
        product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32))
        flops[dtype] = 2 * rows**3 / median_seconds(functools.partial(product, square), ROUNDS)
    size = QUICK_BYTES if quick else PASS_BYTES[kind]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    numbers = [jnp.zeros(size // 4, jnp.float32)]

    def in_place() -> jax.Array:
        numbers[0] = add(numbers[0])
        return numbers[0]

    return Limits(flops, 2 * size / median_seconds(in_place, ROUNDS), in_place=True)
