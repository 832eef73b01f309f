"""MovieLens archives of all sizes: ratings and films. Ages, genders and post codes of people are not read."""

import csv
import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.setup.fetch.archives import REMEDY, first_bytes, member_called, open_zip, zip_lines
from grasp_jax.setup.fetch.tables import Tables, filled

GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
NO_GENRES = "(no genres listed)"
FORMS = (  # names of ratings and films in the archive, and what stands between two fields
    ("ratings.csv", "movies.csv", ","),
    ("ratings.dat", "movies.dat", "::"),
    ("u.data", "u.item", "\t"),
)


def movielens(path: pathlib.Path) -> Tables:
    """The tables of an archive ml-*.zip.

    Raises:
      UserError: it is damaged, or holds no MovieLens files.
    """
    with open_zip(path) as archive:
        found = [
            (ratings, films, between)
            for in_ratings, in_films, between in FORMS
            if (ratings := member_called(archive, in_ratings))
            and (films := member_called(archive, in_films))
        ]
    if not found:
        wanted = " or ".join(f"{ratings} with {films}" for ratings, films, _ in FORMS)
        raise UserError(f"{path}: no files of MovieLens in it; expected {wanted}; {REMEDY}")
    ratings, films, between = found[0]
    notes = ("all ratings are kept; config.data.min_rating = 4.0 trains on those that were liked",)
    return Tables(_ratings(path, ratings, between), _films(path, films, between), notes)


def _ratings(path: pathlib.Path, member: str, between: str) -> Iterator[Sequence[str]]:
    with open_zip(path) as archive:
        for number, row in _rows(archive, member, between):
            if len(row) != 4:
                raise UserError(
                    f"{path}: {member}: row {number} has {len(row)} fields; expected user, film, rating and time; {REMEDY}"
                )
            yield row


def _films(path: pathlib.Path, member: str, between: str) -> Iterator[dict[str, Any]]:
    """Films with title and genres; the years in titles stay, because they distinguish remakes."""
    between = "|" if member.endswith("u.item") else between
    with open_zip(path) as archive:
        for number, row in _rows(archive, member, between):
            if len(row) < 3:
                raise UserError(
                    f"{path}: {member}: row {number} has {len(row)} fields; expected film, title and genres; {REMEDY}"
                )
            if between == "|":
                genres = [
                    name for name, flag in zip(GENRES_100K, row[5:], strict=False) if flag == "1"
                ]
            else:
                genres = [] if row[2] == NO_GENRES else row[2].split("|")
            yield filled(item=row[0], title=row[1], genres=genres)


def _rows(archive: zipfile.ZipFile, member: str, between: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each row, without the header of a .csv."""
    encoding = "utf-8"
    if between == "|" or (between == "::" and not _is_utf8(archive, member)):
        encoding = "latin-1"
    with zip_lines(archive, member, encoding) as lines:
        if between != ",":
            yield from enumerate((line.split(between) for line in lines if line), start=1)
            return
        rows = csv.reader(lines)
        try:
            next(rows, None)
            yield from enumerate(rows, start=1)
        except csv.Error as error:
            raise UserError(
                f"{archive.filename}: {member}: damaged after line {rows.line_num} ({error}); {REMEDY}"
            ) from error


def _is_utf8(archive: zipfile.ZipFile, member: str) -> bool:
    """MovieLens-1M is in Latin-1, and 10M in UTF-8, under the same names; of ratings a look at the beginning is enough."""
    begin = first_bytes(archive, member, 1 << 22)
    try:
        begin[: begin.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
