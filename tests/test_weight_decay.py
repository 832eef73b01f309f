"""Decoupled weight decay against optax's AdamW: which parameters, in which forms of Adam, and from the config to the step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import grasp_jax as gj
from grasp_jax.data.log import InteractionLog
from grasp_jax.training import training_set
from grasp_jax.training.optim import one_vector
from grasp_jax.training.optim.forms import choose_optimiser
from grasp_jax.training.optim.weight_decay import decay_rates
from grasp_jax.training.snapshot import initial_snapshot
from tests.assembly import assembled
from tests.trained import SMALL, small_shop

RATES, DECAY, STEPS = np.float32([1e-2, 3e-2]), 0.3, 25  # of two models
DECAYS = {  # what a model holds, and whether it decays
    "encoder": {"table": True, "centre": False},
    "backbone": {
        "norm": {"scale": False, "bias": False},
        "dense": {"kernel": True, "bias": False},
        "positions": True,
    },
    "mask_vector": False,
    "down_bias": False,
    "own_kernel": True,
}
SHAPES = {
    "table": (7, 3),
    "centre": (2, 3),
    "kernel": (3, 4),
    "positions": (5, 3),
    "own_kernel": (2, 3, 4),
}


def of_shapes(rng: np.random.Generator) -> Any:
    """[2, ...] numbers of two models, in the form of `DECAYS`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: rng.normal(size=(2, *SHAPES.get(path[-1].key, (3,)))).astype(np.float32),
        DECAYS,
    )


def test_matrices_and_tables_decay() -> None:
    """Biases, norms and the centres of UniSRec's adaptor would be drawn to zero, or the ID table be left out."""
    one = jax.tree.map(lambda leaf: leaf[0], of_shapes(np.random.default_rng(0)))
    assert jax.tree.map(bool, decay_rates(one, DECAY)) == DECAYS
    assert set(jax.tree.leaves(decay_rates(one, DECAY))) == {0.0, DECAY}


class Trained(NamedTuple):
    """What two models are given, and where optax's AdamW takes them."""

    params: Any  # [2, ...]
    gradients: Any  # [S, 2, ...]
    expected: Any  # [2, ...]


@pytest.fixture(scope="module")
def by_optax() -> Trained:
    """Each model by its own learning rate."""
    rng = np.random.default_rng(1)
    params = of_shapes(rng)
    gradients = jax.tree.map(lambda *own: np.stack(own), *[of_shapes(rng) for _ in range(STEPS)])

    def of_one(params: Any, gradients: Any, rate: Any) -> Any:
        adamw = optax.adamw(rate, weight_decay=DECAY, mask=DECAYS)

        def step(before: Any, gradient: Any) -> Any:
            params, state = before
            updates, state = adamw.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, adamw.init(params)), gradients)[0][0]

    both = jax.jit(jax.vmap(of_one, in_axes=(0, 1, 0)))
    return Trained(params, gradients, both(params, gradients, RATES))


@pytest.mark.parametrize(
    ("joined", "largest"), [(False, 0), (True, 1000), (True, 12), (True, 0)], ids=str
)
def test_every_form_is_adamw(
    joined: bool, largest: int, by_optax: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU, which joins small parameters, would train another model; `largest` of 12 leaves some outside of the vector."""
    monkeypatch.setattr(one_vector, "LARGEST", largest)

    @jax.jit
    def ours(params: Any, gradients: Any) -> Any:
        optimiser = choose_optimiser(params, 1e-8, joined, False, DECAY)
        state = optimiser.begin(params, jax.vmap(optax.scale_by_adam().init)(params))

        def step(state: Any, gradient: Any) -> Any:
            def of_one(state: Any, gradient: Any, rate: Any) -> Any:
                read = optimiser.read(state, None, rate)
                return optimiser.apply(state, read, gradient, None, rate)

            return jax.vmap(of_one)(state, gradient, RATES), None

        state, _ = jax.lax.scan(step, state, gradients)
        return optimiser.end(state, jnp.asarray(RATES))[0]

    found = ours(by_optax.params, by_optax.gradients)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(by_optax.expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_without_decay_nothing_is_added() -> None:
    """The default would compute, and so round, otherwise than Adam did."""
    params = of_shapes(np.random.default_rng(0))
    assert choose_optimiser(params, 1e-8, False, False).decay is None


def test_the_id_table_is_not_deferred(
    small_log: InteractionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that no step reads would not decay in a large catalogue."""
    monkeypatch.setattr(training_set, "defers", lambda items, ids: True)
    fields: dict[str, Any] = {"train.loss": "bce", "model.projection": "token"}
    for decay in (0.0, DECAY):
        made = assembled(small_log, {}, "plain", "sasrec", fields | {"train.weight_decay": decay})
        assert made.data.shape.deferred == (decay == 0)
    with pytest.raises(ValueError, match="every row"):
        choose_optimiser(of_shapes(np.random.default_rng(0)), 1e-8, False, True, DECAY)


def test_the_field_reaches_the_step() -> None:
    """`train.weight_decay` would say nothing: where rate x decay is 1, one step leaves Adam's own movement of a matrix, and no more."""
    rate = 1e-3
    one_step = {**SMALL, "batch_size": 128, "learning_rate": rate, "weight_decay": 1 / rate}
    model = gj.Recommender(method="plain", **one_step).fit(small_shop())
    assert model._fitted is not None
    trial, snapshot = model._fitted.validated.trial, model._fitted.validated.snapshot
    start = initial_snapshot(trial.model, trial.replicas, trial.data).best_params
    for (path, leaf), before in zip(
        jax.tree_util.tree_leaves_with_path(snapshot.best_params),
        jax.tree.leaves(start),
        strict=True,
    ):
        if np.abs(leaf).max() > 1.01 * rate:
            assert jax.tree_util.keystr(path).endswith("scale']")
            np.testing.assert_allclose(leaf, before, rtol=0, atol=1.01 * rate)
    assert np.abs(start["encoder"]["table"]).max() > 10 * rate
