"""The figures of an audit, on the report's panels."""

from collections.abc import Sequence

import numpy as np

from grasp_jax.knowledge.audit.measure import Audit
from grasp_jax.knowledge.audit.tables import HISTORIES
from grasp_jax.knowledge.audit.texts import GroupTexts
from grasp_jax.report.plot import COLOURS, Figure, Panel

Point = tuple[str, float, float, float]  # group, share, and its interval


def all_figures(audit: Audit) -> dict[str, Figure]:
    """Title -> figure, of every figure that an audit has the numbers for."""
    made = {}
    for title, draw in (
        ("Descriptions with an unsupported claim", unsupported),
        ("Descriptions without content", missing),
        ("Length of descriptions", lengths),
        ("Known words kept", kept),
        ("Cosines", cosines),
    ):
        if figure := draw(audit):
            made[title] = figure
    return made


def unsupported(audit: Audit) -> Figure | None:
    """Figure 1(c): descriptions with an unsupported claim against history length, by rule and as people judge, with 95 % intervals."""
    series: dict[str, dict[str, list[Point]]] = {}
    for kind, groups in audit.texts.items():
        points = [
            (group.group, group.with_unsupported, *group.interval)
            for group in groups
            if group.with_unsupported is not None and group.interval
        ]
        series.setdefault(kind, {})["names and numbers, by rule"] = points
    for rated_group in audit.rated:
        series.setdefault(rated_group.kind, {}).setdefault("as people judge", []).append(
            (rated_group.group, rated_group.rate, rated_group.low, rated_group.high)
        )
    shown = {
        kind: {label: points for label, points in of_kind.items() if points}
        for kind, of_kind in series.items()
    }
    shown = {kind: of_kind for kind, of_kind in shown.items() if of_kind}
    if not shown:
        return None
    panel = Panel(len(shown))
    for axis, (kind, of_kind) in enumerate(shown.items()):
        order = _order(audit, kind, [point[0] for points in of_kind.values() for point in points])
        for style, (label, points) in enumerate(of_kind.items()):
            shares = 100 * np.array([point[1:] for point in points])
            places = [order.index(point[0]) + 0.08 * style for point in points]
            panel.line(axis, places, list(shares[:, 0]), style, label)
            panel.intervals(axis, places, list(shares[:, 1]), list(shares[:, 2]), style)
        _name_groups(panel, axis, order)
        panel.include(axis, y=[0.0])
        panel.name(axis, kind, HISTORIES[kind], "descriptions, %")
    return panel.figure()


def missing(audit: Audit) -> Figure | None:
    """NA, refusals and answers that did not come, against history length."""
    if not any(
        group.na or group.refused or group.unanswered
        for groups in audit.texts.values()
        for group in groups
    ):
        return None
    panel = Panel(len(audit.texts))
    for axis, (kind, groups) in enumerate(audit.texts.items()):
        for style, (label, name) in enumerate(
            (("NA", "na"), ("refused", "refused"), ("no answer", "unanswered"))
        ):
            panel.line(
                axis,
                range(len(groups)),
                [100 * getattr(group, name) for group in groups],
                style,
                label,
            )
        _name_groups(panel, axis, [group.group for group in groups])
        panel.name(axis, kind, HISTORIES[kind], "descriptions, %")
    return panel.figure()


def lengths(audit: Audit) -> Figure | None:
    """Median of words against history length, and the band of the middle 80 %."""
    shown = _with(audit, "words")
    if not shown:
        return None
    panel = Panel(len(shown))
    for axis, (kind, groups) in enumerate(shown.items()):
        low, middle, high = np.array([group.words for group in groups]).T
        panel.band(axis, range(len(groups)), list(low), list(high), "middle 80 %")
        panel.line(axis, range(len(groups)), list(middle), 0, "median")
        _name_groups(panel, axis, [group.group for group in groups])
        panel.include(axis, y=[0.0])
        panel.name(axis, kind, HISTORIES[kind], "words")
    return panel.figure()


def kept(audit: Audit) -> Figure | None:
    """Share of the known words that descriptions keep, against history length."""
    shown = _with(audit, "kept")
    if not shown:
        return None
    panel = Panel(len(shown))
    for axis, (kind, groups) in enumerate(shown.items()):
        panel.line(
            axis, range(len(groups)), [100 * (group.kept or 0.0) for group in groups], 0, "kept"
        )
        _name_groups(panel, axis, [group.group for group in groups])
        panel.include(axis, y=[0.0, 100.0])
        panel.name(axis, kind, HISTORIES[kind], "known words kept, %")
    return panel.figure()


def cosines(audit: Audit) -> Figure | None:
    """Histograms of cosines: random pairs before and after centring, and nearest neighbours."""
    panel = Panel(len(audit.vectors))
    edges = np.linspace(-1, 1, 81)
    for axis, (kind, vectors) in enumerate(audit.vectors.items()):
        labels = ("random pairs, before centring", "random pairs", "nearest neighbour")
        for style, (label, values) in enumerate(zip(labels, vectors.cosines, strict=True)):
            if values is not None and len(values):
                # Rounding may carry a cosine beyond 1, where the histogram would not see it.
                heights, _ = np.histogram(np.clip(values, -1, 1), edges)
                shares = 100 * heights / len(values)
                held = np.flatnonzero(heights)  # no line along the empty ends
                part = slice(held[0], held[-1] + 1)
                own_edges = edges[held[0] : held[-1] + 2]
                place = style + COLOURS * style
                panel.stairs(axis, shares[part].tolist(), own_edges.tolist(), place, label)
        panel.include(axis, x=[1.0])
        panel.name(axis, kind, "cosine", "share, %")
    return panel.figure()


def _with(audit: Audit, field: str) -> dict[str, list[GroupTexts]]:
    """The history groups that have a value, of the kinds that have such groups."""
    found = {
        kind: [group for group in groups if getattr(group, field) is not None]
        for kind, groups in audit.texts.items()
    }
    return {kind: groups for kind, groups in found.items() if groups}


def _order(audit: Audit, kind: str, groups: Sequence[str]) -> list[str]:
    """Labels of a kind, shortest histories first."""
    known = [group.group for group in audit.texts.get(kind, ())] or list(dict.fromkeys(groups))
    return [label for label in known if label in groups]


def _name_groups(panel: Panel, axis: int, labels: Sequence[str]) -> None:
    panel.groups(axis, [label.replace(" to ", "–").replace(" or more", "+") for label in labels])
