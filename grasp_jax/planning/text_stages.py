"""The stages of a whole job that make the tables of texts, for `--mode=plan`: descriptions, encoding, neighbours, texts of towers."""

import math
from collections.abc import Iterator

from grasp_jax.config import Config
from grasp_jax.planning import rates
from grasp_jax.planning.stages import CORES, DEVICES, ENDPOINT, HOST, Job, Stage, measured, source
from grasp_jax.planning.workload import Workload

MEASURED_WIDTH = 1536  # E of `rates.EXACT_GPU`
HOST_ENCODERS = ("lsa", "tfidf_projection")
ENCODED_WIDTH = 32  # E of `rates.ENCODE`, by lsa


def text_stages(job: Job) -> Iterator[Stage]:
    """The stages that make the tables, in order."""
    work = job.work
    yield _describe(job.config, work)
    yield _encode(job.config, work)
    for kind, rows in (("items", work.items), ("users", work.users)):
        yield _neighbours(job, kind, rows)
    if work.further.similar:
        yield _exact(job, "similar users", work.users)
    if job.fits_text:
        how = "whitening, and sums of the texts of items that are bought next to an item, were not measured"
        yield Stage("texts of towers", f"{work.items:,} items", None, HOST, how)


def _describe(config: Config, work: Workload) -> Stage:
    """Requests to a language model, each of the maximum length."""
    knowledge, plan, texts = config.knowledge, config.plan, work.items + work.users
    if knowledge.encoder == "file":
        return Stage("describe", "none", 0.0, HOST, "the vectors come from your files")
    if knowledge.describer == "template":
        how = "the templates are filled during encoding"
        return Stage("describe", f"{texts:,} texts", 0.0, HOST, how)
    if knowledge.describer != "openai":
        how = "a model of this machine was not measured"
        return Stage("describe", f"{texts:,} prompts", None, HOST, how)
    settings, read = knowledge.describe, plan.prompt_tokens
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
    knowledge, plan, texts = config.knowledge, config.plan, work.items + work.users
    work_text = f"{texts:,} texts"
    if knowledge.encoder == "file":
        return Stage("encode", "none", 0.0, HOST, "the vectors come from your files")
    if plan.texts_per_second:
        on = (
            ENDPOINT
            if knowledge.encoder == "openai"
            else HOST
            if knowledge.encoder in HOST_ENCODERS
            else DEVICES
        )
        price = (
            texts * plan.prompt_tokens * knowledge.embed.price_prompt / 1e6
            if on == ENDPOINT
            else 0.0
        )
        how = f"given: plan.texts_per_second={plan.texts_per_second:g}"
        seconds, devices = texts / plan.texts_per_second, int(on == DEVICES)
        return Stage("encode", work_text, seconds, on, how, price or None, devices)
    if knowledge.encoder == "lsa" and work.width <= ENCODED_WIDTH:
        return measured("encode", texts, "texts", rates.ENCODE, 1, "lsa, E=32, titles of 20 items")
    how = (
        f"{knowledge.encoder} with E={work.width} was not measured; time 1,000 texts and give config.plan.texts_per_second "
        f"(lsa with E={ENCODED_WIDTH} encodes {1 / rates.ENCODE.seconds:,.0f} on {rates.ENCODE.on}: {rates.ENCODE.record})"
    )
    return Stage(
        "encode", work_text, None, HOST if knowledge.encoder in HOST_ENCODERS else DEVICES, how
    )


def _neighbours(job: Job, kind: str, rows: int) -> Stage:
    name, knowledge, width, pairs = (
        f"neighbours of {kind}",
        job.config.knowledge,
        job.work.width,
        job.group_pairs[kind],
    )
    if pairs is not None and math.isnan(pairs):
        how = "the synthetic shop of this plan has no groups; to count those of your data, set config.data.path; not counted"
        return Stage(name, f"{rows:,} rows in groups", None, HOST, how)
    if pairs is not None:
        work = f"{rows:,} rows, {pairs:,.0f} pairs within groups"
        seconds = pairs * rates.GROUPED.seconds * max(1.0, width / 32)
        how = f"{source(rates.GROUPED, pairs)} at E=32; with E in proportion"
        return Stage(name, work, seconds, HOST, how)
    if knowledge.retrieval == "exact":
        return _exact(job, name, rows)
    if knowledge.retrieval == "scann":
        how = f"{source(rates.SCANN, rows)}, E=1024, by ScaNN; a row costs more in a larger table"
        return Stage(name, f"{rows:,} rows", rows * rates.SCANN.seconds, HOST, how)
    how = f"{source(rates.CLUSTERS, rows**1.5 * width)}, divided by {CORES} cores; with the rows to the power 1.5"
    return Stage(name, f"{rows:,} rows in clusters", _by_clusters(rows, width), HOST, how)


def _exact(job: Job, name: str, rows: int) -> Stage:
    """An exact search of the neighbours of all rows among all rows."""
    # narrower rows take no less time, because choosing the best does not depend on the width
    cost = float(rows) ** 2 * max(job.work.width, MEASURED_WIDTH)
    how = f"{source(rates.EXACT_GPU, cost)}; waiting for the host is included; one of these devices is assumed to be as fast"
    how += ", and counted alone: several were not timed"
    work = f"{rows:,} x {rows:,} rows"
    return Stage(name, work, cost * rates.EXACT_GPU.seconds, DEVICES, how, devices=1)


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
    seconds, clustered = (
        _by_clusters(rows, job.work.width),
        source(rates.CLUSTERS, rows**1.5 * job.work.width),
    )
    synthetic = job.config.data.resolved_source() == "synthetic"
    of_shop = " (the synthetic shop of this plan has no groups; files may)" * synthetic
    return (
        f"knowledge.retrieval=clusters needs no device and {seconds / 3600:,.1f} h on {CORES} cores, {clustered}; "
        f"knowledge.{column} searches within groups only{of_shop}; launch/ray_neighbours.py divides the exact search among machines. "
        "In one process the exact search divides its queries among the devices of its host, and no other host takes part"
    )
