"""The sheet for raters: safe in a spreadsheet, never overwritten, and read back however a spreadsheet saves it."""

import csv
import io
import pathlib

import numpy as np
import pytest

from grasp_jax.config import AuditConfig
from grasp_jax.knowledge.audit.groups import history_groups, wilson
from grasp_jax.knowledge.audit.ratings import rated_groups, read_ratings
from grasp_jax.knowledge.audit.sheet import HEADER, check_unfilled, neutral, sheet_rows, sheet_text
from grasp_jax.knowledge.audit.subjects import Descriptions, Subject
from tests.refusal import assert_names, refusal

LABELS = ["0 to 2", "3 to 4", "5 or more"]


@pytest.fixture
def subject() -> Subject:
    """120 users in three groups; descriptions of two are of no use, and one is its prompt."""
    texts = [f'=HYPERLINK("x{k}")\nsays the text' for k in range(120)]
    texts[7] = "prompt 7"
    statuses = np.zeros(120, np.uint8)
    statuses[:2] = 1, 2
    described = Descriptions(texts, statuses, lambda row: f"prompt {row}")
    return Subject(
        "users",
        np.array([f"+{k}" for k in range(120)]),
        history_groups(np.arange(120) // 30 + 1, (3, 5)),
        None,
        described,
    )


@pytest.mark.parametrize(
    "cell, safe",
    [
        ("=1+1", "'=1+1"),
        ("+cmd|x", "'+cmd|x"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-a\nb", "'-a\nb"),
        ("-3", "-3"),
        ("-0.004", "-0.004"),
        ("-", "-"),
        ("a=1", "a=1"),
        ("", ""),
        ("'=1", "'=1"),
    ],
)
def test_no_cell_is_a_formula(cell: str, safe: str) -> None:
    """A title could run a formula on the rater's machine; a negative number must stay one."""
    assert neutral(cell) == safe


def test_sheet_is_stratified_and_safe(subject: Subject) -> None:
    """A group would be missing or overweight, NA be judged, the order give the group away, or a formula be run."""
    config = AuditConfig().with_fields({"sheet_rows": 9})
    rows = sheet_rows([subject], config)
    assert rows == sheet_rows([subject], config), "a fixed seed"
    assert [[row[2] for row in rows].count(label) for label in LABELS] == [9, 9, 0]
    assert [row[2] for row in rows] != sorted(row[2] for row in rows)
    assert not {row[1] for row in rows} & {"+0", "+1", "+7"}
    config = config.with_fields({"seed": 1})
    assert {row[1] for row in sheet_rows([subject], config)} != {row[1] for row in rows}
    text = sheet_text(rows)
    assert text.startswith("\ufeff")
    header, *lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    assert tuple(header) == HEADER and len(lines) == 18
    for line in lines:
        assert line[0] == "users" and line[3] == f"prompt {line[1].lstrip('+')}" and line[5] == ""
        assert line[4] == f'\'=HYPERLINK("x{line[1].lstrip("+")}") says the text'


def test_a_filled_sheet_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    """Hours of a rater's work would be lost; an empty sheet written a second time is no reason to stop."""
    path = tmp_path / "sheet.csv"
    check_unfilled(path, "a")
    path.write_text("a")
    check_unfilled(path, "a")
    assert_names(
        refusal(check_unfilled, path, "b"),
        (str(path), "never overwritten", "--ratings", "move it away", "--out"),
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_ratings_by_group(tmp_path: pathlib.Path, separator: str) -> None:
    """A rate would be of another group, or an unjudged row count as supported."""
    lines = [HEADER]
    lines += [
        ("users", str(k), "3 to 4", "known; of, it", "text", value)
        for k, value in enumerate(["0", "2", " 1 ", "", "0"])
    ]
    lines += [
        ("items", "9", "0 to 2", "k", "t", "0"),
        ("users", "8", "0 to 2", "k", "t", "3"),
        ("", "", "", "", "", ""),
    ]
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(lines)
    (tmp_path / "sheet.csv").write_text("\ufeff" + out.getvalue(), encoding="utf-8")
    found = rated_groups(read_ratings(tmp_path / "sheet.csv", LABELS), LABELS)
    assert [(own.kind, own.group, own.rated, own.hallucinated, own.claims) for own in found] == [
        ("items", "0 to 2", 1, 0, 0.0),
        ("users", "0 to 2", 1, 1, 3.0),
        ("users", "3 to 4", 4, 2, 0.75),
    ]
    assert found[2].rate == 0.5 and (found[2].low, found[2].high) == wilson(2, 4)


BAD_SHEETS = {
    "group": (
        "users,1,4-Mar,k,t,1",
        ("row 2", "group '4-Mar'", "3 to 4", "config.knowledge.audit.history_groups"),
    ),
    "kind": ("shops,1,3 to 4,k,t,1", ("row 2", "kind 'shops'", "items, users")),
    "number": ("users,1,3 to 4,k,t,yes", ("row 2", "'yes'", "whole number from 0")),
    "absurd": ("users,1,3 to 4,k,t," + "9" * 5000, ("row 2", "'9999", "whole number from 0")),
    "negative": ("users,1,3 to 4,k,t,-1", ("row 2", "'-1'", "whole number from 0")),
    "nothing judged": ("users,1,3 to 4,k,t,", ("nothing is judged", "unsupported")),
}


@pytest.mark.parametrize("fault", BAD_SHEETS)
def test_bad_ratings_are_one_line(tmp_path: pathlib.Path, fault: str) -> None:
    """A slip of the hand would be a traceback, or a rate."""
    line, parts = BAD_SHEETS[fault]
    path = tmp_path / "sheet.csv"
    path.write_text(sheet_text([]) + line + "\r\n", encoding="utf-8")
    assert_names(refusal(read_ratings, path, LABELS), (str(path), *parts))


def test_files_that_are_no_sheet_are_one_line(tmp_path: pathlib.Path) -> None:
    """Another file, or another encoding, would be a traceback."""
    path = tmp_path / "sheet.csv"
    assert_names(refusal(read_ratings, path, LABELS), (str(path), "No such file", "--mode=audit"))
    path.write_text("kind,id,group\n")
    assert_names(
        refusal(read_ratings, path, LABELS), (str(path), "no column 'unsupported'", "header")
    )
    path.write_text("")
    assert "no column 'kind'" in refusal(read_ratings, path, LABELS)
    path.write_text("kind,group,unsupported\n" + "x" * 200_000)
    assert_names(
        refusal(read_ratings, path, LABELS), (str(path), "not readable CSV", "field larger")
    )
    path.write_bytes("kind,group,unsupported\nusers,3 to 4,é".encode("latin-1"))
    assert_names(refusal(read_ratings, path, LABELS), (f"{path}:2: ", "CSV UTF-8"))
    assert_names(refusal(read_ratings, tmp_path, LABELS), (str(tmp_path), "Is a directory"))
