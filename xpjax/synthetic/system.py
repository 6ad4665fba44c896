"""Photometric systems as projections of the coefficients.

flux = c r, mag = -2.5 log10(flux) + zero_point. Then, in this order: standardized systems add a flux bias and scale the
error by |(f + b)/f|; some bands have a color equation (a polynomial in a color, linear beyond its range); errors may
be multiplied by a tabulated factor of G (Montegriffo et al. 2023, A&A 674 A33).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import pair_weights
from xpjax.core.records import AnyArray
from xpjax.core.release import Release
from xpjax.xp import CompactCovariance, Domain, Subspace, packed_variance

_ARRAYS = ("projection", "scale", "zero_point", "scaled_zero_point", "flux_bias", "mean_wavelength")
_CHANGE = ("uncorrected", "systematic", "flat")
_TUPLES = ("names", "labels", "flux_unit", "standardized")


class CompactWeights(eqx.Module):
    """Weights of compact covariances: for each XP and part (width, n_drawn) of the columns `drawn` that draw on it."""

    weight: tuple[tuple[Float[AnyArray, "width n_drawn"], ...], ...]
    drawn: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    n: int = eqx.field(static=True)

    @classmethod
    def of(cls, value: np.ndarray, subspace: Subspace) -> CompactWeights:
        """The weights of projections (n_basis_total, n)."""
        drawn = [np.flatnonzero(np.any(value[rows] != 0, axis=0)) for rows in subspace.release.slices]
        weight = tuple(subspace.weights(value[:, own], k) for k, own in enumerate(drawn))
        return cls(weight, tuple(tuple(own.tolist()) for own in drawn), value.shape[1])

    def variances(self, covariance: CompactCovariance) -> list[Array]:
        """What each XP adds to the variances (n,) of one source; zero where a column does not draw on it."""
        return [
            self._spread(packed_variance(covariance, k, weight), own)
            for k, (weight, own) in enumerate(zip(self.weight, self.drawn, strict=True))
        ]

    def _spread(self, part: Array, own: tuple[int, ...]) -> Array:
        """Values (n_drawn,) in their columns (n,): a constant choice, since a batch of scatters takes ten times."""
        if len(own) == self.n:
            return part
        place = np.full(self.n, len(own), np.int32)
        place[list(own)] = np.arange(len(own))
        return jnp.concatenate([part, jnp.zeros(1, part.dtype)])[place]


class ColorEquation(eqx.Module):
    """A correction of one band: a polynomial in a color on color_range (2,), linear beyond it.

    coefficient (n,) ascending in t, which runs from -1 to 1 over the range: in powers of the color itself the terms
    cancel, and cost 3e-5 mag in float32. color = magnitude of band blue - red.
    """

    coefficient: Float[AnyArray, " n_coefficient"]
    color_range: Float[AnyArray, " 2"]
    band: int = eqx.field(static=True)
    blue: int = eqx.field(static=True)
    red: int = eqx.field(static=True)

    @classmethod
    def from_powers(cls, coefficient: Any, color_range: Any, band: int, blue: int, red: int) -> ColorEquation:
        """From coefficients (n,) of ascending powers of the color, as they are published."""
        from numpy.polynomial import Polynomial

        limits = np.asarray(color_range, float)
        scaled = Polynomial(np.asarray(coefficient, float)).convert(domain=limits, window=[-1, 1])
        return cls(scaled.coef, limits, band, blue, red)


class ErrorCorrection(eqx.Module):
    """Factors (n_node, n_band) on flux errors, linear between nodes of G (n_node,), constant beyond.

    g_projection (n_basis_total,) and g_zero_point give the G magnitude. corrected: which bands have a table.
    """

    g: Float[AnyArray, " n_node"]
    factor: Float[AnyArray, "n_node n_band"]
    g_projection: Float[AnyArray, " n_basis_total"]
    g_zero_point: Float[AnyArray, ""]


class PhotometricSystem(eqx.Module):
    """Bands that coefficients are projected on; several systems may stand side by side.

    `load_system`, `passband_system` and `as_system` make it.

    Parameters
    ----------
    projection : (n_basis_total, n_band) array
        Projection of the coefficients on scaled fluxes, of order one; with a linear correction, the corrected one.
    scale : (n_band,) array [flux_unit]
        What turns scaled fluxes into fluxes.
    zero_point, scaled_zero_point : (n_band,) array [mag]
        Zero points of fluxes, and of scaled fluxes.
    flux_bias : (n_band,) array
        Scaled flux that is added, of standardized systems.
    mean_wavelength : (n_band,) array [nm]
        Mean wavelengths of the bands.
    color_equations : tuple of ColorEquation
        Corrections of single bands by a color.
    error_correction : ErrorCorrection or None
        Published factors on errors as a function of G.
    pair_weight : (n_pair_total, n_band) array, CompactWeights or None
        Weights of packed correlations or of compact covariances (`with_pair_weights`), which errors need.
    names, labels, flux_unit : (n_band,) tuple of str
        Name, label of the system and unit of fluxes of each band: columns are called `{label}_mag_{name}`.
    standardized : (n_band,) tuple of bool
        Whether the band is of a standardized system.
    release : Release
        The data release that the coefficients are of.
    model : str
        Instrument model that the projections were made with.
    uncorrected : (n_basis_total, n_band) array or None
        With a linear correction, the projection without it.
    systematic : (r, n_band) array [mag] or None
        Root of the covariance of what the correction leaves.
    domain : Domain or None
        Where the correction holds.
    correction : str
        Name of the correction.
    flat : (n_band,) array or None
        Scaled flux, over the level in `Domain.unit`, below which a band has only a share of the correction.
    joined : (n_basis_total, n_joined) array or None
        What kernels need of a corrected system (`with_change`).

    Examples
    --------
    >>> system = xpjax.load_system("JPLUS:gJPLUS,rJPLUS")
    >>> system, system.columns, system.flux_unit[0]
    (PhotometricSystem(Jplus: gJPLUS, rJPLUS), ('Jplus_gJPLUS', 'Jplus_rJPLUS'), 'W m-2 Hz-1')
    """

    projection: Float[AnyArray, "n_basis_total n_band"]
    scale: Float[AnyArray, " n_band"]
    zero_point: Float[AnyArray, " n_band"]
    scaled_zero_point: Float[AnyArray, " n_band"]
    flux_bias: Float[AnyArray, " n_band"]
    mean_wavelength: Float[AnyArray, " n_band"]
    color_equations: tuple[ColorEquation, ...]
    error_correction: ErrorCorrection | None
    pair_weight: Float[AnyArray, "n_pair_total n_band"] | CompactWeights | None
    names: tuple[str, ...] = eqx.field(static=True)
    labels: tuple[str, ...] = eqx.field(static=True)
    flux_unit: tuple[str, ...] = eqx.field(static=True)
    standardized: tuple[bool, ...] = eqx.field(static=True)
    release: Release = eqx.field(static=True)
    model: str = eqx.field(static=True, default="")
    uncorrected: Float[AnyArray, "n_basis_total n_band"] | None = None
    systematic: Float[AnyArray, "r n_band"] | None = None
    domain: Domain | None = None
    correction: str = eqx.field(static=True, default="none")
    flat: Float[AnyArray, " n_band"] | None = None
    joined: Float[AnyArray, "n_basis_total n_joined"] | None = None

    def __check_init__(self) -> None:
        n = len(self.names)
        if self.projection.shape[-2:] != (self.release.n_basis_total, n):
            raise XpjaxError(
                f"projection has shape {self.projection.shape}, expected {(self.release.n_basis_total, n)}: "
                f"{self.release.n_basis} basis functions of {self.release.name}, {n} bands"
            )

    def __repr__(self) -> str:
        bands: dict[str, list[str]] = {}
        for label, name in zip(self.labels, self.names, strict=True):
            bands.setdefault(label, []).append(name)
        listed = [f"{label}: {', '.join(names)}" for label, names in bands.items()]
        return f"PhotometricSystem({'; '.join(listed)})"

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return len(self.names)

    @property
    def columns(self) -> tuple[str, ...]:
        """`{label}_{name}` of every band: short unique names."""
        return tuple(f"{label}_{name}" for label, name in zip(self.labels, self.names, strict=True))

    @property
    def needs(self) -> np.ndarray:
        """Which XP each band draws on (n_xp, n_band), on the host."""
        value = np.asarray(self.projection)
        return np.stack([np.any(value[rows] != 0, axis=0) for rows in self.release.slices])

    @property
    def systematic_covariance(self) -> np.ndarray | None:
        """Covariance (n_band, n_band) [mag2] of what a linear correction leaves at d^2 = 0, common to stars alike."""
        return None if self.systematic is None else np.asarray(self.systematic.T @ self.systematic)

    @property
    def both(self) -> AnyArray:
        """Of a corrected system the uncorrected projections and the corrected ones (n_basis_total, 2 n_band)."""
        assert self.uncorrected is not None
        join = np.concatenate if isinstance(self.projection, np.ndarray) else jnp.concatenate
        return join([self.uncorrected, self.projection], axis=-1)

    def with_change(self) -> PhotometricSystem:
        """The same with `joined`, which kernels need of a corrected system; others as they are.

        (n_basis_total, 2 n_band + k + 1): uncorrected projections without the first row of each XP, changes, and what
        d^2 is made of.
        """
        if self.domain is None or self.uncorrected is None:
            return self
        first = np.zeros(self.release.n_basis_total, bool)
        first[[rows.start for rows in self.release.slices]] = True
        raw, rows = self.uncorrected, self.domain.rows(self.release)
        host = all(isinstance(array, np.ndarray) for array in (raw, self.projection, rows))
        library: Any = np if host else jnp
        parts = [library.where(first[:, None], 0, raw), self.projection - raw, rows]
        return dataclasses.replace(self, joined=library.concatenate(parts, axis=1))

    def with_pair_weights(self, subspace: Subspace | None = None) -> PhotometricSystem:
        """The same with the weights that errors need, of packed correlations or of compact covariances.

        Of corrected systems for `both`. Raises XpjaxError for bands whose errors compact covariances do not hold.
        """
        value = np.asarray(self.projection if self.domain is None else self.both)
        if subspace is None:
            weights = [pair_weights(value[rows]) for rows in self.release.slices]
            return dataclasses.replace(self, pair_weight=np.concatenate(weights))
        return dataclasses.replace(self, pair_weight=CompactWeights.of(value, self.serving(subspace)))

    def serving(self, subspace: Subspace) -> Subspace:
        """The axes of compact covariances that errors of the bands need. Raises XpjaxError where none hold them."""
        value = np.asarray(self.projection if self.domain is None else self.both)
        names = [f"the band {column}" for column in self.columns]
        more = f" with the linear correction {self.correction}"
        return subspace.check(value, [*names, *(name + more for name in names)].__getitem__)


def from_projection(
    projection: np.ndarray,
    zero_point: np.ndarray,
    names: tuple[str, ...],
    label: str,
    release: Release,
    *,
    flux_unit: str = "W m-2 Hz-1",
    flux_bias: np.ndarray | None = None,
    mean_wavelength: np.ndarray | None = None,
    color_equations: tuple[ColorEquation, ...] = (),
    error_correction: ErrorCorrection | None = None,
    standardized: bool = False,
    model: str = "",
) -> PhotometricSystem:
    """A system from projection vectors (n_basis_total, n_band) [flux_unit per coefficient] and zero points [mag].

    Rows are scaled to order one: raw AB vectors reach 1e-31, and their squares would underflow float32.
    """
    projection = np.asarray(projection, float)
    if not np.all(np.isfinite(projection)):
        bad = [name for name, ok in zip(names, np.all(np.isfinite(projection), axis=0), strict=True) if not ok]
        raise XpjaxError(f"the projection vectors of {label} {bad} are not finite")
    peak = np.abs(projection).max(axis=0)
    # Some published vectors have 1e-109 where they mean zero: such a band does not draw on that XP.
    projection = np.where(np.abs(projection) > 1e-30 * peak, projection, 0.0)
    # A power of two: scaling then changes no digit.
    scale = np.where(peak > 0, 2.0 ** np.round(np.log2(np.where(peak > 0, peak, 1.0))), 1.0)
    n = projection.shape[1]
    return PhotometricSystem(
        projection / scale,
        scale,
        np.asarray(zero_point, float),
        # Summed here in float64: -56.1 and +77.5 added in float32 would cost 5e-6 mag.
        np.asarray(zero_point, float) - 2.5 * np.log10(scale),
        np.zeros(n) if flux_bias is None else np.asarray(flux_bias, float) / scale,
        np.full(n, np.nan) if mean_wavelength is None else np.asarray(mean_wavelength, float),
        color_equations,
        error_correction,
        None,
        tuple(names),
        (label,) * n,
        (flux_unit,) * n,
        (standardized,) * n,
        release,
        model,
    )


def stack(systems: list[PhotometricSystem]) -> PhotometricSystem:
    """Several systems of one release side by side, as one. Raises ValueError for mixed releases or repeated bands."""
    first = systems[0]
    if len(systems) == 1:
        return first
    if any(s.release.n_basis != first.release.n_basis for s in systems):
        raise XpjaxError(f"systems of different releases cannot be stacked: {[s.release.name for s in systems]}")
    equations: list[ColorEquation] = []
    start = 0
    for s in systems:
        for e in s.color_equations:
            equations.append(ColorEquation(e.coefficient, e.color_range, e.band + start, e.blue + start, e.red + start))
        start += s.n_band
    corrections = list(dict.fromkeys(s.correction for s in systems))
    if len(corrections) > 1:
        raise XpjaxError(f"systems with the corrections {corrections} cannot be stacked: give all of them the same one")
    directions = [s.domain.direction for s in systems if s.domain is not None]
    if not all(np.array_equal(one, directions[0]) for one in directions):
        raise XpjaxError(f"the systems have several corrections of the name {first.correction}: give all the same")
    joined: dict[str, Any] = {
        name: np.concatenate([np.asarray(getattr(s, name)) for s in systems], axis=-1) for name in _arrays(first)
    }
    joined |= {name: tuple(itertools.chain(*(getattr(s, name) for s in systems))) for name in _TUPLES}
    stacked = dataclasses.replace(
        first,
        **joined,
        color_equations=tuple(equations),
        error_correction=_stack_corrections(systems),
        pair_weight=None,
        joined=None,
        model=", ".join(dict.fromkeys(s.model for s in systems if s.model)),
    )
    repeated = sorted({c for c in stacked.columns if stacked.columns.count(c) > 1})
    if repeated:
        raise XpjaxError(f"bands asked for twice: {repeated[:5]}; name each system once")
    return stacked


def _stack_corrections(systems: list[PhotometricSystem]) -> ErrorCorrection | None:
    """Error corrections side by side on the union of their nodes; factor one where a system has none."""
    have = [s.error_correction for s in systems if s.error_correction is not None]
    if not have:
        return None
    nodes = np.unique(np.concatenate([e.g for e in have]))
    factors = []
    for s in systems:
        e = s.error_correction
        if e is None:
            factors.append(np.ones((len(nodes), s.n_band)))
        else:
            factors.append(np.stack([np.interp(nodes, e.g, f) for f in np.asarray(e.factor).T], axis=1))
    return ErrorCorrection(nodes, np.concatenate(factors, axis=1), have[0].g_projection, have[0].g_zero_point)


def select_bands(full: PhotometricSystem, names: list[str], refused: dict[str, str] | None = None) -> PhotometricSystem:
    """Some bands of a system, in the order of names.

    Raises ValueError for a band that the system lacks, or if a color equation needs one that was left out.
    """
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise XpjaxError(f"bands asked for twice: {sorted(repeated)}")
    for name in names:
        if name in (refused or {}):
            raise XpjaxError(f"band {name} of {full.labels[0]} is refused: {(refused or {})[name]}")
        if name not in full.names:
            raise XpjaxError(f"{full.labels[0]} has no band {name!r}; it has {list(full.names)}")
    rows = np.array([full.names.index(name) for name in names])
    place = {int(old): new for new, old in enumerate(rows)}
    equations = []
    for e in full.color_equations:
        if e.band in place:
            absent = [full.names[b] for b in (e.blue, e.red) if b not in place]
            if absent:
                raise XpjaxError(f"{full.names[e.band]} has a color equation that needs {absent}: ask for these too")
            equations.append(ColorEquation(e.coefficient, e.color_range, place[e.band], place[e.blue], place[e.red]))
    correction = full.error_correction
    if correction is not None:
        correction = dataclasses.replace(correction, factor=np.asarray(correction.factor)[:, rows])
    chosen: dict[str, Any] = {name: np.asarray(getattr(full, name))[..., rows] for name in _arrays(full)}
    chosen |= {name: tuple(getattr(full, name)[k] for k in rows) for name in _TUPLES}
    return dataclasses.replace(
        full, **chosen, color_equations=tuple(equations), error_correction=correction, pair_weight=None
    )


def _arrays(system: PhotometricSystem) -> tuple[str, ...]:
    """The fields of a system whose last axis is its bands."""
    return _ARRAYS if system.domain is None else (*_ARRAYS, *_CHANGE)
