"""Stellar labels of XP sources: sample, fit, and with a wiggle correction correct and fit again (Ye et al. 2024)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record
from xpjax.core.status import FitStatus, Status
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.stellar.fit import StellarFit, fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import Interpolator
from xpjax.wiggles import Correcting, correct_spectra, floats, linear_and_network
from xpjax.xp import LinearCorrection, SourceTable, Spectra, spectra

ROWS, ROWS_WITH_COVARIANCE = 32_768, 1024
"""Sources whose spectra are held at a time."""


@dataclasses.dataclass(frozen=True, repr=False)
class LabelFits(Record):
    """Labels of many sources: the fit, the one before the correction, if any, and the bits of `Status`."""

    source_id: np.ndarray
    fit: StellarFit
    before: StellarFit | None
    status: np.ndarray
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source_id)

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """That of the fit, with labels, dflux_per and fit_status `_before` the correction, and xp_status."""
        more: dict[str, np.ndarray] = {}
        if self.before is not None:
            more = {f"{name}_before": self.before.labels[:, k] for k, name in enumerate(self.before.names)}
            more |= {"dflux_per_before": self.before.dflux_per, "fit_status_before": self.before.status}
        table = self.fit.catalogue(self.source_id, {**more, **(keep or {})})
        bits = Status.legend()
        return dataclasses.replace(
            table,
            columns={**table.columns, "xp_status": self.status},
            descriptions={**table.descriptions, "xp_status": bits},
            meta=dict(self.meta),
        )


@dataclasses.dataclass(frozen=True)
class LabelFitter:
    """How labels of XP sources are fitted.

    model: an interpolated grid. correction: of the spectra, a linear one, "standard", a file, a `LinearCorrection`;
    with one they are seen at XP's resolution, as the grid is. Or a `Correcting`: a network corrects the spectra between
    two fits, the first of which says which stars are too hot or too poor in metals for it. ebv: name of the column of
    E(B-V) that spectra are freed from; None: they are taken as they are, or the grid has the label ebv.
    truncate: n_relevant bases only. covariance: chi2 has the correlations between samples. error_floor, and options,
    among normalisation, continuum_order, priors, starts and law, as for `fit_stars`. about: what the metadata of the
    labels say besides, such as the grid's name and `grid_digest`.
    """

    model: Interpolator
    correction: Any = None
    ebv: str | None = None
    truncate: bool = True
    covariance: bool = False
    error_floor: float = 0.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    float64: bool = False
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.network is not None and self.network.model.truncate != self.truncate:
            made = "truncated" if self.network.model.truncate else "full"
            raise XpjaxError(f"the correction is for {made} spectra: fit those, with truncate={not self.truncate}")
        if self.model.of_coefficients:
            raise XpjaxError(
                "this grid holds XP coefficients: fit them with fit_stars, or build one of sampled spectra"
            )

    @functools.cached_property
    def linear(self) -> LinearCorrection | None:
        """The linear correction of the spectra."""
        return linear_and_network(self.correction)[0]

    @property
    def network(self) -> Correcting | None:
        """The network that corrects spectra between two fits."""
        return linear_and_network(self.correction)[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        own = () if self.ebv is None else (self.ebv,)
        return tuple(dict.fromkeys((*own, *(() if self.network is None else self.network.columns))))

    def __call__(
        self, table: SourceTable, *, devices: Any = None, progress: engine.Progress | None = None
    ) -> LabelFits:
        """Labels of the sources of a table. Raises ValueError for columns, errors or n_relevant that are not there."""
        n = len(table)
        most = ROWS_WITH_COVARIANCE if self.covariance else ROWS
        parts = []
        # Equal parts, that they compile once.
        step = -(-n // max(-(-n // most), 1)) or 1
        for start in range(0, n, step) or [0]:
            parts.append(self._part(table[start : start + step], devices))
            if progress is not None:
                progress(min(start + step, n))
        return _joined(parts)

    def _part(self, table: SourceTable, devices: Any) -> LabelFits:
        made = spectra(
            table,
            np.asarray(self.model.wavelength, float),
            truncate=self.truncate,
            correlation=self.covariance,
            float64=self.float64,
            correction=self.linear,
            devices=devices,
        )
        ebv = None if self.ebv is None else floats(table, self.ebv)
        if self.network is None:
            return self.fit(made, ebv, devices=devices)
        before = self.fit(made, ebv, devices=devices).fit
        labels: dict[str, Any] = {
            name: before.labels[:, before.names.index(name)] for name in ("teff", "mh") if name in before.names
        }
        corrected = correct_spectra(
            made,
            self.network.model,
            self.network.features(table, False, float64=self.float64, devices=devices),
            limits=self.network.limits,
            float64=self.float64,
            devices=devices,
            **labels,
        )
        return dataclasses.replace(self.fit(corrected, ebv, devices=devices), before=before)

    def fit(
        self, made: Spectra, ebv: np.ndarray | None = None, *, devices: Any = None, progress: Any = None
    ) -> LabelFits:
        """Labels of sampled spectra, at any wavelengths that cover the grid's: between samples they are interpolated.

        Raises ValueError where they do not cover them, or have no errors and there is no error_floor.
        """
        grid = np.asarray(self.model.wavelength, float)
        flux, error, correlation = made.flux, made.flux_error, made.correlation if self.covariance else None
        if len(made.wavelength) != len(grid) or not np.allclose(made.wavelength, grid, rtol=1e-9):
            flux = interpolated(made.wavelength, flux, grid)
            error = None if error is None else interpolated(made.wavelength, error, grid)
            if self.covariance:
                raise XpjaxError("spectra at other wavelengths than the grid's have no covariance there: leave it out")
        if error is None and not self.error_floor > 0:
            raise XpjaxError(
                "these spectra have no errors (the coefficients come without correlations): give an error floor, as in "
                + say("error_floor=0.02", "--error-floor 0.02")
            )
        if self.covariance and correlation is None:
            raise XpjaxError("these spectra have no correlations, which covariance needs: leave it out")
        settings = {"error_floor": self.error_floor, "float64": self.float64, "devices": devices, **self.options}

        def fitted(rows: Any, **more: Any) -> StellarFit:
            own = [None if x is None else x[rows] for x in (correlation, ebv)]
            sigma = np.zeros_like(flux[rows]) if error is None else error[rows]
            return fit_labels(flux[rows], sigma, self.model, correlation=own[0], ebv=own[1], **more, **settings)

        found = fitted(slice(None), progress=progress)
        # Stars of which one XP is missing are fitted on what there is of them; apart, to leave the others as they are.
        there = np.isfinite(flux) if error is None else np.isfinite(flux) & np.isfinite(error)
        partial = np.flatnonzero(there.any(axis=1) & ~there.all(axis=1))
        if len(partial):
            found = found.with_rows(partial, fitted(partial, used=there[partial]))
        told = ("truncate", "correction", "resolution", "corrected")
        meta = {key: made.meta[key] for key in told if key in made.meta} | dict(self.about)
        if ebv is not None:
            law = self.options.get("law", "ccm89")
            meta |= {"law": law, "r_v": R_V, "per_ebv": float(self.options.get("per_ebv", AV_PER_SFD))}
        return LabelFits(made.source_id, found, None, made.status, meta)


def grid_digest(grid: StellarGrid) -> str:
    """What tells a grid of models from others: a digest of its labels, nodes, wavelengths and spectra."""
    digest = hashlib.sha256(repr(grid.names).encode())
    for array in (*grid.nodes, grid.wavelength, grid.flux):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def interpolated(wavelength: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Spectra (n, m) at wavelengths (k,), linear between samples. Raises ValueError where they do not reach."""
    if at[0] < wavelength[0] - 1e-6 or at[-1] > wavelength[-1] + 1e-6:
        raise XpjaxError(
            f"the spectra cover {wavelength[0]:g}..{wavelength[-1]:g} nm, the grid needs {at[0]:g}..{at[-1]:g} nm"
        )
    k = np.clip(np.searchsorted(wavelength, at, side="right") - 1, 0, len(wavelength) - 2)
    t = ((at - wavelength[k]) / (wavelength[k + 1] - wavelength[k])).astype(values.dtype)
    return values[:, k] * (1 - t) + values[:, k + 1] * t


def _joined(parts: list[LabelFits]) -> LabelFits:
    if len(parts) == 1:
        return parts[0]

    def fits(several: list[Any]) -> StellarFit:
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(StellarFit):
            values = [getattr(one, field.name) for one in several]
            joinable = isinstance(values[0], np.ndarray)
            fields[field.name] = np.concatenate(values) if joinable else values[0]
        return StellarFit(**fields)

    return LabelFits(
        np.concatenate([part.source_id for part in parts]),
        fits([part.fit for part in parts]),
        None if parts[0].before is None else fits([part.before for part in parts]),
        np.concatenate([part.status for part in parts]),
        parts[0].meta,
    )


# --- which stars are to be trusted ------------------------------------------------------------------------------------

SELECTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "learn": {"teff": (4000.0, 7000.0), "dflux_per": (0.0, 20.0)},
    "good": {"teff": (4000.0, 7000.0), "dflux_per_before": (0.0, 20.0), "dflux_per": (0.0, 8.0)},
    "metal-poor": {
        "teff": (4000.0, 7000.0),
        "dflux_per_before": (0.0, 20.0),
        "dflux_per": (0.0, 8.0),
        "mh": (-np.inf, -2.5),
        "a_v": (-np.inf, 1.5),
    },
}
"""Cuts of Ye et al. (2024), both ends in: before the correction (learn), after it (good), and metal-poor stars."""


def selected(
    table: Catalogue, name: str, grid: Interpolator, a_v: np.ndarray | None = None
) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    """Which fits a named selection takes (n,), and warnings where it asks for labels that the grid does not have.

    Fits with any fit_status but OK are out; a star held at the grid's edge would be one. a_v (n,) [mag]. Raises
    ValueError for an unknown selection, or a column that it needs and the table has not.
    """
    if name not in SELECTIONS:
        raise XpjaxError(f"no selection {name!r}; choose from {', '.join(SELECTIONS)}")
    chosen = np.asarray(table.columns["fit_status"]) == int(FitStatus.OK)
    warnings = []
    for column, (low, high) in SELECTIONS[name].items():
        values = a_v if column == "a_v" else table.columns.get(column)
        if values is None:
            raise XpjaxError(f"selection {name!r} needs {column}, which these fits do not have")
        with np.errstate(invalid="ignore"):
            chosen &= (np.asarray(values) >= low) & (np.asarray(values) <= high)
        if column in grid.names:
            nodes = np.asarray(grid.nodes[grid.names.index(column)])
            if nodes[0] > low or nodes[-1] < high:
                warnings.append(
                    f"selection {name!r} takes {column} in {low:g}..{high:g}, the grid ends at {nodes[0]:g} and "
                    f"{nodes[-1]:g}: stars beyond were fitted at its edge and are left out"
                )
    return chosen, warnings
