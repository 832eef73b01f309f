"""`--mode=recommend`: the users of --users, the number of items for each, the formats, and the second file with skipped users."""

import csv
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from grasp_jax.config import ModelConfig
from grasp_jax.core.files import UNFINISHED, read_sealed, sha256
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.data.split import Histories
from grasp_jax.evaluation import audience, seen
from grasp_jax.evaluation.audience import Audience, Wanted, best_items, whole_histories
from grasp_jax.evaluation.ranker import Ranker, top_items
from grasp_jax.evaluation.seen import seen_pairs
from grasp_jax.models.batch import PackedBatch
from grasp_jax.models.build import build_model
from grasp_jax.models.device_data import DeviceData
from grasp_jax.models.methods.base import ModelSizes
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.serving import writers
from grasp_jax.serving.recommend import Summary, write_recommendations
from grasp_jax.serving.users import read_users
from tests.random_params import random_params
from tests.refusal import assert_names, refusal

ITEMS, LENGTH, TOP = 12, 16, 4


def log_of(users: Any, items: Any) -> InteractionLog:
    return build_log(
        "some",
        np.asarray(users),
        np.asarray(items),
        catalogue=np.array([f"i{k}" for k in range(ITEMS)]),
    )


@pytest.fixture(scope="module")
def log() -> InteractionLog:
    """ "many": 500 plays of 3 items; "all": every item; "most": 10 of 12; "few": 2."""
    histories = {
        "many": [f"i{k % 3}" for k in range(500)],
        "all": [f"i{k}" for k in range(ITEMS)],
        "most": [f"i{k}" for k in range(10)],
        "few": ["i1", "i2"],
    }
    users = np.concatenate([[name] * len(own) for name, own in histories.items()])
    return log_of(users, np.concatenate(list(histories.values())))


class Model(NamedTuple):
    """A plain model of the log, as initialised."""

    model: Any
    params: Any
    data: DeviceData


@pytest.fixture(scope="module")
def made(log: InteractionLog) -> Model:
    return model_of(log)


def model_of(log: InteractionLog) -> Model:
    config = ModelConfig().with_fields({"features": 8, "num_layers": 1})
    model = build_model(config, "plain", "sasrec", ModelSizes(ITEMS, LENGTH + 1, 0, 4))
    nothing, blank = jnp.zeros(1, jnp.int32), np.zeros((1, LENGTH), np.int32)
    data = DeviceData(jnp.asarray(log.items), jnp.asarray(log.users), None, nothing, nothing)
    batch = PackedBatch(blank, blank, blank, None, blank > 0, blank)
    return Model(model, random_params(model, {}, batch), data)


def serve(
    made: Model,
    log: InteractionLog,
    path: pathlib.Path,
    rows: Any = None,
    top_n: int = TOP,
    **options: Any,
) -> Summary:
    wanted = Wanted(top_n, options.pop("exclude_seen", True), user_block=3)
    rows = np.arange(log.num_users) if rows is None else np.asarray(rows)
    return write_recommendations(audience_of(made, log), rows, wanted, path, **options)


def audience_of(made: Model, log: InteractionLog) -> Audience:
    ranker, queries = Ranker.of(made.model, made.params, made.data, {}), np.arange(log.num_users)
    return Audience(ranker, log, queries, whole_histories(log, LENGTH), make_mesh())


def by_user(path: pathlib.Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in pa.parquet.read_table(path).to_pylist():
        found.setdefault(row["user"], []).append(row["item"])
        assert row["rank"] == len(found[row["user"]])
    return found


def test_few_programs_answer_for_all_numbers_of_people_and_items(
    made: Model, log: InteractionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call with another k, or for other people, would compile a program, which takes longer than the answer; or lists would be cut
    at the wrong place, or be those of the empty places of a block.
    """
    monkeypatch.setattr(audience, "top_items", jax.jit(top_items, static_argnums=(3, 4)))
    own, everyone = audience_of(made, log), np.arange(log.num_users)
    (best,) = best_items(own, everyone, Wanted(ITEMS, False, user_block=8))
    order = np.argsort(best.people)
    expected = best.items.reshape(len(everyone), ITEMS)[order]
    for people in (everyone, everyone[[2, 0, 3]], everyone[[3, 2, 0]]):
        for k in (5, 6, 8):
            (some,) = best_items(own, people, Wanted(k, False, user_block=8))
            found = some.items.reshape(len(people), k)
            np.testing.assert_array_equal(found, expected[people[some.people], :k])
    assert audience.top_items._cache_size() == 2  # k up to 8, and all items


def test_the_last_users_have_nothing_left(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group of no rows is an error, and so the call would end without a file after its last user."""
    monkeypatch.setattr(writers, "ROW_GROUP", 1)
    path, kinds = tmp_path / "r.parquet", (False, False)
    one, ranks = np.array(["a"]), np.ones(1, np.int32)
    columns = [one, ranks, one, ranks.astype(np.float32)]
    with writers.open_writer(path, ".parquet", kinds, {}) as write:
        write(columns)
        write([column[:0] for column in columns])
    assert pa.parquet.read_table(path).num_rows == 1


def test_one_user_with_many_plays_or_nothing_left_stops_nobody(
    made: Model, log: InteractionLog, tmp_path: pathlib.Path
) -> None:
    """500 plays of 3 songs read as 500 seen items: nobody would be served; nor would one who has seen everything let others be."""
    served = serve(
        made,
        log,
        tmp_path / "r.parquet",
        made_from={"data": "abc"},
        skipped=[("ghost", "not a user of the data")],
    )
    assert served == Summary(
        2, 1, [("ghost", "not a user of the data"), ("all", "has seen all 12 items")]
    )
    found = by_user(tmp_path / "r.parquet")
    assert {user: len(items) for user, items in found.items()} == {"many": 4, "few": 4, "most": 2}
    assert set(found["most"]) == {"i10", "i11"} and not set(found["many"]) & {"i0", "i1", "i2"}
    metadata = pa.parquet.read_metadata(tmp_path / "r.parquet").metadata
    assert json.loads(metadata[b"grasp_jax"]) == {"data": "abc"}
    about = read_sealed(tmp_path / "r.about.json", "")
    assert about == {
        "made_from": {"data": "abc"},
        "users": 3,
        "skipped": 2,
        "files": {name: sha256(tmp_path / name) for name in ("r.parquet", "r.skipped.csv")},
    }
    rows = list(csv.reader((tmp_path / "r.skipped.csv").open()))
    assert rows == [
        ["user", "reason"],
        ["ghost", "not a user of the data"],
        ["all", "has seen all 12 items"],
    ]
    assert len(list(tmp_path.iterdir())) == 3 and not UNFINISHED, "no partial file stays"
    serve(made, log, tmp_path / "r.parquet", rows=[2])
    assert (tmp_path / "r.skipped.csv").read_text() == "user,reason\n", (
        "an older call's list would speak for this one"
    )


def test_formats_hold_the_same(made: Model, log: InteractionLog, tmp_path: pathlib.Path) -> None:
    """`--out=r.csv` held Parquet; a score would lose digits."""
    for suffix in ("parquet", "csv", "tsv", "jsonl"):
        serve(made, log, tmp_path / f"r.{suffix}")
    expected = pa.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == [
        row | {"score": pytest.approx(row["score"], rel=1e-8)} for row in expected
    ]
    for suffix, separator in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"r.{suffix}").open() as file:
            rows = list(csv.DictReader(file, delimiter=separator))
        assert [
            {**row, "rank": int(row["rank"]), "score": np.float32(row["score"])} for row in rows
        ] == expected


def test_what_was_rated_low_is_left_out(
    made: Model, log: InteractionLog, tmp_path: pathlib.Path
) -> None:
    """People would be recommended what they rated with one star; or eval would leave out the very target."""
    low = np.array(
        [[3, 11], [2, 5], [0, 7], [2, 1]], np.int32
    )  # ascending ids: all, few, many, most
    assert log.user_ids.tolist() == ["all", "few", "many", "most"]
    with_low = dataclasses.replace(log, low_rated=low)
    serve(made, with_low, tmp_path / "r.parquet", top_n=ITEMS)
    found = by_user(tmp_path / "r.parquet")
    assert (
        found["most"] == ["i10"]
        and len(found["many"]) == ITEMS - 3 - 1
        and "i5" not in found["many"]
    )
    targets = np.array([7, -1, 5, -1], np.int32)
    histories = Histories(log.offsets[:-1], log.offsets[1:], targets)
    pairs = seen_pairs(with_low, histories, np.array([[2, -1, 1]]))[0]
    assert sorted(map(tuple, pairs[pairs[:, 0] >= 0])) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (2, 1),
        (2, 2),
    ], "item 5 is the target"


@pytest.mark.parametrize("at_once", [seen.AT_ONCE, 60, 1])
def test_seen_pairs_are_those_of_each_user_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectorised form would mix users, or forget a block, or one where blocks are taken in several shares."""
    monkeypatch.setattr(seen, "AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 40, 600), rng.integers(0, ITEMS, 600)
    log = log_of(users, [f"i{k}" for k in items])
    low = np.unique(rng.integers(0, [log.num_users, ITEMS], (50, 2)), axis=0).astype(np.int32)
    log = dataclasses.replace(log, low_rated=low[rng.permutation(len(low))])
    target = rng.integers(-1, ITEMS, log.num_users).astype(np.int32)
    histories = Histories(log.offsets[:-1], log.offsets[1:] - 1, target)
    batches = np.pad(rng.permutation(log.num_users)[:35], (0, 1), constant_values=-1).reshape(6, 6)[
        :, ::-1
    ]
    for block, pairs in zip(batches, seen_pairs(log, histories, batches), strict=True):
        for row, user in enumerate(block):
            expected: set[int] = set()
            if user >= 0:
                expected = set(log.items[log.offsets[user] : histories.end[user]].tolist())
                expected |= {int(item) for of, item in low if of == user and item != target[user]}
            assert sorted(pairs[pairs[:, 0] == row, 1]) == sorted(expected)


def test_what_cannot_be_for_anybody(
    made: Model, log: InteractionLog, tmp_path: pathlib.Path
) -> None:
    """More items than there are, and nobody with an item left, would be a traceback or an empty file."""
    message = refusal(serve, made, log, tmp_path / "r.csv", top_n=ITEMS + 1)
    assert_names(message, ("config.recommend.top_n: 13", "expected at most 12"))
    assert "none of the 1 users has an item left" in refusal(
        serve, made, log, tmp_path / "r.csv", rows=[0]
    )
    assert not list(tmp_path.iterdir())
    assert serve(made, log, tmp_path / "r.csv", rows=[0], exclude_seen=False) == Summary(1, 0, [])


@pytest.fixture
def spaced() -> InteractionLog:
    return log_of(["Ann Lee", "Ann", "Lee", "用户1", "7", "007"], ["i1"] * 6)


USERS = {
    "a line is an id": (b"Ann Lee\n", ["Ann Lee"], []),
    "byte order mark": ("\ufeff用户1\n7\n".encode(), ["用户1", "7"], []),
    "CRLF": (b"Ann\r\nLee\r\n\r\n", ["Ann", "Lee"], []),
    "old Mac": (b"Ann\rLee", ["Ann", "Lee"], []),
    "twice": (b"Lee\nAnn\nLee\n", ["Lee", "Ann"], []),
    "blanks around": (b" Lee \n", ["Lee"], []),
    "leading zeros": (b"007\n", ["007"], []),
    "unknown ones": (b"Ann\nBob\nBob\n07\n", ["Ann"], ["Bob", "07"]),
    "a line of Unicode": ("Ann\u2028Lee\nLee".encode(), ["Lee"], ["Ann\u2028Lee"]),
}


@pytest.mark.parametrize("case", USERS)
def test_users_of_a_file(case: str, spaced: InteractionLog, tmp_path: pathlib.Path) -> None:
    """Other users than those listed would be served, or all refused for one that left."""
    content, known, unknown = USERS[case]
    (tmp_path / "users.txt").write_bytes(content)
    asked = read_users(str(tmp_path / "users.txt"), spaced)
    assert (
        spaced.user_ids[asked.rows].tolist() == known
        and [name for name, _ in asked.skipped] == unknown
    )


def test_whole_numbers_are_matched_as_text(tmp_path: pathlib.Path) -> None:
    """007 would be taken for 7 without a word; the reason says that there is such a user."""
    log = log_of([7, 8], ["i1", "i2"])
    (tmp_path / "users.txt").write_text("8\n007\n9\n")
    asked = read_users(str(tmp_path / "users.txt"), log)
    assert log.user_ids[asked.rows].tolist() == [8]
    assert asked.skipped == [
        ("007", "not a user of the data, whose ids are whole numbers; 7 is one"),
        ("9", "not a user of the data"),
    ]


def test_users_of_a_table(spaced: InteractionLog, tmp_path: pathlib.Path) -> None:
    """A Parquet file would be read as lines of bytes."""
    path = tmp_path / "users.parquet"
    pa.parquet.write_table(pa.table({"user": ["Lee", "Ann Lee", "Lee"]}), path)
    assert spaced.user_ids[read_users(str(path), spaced).rows].tolist() == ["Lee", "Ann Lee"]
    for table, part in (
        (pa.table({"id": ["Lee"]}), "no column 'user'"),
        (pa.table({"user": ["Lee", None]}), "row 2: user None"),
    ):
        pa.parquet.write_table(table, path)
        assert_names(refusal(read_users, str(path), spaced), (f"--users: {path}", part))
    path.write_bytes(b"PAR1 no more")
    assert_names(refusal(read_users, str(path), spaced), (f"--users: {path}",))


def test_lists_of_users_that_cannot_be(spaced: InteractionLog, tmp_path: pathlib.Path) -> None:
    """A missing, empty or binary file would be a traceback."""
    path = tmp_path / "users.txt"
    assert_names(
        refusal(read_users, str(path), spaced), (str(path), "No such file", "--users takes")
    )
    assert_names(refusal(read_users, str(tmp_path), spaced), (str(tmp_path), "Is a directory"))
    for content, part in (
        (b"\n \n", "is empty"),
        (b"Ann\n\xff\xfe\n", ":2: "),
        (b"Bob\nEve\n", "none of its 2 lines is a user"),
    ):
        path.write_bytes(content)
        assert_names(refusal(read_users, str(path), spaced), (str(path), part, "--users takes"))
