"""Every method that a config can name: its start values, and its attentions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.models.encoders.holistic import HolisticEncoder, holistic_attention
from grasp_jax.models.gates import pair_logits
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts, ModelSizes
from grasp_jax.models.methods.llminit import principal_components
from tests.refusal import assert_names, refusal

WIDTH, FEATURES, PAIRS, ITEMS = 12, 5, 9, 40


def unit_rows(seed: int, rows: int = PAIRS) -> jax.Array:
    rows_ = jax.random.normal(jax.random.key(seed), (rows, WIDTH))
    return rows_ / jnp.linalg.norm(rows_, axis=1, keepdims=True)


def model_config() -> ModelConfig:
    config = ModelConfig().with_fields({"features": FEATURES, "mlp": ()})
    return config


def encoder_of(method: str) -> Any:
    return METHODS[method].encoder(model_config(), ModelSizes(ITEMS, 4, WIDTH))


LEFT_OUT = {
    "grasp": (),
    "grasp_wo_similar": (slice(WIDTH, 2 * WIDTH),),
    "grasp_wo_global": (slice(2 * WIDTH, 4 * WIDTH),),
}


@pytest.mark.parametrize("method", LEFT_OUT)
def test_ablations_equal_equation_four_without_a_part(method: str) -> None:
    """Table 4 would be of another model: the concatenation of Eq. 4 with a part set to zero, through the same linear layer."""
    encoder = encoder_of(method)
    assert isinstance(encoder, HolisticEncoder)
    u, ubar, i, ibar = (unit_rows(seed) for seed in range(4))
    logits = pair_logits(u, ubar, i, ibar)
    params = jax.jit(encoder.init)(
        jax.random.key(5), jnp.zeros((1, 3, FEATURES)), jnp.zeros((1, 3))
    )["params"]
    ours = jax.jit(
        lambda p: encoder.apply(
            p, encoder.apply(p, i, ibar, method="project"), encoder.apply(p, logits, method="gates")
        )
    )({"params": params})
    attended = np.array(holistic_attention(u, ubar, i, ibar))
    for part in LEFT_OUT[method]:
        attended[:, part] = 0
    own, similar = params["own_kernel"], params["similar_kernel"]
    kernel = np.concatenate([own[0], similar[0], own[1], similar[1]])
    np.testing.assert_allclose(ours, attended @ kernel, rtol=1e-5, atol=1e-6)


def test_gates_of_the_ablations() -> None:
    """ "Without attention" would still attend, or "softmax for sigmoid" be a sigmoid."""
    assert (encoder_of("grasp_wo_attention").gate, encoder_of("grasp_softmax").gate) == (
        "none",
        "softmax",
    )
    assert encoder_of("grasp").gate == "paper" and encoder_of("grasp").keep == (True, True, True)


def test_llminit_starts_from_principal_components() -> None:
    """LLMInit would be the plain backbone: its table must start as the item vectors, centred and turned onto their main axes."""
    items = np.asarray(unit_rows(7, ITEMS))
    facts = Facts(model_config(), np.ones(ITEMS))
    (declared,) = METHODS["llminit"].tables({"items": items}, facts)
    start = declared.rows
    centred = items - items.mean(axis=0)
    _, _, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(
        np.abs(start), np.abs(centred @ axes[:FEATURES].T), rtol=1e-3, atol=1e-5
    )
    encoder = encoder_of("llminit")
    fresh = {"encoder": {"table": jnp.zeros((ITEMS, FEATURES))}, "backbone": {"x": 1}}
    params = METHODS["llminit"].start(fresh, {declared.name: start})
    np.testing.assert_array_equal(params["encoder"]["table"], start)
    assert params["backbone"] == {"x": 1} and encoder.num_items == ITEMS
    message = refusal(principal_components, items, WIDTH + 1)
    assert_names(
        message, (f"config.model.features: {WIDTH + 1}", f"at most {WIDTH}", "principal components")
    )


@pytest.mark.parametrize("method", ["llminit", "llm_esr"])
def test_start_from_raw_vectors_is_scikit_learns(method: str) -> None:
    """The source's start would be out of reach: PCA of the vectors as they are, which it centres and nobody normalises."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    raw = (rng.standard_normal((ITEMS, WIDTH)) * np.geomspace(4, 0.5, WIDTH) + 2).astype(np.float32)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    bank = {"items": unit, "users": np.asarray(unit_rows(1, 20))}
    for choice, vectors in (("raw", raw), ("normalised", unit)):
        config = model_config().with_fields(
            {"start_components": choice, "llm_esr.similar_users": 3}
        )
        declared = METHODS[method].tables(bank, Facts(config, np.ones(ITEMS), lambda: raw))
        (start,) = [table.rows for table in declared if table.name == "start"]
        expected = PCA(FEATURES, svd_solver="full").fit_transform(vectors.astype(np.float64))
        sign = np.sign((start * expected).sum(axis=0))  # which solvers choose in their own ways
        np.testing.assert_allclose(start * sign, expected, rtol=1e-3, atol=1e-3)
    assert model_config().start_components == "normalised"
