"""Runs the Python code of README and docs/: the blocks of a page in their order, in one namespace.

Pages whose code has its own, more thorough test are named in `test_docs.RUN_ELSEWHERE`. A block that cannot run here has the
comment `<!-- not run: why -->` above it.
"""

import csv
import os
import pathlib
import re
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from benchmarks import tutorial_pages
from tests.test_docs import PAGES, ROOT, RUN_ELSEWHERE, name_of

NOT_RUN = "<!-- not run: "
BLOCK = re.compile(
    r"(?:^<!-- not run: ([^\n]+) -->\n\n?)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE
)
TRAINED = """
import shutil
shop = gj.Dataset.read("folder")
model = gj.Recommender(method="id_text_sum").fit(shop, workdir="WORKDIR")
model.save("model")
shutil.copytree("folder", "today")
"""
CONFIG_FILE = """
import pathlib
from grasp_jax.setup.command import write_config
write_config(pathlib.Path("shop"), "shop_config.py")
"""
BEFORE: dict[
    tuple[str, ...], str
] = {  # pages that are run one after the other -> what they take as given
    ("README.md",): "",
    ("docs/start.md",): "",
    ("docs/python.md",): CONFIG_FILE,
    ("docs/knowledge.md", "docs/representations.md"): TRAINED,
}
QUICK = (("README.md",), ("docs/start.md",))  # what strangers copy first
SAME = {"docs/index.md": "README.md"}  # pages with the code of another one


def code_of(page: str) -> list[tuple[str, str]]:
    """Why it is not run (empty: it is), and the code, of each Python block of a page."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(pages, id=" ".join(pages), marks=[pytest.mark.slow] * (pages not in QUICK))
        for pages in BEFORE
    ],
)
def test_python_of_a_page_runs(
    pages: tuple[str, ...], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that people copy would not run as it stands; sizes alone are made small here."""
    names = shop_of_a_reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gj, "Recommender", Small, raising=False)
    exec(BEFORE[pages], names)
    for page in pages:
        for why, code in code_of(page):
            if not why:
                exec(compile(code, page, "exec", dont_inherit=True), names)
    shown = names["model"].recommend(users=["ann", "lee"], k=3)  # type: ignore[attr-defined]
    assert shown["user"].tolist() == ["ann"] * 3 + ["lee"] * 3


def test_every_page_with_python_is_run() -> None:
    """A page would be added whose code nobody runs, or code be marked as not run without a reason."""
    for path in PAGES:
        found = code_of(name_of(path))
        count = path.read_text(encoding="utf-8").count("```python")
        assert len(found) == count, f"{name_of(path)}: a block of Python does not begin a line"
        if not found:
            continue
        run = path.name in RUN_ELSEWHERE or path.stem in tutorial_pages.TUTORIALS
        here = any(name_of(path) in pages for pages in BEFORE) or name_of(path) in SAME
        assert run or here, name_of(path)
        assert all(len(why) > 8 for why, _ in found if why)
    for page, other in SAME.items():
        assert code_of(page) == code_of(other)


class Small(gj.Recommender):
    """A recommender that is trained for an epoch."""

    def __init__(self, config: gj.Config | None = None, **fields: object) -> None:
        small: dict[str, object] = {
            "features": 8,
            "mlp": (8,),
            "backbone": "gru4rec",
            "knowledge__width": 8,
            "num_neighbours": 3,
            "max_epochs": 1,
            "max_length": 8,
            "num_negatives": 20,
        }
        super().__init__(config, **(small | fields))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        dataset: gj.Dataset | None = None,
        method: str | None = None,
        backbone: str | None = None,
    ) -> gj.Recommender:
        """Opens what the line above has trained, where a page names the backbone that it would have without `small`."""
        return super().load(folder, dataset, method, backbone and "gru4rec")


def shop_of_a_reader(folder: pathlib.Path) -> dict[str, object]:
    """The files and frames that the pages name: items B00A to B00Z and more, users ann, lee and others."""
    rng = np.random.default_rng(0)
    ids = [f"B00{chr(65 + n % 26)}{'' if n < 26 else n}" for n in range(60)]
    ids = [name for name in ids if name not in ("B00X", "B00Y", "B00Z")]  # those come later
    words = ("mild", "soap", "shampoo", "night", "cream", "oil", "hair", "rose", "mint", "lotion")
    titles = [" ".join(rng.choice(words, 3, replace=False)) for _ in ids]
    items = {"item": ids, "title": titles, "brand": rng.choice(["Acme", "Velora"], len(ids))}
    people = ["ann", "lee", *(f"u{n}" for n in range(60))]
    rows = [
        (user, ids[item], 1_000_000_000 + 86_400 * day)
        for user in people
        for day, item in enumerate(rng.choice(len(ids), 6, replace=False))
    ]
    interactions = dict(zip(("user", "item", "timestamp"), zip(*rows, strict=True), strict=True))
    frames = {name: list(values) for name, values in interactions.items()}
    for place, renamed in (("folder", {}), ("shop", {"user": "customer", "item": "sku"})):
        (folder / place).mkdir()
        write_csv(
            folder / place / "interactions.csv", {renamed.get(k, k): v for k, v in frames.items()}
        )
        write_csv(folder / place / "items.csv", items)
    users = {"user": people, "city": ["Paris"] * len(people)}
    return {
        "__name__": "page",
        "gj": gj,
        "np": np,
        "interactions": frames,
        "items": items,
        "users": users,
    }


def write_csv(path: pathlib.Path, columns: dict[str, list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
