"""Our own: GRASP's text with other parts, each a field of `config.model.plus` or `config.train`.

Text knowledge as in GRASP, without the gates, which hardly move as published; an ID residual that is trusted as far as an item has been
seen; and a softmax over negatives that the whole batch shares.
"""

import flax.linen as nn
import jax.numpy as jnp

from grasp_jax.config_dict import ConfigDict
from grasp_jax.models.holistic import HolisticEncoder
from grasp_jax.models.methods.method import Bank, Facts, Method
from grasp_jax.models.residual import ResidualEncoder


def encoder(config: ConfigDict, num_items: int, width: int) -> nn.Module:
    """`ResidualEncoder`, or `HolisticEncoder` where the residual is switched off."""
    plus = config.plus
    text = HolisticEncoder(
        width, config.features, tuple(config.mlp), plus.gate, plus.row_norm, dtype=jnp.dtype(config.dtype), scale=config.gate_scale,
        gate_dropout=config.gate_dropout,
    )  # fmt: skip
    return ResidualEncoder(text, num_items, plus.id_dropout) if plus.id_residual else text


def tables(bank: Bank, facts: Facts) -> Bank:
    """Items and their neighbours' means, users if a gate reads them, and n / (n + c) of each item."""
    plus, n = facts.config.plus, facts.item_counts
    read = {"items": bank["items"], "items_similar": bank["items_similar"]}
    if plus.gate != "none":
        read |= {"users": bank["users"], "users_similar": bank["users_similar"]}
    trust = n / (n + plus.id_trust) if plus.id_trust else (n >= 0)
    return read | {"trust": trust.astype("float32")}


METHOD = Method(encoder, tables, needs_bank=True, loss="softmax")
