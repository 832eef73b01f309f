"""The knowledge bank: written whole or not at all, read back unchanged, refused if it is damaged or of another recipe."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.core.files import read_sealed, write_sealed
from grasp_jax.knowledge import bank as banks
from grasp_jax.knowledge.bank import MANIFEST, TABLES, load_bank, save_bank
from tests.refusal import assert_names, refusal

RECIPE = {"encoder": "lsa", "num_neighbours": 3, "files": {"item": "abc"}}


def tables(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((6 if "items" in name else 4, 5)).astype(dtype) for name in TABLES
    }


def saved(folder: pathlib.Path) -> pathlib.Path:
    save_bank(folder, tables(), RECIPE, {"seconds": 1.5})
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(tmp_path: pathlib.Path, dtype: str) -> None:
    """Would break every later stage: tables come back bit for bit, memory-mapped and read-only, with their manifest."""
    written = tables(dtype)
    save_bank(tmp_path / "deep" / "bank", written, RECIPE, {"seconds": 1.5})
    opened = load_bank(tmp_path / "deep" / "bank", RECIPE)
    for name in TABLES:
        table = getattr(opened, name)
        assert isinstance(table, np.memmap) and not table.flags.writeable
        assert table.dtype == dtype and np.array_equal(table, written[name])
    assert (
        opened.width == 5
        and opened.manifest["recipe"] == RECIPE
        and opened.manifest["notes"] == {"seconds": 1.5}
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bank"], (
        "nothing is left beside it"
    )


DIFFERENT = {
    "value": ({**RECIPE, "num_neighbours": 4}, "num_neighbours=3, but the run needs 4"),
    "nested": (
        {**RECIPE, "files": {"item": "xyz"}},
        "files={'item': 'abc'}, but the run needs {'item': 'xyz'}",
    ),
    "new key": ({**RECIPE, "seed": 0}, "seed=None, but the run needs 0"),
    "key gone": (
        {key: RECIPE[key] for key in ("encoder", "files")},
        "num_neighbours=3, but the run needs None",
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_recipe_is_refused(tmp_path: pathlib.Path, case: str) -> None:
    """Would break results: knowledge of another dataset or encoder, used silently. Says what differs and what to do."""
    other, part = DIFFERENT[case]
    message = refusal(load_bank, saved(tmp_path / "bank"), other)
    assert_names(
        message, (str(tmp_path / "bank"), part, "config.knowledge.path", "another --workdir")
    )


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    """Would break results silently: one bit of one table. `verify=False` says that nobody looks."""
    path = saved(tmp_path / "bank") / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = refusal(load_bank, tmp_path / "bank", RECIPE)
    assert_names(
        message,
        (
            str(path),
            "differs from what was written",
            f"move {tmp_path / 'bank'} away to prepare it again",
        ),
    )
    assert load_bank(tmp_path / "bank", RECIPE, verify=False).width == 5


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_a_missing_or_cut_table_is_refused(tmp_path: pathlib.Path, name: str, verify: bool) -> None:
    """Would break with a traceback after an incomplete copy of the folder."""
    path = saved(tmp_path / "bank") / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-8])
    assert_names(
        refusal(load_bank, tmp_path / "bank", RECIPE, verify), (str(path), "to prepare it again")
    )
    path.unlink()
    message = refusal(load_bank, tmp_path / "bank", RECIPE, verify)
    assert_names(
        message,
        (
            str(path),
            "is missing" if verify else "not a readable",
            f"move {tmp_path / 'bank'} away to prepare it again",
        ),
    )


def test_an_empty_table_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback where a copy left a file of no bytes."""
    path = saved(tmp_path / "bank") / "users.npy"
    path.write_bytes(b"")
    assert_names(refusal(load_bank, tmp_path / "bank", RECIPE), (str(path), "to prepare it again"))


BAD_MANIFESTS = {
    "cut": ('{"format": 1, "rec', "not readable JSON"),
    "no recipe": ('{"format": 1}', "no recipe"),
    "another seal": (
        '{"format": 2, "recipe": {}, "checksums": {}, "checksum": "0"}',
        "its checksum differs",
    ),
    "binary": ("\0\1\2", "not readable JSON"),
    "a list": ("[]", "expected a JSON object"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_damaged_manifest_is_refused(tmp_path: pathlib.Path, case: str) -> None:
    """Would break with a traceback, or with a bank of unknown origin."""
    path = saved(tmp_path / "bank") / MANIFEST
    content, part = BAD_MANIFESTS[case]
    path.write_text(content)
    assert_names(
        refusal(load_bank, tmp_path / "bank", RECIPE),
        (str(path), part, f"move {tmp_path / 'bank'} away"),
    )
    path.unlink()
    assert_names(
        refusal(load_bank, tmp_path / "bank", RECIPE), (str(path), "not readable (No such file")
    )


def test_one_digit_of_the_manifest(tmp_path: pathlib.Path) -> None:
    """A bank would say that it was made with another K than it was, or a note be wrong. Banks of earlier versions, unsealed, are read."""
    path = saved(tmp_path / "bank") / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"num_neighbours": 3', '"num_neighbours": 2'))
    assert_names(
        refusal(load_bank, tmp_path / "bank", RECIPE | {"num_neighbours": 2}),
        (str(path), "its checksum differs"),
    )
    del manifest["checksum"]
    path.write_text(json.dumps(manifest | {"format": 1}))
    assert load_bank(tmp_path / "bank", RECIPE).width == 5


def test_another_format_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break if a later version, whose tables mean something else, were read as this one's."""
    path = saved(tmp_path / "bank") / MANIFEST
    write_sealed(path, read_sealed(path, "") | {"format": 99})
    assert "99" in refusal(load_bank, tmp_path / "bank", RECIPE)


def interrupt(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Lets the third table, the checksums, the manifest or the rename of the next write fail as on a full disk."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    real, calls = np.save, []

    def third_fails(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        (fail if len(calls) == 3 else real)(*arguments, **options)

    if where == "table":
        monkeypatch.setattr(banks.np, "save", third_fails)
    elif where == "checksum":
        monkeypatch.setattr(banks, "checksums", fail)
    elif where == "manifest":
        monkeypatch.setattr(banks, "write_sealed", fail)
    else:
        monkeypatch.setattr(banks.os, "replace", fail)


@pytest.mark.parametrize("where", ["table", "checksum", "manifest", "rename"])
def test_an_interrupted_write_leaves_no_bank(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Would break the next run: half a bank would be opened, or stand in the way of a whole one."""
    folder = tmp_path / "bank"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        interrupt(patch, where)
        save_bank(folder, tables(), RECIPE, {})
    assert not folder.exists()
    saved(folder)
    assert (
        np.array_equal(load_bank(folder, RECIPE).users, tables()["users"])
        and len(list(tmp_path.iterdir())) == 1
    )


def test_a_bank_by_scann_of_an_earlier_version_is_opened(tmp_path: pathlib.Path) -> None:
    """Its recipe names no floor, for it looked into as many leaves whatever the floor; hours of encoding would be done again."""
    made_by = {"retrieval": "scann", "num_neighbours": 2}
    save_bank(tmp_path / "bank", dict.fromkeys(TABLES, np.ones((3, 2), np.float32)), made_by, {})
    assert load_bank(tmp_path / "bank", {**made_by, "min_recall": 0.8}).width == 2
    message = refusal(load_bank, tmp_path / "bank", {**made_by, "num_neighbours": 3})
    assert_names(message, ("num_neighbours=2", "needs 3"))
