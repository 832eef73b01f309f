"""A run: one config in one workdir, with everything that its trials share.

A run has two steps, each an explicit call: `open_run` reads and splits the data, `prepare` makes or opens the knowledge bank, which may
take an hour. Trials (`trials.trial`) are made from what `prepare` returns. Nothing is written into the workdir before there is something to
keep; `claim` then makes it the config's own.
"""

import contextlib
import dataclasses
import pathlib

import jax
import numpy as np
from jax.sharding import Mesh

from grasp_jax import workdir as workdirs
from grasp_jax.config import Config, KnowledgeConfig, identity, names
from grasp_jax.core.errors import DataChanged, UserError
from grasp_jax.core.log import logger
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.data.groups import Groups, head_tail_groups
from grasp_jax.data.split import Split, items_left, make_split, without_users_short_of_negatives
from grasp_jax.data.ties import SHUFFLE, num_tied
from grasp_jax.knowledge.bank import KnowledgeBank, read_manifest
from grasp_jax.knowledge.bank import identity as bank_identity
from grasp_jax.models.batch import Tables
from grasp_jax.models.gate_queries import query_rows
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Facts
from grasp_jax.models.registration import code_of
from grasp_jax.parallel.mesh import make_mesh
from grasp_jax.parallel.processes import is_main_process, main_process_first
from grasp_jax.parallel.rows import PlacedRows
from grasp_jax.planning.sizes import check_components, check_sizes
from grasp_jax.planning.text_width import TextWidth, text_width
from grasp_jax.training.records import Records
from grasp_jax.trials.earlier import bank_folder, check_named, warnings_of_missing_interactions


@dataclasses.dataclass(frozen=True)
class Run:
    """A config in a workdir, its data read and split.

    Attributes:
      config: of all methods and backbones.
      workdir: where everything that the run makes is kept.
      dataset: interactions and texts.
      split: training, validation and test.
      groups: head and tail.
      allow_older: whether a damaged newest model is replaced by the one before it.
    """

    config: Config
    workdir: pathlib.Path
    dataset: Dataset
    split: Split
    groups: Groups
    allow_older: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data and of their training part."""
        return self.split.fingerprint

    @property
    def trials(self) -> list[tuple[str, str]]:
        """(method, backbone) pairs that the config names."""
        model = self.config.model
        return [
            (method, backbone)
            for backbone in names(model.backbone)
            for method in names(model.method)
        ]

    @property
    def needs_bank(self) -> bool:
        """Whether any method reads text knowledge."""
        return any(METHODS[method].needs_bank for method, _ in self.trials)

    @property
    def bank_folder(self) -> pathlib.Path:
        """Where the knowledge bank is, or will be."""
        return bank_folder(self.config, self.workdir)

    @property
    def knowledge(self) -> KnowledgeConfig:
        """The `knowledge` section, with files that were found next to the data."""
        return knowledge_of(self.config)

    @property
    def records(self) -> Records:
        """WORKDIR/metrics.jsonl."""
        return Records(self.workdir / "metrics.jsonl", writes=is_main_process())

    def made_from(self, method: str, backbone: str) -> dict[str, object]:
        """What models of a method on a backbone are trained on, as `provenance` describes it."""
        fields = identity(self.config.for_method(method))
        own = {key: value for key, value in fields.items() if not key.startswith("by_method")}
        described: dict[str, object] = {"data": self.fingerprint, "config": own}
        if code := code_of([method, backbone]):
            described["code"] = code
        if not METHODS[method].needs_bank:
            return described
        manifest = read_manifest(self.bank_folder, "prepare it again")
        return described | {"bank": bank_identity(manifest)}

    def queries(self, method: str, ends: np.ndarray) -> np.ndarray:
        """[N] rows of the query tables for what follows each user's history, which ends at `ends` [N] (`Histories.end`)."""
        kind = self.config.for_method(method).model.gate_query
        return query_rows(kind, self.split.log, ends, np.arange(self.split.log.num_users))


def unlisted_items(run: Run) -> np.ndarray:
    """[u] int32 rows of the items that `config.recommend.listed_only` keeps from being recommended.

    Raises:
      UserError: the field is set, and there is no items table.
    """
    if not run.config.recommend.listed_only:
        return np.empty(0, np.int32)
    if run.dataset.texts.items is None:
        raise UserError(
            "config.recommend.listed_only: True, but there is no items table that could list them; name it in config.data.items_file, in "
            "Python give items, or leave the field out"
        )
    return run.dataset.unlisted


def open_run(
    config: Config,
    workdir: pathlib.Path,
    dataset: Dataset | None = None,
    refresh: bool = False,
    allow_older: bool = False,
    makes: bool = False,
) -> Run:
    """Reads and splits the data.

    Args:
      config: of the run, checked.
      workdir: its folder; it need not exist.
      dataset: the data, if they were read already; None: `config.data` says where they are.
      refresh: what the workdir holds of other data is set aside.
      allow_older: a damaged newest model may be replaced by the one before it.
      makes: the run trains or makes a bank, so the folders of earlier runs that the config names must be there.

    Raises:
      UserError: a folder of an earlier run is not one, the data cannot be read, or the workdir belongs to other data.
    """
    data, may_be_set_aside = config.data, refresh and (workdir / workdirs.DATA_FILE).exists()
    if makes and not may_be_set_aside:
        check_named(config, workdir)
    given = dataset
    if dataset is None:
        dataset = load_dataset(data, workdirs.log_store(workdir, data, refresh))
    else:
        dataset = dataset.with_split(data.split, data.valid_after, data.test_after)
    with main_process_first("refresh") if refresh else contextlib.nullcontext():
        changed = workdirs.data_change(workdir, dataset.log)
        if changed and not refresh:
            remedy = (
                "use another --workdir, or --mode=refresh, which moves the old files to WORKDIR/earlier"
                if given is None
                else "train in another workdir, as by fit(dataset, workdir=...)"
            )
            raise DataChanged(f"{changed}; {remedy}", changed)
        if makes and may_be_set_aside:  # only the data say whether it is
            check_named(config, workdir, anew=bool(changed))
        if changed:  # only the first process sees it: the others start when the files are set aside
            logger.info(f"{changed}; what was made from them is in {workdirs.set_aside(workdir)}")
    split = make_split(config.data, dataset.log, config.eval.include_short_users)
    split, _ = without_users_short_of_negatives(split, config.eval.num_negatives)
    groups = head_tail_groups(split, data.tail_user_below, data.tail_item_below, config.eval.groups)
    return Run(config, workdir, dataset, split, groups, allow_older)


def check(run: Run) -> None:
    """Checks of the config and the data that need no computation.

    Raises:
      UserError: there are too few items to draw negatives from, the machine cannot hold the run, or as in `unlisted_items` and
        `check_components` and `text_width`.
    """
    unlisted_items(run)
    _check_negatives(run)
    text = text_width(run.knowledge, run.bank_folder) if run.needs_bank else TextWidth(0)
    # a refusal must be certain, so an E that is not known yet counts as 0
    width = 0 if text.doubt else text.width
    check_sizes(run.config, run.split, width)
    items = run.split.log.num_items
    check_components(run.config, items, width or items)


def _check_negatives(run: Run) -> None:
    """Raises UserError if every user who would be evaluated has had too many items."""
    wanted, items = run.config.eval.num_negatives, run.split.log.num_items
    left = items_left(run.split, wanted)
    if left is None or not (counted := left[left < items]).size:
        return
    if (most := int(counted.max())) < wanted:
        raise UserError(
            f"config.eval.num_negatives: {wanted}; expected at most {most}, because no user has more items left of the {items} in the "
            f"catalogue, or at most {int(counted.min())}, so that every user is tested"
        )


def warn_of_missing_interactions(run: Run) -> None:
    """Logs which interactions of the earlier runs that the config names are missing from the data."""
    for warning in warnings_of_missing_interactions(run.config, run.dataset.log):
        logger.warning(warning)


def claim(run: Run) -> None:
    """Binds the workdir to this config and this data."""
    if is_main_process():
        workdirs.claim(run.workdir, run.config, run.dataset.log)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run with its knowledge, on devices.

    Attributes:
      run: config, workdir and data.
      bank: the knowledge bank; None where no method reads text.
      mesh: the devices.
      shared: tables of the bank that are on the devices already, by name; all methods of a run share them.
      tables: the frozen tables of each method of the config.
      facts: what they were made from, by method.
    """

    run: Run
    bank: KnowledgeBank | None
    mesh: Mesh
    shared: dict[str, PlacedRows] = dataclasses.field(default_factory=dict)
    tables: dict[str, Tables] = dataclasses.field(default_factory=dict)
    facts: dict[str, Facts] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """E of the knowledge bank; 0 without one."""
        return self.bank.width if self.bank else 0


def prepare_bank_of(run: Run) -> KnowledgeBank | None:
    """The knowledge bank of a run, made if there is none yet; None if no method reads text."""
    if not run.needs_bank:
        return None
    if run.config.data.ties == SHUFFLE and run.knowledge.user_file and num_tied(run.split.log):
        logger.warning(
            "config.data.ties: 'shuffle' with users' vectors of config.knowledge.user_file: if their texts were written from the file's "
            "order, they may name items of validation or test; write them again from the training part, or leave out users' texts"
        )
    # needs pyarrow, which training on ids does not need
    from grasp_jax.knowledge.prepare import prepare_bank

    with main_process_first("bank"):
        return prepare_bank(run.knowledge, run.split, run.dataset.texts, run.bank_folder)


def prepare(run: Run) -> Prepared:
    """Makes or opens the knowledge bank, and makes the mesh of devices that the config names.

    Raises:
      UserError: as in `check_components`, before any model is trained.
    """
    bank = prepare_bank_of(run)
    if bank is not None:  # some encoders make fewer numbers than the config names
        check_components(run.config, run.split.log.num_items, bank.width)
    return Prepared(run, bank, mesh_of(run.config))


def mesh_of(config: Config) -> Mesh:
    """The devices that the config names.

    Raises:
      UserError: there are other devices, or `config.kernels` needs a single one.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.table)
    # `config.rules` refuses a larger mesh that the config names; here it may be that of several processes
    if config.kernels == "backbone" and mesh.size > 1:
        raise UserError(
            f"config.kernels: {config.kernels!r} with {mesh.size} devices of {jax.process_count()} processes; no kernel is cut into "
            "parts: expected auto or xla"
        )
    return mesh


def knowledge_of(config: Config) -> KnowledgeConfig:
    """The `knowledge` section of a config, with files that were found next to the data."""
    own = config.knowledge
    return dataclasses.replace(
        own,
        item_file=_next_to_data(config, own.item_file),
        user_file=_next_to_data(config, own.user_file),
        item_ids_file=_next_to_data(config, own.item_ids_file),
        user_ids_file=_next_to_data(config, own.user_ids_file),
    )


def _next_to_data(config: Config, name: str) -> str:
    """A file named in the config: as it is, or next to the interactions."""
    data = pathlib.Path(config.data.path)
    next_to_data = (data.parent if data.is_file() else data) / name
    return (
        str(next_to_data)
        if name and not pathlib.Path(name).exists() and next_to_data.exists()
        else name
    )
