"""Sums of a fit's rows in cells of the detector, of which `field_floor` finds what rows of one place share.

Of rows with weights W, columns A, stars S and residuals r, E those of each cell:

    E'WE,   E'WA,   E'WS,   E'W r = E'W r_0 + E'WA dp - E'WS dM

about values p_0 and M_0: they add up over the rows of a solution and those that extend it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.records import Record
from xpjax.survey import Frames
from xpjax.survey.joint.fit import Fit

BINS, CELLS = 16, 2048
"""Cells along each axis of a detector, fewer where all detectors and bands would have more than so many."""
LEAST_BINS = 4
"""Cells along an axis below which nothing is known."""
ROWS = 500_000
"""Rows that are summed at once."""


@dataclasses.dataclass(frozen=True, repr=False)
class CellSums(Record):
    """Sums of rows in the cells (n_cell,) of detectors and bands, bins along an axis, the groups one after the other.

    own (n_cell,): the diagonal of E'WE; score (n_cell,): E'W r; columns (n_column, n_cell): A'WE, stars (n_slot,
    n_cell): S'WE, both sparse. chi2, count (n_group,): r'Wr and the number of rows.
    """

    bins: int
    groups: tuple[str, ...]
    own: np.ndarray
    score: np.ndarray
    columns: Any
    stars: Any
    chi2: np.ndarray
    count: np.ndarray

    def at(self, dp: np.ndarray, dm: np.ndarray, chi2: float) -> CellSums:
        """The same at values and magnitudes that are so much larger, with so much larger a chi2 in all."""
        score = self.score + self.columns.T @ dp - self.stars.T @ dm
        return dataclasses.replace(self, score=score, chi2=self.chi2 * chi2)

    def among(self, groups: tuple[str, ...]) -> CellSums:
        """The same with further groups, that have nothing."""
        more, n = len(groups) - len(self.groups), len(groups) * self.bins**2
        columns, stars = self.columns.copy(), self.stars.copy()
        columns.resize(columns.shape[0], n)
        stars.resize(stars.shape[0], n)
        own, score = (np.pad(values, (0, more * self.bins**2)) for values in (self.own, self.score))
        chi2, count = (np.pad(values, (0, more)) for values in (self.chi2, self.count))
        return CellSums(self.bins, groups, own, score, columns, stars, chi2, count)

    def __add__(self, other: CellSums) -> CellSums:
        summed = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return dataclasses.replace(self, **summed)


SUMS = ("own", "score", "columns", "stars", "chi2", "count")


def cell_sums(fit: Fit) -> CellSums | None:
    """The sums of a finished fit, with those of what it extends; None where there are no places, or too many cells."""
    before = _earlier(fit)
    places = _places(fit)
    if places is None:
        return before
    named = _names(fit.problem.observations.frames)
    known = () if before is None else before.groups
    groups = (*known, *(name for name in np.unique(named).tolist() if name not in known))
    bins = BINS if before is None else before.bins
    while before is None and len(groups) * bins**2 > CELLS:
        bins //= 2
    if bins < LEAST_BINS:
        return None
    own = _of_rows(fit, _cells_of(fit, places, bins, np.array([groups.index(name) for name in named])), bins, groups)
    return own if before is None else before.among(groups) + own


def _earlier(fit: Fit) -> CellSums | None:
    """The sums of what a fit extends, at its values and magnitudes."""
    before, magnitude = fit.before, fit.stars.magnitude
    if before is None or before.cells is None:
        return None
    more = before.chi2_at(fit.p, magnitude) / before.chi2 if before.chi2 > 0 else 1.0
    found: CellSums = before.cells
    return found.at(fit.p - before.value, magnitude - before.magnitude, more)


def _names(frames: Frames) -> np.ndarray:
    return np.array([f"{band} {detector}".strip() for band, detector in zip(frames.band, frames.detector, strict=True)])


def _places(fit: Fit) -> tuple[np.ndarray, np.ndarray] | None:
    """x and y (n,) of the sorted rows, scaled to -1..1 over the detector; None where they are not known."""
    o, order = fit.problem.observations, fit.problem.sorted.order
    known = np.isfinite(o.x[order])
    if not known.any() or np.ptp(o.x[order][known]) == 0:
        return None
    return fit.problem.scale.places(o.frame[order], o.x[order], o.y[order])


def _cells_of(fit: Fit, places: tuple[np.ndarray, np.ndarray], bins: int, group: np.ndarray) -> np.ndarray:
    """The cell (n,) of each of the sorted rows, -1 for none; group (n_frame,): of frames."""
    u, v = places
    with np.errstate(invalid="ignore"):
        on = (np.abs(u) <= 1) & (np.abs(v) <= 1)
        i, j = (np.clip((0.5 * bins * (a + 1)).astype(np.int32), 0, bins - 1) for a in (v, u))
    mine = group.astype(np.int32)[fit.problem.observations.frame[fit.problem.sorted.order]]
    return np.where(on, mine * bins**2 + i * bins + j, -1)


def _of_rows(fit: Fit, cell: np.ndarray, bins: int, groups: tuple[str, ...]) -> CellSums:
    """The sums of a fit's own rows, which lie in these cells (n,)."""
    rows, slots, weight, n = fit.equations.rows, fit.stars.slots, fit.equations.weight, len(groups) * bins**2
    columns, parts, width = np.zeros((rows.layout.n_column, n)), [], rows.column.shape[1]
    of_row = slots.row_slot
    for first in range(0, len(cell), ROWS):
        some = slice(first, min(first + ROWS, len(cell)))
        placed = np.flatnonzero(cell[some] >= 0)
        n_row = some.stop - first
        of_cells = sparse.csr_array((weight[some][placed], (placed, cell[some][placed])), shape=(n_row, n))
        entries = rows.value[some].ravel(), rows.column[some].ravel(), np.arange(0, n_row * width + 1, width)
        design = sparse.csr_array(entries, shape=(n_row, rows.layout.n_column))
        columns += (design.T @ of_cells).toarray()
        slot, mine = np.unique(of_row[some], return_inverse=True)
        of_slots = sparse.csr_array((np.ones(n_row), (mine, np.arange(n_row))), shape=(len(slot), n_row))
        made = (of_slots @ of_cells).tocoo()
        parts.append((made.data, slot[made.row], made.col))
    data, slot, column = (np.concatenate(part) for part in zip(*parts, strict=True))
    known, w = np.flatnonzero((cell >= 0) & (weight > 0)), weight
    left = fit.fitted - slots.of_rows(fit.stars.magnitude)
    mine, of_group = cell[known], cell[known] // bins**2
    return CellSums(
        bins, groups, np.bincount(mine, w[known], n), np.bincount(mine, (w * left)[known], n),
        sparse.csr_array(columns), sparse.csr_array((data, (slot, column)), shape=(slots.n_slot, n)),
        np.bincount(of_group, (w * left**2)[known], len(groups)), np.bincount(of_group, minlength=len(groups)),
    )  # fmt: skip
