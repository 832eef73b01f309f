"""Writes an audit: AUDIT.md, audit.json, tables as CSV, figures as SVG, index.html, which holds everything, and the sheet for raters."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from grasp_jax.core.files import write_text
from grasp_jax.knowledge.audit.figures import all_figures
from grasp_jax.knowledge.audit.findings import findings
from grasp_jax.knowledge.audit.measure import Audit
from grasp_jax.knowledge.audit.page import page
from grasp_jax.knowledge.audit.sheet import HOW_TO, check_unfilled, neutral, sheet_text
from grasp_jax.knowledge.audit.tables import all_tables
from grasp_jax.report.formats import comma_separated, markdown

SHEET = "sheet.csv"
TITLE = "How far the knowledge can be trusted"


def write_audit(
    audit: Audit, sheet: Sequence[Sequence[str]], out: pathlib.Path
) -> list[pathlib.Path]:
    """All files of an audit; returns their paths, the page first.

    Args:
      audit: the numbers.
      sheet: rows for raters; with none, no sheet is written.
      out: the folder.

    Raises:
      UserError: the folder has another sheet, which may have been filled in.
    """
    texts = {}
    if sheet:
        check_unfilled(out / SHEET, sheet_text(sheet))
        texts[SHEET] = sheet_text(sheet)
    tables, figures, lines = all_tables(audit), all_figures(audit), about(audit, len(sheet))
    found = [f"- **{own.level}**: {own.text} {own.why}" for own in findings(audit)]
    parts = [
        f"# {TITLE}\n",
        *(f"{line}\n" for line in lines),
        "## Findings\n",
        "\n".join(found) + "\n",
    ]
    parts += map(markdown, tables)
    for table in tables:
        safe = dataclasses.replace(
            table, rows=[[neutral(cell) for cell in row] for row in table.rows]
        )
        texts[f"tables/{table.name}.csv"] = comma_separated(safe)
    for title, figure in figures.items():
        name = title.lower().replace(" ", "-")
        texts[f"figures/{name}.svg"] = figure.standalone()
        parts.append(f"### {title}\n\n![{title}](figures/{name}.svg)\n")
    texts = {
        "index.html": page(audit, TITLE, lines, tables, figures),
        "AUDIT.md": "\n".join(parts),
        "audit.json": as_json(audit),
        **texts,
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def about(audit: Audit, sheet_rows: int) -> list[str]:
    """What was audited, and the question for the raters."""
    recipe = audit.recipe
    made = f"encoder {recipe['encoder']}, {recipe['num_neighbours']} neighbours"
    if "describer" in recipe:
        made += f", describer {recipe['describer']}"
    lines = [
        f"The tables group items and users by the number of their training interactions. Text vectors: {made}."
    ]
    if not audit.texts:
        lines.append("The vectors came from files, so there are no descriptions to audit.")
    elif sheet_rows:
        lines.append(
            f"{SHEET} has {sheet_rows} descriptions for people to judge. They fill in the last column: {HOW_TO}. "
            "Then run --mode=audit --ratings=SHEET."
        )
    elif not audit.rated:
        lines.append(
            "There is no sheet for people to judge: no usable description differs from its prompt."
        )
    return lines


def as_json(audit: Audit) -> str:
    """All numbers; of cosines the means."""
    tree = dataclasses.asdict(audit)
    for own in tree["vectors"].values():
        named = own["cosines"]._asdict()
        own["cosines"] = {
            name: float(value.mean()) if value is not None and len(value) else None
            for name, value in named.items()
        }
        own["norms"] = own["norms"]._asdict()
        own["agreement"] = own["agreement"] and own["agreement"]._asdict()
    return json.dumps(tree, indent=1) + "\n"
