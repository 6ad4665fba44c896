"""Synthetic photometry of many sources: the public call, what prepares it once, and its result."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypedDict, overload

import numpy as np

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.release import DR3, find_release
from xpjax.core.status import Status
from xpjax.core.types import PathLike, RowIndex
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult
from xpjax.synthetic.figures import plot_photometry
from xpjax.synthetic.kernel import photometry_kernel, put_in_place
from xpjax.synthetic.light_curve import LightCurve, light_curve
from xpjax.synthetic.projection import AnySystem, as_system, stated_release
from xpjax.synthetic.published import load_system, published_name
from xpjax.synthetic.system import PhotometricSystem
from xpjax.xp import (
    DISTANCE_MEANING,
    STANDARD,
    TRANSIT,
    TRANSIT_MEANINGS,
    TRANSIT_UNITS,
    AnyLinear,
    AnySources,
    SourceTable,
    Subspace,
    XPCoefficients,
    as_sources,
    check_truncation,
    mark_no_errors,
    merge_status,
    run_guarded,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SYSTEMATIC = "Systematic standard error in {} that the correction leaves, common to similar stars"


@dataclasses.dataclass(frozen=True, repr=False)
class Photometry(TableResult, Record, Rows):
    """Synthetic photometry of many sources, on the host.

    Parameters
    ----------
    source_id : (n,) array
        Gaia's source_id; 0 where it is not known.
    system : PhotometricSystem
        The bands.
    flux : (n, n_band) array [system.flux_unit]
        Mean fluxes.
    flux_error : (n, n_band) array [system.flux_unit], or None
        Standard errors; None where they were not asked for, or the input has no errors or correlations.
    magnitude : (n, n_band) array [mag]
        Magnitudes; NaN for a flux that is not positive.
    magnitude_error : (n, n_band) array [mag], or None
        Standard errors.
    status : (n,) array
        `Status` bits.
    meta : mapping
        What holds for all sources: release, instrument model, systems, options.
    distance : (n,) array, or None
        d^2, the squared distance from the training stars of a linear correction; NaN where it was not applied, None
        without one.
    transits : mapping of (n,) arrays
        `transit_id` and `time` [d since 2010.0] of epoch spectra; empty for mean ones.
    passed : Catalogue
        Columns of the input that are passed on, with one row for each source.

    Notes
    -----
    `result["g"]` is the magnitudes (n,) of a band, by `{label}_{name}` or, where that is unique, by its name;
    `result[rows]` the photometry of some sources, by a slice, a mask or indices.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(5, seed=1), "SDSS")
    >>> stars["g"].shape, stars[:2].magnitude.shape, len(stars)
    ((5,), (2, 5), 5)
    >>> stars.to_table()["Sdss_mag_g"].unit
    Unit("mag")
    """

    bits = Status
    row_fields = (
        *("source_id", "flux", "flux_error", "magnitude", "magnitude_error", "status", "distance", "transits"),
        "passed",
    )

    source_id: np.ndarray
    system: PhotometricSystem
    flux: np.ndarray
    flux_error: np.ndarray | None
    magnitude: np.ndarray
    magnitude_error: np.ndarray | None
    status: np.ndarray
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)
    distance: np.ndarray | None = None
    transits: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    passed: Catalogue = dataclasses.field(default_factory=lambda: Catalogue({}))

    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: RowIndex) -> Self: ...
    def __getitem__(self, key: str | RowIndex) -> np.ndarray | Self:
        """Magnitudes (n,) of one band by its name, or the photometry of some rows."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        columns = self.system.columns
        matches = [i for i, name in enumerate(self.system.names) if key in (name, columns[i])]
        if len(matches) != 1:
            raise KeyError(f"{key!r} is {'ambiguous' if matches else 'not'} among {list(columns)}")
        return self.magnitude[:, matches[0]]

    @property
    def systematic(self) -> np.ndarray | None:
        """Systematic standard errors (n, n_band) [mag] that a correction leaves; None without one.

        sqrt(1 + d^2) times the standard error at d^2 = 0, the root of the diagonal of `system.systematic_covariance`.
        Similar stars have it in common: it does not average out, and is no part of magnitude_error. NaN where the star
        was not corrected.
        """
        covariance = self.system.systematic_covariance
        if covariance is None or self.distance is None:
            return None
        root = np.sqrt(np.diagonal(covariance)).astype(self.magnitude.dtype)
        return np.sqrt(1 + self.distance)[:, None].astype(self.magnitude.dtype) * root

    def lightcurve(self, source_id: int | None = None, bands: str | Sequence[str] | None = None) -> LightCurve:
        """Return the light curve of a source, of photometry of epoch spectra.

        Parameters
        ----------
        source_id : int, optional
            The source; by default the only one there is.
        bands : str or sequence of str, optional
            Bands, as `result[band]` takes them; by default all.

        Returns
        -------
        LightCurve
            The transits of the source by time; those without time, and repeated ones, are left out and counted.

        Raises
        ------
        XpjaxError
            If there are no transits, not this source, or not these bands.
        """
        return light_curve(self, source_id, bands)

    def plot(self, bands: Sequence[str] | None = None, limits: Sequence[float] | None = None) -> Figure:
        """Draw a color-magnitude diagram; see `xpjax.plot.plot_photometry`.

        Parameters
        ----------
        bands : sequence of str, optional
            Blue and red band of the color and the band of the magnitude, or one band for a histogram.
        limits : (2,) sequence of float [mag], optional
            Lowest and highest color.

        Returns
        -------
        matplotlib.figure.Figure
            The figure; `savefig` writes it.
        """
        return plot_photometry(self, bands, limits)

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The photometry with GaiaXPy's column names, and `{label}_mag_error_{band}` and `xp_status`.

        With a linear correction also `{label}_mag_systematic_{band}` and `xp_correction_distance`, d^2. keep: further
        columns (n,), passed on.
        """
        s = self.system
        columns: dict[str, np.ndarray] = {"source_id": self.source_id, **self.transits}
        units: dict[str, str] = dict(TRANSIT_UNITS) if self.transits else {}
        descriptions = {"source_id": "Gaia source identifier", "xp_status": Status.legend()}
        descriptions |= TRANSIT_MEANINGS if self.transits else {}
        kinds = {
            "mag": (self.magnitude, "Synthetic magnitude in {}"),
            "flux": (self.flux, "Mean flux through {}"),
            "flux_error": (self.flux_error, "Standard error of the mean flux through {}"),
            "mag_error": (self.magnitude_error, "Standard error of the synthetic magnitude in {}"),
            "mag_systematic": (self.systematic, _SYSTEMATIC),
        }
        present = {kind: (array, meaning) for kind, (array, meaning) in kinds.items() if array is not None}
        for label in dict.fromkeys(s.labels):
            for kind, (array, meaning) in present.items():
                for k in (k for k, other in enumerate(s.labels) if other == label):
                    name = f"{label}_{kind}_{s.names[k]}"
                    columns[name] = array[:, k]
                    units[name] = "mag" if kind.startswith("mag") else s.flux_unit[k]
                    descriptions[name] = meaning.format(s.names[k])
        if self.distance is not None:
            columns["xp_correction_distance"] = self.distance
            descriptions["xp_correction_distance"] = DISTANCE_MEANING
        units, descriptions = {**self.passed.units, **units}, {**self.passed.descriptions, **descriptions}
        table = Catalogue(columns, units=units, descriptions=descriptions, meta=dict(self.meta))
        more = {n: c for n, c in {**self.passed.columns, **(keep or {})}.items() if n not in self.transits}
        return table.with_columns(more, {"xp_status": self.status})


def read_photometry(path: PathLike, system: PhotometricSystem | None = None) -> Photometry:
    """Read photometry that `xpjax.write` or `xpjax photometry` wrote.

    Parameters
    ----------
    path : str or path
        The file, in any format that xpjax writes.
    system : PhotometricSystem, optional
        The bands, as they were given to `photometry`. By default those of published systems, without a correction or
        with the standard one, are found by the labels in the file's metadata; CSV has no metadata.

    Returns
    -------
    Photometry
        The rows of the file; columns that were passed on are left out (`xpjax.read_table` has them).

    Raises
    ------
    XpjaxError
        If the file has no photometry of these bands, or says of no published system that it is its own.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(5, seed=1), "SDSS")
    >>> xpjax.write("sdss.parquet", stars)
    >>> again = xpjax.synthetic.read_photometry("sdss.parquet")
    >>> np.array_equal(again.magnitude, stars.magnitude), again.system
    (True, PhotometricSystem(Sdss: u, g, r, i, z))
    """
    table = read_catalogue(path)
    bands = _system_of(path, table) if system is None else system
    needed = ["source_id", "xp_status", *(f"{s}_mag_{b}" for s, b in zip(bands.labels, bands.names, strict=True))]
    absent = [name for name in needed if name not in table.columns]
    if absent:
        raise XpjaxError(
            f"{path} has no column {absent[0]}: it holds no photometry of {bands!r}; give its own "
            + say("system=", "--system or --passbands")
        )

    def several(kind: str) -> np.ndarray | None:
        names = [f"{s}_{kind}_{b}" for s, b in zip(bands.labels, bands.names, strict=True)]
        return np.stack([table.columns[name] for name in names], axis=1) if names[0] in table.columns else None

    flux, magnitude = several("flux"), several("mag")
    assert magnitude is not None
    return Photometry(
        table.columns["source_id"],
        bands,
        np.full_like(magnitude, np.nan) if flux is None else flux,
        several("flux_error"),
        magnitude,
        several("mag_error"),
        np.asarray(table.columns["xp_status"], np.uint32),
        table.meta,
        table.columns.get("xp_correction_distance"),
        {name: table.columns[name] for name in TRANSIT if {*TRANSIT} <= {*table.columns}},
    )


def _system_of(path: PathLike, table: Catalogue) -> PhotometricSystem:
    """The published bands that a file with photometry names. Raises XpjaxError where it names none, or others."""
    labels, correction = table.meta.get("systems") or [], table.meta.get("correction", "none")
    own = say("system=", "--system or --passbands")
    if not labels:
        raise XpjaxError(f"{path} does not name its systems; give {own}, as `photometry` got it")
    parts, release = [], find_release(str(table.meta.get("release", DR3.name)))
    for label in [labels] if isinstance(labels, str) else labels:
        name = published_name(label, release)
        if name is None:
            raise XpjaxError(f"{path}: {label} is no published system; give {own}, as `photometry` got it")
        columns = [column.removeprefix(f"{label}_mag_") for column in table.columns]
        parts.append(f"{name}:{','.join(band for band in columns if band in load_system(name, release=release).names)}")
    if correction in (None, "none"):
        return as_system(parts, release=release)
    system = as_system(parts, STANDARD, release=release)
    if system.correction != correction:
        remedy = say("system=, corrected by it", "the same bands by --system")
        raise XpjaxError(f"{path}: the correction {correction} is not the standard one; give {remedy}")
    return system


@dataclasses.dataclass(frozen=True)
class Photometer:
    """Photometry that is prepared once and done to any number of tables of one release.

    Parameters
    ----------
    system : PhotometricSystem
        The bands.
    errors : bool
        Propagate errors, where the input has errors and correlations.
    truncate : bool
        Use only the relevant coefficients (n_relevant_bases).
    error_correction : bool
        Multiply errors by the published factors of G.
    float64 : bool
        Compute in float64.

    Raises
    ------
    XpjaxError
        If factors on errors are asked for and the system has none, or is corrected.

    Examples
    --------
    >>> photometer = xpjax.synthetic.Photometer(xpjax.load_system("SDSS"), errors=False)
    >>> [len(photometer(xpjax.simulate_sources(n, seed=1))) for n in (3, 5)]
    [3, 5]
    """

    system: PhotometricSystem
    errors: bool = True
    truncate: bool = False
    error_correction: bool = False
    float64: bool = False

    def __post_init__(self) -> None:
        engine.check_values(self.system, "xpjax.magnitudes or xpjax.fluxes")
        if self.error_correction and self.system.domain is not None:
            raise XpjaxError("the published factors on errors hold for uncorrected magnitudes: leave them out")
        if self.error_correction and self.system.error_correction is None:
            raise XpjaxError(f"there are no error-correction tables for {sorted(set(self.system.labels))}")

    @functools.cached_property
    def _plain(self) -> PhotometricSystem:
        return dataclasses.replace(self._lean, pair_weight=None, error_correction=None)

    @functools.cached_property
    def _lean(self) -> PhotometricSystem:
        """The system without what only the host looks at."""
        return dataclasses.replace(self.system.with_change(), systematic=None)

    @functools.cached_property
    def _with_errors(self) -> dict[Subspace | None, PhotometricSystem]:
        """The system with the weights that errors need, by the subspace of compact covariances."""
        return {}

    @functools.cached_property
    def _serving(self) -> dict[Subspace, Subspace]:
        """The axes that errors need, by those of compact covariances."""
        return {}

    def __call__(
        self,
        table: SourceTable,
        *,
        devices: engine.Devices = None,
        progress: engine.Progress | None = None,
        batch_rows: int | None = None,
        guard_rows: int | None = None,
    ) -> Photometry:
        """Photometry of a table; batch_rows, guard_rows: see `engine.run` and `run_guarded`. Raises ValueError."""
        c, errors = self.prepared(table)
        correct = errors and self.error_correction
        out = run_guarded(
            lambda guard: photometry_kernel(self.truncate, errors, correct, guard or self.truncate, apart=True),
            self.bands(c),
            c,
            float64=self.float64,
            devices=devices,
            work_bytes=self.work_bytes(c),
            progress=progress,
            batch_rows=batch_rows,
            guard_rows=guard_rows,
        )
        return self.finished(table, put_in_place(self.system, out))

    def prepared(self, table: SourceTable) -> tuple[XPCoefficients, bool]:
        """What the kernels are given of a table, and whether it has what errors need. Raises ValueError."""
        errors = self.errors and table.coefficients.has_covariance
        if self.truncate:
            check_truncation(table, errors)
        c = table.coefficients.of_errors(errors, self.truncate)
        return (c if c.covariance is None else c.among(self.serving(c.covariance.subspace))), errors

    def serving(self, subspace: Subspace) -> Subspace:
        """The axes of compact covariances that errors of the bands need. Raises XpjaxError where none hold them."""
        if subspace not in self._serving:
            self._serving[subspace] = self.system.serving(subspace)
        return self._serving[subspace]

    def bands(self, sources: XPCoefficients) -> PhotometricSystem:
        """The system as the kernels take it, with what errors of these sources need, as `prepared` gives them.

        Raises XpjaxError for bands whose errors compact covariances do not hold.
        """
        if not sources.has_covariance:
            return self._plain
        subspace = None if sources.covariance is None else sources.covariance.subspace
        if subspace not in self._with_errors:
            bands = self._lean.with_pair_weights(subspace)
            kept = bands.error_correction if self.error_correction else None
            self._with_errors[subspace] = dataclasses.replace(bands, error_correction=kept)
        return self._with_errors[subspace]

    def work_bytes(self, sources: XPCoefficients) -> int:
        """Bytes of the intermediates of one source: products of its errors, or packed covariances as numbers."""
        if not sources.has_covariance:
            return 0
        compact = sources.covariance
        numbers = sources.release.n_pair_total if compact is None else compact.subspace.n_numbers
        return 4 * numbers * (1 + self.float64)

    def finished(self, table: SourceTable, out: Mapping[str, np.ndarray]) -> Photometry:
        """The record of what the kernels found, with what the reader knew."""
        status = merge_status(table, out["status"], self.errors)
        if self.errors and "flux_error" not in out:
            status = mark_no_errors(table, status)
        meta = {
            "release": table.release.name,
            "instrument_model": self.system.model,
            "systems": list(dict.fromkeys(self.system.labels)),
            "truncate": self.truncate,
            "error_correction": self.error_correction,
            "correction": self.system.correction,
        }
        covariance = self.system.systematic_covariance
        if covariance is not None:
            # In the order of the bands, at d^2 = 0.
            meta["mag_systematic"] = [round(float(x), 5) for x in np.sqrt(np.diagonal(covariance))]
        return Photometry(
            table.source_id,
            self.system,
            out["flux"],
            out.get("flux_error"),
            out["magnitude"],
            out.get("magnitude_error"),
            status,
            meta,
            out.get("distance"),
            table.transits,
        )


class PhotometryOptions(TypedDict, total=False):
    """Options of `photometry`."""

    correction: AnyLinear
    errors: bool
    truncate: bool
    error_correction: bool
    float64: bool
    devices: engine.Devices
    progress: engine.Progress | None


def photometry(
    sources: AnySources,
    system: AnySystem | Sequence[AnySystem],
    *,
    correction: AnyLinear = None,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
    **options: Any,
) -> Photometry:
    """Photometry without a network, of sources of any kind; options as of `Photometer`. Raises XpjaxError."""
    table = as_sources(sources, stated_release(system))
    bands = as_system(system, correction, release=table.release)
    return Photometer(bands, **options)(as_sources(table, bands.release), devices=devices, progress=progress)
