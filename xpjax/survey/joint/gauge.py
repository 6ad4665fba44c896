"""The gauge of a joint solution: degenerate combinations of columns, found, and told by the names of their terms.

A zero-point of all exposures is degenerate with the stars' magnitudes, and slopes of a flat with zero-points where
exposures are shifted and nothing else: such combinations p have R p = 0. Where R is formed its factor finds them; where
it is too large its products do, with a part of the stars: what all rows leave open, some of them leave open too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import linalg

from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.factor import Factor, probe_null_space
from xpjax.survey.joint.normal import SINGULAR, HostRows, Slots, block_preconditioner

PROBE_ROWS = 20
"""Rows for each column that look for open combinations first."""
NOTHING_NEW = 0.95
"""Errors, in those of the prior, from which on data add next to nothing: a tenth of what the prior says."""
ALONE = 1e-6
"""How much of an equation may act on what is open, squared, where data and priors decide it."""

CONTRADICTION = "WARNING: constraint contradicted: "
"""How words begin of a constraint that data or priors contradict."""
AGAIN = 1e-8
"""Variance, in what it is at least where nothing but data says something, of what other constraints fix already."""


def decided(factor: Factor, stiff: np.ndarray) -> np.ndarray:
    """What constraints decide that the data do not (n_column, k): null vectors of R lie in the span of R^-1 H'.

    stiff (n_constraint, n_column): H, as stiff as the data and part of what was factorized.
    """
    if not len(stiff):
        return np.empty((stiff.shape[1], 0))
    across = factor.solve(stiff.T)
    share, turn = linalg.eigh(stiff @ across)
    return across @ turn[:, share > 1 - 1e-7]


def open_combinations(
    rows: HostRows, weight: np.ndarray, inverse: np.ndarray, precision: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Null vectors (n_column, k) of R with the priors of columns, from products alone; see `HostRows.operator`.

    scale (n_column,): 1 / sqrt(diagonal of R), zero for empty columns.
    """
    some, mine = _some_stars(rows, PROBE_ROWS * len(scale))
    w = weight[mine]
    few = some.operator(w, inverse)
    precondition = block_preconditioner(some, w, inverse, precision, some.diagonal(w) + precision)
    null = probe_null_space(lambda x: few(x) + precision * x, precondition, scale)
    if not null.shape[1]:
        return null
    whole = rows.operator(weight, inverse)
    image = np.column_stack([whole(x) + precision * x for x in null.T])
    value, turn = linalg.eigh(null.T @ image)
    return null @ turn[:, value < SINGULAR]


def unfixed(null: np.ndarray, stiff: np.ndarray) -> np.ndarray:
    """Those combinations of null vectors (n_column, k) that no constraint fixes; stiff as for `decided`."""
    if not len(stiff):
        return null
    return null @ linalg.null_space(stiff @ null, rcond=1e-6)


def beyond(null: np.ndarray, stiff: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which equations (n_equation,) fix what data and priors decide, and beside which others (n_equation, n_equation).

    null (n_column, k), stiff as for `decided`: k of the equations fix the null vectors, the first that do.
    """
    n = len(stiff)
    if null.shape[1] == n:
        return np.zeros(n, bool), np.zeros((n, n), bool)
    base = np.linalg.svd(stiff @ null, full_matrices=False)[0]
    kept, left = np.zeros(n, bool), base.copy()
    for k in range(n):
        if (size := left[k] @ left[k]) > ALONE:
            kept[k] = True
            left = left - np.outer(left @ left[k], left[k]) / size
    beside = np.zeros((n, n), bool)
    beside[:, kept] = np.abs(base @ np.linalg.pinv(base[kept])) > np.sqrt(ALONE)
    return ~kept, beside


def independent(covariance: np.ndarray, off: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which equations (n_equation,) say what those before them leave open, and by how much each is then off.

    covariance (n_equation, n_equation): of what they fix, without them; off (n_equation,): by how much they move it;
    least (n_equation,): the variances if all else were known.
    """
    left, off, new = covariance.copy(), off.copy(), np.ones(len(off), bool)
    for k in range(len(off)):
        if left[k, k] <= AGAIN * least[k]:
            new[k] = False
            continue
        gain = left[k] / left[k, k]
        gain[: k + 1] = 0.0
        off -= gain * off[k]
        left = left - np.outer(gain, left[k])
    return new, off


def gauge_lines(gauge: Sequence[str]) -> list[str]:
    """What constraints decide, a line for each; those that data or priors contradict begin with WARNING."""
    return [one if one.startswith(CONTRADICTION) else f"fixed by a constraint: {one}" for one in gauge]


def of_priors_alone(blocks: Sequence[Block], error: np.ndarray) -> list[str]:
    """Words for values that nothing but their priors determine, a line for each block; error (n_column,): of values."""
    out, start = [], 0
    for block in blocks:
        mine = error[start : start + block.n_column]
        start += block.n_column
        # Errors above that of the prior are of data: of what stars share over the detector.
        lost = np.flatnonzero(
            (mine > NOTHING_NEW * block.sigma) & (mine < 1.001 * block.sigma) & (block.sigma < np.inf)
        )
        if len(lost):
            few = (
                f"{len(lost):,} of {block.n_column:,} values of {block.name}, such as {block.column_name(int(lost[0]))}"
            )
            what = block.column_name(int(lost[0])) if len(lost) == 1 else few
            out.append(f"determined by the prior alone: {what} (error as of the prior; the data add next to nothing)")
    return out


def _some_stars(rows: HostRows, n_row: int) -> tuple[HostRows, np.ndarray | slice]:
    """About so many rows, of every k-th star, and which they are."""
    slots = rows.slots
    step = len(rows.column) // n_row
    if step < 2:
        return rows, slice(None)
    chosen, counts = (slots.slot // slots.n_band) % step == 0, np.diff(slots.bounds)
    mine = np.flatnonzero(np.repeat(chosen, counts))
    bounds = np.cumsum([0, *counts[chosen]])
    part = Slots(bounds, slots.slot[chosen], slots.n_star, slots.n_band)
    return HostRows(rows.layout, part, rows.column[mine], rows.value[mine]), mine


def describe_null(null: np.ndarray, blocks: Sequence[Block], weight: np.ndarray) -> list[str]:
    """Words for every combination of columns that is not determined, each of as few terms as can be.

    null (n_column, k) spans them; weight (n_column,): how much the rows see of each column, squared.
    """
    edges = np.cumsum([0, *(b.n_column for b in blocks)])
    scaled = null * np.sqrt(weight)[:, None]
    left = np.linalg.qr(scaled)[0]
    out: list[str] = []
    for number in range(1, len(blocks) + 1):
        for chosen in itertools.combinations(range(len(blocks)), number):
            if not left.shape[1]:
                return out
            outside = np.ones(len(scaled), bool)
            for b in chosen:
                outside[edges[b] : edges[b + 1]] = False
            square, turn = np.linalg.eigh(left[outside].T @ left[outside])
            inside = np.sqrt(np.maximum(square, 0.0)) < 1e-5
            alone = left @ turn[:, inside]
            if alone.shape[1]:
                columns = [slice(edges[b], edges[b + 1]) for b in chosen]
                out += _words(alone, [blocks[b] for b in chosen], columns)
                left = left @ turn[:, ~inside]
    return out


def _words(null: np.ndarray, blocks: Sequence[Block], columns: Sequence[slice]) -> list[str]:
    """Words for combinations (n_column, k) of columns in these blocks."""
    said = []
    for block, mine in zip(blocks, columns, strict=True):
        share = (null[mine] ** 2).sum(axis=1)
        # A constraint of the mean makes all others move a little where one is free.
        most = np.sort(share)[::-1][:3].sum() > 0.9 * share.sum()
        busy = np.flatnonzero(share > (0.01 if most else 1e-6) * share.max())
        if most and len(busy) <= 3:
            said.append(" and ".join(block.column_name(int(c)) for c in busy))
        else:
            parts = [block.parts[k].name for k in sorted({c % len(block.parts) for c in busy.tolist()})]
            said.append(block.name if len(block.parts) == 1 else f"{block.name} ({', '.join(parts)})")
    times = "" if null.shape[1] == 1 else f" ({null.shape[1]} combinations)"
    if len(blocks) == 1:
        return [f"{said[0]}: degenerate with the star magnitudes{times}"]
    return [f"{' against '.join(said)}: degenerate with each other{times}"]


def refusal(words: Sequence[str]) -> str:
    """Why a fit is refused, and what to do."""
    listed = "; ".join(f"({k + 1}) {one}" for k, one in enumerate(words))
    return (
        f"the data do not determine every combination of the terms: {listed}. Fix each of them: with a constraint, "
        'such as Constraint("zero_point") for a mean of zero, or in TOML [[constraint]] term = "zero_point", where '
        "nothing else fixes the scale of magnitudes; with a prior of one of the terms; or with star_prior, for "
        "magnitudes from spectra (glossary: gauge)"
    )
