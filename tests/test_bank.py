"""The knowledge bank: written whole or not at all, read back unchanged, refused if it was made from something else."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import BANK, About, KnowledgeConfig
from grasp_jax.config.checks import Choice
from grasp_jax.config.fields import fields_of
from grasp_jax.data.attributes import AttributeTable, Texts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.files import read_sealed, write_sealed
from grasp_jax.knowledge import bank as banks
from grasp_jax.knowledge import prepare, recipe
from grasp_jax.knowledge.bank import MANIFEST, TABLES, load_bank, save_bank
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.neighbours import search as neighbours
from tests.refusal import assert_names, refusal

RECIPE = {"encoder": "lsa", "num_neighbours": 3, "files": {"item": "abc"}}
NUM_ITEMS, NUM_USERS = 12, 8
WORDS = ("red", "blue", "green", "soap", "cream", "oil")


def tables(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((6 if "items" in name else 4, 5)).astype(dtype) for name in TABLES
    }


def saved(folder: pathlib.Path) -> pathlib.Path:
    save_bank(folder, tables(), RECIPE, {"seconds": 1.5})
    return folder


def shop(shift: int = 0, max_length: int = 10) -> Split:
    users = np.repeat(np.arange(NUM_USERS), 6)
    items = (np.arange(len(users)) * 5 + users + shift) % NUM_ITEMS
    return leave_one_out(
        build_log("shop", users, items, catalogue=np.arange(NUM_ITEMS)), max_length
    )


def items_table(seed: int = 0) -> AttributeTable:
    rng = np.random.default_rng(seed)
    return AttributeTable(
        np.arange(NUM_ITEMS), {"title": [" ".join(rng.choice(WORDS, 3)) for _ in range(NUM_ITEMS)]}
    )


def knowledge_config() -> KnowledgeConfig:
    config = KnowledgeConfig().with_fields(
        {"num_neighbours": 2, "width": 4, "item_template": "titled_item"}
    )
    return config


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


def test_prepare_makes_the_four_tables(tmp_path: pathlib.Path) -> None:
    """Would break Eq. 2: rows of length 1, and for each row the mean of its K nearest other rows, for items and users separately."""
    bank = prepare.prepare_bank(knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank")
    for own, similar, rows in (
        (bank.items, bank.items_similar, NUM_ITEMS),
        (bank.users, bank.users_similar, NUM_USERS),
    ):
        assert (
            own.shape == similar.shape == (rows, bank.width)
            and own.dtype == similar.dtype == np.float32
        )
        np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, rtol=1e-5)
        scores = own @ own.T
        np.fill_diagonal(scores, -np.inf)
        nearest = np.sort(scores, axis=1)[:, -2:].mean(
            axis=1
        )  # what the row's cosine with its pooled neighbours must be
        np.testing.assert_allclose(np.einsum("re,re->r", own, similar), nearest, atol=1e-5)
    assert (
        bank.manifest["recipe"]["cut_off"]
        == "training part of each history: all but the last two interactions"
    )
    assert bank.manifest["notes"]["items"] == NUM_ITEMS


def test_prepare_reuses_a_bank(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break daily runs: the second call opens what the first one wrote, encodes nothing and writes nothing."""
    calls = []
    real = LsaEncoder.fit
    monkeypatch.setattr(LsaEncoder, "fit", lambda *arguments: calls.append(1) or real(*arguments))
    first = prepare.prepare_bank(
        knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank"
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = prepare.prepare_bank(
        knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank"
    )
    assert (
        len(calls) == 1
        and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    )
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in TABLES)


def test_prepare_is_deterministic(tmp_path: pathlib.Path) -> None:
    """Would break reruns: the same recipe gives the same bits, in two folders."""
    one, two = (
        prepare.prepare_bank(knowledge_config(), shop(), Texts(items_table()), tmp_path / name)
        for name in ("one", "two")
    )
    assert one.manifest["checksums"] == two.manifest["checksums"]


CHANGES = {
    "encoder": "tfidf_projection",
    "width": 5,
    "seed": 1,
    "num_neighbours": 1,
    "retrieval": "scann",
    "center": False,
    "dtype": "float16",
    "item_template": "listed_item",
    "user_template": "beauty_user",
}


@pytest.mark.parametrize("field", CHANGES)
def test_recipe_knows_the_config(tmp_path: pathlib.Path, field: str) -> None:
    """Would break results: a bank of another config, used silently; the field is named."""
    config = knowledge_config()
    prepare.prepare_bank(config, shop(), Texts(items_table()), tmp_path / "bank")
    config = config.with_fields({field: CHANGES[field]})
    message = refusal(prepare.prepare_bank, config, shop(), Texts(items_table()), tmp_path / "bank")
    assert_names(message, (str(tmp_path / "bank"), f"has {field}=", "but the run needs"))


CONTEXTS: dict[str, dict[str, Any]] = {  # among them, every field is in play
    "lsa": {},
    "sentences": {"encoder": "sentence_transformers", "sentence.model": "a/model"},
    "embeddings": {"encoder": "openai"},
    "endpoint": {"describer": "openai"},
    "local model": {"describer": "transformers"},
    "files": {"encoder": "file", "item_file": "items.npy", "user_file": "users.npy"},
    "reduced": {"reduction.kind": "pca", "reduction.width": 3},
    "approximate": {"retrieval": "clusters"},
    "damaged": {"corruption.kind": "swap", "corruption.share": 0.1},
}
OTHER = {
    "item_template": "titled_item",
    "user_template": "beauty_user",
    "base_url": "http://localhost:8000/v1",
    "text_columns": ("brand",),
    "group_column": "title",
    "user_group_column": "age",
    "personal_fields": ("age",),
    "share_personal_fields": ("age",),
    "encoder": "tfidf_projection",
    "key_variable": "OTHER_KEY",
    "audit.history_groups": (1, 2),
    "min_recall": 0.5,
    "duplicate_cosine": 0.5,
    "model": "b/model",
}


def other_value(name: str, about: About) -> Any:
    """Another value that the field may have."""
    last = name.rpartition(".")[2]
    if name in OTHER or last in OTHER:
        return OTHER.get(name, OTHER.get(last))
    if isinstance(about.check, Choice):
        return next(one for one in reversed(about.check.names) if one != about.default)
    return (
        not about.default
        if isinstance(about.default, bool)
        else "x"
        if isinstance(about.default, str)
        else about.default + 1
    )


def test_what_affects_the_bank_is_in_its_recipe(tmp_path: pathlib.Path) -> None:
    """A field could change the bank and not its recipe, and a bank of other values be used; or refuse banks for nothing."""
    for name in ("one", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    people = AttributeTable(np.arange(NUM_USERS), {"age": list(range(NUM_USERS))})
    items = AttributeTable(
        np.arange(NUM_ITEMS),
        {**items_table().columns, "attributes": ["red"] * NUM_ITEMS, "brand": ["A"] * NUM_ITEMS},
    )
    start = {
        "local.model": str(tmp_path / "one"),
        "describe.base_url": "http://here/v1",
        "embed.base_url": "http://here/v1",
    }
    by_content = {
        "item_file",
        "user_file",
        "item_ids_file",
        "user_ids_file",
    }  # the files' content is in the recipe, wherever they lie
    known = dict(fields_of(KnowledgeConfig))
    enters = set()
    for context in CONTEXTS.values():
        config = KnowledgeConfig().with_fields({**start, **context})
        before = recipe.bank_recipe(config, shop(), Texts(items, people))
        for name, about in known.items():
            other = str(tmp_path / "b") if name == "local.model" else other_value(name, about)
            if (
                recipe.bank_recipe(config.with_fields({name: other}), shop(), Texts(items, people))
                != before
            ):
                enters.add(name)
    assert (
        enters - by_content == {name for name, about in known.items() if about.affects is BANK}
        and by_content <= enters
    )
    assert not any(known[name].affects is BANK for name in by_content)


def test_recipe_knows_the_centre(tmp_path: pathlib.Path) -> None:
    """A bank with its own mean would be used although the config names another bank's; an earlier version only recorded it."""
    prepare.prepare_bank(knowledge_config(), shop(), Texts(items_table()), tmp_path / "monday")
    around = knowledge_config().with_fields({"centre_from": str(tmp_path / "monday")})
    prepare.prepare_bank(around, shop(shift=1), Texts(items_table()), tmp_path / "bank")
    other = knowledge_config().with_fields({"centre_from": str(tmp_path / "bank")})
    for config in (knowledge_config(), other):
        assert "has centre_from=" in refusal(
            prepare.prepare_bank, config, shop(shift=1), Texts(items_table()), tmp_path / "bank"
        )
    content = read_sealed(tmp_path / "bank" / MANIFEST, "")
    del content["recipe"]["centre_from"]
    write_sealed(tmp_path / "bank" / MANIFEST, content)
    prepare.prepare_bank(around, shop(shift=1), Texts(items_table()), tmp_path / "bank")
    assert "has centre_from=" in refusal(
        prepare.prepare_bank, other, shop(shift=1), Texts(items_table()), tmp_path / "bank"
    )


def test_recipe_knows_the_data(tmp_path: pathlib.Path) -> None:
    """Would break results: a bank of other histories, or of other ready-made user texts, used silently."""
    user_texts = [f"likes {word} soap" for word in (*WORDS, "red", "oil")]
    prepare.prepare_bank(
        knowledge_config(), shop(), Texts(items_table(), of_users=user_texts), tmp_path / "bank"
    )
    message = refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(shift=1),
        Texts(items_table(), of_users=user_texts),
        tmp_path / "bank",
    )
    assert "has source=" in message
    message = refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        Texts(items_table(), of_users=user_texts[::-1]),
        tmp_path / "bank",
    )
    assert "has user_histories=" in message
    assert "has user_histories=" in refusal(
        prepare.prepare_bank, knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank"
    )


def file_config(folder: pathlib.Path, seed: int = 0) -> KnowledgeConfig:
    rng = np.random.default_rng(seed)
    for kind, rows in (("items", NUM_ITEMS), ("users", NUM_USERS)):
        np.save(folder / f"{kind}.npy", rng.standard_normal((rows, 4)).astype(np.float32))
    files = {"item_file": str(folder / "items.npy"), "user_file": str(folder / "users.npy")}
    return knowledge_config().with_fields({"encoder": "file", **files})


def test_recipe_knows_the_content_of_vector_files(tmp_path: pathlib.Path) -> None:
    """Would break results: vectors exchanged under the same name; a copy under another name is the same bank."""
    first = prepare.prepare_bank(file_config(tmp_path), shop(), Texts(), tmp_path / "bank")
    (tmp_path / "copy").mkdir()
    again = prepare.prepare_bank(file_config(tmp_path / "copy"), shop(), Texts(), tmp_path / "bank")
    assert np.array_equal(first.items, again.items)
    assert "has files=" in refusal(
        prepare.prepare_bank, file_config(tmp_path, seed=1), shop(), Texts(), tmp_path / "bank"
    )


def test_recipe_knows_the_ids_files(tmp_path: pathlib.Path) -> None:
    """Would break results: with the ids file mended, the bank with vectors at the wrong items would be used on."""
    config = file_config(tmp_path)
    config = config.with_fields({"item_ids_file": str(tmp_path / "ids.txt")})
    (tmp_path / "ids.txt").write_text("".join(f"{item}\n" for item in range(NUM_ITEMS)))
    prepare.prepare_bank(config, shop(), Texts(), tmp_path / "bank")
    (tmp_path / "ids.txt").write_text("".join(f"{item}\n" for item in reversed(range(NUM_ITEMS))))
    refusal(prepare.prepare_bank, config, shop(), Texts(), tmp_path / "bank")


def test_recipe_knows_the_text_of_the_items(tmp_path: pathlib.Path) -> None:
    """Would break results: with titles added or corrected, the bank of the old ones would be used on."""
    prepare.prepare_bank(knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank")
    refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        Texts(items_table(seed=1)),
        tmp_path / "bank",
    )


def test_recipe_knows_how_much_history_is_described(tmp_path: pathlib.Path) -> None:
    """Would break results: a shared bank whose user texts hold fewer titles than this run's histories."""
    prepare.prepare_bank(
        knowledge_config(), shop(max_length=1), Texts(items_table()), tmp_path / "bank"
    )
    refusal(
        prepare.prepare_bank, knowledge_config(), shop(), Texts(items_table()), tmp_path / "bank"
    )


def test_a_folder_with_other_files_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback, and hours lost, where config.knowledge.path names a folder in use."""
    (tmp_path / "notes.txt").write_text("mine")
    assert str(tmp_path) in refusal(
        prepare.prepare_bank, knowledge_config(), shop(), Texts(items_table()), tmp_path
    )


@pytest.mark.parametrize("kind", ["items", "users"])
def test_neighbours_of_the_own_category(tmp_path: pathlib.Path, kind: str) -> None:
    """A column of the items or users table would be ignored, or a missing one be a KeyError."""
    column = {"items": "group_column", "users": "user_group_column"}[kind]
    config = knowledge_config().with_fields({column: "kind", "num_neighbours": 3})
    items, count = items_table(), {"items": NUM_ITEMS, "users": NUM_USERS}[kind]
    kinds = [row % 2 for row in range(count)]
    texts = {
        "items": Texts(dataclasses.replace(items, columns={**items.columns, "kind": kinds})),
        "users": Texts(items, AttributeTable(np.arange(NUM_USERS), {"kind": kinds})),
    }[kind]
    bank = prepare.prepare_bank(config, shop(), texts, tmp_path / "bank")
    table, own = getattr(bank, kind), np.array(kinds)
    scores = np.where(own[:, None] == own[None, :], table.astype(np.float64) @ table.T, -np.inf)
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :3]
    np.testing.assert_allclose(
        getattr(bank, f"{kind}_similar"), table[nearest].mean(axis=1), atol=1e-5
    )
    config = config.with_fields({column: "colour"})
    message = refusal(prepare.prepare_bank, config, shop(), texts, tmp_path / "other")
    assert_names(
        message, (f"config.knowledge.{column}: 'colour'", "expected a column of the table", "kind")
    )


def test_a_bank_by_scann_of_an_earlier_version_is_opened(tmp_path: pathlib.Path) -> None:
    """Its recipe names no floor, for it looked into as many leaves whatever the floor; hours of encoding would be done again."""
    made_by = {"retrieval": "scann", "num_neighbours": 2}
    save_bank(tmp_path / "bank", dict.fromkeys(TABLES, np.ones((3, 2), np.float32)), made_by, {})
    assert load_bank(tmp_path / "bank", {**made_by, "min_recall": 0.8}).width == 2
    message = refusal(load_bank, tmp_path / "bank", {**made_by, "num_neighbours": 3})
    assert_names(message, ("num_neighbours=2", "needs 3"))


def test_an_index_that_finds_too_little_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours that are none would go into training unseen."""
    config = knowledge_config()
    config = config.with_fields({"retrieval": "scann"})
    monkeypatch.setattr(
        neighbours,
        "search_scann",
        lambda unit, k, labels, target, progress, index: np.roll(np.arange(len(unit)), 1)[
            :, None
        ].repeat(k, 1),
    )
    message = refusal(prepare.prepare_bank, config, shop(), Texts(items_table()), tmp_path / "bank")
    assert_names(
        message,
        (
            "config.knowledge.retrieval: scann finds 0.",
            "config.knowledge.min_recall=0.9",
            "use 'exact'",
        ),
    )
    assert not (tmp_path / "bank").exists()
