"""Templates: they contain the attributes of items, and for users nothing about validation or test items."""

import contextlib
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import pytest

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import Split, leave_one_out
from grasp_jax.knowledge import prepare, texts
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.text import prompts
from tests.refusal import assert_names, refusal

SHIPPED = sorted(path.stem for path in prompts.TEMPLATE_FOLDER.glob("*.txt"))
ITEM_TEMPLATES = [name for name in SHIPPED if name.endswith("_item")]
USER_TEMPLATES = [name for name in SHIPPED if name.endswith("_user")]
TITLES = [f"Title{row:02d}" for row in range(30)]


def items_table() -> AttributeTable:
    return AttributeTable(np.arange(30), {"title": TITLES})


def histories(last_two: int = 0, seed: int = 0) -> list[list[int]]:
    """Ten histories of 3 to 12 items and two short ones; `last_two` above 0 changes the last two items of the long ones."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, 30, length).tolist() for length in rng.integers(3, 13, 10)]
    changed = [
        [*history[:-2], *((item + last_two) % 30 for item in history[-2:])] for history in drawn
    ]
    return [*changed, [4, 5], [6]]


def split_of(rows: list[list[int]], max_length: int = 100) -> Split:
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return leave_one_out(
        build_log("shop", users, np.concatenate(rows), catalogue=np.arange(30)), max_length
    )


def user_prompts(template: str, split: Split, titles: list[str]) -> list[str]:
    items = AttributeTable(np.arange(len(titles)), {"title": titles})
    prompt = prompts.user_prompt(template, prompts.History(split.train, split.log.items, items))
    return [prompt(row) for row in range(split.log.num_users)]


def item_prompts(template: str, items: AttributeTable) -> list[str]:
    prompt = prompts.item_prompt(template, items)
    return [prompt(row) for row in range(len(items.ids))]


def user_texts(split: Split, template: str = "shopper_user") -> list[str]:
    loaded = prompts.load_template(template)
    return user_prompts(loaded, split, prompts.item_titles(items_table()))


TEMPLATE = "Name {title}; brand {brand}.[[ In: {tags}.]][[ By {maker} of {place}.]]"
FILLED = {
    "everything": (
        {"title": "Soap", "brand": "Acme", "tags": ["a", "b"], "maker": "M", "place": "P"},
        "Name Soap; brand Acme. In: a, b. By M of P.",
    ),
    "single value missing": ({"title": "Soap", "brand": None}, "Name Soap; brand unknown."),
    "single value empty": ({"title": "", "brand": "Acme"}, "Name unknown; brand Acme."),
    "field absent": ({"title": "Soap"}, "Name Soap; brand unknown."),
    "list with gaps": (
        {"title": "Soap", "brand": "Acme", "tags": ["a", None, "", "b"]},
        "Name Soap; brand Acme. In: a, b.",
    ),
    "list of gaps": (
        {"title": "Soap", "brand": "Acme", "tags": [None, ""]},
        "Name Soap; brand Acme.",
    ),
    "half a clause": (
        {"title": "Soap", "brand": "Acme", "maker": "M", "place": ""},
        "Name Soap; brand Acme.",
    ),
    "numbers": ({"title": 7, "brand": 0.5, "tags": 3}, "Name 7; brand 0.5. In: 3."),
    "zero is a value": ({"title": "Soap", "brand": 0}, "Name Soap; brand 0."),
}


@pytest.mark.parametrize("case", FILLED)
def test_fill(case: str) -> None:
    """Would break prompts: a missing single value reads "unknown", a clause goes whole where one of its fields is empty."""
    fields, expected = FILLED[case]
    assert prompts.fill(TEMPLATE, fields) == expected


def test_long_values() -> None:
    """Would break the encoder's budget: junk of a single value becomes "unknown", a clause is cut."""
    limit = prompts.MAX_SINGLE_CHARACTERS
    assert prompts.fill("{title}", {"title": "a" * limit}) == "a" * limit
    assert prompts.fill("{title}", {"title": "a" * (limit + 1)}) == prompts.UNKNOWN
    assert (
        prompts.fill("[[{tags}]]!", {"tags": ["b" * 5000]})
        == "b" * prompts.MAX_CLAUSE_CHARACTERS + "!"
    )


def test_braces_in_a_value_are_text() -> None:
    """Would break an item whose own text holds braces: it would be filled in like a template."""
    assert (
        prompts.fill("{title}[[ ({tags})]]", {"title": "Soap", "tags": ["{title}", "{x}"]})
        == "Soap ({title}, {x})"
    )


def test_item_prompts_follow_the_rows() -> None:
    """Would break the match of text and embedding: one prompt per item, in row order."""
    items = AttributeTable(
        np.array(["q", "p"]), {"title": ["Hand cream", None], "tags": [["a"], []]}
    )
    assert item_prompts("{title}[[: {tags}]]", items) == ["Hand cream: a", "unknown"]


def test_template_with_a_field_that_the_data_lacks_is_refused() -> None:
    """Would break if every item's brand read "unknown" because the column has another name."""
    items = AttributeTable(np.arange(1), {"title": ["Soap"], "tags": [["a"]]})
    message = refusal(lambda: prompts.item_prompt("{title} {brand}", items))
    assert message.startswith(
        "item template: the template names 'brand', but the data has tags, title; take it out, or put it into a [[cl"
    )
    assert item_prompts("{title}[[ by {brand}]]", items) == ["Soap"], (
        "a clause may name what is not there"
    )
    assert_names(
        refusal(prompts.check_fields, "{a}", {}, "here"),
        ("here: the template names 'a'", "no fields"),
    )


def test_user_template_with_an_unknown_field_is_refused() -> None:
    """Would break if every user's text held a raw "{brand}"."""
    split = split_of(histories())
    history = prompts.History(split.train, split.log.items, items_table())
    assert "'brand'" in refusal(lambda: prompts.user_prompt("{titles} of {brand}", history))


def test_personal_attributes_stay_at_home(tmp_path: pathlib.Path) -> None:
    """What a user did not agree to share would leave the machine by default."""
    split = split_of(histories())
    items = AttributeTable(
        np.arange(30), {"title": TITLES, "price": [None, *range(1, 30)], "category": ["soap"] * 30}
    )
    users = AttributeTable(
        np.arange(12),
        {"age": [30 + k for k in range(12)], "city": ["X"] * 12, "level": ["high"] * 12},
    )
    history = prompts.History(split.train, split.log.items, items)
    template = "Level {level}, city {city}.[[ Aged {age}.]] Bought {purchases}."
    bought = "; ".join(
        f"{TITLES[item]}, soap" + (f", {item}" if item else "") for item in histories()[0][:-2]
    )
    assert (
        prompts.user_prompt(template, history, users, ("age", "city"))(0)
        == f"Level high, city unknown. Bought {bought}."
    )
    assert (
        prompts.user_prompt(template, history, users, ("city",))(0)
        == f"Level high, city unknown. Aged 30. Bought {bought}."
    )
    config = KnowledgeConfig().with_fields({"user_template": str(tmp_path / "user.txt")})
    (tmp_path / "user.txt").write_text(template)
    sources = SourceTexts(items, users)
    assert texts.prompts_of(config, split, sources)[1](1).startswith(
        "Level high, city unknown. Bought"
    )
    config = config.with_fields({"share_personal_fields": ("age",)})
    assert texts.prompts_of(config, split, sources)[1](1).startswith(
        "Level high, city unknown. Aged 31. Bought"
    )


def test_load_template(tmp_path: pathlib.Path) -> None:
    """Would break own templates, and the list of names that a typing error is answered with."""
    own = tmp_path / "mine.txt"
    own.write_text("  Item {title}, né.\n\n", encoding="utf-8")
    assert prompts.load_template(str(own)) == "Item {title}, né."
    assert_names(
        refusal(prompts.load_template, "listed_itme"),
        ("'listed_itme'", "neither a file nor one of", *SHIPPED),
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"Item {title}\nna\xefve",
            "mine.txt:2: b'\\xefve' is not UTF-8 text; it is config.knowledge.item_template",
        ),
        (
            b"",
            "mine.txt: the file is empty; expected text with fields such as {title}, because it is config.knowledge.item_template",
        ),
        (b" \n\n", "mine.txt: the file is empty; expected text"),
        (
            b"Describe the title",
            "mine.txt: 'Describe the title' names no field, so all texts would be the same",
        ),
    ],
)
def test_templates_that_are_none_are_one_line(
    tmp_path: pathlib.Path, content: bytes, expected: str
) -> None:
    """Would break with a traceback, or give every item the same text."""
    (tmp_path / "mine.txt").write_bytes(content)
    config = KnowledgeConfig().with_fields({"item_template": str(tmp_path / "mine.txt")})
    assert expected in refusal(
        texts.prompts_of, config, split_of(histories()), SourceTexts(items_table())
    )
    config = config.with_fields({"item_template": "A thing called {title}. " * 50})
    message = refusal(texts.prompts_of, config, split_of(histories()), SourceTexts(items_table()))
    assert (
        message.startswith("config.knowledge.item_template: 'A thing called {title}.")
        and "neither a file nor one of" in message
    )


@pytest.mark.parametrize("name", ITEM_TEMPLATES)
def test_shipped_item_templates(name: str) -> None:
    """Would break a template that comes with the project: a field that is misspelt, a brace or bracket that stays."""
    template = prompts.load_template(name)
    named = set(re.findall(r"\{(\w+)\}", template))
    assert "title" in named
    full = prompts.fill(template, {field: f"<{field}>" for field in named})
    assert all(f"<{field}>" in full for field in named) and not re.search(r"[\[\]{}]", full)
    bare = prompts.fill(template, {"title": "Soap"})
    assert (
        "Soap" in bare
        and not re.search(r"[\[\]{}]", bare)
        and "  " not in bare
        and bare.endswith(".")
    )


@pytest.mark.parametrize("name", USER_TEMPLATES)
def test_shipped_user_templates(name: str) -> None:
    """Would break a template that comes with the project: without a users table its history is all it may need."""
    template = prompts.load_template(name)
    needed = re.findall(r"\{(\w+)\}", re.sub(r"\[\[.*?\]\]", "", template))
    assert needed in (["titles"], ["purchases"])
    (text, *_) = user_texts(split_of([[7, 3, 1, 2]]), name)
    assert re.search("Title07[,;] Title03", text) and "{" not in text


def test_defaults_are_shipped() -> None:
    """Would break the first run of everybody: the templates that the default config names exist."""
    config = KnowledgeConfig()
    assert config.item_template in ITEM_TEMPLATES and config.user_template in USER_TEMPLATES


@pytest.mark.parametrize("max_length", [100, 3])
def test_user_prompts_hold_the_training_titles_and_no_other(max_length: int) -> None:
    """Would break the protocol: text of the validation or test item in the user's description, or titles out of order."""
    rows = histories()
    for row, text in zip(rows, user_texts(split_of(rows, max_length)), strict=True):
        training = row[:-2] if len(row) >= 3 else row
        assert re.findall(r"Title\d\d", text) == [
            TITLES[item] for item in training[-(max_length + 1) :]
        ]


@pytest.mark.parametrize("name", USER_TEMPLATES)
def test_last_two_items_leave_user_prompts_as_they_are(name: str) -> None:
    """Would break the protocol (leakage): whatever the targets are, the users' texts must be equal to the letter."""
    before, after = split_of(histories()), split_of(histories(last_two=11))
    assert (before.test.target != after.test.target).sum() == 10 and (
        before.valid.target != after.valid.target
    ).sum() == 10
    assert user_texts(before, name) == user_texts(after, name)
    assert user_texts(before, name) != user_texts(split_of(histories(seed=1)), name), (
        "the training part does change them"
    )


def test_last_two_items_do_not_reach_the_encoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Would break the protocol if `prepare` filled its prompts from another part than the training part."""
    seen: list[tuple[list[str], list[str]]] = []

    @contextlib.contextmanager
    def spy(self: LsaEncoder, texts: dict[str, list[str]]) -> Iterator[None]:
        seen.append((list(texts["items"]), list(texts["users"])))
        yield

    monkeypatch.setattr(LsaEncoder, "session", spy)
    config = KnowledgeConfig().with_fields({"num_neighbours": 2})
    for last_two in (0, 11):
        prepare.prepare_bank(
            config,
            split_of(histories(last_two)),
            SourceTexts(items_table()),
            tmp_path / str(last_two),
        )
    assert seen[0] == seen[1] and len(seen[0][0]) == 30 and len(seen[0][1]) == 12
    assert seen[0][1] == user_texts(split_of(histories()), config.user_template)


def test_long_histories_keep_the_newest_titles() -> None:
    """Would break long histories: the encoder reads so many characters, and the newest say most."""
    titles = [f"{row:04d}" + "x" * 96 for row in range(200)]
    split = leave_one_out(build_log("long", np.zeros(200, int), np.arange(200)), 1000)
    (text,) = user_prompts("{titles}", split, titles)
    assert (
        len(text) == prompts.MAX_HISTORY_CHARACTERS
        and text.endswith(titles[197])
        and titles[150] in text
        and titles[0] not in text
    )


def test_missing_titles_read_unknown() -> None:
    """Would break with "None" in the text of a user who bought an item without title."""
    assert prompts.item_titles(AttributeTable(np.arange(3), {"title": ["Soap", None, ""]})) == [
        "Soap",
        "unknown",
        "unknown",
    ]
