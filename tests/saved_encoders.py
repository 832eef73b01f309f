"""A shop with texts of items and of users, and banks of it with the encoder that made them."""

import pathlib
from typing import Any

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.knowledge import prepare
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder

NUM_ITEMS, NUM_USERS, LONGEST = 60, 30, 5
WORDS = (
    "red",
    "blue",
    "green",
    "mild",
    "strong",
    "soap",
    "cream",
    "oil",
    "brush",
    "comb",
    "fine",
    "Ümlaut",
    "4711",
)


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 5)) for _ in range(count)]


def shop() -> Split:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 12, NUM_USERS)
    users = np.repeat(np.arange(NUM_USERS), lengths)
    return leave_one_out(
        build_log(
            "shop", users, rng.integers(0, NUM_ITEMS, len(users)), catalogue=np.arange(NUM_ITEMS)
        ),
        LONGEST,
    )


def sources(users: bool = False) -> SourceTexts:
    titles = [
        f"{title} &amp; <b>co</b>" if row % 3 else title
        for row, title in enumerate(texts(NUM_ITEMS))
    ]
    columns = {
        "title": titles,
        "brand": [None if row % 5 == 0 else f"Brand {row % 4}" for row in range(NUM_ITEMS)],
        "category": [["Hair", "Oils"][row % 2 :] for row in range(NUM_ITEMS)],
        "price": [float(row) for row in range(NUM_ITEMS)],
    }
    people = {
        "age": [str(20 + row) for row in range(NUM_USERS)],
        "activity_level": [("high", "low")[row % 2] for row in range(NUM_USERS)],
    }
    return SourceTexts(
        AttributeTable(np.arange(NUM_ITEMS), columns),
        AttributeTable(np.arange(NUM_USERS), people) if users else None,
    )


def config_of(**changes: Any) -> KnowledgeConfig:
    return KnowledgeConfig().with_fields({"num_neighbours": 4, "width": 12, **changes})


def make(folder: pathlib.Path, users: bool = False, **changes: Any) -> KnowledgeBank:
    return prepare.prepare_bank(config_of(**changes), shop(), sources(users), folder)


def saved(bank: KnowledgeBank) -> SavedTextEncoder:
    assert bank.encoder_folder is not None
    return SavedTextEncoder.load(bank.encoder_folder)


def attributes(rows: range = range(NUM_ITEMS)) -> list[dict[str, Any]]:
    items = sources().items
    assert items is not None
    return [items.fields(row) for row in rows]


def histories(split: Split) -> list[np.ndarray]:
    """Whole training histories, longer than the windows."""
    return [
        split.log.items[split.log.offsets[user] : split.train.end[user]]
        for user in range(NUM_USERS)
    ]


def attributes_of(name: str) -> list[Any]:
    return [own[name] for own in attributes()]
