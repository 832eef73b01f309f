"""Figures as SVG without a library: panels with axes, lines, steps, bands and intervals, and one legend for all of them.

Colours are names of CSS variables, so that a page's dark mode and its print reach the figures; a figure in a file of its own brings their
values along. A panel is as wide as a phone's screen and never scaled, so its text is 12 px everywhere. Lines differ in colour, dash and
marker, for those who see no colours.
"""

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import Any

from grasp_jax.report.scales import Scale, scale_of

WIDTH, HEIGHT = 340, 236
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 26, 42
TEXT = 12  # px
LETTER = 6.6  # px, of a letter of that size on average
LIGHT = {
    "ink": "#1b1f24",
    "soft": "#57606a",
    "rule": "#d0d7de",
    **dict(
        zip(
            (f"s{k}" for k in range(8)),
            (
                "#0067a3",
                "#bf4d00",
                "#00775a",
                "#a84f83",
                "#8a6100",
                "#2f7fb8",
                "#3b3b3b",
                "#7b5cc4",
            ),
            strict=True,
        )
    ),
}
DARK = {
    "ink": "#e8eaed",
    "soft": "#a9b1bb",
    "rule": "#3a424c",
    **dict(
        zip(
            (f"s{k}" for k in range(8)),
            (
                "#5cb3ec",
                "#ff9a52",
                "#45cfa5",
                "#ea9fc8",
                "#f0b73a",
                "#8fd0f7",
                "#d7d7d7",
                "#b9a3f2",
            ),
            strict=True,
        )
    ),
}
COLOURS = 8
DASHES = ("", "6 3", "7 3 2 3", "2 3")
MARKERS = ("circle", "square", "diamond", "triangle", "down", "cross", "plus", "ring")


@dataclasses.dataclass(frozen=True)
class Key:
    """An entry of the legend, and the style of its marks."""

    label: str
    colour: int
    dash: int = 0
    marker: int | None = None


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels, each a separate SVG, and their legend."""

    panels: tuple[str, ...]
    legend: tuple[Key, ...]

    def inline(self) -> str:
        """As part of a page whose style names the colours."""
        keys = "".join(
            f"<li>{_sample(key)}<span>{html.escape(key.label)}</span></li>" for key in self.legend
        )
        legend = f"<ul class=legend>{keys}</ul>" if len(self.legend) > 1 else ""
        return f"<div class=panels>{''.join(self.panels)}</div>{legend}"

    def standalone(self) -> str:
        """The figure as a separate file: panels next to each other, the legend below."""
        width = WIDTH * len(self.panels)
        placed = "".join(
            panel.replace("<svg ", f'<svg x="{WIDTH * k}" y="0" ', 1)
            for k, panel in enumerate(self.panels)
        )
        keys, bottom = self._keys(width)
        names = ";".join(f"--{name}:{value}" for name, value in LIGHT.items())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}" viewBox="0 0 {width} {bottom}">'
            f'<style>:root{{{names}}}{SVG_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
            f"{placed}{keys}</svg>\n"
        )

    def _keys(self, width: int) -> tuple[str, int]:
        """The legend's lines, as many to a row as there is room for, and where they end."""
        if len(self.legend) < 2:
            return "", HEIGHT
        room = 44 + LETTER * max(len(key.label) for key in self.legend)
        columns = max(1, min(len(self.legend), int((width - 20) / room)))
        parts = []
        for k, key in enumerate(self.legend):
            x, y = 12 + room * (k % columns), HEIGHT + 18 * (k // columns)
            sample = _sample(key).replace("<svg ", f'<svg x="{x:.1f}" y="{y}" ', 1)
            parts.append(
                f'{sample}<text x="{x + 32:.1f}" y="{y + 12}">{html.escape(key.label)}</text>'
            )
        return "".join(parts), HEIGHT + 18 * (-(-len(self.legend) // columns)) + 8


class Panel:
    """A set of axes that collect marks; `figure` draws them."""

    def __init__(self, count: int) -> None:
        self.axes = [_Axis() for _ in range(count)]
        self._legend: dict[str, Key] = {}

    def line(
        self,
        axis: int,
        xs: Sequence[Any],
        ys: Sequence[float],
        style: int,
        label: str,
        marker: bool = True,
    ) -> None:
        """One line; `style` picks colour, dash and marker."""
        dash = style // COLOURS if marker else style + style // COLOURS
        key = Key(label, style % COLOURS, dash % len(DASHES), style % COLOURS if marker else None)
        self._legend.setdefault(label, key)
        self.axes[axis].add("line", key, xs, ys)

    def stairs(
        self, axis: int, heights: Sequence[float], edges: Sequence[float], style: int, label: str
    ) -> None:
        """A histogram's outline; `style` picks the colour, and from `COLOURS` on the dash."""
        key = Key(label, style % COLOURS, style // COLOURS % len(DASHES))
        self._legend.setdefault(label, key)
        xs = [edge for edge in edges for _ in range(2)]
        ys = [0.0, *(height for height in heights for _ in range(2)), 0.0]
        self.axes[axis].add("line", key, xs, ys)

    def band(
        self,
        axis: int,
        xs: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        label: str,
    ) -> None:
        """Fills the area between two lines."""
        self._legend.setdefault(label, Key(label, 0, 3))
        self.axes[axis].add("band", Key(label, 0), [*xs, *reversed(xs)], [*low, *reversed(high)])

    def intervals(
        self,
        axis: int,
        xs: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        style: int,
    ) -> None:
        """Upright lines from low to high."""
        for x, bottom, top in zip(xs, low, high, strict=True):
            self.axes[axis].add("line", Key("", style % COLOURS), [x, x], [bottom, top])

    def reference(self, axis: int, xs: Sequence[float], ys: Sequence[float]) -> None:
        """A thin dotted line that the legend does not name."""
        self.axes[axis].add("thin", Key("", 6, 3), xs, ys)

    def name(self, axis: int, title: str, x: str, y: str) -> None:
        """Title and labels."""
        self.axes[axis].title, self.axes[axis].x, self.axes[axis].y = title, x, y

    def logarithmic(self, axis: int, x: bool = True, y: bool = False) -> None:
        """Axes on which equal factors are equal distances."""
        self.axes[axis].log_x, self.axes[axis].log_y = x, y

    def include(self, axis: int, x: Sequence[float] = (), y: Sequence[float] = ()) -> None:
        """Values that the axes must include, such as 0."""
        self.axes[axis].also_x += list(x)
        self.axes[axis].also_y += list(y)

    def groups(self, axis: int, labels: Sequence[str]) -> None:
        """Names in place of the numbers 0, 1, ... of the x axis."""
        self.axes[axis].labels = list(labels)
        self.include(axis, x=[0, len(labels) - 1])

    def figure(self) -> Figure:
        """All panels drawn."""
        return Figure(tuple(axis.svg() for axis in self.axes), tuple(self._legend.values()))


class _Axis:
    """The content of a panel."""

    def __init__(self) -> None:
        self.title, self.x, self.y = "", "", ""
        self.log_x, self.log_y = False, False
        self.also_x: list[float] = []
        self.also_y: list[float] = []
        self.labels: list[str] = []
        self._marks: list[tuple[str, Key, list[float], list[float]]] = []

    def add(self, kind: str, key: Key, xs: Sequence[Any], ys: Sequence[Any]) -> None:
        """A mark; points that are not finite are left out."""
        points = [
            (float(x), float(y))
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        self._marks.append((kind, key, [x for x, _ in points], [y for _, y in points]))

    def svg(self) -> str:
        """The panel."""
        xs = [x for _, _, own, _ in self._marks for x in own] + self.also_x
        ys = [y for _, _, _, own in self._marks for y in own] + self.also_y
        log_x = self.log_x and all(x > 0 for x in xs)
        log_y = self.log_y and any(y > 0 for y in ys)
        ys = [y for y in ys if y > 0] if log_y else ys
        across = scale_of(xs, LEFT, WIDTH - RIGHT, log_x, 6)
        up = scale_of(ys, HEIGHT - BOTTOM, TOP, log_y, 5)
        if self.labels:
            ticks = tuple((float(k), label) for k, label in enumerate(self.labels))
            across = dataclasses.replace(across, ticks=ticks)
        label = html.escape(f"{self.title}: {self.y} by {self.x}".removeprefix(": "))
        return (
            f'<svg class="panel" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
            f"{self._frame(across, up)}{''.join(_drawn(mark, across, up) for mark in self._marks)}</svg>"
        )

    def _frame(self, across: Scale, up: Scale) -> str:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = [f'<text class="head" x="{LEFT}" y="15">{html.escape(self.title)}</text>']
        for value, label in up.ticks:
            y = up.place(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
        after = -math.inf
        for value, label in across.ticks:
            x, half = across.place(value), LETTER * len(label) / 2
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
            x = min(max(x, half), WIDTH - half)
            if x - half > after:  # labels that would touch are left out
                parts.append(
                    f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{html.escape(label)}</text>'
                )
                after = x + half + 4
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        middle, height = (LEFT + right) / 2, (TOP + bottom) / 2
        parts.append(
            f'<text class="tick" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(self.x)}</text>'
        )
        parts.append(
            f'<text class="tick" transform="translate(13 {height}) rotate(-90)" text-anchor="middle">{html.escape(self.y)}</text>'
        )
        return "".join(parts)


def _drawn(mark: tuple[str, Key, list[float], list[float]], across: Scale, up: Scale) -> str:
    kind, key, xs, ys = mark
    points = [(across.place(x), up.place(y)) for x, y in zip(xs, ys, strict=True)]
    if not points:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if kind == "band":
        return f'<path d="{path}Z" fill="var(--s{key.colour})" fill-opacity=".18"/>'
    width = 1 if kind == "thin" else 1.8
    dash = f' stroke-dasharray="{DASHES[key.dash]}"' if key.dash else ""
    line = (
        f'<path d="{path}" fill="none" stroke="var(--s{key.colour})" stroke-width="{width}"{dash}/>'
    )
    if key.marker is None:
        return line
    return line + "".join(_marker(key, x, y) for x, y in points)


def _marker(key: Key, x: float, y: float) -> str:
    colour = f"var(--s{key.colour})"
    filled = f'fill="{colour}"'
    match MARKERS[(key.marker or 0) % len(MARKERS)]:
        case "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" {filled}/>'
        case "ring":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="none" stroke="{colour}"/>'
        case "square":
            return f'<path d="M{x - 2.8:.1f} {y - 2.8:.1f}h5.6v5.6h-5.6z" {filled}/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 4:.1f}l4 4-4 4-4-4z" {filled}/>'
        case "triangle":
            return f'<path d="M{x:.1f} {y - 3.6:.1f}l3.6 6.4h-7.2z" {filled}/>'
        case "down":
            return f'<path d="M{x:.1f} {y + 3.6:.1f}l3.6-6.4h-7.2z" {filled}/>'
        case "cross":
            return f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6" stroke="{colour}" stroke-width="2"/>'
    return f'<path d="M{x - 3.6:.1f} {y:.1f}h7.2m-3.6-3.6v7.2" stroke="{colour}" stroke-width="2"/>'


def _sample(key: Key) -> str:
    """A short piece of a line, for the legend."""
    dash = f' stroke-dasharray="{DASHES[key.dash]}"' if key.dash else ""
    marker = "" if key.marker is None else _marker(key, 13, 8)
    return (
        '<svg width="26" height="16" viewBox="0 0 26 16" aria-hidden="true">'
        f'<path d="M1 8H25" stroke="var(--s{key.colour})" stroke-width="2"{dash}/>{marker}</svg>'
    )


SVG_STYLE = (
    f"text{{font:{TEXT}px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:var(--ink)}}"
    ".tick{fill:var(--soft)}.head{font-weight:600}.grid{stroke:var(--rule);stroke-width:1;opacity:.7}"
    ".axis{stroke:var(--soft);stroke-width:1;fill:none}"
)
