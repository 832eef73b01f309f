"""Plain PyTorch: SASRec on ids, eager, padded batches from a DataLoader, one dense Adam for all; on a GPU other processes load them."""

import copy
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.rivals.protocol import Course, Data, Settings, padded, ranks_of, task, write_report
from benchmarks.torch_backbone import SASRec

EVALUATED_TOGETHER = 256
LOADERS = (
    8  # most processes that load batches for a GPU; for a CPU they would compete with the training
)


class Sequences(Dataset):
    """For each user the history, the next item and a negative at each place, [L] int64 each, filled up with `num_items`."""

    def __init__(self, histories: list[np.ndarray], num_items: int, length: int, seed: int) -> None:
        self.histories = [history[-length - 1 :] for history in histories if len(history) > 1]
        self.num_items, self.length = num_items, length
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.histories)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        history = self.histories[index]
        parts = history[:-1], history[1:], self.negatives(history)
        inputs, positive, negative = padded(parts, self.length, self.num_items, left=False)
        return inputs, positive, negative

    def negatives(self, history: np.ndarray) -> np.ndarray:
        """A negative for each item of the history except the first; never an item of the history itself."""
        drawn = self.rng.integers(self.num_items, size=len(history) - 1)
        while (own := np.isin(drawn, history)).any():
            drawn[own] = self.rng.integers(self.num_items, size=own.sum())
        return drawn


class Model(nn.Module):
    """SASRec with a table of ids; its last row is for padding."""

    def __init__(self, settings: Settings, num_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, settings.features, padding_idx=num_items)
        self.backbone = SASRec(
            settings.features,
            settings.max_length,
            settings.num_layers,
            settings.num_heads,
            settings.dropout,
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def loss(
        self, inputs: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        """Binary cross-entropy of positives and negatives [B, L], mean over the places that are filled."""
        states, filled = (
            self.backbone(self.items(inputs)),
            positive != self.items.num_embeddings - 1,
        )
        of_positive = (states * self.items(positive)).sum(-1)[filled]
        of_negative = (states * self.items(negative)).sum(-1)[filled]
        return F.binary_cross_entropy_with_logits(
            of_positive, torch.ones_like(of_positive)
        ) + F.binary_cross_entropy_with_logits(of_negative, torch.zeros_like(of_negative))

    def ranks(self, data: Data, split: str, length: int) -> np.ndarray:
        """[n] ranks of the targets of "valid" or "test"."""
        self.eval()
        device = self.items.weight.device
        histories, candidates = data.histories(split), getattr(data, split).candidates
        scores = []
        with torch.no_grad():
            for begin in range(0, len(histories), EVALUATED_TOGETHER):
                own = histories[begin : begin + EVALUATED_TOGETHER]
                newest = torch.tensor([min(len(history), length) - 1 for history in own])
                rows = torch.from_numpy(padded(own, length, data.num_items, left=False))
                states = self.backbone(self.items(rows.to(device)))
                together = candidates[begin : begin + EVALUATED_TOGETHER].astype(np.int64)
                asked = self.items(torch.from_numpy(together).to(device))
                scores.append((asked @ states[torch.arange(len(own)), newest, :, None])[..., 0])
        self.train()
        return ranks_of(torch.cat(scores).cpu().numpy())


def own_draws(worker: int) -> None:
    """Gives a process that loads batches negatives of its own."""
    own = torch.utils.data.get_worker_info()
    assert own is not None
    own.dataset.rng = np.random.default_rng((own.seed, worker))


def loader_of(sequences: Sequences, settings: Settings) -> DataLoader:
    """Shuffled batches."""
    if settings.device == "cpu":
        return DataLoader(sequences, settings.batch_size, shuffle=True)
    return DataLoader(
        sequences,
        settings.batch_size,
        shuffle=True,
        num_workers=max(1, min(LOADERS, settings.threads // 2)),
        pin_memory=True,
        persistent_workers=True,
        worker_init_fn=own_draws,
    )


def main() -> None:
    """Trains to the early stop and reports."""
    _, settings, data, out, _ = task()
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as in JAX
    torch.manual_seed(settings.seed)
    course = Course(settings)
    model = Model(settings, data.num_items).to(settings.device)
    sequences = Sequences(
        data.training_histories(), data.num_items, settings.max_length, settings.seed
    )
    loader = loader_of(sequences, settings)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    best = copy.deepcopy(model.state_dict())
    while not course.ends:
        started = time.perf_counter()
        for batch in loader:
            optimiser.zero_grad()
            model.loss(*(part.to(settings.device, non_blocking=True) for part in batch)).backward()
            optimiser.step()
        if settings.device == "cuda":
            torch.cuda.synchronize()
        train_seconds = time.perf_counter() - started
        if course.after_epoch(train_seconds, model.ranks(data, "valid", settings.max_length)):
            best = copy.deepcopy(model.state_dict())
    seconds = course.seconds()
    model.load_state_dict(best)
    write_report(
        out,
        course.report(seconds, model.ranks(data, "test", settings.max_length), ("torch", "numpy")),
    )


if __name__ == "__main__":
    main()
