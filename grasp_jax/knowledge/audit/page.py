"""The page of an audit: findings first, then the tables, each with the figures that show it."""

from collections.abc import Mapping, Sequence
from typing import Any

from grasp_jax.knowledge.audit.findings import findings
from grasp_jax.knowledge.audit.measure import Audit
from grasp_jax.report.page import TableView, table_view
from grasp_jax.report.plot import Figure
from grasp_jax.report.render import anchor, drawn, render
from grasp_jax.report.table_data import MISSING
from grasp_jax.report.tables import ReportTable

SECTIONS = (  # title, how names of its tables begin, its figures
    ("As people judge", ("ratings",), ()),
    (
        "Descriptions",
        ("descriptions-",),
        ("Descriptions without content", "Length of descriptions"),
    ),
    (
        "What descriptions keep and claim",
        ("claims-",),
        ("Descriptions with an unsupported claim", "Known words kept"),
    ),
    ("Vectors", ("vectors",), ("Cosines",)),
    ("Near-duplicates", ("near-duplicates", "largest-clusters"), ()),
)
WRAPPED = ("largest-clusters",)


def page(
    audit: Audit,
    title: str,
    about: Sequence[str],
    tables: Sequence[ReportTable],
    figures: Mapping[str, Figure],
) -> str:
    """The whole page.

    Args:
      audit: the numbers, for the findings.
      title: of the page.
      about: lines that say what was audited.
      tables: of `tables.all_tables`.
      figures: of `figures.all_figures`.
    """
    page_sections = [
        {
            "title": name,
            "anchor": anchor(name),
            "tables": [(_view(own), is_zero(own)) for own in tables if own.name.startswith(begins)],
            "figures": [(own, drawn(figures[own].inline())) for own in shown if own in figures],
        }
        for name, begins, shown in SECTIONS
        if any(own.name.startswith(begins) for own in tables)
    ]
    sections = [("findings", "Findings"), *((own["anchor"], own["title"]) for own in page_sections)]
    content: dict[str, Any] = {
        "about": about,
        "findings": findings(audit),
        "page_sections": page_sections,
    }
    return render("audit.html", title, sections=sections, **content)


def is_zero(table: ReportTable) -> bool:
    """Whether every number of a table is zero: it is folded, for there is nothing to see."""
    cells = [cell for row in table.rows for cell in row[1:]]
    return bool(cells) and all(cell.strip("0., %") == "" or cell == MISSING for cell in cells)


def _view(table: ReportTable) -> TableView:
    return table_view(table, wraps=table.name in WRAPPED)
