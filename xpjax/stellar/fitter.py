"""Labels of XP sources: sample their spectra, fit, and with a network correct and fit again (Ye et al. 2024)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import concatenate_records
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.stellar.chi2 import Noise, Reach, Spread
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import SHIPPED, grid_digest, read_grid
from xpjax.stellar.interpolation import COEFFICIENTS, Interpolator, interpolate_grid
from xpjax.stellar.priors import (
    EBV_NODES,
    LAYER,
    RV_NODES,
    RV_PRIOR,
    Gaussian,
    Known,
    check_priors,
    columns_of,
    dereddened_g,
    gaussians,
    joined,
    parallax_prior,
    values_of,
)
from xpjax.stellar.results import LabelFits, StellarFit
from xpjax.stellar.sampling import interpolate_spectra
from xpjax.stellar.summary import count_fits
from xpjax.wiggles import (
    AnyCorrection,
    NetworkCorrection,
    check_network,
    choose_correction,
    correct_spectra,
    is_network,
    linear_and_network,
)
from xpjax.xp import (
    STANDARD,
    TRANSIT,
    AnySources,
    LinearCorrection,
    Sampler,
    SourceTable,
    Spectra,
    XPCoefficients,
    as_sources,
    coefficient_errors,
    load_instrument,
)

ROWS = 32_768
"""Sources whose spectra are held at a time."""
DEFAULT_CORRECTION = "default"
"""The standard linear correction for coefficients of the release that it is for, none for others."""
LEFT = 20
"""Templates of what the linear correction leaves: they hold 90 % of its variance."""
ROUNDS = 2
"""Fits after the first one, with gravities of parallaxes that the labels of the last one give."""


@dataclasses.dataclass(frozen=True)
class LabelFitter:
    """Fit stellar labels to XP sources.

    Parameters
    ----------
    model : StellarGrid, path, str or Interpolator, optional
        The grid of models, from memory, a file, or by its name: "ck04", which xpjax ships, is the default.
    correction : str, path, LinearCorrection, NetworkCorrection or None, optional
        Linear correction of the spectra, which are then seen at XP's resolution, as the grid is; or a network, which
        corrects the spectra between two fits, the first of which says which stars are too hot or too metal-poor for it.
        By default "standard", which is for coefficients of Gaia DR3, others being refused; "none" or None for none.
    ebv : str or float, optional
        E(B-V) [mag] that spectra are freed from, a column or one number for all; 0 takes them as they are. By default
        E(B-V) is a label of the fit, unless the grid is an `Interpolator`.
    fit_ebv : (n,) array, optional
        Nodes of E(B-V) [mag] where it is a label; by default -0.1 to 1.7, with the prior "layer".
    priors : mapping of str to (mean, error), optional
        Gaussian priors by label, numbers or columns: {"ebv": ("ebv", "ebv_error"), "mh": (-0.3, 0.5)}. None for a label
        that is to have none; "layer" for ebv: what a plane layer of dust has at the Galactic latitude that source_id
        encodes. A prior of rv makes R_V a label too.
    r_v : float or (n,) array, optional
        R_V of the law, or its nodes where it is a label, with a prior of 3.1 and 0.3 unless priors says otherwise.
    parallax : str, optional
        Column of the parallax [mas], whose error is in the column with `_error` behind the name: a prior of log g by
        the luminosity, none below three times the error.
    posterior : int, optional
        Draws of the labels from their posterior, for each star; for some hundreds of stars.
    truncate : bool, optional
        Use the relevant coefficients (n_relevant_bases) only, or all; errors are of all, as a coefficient that is left
        out is known to its error. By default these only, and all of sources without n_relevant_bases; with a network
        as it was trained. `truncate` of the metadata says which.
    covariance : bool, optional
        Whether chi2 has the correlations between samples; they need an error_floor.
    error_floor : float, optional
        Fraction of the flux that is added to the errors in quadrature.
    options : mapping, optional
        More arguments of `fit_labels`: normalization, continuum_order, starts, law, per_ebv, systematic. The errors
        common to stars are the grid's, and what the linear correction leaves where the grid has none.
    float64 : bool, optional
        Compute in float64.
    about : mapping, optional
        Metadata of the labels; by default the grid's name and digest.

    Raises
    ------
    XpjaxError
        If the network is for other spectra, the grid holds XP coefficients, both ebv and fit_ebv are given, or a prior
        is of no label.

    Notes
    -----
    A parallax p [mas] gives log g = 4.438 + log M + 4 log(Teff / 5772 K) + 0.4 (G + BC_G + 5 log p - 10 - 4.74) with
    log M of 0 +- 0.3, Teff of a first fit, G of the spectrum without extinction, and BC_G of Castelli & Kurucz (2004).

    Examples
    --------
    >>> x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 6000.0])
    >>> grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    >>> fitter = xpjax.stellar.LabelFitter(grid, error_floor=0.02)
    >>> fitter(xpjax.simulate_sources(1, seed=1)).fit.names
    ('teff', 'ebv')
    """

    model: StellarGrid | Interpolator | str | Path = SHIPPED
    correction: AnyCorrection = DEFAULT_CORRECTION
    ebv: str | float | None = None
    fit_ebv: ArrayLike | None = None
    priors: Known = dataclasses.field(default_factory=dict)
    r_v: ArrayLike = R_V
    parallax: str | None = None
    posterior: int = 0
    truncate: bool | None = None
    covariance: bool = False
    error_floor: float = 0.0
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    float64: bool = False
    about: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ebv is not None and self.fit_ebv is not None:
            one, other = say("ebv", "--ebv"), say("fit_ebv", "--fit-ebv")
            raise XpjaxError(f"{one} takes the reddening off, {other} fits it: choose one")
        if isinstance(self.correction, str | Path) and self.correction != DEFAULT_CORRECTION:
            ebv = self.ebv if is_network(self.correction) and isinstance(self.ebv, str) else None
            object.__setattr__(self, "correction", choose_correction(self.correction, ebv=ebv))
        if self.network is not None and self.truncate not in (None, self.network.model.truncate):
            made, option = ("truncated", "--truncate") if self.network.model.truncate else ("full", "--no-truncate")
            how = say(f"truncate={not self.truncate}", option)
            raise XpjaxError(f"the correction is for {made} spectra: fit those, with {how}")
        if not isinstance(self.model, Interpolator):
            grid = self.model if isinstance(self.model, StellarGrid) else read_grid(self.model)
            name = {} if isinstance(self.model, StellarGrid) else {"grid": Path(self.model).name}
            about = {**name, "grid_digest": grid_digest(grid), **self.about}
            object.__setattr__(self, "model", interpolate_grid(self._reddened(grid)))
            object.__setattr__(self, "about", about)
        elif self.fit_ebv is not None and "ebv" not in self.interpolator.names:
            raise XpjaxError("fit_ebv with an interpolated grid, which is taken as it is: redden the grid before")
        if self.interpolator.of_coefficients:
            raise XpjaxError(
                "this grid holds XP coefficients: fit them with fit_labels, or build one of sampled spectra"
            )
        check_priors(self._given, self.interpolator.names)
        if self.parallax is not None and not {"teff", "logg"} <= {*self.interpolator.names}:
            raise XpjaxError(f"parallaxes tell log g by Teff: the grid has {', '.join(self.interpolator.names)} alone")

    @property
    def interpolator(self) -> Interpolator:
        """The interpolated grid, which `model` is once the fitter is made."""
        assert isinstance(self.model, Interpolator)
        return self.model

    def _reddened(self, grid: StellarGrid) -> StellarGrid:
        """The grid with E(B-V), and R_V, as labels where these are to be found; their priors where none are given."""
        free, priors = np.ndim(self.r_v) > 0 or "rv" in self._given, dict(self.priors)
        if self.ebv is not None and free:
            raise XpjaxError("R_V is fitted where E(B-V) is: leave out " + say("ebv", "--ebv") + ", or give one R_V")
        if self.ebv is not None or "ebv" in grid.names or grid.sampling == COEFFICIENTS:
            return grid
        law: dict[str, Any] = {name: self.options[name] for name in ("law", "per_ebv") if name in self.options}
        r_v = RV_NODES if free and np.ndim(self.r_v) == 0 else self.r_v
        if self.fit_ebv is None and "ebv" not in self._given:
            priors["ebv"] = LAYER
        if free and "rv" not in self._given:
            priors["rv"] = RV_PRIOR
        object.__setattr__(self, "priors", priors)
        return redden(grid, EBV_NODES if self.fit_ebv is None else self.fit_ebv, r_v=r_v, **law)

    @property
    def _given(self) -> dict[str, Any]:
        """Priors by label, those among the arguments of `fit_labels` too."""
        more: Any = self.options.get("priors") or {}
        return {**more, **self.priors}

    @property
    def implied(self) -> bool:
        """Whether nothing was said of a correction."""
        return isinstance(self.correction, str)

    @functools.cached_property
    def linear(self) -> LinearCorrection | None:
        """The linear correction of the spectra; `standard` where none was named."""
        return linear_and_network(STANDARD if self.implied else self.correction)[0]

    @property
    def network(self) -> NetworkCorrection | None:
        """The network that corrects spectra between two fits."""
        return None if self.implied else linear_and_network(self.correction)[1]

    @functools.cached_property
    def _corrected(self) -> Interpolator:
        """The grid for corrected spectra: with what the correction leaves, where the grid knows of no common errors."""
        grid = self.interpolator
        if self.linear is None or grid.systematic is not None:
            return grid
        _, size, rows = np.linalg.svd(self.linear.left_at(np.asarray(grid.wavelength)), full_matrices=False)
        return dataclasses.replace(grid, systematic=size[:LEFT, None] * rows[:LEFT])

    def check(self, release: Release) -> None:
        """Raise XpjaxError for sources of a release that the correction is not for, or that has no instrument here."""
        model = load_instrument(release=release)
        if self.linear is not None:
            self.linear.check(release, model.model)
        if self.network is not None:
            check_network(self.network.model, release, "the sources are")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        network = () if self.network is None else self.network.columns
        parallax = [] if self.parallax is None else [self.parallax, f"{self.parallax}_error"]
        pairs = [pair for pair in self._given.values() if not isinstance(pair, str)]
        return tuple(dict.fromkeys((*columns_of(self.ebv, *pairs), *parallax, *network)))

    def summary(self, fits: LabelFits) -> list[str]:
        """Lines that say how many fits converged, which labels are at an edge of the grid, and what to do."""
        return count_fits(fits.fit, self.interpolator)

    def __call__(
        self, sources: AnySources, *, devices: engine.Devices = None, progress: engine.Progress | None = None
    ) -> LabelFits:
        """Labels of sources, as `xpjax.photometry` takes them.

        Raises ValueError for columns, errors or n_relevant that are not there.
        """
        table = as_sources(sources)
        n = len(table)
        parts = []
        # Equal parts, that they compile once.
        step = -(-n // max(-(-n // ROWS), 1)) or 1
        for start in range(0, n, step) or [0]:
            parts.append(self._part(table[start : start + step], devices))
            if progress is not None:
                progress(min(start + step, n))
        return concatenate_records(parts)

    def truncated(self, table: SourceTable) -> bool:
        """Whether the relevant coefficients of the sources of a table are used only."""
        if self.truncate is not None:
            return self.truncate
        if self.network is not None:
            return self.network.model.truncate
        return table.coefficients.n_relevant is not None

    def sampled(self, table: SourceTable, devices: engine.Devices = None) -> tuple[Spectra, Sampler]:
        """Spectra of sources at the wavelengths of the grid as they are fitted, and how they were sampled."""
        truncated = self.truncated(table)
        sampler = Sampler.of(
            table.release, np.asarray(self.interpolator.wavelength, float), correction=self.linear, truncate=truncated,
            errors=not truncated, correlation=False, float64=self.float64, devices=devices,
        )  # fmt: skip
        made = sampler(table)
        if truncated:
            whole = sampler.but(truncate=False, errors=True)(table)
            made = dataclasses.replace(made, flux_error=whole.flux_error, status=made.status | whole.status)
        return made, sampler

    def _part(self, table: SourceTable, devices: engine.Devices) -> LabelFits:
        truncated = self.truncated(table)
        made, sampler = self.sampled(table, devices)
        noise = _noise_of(table, made, sampler) if self.covariance else None
        how: dict[str, Any] = {"columns": table.columns, "origin": table.origin, "devices": devices, "noise": noise}
        if made.flux_error is not None and not self.covariance and self.error_floor == 0:
            how["spread"] = _spread_of(table, sampler, truncated)
        if self.network is None:
            return self.fit(made, **how)
        before = dataclasses.replace(self, posterior=0).fit(made, **how).fit
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
        return dataclasses.replace(self.fit(corrected, **how), before=before)

    def fit(
        self,
        made: Spectra,
        ebv: np.ndarray | None = None,
        *,
        columns: Mapping[str, np.ndarray] | None = None,
        origin: str = "the table of spectra",
        devices: engine.Devices = None,
        progress: engine.Progress | None = None,
        noise: _Noises | None = None,
        spread: Spread | None = None,
    ) -> LabelFits:
        """Labels of sampled spectra, at any wavelengths that cover the grid's: between samples they are interpolated.

        ebv: E(B-V) (n,) [mag] that they are freed from, instead of the fitter's. columns: what columns of E(B-V),
        priors and parallaxes are found in, by default those that the spectra pass on. noise: that of the coefficients
        they were made of, in the place of their correlations; spread: the errors of these, for dof. Raises XpjaxError
        where they do not cover the grid, have no errors and there is no error_floor, or a column is not there.
        """
        grid = np.asarray(self.interpolator.wavelength, float)
        flux, error, correlation = self._samples(made, noise is not None)
        columns, n = made.columns if columns is None else columns, len(flux)
        if ebv is None and self.ebv is not None and not (isinstance(self.ebv, int | float) and self.ebv == 0):
            ebv = values_of(self.ebv, columns, n, origin)
        settings: dict[str, Any] = {"error_floor": self.error_floor, "float64": self.float64, "devices": devices}
        settings |= self.options
        settings |= {} if ebv is None else {"r_v": np.asarray(self.r_v, float).item()}
        settings.pop("priors", None)
        known = gaussians(self._given, columns, made.source_id, origin)
        there = np.isfinite(flux) if error is None else np.isfinite(flux) & np.isfinite(error)
        # Stars of which one XP is missing are fitted on what there is of them; apart, to leave the others as they are.
        partial = np.flatnonzero(there.any(axis=1) & ~there.all(axis=1))
        model = (
            self._corrected
            if self.linear is not None and made.meta.get("correction") == self.linear.name
            else self.interpolator
        )
        bare = np.zeros(0, int) if noise is None else np.flatnonzero(noise.bare & there.all(axis=1))

        def fitted(rows: Any, priors: Mapping[str, Gaussian], corrected: bool = False, **more: Any) -> StellarFit:
            own = [None if x is None else x[rows] for x in (correlation, ebv)]
            if noise is not None:
                own[0] = noise.of(rows, corrected)
            if spread is not None:
                more["spread"] = spread._replace(error=spread.error[rows])
            sigma = np.zeros_like(flux[rows]) if error is None else error[rows]
            some: Any = {name: (mean[rows], spread[rows]) for name, (mean, spread) in priors.items()}
            how = {"correlation": own[0], "ebv": own[1], "priors": some, **more, **settings}
            return fit_labels(flux[rows], sigma, model, **how)

        def all_fitted(priors: Mapping[str, Gaussian], **more: Any) -> StellarFit:
            found = fitted(slice(None), priors, True, progress=progress, **more)
            if len(partial):
                found = found.with_rows(partial, fitted(partial, priors, used=there[partial], **more))
            return found if not len(bare) else found.with_rows(bare, fitted(bare, priors, **more))

        if self.parallax is None:
            found = all_fitted(known, posterior=self.posterior)
        else:
            pair = [values_of(name, columns, n, origin) for name in (self.parallax, f"{self.parallax}_error")]
            gravity: Gaussian = (np.full(n, np.nan), np.full(n, np.nan))
            for k in range(1 + ROUNDS):
                last = {"posterior": self.posterior * (k == ROUNDS)}
                found = all_fitted({**known, "logg": joined(known.get("logg"), gravity)}, **last)
                teff = found.labels[:, found.names.index("teff")]
                dust = found.labels[:, found.names.index("ebv")] if "ebv" in found.names else ebv
                light = dereddened_g(grid, flux, dust, self.options)
                gravity = parallax_prior(teff, light, *pair)
        told = ("truncate", "correction", "resolution", "corrected")
        meta = {key: made.meta[key] for key in told if key in made.meta} | dict(self.about)
        if ebv is not None:
            law, per_ebv = settings.get("law", "ccm89"), float(settings.get("per_ebv", AV_PER_SFD))
            meta |= {"law": law, "r_v": settings["r_v"], "per_ebv": per_ebv}
        transits = {name: made.columns[name] for name in TRANSIT if name in made.columns}
        return LabelFits(made.source_id, found, None, made.status, meta, transits)

    def _samples(self, made: Spectra, noisy: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Flux, errors and correlations at the wavelengths of the grid. Raises XpjaxError for what cannot be fitted."""
        grid = np.asarray(self.interpolator.wavelength, float)
        flux, error, correlation = made.flux, made.flux_error, made.correlation if self.covariance else None
        if len(made.wavelength) != len(grid) or not np.allclose(made.wavelength, grid, rtol=1e-9):
            flux = interpolate_spectra(made.wavelength, flux, grid)
            error = None if error is None else interpolate_spectra(made.wavelength, error, grid)
            if self.covariance:
                raise XpjaxError("spectra at other wavelengths than the grid's have no covariance there: leave it out")
        if error is None and not self.error_floor > 0:
            raise XpjaxError(
                "these spectra have no errors (the coefficients come without correlations): give an error floor, as in "
                + say("error_floor=0.02", "--error-floor 0.02")
            )
        if self.covariance and correlation is None and not noisy:
            raise XpjaxError("these spectra have no correlations, which covariance needs: leave it out")
        return flux, error, correlation


@dataclasses.dataclass(frozen=True)
class _Noises:
    """The noise of coefficients in their spectra, and, where a correction mixes BP and RP, in those not corrected.

    bare (n,): which are not corrected.
    """

    source: XPCoefficients
    reach: tuple[Reach, Reach]
    bare: np.ndarray

    def of(self, rows: Any, corrected: bool) -> Noise:
        """What `fit_labels` takes for some of the sources."""
        return Noise(self.reach[0 if corrected else 1], self.source[rows])


def _noise_of(table: SourceTable, made: Spectra, sampler: Sampler) -> _Noises:
    """The noise in spectra of a table that a sampler made. Raises XpjaxError for sources without covariances."""
    source, how = table.coefficients, sampler.how
    if not source.has_covariance:
        raise XpjaxError("these spectra have no correlations, which covariance needs: leave it out")
    if source.covariance is not None:
        source = source.among(how.serving(source.covariance.subspace))
    support, designs = how.design.support, [how.design]
    if how.model.correction is not None:
        designs.append(dataclasses.replace(how.model, correction=None).design(how.grid))
    reach = []
    for design in designs:
        value = np.asarray(design.value, float)
        rows = [value[rows] for rows in source.release.slices]
        if source.covariance is not None:
            rows = [source.covariance.subspace.seen(value, k) for k in range(len(rows))]
        reach.append(_reaching(rows, support))
    bare = (made.status & np.uint32(Status.NOT_CORRECTED)) != 0
    return _Noises(source.of_errors(True, False), (reach[0], reach[-1]), bare)


def _spread_of(table: SourceTable, sampler: Sampler, truncated: bool) -> Spread:
    """What the noise in spectra of a table is made of: errors of the coefficients that they are made of."""
    design = sampler.how.design
    value = np.asarray(design.value, float)
    reach = _reaching([value[rows] for rows in table.release.slices], design.support)
    return Spread(reach, coefficient_errors(table.coefficients, truncated) * float(design.scale))


def _reaching(rows: list[np.ndarray], support: tuple[tuple[int, int], ...]) -> Reach:
    """How rows (p, n_wavelength) of each XP reach the samples."""
    return Reach(tuple(row[:, a:b] for row, (a, b) in zip(rows, support, strict=True)), support)
