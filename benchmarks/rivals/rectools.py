"""RecTools' models through its public interface: a dataset of training interactions, and our Lightning trainer. Forms:

    bce       SASRec by binary cross-entropy with one negative, as the package's default
    ce        SASRec by cross-entropy over the catalogue
    gsasrec   SASRec by gBCE with 256 negatives and t = 0.75: gSASRec (Petrov and Macdonald, RecSys 2023, arXiv 2308.07192)
    esasrec   eSASRec, which RecTools recommends: LiGR layers, sampled softmax with 256 negatives
    hstu      HSTU (Zhai et al., 2024, arXiv 2402.17152) by cross-entropy, with relative positions; without times, which nobody else reads

Sizes, dropout, learning rate and the early stop are the benchmark's. These differences from the package remain, because they are part of
the library: negatives are drawn from all items, including the user's own; Adam's second beta is 0.98; histories are padded on the left; and
the model knows only the items of the training interactions, so other candidates score below all, and other targets count as missed.
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
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.nn.transformers.ligr import LiGRLayers

from benchmarks.rivals.protocol import Course, Data, Settings, padded, ranks_of, task, write_report

EVALUATED_TOGETHER = 256
NEGATIVES = 256
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bce": (SASRecModel, {"loss": "BCE", "n_negatives": 1}),
    "ce": (SASRecModel, {"loss": "softmax"}),
    "gsasrec": (SASRecModel, {"loss": "gBCE", "n_negatives": NEGATIVES, "gbce_t": 0.75}),
    "esasrec": (
        SASRecModel,
        {
            "loss": "sampled_softmax",
            "n_negatives": NEGATIVES,
            "transformer_layers_type": LiGRLayers,
        },
    ),
    "hstu": (HSTUModel, {"loss": "softmax", "relative_time_attention": False}),
}


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
    device = next(model.parameters()).device
    # 0, the library's padding, for items it does not know
    rows = np.zeros(data.num_items, np.int64)
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
            batch = {"x": torch.from_numpy(sessions).to(device)}
            states = model.encode_sessions(batch, table)[:, -1]
            asked = torch.from_numpy(candidates[begin : begin + EVALUATED_TOGETHER]).to(device)
            scores.append(
                (table[asked] @ states[:, :, None])[..., 0].masked_fill(asked == 0, -torch.inf)
            )
    module.train()
    return ranks_of(torch.cat(scores).cpu().numpy())


def make_model(form: str, settings: Settings, stop: EarlyStop) -> Any:
    """One of `FORMS`, with ids only and the benchmark's sizes."""

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=settings.max_epochs,
            accelerator="gpu" if settings.device == "cuda" else "cpu",
            devices=1,
            callbacks=[stop],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    kind, own = FORMS[form]
    return kind(
        n_blocks=settings.num_layers,
        n_heads=settings.num_heads,
        n_factors=settings.features,
        dropout_rate=settings.dropout,
        session_max_len=settings.max_length,
        batch_size=settings.batch_size,
        lr=settings.learning_rate,
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
        **own,
    )


def main() -> None:
    """Trains to the early stop and reports."""
    _, settings, data, out, form = task()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as in JAX
    seed_everything(settings.seed)
    model = make_model(form or "bce", settings, EarlyStop(Course(settings), data))
    model.fit(interactions(data))
    # `fit` works on a copy of the trainer
    stop = next(own for own in model.fit_trainer.callbacks if isinstance(own, EarlyStop))
    seconds = stop.course.seconds()
    model.torch_model.load_state_dict(stop.best)
    model.torch_model.to(settings.device)
    tested = ranks(model.lightning_model, data, "test")
    write_report(
        out,
        stop.course.report(seconds, tested, ("rectools", "pytorch-lightning", "torch", "numpy")),
    )


if __name__ == "__main__":
    main()
