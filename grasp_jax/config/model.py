"""The section `model`: what is trained."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from grasp_jax.config.checks import (
    BELOW_ONE,
    DIFFERENT_RATES,
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

KERNELS = Choice("auto", "xla", "backbone")
GATES = Choice("paper", "learned", "none", "softmax")
ID_PART, TEXT_PART, COMPANY_PART, MATCH_PART = "id", "text", "company", "match"
PARTS = (ID_PART, TEXT_PART, COMPANY_PART, MATCH_PART)  # of late fusion
QUERIES = ("user", "neighbours", "history", "two_fold", "prefix")
QUERIES_OF_BANK = ("user", "neighbours")  # whose vectors are rows of the knowledge bank
QUERIES_BY_INTERACTION = ("two_fold", "prefix")


@dataclasses.dataclass(frozen=True)
class LlmEsrConfig(Section):
    """The method llm_esr."""

    SECTION: ClassVar[str] = "model.llm_esr"
    similar_users: int = field(
        10, SIZE, "Number of users with the nearest texts whose states are distilled."
    )
    alpha: float = field(0.1, WEIGHT, "Weight of the distillation loss, added to Eq. 6.")


@dataclasses.dataclass(frozen=True)
class PlusConfig(Section):
    """The method grasp_plus. The field fusion decides which fields are used; configs/sweep.py:plus= changes one part at a time."""

    SECTION: ClassVar[str] = "model.plus"
    fusion: str = field(
        "late",
        Choice("late", "early"),
        "late: ID towers and text towers have their own states, and their scores are added | "
        "early: text vectors and ID vectors are added before one backbone.",
        before="early",
    )
    id_towers: int = field(1, Whole(0, 8), "Late fusion: number of ID towers.", before=1)
    text_towers: int = field(1, Whole(0, 8), "Late fusion: number of text towers.", before=1)
    company_towers: int = field(
        1,
        Whole(0, 8),
        "Late fusion: number of company towers, which read an item's own text and the mean text "
        "of the items that users bought shortly before or after it.",
        before=1,
    )
    id_start: str = field(
        "text",
        Choice("random", "text"),
        "Late fusion: start values of the ID vectors: random | text: the principal components of "
        "the text vectors, as in llminit (start_components); if there are fewer than D, the other columns start at random.",
        before="random",
    )
    text_dropout: float = field(
        0.3,
        BELOW_ONE,
        "Late fusion: dropout rate of text towers and company towers; ID towers use model.dropout.",
        before=0.3,
    )
    text_whitening: float = field(
        0.5,
        Real(0, 1, "a number from 0 to 1"),
        "Late fusion: each principal direction of the text vectors is divided by its standard "
        "deviation to this power; 1 whitens fully, 0 changes nothing.",
        before=0.5,
    )
    text_trust: str = field(
        "full",
        Choice("learned", "full"),
        "Late fusion: full: every text has full weight | learned: a text has less weight if it "
        "differs from the texts of the items that users bought shortly before or after.",
        before="full",
    )
    text_width: int = field(
        384,
        SIZE,
        "Late fusion: largest number of principal directions of the text vectors that towers read.",
        before=384,
    )
    text_norm: float = field(
        16.0,
        LENGTH,
        "Late fusion: root mean square length of the text vectors that towers read.",
        before=16.0,
    )
    parts: str = field(
        "validated",
        Joined(("validated", "all"), PARTS),
        "Late fusion: the parts whose scores are added: some of id, text, company and match, "
        "joined by +, such as id+text | all | validated: after 5, 10, ... epochs without a better score, when "
        "patience ends, and after training, a part is dropped, or the match gets 0.5 or 0.25 of its weight, if "
        "validation is better so by more than two standard errors; if the newest model is then better than that "
        "of the best epoch, it takes its place.",
        before="validated",  # of early fusion, which all earlier workdirs have, it says nothing
    )
    match_weight: float = field(
        4.0,
        Real(0, 1e6),
        "Late fusion: weight of the match, the untrained cosine of an item's text with the texts "
        "of the history; 0: no match.",
        before=5.0,  # of early fusion, which all earlier workdirs have, it says nothing
    )
    match_rare: float = field(
        4.0,
        Real(0, 1e6),
        "Late fusion: additional weight of the match for rare items: match_weight * (1 + "
        "match_rare * 3 / (n + 3)) for an item with n training interactions.",
        before=4.0,
    )
    match_new: float = field(
        1.0,
        Real(0, 1e6),
        "Late fusion: factor of the weight of the match for items that are added after training "
        "(add_items). Above 1, more new items are recommended and known items get lower ranks.",
        NOTHING,  # of what is trained
        before=1.0,
    )
    match_decay: float = field(
        0.8,
        Real(0, 1, "a number from 0 to 1"),
        "Late fusion: weight in the match of each item of the history, relative to the next newer"
        " item: 1 gives equal weights, 0 uses only the newest item.",
        before=0.6,
    )
    gate: str = field("none", GATES, "Early fusion: as model.gate.")
    row_norm: float = field(3.0, LENGTH, "Early fusion: as model.row_norm.")
    id_residual: bool = field(
        True,
        SWITCH,
        "Early fusion: whether a trained ID vector is added to the text vector of each item.",
    )
    id_trust: float = field(
        100.0,
        Real(0, 1e9),
        "Early fusion: c in n / (n + c), the weight of the ID vector of an item with n "
        "interactions; 0 gives every ID full weight.",
    )
    id_dropout: float = field(
        0.3, BELOW_ONE, "Early fusion: share of the ID vectors that a training step leaves out."
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
        0.2, Real(1e-6, 1e6), "Temperature: divisor of the cosines in rlmrec_con's alignment."
    )
    # was 0.2, in another loss: workdirs of other methods remain valid
    gen_temperature: float = field(
        0.5,
        Real(1e-6, 1e6),
        "Temperature: divisor of the cosines in rlmrec_gen's alignment.",
        before=0.5,
    )
    user_negatives: str = field(
        "batch",
        Choice("batch", "all"),
        "Users whose texts are the negatives of a user's own text in rlmrec_con: batch: the users"
        " of the batch | all: all users, as in its code, which needs all their texts in each "
        "step.",
        before="batch",
    )


@dataclasses.dataclass(frozen=True)
class SemanticNeighboursConfig(Section):
    """The method semantic_neighbours, which is not trained."""

    SECTION: ClassVar[str] = "model.semantic_neighbours"
    decay: float = field(
        0.3,
        Real(0, 1, "a number from 0 to 1"),
        "Weight of an item of the history, relative to the next newer item: 1 for the plain mean,"
        " 0 for the newest item alone.",
        before=0.3,
    )


@dataclasses.dataclass(frozen=True)
class UniSRecConfig(Section):
    """The methods unisrec and unisrec_id."""

    SECTION: ClassVar[str] = "model.unisrec"
    experts: int = field(8, SIZE, "Number of experts of the adaptor.", before=8)
    adaptor_dropout: float = field(
        0.2,
        BELOW_ONE,
        "Dropout rate of the text vectors in the adaptor.",
        before=0.2,
    )
    cosine_temperature: float = field(
        0.07,
        Real(1e-6, 1e6),
        "Temperature: divisor of the cosine of a state and an item.",
        before=0.07,
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
        "grasp",
        TEXT,
        "Names of methods, separated by commas; each has its own results in a workdir.",
        NOTHING,
        shared=True,
    )
    backbone: str = field(
        "sasrec",
        TEXT,
        "One or several of sasrec, bert4rec, gru4rec, separated by commas; each has its own results in a workdir.",
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
        "paper",
        GATES,
        "Form of the gate between user and item, Eq. 3: paper | learned | none | softmax.",
    )
    gate_scale: float = field(
        1.0, LENGTH, "With gate=paper: factor of the logits, in addition to 1 / sqrt(E)."
    )
    gate_query: str = field(
        "user",
        Choice(*QUERIES),
        "Text or vectors that represent the user in the gates (models/gate_queries.py); user is "
        "as published.",
    )
    row_norm: float = field(1.0, LENGTH, "Length of the frozen rows as input of the MLP.")
    num_layers: int = field(2, LAYERS, "Number of layers of sasrec and bert4rec.")
    block: str = field(
        "sasrec",
        Choice("sasrec", "prenorm", otherwise="gpt is gone; its replacement is prenorm"),
        "Form of a layer of sasrec and bert4rec: sasrec | prenorm: with RMSNorm and SwiGLU.",
    )
    padded_length: int = field(
        0,
        SIZE_OR_NONE,
        "200: attention sees padding, and gru4rec runs over padding first, as in LLM-ESR's code; "
        "0: no padding.",
    )
    gru_layers: int = field(1, LAYERS, "Number of layers of gru4rec.")
    start_token: bool = field(
        False, SWITCH, "Whether gru4rec reads a learned vector before each history."
    )
    mask_rate: float = field(
        0.6, Real(1e-6, 1, "a share above 0, at most 1"), "Share of a history that bert4rec masks."
    )
    mask_noise: float = field(
        0.0,
        Real(0, 0.5, "a share from 0 to 0.5, because it is taken twice"),
        "For bert4rec: with 0.1, a tenth of the masked items is replaced by random items, and a "
        "tenth is left as it is (BERT, LLM-ESR).",
    )
    start_components: str = field(
        "normalised",
        Choice("normalised", "raw"),
        "Vectors whose principal components start the ID tables of llminit and llm_esr: "
        "normalised: the rows of the bank | raw: the original vectors of the encoder, as in "
        "LLM-ESR's code.",
        before="normalised",
    )
    llm_esr: LlmEsrConfig = LlmEsrConfig()
    plus: PlusConfig = PlusConfig()
    rlmrec: RlmRecConfig = RlmRecConfig()
    semantic_neighbours: SemanticNeighboursConfig = SemanticNeighboursConfig()
    unisrec: UniSRecConfig = UniSRecConfig()
    num_heads: int = field(1, SIZE, "Number of attention heads, a divisor of D.")
    causal: bool = field(True, SWITCH, "Whether states of sasrec see only the past.")
    dropout: tuple[float, ...] = field(
        (0.2,),
        Numbers(float, "(0.2,0.5)", DIFFERENT_RATES, _rates),
        "Dropout rate of activations. With several rates all are trained, and validation chooses.",
    )
    dtype: str = field("float32", Choice("float32", "bfloat16"), "Number type of matrix products.")
    table_dtype: str = field(
        "float32",
        Choice("float32", "float16", "bfloat16"),
        "Number type of frozen tables on the device.",
        shared=True,
    )
    projection: str = field(
        "auto",
        Choice("auto", "token", "table"),
        "Whether a step projects the text of each token or the whole table.",
    )
    kernels: str = field(
        "auto", KERNELS, "Follows the field `kernels` of the whole config.", shared=True
    )
