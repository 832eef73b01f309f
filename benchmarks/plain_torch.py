"""The straightforward rival in PyTorch: eager, padded batches, frozen buffers, Eq. 3-5 as in the paper, nn.MultiheadAttention."""

import itertools
import math
import threading
import time
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.plain_jax import ROUND_SECONDS
from benchmarks.torch_backbone import SASRec
from benchmarks.workload import LEARNING_RATE, PaddedBatch
from grasp_jax.config import Config, ModelConfig
from grasp_jax.models.batch import Tables


class FrozenTables(nn.Module):
    """The four tables of a knowledge bank as frozen buffers."""

    items: torch.Tensor
    items_similar: torch.Tensor
    users: torch.Tensor
    users_similar: torch.Tensor

    def __init__(self, tables: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)


class PlainGrasp(FrozenTables):
    """GRASP on SASRec over padded histories."""

    def __init__(
        self, tables: dict[str, torch.Tensor], model: ModelConfig, max_length: int, dropout: float
    ) -> None:
        super().__init__(tables)
        sizes = [4 * tables["items"].shape[1], *model.mlp, model.features]
        layers: list[nn.Module] = []
        for size, next_size in itertools.pairwise(sizes):
            layers += [nn.Linear(size, next_size), nn.GELU(approximate="tanh")]
        self.mlp = nn.Sequential(*layers[:-1])
        self.backbone = SASRec(
            model.features, max_length, model.num_layers, model.num_heads, dropout
        )

    @staticmethod
    def attend(query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Eq. 3: queries [B, E] and values [B, L, E] -> [B, L, E]."""
        return torch.sigmoid(value @ query[:, :, None] / math.sqrt(query.shape[-1])) * value

    def embed(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Users [B] and items [B, L] -> `i_all` [B, L, D]."""
        own, similar = F.embedding(users, self.users), F.embedding(users, self.users_similar)
        item, item_similar = F.embedding(items, self.items), F.embedding(items, self.items_similar)
        joined = self.attend(
            torch.cat([own, similar], dim=-1), torch.cat([item, item_similar], dim=-1)
        )
        return self.mlp(
            torch.cat([self.attend(own, item), self.attend(similar, item_similar), joined], dim=-1)
        )

    def forward(self, batch: PaddedBatch) -> torch.Tensor:
        """The loss: binary cross-entropy of positives and negatives, mean over positions that have a next item."""
        states = self.backbone(self.embed(batch.users, batch.history))
        positive = (states * self.embed(batch.users, batch.positive)).sum(-1)[batch.mask]
        negative = (states * self.embed(batch.users, batch.negative)).sum(-1)[batch.mask]
        return F.binary_cross_entropy_with_logits(
            positive, torch.ones_like(positive)
        ) + F.binary_cross_entropy_with_logits(negative, torch.zeros_like(negative))


def put(target: torch.Tensor, *values: Any) -> None:
    """Copies JAX arrays, concatenated along their first axis, into a parameter."""
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.concatenate([np.array(value) for value in values])))


def put_linear(linear: Any, dense: Any) -> None:
    """Copies a dense layer of flax."""
    put(linear.weight, dense["kernel"].T)
    put(linear.bias, dense["bias"])


def put_norm(norm: Any, values: Any) -> None:
    """Copies a layer norm of flax."""
    put(norm.weight, values["scale"])
    put(norm.bias, values["bias"])


def put_backbone(backbone: Any, values: Any) -> None:
    """Copies parameters of flax's `SASRec` into the `SASRec` of `torch_backbone`, whose lists of modules nn.Module's types do not know."""
    put(backbone.positions.weight, values["positions"])
    for k, attention in enumerate(backbone.attentions):
        parts = values[f"SelfAttention_{k}"]
        kinds = ("query", "key", "value")
        put(attention.in_proj_weight, *(parts[name]["kernel"].T for name in kinds))
        put(attention.in_proj_bias, *(parts[name]["bias"] for name in kinds))
        put_linear(attention.out_proj, parts["out"])
        put_norm(backbone.attention_norms[k], values[f"LayerNorm_{2 * k}"])
        put_norm(backbone.forward_norms[k], values[f"LayerNorm_{2 * k + 1}"])
        put_linear(backbone.forwards[k][0], values[f"Dense_{2 * k}"])
        put_linear(backbone.forwards[k][3], values[f"Dense_{2 * k + 1}"])
    put_norm(backbone.last_norm, values[f"LayerNorm_{2 * len(backbone.attentions)}"])


def load_parameters(module: PlainGrasp, params: Any) -> None:
    """Copies parameters of `plain_jax.PlainGrasp` into the module."""
    for k, linear in enumerate(layer for layer in module.mlp if isinstance(layer, nn.Linear)):
        put_linear(linear, params[f"layers_{k}"])
    put_backbone(module.backbone, params["backbone"])


def device_problem() -> str:
    """The reason why PyTorch cannot run on JAX's device; "" if it can."""
    if jax.default_backend() == "cpu" or torch.cuda.is_available():
        return ""
    return f"JAX runs on {jax.default_backend()} and this PyTorch sees no such device"


class PlainTorchStep:
    """The module, Adam and the batches, on JAX's device.

    Attributes:
      memory_bytes: on a GPU the allocator's peak during the first step; on a CPU the growth of the process's resident memory from
        before the module was built to the highest sample of the first step; None if it cannot be read.
    """

    name = "plain PyTorch (padded, eager)"
    fused = False  # whether Adam is one operation for all parameters
    rounds = False  # whether factors of products are rounded to bfloat16

    def __init__(
        self, config: Config, params: Any, tables: Tables, batches: list[Any], dropout: float
    ) -> None:
        self.device = torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")
        torch.set_float32_matmul_precision("high")  # TF32 on a GPU, which is JAX's default there
        self.peak = _Peak(self.device)
        shared = {name: torch.from_dlpack(table) for name, table in tables.items()}
        self.module: Any = self.built(shared, config, params, batches, dropout).to(self.device)
        self.function: Any = self.module
        self.optimiser = torch.optim.Adam(
            self.module.parameters(), lr=LEARNING_RATE, fused=self.fused
        )
        self.batches = [
            self.completed(
                type(batch)(
                    *(
                        None if part is None else torch.from_numpy(np.array(part)).to(self.device)
                        for part in batch
                    )
                )
            )
            for batch in batches
        ]
        self.memory_bytes: int | None = None
        self.compile_seconds = 0.0
        self.done = 0
        self.steps_per_round = 1

    def built(
        self,
        tables: dict[str, torch.Tensor],
        config: Config,
        params: Any,
        batches: list[Any],
        dropout: float,
    ) -> nn.Module:
        """The module with these parameters."""
        module = PlainGrasp(tables, config.model, batches[0].history.shape[1], dropout)
        load_parameters(module, params)
        return module

    def completed(self, batch: Any) -> Any:
        """The batch with everything that is computed before the step; here nothing is."""
        return batch

    def first_loss(self, tables: Tables) -> float:
        """The loss of the first batch on `tables`, without dropout."""
        own = {name: getattr(self.module, name) for name in tables}
        for name, table in tables.items():
            setattr(self.module, name, torch.from_dlpack(table))
        self.module.eval()
        loss: float = self.loss(self.completed(self.batches[0])).item()
        self.module.train()
        for name, table in own.items():
            setattr(self.module, name, table)
        return loss

    def loss(self, batch: Any) -> torch.Tensor:
        """The loss of a batch, by `function`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.rounds):
            found: torch.Tensor = self.function(batch)
        return found

    def warm_up(self) -> None:
        """Runs two steps: memory is measured in the first, and the second decides how many steps a round has."""
        with self.peak:
            self.run()
        self.memory_bytes = self.peak.bytes
        self.steps_per_round = max(1, min(int(ROUND_SECONDS / self.run()), 100))

    def run(self) -> float:
        """Seconds per step of one round; the host waits only at its end."""
        started = time.perf_counter()
        for _ in range(self.steps_per_round):
            batch = self.batches[self.done % len(self.batches)]
            self.optimiser.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            self.optimiser.step()
            self.done += 1
        loss.item()
        return (time.perf_counter() - started) / self.steps_per_round


class _Peak:
    """Highest memory in use inside the `with` block, above that at construction."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = torch.cuda.memory_allocated() if device.type == "cuda" else _resident_bytes()
        self.bytes: int | None = None

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        self.stop = threading.Event()
        self.highest = 0
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated() - self.before
            return
        self.stop.set()
        self.thread.join()
        self.bytes = self.highest - self.before if self.before else None

    def _sample(self) -> None:
        while not self.stop.wait(0.005):
            self.highest = max(self.highest, _resident_bytes())
        self.highest = max(self.highest, _resident_bytes())


def _resident_bytes() -> int:
    """Resident memory of this process (Linux), 0 elsewhere."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0
