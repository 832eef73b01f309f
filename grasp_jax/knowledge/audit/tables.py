"""The tables of an audit."""

from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.knowledge.audit.measure import Audit, Vectors
from grasp_jax.knowledge.audit.ratings import RatedGroup
from grasp_jax.knowledge.audit.texts import GroupTexts
from grasp_jax.report.tables import MISSING, Table

HISTORIES = {"items": "purchases in training", "users": "length of training history"}
SIZES = (2, 3, 6, 11)  # where a line of cluster sizes begins


def all_tables(audit: Audit) -> list[Table]:
    """Every table that an audit has the numbers for."""
    tables = [ratings(audit.rated)] if audit.rated else []
    for kind, groups in audit.texts.items():
        tables += [descriptions(kind, groups), claims(kind, groups)]
    tables.append(vectors(audit.vectors))
    if any(own.cluster_sizes is not None for own in audit.vectors.values()):
        tables.append(cluster_sizes(audit.vectors, audit.duplicate_cosine))
    if any(own.largest for own in audit.vectors.values()):
        tables.append(largest_clusters(audit.vectors))
    return tables


def descriptions(kind: str, groups: Sequence[GroupTexts]) -> Table:
    """Lengths, and rates of NA and refusals if there are any, by history length."""
    header, note = (
        [HISTORIES[kind], kind, "words, 10 %", "words, median", "words, 90 %"],
        "Quantiles of the number of words",
    )
    missing = any(own.na or own.refused or own.unanswered for own in groups)
    body = []
    for own in groups:
        body.append(
            [
                own.group,
                f"{own.rows:,}",
                *([MISSING] * 3 if own.words is None else [f"{words:.0f}" for words in own.words]),
            ]
        )
        body[-1] += [_percent(share) for share in (own.na, own.refused, own.unanswered) if missing]
    if missing:
        header += ["NA", "refused", "no answer"]
        note += (
            " of the descriptions with content. NA: the language model says that it knows nothing. No answer: the endpoint rejected the "
            "prompt, or sent the answer to another one. In all three cases the text of the template is used instead"
        )
    else:
        note += ". No description is NA or a refusal"
    return Table(f"descriptions-{kind}", f"Descriptions of {kind}", header, body, note)


def claims(kind: str, groups: Sequence[GroupTexts]) -> Table:
    """What descriptions keep and, where they are not the prompts themselves, claim without a source, by history length."""
    header, compared = (
        [HISTORIES[kind], "read", "known words kept", "less than half kept"],
        any(own.compared for own in groups),
    )
    known = (
        "attributes that the template names"
        if kind == "items"
        else "titles in the training history"
    )
    note = f"Read: descriptions drawn at random. Known words are those of the {known}"
    body = [
        [own.group, f"{own.read:,}", _percent(own.kept), _percent(own.mostly_lost)]
        for own in groups
    ]
    if compared:
        header += ["compared", "claims", "claims without a source", "descriptions with one", "95 %"]
        note += (
            ". Claims are numbers, and capitalised words within a sentence, in descriptions that are not the prompt itself. A claim that "
            "is not in the prompt has no source"
        )
        for line, own in zip(body, groups, strict=True):
            number = MISSING if own.claims is None else f"{own.claims:.1f}"
            line += [
                f"{own.compared:,}",
                number,
                _percent(own.unsupported),
                _percent(own.with_unsupported),
                _interval(own.interval),
            ]
    else:
        note += ". Every description is the prompt itself, so nothing can be invented"
    return Table(
        f"claims-{kind}", f"What descriptions of {kind} keep and claim", header, body, note
    )


def ratings(rated: Sequence[RatedGroup]) -> Table:
    """Figure 1(c): the rate of hallucination by history length, as people judge it."""
    header = [
        "of",
        "history",
        "judged",
        "with an unsupported claim",
        "rate",
        "95 % (Wilson)",
        "unsupported claims, mean",
    ]
    body = [
        [
            own.kind,
            own.group,
            str(own.rated),
            str(own.hallucinated),
            _percent(own.rate),
            _interval((own.low, own.high)),
            f"{own.claims:.2f}",
        ]
        for own in rated
    ]
    return Table(
        "ratings",
        "Hallucination as people judge it",
        header,
        body,
        "Share of judged descriptions with an unsupported claim",
    )


def vectors(of_kinds: dict[str, Vectors]) -> Table:
    """Lengths, anisotropy and neighbours."""
    lines: list[tuple[str, str, Callable[[Vectors], str]]] = [
        ("rows", "", lambda own: f"{own.rows:,}"),
        ("width E", "", lambda own: str(own.width)),
        ("length", "smallest", lambda own: f"{own.norms.smallest:.3f}"),
        ("length", "mean", lambda own: f"{own.norms.mean:.3f}"),
        ("length", "largest", lambda own: f"{own.norms.largest:.3f}"),
        ("length", "rows without a vector", lambda own: f"{own.norms.zero_rows:,}"),
        ("cosine", "random pairs, before centring", lambda own: _mean(own.cosines.before)),
        ("cosine", "random pairs", lambda own: _mean(own.cosines.after)),
        ("cosine", "nearest neighbour", lambda own: _mean(own.cosines.nearest)),
    ]
    found = next((own.agreement for own in of_kinds.values() if own.agreement), None)
    note = "The mean cosine of random pairs is the anisotropy: 0 if the directions have nothing in common, 1 if all are the same"
    if found:
        lines += [
            (
                f"{found.column} in common",
                "nearest neighbour",
                lambda own: _percent(own.agreement.first if own.agreement else None),
            ),
            (
                f"{found.column} in common",
                "all K neighbours",
                lambda own: _percent(own.agreement.all if own.agreement else None),
            ),
            (
                f"{found.column} in common",
                "random pairs",
                lambda own: _percent(own.agreement.chance if own.agreement else None),
            ),
        ]
    else:
        note += (
            ". The table does not say whether neighbours share a category, because the items table has no column 'category' or "
            "'categories'; config.knowledge.audit.category_column may name another column"
        )
    body = [
        [name, which, *(value(own) for own in of_kinds.values())] for name, which, value in lines
    ]
    return Table("vectors", "Vectors", ["", "", *of_kinds], body, note)


def cluster_sizes(of_kinds: dict[str, Vectors], least_cosine: float) -> Table:
    """How many near-duplicates there are."""
    header, body = ["rows of a cluster"], []
    for kind in of_kinds:
        header += [f"clusters of {kind}", f"share of {kind}"]
    for k, low in enumerate(SIZES):
        high = SIZES[k + 1] - 1 if k + 1 < len(SIZES) else 0
        line = [f"{low} or more" if not high else str(low) if high == low else f"{low} to {high}"]
        for own in of_kinds.values():
            sizes = {
                size: count
                for size, count in (own.cluster_sizes or {}).items()
                if size >= low and (not high or size <= high)
            }
            line += [
                f"{sum(sizes.values()):,}",
                _percent(sum(size * count for size, count in sizes.items()) / own.rows),
            ]
        body.append(line)
    note = (
        "Two rows are in one cluster if they have the same text, or if a chain of stored neighbours with cosines of at least "
        f"{least_cosine:g} joins them"
    )
    return Table("near-duplicates", "Near-duplicates", header, body, note)


def largest_clusters(of_kinds: dict[str, Vectors]) -> Table:
    """The largest clusters of near-duplicates, to be looked at."""
    body = [
        [kind, " / ".join(one.examples), f"{one.rows:,}"]
        for kind, own in of_kinds.items()
        for one in own.largest
    ]
    return Table(
        "largest-clusters",
        "The largest clusters",
        ["of", "attributes of the first rows", "rows"],
        body,
        "With the first rows of each cluster",
    )


def _mean(values: np.ndarray | None) -> str:
    return f"{values.mean():.3f}" if values is not None and len(values) else MISSING


def _interval(interval: tuple[float, float] | None) -> str:
    return MISSING if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"
