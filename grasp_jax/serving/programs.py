"""A trained model as two programs that need neither this package nor the shape of a batch (`jax.export`).

`states` computes states from histories, `top_k` ranks the catalogue for such states. Parameters and items are arguments of both, so that a
program is small, and a catalogue with other rows is served by the same program.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from grasp_jax.data.packing import END, START
from grasp_jax.models.batch import NO_CONTEXT, PackedBatch, StepContext, Tables
from grasp_jax.models.encoders.base import ItemEncoder
from grasp_jax.models.gates import pair_logits
from grasp_jax.models.sequence_model import SequenceModel, apply
from grasp_jax.serving.artifact import Artifact
from grasp_jax.serving.histories import OnDevice, check_one_query, place
from grasp_jax.serving.vectors import item_vectors

PLATFORMS = ("cpu", "cuda")
PRECISION = "highest"  # a GPU would round the operands of float32 products to 10 bits
VECTORS = "vectors"
QUERIES = ("text_vector", "similar_vector")  # the person's arrays that gates read

Arrays: TypeAlias = dict[str, np.ndarray]
PersonState: TypeAlias = (
    Any  # [b, D] states; for gated models a dictionary of these and of the arrays that gates read
)


class GivenVectors(ItemEncoder):
    """Item vectors that are computed already.

    Attributes:
      width: their length.
      hidden_width: `mask_width` of the encoder that computed them.
    """

    width: int
    hidden_width: int

    @property
    def vector_width(self) -> int:
        """`width`."""
        return self.width

    @property
    def mask_width(self) -> int:
        """`hidden_width`."""
        return self.hidden_width

    def item_features(
        self, tables: Tables, ids: jax.Array | None = None, context: StepContext = NO_CONTEXT
    ) -> jax.Array:
        """Rows of the table "vectors"; [...] item rows -> [..., width]."""
        vectors: jax.Array = tables[VECTORS] if ids is None else tables[VECTORS][ids]
        return vectors


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """The arrays and functions from which scores are computed, and nothing else.

    Attributes:
      model: encoder and backbone; without gates the encoder only returns the exported vectors.
      parameters: keyed by their path in the tree, joined by "/".
      items: arrays of the items, [V, ...] float32: "vectors" [V, D] or, for a gated model, "features" [V, ...] and the text vectors "items"
        and "items_similar" [V, E], which gates compare with a person.
      max_history: largest number of items of a history that the model reads.
      query_dtype: type to which a gated model rounds the text vectors of people.
      unlisted: [u] int32 `Catalogue.unlisted`.
    """

    model: SequenceModel
    parameters: Arrays
    items: Arrays
    max_history: int
    query_dtype: str
    unlisted: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))


def without_kernels(artifact: Artifact) -> Artifact:
    """The same model without GPU kernels, so that it runs on every device."""
    config = artifact.config.with_fields({"model.kernels": "xla"})
    return dataclasses.replace(artifact, config=config)


def served_model(artifact: Artifact, placed: OnDevice | None = None) -> ServedModel:
    """Extracts from a model everything that its programs read.

    Args:
      artifact: the model.
      placed: its arrays on the device, if they are there already.

    Raises:
      UserError: its gates read a different text vector at each position of a history.
    """
    config = artifact.config
    if artifact.gated:
        check_one_query(artifact)
    placed = place(artifact) if placed is None else placed
    params = {name: tree for name, tree in artifact.params.items() if name != "auxiliary"}
    model = artifact.model.clone(auxiliary=None)
    if artifact.gated:
        items: dict[str, Any] = {"features": placed.features, **placed.tables}
    else:
        vectors = item_vectors(artifact, placed.params, placed.features)
        model = model.clone(encoder=GivenVectors(vectors.shape[1], model.encoder.mask_width))
        params.pop("encoder", None)
        items = {VECTORS: vectors}
    return ServedModel(
        model,
        {"/".join(path): np.ascontiguousarray(leaf) for path, leaf in flatten_dict(params).items()},
        {name: np.ascontiguousarray(rows, np.float32) for name, rows in items.items()},
        config.data.max_length,
        config.model.table_dtype,
        artifact.catalogue.unlisted,
    )


class Programs(NamedTuple):
    """The exported programs of a model, `states` and `top_k`, and the symbols of their shapes."""

    states: export.Exported
    top_k: export.Exported


def programs(served: ServedModel, k: int) -> Programs:
    """Exports both programs, for any number of people (b), positions of a history (L), items (V) and excluded items (S).

    Args:
      served: the model.
      k: items for each person, fixed in the program, at most V; the best n < k are the first n of them.
    """
    parameters = jax.tree.map(_like, served.parameters)
    b, length, num_items = export.symbolic_shape(
        "b, L, V", constraints=[f"L <= {served.max_history}"]
    )
    inputs = [array_argument((b, length), np.int32), array_argument((b,), np.int32)]
    if served.model.gated:
        inputs += [array_argument((b, served.items["items"].shape[1]), np.float32)] * 2
    with jax.default_matmul_precision(PRECISION):
        states = _exported(states_of(served), parameters, _items(served, num_items), *inputs)
        b, num_items, seen = export.symbolic_shape("b, V, S", constraints=[f"V >= {k}"])
        person = jax.tree.unflatten(
            states.out_tree,
            [array_argument((b, *out.shape[1:]), out.dtype) for out in states.out_avals],
        )
        first = (parameters, person) if served.model.gated else (person,)
        items, excluded = _items(served, num_items), array_argument((b, seen), np.int32)
        return Programs(states, _exported(top_k_of(served, k), *first, items, excluded))


def states_of(served: ServedModel) -> Callable[..., PersonState]:
    """The function of `Programs.states`.

    Without gates (parameters, vectors [V, D], items [b, L] int32, lengths [b] int32) -> states [b, D]. Histories begin at the left, oldest
    item first, with at least one item; entries beyond the length of a history are ignored. With gates the second argument is the dictionary
    `ServedModel.items`, two more arguments are the text vectors "users" and "users_similar" [b, E] of the people, and the result is a
    dictionary.
    """
    model = served.model

    def state_of_one(
        params: Any, features: jax.Array, items: jax.Array, length: jax.Array, logits: Any
    ) -> Any:
        batch, newest = one_history(model.backbone.mask_at, items, length, logits)
        states, normaliser = apply(
            model, params, SequenceModel.user_states, features, batch, newest[None]
        )
        return states[0], None if normaliser is None else normaliser[0]

    def states_of_people(params: Any, features: jax.Array, *rows: Any) -> Any:
        return jax.vmap(state_of_one, (None, None, 0, 0, 0))(params, features, *rows)

    def ungated(
        parameters: Any, vectors: jax.Array, items: jax.Array, lengths: jax.Array
    ) -> PersonState:
        return states_of_people(_nested(parameters), vectors, items, lengths, None)[0]

    def gated(
        parameters: Any,
        catalogue: Mapping[str, jax.Array],
        items: jax.Array,
        lengths: jax.Array,
        text_vector: jax.Array,
        similar_vector: jax.Array,
    ) -> PersonState:
        person = dict(zip(QUERIES, (text_vector, similar_vector), strict=True))
        own, similar = _rounded(served, person)
        texts = catalogue["items"][items], catalogue["items_similar"][items]
        logits = pair_logits(own, similar, *texts, subscripts="be,ble->bl")
        states, normaliser = states_of_people(
            _nested(parameters), catalogue["features"], items, lengths, logits
        )
        person |= {"states": states}
        return person if normaliser is None else person | {"normaliser": normaliser}

    return gated if model.gated else ungated


def one_history(
    mask_at: str, items: jax.Array, length: jax.Array, logits: jax.Array | None
) -> tuple[PackedBatch, jax.Array]:
    """A history as the only one of a packed row.

    Args:
      mask_at: `Backbone.mask_at`.
      items: [L] int32 item rows, oldest first, from the left.
      length: [] int32 how many of them there are.
      logits: [L, 2] their pair logits, or None without gates.

    Returns:
      The batch, with one row of L places or, with a mask, L + 1; and the [] place whose state is the result.
    """
    around = (int(mask_at == START), int(mask_at == END))
    items = jnp.pad(items, around)
    column = jnp.arange(items.shape[0])
    newest = length - 1 + sum(around)
    filled = column <= newest
    masked = (column == (0 if mask_at == START else newest)) & bool(mask_at)
    batch = PackedBatch(
        items=jnp.where(filled & ~masked, items, 0)[None],
        segments=jnp.where(filled, 0, -1)[None],
        positions=jnp.where(filled, column, 0)[None],
        logits=None if logits is None else jnp.pad(logits, (around, (0, 0)))[None],
        masked=masked[None],
        queries=jnp.zeros_like(column)[None],
    )
    return batch, newest


def top_k_of(served: ServedModel, k: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The function of `Programs.top_k`.

    Without gates (states [b, D], vectors [V, D], seen [b, S] int32 excluded item rows, -1 for none) -> scores [b, k] float32 in
    descending order, -inf for excluded items, and item rows [b, k] int32. With gates (parameters, result of `states`,
    `ServedModel.items`, seen). Items in `ServedModel.unlisted` are excluded for everybody, so callers need not name them.
    """

    def best(scores: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
        if len(served.unlisted):
            scores = scores.at[:, jnp.asarray(served.unlisted)].set(-jnp.inf, mode="drop")
        people = jnp.arange(scores.shape[0])[:, None]
        columns = jnp.where(seen < 0, scores.shape[1], seen)  # past the end, where nothing is set
        scores = scores.at[people, columns].set(-jnp.inf, mode="drop")
        highest, rows = jax.lax.top_k(scores, k)
        return highest, rows.astype(jnp.int32)

    score = scores_of(served)

    def ungated(
        states: jax.Array, vectors: jax.Array, seen: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return best(score({}, states, vectors), seen)

    def gated(
        parameters: Any,
        person: Mapping[str, jax.Array],
        catalogue: Mapping[str, jax.Array],
        seen: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        return best(score(parameters, person, catalogue), seen)

    return gated if served.model.gated else ungated


def scores_of(served: ServedModel) -> Callable[[Any, PersonState, Any], jax.Array]:
    """The function (parameters, result of `states_of` for b people, items as the programs take them) -> [b, V] float32 scores.

    Without gates the parameters are not used.
    """

    def ungated(_: Any, states: PersonState, vectors: Any) -> jax.Array:
        scores: jax.Array = states @ vectors.T
        return scores

    def gated(parameters: Any, person: PersonState, catalogue: Any) -> jax.Array:
        own, similar = _rounded(served, person)
        texts = catalogue["items"], catalogue["items_similar"]
        logits = pair_logits(own, similar, *texts, subscripts="be,ve->bv")
        scores: jax.Array = apply(
            served.model,
            _nested(parameters),
            SequenceModel.score_items,
            catalogue["features"],
            person["states"],
            logits,
            person.get("normaliser"),
        )
        return scores

    return gated if served.model.gated else ungated


def gates_of(served: ServedModel) -> Callable[[Any, PersonState, Any, jax.Array], jax.Array]:
    """The function (parameters, result of `states_of` for b people, items as the programs take them, item rows [b, n]) -> [b, n, 3] gates
    of self, similar and global attention between each person and these items; only for models with gates.
    """

    def gates(parameters: Any, person: PersonState, catalogue: Any, rows: jax.Array) -> jax.Array:
        own, similar = _rounded(served, person)
        texts = catalogue["items"][rows], catalogue["items_similar"][rows]
        logits = pair_logits(own, similar, *texts, subscripts="be,bne->bn")
        found = apply(
            served.model,
            _nested(parameters),
            SequenceModel.candidate_gates,
            logits,
            person.get("normaliser"),
        )
        assert found is not None  # the model has gates
        return found

    return gates


def _rounded(served: ServedModel, person: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Text vectors of people, rounded to the dtype of the model's tables."""
    own, similar = (person[name].astype(jnp.dtype(served.query_dtype)) for name in QUERIES)
    return own, similar


def _exported(function: Callable[..., Any], *arguments: Any) -> export.Exported:
    return export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)


def _items(served: ServedModel, num_items: Any) -> Any:
    """The argument of a program that describes V items, as `ServedModel.items`; without gates only their vectors."""
    arrays = {
        name: array_argument((num_items, *rows.shape[1:]), rows.dtype)
        for name, rows in served.items.items()
    }
    return arrays if served.model.gated else arrays[VECTORS]


def array_argument(shape: tuple[Any, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An argument with which a program is compiled: its shape, which may have symbols of `jax.export`, and its dtype."""
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


def _like(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return array_argument(array.shape, array.dtype)


def _nested(parameters: Mapping[str, jax.Array]) -> Any:
    return unflatten_dict({tuple(name.split("/")): leaf for name, leaf in parameters.items()})
