"""Methods and backbones from outside the package."""

import re
from typing import TypeVar

from grasp_jax.errors import UserError
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Method

NAME = re.compile(r"[a-z][a-z0-9_]*")
T = TypeVar("T")


def register_method(name: str, method: Method) -> None:
    """Registers a method under a name for `config.model.method` and `Recommender(method=...)` (docs/extending.md).

    Args:
      name: lower-case letters, digits and underscores.
      method: the same object may be registered again; another object under the same name is refused.

    Raises:
      UserError: the name is taken or not allowed, or the object is not a `Method`.
    """
    if not isinstance(method, Method):
        raise UserError(
            f"register_method: {method!r}; expected an object of a subclass of grasp_jax.models.methods.base.Method"
        )
    _register("register_method", METHODS, name, method)


def register_backbone(name: str, backbone: type[Backbone]) -> None:
    """Registers a backbone under a name for `config.model.backbone`.

    Raises:
      UserError: the name is taken or not allowed, or the class is not a subclass of `Backbone`.
    """
    if not (isinstance(backbone, type) and issubclass(backbone, Backbone)):
        raise UserError(
            f"register_backbone: {backbone!r}; expected a subclass of grasp_jax.models.backbones.base.Backbone"
        )
    _register("register_backbone", BACKBONES, name, backbone)


def _register(call: str, known: dict[str, T], name: str, value: T) -> None:
    if not NAME.fullmatch(name):
        raise UserError(
            f"{call}: {name!r}; expected a name of lower-case letters, digits and underscores"
        )
    if known.get(name, value) is not value and type(known[name]) is not type(value):
        raise UserError(f"{call}: {name!r} is taken; choose another name")
    known[name] = value
