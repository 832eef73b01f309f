"""GRASP (arXiv 2511.20177) and the ablations of its Table 4: one encoder, its gate and which of the three attentions it keeps."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from grasp_jax.config_dict import ConfigDict
from grasp_jax.models.holistic import HolisticEncoder
from grasp_jax.models.methods.method import Bank, Facts, Method

SELF, SIMILAR, GLOBAL = "self", "similar", "global"


def encoder(
    config: ConfigDict, num_items: int, width: int, gate: str = "", parts: tuple[str, ...] = (SELF, SIMILAR, GLOBAL)
) -> nn.Module:
    """`HolisticEncoder` with the config's gate, or the given one."""
    keep = (SELF in parts, SIMILAR in parts, GLOBAL in parts)
    return HolisticEncoder(
        width, config.features, tuple(config.mlp), gate or config.gate, config.row_norm, keep, jnp.dtype(config.dtype), config.gate_scale,
        config.gate_dropout, config.kernels,
    )  # fmt: skip


def tables(bank: Bank, facts: Facts, gate: str = "") -> Bank:
    """Items, and the means of their neighbours; users and theirs too if gates read them."""
    gated = (gate or facts.config.gate) != "none"
    return {name: table for name, table in bank.items() if gated or name in ("items", "items_similar")}


def _grasp(gate: str = "", parts: tuple[str, ...] = (SELF, SIMILAR, GLOBAL)) -> Method:
    return Method(functools.partial(encoder, gate=gate, parts=parts), functools.partial(tables, gate=gate), needs_bank=True)


GRASP = _grasp()
WITHOUT_ATTENTION = _grasp(gate="none")
WITHOUT_SIMILAR = _grasp(parts=(SELF, GLOBAL))
WITHOUT_GLOBAL = _grasp(parts=(SELF, SIMILAR))
SOFTMAX = _grasp(gate="softmax")
