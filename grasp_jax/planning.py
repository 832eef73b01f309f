"""`--mode=plan`: what a config needs of devices (`parallel.plan`) and what the whole job costs (`whole_job`), as lines of text.

Nothing is trained and no table is made.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config, DataConfig, KnowledgeConfig, PlanConfig, names
from grasp_jax.data.dataset import load_dataset
from grasp_jax.data.packing import plan_packing
from grasp_jax.data.split import Histories, make_split
from grasp_jax.data.synthetic import shop_lengths
from grasp_jax.knowledge.neighbours.retrieve import row_groups
from grasp_jax.models.methods import METHODS
from grasp_jax.parallel.plan import (
    DEVICES,
    USABLE,
    Device,
    Layout,
    Workload,
    sent_bytes,
    smallest_layout,
    step_bytes,
    step_seconds,
    table_bytes,
    total_bytes,
    total_seconds,
)
from grasp_jax.training.losses import SHARED
from grasp_jax.whole_job import ONE_EPOCH, Job, dollars, stages

PLANNED = (
    "plain",
    "grasp",
    "grasp_wo_attention",
    "grasp_wo_similar",
    "grasp_wo_global",
    "grasp_softmax",
    "sasrec_ce",
)


class Sizes:
    """Of the data: interactions of each user [N] in all and in training, V, users who are validated and tested, and pairs within groups."""

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


def workload(config: Config, sizes: Sizes, width: int, method: str, devices: int) -> Workload:
    """The sizes of a step of `method`, its rows rounded up to what so many devices share; `width` is E."""
    config = config.for_method(method)
    histories = Histories(
        np.zeros_like(sizes.training), sizes.training, np.full(len(sizes.training), -1, np.int32)
    )
    packing = plan_packing(
        histories, np.flatnonzero(sizes.training > 1), config.train.batch_size, shares=devices
    )
    with_text = METHODS[method].needs_bank
    loss = METHODS[method].loss_of(config)
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
        rows=packing.num_rows,
        length=packing.row_length,
        pairs=packing.num_pairs,
        negatives=0 if loss == "ce" else config.train.negatives,
        catalogue=loss == "ce",
        gated=METHODS[method].gated(config.model),
        models=len(config.train.seeds)
        * len(config.train.learning_rate)
        * len(config.model.dropout),
    )


def device_of(plan: PlanConfig) -> Device:
    """That of the data sheet, with the numbers of the config instead, where it has some."""
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


def plan_lines(config: Config, width: int) -> list[str]:
    """A table for each method: the config's own layout and the smallest that fits; `width` is E."""
    sizes, device = Sizes(config.data, config.knowledge), device_of(config.plan)
    lines = [
        f"{config.plan.device}: {device.memory / 1e9:,.0f} GB, {100 * USABLE:.0f} % of it used by the plan, "
        f"{device.bandwidth / 1e9:,.0f} GB/s, {device.flops / 1e12:,.0f} TFLOP/s, {device.link / 1e9:,.0f} GB/s between the "
        f"{device.per_host} devices of a host, {device.network / 1e9:,.0f} GB/s between hosts, {device.host / 1e9:,.0f} GB/s from the host"
    ]
    own = Layout(config.mesh.data, config.mesh.table, config.tables.users)
    for method in names(config.model.method):
        if method not in PLANNED:
            lines += ["", f"{method}: not planned; expected one of {', '.join(PLANNED)}"]
            continue
        loss = METHODS[method].loss_of(config.for_method(method))
        if loss in SHARED:
            why = f"not planned with the loss {loss!r}, whose negatives a batch shares"
            lines += ["", f"{method}: {why}; expected bce or ce"]
            continue
        work = workload(config, sizes, width, method, own.devices)
        smallest = smallest_layout(work, device)
        layouts = {"as configured": own} | (
            {} if smallest is None else {"smallest that fits": smallest}
        )
        lines += ["", *_method_lines(method, work, layouts, device)]
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
        )
        lines += ["", *_job_lines(method, job)]
    return lines


def _job_lines(method: str, job: Job) -> list[str]:
    """The table of a whole job: hours, dollars where prices are given, and where each figure is from."""
    plan, found = job.config.plan, list(stages(job))
    costs = [dollars(stage, plan) for stage in found]
    priced = any(costs)
    rows = [["", "work", "hours", *(["dollars"] if priced else []), "on"]]
    for stage, cost in zip(found, costs, strict=True):
        hours = "not counted" if stage.seconds is None else _hours(stage.seconds)
        on = f"{stage.devices} x {plan.device}" if stage.devices else stage.on
        rows.append([stage.name, stage.work, hours, *([_dollars(cost)] if priced else []), on])
    # The first epoch is one of all epochs.
    counted = [(s, c) for s, c in zip(found, costs, strict=True) if s.name != ONE_EPOCH]
    total = sum(stage.seconds or 0.0 for stage, _ in counted)
    paid = sum(cost or 0.0 for _, cost in counted)
    rows.append(["whole job", "", _hours(total), *([_dollars(paid)] if priced else []), ""])
    lines = [f"the whole job with {method} alone, from data to answers:", *_aligned(rows)]
    lines += ["where the hours are from:"]
    lines += [f"  {stage.name}: {stage.how}" for stage in found]
    left_out = [stage.name for stage, _ in counted if stage.seconds is None]
    if left_out:
        lines.append(f"not in the sum: {', '.join(left_out)}")
    return [*lines, *_price_lines(job)]


def _price_lines(job: Job) -> list[str]:
    """How to have dollars printed, or all of them."""
    plan, knowledge = job.config.plan, job.config.knowledge
    missing = [
        f"config.plan.{name}" for name in ("device_price", "host_price") if not getattr(plan, name)
    ]
    lines = []
    if missing:
        lines.append(
            f"without prices no dollars are printed for hours: set {' and '.join(missing)} (per hour)"
        )
    asked = knowledge.describe if knowledge.describer == "openai" else None
    if job.work.width and asked is not None and not (asked.price_prompt or asked.price_answer):
        lines.append(
            "without prices no dollars are printed for tokens: set config.knowledge.describe.price_prompt and price_answer "
            "(per million tokens)"
        )
    return lines


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.4f}"


def _dollars(cost: float | None) -> str:
    return "" if cost is None else f"{cost:,.2f}"


def _method_lines(
    method: str, work: Workload, layouts: dict[str, Layout], device: Device
) -> list[str]:
    each = list(layouts.values())
    rows = [
        ["mesh, data x table", *(f"{layout.data} x {layout.table}" for layout in each)],
        ["tables.users", *(layout.users for layout in each)],
        *_bytes("", [table_bytes(work, layout) for layout in each]),
        *_bytes("of a step: ", [step_bytes(work, layout) for layout in each]),
        ["memory of a device", *(_size(total_bytes(work, layout)) for layout in each)],
        [
            "fits",
            *(
                "yes" if total_bytes(work, layout) <= USABLE * device.memory else "no"
                for layout in each
            ),
        ],
        *_bytes("sent in a step: ", [sent_bytes(work, layout) for layout in each]),
        *_times([step_seconds(work, layout, device) for layout in each]),
    ]
    head = (
        f"{method}: {work.users:,} users, {work.items:,} items, {work.interactions:,} interactions, E={work.width}, D={work.features}, "
        f"H={work.hidden}, B={work.batch}, {work.rows} rows of {work.length}, {work.pairs:,} targets"
    )
    return [head, *_aligned([["", *layouts], *rows])]


def _bytes(prefix: str, columns: Sequence[dict[str, float]]) -> list[list[str]]:
    return [[prefix + name, *(_size(column[name]) for column in columns)] for name in columns[0]]


def _times(columns: Sequence[dict[str, float]]) -> list[list[str]]:
    parts = [
        [f"time of {name}", *(f"{1e3 * column[name]:.3f} ms" for column in columns)]
        for name in columns[0]
    ]
    return [
        *parts,
        ["whole step, at best", *(f"{1e3 * total_seconds(column):.3f} ms" for column in columns)],
    ]


def _size(count: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.2f} {unit}"
    return f"{count:.0f} B"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
