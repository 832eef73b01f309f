"""Descriptions by history length: how many there are, how long, what they keep of the attributes and what they claim without a source."""

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from grasp_jax.config import AuditConfig
from grasp_jax.knowledge.audit.claims import Claims, count_claims, kept_share
from grasp_jax.knowledge.audit.groups import sampled, wilson
from grasp_jax.knowledge.audit.subjects import Descriptions, Subject
from grasp_jax.knowledge.text.clean import STATUSES


@dataclasses.dataclass(frozen=True)
class GroupTexts:
    """Descriptions of one history group; shares from 0 to 1, None where there was nothing to measure.

    Attributes:
      group: label.
      rows: how many items or users.
      na, refused, unanswered: share of rows whose answer said nothing, refused, or was rejected or another's.
      words: 10 %, 50 % and 90 % quantile of words of the usable descriptions.
      read: usable descriptions sampled for what follows.
      kept: mean share of the known words that a description keeps.
      mostly_lost: share of them that keep less than half.
      compared: those read that are not the prompt itself, whose claims say something.
      claims: mean number of claims.
      unsupported: share of all claims without a source in the prompt.
      with_unsupported: share of descriptions with such a claim, and its 95 % interval.
    """

    group: str
    rows: int
    na: float
    refused: float
    unanswered: float
    words: tuple[float, float, float] | None
    read: int
    kept: float | None
    mostly_lost: float | None
    compared: int
    claims: float | None
    unsupported: float | None
    with_unsupported: float | None
    interval: tuple[float, float] | None


def measure_texts(subject: Subject, config: AuditConfig) -> list[GroupTexts]:
    """Every occupied history group of a subject with descriptions.

    Args:
      subject: with `described`.
      config: `config.knowledge.audit`.
    """
    assert subject.described is not None
    return [
        _group(subject, subject.described, label, rows, config)
        for label, rows in subject.groups.occupied()
    ]


def _group(
    subject: Subject, described: Descriptions, label: str, rows: np.ndarray, config: AuditConfig
) -> GroupTexts:
    counts = np.bincount(described.statuses[rows], minlength=len(STATUSES)) / len(rows)
    share = dict(zip(STATUSES, counts.tolist(), strict=True))
    usable = rows[described.statuses[rows] == STATUSES.index("ok")]
    lengths = [len(described.texts[row].split()) for row in usable]
    read = sampled(usable, config.texts, config.seed, int(subject.groups.of_rows[rows[0]]))
    shares = (
        []
        if subject.known_of is None
        else [kept_share(subject.known_of(int(row)), described.texts[row]) for row in read]
    )
    kept = [value for value in shares if value is not None]
    counted = count_all(described, read)
    with_one, made = sum(one.unsupported > 0 for one in counted), sum(one.made for one in counted)
    return GroupTexts(
        group=label,
        rows=len(rows),
        na=share["na"],
        refused=share["refused"],
        unanswered=share["rejected"] + share["mismatch"],
        words=tuple(np.quantile(lengths, (0.1, 0.5, 0.9)).tolist()) if lengths else None,
        read=len(read),
        kept=_mean(kept),
        mostly_lost=_mean([value < 0.5 for value in kept]),
        compared=len(counted),
        claims=_mean([one.made for one in counted]),
        unsupported=sum(one.unsupported for one in counted) / made if made else None,
        with_unsupported=with_one / len(counted) if counted else None,
        interval=wilson(with_one, len(counted)) if counted else None,
    )


def count_all(described: Descriptions, rows: np.ndarray) -> list[Claims]:
    """Claims of the rows' descriptions, but for those that are the prompt itself."""
    prompts = {int(row): described.prompt_of(int(row)) for row in rows}
    return [
        count_claims(described.texts[row], prompt)
        for row, prompt in prompts.items()
        if described.texts[row] != prompt
    ]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
