"""Writes a synthetic shop of any size as files, part by part: python -m benchmarks.rehearsal_data FOLDER --users=N

Interactions are Parquet in parts in the order of time, with string ids; there are also tables of items (title, category) and of users
(segment), and the ids of the users for whom items are recommended. Memory grows only by 8 bytes for each user: a part draws from the
remaining interactions of each user. A part that exists is not written again, and a part depends only on the sizes and its number, so a run
that is killed and started again ends with the same files.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from grasp_jax.core.files import replacing
from grasp_jax.data.synthetic import BRAND_HEADS, BRAND_TAILS, STYLES, shop_lengths

USERS, ITEMS, MEAN_LENGTH = 10_000_000, 1_205_282, 20.88  # the paper's full size
GROUP = 1000  # items per category and users per segment, so that a search within groups costs rows x 1000
ANSWERED = 10  # one user in this number gets recommendations
PART_ROWS = 4_000_000
FIRST_SECOND, SECONDS = 1_700_000_000, 30_000_000  # about a year
LIKED = 3  # categories from which the users of a segment buy most
SYLLABLES = (
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "ki",
    "lo",
    "mu",
    "ne",
    "pi",
    "ra",
    "so",
    "tu",
    "ve",
    "zo",
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """N users, and the numbers that grow with N."""

    users: int

    @property
    def items(self) -> int:
        """Number V of items, in proportion to the users."""
        return max(100, round(self.users * ITEMS / USERS))

    @property
    def categories(self) -> int:
        return max(LIKED, self.items // GROUP)

    @property
    def segments(self) -> int:
        return max(1, self.users // GROUP)

    @property
    def answered(self) -> int:
        """Number of users who get recommendations."""
        return max(1, self.users // ANSWERED)

    @property
    def validated(self) -> int:
        """Number of validated users: 100,000 of 10 million."""
        return max(100, self.users // 100)

    @property
    def parts(self) -> int:
        """Number of parts of the log."""
        return max(2, round(self.users * MEAN_LENGTH / PART_ROWS))


def word(number: int) -> str:
    """A made-up word, different for each number."""
    found = ""
    while number or not found:
        number, syllable = divmod(number, len(SYLLABLES))
        found += SYLLABLES[syllable]
    return found.capitalize() + "n"


def user_ids(rows: np.ndarray) -> np.ndarray:
    """Ids of 11 letters; their order differs from that of the rows."""
    scrambled = rows.astype(np.int64) * 7_919_777 % 10_000_000_019
    return np.char.add("A", np.char.zfill(scrambled.astype(str), 10))


def item_ids(rows: np.ndarray) -> np.ndarray:
    """Ids of 10 letters; their order differs from that of the rows."""
    scrambled = rows.astype(np.int64) * 104_729 % 99_999_989
    return np.char.add("B0", np.char.zfill(scrambled.astype(str), 8))


def write_shop(folder: pathlib.Path, sizes: Sizes) -> None:
    """Writes all files that do not exist yet."""
    log = folder / "interactions.parquet"
    log.mkdir(parents=True, exist_ok=True)
    _write(folder / "items.parquet", lambda: _items(sizes))
    _write(folder / "users.parquet", lambda: _users(sizes))
    _write(folder / "asked.parquet", lambda: _asked(sizes))
    left = shop_lengths(sizes.users, MEAN_LENGTH, np.random.default_rng([1, sizes.users]))
    users = pa.array(user_ids(np.arange(sizes.users)))
    items = pa.array(item_ids(np.arange(sizes.items)))
    for part in range(sizes.parts):
        # Each part takes the same share of every user's interactions; the last part takes the rest.
        rng = np.random.default_rng([2, sizes.users, part])
        counts = rng.binomial(left, 1 / (sizes.parts - part))
        left -= counts
        path = log / f"part-{part:05d}.parquet"
        if not path.exists():
            owners = rng.permutation(np.repeat(np.arange(sizes.users, dtype=np.int32), counts))
            bought, times = _interactions(sizes, part, owners, rng)
            ids = {"user": users.take(pa.array(owners)), "item": items.take(pa.array(bought))}
            table = pa.table({**ids, "timestamp": times})
            with replacing(path) as partial:
                pa.parquet.write_table(table, partial)


def _interactions(
    sizes: Sizes, part: int, owners: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Item row and second of each interaction of a part; four of five items are of a category that the user's segment likes."""
    segment = owners % sizes.segments
    liked = (segment * 31 + rng.integers(LIKED, size=len(owners)) * 7) % sizes.categories
    anything = rng.integers(sizes.categories, size=len(owners))
    category = np.where(rng.random(len(owners)) < 0.8, liked, anything)
    # Items k, k + categories, k + 2 categories, ... are of category k; the first of them are bought most.
    most = (sizes.items - 1 - category) // sizes.categories + 1
    place = (most * rng.random(len(owners)) ** 3).astype(np.int64)
    seconds = SECONDS // sizes.parts
    times = np.sort(rng.integers(seconds, size=len(owners))) + FIRST_SECOND + part * seconds
    return (category + place * sizes.categories).astype(np.int32), times


def _items(sizes: Sizes) -> pa.Table:
    rng = np.random.default_rng([3, sizes.users])
    brands = [head + tail for head in BRAND_HEADS for tail in BRAND_TAILS]
    of_brand, of_style = (
        rng.integers(len(brands), size=sizes.items),
        rng.integers(len(STYLES), size=sizes.items),
    )
    category = np.arange(sizes.items) % sizes.categories
    words = [word(number) for number in range(sizes.categories)]
    titles = [
        f"{brands[brand]} {STYLES[style]} {words[kind]}"
        for brand, style, kind in zip(
            of_brand.tolist(), of_style.tolist(), category.tolist(), strict=True
        )
    ]
    return pa.table(
        {"item": item_ids(np.arange(sizes.items)), "title": titles, "category": category}
    )


def _users(sizes: Sizes) -> pa.Table:
    rows = np.arange(sizes.users)
    return pa.table({"user": user_ids(rows), "segment": rows % sizes.segments})


def _asked(sizes: Sizes) -> pa.Table:
    rng = np.random.default_rng([4, sizes.users])
    return pa.table(
        {"user": user_ids(np.sort(rng.choice(sizes.users, sizes.answered, replace=False)))}
    )


def _write(path: pathlib.Path, made: Callable[[], pa.Table]) -> None:
    """Writes one file, whole or not at all, unless it exists."""
    if path.exists():
        return
    with replacing(path) as partial:
        pa.parquet.write_table(made(), partial)


def main() -> None:
    """Writes the shop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--users", type=int, required=True, help="users of the shop")
    given = parser.parse_args()
    write_shop(given.folder, Sizes(given.users))


if __name__ == "__main__":
    main()
