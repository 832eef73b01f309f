"""Training steps: models that train together, dispatches, deferred updates and joined parameters change no result."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grasp_jax.training import step_inputs
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.optim import one_vector
from grasp_jax.training.replicas import PerReplica
from grasp_jax.training.step import TrainState, make_train_steps
from tests.step_setting import Setting

# As users compile, unlike most tests (conftest): without it two programs of the same sums may round the last bit otherwise.
ALIKE = {"xla_cpu_use_fusion_emitters": True}


class Run(NamedTuple):
    """Three models, four steps, dropout on, each with its own learning rate."""

    steps: Any
    quick: Any  # the same steps, as most tests compile
    state: TrainState
    arguments: tuple[Any, ...]
    slots: np.ndarray  # [M, S, R, L]
    keys: jax.Array
    dropout: np.ndarray
    learning_rate: np.ndarray


@pytest.fixture(scope="module")
def three_models(setting: Any) -> Run:
    s = setting("linear")
    # Adam's default epsilon turns rounding noise in a gradient that is zero in theory into whole steps.
    made = make_train_steps(s.model, s.shape, binary_cross_entropy, epsilon=1e-2)
    steps, quick = jax.jit(made, compiler_options=ALIKE), jax.jit(made)
    params = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf, leaf + 0.1]), s.params)
    slots = s.slots[np.array([[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]])]
    keys = jax.vmap(jax.random.key)(jnp.array([42, 43, 44]))
    adam = jax.jit(jax.vmap(optax.scale_by_adam().init))(params)
    state = TrainState(params, jax.tree.map(np.asarray, adam))
    return Run(
        steps,
        quick,
        state,
        (s.data, s.tables),
        slots,
        keys,
        np.float32([0.0, 0.2, 0.5]),
        np.float32([1e-2, 1e-3, 3e-2]),
    )


def train(
    run: Run, state: TrainState, replicas: Any, first: int, count: int
) -> tuple[TrainState, np.ndarray]:
    slots = run.slots[replicas, first : first + count]
    own = PerReplica(run.keys[replicas], run.dropout[replicas], run.learning_rate[replicas])
    return jax.tree.map(np.asarray, run.steps(state, *run.arguments, slots, own, np.int32(first)))


def test_models_together_equal_models_alone(three_models: Run) -> None:
    """A model's result would depend on which it was trained with, or be of another's rates: M=3 on one axis against three runs of M=1."""
    together, losses = train(three_models, three_models.state, slice(None), 0, 2)
    assert losses.shape == (2, 3)
    quick = three_models._replace(steps=three_models.quick)  # to the bit they need not be equal
    for m in range(3):
        one = jax.tree.map(lambda leaf, m=m: leaf[m : m + 1], three_models.state)
        alone, its_losses = train(quick, one, slice(m, m + 1), 0, 2)
        np.testing.assert_allclose(losses[:, m], its_losses[:, 0], rtol=1e-5, atol=1e-5)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[m], b[0], rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
        together.params,
        three_models.state.params,
    )
    assert sorted(jax.tree.leaves(moved))[1] > 1e-3  # all but the key's bias


class Ended(NamedTuple):
    """Where a model is after four steps in two dispatches, and whether its steps themselves sort the ids that they read."""

    state: TrainState
    losses: np.ndarray  # [4, 1]
    sorts: bool


def alone(params: Any) -> TrainState:
    """The state of one model that begins with these parameters."""
    start = params, jax.jit(optax.scale_by_adam().init)(params)
    return TrainState(*jax.tree.map(lambda leaf: np.asarray(leaf)[None], start))


def ended(s: Setting, deferred: bool) -> Ended:
    """One model with dropout."""
    shape = s.shape._replace(deferred=deferred)
    state = alone(s.params)
    own = PerReplica(jax.random.key(42)[None], np.float32([0.3]), np.float32([1e-2]))
    steps = jax.jit(make_train_steps(s.model, shape, binary_cross_entropy))
    slots = s.slots[None]
    traced = steps.trace(state, s.data, s.tables, slots[:, :2], own, np.int32(0))
    (loop,) = (
        own
        for own in traced.jaxpr.eqns
        if own.primitive.name == "scan" and own.params["length"] == 2
    )
    compiled, losses = traced.lower().compile(), []
    for first in (0, 2):
        given = s.data, s.tables, slots[:, first : first + 2], own, np.int32(first)
        state, found = compiled(state, *given)
        losses.append(np.asarray(found))
    return Ended(state, np.concatenate(losses), "= sort[" in str(loop.params["jaxpr"]))


def assert_same_end(one: Ended, other: Ended) -> None:
    """The same losses, parameters and moments; not of the backbone, some of whose gradients are rounding alone."""
    parts = (
        (own.losses, *(tree["encoder"] for tree in (own.state.params, *own.state.adam[1:])))
        for own in (one, other)
    )
    for a, b in zip(*map(jax.tree.leaves, parts), strict=True):
        # A thirtieth of a step: where a gradient is rounding alone, Adam still moves by the rate.
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-4)


@pytest.fixture(scope="module")
def deferred(setting: Any) -> Callable[[str], Ended]:
    """Where a model of `MODELS` is with deferred updates; each is trained once."""
    return functools.cache(lambda name: ended(setting(name), deferred=True))


@pytest.mark.parametrize(
    "name", ["gated plus", *(pytest.param(n, marks=pytest.mark.slow) for n in ("plain", "llm_esr"))]
)
def test_deferred_updates_of_the_id_table_equal_dense_ones(
    setting: Any, deferred: Callable[[str], Ended], name: str
) -> None:
    """Large catalogues would be trained otherwise than small ones: of each encoder with an ID table, one model, two dispatches."""
    assert_same_end(deferred(name), ended(setting(name), deferred=False))


def test_two_dispatches_equal_one(three_models: Run) -> None:
    """A run that was killed between dispatches would not end where the whole one does, to the last bit."""
    whole, losses = train(three_models, three_models.state, slice(None), 0, 4)
    half, first_losses = train(three_models, three_models.state, slice(None), 0, 2)
    both, last_losses = train(three_models, half, slice(None), 2, 2)
    np.testing.assert_array_equal(losses, np.concatenate([first_losses, last_losses]))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [pytest.param("plain", marks=pytest.mark.slow), "gated plus"])
def test_inputs_made_at_once_are_those_of_each_step(
    setting: Any,
    deferred: Callable[[str], Ended],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long dispatch, whose steps draw for themselves, would train other models than a short one."""
    at_once = deferred(name)
    monkeypatch.setattr(step_inputs, "NEGATIVES_AT_ONCE", 0)
    each = ended(setting(name), deferred=True)
    assert not at_once.sorts and each.sorts
    assert_same_end(at_once, each)


# With all of them in the vector, one model is trained below.
@pytest.mark.parametrize("largest", [60, pytest.param(one_vector.LARGEST, marks=pytest.mark.slow)])
def test_parameters_in_one_vector_are_trained_alike(
    three_models: Run, setting: Any, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would give a parameter another's gradient; with `largest` of 60 numbers some stay outside of the vector."""
    monkeypatch.setattr(one_vector, "LARGEST", largest)
    s = setting("linear")
    sizes = [leaf.size for leaf in jax.tree.leaves(s.params)]
    assert min(sizes) <= 60 < max(sizes) < one_vector.LARGEST or largest == 60
    steps = jax.jit(
        make_train_steps(s.model, s.shape, binary_cross_entropy, epsilon=1e-2, in_one_vector=True)
    )
    expected, losses = train(three_models, three_models.state, slice(None), 0, 2)
    found, its_losses = train(
        three_models._replace(steps=steps), three_models.state, slice(None), 0, 2
    )
    np.testing.assert_allclose(its_losses, losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# The test above has "linear", which has no ID table, in one vector.
@pytest.mark.parametrize("name", ["plain", pytest.param("linear", marks=pytest.mark.slow)])
def test_fifty_steps_as_on_a_gpu_have_the_same_losses(setting: Any, name: str) -> None:
    """One model, joined parameters and no axis of models, is how a GPU trains: it would end elsewhere than a CPU does."""
    s, losses = setting(name), []
    slots = s.slots[np.arange(50) % len(s.slots)][None]
    state = alone(s.params)
    own = PerReplica(jax.random.key(42)[None], np.float32([0.2]), np.float32([1e-3]))
    for on_gpu in (False, True):
        made = make_train_steps(
            s.model, s.shape, binary_cross_entropy, epsilon=1e-2, in_one_vector=on_gpu
        )
        rest = s.data, s.tables, slots, own, np.int32(0)
        ended, found = jax.jit(made)(state, *rest)
        assert found.shape == (50, 1) and jax.tree.leaves(ended.params)[0].shape[0] == 1
        losses.append(np.asarray(found))
    assert np.ptp(losses[0]) > 1e-3  # it learns
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, atol=1e-5)
