"""`grasp-jax convert`: data of other projects come out with the same users, items, order and texts, and are read at once."""

import datetime
import decimal
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.data.dataset import Dataset
from grasp_jax.setup.convert import KINDS, main
from grasp_jax.setup.look import look
from tests.command_line import run_afresh
from tests.refusal import assert_names, refusal

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def converted(kind: str, folder: pathlib.Path, out: pathlib.Path) -> Dataset:
    main([kind, str(folder), str(out)])
    return Dataset.read(out)


def history(dataset: Dataset, user: str | int) -> list[str]:
    """Titles of a user's items, oldest first."""
    log = dataset.log
    row = log.user_ids.tolist().index(user)
    return [dataset.titles[item] for item in log.items[log.offsets[row] : log.offsets[row + 1]]]


def test_recbole(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A type would stay in a name, or times not be the order."""
    (tmp_path / "ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(
            f"{user}\t{item}\t4.5\t{1_100_000_000 - item}\n"
            for user in (1, 2)
            for item in (7, 8, 9)
        )
    )
    (tmp_path / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n7\tToy Story\tComedy\n8\tHeat\tCrime\n9\tBig\t\n"
    )
    (tmp_path / "ml.user").write_text("user_id:token\tage:float\n1\t24\n2\t53\n")
    dataset = converted("recbole", tmp_path, tmp_path / "out")
    assert history(dataset, 1) == ["Big", "Heat", "Toy Story"]
    assert dataset.texts.items is not None and dataset.texts.users is not None
    assert list(dataset.texts.items.columns["class"]) == ["Comedy", "Crime", None]
    assert list(dataset.texts.users.columns["age"]) == ["24", "53"]
    assert f"next: grasp-jax init {tmp_path / 'out'}" in capsys.readouterr().out
    found = look(tmp_path / "out")
    assert (
        found.items is not None and found.title == "title" and found.columns["rating"] == "rating"
    )
    assert_names(
        refusal(main, ["recbole", str(tmp_path), str(tmp_path / "out")]), ("not overwritten",)
    )
    (tmp_path / "ml.inter").write_text("who:token\titem_id:token\n1\t2\n")
    assert_names(
        refusal(main, ["recbole", str(tmp_path), str(tmp_path / "x")]),
        ("ml.inter: no column of users", "who:token", "rename one to user_id:token"),
    )


def test_rectools(tmp_path: pathlib.Path) -> None:
    """Features would go to users for items, or of two values one be lost."""
    rows = [f"u{k % 3},{10 + k},1.0,2024-01-{20 - k:02} 10:00:00" for k in range(9)]
    (tmp_path / "log.csv").write_text("user_id,item_id,weight,datetime\n" + "\n".join(rows))
    features = [f"{10 + k},title,Film {k}" for k in range(9)] + ["10,genre,a", "10,genre,b"]
    (tmp_path / "item_features.csv").write_text("id,feature,value\n" + "\n".join(features))
    (tmp_path / "people.csv").write_text("id,feature,value\nu0,sex,f\nu1,sex,m\n")
    dataset = converted("rectools", tmp_path, tmp_path / "out")
    assert history(dataset, "u0") == ["Film 6", "Film 3", "Film 0"]
    items = [
        json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    ]
    assert items[0]["genre"] == ["a", "b"]
    assert dataset.texts.users is not None and dataset.report.without_attributes == 1
    (tmp_path / "log.csv").unlink()
    assert "expected one, as RecTools has it" in refusal(main, ["rectools", str(tmp_path), "x"])


def test_dates_and_decimals_become_text(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features of Parquet files would end in a traceback; or the printed command not be one for a folder with a blank."""
    hour, day = datetime.datetime(2024, 1, 31, 10), datetime.date(2020, 5, 1)
    log = {"user_id": ["a"] * 3, "item_id": [1, 2, 3], "datetime": [hour] * 3}
    pyarrow.parquet.write_table(pa.table(log), tmp_path / "log.parquet")
    for name, value in (("released", day), ("price", decimal.Decimal("9.50"))):
        features = {"id": [1, 2], "feature": [name] * 2, "value": [value] * 2}
        pyarrow.parquet.write_table(pa.table(features), tmp_path / f"{name}.parquet")
    main(["rectools", str(tmp_path), str(tmp_path / "my data")])
    row = json.loads((tmp_path / "my data" / "items.jsonl").read_text().splitlines()[0])
    assert row == {"item": 1, "price": "9.50", "released": "2020-05-01"}
    assert f"next: grasp-jax init '{tmp_path / 'my data'}'" in capsys.readouterr().out


def test_unisrec(tmp_path: pathlib.Path) -> None:
    """A history would be doubled, cut at the 50 items of a row, or lack what was held back."""
    whole = {"0": [str(k) for k in range(60)], "1": ["3", "4"], "2": ["5", "6", "7"]}
    train, valid, test = [HEADER], [HEADER], [HEADER]
    for user, own in whole.items():
        kept = own[:-2]
        for k in range(1, len(kept)):
            train.append(f"{user}\t{' '.join(kept[:-k][-50:])}\t{kept[-k]}\n")
        valid.append(f"{user}\t{' '.join(kept[-50:])}\t{own[-2]}\n")
        test.append(f"{user}\t{' '.join(own[:-1][-50:])}\t{own[-1]}\n")
    for part, lines in (("train", train), ("valid", valid), ("test", test)):
        (tmp_path / f"Arts.{part}.inter").write_text("".join(lines))
    (tmp_path / "Arts.item2index").write_text("".join(f"B{k:02}\t{k}\n" for k in range(60)))
    (tmp_path / "Arts.user2index").write_text("ann\t0\nbob\t1\ncat\t2\n")
    (tmp_path / "Arts.text").write_text(
        "item_id:token\ttext:token_seq\n" + "".join(f"{k}\tPaint {k}. \n" for k in range(60))
    )
    dataset = converted("unisrec", tmp_path, tmp_path / "out")
    assert dataset.log.num_interactions == 65
    assert history(dataset, "ann") == [f"Paint {k}." for k in range(60)]
    assert history(dataset, "cat") == ["Paint 5.", "Paint 6.", "Paint 7."]
    assert history(dataset, "bob") == ["Paint 3.", "Paint 4."]
    (tmp_path / "Arts.valid.inter").write_text(HEADER + "0\t1\n")
    assert_names(
        refusal(main, ["unisrec", str(tmp_path), str(tmp_path / "x")]),
        ("Arts.valid.inter: row 1 has 2 fields", "user, item list and item"),
    )
    (tmp_path / "Arts.train.inter").unlink()
    assert "no such file" in refusal(main, ["unisrec", str(tmp_path), str(tmp_path / "x")])


@pytest.mark.parametrize("name", ["inter.txt", "inter_seq.txt"])
def test_llm_esr(tmp_path: pathlib.Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Row numbers would be written in place of ids, texts would belong to other items, or a pickle would be loaded."""
    handled = tmp_path / "beauty" / "handled"
    handled.mkdir(parents=True)
    lines = {"inter.txt": "1 1\n1 2\n1 3\n2 3\n2 1\n2 2\n", "inter_seq.txt": "1 1 2 3\n2 3 1 2\n"}
    (handled / name).write_text(lines[name])
    maps = {"id2user": {"1": "ann", "2": "bob"}, "id2item": {str(k): f"B{k}" for k in (1, 2, 3)}}
    (handled / "id_map.json").write_text(json.dumps(maps))
    attributes = {
        f"B{k}": {
            "asin": f"B{k}",
            "title": f"Lotion {k}",
            "categories": [["Beauty", "Skin"]],
            "salesRank": {"x": 1},
        }
        for k in (1, 2, 3)
    }
    (handled / "item2attributes.json").write_text(json.dumps(attributes))
    (handled / "itm_emb_np.pkl").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    dataset = converted("llm_esr", tmp_path / "beauty", tmp_path / "out")
    assert history(dataset, "bob") == ["Lotion 3", "Lotion 1", "Lotion 2"]
    assert dataset.texts.items is not None
    assert dataset.texts.items.columns["categories"][0] == ["Beauty", "Skin"]
    assert "salesRank" not in dataset.texts.items.columns
    assert "never loaded" in capsys.readouterr().out
    (handled / name).write_text("1\n")
    assert "line 1: '1'; expected a user and one or more items" in refusal(
        main, ["llm_esr", str(handled), str(tmp_path / "x")]
    )


def test_calls_that_are_not_understood(tmp_path: pathlib.Path) -> None:
    """A mistyped kind would be a traceback, or a folder that is none."""
    for given in ([], ["recbol", "a", "b"], ["recbole", "a"]):
        assert_names(refusal(main, given), ("expected grasp-jax convert recbole|rectools",))
    for kind in KINDS:
        refusal(main, [kind, str(tmp_path / "no"), str(tmp_path / "out")])
        refusal(main, [kind, str(tmp_path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    done = run_afresh([sys.executable, "-m", "grasp_jax.main", "convert", "--help"])
    assert done.returncode == 0 and "usage: grasp-jax convert" in done.stdout
