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
    """Reduces the width of the text vectors."""

    SECTION: ClassVar[str] = "knowledge.reduction"
    kind: str = field(
        "none",
        Choice("none", "truncate", "pca"),
        "none | truncate: for Matryoshka models | pca: fitted on items that are in training.",
        BANK,
    )
    width: int = field(0, SIZE_OR_NONE, "New width of each vector; 0 with kind=none.", BANK)


def _ascending(starts: Sequence[float]) -> bool:
    in_bounds = bool(starts) and starts[0] >= 1 and starts[-1] <= INT32
    return in_bounds and all(low < high for low, high in itertools.pairwise(starts))


@dataclasses.dataclass(frozen=True)
class AuditConfig(Section):
    """Settings of --mode=audit. They affect nothing else, so they may change between calls."""

    SECTION: ClassVar[str] = "knowledge.audit"
    history_groups: tuple[int, ...] = field(
        (1, 2, 3, 5, 10, 20, 50),
        Numbers(int, "(3,5,10,20)", "one or more lengths from 1, each above the last", _ascending),
        "Lengths of training histories (for items: numbers of purchases) at which groups begin.",
        NOTHING,
    )
    texts: int = field(
        2000, COUNT, "Number of texts per group that are drawn for slow measurements.", NOTHING
    )
    pairs: int = field(
        20_000, Whole(1, 10**8), "Number of random pairs of rows whose cosine is measured.", NOTHING
    )
    duplicate_cosine: float = field(
        0.95,
        Real(TINY, 1, "a cosine, at most 1"),
        "Neighbours with at least this cosine are near-duplicates.",
        NOTHING,
    )
    category_column: str = field(
        "",
        TEXT,
        "Column of categories in the items table; empty for group_column, category or categories.",
        NOTHING,
    )
    sheet_rows: int = field(
        20, Whole(1, 10**6), "Number of rows per group in the sheet for raters.", NOTHING
    )
    seed: int = field(0, SEED, "Random seed of the audit.", NOTHING)


@dataclasses.dataclass(frozen=True)
class CorruptionConfig(Section):
    """Damages texts on purpose, to measure how a method copes with wrong knowledge."""

    SECTION: ClassVar[str] = "knowledge.corruption"
    kind: str = field(
        "none",
        Choice("none", "swap", "template", "drop"),
        "How texts are damaged (knowledge/corruption.py).",
        BANK,
    )
    share: float = field(0.0, SHARE, "Share of items and users with a damaged text.", BANK)
    seed: int = field(0, SEED, "Random seed for the choice of these items and users.", BANK)


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
    """How the knowledge bank (text vectors and their neighbours) is made, and where it is."""

    SECTION: ClassVar[str] = "knowledge"
    path: str = field("", TEXT, "Folder of the bank; empty for WORKDIR/knowledge.", NOTHING)
    since: str = field(
        "",
        TEXT,
        "Folder of an earlier knowledge bank, from which vectors of unchanged texts are copied; "
        "also --since.",
        NOTHING,
    )
    centre_from: str = field(
        "",
        FOLDER,
        "A bank whose mean is subtracted from the vectors, instead of their own mean.",
        BANK,
    )
    describer: str = field(
        "template",
        Choice("template", "openai", "transformers"),
        "Source of the texts: template: the filled template | openai: a chat endpoint answers the"
        " template | transformers: a model in a folder answers it.",
        BANK,
    )
    describe: DescribeConfig = DescribeConfig()
    local: LocalConfig = LocalConfig()
    encoder: str = field(
        "lsa",
        TEXT,
        "Source of the text vectors: lsa | tfidf_projection | sentence_transformers | openai: an "
        "embeddings endpoint | file: your own vectors | an encoder of your own "
        "(docs/extending.md).",
        BANK,
    )
    sentence: SentenceConfig = SentenceConfig()
    embed: EmbedConfig = EmbedConfig()
    width: int = field(256, SIZE, "E, the width of the vectors of lsa and tfidf_projection.", BANK)
    seed: int = field(0, SEED, "Random seed of lsa and tfidf_projection.", BANK)
    item_template: str = field(
        "listed_item", NAME, "Template of the text of an item: a name or a file.", BANK
    )
    user_template: str = field(
        "shopper_user", NAME, "Template of the text of a user: a name or a file.", BANK
    )
    text_columns: tuple[str, ...] = field(
        (),
        TEXTS,
        "Columns of the items table that form {attributes}; empty for the column of that name or,"
        " without it, all text columns.",
        BANK,
    )
    personal_fields: tuple[str, ...] = field(
        PERSONAL,
        TEXTS,
        "Columns of the users table that are left out of every text and never leave this machine.",
        BANK,
    )
    share_personal_fields: tuple[str, ...] = field(
        (),
        TEXTS,
        "Personal fields that the describer and the encoder may get nevertheless.",
        BANK,
    )
    item_file: str = field("", TEXT, "File of item vectors, for the encoder file.", NOTHING)
    user_file: str = field("", TEXT, "File of user vectors, for the encoder file.", NOTHING)
    item_ids_file: str = field(
        "",
        TEXT,
        "Ids of the rows of item_file; empty if the rows have the order of the data.",
        NOTHING,
    )
    user_ids_file: str = field(
        "",
        TEXT,
        "Ids of the rows of user_file; empty if the rows have the order of the data.",
        NOTHING,
    )
    num_neighbours: int = field(
        10,
        SIZE,
        "K, the number of nearest neighbours whose mean is the second vector of a row.",
        BANK,
    )
    pooling: str = field(
        "mean",
        Choice("mean", "similarity"),
        "How the neighbours are averaged: mean (Eq. 2) | similarity: weighted by cosine.",
        BANK,
    )
    retrieval: str = field(
        "exact",
        Choice("exact", "clusters", "scann"),
        "Search for neighbours: exact | clusters: in the nearest clusters of a row | scann: with "
        "an index.",
        BANK,
    )
    group_column: str = field(
        "",
        TEXT,
        "Column of the items table; an item and its neighbours have the same value in it. Empty "
        "for no restriction.",
        BANK,
    )
    user_group_column: str = field(
        "",
        TEXT,
        "Column of the users table; a user and its neighbours have the same value in it. Empty "
        "for no restriction.",
        BANK,
    )
    exclude_copies: bool = field(
        False,
        SWITCH,
        "Whether rows with the same text are excluded as neighbours of each other.",
        BANK,
    )
    min_recall: float = field(
        0.9,
        SHARE,
        "Share of the true neighbours that clusters and scann must find; they aim at the middle "
        "between this and 1.",
        BANK,
        before=0.9,
    )
    recall_sample: int = field(
        1000, COUNT, "Number of rows on which the recall is measured.", NOTHING
    )
    reduction: ReductionConfig = ReductionConfig()
    center: bool = field(True, SWITCH, "Whether the mean of the item vectors is subtracted.", BANK)
    dtype: str = field(
        "float32",
        Choice("float32", "float16", "bfloat16"),
        "Number type of the tables on disk.",
        BANK,
    )
    verify: bool = field(
        True, SWITCH, "Whether the checksums of the tables are checked before use.", NOTHING
    )
    audit: AuditConfig = AuditConfig()
    corruption: CorruptionConfig = CorruptionConfig()
