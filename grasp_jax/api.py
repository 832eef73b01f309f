"""`Recommender`: train a recommender and get its recommendations in a few lines of Python.

    import grasp_jax as gj

    shop = gj.Dataset.read("folder")
    model = gj.Recommender(method="grasp_plus", dropout=0.3, eval__select="full_unseen")
    model.fit(shop)
    model.recommend(users=["ann", "lee"], k=10)
    model.save("model")

Training, evaluation and recommendations use the same functions as the command line. This module turns arguments into a config and a
workdir, and remembers which trial was fitted or loaded.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from grasp_jax.answering import Answering
from grasp_jax.arguments import as_config, fields_by_full_name, listed_metrics
from grasp_jax.config import (
    CONFIG_FILE,
    Config,
    DataConfig,
    names,
    read_config,
    value_of,
)
from grasp_jax.config_checks import check_config
from grasp_jax.core import compiled
from grasp_jax.core.errors import TrainingDiverged, UserError
from grasp_jax.core.failed_writes import refusing_failed_writes
from grasp_jax.core.frames import Frame, rows_as_frame
from grasp_jax.core.log import show_progress
from grasp_jax.core.paths import check_folder
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.evaluation.ranking_metrics import Metric
from grasp_jax.serving.artifact import is_saved_model, load_artifact, no_model, save_artifact
from grasp_jax.serving.export import export_artifact

if TYPE_CHECKING:  # the modules of training are imported only when something is trained
    from grasp_jax.fitting import Fitted
    from grasp_jax.training.callbacks import Callback, OnEpoch

# Fields of the `data` section that say how a recommender uses the data. All others say how data are read, and belong to `Dataset`.
OF_USE = ("max_length", "tail_user_below", "tail_item_below", "split", "valid_after", "test_after")


class Recommender(Answering):
    """A recommender: one method on one backbone. It can be fitted, evaluated, saved and loaded, and it recommends items.

    After `fit`, or after `load` of the workdir of a run, `recommend` knows the users of the data. A saved model contains no data:
    it recommends items for histories, or for the users of a dataset that you pass to `load`. docs/python.md has examples.
    """

    def __init__(self, config: Config | None = None, **fields: object) -> None:
        """Sets fields of the config by their names. Values are checked in the same way as command-line flags.

            Recommender(method="grasp_plus", dropout=0.3, batch_size=256, seeds=(1, 2, 3))
            Recommender(model__features=128, eval__num_negatives=50)     # if the name alone is ambiguous

        Args:
          config: the values of all other fields; None: the defaults.
          **fields: names as in the config, with or without their section: `dropout`, or `model__dropout`. A field that takes several
            numbers also accepts a single one.

        Raises:
          UserError: `config` is no `Config`, a field does not exist or is given twice, a value is not allowed, or several methods or
            backbones are given.
        """
        self._given = fields_by_full_name(fields)
        self.config = self._given_config = as_config(config).with_fields(self._given)
        check_config(self.config)
        for field, value in (
            ("method", self.config.model.method),
            ("backbone", self.config.model.backbone),
        ):
            if len(names(value)) != 1:
                raise UserError(
                    f"config.model.{field}: {value!r}; expected one {field}: make a Recommender for each, and compare them"
                )
        for field in self._given:
            section, _, name = field.partition(".")
            if section == "data" and name not in OF_USE:
                raise UserError(
                    f"config.{field}: a Recommender does not read data; give this field to Dataset.read({name}=...)"
                )
        super().__init__()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def method(self) -> str:
        """The name of its method."""
        return self.config.model.method

    @property
    def backbone(self) -> str:
        """The name of its backbone."""
        return self.config.model.backbone

    def __repr__(self) -> str:
        state = "fitted" if self._fitted else "loaded" if self._artifact else "not fitted"
        return f"Recommender(method={self.method!r}, backbone={self.backbone!r}): {state}"

    def fit(
        self,
        dataset: Dataset,
        workdir: str | os.PathLike[str] | None = None,
        refit: bool = False,
        callbacks: "Sequence[Callback | OnEpoch]" = (),
    ) -> "Recommender":
        """Trains on the training part of the data until the validation score no longer improves.

        Args:
          dataset: interactions, and texts if the method reads them.
          workdir: folder for checkpoints, the knowledge bank and results. If a call is interrupted, the same call resumes it. None: a
            temporary folder, which is deleted together with this object.
          refit: then train a second model on all interactions, for as many epochs as validation chose. `recommend` uses the second model;
            `evaluate` tests the first one, which has not seen the test interactions.
          callbacks: `training.callbacks.Callback` objects, or functions of an `EpochRecord` that may return True to stop the training.

        Returns:
          The recommender itself.

        Raises:
          UserError: bad input, which the message names, or the workdir belongs to another run.
          TrainingDiverged: a loss or a parameter is no longer finite.
        """
        from grasp_jax.fitting import fit, train_refit  # imports all that training takes

        if not isinstance(dataset, Dataset):
            kind = type(dataset).__name__
            raise UserError(
                f"fit: an object of type {kind}; expected a Dataset: Dataset.read(folder) or Dataset.from_frames(interactions)"
            )
        listeners = (callbacks,) if callable(callbacks) else tuple(callbacks)
        temporary = tempfile.TemporaryDirectory(prefix="grasp_jax-") if workdir is None else None
        folder = (
            pathlib.Path(temporary.name) / "run"
            if temporary
            else check_folder(os.fspath(workdir or ""), "workdir")
        )
        config = dataclasses.replace(self.config, data=self._use_of(dataset))
        show_progress()
        compiled.keep(config.compilation_cache)
        try:
            self._fitted = fit(config, folder, dataset, listeners)
            self._temporary = temporary  # deletes the folder of an earlier fit only now
            self.config, self._dataset = config, dataset
            self._artifact = self._placed = self._item_vectors = None
            if refit:
                serving = train_refit(self._fitted.validated, listeners)
                self._fitted = dataclasses.replace(self._fitted, serving=serving)
        except KeyboardInterrupt:
            self._interrupted = None if temporary else folder
            raise
        except TrainingDiverged as error:
            if temporary is None:
                raise
            files = "fit(dataset, workdir=...) keeps the batch of this step and the last good checkpoint"
            raise TrainingDiverged(f"{error.without_files}; {files}") from None
        return self

    def _use_of(self, dataset: Dataset) -> DataConfig:
        """The `data` section of the dataset, with those fields of `OF_USE` that the arguments of this recommender set.

        An argument `split` is another protocol: it leaves out points in time that belong to the split of the dataset or of the config.
        """
        usual = DataConfig()
        own = {
            name: value_of(self._given_config.data, name)
            for name in OF_USE
            if f"data.{name}" in self._given
            or value_of(self._given_config.data, name) != value_of(usual, name)
        }
        data = dataclasses.replace(dataset.data, **own)
        named = [name for name in OF_USE if f"data.{name}" in self._given]
        if "split" in named and data.split == "leave_one_out":
            data = dataclasses.replace(
                data,
                valid_after=data.valid_after if "valid_after" in named else "",
                test_after=data.test_after if "test_after" in named else "",
            )
        data.check_moments(named if data.split == "none" else OF_USE)
        return data

    def evaluate(self, metrics: Sequence[str | Metric] | str | Metric = ()) -> Frame:
        """Tests the model, and returns a frame with the rows of results.json: one for each protocol, seed and group of users or items.

        Args:
          metrics: one further metric or a list of them, measured over all users on the rankings of the whole catalogue. A metric is a name,
            such as "Recall@10", "MAP@10", "Coverage@10" or "Novelty@10", or a function of an `evaluation.ranking_metrics.Ranking`. They
            add two rows for each seed, for `full` and `full_unseen`.

        Raises:
          UserError: nothing was fitted, the recommender is a loaded saved model, which has no test data, or a metric is neither a known
            name nor a function.
        """
        from grasp_jax.fitting import evaluate

        return rows_as_frame(evaluate(self.trained("evaluate"), listed_metrics(metrics)).rows)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes into a folder everything that `recommend` needs, without training data and optimiser state.

        For a gated model the folder also contains the text vectors of all users, because neighbours of new users are searched among them.
        Until all is written, an earlier model in the folder can be loaded; a save that was killed can be repeated.

        Raises:
          UserError: nothing was fitted, the folder holds something else or cannot be written, the disk is full, or another process saves a
            model there.
        """
        path = check_folder(os.fspath(folder), "save")
        with refusing_failed_writes(path, "save"):
            save_artifact(self.artifact, path)

    def export(self, folder: str | os.PathLike[str], k: int = 100) -> float:
        """Writes the model as programs that need only jax, numpy and flatbuffers (docs/export.md).

        Then it reads the folder back and compares its scores with those of the model.

        Args:
          folder: a new or empty folder, or the folder of an earlier export, which is replaced.
          k: number of items for each person that the exported program returns; all items if the catalogue has fewer.

        Returns:
          The largest difference between two scores, as a share of the person's largest score.

        Raises:
          UserError: nothing was fitted, the folder contains something else or cannot be written, the disk is full, the gates read a
            different text vector at each position of a history, or the scores differ.
        """
        path = check_folder(os.fspath(folder), "export")
        with refusing_failed_writes(path, "export"):
            return export_artifact(self.artifact, path, k)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        dataset: Dataset | None = None,
        method: str | None = None,
        backbone: str | None = None,
    ) -> "Recommender":
        """Opens a saved model, or the workdir of a run.

        A run that was interrupted has the model of its best epoch so far: it is opened, and a line in the log says after how many epochs it
        was stopped.

        Args:
          folder: a folder that `save` wrote, or a workdir.
          dataset: the data with the users for `recommend`. A saved model has no users without it. A workdir needs it only if the model was
            trained on frames.
          method, backbone: which model to load if a workdir has several; None: the one with the best validation score.

        Raises:
          UserError: the folder is neither of the two, a file in it has changed since it was written, or a method or backbone of your own
            is not registered.
        """
        path = pathlib.Path(folder).expanduser()
        if is_saved_model(path):
            artifact = load_artifact(path)
            model = cls(artifact.config)
            model._artifact, model._dataset = artifact, dataset
            compiled.keep(model.config.compilation_cache)
            return model
        if not (path / CONFIG_FILE).is_file():
            raise no_model(path)
        from grasp_jax.fitting import open_finished
        from grasp_jax.workdir import log_store

        config = read_config(path)
        if dataset is None and config.data.source == "files" and not config.data.path:
            raise UserError(
                f"{path}: was trained on frames, which it does not hold; give them as load(folder, dataset=...)"
            )
        compiled.keep(config.compilation_cache)
        dataset = dataset or load_dataset(config.data, log_store(path, config.data))
        fitted = open_finished(config, path, dataset, method, backbone)
        model = cls(fitted.config)
        model._fitted, model._dataset = fitted, fitted.dataset
        return model

    def fitted_on(self, dataset: Dataset | None) -> "Fitted":
        """Returns the trained model; if there is none, trains on the dataset first.

        Raises:
          UserError: nothing was trained and no dataset is given, or the model was trained on another dataset.
        """
        if self._fitted is None and self._artifact is None and dataset is not None:
            self.fit(dataset)
        fitted = self.trained("compare")
        if dataset is not None and fitted.dataset.fingerprint != dataset.fingerprint:
            raise UserError(
                "compare: a model was fitted on other data than those given; fit it again, or leave the dataset out"
            )
        return fitted
