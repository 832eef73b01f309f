"""Encoders: their recipes, TF-IDF against scikit-learn's, and an encoder of one's own."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.knowledge import recipe
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.knowledge.encoders.file import FileEncoder
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.tfidf import TfIdf
from tests.saved_encoders import attributes, config_of, make, saved, shop, sources, texts


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
