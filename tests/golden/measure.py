"""What small runs of the program compute, read from the files that they leave. Of the golden values only this file knows the program.

    python -m tests.golden.measure OUT.json CASE [CASE ...]
    python -m tests.golden.measure --quick OUT.json CASE [CASE ...]

A case is one call of the command line, of some methods on some backbones, and one call of --mode=recommend for each of its models, or for
those that it names. All of them run in forks of this process, which must not have used JAX itself. To import this file changes nothing in
a process.
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.command_line import CACHE

METHODS = (
    "plain",
    "llminit",
    "rlmrec_con",
    "rlmrec_gen",
    "llm_esr",
    "grasp",
    "grasp_wo_attention",
    "grasp_wo_similar",
    "grasp_wo_global",
    "grasp_softmax",
    "grasp_plus",
)
USERS = ("1", "2", "3", "40", "79", "80")  # for whom items are recommended
PATIENCE = 1800.0  # seconds for a call, on a machine that has other work too
PROTOCOLS = (
    "sampled100",
    "full",
)  # "full_unseen" is "full" less seen items: test_ranks.py has its oracle
SHOWN = 4  # rows of a table of floats that are kept
MANY = 80  # rows of a table of integers
SHOP = {  # a shop of 80 users and 120 items, the fewest that there may be; 4 epochs of 5 steps are 20 losses' means
    "data.synthetic.num_users": 80,
    "data.synthetic.num_items": 120,
    "data.max_length": 20,
    "knowledge.width": 16,
    "knowledge.num_neighbours": 3,
    "model.features": 16,
    "model.mlp": (16,),
    "model.num_layers": 1,
    "model.llm_esr.similar_users": 3,
    "model.plus.fusion": "early",
    "model.plus.id_start": "random",  # this and the match: the defaults when the values were written
    "model.plus.match_weight": 5.0,
    "model.plus.match_decay": 0.6,
    "train.batch_size": 16,
    "train.learning_rate": 3e-3,
    "train.max_epochs": 4,
    "train.shared_negatives": 20,
    "eval.num_negatives": 20,
    "eval.user_block": 32,
    "eval.item_block": 32,
    "recommend.top_n": 5,
}
LARGE = {  # few ids a step and many items, so that Adam of the ID table is deferred
    "data.synthetic.num_users": 82,
    "data.synthetic.num_items": 1500,
    "data.max_length": 10,
    "train.batch_size": 4,
    "train.max_epochs": 2,
    "train.shared_negatives": 4,
    "eval.item_block": 512,
}


def _case(
    methods: str, backbones: str = "sasrec", recommend: str | None = None, **fields: Any
) -> dict[str, Any]:
    """Settings of `measure`; `recommend`: of these methods alone, comma separated; a field's name has "__" for a dot."""
    return {
        "methods": methods,
        "backbones": backbones,
        "recommend": (methods if recommend is None else recommend).split(","),
        "fields": {name.replace("__", "."): value for name, value in fields.items()},
    }


OTHERS = ",".join(method for method in METHODS if method not in ("grasp", "grasp_plus"))
CASES = {
    "sasrec-rivals": _case(",".join(METHODS[:5])),
    "sasrec-grasp": _case(",".join(METHODS[5:])),
    "bert4rec-grasp": _case("grasp,grasp_plus", "bert4rec"),
    "gru4rec-grasp": _case("grasp,grasp_plus", "gru4rec"),
    "bert4rec-others": _case(OTHERS, "bert4rec"),
    "gru4rec-others": _case(OTHERS, "gru4rec"),
    "loss-bce": _case("plain,grasp_plus", train__loss="bce", train__negatives=2),
    "loss-softmax": _case("plain,grasp", train__loss="softmax", train__label_smoothing=0.1),
    "loss-gbce": _case("plain,grasp", train__loss="gbce"),
    "targets-last": _case("plain,grasp", "sasrec,gru4rec", train__targets="last"),
    "deferred-adam": _case("plain,grasp_plus", **LARGE),
    "gate-learned": _case("grasp,grasp_plus", model__gate="learned", model__plus__gate="learned"),
    "gate-softmax": _case("grasp,grasp_plus", model__gate="softmax", model__plus__gate="softmax"),
    "gate-paper": _case("grasp_plus", model__plus__gate="paper", model__gate_scale=2.0),
    **{
        f"gate-query-{query}": _case("grasp", "sasrec,bert4rec", model__gate_query=query)
        for query in ("neighbours", "history", "two_fold", "prefix")
    },
    "table-bfloat16": _case("grasp,grasp_plus", model__table_dtype="bfloat16"),
    "towers": _case(
        "grasp_plus",
        "sasrec,bert4rec,gru4rec",
        model__plus__fusion="late",
        model__plus__match_weight=0.0,
    ),
    "towers-match": _case(
        "grasp_plus", "sasrec,bert4rec", model__plus__fusion="late", train__decay_epochs=4
    ),
    "four-at-once": _case("plain,grasp", train__seeds=(1, 2), model__dropout=(0.1, 0.4)),
    "bert4rec-noise": _case("plain", "bert4rec", model__mask_noise=0.1, train__one_item_users=True),
}
QUICK = {  # what every run of the tests measures; a default test has what each of the other methods does otherwise
    # llminit's start, the parts that ablations leave out and their gates: test_methods.py; a step with a softmax gate:
    # test_step_scores.py; rlmrec_gen's loss: test_rlmrec.py; numbers of GRU4Rec: test_earlier_version.py; llm_esr's step:
    # test_step_scores.py, its distillation: test_dual_view.py, its training: test_contract.py.
    # A list of items is the order of the scores that the ranks come from: one model without gates and one with them show it.
    "sasrec-rivals": _case("plain,rlmrec_con", recommend="plain"),
    "sasrec-grasp": _case("grasp"),
    "bert4rec-grasp": _case("grasp_plus", "bert4rec", recommend=""),
}


def part_of(measured: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of what `measure` found for a case, what it finds for fewer of its methods."""
    methods, backbones = (settings[name].split(",") for name in ("methods", "backbones"))
    models = {f"{method}-{backbone}" for method in methods for backbone in backbones}
    asked = {f"{method}-{backbone}" for method in settings["recommend"] for backbone in backbones}
    found = {name: dict(measured[name]) for name in measured["checkpoints"] if name in models}
    for name in found.keys() - asked:
        del found[name]["recommended"]
    others = {name: part for name, part in measured.items() if name not in measured["checkpoints"]}
    return {
        **others,
        **found,
        "results": [row for row in measured["results"] if row["method"] in methods],
        "checkpoints": {name: measured["checkpoints"][name] for name in found},
    }


def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a run computes, by the name of the cell or of what all cells share.

    Args:
      settings: "methods" and "backbones", comma separated, "recommend", a list of methods, and "fields", which differ from those of
        `SHOP`.

    Raises:
      RuntimeError: the program refused.
    """
    from tests.faults.program import apart

    with tempfile.TemporaryDirectory(prefix="grasp-jax-golden-") as folder:
        workdir = pathlib.Path(folder) / "run"
        users = pathlib.Path(folder) / "users.txt"
        users.write_text("\n".join(USERS) + "\n", encoding="utf-8")
        fields = {**SHOP, **settings["fields"]}
        fields.setdefault("compilation_cache", os.environ.get(CACHE, f"{folder}/compiled"))
        flags = flags_of(workdir, fields)
        methods, backbones = settings["methods"], settings["backbones"]
        run_program(
            [*flags, f"--config.model.method={methods}", f"--config.model.backbone={backbones}"]
        )
        found = {"data": _data(workdir), "candidates": _candidates(workdir)}
        if (workdir / "knowledge").exists():
            found["knowledge"] = _knowledge(workdir / "knowledge")
        for backbone in backbones.split(","):
            for method in methods.split(","):
                found[f"{method}-{backbone}"] = {
                    "training": training_of(workdir, method, backbone),
                    "ranks": ranks_of(workdir, f"{method}-{backbone}-"),
                    "gates": _gates(workdir / "gates" / f"{method}-{backbone}.npz"),
                }
                if method not in settings["recommend"]:
                    continue
                out = workdir / f"{method}-{backbone}.parquet"
                one = [f"--config.model.method={method}", f"--config.model.backbone={backbone}"]
                run_program([*flags, *one, "--mode=recommend", f"--users={users}", f"--out={out}"])
                found[f"{method}-{backbone}"]["recommended"] = columns_of(out)
        found["results"] = results_of(workdir)
        found["checkpoints"] = apart(_checkpoints, workdir / "checkpoints")
    return found


def flags_of(workdir: pathlib.Path, fields: Mapping[str, Any]) -> list[str]:
    """The command line of the synthetic shop with these fields of the config."""
    return [
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def run_program(flags: Sequence[str]) -> str:
    """What a call of the program prints; raises RuntimeError where it refuses."""
    from tests.faults.program import call

    outcome = call(flags, seconds=PATIENCE)
    if outcome.code != 0:
        raise RuntimeError(f"{' '.join(flags)}: exit {outcome.code}: {outcome.err[-2000:]}")
    return outcome.out


def _data(workdir: pathlib.Path) -> dict[str, Any]:
    """Fingerprint and sizes of the data."""
    stored = json.loads((workdir / "data.json").read_text(encoding="utf-8"))
    return {name: stored[name] for name in ("fingerprint", "users", "items", "interactions")}


def _candidates(workdir: pathlib.Path) -> dict[str, str]:
    """Hashes of the stored negatives."""
    return {
        path.stem: _hash(np.load(path)) for path in sorted((workdir / "candidates").glob("*.npy"))
    }


def _knowledge(folder: pathlib.Path) -> dict[str, Any]:
    """Recipe of the bank, hashes of the texts that were encoded, neighbours, and the tables in part and by their hash."""
    tables = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    return {
        "recipe": json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["recipe"],
        "prompts": {name: _hash(tables[name]) for name in ("items_texts", "users_texts")},
        "neighbours": {
            name: tables[name][:MANY].tolist() for name in ("items_neighbours", "users_neighbours")
        },
        "tables": {
            name: _table(tables[name])
            for name in ("items", "items_similar", "users", "users_similar", "items_centre")
        },
    }


def training_of(workdir: pathlib.Path, method: str, backbone: str) -> list[dict[str, Any]]:
    """Losses and validation scores, a record for each model and epoch."""
    lines = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    own = [
        line
        for line in lines
        if (line["event"], line["method"], line["backbone"]) == ("epoch", method, backbone)
    ]
    return [
        {
            name: line[name]
            for name in ("seed", "dropout", "learning_rate", "epoch", "loss", "valid_ndcg@10")
        }
        for line in own
    ]


def _checkpoints(folder: pathlib.Path) -> dict[str, Any]:
    """Of each cell's newest checkpoint the key, type and shape of every array, how long those of the best parameters are, and a hash."""
    import orbax.checkpoint as ocp
    from jax.tree_util import tree_leaves_with_path

    found = {}
    for last in sorted(folder.glob("*/last")):
        newest = max(
            (path for path in last.iterdir() if path.name.isdigit()),
            key=lambda path: int(path.name),
        )
        leaves = tree_leaves_with_path(
            ocp.StandardCheckpointer().restore(newest.absolute() / "default")
        )
        arrays = {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in leaves}
        content = hashlib.sha256()
        for name, array in arrays.items():
            content.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
        found[last.parent.name] = {
            "step": int(newest.name),
            "keys": {
                name: f"{array.dtype.name}{list(array.shape)}" for name, array in arrays.items()
            },
            "lengths": {
                name: _length(array)
                for name, array in arrays.items()
                if name.startswith("best_params/")
            },
            "bits": content.hexdigest()[:32],
        }
    return found


def ranks_of(workdir: pathlib.Path, begin: str) -> dict[str, list[int]]:
    """Ranks of the test items, by protocol and seed; and the users that they are of."""
    found: dict[str, list[int]] = {}
    for path in sorted((workdir / "ranks").glob(f"{begin}*.npz")):
        if path.stem.rpartition("-")[2] not in PROTOCOLS:
            continue
        with np.load(path) as stored:
            found["users"] = stored["user"].tolist()
            found[path.stem.removeprefix(begin)] = stored["rank"].tolist()
    return found


def _gates(path: pathlib.Path) -> dict[str, Any] | None:
    """Gates of the test items, where a method has them."""
    if not path.exists():
        return None
    with np.load(path) as stored:
        return _table(stored["gates"])


def results_of(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Rows of results.json, less when and by which version they were made."""
    rows = json.loads((workdir / "results.json").read_text(encoding="utf-8"))["rows"]
    kept = (
        "method",
        "backbone",
        "seed",
        "dropout",
        "protocol",
        "group",
        "n",
        "best_epoch",
        "NDCG@10",
        "HR@10",
        "MRR",
    )
    return [{name: row[name] for name in kept} for row in rows if row["protocol"] in PROTOCOLS]


def columns_of(path: pathlib.Path) -> dict[str, list[Any]]:
    """Columns of a file of recommendations."""
    import pyarrow.parquet as parquet

    return parquet.read_table(path).to_pydict()


def _table(array: np.ndarray) -> dict[str, Any]:
    """A table of floats in short; its hash is compared where every bit is to be the same."""
    form = f"{array.dtype.name}{list(array.shape)}"
    return {
        "form": form,
        "length": _length(array),
        "first": array[:SHOWN].astype(float).tolist(),
        "bits": _hash(array),
    }


def _length(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(
        f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()[:32]


def prepare_process() -> None:
    """Imports what runs need, once, and sets their environment; before any run."""
    import tests.faults.program  # noqa: F401


def main() -> None:
    prepare_process()
    quick = sys.argv[1] == "--quick"
    out, *names = sys.argv[2 if quick else 1 :]
    cases = QUICK if quick else CASES
    pathlib.Path(out).write_text(
        json.dumps({name: measure(cases[name]) for name in names}), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
