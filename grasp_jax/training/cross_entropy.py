"""Cross-entropy over the whole catalogue, exact, with one block of scores in memory at a time.

The weights of the loss are known in the forward pass. So the forward pass also computes both gradients, one block of targets after the
other, and keeps them for the backward pass. This takes three products of size P x V x D. A form that recomputes scores (Wijmans et al.,
2024, "Cut your losses in large-vocabulary language models", arXiv 2411.09009) takes five with the same memory. The idea is that of the
fused linear cross-entropy of Hsu et al., 2024 (Liger kernel, arXiv 2410.10989).

On a mesh, items are split along the axis "table" and targets along "data". Devices exchange states, and three numbers for each target: the
highest score, the normaliser, and the score of the target.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from grasp_jax.parallel.blocks import rows_of_block
from grasp_jax.parallel.mesh import ALL, DATA, TABLE


class LossAndGradients(NamedTuple):
    """The loss [] and its gradients with respect to states [P, D] and items [V, D]."""

    loss: jax.Array
    d_states: jax.Array
    d_items: jax.Array


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The sum over targets p of `weights[p] * -log softmax(states[p] . items)[targets[p]]`, with blocks of bounded memory.

    Attributes:
      smoothing: share of a target's weight that is distributed evenly over all other items (Szegedy et al., 2016, arXiv 1512.00567).
      dtype: dtype of the factors of matrix products; sums and everything else are float32.
      mesh: devices over which targets and items are split; None or one device: nothing is split.
      rows: number of targets in a block; 0: `rows_of_block` decides.
      by_column: whether the gradient of the items is summed as [D, V]; None: on a CPU, where the product that keeps the order of the scores
        is faster. Elsewhere the transpose at the end would need memory for a second gradient.
    """

    smoothing: float = 0.0
    dtype: jnp.dtype = jnp.float32
    mesh: Mesh | None = None
    rows: int = 0
    by_column: bool | None = None

    def __call__(
        self, states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
    ) -> jax.Array:
        """The loss [], differentiable with respect to states and items.

        Args:
          states: [P, D].
          items: [V, D].
          targets: [P] int32 rows of items.
          weights: [P], without gradient; 0 where there is no target.
        """
        on_mesh = self.mesh is not None and self.mesh.size > 1
        compute = (
            self._on_mesh if on_mesh else functools.partial(self._on_device, num_items=len(items))
        )
        if jax.default_backend() == "cpu" and not on_mesh:
            # several models one after the other: the blocks of all models together do not fit into the cache
            compute = sequential_vmap(compute)

        @jax.custom_vjp
        def loss(
            states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
        ) -> jax.Array:
            return compute(states, items, targets, weights).loss

        def forward(
            states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            result = compute(states, items, targets, weights)
            gradients = result.d_states.astype(states.dtype), result.d_items.astype(items.dtype)
            return result.loss, gradients

        def backward(
            gradients: tuple[jax.Array, jax.Array], d_loss: jax.Array
        ) -> tuple[jax.Array, jax.Array, None, None]:
            d_states, d_items = (
                (d_loss * gradient).astype(gradient.dtype) for gradient in gradients
            )
            return d_states, d_items, None, None

        loss.defvjp(forward, backward)
        with jax.named_scope("cross_entropy"):
            return loss(states, items, targets, weights)

    def _on_device(
        self,
        states: jax.Array,
        items: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        num_items: int,
        axis: str | None = None,
    ) -> LossAndGradients:
        """The loss over all items on one device. With `axis`, the device has a part of the items; the loss is still that over all items,
        and `d_states` is the device's share of the gradient.

        Args:
          states, targets, weights: as in `__call__`.
          items: [V, D], or the device's part [C, D] of them, padded if V is not a multiple of C.
          num_items: V.
          axis: the mesh axis along which the items are split.
        """
        num_local = len(items)
        first = 0 if axis is None else jax.lax.axis_index(axis) * num_local
        is_item = None  # False for padding
        if axis is not None and num_items % num_local:
            is_item = first + jnp.arange(num_local) < num_items
        is_local = (targets >= first) & (targets < first + num_local)
        local_targets = jnp.clip(targets - first, 0, num_local - 1)
        target_weight = 1.0 - self.smoothing - self._weight_of_others(num_items)
        cast_items = items.astype(self.dtype)
        by_column = jax.default_backend() == "cpu" if self.by_column is None else self.by_column

        def total(x: jax.Array) -> jax.Array:
            return x if axis is None else jax.lax.psum(x, axis)

        def one_block(
            d_items: jax.Array, block: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            states, local_targets, is_local, weights = block
            scores = _product("pd,vd->pv", states.astype(self.dtype), cast_items)
            if is_item is not None:
                scores = jnp.where(is_item, scores, -jnp.inf)
            highest = scores.max(axis=1)
            highest = jax.lax.pmax(highest, axis) if axis else highest
            terms = jnp.exp(scores - highest[:, None])
            normaliser = total(terms.sum(axis=1))
            local_scores = jnp.take_along_axis(scores, local_targets[:, None], axis=1)[:, 0]
            target_scores = total(jnp.where(is_local, local_scores, 0.0))
            losses = highest + jnp.log(normaliser) - target_weight * target_scores
            scale = (weights / normaliser)[:, None]
            terms = terms.astype(self.dtype)
            d_states = scale * _product("pv,vd->pd", terms, cast_items)
            scaled = (scale * states).astype(self.dtype)
            d_items += (
                _product("pd,pv->dv", scaled, terms)
                if by_column
                else _product("pv,pd->vd", terms, scaled)
            )
            return d_items, (weights * losses, d_states)

        blocks = self._in_blocks((states, local_targets, is_local, weights), num_local)
        start = jnp.zeros(items.shape[::-1] if by_column else items.shape, jnp.float32)
        d_items, (losses, d_states) = jax.lax.scan(one_block, start, blocks)
        d_items = d_items.T if by_column else d_items
        d_states = d_states.reshape(-1, states.shape[1])[: len(states)]

        # The terms of the target itself and of smoothing need no product of size P x V.
        states, weights = states.astype(jnp.float32), weights[:, None]
        target_weights = jnp.where(is_local[:, None], target_weight * weights, 0.0)
        d_states -= target_weights * items[local_targets]
        d_items = d_items.at[local_targets].add(-target_weights * states)
        loss = losses.sum()
        if self.smoothing:
            real_items = items if is_item is None else jnp.where(is_item[:, None], items, 0.0)
            sum_of_items = real_items.astype(jnp.float32).sum(axis=0)
            sum_of_states = (weights * states).sum(axis=0)
            other_weight = self._weight_of_others(num_items)
            loss -= other_weight * total(sum_of_states @ sum_of_items)
            d_states -= other_weight * weights * sum_of_items
            d_items -= other_weight * sum_of_states  # also for padding rows, which are cut off
        return LossAndGradients(loss, d_states, d_items)

    def _weight_of_others(self, num_items: int) -> float:
        """Weight of each item that is not the target."""
        return self.smoothing / max(num_items - 1, 1)

    def _in_blocks(
        self, of_targets: tuple[jax.Array, ...], num_items: int
    ) -> tuple[jax.Array, ...]:
        """Arrays [P, ...] -> [n, p, ...], padded with zeros."""
        count = len(of_targets[0])
        rows = self.rows or rows_of_block(count, num_items, jax.default_backend())
        padding = -count % rows
        return tuple(
            jnp.pad(x, ((0, padding), *[(0, 0)] * (x.ndim - 1))).reshape(-1, rows, *x.shape[1:])
            for x in of_targets
        )

    def _on_mesh(
        self, states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
    ) -> LossAndGradients:
        """The loss with targets split over all devices, and items split along the axis "table"."""
        assert self.mesh is not None
        num_items, count = len(items), len(states)
        padding = -count % self.mesh.size
        states = jnp.pad(states, ((0, padding), (0, 0)))
        targets, weights = jnp.pad(targets, (0, padding)), jnp.pad(weights, (0, padding))
        items = jnp.pad(items, ((0, -num_items % self.mesh.shape[TABLE]), (0, 0)))

        def on_device(items: jax.Array, *of_targets: jax.Array) -> tuple[jax.Array, ...]:
            states, targets, weights = (
                jax.lax.all_gather(x, TABLE, tiled=True) for x in of_targets
            )
            result = self._on_device(states, items, targets, weights, num_items, TABLE)
            return (
                jax.lax.psum(result.loss, DATA),
                jax.lax.psum_scatter(result.d_states, TABLE, tiled=True),
                jax.lax.psum(result.d_items, DATA),
            )

        loss, d_states, d_items = jax.shard_map(
            on_device,
            mesh=self.mesh,
            in_specs=(P(TABLE), *[P(ALL)] * 3),
            out_specs=(P(), P(ALL), P(TABLE)),
            check_vma=False,
        )(items, states, targets, weights)
        return LossAndGradients(loss, d_states[:count], d_items[:num_items])


def _product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)
