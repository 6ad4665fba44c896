"""What XP itself is wrong by, found by surveys: a pattern on the sky, and modes of its correction.

`python -m benchmarks.reference_terms` leaves the figures in results/reference_terms.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from benchmarks.harness import DATA, RESULTS, Row, absent, limits, report
from xpjax.core.constants import XP_RANGE
from xpjax.core.sky import cells_of
from xpjax.survey.joint.instrument import InstrumentModes
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.sky import Sky
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Term, ZeroPoint
from xpjax.survey.observations import Observations, make_observations
from xpjax.survey.sky_floor import sky_floor
from xpjax.synthetic.loading import load_passbands
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.passband import band_weights
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.xp.correction import LinearCorrection, load_correction
from xpjax.xp.simulate import simulate_sources, true_coefficients
from xpjax.xp.sources import SourceTable, XPCoefficients, concatenate

ORIGIN = 150.0
"""Right ascension [deg] of the corner of simulated fields, on the equator."""


@dataclasses.dataclass(frozen=True)
class PatternedField:
    """A simulated field on dithered exposures, whose standards err by a pattern on the sky.

    ra, dec (n,): of the rows. Truth: zero-points (n_exposure,), magnitudes (n_star,) by the stars' ids, and the pattern
    (n_cell,) of `cells`.
    """

    observations: Observations
    ra: np.ndarray
    dec: np.ndarray
    zero_point: np.ndarray
    magnitude: np.ndarray
    cells: np.ndarray
    pattern: np.ndarray


def patterned(
    n_exposure: int,
    *,
    side: float = 3.0,
    camera: float = 1.0,
    density: float = 1500.0,
    sigma: float = 0.004,
    model_error: float = 0.010,
    error: float = 0.005,
    seed: int = 0,
) -> PatternedField:
    """Stars of a square field, side [deg] with so many a square degree, on exposures of a smaller camera.

    sigma [mag]: of the pattern in cells of 27 arcmin; model_error, error [mag]: of each standard's XP magnitude, and of
    a measurement.
    """
    rng = np.random.default_rng(seed)
    n_star = int(side**2 * density)
    east, north = rng.uniform(0, side, (2, n_star))
    magnitude = rng.uniform(13, 17, n_star)
    cells, own = np.unique(cells_of(ORIGIN + east, north, 128), return_inverse=True)
    pattern = sigma * rng.normal(size=len(cells))
    model = magnitude + pattern[own] + model_error * rng.normal(size=n_star)
    zero_point = rng.normal(25, 0.1, n_exposure)
    corner = rng.uniform(0, side - camera, (2, n_exposure))
    seen = []
    for e in range(n_exposure):
        x, y = east - corner[0, e], north - corner[1, e]
        star = np.flatnonzero((x > 0) & (x < camera) & (y > 0) & (y < camera))
        seen.append((np.full(len(star), e), star, x[star], y[star]))
    exposure, star, x, y = map(np.concatenate, zip(*seen, strict=True))
    measured = magnitude[star] - zero_point[exposure] + error * rng.normal(size=len(star))
    o = make_observations(
        star, x, y, measured, np.full(len(star), error), model[star], model_error=np.full(len(star), model_error),
        exposure=np.char.mod("e%05d", exposure), band="g",
    )  # fmt: skip
    return PatternedField(o, ORIGIN + east[star], north[star], zero_point, magnitude, cells, pattern)


def solved(field: PatternedField, *terms: Term) -> JointSolution:
    """The joint solution with a zero-point for every exposure and these terms."""
    model = JointModel((ZeroPoint(), *terms), star_prior=True, min_observations=1, robust="none", error_floor=0.0)
    return solve_joint(field.observations, model)


def sky_off(field: PatternedField, found: JointSolution) -> tuple[np.ndarray, np.ndarray]:
    """The map less the truth, and its errors [mag], by cell."""
    value, error = found.term("sky")
    pixel = [int(label.split()[1]) for label in found.block("sky").labels]
    return value - field.pattern[np.searchsorted(field.cells, pixel)], error


def rms(values: Any) -> float:
    """Root mean square of numbers, in arrays or not."""
    return float(np.sqrt(np.mean(np.square(np.concatenate([np.ravel(one) for one in values])))))


def sky_map() -> Row:
    """A pattern of 4 mmag in cells of 27 arcmin on 400 dithered exposures."""
    field = patterned(400)
    started = time.perf_counter()
    found = solved(field, Sky(ra=field.ra, dec=field.dec))
    seconds = time.perf_counter() - started
    off, error = sky_off(field, found)
    zero, own = found.term("zero_point")
    plain, plain_own = solved(field).term("zero_point")
    first = np.unique(field.observations.star, return_index=True)[1]
    floor = float(sky_floor(field.ra[first], field.dec[first])[0])
    row = Row("reference_terms", "sky: 400 dithered exposures", len(field.observations), seconds)
    row.error, row.error_of = rms(off), "map, rms [mag]"
    row.ratios = {
        "pattern rms [mmag]": 1e3 * rms(field.pattern), "map off rms [mmag]": 1e3 * rms(off),
        "map pull": rms(off / error), "cells": len(off),
        "zero-points off, with the term [mmag]": 1e3 * rms(zero - field.zero_point),
        "zero-points off, without [mmag]": 1e3 * rms(plain - field.zero_point),
        "zero-points' error, with the term [mmag]": 1e3 * rms(own),
        "zero-points' error, without, with its floor [mmag]": 1e3 * float(np.hypot(rms(plain_own), floor)),
        "zero-points' error, without [mmag]": 1e3 * rms(plain_own),
    }  # fmt: skip
    return row


def sky_pulls(n: int) -> Row:
    """Zero-points, map and stars within their errors: with the term, with its floor, and with neither."""
    started = time.perf_counter()
    pulls: dict[str, list[np.ndarray]] = {}
    for seed in range(n):
        field = patterned(30, side=2.0, camera=0.8, density=400, seed=seed)
        found = solved(field, Sky(ra=field.ra, dec=field.dec))
        off, error = sky_off(field, found)
        plain = solved(field)
        first = np.unique(field.observations.star, return_index=True)[1]
        floor = sky_floor(field.ra[first], field.dec[first])[0]
        value, own = plain.term("zero_point")
        with_term, own_with = found.term("zero_point")
        stars = (found.magnitude[:, 0] - field.magnitude[found.star]) / found.star_errors()[:, 0]
        for name, one in {
            "map": off / error, "stars": stars, "zero-points, with the term": (with_term - field.zero_point) / own_with,
            "zero-points, without, with its floor": (value - field.zero_point) / np.hypot(own, floor),
            "zero-points, without": (value - field.zero_point) / own,
        }.items():  # fmt: skip
            pulls.setdefault(name, []).append(one)
    row = Row("reference_terms", f"sky: pulls of {n} fields", n, time.perf_counter() - started)
    row.ratios = {f"{name} pull": rms(one) for name, one in pulls.items()}
    return row


BANDS, SYSTEM = ("g", "r", "i"), "SDSS:g,r,i"
VISIBLE = (400.0, 850.0)
"""Wavelengths [nm] over which the size of errors of spectra is taken."""


@dataclasses.dataclass(frozen=True)
class ErringSpectra:
    """A survey of stars with XP spectra that are all wrong by one error.

    term: with the spectra; modes (n_mode,) of the error, error (m,) relative to the spectrum on the correction's
    wavelengths; zero_point (n_field, n_band).
    """

    observations: Observations
    term: InstrumentModes
    modes: np.ndarray
    error: np.ndarray
    zero_point: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """Wavelengths over which sizes are taken, of those of the correction."""
        x = self.term.correction_of().wavelength
        return (x > VISIBLE[0]) & (x < VISIBLE[1])


def bright_spectra(n: int, seed: int, faint: float, color: tuple[float, float]) -> tuple[SourceTable, np.ndarray]:
    """Mock XP sources within the domain of the standard correction, and their coefficients without noise."""
    parts, exact, found, size = [], [], 0, max(min(3 * n, 20_000), 200)
    domain = load_correction("standard").domain
    while found < n:
        one, true = simulate_sources(size, seed=seed), true_coefficients(size, seed)
        g, c, seed = one.columns["phot_g_mean_mag"], one.columns["bp_rp"], seed + 1
        chosen = (g > 13) & (g < faint) & (c > color[0]) & (c < color[1])
        chosen &= np.asarray(domain.distance(true, one.release)) < 0.7
        parts.append(one[np.flatnonzero(chosen)])
        exact.append(true[chosen])
        found += len(parts[-1])
    table = parts[0] if len(parts) == 1 else concatenate(parts, "memory")
    return dataclasses.replace(table[:n], source_id=np.arange(n)), np.concatenate(exact)[:n]


def erring(
    n_field: int,
    n_star: int,
    *,
    modes: int = 3,
    size: float = 0.005,
    prior: float = 1.0,
    noise: float = 0.005,
    faint: float = 16.5,
    color: tuple[float, float] = (0.3, 2.0),
    seed: int = 0,
) -> ErringSpectra:
    """Fields of a survey in three bands, each seen once, with so many stars each.

    size: of the error of all spectra, root mean square over VISIBLE relative to the flux; prior: of the term; noise
    [mag]: of a measurement. True magnitudes are integrals over spectra without noise times one plus the error.
    """
    n = n_field * n_star
    table, exact = bright_spectra(n, 1000 * seed, faint, color)
    term = InstrumentModes(load_passbands(SYSTEM), table, modes=modes, prior=prior, correction="standard")
    rng = np.random.default_rng(seed)
    correction, rows = term.correction_of(), term.rows(BANDS)[:modes]
    value = rng.normal(size=modes)
    x = correction.wavelength
    value *= size / rms((value @ rows)[(x > VISIBLE[0]) & (x < VISIBLE[1])])
    error = value @ rows
    zero_point = rng.normal(25, 0.1, (n_field, len(BANDS)))
    columns = []
    for b, band in enumerate(load_passbands(SYSTEM)):
        nodes, weight = band_weights(band)
        inside = (nodes > XP_RANGE[0]) & (nodes < XP_RANGE[1])
        seen = weight[inside] * (1 + np.interp(nodes[inside], x, error))
        magnitude = -2.5 * np.log10(exact @ (term.design(nodes[inside]) @ seen)) - 56.1
        field = np.arange(n) // n_star
        columns.append((np.arange(n), field, np.full(n, b), magnitude - zero_point[field, b]))
    star, field, band_of, measured = map(np.concatenate, zip(*columns, strict=True))
    measured = measured + noise * rng.normal(size=len(star))
    none = np.zeros(len(star))
    o = make_observations(
        star, none, none, measured, np.full(len(star), noise), None, exposure=np.char.mod("f%03d", field),
        band=np.array(BANDS)[band_of],
    )  # fmt: skip
    return ErringSpectra(o, term, value, error, zero_point)


def solved_modes(survey: ErringSpectra) -> tuple[JointSolution, np.ndarray, np.ndarray]:
    """The joint solution, values and errors of the modes."""
    model = JointModel((ZeroPoint(), survey.term), min_observations=1, robust="none", clip=0.0, error_floor=0.0)
    found = solve_joint(survey.observations, model)
    names = [f"{survey.term.name} mode_{k + 1}" for k in range(survey.term.modes)]
    value, error = np.array([found.term(name) for name in names])[:, :, 0].T
    return found, value, error


def calspec_off(survey: ErringSpectra, made: LinearCorrection) -> dict[str, float]:
    """What the made error does to CALSPEC stars, which the survey has not seen, with the standard and its correction.

    XP is wrong by the survey's error where true spectra are the references times one plus it; and by its opposite.
    Each star is compared with itself: synthetic less true magnitudes, less the same without a made error, so that
    what else a star is off by counts for nothing and every star of the domain counts. The gain is what the mean
    squares of all residuals fall by, over both signs; its error is bootstrapped over stars.
    """
    pairs = read_pairs(DATA / "calspec" / "xp_calspec_pairs.parquet")
    standard, learned = load_correction("standard"), made.change - load_correction("standard").change
    grid, n = pairs.instrument.wavelength, len(pairs)
    table = SourceTable(np.arange(n), XPCoefficients(pairs.coefficients, None, None), np.zeros(n, np.uint32))
    flux = np.asarray(pairs.coefficients) @ pairs.instrument.default_design
    level = (grid > standard.level_range[0]) & (grid < standard.level_range[1])
    scale = np.nanmean(flux[:, level], axis=1) / np.nanmean(pairs.reference[:, level], axis=1)
    error = np.interp(grid, standard.wavelength, survey.error)

    def off(sign: float, correction: LinearCorrection) -> np.ndarray:
        """Synthetic less true magnitudes (n, n_band) [mmag] of stars within the domain, for an error of this sign."""
        truth, true = pairs.reference * scale[:, None] * (1 + sign * error), []
        for band in load_passbands(SYSTEM):
            nodes, weight = band_weights(band)
            inside = (nodes > grid[0]) & (nodes < grid[-1])
            each = np.array([np.interp(nodes[inside], grid, one) for one in truth])
            true.append(-2.5 * np.log10(each @ weight[inside]) - 56.1)
        found = photometry(table, SYSTEM, correction=correction, errors=False, float64=True)
        each = 1e3 * (np.asarray(found.magnitude, float) - np.transpose(true))
        return each[(np.asarray(found.distance) <= 1) & np.isfinite(each).all(axis=1)]

    none = off(0.0, standard)
    changed = [(s, dataclasses.replace(standard, change=standard.change + s * learned)) for s in (1.0, -1.0)]
    before = np.array([off(s, standard) for s, _ in changed])
    after = np.array([off(s, one) for s, one in changed])
    own, left = rms([before - none]), rms([after - none])
    better = ((before - none) ** 2).mean(axis=(0, 2)) > ((after - none) ** 2).mean(axis=(0, 2))
    gain = (before**2 - after**2).mean(axis=(0, 2))
    drawn = np.random.default_rng(5).integers(0, len(none), (2000, len(none)))
    return {
        "CALSPEC stars": len(none), "made error, standard correction [mmag]": own,
        "made error, survey's correction [mmag]": left, "made error, fall": own / left,
        "CALSPEC stars better": int(better.sum()),
        "gain in mean square [mmag2]": float(gain.mean()), "its error [mmag2]": float(gain[drawn].mean(axis=1).std()),
        "residuals, no made error [mmag]": rms([none]), "residuals, standard correction [mmag]": rms([before]),
        "residuals, survey's correction [mmag]": rms([after]),
    }  # fmt: skip


def instrument(n_field: int, n_star: int) -> Row:
    """An error of 0.5 % of all XP spectra, in the range of the modes, found by fields of a survey in three bands."""
    survey = erring(n_field, n_star)
    started = time.perf_counter()
    found, value, error = solved_modes(survey)
    seconds = time.perf_counter() - started
    made = survey.term.corrected(found)
    x = made.wavelength
    left = (survey.modes - value) @ survey.term.rows(BANDS)[: survey.term.modes]
    row = Row("reference_terms", f"instrument: {n_field} fields of {n_star} stars", len(survey.observations), seconds)
    before, after = rms(survey.error[survey.visible]), rms(left[survey.visible])
    zero, own = found.term("zero_point")
    labels = [label.split() for label in found.block("zero_point").labels]
    true = np.array([survey.zero_point[int(field[1:]), BANDS.index(band)] for field, band in labels])
    row.error, row.error_of = after, "spectra, relative rms"
    row.ratios = {
        "error before [%]": 100 * before, "error after [%]": 100 * after, "fall": before / after,
        "modes pull": rms((value - survey.modes) / error), "zero-points pull": rms((zero - true) / own),
    }  # fmt: skip
    standard = load_correction("standard")
    seen = [np.sqrt((one.left_at(x)[:, survey.visible] ** 2).sum(axis=0)).mean() for one in (standard, made)]
    row.ratios["standard error after / before"] = float(seen[1] / seen[0])
    if (DATA / "calspec").exists():
        row.ratios |= calspec_off(survey, made)
    return row


def instrument_pulls(n: int) -> Row:
    """Modes within their errors."""
    started = time.perf_counter()
    pulls = []
    for seed in range(1, n + 1):
        survey = erring(10, 400, seed=seed, size=0.02, prior=4.0)
        _, value, error = solved_modes(survey)
        pulls.append((value - survey.modes) / error)
    row = Row("reference_terms", f"instrument: pulls of {n} surveys", n, time.perf_counter() - started)
    row.ratios = {"modes pull": rms(pulls), "modes mean pull": float(np.mean(pulls))}
    return row


def run(quick: bool) -> list[Row]:
    rows = [sky_map(), sky_pulls(10 if quick else 40)]
    rows += [instrument(40, 500) if quick else instrument(200, 500), instrument_pulls(3 if quick else 12)]
    if not (DATA / "calspec").exists():
        rows.append(absent("reference_terms", "CALSPEC stars", "no ../shared/data/calspec"))
    return rows


def main() -> None:
    """Leave the figures in results/reference_terms.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference_terms", description="XP's own errors.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    options = parser.parse_args()
    path = RESULTS / f"reference_terms{'_quick' * options.quick}.json"
    print(report(run(options.quick), path, limits()))


if __name__ == "__main__":
    main()
