"""grasp_plus: text and ID residual, against the two written out, and its parts switched on and off."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.models.batch import StepContext
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.residual import ResidualEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts, ModelSizes
from tests.random_params import random_params

FEATURES, HIDDEN, USERS = 5, 16, 6


def made(
    gate: str, id_dropout: float = 0.0, hidden: tuple[int, ...] = (HIDDEN,)
) -> ResidualEncoder:
    return ResidualEncoder(HolisticEncoder(12, FEATURES, hidden, gate, 2.0), 41, id_dropout)


def parameters(module: ResidualEncoder, known: dict[str, jax.Array]) -> Any:
    def touch(m: ResidualEncoder, tables: Any) -> Any:
        features = m.item_features(tables)
        return m(features, m.gates(jnp.zeros((len(features), 2))))

    return random_params(module, known, spread=0.3, method=touch)


@pytest.mark.parametrize("hidden", [(), (HIDDEN,), (HIDDEN, 8)])
@pytest.mark.parametrize("gate", ["none", "learned"])
def test_vectors_and_scores_by_hand(
    unit_tables: dict[str, jax.Array], gate: str, hidden: tuple[int, ...]
) -> None:
    """The residual would be scaled or scored in another way than o . (text vector + n / (n + c) e), or lose a gradient."""
    module = made(gate, hidden=hidden)
    trust = jnp.asarray(np.random.default_rng(1).random(41), jnp.float32)
    known = {**unit_tables, "trust": trust}
    params = parameters(module, known)
    text = HolisticEncoder(12, FEATURES, hidden, gate, 2.0)
    states = jnp.asarray(np.random.default_rng(2).standard_normal((USERS, FEATURES)), jnp.float32)
    logits = 5 * jnp.asarray(np.random.default_rng(4).standard_normal((USERS, 41, 2)), jnp.float32)

    def ours(params: Any) -> tuple[jax.Array, jax.Array]:
        bound = module.bind({"params": params})
        features, gates = bound.item_features(known), bound.gates(logits)
        everyone = jnp.broadcast_to(features, (USERS, *features.shape))
        weights, offset = bound.last_layer(states)
        one_by_one = (weights[:, None] * bound.head_input(everyone, gates)).sum(axis=-1) + offset[
            :, None
        ]
        return bound.score_all(features, states, gates), one_by_one

    def plain(params: Any) -> jax.Array:
        bound = text.bind({"params": params["text"]})
        three = bound.item_features(known)
        vectors = bound(jnp.broadcast_to(three, (USERS, *three.shape)), bound.gates(logits))
        return jnp.einsum("bd,bcd->bc", states, vectors + trust[:, None] * params["table"])

    every, one_by_one = jax.jit(ours)(params)
    expected = jax.jit(plain)(params)
    np.testing.assert_allclose(every, expected, rtol=1e-5, atol=3e-5)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=3e-5)
    weight = np.random.default_rng(5).standard_normal(every.shape)
    one = jax.jit(jax.grad(lambda p: (weight * ours(p)[0]).sum()))(params)
    two = jax.jit(jax.grad(lambda p: (weight * plain(p)).sum()))(params)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_no_gate_is_every_gate_one(unit_tables: dict[str, jax.Array]) -> None:
    """Summing the projections of an ungated item at once would be another function than gates of one, or ignore an ablation."""
    for keep in ((True, True, True), (True, False, True), (True, True, False)):
        summed, apart = (
            HolisticEncoder(12, FEATURES, (HIDDEN,), gate, 2.0, keep) for gate in ("none", "paper")
        )

        def vectors(module: HolisticEncoder, tables: Any, gates: Any = None) -> jax.Array:
            return module(module.item_features(tables), gates)

        params = {"params": random_params(summed, unit_tables, method=vectors)}
        one = jax.jit(lambda p, m=summed: m.apply(p, unit_tables, method=vectors))(params)
        of_gates = jax.jit(lambda p, g, m=apart: m.apply(p, unit_tables, g, method=vectors))
        two = of_gates(params, np.broadcast_to(np.float32(keep), (41, 3)))
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_residual_is_left_out_in_training_alone(unit_tables: dict[str, jax.Array]) -> None:
    """Rankings would differ from call to call, or the text never learn to stand alone."""
    module = made("none", id_dropout=0.4)
    known = {**unit_tables, "trust": jnp.ones(41)}
    params = {"params": parameters(module, known)}
    ids = jnp.tile(jnp.arange(41), 50)
    still = np.asarray(module.apply(params, known, ids, method="item_features"))
    kept = module.apply(params, ids.size, method="keep_ids", rngs={"dropout": jax.random.key(1)})
    assert module.apply(params, ids.size, method="keep_ids").all()
    training = np.asarray(
        module.apply(params, known, ids, StepContext(keep_ids=kept), method="item_features")
    )
    left_out = (training[:, -FEATURES:] == 0).all(axis=1)
    assert abs(left_out.mean() - 0.4) < 0.05 and np.abs(still[:, -FEATURES:]).max(axis=1).min() > 0
    np.testing.assert_array_equal(training[~left_out], still[~left_out])
    np.testing.assert_array_equal(training[:, :-FEATURES], still[:, :-FEATURES])


def test_trust_and_switches() -> None:
    """n / (n + c) would be of other counts, or a switched-off part still be there."""
    config, method, sizes = (
        ModelConfig().with_fields({"plus.fusion": "early"}),
        METHODS["grasp_plus"],
        ModelSizes(num_items=2, max_length=4, width=3),
    )
    bank = {
        name: np.ones((2, 3), np.float32)
        for name in ("items", "items_similar", "users", "users_similar")
    }
    counts = np.array([0, 50])

    def trust(config: ModelConfig) -> np.ndarray:
        declared = {table.name: table.rows for table in method.tables(bank, Facts(config, counts))}
        assert declared.keys() == {"items", "items_similar", "trust"}
        return declared["trust"]

    config = config.with_fields({"plus.id_trust": 50.0})
    np.testing.assert_allclose(trust(config), [0.0, 0.5])
    assert not method.gated(config)
    config = config.with_fields({"plus.id_trust": 0.0, "plus.gate": "paper"})
    np.testing.assert_allclose(trust(config), [1.0, 1.0])
    assert method.gated(config)
    encoder = method.encoder(config, sizes)
    assert isinstance(encoder, ResidualEncoder) and encoder.gated
    config = config.with_fields({"plus.id_residual": False})
    assert type(method.encoder(config, sizes)) is HolisticEncoder
