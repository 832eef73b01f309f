"""GRASP+, this package's own method: it combines GRASP's text vectors with other parts; `config.model.plus` switches each of them.

The default is late fusion (`encoders.towers`): towers of ID vectors, of texts, and of texts together with those of companions (items that
are bought next to an item). Each tower has a separate backbone and loss, and their scores are added. With `fusion="early"`, an item has one
vector: the text vector as in GRASP plus an ID residual, whose weight grows with the number of training interactions
(`encoders.residual`).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from grasp_jax.config import Config, ModelConfig, PlusConfig
from grasp_jax.config.model import COMPANY_PART, ID_PART, MATCH_PART, TEXT_PART
from grasp_jax.core.errors import UserError
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.backbones.towers import Towers
from grasp_jax.models.batch import Params, Tables
from grasp_jax.models.company import companions, company_text
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.models.encoders.residual import ResidualEncoder
from grasp_jax.models.encoders.towers import TowerEncoder
from grasp_jax.models.frozen import ITEM_TABLES, Bank, FrozenTable, Placement, of_bank
from grasp_jax.models.methods.base import Facts, Method, ModelSizes
from grasp_jax.models.methods.grasp import mlp_parameters
from grasp_jax.models.methods.llminit import (
    START,
    components_to_start_from,
    fitted_components,
    start_from_components,
    start_of_new,
)
from grasp_jax.models.new_items import NewTexts, ReadOfNew
from grasp_jax.models.text_match import match_weights
from grasp_jax.models.text_trust import TextTrust, text_trust
from grasp_jax.models.whitening import transformed, whitening_matrix


class GRASPPlus(Method):
    """Combines texts and IDs by late or early fusion."""

    needs_bank: ClassVar[bool] = True
    pads_start: ClassVar[bool] = True

    def default_loss(self, config: ModelConfig) -> str:
        """Late fusion: cross-entropy of each tower. Early fusion: softmax over shared negatives."""
        return "ce" if config.plus.fusion == "late" else "softmax"

    def encoder(self, config: ModelConfig, sizes: ModelSizes) -> ItemEncoder:
        """Late fusion: `TowerEncoder`. Early fusion: `ResidualEncoder`, or `HolisticEncoder` if the residual is switched off."""
        plus = config.plus
        if plus.fusion == "late":
            towers = plus.id_towers, plus.text_towers, plus.company_towers
            width = min(sizes.width, plus.text_width)
            (hidden,) = config.mlp  # guaranteed by `check`
            matches = plus.match_weight > 0
            dtype = jnp.dtype(config.dtype)
            return TowerEncoder(
                sizes.num_items, width, config.features, *towers, hidden, matches, dtype
            )
        text = HolisticEncoder(
            width=sizes.width,
            features=config.features,
            hidden=tuple(config.mlp),
            gate=plus.gate,
            row_norm=plus.row_norm,
            dtype=jnp.dtype(config.dtype),
            scale=config.gate_scale,
        )
        return ResidualEncoder(text, sizes.num_items, plus.id_dropout) if plus.id_residual else text

    def item_parameters(self, config: ModelConfig, sizes: ModelSizes) -> int:
        """Late fusion: V x D of each ID tower, and the weights of the networks of text and company towers. Early fusion: GRASP's, and V x D
        with the residual.
        """
        plus, features = config.plus, config.features
        if plus.fusion == "early":
            ids = sizes.num_items * features if plus.id_residual else 0
            return ids + mlp_parameters(config, sizes.width)
        read = (plus.text_towers + 2 * plus.company_towers) * min(sizes.width, plus.text_width)
        hidden = config.mlp[0] if sizes.width and config.mlp else 0
        networks = hidden * (read + (plus.text_towers + plus.company_towers) * features)
        return plus.id_towers * sizes.num_items * features + networks

    def fits_text(self, config: ModelConfig) -> bool:
        """True for late fusion with parts that read text (`whitening_matrix`)."""
        return config.plus.fusion == "late" and _reads_text(config.plus)

    def starts_from_text(self, config: ModelConfig) -> bool:
        """True for late fusion with ID towers, if `id_start` says so."""
        return config.plus.fusion == "late" and _starts_from_text(config.plus)

    def text_turn(self, items: np.ndarray, config: ModelConfig) -> np.ndarray | None:
        """[E, E'] matrix from rows to the vectors that towers read (`whitening_matrix`); None for early fusion or if no part reads text."""
        plus = config.plus
        if not self.fits_text(config):
            return None
        return whitening_matrix(items, plus.text_whitening, plus.text_norm)[:, : plus.text_width]

    def gated(self, config: ModelConfig) -> bool:
        """True for early fusion, unless the gate is "none"."""
        return config.plus.fusion == "early" and bool(config.plus.gate != "none")

    def tables(self, bank: Bank, facts: Facts) -> Sequence[FrozenTable]:
        """Late fusion: the tables of `_texts`. Early fusion: items, their neighbours' means, and the "trust" n / (n + c) of each item."""
        plus = facts.config.plus
        if plus.fusion == "late":
            tables = _texts(bank["items"], facts)
            return [*tables, _start(bank, facts)] if _starts_from_text(plus) else tables
        return [
            *(of_bank(bank, name) for name in ITEM_TABLES),
            FrozenTable("trust", _id_trust(facts.item_counts, plus)),
        ]

    def start(self, params: Params, tables: Tables) -> Params:
        """Starts the ID table from text, if `id_start` says so."""
        return start_from_components(params, tables) if START in tables else params

    def fitted(self, bank: Bank, facts: Facts) -> Mapping[str, np.ndarray]:
        """Late fusion: "turn" [E, E'], from rows to the vectors that towers read; if trust is learned, "text_trust" [V] and "share_right"
        [], the share of right texts; and `fitted_components` if ID vectors start from text.
        """
        plus = facts.config.plus
        if plus.fusion == "early" or not _reads_text(plus):
            return {}
        arrays = {"turn": _turn(bank["items"], facts)}
        if _starts_from_text(plus):
            arrays |= fitted_components(bank, facts, self.pads_start)
        if plus.text_trust == "learned":
            learned = _learned_trust(bank["items"], facts)
            arrays |= {"text_trust": learned.trust, "share_right": np.array(learned.share_right)}
        return arrays

    def trust(
        self, config: ModelConfig, counts: np.ndarray, fitted: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Early fusion: "id", the trust in ID vectors. Late fusion: "text", if learned; models that an earlier version saved lack it."""
        plus = config.plus
        if plus.fusion == "early":
            return {"id": _id_trust(counts, plus)} if plus.id_residual else {}
        if "text_trust" not in fitted:
            return {}
        trained = fitted["text_trust"]
        added = np.full(len(counts) - len(trained), fitted["share_right"], np.float32)
        return {"text": np.concatenate([trained, added])}

    def of_new_items(self, texts: NewTexts) -> ReadOfNew:
        """The same arrays as for items that nobody bought in training: no companions, the weight of the match for rare items times
        `match_new`, and an ID vector of zeros or the one from which training would start.

        Raises:
          UserError: an earlier version saved the model, or the model has only ID towers.
        """
        plus, new = texts.config.plus, np.zeros(len(texts.items), np.int64)
        if plus.fusion == "early":
            read = super().of_new_items(texts)
            return ReadOfNew({**read.tables, "trust": _id_trust(new, plus)})
        if not _reads_text(plus):
            raise UserError(
                "add_items: this grasp_plus has ID towers alone and reads no text; train a model on data with these items"
            )
        text = transformed(texts.items, texts.fitted_array("turn"))
        weights = plus.match_new * match_weights(new, plus.match_weight, plus.match_rare)
        if plus.text_trust == "learned":  # the trust in texts of items without companions
            trust = texts.fitted_array("share_right").astype(np.float32)
            text, weights = text * trust, weights * trust
        ids = np.tile(start_of_new(texts), plus.id_towers) if _starts_from_text(plus) else None
        return ReadOfNew(
            {TEXT_PART: text, COMPANY_PART: np.zeros_like(text), MATCH_PART: weights}, ids
        )

    def check(self, config: Config) -> None:
        """Checks that late fusion has at least one tower, and one hidden layer.

        Raises:
          UserError: naming the field.
        """
        plus = config.model.plus
        if plus.fusion == "early":
            return
        if not plus.id_towers + plus.text_towers + plus.company_towers:
            raise UserError(
                "config.model.plus: id_towers, text_towers and company_towers are 0; expected one tower at least"
            )
        if len(config.model.mlp) != 1:
            raise UserError(
                f"config.model.mlp: {config.model.mlp}; expected one number, the width of the text tower's hidden layer, such as (256,)"
            )
        named = set(plus.parts.split("+")) - {"all", "validated"}
        if missing := sorted(named - set(_parts(plus))):
            raise UserError(
                f"config.model.plus.parts: {plus.parts!r} names {missing[0]}, which this model lacks; "
                f"expected some of {', '.join(dict.fromkeys(_parts(plus)))}"
            )

    def around_backbone(self, backbone: Backbone, config: ModelConfig, max_length: int) -> Backbone:
        """Late fusion: one backbone for each tower."""
        plus = config.plus
        if plus.fusion == "early":
            return backbone
        kinds = _parts(plus)
        rates = {ID_PART: None, TEXT_PART: plus.text_dropout, COMPANY_PART: plus.text_dropout}
        dropouts = tuple(rates[kind] for kind in kinds if kind != MATCH_PART)
        return Towers(
            backbone,
            config.features,
            dropouts,
            plus.match_decay,
            () if plus.parts == "all" else kinds,
            None if plus.parts == "validated" else tuple(plus.parts.split("+")),
        )


def _parts(plus: PlusConfig) -> tuple[str, ...]:
    """The parts of the score in late fusion: the name of each tower, then the match."""
    towers = (
        (ID_PART,) * plus.id_towers
        + (TEXT_PART,) * plus.text_towers
        + (COMPANY_PART,) * plus.company_towers
    )
    return towers + ((MATCH_PART,) if plus.match_weight else ())


def _id_trust(counts: np.ndarray, plus: PlusConfig) -> np.ndarray:
    """[V] float32 n / (n + c) of items with n training interactions."""
    n, c = counts, plus.id_trust
    trust = n / (n + c) if c else n >= 0
    return trust.astype(np.float32)


def _reads_text(plus: PlusConfig) -> bool:
    """Whether late fusion has more than ID towers that start at random."""
    return bool(
        plus.text_towers or plus.company_towers or plus.match_weight or _starts_from_text(plus)
    )


def _starts_from_text(plus: PlusConfig) -> bool:
    return plus.id_start == "text" and plus.id_towers > 0


def _start(bank: Bank, facts: Facts) -> FrozenTable:
    """[V, D of all ID towers] initial ID vectors, the same for each tower."""
    components = components_to_start_from(bank, facts, GRASPPlus.pads_start)
    return FrozenTable(START, np.tile(components.rows, facts.config.plus.id_towers))


def _turn(items: np.ndarray, facts: Facts) -> np.ndarray:
    """`GRASPPlus.text_turn`: the matrix of the run from which training starts, or one that is computed from the items."""
    if facts.turn is not None:
        return facts.turn
    turn = facts.once("turn", lambda: GRASPPlus().text_turn(items, facts.config))
    assert turn is not None
    return turn


def _learned_trust(items: np.ndarray, facts: Facts) -> TextTrust:
    """`text_trust` of transformed rows [V, E] of the bank; `facts` must have the split."""
    split = facts.split
    assert split is not None
    return facts.once(
        "text_trust", lambda: text_trust(transformed(items, _turn(items, facts)), companions(split))
    )


def _texts(items: np.ndarray, facts: Facts) -> list[FrozenTable]:
    """The tables that towers read: [V, E'] the texts, multiplied by the trust in them, and the texts of the companions; and [V, 1] weights
    of the match.

    Args:
      items: [V, E] rows of the bank.
      facts: must have the split, for trust and companions.
    """
    plus = facts.config.plus
    if not _reads_text(plus):
        return []
    text = transformed(items, _turn(items, facts))
    tables = {TEXT_PART: text}
    if plus.match_weight:
        tables[MATCH_PART] = match_weights(facts.item_counts, plus.match_weight, plus.match_rare)
    if plus.text_trust == "learned" or plus.company_towers:
        assert facts.split is not None
        near = companions(facts.split)
        if plus.text_trust == "learned":
            trust = facts.once("text_trust", lambda: text_trust(text, near)).trust[:, None]
            tables[TEXT_PART] = text * trust
            if plus.match_weight:
                tables[MATCH_PART] = tables[MATCH_PART] * trust
        if plus.company_towers:
            tables[COMPANY_PART] = company_text(text, near, plus.text_norm)
    return [FrozenTable(name, rows, Placement.ITEM_ROWS) for name, rows in tables.items()]
