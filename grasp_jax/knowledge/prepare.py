"""From a split and its texts to a `KnowledgeBank`: describe, encode, bring into rows, retrieve, save. Reused when the recipe matches.

Tables are written to their final files, one block at a time, and an interrupted run continues with the vectors that it has.
"""

import contextlib
import pathlib
import time

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.bank import (
    MANIFEST,
    KnowledgeBank,
    bank_lock,
    leftover_files,
    load_bank,
    remove_leftover_files,
    save_bank,
)
from grasp_jax.knowledge.bank_tables import bank_tables
from grasp_jax.knowledge.earlier import check_made_since
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.geometry import Geometry
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.encoding import encode_all, fitted_encoder
from grasp_jax.knowledge.neighbours.retrieve import Search
from grasp_jax.knowledge.recipe import bank_recipe
from grasp_jax.knowledge.texts import text_writer
from grasp_jax.knowledge.unfinished_bank import KINDS, Tables, begin


def prepare_bank(
    config: KnowledgeConfig,
    split: Split,
    texts: SourceTexts,
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
      UserError: an unknown encoder, missing text, or a bank in `folder` that does not fit or was not made with `config.since`.
    """
    if (folder / MANIFEST).is_file():
        check_made_since(config, folder)
    recipe = bank_recipe(config, split, texts)
    if not (folder / MANIFEST).is_file():
        with bank_lock(folder):
            if (folder / MANIFEST).is_file():  # another process has made it meanwhile
                return load_bank(folder, recipe, config.verify)
            started = time.perf_counter()
            work = begin(config, split, texts, recipe, folder)
            encoder = fitted_encoder(config, work)
            encode_all(config, split, texts, work, encoder)
            tables = bank_tables(config, split, texts, work, search)
            _saved(config, split, texts, tables, encoder).save_around(work.encoder)
            notes = {
                "seconds": round(time.perf_counter() - started, 1),
                "users": split.log.num_users,
                "items": split.log.num_items,
                "until": split.until,
            }
            notes |= {
                name: value_of(config, name)
                for name in ("since", "centre_from")
                if value_of(config, name)
            }
            save_bank(folder, tables, recipe, notes)
    elif leftover_files(folder):
        # unless another process works there, or the folder is read-only
        with contextlib.suppress(UserError, OSError), bank_lock(folder):
            remove_leftover_files(folder)
    return load_bank(folder, recipe, config.verify)


def encode_bank(
    config: KnowledgeConfig, split: Split, texts: SourceTexts, folder: pathlib.Path
) -> None:
    """The first half of `prepare_bank`, with the same arguments and errors: describes, encodes, and stores the vectors next to the bank.

    Then another process, also on another machine, can search the neighbours.
    """
    recipe = bank_recipe(config, split, texts)
    if (folder / MANIFEST).is_file():
        check_made_since(config, folder)
        return
    with bank_lock(folder):
        if (folder / MANIFEST).is_file():  # another process has made it meanwhile
            return
        work = begin(config, split, texts, recipe, folder)
        encode_all(config, split, texts, work, fitted_encoder(config, work))


def _saved(
    config: KnowledgeConfig,
    split: Split,
    sources: SourceTexts,
    tables: Tables,
    encoder: TextEncoder,
) -> SavedTextEncoder:
    """The encoder with its preprocessing and postprocessing."""
    return SavedTextEncoder(
        name=config.encoder,
        encoder=encoder,
        writer=text_writer(config, split, sources) if encoder.reads_text else None,
        geometry={kind: Geometry(tables[f"{kind}_centre"], tables.get("basis")) for kind in KINDS},
        num_neighbours=config.num_neighbours,
        by_similarity=config.pooling == "similarity",
        describer=config.describer if encoder.reads_text else "template",
        users_have_own_texts=sources.of_users is not None,
    )
