"""Where the trained ID table is in a tree of parameters, or in one like it: gradients and Adam's moments."""

from typing import Any

from grasp_jax.models.batch import Params

ID_TABLE = ("encoder", "table")  # [..., V, D]: rows are items
_ENCODER, _TABLE = ID_TABLE


def has_id_table(params: Params) -> bool:
    """Whether the method trains ID vectors."""
    return _TABLE in params.get(_ENCODER, {})


def id_table(params: Params) -> Any:
    """The ID table [..., V, D] of parameters that have one."""
    return params[_ENCODER][_TABLE]


def put_id_table(tree: Params, table: Any) -> Params:
    """A tree like the parameters, with this ID table [..., V, D]."""
    return {**tree, _ENCODER: {**tree[_ENCODER], _TABLE: table}}


def pop_id_table(tree: Params) -> tuple[Params, Any]:
    """A tree like the parameters without the ID table, and the table [..., V, D]."""
    encoder = dict(tree[_ENCODER])
    table = encoder.pop(_TABLE)
    return {**tree, _ENCODER: encoder}, table
