"""E, the width of the text vectors, before they exist: from a bank that is on disk, or from the config, for `--mode=plan`."""

import pathlib
from typing import NamedTuple

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.knowledge.bank import bank_width

FITTED = ("lsa", "tfidf_projection")  # encoders whose width is config.knowledge.width


class TextWidth(NamedTuple):
    """E, and a sentence for the reader if E is not known; else ""."""

    width: int
    doubt: str = ""


def text_width(config: KnowledgeConfig, bank: pathlib.Path | None) -> TextWidth:
    """E of the bank in a folder, or of the one that a run would make. No vector is read.

    Args:
      config: with the files as a run finds them.
      bank: the folder of the bank; None if there is none yet.
    """
    if bank is not None and (made := bank_width(bank)):
        return TextWidth(made)
    if config.reduction.kind != "none":
        return TextWidth(config.reduction.width)
    if config.encoder in FITTED:
        return TextWidth(config.width)
    if config.encoder == "file":
        given = _width_of_file(config.item_file)
    else:
        given = config.embed.dimensions if config.encoder == "openai" else 0
    if given:
        return TextWidth(given)
    return TextWidth(
        config.width,
        f"E is not known before the encoder {config.encoder!r} has run; {config.width} is config.knowledge.width: set it to the width of "
        "the encoder's vectors, for the plan alone",
    )


def _width_of_file(name: str) -> int:
    """Numbers of a row by the header of a file of vectors; 0 if it has none that can be read."""
    try:
        if name.endswith(".safetensors"):
            return _width_of_tensor(name)
        shape = np.load(name, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return 0
    return int(shape[1]) if len(shape) == 2 else 0


def _width_of_tensor(name: str) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(name, "np") as file:
            names = list(file.keys())
            wanted = "embeddings" if "embeddings" in names else names[0]
            shape = file.get_slice(wanted).get_shape()
    except (SafetensorError, IndexError):
        return 0
    return int(shape[1]) if len(shape) == 2 else 0
