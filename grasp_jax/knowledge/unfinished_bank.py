"""A bank that is being made: its texts, and what it can reuse of an interrupted run or an earlier bank."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.bank import ENCODER, KnowledgeBank, begin_bank
from grasp_jax.knowledge.earlier import open_earlier
from grasp_jax.knowledge.encoders import encoder_class, is_fitted, make_encoder
from grasp_jax.knowledge.neighbours.retrieve import row_groups
from grasp_jax.knowledge.neighbours.search import check_search
from grasp_jax.knowledge.refresh import text_hashes, unchanged_rows
from grasp_jax.knowledge.repeats import report_equal_texts
from grasp_jax.knowledge.texts import describe, prompts_of

KINDS = ("items", "users")
GROUP_FIELDS = {"items": "group_column", "users": "user_group_column"}  # of the `knowledge` section
Tables = dict[str, np.ndarray]


class UnfinishedBank(NamedTuple):
    """A bank that is described and not yet encoded.

    Attributes:
      texts: of "items" and "users"; none with the encoder `file`.
      tables: the extras that are known so far.
      earlier_rows: "items" and "users" -> [rows] the row in the earlier bank of `config.since`, -1 for a row to encode.
      old: the bank that `config.since` or `config.centre_from` names.
      partial: the folder in which the bank is made.
    """

    texts: Mapping[str, Sequence[str]]
    tables: Tables
    earlier_rows: dict[str, np.ndarray]
    old: KnowledgeBank | None
    partial: pathlib.Path

    @property
    def shards(self) -> pathlib.Path:
        """The folder of the encoder's vectors."""
        return self.partial / "shards"

    @property
    def encoder(self) -> pathlib.Path:
        """The folder of the encoder itself."""
        return self.partial / ENCODER

    def wanted(self, kind: str) -> np.ndarray:
        """Rows to encode."""
        return np.flatnonzero(self.earlier_rows[kind] < 0)


def begin(
    config: KnowledgeConfig,
    split: Split,
    sources: SourceTexts,
    recipe: dict[str, Any],
    folder: pathlib.Path,
) -> UnfinishedBank:
    """Describes, and finds the files of an interrupted run; the arguments are those of `prepare_bank`."""
    log, old = split.log, open_earlier(config, recipe, split.until)
    _check(config, split, sources, folder)
    texts, tables = describe(config, split, sources)
    tables |= {"items_ids": log.item_ids.astype(str), "users_ids": log.user_ids.astype(str)}
    tables |= {f"{kind}_texts": text_hashes(own) for kind, own in texts.items()}
    if config.corruption.kind == "none":  # which makes texts equal on purpose
        for kind, own in texts.items():
            report_equal_texts(kind, own, tables[f"{kind}_texts"])
    earlier_rows = {
        kind: np.full(count, -1)
        for kind, count in zip(KINDS, (log.num_items, log.num_users), strict=True)
    }
    if config.since and old is not None:
        for kind in KINDS:
            earlier_rows[kind] = unchanged_rows(
                old, kind, tables[f"{kind}_ids"], tables[f"{kind}_texts"]
            )
            logger.info(
                f"{kind}: {(earlier_rows[kind] < 0).sum():,} of {len(earlier_rows[kind]):,} are new or changed since {config.since}"
            )
    return UnfinishedBank(
        texts,
        tables,
        earlier_rows,
        old,
        begin_bank(folder, _identity(config, tables, earlier_rows, old)),
    )


def _check(
    config: KnowledgeConfig, split: Split, sources: SourceTexts, folder: pathlib.Path
) -> None:
    """Raises UserError for faults that would otherwise show only after all texts were paid for and encoded."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"config.knowledge.path: {folder} holds other files and no knowledge bank; name an empty or a new folder"
        )
    if encoder_class(config.encoder).reads_text:
        prompts_of(config, split, sources)
    check_search(
        min(split.log.num_items, split.log.num_users), config.num_neighbours, config.retrieval
    )
    for kind, field in GROUP_FIELDS.items():
        row_groups(getattr(sources, kind), field, value_of(config, field))


def _identity(
    config: KnowledgeConfig,
    tables: Tables,
    earlier_rows: dict[str, np.ndarray],
    old: KnowledgeBank | None,
) -> str:
    """A hash of everything that the encoder's vectors depend on; vectors of an interrupted run are used if it is the same."""
    encoder = make_encoder(config)
    made_by: Any = (
        [config.encoder, encoder.recipe(), config.describer]
        if encoder.reads_text
        else encoder.recipe()["files"]
    )
    made_of = [made_by, config.corruption.to_dict() if config.corruption.kind != "none" else None]
    if old is not None and config.since and is_fitted(config.encoder):
        made_of.append(old.manifest["encoder"])  # the earlier encoder, which is not fitted again
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    for kind in KINDS:
        digest.update(earlier_rows[kind].tobytes())
        digest.update(tables.get(f"{kind}_texts", tables[f"{kind}_ids"]).tobytes())
    return digest.hexdigest()
