"""Sampled spectra of many sources on the host: what `xpjax.spectra` gives and `xpjax.xp.read_spectra` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io.results import TableResult
from xpjax.xp.correction import DISTANCE_MEANING
from xpjax.xp.figures import draw_spectra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class Spectra(Rows, TableResult, Record):
    """Hold sampled spectra of many sources, absolute or internal.

    `xpjax.write` writes them, `xpjax.xp.read_spectra` reads them back, and `spectra[rows]` takes some of the sources.

    Parameters
    ----------
    source_id : (n,) array of int64
        Gaia's identifiers.
    wavelength : (n_sample,) array [nm]
        Ascending wavelengths in vacuum; pseudo-wavelengths of internal spectra.
    flux : (n, n_sample) array [W m-2 nm-1]
        Flux at each wavelength; of internal spectra (n, n_xp, n_sample) in electrons per second.
    flux_error : array like flux, or None
        Standard errors; None where the input has no errors or correlations, or they were not asked for.
    correlation : (n, n_sample (n_sample - 1) / 2) array, or None
        Correlations between samples: the strict lower triangle row by row, (n, n_xp, ...) of internal spectra.
    status : (n,) array of uint32
        Bits of `xpjax.Status`.
    release : Release
        The data release of the coefficients.
    meta : mapping
        How the spectra were made: `truncate`, `instrument_model`, `correction`, `resolution`, ...
    distance : (n,) array, or None
        Squared distance d^2 from the training stars of the linear correction; NaN where it was not applied, None
        without one.
    passed : Catalogue
        Columns of the input that are passed on, with one row for each source.

    Examples
    --------
    >>> spectra = xpjax.spectra(xpjax.simulate_sources(5, seed=1))
    >>> spectra.flux.shape
    (5, 343)
    >>> len(spectra[:2]), spectra.to_table()["flux"].unit
    (2, Unit("W / (nm m2)"))
    """

    source_id: np.ndarray
    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray | None
    correlation: np.ndarray | None
    status: np.ndarray
    release: Release
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)
    distance: np.ndarray | None = None
    passed: Catalogue = dataclasses.field(default_factory=lambda: Catalogue({}))

    row_fields = ("source_id", "flux", "flux_error", "correlation", "status", "distance", "passed")
    bits = Status

    @property
    def internal(self) -> bool:
        """Whether these are internal spectra, of BP and RP apart."""
        return np.ndim(self.flux) == 3

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Columns that are passed on, by name."""
        return self.passed.columns

    def covariance(self, row: int, xp: int | None = None) -> np.ndarray:
        """Return the covariance matrix of one spectrum.

        Parameters
        ----------
        row : int
            Which source.
        xp : int, optional
            0 for BP and 1 for RP of internal spectra; left out for absolute spectra.

        Returns
        -------
        (n_sample, n_sample) array
            The covariance between samples, in squared units of the flux.

        Raises
        ------
        XpjaxError
            If the spectra have no errors or no correlations, or `xp` does not fit them.
        """
        if self.correlation is None:
            raise XpjaxError("no correlations here: call spectra(..., correlation=True) on sources that have them")
        if self.flux_error is None:
            raise XpjaxError("no errors here: leave errors=True")
        if self.internal != (xp is not None):
            which = "give xp=0 for BP or xp=1 for RP" if self.internal else "absolute spectra are merged, leave out xp"
            raise XpjaxError(f"{'internal' if self.internal else 'merged'} spectra: {which}")
        pick = (row,) if xp is None else (row, xp)
        sigma = self.flux_error[pick].astype(float)
        matrix = np.eye(len(sigma))
        rows, columns = np.tril_indices(len(sigma), -1)
        matrix[rows, columns] = matrix[columns, rows] = self.correlation[pick]
        return matrix * np.outer(sigma, sigma)

    def plot(self, sources: Sequence[int] | None = None, limits: Sequence[float] | None = None) -> Figure:
        """Draw fluxes with 1-sigma bands, a panel for each source; see `xpjax.plot.plot_spectra`.

        Parameters
        ----------
        sources : sequence of int, optional
            source_ids to draw; by default the first six.
        limits : (2,) sequence of float [nm], optional
            Lowest and highest wavelength.

        Returns
        -------
        matplotlib.figure.Figure
            The figure; `savefig` writes it.
        """
        return draw_spectra(self, sources, limits=limits)

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The spectra as a table: one row for each source, or for each source and XP where they are internal.

        keep: further columns, one value for each source, passed on.
        """
        n_xp = len(self.release.xp) if self.internal else 1
        columns: dict[str, np.ndarray] = {"source_id": np.repeat(self.source_id, n_xp)}
        if self.internal:
            columns["xp"] = np.tile([xp.upper() for xp in self.release.xp], len(self))
        spectra = {"flux": self.flux, "flux_error": self.flux_error, "correlation": self.correlation}
        columns |= {name: a.reshape(-1, a.shape[-1]) for name, a in spectra.items() if a is not None}
        if self.distance is not None:
            columns["xp_correction_distance"] = self.distance
        passed = {**self.columns, **(keep or {})}
        kept = {name: np.repeat(np.asarray(array), n_xp, axis=0) for name, array in passed.items()}
        unit = "electron s-1" if self.internal else "W m-2 nm-1"
        units: dict[str, str] = {name: unit for name in ("flux", "flux_error") if name in columns}
        if not self.internal:
            units["wavelength"] = "nm"
        table = Catalogue(
            columns,
            units={**self.passed.units, **units},
            descriptions={
                **self.passed.descriptions,
                "flux": f"Flux at each {'pseudo-' * self.internal}wavelength",
                "flux_error": "Standard error of the flux",
                "correlation": "Correlation coefficients between samples: strict lower triangle, row by row",
                "xp_correction_distance": DISTANCE_MEANING,
                "xp_status": Status.legend(),
            },
            shared={"wavelength": self.wavelength},
            meta={**self.meta, **_sizes(self.release)},
        )
        return table.with_columns(kept, {"xp_status": np.repeat(self.status, n_xp)})


def _sizes(release: Release) -> dict[str, Any]:
    """What a file says of a release that a reader cannot know by its name."""
    if release == DR3:
        return {}
    return {"release": release.name, "release_n_basis": list(release.n_basis), "release_xp": list(release.xp)}


def spectra_of(table: Catalogue, name: str) -> Spectra:
    """The spectra of a table as `Spectra.catalogue` makes it; other columns are passed on. Raises XpjaxError.

    Sources of which the table has no status have none; the release is DR3 unless the table names the sizes of another.
    """
    columns, meta = dict(table.columns), dict(table.meta)
    n_basis, xps = meta.pop("release_n_basis", None), meta.pop("release_xp", None)
    release = DR3
    if n_basis is not None and xps is not None:
        release = Release(str(meta.get("release", "")), tuple(int(n) for n in n_basis), tuple(map(str, xps)))
    n_xp, rows = 1, len(table)
    if "xp" in columns:
        n_xp = len(release.xp)
        found = [str(xp).lower() for xp in columns.pop("xp")]
        if found != [*release.xp] * (rows // n_xp):
            raise XpjaxError(f"{name}: the rows of internal spectra are not {' and '.join(release.xp)} of each source")
    own = {key: columns.pop(key, None) for key in ("flux", "flux_error", "correlation")}
    if n_xp > 1:
        own = {key: None if a is None else a.reshape(-1, n_xp, a.shape[1]) for key, a in own.items()}
    first = {key: np.asarray(column)[::n_xp] for key, column in columns.items()}
    if "truncate" in meta:
        meta["truncate"] = bool(meta["truncate"])
    distance = first.pop("xp_correction_distance", None)
    if distance is not None:  # CSV, say, holds no name of the correction
        meta.setdefault("correction", "of no name")
    status = first.pop("xp_status", np.zeros(rows // n_xp))
    source_id = first.pop("source_id")
    units, told = ({key: d[key] for key in first if key in d} for d in (table.units, table.descriptions))
    wavelength = np.asarray(table.shared["wavelength"], float)
    fields: Any = *own.values(), np.asarray(status, np.uint32), release, meta, distance, Catalogue(first, units, told)
    return Spectra(source_id, wavelength, *fields)
