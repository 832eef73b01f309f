"""The folder of a saved model: an earlier model is never lost, other files are left alone, and texts take the room of their length."""

import dataclasses
import functools
import itertools
import json
import pathlib
import shutil
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import Config
from grasp_jax.core.files import checksums, write_array, write_arrays, write_sealed
from grasp_jax.core.locks import only_one
from grasp_jax.core.paths import SAVED_MODEL
from grasp_jax.data.attributes import AttributeTable
from grasp_jax.data.split import Histories
from grasp_jax.knowledge.text.columns import as_texts, cleaned
from grasp_jax.knowledge.text.prompts import History, user_prompt
from grasp_jax.knowledge.text.writer import TextWriter
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.serving import artifact as saved
from grasp_jax.serving.artifact import LOCK, Artifact, load_artifact, save_artifact
from grasp_jax.serving.catalogue import Catalogue
from tests.faults.killer import killed_at, printed_by
from tests.refusal import assert_names, refusal


def model_of(value: float, titles: tuple[str, ...] = ("Red soap", "Öl")) -> Artifact:
    """A model without training; all its numbers are the value."""
    count = len(titles)
    catalogue = Catalogue(
        np.array([f"i{row}" for row in range(count)]),
        np.array(titles),
        np.arange(count),
        {"category": np.array(["Hair"] * count)},
    )
    return Artifact(
        "plain",
        "sasrec",
        Config(),
        ModelSizes(count, 4),
        {"layer": {"weights": np.full(3, value, np.float32)}},
        np.full((count, 2), value, np.float32),
        catalogue,
        {"items": np.full((count, 2), value, np.float32)},
        None,
        {},
        {"groups": np.full(count, value, np.float32)},
    )


def value_of(folder: pathlib.Path) -> float:
    """The value of a saved `model_of`, which all its arrays must have."""
    found = load_artifact(folder)
    arrays = found.features, found.tables["items"], found.fitted["groups"]
    values = {float(value) for array in arrays for value in np.unique(array)}
    values |= set(found.params["layer"]["weights"].tolist())
    (value,) = values
    return value


def names_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill_each_save(root: pathlib.Path) -> None:
    """Saves over a model again and again, killed at the first operation on files, the second, and so on; prints what could be loaded."""
    folder, values = root / "model", [1.0]
    save_artifact(model_of(1.0), folder)
    for number in itertools.count(1):
        later = model_of(values[-1] + 1.0)
        killed = killed_at(number, folder, functools.partial(save_artifact, later, folder))
        values.append(value_of(folder))
        if not killed:
            break
    json.dump({"values": values, "left": names_in(folder)}, sys.stdout)


def kill_each_save_over_format_1(root: pathlib.Path) -> None:
    """The same over a model of format 1 each time; prints what could be loaded, and what the next save, which is not killed, left."""
    values, left = [], []
    for number in itertools.count(1):
        folder = root / str(number)
        save_as_format_1(1.0, folder)
        killed = killed_at(number, folder, functools.partial(save_artifact, model_of(2.0), folder))
        values.append(value_of(folder))
        if not killed:
            break
        save_artifact(model_of(3.0), folder)
        left.append(names_in(folder))
    json.dump({"values": values, "left": left}, sys.stdout)


def test_a_killed_save_leaves_a_model(tmp_path: pathlib.Path) -> None:
    """The earlier model would be lost, and with it what a service answers from after its next start; or files of killed calls stay."""
    found = printed_by(kill_each_save, tmp_path)
    values = found["values"]
    assert len(values) > 20, "a save has more operations"
    steps = set(np.diff(values).tolist())
    assert steps == {0.0, 1.0}, f"the earlier model or the later one, whole: {values}"
    assert len(found["left"]) == 2 and SAVED_MODEL in found["left"], found["left"]


def test_a_killed_save_over_format_1_is_finished_by_the_next(tmp_path: pathlib.Path) -> None:
    """Of a gated model the texts of all users would stay next to every later model, in files that nobody looks for."""
    found = printed_by(kill_each_save_over_format_1, tmp_path)
    assert len(found["left"]) > 20 and set(found["values"]) == {1.0, 2.0}
    for number, (note, files, *rest) in enumerate(found["left"], start=1):
        assert (note, rest) == ("README", [SAVED_MODEL]) and files.startswith("files-"), number


def test_a_first_save_that_was_killed_is_repeated(tmp_path: pathlib.Path) -> None:
    """The same command would be refused, because the folder "holds other files"."""
    folder = tmp_path / "model"
    (folder / "files-0123abcd").mkdir(parents=True)
    (folder / "files-0123abcd" / "params.npz").write_bytes(b"half")
    (folder / ".model.json.0-1-2.partial").write_bytes(b"half")
    save_artifact(model_of(3.0), folder)
    assert value_of(folder) == 3.0
    assert len(list(folder.iterdir())) == 2


def test_a_save_that_fails_leaves_the_earlier_model_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would stay full of half a model, or the earlier one be lost."""
    save_artifact(model_of(1.0), tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(saved, "write_array", full)
        save_artifact(model_of(2.0), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before and value_of(tmp_path) == 1.0


def test_other_files_in_the_folder_of_a_model_are_left_alone(tmp_path: pathlib.Path) -> None:
    """A note next to a model would make it "damaged" when it changes, or be removed by the next save."""
    save_artifact(model_of(1.0), tmp_path)
    (tmp_path / "README").write_text("mine")
    save_artifact(model_of(2.0), tmp_path)
    (tmp_path / "README").write_text("mine, changed")
    assert value_of(tmp_path) == 2.0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("mine")
    assert_names(refusal(save_artifact, model_of(1.0), tmp_path / "other"), ("holds other files",))
    with only_one(tmp_path / LOCK, ""):
        assert_names(refusal(save_artifact, model_of(1.0), tmp_path), ("saves a model",))


def save_as_format_1(value: float, folder: pathlib.Path) -> pathlib.Path:
    """Saves `model_of` as version 0.2.0 did, with a file of the user, which is returned."""
    save_artifact(model_of(value), folder)
    content = json.loads((folder / SAVED_MODEL).read_text())
    for path in (folder / content.pop("folder")).iterdir():
        path.rename(folder / path.name)
    write_arrays(
        folder / "items.npz",
        ids=np.array(["i0", "i1"]),
        titles=np.array(["Red soap", "Öl"]),
        counts=np.arange(2),
        column_category=np.array(["Hair"] * 2),
    )
    note = folder / "README"
    note.write_text("mine")
    content["files"] = checksums(folder, [*content["files"], note.name])  # as that version did
    del content["checksum"]
    write_sealed(folder / SAVED_MODEL, content | {"format": 1})
    next(folder.glob("files-*")).rmdir()
    return note


@pytest.mark.parametrize("damaged", [False, True])
def test_models_of_format_1_load_and_are_replaced(damaged: bool, tmp_path: pathlib.Path) -> None:
    """A model that an earlier version saved could not be loaded, or its files, with texts of all users, stay for ever."""
    folder = tmp_path / "model"
    note = save_as_format_1(1.0, folder)
    assert value_of(folder) == 1.0
    assert load_artifact(folder).catalogue.titles.tolist() == ["Red soap", "Öl"]
    if damaged:
        (folder / SAVED_MODEL).write_text("half of it")
    save_artifact(model_of(2.0), folder)
    assert value_of(folder) == 2.0 and len(list(folder.iterdir())) == 3 and note.exists()
    (folder / saved.TABLES).mkdir()
    (folder / saved.TABLES / "prices.csv").write_text("mine too")
    save_artifact(model_of(3.0), folder)
    assert value_of(folder) == 3.0 and (folder / saved.TABLES / "prices.csv").exists()


def test_a_model_of_a_later_version(tmp_path: pathlib.Path) -> None:
    """The advice would be to copy the folder again, which cures nothing, and the formats that can be read would be wrong."""
    save_artifact(model_of(1.0), tmp_path)
    content = json.loads((tmp_path / SAVED_MODEL).read_text())
    del content["checksum"]
    write_sealed(tmp_path / SAVED_MODEL, content | {"format": 3})
    said = refusal(load_artifact, tmp_path)
    assert_names(said, (SAVED_MODEL, "format 3", "formats 1 to 2", "the version that saved it"))


def test_a_model_that_is_replaced_while_it_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload during a save would be refused, though there is a whole model at every moment."""
    save_artifact(model_of(1.0), tmp_path)
    whole, calls = saved.first_damaged, []

    def replaced(*given: object) -> str:
        calls.append(given)
        if len(calls) == 1:
            save_artifact(model_of(2.0), tmp_path)
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(saved, "first_damaged", replaced)
    assert value_of(tmp_path) == 2.0 and len(calls) == 2


@pytest.mark.parametrize("part", [saved.TABLES, saved.FITTED, saved.ENCODER])
def test_a_part_that_is_removed_while_it_is_read(
    part: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gated model would be served without its tables, or a text model without its encoder, and nothing would say so."""
    encoders = [types.SimpleNamespace(save=written(value), value=value) for value in (1.0, 2.0)]
    one, two = (
        dataclasses.replace(model_of(encoder.value), encoder=encoder) for encoder in encoders
    )
    monkeypatch.setattr(saved.SavedTextEncoder, "load", lambda folder: np.load(folder / "own.npy"))
    folder, kept = tmp_path / "model", tmp_path / "kept"
    save_artifact(one, folder)
    whole, calls = saved.first_damaged, []

    def replaced(files: pathlib.Path, expected: dict[str, str]) -> str:
        damage = whole(files, expected)
        calls.append(damage)
        if len(calls) == 1:  # another process has begun to remove the earlier files
            shutil.copytree(files, kept)
            save_artifact(two, folder)
            shutil.copytree(kept, files)
            shutil.rmtree(files / part)
        return damage

    monkeypatch.setattr(saved, "first_damaged", replaced)
    found: Any = load_artifact(folder)
    parts = found.tables["items"], found.fitted["groups"], found.encoder
    assert [value for array in parts for value in np.unique(array)] == [2.0] * 3
    assert calls == ["", ""]


def written(value: float) -> Callable[[pathlib.Path], None]:
    """The `save` of an encoder that is one number."""
    return lambda folder: write_array(folder / "own.npy", np.array([value]))


def test_a_long_title_takes_its_own_room_alone(tmp_path: pathlib.Path) -> None:
    """One title or category of 10,000 characters would make every row 40 kB: a legal request would fill the memory of a service."""
    many = model_of(1.0, tuple(f"Soap {row}" for row in range(3000)))
    long = Catalogue(
        np.array(["x" * 512]),
        np.array(["y" * 10_000]),
        np.zeros(1, int),
        {"category": np.array(["z" * 10_000])},
    )
    groups = np.array(["Hair"] * 3000 + ["g" * 10_000], object)
    both = dataclasses.replace(
        many, catalogue=many.catalogue.followed_by(long), fitted={saved.GROUPS: groups}
    )
    columns = both.catalogue.columns["category"]
    assert {both.catalogue.ids.dtype, both.catalogue.titles.dtype, columns.dtype} == {
        np.dtype(object)
    }
    save_artifact(both, tmp_path)
    for name in ("items.npz", "groups.npy"):
        (path,) = tmp_path.rglob(name)
        assert path.stat().st_size < 300_000
    loaded = load_artifact(tmp_path)
    found, loaded_groups = loaded.catalogue, loaded.fitted[saved.GROUPS]
    assert loaded_groups.dtype == object and loaded_groups.tolist() == groups.tolist()
    for name in ("ids", "titles", "counts"):
        assert getattr(found, name).tolist() == getattr(both.catalogue, name).tolist()
    assert found.columns["category"].tolist() == columns.tolist()


def test_a_users_text_is_served_as_it_was_trained() -> None:
    """A list would be served as ['Hair', 'Care'] or "Hair , Care", and a price of 0 left out: another text than the model has seen."""
    categories = [["<b>Hair</b>", "Care<br>", "R&amp;B"], None]
    columns = {"title": ["Soap", None], "category": categories, "price": [0, 2.5]}
    template = "The user bought: {purchases}"
    table = cleaned(AttributeTable(np.arange(2), columns))
    window = Histories(np.array([0]), np.array([2]), np.array([-1]))
    trained = user_prompt(template, History(window, np.array([0, 1]), table))(0)
    served = {name: as_texts(values) for name, values in columns.items()}
    writer = TextWriter("{title}", template, history_columns=tuple(columns))
    assert writer.user_texts([[0, 1]], served) == [trained]
    assert "Hair, Care, R&B, 0" in trained
