"""The recorded search of the match's settings ranks as a model does that was trained with these settings."""

import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from benchmarks import match_search
from grasp_jax.config import save_config
from grasp_jax.core.errors import UserError
from grasp_jax.evaluation.metrics import ndcg_at_10
from grasp_jax.evaluation.ranking import FullRanks
from grasp_jax.training.validation import validation_ranks
from grasp_jax.trials.run import open_run, prepare
from tests.trained import SMALL, small_shop

ONE_EPOCH = {
    **SMALL,
    "method": "grasp_plus",
    "backbone": "gru4rec",
    "max_epochs": 1,
    "eval.select": "full_unseen",
    "model.plus.parts": "all",
}


def untrained(setting: match_search.Setting) -> gj.Recommender:
    names = ("weight", "rare", "decay")
    match = {f"model.plus.match_{name}": getattr(setting, name) for name in names}
    return gj.Recommender(**ONE_EPOCH, **match)


def model_of(folder: pathlib.Path, setting: match_search.Setting) -> match_search.TrainedModel:
    """A model that is trained with a setting of the match."""
    untrained(setting).fit(small_shop(), workdir=folder)
    (found,) = match_search.read_models(folder)
    return found


OWN = match_search.Setting(2.0, 1.0, 0.9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> match_search.TrainedModel:
    return model_of(tmp_path_factory.mktemp("match") / "own", OWN)


def test_ranks_are_those_of_a_model_trained_with_the_setting(
    model: match_search.TrainedModel, tmp_path: pathlib.Path
) -> None:
    """The search would choose by scores that no model has; or training would depend on the match, and no search could do without it."""
    other = match_search.Setting(6.0, 8.0, 0.4)
    oracle = model_of(tmp_path / "other", other)
    data = model.trial.data
    assert model.setting == OWN and data.valid is not None and data.valid_seen is not None
    found = match_search.ranks_of(model, data.valid, data.valid_seen, other[1:], [0.5, 6.0])
    expected = validation_ranks(oracle.ranker, oracle.trial.data)
    before = validation_ranks(model.ranker, data)
    assert np.abs(before - expected).max() > 5, "the settings make a difference"
    np.testing.assert_allclose(found[1].unseen, expected, atol=1)  # equal scores may be rounded
    assert np.abs(found[0].unseen - expected).max() > 1
    assert (found[1].full >= found[1].unseen).all()


def test_a_model_without_a_match_is_ranked_once(
    model: match_search.TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks with weight 0 would be computed again for every other setting; or the record be another one without that."""
    rares, decays, weights = (0.0, 8.0), (0.4, 1.0), (1.0, 6.0)
    for name, values in (("RARE", rares), ("DECAYS", decays), ("WEIGHTS", weights)):
        monkeypatch.setattr(match_search, name, values)
    data = model.trial.data
    assert data.valid is not None and data.valid_seen is not None
    expected = {}
    for rare, decay in itertools.product(rares, decays):
        every = (0.0, *weights)
        ranks = match_search.ranks_of(model, data.valid, data.valid_seen, (rare, decay), every)
        for weight, own in zip(every, ranks, strict=True):
            expected[match_search.Setting(weight, rare, decay)] = [ndcg_at_10(own.unseen)]
    computed: list[float] = []
    ranks_of = match_search.ranks_of

    def counted(*given: Any) -> list[FullRanks]:
        computed.extend(given[-1])
        return ranks_of(*given)

    monkeypatch.setattr(match_search, "ranks_of", counted)
    found = match_search.searched([model])
    assert list(found.items()) == list(expected.items()), "the same numbers in the same order"
    assert computed.count(0.0) == 1 and len(computed) == 1 + 2 * 4


def test_mean_over_seeds_chooses() -> None:
    """A lucky seed would decide in place of the mean."""
    first, second = match_search.Setting(1, 0, 1), match_search.Setting(2, 0, 1)
    assert match_search.best_of({first: [0.1, 0.4], second: [0.3, 0.3]}) == second


def test_model_without_a_match_is_refused(tmp_path: pathlib.Path) -> None:
    """The search would divide by a weight of 0."""
    shop = small_shop()
    config = untrained(match_search.Setting(0.0, 1.0, 0.9)).config
    config = dataclasses.replace(config, data=shop.data)
    save_config(config, tmp_path)
    prepare(open_run(config, tmp_path, shop))  # all but a training
    with pytest.raises(UserError, match="match_weight above 0"):
        match_search.read_models(tmp_path)
