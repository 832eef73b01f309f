"""The findings of an audit in sentences, the worst first: red, amber or green by rules of thumb, which are shown with each."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from grasp_jax.knowledge.audit.measure import Audit, Vectors
from grasp_jax.knowledge.audit.texts import GroupTexts

LEVELS = ("red", "amber", "green")


@dataclasses.dataclass(frozen=True)
class Rule:
    """The thresholds of a share.

    Attributes:
      amber, red: the bounds of the two levels; if `amber` is above `red`, low values are the bad ones.
      why: what a bad value does to recommendations.
      words: the bounds in words, if the numbers would not say them well.
    """

    amber: float
    red: float
    why: str
    words: str = ""

    def level(self, value: float) -> str:
        """The level of a value."""
        sign = 1 if self.red >= self.amber else -1
        return (
            "red"
            if sign * value >= sign * self.red
            else "amber"
            if sign * value >= sign * self.amber
            else "green"
        )

    def in_words(self, unit: str = " %") -> str:
        """The bounds in words."""
        if self.words:
            return self.words
        side = "or more" if self.red >= self.amber else "or less"
        amber, red = (
            f"{100 * bound:g}{unit}" if unit == " %" else f"{bound:g}"
            for bound in (self.amber, self.red)
        )
        return f"amber at {amber} {side}, red at {red} {side}"


EMPTY = Rule(0.05, 0.2, "such a text says nothing about its item or user")
UNSUPPORTED = Rule(0.1, 0.3, "an invented fact moves an item towards wrong neighbours")
KEPT = Rule(0.8, 0.5, "a model cannot use what a description leaves out")
NO_VECTOR = Rule(
    1e-9,
    0.01,
    "a model cannot distinguish rows without a vector",
    "one is amber, 1 % or more is red",
)
NEAR = Rule(0.05, 0.2, "a model that reads text cannot distinguish such rows")
ANISOTROPY = Rule(0.2, 0.5, "if all vectors point in one direction, a cosine says little")
TIMES_CHANCE = Rule(
    2.0, 1.2, "if neighbours share a category no more often than chance, they are not similar"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A finding, in a sentence.

    Attributes:
      level: "red", "amber" or "green".
      text: what was found.
      why: why it matters, and where the levels begin.
    """

    level: str
    text: str
    why: str


def findings(audit: Audit) -> list[Finding]:
    """All findings of an audit, red before amber before green."""
    found = [
        finding
        for kind, groups in audit.texts.items()
        for finding in _of_texts(kind, groups, audit)
    ]
    found += [
        finding for kind, vectors in audit.vectors.items() for finding in _of_vectors(kind, vectors)
    ]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _of_texts(kind: str, groups: Sequence[GroupTexts], audit: Audit) -> list[Finding]:
    rows = sum(group.rows for group in groups)
    empty = sum(
        group.rows * (group.na + group.refused + group.unanswered) for group in groups
    ) / max(rows, 1)
    found = [
        _finding(
            EMPTY,
            empty,
            f"{_percent(empty)} of the descriptions of {kind} are empty: the language model knew nothing (NA), refused or did not answer.",
        )
    ]
    kept = _mean([(group.kept, group.read) for group in groups])
    if kept is not None:
        found.append(
            _finding(
                KEPT,
                kept,
                f"Descriptions of {kind} keep {_percent(kept)} of the words that the data have about them.",
            )
        )
    rated = [rated_group for rated_group in audit.rated if rated_group.kind == kind]
    if judged := sum(rated_group.rated for rated_group in rated):
        share = sum(rated_group.hallucinated for rated_group in rated) / judged
        found.append(
            _finding(
                UNSUPPORTED,
                share,
                f"People found an unsupported claim in {_percent(share)} of {judged:,} descriptions of {kind}.",
            )
        )
    by_rule = _mean([(group.with_unsupported, group.compared) for group in groups])
    if by_rule is not None and not judged:
        text = (
            f"{_percent(by_rule)} of the descriptions of {kind} have a number or a name that is not in the prompt "
            "(found by a rule; no person has judged them)."
        )
        found.append(_finding(UNSUPPORTED, by_rule, text))
    return found


def _of_vectors(kind: str, vectors: Vectors) -> list[Finding]:
    lacking = vectors.norms.zero_rows / max(vectors.rows, 1)
    found = [
        _finding(
            NO_VECTOR,
            lacking,
            f"{vectors.norms.zero_rows:,} of {vectors.rows:,} {kind} have no vector.",
        )
    ]
    if vectors.cluster_sizes is not None:
        near = sum(size * count for size, count in vectors.cluster_sizes.items()) / max(
            vectors.rows, 1
        )
        found.append(
            _finding(NEAR, near, f"{_percent(near)} of the {kind} are near-duplicates of another.")
        )
    if vectors.cosines.after is not None and len(vectors.cosines.after):
        mean = abs(float(np.mean(vectors.cosines.after)))
        text = f"Two {kind} drawn at random have a cosine of {mean:.2f} on average."
        found.append(_finding(ANISOTROPY, mean, text, unit=""))
    if vectors.agreement is not None and vectors.agreement.chance:
        times = vectors.agreement.first / vectors.agreement.chance
        text = (
            f"A nearest neighbour shares the {vectors.agreement.column} in {_percent(vectors.agreement.first)} of the {kind}, "
            f"{times:.1f} times as often as chance."
        )
        found.append(_finding(TIMES_CHANCE, times, text, unit=""))
    return found


def _finding(rule: Rule, value: float, text: str, unit: str = " %") -> Finding:
    why = f"{rule.why[0].upper()}{rule.why[1:]}; {rule.in_words(unit)}."
    return Finding(rule.level(value), text, why)


def _mean(shares: Sequence[tuple[float | None, int]]) -> float | None:
    """The weighted mean of shares."""
    known = [(share, count) for share, count in shares if share is not None and count]
    total = sum(count for _, count in known)
    return sum(share * count for share, count in known) / total if total else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
