"""The encoder of a bank, and the vectors of its texts, or of files, in shards that an interrupted run continues."""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.core.errors import EndpointError, UserError
from grasp_jax.core.progress import progress_bar
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.corruption import ITEMS, USERS, described_by
from grasp_jax.knowledge.encoders import encoder_class, is_fitted
from grasp_jax.knowledge.encoders.base import RejectedText, TextEncoder
from grasp_jax.knowledge.encoders.processes import Encoding, encoding
from grasp_jax.knowledge.encoders.saved import MODEL
from grasp_jax.knowledge.encoders.state import STATE
from grasp_jax.knowledge.encoders.vector_files import RowVectors, open_vectors
from grasp_jax.knowledge.repeats import most_common, report_equal_vectors
from grasp_jax.knowledge.shards import fill_shards, missing_shards, read_shards
from grasp_jax.knowledge.text.prompts import item_titles
from grasp_jax.knowledge.unfinished_bank import KINDS, UnfinishedBank


def fitted_encoder(config: KnowledgeConfig, work: UnfinishedBank) -> TextEncoder:
    """The encoder, fitted now or that of the earlier bank; it is stored in the bank's folder."""
    kind, folder = encoder_class(config.encoder), work.encoder / MODEL
    encoder = kind.from_config(config)
    if is_fitted(config.encoder):
        if (folder / STATE).is_file():
            with contextlib.suppress(UserError):  # the one of an interrupted run may be damaged
                return kind.load(folder)
        if config.since and work.old is not None and work.old.encoder_folder is not None:
            encoder = kind.load(work.old.encoder_folder / MODEL)
        else:
            encoder = encoder.fit(work.texts["items"])
    encoder.save(folder)
    return encoder


def encode_all(
    config: KnowledgeConfig,
    split: Split,
    sources: SourceTexts,
    work: UnfinishedBank,
    encoder: TextEncoder,
) -> None:
    """Fills the shards that are missing."""
    blocks = sum(len(missing_shards(work.shards, kind, work.wanted(kind))) for kind in KINDS)
    if not blocks:
        return
    if not encoder.reads_text:
        titles = item_titles(sources.items) if sources.items is not None else None
        of_items = _of_file(config, "item", split.log.item_ids, ITEMS, titles)
        of_users = _of_file(config, "user", split.log.user_ids, USERS)
        _fill(work, {"items": of_items, "users": of_users})
        return
    try:
        with (
            _session(work, encoder),
            encoding(config.encoder, encoder, work.encoder / MODEL, blocks) as how,
        ):
            _fill(
                work, {kind: _of_texts(own, how) for kind, own in work.texts.items()}, how.at_once
            )
    except RejectedText as error:
        if error.kind not in KINDS:
            raise
        raise EndpointError(
            f"{error.where}: the text of {_whose(work, error)} {error.reason}; {_remedy(config, sources, error.kind)}; vectors so far are "
            "kept",
            error.where,
        ) from None
    if config.corruption.kind == "none":  # which makes texts equal on purpose
        for kind in KINDS:
            wanted = work.wanted(kind)
            same_text, _ = most_common(work.tables[f"{kind}_texts"][wanted])
            ids = work.tables[f"{kind}_ids"][wanted]
            report_equal_vectors(kind, ids, read_shards(work.shards, kind), same_text)


def _whose(work: UnfinishedBank, error: RejectedText) -> str:
    """The item or user whose text was rejected."""
    row = work.wanted(error.kind)[error.row]
    return f"{error.kind[:-1]} {work.tables[f'{error.kind}_ids'][row]}"


def _remedy(config: KnowledgeConfig, sources: SourceTexts, kind: str) -> str:
    """What the user may do about a text that is rejected, by what made the text."""
    if kind == "users" and sources.of_users is not None:
        return "mend the text of this user in the data"
    if config.describer != "template":
        return "lower config.knowledge.describe.max_characters, or mend the data"
    columns = ", or name fewer columns in config.knowledge.text_columns" if kind == "items" else ""
    return f"mend the data, or make texts shorter by config.knowledge.{kind[:-1]}_template{columns}"


def _fill(work: UnfinishedBank, vectors_of: Mapping[str, RowVectors], at_once: int = 1) -> None:
    """Fills the shards of "items" and of "users", with a progress bar for each."""
    for kind in KINDS:
        rows = work.wanted(kind)
        with progress_bar(len(rows), f"encode {kind}", "text") as bar:
            fill_shards(work.shards, kind, rows, vectors_of[kind], bar.update, at_once)


def _of_texts(own: Sequence[str], how: Encoding) -> RowVectors:
    return lambda rows: how.encode([own[row] for row in rows])


def _session(work: UnfinishedBank, encoder: TextEncoder) -> contextlib.AbstractContextManager[None]:
    """The encoder's session with all texts that are to be encoded."""

    def to_encode(kind: str, own: Sequence[str]) -> Sequence[str]:
        wanted = work.wanted(kind)
        return own if len(wanted) == len(own) else [own[row] for row in wanted]

    return encoder.session({kind: to_encode(kind, own) for kind, own in work.texts.items()})


def _of_file(
    config: KnowledgeConfig,
    kind: str,
    ids: np.ndarray,
    purpose: int,
    titles: Sequence[str] | None = None,
) -> RowVectors:
    """Vectors that were made elsewhere; with titles, an items table gave the order of the rows."""
    source = described_by(config.corruption, len(ids), purpose)
    read = open_vectors(
        value_of(config, f"{kind}_file"),
        ids,
        value_of(config, f"{kind}_ids_file"),
        kind,
        titles is not None,
        titles,
    )
    return lambda rows: read(source[rows])
