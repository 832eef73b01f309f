"""`--mode=plan`: time and dollars of the whole job, stage by stage: from rates that were measured, from data sheets, and from assumptions.

Every stage says where its seconds are from. A stage that nobody has measured is not counted, and its line says so.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

from grasp_jax.config import Config, PlanConfig
from grasp_jax.parallel import rates
from grasp_jax.parallel.plan import (
    FLOAT,
    Device,
    Layout,
    Workload,
    step_seconds,
    total_seconds,
)
from grasp_jax.parallel.rates import Rate

HOST, DEVICES, ENDPOINT = "host", "devices", "endpoint"
ONE_EPOCH = "an epoch"
CORES = 2  # of the host, among which processor seconds are divided
SCORE_PASSES = 4  # of a block of scores through a device's memory: written, masked, compared twice
MEASURED_WIDTH = 1536  # E of `rates.EXACT_GPU`
HOST_ENCODERS = ("lsa", "tfidf_projection")
ENCODED_WIDTH = 32  # E of `rates.ENCODE`, by lsa


class Stage(NamedTuple):
    """One line of the table.

    Attributes:
      name, work: what is done, and how much of it.
      seconds: from its beginning to its end; None where that is not known.
      on: HOST, DEVICES or ENDPOINT.
      how: where the seconds are from.
      tokens_price: the price of an endpoint's tokens, in dollars; None if no price is given.
    """

    name: str
    work: str
    seconds: float | None
    on: str
    how: str
    tokens_price: float | None = None
    devices: int = 0  # at work


@dataclasses.dataclass(frozen=True)
class Job:
    """The parts of a whole job in addition to training steps.

    Attributes:
      config: of the method alone.
      work: of a step.
      layout, device: where steps run.
      trained, tested: users who are trained on, and of the test.
      group_pairs: of "items" and "users", pairs of rows of one group; None where neighbours are of all rows, nan where it is not known.
    """

    config: Config
    work: Workload
    layout: Layout
    device: Device
    trained: int
    tested: int
    group_pairs: dict[str, float | None]


def stages(job: Job) -> Iterator[Stage]:
    """The stages of a job, in order."""
    config, work = job.config, job.work
    yield _measured("read", work.interactions, "interactions", rates.READ, what="string ids")
    yield _measured("split and pack", work.interactions, "interactions", rates.PACK, CORES)
    if work.width:
        yield _describe(config, work)
        yield _encode(config, work)
        for kind, rows in (("items", work.items), ("users", work.users)):
            yield _neighbours(job, kind, rows)
    yield from _training(job)
    if config.data.split != "none":
        yield _measured("test, preparation", job.tested, "users", rates.EVALUATION_SET, CORES)
        yield _among_negatives("test among negatives", job, job.tested)
        full = min(config.eval.full_users or job.tested, job.tested)
        if config.eval.full:
            yield _ranked("test, full ranking", job, (full, 1), _by_bounds(work))
    yield _ranked("answers for all users", job, (work.users, 1), _exactly(job))
    yield _measured("represent all users", work.users, "users", rates.REPRESENT)


def _measured(
    name: str, count: float, units: str, rate: Rate, cores: int = 1, what: str = ""
) -> Stage:
    """A stage of the host at a measured rate; processor seconds of one core are shared out to `cores`."""
    shared = f", divided by {cores} cores" if cores > 1 else ""
    how = f"{_source(rate, count)}{f', {what}' if what else ''}{shared}"
    return Stage(name, f"{count:,.0f} {units}", count * rate.seconds / cores, HOST, how)


def _source(rate: Rate, count: float) -> str:
    beyond = f"; extrapolated {count / rate.units:,.0f} times" if count > 2 * rate.units else ""
    return f"measured on {rate.on} ({rate.record}){beyond}"


def _describe(config: Config, work: Workload) -> Stage:
    """Requests to a language model, each of the maximum length."""
    own, plan, texts = config.knowledge, config.plan, work.items + work.users
    if own.encoder == "file":
        return Stage("describe", "none", 0.0, HOST, "the vectors come from your files")
    if own.describer == "template":
        how = "the templates are filled during encoding"
        return Stage("describe", f"{texts:,} texts", 0.0, HOST, how)
    if own.describer != "openai":
        how = "a model of this machine was not measured"
        return Stage("describe", f"{texts:,} prompts", None, HOST, how)
    settings, read = own.describe, plan.prompt_tokens
    tokens = f"{read} tokens per prompt and {settings.max_tokens} per answer"
    seconds = texts * plan.answer_seconds / settings.concurrency
    how = f"assumed: {plan.answer_seconds:g} s per answer, {settings.concurrency} at once; {tokens}"
    for unit, bound, of_one in (
        ("requests", settings.requests_per_minute, 1),
        ("tokens", settings.tokens_per_minute, read + settings.max_tokens),
    ):
        if bound and 60 * texts * of_one / bound > seconds:
            seconds = 60 * texts * of_one / bound
            how = f"bound by knowledge.describe.{unit}_per_minute={bound:,}; assumed: {tokens}"
    of_one_price = read * settings.price_prompt + settings.max_tokens * settings.price_answer
    price = texts * of_one_price / 1e6 or None
    return Stage("describe", f"{texts:,} requests", seconds, ENDPOINT, how, price)


def _encode(config: Config, work: Workload) -> Stage:
    own, plan, texts = config.knowledge, config.plan, work.items + work.users
    work_text = f"{texts:,} texts"
    if own.encoder == "file":
        return Stage("encode", "none", 0.0, HOST, "the vectors come from your files")
    if plan.texts_per_second:
        on = (
            ENDPOINT
            if own.encoder == "openai"
            else HOST
            if own.encoder in HOST_ENCODERS
            else DEVICES
        )
        price = texts * plan.prompt_tokens * own.embed.price_prompt / 1e6 if on == ENDPOINT else 0.0
        how = f"given: plan.texts_per_second={plan.texts_per_second:g}"
        seconds, devices = texts / plan.texts_per_second, int(on == DEVICES)
        return Stage("encode", work_text, seconds, on, how, price or None, devices)
    if own.encoder == "lsa" and work.width <= ENCODED_WIDTH:
        return _measured("encode", texts, "texts", rates.ENCODE, 1, "lsa, E=32, titles of 20 items")
    how = (
        f"{own.encoder} with E={work.width} was not measured; time 1,000 texts and give config.plan.texts_per_second "
        f"(lsa with E={ENCODED_WIDTH} encodes {1 / rates.ENCODE.seconds:,.0f} on {rates.ENCODE.on}: {rates.ENCODE.record})"
    )
    return Stage("encode", work_text, None, HOST if own.encoder in HOST_ENCODERS else DEVICES, how)


def _neighbours(job: Job, kind: str, rows: int) -> Stage:
    name, own, width, pairs = (
        f"neighbours of {kind}",
        job.config.knowledge,
        job.work.width,
        job.group_pairs[kind],
    )
    if pairs is not None and math.isnan(pairs):
        how = "groups are not known before the data are read; not counted"
        return Stage(name, f"{rows:,} rows in groups", None, HOST, how)
    if pairs is not None:
        work = f"{rows:,} rows, {pairs:,.0f} pairs within groups"
        seconds = pairs * rates.GROUPED.seconds * max(1.0, width / 32)
        how = f"{_source(rates.GROUPED, pairs)} at E=32; with E in proportion"
        return Stage(name, work, seconds, HOST, how)
    if own.retrieval == "exact":
        # narrower rows take no less time, because choosing the best does not depend on the width
        cost = float(rows) ** 2 * max(width, MEASURED_WIDTH)
        how = f"{_source(rates.EXACT_GPU, cost)}; waiting for the host is included; one of these devices is assumed to be as fast"
        how += ", and counted alone: several were not timed"
        work = f"{rows:,} x {rows:,} rows"
        return Stage(name, work, cost * rates.EXACT_GPU.seconds, DEVICES, how, devices=1)
    if own.retrieval == "scann":
        how = f"{_source(rates.SCANN, rows)}, E=1024, by ScaNN; a row costs more in a larger table"
        return Stage(name, f"{rows:,} rows", rows * rates.SCANN.seconds, HOST, how)
    how = f"{_source(rates.CLUSTERS, rows**1.5 * width)}, divided by {CORES} cores; with the rows to the power 1.5"
    return Stage(name, f"{rows:,} rows in clusters", _by_clusters(rows, width), HOST, how)


def _by_clusters(rows: int, width: int) -> float:
    """Seconds of a search by clusters on the cores of the host."""
    seconds: float = rows**1.5 * width * rates.CLUSTERS.seconds / CORES
    return seconds


def shorter(job: Job, stage: Stage) -> str:
    """What would shorten a stage; "" where the plan knows nothing. Only an exact search of neighbours among all rows has such ways."""
    kind = stage.name.removeprefix("neighbours of ")
    exact = job.config.knowledge.retrieval == "exact"
    if kind == stage.name or not exact or job.group_pairs[kind] is not None:
        return ""
    rows, column = (
        (job.work.items, "group_column")
        if kind == "items"
        else (job.work.users, "user_group_column")
    )
    seconds = _by_clusters(rows, job.work.width)
    return (
        f"knowledge.retrieval=clusters needs no device and {seconds / 3600:,.1f} h on {CORES} cores ({rates.CLUSTERS.record}); "
        f"knowledge.{column} searches within groups only; launch/ray_neighbours.py divides the exact search among machines. In one process "
        "the exact search divides its queries among the devices of its host, and no other host takes part"
    )


def _training(job: Job) -> Iterator[Stage]:
    """The stages of training: epochs, and validation after each."""
    train, work = job.config.train, job.work
    steps = epoch_steps(job)
    seconds, how = steps * _step(job), "steps as estimated above"
    yield _on_devices(job, ONE_EPOCH, f"{steps:,} steps", seconds, how)
    epochs = train.max_epochs
    how = f"{epochs:,} epochs; early stopping may need fewer"
    if train.new_since:
        how += "; with train.new_since an epoch has fewer steps, so this is too high"
    yield _on_devices(job, "all epochs", f"{epochs * steps:,} steps", epochs * seconds, how)
    if job.config.data.split == "none":
        return
    if job.config.eval.select == "sampled100":
        yield _among_negatives("validation", job, work.evaluated, epochs)
    else:
        yield _ranked("validation", job, (work.evaluated, epochs), _by_bounds(work))


def epoch_steps(job: Job) -> int:
    """Steps of an epoch as configured."""
    return min(_whole_epoch(job), job.config.train.epoch_steps or _whole_epoch(job))


def _whole_epoch(job: Job) -> int:
    """Steps that read every user."""
    return -(-job.trained // job.work.batch)


def _step(job: Job) -> float:
    return total_seconds(step_seconds(job.work, job.layout, job.device))


def measured_steps() -> str:
    """The ratio of measured steps to such estimates, as a sentence."""
    ratios = ((rates.STEP_GRASP, "grasp"), (rates.STEP_PLAIN, "plain"))
    found = [f"{name} took {rate.seconds / rate.planned:.1f} times" for rate, name in ratios]
    return f"On one H200, at E=4096 and B=128, {' and '.join(found)} its estimate ({rates.STEP_GRASP.record})"


def _among_negatives(name: str, job: Job, users: int, times: int = 1) -> Stage:
    """The stage that ranks targets among stored negatives."""
    rate = rates.VALIDATION_GATED if job.work.gated else rates.VALIDATION
    of_all = rate.seconds * _whole_epoch(job) * _step(job)
    work_text = f"{times:,} x {users:,} users" if times > 1 else f"{users:,} users"
    how = f"{rate.seconds:.2f} of an epoch for all users, {_source(rate, 0)}; assumed to be the same here"
    return _on_devices(job, name, work_text, of_all * times * users / max(job.trained, 1), how)


def _by_bounds(work: Workload) -> float:
    """Operations of a pair in the full ranking: two logits and three products of D numbers decide nearly all (`evaluation.bounds`)."""
    return 2 * 2 * work.width + 3 * 2 * work.features if work.gated else 2 * work.features


def _exactly(job: Job) -> float:
    """Operations of a pair where every score is computed, as for answers."""
    work = job.work
    if not work.gated or not job.config.model.mlp:
        return _by_bounds(work)
    return 2 * 2 * work.width + 3 * 2 * work.hidden + 2 * work.hidden * work.features


def _ranked(name: str, job: Job, users_and_times: tuple[int, int], flops: float) -> Stage:
    """Full ranking: `users_and_times` says for how many users and how often, `flops` the operations of a user-item pair."""
    work, device, (users, times) = job.work, job.device, users_and_times
    of_pair = max(flops / device.flops, SCORE_PASSES * FLOAT / device.bandwidth)
    seconds = float(users) * times * work.items * of_pair / job.layout.devices
    often = f"{times:,} x " if times > 1 else ""
    how = "by data sheet, the longer of arithmetic and memory; not measured, expect a few times as much"
    work_text = f"{often}{users:,} users x {work.items:,} items"
    return _on_devices(job, name, work_text, seconds, how)


def _on_devices(job: Job, name: str, work: str, seconds: float, how: str) -> Stage:
    """A stage of all devices of the layout."""
    return Stage(name, work, seconds, DEVICES, how, devices=job.layout.devices)


def dollars(stage: Stage, plan: PlanConfig) -> float | None:
    """What a stage costs; None where a price is not given or its time not known."""
    if stage.seconds is None:
        return None
    hours = stage.seconds / 3600
    if stage.on == ENDPOINT:
        if stage.tokens_price is None or not plan.host_price:
            return stage.tokens_price
        return stage.tokens_price + hours * plan.host_price
    price = plan.device_price * stage.devices if stage.on == DEVICES else plan.host_price
    return hours * price if price or not stage.seconds else None
