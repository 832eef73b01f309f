"""The whole config, overrides for methods and sources, and fields by their names."""

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import Any, Self

from grasp_jax.config.checks import TEXT, shown
from grasp_jax.config.data import SOURCES, DataConfig
from grasp_jax.config.fields import NOTHING, REPLACED, About, Section, field, fields_of, flatten
from grasp_jax.config.knowledge import KnowledgeConfig
from grasp_jax.config.model import KERNELS, ModelConfig
from grasp_jax.config.rules import RULES, refuse_equal_rates
from grasp_jax.config.training import (
    EvalConfig,
    MeshConfig,
    PlanConfig,
    RecommendConfig,
    TablesConfig,
    TrainConfig,
)
from grasp_jax.core.errors import UserError
from grasp_jax.core.words import one_line

Changes = Mapping[str, Mapping[str, Any]]  # of a method or a source: {"model": {"dropout": (0.5,)}}
CHECKSUM = "checksum"  # of a config.json, next to the fields
OVERRIDES = ("by_source", "by_method")  # fields with the overrides for a source or a method


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """Everything that decides a run; `Config()` has the defaults.

    `from_dict` and `with_fields` check every value; the constructor and `dataclasses.replace` check
    nothing. Where the paper leaves a choice open, one field makes it (docs/deviations.md).
    """

    compilation_cache: str = field(
        "~/.cache/grasp_jax",
        TEXT,
        "Folder for compiled programs; empty: every process compiles again.",
        NOTHING,
    )
    mesh: MeshConfig = MeshConfig()
    tables: TablesConfig = TablesConfig()
    kernels: str = field(
        "auto",
        KERNELS,
        "auto | xla | backbone: whether the backbone's kernels of grasp_jax/kernels are used. xla: "
        "no; backbone: yes; auto: on one GPU those that were faster than XLA (docs/kernels.md).",
    )
    data: DataConfig = DataConfig()
    knowledge: KnowledgeConfig = KnowledgeConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    recommend: RecommendConfig = RecommendConfig()
    plan: PlanConfig = PlanConfig()
    # Overrides for a source of data, below flags: {"synthetic": {"data": {...}}}.
    by_source: Mapping[str, Changes] = dataclasses.field(default_factory=dict)
    # Overrides for a method: {"plain": {"model": {"dropout": (0.5,)}}}; see configs/sweep.py.
    by_method: Mapping[str, Changes] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Models see their own section, so that it follows `kernels`.

        Raises:
          UserError: a section is something else than its class, such as a dictionary.
        """
        for one in dataclasses.fields(self):
            section, value = one.default, getattr(self, one.name)
            if isinstance(section, Section) and not isinstance(value, type(section)):
                raise UserError(
                    f"Config({one.name}={shown(value)}): expected a {type(section).__name__}; a dictionary goes into "
                    f"Config().with_fields({{'{one.name}': {{...}}}})"
                )
        object.__setattr__(self, "model", dataclasses.replace(self.model, kernels=self.kernels))

    def with_fields(self, changes: Mapping[str, Any], where: str = "config") -> Self:
        """A copy with other values, checked each and together.

        Args:
          changes: fields by their full names, {"model.features": 32}, or nested,
            {"model": {"features": 32}}; "by_method" and "by_source" are replaced as a whole.
          where: what messages call the config.

        Raises:
          UserError: naming a field that does not exist, or a value that it cannot have.
        """
        refuse_equal_rates(changes, where)
        return self.with_stored_fields(changes, where)

    def with_stored_fields(self, changes: Mapping[str, Any], where: str = "config") -> Self:
        """Like `with_fields`, but does not refuse equal dropouts.

        It is for the fields of a run of an earlier version, which took equal dropouts, and for `by_method`, whose fields were checked
        when they were set. `from_dict(config.to_dict())` refuses such a config; to change its other fields, call its `with_fields`.
        """
        overrides = {name: changes[name] for name in OVERRIDES if name in changes}
        flat = flatten({name: value for name, value in changes.items() if name not in OVERRIDES})
        for name in flat:
            if name not in FIELDS:
                raise UserError(unknown_field(name, where))
        if "model.kernels" in flat:
            kernels = flat.pop("model.kernels")
            if "kernels" not in flat:
                try:
                    KERNELS(f"{where}.model.kernels", kernels, "auto")
                except UserError as error:
                    raise UserError(f"{error}; it is the same setting as {where}.kernels") from None
            flat.setdefault("kernels", kernels)
        changed = super().with_fields(flat, where)
        for name, value in overrides.items():
            if not isinstance(value, Mapping):
                of, example = (
                    ("methods", "plain") if name == "by_method" else ("sources", "synthetic")
                )
                raise UserError(
                    f"{where}.{name}: {shown(value)}; expected {of}, such as "
                    f"{{'{example}': {{'model': {{...}}}}}}"
                )
        changed = dataclasses.replace(
            changed, **{name: _copy(tree) for name, tree in overrides.items()}
        )
        for rule in RULES:
            rule(changed, where)
        for method in changed.by_method:
            changed.for_method(method)
        return changed

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {name: _copy(getattr(self, name)) for name in OVERRIDES}

    def for_method(self, method: str) -> Self:
        """The config of a method: with the overrides in `by_method[method]`.

        Raises:
          UserError: `by_method` names a field that does not exist or that all methods share, or a
            value that a field cannot have.
        """
        changes = self.by_method.get(method, {})
        where = f"config.by_method.{method}"
        if not isinstance(changes, Mapping):
            raise UserError(
                f"{where}: {changes!r}; expected fields, such as "
                f"{{'train': {{'learning_rate': 3e-3}}}}"
            )
        if not changes:
            return self
        for name in flatten(changes):
            section, _, _ = name.partition(".")
            if section not in ("model", "train") or (name in FIELDS and FIELDS[name].shared):
                raise UserError(
                    f"{where}.{name}: all methods of a run share it; set it for the whole run, "
                    "or leave it out"
                )
        of_method = dataclasses.replace(self, by_method={}).with_stored_fields(changes, where)
        return dataclasses.replace(of_method, by_method=self.by_method)


def _copy(tree: Any) -> Any:
    """Converts mappings and lists to dictionaries and tuples."""
    if isinstance(tree, Mapping):
        return {name: _copy(value) for name, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree


FIELDS: dict[str, About] = dict(fields_of(Config))  # by full name: "model.features"
SECTIONS = frozenset(
    ".".join(name.split(".")[:depth]) for name in FIELDS for depth in range(1, name.count(".") + 1)
)


def value_of(config: Section, name: str) -> Any:
    """The value of a field by its full name, "model.features"."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def resolve_source(config: Config, given: Collection[str] = (), of_workdir: bool = False) -> Config:
    """The config with the source that "auto" stands for, and with the overrides in `by_source` for it.

    Args:
      config: its `by_source` is empty afterwards, so that config.json has what was used.
      given: full names of the fields that a user set, which stay as they are.
      of_workdir: whether it is the config of an earlier run, which may have points in time that its split does not read.

    Raises:
      UserError: as `DataConfig.resolved_source`; a field belongs to a source or a split that is not read, or `by_source` names a field
        that does not exist.
    """
    source = config.data.resolved_source()
    for section in ("synthetic", "amazon"):
        if unused := sorted(
            name for name in given if name.startswith(f"data.{section}.") and section != source
        ):
            raise UserError(
                f"config.{unused[0]}: given, but config.data.source is {source!r}, which does not "
                "read it; leave it out"
            )
    for name, changes in config.by_source.items():
        if name not in SOURCES or not isinstance(changes, Mapping):
            text = one_line(changes, 80)
            raise UserError(
                f"config.by_source.{name}: {text}; expected fields of one of {', '.join(SOURCES)}"
            )
    changes = flatten(config.by_source.get(source, {}))
    changes = {name: value for name, value in changes.items() if name not in given}
    settled = dataclasses.replace(
        config, by_source={}, data=dataclasses.replace(config.data, source=source)
    )
    settled = settled.with_fields(changes, f"config.by_source.{source}")
    if of_workdir or settled.data.split == "none":
        settled.data.check_moments([name.removeprefix("data.") for name in given])
    else:
        settled.data.check_moments()
    return settled


def unknown_field(name: str, where: str = "config") -> str:
    """The error message for the full name of a field that does not exist; `where` is the name of the config."""
    if name in SECTIONS:
        within = [
            known.removeprefix(f"{name}.") for known in FIELDS if known.startswith(f"{name}.")
        ]
        shown_of = ", ".join([*within[:8], *["..."] * (len(within) > 8)])
        return f"{where}.{name}: a section, no field; it has {shown_of}"
    if name in REPLACED:
        return f"{where}.{name}: no such field any more; {REPLACED[name]}"
    if name == CHECKSUM:
        return f"{where}.{name}: of the file config.json, and no field; grasp_jax.open_config(WORKDIR) reads that file"
    section, _, last = name.rpartition(".")
    siblings = [
        known.removeprefix(f"{section}.")
        for known in FIELDS
        if section and known.startswith(f"{section}.")
    ]
    close = difflib.get_close_matches(last, siblings, 1, 0.5)
    close = (
        close or [known for known in siblings if set(last.split("_")) & set(known.split("_"))][:1]
    )
    elsewhere = [known for known in FIELDS if known.rpartition(".")[2] == last]
    elsewhere = elsewhere or difflib.get_close_matches(name, FIELDS, 1, 0.6)
    meant = close[0] if close else f"config.{elsewhere[0]}" if elsewhere else ""
    hint = f"did you mean {meant}?" if meant else "docs/config.md lists every field"
    if siblings and not close and len(siblings) <= 8:  # before a field of another section
        own = f"config.{section} has {', '.join(siblings)}"
        hint = f"{own}; {hint}" if meant else own
    return f"{where}.{name}: no such field; {hint}"


def resolve_field(name: str) -> str:
    """The full name of a field: "dropout" -> "model.dropout", "plus__gate" -> "model.plus.gate".

    Where several fields have the name, those of `model` and `train` come before others.

    Raises:
      UserError: no field has the name, or several have it.
    """
    name = name.replace("__", ".")
    if name in FIELDS:
        return name
    found = [] if name in SECTIONS else [known for known in FIELDS if known.endswith(f".{name}")]
    preferred = [known for known in found if known.startswith(("model.", "train."))]
    if len(found := preferred or found) == 1:
        return found[0]
    if not found:
        raise UserError(unknown_field(name))
    plural = [known for known in FIELDS if known in (f"model.{name}s", f"train.{name}s")]
    found = [*plural, *found]
    raise UserError(f"{name}: the name of several fields; expected one of {', '.join(found)}")
