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
    body = "\n".join(parts)
    write_text(README, f"{head}{BEGIN}\n{body}{END}{tail}")


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
    machine, sizes = record["machine"], record["sizes"]
    lines = ["| one training step | median ms | p10-p90 ms | real tokens/s | peak memory MB |", "|---|---|---|---|---|"]
    for row in record["steps"]:
        spread = f"{1e3 * row['p10']:.0f}-{1e3 * row['p90']:.0f}"
        memory = "unknown" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 1e6:,.0f}"
        lines.append(f"| {row['name']} | {1e3 * row['seconds_per_step']:,.0f} | {spread} | {row['tokens_per_second']:,.0f} | {memory} |")
    growth = ", ".join(f"{row['tokens']:,} tokens {row['seconds']:.1f} s" for row in record["growth"])
    ratios = record["speed_up"]
    return (
        f"### One training step of GRASP-SASRec: E={sizes['width']}, L={sizes['max_length']}, B={sizes['batch_size']}, "
        f"MLP {sizes['mlp']}\n\n"
        f"`make bench` on {machine['cores']} cores of {machine['cpu']}, {machine['device']}; {sizes['tokens_per_step']:.0f} real tokens a "
        f"step. Ours is {ratios['over_pytorch']:.1f} times as fast as PyTorch and {ratios['over_plain_jax']:.1f} times as plain JAX; "
        f"other processes used {record['cores_used_by_others']:.1f} cores meanwhile.\n\n"
        + "\n".join(lines)
        + f"\n\nOne epoch of ours: {growth}.\n\n"
    )


if __name__ == "__main__":
    main()
