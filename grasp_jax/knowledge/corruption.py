"""Corrupts descriptions on purpose, to measure how robust a method is (the paper's A.3)."""

from collections.abc import Sequence

import numpy as np

from grasp_jax.config import CorruptionConfig
from grasp_jax.core.errors import UserError

KINDS = ("none", "swap", "template", "drop")
USERS, ITEMS = 1, 2  # purposes of the random streams
UNRELATED = "A passenger asks the station about trains on Sunday, the price of a ticket, luggage, and a seat by the window."
MISSING = "NA"


def corrupted_rows(config: CorruptionConfig, count: int, purpose: int) -> np.ndarray:
    """[count] bool: which users or items (`purpose`) a `knowledge.corruption` section hits; a larger share hits these and further ones."""
    order = np.random.default_rng([config.seed, purpose]).permutation(count)
    hit = np.zeros(count, bool)
    if config.kind != "none":
        hit[order[: round(config.share * count)]] = True
    return hit


def corrupt_texts(config: CorruptionConfig, texts: Sequence[str], purpose: int) -> Sequence[str]:
    """Replaces a share of the descriptions by those of other rows ("swap"), by an unrelated text ("template"), or by nothing ("drop")."""
    hit = np.flatnonzero(corrupted_rows(config, len(texts), purpose))
    if not len(hit):
        return texts
    wrong = list(texts)
    for row, other in zip(hit, partners(hit), strict=True):
        wrong[row] = {"swap": texts[other], "template": UNRELATED, "drop": MISSING}[config.kind]
    return wrong


def described_by(config: CorruptionConfig, count: int, purpose: int) -> np.ndarray:
    """The same for vectors from files, whose texts are not available: [count] the row whose vector each row gets.

    Raises:
      UserError: another kind of corruption than another's description, which needs an encoder.
    """
    if config.kind not in ("none", "swap"):
        raise UserError(
            f"config.knowledge.corruption.kind: {config.kind!r} needs text to encode; use 'swap', or another config.knowledge.encoder"
        )
    hit = np.flatnonzero(corrupted_rows(config, count, purpose))
    rows = np.arange(count)
    rows[hit] = partners(hit)
    return rows


def partners(hit: np.ndarray) -> np.ndarray:
    """For each hit row, the row whose description it gets: the hit row before it, so that none keeps its own, unless it is the only one."""
    return np.roll(hit, 1)
