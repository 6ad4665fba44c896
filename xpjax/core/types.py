"""What public functions take, by names that type checkers follow; no library is imported for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.records import Catalogue

if TYPE_CHECKING:
    import astropy.table
    import pandas
    import pyarrow

PathLike: TypeAlias = str | os.PathLike[str]
RowIndex: TypeAlias = "int | np.integer | slice | list[int] | list[bool] | np.ndarray"
"""What picks rows: one of them, a slice, indices or a mask."""


class HasCatalogue(Protocol):
    """A result of xpjax, which can tell its columns."""

    def catalogue(self) -> Catalogue:
        """The columns of the result with units and descriptions."""
        ...


MemoryTable: TypeAlias = (
    "HasCatalogue | Catalogue | astropy.table.Table | pandas.DataFrame | pyarrow.Table | np.ndarray"
    " | Mapping[str, ArrayLike]"
)
"""A table in memory; an array is a structured one."""
AnyTable: TypeAlias = "PathLike | MemoryTable"
"""A table, or the file of one, as `xpjax.io.open_table` takes it."""
AnyTables: TypeAlias = "AnyTable | Sequence[AnyTable] | Mapping[str, AnyTable]"
"""One table or several; a mapping has them by their names."""
