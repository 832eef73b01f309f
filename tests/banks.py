"""A small shop, and the settings of a knowledge bank of its texts or of vectors in files."""

import pathlib

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out

NUM_ITEMS, NUM_USERS = 12, 8
WORDS = ("red", "blue", "green", "soap", "cream", "oil")


def shop(shift: int = 0, max_length: int = 10) -> Split:
    users = np.repeat(np.arange(NUM_USERS), 6)
    items = (np.arange(len(users)) * 5 + users + shift) % NUM_ITEMS
    return leave_one_out(
        build_log("shop", users, items, catalogue=np.arange(NUM_ITEMS)), max_length
    )


def items_table(seed: int = 0) -> AttributeTable:
    rng = np.random.default_rng(seed)
    return AttributeTable(
        np.arange(NUM_ITEMS), {"title": [" ".join(rng.choice(WORDS, 3)) for _ in range(NUM_ITEMS)]}
    )


def knowledge_config() -> KnowledgeConfig:
    config = KnowledgeConfig().with_fields(
        {"num_neighbours": 2, "width": 4, "item_template": "titled_item"}
    )
    return config


def file_config(folder: pathlib.Path, seed: int = 0) -> KnowledgeConfig:
    rng = np.random.default_rng(seed)
    for kind, rows in (("items", NUM_ITEMS), ("users", NUM_USERS)):
        np.save(folder / f"{kind}.npy", rng.standard_normal((rows, 4)).astype(np.float32))
    files = {"item_file": str(folder / "items.npy"), "user_file": str(folder / "users.npy")}
    return knowledge_config().with_fields({"encoder": "file", **files})
