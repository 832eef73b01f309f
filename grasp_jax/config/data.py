"""The section `data`: where interactions and attributes come from, and how they are split."""

import dataclasses
import math
from typing import ClassVar

from grasp_jax.config.checks import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    MOMENT,
    NAME,
    SEED,
    SHARE,
    SIZE,
    SWITCH,
    TEXT,
    Choice,
    Real,
    Whole,
)
from grasp_jax.config.fields import NOTHING, Section, field

SOURCES = ("files", "synthetic", "amazon")
AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class ColumnsConfig(Section):
    """What the columns of the interaction file are called."""

    SECTION: ClassVar[str] = "data.columns"
    user: str = field("user", NAME, "Column of users' ids.", NOTHING)
    item: str = field("item", NAME, "Column of items' ids.", NOTHING)
    timestamp: str = field(
        "timestamp", TEXT, "Column of times; empty takes rows as they stand.", NOTHING
    )
    rating: str = field(
        "rating", TEXT, "Column of ratings, which only data.min_rating reads.", NOTHING
    )


@dataclasses.dataclass(frozen=True)
class SyntheticConfig(Section):
    """The synthetic shop."""

    SECTION: ClassVar[str] = "data.synthetic"
    num_users: int = field(3000, Whole(2, 10**8), "N, its users.")
    num_items: int = field(1500, Whole(100, 10**8), "V, its items.")
    mean_length: float = field(
        9.0,
        Real(math.nextafter(3, 4), 50, "a mean above 3, at most 50"),
        "Mean number of a user's interactions.",
    )
    repeat_rate: float = field(0.1, BELOW_ONE, "Share of purchases that the user has made before.")
    corrupted_share: float = field(0.0, SHARE, "Share of the texts that describe something else.")
    seed: int = field(0, SEED, "Of all that is drawn for the shop.")
    bytes_per_row: int = field(
        0,
        COUNT_OR_NONE,
        "Above 0, users and items are scaled so that rows of so many bytes fit the memory at hand.",
    )
    cpu_items: int = field(
        32_768,
        COUNT,
        "Items that such scaling leaves on a CPU, at most, for neighbours cost their square.",
    )


@dataclasses.dataclass(frozen=True)
class AmazonConfig(Section):
    """Raw Amazon review dumps."""

    SECTION: ClassVar[str] = "data.amazon"
    category: str = field("Beauty", NAME, "Category, as in the names of the files.")
    min_user_interactions: int = field(
        5, COUNT_OR_NONE, "Users with fewer interactions are left out."
    )
    min_item_interactions: int = field(
        5, COUNT_OR_NONE, "Items with fewer interactions are left out."
    )
    iterative: bool = field(
        True, SWITCH, "Whether both are applied until nothing more is left out."
    )
    require_title: bool = field(True, SWITCH, "Whether items without a title are left out.")
    deduplicate: bool = field(
        True, SWITCH, "Whether a user's repeated reviews of an item count once."
    )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Interactions and the attributes of items and users."""

    SECTION: ClassVar[str] = "data"
    name: str = field("dataset", NAME, "What tables and files call the data.")
    source: str = field(
        "files",
        Choice(*SOURCES, AUTO),
        "files | synthetic | amazon | auto: files if a path is given, else the synthetic shop.",
    )
    path: str = field(
        "",
        TEXT,
        "A folder or an interaction file; for amazon the folder of the raw dumps.",
        NOTHING,
    )
    interactions_file: str = field(
        "",
        TEXT,
        "File in that folder; empty for inter.txt, inter_time.tsv, interactions.*.",
        NOTHING,
    )
    items_file: str = field("", TEXT, "Table of items in that folder; empty for none.", NOTHING)
    columns: ColumnsConfig = ColumnsConfig()
    items_id_column: str = field("item", NAME, "Column of ids in the items table.", NOTHING)
    title_column: str = field(
        "title",
        NAME,
        "Column of titles in the items table; templates call it title whatever its name.",
    )
    max_missing_text: float = field(
        0.05, SHARE, "Share of the items that the items table may lack; they have an empty text."
    )
    users_file: str = field(
        "", TEXT, "Table of users' attributes in that folder; empty for none.", NOTHING
    )
    users_id_column: str = field("user", NAME, "Column of ids in the users table.", NOTHING)
    min_rating: float = field(
        0.0,
        Real(0, 1e9),
        "Rows with a lower rating are not trained on, and their items still count as seen.",
    )
    ties: str = field(
        "file",
        Choice("file", "shuffle"),
        "Order of a user's interactions at the same time: file, as they stand | shuffle, random by "
        "user, item and data.ties_seed.",
        before="file",
    )
    ties_seed: int = field(0, SEED, "Of data.ties=shuffle.", before=0)
    max_length: int = field(
        100, SIZE, "L, the newest interactions of a history that a model reads."
    )
    split: str = field(
        "leave_one_out",
        Choice("leave_one_out", "time", "none"),
        "leave_one_out: validation and test are each user's last two interactions | time: they "
        "are what comes after two points in time | none: everything is trained on.",
        before="leave_one_out",
    )
    valid_after: str = field(
        "",
        MOMENT,
        "With split=time, when validation begins: a date or seconds since 1970; empty for the "
        "time by which 80 % of the interactions have happened.",
        before="",
    )
    test_after: str = field(
        "",
        MOMENT,
        "With split=time, when test begins: a date or seconds since 1970; empty for the time by "
        "which 90 % of the interactions have happened.",
        before="",
    )
    tail_user_below: int = field(
        0,
        COUNT_OR_NONE,
        "Interactions below which a user is of the tail; 0 calls 80 % of the users tail.",
    )
    tail_item_below: int = field(
        0,
        COUNT_OR_NONE,
        "Interactions below which an item is of the tail; 0 calls 80 % of the items tail.",
    )
    synthetic: SyntheticConfig = SyntheticConfig()
    amazon: AmazonConfig = AmazonConfig()
