"""Fitted labels as tables: of spectra alone, and of XP sources; written, read back, and selected."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.status import FitStatus, Status
from xpjax.extinction import AV_PER_SFD
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult
from xpjax.stellar.interpolation import Interpolator
from xpjax.stellar.kernel import DEVIANT
from xpjax.stellar.libraries.library import UNITS
from xpjax.xp import TRANSIT, TRANSIT_UNITS

TITLES = {
    "teff": "Effective temperature",
    "logg": "Logarithm of the surface gravity in cm s-2",
    "mh": "Metallicity [M/H] relative to the Sun",
    "ebv": "Interstellar reddening E(B-V)",
    "rv": "Ratio R_V of total to selective extinction",
}
"""What columns of labels are."""
LABEL_UNITS = {**UNITS, "ebv": "mag"}
FITTED = {
    "chi2": "Sum of squared residuals in units of their standard errors, priors excluded",
    "dof": "chi2 to be expected, of XP's noise and errors common to stars, less what labels take; with a floor, or of "
    "sampled spectra, samples used minus fitted parameters",
    "dflux_per": f"Percentage of samples whose normalized flux differs from the best-fit model by more than {DEVIANT}",
    "fit_status": FitStatus.legend(),
}


@dataclasses.dataclass(frozen=True, repr=False)
class StellarFit(TableResult, Rows, Record):
    """Hold fitted labels of many spectra, on the host.

    Parameters
    ----------
    names : tuple of str
        Names of the n_label labels, such as teff, logg and mh.
    labels : (n, n_label) array
        Best-fit labels in the order of names [K for teff, dex for logg and mh, mag for ebv]; NaN for a spectrum that
        cannot be fitted.
    covariance : (n, n_label, n_label) array
        Covariances from the inverse Hessian, in products of the labels' units; NaN for a label held at the edge of the
        grid.
    chi2 : (n,) array
        Sum of squared residuals in units of their standard errors, priors excluded.
    dof : (n,) array
        The chi2 to be expected. `LabelFitter` counts, where there is no error_floor, what the noise of the coefficients
        and errors common to stars bring into the samples, less what labels take: samples are not independent. Else
        samples used minus fitted parameters.
    dflux_per : (n,) array
        Percentage of the samples used whose normalized flux differs from the model by more than 0.05; NaN for XP
        coefficients.
    status : (n,) array of uint32
        Bits of `FitStatus`.
    flux : (n, n_wavelength) array, optional
        Best-fit models, normalized as the data; None unless `fit_labels` was asked for spectra.
    error_formal : (n, n_label) array, optional
        The part of the errors that noise makes, and not what models and instrument are wrong by in all stars alike;
        None where chi2 knows of noise alone.
    draws, n_effective : (n, n_draw, n_label) and (n,) arrays, optional
        Draws of the labels from their posterior, and how many independent ones the proposals that they are from are
        worth: below 100 or so distrust them. None unless `fit_labels` was asked for a posterior.

    Examples
    --------
    >>> labels, one = np.array([[5777.0, 4.4], [4500.0, 2.0]]), np.ones(2)
    >>> covariance = np.array([np.diag([400.0, 0.01])] * 2)
    >>> fit = xpjax.stellar.StellarFit(("teff", "logg"), labels, covariance, one, one, one, np.zeros(2, int))
    >>> fit.error
    array([[20. ,  0.1],
           [20. ,  0.1]])
    >>> fit[:1].to_table()["teff"].unit
    Unit("K")
    """

    row_fields: ClassVar = ("labels", "covariance", "chi2", "dof", "dflux_per", "status", "flux", "error_formal",
                            "draws", "n_effective")  # fmt: skip
    bits: ClassVar = FitStatus

    names: tuple[str, ...]
    labels: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    dof: np.ndarray
    dflux_per: np.ndarray
    status: np.ndarray
    flux: np.ndarray | None = None
    error_formal: np.ndarray | None = None
    draws: np.ndarray | None = None
    n_effective: np.ndarray | None = None

    def with_rows(self, rows: np.ndarray, other: StellarFit) -> StellarFit:
        """These fits with those of some rows taken from another."""
        columns: dict[str, Any] = {
            name: np.array(own) for name in self.row_fields if (own := getattr(self, name)) is not None
        }
        for name, values in columns.items():
            values[rows] = getattr(other, name)
        return dataclasses.replace(self, **columns)

    @property
    def error(self) -> np.ndarray:
        """Standard errors (n, n_label); NaN for a label held at the edge of the grid."""
        with np.errstate(invalid="ignore"):  # of fits that have not converged
            return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def catalogue(self, source_id: np.ndarray | None = None, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The fits as a table: labels, errors, covariances, chi2, dof, dflux_per and fit_status; keep: more columns."""
        columns: dict[str, np.ndarray] = {} if source_id is None else {"source_id": source_id}
        errors, units, told = self.error, {"dflux_per": "%"}, dict(FITTED)
        columns |= {name: self.labels[:, i] for i, name in enumerate(self.names)}
        columns |= {f"{name}_error": errors[:, i] for i, name in enumerate(self.names)}
        for name in self.names:
            told |= {name: TITLES.get(name, f"Label {name} of the model grid")}
            told |= {f"{name}_error": f"Standard error of {name}; NaN where {name} is held at the edge of the grid"}
            units |= {key: LABEL_UNITS[name] for key in (name, f"{name}_error") if name in LABEL_UNITS}
        for (i, a), (j, b) in itertools.combinations(enumerate(self.names), 2):
            columns[f"{a}_{b}_covariance"] = self.covariance[:, i, j]
            told[f"{a}_{b}_covariance"] = f"Covariance of {a} and {b}"
        if self.error_formal is not None:
            for i, name in enumerate(self.names):
                columns[key := f"{name}_error_formal"] = self.error_formal[:, i]
                told[key] = f"The part of {name}_error that noise makes; the rest is common to stars alike"
                units |= {key: LABEL_UNITS[name]} if name in LABEL_UNITS else {}
        if self.draws is not None and self.n_effective is not None:
            for i, name in enumerate(self.names):
                columns[key := f"{name}_draws"] = self.draws[:, :, i]
                told[key] = f"Draws of {name} from the posterior, in the order of those of other labels"
                units |= {key: LABEL_UNITS[name]} if name in LABEL_UNITS else {}
            columns["n_effective"] = self.n_effective
            told["n_effective"] = "Independent draws that the proposals are worth; below 100 distrust the draws"
        columns |= {"chi2": self.chi2, "dof": self.dof, "dflux_per": self.dflux_per}
        return Catalogue(columns, units, told).with_columns(keep or {}, {"fit_status": self.status})


@dataclasses.dataclass(frozen=True, repr=False)
class LabelFits(TableResult, Rows, Record):
    """Hold fitted labels of many XP sources.

    Parameters
    ----------
    source_id : (n,) array of int64
        Gaia source_id of each source.
    fit : StellarFit
        Fits of the spectra, corrected where a correction was asked for.
    before : StellarFit, optional
        Fits of the spectra before a network corrected them; None without a network.
    status : (n,) array of uint32
        Bits of `Status` of each source.
    meta : mapping, optional
        Metadata: the grid, the correction, and the reddening law that was assumed.
    columns : mapping of str to (n,) array, optional
        Columns of the input that are passed on.

    Examples
    --------
    >>> one = np.ones(2)
    >>> fit = xpjax.stellar.StellarFit(
    ...     ("teff",), np.array([[5777.0], [4500.0]]), np.full((2, 1, 1), 400.0), one, one, one, np.zeros(2, int)
    ... )
    >>> fits = xpjax.stellar.LabelFits(np.array([7, 8]), fit, None, np.zeros(2, int))
    >>> len(fits[fits.fit.labels[:, 0] > 5000])
    1
    >>> xpjax.write("labels.fits", fits)
    >>> xpjax.stellar.read_labels("labels.fits").source_id
    array([7, 8])
    """

    row_fields: ClassVar = ("source_id", "fit", "before", "status", "columns")
    bits: ClassVar = {"fit_status": FitStatus, "fit_status_before": FitStatus, "xp_status": Status}

    source_id: np.ndarray
    fit: StellarFit
    before: StellarFit | None
    status: np.ndarray
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """That of the fit, with labels, dflux_per and fit_status `_before` the correction, columns and xp_status."""
        more: dict[str, np.ndarray] = {}
        if self.before is not None:
            more = {f"{name}_before": self.before.labels[:, k] for k, name in enumerate(self.before.names)}
            more |= {"dflux_per_before": self.before.dflux_per, "fit_status_before": self.before.status}
        table = self.fit.catalogue(self.source_id, {**more, **self.columns, **(keep or {})})
        plain = {name: name.removesuffix("_before") for name in more}
        units = {name: table.units[of] for name, of in plain.items() if of in table.units}
        told = {
            name: table.descriptions[of] + (", before the correction" if of != "fit_status" else "")
            for name, of in plain.items()
        }
        transit_units = TRANSIT_UNITS if {*TRANSIT} <= {*table.columns} else {}
        return dataclasses.replace(
            table,
            columns={**table.columns, "xp_status": self.status},
            units={**table.units, **units, **transit_units},
            descriptions={**table.descriptions, **told, "xp_status": Status.legend()},
            meta=dict(self.meta),
        )


def read_labels(path: str | os.PathLike[str]) -> LabelFits:
    """Read fitted labels from a file of `xpjax.write` or `xpjax labels fit`.

    Parameters
    ----------
    path : path
        The file, in any format that `xpjax.write` writes.

    Returns
    -------
    LabelFits
        The fits. Variances are squares of the errors in the file. Best-fit models, and covariances and chi2 of fits
        before a correction, are not in files: they are None and NaN.

    Raises
    ------
    XpjaxError
        If the file is no table of labels.

    Examples
    --------
    >>> fit = xpjax.stellar.StellarFit(
    ...     ("teff",), np.array([[5777.0]]), np.array([[[400.0]]]), np.ones(1), np.ones(1), np.ones(1), np.zeros(1, int)
    ... )
    >>> xpjax.write("labels.csv", xpjax.stellar.LabelFits(np.array([7]), fit, None, np.zeros(1, int)))
    >>> xpjax.stellar.read_labels("labels.csv").fit.error
    array([[20.]])
    """
    table = read_catalogue(path)
    own = dict(table.columns)
    names = tuple(itertools.takewhile(lambda name: not name.endswith("_error"), [n for n in own if n != "source_id"]))
    needed = ["source_id", *(f"{name}_error" for name in names), *FITTED, "xp_status"]
    absent = [name for name in needed if name not in own]
    if absent or not names:
        raise XpjaxError(f"{path} is no table of fitted labels: it has no {absent[0] if absent else 'labels'}")
    taken = {name: own.pop(name) for name in (*needed, *names)}
    error = np.stack([taken[f"{name}_error"] for name in names], axis=1)
    covariance = np.zeros((*error.shape, len(names)), error.dtype)
    covariance[:, range(len(names)), range(len(names))] = error**2
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        covariance[:, i, j] = covariance[:, j, i] = own.pop(f"{a}_{b}_covariance")
    labels = np.stack([taken[name] for name in names], axis=1)
    fit = StellarFit(names, labels, covariance, *(taken[name] for name in FITTED))
    if f"{names[0]}_error_formal" in own:
        formal = np.stack([own.pop(f"{name}_error_formal") for name in names], axis=1)
        fit = dataclasses.replace(fit, error_formal=formal)
    if f"{names[0]}_draws" in own:
        draws = np.stack([own.pop(f"{name}_draws") for name in names], axis=2)
        fit = dataclasses.replace(fit, draws=draws, n_effective=own.pop("n_effective"))
    before = None
    if "fit_status_before" in own:
        labels = np.stack([own.pop(f"{name}_before") for name in names], axis=1)
        unknown = np.full_like(covariance, np.nan)
        rest = own.pop("dflux_per_before"), own.pop("fit_status_before")
        before = StellarFit(names, labels, unknown, unknown[:, 0, 0], unknown[:, 0, 0], *rest)
    return LabelFits(taken["source_id"], fit, before, taken["xp_status"], dict(table.meta), own)


# --- which stars are to be trusted ------------------------------------------------------------------------------------

SELECTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "learn": {"teff": (4000.0, 7000.0), "dflux_per": (0.0, 20.0)},
    "good": {"teff": (4000.0, 7000.0), "dflux_per_before": (0.0, 20.0), "dflux_per": (0.0, 8.0)},
    "metal-poor": {
        "teff": (4000.0, 7000.0),
        "dflux_per_before": (0.0, 20.0),
        "dflux_per": (0.0, 8.0),
        "mh": (-np.inf, -2.5),
        "a_v": (-np.inf, 1.5),
    },
}
"""Cuts of Ye et al. (2024), both ends in: before the correction (learn), after it (good), and metal-poor stars."""


def select_labels(
    fits: LabelFits | Catalogue, name: str, grid: Interpolator, ebv: str | np.ndarray | None = None
) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    """Select converged fits by the cuts of Ye et al. (2024).

    Parameters
    ----------
    fits : LabelFits
        Fits of n sources.
    name : {"learn", "good", "metal-poor"}
        learn: stars that a correction is trained on; good: stars to be trusted after a correction; metal-poor: those of
        them with [M/H] below -2.5 and A_V below 1.5 mag.
    grid : Interpolator
        The interpolated grid of the fits.
    ebv : str or (n,) array, optional
        E(B-V) [mag] of the sources, or the name of its column; metal-poor needs it for A_V.

    Returns
    -------
    chosen : (n,) array of bool
        Which fits are taken; those with any fit_status but OK are not, such as a star held at the edge of the grid.
    warnings : list of str
        A line for each label that the cuts extend to and the grid does not.

    Raises
    ------
    XpjaxError
        If there is no such selection, or the fits lack what it needs.

    Notes
    -----
    The cuts are those of Ye et al. (2024) on Teff, [M/H], A_V, and dflux_per before and after the correction.

    Examples
    --------
    >>> teff, wavelength = np.linspace(3500.0, 7500.0, 9), np.linspace(360.0, 990.0, 60)
    >>> flux = np.exp(-wavelength * 3000 / teff[:, None] / 1000)
    >>> grid = xpjax.stellar.StellarGrid((teff,), flux / flux.mean(axis=1, keepdims=True), wavelength, ("teff",))
    >>> labels, one = np.array([[5777.0], [3600.0]]), np.ones(2)
    >>> fit = xpjax.stellar.StellarFit(("teff",), labels, np.ones((2, 1, 1)), one, one, one, np.zeros(2, int))
    >>> fits = xpjax.stellar.LabelFits(np.arange(2), fit, None, np.zeros(2, int))
    >>> xpjax.stellar.select_labels(fits, "learn", xpjax.stellar.interpolate_grid(grid))[0]
    array([ True, False])
    """
    if name not in SELECTIONS:
        raise XpjaxError(f"no selection {name!r}; choose from {', '.join(SELECTIONS)}")
    columns = (fits if isinstance(fits, Catalogue) else fits.catalogue()).columns
    chosen = np.asarray(columns["fit_status"]) == int(FitStatus.OK)
    warnings = []
    for column, (low, high) in SELECTIONS[name].items():
        values = columns.get(column)
        if column == "a_v" and ebv is not None:
            values = AV_PER_SFD * np.asarray(columns[ebv] if isinstance(ebv, str) else ebv, float)
        if values is None:
            raise XpjaxError(f"selection {name!r} needs {column}, which these fits do not have")
        with np.errstate(invalid="ignore"):
            chosen &= (np.asarray(values) >= low) & (np.asarray(values) <= high)
        if column in grid.names:
            nodes = np.asarray(grid.nodes[grid.names.index(column)])
            if nodes[0] > low or nodes[-1] < high:
                warnings.append(
                    f"selection {name!r} takes {column} in {low:g}..{high:g}, the grid ends at {nodes[0]:g} and "
                    f"{nodes[-1]:g}: stars beyond were fitted at its edge and are left out"
                )
    return chosen, warnings
