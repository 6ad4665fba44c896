"""A transmission chain on frames: parameters, projections of its bands, and kernels of one frame or one star."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core.constants import POGSON
from xpjax.core.linalg import dot
from xpjax.core.records import Record
from xpjax.survey.joint.blocks import Linear
from xpjax.synthetic import PassbandOperator, TransmissionChain
from xpjax.xp import Subspace, XPCoefficients, covariance


class BandCurves(eqx.Module):
    """What the projection of one band needs, as leaves."""

    chain: TransmissionChain
    operator: PassbandOperator
    grid: Array | np.ndarray
    band: str = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    def projection(self, change: Any, airmass: Any) -> Array:
        """The projection (n_basis_total,) with changed parameters."""
        own = self.chain.parameters
        values: dict[str, Any] = {name: own[name] + change[k] for k, name in enumerate(self.names)}
        if self.chain.atmosphere is not None:
            values["airmass"] = airmass + (change[self.names.index("airmass")] if "airmass" in self.names else 0.0)
        return self.operator.projection(self.chain.transmission(jnp.asarray(self.grid), self.band, **values))


class FrameState(eqx.Module):
    """Changes of the parameters on a frame, and its airmass."""

    change: Array | np.ndarray
    airmass: Array | np.ndarray


def _times_covariance(source: XPCoefficients, columns: Array) -> Array:
    """The covariance of the coefficients times columns (n_basis_total, k)."""
    return jnp.concatenate([dot(covariance(source, k), columns[rows]) for k, rows in enumerate(source.release.slices)])


def gain_kernel(projection: Array, source: XPCoefficients) -> tuple[Array, Array]:
    """K a' (n_basis_total, n_band) and V = a K a' (n_band, n_band) of one source; projection (.., n_band)."""
    slope = -POGSON * projection / dot(source.value, projection)
    whole = _times_covariance(source, slope)
    return whole, dot(slope.T, whole)


class StarSpectrum(eqx.Module):
    """A star's coefficients, and what the solution leaves uncertain of its magnitudes."""

    source: XPCoefficients
    solved: Array | np.ndarray
    """Covariance (n_band, n_band) of its magnitudes in the solution."""


class MeanCurves(eqx.Module):
    """Mean passbands (n_basis_total, n_band) and their derivatives (n_basis_total, n_band, n_parameter)."""

    projection: Array | np.ndarray
    slope: Array | np.ndarray
    prior: Array | np.ndarray
    """What priors of magnitudes have beyond spectra, squared."""


def slope_kernel(middle: MeanCurves, star: StarSpectrum) -> Array:
    """Covariance (n_band n_parameter, n_band n_parameter) of the derivatives of one star."""
    projection, slope = jnp.asarray(middle.projection), jnp.asarray(middle.slope)
    n_basis, n_band, n_parameter = slope.shape
    flux = dot(star.source.value, projection)
    share = dot(star.source.value, slope.reshape(n_basis, -1)).reshape(n_band, n_parameter) / flux[:, None]
    change = POGSON * (slope - share * projection[:, :, None]) / flux[:, None]
    change = change.reshape(n_basis, -1)
    magnitude = -POGSON * projection / flux
    both = jnp.concatenate([magnitude, change], axis=1)
    square = dot(both.T, _times_covariance(star.source, both))
    prior = square[:n_band, :n_band] + middle.prior * jnp.eye(n_band)
    gain = jnp.linalg.solve(prior, square[:n_band, n_band:])
    return square[n_band:, n_band:] - dot(gain.T, dot(prior - star.solved, gain))


def projection_kernel(curves: BandCurves, frame: FrameState) -> tuple[Array, Array]:
    """The projection (n_basis_total,) of one frame and its derivatives (n_basis_total, n_parameter)."""
    value = curves.projection(frame.change, frame.airmass)
    return value, jax.jacfwd(curves.projection)(frame.change, frame.airmass)


@dataclasses.dataclass(frozen=True, repr=False)
class Spectra(Record):
    """The stars' spectra where a solution has moved them.

    coefficients (n_source, n_basis_total); known: which of the stars have a spectrum, place: where it is in the table.
    gain, prior: of known stars, what moves their coefficients for a change of magnitudes, and their prior magnitudes.
    """

    coefficients: np.ndarray
    star: np.ndarray
    bands: tuple[str, ...]
    known: np.ndarray
    place: np.ndarray
    gain: np.ndarray | None = None
    prior: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Middle(Record):
    """The middle of each band: mean projection and mean derivatives of its frames, by band.

    amplitude (n_frame, n_parameter): what a frame's derivative is of that in the middle of its band, as water counts by
    the airmass.
    """

    projection: Mapping[str, np.ndarray]
    slope: Mapping[str, np.ndarray]
    amplitude: np.ndarray

    @classmethod
    def of(cls, projection: np.ndarray, slope: np.ndarray, band: np.ndarray) -> Middle:
        """The middle of the bands (n_frame,) of frames, by projections and derivatives of each frame."""
        mean, slopes = (
            {str(name): a[band == name].mean(axis=0) for name in np.unique(band)} for a in (projection, slope)
        )
        middle = np.stack([slopes[str(name)] for name in band])
        with np.errstate(divide="ignore", invalid="ignore"):
            amplitude = np.nan_to_num((slope * middle).sum(axis=1) / (middle**2).sum(axis=1))
        return cls(mean, slopes, amplitude)

    def check(self, subspace: Subspace) -> None:
        """Raise XpjaxError where compact covariances do not hold the errors of a band or of its derivatives."""
        for band, projection in self.projection.items():
            names = [f"the band {band}", *(f"parameter {k + 1} of {band}" for k in range(self.slope[band].shape[1]))]
            subspace.check(np.column_stack([projection, self.slope[band]]), names.__getitem__)


@dataclasses.dataclass(frozen=True, repr=False)
class LinearTransmission(Linear):
    """A transmission term about some values, with the spectra that it was evaluated for."""

    spectra: Spectra = dataclasses.field(kw_only=True)
    middle: Middle = dataclasses.field(kw_only=True)
