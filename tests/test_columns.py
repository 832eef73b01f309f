"""Attributes of an items table: each is in the texts or reported as unused, and none brings markup into them."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.knowledge import recipe, texts
from grasp_jax.knowledge.text import columns
from tests.refusal import assert_names, refusal

SHOP: dict[str, list[Any]] = {
    "title": ["Soap", "Oil &amp; more", None],
    "brand": ["Acme", None, "Rose"],
    "category": [["Bath", "Bars"], [["Hair", "Oils"]], []],
    "price": [3.5, None, 2.0],
    "cost": ["$3.50", "$4", None],
    "url": ["https://shop/1", "https://shop/2", "https://shop/3"],
    "photo": ["a/1.jpg", "a/2.jpg", "a/3.jpg"],
    "code": ["B00-41", "B00-42", "B00-43"],
    "nothing": [None, "", []],
    "item_notes": ["mild", "for <b>dry</b><br>hair\n", float("nan")],
}
LISTED = "name is {title}.[[ It is listed under: {attributes}.]]"


def shop(**changes: Any) -> AttributeTable:
    return AttributeTable(
        np.arange(3),
        {name: values for name, values in (SHOP | changes).items() if values is not None},
    )


def split_of() -> Split:
    return leave_one_out(
        build_log("shop", np.repeat(np.arange(3), 4), np.arange(12) % 3, catalogue=np.arange(3)), 10
    )


def knowledge(*names: str, template: str = "listed_item") -> KnowledgeConfig:
    config = KnowledgeConfig().with_fields({"text_columns": names, "item_template": template})
    return config


def item_texts(config: KnowledgeConfig, table: AttributeTable) -> list[str]:
    prompt, _ = texts.prompts_of(config, split_of(), SourceTexts(table))
    return [prompt(row).removeprefix("The item has the following attributes: ") for row in range(3)]


def sampled(config: KnowledgeConfig, split: Split, sources: SourceTexts) -> list[str]:
    """Lines on columns, two prompts of items and one of a user."""
    lines, prompts = texts.sample_prompts(config, split, sources, 2, 1)
    return lines + prompts


def test_all_columns_of_text_are_used_by_default() -> None:
    """Brand, category and description would change nothing, though the README says "any attributes"."""
    assert item_texts(knowledge(), shop()) == [
        "name is Soap. It is listed under: brand: Acme; category: Bath, Bars; item notes: mild.",
        "name is Oil & more. It is listed under: category: Hair, Oils; item notes: for dry hair.",
        "name is unknown. It is listed under: brand: Rose.",
    ]


def test_columns_can_be_named() -> None:
    """A user could not leave a column out, or have one that looks like no text."""
    assert (
        item_texts(knowledge("cost", "brand"), shop())[0]
        == "name is Soap. It is listed under: cost: $3.50; brand: Acme."
    )
    assert item_texts(knowledge("cost, brand"), shop()) == item_texts(
        knowledge("cost", "brand"), shop()
    ), "as a flag gives them"
    own = shop(attributes=[["x", "y"], [], ["z"]])
    assert item_texts(knowledge(), own)[0] == "name is Soap. It is listed under: x, y.", (
        "the table's own column comes first"
    )
    assert item_texts(knowledge("attributes"), own)[0] == "name is Soap. It is listed under: x, y."
    assert (
        item_texts(knowledge("title", "attributes", "brand"), own)[0]
        == "name is Soap. It is listed under: x, y; brand: Acme."
    )


def test_columns_that_cannot_be_used_are_refused(tmp_path: pathlib.Path) -> None:
    """A mistyped name, or one that the template has no place for, would be ignored."""
    message = refusal(item_texts, knowledge("colour"), shop())
    assert_names(
        message,
        (
            "config.knowledge.text_columns: 'colour' is no column of the items table",
            "title, brand, category",
        ),
    )
    message = refusal(item_texts, knowledge("brand", template="titled_item"), shop())
    assert_names(
        message,
        (
            "config.knowledge.text_columns: 'brand' has no place in config.knowledge.item_template",
            "{attributes}",
        ),
    )
    (tmp_path / "own.txt").write_text("{title} by {brand}")
    assert (
        item_texts(knowledge("brand", template=str(tmp_path / "own.txt")), shop())[0]
        == "Soap by Acme"
    )


def test_used_and_unused_columns_are_named(tmp_path: pathlib.Path) -> None:
    """A user would not learn that a column of the table changes nothing, or that the template names one that is not there."""
    lines = sampled(
        knowledge(),
        split_of(),
        SourceTexts(shop(item_notes=["a " * 300, "x", "y"], brand=["b" * 401, "b", "c"])),
    )
    assert lines[0] == (
        "items: text from title, brand, category, item_notes; not used: price (no text), cost (no words), url (addresses), "
        "photo (addresses), code (ids), nothing (empty); 1 values are cut at 500 characters"
    )
    (tmp_path / "own.txt").write_text("{title} by {brand}[[ in {colour}]]")
    lines = sampled(
        knowledge(template=str(tmp_path / "own.txt")),
        split_of(),
        SourceTexts(shop(brand=["b" * 401, "b", "c"])),
    )
    assert lines[0].startswith("items: text from title, brand; not used: category, price (no text)")
    assert lines[0].endswith(
        "item_notes; no such column, so left out: colour; 1 values of more than 400 characters read as unknown"
    )


def test_samples_are_short_and_hold_nothing_personal() -> None:
    """The terminal, and whatever keeps its output, would hold what a user agreed to share with the encoder alone; or pages of text."""
    users = AttributeTable(np.arange(3), {"age": [31, 32, 33], "level": ["high"] * 3})
    config = knowledge()
    config = config.with_fields(
        {"user_template": "industry_user", "share_personal_fields": ("age",)}
    )
    sources = SourceTexts(shop(title=["s" * 300, "t", "u"]), users)
    lines = sampled(config, split_of(), sources)
    assert (
        lines[1].startswith("users: text from ")
        and lines[1].endswith("; not used: level")
        and len(lines) == 5
    )
    assert (
        lines[2].startswith("item 0: The item has")
        and len(lines[2]) == 200
        and lines[2].endswith(" ...")
    )
    assert (
        lines[3]
        == "item 1: The item has the following attributes: name is t. It is listed under: category: Hair, Oils; "
        + ("item notes: for dry hair.")
    )
    assert (
        lines[4].startswith("a user: ")
        and "aged" not in lines[4]
        and all("\n" not in line for line in lines)
    )
    assert "aged 32" in texts.prompts_of(config, split_of(), sources)[1](1)
    config = config.with_fields({"share_personal_fields": ()})
    assert sampled(config, split_of(), sources)[1].endswith(
        "; not used: level; held back as personal: age"
    )
    sources = SourceTexts(shop(), of_users=["likes a", "likes b", "likes c"])
    assert sampled(knowledge(), split_of(), sources)[-1] == "a user: likes b"
    config = config.with_fields({"encoder": "file"})
    assert (
        sampled(config, split_of(), sources)
        == sampled(knowledge(), split_of(), SourceTexts())
        == []
    )


def test_items_of_which_nothing_is_known() -> None:
    """A table with gaps would end in a traceback, or the texts say "None" or "nan"."""
    table = shop(**{name: [None, float("nan"), ""] for name in SHOP})
    assert item_texts(knowledge(), table) == ["name is unknown."] * 3


@pytest.mark.parametrize(
    "raw, expected",
    [
        ("Head &amp; Shoulders", "Head & Shoulders"),
        ("Caf&eacute; &#39;A&#x27; &amp;quot;B&amp;quot;", "Café 'A' \"B\""),
        ("<p>Soft <b>skin</b><br/>daily</p>", "Soft skin daily"),
        ("&lt;i&gt;fine&lt;/i&gt;", "fine"),
        ("a<script>alert('<b>')</script><!-- x --> b", "a b"),
        ("line\nbreak\tand\xa0space ", "line break and space"),
        (
            "Soap  and  Oil",
            "Soap  and  Oil",
        ),  # as it stands: texts without markup, and their vectors, stay what they were
        ("Head & Shoulders  2 in 1", "Head & Shoulders  2 in 1"),
        ("Iope <Air Cushion> <3 a < b > c", "Iope <Air Cushion> <3 a < b > c"),
        ("R&notes, AT&T;x", "R&notes, AT&T;x"),
        ("   ", ""),
    ],
)
def test_markup_is_taken_out(raw: str, expected: str) -> None:
    """The encoder would read "amp" and "br" as words; or a brand between < and > be lost."""
    assert columns.clean_text(raw) == expected


def test_titles_in_users_texts_are_cleaned() -> None:
    """A user's text would name an item otherwise than the item's own."""
    _, prompt = texts.prompts_of(knowledge(), split_of(), SourceTexts(shop()))
    assert "Oil & more" in prompt(1) and "&amp;" not in prompt(1)


def test_recipe_knows_what_attributes_are_made_of() -> None:
    """A bank of other columns, or of texts with markup, would be used without a word; or an unaffected bank be made again."""
    plain = {
        name: values for name, values in SHOP.items() if name in ("title", "brand", "category")
    }
    split = split_of()
    recipes = [
        recipe.bank_recipe(
            knowledge(*names), split, SourceTexts(AttributeTable(np.arange(3), plain))
        )
        for names in ((), ("brand",))
    ]
    assert [made["text_columns"] for made in recipes] == [["brand", "category"], ["brand"]]
    marked = AttributeTable(np.arange(3), plain | {"title": ["Soap", "Oil &amp;amp; more", None]})
    assert recipe.bank_recipe(knowledge(), split, SourceTexts(marked)) == recipes[0], (
        "the same text once it is cleaned"
    )
    own = AttributeTable(
        np.arange(3), {"title": ["a  b", "c", "d"], "attributes": [["x"], [], None]}
    )
    made = recipe.bank_recipe(knowledge(), split, SourceTexts(own))
    assert "text_columns" not in made and made["item_texts"] == recipe._hash(
        json.dumps({n: list(v) for n, v in own.columns.items()})
    )


def test_prices_are_not_taken_for_ids() -> None:
    """The summary would call a column of prices ids, and somebody would look for a fault in it."""
    assert columns.why_no_text("price", ["9.99", "10.99", "12", "7.50"]) == "no words"
    details = [{"Brand": "Acme", "UPC": "01"}]
    assert columns.why_no_text("details", details) == "no text: make columns of its values"
    assert columns.why_no_text("images", [details]) == "no text"
    assert columns.why_no_text("number", ["1001", "1002", "1003"]) == "ids"
    assert columns.why_no_text("version", ["A-1.5", "B-1.6", "7.50"]) == "ids"
