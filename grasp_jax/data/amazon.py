"""A TFDS builder for raw Amazon review dumps (McAuley et al., https://jmcauley.ucsd.edu/data/amazon/), stored as array_record.

`manual_dir` holds `reviews_CATEGORY.json.gz` (or `CATEGORY.json.gz`) and `meta_CATEGORY.json.gz`. Filtering is as in LLM-ESR and S3-Rec,
as options. TensorFlow is neither needed nor imported.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from grasp_jax.core.errors import UserError
from grasp_jax.core.files import sha256
from grasp_jax.core.log import logger
from grasp_jax.data.amazon_dumps import find_dumps, read_records
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.log import InteractionLog, build_log

VERSION = "1.1.0"  # of the prepared data; 1.0.0 did not hold what a user rated low
TEXT_FIELDS = ("brand", "price", "description")
LIST_FIELDS = ("attributes", "features")
SEPARATOR = "\x1f"  # joins the parts of a list in one text feature
CITATION = """@inproceedings{mcauley2015image,
  title={Image-based recommendations on styles and substitutes},
  author={McAuley, Julian and Targett, Christopher and Shi, Qinfeng and van den Hengel, Anton},
  booktitle={Proceedings of the 38th International ACM SIGIR Conference},
  year={2015}
}"""


@dataclasses.dataclass(frozen=True)
class AmazonFilter:
    """What is kept of a dump.

    Attributes:
      category: part of the file names, such as "Beauty".
      min_rating: reviews rated lower are dropped.
      min_user_interactions, min_item_interactions: k-core bounds.
      iterative: repeat the k-core until nothing changes, or pass once.
      require_title: drop items without a title after the k-core, which is how users with one or two interactions arise.
      deduplicate: keep one of several reviews of the same user, item and time.
    """

    category: str = "Beauty"
    min_rating: float = 0.0
    min_user_interactions: int = 5
    min_item_interactions: int = 5
    iterative: bool = True
    require_title: bool = True
    deduplicate: bool = True

    def identity(self, folder: pathlib.Path) -> str:
        """Short hash of all options and of the dump's content, part of the prepared data's name.

        Raises:
          UserError: the folder lacks a file of the dump.
        """
        dumps = find_dumps(folder, self.category)
        names = " and ".join(path.name for path in dumps)
        gigabytes = sum(path.stat().st_size for path in dumps) / 1e9
        logger.info(f"{folder}: hashing {names} ({gigabytes:,.1f} GB), to see if they changed")
        content = [sha256(path) for path in dumps]
        made_from = json.dumps([dataclasses.asdict(self), content], sort_keys=True)
        return hashlib.sha256(made_from.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Reviews:
    """Filtered reviews: [I] user, item, time and rating, by user and time, and the metadata of each item that is left.

    `low_rated` holds users and items, each [J], of the reviews below the least rating, of users and items that are left.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    ratings: np.ndarray
    metadata: dict[str, dict[str, Any]]
    low_rated: tuple[np.ndarray, np.ndarray]


class AmazonBuilderConfig(tfds.core.BuilderConfig):  # type: ignore[misc]  # tfds has no types
    """One part ("interactions" or "items") of a dump under one filter.

    Attributes:
      part: which.
      reviews: reads the filtered dump; called only if the part was not prepared before.
    """

    def __init__(
        self, options: AmazonFilter, part: str, identity: str, reviews: Callable[[], Reviews]
    ) -> None:
        super().__init__(
            name=f"{options.category.lower()}_{part}_{identity}",
            version=VERSION,
            description=str(options),
        )
        self.part = part
        self.reviews = reviews


class AmazonReviews(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Part "interactions": one example per user. Part "items": one example per item, in the row order that interactions refer to."""

    VERSION = tfds.core.Version(VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put reviews_CATEGORY.json.gz and meta_CATEGORY.json.gz into manual_dir."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        if self.builder_config.part == "interactions":
            features: dict[str, Any] = {
                "user": tfds.features.Text(),
                "items": tfds.features.Tensor(shape=(None,), dtype=np.int64),
                "timestamps": tfds.features.Tensor(shape=(None,), dtype=np.int64),
                "ratings": tfds.features.Tensor(shape=(None,), dtype=np.float32),
                "low_rated": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            }
        else:
            features = {
                name: tfds.features.Text() for name in ("item", "title", *TEXT_FIELDS, *LIST_FIELDS)
            }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://jmcauley.ucsd.edu/data/amazon/",
            citation=CITATION,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {"train": self._generate_examples(self.builder_config.reviews())}

    def _generate_examples(self, reviews: Reviews) -> Iterator[tuple[int, dict[str, Any]]]:
        catalogue, rows = np.unique(reviews.items, return_inverse=True)
        if self.builder_config.part == "items":
            for key, item in enumerate(catalogue):
                fields = reviews.metadata.get(str(item), {})
                yield (
                    key,
                    {
                        "item": str(item),
                        **{
                            name: _storable(_text(fields, name))
                            for name in ("title", *TEXT_FIELDS, *LIST_FIELDS)
                        },
                    },
                )
            return
        users, first = np.unique(reviews.users, return_index=True)
        low_rated: dict[str, list[int]] = {}
        for user, item in zip(*reviews.low_rated, strict=True):
            low_rated.setdefault(str(user), []).append(int(np.searchsorted(catalogue, item)))
        for key, (user, start, stop) in enumerate(
            zip(users, first, [*first[1:], len(rows)], strict=True)
        ):
            yield (
                key,
                {
                    "user": str(user),
                    "items": rows[start:stop].astype(np.int64),
                    "timestamps": reviews.times[start:stop],
                    "ratings": reviews.ratings[start:stop],
                    "low_rated": np.array(sorted(set(low_rated.get(str(user), []))), np.int64),
                },
            )


def read_amazon(
    manual_dir: str, data_dir: str, options: AmazonFilter
) -> tuple[InteractionLog, AttributeTable]:
    """Prepares both parts under `data_dir`, or opens them if the same options and files were prepared before.

    Raises:
      UserError: a missing, damaged or unfit file; says which, and where.
    """
    folder = pathlib.Path(manual_dir)
    identity = options.identity(folder)
    reviews = functools.cache(lambda: read_reviews(folder, options))  # once for both parts
    builders = {
        part: AmazonReviews(
            data_dir=data_dir,
            config=AmazonBuilderConfig(options, part, identity, reviews),
            file_format="array_record",
        )
        for part in ("items", "interactions")
    }
    for builder in builders.values():
        config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
        builder.download_and_prepare(download_config=config, file_format="array_record")
    reviews.cache_clear()  # the parsed dump takes more memory than the log that is built below
    examples = {
        part: list(builder.as_data_source(split="train")) for part, builder in builders.items()
    }
    # array_record shuffles by key; ids give the order back.
    items = sorted(examples["items"], key=lambda example: example["item"])
    table = AttributeTable(
        np.array([_str(example["item"]) for example in items]),
        {"title": [_str(example["title"]) or None for example in items]}
        | {name: [_str(example[name]) or None for example in items] for name in TEXT_FIELDS}
        | {
            name: [
                [part for part in _str(example[name]).split(SEPARATOR) if part] for example in items
            ]
            for name in LIST_FIELDS
        },
    )
    histories = sorted(examples["interactions"], key=lambda example: example["user"])
    lengths = [len(example["items"]) for example in histories]
    users = np.repeat(np.array([_str(example["user"]) for example in histories]), lengths)
    rows = np.concatenate([example["items"] for example in histories])
    times = np.concatenate([example["timestamps"] for example in histories])
    low = [example["low_rated"] for example in histories]
    low_users = np.repeat(
        np.array([_str(example["user"]) for example in histories]), list(map(len, low))
    )
    low_rated = (low_users, table.ids[np.concatenate(low)]) if len(low_users) else None
    log = build_log(options.category, users, table.ids[rows], times, table.ids, low_rated)
    return dataclasses.replace(log, time_unit="s"), table


def read_reviews(folder: pathlib.Path, options: AmazonFilter) -> Reviews:
    """Reads and filters a dump; within a user by time, ties in file order.

    Raises:
      UserError: a file is missing or damaged, a line is no review, or the filter leaves none.
    """
    reviews_path, meta_path = find_dumps(folder, options.category)
    users, items, times, ratings = [], [], [], []
    low_users, low_items = [], []
    for number, record in read_records(reviews_path):
        try:
            user, item, time, rating = (
                record["reviewerID"],
                record["asin"],
                int(record["unixReviewTime"]),
                float(record["overall"]),
            )
            if not (isinstance(user, str) and user and isinstance(item, str) and item):
                raise ValueError("an id is not a string, or empty")
            (user + item).encode()  # JSON can hold half of a surrogate pair, which cannot be stored
            if not (np.isfinite(rating) and abs(time) < 2**63):
                raise ValueError("rating or time is out of range")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            fields = "reviewerID, asin, overall, unixReviewTime"
            raise UserError(
                f"{reviews_path}:{number}: not a review ({error!r}); expected {fields}"
            ) from None
        if rating >= options.min_rating:
            users.append(user)
            items.append(item)
            times.append(time)
            ratings.append(rating)
        else:
            low_users.append(user)
            low_items.append(item)
    columns = [
        np.array(users, str),
        np.array(items, str),
        np.array(times, np.int64),
        np.array(ratings, np.float32),
    ]
    order = np.lexsort((columns[2], columns[0]))
    columns = [column[order] for column in columns]
    if options.deduplicate:
        first = _first_of_equals(columns[:3])
        columns = [column[first] for column in columns]
    keep = k_core(
        columns[0],
        columns[1],
        options.min_user_interactions,
        options.min_item_interactions,
        options.iterative,
    )
    columns = [column[keep] for column in columns]
    wanted = set(columns[1].tolist())
    metadata = {}
    for _, record in read_records(meta_path):
        item = record.get("asin")
        if isinstance(item, str) and item in wanted:
            metadata[item] = record
    if options.require_title:
        titled = np.array(
            [bool(_text(metadata.get(item, {}), "title")) for item in columns[1].tolist()], bool
        )
        columns = [column[titled] for column in columns]
    if not len(columns[0]):
        raise UserError(
            f"{reviews_path}: no review is left after filtering; loosen config.data.min_rating or config.data.amazon.*"
        )
    low = np.array(low_users, str), np.array(low_items, str)
    known = np.isin(low[0], columns[0]) & np.isin(low[1], columns[1])
    return Reviews(
        columns[0], columns[1], columns[2], columns[3], metadata, (low[0][known], low[1][known])
    )


def k_core(
    users: np.ndarray, items: np.ndarray, min_user: int, min_item: int, iterative: bool
) -> np.ndarray:
    """[I] bool: interactions of users and items with enough of them, counted once or until nothing changes."""
    _, user_rows = np.unique(users, return_inverse=True)
    _, item_rows = np.unique(items, return_inverse=True)
    keep = np.ones(len(users), bool)
    while keep.any():
        enough_users = np.bincount(user_rows[keep], minlength=user_rows.max() + 1) >= min_user
        enough_items = np.bincount(item_rows[keep], minlength=item_rows.max() + 1) >= min_item
        kept = keep & enough_users[user_rows] & enough_items[item_rows]
        if not iterative or (kept == keep).all():
            return kept
        keep = kept
    return keep


def _first_of_equals(columns: list[np.ndarray]) -> np.ndarray:
    """[I] bool: rows that equal no earlier row. Column by column, since joined ids collide ("U1" + "1A" and "U11" + "A")."""
    order = np.lexsort(columns)  # stable, so the earliest of equal rows comes first
    ranked = [column[order] for column in columns]
    repeated = np.logical_and.reduce([column[1:] == column[:-1] for column in ranked])
    first = np.ones(len(order), bool)
    first[order[1:][repeated]] = False
    return first


def _text(fields: dict[str, Any], name: str) -> str:
    """A text feature of a product. Results were published with these texts, so they stay; `setup.fetch.amazon`, which is newer, keeps all
    paths of categories, not the first alone.
    """
    if name == "attributes":
        categories = fields.get("categories") or fields.get("category") or []
        if not isinstance(categories, list):
            categories = [categories]
        # in 2014 it is a list of paths
        flat = categories[0] if categories and isinstance(categories[0], list) else categories
        brand = [fields["brand"]] if fields.get("brand") else []
        return SEPARATOR.join(str(part) for part in [*brand, *flat])
    value = fields.get({"features": "feature"}.get(name, name))
    if isinstance(value, list):
        return SEPARATOR.join(map(str, value)) if name in LIST_FIELDS else " ".join(map(str, value))
    return "" if value is None else str(value).strip()


def _storable(text: str) -> str:
    """`text` with a question mark for each half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _str(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
