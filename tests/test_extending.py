"""Runs the code of docs/extending.md unchanged."""

import dataclasses
import pathlib
import re

import pytest

from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.models import registration
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.models.registration import register_backbone, register_method
from tests.refusal import assert_names, refusal
from tests.trained import at_small_size

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture
def as_before() -> object:
    """What the page registers is forgotten afterwards."""
    kept = [(known, dict(known)) for known in (METHODS, BACKBONES, ENCODERS)]
    yield
    for known, before in kept:
        known.clear()
        known.update(before)  # type: ignore[arg-type]


@pytest.mark.usefixtures("as_before")
def test_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader would copy code that does not work: a method, a backbone, a metric and an encoder, each trained or asked."""
    at_small_size(monkeypatch)
    found: dict[str, object] = {"__name__": "extending"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), found)
    rows, shown = found["rows"], found["shown"]
    assert {len(vector) for vector in found["titles"].item_vectors()["vector"]} == {9}  # type: ignore[attr-defined]
    extra = rows[rows["rare_items_shown"].notna()]  # type: ignore[index]
    assert [*extra["protocol"]] == ["full", "full_unseen"]
    assert extra["rare_items_shown"].between(0, 1).all() and extra["Recall@10"].between(0, 1).all()
    assert len(shown) == 15  # type: ignore[arg-type]


def test_what_cannot_be_registered_is_refused() -> None:
    """A class in place of an object, or a second method of one name, would fail in the middle of a training."""
    plain = METHODS["plain"]
    assert_names(
        refusal(register_method, "mine", type(plain)), ("register_method", "expected an object")
    )
    assert_names(refusal(register_method, "My method", plain), ("'My method'", "lower-case"))
    assert_names(refusal(register_method, "grasp", plain), ("'grasp' is taken",))
    assert_names(
        refusal(register_backbone, "mine", plain), ("register_backbone", "expected a subclass")
    )
    register_method("plain", plain)
    rnn = type("Rnn", (BACKBONES["gru4rec"],), {})
    assert_names(refusal(register_backbone, "sasrec", rnn), ("'sasrec' is taken",))
    other = dataclasses.replace(METHODS["grasp_softmax"], gate="none")  # type: ignore[type-var]
    assert_names(refusal(register_method, "grasp_softmax", other), ("'grasp_softmax' is taken",))


def test_a_cell_of_a_notebook_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mends a method in a notebook would have to start again, or another class replace it."""
    monkeypatch.setattr(registration, "METHODS", dict(METHODS))
    for _ in range(2):  # each time another class of the same name
        mine = type("Mine", (type(METHODS["plain"]),), {"__module__": "__main__"})()
        register_method("mine", mine)
        assert registration.METHODS["mine"] is mine
    assert_names(refusal(register_method, "mine", METHODS["grasp"]), ("'mine' is taken",))
