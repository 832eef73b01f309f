"""Text encoders, and vectors that were made elsewhere."""

import dataclasses
import pathlib
import pickle
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather
from safetensors.numpy import save_file

from grasp_jax.config import KnowledgeConfig
from grasp_jax.data.attributes import SourceTexts
from grasp_jax.data.log import build_log
from grasp_jax.data.split import leave_one_out
from grasp_jax.knowledge import prepare
from grasp_jax.knowledge.encoders import ENCODERS
from grasp_jax.knowledge.encoders.geometry import unit_rows
from grasp_jax.knowledge.encoders.vector_files import open_vectors, width_of_file
from tests.refusal import assert_names, refusal

WORDS = ("red", "blue", "green", "mild", "strong", "soap", "cream", "oil", "brush", "comb")
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)
IDS = np.array(["a", "b", "c"])


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 5)) for _ in range(count)]


def config_of(width: int = 6, seed: int = 0) -> KnowledgeConfig:
    config = KnowledgeConfig().with_fields({"width": width, "seed": seed})
    return config


def encoded(
    name: str, item_texts: list[str], user_texts: list[str], config: KnowledgeConfig
) -> tuple[np.ndarray, np.ndarray]:
    encoder = ENCODERS[name].from_config(config).fit(item_texts)
    return encoder.encode(item_texts), encoder.encode(user_texts)


def load(path: str, ids: np.ndarray, ids_path: str, kind: str, ordered: bool = True) -> np.ndarray:
    return open_vectors(path, ids, ids_path, kind, ordered)(np.arange(len(ids)))


@pytest.mark.parametrize("name", ["lsa", "tfidf_projection"])
def test_text_encoders_are_deterministic(name: str) -> None:
    """Would break "same recipe, same bank": two calls give the same bits, finite, float32, of the width asked for."""
    first, second = (encoded(name, texts(40, 0), texts(15, 1), config_of()) for _ in range(2))
    for rows, one, two in zip((40, 15), first, second, strict=True):
        assert one.shape == (rows, 6) and one.dtype == np.float32 and np.isfinite(one).all()
        assert np.array_equal(one, two) and np.linalg.norm(one, axis=1).min() > 0
    assert not np.array_equal(
        first[0], encoded(name, texts(40, 2), texts(15, 1), config_of())[0]
    ), "other texts, other vectors"


@pytest.mark.parametrize("name", ["lsa", "tfidf_projection"])
def test_items_and_users_share_one_space(name: str) -> None:
    """Would break every gate: the text of an item, given as a user's, must have the item's vector."""
    item_texts = texts(40, 0)
    items, users = encoded(name, item_texts, item_texts[::-1], config_of())
    np.testing.assert_allclose(users, items[::-1], atol=1e-5)


def test_lsa_puts_like_texts_together() -> None:
    """Would break retrieval: texts that share words must be nearer than texts that share none."""
    items, users = encoded(
        "lsa", ["red soap"] * 3 + ["blue cream"] * 3, ["soap red soap", "cream"], config_of(width=2)
    )
    assert (
        np.argmax(users @ items.T, axis=1).tolist() == [0, 3]
        and abs(users[0] @ items[3]) < 0.1 * users[0] @ items[0]
    )


def test_lsa_is_no_wider_than_the_text_allows() -> None:
    """A small catalogue would end in an exception instead of vectors with fewer dimensions than the config says."""
    items, users = encoded("lsa", texts(9, 0), texts(4, 1), config_of(width=256))
    assert items.shape == (9, 8) and users.shape == (4, 8)


@pytest.mark.filterwarnings("error")
def test_projection_has_any_width_and_follows_the_seed() -> None:
    """Would break industrial widths (4096 from a small vocabulary), and cosines: they survive a wide projection."""
    item_texts = texts(40, 0)
    wide, _ = encoded("tfidf_projection", item_texts, item_texts, config_of(width=4096))
    other, _ = encoded("tfidf_projection", item_texts, item_texts, config_of(width=4096, seed=1))
    assert wide.shape == (40, 4096) and not np.array_equal(wide, other)
    cosines = [vectors @ vectors.T for vectors in (unit_rows(wide), unit_rows(other))]
    assert np.abs(cosines[0] - cosines[1]).max() < 0.25 and cosines[0].std() > 0.1


@pytest.mark.parametrize("item_texts", [["alpha", "beta", "gamma"], ["soap", "soap", "soap"]])
def test_text_that_says_nothing_is_refused(item_texts: list[str]) -> None:
    """Would break with scikit-learn's traceback on a catalogue of unlike or of equal titles."""
    assert "config.knowledge.encoder" in refusal(encoded, "lsa", item_texts, ["soap"], config_of())


def write_npy(path: pathlib.Path, vectors: np.ndarray) -> str:
    np.save(path.with_suffix(".npy"), vectors)
    return str(path.with_suffix(".npy"))


def write_safetensors(path: pathlib.Path, vectors: np.ndarray) -> str:
    save_file({"embeddings": np.ascontiguousarray(vectors)}, path.with_suffix(".safetensors"))
    return str(path.with_suffix(".safetensors"))


WRITERS = pytest.mark.parametrize("write", [write_npy, write_safetensors])
Writer = Callable[[pathlib.Path, np.ndarray], str]


@WRITERS
def test_vectors_in_row_order(tmp_path: pathlib.Path, write: Writer) -> None:
    """Would break bring-your-own embeddings: values as in the file, float32, whatever float type it has."""
    for dtype in (np.float16, np.float32, np.float64):
        loaded = load(write(tmp_path / "v", VECTORS.astype(dtype)), IDS, "", "item")
        assert loaded.dtype == np.float32 and np.array_equal(loaded, VECTORS)


@WRITERS
def test_vectors_are_ordered_by_their_ids(tmp_path: pathlib.Path, write: Writer) -> None:
    """Would break the match of vectors and items: rows follow the ids file, and vectors of other ids are left out."""
    given = np.concatenate([VECTORS, -VECTORS[:1]])
    for text in ("c\na\nb\nx\n", "c\na\nb\nx", "c\r\na\r\nb\r\nx\r\n", "\ufeffc\na \nb\t\n x\n\n"):
        (tmp_path / "ids.txt").write_bytes(text.encode())
        loaded = load(write(tmp_path / "v", given), IDS, str(tmp_path / "ids.txt"), "item")
        assert np.array_equal(loaded, VECTORS[[1, 2, 0]])
    (tmp_path / "ids.txt").write_text("30\n4\n20\n7\n")
    loaded = load(
        write(tmp_path / "v", given), np.array([4, 20, 30]), str(tmp_path / "ids.txt"), "user"
    )
    assert np.array_equal(loaded, VECTORS[[1, 2, 0]]), (
        "whole-number ids of the log, text in the file"
    )


def test_safetensors_with_several_tensors(tmp_path: pathlib.Path) -> None:
    """Would break if one of several tensors were guessed; a single one of any name is taken."""
    path = str(tmp_path / "v.safetensors")
    save_file({"weights": VECTORS}, path)
    assert np.array_equal(load(path, IDS, "", "item"), VECTORS)
    save_file({"other": -VECTORS, "embeddings": VECTORS}, path)
    assert np.array_equal(load(path, IDS, "", "item"), VECTORS)
    save_file({"one": VECTORS, "two": VECTORS}, path)
    assert_names(refusal(load, path, IDS, "", "item"), (path, "several tensors", "'embeddings'"))
    assert refusal(width_of_file, path, "item") == refusal(load, path, IDS, "", "item")


@WRITERS
@pytest.mark.parametrize("rows", [2, 4])
def test_number_of_rows_must_fit(tmp_path: pathlib.Path, write: Writer, rows: int) -> None:
    """Would break the match of vectors and users: a row too many, or too few, shifts everything after it."""
    path = write(tmp_path / "v", np.ones((rows, 4), np.float32))
    message = refusal(load, path, IDS, "", "user")
    assert_names(
        message,
        (
            path,
            f"{rows} rows",
            "the data has 3 users",
            "one row per user in the order of the items table",
            "config.knowledge.user_ids_file",
        ),
    )
    assert "in id order" in refusal(open_vectors, path, np.arange(3), "", "item")


@pytest.mark.filterwarnings("error:overflow encountered in cast")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(tmp_path: pathlib.Path, value: float) -> None:
    """Would break training with NaN, or retrieval: ScaNN aborts the process. Row, id and value are named."""
    vectors = VECTORS.copy()
    vectors[1, 2] = vectors[2, 0] = value
    path = write_npy(tmp_path / "v", vectors)
    message = refusal(load, path, IDS, "", "item")
    assert_names(
        message,
        (
            path,
            "row 1, counted from 0, (item b)",
            f"holds {value}",
            "expected finite numbers",
            "2 such rows",
        ),
    )
    too_large = write_npy(tmp_path / "large", VECTORS.astype(np.float64) * 1e300)
    assert_names(
        refusal(load, too_large, IDS, "", "item"),
        (too_large, "row 0, counted from 0, (item a)", "+300, which is too large for float32"),
    )


def test_vectors_of_an_encoder_that_has_failed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of zeros, or of one row again and again, would be trained on, and end with an NDCG of 0 and no reason."""

    def printed(vectors: np.ndarray, kind: str = "item") -> str:
        load(write_npy(tmp_path / "v", vectors), IDS, "", kind)
        return capsys.readouterr().out

    nothing = np.zeros_like(VECTORS)
    path = write_npy(tmp_path / "none", nothing)
    assert_names(refusal(load, path, IDS, "", "item"), (path, "every row holds only zeros"))
    assert "3 of 3 users have a vector of zeros" in printed(nothing, "user")
    some = VECTORS.copy()
    some[1] = 0
    assert "1 of 3 items have a vector of zeros, which has no direction" in printed(some)
    assert "all rows are equal" in printed(np.ones_like(VECTORS))
    assert len(printed(VECTORS).splitlines()) == 1


def test_vectors_that_many_items_share(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that was joined by the wrong column would be trained on, and end with text that helps nobody and no reason."""

    def printed(shared: int, empty: int = 0) -> str:
        vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
        vectors[5 : 5 + shared], vectors[-empty or 40 :] = vectors[5], 0
        load(write_npy(tmp_path / "v", vectors), np.arange(40), "", "item")
        return capsys.readouterr().out

    assert "12 of 40 items have the same vector, as item 5 and item 6, so" in printed(12)
    both = printed(12, empty=15)
    assert "15 of 40 items have a vector of zeros" in both and "12 of 40 items have the" in both
    assert "the same vector" not in printed(8) + printed(1, empty=30)


def test_row_that_is_not_finite_is_the_files(tmp_path: pathlib.Path) -> None:
    """Would break the search for the bad vector: with an ids file, item "a" may be the file's third row."""
    vectors = VECTORS.copy()
    vectors[2, 0] = np.nan
    (tmp_path / "ids.txt").write_text("c\nb\na\n")
    message = refusal(
        load, write_npy(tmp_path / "v", vectors), IDS, str(tmp_path / "ids.txt"), "item"
    )
    assert "row 2, counted from 0, (item a)" in message


BAD_ARRAYS = {
    "one dimension": (np.zeros(3, np.float32), "shape (3,)"),
    "three dimensions": (np.zeros((3, 2, 2), np.float32), "shape (3, 2, 2)"),
    "whole numbers": (np.zeros((3, 2), np.int64), "type int64"),
    "complex numbers": (np.zeros((3, 2), np.complex64), "type complex64"),
}


@pytest.mark.parametrize("fault", BAD_ARRAYS)
def test_shape_and_type_are_checked(tmp_path: pathlib.Path, fault: str) -> None:
    """Would break if token ids or a tensor per token were taken for embeddings."""
    vectors, part = BAD_ARRAYS[fault]
    path = write_npy(tmp_path / "v", vectors)
    assert_names(
        refusal(load, path, IDS, "", "item"),
        (path, part, "expected a 2-d array of floats, one row per item"),
    )


def test_files_of_other_formats_are_named(tmp_path: pathlib.Path) -> None:
    """A team would read an error of NumPy's about pickles or attributes for its Parquet file, and not what to do."""
    np.savez(tmp_path / "v.npz", VECTORS)
    table = pa.table({"item": IDS.tolist(), "vector": VECTORS.tolist()})
    pq.write_table(table, tmp_path / "v.parquet")
    feather.write_feather(table, tmp_path / "v.arrow")
    (tmp_path / "v.npy").mkdir()
    np.save(tmp_path / "short.npy", VECTORS.astype(ml_dtypes.bfloat16))
    save_file({"a": VECTORS.astype(ml_dtypes.bfloat16)}, tmp_path / "short.safetensors")
    np.save(tmp_path / "whole.npy", VECTORS.astype(np.int8))
    np.save(tmp_path / "none.npy", np.empty((3, 0), np.float32))
    expected = {
        "v.npz": "a zip archive, such as NumPy's .npz or PyTorch's .pt, is not read; save one array with numpy.save",
        "v.parquet": "Parquet is not read; save its vectors with numpy.save, and its ids",
        "v.arrow": "Arrow is not read; save its vectors with numpy.save, and its ids",
        "v.npy": "is a folder; expected a .npy or .safetensors file",
        "short.npy": "bfloat16, to which .npy gives no name; expected a 2-d array of floats",
        "short.safetensors": "type bfloat16; expected a 2-d array of floats, one row per item: save .astype('float32')",
        "whole.npy": "type int8; expected a 2-d array of floats, one row per item: save .astype('float32')",
        "none.npy": "shape (3, 0), so the rows have no numbers; expected vectors of a text encoder",
    }
    for name, part in expected.items():
        path = str(tmp_path / name)
        assert_names(refusal(load, path, IDS, "", "item"), (path, part))
        assert_names(refusal(width_of_file, path, "item"), (path, part))


def test_pickles_are_refused(tmp_path: pathlib.Path) -> None:
    """Would break safety: loading a pickle runs whatever code is in it."""

    class Bomb:
        def __reduce__(self) -> tuple:
            return (pathlib.Path.touch, (tmp_path / "exploded",))

    np.save(tmp_path / "objects.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("objects.npy", "bare.npy"):
        message = refusal(load, str(tmp_path / name), IDS, "", "item")
        assert_names(message, (str(tmp_path / name), "not a readable .npy array"))
        assert not (tmp_path / "exploded").exists()


@WRITERS
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_files_are_refused(tmp_path: pathlib.Path, write: Writer, damage: str) -> None:
    """Would break with one of a dozen exceptions of NumPy or safetensors on a download that stopped half-way."""
    path = pathlib.Path(write(tmp_path / "v", VECTORS))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-5], "text": b"<html>404</html>", "empty": b""}[damage])
    assert_names(
        refusal(load, str(path), IDS, "", "item"),
        (str(path), "not a readable .", "expected an array of floats"),
    )


def test_missing_files_are_named(tmp_path: pathlib.Path) -> None:
    """Would break a first run with own vectors: the config field at fault is named."""
    assert_names(
        refusal(load, "", IDS, "", "user"),
        ("config.knowledge.user_file is empty", ".npy or .safetensors"),
    )
    gone = str(tmp_path / "gone.npy")
    assert_names(
        refusal(load, gone, IDS, "", "item"),
        ("config.knowledge.item_file", gone, "does not exist", "expected"),
    )
    path = write_npy(tmp_path / "v", VECTORS)
    message = refusal(load, path, IDS, str(tmp_path / "ids.txt"), "item")
    assert_names(
        message,
        (
            "config.knowledge.item_ids_file",
            str(tmp_path / "ids.txt"),
            "does not exist",
            "one id per line",
        ),
    )


def test_ids_must_fit_vectors_and_data(tmp_path: pathlib.Path) -> None:
    """Would break the match of vectors and items where a line is missing from the ids file."""
    path, ids = write_npy(tmp_path / "v", VECTORS), tmp_path / "ids.txt"
    ids.write_text("a\nb\n")
    message = refusal(load, path, IDS, str(ids), "item")
    assert_names(message, (str(ids), "2 ids for the 3 rows", path, "expected one each"))
    ids.write_text("c\nx\ny\n")
    message = refusal(load, path, IDS, str(ids), "item")
    assert_names(
        message, (str(ids), "no line for item a", "2 such items", "every item needs a vector")
    )


def test_ids_files_are_refused_in_one_line(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback, or a count that says nothing of the heading or the blank line that makes it."""
    path, ids = write_npy(tmp_path / "v", VECTORS), tmp_path / "ids.txt"
    ids.write_bytes(b"a\n\xe9\nc\n")
    assert_names(
        refusal(load, path, IDS, str(ids), "item"),
        (f"{ids}:2", "is not UTF-8 text", f"expected the item ids of {path}"),
    )
    ids.write_text("item_id\na\nb\nc\n")
    assert_names(
        refusal(load, path, IDS, str(ids), "item"),
        ("4 ids for the 3 rows", "is 'item_id' a heading?"),
    )
    ids.write_text("a\n\nc\n")
    assert_names(refusal(load, path, IDS, str(ids), "item"), (str(ids), "line 2 is empty"))


@WRITERS
def test_vectors_without_ids_need_an_order_that_is_certain(
    tmp_path: pathlib.Path, write: Writer
) -> None:
    """Vectors would belong to other items without a word: text ids are in the order 1, 10, 2, vectors usually in 1, 2, ..., 10."""
    numbers = np.unique(np.arange(1, 13).astype(str))
    path = write(tmp_path / "v", np.eye(12, dtype=np.float32))
    message = refusal(load, path, numbers, "", "item", False)
    parts = (
        "config.knowledge.item_ids_file is empty",
        "item ids of the data are text",
        "all numbers: '12' before '2'",
        "name a file",
        path,
    )
    assert_names(message, parts)
    message = refusal(load, write(tmp_path / "w", VECTORS), IDS, "", "user", False)
    assert (
        "config.knowledge.user_ids_file is empty" in message
        and "alphabetical order" in message
        and "numbers" not in message
    )
    (tmp_path / "ids.txt").write_text("".join(f"{k}\n" for k in range(1, 13)))
    found = load(path, numbers, str(tmp_path / "ids.txt"), "item", False)
    assert found.argmax(axis=1).tolist() == [int(name) - 1 for name in numbers], "each its own"
    assert np.array_equal(load(path, np.arange(12), "", "user", False), np.eye(12)), (
        "whole numbers ascend"
    )
    assert np.array_equal(load(path, numbers, "", "item", True), np.eye(12)), (
        "the items table's order"
    )


def test_whose_rows_are_whose_is_said(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break a user's chance to see that rows are shifted."""
    open_vectors(
        write_npy(tmp_path / "own", VECTORS),
        np.array([7, 8, 9]),
        "",
        "item",
        True,
        ["Red  soap", "x" * 99, "Oil"],
    )
    rows = f"its row 0 is item 7 (Red soap); its row 1 is item 8 ({'x' * 40}); its row 2 is item 9 (Oil)"
    assert capsys.readouterr().out == f"{tmp_path}/own.npy: counted from 0, {rows}\n"
    (tmp_path / "ids.txt").write_text("c\na\nx\nb\n")
    load(
        write_npy(tmp_path / "v", np.concatenate([VECTORS, -VECTORS[:1]])),
        IDS,
        str(tmp_path / "ids.txt"),
        "user",
    )
    assert capsys.readouterr().out.endswith(
        "its row 0 is user c; its row 1 is user a; its row 3 is user b\n"
    )


def test_an_absurd_shape_asks_for_no_memory(tmp_path: pathlib.Path) -> None:
    """Would break with a MemoryError, or take the machine down."""
    path = pathlib.Path(write_npy(tmp_path / "v", VECTORS))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(3, 4), }" + b" " * 12, b"(3000000000000, 4), }", 1))
    assert path.read_bytes() != whole
    assert_names(
        refusal(load, str(path), IDS, "", "item"), (str(path), "not a readable .npy array")
    )


def test_an_id_given_twice_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break the match of vectors and items: which of the two rows is meant?"""
    path, ids = (
        write_npy(tmp_path / "v", np.concatenate([VECTORS, -VECTORS[:1]])),
        tmp_path / "ids.txt",
    )
    ids.write_text("a\nb\nc\na\n")
    assert_names(refusal(load, path, IDS, str(ids), "item"), (str(ids), "item a", "twice"))


def test_prepare_refuses_what_it_cannot_encode(tmp_path: pathlib.Path) -> None:
    """Would break a first run: an unknown encoder, no items table, two widths; each is one line that says how to mend it."""
    split = leave_one_out(build_log("shop", np.repeat([0, 1], 4), np.tile(np.arange(4), 2)), 10)
    config = config_of()
    config = config.with_fields({"num_neighbours": 1})
    assert_names(
        refusal(prepare.prepare_bank, config, split, SourceTexts(), tmp_path / "bank"),
        ("config.data.items_file", "'lsa'", "'file'"),
    )
    config = dataclasses.replace(config, encoder="bert")
    message = refusal(prepare.prepare_bank, config, split, SourceTexts(), tmp_path / "bank")
    assert_names(
        message,
        (
            "config.knowledge.encoder: 'bert'",
            "expected one of lsa, tfidf_projection, sentence_transformers, openai, file",
        ),
    )
    config = config.with_fields(
        {
            "encoder": "file",
            "item_file": write_npy(tmp_path / "items", np.ones((4, 3), np.float32)),
            "user_file": write_npy(tmp_path / "users", np.ones((2, 5), np.float32)),
        }
    )
    message = refusal(prepare.prepare_bank, config, split, SourceTexts(), tmp_path / "bank")
    assert_names(message, ("item vectors are 3 wide and user vectors 5", "expected one width"))
    assert not (tmp_path / "bank").exists()
