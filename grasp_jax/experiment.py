"""What all cells of a run share: data, split, knowledge bank, frozen tables, stored negatives. Each is found on disk or made once."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grasp_jax import workdir as workdirs
from grasp_jax.config import identity, names, of_method
from grasp_jax.config_dict import ConfigDict
from grasp_jax.data.negatives import distinct_items, draw_candidates, exclusion_index
from grasp_jax.data.sources import Dataset, load_dataset
from grasp_jax.data.split import Groups, Histories, Split, head_tail_groups, leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.evaluation.questions import EvaluationSet, evaluation_set
from grasp_jax.evaluation.stored import StoredNegatives
from grasp_jax.knowledge.bank import TABLES, KnowledgeBank, bank_width, read_manifest
from grasp_jax.knowledge.bank import identity as bank_identity
from grasp_jax.knowledge.queries import query_rows, query_tables
from grasp_jax.models.device_data import QUERY_TABLES
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.method import Facts
from grasp_jax.models.recommender import BACKBONES, Tables, has_gates
from grasp_jax.parallel.mesh import ALL, TABLE, everywhere, make_mesh
from grasp_jax.parallel.processes import first_goes_first, is_first
from grasp_jax.parallel.rows import HostRows, shard_rows
from grasp_jax.sizes import check_sizes
from grasp_jax.timing import compile_seconds
from grasp_jax.training.records import Records

SUBSET = 0xF011  # purpose of the random stream that draws some of the evaluated users


class Experiment:
    """A config and a workdir; properties are made once, when first asked for.

    Nothing is written before it is needed, and the workdir becomes the config's own (`claim`) only where there is something to keep.
    """

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, refresh: bool = False, allow_older: bool = False) -> None:
        """`refresh`: what was made from other data is set aside; `allow_older`: a damaged newest model is replaced by the one before."""
        self.config = config
        self.workdir = workdir
        self.refresh, self.allow_older = refresh, allow_older
        self.records = Records(workdir / "metrics.jsonl", writes=is_first())
        self._bank_tables: dict[str, Any] = {}  # on the devices, by name
        self._tables: dict[str, Tables] = {}  # by method

    @functools.cached_property
    def dataset(self) -> Dataset:
        dataset = load_dataset(self.config.data)
        with first_goes_first("refresh") if self.refresh else contextlib.nullcontext():
            changed = workdirs.data_change(self.workdir, dataset.log)
            if changed and not self.refresh:
                raise UserError(f"{changed}; use another --workdir, or --mode=refresh, which keeps what is there in a folder beside")
            if changed:  # the first process alone sees it: the others come when all is set aside
                print(f"{changed}; what was made from them is in {workdirs.set_aside(self.workdir)}")
        return dataset

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the data."""
        return self.dataset.log.fingerprint()

    def claim(self) -> None:
        """Makes the workdir this config's and this data's own."""
        if is_first():
            workdirs.claim(self.workdir, self.config, self.dataset.log)

    def made_from(self, method: str) -> dict[str, Any]:
        """What models of a method are trained on, as `provenance` describes it."""
        config = of_method(self.config, method)
        fields = identity(json.loads(config.to_json_best_effort()))
        described = {"data": self.fingerprint, "config": {key: value for key, value in fields.items() if not key.startswith("by_method")}}
        if not METHODS[method].needs_bank:
            return described
        manifest = self.bank.manifest if self.bank else read_manifest(self.bank_folder, "prepare it anew")
        return described | {"bank": bank_identity(manifest)}

    @functools.cached_property
    def split(self) -> Split:
        return self._without_the_sated(leave_one_out(self.dataset.log, self.config.data.max_length, self.config.eval.include_short_users))

    def _without_the_sated(self, split: Split) -> Split:
        """Users who have had so many items that too few negatives are left are trained on and not evaluated; says how many they are."""
        wanted, log = self.config.eval.num_negatives, split.log
        if log.lengths.max() <= log.num_items - wanted:
            return split  # nobody can have had so many
        evaluated = split.test.target >= 0
        sated = evaluated & (log.num_items - distinct_items(log) < wanted)
        if sated.sum() in (0, evaluated.sum()):
            return split  # where it is everyone, `check` says so, if the mode evaluates
        example = log.user_ids[np.flatnonzero(sated)[0]]
        print(
            f"{sated.sum():,} users are not evaluated, for fewer than {wanted} items are left that they have not had "
            f"(config.eval.num_negatives); the first is {example}"
        )
        kept = {name: getattr(split, name) for name in ("valid", "test")}
        return dataclasses.replace(
            split, **{name: dataclasses.replace(part, target=np.where(sated, -1, part.target)) for name, part in kept.items()}
        )

    def check(self) -> None:
        """What can be told of the config and the data before anything is computed.

        Raises:
          UserError: there are too few items to draw negatives from, or the machine cannot hold the run.
        """
        check_sizes(self.config, self.split, (bank_width(self.bank_folder) or self.config.knowledge.width) if self.needs_bank else 0)
        wanted, log, users = self.config.eval.num_negatives, self.split.log, self.split.test.evaluated
        left = log.num_items - 1 if log.lengths.max() < log.num_items - wanted else int((log.num_items - distinct_items(log))[users].max())
        if left < wanted:
            raise UserError(
                f"config.eval.num_negatives: {wanted}; expected at most {left}, for no user has more items left of the {log.num_items} in "
                "the catalogue"
            )

    @functools.cached_property
    def groups(self) -> Groups:
        return head_tail_groups(self.split, self.config.data.tail_user_below, self.config.data.tail_item_below)

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(method, backbone) pairs that the config names."""
        return [(method, backbone) for backbone in names(self.config.model.backbone) for method in names(self.config.model.method)]

    @functools.cached_property
    def bank(self) -> KnowledgeBank | None:
        """The knowledge bank, prepared if need be; None where no method asks for one."""
        if not self.needs_bank:
            return None
        from grasp_jax.knowledge.prepare import prepare_bank  # needs pyarrow, which training on ids does not

        with first_goes_first("bank"):
            return prepare_bank(self.knowledge, self.split, self.dataset.texts, self.bank_folder)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices of the run."""
        return make_mesh(self.config.mesh.data, self.config.mesh.table)

    @property
    def needs_bank(self) -> bool:
        """Whether any method asks for knowledge."""
        return any(METHODS[method].needs_bank for method, _ in self.cells)

    @property
    def bank_folder(self) -> pathlib.Path:
        """Where the knowledge bank is, or will be."""
        return pathlib.Path(self.config.knowledge.path or self.workdir / "knowledge")

    @property
    def knowledge(self) -> ConfigDict:
        """The `knowledge` section, with files found beside the data."""
        knowledge = self.config.knowledge.copy_and_resolve_references()
        for field in ("item_file", "user_file", "item_ids_file", "user_ids_file"):
            knowledge[field] = self._beside_data(knowledge[field])
        return knowledge

    def _beside_data(self, name: str) -> str:
        """A file named in the config: as it stands, or beside the interactions."""
        data = pathlib.Path(self.config.data.path)
        beside = (data.parent if data.is_file() else data) / name
        return str(beside) if name and not pathlib.Path(name).exists() and beside.exists() else name

    def tables(self, method: str) -> Tables:
        """The frozen tables of a method, placed as `config.mesh` and `config.tables` say; those of the bank shared by all methods."""
        if not METHODS[method].needs_bank:
            return {}
        if method not in self._tables:
            assert self.bank is not None
            bank = {name: getattr(self.bank, name) for name in TABLES}
            name_of = {id(table): name for name, table in bank.items()}
            config = of_method(self.config, method).model
            chosen = METHODS[method].tables(bank, Facts(config, self.split.item_counts))
            if has_gates(chosen):
                chosen = {**chosen, **query_tables(config.gate_query, bank, self.split)}
            self._tables[method] = {
                name: self._of_bank(name_of[id(table)], table) if id(table) in name_of else self._placed(name, table, table.dtype)
                for name, table in chosen.items()
            }
        return self._tables[method]

    def _of_bank(self, name: str, table: np.ndarray) -> Any:
        if name not in self._bank_tables:
            self._bank_tables[name] = self._placed(name, table, jnp.dtype(self.config.model.table_dtype))
        return self._bank_tables[name]

    def _placed(self, name: str, table: np.ndarray, dtype: np.dtype) -> Any:
        """A frozen table where the config wants it."""
        if name in ("items", "items_similar") and self.config.mesh.table > 1:
            return shard_rows(self.mesh, table, dtype, (TABLE,))
        if name in QUERY_TABLES and self.config.tables.users == "sharded":
            return shard_rows(self.mesh, table, dtype, ALL)
        if name in QUERY_TABLES and self.config.tables.users == "host":
            return HostRows(table, dtype, self.mesh)
        return everywhere(self.mesh, np.asarray(table, dtype))

    def mask_at(self, method: str, backbone: str) -> str:
        """Where the backbone has a mask at each history."""
        return BACKBONES[backbone].from_config(of_method(self.config, method).model, 0).mask_at

    def queries(self, method: str, ends: np.ndarray) -> np.ndarray:
        """[N] rows of the query tables with which what follows each user's history is asked for; `ends` [N], as in `Histories`."""
        return query_rows(of_method(self.config, method).model.gate_query, self.split.log, ends, np.arange(self.split.log.num_users))

    def negatives(self, name: str, histories: Histories) -> np.ndarray:
        """[n, C] stored evaluation negatives of a split; drawn once per (dataset, eval seed) and kept in the workdir."""
        with first_goes_first(f"negatives {name}"):
            return self._negatives(name, histories)

    def _negatives(self, name: str, histories: Histories) -> np.ndarray:
        path, users = self.workdir / "candidates" / f"{name}.npy", histories.evaluated
        config = {"seed": self.config.eval.seed, "num_negatives": self.config.eval.num_negatives, "users": len(users)}
        store = StoredNegatives(path, {"data": self.fingerprint, "config": config})
        if (stored := store.read()) is not None:
            return stored
        index = exclusion_index(self.split.log, self.split.log.offsets[:-1], self.split.log.offsets[1:])
        offset = {"valid": 0, "test": 1}[name]
        drawn = draw_candidates(index, users, self.config.eval.num_negatives, 2 * self.config.eval.seed + offset)
        store.write(drawn)
        return drawn

    def evaluation_set(self, name: str, method: str, backbone: str, users: int = 0) -> EvaluationSet:
        """Validation or test set of a cell: of all users, or of so many drawn once, the same for every method."""
        histories = {"valid": self.split.valid, "test": self.split.test}[name]
        negatives = self.negatives(name, histories)
        everyone = histories.evaluated
        if 0 < users < len(everyone):
            kept = np.sort(np.random.default_rng([self.config.eval.seed, SUBSET]).choice(len(everyone), users, replace=False))
            target = np.full_like(histories.target, -1)
            target[everyone[kept]] = histories.target[everyone[kept]]
            histories, negatives = dataclasses.replace(histories, target=target), negatives[kept]
        return evaluation_set(
            histories, negatives, self.tables(method), self.config.eval.user_block, self.mask_at(method, backbone),
            self.queries(method, histories.end), self.mesh,
        )  # fmt: skip

    def seconds(self) -> dict[str, float]:
        """Training and validation seconds of all epochs in the records, resumed ones included, and compilation's of this process."""
        totals = {"train": 0.0, "validation": 0.0}
        epochs = {(r["method"], r["backbone"], r["epoch"]): r for r in self.records.read() if r["event"] == "epoch"}
        for record in epochs.values():  # models trained together share an epoch's seconds
            totals["train"] += record["train_seconds"]
            totals["validation"] += record["eval_seconds"]
        return {stage: round(value, 1) for stage, value in totals.items()} | {"compilation": round(compile_seconds(), 1)}
