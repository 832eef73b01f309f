"""The config of a workdir: written once, compared with that of a later call, and read if an earlier version wrote it."""

import json
import pathlib
from typing import Any

import pytest

from grasp_jax.config import (
    CONFIG_FILE,
    Config,
    EvalConfig,
    as_changes,
    check_workdir,
    flatten,
    identity,
    read_config,
    save_config,
    to_json,
    unknown_field,
)
from grasp_jax.config.stored import GONE
from grasp_jax.provenance import difference
from tests.changed_config import changed
from tests.refusal import assert_names, refusal


def test_a_workdir_belongs_to_its_config(tmp_path: pathlib.Path) -> None:
    """Would break results: two configs in one workdir. The first difference is named, with both values, and how many follow."""
    check_workdir(Config(), tmp_path)
    check_workdir(Config(), tmp_path / "new")
    save_config(Config(), tmp_path / "new")
    check_workdir(Config(), tmp_path / "new")
    path = str(tmp_path / "new" / CONFIG_FILE)
    assert refusal(check_workdir, changed("model.features", 32), tmp_path / "new") == (
        f"{path}: the workdir is of another config: model.features is 64 there and 32 here; use another workdir"
    )
    config = Config().with_fields({"train.seeds": (42, 43), "model.features": 32})
    message = refusal(check_workdir, config, tmp_path / "new")
    assert_names(
        message,
        (path, "model.features is 64 there and 32 here (and 1 more)", "use another workdir"),
    )


@pytest.mark.parametrize(
    "key, value",
    [
        ("train.seeds", (42, 43)),
        ("data.synthetic.num_users", 5),
        ("eval.full", False),
        ("model.mlp", ()),
    ],
)
def test_every_section_is_compared(tmp_path: pathlib.Path, key: str, value: Any) -> None:
    """Would break results: a difference in a nested section, a tuple or a switch that goes unseen."""
    save_config(Config(), tmp_path)
    assert f"{key} is " in refusal(check_workdir, changed(key, value), tmp_path)
    save_config(changed(key, value), tmp_path / "own")
    check_workdir(changed(key, value), tmp_path / "own")


def test_one_learning_rate_is_a_number_in_workdirs_of_earlier_versions(
    tmp_path: pathlib.Path,
) -> None:
    """Would break runs that an upgrade finds unfinished; another rate, or a second one, is still another config."""
    save_config(Config(), tmp_path)
    saved = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert saved["train"]["learning_rate"] == [1e-3]
    saved["train"]["learning_rate"] = 1e-3
    del saved["checksum"]  # which those versions did not write
    (tmp_path / CONFIG_FILE).write_text(json.dumps(saved))
    check_workdir(Config(), tmp_path)
    for rates in ((3e-3,), (1e-3, 3e-3)):
        assert "train.learning_rate is 0.001 there and [0.00" in refusal(
            check_workdir, changed("train.learning_rate", rates), tmp_path
        )


def test_recommend_may_change(tmp_path: pathlib.Path) -> None:
    """Would break serving from a finished run: how many items are written decides no number of an earlier stage."""
    save_config(Config(), tmp_path)
    check_workdir(changed("recommend.top_n", 50), tmp_path)
    check_workdir(changed("recommend.exclude_seen", False), tmp_path)


def test_fields_that_came_later(tmp_path: pathlib.Path) -> None:
    """Workdirs of earlier versions would be of another config, or be continued by another rule than they were begun with."""
    save_config(Config(), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    del tree["checksum"], tree["eval"]["select"], tree["data"]["split"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    as_then = changed("eval.select", "sampled100")
    check_workdir(as_then, tmp_path)
    assert "eval.select is 'sampled100' there and 'full' here" in refusal(
        check_workdir, Config(), tmp_path
    )
    assert read_config(tmp_path) == as_then


@pytest.mark.parametrize(
    ("before", "select"),
    [
        ((False, "full"), "full"),
        ((True, "full"), "full_unseen"),
        ((True, "sampled100"), "sampled100"),
    ],
)
def test_a_field_that_is_gone(
    tmp_path: pathlib.Path, before: tuple[bool, str], select: str
) -> None:
    """Workdirs and saved models with `eval.exclude_seen` could not be opened, or epochs be chosen by another ranking than then."""
    tree = to_json(Config())
    tree["eval"] |= dict(zip(("exclude_seen", "select"), before, strict=True))
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    as_then = changed("eval.select", select)
    assert read_config(tmp_path) == Config.from_dict(as_changes(tree)) == as_then
    check_workdir(as_then, tmp_path)
    made_from = {"config": identity(as_then) | {"eval.exclude_seen": before[0]}}
    if before[1] == "full":
        made_from["config"]["eval.select"] = "full"
    assert not difference(made_from, {"config": identity(as_then)})
    other = "full" if select == "full_unseen" else "full_unseen"
    assert difference(made_from, {"config": identity(changed("eval.select", other))})


def test_a_field_that_is_gone_had_its_default_for_one_method(tmp_path: pathlib.Path) -> None:
    """A workdir of an earlier version that set such a field for one method could not be opened."""
    gone = {"model": {"gate_dropout": 0.0}}
    tree = to_json(Config()) | {
        "by_method": {"grasp": gone | {"train": {"patience": 7}}, "plain": gone}
    }
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    config = read_config(tmp_path)
    assert to_json(config)["by_method"] == {"grasp": {"train": {"patience": 7}}}
    check_workdir(config, tmp_path)
    tree["by_method"]["plain"] = {"model": {"gate_dropout": 0.5}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    assert_names(refusal(read_config, tmp_path), ("gate_dropout: no such field any more",))


@pytest.mark.parametrize("name", GONE)
def test_a_field_that_is_gone_had_its_default(tmp_path: pathlib.Path, name: str) -> None:
    """A run of an earlier version could not be opened, though it has the present behaviour; or one with another would be trained on."""
    tree = to_json(Config())
    section, _, field = name.rpartition(".")
    tree[section][field] = GONE[name]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    assert read_config(tmp_path) == Config.from_dict(as_changes(tree)) == Config()
    check_workdir(Config(), tmp_path)
    as_then, now = {"config": identity(Config()) | {name: GONE[name]}}, identity(Config())
    assert not difference(as_then, {"config": now})
    tree[section][field] = "another"
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    assert_names(refusal(read_config, tmp_path), (f"config.{name}: no such field any more",))
    assert_names(refusal(check_workdir, Config(), tmp_path), (f"{name} is 'another' there",))


def with_equal_rates(workdir: pathlib.Path) -> dict[str, Any]:
    """Writes the config.json of a version that took equal dropouts."""
    tree = to_json(Config())
    tree["model"]["dropout"] = [0.2, 0.2]
    tree["by_method"] = {"plain": {"model": {"dropout": [0.5, 0.5]}}}
    workdir.mkdir(exist_ok=True)
    (workdir / CONFIG_FILE).write_text(json.dumps(tree))
    return tree


def test_a_workdir_with_equal_rates_still_opens(tmp_path: pathlib.Path) -> None:
    """A run of an earlier version, which took equal rates, could not be opened any more."""
    tree = with_equal_rates(tmp_path)
    config = read_config(tmp_path)
    assert config.model.dropout == (0.2, 0.2)
    assert config.for_method("plain").model.dropout == (0.5, 0.5)
    assert config.with_fields({"recommend.top_n": 5}).model.dropout == (0.2, 0.2)
    check_workdir(config, tmp_path)
    assert Config().with_stored_fields(as_changes(tree)) == config  # as a saved model is read
    for changes, named in (
        ({"model": {"dropout": [0.2, 0.2]}}, "config.model.dropout: [0.2, 0.2]"),
        ({"by_method": tree["by_method"]}, "config.by_method.plain.model.dropout: [0.5, 0.5]"),
    ):
        for given in (Config.from_dict, config.with_fields):
            assert_names(refusal(given, changes), (named, "expected one or more different rates"))


def test_who_gives_a_field_that_is_gone_is_told_what_replaced_it() -> None:
    """A user of an earlier version would be told to mean another field of a like name."""
    for said in (
        refusal(Config().with_fields, {"eval.exclude_seen": True}),
        refusal(EvalConfig().with_fields, {"exclude_seen": True}),
        unknown_field("eval.exclude_seen"),
    ):
        assert_names(said, ("config.eval.exclude_seen: no such field any more", "full_unseen"))


def test_what_is_audited_may_change(tmp_path: pathlib.Path) -> None:
    """Would break the audit of a finished run: a workdir older than the audit, or audited otherwise, is the same run."""
    save_config(Config(), tmp_path)
    check_workdir(changed("knowledge.audit.category_column", "brand"), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    del tree["knowledge"]["audit"], tree["checksum"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    check_workdir(Config(), tmp_path)


def test_keys_of_another_version_are_named(tmp_path: pathlib.Path) -> None:
    """Would break old workdirs: a field that was added or removed since is a difference, not a traceback."""
    save_config(Config(), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    tree["model"]["colour"] = tree["model"].pop("causal")
    del tree["checksum"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    message = refusal(check_workdir, Config(), tmp_path)
    assert_names(message, ("model.causal is None there and True here", "and 1 more"))


def test_saved_config_is_whole_and_stays(tmp_path: pathlib.Path) -> None:
    """Would break the record of a run: every field as JSON, and never overwritten by a later call."""
    save_config(Config(), tmp_path / "run")
    content = (tmp_path / "run" / CONFIG_FILE).read_text()
    tree = json.loads(content)
    del tree["checksum"]
    assert (
        set(flatten(tree)) == set(flatten(Config().to_dict()))
        and tree["train"]["seeds"] == [42]
        and tree["model"]["gate"] == "paper"
    )
    save_config(changed("recommend.top_n", 50), tmp_path / "run")
    assert (tmp_path / "run" / CONFIG_FILE).read_text() == content
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CONFIG_FILE], (
        "no partial file stays"
    )


def test_a_damaged_config_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback, or claim the workdir of an unknown run."""
    (tmp_path / CONFIG_FILE).write_text('{"data": {"name": "beau')
    message = refusal(check_workdir, Config(), tmp_path)
    assert_names(
        message,
        (
            str(tmp_path / CONFIG_FILE),
            "not readable JSON",
            "use another --workdir or restore the file",
        ),
    )


def test_one_digit_of_a_saved_config(tmp_path: pathlib.Path) -> None:
    """A report would show another width than the models have."""
    save_config(Config(), tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(path.read_text().replace('"top_n": 10', '"top_n": 11'))
    assert_names(refusal(check_workdir, Config(), tmp_path), (str(path), "its checksum differs"))


def test_a_folder_is_one_however_it_is_spelt(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file by another relative path would count as another config, and another folder as the same."""
    monkeypatch.chdir(tmp_path)
    save_config(changed("train.start_from", "runs/../monday"), tmp_path / "run")
    for same in ("monday", "./monday/", str(tmp_path / "monday")):
        check_workdir(changed("train.start_from", same), tmp_path / "run")
    assert "train.start_from is" in refusal(
        check_workdir, changed("train.start_from", "tuesday"), tmp_path / "run"
    )
