"""An exported model answers in a process that does not have this package, by the lines of docs/export.md, as the model itself does."""

import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any, cast

import flatbuffers
import numpy as np
import pyarrow.parquet
import pytest

import grasp_jax as gj
from grasp_jax.config import read_config
from grasp_jax.core.files import HOST, read_sealed, write_sealed
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.modes import Options, run_mode
from grasp_jax.serving import export as export_module
from grasp_jax.serving.answers import Answer
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.export import (
    FILES,
    MANIFEST,
    TOLERANCE,
    UNFINISHED,
    difference,
    export_artifact,
    padded,
    read_export,
)
from grasp_jax.serving.histories import check_one_query
from grasp_jax.trials.run import open_run
from tests.command_line import keeping_programs
from tests.faults.killer import killed_at, printed_by
from tests.refusal import assert_names, refusal
from tests.trained import METHODS, SMALL, small_shop, trained

ROOT = pathlib.Path(__file__).parent.parent
K = 8  # with 5, 6 and 7, which are asked for below, one program of the package
# "plain" answers in this process, below.
QUICK = [("grasp_plus", "bert4rec"), ("grasp", "gru4rec")]
OTHERS = ["grasp_softmax", "grasp_wo_attention", "llm_esr", "popularity", "semantic_neighbours"]
EVERY = [(method, name) for method in ("plain", "grasp_plus", "grasp") for name in BACKBONES]
LATER = [pair for pair in EVERY if pair not in QUICK] + [(name, "sasrec") for name in OTHERS]
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in LATER]

ELSEWHERE = """
import contextlib, os, pathlib, sys
sys.path.append({!r})
ABSENT = ("grasp_jax", "flax", "safetensors", "pyarrow", "pandas")
sys.modules.update(dict.fromkeys(ABSENT))  # to import one of them is an error now
for line in sys.stdin:
    os.chdir(line.rstrip())
    with contextlib.redirect_stdout(sys.stderr):
        exec(pathlib.Path("program.py").read_text(), {{}})
    assert not any(sys.modules[name] for name in ABSENT)
    print("answered", flush=True)
"""
AFTERWARDS = """
asked = np.load("asked.npz")
answers = {}
for n in range(sum(name.startswith("lengths") for name in asked)):
    queries = {name.removesuffix(f"_{n}"): asked[name] for name in asked if name.endswith(f"_{n}")}
    histories, lengths, seen = (queries[name] for name in ("histories", "lengths", "seen"))
    exec(LINES)
    answers |= {f"scores_{n}": np.asarray(scores), f"rows_{n}": np.asarray(rows)}
np.savez("answers.npz", **answers)
"""


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One knowledge bank for all of them."""
    return tmp_path_factory.mktemp("banks") / "bank"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    shutil.copytree(trained(tmp_path_factory, "sasrec"), folder)
    return folder


@pytest.fixture(scope="module")
def plain(workdir: pathlib.Path) -> gj.Recommender:
    return gj.Recommender.load(workdir)


@pytest.fixture(scope="module")
def exported(plain: gj.Recommender, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with exports "5" and "6", which are told apart by their k. Tests copy them, because to export takes a second."""
    root = tmp_path_factory.mktemp("exported")
    for k in (5, 6):
        plain.export(root / str(k), k=k)
    return root


class Elsewhere:
    """A process with nothing of this package on its path, which runs "program.py" of one folder after the other."""

    def __init__(self, errors: pathlib.Path) -> None:
        """Starts it; what it says goes to a file."""
        # wherever this process has it from
        site = str(pathlib.Path(flatbuffers.__file__).parent.parent)
        self.errors, pipe = errors, subprocess.PIPE
        with errors.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", ELSEWHERE.format(site)],
                env=keeping_programs(),
                stdin=pipe,
                stdout=pipe,
                stderr=said,
                text=True,
            )

    def run(self, folder: pathlib.Path) -> None:
        """Waits for the end of the folder's program."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "answered\n", self.errors.read_text()[-3000:]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """One for all models, because to import JAX takes seconds."""
    started = Elsewhere(tmp_path_factory.mktemp("elsewhere") / "errors.txt")
    yield started
    started.process.communicate()


def model_of(
    method: str,
    backbone: str,
    shop: gj.Dataset,
    bank: pathlib.Path,
    factory: pytest.TempPathFactory,
) -> gj.Recommender:
    """Trained here, unless other test files have a use for it too."""
    if METHODS.get(backbone) == method:
        return gj.Recommender.load(trained(factory, backbone))
    own: dict[str, Any] = {"knowledge__path": str(bank), **SMALL}
    return gj.Recommender(method=method, backbone=backbone, **own).fit(shop)


def blocks_of_page() -> list[str]:
    """The Python of docs/export.md: of export, loading, arrays, asking without gates, query vectors, asking with gates."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def answers_of(
    elsewhere: Elsewhere, folder: pathlib.Path, asked: list[dict[str, np.ndarray]], gated: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and rows of batches, by that process; the folder is called "exported"."""
    _, loading, arrays, ungated, _, with_queries = blocks_of_page()
    lines = with_queries if gated else ungated
    if gated:  # of the two people whom the page asks for
        nothing = np.zeros((2, asked[0]["text_vector"].shape[1]), np.float32)
        np.savez(folder.parent / "queries.npz", text_vector=nothing, similar_vector=nothing)
    kept = "\n".join(line for line in lines.splitlines() if "np.load" not in line)
    np.savez(
        folder.parent / "asked.npz",
        **{f"{name}_{n}": array for n, own in enumerate(asked) for name, array in own.items()},
    )
    program = f"{loading}\n{arrays}\n{lines}\nLINES = {kept!r}\n{AFTERWARDS}"
    (folder.parent / "program.py").write_text(program)
    elsewhere.run(folder.parent)
    with np.load(folder.parent / "answers.npz") as found:
        return [(found[f"scores_{n}"], found[f"rows_{n}"]) for n in range(len(asked))]


def batches() -> list[list[np.ndarray]]:
    """Item rows of people: one alone, and several of few items, of as many as the model reads, and of more."""
    rng = np.random.default_rng(3)
    lengths = [[7], [1, 2, 9, 14, 30]]
    return [[rng.integers(0, 100, n).astype(np.int32) for n in each] for each in lengths]


@pytest.mark.parametrize(("method", "backbone"), [*QUICK, *SLOW])
def test_answers_elsewhere(
    method: str,
    backbone: str,
    shop: gj.Dataset,
    bank: pathlib.Path,
    elsewhere: Elsewhere,
    tmp_path: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A program would answer otherwise than the model, for another size of batch, or not without this package."""
    model = model_of(method, backbone, shop, bank, tmp_path_factory)
    folder = tmp_path / "exported"
    assert model.export(folder, k=K) <= TOLERANCE["float32"]
    gated, asked, ids = model.artifact.gated, [], model.artifact.catalogue.ids
    names = [[ids[own].tolist() for own in people] for people in batches()]
    for people, histories in zip(batches(), names, strict=True):
        newest = [own[-9:] for own in people]
        lengths = np.array([len(own) for own in newest], np.int32)
        batch = {"histories": padded(newest, 5), "lengths": lengths}
        batch |= {"seen": padded(people, -1)}
        if gated:
            vectors = model.query_vectors(histories)
            batch |= {name: np.stack(vectors[name]) for name in ("text_vector", "similar_vector")}
        asked.append(batch)
    worst = 0.0
    for histories, (scores, rows) in zip(
        names, answers_of(elsewhere, folder, asked, gated), strict=True
    ):
        assert scores.shape == rows.shape == (len(histories), K)
        frame = model.recommend(histories=histories, k=K)
        for person, expected in frame.groupby("user"):
            places = np.array([model.artifact.catalogue.rows[str(i)] for i in expected["item"]])
            right = Answer(places, expected["score"].to_numpy())
            worst = max(worst, difference(right, scores[person], rows[person], 1e-5))
    print(f"{method}-{backbone}: largest relative difference {worst:.1e}")
    assert worst <= 1e-5
    manifest = read_sealed(folder / MANIFEST, "")
    assert manifest["dot_product"] is not gated and manifest["sizes"]["items"] == 100
    if not gated:  # neither the encoder nor its tables, whatever the method reads
        exported = read_export(folder)
        assert set(exported.items) == {"vectors"}
        parts = {
            "plain": 8,
            "grasp_plus": 3 * 8 + 8,
        }  # D; three towers and the match (docs/export.md)
        width = exported.items["vectors"].shape[1]
        assert width == parts.get(method, width) == manifest["sizes"]["width"]
        assert all(
            name.split("/")[0] in ("backbone", "mask_vector") for name in exported.parameters
        )


def test_a_folder_says_what_it_is(plain: gj.Recommender, tmp_path: pathlib.Path) -> None:
    """Nobody could tell an item's id, how to call a program, or whether a vector database may serve the model."""
    plain.export(tmp_path / "exported", k=1000)
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {MANIFEST, *FILES}
    manifest = json.loads((tmp_path / "exported" / MANIFEST).read_text())
    assert manifest["programs"]["states.stablehlo"]["arguments"]["vectors"] == "float32[V, 8]"
    assert manifest["programs"]["states.stablehlo"]["results"] == "float32[b, 8]"
    assert manifest["programs"]["top_k.stablehlo"]["results"] == [
        "float32[b, 100]",
        "int32[b, 100]",
    ]
    assert manifest["sizes"] == {"items": 100, "width": 8, "k": 100, "max_history": 9}
    assert manifest["dot_product"] and not manifest["unit_vectors"]
    assert manifest["made_from"] == plain.artifact.made_from
    table = pyarrow.parquet.read_table(tmp_path / "exported" / "items.parquet").to_pydict()
    items = plain.artifact.catalogue
    assert table["row"] == list(range(100)) and table["id"] == items.ids.tolist()
    assert table["title"] == items.titles.tolist() and table["count"] == items.counts.tolist()
    model = read_export(tmp_path / "exported")
    vectors = np.stack(plain.item_vectors()["vector"])
    np.testing.assert_allclose(model.items["vectors"], vectors, rtol=1e-6)
    saved = plain.user_vectors(histories=[items.ids[:3].tolist()])["vector"][0]
    history = np.arange(3, dtype=np.int32)[None]
    found = model.states.call(model.parameters, vectors, history, np.array([3], np.int32))
    np.testing.assert_allclose(found[0], saved, rtol=1e-4, atol=1e-6)
    more = np.concatenate([vectors, vectors * np.float32(2.0)])  # items that the model never saw
    scores, rows = model.top_k.call(found, more, np.array([[5, -1]], np.int32))
    right = np.where(np.arange(200) == 5, -np.inf, np.asarray(found[0]) @ more.T)
    np.testing.assert_allclose(scores[0], np.sort(right)[::-1][:100], rtol=1e-4, atol=1e-6)
    assert np.asarray(rows).max() >= 100
    with pytest.raises(ValueError, match="refining shapes"):  # L <= 9
        longer = np.zeros((1, 10), np.int32)
        model.states.call(model.parameters, vectors, longer, np.array([10], np.int32))


def test_the_command_line_exports_the_model_that_answers(
    plain: gj.Recommender, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--mode=export` would write another model than Python, or nowhere."""
    config = read_config(workdir).with_fields({"recommend.top_n": 7})
    run_mode("export", lambda: open_run(config, workdir), workdir, Options())
    model = read_export(workdir / "export")
    assert model.manifest["sizes"]["k"] == 7
    assert model.manifest["made_from"]["model"] == plain.artifact.made_from["model"]
    assert f"{workdir / 'export'}: its scores differ" in capsys.readouterr().out


def test_other_folders_and_damage_are_refused(
    plain: gj.Recommender, exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Files of something else would be overwritten, an export that was cut short block its place, or a changed bit be served."""
    folder = tmp_path / "exported"
    shutil.copytree(exported / "5", folder)
    (folder / MANIFEST).unlink()
    (folder / f".{FILES[0]}.{HOST}-999999999-01234567.partial").write_bytes(b"of a killed export")
    export_copy(exported / "5", folder)
    assert not list(folder.glob(".*"))
    (folder / "notes.txt").write_text("mine")
    export_copy(exported / "6", folder)
    assert (folder / "notes.txt").exists() and read_export(folder).manifest["sizes"]["k"] == 6
    content = bytearray((folder / FILES[2]).read_bytes())
    content[-3] ^= 1
    (folder / FILES[2]).write_bytes(content)
    assert_names(
        refusal(read_export, folder), (str(folder / FILES[2]), "copy the whole folder again")
    )
    (folder / MANIFEST).write_text("{}")
    assert_names(refusal(read_export, folder), (str(folder / MANIFEST), "checksum"))
    assert_names(refusal(plain.export, folder), (str(folder), "holds other files"))
    write_sealed(tmp_path / "bank" / MANIFEST, {"kind": "bank"})
    assert_names(refusal(plain.export, tmp_path / "bank"), ("holds other files",))
    assert_names(refusal(read_export, tmp_path / "bank"), ("'bank'", "expected 'grasp_jax export'"))
    assert_names(refusal(plain.export, tmp_path / "new", k=0), ("k: 0",))
    assert_names(refusal(plain.query_vectors, [["no item"]]), ("histories[0]",))
    known = [plain.artifact.catalogue.ids[:1].tolist()]
    assert_names(refusal(plain.query_vectors, known), ("plain has no gates", "gated method"))
    assert_names(refusal(gj.Recommender().export, tmp_path / "new"), ("nothing is trained yet",))


def test_what_cannot_be_exported(
    plain: gj.Recommender, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model would be exported that answers otherwise, or stop with a traceback of jax."""
    config = plain.artifact.config.with_fields({"model.gate_query": "prefix"})
    asks_otherwise = dataclasses.replace(plain.artifact, config=config)
    assert_names(
        refusal(check_one_query, asks_otherwise),
        ("config.model.gate_query: 'prefix'", "neighbours"),
    )
    monkeypatch.setitem(sys.modules, "jax._src.export.serialization", None)
    assert_names(refusal(plain.export, tmp_path / "new"), ("pip install flatbuffers",))
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()


def test_a_folder_is_whole_only_once_it_was_compared(
    plain: gj.Recommender, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong program would be served, if the comparison ended in an error or was killed."""

    def fails(*_: object) -> float:
        raise ZeroDivisionError

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr("grasp_jax.serving.export._difference", fails)
        plain.export(tmp_path / "new")
    assert_names(refusal(read_export, tmp_path / "new"), ("not readable",))
    monkeypatch.setattr("grasp_jax.serving.export._difference", lambda *_: 0.25)
    message = refusal(plain.export, tmp_path / "new")
    assert_names(message, (str(tmp_path / "new"), "differ", "2.5e-01", "at most 1e-05"))
    assert not (tmp_path / "new" / MANIFEST).exists()


def export_copy(made: pathlib.Path, folder: pathlib.Path) -> None:
    """Exports as `export_artifact` does, but copies what a model has exported elsewhere, because to export takes seconds."""

    def write(_: Artifact, __: int, unfinished: pathlib.Path) -> float:
        for name in FILES:
            (unfinished / name).write_bytes((made / name).read_bytes())
        write_sealed(unfinished / MANIFEST, read_sealed(made / MANIFEST, ""))
        return 0.0

    some_model = types.SimpleNamespace(catalogue=types.SimpleNamespace(ids=range(100)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("grasp_jax.serving.export._write_and_compare", write)
        export_artifact(cast(Artifact, some_model), folder)


def k_of(folder: pathlib.Path) -> int:
    """What tells the exports of a test apart."""
    k: int = read_export(folder).manifest["sizes"]["k"]
    return k


def kill_each_export(root: pathlib.Path) -> None:
    """Exports again and again over the export in "5", or into a new folder, killed at the first operation on files, the second, and so on.

    Prints what is read afterwards, what there is after another export that fails, and which files are left. Checksums of files are
    compared each time, but programs are not parsed.
    """
    found: dict[str, list[Any]] = {"read": [], "after a failure": [], "left": [], "first": []}
    export_module._opened = lambda _, manifest: types.SimpleNamespace(manifest=manifest)  # type: ignore[assignment]
    for number in itertools.count(1):
        over, first, failing = (root / f"{name}{number}" for name in ("over", "first", "failing"))
        shutil.copytree(root / "5", over)
        (over / "notes.txt").write_text("mine")
        killed = killed_at(number, over, functools.partial(export_copy, root / "6", over))
        shutil.copytree(over, failing)
        found["read"].append(k_of(over))
        with contextlib.suppress(FileNotFoundError):
            export_copy(root / "no such folder", failing)
        found["after a failure"].append(k_of(failing))
        export_copy(root / "6", over)
        found["left"].append(sorted(path.name for path in over.iterdir()))
        killed_at(number, first, functools.partial(export_copy, root / "5", first))
        export_copy(root / "6", first)
        found["first"].append(k_of(first))
        if not killed:
            break
    json.dump(found, sys.stdout)


def test_a_killed_export_leaves_the_earlier_or_the_new_one(
    exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A nightly export that is killed between two moves would leave a service with nothing to start from."""
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    found = printed_by(kill_each_export, tmp_path)
    read = found["read"]
    assert len(read) > 30 and read == sorted(read) and set(read) == {5, 6}
    assert read.count(6) > 7, "killed before the manifest is unlinked and before each move, too"
    assert found["after a failure"] == read, "the next export would remove the only complete one"
    assert set(found["first"]) == {6}, "a first export that was killed is repeated"
    whole = sorted([*FILES, MANIFEST, "notes.txt"])
    assert all(names == whole for names in found["left"])


def test_an_export_that_is_interrupted_between_two_moves(
    exported: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the last moment would remove the rest of the new export after half of the earlier one was replaced."""
    folder, moved = tmp_path / "exported", []
    shutil.copytree(exported / "5", folder)

    def third_is_interrupted(source: pathlib.Path, target: pathlib.Path) -> None:
        if source.parent.name == UNFINISHED and target.parent == folder:
            moved.append(source)
            if len(moved) == 3:
                raise KeyboardInterrupt
        shutil.move(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", third_is_interrupted)
        export_copy(exported / "6", folder)
    assert not (folder / MANIFEST).exists(), "a mixture would be taken for an export"

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", read_only)
        message = refusal(read_export, folder)
        assert_names(message, (str(folder), UNFINISHED, "Read-only", "export the model again"))
    assert k_of(folder) == 6
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *FILES}


def test_an_export_that_fails_leaves_the_earlier_one(
    plain: gj.Recommender,
    exported: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The export that a service answers from would be gone, because the next one met a full disk or a wrong program."""
    folder = tmp_path / "exported"
    shutil.copytree(exported / "5", folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.numpy.save_file", full)
        assert_names(
            refusal(plain.export, folder, k=6), ("disk is full", str(folder), "call export")
        )
    with monkeypatch.context() as patched:
        patched.setattr("grasp_jax.serving.export._difference", lambda *_: 0.25)
        assert_names(refusal(plain.export, folder, k=6), (str(folder), "nothing was exported"))
    assert read_export(folder).manifest["sizes"]["k"] == 5
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *FILES}
    (folder / UNFINISHED).mkdir()  # of a killed export
    (folder / UNFINISHED / FILES[0]).write_bytes(b"half")
    export_copy(exported / "6", folder)
    assert read_export(folder).manifest["sizes"]["k"] == 6
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *FILES}


def test_answers_that_differ_are_found() -> None:
    """A wrong program would pass its check, or a right one fail it because two items tie."""
    own = Answer(np.array([3, 1, 2]), np.array([2.0, 1.0, 0.5], np.float32))
    scores = np.array([2.0, 1.0, 0.5, -np.inf], np.float32)
    assert difference(own, scores, np.array([3, 1, 2, 0]), 1e-5) == 0
    assert difference(own, scores, np.array([1, 3, 2, 0]), 1e-5) == np.inf
    assert difference(own, scores + np.float32(0.1), np.array([3, 1, 2, 0]), 1e-5) > 0.04
    assert difference(own, np.where(scores < 0, 0.1, scores), np.array([3, 1, 2, 0]), 1) == np.inf
    assert difference(own, scores[:2], np.array([3, 1]), 1e-5) == np.inf
    tied = Answer(np.array([3, 1]), np.array([1.0, 1.0], np.float32))
    assert difference(tied, np.ones(2, np.float32), np.array([1, 3]), 1e-5) == 0
