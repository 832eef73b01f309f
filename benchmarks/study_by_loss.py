"""Methods with the loss of their paper and with cross-entropy, side by side: how much of a gain is the loss, and how much the method."""

import numpy as np

from benchmarks.study_labels import shown
from benchmarks.study_records import METRICS, Page, page, read
from benchmarks.study_trials import BASELINE, LOSSES, merged
from grasp_jax.evaluation.results import spread
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.table_data import trials, values
from grasp_jax.report.tables import ReportTable

OTHER_NAME = {"plain": BASELINE, "gsasrec": BASELINE}  # of the row by cross-entropy
PROTOCOLS = ("full_unseen", "sampled100")


def by_loss() -> Page:
    """A line for each method that was trained with both."""
    found = merged(read("ahead")[0])
    body = []
    for (name, loss), published in found.items():
        same = found.get((OTHER_NAME.get(name, name), LOSSES["ce"]))
        if loss in ("", LOSSES["ce"]) or same is None:
            continue
        line = [shown(name), loss, f"{_seeds(published)} / {_seeds(same)}"]
        for protocol in PROTOCOLS:
            before, after = (_ndcg(run, protocol) for run in (published, same))
            line += [spread(before), spread(after), f"{after.mean() / before.mean():.2f}"]
        body.append(line)
    header = ["method", "loss of its paper", "seeds"]
    for protocol in PROTOCOLS:
        header += [f"{protocol}, that loss", f"{protocol}, cross-entropy", "factor"]
    title = "The loss of the paper and cross-entropy: NDCG@10, percent"
    return page(
        ReportTable("by_loss", title, header, sorted(body, key=lambda line: float(line[5])))
    )


def _seeds(run: FinishedRun) -> int:
    return len({row["seed"] for row in run.rows})


def _ndcg(run: FinishedRun, protocol: str) -> np.ndarray:
    """[seeds] percent."""
    return values(run, *trials(run)[0], protocol, "all", METRICS[0])
