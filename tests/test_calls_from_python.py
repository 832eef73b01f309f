"""What a caller from Python gets wrong first: each slip is refused in a line that says what to write, and nothing is ignored."""

import pathlib

import numpy as np
import pandas as pd
import pytest

import grasp_jax as gj
from grasp_jax.config import CONFIG_FILE, Config, resolve_source
from tests.refusal import assert_names, refusal
from tests.trained import SMALL, small_shop, trained


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return trained(tmp_path_factory, "sasrec")


@pytest.fixture(scope="module")
def model(shop: gj.Dataset) -> gj.Recommender:
    return gj.Recommender(method="popularity", **SMALL).fit(shop)


def interactions() -> dict[str, list[int]]:
    """Three users with the same four items."""
    times = [*range(12)]
    return {"user": [1, 2, 3] * 4, "item": [time // 3 for time in times], "timestamp": times}


def test_a_config_that_is_none_is_told_how_to_make_one() -> None:
    """A method given by position, a dictionary or the name of a file would end in an AttributeError."""
    for config, meant in (
        ("grasp_plus", "method='grasp_plus'"),
        ("sasrec", "backbone='sasrec'"),
        ("shop_config.py", "grasp_jax.open_config('shop_config.py')"),
        (pathlib.Path("runs/shop"), "grasp_jax.open_config('runs/shop')"),
        ({"model": {}}, "with_fields"),
        (3, "with_fields"),
    ):
        assert_names(refusal(gj.Recommender, config), ("config is of type", meant))
    assert_names(
        refusal(Config, model={"dropout": 0.3}), ("expected a ModelConfig", "with_fields({'model'")
    )


def test_a_field_is_given_once() -> None:
    """The last of two values of one field would win."""
    message = refusal(gj.Recommender, model__dropout=0.3, dropout=0.2)
    assert_names(message, ("model__dropout and dropout are the same field, config.model.dropout",))
    assert_names(refusal(gj.Recommender, dropout=(0.1, 0.1)), ("expected one or more different",))


def test_an_argument_of_fit_is_no_field() -> None:
    """Who gives the workdir to the constructor would be sent into the source code."""
    message = refusal(gj.Recommender, workdir="runs/shop")
    assert_names(message, ("workdir is an argument of fit: fit(dataset, workdir=...)",))


def test_the_seeds_of_training_are_named_first() -> None:
    """`seed=3` means the seeds of training, and the list of fields would not have them."""
    assert "expected one of train.seeds, " in refusal(gj.Recommender, seed=3)


def test_a_method_of_the_command_line_is_not_what_python_is_told() -> None:
    """Python would be told to join methods with commas, which it refuses, and to give a flag."""
    message = refusal(gj.Recommender, method="sasrec")
    assert "that is a backbone" in message and "expected one of popularity" in message
    assert "comma separated" not in message


def test_a_point_in_time_without_a_split_in_time_is_refused(shop: gj.Dataset) -> None:
    """Who forgets split="time" would report results of another split, even of two points in the wrong order."""
    reversed_points = {"valid_after": "2019-01-01", "test_after": "2018-01-01"}
    expected = ("config.data.valid_after: '2019-01-01'", "data.split='leave_one_out'")
    small = SMALL | {"method": "popularity"}
    assert_names(refusal(gj.Recommender(**small, **reversed_points).fit, shop), expected)
    config = Config().with_fields({"data": reversed_points})
    assert_names(refusal(gj.Recommender(config, **small).fit, shop), expected)
    timed = gj.Dataset.from_frames(interactions(), valid_after="2019-01-01")
    assert_names(refusal(gj.Recommender(**small).fit, timed), expected)
    assert resolve_source(config, of_workdir=True) == config, "of an earlier run, which ignored it"
    assert_names(refusal(resolve_source, config), expected)
    none = gj.Recommender(**small, split="none", valid_after="2019-01-01")
    assert_names(refusal(none.fit, shop), ("data.split='none'",))
    assert_names(refusal(resolve_source, config, ["data.valid_after"]), expected)
    of_files = {"files": {"data": {"split": "time"}}}
    by_source = config.with_fields(
        {"by_source": of_files, "data.path": "shop", "data.test_after": "2020-01-01"}
    )
    assert resolve_source(by_source, ["data.valid_after"]).data.split == "time"


def test_another_split_leaves_out_the_points_in_time_of_the_dataset() -> None:
    """Two protocols could not be compared on one dataset: the remedy, to leave the moments out, is not open to the recommender."""
    moments = {"split": "time", "valid_after": "2019-01-01", "test_after": "2020-01-01"}
    days = [f"20{year}-06-01" for year in (17, 18, 19, 20) for _ in range(3)]
    frame = {"user": [1, 2, 3] * 4, "item": [*range(12)], "timestamp": days}
    timed = gj.Dataset.from_frames(frame, **moments)
    small = SMALL | {"method": "popularity", "split": "leave_one_out", "num_negatives": 1}
    for model in (
        gj.Recommender(**small),
        gj.Recommender(Config().with_fields({"data": moments}), **small),
    ):
        data = model.fit(timed).config.data
        assert (data.split, data.valid_after, data.test_after) == ("leave_one_out", "", "")
    named = gj.Recommender(**small, valid_after="2019-01-01")
    assert_names(refusal(named.fit, timed), ("config.data.valid_after", "leave it out"))


def test_models_to_compare_are_a_list(model: gj.Recommender, shop: gj.Dataset) -> None:
    """Two models without brackets, names of methods or a dictionary would end in a TypeError."""
    for models in (model, {"a": model, "b": model}, "plain", 3):
        assert_names(refusal(gj.compare, models), ("compare: models is of type", "[first, second]"))
    assert_names(refusal(gj.compare, model, model), ("compare: models is of type Recommender",))
    assert_names(refusal(gj.compare, ["plain", "grasp"]), ("models[0] is of type str",))
    assert_names(refusal(gj.compare, [model, model], "folder"), ("dataset is of type str",))
    rows = gj.compare(own for own in (model, model))
    assert rows["difference"].tolist() == [0.0] * 3


def test_a_metric_is_a_name_or_a_function(model: gj.Recommender) -> None:
    """A bare function, which callbacks accept, would end in a TypeError, and so would a number."""

    def misses(ranking: object) -> float:
        return 0.5

    rows = model.evaluate(metrics=misses)
    assert rows["misses"].dropna().tolist() == [0.5, 0.5]
    assert len(model.evaluate(metrics="Recall@10")["Recall@10"].dropna()) == 2
    rows = model.evaluate(metrics=(own for own in ["Recall@10", misses]))
    assert len(rows["Recall@10"].dropna()) == len(rows["misses"].dropna()) == 2
    for metrics in ([3], 3, [None]):
        assert_names(refusal(model.evaluate, metrics=metrics), ("metrics: ", "'Recall@10'"))


def test_columns_of_frames_are_named_as_python_names_them() -> None:
    """Who reads frames would be told to set fields of a config file, and a number as a name be refused without a word on texts."""
    frame = pd.DataFrame(interactions())
    renamed = frame.rename(columns={"user": "who"})
    assert_names(
        refusal(gj.Dataset.from_frames, renamed),
        ("no column 'user'", "Dataset.from_frames columns={'user': NAME}"),
    )
    late = frame.rename(columns={"timestamp": "ts"})
    assert_names(refusal(gj.Dataset.from_frames, late), ("columns={'timestamp': 'ts'}",))
    indexed = frame.set_index("user")
    assert_names(
        refusal(gj.Dataset.from_frames, indexed), ("column 'user' is the index", "reset_index()")
    )
    timed = frame.set_index(frame["timestamp"].rename("Timestamp"))
    assert gj.Dataset.from_frames(timed).log.num_interactions == len(frame)
    assert_names(
        refusal(gj.Dataset.from_frames, timed.drop(columns="timestamp")),
        ("column 'Timestamp' is the index", "reset_index()"),
    )
    by_rows = timed.drop(columns="timestamp")
    read = gj.Dataset.from_frames(by_rows, columns={"timestamp": ""})
    assert read.log.num_interactions == len(frame), "who wants the order of the rows says so"
    numbered = pd.DataFrame(frame.to_numpy())
    names = {"user": 0, "item": np.int64(1), "timestamp": 2}
    read = gj.Dataset.from_frames(numbered, columns=names)
    assert read.fingerprint == gj.Dataset.from_frames(frame).fingerprint
    assert_names(refusal(gj.Dataset.from_frames, frame, columns={"user": True}), ("True",))
    items, users = (
        pd.DataFrame([[0, "pen"], [1, "ink"], [2, "cup"], [3, "jar"]]),
        pd.DataFrame([1, 2, 3]),
    )
    read = gj.Dataset.from_frames(
        frame, items, users, items_id_column=0, title_column=np.int64(1), users_id_column=0
    )
    assert read.titles == ["pen", "ink", "cup", "jar"]


def test_a_config_is_opened(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Who has a config file or a workdir would have to write its fields once more for Python."""
    fields = "config.model.dropout = (0.4,)\n    config.by_source = {'synthetic': {'data': {'name': 'toy'}}}"
    (tmp_path / "own.py").write_text(
        "from grasp_jax.config import default_config\n\n\ndef get_config():\n"
        f"    config = default_config()\n    config.data.source = 'auto'\n    {fields}\n    return config\n"
    )
    config = gj.open_config(tmp_path / "own.py")
    assert config.model.dropout == (0.4,)
    assert (config.data.source, config.data.name) == ("synthetic", "toy")
    of_run = gj.open_config(workdir)
    assert of_run == gj.open_config(workdir / CONFIG_FILE)
    assert of_run.model.features == SMALL["features"]
    assert gj.Recommender(of_run, dropout=0.5).config.model.dropout == (0.5,)
    for place, part in ((tmp_path, "no workdir"), (tmp_path / "wn.py", "did you mean")):
        message = refusal(gj.open_config, place)
        assert message.startswith(str(place)) and part in message
    message = refusal(Config.from_dict, {"checksum": "0"})
    assert_names(message, ("config.checksum", "open_config(WORKDIR)"))


def test_numbers_and_lists_of_other_libraries(shop: gj.Dataset, model: gj.Recommender) -> None:
    """A loop over a NumPy array, a generator or a set would end in an AttributeError, or in messages with np.str_('7')."""
    users = shop.user_ids[:3].tolist()
    expected = list(model.recommend(users=users, k=2)["item"])
    for k in (np.int64(2), np.uint8(2), np.array(2)):
        assert list(model.recommend(users=(own for own in users), k=k)["item"]) == expected
    assert set(model.recommend(users=set(users), k=2)["user"]) == set(users)
    for k in (True, 2.0, "2", 0):
        assert "expected a whole number from 1" in refusal(model.recommend, users=users, k=k)
    message = refusal(model.recommend, users=[np.str_("nobody")], unknown="error")
    assert message.startswith("users: 'nobody' is not a user")


def test_a_folder_may_be_a_path() -> None:
    """`start_from=folder / "monday"` would be refused."""
    assert (
        gj.Recommender(start_from=pathlib.Path("runs/monday")).config.train.start_from
        == "runs/monday"
    )


def test_rows_are_made_a_table() -> None:
    """Rows of a database would be refused without a way out."""
    assert "pandas.DataFrame(rows)" in refusal(gj.Dataset.from_frames, [{"user": 1, "item": 2}])


def test_changed_data_need_another_workdir(shop: gj.Dataset, tmp_path: pathlib.Path) -> None:
    """Python would be told to give flags of the command line."""
    users, items = shop.user_ids.repeat(shop.log.lengths), shop.item_ids[shop.log.items]
    model = gj.Recommender(method="popularity", **SMALL)
    model.fit(gj.Dataset.from_frames({"user": users, "item": items}), tmp_path / "run")
    fewer = gj.Dataset.from_frames({"user": users[:-1], "item": items[:-1]})
    message = refusal(model.fit, fewer, tmp_path / "run")
    assert "train in another workdir, as by fit(dataset, workdir=...)" in message
    assert "--" not in message


def test_an_interrupted_training_says_how_it_goes_on(
    shop: gj.Dataset, tmp_path: pathlib.Path
) -> None:
    """Who stopped a long training would be told that nothing is trained yet."""

    def stop(record: object) -> None:
        raise KeyboardInterrupt

    model = gj.Recommender(method="plain", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.fit(shop, tmp_path / "run", callbacks=stop)
    message = refusal(model.recommend, k=2)
    assert_names(
        message, (str(tmp_path / "run"), "was interrupted", "the same call of fit resumes it")
    )
