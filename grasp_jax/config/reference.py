"""Every field of the config as a page: `python -m grasp_jax.config.reference > docs/config.md`."""

import dataclasses
from collections.abc import Iterator

from grasp_jax.config.checks import Choice
from grasp_jax.config.config import FIELDS, Config, value_of
from grasp_jax.config.fields import Affects, Section

ABOUT = """\
# Every field of the config

You can set a field in three ways:

* in a config file: `config.model.dropout = (0.3,)`;
* by a flag of the command line: `--config.model.dropout=0.3`;
* by an argument in Python: `gj.Recommender(dropout=0.3)`. If several sections have a field of this name, write the
  section first, with two underscores: `model__plus__gate="none"`. Fields about reading the data belong to
  `gj.Dataset.read`, `gj.Dataset.from_frames` or `gj.Dataset.synthetic` ([From Python](python.md)).

[Choosing a method](choosing.md#settings) names the few fields to begin with. In the column *meaning*, `|` separates
the possible values. The last column says what another value of the field affects:
"""

AFFECTS = {
    Affects.NOTHING: "no training and no test. Two calls on one workdir may use different values",
    Affects.BANK: "the knowledge bank (text vectors and neighbours) and everything that is made from it",
    Affects.TRIAL: "the training or the test of models, but not the knowledge bank",
}
SHARED = """\
* `shared`: all methods of a run have the same value; see [by_method](#by_method-and-by_source).

[Command line](command-line.md#methods) lists the names of methods and backbones.
`python -m grasp_jax.config.reference > docs/config.md` writes this page from `grasp_jax/config/`.
"""

ABOUT_BY_CASE = """\
## by_method and by_source

Two dictionaries have values for single cases. `by_method` gives a method its own values for fields of
`model` and `train`: `config.by_method = {"plain": {"model": {"dropout": (0.5,)}}}`. A field
that is marked *shared* is the same for all methods of a run and cannot be used there. `by_source` does
the same for a data source (`files`, `synthetic`, `amazon`), unless a flag sets the field;
`configs/quickstart.py` uses it for settings that are tuned to the synthetic shop.
"""


def reference() -> str:
    """The page, in Markdown."""
    lines = [ABOUT, *(f"* `{kind.value}`: {what}." for kind, what in AFFECTS.items()), SHARED]
    for name, section in _sections(Config()):
        text = " ".join((type(section).__doc__ or "").split())
        title = f"## {name}\n\n{text}\n" if name else "## Outside all sections\n"
        lines += [title, "| field | default | meaning | affects |", "|---|---|---|---|"]
        lines += [_row(field) for field in FIELDS if field.rpartition(".")[0] == name]
        lines.append("")
    return "\n".join([*lines, ABOUT_BY_CASE])


def _sections(section: Section, name: str = "") -> Iterator[tuple[str, Section]]:
    """A section and all within it by their full names, "" for the whole."""
    yield name, section
    for one in dataclasses.fields(section):
        value = getattr(section, one.name)
        if isinstance(value, Section):
            yield from _sections(value, f"{name}.{one.name}" if name else one.name)


def _row(field: str) -> str:
    """A line of a table."""
    about, default = FIELDS[field], value_of(Config(), field)
    shown = "empty" if default == "" else f"`{default!r}`"
    what = about.what
    if isinstance(about.check, Choice) and any(name not in what for name in about.check.names):
        what = f"{what} One of {', '.join(about.check.names)}."
    cells = (f"`{field.rpartition('.')[2]}`", shown, what.replace("|", "\\|"))
    affects = about.affects.value + (", shared" if about.shared else "")
    return f"| {' | '.join(cells)} | {affects} |"


if __name__ == "__main__":
    print(reference(), end="")
