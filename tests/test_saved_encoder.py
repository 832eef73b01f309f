"""Saved encoders: they encode a text as before, in the space of the bank's rows."""

import dataclasses
import hashlib
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.data.attributes import AttributeTable, Texts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.files import read_sealed, write_sealed
from grasp_jax.knowledge import prepare, recipe
from grasp_jax.knowledge.bank import ENCODER, MANIFEST, KnowledgeBank, identity
from grasp_jax.knowledge.encoders import ENCODERS, sentences
from grasp_jax.knowledge.encoders.file import FileEncoder
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.openai import OpenAiEncoder
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.encoders.sentences import SentenceEncoder
from grasp_jax.knowledge.encoders.tfidf import TfIdf
from grasp_jax.training.start_from import Earlier, check_basis
from tests.chat_server import ChatServer, running
from tests.refusal import assert_names, refusal
from tests.test_embeddings import Words

NUM_ITEMS, NUM_USERS, LONGEST = 60, 30, 5
WORDS = (
    "red",
    "blue",
    "green",
    "mild",
    "strong",
    "soap",
    "cream",
    "oil",
    "brush",
    "comb",
    "fine",
    "Ümlaut",
    "4711",
)


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 5)) for _ in range(count)]


def shop() -> Split:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 12, NUM_USERS)
    users = np.repeat(np.arange(NUM_USERS), lengths)
    return leave_one_out(
        build_log(
            "shop", users, rng.integers(0, NUM_ITEMS, len(users)), catalogue=np.arange(NUM_ITEMS)
        ),
        LONGEST,
    )


def sources(users: bool = False) -> Texts:
    titles = [
        f"{title} &amp; <b>co</b>" if row % 3 else title
        for row, title in enumerate(texts(NUM_ITEMS))
    ]
    columns = {
        "title": titles,
        "brand": [None if row % 5 == 0 else f"Brand {row % 4}" for row in range(NUM_ITEMS)],
        "category": [["Hair", "Oils"][row % 2 :] for row in range(NUM_ITEMS)],
        "price": [float(row) for row in range(NUM_ITEMS)],
    }
    people = {
        "age": [str(20 + row) for row in range(NUM_USERS)],
        "activity_level": [("high", "low")[row % 2] for row in range(NUM_USERS)],
    }
    return Texts(
        AttributeTable(np.arange(NUM_ITEMS), columns),
        AttributeTable(np.arange(NUM_USERS), people) if users else None,
    )


def config_of(**changes: Any) -> KnowledgeConfig:
    return KnowledgeConfig().with_fields({"num_neighbours": 4, "width": 12, **changes})


def make(folder: pathlib.Path, users: bool = False, **changes: Any) -> KnowledgeBank:
    return prepare.prepare_bank(config_of(**changes), shop(), sources(users), folder)


def saved(bank: KnowledgeBank) -> SavedTextEncoder:
    assert bank.encoder_folder is not None
    return SavedTextEncoder.load(bank.encoder_folder)


def attributes(rows: range = range(NUM_ITEMS)) -> list[dict[str, Any]]:
    items = sources().items
    assert items is not None
    return [items.fields(row) for row in rows]


def histories(split: Split) -> list[np.ndarray]:
    """Whole training histories, longer than the windows."""
    return [
        split.log.items[split.log.offsets[user] : split.train.end[user]]
        for user in range(NUM_USERS)
    ]


@pytest.mark.parametrize("name", ["lsa", "tfidf_projection"])
def test_a_fitted_encoder_comes_back(tmp_path: pathlib.Path, name: str) -> None:
    """Tomorrow's item would lie in another space than today's; texts without a known word, or without any, would be NaN."""
    encoder = ENCODERS[name].from_config(config_of(width=6)).fit(texts(40))
    encoder.save(tmp_path / "one")
    again = ENCODERS[name].load(tmp_path / "one")
    asked = [*texts(40), "never seen", "", "red RED red soap", "a"]
    np.testing.assert_array_equal(again.encode(asked), encoder.encode(asked))
    assert again.recipe() == encoder.recipe() and not again.encode(["never seen"]).any()
    again.save(tmp_path / "two")
    np.testing.assert_array_equal(
        ENCODERS[name].load(tmp_path / "two").encode(asked), encoder.encode(asked)
    )
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in (".npy", ".json", "")]


def test_tfidf_is_scikit_learns() -> None:
    """The encoder would be another than the one that the published figures rest on."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = sorted({word for text in texts(200) for word in text.split()})
    # Unknown words between known ones: a pair must not be found across one, nor across two texts.
    soup = np.random.default_rng(2).choice([*known, "ünknown", "İ", "x", "\n"], (200, 12))
    items, asked = texts(200), [*texts(60, 1), "", "Red red-soap, RED! ünknown", "4711 x 4711"]
    asked += [" ".join(words) for words in soup]
    vectoriser = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000, dtype=np.float32
    )
    matrix = vectoriser.fit_transform(items)
    tfidf, own = TfIdf.fit(items)
    assert (own != matrix).nnz == 0
    np.testing.assert_array_equal(
        tfidf.transform(asked).toarray(), vectoriser.transform(asked).toarray()
    )
    svd = TruncatedSVD(n_components=8, random_state=0, n_iter=4).fit(matrix)
    encoded = LsaEncoder(8, 0).fit(items).encode(asked)
    np.testing.assert_allclose(encoded, svd.transform(vectoriser.transform(asked)), atol=1e-6)


CASES: dict[str, dict[str, Any]] = {
    "lsa": {},
    "projection": {"encoder": "tfidf_projection", "width": 64},
    "whitened": {"reduction.kind": "pca", "reduction.width": 6, "whiten": True},
    "cut": {"reduction.kind": "truncate", "reduction.width": 6},
    "uncentred, weighted": {"center": False, "pooling": "similarity"},
    "columns": {"text_columns": ("category",)},
    "titles alone": {"item_template": "titled_item"},
    "industry": {"item_template": "industry_item", "user_template": "industry_user"},
}


@pytest.mark.parametrize("case", CASES)
def test_known_texts_get_the_banks_rows(tmp_path: pathlib.Path, case: str) -> None:
    """A gate would compare a user of today with items of another space; or the text be made otherwise than the bank's were."""
    bank, split = make(tmp_path / "bank", users=True, **CASES[case]), shop()
    encoder = saved(bank)
    items, people = sources(True).items, sources(True).users
    assert items is not None and people is not None
    np.testing.assert_allclose(encoder.encode_items(attributes()), bank.items, atol=1e-6)
    known = {name: items.columns[name] for name in encoder.history_columns}
    users = encoder.encode_users(
        histories(split), known, [people.fields(row) for row in range(NUM_USERS)]
    )
    np.testing.assert_allclose(users, bank.users, atol=1e-6)
    known_items = encoder.encode_items(attributes())
    for rows, table, means in (
        (users, bank.users, bank.users_similar),
        (known_items, bank.items, bank.items_similar),
    ):
        np.testing.assert_allclose(
            encoder.similar(rows, table, ~np.eye(len(table), dtype=bool)), means, atol=1e-5
        )


def test_a_copy_needs_nothing_else(tmp_path: pathlib.Path) -> None:
    """A saved model would work on the machine that trained it alone."""
    bank = make(tmp_path / "bank")
    expected = saved(bank).encode_items(attributes())
    saved(bank).save(tmp_path / "model" / "text")
    shutil.rmtree(tmp_path / "bank")
    copy = SavedTextEncoder.load(tmp_path / "model" / "text")
    np.testing.assert_array_equal(copy.encode_items(attributes()), expected)
    copy.save(tmp_path / "again")
    np.testing.assert_array_equal(
        SavedTextEncoder.load(tmp_path / "again").encode_items(attributes()), expected
    )


def test_new_items_and_users(tmp_path: pathlib.Path) -> None:
    """An item with fewer columns, an empty history or a neighbour that there is not would end in a traceback or NaN."""
    encoder = saved(bank := make(tmp_path / "bank", num_neighbours=4))
    rows = encoder.encode_items(
        [
            {"title": "red soap"},
            {"title": "red soap", "brand": None, "colour": "blue"},
            {"brand": "Brand 1"},
        ]
    )
    np.testing.assert_array_equal(rows[0], rows[1])
    users = encoder.encode_users([[], [0, 1], np.array([0, 1])], {"title": attributes_of("title")})
    assert np.isfinite(users).all() and np.array_equal(users[1], users[2])
    some = np.zeros((3, NUM_USERS), bool)
    some[0, :2] = some[1] = True
    means = encoder.similar(users, bank.users, some)
    np.testing.assert_allclose(means[0], bank.users[:2].mean(axis=0), atol=1e-6)
    assert not means[2].any(), "no row is allowed"
    assert_names(refusal(encoder.encode_items, [{"name": "soap"}]), ("item 0", "has name", "title"))
    assert_names(
        refusal(encoder.encode_users, [[0]], {"name": ["soap"]}),
        ("the items have name", "expected title"),
    )


def attributes_of(name: str) -> list[Any]:
    return [own[name] for own in attributes()]


def test_personal_columns_stay_out(tmp_path: pathlib.Path) -> None:
    """A text would tell an endpoint what the bank's own texts keep to themselves."""
    encoder = saved(make(tmp_path / "bank", users=True, user_template="industry_user"))
    assert encoder.writer is not None and encoder.writer.user_columns == ("activity_level",)
    (text,) = encoder.writer.user_texts(
        [[0]], {"title": attributes_of("title")}, [{"age": "44", "activity_level": "high"}]
    )
    assert "activity high" in text and "44" not in text


def test_no_text_from_files(tmp_path: pathlib.Path) -> None:
    """A user would be given another's vector, or none, where the bank's maker is unknown."""
    rng = np.random.default_rng(0)
    files = {"item_file": str(tmp_path / "items.npy"), "user_file": str(tmp_path / "users.npy")}
    given = {
        name: rng.standard_normal((rows, 6)).astype(np.float32)
        for name, rows in (("item_file", NUM_ITEMS), ("user_file", NUM_USERS))
    }
    for name, path in files.items():
        np.save(path, given[name])
    bank = prepare.prepare_bank(
        config_of(encoder="file", **files), shop(), Texts(), tmp_path / "bank"
    )
    encoder = saved(bank)
    for message in (
        refusal(encoder.encode_items, attributes()),
        refusal(encoder.encode_users, [[0]], {}),
    ):
        assert_names(
            message,
            (
                "encoder='file'",
                "made elsewhere",
                "cannot be encoded",
                "prepare the bank with an encoder",
            ),
        )
    np.testing.assert_allclose(encoder.rows_of("items", given["item_file"]), bank.items, atol=1e-6)


def test_a_describers_texts_are_the_template(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that is served would ask and pay an endpoint, or nobody learn that new texts read otherwise."""
    bank = make(tmp_path / "bank")
    encoder = saved(bank)
    object.__setattr__(encoder, "describer", "openai")
    encoder.save(tmp_path / "copy")
    with caplog.at_level("WARNING", "grasp_jax"):
        for _ in range(2):
            rows = SavedTextEncoder.load(tmp_path / "copy").encode_items(attributes())
    np.testing.assert_allclose(rows, bank.items, atol=1e-6)
    assert len(caplog.records) <= 1 and all(
        "'openai' wrote the bank's texts" in record.getMessage() for record in caplog.records
    )


def test_settings_of_others_models_come_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New texts would be encoded by another model or with another instruction; or a key lie in the folder."""
    monkeypatch.setattr(sentences, "load_model", lambda settings: Words())
    model = SentenceEncoder.from_config(
        config_of(**{"sentence.model": "BAAI/bge", "sentence.prefix": "say: "})
    )
    model.save(tmp_path / "sentences")
    again = SentenceEncoder.load(tmp_path / "sentences")
    assert again.recipe() == model.recipe()
    np.testing.assert_array_equal(
        again.encode(["red", "red soap"]), model.encode(["red", "red soap"])
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with running(ChatServer()) as server:
        settings = {
            "embed.cache": str(tmp_path / "cache"),
            "embed.dimensions": 12,
            "embed.base_url": server.url,
        }
        endpoint = OpenAiEncoder.from_config(config_of(**settings))
        endpoint.save(tmp_path / "endpoint")
        again = OpenAiEncoder.load(tmp_path / "endpoint")
        with endpoint.session({"items": ["red", "soap"]}):
            vectors = endpoint.encode(["red", "soap"])
        np.testing.assert_array_equal(again.encode(["red", "soap"]), vectors)
    assert again.recipe() == endpoint.recipe() and again.destination() == endpoint.destination()
    assert not [
        path for path in (tmp_path / "endpoint").rglob("*") if b"sk-secret" in path.read_bytes()
    ]


def test_another_model_in_the_same_folder_is_refused(tmp_path: pathlib.Path) -> None:
    """A folder that was updated gives vectors of another space."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    SentenceEncoder.from_config(config_of(**{"sentence.model": str(tmp_path / "model")})).save(
        tmp_path / "saved"
    )
    (tmp_path / "model" / "config.json").write_text('{"hidden_size": 3}')
    message = refusal(SentenceEncoder.load(tmp_path / "saved").encode, ["red"])
    assert_names(message, (str(tmp_path / "model"), "another model", "prepare the bank again"))
    shutil.rmtree(tmp_path / "model")
    assert "is not a folder any more" in refusal(
        SentenceEncoder.load(tmp_path / "saved").encode, ["red"]
    )


def encoder_files(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_damage_is_refused(tmp_path: pathlib.Path) -> None:
    """One bit of a frequency or of a template would move every new text a little, and nobody know."""
    bank = make(tmp_path / "bank", **{"reduction.kind": "pca", "reduction.width": 6})
    folder = tmp_path / "bank" / ENCODER
    expected = {
        f"{ENCODER}/{name}": hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in encoder_files(folder)
    }
    assert bank.manifest["encoder"] == expected and len(expected) == 8
    for name in encoder_files(folder):
        whole = (folder / name).read_bytes()
        for damage in (
            whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
            whole[: len(whole) // 2],
            b"",
        ):
            (folder / name).write_bytes(damage)
            assert str(folder / name) in refusal(SavedTextEncoder.load, folder)
            assert_names(
                refusal(make, tmp_path / "bank", **{"reduction.kind": "pca", "reduction.width": 6}),
                (name, "prepare it again"),
            )
        (folder / name).unlink()
        assert str(folder) in refusal(SavedTextEncoder.load, folder)
        (folder / name).write_bytes(whole)
    SavedTextEncoder.load(folder)


def test_a_bank_of_an_earlier_version_is_readable(tmp_path: pathlib.Path) -> None:
    """Banks that took hours, or that a model was trained on, would be lost; only a new text is refused."""
    make(tmp_path / "bank")
    content = read_sealed(tmp_path / "bank" / MANIFEST, "")
    del content["encoder"]
    write_sealed(tmp_path / "bank" / MANIFEST, content)
    shutil.rmtree(tmp_path / "bank" / ENCODER)
    assert make(tmp_path / "bank").encoder_folder is None
    assert "an earlier version made this knowledge bank" in refusal(
        SavedTextEncoder.load, tmp_path / "bank" / ENCODER
    )
    message = refusal(make, tmp_path / "tuesday", since=str(tmp_path / "bank"))
    assert_names(
        message,
        (
            "--since",
            "lacks its encoder",
            "'lsa'",
            "prepare without --since",
            "sentence_transformers",
        ),
    )


def test_one_user_takes_no_second(tmp_path: pathlib.Path) -> None:
    """A service would wait for scikit-learn before its first answer."""
    make(tmp_path / "bank")
    code = (
        "import sys, pathlib; from grasp_jax.knowledge.encoders.saved import SavedTextEncoder\n"
        f"rows = SavedTextEncoder.load(pathlib.Path({str(tmp_path / 'bank' / ENCODER)!r})).encode_users([[0]], {{'title': ['red soap']}})\n"
        "assert rows.shape == (1, 12) and not {'sklearn', 'pyarrow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    started = time.thread_time()  # not of the clock: another process may have the core meanwhile
    SavedTextEncoder.load(tmp_path / "bank" / ENCODER).encode_users([[0]], {"title": ["red soap"]})
    assert time.thread_time() - started < 1


def test_yesterdays_encoder_is_kept(tmp_path: pathlib.Path) -> None:
    """A model that continues from yesterday's would read every vector wrong, because an encoder that is fitted again has new directions."""
    monday = make(tmp_path / "monday")
    changed = sources()
    assert changed.items is not None
    changed.items.columns["title"][3] = "mild green oil"  # type: ignore[index]
    since = config_of(since=str(tmp_path / "monday"))
    tuesday = prepare.prepare_bank(since, shop(), changed, tmp_path / "tuesday")
    others = np.delete(np.arange(NUM_ITEMS), 3)
    np.testing.assert_array_equal(tuesday.items[others], monday.items[others])
    assert np.abs(tuesday.items[3] - monday.items[3]).max() > 0.01
    new = saved(monday).encode_items([changed.items.fields(3)])
    np.testing.assert_allclose(tuesday.items[3:4], new, atol=1e-6)
    np.testing.assert_array_equal(
        saved(tuesday).encode_items(attributes()), saved(monday).encode_items(attributes())
    )
    earlier = Earlier(
        tmp_path, {}, np.zeros(1), np.empty(0, str), {"bank": identity(monday.manifest)}
    )
    check_basis(earlier, tuesday, [tmp_path / "monday"], np.arange(NUM_ITEMS))
    anew = prepare.prepare_bank(config_of(), shop(), changed, tmp_path / "anew")
    assert np.abs(anew.items[others] - monday.items[others]).max() > 1e-4, (
        "fitted anew, everything moves"
    )
    again = prepare.prepare_bank(
        config_of(since=str(tmp_path / "tuesday")), shop(), changed, tmp_path / "wednesday"
    )
    np.testing.assert_array_equal(again.items, tuesday.items)


RECIPES: dict[
    str, tuple[dict[str, Any], dict[str, Any]]
] = {  # as they stood before encoders were classes
    "lsa": ({"width": 7, "seed": 3}, {"width": 7, "seed": 3}),
    "tfidf_projection": ({}, {"width": 12, "seed": 0}),
    "sentence_transformers": (
        {"sentence.model": "BAAI/bge", "sentence.prefix": "say: ", "sentence.batch_size": 3},
        {"sentence": {"model": "BAAI/bge", "prefix": "say: ", "pooling": "model", "max_tokens": 0}},
    ),
    "openai": (
        {"embed.dimensions": 8},
        {"embed": {"model": "text-embedding-3-small", "dimensions": 8}},
    ),
    "file": (
        {"item_file": "gone.npy"},
        {
            "files": {
                "item_file": "gone.npy",
                "user_file": "",
                "item_ids_file": "",
                "user_ids_file": "",
            }
        },
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_those_of_earlier_banks(name: str) -> None:
    """Every bank would be refused as another's."""
    changes, expected = RECIPES[name]
    config = config_of(encoder=name, **changes)
    assert ENCODERS[name].from_config(config).recipe() == expected
    whole = recipe.bank_recipe(config, shop(), sources())
    assert {key: whole[key] for key in expected} == expected and whole["encoder"] == name
    assert not (set(whole) - set(expected)) & {"width", "seed", "sentence", "embed", "files"}


SPEED = {
    "sentence": ("device", "batch_size"),
    "embed": tuple(set(KnowledgeConfig().embed.to_dict()) - {"model", "dimensions"}),
}


@pytest.mark.parametrize(
    "name, section", [("sentence_transformers", "sentence"), ("openai", "embed")]
)
def test_every_setting_of_an_encoder_is_in_its_recipe(name: str, section: str) -> None:
    """A setting that a later version adds would silently reuse vectors made without it."""
    config = config_of()
    before, settings = ENCODERS[name].from_config(config).recipe(), value_of(config, section)
    for field, value in settings.to_dict().items():
        other = dataclasses.replace(
            settings, **{field: f"{value}x" if isinstance(value, str) else value + 1}
        )
        changed = (
            ENCODERS[name].from_config(dataclasses.replace(config, **{section: other})).recipe()
            != before
        )
        assert changed == (field not in SPEED[section]), field


def test_an_encoder_of_ones_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program could not bring an encoder without changing this one."""

    class Lengths(FileEncoder):
        """Length of the text and of its first word."""

        reads_text = per_text = True

        def recipe(self) -> dict[str, object]:
            return {"lengths": 1}

        def encode(self, texts: Any) -> np.ndarray:
            return np.array([[len(text), text.find(" "), 1] for text in texts], np.float32)

    monkeypatch.setitem(ENCODERS, "lengths", Lengths)
    bank = make(tmp_path / "bank", encoder="lengths")
    assert bank.manifest["recipe"]["lengths"] == 1
    np.testing.assert_allclose(saved(bank).encode_items(attributes()), bank.items, atol=1e-6)
