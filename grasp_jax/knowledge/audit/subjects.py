"""What is audited, of items and of users alike: ids, history groups, what is known, and where there are texts, descriptions and prompts."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.split import Split
from grasp_jax.knowledge.audit.groups import HistoryGroups, history_groups
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.refresh import text_hashes
from grasp_jax.knowledge.text import prompts
from grasp_jax.knowledge.text.clean import STATUSES, status_of
from grasp_jax.knowledge.text.columns import as_list, cleaned, columns_read
from grasp_jax.knowledge.text.prompts import PromptOf
from grasp_jax.knowledge.texts import describe, prompts_of, require_answers

TextOf = Callable[[int], str]  # row -> text


@dataclasses.dataclass(frozen=True)
class Descriptions:
    """Texts of all rows.

    Attributes:
      texts: [rows] as they were encoded: the template's text stands in for an answer that is of no use.
      statuses: [rows] uint8, how each came about, an index into `clean.STATUSES`.
      prompt_of: row -> the prompt that the describer got.
    """

    texts: Sequence[str]
    statuses: np.ndarray
    prompt_of: PromptOf


@dataclasses.dataclass(frozen=True)
class Subject:
    """The V items or the N users.

    Attributes:
      kind: "items" or "users".
      ids: [rows] of the source.
      groups: over training interactions, of an item or of a user.
      known_of: row -> attributes of the item that its template names, or titles of the user's training window; None without items table.
      described: None where vectors came from files.
    """

    kind: str
    ids: np.ndarray
    groups: HistoryGroups
    known_of: TextOf | None = None
    described: Descriptions | None = None


def group_labels(config: KnowledgeConfig) -> list[str]:
    """All labels that `config.audit.history_groups` makes."""
    return history_groups(np.zeros(0, int), config.audit.history_groups).labels


def make_subjects(
    config: KnowledgeConfig, split: Split, sources: SourceTexts, bank: KnowledgeBank
) -> list[Subject]:
    """Items and users of a run; sends no request to an endpoint.

    Args:
      config: the `knowledge` section.
      split: of the run.
      sources: attributes of items and users.
      bank: of the run.

    Raises:
      UserError: a description is not in the cache of answers, or the bank was made from other ones.
    """
    require_answers(config, split, sources)
    texts, statuses = describe(config, split, sources)
    of_prompts = (
        dict(zip(("items", "users"), prompts_of(config, split, sources), strict=True))
        if texts
        else {}
    )
    known = _known(config, split, sources)
    ids = {"items": split.log.item_ids, "users": split.log.user_ids}
    lengths = {"items": split.item_counts, "users": split.train_lengths}
    made = []
    for kind in ids:
        described = None
        if texts:
            check_same_texts(bank, kind, texts[kind])
            described = Descriptions(
                texts[kind],
                _statuses(texts[kind], statuses.get(f"{kind}_status")),
                of_prompts[kind],
            )
        groups = history_groups(lengths[kind], config.audit.history_groups)
        made.append(Subject(kind, ids[kind], groups, known.get(kind), described))
    return made


def _statuses(texts: Sequence[str], stored: np.ndarray | None) -> np.ndarray:
    """[rows] uint8: the status from the describer, or that of the text itself if the first is "ok" or was not stored."""
    of_texts = np.array([STATUSES.index(status_of(text)) for text in texts], np.uint8)
    return of_texts if stored is None else np.where(stored > 0, stored, of_texts)


def _known(config: KnowledgeConfig, split: Split, sources: SourceTexts) -> dict[str, TextOf]:
    if sources.items is None:
        return {}
    items = cleaned(sources.items)
    columns, windows, flat_items = items.columns, split.train, split.log.items
    named = columns_read(
        sources.items, config.text_columns, prompts.load_template(config.item_template)
    )
    titles = prompts.item_titles(items)
    return {
        "items": lambda row: ", ".join(
            part for name in named for part in as_list(columns[name][row])
        ),
        "users": lambda row: ", ".join(
            titles[item] for item in flat_items[windows.start[row] : windows.end[row]]
        ),
    }


def check_same_texts(bank: KnowledgeBank, kind: str, texts: Sequence[str]) -> None:
    """Raises UserError if the bank was made from other texts: if the cache was lost and filled again, it has other answers."""
    stored = bank.extras.get(f"{kind}_texts")
    if stored is None:
        return
    other = int((np.asarray(stored) != text_hashes(texts)).any(axis=1).sum())
    if other:
        raise UserError(
            f"config.knowledge.describe.cache: {other:,} of {len(texts):,} descriptions of {kind} are not those that the knowledge bank "
            "was made from; name the cache that it was made with, or remove the bank and run --mode=prepare"
        )
