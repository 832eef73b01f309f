"""RecTools' `SASRecModel` through its public interface: a dataset of training interactions, loss "BCE", and our Lightning trainer.

These differences from the package remain, because they are part of the library: negatives are drawn from all items, including the user's
own; Adam's second beta is 0.98; histories are padded on the left; and the model knows only the items of the training interactions, so other
candidates score below all, and other targets count as missed.
"""

import copy
import logging
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

from benchmarks.rivals.protocol import Course, Data, Settings, padded, ranks_of, task, write_report

EVALUATED_TOGETHER = 256


class EarlyStop(Callback):
    """Times each epoch, validates after it, and keeps the parameters of the best."""

    def __init__(self, course: Course, data: Data) -> None:
        self.course, self.data = course, data
        self.best: dict[str, torch.Tensor] = {}
        self.began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        train_seconds = time.perf_counter() - self.began
        module: Any = pl_module
        if self.course.after_epoch(train_seconds, ranks(module, self.data, "valid")):
            self.best = copy.deepcopy(module.torch_model.state_dict())
        trainer.should_stop = self.course.ends


def interactions(data: Data) -> Dataset:
    """The training interactions; their times are their positions in the log."""
    users = np.repeat(np.arange(len(data.offsets) - 1), np.diff(data.offsets))
    moments = pd.to_datetime(np.arange(len(data.items)), unit="s")
    frame = pd.DataFrame(
        {
            Columns.User: users,
            Columns.Item: data.items,
            Columns.Weight: 1.0,
            Columns.Datetime: moments,
        }
    )
    return Dataset.construct(frame)


def ranks(module: Any, data: Data, split: str) -> np.ndarray:
    """[n] ranks of the targets of "valid" or "test" by RecTools' Lightning module."""
    preparator, model = module.data_preparator, module.torch_model
    rows = np.zeros(
        data.num_items, np.int64
    )  # 0, the library's padding, for items it does not know
    rows[preparator.get_known_item_ids().astype(np.int64)] = (
        preparator.get_known_items_sorted_internal_ids()
    )
    known = [own[own > 0] for own in (rows[history] for history in data.histories(split))]
    candidates = rows[getattr(data, split).candidates]
    scores = []
    module.eval()
    with torch.no_grad():
        table = model.item_model.get_all_embeddings()
        for begin in range(0, len(known), EVALUATED_TOGETHER):
            sessions = padded(
                known[begin : begin + EVALUATED_TOGETHER], preparator.session_max_len, 0, left=True
            )
            states = model.encode_sessions({"x": torch.from_numpy(sessions)}, table)[:, -1]
            asked = torch.from_numpy(candidates[begin : begin + EVALUATED_TOGETHER])
            scores.append(
                (table[asked] @ states[:, :, None])[..., 0].masked_fill(asked == 0, -torch.inf)
            )
    module.train()
    return ranks_of(torch.cat(scores).numpy())


def make_model(settings: Settings, stop: EarlyStop) -> SASRecModel:
    """The model, with ids only and the benchmark's sizes."""

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=settings.max_epochs,
            accelerator="cpu",
            devices=1,
            callbacks=[stop],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    return SASRecModel(
        n_blocks=settings.num_layers,
        n_heads=settings.num_heads,
        n_factors=settings.features,
        dropout_rate=settings.dropout,
        session_max_len=settings.max_length,
        batch_size=settings.batch_size,
        loss="BCE",
        n_negatives=1,
        lr=settings.learning_rate,
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )


def main() -> None:
    """Trains to the early stop and reports."""
    _, settings, data, out = task()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(settings.threads)
    seed_everything(settings.seed)
    model = make_model(settings, EarlyStop(Course(settings), data))
    model.fit(interactions(data))
    stop = next(
        own for own in model.fit_trainer.callbacks if isinstance(own, EarlyStop)
    )  # `fit` works on a copy of the trainer
    seconds = stop.course.seconds()
    model.torch_model.load_state_dict(stop.best)
    tested = ranks(model.lightning_model, data, "test")
    write_report(
        out,
        stop.course.report(seconds, tested, ("rectools", "pytorch-lightning", "torch", "numpy")),
    )


if __name__ == "__main__":
    main()
