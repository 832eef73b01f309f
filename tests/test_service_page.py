"""The page of the service in a real browser: search, history, recommendations, why, and a new item."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import grasp_jax as gj
from tests.trained import SMALL

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """With a model that reads text in "model", and another one in "other"."""
    root = tmp_path_factory.mktemp("page")
    shop = gj.Dataset.synthetic(num_users=100, num_items=100)
    gj.Recommender(method="llm_esr", **SMALL).fit(shop).save(root / "model")
    gj.Recommender(method="popularity", **SMALL).fit(shop).save(root / "other")
    return root


@pytest.fixture(scope="module")
def address(folder: pathlib.Path) -> Iterator[str]:
    """Of a service of one model."""
    with serving(folder) as found:
        yield found


@contextlib.contextmanager
def serving(folder: pathlib.Path, *flags: str, model: str = "model") -> Iterator[str]:
    """The address of a service of a process of its own."""
    command = ["-m", "grasp_jax.serving.http.cli", "--port=0", "--batch-sizes=1", "--lengths=4"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, str(folder / model), *flags],
            stderr=log,
            stdout=log,
            env=os.environ,
        )
    try:
        yield _ready(process, folder / "log")
    finally:
        process.terminate()
        assert process.wait(60) == 0


def _ready(process: subprocess.Popen[bytes], log: pathlib.Path) -> str:
    """The address that the log names, once the model answers."""
    import re

    for _ in range(600):
        assert process.poll() is None, log.read_text()
        if port := re.search(r'"port": (\d+)', log.read_text()):
            address = f"http://127.0.0.1:{port[1]}/"
            try:
                urllib.request.urlopen(f"{address}ready").close()
                return address
            except OSError:
                pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page, in a new browser."""
    with browsing(address) as opened:
        yield opened


@contextlib.contextmanager
def browsing(address: str) -> Iterator[Any]:
    """The page of an address, in which no script may fail."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened, faults = browser.new_page(), []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on(
            "console", lambda said: faults.append(said.text) if said.type == "error" else None
        )
        opened.goto(address)
        yield opened
        browser.close()
        usual = "409", "401"  # of an id that is there already, and without the token
        assert not [said for said in faults if not any(status in said for status in usual)]


def titles(page: Any, of: str) -> list[str]:
    return [str(text) for text in page.locator(f"{of} .title").all_text_contents()]


def test_a_history_is_made_by_keyboard_and_answered(page: Any) -> None:
    """Search, keyboard or answers would not work, and no other test would see it."""
    page.locator("#list li").first.wait_for()
    assert "bought most often" in page.text_content("#list")
    page.fill("#search", "ml")  # in many titles
    page.locator("#found li").nth(1).wait_for()
    second = page.locator("#found li").nth(1).text_content()
    page.press("#search", "ArrowDown")
    page.press("#search", "Enter")
    page.locator("#list .why", has_text="most like").first.wait_for()
    assert titles(page, "#history") == [second]
    assert second not in titles(page, "#list") and len(titles(page, "#list")) == 10
    page.check("#again")
    page.locator("#list .title", has_text=second).wait_for()
    page.click("#history button")
    page.locator("#list .why", has_text="bought most often").first.wait_for()
    assert not titles(page, "#history")


def test_a_token_is_asked_for(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who opens the page would read an error for programs before having done anything."""
    token = "a-token-of-a-test-0123456789"
    monkeypatch.setenv("GRASP_SERVE_TOKEN", token)
    with serving(folder) as own, browsing(own) as page:
        page.locator("#login:visible").wait_for()
        assert page.text_content("#error") == ""
        page.fill("#token", "a-wrong-token-of-a-test")
        page.press("#token", "Enter")
        page.locator("#error", has_text="another token").wait_for()
        page.fill("#token", token)
        page.press("#token", "Enter")
        page.locator("#list .title").first.wait_for()
        assert page.locator("#login:visible").count() == 0 and page.text_content("#error") == ""


def test_a_new_item_is_found_and_recommended(page: Any) -> None:
    """An item would be listed, and nobody find it."""
    page.locator("#list .title").first.wait_for()
    best = titles(page, "#list")[0]
    page.click("summary")
    page.fill("#new-id", "987654")
    page.fill("#new-title", f"{best} Refill")
    page.click("#new button")
    page.locator("#listed", has_text="101 items").wait_for()
    page.fill("#search", "refill")
    page.locator("#found li", has_text="Refill").wait_for()
    page.press("#search", "Enter")
    assert titles(page, "#history") == [f"{best} Refill"]
    page.locator("#list .why", has_text="Refill").first.wait_for()
    page.fill("#new-id", "987654")
    page.fill("#new-title", "twice")
    page.click("#new button")
    page.locator("#listed", has_text="987654").wait_for()


def test_the_slider_changes_the_list(page: Any) -> None:
    """The slider would move and the list stay, or the best item leave it."""
    page.locator("#list .title").first.wait_for()
    page.click("#popular")
    page.locator("#list .why", has_text="most like").first.wait_for()
    before = titles(page, "#list")
    page.focus("#variety")
    page.keyboard.press("End")
    page.locator("#variety-value", has_text="0.9").wait_for()
    shown = "[...document.querySelectorAll('#list .title')].map((own) => own.textContent)"
    page.wait_for_function(
        f"(was) => JSON.stringify({shown}) !== was",
        arg=page.evaluate("(was) => JSON.stringify(was)", before),
    )
    after = titles(page, "#list")
    assert len(after) == 10 and after[0] == before[0]
    page.keyboard.press("Home")
    page.locator("#variety-value", has_text="none").wait_for()
    page.wait_for_function(
        f"(was) => JSON.stringify({shown}) === was",
        arg=page.evaluate("(was) => JSON.stringify(was)", before),
    )


def test_gates_and_trust_are_shown(folder: pathlib.Path) -> None:
    """Nobody would see how a method with gates weights a text, or how far it trusts an ID vector."""
    shop = gj.Dataset.synthetic(num_users=100, num_items=100)
    options = {"plus__fusion": "early", "plus__gate": "paper", **SMALL}
    gj.Recommender(method="grasp_plus", **options).fit(shop).save(folder / "gated")
    with serving(folder, model="gated") as address, browsing(address) as page:
        page.locator("#list .title").first.wait_for()
        page.click("#popular")
        page.locator("#list .why", has_text="gates: self 0.").first.wait_for()
        for text in page.locator("#list .why").all_text_contents():
            assert (
                "similar 0." in text and "global 0." in text and "trust in its ID vector: " in text
            )


def test_two_models_stand_side_by_side(folder: pathlib.Path) -> None:
    """One model's list would be shown twice, or a phone cut the second one off."""
    with (
        serving(folder, f"--compare={folder / 'other'}") as address,
        browsing(address) as page,
    ):
        page.locator("#other li").first.wait_for()
        assert "llm_esr" in page.text_content("#first")
        assert "popularity" in page.text_content("#second")
        page.fill("#search", "ml")
        page.locator("#found li").first.wait_for()
        page.press("#search", "Enter")
        page.locator("#list .why", has_text="most like").first.wait_for()
        lists = [titles(page, own) for own in ("#list", "#other")]
        assert lists[0] != lists[1] and [len(own) for own in lists] == [10, 10]
        alone = page.locator("#list li", has_text="in this list alone").locator(".title")
        assert set(alone.all_text_contents()) == set(lists[0]) - set(lists[1])
        left, right = (page.locator(own).bounding_box() for own in ("#list", "#other"))
        assert abs(left["y"] - right["y"]) < 2 and right["x"] > left["x"] + left["width"] - 1
        page.set_viewport_size({"width": 360, "height": 740})
        above, below = (page.locator(own).bounding_box() for own in ("#list", "#other"))
        assert below["y"] > above["y"] + above["height"] - 1
        assert below["x"] + below["width"] <= 360
