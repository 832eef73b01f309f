"""The lines of `--mode=plan` about a whole job: its stages with times and dollars, and where each figure is from."""

from grasp_jax.planning.job import ONE_EPOCH, measured_steps, stages
from grasp_jax.planning.rates import ADDED_KERNELS, LAUNCH
from grasp_jax.planning.stages import Job, Stage, dollars, named_device
from grasp_jax.planning.text_stages import shorter
from grasp_jax.planning.words import aligned, duration, money


def estimate_line(method: str, job: Job) -> str:
    """The assumptions of the estimates of a step."""
    work, dtype = job.work, job.config.model.dtype
    untimed = " No step with a loss over all items was timed on a GPU." if work.catalogue else ""
    if method in ADDED_KERNELS:
        untimed = " No step of this method was timed on a GPU."
    if dtype != "float32":
        untimed += f" config.model.dtype={dtype} is not counted: the plan is that of float32."
    return (
        "how a step is estimated: the longer of arithmetic and memory by the data sheet, plus communication, plus "
        f"{work.kernels:,} kernels of {1e6 * LAUNCH.seconds:.1f} microseconds; or the host's transfers if longer. The number of kernels is "
        "that of a step with two layers on one H100 (kernels-h100; of GRU4Rec by XLA: profile-gpu), the microseconds are those of an "
        f"operation of SASRec without text, measured on {LAUNCH.on} ({LAUNCH.record}). Several devices or several blocks of scores launch "
        f"more kernels, which is not counted. {measured_steps()}: where products are slower than the data sheet says, "
        f"more devices gain more than in this table.{untimed}"
    )


def job_lines(label: str, job: Job) -> list[str]:
    """The table of a whole job: times, dollars where prices are given, and where each figure is from."""
    plan, found = job.config.plan, list(stages(job))
    costs = [dollars(stage, plan) for stage in found]
    priced = any(costs)
    rows = [["", "work", "time", *(["dollars"] if priced else []), "on"]]
    for stage, cost in zip(found, costs, strict=True):
        time = "not counted" if stage.seconds is None else duration(stage.seconds)
        on = f"{stage.devices} x {named_device(plan)}" if stage.devices else stage.on
        rows.append([stage.name, stage.work, time, *([money(cost)] if priced else []), on])
    # The first epoch is one of all epochs.
    counted = [(s, c) for s, c in zip(found, costs, strict=True) if s.name != ONE_EPOCH]
    total = sum(stage.seconds or 0.0 for stage, _ in counted)
    paid = sum(cost or 0.0 for _, cost in counted)
    rows.append(["whole job", "", duration(total), *([money(paid)] if priced else []), ""])
    lines = [f"the whole job with {label} alone, from data to answers:", *aligned(rows)]
    lines += ["where the times are from:"]
    lines += [f"  {stage.name}: {stage.how}" for stage in found]
    left_out = [stage.name for stage, _ in counted if stage.seconds is None]
    if left_out:
        lines.append(f"not in the sum: {', '.join(left_out)}")
    longest = max((stage for stage, _ in counted), key=lambda stage: stage.seconds or 0.0)
    return [*lines, _longest_line(job, longest, total), *_price_lines(job)]


def _longest_line(job: Job, longest: Stage, total: float) -> str:
    """The stage that takes most of a job, and how to shorten it where that is known."""
    seconds = longest.seconds or 0.0
    line = f"the longest stage is {longest.name}: {duration(seconds)}, {seconds / max(total, 1e-9):.0%} of the whole job"
    return f"{line}; {ways}" if (ways := shorter(job, longest)) else line


def _price_lines(job: Job) -> list[str]:
    """How to have dollars printed, or all of them."""
    plan, knowledge = job.config.plan, job.config.knowledge
    missing = [
        f"config.plan.{name}" for name in ("device_price", "host_price") if not getattr(plan, name)
    ]
    lines = []
    if missing:
        lines.append(
            f"to see the cost of these times in dollars, set {' and '.join(missing)} (per hour)"
        )
    describe = knowledge.describe
    priced = knowledge.describer != "openai" or describe.price_prompt or describe.price_answer
    if job.work.width and not priced:
        lines.append(
            "to see the cost of the tokens in dollars, set config.knowledge.describe.price_prompt and price_answer "
            "(per million tokens)"
        )
    return lines
