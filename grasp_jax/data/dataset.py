"""The data of a recommender, for Python and the command line: `Dataset.read`, `Dataset.from_frames`, `Dataset.synthetic`."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from numbers import Integral

import numpy as np

from grasp_jax.config import DataConfig, SyntheticConfig
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.read_report import ReadReport
from grasp_jax.data.readers import folder_of
from grasp_jax.data.sources import read_frames, read_source
from grasp_jax.data.stored_log import LogStore, store_of
from grasp_jax.data.summary import summary_lines

TABLE_SUFFIXES = (
    ".csv",
    ".tsv",
    ".parquet",
    ".jsonl",
    ".csv.gz",
    ".tsv.gz",
    ".jsonl.gz",
    ".csv.zst",
    ".tsv.zst",
    ".jsonl.zst",
)
# settings that do not apply to frames
OF_FILES = ("source", "path", "interactions_file", "items_file", "users_file", "store")


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Interactions, and the texts of items and users.

    Attributes:
      log: the interactions.
      texts: attributes of items and users.
      report: which files and columns were read, and how they were interpreted.
      data: the `data` section of the config with which it was read.
    """

    log: InteractionLog
    texts: SourceTexts
    report: ReadReport = dataclasses.field(default_factory=ReadReport)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)

    @classmethod
    def read(cls, path: str | os.PathLike[str] = "", **options: object) -> "Dataset":
        """Reads a folder or a file of interactions, and the tables of items and users in that folder, or next to that file.

            shop = Dataset.read("folder", items_file="products.csv", columns={"user": "uid"}, min_rating=3.0)

        A file `items.*` or `users.*` in the folder is read as the table of items or users, unless you name another file; `items_file=""`
        leaves it out. Next to a file, such a table is used only if it fits; if not, `summary()` says why.

        Args:
          path: as `config.data.path`: a folder with `interactions.csv` or another usual name, or a file.
          **options: other fields of `config.data` by name. For `columns`, `synthetic` and `amazon`, pass a dictionary of those values that
            differ from the default.

        Raises:
          UserError: naming the field, or the file and row, at fault.
        """
        if not isinstance(path, str | os.PathLike):
            raise UserError(
                f"Dataset.read: a {type(path).__name__}; expected a folder or a file; for tables in memory call Dataset.from_frames"
            )
        place = os.fspath(path)
        given: dict[str, object] = {"path": place, **options}
        if data_settings(given).resolved_source() != "files":
            return load_dataset(data_settings(given))
        tables = known_tables(place)
        found = {field: name for field, name in tables.items() if field not in given}
        if found and pathlib.Path(place) != folder_of(place):
            return _with_fitting(given, found)
        return load_dataset(data_settings(given | found))

    @classmethod
    def from_frames(
        cls,
        interactions: object,
        items: object | None = None,
        users: object | None = None,
        **options: object,
    ) -> "Dataset":
        """Takes tables in memory: of pandas (without the index), polars, pyarrow or any library with the Arrow C stream protocol, or
        dictionaries of columns. The dataset is the same as if these tables were read from Parquet files; nothing is written.

        Args:
          interactions: one interaction a row, with the columns `user` and `item` and, optionally, `timestamp` and `rating`.
          items: one item a row, with the columns `item`, `title` and any others; without it only methods that read no text can be trained.
          users: one user a row, with the column `user` and any others.
          **options: as in `read`, except those that name files.

        Raises:
          UserError: naming the field, or the frame and row, at fault.
        """
        if unfit := [name for name in OF_FILES if name in options]:
            raise UserError(
                f"config.data.{unfit[0]}: given with frames, which are read in place of files; leave it out"
            )
        config = data_settings(options)
        return cls(*read_frames(config, interactions, items, users), config)

    @classmethod
    def synthetic(
        cls, num_users: int = 3000, num_items: int = 1500, seed: int = 0, **options: object
    ) -> "Dataset":
        """Makes the synthetic shop with texts in a few seconds; the same arguments make the same shop.

        Args:
          num_users: N, at least 2.
          num_items: V, at least 100.
          seed: of all random numbers.
          **options: other fields of `config.data.synthetic` (`mean_length`, `repeat_rate`, ...) and of `config.data`.

        Raises:
          UserError: naming the field at fault.
        """
        shop: dict[str, object] = {"num_users": num_users, "num_items": num_items, "seed": seed}
        shop |= {name: options.pop(name) for name in SyntheticConfig().to_dict() if name in options}
        return load_dataset(data_settings({"source": "synthetic", "synthetic": shop, **options}))

    def with_split(
        self, split: str, valid_after: object = "", test_after: object = ""
    ) -> "Dataset":
        """The same data with another split; the fields are those of `config.data`.

        The synthetic shop writes its users' texts again, because they must not reveal interactions of validation and test.

        Raises:
          UserError: naming the field at fault.
        """
        config = data_settings(
            {"split": split, "valid_after": valid_after, "test_after": test_after}, self.data
        )
        if config == self.data:
            return self
        if self.texts.of_users is not None and config.resolved_source() == "synthetic":
            return load_dataset(config)
        return dataclasses.replace(self, data=config)

    @property
    def name(self) -> str:
        return self.log.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the interactions and their order."""
        return self.log.fingerprint

    @property
    def user_ids(self) -> np.ndarray:
        """[N] ids of the users as in the input: int64 if they were numbers there, otherwise str."""
        return self._as_given("user", self.log.user_ids)

    @property
    def item_ids(self) -> np.ndarray:
        """[V] ids of the items as in the input, in row order."""
        return self._as_given("item", self.log.item_ids)

    @property
    def titles(self) -> list[str]:
        """[V] titles of the items; the id of an item without a title."""
        ids = map(str, self.item_ids.tolist())
        if self.texts.items is None:
            return list(ids)
        titles = self.texts.items.columns["title"]
        return [str(title) if title else name for title, name in zip(titles, ids, strict=True)]

    @property
    def unlisted(self) -> np.ndarray:
        """[u] int32 rows of the items that the items table lacks, ascending; none without such a table."""
        first = (
            self.log.num_items - self.report.without_text
        )  # they stand behind those of the table
        return np.arange(first, self.log.num_items, dtype=np.int32)

    def _as_given(self, kind: str, ids: np.ndarray) -> np.ndarray:
        return ids.astype(str) if kind in self.report.text_ids else ids

    def summary(self, include_short_users: bool = False, listed_only: bool = False) -> list[str]:
        """At most 15 lines: what was read, how each column is used, the order of interactions, and what was left out.

        Args:
          include_short_users: whether users with two interactions are tested (`config.eval.include_short_users`).
          listed_only: whether items that the items table lacks are kept from being recommended (`config.recommend.listed_only`).
        """
        return summary_lines(self.report, self.log, self.data, include_short_users, listed_only)

    def __repr__(self) -> str:
        items, users = self.texts.items, self.texts.users
        texts = [f"{len(items.columns)} columns of items" if items else ""]
        texts.append(
            "texts of users"
            if self.texts.of_users is not None
            else f"{len(users.columns)} of users"
            if users
            else ""
        )
        described = " and ".join(text for text in texts if text) or "no texts"
        sizes = f"{self.log.num_users:,} users, {self.log.num_items:,} items, {self.log.num_interactions:,} interactions"
        return f"Dataset({self.name!r}: {sizes}, {described})"


class _DoesNotFit(UserError):
    """A default table, which the config does not name, has none of the users; a named table would be read."""


def load_dataset(config: DataConfig, store: LogStore | None = None) -> Dataset:
    """Reads or makes the dataset that the `data` section names.

    Args:
      config: the section.
      store: where a log that was read from files is stored; None: in the folder that `config.store` names, if it names one.

    Raises:
      UserError: naming the file or field at fault.
    """
    return Dataset(*read_source(config, store or store_of(config)), config)


def known_tables(path: str) -> dict[str, str]:
    """The tables of items and users of a folder, or next to a file, under their usual names; none of a kind if there are several of it."""
    folder, found = folder_of(path), {}
    for field, stem in (("items_file", "items"), ("users_file", "users")):
        names = sorted(
            f"{stem}{suffix}" for suffix in TABLE_SUFFIXES if (folder / f"{stem}{suffix}").is_file()
        )
        if path and len(names) == 1:
            found[field] = names[0]
    return found


def _with_fitting(given: Mapping[str, object], found: Mapping[str, str]) -> Dataset:
    """The dataset of a file, with those tables next to it that fit; its report says why the others are not used.

    Nobody named these tables, so they may belong to another file, and must not keep this one from being read.

    Args:
      given: fields of `config.data`.
      found: `known_tables` that `given` does not name.

    Raises:
      UserError: naming what is wrong without these tables.
    """
    try:
        return _with_tables(given, found)
    except UserError:
        dataset = load_dataset(data_settings(given))
    reasons: list[str] = []
    fitting: dict[str, str] = {}
    for field, name in found.items():
        try:
            dataset = _with_tables(given, {**fitting, field: name})
            fitting[field] = name
        except UserError as error:
            # Without the folder, which the report names already; what follows ";" is how to mend a table that was named.
            why = (
                str(error).replace(f"{folder_of(str(given['path']))}{os.sep}", "").partition(";")[0]
            )
            reasons.append(f"{name}, which is next to the interactions, is not used: {why}")
    report = dataset.report
    report = dataclasses.replace(report, notes=(*report.notes, *reasons))
    return dataclasses.replace(dataset, report=report)


def _with_tables(given: Mapping[str, object], found: Mapping[str, str]) -> Dataset:
    """The dataset with tables that were found.

    Raises:
      UserError: a table cannot be read, or has too few of the ids; `_DoesNotFit` if it has none of the users.
    """
    dataset = load_dataset(data_settings({**given, **found}))
    if "users_file" in found and dataset.report.without_attributes == dataset.log.num_users:
        raise _DoesNotFit(f"{found['users_file']}: it has none of the users of the interactions")
    return dataset


def data_settings(options: Mapping[str, object], data: DataConfig | None = None) -> DataConfig:
    """A `data` section (by default the default one) with some fields set and checked like flags; times may be dates or numbers, and names
    of columns whole numbers, as pandas names columns that have no names.

    Raises:
      UserError: there is no such field, or its value is not allowed.
    """
    moments = {
        name: str(options[name]) for name in ("valid_after", "test_after") if name in options
    }
    named = {
        name: _column_name(options[name])
        for name in ("items_id_column", "users_id_column", "title_column")
        if name in options
    }
    if isinstance(columns := options.get("columns"), Mapping):
        named["columns"] = {name: _column_name(value) for name, value in columns.items()}
    return (data or DataConfig()).with_fields({**options, **named, **moments})


def _column_name(value: object) -> object:
    """A whole number as text; anything else as it is, for the check of the field."""
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    return str(value) if is_number else value
