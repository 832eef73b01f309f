"""Matrix products with factors of lower precision (`config.model.dtype`), in the backward pass too.

JAX's own gradient of such a product multiplies the float32 gradient of the result with a rounded factor, at the speed of float32. Here the
gradient is rounded as well, so all three products run at the speed of the lower precision. Sums are float32.
"""

import functools

import jax
import jax.numpy as jnp


def product(rows: jax.Array, kernel: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """[..., E] rows of any float type and a [E, H] float32 kernel -> [..., H] float32.

    Args:
      rows: for example text vectors from a frozen table.
      kernel: a parameter.
      dtype: number type of the factors; float32 rounds nothing.
    """
    if dtype == jnp.float32:
        return rows.astype(jnp.float32) @ kernel
    return _rounded_product(jnp.dtype(dtype), rows, kernel)


def affine(parameters: tuple[jax.Array, jax.Array], rows: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """A kernel [E, H] and a bias [H], applied to [..., E] rows; the arguments are in the order that `parallel.rows` requires."""
    kernel, bias = parameters
    return product(rows, kernel, dtype) + bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded_product(dtype: jnp.dtype, rows: jax.Array, kernel: jax.Array) -> jax.Array:
    return _rounded_einsum("...e,eh->...h", dtype, rows, kernel)


def _forward(
    dtype: jnp.dtype, rows: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _rounded_product(dtype, rows, kernel), (rows, kernel)


def _backward(
    dtype: jnp.dtype, factors: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    rows, kernel = factors
    d_rows = _rounded_einsum("...h,eh->...e", dtype, gradient, kernel)
    d_kernel = _rounded_einsum("...e,...h->eh", dtype, rows, gradient)
    return d_rows.astype(rows.dtype), d_kernel.astype(kernel.dtype)


def _rounded_einsum(subscripts: str, dtype: jnp.dtype, a: jax.Array, b: jax.Array) -> jax.Array:
    factors = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(subscripts, *factors, preferred_element_type=jnp.float32)


_rounded_product.defvjp(_forward, _backward)
