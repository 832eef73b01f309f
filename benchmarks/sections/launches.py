"""Writes the tables of docs/kernels.md, the speed of each kernel and how many a step launches: python -m benchmarks.sections.launches."""

import json
import pathlib
import textwrap
from typing import Any

from benchmarks.arguments import parser_of_pages
from benchmarks.kernels_of_a_step import RECORD
from benchmarks.record import RESULTS, run, short_commit
from benchmarks.sections.kernel_meaning import KERNEL, fastest_of_xla
from benchmarks.trace import OTHER, STAGES
from grasp_jax.core.files import write_text
from grasp_jax.report.formats import markdown
from grasp_jax.report.tables import ReportTable

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "kernels.md"
AIMS = {  # model -> its name, and how many kernels its step should launch at most
    "grasp-sasrec": ("GRASP on SASRec", 60),
    "plain-sasrec": ("SASRec without text", 45),
    "grasp-gru4rec": ("GRASP on GRU4Rec", 60),
    "plain-gru4rec": ("GRU4Rec without text", 60),
}
BEGIN, END = "<!-- counts: begin -->\n", "<!-- counts: end -->\n"
SPEEDS_BEGIN, SPEEDS_END = "<!-- speeds: begin -->\n", "<!-- speeds: end -->\n"
PLACES = {  # file -> where it is
    "gru.py": "in the package; `auto` uses it on a GPU",
    "sasrec_layer.py": "in the package, used with `kernels=backbone`",
    "packed_attention.py": "in `benchmarks/kernels`",
}


def launches(record: dict[str, Any]) -> ReportTable:
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
        f"{', '.join(sorted({short_commit(row['commit']) for row in record['models']}))}"
    )
    header = ["model", "kernels", "chain", "temporaries, MiB", *stages]
    return ReportTable(
        "launches",
        "Kernels that a training step launches",
        header,
        body,
        "\n".join(textwrap.wrap(note, 140)),
    )


def speeds(counts: dict[str, Any], gru: dict[str, Any], attention: dict[str, Any]) -> str:
    """How fast each kernel is against the fastest of XLA's forms, forward and backward, and where it was measured."""
    forms = gru["cases"]["training"]
    rival, ratio = fastest_of_xla(forms)
    plain = forms["scan"]["median_ms"] / forms[KERNEL]["median_ms"]
    kernels = {row["model"]: row["kernels"] for row in counts["models"]}
    weights = [
        (
            own["normaliser"],
            own["forms"]["einsum"]["median_ms"] / own["forms"]["kernels"]["median_ms"],
        )
        for own in attention["cases"]
        if own["pass"] == "training" and own["heads"] == 1
    ]
    said = {
        "gru.py": f"{ratio:.2f} times as fast as XLA's best form ({rival}), {plain:.2f} times as fast as the plain scan",
        "sasrec_layer.py": f"not timed yet; a step has {kernels['grasp-sasrec-backbone']} kernels instead of "
        f"{kernels['grasp-sasrec']} (below)",
        "packed_attention.py": f"{' and '.join(f'{ratio:.2f} times as fast with {name}' for name, ratio in weights)}",
    }
    body = [[f"`{name}`", said[name], place] for name, place in PLACES.items()]
    sizes = gru["sizes"]
    note = (
        f"Forward and backward, {sizes['batch_size']} users of {sizes['data']}, L={sizes['max_length']}, D={sizes['features']}; "
        f"`gru-gpu.json` and `attention-gpu.json` of `benchmarks/results`. {_measured(gru)} {_measured(attention)} So these ratios are "
        "less certain than those of an idle machine. The GRU of cuDNN, FlashAttention and cuDNN's attention over rows of varying length "
        "were not measured: no ratio here is to them."
    )
    table = ReportTable(
        "speeds", "Speed of each kernel", ["kernel", "speed against XLA", "where it is"], body
    )
    return f"{markdown(table).strip()}\n\n{textwrap.fill(note, 140, break_on_hyphens=False)}\n"


def _measured(record: dict[str, Any]) -> str:
    """Where, with which JAX, and with how many cores busy."""
    about, busy = record["machine"], record["cores_used_by_others"]
    return (
        f"`{record['benchmark']}` was measured on an {about['device']} with jax {about['versions']['jax']}, while other programs used "
        f"{busy:.0f} of {about['cores']} cores."
    )


def aims(record: dict[str, Any]) -> ReportTable:
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
    return ReportTable("aims", "How many kernels a step should launch", header, body, note)


def _counted(kernels: int, most: int) -> str:
    return f"{kernels} ({'reached' if kernels <= most else 'not reached'})"


def page(text: str, record: dict[str, Any]) -> str:
    """A page with the tables between its two marks."""
    before, rest = text.split(BEGIN)
    tables = f"{markdown(launches(record))}\n{markdown(aims(record))}"
    text = before + BEGIN + tables + END + rest.split(END)[1]
    before, rest = text.split(SPEEDS_BEGIN)
    gru, attention = (
        json.loads((RESULTS / f"{name}-gpu.json").read_text()) for name in ("gru", "attention")
    )
    told = speeds(record, gru, attention)
    return before + SPEEDS_BEGIN + told + SPEEDS_END + rest.split(SPEEDS_END)[1]


def write() -> None:
    """Writes the tables into the page."""
    parser_of_pages("sections.launches", __doc__).parse_args()
    record = json.loads(RECORD.read_text())
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), record))


if __name__ == "__main__":
    run(write)
