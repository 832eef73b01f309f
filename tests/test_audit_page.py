"""The page of an audit: findings by their levels, the worst first, and tables of zeros folded."""

import dataclasses

import numpy as np
import pytest

from grasp_jax.knowledge.audit.categories import Agreement
from grasp_jax.knowledge.audit.figures import all_figures
from grasp_jax.knowledge.audit.findings import ANISOTROPY, EMPTY, KEPT, NO_VECTOR, findings
from grasp_jax.knowledge.audit.measure import Audit, Cluster, Vectors
from grasp_jax.knowledge.audit.page import is_zero, page
from grasp_jax.knowledge.audit.ratings import RatedGroup
from grasp_jax.knowledge.audit.tables import all_tables
from grasp_jax.knowledge.audit.texts import GroupTexts
from grasp_jax.knowledge.audit.vectors import Cosines, Norms
from grasp_jax.report.tables import ReportTable


def group(rows: int, **fields: float | None) -> GroupTexts:
    own = GroupTexts(
        group="0 to 2",
        rows=rows,
        na=0.0,
        refused=0.0,
        unanswered=0.0,
        words=(1.0, 2.0, 3.0),
        read=rows,
        kept=1.0,
        mostly_lost=0.0,
        compared=rows,
        claims=1.0,
        unsupported=0.0,
        with_unsupported=0.0,
        interval=(0.0, 0.1),
    )
    return dataclasses.replace(own, **fields)


def audit() -> Audit:
    cosines = Cosines(np.full(9, 0.4), np.full(9, 0.3), np.full(9, 0.8))
    vectors = Vectors(
        rows=100,
        width=8,
        norms=Norms(1.0, 1.0, 1.0, 0),
        cosines=cosines,
        cluster_sizes={2: 5, 30: 1},
        largest=[Cluster(30, ["A long title <b> " * 3, "Another one"])],
        agreement=Agreement("category", 0.5, 0.4, 0.1),
    )
    texts = {"items": [group(10, na=0.5), group(90, kept=0.4)], "users": [group(50)]}
    recipe: dict[str, object] = {"encoder": "lsa", "num_neighbours": 3}
    return Audit(recipe, 0.99, texts, {"items": vectors}, [])


def test_findings_are_of_the_numbers_and_the_worst_comes_first() -> None:
    """A knowledge bank half of whose items are duplicates would begin with what is well."""
    found = findings(audit())
    assert [own.level for own in found] == sorted(
        (own.level for own in found), key=("red", "amber", "green").index
    )
    said = {own.text: own.level for own in found}
    assert (
        said[
            "5.0 % of the descriptions of items are empty: the language model knew nothing (NA), refused or did not answer."
        ]
        == "amber"
    )
    assert (
        said["Descriptions of items keep 46.0 % of the words that the data have about them."]
        == "red"
    )
    assert said["40.0 % of the items are near-duplicates of another."] == "red"
    assert said["Two items drawn at random have a cosine of 0.30 on average."] == "amber"
    assert said["0 of 100 items have no vector."] == "green"
    assert any("5.0 times as often as chance" in text for text in said)


def test_people_are_believed_before_the_rule() -> None:
    """The rule would have the last word though people have judged."""
    rated = [RatedGroup("users", "0 to 2", 20, 8, 0.4, 0.2, 0.6, 1.0)]
    said = {own.text: own.level for own in findings(dataclasses.replace(audit(), rated=rated))}
    assert said["People found an unsupported claim in 40.0 % of 20 descriptions of users."] == "red"
    assert not any("of users have a number" in text for text in said)


@pytest.mark.parametrize(
    "rule, value, level",
    [
        (EMPTY, 0.049, "green"),
        (EMPTY, 0.05, "amber"),
        (EMPTY, 0.2, "red"),
        (KEPT, 0.81, "green"),
        (KEPT, 0.8, "amber"),
        (KEPT, 0.5, "red"),
        (NO_VECTOR, 0.0, "green"),
        (NO_VECTOR, 0.001, "amber"),
        (ANISOTROPY, 0.6, "red"),
    ],
)
def test_levels_begin_where_the_page_says(rule: object, value: float, level: str) -> None:
    """A bound would be on the wrong side, or low be taken for good where it is bad."""
    assert rule.level(value) == level
    assert EMPTY.in_words() == "amber at 5 % or more, red at 20 % or more"
    assert KEPT.in_words() == "amber at 80 % or less, red at 50 % or less"


def test_zero_tables_are_folded() -> None:
    """Screens of zeros would hide the numbers; or a table with one number be hidden with them."""
    zero = ReportTable("a", "A", ["x", "y"], [["1 to 2", "0.0 %", "-"], ["3", "0", "0.00"]])
    assert is_zero(zero)
    assert not is_zero(dataclasses.replace(zero, rows=[["1", "0.0 %", "0.1 %"]]))
    assert not is_zero(dataclasses.replace(zero, rows=[["1", "0", "word"]]))
    assert not is_zero(dataclasses.replace(zero, rows=[]))


def test_the_page_begins_with_findings_and_wraps_clusters() -> None:
    """Titles of a cluster would run out of the page; a figure stand far from its table."""
    own = audit()
    text = page(own, "Title", ["line <1>"], all_tables(own), all_figures(own))
    places = [
        text.index(part) for part in ('id="findings"', 'class="red"', 'id="vectors"', ">Cosines<")
    ]
    assert places == sorted(places)
    assert 'class="wraps"' in text and "A long title &lt;b&gt;" in text and "line &lt;1&gt;" in text
