"""Training to the end."""

from typing import Any

from benchmarks import train as train_benchmark
from benchmarks.record import machine_line
from grasp_jax.report.figures import Panel
from grasp_jax.report.tables import Table


def train(record: dict[str, Any]) -> Table:
    """Training to the early-stopped model, ours and rivals'."""
    sizes, rows = record["sizes"], record["rows"]
    ours = rows[0]
    versions = "; ".join(f"{row['implementation']}: {', '.join(f'{name} {of}' for name, of in row['versions'].items())}" for row in rows)
    shared = min(row["epochs"] for row in rows)  # epochs that all have done
    cut = "".join(
        f" {row['implementation']} trained all {row['epochs']} epochs that it may." for row in rows if row["epochs"] == sizes["max_epochs"]
    )
    alike = ", ".join(f"{100 * row['valid_ndcg'][shared - 1]:.2f} ({row['implementation']})" for row in rows)
    note = (
        f"`python -m benchmarks.train`: id-only SASRec on {sizes['data']}, {sizes['users']:,} users and {sizes['items']:,} items, "
        f"{sizes['evaluated']:,} users tested among 100 stored negatives; D={sizes['features']}, L={sizes['max_length']}, "
        f"{sizes['batch_size']} users a step, {sizes['num_layers']} layers, dropout {sizes['dropout']}, Adam at "
        f"{sizes['learning_rate']:g}, patience {sizes['patience']}, {sizes['threads']} threads for each. An epoch is training with the "
        "loading of its data, the median of all; the seconds to the early-stopped model hold validation too, and of ours "
        f"{ours['compile_seconds']:.1f} of compilation without a cache.{cut} After {shared} epochs validation NDCG@10 is "
        f"{alike}. {versions}. "
        f"{machine_line(record)}"
    )
    body = [train_benchmark.cells(row) for row in rows]
    return Table("train", "Training to the early-stopped model", train_benchmark.HEADER, body, note)


def models(record: dict[str, Any]) -> Table:
    """Many models at once, beside one after another."""
    sizes, body, ends = record["sizes"], [], []
    for own in record["models"]:
        full = own["fills_at"]
        said = f"is about its least from {full} at once on" if full else "still falls at the last point"
        ends.append(f"the cost of a {own['model']} {said}")
        if stopped := own["stopped"]:
            needed, there = stopped["needed_bytes"] / 1e9, stopped["device_bytes"] / 1e9
            ends.append(f"{stopped['count']} of {own['model']} need {needed:.1f} GB of {there:.1f} and were not run")
        body += [
            [
                own["model"], str(point["count"]), f"{1e3 * point['seconds_per_step']:,.2f}", f"{1e3 * point['seconds_per_model']:,.2f}",
                f"{point['over_one']:.2f}", f"{point['over_one_after_another']:.2f}",
                "unknown" if point["memory_bytes"] is None else f"{point['memory_bytes'] / 2**20:,.0f}",
            ]
            for point in own["points"]
        ]  # fmt: skip
    note = (
        "`python -m benchmarks.models_at_once`: one step of k models, which differ in seed and learning rate, in turn with that of one; "
        f"B={sizes['batch_size']} of {sizes['data']}, E={sizes['width']} where a model has text, {sizes['steps_per_dispatch']} steps in a "
        f"dispatch. {'; '.join(ends)}. {machine_line(record)}"
    )
    header = ["model", "at once", "ms a step", "ms a model", "over one model", "over one after another", "memory beside frozen tables, MiB"]
    return Table("models", "Many models at once", header, body, note)


def models_figure(record: dict[str, Any]) -> str:
    """SVG of a step's time, and of a model's share of it over that of a model alone, against the number of models."""
    panel = Panel(2)
    for style, own in enumerate(record["models"]):
        counts = [point["count"] for point in own["points"]]
        panel.line(0, counts, [1e3 * point["seconds_per_step"] for point in own["points"]], style, own["model"])
        panel.line(1, counts, [point["over_one_after_another"] for point in own["points"]], style, own["model"])
        alone = own["points"][0]["seconds_per_step"]
        panel.axes[0].plot(counts, [1e3 * count * alone for count in counts], color="grey", linestyle=":", linewidth=1.0)
    panel.axes[1].axhline(1.0, color="grey", linestyle=":", linewidth=1.0)
    for axis in panel.axes:
        axis.set_xscale("log", base=2)
    panel.axes[0].set_yscale("log")
    panel.name(0, "", "models at once", "a step, ms")
    panel.name(1, "dotted: one after another", "models at once", "of the time one after another")
    return panel.svg()
