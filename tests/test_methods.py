"""Every method that a config can name: what it starts from, and which attentions take part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.models.auxiliary import BatchStates
from grasp_jax.models.encoders.holistic import HolisticEncoder, holistic_attention
from grasp_jax.models.gates import pair_logits
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts, ModelSizes
from grasp_jax.models.methods.llminit import principal_components
from grasp_jax.models.methods.rlmrec import Alignment, info_nce
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


def contrast_by_hand(a: np.ndarray, b: np.ndarray, ids: list[int], temperature: float) -> float:
    """InfoNCE in float64, row by row; rows of one id are no negatives of each other."""
    a, b = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (np.asarray(a, np.float64), np.asarray(b, np.float64))
    )
    losses = []
    for k, own in enumerate(ids):
        others = [a[k] @ b[j] / temperature for j, other in enumerate(ids) if other != own]
        positive = a[k] @ b[k] / temperature
        losses.append(np.log(np.exp([*others, positive]).sum()) - positive)
    return float(np.mean(losses))


def test_contrast_by_hand() -> None:
    """RLMRec would push the same item's two occurrences apart, or pull toward empty places."""
    a, b = np.asarray(unit_rows(1, 6)), np.asarray(2 * unit_rows(2, 6))
    ids = [3, 5, 3, 7, 8, 0]
    valid = np.array([True] * 5 + [False])
    found = info_nce(jnp.asarray(a), jnp.asarray(b), jnp.asarray(ids), jnp.asarray(valid), 0.2)
    np.testing.assert_allclose(found, contrast_by_hand(a[:5], b[:5], ids[:5], 0.2), rtol=1e-5)
    alone = info_nce(
        jnp.asarray(a[:1]), jnp.asarray(b[:1]), jnp.asarray([1]), jnp.asarray([True]), 0.2
    )
    assert float(alone) == 0.0, "one user has nobody to be told apart from"


@pytest.mark.parametrize("kind", ["con", "gen"])
def test_alignment_is_of_newest_states_and_of_items(kind: str) -> None:
    """RLMRec would align another state than the one that ranks, or skip users, items or the way between D and E."""
    segments = np.array([[4, 4, 4, 9, -1], [2, 7, 7, 7, 7]])
    items = np.array([[1, 2, 3, 2, 0], [5, 1, 6, 7, 8]])
    packed = [jnp.asarray(segments), jnp.asarray(items)]
    states, vectors = (
        np.asarray(jax.random.normal(jax.random.key(k), (2, 5, FEATURES))) for k in (1, 2)
    )
    tables = {"user_text": unit_rows(3, 10), "item_text": unit_rows(4, 10)}
    module = Alignment(kind, FEATURES, WIDTH, 6, 0.2, 0.5)  # two more places than users

    def batch(states: Any, vectors: Any) -> BatchStates:
        return BatchStates(packed[0], states, packed[1], vectors)

    params = jax.jit(module.init)(jax.random.key(0), tables, batch(states, vectors))
    loss, gradient = jax.jit(
        jax.value_and_grad(lambda p, s, v: module.apply(p, tables, batch(s, v)), argnums=(0, 1, 2))
    )(params, states, vectors)
    bound = module.bind(params)
    newest = [(0, 2), (0, 3), (1, 0), (1, 4)]
    own = np.stack([states[place] for place in newest])
    text = np.asarray(tables["user_text"])[[4, 9, 2, 7]]
    there = segments >= 0
    item_text = np.asarray(tables["item_text"])[items[there]]
    up = kind == "gen"
    of_users = contrast_by_hand(
        bound.user_mlp(own) if up else own, text if up else bound.user_mlp(text), [4, 9, 2, 7], 0.2
    )
    of_items = contrast_by_hand(
        bound.item_mlp(vectors[there]) if up else vectors[there],
        item_text if up else bound.item_mlp(item_text),
        items[there].tolist(),
        0.2,
    )
    np.testing.assert_allclose(loss, 0.5 * (of_users + of_items), rtol=1e-4)
    touched = {
        tuple(place)
        for place in np.argwhere(np.abs(np.asarray(gradient[1])).max(axis=-1) > 0).tolist()
    }
    assert touched == set(newest)
    assert all(np.abs(np.asarray(leaf)).max() > 0 for leaf in jax.tree.leaves(gradient[0]))
