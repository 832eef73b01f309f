"""What a service is started on: a saved model or a workdir, and the users that it knows by their ids."""

import itertools
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from grasp_jax.api import Recommender
from grasp_jax.config import CONFIG_FILE, DataConfig, read_config
from grasp_jax.core import compiled
from grasp_jax.core.errors import DataChanged, UserError
from grasp_jax.data.bad_rows import HINT
from grasp_jax.data.dataset import Dataset
from grasp_jax.data.moments import shown as shown_moment
from grasp_jax.data.readers import folder_of
from grasp_jax.fitting import Fitted
from grasp_jax.models.device_data import QUERY_TABLES
from grasp_jax.models.gate_queries import query_tables
from grasp_jax.serving.answers import row_of_items
from grasp_jax.serving.artifact import (
    Artifact,
    is_saved_model,
    load_artifact,
    no_model,
    save_command,
)
from grasp_jax.serving.catalogue import Catalogue
from grasp_jax.serving.http.requests import Refused, shown

SHRUNK = 0.1  # share of the users or interactions; a log that lost more is reported
# fields of the `data` section, in addition to the columns, that also hold for another folder of such data
SHARED_FIELDS = (
    "items_id_column",
    "title_column",
    "max_missing_text",
    "users_id_column",
    "bad_rows",
    "min_rating",
    "ties",
    "ties_seed",
)


class KnownUser(NamedTuple):
    """A user of the data.

    Attributes:
      history: [n] int32 item rows of the model, oldest first.
      disliked: [m] int32 item rows that were rated low.
      text_vectors: for a gated model, two vectors [E] of the user; None: they are computed from the history.
    """

    history: np.ndarray
    disliked: np.ndarray
    text_vectors: tuple[np.ndarray, np.ndarray] | None


class DataSize(NamedTuple):
    """How much of the data a service reads, by which an operator sees that a file is cut off or old.

    Attributes:
      users, interactions: numbers of both.
      newest: the time of the newest interaction, in UTC (a number if times are only an order); None: there are no times.
    """

    users: int
    interactions: int
    newest: str | None

    def shrinkage(self, earlier: "DataSize") -> str:
        """What is missing of earlier data, in words; empty unless users or interactions are fewer by more than `SHRUNK`."""
        lost = [
            f"{now:,} {what} instead of {before:,}"
            for what, before, now in zip(self._fields, earlier[:2], self[:2], strict=False)
            if now < (1 - SHRUNK) * before
        ]
        return f"the data have {' and '.join(lost)}; is a file cut off?" if lost else ""


class UsersOfData:
    """The users of a dataset, with items as rows of a model.

    Args:
      dataset: the data.
      catalogue: the items of the model; other items are ignored.
      text_vectors: of all users by name, [N, E] each, for a gated model that was trained on these data.
    """

    def __init__(
        self,
        dataset: Dataset,
        catalogue: Catalogue,
        text_vectors: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._log, self._text_vectors = dataset.log, text_vectors
        self._row_of_item = row_of_items(catalogue, self._log)
        self.example = str(self._log.user_ids[0])
        times, unit = self._log.timestamps, self._log.time_unit
        newest = None if times is None else shown_moment(times.max().item(), unit)
        self.size = DataSize(self._log.num_users, self._log.num_interactions, newest)
        self._log.user_rows, self._log.low_rated_by_user  # noqa: B018  computed now, so that no request waits for them

    def find(self, name: str) -> KnownUser | None:
        """Finds a user by the id as text; None if the data do not have the user."""
        row = self._log.user_rows.get(name)
        if row is None:
            return None
        begin, end = self._log.low_rated_of(row)
        text_vectors = None
        if self._text_vectors is not None:
            own, similar = (np.asarray(self._text_vectors[table][row]) for table in QUERY_TABLES)
            text_vectors = own, similar
        history = self._log.items[self._log.offsets[row] : self._log.offsets[row + 1]]
        disliked = self._log.low_rated_by_user[1][begin:end]
        return KnownUser(self._rows(history), self._rows(disliked), text_vectors)

    def some_histories(self, count: int) -> list[np.ndarray]:
        """Item rows of some users with a known item, oldest first; always the same users."""
        offsets = self._log.offsets
        order = np.random.default_rng(0).permutation(self._log.num_users)
        histories = (self._rows(self._log.items[offsets[row] : offsets[row + 1]]) for row in order)
        return list(itertools.islice((own for own in histories if len(own)), count))

    def _rows(self, items: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self._row_of_item[items]
        known: np.ndarray = rows[rows >= 0]
        return known


def lost_users(earlier: UsersOfData | None, now: UsersOfData | None) -> str:
    """What is missing of earlier data after a reload, in words; empty if nothing or little is."""
    if earlier is None:
        return ""
    if now is None:
        return (
            f"the service knows none of its {earlier.size.users:,} users any more, because a saved model holds none; start the service "
            "with --data=FOLDER, or reload the workdir of a run"
        )
    return now.size.shrinkage(earlier.size)


class OpenedModel(NamedTuple):
    """A model and its users; None if requests can only send histories."""

    artifact: Artifact
    users: UsersOfData | None


def open_model(folder: pathlib.Path, data: str | None = None) -> OpenedModel:
    """Opens a saved model, or the workdir of a run; if its training was interrupted, a line says so.

    Args:
      folder: the folder of either.
      data: a folder of interactions with the users for a saved model.

    Raises:
      UserError: the folder is neither, a file in it has changed since it was written, or the data cannot be read.
    """
    if is_saved_model(folder):
        artifact = load_artifact(folder)
        compiled.keep(artifact.config.compilation_cache)
        users = None
        if data is not None:
            users = UsersOfData(
                read_with_names_of(artifact.config.data, data, texts=False), artifact.catalogue
            )
        return OpenedModel(artifact, users)
    if not (folder / CONFIG_FILE).is_file():
        raise no_model(folder)
    dataset = None if data is None else read_with_names_of(read_config(folder).data, data)
    try:
        model = Recommender.load(folder, dataset)
    except DataChanged as error:
        command, saved = save_command(folder)
        raise UserError(
            f"{error.change}; a workdir answers only for the data on which it was trained. Either train on the new data with another "
            "--workdir (train.start_from continues from this one), and save and serve that model; or take the new rows or files out of "
            f"the data, run {command} once, put them back, and run grasp-serve {saved} --data=FOLDER: a saved model answers for later "
            "data too"
        ) from error
    fitted, artifact = model.fitted_on(None), model.artifact
    return OpenedModel(
        artifact,
        UsersOfData(fitted.dataset, artifact.catalogue, _text_vectors_of(fitted, artifact)),
    )


def folder_below(root: pathlib.Path | None, name: str) -> pathlib.Path:
    """The folder that a request names, below the folder that the service allows.

    Raises:
      Refused: there is no such folder, or the name leads out of it.
    """
    if root is None:
        raise Refused(
            403,
            "path: the service was started without --models=FOLDER; send {} to load the same path again",
        )
    try:
        folder = (root / name).resolve()
        is_below = folder.is_relative_to(root.resolve())
        is_allowed, is_missing = is_below and folder.is_dir(), is_below and not folder.exists()
    except (OSError, ValueError, RuntimeError):
        is_allowed = is_missing = False
    if not is_allowed:
        # outside of the folder nobody learns what exists
        reason = " does not exist" if is_missing else ""
        raise Refused(403, f"path: {shown(name)}{reason}; expected a folder below that of --models")
    return folder


def read_with_names_of(config: DataConfig, data: str, texts: bool = True) -> Dataset:
    """The data in a folder, by the names of files and columns that the model was trained with; a file of another name by its usual one. A
    table of items or users is left out if the model was trained on files without one.

    Args:
      config: the `data` section of the model.
      data: the folder, or a file of interactions.
      texts: whether tables of items and users are read.

    Raises:
      UserError: the data cannot be read by these names; the message says where the names come from.
    """
    settings = {name: getattr(config, name) for name in SHARED_FIELDS}
    log = config.interactions_file
    if log and (pathlib.Path(data) / log).exists():
        settings["interactions_file"] = log
    from_files = bool(config.path) and config.resolved_source() == "files"  # not of frames or dumps
    for field in ("items_file", "users_file"):
        named = getattr(config, field)
        if not texts or (from_files and not named):
            settings[field] = ""
        elif named and (folder_of(data) / named).exists():
            settings[field] = named
    try:
        return Dataset.read(data, columns=config.columns.to_dict(), **settings)
    except UserError as error:
        fault = str(error).removesuffix(HINT)  # the model's config decides, not a flag
        raise UserError(
            f"--data: {fault}; a file and its columns are looked for by the names with which the model was trained"
        ) from error


def _text_vectors_of(fitted: Fitted, artifact: Artifact) -> Mapping[str, np.ndarray] | None:
    """Text vectors of the users on which a gated model was trained; None for other models."""
    trial = fitted.serving.trial
    bank = trial.prepared.bank
    if bank is None or not artifact.gated:
        return None
    tables = {"users": bank.users, "users_similar": bank.users_similar}
    tables |= {"items": bank.items, "items_similar": bank.items_similar}
    return query_tables(trial.config.model.gate_query, tables, trial.run.split)
