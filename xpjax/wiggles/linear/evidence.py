"""What a linear correction leaves, judged on pairs that it did not see: spectra, magnitudes, pulls, and their figures.

Spectra are judged on the 2-nm grid of XP: as they are ("full"), or both seen at XP's own resolving power ("xp"). So are
magnitudes: sums over that grid of flux, curve and wavelength, of spectra and references alike, for bands of which the
grid sees nearly all. References at the level of XP: differences have no gray part.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.constants import POGSON
from xpjax.core.linalg import interpolation
from xpjax.core.records import Record
from xpjax.synthetic import load_passbands
from xpjax.wiggles.linear.fit import LEVEL_RANGE, Training, rms, scaled_reference
from xpjax.wiggles.linear.pairs import Pairs, gaia_magnitudes
from xpjax.xp import Instrument, LinearCorrection

SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "JPLUS": ("J0378", "J0395", "J0410", "J0430", "gJPLUS", "J0515", "rJPLUS", "J0660", "iJPLUS", "J0861", "zJPLUS"),
    "PanSTARRS1": ("gp", "rp", "ip", "zp"),
    "SDSS": ("g", "r", "i", "z"),
    "Sky_Mapper": ("v", "g", "r", "i"),
    "DECam": ("g", "r", "i", "z"),
    "lsst2023": ("u", "g", "r", "i", "z"),
}
"""Bands of surveys that lie within XP's samples, on which corrections are judged."""
ALIASED = ("J0378", "J0395")
"""Narrow bands in which references that are sampled at points, not averaged, err by their own lines."""
GATES = (0.0, 9.0, 11.5, 13.0, 14.0, 15.0, 20.0)
"""G between which what is left is told: below 11.5 XP was taken with shorter exposures, by gates."""
ROBUST = 1.4826
"""Standard deviations of a normal law per median absolute value."""
TYPES = {
    "hot subdwarfs, O": ("SD", "O"),
    "white dwarfs": ("D",),
    "B": ("B",),
    "A": ("A",),
    "F, G": ("F", "G"),
    "K": ("K",),
    "M and later": ("M", "L", "T"),
}
"""Kinds of stars by the first letters of their spectral types."""


def smoothing(model: Instrument) -> np.ndarray:
    """Matrix (m, m): spectra on the instrument's grid @ matrix are seen at XP's own resolving power."""
    grid = model.wavelength
    fine = np.arange(grid[0], grid[-1] + 0.01, 0.25)
    return np.asarray(model.line_spread(grid, fine) @ interpolation(grid, fine)).T


def sums(system: str, bands: Sequence[str], grid: np.ndarray) -> np.ndarray:
    """Weights (m, n_band) with which photon-counting bands see spectra that are sampled on a grid (m,) [nm]."""
    curves = [load_passbands(system)[name] for name in bands]
    weights = [np.interp(grid, c.wavelength, c.transmission, left=0, right=0) * grid for c in curves]
    return np.stack([w / w.sum() for w in weights], axis=1)


def kind_of(text: str) -> str:
    """The kind of `TYPES` that a spectral type is of; "other" for none."""
    word = text.strip().upper().replace("ESD", "SD")
    for kind, starts in TYPES.items():
        if word.startswith(starts):
            return kind
    return "other"


@dataclasses.dataclass(frozen=True, repr=False)
class Evidence(Record):
    """Spectra (n, m) of pairs, before and after a correction, and their references at the same level.

    distance (n,): d^2 of the correction's domain; bp_rp, g (n,) [mag]; gray (n,): level of the reference over XP's.
    """

    pairs: Pairs
    before: np.ndarray
    after: np.ndarray
    reference: np.ndarray
    distance: np.ndarray
    bp_rp: np.ndarray
    g: np.ndarray
    gray: np.ndarray

    @staticmethod
    def of(pairs: Pairs, after: np.ndarray, distance: np.ndarray, limit: float = np.inf) -> Evidence:
        """The evidence of corrected spectra (n, m) of pairs at distances d^2 (n,), with a share beyond the limit."""
        before = pairs.coefficients @ pairs.instrument.default_design
        share = np.where(distance > limit, limit / np.maximum(distance, 1e-9), 1.0)
        after = before + (after - before) * share[:, None]
        g, bp, rp = gaia_magnitudes(pairs)
        reference = scaled_reference(pairs)
        gray = np.nanmedian(pairs.reference / reference, axis=1)
        return Evidence(pairs, before, after, reference, distance, bp - rp, g, gray)

    def __getitem__(self, rows: Any) -> Evidence:
        """The evidence of some of the pairs."""
        return Evidence(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def spectra(
        self, low: float = LEVEL_RANGE[0], high: float = LEVEL_RANGE[1], resolution: str = "xp"
    ) -> tuple[np.ndarray, np.ndarray]:
        """RMS (n,) of mean-normalized flux between low and high [nm], before and after."""
        model, after, true = self.pairs.instrument, self.after, self.reference
        if resolution != "full":
            smooth = smoothing(model)
            # Where the reference ends, its own last samples stand in for what the line spread would bring in.
            filled = np.where(np.isfinite(true), true, after)
            after, true = after @ smooth, np.where(np.isfinite(true), filled @ smooth, np.nan)
        return rms(self.before, true, model, low, high), rms(after, true, model, low, high)

    def ratios(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """RMS (n,) of the ratio of spectrum and reference over its own median, at full resolution."""
        grid, out = self.pairs.instrument.wavelength, []
        where = (grid >= low) & (grid <= high)
        for seen in (self.before, self.after):
            ratio = (seen / self.reference)[:, where]
            out.append(np.sqrt(np.nanmean((ratio / np.nanmedian(ratio, axis=1, keepdims=True) - 1) ** 2, axis=1)))
        return out[0], out[1]

    def magnitudes(self, system: str, bands: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes (n, n_band) minus those of the references [mag], before and after."""
        weights = sums(system, bands or SYSTEMS[system], self.pairs.instrument.wavelength)
        true = np.where(np.isfinite(self.reference), self.reference, self.after) @ weights
        with np.errstate(invalid="ignore", divide="ignore"):
            before, after = (-2.5 * np.log10(seen @ weights / true) for seen in (self.before, self.after))
        return before, after

    def pulls(self, correction: LinearCorrection, system: str, bands: Sequence[str] | None = None) -> np.ndarray:
        """Magnitudes minus those of the references (n, n_band), over the systematic errors that are stated."""
        _, after = self.magnitudes(system, bands)
        sigma = band_errors(correction, system, bands or SYSTEMS[system], self.pairs.instrument)
        return np.asarray(after / sigma / np.sqrt(1 + self.distance)[:, None])

    def table(self, correction: LinearCorrection | None = None) -> list[str]:
        """The evidence in lines: spectra, magnitudes by system and band with pulls, by kinds of stars, and by G."""
        lines = [f"{len(self.before)} pairs; medians of the RMS of mean-normalized flux, before and after"]
        for low, high in ((400, 990), (400, 900), (360, 990), (336, 400)):
            shown = [f"{k} {_percent(self.spectra(low, high, k))}" for k in ("xp", "full")]
            ratio = f"ratio over its median {_percent(self.ratios(low, high))}"
            lines.append(f"  {low}..{high} nm   resolution {'   '.join(shown)}   {ratio}")
        lines.append("robust scatter of magnitudes of stars with BP-RP < 2 [mmag], before and after; pulls after")
        judged = self[self.bp_rp < 2]
        for system, bands in SYSTEMS.items():
            before, after = (1e3 * robust(d) for d in judged.magnitudes(system))
            chosen = [k for k, band in enumerate(bands) if band not in ALIASED]
            total = [float(np.sqrt((x[chosen] ** 2).mean())) for x in (before, after)]
            pull = f"   pull {robust(judged.pulls(correction, system).ravel()):.2f}" if correction is not None else ""
            each = "  ".join(f"{b} {x:.1f} {y:.1f}" for b, x, y in zip(bands, before, after, strict=True))
            lines.append(f"  {system:11s}{total[0]:6.1f} {total[1]:6.1f}{pull}   {each}")
        lines.append("by kind: stars, RMS at resolution xp 400..990 nm, J-PLUS of nine bands [mmag], before and after")
        kinds = np.array([kind_of(text) for text in self.pairs.kind])
        for kind in dict.fromkeys([*TYPES, "other"]):
            if (kinds == kind).any():
                lines.append(f"  {kind:17s}{(kinds == kind).sum():3d}   {self[kinds == kind]._short()}")
        lines.append("by G: stars, level of references over XP's, of all one, and its scatter, RMS, J-PLUS")
        gray = self.gray / np.median(self.gray)
        for bright, faint in itertools.pairwise(GATES):
            own = (self.g >= bright) & (self.g < faint)
            if own.sum() > 1:
                middle = float(np.median(gray[own]))
                told = f"{middle:.4f} {float(robust(gray[own] - middle)):.4f}   {self[own]._short()}"
                lines.append(f"  {bright:4.1f}..{faint:4.1f} {own.sum():3d}   {told}")
        return lines

    def _short(self) -> str:
        """Median RMS of spectra and scatter of J-PLUS's nine bands, before and after."""
        nine = [band for band in SYSTEMS["JPLUS"] if band not in ALIASED]
        scatter = [1e3 * float(np.sqrt((robust(d) ** 2).mean())) for d in self.magnitudes("JPLUS", nine)]
        return f"{_percent(self.spectra())}   {scatter[0]:.1f} {scatter[1]:.1f}"


def _percent(pair: tuple[np.ndarray, np.ndarray]) -> str:
    return " ".join(f"{100 * float(np.median(value)):.2f} %" for value in pair)


def robust(values: np.ndarray) -> np.ndarray:
    """Robust root mean square along the first axis: 1.4826 times the median absolute value."""
    return np.asarray(ROBUST * np.nanmedian(np.abs(values), axis=0))


def band_errors(correction: LinearCorrection, system: str, bands: Sequence[str], model: Instrument) -> np.ndarray:
    """Systematic errors (n_band,) [mag] of bands at d^2 = 0, as `PhotometricSystem.systematic` states them."""
    weights = sums(system, bands, model.wavelength) * np.maximum(correction.ordinary, 0)[:, None]
    root = correction.left_at(model.wavelength) @ (weights / weights.sum(axis=0))
    return np.asarray(POGSON * np.sqrt((root**2).sum(axis=0)))


def learning_curve(training: Training, sizes: Sequence[int], n_judged: int = 200, seed: int = 0) -> dict[int, float]:
    """Median RMS at XP's resolution of pairs that are not trained on, by the number of pairs that are.

    sizes: the numbers, drawn at random as often as it takes to judge n_judged pairs, some of them several times.
    """
    rng, n = np.random.default_rng(seed), len(training.pairs)
    curve: dict[int, float] = {}
    for size in (s for s in sizes if 5 <= s < n):
        found = []
        for _ in range(min(max(-(-n_judged // (n - size)), 2), 24)):
            keep = np.zeros(n, bool)
            keep[rng.permutation(n)[:size]] = True
            others = training.pairs[~keep]
            after = others.coefficients @ (others.instrument.default_design + training.fit(keep))
            found.append(Evidence.of(others, after, np.zeros(len(others))).spectra()[1])
        curve[size] = float(np.median(np.concatenate(found)))
    return curve
