"""Curves of a training for MLflow.

    recommender.fit(shop, callbacks=[MLflowCallback("shop", tracking_uri="http://localhost:5000")])

Nothing is sent anywhere but to the server or the folder that `tracking_uri` names.
"""

import dataclasses
from typing import Any

from grasp_jax.core.errors import UserError
from grasp_jax.training.callbacks import Callback, EpochRecord, TrainingSummary
from grasp_jax.training.replicas import Replica
from grasp_jax.workdir import trial_name


class MLflowCallback(Callback):
    """Logs each replica as a run of an experiment: its rates as parameters, epochs as metrics.

    It does not use MLflow's active run, so the program may have one itself.

    Args:
      experiment: name of the experiment, which is created if it does not exist.
      tracking_uri: server or folder; None: the one of MLflow's settings.

    Raises:
      UserError: mlflow is not installed.
    """

    def __init__(self, experiment: str = "grasp-jax", tracking_uri: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            remedy = "pip install 'grasp-jax[mlflow]'"
            raise UserError(
                f"MLflowCallback needs mlflow, which is not installed: {remedy}"
            ) from error
        self._client: Any = MlflowClient(tracking_uri)
        existing = self._client.get_experiment_by_name(experiment)
        self._experiment_id = (
            existing.experiment_id if existing else self._client.create_experiment(experiment)
        )
        self._runs: dict[Replica, str] = {}

    def on_epoch(self, record: EpochRecord) -> None:
        """Logs the metrics of an epoch; the first epoch of a replica creates its run."""
        if record.replica not in self._runs:
            self._runs[record.replica] = self._begin(record)
        metrics = {"loss": record.loss, "tokens_per_second": record.tokens_per_second}
        if record.valid_score is not None:  # "@" is not allowed in the name of a metric
            metrics[f"valid_ndcg_at_10.{record.valid_protocol}"] = record.valid_score
        for name, value in metrics.items():
            self._client.log_metric(self._runs[record.replica], name, value, step=record.epoch)

    def on_train_end(self, summary: TrainingSummary) -> None:
        """Ends the runs."""
        self._end("FINISHED")

    def on_train_error(self, error: BaseException) -> None:
        """Ends the runs as failed."""
        self._end("FAILED")

    def _begin(self, record: EpochRecord) -> str:
        """The id of a new run for the record's replica."""
        name = f"{trial_name(record.method, record.backbone)}-{record.replica.name}"
        run = self._client.create_run(self._experiment_id, run_name=name)
        run_id = str(run.info.run_id)
        params = {"method": record.method, "backbone": record.backbone}
        for field, value in (params | dataclasses.asdict(record.replica)).items():
            self._client.log_param(run_id, field, value)
        return run_id

    def _end(self, status: str) -> None:
        for run_id in self._runs.values():
            self._client.set_terminated(run_id, status)
        self._runs.clear()
