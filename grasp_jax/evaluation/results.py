"""`results.json` and the table printed from it."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from grasp_jax.core.files import write_sealed
from grasp_jax.evaluation.protocols import EXPLAINED
from grasp_jax.evaluation.untrained import NONE, is_trained, shown_backbone, without_repeats

COLUMNS = ("NDCG@10", "HR@10", "NDCG@20", "HR@20", "MRR")
GROUP_COLUMNS = ("tail_item", "head_item", "tail_user", "head_user")
OMITTED_FIRST = (  # columns of `table` that are left out on a narrow terminal, in this order
    "NDCG@10 head users",
    "HR@20",
    "NDCG@20",
    "MRR",
    "NDCG@10 tail users",
    "NDCG@10 head items",
    "learning rate",
    "NDCG@10 tail items",
    "dropout",
)


def save_results(path: pathlib.Path, results: dict[str, Any]) -> None:
    """Writes results.json, sealed; values in 0..1.

    Args:
      path: of the file.
      results: "rows", "comparisons", "failed", "unfinished" and "about", as docs/workdir.md has them.
    """
    write_sealed(path, results)


def table(
    rows: Sequence[dict[str, Any]], failed: Sequence[dict[str, str]] = (), width: int = 0
) -> str:
    """Markdown: a line per protocol, backbone and method, in percent, mean over seeds (with the standard deviation if there are several).

    Args:
      rows: of results.json.
      failed: trials without a number, {"method", "backbone", "reason"}; each gets a line too.
      width: characters in a line; columns of `OMITTED_FIRST` are left out until the tables fit, and a last line says which. 0: no limit.
    """
    lines: list[str] = []
    omitted: dict[str, None] = {}
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        lines += ["", f"{protocol}: {EXPLAINED[protocol]}; test, percent", ""]
        header = ["method", "backbone", "dropout", "learning rate", *COLUMNS]
        header += [f"NDCG@10 {group.replace('_', ' ')}s" for group in GROUP_COLUMNS]
        body = []
        for method, backbone in without_repeats((row["method"], row["backbone"]) for row in rows):
            trial_rows = [
                row
                for row in rows
                if (row["method"], row["backbone"], row["protocol"]) == (method, backbone, protocol)
            ]
            overall = [row for row in trial_rows if row["group"] == "all"]
            if not overall:  # tested by a version that had fewer protocols
                continue
            chosen = [NONE, NONE]
            if is_trained(method):
                rate = overall[0].get("learning_rate")
                chosen = [f"{overall[0]['dropout']:g}", NONE if rate is None else f"{rate:g}"]
            backbone = shown_backbone(method, backbone)
            cells = [method, backbone, *chosen, *(_mean(overall, column) for column in COLUMNS)]
            cells += [
                _mean([row for row in trial_rows if row["group"] == group], "NDCG@10")
                for group in GROUP_COLUMNS
            ]
            body.append(cells)
        body += [
            [trial["method"], trial["backbone"], "failed", *["-"] * (len(header) - 3)]
            for trial in failed
        ]
        left_out = _columns_to_omit(header, body, width) if width else []
        omitted |= dict.fromkeys(left_out)
        shown = [k for k, name in enumerate(header) if name not in left_out]
        lines += _grid([header[k] for k in shown], [[row[k] for k in shown] for row in body])
    if omitted:
        lines += [
            "",
            f"not shown on this terminal: {', '.join(omitted)}; results.json has everything",
        ]
    return "\n".join(lines).strip()


def _columns_to_omit(header: Sequence[str], body: Sequence[Sequence[str]], width: int) -> list[str]:
    """The columns to leave out, so that a line has at most so many characters, if that is possible."""
    widths = {name: max(len(row[k]) for row in (header, *body)) for k, name in enumerate(header)}
    left_out: list[str] = []
    for name in OMITTED_FIRST:
        if sum(widths.values()) + 3 * len(widths) + 1 <= width:
            break
        if widths.pop(name, None) is not None:
            left_out.append(name)
    return left_out


HOLM_NOTE = (
    "p is corrected by Holm's method for the pairs of its protocol and backbone; the intervals are not corrected, so an interval without 0 "
    "may come without a *"
)
COMPARISON_HEADER = (
    "protocol",
    "backbone",
    "methods",
    "difference of NDCG@10",
    "95 % interval",
    "p (paired test, Holm)",
)


def comparison_rows(comparisons: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line of text cells per pair of methods; `*` marks a difference that is significant at 5 % after Holm's correction.

    The interval is not corrected for the number of pairs, so it may lie beside 0 without a `*`.

    Two methods that are not trained were compared under each backbone, with the same difference: their first line is enough.
    """
    body, shown_already = [], set()
    for row in comparisons:
        backbone, methods = row["backbone"], (row["first"], row["second"])
        if not any(map(is_trained, methods)):
            if (row["protocol"], methods) in shown_already:
                continue
            shown_already.add((row["protocol"], methods))
            backbone = NONE
        mark = "*" if row["p_value"] < 0.05 else ""
        interval = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
        p_value = "< 0.0001" if row["p_value"] < 1e-4 else f"{row['p_value']:.4f}"
        pair = f"{row['second']} minus {row['first']}"
        body.append(
            [
                row["protocol"],
                backbone,
                pair,
                f"{100 * row['difference']:+.2f}{mark}",
                interval,
                p_value,
            ]
        )
    return body


def comparison_table(comparisons: Sequence[dict[str, Any]]) -> str:
    """`comparison_rows` as Markdown, what its `*` means, that intervals are not corrected, and `unsure_note`."""
    note = f"* significant: p < 0.05; differences in percentage points. {HOLM_NOTE}"
    notes = [note, *([unsure] if (unsure := unsure_note(comparisons)) else [])]
    return "\n".join([*_grid(COMPARISON_HEADER, comparison_rows(comparisons)), "", *notes])


def unsure_note(comparisons: Sequence[dict[str, Any]]) -> str:
    """What to think of differences with a `*` whose interval contains 0; empty if there are none.

    Two or three seeds say little about how much seeds vary. The interval takes this into account more than the p-value (`users_and_seeds`).
    """
    if not any(row["p_value"] < 0.05 and row["low"] <= 0 <= row["high"] for row in comparisons):
        return ""
    return (
        "A * next to an interval that contains 0: the two disagree, so the difference is not sure. The interval allows more for the chance "
        "of few seeds; train more of them"
    )


def _grid(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[k]) for line in [header, *body]) for k in range(len(header))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [_line(header, widths), rule, *(_line(line, widths) for line in body)]


def spread(values: np.ndarray, method: str = "") -> str:
    """Mean over seeds as text, with the standard deviation if there are several.

    Args:
      values: [S] percent.
      method: whose values they are. The seeds of one that is not trained have the same value, so their deviation is not shown.

    Returns:
      "mean", "mean ± standard deviation" (n - 1), or "-" if there are no values.
    """
    if not len(values):
        return "-"
    mean = f"{values.mean():.2f}"
    return f"{mean} ± {values.std(ddof=1):.2f}" if varies(values, method) else mean


def varies(values: np.ndarray, method: str) -> bool:
    """Whether the values [S] of a method's seeds have a standard deviation that says something."""
    return len(values) > 1 and (is_trained(method) or bool(np.ptp(values)))


def _mean(rows: Sequence[dict[str, Any]], column: str) -> str:
    values = 100 * np.array([row[column] for row in rows])
    return spread(values, rows[0]["method"] if rows else "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        + " |"
    )
