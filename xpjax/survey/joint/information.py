"""What the measurements of a joint solution say, without the measurements: normal equations at its final weights.

With residuals r = y + A p - M of used rows (see `normal`) about the values p_0 and M_0 of the solution,

    chi2(p, M) = r'Wr,   A'Wr = A'Wr_0 + A'WA dp - B' dM,   S'Wr = S'Wr_0 + B dp - S'WS dM

so that A'WA, B, S'WS and the two products at p_0 say all that further measurements need to know of earlier ones:
`extend` adds them to those of a further night. Weights, clips and error floors stay what they were. Rows of stars that
had too few measurements to take part are kept whole: with more they may.

B takes most of the space: 12 bytes for each star and column that it was seen with, before compression.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey.joint.cells import CellSums, cell_sums
from xpjax.survey.joint.factor import Factor
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.priors import SlotPrior


@dataclasses.dataclass(frozen=True, repr=False)
class SpareRows(Record):
    """Rows (n,) of stars that had too few to take part: slot, frame, place, magnitude, error; columns, values (n, k).

    kept (n,): whether they were not clipped.
    """

    slot: np.ndarray
    frame: np.ndarray
    x: np.ndarray
    y: np.ndarray
    magnitude: np.ndarray
    error: np.ndarray
    kept: np.ndarray
    column: np.ndarray
    value: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Information(Record):
    """The normal equations of used rows, for columns (n_column,) and slots (n_slot,); see the module.

    gram (n_column, n_column): A'WA; cross (n_slot, n_column): B; weight (n_slot,): the diagonal of S'WS; count
    (n_slot,): rows. column_right and slot_right: A'Wr and S'Wr, chi2 at value (n_column,) and magnitude (n_slot,).
    prior: of the slots; groups: places that a constraint takes together, of each block; spare: rows that took no part.
    factor: of R with constraints as stiff as the data, place: its columns; null (n_column, k): what only constraints
    decide, null_gram and null_cross: A'WA and B times it. rows (n_column,): how many each column has; cells: sums over
    the detector, None where places are not known.
    """

    gram: Any
    cross: Any
    weight: np.ndarray
    count: np.ndarray
    value: np.ndarray
    magnitude: np.ndarray
    column_right: np.ndarray
    slot_right: np.ndarray
    chi2: float
    prior: SlotPrior
    groups: tuple[np.ndarray, ...]
    spare: SpareRows
    factor: Factor
    place: np.ndarray
    null: np.ndarray
    null_gram: np.ndarray
    null_cross: np.ndarray
    rows: np.ndarray
    cells: CellSums | None

    def gradient(self, p: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
        """A'Wr (n_column,) at other values and magnitudes."""
        return self.column_right + self.gram @ (p - self.value) - self.cross.T @ (magnitude - self.magnitude)

    def sums(self, p: np.ndarray) -> np.ndarray:
        """S'W (y + A p) (n_slot,) at other values."""
        return self.slot_right + self.weight * self.magnitude + self.cross @ (p - self.value)

    def chi2_at(self, p: np.ndarray, magnitude: np.ndarray) -> float:
        """Chi2 at other values and magnitudes."""
        dp, dm = p - self.value, magnitude - self.magnitude
        linear = 2 * float(self.column_right @ dp - self.slot_right @ dm)
        return self.chi2 + linear + float(dp @ (self.gram @ dp) - 2 * dm @ (self.cross @ dp) + self.weight @ dm**2)

    def star_rows(self, slots: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B - G (k, n_column) of slots, and their block of D^-1 (k, k); see `reference`.

        reference (n_column,): which columns are of terms of the reference: G is their B over the weights.
        """
        m = self.prior.precision.shape[1] if self.prior.coupled else 1
        whole = (slots[:, None] // m * m + np.arange(m)).ravel()
        rows, alike = gain_rows(slots, self.prior.inverse(self.weight), self.cross[whole])
        if reference.any():
            weight = np.maximum(self.weight[slots], np.finfo(float).tiny)
            rows -= self.cross[slots].toarray() * reference / weight[:, None]
        return rows, alike

    def cell_rows(self, slots: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """D^-1 S'WE (k, n_cell) of slots, for some cells; see `field_floor`."""
        assert self.cells is not None
        m = self.prior.precision.shape[1] if self.prior.coupled else 1
        whole = (slots[:, None] // m * m + np.arange(m)).ravel()
        return gain_rows(slots, self.prior.inverse(self.weight), self.cells.stars[whole][:, cells])[0]

    def moved(
        self, column: np.ndarray, slot: np.ndarray, value: np.ndarray, n_slot: int, groups: tuple[np.ndarray, ...]
    ) -> Information:
        """The same among more columns and slots: column (n_column,) and slot (n_slot,) are where these are then.

        value: of all columns (n,), those here replaced; groups: of all places.
        """
        n = len(value)
        values, right, k = value.copy(), np.zeros(n), self.null.shape[1]
        count = np.zeros(n, int)
        values[column], right[column], count[column] = self.value, self.column_right, self.rows
        if (cells := self.cells) is not None:
            every = np.arange(cells.columns.shape[1])
            cells = dataclasses.replace(
                cells, columns=_moved(cells.columns, column, every, n, len(every)),
                stars=_moved(cells.stars, slot, every, n_slot, len(every)),
            )  # fmt: skip
        null, null_gram, null_cross = (np.zeros((m, k)) for m in (n, n, n_slot))
        null[column], null_gram[column], null_cross[slot] = self.null, self.null_gram, self.null_cross
        slots = {name: np.zeros(n_slot, getattr(self, name).dtype) for name in ("weight", "count", "magnitude")}
        slots["slot_right"] = np.zeros(n_slot)
        for name, array in slots.items():
            array[slot] = getattr(self, name)
        spare = dataclasses.replace(
            self.spare, slot=slot[self.spare.slot], column=column[self.spare.column].astype(np.int32)
        )
        return Information(
            _moved(self.gram, column, column, n, n), _moved(self.cross, slot, column, n_slot, n),
            value=values, column_right=right, chi2=self.chi2, prior=self.prior, groups=groups, spare=spare,
            factor=self.factor, place=column[self.place], null=null, null_gram=null_gram, null_cross=null_cross,
            rows=count, cells=cells, **slots,
        )  # fmt: skip


def _moved(matrix: Any, row: np.ndarray, column: np.ndarray, n_row: int, n_column: int) -> Any:
    """A sparse matrix (n_row, n_column) with the rows and columns of another at these places, rows in their order."""
    counts = np.zeros(n_row + 1, matrix.indptr.dtype)
    counts[row + 1] = np.diff(matrix.indptr)
    moved = matrix.data, column.astype(matrix.indices.dtype)[matrix.indices], np.cumsum(counts)
    return sparse.csr_array(moved, shape=(n_row, n_column))


def gain_rows(slots: np.ndarray, inverse: np.ndarray, cross: Any) -> tuple[np.ndarray, np.ndarray]:
    """D^-1 B (k, n_column) of slots, and their block of D^-1 (k, k).

    inverse: D^-1, (n_slot,) or (n_star, n_band, n_band); cross (k n_band, n_column): B of all bands of their stars.
    """
    if inverse.ndim == 1:
        rows = (sparse.diags_array(inverse[slots]) @ cross).toarray()
        return rows, np.where(slots[:, None] == slots, inverse[slots], 0.0)
    m, k = inverse.shape[1], len(slots)
    star, own = slots // m, slots % m
    entries = inverse[star, own].ravel(), np.arange(k * m), np.arange(0, k * m + 1, m)
    rows = (sparse.csr_array(entries, shape=(k, k * m)) @ cross).toarray()
    return rows, np.where(star[:, None] == star, inverse[star[:, None], own[:, None], own], 0.0)


def gather(fit: Fit) -> Information:
    """What the measurements of a finished fit say. Raises XpjaxError where that is not all of them, or too much."""
    problem, rows, w = fit.problem, fit.equations.rows, fit.equations.weight
    if fit.kept_back.rows.any():
        raise XpjaxError(
            "measurements were kept back for cross-validation, so that the solution does not know what they say: solve "
            "without hold_out_exposures and hold_out_stars to extend it"
        )
    if lost := [term.name for term in problem.model.terms if term.star_prior]:
        raise XpjaxError(
            f"{lost[0]}: with star_prior the stars' spectra are parameters too, and their derivatives are noisy: such "
            "a solution is not extended; solve all nights at once, or set star_prior = false"
        )
    if not fit.equations.dense:
        raise XpjaxError(
            f"{len(fit.p):,} columns are more than dense = {problem.model.dense:,}: their normal equations are never "
            "formed, and the solution is not extended; solve all nights at once"
        )
    o, slots, before, n_slot = problem.observations, rows.slots, fit.before, rows.slots.n_slot
    slot, order, magnitude = slots.row_slot, problem.sorted.order, fit.stars.magnitude
    left = fit.fitted - slots.of_rows(magnitude)
    chosen = np.flatnonzero(~fit.stars.active[slot] & (not problem.nonlinear))
    place = order[chosen]
    spare = SpareRows(
        slot[chosen], o.frame[place], o.x[place], o.y[place], fit.y[chosen], np.array(fit.weights.sigma[chosen]),
        fit.weights.kept[chosen], rows.column[chosen], rows.value[chosen],
    )  # fmt: skip
    weight, count = rows.sums(w), np.where(fit.stars.active, fit.stars.count, 0).astype(int)
    column_right, slot_right, chi2 = rows.adjoint(w * left), rows.sums(w * left), float(w @ left**2)
    if before is not None:
        weight += before.weight
        column_right += before.gradient(fit.p, magnitude)
        slot_right += before.sums(fit.p) - before.weight * magnitude
        chi2 += before.chi2_at(fit.p, magnitude)
    upper, equations = sparse.csr_array(np.triu(rows.gram(w))), fit.equations
    factor = equations.factor or equations.exact()
    gram, cross, null = upper + sparse.triu(upper, 1).T, rows.cross(w, np.arange(n_slot)), equations.null
    return Information(
        gram, cross, weight, count, fit.p, magnitude, column_right, slot_right, chi2, problem.prior,
        problem.columns.groups, spare, factor, np.arange(len(fit.p)), null, gram @ null, cross @ null,
        rows.count(w > 0), cell_sums(fit),
    )  # fmt: skip
