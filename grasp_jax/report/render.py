"""Renders templates into one HTML page that needs no network, escapes all text, and whose only script is allowed by its hash."""

import base64
import hashlib
import pathlib
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.report.plot import DARK, LIGHT

FOLDER = pathlib.Path(__file__).parent / "templates"
PAGE_LIGHT = LIGHT | {
    "page": "#f7f8fa",
    "card": "#ffffff",
    "accent": "#0b5fa5",
    "mark": "#e4f0fa",
    "good": "#1a6b35",
    "warn": "#8a5a00",
    "bad": "#b3261e",
}
PAGE_DARK = DARK | {
    "page": "#14171b",
    "card": "#1d2126",
    "accent": "#7cc0f5",
    "mark": "#20384c",
    "good": "#6fd08c",
    "warn": "#f0b73a",
    "bad": "#ff9c8f",
}


def render(template: str, title: str, script: str = "", **content: Any) -> str:
    """A page.

    Args:
      template: a file of `templates`.
      title: of the page.
      script: a file of `templates`, or none.
      **content: what the template shows; text is escaped, `drawn` figures are not.

    Raises:
      UserError: Jinja2 is not installed.
    """
    jinja2 = _jinja2()
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.get_template("style.css").render(
        light=Markup(_variables(PAGE_LIGHT)), dark=Markup(_variables(PAGE_DARK))
    )
    source = (FOLDER / script).read_text(encoding="utf-8") if script else ""
    page = environment.get_template(template).render(
        title=title,
        style=Markup(style),
        script=Markup(source),
        script_hash=Markup(_hash(source)),
        **content,
    )
    return str(page)


def drawn(svg: str) -> Any:
    """A figure for a template: not escaped again, because its texts are escaped already.

    Raises:
      UserError: Jinja2 is not installed.
    """
    _jinja2()  # figures are drawn before a page is rendered
    from markupsafe import Markup

    return Markup(svg)


def _jinja2() -> Any:
    """The module jinja2, which is an extra and depends on markupsafe."""
    try:
        import jinja2
    except ImportError as error:
        raise UserError(
            "the page is written with Jinja2, which is not installed: pip install 'grasp-jax[report]'"
        ) from error
    return jinja2


def anchor(name: str) -> str:
    """A name as an id."""
    return "".join(character if character.isalnum() else "-" for character in name.lower())


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
