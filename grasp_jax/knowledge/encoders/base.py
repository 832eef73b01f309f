"""The contract of a text encoder: texts -> float32 vectors of one width E, in a space that can be saved and opened again."""

import abc
import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from grasp_jax.config import KnowledgeConfig


class TextEncoder(abc.ABC):
    """Turns texts into vectors.

    `from_config(config)` or `load(folder)` gives an encoder; `fit` comes before `encode` unless it was
    loaded. One class and one line in `ENCODERS` make an encoder; docs/extending.md shows an example.

    Attributes:
      per_text: the vector of a text depends on nothing but that text and the settings. Such an encoder
        needs no `fit` and may work on several machines at once.
      reads_text: False for vectors that were made elsewhere, which come from files.
    """

    per_text: ClassVar[bool] = False
    reads_text: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """An encoder with the settings of `config.knowledge`, not fitted yet."""

    @abc.abstractmethod
    def recipe(self) -> dict[str, object]:
        """Every setting that a vector depends on, as plain JSON.

        A knowledge bank is used again where this is the same, so a setting that is missing here would
        bring back vectors made with another value of it. Speed, place and price do not belong here.
        """

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns from the texts of all V items whatever `encode` needs; returns the encoder itself."""
        return self

    @abc.abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32 vectors of n texts."""

    @abc.abstractmethod
    def save(self, folder: pathlib.Path) -> None:
        """Writes settings and fitted state, by `state.write_state`; never a key and never a pickle."""

    @classmethod
    @abc.abstractmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """The encoder that `save` wrote, ready to encode.

        Raises:
          UserError: a file is missing, or is not as it was written.
        """

    @contextlib.contextmanager
    def session(self, texts: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Stands around the encoding of a whole bank, block by block.

        Args:
          texts: all texts of "items" and "users" that will be encoded, for encoders that have them
            encoded elsewhere at once or that say something of them.
        """
        yield

    def destination(self) -> str:
        """Where texts are sent, in words for the user; empty where they stay on this machine."""
        return ""

    def what_is_missing(self, kind: str, texts: Sequence[str]) -> str:
        """One line that says what encoding the texts of "items" or "users" would send; sends nothing."""
        return f"encode {kind}: nothing leaves this machine"
