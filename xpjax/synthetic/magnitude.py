"""Synthetic fluxes and magnitudes from coefficients, without forming spectra.

flux = c r; variance = r_BP' K_BP r_BP + r_RP' K_RP r_RP; then flux bias, color equations and error correction, in
this order (Montegriffo et al. 2023, A&A 674 A33; see `xpjax.synthetic.system`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot, dot_last_first
from xpjax.core.records import AnyArray, Catalogue, Record
from xpjax.core.status import Status
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import corrected_system, passband_system
from xpjax.synthetic.system import ColorEquation, PhotometricSystem, stack
from xpjax.synthetic.system import load_system as load_system
from xpjax.xp import (
    BAD,
    DISTANCE_MEANING,
    NO_ERROR,
    SourceTable,
    XPCoefficients,
    as_sources,
    mark_no_errors,
    masked,
    merge_status,
    pair_products,
    possible_variance,
    run_guarded,
    usable,
)

FEW_BANDS = 16
LARGE = 1 - 10 ** (-0.4 * 0.15)
"""Relative change of a band's flux by a linear correction, 0.15 mag, from which on stars are flagged."""
MOST = (1 - 10 ** (-0.4 * 0.35), 10 ** (0.4 * 0.35) - 1)
"""The largest changes, downward and upward: 0.35 mag. Large ones are of noise, or of bands with little light."""


@functools.cache
def photometry_kernel(
    truncate: bool = False, errors: bool = False, error_correction: bool = False, guard: bool = True
) -> engine.Kernel:
    """The kernel (PhotometricSystem, XPCoefficients) -> flux, magnitude, their errors and status of one source.

    Fluxes in the system's flux_unit; errors are absent unless asked for. Without guard one bad number spoils all bands
    of the source, and is flagged; truncation needs the guard. Of corrected systems also the star's distance d^2 from
    what the correction was learned from.
    """

    def kernel(bands: PhotometricSystem, source: XPCoefficients) -> dict[str, Array]:
        status = jnp.uint32(0)
        complete = jnp.bool_(True)
        if guard:
            available = usable(source)
            complete = jnp.all(available)
            source = masked(source, truncate)
        corrected = bands.domain is not None
        flux, change = _project_with_change(bands, source) if corrected else (_project(bands, source), None)
        every = bands.both if corrected else bands.projection
        variance = None
        if guard:
            needs = jnp.stack([jnp.any(every[rows] != 0, axis=0) for rows in bands.release.slices])
            flux = jnp.where(jnp.any(needs[:, : bands.n_band] & ~available[:, None], axis=0), jnp.nan, flux)
            bits = jnp.array([int(bit) for bit in BAD[: len(bands.release.xp)]], jnp.uint32)
            status |= jnp.where(available, 0, bits).sum().astype(jnp.uint32)
            if errors:
                variance, bits = _variance_of_each(bands, every, source, needs)
                status |= jnp.where(available, bits, 0).sum().astype(jnp.uint32)
        elif errors:
            assert bands.pair_weight is not None
            assert source.error is not None
            variance = dot(source.error**2, every**2) + dot(pair_products(source), bands.pair_weight)
            # Not by minimum and maximum: XLA's lose NaN on CPUs in batches of more than 383 rows.
            possible = jnp.all((variance >= 0) & (variance < jnp.inf))
            status |= _flag(~possible, NO_ERROR[0] | NO_ERROR[1])
        factor = jnp.ones(())
        if error_correction and errors:
            factor, known = _error_factor(bands, source, complete)
            status |= _flag(~known, Status.NO_ERROR_CORRECTION)
        more = {}
        if change is not None:
            flux, share, more["distance"], bits = _changed(bands, flux, change, complete if guard else None)
            status |= bits
            variance = None if variance is None else _mixed_variance(variance, share)
        biased = _biased(bands, flux)
        # A sum is not finite where a term is not, and cheaper than asking each; a minimum may pass over NaN.
        missing = jnp.any(~jnp.isfinite(biased)) if guard else ~jnp.isfinite(jnp.sum(biased))
        nonpositive = jnp.any(biased <= 0) if guard else jnp.min(biased) <= 0
        status |= _flag(missing, Status.BAND_MISSING) | _flag(nonpositive, Status.NONPOSITIVE_FLUX)
        return {**_observe(bands, flux, variance, status, factor), **more}

    return kernel


def _project_with_change(bands: PhotometricSystem, source: XPCoefficients) -> tuple[Array, tuple[Array, Array, Array]]:
    """Scaled uncorrected fluxes (n_band,), and of a linear correction changes, shares of them (n_band,) and d^2.

    One product gives them all: several narrow ones take twice the time. The first coefficients are most of the
    uncorrected fluxes and are added last.
    """
    assert bands.domain is not None
    assert bands.joined is not None
    assert bands.flat is not None
    assert bands.uncorrected is not None
    n = bands.n_band
    made = dot(source.value, bands.joined)
    flux = made[:n]
    for rows in bands.release.slices:
        flux += source.value[rows.start] * bands.uncorrected[rows.start]
    # In narrow bands with hardly any light of a star the change is not known.
    t = jnp.clip(flux / (bands.flat * made[-1]), 0, 1)
    return flux, (made[n : 2 * n], t * t * (3 - 2 * t), bands.domain.squared(made[2 * n : -1], made[-1]))


def _changed(
    bands: PhotometricSystem, flux: Array, wanted: tuple[Array, Array, Array], complete: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Scaled fluxes (n_band,) with a linear correction's change, shares of it, d^2 where known, and status bits.

    wanted: changes (n_band,), the shares (n_band,) that bands may have by their light, and d^2. Of these a star beyond
    the limit has a share, one without an XP none, and no band changes by more than MOST of its flux.
    """
    change, part, distance = wanted
    assert bands.domain is not None
    limit = jnp.asarray(bands.domain.limit)
    if complete is not None:
        distance = jnp.where(complete, distance, jnp.inf)
    share = part * (limit / jnp.maximum(distance, limit)).astype(flux.dtype)
    size = jnp.abs(flux)
    added = jnp.clip(share * change, -MOST[0] * size, MOST[1] * size)
    known = distance < jnp.inf
    bits = _flag(known & (distance > limit), Status.OUTSIDE_TRAINING) | _flag(~known, Status.NOT_CORRECTED)
    bits |= _flag(jnp.any(jnp.abs(added) > LARGE * size), Status.CORRECTION_LARGE)
    return flux + added, share, jnp.where(known, distance, jnp.nan), bits


def _mixed_variance(variance: Array, share: Array) -> Array:
    """Variances (n_band,) of fluxes with a share of the change, from those without and with it (2 n_band,).

    Standard errors add up with their shares, as of fully correlated fluxes; exact without and with the whole change.
    """
    before, after = jnp.split(variance, 2)
    mixed = ((1 - share) * jnp.sqrt(before) + share * jnp.sqrt(after)) ** 2
    return jnp.where(share <= 0, before, jnp.where(share >= 1, after, mixed))


def _flag(condition: Array, bit: int) -> Array:
    return jnp.where(condition, int(bit), 0).astype(jnp.uint32)


def _observe(
    bands: PhotometricSystem, raw: Array, variance: Array | None, status: Array, factor: Array
) -> dict[str, Array]:
    """From scaled fluxes and variances (n_band,) to what is published: bias, color equations, error correction."""
    flux = _biased(bands, raw)
    error = None
    if variance is not None:
        error = jnp.where(jnp.isfinite(raw), jnp.sqrt(variance), jnp.nan)
        if any(bands.standardised):
            error *= jnp.where(bands.flux_bias != 0, jnp.abs(flux / raw), 1)
    magnitude = _magnitude(flux, bands.scaled_zero_point)
    corrected = [color_corrected(equation, flux, error, bands.scaled_zero_point) for equation in bands.color_equations]
    for equation, (new_flux, new_error, new_magnitude, beyond) in zip(bands.color_equations, corrected, strict=True):
        flux, magnitude = (_replaced(a, equation.band, v) for a, v in ((flux, new_flux), (magnitude, new_magnitude)))
        error = None if error is None else _replaced(error, equation.band, new_error)
        status |= _flag(beyond, Status.COLOR_EXTRAPOLATED)
    result = {"flux": flux * bands.scale, "magnitude": magnitude, "status": status}
    if error is not None:
        error *= factor.astype(error.dtype)
        result["flux_error"] = error * bands.scale
        result["magnitude_error"] = jnp.where(flux > 0, POGSON * error / flux, jnp.nan)
    return result


def _biased(bands: PhotometricSystem, flux: Array) -> Array:
    """Scaled fluxes with the bias of standardised systems."""
    return flux + bands.flux_bias if any(bands.standardised) else flux


def _project(bands: PhotometricSystem, source: XPCoefficients) -> Array:
    """Scaled fluxes (n_band,) = c r, rounded to well below 1e-6 of sum |c_i r_i| in float32.

    The first coefficient of each XP is most of the sum, and is added last. With few columns the product of the others
    and those few terms are quicker than a reversed copy of the coefficients, which halves the speed.
    """
    if bands.n_band > FEW_BANDS:
        parts = [dot_last_first(source.value[rows], bands.projection[rows]) for rows in bands.release.slices]
        return jnp.stack(parts).sum(0)
    first = np.array([rows.start for rows in bands.release.slices])
    flux = dot(source.value, jnp.asarray(bands.projection).at[first].set(0))
    for k in first:
        flux += source.value[k] * bands.projection[k]
    return flux


def _variance_of_each(
    bands: PhotometricSystem, every: AnyArray, source: XPCoefficients, needs: Array
) -> tuple[Array, Array]:
    """Variances (n,) of scaled fluxes with projections every (n_basis_total, n), whose weights the bands have.

    And a NO_ERROR bit (n_xp,) where an XP's part is not finite.

    A band that does not draw on an XP does not inherit its NaN.
    """
    assert bands.pair_weight is not None
    assert source.error is not None
    total = jnp.zeros(every.shape[-1], bands.projection.dtype)
    bits = []
    for k, (rows, pairs) in enumerate(zip(bands.release.slices, bands.release.pair_slices, strict=True)):
        part = dot(source.error[rows] ** 2, every[rows] ** 2)
        part = possible_variance(part + dot(pair_products(source, k), bands.pair_weight[pairs]))
        bits.append(_flag(jnp.any(jnp.isnan(part)), NO_ERROR[k]))
        total += jnp.where(needs[k], part, 0)
    return total, jnp.stack(bits)


def _magnitude(flux: Array, zero_point: AnyArray) -> Array:
    """-2.5 log10(flux) + zero_point, NaN for a flux that is not positive."""
    return jnp.where(flux > 0, -2.5 * jnp.log10(flux) + zero_point, jnp.nan)


def color_corrected(
    equation: ColorEquation, flux: Array, error: Array | None, zero_point: AnyArray
) -> tuple[Array, Array | None, Array, Array]:
    """What one color equation makes of its band: flux, error, magnitude, and whether the color was beyond its range.

    Colors are of uncorrected magnitudes. The error uses the polynomial's derivative at the color itself, also beyond
    the range, as the published tables do.
    """
    chosen = (equation.band, equation.blue, equation.red)
    magnitude, blue, red = (_magnitude(flux[k], zero_point[k]) for k in chosen)
    color = blue - red
    low, high = equation.color_range[0], equation.color_range[1]
    per_color = 2 / (high - low)
    t = (color - low) * per_color - 1
    edge = jnp.clip(t, -1, 1)
    ascending = equation.coefficient
    derivative = ascending[1:] * jnp.arange(1, len(ascending), dtype=ascending.dtype)
    correction = jnp.polyval(ascending[::-1], edge) + jnp.polyval(derivative[::-1], edge) * (t - edge)
    corrected = magnitude + correction
    value = 10 ** (-0.4 * (corrected - zero_point[equation.band]))
    new_error = None
    if error is not None:
        own, of_blue, of_red = (POGSON * error[k] / flux[k] for k in chosen)
        slope = jnp.polyval(derivative[::-1], t) * per_color
        new_error = jnp.sqrt(own**2 + slope**2 * (of_blue**2 + of_red**2)) * value / POGSON
    return value, new_error, corrected, (color < low) | (color > high)


def _replaced(array: Array, index: int, value: Array | None) -> Array:
    """The array (n_band,) with one entry replaced: a choice, since a batch of scatters takes ten times as long."""
    value = jax.lax.optimization_barrier(value)  # computed once a source, not once a band
    return jnp.where(jnp.arange(array.shape[-1], dtype=jnp.int32) == index, value, array)


def _error_factor(bands: PhotometricSystem, source: XPCoefficients, complete: Array) -> tuple[Array, Array]:
    """Tabulated factors (n_band,) on errors at the source's G, and whether there is a G: ones where there is none."""
    table = bands.error_correction
    assert table is not None
    flux = dot(source.value, table.g_projection)
    known = complete & (flux > 0)
    g = _magnitude(flux, table.g_zero_point)
    factor = jax.vmap(lambda f: jnp.interp(g, table.g, f), in_axes=1)(table.factor)
    return jnp.where(known, factor, 1), known


@dataclasses.dataclass(frozen=True, repr=False)
class Photometry(Record):
    """Synthetic photometry of many sources, on the host.

    source_id (n,); flux and flux_error (n, n_band) [system.flux_unit]; magnitude and magnitude_error (n, n_band) [mag];
    status (n,). The errors are None where they were not asked for, or the input has no errors or correlations.
    distance (n,): d^2 from what a linear correction was learned from, NaN where it was not applied, None without one.
    """

    source_id: np.ndarray
    system: PhotometricSystem
    flux: np.ndarray
    flux_error: np.ndarray | None
    magnitude: np.ndarray
    magnitude_error: np.ndarray | None
    status: np.ndarray
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    distance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source_id)

    def __getitem__(self, band: str) -> np.ndarray:
        """Magnitudes (n,) of one band, by `{label}_{name}` or, where that is unique, by its name."""
        columns = self.system.columns
        matches = [i for i, name in enumerate(self.system.names) if band in (name, columns[i])]
        if len(matches) != 1:
            raise KeyError(f"{band!r} is {'ambiguous' if matches else 'not'} among {list(columns)}")
        return self.magnitude[:, matches[0]]

    @property
    def systematic(self) -> np.ndarray | None:
        """What a correction leaves, standard errors (n, n_band) [mag]; None without one.

        sqrt(1 + d^2) times the standard error at d^2 = 0, the root of the diagonal of `system.systematic_covariance`:
        stars alike share it, so that it does not average out, and it is no part of magnitude_error. NaN where the star
        was not corrected.
        """
        covariance = self.system.systematic_covariance
        if covariance is None or self.distance is None:
            return None
        root = np.sqrt(np.diagonal(covariance)).astype(self.magnitude.dtype)
        return np.sqrt(1 + self.distance)[:, None].astype(self.magnitude.dtype) * root

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The photometry as a table with GaiaXPy's column names, and `{label}_mag_error_{band}` and `xp_status`.

        Where a correction says what it leaves, `{label}_mag_systematic_{band}`, and with a linear correction
        `xp_correction_distance`, d^2. keep: further columns (n,), passed on.
        """
        s = self.system
        columns: dict[str, np.ndarray] = {"source_id": self.source_id}
        units: dict[str, str] = {}
        kinds = {
            "mag": self.magnitude,
            "flux": self.flux,
            "flux_error": self.flux_error,
            "mag_error": self.magnitude_error,
            "mag_systematic": self.systematic,
        }
        for label in dict.fromkeys(s.labels):
            for kind, array in kinds.items():
                if array is None:
                    continue
                for k in (k for k, other in enumerate(s.labels) if other == label):
                    name = f"{label}_{kind}_{s.names[k]}"
                    columns[name] = array[:, k]
                    units[name] = "mag" if kind.startswith("mag") else s.flux_unit[k]
        descriptions = {"xp_status": Status.legend()}
        if self.distance is not None:
            columns["xp_correction_distance"] = self.distance
            descriptions["xp_correction_distance"] = DISTANCE_MEANING
        table = Catalogue(columns, units=units, descriptions=descriptions, meta=dict(self.meta))
        return table.with_columns(keep or {}, {"xp_status": self.status})


AnySystem: TypeAlias = PhotometricSystem | PassbandSet | Passband | str


def as_system(system: AnySystem | Sequence[AnySystem], correction: Any = None) -> PhotometricSystem:
    """A system, its name, passbands, or several of these, as one PhotometricSystem. Raises ValueError for others.

    correction: a linear one for those that have none yet, see `xpjax.synthetic.corrected`.
    """
    chosen = system if isinstance(system, list | tuple) else [system]
    systems = []
    for one in chosen:
        if isinstance(one, str):
            systems.append(corrected_system(load_system(one), correction))
        elif isinstance(one, Passband | PassbandSet):
            systems.append(passband_system(one, correction=correction))
        elif isinstance(one, PhotometricSystem):
            systems.append(corrected_system(one, correction))
        else:
            raise XpjaxError(f"system must be a PhotometricSystem, passbands, a name, or a list of these, not {one!r}")
    return stack(systems)


@dataclasses.dataclass(frozen=True)
class Photometer:
    """What `photometry` does, ready to be done to any number of tables of one release."""

    system: PhotometricSystem
    errors: bool = True
    truncate: bool = False
    error_correction: bool = False
    float64: bool = False

    def __post_init__(self) -> None:
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
    def _with_errors(self) -> PhotometricSystem:
        bands = self._lean.with_pair_weights()
        return bands if self.error_correction else dataclasses.replace(bands, error_correction=None)

    def __call__(
        self,
        table: SourceTable,
        *,
        devices: Any = None,
        progress: engine.Progress | None = None,
        batch_rows: int | None = None,
        guard_rows: int | None = None,
    ) -> Photometry:
        """Photometry of a table; batch_rows, guard_rows: see `engine.run` and `run_guarded`. Raises ValueError."""
        c, errors = self.prepared(table)
        correct = errors and self.error_correction
        out = run_guarded(
            lambda guard: photometry_kernel(self.truncate, errors, correct, guard or self.truncate),
            self.bands(errors),
            c,
            float64=self.float64,
            devices=devices,
            work_bytes=4 * table.release.n_pair_total * errors * (1 + self.float64),
            progress=progress,
            batch_rows=batch_rows,
            guard_rows=guard_rows,
        )
        return self.finished(table, out)

    def prepared(self, table: SourceTable) -> tuple[XPCoefficients, bool]:
        """What the kernels are given of a table, and whether it has what errors need. Raises ValueError."""
        c = table.coefficients
        if self.truncate and c.n_relevant is None:
            raise XpjaxError(
                f"{table.origin} has no n_relevant_bases columns, so its spectra cannot be truncated "
                "(glossary: n_relevant_bases)"
            )
        errors = self.errors and c.error is not None and c.correlation is not None
        error, correlation = (c.error, c.correlation) if errors else (None, None)
        return XPCoefficients(
            c.value, error, correlation, c.n_relevant if self.truncate else None, table.release
        ), errors

    def bands(self, errors: bool) -> PhotometricSystem:
        """The system as the kernels take it, with or without what errors need."""
        return self._with_errors if errors else self._plain

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
        flux_error, magnitude_error = out.get("flux_error"), out.get("magnitude_error")
        return Photometry(
            table.source_id,
            self.system,
            out["flux"],
            flux_error,
            out["magnitude"],
            magnitude_error,
            status,
            meta,
            out.get("distance"),
        )


def photometry(
    sources: Any,
    system: AnySystem | Sequence[AnySystem],
    *,
    truncate: bool = False,
    errors: bool = True,
    error_correction: bool = False,
    correction: Any = None,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> Photometry:
    """Synthetic fluxes and magnitudes, with errors, of many sources in one or more photometric systems.

    sources: SourceTable, XPCoefficients, an array (n, n_basis_total), a file or a table. system: a PhotometricSystem,
    a name for `xpjax.load_system`, passbands (`passband_system` has options for them), or several of these. truncate
    keeps n_relevant bases only. errors are given where the input has correlations. error_correction multiplies them by
    the published factors of G. correction: a linear one, "standard", a file or a `LinearCorrection`; by default none,
    as in GaiaXPy. devices: see `engine.find_devices`.

    Raises ValueError for unknown systems or coefficients of another release; a bad source is NaN and flagged in
    `status`, and bands that lie wholly in the other XP are still given.
    """
    photometer = Photometer(as_system(system, correction), errors, truncate, error_correction, float64)
    return photometer(as_sources(sources, photometer.system.release), devices=devices, progress=progress)
