"""Cross-entropy over the whole catalogue, exact, with one block of scores in memory at a time.

The loss is a weighted sum with known weights, so both gradients are computed together with it, block of targets by block of targets, and
kept for the backward pass: three products of P x V x D, where a form that recomputes scores (Wijmans et al., 2024, "Cut your losses in
large-vocabulary language models", arXiv 2411.09009) has five at the same memory. The idea is that of the fused linear cross-entropy of
Hsu et al., 2024 (Liger kernel, arXiv 2410.10989).

On a mesh the catalogue is cut along the axis "table" and targets along "data": states travel, and of a row of scores three numbers.
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


class Summed(NamedTuple):
    """The loss [] and its gradients by states [P, D] and items [V, D]."""

    loss: jax.Array
    by_states: jax.Array
    by_items: jax.Array


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The sum over targets p of `weights[p] * -log softmax(states[p] . items)[targets[p]]`, with blocks of bounded memory.

    Attributes:
      smoothing: share of a target's weight that is distributed evenly over all other items (Szegedy et al., 2016, arXiv 1512.00567).
      dtype: dtype of the factors of matrix products; sums and everything else are float32.
      mesh: devices over which targets and items are split; None or one device: nothing is split.
      rows: number of targets in a block; 0: `rows_of_block` decides.
    """

    smoothing: float = 0.0
    dtype: jnp.dtype = jnp.float32
    mesh: Mesh | None = None
    rows: int = 0

    def __call__(
        self, states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
    ) -> jax.Array:
        """The loss [], differentiable by states and items.

        Args:
          states: [P, D].
          items: [V, D].
          targets: [P] int32 rows of items.
          weights: [P], without gradient; 0 where there is no target.
        """
        shared = self.mesh is not None and self.mesh.size > 1
        run = self._on_mesh if shared else functools.partial(self._on_device, num_items=len(items))
        if jax.default_backend() == "cpu" and not shared:  # of several models one after the other,
            run = sequential_vmap(run)  # for blocks of all together do not stay in the cache

        @jax.custom_vjp
        def loss(
            states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
        ) -> jax.Array:
            return run(states, items, targets, weights).loss

        def forward(
            states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            found = run(states, items, targets, weights)
            gradients = found.by_states.astype(states.dtype), found.by_items.astype(items.dtype)
            return found.loss, gradients

        def backward(
            gradients: tuple[jax.Array, jax.Array], outer: jax.Array
        ) -> tuple[jax.Array, jax.Array, None, None]:
            by_states, by_items = ((outer * one).astype(one.dtype) for one in gradients)
            return by_states, by_items, None, None

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
    ) -> Summed:
        """The loss over all items on one device. With `axis`, the device has a part of the items; the loss is still that over all items,
        and `by_states` is the device's share of the gradient.

        Args:
          states, targets, weights: as in `__call__`.
          items: [V, D], or the device's part [C, D] of them, padded if V is not a multiple of C.
          num_items: V.
          axis: the mesh axis along which the items are split.
        """
        here = len(items)
        first = 0 if axis is None else jax.lax.axis_index(axis) * here
        exists = (
            None if axis is None or not num_items % here else first + jnp.arange(here) < num_items
        )
        own = (targets >= first) & (targets < first + here)
        place = jnp.clip(targets - first, 0, here - 1)
        of_target = 1.0 - self.smoothing - self._spread(num_items)
        factors = items.astype(self.dtype)

        def total(x: jax.Array) -> jax.Array:
            return x if axis is None else jax.lax.psum(x, axis)

        def one_block(
            by_items: jax.Array, block: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            o, place, own, weight = block
            scores = _product("pd,vd->pv", o.astype(self.dtype), factors)
            if exists is not None:
                scores = jnp.where(exists, scores, -jnp.inf)
            largest = scores.max(axis=1)
            largest = jax.lax.pmax(largest, axis) if axis else largest
            terms = jnp.exp(scores - largest[:, None])
            normaliser = total(terms.sum(axis=1))
            asked = total(
                jnp.where(own, jnp.take_along_axis(scores, place[:, None], axis=1)[:, 0], 0.0)
            )
            losses = largest + jnp.log(normaliser) - of_target * asked
            share = (weight / normaliser)[:, None]
            terms = terms.astype(self.dtype)
            by_state = share * _product("pv,vd->pd", terms, factors)
            more = _product("pv,pd->vd", terms, (share * o).astype(self.dtype))
            return by_items + more, (weight * losses, by_state)

        blocks = self._in_blocks((states, place, own, weights), here)
        start = jnp.zeros(items.shape, jnp.float32)
        by_items, (losses, by_states) = jax.lax.scan(one_block, start, blocks)
        by_states = by_states.reshape(-1, states.shape[1])[: len(states)]

        # The terms of the target itself and of smoothing need no product of size P x V.
        states, weights = states.astype(jnp.float32), weights[:, None]
        pull = jnp.where(own[:, None], of_target * weights, 0.0)
        by_states -= pull * items[place]
        by_items = by_items.at[place].add(-pull * states)
        loss = losses.sum()
        if self.smoothing:
            there = items if exists is None else jnp.where(exists[:, None], items, 0.0)
            every, asking = there.astype(jnp.float32).sum(axis=0), (weights * states).sum(axis=0)
            spread = self._spread(num_items)
            loss -= spread * total(asking @ every)
            by_states -= spread * weights * every
            by_items -= spread * asking  # also for padding rows, which are cut off
        return Summed(loss, by_states, by_items)

    def _spread(self, num_items: int) -> float:
        """Weight of each item that is not the target."""
        return self.smoothing / max(num_items - 1, 1)

    def _in_blocks(
        self, of_targets: tuple[jax.Array, ...], num_items: int
    ) -> tuple[jax.Array, ...]:
        """[P, ...] each -> [n, p, ...], padded with zeros."""
        count = len(of_targets[0])
        rows = self.rows or rows_of_block(count, num_items, jax.default_backend())
        fill = -count % rows
        return tuple(
            jnp.pad(x, ((0, fill), *[(0, 0)] * (x.ndim - 1))).reshape(-1, rows, *x.shape[1:])
            for x in of_targets
        )

    def _on_mesh(
        self, states: jax.Array, items: jax.Array, targets: jax.Array, weights: jax.Array
    ) -> Summed:
        """The loss with targets split over all devices, and items split along the axis "table"."""
        assert self.mesh is not None
        num_items, count = len(items), len(states)
        fill = -count % self.mesh.size
        states = jnp.pad(states, ((0, fill), (0, 0)))
        targets, weights = jnp.pad(targets, (0, fill)), jnp.pad(weights, (0, fill))
        items = jnp.pad(items, ((0, -num_items % self.mesh.shape[TABLE]), (0, 0)))

        def of_device(items: jax.Array, *of_targets: jax.Array) -> tuple[jax.Array, ...]:
            along = [jax.lax.all_gather(x, TABLE, tiled=True) for x in of_targets]
            found = self._on_device(along[0], items, along[1], along[2], num_items, TABLE)
            return (
                jax.lax.psum(found.loss, DATA),
                jax.lax.psum_scatter(found.by_states, TABLE, tiled=True),
                jax.lax.psum(found.by_items, DATA),
            )

        loss, by_states, by_items = jax.shard_map(
            of_device,
            mesh=self.mesh,
            in_specs=(P(TABLE), *[P(ALL)] * 3),
            out_specs=(P(), P(ALL), P(TABLE)),
            check_vma=False,
        )(items, states, targets, weights)
        return Summed(loss, by_states[:count], by_items[:num_items])


def _product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)
