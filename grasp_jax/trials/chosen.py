"""The model of a run that recommends, chosen on validation, and the users and histories for which it recommends."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.audience import Audience, Wanted, whole_histories
from grasp_jax.evaluation.ranker import Ranker
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.text.columns import as_texts
from grasp_jax.models.methods import METHODS
from grasp_jax.serving.artifact import GROUPS, Artifact, on_host
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.training.checkpoint import hash_of_model
from grasp_jax.training.snapshot import Snapshot
from grasp_jax.trials.placed_tables import facts_of
from grasp_jax.trials.run import Prepared, Run, unlisted_items
from grasp_jax.trials.trial import (
    Trial,
    make_trial,
    preferred_replicas,
    say_if_unfinished,
    trained,
    validation_scores,
)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The trained model that recommends.

    Attributes:
      trial: its method and backbone.
      snapshot: of all replicas of the trial.
      replicas: those with the dropout and learning rate that validation prefers, one for each seed.
      score: mean validation NDCG@10 over the seeds.
    """

    trial: Trial
    snapshot: Snapshot
    replicas: list[int]
    score: float

    @property
    def replica(self) -> int:
        """The replica that recommends: the first seed of the config."""
        return self.replicas[0]

    @property
    def ranker(self) -> Ranker:
        return self.trial.ranker(self.snapshot, self.replica)

    @property
    def made_from(self) -> dict[str, Any]:
        """What its recommendations are made from, as `provenance` describes it."""
        seed = self.trial.replicas[self.replica].seed
        model = hash_of_model(self.snapshot.best_params)
        return self.trial.run.made_from(self.trial.method, self.trial.backbone) | {
            "model": model,
            "seed": seed,
        }

    @property
    def why(self) -> str:
        """Seed and score, in words."""
        seeds = len({replica.seed for replica in self.trial.replicas})
        if self.trial.data.valid is None:
            return f"seed {self.trial.replicas[self.replica].seed}, trained on everything and so not validated"
        mean = f", the mean of {seeds} seeds" if seeds > 1 else ""
        return f"seed {self.trial.replicas[self.replica].seed}, validation NDCG@10 {100 * self.score:.2f} %{mean}"


def choose(prepared: Prepared, among: Sequence[tuple[str, str]] | None = None) -> Chosen:
    """The trained model with the best validation score.

    Method, backbone, dropout and learning rate are those with the best mean over seeds, as in the evaluation. Among their replicas it is
    the first seed of the config, because the best seed would only be the luckiest. A line names each other trial whose training has
    not ended.

    Args:
      prepared: the run.
      among: methods and backbones; None: those of the config.

    Raises:
      UserError: a trial of the config was not trained.
    """
    found = [
        of_trial(trial, trained(trial))
        for trial in (
            make_trial(prepared, *names, trains=False) for names in among or prepared.run.trials
        )
    ]
    if not found:
        raise UserError("config.model.method names no model")
    best = max(found, key=lambda chosen: chosen.score)
    for other in found:
        if other is not best:
            say_if_unfinished(other.trial, other.snapshot, best.trial.name)
    return best


def of_trial(trial: Trial, snapshot: Snapshot) -> Chosen:
    """The replicas of a trial with the best validation score."""
    best = validation_scores(trial, snapshot)
    preferred = preferred_replicas(trial.replicas, best)
    return Chosen(trial, snapshot, preferred, float(np.mean(best[preferred])))


def audience_of(chosen: Chosen) -> Audience:
    """All users of the run, each with the whole history."""
    trial = chosen.trial
    log = trial.run.split.log
    queries = trial.run.queries(trial.method, log.offsets[1:])
    return Audience(
        chosen.ranker,
        log,
        queries,
        whole_histories(log, trial.run.config.data.max_length),
        trial.prepared.mesh,
    )


def wanted_of(run: Run) -> Wanted:
    """Which items the config of a run wants for every user, and how many.

    Raises:
      UserError: as in `unlisted_items`.
    """
    served, part = run.config.recommend, run.config.eval
    unlisted, allowed = unlisted_items(run), None
    if len(unlisted):
        allowed = np.ones(run.dataset.log.num_items, bool)
        allowed[unlisted] = False
    return Wanted(
        served.top_n,
        served.exclude_seen,
        allowed,
        user_block=part.user_block,
        item_block=part.item_block,
    )


def artifact_of(chosen: Chosen) -> Artifact:
    """Everything of a trained model that recommendations need, on the host."""
    trial, run, bank = chosen.trial, chosen.trial.run, chosen.trial.prepared.bank
    ranker, method = chosen.ranker, METHODS[chosen.trial.method]
    encoder, columns, tables = None, {}, {}
    if bank is not None and method.needs_bank and bank.encoder_folder is not None:
        encoder = SavedTextEncoder.load(bank.encoder_folder)
    if method.gated(trial.config.model):
        assert bank is not None
        tables = {"items": bank.items, "items_similar": bank.items_similar, "users": bank.users}
        known = run.dataset.texts.items
        wanted = encoder.history_columns if encoder is not None and known is not None else ()
        columns = {name: as_texts(known.columns[name]) for name in wanted if known is not None}
    catalogue = Catalogue(
        run.dataset.item_ids,
        np.array(run.dataset.titles, object),
        run.split.item_counts,
        columns,
        unlisted_items(run),
    )
    return Artifact(
        method=trial.method,
        backbone=trial.backbone,
        config=trial.config,
        sizes=dataclasses.replace(trial.sizes, shares=1),
        params=on_host(ranker.params),
        features=on_host(ranker.features),
        catalogue=catalogue,
        tables=tables,
        encoder=encoder,
        made_from=chosen.made_from,
        fitted={} if encoder is None else _fitted(trial),
    )


def _fitted(trial: Trial) -> dict[str, np.ndarray]:
    """What is needed to read new items (`Artifact.fitted`); for a method that reads text."""
    run, bank, method = trial.run, trial.prepared.bank, METHODS[trial.method]
    assert bank is not None
    found = dict(method.fitted(bank.tables, facts_of(trial.prepared, trial.method)))
    if "items_similar" in trial.data.tables:
        if not method.gated(trial.config.model):
            found["neighbours"] = bank.items
        texts, column = run.dataset.texts.items, run.config.knowledge.group_column
        if column and texts is not None:
            found[GROUPS] = np.array([str(value) for value in texts.columns[column]], object)
    return found
