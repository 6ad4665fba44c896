"""What Castelli & Kurucz and corrected XP spectra are wrong by: templates that build_grid.py puts into grid_ck04.h5.

    python tools/build_label_errors.py DATA

DATA holds calspec/xp_calspec_pairs.parquet and xp/xp_random_1200.fits; literature labels are in
benchmarks/literature_labels.ecsv. Residuals are relative: spectra, corrected, over the models of their labels, minus
one. Of CALSPEC stars these are literature labels, and each star is corrected by what the others teach; of random stars
labels of a population: dwarfs on the main sequence or giants, [M/H] = -0.25 +- 0.3, reddened by a layer of dust. Second
moments about zero, less the noise, are decomposed for warm stars (A, F, G), K stars and M stars apart: TiO and the blue
of cool stars, where models miss 20 %, must not take away what warm stars tell. What errors along labels there are, no
residual of stars with fitted labels shows: derivatives with respect to labels are templates of their own. Their sizes
come from cross-validation: CALSPEC stars, a fold at a time, are fitted with what the others teach; what their labels
are off by beyond the stated error is the size. `systematic_variance` says for which color of stars templates are. It
takes three minutes. Run alone, it prints what left-out stars are off by, and chi2 of random stars.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

import xpjax
from xpjax.core.linalg import interpolation
from xpjax.stellar import LabelFitter, StellarGrid, fit_labels, interpolate_grid, model_spectra, read_grid, redden
from xpjax.stellar.interpolation import Interpolator
from xpjax.stellar.learned import leading, moment, pulls
from xpjax.stellar.priors import EBV_NODES, layer_of_dust
from xpjax.stellar.results import StellarFit
from xpjax.wiggles import read_pairs, train_linear
from xpjax.wiggles.linear.evidence import smoothing
from xpjax.xp import SourceTable

LITERATURE = Path(__file__).parents[1] / "benchmarks" / "literature_labels.ecsv"
PAIRS, RANDOM = "calspec/xp_calspec_pairs.parquet", "xp/xp_random_1200.fits"
RANKS = {"warm": 24, "K": 8, "M": 18}
"""Templates of each kind of stars."""
WARM, COOL, RED = (560.0, 615.0), (615.0, 680.0), ((680.0, 830.0), (735.0, 830.0))
"""Mean wavelengths [nm] of the light of random stars that are learned from."""
FLOOR = 0.006
ALONG = {"A": (8500.0, 4.1, -0.2, 0.02), "G": (5800.0, 4.3, -0.2, 0.05), "dwarf K": (4700.0, 4.5, -0.1, 0.1)}
"""Labels (Teff, log g, [M/H], E(B-V)) at which derivatives are taken."""
LEAST = {"A": (20.0, 0.03, 0.03), "G": (20.0, 0.03, 0.03), "dwarf K": (80.0, 0.25, 0.12)}
"""Sizes along Teff, log g, [M/H] are no smaller: what literature labels are wrong by; CALSPEC has too few K dwarfs."""
FOLDS, LEFT, LEND = 8, 0.01, 10
"""Of the cross-validation; what templates leave in each sample, the floor with which pulls of left-out stars are near
one; so many stars' worth of the common size is in each kind's."""
A_TO_G = {"A": (0, 555), "G": (555, 600)}
"""Mean wavelengths of the light [nm] of stars whose sizes are found."""
NO_DWARFS = ("HD009051", "HD200654", "KF06T2", "KF08T3", "KSI2 CETI")
WHERE = {535.0: ("warm", "A"), 585.0: ("warm", "G"), 600.0: ("warm", "G"), 650.0: ("K", "dwarf K"),
         715.0: ("M", "dwarf K"), 745.0: ("M", "dwarf K"), 780.0: ("M", "dwarf K")}  # fmt: skip
"""Which templates are for stars whose light has these mean wavelengths [nm]; between them linear in variance."""
MORE = {535.0: 1.5, 650.0: 2.0, 715.0: 4.0, 745.0: 6.0, 780.0: 12.0}
"""Factors of all variances there, with which chi2 of random stars is dof: moments are robust, and of hotter stars."""
GRAVITY = (
    (3500, 3700, 4000, 4200, 4800, 5000, 5200, 5800, 6000, 6500, 7500, 10000),
    (4.75, 4.71, 4.65, 4.63, 4.57, 4.55, 4.51, 4.38, 4.34, 4.25, 4.15, 4.10),
    (0.60, 0.90, 1.34, 1.60, 2.50, 2.75, 3.00, 3.38, 3.50, 3.50, 3.50, 3.50),
)
"""Teff [K], and log g of the main sequence and of giants."""


@dataclasses.dataclass(frozen=True)
class Stars:
    """Mean-normalized spectra (n, n_wavelength) with their noise, and E(B-V) with errors (n,); labels of literature."""

    name: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    ebv: tuple[np.ndarray, np.ndarray]
    labels: np.ndarray

    def __getitem__(self, rows: Any) -> Stars:
        """Some of the stars."""
        ebv = (self.ebv[0][rows], self.ebv[1][rows])
        return Stars(self.name[rows], self.flux[rows], self.error[rows], ebv, self.labels[rows])

    def color(self, wavelength: np.ndarray) -> np.ndarray:
        """Mean wavelength [nm] of the light (n,)."""
        return np.asarray(self.flux @ wavelength / self.flux.sum(axis=1))

    def fit(self, model: Interpolator, floor: float = 0.0, **priors: Any) -> StellarFit:
        """Labels with E(B-V) as it is known."""
        known: Any = {"ebv": self.ebv, **priors}
        return fit_labels(self.flux, self.error, model, error_floor=floor, priors=known, spectra=True)


def random_sources(data: Path) -> SourceTable:
    """Random stars, whose errors are as if uncorrelated."""
    table = xpjax.read(data / RANDOM)
    none = np.broadcast_to(np.zeros(1, np.float32), (len(table), table.release.n_pair_total))
    return dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, correlation=none))


def random_stars(table: SourceTable, wavelength: np.ndarray) -> tuple[Stars, np.ndarray]:
    """Corrected spectra of random stars, behind a layer of dust, and their G (n,) [mag]."""
    made = xpjax.spectra(table, wavelength, truncate=True, correction="standard")
    g = xpjax.photometry(table, "GaiaDR3Vega:G", errors=False).magnitude[:, 0]
    mean = made.flux.mean(axis=1, keepdims=True, dtype=float)
    labels = np.full((len(table), 3), np.nan)
    return Stars(made.source_id, made.flux / mean, made.flux_error / mean, layer_of_dust(made.source_id), labels), g


def literature() -> Table:
    """The table of labels of the literature."""
    return Table.read(LITERATURE, format="ascii.ecsv")


def truths(known: Table) -> np.ndarray:
    """Teff, log g and [M/H] (n, 3) of the literature, NaN where it has none."""
    return np.stack([np.ma.filled(np.ma.asarray(known[k], float), np.nan) for k in ("teff", "logg", "mh")], axis=1)


def calspec_stars(data: Path, wavelength: np.ndarray) -> Stars:
    """CALSPEC stars with labels from the literature, each one's XP spectrum corrected by what the others teach."""
    instrument = xpjax.load_instrument()
    pairs = read_pairs(data / PAIRS, instrument)
    after = train_linear(pairs, name="left-out").evidence.after
    known = literature()
    rows = [list(pairs.name).index(star) for star in known["star"]]
    own = instrument.wavelength
    seen = (interpolation(own, np.clip(wavelength, own[0], own[-1])) @ (after[rows] @ smoothing(instrument)).T).T
    flux = np.asarray(seen / seen.mean(axis=1, keepdims=True))
    labels = truths(known)
    ebv = np.asarray(known["ebv"], float)
    return Stars(np.array(known["star"]), flux, 0.002 * np.abs(flux), (ebv, np.full(len(ebv), 0.02)), labels)


def instrumental(wavelength: np.ndarray) -> np.ndarray:
    """Covariance of what the standard correction leaves, seen at XP's resolution."""
    correction = xpjax.load_correction("standard")
    assert correction is not None
    own = correction.wavelength
    left = correction.left @ smoothing(xpjax.load_instrument())
    root = interpolation(own, np.clip(wavelength, own[0], own[-1])) @ left.T
    return np.asarray(root @ root.T)


def population(stars: Stars, model: Interpolator) -> np.ndarray:
    """Labels (n, n_label) of ordinary stars: of dwarfs or giants, what fits better; NaN where nothing does."""
    teff, sequence, giants = (np.array(row, float) for row in GRAVITY)
    first = stars.fit(model, 0.02, mh=(-0.25, 0.3)).labels[:, 0]
    found = []
    for gravity, spread in ((sequence, 0.12), (giants, 0.4)):
        hot, wide = first, np.full(len(first), spread)
        for _ in range(2):
            hot = np.where(np.isfinite(hot), hot, 5000.0)
            logg = np.interp(hot, teff, gravity)
            fit = stars.fit(model, FLOOR, mh=(-0.25, 0.3), logg=(logg, np.where(hot > 6000, 2, 1) * wide))
            hot = fit.labels[:, 0]
        off = (fit.labels[:, 1] - logg) / wide, (fit.labels[:, 2] + 0.25) / 0.3
        # chi2 of samples that are correlated counts too much; of four stars one is a giant.
        cost = fit.chi2 / 3 + off[0] ** 2 + off[1] ** 2 + (4 if gravity is giants else 0)
        labels: np.ndarray = fit.labels.astype(float)
        if gravity is sequence:
            labels[:, 1] = np.minimum(labels[:, 1], np.interp(labels[:, 0], teff, sequence) + 0.1)
        labels[:, 2] = np.minimum(labels[:, 2], 0.15)  # more have too much of it for a population, by models' errors
        found.append((np.where(np.isfinite(cost), cost, np.inf), labels))
    return np.where((found[1][0] < found[0][0])[:, None], found[1][1], found[0][1])


def along(model: Interpolator, labels: tuple[float, ...]) -> np.ndarray:
    """Relative change of the model spectrum (3, n_wavelength) with each label, per unit of it."""
    out = []
    for k, step in enumerate((50.0, 0.1, 0.1)):
        moved = np.array([labels, labels, labels])
        moved[0, k] += step
        moved[1, k] -= step
        up, down, middle = model_spectra(model, moved, float64=True)
        out.append((up - down) / (2 * step) / middle)
    return np.array(out)


@dataclasses.dataclass(frozen=True)
class Lessons:
    """Residuals of CALSPEC stars (n, n_wavelength), and covariances from random stars and of the correction.

    model is that of the grid, reddened, without errors.
    """

    model: Interpolator
    calspec: Stars
    residual: np.ndarray
    random: dict[str, np.ndarray]
    own: np.ndarray

    def templates(self, keep: np.ndarray, sizes: dict[str, Any] = LEAST) -> Interpolator:
        """The model with templates and their variances by color, from the CALSPEC stars that are kept."""
        known = moment(self.residual[keep & (self.calspec.color(np.asarray(self.model.wavelength)) < 600)])
        covariance = {
            "warm": 0.5 * self.own + 0.7 * known + 0.3 * self.random["warm"],
            "K": 0.5 * self.own + self.random["K"],
            "M": 0.5 * self.own + 0.6 * self.random["M, hotter"] + 0.8 * self.random["M, all"],
        }
        parts = {kind: leading(covariance[kind], rank) for kind, rank in RANKS.items()}
        parts |= {kind: along(self.model, at) * np.array(sizes[kind])[:, None] for kind, at in ALONG.items()}
        table = [
            [at, *(MORE.get(at, 1.0) * (kind in kinds) for kind, part in parts.items() for _ in part)]
            for at, kinds in WHERE.items()
        ]
        templates = np.concatenate(list(parts.values()))
        errors = {"systematic": templates, "systematic_variance": np.array(table), "systematic_floor": LEFT}
        return dataclasses.replace(self.model, **errors)  # type: ignore[arg-type]

    def left_out(self, sizes: dict[str, Any] = LEAST) -> tuple[np.ndarray, np.ndarray]:
        """What labels (n, 3) of stars are off by, and their stated errors, each star's fold taking no part."""
        stars = self.calspec
        fold = np.argsort(np.argsort(stars.labels[:, 0])) % FOLDS
        off, error = np.full((2, len(fold), 3), np.nan)
        for k in range(FOLDS):
            fit, out = stars.fit(self.templates(fold != k, sizes)), fold == k
            off[out], error[out] = (fit.labels[:, :3] - stars.labels)[out], fit.error[out, :3]
        return off, error

    def kinds(self) -> dict[str, np.ndarray]:
        """Which CALSPEC stars are A dwarfs, which F and G dwarfs."""
        color = self.calspec.color(np.asarray(self.model.wavelength))
        dwarf = ~np.isin(self.calspec.name, NO_DWARFS)
        return {kind: dwarf & (color >= low) & (color < high) for kind, (low, high) in A_TO_G.items()}


def learn(grid: StellarGrid, random: Stars, calspec: Stars) -> Lessons:
    """What stars differ from the models of their labels by."""
    plain = dataclasses.replace(grid, systematic=None, systematic_variance=None)
    model, wavelength = interpolate_grid(redden(plain, np.array(EBV_NODES))), np.asarray(grid.wavelength)
    labels = calspec.labels.copy()
    unknown = np.isnan(labels[:, 1])
    labels[unknown, 1] = np.interp(labels[unknown, 0], GRAVITY[0], GRAVITY[1])
    made = model_spectra(model, np.column_stack([labels, np.clip(calspec.ebv[0], 0, None)]), float64=True)
    known = np.clip(calspec.flux / made - 1, -0.3, 0.3)
    own = instrumental(wavelength)
    warm = known[calspec.color(wavelength) < 600]
    first = dataclasses.replace(model, systematic=leading(own + moment(warm), 28))
    made = model_spectra(model, population(random, first), float64=True)
    residual = np.clip(random.flux / made - 1, -0.6, 0.6)
    noise = np.minimum((random.error / np.maximum(random.flux, 0.02)) ** 2, 0.05)
    color = random.color(wavelength)

    def of(low: float, high: float) -> np.ndarray:
        rows = (color >= low) & (color < high) & np.isfinite(residual[:, 0])
        rms = np.sqrt(np.mean(residual[rows][:, wavelength > 420] ** 2, axis=1))
        return moment(residual[rows], 1 / (1 + (rms / np.median(rms)) ** 4), noise[rows])

    bins = {"warm": WARM, "K": COOL, "M, hotter": RED[0], "M, all": RED[1]}
    return Lessons(model, calspec, known, {kind: of(*limits) for kind, limits in bins.items()}, own)


def beyond(off: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Variances (n_label,) which, added to stated ones, make pulls one; zero where these are smaller already."""
    low, high = np.zeros(off.shape[1]), np.nanmax(off**2, axis=0)
    for _ in range(50):
        middle = (low + high) / 2
        wide = pulls(off, np.sqrt(error**2 + middle)) > 1
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return low


def sizes_along(lessons: Lessons) -> dict[str, Any]:
    """Sizes of the templates along labels: what labels of left-out stars are off by beyond the stated errors."""
    off, error = lessons.left_out()
    kinds = lessons.kinds()
    dwarfs = np.any(list(kinds.values()), axis=0)
    common, sizes = beyond(off[dwarfs], error[dwarfs]), dict[str, Any](LEAST)
    for kind, rows in kinds.items():
        alone, n = beyond(off[rows], error[rows]), rows.sum()
        # A template that is a derivative adds the square of its size to the variance of its label.
        sizes[kind] = tuple(np.sqrt((n * alone + LEND * common) / (n + LEND) + np.square(LEAST[kind])))
    sizes["dwarf K"] = tuple(np.maximum(sizes["G"], LEAST["dwarf K"]))
    return sizes


def judged(lessons: Lessons, sizes: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """What labels (Teff, log g, [M/H]) of left-out dwarfs are off by, and their pulls; A and F, G apart, and all."""
    off, error = lessons.left_out(sizes)
    kinds = lessons.kinds()
    out = {}
    for kind, rows in {"A": kinds["A"], "F, G": kinds["G"], "all": kinds["A"] | kinds["G"]}.items():
        some, pull = off[rows], off[rows] / error[rows]
        close = np.abs(some[:, 0]) < np.minimum(100, 2 * error[rows, 0])
        figures = {
            "median absolute difference": np.nanmedian(np.abs(some), axis=0),
            "bias": np.nanmedian(some, axis=0),
            "pull, 1.48 MAD": 1.4826 * np.nanmedian(np.abs(pull), axis=0),
            "pull, RMS clipped at 3": np.sqrt(np.nanmean(np.clip(pull, -3, 3) ** 2, axis=0)),
            "stars, fraction with Teff within 100 K and 2 errors": np.array([rows.sum(), close.mean()]),
        }
        out[kind] = {what: [float(f"{x:.3g}") for x in values] for what, values in figures.items()}
    return out


def taught(grid: StellarGrid, data: Path) -> tuple[Lessons, dict[str, Any], dict[str, Any]]:
    """What is learned from all stars; sizes along labels, and what left-out stars tell of them."""
    wavelength = np.asarray(grid.wavelength)
    random, g = random_stars(random_sources(data), wavelength)
    lessons = learn(grid, random[g < 17], calspec_stars(data, wavelength))
    sizes = sizes_along(lessons)
    record = {
        "folds": FOLDS,
        "error_floor": LEFT,
        "sizes along Teff, log g, [M/H]": {kind: [float(f"{x:.3g}") for x in size] for kind, size in sizes.items()},
        **judged(lessons, sizes),
    }
    return lessons, sizes, record


def with_errors(grid: StellarGrid, data: Path) -> StellarGrid:
    """The grid with what it and corrected XP spectra are wrong by, and in its provenance what left-out stars tell."""
    lessons, sizes, record = taught(grid, data)
    provenance = json.dumps({**json.loads(grid.provenance), "systematic_left_out": record})
    return dataclasses.replace(widened(grid, lessons, sizes), provenance=provenance)


def widened(grid: StellarGrid, lessons: Lessons, sizes: dict[str, Any]) -> StellarGrid:
    """The grid with what all stars teach."""
    model = lessons.templates(np.ones(len(lessons.calspec.name), bool), sizes)
    return dataclasses.replace(
        grid, systematic=model.systematic, systematic_variance=model.systematic_variance, systematic_floor=LEFT
    )


def of_the_other_half(grid: StellarGrid, data: Path, sizes: dict[str, Any]) -> np.ndarray:
    """chi2/dof (n,) of random stars with templates that the other half of them taught."""
    table, wavelength = random_sources(data), np.asarray(grid.wavelength)
    (random, g), calspec = random_stars(table, wavelength), calspec_stars(data, wavelength)
    out, half = np.full(len(table), np.nan), np.arange(len(table)) % 2
    for k in (0, 1):
        lessons = learn(grid, random[(g < 17) & (half != k)], calspec)
        fit = LabelFitter(widened(grid, lessons, sizes))(table[np.flatnonzero(half == k)]).fit
        out[half == k] = fit.chi2 / fit.dof
    return out


def main() -> None:
    """Learn from all stars; print how those come out that were left out, and chi2 of the random ones."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    data, grid = parser.parse_args().data, read_grid("ck04")
    lessons, sizes, record = taught(grid, data)
    print(*(f"{key}: {json.dumps(value)}" for key, value in record.items()), sep="\n")
    table = random_sources(data)
    fit = LabelFitter(widened(grid, lessons, sizes))(table).fit
    magnitude = xpjax.photometry(table, "GaiaDR3Vega", errors=False).magnitude
    color, others = magnitude[:, 1] - magnitude[:, 2], of_the_other_half(grid, data, sizes)
    for low, high in itertools.pairwise((-0.5, 0.4, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.6, 4.0)):
        rows = (color >= low) & (color < high)
        per, apart = (np.nanmedian(x[rows]) for x in (fit.chi2 / fit.dof, others))
        edge = np.mean(fit.status[rows] & 1)
        print(f"BP-RP {low}..{high}, {rows.sum()} stars: chi2/dof {per:.2f}, {apart:.2f} apart; at an edge {edge:.2f}")
    print(f"at an edge {np.mean(fit.status & 1):.3f}, not converged {np.mean(fit.status & 8 > 0):.3f}")


if __name__ == "__main__":
    main()
