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
        "Workdir of an earlier run of the same model, whose best parameters training starts from.",
    )
    seeds: tuple[int, ...] = field(
        (42,),
        Numbers(
            int,
            "(42,43,44)",
            f"one or more different whole numbers from 0 to {LARGEST_SEED}",
            _seeds,
        ),
        "A model is trained for each; results are their mean.",
    )
    batch_size: int = field(128, Whole(1, 2**20), "B, the users of a step.")
    learning_rate: tuple[float, ...] = field(
        (1e-3,),
        Numbers(
            float,
            "(1e-3,3e-3)",
            "one or more different positive numbers that a float32 holds",
            _learning_rates,
        ),
        "Of Adam. Of several, each is trained with each dropout, and validation chooses.",
    )
    decay_epochs: int = field(
        0,
        Whole(0, 10**6),
        "Epochs over which learning rates fall linearly to 0, max_epochs or more; with more, training "
        "ends before they reach 0. 0: they are constant.",
        before=0,
    )
    weight_decay: float = field(
        0.0,
        Real(0, 1000),
        "Of AdamW, decoupled: of each matrix and ID vector, learning rate x this share is taken off "
        "in a step; not of biases and norms. Above 0 a step updates the whole ID table.",
        before=0.0,
    )
    one_item_users: bool = field(
        False,
        SWITCH,
        "Whether backbones with a mask also train on users with one training item: the mask alone "
        "predicts it.",
    )
    targets: str = field(
        "every",
        Choice("every", "last"),
        "Positions of a history that causal backbones are trained on.",
    )
    loss: str = field(
        "auto",
        Choice("auto", "bce", "softmax", "gbce", "ce"),
        "auto is the method's own | ce, cross-entropy over the whole catalogue | softmax, over "
        "negatives that a batch shares.",
    )
    towers: str = field(
        "each",
        Choice("each", "sum", "both"),
        "Of ce and softmax, where a method's score is a sum of several products (towers): the sum "
        "of the losses of each | the loss of the summed score | both.",
        before="each",
    )
    negatives: int = field(1, Whole(1, 2**20), "Of bce: negatives that each target draws.")
    shared_negatives: int = field(
        512, Whole(1, 2**24), "Of softmax and gbce: negatives that a batch draws."
    )
    negatives_drawn: str = field(
        "uniform",
        Choice("uniform", "popularity", "in_batch"),
        "Of softmax: how its negatives are drawn: uniform over the catalogue | popularity, as often "
        "as they occur in training | in_batch, the targets of the batch, whatever their number.",
        before="uniform",
    )
    logq: str = field(
        "auto",
        Choice("auto", "on", "off"),
        "Of softmax: whether the log of how often an item is expected among the negatives is taken "
        "off its score; auto: unless they are uniform.",
        before="auto",
    )
    label_smoothing: float = field(
        0.0,
        BELOW_ONE,
        "Of ce and softmax: share of the target that is spread over the other items or negatives.",
    )
    gbce_calibration: float = field(0.75, Real(0, 1, "a number from 0 to 1"), "t of gbce.")
    max_epochs: int = field(
        200, Whole(0, 10**6), "Epochs, at most; 0 keeps the parameters of train.start_from."
    )
    epoch_steps: int = field(
        0,
        Whole(0, 10**9),
        "0: an epoch reads every user once. Above 0: an epoch ends, and is validated, after so many "
        "steps at most. Users are shuffled for each epoch.",
        before=0,
    )
    patience: int = field(
        20, Whole(1, 10**6), "Epochs without a better validation after which training stops."
    )
    steps_per_dispatch: int = field(
        512, Whole(1, 2**16), "Steps that a device is given at a time, at most."
    )
    dispatch_seconds: float = field(
        0.0,
        Real(0, 1e9),
        "Seconds of work that a device is given at a time, at most, so that SIGTERM is answered "
        "after about two of them; 0: always train.steps_per_dispatch steps.",
        NOTHING,
    )
    checkpoint_seconds: float = field(
        300.0,
        Real(0, 1e9),
        "Seconds between saves, at most; after an epoch sooner, if saving takes up to a tenth of "
        "the time.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class EvalConfig(Section):
    """How models are validated and tested."""

    SECTION: ClassVar[str] = "eval"
    seed: int = field(42, SEED, "Of the negatives and of the users that are drawn.")
    num_negatives: int = field(
        100, Whole(1, 2**24), "Items that the target is ranked among, in the sampled protocol."
    )
    include_short_users: bool = field(
        False, SWITCH, "Whether users whose history is too short to train on are evaluated too."
    )
    full: bool = field(
        True, SWITCH, "Whether the whole catalogue is ranked, too: protocols full and full_unseen."
    )
    select: str = field(
        "full",
        Choice("full", "full_unseen", "sampled100"),
        "Protocol whose NDCG@10 validation chooses by: full, the whole catalogue | full_unseen, "
        "the same without what the user has had, as it is served | sampled100, the paper's.",
        before="sampled100",
    )
    groups: str = field(
        "training",
        Choice("training", "paper"),
        "What makes users and items tail: training, their training interactions | paper, as the "
        "code of LLM-ESR: an item's users over all splits, and the length of a test history.",
        before="training",
    )
    valid_users: int = field(
        0, COUNT_OR_NONE, "Users, drawn once, on which an epoch is validated; 0 for all."
    )
    full_users: int = field(
        0, COUNT_OR_NONE, "Users, drawn once, on which the full ranking is measured; 0 for all."
    )
    user_block: int = field(128, Whole(1, 2**20), "Users that are ranked at a time.", NOTHING)
    item_block: int = field(4096, COUNT, "Items that are scored at a time.", NOTHING)


@dataclasses.dataclass(frozen=True)
class MeshConfig(Section):
    """Devices: `data` x `table` share out each batch."""

    SECTION: ClassVar[str] = "mesh"
    data: int = field(1, SIZE, "Devices along which only batches are cut.", NOTHING)
    table: int = field(1, SIZE, "Parts into which the item tables are cut, too.", NOTHING)


@dataclasses.dataclass(frozen=True)
class TablesConfig(Section):
    """Where frozen tables lie."""

    SECTION: ClassVar[str] = "tables"
    users: str = field(
        "device",
        Choice("device", "sharded", "host"),
        "device, a copy on each | sharded, rows over all devices | host, memory-mapped.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class RecommendConfig(Section):
    """--mode=recommend."""

    SECTION: ClassVar[str] = "recommend"
    top_n: int = field(10, Whole(1, 2**24), "Items that a user is given.", NOTHING)
    exclude_seen: bool = field(True, SWITCH, "Whether what the user has had is left out.", NOTHING)


@dataclasses.dataclass(frozen=True)
class PlanConfig(Section):
    """--mode=plan; a number above 0 stands for the data sheet's."""

    SECTION: ClassVar[str] = "plan"
    device: str = field(
        "H100",
        Choice("A100-80", "H100", "H200", "TPU-v5e"),
        "A device of parallel/plan.py.",
        NOTHING,
    )
    memory_gb: float = field(0.0, HARDWARE, "Memory of a device, in GB.", NOTHING)
    bandwidth_gb: float = field(0.0, HARDWARE, "Its bandwidth, in GB a second.", NOTHING)
    tflops: float = field(0.0, HARDWARE, "Its TFLOP a second.", NOTHING)
    link_gb: float = field(0.0, HARDWARE, "GB a second to devices of the same host.", NOTHING)
    network_gb: float = field(0.0, HARDWARE, "GB a second to devices of other hosts.", NOTHING)
    host_gb: float = field(0.0, HARDWARE, "GB a second from the host's memory.", NOTHING)
    per_host: int = field(0, SIZE_OR_NONE, "Devices of a host.", NOTHING)
    device_price: float = field(
        0.0, PRICE, "Price of an hour of a device, with its share of a host.", NOTHING
    )
    host_price: float = field(0.0, PRICE, "Price of an hour of a host without devices.", NOTHING)
    prompt_tokens: int = field(
        300, COUNT, "Tokens of a prompt or text, an assumption for language models.", NOTHING
    )
    answer_seconds: float = field(
        2.0, SECONDS, "Seconds until a language model has answered, an assumption.", NOTHING
    )
    texts_per_second: float = field(
        0.0, HARDWARE, "Texts that the encoder was seen to encode in a second; 0: unknown.", NOTHING
    )
