"""A training step: against rivals, and in other ways."""

from typing import Any

from benchmarks.record import machine_line
from grasp_jax.report.tables import Table


def step(record: dict[str, Any]) -> list[Table]:
    """Ours against the same function in plain JAX and PyTorch, and its growth."""
    sizes, figures = record["sizes"], record["steps"]
    body = [
        [
            row["name"], *(f"{1e3 * row[key]:,.1f}" for key in ("seconds_per_step", "p10", "p90")),
            f"{row['seconds_per_step'] / figures[0]['seconds_per_step']:.1f}", f"{row['tokens_per_second']:,.0f}",
            "unknown" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 2**20:,.0f}", f"{row['compile_seconds']:.1f}",
        ]
        for row in figures
    ]  # fmt: skip
    note = (
        f"`python -m benchmarks.step`: forward, backward and update of {sizes['batch_size']} users of {sizes['data']}, E={sizes['width']}, "
        f"L={sizes['max_length']}, D={sizes['features']}, MLP {sizes['mlp']}, in interleaved rounds; losses of the first batch within "
        f"{record['parity']['largest_difference']:.0e}. Memory apart from the frozen tables. {machine_line(record)}"
    )
    header = ["implementation", "median, ms", "p10, ms", "p90, ms", "times ours", "real tokens/s", "memory, MiB", "compile, s"]
    growth = [
        [
            f"{row['users']:,}", f"{row['steps']:,}", f"{row['tokens']:,}", f"{row['seconds']:.2f}",
            f"{row['seconds_per_million_tokens']:.1f}",
        ]
        for row in record["growth"]
    ]  # fmt: skip
    by_users = ["users", "steps", "tokens", "s", "s a million tokens"]
    return [
        Table("step", "A training step of GRASP-SASRec", header, body, note),
        Table("step_growth", "Its epoch by the number of users", by_users, growth, "Of the same run."),
    ]


def variants(record: dict[str, Any]) -> Table:
    """A step in other ways than the package's own."""
    body = [
        [
            row["model"], row["variant"], row["projection"], *(f"{row[key]:.2f}" for key in ("median_ms", "p10_ms", "p90_ms")),
            f"{row['speed_up']:.2f}", "unknown" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 2**20:,.0f}",
            f"{row['compile_seconds']:.1f}",
        ]
        for row in record["rows"]
    ]  # fmt: skip
    sizes = record["sizes"]
    note = (
        f"`python -m benchmarks.variants`: one change at a time, in interleaved rounds, on {sizes['data']}, E={sizes['width']}; losses of "
        f"the first batch agree. Speed-ups are over the package's way. {machine_line(record)}"
    )
    header = ["model", "way", "projection by", "median, ms", "p10, ms", "p90, ms", "speed-up", "memory, MiB", "compile, s"]
    return Table("variants", "A training step in other ways", header, body, note)
