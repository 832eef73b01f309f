"""`config.kernels`: whole training steps by Pallas kernels, interpreted, against the same steps by XLA."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.workload import with_tables
from grasp_jax.config import default_config
from grasp_jax.config_checks import validate
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.negatives import exclusion_index
from grasp_jax.data.packing import plan_packing
from grasp_jax.data.split import leave_one_out
from grasp_jax.kernels import backend
from grasp_jax.models.device_data import DeviceData
from grasp_jax.models.methods.method import as_initialised
from grasp_jax.models.recommender import BACKBONES, build_recommender
from grasp_jax.training.epochs import TrainingData, make_epoch
from grasp_jax.training.loop import initial_snapshot
from grasp_jax.training.losses import binary_cross_entropy
from grasp_jax.training.members import Member, of_members
from grasp_jax.training.step import make_train_steps
from grasp_jax.training.targets import StepShape, count_targets
from tests.refusal import assert_names, refusal

BATCH, LENGTH = 6, 8
EPSILON = 1e-2  # of Adam; with the usual one, a gradient of rounding alone would move a parameter as far as any other
MEMBERS = [Member(seed, 0.0, 0.1) for seed in (1, 2)]


def steps(log: InteractionLog, tables: dict[str, jax.Array], backbone: str, gate: str) -> dict[str, tuple[Any, jax.Array, str]]:
    """By kernels: parameters and losses after two steps of two models, and the program. Query rows have length E, so that gates differ."""
    config = default_config()
    config.model.features, config.model.num_heads, config.model.num_layers, config.model.mlp, config.model.gate = 6, 2, 1, (10,), gate
    split = leave_one_out(log, LENGTH)
    users = np.flatnonzero(split.train.lengths > 1)
    packing, index = plan_packing(split.train, users, BATCH), exclusion_index(log, log.offsets[:-1], split.train.end)
    rate, noise = (0.6, 0.2) if BACKBONES[backbone].bidirectional else (0.0, 0.0)
    shape = StepShape(log.num_items, index.search_steps, count_targets(packing, rate), 2, rate, noise)
    device = DeviceData(jnp.asarray(log.items), jnp.asarray(log.users), None, jnp.asarray(index.shifted), jnp.asarray(index.offsets))
    width = tables["items"].shape[1]
    sharp = {name: table * width if name.startswith("users") else table for name, table in tables.items()}
    nothing: Any = None  # is validated
    data = TrainingData(device, sharp, as_initialised, split.train, users, packing, shape, binary_cross_entropy, nothing)
    data = with_tables(data, sharp)
    slots = jnp.asarray(make_epoch(data, MEMBERS, 0).slots[:, :2])
    keys, *rates = of_members(MEMBERS)
    outcomes, state = {}, None
    for kernels in ("xla", "pallas"):
        config.kernels = kernels
        model = build_recommender(config.model, "grasp", backbone, log.num_items, LENGTH + 2, width, "token", BATCH)
        state = state or initial_snapshot(model, MEMBERS, data).state
        arguments = (state, data.device, sharp, slots, keys, jnp.int32(0), *rates)
        traced = jax.jit(make_train_steps(model, shape, binary_cross_entropy, EPSILON)).trace(*arguments)
        trained, losses = traced.lower().compile()(*arguments)
        outcomes[kernels] = trained.params, losses, str(traced.jaxpr)
    return outcomes


@pytest.mark.parametrize(
    ("backbone", "gate", "names"),
    [
        ("sasrec", "learned", ("packed_attention_forward", "packed_attention_key_gradient", "gated_projection")),
        ("bert4rec", "paper", ("packed_attention_forward", "packed_attention_query_gradient", "gated_projection")),
        ("gru4rec", "softmax", ("gru_forward", "gru_backward", "gated_projection")),
    ],
)
def test_kernels_train_the_same_model(
    small_log: InteractionLog, unit_tables: dict[str, jax.Array], backbone: str, gate: str, names: tuple[str, ...]
) -> None:
    """`kernels=pallas` would train another model, or quietly not use the kernels."""
    outcomes = steps(small_log, unit_tables, backbone, gate)
    (plain, expected, _), (ours, found, program) = outcomes["xla"], outcomes["pallas"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(np.asarray(expected), axis=0).min() > 1e-3  # the second step sees what the first has learned
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        given = dict(jax.tree_util.tree_leaves_with_path(ours))[path]
        np.testing.assert_allclose(given, leaf, atol=1e-4, err_msg=jax.tree_util.keystr(path))
    assert all(name in program for name in names)


@pytest.mark.parametrize(("gpu", "devices", "kernel"), [(False, 1, False), (True, 1, True), (True, 2, False)])
def test_kernels_by_themselves_only_where_they_are_faster(gpu: bool, devices: int, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU would interpret a kernel, which takes minutes; several devices would each compute all rows."""
    monkeypatch.setattr(backend, "interpret", lambda: not gpu)
    model = build_recommender(default_config().model, "plain", "gru4rec", 9, 4, 0, "token", 2, devices)
    vectors, segments = jnp.zeros((2, 4, 64)), jnp.zeros((2, 4), jnp.int32)
    program = jax.make_jaxpr(lambda: model.backbone.init_with_output(jax.random.key(0), vectors, segments, segments))()
    assert ("gru_forward" in str(program)) == kernel


def test_what_has_no_kernel_is_refused() -> None:
    """A run would leave out the padding that its config asks for."""
    config = default_config()
    config.kernels, config.model.padded_length, config.model.backbone = "pallas", 200, "gru4rec,sasrec"

    def check(config: ConfigDict) -> None:
        validate(config, ("grasp",), tuple(BACKBONES))

    assert_names(refusal(check, config), ("config.kernels", "padded_length=200", "expected xla"))
    config.model.backbone = "gru4rec"
    check(config)
    config.kernels = "cuda"
    assert_names(refusal(check, config), ("config.kernels: 'cuda'", "auto, xla, pallas"))
