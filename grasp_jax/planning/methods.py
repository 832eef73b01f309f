"""The methods that `--mode=plan` can count: how each computes item vectors, read from its item encoder."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from grasp_jax.config import Config
from grasp_jax.models.backbones.towers import validation_chooses_parts
from grasp_jax.models.build import build_backbone
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.dual_view import DualViewEncoder
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.id_table import IdEncoder
from grasp_jax.models.encoders.id_text import IdTextEncoder
from grasp_jax.models.encoders.mixture import MixtureEncoder
from grasp_jax.models.encoders.towers import TowerEncoder
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.models.methods.llm_esr import Distillation
from grasp_jax.models.methods.rlmrec import GENERATIVE, Alignment
from grasp_jax.planning.workload import FLOAT, Contrast, Further, ItemVectors, Network
from grasp_jax.training.weight_search import lower_weights_of

PLANNED = (
    "plain",
    "sasrec_ce",
    "llminit",
    "id_text_sum",
    "id_text_concat",
    "grasp",
    "grasp_wo_attention",
    "grasp_wo_similar",
    "grasp_wo_global",
    "grasp_softmax",
    "grasp_plus",
    "llm_esr",
    "rlmrec_con",
    "rlmrec_gen",
    "unisrec",
    "unisrec_id",
)


def refusal(config: Config, method: str) -> str:
    """Why the plan cannot count a method, and what it can count; "" if it can.

    Args:
      config: with the changes that the method makes (`config.for_method`).
      method: a name in `METHODS`.
    """
    if method not in PLANNED:
        return f"not planned; expected one of {', '.join(PLANNED)}"
    loss = METHODS[method].loss_of(config)
    if method == "grasp_plus" and config.model.plus.fusion == "early":
        return "not planned with model.plus.fusion='early'; expected late"
    if loss not in ("bce", "ce"):
        return f"not planned with the loss {loss!r}, whose negatives a batch shares; expected bce or ce"
    if loss != "ce" and method == "grasp_plus":
        return f"not planned with the loss {loss!r}; expected ce"
    return ""


def item_vectors(config: Config, method: str, items: int, width: int) -> ItemVectors:
    """How a step of one of `PLANNED` computes item vectors.

    Args:
      config, method: as of `refusal`, which returns "".
      items: V.
      width: E of the knowledge bank.
    """
    encoder = METHODS[method].encoder(config.model, ModelSizes(items, 0, width))
    counted = _COUNTED[type(encoder)](encoder, config)
    if not METHODS[method].starts_from_text(config.model):
        return counted
    # the table from which ID vectors start stays on the devices
    return counted._replace(copied_bytes=counted.trained * FLOAT)


def further_parts(config: Config, method: str, users: int, width: int) -> Further:
    """What a step of one of `PLANNED` computes in addition to item vectors, their backbone and the loss of the next item.

    Args:
      config, method, width: as of `item_vectors`.
      users: N.
    """
    loss = METHODS[method].auxiliary(config.model, ModelSizes(0, 0, width))
    if isinstance(loss, Distillation):
        return Further(views=2, similar=min(config.model.llm_esr.similar_users, users - 1))
    if not isinstance(loss, Alignment):
        return Further()
    features, hidden = loss.features, (loss.features + width) // 2
    if loss.kind == GENERATIVE:
        return Further(contrast=Contrast(Network(features, hidden, width), generative=True))
    return Further(contrast=Contrast(Network(width, hidden, features), False, loss.among_all_users))


def validations_of_parts(config: Config, method: str) -> int:
    """How often at least parts of late fusion are validated after training (`training.fusion_weights`); 0 if validation does not choose.

    The config has one backbone.
    """
    backbone = build_backbone(config.model, method, config.model.backbone)
    if not validation_chooses_parts(backbone):
        return 0
    return 1 + sum(len(lower_weights_of(kind)) for kind in set(backbone.kinds))


def _of_ids(encoder: IdEncoder, config: Config) -> ItemVectors:
    return ItemVectors(encoder.features, (), 0, losses=(encoder.features,))


def _of_grasp(encoder: HolisticEncoder, config: Config) -> ItemVectors:
    """The four products of Eq. 5 with rows of the width E."""
    hidden = encoder.hidden[0] if encoder.hidden else encoder.features
    network = Network(4 * encoder.width, hidden, encoder.features)
    row_bytes = 2 * encoder.width * _table_bytes(config)
    numbers = 3 * hidden if encoder.gated else hidden
    return ItemVectors(0, (network,), numbers, row_bytes, losses=(encoder.features,))


def _of_id_and_text(encoder: IdTextEncoder, config: Config) -> ItemVectors:
    features = encoder.features
    networks = [Network(encoder.width, 0, features)]
    if encoder.concatenates:
        networks.append(Network(2 * features, 0, features))
    row_bytes = encoder.width * _table_bytes(config)
    return ItemVectors(features, tuple(networks), features, row_bytes, losses=(features,))


def _of_views(encoder: DualViewEncoder, config: Config) -> ItemVectors:
    """Two views of D numbers: an ID vector and the text."""
    view, width = encoder.view, encoder.width
    network = Network(width, 0, view, folded=width // 2)
    row_bytes = width * _table_bytes(config)
    return ItemVectors(view, (network,), view, row_bytes, losses=(2 * view,))


def _of_experts(encoder: MixtureEncoder, config: Config) -> ItemVectors:
    """The results of all experts for a row, and the logits of their gates."""
    features, width = encoder.features, encoder.width
    network = Network(width, 0, features, experts=encoder.experts)
    dtype = jnp.dtype(config.model.table_dtype)
    # rows that differ from those of the table: in float32 and with their length, and those with dropout
    changed = dtype != jnp.float32 or encoder.row_norm != 1.0
    rows = width * (changed + (encoder.dropout > 0))
    trained = features if encoder.with_ids else 0
    row_bytes = width * dtype.itemsize
    return ItemVectors(
        trained, (network,), network.first, row_bytes, joined=rows, losses=(features,)
    )


def _of_towers(encoder: TowerEncoder, config: Config) -> ItemVectors:
    """Late fusion; its tables are float32, and all but that of the match have the width of the encoder."""
    width, features = encoder.width, encoder.features
    of_text = Network(width, encoder.hidden, features)
    of_company = Network(2 * width, encoder.hidden, features)
    networks = (of_text,) * encoder.text_towers + (of_company,) * encoder.company_towers
    match = width if encoder.matches else 0
    reads_text = METHODS["grasp_plus"].fits_text(config.model)
    row = width * (reads_text + (encoder.company_towers > 0)) + encoder.matches
    return ItemVectors(
        trained=encoder.id_towers * features,
        networks=networks,
        numbers=len(networks) * features + match,
        row_bytes=row * FLOAT,
        joined=2 * width * (encoder.company_towers > 0),
        towers=len(encoder.towers),
        match=match,
        losses=encoder.towers,
    )


def _table_bytes(config: Config) -> int:
    return jnp.dtype(config.model.table_dtype).itemsize


_COUNTED: dict[type[ItemEncoder], Callable[[Any, Config], ItemVectors]] = {
    IdEncoder: _of_ids,
    HolisticEncoder: _of_grasp,
    IdTextEncoder: _of_id_and_text,
    DualViewEncoder: _of_views,
    MixtureEncoder: _of_experts,
    TowerEncoder: _of_towers,
}
