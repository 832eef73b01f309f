"""Writes a report: REPORT.md, tables as LaTeX and CSV, figures as SVG, and index.html, which holds everything."""

import pathlib
from collections.abc import Sequence

from grasp_jax.core.files import write_text
from grasp_jax.report.figures import all_figures
from grasp_jax.report.formats import comma_separated, latex, markdown
from grasp_jax.report.names import run_labels
from grasp_jax.report.page import page, verdicts
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.tables import all_tables


def write_report(runs: Sequence[FinishedRun], out: pathlib.Path) -> list[pathlib.Path]:
    """All files of a report; returns their paths, the page first."""
    tables = [(run, all_tables(run)) for run in runs]
    labels = run_labels(runs)
    figures = all_figures(runs, labels)
    texts = {"index.html": page(tables, figures)}
    parts = [f"**{own['dataset']}.** {' '.join(own['sentences'])}\n" for own in verdicts(runs)]
    for run, own in tables:
        parts.append(f"## {labels[run.name]}\n")
        for table in own:
            parts.append(markdown(table))
            texts[f"tables/{run.name}-{table.name}.tex"] = latex(table)
            texts[f"tables/{run.name}-{table.name}.csv"] = comma_separated(table)
    for title, figure in figures.items():
        name = "".join(character if character.isalnum() else "-" for character in title.lower())
        texts[f"figures/{name}.svg"] = figure.standalone()
        parts.append(f"### {title}\n\n![{title}](figures/{name}.svg)\n")
    texts["REPORT.md"] = "# Report\n\n" + "\n".join(parts)
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]
