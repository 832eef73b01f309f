"""The files of a saved encoder: they come back as they were, or are refused."""

import hashlib
import pathlib
import shutil

import numpy as np
import pytest

from grasp_jax.core.files import read_sealed, write_sealed
from grasp_jax.knowledge.bank import ENCODER, MANIFEST
from grasp_jax.knowledge.encoders import ENCODERS, sentences
from grasp_jax.knowledge.encoders.openai import OpenAiEncoder
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.knowledge.encoders.sentences import SentenceEncoder
from tests.chat_server import ChatServer, running
from tests.refusal import assert_names, refusal
from tests.saved_encoders import attributes, config_of, make, saved, texts
from tests.test_embeddings import Words


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
