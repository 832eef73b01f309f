"""docs/config.md, which is written from the fields of the config."""

import pathlib

from grasp_jax.config import FIELDS
from grasp_jax.config.reference import reference

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "config.md"


def test_the_page_is_current() -> None:
    """A field would be documented with a default that it no longer has, or not at all."""
    remedy = "run python -m grasp_jax.config.reference > docs/config.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), remedy


def test_the_page_has_every_field_once() -> None:
    """A field or a section would be left out, or a bar in a sentence would begin another column."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(FIELDS)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
