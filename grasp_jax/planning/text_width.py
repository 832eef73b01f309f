"""E, the width of the text vectors, before they exist: from a bank that is on disk, or from the config."""

import pathlib
from typing import NamedTuple

from grasp_jax.config import KnowledgeConfig
from grasp_jax.knowledge.bank import bank_width
from grasp_jax.knowledge.encoders import is_fitted
from grasp_jax.knowledge.encoders.vector_files import width_of_file


class TextWidth(NamedTuple):
    """E, and a sentence for the reader if E is not known; else ""."""

    width: int
    doubt: str = ""


def text_width(config: KnowledgeConfig, bank: pathlib.Path | None) -> TextWidth:
    """E of the bank in a folder, or of the one that a run would make. No vector is read.

    Args:
      config: with the files as a run finds them.
      bank: the folder of the bank; None if there is none yet.

    Raises:
      UserError: config.knowledge.item_file exists, and a run would refuse it.
    """
    if bank is not None and (made := bank_width(bank)):
        return TextWidth(made)
    if config.reduction.kind != "none":
        return TextWidth(config.reduction.width)
    if is_fitted(config.encoder):
        return TextWidth(config.width)
    why = f"before the encoder {config.encoder!r} has run"
    if config.encoder == "file":
        if pathlib.Path(config.item_file).is_file():
            return TextWidth(width_of_file(config.item_file, "item"))
        why = f"because config.knowledge.item_file, {config.item_file!r}, was not found"
    if config.encoder == "openai" and config.embed.dimensions:
        return TextWidth(config.embed.dimensions)
    return TextWidth(
        config.width,
        f"E is not known {why}; {config.width} is config.knowledge.width: set it to the width of "
        "the encoder's vectors, for the plan alone",
    )
