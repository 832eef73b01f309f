"""Example recommendations: the history and the next item of a user, and the lists of two methods with hits marked."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

from grasp_jax.evaluation.untrained import is_trained
from grasp_jax.report.runs import FinishedRun

TINTS = 8


@dataclasses.dataclass(frozen=True)
class Tile:
    """An item without an image: two letters on a colour that belongs to its title.

    Attributes:
      title: of the item.
      letters: one or two, of its title.
      tint: number of the colour.
      hit: whether it is the next item of the user.
    """

    title: str
    letters: str
    tint: int
    hit: bool = False


@dataclasses.dataclass(frozen=True)
class Listed:
    """The list of one method: its name, its tiles, the rank of the next item in words, and the gates in words."""

    name: str
    tiles: tuple[Tile, ...]
    outcome: str
    gates: str


@dataclasses.dataclass(frozen=True)
class Card:
    """One user."""

    user: str
    history: tuple[Tile, ...]
    truth: Tile
    lists: tuple[Listed, ...]

    @property
    def hits(self) -> int:
        """Lists that have the item."""
        return sum(any(tile.hit for tile in own.tiles) for own in self.lists)


def cards(run: FinishedRun, ranked: Sequence[tuple[str, str]]) -> list[Card]:
    """Cards of a run, those with hits first; none where fewer than two methods of a backbone left examples.

    Args:
      run: with `examples`.
      ranked: methods and backbones, the best first.
    """
    chosen = two_methods(run, ranked)
    if chosen is None:
        return []
    first, second = chosen
    others = {example["user"]: example for example in run.examples[second]}
    made = [
        _card(example, [(first[0], example), (second[0], others[example["user"]])])
        for example in run.examples[first]
        if example["user"] in others
    ]
    return sorted(made, key=lambda card: (card.hits == 0, card.hits == len(card.lists)))


def two_methods(
    run: FinishedRun, ranked: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """The second best and the best method of one backbone, as the verdict compares them; trained methods come before others."""
    found = sorted(
        (trial for trial in ranked if trial in run.examples),
        key=lambda trial: not is_trained(trial[0]),
    )
    for backbone in dict.fromkeys(backbone for _, backbone in found):
        best, *others = [trial for trial in found if trial[1] == backbone]
        if others:
            return others[0], best
    return None


def tile(title: Any, hit: bool = False) -> Tile:
    """The tile of an item."""
    text = "unknown" if title is None else str(title)
    words = [word for word in text.split() if word[:1].isalnum()] or [text.strip() or "?"]
    letters = "".join(word[0] for word in words[:2]).upper()
    return Tile(text, letters[:2], zlib.crc32(text.encode("utf-8", "replace")) % TINTS, hit)


def _card(example: dict[str, Any], lists: Sequence[tuple[str, dict[str, Any]]]) -> Card:
    return Card(
        user=str(example["user"]),
        history=tuple(tile(title) for title in example["history"]),
        truth=tile(example["truth"]),
        lists=tuple(_listed(method, shown) for method, shown in lists),
    )


def _listed(method: str, shown: dict[str, Any]) -> Listed:
    place, count = shown["place"], len(shown["top"])
    gates = shown.get("gates") or {}
    return Listed(
        name=method,
        tiles=tuple(
            tile(item["title"], k == place) for k, item in enumerate(shown["top"], start=1)
        ),
        outcome=f"hit at place {place}" if place else f"not among its {count}",
        gates=", ".join(f"{name} {value:.3f}" for name, value in gates.items()),
    )
