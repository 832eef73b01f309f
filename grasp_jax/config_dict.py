"""`ConfigDict` of ml_collections; as much of it as training needs where that is not installed, such as on a bare GPU machine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_collections import ConfigDict
else:
    try:
        from ml_collections import ConfigDict
    except ModuleNotFoundError:
        from grasp_jax.bare_config_dict import ConfigDict

__all__ = ["ConfigDict"]
