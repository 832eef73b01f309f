"""How long a training takes on a machine that does nothing else; the runs of other studies shared theirs."""

from benchmarks.record import short_commit
from benchmarks.study_records import Page, page, read
from grasp_jax.evaluation.results import spread
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable


def alone() -> Page:
    """A line for each run, the fastest first."""
    body = []
    for run in sorted(
        read("alone")[0], key=lambda run: float(run.results["about"]["seconds"]["train"])
    ):
        about = run.results["about"]
        (trial,) = trials(run)
        body.append(
            [
                f"`{trial[0]}`",
                f"{about['cores']} cores, {about['cpu']}",
                *(f"{about['seconds'][part] / 60:.1f}" for part in ("train", "validation")),
                spread(values(run, *trial, "full_unseen", "all", "NDCG@10")),
                short_commit(about["commit"]),
            ]
        )
    header = [
        "method",
        "machine",
        "training, minutes",
        "validation, minutes",
        "test NDCG@10, percent",
        "commit",
    ]
    return page(ReportTable("alone", "Trainings of 20 epochs on an idle machine", header, body))
