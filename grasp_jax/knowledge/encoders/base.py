"""The contract of a text encoder: texts -> float32 vectors of one width E, in a space that can be saved and opened again."""

import abc
import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from grasp_jax.config import KnowledgeConfig
from grasp_jax.core.errors import EndpointError


class RejectedText(EndpointError):
    """A server rejects one text, whatever else is sent with it.

    Attributes:
      kind: "items" or "users"; "" where that is not known.
      row: of the text, among those of the kind that are encoded.
      reason: what is wrong, by the server's own words.
    """

    def __init__(self, where: str, kind: str, row: int, reason: str) -> None:
        super().__init__(
            f"{where}: the text in row {row}{kind and f' of {kind}'} {reason}; shorten it", where
        )
        self.kind, self.row, self.reason = kind, row, reason


class TextEncoder(abc.ABC):
    """Turns texts into vectors.

    `from_config(config)` and `load(folder)` return an encoder. An encoder from `from_config` needs `fit` before `encode`. One class and one
    line in `ENCODERS` make an encoder; docs/extending.md shows an example.

    Attributes:
      per_text: whether the vector of a text depends only on this text and the settings. Such an encoder needs no `fit` and can run on
        several machines at once.
      reads_text: False for vectors that come from files.
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

        A knowledge bank is reused if its recipe is the same. So if a setting is missing here, vectors that were made with another value of
        it would be reused. Settings of speed, location and price do not belong here.
        """

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns from the texts of all V items what `encode` needs; returns the encoder itself."""
        return self

    @abc.abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32 vectors of n texts."""

    @abc.abstractmethod
    def save(self, folder: pathlib.Path) -> None:
        """Writes settings and fitted state with `state.write_state`; never keys, never pickles."""

    @classmethod
    @abc.abstractmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """The encoder that `save` wrote, ready to encode.

        Raises:
          UserError: a file is missing, or has changed since it was written.
        """

    @contextlib.contextmanager
    def session(self, texts: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Context in which all texts of a bank are encoded, block by block.

        Args:
          texts: all texts of "items" and "users" that will be encoded, for encoders that send all of them at once or that report on them.
        """
        yield

    def destination(self) -> str:
        """Where texts are sent, in words for the user; empty if they stay on this machine."""
        return ""

    def what_is_missing(self, kind: str, texts: Sequence[str]) -> str:
        """One line that says what would be sent to encode the texts of "items" or "users"; sends nothing."""
        return f"encode {kind}: nothing leaves this machine"
