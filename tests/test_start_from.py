"""Today's training starts from yesterday's models, by the ids of items and not by their rows."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config import Config
from grasp_jax.config.model import TEXT_PART
from grasp_jax.data.log import build_log
from grasp_jax.knowledge.bank import KnowledgeBank, identity, load_bank, save_bank
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.methods.llminit import fitted_components, principal_components
from grasp_jax.models.whitening import transformed
from grasp_jax.training.checkpoint import Checkpoints, StoredSnapshot, record_newest
from grasp_jax.training.inherited import (
    check_start,
    check_turn,
    inherited_start,
    inherited_turn,
    keep_directions,
)
from grasp_jax.training.start_from import (
    Earlier,
    check_basis,
    earlier_rows,
    read_earlier,
    start_from,
)
from grasp_jax.workdir import claim
from tests.command_line import arguments, one_line_error, run, write_dataset
from tests.refusal import assert_names, refusal
from tests.trained import SMALL

ROWS = np.array(
    [2, -1, 0, 1]
)  # today's items: two have moved, one is new, all of yesterday's three are there


def params(models: int, items: int, positions: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {
        "encoder": {"table": (items, 5), "kernel": (5, 5)},
        "backbone": {"positions": (positions, 5)},
    }
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=(models, *shape))),
        shapes,
        is_leaf=lambda part: isinstance(part, tuple),
    )


def saved(workdir: pathlib.Path, positions: int = 7) -> dict:
    """Yesterday's workdir, in which the second of three models is the best."""
    tree = {
        "best_params": params(3, 3, positions, seed=1),
        "progress": {"best": np.array([0.1, 0.3, 0.2])},
    }
    folder = workdir / "checkpoints" / "plain-sasrec"
    checkpoints = Checkpoints(folder / "best", {"data": "monday's"})
    checkpoints.save(4, tree, "hash")
    checkpoints.close()
    record_newest(folder, 4, "hash")
    claim(workdir, Config(), build_log("monday", np.array([1, 1, 1]), np.array(["a", "b", "c"])))
    return tree["best_params"]


def started(fresh: dict, workdir: pathlib.Path) -> dict:
    return start_from(fresh, read_earlier(workdir, "plain-sasrec"), ROWS)


@pytest.mark.parametrize("positions", [4, 7, 9])
def test_parameters_are_the_best_models(tmp_path: pathlib.Path, positions: int) -> None:
    """An item would get another's vector where rows have moved; a new one a row of nobody; or longer histories not fit."""
    earlier, fresh = saved(tmp_path), params(2, 4, positions, seed=2)
    carried = started(fresh, tmp_path)
    for m in range(2):
        np.testing.assert_array_equal(
            carried["encoder"]["table"][m, [0, 2, 3]], earlier["encoder"]["table"][1, [2, 0, 1]]
        )
        np.testing.assert_array_equal(
            carried["encoder"]["table"][m, 1], fresh["encoder"]["table"][m, 1]
        )
        np.testing.assert_array_equal(
            carried["encoder"]["kernel"][m], earlier["encoder"]["kernel"][1]
        )
        shared, own = min(positions, 7), carried["backbone"]["positions"][m]
        np.testing.assert_array_equal(own[:shared], earlier["backbone"]["positions"][1, :shared])
        np.testing.assert_array_equal(own[shared:], fresh["backbone"]["positions"][m, shared:])


def test_other_models_are_refused(tmp_path: pathlib.Path) -> None:
    """A model of another width, or another kind, would end in a traceback of JAX."""
    saved(tmp_path)
    narrow = jax.tree.map(lambda leaf: leaf[..., :4], params(2, 4, 7, seed=2))
    assert_names(
        refusal(started, narrow, tmp_path),
        ("config.train.start_from", "backbone.positions", "(7, 5)", "config.model"),
    )
    other = {"encoder": params(2, 4, 7, seed=2)["encoder"]}
    assert_names(
        refusal(started, other, tmp_path), ("config.train.start_from", "another kind of model")
    )
    assert_names(
        refusal(started, narrow, tmp_path / "gone"),
        ("config.train.start_from", "gone", "holds no checkpoint"),
    )


def test_rows_are_found_by_id(tmp_path: pathlib.Path) -> None:
    """Yesterday's third item is not today's third; ids that a disk has changed would bring an item another's vector."""
    saved(tmp_path)
    ids = read_earlier(tmp_path, "plain-sasrec").item_ids
    assert earlier_rows(np.array(["c", "new", "a"]), ids).tolist() == [2, -1, 0]
    path = tmp_path / "item_ids.npy"
    path.write_bytes(path.read_bytes().replace(b"c", b"d", -1))
    assert_names(
        refusal(read_earlier, tmp_path, "plain-sasrec"),
        ("config.train.start_from", str(path), "differs from what was written"),
    )


def test_a_damaged_model_is_not_started_from(tmp_path: pathlib.Path) -> None:
    """Today's models would go on from numbers that nobody trained."""
    saved(tmp_path)
    files = [
        path
        for path in (tmp_path / "checkpoints" / "plain-sasrec" / "best" / "4").rglob("d/*")
        if path.is_file()
    ]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert_names(
        refusal(read_earlier, tmp_path, "plain-sasrec"),
        ("config.train.start_from", path.name, "differs from what was written"),
    )


def a_bank(folder: pathlib.Path, encoder: str, items: np.ndarray) -> KnowledgeBank:
    tables = {
        "items": items,
        "items_similar": items,
        "users": items[:2],
        "users_similar": items[:2],
    }
    save_bank(folder, tables, {"encoder": encoder, "item_texts": folder.name}, {})
    return load_bank(folder, {"encoder": encoder, "item_texts": folder.name})


@pytest.mark.parametrize("encoder", ["lsa", "openai"])
def test_vectors_of_another_basis_are_refused(tmp_path: pathlib.Path, encoder: str) -> None:
    """An encoder that is fitted again has new directions: yesterday's models would read every vector of today wrong, without a word."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 8)).astype(np.float32)
    transformed = items @ np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
    monday, rows = a_bank(tmp_path / "monday", encoder, items), np.arange(40)
    earlier = Earlier(
        tmp_path, {}, np.zeros(1), np.empty(0, str), {"bank": identity(monday.manifest)}
    )
    check_basis(earlier, monday, [], rows)
    check_basis(
        earlier, a_bank(tmp_path / "moved", encoder, items + 0.05), [tmp_path / "monday"], rows
    )
    other = a_bank(tmp_path / "transformed", encoder, transformed)
    message = refusal(check_basis, earlier, other, [tmp_path / "monday"], rows)
    assert_names(
        message,
        ("config.train.start_from", encoder, "other vectors than it did then", "expected 0.9"),
    )
    if encoder == "lsa":
        assert_names(
            refusal(check_basis, earlier, other, [tmp_path / "gone"], rows),
            ("its knowledge bank is gone", "fitted again"),
        )
    else:
        check_basis(earlier, other, [tmp_path / "gone"], rows)


def test_text_is_read_in_the_directions_of_the_first_day(tmp_path: pathlib.Path) -> None:
    """Directions of largest variance swap or turn round with a few more items: late fusion would misread its text, and say nothing."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 8)).astype(np.float32)
    late = Config().with_fields({"model.method": "grasp_plus", "model.plus.text_width": 5})
    method = METHODS["grasp_plus"]
    first = method.text_turn(items, late.model)
    assert first is not None and first.shape == (8, 5)
    for day, rows in (("monday", items), ("tuesday", items[:30] + 1), ("wednesday", items[10:])):
        a_bank(tmp_path / day / "knowledge", "openai", rows)
        claim(tmp_path / day, late, build_log(day, np.array([1, 1]), np.array(["a", "b"])))
    monday, tuesday, wednesday = (tmp_path / day for day in ("monday", "tuesday", "wednesday"))
    for earlier, today in ((monday, tuesday), (tuesday, wednesday)):
        turn = inherited_turn(today, earlier, "grasp_plus")
        np.testing.assert_array_equal(turn, first)
        keep_directions(today, "grasp_plus", turn)
    shutil.rmtree(tuesday)
    np.testing.assert_array_equal(inherited_turn(wednesday, tuesday, "grasp_plus"), first)

    facts = Facts(late.model, np.ones(30), split=None, turn=first)
    late_alone = dataclasses.replace(late.model.plus, company_towers=0)
    facts = dataclasses.replace(facts, config=dataclasses.replace(late.model, plus=late_alone))
    text = next(
        table for table in method.tables({"items": items[10:]}, facts) if table.name == TEXT_PART
    )
    np.testing.assert_array_equal(text.rows, transformed(items[10:], first))
    np.testing.assert_array_equal(method.fitted({"items": items[10:]}, facts)["turn"], first)

    early = Config().with_fields({"model.plus.fusion": "early"}).model
    assert method.fits_text(late.model) and not method.fits_text(early)
    assert method.text_turn(items, early) is None and not METHODS["llm_esr"].fits_text(late.model)


def test_ids_start_along_the_directions_of_the_first_day(tmp_path: pathlib.Path) -> None:
    """The ID vector of a new item would have other components than those of the items before it, in another order or with other signs."""
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(40, 8)) * np.arange(1, 9)).astype(np.float32)
    config = Config().with_fields({"model.method": "llminit", "model.features": 3})
    first = fitted_components({"items": items}, Facts(config.model, np.empty(0)))
    for day, rows in (("monday", items), ("tuesday", -items[:30]), ("wednesday", items[10:])):
        a_bank(tmp_path / day / "knowledge", "openai", rows)
        claim(tmp_path / day, config, build_log(day, np.array([1, 1]), np.array(["a", "b"])))
    monday, tuesday, wednesday = (tmp_path / day for day in ("monday", "tuesday", "wednesday"))
    for earlier, today in ((monday, tuesday), (tuesday, wednesday)):
        start = inherited_start(today, earlier, "llminit")
        assert start is not None and all((start[name] == first[name]).all() for name in first)
        keep_directions(today, "llminit", None, start)
    shutil.rmtree(tuesday)
    kept = inherited_start(wednesday, tuesday, "llminit")
    assert kept is not None and all((kept[name] == first[name]).all() for name in first)

    facts, today = Facts(config.model, np.ones(30), start=kept), {"items": items[10:]}
    started = METHODS["llminit"].tables(today, facts)[0].rows
    np.testing.assert_allclose(started, principal_components(items, 3)[0][10:], atol=1e-4)
    fitted = METHODS["llminit"].fitted(today, facts)
    assert all((fitted[name] == first[name]).all() for name in first)

    check_start(kept, 8, "llminit", config.model, monday)
    assert_names(refusal(check_start, kept, 9, "llminit", config.model, monday), ("8", "9"))
    for name, value in (("features", 4), ("start_components", "raw")):
        other = config.with_fields({f"model.{name}": value}).model
        message = refusal(check_start, kept, 8, "llminit", other, monday)
        assert_names(message, (f"config.model.{name}", str(value), str(monday), "expected"))
    assert inherited_start(tmp_path / "new", tmp_path / "gone", "llminit") is None
    usual = Config().model
    random = Config().with_fields({"model.plus.id_start": "random"}).model
    assert METHODS["grasp_plus"].starts_from_text(usual)
    assert METHODS["llm_esr"].starts_from_text(random)
    assert not METHODS["grasp_plus"].starts_from_text(random)
    assert not METHODS["plain"].starts_from_text(usual)


def test_directions_that_are_lost_are_not_guessed(tmp_path: pathlib.Path) -> None:
    """Networks would read texts along directions that they were not trained for."""
    monday, tuesday = tmp_path / "monday", tmp_path / "tuesday"
    claim(monday, Config(), build_log("monday", np.array([1, 1]), np.array(["a", "b"])))
    message = refusal(inherited_turn, tuesday, monday, "grasp_plus")
    assert_names(message, ("config.train.start_from", str(monday), "bank is gone", "grasp_plus"))
    keep_directions(monday, "grasp_plus", np.ones((3, 2)))
    path = monday / "inherited" / "grasp_plus.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_names(refusal(inherited_turn, tuesday, monday, "grasp_plus"), (str(path), "restore"))


def test_other_directions_than_the_first_days_are_refused(tmp_path: pathlib.Path) -> None:
    """Another width of texts would end in a traceback, and another whitening be given and not used."""
    late = Config().with_fields({"model.method": "grasp_plus", "model.plus.text_width": 5})
    claim(tmp_path / "monday", late, build_log("monday", np.array([1, 1]), np.array(["a", "b"])))
    turn, monday = np.ones((8, 5)), tmp_path / "monday"
    check_turn(turn, 8, "grasp_plus", late.model, monday)
    message = refusal(check_turn, turn, 9, "grasp_plus", late.model, monday)
    assert_names(message, ("start_from", str(monday), "8", "9", "--since"))
    for name, value in (("text_width", 4), ("text_whitening", 0.125), ("text_norm", 7.5)):
        other = late.with_fields({f"model.plus.{name}": value}).model
        message = refusal(check_turn, turn, 8, "grasp_plus", other, monday)
        assert_names(message, (f"config.model.plus.{name}", str(value), str(monday), "expected"))
        check_turn(turn, 8, "grasp_plus", other, tmp_path / "gone")


def records(workdir: pathlib.Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_retraining_goes_on_from_yesterday(tmp_path: pathlib.Path) -> None:
    """The flag would be read and the models start from nothing; a bad epoch be kept where the start was better; or a killed run forget."""
    data = write_dataset(tmp_path / "data")
    quick = ("--config.model.method=plain", "--config.eval.full=False")
    few = (*quick, "--config.train.learning_rate=0.01", "--config.train.max_epochs=6")
    assert run(arguments(data, tmp_path / "monday", *few)).returncode == 0
    from_monday = f"--config.train.start_from={tmp_path / 'monday'}"
    bad = (
        *quick,
        "--config.train.learning_rate=3.0",
        "--config.train.max_epochs=1",
        from_monday,
    )  # an epoch that ruins the model
    result = run(arguments(data, tmp_path / "tuesday", *bad))
    assert result.returncode == 0, result.stderr
    assert "starts from" in result.stdout and "has validation NDCG@10" in result.stdout
    started = records(tmp_path / "tuesday", "start")[0]["valid_ndcg@10"]
    epoch = records(tmp_path / "tuesday", "epoch")
    assert all(line["valid_ndcg@10"] < line["best"] for line in epoch), (
        "the test needs a worse epoch"
    )
    assert [line["best"] for line in epoch] == pytest.approx(started), (
        "the start is epoch 0 of its own validation"
    )
    rows = json.loads((tmp_path / "tuesday" / "results.json").read_text())["rows"]
    assert {row["best_epoch"] for row in rows} == {0}
    none = (*quick, "--config.train.learning_rate=3.0", "--config.train.max_epochs=0", from_monday)
    assert run(arguments(data, tmp_path / "served", *none)).returncode == 0
    served = json.loads((tmp_path / "served" / "results.json").read_text())["rows"]
    assert [row["NDCG@10"] for row in served] == [row["NDCG@10"] for row in rows], (
        "max_epochs=0 serves the starting model"
    )
    error = one_line_error(
        run(
            arguments(
                data,
                tmp_path / "other",
                *bad[:-1],
                f"--config.train.start_from={tmp_path / 'nowhere'}",
            )
        )
    )
    assert_names(error, ("config.train.start_from", "nowhere"))


@pytest.mark.slow
def test_a_refit_reads_texts_by_the_encoder_of_its_run(tmp_path: pathlib.Path) -> None:
    """The refit of a run that continues from another would fit its text encoder again, and refuse the earlier model that it starts from."""
    shop = gj.Dataset.synthetic(num_users=60, num_items=100)
    log = shop.log
    users, items = np.repeat(shop.user_ids, log.lengths), shop.item_ids[log.items]
    first = items <= 50

    def days(kept: np.ndarray, count: int) -> gj.Dataset:
        texts = {"item": shop.item_ids[:count], "title": shop.titles[:count]}
        return gj.Dataset.from_frames({"user": users[kept], "item": items[kept]}, texts)

    options = {**SMALL, "method": "id_text_sum"}
    gj.Recommender(**options).fit(days(first, 50), tmp_path / "monday")
    monday = str(tmp_path / "monday")
    tuesday = gj.Recommender(**options, start_from=monday, since=monday)
    tuesday.fit(days(items > 0, 100), tmp_path / "tuesday", refit=True)
    encoders = (tmp_path / "tuesday" / part / "knowledge" / "encoder" for part in ("", "refit"))
    states = [(folder / "model" / "directions.npy").read_bytes() for folder in encoders]
    assert states[0] == states[1]


def test_directions_are_not_taken_from_another_bank(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bank that was made anew in the earlier workdir would turn texts otherwise than those that its models were trained with."""
    items = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    late = Config().with_fields({"model.method": "grasp_plus", "model.plus.text_width": 5})
    monday, tuesday = tmp_path / "monday", tmp_path / "tuesday"
    claim(monday, late, build_log("monday", np.array([1, 1]), np.array(["a", "b"])))
    (monday / "checkpoints" / "grasp_plus-sasrec").mkdir(parents=True)
    manifest: dict[str, Any] = {"made_from": {}}
    monkeypatch.setattr(
        "grasp_jax.training.start_from.find_model",
        lambda folder, **_: StoredSnapshot(folder, 0, manifest),
    )
    bank = a_bank(monday / "knowledge", "openai", items)
    manifest["made_from"] = {"bank": identity(bank.manifest)}
    assert inherited_turn(tuesday, monday, "grasp_plus").shape == (8, 5)
    shutil.rmtree(monday / "knowledge")
    a_bank(monday / "knowledge", "openai", items + 1)
    assert_names(refusal(inherited_turn, tuesday, monday, "grasp_plus"), ("bank is gone",))
    assert inherited_start(tuesday, monday, "grasp_plus") is None
