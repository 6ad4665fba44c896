"""The terms of a joint solution: what each adds to instrumental magnitudes, as columns of a sparse design.

    M_star = m + zero_point_e + flat(x, y) + color(x, y) (C - C_zero) - k (X - 1) + ... + transmission(spectrum, p)

A term is a small frozen record: its name, the frames that share a value (`per`), a prior standard deviation, and
`blocks(observations, scaling)`, which give for every row the place it belongs to and the values of the columns there.
`per` names fields of frames, joined by plus signs, whose values say which frames belong together: "frame" (every one
apart), "exposure", "night+band", "band+detector", "all", ...; with ":D" after it, frames D days apart have values of
their own, as in "band+detector:30".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling

FIELDS = ("exposure", "band", "detector", "night")


def frame_groups(frames: Frames, per: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The group of each frame (n_frame,), and the groups' names, in order of their first frame; see the module.

    Raises ValueError for a field that frames do not have.
    """
    fields, _, days = per.partition(":")
    if fields == "frame":
        return np.arange(len(frames), dtype=np.int32), tuple(frames.name(k) for k in range(len(frames)))
    names = [] if fields == "all" else fields.split("+")
    if unknown := [name for name in names if name not in FIELDS]:
        raise XpjaxError(f'per = {per!r}: {unknown[0]!r} is not one of "frame", "all" and {FIELDS} joined by "+"')
    keys = [getattr(frames, name).astype(str) for name in names]
    if days:
        span = _positive(per, days)
        if not np.isfinite(frames.time).all():
            raise XpjaxError(f"per = {per!r} needs the times of all exposures")
        blocks = np.floor(frames.time / span) * span
        keys.append(np.array([f"{block:g}" for block in blocks]))
    if not keys:
        return np.zeros(len(frames), np.int32), ("all",)
    known: dict[tuple[str, ...], int] = {}
    tuples = zip(*(k.tolist() for k in keys), strict=True)
    index = np.array([known.setdefault(key, len(known)) for key in tuples], np.int32)
    return index, tuple(" ".join(part for part in key if part) or "all" for key in known)


def _positive(per: str, text: str) -> float:
    try:
        span = float(text)
    except ValueError:
        span = -1.0
    if not span > 0:
        raise XpjaxError(f"per = {per!r}: expected a number of days after the colon")
    return span


@dataclasses.dataclass(frozen=True, repr=False)
class Block(Record):
    """The design of one term: row i has values[j][i] in column index[i] * len(parts) + j of the term.

    index (n,), -1 where the term says nothing of a row; values: an array (n,) for each part, None for ones; labels:
    names of the places; parts: names of the columns of a place; sigma (n_column,): prior standard deviations about
    mean (n_column,), infinite for none; group (n_place,): places that a constraint takes the mean of together, None: by
    band. A row whose values are not finite cannot be used.
    """

    name: str
    index: np.ndarray
    values: tuple[np.ndarray | None, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    sigma: np.ndarray
    mean: np.ndarray
    group: np.ndarray | None = None

    @property
    def n_column(self) -> int:
        """Columns of the term."""
        return len(self.labels) * len(self.parts)

    def column_name(self, column: int) -> str:
        """What a column is, in words."""
        k = len(self.parts)
        part = "" if k == 1 else f" {self.parts[column % k]}"
        return f"{self.name}{part} of {self.labels[column // k]}"

    def column(self, label: str, part: str | None = None) -> int:
        """The column of a place and part. Raises ValueError, with what there is, for one that is none."""
        part = self.parts[0] if part is None else part
        for name, known, what in ((label, self.labels, "place"), (part, self.parts, "part")):
            if name not in known:
                raise XpjaxError(f"{self.name} has no {what} {name!r}; it has {', '.join(known[:8])}, ...")
        return self.labels.index(label) * len(self.parts) + self.parts.index(part)


def column_name(blocks: Sequence[Block], column: int) -> str:
    """What a column of all blocks, one after the other, is in words."""
    for block in blocks:
        if column < block.n_column:
            return block.column_name(column)
        column -= block.n_column
    raise IndexError(column)


def make_blocks(
    name: str,
    index: np.ndarray,
    values: Sequence[np.ndarray | None],
    labels: Sequence[str],
    parts: Sequence[str],
    prior: float | None = None,
    mean: float = 0.0,
) -> tuple[Block, ...]:
    """One block whose columns have one prior standard deviation, None for no prior. Raises ValueError below zero."""
    if prior is not None and not prior > 0:
        raise XpjaxError(f"{name}: prior = {prior!r} must be a standard deviation above zero, or left out")
    n = len(labels) * len(parts)
    sigma = np.full(n, np.inf if prior is None else float(prior))
    return (Block(name, index, tuple(values), tuple(labels), tuple(parts), sigma, np.full(n, mean)),)


@dataclasses.dataclass(frozen=True)
class ZeroPoint:
    """A constant [mag] for each frame, or group of frames."""

    name: str = "zero_point"
    per: str = "frame"
    prior: float | None = None
    mean: float = 0.0

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns."""
        index, labels = frame_groups(o.frames, self.per)
        return make_blocks(self.name, index[o.frame], (None,), labels, ("constant",), self.prior, self.mean)


@dataclasses.dataclass(frozen=True)
class Color:
    """Polynomial in color - color_zero up to `order` (1..3), with coefficients that are polynomials of the place.

    parts: color_1, color_1 x, color_1 y, ... for each order, in Chebyshev polynomials of total order position_order.
    """

    name: str = "color"
    per: str = "frame"
    order: int = 1
    position_order: int = 0
    prior: float | None = None

    def __post_init__(self) -> None:
        _whole(self.name, "order", self.order, 1, 3)
        _whole(self.name, "position_order", self.position_order, 0, 9)

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns."""
        index, labels = frame_groups(o.frames, self.per)
        color = o.color - scale.color_zero
        places = [(0, 0)] if not self.position_order else _orders(self.position_order, 0)
        basis: list[np.ndarray | None] = [None]
        if self.position_order:
            basis = list(polynomials(o, scale, places))
        values, parts = [], []
        for k in range(1, self.order + 1):
            power = color**k
            values += [power if one is None else power * one for one in basis]
            parts += [f"color_{k}" + ("" if i + j == 0 else f" {_polynomial(i, j)}") for i, j in places]
        return make_blocks(self.name, index[o.frame], values, labels, parts, self.prior)


@dataclasses.dataclass(frozen=True)
class Flat:
    """The response over the detector [mag], for each group of frames.

    form "superpixel": constant in bins x bins cells; "chebyshev": polynomials of total order up to `order`, without the
    constant, which zero-points have.
    """

    name: str = "flat"
    per: str = "band+detector"
    form: str = "superpixel"
    bins: int = 20
    order: int = 2
    prior: float | None = None

    def __post_init__(self) -> None:
        if self.form not in ("superpixel", "chebyshev"):
            raise XpjaxError(f'{self.name}: form is "superpixel" or "chebyshev", not {self.form!r}')
        _whole(self.name, "bins", self.bins, 1, 1000)
        _whole(self.name, "order", self.order, 1, 30)

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns."""
        group, labels = frame_groups(o.frames, self.per)
        if self.form == "chebyshev":
            orders = _orders(self.order, 1)
            values = polynomials(o, scale, orders)
            parts = [_polynomial(i, j) for i, j in orders]
            return make_blocks(self.name, group[o.frame], values, labels, parts, self.prior)
        cell = self.cell(o, scale)
        index = np.where(cell >= 0, group[o.frame] * np.int32(self.bins**2) + cell, np.int32(-1))
        cells = [f"{label} {i},{j}" for label in labels for i in range(self.bins) for j in range(self.bins)]
        known = None if (cell >= 0).all() else np.where(cell >= 0, 1.0, np.nan)
        (block,) = make_blocks(self.name, index, (known,), cells, ("cell",), self.prior)
        return (dataclasses.replace(block, group=np.repeat(np.arange(len(labels)), self.bins**2)),)

    def cell(self, o: Observations, scale: Scaling) -> np.ndarray:
        """The cell (n,) of each row, rows along y; -1 where the place is unknown or off the detector."""
        out = np.empty(len(o), np.int32)
        for start in range(0, len(o), PIECE):
            rows = slice(start, start + PIECE)
            u, v = scaled_places(o, scale, rows)
            with np.errstate(invalid="ignore"):
                on = (np.abs(u) <= 1) & (np.abs(v) <= 1)
                i, j = (np.clip((0.5 * self.bins * (a + 1)).astype(np.int32), 0, self.bins - 1) for a in (v, u))
            out[rows] = np.where(on, i * self.bins + j, -1)
        return out


PIECE = 1 << 20
"""Rows that are prepared at once."""


@dataclasses.dataclass(frozen=True)
class Extinction:
    """-k (X - 1) [mag] with k in mag/airmass for each group of frames; second_order: k times color - color_zero too.

    slope: k also changes linearly with time, in mag/airmass per day from the group's middle.
    """

    name: str = "extinction"
    per: str = "night+band"
    second_order: bool = False
    slope: bool = False
    prior: float | None = None
    mean: float = 0.0

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns. Raises ValueError where no exposure has an airmass, or a time where slope needs one."""
        index, labels = frame_groups(o.frames, self.per)
        air = 1.0 - o.frames.airmass
        if not np.isfinite(air).any():
            raise XpjaxError(f"{self.name} needs the airmass of exposures: give columns.airmass")
        values, parts = [air[o.frame]], ["k"]
        if self.second_order:
            values.append(values[0] * (o.color - scale.color_zero))
            parts.append("k_color")
        if self.slope:
            time = o.frames.time
            if not np.isfinite(time).all():
                raise XpjaxError(f"{self.name}: slope needs the times of all exposures: give columns.time")
            low, high = np.full(len(labels), np.inf), np.full(len(labels), -np.inf)
            np.minimum.at(low, index, time)
            np.maximum.at(high, index, time)
            values.append((air * (time - (0.5 * (low + high))[index]))[o.frame])
            parts.append("k_slope")
        (block,) = make_blocks(self.name, index[o.frame], values, labels, parts, self.prior)
        block.mean[:: len(parts)] = self.mean
        return (block,)


@dataclasses.dataclass(frozen=True)
class Covariate:
    """Any column times a coefficient for each group of frames: of an aperture (seeing, its growth), of the magnitude.

    values (n,): a number for every row of the observations, in their order; in a TOML file, the name of a column.
    """

    name: str
    values: np.ndarray
    per: str = "frame"
    prior: float | None = None

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns. Raises ValueError for as many values as there are no rows."""
        if np.shape(self.values) != (len(o),):
            raise XpjaxError(f"{self.name}: {np.shape(self.values)} values for {len(o)} rows of observations")
        index, labels = frame_groups(o.frames, self.per)
        return make_blocks(self.name, index[o.frame], (np.asarray(self.values, float),), labels, ("slope",), self.prior)


def _whole(name: str, field: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not (isinstance(value, int) and low <= value <= high):
        raise XpjaxError(f"{name}: {field} must be a whole number {low}..{high}, not {value!r}")


def _orders(top: int, first: int) -> list[tuple[int, int]]:
    return [(total - j, j) for total in range(first, top + 1) for j in range(total + 1)]


def _polynomial(i: int, j: int) -> str:
    """The name of T_i(x) T_j(y)."""
    return " ".join(f"{axis}{n}" if n > 1 else axis for axis, n in (("x", i), ("y", j)) if n) or "constant"


def scaled_places(o: Observations, scale: Scaling, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """x, y of some rows scaled to -1..1; as `Scaling.places`, and three times as quick where all boxes are alike."""
    if len(scale.box) and (scale.box == scale.box[0]).all():
        left, right, low, high = scale.box[0]
        u, v = (np.asarray(a[rows], float) for a in (o.x, o.y))
        return (2 * u - (left + right)) / (right - left), (2 * v - (low + high)) / (high - low)
    return scale.places(o.frame[rows], o.x[rows], o.y[rows])


def polynomials(o: Observations, scale: Scaling, orders: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """T_i(u) T_j(v) (n,) at the rows' scaled places, for each pair of orders."""
    u, v = scaled_places(o, scale)
    tables = []
    for place, top in ((u, max(i for i, _ in orders)), (v, max(j for _, j in orders))):
        table = [np.ones_like(place), place]
        for _ in range(top - 1):
            table.append(2 * place * table[-1] - table[-2])
        tables.append(table)
    return [tables[0][i] * tables[1][j] for i, j in orders]


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Equations between columns of a term that fix a gauge: the mean of a part over places is `value`.

    The mean is over the places of a band, or the cells of a flat: an equation for each. part None: of every part, each
    on its own. place: the value there instead of means.
    """

    term: str
    part: str | None = None
    place: str | None = None
    value: float = 0.0

    def rows(self, block: Block, seen: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
        """Coefficients (n_column,) of each equation; seen (n_column,): columns with data; group (n_place,)."""
        chosen = block.parts if self.part is None else (self.part,)
        out = []
        for part in chosen:
            first = block.column(block.labels[0], part)
            for one in np.unique(group) if self.place is None else [0]:
                row = np.zeros(block.n_column)
                if self.place is not None:
                    row[block.column(self.place, part)] = 1.0
                else:
                    columns = first + len(block.parts) * np.flatnonzero(group == one)
                    columns = columns[seen[columns]]
                    row[columns] = 1 / max(len(columns), 1)
                if row.any():
                    out.append(row)
        return out


class Term(Protocol):
    """What every term has."""

    @property
    def name(self) -> str:
        """Its name in messages and results."""

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """Its columns for these observations. Raises ValueError where they lack what it needs."""


TERMS: Mapping[str, type] = {
    "zero_point": ZeroPoint, "color": Color, "flat": Flat, "extinction": Extinction, "covariate": Covariate,
}  # fmt: skip
"""Kinds of terms by their names in a TOML file; `transmission` is in a module of its own."""
