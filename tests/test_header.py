"""A file without a header is refused, because its first row would be lost; a true header never is."""

import pathlib

import pytest

from grasp_jax.data.attributes import read_attributes
from tests.logs import read_interactions, read_log
from tests.refusal import assert_names, refusal

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
LISTENED = "".join(
    f"user_{k // 3:06}\t2009-01-{k + 10}T06:47:10Z\tartist-{k}\tBand {k}\n" for k in range(9)
)
CLICKED = "".join(f"{k // 2},22683{k % 4 + 30},pv,15131657{k + 24}\n" for k in range(9))
UNTIMED = "".join(f"user_{k // 3:06},artist_{k % 4}\n" for k in range(9))

WITHOUT_HEADER = {
    "dates": (
        "log.tsv",
        LISTENED,
        {},
        (
            "looks like data ('2009-01-10T06:47:10Z'",
            "user\\ttimestamp\\titem\\tcolumn4 (\\t: a tab)",
            "add it as the first line",
        ),
    ),
    "dates, and a value as the name of a column": (
        "log.tsv",
        LISTENED,
        {"user": "user_000000", "item": "artist-0"},
        ("looks like data", "user\\ttimestamp\\titem\\tcolumn4"),
    ),
    "seconds": (
        "log.csv",
        CLICKED,
        {},
        ("looks like data ('1513165724'", "such as user,item,column3,timestamp;"),
    ),
    "dates with a zone, and titles with words of times": (
        "log.csv",
        "u1,Last Day on Earth,2024-01-31 10:00 UTC\nu1,Created at,2024-01-31 11:00 UTC\n",
        {},
        ("looks like data ('2024-01-31 10:00 UTC'", "such as user,item,timestamp;"),
    ),
    "seconds of the last century": (
        "log.csv",
        "196,242,3,881250949\n186,302,3,891717742\n",
        {"user": "196", "item": "242"},
        ("looks like data", "such as user,item,rating,timestamp;"),
    ),
    "values as the names of all columns": (
        "log.csv",
        UNTIMED,
        {"user": "user_000000", "item": "artist_0"},
        ("looks like data ('user_000000', which stands again in its column,", "user,item;"),
    ),
    "names over two values": (
        "log.csv",
        "user,item,pv,1513165724\n" + CLICKED,
        {},
        ("partly data ('1513165724'", "user,item,column3,timestamp", "back into that row"),
    ),
    "numbers only": (
        "log.csv",
        "196;242;3\n186;302;3\n",
        {"user": "196", "item": "242"},
        ("looks like data ('196'", "such as user;item;rating;"),
    ),
    "words that stand again": (
        "log.csv",
        "ann,tea\nbob,jam\nann,jam\nbob,tea\n",
        {},
        ("looks like data ('ann', which stands again", "such as user,item;"),
    ),
    "a row that is the first one again": (
        "log.csv",
        CLICKED + CLICKED,
        {},
        ("looks like data ('1513165724'",),
    ),
    "quotation marks": (
        "log.csv",
        '"u1","i1","2024-01-31"\n"u1","i2","2024-02-01"\n',
        {},
        ("looks like data ('2024-01-31'", "such as user,item,timestamp;"),
    ),
}


@pytest.mark.parametrize("case", WITHOUT_HEADER)
def test_a_first_row_of_data_is_refused(tmp_path: pathlib.Path, case: str) -> None:
    """Would break with a row of data as names of columns: it is lost, and the advice to set a column to one of them loses it for sure."""
    name, text, columns, parts = WITHOUT_HEADER[case]
    path = tmp_path / name
    path.write_text(text)
    message = refusal(read_interactions, path, "log", COLUMNS | columns)
    assert_names(message, (f"{path}: the first row ", "expected a ", *parts))


def test_the_line_that_the_message_shows_mends_the_file(tmp_path: pathlib.Path) -> None:
    """Would break if the line had another separator than the file, or a name too few."""
    path = tmp_path / "log.tsv"
    path.write_text("user\ttimestamp\titem\tcolumn4\n" + LISTENED)
    assert read_log(path, "log", COLUMNS).num_interactions == 9


TRUE_HEADERS = {
    "a number": "user,item,2019\nu1,i1,2019\nu1,i2,2019\n",
    "numbers": "user,item,2018,2020\nu1,i1,2018,2020\nu1,i2,2018,2020\n",
    "case": "User,ITEM,2019\nu1,i1,2019\nu2,i2,7\n",
    "numbers of columns": "user,item,0,1,2\nu1,i1,0,1,2\nu1,i2,0,1,2\n",
    "dates over counts": "user,item,2024-01-31,2024-02-01\nu1,i1,3,4\nu1,i2,5,6\n",
    "ids over counts": "user,item,10000017,10000023\nu1,i1,3,4\nu1,i2,5,6\n",
    "texts that are equal by chance": "user,item,genre,mood\nuser,i1,genre,mood\nu1,item,jazz,blue\n",
    "texts with a digit": "user,item,mp3,kind\nu1,i1,mp3,a\nu1,i2,,b\n",
    "a flag": "user,item,1080p\nu1,i1,1080p\nu1,i2,\nu1,i3,1080p\n",
    "counted features": "user,item,f1,f2,f3\nu1,i1,f1,f2,f3\nu1,i2,f2,f1,f3\n",
    "other letters": "user,item,日付２０１９,größe\nu1,i1,日付２０１９,größe\nu2,i2,,\n",
    "codes by chance in one row": "user,item,mp3,f7\nu1,i1,mp3,f7\nu2,i2,,\n",
    "no time": "user,item,time\nu1,i1,2024-01-31\nu1,i2,2024-02-01\n",
}


@pytest.mark.parametrize("case", TRUE_HEADERS)
def test_a_true_header_is_not_refused(tmp_path: pathlib.Path, case: str) -> None:
    """Would break a file of a wide table, whose header has numbers or dates, or words that are values by chance."""
    path = tmp_path / "log.csv"
    path.write_text(TRUE_HEADERS[case])
    log = read_log(path, "log", COLUMNS | {"timestamp": ""})
    assert log.num_interactions == TRUE_HEADERS[case].count("\n") - 1


def test_numbers_may_be_the_configured_names(tmp_path: pathlib.Path) -> None:
    """Would break a table that pandas wrote: without names of its own, columns are called 0, 1 and so on."""
    path = tmp_path / "log.csv"
    for header, columns in (("0,1,2", ("0", "1")), ("0,3", ("0", "3"))):
        width = header.count(",")
        path.write_text(
            header + "\n" + "".join(f"{k},{k % 3}{',5' * (width - 1)}\n" for k in range(9))
        )
        user, item = columns
        log = read_log(path, "log", COLUMNS | {"user": user, "item": item})
        assert log.num_interactions == 9
    path.write_text("0,1,2\n0,1,3\n0,2,5\n")
    assert_names(refusal(read_log, path, "log", COLUMNS), ("no column 'user'; it has 0, 1, 2",))
    path.write_text("person,thing,2019\na,b,2018\n")
    assert_names(refusal(read_log, path, "log", COLUMNS), ("no column 'user'; it has person",))


def test_a_row_of_numbers_may_be_equal_to_the_header(tmp_path: pathlib.Path) -> None:
    """Would break with the advice to drop a purchase, because user 0 bought item 1 and the columns are called 0 and 1."""
    path = tmp_path / "log.csv"
    path.write_text("0,1\n5,2\n0,1\n3,4\n")
    assert read_log(path, "log", COLUMNS | {"user": "0", "item": "1"}).num_interactions == 3


def test_unknown_names_may_be_meant(tmp_path: pathlib.Path) -> None:
    """Would break with the advice to put a header above a header, which makes a user called "kunde"."""
    path = tmp_path / "log.csv"
    rows = "".join(f"ann{k},tea{k},{k},{k + 1}\n" for k in range(9))
    path.write_text("kunde,artikel,1,2\n" + rows)
    message = refusal(read_log, path, "log", COLUMNS)
    assert_names(message, ("no column 'user'; it has kunde, artikel, 1, 2",))
    instead = "if these are names of columns, set config.data.columns.user and .item instead"
    path.write_text("kunde,artikel,1,4\n" + rows)
    assert_names(refusal(read_log, path, "log", COLUMNS), ("looks like data ('1'", instead))
    for line in ("1,2", "u1,u2"):
        path.write_text(f"{line}\n{line[:-1]}3\n{line[:-1]}4\n")
        message = refusal(read_log, path, "log", COLUMNS)
        assert "looks like data" in message and (instead in message) == (line == "u1,u2")


def test_tables_of_items(tmp_path: pathlib.Path) -> None:
    """Would break with an item without a title for each table without a header, or tables of one column."""
    path = tmp_path / "items.csv"
    path.write_text("1|Toy Story (1995)|01-Jan-1995\n2|GoldenEye (1995)|01-Jan-1995\n")
    message = refusal(read_attributes, path, "item", "item", "title")
    assert_names(message, ("looks like data ('01-Jan-1995'", "such as item|title|column3;"))
    for text in ("item\n1\n2\n", "item,title,2019,2020\n1,Soap,3,2020\n2,2019,2019,4\n"):
        path.write_text(text)
        table = read_attributes(path, "item", "item", "title" if "title" in text else "")
        assert table.ids.tolist() == [1, 2]


def test_a_table_as_txt_is_told_its_ending(tmp_path: pathlib.Path) -> None:
    """Would break with the advice to write one item a line where a time and a rating stand behind the item."""
    for mark, ending in (("\t", ".tsv"), (",", ".csv")):
        path = tmp_path / "inter.txt"
        path.write_text(mark.join(("196", "242", "3", "881250949")) + "\n")
        message = refusal(read_log, path, "log", COLUMNS)
        assert_names(message, (f"{path}:1: ", f"goes in a {ending} with a header"))


def test_a_header_again_is_called_so(tmp_path: pathlib.Path) -> None:
    """Would break with "no header" for joined files, whose names of columns stand among the rows."""
    path = tmp_path / "log.csv"
    text = "user,item,mp3,f7\nu1,i1,a,b\n"
    path.write_text(text * 3)
    assert_names(refusal(read_log, path, "log", COLUMNS), ("row 2 is the header again",))
