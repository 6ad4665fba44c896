"""Records on the host: how they print, and tables of columns ready to be written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array

from xpjax.core.errors import XpjaxError

AnyArray: TypeAlias = Array | np.ndarray
"""NumPy on the host, JAX in a kernel."""


class Record:
    """A dataclass on the host whose repr has the shapes of its arrays, where dataclasses print every number."""

    def __repr__(self) -> str:
        shown = [f"{f.name}={_shown(getattr(self, f.name))}" for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        line, name = ", ".join(shown), type(self).__name__
        return f"{name}({line})" if len(line) < 100 else f"{name}(\n    " + ",\n    ".join(shown) + "\n)"


def _shown(value: Any) -> str:
    """Arrays by type and shape, mappings by their first names, records by class, all else as it is if it is short."""
    few, longest = 12, 80
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, Mapping | tuple):
        names = list(value) if isinstance(value, Mapping) else [_shown(one) for one in value[:few]]
        more = [f"and {len(value) - few} more"] * (len(value) > few)
        begin, end = "{}" if isinstance(value, Mapping) else "()"
        return begin + ", ".join(map(str, [*names[:few], *more])) + end
    text = repr(value)
    if len(text) <= longest and "\n" not in text:
        return text
    return f"{type(value).__name__}(...)" if dataclasses.is_dataclass(value) else text[:longest] + "..."


@dataclasses.dataclass(frozen=True, repr=False)
class Catalogue(Record):
    """A table ready to be written: what the command line writes and what results give as `.catalogue()`.

    columns name -> (n,) or (n, k) array, in order; units and descriptions by column name (absent: none);
    shared name -> array stored once for all rows (`wavelength`); meta name -> str, number, bool or list of them.
    """

    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def with_columns(self, more: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray]) -> Catalogue:
        """The catalogue with columns passed on by the user, then the last ones. Raises ValueError for a name twice."""
        taken = {name.lower() for name in (*self.columns, *last, *self.shared)}
        twice = [name for name in more if name.lower() in taken]
        if twice:
            raise XpjaxError(f"cannot keep columns {twice}: the output has columns of these names; rename or drop them")
        return dataclasses.replace(self, columns={**self.columns, **more, **last})
