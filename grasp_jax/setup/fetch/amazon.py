"""Amazon reviews of 2014 and 2023: ratings or reviews of a category, and the metadata of its products."""

import csv
import gzip
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.data.amazon_dumps import read_records
from grasp_jax.setup.fetch.tables import Tables, filled

REVIEW = ("reviewerID", "asin", "overall", "unixReviewTime")
HEADERS_2023 = ["user_id", "parent_asin", "rating", "timestamp"]
REMEDY = "remove the file and run the same command again"


def amazon(interactions: pathlib.Path, metadata: pathlib.Path) -> Tables:
    """The tables of a category.

    Args:
      interactions: reviews (.json.gz) or ratings (.csv, .csv.gz).
      metadata: meta_CATEGORY.json.gz or .jsonl.gz.

    Returns:
      Tables whose rows are read while they are written, so the errors of damaged files come then.

    Raises:
      UserError: from the rows: a file is damaged, or a line is not what its name says.
    """
    reviews = interactions.name.endswith(".json.gz")
    rows = _reviews(interactions) if reviews else _ratings(interactions)
    notes = (
        "texts of items are their title, brand or store, categories, features and description; texts of reviews are not read",
    )
    return Tables(rows, _items(metadata), notes)


def _reviews(path: pathlib.Path) -> Iterator[Sequence[Any]]:
    for number, record in read_records(path):
        row = [record.get(name) for name in REVIEW]
        if None in row or not (isinstance(row[0], str) and isinstance(row[1], str)):
            raise UserError(
                f"{path}:{number}: not a review; expected {', '.join(REVIEW)}; {REMEDY}"
            )
        yield row


def _ratings(path: pathlib.Path) -> Iterator[Sequence[str]]:
    """User, item, rating and time; the files of 2014 have no header, those of 2023 have one."""
    number = 0
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if number == 1 and row == HEADERS_2023:
                    continue
                if len(row) != 4:
                    raise UserError(
                        f"{path}:{number}: {len(row)} fields; expected user, item, rating and time; {REMEDY}"
                    )
                yield row
    except (EOFError, zlib.error, UnicodeDecodeError, gzip.BadGzipFile, csv.Error) as error:
        raise UserError(f"{path}: damaged after line {number} ({error}); {REMEDY}") from error


def _items(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Products with all that describes them; `data.amazon` keeps less, as when its results were published."""
    for _, record in read_records(path):
        item = record.get("parent_asin") or record.get("asin")
        if not isinstance(item, str):
            continue
        yield filled(
            item=item,
            title=_text(record.get("title")),
            brand=_text(record.get("brand") or record.get("store")),
            categories=_flat(record.get("categories")),
            features=_flat(record.get("features") or record.get("feature")),
            description=_text(record.get("description")),
        )


def _text(value: Any) -> str:
    """A text; the lines of a list as one."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(str(part).strip() for part in parts if part)


def _flat(value: Any) -> list[str]:
    """Parts of a list, each once; in 2014 categories are a list of paths."""
    parts = value if isinstance(value, list) else [value] if value else []
    flat = [part for entry in parts for part in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(str(part).strip() for part in flat if part))
