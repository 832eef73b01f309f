"""Writes the tables of docs/kernels.md with the number of kernels that a step launches: python -m benchmarks.sections.launches."""

import json
import pathlib
import textwrap
from typing import Any

from benchmarks.kernels_of_a_step import RECORD
from benchmarks.record import run
from benchmarks.trace import OTHER, STAGES
from grasp_jax.files import write_text
from grasp_jax.report.formats import markdown
from grasp_jax.report.tables import Table

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "kernels.md"
AIMS = {  # model -> its name, and how many kernels its step should launch at most
    "grasp-sasrec": ("GRASP on SASRec", 60),
    "plain-sasrec": ("SASRec without text", 45),
    "grasp-gru4rec": ("GRASP on GRU4Rec", 60),
    "plain-gru4rec": ("GRU4Rec without text", 60),
}
BEGIN, END = "<!-- counts: begin -->\n", "<!-- counts: end -->\n"


def launches(record: dict[str, Any]) -> Table:
    """Kernels per step of each model, the longest chain, temporaries, and kernels of each stage."""
    sizes, versions = record["sizes"], record["versions"]
    stages = [*STAGES, OTHER]
    body = [
        [
            row["model"],
            str(row["kernels"]),
            str(row["chain"]),
            str(row["temporary_mib"]),
            *(str(row["stages"].get(stage, 0)) for stage in stages),
        ]
        for row in record["models"]
    ]
    note = (
        f"`python -m benchmarks.kernels_of_a_step`: compiled for an H100 on a machine without one, so without autotuning; "
        f"B={sizes['batch_size']}, E={sizes['width']}, L={sizes['max_length']}, D={sizes['features']}, "
        f"{sizes['users']:,} users of paper Beauty's lengths, "
        f"{sizes['items']:,} items. The chain is the longest sequence of kernels in which each waits for the one before it. "
        f"jaxlib {versions['jaxlib']}, commit "
        f"{', '.join(sorted({(row['commit'] or 'unknown')[:7] for row in record['models']}))}"
    )
    header = ["model", "kernels", "chain", "temporaries, MiB", *stages]
    return Table(
        "launches",
        "Kernels that a training step launches",
        header,
        body,
        "\n".join(textwrap.wrap(note, 140)),
    )


def aims(record: dict[str, Any]) -> Table:
    """How many kernels a step should launch, and how many it does."""
    kernels = {row["model"]: row["kernels"] for row in record["models"]}
    body = [
        [
            name,
            str(most),
            _counted(kernels[model], most),
            _counted(kernels.get(f"{model}-backbone", kernels[model]), most),
        ]
        for model, (name, most) in AIMS.items()
    ]
    header = ["a step of", "aim, at most", "by default", "with `kernels=backbone`"]
    note = "From the table above. GRU4Rec uses its kernel by default."
    return Table("aims", "How many kernels a step should launch", header, body, note)


def _counted(kernels: int, most: int) -> str:
    return f"{kernels} ({'reached' if kernels <= most else 'not reached'})"


def page(text: str, record: dict[str, Any]) -> str:
    """A page with the tables between its two marks."""
    before, rest = text.split(BEGIN)
    tables = f"{markdown(launches(record))}\n{markdown(aims(record))}"
    return before + BEGIN + tables + END + rest.split(END)[1]


def write() -> None:
    """Writes the tables into the page."""
    record = json.loads(RECORD.read_text())
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), record))


if __name__ == "__main__":
    run(write)
