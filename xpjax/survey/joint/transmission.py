"""The shape of the transmission as a term of a joint solution: XP spectra through a chain with parameters.

What a star of spectrum f has on frame e and would have in the reference passband differ by

    M - m = 2.5 log10(c r(p_e) / c r(p_0)),   r the projection of the chain's curve, c the coefficients of f

r is normalised, so that a gray change belongs to the zero-point. p_0 is the chain as it is given, p_e has the airmass
of the frame and what is fitted: parameters of the chain (water, ozone, filter_shift, filter_scale, detector_slope,
...), each shared by the frames that `per` says. Derivatives are exact: forward mode through atmosphere, filter and
quadrature.

With `star_prior` the spectra also give the stars' magnitudes, as priors with the covariance of their bands. Spectra
have errors, and derivatives with respect to the passband have errors that go with those of the magnitudes: least
squares at the spectra as they are would be off by three standard deviations for a shift known to 0.08 nm. So each
spectrum is a parameter too: it moves from the catalogue's c_0 along its covariance K to where it has the magnitudes M
of the solution,

    c = c_0 + K a' V^-1 (M - x),   x = M(c) + a (c_0 - c),   V = a K a',   a = dM/dc in the mean passband of the frames

and x, V are the prior of M. Derivatives hold c fixed: the solution is that of all spectra and parameters at once.

The derivatives d of a star's rows then have errors of their own, S = cov(d) = (dd/dc) K_c (dd/dc)' with K_c = K -
K a' V^-1 (V - D^-1) V^-1 a K what is left uncertain of c, D^-1 the covariance of the solution's M. The score of such
errors-in-variables has the variance R that noisy derivatives give the normal equations, but its mean changes by R - N
only, N the part of R that is noise (`Prepared.slope_noise`, summed by `xpjax.survey.joint.covariance`):

    cov(p) = (R - N)^-1 R (R - N)^-1        (Fuller 1987, Measurement Error Models, 2.2, for many parameters)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.constants import AB_ZERO_POINT, POGSON, ST_ZERO_POINT
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.linalg import dot
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.terms import Block, frame_groups, make_blocks
from xpjax.synthetic import RANGES, PassbandOperator, TransmissionChain, passband_operator
from xpjax.xp import Instrument, SourceTable, XPCoefficients, as_sources, covariance
from xpjax.xp import load_instrument as load_instrument

STEP = 0.5
"""Sampling [nm] of the curves."""
NEGLIGIBLE = 1e-5
"""Errors of magnitudes [mag] below which spectra are exact."""
FRAMES = 16
"""Frames that are evaluated at once."""
MARGIN = 10.0
"""How far [nm] a filter may move beyond its table."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of the chain, fitted as a change from its value there; prior: standard deviation about no change."""

    per: str = "all"
    prior: float | None = None


class BandCurves(eqx.Module):
    """What the projection of one band needs, as leaves."""

    chain: TransmissionChain
    operator: PassbandOperator
    grid: Array | np.ndarray
    band: str = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    frames: Array | np.ndarray | None = None
    """Which frames are in this band, where that is asked for."""

    def on_frames(self, frames: np.ndarray, scale: float) -> BandCurves:
        """The same for these frames, projections divided by a scale."""
        operator = dataclasses.replace(self.operator, response=np.asarray(self.operator.response) / scale)
        return dataclasses.replace(self, operator=operator, frames=frames)

    def projection(self, change: Any, airmass: Any) -> Array:
        """The projection (n_basis_total,) with changed parameters."""
        own = self.chain.parameters
        values: dict[str, Any] = {name: own[name] + change[k] for k, name in enumerate(self.names)}
        if self.chain.atmosphere is not None:
            values["airmass"] = airmass + (change[self.names.index("airmass")] if "airmass" in self.names else 0.0)
        return self.operator.projection(self.chain.transmission(jnp.asarray(self.grid), self.band, **values))


class _State(eqx.Module):
    change: Array | np.ndarray
    airmass: Array | np.ndarray


def _gain_kernel(projection: Array, source: XPCoefficients) -> tuple[Array, Array]:
    """K a' (n_basis_total, n_band) and V = a K a' (n_band, n_band) of one source; projection (.., n_band)."""
    slope = -POGSON * projection / dot(source.value, projection)
    parts = [dot(covariance(source, k), slope[rows]) for k, rows in enumerate(source.release.slices)]
    whole = jnp.concatenate(parts)
    return whole, dot(slope.T, whole)


class _Star(eqx.Module):
    source: XPCoefficients
    solved: Array | np.ndarray
    """Covariance (n_band, n_band) of its magnitudes in the solution."""


class _Middle(eqx.Module):
    """Mean passbands (n_basis_total, n_band) and their derivatives (n_basis_total, n_band, n_parameter)."""

    projection: Array | np.ndarray
    slope: Array | np.ndarray
    prior: Array | np.ndarray
    """What priors of magnitudes have beyond spectra, squared."""


def _slope_kernel(middle: _Middle, star: _Star) -> Array:
    """Covariance (n_band n_parameter, n_band n_parameter) of the derivatives of one star."""
    projection, slope = jnp.asarray(middle.projection), jnp.asarray(middle.slope)
    n_basis, n_band, n_parameter = slope.shape
    flux = dot(star.source.value, projection)
    share = dot(star.source.value, slope.reshape(n_basis, -1)).reshape(n_band, n_parameter) / flux[:, None]
    change = POGSON * (slope - share * projection[:, :, None]) / flux[:, None]
    change = change.reshape(n_basis, -1)
    magnitude = -POGSON * projection / flux
    both = jnp.concatenate([magnitude, change], axis=1)
    whole = jnp.concatenate(
        [dot(covariance(star.source, k), both[rows]) for k, rows in enumerate(star.source.release.slices)]
    )
    square = dot(both.T, whole)
    prior = square[:n_band, :n_band] + middle.prior * jnp.eye(n_band)
    gain = jnp.linalg.solve(prior, square[:n_band, n_band:])
    return square[n_band:, n_band:] - dot(gain.T, dot(prior - star.solved, gain))


def _kernel(curves: BandCurves, frame: _State) -> tuple[Array, Array]:
    """The projection (n_basis_total,) of one frame and its derivatives (n_basis_total, n_parameter)."""
    value = curves.projection(frame.change, frame.airmass)
    return value, jax.jacfwd(curves.projection)(frame.change, frame.airmass)


@dataclasses.dataclass(frozen=True)
class Transmission:
    """Parameters of a transmission chain, fitted together with all else; see the module.

    chain: has a band for every band of the observations; as it is, it is the reference. sources: XP sources whose ids
    are the stars of the observations; rows of other stars cannot be used. parameters: by their names in the chain.
    star_prior: spectra are priors of the stars' magnitudes; they then need errors and correlations. floor [mag]: what
    they are off by beyond their errors, each star in each band. correction: a linear one of the spectra, as for
    `photometry`, by default that of the instrument, none; stars beyond its domain are as without a spectrum. Raises
    ValueError for parameters that are none.
    """

    chain: TransmissionChain
    sources: Any
    parameters: Mapping[str, Parameter]
    name: str = "transmission"
    star_prior: bool = True
    floor: float = 0.0
    instrument: Instrument | None = None
    correction: Any = None

    @property
    def model(self) -> Instrument:
        """The instrument that the spectra are seen with."""
        own = self.instrument or load_instrument()
        return own if self.correction is None else own.corrected(self.correction)

    def __post_init__(self) -> None:
        if not self.floor >= 0:
            raise XpjaxError(f"{self.name}: floor must be zero or more magnitudes, not {self.floor!r}")
        self.chain.with_parameters(**{name: self.chain.parameters[name] for name in self.parameters
                                      if name in self.chain.parameters})  # fmt: skip
        if unknown := [name for name in self.parameters if name not in self.chain.parameters]:
            self.chain.with_parameters(**{unknown[0]: 0.0})
        if not self.parameters:
            raise XpjaxError(f"{self.name}: no parameters; give some of {sorted(self.chain.parameters)}")

    def blocks(self, o: Observations, scale: Scaling) -> tuple[Block, ...]:
        """A block for each parameter, with the derivatives at the chain as it is."""
        return self.prepare(o).blocks

    def prepare(self, o: Observations) -> Prepared:
        """What evaluations for these observations share. Raises ValueError for bands that the chain does not have."""
        model = self.model
        table = as_sources(self.sources, model.release)
        if model.correction is not None:
            domain = model.correction.domain
            distance = np.asarray(domain.distance(np.asarray(table.coefficients.value), table.release))
            table = table[np.flatnonzero(distance <= domain.limit)]
        if self.star_prior and (table.coefficients.error is None or table.coefficients.correlation is None):
            raise XpjaxError(f"{self.name}: {table.origin} has no errors or no correlations, which star_prior needs")
        for band in np.unique(o.frames.band):
            if band not in self.chain.bands:
                raise XpjaxError(
                    f"{self.name}: chain {self.chain.name} has no band {str(band)!r}, but {self.chain.bands}"
                )
        star = places_of(o.star, np.asarray(table.source_id))
        names = tuple(self.parameters)
        curves = {}
        for band in np.unique(o.frames.band):
            table_of = np.asarray(self.chain.filters[self.chain.bands.index(str(band))].wavelength)
            grid = np.arange(table_of[0] - MARGIN, table_of[-1] + MARGIN + STEP, STEP)
            operator = passband_operator(
                grid, detector=self.chain.detector_type, magnitude=self.chain.magnitude, instrument=model
            )
            curves[str(band)] = BandCurves(self.chain, operator, grid, str(band), names)
        groups = [frame_groups(o.frames, self.parameters[name].per) for name in names]
        return Prepared(self, o.frames, o.frame, star, table, curves, groups)


class Prepared:
    """A transmission term for some observations: `blocks`, and `evaluate`, which updates them."""

    def __init__(
        self,
        term: Transmission,
        frames: Frames,
        frame: np.ndarray,
        star: np.ndarray,
        table: SourceTable,
        curves: Mapping[str, BandCurves],
        groups: list[tuple[np.ndarray, tuple[str, ...]]],
    ) -> None:
        self.term, self.frames, self.frame, self.star = term, frames, frame, star
        self.table, self.curves, self.groups = table, curves, groups
        self.coefficients = np.array(table.coefficients.value, float)
        self._gain: np.ndarray | None = None
        self._prior = np.empty(0)
        self._order = np.argsort(frame, kind="stable")
        self._edges = np.searchsorted(frame[self._order], np.arange(len(frames) + 1))
        self.reference = self._references()
        self._zero_point = AB_ZERO_POINT if term.chain.magnitude == "AB" else ST_ZERO_POINT
        start = [np.zeros(len(labels)) for _, labels in groups]
        self.offset, values = self.evaluate(start)
        self.blocks = tuple(
            make_blocks(f"{term.name} {name}", index[frame], (v,), labels, (name,), parameter.prior)[0]
            for (name, parameter), (index, labels), v in zip(term.parameters.items(), groups, values, strict=True)
        )

    def _references(self) -> dict[str, np.ndarray]:
        """The projections of the chain as it is."""
        air = self.term.chain.atmosphere
        own = _State(np.zeros((1, len(self.groups))), np.full(1, 1.0 if air is None else float(air.airmass)))
        return {band: engine.run(_kernel, c, own, float64=True)[0][0] for band, c in self.curves.items()}

    def star_prior(
        self, star: np.ndarray, bands: tuple[str, ...], magnitude: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prior magnitudes (n, n_band) of stars (n,) and their covariance (n, n_band, n_band); NaN for unknown stars.

        magnitude (n, n_band): what the solution has for them; spectra are moved there first, see the module.
        """
        known, place = self._spectra(star)
        first = np.asarray(self.table.coefficients.value, float)[place]
        if magnitude is not None and self._gain is not None:
            off = np.nan_to_num(magnitude[known] - self._prior)
            self.coefficients[place] = first + np.einsum("sij,sj->si", self._gain, off)
        now = self.coefficients[place]
        mean = np.stack([self._mean[band] for band in bands], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            reference = np.stack([self.reference[band] for band in bands], axis=1)
            own = -2.5 * np.log10(now @ reference) + self._zero_point
            change = -POGSON * ((first - now) @ mean) / (now @ mean)
        c = self.table[place].coefficients
        scale = np.abs(mean).max(axis=0)
        n = max(self.table.release.n_basis)
        source = dataclasses.replace(c, value=now)
        gain, matrix = engine.run(_gain_kernel, mean / scale, source, float64=True, work_bytes=32 * n * n)
        matrix += self.term.floor**2 * np.eye(len(bands))
        good = np.isfinite(gain).all(axis=(1, 2)) & np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(own).all(axis=1)
        matrix[~good] = np.eye(len(bands))
        inverse = np.linalg.inv(matrix + NEGLIGIBLE**2 * np.eye(len(bands)))
        self._gain = np.where(good[:, None, None], gain, 0.0) @ inverse
        self._prior = own + change
        out = np.full((len(star), len(bands)), np.nan)
        out[known[good]] = self._prior[good]
        whole = np.full((len(star), len(bands), len(bands)), np.nan)
        whole[known] = matrix
        return out, whole

    def slope_noise(self, star: np.ndarray, bands: tuple[str, ...], solved: np.ndarray) -> np.ndarray:
        """Covariance of the derivatives of stars (n,) in the middle of each band, where the last evaluation was.

        solved (n, n_band, n_band): covariance of their magnitudes in the solution. Returns (n, n_band, n_parameter,
        n_band, n_parameter), zero for stars without a spectrum; see the module.
        """
        mean = np.stack([self._mean[band] for band in bands], axis=1)
        slope = np.stack([self._slope[band] for band in bands], axis=1)
        scale = np.abs(mean).max(axis=0)
        middle = _Middle(mean / scale, slope / scale[:, None], np.array(self.term.floor**2 + NEGLIGIBLE**2))
        known, place = self._spectra(star)
        source = dataclasses.replace(self.table[place].coefficients, value=self.coefficients[place])
        n, k = max(self.table.release.n_basis), slope.shape[1] * slope.shape[2]
        found = engine.run(
            _slope_kernel, middle, _Star(source, solved[known]), float64=True, work_bytes=32 * n * (n + k)
        )
        out = np.zeros((len(star), k, k))
        good = np.isfinite(found).all(axis=(1, 2))
        out[known[good]] = found[good]
        shape = slope.shape[1:]
        return out.reshape(len(star), *shape, *shape)

    def _spectra(self, star: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the stars (n,) have spectra, and where these are in the table."""
        place = places_of(star, np.asarray(self.table.source_id))
        known = np.flatnonzero(place >= 0)
        return known, place[known]

    def limited(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Changes of each parameter with those that leave its range put at its end."""
        out = []
        for name, value in zip(self.term.parameters, values, strict=True):
            own = float(np.mean(np.asarray(self.term.chain.parameters[name])))
            low, high = RANGES.get(name, (-np.inf, np.inf))
            if name == "filter_scale":
                low = 0.1
            if name == "airmass":  # about the frame's own
                own = float(np.nanmin(self.frames.airmass, initial=own))
            out.append(np.clip(value, low - own, high - own))
        return out

    def airmass(self) -> np.ndarray:
        """Airmass (n_frame,) of every frame; the chain's own where it is not known."""
        air = self.term.chain.atmosphere
        nominal = 1.0 if air is None else float(air.airmass)
        return np.where(np.isfinite(self.frames.airmass), self.frames.airmass, nominal)

    def projections(self, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Of every frame (n_frame, n_basis_total), and derivatives (n_frame, n_basis_total, n_parameter)."""
        change = np.stack([v[index] for v, (index, _) in zip(values, self.groups, strict=True)], axis=1)
        airmass = self.airmass()
        n_basis = self.coefficients.shape[1]
        value = np.empty((len(self.frames), n_basis))
        slope = np.empty((len(self.frames), n_basis, len(values)))
        for band, curves in self.curves.items():
            mine = np.flatnonzero(self.frames.band == band)
            grid = len(np.asarray(curves.grid))
            found = engine.run(
                _kernel, curves, _State(change[mine], airmass[mine]), float64=True, work_bytes=320 * grid * len(values)
            )
            value[mine], slope[mine] = found
        return value, slope

    def evaluate(self, values: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """What is added to every row (n,) [mag], and its derivative (n,) with respect to each parameter.

        NaN for stars without spectrum, or without light in the band.
        """
        projection, slope = self.projections(values)
        self._mean = {band: projection[self.frames.band == band].mean(axis=0) for band in self.curves}
        self._slope = {band: slope[self.frames.band == band].mean(axis=0) for band in self.curves}
        # What a frame's derivative is of that in the middle of its band: water counts by the airmass.
        middle = np.stack([self._slope[str(band)] for band in self.frames.band])
        with np.errstate(divide="ignore", invalid="ignore"):
            self.amplitude = np.nan_to_num((slope * middle).sum(axis=1) / (middle**2).sum(axis=1))
        reference = np.stack([self.reference[str(band)] for band in self.frames.band])
        columns = np.concatenate([projection[:, None], reference[:, None], np.swapaxes(slope, 1, 2)], axis=1)
        added = np.full(len(self.frame), np.nan)
        derivative = np.full((len(values), len(self.frame)), np.nan)
        for first in range(0, len(self.frames), FRAMES):
            last = min(first + FRAMES, len(self.frames))
            rows = self._order[self._edges[first] : self._edges[last]]
            rows = rows[self.star[rows] >= 0]
            if not len(rows):
                continue
            # One product of all stars on these frames with all frames: each star's coefficients are read once.
            seen = np.zeros(len(self.coefficients), bool)
            seen[self.star[rows]] = True
            place = (np.cumsum(seen) - 1)[self.star[rows]]
            product = self.coefficients[seen] @ columns[first:last].reshape(-1, columns.shape[2]).T
            flux = product.reshape(len(product), last - first, -1)[place, self.frame[rows] - first]
            with np.errstate(divide="ignore", invalid="ignore"):
                good = (flux[:, 0] > 0) & (flux[:, 1] > 0)
                added[rows] = np.where(good, 2.5 * np.log10(flux[:, 0] / flux[:, 1]), np.nan)
                derivative[:, rows] = np.where(good, POGSON * flux[:, 2:].T / flux[:, 0], np.nan)
        return added, list(derivative)
