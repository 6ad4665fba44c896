"""The color relation of one band: coefficients, what they predict for a star, and their table.

With C = G_BP or G_RP - m, (T, F, E) = Teff, [Fe/H] and the reddening E(BP-RP) or E(B-V) of a star (Yuan et al. 2015,
ApJ 799, 133; Xiao et al. 2023, ApJS 269, 58):

    C = C0(T, F) + R E + zero-point of the tile,      m_SCR = G_BP,RP - C0(T, F) - R E

C0 is a polynomial in (T, F) of total order 2 or 3 (6 or 10 terms), R a constant or a quadratic in (T, E): the whole is
a polynomial in scaled labels, linear in its coefficients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult
from xpjax.survey.scr.labels import LABELS, SCALE, ZERO, mean_monomials, quadratic_form, scaled, tuples
from xpjax.survey.scr.population import Population, true_labels


@dataclasses.dataclass(frozen=True, repr=False)
class ColorRegression(Record, TableResult):
    """Hold the color relation of one band: coefficients of scaled labels, and what predictions need.

    Parameters
    ----------
    band : str
        Name of the band.
    gaia : {"BP", "RP"}
        Gaia band of the color G_gaia - m.
    exponents : (k, 3) array of int
        Powers of (Teff, [Fe/H], reddening) in each term.
    value : (k,) array [mag]
        Coefficients of the terms.
    covariance : (k, k) array [mag2]
        Covariance of the coefficients.
    zero, scale : (3,) arrays [K, dex, mag]
        Labels are scaled to (label - zero) / scale.
    floor : float [mag]
        Scatter about the relation beyond the measurement errors.
    scatter : float [mag]
        Scatter of all residuals, 1.48 MAD.
    population : Population or None
        Distribution of the true labels; None for a fit without label errors, which is a relation of measured labels.
    label_range : (2, 3) array [K, dex, mag]
        Percentiles 0.5 and 99.5 of the measured labels of the stars in the fit.
    n_used : int
        Number of stars in the fit.
    converged : bool
        Whether sigma clipping converged.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.normal([5900, -0.3, 0.1], [300, 0.3, 0.05], (500, 3))
    >>> color = 0.3 - 4e-4 * (labels[:, 0] - 6000) - 0.9 * labels[:, 2] + rng.normal(0, 0.01, 500)
    >>> regression = scr.fit_scr(color, np.full(500, 0.01), labels, scr.ColorModel(order=1), band="u").regression
    >>> regression.to_table()["term"].tolist()
    ['constant', 'teff1', 'feh1', 'reddening']
    """

    band: str
    gaia: str
    exponents: np.ndarray
    value: np.ndarray
    covariance: np.ndarray
    zero: np.ndarray
    scale: np.ndarray
    floor: float
    scatter: float
    population: Population | None
    label_range: np.ndarray
    n_used: int
    converged: bool

    @property
    def error(self) -> np.ndarray:
        """Standard errors (k,) of the coefficients [mag]."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0))

    @property
    def names(self) -> list[str]:
        """Names of the terms: `constant`, `teff2_feh1` and the like; those of R are products with `reddening`."""
        parts = [
            "_".join(f"{label}{p}" for label, p in zip(LABELS, e, strict=True) if p) or "constant"
            for e in self.exponents.tolist()
        ]
        return ["reddening" if part == "reddening1" else part for part in parts]

    def intrinsic(self, labels: np.ndarray) -> np.ndarray:
        """Intrinsic color C0 (n,) [mag] at labels (n, 3)."""
        free = np.array(labels, float)
        free[:, 2] = self.zero[2]
        return mean_monomials((free - self.zero) / self.scale, None, tuples(self.exponents)) @ self.value

    def reddening_coefficient(self, labels: np.ndarray) -> np.ndarray:
        """Reddening coefficient R (n,) at labels (n, 3): (C - C0) / E, not the derivative."""
        z = (np.asarray(labels, float) - self.zero) / self.scale
        own = self.exponents[:, 2] > 0
        lowered = [(i, j, k - 1) for i, j, k in self.exponents[own].tolist()]
        return mean_monomials(z, None, lowered) @ self.value[own] / self.scale[2]

    def catalogue(self) -> Catalogue:
        """A row for each coefficient, as in coefficients.ecsv."""
        return coefficient_table([self])


# --- prediction -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Predicted(Record):
    """Magnitudes by SCR (n,) [mag]; NaN where Gaia's magnitude or a label is missing.

    error: of this star (photometry, labels, scatter about the relation); systematic: of the coefficients, in part
    common to all stars; outside: whether a label is beyond `label_range` of the relation.
    """

    magnitude: np.ndarray
    error: np.ndarray
    systematic: np.ndarray
    outside: np.ndarray


def predict_scr(
    regression: ColorRegression,
    gaia: np.ndarray,
    gaia_error: np.ndarray | float,
    labels: np.ndarray,
    *,
    label_covariance: np.ndarray | None = None,
    tile: np.ndarray | None = None,
) -> Predicted:
    """Predict magnitudes of stars from their labels and Gaia's BP or RP magnitude.

    Parameters
    ----------
    regression : ColorRegression
        The relation of the band.
    gaia : (n,) array [mag]
        G_BP or G_RP, as `regression.gaia` says.
    gaia_error : (n,) array or float [mag]
        Its error.
    labels : (n, 3) array [K, dex, mag]
        Teff, [Fe/H] and reddening.
    label_covariance : (n, 3, 3) or (3, 3) array, optional
        Covariance of the label errors. A relation that was fitted with label errors is averaged over the true labels
        that each star may have; any other, and any without this argument, is taken at the labels given.
    tile : (n,) array of int, optional
        Number of each star's tile, from 0, as in the fit.

    Returns
    -------
    Predicted
        `magnitude`, `error` and `systematic` (n,) [mag], and `outside` (n,) of bool.

    Notes
    -----
    m_SCR = G_BP,RP - C0(Teff, [Fe/H]) - R E (Xiao et al. 2023, ApJS 269, 58).

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.normal([5900, -0.3, 0.1], [300, 0.3, 0.05], (500, 3))
    >>> color = 0.3 - 4e-4 * (labels[:, 0] - 6000) - 0.9 * labels[:, 2] + rng.normal(0, 0.01, 500)
    >>> regression = scr.fit_scr(color, np.full(500, 0.01), labels, scr.ColorModel(order=1)).regression
    >>> predicted = scr.predict_scr(regression, np.full(500, 14.0), 0.003, labels)
    >>> bool(np.std(14 - color - predicted.magnitude) < 0.011)
    True
    """
    gaia = np.asarray(gaia, float)
    gaia_error = np.broadcast_to(np.asarray(gaia_error, float), gaia.shape)
    z, covariance = scaled(gaia, gaia_error, labels, label_covariance, regression.zero, regression.scale)
    exponents = tuples(regression.exponents)
    low, high = regression.label_range
    with np.errstate(invalid="ignore"):  # of stars without labels
        truth = true_labels(z, covariance, regression.population, tile)
        t = truth.terms(exponents)
        variance = gaia_error**2 + regression.floor**2 + truth.variance(regression.value, exponents)
        outside = ~((labels >= low) & (labels <= high)).all(axis=1)
    systematic = np.sqrt(np.maximum(quadratic_form(t, regression.covariance), 0))
    return Predicted(gaia - t @ regression.value, np.sqrt(variance), systematic, outside)


# --- tables -----------------------------------------------------------------------------------------------------------

DESCRIPTIONS = {
    "band": "photometric band",
    "gaia": "Gaia band of the color",
    "term": "product of powers of scaled labels; constant: 1",
    **{f"power_{label}": f"power of the scaled label {label}" for label in LABELS},
    "value": "coefficient of the term in color = Gaia magnitude - magnitude, of labels (label - zero) / scale",
    "error": "standard error of the coefficient",
    "covariance": "covariance with each coefficient of the band, in their order; NaN beyond",
    "floor": "scatter about the relation beyond the measurement errors",
    "scatter": "scatter of all residuals, 1.48 MAD",
    "n_used": "number of stars in the fit",
    "converged": "1 where sigma clipping converged, else 0",
    "population": "true labels: mean and standard deviation of reddening; weight, mean, covariance of each Gaussian",
    "label_range": "percentiles of the measured labels in the fit: three of 0.5 %, then three of 99.5 %",
}


def coefficient_table(regressions: Sequence[ColorRegression], meta: Mapping[str, Any] | None = None) -> Catalogue:
    """A row for each band and coefficient, with its row of the band's covariance; `regressions_from` reads it."""
    rows: dict[str, list[Any]] = {}
    size = max(len(r.value) for r in regressions)
    for r in regressions:
        for k, name in enumerate(r.names):
            one = {
                "band": r.band, "gaia": r.gaia, "term": name,
                **{f"power_{label}": int(p) for label, p in zip(LABELS, r.exponents[k], strict=True)},
                "value": r.value[k], "error": r.error[k],
                "covariance": np.pad(r.covariance[k], (0, size - len(r.value)), constant_values=np.nan),
                "floor": r.floor, "scatter": r.scatter, "n_used": r.n_used, "converged": int(r.converged),
                **({} if r.population is None else {"population": r.population.flat()}),
                "label_range": r.label_range.ravel(),
            }  # fmt: skip
            for key, cell in one.items():
                rows.setdefault(key, []).append(cell)
    units = dict.fromkeys(("value", "error", "floor", "scatter"), "mag") | {"covariance": "mag2"}
    scale = {"labels": list(LABELS), "label_zero": list(ZERO), "label_scale": list(SCALE)}
    columns = {name: np.array(cells) for name, cells in rows.items()}
    return Catalogue(columns, units, {k: DESCRIPTIONS[k] for k in columns}, meta={**(meta or {}), **scale})


def regressions_from(table: Catalogue) -> dict[str, ColorRegression]:
    """The relations in a table of coefficients, by band. Raises XpjaxError naming a column that the table lacks."""
    c = table.columns
    needed = ("band", "gaia", "power_teff", "value", "covariance", "label_range", "floor")
    missing = [name for name in needed if name not in c]
    if missing or "label_zero" not in table.meta:
        raise XpjaxError(f"this is no table of SCR coefficients: {missing[0] if missing else 'label_zero'} is missing")
    out = {}
    for band in dict.fromkeys(c["band"].tolist()):
        rows = np.flatnonzero(c["band"] == band)
        one, n = rows[0], len(rows)
        out[str(band)] = ColorRegression(
            str(band), str(c["gaia"][one]), np.stack([c[f"power_{label}"][rows] for label in LABELS], axis=1),
            np.array(c["value"][rows]), np.array(c["covariance"][rows, :n]), np.array(table.meta["label_zero"], float),
            np.array(table.meta["label_scale"], float), float(c["floor"][one]), float(c["scatter"][one]),
            Population.from_flat(c["population"][one]) if "population" in c else None,
            np.array(c["label_range"][one]).reshape(2, 3), int(c["n_used"][one]), bool(c["converged"][one]),
        )  # fmt: skip
    return out


def read_regressions(path: str | Path) -> dict[str, ColorRegression]:
    """Read color relations from their table, such as the coefficients.ecsv of `run_scr`.

    Parameters
    ----------
    path : str or Path
        A table that `xpjax survey scr`, `run_scr`, or `xpjax.write` of a ColorRegression wrote.

    Returns
    -------
    dict of str to ColorRegression
        The relation of each band.

    Raises
    ------
    XpjaxError
        If the table has no coefficients of color relations.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.normal([5900, -0.3, 0.1], [300, 0.3, 0.05], (500, 3))
    >>> color = 0.3 - 4e-4 * (labels[:, 0] - 6000) - 0.9 * labels[:, 2] + rng.normal(0, 0.01, 500)
    >>> fit = scr.fit_scr(color, np.full(500, 0.01), labels, scr.ColorModel(order=1), band="u")
    >>> xpjax.write("coefficients.ecsv", fit.regression)
    >>> list(scr.read_regressions("coefficients.ecsv"))
    ['u']
    """
    return regressions_from(read_catalogue(path))
