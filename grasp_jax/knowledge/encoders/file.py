"""The encoder of vectors that were made elsewhere: it opens them, and cannot encode a text."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.files import sha256
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state


class FileEncoder(TextEncoder):
    """Stands for the files of `config.item_file` and `config.user_file`, which `vector_files` reads."""

    reads_text = False

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """With the four names of files."""
        return cls(
            {
                "item_file": config.item_file,
                "user_file": config.user_file,
                "item_ids_file": config.item_ids_file,
                "user_ids_file": config.user_ids_file,
            }
        )

    def recipe(self) -> dict[str, object]:
        """The files by their content."""
        return {"files": {name: _identity(path) for name, path in self.files.items()}}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Raises UserError: what made the vectors is not known here."""
        raise UserError(
            "config.knowledge.encoder='file': this knowledge bank's vectors were made elsewhere, so a new text cannot be encoded; "
            "use a method without gates, or prepare the bank with an encoder such as 'lsa' or 'sentence_transformers'"
        )

    def save(self, folder: pathlib.Path) -> None:
        """Records that there is no encoder, so that messages can say so; paths of files are left out, because they
        belong to this machine.
        """
        write_state(folder, "file", {})

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`."""
        read_state(folder, "file")
        return cls({})


def _identity(path: str) -> str:
    """16 hexadecimal digits of the content's hash; the path itself where there is no file."""
    return sha256(pathlib.Path(path))[:16] if pathlib.Path(path).is_file() else path
