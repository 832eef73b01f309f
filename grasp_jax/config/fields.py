"""Declares sections of the config: frozen dataclasses whose fields have a check and a description.

A field has a default, a check, a sentence, and what it affects. `Section` turns nested dictionaries
into a dataclass and back; whatever enters through it has been checked.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from grasp_jax.config.checks import Check
from grasp_jax.core.errors import UserError

T = TypeVar("T")
REPLACED = {  # fields of earlier versions, and their replacements
    "eval.exclude_seen": "every test has both rankings now, protocols full and full_unseen; for "
    "validation set config.eval.select=full_unseen",
    "knowledge.whiten": "leave it out, or set model.plus.text_whitening for grasp_plus",
    "train.towers": "each tower has a loss of its own; leave it out",
    "model.gate_dropout": "gates have no dropout; leave it out",
}


class Affects(enum.Enum):
    """What depends on the value of a field."""

    NOTHING = "nothing"  # no training and no test: it may differ between two calls on one workdir
    BANK = "bank"  # the knowledge bank, and so all that is made from it
    TRIAL = "trial"  # what is trained, or measured of it


NOTHING, BANK, TRIAL = Affects.NOTHING, Affects.BANK, Affects.TRIAL


@dataclasses.dataclass(frozen=True)
class About:
    """The metadata of a field, besides its name and type.

    Attributes:
      default: its default value.
      check: refuses values that are not allowed.
      what: its meaning in a sentence, with the unit.
      affects: what another value changes.
      shared: whether all methods of a run have the same, though it is of `model` or `train`.
      before: the value with which the code behaves as it did before there was this field; runs of
        that time have it. None if the field has always been there.
    """

    default: Any
    check: Check
    what: str
    affects: Affects
    shared: bool
    before: Any


def field(
    default: T,
    check: Check,
    what: str,
    affects: Affects = TRIAL,
    *,
    shared: bool = False,
    before: T | None = None,
) -> T:
    """Declares a field of a `Section`; the arguments are those of `About`."""
    about = About(default, check, what, affects, shared, before)
    declared: Any = dataclasses.field(default=default, metadata={"about": about})
    return declared  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the config; values that come by `from_dict` and `with_fields` are checked."""

    SECTION: ClassVar[str] = ""  # its full name: "model.plus"

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], where: str = "config") -> Self:
        """The section with the fields of a nested dictionary; the others have their defaults.

        Raises:
          UserError: as `with_fields`.
        """
        return cls().with_fields(tree, where)

    def with_fields(self, changes: Mapping[str, Any], where: str = "config") -> Self:
        """A copy with other values.

        Args:
          changes: fields by name, {"plus.gate": "none"} or {"plus": {"gate": "none"}}. A list
            stands for a tuple, and a number for a tuple of one, as files and flags have them.
          where: what messages call the whole config.

        Raises:
          UserError: naming a field that does not exist, or a value that it cannot have.
        """
        declared = {one.name: one for one in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        inner: dict[str, dict[str, Any]] = {}
        for name, value in flatten(changes).items():
            head, _, rest = name.partition(".")
            full = f"{where}.{self.SECTION}.{name}" if self.SECTION else f"{where}.{name}"
            if (own_name := f"{self.SECTION}.{name}") in REPLACED:
                raise UserError(f"{full}: no such field any more; {REPLACED[own_name]}")
            if head not in declared or (rest == "") == isinstance(getattr(self, head), Section):
                raise UserError(f"{full}: no such field; expected one of {', '.join(declared)}")
            if rest:
                inner.setdefault(head, {})[rest] = value
            else:
                values[name] = checked(declared[head].metadata["about"], value, full)
        sections = {
            name: getattr(self, name).with_fields(part, where) for name, part in inner.items()
        }
        return dataclasses.replace(self, **values, **sections)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of all fields, which `from_dict` takes back."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {
            name: value.to_dict() if isinstance(value, Section) else value
            for name, value in values.items()
        }


def checked(about: About, value: Any, where: str) -> Any:
    """Converts a value to the type of its field: lists and single numbers to tuples, whole numbers to floats.

    Raises:
      UserError: the field, by the name `where`, cannot have the value.
    """
    if value is None:
        raise UserError(f"{where}: None; expected a value such as the default's, {about.default!r}")
    if isinstance(about.default, tuple) and isinstance(value, (list, tuple)):
        value = tuple(map(_plain, value))
    value = _plain(value)
    if about.check.takes_several and isinstance(value, (int, float)):
        value = (value,)
    about.check(where, value, about.default)
    return float(value) if isinstance(about.default, float) else value


def names(value: str) -> list[str]:
    """'plain, grasp' -> ['plain', 'grasp']."""
    return [name.strip() for name in value.split(",")]


def _plain(value: Any) -> Any:
    """Converts a NumPy scalar, from a grid or a list of seeds made with NumPy, to a Python number."""
    return value.item() if isinstance(value, np.generic) else value


def fields_of(section: type[Section]) -> Iterator[tuple[str, About]]:
    """Full names and properties of all fields of a section and of the sections within it."""
    for one in dataclasses.fields(section):
        if "about" in one.metadata:
            yield one.name, one.metadata["about"]
        elif isinstance(one.default, Section):
            yield from (
                (f"{one.name}.{name}", about) for name, about in fields_of(type(one.default))
            )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat
