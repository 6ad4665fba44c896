"""A grid of model spectra as one HDF5 file, whole or compact, by its path or the name of one that is shipped.

A grid file is HDF5 that h5py alone can read:

    flux             (n_1, ..., n_k, n) float64   spectra divided by their means, NaN at the holes
    wavelength       (n,) float64 [nm]            in vacuum; with XP coefficients their number, 0, 1, ...
    nodes/NAME       (n_j,) float64               of each label, ascending, with an attribute unit
    filled           (n_1, ..., n_k) bool         where a spectrum was interpolated; absent if nowhere
    error            (n_1, ..., n_k) float32      what left-out models are wrong by, and is expected where filled
    doubt            (n_1 or 1, ..., n) float32   what spectra may be wrong by at nodes, fractions of the flux; optional
    systematic       (r, n) float32               templates of errors common to stars, fractions of the flux; optional
    systematic_variance (m, 1 + r) float32        mean wavelengths of stars' light, and variances there; optional

A compact file holds principal components instead of flux, which is mean (1 + coefficient @ component):

    coefficient      (n_1, ..., n_k, c) float32   NaN at the holes
    component        (c, n) float32
    mean             (n,) float64                 of all spectra
    doubt_coefficient, doubt_component            whose product is doubt; optional

Attributes: format, format_version, names (of the labels, in the order of the axes), systematic_floor (what templates
leave in each sample, a fraction of the flux; 0.002 where it is absent), resolution, sampling, origin, and
provenance: JSON with the library's format, folder, number of files and their SHA-256, limits, and versions; of shipped
grids also citation and licence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.paths import model_files
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import check_model_output, read_model, write_model
from xpjax.stellar.grid import LEAST_FLOOR, StellarGrid
from xpjax.stellar.libraries.library import UNITS

FORMAT, VERSION = "xpjax stellar grid", 2
TEXTS = ("resolution", "origin", "sampling", "provenance")
DOUBT_LEFT = 0.05
"""What components of doubt may leave out in a compact file, RMS, as a fraction of it."""
SHIPPED = "ck04"
"""The grid that comes with xpjax, on which labels are fitted where none is named."""


def write_grid(grid: StellarGrid, path: str | Path, *, compact: float = 0.0, overwrite: bool = False) -> None:
    """Write a grid as one HDF5 file, whole or not at all.

    Parameters
    ----------
    grid : StellarGrid
        The grid.
    path : path
        A file that ends in .h5 or .hdf5.
    compact : float, optional
        Keep as few principal components as leave out this RMS of the spectra, a fraction of the flux such as 5e-5, and
        not the spectra; what is left out is noted in the provenance. By default all is kept.
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
    record, spectra = json.loads(grid.provenance), {"flux": np.asarray(grid.flux, float)}
    if compact:
        spectra, record["left_out"] = _compressed(grid, compact)
    arrays = {**spectra, "wavelength": np.asarray(grid.wavelength, float), **nodes}
    if grid.filled is not None:
        arrays["filled"] = np.asarray(grid.filled, bool)
    if grid.error is not None:
        arrays["error"] = np.asarray(grid.error, np.float32)
    if grid.doubt is not None:
        arrays |= _doubt_of(grid, compact)
    if grid.systematic is not None:
        arrays["systematic"] = np.asarray(grid.systematic, np.float32)
    if grid.systematic_variance is not None:
        arrays["systematic_variance"] = np.asarray(grid.systematic_variance, np.float32)
    units = {f"nodes/{name}": UNITS.get(name, "") for name in grid.names}
    units["wavelength"] = "" if grid.sampling == "coefficients" else "nm"
    texts = {**{name: getattr(grid, name) for name in TEXTS}, "provenance": json.dumps(record)}
    attributes = {"names": list(grid.names), "systematic_floor": grid.systematic_floor, **texts}
    notes = {name: {"unit": unit} for name, unit in units.items()}
    packed = ["doubt", "doubt_coefficient", "doubt_component"]
    packed += ["coefficient", "component", "error", "filled", "systematic"] if compact else []
    write_model(path, FORMAT, VERSION, arrays, attributes, notes=notes, packed=packed, overwrite=overwrite)


def _compressed(grid: StellarGrid, largest: float) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """As few principal components as leave out an RMS of `largest`, as arrays of a file, and what they leave out."""
    if grid.sampling == "coefficients" or not 0 < largest < 1:
        raise XpjaxError(
            f"compact={largest:g}: expected a fraction of the flux such as 5e-5, for a grid of sampled spectra"
        )
    flux, there = np.asarray(grid.flux, float), ~grid.holes
    mean = flux[there].mean(axis=0)
    deviation = flux[there] / mean - 1
    vectors = np.linalg.svd(deviation, full_matrices=False)[2]
    share = deviation @ vectors.T
    # Variance that the components beyond the n-th hold, for n = 0, 1, ...
    beyond = np.append(np.cumsum(np.sum((share**2), axis=0)[::-1])[::-1], 0) / deviation.size
    n = int(np.argmax(beyond <= largest**2))
    coefficient = np.full((*grid.shape, n), np.nan, np.float32)
    coefficient[there] = share[:, :n]
    arrays = {"coefficient": coefficient, "component": vectors[:n].astype(np.float32), "mean": mean}
    off = _expanded(arrays)[there] - flux[there]
    worst = np.sqrt(np.mean(off**2, axis=1)).max()
    return arrays, {"n_component": n, "rms": float(np.sqrt(np.mean(off**2))), "worst": float(worst)}


def _doubt_of(grid: StellarGrid, compact: float) -> dict[str, np.ndarray]:
    """Doubt as arrays of a file: as it is, or as few principal components."""
    doubt = np.asarray(grid.doubt, np.float32)
    if not compact:
        return {"doubt": doubt}
    _, size, rows = np.linalg.svd(doubt.reshape(-1, doubt.shape[-1]), full_matrices=False)
    beyond = np.append(np.cumsum(size[::-1] ** 2)[::-1], 0)
    n = max(int(np.argmax(beyond <= DOUBT_LEFT**2 * beyond[0])), 1)
    return {"doubt_coefficient": doubt @ rows[:n].T, "doubt_component": rows[:n]}


def _expanded(arrays: Mapping[str, Any]) -> np.ndarray:
    """Spectra (*node, n) of the arrays of a compact file."""
    change = np.asarray(arrays["coefficient"], float) @ np.asarray(arrays["component"], float)
    flux = np.asarray(arrays["mean"], float) * (1 + change)
    return np.asarray(flux / flux.mean(axis=-1, keepdims=True))


def grid_path(name: str | Path) -> Path:
    """The file of a grid, by its path or, as "ck04", its name among those that are shipped and the user's own.

    Raises FileNotFoundError where there is no such file.
    """
    names = shipped_grids()
    path = names.get(str(name)) or expanded(name)
    if not path.is_file():
        known = ", ".join(names) or "none"
        raise FileNotFoundError(f"no grid file {path}, and no grid of that name; there are {known}")
    return path


def shipped_grids() -> dict[str, Path]:
    """Grids that are found by name: those that xpjax ships, and `grid_NAME.h5` in the user's own folder."""
    return {path.stem.removeprefix("grid_"): path for path in model_files("grid")}


def read_grid(path: str | Path) -> StellarGrid:
    """Read a grid from a file of `write_grid`.

    Parameters
    ----------
    path : path or str
        The HDF5 file, or the name of a grid that is shipped: ck04.

    Returns
    -------
    StellarGrid
        The grid.

    Raises
    ------
    FileNotFoundError
        If there is no such file or name.
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
    what, remedy = "grid of model spectra", "`xpjax labels grid build` makes one"
    arrays, attributes = read_model(grid_path(path), FORMAT, VERSION, what, remedy)
    names = tuple(attributes["names"])
    return StellarGrid(
        tuple(arrays[f"nodes/{name}"] for name in names),
        _expanded(arrays) if "coefficient" in arrays else arrays["flux"],
        arrays["wavelength"],
        names,
        filled=arrays.get("filled"),
        error=arrays.get("error"),
        doubt=arrays["doubt_coefficient"] @ arrays["doubt_component"]
        if "doubt_component" in arrays
        else arrays.get("doubt"),
        systematic=arrays.get("systematic"),
        systematic_variance=arrays.get("systematic_variance"),
        systematic_floor=float(attributes.get("systematic_floor", LEAST_FLOOR)),
        **{name: attributes[name] for name in TEXTS},
    )


def grid_digest(grid: StellarGrid) -> str:
    """What tells a grid of models from others: a digest of its labels, nodes, wavelengths, spectra and their errors."""
    digest = hashlib.sha256(repr(grid.names).encode())
    for array in (*grid.nodes, grid.wavelength, grid.flux):
        digest.update(np.ascontiguousarray(array).tobytes())
    if grid.systematic_floor != LEAST_FLOOR:
        digest.update(repr(grid.systematic_floor).encode())
    for errors in (grid.systematic, grid.systematic_variance, grid.doubt):
        if errors is not None:
            digest.update(np.ascontiguousarray(errors, np.float32).tobytes())
    return digest.hexdigest()[:16]
