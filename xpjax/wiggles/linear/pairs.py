"""Pairs of an XP spectrum and a reference spectrum of the same star: what a linear correction is trained on.

A file of pairs is a Parquet table with a row for each star:

    name or source_id       what the star is called; optional `type`, its kind in words (A3V, sdO, ...)
    the XP spectrum         bp_coefficients and rp_coefficients as in the archive; or samples of an uncorrected absolute
                            spectrum, wavelength [nm] and flux [W m-2 nm-1], from which the coefficients come back
    reference_wavelength    [nm], in vacuum, ascending, and
    reference_flux          at each of them, per wavelength, in any unit: the level of the pair is XP's

Names of other files are known too (`ALIASES`). Units that the file states (metadata `unit` of a column) are converted:
wavelengths to nm, fluxes to W m-2 nm-1, also those per frequency. Files that say that their spectra are corrected are
refused. References that are sampled finer than XP's grid are averaged over its
steps, coarser ones are interpolated; XP's grid beyond a reference is not trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.core.units import is_unit, nanometers, unit_factor
from xpjax.io.streams import check_file, reading
from xpjax.io.tables import Table, open_table
from xpjax.synthetic import gaia_system, load_system, photometry
from xpjax.xp import (
    NONE,
    STANDARD,
    AnyLinear,
    Instrument,
    as_sources,
    coefficients_of_samples,
    flux_factor,
    load_instrument,
)

ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "star_name", "source_id"),
    "type": ("type", "star_type", "spectral_type"),
    "wavelength": ("wavelength",),
    "flux": ("flux", "gaia_spectrum", "xp_flux"),
    "reference_wavelength": ("reference_wavelength", "wavelength"),
    "reference_flux": ("reference_flux", "calspec_spectrum"),
}
"""Columns of a file of pairs, and the names under which they are looked for."""
CGS = 1e-2
"""erg s-1 cm-2 A-1 in W m-2 nm-1."""


def gaia_magnitudes(pairs: Pairs) -> np.ndarray:
    """Synthetic G, BP and RP (3, n) of pairs, in Vega magnitudes."""
    release = pairs.instrument.release
    bands = load_system(f"{gaia_system(release)}:G,BP,RP", release=release)
    return np.asarray(photometry(pairs.coefficients, bands, errors=False, float64=True).magnitude).T


@dataclasses.dataclass(frozen=True, repr=False)
class Pairs(Record):
    """Stars with XP coefficients and reference spectra.

    name, kind (n,) texts; coefficients (n, n_basis_total); reference (n, m) per wavelength in any unit, NaN where it
    does not reach, on the grid of the instrument (m,) [nm].
    """

    name: np.ndarray
    kind: np.ndarray
    coefficients: Float[np.ndarray, "n n_basis_total"]
    reference: Float[np.ndarray, "n m"]
    instrument: Instrument

    def __post_init__(self) -> None:
        n, k, m = len(self.name), self.instrument.release.n_basis_total, len(self.instrument.wavelength)
        for key, shape in {"kind": (n,), "coefficients": (n, k), "reference": (n, m)}.items():
            if np.shape(getattr(self, key)) != shape:
                raise XpjaxError(f"pairs: {key} has shape {np.shape(getattr(self, key))}, expected {shape}")

    def __len__(self) -> int:
        return len(self.name)

    def __getitem__(self, rows: Any) -> Pairs:
        """Some of the pairs."""
        picked = {key: getattr(self, key)[rows] for key in ("name", "kind", "coefficients", "reference")}
        return dataclasses.replace(self, **picked)


def read_pairs(path: str | Path, instrument: Instrument | None = None, prior: AnyLinear = STANDARD) -> Pairs:
    """Read pairs of XP spectra and reference spectra of the same stars from a Parquet file.

    Parameters
    ----------
    path : str or Path
        A row for each star, with the columns of Notes.
    instrument : Instrument, optional
        Instrument model of the XP spectra.
    prior : optional
        Linear correction whose ordinary stars help samples back to coefficients.

    Returns
    -------
    Pairs
        Coefficients (n, n_basis_total) and references (n, m) on the wavelengths (m,) [nm] of the instrument.

    Raises
    ------
    XpjaxError
        For absent columns, corrected spectra, and a star whose arrays do not fit, naming it.

    Notes
    -----
    name (or source_id) and optional type, such as A3V; bp_coefficients and rp_coefficients as in the archive, or
    samples of an uncorrected spectrum, wavelength [nm] and flux [W m-2 nm-1]; reference_wavelength [nm], in vacuum, and
    reference_flux per wavelength in any unit. Units that the file states are converted. References finer than the grid
    are averaged over its steps, coarser ones interpolated.

    Examples
    --------
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> instrument = xpjax.load_instrument()
    >>> value = np.asarray(xpjax.simulate_sources(12, seed=1).coefficients.value, float)
    >>> half = instrument.release.n_basis[0]
    >>> pq.write_table(pa.table({
    ...     "source_id": np.arange(1, 13), "bp_coefficients": list(value[:, :half]),
    ...     "rp_coefficients": list(value[:, half:]), "reference_wavelength": [instrument.wavelength] * 12,
    ...     "reference_flux": list(value @ instrument.default_design)}), "pairs.parquet")
    >>> len(xpjax.wiggles.read_pairs("pairs.parquet"))
    12
    """
    import pyarrow.parquet as pq

    model = instrument or load_instrument()
    path = Path(path).expanduser()
    check_file(path)
    with reading(path, "Parquet"):
        table = pq.read_table(path)
    known = open_table(path)
    _check_uncorrected(known)
    have = table.column_names
    from_coefficients = all(f"{xp}_coefficients" in have for xp in model.release.xp)
    found = _columns(path, have, () if from_coefficients else ("wavelength", "flux"))

    def texts(key: str) -> np.ndarray:
        name = found[key]
        return np.full(len(known), "") if name is None else known.column(name).texts()

    def spectra(x: str, y: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Name, wavelengths [nm] and fluxes of each star."""
        columns = [str(found[key]) for key in (x, y)]
        cells = [table.column(name).to_pylist() for name in columns]
        units = [known.fields[name].unit for name in columns]
        rows = zip(names, *cells, strict=True)
        return [_converted(path, n, w, f, units) for n, w, f in rows]

    names = texts("name")
    if not len(names):
        raise XpjaxError(f"{path}: there are no pairs, the table has no rows")
    references = spectra("reference_wavelength", "reference_flux")
    reference = np.stack([on_grid(w, f, model.wavelength) for _, w, f in references])
    if from_coefficients:
        others = {found["reference_wavelength"], found["reference_flux"]}
        sources = as_sources(table.select([name for name in have if name not in others]), model.release)
        value = np.asarray(sources.coefficients.value)
    else:
        old = found["flux"] == "gaia_spectrum" and not is_unit(known.fields["gaia_spectrum"].unit)
        value = _from_samples(path, spectra("wavelength", "flux"), CGS if old else 1.0, model, prior)
    return Pairs(names, texts("type"), value.astype(float), reference, model)


def _columns(path: Path, have: Sequence[str], more: Sequence[str]) -> dict[str, str | None]:
    """Names of the columns of `ALIASES` in a file. Raises XpjaxError where one that pairs need is absent."""
    found = {key: next((name for name in names if name in have), None) for key, names in ALIASES.items()}
    needed = ("name", "reference_wavelength", "reference_flux", *more)
    absent = [f"{key} ({' or '.join(ALIASES[key])})" for key in needed if found[key] is None]
    if absent:
        raise XpjaxError(f"{path}: pairs need the columns {', '.join(absent)}; it has {have}")
    return found


def _check_uncorrected(table: Table) -> None:
    """Refuse spectra that say that they are corrected: a correction of these would be one on top of another."""
    before = str(table.meta.get("correction", NONE))
    if before != NONE or table.meta.get("corrected"):
        raise XpjaxError(
            f"{table.origin}: the XP spectra are corrected (correction {before}); pairs need them as published: make "
            "them without a correction"
        )


def _converted(
    path: Path, name: str, wavelength: Any, flux: Any, units: Sequence[str | None]
) -> tuple[str, np.ndarray, np.ndarray]:
    """A star's name, wavelengths in nm and fluxes per wavelength, of what a cell holds in these units."""
    x, y = np.asarray(wavelength, float), np.asarray(flux, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2 or not (np.diff(x) > 0).all():
        raise XpjaxError(f"{path}: {name}: wavelengths must ascend, one for each flux; found {x.shape} and {y.shape}")
    try:
        x = x * unit_factor(units[0], "wavelength")
    except XpjaxError as error:
        raise XpjaxError(f"{path}: the wavelengths have {error}; mend the unit") from None
    return name, x, y * flux_factor(units[1], x, f"{path}: {name}: flux")


def _from_samples(
    path: str | Path, stars: list[tuple[str, np.ndarray, np.ndarray]], unit: float, model: Instrument, prior: Any
) -> np.ndarray:
    """Coefficients (n, n_basis_total) of stars whose XP spectra are sampled, each on its own wavelengths."""
    value = np.empty((len(stars), model.release.n_basis_total))
    grids: dict[bytes, list[int]] = {}
    for k, (_, wavelength, _) in enumerate(stars):
        grids.setdefault(wavelength.tobytes(), []).append(k)
    for rows in grids.values():
        flux = unit * np.stack([stars[k][2] for k in rows])
        value[rows] = coefficients_of_samples(flux, stars[rows[0]][1], instrument=model, correction=prior)
    lost = [stars[k][0] for k in np.flatnonzero(~np.isfinite(value).all(axis=1))]
    if lost:
        raise XpjaxError(f"{path}: no coefficients come back from the samples of {', '.join(lost[:5])}; leave them out")
    return value


def on_grid(wavelength: np.ndarray, flux: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A spectrum on a grid (m,) [nm]: averaged over its steps where it is finer, else interpolated; NaN beyond."""
    wavelength, grid = (np.asarray(nanometers(x), float) for x in (wavelength, grid))
    good = np.isfinite(flux)
    x, y = wavelength[good], flux[good]
    half = 0.5 * np.gradient(grid)
    if len(x) > 1 and np.median(np.diff(x)) < half.min():
        integral = np.append(0, np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x)))
        ends = [np.interp(grid + side * half, x, integral) for side in (-1, 1)]
        out = (ends[1] - ends[0]) / (2 * half)
    else:
        half = np.zeros(len(grid))
        out = np.interp(grid, x, y)
    return np.where((grid - half >= x[0] - 1e-6) & (grid + half <= x[-1] + 1e-6), out, np.nan)
