"""`find_lines`, `find_extrema` and `find_fast`, as on the line-finder branch of GaiaXPy."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpjax.compat.gaiaxpy.plotting import plot_lines
from xpjax.compat.gaiaxpy.reading import AnyInput, Input, progress_bar, read_input
from xpjax.compat.gaiaxpy.spectra import dispersed, limits
from xpjax.compat.gaiaxpy.writing import save
from xpjax.xp import Spectra, extrema, load_instrument, spectra as sample

if TYPE_CHECKING:
    import pandas as pd

AnyLines: TypeAlias = list[Sequence[float] | Sequence[str]] | str | Path
"""Wavelengths [nm] and names of lines, or a file of both."""
LINES = {
    "star": {"H_beta": 486.268, "H_alpha": 656.461, "He I_1": 447.3, "He I_2": 587.7, "He I_3": 706.7},
    "qso": {
        "Ly_alpha": 121.524,
        "C IV": 154.948,
        "C III]": 190.8734,
        "Mg II": 279.9117,
        "H_beta": 486.268,
        "H_alpha": 656.461,
    },
}
"""Wavelengths in vacuum [nm] of the lines that are looked for."""
TOLERANCE = 1.0
"""How far [pseudo-wavelength] an extremum may be from a line."""
COLUMNS = ("line_name", "wavelength_nm", "line_flux", "depth", "width", "significance", "sig_pwl")


class Lines:
    """What `frame.attrs["data_type"]` says of a frame of lines."""

    @classmethod
    def get_units(cls) -> dict[str, str]:
        """Units by column name."""
        return dict.fromkeys(("wavelength_nm", "width"), "nm") | dict.fromkeys(("line_flux", "depth"), "W nm^-1 m^-2")


def find_lines(
    input_object: AnyInput,
    truncation: bool = False,
    source_type: str = "star",
    redshift: list[tuple[int, float]] | None = None,
    user_lines: AnyLines | None = None,
    output_path: str | Path = ".",
    output_file: str = "output_lines",
    output_format: str | None = None,
    save_file: bool = True,
    plot_spectra: bool = False,
    save_plots: bool = False,
    username: str | None = None,
    password: str | None = None,
) -> pd.DataFrame:
    """Lines of stars or quasars that show as an extremum of the internal spectrum within one pseudo-wavelength.

    source_type "star" or "qso", which needs redshift [(source_id, z), ...]; user_lines: [wavelengths in nm, names], or
    a file with two such columns. A row for each line: source_id, name, wavelength [nm], flux and depth
    [W nm-1 m-2] against the median at one and two widths on either side, width [nm], between inflections, and
    significance in the absolute and in the internal spectrum. Raises ValueError.
    """
    if not isinstance(source_type, str) or source_type.lower() not in LINES:
        raise ValueError(f"source_type must be 'star' or 'qso', not {source_type!r}")
    quasar = source_type.lower() == "qso"
    if quasar and not isinstance(redshift, list):
        raise ValueError("quasars need redshift, a list of (source_id, z)")
    _check_flags(truncation, plot_spectra, save_plots)
    wanted = _wanted(source_type.lower(), user_lines)
    given = read_input(input_object, truncation=truncation, username=username, password=password)
    z = np.zeros(len(given.sources))
    if quasar:
        known = {int(source): float(value) for source, value in redshift or ()}
        absent = [int(i) for i in given.sources.source_id if int(i) not in known]
        if absent:
            raise ValueError(f"no redshift for {len(absent)} sources, the first is {absent[0]}")
        z = np.array([known[int(i)] for i in given.sources.source_id])
    tables = []
    finder = _Finder(given, truncation)
    for xp in given.sources.release.xp:
        low, high = limits(xp, finder.release)
        for name, wavelength in wanted.items():
            line = wavelength * (1 + z)
            at = dispersed(xp, line, finder.release)
            distance = np.abs(finder.extrema[xp] - at[:, None])
            distance[(line <= low) | (line >= high)] = np.nan
            near = np.nanargmin(np.where(np.isnan(distance), np.inf, distance), axis=1)
            rows = np.flatnonzero(distance[np.arange(len(near)), near] < TOLERANCE)
            tables.append(finder.measured(xp, rows, near[rows], [name] * len(rows)))
    frame = _sorted(given, tables)
    return _finished(given, finder, frame, plot_spectra, save_plots, save_file, output_path, output_file, output_format)


def find_extrema(
    input_object: AnyInput,
    truncation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_lines",
    output_format: str | None = None,
    save_file: bool = True,
    plot_spectra: bool = False,
    save_plots: bool = False,
    username: str | None = None,
    password: str | None = None,
) -> pd.DataFrame:
    """All extrema of the internal spectra within `pwl_range`, measured as `find_lines` measures lines."""
    _check_flags(truncation, plot_spectra, save_plots)
    given = read_input(input_object, truncation=truncation, username=username, password=password)
    finder = _Finder(given, truncation)
    tables = []
    for xp in given.sources.release.xp:
        rows, places = finder.within(xp)
        wavelength = finder.wavelength(xp, finder.extrema[xp][rows, places])
        tables.append(finder.measured(xp, rows, places, [f"{xp}_{int(x)}" for x in wavelength]))
    frame = _sorted(given, tables)
    return _finished(given, finder, frame, plot_spectra, save_plots, save_file, output_path, output_file, output_format)


def find_fast(
    input_object: AnyInput,
    truncation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_lines",
    output_format: str | None = None,
    save_file: bool = True,
    username: str | None = None,
    password: str | None = None,
) -> pd.DataFrame:
    """Pseudo-wavelengths of all extrema within `pwl_range`: columns source_id, xp, extrema; no spectra are sampled."""
    _check_flags(truncation, False, False)
    given = read_input(input_object, truncation=truncation, username=username, password=password)
    finder = _Finder(given, truncation)
    tables = []
    for xp in given.sources.release.xp:
        rows, places = finder.within(xp)
        tables.append({"row": rows, "xp": [xp.upper()] * len(rows), "extrema": finder.extrema[xp][rows, places]})
    frame = _frame(tables).sort_values("row", kind="stable", ignore_index=True)
    frame.insert(0, "source_id", given.sources.source_id[frame.pop("row").to_numpy()])
    frame.attrs["data_type"] = Lines
    save(frame, save_file, output_path, output_file, output_format or given.extension)
    return frame


def _check_flags(truncation: Any, plot_spectra: Any, save_plots: Any) -> None:
    flags = {"truncation": truncation, "plot_spectra": plot_spectra, "save_plots": save_plots}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False, not {flag!r}")
    if save_plots and not plot_spectra:
        raise ValueError("save_plots=True needs plot_spectra=True")


def _wanted(source_type: str, user_lines: AnyLines | None) -> Mapping[str, float]:
    """Name -> wavelength [nm] of the lines to look for. Raises ValueError."""
    if user_lines is None:
        return LINES[source_type]
    wavelengths: Any
    if isinstance(user_lines, list):
        wavelengths, names = user_lines
    elif isinstance(user_lines, str | Path) and os.path.isfile(user_lines):
        wavelengths, names = np.loadtxt(user_lines, unpack=True, dtype="f8,U12", ndmin=1)
    else:
        raise ValueError(f"user_lines must be [wavelengths, names] or a file of both, not {user_lines!r}")
    return {str(name): float(wavelength) for wavelength, name in zip(wavelengths, names, strict=True)}


class _Finder:
    """Extrema and inflections of each XP (n, k), and the sampled spectra, which are made when they are asked for."""

    def __init__(self, given: Input, truncation: bool) -> None:
        self.given, self.truncation = given, truncation
        c, release = given.sources.coefficients, given.sources.release
        self.release = release
        instrument = load_instrument(release=release)
        basis = instrument.internal[instrument.internal_basis]
        self.extrema, self.inflections = {}, {}
        with progress_bar("lines", len(given.sources) * len(release.xp)) as advance:
            for k, (xp, columns) in enumerate(zip(release.xp, release.slices, strict=True), 1):
                value = np.asarray(c.value[:, columns])
                if truncation:
                    limit = np.asarray(c.n_relevant)[:, k - 1, None]
                    value = np.where((np.arange(value.shape[1]) < limit) | (limit <= 0), value, 0)
                self.extrema[xp], self.inflections[xp] = extrema(value, basis[xp])
                advance(k * len(given.sources))
        self._spectra: dict[bool, Spectra] = {}

    def spectra(self, internal: bool) -> Spectra:
        """Absolute or internal spectra on their default grids."""
        if internal not in self._spectra:
            self._spectra[internal] = sample(
                self.given.sources, internal=internal, truncate=self.truncation, float64=True
            )
        return self._spectra[internal]

    def wavelength(self, xp: str, pseudo: np.ndarray) -> np.ndarray:
        """Wavelengths [nm] of pseudo-wavelengths."""
        return dispersed(xp, pseudo, self.release, inverse=True)

    def within(self, xp: str) -> tuple[np.ndarray, np.ndarray]:
        """Row and place of the extrema within `pwl_range`."""
        low, high = sorted(dispersed(xp, limits(xp, self.release), self.release))
        rows, places = np.nonzero((self.extrema[xp] > low) & (self.extrema[xp] < high))
        return rows, places

    def measured(self, xp: str, rows: np.ndarray, places: np.ndarray, names: list[str]) -> dict[str, Any]:
        """Flux, depth, width and significance of extrema, one of each row and place."""
        at = self.extrema[xp][rows, places]
        bends = self.inflections[xp][rows]
        before = np.nanmax(np.where(bends < at[:, None], bends, -np.inf), axis=1, initial=-np.inf)
        after = np.nanmin(np.where(bends > at[:, None], bends, np.inf), axis=1, initial=np.inf)
        ends = np.where(np.isfinite(before) & np.isfinite(after), [before, after], np.nan)
        width = ends[1] - ends[0]
        tests = at[:, None] + np.outer(width, [-2.0, -1.0, 1.0, 2.0])
        wavelength = self.wavelength(xp, at)
        outer, inner = self.spectra(False), self.spectra(True)
        assert outer.flux_error is not None
        assert inner.flux_error is not None
        k = self.given.sources.release.xp.index(xp)
        flux = _between(outer.wavelength, outer.flux[rows], wavelength[:, None])[:, 0]
        flux_error = _between(outer.wavelength, outer.flux_error[rows], wavelength[:, None])[:, 0]
        depth = flux - np.median(_between(outer.wavelength, outer.flux[rows], self.wavelength(xp, tests)), axis=1)
        inside = _between(inner.wavelength, inner.flux[rows, k], np.column_stack([at, tests]))
        inside_error = _between(inner.wavelength, inner.flux_error[rows, k], at[:, None])[:, 0]
        inside_depth = inside[:, 0] - np.median(inside[:, 1:], axis=1)
        values = (
            names,
            wavelength,
            flux,
            depth,
            np.abs(self.wavelength(xp, ends[1]) - self.wavelength(xp, ends[0])),
            np.abs(depth) / flux_error,
            np.abs(inside_depth) / inside_error,
        )
        return {"row": rows, **dict(zip(COLUMNS, values, strict=True))}


def _between(grid: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Straight lines between samples (n, n_sample) of each row, and on beyond the ends, at (n, k)."""
    i = np.clip(np.searchsorted(grid, at) - 1, 0, len(grid) - 2)
    low, high = (np.take_along_axis(values, i + step, axis=1) for step in (0, 1))
    return low + (high - low) * (at - grid[i]) / (grid[i + 1] - grid[i])


def _frame(tables: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of tables with the same columns: arrays, and lists of texts."""
    import pandas as pd

    def joined(parts: list[Any]) -> Any:
        return [*itertools.chain(*parts)] if isinstance(parts[0], list) else np.concatenate(parts)

    return pd.DataFrame({name: joined([table[name] for table in tables]) for name in tables[0]})


def _sorted(given: Input, tables: list[dict[str, Any]]) -> pd.DataFrame:
    """The lines of all XP, source by source, by wavelength."""
    frame = _frame(tables).sort_values(["row", "wavelength_nm"], kind="stable", ignore_index=True)
    frame.insert(0, "source_id", given.sources.source_id[frame["row"].to_numpy(int)])
    return frame


def _finished(
    given: Input,
    finder: _Finder,
    frame: pd.DataFrame,
    plot_spectra: bool,
    save_plots: bool,
    save_file: bool,
    output_path: str | Path,
    output_file: str,
    output_format: str | None,
) -> pd.DataFrame:
    """The frame, plotted and saved."""
    rows = frame.pop("row").to_numpy(int)
    if plot_spectra:
        for row in range(len(given.sources)):
            folder = output_path if save_plots else None
            plot_lines(finder.spectra(True), finder.spectra(False), row, frame[rows == row], folder)
    frame.attrs["data_type"] = Lines
    save(frame, save_file, output_path, output_file, output_format or given.extension)
    return frame
