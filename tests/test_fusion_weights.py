"""Late fusion drops the parts without which validation is better, and lowers the weight of the match."""

import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config.model import PARTS
from grasp_jax.core.errors import UserError
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.backbones.towers import PART_WEIGHTS, Towers
from grasp_jax.models.fusion_parts import part_weights
from grasp_jax.training import early_stopping, fusion_weights, loop, weight_search
from grasp_jax.training.callbacks import Callback, TrainingSummary
from grasp_jax.training.fusion_weights import ChosenWeights
from grasp_jax.training.replicas import one_replica
from grasp_jax.training.weight_search import lowered_weights
from tests.packed_rows import POSITIONS, SEGMENTS
from tests.random_params import random_params
from tests.trained import SMALL, small_shop

FEATURES, USERS = 6, 400
OPTIONS = {
    **SMALL,
    "method": "grasp_plus",
    "backbone": "gru4rec",
    "seeds": (42, 43),
    "max_epochs": 2,
    "learning_rate": 1e-3,
}


class Ended(Callback):
    """Keeps how trainings ended."""

    def __init__(self) -> None:
        self.summaries: list[TrainingSummary] = []

    def on_train_end(self, summary: TrainingSummary) -> None:
        self.summaries.append(summary)


def test_what_remains_of_a_score_is_said() -> None:
    """A reader would know which parts are left out, and not which ones rank the items."""
    some = dict.fromkeys(("id", "text", "match", "company"), 0.0) | {"company": 1.0}
    assert (
        fusion_weights._words(some)
        == "without id and without text and without match, so by company alone"
    )
    assert fusion_weights._words({"id": 1.0, "match": 0.5}) == "with 0.5 of the match"
    assert fusion_weights._words({"id": 1.0}) == "with all parts"


def gains_of(worth: dict[str, float], noise: float) -> object:
    """NDCG of users to which each part adds what it is worth, and noise that is another for each choice of weights.

    A part with half of its weight adds nine tenths of what it is worth if it is useful, and a tenth of it if it is harmful.
    """

    def gains(weights: Mapping[str, float]) -> np.ndarray:
        drawn = np.random.default_rng(int(4 * sum(weights.values()))).normal(0, noise, USERS)
        shares = {0.0: 0.0, 0.25: 0.5, 0.5: 0.9, 1.0: 1.0}
        return drawn + sum(
            worth[part] * (shares[weight] if worth[part] > 0 else weight / 5 if weight < 1 else 1.0)
            for part, weight in weights.items()
        )

    return gains


@pytest.mark.parametrize(
    ("worth", "noise", "expected"),
    [
        ({"id": 0.3, "text": 0.1, "match": 0.1}, 0.01, {}),
        ({"id": 0.3, "text": -0.1, "match": 0.1}, 0.01, {"text": 0.0}),
        ({"id": 0.3, "text": -0.1, "match": -0.2}, 0.01, {"text": 0.0, "match": 0.0}),
        ({"id": -0.3, "text": -0.1, "match": -0.2}, 0.01, {"id": 0.0, "match": 0.0}),
        ({"id": 0.3, "text": -0.01, "match": 0.1}, 5.0, {}),
    ],
)
def test_lowers_what_validation_is_better_without(
    worth: dict[str, float], noise: float, expected: dict[str, float]
) -> None:
    """A useful part would be lost, by a fault or by noise, or a harmful one be kept, or nothing be left."""
    found = lowered_weights(tuple(worth), gains_of(worth, noise))
    assert found == dict.fromkeys(worth, 1.0) | expected


def test_match_gets_the_weight_that_validation_prefers() -> None:
    """A match that helps a little, but harms with its full weight, would be dropped, or count too much."""

    def gains(weights: Mapping[str, float]) -> np.ndarray:
        of_match = {0.0: 0.1, 0.25: 0.3, 0.5: 0.2, 1.0: 0.0}[weights["match"]]
        noise = np.random.default_rng(0).normal(0, 0.01, USERS)
        return of_match + 0.1 * weights["id"] + noise * weights["match"]

    assert lowered_weights(("id", "match"), gains) == {"id": 1.0, "match": 0.25}


def test_two_parts_that_make_up_for_each_other_are_lowered_together() -> None:
    """A part that helps only as long as the other harms would keep the harmful one in the score: one step alone is worse."""

    def gains(weights: Mapping[str, float]) -> np.ndarray:
        worth = {(1.0, 1.0): 0.0, (0.0, 0.0): 0.3, (1.0, 0.5): 0.002}
        noise = np.random.default_rng(int(8 * weights["match"] + weights["text"])).normal(
            0, 0.005, USERS
        )
        return worth.get((weights["text"], weights["match"]), -0.2) + weights["id"] + noise

    expected = {"id": 1.0, "text": 0.0, "match": 0.0}
    assert lowered_weights(("id", "text", "match"), gains) == expected


def test_weight_of_a_part_counts_outside_of_training_alone() -> None:
    """Training would change with the weights, or a part that was left out would still be heard."""
    model = Towers(SASRec(FEATURES, 8, 1), FEATURES, (None, 0.0), kinds=("id", "text"))
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, 2 * FEATURES))
    inputs = vectors, SEGMENTS, POSITIONS
    first = jax.jit(lambda key: model.init(key, *inputs)["params"][PART_WEIGHTS])(jax.random.key(0))
    np.testing.assert_array_equal(first, [1, 1])
    params = random_params(model, *inputs)

    def states(weights: list[float], dropout: jax.Array | None = None) -> np.ndarray:
        given = {"params": {**params, PART_WEIGHTS: jnp.float32(weights)}}
        random = {"dropout": jax.random.key(2)}
        apply = jax.jit(model.apply)
        return np.asarray(apply(given, vectors, SEGMENTS, POSITIONS, dropout, rngs=random))

    both, alone = states([1, 1]), states([1, 0])
    np.testing.assert_array_equal(alone[..., :FEATURES], both[..., :FEATURES])
    assert np.abs(both[..., FEATURES:]).max() > 0
    assert not alone[..., FEATURES:].any()
    rate = jnp.float32(0.0)
    np.testing.assert_array_equal(states([1, 0], rate), states([1, 1], rate))


def test_left_out_parts_stay_out(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed or loaded model, a refit or a new item's score would count a part again that validation has left out; or the score of all
    parts, which is lower, would let another method answer.
    """
    monkeypatch.setattr(weight_search, "STANDARD_ERRORS", -1e9)  # noise is enough
    shop = small_shop()
    model = gj.Recommender(**OPTIONS)
    ended = Ended()
    model.fit(shop, workdir=tmp_path / "run", refit=True, callbacks=[ended])
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    first, second = (record for record in records if record["event"] == "parts")
    assert (first["seed"], second["seed"]) == (42, 43)
    kept = [name for name in PARTS if name not in first["left_out"]]  # the first seed answers
    assert first["left_out"] and kept
    assert model._fitted is not None
    after = [record["valid_ndcg@10"][1] for record in (first, second)]
    summary = ended.summaries[0]
    best = int(np.argmax([score or 0.0 for score in summary.best]))
    of_best = (first, second)[best]
    kept_score = of_best["valid_ndcg@10"][1]
    assert summary.best[best] == pytest.approx(kept_score, abs=1e-6)
    assert summary.reason.endswith(
        f"(best validation NDCG@10 {100 * kept_score:.2f} % at epoch {summary.best_epochs[best]})"
    ), "the line would show a score that is not that of the model that answers"
    model.fit(shop, workdir=tmp_path / "run", callbacks=[ended])
    assert ended.summaries[-1].reason == summary.reason, "also when nothing is left to train"
    assert model._fitted.validated.score == pytest.approx(np.mean(after), abs=1e-6)
    refitted = json.loads((tmp_path / "run/refit/config.json").read_text())
    assert refitted["model"]["plus"]["parts"] == "+".join(kept)
    users = shop.log.user_ids[:5].tolist()
    for workdir in ("run", "run/refit"):
        loaded = gj.Recommender.load(tmp_path / workdir)
        states = np.stack(list(loaded.user_vectors(users=users)["vector"]))
        parts_of_state = dict(zip(PARTS, np.split(states, [8, 16, 24], 1), strict=True))
        assert {name for name, state in parts_of_state.items() if state.any()} == set(kept)


def test_refit_has_the_weight_of_the_match(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model that recommends would give the match another weight than validation has chosen."""
    half = {"id": 1.0, "text": 1.0, "company": 0.0, "match": 0.5}
    monkeypatch.setattr(fusion_weights, "lowered_weights", lambda kinds, gains: half)
    monkeypatch.setattr(fusion_weights, "is_better", lambda gains, than: False)
    shop = small_shop()
    model = gj.Recommender(**OPTIONS | {"seeds": 42})
    model.fit(shop, workdir=tmp_path / "run", refit=True)
    refitted = json.loads((tmp_path / "run/refit/config.json").read_text())["model"]["plus"]
    usual = gj.Config().model.plus.match_weight
    assert (refitted["parts"], refitted["match_weight"]) == ("id+text+match", usual / 2)
    users = shop.log.user_ids[:5].tolist()
    first = gj.Recommender.load(tmp_path / "run/refit")
    states = np.stack(list(first.user_vectors(users=users)["vector"]))
    assert not states[:, 16:24].any() and states[:, 24:].any()
    second = gj.Recommender(**OPTIONS | {"seeds": 42}, start_from=str(tmp_path / "run"))
    second.fit(
        shop, workdir=tmp_path / "next", refit=True
    )  # the refit starts from the first run, too
    assert second._fitted is not None
    chosen = second._fitted.serving
    params = one_replica(chosen.snapshot.best_params, chosen.replica)
    assert part_weights(chosen.trial.model, params) == half | {"match": 1.0}
    assert chosen.trial.config.model.plus.match_weight == usual / 2


def test_training_continues_if_a_part_hid_that_it_helps(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towers would stop early because a poor match is added to their scores, so that validation of all parts stands still."""
    without = {"id": 1.0, "text": 1.0, "company": 1.0, "match": 0.0}
    scores = {1: 0.5, 2: 0.1, 3: 0.1, 4: 0.9}  # patience ends after epoch 3, and again after 6
    found = itertools.cycle(
        [ChosenWeights(without, (0.1, 0.7)), ChosenWeights(without, (0.5, 0.6))]
    )  # of the newest model and of the best one
    monkeypatch.setattr(fusion_weights, "_choose", lambda job, params, m: next(found))
    monkeypatch.setattr(
        loop,
        "validate",
        lambda model, params, data, progress: np.full(1, scores.get(int(progress.epoch) + 1, 0.0)),
    )
    options = OPTIONS | {"seeds": 42, "max_epochs": 9, "patience": 2}
    model = gj.Recommender(**options).fit(small_shop(), workdir=tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    epochs = [record for record in records if record["event"] == "epoch"]
    (chosen,) = (record for record in records if record["event"] == "parts")
    assert (chosen["weights"], chosen["left_out"]) == (without, ["match"])
    assert [epoch["valid_ndcg@10"] for epoch in epochs] == [0.5, 0.1, 0.7, 0.9, 0.0, 0.0]
    assert model._fitted is not None
    assert model._fitted.validated.snapshot.progress.best_epoch[0] == 4
    states = np.stack(list(model.user_vectors(histories=[[1, 2]])["vector"]))
    assert not states[:, 24:].any() and states[:, :8].any()


def test_weights_are_tried_before_patience_ends(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On small data, towers on text are at their best long before the tower of IDs. With a long patience, the epochs in between would never
    be compared by the score that is used in the end.
    """
    without = {"id": 1.0, "text": 0.0, "company": 1.0, "match": 1.0}
    tried: list[int] = []

    def choose(job: object, params: Any, m: int) -> ChosenWeights:
        tried.append(m)
        return ChosenWeights(without, (0.5, 0.7 if len(tried) % 2 else 0.6))

    monkeypatch.setattr(fusion_weights, "_choose", choose)
    monkeypatch.setattr(early_stopping, "STANDSTILL", 2)
    scores = {1: 0.5, 2: 0.1, 3: 0.1, 4: 0.65, 5: 0.9}
    monkeypatch.setattr(
        loop,
        "validate",
        lambda model, params, data, progress: np.full(1, scores[int(progress.epoch) + 1]),
    )
    options = OPTIONS | {"seeds": 42, "max_epochs": 5, "patience": 50}
    model = gj.Recommender(**options).fit(small_shop(), workdir=tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    (during,) = (record for record in records if record["event"] == "parts_in_training")
    assert (during["epoch"], during["weights"]) == (3, without), "the score stood still twice"
    assert model._fitted is not None
    progress = model._fitted.validated.snapshot.progress
    assert progress.best_epoch[0] == 5, "a score below that of the new weights is no progress"


def test_a_worse_model_does_not_replace_a_better_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new choice may give up weights by which the best model has its score; the newest one would only have to be better than that."""
    lowered = {"id": 1.0, "text": 0.0, "company": 1.0, "match": 1.0}
    found = itertools.cycle(
        [ChosenWeights(lowered, (0.4, 0.495)), ChosenWeights(lowered, (0.49, 0.49))]
    )  # of the newest model and of the best one
    monkeypatch.setattr(fusion_weights, "_choose", lambda job, params, m: next(found))
    scores = {1: 0.5, 2: 0.1, 3: 0.1}
    monkeypatch.setattr(
        loop,
        "validate",
        lambda model, params, data, progress: np.full(1, scores[int(progress.epoch) + 1]),
    )
    options = OPTIONS | {"seeds": 42, "max_epochs": 9, "patience": 2}
    gj.Recommender(**options).fit(small_shop(), workdir=tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert not [record for record in records if record["event"] == "parts_in_training"]
    assert [record["best"] for record in records if record["event"] == "epoch"] == [0.5] * 3


def test_when_weights_are_tried() -> None:
    """Weights would be tried in every epoch, which costs many validations, for models that have stopped, or twice after the last epoch."""
    progress = early_stopping.Progress.start(4)._replace(
        epoch=np.int32(12),
        best_epoch=np.array([7, 8, 12, 2], np.int32),
        stopped=np.array([False, True, False, False]),
    )
    everyone, some = np.array([True] * 4), np.array([True, False, True, False])
    assert progress.tries_weights(everyone, 20).tolist() == [True, True, False, True]
    assert progress.tries_weights(some, 20).tolist() == [True, False, False, False]
    assert progress.tries_weights(everyone, 12).tolist() == [False, True, False, False]


@pytest.mark.parametrize("patience", [2, 3])
def test_newest_model_may_be_the_best_at_the_last_epoch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    """With a schedule that ends before patience does, or with it, towers that a poor match hides would never be compared with the best
    epoch; or one seed would get the parameters of the other.
    """
    without = {"id": 1.0, "text": 1.0, "company": 1.0, "match": 0.0}
    # of the best epoch, the first, and of the newest; the newest model of the first seed is better, that of the second is not
    found = {(0, 1): (0.5, 0.6), (0, 3): (0.1, 0.7), (1, 1): (0.5, 0.6), (1, 3): (0.1, 0.55)}
    count = iter([(0, 3), (0, 1), (1, 3), (1, 1), (0, 3), (1, 1)])
    monkeypatch.setattr(
        fusion_weights, "_choose", lambda job, params, m: ChosenWeights(without, found[next(count)])
    )
    scores = {1: 0.5, 2: 0.1, 3: 0.1}
    monkeypatch.setattr(
        loop,
        "validate",
        lambda model, params, data, progress: np.full(2, scores[int(progress.epoch) + 1]),
    )
    options = OPTIONS | {"max_epochs": 3, "patience": patience}
    model = gj.Recommender(**options).fit(small_shop(), workdir=tmp_path / "run")
    assert model._fitted is not None
    snapshot = model._fitted.validated.snapshot
    assert snapshot.progress.best_epoch.tolist() == [3, 1]
    np.testing.assert_allclose(snapshot.progress.best, [0.7, 0.6])
    for m, is_newest in enumerate((True, False)):
        best, newest = (
            jax.tree.leaves({**one_replica(params, m)["backbone"], PART_WEIGHTS: 0})
            for params in (snapshot.best_params, snapshot.state.params)
        )
        assert all(map(np.array_equal, best, newest)) == is_newest
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    chosen = [record for record in records if record["event"] == "parts"]
    assert [record["model_epoch"] for record in chosen] == [3, 1]
    states = np.stack(list(model.user_vectors(histories=[[1, 2]])["vector"]))
    assert not states[:, 24:].any() and states[:, :8].any()


def test_named_parts_must_be_there() -> None:
    """A name that the model lacks would leave the score empty."""
    given = {"model.plus.parts": "id+match", "model.plus.match_weight": 0.0}
    with pytest.raises(UserError, match="names match, which this model lacks; expected some of id"):
        gj.Recommender(**OPTIONS, **given)
    with pytest.raises(UserError, match="expected validated or all, or some of id, text"):
        gj.Recommender(**OPTIONS, **{"model.plus.parts": "id+id"})
