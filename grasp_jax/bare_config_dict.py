"""A stand-in for `ml_collections.ConfigDict` on machines without it: what the package calls, and nothing else.

Values are not checked against the type of the default, as ml_collections does on assignment.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Reference(NamedTuple):
    """What a field is when it follows another."""

    holder: "ConfigDict"
    name: str

    def value(self) -> Any:
        """Of the field that is followed, now."""
        return self.holder[self.name]


class ConfigDict:
    """Nested fields by attribute or key.

    Raises (on access):
      AttributeError: a field that does not exist by attribute, or a new one while locked.
      KeyError: a field that does not exist by key.
    """

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        nested = {name: ConfigDict(value) if isinstance(value, Mapping) else value for name, value in (fields or {}).items()}
        object.__setattr__(self, "_fields", nested)
        object.__setattr__(self, "_locked", False)

    def __getitem__(self, name: str) -> Any:
        value = self._fields[name]
        return value.value() if isinstance(value, Reference) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_fields", {}):  # pickle and copy ask before there are fields
            raise AttributeError(f"no field {name!r}")
        return self[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if self._locked and name not in self._fields:
            raise AttributeError(f"no field {name!r}, and the config is locked; it has {', '.join(self._fields)}")
        self._fields[name] = ConfigDict(value) if isinstance(value, Mapping) else value

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or `default` where there is none."""
        return self[name] if name in self._fields else default

    def get_ref(self, name: str) -> Reference:
        """A value for another field that is to follow this one."""
        return Reference(self, name)

    def lock(self) -> "ConfigDict":
        """Refuses new fields from now on, here and below; returns the config."""
        return self._set_locked(True)

    @contextlib.contextmanager
    def unlocked(self) -> Iterator["ConfigDict"]:
        """Takes new fields meanwhile."""
        self._set_locked(False)
        try:
            yield self
        finally:
            self._set_locked(True)

    def _set_locked(self, locked: bool) -> "ConfigDict":
        object.__setattr__(self, "_locked", locked)
        for value in self._fields.values():
            if isinstance(value, ConfigDict):
                value._set_locked(locked)
        return self

    def update(self, changes: "Mapping[str, Any] | ConfigDict") -> None:
        """Sets fields, nested ones one by one."""
        for name in changes:
            value, own = changes[name], self.get(name)
            if isinstance(own, ConfigDict) and isinstance(value, Mapping | ConfigDict):
                own.update(value)
            else:
                self[name] = value

    def update_from_flattened_dict(self, changes: Mapping[str, Any]) -> None:
        """Sets fields by their full names: {"model.features": 32}."""
        for name, value in changes.items():
            *path, last = name.split(".")
            holder = self
            for part in path:
                holder = holder[part]
            holder[last] = value

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, references resolved."""
        return {name: value.to_dict() if isinstance(value := self[name], ConfigDict) else value for name in self}

    def copy_and_resolve_references(self) -> "ConfigDict":
        """A copy whose fields follow nothing; locked as this one is."""
        return ConfigDict(self.to_dict())._set_locked(self._locked)

    def to_json_best_effort(self) -> str:
        """JSON of all fields; tuples become lists."""
        return json.dumps(self.to_dict())
