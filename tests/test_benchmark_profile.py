"""The profile of a training step: an operation's time goes to the stage that its name says, and no time is counted twice."""

import copy
import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import profile, trace
from benchmarks.limits import Limits
from benchmarks.profile_screen import screen
from benchmarks.project import count_project
from benchmarks.roofline import Cost, Costs, bound
from benchmarks.sections import steps
from benchmarks.trace import Event, Module, stage_of
from benchmarks.workload import Sizes
from grasp_jax.models.encoders.holistic import HolisticEncoder

TINY = Sizes(batch_size=8, width=24, max_length=8, features=8, hidden=16)


@pytest.mark.parametrize(
    ("op_name", "stage"),
    [
        (
            "jit(f)/while/body/vmap(jvp(Model.scores))/project/encoder.project/dot_general",
            "project",
        ),
        ("jit(f)/while/body/vmap(transpose(jvp(project)))/dot_general", "project"),
        ("jit(f)/project/gather/gather", "gather"),  # the innermost
        (
            "jit(f)/backbone/while/body/closed_call/gather",
            "backbone",
        ),  # the last part is a primitive that is called like a stage
        ("jit(f)/jit(update)/add", None),  # a function that is called like a stage
        ("jit(f)/projected/add", None),
        (
            "jit(f)/while/body/vmap(jvp(SequenceModel.training_scores))/encoder.head_input/add",
            "gate",
        ),  # by flax's names
        (
            "jit(f)/vmap(jvp(SequenceModel.training_scores))/SequenceModel.training_features/encoder.item_features/gather",
            "gather",
        ),
        ("jit(f)/vmap(transpose(jvp(SequenceModel.training_scores)))/concatenate", "loss"),
        (
            "jit(f)/vmap(jvp(SequenceModel.training_scores))/backbone/backbone._published/add",
            "backbone",
        ),
        ("", None),
    ],
)
def test_stage_is_the_innermost_scope(op_name: str, stage: str | None) -> None:
    """Time would go to the stage around, or to one that only sounds alike."""
    assert stage_of(op_name) == stage


def test_matrix_products_without_a_name_go_where_their_data_goes() -> None:
    """XLA drops the names of batched products: a layer's time would go to no stage, to the next one or to the update."""

    def one_step(weights: tuple[jax.Array, jax.Array, jax.Array], rows: jax.Array) -> Any:
        def loss(weights: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            first, last, bias = weights
            with jax.named_scope("project"):
                joined = jnp.concatenate(
                    [rows @ first[:, :24], jnp.flip(rows) @ first[:, 24:]], axis=-1
                )
            with jax.named_scope("gate"):
                vectors = jnp.sin(joined) @ last + bias
            with jax.named_scope("backbone"):
                states = jnp.tanh(vectors)
            with jax.named_scope("loss"):
                return (states**2).sum()

        gradient = jax.grad(loss)(weights)
        with jax.named_scope("update"):
            return jax.tree.map(lambda leaf, way: leaf - 0.1 * jnp.sign(way), weights, gradient)

    sizes = (1, 64, 48), (1, 48, 40), (1, 40)
    lowered = jax.jit(jax.vmap(one_step)).lower(
        tuple(jnp.ones(size) for size in sizes), jnp.ones((1, 80, 64))
    )
    text = lowered.compile().as_text() or ""
    module, entry = Module(text), text.split("\nENTRY", 1)[1]
    ran = [name for name in module.instructions if f" %{name} = " in entry]
    products = [
        (module.scope(name).stage, module.scope(name).backward)
        for name in ran
        if module.is_product(name)
    ]
    forward, backward = ("project", False), ("project", True)
    assert sorted(products) == sorted(
        [forward, forward, backward, backward, ("gate", False), ("gate", True), ("gate", True)]
    )


def test_operation_lasts_until_its_end_is_marked() -> None:
    """A product that a CPU's threads go on with would count for the time in which it was handed over."""
    events = [
        Event("dot", 0.0, 2.0),
        Event("add", 3.0, 4.0),
        Event("dot", 10.0, 12.0),
        Event("dot", 20.0, 21.0),
    ]
    marks = {"dot": [7.0, 11.5], "add": [3.9]}
    ends = [(event.instruction, event.end) for event in trace.with_ends(events, marks)]
    assert ends == [("dot", 7.0), ("add", 4.0), ("dot", 12.0), ("dot", 21.0)]


def test_time_is_divided_among_operations_in_flight() -> None:
    """A loop would be counted in addition to its body, or the times of two threads would add up to more than the time that passed."""
    events = [
        Event("while", 0.0, 10.0),
        Event("a", 1.0, 5.0),
        Event("b", 3.0, 7.0),
        Event("c", 12.0, 13.0),
    ]
    times, idle = trace.shared_time(events, {"while"})
    assert times == {"while": 1.0 + 3.0, "a": 2.0 + 1.0, "b": 1.0 + 2.0, "c": 1.0} and idle == 2.0
    assert sum(times.values()) + idle == 13.0


def test_count_of_the_projection_is_that_of_xla() -> None:
    """The share of the limit would be of another number of operations than the model's."""
    encoder, rows = (
        HolisticEncoder(TINY.width, TINY.features, (TINY.hidden,)),
        jnp.ones((50, TINY.width)),
    )
    params = encoder.init(jax.random.key(0), rows, rows, method="project")

    def loss(params: Any) -> jax.Array:
        return (encoder.apply(params, rows, rows, method="project") ** 2).sum()

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(
        count_project(TINY, 50)["flops"], rel=0.2
    )


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a quick run, of a model with text and of one without; GRUs, for they compile fast."""
    out = tmp_path_factory.mktemp("profile") / "profile.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            profile, "limits", lambda quick: Limits({"float32": 1e9, "bfloat16": 1e9}, 1e9)
        )
        profile.main(["--quick", "--models=grasp-gru4rec,plain-gru4rec", f"--out={out}"])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def profiles(profiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name of the model."""
    return {outcome["model"]: outcome for outcome in profiled["models"]}


def test_stages_add_up(profiles: dict[str, dict[str, Any]]) -> None:
    """Time would be counted twice or not at all."""
    for outcome in profiles.values():
        assert sum(row["share"] for row in outcome["stages"]) == pytest.approx(1.0)
        assert sum(outcome["attributed"].values()) + outcome["unattributed"] == pytest.approx(1.0)
        assert (
            outcome["unattributed"] < 0.5 and outcome["attributed"]["by_name"] > 0.1
        )  # a busy machine spends more beside the named ones
        shares = [row["share"] for row in outcome["operations"]]
        assert (
            len(shares) == profile.TOP
            and shares == sorted(shares, reverse=True)
            and 0 < sum(shares) <= 1
        )
        assert 0 < outcome["busy_seconds_per_step"] <= outcome["traced_seconds_per_step"]
        found = {(row["stage"], row["backward"]) for row in outcome["stages"] if row["share"] > 0}
        assert {
            ("gather", False),
            ("backbone", False),
            ("backbone", True),
            ("loss", False),
            ("update", False),
        } <= found
        assert ("update", True) not in found


def test_projection_is_found_where_a_model_has_text(profiles: dict[str, dict[str, Any]]) -> None:
    """The profile would name a projection in a model that has none, or miss it."""
    of_project = {
        name: [row["share"] for row in own["stages"] if row["stage"] == "project"]
        for name, own in profiles.items()
    }
    assert min(of_project["grasp-gru4rec"]) > 0 and of_project["plain-gru4rec"] == [0, 0]
    assert "project" not in profiles["plain-gru4rec"]
    project = profiles["grasp-gru4rec"]["project"]
    share = sum(of_project["grasp-gru4rec"]) * profiles["grasp-gru4rec"]["busy_seconds_per_step"]
    assert project["seconds_per_step"] == pytest.approx(share)
    least = max(project["flops"], project["bytes"]) / 1e9
    assert project["share_of_limit"] == pytest.approx(least / project["seconds_per_step"])


def test_profiles_become_tables(profiled: dict[str, Any]) -> None:
    """The page would show the stages of one model under the name of another."""
    stages, *tops = steps.profile(profiled)
    assert stages.header == ["stage", "grasp-gru4rec", "plain-gru4rec"]
    project = next(row for row in stages.rows if row[0] == "project")
    assert project[2] == "0.0% + 0.0%" and project[1] != project[2]
    assert [len(table.rows) for table in tops] == [steps.MOST] * 2
    assert "grasp-gru4rec" in tops[0].title


def test_screen_has_what_limits_each_stage(profiled: dict[str, Any]) -> None:
    """The screen would have shares of time alone: half a roofline, from which nobody sees what the machine would allow."""
    outcome = copy.deepcopy(profiled["models"][0])
    said = screen(profiled, outcome, 0.0)
    sizes = profiled["sizes"]
    assert f"B={sizes['batch_size']}, E={sizes['width']}, L={sizes['max_length']}" in said
    assert "GFLOP/s in float32" in said and "GB/s (a pass over memory)" in said
    assert "repeat this when it is idle" not in said
    assert "repeat this when it is idle" in screen(
        profiled, outcome, 0.9 * profiled["machine"]["cores"]
    )
    for row in outcome["stages"]:
        row["bytes"] *= 1e6
    assert "More than 100% of a limit" in screen(profiled, outcome, 0.0)
    *_, advice, rest = said.splitlines()
    assert advice.startswith("What would make the step faster") and "would remain" in rest
    row = next(line.split() for line in said.splitlines() if line.startswith("project"))
    assert row[-2] in ("products", "memory") and row[-1].endswith("%")
    assert not any(own["name"] in said for own in outcome["operations"][:5])


def test_operations_and_bytes_of_stages_are_those_of_the_program(
    profiles: dict[str, dict[str, Any]],
) -> None:
    """A stage would be compared with the work of another, or the products of a loop be counted once."""
    own = profiles["grasp-gru4rec"]
    flops = {stage: 0.0 for stage in ("project", "backbone", "update")}
    for row in own["stages"]:
        if row["stage"] in flops:
            flops[row["stage"]] += row["flops"]
    assert flops["project"] == pytest.approx(own["project"]["flops"], rel=0.2)
    assert flops["backbone"] > 0 and flops["update"] == 0
    update = next(row for row in own["stages"] if row["stage"] == "update" and not row["backward"])
    assert update["bytes"] > 0 and update["operations"] > 0


def test_costs_of_a_compiled_function() -> None:
    """Rows that are taken from a table would count as the whole table, and a product by its results alone."""

    def step(weights: jax.Array, table: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.tanh(table[rows] @ weights)

    arguments = jnp.ones((64, 32)), jnp.ones((10_000, 64)), jnp.zeros(50, jnp.int32)
    text = jax.jit(step).lower(*arguments).compile().as_text() or ""
    module, entry = Module(text), text.split("\nENTRY", 1)[1]
    costs = Costs(text, module)
    each = [costs.of(name) for name in module.instructions if f" %{name} = " in entry]
    assert sum(cost.flops for cost in each) == 2 * 50 * 64 * 32
    least = 4 * (2 * 50 * 64 + 64 * 32 + 50 * 32)
    assert least <= sum(cost.bytes for cost in each) < 4 * 10_000 * 64 / 10
    most = Limits({"float32": 1e9, "bfloat16": 2e9}, 1e6)
    assert bound(Cost(1e9, 1.0), most, "float32") == (1.0, "products")
    assert bound(Cost(1e9, 2e6), most, "bfloat16") == (2.0, "memory")
