"""What terms leave of the response over the detector, and what that does to errors.

A flat that the terms cannot hold gives all stars at a place of the detector the same residual f(x, y): rows are not
independent, and R^-1 promises too much, most of all of terms that tell stars of one place apart by their colors. Of
residuals r the sums g in cells of each detector and band, E the rows of each, tell f from noise:

    g = E'W r      E g g' = V + V K V      V = T - H' R^-1 H
    T = E'WE - E'WS D^-1 S'WE              H = A'WE - B' D^-1 S'WE

with the stars eliminated (see `normal`). f is a sum of waves over the detector; those of an annulus of frequencies have
one variance, which makes the covariance K between cells. As g has residuals alone, variances of the largest likelihood
are those of restricted maximum likelihood (Patterson & Thompson 1971, Biometrika 58, 545); where they do not make g
likelier by much there is no f. What flats hold of f is theirs and no error: K is of the rest. f moves the columns by
-R^-1 H f, the stars by (F - D^-1 B R^-1 H) f, F = D^-1 S'WE, and

    cov(p) = R^-1 + R^-1 H K H' R^-1

The sums E'WE, E'WA, E'WS and E'W r about the values of a solution say all of this of its rows: a solution that is
extended by others adds theirs to its own, see `information`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from scipy import linalg, sparse

from xpjax.core.process import one_blas_thread
from xpjax.core.records import Record
from xpjax.survey.joint.cells import LEAST_BINS, CellSums, cell_sums
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.normal import diagonal_of
from xpjax.survey.joint.terms import Flat

ANNULI = (0.5, 2.0, 4.0, 6.0, 9.0, 13.0)
"""Half periods over the detector from which waves of f have another variance."""
SURE = 20.0
"""Twice the gain in log likelihood from which residuals are correlated: less than 1 in 1000 by chance."""
SUSPECT = 3.5
"""Standard deviations by which the waves of an annulus must exceed noise for the likeliest to be looked for at all."""
STEPS, SETTLED = 100, 3e-3
"""Most steps to the likeliest variances, and the relative change at which they end."""
SPAN = 1e-8
"""Singular values, in the largest, below which flats say nothing new of cells."""
NOTHING, TOLD = 1e-4, 1e-3
"""Standard deviations [mag] up to which what flats leave is nothing, and from which it is told."""
SLOTS = 100_000
"""Stars in a band that are summed at once."""
Solve: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""R^-1 (n_column, k) -> (n_column, k)."""


@dataclasses.dataclass(frozen=True, repr=False)
class FieldFloor(Record):
    """Residuals that stars at one place of the detector share.

    sigma: standard deviation [mag] in detectors and bands that have them, by name. cells (n_cell,): theirs; covariance
    (n_cell, n_cell): K; moves (n_column, n_cell): R^-1 H; stars (n_slot, n_cell): F, sparse, None from a file.
    """

    sigma: dict[str, float]
    cells: np.ndarray
    covariance: np.ndarray
    moves: np.ndarray
    stars: Any = None

    def of_columns(self, right: np.ndarray) -> np.ndarray:
        """What it adds to cov(p) right (n_column, k)."""
        return self.moves @ (self.covariance @ (self.moves.T @ right))

    def of_stars(self, rows: np.ndarray, stars: np.ndarray) -> np.ndarray:
        """What it adds to the covariance (k, k) of slots beside what columns do.

        rows (k, n_column): D^-1 B - G of slots, stars (k, n_cell): F of them.
        """
        both = (rows @ self.moves) @ self.covariance @ stars.T
        return stars @ self.covariance @ stars.T - both - both.T


def find_field_floor(fit: Fit, solve: Solve) -> FieldFloor | None:
    """What the residuals of a finished fit share at places of the detector; None where they share nothing.

    solve: R^-1 right (n_column, k), within what constraints leave free.
    """
    if not fit.equations.dense or (sums := cell_sums(fit)) is None:
        return None
    own, share, stars = _reduced(fit, sums)
    variance = own - share.T @ solve(share)
    scale, score, groups = _scales(fit, sums), sums.score, sums.groups
    waves, annulus = cosines(sums.bins)
    sigma: dict[str, float] = {}
    at, parts = [], []
    for k, name in enumerate(groups):
        first = k * sums.bins**2
        of_group = np.flatnonzero(np.diagonal(own)[first : first + sums.bins**2] > 0)
        if len(of_group) < LEAST_BINS**2:
            continue
        mine = first + of_group
        v = variance[np.ix_(mine, mine)]
        power = powers(score[mine], scale[k] * v, v, waves[of_group], annulus)[annulus]
        if power.any():
            sigma[name] = float(np.sqrt(power.sum()))
            at.append(mine)
            parts.append((waves[of_group] * power) @ waves[of_group].T)
    if not sigma:
        return None
    chosen = np.concatenate(at)
    covariance = _without_flats(fit, sums, chosen, linalg.block_diag(*parts))
    left, ends = np.diagonal(covariance), np.cumsum([0, *(len(mine) for mine in at)])
    for name, (first, last) in zip([*sigma], itertools.pairwise(ends), strict=True):
        sigma[name] = float(np.sqrt(max(left[first:last].mean(), 0.0)))
    held = np.repeat([floor > NOTHING for floor in sigma.values()], np.diff(ends))
    if not held.any():
        return None
    sigma = {name: floor for name, floor in sigma.items() if floor > NOTHING}
    chosen = chosen[held]
    return FieldFloor(sigma, chosen, covariance[np.ix_(held, held)], solve(share[:, chosen]), stars[:, chosen])


def _without_flats(fit: Fit, sums: CellSums, cells: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """K of what flats leave of f: the rest is theirs, and no error; covariance (n_cell, n_cell) of f in these cells."""
    flats = {term.name for term in fit.problem.model.terms if isinstance(term, Flat)}
    mine = np.concatenate([np.full(block.n_column, block.name in flats) for block in fit.problem.columns.blocks])
    root = np.sqrt(sums.own[cells])
    span = linalg.orth(sums.columns[np.flatnonzero(mine)][:, cells].toarray().T / root[:, None], rcond=SPAN)
    rest = np.eye(len(cells)) - (span / root[:, None]) @ (span * root[:, None]).T
    return rest @ covariance @ rest.T


def _reduced(fit: Fit, sums: CellSums) -> tuple[np.ndarray, np.ndarray, Any]:
    """T (n_cell, n_cell), H (n_column, n_cell) and F (n_slot, n_cell) of all cells."""
    rows, weight, inverse = fit.equations.rows, fit.equations.weight, fit.equations.inverse
    if inverse.ndim == 1:
        gain = (sparse.diags_array(inverse) @ sums.stars).tocsr()
    else:
        n, m = inverse.shape[:2]
        whole = sparse.bsr_array((inverse, np.arange(n), np.arange(n + 1)), shape=(n * m, n * m))
        gain = (whole.tocsr() @ sums.stars).tocsr()
    own = np.diag(sums.own) - (sums.stars.T @ gain).toarray()
    share = sums.columns.toarray()
    for first in range(0, rows.slots.n_slot, SLOTS):
        mine = np.arange(first, min(first + SLOTS, rows.slots.n_slot))
        share -= (rows.cross(weight, mine).T @ gain[mine]).toarray()
    return own, share, gain


def _scales(fit: Fit, sums: CellSums) -> np.ndarray:
    """Variances (n_group,) of single residuals in units of what is expected, one where there are none."""
    of_group = sums.stars @ np.repeat(np.eye(len(sums.chi2)), len(sums.own) // len(sums.chi2), axis=0)
    free = sums.count - diagonal_of(fit.equations.inverse) @ of_group
    return np.divide(sums.chi2, free, out=np.ones(len(free)), where=free > 1)


def cosines(bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (bins^2, n_wave) over the cells of a detector with mean square one, and the ANNULI (n_wave,) they are in.

    The wave i, j has i and j half periods along the axes; the constant is none of them.
    """
    at = (np.arange(bins) + 0.5) / bins
    one = np.cos(np.pi * np.arange(bins) * at[:, None])
    one[:, 1:] *= np.sqrt(2)
    waves = np.einsum("xi,yj->xyij", one, one).reshape(bins**2, bins**2)[:, 1:]
    periods = np.hypot(*np.divmod(np.arange(1, bins**2), bins))
    return waves, np.searchsorted(ANNULI, periods, side="right") - 1


@one_blas_thread()
def powers(
    score: np.ndarray, noise: np.ndarray, variance: np.ndarray, waves: np.ndarray, annulus: np.ndarray
) -> np.ndarray:
    """Variance [mag2] of a wave in each of ANNULI with which scores (n,) of cells are likeliest; zeros for no f.

    noise (n, n): their covariance without f; variance: V; waves (n, n_wave).
    """
    n_annulus = len(ANNULI)
    values, vectors = np.linalg.eigh(noise)
    sure = values > 1e-6 * max(values[-1], 0.0)  # the rest is what columns and stars take
    if not sure.any():
        return np.zeros(n_annulus)
    white = vectors[:, sure] / np.sqrt(values[sure])
    y, seen = white.T @ score, white.T @ variance @ waves
    alike = seen.T @ seen
    total = np.bincount(annulus, np.diagonal(alike), n_annulus)
    square = np.bincount(annulus, (seen.T @ y) ** 2, n_annulus)
    spread = [np.sqrt(2 * (alike[np.ix_(annulus == a, annulus == a)] ** 2).sum()) for a in range(n_annulus)]
    if not (square - total > SUSPECT * np.array(spread)).any():
        return np.zeros(n_annulus)
    known = total > 1e-3 * total.max()
    # From where the excess is spread over all annuli: each step makes the residuals likelier (Zhou et al. 2019, J.
    # Comput. Graph. Stat. 28, 350).
    power = np.where(known, y @ y, 0.0) / np.where(known, total, 1.0)
    for _ in range(STEPS):
        factor = linalg.cho_factor(np.eye(len(y)) + (seen * power[annulus]) @ seen.T)
        inverse = linalg.cho_solve(factor, np.column_stack([y, seen]))
        fitted = np.bincount(annulus, (seen.T @ inverse[:, 0]) ** 2, n_annulus)
        expected = np.bincount(annulus, np.einsum("nw,nw->w", seen, inverse[:, 1:]), n_annulus)
        last, power = power, np.where(known, power * np.sqrt(fitted / np.where(known, expected, 1.0)), 0.0)
        if (np.abs(power - last) * total).sum() < SETTLED * (power * total).sum():
            break
    factor = linalg.cho_factor(np.eye(len(y)) + (seen * power[annulus]) @ seen.T)
    gain = y @ y - y @ linalg.cho_solve(factor, y) - 2 * np.log(np.diagonal(factor[0])).sum()
    return power if gain > SURE else np.zeros(n_annulus)


def field_lines(floors: Mapping[str, float]) -> list[str]:
    """What is to be told of `FieldFloor.sigma`."""
    floors = {name: floor for name, floor in floors.items() if floor > TOLD}
    if not floors:
        return []
    said = ", ".join(f"{1e3 * floor:.1f} mmag{f' in {name}' if name else ''}" for name, floor in floors.items())
    return [
        f"RESIDUALS ARE SHARED over the detector: stars at one place have {said} in common, which is no noise and no "
        'term has. Errors allow for it; a flat with form = "superpixel", more bins or a higher order fits it, where '
        f"stars are few with prior = {2 * max(floors.values()):.1g}"
    ]
