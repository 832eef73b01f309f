"""Hours and dollars of a whole job: constants compared with their records, sums by hand, and unknown parts."""

import dataclasses
import json
import math
from typing import Any

import pytest

from benchmarks.kernels_of_a_step import Workload as Shape
from benchmarks.record import RESULTS
from benchmarks.rehearsal_data import Sizes as ShopSizes
from configs.industry import get_config as industry
from grasp_jax.config import Config
from grasp_jax.data.split import Split
from grasp_jax.models.methods import METHODS
from grasp_jax.planning import rates
from grasp_jax.planning.devices import DEVICES
from grasp_jax.planning.job import stages
from grasp_jax.planning.methods import validations_of_parts
from grasp_jax.planning.plan import Sizes, plan_lines, workload
from grasp_jax.planning.stages import ENDPOINT, Job, dollars
from grasp_jax.planning.step import step_bytes, step_seconds, total_seconds
from grasp_jax.planning.text_stages import shorter
from grasp_jax.planning.workload import Layout


def record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def measured() -> dict[str, float]:
    """Each constant of `rates`, from its record."""
    reading, rehearsal = record("reading-cpu"), record("rehearsal-cpu")["runs"][-1]
    stages = rehearsal["stages"]
    rows = reading["sizes"]["interactions"]
    steps = {name: own["cpu_seconds"] for name, own in reading["preparation"]["steps"].items()}
    questions = ("stored negatives", "packed questions", "seen pairs")
    packed = [s for name, s in steps.items() if name not in (*questions, "read and build")]
    bank = {stage["name"]: stage["seconds"] for stage in record("bank-cpu")["stages"]}
    exact = next(way for way in record("retrieval-gpu")["ways"] if way["rows"] > 10**6)
    clusters = next(way for way in record("neighbours-cpu")["ways"] if way["way"] == "clusters")
    sampled = {row["model"]: row for row in record("evaluation-cpu")["sampled"]}
    models = {row["model"]: row for row in record("profile-industry-gpu")["models"]}
    short = next(row for row in record("profile-gpu")["models"] if row["model"] == "plain-sasrec")
    # Seconds of stages less those of reading.
    encode, grouped = (
        stages["encode"]["cpu_seconds"] - stages["fingerprint"]["cpu_seconds"],
        stages["neighbours"]["cpu_seconds"] - stages["fingerprint"]["cpu_seconds"],
    )
    shop = ShopSizes(rehearsal["users"])
    texts = shop.users + shop.items
    pairs = shop.users**2 / shop.segments + shop.items**2 / shop.categories
    return {
        "READ": stages["read"]["wall_seconds"] / rehearsal["read"]["interactions"],
        "PACK": sum(packed) / rows,
        "EVALUATION_SET": sum(steps[name] for name in questions) / 100_000,
        "ENCODE": encode / texts,
        "GROUPED": grouped / pairs,
        "EXACT_GPU": exact["search_seconds"] / (exact["queries"] * exact["rows"] * 1536),
        "CLUSTERS": clusters["processor_seconds"] / (clusters["rows"] ** 1.5 * 1024),
        "SCANN": bank["index built and saved"] / 1e6 + bank["index searched, 125 leaves"] / 1e4,
        "VALIDATION_GATED": sampled["grasp-sasrec"]["share_of_epoch"],
        "VALIDATION": sampled["plain-sasrec"]["share_of_epoch"],
        "REPRESENT": 1 / record("representations-cpu")["first_day"]["users_per_second"],
        "STEP_GRASP": models["grasp-sasrec"]["seconds_per_step"],
        "STEP_PLAIN": models["plain-sasrec"]["seconds_per_step"],
        "COMPILE": record("train-cpu")["rows"][0]["compile_seconds"],
        "COMPILE_GPU": record("train-gpu")["rows"][0]["compile_seconds"],
        "LAUNCH": short["seconds_per_step"] / short["operations_per_step"],
    }


def test_rates_are_those_of_the_records() -> None:
    """A benchmark would be run again, and plans go on with the old figure."""
    own = {name: rate for name, rate in vars(rates).items() if isinstance(rate, rates.Rate)}
    found = measured()
    assert own.keys() == found.keys()
    for name, rate in own.items():
        assert rate.seconds == pytest.approx(found[name], rel=0.01), name
        assert (RESULTS / f"{rate.record}.json").exists()


def test_what_was_not_searched_is_called_extrapolated() -> None:
    """A search of all rows, of which 16,384 were timed, would be called measured, and longer ones a sixtieth as far from a measurement."""
    exact = next(way for way in record("retrieval-gpu")["ways"] if way["rows"] > 10**6)
    clusters = next(way for way in record("neighbours-cpu")["ways"] if way["way"] == "clusters")
    assert rates.EXACT_GPU.units == exact["queries"] * exact["rows"] * 1536
    assert (
        rates.CLUSTERS.units == clusters["rows"] ** 1.5 * record("neighbours-cpu")["sizes"]["width"]
    )
    job = job_of({}, width=1536)
    job = dataclasses.replace(job, work=job.work._replace(items=exact["rows"]))
    stage = next(each for each in stages(job) if each.name == "neighbours of items")
    assert "measured on an H200 (retrieval-gpu); extrapolated 74 times" in stage.how
    beyond = (exact["rows"] / clusters["rows"]) ** 1.5 * 1536 / 1024
    assert f"(neighbours-cpu); extrapolated {beyond:,.0f} times" in shorter(job, stage)


def test_kernels_are_those_of_the_records() -> None:
    """A step would be planned with the launches of an earlier version, or with those of another backbone."""
    counted = {row["model"]: row["kernels"] for row in record("kernels-h100")["models"]}
    for backbone, own in rates.FUSED_KERNELS.items():
        suffix = "" if backbone == "gru4rec" else "-backbone"
        assert own == {name: counted[f"{name}-{backbone}{suffix}"] for name in own}
    for backbone in ("sasrec", "bert4rec"):
        own = rates.KERNELS[backbone]
        assert own == {name: counted[f"{name}-{backbone}"] for name in own}
    for method, added in rates.ADDED_KERNELS.items():
        if method != "unisrec_id":
            like = "plain" if method.startswith("rlmrec") else "grasp"
            assert rates.KERNELS["sasrec"][like] + added == counted[f"{method}-sasrec"]
    scanned = {row["model"]: row for row in record("profile-gpu")["models"]}["plain-gru4rec"]
    assert rates.KERNELS["gru4rec"]["plain"] == round(scanned["operations_per_step"])


def test_measured_steps_are_compared_with_their_estimates() -> None:
    """A change of the estimate would leave the old ratio to what was measured in the printed plan."""
    config = Config.from_dict(industry("100k").to_dict())
    sizes = Sizes(config.data)
    for rate, method in ((rates.STEP_GRASP, "grasp"), (rates.STEP_PLAIN, "plain")):
        work = workload(config, sizes, 4096, method, 1)
        planned = total_seconds(step_seconds(work, Layout(1, 1), DEVICES["H200"]))
        assert rate.planned == pytest.approx(planned, rel=0.01), method


class SplitSizes(Sizes):
    """The sizes of a split."""

    def __init__(self, split: Split) -> None:
        self.lengths, self.items = split.log.lengths, split.log.num_items
        self.training, self.evaluated = split.train.lengths, len(split.valid.evaluated)
        self.tested = len(split.test.evaluated)
        self._packings = {}


def test_memory_of_late_fusion_is_that_of_a_program_for_a_gpu() -> None:
    """grasp_plus would be planned on a device whose memory it does not fit: three towers hold 1.1 GB of temporaries at Beauty's shape."""
    shape = Shape()
    work = workload(shape.config, SplitSizes(shape.split), shape.sizes.width, "grasp_plus", 1)
    counted = {row["model"]: row["temporary_mib"] for row in record("kernels-h100")["models"]}
    planned = sum(step_bytes(work, Layout(1, 1)).values()) / 2**20
    assert planned == pytest.approx(counted["grasp_plus-sasrec"], rel=0.1)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("plain", 0.15), ("rlmrec_con", 0.15), ("rlmrec_gen", 0.15), ("llm_esr", 0.3)],
)
def test_memory_of_many_users_is_that_of_a_program_for_a_gpu(method: str, tolerance: float) -> None:
    """RLMRec would be planned with a batch whose logits do not fit: those of 1,024 users need more than everything else."""
    shape, found = Shape(), record("plan-memory-h100")
    config = shape.config.with_fields({"train.batch_size": found["users"]})
    work = workload(config, SplitSizes(shape.split), shape.sizes.width, method, 1)
    counted = {row["method"]: row["temporary_bytes"] for row in found["steps"]}
    stored = step_bytes(work, Layout(1, 1))
    # text rows, which a program for a CPU keeps and this one gathers again; so the plan is a quarter too high for LLM-ESR
    again = stored["rows"] * (method == "llm_esr")
    assert sum(stored.values()) - again == pytest.approx(counted[method], rel=0.15)
    assert sum(stored.values()) == pytest.approx(counted[method], rel=tolerance)


def test_memory_of_experts_is_that_of_a_program_for_a_gpu() -> None:
    """UniSRec would be planned without the text rows of all items, which its dropout copies in every step."""
    shape = Shape()
    work = workload(shape.config, SplitSizes(shape.split), shape.sizes.width, "unisrec", 1)
    counted = {row["model"]: row["temporary_mib"] for row in record("kernels-h100")["models"]}
    planned = sum(step_bytes(work, Layout(1, 1)).values()) / 2**20
    assert planned == pytest.approx(counted["unisrec-sasrec"], rel=0.15)


def job_of(changes: dict[str, Any], width: int = 64, method: str = "grasp") -> Job:
    shop = {"data.source": "synthetic", "data.synthetic.num_users": 5000}
    config = Config().with_fields({**shop, **changes})
    sizes = Sizes(config.data, config.knowledge)
    work = workload(config, sizes, width, method, 1)
    trained = int((sizes.training > 1).sum())
    layout, device = Layout(1, 1), DEVICES["H100"]
    own = config.for_method(method)
    return Job(
        own,
        work,
        layout,
        device,
        trained,
        sizes.tested,
        sizes.group_pairs,
        METHODS[method].fits_text(own.model),
        validations_of_parts(own, method),
    )


def test_seconds_by_hand() -> None:
    """An hour would be counted of the wrong number of rows or steps."""
    job = job_of({"train.max_epochs": 3, "train.epoch_steps": 7, "eval.select": "sampled100"})
    found = {stage.name: stage for stage in stages(job)}
    step = total_seconds(step_seconds(job.work, job.layout, job.device))
    assert found["read"].seconds == pytest.approx(job.work.interactions * rates.READ.seconds)
    assert found["compilation"].seconds is None  # it does not grow with the data
    assert found["an epoch"].seconds == pytest.approx(7 * step)
    assert found["all epochs"].seconds == pytest.approx(21 * step)
    steps = math.ceil(job.trained / 128)
    asked = rates.VALIDATION_GATED.seconds * steps * step * 5000 / job.trained
    assert found["validation"].seconds == pytest.approx(3 * asked)
    day = {"train.start_from": "monday", "train.new_since": "2026-03-01"}
    assert "too high" in {stage.name: stage.how for stage in stages(job_of(day))}["all epochs"]
    exact = 1500.0**2 * 1536 * rates.EXACT_GPU.seconds
    assert found["neighbours of items"].seconds == pytest.approx(exact)
    by_clusters = {
        stage.name: stage for stage in stages(job_of({"knowledge.retrieval": "clusters"}))
    }
    expected = 1500**1.5 * 64 * rates.CLUSTERS.seconds / 2
    assert by_clusters["neighbours of items"].seconds == pytest.approx(expected)
    more = {stage.name: stage for stage in stages(job_of({"model.mlp": ()}))}
    assert (more["answers for all users"].seconds or 0) < (
        found["answers for all users"].seconds or 0
    )


def test_a_job_of_late_fusion_by_hand() -> None:
    """grasp_plus would be planned without the choice of its parts, with scores of one tower, or its tables be counted as free."""
    job = job_of({"train.max_epochs": 3}, method="grasp_plus")
    found = {stage.name: stage for stage in stages(job)}
    assert found["texts of towers"].seconds is None
    width = 3 * 64 + 64  # three towers, and the match of E=64
    pair = max(2 * width / job.device.flops, 16 / job.device.bandwidth)
    assert found["validation"].seconds == pytest.approx(3 * 5000 * 1500 * pair)
    assert found["choice of parts"].seconds == pytest.approx(7 * 5000 * 1500 * pair)
    assert found["answers for all users"].seconds == pytest.approx(5000 * 1500 * pair)
    assert "256 numbers" in found["represent all users"].how
    named = job_of({"model.plus.parts": "all"}, method="grasp_plus")
    ids = {
        "model.plus.id_start": "random",
        "model.plus.text_towers": 0,
        "model.plus.company_towers": 0,
        "model.plus.match_weight": 0.0,
    }
    without_text = job_of({**ids, "model.plus.parts": "id"}, method="grasp_plus")
    assert "choice of parts" not in {stage.name for stage in stages(named)}
    assert "texts of towers" not in {stage.name for stage in stages(without_text)}
    sampled = {"eval.select": "sampled100"}
    among, ce = (job_of(sampled, method=method) for method in ("plain", "sasrec_ce"))
    seconds = [
        next(stage for stage in stages(each) if stage.name == "validation").seconds
        for each in (among, ce)
    ]
    assert seconds[0] == pytest.approx(seconds[1])  # ranks candidates, whatever the loss is


def test_a_job_of_similar_users_by_hand() -> None:
    """LLM-ESR would be planned without its search of similar users, or without the states of all users before each epoch."""
    grouped = {"knowledge.group_column": "category", "knowledge.user_group_column": "segment"}
    job = job_of({"train.max_epochs": 3, **grouped}, method="llm_esr")
    found = {stage.name: stage for stage in stages(job)}
    searched = 5000.0**2 * 1536 * rates.EXACT_GPU.seconds
    unknown = found["neighbours of users"]
    assert unknown.seconds is None  # its groups are not known
    assert "synthetic shop of this plan has no groups" in unknown.how
    assert "config.data.path" in unknown.how
    assert found["similar users"].seconds == pytest.approx(searched)
    whole = -(-job.trained // job.work.batch) * 3
    one = total_seconds(step_seconds(job.work, job.layout, job.device))
    assert found["states of all users"].seconds == pytest.approx(whole * one / 3)
    assert "128 numbers" in found["represent all users"].how
    plain = {stage.name for stage in stages(job_of({}, method="plain"))}
    assert not plain & {"similar users", "states of all users"}


def test_a_language_model_costs_requests_and_tokens() -> None:
    """A bill would come that no plan has shown, or a limit of the endpoint be passed over."""
    asked = {"knowledge.describer": "openai", "plan.prompt_tokens": 200}
    prices = {"knowledge.describe.price_prompt": 0.15, "knowledge.describe.price_answer": 0.6}
    free = {stage.name: stage for stage in stages(job_of(asked))}["describe"]
    assert free.tokens_price is None and free.on == ENDPOINT
    assert free.seconds == pytest.approx(6500 * 2 / 32)
    job = job_of({**asked, **prices, "knowledge.describe.requests_per_minute": 60})
    bound = {stage.name: stage for stage in stages(job)}["describe"]
    assert bound.seconds == pytest.approx(6500) and "requests_per_minute=60" in bound.how
    assert bound.tokens_price == pytest.approx(6500 * (200 * 0.15 + 300 * 0.6) / 1e6)
    assert dollars(bound, job.config.plan) == bound.tokens_price


def test_an_encoder_on_devices_is_paid_for() -> None:
    """Hours of devices would be printed, and their dollars be missing from the sum."""
    given = {"plan.texts_per_second": 100.0, "plan.device_price": 3.0}
    job = job_of({"knowledge.encoder": "sentence_transformers", **given})
    encode = {stage.name: stage for stage in stages(job)}["encode"]
    assert dollars(encode, job.config.plan) == pytest.approx(65 / 3600 * 3)


def test_what_is_not_known_is_said() -> None:
    """An encoder, or groups, that nobody has measured would be counted as free."""
    unknown = {"knowledge.encoder": "sentence_transformers", "knowledge.user_group_column": "town"}
    found = {stage.name: stage for stage in stages(job_of(unknown))}
    assert found["encode"].seconds is None and "texts_per_second" in found["encode"].how
    assert found["neighbours of users"].seconds is None
    given = {
        stage.name: stage for stage in stages(job_of({**unknown, "plan.texts_per_second": 50.0}))
    }
    assert given["encode"].seconds == pytest.approx(6500 / 50)
    wide = {stage.name: stage for stage in stages(job_of({"knowledge.encoder": "lsa"}, width=64))}
    assert wide["encode"].seconds is None and "lsa with E=64 was not measured" in wide["encode"].how
    narrow = {stage.name: stage for stage in stages(job_of({"knowledge.encoder": "lsa"}, width=32))}
    assert narrow["encode"].seconds == pytest.approx(6500 * rates.ENCODE.seconds)


def test_ways_to_shorten_a_search_of_neighbours_are_named() -> None:
    """A reader would see days of one device and not learn that clusters, groups or more machines shorten them."""
    job = job_of({})
    found = {stage.name: stage for stage in stages(job)}
    said = shorter(job, found["neighbours of users"])
    for way in ("knowledge.retrieval=clusters", "user_group_column", "launch/ray_neighbours.py"):
        assert way in said
    assert shorter(job, found["all epochs"]) == ""
    by_clusters = job_of({"knowledge.retrieval": "clusters"})
    assert shorter(by_clusters, found["neighbours of users"]) == ""


def test_dollars_of_a_job_are_printed() -> None:
    """A price would be asked for and not used, or sums printed that lack an hour which has no price."""
    config = job_of(
        {"plan.device_price": 4.0, "knowledge.encoder": "file", "train.max_epochs": 2}
    ).config
    lines = plan_lines(config, 64)
    total = next(line for line in lines if line.startswith("whole job")).split()
    job = job_of({"plan.device_price": 4.0, "knowledge.encoder": "file", "train.max_epochs": 2})
    each = [dollars(stage, job.config.plan) for stage in stages(job) if stage.name != "an epoch"]
    assert float(total[-1]) == pytest.approx(sum(cost or 0 for cost in each), abs=0.01)
    assert any("set config.plan.host_price" in line for line in lines)
    unpriced = plan_lines(job_of({}).config, 64)
    assert any("config.plan.device_price and config.plan.host_price" in line for line in unpriced)
    assert not any("dollars" in line for line in unpriced if line.startswith("whole job"))
