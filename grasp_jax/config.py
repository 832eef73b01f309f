"""Defaults of every config, what methods and sources have otherwise, and the comparison with the config of an earlier run."""

import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.files import read_sealed, write_sealed
from grasp_jax.knowledge.defaults import HOW_FAST, KNOWLEDGE

CONFIG_FILE = "config.json"
FREE = (
    "recommend",
    "mesh",
    "tables",
    "plan",
    "eval.user_block",
    "eval.item_block",
    "compilation_cache",
    "train.checkpoint_seconds",
    "knowledge.since",
    "knowledge.audit",
    "knowledge.verify",
    *(f"knowledge.{name}" for name in HOW_FAST),
    "model.method",
    "model.backbone",
    # Where data and texts lie and what their columns are called: what is in them is compared, by fingerprints.
    *(f"data.{name}" for name in ("path", "interactions_file", "items_file", "users_file")),
    *(f"data.{name}" for name in ("columns", "items_id_column", "users_id_column")),
    *(f"knowledge.{name}" for name in ("path", "item_file", "user_file", "item_ids_file", "user_ids_file")),
)  # may change between calls on one workdir: no result depends on it
FOLDERS = ("train.start_from", "knowledge.centre_from")  # however they are spelt, the folder decides


def default_config() -> ConfigDict:
    """The config that every file in `configs/` starts from; each open point of the paper is one field (docs/deviations.md).

    It is locked: a key that is not here raises AttributeError, in a config file as on the command line.
    """
    config = ConfigDict(
        {
            "compilation_cache": "~/.cache/grasp_jax",  # empty: compile anew in every process
            "mesh": {"data": 1, "table": 1},  # data x table devices share out each batch; the item tables are cut into `table` parts
            "tables": {"users": "device"},  # device (a copy on each) | sharded (rows over all devices) | host (memory-mapped)
            "kernels": "auto",  # auto | xla | pallas: grasp_jax/kernels. auto: on one GPU those that were faster there (docs/kernels.md)
            "data": {
                "name": "dataset",
                "source": "files",  # files | synthetic | amazon | auto (files if a path is given, else synthetic)
                "path": "",  # a folder or an interaction file; for amazon the folder of the raw dumps
                "interactions_file": "",  # file name inside path; empty: inter.txt, inter_time.tsv, interactions.* (README.md)
                "items_file": "",  # items table inside path; empty: none
                "columns": {"user": "user", "item": "item", "timestamp": "timestamp", "rating": "rating"},
                "items_id_column": "item",
                "title_column": "title",  # of the items table; templates call it "title" whatever its name
                "max_missing_text": 0.05,  # share of the items that the items table may lack: they have an empty text
                "users_file": "",  # table of users' attributes inside path; empty: none
                "users_id_column": "user",
                "min_rating": 0.0,  # rows rated lower are not trained on, and their items still count as seen
                "max_length": 100,  # L
                "tail_user_below": 0,  # 0: the Pareto rule, 80 % are tail
                "tail_item_below": 0,
                "synthetic": {
                    "num_users": 3000,
                    "num_items": 1500,
                    "mean_length": 9.0,
                    "repeat_rate": 0.1,
                    "corrupted_share": 0.0,
                    "seed": 0,
                    "bytes_per_row": 0,  # above 0: scale users and items so that rows of this size fit the memory at hand
                    "cpu_items": 32_768,  # and on a CPU so that there are at most so many items, for neighbours cost their square
                },
                "amazon": {
                    "category": "Beauty",
                    "min_user_interactions": 5,
                    "min_item_interactions": 5,
                    "iterative": True,
                    "require_title": True,
                    "deduplicate": True,
                },
            },
            "knowledge": KNOWLEDGE,
            "model": {
                "method": "grasp",  # one or several of models/methods, comma separated
                "backbone": "sasrec",  # one or several of sasrec, bert4rec, gru4rec; comma separated
                "features": 64,  # D
                "mlp": (256,),
                "gate": "paper",  # paper | learned | none | softmax
                "gate_scale": 1.0,  # of the gate "paper": times its 1 / sqrt(E)
                "gate_query": "user",  # user (as published) | neighbours | history | two_fold | prefix: knowledge/queries.py
                "gate_dropout": 0.0,  # share of a training batch's pairs whose logits are set to 0
                "row_norm": 1.0,  # length of frozen rows as input of the MLP
                "num_layers": 2,  # of sasrec and bert4rec
                "block": "sasrec",  # of sasrec and bert4rec: sasrec | prenorm (RMSNorm and SwiGLU)
                "padded_length": 0,  # 200 lets attention see the padding, and GRU4Rec run over it first, as LLM-ESR's code does
                "gru_layers": 1,
                "start_token": False,  # of gru4rec: a learned vector before each history
                "mask_rate": 0.6,  # of bert4rec
                "mask_noise": 0.0,  # of bert4rec: 0.1 shows a tenth of the hidden items as another, a tenth as they are (BERT, LLM-ESR)
                "llm_esr": {"similar_users": 10, "alpha": 0.1},
                "plus": {  # of grasp_plus; configs/sweep.py:plus= changes one at a time
                    "gate": "none",  # as model.gate
                    "row_norm": 3.0,
                    "id_residual": True,
                    "id_trust": 100.0,  # c of n / (n + c); 0 trusts every ID fully
                    "id_dropout": 0.3,
                },
                "rlmrec": {"con_weight": 0.01, "gen_weight": 0.1, "temperature": 0.2},
                "num_heads": 1,
                "causal": True,
                "dropout": (0.2,),  # several: all are trained, validation chooses
                "dtype": "float32",  # compute type of matrix products
                "table_dtype": "float32",  # frozen tables on the device
                "projection": "auto",  # auto | token | table
            },
            "train": {
                "start_from": "",  # workdir of an earlier run of the same model, whose best parameters training starts from
                "seeds": (42,),
                "batch_size": 128,
                "learning_rate": (1e-3,),  # several: all are trained, beside the dropouts; validation chooses
                "one_item_users": False,  # of backbones with a mask: train also on users with one training item, asked for from it alone
                "targets": "every",  # every | last: which positions of a history causal backbones are trained on
                "loss": "auto",  # auto (the method's own) | bce | softmax | gbce
                "negatives": 1,  # of bce, for each target
                "shared_negatives": 512,  # of softmax and gbce, for a batch
                "label_smoothing": 0.0,  # of softmax
                "gbce_calibration": 0.75,
                "max_epochs": 200,
                "patience": 20,
                "steps_per_dispatch": 512,
                "checkpoint_seconds": 300.0,  # between saves, at most; after an epoch sooner, if saving takes up to a tenth of the time
            },
            "eval": {
                "seed": 42,
                "num_negatives": 100,
                "include_short_users": False,
                "exclude_seen": False,
                "full": True,
                "valid_users": 0,  # 0: all; otherwise an epoch is validated on this many users, drawn once
                "full_users": 0,  # 0: all; otherwise the full ranking is measured on this many users, drawn once
                "user_block": 128,
                "item_block": 4096,
            },
            "recommend": {"top_n": 10, "exclude_seen": True},
            "plan": {  # --mode=plan: the device, one of parallel/plan.py; a number above 0 stands for the data sheet's
                "device": "H100",
                "memory_gb": 0.0,
                "bandwidth_gb": 0.0,  # a second
                "tflops": 0.0,
                "link_gb": 0.0,  # a second, to devices of the same host
                "network_gb": 0.0,  # to those of others
                "host_gb": 0.0,  # a second, from the host's memory
                "per_host": 0,
            },
            # What a source of data has otherwise, of any section, unless a flag says it: {"synthetic": {"data": {"name": "shop"}}}.
            "by_source": {},
            "by_method": {},  # what a method has otherwise: {"plain": {"model": {"dropout": (0.5,)}}}; see configs/sweep.py
        },
    )
    config.model.kernels = config.get_ref("kernels")  # models see their own section
    return config.lock()


TUPLES = ("train.seeds", "train.learning_rate", "model.mlp", "model.dropout", "knowledge.audit.history_groups")  # of numbers
SHARED_BY_METHODS = ("model.method", "model.backbone", "model.table_dtype")


def of_method(config: ConfigDict, method: str) -> ConfigDict:
    """The config as `method` has it: with `config.by_method[method]` in place of what it names.

    Raises:
      UserError: `by_method` names a field that does not exist or that all methods share, or a value of another type.
    """
    merged = config.copy_and_resolve_references()
    changes = config.by_method.get(method, ConfigDict())
    if not isinstance(changes, ConfigDict):
        raise UserError(f"config.by_method.{method}: {changes!r}; expected fields, such as {{'train': {{'learning_rate': 3e-3}}}}")
    given = {key.removeprefix(".") for key in flatten(changes.to_dict())}
    if shared := [key for key in given if not key.startswith(("model.", "train.")) or key in SHARED_BY_METHODS]:
        raise UserError(f"config.by_method.{method}.{min(shared)}: all methods of a run share it; expected other fields of model and train")
    try:
        merged.update(_with_tuples(changes.to_dict()))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"config.by_method.{method}: {' '.join(str(error).split())}; expected fields of grasp_jax/config.py") from error
    return merged


def resolve_source(config: ConfigDict, given: Collection[str] = ()) -> None:
    """Puts the source that "auto" stands for into `config.data.source`, and what `config.by_source` has for it into its fields.

    Args:
      config: changed in place; `by_source` is empty afterwards, so that config.json has what was used.
      given: full names of the fields that the command line set, which stay as they are.

    Raises:
      UserError: a path beside a source that reads none or a field of a source that is not read; or `by_source` names what there is not.
    """
    data = config.data
    if data.source == "auto":
        data.source = "files" if data.path else "synthetic"
    if data.source == "synthetic":
        for field in ("path", "interactions_file", "items_file", "users_file"):
            if data[field]:
                raise UserError(
                    f"config.data.{field}: {data[field]!r} with the synthetic shop, which reads no files; "
                    + ("leave out config.data.source=synthetic, or the path" if field == "path" else "expected config.data.path beside it")
                )
    for section in ("synthetic", "amazon"):
        unused = sorted(field for field in given if field.startswith(f"data.{section}.") and section != data.source)
        if unused:
            raise UserError(f"config.{unused[0]}: given, but config.data.source is {data.source!r}, which does not read it; leave it out")
    for source in config.by_source:
        if source not in SOURCES or not isinstance(config.by_source[source], ConfigDict):
            said = " ".join(str(config.by_source[source]).split())[:80]
            raise UserError(f"config.by_source.{source}: {said}; expected fields of one of {', '.join(SOURCES)}")
    changes = flatten(config.by_source.get(data.source, ConfigDict()).to_dict())
    for field, value in changes.items():
        if field not in given:
            try:
                config.update_from_flattened_dict({field: value})
            except (KeyError, AttributeError, TypeError, ValueError) as error:
                said = " ".join(str(error).split())
                raise UserError(f"config.by_source.{data.source}.{field}: {said}; expected a field of grasp_jax/config.py") from error
    with config.unlocked():
        config.by_source = ConfigDict()


SOURCES = ("files", "synthetic", "amazon")


def _with_tuples(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields as `by_method` gives them, a single number in a tuple where a field takes several, as a flag's is."""
    wrapped: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            wrapped[key] = _with_tuples(value, f"{prefix}{key}.")
        else:
            wrapped[key] = (value,) if f"{prefix}{key}" in TUPLES and isinstance(value, (int, float)) else value
    return wrapped


def names(value: str) -> list[str]:
    """'plain, grasp' -> ['plain', 'grasp']."""
    return [name.strip() for name in value.split(",")]


def check_workdir(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Compares with the WORKDIR/config.json of an earlier run, if there is one.

    Raises:
      UserError: the workdir belongs to another config; names the first field that differs.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        return
    mend = "use another --workdir or restore the file"
    saved = read_sealed(path, mend, required=False)
    before, now = identity(saved), identity(json.loads(config.to_json_best_effort()))
    differences = [
        f"{key} is {before.get(key)!r} there and {now.get(key)!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) not in (now.get(key), _alone(now.get(key)))
    ]
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise UserError(f"{path}: the workdir is of another config: {differences[0]}{more}; use another --workdir")


def _alone(value: Any) -> Any:
    """What a field that takes several values held in a version where it took one: `train.learning_rate`."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def save_config(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes WORKDIR/config.json, sealed, which makes the workdir this config's own; one that is there stays."""
    if not (workdir / CONFIG_FILE).exists():
        write_sealed(workdir / CONFIG_FILE, json.loads(config.to_json_best_effort()))


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of a config, as plain JSON, that a result may depend on, by its full name; folders by their absolute path."""
    fields = {key: value for key, value in flatten(dict(config)).items() if not key.startswith(FREE)}
    return fields | {key: os.path.realpath(os.path.expanduser(fields[key])) for key in FOLDERS if fields.get(key)}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def field_of(config: ConfigDict, key: str) -> Any:
    """The value of a field by its full name, "model.features"."""
    for part in key.split("."):
        config = config[part]
    return config
