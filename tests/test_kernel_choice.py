"""`config.kernels`: whole training steps by the backbones' kernels, interpreted, against the same steps by XLA."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.config import Config, ModelConfig
from grasp_jax.config.stored import upgraded
from grasp_jax.config_checks import check_config
from grasp_jax.data.log import InteractionLog
from grasp_jax.kernels import backend
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.build import build_model
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.training.epochs import make_epoch
from grasp_jax.training.replicas import per_replica
from grasp_jax.training.step import make_train_steps
from tests.assembly import assembled, sharpened
from tests.random_params import random_params, random_snapshot
from tests.refusal import assert_names, refusal

BATCH, LENGTH = 6, 8
EPSILON = 1e-2  # of Adam; with the usual one, a gradient of rounding alone would move a parameter as far as any other


class TwoSteps(NamedTuple):
    """Two training steps of two models, compiled.

    Attributes:
      steps: the compiled function of a state, slots [2, 2, R, L] and learning rates [2].
      start: a state with random parameters.
      slots: [2, S, R, L] of an epoch.
      program: the steps as JAX has traced them.
    """

    steps: Callable[[Any, Any, Any], tuple[Any, jax.Array]]
    start: Any
    slots: np.ndarray
    program: str


Compiled = Callable[[str, str], dict[str, TwoSteps]]


@pytest.fixture(scope="module")
def compiled(small_log: InteractionLog, unit_tables: dict[str, jax.Array]) -> Compiled:
    """For a backbone and a gate, the steps by XLA and by the backbone's kernels; each is compiled once."""
    return functools.cache(functools.partial(two_steps, small_log, unit_tables))


def two_steps(
    log: InteractionLog, tables: dict[str, jax.Array], backbone: str, gate: str
) -> dict[str, TwoSteps]:
    """GRASP, by XLA and by kernels. Query rows have length E, so that gates differ."""
    model = {
        "features": 16,
        "num_heads": 2,
        "num_layers": 1,
        "mlp": 10,
        "gate": gate,
        "dropout": 0.0,
        "projection": "token",
    }
    if BACKBONES[backbone].bidirectional:
        model["mask_noise"] = 0.2
    train = {"seeds": (1, 2), "batch_size": BATCH, "negatives": 2}
    sharp = sharpened(tables, tables["users"].shape[1])
    return {
        kernels: compiled_steps(
            log,
            sharp,
            backbone,
            {"kernels": kernels, "data.max_length": LENGTH, "model": model, "train": train},
        )
        for kernels in ("xla", "backbone")
    }


def compiled_steps(
    log: InteractionLog, tables: dict[str, jax.Array], backbone: str, fields: dict[str, Any]
) -> TwoSteps:
    """The steps of one config."""
    made = assembled(log, tables, "grasp", backbone, fields)
    start = random_snapshot(made.model, made.replicas, made.data, 0.3).state
    own, slots = (
        per_replica(made.replicas),
        np.asarray(make_epoch(made.data, made.replicas, 0).slots),
    )

    def arguments(state: Any, slots: Any, rates: Any) -> tuple[Any, ...]:
        each = own._replace(learning_rate=jnp.float32(rates))
        return state, made.data.device, tables, jnp.asarray(slots), each, jnp.int32(0)

    traced = jax.jit(make_train_steps(made.model, made.data.shape, made.data.loss, EPSILON)).trace(
        *arguments(start, slots[:, :2], (0.1, 0.1))
    )
    program = traced.lower().compile()
    return TwoSteps(lambda *given: program(*arguments(*given)), start, slots, str(traced.jaxpr))


@pytest.mark.parametrize(
    ("backbone", "gate", "names"),
    [
        ("sasrec", "learned", ("sasrec_project", "sasrec_finish_gradient")),
        pytest.param(
            "bert4rec",
            "paper",
            ("sasrec_finish", "sasrec_project_gradient"),
            marks=pytest.mark.slow,
        ),
        ("gru4rec", "softmax", ("gru_forward", "gru_backward")),
    ],
)
def test_kernels_train_the_same_model(
    compiled: Compiled, backbone: str, gate: str, names: tuple[str, ...]
) -> None:
    """`kernels=backbone` would train another model, or quietly not use the kernels."""
    outcomes = {}
    for kernels, own in compiled(backbone, gate).items():
        trained, losses = own.steps(own.start, own.slots[:, :2], (0.1, 0.1))
        outcomes[kernels] = trained.params, losses, own.program
    (plain, expected, _), (ours, found, program) = outcomes["xla"], outcomes["backbone"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (
        np.ptp(np.asarray(expected), axis=0).min() > 1e-3
    )  # the second step sees what the first has learned
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        given = dict(jax.tree_util.tree_leaves_with_path(ours))[path]
        np.testing.assert_allclose(given, leaf, atol=1e-4, err_msg=jax.tree_util.keystr(path))
    assert all(name in program for name in names)


@pytest.mark.parametrize(
    ("backbone", "gate", "kernel"),
    [
        # as above, so that nothing is compiled again
        ("sasrec", "learned", "sasrec_finish_gradient"),
        ("gru4rec", "softmax", "gru_backward"),
    ],
)
def test_kernels_train_the_same_for_fifty_steps(
    compiled: Compiled, backbone: str, gate: str, kernel: str
) -> None:
    """Rounding of a kernel would grow into another model."""
    outcomes = {}
    for kernels, own in compiled(backbone, gate).items():
        state, losses = own.start, []
        for first in range(0, 50, 2):
            slots = own.slots[:, np.arange(first, first + 2) % own.slots.shape[1]]
            state, found = own.steps(state, slots, (0.01, 0.01))
            losses.append(np.asarray(found))
        outcomes[kernels] = np.concatenate(losses), own.program
    (expected, plain), (found, program) = outcomes["xla"], outcomes["backbone"]
    assert (expected[:5].mean(axis=0) - expected[-5:].mean(axis=0)).min() > 1e-2  # they learn
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert kernel in program and kernel not in plain


def test_fused_layers_are_float32_beside_bfloat16_products() -> None:
    """With `model.dtype=bfloat16` the fused layers would be left out, or round what the model keeps in float32."""
    segments = jnp.zeros((2, LENGTH), jnp.int32)
    place = jnp.broadcast_to(jnp.arange(LENGTH), segments.shape)
    x = jax.random.normal(jax.random.key(0), (*segments.shape, 16)).astype(jnp.bfloat16)
    exact = SASRec(16, LENGTH, 1, 2)
    params = {"params": random_params(exact, x, segments, place)}
    ours = SASRec(16, LENGTH, 1, 2, dtype=jnp.bfloat16, kernels="backbone")
    expected, found = (
        jax.jit(module.apply)(params, x, segments, place) for module in (exact, ours)
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("gpu", "devices", "kernel"), [(False, 1, False), (True, 1, True), (True, 2, False)]
)
def test_kernels_by_themselves_only_where_they_are_faster(
    gpu: bool, devices: int, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU would interpret a kernel, which takes minutes; several devices would each compute all rows."""
    monkeypatch.setattr(backend, "interpret", lambda: not gpu)
    model = build_model(ModelConfig(), "plain", "gru4rec", ModelSizes(9, 4, 0, 2, devices))
    vectors, segments = jnp.zeros((2, 4, 64)), jnp.zeros((2, 4), jnp.int32)
    program = jax.make_jaxpr(
        lambda: model.backbone.init_with_output(jax.random.key(0), vectors, segments, segments)
    )()
    assert ("gru_forward" in str(program)) == kernel


def test_what_has_no_kernel_is_refused() -> None:
    """A run would leave out the padding that its config asks for, or train by XLA though its config asks for kernels."""
    fields = {"kernels": "backbone", "model.padded_length": 200, "model.backbone": "gru4rec,sasrec"}
    assert_names(
        refusal(Config.from_dict, fields),
        ("config.kernels", "padded_length=200", "expected auto or xla"),
    )
    mesh = {"kernels": "backbone", "mesh.data": 2}  # which auto runs on too, without kernels
    assert_names(refusal(Config.from_dict, mesh), ("a mesh of 2 x 1", "expected auto or xla"))
    named = refusal(Config.from_dict, {"model.kernels": "x"})
    assert_names(named, ("config.model.kernels: 'x'", "the same setting as config.kernels"))
    check_config(Config.from_dict({**fields, "model.backbone": "gru4rec"}))
    assert_names(
        refusal(Config.from_dict, {**fields, "kernels": "cuda"}),
        ("config.kernels: 'cuda'", "auto, xla, backbone"),
    )
    for own in ({"model.block": "prenorm"}, {"model.features": 48}):
        given = {"kernels": "backbone", "model.backbone": "gru4rec,bert4rec", **own}
        message = refusal(check_config, Config.from_dict(given))
        value = next(iter(own.values()))
        assert_names(message, ("config.kernels", "'bert4rec'", str(value), "expected auto or xla"))
        check_config(Config.from_dict({**given, "model.backbone": "gru4rec"}))
    given = {"by_method": {"plain": {"model": {"features": 48}}}, "kernels": "backbone"}
    message = refusal(check_config, Config.from_dict({**given, "model.method": "plain"}))
    assert_names(message, ("config.kernels", "features=48", "(with config.by_method.plain)"))


def test_runs_of_a_kernel_that_is_gone_stay_readable() -> None:
    """A workdir of `kernels=pallas` could be opened no more, though all that it trained is there."""
    assert upgraded({"kernels": "pallas", "model": {"kernels": "pallas"}}) == {
        "kernels": "backbone",
        "model.kernels": "backbone",
    }
