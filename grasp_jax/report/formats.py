"""A `ReportTable` as Markdown, LaTeX and CSV."""

import csv
import io

from grasp_jax.report.tables import ReportTable

_LATEX = {character: f"\\{character}" for character in "&%_#{}$"} | {
    "±": r"$\pm$",
    "*": r"$^*$",
    "<": "$<$",
    ">": "$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def markdown(table: ReportTable) -> str:
    """A Markdown table under its title; the best of a column is bold."""
    rows = [
        [f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    lines = [table.header, ["---"] * len(table.header), *rows]
    body = "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )
    return "\n\n".join(filter(None, [f"### {table.title}", table.note, body])) + "\n"


def latex(table: ReportTable) -> str:
    """A `tabular` with booktabs rules, inside a `table`."""

    def escape(text: str) -> str:
        return "".join(_LATEX.get(character, character) for character in text)

    def cell(r: int, c: int, text: str) -> str:
        return rf"\textbf{{{escape(text)}}}" if (r, c) in table.best else escape(text)

    said = (table.title, table.note, table.caption)
    lines = [
        " & ".join(cell(r, c, text) for c, text in enumerate(row)) + r" \\"
        for r, row in enumerate(table.rows)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape('. '.join(filter(None, said)))}.}}",
            rf"\begin{{tabular}}{{{'l' * 2 + 'r' * (len(table.header) - 2)}}}",
            r"\toprule",
            " & ".join(map(escape, table.header)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def comma_separated(table: ReportTable) -> str:
    """CSV with a header line: `data` of the table, or its cells where it has none."""
    out = io.StringIO()
    csv.writer(out).writerows(table.data or [table.header, *table.rows])
    return out.getvalue()
