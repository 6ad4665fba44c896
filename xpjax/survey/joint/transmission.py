"""The shape of the transmission as a term of a joint solution: XP spectra through a chain with parameters.

What a star of spectrum f has on frame e and would have in the reference passband differ by

    M - m = 2.5 log10(c r(p_e) / c r(p_0)),   r the projection of the chain's curve, c the coefficients of f

r is normalized, so that a gray change belongs to the zero-point. p_0 is the chain as it is given, p_e has the airmass
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
only, N the part of R that is noise (`xpjax.survey.joint.noise`):

    cov(p) = (R - N)^-1 R (R - N)^-1        (Fuller 1987, Measurement Error Models, 2.2, for many parameters)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from xpjax.core import engine
from xpjax.core.constants import AB_ZERO_POINT, POGSON, ST_ZERO_POINT
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.io.config import Section, entry, parse, section_of
from xpjax.survey import Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Part, Prepared
from xpjax.survey.joint.curves import (
    BandCurves,
    FittedParameter,
    FrameState,
    LinearTransmission,
    MeanCurves,
    Middle,
    Spectra,
    StarSpectrum,
    gain_kernel,
    projection_kernel,
    slope_kernel,
)
from xpjax.survey.joint.noise import NoisySlopes
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.terms import Term
from xpjax.survey.reading import named_correction
from xpjax.synthetic import TransmissionChain, passband_operator, read_chain
from xpjax.xp import Instrument, SourceTable, as_sources, load_instrument

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
    """Fit a parameter of a transmission chain, as a change from its value there.

    Parameters
    ----------
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "night"; ":30" for 30 days.
    prior : float or None [unit of the parameter]
        Prior standard deviation about no change; none by default.

    Examples
    --------
    >>> xpjax.survey.joint.Parameter("night", prior=3.0)
    Parameter(per='night', prior=3.0)
    """

    per: str = "all"
    prior: float | None = None


PARAMETER = section_of("Parameter", Parameter)


@dataclasses.dataclass(frozen=True)
class Transmission(Term, kind="transmission"):
    """Fit parameters of a transmission chain, seen through the XP spectra of the stars.

    Parameters
    ----------
    chain : TransmissionChain or str
        Chain with a band for every band of the observations, or its TOML file; as it is given, it is the reference.
    sources
        XP sources, as for `xpjax.photometry`, whose ids are the stars of the observations. Rows of other stars cannot
        be used.
    parameters : mapping of str to Parameter
        Parameters by their names in the chain.
    name : str
        Name of the term in tables, messages and constraints.
    star_prior : bool
        Whether spectra are priors of the stars' magnitudes; they then need errors and correlations.
    floor : float [mag]
        Error of the spectra beyond those stated, of each star in each band.
    instrument : Instrument or None
        Instrument of the spectra; by default Gaia's.
    correction
        Linear correction of the spectra, as for `xpjax.photometry`; stars outside its domain are as without a spectrum.
        By default none in Python, and the standard one in a file.

    Raises
    ------
    XpjaxError
        If the chain has no such parameter, or the floor is negative.

    Notes
    -----
    M - m = 2.5 log10(c r(p_e) / c r(p_0)), with c the coefficients of a star and r the normalized projection of the
    chain's curve; see the module. Errors are those of noisy derivatives (Fuller 1987, Measurement Error Models, 2.2).

    Examples
    --------
    >>> from xpjax.survey.joint import Parameter, Transmission
    >>> term = Transmission("telescope.toml", "stars.h5", {"water": Parameter("night", prior=3.0)})
    >>> term.name, term.parameters["water"].per
    ('transmission', 'night')
    """

    chain: TransmissionChain | str
    sources: Any
    parameters: Mapping[str, Parameter]
    name: str = "transmission"
    star_prior: bool = True
    floor: float = 0.0
    instrument: Instrument | None = None
    correction: Any = None
    in_python = ("instrument",)

    def __post_init__(self) -> None:
        if not self.floor >= 0:
            raise XpjaxError(f"{self.name}: floor must be zero or more magnitudes, not {self.floor!r}")
        if isinstance(self.chain, str):
            return
        known = self.chain.parameters
        self.chain.with_parameters(**{name: known[name] for name in self.parameters if name in known})
        if unknown := [name for name in self.parameters if name not in known]:
            self.chain.with_parameters(**{unknown[0]: 0.0})
        if not self.parameters:
            raise XpjaxError(f"{self.name}: no parameters; give some of {sorted(known)}")

    @classmethod
    def section(cls) -> type[Section]:
        """The entries of a [[term]]."""
        fields = {
            "chain": (str, entry(..., "TOML file of the chain, beside this one; as it is, it is the reference")),
            "sources": (str, entry(..., "XP spectra of the stars, with their ids")),
            "parameters": (Mapping[str, PARAMETER], entry(..., "Parameters of the chain, by their names")),  # type: ignore[valid-type]
            "correction": (str, entry("standard", 'Linear correction of the spectra: "standard", "none" or a file')),
        }
        return section_of(cls.__name__, cls, without=cls.in_python, **fields)

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """The term that a [[term]] means; its files are read by `bound`."""
        said = parse(cls.section(), entry, "a transmission term").given()
        parameters = {name: one.make(Parameter) for name, one in said["parameters"].items()}
        return cls(**{"correction": "standard", **said, "parameters": parameters})

    def entry(self) -> dict[str, Any]:
        """What a file says of the term, without a chain and spectra that are none of files."""
        said = {**super().entry(), "parameters": {n: dataclasses.asdict(p) for n, p in self.parameters.items()}}
        if not isinstance(self.chain, str):
            said = {name: value for name, value in said.items() if name not in ("chain", "sources", "correction")}
        return said

    def bound(self, folder: Path, columns: Mapping[str, np.ndarray]) -> Transmission:
        """The term with chain, spectra and correction read from the files that it names."""
        if not isinstance(self.chain, str):
            return self
        chain, sources, correction = read_chain(folder / self.chain), self.sources, self.correction
        if isinstance(sources, str):
            if not (folder / sources).exists():
                raise XpjaxError(f"no file {folder / sources} with the spectra of a transmission term")
            sources = as_sources(folder / sources)
        if isinstance(correction, str):
            correction = named_correction({"correction": correction}, folder)
        return dataclasses.replace(self, chain=chain, sources=sources, correction=correction)

    def correction_name(self) -> str:
        """The linear correction of the spectra."""
        correction = self._model().correction
        return correction.name if correction else "none"

    def _model(self) -> Instrument:
        """The instrument that the spectra are seen with."""
        named = isinstance(self.sources, str)  # a file that is read later
        own = self.instrument or load_instrument(release=None if named else as_sources(self.sources).release)
        return own if self.correction is None else own.corrected(self.correction)

    def prepare(self, observations: Observations, scale: Scaling | None = None) -> PreparedTransmission:
        """The columns of the term. Raises ValueError for bands that the chain does not have."""
        term = self.bound(Path(), {})
        return PreparedTransmission(term, term._model(), observations)


class PreparedTransmission(Prepared):
    """A transmission term for some observations."""

    linear = False

    def __init__(self, term: Transmission, model: Instrument, o: Observations) -> None:
        chain = term.chain
        assert isinstance(chain, TransmissionChain)
        self.term, self.chain = term, chain
        self.frames, self.frame = o.frames, o.frame
        self.table = self._sources(model)
        self.star = places_of(o.star, np.asarray(self.table.source_id))
        self.coefficients = np.array(self.table.coefficients.value, float)
        self.curves = {str(band): self._curves(str(band), model) for band in np.unique(o.frames.band)}
        self.parameters = tuple(
            FittedParameter.of(name, one.per, chain, o.frames) for name, one in term.parameters.items()
        )
        self._order = np.argsort(o.frame, kind="stable")
        self._edges = np.searchsorted(o.frame[self._order], np.arange(len(o.frames) + 1))
        air = chain.atmosphere
        own = FrameState(np.zeros((1, len(self.parameters))), np.full(1, 1.0 if air is None else float(air.airmass)))
        self.reference = {
            band: engine.run(projection_kernel, c, own, float64=True)[0][0] for band, c in self.curves.items()
        }
        at_zero = self._evaluate([np.zeros(len(one.groups.labels)) for one in self.parameters], self._unmoved())
        self.middle = at_zero.middle
        blocks = []
        for one, slope in zip(self.parameters, at_zero.slopes, strict=True):
            part = Part(one.name, one.unit, slope, term.parameters[one.name].prior)
            blocks.append(one.groups.block(f"{term.name} {one.name}", o, part))
        super().__init__(*blocks)

    def _sources(self, model: Instrument) -> SourceTable:
        """The spectra within the domain of their correction."""
        table = as_sources(self.term.sources, model.release)
        if model.correction is not None:
            domain = model.correction.domain
            distance = np.asarray(domain.distance(np.asarray(table.coefficients.value), table.release))
            table = table[np.flatnonzero(distance <= domain.limit)]
        lacking = table.coefficients.error is None or table.coefficients.correlation is None
        if self.term.star_prior and lacking:
            raise XpjaxError(
                f"{self.term.name}: {table.origin} has no errors or no correlations, which star_prior needs"
            )
        return table

    def _curves(self, band: str, model: Instrument) -> BandCurves:
        chain = self.chain
        if band not in chain.bands:
            raise XpjaxError(f"{self.term.name}: chain {chain.name} has no band {band!r}, but {chain.bands}")
        table = np.asarray(chain.filters[chain.bands.index(band)].wavelength)
        grid = np.arange(table[0] - MARGIN, table[-1] + MARGIN + STEP, STEP)
        operator = passband_operator(grid, detector=chain.detector_type, magnitude=chain.magnitude, instrument=model)
        return BandCurves(chain, operator, grid, band, tuple(self.term.parameters))

    def _unmoved(self, star: np.ndarray | None = None, bands: tuple[str, ...] = ()) -> Spectra:
        """The spectra of the catalogue, for stars (n_star,) in bands."""
        star = np.empty(0, int) if star is None else star
        place = places_of(star, np.asarray(self.table.source_id))
        known = np.flatnonzero(place >= 0)
        return Spectra(self.coefficients, star, bands, known, place[known])

    # --- the stars' spectra -------------------------------------------------------------------------------------------

    def begin(self, star: np.ndarray, bands: tuple[str, ...]) -> LinearTransmission:
        """The term at the chain as it is, for stars (n_star,) in bands, with their prior magnitudes."""
        start = LinearTransmission([], np.empty(0), [], spectra=self._unmoved(star, bands), middle=self.middle)
        return self._moved(start, None) if self.term.star_prior else start

    def _moved(self, last: LinearTransmission, magnitude: np.ndarray | None) -> LinearTransmission:
        """The same with spectra that have magnitudes (n_star, n_band) of the solution, and the prior they give."""
        spectra, place = last.spectra, last.spectra.place
        star, bands, known = spectra.star, spectra.bands, spectra.known
        first = self.coefficients[place]
        coefficients = spectra.coefficients
        if magnitude is not None and spectra.gain is not None:
            off = np.nan_to_num(magnitude[known] - spectra.prior)
            coefficients = coefficients.copy()
            coefficients[place] = first + np.einsum("sij,sj->si", spectra.gain, off)
        now = coefficients[place]
        mean = np.stack([last.middle.projection[band] for band in bands], axis=1)
        zero_point = AB_ZERO_POINT if self.chain.magnitude == "AB" else ST_ZERO_POINT
        with np.errstate(divide="ignore", invalid="ignore"):
            reference = np.stack([self.reference[band] for band in bands], axis=1)
            own = -2.5 * np.log10(now @ reference) + zero_point
            change = -POGSON * ((first - now) @ mean) / (now @ mean)
        scale = np.abs(mean).max(axis=0)
        n = max(self.table.release.n_basis)
        source = dataclasses.replace(self.table[place].coefficients, value=now)
        gain, matrix = engine.run(gain_kernel, mean / scale, source, float64=True, work_bytes=32 * n * n)
        matrix += self.term.floor**2 * np.eye(len(bands))
        good = np.isfinite(gain).all(axis=(1, 2)) & np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(own).all(axis=1)
        matrix[~good] = np.eye(len(bands))
        inverse = np.linalg.inv(matrix + NEGLIGIBLE**2 * np.eye(len(bands)))
        gain = np.where(good[:, None, None], gain, 0.0) @ inverse
        prior = own + change
        out = np.full((len(star), len(bands)), np.nan)
        out[known[good]] = prior[good]
        whole = np.full((len(star), len(bands), len(bands)), np.nan)
        whole[known] = matrix
        moved = dataclasses.replace(spectra, coefficients=coefficients, gain=gain, prior=prior)
        return dataclasses.replace(last, spectra=moved, star_prior=StarPrior(star, bands, out, whole))

    def noise(self, last: Any, solved: np.ndarray) -> NoisySlopes | None:
        """Noise of the derivatives where the last evaluation was; None where spectra are taken as exact.

        Zero for stars without a spectrum; see the module.
        """
        if not self.term.star_prior:
            return None
        spectra, bands = last.spectra, last.spectra.bands
        mean = np.stack([last.middle.projection[band] for band in bands], axis=1)
        slope = np.stack([last.middle.slope[band] for band in bands], axis=1)
        scale = np.abs(mean).max(axis=0)
        middle = MeanCurves(mean / scale, slope / scale[:, None], np.array(self.term.floor**2 + NEGLIGIBLE**2))
        known, place = spectra.known, spectra.place
        source = dataclasses.replace(self.table[place].coefficients, value=spectra.coefficients[place])
        n, k = max(self.table.release.n_basis), slope.shape[1] * slope.shape[2]
        found = engine.run(
            slope_kernel, middle, StarSpectrum(source, solved[known]), float64=True, work_bytes=32 * n * (n + k)
        )
        out = np.zeros((len(spectra.star), k, k))
        good = np.isfinite(found).all(axis=(1, 2))
        out[known[good]] = found[good]
        covariance = out.reshape(len(out), *slope.shape[1:], *slope.shape[1:])
        return NoisySlopes([one.groups.index for one in self.parameters], last.middle.amplitude, covariance)

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def linearize(
        self, values: Sequence[np.ndarray], last: Any = None, magnitude: np.ndarray | None = None
    ) -> LinearTransmission:
        """The term about some values, for spectra that have the magnitudes of the solution, where these are priors.

        Added magnitudes and derivatives are NaN for stars without spectrum, or without light in the band.
        """
        prior, spectra = None, self._unmoved() if last is None else last.spectra
        if self.term.star_prior and magnitude is not None:
            moved = self._moved(last, magnitude)
            prior, spectra = moved.star_prior, moved.spectra
        limited = [np.clip(v, one.low, one.high) for v, one in zip(values, self.parameters, strict=True)]
        return dataclasses.replace(self._evaluate(limited, spectra), star_prior=prior)

    def airmass(self) -> np.ndarray:
        """Airmass (n_frame,) of every frame; the chain's own where it is not known."""
        air = self.chain.atmosphere
        nominal = 1.0 if air is None else float(air.airmass)
        return np.where(np.isfinite(self.frames.airmass), self.frames.airmass, nominal)

    def _projections(self, values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Of every frame (n_frame, n_basis_total), and derivatives (n_frame, n_basis_total, n_parameter)."""
        change = np.stack([v[one.groups.index] for v, one in zip(values, self.parameters, strict=True)], axis=1)
        airmass = self.airmass()
        n_basis = self.coefficients.shape[1]
        value = np.empty((len(self.frames), n_basis))
        slope = np.empty((len(self.frames), n_basis, len(values)))
        for band, curves in self.curves.items():
            mine = np.flatnonzero(self.frames.band == band)
            state = FrameState(change[mine], airmass[mine])
            work_bytes = 320 * len(np.asarray(curves.grid)) * len(values)
            value[mine], slope[mine] = engine.run(projection_kernel, curves, state, float64=True, work_bytes=work_bytes)
        return value, slope

    def _evaluate(self, values: list[np.ndarray], spectra: Spectra) -> LinearTransmission:
        """What is added to every row (n,) [mag], and its derivative (n,) with respect to each parameter."""
        coefficients = spectra.coefficients
        projection, slope = self._projections(values)
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
            seen = np.zeros(len(coefficients), bool)
            seen[self.star[rows]] = True
            place = (np.cumsum(seen) - 1)[self.star[rows]]
            product = coefficients[seen] @ columns[first:last].reshape(-1, columns.shape[2]).T
            flux = product.reshape(len(product), last - first, -1)[place, self.frame[rows] - first]
            with np.errstate(divide="ignore", invalid="ignore"):
                good = (flux[:, 0] > 0) & (flux[:, 1] > 0)
                added[rows] = np.where(good, 2.5 * np.log10(flux[:, 0] / flux[:, 1]), np.nan)
                derivative[:, rows] = np.where(good, POGSON * flux[:, 2:].T / flux[:, 0], np.nan)
        middle = Middle.of(projection, slope, self.frames.band)
        return LinearTransmission(values, added, list(derivative), spectra=spectra, middle=middle)
