"""`grasp-jax init`: the written config reads its folder and names what could not be decided."""

import dataclasses
import gzip
import json
import os
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.config_file import load_config
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.split import make_split
from grasp_jax.planning.sizes import check_sizes
from grasp_jax.setup import sample as samples
from grasp_jax.setup.command import main, write_config
from grasp_jax.setup.look import look
from grasp_jax.setup.write import config_text, python_call
from tests.command_line import one_line_error
from tests.command_line import run_afresh as run
from tests.refusal import assert_names, refusal
from tests.setup_folders import amazon, movielens, parts, read_by_its_config, shop


def assert_reads_the_same(said: str, dataset: Dataset) -> None:
    """The line of Python that `init` has printed gives the dataset of the config."""
    line = next(line for line in said.splitlines() if line.startswith("import grasp_jax as gj; "))
    known: dict[str, Dataset] = {}
    exec(line, known)
    found = known["data"]
    assert found.fingerprint == dataset.fingerprint and found.titles == dataset.titles
    assert found.data == dataset.data


def test_movielens_is_found(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A researcher's first config would take tags for ratings, or lack the titles."""
    path = write_config(movielens(tmp_path / "ml latest"), str(tmp_path / "ml.py"))
    config, dataset = read_by_its_config(path)
    assert dataset.log.num_interactions == 48 and dataset.titles[0] == "Film 1, The (1999)"
    assert config.data.interactions_file == "ratings.csv" and config.data.name == "ml-latest"
    assert (  # both by cross-entropy, or the loss would decide which is ahead
        config.data.columns.timestamp == "timestamp"
        and config.model.method == "popularity,sasrec_ce,grasp_plus"
    )
    assert "genres" in dataset.texts.items.columns
    said = capsys.readouterr().out
    assert_names(
        said,
        (
            "found: interactions: ratings.csv (CSV), 48 rows",
            "found: columns: user is 'userId', item is 'movieId', timestamp is 'timestamp'",
            "title is 'title'; text also from genres",
            "not decided: tags.csv could be the interactions too",
            "not decided: which ratings count as liked",
            "links.csv; they are not read",
            f"grasp-jax --config={path} --workdir=runs/ml-latest",
        ),
    )
    assert_reads_the_same(said, dataset)
    text = path.read_text()
    assert "# config.data.min_rating = 4.0" in text and "row_norm" not in text, "the shop's tuning"
    assert max(map(len, text.splitlines())) <= 140


def test_parquet_with_text_ids_and_zones_is_found(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engineer's logs would be put in another order, or their items and users not be joined."""
    config, dataset = read_by_its_config(
        write_config(shop(tmp_path / "shop"), str(tmp_path / "a.py"))
    )
    columns = config.data.columns
    assert (columns.user, columns.item, columns.timestamp) == ("customer_id", "sku", "event_time")
    assert (config.data.title_column, config.data.users_file) == ("product_name", "people.csv")
    assert dataset.log.num_users == 7 and dataset.titles[3] == "Soap 3"
    assert dataset.texts.users is not None and dataset.report.without_attributes == 0
    assert_reads_the_same(capsys.readouterr().out, dataset)
    # A table under a usual name that the config does not use must not be read in Python either.
    (tmp_path / "shop" / "users.csv").write_text("colour\nred\n")
    config, dataset = read_by_its_config(write_config(tmp_path / "shop", str(tmp_path / "b.py")))
    assert_reads_the_same(capsys.readouterr().out, dataset)
    (tmp_path / "shop" / "catalogue.parquet").unlink()
    (tmp_path / "shop" / "people.csv").unlink()
    _, dataset = read_by_its_config(write_config(tmp_path / "shop", str(tmp_path / "c.py")))
    said = capsys.readouterr().out
    assert 'users_file=""' in said
    assert_reads_the_same(said, dataset)


def test_a_folder_of_parts_is_one_table(tmp_path: pathlib.Path) -> None:
    """The parts would not be found, or a quarter of the interactions be trained on as if it were all."""
    parts(tmp_path / "logs" / "orders")
    names = pa.table(
        {"sku": [f"S{k}" for k in range(9)], "name": [f"Soap {k}" for k in range(9)]}
        | {"price": [1.5] * 9, "url": [f"https://shop.example/{k}" for k in range(9)]}
    )
    pyarrow.parquet.write_table(names, tmp_path / "logs" / "products.parquet")
    found = look(tmp_path / "logs")
    assert found.lines[0] == (
        "interactions: orders (Parquet), 4 files; columns read from the first, 10 rows"
    )
    config, dataset = read_by_its_config(write_config(tmp_path / "logs", str(tmp_path / "a.py")))
    assert config.data.interactions_file == "orders" and dataset.log.num_interactions == 40
    assert config.data.columns.timestamp == "ordered_at" and dataset.titles[0] == "Soap 0"
    # The folder of the parts itself: which files are parts cannot be told from a table of items next to them.
    said = refusal(look, tmp_path / "logs" / "orders")
    assert_names(said, ("4 Parquet files", "the same columns", f"grasp-jax init {tmp_path}/logs"))


def test_rows_without_an_item_do_not_hide_the_table_of_items(tmp_path: pathlib.Path) -> None:
    """One empty id would make `init` say that there is no table of items, and nobody hear of the empty id before the run."""
    folder = parts(tmp_path / "logs" / "orders")
    for part, lost in (("part-00001", (3, 7)), ("part-00002", (5,))):
        table = pyarrow.parquet.read_table(folder / f"{part}.parquet").to_pydict()
        table["sku"] = ["" if row in lost else sku for row, sku in enumerate(table["sku"])]
        pyarrow.parquet.write_table(pa.table(table), folder / f"{part}.parquet")
    pyarrow.parquet.write_table(
        pa.table({"sku": [f"S{k}" for k in range(9)], "name": ["Soap"] * 9}),
        tmp_path / "logs" / "products.parquet",
    )
    out = tmp_path / "a.py"
    write_config(tmp_path / "logs", str(out))
    assert 'config.data.items_file = "products.parquet"' in out.read_text()
    said = refusal(read_by_its_config, out)
    assert_names(said, ("row 14 (row 4 of part-00001.parquet)", "'sku'", "and 2 other rows"))
    (folder / "part-00000.parquet").unlink()
    found = look(tmp_path / "logs")
    assert found.items is not None and found.title == "name"


def test_the_line_of_python_is_always_the_same(tmp_path: pathlib.Path) -> None:
    """Two calls of `init` on one folder would print two different lines."""
    (tmp_path / "orders.csv").write_text("user,item\nann,7\n")
    for name in ("items", "users"):
        (tmp_path / f"{name}.csv").write_text("number\n1\n")
    call = python_call(look(tmp_path), "shop")
    assert call.index("items_file") < call.index("users_file")


def test_a_table_without_rows_is_looked_at(tmp_path: pathlib.Path) -> None:
    """`init` would end with a traceback: columns without values have no type of ids."""
    (tmp_path / "log.csv").write_text("user,item\nann,oil\n")
    empty = pa.table({"item": pa.array([], pa.null()), "title": pa.array([], pa.null())})
    pyarrow.parquet.write_table(empty, tmp_path / "products.parquet")
    assert look(tmp_path).items is None


def test_only_columns_of_text_are_called_text(tmp_path: pathlib.Path) -> None:
    """Prices and addresses would be announced as text, which no run reads."""
    folder = shop(tmp_path / "shop")
    table = {"sku": [f"SKU{k:03}" for k in range(11)], "name": ["Mild soap", *["Soap"] * 10]}
    table |= {"brand": ["Acme"] * 11, "price": [2.5] * 11, "url": ["https://a.example/x"] * 11}
    pyarrow.parquet.write_table(pa.table(table), folder / "catalogue.parquet")
    line = next(own for own in look(folder).lines if own.startswith("items: "))
    assert line.endswith("text also from brand; not used: price (no text), url (addresses)")


def test_amazons_dumps_are_found(tmp_path: pathlib.Path) -> None:
    """reviewTime, which no reader takes, would be the order; or a title of a review be an item's."""
    config, dataset = read_by_its_config(
        write_config(amazon(tmp_path / "am"), str(tmp_path / "a.py"))
    )
    assert config.data.columns.timestamp == "unixReviewTime"
    assert (config.data.items_file, config.data.items_id_column) == ("meta_Beauty.jsonl", "asin")
    assert dataset.titles[0] == "Lotion 0" and dataset.log.num_interactions == 30
    # As of 2023: two ids of items, of which the metadata has one, and a title of the review itself.
    folder = tmp_path / "new"
    folder.mkdir()
    reviews = [
        {"user_id": f"A{k % 5}", "asin": f"V{k}", "parent_asin": f"P{k % 4}", "title": "Love it"}
        | {"rating": 5.0, "timestamp": 1_588_687_728_923 + k}
        for k in range(20)
    ]
    (folder / "All_Beauty.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    meta = [
        {"parent_asin": f"P{k}", "title": f"Balm {k}", "main_category": "Beauty"} for k in range(4)
    ]
    (folder / "meta_All_Beauty.jsonl").write_text("\n".join(map(json.dumps, meta)))
    config, dataset = read_by_its_config(write_config(folder, str(tmp_path / "b.py")))
    assert config.data.columns.item == "parent_asin" and dataset.titles[0] == "Balm 0"


def test_what_cannot_be_decided_is_said(tmp_path: pathlib.Path) -> None:
    """A guess would pass for knowledge: the order of rows, an items table that lacks half of the items."""
    (tmp_path / "log.csv").write_text(
        "uid,iid,day_of_week\n" + "".join(f"{k % 3},{k},Mo\n" for k in range(12))
    )
    found = look(tmp_path)
    assert found.columns == {"user": "uid", "item": "iid", "timestamp": ""} and found.items is None
    assert any("no column says it" in line for line in found.undecided)
    assert any("no table of items was found" in line for line in found.undecided)
    config, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert config.model.method == "popularity,sasrec_ce" and dataset.log.num_interactions == 12
    (tmp_path / "items.csv").write_text("iid,title\n" + "".join(f"{k},Soap\n" for k in range(6)))
    assert any(
        "50 % of the items have no row in items.csv" in line for line in look(tmp_path).undecided
    )
    (tmp_path / "items.csv").write_text("iid,colour\n0,red\n")
    found = look(tmp_path)
    assert found.items is None and any(
        "no column looks like a title" in line for line in found.undecided
    )
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    assert any(
        "broken.parquet: not a readable parquet" in line for line in look(tmp_path).undecided
    )
    packed = bytearray(gzip.compress(bytes(range(256)) * 99))
    packed[12:40] = b"\xff" * 28
    (tmp_path / "torn.csv.gz").write_bytes(packed)
    (tmp_path / os.fsdecode(b"log-\xff.csv")).write_text("user,item\n1,2\n")
    said = "\n".join(look(tmp_path).undecided)
    assert "torn.csv.gz: not a readable csv" in said
    assert "'log-\\udcff.csv': the name is not UTF-8" in said


def test_a_small_catalogue_can_be_trained(tmp_path: pathlib.Path) -> None:
    """A shop with few items would be refused by the config that was written for it: nobody has 100 items that they never had."""
    rows = [f"u{user},i{(user + 3 * k) % 40},{k}" for user in range(9) for k in range(4 + user)]
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    config, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert config.eval.num_negatives == dataset.log.num_items - 12, "the longest history has 12"
    check_sizes(config, make_split(config.data, dataset.log), width=0)


def test_few_users_with_long_histories(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training would leave out most interactions of a data set like MovieLens, and make eight steps in an epoch."""
    lengths = [40] * 2 + [130] * 7 + [140] + [400]
    rows = [f"u{user},i{k}" for user, length in enumerate(lengths) for k in range(length)]
    (tmp_path / "interactions.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    config, _ = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert config.train.batch_size == 32
    assert "# config.data.max_length = 140\n" in (tmp_path / "a.py").read_text()
    assert "gj.Recommender what the config sets for these data: batch_size=32" in (
        capsys.readouterr().out
    )
    found = look(tmp_path)
    for users, length, batch, longest in (
        (0, 0, 128, ""),
        (3200, 100, 128, ""),
        (3199, 300, 64, "# config.data.max_length = 256\n"),
    ):
        changed = dataclasses.replace(found, num_users=users, usual_length=length)
        (tmp_path / "b.py").write_text(text := config_text(changed, "shop"))
        assert load_config(str(tmp_path / "b.py")).train.batch_size == batch
        assert longest in text if longest else "max_length" not in text


@pytest.mark.parametrize("name", ["interactions.csv", "interactions.parquet", "inter.txt"])
def test_users_of_any_file_are_counted(tmp_path: pathlib.Path, name: str) -> None:
    """The sizes of batches and histories would be chosen for one format alone."""
    users, items = [1, 1, 1, 2, 2, 3], [1, 2, 3, 1, 2, 3]
    path = tmp_path / name
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table({"user": users, "item": items}), path)
    else:
        header, comma = ("", " ") if path.suffix == ".txt" else ("user,item\n", ",")
        pairs = zip(users, items, strict=True)
        path.write_text(header + "".join(f"{user}{comma}{item}\n" for user, item in pairs))
    found = look(tmp_path)
    assert (found.num_users, found.usual_length) == (3, 3)


def test_a_large_file_is_looked_at_in_part(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes would be read to see a header; or the last line be cut in its midst."""
    monkeypatch.setattr(samples, "LOOKED_AT", 100)
    (tmp_path / "log.csv").write_text(
        "user,item\n" + "".join(f"u{k},i{k % 5}\n" for k in range(500))
    )
    found = look(tmp_path)
    assert found.interactions is not None and not found.interactions.whole
    assert 5 < found.interactions.table.num_rows < 20 and "the first" in found.lines[0]


def test_pairs_without_names(tmp_path: pathlib.Path) -> None:
    """A folder with inter.txt would be refused, though a run reads it."""
    (tmp_path / "inter.txt").write_text("1 1\n1 2\n1 3\n2 1\n2 3\n2 2\n")
    config, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "a.py")))
    assert dataset.log.num_interactions == 6 and config.model.method == "popularity,sasrec_ce"
    (tmp_path / "items.csv").write_text("item,title\n1,Oil\n2,Wax\n3,Soap\n")
    (tmp_path / "people.csv").write_text("user,age\n1,30\n2,40\n")
    (tmp_path / "inter.txt").write_text((tmp_path / "inter.txt").read_text() + "1 x\n")
    assert_names(look(tmp_path).lines[1], ("items.csv", "title is 'title'"))  # a run names the row
    (tmp_path / "inter.txt").write_text("1 1\n1 2\n1 3\n2 1\n2 3\n2 2\n")
    config, dataset = read_by_its_config(write_config(tmp_path, str(tmp_path / "b.py")))
    assert config.model.method == "popularity,sasrec_ce,grasp_plus" and dataset.titles[0] == "Oil"
    assert config.data.users_file == "people.csv"


def test_the_table_of_users_has_most_of_them(tmp_path: pathlib.Path) -> None:
    """Names of categories, whose small numbers are ids of users too, would become attributes of users in place of the users' own table."""
    rows = [f"{user},{item},{item}" for user in range(1, 40) for item in range(3)]
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    (tmp_path / "categories.csv").write_text("id,label\n1,Soap\n2,Oil\n")
    assert look(tmp_path).users is None, "two of 39"
    (tmp_path / "customers.csv").write_text(
        "id,age\n" + "".join(f"{user},30\n" for user in range(1, 16))
    )
    found = look(tmp_path)
    (reason,) = [line for line in found.undecided if "customers.csv" in line]
    assert_names(reason, ("38 % of the users", "was not chosen", "set config.data.users_file"))
    assert found.users is None and any("categories.csv" in line for line in found.undecided)
    people = "".join(f"{user},30\n" for user in range(1, 40))
    (tmp_path / "customers.csv").write_text("id,age\n" + people)
    found = look(tmp_path)
    assert found.users is not None and found.users.path.name == "customers.csv"
    assert any("categories.csv; they are not read" in line for line in found.undecided)


def test_nothing_is_overwritten_and_refusals_are_one_line(tmp_path: pathlib.Path) -> None:
    """A config that somebody has changed by hand would be lost; a folder of pictures be a traceback."""
    folder, out = movielens(tmp_path / "ml"), tmp_path / "own.py"
    out.write_text("mine")
    assert_names(refusal(write_config, folder, str(out)), (str(out), "not overwritten", "--out"))
    assert out.read_text() == "mine"
    assert_names(refusal(look, tmp_path / "no"), ("no such folder", "expected the folder"))
    assert_names(refusal(look, out), ("own.py: a file",))
    (tmp_path / "empty").mkdir()
    assert_names(refusal(look, tmp_path / "empty"), ("no table in it; it holds nothing",))
    (tmp_path / "empty" / "ml.inter").write_text("user_id:token\titem_id:token\n1\t2\n")
    assert_names(refusal(look, tmp_path / "empty"), ("RecBole", "grasp-jax convert recbole"))
    (tmp_path / "empty" / "a.csv").write_text("x,y\n1,2\n")
    assert_names(refusal(look, tmp_path / "empty"), ("RecBole",))
    (tmp_path / "empty" / "ml.inter").unlink()
    assert_names(
        refusal(look, tmp_path / "empty"), ("no file has both", "a.csv has x, y", "rename two")
    )
    assert_names(
        refusal(look, tmp_path / "empty"),
        ("config.data.columns.user", "config.data.columns.item", "gj.Dataset.read(FILE, columns="),
    )
    for given in ([], ["a", "b"], ["--fast", "a"]):
        assert "grasp-jax init FOLDER" in refusal(main, given)
    twice = refusal(main, [str(folder), "--out=a.py", "--out", "b.py"])
    assert_names(twice, ("--out: given more than once; expected one value",))


def test_the_command(tmp_path: pathlib.Path) -> None:
    """`grasp-jax init` would be refused as an unexpected argument."""
    folder = movielens(tmp_path / "ml")
    command = [sys.executable, "-m", "grasp_jax.main", "init", str(folder)]
    done = run([*command, f"--out={tmp_path / 'c.py'}"])
    assert done.returncode == 0 and "wrote" in done.stdout and (tmp_path / "c.py").is_file()
    assert "is not overwritten" in one_line_error(run([*command, f"--out={tmp_path / 'c.py'}"]))
    assert "usage: grasp-jax init" in run([*command[:-1], "--help"]).stdout


def test_titles_among_the_interactions_become_a_table_of_items(tmp_path: pathlib.Path) -> None:
    """A shop whose orders have the names of products would be trained without any text."""
    rows = "".join(f"c{k % 3};{k % 4};Soap, {k % 4}\n" for k in range(12))
    (tmp_path / "orders.csv").write_text("customer;sku;Description\n" + rows)
    (told,) = [line for line in look(tmp_path).undecided if "items are called" in line]
    assert_names(told, ("column 'Description' of orders.csv", "makes items.csv of it"))
    pytest.importorskip("pandas")
    _, command = told.split("\n")
    subprocess.run(command.replace("python ", f"{sys.executable} ", 1), shell=True, check=True)
    found = look(tmp_path)
    assert found.items is not None and (found.items.path.name, found.title) == (
        "items.csv",
        "title",
    )
    (tmp_path / "items.csv").write_text("colour\nred\n")
    (told,) = [line for line in look(tmp_path).undecided if "items are called" in line]
    _, command = told.split("\n")
    subprocess.run(command.replace("python ", f"{sys.executable} ", 1), shell=True, check=True)
    found = look(tmp_path)
    assert found.items is not None and found.items.path.name == "items_from_orders.csv"
    assert (tmp_path / "items.csv").read_text() == "colour\nred\n", "a file of the shop is lost"
    reviews = "".join(f"c{k % 3};{k % 4};review {k}\n" for k in range(12))
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "orders.csv").write_text("customer;sku;title\n" + reviews)
    assert not any("seems to have" in line for line in look(tmp_path / "reviews").undecided)
