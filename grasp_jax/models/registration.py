"""Methods and backbones from outside the package."""

import re
import sys
from collections.abc import Iterable
from typing import TypeVar

from grasp_jax.core.errors import UserError
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.backbones.base import Backbone
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.base import Method, check_loss
from grasp_jax.models.own_code import hash_of_code

NAME = re.compile(r"[a-z][a-z0-9_]*")
OF_PACKAGE = frozenset((*METHODS, *BACKBONES))
# a fingerprint is of code as this version of Python writes it: those of other versions cannot be compared
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# fingerprints of own code by name, from when it was registered: later its file may be another one
_CODE: dict[str, str] = {}
T = TypeVar("T")


def register_method(name: str, method: Method) -> None:
    """Registers a method under a name for `config.model.method` and `Recommender(method=...)` (docs/extending.md).

    Args:
      name: lower-case letters, digits and underscores.
      method: under a name that is registered already, only an object of the same class; the names of this package cannot be replaced.

    Raises:
      UserError: the name is taken or not allowed, or the object is not a `Method`, defines no encoder or has a loss that does not exist.
    """
    if not isinstance(method, Method):
        raise UserError(
            f"register_method: {method!r}; expected an object of a subclass of grasp_jax.models.methods.base.Method"
        )
    if type(method).encoder is Method.encoder:
        raise UserError(
            f"register_method: {type(method).__name__} does not define encoder(config, sizes), which returns an ItemEncoder"
        )
    check_loss(method, method.loss)
    _register("register_method", METHODS, name, method)


def register_backbone(name: str, backbone: type[Backbone]) -> None:
    """Registers a backbone under a name for `config.model.backbone`.

    Raises:
      UserError: the name is taken or not allowed, or the class is not a subclass of `Backbone` or lacks a method.
    """
    if not (isinstance(backbone, type) and issubclass(backbone, Backbone)):
        raise UserError(
            f"register_backbone: {backbone!r}; expected a subclass of grasp_jax.models.backbones.base.Backbone"
        )
    for needed in ("from_config", "__call__"):
        if _function(backbone, needed) is _function(Backbone, needed):
            raise UserError(f"register_backbone: {backbone.__name__} does not define {needed}")
    _register("register_backbone", BACKBONES, name, backbone)


def _function(cls: type, name: str) -> object:
    """A method of a class, the same for all classes that inherit it."""
    method = getattr(cls, name)
    return getattr(method, "__func__", method)


def own_of(names: Iterable[str]) -> list[str]:
    """Those of some names of methods and backbones that are not of this package, each once: a later program must register them again."""
    return [name for name in dict.fromkeys(names) if name not in OF_PACKAGE]


def code_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Fingerprints of the code of those of some names that are not of this package and whose source was at hand.

    Returns:
      By name and version of Python.
    """
    return {name: {PYTHON: _CODE[name]} for name in own_of(names) if _CODE.get(name)}


def _register(call: str, registry: dict[str, T], name: str, value: T) -> None:
    if not NAME.fullmatch(name):
        raise UserError(
            f"{call}: {name!r}; expected a name of lower-case letters, digits and underscores"
        )
    taken = name in registry and registry[name] != value
    if taken and (name in OF_PACKAGE or _class_of(registry[name]) != _class_of(value)):
        raise UserError(f"{call}: {name!r} is taken; choose another name")
    registry[name] = value
    if name not in OF_PACKAGE:
        _CODE[name] = hash_of_code(value)


def _class_of(value: object) -> tuple[str, str]:
    """Module and name of a class, or of the class of an object. They stay the same if a cell of a notebook is run again."""
    cls = value if isinstance(value, type) else type(value)
    return cls.__module__, cls.__qualname__
