"""The tables of an audit."""

from collections.abc import Callable, Sequence

import numpy as np

from grasp_jax.knowledge.audit.measure import Audit, Vectors
from grasp_jax.knowledge.audit.ratings import RatedGroup
from grasp_jax.knowledge.audit.texts import GroupTexts
from grasp_jax.report.table_data import MISSING
from grasp_jax.report.tables import ReportTable

HISTORIES = {"items": "purchases in training", "users": "length of training history"}
SIZES = (2, 3, 6, 11)  # where a line of cluster sizes begins


def all_tables(audit: Audit) -> list[ReportTable]:
    """Every table that an audit has the numbers for."""
    tables = [ratings(audit.rated)] if audit.rated else []
    for kind, groups in audit.texts.items():
        tables += [descriptions(kind, groups), claims(kind, groups)]
    tables.append(vectors(audit.vectors))
    if any(of_kind.cluster_sizes is not None for of_kind in audit.vectors.values()):
        tables.append(cluster_sizes(audit.vectors, audit.duplicate_cosine))
    if any(of_kind.largest for of_kind in audit.vectors.values()):
        tables.append(largest_clusters(audit.vectors))
    return tables


def descriptions(kind: str, groups: Sequence[GroupTexts]) -> ReportTable:
    """Lengths, and rates of NA and refusals if there are any, by history length."""
    header, note = (
        [HISTORIES[kind], kind, "words, 10 %", "words, median", "words, 90 %"],
        "Quantiles of the number of words",
    )
    missing = any(group.na or group.refused or group.unanswered for group in groups)
    body = []
    for group in groups:
        body.append(
            [
                group.group,
                f"{group.rows:,}",
                *(
                    [MISSING] * 3
                    if group.words is None
                    else [f"{words:.0f}" for words in group.words]
                ),
            ]
        )
        body[-1] += [
            _percent(share) for share in (group.na, group.refused, group.unanswered) if missing
        ]
    if missing:
        header += ["NA", "refused", "no answer"]
        note += (
            " of the descriptions with content. NA: the language model says that it knows nothing. No answer: the endpoint rejected the "
            "prompt, or sent the answer to another one. In all three cases the text of the template is used instead"
        )
    else:
        note += ". No description is NA or a refusal"
    return ReportTable(f"descriptions-{kind}", f"Descriptions of {kind}", header, body, note)


def claims(kind: str, groups: Sequence[GroupTexts]) -> ReportTable:
    """What descriptions keep and, where they are not the prompts themselves, claim without a source, by history length."""
    header, compared = (
        [HISTORIES[kind], "read", "known words kept", "less than half kept"],
        any(group.compared for group in groups),
    )
    known = (
        "attributes that the template names"
        if kind == "items"
        else "titles in the training history"
    )
    note = f"Read: descriptions drawn at random. Known words are those of the {known}"
    body = [
        [group.group, f"{group.read:,}", _percent(group.kept), _percent(group.mostly_lost)]
        for group in groups
    ]
    if compared:
        header += ["compared", "claims", "claims without a source", "descriptions with one", "95 %"]
        note += (
            ". Claims are numbers, and capitalised words within a sentence, in descriptions that are not the prompt itself. A claim that "
            "is not in the prompt has no source"
        )
        for line, group in zip(body, groups, strict=True):
            number = MISSING if group.claims is None else f"{group.claims:.1f}"
            line += [
                f"{group.compared:,}",
                number,
                _percent(group.unsupported),
                _percent(group.with_unsupported),
                _interval(group.interval),
            ]
    else:
        note += ". Every description is the prompt itself, so nothing can be invented"
    return ReportTable(
        f"claims-{kind}", f"What descriptions of {kind} keep and claim", header, body, note
    )


def ratings(rated: Sequence[RatedGroup]) -> ReportTable:
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
            rated_group.kind,
            rated_group.group,
            str(rated_group.rated),
            str(rated_group.hallucinated),
            _percent(rated_group.rate),
            _interval((rated_group.low, rated_group.high)),
            f"{rated_group.claims:.2f}",
        ]
        for rated_group in rated
    ]
    return ReportTable(
        "ratings",
        "Hallucination as people judge it",
        header,
        body,
        "Share of judged descriptions with an unsupported claim",
    )


def vectors(of_kinds: dict[str, Vectors]) -> ReportTable:
    """Lengths, anisotropy and neighbours."""
    lines: list[tuple[str, str, Callable[[Vectors], str]]] = [
        ("rows", "", lambda of_kind: f"{of_kind.rows:,}"),
        ("width E", "", lambda of_kind: str(of_kind.width)),
        ("length", "smallest", lambda of_kind: f"{of_kind.norms.smallest:.3f}"),
        ("length", "mean", lambda of_kind: f"{of_kind.norms.mean:.3f}"),
        ("length", "largest", lambda of_kind: f"{of_kind.norms.largest:.3f}"),
        ("length", "rows without a vector", lambda of_kind: f"{of_kind.norms.zero_rows:,}"),
        ("cosine", "random pairs, before centring", lambda of_kind: _mean(of_kind.cosines.before)),
        ("cosine", "random pairs", lambda of_kind: _mean(of_kind.cosines.after)),
        ("cosine", "nearest neighbour", lambda of_kind: _mean(of_kind.cosines.nearest)),
    ]
    found = next((of_kind.agreement for of_kind in of_kinds.values() if of_kind.agreement), None)
    note = "The mean cosine of random pairs is the anisotropy: 0 if the directions have nothing in common, 1 if all are the same"
    if found:
        lines += [
            (
                f"{found.column} in common",
                "nearest neighbour",
                lambda of_kind: _percent(of_kind.agreement.first if of_kind.agreement else None),
            ),
            (
                f"{found.column} in common",
                "all K neighbours",
                lambda of_kind: _percent(of_kind.agreement.all if of_kind.agreement else None),
            ),
            (
                f"{found.column} in common",
                "random pairs",
                lambda of_kind: _percent(of_kind.agreement.chance if of_kind.agreement else None),
            ),
        ]
    else:
        note += (
            ". The table does not say whether neighbours share a category, because the items table has no column 'category' or "
            "'categories'; config.knowledge.audit.category_column may name another column"
        )
    body = [
        [name, which, *(value(of_kind) for of_kind in of_kinds.values())]
        for name, which, value in lines
    ]
    return ReportTable("vectors", "Vectors", ["", "", *of_kinds], body, note)


def cluster_sizes(of_kinds: dict[str, Vectors], least_cosine: float) -> ReportTable:
    """How many near-duplicates there are."""
    header, body = ["rows of a cluster"], []
    for kind in of_kinds:
        header += [f"clusters of {kind}", f"share of {kind}"]
    for k, low in enumerate(SIZES):
        high = SIZES[k + 1] - 1 if k + 1 < len(SIZES) else 0
        line = [f"{low} or more" if not high else str(low) if high == low else f"{low} to {high}"]
        for of_kind in of_kinds.values():
            sizes = {
                size: count
                for size, count in (of_kind.cluster_sizes or {}).items()
                if size >= low and (not high or size <= high)
            }
            line += [
                f"{sum(sizes.values()):,}",
                _percent(sum(size * count for size, count in sizes.items()) / of_kind.rows),
            ]
        body.append(line)
    note = (
        "Two rows are in one cluster if they have the same text, or if a chain of stored neighbours with cosines of at least "
        f"{least_cosine:g} joins them"
    )
    return ReportTable("near-duplicates", "Near-duplicates", header, body, note)


def largest_clusters(of_kinds: dict[str, Vectors]) -> ReportTable:
    """The largest clusters of near-duplicates, to be looked at."""
    body = [
        [kind, " / ".join(one.examples), f"{one.rows:,}"]
        for kind, of_kind in of_kinds.items()
        for one in of_kind.largest
    ]
    return ReportTable(
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
