"""Training until the early stop."""

from typing import Any

from benchmarks import train as train_benchmark
from benchmarks.record import machine_line
from grasp_jax.report.tables import ReportTable


def train(record: dict[str, Any]) -> ReportTable:
    """Training to the early-stopped model, ours and rivals'."""
    sizes, rows = record["sizes"], record["rows"]
    compiled = [f"{row['compile_seconds']:.1f}" for row in rows if row["compile_seconds"]]
    versions = "; ".join(
        f"{row['implementation']}: {', '.join(f'{name} {of}' for name, of in row['versions'].items())}"
        for row in rows
    )
    shared = min(row["epochs"] for row in rows)  # epochs that all implementations have run
    cut = "".join(
        f" {row['implementation']} trained for all {row['epochs']} epochs."
        for row in rows
        if row["epochs"] == sizes["max_epochs"]
    )
    alike = ", ".join(
        f"{100 * row['valid_ndcg'][shared - 1]:.2f} ({row['implementation']})" for row in rows
    )
    note = (
        f"`python -m benchmarks.train`: SASRec without text on {sizes['data']}, {sizes['users']:,} users and {sizes['items']:,} items, "
        f"{sizes['evaluated']:,} users tested among 100 stored negatives; D={sizes['features']}, L={sizes['max_length']}, "
        f"{sizes['batch_size']} users a step, {sizes['num_layers']} layers, dropout {sizes['dropout']}, Adam at "
        f"{sizes['learning_rate']:g}, patience {sizes['patience']}, {sizes['threads']} threads for each. An epoch is training with the "
        "loading of its data; the median of all epochs is given. The seconds to the early-stopped model include validation, and for ours "
        f"{' and '.join(compiled)} s of compilation without a cache. A rival's epoch is compared "
        f"with that of our model of the same loss.{cut} After {shared} epochs validation NDCG@10 is "
        f"{alike}. {versions}."
        f"\n\n{machine_line(record)}"
    )
    body = [train_benchmark.cells(row) for row in rows]
    return ReportTable(
        "train", "Training to the early-stopped model", train_benchmark.HEADER, body, note
    )
