"""`Recommender`: train a recommender and get its answers in a few lines of Python.

    import grasp_jax as gj

    shop = gj.Dataset.read("folder")
    model = gj.Recommender(method="grasp_plus", backbone="sasrec", dropout=0.3)
    model.fit(shop)
    model.recommend(users=["ann", "lee"], k=10)
    model.save("model")

Nothing is decided here: training, evaluation and answers are those of the command line.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from grasp_jax import compiled
from grasp_jax.answering import Answering
from grasp_jax.config import (
    CONFIG_FILE,
    Config,
    DataConfig,
    names,
    read_config,
    resolve_field,
    value_of,
)
from grasp_jax.config_checks import check_config
from grasp_jax.data.dataset import Dataset, load_dataset
from grasp_jax.errors import UserError
from grasp_jax.evaluation.ranking_metrics import Metric
from grasp_jax.frames import Frame, rows_as_frame
from grasp_jax.log import show_progress
from grasp_jax.paths import check_folder
from grasp_jax.serving.artifact import is_saved_model, load_artifact, save_artifact
from grasp_jax.serving.export import export_artifact

if TYPE_CHECKING:  # what training takes is imported when something is trained
    from grasp_jax.fitting import Fitted
    from grasp_jax.training.callbacks import Callback, OnEpoch

# What reads the data, and so belongs to `Dataset`; the rest of the `data` section says how a recommender uses them.
OF_USE = ("max_length", "tail_user_below", "tail_item_below", "split", "valid_after", "test_after")


class Recommender(Answering):
    """A recommender: one method on one backbone. It is fitted, answers, and can be saved and loaded.

    After `fit`, or `load` of the workdir of a finished run, `recommend` knows the users of the data. A saved model has no data: it
    answers for people who are given by their histories, or for the users of a dataset that is given to `load`. docs/python.md has examples.
    """

    def __init__(self, config: Config | None = None, **fields: object) -> None:
        """Takes any field of the config by its name, checked as a flag is.

            Recommender(method="grasp_plus", dropout=0.3, batch_size=256, seeds=(1, 2, 3))
            Recommender(model__features=128, eval__num_negatives=50)     # where a name alone is ambiguous

        Args:
          config: where the other fields come from; None: the defaults.
          **fields: names as in the config, with or without their section: `dropout`, or `model__dropout`. A single number stands for a
            field that takes several.

        Raises:
          UserError: a field that does not exist or a value that it cannot have, or several methods or backbones.
        """
        self._given = {resolve_field(name): value for name, value in fields.items()}
        self.config = self._told = (config or Config()).with_fields(self._given)
        check_config(self.config)
        for field, value in (
            ("method", self.config.model.method),
            ("backbone", self.config.model.backbone),
        ):
            if len(names(value)) != 1:
                raise UserError(
                    f"config.model.{field}: {value!r}; a Recommender has one: make one for each, and compare them"
                )
        for field in self._given:
            section, _, name = field.partition(".")
            if section == "data" and name not in OF_USE:
                raise UserError(
                    f"config.{field}: says how data are read; give it to Dataset.read({name}=...)"
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
        """Trains on the training part of the data, until validation no longer improves.

        Args:
          dataset: interactions, and texts where the method reads them.
          workdir: folder that keeps checkpoints, knowledge and results, so that the same call continues an interrupted one; None: a
            temporary folder, which is removed with this object.
          refit: afterwards train a second model on all interactions, for as many epochs as validation chose. This model answers from
            then on; `evaluate` measures the first one, which has not seen the test interactions.
          callbacks: `training.callbacks.Callback` objects, or functions of an `EpochRecord`, which may return True to stop.

        Returns:
          The recommender itself.

        Raises:
          UserError: bad input, which the message names; or the workdir belongs to another run.
          TrainingDiverged: a loss stopped being finite.
        """
        from grasp_jax.fitting import fit, refit_of  # imports all that training takes

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
        self._fitted = fit(config, folder, dataset, listeners)
        self._temporary = temporary  # an earlier one goes only now
        self.config, self._dataset = config, dataset
        self._artifact = self._placed = self._item_vectors = None
        if refit:
            self._fitted = refit_of(self._fitted, listeners)
        return self

    def _use_of(self, dataset: Dataset) -> DataConfig:
        """How the data were read, and how this recommender uses them, where its arguments say so."""
        usual = DataConfig()
        own = {
            name: value_of(self._told.data, name)
            for name in OF_USE
            if f"data.{name}" in self._given
            or value_of(self._told.data, name) != value_of(usual, name)
        }
        return dataclasses.replace(dataset.data, **own)

    def evaluate(self, metrics: Sequence[str | Metric] = ()) -> Frame:
        """Tests the model: a frame with the rows of results.json, one for each protocol, seed and group of users and items.

        Args:
          metrics: further metrics of all users by the full ranking, one more row for each seed: names such as "Recall@10", "MAP@10",
            "Coverage@10" and "Novelty@10", or functions of an `evaluation.ranking_metrics.Ranking`.

        Raises:
          UserError: nothing was fitted, or a saved model was loaded, which has no test data.
        """
        from grasp_jax.fitting import evaluate

        return rows_as_frame(evaluate(self.trained("evaluate"), metrics).rows)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes into a folder what `recommend` needs: no training data and no optimiser.

        A model whose gates read users' texts keeps the users' text vectors, among which the neighbours of new users are found.

        Raises:
          UserError: nothing was fitted, or the folder holds something else.
        """
        save_artifact(self.artifact, check_folder(os.fspath(folder), "save"))

    def export(self, folder: str | os.PathLike[str], k: int = 100) -> float:
        """Writes a folder that answers with only jax, numpy and flatbuffers installed: docs/export.md.

        The folder is read again, and its answers are compared with those of the model.

        Args:
          folder: new, empty, or of an earlier export, which is replaced.
          k: items for each person that the exported program gives; of smaller catalogues all of them.

        Returns:
          The largest difference of a score that was found, as a share of the person's largest score.

        Raises:
          UserError: nothing was fitted, the folder holds something else, the gates ask otherwise at each place, or answers differ.
        """
        return export_artifact(self.artifact, check_folder(os.fspath(folder), "export"), k)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        dataset: Dataset | None = None,
        method: str | None = None,
        backbone: str | None = None,
    ) -> "Recommender":
        """Opens a saved model, or the workdir of a finished run.

        Args:
          folder: of `save`, or a --workdir.
          dataset: the users to answer for. A workdir knows where its data are, unless they were frames; a saved model does not.
          method, backbone: which one of a workdir with several; None: the one that validation prefers.

        Raises:
          UserError: the folder is neither, or a file in it is not as it was written.
        """
        path = pathlib.Path(folder).expanduser()
        if is_saved_model(path):
            artifact = load_artifact(path)
            model = cls(artifact.config)
            model._artifact, model._dataset = artifact, dataset
            compiled.keep(model.config.compilation_cache)
            return model
        if not (path / CONFIG_FILE).is_file():
            raise UserError(
                f"{path}: neither a saved model (model.json) nor the workdir of a run (config.json)"
            )
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
        """What was trained; trains on the dataset first, if nothing was.

        Raises:
          UserError: nothing was trained and there is no dataset, or it was trained on another one.
        """
        if self._fitted is None and self._artifact is None and dataset is not None:
            self.fit(dataset)
        fitted = self.trained("compare")
        if dataset is not None and fitted.dataset.fingerprint != dataset.fingerprint:
            raise UserError(
                "compare: a model was fitted on other data than those given; fit it again, or leave the dataset out"
            )
        return fitted
