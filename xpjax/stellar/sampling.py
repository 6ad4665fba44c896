"""From model spectra to what XP sees of them: convolved with a Gaussian line spread and sampled, as one sparse matrix.

With s = 1 / (2.3548 R(l)), the standard deviation of ln(wavelength) for a resolving power R = l / FWHM,

    f_out(l) = int G(ln l - ln l'; s) f(l') dln l' / int G dln l'

f is the local cubic through the library's samples, and the integral is Gauss-Legendre quadrature on pieces of at most
0.25 nm, or the sum over the samples themselves where their steps are below a twentieth of the kernel's deviation. A
constant stays the same constant; with a constant R the light of a line changes by s^2 / 2 = 8e-6 of itself (R = 104).
Where the library's samples are already smoothed, by bins or by its own resolution, that variance is taken off the
kernel's, so that the result has the resolution asked for.

What bins have lost stays lost: lines closer than two bins come back as false structure. Means over 2 nm instead of
1 nm change NextGen spectra of 5800 K by 1 % RMS (5 % at 380 nm) at R = 104 and by 0.4 % with XP's R(lambda).

After the convolution a spectrum is smooth over a sample of the grids below, and is sampled at points, not averaged over
pixels: XP spectra are continuous functions, whose samples are values at points too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.constants import SIGMA_PER_FWHM
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import interpolation
from xpjax.core.quadrature import quadrature
from xpjax.core.units import nanometers
from xpjax.io.atomic import expanded
from xpjax.io.number_text import number_columns
from xpjax.io.streams import text_of
from xpjax.stellar.libraries.library import ModelSpectra
from xpjax.xp import Instrument, constant_grid, load_instrument, observation_matrix, variable_grid

SAMPLINGS = ("log330", "variable", "coefficients")
REACH = 5.0
"""Where the kernel ends, in standard deviations: 6e-7 of its integral are beyond."""
COVERED = 4.0
"""How far beyond a sample, in standard deviations, a library must reach."""
SLIGHT = 0.05
"""A kernel with a smaller share of the variance asked for, 2.5 % of the width, is none: the library has that width."""
FINE = 0.05
"""Steps of a library, in standard deviations of the kernel, below which its samples are summed as they are."""
COARSEST = 1.0
"""Longest step of a library in units of the FWHM asked for."""
FIT_STEP = 1.0
"""Steps [nm] of the spectra to which coefficients are fitted."""


@dataclasses.dataclass(frozen=True)
class Resolution:
    """R = lambda / FWHM: its name, and value (n,) at wavelength (n,) [nm], linear between, constant beyond."""

    name: str
    wavelength: np.ndarray
    value: np.ndarray

    def __call__(self, wavelength: np.ndarray) -> np.ndarray:
        """R (m,) at wavelengths (m,) [nm]."""
        return np.interp(nanometers(wavelength), self.wavelength, self.value)


def find_resolution(spec: Any, instrument: Instrument | None = None) -> Resolution | None:
    """A resolution by a number R, by `xp`, or by a file of two columns, wavelength [nm] and R; None for `own`.

    xp: the line spread has the same width everywhere in pseudo-wavelength, so that R = lambda |du/dlambda| / 1.17 with
    the instrument model's dispersion; where BP hands over to RP (635..643 nm), their widths with the merge weights.
    It agrees with the published R(lambda) to 4 % RMS, 10 % at 350 and 630 nm. R falls from 79 at 350 nm to 24 at
    635 nm, rises to 85 at 643 nm and falls to 56 at 1020 nm: near 640 nm a line's light is not kept, in BP it is broad
    and ends where RP takes over. own: the library's samples are taken as they are, interpolated.

    Raises ValueError for another word, and for a file without two columns of positive numbers, FileNotFoundError.
    """
    text = str(spec).strip()
    if text == "own":
        return None
    if text == "xp":
        return _xp_resolution(instrument or load_instrument())
    try:
        number = float(text)
    except ValueError:
        return _read_resolution(expanded(text))
    if not 0 < number < np.inf:
        raise XpjaxError(f"resolution {text}: a resolving power lambda / FWHM is above zero")
    return Resolution(f"R = {number:g}", np.array([1.0]), np.array([number]))


def _xp_resolution(model: Instrument) -> Resolution:
    low, high = model.wavelength_range
    x = np.arange(low, high + 0.1, 1.0)
    return Resolution("XP R(lambda)", x, model.resolution(x))


def _read_resolution(path: Path) -> Resolution:
    if not path.is_file():
        raise FileNotFoundError(
            f"no resolution {str(path)!r}: give a number, xp, own, or a file of wavelength [nm] and R"
        )
    x, r = number_columns(path, text_of(path), 2, heading=True, expected="wavelength [nm] and R")
    if len(x) < 2 or not (x > 0).all() or not (r > 0).all() or not (np.diff(x) > 0).all():
        raise XpjaxError(f"{path}: expected two or more lines of wavelength [nm], ascending, and R, both above zero")
    return Resolution(f"R(lambda) of {path.name}", x, r)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Where a grid is sampled: name, wavelength (n,) [nm] of the samples, and where spectra are needed for them.

    For coefficients, solver (n_basis_total, m) turns spectra at needed (m,) into coefficients, and `wavelength` is the
    grid on which they are judged and normalized.
    """

    name: str
    wavelength: np.ndarray
    needed: np.ndarray
    solver: np.ndarray | None = None
    design: np.ndarray | None = None


def find_sampling(spec: Any, shape: Resolution | None, instrument: Instrument | None = None) -> Sampling:
    """A sampling by its name, or wavelengths (n,), ascending, numbers in nm or a Quantity.

    log330: 330 samples on 360..990 nm, even in the logarithm. variable: 270 on 360..992.1 nm, each step the same share
    of FWHM(lambda), of XP where `shape` is a constant R or none (Ye et al. 2024). coefficients: XP coefficients c, as
    Gaia would observe them (`xpjax.xp.observation_matrix`), so that c D is the spectrum, D the absolute design matrix;
    real coefficients compare best with models at their own resolution. What D cannot make, c does not have: with
    R(lambda) of XP 0.4..0.8 % RMS of the spectrum remain from 4000 to 7000 K, with R = 104 2 % and more. Raises
    ValueError.
    """
    if not isinstance(spec, str):
        wavelength = np.asarray(nanometers(spec, "sampling"), float)
        if wavelength.ndim != 1 or len(wavelength) < 2 or not (np.diff(wavelength) > 0).all() or not wavelength[0] > 0:
            raise XpjaxError(f"sampling: expected two or more ascending wavelengths [nm], found {spec!r:.60}")
        return Sampling("own", wavelength, wavelength)
    if spec not in SAMPLINGS:
        raise XpjaxError(f"sampling {spec!r} is not one of {', '.join(SAMPLINGS)}, nor wavelengths")
    if spec == "log330":
        return Sampling(spec, constant_grid(), constant_grid())
    model = instrument or load_instrument()
    if spec == "variable":
        curve = shape if shape is not None and len(shape.value) > 1 else _xp_resolution(model)
        grid = variable_grid(curve.wavelength, curve.value)
        return Sampling(spec, grid, grid)
    low, high = model.wavelength_range
    needed = np.arange(low, high + FIT_STEP / 2, FIT_STEP)
    made = model.design(constant_grid())
    solver = observation_matrix(needed, model).T * float(made.scale)
    return Sampling(spec, constant_grid(), needed, solver, np.asarray(made.value))


class Sampler:
    """Convolves and samples spectra of one wavelength grid: matrix (n_out, n_used) on the library's samples `used`.

    Raises ValueError for a library that does not reach far enough, is sampled too coarsely, or has a lower resolution.
    """

    def __init__(self, spectra: ModelSpectra, at: np.ndarray, shape: Resolution | None) -> None:
        from scipy import sparse

        self.wavelength, self.variance = spectra.wavelength, spectra.variance
        library, at = spectra.wavelength, np.asarray(at, float)
        sigma = np.zeros(len(at)) if shape is None else self._kernel(spectra, at, shape)
        reach = np.exp(COVERED * sigma)
        if library[0] > (at / reach).min() or library[-1] < (at * reach).max():
            raise XpjaxError(
                f"{spectra.file}: the library covers {library[0]:g}..{library[-1]:g} nm, and {(at / reach).min():g}.."
                f"{(at * reach).max():g} nm are needed for samples on {at[0]:g}..{at[-1]:g} nm; take fewer samples, or "
                "a library that reaches farther"
            )
        farthest = np.exp(REACH * sigma.max())
        low, high = np.searchsorted(library, [at[0] / farthest, at[-1] * farthest])
        self.used = slice(max(int(low) - 3, 0), int(high) + 3)
        own = library[self.used]
        matrix = _gaussians(own, at, sigma)
        as_is = sigma == 0
        if as_is.any():
            matrix = matrix + sparse.diags_array(as_is.astype(float)) @ interpolation(own, at)
        self.matrix = matrix.tocsr()

    @staticmethod
    def _kernel(spectra: ModelSpectra, at: np.ndarray, shape: Resolution) -> np.ndarray:
        """Standard deviation (n,) of the kernel in ln(wavelength); 0 where the library has the resolution already."""
        library = spectra.wavelength
        wanted = (SIGMA_PER_FWHM / shape(at)) ** 2
        had = np.interp(at, library, spectra.variance) / at**2
        step = np.interp(at, library, np.gradient(library)) / at
        k = int(np.argmax(had / wanted))
        if had[k] > (1 + SLIGHT) * wanted[k]:
            raise XpjaxError(
                f"{spectra.file}: at {at[k]:.4g} nm the library has R = {SIGMA_PER_FWHM / had[k] ** 0.5:.4g}, less "
                f"than {shape(at[k]):.4g}, which is asked for ({shape.name}); take a lower resolution, or own"
            )
        left = wanted - had
        convolved = left > SLIGHT * wanted
        coarse = np.where(convolved, step * shape(at), 0)
        k = int(np.argmax(coarse))
        if coarse[k] > COARSEST:
            raise XpjaxError(
                f"{spectra.file}: at {at[k]:.4g} nm the library has a sample each {step[k] * at[k]:.3g} nm, longer "
                f"than the FWHM {at[k] / shape(at[k]):.3g} nm asked for ({shape.name}); take a lower resolution"
            )
        return np.where(convolved, np.sqrt(np.maximum(left, 0)), 0)

    def fits(self, spectra: ModelSpectra) -> bool:
        """Whether the spectra are on the same wavelengths, smoothed to the same degree."""
        same = np.array_equal(self.wavelength, spectra.wavelength)
        return same and np.array_equal(self.variance, spectra.variance)

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Samples (n, n_out) of spectra (n, m)."""
        return np.asarray((self.matrix @ flux[:, self.used].T).T)


def _gaussians(own: np.ndarray, at: np.ndarray, sigma: np.ndarray) -> Any:
    """Sparse matrix (n, m) from samples at own (m,) [nm] to convolved ones at (n,); rows of sigma 0 are empty."""
    from scipy import sparse

    convolved = sigma > 0
    if not convolved.any():
        return sparse.csr_array((len(at), len(own)))
    # A finely sampled library is summed over its samples: a hundred thousand of them need no pieces in between.
    if np.diff(own).max() < FINE * (at * sigma)[convolved].min():
        nodes, weight, samples = own, np.gradient(own), None
    else:
        nodes, weight, samples = quadrature(own)
    log_nodes, weight = np.log(nodes), weight / nodes
    begin, end = (np.searchsorted(log_nodes, np.log(at) + side * REACH * sigma) for side in (-1, 1))
    end = np.where(convolved, end, begin)
    values = []
    for k in np.flatnonzero(convolved):
        u = (log_nodes[begin[k] : end[k]] - np.log(at[k])) / sigma[k]
        gauss = np.exp(-0.5 * u**2) * weight[begin[k] : end[k]]
        values.append(gauss / gauss.sum())
    columns = np.concatenate([np.arange(a, b, dtype=np.int32) for a, b in zip(begin, end, strict=True)])
    starts = np.append(0, np.cumsum(end - begin)).astype(np.int32)
    matrix = sparse.csr_array((np.concatenate(values), columns, starts), shape=(len(at), len(nodes)))
    return matrix if samples is None else matrix @ samples


def as_coefficients(where: Sampling, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n, n_basis_total) of spectra (n, m), and the RMS (n,) of what they miss, relative to the mean.

    Scaled so that the spectrum c D has a mean of 1e-18 W m-2 nm-1 (FLUX_UNIT) on the samples of `where`.
    """
    assert where.solver is not None
    assert where.design is not None
    value = spectra @ where.solver.T
    made = value @ where.design
    mean = made.mean(axis=1, keepdims=True)
    true = np.stack([np.interp(where.wavelength, where.needed, row) for row in spectra])
    return value / mean, np.sqrt(np.mean((made - true) ** 2, axis=1)) / np.abs(true.mean(axis=1))


def interpolate_spectra(wavelength: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Spectra (n, m) at wavelengths (k,), linear between samples. Raises ValueError where they do not reach."""
    if at[0] < wavelength[0] - 1e-6 or at[-1] > wavelength[-1] + 1e-6:
        raise XpjaxError(
            f"the spectra cover {wavelength[0]:g}..{wavelength[-1]:g} nm, the grid needs {at[0]:g}..{at[-1]:g} nm"
        )
    k = np.clip(np.searchsorted(wavelength, at, side="right") - 1, 0, len(wavelength) - 2)
    t = ((at - wavelength[k]) / (wavelength[k + 1] - wavelength[k])).astype(values.dtype)
    return values[:, k] * (1 - t) + values[:, k + 1] * t
