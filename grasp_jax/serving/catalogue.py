"""The items of a saved model."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items of a model, in row order.

    Attributes:
      ids: [V] int64, or str as objects.
      titles: [V] str, as objects.
      counts: [V] int64 training interactions.
      columns: other columns from which a user's text is written, by name; [V] str, as objects.
    """

    ids: np.ndarray
    titles: np.ndarray
    counts: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        # NumPy's own arrays of text give every row the length of the longest: one title of 10,000 characters makes each take 40 kB.
        columns = {name: _as_objects(values) for name, values in self.columns.items()}
        for name, value in (
            ("ids", _as_objects(self.ids)),
            ("titles", _as_objects(self.titles)),
            ("columns", columns),
        ):
            object.__setattr__(self, name, value)

    @property
    def has_numbers(self) -> bool:
        """Whether ids are whole numbers."""
        return self.ids.dtype.kind in "iu"

    @functools.cached_property
    def rows(self) -> dict[str, int]:
        """Row of each id, as text."""
        return {str(name): row for row, name in enumerate(self.ids.tolist())}

    @functools.cached_property
    def by_count(self) -> np.ndarray:
        """[V] int32 rows, those with the most training interactions first."""
        return np.argsort(-self.counts, kind="stable").astype(np.int32)

    def followed_by(self, added: "Catalogue") -> "Catalogue":
        """These items, followed by others with other ids. Properties that are cached for these items are not computed again."""
        columns = {
            name: np.concatenate([values, added.columns[name]])
            for name, values in self.columns.items()
        }
        both = Catalogue(
            np.concatenate([self.ids, added.ids]),
            np.concatenate([self.titles, added.titles]),
            np.concatenate([self.counts, added.counts.astype(self.counts.dtype)]),
            columns,
        )
        if "rows" in vars(self):  # millions of ids take seconds
            first = len(self.ids)
            vars(both)["rows"] = self.rows | {name: first + row for name, row in added.rows.items()}
        if "folded_titles" in vars(self):
            import pyarrow as pa

            parts = [self.folded_titles, added.folded_titles]
            vars(both)["folded_titles"] = pa.concat_arrays(parts)
        return both

    @functools.cached_property
    def folded_titles(self) -> Any:
        """[V] Arrow array of case-folded titles in UTF-8, for searching; half a surrogate pair becomes a question mark."""
        import pyarrow as pa

        titles = [title.casefold().encode(errors="replace") for title in self.titles.tolist()]
        return pa.array(titles, pa.large_binary())


def _as_objects(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind == "U" else values
