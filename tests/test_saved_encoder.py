"""Saved encoders: they encode a text as before, in the space of the bank's rows."""

import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from grasp_jax.data.attributes import SourceTexts
from grasp_jax.knowledge import prepare
from grasp_jax.knowledge.bank import ENCODER, identity
from grasp_jax.knowledge.encoders.saved import SavedTextEncoder
from grasp_jax.training.start_from import Earlier, check_basis
from tests.refusal import assert_names, refusal
from tests.saved_encoders import (
    NUM_ITEMS,
    NUM_USERS,
    attributes,
    attributes_of,
    config_of,
    histories,
    make,
    saved,
    shop,
    sources,
)

CASES: dict[str, dict[str, Any]] = {
    "lsa": {},
    "projection": {"encoder": "tfidf_projection", "width": 64},
    "projected": {"reduction.kind": "pca", "reduction.width": 6},
    "cut": {"reduction.kind": "truncate", "reduction.width": 6},
    "uncentred, weighted": {"center": False, "pooling": "similarity"},
    "columns": {"text_columns": ("category",)},
    "titles alone": {"item_template": "titled_item"},
    "industry": {"item_template": "industry_item", "user_template": "industry_user"},
}


@pytest.mark.parametrize("case", CASES)
def test_known_texts_get_the_banks_rows(tmp_path: pathlib.Path, case: str) -> None:
    """A gate would compare a user of today with items of another space; or the text be made otherwise than the bank's were."""
    bank, split = make(tmp_path / "bank", users=True, **CASES[case]), shop()
    encoder = saved(bank)
    items, people = sources(True).items, sources(True).users
    assert items is not None and people is not None
    np.testing.assert_allclose(encoder.encode_items(attributes()), bank.items, atol=1e-6)
    known = {name: items.columns[name] for name in encoder.history_columns}
    users = encoder.encode_users(
        histories(split), known, [people.fields(row) for row in range(NUM_USERS)]
    )
    np.testing.assert_allclose(users, bank.users, atol=1e-6)
    known_items = encoder.encode_items(attributes())
    for rows, table, means in (
        (users, bank.users, bank.users_similar),
        (known_items, bank.items, bank.items_similar),
    ):
        np.testing.assert_allclose(
            encoder.similar(rows, table, ~np.eye(len(table), dtype=bool)), means, atol=1e-5
        )


def test_new_items_and_users(tmp_path: pathlib.Path) -> None:
    """An item with fewer columns, an empty history or a neighbour that there is not would end in a traceback or NaN."""
    encoder = saved(bank := make(tmp_path / "bank", num_neighbours=4))
    rows = encoder.encode_items(
        [
            {"title": "red soap"},
            {"title": "red soap", "brand": None, "colour": "blue"},
            {"brand": "Brand 1"},
        ]
    )
    np.testing.assert_array_equal(rows[0], rows[1])
    users = encoder.encode_users([[], [0, 1], np.array([0, 1])], {"title": attributes_of("title")})
    assert np.isfinite(users).all() and np.array_equal(users[1], users[2])
    some = np.zeros((3, NUM_USERS), bool)
    some[0, :2] = some[1] = True
    means = encoder.similar(users, bank.users, some)
    np.testing.assert_allclose(means[0], bank.users[:2].mean(axis=0), atol=1e-6)
    assert not means[2].any(), "no row is allowed"
    assert_names(refusal(encoder.encode_items, [{"name": "soap"}]), ("item 0", "has name", "title"))
    assert_names(
        refusal(encoder.encode_users, [[0]], {"name": ["soap"]}),
        ("the items have name", "expected title"),
    )


def test_personal_columns_stay_out(tmp_path: pathlib.Path) -> None:
    """A text would tell an endpoint what the bank's own texts keep to themselves."""
    encoder = saved(make(tmp_path / "bank", users=True, user_template="industry_user"))
    assert encoder.writer is not None and encoder.writer.user_columns == ("activity_level",)
    (text,) = encoder.writer.user_texts(
        [[0]], {"title": attributes_of("title")}, [{"age": "44", "activity_level": "high"}]
    )
    assert "activity high" in text and "44" not in text


def test_no_text_from_files(tmp_path: pathlib.Path) -> None:
    """A user would be given another's vector, or none, where the bank's maker is unknown."""
    rng = np.random.default_rng(0)
    files = {"item_file": str(tmp_path / "items.npy"), "user_file": str(tmp_path / "users.npy")}
    given = {
        name: rng.standard_normal((rows, 6)).astype(np.float32)
        for name, rows in (("item_file", NUM_ITEMS), ("user_file", NUM_USERS))
    }
    for name, path in files.items():
        np.save(path, given[name])
    bank = prepare.prepare_bank(
        config_of(encoder="file", **files), shop(), SourceTexts(), tmp_path / "bank"
    )
    encoder = saved(bank)
    for message in (
        refusal(encoder.encode_items, attributes()),
        refusal(encoder.encode_users, [[0]], {}),
    ):
        assert_names(
            message,
            (
                "encoder='file'",
                "made elsewhere",
                "cannot be encoded",
                "prepare the bank with an encoder",
            ),
        )
    np.testing.assert_allclose(encoder.rows_of("items", given["item_file"]), bank.items, atol=1e-6)


def test_a_describers_texts_are_the_template(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that is served would ask and pay an endpoint, or nobody learn that new texts read otherwise."""
    bank = make(tmp_path / "bank")
    encoder = saved(bank)
    object.__setattr__(encoder, "describer", "openai")
    encoder.save(tmp_path / "copy")
    with caplog.at_level("WARNING", "grasp_jax"):
        for _ in range(2):
            rows = SavedTextEncoder.load(tmp_path / "copy").encode_items(attributes())
    np.testing.assert_allclose(rows, bank.items, atol=1e-6)
    assert len(caplog.records) <= 1 and all(
        "'openai' wrote the bank's texts" in record.getMessage() for record in caplog.records
    )


def test_one_user_takes_no_second(tmp_path: pathlib.Path) -> None:
    """A service would wait for scikit-learn before its first answer."""
    make(tmp_path / "bank")
    code = (
        "import sys, pathlib; from grasp_jax.knowledge.encoders.saved import SavedTextEncoder\n"
        f"rows = SavedTextEncoder.load(pathlib.Path({str(tmp_path / 'bank' / ENCODER)!r})).encode_users([[0]], {{'title': ['red soap']}})\n"
        "assert rows.shape == (1, 12) and not {'sklearn', 'pyarrow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    started = time.thread_time()  # not of the clock: another process may have the core meanwhile
    SavedTextEncoder.load(tmp_path / "bank" / ENCODER).encode_users([[0]], {"title": ["red soap"]})
    assert time.thread_time() - started < 1


def test_yesterdays_encoder_is_kept(tmp_path: pathlib.Path) -> None:
    """A model that continues from yesterday's would read every vector wrong, because an encoder that is fitted again has new directions."""
    monday = make(tmp_path / "monday")
    changed = sources()
    assert changed.items is not None
    changed.items.columns["title"][3] = "mild green oil"  # type: ignore[index]
    since = config_of(since=str(tmp_path / "monday"))
    tuesday = prepare.prepare_bank(since, shop(), changed, tmp_path / "tuesday")
    others = np.delete(np.arange(NUM_ITEMS), 3)
    np.testing.assert_array_equal(tuesday.items[others], monday.items[others])
    assert np.abs(tuesday.items[3] - monday.items[3]).max() > 0.01
    new = saved(monday).encode_items([changed.items.fields(3)])
    np.testing.assert_allclose(tuesday.items[3:4], new, atol=1e-6)
    np.testing.assert_array_equal(
        saved(tuesday).encode_items(attributes()), saved(monday).encode_items(attributes())
    )
    earlier = Earlier(
        tmp_path, {}, np.zeros(1), np.empty(0, str), {"bank": identity(monday.manifest)}
    )
    check_basis(earlier, tuesday, [tmp_path / "monday"], np.arange(NUM_ITEMS))
    anew = prepare.prepare_bank(config_of(), shop(), changed, tmp_path / "anew")
    assert np.abs(anew.items[others] - monday.items[others]).max() > 1e-4, (
        "fitted anew, everything moves"
    )
    again = prepare.prepare_bank(
        config_of(since=str(tmp_path / "tuesday")), shop(), changed, tmp_path / "wednesday"
    )
    np.testing.assert_array_equal(again.items, tuesday.items)
