"""Instrument models: from coefficients to absolute or internal spectra, as constant matrices.

design(lambda) = T B psi(u(lambda) s + o) 1e9 h c / (A R(lambda) lambda), 0 where R <= 0, with the dispersion u and the
response R from interpolating cubic splines (Montegriffo et al. 2023, A&A 674 A3). The weights with which BP hands
over to RP are folded in once: flux, error and covariance all use the same matrix. A corrected instrument adds a
constant matrix (`xpjax.xp.correction`), with which every sample draws on all coefficients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from xpjax.core.constants import (
    FLUX_UNIT,
    MERGE_RANGE,
    PLANCK,
    PSEUDO_RANGE,
    PUPIL_AREA,
    SIGMA_PER_FWHM,
    SPEED_OF_LIGHT,
    XP_RANGE,
)
from xpjax.core.errors import XpjaxError
from xpjax.core.grids import check_grid
from xpjax.core.linalg import host_dot, pair_weights
from xpjax.core.paths import release_file
from xpjax.core.records import AnyArray, Record
from xpjax.core.release import DR3, Release, find_release, release_of
from xpjax.core.units import nanometers
from xpjax.io.hdf5 import open_hdf5
from xpjax.xp.basis import HermiteBasis, SplineBasis
from xpjax.xp.compact import Subspace
from xpjax.xp.correction import AnyLinear, LinearCorrection, load_correction

LINE_WIDTH = 1.17
"""FWHM of XP's line spread in units of pseudo-wavelength, the same everywhere to 4 % RMS: R(lambda) at 32 wavelengths,
after Montegriffo et al. (2023), and the dispersion of the instrument model give 1.10..1.29 with this median."""
SMOOTHING_STEP = 0.5
"""Step [nm] of the spectra that are smoothed to XP's resolution: a twentieth of its sharpest line spread."""


class DesignMatrix(eqx.Module):
    """The constant matrix of a sampled spectrum: `coefficients @ value * scale` is the flux.

    value (n_basis_total, n_sample), scaled to order one; share (n_xp, n_sample), the weight with which each XP enters
    (1 where it stands alone); pair_weight for each XP (n_pair, n_support), of compact
    covariances a tuple of these for each part, or None. support: for each XP the samples
    [start, stop) where its rows are not all zero. mixed: every sample needs all XP, as in a corrected instrument.
    """

    value: Float[AnyArray, "n_basis_total n_sample"]
    scale: Float[AnyArray, ""]
    share: Float[AnyArray, "n_xp n_sample"]
    pair_weight: tuple[Any, ...] | None
    support: tuple[tuple[int, int], ...] = eqx.field(static=True)
    release: Release = eqx.field(static=True)
    mixed: bool = eqx.field(static=True, default=False)

    def with_pair_weights(self, subspace: Subspace | None = None) -> DesignMatrix:
        """The same with the weights that errors need, of packed correlations or of compact covariances."""
        value, weights = np.asarray(self.value), []
        for k, (rows, (start, stop)) in enumerate(zip(self.release.slices, self.support, strict=True)):
            part = value[:, start:stop]
            weights.append(pair_weights(part[rows]) if subspace is None else subspace.weights(part, k))
        return dataclasses.replace(self, pair_weight=tuple(weights))


@dataclasses.dataclass(frozen=True)
class AbsoluteModel:
    """One photometer's external calibration: dispersion, response and the inverse basis."""

    dispersion: np.ndarray
    response: np.ndarray
    transformation: np.ndarray
    basis: HermiteBasis | SplineBasis

    def pseudo_wavelength(self, wavelength: np.ndarray) -> np.ndarray:
        """Pseudo-wavelength of wavelengths [nm]."""
        return _spline(*self.dispersion)(nanometers(wavelength))

    def design(self, wavelength: np.ndarray) -> np.ndarray:
        """Design matrix (n_basis, n_sample) [W m-2 nm-1] at wavelengths [nm]."""
        wavelength = nanometers(wavelength)
        response = _spline(*self.response)(wavelength)
        good = response > 0
        factor = 1e9 * PLANCK * SPEED_OF_LIGHT / (PUPIL_AREA * np.where(good, response, 1.0) * wavelength)
        return self.transformation @ self.basis(self.pseudo_wavelength(wavelength)) * np.where(good, factor, 0.0)


@dataclasses.dataclass(frozen=True, repr=False)
class Instrument(Record):
    """Hold an instrument model: what makes absolute and internal spectra of XP coefficients.

    `load_instrument` makes one. All arrays are on the host, in float64.

    Parameters
    ----------
    model : str
        Name of the model, such as `v375wi/v142r`.
    release : Release
        The data release of the coefficients.
    absolute : mapping
        External calibration of each XP: dispersion, response and inverse basis.
    internal : mapping
        Bases of internal spectra: by kind (of DR3 `hermite` and `bspline_c04`), then by XP.
    wavelength : (n,) array [nm]
        The archive's sampling, 336, 338, ... 1020 nm of Gaia DR3.
    default_design : (n_basis_total, n) array [W m-2 nm-1]
        Published design matrix on these wavelengths, with the weights of BP and RP in it.
    default_weight : (n_xp, n) array
        Weights with which BP and RP enter the merged spectrum.
    provenance : mapping
        Where the numbers are from.
    correction : LinearCorrection or None
        What `design` adds to the design matrix.
    merge_range : tuple of two floats [nm]
        Where BP hands over linearly to RP.
    wavelength_range : tuple of two floats [nm]
        Where absolute spectra are defined.

    Notes
    -----
    The design matrix of an XP is T B psi(u(l) s + o) 1e9 h c / (A R(l) l), with the dispersion u and the response R
    (Montegriffo et al. 2023, A&A 674, A3).

    Examples
    --------
    >>> instrument = xpjax.load_instrument()
    >>> instrument.resolution(np.array([500.0, 800.0])).round()
    array([36., 64.])
    """

    model: str
    release: Release
    absolute: Mapping[str, AbsoluteModel]
    internal: Mapping[str, Mapping[str, HermiteBasis | SplineBasis]]
    wavelength: np.ndarray
    default_design: np.ndarray
    default_weight: np.ndarray
    provenance: Mapping[str, object] = dataclasses.field(default_factory=dict)
    correction: LinearCorrection | None = None
    merge_range: tuple[float, float] = MERGE_RANGE
    wavelength_range: tuple[float, float] = XP_RANGE

    def corrected(self, correction: AnyLinear = "standard") -> Instrument:
        """The instrument with a linear correction: "standard", a file, a `LinearCorrection`, or None for without.

        Design matrices, and all that is made of them, are then those of corrected spectra, at full resolution. Raises
        ValueError for a correction of another release or instrument model.

        >>> design = xpjax.load_instrument().corrected("standard").design(np.arange(400.0, 900.0))
        """
        chosen = load_correction(correction)
        if chosen is not None:
            chosen.check(self.release, self.model)
        return dataclasses.replace(self, correction=chosen)

    def resolution(self, wavelength: np.ndarray) -> np.ndarray:
        """XP's resolving power lambda / FWHM (n,) at wavelengths (n,) [nm].

        The line spread has the same width everywhere in pseudo-wavelength, so that R = lambda |du/dlambda| / 1.17 with
        the dispersion; where BP hands over to RP (635..643 nm), their widths with the merge weights. The width is that
        measured on Gaia DR3's models; the photometers are the same in every release.
        """
        x = np.asarray(nanometers(wavelength), float)
        width = np.zeros(len(x))
        for share, xp in zip(merge_weights(x, self.merge_range), self.release.xp, strict=True):
            below, above = (self.absolute[xp].pseudo_wavelength(x + side) for side in (-1.0, 1.0))
            width += share * LINE_WIDTH / np.abs(0.5 * (above - below))
        return x / width

    def line_spread(self, wavelength: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """Weights (n, m) of samples at fine (m,) [nm] in what XP's line spread sees at wavelengths (n,)."""
        wavelength, fine = nanometers(wavelength), nanometers(fine)
        sigma = wavelength / self.resolution(wavelength) * SIGMA_PER_FWHM
        kernel = np.exp(-0.5 * ((wavelength[:, None] - fine) / sigma[:, None]) ** 2)
        return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))

    def smoothed_design(self, wavelength: np.ndarray | None = None) -> DesignMatrix:
        """As `design`, of spectra seen at XP's own resolving power, convolved with its Gaussian line spread.

        Model spectra at XP's R(lambda) compare with these.
        """
        low, high = self.wavelength_range
        at = self.wavelength if wavelength is None else check_grid(wavelength, (low, high), "wavelength", "nm")
        fine = np.arange(low, high + 0.1, SMOOTHING_STEP)
        made = self.design(fine)
        share = np.full((len(self.release.xp), len(at)), 1.0 / len(self.release.xp))
        support = ((0, len(at)),) * len(self.release.xp)
        value = host_dot(made.value, self.line_spread(at, fine).T)
        return dataclasses.replace(made, value=value, share=share, support=support, mixed=True)

    def design(self, wavelength: np.ndarray | None = None) -> DesignMatrix:
        """The design matrix of absolute spectra on a grid [nm], ascending within `wavelength_range`, or on the default.

        The grid may be an astropy Quantity. Raises ValueError for one that is empty, unsorted, not finite, out of range
        or of a unit that is no length.
        """
        if wavelength is None:
            wavelength, value, weight = self.wavelength, self.default_design, self.default_weight
        else:
            wavelength = check_grid(wavelength, self.wavelength_range, "wavelength", "nm")
            weight = merge_weights(wavelength, self.merge_range)
            value = np.zeros((self.release.n_basis_total, len(wavelength)))
            for rows, xp, share in zip(self.release.slices, self.release.xp, weight, strict=True):
                used = share > 0
                value[rows, used] = self.absolute[xp].design(wavelength[used]) * share[used]
        if self.correction is not None:
            # Both XP see every sample: their shares say only that none may be missing.
            weight = np.full_like(weight, 1.0 / len(weight))
            value = value + self.correction.at(wavelength)
        return _design_matrix(value, FLUX_UNIT, weight, self.release, self.correction is not None)

    @property
    def internal_basis(self) -> str:
        """The kind of the bases that the coefficients are of: of `internal`, the one with the release's sizes."""
        sizes = {kind: tuple(by_xp[xp].n_basis for xp in self.release.xp) for kind, by_xp in self.internal.items()}
        for kind in sizes:
            if sizes[kind] == self.release.n_basis:
                return kind
        raise XpjaxError(f"{self.release.name} has {self.release.n_basis} coefficients, its internal bases {sizes}")

    def internal_design(self, pseudo: np.ndarray, basis: str | None = None) -> DesignMatrix:
        """The design matrix of internal spectra [e-/s], all XP side by side: n_xp x n_sample columns.

        pseudo: ascending pseudo-wavelengths within -10..70; basis: by default that of the coefficients, of DR3
        "hermite" or "bspline_c04". Raises ValueError.
        """
        pseudo = check_grid(pseudo, PSEUDO_RANGE, "pseudo-wavelength", "")
        basis = basis or self.internal_basis
        if basis not in self.internal:
            raise XpjaxError(f"no internal basis {basis!r}; this instrument has {sorted(self.internal)}")
        bases = [self.internal[basis][xp] for xp in self.release.xp]
        release, sizes = self.release, tuple(b.n_basis for b in bases)
        if sizes != release.n_basis:
            release = Release(f"{release.name} {basis}", sizes, release.xp)
        n = len(pseudo)
        value = np.zeros((release.n_basis_total, n * len(bases)))
        share = np.zeros((len(bases), n * len(bases)))
        for k, (rows, evaluate) in enumerate(zip(release.slices, bases, strict=True)):
            value[rows, k * n : (k + 1) * n] = evaluate(pseudo)
            share[k, k * n : (k + 1) * n] = 1.0
        return _design_matrix(value, 1.0, share, release)


def _design_matrix(
    value: AnyArray, scale: float, share: np.ndarray, release: Release, mixed: bool = False
) -> DesignMatrix:
    support = tuple((int(u[0]), int(u[-1]) + 1) if len(u) else (0, 0) for u in map(np.flatnonzero, share))
    return DesignMatrix(value / scale, np.asarray(scale), share, None, support, release, mixed)


def merge_weights(wavelength: np.ndarray, merge_range: tuple[float, float] = MERGE_RANGE) -> np.ndarray:
    """Weights (2, n) of BP and RP in the merged spectrum: linear from BP to RP within a range, 635..643 nm."""
    low, high = merge_range
    rp = np.clip((np.asarray(nanometers(wavelength)) - low) / (high - low), 0.0, 1.0)
    return np.stack([1.0 - rp, rp])


def _spline(x: np.ndarray, y: np.ndarray) -> Any:
    """The interpolating not-a-knot cubic spline."""
    from scipy.interpolate import make_interp_spline

    return make_interp_spline(x, y, k=3)


def load_instrument(
    model: str | None = None, path: str | Path | None = None, release: Release | str | None = None
) -> Instrument:
    """Load an instrument model of Gaia's BP and RP photometers.

    Parameters
    ----------
    model : str, optional
        Name of a model; by default that of the released spectra. Of Gaia DR3 there are `v375wi/v142r` and
        `v211w/v142r`.
    path : str or Path, optional
        HDF5 file of instrument models, as tools/build_instrument.py makes it.
    release : Release or str, optional
        Data release of the coefficients, such as `Gaia DR4`; by default Gaia DR3. Its file is one that xpjax ships, or
        `instrument_dr4.h5` in the folder that the environment variable XPJAX_DATA names.

    Returns
    -------
    Instrument
        The model without a correction; see `Instrument.corrected`.

    Raises
    ------
    XpjaxError
        If there are no models of the release, the file has none of this name or of another release, or is no file of
        instrument models.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> xpjax.load_instrument().release.n_basis
    (55, 55)
    """
    wanted = None if release is None else find_release(release)
    file = Path(path).expanduser() if path is not None else release_file("instrument", wanted or DR3)
    if not file.exists():
        raise FileNotFoundError(f"no instrument file {file}")
    made = _instrument(file, file.stat().st_mtime_ns, model)
    check_release(file, made.release, wanted)
    return made


def check_release(path: Path, found: Release, wanted: Release | None) -> None:
    """Raise XpjaxError where a file is for another release than the one that was asked for."""
    if wanted is not None and not found.fits(wanted):
        raise XpjaxError(
            f"{path} is for {found.name} with {found.n_basis} coefficients, not for {wanted.name} with "
            f"{wanted.n_basis}; give a file of the release of the data"
        )


@functools.lru_cache(maxsize=8)
def _instrument(path: Path, changed: int, model: str | None) -> Instrument:
    """A model of a file; changed, its time of change, tells that a file is another one now."""
    with open_model(path, "instrument") as file:
        release = release_of(file.attrs)
        models = {"/".join(map(str, node.attrs["parts"])): node for node in file["model"].values()}
        names = list(models)
        if model is None and len(names) > 1 and "default_model" not in file.attrs:
            raise XpjaxError(f"{path.name} has the instrument models {names} and no default: name one as model=")
        model = str(file.attrs.get("default_model", names[0])) if model is None else model
        if model not in names:
            raise XpjaxError(f"no instrument model {model!r}; {path.name} has {names}")
        group = models[model]
        absolute = {}
        for xp, part in zip(release.xp, group.attrs["parts"], strict=True):
            node = file[f"absolute/{xp}/{part}"]
            arrays = {key: node[key][()] for key in ("dispersion", "response", "transformation")}
            absolute[xp] = AbsoluteModel(**arrays, basis=_basis(node, "inverse_basis"))
        internal = {kind: {xp: _basis(by_xp[xp]) for xp in release.xp} for kind, by_xp in file["internal"].items()}
        weight = np.stack([group[f"{xp}_weight"][()] for xp in release.xp])
        design = np.concatenate(
            [group[f"{xp}_design"][()] * share for xp, share in zip(release.xp, weight, strict=True)]
        )
        provenance = {key: value for key, value in file.attrs.items() if key.startswith("source")}
        ranges: dict[str, Any] = {
            key: tuple(float(end) for end in group.attrs.get(key, standard))
            for key, standard in (("merge_range", MERGE_RANGE), ("wavelength_range", XP_RANGE))
        }
        fields: Any = (model, release, absolute, internal, group["wavelength"][()], design, weight, provenance)
        return Instrument(*fields, **ranges)


def dispersion(release: Release = DR3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each XP's dispersion table: wavelength (n,) ascending [nm] and pseudo-wavelength (n,). Raises XpjaxError."""
    return _dispersion(release_file("instrument", release))


@functools.lru_cache(maxsize=4)
def _dispersion(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    with open_model(path, "instrument") as file:
        node = file["dispersion"]
        wavelength = node["wavelength"][()]
        tables = {xp: node[xp][()] for xp in release_of(file.attrs).xp}
    return {xp: (wavelength[np.isfinite(u)], u[np.isfinite(u)]) for xp, u in tables.items()}


def _basis(node: Any, matrix: str = "transformation") -> Any:
    """The basis that a group of an HDF5 file describes, splines or Hermite functions with the matrix of this name."""
    if "knots" in node:
        return SplineBasis(node["knots"][()], int(node.attrs["degree"]), node[matrix][()] if matrix in node else None)
    pseudo, normalized = (tuple(node.attrs[key].tolist()) for key in ("pseudo_range", "normalized_range"))
    return HermiteBasis(node[matrix][()], pseudo, normalized)


@contextlib.contextmanager
def open_model(path: str | Path, kind: str) -> Iterator[Any]:
    """An HDF5 file of instrument models or systems; ValueError, naming it, for a file that is none."""
    try:
        with open_hdf5(path) as file:
            if "release_n_basis" not in file.attrs:
                raise KeyError("no attribute release_n_basis")
            yield file
    except (OSError, KeyError) as error:
        raise XpjaxError(
            f"{Path(path).name} is no xpjax {kind} file ({error}); see tools/build_instrument.py"
        ) from error
