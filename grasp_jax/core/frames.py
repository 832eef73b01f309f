"""Tables that Python users get back: pandas data frames where pandas is installed, else pyarrow tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:  # either may be missing
    import pandas
    import pyarrow

Frame: TypeAlias = "pandas.DataFrame | pyarrow.Table"


def as_frame(columns: Mapping[str, Sequence[object] | np.ndarray]) -> Frame:
    """Columns of equal length as a `pandas.DataFrame`, or as a `pyarrow.Table` where there is no pandas.

    polars takes both: `polars.from_dataframe(frame)`.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        import pyarrow

        return pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    return pandas.DataFrame(dict(columns))


def rows_as_frame(rows: Sequence[Mapping[str, object]]) -> Frame:
    """Rows with their columns by name, in the order in which columns first occur; a row without one has None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return as_frame({name: [row.get(name) for row in rows] for name in names})
