"""Results as tables of other packages: what `Photometry`, `Spectra`, fits and solutions have in common."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from xpjax.core.records import Catalogue
from xpjax.core.status import Bits
from xpjax.io.arrow import to_arrow
from xpjax.io.gaps import has_gaps

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow
    from astropy.table import Table

FIRST_ROWS = 8
"""Rows of the view in a notebook."""
MAX_COLUMNS = 24
"""Columns of the view in a notebook."""


FlagColumns: TypeAlias = type[Bits] | Mapping[str, type[Bits]] | None


class TableResult:
    """A result with one row for each source: as an astropy, pandas or Arrow table, and as HTML in a notebook.

    A class that derives from it has `catalogue()`. `bits` has the meaning of its flags: one class for all columns whose
    description is a legend of bits, or a class for each column by its name.
    """

    bits: ClassVar[FlagColumns] = None

    def catalogue(self) -> Catalogue:
        """The columns of the result with units and descriptions."""
        raise NotImplementedError

    def to_table(self, *, quantities: bool = False) -> Table:
        """Return the result as an astropy table.

        Parameters
        ----------
        quantities : bool
            Make a QTable, whose columns with units are Quantities, and `wavelength` in its `meta` as well.

        Returns
        -------
        astropy.table.Table
            One row for each source; columns carry units and descriptions, `meta` what holds for all rows.
        """
        return astropy_table(self.catalogue(), quantities=quantities)

    def to_pandas(self) -> pd.DataFrame:
        """Return the result as a pandas data frame.

        Returns
        -------
        pandas.DataFrame
            One row for each source, with the columns of `to_table`. A column of vectors (n, k) becomes one column of
            arrays. pandas has no units: they are in `attrs["units"]`, and what all rows share, as the wavelengths of
            spectra, is in `attrs["shared"]`.
        """
        import pandas as pd

        catalogue = self.catalogue()

        def cells(column: np.ndarray) -> Any:
            if has_gaps(column) and column.dtype.kind in "iu":
                return pd.arrays.IntegerArray(np.ma.getdata(column), np.ma.getmaskarray(column))
            return column if column.ndim == 1 else list(column)

        frame = pd.DataFrame({name: cells(column) for name, column in catalogue.columns.items()})
        frame.attrs["units"] = dict(catalogue.units)
        if catalogue.shared:
            frame.attrs["shared"] = {name: array.tolist() for name, array in catalogue.shared.items()}
        return frame

    def to_arrow(self) -> pyarrow.Table:
        """Return the result as an Arrow table.

        Returns
        -------
        pyarrow.Table
            One row for each source, with the columns of `to_table`; units and descriptions are metadata of fields, as
            in the Parquet files that `xpjax.write` writes.
        """
        return arrow_table(self.catalogue())

    def _repr_html_(self) -> str:
        return html_view(type(self).__name__, self.catalogue(), self.bits)


def astropy_table(catalogue: Catalogue, *, quantities: bool = False) -> Table:
    """The columns of a catalogue with units and descriptions; what all rows share and metadata are in `meta`.

    quantities: as a QTable.
    """
    from astropy.table import Column, MaskedColumn, QTable, Table
    from astropy.units import Quantity, Unit

    def unit(name: str) -> Any:
        text = catalogue.units.get(name)
        return Unit(text, parse_strict="silent") if text else None

    columns = [
        (MaskedColumn if has_gaps(column) else Column)(
            column, name, unit=unit(name), description=catalogue.descriptions.get(name)
        )
        for name, column in catalogue.columns.items()
    ]
    shared: dict[str, Any] = dict(catalogue.shared)
    if quantities:
        shared = {name: Quantity(array, unit(name)) if unit(name) else array for name, array in shared.items()}
    return (QTable if quantities else Table)(columns, meta={**plain_meta(catalogue), **shared})


def arrow_table(catalogue: Catalogue) -> pyarrow.Table:
    """The columns of a catalogue; units and descriptions are metadata of fields, all else of the schema."""
    import pyarrow as pa

    def cells(values: np.ndarray) -> pyarrow.Array:
        flat = to_arrow(values.ravel())
        if values.ndim == 2 and not values.shape[1]:  # Arrow has no lists of length zero
            return pa.ListArray.from_arrays(np.zeros(len(values) + 1, np.int32), flat)
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    def field(name: str, kind: pyarrow.DataType) -> pyarrow.Field:
        notes = {"unit": catalogue.units.get(name), "description": catalogue.descriptions.get(name)}
        return pa.field(name, kind, metadata={key: text for key, text in notes.items() if text} or None)

    arrays = [cells(np.asanyarray(column)) for column in catalogue.columns.values()]
    shared = {name: array.tolist() for name, array in catalogue.shared.items()}
    units = {name: catalogue.units[name] for name in shared if name in catalogue.units}
    notes = {"meta": plain_meta(catalogue), "shared": shared, "shared_units": units}
    schema = pa.schema(
        [field(name, array.type) for name, array in zip(catalogue.columns, arrays, strict=True)],
        metadata={b"xpjax": json.dumps(notes).encode()},
    )
    return pa.Table.from_arrays(arrays, schema=schema)


def plain_meta(catalogue: Catalogue) -> dict[str, Any]:
    """The metadata of a catalogue as plain Python values."""
    return {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in catalogue.meta.items()}


def html_view(title: str, catalogue: Catalogue, bits: FlagColumns = None) -> str:
    """The first rows with units, and the flags that occur with their meaning, as HTML."""
    names = list(catalogue.columns)[:MAX_COLUMNS]
    n_row, n_column = len(catalogue), len(catalogue.columns)

    def row(cells: list[str], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    def titled(name: str) -> str:
        about = html.escape(catalogue.descriptions.get(name, ""), quote=True)
        return f'<th title="{about}">{html.escape(name)}</th>'

    lines = [f"<tr>{''.join(map(titled, names))}</tr>", row([catalogue.units.get(name, "") for name in names], "th")]
    lines += [row([_cell(catalogue.columns[name][i]) for name in names]) for i in range(min(n_row, FIRST_ROWS))]
    parts = [f"<p><b>{html.escape(title)}</b>: {n_row:,} rows, {n_column:,} columns</p>", "<table>", *lines, "</table>"]
    if n_column > len(names) or n_row > FIRST_ROWS:
        parts.append(f"<p>Shown: {min(n_row, FIRST_ROWS)} rows, {len(names)} columns.</p>")
    for name, flags in _flag_columns(catalogue, bits).items():
        counts = flags.counts(catalogue.columns[name])
        items = [f"<li>{html.escape(f'{bit.name} ({n:,}): {bit.meaning}')}</li>" for bit, n in counts.items()]
        parts += [
            f"<p>{html.escape(name)}: {'' if items else 'none set'}</p>",
            *[f"<ul>{''.join(items)}</ul>"] * bool(items),
        ]
    return "\n".join(parts)


def _flag_columns(catalogue: Catalogue, bits: FlagColumns) -> dict[str, type[Bits]]:
    """The columns of flags with what their bits are."""
    if bits is None or isinstance(bits, Mapping):
        return {name: flags for name, flags in (bits or {}).items() if name in catalogue.columns}
    legends = [name for name, text in catalogue.descriptions.items() if text.startswith("Bits: ")]
    return {name: bits for name in legends if name in catalogue.columns}


def _cell(value: Any) -> str:
    if np.ndim(value):
        return f"[{len(value)} values]"
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
