"""Mutated inputs of every format: a reader must refuse them in one line, or read them as a simple reader of a few lines does.

A case is `FORMAT-NUMBER`.
"""

import contextlib
import io
import json
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from safetensors.numpy import save_file

from grasp_jax import main
from grasp_jax.config import Config, check_workdir, save_config
from grasp_jax.core.errors import UserError
from grasp_jax.data.attributes import read_attributes
from grasp_jax.data.log import InteractionLog, build_log
from grasp_jax.knowledge.audit.ratings import read_ratings
from grasp_jax.knowledge.audit.sheet import HEADER
from grasp_jax.knowledge.encoders.vector_files import open_vectors
from grasp_jax.knowledge.text.prompts import load_template
from grasp_jax.report.runs import read_run
from grasp_jax.serving.users import read_users
from tests.faults.campaign import Check, Options, run_campaign
from tests.faults.mutations import mutated
from tests.faults.simple_reader import NAMES, reference
from tests.logs import read_log

ROUNDS = 200  # cases of each format
MORE_MEMORY = 2 << 30  # that a small file may ask for
COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"}
LABELS = ["0 to 2", "3 or more"]
ROWS = [
    (
        f"u{user}" if user % 2 else f"{user:03}",
        f"i{item}",
        1_600_000_000 + 37 * user + 5 * item,
        1 + item % 5,
    )
    for user in range(1, 9)
    for item in range(user, user + 4)
]
DIGITS = [
    ("7" if user == "u7" else f"00{user.lstrip('u0')}", f"0{item[1:]}", *rest)
    for user, item, *rest in ROWS
]  # 7 is not 007


def _delimited(separator: str, rows: Sequence[tuple[Any, ...]] = ROWS) -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in (NAMES, *rows)).encode()


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _array(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


ITEMS = [
    {"item": f"i{item}", "title": f"Title {item}", "price": item / 2, "tags": ["a", "b"]}
    for item in range(1, 12)
]
VECTORS = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
IDS = np.arange(1, 12)


def _log() -> InteractionLog:
    users, items, times, _ = (np.array(column) for column in zip(*ROWS, strict=True))
    return build_log("base", users, items, times)


def _interactions(path: pathlib.Path) -> Any:
    log = read_log(path, "case", COLUMNS)
    items = log.item_ids.astype(str)[log.items].tolist()
    return {
        str(user): items[log.offsets[row] : log.offsets[row + 1]]
        for row, user in enumerate(log.user_ids.tolist())
    }


def _attributes(path: pathlib.Path) -> Any:
    return read_attributes(path, "item", "item").ids.astype(str).tolist()


def _vectors(path: pathlib.Path, ids_path: str = "") -> Any:
    vectors = np.asarray(open_vectors(str(path), IDS, ids_path, "item")(np.arange(len(IDS))))
    assert vectors.shape[0] == len(IDS) and vectors.ndim == 2 and np.isfinite(vectors).all(), (
        vectors.shape
    )


def _vector_ids(path: pathlib.Path) -> Any:
    np.save(path.with_suffix(".npy"), VECTORS)
    _vectors(path.with_suffix(".npy"), str(path))


def _workdir(path: pathlib.Path) -> Any:
    check_workdir(Config(), path.parent)


def _run(path: pathlib.Path) -> Any:
    (path.parent / "results.json").write_text('{"rows": [{"group": "all"}]}')
    read_run(path.parent)


def _config(folder: pathlib.Path) -> bytes:
    save_config(Config(), folder)
    return (folder / "config.json").read_bytes()


_SHEET = (
    ",".join(f'"{name}"' for name in HEADER)
    + "\n"
    + "".join(f"users,u{k},{LABELS[k % 2]},knows,says,{k % 3}\n" for k in range(9))
)
Reads = Callable[[pathlib.Path], Any]
FORMATS: dict[str, tuple[str, bytes, Reads]] = {
    "pairs": (
        "inter.txt",
        "".join(
            f"{user} {item}\n" for user in range(1, 9) for item in range(user, user + 5)
        ).encode(),
        _interactions,
    ),
    "csv": ("interactions.csv", _delimited(","), _interactions),
    "digits": ("interactions.csv", _delimited(",", DIGITS), _interactions),
    "tsv": ("interactions.tsv", _delimited("\t"), _interactions),
    "jsonl": (
        "interactions.jsonl",
        _json_lines([dict(zip(NAMES, row, strict=True)) for row in ROWS]),
        _interactions,
    ),
    "parquet": (
        "interactions.parquet",
        _parquet(dict(zip(NAMES, zip(*ROWS, strict=True), strict=True))),
        _interactions,
    ),
    "items-jsonl": ("items.jsonl", _json_lines(ITEMS), _attributes),
    "items-csv": (
        "items.csv",
        b"item,title,price\n" + b"".join(b"i%d,Title %d,%d.5\n" % (k, k, k) for k in range(1, 12)),
        _attributes,
    ),
    "items-parquet": (
        "items.parquet",
        _parquet({name: [row[name] for row in ITEMS] for name in ITEMS[0]}),
        _attributes,
    ),
    "users": ("users.txt", b"u1\n002\nu3\n004\n", lambda path: read_users(str(path), _log())),
    "npy": ("items.npy", _array(VECTORS), _vectors),
    "safetensors": ("items.safetensors", b"", _vectors),
    "vector-ids": ("ids.txt", "".join(f"{name}\n" for name in IDS[::-1]).encode(), _vector_ids),
    "template": (
        "own.txt",
        b"An item called {title}[[, of {brand}]][[; tags: {tags}]].\n",
        lambda path: load_template(str(path)),
    ),
    "workdir": ("config.json", b"", _workdir),
    "run": ("config.json", b"", _run),
    "ratings": ("sheet.csv", ("\ufeff" + _SHEET).encode(), lambda path: read_ratings(path, LABELS)),
}  # file name, a good one's content, what reads it


def make(options: Options) -> tuple[list[str], Check]:
    """So many mutations of each format."""
    warnings.simplefilter("ignore")
    names = [f"{kind}-{number}" for kind in FORMATS for number in range(ROUNDS)]

    def check(name: str) -> str:
        kind, _, number = name.rpartition("-")
        file, content, read = FORMATS[kind]
        folder = options.folder / name
        folder.mkdir(parents=True)
        path = folder / file
        if file == "config.json":
            content = _config(folder)
        if kind == "safetensors":
            save_file({"embeddings": VECTORS}, path)
            content = path.read_bytes()
        if number != "0":  # the first is whole
            content = mutated(content, random.Random(f"{options.seed}{name}"))
        path.write_bytes(content)
        wrong = _judged(path, read, whole=number == "0" and kind != "run")
        if not options.keep:
            shutil.rmtree(folder)
        return wrong

    return names, check


def _judged(path: pathlib.Path, read: Reads, whole: bool) -> str:
    """What is wrong with how a file was read; empty if it was refused in one line or read as it stands."""
    taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MORE_MEMORY, resource.RLIM_INFINITY))
    with tempfile.TemporaryFile() as said, contextlib.redirect_stdout(io.StringIO()):
        os.dup2(said.fileno(), 2)  # a traceback that a library prints and forgets is one too
        try:
            found = read(path)
        except UserError as error:
            main.print_error(str(error))  # as the program says it
            sys.stderr.flush()
            found = None
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.seek(0)
        text = said.read().decode("utf-8", "replace").rstrip("\n")
    if "Traceback" in text:
        return f"a traceback on the way: {text.splitlines()[-1][:200]}"
    if "error: " in text:
        return _fault_of_line(text[text.index("error: ") :]) or (
            f"a good file is refused: {text[:200]}" if whole else ""
        )
    expected = (
        reference(path)
        if path.stem in ("inter", "interactions") and path.suffix != ".parquet"
        else None
    )
    if expected is not None and found != expected:
        user = next(
            (
                user
                for user in sorted(expected.keys() | found.keys())
                if expected.get(user) != found.get(user)
            ),
            "",
        )
        return f"read otherwise: {user[:40]!r} has {str(found.get(user))[:60]}, the file says {str(expected.get(user))[:60]}"
    return ""


def _fault_of_line(message: str) -> str:
    """What is wrong with a refusal."""
    if len(message.splitlines()) != 1:
        return f"not one line: {message[:200]!r}"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in message):
        return f"control characters or halves of characters on the way to a terminal: {message[:200]!r}"
    return f"a line of {len(message)} characters" if len(message) > 1000 else ""


if __name__ == "__main__":
    sys.exit(run_campaign("inputs", make, 600))
