"""From a split and its texts to a `KnowledgeBank`: describe, encode, bring into rows, retrieve, save. Reused when the recipe matches.

Tables are written to their final files, one block at a time, and an interrupted run continues with the vectors that it has.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.data.attributes import Texts
from grasp_jax.data.split import Split, ends_no_later
from grasp_jax.errors import UserError
from grasp_jax.knowledge.bank import (
    ENCODER,
    MANIFEST,
    KnowledgeBank,
    begin_bank,
    left_over,
    load_bank,
    making_of,
    new_table,
    read_manifest,
    remove_left_over,
    save_bank,
)
from grasp_jax.knowledge.corruption import ITEMS, USERS, described_by
from grasp_jax.knowledge.encoders import encoder_class, is_fitted, make_encoder, per_text_encoders
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.geometry import (
    Blocks,
    Geometry,
    mean_direction,
    principal_directions,
    to_rows,
    widths,
)
from grasp_jax.knowledge.encoders.processes import Encoding, encoding
from grasp_jax.knowledge.encoders.saved import MODEL, SavedTextEncoder
from grasp_jax.knowledge.encoders.state import STATE
from grasp_jax.knowledge.encoders.vector_files import RowVectors, open_vectors
from grasp_jax.knowledge.neighbours.pooling import mean_of_neighbours
from grasp_jax.knowledge.neighbours.retrieve import Search, find_neighbours, row_groups, same_text
from grasp_jax.knowledge.neighbours.search import check_search
from grasp_jax.knowledge.raw import LENGTHS, item_lengths
from grasp_jax.knowledge.recipe import OF_THE_DAY, bank_recipe
from grasp_jax.knowledge.refresh import refreshed_neighbours, text_hashes, unchanged_rows
from grasp_jax.knowledge.shards import fill_shards, missing_shards, read_shards, shard_width
from grasp_jax.knowledge.text.prompts import item_titles
from grasp_jax.knowledge.texts import describe, prompts_of, text_writer
from grasp_jax.log import logger
from grasp_jax.progress import progress_bar

KINDS = ("items", "users")
BLOCK = 4096  # rows taken over at a time
Tables = dict[str, np.ndarray]


def prepare_bank(
    config: KnowledgeConfig,
    split: Split,
    texts: Texts,
    folder: pathlib.Path,
    search: Search | None = None,
) -> KnowledgeBank:
    """The bank for `split`: opened if `folder` holds it, made and saved otherwise.

    Args:
      config: the `knowledge` section.
      split: histories whose training part may be read.
      texts: what is known of items and users; nothing is needed with the encoder `file`.
      folder: `config.path`, or the run's own folder.
      search: as of `find_neighbours`.

    Raises:
      UserError: an unknown encoder, missing text, or a bank in `folder` that does not fit.
    """
    recipe = bank_recipe(config, split, texts)
    if not (folder / MANIFEST).is_file():
        with making_of(folder):
            started = time.perf_counter()
            work = begin(config, split, texts, recipe, folder)
            encoder = _fitted(config, work)
            _encode_all(config, split, texts, work, encoder)
            tables = _finish(config, split, texts, work, search)
            _saved(config, split, texts, tables, encoder).save_around(work.encoder)
            notes = {
                "seconds": round(time.perf_counter() - started, 1),
                "users": split.log.num_users,
                "items": split.log.num_items,
            }
            notes |= {
                name: value_of(config, name)
                for name in ("since", "centre_from")
                if value_of(config, name)
            }
            save_bank(folder, tables, recipe, notes)
    elif left_over(folder):
        with (
            contextlib.suppress(UserError, OSError),
            making_of(folder),
        ):  # unless somebody works there, or may not write
            remove_left_over(folder)
    return load_bank(folder, recipe, config.verify)


def encode_bank(config: KnowledgeConfig, split: Split, texts: Texts, folder: pathlib.Path) -> None:
    """The first half of `prepare_bank`, with the same arguments and errors: describes and encodes, and stores the vectors next to the bank
    for the second half. So another process, also on another machine, may search the neighbours.
    """
    recipe = bank_recipe(config, split, texts)
    if (folder / MANIFEST).is_file():
        return
    with making_of(folder):
        work = begin(config, split, texts, recipe, folder)
        _encode_all(config, split, texts, work, _fitted(config, work))


class Work(NamedTuple):
    """A bank in the making, described and not yet encoded.

    Attributes:
      texts: of "items" and "users"; none with the encoder `file`.
      tables: the extras that are known by now.
      kept: [rows] each row's place in the earlier bank of `config.since`, -1 for what is to be encoded.
      old: the bank that `config.since` or `config.centre_from` names.
      partial: the folder in which the bank is made.
    """

    texts: Mapping[str, Sequence[str]]
    tables: Tables
    kept: dict[str, np.ndarray]
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
        return np.flatnonzero(self.kept[kind] < 0)


def begin(
    config: KnowledgeConfig,
    split: Split,
    sources: Texts,
    recipe: dict[str, Any],
    folder: pathlib.Path,
) -> Work:
    """Describes, and finds what an interrupted run has left; the arguments are those of `prepare_bank`."""
    log, old = split.log, _earlier(config, recipe)
    _check(config, split, sources, folder)
    texts, tables = describe(config, split, sources)
    tables |= {"items_ids": log.item_ids.astype(str), "users_ids": log.user_ids.astype(str)}
    tables |= {f"{kind}_texts": text_hashes(own) for kind, own in texts.items()}
    kept = {
        kind: np.full(count, -1)
        for kind, count in zip(KINDS, (log.num_items, log.num_users), strict=True)
    }
    if config.since and old is not None:
        for kind in KINDS:
            kept[kind] = unchanged_rows(old, kind, tables[f"{kind}_ids"], tables[f"{kind}_texts"])
            logger.info(
                f"{kind}: {(kept[kind] < 0).sum():,} of {len(kept[kind]):,} are new or changed since {config.since}"
            )
    return Work(texts, tables, kept, old, begin_bank(folder, _identity(config, tables, kept, old)))


def _check(config: KnowledgeConfig, split: Split, sources: Texts, folder: pathlib.Path) -> None:
    """Raises UserError for what would be found out only after all texts were paid for and encoded."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"config.knowledge.path: {folder} holds other files and no knowledge bank; name an empty or a new folder"
        )
    if encoder_class(config.encoder).reads_text:
        prompts_of(config, split, sources)
    check_search(
        min(split.log.num_items, split.log.num_users), config.num_neighbours, config.retrieval
    )
    for kind, field in _GROUP_FIELDS.items():
        row_groups(getattr(sources, kind), field, value_of(config, field))


_GROUP_FIELDS = {"items": "group_column", "users": "user_group_column"}


def _finish(
    config: KnowledgeConfig,
    split: Split,
    sources: Texts,
    work: Work,
    search: Search | None = None,
) -> Tables:
    """The four tables of a bank and its extras; with `config.since`, what is unchanged comes from that bank."""
    tables, partial, since = work.tables, work.partial, work.old if config.since else None
    geometries = _geometries(config, split, work)
    for kind in KINDS:
        unit = _write_rows(config, kind, work, geometries[kind])
        field = _GROUP_FIELDS[kind]
        groups = row_groups(getattr(sources, kind), field, value_of(config, field))
        if (
            since is not None
            and config.retrieval == "exact"
            and groups is None
            and not config.exclude_copies
        ):
            neighbours = refreshed_neighbours(
                unit, config.num_neighbours, work.kept[kind], since.extras[f"{kind}_neighbours"]
            )
        else:
            labels = same_text(tables.get(f"{kind}_texts"), unit) if config.exclude_copies else None
            neighbours = find_neighbours(config, kind, unit, groups, labels, partial, search)
        tables[kind] = unit
        tables[f"{kind}_similar"] = new_table(partial, f"{kind}_similar", unit.shape, config.dtype)
        mean_of_neighbours(
            unit, neighbours, tables[f"{kind}_similar"], config.pooling == "similarity"
        )
        tables |= {f"{kind}_centre": geometries[kind].centre, f"{kind}_neighbours": neighbours}
    earlier = work.old.extras.get(LENGTHS) if work.old is not None else None
    lengths = item_lengths(work.shards, work.kept["items"], geometries["items"].centre, earlier)
    if lengths is not None:
        tables[LENGTHS] = lengths
    if geometries["items"].basis is not None:
        tables["basis"] = geometries["items"].basis
    return tables


def _earlier(config: KnowledgeConfig, recipe: dict[str, Any]) -> KnowledgeBank | None:
    """The bank that `config.since`, or `config.centre_from`, names.

    Raises:
      UserError: it was made otherwise than this one is to be made, or has nothing to continue from.
    """
    folder = config.since or config.centre_from
    if not folder:
        return None
    if config.since and not encoder_class(config.encoder).reads_text:
        raise UserError(
            f"--since: the encoder {config.encoder!r} encodes no texts, so it is not known which vectors are new; prepare without --since"
        )
    bank = pathlib.Path(folder)
    if not (bank / MANIFEST).is_file() and (bank / "knowledge" / MANIFEST).is_file():
        bank = bank / "knowledge"  # of a workdir
    made_by = read_manifest(bank, "name the folder of a whole bank")["recipe"]
    moved_on = ends_no_later(str(made_by.get("cut_off")), recipe["cut_off"])
    cut_off = (
        ("cut_off",) if moved_on else ()
    )  # a later end would tell what is now in validation or test
    old = load_bank(bank, recipe, config.verify, of_other=(*OF_THE_DAY, *cut_off))
    if "items_centre" not in old.extras:
        raise UserError(
            f"{folder}: an older version made this bank, and it does not store the mean that was subtracted from its "
            "rows; prepare without it"
        )
    if config.since and is_fitted(config.encoder) and old.encoder_folder is None:
        raise UserError(
            f"--since: {folder} lacks its encoder, for an older version made it, and {config.encoder!r} fitted again would give all texts "
            f"other vectors; prepare without --since, or use one of {', '.join(per_text_encoders())}"
        )
    return old


def _identity(
    config: KnowledgeConfig, tables: Tables, kept: dict[str, np.ndarray], old: KnowledgeBank | None
) -> str:
    """What the encoder's vectors depend on: those of an interrupted run are used where it is the same."""
    encoder = make_encoder(config)
    made_by: Any = (
        [config.encoder, encoder.recipe(), config.describer]
        if encoder.reads_text
        else encoder.recipe()["files"]
    )
    made_of = [made_by, config.corruption.to_dict() if config.corruption.kind != "none" else None]
    if old is not None and config.since and is_fitted(config.encoder):
        made_of.append(old.manifest["encoder"])  # yesterday's encoder, which is not fitted again
    found = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    for kind in KINDS:
        found.update(kept[kind].tobytes())
        found.update(tables.get(f"{kind}_texts", tables[f"{kind}_ids"]).tobytes())
    return found.hexdigest()


def _fitted(config: KnowledgeConfig, work: Work) -> TextEncoder:
    """The encoder, newly fitted or of an earlier day; it is stored in the bank's folder."""
    kind, folder = encoder_class(config.encoder), work.encoder / MODEL
    encoder = kind.from_config(config)
    if is_fitted(config.encoder):
        if (folder / STATE).is_file():
            with contextlib.suppress(UserError):  # an interrupted run's may be damaged
                return kind.load(folder)
        if config.since and work.old is not None and work.old.encoder_folder is not None:
            encoder = kind.load(work.old.encoder_folder / MODEL)
        else:
            encoder = encoder.fit(work.texts["items"])
    encoder.save(folder)
    return encoder


def _saved(
    config: KnowledgeConfig, split: Split, sources: Texts, tables: Tables, encoder: TextEncoder
) -> SavedTextEncoder:
    """The encoder with all that is done before and after it."""
    return SavedTextEncoder(
        name=config.encoder,
        encoder=encoder,
        writer=text_writer(config, split, sources) if encoder.reads_text else None,
        geometry={kind: Geometry(tables[f"{kind}_centre"], tables.get("basis")) for kind in KINDS},
        num_neighbours=config.num_neighbours,
        by_similarity=config.pooling == "similarity",
        describer=config.describer if encoder.reads_text else "template",
        brought_along=sources.of_users is not None,
    )


def _encode_all(
    config: KnowledgeConfig, split: Split, sources: Texts, work: Work, encoder: TextEncoder
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
    with (
        _session(work, encoder),
        encoding(config.encoder, encoder, work.encoder / MODEL, blocks) as how,
    ):
        _fill(work, {kind: _of_texts(own, how) for kind, own in work.texts.items()}, how.at_once)


def _fill(work: Work, vectors_of: Mapping[str, RowVectors], at_once: int = 1) -> None:
    """Fills the shards of "items" and of "users", with a progress bar for each."""
    for kind in KINDS:
        rows = work.wanted(kind)
        with progress_bar(len(rows), f"encode {kind}", "text") as bar:
            fill_shards(work.shards, kind, rows, vectors_of[kind], bar.update, at_once)


def _of_texts(own: Sequence[str], how: Encoding) -> RowVectors:
    return lambda rows: how.encode([own[row] for row in rows])


def _session(work: Work, encoder: TextEncoder) -> contextlib.AbstractContextManager[None]:
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


def _geometries(config: KnowledgeConfig, split: Split, work: Work) -> dict[str, Geometry]:
    """What is to be done to vectors of items and of users: an earlier bank's, or found from these.

    Raises:
      UserError: vectors of several widths, or of another than the earlier bank's.
    """
    given = {kind: shard_width(work.shards, kind) for kind in KINDS if len(work.wanted(kind))}
    if work.old is not None:
        extras = work.old.extras
        earlier = {
            kind: Geometry(np.asarray(extras[f"{kind}_centre"]), extras.get("basis"))
            for kind in KINDS
        }
        wide = len(earlier["items"].centre)
        for width in given.values():
            if widths(config, width)[0] != wide:
                named = config.since or config.centre_from
                raise UserError(
                    f"{named}: that bank's vectors are {wide} wide, the encoder's {width}; prepare without it"
                )
        return earlier
    if len(set(given.values())) > 1:
        raise UserError(
            f"item vectors are {given['items']} wide and user vectors {given['users']}; expected one width"
        )
    read, kept = widths(config, given["items"])
    blocks: dict[str, Blocks] = {
        kind: functools.partial(read_shards, work.shards, kind) for kind in KINDS
    }
    centres = {
        kind: mean_direction(blocks[kind], read) if config.center else np.zeros(read, np.float32)
        for kind in KINDS
    }
    basis = None
    if config.reduction.kind == "pca" or config.whiten:
        basis = principal_directions(
            blocks["items"], split.item_counts > 0, centres["items"], kept, config.whiten
        )
    return {kind: Geometry(centre, basis) for kind, centre in centres.items()}


def _write_rows(config: KnowledgeConfig, kind: str, work: Work, geometry: Geometry) -> np.ndarray:
    """[rows, E] the table of a kind: the earlier bank's rows where it has them, the encoder's in order elsewhere."""
    width = len(geometry.centre) if geometry.basis is None else geometry.basis.shape[1]
    kept, new, begin = work.kept[kind], work.wanted(kind), 0
    unit = new_table(work.partial, kind, (len(kept), width), config.dtype)
    for vectors in read_shards(work.shards, kind):
        unit[new[begin : begin + len(vectors)]] = to_rows(vectors, geometry)
        begin += len(vectors)
    if work.old is not None:
        old, again = getattr(work.old, kind), np.flatnonzero(kept >= 0)
        for start in range(0, len(again), BLOCK):
            rows = again[start : start + BLOCK]
            unit[rows] = old[kept[rows]]
    return unit
