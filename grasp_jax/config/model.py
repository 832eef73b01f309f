"""The section `model`: what is trained."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from grasp_jax.config.checks import (
    BELOW_ONE,
    LAYERS,
    LENGTH,
    SIZE,
    SIZE_OR_NONE,
    SWITCH,
    TEXT,
    WEIGHT,
    Choice,
    Joined,
    Numbers,
    Real,
    Whole,
)
from grasp_jax.config.fields import NOTHING, Section, field

KERNELS = Choice("auto", "xla", "backbone", "pallas")
GATES = Choice("paper", "learned", "none", "softmax")
PARTS = ("id", "text", "company", "match")  # of late fusion
QUERIES = ("user", "neighbours", "history", "two_fold", "prefix")
QUERIES_BY_INTERACTION = ("two_fold", "prefix")


@dataclasses.dataclass(frozen=True)
class LlmEsrConfig(Section):
    """The method llm_esr."""

    SECTION: ClassVar[str] = "model.llm_esr"
    similar_users: int = field(
        10, SIZE, "Users with the nearest text whose states are distilled from."
    )
    alpha: float = field(0.1, WEIGHT, "Weight of the distillation loss, added to Eq. 6.")


@dataclasses.dataclass(frozen=True)
class PlusConfig(Section):
    """The method grasp_plus; configs/sweep.py:plus= changes one at a time."""

    SECTION: ClassVar[str] = "model.plus"
    fusion: str = field(
        "late",
        Choice("late", "early"),
        "late, towers with states of their own, of IDs and of text, whose scores are added | "
        "early, text vectors and ID vectors are added, before one backbone.",
        before="early",
    )
    id_towers: int = field(1, Whole(0, 8), "Of late fusion: ID towers.", before=1)
    text_towers: int = field(1, Whole(0, 8), "Of late fusion: text towers.", before=1)
    company_towers: int = field(
        1,
        Whole(0, 8),
        "Of late fusion: towers that read two texts of an item, its own and the mean of the items that "
        "users bought shortly before or after it.",
        before=1,
    )
    id_start: str = field(
        "random",
        Choice("random", "text"),
        "What the ID vectors of late fusion start from: random numbers | text, the principal components of the "
        "text vectors, as in llminit (start_components).",
        before="random",
    )
    text_dropout: float = field(
        0.3,
        BELOW_ONE,
        "Of late fusion: dropout rate of text towers and company towers; ID towers have model.dropout.",
        before=0.3,
    )
    text_whitening: float = field(
        0.5,
        Real(0, 1, "a number from 0 to 1"),
        "Of late fusion: each principal direction of the text vectors is divided by its standard "
        "deviation to this power; 1 is whitening, 0 changes nothing.",
        before=0.5,
    )
    text_trust: str = field(
        "full",
        Choice("learned", "full"),
        "Of late fusion: full, every text counts in full | learned, a text counts less if it is unlike "
        "the texts of the items that users bought shortly before or after.",
        before="full",
    )
    text_width: int = field(
        384,
        SIZE,
        "Of late fusion: towers read at most this many principal directions of the text vectors.",
        before=384,
    )
    text_norm: float = field(
        16.0,
        LENGTH,
        "Of late fusion: root mean square length of the text vectors that towers read.",
        before=16.0,
    )
    parts: str = field(
        "validated",
        Joined(("validated", "all"), PARTS),
        "Of late fusion: the parts whose scores are added, some of id, text, company and match, joined by +, such as "
        "id+text | all | validated, all but those without which validation is better, by more than two standard "
        "errors, when training has ended.",
        before="validated",  # of early fusion, which all earlier workdirs have, it says nothing
    )
    match_weight: float = field(
        5.0,
        Real(0, 1e6),
        "Of late fusion: weight of the cosine of an item's text with the texts of the history, which "
        "nobody trains; 0 leaves it out.",
        before=5.0,  # of early fusion, which all earlier workdirs have, it says nothing
    )
    match_rare: float = field(
        4.0,
        Real(0, 1e6),
        "Of late fusion: more weight for rare items: match_weight * (1 + match_rare * 3 / (n + 3)) for "
        "an item with n training interactions.",
        before=4.0,
    )
    match_decay: float = field(
        0.6,
        Real(0, 1, "a number from 0 to 1"),
        "Of late fusion: weight of each item of the history in that cosine, as a multiple of the next "
        "newer item's: 1 weighs all alike, 0 reads the newest alone.",
        before=0.6,
    )
    gate: str = field("none", GATES, "As model.gate.")
    row_norm: float = field(3.0, LENGTH, "As model.row_norm.")
    id_residual: bool = field(
        True, SWITCH, "Whether a trained vector of its own is added to each item's."
    )
    id_trust: float = field(
        100.0,
        Real(0, 1e9),
        "c of n / (n + c), by which the residual of an item with n interactions is multiplied; 0 "
        "trusts every ID fully.",
    )
    id_dropout: float = field(
        0.3, BELOW_ONE, "Share of the residuals that a training step leaves out."
    )


@dataclasses.dataclass(frozen=True)
class RlmRecConfig(Section):
    """The methods rlmrec_con and rlmrec_gen."""

    SECTION: ClassVar[str] = "model.rlmrec"
    con_weight: float = field(
        0.01, WEIGHT, "Weight of rlmrec_con's alignment loss, added to Eq. 6."
    )
    gen_weight: float = field(0.1, WEIGHT, "Weight of rlmrec_gen's alignment loss, added to Eq. 6.")
    temperature: float = field(
        0.2, Real(1e-6, 1e6), "By which cosines are divided in rlmrec_con's alignment."
    )
    gen_temperature: float = field(  # was 0.2, in another loss: workdirs of other methods go on
        0.5, Real(1e-6, 1e6), "By which cosines are divided in rlmrec_gen's alignment.", before=0.5
    )
    user_negatives: str = field(
        "batch",
        Choice("batch", "all"),
        "Whose texts rlmrec_con tells a user's own from: the users of the batch | all users, as "
        "its code does, at the price of all their texts in each step.",
        before="batch",
    )


@dataclasses.dataclass(frozen=True)
class SemanticNeighboursConfig(Section):
    """The method semantic_neighbours, of which nothing is trained."""

    SECTION: ClassVar[str] = "model.semantic_neighbours"
    decay: float = field(
        0.3,
        Real(0, 1, "a number from 0 to 1"),
        "Weight of an item of the history beside that of the item after it: 1 for their mean, 0 "
        "for the newest alone.",
        before=0.3,
    )


@dataclasses.dataclass(frozen=True)
class UniSRecConfig(Section):
    """The methods unisrec and unisrec_id."""

    SECTION: ClassVar[str] = "model.unisrec"
    experts: int = field(8, SIZE, "Experts of the adaptor.", before=8)
    adaptor_dropout: float = field(
        0.2,
        BELOW_ONE,
        "Share of the numbers of a text vector that the adaptor's training leaves out.",
        before=0.2,
    )
    cosine_temperature: float = field(
        0.07, Real(1e-6, 1e6), "By which the cosine of a state and an item is divided.", before=0.07
    )


def _widths(widths: Sequence[float]) -> bool:
    return all(1 <= width <= SIZE.high for width in widths) and len(widths) <= LAYERS.high


def _rates(rates: Sequence[float]) -> bool:
    return bool(rates) and all(0 <= rate < 1 for rate in rates)


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """Methods, backbones and their sizes."""

    SECTION: ClassVar[str] = "model"
    method: str = field(
        "grasp", TEXT, "One or several of models/methods, comma separated.", NOTHING, shared=True
    )
    backbone: str = field(
        "sasrec",
        TEXT,
        "One or several of sasrec, bert4rec, gru4rec; comma separated.",
        NOTHING,
        shared=True,
    )
    features: int = field(64, SIZE, "D, the width of item vectors and states.")
    mlp: tuple[int, ...] = field(
        (256,),
        Numbers(
            int,
            "(256,)",
            f"widths of hidden layers from 1 to {SIZE.high:,.15g}, or () for none, at most "
            f"{LAYERS.high} of them",
            _widths,
        ),
        "Widths of the hidden layers between text vectors and item vectors; () for a linear map.",
    )
    gate: str = field(
        "paper", GATES, "How much text a user takes in, Eq. 3: paper | learned | none | softmax."
    )
    gate_scale: float = field(
        1.0, LENGTH, "With gate=paper: factor of the logits, on top of 1 / sqrt(E)."
    )
    gate_query: str = field(
        "user",
        Choice(*QUERIES),
        "What gates ask with; user is as published: models/gate_queries.py.",
    )
    gate_dropout: float = field(
        0.0, BELOW_ONE, "Share of a training batch's pairs whose gate's logits are set to 0."
    )
    row_norm: float = field(1.0, LENGTH, "Length of frozen rows as they enter the MLP.")
    num_layers: int = field(2, LAYERS, "Layers of sasrec and bert4rec.")
    block: str = field(
        "sasrec",
        Choice("sasrec", "prenorm", "gpt"),
        "Layer of sasrec and bert4rec: sasrec | prenorm, with RMSNorm and SwiGLU | gpt, with LayerNorm "
        "before attention and before a GELU layer four times as wide.",
    )
    padded_length: int = field(
        0,
        SIZE_OR_NONE,
        "200 lets attention see the padding, and gru4rec run over it first, as LLM-ESR's code "
        "does; 0 pads nothing.",
    )
    gru_layers: int = field(1, LAYERS, "Layers of gru4rec.")
    start_token: bool = field(
        False, SWITCH, "Whether gru4rec reads a learned vector before each history."
    )
    mask_rate: float = field(
        0.6, Real(1e-6, 1, "a share above 0, at most 1"), "Share of a history that bert4rec hides."
    )
    mask_noise: float = field(
        0.0,
        Real(0, 0.5, "a share from 0 to 0.5, for it is taken twice"),
        "Of bert4rec: 0.1 shows a tenth of the hidden items as another, and a tenth as they are "
        "(BERT, LLM-ESR).",
    )
    start_components: str = field(
        "normalised",
        Choice("normalised", "raw"),
        "What the ID tables of llminit and llm_esr start from principal components of: normalised, "
        "the bank's rows | raw, the vectors that the encoder gave, as LLM-ESR's code does.",
        before="normalised",
    )
    llm_esr: LlmEsrConfig = LlmEsrConfig()
    plus: PlusConfig = PlusConfig()
    rlmrec: RlmRecConfig = RlmRecConfig()
    semantic_neighbours: SemanticNeighboursConfig = SemanticNeighboursConfig()
    unisrec: UniSRecConfig = UniSRecConfig()
    num_heads: int = field(1, SIZE, "Heads of attention, a divisor of D.")
    causal: bool = field(True, SWITCH, "Whether sasrec's states see the past alone.")
    dropout: tuple[float, ...] = field(
        (0.2,),
        Numbers(float, "(0.2,0.5)", "rates from 0 to below 1", _rates),
        "Share of activations that a training step leaves out; of several, all are trained and "
        "validation chooses.",
    )
    dtype: str = field(
        "float32", Choice("float32", "bfloat16"), "Type that matrix products are computed in."
    )
    table_dtype: str = field(
        "float32",
        Choice("float32", "float16", "bfloat16"),
        "Type of frozen tables on the device.",
        shared=True,
    )
    projection: str = field(
        "auto",
        Choice("auto", "token", "table"),
        "Whether a step projects the text of each token, or the whole table.",
    )
    kernels: str = field(
        "auto", KERNELS, "The config's own `kernels`, which it follows.", shared=True
    )
