"""The public Python interface: the lines of the documentation, people who were not in training, and refusals."""

import pathlib
import runpy
import subprocess
import sys
from typing import Any

import jax.monitoring
import numpy as np
import pandas as pd
import pytest

import grasp_jax as gj
from grasp_jax.config import read_config
from grasp_jax.core.errors import UserError
from grasp_jax.modes import Options, run_mode
from grasp_jax.training.run_epoch import _train_steps
from grasp_jax.training.snapshot import _initial_states
from grasp_jax.trials.run import open_run
from tests.refusal import assert_names, refusal
from tests.trained import SMALL, at_small_size, small_shop

ROOT = pathlib.Path(__file__).parent.parent
FASHION = ROOT.parent / "shared" / "data" / "paper_fashion"


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("front") / "run"


@pytest.fixture(scope="module")
def model(shop: gj.Dataset, workdir: pathlib.Path) -> gj.Recommender:
    return gj.Recommender(method="plain", dropout=0.3, **SMALL).fit(shop, workdir)


def test_import_takes_nothing_along() -> None:
    """`import grasp_jax` would take seconds, for JAX and all that training needs."""
    program = "import grasp_jax, sys; assert 'jax' not in sys.modules and 'numpy' not in sys.modules; print(grasp_jax.__all__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Recommender" in done.stdout


def test_the_example_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook that people begin with would not run."""
    at_small_size(monkeypatch)
    runpy.run_path(str(ROOT / "docs" / "examples" / "first_steps.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "sasrec_ce-gru4rec" in said and "Coverage@10" in said


def test_lists_are_what_was_asked_for(model: gj.Recommender, shop: gj.Dataset) -> None:
    """Candidates, what is excluded, and people of whom little is known would be mixed up, or one of them stop the others."""
    items = shop.item_ids.tolist()
    history = items[:3]
    few = model.recommend(histories=[history], k=10, candidates=items[:8])
    assert set(few["item"]) == set(items[3:8]), "fewer are left than were asked for"
    each = model.recommend(histories=[history, history], candidates=[items[4:6], items[6:8]])
    assert [set(own["item"]) for _, own in each.groupby("user")] == [
        set(items[4:6]),
        set(items[6:8]),
    ]
    out = model.recommend(
        histories=[history, history], k=10, candidates=items[:8], exclude=[[items[4]], []]
    )
    assert [set(own["item"]) for _, own in out.groupby("user")] == [
        set(items[3:8]) - {items[4]},
        set(items[3:8]),
    ]
    again = model.recommend(histories=[history], k=10, candidates=items[:8], exclude_seen=False)
    assert set(again["item"]) == set(items[:8])
    users = shop.user_ids[:2].tolist()
    mixed = model.recommend(users=[users[1], "nobody", users[0], users[1]], k=3)
    assert mixed["user"].tolist() == [users[1]] * 3 + ["nobody"] * 3 + [users[0]] * 3
    assert mixed["score"].isna().tolist() == [False] * 3 + [True] * 3 + [False] * 3
    popular = np.argsort(-np.bincount(shop.log.items, minlength=100), kind="stable")
    unknown = model.recommend(histories=[[], ["no item"], [*history, "no item"]], k=3)
    assert unknown["score"].isna().tolist() == [True] * 6 + [False] * 3
    assert len(set(unknown["item"][:3]) & set(np.array(items)[popular[:12]])) >= 2
    np.testing.assert_array_equal(
        unknown["item"][6:], model.recommend(histories=[history], k=3)["item"]
    )


def test_a_list_for_a_user_does_not_depend_on_who_else_is_asked_for(
    model: gj.Recommender, shop: gj.Dataset
) -> None:
    """Answers in blocks would be handed to the wrong people."""
    everyone = model.recommend(k=10).set_index("user")
    for user in shop.user_ids[[0, 57, 99]]:
        assert (
            model.recommend(users=[user], k=10)["item"].tolist()
            == everyone.loc[user]["item"].tolist()
        )


def test_what_is_refused(model: gj.Recommender, shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """A word would be read as a list of letters, a typing error ignored, or a traceback printed."""
    assert_names(refusal(gj.Recommender, method="grsp"), ("config.model.method: 'grsp'",))
    assert_names(
        refusal(gj.Recommender, method="plain,grasp"),
        ("config.model.method", "make a Recommender for each"),
    )
    assert_names(refusal(gj.Recommender, dropuot=0.3), ("dropuot", "dropout"))
    assert_names(refusal(gj.Recommender, dropout=1.5), ("config.model.dropout: (1.5,)",))
    assert_names(
        refusal(gj.Recommender, min_rating=3.0), ("config.data.min_rating", "Dataset.read")
    )
    assert_names(refusal(gj.Recommender().recommend), ("nothing is trained yet",))
    assert_names(refusal(model.recommend, users="ann"), ("users: 'ann'", "list"))
    assert_names(refusal(model.recommend, histories=["B00A"]), ("histories[0]: 'B00A'", "list"))
    assert_names(
        refusal(model.recommend, users=["nobody"], unknown="error"),
        (
            "'nobody' is not a user",
            "ids look like 1;",
        ),
    )
    assert_names(
        refusal(model.recommend, histories=[["no item"]], unknown="error"),
        ("histories[0]", "'no item'"),
    )
    assert_names(refusal(model.recommend, k=0), ("k: 0",))
    assert_names(refusal(model.recommend, histories=[[]], users=[]), ("users and histories",))
    assert_names(
        refusal(model.recommend, histories=[[], []], exclude=[["a"]]),
        ("exclude: 1 lists for 2 people",),
    )
    assert_names(refusal(model.similar_items, ["no item"]), ("no item has the id 'no item'",))
    assert_names(refusal(model.fit, "folder"), ("fit: an object of type str", "Dataset.read"))
    assert_names(refusal(model.fit, shop, workdir=""), ("workdir: '' is empty",))
    assert_names(refusal(model.recommend, users=[["B00A"]]), ("histories=",))
    assert_names(
        refusal(model.evaluate, metrics=[lambda _: 0.0, lambda _: 1.0]),
        ("two are called '<lambda>'",),
    )
    assert_names(refusal(model.user_vectors, histories=[[]]), ("nothing is known of '0'",))
    assert_names(
        refusal(model.evaluate, metrics=["Rcall@10"]), ("metrics: 'Rcall@10'", "Recall@10")
    )
    assert_names(refusal(gj.Recommender.load, tmp_path), (str(tmp_path), "neither a saved model"))
    assert_names(refusal(gj.Recommender.load, tmp_path / "typo"), ("typo: does not exist",))
    (tmp_path / "mine.txt").write_text("x")
    assert_names(refusal(model.save, tmp_path), (str(tmp_path), "holds other files"))


def test_ids_in_every_form(model: gj.Recommender, shop: gj.Dataset) -> None:
    """Ids of a data frame with a gap are floats, and those of JSON are text: a known user would be a stranger, or be answered twice."""
    user = int(shop.user_ids[3])
    expected = model.recommend(users=[user], k=10)["item"].tolist()
    for given in (
        np.array([user]),
        [float(user)],
        [str(user)],
        (user,),
        [user, str(user)],
        np.array([user, user]),
    ):
        assert model.recommend(users=given, k=10)["item"].tolist() == expected
    assert (
        len(model.recommend(users=[], k=2))
        == len(model.user_vectors(users=[]))
        == len(model.recommend(histories=[], k=2))
        == 0
    )
    assert len(model.recommend(users=[user], k=10_000)) == 100 - len(
        set(shop.log.items[shop.log.offsets[3] : shop.log.offsets[4]])
    )


def test_a_saved_model_answers_for_a_dataset(
    model: gj.Recommender, shop: gj.Dataset, tmp_path: pathlib.Path
) -> None:
    """Users of the data would be answered otherwise than by the model that was fitted to them."""
    model.save(tmp_path / "model")
    loaded = gj.Recommender.load(tmp_path / "model", dataset=shop)
    users = shop.user_ids[:2]
    np.testing.assert_array_equal(
        loaded.recommend(users=users, k=3)["item"], model.recommend(users=users, k=3)["item"]
    )
    assert_names(
        refusal(gj.Recommender.load(tmp_path / "model").recommend, users=users),
        ("a saved model holds no users", "histories="),
    )


def test_nothing_is_held_back_where_the_split_says_so(shop: gj.Dataset) -> None:
    """Evaluating a model that was trained on everything would end in an error of a library."""
    # as the refit below trains, so that its program is compiled once
    model = gj.Recommender(method="plain", dropout=0.3, split="none", **SMALL).fit(shop)
    assert model.config.data.split == "none" and model.config.data.max_length == SMALL["max_length"]
    assert len(model.recommend(users=shop.user_ids[:2], k=3)) == 6
    assert_names(refusal(model.evaluate), ("config.data.split: 'none' has no",))


def test_damage_to_a_saved_model_is_found(model: gj.Recommender, tmp_path: pathlib.Path) -> None:
    """A bit that a disk has changed would be answered from."""
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")
    (path,) = (tmp_path / "model").rglob("features.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert_names(
        refusal(gj.Recommender.load, tmp_path / "model"), (str(path), "copy the whole folder again")
    )


def test_a_workdir_is_gone_on_with_and_loaded(
    model: gj.Recommender, workdir: pathlib.Path, shop: gj.Dataset
) -> None:
    """A second fit would train again, a workdir could not be loaded, or another config would overwrite it."""
    before = (workdir / "metrics.jsonl").read_bytes()
    again = gj.Recommender(method="plain", dropout=0.3, **SMALL).fit(shop, workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before
    loaded = gj.Recommender.load(workdir)
    users = shop.user_ids[:2]
    for other in (again, loaded):
        np.testing.assert_array_equal(
            other.recommend(users=users, k=3)["item"], model.recommend(users=users, k=3)["item"]
        )
    with pytest.raises(UserError, match="another config"):
        gj.Recommender(method="plain", dropout=0.4, **SMALL).fit(shop, workdir)


def test_refit_sees_everything(
    model: gj.Recommender, shop: gj.Dataset, tmp_path: pathlib.Path
) -> None:
    """A production model would never see anybody's last two interactions, or the test be of a model that has seen it."""
    refitted = gj.Recommender(method="plain", dropout=0.3, **SMALL)
    refitted.fit(shop, tmp_path / "run", refit=True)
    rows = [own.evaluate().drop(columns=["commit"]).to_dict() for own in (refitted, model)]
    assert rows[0] == rows[1]
    assert int(refitted.artifact.catalogue.counts.sum()) == shop.log.num_interactions
    assert int(model.artifact.catalogue.counts.sum()) == shop.log.num_interactions - 2 * 100
    loaded = gj.Recommender.load(tmp_path / "run")
    assert loaded.artifact.trained_on_all and not model.artifact.trained_on_all
    np.testing.assert_array_equal(loaded.recommend()["item"], refitted.recommend()["item"])


def test_a_workdir_answers_with_its_refit_from_python_and_the_command_line(
    shop: gj.Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--mode=recommend` would answer with another model than `Recommender.load` and `grasp-serve` on the same folder."""
    workdir = tmp_path / "run"
    gj.Recommender(method="plain", dropout=0.3, **SMALL).fit(shop, workdir)
    config = read_config(workdir)

    def pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
        return set(zip(frame["user"].astype(str), frame["item"].astype(str), strict=True))

    def answers() -> set[tuple[str, str]]:
        out = tmp_path / "lists.csv"
        run_mode(
            "recommend", lambda: open_run(config, workdir, shop), workdir, Options(out=str(out))
        )
        return pairs(pd.read_csv(out))

    before = answers()
    run_mode("refit", lambda: open_run(config, workdir, shop), workdir, Options())
    capsys.readouterr()
    after = answers()
    assert str(workdir / "refit") in capsys.readouterr().out
    loaded = gj.Recommender.load(workdir, shop).recommend(k=config.recommend.top_n)
    assert after == pairs(loaded)
    assert after != before, "the refit changes nothing, so the test shows nothing"


def test_a_refit_that_is_older_than_the_training_does_not_answer(
    shop: gj.Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After further training, the refit for the earlier number of epochs would answer without a word."""
    workdir, longer = tmp_path / "run", SMALL | {"max_epochs": 10, "learning_rate": 0.01}
    model = gj.Recommender(method="plain", dropout=0.3, **longer)
    model.fit(shop, workdir, callbacks=[lambda record: True])  # stops after one epoch
    config = read_config(workdir)
    run_mode("refit", lambda: open_run(config, workdir, shop), workdir, Options())
    assert read_config(workdir / "refit").train.max_epochs == 1
    capsys.readouterr()
    assert gj.Recommender.load(workdir, shop).trained("load").serving.trial.run.workdir != workdir
    assert "best model so far" not in capsys.readouterr().out  # the refit answers

    further = model.fit(shop, workdir).recommend(k=3)
    loaded = gj.Recommender.load(workdir, shop)
    said = capsys.readouterr().out
    assert (
        f"{workdir / 'refit'}: the refit is of another choice (train.max_epochs is 1 there and"
        in said
    )
    pd.testing.assert_frame_equal(loaded.recommend(k=3), further)
    message = refusal(model.fit, shop, workdir, refit=True)
    assert_names(
        message, (str(workdir / "refit"), "train.max_epochs is 1", "move this folder away")
    )

    (workdir / "refit").rename(tmp_path / "moved")
    model.fit(shop, workdir, refit=True)
    loaded = gj.Recommender.load(workdir, shop)
    assert loaded.trained("load").serving.trial.run.workdir == workdir / "refit"
    assert "another choice" not in capsys.readouterr().out


def test_a_refit_of_another_method_stays_where_it_is(
    shop: gj.Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who opens a baseline next to the model of production would be told to move that model away."""
    workdir = tmp_path / "run"
    gj.Recommender(method="popularity", **SMALL).fit(shop, workdir, refit=True)
    gj.Recommender(method="semantic_neighbours", **SMALL).fit(shop, workdir)
    capsys.readouterr()
    refused = f"{workdir / 'refit'}: the refit is of popularity-sasrec, so semantic_neighbours-sasrec answers"
    for method, said in (("semantic_neighbours", refused), ("popularity", "")):
        serving = gj.Recommender.load(workdir, shop, method=method).trained("load").serving.trial
        printed = capsys.readouterr().out
        assert serving.method == method
        assert serving.run.workdir == (workdir if said else workdir / "refit")
        assert said in printed and ("the refit is of" in printed) == bool(said)
        assert "move this folder" not in printed


def test_pairs_are_compared_on_the_same_users(model: gj.Recommender, shop: gj.Dataset) -> None:
    """Models of other data or another protocol would be compared user by user."""
    other = gj.Recommender(method="plain", dropout=0.6, **SMALL)
    rows = gj.compare([model, other], shop)
    assert (
        rows["protocol"].tolist() == ["sampled100", "full", "full_unseen"]
        and ((rows["p_value"] >= 0) & (rows["p_value"] <= 1)).all()
    )
    others = gj.Recommender(method="plain", **(SMALL | {"num_negatives": 10})).fit(shop)
    assert_names(
        refusal(gj.compare, [model, others]), ("models[1]", "config.eval.num_negatives differs")
    )
    assert_names(refusal(gj.compare, [model]), ("1 models",))


def test_trainings_that_differ_in_values_alone_share_their_programs(shop: gj.Dataset) -> None:
    """Each model of a search over dropout rates would be compiled, which takes longer than a small training."""
    traced: list[str] = []

    def heard(event: str, _: float, *, fun_name: str = "", **__: Any) -> None:
        traced.append(fun_name)

    def traced_by(**fields: Any) -> set[str]:
        """Which of the two programs were traced by a training."""
        traced.clear()
        gj.Recommender(method="plain", **(SMALL | fields)).fit(shop)
        return {
            name for name in ("train_steps", "initial_states") if any(name in f for f in traced)
        }

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        _train_steps.cache_clear()
        _initial_states.clear_cache()
        first = traced_by()
        assert first == {"train_steps", "initial_states"}, "the second line would show nothing"
        assert traced_by(dropout=0.6) == set()
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


@pytest.mark.skipif(not FASHION.exists(), reason="the paper's Fashion file is not here")
def test_the_five_lines_on_the_fashion_file(tmp_path: pathlib.Path) -> None:
    """The lines would run on made-up data alone."""
    shop = gj.Dataset.read(FASHION)
    model = gj.Recommender(
        method="plain", backbone="sasrec", dropout=0.3, features=8, max_epochs=1, batch_size=512
    )
    model.fit(shop)
    assert len(model.recommend(users=[1, 2], k=10)) == 20
    model.save(tmp_path / "model")
    assert len(gj.Recommender.load(tmp_path / "model").recommend(histories=[[1, 2]], k=10)) == 10
