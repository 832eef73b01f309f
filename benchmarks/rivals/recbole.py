"""RecBole's SASRec through its public interface: presplit files in its own format, its data loaders, and its trainer.

Two differences from the package remain, because they are part of the library. Each position of a history is a separate row (the items
before it, and the next one), so a step has as many rows as 128 users have on average, and an epoch has as many steps as ours. And its
SASRec has no binary cross-entropy, so the loss is BPR with one negative. An item that never occurs before or after another one is unknown
to it and is scored below all others.
"""

import copy
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.rivals.protocol import Course, Data, Settings, padded, ranks_of, task, write_report

NAME = "log"  # of the data set
EVALUATED_TOGETHER = 256


class StoppedTrainer(Trainer):
    """RecBole's trainer with the benchmark's validation and early stopping. RecBole counts patience in another way, so this class decides
    when to stop.
    """

    def __init__(
        self, config: Config, model: SASRec, course: Course, data: Data, rows: np.ndarray
    ) -> None:
        super().__init__(config, model)
        self.course, self.held_out, self.rows = course, data, rows
        self.best: dict[str, torch.Tensor] = {}
        self.train_seconds = 0.0

    def _train_epoch(self, *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        loss = super()._train_epoch(*arguments, **named)
        self.train_seconds = time.perf_counter() - started
        return loss

    def _valid_epoch(self, *_: Any, **__: Any) -> tuple[float, dict[str, float]]:
        if self.course.after_epoch(
            self.train_seconds, ranks(self.model, self.held_out, "valid", self.rows)
        ):
            self.best = copy.deepcopy(self.model.state_dict())
        # with stopping_step 0 the first lower value stops the training
        value = -1.0 if self.course.ends else float(len(self.course.valid_ndcg))
        return value, {"ndcg@10": self.course.valid_ndcg[-1]}


def write_files(folder: pathlib.Path, data: Data, length: int) -> int:
    """Writes FOLDER/log/log.{train,valid,test}.inter; returns the number of training rows."""
    (folder / NAME).mkdir()
    rows = [
        (user, history[max(k - length, 0) : k], history[k])
        for user, history in enumerate(own[-length - 1 :] for own in data.training_histories())
        for k in range(1, len(history))
    ]
    parts = {"train": rows}
    for split in ("valid", "test"):
        held_out = getattr(data, split)
        parts[split] = list(
            zip(held_out.users, data.histories(split), held_out.candidates[:, 0], strict=True)
        )
    for split, part in parts.items():
        lines = [
            f"{user}\t{' '.join(map(str, history[-length:]))}\t{item}\n"
            for user, history, item in part
        ]
        path = folder / NAME / f"{NAME}.{split}.inter"
        path.write_text(
            "user_id:token\titem_id_list:token_seq\titem_id:token\n" + "".join(lines),
            encoding="utf-8",
        )
    return len(rows)


def config_of(folder: pathlib.Path, settings: Settings, steps: int, rows: int) -> Config:
    """RecBole's settings that correspond to the benchmark's; an epoch has `steps` steps."""
    return Config(
        model="SASRec",
        dataset=NAME,
        config_dict={
            "data_path": str(folder),
            "benchmark_filename": ["train", "valid", "test"],
            "alias_of_item_id": ["item_id_list"],
            "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
            "MAX_ITEM_LIST_LENGTH": settings.max_length,
            "eval_args": {
                "order": "TO",
                "group_by": "user",
                "split": {"LS": "valid_and_test"},
                "mode": "full",
            },
            "n_layers": settings.num_layers,
            "n_heads": settings.num_heads,
            "hidden_size": settings.features,
            "inner_size": settings.features,
            "hidden_act": "relu",
            "hidden_dropout_prob": settings.dropout,
            "attn_dropout_prob": settings.dropout,
            "loss_type": "BPR",
            "learning_rate": settings.learning_rate,
            "train_batch_size": -(-rows // steps),
            "train_neg_sample_args": {
                "distribution": "uniform",
                "sample_num": 1,
                "alpha": 1.0,
                "dynamic": False,
                "candidate_num": 0,
            },
            "epochs": settings.max_epochs,
            "stopping_step": 0,
            "seed": settings.seed,
            "reproducibility": True,
            "use_gpu": False,
            "state": "ERROR",
            "show_progress": False,
        },
    )


def ranks(model: Any, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
    """[n] ranks of the targets of "valid" or "test"; `rows` [V] are the model's ids of the items, 0 for unknown."""
    histories = [rows[history] for history in data.histories(split)]
    candidates = torch.from_numpy(rows[getattr(data, split).candidates])
    scores = []
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(histories), EVALUATED_TOGETHER):
            own = histories[begin : begin + EVALUATED_TOGETHER]
            lengths = torch.tensor([min(len(history), model.max_seq_length) for history in own])
            states = model.forward(
                torch.from_numpy(padded(own, model.max_seq_length, 0, left=False)), lengths
            )
            asked = candidates[begin : begin + EVALUATED_TOGETHER]
            scores.append(
                (model.item_embedding(asked) @ states[:, :, None])[..., 0].masked_fill(
                    asked == 0, -torch.inf
                )
            )
    return ranks_of(torch.cat(scores).numpy())


def main() -> None:
    """Trains to the early stop and reports."""
    folder, settings, data, out, _ = task()
    folder, out = folder.resolve(), out.resolve()
    os.chdir(folder)  # the library writes logs into the current folder
    del sys.argv[1:]  # the library would read these flags as its own
    torch.set_num_threads(settings.threads)
    course = Course(settings)
    rows = write_files(folder, data, settings.max_length)
    steps = -(-int((np.diff(data.offsets) > 1).sum()) // settings.batch_size)
    config = config_of(folder, settings, steps, rows)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, _ = data_preparation(config, dataset)
    known = dataset.field2token_id[dataset.iid_field]
    ids = np.array([known.get(str(item), 0) for item in range(data.num_items)])
    model = SASRec(config, train_data.dataset)
    trainer = StoppedTrainer(config, model, course, data, ids)
    trainer.fit(train_data, valid_data, verbose=False, saved=False)
    seconds = course.seconds()
    model.load_state_dict(trainer.best)
    write_report(
        out, course.report(seconds, ranks(model, data, "test", ids), ("recbole", "torch", "numpy"))
    )


if __name__ == "__main__":
    main()
