"""The items of a saved model."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from grasp_jax.data.id_text import rows_by_text


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items of a model, in row order.

    Attributes:
      ids: [V] int64, or str as objects.
      titles: [V] str, as objects.
      counts: [V] int64 training interactions.
      columns: other columns from which a user's text is written, by name; [V] str, as objects.
      unlisted: [u] int32 rows of items that are not recommended, because the items table of the run lacks them
        (`config.recommend.listed_only`); histories may have them.
    """

    ids: np.ndarray
    titles: np.ndarray
    counts: np.ndarray
    columns: Mapping[str, np.ndarray]
    unlisted: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))

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
        """Row of each id, as text without blanks around it (`rows_by_text`)."""
        return rows_by_text(self.ids)

    @functools.cached_property
    def recommended(self) -> np.ndarray:
        """[V] bool, whether an item may be recommended: all but `unlisted`."""
        recommended = np.ones(len(self.ids), bool)
        recommended[self.unlisted] = False
        return recommended

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
            self.unlisted,
        )
        if "rows" in vars(self):  # millions of ids take seconds
            first = len(self.ids)
            vars(both)["rows"] = self.rows | {name: first + row for name, row in added.rows.items()}
        if "folded_titles" in vars(self):
            vars(both)["folded_titles"] = _concatenated(self.folded_titles, added.folded_titles)
        return both

    def with_texts(self, titles: np.ndarray, columns: Mapping[str, np.ndarray]) -> "Catalogue":
        """The same items with other titles ([V] str, as objects) and columns. What is cached and holds no text is not computed again."""
        other = dataclasses.replace(self, titles=titles, columns=columns)
        kept = ("rows", "by_count", "recommended")
        vars(other).update({name: vars(self)[name] for name in kept if name in vars(self)})
        if "folded_titles" in vars(self):
            changed = np.flatnonzero(self.titles != titles)
            first = int(changed[0]) if len(changed) else len(titles)
            vars(other)["folded_titles"] = _concatenated(
                self.folded_titles.slice(0, first), _folded(titles[first:])
            )
        return other

    @functools.cached_property
    def folded_titles(self) -> Any:
        """[V] Arrow array of case-folded titles in UTF-8, for searching; half a surrogate pair becomes a question mark."""
        return _folded(self.titles)


def _folded(titles: np.ndarray) -> Any:
    import pyarrow as pa

    encoded = [title.casefold().encode(errors="replace") for title in titles.tolist()]
    return pa.array(encoded, pa.large_binary())


def _concatenated(*parts: Any) -> Any:
    import pyarrow as pa

    return pa.concat_arrays(list(parts))


def _as_objects(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind == "U" else values
