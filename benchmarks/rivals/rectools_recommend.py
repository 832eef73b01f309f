"""Times RecTools' `SASRecModel.recommend` for many users after one training step, because speed does not depend on the parameters.

.rivals/rectools/bin/python -m benchmarks.rivals.rectools_recommend --items=V --users=N --features=D --length=L --k=K

Prints JSON: seconds of the first call and of the second, and how many rows each gave.
"""

import argparse
import json
import logging
import time
import warnings

import numpy as np
import pandas as pd
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

from benchmarks.rivals.batch_histories import histories_of


def interactions(num_items: int, users: int, length: int) -> Dataset:
    """Histories of the users, and of more users who have had every item, because the library knows only the items of interactions."""
    own = histories_of(num_items, users, length)
    everything = np.arange(num_items)
    own += np.array_split(everything, -(-num_items // length))
    frame = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(own)), [len(items) for items in own]),
            Columns.Item: np.concatenate(own),
            Columns.Weight: 1.0,
        }
    )
    frame[Columns.Datetime] = pd.to_datetime(np.arange(len(frame)), unit="s")
    return Dataset.construct(frame)


def trainer() -> Trainer:
    """A trainer for one step."""
    return Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("items", "users", "features", "length", "k"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    dataset = interactions(given.items, given.users, given.length)
    model = SASRecModel(
        n_blocks=2,
        n_heads=1,
        n_factors=given.features,
        session_max_len=given.length,
        batch_size=128,
        recommend_batch_size=256,
        loss="BCE",
        n_negatives=1,
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        found = model.recommend(np.arange(given.users), dataset, given.k, filter_viewed=True)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "rows": len(found)}))


if __name__ == "__main__":
    main()
