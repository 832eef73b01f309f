"""One HTML page of a report: no network, no script, legible in print."""

import html
from collections.abc import Sequence
from typing import Any

from grasp_jax.report.runs import Run
from grasp_jax.report.tables import Table

STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --rule: #d0d7de; --shade: #f6f8fa; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.5rem 5rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; } p, .note { color: var(--soft); margin: .2rem 0 .6rem; max-width: 60rem; }
nav a { margin-right: 1.1rem; } a { color: var(--accent); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { vertical-align: bottom; color: var(--soft); font-weight: 600; white-space: normal; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; } tr.first td { border-top: 2px solid var(--ink); }
td.best { font-weight: 700; background: #e8f3fa; }
svg { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 0 2rem; } .figures > div { max-width: 100%; break-inside: avoid; }
.card { border: 1px solid var(--rule); border-radius: 8px; padding: 1rem 1.2rem; margin: 1rem 0; break-inside: avoid; }
.card h3 { margin: 0 0 .4rem; }
.columns { display: grid; gap: 1.4rem; grid-template-columns: repeat(3, minmax(0, 1fr)); font-size: .86rem; }
.columns ol { padding-left: 1.4rem; margin: .2rem 0; } .columns li { margin: .1rem 0; } .hit { background: #fff3d6; font-weight: 600; }
.truth { background: #fff3d6; padding: .1rem .4rem; border-radius: 4px; color: var(--ink); }
@media (max-width: 50rem) { .columns { grid-template-columns: 1fr; } }
@media print { body { max-width: none; font-size: 11pt; } nav { display: none; } .wide { overflow: visible; } }
"""


def page(runs: Sequence[tuple[Run, list[Table]]], figures: dict[str, str]) -> str:
    """The whole page.

    Args:
      runs: each run with its tables.
      figures: title -> SVG.
    """
    sections = [f'<a href="#{_anchor(run.name)}">{_text(run.name)}</a>' for run, _ in runs]
    if figures:
        sections.append('<a href="#figures">Figures</a>')
    shown = [(run, chosen) for run, _ in runs if (chosen := _two_methods(run))]
    if shown:
        sections.append('<a href="#examples">Recommendations</a>')
    body = [
        "<h1>Sequential recommendation with world knowledge</h1>",
        "<p>Test results of grasp_jax runs. NDCG, HR and MRR in percent; the target stands among 100 stored negatives, the whole "
        "catalogue, or the catalogue less what the user has had; ties count against the model. The best of each backbone is shaded.</p>",
        f"<nav>{' '.join(sections)}</nav>",
        *(part for run, tables in runs for part in _run(run, tables)),
    ]
    if figures:
        body.append('<h2 id="figures">Figures</h2>')
        body += [
            "<div class=figures>",
            *(f"<div>{figure(title, svg)}</div>" for title, svg in figures.items()),
            "</div>",
        ]
    if shown:
        body.append(
            '<h2 id="examples">Recommendations, side by side</h2><p>The newest items of a history (oldest first), what the user '
            "took next, and the top ten of two methods, items seen before left out.</p>"
        )
        for run, chosen in shown:
            body += _examples(run, *chosen)
    return document("grasp_jax report", body)


def document(title: str, body: Sequence[str]) -> str:
    """A whole page around the parts of a body, which are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def figure(title: str, svg: str, note: str = "") -> str:
    """A figure under its title."""
    said = f"<p class=note>{_text(note)}</p>" if note else ""
    return f"<h3>{_text(title)}</h3>{said}<figure style='margin:0'>{svg}</figure>"


def _run(run: Run, tables: Sequence[Table]) -> list[str]:
    about = run.results["about"]
    facts = about.get("table1", {})
    parts = [f'<h2 id="{_anchor(run.name)}">{_text(run.name)}</h2>']
    if facts and "versions" in about:
        cores = "1 core" if about["cores"] == 1 else f"{about['cores']} cores"
        parts.append(
            f"<p>{_text(facts['dataset'])}: {facts['users']:,} users, {facts['items']:,} items, {facts['interactions']:,} interactions. "
            f"{cores} of {_text(about['cpu'])}, {_text(about['device'])}, jax {_text(about['versions']['jax'])}, "
            f"commit {_text(str(about['commit'])[:10])}.</p><p><code>{_text(about['command'])}</code></p>"
        )
    return parts + [table_html(table) for table in tables]


def table_html(table: Table) -> str:
    """A table under its title and its note."""
    head = "".join(f"<th>{_text(name)}</th>" for name in table.header)
    lines, before = [], None
    blocks = len({row[0] for row in table.rows}) < len(
        table.rows
    )  # of rows that begin alike, told apart by a rule
    for r, row in enumerate(table.rows):
        marked = [
            f'<td class="best">{_text(cell)}</td>'
            if (r, c) in table.best
            else f"<td>{_text(cell)}</td>"
            for c, cell in enumerate(row)
        ]
        lines.append(
            f"<tr{' class=first' if blocks and before not in (None, row[0]) else ''}>{''.join(marked)}</tr>"
        )
        before = row[0]
    return (
        f"<h3>{_text(table.title)}</h3><p class=note>{_text(table.note)}.</p>"
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _two_methods(run: Run) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """The cells shown side by side: the first and the last method of a backbone that has two."""
    for backbone in dict.fromkeys(backbone for _, backbone in run.examples):
        ordered = [row["method"] for row in run.rows if row["backbone"] == backbone]
        methods = [
            method for method in dict.fromkeys(ordered) if (method, backbone) in run.examples
        ]
        if len(methods) > 1:
            return (methods[0], backbone), (methods[-1], backbone)
    return None


def _examples(run: Run, first: tuple[str, str], second: tuple[str, str]) -> list[str]:
    cards = []
    others = {example["user"]: example for example in run.examples[second]}
    for example in run.examples[first]:
        if example["user"] not in others:
            continue
        columns = [
            f"<div><b>History</b><ol>{''.join(f'<li>{_text(title)}</li>' for title in example['history'])}</ol></div>"
        ]
        for (method, backbone), shown in ((first, example), (second, others[example["user"]])):
            listed = "".join(
                _recommended(k + 1, item, shown["place"]) for k, item in enumerate(shown["top"])
            )
            gates = shown.get("gates")
            asked = (
                f"<p>gates to what came next: {', '.join(f'{name} {value:.3f}' for name, value in gates.items())}</p>"
                if gates
                else ""
            )
            columns.append(
                f"<div><b>{_text(method)}-{_text(backbone)}</b><ol>{listed}</ol>{asked}</div>"
            )
        cards.append(
            f"<div class=card><h3>User {_text(example['user'])}</h3><p>took next: <span class=truth>{_text(example['truth'])}</span></p>"
            f"<div class=columns>{''.join(columns)}</div></div>"
        )
    return cards


def _recommended(rank: int, item: dict[str, Any], place: int | None) -> str:
    return f"<li{' class=hit' if rank == place else ''}>{_text(item['title'])}</li>"


def _anchor(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)


def _text(value: Any) -> str:
    return html.escape(str(value))
