"""Errors common to stars, learned from stars whose labels are known otherwise.

A star's residual is its corrected spectrum over the model of its known labels, less one. Stars of like color have
second moments of residuals in common; less what noise brings in, these are the covariance of what models and instrument
are wrong by. Its leading part is kept as templates; how large the rest is, stars tell that were left out.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.process import one_blas_thread
from xpjax.core.status import FitStatus
from xpjax.core.types import AnyTable
from xpjax.extinction import AV_PER_SFD
from xpjax.io.tables import open_table
from xpjax.stellar.description import LEARNED
from xpjax.stellar.dust import dust_exponent, redden
from xpjax.stellar.fitter import DEFAULT_CORRECTION, LabelFitter
from xpjax.stellar.grid import LEAST_FLOOR, StellarGrid
from xpjax.stellar.grid_file import read_grid
from xpjax.stellar.interpolation import COEFFICIENTS, Interpolator, interpolate_grid, model_spectra
from xpjax.stellar.priors import EBV_NODES
from xpjax.xp import AnyLinear, SourceTable, read, source_ids

LEAST_STARS, OF_A_COLOR, MOST_COLORS = 12, 100, 6
"""Stars that are needed at all; that each range of colors has; and the most ranges."""
LARGEST = 0.6
"""Residuals are cut there: beyond, a star is no star of these labels."""
FLOORS, ENOUGH = (LEAST_FLOOR, 0.005, 0.01, 0.02), 1.5
"""What templates may leave in each sample, fractions of the flux: the first with which the mean of pull^2 is below."""
EBV_ERROR = 0.02
"""Error of E(B-V) [mag] where none is given."""


class Residuals(NamedTuple):
    """What stars differ from the models of their known labels by, as fractions of the flux; what they are.

    residual, noise (n, n_wavelength): noise as a variance. color (n,): mean wavelength of the light [nm].
    """

    residual: np.ndarray
    noise: np.ndarray
    color: np.ndarray

    def some(self, rows: np.ndarray) -> Residuals:
        """Those of some stars."""
        return Residuals(*(x[rows] for x in self._asdict().values()))


def learn_errors(
    grid: StellarGrid | str | Path,
    sources: AnyTable,
    labels: AnyTable,
    *,
    correction: AnyLinear = DEFAULT_CORRECTION,
    law: str = "ccm89",
    per_ebv: float = AV_PER_SFD,
    templates: int = 40,
    folds: int = 5,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
) -> StellarGrid:
    """Learn what a grid and XP spectra are wrong by in all stars alike, from stars whose labels are known.

    Parameters
    ----------
    grid : StellarGrid, path or str
        The grid, from memory, a file, or by its name; errors that it has already are replaced.
    sources : SourceTable, path or table
        XP coefficients of bright stars, some dozens to thousands, as `xpjax.read` takes them.
    labels : path or table
        Known labels by source_id, in columns named as the grid's labels, and E(B-V) [mag] as ebv; errors in columns
        with `_error` behind the name, where known, count where left-out stars are judged.
    correction : str, path, LinearCorrection or None, optional
        Linear correction of the spectra, as of `LabelFitter`; fits that use the grid must use the same.
    law, per_ebv, templates : str, float and int, optional
        Reddening law with R_V = 3.1, A_V / E(B-V); at most so many templates for each range of colors.
    folds, devices, progress : optional
        Each part of so many is fitted with what the others teach; devices as for `xpjax.photometry`; called with the
        number of rounds of fits done.

    Returns
    -------
    StellarGrid
        The grid with `systematic` and `systematic_variance`; `describe_grid` tells what left-out stars are off by.

    Raises
    ------
    XpjaxError
        If columns are missing, the correction is a network, or fewer than twelve stars have spectra, labels within
        the grid and E(B-V).

    Notes
    -----
    For stars i of a range of colors, with residuals r_i = f_i / m_i - 1 of mean-normalized fluxes and models, the
    covariance is sum w_i (r_i r_i' - N_i), w = 1 / (1 + (rms_i / median rms)^4) scaled to one in sum, N the noise,
    without negative eigenvalues. Ranges have some hundred stars each. Stars are then left out, a fold at a time, and
    fitted with what the others teach: what templates leave, `systematic_floor`, is the least of 0.2 to 2 % that makes
    the mean of pull^2 smaller than 1.5, and variances are multiplied by it where it is above one. Known labels' errors
    count as the models'. Labels must be independent of XP: fitted to it, they leave no residual along labels.

    Examples
    --------
    >>> sources, wavelength = xpjax.simulate_sources(40, seed=1), np.arange(400.0, 950.0, 10.0)
    >>> flux = xpjax.spectra(sources, wavelength).flux
    >>> hot = 7e6 / (flux @ wavelength / flux.sum(axis=1)) - 5800
    >>> teff = np.linspace(3000.0, 12000.0, 7)
    >>> shape = np.exp(-((wavelength / 500) ** 2) * 5000 / teff[:, None])
    >>> grid = xpjax.stellar.StellarGrid((teff,), shape / shape.mean(axis=1)[:, None], wavelength, ("teff",))
    >>> known = {"source_id": sources.source_id, "teff": hot, "ebv": np.zeros(40)}
    >>> xpjax.stellar.learn_errors(grid, sources, known, templates=4).systematic.shape
    (4, 55)
    """
    if folds < 2 or templates < 1:
        raise XpjaxError(f"folds={folds}, templates={templates}: at least two folds and one template are needed")
    plain = _bare(grid)
    fitter = LabelFitter(plain, correction, 0.0)
    table, known = _matched(sources, labels, plain, fitter)
    seen, rows, why = _residuals(fitter, table, known, law, per_ebv, devices)
    known = {name: (mean[rows], error[rows]) for name, (mean, error) in known.items()}
    model, dust = interpolate_grid(redden(plain, EBV_NODES, law=law, per_ebv=per_ebv)), {"law": law, "per_ebv": per_ebv}
    judge = _Judge(model, table[rows], known, correction, dust, devices)
    (found, variance, left), figures = _taught(judge, seen, templates, folds, progress)
    used = {"correction": getattr(fitter.linear, "name", "none"), **dust, "folds": folds, "templates": len(found)}
    record = {"stars": len(rows), "left_out": why, **used, **figures}
    provenance = json.dumps({**json.loads(plain.provenance), LEARNED: record})
    errors = {"systematic": found, "systematic_variance": variance, "systematic_floor": left}
    return dataclasses.replace(plain, provenance=provenance, **errors)  # type: ignore[arg-type]


def _taught(
    judge: _Judge, seen: Residuals, templates: int, folds: int, progress: Callable[[int], Any] | None
) -> tuple[tuple[np.ndarray, np.ndarray, float], dict[str, Any]]:
    """Templates, their variances by color and what they leave; what left-out stars are off by without and with them."""
    parts, fold = _ranges(seen.color), np.arange(len(seen.color)) % folds  # of more folds than stars some are empty
    factor, rounds = np.ones(len(parts)), itertools.count(1)

    def judged(floor: float) -> dict[str, np.ndarray]:
        taught = {int(k): learned(seen.some(fold != k), parts, factor, templates) for k in np.unique(fold)}
        found = judge.off(taught, fold, floor)
        if progress is not None:
            progress(next(rounds))
        return found

    before = judge.off({}, fold)
    for left in FLOORS:
        after = judged(left)
        if _wider(after, np.ones(len(fold), bool)) < ENOUGH:
            break
    factor = np.array([_wider(after, one.of(seen.color)) for one in parts])
    after = judged(left)
    figures = {"without": judge.figures(before, parts, seen.color), "with": judge.figures(after, parts, seen.color)}
    return (*learned(seen, parts, factor, templates), left), {"systematic_floor": left, **figures}


def _bare(grid: StellarGrid | str | Path) -> StellarGrid:
    found = grid if isinstance(grid, StellarGrid) else read_grid(grid)
    if found.sampling == COEFFICIENTS:
        raise XpjaxError("errors common to stars are fractions of a flux: build the grid with sampled spectra")
    if "ebv" in found.names:
        raise XpjaxError("the grid has E(B-V) as a label already: give the one that it was reddened from")
    return dataclasses.replace(found, systematic=None, systematic_variance=None, systematic_floor=LEAST_FLOOR)


# --- what is known ----------------------------------------------------------------------------------------------------

Known = dict[str, tuple[np.ndarray, np.ndarray]]


def _matched(sources: Any, labels: Any, grid: StellarGrid, fitter: LabelFitter) -> tuple[SourceTable, Known]:
    """The sources that have labels, and their labels with errors (n,), zero where none is given."""
    if fitter.network is not None:
        raise XpjaxError("errors are learned from spectra that are corrected linearly: give no network")
    table = sources if isinstance(sources, SourceTable) else read(sources)
    fitter.check(table.release)
    opened = open_table(labels)
    origin = Path(labels).name if isinstance(labels, str | Path) else "the table of labels"
    wanted = [*grid.names, "ebv"]
    if absent := [name for name in ("source_id", *wanted) if name not in opened.names]:
        remedy = "; for E(B-V) see `xpjax ebv`, or give zeros" if "ebv" in absent else ""
        raise XpjaxError(f"{origin} has no columns {', '.join(absent)}; it has {', '.join(opened.names)}{remedy}")
    errors = [f"{name}_error" for name in wanted if f"{name}_error" in opened.names]
    opened.load(["source_id", *wanted, *errors])
    place = places_of(np.asarray(table.source_id), source_ids(opened))
    rows = np.flatnonzero(place >= 0)
    if not len(rows):
        raise XpjaxError(f"no source_id of {origin} is among the {len(table):,} sources")

    def numbers(name: str) -> np.ndarray:
        kind = "temperature" if name == "teff" else None
        return np.asarray(opened.column(name).numbers(kind), float)[place[rows]]

    known = {}
    for name in wanted:
        error = numbers(f"{name}_error") if f"{name}_error" in errors else np.zeros(len(rows))
        known[name] = numbers(name), np.where(error > 0, error, 0.0)
    return table[rows], known


def _residuals(
    fitter: LabelFitter, table: SourceTable, known: Known, law: str, per_ebv: float, devices: engine.Devices
) -> tuple[Residuals, np.ndarray, dict[str, int]]:
    """Residuals of the stars of use, which these are, how many are not, by reason. Raises XpjaxError for too few."""
    model = fitter.interpolator
    wavelength = np.asarray(model.wavelength, float)
    made = fitter.sampled(table, devices)[0]
    if made.flux_error is None:
        raise XpjaxError(
            f"{table.origin}: the coefficients come without correlations, so that the noise of spectra is not known; "
            "fetch them with these, as `xpjax fetch` does"
        )
    values = np.stack([known[name][0] for name in model.names], axis=1)
    labeled = np.isfinite(values).all(axis=1) & np.isfinite(known["ebv"][0])

    models = np.full(made.flux.shape, np.nan)
    models[labeled] = model_spectra(model, values[labeled], float64=True)
    models *= np.exp(-known["ebv"][0][:, None] * dust_exponent(wavelength, law, per_ebv=per_ebv))
    models /= models.mean(axis=1, keepdims=True)
    mean = made.flux.mean(axis=1, keepdims=True, dtype=float)
    flux, error = made.flux / mean, made.flux_error / mean
    residual = np.clip(flux / models - 1, -LARGEST, LARGEST)
    noise = (error / models) ** 2
    color = (flux * wavelength).sum(axis=1) / flux.sum(axis=1)
    whole = np.isfinite(flux).all(axis=1) & np.isfinite(error).all(axis=1) & (mean[:, 0] > 0)
    inside = np.isfinite(models).all(axis=1)
    why = {
        "without labels": int((~labeled).sum()), "outside the grid": int((labeled & ~inside).sum()),
        "without a whole spectrum": int((inside & ~whole).sum()),
    }  # fmt: skip
    rows = np.flatnonzero(inside & whole)
    if len(rows) < LEAST_STARS:
        left = ", ".join(f"{n:,} {what}" for what, n in why.items() if n)
        raise XpjaxError(
            f"{len(rows)} of {len(table):,} stars can be learned from, {LEAST_STARS} are needed at least: {left}"
        )
    return Residuals(residual, noise, color).some(rows), rows, why


# --- what they teach --------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """Stars whose light has a mean wavelength [nm] within low..high, and the middle of them."""

    low: float
    high: float
    middle: float

    def of(self, color: np.ndarray) -> np.ndarray:
        """Which stars these are."""
        return (color >= self.low) & (color < self.high)


def _ranges(color: np.ndarray) -> list[Range]:
    """Ranges of colors with as many stars each, and so many at least that each can be learned from."""
    n = int(np.clip(len(color) // OF_A_COLOR, 1, MOST_COLORS))
    inner = np.unique(np.quantile(color, np.arange(1, n) / n))
    edges = [-np.inf, *inner, np.inf]
    own = [color[(color >= low) & (color < high)] for low, high in itertools.pairwise(edges)]
    return [Range(*edge, float(np.median(some))) for edge, some in zip(itertools.pairwise(edges), own, strict=True)]


def learned(seen: Residuals, parts: list[Range], factor: np.ndarray, templates: int) -> tuple[np.ndarray, np.ndarray]:
    """Templates (n_template, n_wavelength) of all ranges, and their variances by color times a factor for each."""
    roots = []
    for one in parts:
        some = seen.some(one.of(seen.color))
        rms = np.sqrt(np.mean(some.residual**2, axis=1))
        weight = 1 / (1 + (rms / np.median(rms)) ** 4)
        roots.append(leading(moment(some.residual, weight, some.noise), templates))
    sizes = [len(root) for root in roots]
    variance = [
        [one.middle, *(factor[k] * (k == j) for j, size in enumerate(sizes) for _ in range(size))]
        for k, one in enumerate(parts)
    ]
    return np.concatenate(roots), np.array(variance)


def _wider(found: Mapping[str, np.ndarray], rows: np.ndarray) -> float:
    """What variances are too small by, of some stars that were left out; one where they are not."""
    good = rows & (found["status"] == FitStatus.OK)
    return max(float(np.mean(pulls(found["off"][good], found["error"][good]) ** 2)), 1.0) if good.any() else 1.0


def pulls(off: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Sizes (n_label,) of off over error: the mean of 1.48 MAD about zero and of an RMS of what is clipped at three."""
    pull = off / error
    return np.asarray(
        (1.4826 * np.nanmedian(np.abs(pull), axis=0) + np.sqrt(np.nanmean(np.clip(pull, -3, 3) ** 2, axis=0))) / 2
    )


def moment(residual: np.ndarray, weight: np.ndarray | None = None, noise: np.ndarray | None = None) -> np.ndarray:
    """Second moments about zero (n_wavelength, n_wavelength), less the noise, without negative eigenvalues.

    residual (n, n_wavelength); noise: variances of these.
    """
    weight = np.ones(len(residual)) if weight is None else weight
    weight = (weight / weight.sum())[:, None]
    out = (residual * weight).T @ residual
    if noise is None:
        return np.asarray(out)
    with one_blas_thread():
        size, vector = np.linalg.eigh(out - np.diag((noise * weight).sum(axis=0)))
    return np.asarray((vector * np.maximum(size, 0)) @ vector.T)


def leading(covariance: np.ndarray, rank: int) -> np.ndarray:
    """Root (rank, n_wavelength) of the leading part of a covariance."""
    with one_blas_thread():
        size, vector = np.linalg.eigh(covariance)
    return np.asarray((vector[:, ::-1][:, :rank] * np.sqrt(np.maximum(size[::-1][:rank], 0))).T)


# --- how well ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Fits of stars with known labels, E(B-V) being known as it is."""

    model: Interpolator
    table: SourceTable
    known: Known
    correction: Any
    law: Mapping[str, Any]
    devices: engine.Devices

    def off(
        self, taught: Mapping[int, tuple[np.ndarray, np.ndarray]], fold: np.ndarray, floor: float = LEAST_FLOOR
    ) -> dict[str, np.ndarray]:
        """What labels (n, n_label) are off by, their errors with those of the known ones, chi2/dof and status (n,).

        taught: templates and variances by fold; none for fits without common errors.
        """
        names = self.model.names[:-1]
        ebv, error = self.known["ebv"]
        table = dataclasses.replace(
            self.table, columns={**self.table.columns, "_ebv": ebv, "_ebv_error": np.where(error > 0, error, EBV_ERROR)}
        )
        n = len(table)
        found = {"off": np.full((n, len(names)), np.nan), "error": np.full((n, len(names)), np.nan),
                 "chi2": np.full(n, np.nan), "status": np.zeros(n, np.uint32)}  # fmt: skip
        for k in np.unique(fold):
            rows, model = np.flatnonzero(fold == k), self.model
            if taught:
                templates, variance = taught[k]
                model = dataclasses.replace(
                    model, systematic=templates, systematic_variance=variance, systematic_floor=floor
                )
            options = {**self.law, "systematic": bool(taught)}
            fitter = LabelFitter(model, self.correction, priors={"ebv": ("_ebv", "_ebv_error")}, options=options)
            fit = fitter(table[rows], devices=self.devices).fit
            for j, name in enumerate(names):
                mean, own = (x[rows] for x in self.known[name])
                found["off"][rows, j] = fit.labels[:, j] - mean
                found["error"][rows, j] = np.hypot(fit.error[:, j], own)
            found["chi2"][rows], found["status"][rows] = fit.chi2 / fit.dof, fit.status
        return found

    def figures(self, found: Mapping[str, np.ndarray], parts: list[Range], color: np.ndarray) -> dict[str, Any]:
        """Medians of absolute differences, pulls and chi2/dof, of stars that were left out."""

        def short(x: float) -> float | None:
            return float(f"{x:.3g}") if np.isfinite(x) else None

        good = found["status"] == FitStatus.OK
        out: dict[str, Any] = {"at an edge or not converged": int((~good).sum())}
        for j, name in enumerate(self.model.names[:-1]):
            off, error = found["off"][good, j], found["error"][good, j]
            out[name] = {
                "median absolute difference": short(np.median(np.abs(off))) if len(off) else None,
                "pull": short(1.4826 * np.median(np.abs(off / error))) if len(off) else None,
            }
        out["chi2/dof by mean wavelength of the light"] = [
            [short(part.middle), short(float(np.nanmedian(found["chi2"][part.of(color)])))] for part in parts
        ]
        return out
