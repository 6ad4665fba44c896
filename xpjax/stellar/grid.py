"""Grids of model spectra over stellar labels, built from a library; `grid_file` keeps them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray
from xpjax.core.version import __version__
from xpjax.stellar.libraries import LibraryOptions, read_library
from xpjax.stellar.libraries.library import Library, Limits, check_limits, named, plain_limits, within
from xpjax.stellar.sampling import Resolution, Sampler, Sampling, as_coefficients, find_resolution, find_sampling
from xpjax.stellar.scattered import krige
from xpjax.xp import Instrument

ORDER = ("teff", "logg", "mh")
"""Labels that come first, in this order."""
FILLED_ERROR = 0.02
"""Holes that do not lie between two models next to them are filled where this error is expected at most."""
LEAST_FLOOR = 0.002
"""What templates of errors common to stars leave at least: fits of bright stars with less do not converge."""


class StellarGrid(eqx.Module):
    """Hold mean-normalized model spectra at the nodes of a regular grid of labels, on one wavelength grid, on the host.

    Parameters
    ----------
    nodes : tuple of (n_node,) arrays
        Ascending values of each label, in the order of names [K for teff, dex for logg and mh].
    flux : (n_1, n_2, ..., n_wavelength) array
        Each spectrum divided by its mean over the samples; NaN at the holes.
    wavelength : (n_wavelength,) array
        Wavelengths in vacuum [nm].
    names : tuple of str
        Names of the labels, such as teff, logg and mh.
    resolution, origin : str, optional
        How the spectra were made.
    sampling : str, optional
        log330, variable or own wavelengths; with "coefficients" the last axis is XP coefficients instead, scaled so
        that the spectrum has a mean of 1e-18 W m-2 nm-1 on 360..990 nm, and wavelength is their number.
    provenance : str, optional
        JSON of what the grid was built from.
    filled : (n_1, n_2, ...) array of bool, optional
        Where spectra were interpolated from other nodes; None for nowhere.
    error : (n_1, n_2, ...) array, optional
        What the interpolation of scattered models is wrong by at each node, RMS over the samples as a fraction of the
        RMS flux: found by leaving out each model, expected where spectra were filled in; NaN at the holes.
    doubt : (n_1 or 1, n_2 or 1, ..., n_wavelength) array, optional
        What the interpolation may be wrong by at each node, as fractions of its flux: what the models around make of
        it, less its own spectrum; where it was filled, what two interpolations differ by, in the size of `error`. Zero
        where nothing is known; one node for labels that it does not depend on. With it label fits know of the error of
        their interpolation.
    systematic : (n_template, n_wavelength) array, optional
        What models and instrument are wrong by in all stars alike: templates A, as fractions of the flux, whose
        amplitudes have a variance of one, so that A'A is the covariance of these errors.
    systematic_variance : (n_color, 1 + n_template) array, optional
        Variances of these amplitudes where they are not one for all stars: the first column is the mean wavelength [nm]
        of a star's light over the samples, sum f l / sum f, ascending; between and beyond, linear and constant.
    systematic_floor : float, optional
        What the templates leave in each sample, as a fraction of the flux: fits with them count it as an error.

    Raises
    ------
    XpjaxError
        If the shapes do not fit, or nodes do not ascend.

    Examples
    --------
    >>> wavelength = np.linspace(360.0, 990.0, 5)
    >>> xpjax.stellar.StellarGrid((np.array([4000.0, 5000.0]),), np.ones((2, 5)), wavelength, ("teff",))
    StellarGrid(2 teff, 5 wavelengths 360..990 nm)
    """

    nodes: tuple[np.ndarray, ...]
    flux: Float[AnyArray, "*node n_wavelength"]
    wavelength: Float[AnyArray, " n_wavelength"]
    names: tuple[str, ...] = eqx.field(static=True)
    resolution: str = eqx.field(static=True, default="")
    origin: str = eqx.field(static=True, default="")
    sampling: str = eqx.field(static=True, default="own")
    provenance: str = eqx.field(static=True, default="{}")
    filled: Bool[AnyArray, "*node"] | None = None
    error: Float[AnyArray, "*node"] | None = None
    doubt: Float[AnyArray, "*node_or_1 n_wavelength"] | None = None
    systematic: Float[AnyArray, "n_template n_wavelength"] | None = None
    systematic_variance: Float[AnyArray, "n_color n_template_and_1"] | None = None
    systematic_floor: float = eqx.field(static=True, default=LEAST_FLOOR)

    def __check_init__(self) -> None:
        shape = (*(len(node) for node in self.nodes), len(self.wavelength))
        if len(self.names) != len(self.nodes) or np.shape(self.flux) != shape:
            raise XpjaxError(
                f"flux has shape {np.shape(self.flux)}, expected {shape}: the nodes of {', '.join(self.names)}, then "
                "the wavelengths"
            )
        for name, node in zip(self.names, self.nodes, strict=True):
            if not (np.diff(node) > 0).all():
                raise XpjaxError(f"the nodes of {name} do not ascend: {np.asarray(node)}")
        if self.doubt is not None:
            found = np.shape(self.doubt)
            if len(found) != len(shape) or any(n not in (1, m) for n, m in zip(found, shape, strict=True)):
                raise XpjaxError(f"doubt has shape {found}, expected {shape}, or one node for some of the labels")
        if self.systematic is not None:
            found = np.shape(self.systematic)
            if len(found) != 2 or found[1] != shape[-1] or not np.isfinite(self.systematic).all():
                raise XpjaxError(f"systematic has shape {found}, expected finite templates (n_template, {shape[-1]})")
            if self.sampling == "coefficients":
                raise XpjaxError("systematic errors are fractions of a flux, which a grid of XP coefficients has not")
        if not 0 <= self.systematic_floor < 1:
            raise XpjaxError(f"systematic_floor={self.systematic_floor}: expected a fraction of the flux, such as 0.01")
        if self.systematic_variance is not None:
            table = np.asarray(self.systematic_variance)
            expected = 0 if self.systematic is None else 1 + len(self.systematic)
            fits = table.ndim == 2 and table.shape[1] == expected
            if not fits or not (table >= 0).all() or (np.diff(table[:, 0]) <= 0).any():
                raise XpjaxError(
                    f"systematic_variance has shape {table.shape}, expected (n_color, {expected}): ascending mean "
                    "wavelengths, and variances of each template of systematic, zero or more"
                )

    def __repr__(self) -> str:
        x, holes = np.asarray(self.wavelength), int(self.holes.sum())
        nodes = " x ".join(f"{len(node)} {name}" for name, node in zip(self.names, self.nodes, strict=True))
        samples = f"{len(x)} wavelengths {x[0]:g}..{x[-1]:g} nm"
        parts = [nodes, f"{len(x)} XP coefficients" if self.sampling == "coefficients" else samples]
        parts += [f"{holes} holes"] * (holes > 0) + [self.origin] * bool(self.origin)
        return f"StellarGrid({', '.join(parts)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of nodes of each label."""
        return tuple(len(node) for node in self.nodes)

    @property
    def holes(self) -> Bool[np.ndarray, "*node"]:
        """Where there is no spectrum."""
        return np.isnan(np.asarray(self.flux)[..., 0])

    def labels_of(self, where: Bool[np.ndarray, "*node"]) -> Float[np.ndarray, "n n_label"]:
        """Labels (n, n_label) of the nodes where a mask is true."""
        return np.stack([node[i] for node, i in zip(self.nodes, np.nonzero(where), strict=True)], axis=1)

    def select(self, limits: Mapping[str, Sequence[float | None]]) -> StellarGrid:
        """The nodes within limits, (low, high) or (low, high, step) by label. Raises ValueError where none is left."""
        limits = plain_limits(limits)
        check_limits(limits, self.names, "the grid")
        kept = [within([k], n[:, None], limits) for k, n in zip(self.names, self.nodes, strict=True)]
        empty = [name for name, rows in zip(self.names, kept, strict=True) if not rows.any()]
        if empty:
            raise XpjaxError(f"no node of {', '.join(empty)} is within the limits {dict(limits)}")
        index = np.ix_(*(np.flatnonzero(rows) for rows in kept))
        return dataclasses.replace(
            self,
            nodes=tuple(node[rows] for node, rows in zip(self.nodes, kept, strict=True)),
            flux=np.asarray(self.flux)[index],
            filled=None if self.filled is None else np.asarray(self.filled)[index],
            error=None if self.error is None else np.asarray(self.error)[index],
            doubt=None if self.doubt is None else np.asarray(self.doubt)[_within_shape(kept, np.shape(self.doubt))],
        )


def _within_shape(kept: list[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The index of the nodes that are kept, of an array that may have one node for a label."""
    return np.ix_(*(np.flatnonzero(rows) if n > 1 else np.zeros(1, int) for rows, n in zip(kept, shape, strict=False)))


def build_grid(
    format: str,
    path: str | Path,
    *,
    resolution: float | str | Path = "104",
    sampling: ArrayLike = "log330",
    limits: Mapping[str, Sequence[float | None]] | None = None,
    fill: bool | float = True,
    instrument: Instrument | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Unpack[LibraryOptions],
) -> StellarGrid:
    """Build a grid from a library of model spectra, read a file at a time, so that memory holds the samples alone.

    Parameters
    ----------
    format : {"ck04", "nextgen", "ferre", "files"}
        Format of the library.
    path : path
        Its folder or file.
    resolution : float, str or path, optional
        Resolving power lambda / FWHM: a number; xp, that of XP spectra from the instrument model; own, as it is in the
        library; or a file of two columns, wavelength [nm] and R.
    sampling : str or (n_wavelength,) array, optional
        log330, variable, coefficients (of XP, best with resolution own), or wavelengths [nm].
    limits : mapping of str to (low, high) or (low, high, step), optional
        By label, None where open; other models are left out.
    fill : bool or float, optional
        Interpolate the models where combinations of labels have none, between models and next to them, up to an
        expected error of 0.02 of the flux or another fraction; see `error` of `StellarGrid`. False leaves holes.
    instrument : Instrument, optional
        The instrument model for xp, variable and coefficients.
    progress : callable, optional
        Called with the number of models so far.
    **options
        What files do not say: nextgen nlte; ferre medium, per; files pattern, keywords, wavelengths, flux_column,
        unit, medium, per, own_resolution.

    Returns
    -------
    StellarGrid
        The grid. Labels that have one value in all models are no axis; origin names them.

    Raises
    ------
    XpjaxError
        For libraries that do not fit, and for two models with the same labels.

    Notes
    -----
    f_out(l) = int G(ln l - ln l'; s) f(l') dln l' / int G dln l', with s = 1 / (2.3548 R(l)); see
    `xpjax.stellar.sampling`, and `xpjax.stellar.scattered` for what fills holes.

    Examples
    --------
    >>> teff, x = np.array([4000.0, 5000.0, 6000.0]), np.arange(300.0, 1100.0)
    >>> np.savez("n.npz", teff=teff, logg=np.ones(3), mh=np.zeros(3), wave_nm=x, flux=np.exp(-x / teff[:, None]))
    >>> xpjax.stellar.build_grid("nextgen", "n.npz", resolution=50)
    StellarGrid(3 teff, 330 wavelengths 360..990 nm, NextGen LTE, n.npz, logg = 1, mh = 0)
    """
    limits = plain_limits(limits or {})
    shape = find_resolution(resolution, instrument)
    where = find_sampling(sampling, shape, instrument)
    library = read_library(format, path, limits=limits, **options)
    grid = _assembled(library, *_sampled(path, library, where, shape, limits, progress), where)
    record = {
        **json.loads(grid.provenance),
        "format": format,
        "source": Path(path).resolve().name,
        "n_file": len(library.files),
        "sha256": library.checksum(),
        "n_model": library.n_model,
        "limits": limits,
        "labels": library.found(),
        "options": {name: str(value) for name, value in options.items()},
        "xpjax_version": __version__,
    }
    name = "as in the library" if shape is None else shape.name
    grid = dataclasses.replace(grid, resolution=name, provenance=json.dumps(record))
    return fill_holes(grid, FILLED_ERROR if fill is True else fill) if fill else grid


def _sampled(
    path: str | Path, library: Library, where: Sampling, shape: Resolution | None, limits: Limits, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, n_label) and sampled spectra (n, n_needed) of all models of a library."""
    labels, flux = [], []
    sampler: Sampler | None = None
    for spectra in library:
        if sampler is None or not sampler.fits(spectra):
            sampler = Sampler(spectra, where.needed, shape)
        labels.append(spectra.labels)
        flux.append(sampler(spectra.flux))
        if progress is not None:
            progress(library.n_model)
    if not labels:
        raise XpjaxError(f"{path}: no model is within the limits {limits}; widen them")
    return np.concatenate(labels), np.concatenate(flux)


def _assembled(library: Library, labels: np.ndarray, flux: np.ndarray, where: Sampling) -> StellarGrid:
    """The grid of all values of each label, mean-normalized, with NaN where a combination has no model."""
    record: dict[str, Any] = {}
    if where.solver is None:
        mean = flux.mean(axis=1)
        if not (mean > 0).all():
            k = int(np.argmin(mean > 0))
            raise XpjaxError(
                f"{library.origin}: the model {named(library.names, labels[k])} has a mean flux {mean[k]:g}"
            )
        flux, wavelength = flux / mean[:, None], where.wavelength
    else:
        flux, missed = as_coefficients(where, flux)
        wavelength = np.arange(flux.shape[1], dtype=float)
        record["missed_rms"] = {"median": float(np.median(missed)), "largest": float(missed.max())}
    labels = np.round(labels, 6) + 0.0  # without negative zeros
    rank = {name: k for k, name in enumerate(ORDER)}
    order = sorted(range(len(library.names)), key=lambda k: rank.get(library.names[k], len(rank) + k))
    values = {library.names[k]: np.unique(labels[:, k]) for k in order}
    fixed = {name: float(value[0]) for name, value in values.items() if len(value) == 1}
    axes = [k for k in order if library.names[k] not in fixed]
    if not axes:
        raise XpjaxError(f"{library.origin}: one model, {fixed}, is no grid; widen the limits")
    names = tuple(library.names[k] for k in axes)
    nodes = tuple(values[name] for name in names)
    place = tuple(np.searchsorted(node, labels[:, k]) for node, k in zip(nodes, axes, strict=True))
    cube = np.full((*map(len, nodes), flux.shape[1]), np.nan)
    cube[place] = flux
    origin = library.origin + "".join(f", {name} = {value:g}" for name, value in fixed.items())
    return StellarGrid(
        nodes,
        cube,
        wavelength,
        names,
        origin=origin,
        sampling=where.name,
        provenance=json.dumps(record),
    )


def fill_holes(grid: StellarGrid, largest: float = FILLED_ERROR) -> StellarGrid:
    """Interpolate the models of a grid where it has holes, and judge it by left-out models (`scattered`).

    Filled are holes with models on both sides along a label, and then the last corners of cells that the models' hull
    enters, as at steps of its border, where an error of `largest` is expected at most; holes between two models next
    to them are filled whatever is expected. Others stay holes. What was filled before is filled anew. Raises
    XpjaxError for what is no fraction.
    """
    if not 0 < largest < 1:
        raise XpjaxError(
            f"holes filled up to an error of {largest}: give a fraction of the flux, such as {FILLED_ERROR}"
        )
    flux, known = np.array(grid.flux, float), ~grid.holes
    if grid.filled is not None:
        known &= ~np.asarray(grid.filled)
    kriging = krige(grid.names, grid.labels_of(known), flux[known])
    if kriging is None:
        return grid
    from scipy.ndimage import binary_dilation

    flux[~known] = np.nan
    error, doubt = np.full(grid.shape, np.nan), np.zeros(flux.shape, np.float32)
    error[known], doubt[known] = kriging.left_out, kriging.missed
    between, beside = _between(known)
    where = ~known & (between | binary_dilation(known | between, np.ones((3,) * known.ndim, bool)))
    flux[where], error[where] = kriging(grid.labels_of(where))
    good = where & np.isfinite(error) & ((error <= largest) | beside)
    filled = good & between
    filled |= good & _corners(known | filled)
    flux[where & ~filled], error[where & ~filled] = np.nan, np.nan
    if filled.any():
        doubt[filled] = kriging.doubts(grid.labels_of(filled), flux[filled], error[filled])
    part = np.divide(doubt, flux, out=np.zeros_like(doubt), where=np.isfinite(flux) & (flux != 0))
    return dataclasses.replace(
        grid,
        flux=flux,
        filled=filled if filled.any() else None,
        error=error.astype(np.float32),
        doubt=None if grid.sampling == "coefficients" else part,  # they are fractions of no flux
    )


def _between(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which nodes have models on both sides along a label, and which have them right beside."""
    between, beside = np.zeros(known.shape, bool), np.zeros(known.shape, bool)
    for label in range(known.ndim):
        line, out, next_to = (np.moveaxis(x, label, 0) for x in (known, between, beside))
        out |= np.logical_or.accumulate(line) & np.logical_or.accumulate(line[::-1])[::-1]
        next_to[1:-1] |= line[:-2] & line[2:]
    return between, beside


def _corners(known: np.ndarray) -> np.ndarray:
    """Which nodes are corners of cells whose known corners span a volume: more than one of their sides."""
    n, out = known.ndim, np.zeros(known.shape, bool)
    corners = np.array(list(itertools.product((0, 1), repeat=n)))
    parts = [tuple(slice(c, c - 1 or None) for c in corner) for corner in corners]
    there = np.stack([known[part] for part in parts], axis=-1)
    patterns, which = np.unique(there.reshape(-1, 2**n), axis=0, return_inverse=True)
    spans = [p.sum() > n and np.linalg.matrix_rank(corners[p] - corners[p][0]) == n for p in patterns]
    wanted = np.array(spans)[which.reshape(-1)].reshape(there.shape[:-1])
    for part in parts:
        out[part] |= wanted
    return out
