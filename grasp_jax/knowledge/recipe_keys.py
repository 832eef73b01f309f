"""What may differ between the recipes of the banks of two days. Nothing here needs the encoders or pyarrow."""

from collections.abc import Mapping
from typing import Any

UPDATABLE_KEYS = (  # keys that may differ between a bank and the earlier one that it updates
    "source",
    "item_texts",
    "user_texts",
    "user_histories",
    "group_column_values",
    "user_group_column_values",
    "centre_from",
)


def differing_setting(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting in which the recipes of two days differ, as "name='a' and today's 'b'"; empty if only their data differ."""
    settings = sorted((before.keys() | now.keys()) - {*UPDATABLE_KEYS, "cut_off"})
    differing = [name for name in settings if before.get(name) != now.get(name)]
    return (
        f"{differing[0]}={before.get(differing[0])!r} and today's {now.get(differing[0])!r}"
        if differing
        else ""
    )
