"""What became of fits, in words: how many converged, which labels are at an edge of the grid, and what to do."""

from __future__ import annotations

import numpy as np

from xpjax.core.errors import say
from xpjax.core.status import FitStatus
from xpjax.stellar.interpolation import Interpolator
from xpjax.stellar.results import StellarFit


def count_fits(fit: StellarFit, grid: Interpolator) -> list[str]:
    """Lines that count fits by their status, with the remedy of each, on the grid that they were made on."""
    counts = FitStatus.counts(fit.status)
    lines = [f"{np.count_nonzero(fit.status == FitStatus.OK):,} converged inside the grid"]
    r = _correlation(fit, "teff", "ebv") if {"teff", "ebv"} <= {*fit.names} else np.nan
    if np.isfinite(r):
        wider = 1 / np.sqrt(max(1 - r**2, 1e-6))
        lines.append(
            f"Teff and E(B-V) correlate by {r:.2f}: errors of Teff are {wider:.1f} times those with E(B-V) known"
        )
    for bit, count in counts.items():
        where = f": {edges}" if bit is FitStatus.EDGE and (edges := _edges(fit, grid)) else ""
        lines.append(f"{count:,} {bit.name}{where}. {bit.meaning} {_remedy(bit, fit, grid)}".rstrip())
    return lines


def _correlation(fit: StellarFit, one: str, other: str) -> float:
    """The correlation of the errors of two labels, in the median of stars; NaN where no star has both."""
    i, j = fit.names.index(one), fit.names.index(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = fit.covariance[:, i, j] / np.sqrt(fit.covariance[:, i, i] * fit.covariance[:, j, j])
    return float(np.median(r[np.isfinite(r)])) if np.isfinite(r).any() else np.nan


def _held(fit: StellarFit, grid: Interpolator) -> dict[tuple[str, str], int]:
    """How many fits have each label at either end of the grid."""
    found: dict[tuple[str, str], int] = {}
    for k, name in enumerate(fit.names):
        nodes = np.asarray(grid.nodes[k]).astype(fit.labels.dtype)
        with np.errstate(invalid="ignore"):
            found[name, "low"] = int(np.count_nonzero(fit.labels[:, k] <= nodes[0]))
            found[name, "high"] = int(np.count_nonzero(fit.labels[:, k] >= nodes[-1]))
    return {where: n for where, n in found.items() if n}


def _edges(fit: StellarFit, grid: Interpolator) -> str:
    held = _held(fit, grid)
    parts = []
    for (name, side), n in sorted(held.items(), key=lambda item: -item[1]):
        nodes = grid.nodes[fit.names.index(name)]
        parts.append(f"{name} {side} ({nodes[0 if side == 'low' else -1]:g}) {n:,}")
    return ", ".join(parts)


def _remedy(bit: FitStatus, fit: StellarFit, grid: Interpolator) -> str:
    """What a user can do about fits with this bit."""
    if bit is FitStatus.EDGE:
        prior = say("priors={'mh': (-0.3, 0.5)}", "--prior mh=-0.3,0.5")
        edges = {name for name, _ in _held(fit, grid)}
        more = [f"give a prior, as in {prior}"]
        if "ebv" in edges:
            more.append("nodes of E(B-V) that reach further (" + say("fit_ebv", "--fit-ebv") + ")")
        if "logg" in edges:
            more.append("parallaxes (" + say("parallax", "--parallax") + ")")
        return f"The labels at the edge have no error; {', '.join(more)}, or a grid that reaches further."
    if bit is FitStatus.HOLE:
        return "Take a grid without that hole: build it with holes filled, or within other limits."
    if bit is FitStatus.NO_CONVERGENCE:
        return (
            "Mostly these are no stars of this grid: look at chi2 and dflux_per; more starts ("
            + say("starts", "--starts")
            + ") help those in several valleys."
        )
    if bit is FitStatus.BAD_INPUT:
        column = say("ebv and priors", "--ebv and --prior")
        return f"See xp_status for spectra that are missing, and the columns of {column} for values that are."
    return ""
