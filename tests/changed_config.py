"""The default config with other values."""

from typing import Any

from grasp_jax.config import Config
from grasp_jax.config_checks import check_config


def checked(changes: dict[str, Any]) -> Config:
    """The defaults with other values, as a run would take them."""
    config = Config.from_dict(changes)
    check_config(config)
    return config


def changed(key: str, value: Any) -> Config:
    """The defaults with another value of one field, unchecked."""
    return Config().with_fields({key: value})
