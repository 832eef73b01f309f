"""The pages of docs/tutorials, written from the scripts in docs/examples: python -m benchmarks.tutorial_pages [NAME ...].

A script has cells that begin with `# %%`, as editors know them; a cell that begins with `# %% [markdown]` is text. A page has the text, the
code and what the code printed on the machine that wrote the page.
"""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks.arguments import parser_of_pages
from benchmarks.chat_process import ChatProcess
from grasp_jax.core.files import write_text

DOCS = pathlib.Path(__file__).parent.parent / "docs"
EXAMPLES, PAGES = DOCS / "examples", DOCS / "tutorials"
TUTORIALS = (
    "first_steps",
    "own_csv",
    "genres",
    "describe_items",
    "compare_methods",
    "serve_a_model",
    "daily_refresh",
)
ASKS_A_MODEL = "describe_items"  # the tests' server stands in for a language model
PRINTED = "<!-- printed -->"
_CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a script.

    Attributes:
      text: Markdown, or code.
      is_code: whether it is code.
    """

    text: str
    is_code: bool


def cells(script: str) -> list[Cell]:
    """The cells of a script in their order, without the text before the first one."""
    parts = _CELL.split(script)[1:]
    found = []
    for mark, body in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in mark:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(Cell("\n".join(lines), False))
        elif body.strip():
            found.append(Cell(body.strip(), True))
    return found


def run(script: pathlib.Path) -> list[str]:
    """Runs the code of a script, cell by cell in one namespace; returns the output of each code cell."""
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(script)}
    printed = []
    for cell in cells(script.read_text(encoding="utf-8")):
        if cell.is_code:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(cell.text, str(script), "exec", dont_inherit=True), names)
            printed.append(out.getvalue())
    return printed


def page(script: pathlib.Path, printed: Sequence[str]) -> str:
    """A page of the script's cells; each code cell is followed by its output."""
    left = iter(printed)
    name = script.stem
    about = f"To run this page as a script: `python docs/examples/{name}.py`."
    parts = []
    for cell in cells(script.read_text(encoding="utf-8")):
        if not cell.is_code:
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        if out := next(left).rstrip():
            parts.append(f"{PRINTED}\n```text\n{out}\n```")
    title, *rest = parts[0].split("\n\n", 1)
    return "\n\n".join([title, about, *rest, *parts[1:]]) + "\n"


def without_output(text: str) -> str:
    """A page without the output of its code, which differs between machines."""
    kept = re.sub(rf"{re.escape(PRINTED)}\n```text\n.*?\n```\n\n?", "", text, flags=re.DOTALL)
    return kept.rstrip() + "\n"


def main() -> None:
    """Runs the named tutorials, or all, and writes their pages."""
    parser = parser_of_pages("tutorial_pages", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TUTORIALS)}")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in TUTORIALS]:
        parser.error(f"{', '.join(unknown)}; expected some of {', '.join(TUTORIALS)}")
    logging.getLogger("grasp_jax").setLevel(logging.WARNING)
    for name in names or TUTORIALS:
        script = EXAMPLES / f"{name}.py"
        with stand_in() if name == ASKS_A_MODEL else contextlib.nullcontext():
            printed = run(script)
        write_text(PAGES / f"{name}.md", page(script, printed))


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """A server of the chat protocol, at the address that the tutorial reads from the environment."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ChatProcess(pathlib.Path(folder) / "log", 0.002, {}) as server,
    ):
        os.environ["OPENAI_BASE_URL"] = server.url
        yield


if __name__ == "__main__":
    main()
