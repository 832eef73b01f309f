"""The histories that are timed: paper Beauty's, those of a given folder, or synthetic ones with the lengths of Beauty or Industry-100K."""

import pathlib
from collections.abc import Callable

import numpy as np

from grasp_jax.config import DataConfig
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.readers import find_interactions, read_interactions
from grasp_jax.data.sources import scale_factor

PAPER_BEAUTY = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "paper_beauty"
BEAUTY_USERS, BEAUTY_ITEMS = 52_204, 57_289
INDUSTRY_USERS, INDUSTRY_ITEMS, INDUSTRY_MEAN = 99_711, 1_205_282, 20.88
QUICK_USERS, QUICK_ITEMS = 400, 500
Lengths = Callable[[int, np.random.Generator], np.ndarray]


def beauty_lengths(num_users: int, rng: np.random.Generator) -> np.ndarray:
    """[N] interactions per user as in paper Beauty.

    A shifted lognormal fitted to its mean 7.56 and percentiles (25, 50, 75, 90, 99, 99.9) = (5, 6, 8, 13, 37, 93), largest 293, mixed
    with its 460 users of one interaction and 1,246 of two.
    """
    lengths = np.floor(4.35 + np.exp(np.log(1.9) + 1.22 * rng.standard_normal(num_users))).astype(
        np.int64
    )
    share = rng.random(num_users)
    lengths[share < 1706 / BEAUTY_USERS] = 2
    lengths[share < 460 / BEAUTY_USERS] = 1
    return np.minimum(lengths, 293)


def industry_lengths(num_users: int, rng: np.random.Generator) -> np.ndarray:
    """[N] interactions per user: lognormal, at least 3, with the mean of Industry-100K; the paper states only the mean."""
    return np.maximum(
        3, np.exp(np.log(INDUSTRY_MEAN) - 0.5 + rng.standard_normal(num_users))
    ).astype(np.int64)


def load_log(data: str, num_users: int, num_items: int) -> InteractionLog:
    """The log in the folder or file `data`; a synthetic one if `data` is empty."""
    if data:
        path = find_interactions(data)
        return read_interactions(path, DataConfig(name=path.parent.name))[0]
    return synthetic_log(num_users, num_items)


def log_to_time(quick: bool, shape: str = "beauty", bytes_per_row: int = 0) -> InteractionLog:
    """The log of the paper's Beauty if its data are available, otherwise a synthetic one of its size; a few hundred users if `quick`.

    For the shape "industry" it is synthetic and has Industry-100K's size, or less if the frozen tables would not fit this device;
    `bytes_per_row` are the bytes of one user or item.
    """
    if quick:
        return synthetic_log(QUICK_USERS, QUICK_ITEMS)
    if shape == "industry":
        factor, reason = scale_factor(
            INDUSTRY_USERS, INDUSTRY_ITEMS, bytes_per_row, cpu_items=32_768
        )
        if factor < 1:
            print(f"industry at {factor:.3f} of its size ({reason})")
        return synthetic_log(
            int(factor * INDUSTRY_USERS), int(factor * INDUSTRY_ITEMS), lengths_of=industry_lengths
        )
    return load_log(str(PAPER_BEAUTY) if PAPER_BEAUTY.exists() else "", BEAUTY_USERS, BEAUTY_ITEMS)


def synthetic_log(
    num_users: int, num_items: int, seed: int = 0, lengths_of: Lengths = beauty_lengths
) -> InteractionLog:
    """A log whose lengths follow paper Beauty's, or `lengths_of`; item i is drawn in proportion to 1 / (i + 10)."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(lengths_of(num_users, rng), max(num_items // 2, 1))
    popularity = 1.0 / (np.arange(num_items) + 10.0)
    items = rng.choice(num_items, int(lengths.sum()), p=popularity / popularity.sum())
    return build_log(
        "synthetic", np.repeat(np.arange(num_users), lengths), items, catalogue=np.arange(num_items)
    )
