"""Columns of output tables: name, unit and description in one place, beside what fills them.

To add a column to a table add an `OutputColumn` to its list: `xpjax.survey.exposures.columns` has those of calibrated
measurements and of zero-points, `xpjax.survey.joint.columns` those of the joint solution. A unit of "" is for plain
numbers and text: then none is written. Every format that `xpjax.write` writes, and every table that a result becomes,
has it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.records import Catalogue, Record, Rows
from xpjax.io.results import TableResult
from xpjax.survey.observations import Observations


@dataclasses.dataclass(frozen=True)
class OutputColumn:
    """A column: its name, what gives its values (n,) of a result, or None where it is absent, unit and description."""

    name: str
    values: Callable[[Any], np.ndarray | None]
    unit: str = ""
    description: str = ""

    @classmethod
    def of(cls, name: str, values: np.ndarray, unit: str = "", description: str = "") -> OutputColumn:
        """A column whose values are there already."""
        return cls(name, lambda _: values, unit, description)


@dataclasses.dataclass(frozen=True, repr=False)
class SurveyTable(Rows, TableResult, Record):
    """A table that a survey function returns, with units and descriptions.

    Parameters
    ----------
    columns : mapping of str to (n,) array
        Columns by name.
    units : mapping of str to str
        Units of the columns that have one.
    descriptions : mapping of str to str
        Descriptions of the columns.
    meta : mapping
        What holds for all rows.

    Examples
    --------
    >>> table = xpjax.survey.SurveyTable({"x": np.arange(3.0)}, {"x": "pixel"})
    >>> len(table[1:]), str(table.to_table()["x"].unit)
    (2, 'pix')
    """

    row_fields = ("columns",)

    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def catalogue(self) -> Catalogue:
        """Return the columns ready to be written."""
        return Catalogue(self.columns, self.units, self.descriptions, meta=self.meta)


def tabulate(columns: Iterable[OutputColumn], result: Any, meta: Mapping[str, Any]) -> Catalogue:
    """The table of a result by its list of columns; those without values are left out."""
    values = {column: column.values(result) for column in columns}
    there = {column: array for column, array in values.items() if array is not None}
    return Catalogue(
        {column.name: array for column, array in there.items()},
        {column.name: column.unit for column in there if column.unit},
        {column.name: column.description for column in there if column.description}, meta=meta,
    )  # fmt: skip


ORIGIN = {
    "x": ("pixel", "Position along the x axis of the detector"),
    "y": ("pixel", "Position along the y axis of the detector"),
    "color": ("mag", "Color of the star that color terms are of; missing where it is not known"),
    "amplifier": ("", "Amplifier of the detector"),
    "ra": ("deg", "Right ascension in the input table"),
    "dec": ("deg", "Declination in the input table"),
    "file": ("", "Input file"),
    "row": ("", "Row in the table of the input file, counted from 1"),
}
"""Unit and description of the columns that identify a row of the input."""


def origin_columns(o: Observations, taken: Iterable[str], amplifiers: Sequence[str] = ()) -> list[OutputColumn]:
    """Columns of what is known of rows beside their results, and of what identifies them in the input.

    x, y, color, amplifier; the input's identifiers, positions and kept columns, file and row. taken: names that other
    columns have; the input's columns of these names are called input_NAME. amplifiers: names, by their codes.
    """
    columns: dict[str, np.ndarray] = {}
    if np.isfinite(o.x).any():
        columns |= {"x": o.x, "y": o.y}
    if np.nan_to_num(o.color).any():  # observations without a color have 0
        columns["color"] = o.color
    if o.amplifier.any() or len(amplifiers) > 1:
        named = len(amplifiers) > int(o.amplifier.max())
        columns["amplifier"] = np.array(amplifiers)[o.amplifier] if named else o.amplifier.astype(str)
    used = {*taken, *columns, "x", "y", "file", "row"}
    if o.origin is not None:
        for name, values in o.origin.columns.items():
            while name in used:
                name = f"input_{name}"
            used.add(name)
            columns[name] = values
        columns["file"] = np.array(o.origin.files, np.str_)[o.origin.file]
        columns["row"] = o.origin.row
    return [OutputColumn.of(name, values, *ORIGIN.get(name, ())) for name, values in columns.items()]


def provenance() -> dict[str, Any]:
    """Version and date, for whatever is written."""
    import xpjax

    now = datetime.datetime.now(datetime.UTC)
    return {"version": xpjax.__version__, "date": now.isoformat(timespec="seconds")}
