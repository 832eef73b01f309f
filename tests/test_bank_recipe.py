"""The recipe of a bank: all that decides its vectors is in it, and nothing else."""

import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import BANK, About, KnowledgeConfig
from grasp_jax.config.checks import Choice
from grasp_jax.config.fields import fields_of
from grasp_jax.core.files import read_sealed, write_sealed
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.knowledge import prepare, recipe
from grasp_jax.knowledge.bank import MANIFEST
from tests.banks import (
    NUM_ITEMS,
    NUM_USERS,
    WORDS,
    file_config,
    items_table,
    knowledge_config,
    shop,
)
from tests.refusal import assert_names, refusal

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
    prepare.prepare_bank(config, shop(), SourceTexts(items_table()), tmp_path / "bank")
    config = config.with_fields({field: CHANGES[field]})
    message = refusal(
        prepare.prepare_bank, config, shop(), SourceTexts(items_table()), tmp_path / "bank"
    )
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
        before = recipe.bank_recipe(config, shop(), SourceTexts(items, people))
        for name, about in known.items():
            other = str(tmp_path / "b") if name == "local.model" else other_value(name, about)
            if (
                recipe.bank_recipe(
                    config.with_fields({name: other}), shop(), SourceTexts(items, people)
                )
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
    prepare.prepare_bank(
        knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "monday"
    )
    around = knowledge_config().with_fields({"centre_from": str(tmp_path / "monday")})
    prepare.prepare_bank(around, shop(shift=1), SourceTexts(items_table()), tmp_path / "bank")
    other = knowledge_config().with_fields({"centre_from": str(tmp_path / "bank")})
    for config in (knowledge_config(), other):
        assert "has centre_from=" in refusal(
            prepare.prepare_bank,
            config,
            shop(shift=1),
            SourceTexts(items_table()),
            tmp_path / "bank",
        )
    content = read_sealed(tmp_path / "bank" / MANIFEST, "")
    del content["recipe"]["centre_from"]
    write_sealed(tmp_path / "bank" / MANIFEST, content)
    prepare.prepare_bank(around, shop(shift=1), SourceTexts(items_table()), tmp_path / "bank")
    assert "has centre_from=" in refusal(
        prepare.prepare_bank, other, shop(shift=1), SourceTexts(items_table()), tmp_path / "bank"
    )


def test_recipe_knows_the_data(tmp_path: pathlib.Path) -> None:
    """Would break results: a bank of other histories, or of other ready-made user texts, used silently."""
    user_texts = [f"likes {word} soap" for word in (*WORDS, "red", "oil")]
    prepare.prepare_bank(
        knowledge_config(),
        shop(),
        SourceTexts(items_table(), of_users=user_texts),
        tmp_path / "bank",
    )
    message = refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(shift=1),
        SourceTexts(items_table(), of_users=user_texts),
        tmp_path / "bank",
    )
    assert "has source=" in message
    message = refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        SourceTexts(items_table(), of_users=user_texts[::-1]),
        tmp_path / "bank",
    )
    assert "has user_histories=" in message
    assert "has user_histories=" in refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        SourceTexts(items_table()),
        tmp_path / "bank",
    )


def test_recipe_knows_the_content_of_vector_files(tmp_path: pathlib.Path) -> None:
    """Would break results: vectors exchanged under the same name; a copy under another name is the same bank."""
    first = prepare.prepare_bank(file_config(tmp_path), shop(), SourceTexts(), tmp_path / "bank")
    (tmp_path / "copy").mkdir()
    again = prepare.prepare_bank(
        file_config(tmp_path / "copy"), shop(), SourceTexts(), tmp_path / "bank"
    )
    assert np.array_equal(first.items, again.items)
    assert "has files=" in refusal(
        prepare.prepare_bank,
        file_config(tmp_path, seed=1),
        shop(),
        SourceTexts(),
        tmp_path / "bank",
    )


def test_recipe_knows_the_ids_files(tmp_path: pathlib.Path) -> None:
    """Would break results: with the ids file mended, the bank with vectors at the wrong items would be used on."""
    config = file_config(tmp_path)
    config = config.with_fields({"item_ids_file": str(tmp_path / "ids.txt")})
    (tmp_path / "ids.txt").write_text("".join(f"{item}\n" for item in range(NUM_ITEMS)))
    prepare.prepare_bank(config, shop(), SourceTexts(), tmp_path / "bank")
    (tmp_path / "ids.txt").write_text("".join(f"{item}\n" for item in reversed(range(NUM_ITEMS))))
    refusal(prepare.prepare_bank, config, shop(), SourceTexts(), tmp_path / "bank")


def test_recipe_knows_the_text_of_the_items(tmp_path: pathlib.Path) -> None:
    """Would break results: with titles added or corrected, the bank of the old ones would be used on."""
    prepare.prepare_bank(knowledge_config(), shop(), SourceTexts(items_table()), tmp_path / "bank")
    refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        SourceTexts(items_table(seed=1)),
        tmp_path / "bank",
    )


def test_recipe_knows_how_much_history_is_described(tmp_path: pathlib.Path) -> None:
    """Would break results: a shared bank whose user texts hold fewer titles than this run's histories."""
    prepare.prepare_bank(
        knowledge_config(), shop(max_length=1), SourceTexts(items_table()), tmp_path / "bank"
    )
    refusal(
        prepare.prepare_bank,
        knowledge_config(),
        shop(),
        SourceTexts(items_table()),
        tmp_path / "bank",
    )
