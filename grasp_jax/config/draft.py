"""The config while a file in `configs/` or flags fill it in: ml_collections' ConfigDict.

`grasp_jax.command` turns it into a `Config` once; nothing else in the package sees it.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from grasp_jax.config.config import Config

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def default_config() -> "ConfigDict":
    """The config that every file in `configs/` starts from.

    It is locked: a field that does not exist raises AttributeError.
    """
    from ml_collections import ConfigDict  # a machine that only trains need not have it

    config = ConfigDict(Config().to_dict())
    config.model.kernels = config.get_ref("kernels")
    return config.lock()


def without_followed(fields: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The fields of a draft without `kernels`, if a flag has set `model.kernels`: it follows by the reference, and messages name the flag.

    Args:
      fields: all of the draft.
      given: full names of the fields that flags have set.
    """
    follows = "model.kernels" in given and "kernels" not in given
    return {name: value for name, value in fields.items() if not (follows and name == "kernels")}
