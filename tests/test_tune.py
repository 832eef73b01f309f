"""The search over settings: each method's budget, the stored trials, and that an interrupted search continues with the same proposals."""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from benchmarks import tune, tuning
from benchmarks.tuning import SPACE, Numbers, Search, Setting, Tried
from grasp_jax.config import CONFIG_FILE, Config, save_config
from tests.refusal import assert_names, refusal

METHODS = ("plain", "id_text_sum")
SMALL = {
    "data.synthetic.num_users": 120,
    "data.synthetic.num_items": 110,
    "model.features": 8,
    "model.backbone": "gru4rec",
    "train.max_epochs": 2,
    "train.shared_negatives": 50,
    "train.seeds": (42,),
    "eval.num_negatives": 20,
}


def propose(number: int, before: Sequence[Tried]) -> Setting:
    """A random setting that hangs on all that came before."""
    rng = np.random.default_rng([number, *(int(1e6 * trial.validation) for trial in before)])
    setting = {
        name: float(rng.uniform(values.low, values.high))
        if isinstance(values, Numbers)
        else values.values[rng.integers(len(values.values))]
        for name, values in SPACE.items()
    }
    return tuning.rounded(setting)


def wanted(folder: pathlib.Path, **fields: Any) -> Search:
    config = Config().with_fields(fields)
    shop = gj.Dataset.synthetic(num_users=120, num_items=110)
    return Search(config, shop, SPACE, propose, "random, seed 0", {"sampler": "1"}, folder)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Trials whose validation is a function of their setting; method and file of each that is "trained"."""
    asked: list[tuple[str, str]] = []

    def trained(wanted: Search, base: Config, path: pathlib.Path, setting: Setting) -> Tried:
        assert base.eval.select == "full_unseen" and base.model.method == path.parent.name
        asked.append((base.model.method, path.stem))
        value = abs(hash(setting["model.dropout"])) % 997 / 997
        return Tried(setting, value, {"method": base.model.method, "seconds": 1.0, "number": 0})

    monkeypatch.setattr(tuning, "_trained", trained)
    return asked


def test_a_stopped_search_goes_on(tmp_path: pathlib.Path, untrained: list[tuple[str, str]]) -> None:
    """Trials would be repeated, forgotten by the sampler, or unlike those of a search that nobody stopped."""
    whole = tuning.search(wanted(tmp_path / "whole"), METHODS, 4)
    assert untrained == [(method, f"trial-{k:03d}") for k in range(4) for method in METHODS]
    untrained.clear()
    tuning.search(wanted(tmp_path / "parts"), METHODS, 2)
    parts = tuning.search(wanted(tmp_path / "parts"), METHODS, 4)
    assert parts == whole and len(untrained) == 8
    assert len({str(trial.setting) for trial in whole["plain"]}) == 4
    best = tuning.best_of(whole["plain"])
    assert best.validation == max(trial.validation for trial in whole["plain"])


def test_a_folder_belongs_to_one_search(
    tmp_path: pathlib.Path, untrained: list[tuple[str, str]]
) -> None:
    """Trials of other data or settings would be compared as if they were of one search, or a damaged one be believed."""
    tuning.search(wanted(tmp_path), ["plain"], 1)
    again = refusal(tuning.search, wanted(tmp_path, **{"model.features": 32}), ["plain"], 1)
    assert_names(again, ("study.json", "model.features = 64 there and 32 here", "another --out"))
    path = tmp_path / "plain" / "trial-000.json"
    path.write_text(path.read_text().replace('"plain"', '"grasp"'))
    assert_names(refusal(tuning.search, wanted(tmp_path), ["plain"], 1), ("trial-000.json",))
    assert_names(
        refusal(tuning.search, wanted(tmp_path), ["popularity"], 1),
        ("'popularity' has nothing to tune", "grasp_plus"),
    )


def test_a_budget_of_minutes_is_each_methods_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow method would use up the time of the others, or an interrupted search give it the time again."""
    trained = []

    def slow(wanted: Search, base: Config, path: pathlib.Path, setting: Setting) -> Tried:
        trained.append(path)
        seconds = 90.0 if base.model.method == "plain" else 40.0
        return Tried(setting, 0.1, {"method": base.model.method, "seconds": seconds, "number": 0})

    monkeypatch.setattr(tuning, "_trained", slow)
    found = tuning.search(wanted(tmp_path), METHODS, 9, minutes=2.0)
    assert {method: len(tried) for method, tried in found.items()} == {"plain": 2, "id_text_sum": 3}
    assert tuning.search(wanted(tmp_path), METHODS, 9, minutes=2.0) == found and len(trained) == 5
    assert tuning.spent(found["plain"]) == 180.0


def test_random_proposals_are_of_the_space() -> None:
    """A search without Optuna would propose what the space does not have, or other settings after an interruption."""
    propose = tuning.at_random(SPACE, 3)
    settings = [propose(number, []) for number in range(200)]
    assert settings == [tuning.at_random(SPACE, 3)(number, []) for number in range(200)]
    assert settings != [tuning.at_random(SPACE, 4)(number, []) for number in range(200)]
    drawn = {name: {setting[name] for setting in settings} for name in SPACE}
    assert drawn["model.dropout"] == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    assert drawn["train.weight_decay"] == {0.0, 0.01, 0.1, 1.0}
    rates = np.array(sorted(drawn["train.learning_rate"]))
    assert 3e-4 <= rates[0] < 4e-4 and 7.5e-3 < rates[-1] <= 1e-2
    assert abs(np.median(rates) / np.sqrt(3e-4 * 1e-2) - 1) < 0.3  # uniform in the logarithm


def test_without_names_all_trained_methods_are_searched() -> None:
    """The front door of the comparison would refuse its own methods, because two of them are not trained."""
    given = tune.parser().parse_args(["--config=configs/compare.py:ce", "--out=x"])
    methods = tune.trained(tune.config_of(given))
    assert {"sasrec_ce", "popularity", "semantic_neighbours"}.isdisjoint(methods)
    assert {"plain", "llminit", "rlmrec_con", "llm_esr", "grasp_plus"} <= set(methods)


def test_what_a_method_has_otherwise_gives_way(tmp_path: pathlib.Path) -> None:
    """`by_method` of the config would overrule each trial, and all trials be of one setting."""
    search = wanted(tmp_path, by_method={"plain": {"model": {"dropout": (0.5,), "features": 16}}})
    base = tuning._base(search, "plain").with_fields({"model.dropout": 0.1})
    own = base.for_method("plain").model
    assert (own.dropout, own.features) == ((0.1,), 16)


def test_trials_of_the_front_door(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is kept would not be what was trained, or the flags that are printed give another model."""
    monkeypatch.setattr(tune, "optuna_proposals", lambda space, seed: (propose, {"optuna": "0"}))
    flags = [f"--set={name}={value}" for name, value in SMALL.items()]
    tune.main(
        ["--config=configs/quickstart.py", "--methods=plain", "--trials=2", *flags]
        + [f"--out={tmp_path}"]
    )
    said = capsys.readouterr().out
    kept = [json.loads((tmp_path / "plain" / f"trial-00{k}.json").read_text()) for k in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "study.json",
        "trial-000.json",
        "trial-001.json",
    ]
    assert kept[0]["setting"] == propose(0, []) and kept[0]["setting"] != kept[1]["setting"]
    for trial in kept:
        assert 0 < trial["validation"] < 1 and trial["seconds"] > 0 and not trial["failed"]
        assert trial["protocol"] == "full_unseen" and trial["epochs"] == 2
        assert {"optuna", "jax"} <= trial["machine"]["versions"].keys()
        assert "commit" in trial["machine"]
    best = max(kept, key=lambda trial: trial["validation"])
    line = said.strip().splitlines()[-1]
    assert line.startswith("--config.model.method=plain --config.model.dropout=")
    printed = dict(
        flag.removeprefix("--config.").split("=") for flag in line.split() if "method" not in flag
    )
    assert printed == {name: str(value) for name, value in best["setting"].items()}


def test_without_optuna_a_line_says_so(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback would be printed, after the data were read."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    given = ["--config=configs/quickstart.py", f"--out={tmp_path}"]
    told = refusal(tune.main, given)
    assert_names(told, ("Optuna is not installed", "pip install '.[tune]'", "--sampler=random"))


def test_the_config_of_an_earlier_run_is_taken_as_it_is(tmp_path: pathlib.Path) -> None:
    """A run of an earlier version may hold values that a config file may not; its settings could not be searched."""
    fields = {"data.test_after": "2020-01-01", "data.path": str(tmp_path), "data.source": "files"}
    rates = {"model.dropout": (0.2, 0.2)}
    save_config(Config().with_stored_fields(fields | rates), tmp_path)
    flags = [f"--config={tmp_path / CONFIG_FILE}", f"--out={tmp_path}"]
    config = tune.config_of(tune.parser().parse_args(flags))
    assert config.data.test_after == "2020-01-01" and config.model.dropout == (0.2, 0.2)
    for given in ("data.valid_after='2019-01-01'", "model.dropout=(0.1,0.1)"):
        told = tune.parser().parse_args([*flags, f"--set={given}"])
        assert f"config.{given.partition('=')[0]}: " in refusal(tune.config_of, told)


def test_what_flags_are_refused(tmp_path: pathlib.Path) -> None:
    """An unknown loss or field would be found after hours, or passed over."""
    given = ["--config=configs/quickstart.py", f"--out={tmp_path}"]
    assert_names(refusal(tune.main, [*given, "--losses=bce,hinge"]), ("train.loss", "'hinge'"))
    assert_names(refusal(tune.main, [*given, "--trials=0"]), ("--trials: 0",))
    assert_names(refusal(tune.main, [*given, "--minutes=nan"]), ("--minutes: nan",))
    for field, said in (("features", "FIELD=VALUE"), ("model.featurs=3", "model.featurs")):
        told = tune.parser().parse_args([*given, f"--set={field}"])
        assert_names(refusal(tune.config_of, told), (said,))


def test_optuna_proposes_the_same_again() -> None:
    """A search that continues would try other settings than one that was not stopped, or settings outside of the space."""
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install '.[tune]'")
    made: list[list[Setting]] = []
    for _ in range(2):
        proposals, versions = tune.optuna_proposals(SPACE, 3)
        before: list[Tried] = []
        for number in range(13):
            setting = proposals(number, before)
            before.append(Tried(setting, setting["model.dropout"], {}))
        made.append([trial.setting for trial in before])
        assert versions["optuna"]
    assert made[0] == made[1] and len({str(setting) for setting in made[0]}) > 10
    for setting in made[0]:
        assert 3e-4 <= setting["train.learning_rate"] <= 1e-2
        assert setting["train.loss"] in ("bce", "softmax", "ce")
        Config().with_fields(setting)
