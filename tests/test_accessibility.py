"""axe-core on the report, the audit and the service's page, light and dark, on a desktop and a phone: names, labels, landmarks, contrast.

Needs Chromium and the package axe-playwright-python (extra `browser`).
"""

import pathlib
from typing import Any

import pytest

from tests.test_report_browser import CHROMIUM, browser, pages
from tests.test_service_page import folder, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]
__all__ = ["browser", "folder", "pages"]  # fixtures
SCREENS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
# axe leaves text in drawings undecided, for a drawing may have anything behind it. Here that is one colour of the drawing or around it.
OF_DRAWINGS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [.2126, .7152, .0722][k], 0);
  const behind = (own) => { const found = parts(getComputedStyle(own).backgroundColor);
    return found[3] === 0 ? behind(own.parentElement) : found; };
  return [...document.querySelectorAll("svg text")].filter((own) => own.getBoundingClientRect().width).map((own) => {
    const [a, b] = [light(parts(getComputedStyle(own).fill)), light(behind(own.closest("svg")))];
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), own.textContent];
  }).filter(([ratio]) => ratio < 4.5);
}"""


def axe() -> str:
    """The script that looks for faults."""
    package = pytest.importorskip("axe_playwright_python")
    return (pathlib.Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(page: Any) -> list[str]:
    """Each rule that the page breaks, with the first element; contrast that axe cannot decide is decided for drawings."""
    page.evaluate(axe())
    said = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(said["passes"]) > 15, "axe looked at next to nothing"
    found = [
        f"{own['id']} ({own['impact']}): {own['nodes'][0]['html'][:200]}"
        for own in said["violations"]
    ]
    return found + [f"contrast of {text}: {ratio}" for ratio, text in page.evaluate(OF_DRAWINGS)]


@pytest.mark.parametrize("name", ["report", "audit"])
@pytest.mark.parametrize("width, scheme", SCREENS)
def test_reports(
    browser: Any, pages: dict[str, pathlib.Path], name: str, width: int, scheme: str
) -> None:
    """Somebody who hears the page, or sees colours badly, could not read it."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((own) => own.open = true)")
    assert faults(page) == []
    page.close()


def test_the_page_of_the_service(browser: Any, folder: pathlib.Path) -> None:
    """As above, in all states of the page: empty, while searching, with lists of two models, with an error and a wish for a token."""
    with serving(folder, f"--compare={folder / 'other'}") as address:
        for width, scheme in SCREENS:
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(address)
            page.locator("#other li").first.wait_for()
            assert faults(page) == [], (width, scheme, "empty")
            page.fill("#search", "ml")
            page.locator("#found li").nth(1).wait_for()
            page.press("#search", "ArrowDown")
            assert faults(page) == [], (width, scheme, "searching")
            page.press("#search", "Enter")
            page.locator("#list .why", has_text="most like").first.wait_for()
            page.evaluate("document.querySelector('details').open = true")
            page.evaluate("document.getElementById('login').hidden = false")
            page.evaluate("document.getElementById('error').textContent = 'no such item'")
            assert faults(page) == [], (width, scheme, "answered")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()


def test_faults_are_found(browser: Any) -> None:
    """The tests above would pass on any page."""
    page = browser.new_page()
    page.set_content(
        "<html lang=en><title>x</title><body style='background: #fff'><main><h1>x</h1><input><p style='color: #aaa'>pale</p>"
        "<svg width=99 height=40><text y=20 fill='#999'>paler</text></svg></main>"
        + "<ul><li>x</li></ul>"
        * 3
    )
    page.evaluate(axe())
    said = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert {"label", "color-contrast"} <= {own["id"] for own in said["violations"]}
    assert [text for _, text in page.evaluate(OF_DRAWINGS)] == ["paler"]
    page.close()
