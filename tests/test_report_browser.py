"""The pages in a real browser: no error, no text below 12 px, nothing beyond the screen, and a table that sorts and filters by keyboard."""

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from grasp_jax.knowledge.audit.figures import all_figures
from grasp_jax.knowledge.audit.page import page as audit_page
from grasp_jax.knowledge.audit.tables import all_tables
from grasp_jax.report.runs import read_runs
from grasp_jax.report.write import write_report
from tests.test_audit_page import audit
from tests.test_report import workdir
from tests.test_service_page import QUIET

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
SMALL_TEXT = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode, own = text.parentElement, svg = own.closest("svg");
    if (!text.textContent.trim() || ["SCRIPT", "STYLE"].includes(own.tagName)) continue;
    let size = parseFloat(getComputedStyle(own).fontSize);
    if (svg && svg.viewBox.baseVal.width) size *= svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    if (size < 11.99) found.push(`${size}: ${text.textContent.trim()}`);
  }
  return found;
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("pages")
    long = "a_method_with_a_very_long_name_that_does_not_end"
    runs = [
        workdir(folder / "one", {"plain": 0.40, "grasp": 0.50, long: 0.2}),
        workdir(folder / "two", {"plain": 0.3}, **{"model.features": 32}),
    ]
    write_report(read_runs(",".join(runs)), folder / "report")
    own = audit()
    (folder / "audit.html").write_text(
        audit_page(own, "Audit", ["said"], all_tables(own), all_figures(own))
    )
    return {"report": folder / "report" / "index.html", "audit": folder / "audit.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.mark.parametrize("name", ["report", "audit"])
@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "light"), (390, "dark")])
def test_nothing_is_small_or_cut_off(
    browser: Any, pages: dict[str, pathlib.Path], name: str, width: int, scheme: str
) -> None:
    """On a phone text would shrink with a figure, or the page scroll sideways; the policy forbid the page's own script."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((own) => own.open = true)")
    assert page.evaluate(SMALL_TEXT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edges = (
        "[...document.querySelectorAll('nav a')].map((own) => own.getBoundingClientRect().right)"
    )
    assert all(right <= width for right in page.evaluate(edges))
    assert faults == []
    page.close()


def test_the_table_sorts_and_filters_by_keyboard(
    browser: Any, pages: dict[str, pathlib.Path]
) -> None:
    """Without a mouse the table would be a printout; or a sort put text in place of numbers."""
    page = browser.new_page()
    page.goto(pages["report"].as_uri())
    rows = "#all tbody tr:visible"
    every = page.locator("#all tbody tr").count()
    page.select_option("[name=protocol]", "")
    assert page.locator(rows).count() == every and f"{every} of {every}" in page.text_content(
        "#shown"
    )
    page.select_option("[name=protocol]", "whole catalogue")
    page.select_option("[name=run]", "fashion, features 64")
    assert page.locator(rows).count() == 3

    head = page.locator("#all th button", has_text="NDCG@10").first
    head.focus()
    page.keyboard.press("Enter")
    first = [text.strip() for text in page.locator(f"{rows} th").all_text_contents()]
    assert first[0] == "grasp" and first[-1].startswith("a_method")
    assert page.locator("#all th[aria-sort=descending]").count() == 1
    page.keyboard.press("Enter")
    assert page.locator(f"{rows} th").all_text_contents()[-1] == "grasp"
    page.fill("[name=text]", "pla")
    assert page.locator(f"{rows} th").all_text_contents() == ["plain"]
    page.close()
