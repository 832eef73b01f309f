"""The picture of README.md: what a customer has bought, the texts of these items, what `grasp_plus` recommends, and why.

make quickstart                                     # trains the model; validation prefers grasp_plus
python -m benchmarks.picture runs/quickstart        # chooses a customer, stores the answer in benchmarks/results/picture.json, draws
python -m benchmarks.picture                        # draws docs/figures/recommendation.svg, and -phone.svg, from the stored answer
"""

import html
import json
import pathlib
import textwrap
from typing import Any

import numpy as np

import grasp_jax as gj
from benchmarks.arguments import parser_of_pages
from benchmarks.record import RESULTS, run, save
from grasp_jax.core.files import write_text
from grasp_jax.models.encoders.towers import TowerEncoder
from grasp_jax.models.fusion_parts import is_lowered, part_weights

RECORD = RESULTS / "picture.json"
FIGURE = pathlib.Path(__file__).parent.parent / "docs" / "figures" / "recommendation.svg"
OF_A_PHONE = FIGURE.with_name("recommendation-phone.svg")
SHOWN, HISTORY = 3, 5  # recommendations and items of the history
BOX, GAP, TOP, LINE = 70, 10, 56, 18  # heights in pixels
# of a phone: one column, and boxes with up to five lines
NARROW, COLUMN, HEADING, TALL = 360, (8, 352), 46, 110
WIDTH, LEFT, MIDDLE, RIGHT = 860, (10, 288), (322, 512), (546, 850)  # as wide as a README is shown
STYLE = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; font-size: 13px; fill: #1b1f24; }
  .head { font-size: 15px; font-weight: 600; } .small { font-size: 12.5px; fill: #4a525c; } .bold { font-weight: 600; }
  .box { fill: #ffffff; stroke: #8a949e; } .model { fill: #e7f1fb; stroke: #0b62a8; } .hit { fill: #e3f5e9; stroke: #17713a; }
  .page { fill: #f6f8fa; } .line { stroke: #0b62a8; stroke-width: 1.5; fill: none; } .green { fill: #17713a; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #b3bcc6; } .page { fill: #0d1117; } .box { fill: #161b22; stroke: #6e7781; }
    .model { fill: #0f2a44; stroke: #6cb6ff; } .hit { fill: #10301d; stroke: #56d364; } .line { stroke: #6cb6ff; } .green { fill: #56d364; }
  }
"""


def choose(workdir: str) -> dict[str, Any]:
    """Chooses a test user whose last purchase, unknown to the model, is recommended.

    This is the first user with `HISTORY` to `HISTORY` + 2 different purchases before the last one, whose last purchase is among the first
    `SHOWN` recommendations.
    """
    model = gj.Recommender.load(workdir)
    fitted = model.fitted_on(None)
    artifact = fitted.artifact()
    encoder = artifact.model.encoder
    if not isinstance(encoder, TowerEncoder) or not encoder.matches:
        raise gj.UserError(f"{workdir}: {model.method} has no match; expected a run of grasp_plus")
    log, texts = fitted.dataset.log, fitted.dataset.texts.items
    if texts is None:
        raise gj.UserError(
            f"{workdir}: the data has no texts; expected that of the quickstart's shop"
        )
    if is_lowered(part_weights(artifact.model, artifact.params)):
        raise gj.UserError(
            f"{workdir}: validation lowered parts of the score; the picture shows all"
        )
    ids, titles = fitted.dataset.item_ids, fitted.dataset.titles
    row_of = {str(name): row for row, name in enumerate(ids.tolist())}
    kinds = [
        ", ".join(value) if isinstance(value, tuple | list) else str(value)
        for value in texts.columns["attributes"]
    ]
    vectors = np.stack(model.item_vectors()["vector"].to_list())
    of_texts = vectors[:, encoder.mask_width :]  # the match, which follows after the towers
    of_texts /= np.linalg.norm(of_texts, axis=1, keepdims=True)
    for user in range(log.num_users):
        items = log.items[log.offsets[user] : log.offsets[user + 1]]
        history, target = items[:-1], int(items[-1])
        if not HISTORY <= len(history) <= HISTORY + 2 or len(set(items.tolist())) < len(items):
            continue
        answer = model.recommend(histories=[ids[history].tolist()], k=SHOWN)
        rows = [row_of[str(item)] for item in answer["item"]]
        if target not in rows:
            continue
        seen = history[-HISTORY:]
        about = [{"title": str(titles[row]), "text": kinds[row]} for row in seen.tolist()]
        shown = []
        for row in rows:
            cosines = of_texts[seen] @ of_texts[row]
            shown.append(
                {
                    "title": str(titles[row]),
                    "text": kinds[row],
                    "like": int(cosines.argmax()) + 1,
                    "cosine": round(float(cosines.max()), 3),
                    "bought_next": row == target,
                }
            )
        return {
            "benchmark": "picture",
            "method": model.method,
            "backbone": model.backbone,
            "history": about,
            "recommended": shown,
        }
    raise gj.UserError(
        f"{workdir}: no test user has the last purchase among the first {SHOWN}; expected that of the quickstart's shop"
    )


def draw(record: dict[str, Any]) -> str:
    """The picture as SVG, for light and dark pages; no text is below 12 pixels."""
    history, shown = record["history"], record["recommended"]
    bottom = TOP + len(history) * (BOX + GAP) - GAP
    tall = (bottom - TOP - (len(shown) - 1) * GAP) / len(shown)
    parts = [
        *_purchases(history, LEFT),
        *_model(MIDDLE, TOP, bottom - TOP),
        *_recommendations(shown, RIGHT, TOP, tall),
    ]
    for start, end in ((LEFT[1], MIDDLE[0]), (MIDDLE[1], RIGHT[0])):
        middle = (TOP + bottom) // 2
        parts.append(f'<path class="line" d="M{start + 5} {middle} H{end - 6} m-7 -6 l7 6 l-7 6"/>')
    parts.append(_text(LEFT[0], bottom + 26, _caption(record), "small"))
    return _svg(WIDTH, bottom + 40, parts)


def draw_narrow(record: dict[str, Any]) -> str:
    """The same, one part below the other: on a phone the wide picture would have letters of six pixels."""
    history, shown = record["history"], record["recommended"]
    second = TOP + len(history) * (BOX + GAP) + HEADING
    high = len(SAID) * LINE + 2 * GAP
    third = second + high + GAP + HEADING
    bottom = third + len(shown) * (TALL + GAP)
    caption = textwrap.wrap(_caption(record), 54)
    parts = [
        *_purchases(history, COLUMN),
        *_model(COLUMN, second, high),
        *_recommendations(shown, COLUMN, third, TALL),
        *(
            _text(COLUMN[0], bottom + 16 + LINE * k, line, "small")
            for k, line in enumerate(caption)
        ),
    ]
    return _svg(NARROW, bottom + 16 + LINE * len(caption), parts)


def _svg(width: int, height: float, parts: list[str]) -> str:
    title = "Purchases of a customer, how grasp_plus scores items, and its three recommendations with reasons"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">\n<title>{title}</title>\n'
        f'<style>{STYLE}</style>\n<rect class="page" width="{width}" height="{height}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _purchases(history: list[dict[str, Any]], column: tuple[int, int]) -> list[str]:
    """The first part, oldest purchase first."""
    parts = [_heading(column, TOP, "1. What the customer bought")]
    for place, item in enumerate(history):
        y = TOP + place * (BOX + GAP)
        lines = [(line, "bold") for line in textwrap.wrap(f"{place + 1}  {item['title']}", 32)]
        parts.append(_box(column, y, BOX, "box"))
        parts += _lines(column, y, BOX, [*lines, (f"text: {item['text']}", "small")])
    return parts


# The parts of the score: lines and their kinds.
SAID = [
    ("grasp_plus adds", "bold"),
    ("four scores for each item:", "small"),
    ("", ""),
    ("IDs:", "bold"),
    ("which items people buy", "small"),
    ("after these purchases", "small"),
    ("", ""),
    ("texts:", "bold"),
    ("which kinds of items follow", "small"),
    ("", ""),
    ("texts of company:", "bold"),
    ("the same, with the texts of", "small"),
    ("items bought next to it", "small"),
    ("", ""),
    ("match:", "bold"),
    ("how similar its text is to", "small"),
    ("these texts; not trained", "small"),
]


def _model(column: tuple[int, int], top: float, height: float) -> list[str]:
    """The second part."""
    return [
        _heading(column, top, "2. How it scores items"),
        _box(column, top, height, "model"),
        *_lines(column, top, height, SAID),
    ]


def _recommendations(
    shown: list[dict[str, Any]], column: tuple[int, int], top: float, tall: float
) -> list[str]:
    """The third part, best item first."""
    parts = [_heading(column, top, "3. What it recommends, and why")]
    for place, item in enumerate(shown):
        y = top + place * (tall + GAP)
        lines = [
            *((line, "bold") for line in textwrap.wrap(f"{place + 1}. {item['title']}", 36)),
            (f"text: {item['text']}", "small"),
            (f"text most like purchase {item['like']} (cosine {item['cosine']:.2f})", "small"),
        ]
        if item["bought_next"]:
            lines.append(("bought next; not shown to the model", "green"))
        parts.append(_box(column, y, tall, "hit" if item["bought_next"] else "box"))
        parts += _lines(column, y, tall, lines)
    return parts


def _caption(record: dict[str, Any]) -> str:
    return (
        "A test user of the quickstart’s synthetic shop: the first with a short history whose next purchase is among the first "
        f"{len(record['recommended'])}."
    )


def _heading(column: tuple[int, int], top: float, text: str) -> str:
    """Above the boxes of a part."""
    return _text(column[0], top - 20, text, "head")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{html.escape(text)}</text>'


def _box(column: tuple[int, int], y: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{column[0]}" y="{y:.0f}" width="{column[1] - column[0]}" height="{height:.0f}" rx="6"/>'


def _lines(
    column: tuple[int, int], y: float, height: float, lines: list[tuple[str, str]]
) -> list[str]:
    """Lines of text in the middle of a box."""
    first = y + (height - LINE * len(lines)) / 2 + 13
    return [
        _text(column[0] + 10, first + LINE * place, text, kind)
        for place, (text, kind) in enumerate(lines)
        if text
    ]


def main() -> None:
    """Draws the pictures; with a workdir, chooses and stores a new user first."""
    parser = parser_of_pages("picture", __doc__)
    parser.add_argument("workdir", nargs="?", help="of a run of the quickstart")
    workdir = parser.parse_args().workdir
    if workdir is not None:
        save(RECORD, choose(workdir))
    record = json.loads(RECORD.read_text())
    write_text(FIGURE, draw(record))
    write_text(OF_A_PHONE, draw_narrow(record))


if __name__ == "__main__":
    run(main)
