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
import io
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
from xpjax.io.catalogue import check_output, expanded, write_bytes
from xpjax.io.hdf5 import open_hdf5
from xpjax.stellar.libraries import UNITS, Library, check_limits, named, plain_limits, read_library, within
from xpjax.stellar.sampling import Sampler, Sampling, as_coefficients
from xpjax.stellar.sampling import resolution as find_resolution
from xpjax.stellar.sampling import sampling as find_sampling
from xpjax.xp import Instrument

FORMAT, VERSION = "xpjax stellar grid", 1
TEXTS = ("resolution", "origin", "sampling", "provenance")
ORDER = ("teff", "logg", "mh")
"""Labels that come first, in this order."""


class StellarGrid(eqx.Module):
    """Mean-normalised model spectra at the nodes of a regular grid of labels, on one wavelength grid, on the host.

    nodes: one ascending float64 array per label, in the order of names ("teff" [K], "logg" [dex], "mh" [dex], ...).
    flux: (n_1, n_2, ..., n_wavelength), each spectrum divided by its mean over the samples; NaN at the holes.
    wavelength: (n_wavelength,) [nm, vacuum]. resolution and origin say how the spectra were made. sampling: log330,
    variable or own wavelengths; with "coefficients" the last axis is XP coefficients instead, scaled so that the
    spectrum has a mean of 1e-18 W m-2 nm-1 on 360..990 nm, and wavelength is their number. filled: where spectra were
    interpolated from other nodes, None for nowhere. provenance: JSON.
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
    """A grid from a library of model spectra, read a file at a time, so that memory holds the samples alone.

    format, path, limits, options: as in `io.libraries.read_library`. resolution: as in `sampling.resolution`, a
    number, xp, own or a file; sampling: as in `sampling.sampling`, log330, variable, coefficients or wavelengths.
    Labels that have one value in all models are no axis; origin names them. fill: interpolate holes between other
    nodes (see `fill_holes`), along one label by its name, or along any. progress: called with the number of models so
    far. Raises ValueError for libraries that do not fit, and for two models with the same labels.
    """
    limits = plain_limits(limits or {})
    shape = find_resolution(resolution, instrument)
    where = find_sampling(sampling, shape, instrument)
    library = read_library(format, path, limits=limits, **options)
    labels, flux = [], []
    sampler: Sampler | None = None
    done = 0
    for spectra in library:
        if sampler is None or not sampler.fits(spectra):
            sampler = Sampler(spectra, where.needed, shape)
        labels.append(spectra.labels)
        flux.append(sampler(spectra.flux))
        done += len(spectra.flux)
        if progress is not None:
            progress(done)
    if not labels:
        raise XpjaxError(f"{path}: no model is within the limits {limits}; widen them")
    grid = _assembled(library, np.concatenate(labels), np.concatenate(flux), where)
    record = {
        **json.loads(grid.provenance),
        "format": format,
        "source": Path(path).resolve().name,
        "n_file": len(library.files),
        "sha256": library.checksum(),
        "n_model": done,
        "limits": limits,
        "labels": library.found(),
        "options": {name: str(value) for name, value in options.items()},
        "xpjax_version": __version__,
    }
    name = "as in the library" if shape is None else shape.name
    grid = dataclasses.replace(grid, resolution=name, provenance=json.dumps(record))
    return fill_holes(grid, None if fill is True else [fill]) if fill else grid


def _assembled(library: Library, labels: np.ndarray, flux: np.ndarray, where: Sampling) -> StellarGrid:
    """The grid of all values of each label, mean-normalised, with NaN where a combination has no model."""
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
    shape = tuple(len(node) for node in nodes)
    flat = np.ravel_multi_index(place, shape)
    cube = np.full((int(np.prod(shape)), flux.shape[1]), np.nan)
    cube[flat] = flux
    origin = library.origin + "".join(f", {name} = {value:g}" for name, value in fixed.items())
    return StellarGrid(
        nodes,
        cube.reshape(*shape, -1),
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
    """A grid as one HDF5 file, whole or not at all. Raises FileExistsError unless overwrite, ValueError for a name."""
    import h5py

    check_grid_output(path, overwrite=overwrite)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, "names": list(grid.names)})
        for name in TEXTS:
            file.attrs[name] = getattr(grid, name)
        file["flux"], file["wavelength"] = np.asarray(grid.flux, float), np.asarray(grid.wavelength, float)
        file["wavelength"].attrs["unit"] = "" if grid.sampling == "coefficients" else "nm"
        for name, node in zip(grid.names, grid.nodes, strict=True):
            file[f"nodes/{name}"] = np.asarray(node, float)
            file[f"nodes/{name}"].attrs["unit"] = UNITS.get(name, "")
        if grid.filled is not None:
            file["filled"] = np.asarray(grid.filled, bool)
    write_bytes(path, buffer.getvalue())


def check_grid_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse, before anything is computed, a file that a grid cannot be written to. Raises ValueError and OSError."""
    if expanded(path).suffix.lower() not in (".h5", ".hdf5"):
        raise XpjaxError(f"{Path(path).name}: a grid is an HDF5 file, .h5")
    check_output(path, overwrite=overwrite)


def read_grid(path: str | Path) -> StellarGrid:
    """A grid from a file of `write_grid`. Raises FileNotFoundError, ValueError for another file or a newer format."""
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no grid file {path}")
    try:
        with open_hdf5(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise KeyError(f"no attribute format = {FORMAT}")
            if int(file.attrs["format_version"]) > VERSION:
                raise XpjaxError(
                    f"{path} has format version {int(file.attrs['format_version'])}, this xpjax knows {VERSION}: update"
                )
            names = tuple(str(name) for name in file.attrs["names"])
            return StellarGrid(
                tuple(file[f"nodes/{name}"][()] for name in names),
                file["flux"][()],
                file["wavelength"][()],
                names,
                filled=file["filled"][()] if "filled" in file else None,
                **{name: str(file.attrs[name]) for name in TEXTS},
            )
    except (OSError, KeyError) as exc:
        raise XpjaxError(f"{path} is no grid of model spectra ({exc}); `xpjax grid build` makes one") from exc
