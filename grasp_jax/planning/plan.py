"""`--mode=plan`: what a config needs of devices (`planning.step`) and what the whole job costs (`planning.job`), as lines of text.

Nothing is trained and no table is made.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config, DataConfig, KnowledgeConfig, PlanConfig, names
from grasp_jax.config_checks import check_config
from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import load_dataset
from grasp_jax.data.packing import Packing, plan_packing
from grasp_jax.data.split import Histories, make_split
from grasp_jax.data.synthetic import shop_lengths
from grasp_jax.knowledge.neighbours.retrieve import row_groups
from grasp_jax.models.methods import METHODS
from grasp_jax.planning.device_counts import compare_device_counts
from grasp_jax.planning.devices import DEVICES, Device
from grasp_jax.planning.job import ONE_EPOCH, epoch_steps, measured_steps, stages
from grasp_jax.planning.methods import further_parts, item_vectors, refusal, validations_of_parts
from grasp_jax.planning.rates import ADDED_KERNELS, FUSED_KERNELS, KERNELS, LAUNCH, TOWERS
from grasp_jax.planning.stages import Job, Stage, dollars
from grasp_jax.planning.step import USABLE, smallest_layout
from grasp_jax.planning.text_stages import shorter
from grasp_jax.planning.words import (
    aligned,
    conclusion,
    count_lines,
    duration,
    method_lines,
    money,
)
from grasp_jax.planning.workload import ItemVectors, Layout, Workload


class Sizes:
    """Sizes of the data: interactions of each user [N], in all and in training; V; validated and tested users; and pairs within groups."""

    def __init__(self, data: DataConfig, knowledge: KnowledgeConfig | None = None) -> None:
        knowledge = knowledge or KnowledgeConfig()
        columns = {"items": knowledge.group_column, "users": knowledge.user_group_column}
        self.group_pairs: dict[str, float | None] = {
            kind: math.nan if column else None for kind, column in columns.items()
        }
        if data.source == "synthetic" or (data.source == "auto" and not data.path):
            # The shop of the config itself, which making the data would scale to this machine.
            lengths = shop_lengths(
                data.synthetic.num_users,
                data.synthetic.mean_length,
                np.random.default_rng(data.synthetic.seed),
            )
            self.lengths, self.items = lengths, int(data.synthetic.num_items)
            self.training = np.minimum(lengths - 2, data.max_length + 1)
            self.evaluated = self.tested = len(lengths)
        else:
            dataset = load_dataset(data)
            split = make_split(data, dataset.log)
            for kind, field in (("items", "group_column"), ("users", "user_group_column")):
                groups = row_groups(getattr(dataset.texts, kind), field, columns[kind])
                if groups is not None:
                    self.group_pairs[kind] = float((np.bincount(groups).astype(float) ** 2).sum())
            self.tested = len(split.test.evaluated)
            self.lengths, self.items = split.log.lengths, split.log.num_items
            self.training, self.evaluated = split.train.lengths, len(split.valid.evaluated)
        self._packings: dict[int, Packing] = {}

    def packing(self, batch_size: int) -> Packing:
        """The rows of a batch on one device; computed once for each size."""
        if batch_size not in self._packings:
            count = len(self.training)
            histories = Histories(
                np.zeros_like(self.training), self.training, np.full(count, -1, np.int32)
            )
            users = np.flatnonzero(self.training > 1)
            self._packings[batch_size] = plan_packing(histories, users, batch_size)
        return self._packings[batch_size]


def workload(config: Config, sizes: Sizes, width: int, method: str, devices: int) -> Workload:
    """The sizes of a step of `method`, its rows rounded up to what so many devices share; `width` is E."""
    config = config.for_method(method)
    packing = sizes.packing(config.train.batch_size)
    with_text = METHODS[method].needs_bank
    loss = METHODS[method].loss_of(config)
    vectors = item_vectors(config, method, sizes.items, width)
    return Workload(
        users=len(sizes.lengths),
        items=sizes.items,
        interactions=int(sizes.lengths.sum()),
        evaluated=min(config.eval.valid_users or sizes.evaluated, sizes.evaluated),
        candidates=config.eval.num_negatives,
        width=width if with_text else 0,
        features=config.model.features,
        hidden=config.model.mlp[0] if config.model.mlp else config.model.features,
        layers=config.model.num_layers,
        table_bytes=jnp.dtype(config.model.table_dtype).itemsize,
        batch=packing.batch_size,
        rows=-(-packing.num_rows // devices) * devices,
        length=packing.row_length,
        pairs=packing.num_pairs,
        negatives=0 if loss == "ce" else config.train.negatives,
        vectors=vectors,
        catalogue=loss == "ce",
        gated=METHODS[method].gated(config.model),
        models=len(config.train.seeds)
        * len(config.train.learning_rate)
        * len(config.model.dropout),
        kernels=launched(config, vectors, devices) + ADDED_KERNELS.get(method, 0),
        further=further_parts(config, method, len(sizes.lengths), width),
    )


def launched(config: Config, vectors: ItemVectors, devices: int) -> int:
    """Kernels of a step on one device, as counted for two layers and three towers; GRU4Rec's kernel is used on one GPU unless the config
    says otherwise.
    """
    backbone, kernels = config.model.backbone.split(",")[0].strip(), config.kernels
    on_a_gpu = not config.plan.device.startswith("TPU")
    by_default = kernels == "auto" and backbone == "gru4rec" and on_a_gpu
    fused = devices == 1 and (kernels == "backbone" or by_default)  # a mesh of several refuses them
    counted = FUSED_KERNELS if fused else KERNELS
    if vectors.towers > 1:
        return counted[backbone]["grasp_plus"] * vectors.towers // TOWERS
    return counted[backbone]["grasp" if vectors.networks else "plain"]


def is_taken(config: Config, method: str, layout: Layout) -> bool:
    """Whether a run of a method accepts a layout: some settings need whole tables, or one device."""
    fields = {"mesh.data": layout.data, "mesh.table": layout.table, "tables.users": layout.users}
    try:
        check_config(config.with_fields({"model.method": method, **fields}))
    except UserError:
        return False
    return True


def device_of(plan: PlanConfig) -> Device:
    """The device of the data sheet, with the numbers of the config in place of its own where they are set."""
    given: dict[str, Any] = {"memory": plan.memory_gb * 1e9, "bandwidth": plan.bandwidth_gb * 1e9}
    given |= {"flops": plan.tflops * 1e12, "link": plan.link_gb * 1e9}
    given |= {
        "network": plan.network_gb * 1e9,
        "host": plan.host_gb * 1e9,
        "per_host": plan.per_host,
    }
    return DEVICES[plan.device]._replace(
        **{name: value for name, value in given.items() if value > 0}
    )


def plan_lines(config: Config, width: int, doubt: str = "") -> list[str]:
    """A table for each method: the config's own layout and the smallest that fits.

    Args:
      config: of the run.
      width: E.
      doubt: a sentence if E is not known (`text_width`).
    """
    sizes, device = Sizes(config.data, config.knowledge), device_of(config.plan)
    lines = [
        f"{config.plan.device}: {device.memory / 1e9:,.0f} GB, "
        f"{100 * USABLE:.0f} % of it used by the plan, {device.bandwidth / 1e9:,.0f} GB/s, {device.flops / 1e12:,.0f} TFLOP/s in products "
        f"of float32 (TF32 on a GPU); each device sends {device.link / 1e9:,.0f} GB/s to the {device.per_host} devices of its host and "
        f"{device.network / 1e9:,.0f} GB/s to other hosts, and gets {device.host / 1e9:,.0f} GB/s from its host's memory",
        "The plan is for this device of config.plan.device, by its data sheet; the devices of this machine are not looked at.",
    ]
    if doubt and any(METHODS[method].needs_bank for method in names(config.model.method)):
        lines.append(doubt)
    own = Layout(config.mesh.data, config.mesh.table, config.tables.users)
    for method in names(config.model.method):
        if why := refusal(config.for_method(method), method):
            lines += ["", f"{method}: {why}"]
            continue
        work_of = functools.partial(workload, config, sizes, width, method)
        work = work_of(own.devices)
        accepts = functools.partial(is_taken, config, method)
        smallest = smallest_layout(work, device, accepts)
        layouts = {"as configured": own} | (
            {} if smallest is None else {"smallest that fits": smallest}
        )
        lines += ["", *method_lines(method, work_of, layouts, device)]
        if smallest is None:
            lines.append(
                "no mesh of up to 256 devices holds it: lower config.train.batch_size or use a narrower table_dtype"
            )
        job = Job(
            config=config.for_method(method),
            work=work,
            layout=own,
            device=device,
            trained=int((sizes.training > 1).sum()),
            tested=sizes.tested,
            group_pairs=sizes.group_pairs,
            fits_text=METHODS[method].fits_text(config.for_method(method).model),
            validations_of_parts=validations_of_parts(config.for_method(method), method),
        )
        found = compare_device_counts(work_of, own, device, accepts)
        if found:
            head = f"{method} with other numbers of devices, in the fastest mesh of each that fits, B={work.batch} as configured:"
            steps, price = epoch_steps(job), config.plan.device_price
            lines += ["", head, *count_lines(found, own, steps, price), conclusion(found, own)]
        lines.append(_estimate_line(method, work))
        lines += ["", *_job_lines(method, job)]
    return lines


def _estimate_line(method: str, work: Workload) -> str:
    """The assumptions of the estimates of a step."""
    untimed = " No step with a loss over all items was timed on a GPU." if work.catalogue else ""
    if method in ADDED_KERNELS:
        untimed = " No step of this method was timed on a GPU."
    return (
        "how a step is estimated: the longer of arithmetic and memory by the data sheet, plus communication, plus "
        f"{work.kernels:,} kernels of {1e6 * LAUNCH.seconds:.1f} microseconds; or the host's transfers if longer. The kernels are "
        "those of a step with two layers on one H100 (kernels-h100; of GRU4Rec by XLA: profile-gpu), the microseconds those of an "
        f"operation of SASRec without text, measured on {LAUNCH.on} ({LAUNCH.record}). Several devices launch more kernels, and so do "
        f"several blocks of scores, which is not counted. {measured_steps()}: where products are slower than the data sheet says, "
        f"more devices gain more than in this table.{untimed}"
    )


def _job_lines(method: str, job: Job) -> list[str]:
    """The table of a whole job: times, dollars where prices are given, and where each figure is from."""
    plan, found = job.config.plan, list(stages(job))
    costs = [dollars(stage, plan) for stage in found]
    priced = any(costs)
    rows = [["", "work", "time", *(["dollars"] if priced else []), "on"]]
    for stage, cost in zip(found, costs, strict=True):
        time = "not counted" if stage.seconds is None else duration(stage.seconds)
        on = f"{stage.devices} x {plan.device}" if stage.devices else stage.on
        rows.append([stage.name, stage.work, time, *([money(cost)] if priced else []), on])
    # The first epoch is one of all epochs.
    counted = [(s, c) for s, c in zip(found, costs, strict=True) if s.name != ONE_EPOCH]
    total = sum(stage.seconds or 0.0 for stage, _ in counted)
    paid = sum(cost or 0.0 for _, cost in counted)
    rows.append(["whole job", "", duration(total), *([money(paid)] if priced else []), ""])
    lines = [f"the whole job with {method} alone, from data to answers:", *aligned(rows)]
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
            f"without prices no dollars are printed for times: set {' and '.join(missing)} (per hour)"
        )
    describe = knowledge.describe
    priced = knowledge.describer != "openai" or describe.price_prompt or describe.price_answer
    if job.work.width and not priced:
        lines.append(
            "without prices no dollars are printed for tokens: set config.knowledge.describe.price_prompt and price_answer "
            "(per million tokens)"
        )
    return lines
