"""Weights of the rows of a joint solution: error floors of bands, robust weights, and clips that let points back in.

A residual is judged by what its star's other measurements leave uncertain; see `xpjax.survey.joint.fit`.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from xpjax.survey import HUBER, LEAST_VARIANCE, SCALE, TUKEY
from xpjax.survey.joint.normal import Slots, diagonal_of
from xpjax.survey.joint.priors import SlotPrior
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.rows import SortedRows

FLOOR_SETTLED = 1e-4
"""Relative change of an error variance below which the floor has settled."""
STEADY = 0.95
"""Ratio of a step of the floor to the last one up to which those to come are taken at once."""


class Stars:
    """The stars' magnitudes (n_slot,) as a solution has them, and which of them take part.

    inverse: D^-1, see `normal`; count (n_slot,): measurements that are not clipped.
    """

    count: np.ndarray
    inverse: np.ndarray
    magnitude: np.ndarray

    def __init__(self, slots: Slots, prior: SlotPrior) -> None:
        self.slots, self.prior = slots, prior
        self.active = np.ones(slots.n_slot, bool)

    @property
    def own(self) -> np.ndarray:
        """The diagonal of D^-1 (n_slot,)."""
        return diagonal_of(self.inverse)


class Weights:
    """Weights of the sorted rows, as they are judged pass by pass.

    sigma (n,): errors, infinite for rows kept back; band (n,) of rows, None for one; robust (n,), None where there are
    no weights but clips. kept (n,): not clipped; floor (n_band,): squared; open_floor (n_band,): whether it is fitted.
    """

    def __init__(self, model: JointModel, stars: Stars, sigma: np.ndarray, rows: SortedRows) -> None:
        self.model, self.stars, self.slots, self.sigma, self.band = model, stars, stars.slots, sigma, rows.band
        self.floor = np.full(len(rows.bands), model.error_floor or 0.0) ** 2
        self.open_floor = np.full(len(rows.bands), model.error_floor is None)
        self.kept = np.isfinite(sigma)
        self._flips = np.zeros(len(sigma), np.uint8)
        self._settled: list[np.ndarray] = []
        self.robust = np.ones(len(sigma)) if model.robust != "none" else None

    def variance(self, rows: slice = slice(None)) -> np.ndarray:
        """Error variances of some rows, floor included."""
        floor = self.floor[0] if self.band is None else self.floor[self.band[rows]]
        return np.maximum(np.square(self.sigma[rows], dtype=float) + floor, LEAST_VARIANCE)

    def write(self, weight: np.ndarray) -> np.ndarray:
        """Put the weights of all rows into `weight` (n,); returns how many of each slot (n_slot,) are kept."""
        count = np.zeros(self.slots.n_slot)

        def one(_: int, chunk: slice, rows: slice) -> None:
            w = 1 / self.variance(rows)
            w *= self.kept[rows]
            if self.robust is not None:
                w *= self.robust[rows]
            weight[rows] = w
            count[self.slots.slot[chunk]] = np.add.reduceat(self.kept[rows], self.slots.starts(chunk), dtype=float)

        self.slots.each(one)
        return count

    def judge(self, fitted: np.ndarray, clipping: bool) -> bool:
        """Robust weights, clips and floors from calibrated magnitudes (n,) as they are; whether anything changed."""
        slots, stars, own, clip = self.slots, self.stars, self.stars.own, self.model.clip if clipping else 0.0
        limit, fit_floor = np.maximum(stars.count // 10, 1), bool(self.open_floor.any())
        # The mean of rho, 1/2 for normal residuals, of those within the clip: beyond it rho is one.
        tail = special.erfc(clip / np.sqrt(2)) if clip else 0.0
        target = (0.5 - tail) / (1 - tail)

        def one(_: int, chunk: slice, rows: slice) -> tuple[int, np.ndarray | None]:
            slot, counts = slots.slot[chunk], slots.counts(chunk)
            residual = fitted[rows] - np.repeat(stars.magnitude[slot], counts)
            residual *= residual
            total, spare = self.variance(rows), np.repeat(own[slot], counts)
            kept = self.kept[rows]
            # What the star's other measurements leave uncertain; a weight below one gives a row less of its star.
            share = spare if self.robust is None else spare * self.robust[rows]
            expected = np.where(kept, np.maximum(total - share, 1e-9 * total), total + spare)
            square = residual / expected
            floor = None
            if fit_floor:
                within = np.repeat(stars.active[slot], counts) & np.isfinite(total)
                band = None if self.band is None else self.band[rows]
                floor = self._floor_sums(square, total, within & kept if clip else within, band, target)
            if self.robust is not None:
                self.robust[rows] = robust_weight(self.model.robust, np.sqrt(square))
            if not clip:
                return 0, floor
            out = square > clip**2
            worse = np.flatnonzero(out & kept & np.isfinite(total))
            worse = worse[_worst(np.repeat(np.arange(len(slot)), counts)[worse], square[worse], limit[slot])]
            back = np.flatnonzero(~out & ~kept & np.isfinite(total) & (self._flips[rows] < 2))
            self.kept[rows][worse] = False
            self.kept[rows][back] = True
            self._flips[rows][back] += 1
            return len(worse) + len(back), floor

        found = slots.each(one)
        changed = sum(f[0] for f in found)
        if fit_floor:
            changed += self._move_floor(*np.sum([f[1] for f in found], axis=0))
        return changed > 0

    def look_ahead(self) -> bool:
        """Move floors to where they are going, when columns were solved for thrice (Aitken's delta-squared process).

        Columns follow the floor and take residuals with them, as many cells of a flat do: steps shrink by a constant.
        """
        self._settled.append(self.floor)
        if len(self._settled) < 3:
            return False
        first, last = np.diff(self._settled, axis=0)
        ratio = np.divide(last, first, out=np.zeros_like(last), where=np.abs(last) < STEADY * np.abs(first))
        ahead = last * np.clip(ratio, 0.0, None) / (1 - np.clip(ratio, 0.0, None))
        self.floor, self._settled = np.maximum(self.floor + ahead, 0.0), []
        return bool(ahead.any())

    def _floor_sums(
        self, square: np.ndarray, total: np.ndarray, within: np.ndarray, band: np.ndarray | None, target: float
    ) -> np.ndarray:
        """Of each band (4, n_band): sums of rho - target, of its slope in the floor, of variances and of ones."""
        square, total = square[within], total[within]
        q = np.minimum(square / SCALE**2, 1.0)
        inside = (1 - q) ** 2
        parts = 1 - target - inside * (1 - q), 3 * inside * q / total, total, np.ones_like(total)
        which = np.zeros(len(total), np.int8) if band is None else band[within]
        return np.array([np.bincount(which, part, len(self.floor)) for part in parts])

    def _move_floor(self, excess: np.ndarray, slope: np.ndarray, total: np.ndarray, number: np.ndarray) -> int:
        """A Newton step of each band's floor to where rho has its mean; how many moved by more than is settled."""
        mean = total / np.maximum(number, 1)
        with np.errstate(over="ignore"):  # no residual within the core: the step is as large as it may be
            step = np.clip(excess / np.maximum(slope, np.finfo(float).tiny), -0.7 * mean, 3 * mean)
        new = np.where(self.open_floor & (number > 0), np.maximum(self.floor + step, 0.0), self.floor)
        moved = np.abs(new - self.floor) > FLOOR_SETTLED * mean
        self.floor = new
        return int(moved.sum())


def robust_weight(kind: str, z: np.ndarray) -> np.ndarray:
    """Weights (n,) of residuals z [sigma]."""
    if kind == "huber":
        return HUBER / np.maximum(z, HUBER)
    return np.maximum(1 - (z / TUKEY) ** 2, 0.0) ** 2


def _worst(slot: np.ndarray, square: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Of outliers (n,) sorted by slot the worst `limit[slot]` of each slot: their indices."""
    order = np.lexsort((-square, slot))
    first = np.searchsorted(slot[order], slot[order])
    return order[np.arange(len(order)) - first < limit[slot[order]]]
