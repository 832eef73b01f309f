"""Late fusion drops the parts without which validation is better."""

import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config.model import PARTS
from grasp_jax.errors import UserError
from grasp_jax.models.backbones.sasrec import SASRec
from grasp_jax.models.backbones.towers import PART_WEIGHTS, Towers
from grasp_jax.training import parts
from grasp_jax.training.callbacks import Callback, TrainingSummary
from grasp_jax.training.parts import parts_to_keep
from tests.packed_rows import POSITIONS, SEGMENTS
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


def gains_of(worth: dict[str, float], noise: float) -> object:
    """NDCG of users to which each part adds what it is worth, and noise that is another for each choice of parts."""

    def gains(kept: Sequence[str]) -> np.ndarray:
        drawn = np.random.default_rng(len(kept)).normal(0, noise, USERS)
        return sum(worth[part] for part in kept) + drawn

    return gains


@pytest.mark.parametrize(
    ("worth", "noise", "expected"),
    [
        ({"id": 0.3, "text": 0.1, "match": 0.1}, 0.01, ("id", "text", "match")),
        ({"id": 0.3, "text": -0.1, "match": 0.1}, 0.01, ("id", "match")),
        ({"id": 0.3, "text": -0.1, "match": -0.2}, 0.01, ("id",)),
        ({"id": -0.3, "text": -0.1, "match": -0.2}, 0.01, ("text",)),
        ({"id": 0.3, "text": -0.01, "match": 0.1}, 5.0, ("id", "text", "match")),
    ],
)
def test_keeps_what_validation_is_not_better_without(
    worth: dict[str, float], noise: float, expected: tuple[str, ...]
) -> None:
    """A useful part would be lost, by a fault or by noise, or a harmful one be kept, or nothing be left."""
    assert parts_to_keep(tuple(worth), gains_of(worth, noise)) == expected


def test_weight_of_a_part_counts_outside_of_training_alone() -> None:
    """Training would change with the weights, or a part that was left out would still be heard."""
    model = Towers(SASRec(FEATURES, 8), FEATURES, (None, 0.0), kinds=("id", "text"))
    vectors = jax.random.normal(jax.random.key(1), (*SEGMENTS.shape, 2 * FEATURES))
    params = jax.jit(model.init)(jax.random.key(0), vectors, SEGMENTS, POSITIONS)["params"]
    np.testing.assert_array_equal(params[PART_WEIGHTS], [1, 1])

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
    monkeypatch.setattr(parts, "STANDARD_ERRORS", -1e9)  # noise is enough
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
    before, kept_score = of_best["valid_ndcg@10"]
    assert summary.best[best] == pytest.approx(before, abs=1e-6)
    assert summary.reason.endswith(
        f"(best validation NDCG@10 {100 * before:.2f} % at epoch {summary.best_epochs[best]} with all parts, "
        f"{100 * kept_score:.2f} % without {' and '.join(of_best['left_out'])})"
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


def test_named_parts_must_be_there() -> None:
    """A name that the model lacks would leave the score empty."""
    given = {"model.plus.parts": "id+match", "model.plus.match_weight": 0.0}
    with pytest.raises(UserError, match="names match, which this model lacks; expected some of id"):
        gj.Recommender(**OPTIONS, **given)
    with pytest.raises(UserError, match="expected validated or all, or some of id, text"):
        gj.Recommender(**OPTIONS, **{"model.plus.parts": "id+id"})
