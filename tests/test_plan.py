"""The planner, against arithmetic by hand; `test_plan_compiled` compares it with what XLA says of a compiled step."""

import functools
import sys

import pytest

from benchmarks.communication import collectives
from grasp_jax.config import Config
from grasp_jax.parallel.exchange import id_capacity
from grasp_jax.planning.catalogue import catalogue_traffic, score_blocks
from grasp_jax.planning.device_counts import compare_device_counts
from grasp_jax.planning.devices import DEVICES, Device
from grasp_jax.planning.plan import Sizes, device_of, is_taken, launched, plan_lines
from grasp_jax.planning.rates import LAUNCH
from grasp_jax.planning.step import (
    limiting_part,
    sent_bytes,
    smallest_layout,
    step_bytes,
    step_flops,
    step_seconds,
    table_bytes,
    total_bytes,
    total_seconds,
)
from grasp_jax.planning.words import conclusion, duration
from grasp_jax.planning.workload import (
    Contrast,
    Further,
    ItemVectors,
    Layout,
    Network,
    Workload,
)
from tests.command_line import one_line_error, run

IDS = ItemVectors(4, (), 0, losses=(4,))
TEXT = ItemVectors(0, (Network(4 * 8, 16, 4),), 3 * 16, row_bytes=2 * 8 * 2, losses=(4,))
WORK = Workload(
    users=1000,
    items=301,
    interactions=9000,
    evaluated=1000,
    candidates=100,
    width=8,
    features=4,
    hidden=16,
    layers=2,
    table_bytes=2,
    batch=16,
    rows=4,
    length=24,
    pairs=70,
    negatives=1,
    vectors=TEXT,
)


def test_bytes_by_hand() -> None:
    """A table would be counted as if it lay elsewhere, or a row as if 2E numbers of it travelled."""
    alone, shared, host = (
        table_bytes(WORK._replace(gated=True), Layout(*layout))
        for layout in ((1, 1), (2, 4, "sharded"), (8, 1, "host"))
    )
    assert (alone["item tables"], shared["item tables"], host["item tables"]) == (
        301 * 32,
        76 * 32,
        301 * 32,
    )
    assert (alone["user tables"], shared["user tables"], host["user tables"]) == (
        1000 * 32,
        125 * 32,
        0,
    )
    assert sent_bytes(WORK, Layout(1, 1)) == dict.fromkeys(
        ("item rows", "logits", "gradients", "users' rows"), 0.0
    )
    sent = sent_bytes(WORK, Layout(2, 4))
    assert sent["item rows"] == 3 * id_capacity(2 * 4 * 24, 8, 4) * (2 + 2 * 3 * 16) * 4
    assert sent["gradients"] == 2 * 7 / 8 * WORK.parameters * 4


def test_bytes_of_users_rows_by_hand() -> None:
    """A plan would send users' rows beyond the group of their device, or not know that those of a whole catalogue go everywhere."""
    work, row = WORK._replace(gated=True), 2 * 8 * 2
    sent = {users: sent_bytes(work, Layout(2, 4, users)) for users in ("device", "sharded", "host")}
    each = {users: own["users' rows"] for users, own in sent.items()}
    assert each == {"device": 0, "sharded": 3 * 8 * row, "host": 3 * 2 * row}  # 2 + 4 sqrt(2)
    pairs = id_capacity(4 * 24, 8, 4)
    assert sent["device"]["logits"] == 3 * pairs * 16
    assert sent["sharded"]["logits"] == sent["host"]["logits"] == 7 * 12 * 16  # all that it has
    assert sent_bytes(work, Layout(8, 1, "sharded"))["users' rows"] == 0
    assert sent_bytes(WORK, Layout(2, 4, "sharded"))["users' rows"] == 0
    catalogue = work._replace(catalogue=True, negatives=0)
    of_all = [sent_bytes(catalogue, Layout(2, 4, users)) for users in ("sharded", "host")]
    assert [own["users' rows"] for own in of_all] == [2 * 7 / 8 * 16 * row, 7 / 8 * 16 * row]


def test_bytes_of_a_whole_catalogue_by_hand() -> None:
    """A plan would not know that each target meets every item: 70 x 301 scores and exponentials, and vectors with their gradient."""
    ids = WORK._replace(width=0, vectors=IDS, negatives=0, catalogue=True)
    alone, without = (
        step_bytes(work, Layout(1, 1)) for work in (ids, ids._replace(catalogue=False))
    )
    assert alone["scores"] == 2 * 70 * 301 * 4 and without["scores"] == 0
    assert alone["items' numbers"] == 2 * 301 * 4 * 4
    assert step_flops(ids, Layout(1, 1)) - step_flops(
        ids._replace(catalogue=False), Layout(1, 1)
    ) == pytest.approx(6 * 70 * 301 * 4)
    shared = step_bytes(ids, Layout(2, 4))
    assert shared["scores"] == 2 * 48 * 76 * 4  # half of 4 x 24 places, a fourth of the items
    text = step_bytes(WORK._replace(negatives=0, catalogue=True), Layout(1, 1))
    assert text["items' numbers"] - alone["items' numbers"] == 2 * 301 * 16 * 4
    large = ids._replace(items=10**7, pairs=1000)
    assert step_bytes(large, Layout(1, 1))["scores"] <= 2 * (256 << 20)


def test_towers_by_hand() -> None:
    """A plan would count one tower of several, the hidden layer of one network, or a product with frozen rows as if it had a gradient."""
    networks = Network(8, 16, 4), Network(16, 16, 4)
    towers = ItemVectors(4, networks, 8 + 8, 17 * 4, joined=16, towers=3, match=8, losses=(4,) * 3)
    work = WORK._replace(vectors=towers, negatives=0, catalogue=True)
    ids, alone = work._replace(width=0, vectors=IDS), Layout(1, 1)
    assert work.parameters == 301 * 4 + (8 + 16 + 2) * 16 + 2 * 17 * 4 + 3 * (
        ids.parameters - 301 * 4
    )
    assert table_bytes(work, alone)["item tables"] == 301 * 17 * 4
    assert table_bytes(work, alone)["user tables"] == 0
    stored, of_ids = step_bytes(work, alone), step_bytes(ids, alone)
    assert stored["scores"] == of_ids["scores"] and stored["backbone"] == 3 * of_ids["backbone"]
    numbers = 4 * 3 * 4 + 2 * 8 + 2 * 32 + 16  # vectors, the match, hidden layers, joined rows
    assert stored["items' numbers"] == 301 * numbers * 4
    frozen, last = 2 * 2 * 301 * (8 + 16) * 16, 3 * 2 * 301 * 2 * 16 * 4
    assert step_flops(work, alone) == 3 * step_flops(ids, alone) + frozen + last
    summed = work._replace(vectors=towers._replace(losses=(20,)))  # the loss of the summed score
    assert step_flops(summed, alone) - step_flops(work, alone) == 3 * 2 * 70 * 301 * 8
    shared = step_bytes(work, Layout(1, 2))["items' numbers"]
    assert shared == (301 * (4 * 3 * 4 + 2 * 8) + 151 * (2 * 32 + 16)) * 4
    # two devices compute the vectors of all items twice, and scores at all of the 96 places
    more = 3 * 3 * 2 * (96 - 70) * 301 * 4
    both = step_flops(work, Layout(2, 1)) * 2
    assert both - step_flops(work, alone) == pytest.approx(more + frozen + last)
    moved, of_one = catalogue_traffic(work, alone), score_blocks(work, alone)
    assert of_one.number == 1
    adam = 6 * work.parameters * 4
    again = 3 * 7 * 70 * 301 * 4 - 2 * of_one.bytes  # arrays are otherwise written and read once
    assert moved == again + 4 * 301 * 12 * 4 + 2 * 301 * 17 * 4 + adam


def test_views_by_hand() -> None:
    """A plan would count one backbone for LLM-ESR's two views, or its parameters twice, or forget the states of all users."""
    network = Network(8, 0, 4, folded=4)
    vectors = ItemVectors(4, (network,), 4, 8 * 2, losses=(8,))
    one = WORK._replace(vectors=vectors)
    both, alone = one._replace(further=Further(views=2, similar=10)), Layout(1, 1)
    assert network.parameters == 9 * 4 + 5 * 4
    assert both.vector_width == 8 and both.parameters - one.parameters == 2 * (4 * 16 + 4)
    assert table_bytes(both, alone)["user tables"] == 1000 * (10 + 8) * 4
    stored, of_one = step_bytes(both, alone), step_bytes(one, alone)
    assert stored["backbone"] == 2 * of_one["backbone"] and "cross-attention" not in of_one
    assert stored["additional loss"] == 16 * (10 + 2) * 8 * 4
    places, block = 4 * 24, 2 * 6 * 16 + 2 * 2 * 24 * 4
    crossed = 2 * 4 * 16 + 2 * 2 * 24 * 4
    more = step_flops(both, alone) - step_flops(one, alone)
    assert more == 3 * places * (2 * block + 2 * crossed)
    unfolded = one._replace(vectors=vectors._replace(networks=(Network(8, 0, 4),)))
    for layout in (alone, Layout(4, 1)):  # each device multiplies the two matrices
        assert step_flops(one, layout) - step_flops(unfolded, layout) == 3 * 2 * 8 * 4 * 4
    assert sent_bytes(both, Layout(4, 1))["additional loss"] == 3 / 4 * 2 * 16 * 8 * 4


def test_contrasts_by_hand() -> None:
    """A plan would not know that RLMRec's logits grow with the square of a batch, or that texts have no gradient."""
    ids = WORK._replace(vectors=IDS)
    con = ids._replace(further=Further(contrast=Contrast(Network(8, 6, 4))))
    gen = ids._replace(further=Further(contrast=Contrast(Network(4, 6, 8), generative=True)))
    alone, places, targets, users = Layout(1, 1), 4 * 24, 70, 16
    assert con.parameters - ids.parameters == 9 * 6 + 7 * 4
    held = table_bytes(con, Layout(1, 4, "sharded"))
    assert held["item tables"] == 76 * 8 * 2 and held["user tables"] == 250 * 8 * 2
    of_con, of_gen = (step_flops(own, alone) - step_flops(ids, alone) for own in (con, gen))
    texts = places + targets + users
    pairs = places**2 + targets**2 + users**2
    assert of_con == 2 * texts * (2 * 8 * 6 + 3 * 6 * 4) + 3 * 2 * pairs * 4
    every = places + users
    assert of_gen == 2 * every * 3 * (4 * 6 + 6 * 8) + 2 * 2 * every**2 * 8
    # of one contrast at a time: logits and their gradient, texts, and both layers
    stored = step_bytes(con, alone)["additional loss"]
    assert stored == (2 * places**2 + places * (8 + 6 + 4)) * 4
    everyone = con._replace(further=Further(contrast=Contrast(Network(8, 6, 4), False, True)))
    assert step_flops(everyone, alone) - step_flops(con, alone) == (
        2 * 1000 * (2 * 8 * 6 + 3 * 6 * 4) + 3 * 2 * users * (1000 - users) * 4
    )
    # all devices get the texts of items and of negatives, here at every place, and reduce their gradient
    sent = sent_bytes(con, Layout(4, 1))["additional loss"]
    assert sent == 3 / 4 * (2 * users * 4 + 2 * 3 * places * 4) * 4


def test_experts_by_hand() -> None:
    """A plan would count one expert, or send the results of all experts where devices reduce the gradient of their mixture."""
    network = Network(8, 0, 4, experts=3)
    assert network.first == 3 * (4 + 2)
    assert network.parameters == 3 * 8 * 4 + 3 * 8 + 2 * 8 * 3
    vectors = ItemVectors(0, (network,), 18, 8 * 2, joined=8, losses=(4,))
    work = WORK._replace(vectors=vectors, negatives=0, catalogue=True)
    ids = WORK._replace(vectors=IDS, negatives=0, catalogue=True)
    alone = Layout(1, 1)
    numbers = [step_bytes(own, alone)["items' numbers"] for own in (work, ids)]
    assert numbers[0] - numbers[1] == 301 * (2 * 18 + 8) * 4
    assert step_flops(work, alone) - step_flops(ids, alone) == 2 * 2 * 301 * 8 * 18
    sent = [sent_bytes(work, Layout(*own))["item rows"] for own in ((4, 1), (2, 2))]
    assert sent[0] == 2 * 3 / 4 * 301 * 4 * 4
    assert sent[1] == (2 * 3 / 4 * 301 * (18 + 4) + 2 * 4 * 24 / 4 * 4) * 4


def test_smallest_mesh() -> None:
    """One would rent more devices than needed, or fewer than hold it."""
    text = TEXT._replace(row_bytes=2 * 4096 * 2)
    work = WORK._replace(items=1_200_000, users=10_000_000, width=4096, vectors=text, gated=True)
    layout = smallest_layout(work, DEVICES["A100-80"]._replace(memory=16e9))
    assert layout is not None and total_bytes(work, layout) <= 0.9 * 16e9
    assert layout.users == "host" and layout.devices > 1
    fewer = [
        Layout(layout.devices // 2 // table, table, "host")
        for table in (1, 2, 4, 8)
        if table <= layout.devices // 2
    ]
    assert all(total_bytes(work, other) > 0.9 * 16e9 for other in fewer)
    assert smallest_layout(work, DEVICES["H200"]._replace(memory=1e8)) is None


def test_launches_are_those_of_the_method_and_its_backbone() -> None:
    """Every step would be planned with the launches of the largest program, which take longer than a whole step without text."""
    seconds = step_seconds(WORK._replace(kernels=151), Layout(1, 1), DEVICES["H100"])
    assert seconds["launches"] == pytest.approx(151 * LAUNCH.seconds)
    config = Config()
    assert launched(config, TEXT, 1) > launched(config, IDS, 1)
    assert launched(config.with_fields({"kernels": "backbone"}), TEXT, 1) < launched(
        config, TEXT, 1
    )
    gru = config.with_fields({"model.backbone": "gru4rec"})
    assert launched(gru, IDS, 2) > 10 * launched(gru, IDS, 1)  # its kernel is for one device
    six = TEXT._replace(towers=6)
    assert launched(config, six, 1) == 2 * launched(config, six._replace(towers=3), 1) > 0


def test_limiting_part_of_a_step() -> None:
    """Transfers that go on during a step would be named as its limit, or memory traffic be hidden by launches that are shorter."""
    parts = {"arithmetic": 1.0, "memory": 3.0, "host": 4.0, "communication": 2.0, "launches": 0.5}
    assert total_seconds(parts) == 5.5 and limiting_part(parts) == "memory"
    assert limiting_part(parts | {"host": 6.0}) == "host"


def test_layouts_that_a_run_refuses_are_not_recommended() -> None:
    """Who follows the plan's advice would be told by the run that this layout is not allowed."""
    two_fold = Config().with_fields({"model.gate_query": "two_fold"})
    fused = Config().with_fields({"kernels": "backbone"})
    for config, refused, taken in (
        (two_fold, Layout(1, 1, "host"), Layout(2, 2)),
        (fused, Layout(2, 1), Layout(1, 1, "host")),
    ):
        assert is_taken(config, "grasp", taken) and not is_taken(config, "grasp", refused)
        takes = functools.partial(is_taken, config, "grasp")
        found = compare_device_counts(lambda devices: WORK, Layout(1, 1), DEVICES["H100"], takes)
        assert found and all(takes(each.layout) for each in found)
    work = WORK._replace(users=10**9, gated=True)  # whose tables only the host holds
    assert smallest_layout(work, DEVICES["H100"]) is not None
    wanted = smallest_layout(work, DEVICES["H100"], functools.partial(is_taken, two_fold, "grasp"))
    assert wanted is None or wanted.users == "device"


def test_numbers_of_devices_are_compared() -> None:
    """A plan would not say that a slow network makes 16 devices slower than one, or count a mesh that does not hold the job."""
    work = WORK._replace(batch=4096, rows=512, pairs=40_000, kernels=10)
    slow = Device(1e12, 1e12, 1e9, 1e9, 1e3, 1e9, 8)
    own = Layout(4, 4)
    found = compare_device_counts(lambda devices: work, own, slow)
    assert [each.layout.devices for each in found] == [1, 2, 4, 8, 16, 16]
    assert found[-1].limit == "communication" and found[-1].seconds > found[0].seconds
    assert found[3].seconds < found[0].seconds / 4
    assert "fewer devices are as fast or faster" in conclusion(found, own)
    assert "another mesh is faster" in conclusion(found, Layout(1, 1))
    assert "hardly faster" in conclusion(found, found[3].layout)
    needed = total_bytes(work, Layout(1, 1)) / 0.95
    small = compare_device_counts(lambda devices: work, own, slow._replace(memory=needed))
    assert small[0].layout == Layout(1, 1, "host") or small[0].layout.devices > 1
    none = compare_device_counts(lambda devices: work, own, slow._replace(memory=1.0))
    assert none == [] and conclusion(none, own) == ""


def test_durations_have_a_unit_that_can_be_read() -> None:
    """A second would stand in a plan as 0.0003 hours."""
    shown = [duration(seconds) for seconds in (0, 1e-4, 4.44, 56, 350, 151_000)]
    assert shown == ["0 s", "below 0.1 s", "4.4 s", "56 s", "5.8 min", "41.9 h"]


def test_collectives_of_a_program() -> None:
    """Bytes would be missed where results are tuples, or counted for devices that take no part."""
    text = """
  %all-reduce.1 = (f32[4,8]{1,0}, f32[2]{0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), replica_groups={{0,1,2,3}}, metadata={op_name="g"}
  ROOT %all-to-all.2 = f32[4,5]{1,0} all-to-all(%d), replica_groups=[2,4]<=[8], dimensions={0}, metadata={op_name="x/all_to_all"}
  %all-gather = bf16[8]{0} all-gather-start(%e), replica_groups={{0},{1}}, dimensions={0}
  %add = f32[4] add(%f, %g)
"""
    found = collectives(text, 8)
    assert [(one.kind, one.bytes, one.group, one.name) for one in found] == [
        ("all-reduce", 4 * (32 + 2 + 1), 4, "g"),
        ("all-to-all", 80, 4, "x/all_to_all"),
    ]
    assert {one.kind: one.sent for one in found} == {"all-reduce": 1.5 * 140, "all-to-all": 60.0}


def test_a_plan_is_printed_without_a_workdir() -> None:
    """The planner would want data or a device, or plan with numbers that nobody gave."""
    result = run(
        [
            sys.executable,
            "-m",
            "grasp_jax.main",
            "--config=configs/industry.py",
            "--mode=plan",
            "--config.plan.device=A100-80",
            "--config.plan.memory_gb=20",
        ]
    )
    assert result.returncode == 0, result.stderr
    assert (
        "your device (from A100-80): 20 GB" in result.stdout
        and "smallest that fits" in result.stdout
    )
    assert "1,205,282 items" in result.stdout and "E=4096" in result.stdout
    wrong = run(
        [
            sys.executable,
            "-m",
            "grasp_jax.main",
            "--config=configs/industry.py",
            "--mode=plan",
            "--config.plan.device=B52",
        ]
    )
    error = one_line_error(wrong)
    assert "config.plan.device: 'B52'; expected one of A100-80, H100" in error
    assert "for another device" in error and "config.plan.memory_gb" in error


def test_lines_of_a_plan() -> None:
    """A method without a plan would be planned as another, or given numbers be ignored."""
    config = Config().with_fields(
        {
            "data.source": "synthetic",
            "data.synthetic.num_users": 500,
            "model.method": "grasp,gsasrec",
            "plan.tflops": 7.0,
        }
    )
    assert device_of(config.plan).flops == 7e12
    lines = plan_lines(config, 64)
    assert any(line.startswith("grasp: 500 users") and "E=64" in line for line in lines)
    assert any(line.startswith("1 (as configured)") for line in lines)
    assert any("kernels of 1.7 microseconds" in line for line in lines)
    assert any(
        line.startswith("gsasrec: not planned; expected one of plain, ") and "grasp_plus" in line
        for line in lines
    )
    assert Sizes(config.data).evaluated == 500
    for changes, why in (
        (
            {"model.method": "plain", "train.loss": "softmax"},
            "plain: not planned with the loss 'softmax'",
        ),
        (
            {"model.plus.fusion": "early"},
            "grasp_plus: not planned with model.plus.fusion='early'; expected late",
        ),
        ({"train.loss": "bce"}, "grasp_plus: not planned with the loss 'bce'; expected ce"),
    ):
        refused = plan_lines(config.with_fields({"model.method": "grasp_plus", **changes}), 64)
        assert any(line.startswith(why) for line in refused)
