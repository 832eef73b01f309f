"""What `grasp-jax init` says about a folder for which it cannot write a config: the file that matters, and a remedy that works."""

import gzip
import pathlib
import shlex
import subprocess
import sys

import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import Dataset
from grasp_jax.setup.fetch.command import main as fetch_main
from grasp_jax.setup.look import look
from tests.refusal import assert_names, refusal


def write(folder: pathlib.Path, **texts: str) -> pathlib.Path:
    """Files of these contents; `__` in a name stands for a dot."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        content = text.encode()
        path = folder / name.replace("__", ".")
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return folder


def remedy(message: str, begin: str, end: str) -> str:
    """The part of a message between two texts."""
    return message.partition(begin)[2].partition(end)[0]


@pytest.mark.parametrize(
    ("ending", "first", "second"),
    [
        (
            "csv",
            "user,item,timestamp\na,x,2024-01-02\na,y,2024-01-03",
            "user,item,timestamp\na,z,2024-01-04\n",
        ),
        ("tsv", "user\titem\nanna\tx\nanna\ty\n", "user\titem\nanna\tz\n"),
        ("csv.gz", "user,item\na,x\na,y", "user,item\na,z\n"),
        ("jsonl", '{"user": 1, "item": 1}\n{"user": 1, "item": 2}', '{"user": 1, "item": 3}\n'),
        ("jsonl.gz", '{"user": 1, "item": 1}\n{"user": 1, "item": 2}', '{"user": 1, "item": 3}\n'),
    ],
)
def test_parts_of_text_are_refused(
    tmp_path: pathlib.Path, ending: str, first: str, second: str
) -> None:
    """The first month would be trained on as if it were all; the command must lose no row, nor make one of a header."""
    folder, name = tmp_path / "my shop", ending.replace(".", "__")
    write(
        folder,
        **{f"a b__{name}": first, f"nov__{name}": second},
        tags__csv="user,item,tag\na,x,1\n",
    )
    said = refusal(look, folder)
    assert_names(
        said, ("2 ", "the same columns", f"a b.{ending}, nov.{ending}", "leave one of them")
    )
    subprocess.run(remedy(said, "join them: ", "; else"), shell=True, check=True)
    assert look(folder).interactions.path.name == f"interactions.{ending.removesuffix('.gz')}"
    assert Dataset.read(folder).log.num_interactions == 3


def test_parts_with_other_delimiters_are_not_joined(tmp_path: pathlib.Path) -> None:
    """awk would write lines of both kinds below one header, which is no table."""
    write(tmp_path, a__csv="user,item\na,x\n", b__csv="user;item\nb;y\n", c__csv="user,item\nc,z\n")
    said = refusal(look, tmp_path)
    assert_names(
        said, ("rewrite b.csv (separated by ';') with ',' between fields", "then run this")
    )
    assert "awk" not in said


def test_a_join_that_fails_leaves_no_table(tmp_path: pathlib.Path) -> None:
    """The rows of the first part would be read as if they were all."""
    write(tmp_path, a__csv="user,item\na,x\n", b__csv="user,item\nb,y\n")
    line = remedy(refusal(look, tmp_path), "join them: ", "; else")
    broken = line.replace("parts/b.csv", "parts/none.csv")
    assert broken != line and subprocess.run(broken, shell=True, check=False).returncode
    assert not (tmp_path / "interactions.csv").exists()


def test_other_tables_with_the_same_columns_are_no_parts(tmp_path: pathlib.Path) -> None:
    """Two files of tags would keep somebody from training on the ratings."""
    tags = "user,item,tag\na,x,1\n"
    write(tmp_path, ratings__csv="user,item,rating\na,x,1\n", a__csv=tags, b__csv=tags)
    assert look(tmp_path).interactions.path.name == "ratings.csv"


def test_files_of_movielens_are_fetched(tmp_path: pathlib.Path) -> None:
    """u.item would be taken for a file of RecBole, and `convert recbole` find nothing."""
    folder = write(tmp_path / "100k", u__data="1\t2\t3\t4\n", u__item="1|a\n", u__user="1|2\n")
    assert "grasp-jax fetch movielens-100k --archive=" in refusal(look, folder)
    folder = write(tmp_path / "1m", ratings__dat="1::2::3::4\n", movies__dat="1::a::b\n")
    assert "grasp-jax fetch movielens-1m --archive=" in refusal(look, folder)


def test_users_and_items_in_two_files(tmp_path: pathlib.Path) -> None:
    """Somebody would rename columns of aisles, the first file of the alphabet."""
    write(
        tmp_path,
        aisles__csv="aisle_id,aisle\n1,fruit\n",
        order_products__csv="order_id,product_id\n07,1\n07,2\n",
        orders__csv="order_id,user_id,day\n07,009,3\n",
        products__csv="product_id,name\n1,fig\n2,nut\n",
    )
    said = refusal(look, tmp_path)
    assert_names(
        said,
        (
            "orders.csv has users ('user_id')",
            "order_products.csv has items ('product_id')",
            "'order_id'",
        ),
    )
    pandas = pytest.importorskip("pandas")
    exec(remedy(said, "in pandas: ", "\n"), {"pd": pandas})
    assert (tmp_path / "interactions.csv").read_text().splitlines()[1:] == [
        "07,009,3,1",
        "07,009,3,2",
    ]
    assert look(tmp_path).interactions.path.name == "interactions.csv"
    folder = write(tmp_path / "apart", a__csv="user,x\n1,2\n", b__csv="item,y\n1,2\n")
    assert "no column is in both" in refusal(look, folder)


@pytest.mark.parametrize("day", ["2024-01-01", "2024-02-01"])
def test_two_files_that_share_a_date(tmp_path: pathlib.Path, day: str) -> None:
    """Joined by the date alone, each item of a day would go to each user of that day; the lines may also have a date of their own."""
    write(
        tmp_path,
        lines__csv=f"date;order_id;item\n{day};1;x\n{day};2;y\n",
        orders__csv="date,order_id,user\n2024-01-01,1,ann\n2024-01-01,2,bob\n",
    )
    said = refusal(look, tmp_path)
    pytest.importorskip("pandas")
    exec(remedy(said, "in pandas: ", "\n"), {})
    rows = (tmp_path / "interactions.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["2024-01-01", "1", "ann"],
        ["2024-01-01", "2", "bob"],
    ]
    assert [row.split(",")[-1] for row in rows[1:]] == ["x", "y"]


def test_the_file_that_lacks_a_column_is_named(tmp_path: pathlib.Path) -> None:
    """The first file of the alphabet would be named, or a file that is not readable not be mentioned."""
    write(tmp_path, a__csv="x,y\n1,2\n", b__csv="userId,thing\n1,2\n")
    assert_names(
        refusal(look, tmp_path), ("b.csv has userId, thing", "its column of items to item")
    )
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    assert "c.parquet: not a readable parquet" in refusal(look, tmp_path)
    (tmp_path / "b.csv").write_text("asin,thing\n1,2\n")
    assert "its column of users to user" in refusal(look, tmp_path)


def test_a_file_without_a_header(tmp_path: pathlib.Path) -> None:
    """Renaming two columns, as it was advised, would lose the first row."""
    write(tmp_path, UserBehavior__csv="1,2268331,2520380,pv,1513165724\n1,22,25,pv,1513165725\n")
    said = refusal(look, tmp_path)
    assert_names(
        said, ("UserBehavior.csv: the first row looks like data", "add it as the first line")
    )
    folder = write(tmp_path / "text", clicks__dat="1,2014-05-06,7\n")
    assert_names(refusal(look, folder), ("clicks.dat", "names of columns in its first line"))


def test_endings_are_in_lower_case(tmp_path: pathlib.Path) -> None:
    """A file would not be found, or not be mentioned, because it is called .CSV."""
    folder = write(tmp_path / "a b", ratings__CSV="user,item\na,x\n")
    said = refusal(look, folder)
    assert_names(said, ("ratings.CSV is not read", "expected its ending in lower case"))
    subprocess.run(said.partition("rename it: ")[2], shell=True, check=True)
    write(folder, movies__TSV__gz="item\ttitle\nx\tFilm\n")
    assert any("movies.TSV.gz is not read" in line for line in look(folder).undecided)


def test_what_is_not_read_is_named_next_to_a_fault(tmp_path: pathlib.Path) -> None:
    """Of Netflix's files only the titles would be mentioned, although the ratings are in the other."""
    folder = write(tmp_path, combined_data_1__txt="1:\n7,2,2005-09-19\n")
    (folder / "movie_titles.csv").write_bytes("1,2003,Naïve\n".encode("latin-1"))
    with pytest.raises(
        UserError, match=r"not UTF-8 text.*not read because of their endings: combined_data"
    ):
        look(folder)
    (folder / "movie_titles.csv").write_text("1,2003,Naïve\n2,2004,Soap\n")
    assert_names(refusal(look, folder), ("looks like data", "endings: combined_data_1.txt"))


@pytest.mark.parametrize(
    "name", ["anime_id", "aid", "venueId", "artistID", "newsId", "gameId", "POI_ID"]
)
def test_names_of_items_of_public_data(tmp_path: pathlib.Path, name: str) -> None:
    """Public data sets would be refused until a column is renamed."""
    write(tmp_path, log__csv=f"user,{name}\na,x\n")
    assert look(tmp_path).columns["item"] == name


def test_ids_without_gaps_are_chosen(tmp_path: pathlib.Path) -> None:
    """Each row without a track would be refused, although all of them have an artist."""
    rows = [f"u{k % 9},{'NA' if k % 4 else f't{k}'},a{k % 7}\n" for k in range(400)]
    write(tmp_path, log__csv="user_id,track_id,artist_id\n" + "".join(rows))
    found = look(tmp_path)
    assert found.columns["item"] == "artist_id"
    (told,) = [line for line in found.undecided if line.startswith("items may also be in")]
    assert_names(told, ("'artist_id' was chosen", "'track_id' has no value in 300 of 400 rows"))
    # A few gaps are faults of rows; the name decides.
    rows = [f"u{k % 9},{'' if k == 4 else f't{k}'},a{k % 7}\n" for k in range(400)]
    write(tmp_path, log__csv="user_id,track_id,artist_id\n" + "".join(rows))
    assert look(tmp_path).columns["item"] == "track_id"


def test_own_files_in_the_form_of_movielens_are_converted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy would download other data instead of reading those at hand, or overwrite a file."""
    rows = "".join(
        f"{user}::{item}::4::{1_600_000_000 + item}\n" for user in (1, 2) for item in (7, 8)
    )
    own = write(tmp_path / "own data", ratings__dat=rows)
    assert_names(refusal(look, own), ("user, item, rating and timestamp", "interactions.csv"))
    write(own, movies__dat="7::Soap::Bath\n8::Oil::Hair|Care\n")
    (tmp_path / "own.zip").write_text("another")
    for place, folder, zipped in ((tmp_path, "own data", "own_2.zip"), (own, ".", "../own_3.zip")):
        monkeypatch.chdir(place)
        told = refusal(look, pathlib.Path(folder))
        zip_them = remedy(told, "no network: ", " && grasp-jax ")
        subprocess.run(zip_them.replace("python ", f"{sys.executable} "), shell=True, check=True)
        name, archive, _ = shlex.split(told.partition("grasp-jax fetch ")[2])
        assert archive == f"--archive={zipped}"
        new = tmp_path / f"new {zipped[-5]}"
        fetch_main([name, archive, f"--into={new}"])
        assert look(new).title == "title"
    assert sorted(path.name for path in own.iterdir()) == ["movies.dat", "ratings.dat"]
    assert (tmp_path / "own.zip").read_text() == "another"
