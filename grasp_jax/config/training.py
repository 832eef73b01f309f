"""The sections `train` and `eval`, and `mesh`, `tables`, `recommend` and `plan`."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from grasp_jax.config.checks import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    FOLDER,
    HARDWARE,
    LARGEST_SEED,
    MOMENT,
    PRICE,
    SECONDS,
    SEED,
    SIZE,
    SIZE_OR_NONE,
    SWITCH,
    Choice,
    Numbers,
    Real,
    Whole,
)
from grasp_jax.config.fields import NOTHING, Section, field

LOSSES = ("bce", "softmax", "gbce", "ce")  # of `training.losses`


def _seeds(seeds: Sequence[float]) -> bool:
    different = bool(seeds) and len(set(seeds)) == len(seeds)
    return different and min(seeds) >= 0 and max(seeds) <= LARGEST_SEED


def _learning_rates(rates: Sequence[float]) -> bool:
    different = bool(rates) and len(set(rates)) == len(rates)
    return different and all(0 < rate < math.inf for rate in rates) and max(rates) <= 3e38


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """How models are trained."""

    SECTION: ClassVar[str] = "train"
    start_from: str = field(
        "",
        FOLDER,
        "Workdir of an earlier run of the same model; training starts from its best parameters.",
    )
    new_since: str = field(
        "",
        MOMENT,
        "With start_from: an epoch reads only users with a training interaction at or after this "
        "time (a date or seconds since 1970), and others by train.replay. Empty: all users.",
        before="",
    )
    replay: float = field(
        3.0,
        Real(0, 1e6),
        "With new_since: for each user with new interactions, an epoch reads this many others, "
        "drawn again for each epoch.",
        before=3.0,
    )
    seeds: tuple[int, ...] = field(
        (42,),
        Numbers(
            int,
            "(42,43,44)",
            f"one or more different whole numbers from 0 to {LARGEST_SEED}",
            _seeds,
        ),
        "One model is trained for each seed; results are means over the seeds.",
    )
    batch_size: int = field(128, Whole(1, 2**20), "B, the number of users per step.")
    learning_rate: tuple[float, ...] = field(
        (1e-3,),
        Numbers(
            float,
            "(1e-3,3e-3)",
            "one or more different positive numbers that a float32 holds",
            _learning_rates,
        ),
        "Learning rate of Adam. With several rates, each is trained with each dropout, and "
        "validation chooses.",
    )
    decay_epochs: int = field(
        0,
        Whole(0, 10**6),
        "Number of epochs over which learning rates fall linearly to 0, at least max_epochs; if "
        "it is larger, training ends before they reach 0. 0: constant learning rates.",
        before=0,
    )
    weight_decay: float = field(
        0.0,
        Real(0, 1000),
        "Decoupled weight decay of AdamW: each step subtracts learning rate x this share from "
        "each matrix and ID vector, but not from biases and norms. Above 0, a step updates the "
        "whole ID table.",
        before=0.0,
    )
    one_item_users: bool = field(
        False,
        SWITCH,
        "Whether backbones with a mask also train on users with one training item, which the mask"
        " alone then predicts.",
    )
    targets: str = field(
        "every",
        Choice("every", "last"),
        "Positions of a history that are targets of causal backbones.",
    )
    loss: str = field(
        "auto",
        Choice("auto", *LOSSES),
        "auto: the method's own loss | ce: cross-entropy over the whole catalogue | softmax: over"
        " negatives that a batch shares | bce | gbce.",
    )
    negatives: int = field(1, Whole(1, 2**20), "For bce: number of negatives per target.")
    shared_negatives: int = field(
        512, Whole(1, 2**24), "For softmax and gbce: number of negatives per batch."
    )
    negatives_drawn: str = field(
        "uniform",
        Choice("uniform", "popularity", "in_batch"),
        "For softmax: distribution of the negatives: uniform over the catalogue | popularity: in "
        "proportion to training interactions | in_batch: the targets of the batch, whatever their"
        " number.",
        before="uniform",
    )
    logq: str = field(
        "auto",
        Choice("auto", "on", "off"),
        "For softmax: whether the log of the expected number of draws of an item is subtracted "
        "from its score; auto: unless the negatives are uniform.",
        before="auto",
    )
    label_smoothing: float = field(
        0.0,
        BELOW_ONE,
        "For ce and softmax: share of the target that is spread over the other items or negatives.",
    )
    gbce_calibration: float = field(
        0.75, Real(0, 1, "a number from 0 to 1"), "For gbce: its parameter t."
    )
    max_epochs: int = field(
        200,
        Whole(0, 10**6),
        "Largest number of epochs; 0 keeps the parameters of train.start_from.",
    )
    epoch_steps: int = field(
        0,
        Whole(0, 10**9),
        "0: an epoch reads every user once. Above 0: an epoch ends, and is validated, after at "
        "most this many steps. Users are shuffled for each epoch.",
        before=0,
    )
    patience: int = field(
        20,
        Whole(1, 10**6),
        "Number of epochs without a better validation score after which training stops.",
    )
    steps_per_dispatch: int = field(
        512, Whole(1, 2**16), "Largest number of steps that a device gets at a time."
    )
    dispatch_seconds: float = field(
        0.0,
        Real(0, 1e9),
        "Largest amount of work, in seconds, that a device gets at a time, so that a run reacts "
        "to SIGTERM after about two of them; 0: always train.steps_per_dispatch steps.",
        NOTHING,
    )
    checkpoint_seconds: float = field(
        300.0,
        Real(0, 1e9),
        "Longest time between two checkpoints, in seconds. After an epoch a checkpoint is saved "
        "sooner, as long as saving takes at most a tenth of the time.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class EvalConfig(Section):
    """How models are validated and tested."""

    SECTION: ClassVar[str] = "eval"
    seed: int = field(42, SEED, "Random seed of the negatives and of the users that are drawn.")
    num_negatives: int = field(
        100, Whole(1, 2**24), "Number of items that the sampled protocol ranks with the target."
    )
    include_short_users: bool = field(
        False,
        SWITCH,
        "Whether users with two interactions, too few to hold two back, are evaluated too: on the item that they"
        " were trained on, as in LLM-ESR's code.",
    )
    full: bool = field(
        True, SWITCH, "Whether the whole catalogue is ranked too: protocols full and full_unseen."
    )
    select: str = field(
        "full",
        Choice("full", "full_unseen", "sampled100"),
        "Protocol of the NDCG@10 that validation uses: full: the whole catalogue | full_unseen: "
        "without items that the user has had, as in production | sampled100: as in the paper.",
        before="sampled100",
    )
    groups: str = field(
        "training",
        Choice("training", "paper"),
        "Definition of tail users and tail items: training: by training interactions | paper: as "
        "in LLM-ESR's code, by the users of an item over all splits and by the length of a test "
        "history.",
        before="training",
    )
    valid_users: int = field(
        0,
        COUNT_OR_NONE,
        "Number of users, drawn once, on which each epoch is validated; 0 for all.",
    )
    full_users: int = field(
        0,
        COUNT_OR_NONE,
        "Number of users, drawn once, on which the full ranking is measured; 0 for all.",
    )
    user_block: int = field(
        128, Whole(1, 2**20), "Number of users that are ranked at a time.", NOTHING
    )
    item_block: int = field(4096, COUNT, "Number of items that are scored at a time.", NOTHING)


@dataclasses.dataclass(frozen=True)
class MeshConfig(Section):
    """Several devices: `data` x `table` devices share each batch."""

    SECTION: ClassVar[str] = "mesh"
    data: int = field(
        1, SIZE, "Number of devices that share a batch; tables are not split along them.", NOTHING
    )
    table: int = field(
        1,
        SIZE,
        "Number of parts into which the item tables are split; these devices share the batch too.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class TablesConfig(Section):
    """Where the frozen tables are stored."""

    SECTION: ClassVar[str] = "tables"
    users: str = field(
        "device",
        Choice("device", "sharded", "host"),
        "device: a copy on each device | sharded: rows split over all devices | host: "
        "memory-mapped.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class RecommendConfig(Section):
    """Settings of --mode=recommend."""

    SECTION: ClassVar[str] = "recommend"
    top_n: int = field(10, Whole(1, 2**24), "Number of items per user.", NOTHING)
    exclude_seen: bool = field(
        True, SWITCH, "Whether items that the user has had are left out.", NOTHING
    )
    listed_only: bool = field(
        False,
        SWITCH,
        "Whether items of the log that the items table lacks, such as items that are no longer "
        "sold, are not recommended; histories still count them. Saved and exported models keep it.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class PlanConfig(Section):
    """Settings of --mode=plan; a number above 0 replaces the value from the device's data sheet."""

    SECTION: ClassVar[str] = "plan"
    device: str = field(
        "H100",
        Choice(
            "A100-80",
            "H100",
            "H200",
            "TPU-v5e",
            otherwise="for another device, name the nearest of them, and set config.plan.memory_gb, bandwidth_gb, tflops, link_gb, "
            "network_gb, host_gb and per_host",
        ),
        "A device that planning/devices.py knows; memory_gb to per_host describe another one.",
        NOTHING,
    )
    memory_gb: float = field(0.0, HARDWARE, "Memory of a device, in GB.", NOTHING)
    bandwidth_gb: float = field(
        0.0, HARDWARE, "Memory bandwidth of a device, in GB per second.", NOTHING
    )
    tflops: float = field(0.0, HARDWARE, "Speed of a device, in TFLOP per second.", NOTHING)
    link_gb: float = field(
        0.0, HARDWARE, "Bandwidth between devices of the same host, in GB per second.", NOTHING
    )
    network_gb: float = field(
        0.0, HARDWARE, "Bandwidth between devices of different hosts, in GB per second.", NOTHING
    )
    host_gb: float = field(
        0.0, HARDWARE, "Bandwidth from the host's memory, in GB per second.", NOTHING
    )
    per_host: int = field(0, SIZE_OR_NONE, "Number of devices per host.", NOTHING)
    device_price: float = field(
        0.0, PRICE, "Price per hour of a device, with its share of a host.", NOTHING
    )
    host_price: float = field(0.0, PRICE, "Price per hour of a host without devices.", NOTHING)
    prompt_tokens: int = field(
        300, COUNT, "Assumed number of tokens of a prompt or text, for language models.", NOTHING
    )
    answer_seconds: float = field(
        2.0, SECONDS, "Assumed time of an answer of a language model, in seconds.", NOTHING
    )
    texts_per_second: float = field(
        0.0,
        HARDWARE,
        "Measured speed of the text encoder, in texts per second; 0: unknown.",
        NOTHING,
    )
