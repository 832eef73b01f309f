"""One run, stage by stage: data -> knowledge -> training -> evaluation. `main` picks the stages; each finds on disk what is done."""

import dataclasses
import functools
import json
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from tqdm import tqdm

from grasp_jax.config import names, of_method, save_config
from grasp_jax.data.negatives import draw_candidates, exclusion_index
from grasp_jax.data.packing import plan_packing
from grasp_jax.data.sources import Dataset, load_dataset
from grasp_jax.data.split import Groups, Histories, Split, head_tail_groups, leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.evaluation.examples import example_users, examples, target_gates
from grasp_jax.evaluation.metrics import group_rows
from grasp_jax.evaluation.ranking import EvaluationSet, evaluation_set, full_ranks, sampled_ranks, seen_pairs
from grasp_jax.evaluation.significance import ndcg_gains
from grasp_jax.files import write_text
from grasp_jax.knowledge.bank import TABLES, KnowledgeBank
from grasp_jax.knowledge.corruption import USERS, corrupted_rows
from grasp_jax.knowledge.prepare import prepare_bank
from grasp_jax.knowledge.prompts import item_titles
from grasp_jax.knowledge.queries import query_rows, query_tables
from grasp_jax.models.device_data import DeviceData, interaction_logits
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.method import Facts
from grasp_jax.models.projection import choose_projection
from grasp_jax.models.recommender import BACKBONES, Recommender, Tables, build_recommender, has_gates
from grasp_jax.timing import compile_seconds
from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.early_stopping import as_progress
from grasp_jax.training.loop import Member, Snapshot, TrainingData, initial_snapshot, train
from grasp_jax.training.losses import SHARED, choose_loss
from grasp_jax.training.records import Records
from grasp_jax.training.states import pack_all_users
from grasp_jax.training.targets import StepShape, count_targets

SUBSET = 0xF011  # purpose of the random stream that draws some of the evaluated users


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method on one backbone, with everything it is trained and evaluated on."""

    method: str
    backbone: str
    model: Recommender
    members: list[Member]
    data: TrainingData
    folder: pathlib.Path

    @property
    def labels(self) -> dict[str, str]:
        return {"method": self.method, "backbone": self.backbone}


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Test results of one cell.

    Attributes:
      rows: of `results.json`, for both protocols, all groups and each seed.
      gains: per protocol [n] NDCG@10 of each user, mean over seeds; methods of one run have the same users in the same order.
    """

    rows: list[dict[str, Any]]
    gains: dict[str, np.ndarray]


def preferred_members(members: list[Member], best: np.ndarray) -> list[int]:
    """Indices of the members with the dropout that validation prefers, one for each seed.

    Args:
      members: all that were trained.
      best: [M] best validation NDCG@10 of each; the mean over seeds decides.
    """
    scores: dict[float, list[float]] = {}
    for member, score in zip(members, best, strict=True):
        scores.setdefault(member.dropout, []).append(float(score))
    preferred = max(scores, key=lambda rate: np.mean(scores[rate]))
    return [m for m, member in enumerate(members) if member.dropout == preferred]


class Experiment:
    """A config and a workdir; every property is made once, when a stage first asks for it."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
        self.config = config
        self.workdir = workdir
        self.records = Records(workdir / "metrics.jsonl")
        self._bank_tables: dict[str, jax.Array] = {}  # on the device, by name
        self._tables: dict[str, Tables] = {}  # by method

    @functools.cached_property
    def dataset(self) -> Dataset:
        dataset = load_dataset(self.config.data)
        save_config(self.config, self.workdir)  # only now: a mistyped path must not claim the workdir
        return dataset

    @functools.cached_property
    def split(self) -> Split:
        return leave_one_out(self.dataset.log, self.config.data.max_length, self.config.eval.include_short_users)

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
        if not any(METHODS[method].needs_bank for method, _ in self.cells):
            return None
        folder = pathlib.Path(self.config.knowledge.path or self.workdir / "knowledge")
        knowledge = self.config.knowledge.copy_and_resolve_references()
        for field in ("item_file", "user_file", "item_ids_file", "user_ids_file"):
            knowledge[field] = self._beside_data(knowledge[field])
        return prepare_bank(knowledge, self.split, self.dataset.items, self.dataset.user_texts, folder)

    def _beside_data(self, name: str) -> str:
        """A file named in the config: as it stands, or inside the data folder."""
        beside = pathlib.Path(self.config.data.path) / name
        return str(beside) if name and not pathlib.Path(name).exists() and beside.exists() else name

    def tables(self, method: str) -> Tables:
        """The frozen tables of a method, on the device; made once, and those of the bank shared by all methods."""
        if not METHODS[method].needs_bank:
            return {}
        if method not in self._tables:
            assert self.bank is not None
            bank = {name: getattr(self.bank, name) for name in TABLES}
            name_of = {id(table): name for name, table in bank.items()}
            chosen = METHODS[method].tables(bank, Facts(of_method(self.config, method).model, self.split.item_counts))
            if has_gates(chosen):
                chosen = {**chosen, **query_tables(self.config.model.gate_query, bank, self.split)}
            self._tables[method] = {
                name: self._of_bank(name_of[id(table)], table) if id(table) in name_of else jnp.asarray(table)
                for name, table in chosen.items()
            }
        return self._tables[method]

    def _of_bank(self, name: str, table: np.ndarray) -> jax.Array:
        if name not in self._bank_tables:
            self._bank_tables[name] = jnp.asarray(table).astype(jnp.dtype(self.config.model.table_dtype))
        return self._bank_tables[name]

    def queries(self, ends: np.ndarray) -> np.ndarray:
        """[N] rows of the query tables with which what follows each user's history is asked for; `ends` [N], as in `Histories`."""
        return query_rows(self.config.model.gate_query, self.split.log, ends, np.arange(self.split.log.num_users))

    def negatives(self, name: str, histories: Histories) -> np.ndarray:
        """[n, C] stored evaluation negatives of a split; drawn once per (dataset, eval seed) and kept in the workdir."""
        path = self.workdir / "candidates" / f"{name}.npy"
        users = histories.evaluated
        if path.exists():
            try:
                stored = np.load(path, allow_pickle=False)
            except (ValueError, OSError) as error:
                raise UserError(f"{path}: not readable ({error}); remove it, it is drawn again from the same seed") from error
            if stored.shape == (len(users), self.config.eval.num_negatives):
                return stored
            raise UserError(f"{path}: shape {stored.shape} for {len(users)} users; the data has changed: use another --workdir")
        index = exclusion_index(self.split.log, self.split.log.offsets[:-1], self.split.log.offsets[1:])
        offset = {"valid": 0, "test": 1}[name]
        drawn = draw_candidates(index, users, self.config.eval.num_negatives, 2 * self.config.eval.seed + offset)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, drawn, allow_pickle=False)
        partial.replace(path)
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
            histories, negatives, self.tables(method), self.config.eval.user_block, BACKBONES[backbone].bidirectional,
            self.queries(histories.end),
        )  # fmt: skip

    def cell(self, method: str, backbone: str) -> Cell:
        """Model and data of one method on one backbone."""
        config, split, tables = of_method(self.config, method), self.split, self.tables(method)
        bidirectional = BACKBONES[backbone].bidirectional
        users = np.flatnonzero(split.train.lengths > (0 if bidirectional and config.train.one_item_users else 1))
        if not len(users):
            raise UserError(f"{split.log.name}: no user has two training interactions, so there is nothing to train on")
        packing = plan_packing(split.train, users, config.train.batch_size)
        index = exclusion_index(split.log, split.log.offsets[:-1], split.train.end)
        log_users, log_items = jnp.asarray(split.log.users), jnp.asarray(split.log.items)
        every = np.arange(split.log.num_interactions)
        queries = jnp.asarray(query_rows(config.model.gate_query, split.log, every, split.log.users))
        device = DeviceData(
            items=log_items,
            users=log_users,
            logits=interaction_logits(tables, queries, log_items) if has_gates(tables) else None,
            excluded=jnp.asarray(index.shifted),
            excluded_offsets=jnp.asarray(index.offsets),
            queries=queries,
        )
        mask_rate = config.model.mask_rate if bidirectional else 0.0
        last_only = config.train.targets == "last"
        num_targets = count_targets(packing, mask_rate, last_only)
        loss = METHODS[method].loss if config.train.loss == "auto" else config.train.loss
        shared = loss in SHARED
        negatives = config.train.shared_negatives if shared else config.train.negatives
        projection = config.model.projection
        if projection == "auto":
            tokens = packing.num_rows * packing.row_length
            projection = choose_projection(split.log.num_items, tokens + (negatives if shared else num_targets * negatives))
        longest = max(packing.row_length, int(split.test.lengths.max()) + 1)
        width = self.bank.width if self.bank else 0
        model = build_recommender(config.model, method, backbone, split.log.num_items, longest, width, projection, packing.batch_size)
        members = [Member(seed, rate) for rate in config.model.dropout for seed in config.train.seeds]
        shape = StepShape(split.log.num_items, index.search_steps, num_targets, negatives, mask_rate, shared, last_only)
        data = TrainingData(
            device,
            tables,
            METHODS[method].start,
            split.train,
            users,
            packing,
            shape,
            choose_loss(loss, config.train, split.log.num_items),
            self.evaluation_set("valid", method, backbone, config.eval.valid_users),
            pack_all_users(split.train, config.eval.user_block, bidirectional) if METHODS[method].reads_states else None,
        )
        return Cell(method, backbone, model, members, data, self.workdir / "checkpoints" / f"{method}-{backbone}")

    def train(self, cell: Cell) -> Snapshot:
        """Trains one cell, or finds it trained."""
        return train(of_method(self.config, cell.method).train, cell.model, cell.members, cell.data, cell.folder, self.records, cell.labels)

    def trained(self, cell: Cell) -> Snapshot:
        """The trained cell from its checkpoints.

        Raises:
          UserError: nothing was trained in this workdir.
        """
        like = initial_snapshot(cell.model, optax.adam(of_method(self.config, cell.method).train.learning_rate), cell.members, cell.data)
        for name in ("best", "last"):
            if (cell.folder / name).is_dir() and (restored := Checkpoints(cell.folder / name).restore(like)):
                tree = Snapshot(*restored[1])
                return tree._replace(progress=as_progress(tree.progress))
        raise UserError(f"{cell.folder}: no checkpoint; run --mode=train with the same --workdir first")

    def evaluate(self, cell: Cell, snapshot: Snapshot) -> Evaluated:
        """Test results of one cell by both protocols; the ranks are stored in the workdir."""
        config, split = self.config, self.split
        test = self.evaluation_set("test", cell.method, cell.backbone)
        ranking = test if config.eval.full else None
        if config.eval.full and config.eval.full_users:
            ranking = self.evaluation_set("test", cell.method, cell.backbone, config.eval.full_users)
        seen = seen_pairs(split.log, split.test, ranking.batches) if ranking is not None and config.eval.exclude_seen else None
        rows: list[dict[str, Any]] = []
        for m in preferred_members(cell.members, snapshot.progress.best):
            member = cell.members[m]
            params = jax.tree.map(lambda leaf, m=m: leaf[m], snapshot.best_params)
            labels = {
                "dataset": split.log.name,
                **cell.labels,
                "seed": member.seed,
                "dropout": member.dropout,
                "best_epoch": int(snapshot.progress.best_epoch[m]),
                "split": "test",
            }
            ranks = {"sampled100": (test, sampled_ranks(cell.model, params, cell.data.device, cell.data.tables, test))}
            if ranking is not None:
                with tqdm(total=len(ranking.users), desc=f"{cell.method}: full ranking", unit="user", disable=None) as bar:
                    full = full_ranks(
                        cell.model, params, cell.data.device, cell.data.tables, ranking, config.eval.item_block, seen, bar.update
                    )
                ranks["full"] = (ranking, full)
            for protocol, (evaluation, values) in ranks.items():
                self._store_ranks(self._ranks_file(cell.method, cell.backbone, member.seed, protocol), evaluation, values)
                rows += group_rows(values, evaluation.users, evaluation.targets, self.groups, {**labels, "protocol": protocol})
            self._store_looks(cell, params, test, member.seed)
        write_text(self._cell_file(cell.method, cell.backbone), json.dumps(rows, indent=1) + "\n")
        return self._read_cell(cell.method, cell.backbone)

    def _store_looks(self, cell: Cell, params: Any, test: EvaluationSet, seed: int) -> None:
        """Example recommendations and gates, for a report; of a config's first seed."""
        if seed != self.config.train.seeds[0]:
            return
        split, log = self.split, self.split.log
        titles = item_titles(self.dataset.items) if self.dataset.items else [str(item) for item in log.item_ids]
        gates = target_gates(cell.model, params, test)
        shown = examples(
            cell.model, params, cell.data.device, cell.data.tables, split, example_users(split, self.config.eval.seed),
            self.queries(split.test.end), titles, gates,
        )  # fmt: skip
        name = f"{cell.method}-{cell.backbone}"
        write_text(self.workdir / "examples" / f"{name}.json", json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
        if gates is not None:
            hit = corrupted_rows(self.config.knowledge.corruption, log.num_users, USERS)[test.users]
            path = self.workdir / "gates" / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, user=log.user_ids[test.users], gates=gates.astype(np.float32), corrupted=hit)

    def seconds(self) -> dict[str, float]:
        """Training and validation seconds of all epochs in the records, resumed ones included, and compilation's of this process."""
        totals = {"train": 0.0, "validation": 0.0}
        epochs = {(r["method"], r["backbone"], r["epoch"]): r for r in self.records.read() if r["event"] == "epoch"}
        for record in epochs.values():  # models trained together share an epoch's seconds
            totals["train"] += record["train_seconds"]
            totals["validation"] += record["eval_seconds"]
        return {stage: round(value, 1) for stage, value in totals.items()} | {"compilation": round(compile_seconds(), 1)}

    def finished(self, method: str, backbone: str) -> Evaluated | None:
        """What an earlier call of the same run measured of a cell; None where nothing readable is left, so that it is measured again."""
        try:
            return self._read_cell(method, backbone)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def _read_cell(self, method: str, backbone: str) -> Evaluated:
        rows = json.loads(self._cell_file(method, backbone).read_text(encoding="utf-8"))
        gains: dict[str, list[np.ndarray]] = {}
        for row in rows:
            if row["group"] == "all":
                with np.load(self._ranks_file(method, backbone, row["seed"], row["protocol"]), allow_pickle=False) as stored:
                    gains.setdefault(row["protocol"], []).append(ndcg_gains(stored["rank"]))
        return Evaluated(rows, {protocol: np.mean(seeds, axis=0) for protocol, seeds in gains.items()})

    def _cell_file(self, method: str, backbone: str) -> pathlib.Path:
        return self.workdir / "cells" / f"{method}-{backbone}.json"

    def _ranks_file(self, method: str, backbone: str, seed: int, protocol: str) -> pathlib.Path:
        return self.workdir / "ranks" / f"{method}-{backbone}-seed{seed}-{protocol}.npz"

    def _store_ranks(self, path: pathlib.Path, evaluation: EvaluationSet, ranks: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, user=self.split.log.user_ids[evaluation.users], rank=ranks)
