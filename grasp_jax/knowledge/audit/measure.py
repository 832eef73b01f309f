"""Everything that an audit measures, as one value."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from grasp_jax.config import AuditConfig, KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.knowledge.audit.categories import Agreement, agreement, category_column
from grasp_jax.knowledge.audit.clusters import cluster_labels, clusters
from grasp_jax.knowledge.audit.ratings import RatedGroup
from grasp_jax.knowledge.audit.subjects import Subject
from grasp_jax.knowledge.audit.texts import GroupTexts, measure_texts
from grasp_jax.knowledge.audit.vectors import Cosines, Norms, cosines, norms
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.text.clean import clean

SHOWN_CLUSTERS, SHOWN_MEMBERS, SHOWN_CHARACTERS = 5, 3, 48


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Near-duplicates: how many rows, and what is known of the first few."""

    rows: int
    examples: list[str]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Of the items or the users.

    Attributes:
      rows, width: V or N, and E.
      norms: lengths of the rows.
      cosines: of random pairs and of nearest neighbours.
      cluster_sizes: how many clusters of near-duplicates there are of each number of rows; None where the bank holds no neighbours.
      largest: clusters to look at.
      agreement: of neighbours' categories, or None.
    """

    rows: int
    width: int
    norms: Norms
    cosines: Cosines
    cluster_sizes: dict[int, int] | None
    largest: list[Cluster]
    agreement: Agreement | None = None


@dataclasses.dataclass(frozen=True)
class Audit:
    """What is known of a run's knowledge.

    Attributes:
      recipe: of the bank.
      duplicate_cosine: from which on rows are near-duplicates.
      texts: "items" and "users" -> history groups; empty where vectors came from files.
      vectors: "items" and "users" -> measurements of their vectors.
      rated: human ratings by kind and history group; empty without a sheet.
    """

    recipe: dict[str, object]
    duplicate_cosine: float
    texts: dict[str, list[GroupTexts]]
    vectors: dict[str, Vectors]
    rated: list[RatedGroup]


def measure(
    config: KnowledgeConfig,
    subjects: Sequence[Subject],
    items: AttributeTable | None,
    bank: KnowledgeBank,
    rated: list[RatedGroup],
) -> Audit:
    """Audits the knowledge of a run.

    Args:
      config: the `knowledge` section.
      subjects: items and users.
      items: attributes of the V items, for their categories.
      bank: of the run.
      rated: what raters say.
    """
    column = category_column(config, items)
    vectors = {subject.kind: measure_vectors(subject, bank, config.audit) for subject in subjects}
    if items is not None and column and "items_neighbours" in bank.extras:
        settings = config.audit
        found = agreement(
            column,
            items.columns[column],
            bank.extras["items_neighbours"],
            settings.pairs,
            settings.seed,
        )
        vectors["items"] = dataclasses.replace(vectors["items"], agreement=found)
    texts = {
        subject.kind: measure_texts(subject, config.audit)
        for subject in subjects
        if subject.described is not None
    }
    return Audit(bank.manifest["recipe"], config.audit.duplicate_cosine, texts, vectors, rated)


def measure_vectors(subject: Subject, bank: KnowledgeBank, config: AuditConfig) -> Vectors:
    """The vectors of a subject; `config` is `config.knowledge.audit`."""
    table = {"items": bank.items, "users": bank.users}[subject.kind]
    centre, neighbours, hashes = (
        bank.extras.get(f"{subject.kind}_{name}") for name in ("centre", "neighbours", "texts")
    )
    found: list[np.ndarray] = []
    if neighbours is not None:
        found = clusters(cluster_labels(table, neighbours, hashes, config.duplicate_cosine))
    return Vectors(
        rows=len(table),
        width=bank.width,
        norms=norms(table),
        cosines=cosines(
            table, None if "basis" in bank.extras else centre, neighbours, config.pairs, config.seed
        ),
        cluster_sizes=None if neighbours is None else dict(Counter(len(rows) for rows in found)),
        largest=[
            Cluster(len(rows), [_shown(subject, int(row)) for row in rows[:SHOWN_MEMBERS]])
            for rows in found[:SHOWN_CLUSTERS]
        ],
    )


def _shown(subject: Subject, row: int) -> str:
    known = str(subject.ids[row]) if subject.known_of is None else subject.known_of(row)
    shown = clean(known, SHOWN_CHARACTERS)
    return shown + " ..." if len(shown) < len(known) else shown
