"""Encodes new texts into the vector space of a finished knowledge bank, with which it is saved.

Templates, fitted encoder, centre and directions are in the folder `encoder` of a bank, or in the folder of a copy by `save`. So the rows of
new items and new users mean the same as the bank's rows.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.knowledge.encoders import encoder_class
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.geometry import Geometry, to_rows
from grasp_jax.knowledge.encoders.state import STATE, read_state, write_state
from grasp_jax.knowledge.neighbours import NONE
from grasp_jax.knowledge.neighbours.pooling import (
    nearest_of,
    weighted_mean,
)
from grasp_jax.knowledge.text.writer import TextWriter

KIND = "knowledge"
MODEL = "model"  # the folder of the encoder proper, within
ROWS = ("items", "users")


@dataclasses.dataclass(frozen=True)
class SavedTextEncoder:
    """Makes rows of new items and users in the same way as the bank's own rows.

    Attributes:
      name: the key of the encoder in `ENCODERS`.
      encoder: fitted.
      writer: the templates; None where texts played no part.
      geometry: of "items" and "users", what was done to every vector.
      num_neighbours: K.
      by_similarity: whether neighbours are weighted by their cosine.
      describer: what made the bank's texts of the filled templates; a new text is the template itself.
      users_have_own_texts: whether the bank's texts of users came with the data, and not from the template.
    """

    name: str
    encoder: TextEncoder
    writer: TextWriter | None
    geometry: Mapping[str, Geometry]
    num_neighbours: int = 10
    by_similarity: bool = False
    describer: str = "template"
    users_have_own_texts: bool = False

    _logged: ClassVar[set[str]] = set()  # warnings, each once a process

    @classmethod
    def load(cls, folder: pathlib.Path) -> "SavedTextEncoder":
        """Loads what `save` wrote, or the folder `encoder` of a knowledge bank.

        Raises:
          UserError: there is no encoder, or a file has changed since it was written.
        """
        if not (folder / STATE).is_file():
            raise UserError(
                f"{folder}: no saved text encoder; an earlier version made this knowledge bank without one: prepare the bank again"
            )
        state = read_state(folder, KIND)
        content, basis = state.settings, state.arrays.get("basis")
        geometry = {
            kind: Geometry(np.array(state.arrays[f"{kind}_centre"]), basis) for kind in ROWS
        }
        name = content["encoder"]
        return cls(
            name=name,
            encoder=encoder_class(name).load(folder / MODEL),
            writer=TextWriter.from_json(content["writer"])
            if content["writer"] is not None
            else None,
            geometry=geometry,
            num_neighbours=content["num_neighbours"],
            by_similarity=content["by_similarity"],
            describer=content["describer"],
            users_have_own_texts=content["brought_along"],
        )

    def save(self, folder: pathlib.Path) -> None:
        """Writes a copy that needs nothing of the bank; a model folder that the encoder names stays where it is."""
        self.encoder.save(folder / MODEL)
        self.save_around(folder)

    def save_around(self, folder: pathlib.Path) -> None:
        """Writes everything except the encoder itself, which is in the folder already."""
        content = {
            "encoder": self.name,
            "writer": None if self.writer is None else self.writer.to_json(),
            "num_neighbours": self.num_neighbours,
            "by_similarity": self.by_similarity,
            "describer": self.describer,
            "brought_along": self.users_have_own_texts,
        }
        arrays = {f"{kind}_centre": self.geometry[kind].centre for kind in ROWS}
        if (basis := self.geometry["items"].basis) is not None:
            arrays["basis"] = basis
        write_state(folder, KIND, content, arrays)

    @property
    def history_columns(self) -> tuple[str, ...]:
        """Columns of the items table that `encode_users` needs."""
        return self.writer.history_columns if self.writer is not None else ()

    @property
    def item_columns(self) -> tuple[str, ...]:
        """Columns of the items table that `encode_items` makes use of."""
        return self.writer.item_columns if self.writer is not None else ()

    def encode_items(self, attributes: Sequence[Mapping[str, object]]) -> np.ndarray:
        """[n, E] float32 rows in the space of `bank.items`.

        Args:
          attributes: of each item, by the names of the items table's columns.

        Raises:
          UserError: the bank was made from vectors and not from texts, an item has none of the columns,
            or what the encoder raises.
        """
        return self.rows_of("items", self.item_vectors(attributes))

    def item_vectors(self, attributes: Sequence[Mapping[str, object]]) -> np.ndarray:
        """[n, at least E] float32 as the encoder gives them, from which `rows_of` makes rows; arguments and errors as of `encode_items`."""
        self._say_of_describer()
        return np.asarray(self.encoder.encode(self._writer().item_texts(attributes)), np.float32)

    def encode_users(
        self,
        histories: Sequence[Sequence[int] | np.ndarray],
        items: Mapping[str, Sequence[object] | np.ndarray],
        profiles: Sequence[Mapping[str, object]] | None = None,
    ) -> np.ndarray:
        """[n, E] float32 rows in the space of `bank.users`.

        Args:
          histories: of each user, rows of items, oldest first.
          items: `history_columns` -> values of all items, by row.
          profiles: attributes of each user, if the bank's users had any.

        Raises:
          UserError: as `encode_items`, or the titles are not there.
        """
        self._say_of_describer()
        if self.users_have_own_texts:
            self._say(
                "texts of users came with the data; a new user's is made by the template, and may read otherwise"
            )
        return self.rows_of(
            "users", self.encoder.encode(self._writer().user_texts(histories, items, profiles))
        )

    def rows_of(self, kind: str, vectors: np.ndarray) -> np.ndarray:
        """[n, E] float32 rows of a bank's "items" or "users" from the encoder's vectors, or from vectors made elsewhere."""
        return to_rows(np.asarray(vectors, np.float32), self.geometry[kind])

    def similar(
        self, rows: np.ndarray, table: np.ndarray, allowed: np.ndarray | None = None
    ) -> np.ndarray:
        """[n, E] float32 means of each row's K nearest rows of a table, as `bank.users_similar` is of `bank.users`.

        Args:
          rows: [n, E] of `encode_users` or `encode_items`.
          table: [rows, E] `bank.users` or `bank.items`; it may be memory-mapped.
          allowed: [n, rows] bool, which rows of the table count: not a known user's own, or those of a
            group. None: all.
        """
        queries = np.asarray(rows, np.float32)
        nearest = nearest_of(queries, table, self.num_neighbours, allowed)
        found = np.asarray(table[np.maximum(nearest, 0)], np.float32)
        return weighted_mean(queries, found, nearest != NONE, self.by_similarity)

    def _writer(self) -> TextWriter:
        if self.writer is None:
            self.encoder.encode([])  # says why there are no texts
            raise UserError(
                f"the encoder {self.name!r} has no templates; prepare the knowledge bank again"
            )
        return self.writer

    def _say_of_describer(self) -> None:
        if self.describer != "template":
            self._say(
                f"the describer {self.describer!r} wrote the bank's texts; a new text is the filled template itself"
            )

    def _say(self, message: str) -> None:
        """Logs a warning, once a process."""
        if message not in self._logged:
            self._logged.add(message)
            logger.warning(message)
