"""The rows of a joint solution: which can be used, sorted by star, with the columns and values of all terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from scipy import sparse

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import MISSING, Observations, RowFlag
from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.devices import DeviceRows
from xpjax.survey.joint.normal import HostRows, Layout, Slots


def row_flags(o: Observations, blocks: Sequence[Block]) -> np.ndarray:
    """RowFlag bits (n,) of what keeps rows out of the solution."""
    flags = np.array(o.excluded, np.uint32)

    def mark(bad: np.ndarray, flag: RowFlag) -> None:
        if bad.any():
            flags[bad] |= np.uint32(flag)

    mark(~(np.abs(o.magnitude) < MISSING), RowFlag.NO_MAGNITUDE)
    mark(~(o.magnitude_error > 0) | ~np.isfinite(o.magnitude_error), RowFlag.NO_ERROR)
    for block in blocks:
        mark(block.index < 0, RowFlag.NO_POSITION)
        for part in block.parts:
            if part.derivative is not None:
                of_model = block.of_reference or "color" in block.name
                mark(~np.isfinite(part.derivative), RowFlag.NO_MODEL if of_model else RowFlag.NO_POSITION)
    return flags


@dataclasses.dataclass(frozen=True, repr=False)
class LostRows(Record):
    """Rows that have a magnitude, and are kept out all the same: they are calibrated, and nothing more.

    row (k,): which they are; column and value (k, width): their columns, -1 for none, and derivatives. Terms of the
    reference have zeros: they are of the stars.
    """

    row: np.ndarray
    column: np.ndarray
    value: np.ndarray


def lost_rows(o: Observations, blocks: Sequence[Block], flags: np.ndarray) -> LostRows:
    """The rows with flags (n,) that have a magnitude."""
    row = np.flatnonzero((flags != 0) & (np.abs(o.magnitude) < MISSING))
    columns, values, start = [], [], 0
    for block in blocks:
        index, width = np.asarray(block.index)[row], len(block.parts)
        for j, part in enumerate(block.parts):
            columns.append(np.where(index >= 0, start + index * width + j, -1) if not block.of_reference else 0 * row)
            known = np.ones(len(row)) if part.derivative is None else part.derivative[row]
            values.append(known if not block.of_reference else np.zeros(len(row)))
        start += block.n_column
    return LostRows(row, np.stack(columns, axis=1), np.stack(values, axis=1))


@dataclasses.dataclass(frozen=True)
class SortedRows:
    """Usable rows, sorted by star and band: row `order[i]` of the observations is the i-th here.

    star (n_star,) distinct ids, bands; code (n,): star * n_band + band of usable rows in their own order, usable (n,)
    these rows; bounds and filled: the rows of slot filled[k] are bounds[k]..bounds[k + 1].
    """

    star: np.ndarray
    bands: tuple[str, ...]
    usable: np.ndarray
    code: np.ndarray
    order: np.ndarray
    bounds: np.ndarray
    filled: np.ndarray

    def slots(self, coupled: bool) -> Slots:
        """The slots, of which those of a star belong together if a prior couples its bands."""
        n_star, n_band = len(self.star), len(self.bands)
        return Slots(self.bounds, self.filled, n_star if coupled else n_star * n_band, n_band if coupled else 1)

    @property
    def band(self) -> np.ndarray | None:
        """The band (n,) of each sorted row, None where there is but one."""
        if len(self.bands) == 1:
            return None
        return np.repeat(self.filled % len(self.bands), np.diff(self.bounds)).astype(np.int8)


def sort_rows(o: Observations, flags: np.ndarray) -> SortedRows:
    """Sort the rows without flags by star and band, by counting. Raises ValueError where there are none."""
    usable = np.flatnonzero(flags == 0)
    if not len(usable):
        raise XpjaxError(f"none of {len(o)} rows can be used: {_reasons(flags)}")
    everything = len(usable) == len(o)
    names, band = np.unique(o.frames.band, return_inverse=True)
    star, code = _codes(o.star if everything else o.star[usable])
    n_band = len(names)
    if n_band > 1:
        frame = o.frame if everything else o.frame[usable]
        code = code * np.int32(n_band) + band.astype(np.int32)[frame]
    table = sparse.coo_array(
        (np.ones(len(code), np.int8), (code, np.arange(len(code), dtype=np.int32))),
        shape=(len(star) * n_band, len(code)),
    ).tocsr()
    filled = np.flatnonzero(np.diff(table.indptr))
    bounds = np.append(table.indptr[filled], len(code)).astype(np.int64)
    order = table.indices if everything else usable[table.indices]
    return SortedRows(star, tuple(str(name) for name in names), usable, code, order, bounds, filled)


def _codes(star: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct stars, and the number (n,) of each row's among them."""
    if star.dtype.kind in "iu" and len(star) and star.min() >= 0 and star.max() < 4 * len(star) + 1000:
        present = np.zeros(int(star.max()) + 1, bool)
        present[star] = True
        number = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return np.flatnonzero(present), number[star]
    distinct, code = np.unique(star, return_inverse=True)
    return distinct, code.astype(np.int32)


def _reasons(flags: np.ndarray) -> str:
    kinds, number = np.unique(flags, return_counts=True)
    return "; ".join(f"{n} {RowFlag.describe(int(k))}" for k, n in zip(kinds, number, strict=True))


def fill_rows(blocks: Sequence[Block], order: np.ndarray, slots: Slots, devices: Devices) -> HostRows:
    """Columns and derivatives of all blocks in the order of the stars."""
    widths, sizes = [len(b.parts) for b in blocks], [len(b.labels) for b in blocks]
    starts = np.cumsum([0, *(b.n_column for b in blocks)])[:-1].tolist()
    layout = Layout(tuple(starts), tuple(widths), tuple(sizes))
    n, k = len(order), sum(widths)
    column, value = np.empty((n, k), np.int32), np.empty((n, k))

    def one(_: int, __: slice, rows: slice) -> None:
        mine = order[rows]
        for block, start, first in zip(blocks, starts, layout.first, strict=True):
            width = len(block.parts)
            place = np.asarray(block.index, np.int32)[mine] * np.int32(width)
            for j, part in enumerate(block.parts):
                np.add(place, np.int32(start + j), out=column[rows, first + j])
                value[rows, first + j] = 1.0 if part.derivative is None else part.derivative[mine]

    slots.each(one)
    if devices is None and (backend := jax.default_backend()) != "cpu":
        devices = backend
    if devices is None:
        return HostRows(layout, slots, column, value)
    return DeviceRows(layout, slots, column, value, devices)
