"""The section `knowledge`: how texts are written, encoded and looked up."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

from grasp_jax.config.checks import (
    COUNT,
    FOLDER,
    INT32,
    NAME,
    SEED,
    SHARE,
    SIZE,
    SIZE_OR_NONE,
    SWITCH,
    TEXT,
    TEXTS,
    TINY,
    Choice,
    Numbers,
    Real,
    Whole,
)
from grasp_jax.config.fields import BANK, NOTHING, Section, field
from grasp_jax.config.text_models import DescribeConfig, EmbedConfig, LocalConfig, SentenceConfig


@dataclasses.dataclass(frozen=True)
class ReductionConfig(Section):
    """Fewer numbers for each vector than the encoder gives."""

    SECTION: ClassVar[str] = "knowledge.reduction"
    kind: str = field(
        "none",
        Choice("none", "truncate", "pca"),
        "none | truncate, for Matryoshka models | pca, fitted on items that training has.",
        BANK,
    )
    width: int = field(
        0, SIZE_OR_NONE, "Numbers that are left of each vector; 0 with the kind none.", BANK
    )


def _ascending(starts: Sequence[float]) -> bool:
    in_bounds = bool(starts) and starts[0] >= 1 and starts[-1] <= INT32
    return in_bounds and all(low < high for low, high in itertools.pairwise(starts))


@dataclasses.dataclass(frozen=True)
class AuditConfig(Section):
    """What --mode=audit looks at; it decides nothing else, so it may change between calls."""

    SECTION: ClassVar[str] = "knowledge.audit"
    history_groups: tuple[int, ...] = field(
        (1, 2, 3, 5, 10, 20, 50),
        Numbers(int, "(3,5,10,20)", "one or more lengths from 1, each above the last", _ascending),
        "Lengths of training histories (of items: purchases) at which groups begin.",
        NOTHING,
    )
    texts: int = field(
        2000, COUNT, "Texts of a group that are drawn and read for what costs time.", NOTHING
    )
    pairs: int = field(
        20_000, Whole(1, 10**8), "Random pairs of rows whose cosine is measured.", NOTHING
    )
    duplicate_cosine: float = field(
        0.95,
        Real(TINY, 1, "a cosine, at most 1"),
        "Cosine from which neighbours count as near-duplicates.",
        NOTHING,
    )
    category_column: str = field(
        "",
        TEXT,
        "Column of the items table; empty for group_column, or category, or categories.",
        NOTHING,
    )
    sheet_rows: int = field(
        20, Whole(1, 10**6), "Rows of each group in the sheet for raters.", NOTHING
    )
    seed: int = field(0, SEED, "Of what the audit draws.", NOTHING)


@dataclasses.dataclass(frozen=True)
class CorruptionConfig(Section):
    """Texts that are damaged on purpose, to see what a method makes of wrong knowledge."""

    SECTION: ClassVar[str] = "knowledge.corruption"
    kind: str = field(
        "none",
        Choice("none", "swap", "template", "drop"),
        "How texts are damaged: knowledge/corruption.py.",
        BANK,
    )
    share: float = field(
        0.0, SHARE, "Share of the items and of the users whose text is damaged.", BANK
    )
    seed: int = field(0, SEED, "Of the draw of those items and users.", BANK)


PERSONAL = (
    "name",
    "gender",
    "age",
    "birthplace",
    "zodiac",
    "province",
    "city",
    "phone",
    "school",
    "career",
    "education",
    "marital_status",
    "spending_power",
)


@dataclasses.dataclass(frozen=True)
class KnowledgeConfig(Section):
    """Where the knowledge bank is, and what it is made with."""

    SECTION: ClassVar[str] = "knowledge"
    path: str = field("", TEXT, "Folder of the bank; empty for WORKDIR/knowledge.", NOTHING)
    since: str = field(
        "",
        TEXT,
        "Folder of an earlier knowledge bank: rows of unchanged texts come from it; also --since.",
        NOTHING,
    )
    centre_from: str = field(
        "", FOLDER, "A bank whose centre is taken out of the rows, in place of their own.", BANK
    )
    describer: str = field(
        "template",
        Choice("template", "openai", "transformers"),
        "template, the filled template | openai, a chat endpoint answers it | transformers, a "
        "model folder does.",
        BANK,
    )
    describe: DescribeConfig = DescribeConfig()
    local: LocalConfig = LocalConfig()
    encoder: str = field(
        "lsa",
        TEXT,
        "What turns texts into vectors: lsa | tfidf_projection | sentence_transformers | openai, an "
        "embeddings endpoint | file, vectors that you bring | one of your own (docs/extending.md).",
        BANK,
    )
    sentence: SentenceConfig = SentenceConfig()
    embed: EmbedConfig = EmbedConfig()
    width: int = field(256, SIZE, "E of the encoders lsa and tfidf_projection.", BANK)
    seed: int = field(0, SEED, "Of the encoders lsa and tfidf_projection.", BANK)
    item_template: str = field(
        "listed_item", NAME, "Template of an item's text, by name or as a file.", BANK
    )
    user_template: str = field(
        "shopper_user", NAME, "Template of a user's text, by name or as a file.", BANK
    )
    text_columns: tuple[str, ...] = field(
        (),
        TEXTS,
        "Columns of the items table that {attributes} is made of; empty for its column of that "
        "name, or else all columns of text.",
        BANK,
    )
    personal_fields: tuple[str, ...] = field(
        PERSONAL,
        TEXTS,
        "Columns of the users table that stay on this machine and out of every text.",
        BANK,
    )
    share_personal_fields: tuple[str, ...] = field(
        (),
        TEXTS,
        "Those of them that may be told to the describer and the encoder after all.",
        BANK,
    )
    item_file: str = field("", TEXT, "Vectors of items, for the encoder file.", NOTHING)
    user_file: str = field("", TEXT, "Vectors of users, for the encoder file.", NOTHING)
    item_ids_file: str = field(
        "", TEXT, "Ids of the rows of item_file; empty if they are as the data's.", NOTHING
    )
    user_ids_file: str = field(
        "", TEXT, "Ids of the rows of user_file; empty if they are as the data's.", NOTHING
    )
    num_neighbours: int = field(
        10, SIZE, "K, the neighbours of a row whose mean is its second vector.", BANK
    )
    pooling: str = field(
        "mean",
        Choice("mean", "similarity"),
        "Of neighbours: mean (Eq. 2) | similarity, weighted by cosine.",
        BANK,
    )
    retrieval: str = field(
        "exact",
        Choice("exact", "clusters", "scann"),
        "How neighbours are searched: exact | clusters, a row among its nearest clusters | scann, by an index.",
        BANK,
    )
    group_column: str = field(
        "",
        TEXT,
        "Column of the items table whose value an item shares with its neighbours; empty for any.",
        BANK,
    )
    user_group_column: str = field(
        "",
        TEXT,
        "Column of the users table whose value a user shares with its neighbours; empty for any.",
        BANK,
    )
    exclude_copies: bool = field(
        False,
        SWITCH,
        "Whether rows with one and the same text are no neighbours of each other.",
        BANK,
    )
    min_recall: float = field(
        0.9,
        SHARE,
        "Share of the true neighbours that clusters and scann must find; they search as much as finds half of the rest too.",
        BANK,
        before=0.9,
    )
    recall_sample: int = field(1000, COUNT, "Rows on which that share is measured.", NOTHING)
    reduction: ReductionConfig = ReductionConfig()
    center: bool = field(
        True, SWITCH, "Whether the mean of the items is taken out of the vectors.", BANK
    )
    whiten: bool = field(
        False, SWITCH, "Whether vectors get the same variance along every direction of items.", BANK
    )
    dtype: str = field(
        "float32", Choice("float32", "float16", "bfloat16"), "Type of the tables on disk.", BANK
    )
    verify: bool = field(
        True, SWITCH, "Whether the tables' checksums are compared before they are used.", NOTHING
    )
    audit: AuditConfig = AuditConfig()
    corruption: CorruptionConfig = CorruptionConfig()
