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
from grasp_jax.data.packing import Packing, packing_of_lengths
from grasp_jax.data.split import make_split
from grasp_jax.data.synthetic import shop_lengths
from grasp_jax.knowledge.neighbours.retrieve import row_groups
from grasp_jax.models.methods import METHODS
from grasp_jax.planning.device_counts import compare_device_counts
from grasp_jax.planning.devices import DEVICES, Device
from grasp_jax.planning.job import epoch_steps
from grasp_jax.planning.job_lines import estimate_line, job_lines
from grasp_jax.planning.lowered import lowered_works
from grasp_jax.planning.methods import further_parts, item_vectors, refusal, validations_of_parts
from grasp_jax.planning.rates import ADDED_KERNELS, FUSED_KERNELS, KERNELS, TOWERS
from grasp_jax.planning.remedy import remedy
from grasp_jax.planning.stages import OVERRIDING, Job, named_device, overridden
from grasp_jax.planning.step import USABLE, smallest_layout
from grasp_jax.planning.storage import storage_lines
from grasp_jax.planning.words import conclusion, count_lines, method_lines
from grasp_jax.planning.workload import ItemVectors, Layout, Workload

SMALLEST = 1e-3  # of a number of a device, in the unit of its field; no device has less


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
            self._packings[batch_size] = packing_of_lengths(
                self.training[self.training > 1], batch_size
            )
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
        tested=0 if config.data.split == "none" else sizes.tested,
        user_block=config.eval.user_block,
        item_block=config.eval.item_block,
    )


def launched(config: Config, vectors: ItemVectors, devices: int) -> int:
    """Kernels of a step on one device, as counted for two layers and three towers; GRU4Rec's kernel is used on one GPU unless the config
    says otherwise. The config has one backbone.
    """
    backbone, kernels = config.model.backbone, config.kernels
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
    """The device of the data sheet, with the numbers of the config in place of its own where they are set.

    Raises:
      UserError: a number that no device has.
    """
    for name in (*OVERRIDING, "texts_per_second"):
        if 0 < (value := getattr(plan, name)) < SMALLEST:
            raise UserError(f"config.plan.{name}: {value:g}; expected 0, or at least {SMALLEST:g}")
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


def _source_of_device(plan: PlanConfig) -> str:
    """Where the numbers of the device are from."""
    unseen = "the devices of this machine do not matter."
    if not (given := overridden(plan)):
        return f"The plan is for this device of config.plan.device, by its data sheet; {unseen}"
    fields = ", ".join(f"config.plan.{name}" for name in given)
    return f"The plan is for a device that you describe: {fields}; its other numbers are those of {plan.device}; {unseen}"


def plan_lines(config: Config, width: int, doubt: str = "") -> list[str]:
    """A table for each method: the config's own layout and the smallest that fits.

    Args:
      config: of the run.
      width: E.
      doubt: a sentence if E is not known (`text_width`).
    """
    sizes, device = Sizes(config.data, config.knowledge), device_of(config.plan)
    lines = [
        f"{named_device(config.plan)}: {device.memory / 1e9:,.4g} GB, "
        f"{100 * USABLE:.0f} % of it used by the plan, {device.bandwidth / 1e9:,.4g} GB/s, {device.flops / 1e12:,.4g} TFLOP/s in products "
        f"of float32 (TF32 on a GPU); each device sends {device.link / 1e9:,.4g} GB/s to the {device.per_host} devices of its host and "
        f"{device.network / 1e9:,.4g} GB/s to other hosts, and gets {device.host / 1e9:,.4g} GB/s from its host's memory",
        _source_of_device(config.plan),
    ]
    if doubt and any(METHODS[method].needs_bank for method in names(config.model.method)):
        lines.append(doubt)
    several = len(names(config.model.backbone)) > 1
    for backbone in names(config.model.backbone):
        for method in names(config.model.method):
            trial = config.with_fields({"model.backbone": backbone})
            label = f"{method} on {backbone}" if several else method
            lines += ["", *_trial_lines(trial, sizes, width, method, label)]
    return lines


def _trial_lines(config: Config, sizes: Sizes, width: int, method: str, label: str) -> list[str]:
    """The tables of one method on one backbone."""
    own_config, device = config.for_method(method), device_of(config.plan)
    if why := refusal(own_config, method):
        return [f"{label}: {why}"]
    own = Layout(config.mesh.data, config.mesh.table, config.tables.users)
    work_of = functools.partial(workload, config, sizes, width, method)
    work = work_of(own.devices)
    accepts = functools.partial(is_taken, config, method)
    smallest = smallest_layout(work, device, accepts)
    layouts = {"as configured": own}
    if smallest is not None:
        layouts["smallest that fits"] = smallest
    lines = method_lines(label, work_of, layouts, device)
    if smallest is None:
        # the changes are not to be undone by what `by_method` says
        alone = own_config.with_fields({"by_method": {}})
        lowered = lowered_works(
            alone, width, lambda changed, e: workload(changed, sizes, e, method, own.devices)
        )
        lines.append(remedy(work, device, accepts, lowered))
    lines += storage_lines(own_config, work)
    job = Job(
        config=own_config,
        work=work,
        layout=own,
        device=device,
        trained=int((sizes.training > 1).sum()),
        tested=sizes.tested,
        group_pairs=sizes.group_pairs,
        fits_text=METHODS[method].fits_text(own_config.model),
        validations_of_parts=validations_of_parts(own_config, method),
    )
    found = compare_device_counts(work_of, own, device, accepts)
    if found:
        head = f"{label} with other numbers of devices, in the fastest mesh of each that fits, B={work.batch} as configured:"
        steps, price = epoch_steps(job), config.plan.device_price
        lines += ["", head, *count_lines(found, own, steps, price), conclusion(found, own)]
    return [*lines, estimate_line(method, job), "", *job_lines(label, job)]
