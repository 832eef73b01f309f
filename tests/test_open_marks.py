"""A quotation mark that is not closed hides rows in no column: it is refused with its row, and texts of several lines are not."""

import csv
import gzip
import io
import pathlib
import random

import pytest

from grasp_jax.config.data import REFUSE, SKIP
from grasp_jax.data import open_marks, streamed, table_files
from tests.logs import read_interactions
from tests.refusal import assert_names, refusal
from tests.tables import COLUMNS

HEADER = "user,item,timestamp,review\n"
OPEN = {  # rows behind a good one, and how many lines the mark hides
    "a skipped row": (',y,4,"not closed\nb,z,5,good\nc,w,6,"closed"\ne,v,3,fine\n', 2),
    "a good row": ('b,y,4,"not closed\nb,z,5,good\nc,w,6,"closed"\ne,v,3,fine\n', 2),
    "the next row closes it": (',y,4,"not closed\nc,w,6,"closed"\ne,v,3,fine\n', 1),
    "two are open": (',y,4,"not closed\nb,z,5,"this neither\ne,v,3,fine\n', 1),
    "up to the end": (',y,4,"not closed\nb,z,5,good\nc,w,6,fine\n', 2),
    "the end of line differs": (',y,4,"not closed\r\nb,z,5,good\r\nc,w,6,"closed"\r\n', 2),
}
WORDS = ("good", "", "a, b", 'he said "no"', "two\nlines", "x,y,z,1", "1,2,3", '"', ",", "\n", "ok")


def read_rows(path: pathlib.Path, bad_rows: str = SKIP) -> tuple[int, list[int]]:
    """Rows that were read, and the number of interactions of each user."""
    log, report = read_interactions(path, "log", COLUMNS, bad_rows=bad_rows)
    return report.rows, log.lengths.tolist()


@pytest.mark.parametrize("case", OPEN)
@pytest.mark.parametrize("bad_rows", [SKIP, REFUSE])
def test_hidden_rows_are_refused_with_the_row_and_a_remedy(
    tmp_path: pathlib.Path, case: str, bad_rows: str
) -> None:
    """With `bad_rows=skip` the rows behind the mark were gone, and the summary counted one row."""
    rows, hidden = OPEN[case]
    path = tmp_path / "interactions.csv"
    path.write_bytes(f"{HEADER}a,x,3,fine\n{rows}".encode())
    said = refusal(read_interactions, path, "log", COLUMNS, 0.0, None, 0.0, bad_rows)
    lines = "1 line" if hidden == 1 else f"{hidden} lines"
    assert_names(said, (str(path), "row 2", "column 'review'", lines, "close or remove the mark"))
    assert "config.data.bad_rows" not in said, "which would not help"


@pytest.mark.parametrize("column", ["review", ""])
def test_a_mark_in_another_column_than_the_last(tmp_path: pathlib.Path, column: str) -> None:
    """Only the last column would be looked at, or a column without a name end in a traceback."""
    path = tmp_path / "interactions.csv"
    text = f'user,item,{column},timestamp\na,x,fine,3\nb,y,"open,4\nc,z,"closed",5\n'
    path.write_text(text)
    said = refusal(read_interactions, path, "log", COLUMNS)
    assert_names(said, ("row 2", f"column {column or 3!r}", "1 line"))


@pytest.mark.parametrize("text", ["r1\nb,y,4,r2", "r1\n1,2,3,4\n", 'he wrote: ""b,y\n1,2,3,""4'])
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_closed_text_may_look_like_rows(
    tmp_path: pathlib.Path, text: str, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reviews that quote a table would be refused, or make a large file be read with all its columns."""
    content = f'{HEADER}a,x,3,fine\nb,y,4,"{text}"\n'.encode()
    path = tmp_path / f"interactions.csv{packing}"
    path.write_bytes(gzip.compress(content) if packing else content)
    found = []
    stream = streamed.stream_delimited
    with monkeypatch.context() as patched:
        patched.setattr(
            table_files,
            "stream_delimited",
            lambda *given: found.append(stream(*given)) or found[-1],
        )
        assert read_rows(path, REFUSE) == (2, [1, 1])
    assert found[0] is not None
    monkeypatch.setattr(table_files, "stream_delimited", lambda *given: None)
    assert read_rows(path, REFUSE) == (2, [1, 1]), "read whole"


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_hidden_when_one_mark_is_lost(
    tmp_path: pathlib.Path, seed: int, quoting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's `csv` writes texts of every kind: all rows are read, and without one of the marks all rows are, or none."""
    monkeypatch.setattr(open_marks, "BLOCK", 64)
    monkeypatch.setattr(streamed, "BLOCK", 4096)
    rng = random.Random(seed)
    rows = [(f"u{k}", f"i{k}", 1_500_000_000 + k, rng.choice(WORDS)) for k in range(30)]
    written = io.StringIO()
    csv.writer(written, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    path = tmp_path / "interactions.csv"
    path.write_text(HEADER + written.getvalue())
    assert read_rows(path, REFUSE) == (len(rows), [1] * len(rows))
    marks = [place for place, character in enumerate(written.getvalue()) if character == '"']
    for place in rng.sample(marks, 12):
        path.write_text(HEADER + written.getvalue()[:place] + written.getvalue()[place + 1 :])
        try:
            count, _ = read_rows(path)
        except Exception:
            refusal(read_interactions, path, "log", COLUMNS, 0.0, None, 0.0, SKIP)
            continue
        assert count >= len(rows), written.getvalue()[place - 40 : place + 40]
