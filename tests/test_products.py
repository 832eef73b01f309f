"""Matrix products of rounded factors, against NumPy in float64; and the encoders that must use them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.config.model import COMPANY_PART, MATCH_PART, TEXT_PART
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.products import product
from tests.random_params import random_params

ITEMS, WIDTH, FEATURES = 40, 12, 8


def test_float32_is_the_plain_product() -> None:
    """Results of all earlier runs would change in their last digit."""
    x, w = random(0, 6, 5, 12), random(1, 12, 7)
    np.testing.assert_array_equal(product(x, w), x @ w)
    found, plain = (
        jax.grad(lambda w, by=by: jnp.sin(by(x, w)).sum())(w) for by in (product, jnp.matmul)
    )
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("table", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_bfloat16_rounds_factors_and_no_sums(table: Any) -> None:
    """Sums in bfloat16 would have two digits; a gradient that is not rounded would be multiplied at the speed of float32."""
    x, w, outer = random(0, 6, 5, 512).astype(table), random(1, 512, 7), random(2, 6, 5, 7)
    found, backward = jax.vjp(lambda x, w: product(x, w, jnp.bfloat16), x, w)
    by_x, by_w = backward(outer)
    assert (found.dtype, by_x.dtype, by_w.dtype) == (jnp.float32, table, jnp.float32)
    rows, kernel, gradient = (rounded(given) for given in (x, w, outer))
    np.testing.assert_allclose(found, rows @ kernel, rtol=1e-5, atol=1e-5)
    expected = np.einsum("abe,abh->eh", rows, gradient)
    np.testing.assert_allclose(by_w, expected, rtol=1e-5, atol=1e-5)
    close = {"rtol": 1e-5, "atol": 1e-5} if table == jnp.float32 else {"rtol": 1e-2, "atol": 1e-2}
    np.testing.assert_allclose(np.float64(by_x), gradient @ kernel.T, **close)


READ_TEXT = ("grasp", "llm_esr", "id_text_sum", "id_text_concat", "unisrec", "unisrec_id")


@pytest.mark.parametrize(
    "method, fusion",
    [*((name, "late") for name in READ_TEXT), ("grasp_plus", "late"), ("grasp_plus", "early")],
)
def test_encoders_multiply_in_the_number_type_of_the_config(method: str, fusion: str) -> None:
    """`config.model.dtype` says "number type of matrix products"; an encoder that ignores it trains in float32 without a word."""
    tables = {
        name: random(3, ITEMS, WIDTH)
        for name in ("items", "items_similar", TEXT_PART, COMPANY_PART)
    }
    tables |= {MATCH_PART: jnp.ones((ITEMS, 1)), "trust": jnp.ones(ITEMS)}
    found = [features(method, fusion, dtype, tables) for dtype in ("float32", "bfloat16")]
    assert not np.array_equal(*found)
    np.testing.assert_allclose(*found, rtol=0.05, atol=0.05 * np.abs(found[0]).max())


def features(method: str, fusion: str, dtype: str, tables: dict[str, jax.Array]) -> np.ndarray:
    """The features of all items, by a model with random parameters."""
    own = {"features": FEATURES, "mlp": (6,), "dtype": dtype, "plus.fusion": fusion}
    config = ModelConfig().with_fields(own)
    encoder = METHODS[method].encoder(config, ModelSizes(ITEMS, 4, WIDTH))
    params = {"params": random_params(encoder, tables, method="item_features")}
    return np.asarray(jax.jit(lambda p: encoder.apply(p, tables, method="item_features"))(params))


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def rounded(x: jax.Array) -> np.ndarray:
    return np.asarray(x.astype(jnp.bfloat16), np.float64)
