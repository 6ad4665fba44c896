"""Grids of model spectra over stellar labels: built from a library, kept as one HDF5 file.

A grid file is HDF5 that h5py alone can read:

    flux             (n_1, ..., n_k, n) float64   spectra divided by their means, NaN at the holes
    wavelength       (n,) float64 [nm]            in vacuum; with XP coefficients their number, 0, 1, ...
    nodes/NAME       (n_j,) float64               of each label, ascending, with an attribute unit
    filled           (n_1, ..., n_k) bool         where a spectrum was interpolated; absent if nowhere

Attributes: format, format_version, names (of the labels, in the order of the axes), resolution, sampling, origin, and
provenance: JSON with the library's format, folder, number of files and their SHA-256, limits, and versions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray
from xpjax.core.version import __version__
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import check_model_output, read_model, write_model
from xpjax.stellar.libraries import read_library
from xpjax.stellar.libraries.library import UNITS, Library, Limits, check_limits, named, plain_limits, within
from xpjax.stellar.sampling import Resolution, Sampler, Sampling, as_coefficients, find_resolution, find_sampling
from xpjax.xp import Instrument

FORMAT, VERSION = "xpjax stellar grid", 1
TEXTS = ("resolution", "origin", "sampling", "provenance")
ORDER = ("teff", "logg", "mh")
"""Labels that come first, in this order."""


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
        )


def build_grid(
    format: str,
    path: str | Path,
    *,
    resolution: Any = "104",
    sampling: Any = "log330",
    limits: Mapping[str, Sequence[float | None]] | None = None,
    fill: bool | str = False,
    instrument: Instrument | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
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
    fill : bool or str, optional
        Interpolate holes between other nodes, along one label by its name, or along any.
    instrument : Instrument, optional
        The instrument model for xp, variable and coefficients.
    progress : callable, optional
        Called with the number of models so far.
    **options
        What files do not say: nextgen nlte; ferre medium, per; files pattern, keywords, wavelengths, unit, medium,
        per, own_resolution.

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
    `xpjax.stellar.sampling`.

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
    return fill_holes(grid, None if fill is True else [fill]) if fill else grid


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


def fill_holes(grid: StellarGrid, along: Sequence[str] | None = None) -> StellarGrid:
    """Holes that lie between nodes with spectra along a label, interpolated by monotone cubics (Fritsch-Butland).

    along: labels, in this order; by default all. Nothing is extrapolated, so holes at the sides stay; `filled` tells
    which nodes were made so. Left-out nodes of NextGen (4000..7000 K) come back to 0.6..1.2 % RMS in the median, and
    to 8..14 % where the library itself is not smooth. Raises ValueError for an unknown label.
    """
    from scipy.interpolate import PchipInterpolator

    chosen = list(grid.names if along is None else along)
    unknown = [name for name in chosen if name not in grid.names]
    if unknown:
        raise XpjaxError(f"no label {', '.join(unknown)} to fill along; the grid has {', '.join(grid.names)}")
    flux = np.array(grid.flux)
    before = np.isnan(flux[..., 0])
    for name in chosen:
        axis = grid.names.index(name)
        node = np.asarray(grid.nodes[axis])
        lines = np.moveaxis(flux, axis, -2)  # a view: what is set in it is set in flux
        holes = np.isnan(lines[..., 0])
        for index in zip(*np.nonzero(holes.any(axis=-1) & ((~holes).sum(axis=-1) > 1)), strict=True):
            line, hole = lines[index], holes[index]
            inside = hole & (node > node[~hole].min()) & (node < node[~hole].max())
            if inside.any():
                line[inside] = PchipInterpolator(node[~hole], line[~hole], axis=0)(node[inside])
    made = before & ~np.isnan(flux[..., 0])
    if grid.sampling != "coefficients":
        flux[made] /= flux[made].mean(axis=-1, keepdims=True)
    old = np.zeros(grid.shape, bool) if grid.filled is None else np.asarray(grid.filled)
    return dataclasses.replace(grid, flux=flux, filled=(made | old) if (made | old).any() else None)


def write_grid(grid: StellarGrid, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a grid as one HDF5 file, whole or not at all.

    Parameters
    ----------
    grid : StellarGrid
        The grid.
    path : path
        A file that ends in .h5 or .hdf5.
    overwrite : bool, optional
        Replace a file that is there.

    Raises
    ------
    XpjaxError
        If the name ends otherwise.
    FileExistsError
        If the file is there.

    Examples
    --------
    >>> wavelength = np.linspace(360.0, 990.0, 5)
    >>> grid = xpjax.stellar.StellarGrid((np.array([4000.0, 5000.0]),), np.ones((2, 5)), wavelength, ("teff",))
    >>> xpjax.stellar.write_grid(grid, "grid.h5")
    >>> xpjax.stellar.read_grid("grid.h5")
    StellarGrid(2 teff, 5 wavelengths 360..990 nm)
    """
    check_model_output(path, "a grid", overwrite=overwrite)
    nodes = {f"nodes/{name}": np.asarray(node, float) for name, node in zip(grid.names, grid.nodes, strict=True)}
    arrays = {"flux": np.asarray(grid.flux, float), "wavelength": np.asarray(grid.wavelength, float), **nodes}
    if grid.filled is not None:
        arrays["filled"] = np.asarray(grid.filled, bool)
    units = {f"nodes/{name}": UNITS.get(name, "") for name in grid.names}
    units["wavelength"] = "" if grid.sampling == "coefficients" else "nm"
    attributes = {"names": list(grid.names), **{name: getattr(grid, name) for name in TEXTS}}
    notes = {name: {"unit": unit} for name, unit in units.items()}
    write_model(path, FORMAT, VERSION, arrays, attributes, notes=notes, overwrite=overwrite)


def read_grid(path: str | Path) -> StellarGrid:
    """Read a grid from a file of `write_grid`.

    Parameters
    ----------
    path : path
        The HDF5 file.

    Returns
    -------
    StellarGrid
        The grid.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    XpjaxError
        If it is another file, or of a newer format.

    Examples
    --------
    >>> wavelength = np.linspace(360.0, 990.0, 5)
    >>> grid = xpjax.stellar.StellarGrid((np.array([4000.0, 5000.0]),), np.ones((2, 5)), wavelength, ("teff",))
    >>> xpjax.stellar.write_grid(grid, "grid.h5")
    >>> xpjax.stellar.read_grid("grid.h5").names
    ('teff',)
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no grid file {path}")
    what, remedy = "grid of model spectra", "`xpjax labels grid build` makes one"
    arrays, attributes = read_model(path, FORMAT, VERSION, what, remedy)
    names = tuple(attributes["names"])
    return StellarGrid(
        tuple(arrays[f"nodes/{name}"] for name in names),
        arrays["flux"],
        arrays["wavelength"],
        names,
        filled=arrays.get("filled"),
        **{name: attributes[name] for name in TEXTS},
    )


def grid_digest(grid: StellarGrid) -> str:
    """What tells a grid of models from others: a digest of its labels, nodes, wavelengths and spectra."""
    digest = hashlib.sha256(repr(grid.names).encode())
    for array in (*grid.nodes, grid.wavelength, grid.flux):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
