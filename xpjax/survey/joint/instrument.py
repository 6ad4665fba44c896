"""What XP's instrument model is wrong by, found by the surveys that it calibrates: modes of its linear correction.

Pairs of XP and CALSPEC that were left out of the linear correction say what it leaves: a covariance C(l, l') of errors
relative to the spectrum (`xpjax.xp.correction`). Its root is rotated, C = sum_k u_k u_k', so that leading modes are
those that change the magnitudes of ordinary stars most differently. As far as stars share the error, a true spectrum is

    f_true(l) = f_XP(l) (1 + sum_k a_k u_k(l)),      a_k ~ N(0, 1)

and its magnitudes in a band that sees the light L(l) = f_XP T l are wrong by

    M_XP - M = G a,      G_k = 1.0857 int L u_k dl / int L dl

What all stars of a band have in common of it cannot be told from the zero-points; what differs with their colors is
measured by all of them, some 0.1 mmag for a mode as large as CALSPEC lets it be: that takes 1e5 stars, and passbands
that are known, or a transmission term beside this one. What is left of the modes stays within CALSPEC's prior, and is
part of the errors of zero-points and stars.

Derivatives G have the noise of the spectra, as the prior magnitudes have: least squares with the spectra as they are
would be off by many standard deviations. As in a transmission term (`transmission`) the spectra give the stars' priors
x with covariances V between bands, and are parameters too: they move to where they have the magnitudes M' of the
solution, G = G(c) + H V^-1 (M' - x) with H = cov(G, x), and errors allow for noisy derivatives.

What is found makes another linear correction (`InstrumentModes.corrected`): with a and cov(a) of the solution

    change + (W + change) diag(sum_k a_k u_k),      C - sum_k u_k u_k' + sum_kl u_k cov(a)_kl u_l'

W the published design matrix. Its errors hold for stars like the survey's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.constants import POGSON, XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.linalg import dot
from xpjax.io.config import Section, entry, section_of
from xpjax.survey import Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block, Linear, Part, Prepared
from xpjax.survey.joint.curves import MeanCurves, StarSpectrum, gain_kernel, slope_kernel
from xpjax.survey.joint.noise import NoisySlopes
from xpjax.survey.joint.priors import StarPrior, xp_prior
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.terms import Term, check_whole
from xpjax.survey.reading import named_correction
from xpjax.synthetic import AnyPassbands, Passband, PassbandSet, band_weights, load_passbands, passband_system
from xpjax.xp import (
    FADE,
    AnyLinear,
    AnySources,
    Instrument,
    LinearCorrection,
    SourceTable,
    XPCoefficients,
    as_sources,
    load_correction,
    load_instrument,
)

NEGLIGIBLE = 1e-5
"""Errors of magnitudes [mag] below which spectra are exact."""
MODE = " mode_{}"
SAID = "Mode {} of XP's correction, in standard deviations of CALSPEC"


@dataclasses.dataclass(frozen=True)
class InstrumentModes(Term, kind="instrument"):
    """Fit leading modes of what the linear correction of XP spectra leaves, common to all stars and exposures.

    Parameters
    ----------
    passbands
        Curves of the survey's bands, as for `xpjax.load_passbands`: a chain, a set, a file or a name.
    sources
        XP sources, as for `xpjax.photometry`, whose ids are the stars of the observations.
    name : str
        Name of the term in tables, messages and constraints.
    modes : int
        Number of modes.
    prior : float
        Standard deviation of every mode about zero, in units of what CALSPEC says.
    correction
        Linear correction of the spectra, as for `xpjax.photometry`; its modes are fitted.
    floor : float [mag]
        Error of the spectra beyond those stated, of each star in each band.
    bands : mapping of str to str
        Names of passbands for bands that the survey calls otherwise.
    star_prior : bool
        Whether the spectra are priors of the stars' magnitudes here; False where those of a transmission term are.
    instrument : Instrument or None
        Instrument of the spectra; by default Gaia's.

    Raises
    ------
    XpjaxError
        If there is no correction, no passband for a band, or spectra lack errors or correlations.

    Notes
    -----
    M_XP - M = sum_k a_k G_k, with G_k what a change by mode k makes of a star's magnitude; see the module. Stars with a
    prior magnitude and no spectrum here cannot be used. Those outside the domain of the correction, and those with
    little light in a band, have no prior.

    Examples
    --------
    >>> xpjax.survey.joint.InstrumentModes("telescope.toml", "stars.h5", modes=3).describe()
    "instrument passbands='telescope.toml' sources='stars.h5' modes=3"
    """

    passbands: AnyPassbands | Mapping[str, str]
    sources: AnySources
    name: str = "instrument"
    modes: int = 5
    prior: float = 1.0
    correction: AnyLinear = "standard"
    floor: float = 0.0
    bands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    star_prior: bool = True
    instrument: Instrument | None = None
    in_python = ("instrument",)
    of_reference = True
    spectral_prior = True

    def __post_init__(self) -> None:
        check_whole(self.name, "modes", self.modes, 1, 40)
        if not self.prior > 0:
            raise XpjaxError(f"{self.name}: prior = {self.prior!r} must be a standard deviation above zero")
        if not self.floor >= 0:
            raise XpjaxError(f"{self.name}: floor must be zero or more magnitudes, not {self.floor!r}")

    @classmethod
    def section(cls) -> type[Section]:
        """The entries of a [[term]]."""
        curves = "Passbands: a chain, curves by band, or a system; by default those of [passband]"
        fields = {
            "passbands": (str | Mapping[str, str], entry(..., curves)),
            "sources": (str, entry(..., "XP spectra of the stars, with their ids; by default those of [standards]")),
            "correction": (str, entry("standard", 'Linear correction of the spectra: "standard" or a file')),
        }
        return section_of(cls.__name__, cls, without=cls.in_python, **fields)

    def entry(self) -> dict[str, object]:
        """What a file says of the term, without passbands and spectra that are none of files."""
        said = {name: value for name, value in super().entry().items() if name != "bands" or value}
        texts = ("passbands", "sources", "correction")
        return {name: value for name, value in said.items() if name not in texts or isinstance(value, str | Mapping)}

    def bound(self, folder: Path, columns: Mapping[str, np.ndarray]) -> Self:
        """The term with passbands, spectra and correction read from the files that it names."""
        made: dict[str, Any] = {}
        if isinstance(self.passbands, str | Mapping):
            made["passbands"] = _opened(self.passbands, folder)
        if isinstance(self.sources, str):
            if not (folder / self.sources).exists():
                raise XpjaxError(f"no file {folder / self.sources} with the spectra of the instrument term")
            made["sources"] = as_sources(folder / self.sources)
        if isinstance(self.correction, str):
            made["correction"] = named_correction({"correction": self.correction}, folder)
        return dataclasses.replace(self, **made) if made else self

    def correction_name(self) -> str | None:
        """The linear correction of the spectra."""
        return self.correction_of().name

    def correction_of(self) -> LinearCorrection:
        """The linear correction whose modes these are."""
        found = load_correction(self.correction)
        if found is None:
            raise XpjaxError(f"{self.name}: its modes are those of a linear correction, and there is none; give one")
        return found

    def _curves(self, bands: tuple[str, ...]) -> list[Passband]:
        """The passband of each band."""
        named: Any = self.passbands  # no mapping of files any more: `bound` has opened it
        known = load_passbands(named)
        wanted = [self.bands.get(band, band) for band in bands]
        if lost := [name for name in wanted if name not in known.names]:
            raise XpjaxError(f"{self.name}: no passband {lost[0]!r}; there are {list(known.names)}")
        return [known[name] for name in wanted]

    def rows(self, bands: tuple[str, ...]) -> np.ndarray:
        """The root (r, m) of the covariance that the correction leaves on its wavelengths, the modes first.

        Rotated so that each row has the most that is left of what changes the magnitudes of ordinary stars differently.
        """
        correction = self.correction_of()
        own, root = correction.wavelength, correction.left_at(correction.wavelength)
        design = self.design(own)
        mean, spread = correction.center @ design, correction.root.T @ design
        seen = np.zeros((len(root), len(root)))
        for curve in self._curves(bands):
            weight = np.interp(own, curve.wavelength, curve.transmission, left=0, right=0) * own
            light, change = mean * weight / (mean @ weight), spread * weight / (mean @ weight)
            slope = (change - change.sum(axis=1)[:, None] * light) @ root.T
            seen += slope.T @ slope
        out = np.linalg.eigh(seen)[1][:, ::-1].T @ root
        # The sign of a row means nothing: each is made to lie above zero where it is largest.
        return np.asarray(out * np.sign(out[np.arange(len(out)), np.abs(out).argmax(axis=1)])[:, None])

    def design(self, wavelength: np.ndarray) -> np.ndarray:
        """The design matrix (n_basis_total, m) [W m-2 nm-1] of spectra with the correction."""
        correction = self.correction_of()
        made = (self.instrument or load_instrument(release=correction.release)).corrected(correction).design(wavelength)
        return np.asarray(made.value) * np.asarray(made.scale)

    def prepare(self, observations: Observations, scale: Scaling) -> PreparedInstrument:
        """The columns of the term."""
        return PreparedInstrument(self.bound(Path(), {}), observations)

    def curves(self, bands: tuple[str, ...]) -> MeanCurves:
        """Projections of the bands, and of what each mode changes in them, scaled to order one."""
        correction = self.correction_of()
        own, each = correction.wavelength, []
        modes = self.design(own) * self.rows(bands)[: self.modes, None]
        changes = [dataclasses.replace(correction, change=change) for change in modes]
        for curve in self._curves(bands):
            x, weight = band_weights(curve, (own[0] - FADE, own[0], own[-1], own[-1] + FADE, *XP_RANGE))
            inside = (x > XP_RANGE[0]) & (x < XP_RANGE[1])
            x, weight = x[inside], weight[inside]
            each.append(np.stack([made @ weight for made in (self.design(x), *(one.at(x) for one in changes))], axis=1))
        whole = np.stack(each, axis=1)
        whole /= np.abs(whole[:, :, :1]).max(axis=0)
        return MeanCurves(whole[:, :, 0], whole[:, :, 1:], np.array(self.floor**2 + NEGLIGIBLE**2))

    def prior_of(self, table: SourceTable, bands: tuple[str, ...]) -> StarPrior:
        """Magnitudes of the spectra with the covariance of the bands, NaN where the correction does not fully hold."""
        system = passband_system(PassbandSet("survey", tuple(self._curves(bands))), correction=self.correction_of())
        found = xp_prior(table, system, bands=bands, floor=self.floor)
        # Of a noisy flux the mean magnitude is too faint, by more than modes change it.
        variance = np.diagonal(found.covariance, axis1=1, axis2=2) - self.floor**2
        assert system.domain is not None
        assert system.flat is not None
        value = np.asarray(table.coefficients.value, float)
        least = np.asarray(system.flat) * (value @ system.domain.rows(table.release)[:, -1:])
        lit = (value @ np.asarray(system.uncorrected) >= least).all(axis=1)
        magnitude = np.where(lit[:, None], found.magnitude - variance / (2 * POGSON), np.nan)
        return dataclasses.replace(found, magnitude=magnitude)

    def corrected(self, solution: JointSolution, name: str = "survey") -> LinearCorrection:
        """Return the linear correction that a solution makes of the one that it started from.

        `xpjax.xp.write_correction` writes it, and `correction=` of `xpjax.photometry` takes it. Raises XpjaxError for a
        solution without this term.
        """
        correction, term = self.correction_of(), self.bound(Path(), {})
        columns = np.array([solution.columns(self.name + MODE.format(k + 1)).start for k in range(self.modes)])
        unit = np.eye(len(solution.value))[columns]
        a, covariance = solution.value[columns], solution.covariance(unit)
        rows = term.rows(solution.bands)
        modes, rest = rows[: self.modes], rows[self.modes :]
        size, vector = np.linalg.eigh(covariance)
        left = np.concatenate([(np.sqrt(np.maximum(size, 0)) * vector).T @ modes, rest])
        said = {"from": correction.name, "modes": a.tolist(), "mode_errors": np.sqrt(np.diag(covariance)).tolist()}
        change = correction.change + term.design(correction.wavelength) * (a @ modes)
        meta = {**correction.meta, "survey": said}
        return dataclasses.replace(correction, name=name, change=change, left=left, floor=0.0, meta=meta)


def _opened(passbands: str | Mapping[str, str], folder: Path) -> PassbandSet:
    """Passbands in files relative to a folder, one for each band or all in one, or of a name."""
    if isinstance(passbands, Mapping):
        each = (load_passbands(folder / file, names=[band]).passbands[0] for band, file in passbands.items())
        return PassbandSet("survey", tuple(each))
    path = folder / passbands
    return load_passbands(path if path.exists() else passbands)


def change_kernel(curves: MeanCurves, source: XPCoefficients) -> tuple[Array, Array]:
    """G (n_band, n_mode) of one star, and H (n_band n_mode, n_band), its covariance with the magnitudes."""
    projection, slope = jnp.asarray(curves.projection), jnp.asarray(curves.slope)
    n_basis, n_band, n_mode = slope.shape
    flux = dot(source.value, projection)
    share = dot(source.value, slope.reshape(n_basis, -1)).reshape(n_band, n_mode) / flux[:, None]
    change = POGSON * (slope - share * projection[:, :, None]) / flux[:, None]
    whole, _ = gain_kernel(projection, source)
    return POGSON * share, dot(change.reshape(n_basis, -1).T, whole)


@dataclasses.dataclass(frozen=True, repr=False)
class LinearInstrument(Linear):
    """An instrument term about some values, for stars (n_star,) in bands."""

    star: np.ndarray = dataclasses.field(kw_only=True)
    bands: tuple[str, ...] = dataclasses.field(kw_only=True)


class PreparedInstrument(Prepared):
    """An instrument term for some observations; derivatives move with the spectra of the stars."""

    linear = False

    def __init__(self, term: InstrumentModes, o: Observations) -> None:
        self.term, self.frame, self.bands = term, o.frame, tuple(str(band) for band in np.unique(o.frames.band))
        self.n_frame = len(o.frames)
        self.middle = term.curves(self.bands)
        self.table = self._seen(o)
        n, k = max(self.table.release.n_basis), len(self.bands) * term.modes
        self.own, self.shared = engine.run(
            change_kernel, self.middle, self.table.coefficients, float64=True, work_bytes=32 * n * (n + k)
        )
        self.prior = term.prior_of(self.table, self.bands)
        good = np.isfinite(self.own).all(axis=(1, 2)) & np.isfinite(self.prior.magnitude).all(axis=1)
        whole = np.where(good[:, None], self.prior.magnitude, np.nan)
        self.prior = dataclasses.replace(self.prior, magnitude=whole)
        own, ids = np.where(good[:, None, None], self.own, np.nan), np.asarray(self.table.source_id)
        inverse = np.linalg.inv(np.where(good[:, None, None], self.prior.covariance, np.eye(len(self.bands))))
        self.gain = np.where(good[:, None, None], self.shared, 0.0) @ inverse
        self.place = places_of(o.star, ids)
        self.band = np.searchsorted(self.bands, o.frames.band)[o.frame]
        # A star without a prior magnitude has none that could be wrong.
        known = good[self.place] & (self.place >= 0)
        self.known = known
        free = ~known & ~np.isfinite(o.model) if not term.star_prior else ~known
        self.start = np.where(free, 0.0, np.nan)
        blocks = [
            Block(
                term.name + MODE.format(k + 1), np.zeros(len(o), np.int32), ("all",),
                (Part(f"mode_{k + 1}", "", slope, term.prior, 0.0, SAID.format(k + 1)),), {}, np.zeros(1, int),
            )
            for k, slope in enumerate(self._slopes(own))
        ]  # fmt: skip
        super().__init__(*blocks)

    def _seen(self, o: Observations) -> SourceTable:
        """The spectra of stars that were observed."""
        table = as_sources(self.term.sources, self.term.correction_of().release)
        if not table.coefficients.has_covariance:
            raise XpjaxError(f"{self.term.name}: {table.origin} has no errors or no correlations, which its modes need")
        place = places_of(np.unique(o.star), np.asarray(table.source_id))
        if not (place >= 0).any():
            raise XpjaxError(f"{self.term.name}: {table.origin} has no spectrum of a star of the observations")
        return table[np.sort(place[place >= 0])]

    def _slopes(self, own: np.ndarray) -> list[np.ndarray]:
        """Derivatives (n,) of the rows with respect to each mode, by spectrum (n_source, n_band, n_mode)."""
        return [np.where(self.known, own[self.place, self.band, k], self.start) for k in range(self.term.modes)]

    def begin(self, star: np.ndarray, bands: tuple[str, ...]) -> LinearInstrument:
        """The term at no change, for stars (n_star,) in bands, with their prior magnitudes."""
        prior = self.prior if self.term.star_prior else None
        return LinearInstrument([], np.empty(0), [], prior, star=star, bands=bands)

    def linearize(
        self, values: Sequence[np.ndarray], last: Any = None, magnitude: np.ndarray | None = None
    ) -> LinearInstrument:
        """The term about values, with spectra where the stars have the magnitudes of the solution."""
        own = self.own
        if magnitude is not None:
            place = places_of(np.asarray(self.table.source_id), last.star)
            off = np.where(place[:, None] >= 0, magnitude[place] - self.prior.magnitude, 0.0)
            own = own + np.einsum("sij,sj->si", self.gain, np.nan_to_num(off)).reshape(own.shape)
        slopes = self._slopes(own)
        added = np.sum([slope * value[0] for slope, value in zip(slopes, values, strict=True)], axis=0)
        return LinearInstrument(list(values), added, slopes, star=last.star, bands=last.bands)

    def noise(self, last: Any, solved: np.ndarray) -> NoisySlopes | None:
        """Noise of the derivatives; see `transmission`."""
        place = places_of(last.star, np.asarray(self.table.source_id))
        seen = np.flatnonzero(place >= 0)
        source = self.table[place[seen]].coefficients
        n, k = max(self.table.release.n_basis), len(self.bands) * self.term.modes
        found = engine.run(
            slope_kernel, self.middle, StarSpectrum(source, solved[seen]), float64=True, work_bytes=32 * n * (n + k)
        )
        out = np.zeros((len(last.star), k, k))
        good = np.isfinite(found).all(axis=(1, 2))
        out[seen[good]] = found[good]
        m = self.term.modes
        return NoisySlopes(
            list(range(m)), [np.zeros(len(self.frame), int)] * m, [None] * m, self.frame,
            np.ones((self.n_frame, m)), out.reshape(len(out), len(self.bands), m, len(self.bands), m),
        )  # fmt: skip


def solved_correction(solution: JointSolution, name: str = "survey") -> LinearCorrection | None:
    """Return the linear correction that a solution with an instrument term makes; None for one without.

    Parameters
    ----------
    solution : JointSolution
        A solution.
    name : str
        Name of the correction, which results made with it bear.

    Returns
    -------
    LinearCorrection or None
        The correction, for `xpjax.xp.write_correction` and for `correction=` of `xpjax.photometry`.

    Raises
    ------
    XpjaxError
        If the solution was read from a file, and the term was not given.

    Notes
    -----
    See `InstrumentModes.corrected`.

    Examples
    --------
    >>> from xpjax.survey.joint import JointModel, ZeroPoint, solve_joint, solved_correction
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, 15 + 0.1 * star,
    ...                                       exposure=exposure)
    >>> solved_correction(solve_joint(rows, JointModel((ZeroPoint(),), star_prior=True))) is None
    True
    """
    terms = [term for term in solution.terms if isinstance(term, InstrumentModes)]
    if not terms and any(block.of_reference and block.name.endswith(MODE.format(1)) for block in solution.blocks):
        raise XpjaxError(
            "a file of a solution does not hold the passbands of its instrument term: give the term with "
            "solution.with_terms, or take the correction.h5 that `xpjax survey solve` left beside it"
        )
    return terms[0].corrected(solution, name) if terms else None
