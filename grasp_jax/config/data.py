"""The section `data`: where interactions and attributes come from, and how they are split."""

import dataclasses
import math
from collections.abc import Collection
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
from grasp_jax.core.errors import UserError

SOURCES = ("files", "synthetic", "amazon")
AUTO = "auto"
TIME = "time"  # a value of `data.split`
REFUSE, SKIP = "refuse", "skip"  # values of `data.bad_rows`


@dataclasses.dataclass(frozen=True)
class ColumnsConfig(Section):
    """Names of the columns of the interaction file."""

    SECTION: ClassVar[str] = "data.columns"
    user: str = field("user", NAME, "Column of user ids.", NOTHING)
    item: str = field("item", NAME, "Column of item ids.", NOTHING)
    timestamp: str = field(
        "timestamp",
        TEXT,
        "Column of times; empty: the order of the rows is the order of events.",
        NOTHING,
    )
    rating: str = field("rating", TEXT, "Column of ratings; only data.min_rating uses it.", NOTHING)


@dataclasses.dataclass(frozen=True)
class SyntheticConfig(Section):
    """The synthetic shop, for trials without data."""

    SECTION: ClassVar[str] = "data.synthetic"
    num_users: int = field(3000, Whole(2, 10**8), "N, the number of users.")
    num_items: int = field(1500, Whole(100, 10**8), "V, the number of items.")
    mean_length: float = field(
        9.0,
        Real(math.nextafter(3, 4), 50, "a mean above 3, at most 50"),
        "Mean number of interactions per user.",
    )
    repeat_rate: float = field(
        0.1, BELOW_ONE, "Share of purchases that repeat an earlier purchase of the user."
    )
    corrupted_share: float = field(
        0.0, SHARE, "Share of the users whose description is that of another user."
    )
    seed: int = field(0, SEED, "Random seed of the shop.")
    bytes_per_row: int = field(
        0,
        COUNT_OR_NONE,
        "Above 0: users and items are reduced until rows of this many bytes fit into memory.",
    )
    cpu_items: int = field(
        32_768,
        COUNT,
        "Largest number of items on a CPU after this reduction, because the time of neighbours "
        "grows with its square.",
    )


@dataclasses.dataclass(frozen=True)
class AmazonConfig(Section):
    """Raw Amazon review dumps."""

    SECTION: ClassVar[str] = "data.amazon"
    category: str = field("Beauty", NAME, "Category, as in the file names.")
    min_user_interactions: int = field(
        5, COUNT_OR_NONE, "Users with fewer interactions are left out."
    )
    min_item_interactions: int = field(
        5, COUNT_OR_NONE, "Items with fewer interactions are left out."
    )
    iterative: bool = field(
        True, SWITCH, "Whether both limits are applied again until nothing more is left out."
    )
    require_title: bool = field(True, SWITCH, "Whether items without a title are left out.")
    deduplicate: bool = field(
        True,
        SWITCH,
        "Whether repeated reviews of an item by the same user at the same time are used only once.",
    )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Interactions and the attributes of items and users."""

    SECTION: ClassVar[str] = "data"
    name: str = field("dataset", NAME, "Name of the data in tables and files.")
    source: str = field(
        "files",
        Choice(*SOURCES, AUTO),
        "files | synthetic | amazon | auto: files if there is a path, otherwise the synthetic "
        "shop.",
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
        "Interaction file in that folder; empty for inter.txt, inter_time.tsv, interactions.*.",
        NOTHING,
    )
    items_file: str = field("", TEXT, "Table of items in that folder; empty for none.", NOTHING)
    store: str = field(
        "auto",
        NAME,
        "auto | off | a folder: where the log is stored after it was read from files, so that "
        "later calls map it into memory. auto: in WORKDIR/stored_log from 5 million interactions "
        "on; a folder: a log of any size, which several workdirs may share.",
        NOTHING,
    )
    columns: ColumnsConfig = ColumnsConfig()
    items_id_column: str = field("item", NAME, "Column of ids in the items table.", NOTHING)
    title_column: str = field(
        "title",
        NAME,
        "Column of titles in the items table; templates always call it title.",
    )
    max_missing_text: float = field(
        0.05,
        SHARE,
        "Largest share of items that may be missing in the items table; their text is empty.",
    )
    users_file: str = field(
        "", TEXT, "Table of users' attributes in that folder; empty for none.", NOTHING
    )
    users_id_column: str = field("user", NAME, "Column of ids in the users table.", NOTHING)
    bad_rows: str = field(
        REFUSE,
        Choice(REFUSE, SKIP),
        "Rows without a user, an item, a time (if there is a column of times) or a rating (if "
        "data.min_rating is set), or with one that cannot be read: refuse: the run stops | skip: "
        "they are left out, and the summary says how many, why, and where the first is.",
        NOTHING,  # a workdir identifies its log by the content
    )
    min_rating: float = field(
        0.0,
        Real(0, 1e9),
        "Rows with a lower rating are not used in training, but their items count as seen.",
    )
    ties: str = field(
        "file",
        Choice("file", "shuffle"),
        "Order of interactions of a user at the same time: file: the order of the file | shuffle:"
        " random by user, item and data.ties_seed.",
        before="file",
    )
    ties_seed: int = field(0, SEED, "Random seed of data.ties=shuffle.", before=0)
    max_length: int = field(
        100, SIZE, "L, the number of newest interactions of a history that a model reads."
    )
    split: str = field(
        "leave_one_out",
        Choice("leave_one_out", TIME, "none"),
        "leave_one_out: validation and test are the last two interactions of each user | time: "
        "they are the interactions after two points in time | none: training uses everything.",
        before="leave_one_out",
    )
    valid_after: str = field(
        "",
        MOMENT,
        "With split=time, the start of validation: a date or seconds since 1970; empty for the "
        "time by which 80 % of the interactions have happened.",
        before="",
    )
    test_after: str = field(
        "",
        MOMENT,
        "With split=time, the start of the test: a date or seconds since 1970; empty for the time"
        " by which 90 % of the interactions have happened.",
        before="",
    )
    tail_user_below: int = field(
        0,
        COUNT_OR_NONE,
        "Users with fewer interactions are tail users; 0 makes 80 % of the users tail users.",
    )
    tail_item_below: int = field(
        0,
        COUNT_OR_NONE,
        "Items with fewer interactions are tail items; 0 makes 80 % of the items tail items.",
    )
    synthetic: SyntheticConfig = SyntheticConfig()
    amazon: AmazonConfig = AmazonConfig()

    def check_moments(self, given: Collection[str] = ("valid_after", "test_after")) -> None:
        """Refuses a point in time where the split does not read it.

        Args:
          given: which of the two fields the user set; a refit, whose split is none, keeps those of its run.

        Raises:
          UserError: naming the field.
        """
        for name in ("valid_after", "test_after"):
            moment = getattr(self, name)
            if self.split != TIME and moment and name in given:
                raise UserError(
                    f"config.data.{name}: {moment!r} with data.split={self.split!r}, which does not read it; set data.split={TIME!r}, "
                    "or leave it out"
                )

    def resolved_source(self) -> str:
        """The source; "auto" is resolved.

        Raises:
          UserError: a file is named that this source does not read.
        """
        source = self.source
        if source == AUTO:
            source = "files" if self.path else "synthetic"
        if source == "synthetic" and self.path:
            raise UserError(
                f"config.data.path: {self.path!r} with the synthetic shop, which reads no files; "
                "leave out config.data.source=synthetic, or the path"
            )
        files = ("interactions_file", "items_file", "users_file")
        given = next((name for name in files if getattr(self, name)), "")
        if source == "files" or not given:
            return source
        where = f"config.data.{given}: {getattr(self, given)!r}"
        if source == "synthetic":
            raise UserError(
                f"{where} with the synthetic shop, which reads no files; set config.data.path too"
            )
        raise UserError(f"{where} with raw Amazon dumps, which are read alone; leave it out")
