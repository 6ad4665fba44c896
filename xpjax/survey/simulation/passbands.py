"""Magnitudes of the stars through the true chain and through that of the description, at any airmass and filter shift.

    instrumental magnitude = AB magnitude - zero-point,     zero-point(band, X) ~ 2.5 log10 int T(l, X) dl / l

so that extinction and color terms are those of the chain. Spectra are projected at a few airmasses and shifts; between
them there are cubic splines.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import shipped_passbands
from xpjax.survey.simulation.setup import SurveySetup
from xpjax.synthetic import (
    Curve,
    Passband,
    PassbandSet,
    Photometry,
    TransmissionChain,
    load_passbands,
    passband_system,
    photometry,
    read_chain,
)
from xpjax.xp import LinearCorrection, SourceTable

AIRMASSES, SHIFTS = 4, 4
"""Nodes between the least and the largest airmass, and between no shift and the largest."""
MOST_STARS = 200
"""Stars whose median says what an error of XP means in a band."""


def open_chain(s: SurveySetup) -> TransmissionChain:
    """The chain of a setup, cut to its bands; shipped passbands without a chain are one without air."""
    chain = _open(s.chain)
    unknown = [band for band in s.bands if band not in chain.bands]
    if unknown:
        raise XpjaxError(f"the chain {chain.name} has no band {unknown[0]!r}; it has {list(chain.bands)}")
    chosen = [chain.bands.index(band) for band in s.bands or chain.bands]
    return dataclasses.replace(
        chain,
        bands=tuple(chain.bands[k] for k in chosen),
        filters=tuple(chain.filters[k] for k in chosen),
        filter_shift=np.asarray(chain.filter_shift)[chosen],
        filter_scale=np.asarray(chain.filter_scale)[chosen],
    )


def is_chain(name: str) -> bool:
    """Whether a name is that of a chain: a TOML file, or a shipped one, and not of shipped passbands alone."""
    folder = shipped_passbands().get(name)
    return folder is None or Path(name).suffix != "" or (folder / "system.toml").is_file()


@functools.lru_cache(maxsize=4)
def _open(name: str) -> TransmissionChain:
    if is_chain(name):
        return read_chain(name)
    curves = load_passbands(name)
    grid = np.arange(320.0, 1060.5, 1.0)
    filters = tuple(Curve(band.wavelength, band.transmission, "recovered") for band in curves)
    kinds = {band.detector for band in curves}
    if len(kinds) > 1:
        raise XpjaxError(f"passbands {name} count photons and energy: name bands of one kind in a chain of their own")
    return TransmissionChain(curves.label, curves.names, filters, grid, detector_type=kinds.pop())


class Magnitudes:
    """AB magnitudes [mag] of n stars through the true chain and the described one; zero-points of bands.

    airmass: all that will be asked for. filter_shift (n_band,) [nm]: of the true filters from the described ones.
    """

    def __init__(
        self, s: SurveySetup, true: SourceTable, correction: LinearCorrection | None, airmass: np.ndarray,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.described = open_chain(s)
        self.filter_shift = off = rng.normal(0, s.effects.filter_shift, len(self.described.bands))
        self.true_chain = self.described.with_parameters(filter_shift=np.asarray(self.described.filter_shift) + off)
        self.airmass = np.array([1.2])
        if self.described.atmosphere is not None:
            self.airmass = np.linspace(airmass.min(), max(airmass.max(), airmass.min() + 0.01), AIRMASSES)
        self.shift = np.linspace(0, -s.effects.field_shift, SHIFTS) if s.effects.field_shift else np.zeros(1)
        curves = self._curves(self.true_chain, self.shift)
        area = np.array([[_area(band) for band in made] for made in curves[:: len(self.shift)]])
        self._area = 2.5 * np.log10(area / area[0].max())  # (n_node, n_band)
        found = _project(true, [*curves, *self._curves(self.described, np.zeros(1))], correction)
        n_band, n_true = len(self.bands), len(self.airmass) * len(self.shift)
        value = np.asarray(found.magnitude, float).reshape(len(true), -1, n_band)
        self._true = value[:, :n_true].reshape(len(true), len(self.airmass), len(self.shift), n_band)
        self._described = value[:, n_true:]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.described.bands

    def _curves(self, chain: TransmissionChain, shifts: np.ndarray) -> list[PassbandSet]:
        """The passbands at all airmasses and shifts."""
        made = []
        for x in self.airmass:
            air = {"airmass": float(x)} if chain.atmosphere is not None else {}
            for shift in shifts:
                moved = chain.with_parameters(**air, filter_shift=np.asarray(chain.filter_shift) + shift)
                made.append(moved.passbands())
        return made

    def weights_at(self, airmass: float) -> np.ndarray:
        """Weights (n_node,) of the airmasses."""
        return _weights(self.airmass, np.array([airmass]))[0]

    def zero_point(self, band: int, airmass: float) -> float:
        """Zero-point [mag] relative to that of the widest band at the least airmass."""
        return float(self._area[:, band] @ self.weights_at(airmass))

    def true(self, star: np.ndarray, band: int, airmass: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
        """Magnitudes (k,) of stars through the true chain, with filters shifted by shift [nm]."""
        nodes = np.einsum("nas,a->ns", self._true[star, ..., band], self.weights_at(airmass))
        return np.einsum("ns,ns->n", nodes, _weights(self.shift, np.broadcast_to(shift, len(star))))

    def color_term(self, band: int, airmass: float) -> np.ndarray:
        """Magnitudes (n,) of all stars through the described chain less those through the true one."""
        return (self._described[:, :, band] - self._true[:, :, 0, band]) @ self.weights_at(airmass)

    def xp_errors(self, true: SourceTable, known: Any, correction: Any) -> np.ndarray:
        """What XP's errors mean in each band, medians of the stars at the least airmass, (2, n_band).

        First the change of a magnitude with that of BP, RP's share being the rest [mag/mag]; then what magnitudes are
        too faint by [mag] with the known correction in place of the true one.
        """
        some, little = true[:MOST_STARS], 1e-3
        curves = self._curves(self.described, np.zeros(1))[:1]
        value = np.array(some.coefficients.value, float)
        value[:, some.release.slices[0]] *= 10 ** (-0.4 * little)
        fainter = dataclasses.replace(some, coefficients=dataclasses.replace(some.coefficients, value=value))
        of = [np.asarray(_project(*one).magnitude, float) for one in
              ((some, curves, known), (fainter, curves, known), (some, curves, correction))]  # fmt: skip
        return np.nanmedian([(of[1] - of[0]) / little, of[0] - of[2]], axis=1)

    def models(self, table: SourceTable, correction: str) -> Models:
        """What XP says of the stars: model magnitudes through the described chain."""
        found = _project(table, self._curves(self.described, np.zeros(1)), correction, errors=True)
        shape = (len(table), len(self.airmass), len(self.bands))
        value = np.where(_in_domain(found)[:, None], np.asarray(found.magnitude, float), np.nan)
        error = np.asarray(found.magnitude_error, float).reshape(shape)
        left = np.zeros(shape) if found.systematic is None else np.asarray(found.systematic, float).reshape(shape)
        return Models(self, value.reshape(shape), error, left)


@dataclasses.dataclass(frozen=True)
class Models:
    """Model magnitudes, errors, and systematic errors (n, n_node, n_band) [mag] at the airmasses of the magnitudes."""

    of: Magnitudes
    value: np.ndarray
    error: np.ndarray
    systematic: np.ndarray

    def at(self, star: np.ndarray, band: int, airmass: float) -> list[np.ndarray]:
        """Model magnitudes, errors, and systematic errors (k,) [mag] of stars."""
        weights = self.of.weights_at(airmass)
        return [values[star, :, band] @ weights for values in (self.value, self.error, self.systematic)]


def _area(band: Passband) -> float:
    """int T dl / l: the photons of a source of constant flux per hertz."""
    return float(np.trapezoid(band.transmission / band.wavelength, band.wavelength))


def _in_domain(found: Photometry) -> np.ndarray:
    distance = found.distance
    return np.ones(len(found), bool) if distance is None else np.asarray(distance) <= 1


def _weights(nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights (n, n_node) of a cubic spline at values (n,)."""
    from scipy.interpolate import CubicSpline

    if len(nodes) == 1:
        return np.ones((len(values), 1))
    order = np.argsort(nodes)
    inside = np.clip(values, nodes.min(), nodes.max())
    out = np.empty((len(values), len(nodes)))
    out[:, order] = CubicSpline(nodes[order], np.eye(len(nodes)))(inside)
    return out


def _project(table: SourceTable, curves: list[PassbandSet], correction: Any, errors: bool = False) -> Photometry:
    """Photometry in all these passbands side by side, in float64."""
    several = [dataclasses.replace(band, name=f"{band.name}_{k}") for k, made in enumerate(curves) for band in made]
    system = passband_system(PassbandSet("simulated", tuple(several)), correction=correction)
    return photometry(table, system, errors=errors, float64=True)
