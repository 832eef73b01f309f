"""The rival in PyTorch that is written for speed: eager, compiled, and on a GPU in CUDA graphs and with products in bfloat16.

It does the same as our step with PyTorch's own operations: histories are packed into rows, an item's vector is computed once for input and
target, the projection comes before the gates, pair logits of the histories are cached, attention is scaled_dot_product_attention, and Adam
is fused. Our step also draws its negatives and gathers its batches; here both are prepared in advance.
"""

import itertools
import math
import shutil
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.plain_torch import FrozenTables, PlainTorchStep, put, put_backbone
from benchmarks.torch_backbone import PackedSASRec
from grasp_jax.config import Config, ModelConfig


class PackedRows(NamedTuple):
    """A packed batch.

    Attributes:
      users, items: [R, L] rows of users and items; 0 at an empty place.
      segments: [R, L] rows of users; -1 at an empty place.
      positions: [R, L] within the history.
      places: [P] row * L + column of each target's state; R * L after the last target.
      negatives: [P] a sampled item for each.
      logits: [R, L, 2] pair logits of users and items.
    """

    users: Any
    items: Any
    segments: Any
    positions: Any
    places: Any
    negatives: Any
    logits: Any = None


class PackedGrasp(FrozenTables):
    """GRASP on SASRec over packed rows."""

    def __init__(
        self, tables: dict[str, torch.Tensor], model: ModelConfig, places: int, dropout: float
    ) -> None:
        super().__init__(tables)
        width, sizes = tables["items"].shape[1], [*model.mlp, model.features]
        self.own = nn.Linear(width, 2 * sizes[0], bias=False)
        self.similar = nn.Linear(width, 2 * sizes[0], bias=False)
        self.bias = nn.Parameter(torch.zeros(sizes[0]))
        self.layers = nn.ModuleList(
            nn.Linear(size, after) for size, after in itertools.pairwise(sizes)
        )
        layers = model.num_layers, model.num_heads
        self.backbone = PackedSASRec(model.features, places, *layers, dropout)

    def pair_logits(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Rows [...] and [...] -> [..., 2]: u.i and ubar.ibar over sqrt(E)."""
        own = (self.users[users].float() * self.items[items].float()).sum(-1)
        similar = (self.users_similar[users].float() * self.items_similar[items].float()).sum(-1)
        return torch.stack([own, similar], dim=-1) / math.sqrt(self.items.shape[1])

    def vectors(self, items: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Item rows [T] and pair logits [T, 2] -> `i_all` [T, D]."""
        half = len(self.bias)
        rows, rows_similar = self.items[items], self.items_similar[items]
        # which multiplies rows of bfloat16 as they are
        if not torch.is_autocast_enabled(rows.device.type):
            rows, rows_similar = rows.float(), rows_similar.float()
        own, similar = self.own(rows), self.similar(rows_similar)
        first, second = torch.sigmoid(logits).unbind(-1)
        third = torch.sigmoid(logits.sum(-1) / math.sqrt(2.0))
        x = first[:, None] * own[:, :half] + second[:, None] * similar[:, :half]
        x = x + third[:, None] * (own[:, half:] + similar[:, half:]) + self.bias
        for layer in self.layers:
            x = layer(F.gelu(x, approximate="tanh"))
        return x

    def forward(self, batch: PackedRows) -> torch.Tensor:
        """The loss: binary cross-entropy of positives and negatives, mean over the existing targets."""
        count = batch.items.numel()
        exist, place = batch.places < count, batch.places.clamp(max=count - 1)
        users = batch.users.flatten()[place]
        logits = self.pair_logits(users, batch.negatives)
        both = torch.cat([batch.items.flatten(), batch.negatives])
        vectors = self.vectors(both, torch.cat([batch.logits.reshape(-1, 2), logits]))
        history, negatives = vectors[:count], vectors[count:]
        shape = (*batch.items.shape, -1)
        states = self.backbone(history.view(shape), batch.segments, batch.positions)
        asked = states.flatten(0, 1)[place]
        positive = (asked * history[(place + 1).clamp(max=count - 1)]).sum(-1)
        negative = (asked * negatives).sum(-1)
        losses = F.softplus(-positive) + F.softplus(negative)
        return torch.where(exist, losses, 0.0).sum() / exist.sum().clamp(min=1)


def load_parameters(module: PackedGrasp, params: Any) -> None:
    """Copies parameters of `plain_jax.PlainGrasp` into the module."""
    width, half = module.own.in_features, len(module.bias)
    first = params["layers_0"]["kernel"]
    parts = [first[k * width : (k + 1) * width] for k in range(4)]  # of i, ibar, and both again
    put(module.own.weight, parts[0].T, parts[2].T)
    put(module.similar.weight, parts[1].T, parts[3].T)
    assert first.shape[1] == half
    put(module.bias, params["layers_0"]["bias"])
    for k, layer in enumerate(module.layers):
        put(layer.weight, params[f"layers_{k + 1}"]["kernel"].T)
        put(layer.bias, params[f"layers_{k + 1}"]["bias"])
    put_backbone(module.backbone, params["backbone"])


class PackedTorchStep(PlainTorchStep):
    """The packed module, fused Adam and the batches, on JAX's device."""

    name = "packed PyTorch (eager)"
    fused = True

    def built(
        self,
        tables: dict[str, torch.Tensor],
        config: Config,
        params: Any,
        batches: list[Any],
        dropout: float,
    ) -> nn.Module:
        """The module with these parameters."""
        places = len(params["backbone"]["positions"])
        module = PackedGrasp(tables, config.model, places, dropout)
        load_parameters(module, params)
        return module

    def completed(self, batch: Any) -> Any:
        """The batch with the pair logits of its histories, computed from the module's present tables."""
        with torch.no_grad():
            return batch._replace(logits=self.module.pair_logits(batch.users, batch.items))


class CompiledTorchStep(PackedTorchStep):
    """`PackedTorchStep`, compiled by torch.compile."""

    name = "packed PyTorch (torch.compile)"
    mode = "default"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.function = torch.compile(self.module, mode=self.mode, dynamic=False)

    def warm_up(self) -> None:
        """Compiles and warms up as `PlainTorchStep` does; on a CPU no memory is reported, because the compiler's hides that of the step."""
        started = time.perf_counter()
        self.run()
        self.compile_seconds = time.perf_counter() - started
        super().warm_up()
        if self.device.type == "cpu":
            self.memory_bytes = None


class GraphedTorchStep(CompiledTorchStep):
    """`CompiledTorchStep`, forward and backward pass each launched as one CUDA graph."""

    name = "packed PyTorch (torch.compile, CUDA graphs)"
    mode = "reduce-overhead"


class WholeGraphTorchStep(CompiledTorchStep):
    """`CompiledTorchStep`, of which forward pass, backward pass and Adam are one CUDA graph, as a good engineer would launch it."""

    name = "packed PyTorch (torch.compile, whole step in one CUDA graph)"

    def warm_up(self) -> None:
        """Compiles, runs three steps on a stream of their own, as CUDA graphs ask for, and captures a step."""
        started = time.perf_counter()
        self.optimiser.param_groups[0]["capturable"] = True
        self.static = type(self.batches[0])(*(part.clone() for part in self.batches[0]))
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with self.peak, torch.cuda.stream(aside):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        self.memory_bytes, self.graph = self.peak.bytes, torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.last = self._step()
        self.compile_seconds, self.steps_per_round = time.perf_counter() - started, 100

    def _step(self) -> torch.Tensor:
        """One step on the static batch."""
        self.optimiser.zero_grad()
        loss = self.loss(self.static)
        loss.backward()
        self.optimiser.step()
        return loss

    def run(self) -> float:
        """Seconds per step of one round; a step copies its batch to where the graph reads it."""
        started = time.perf_counter()
        for _ in range(self.steps_per_round):
            batch = self.batches[self.done % len(self.batches)]
            for kept, part in zip(self.static, batch, strict=True):
                kept.copy_(part)
            self.graph.replay()
            self.done += 1
        self.last.item()
        return (time.perf_counter() - started) / self.steps_per_round


class RoundedGraphTorchStep(WholeGraphTorchStep):
    """`WholeGraphTorchStep` with the factors of products in bfloat16."""

    name = "packed PyTorch (torch.compile, whole step in one CUDA graph, bfloat16)"
    rounds = True


def packed_steps() -> tuple[list[type[PackedTorchStep]], str]:
    """The packed rivals that run on this device, and the reason why one does not; "" if all do."""
    if torch.cuda.is_available():
        graphs = [GraphedTorchStep, WholeGraphTorchStep, RoundedGraphTorchStep]
        return [PackedTorchStep, CompiledTorchStep, *graphs], ""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return [PackedTorchStep], "torch.compile needs a C++ compiler, and there is none"
    return [PackedTorchStep, CompiledTorchStep], ""
