"""What a fit of a transmission curve found: as a table, as passbands, and back from a file."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.core.types import PathLike
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult
from xpjax.synthetic.figures import plot_passband_fit
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.warp import FREE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class PassbandFit(TableResult, Record):
    """A transmission curve fitted to observed magnitudes.

    Parameters
    ----------
    names : (k,) tuple of str
        Names of the parameters; nodes of the free form, free_0, ..., last.
    value, error : (k,) array
        Values and standard errors, in the units of the parameters.
    covariance : (k, k) array
        Covariance of the parameters.
    passband : Passband
        The fitted curve, of peak one or below, without the fitted zero_point.
    effective_wavelength, effective_wavelength_error : float [nm]
        Mean wavelength int T l dl / int T dl of the fitted curve.
    magnitude : (n,) array [mag], or None
        Magnitudes of the model; NaN where a star has none. None of a fit that was read from a file.
    used : (n,) array of bool, or None
        Which stars took part.
    chi2 : float
        Sum of squared residuals of the magnitudes in units of their errors.
    degrees_of_freedom : int
        Number of stars that took part, minus k.
    converged : bool
        False too where the curve ran far off its start, or a chain's parameter out of its range: give priors, or fit
        fewer parameters.
    label : str
        Label of the set that the curve is from.
    start : (m,) array, or None
        The curve that the fit started from, at the wavelengths of `passband`. None in files of earlier versions.
    transmission_error : (m,) array, or None
        Standard error of the transmission of `passband`, of curves with the same integral.

    Notes
    -----
    Errors are statistical: those of XP itself are common to stars, and do not average out.

    Examples
    --------
    >>> stars, g = xpjax.simulate_sources(200, seed=1), xpjax.load_passbands("minisitian")["g"]
    >>> observed = xpjax.photometry(stars, g, errors=False)["g"] + 0.05
    >>> fit = xpjax.fit_passband(stars, observed, 0.01, g, ("zero_point",))
    >>> value, error = fit["zero_point"]
    >>> abs(value - 0.05) < 5 * error, fit.to_table().colnames
    (True, ['parameter', 'value', 'error', 'covariance'])
    """

    names: tuple[str, ...]
    value: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    passband: Passband
    effective_wavelength: float
    effective_wavelength_error: float
    magnitude: np.ndarray | None
    used: np.ndarray | None
    chi2: float
    degrees_of_freedom: int
    converged: bool
    label: str = "passband"
    start: np.ndarray | None = None
    transmission_error: np.ndarray | None = None

    def __getitem__(self, name: str) -> tuple[float, float]:
        """Value and error of one parameter."""
        if name not in self.names:
            raise KeyError(f"{name!r} was not fitted; these were: {list(self.names)}")
        k = self.names.index(name)
        return float(self.value[k]), float(self.error[k])

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix (k, k) of the parameters."""
        return self.covariance / np.outer(self.error, self.error)

    @property
    def degenerate(self) -> tuple[tuple[str, str, float], ...]:
        """Pairs of parameters that the stars can hardly tell apart (|correlation| > 0.9), and their correlation."""
        r, n = self.correlation, sum(not name.startswith(FREE) for name in self.names)
        return tuple(
            (self.names[i], self.names[j], float(r[i, j])) for i in range(n) for j in range(i) if abs(r[i, j]) > 0.9
        )

    def __str__(self) -> str:
        lines = [f"{name:<16} {v:+.5g} +- {e:.2g}" for name, v, e in zip(self.names, self.value, self.error)]
        lines += [f"effective wavelength {self.effective_wavelength:.3f} +- {self.effective_wavelength_error:.3f} nm"]
        lines += [f"chi2 {self.chi2:.1f} for {self.degrees_of_freedom} degrees of freedom, {self.n_star} stars"]
        lines += [f"degenerate: {a} and {b}, correlation {r:+.3f}" for a, b, r in self.degenerate]
        return "\n".join(lines if self.converged else [*lines, "NOT CONVERGED"])

    @property
    def n_star(self) -> int:
        """Number of stars that took part."""
        return self.degrees_of_freedom + len(self.names)

    @property
    def passbands(self) -> PassbandSet:
        """The fitted curve as a set, with what the fit found in its metadata, to be written."""
        meta = {
            "fit_parameters": list(self.names),
            "fit_value": self.value.tolist(),
            "fit_error": self.error.tolist(),
            "fit_covariance": self.covariance.tolist(),
            "fit_chi2": self.chi2,
            "fit_degrees_of_freedom": self.degrees_of_freedom,
            "fit_stars": self.n_star,
            "fit_converged": self.converged,
            "effective_wavelength": self.effective_wavelength,
            "effective_wavelength_error": self.effective_wavelength_error,
        }
        band = dataclasses.replace(self.passband, meta={**self.passband.meta, **meta})
        return PassbandSet(f"{self.label}_fit", (band,))

    def plot(self) -> Figure:
        """Draw the fitted curve with its error over the curve at the start, and the change beneath.

        Returns
        -------
        matplotlib.figure.Figure
            The figure; `savefig` writes it.

        Raises
        ------
        XpjaxError
            If the fit is from a file of an earlier version, which has no errors of the curve.
        """
        return plot_passband_fit(self)

    def catalogue(self) -> Catalogue:
        """The parameters, one a row; the curve is shared by all rows."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        own = {name: getattr(self.passband, name) for name in _OWN}
        return Catalogue(
            {
                "parameter": np.array(self.names, str),
                "value": self.value,
                "error": self.error,
                "covariance": self.covariance,
            },
            units={"wavelength": "nm"},
            descriptions={
                "parameter": "Parameter of the transmission curve",
                "value": "Fitted value",
                "error": "Standard error",
                "covariance": "Covariance with all parameters, in the order of the rows",
            },
            shared={
                "wavelength": self.passband.wavelength,
                "transmission": self.passband.transmission,
                **{name: array for name in _CURVES if (array := getattr(self, name)) is not None},
            },
            meta={**plain, "passband": json.dumps({**own, "meta": dict(self.passband.meta)})},
        )


_PLAIN = ("label", "chi2", "degrees_of_freedom", "converged", "effective_wavelength", "effective_wavelength_error")
_CURVES = ("start", "transmission_error")
_OWN = ("name", "detector", "magnitude", "zero_point")


def read_passband_fit(path: PathLike) -> PassbandFit:
    """Read a fit of a transmission curve that `xpjax.write` wrote.

    Parameters
    ----------
    path : str or path
        The file, in any format that xpjax writes but CSV.

    Returns
    -------
    PassbandFit
        Parameters, covariance and curve; what belongs to the stars (`magnitude`, `used`) is None.

    Raises
    ------
    XpjaxError
        If the file holds no such fit.

    Examples
    --------
    >>> stars, g = xpjax.simulate_sources(200, seed=1), xpjax.load_passbands("minisitian")["g"]
    >>> observed = xpjax.photometry(stars, g, errors=False)["g"]
    >>> fit = xpjax.fit_passband(stars, observed, 0.01, g, ("zero_point",))
    >>> xpjax.write("fit.ecsv", fit)
    >>> xpjax.synthetic.read_passband_fit("fit.ecsv")["zero_point"] == fit["zero_point"]
    True
    """
    table = read_catalogue(path)
    expected = {"parameter", "value", "error", "covariance", "wavelength", "transmission", "passband", *_PLAIN}
    absent = sorted(expected - {*table.columns, *table.shared, *table.meta})
    if absent:
        raise XpjaxError(f"{path} has no {absent[0]}: it is no fit of a transmission curve that xpjax.write wrote")
    own = json.loads(table.meta["passband"])
    curve = Passband(wavelength=table.shared["wavelength"], transmission=table.shared["transmission"], **own)
    k = len(table)
    return PassbandFit(
        names=tuple(map(str, table.columns["parameter"])),
        value=table.columns["value"],
        error=table.columns["error"],
        covariance=np.reshape(table.columns["covariance"], (k, k)),
        passband=curve,
        magnitude=None,
        used=None,
        **{name: table.meta[name] for name in _PLAIN},
        start=table.shared.get("start"),
        transmission_error=table.shared.get("transmission_error"),
    )
