"""`config.kernels`: whole training steps by the backbones' kernels, interpreted, against the same steps by XLA."""

from typing import Any

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


def steps(
    log: InteractionLog, tables: dict[str, jax.Array], backbone: str, gate: str
) -> dict[str, tuple[Any, jax.Array, str]]:
    """By kernels: parameters and losses after two steps of two models, and the program. Query rows have length E, so that gates differ."""
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
    train = {"seeds": (1, 2), "learning_rate": 0.1, "batch_size": BATCH, "negatives": 2}
    sharp = sharpened(tables, tables["users"].shape[1])
    outcomes, state = {}, None
    for kernels in ("xla", "backbone"):
        fields = {"kernels": kernels, "data.max_length": LENGTH, "model": model, "train": train}
        made = assembled(log, sharp, "grasp", backbone, fields)
        state = state or random_snapshot(made.model, made.replicas, made.data, 0.3).state
        slots = jnp.asarray(make_epoch(made.data, made.replicas, 0).slots[:, :2])
        arguments = (
            state,
            made.data.device,
            sharp,
            slots,
            per_replica(made.replicas),
            jnp.int32(0),
        )
        traced = jax.jit(
            make_train_steps(made.model, made.data.shape, made.data.loss, EPSILON)
        ).trace(*arguments)
        trained, losses = traced.lower().compile()(*arguments)
        outcomes[kernels] = trained.params, losses, str(traced.jaxpr)
    return outcomes


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
    small_log: InteractionLog,
    unit_tables: dict[str, jax.Array],
    backbone: str,
    gate: str,
    names: tuple[str, ...],
) -> None:
    """`kernels=backbone` would train another model, or quietly not use the kernels."""
    outcomes = steps(small_log, unit_tables, backbone, gate)
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
    ("method", "backbone", "kernel"),
    [
        # The kernels are those of the backbone alone; two steps of each with gates: above.
        ("plain", "sasrec", "sasrec_finish_gradient"),
        ("plain", "gru4rec", "gru_backward"),
        pytest.param("grasp", "sasrec", "sasrec_finish_gradient", marks=pytest.mark.slow),
        pytest.param("grasp", "gru4rec", "gru_backward", marks=pytest.mark.slow),
    ],
)
def test_kernels_train_the_same_for_fifty_steps(
    small_log: InteractionLog,
    unit_tables: dict[str, jax.Array],
    method: str,
    backbone: str,
    kernel: str,
) -> None:
    """Rounding of a kernel would grow into another model."""
    log, tables = small_log, sharpened(unit_tables, unit_tables["users"].shape[1])
    outcomes = {}
    for kernels in ("xla", "backbone"):
        model = {"features": 16, "num_heads": 2, "num_layers": 1, "mlp": 10}
        model |= {"dropout": 0.0, "projection": "token"}
        train = {"batch_size": BATCH, "learning_rate": 0.01}
        fields = {"kernels": kernels, "data.max_length": LENGTH, "model": model, "train": train}
        made = assembled(log, tables, method, backbone, fields)
        slots = np.asarray(make_epoch(made.data, made.replicas, 0).slots)
        rest = (
            made.data.device,
            made.data.tables,
            jnp.asarray(slots[:, np.arange(50) % slots.shape[1]]),
            per_replica(made.replicas),
            jnp.int32(0),
        )
        state = random_snapshot(made.model, made.replicas, made.data, 0.3).state
        traced = jax.jit(
            make_train_steps(made.model, made.data.shape, made.data.loss, EPSILON)
        ).trace(state, *rest)
        _, losses = traced.lower().compile()(state, *rest)
        outcomes[kernels] = np.asarray(losses), str(traced.jaxpr)
    (expected, plain), (found, program) = outcomes["xla"], outcomes["backbone"]
    assert expected[:5].mean() - expected[-5:].mean() > 1e-2  # it learns
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
    expected, found = (module.apply(params, x, segments, place) for module in (exact, ours))
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
