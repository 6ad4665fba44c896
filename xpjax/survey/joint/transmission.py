"""The shape of the transmission as a term of a joint solution: XP spectra through a chain with parameters.

What a star of spectrum f has on frame e and would have in the reference passband differ by

    M - m = 2.5 log10(c r(p_e) / c r(p_0)),   r the projection of the chain's curve, c the coefficients of f

r is normalized, so that a gray change belongs to the zero-point. p_0 is the chain as it is given, p_e has the airmass
of the frame and what is fitted: parameters of the chain (water, ozone, filter_shift, filter_scale, detector_slope,
...), each shared by the frames that `per` says, and varying over the detector where it has a `field`: see `parameters`.
Derivatives are exact: forward mode through atmosphere, filter and quadrature.

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
from xpjax.survey.exposures import ExposureModel, Scaling, scaling
from xpjax.survey.joint.blocks import Prepared
from xpjax.survey.joint.curves import (
    BandCurves,
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
from xpjax.survey.joint.parameters import MOST_VARYING, FittedParameter, Nodes, Parameter
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.terms import Term
from xpjax.survey.reading import named_correction, survey_chain
from xpjax.synthetic import TransmissionChain, passband_operator
from xpjax.xp import AnyLinear, AnySources, Instrument, SourceTable, as_sources, load_instrument

STEP = 0.5
"""Sampling [nm] of the curves."""
NEGLIGIBLE = 1e-5
"""Errors of magnitudes [mag] below which spectra are exact."""
FRAMES = 16
"""Frames, or nodes of them, that are evaluated at once."""
MARGIN = 10.0
"""How far [nm] a filter may move beyond its table."""


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
    sources: AnySources
    parameters: Mapping[str, Parameter]
    name: str = "transmission"
    star_prior: bool = True
    floor: float = 0.0
    instrument: Instrument | None = None
    correction: AnyLinear = None
    in_python = ("instrument",)

    def __post_init__(self) -> None:
        if not self.floor >= 0:
            raise XpjaxError(f"{self.name}: floor must be zero or more magnitudes, not {self.floor!r}")
        varying = [name for name, one in self.parameters.items() if one.field or one.by_amplifier]
        if len(varying) > MOST_VARYING:
            raise XpjaxError(
                f"{self.name}: {varying} vary within frames; at most {MOST_VARYING} parameters may have a field or "
                "values by amplifier"
            )
        if isinstance(self.chain, str):
            return
        known = self.chain.parameters
        self.chain.with_parameters(**{name: known[name] for name in self.parameters if name in known})
        if unknown := [name for name in self.parameters if name not in known]:
            self.chain.with_parameters(**{unknown[0]: 0.0})
        if not self.parameters:
            raise XpjaxError(f"{self.name}: no parameters; give some of {sorted(known)}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of [columns] without which the term means nothing."""
        places = ("x", "y") if any(one.field for one in self.parameters.values()) else ()
        return (*places, "amplifier") if any(one.by_amplifier for one in self.parameters.values()) else places

    @classmethod
    def section(cls) -> type[Section]:
        """The entries of a [[term]]."""
        fields = {
            "chain": (str, entry("", "TOML file of the chain, the reference as it is; by default that of [passband]")),
            "sources": (str, entry("", "XP spectra of the stars, with their ids; by default those of [standards]")),
            "parameters": (Mapping[str, PARAMETER], entry(..., "Parameters of the chain, by their names")),  # type: ignore[valid-type]
            "correction": (str, entry("standard", 'Linear correction of the spectra: "standard", "none" or a file')),
        }
        return section_of(cls.__name__, cls, without=cls.in_python, **fields)

    @classmethod
    def from_entry(cls, entry: Mapping[str, object]) -> Self:
        """The term that a [[term]] means; its files are read by `bound`."""
        said = parse(cls.section(), entry, "a transmission term").given()
        for name, section in (("chain", "[passband] chain"), ("sources", "[standards] spectra")):
            if not said.get(name):
                raise XpjaxError(f"a transmission term has no {name}: name the file there, or as {section}")
        parameters = {name: one.make(Parameter) for name, one in said["parameters"].items()}
        return cls(**{"correction": "standard", **said, "parameters": parameters})

    def entry(self) -> dict[str, object]:
        """What a file says of the term, without a chain and spectra that are none of files."""
        said = {**super().entry(), "parameters": {n: p.said() for n, p in self.parameters.items()}}
        if not isinstance(self.chain, str):
            said = {name: value for name, value in said.items() if name not in ("chain", "sources", "correction")}
        return said

    def bound(self, folder: Path, columns: Mapping[str, np.ndarray]) -> Transmission:
        """The term with chain, spectra and correction read from the files that it names."""
        if not isinstance(self.chain, str):
            return self
        chain, sources, correction = survey_chain(self.chain, folder), self.sources, self.correction
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
        known = scaling(observations, ExposureModel()) if scale is None else scale
        return PreparedTransmission(term, term._model(), observations, known)


class PreparedTransmission(Prepared):
    """A transmission term for some observations."""

    linear = False

    def __init__(self, term: Transmission, model: Instrument, o: Observations, scale: Scaling) -> None:
        chain = term.chain
        assert isinstance(chain, TransmissionChain)
        self.term, self.chain = term, chain
        self.frames, self.frame = o.frames, o.frame
        self.table = self._sources(model)
        self.star = places_of(o.star, np.asarray(self.table.source_id))
        self.coefficients = np.array(self.table.coefficients.value, float)
        self.curves = {str(band): self._curves(str(band), model) for band in np.unique(o.frames.band)}
        self.parameters = tuple(FittedParameter.of(name, one, chain, o, scale) for name, one in term.parameters.items())
        self._order = np.argsort(o.frame, kind="stable")
        self._edges = np.searchsorted(o.frame[self._order], np.arange(len(o.frames) + 1))
        air = chain.atmosphere
        own = FrameState(np.zeros((1, len(self.parameters))), np.full(1, 1.0 if air is None else float(air.airmass)))
        self.reference = {
            band: engine.run(projection_kernel, c, own, float64=True)[0][0] for band, c in self.curves.items()
        }
        zero = [np.zeros(len(one.groups.labels)) for one in self.parameters for _ in range(one.n_part)]
        at_zero = self._evaluate(zero, self._unmoved())
        self.middle, slopes = at_zero.middle, iter(at_zero.slopes)
        compact = self.table.coefficients.covariance
        if term.star_prior and compact is not None:
            self.middle.check(compact.subspace)
        super().__init__(*(block for one in self.parameters for block in one.blocks(term.name, o.frame, slopes)))

    def _sources(self, model: Instrument) -> SourceTable:
        """The spectra within the domain of their correction."""
        table = as_sources(self.term.sources, model.release)
        if model.correction is not None:
            domain = model.correction.domain
            distance = np.asarray(domain.distance(np.asarray(table.coefficients.value), table.release))
            table = table[np.flatnonzero(distance <= domain.limit)]
        if self.term.star_prior and not table.coefficients.has_covariance:
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
        parts = [(j, one, part) for j, one in enumerate(self.parameters) for part in (None, *one.basis.values())]
        return NoisySlopes(
            [j for j, _, _ in parts], [one.place(self.frame) for _, one, _ in parts], [part for _, _, part in parts],
            self.frame, last.middle.amplitude, covariance,
        )  # fmt: skip

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
        return dataclasses.replace(self._evaluate(self._limited(values), spectra), star_prior=prior)

    def _limited(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Values of all blocks, with those that are beyond the range of their parameter put at its end."""
        blocks, out = iter(values), []
        for one in self.parameters:
            out.append(np.clip(next(blocks), one.low, one.high))
            out += [next(blocks) for _ in one.basis]
        return out

    def airmass(self) -> np.ndarray:
        """Airmass (n_frame,) of every frame; the chain's own where it is not known."""
        air = self.chain.atmosphere
        nominal = 1.0 if air is None else float(air.airmass)
        return np.where(np.isfinite(self.frames.airmass), self.frames.airmass, nominal)

    def _projections(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At every node, for changes (n_frame, n_node, n_parameter) of the parameters.

        Projections (n_frame, n_node, n_basis_total), derivatives (n_frame, n_node, n_basis_total, n_parameter).
        """
        airmass, shape = self.airmass(), (*change.shape[:2], self.coefficients.shape[1])
        value, slope = np.empty(shape), np.empty((*shape, change.shape[2]))
        for band, curves in self.curves.items():
            mine = np.flatnonzero(self.frames.band == band)
            own = change[mine]
            state = FrameState(own.reshape(-1, own.shape[2]), np.repeat(airmass[mine], own.shape[1]))
            work_bytes = 320 * len(np.asarray(curves.grid)) * own.shape[2]
            found = engine.run(projection_kernel, curves, state, float64=True, work_bytes=work_bytes)
            value[mine], slope[mine] = (a.reshape(len(mine), own.shape[1], *a.shape[1:]) for a in found)
        return value, slope

    def _evaluate(self, values: list[np.ndarray], spectra: Spectra) -> LinearTransmission:
        """What is added to every row (n,) [mag], and its derivative (n,) with respect to each block's value."""
        coefficients, n_frame = spectra.coefficients, len(self.frames)
        nodes = Nodes.of(self.parameters, values, self.frame, n_frame)
        n_node, n_parameter = nodes.change.shape[1:]
        projection, slope = self._projections(nodes.change)
        reference = np.stack([self.reference[str(band)] for band in self.frames.band])
        slopes = np.swapaxes(slope, 2, 3).reshape(n_frame, n_node * n_parameter, -1)
        columns = np.concatenate([projection, reference[:, None], slopes], axis=1)
        added = np.full(len(self.frame), np.nan)
        derivative = np.full((n_parameter, len(self.frame)), np.nan)
        share = np.full((n_frame, n_node), 1.0 / n_node)  # mean weights of a frame's rows
        step = max(FRAMES // n_node, 1)
        for first in range(0, n_frame, step):
            last = min(first + step, n_frame)
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
            weight = nodes.weights(rows)
            value = (weight * flux[:, :n_node]).sum(axis=1)
            change = np.einsum("rq,rqp->pr", weight, flux[:, n_node + 1 :].reshape(len(rows), n_node, n_parameter))
            with np.errstate(divide="ignore", invalid="ignore"):
                good = (value > 0) & (flux[:, n_node] > 0)
                added[rows] = np.where(good, 2.5 * np.log10(value / flux[:, n_node]), np.nan)
                derivative[:, rows] = np.where(good, POGSON * change / value, np.nan)
            if n_node > 1:
                _average(share, self.frame[rows], weight)
        middle = Middle.of(
            np.einsum("fq,fqb->fb", share, projection), np.einsum("fq,fqbp->fbp", share, slope), self.frames.band
        )
        made = [slope for one, own in zip(self.parameters, derivative, strict=True) for slope in one.slopes(own)]
        return LinearTransmission(values, added, made, spectra=spectra, middle=middle)


def _average(share: np.ndarray, frame: np.ndarray, weight: np.ndarray) -> None:
    """Put the mean weights of rows (n, n_node) into those of their frames (n,), ascending, where any are known."""
    known = np.isfinite(weight).all(axis=1)
    frame, weight = frame[known], weight[known]
    starts = np.flatnonzero(np.diff(frame, prepend=-1))
    if len(starts):
        share[frame[starts]] = np.add.reduceat(weight, starts, axis=0) / np.diff(starts, append=len(frame))[:, None]
