"""What was tried for each row of the study `ahead`, and how far a row differs between seeds."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from benchmarks.study_labels import shown
from benchmarks.study_trials import Setting, all_parts, best_setting, main_metric, tried
from grasp_jax.report.runs import FinishedRun
from grasp_jax.report.tables import ReportTable


def table(runs: Sequence[FinishedRun]) -> ReportTable:
    """Every setting that was tried for a row, with its validation score; the one that was chosen is bold."""
    body = []
    for (name, by), parts in sorted(all_parts(runs).items()):
        if not by:
            continue
        scores, best = tried(parts), best_setting(parts)
        several_rates = len({rate for _, rate in scores}) > 1
        cells = []
        for setting, own in sorted(scores.items()):
            cell = f"{_words(setting, several_rates)}: {100 * np.mean(own):.2f}"
            cells.append(f"**{cell}**" if setting == best else cell)
        epochs = max(record["epoch"] for run, method in parts for record in _epochs(run, method))
        models = sum(map(len, scores.values()))
        body.append([shown(name), by, str(epochs), "; ".join(cells), str(models)])
    header = ["method", "loss", "epochs", "tried: validation NDCG@10", "models"]
    title = "Settings that were tried; validation chose the bold one"
    note = (
        "Mean over seeds, percent, without seen items. Epochs are the most epochs of one model. Rows with one setting were not tuned "
        "in this study. The settings of the towers of `grasp_plus` were set during its development; no record of that was kept. "
        "The match of the former defaults was set by hand with test figures in view."
    )
    return ReportTable("ahead-search", title, header, body, note)


def _epochs(run: FinishedRun, method: str) -> list[dict[str, int]]:
    return [record for record in run.epochs if record["method"] == method]


def _words(setting: Setting, with_rate: bool) -> str:
    dropout, rate = setting
    return f"dropout {dropout:g}" + f", learning rate {rate:g}" * with_rate


def variation(rows: Iterable[FinishedRun]) -> str:
    """The standard deviation between seeds, pooled over the rows that have several, and what single seeds can differ by because of it."""
    squares, freedom = 0.0, 0
    for run in rows:
        seeds = main_metric(run)
        if len(seeds) > 1 and seeds.std() > 0:  # untrained methods are the same with every seed
            squares += float(((seeds - seeds.mean()) ** 2).sum())
            freedom += len(seeds) - 1
    if not freedom:
        return "No row has several seeds."
    deviation = float(np.sqrt(squares / freedom))
    apart = float(stats.t.ppf(0.975, freedom)) * np.sqrt(2) * deviation
    return (
        f"The standard deviation of full_unseen NDCG@10 between seeds, pooled over all rows with several, is {deviation:.3f} ({freedom} "
        f"degrees of freedom). So two rows with one seed each can be {apart:.2f} apart by their seeds alone."
    )
