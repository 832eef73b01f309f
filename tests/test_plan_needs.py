"""What a plan says a job needs beyond a training step: memory for ranking, a remedy where nothing fits, the host, and more negatives."""

import functools
import re
from typing import Any

import pytest

from grasp_jax.config import Config
from grasp_jax.planning.devices import DEVICES
from grasp_jax.planning.job import stages
from grasp_jax.planning.lowered import SEEDS
from grasp_jax.planning.plan import Sizes, is_taken, plan_lines, workload
from grasp_jax.planning.remedy import remedy
from grasp_jax.planning.step import (
    USABLE,
    fits,
    least_layout,
    needed_bytes,
    ranking_total,
    smallest_layout,
    total_bytes,
)
from grasp_jax.planning.text_stages import shorter
from grasp_jax.planning.workload import Layout, Workload
from tests.refusal import assert_names, refusal
from tests.test_plan import WORK
from tests.test_whole_job import job_of

SHOP = {"data.source": "synthetic", "data.synthetic.num_users": 500}
DEVICE = DEVICES["H100"]


def planned(**fields: Any) -> list[str]:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return plan_lines(Config().with_fields({**SHOP, "model.method": "grasp", **named}), 64)


def cells(lines: list[str], name: str) -> list[str]:
    """What stands after the name of a row."""
    return next(line for line in lines if line.startswith(name)).removeprefix(name).split()


def test_ranking_decides_whether_a_job_fits() -> None:
    """A plan would say that a job fits whose validation needs a hundred times the memory, and the run would end after an epoch."""
    large = WORK._replace(users=10**6, items=10**6, user_block=65_536, item_block=10**6)
    alone = Layout(1, 1)
    assert total_bytes(large, alone) < USABLE * DEVICE.memory
    assert ranking_total(large, alone) > 3 * 4 * 65_536 * 10**6
    assert not fits(large, alone, DEVICE)
    assert fits(large._replace(user_block=128, item_block=4096), alone, DEVICE)
    assert needed_bytes(large, Layout(8, 1)) < needed_bytes(large, alone) / 7  # users are shared
    lines = planned(**{"eval__user_block": 500, "eval__item_block": 1500})
    assert cells(lines, "decided by") == ["ranking", "ranking"]
    lines = planned(**{"eval__user_block": 1, "eval__item_block": 8, "train__negatives": 200})
    assert cells(lines, "decided by") == ["training", "training"]
    among = WORK._replace(candidates=10**6, gated=True)
    assert needed_bytes(among, alone) > 128 * 10**6 * 3 * 16 * 4


def halved(work: Workload) -> dict[str, Workload]:
    """The same step with one number halved, as `planning.lowered` makes it of a config."""
    fields = {
        "candidates": "lower config.eval.num_negatives",
        "user_block": "lower config.eval.user_block",
        "item_block": "lower config.eval.item_block",
        "rows": "lower config.train.batch_size",
        "hidden": "lower config.model.mlp",
        "models": SEEDS,
    }
    found = {
        words: work._replace(**{name: max(getattr(work, name) // 2, 1)})
        for name, words in fields.items()
    }
    own = work.vectors
    narrow = own._replace(trained=own.trained // 2, numbers=own.numbers // 2)
    features = work._replace(features=work.features // 2, vectors=narrow)
    return {**found, "lower config.model.features": features}


@pytest.mark.parametrize(
    ("changes", "part", "said"),
    [
        ({"interactions": 10**11}, "interactions, 1,600.00 GB", "no field makes it smaller; only fewer items or users do"),
        ({"vectors": WORK.vectors._replace(trained=10**9)}, "parameters", "config.model.features"),
        ({"vectors": WORK.vectors._replace(trained=10**9), "models": 3}, "parameters", "fewer seeds"),
        ({"users": 10**6, "user_block": 10**6, "item_block": 10**9, "items": 10**9}, "temporaries", "lower config.eval.item_block, or"),
        ({"candidates": 10**10, "evaluated": 1}, "temporaries", "eval.num_negatives"),
        ({"tested": 10**9, "candidates": 10**5}, "test set", "lower config.eval.num_negatives"),
        ({"rows": 10**9, "length": 100}, "backbone", "lower config.train.batch_size"),
        ({"gated": True, "items": 10**9, "hidden": 256}, "temporaries", "(lower config.model.mlp)"),
    ],
)  # fmt: skip
def test_a_remedy_names_what_no_mesh_divides(changes: dict[str, Any], part: str, said: str) -> None:
    """Advice would change nothing: smaller batches where the parameters of an ID table fill every device."""
    work: Workload = WORK._replace(**changes)
    assert smallest_layout(work, DEVICE) is None
    advice = remedy(work, DEVICE, lambda layout: True, halved(work))
    assert (
        "no mesh of up to 256 devices holds it" in advice and "a device with more memory" in advice
    )
    named = advice.split("the largest parts are ")[1]
    assert named.startswith(part) and said in named, advice


def test_a_plan_prints_the_remedy() -> None:
    """The advice of an earlier version stood there, whatever was too large."""
    lines = planned(plan__memory_gb=0.001, model__features=256)
    assert any(line.startswith("no mesh of up to 256 devices holds it: with ") for line in lines)
    accepts = functools.partial(is_taken, Config().with_fields({"kernels": "backbone"}), "grasp")
    least = least_layout(WORK, accepts)
    assert least is not None and least.devices == 1
    assert least_layout(WORK, lambda layout: False) is None
    said = remedy(WORK, DEVICE, lambda layout: False, {})
    assert said == "these settings accept no mesh of up to 256 devices"


def largest_parts(width: int, **fields: Any) -> str:
    """What a plan for far too small devices says of the largest arrays."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    config = Config().with_fields({**SHOP, "plan.memory_gb": 0.001, **named})
    (said,) = [line for line in plan_lines(config, width) if line.startswith("no mesh of")]
    return said.split("the largest parts are ")[1]


def test_a_remedy_names_only_fields_that_help() -> None:
    """A field would be lowered in vain: the hidden layer of a method without one, or float16 where it is set or tables are float32."""
    unisrec = {"model__method": "unisrec", "knowledge__encoder": "openai", "train__loss": "bce"}
    sizes = {"data__synthetic__num_items": 20_000, "train__batch_size": 16}
    wide = largest_parts(4096, **unisrec, **sizes)
    named = "(set config.knowledge.reduction.kind=pca and .width)"
    assert re.search(rf"temporaries, [\d.]+ MB {re.escape(named)}", wide), wide
    fields: dict[str, Any] = {"model__method": "grasp_plus", "model__plus__text_width": 384}
    late = largest_parts(768, **fields)
    assert "float16" not in late and "lower config.model.plus.text_width" in late
    half = {"model__method": "llm_esr", "model__table_dtype": "float16"}
    assert "float16" not in largest_parts(64, **half) and "tables.users" not in largest_parts(
        64, **half
    )


def test_host_and_disk_are_named() -> None:
    """Who moves 164 GB of user tables to the host would read "0 B", and learn from the run that they are somewhere."""
    on_devices, on_host = planned(), planned(tables__users="host")
    expected = 2 * 500 * 64 * 4
    assert not any("memory of each host" in line for line in on_devices)
    (said,) = [line for line in on_host if line.startswith("memory of each host")]
    assert (
        f"{expected / 1e3:,.2f} kB" in said and "the times assume that they are in memory" in said
    )
    disk = next(line for line in on_host if line.startswith("on disk"))
    assert f"the knowledge bank {2 * (500 + 1500) * 64 * 4 / 1e6:,.2f} MB" in disk
    plain = next(line for line in planned(model__method="plain") if line.startswith("on disk"))
    unsplit = next(line for line in planned(data__split="none") if line.startswith("on disk"))
    assert "negatives" not in unsplit and "checkpoints are not counted" in unsplit
    assert "bank" not in plain and f"{2 * 500 * 100 * 4 / 1e3:,.2f} kB" in plain


def test_more_negatives_take_more_time() -> None:
    """A plan would have the same hours for a hundred negatives of a user and for a million."""

    def seconds(negatives: int, name: str) -> float:
        job = job_of({"eval.select": "sampled100", "eval.num_negatives": negatives})
        return next(stage.seconds or 0.0 for stage in stages(job) if stage.name == name)

    for name in ("validation", "test among negatives", "test, preparation"):
        usual = seconds(100, name)
        assert seconds(10, name) == usual  # the states of users take their time too
        assert seconds(1000, name) == pytest.approx(10 * usual)
    job = job_of({"eval.select": "sampled100", "eval.num_negatives": 120})
    assert any("; 1.2 times that" in stage.how for stage in stages(job))


def test_each_backbone_is_planned_and_bfloat16_is_not() -> None:
    """Only the first of several backbones was planned, and nothing said so; or bfloat16 seemed to cost what float32 does."""
    lines = planned(model__backbone="sasrec,bert4rec", model__dtype="bfloat16")
    heads = [line for line in lines if ": 500 users" in line]
    assert [head.split(":")[0] for head in heads] == ["grasp on sasrec", "grasp on bert4rec"]
    kernels = [line for line in lines if line.startswith("how a step is estimated")]
    assert "plus 175 kernels" in kernels[0] and "plus 185 kernels" in kernels[1]
    assert all("config.model.dtype=bfloat16 is not counted" in line for line in kernels)
    assert not any("model.dtype" in line for line in planned())
    assert Sizes(Config().with_fields(SHOP).data).tested == 500
    config = Config().with_fields({**SHOP, "eval.user_block": 7, "eval.item_block": 9})
    work = workload(config, Sizes(config.data), 64, "grasp", 1)
    assert (work.tested, work.user_block, work.item_block) == (500, 7, 9)


def test_hardware_that_is_given_is_named_so() -> None:
    """Who plans for a device of 20 GB would read that it is an H100, or get times of 300 digits for one that cannot exist."""
    lines = planned(plan__memory_gb=0.5, plan__tflops=7.0)
    assert lines[0].startswith("your device (from H100): 0.5 GB")
    assert "config.plan.memory_gb, config.plan.tflops" in lines[1] and "data sheet" not in lines[1]
    assert any(line.endswith("1 x your device (from H100)") for line in lines)
    assert planned()[0].startswith("H100: 80 GB") and "by its data sheet" in planned()[1]
    for name in ("memory_gb", "tflops", "texts_per_second"):
        parts = (f"config.plan.{name}: 1e-300", "expected 0, or at least 0.001")
        assert_names(refusal(planned, **{f"plan__{name}": 1e-300}), parts)


def test_a_plan_of_the_synthetic_shop_says_that_it_has_no_groups() -> None:
    """A plan of the rehearsal says 16 hours for what took 45 minutes, because files have groups and the shop has none."""
    job = job_of({})
    longest = next(stage for stage in stages(job) if stage.name == "neighbours of users")
    said = " (the synthetic shop of this plan has no groups; files may)"
    assert said in shorter(job, longest)
    assert said in shorter(job_of({"data.source": "auto"}), longest)
