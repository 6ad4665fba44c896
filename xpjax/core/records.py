"""Records on the host: how they print, rows of them picked and joined, and tables ready to be written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

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


class Rows:
    """A dataclass that is a table: the fields named in `row_fields` have one entry for each row.

    These are arrays (n, ...), mappings of such columns, records that are tables themselves, or None. All other fields
    hold for the whole table. `record[rows]` picks rows by a slice, a mask or indices, `len` counts them, and
    `concatenate_records` joins tables.
    """

    row_fields: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        """The number of rows."""
        first = getattr(self, self.row_fields[0])
        return len(next(iter(first.values()), ())) if isinstance(first, Mapping) else len(first)

    def __getitem__(self, rows: int | np.integer | slice | list[int] | list[bool] | np.ndarray) -> Self:
        """Some of the rows, by a slice, a mask or indices; one index gives a table of one row."""
        if isinstance(rows, int | np.integer):
            n, rows = len(self), int(rows)
            if not -n <= rows < n:
                raise IndexError(f"row {rows} of a {type(self).__name__} of {n} rows")
            rows = slice(rows, rows + 1 or None)
        picked = {name: _picked(getattr(self, name), rows) for name in self.row_fields}
        return dataclasses.replace(self, **picked)  # type: ignore[type-var]


def _picked(value: Any, rows: Any) -> Any:
    if value is None:
        return None
    return {name: column[rows] for name, column in value.items()} if isinstance(value, Mapping) else value[rows]


T = TypeVar("T", bound=Rows)
Join = Callable[[Sequence[Any]], Any]


def concatenate_records(parts: Sequence[T], join: Join = np.concatenate) -> T:
    """Tables of one class row after row, in order; what holds for a whole table comes from the first.

    join: joins the arrays of one field or column. Raises XpjaxError where parts have different columns, or a field is
    None in some of them alone.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    joined = {name: _joined([getattr(part, name) for part in parts], name, join) for name in first.row_fields}
    return dataclasses.replace(first, **joined)  # type: ignore[type-var]


def _joined(values: Sequence[Any], name: str, join: Join) -> Any:
    first = values[0]
    if any((value is None) != (first is None) for value in values):
        raise XpjaxError(f"tables cannot be joined: some have {name} and some have none")
    if first is None:
        return None
    if isinstance(first, Rows):
        return concatenate_records(values, join)
    if not isinstance(first, Mapping):
        return join(values)
    for value in values[1:]:
        if list(value) != list(first):
            raise XpjaxError(f"tables with different columns cannot be joined: {sorted({*value} ^ {*first})}")
    return {column: join([value[column] for value in values]) for column in first}


def json_entry(meta: Mapping[str, object], name: str, default: str | None = None) -> Any:
    """What an entry of metadata says as JSON. Raises KeyError for one that is not there and has no default."""
    text: Any = meta[name] if default is None else meta.get(name, default)
    return json.loads(text)


@dataclasses.dataclass(frozen=True, repr=False)
class Catalogue(Rows, Record):
    """A table ready to be written: what the command line writes and what results give as `.catalogue()`.

    columns name -> (n,) or (n, k) array, in order; units and descriptions by column name (absent: none);
    shared name -> array stored once for all rows (`wavelength`); meta name -> str, number, bool or list of them.
    """

    row_fields = ("columns",)

    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_columns(self, more: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray]) -> Catalogue:
        """The catalogue with columns passed on by the user, then the last ones. Raises ValueError for a name twice."""
        taken = {name.lower() for name in (*self.columns, *last, *self.shared)}
        twice = [name for name in more if name.lower() in taken]
        if twice:
            raise XpjaxError(f"cannot keep columns {twice}: the output has columns of these names; rename or drop them")
        return dataclasses.replace(self, columns={**self.columns, **more, **last})
