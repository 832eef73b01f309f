"""Yelp's open data set: reviews as interactions, businesses as items. Names of people and texts of reviews are not read."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.setup.fetch.archives import REMEDY, lines_of, tar_lines
from grasp_jax.setup.fetch.tables import Tables, filled

REVIEWS, BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"
FILES = (REVIEWS, BUSINESSES)
REVIEW = ("user_id", "business_id", "stars", "date")


def yelp(path: pathlib.Path) -> Tables:
    """The tables of the archive as Yelp gives it (Yelp-JSON.zip, or the .tar within), or of a folder with its files."""
    notes = ("texts of businesses are their name, categories, city and state",)
    return Tables(_reviews(path), _businesses(path), notes)


def _reviews(path: pathlib.Path) -> Iterator[Sequence[Any]]:
    for number, record in _records(path, REVIEWS):
        row = [record.get(name) for name in REVIEW]
        if None in row or not (isinstance(row[0], str) and isinstance(row[1], str)):
            raise UserError(
                f"{path}: {REVIEWS}:{number}: not a review; expected {', '.join(REVIEW)}; {REMEDY}"
            )
        yield row


def _businesses(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for number, record in _records(path, BUSINESSES):
        if not isinstance(record.get("business_id"), str):
            raise UserError(
                f"{path}: {BUSINESSES}:{number}: no business_id; expected one; {REMEDY}"
            )
        categories = record.get("categories") or ""
        parts = categories if isinstance(categories, list) else str(categories).split(",")
        yield filled(
            item=record["business_id"],
            title=record.get("name"),
            categories=[name for part in parts if (name := str(part).strip())],
            city=record.get("city"),
            state=record.get("state"),
        )


def _records(path: pathlib.Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line."""
    for number, line in enumerate(_lines(path, name), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UserError(
                f"{path}: {name}:{number}: {line[:60]!r} is no JSON object; expected one a line; {REMEDY}"
            )
        yield number, record


def _lines(path: pathlib.Path, name: str) -> Iterator[str]:
    if not path.is_dir():
        yield from tar_lines(path, name)
        return
    if not (path / name).is_file():
        raise UserError(f"{path}: no {name} in it; expected the files of Yelp's archive")
    with (path / name).open("rb") as file:
        yield from lines_of(file, "utf-8", str(path / name))
