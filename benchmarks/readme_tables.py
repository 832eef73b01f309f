"""Writes the tables between README.md's markers from the JSON in `benchmarks/results`: `python -m benchmarks.readme_tables`."""

import json
import pathlib
from typing import Any

from grasp_jax.evaluation.results import table
from grasp_jax.files import write_text

RESULTS = pathlib.Path(__file__).parent / "results"
README = pathlib.Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
RUNS = {
    "beauty5-minilm": "Amazon Beauty 5-core, given MiniLM vectors (E=384)",
    "beauty5-lsa": "Amazon Beauty 5-core, own `lsa` vectors (E=256) of title, brand and categories",
    "quickstart": "Quickstart, synthetic shop",
    "fashion-sasrec": "The paper's Fashion, ids only, three seeds (the paper's SASRec: NDCG@10 44.13, HR@10 49.95)",
    "industry": "Industry-100K's shape, synthetic, scaled to two cores: shows that it runs, not quality",
}


def main() -> None:
    """Rewrites the section in place; a run without a JSON file is left out."""
    parts = [_run(title, json.loads(path.read_text())) for name, title in RUNS.items() if (path := RESULTS / f"{name}.json").exists()]
    parts += [_step(json.loads(path.read_text())) for path in sorted(RESULTS.glob("step-*.json"))]
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    write_text(README, f"{head}{BEGIN}\n{'\n'.join(parts)}{END}{tail}")


def _run(title: str, results: dict[str, Any]) -> str:
    about = results["about"]
    seconds = sum(about["seconds"].values())
    command = " ".join(part for part in about["command"].split() if not part.startswith("--workdir"))
    return (
        f"### {title}\n\n`{command}`  \n{about['cores']} cores of {about['cpu']}, {about['device']}, "
        f"jax {about['versions']['jax']}; {seconds / 60:.0f} minutes of training, validation and compilation.\n\n"
        f"{table(results['rows'])}\n\n"
    )


def _step(record: dict[str, Any]) -> str:
    machine = record["machine"]
    return (
        f"### One training step, E={record['sizes']['width']}, L={record['sizes']['max_length']}, B={record['sizes']['batch_size']}\n\n"
        f"`python -m benchmarks.step` on {machine['cores']} cores of {machine['cpu']}, {machine['device']}:\n\n{record['summary']}\n\n"
    )


if __name__ == "__main__":
    main()
