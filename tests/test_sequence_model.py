"""Equal ways to the same number inside the recommender: projections of a batch's items, and scores of candidates and of all items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.batch import PackedBatch, SeparateNegatives
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.id_table import IdEncoder
from grasp_jax.models.projection import take_rows
from grasp_jax.models.sequence_model import SequenceModel, apply

WIDTH, FEATURES, USERS, ITEMS = 12, 5, 6, 17
IDS = {
    "repeated": [3, 7, 3, 3, 40, 7, 1, 40, 3],
    "all one": [9] * 9,
    "with the fill value": [0, 2, 0, 0, 5, 2, 1, 40, 5],
    "distinct": [8, 1, 6, 3, 5, 7, 4, 9, 2],
}
ENCODERS = {
    "plain": IdEncoder(ITEMS, FEATURES),
    "linear": HolisticEncoder(WIDTH, FEATURES, (), "paper"),
    "one hidden layer": HolisticEncoder(WIDTH, FEATURES, (16,), "learned"),
    "two hidden layers": HolisticEncoder(WIDTH, FEATURES, (16, 8), "paper"),
    "no gate": HolisticEncoder(WIDTH, FEATURES, (16,), "none"),
    "softmax gate": HolisticEncoder(WIDTH, FEATURES, (16,), "softmax"),
}


def random(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def encoder_parameters(encoder: HolisticEncoder | IdEncoder) -> dict[str, dict]:
    """Random parameters of the encoder alone; nothing here runs the backbone."""
    hidden = (
        encoder.hidden[0] if isinstance(encoder, HolisticEncoder) and encoder.hidden else FEATURES
    )
    params = jax.eval_shape(
        encoder.init, jax.random.key(0), jnp.zeros((1, 3, hidden)), jnp.zeros((1, 3))
    )["params"]
    leaves, tree = jax.tree.flatten(params)
    return {
        "encoder": jax.tree.unflatten(
            tree, [random(10 + k, *leaf.shape) for k, leaf in enumerate(leaves)]
        )
    }


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS.keys())
def test_take_rows_gradient_equals_plain_indexing(ids: list[int]) -> None:
    """A row met several times would get one of its gradients only, or another row's."""
    rows, weights = random(0, 41, 3, 4), random(1, len(ids), 3, 4)
    ours, gradient = jax.value_and_grad(
        lambda r: (weights * jnp.sin(take_rows(r, jnp.array(ids)))).sum()
    )(rows)
    expected, reference = jax.value_and_grad(
        lambda r: (weights * jnp.sin(r[jnp.array(ids)])).sum()
    )(rows)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("projection", ["token", "table"])
def test_projections_of_repeated_items_agree(
    unit_tables: dict[str, jax.Array], projection: str
) -> None:
    """The cheapest way to project a batch would be another function, or have another gradient, than projecting every token."""
    model = SequenceModel(
        HolisticEncoder(WIDTH, FEATURES, (16,), "paper"), SASRec(FEATURES, 8), projection
    )
    params = encoder_parameters(model.encoder)
    weights = random(1, 9, 3, 16)

    def loss(params: dict, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        negatives, history = ids[:4, None], ids[None, 4:]
        batch = PackedBatch(history, *[jnp.zeros_like(history)] * 2, None, history < 0, history)
        found = apply(
            model,
            params,
            SequenceModel.training_features,
            unit_tables,
            batch,
            SeparateNegatives(negatives),
        )[0]
        return (weights * jnp.sin(found)).sum(), found

    def plain_loss(params: dict, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        i, ibar = unit_tables["items"][ids], unit_tables["items_similar"][ids]
        (wa, wc), (wb, wd) = (params["encoder"][name] for name in ("own_kernel", "similar_kernel"))
        found = jnp.stack([i @ wa, ibar @ wb, i @ wc + ibar @ wd], axis=1)
        return (weights * jnp.sin(found)).sum(), found

    ours_of, plain_of = (jax.jit(jax.value_and_grad(f, has_aux=True)) for f in (loss, plain_loss))
    for ids in IDS.values():
        (_, found), gradient = ours_of(params, jnp.array(ids))
        (_, expected), reference = plain_of(params, jnp.array(ids))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        for name in ("own_kernel", "similar_kernel"):
            np.testing.assert_allclose(
                gradient["encoder"][name], reference["encoder"][name], rtol=1e-5, atol=1e-5
            )
            assert np.abs(np.asarray(reference["encoder"][name])).max() > 0.1


@pytest.mark.parametrize("name", ENCODERS)
def test_three_ways_to_a_score_agree(name: str) -> None:
    """Full ranking, sampled ranking and training would score one pair differently: all must be o . i_all."""
    encoder = ENCODERS[name]
    model, params = SequenceModel(encoder, SASRec(FEATURES, 8)), encoder_parameters(encoder)
    states, logits, history = (
        random(1, USERS, FEATURES),
        random(2, USERS, ITEMS, 2),
        random(3, USERS, 3),
    )
    if isinstance(encoder, IdEncoder):
        features, logits = params["encoder"]["table"], None
    else:
        features = random(
            4,
            ITEMS,
            *(() if name == "no gate" else (3,)),
            encoder.hidden[0] if encoder.hidden else FEATURES,
        )

    @jax.jit
    def scores(params: dict) -> tuple[jax.Array, jax.Array, jax.Array]:
        normaliser = history if name == "softmax gate" else None
        every = apply(
            model, params, SequenceModel.score_items, features, states, logits, normaliser
        )
        candidates = jnp.broadcast_to(features, (USERS, *features.shape))
        sampled = apply(
            model, params, SequenceModel.score_candidates, candidates, states, logits, normaliser
        )
        bound = encoder.bind({"params": params["encoder"]})
        with_candidate = None
        if normaliser is not None:
            three = jnp.concatenate(
                [logits, logits.sum(-1, keepdims=True) / jnp.sqrt(2.0)], axis=-1
            )
            with_candidate = jnp.log(jnp.exp(three) + jnp.exp(history)[:, None])
        return (
            every,
            sampled,
            jnp.einsum(
                "bd,bcd->bc", states, bound(candidates, bound.gates(logits, with_candidate))
            ),
        )

    every, sampled, expected = scores(params)
    assert every.shape == (USERS, ITEMS) and np.std(expected) > 0.1
    np.testing.assert_allclose(every, expected, rtol=1e-5, atol=3e-5)
    np.testing.assert_allclose(sampled, expected, rtol=1e-5, atol=3e-5)
