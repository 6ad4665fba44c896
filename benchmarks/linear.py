"""The linear correction on real stars: pairs left out, an independent truth, stars without reference, harm, cost.

pairs          CALSPEC pairs, each left out: `Evidence.table`, and a figure in results/linear.png.
SNfactory      13 stars that CALSPEC and SNfactory share, left out of the training: XP against SNfactory.
subdwarfs      the median pattern of hot subdwarfs about smooth curves, with the shipped correction.
random stars   chi2 against Castelli-Kurucz 2004, G < 15, beside uncorrected spectra at the same resolution; and how far
               magnitudes of 1,200 random stars move.
dust           pairs behind E(B-V) 0.1, 0.3, 0.6 and 1, corrected by what the others teach.
cool stars     the pairs with BP-RP > 2, and spectra like those of carbon stars and quasars: bounded, flagged.
S-PLUS         photometry of a field against XP's, by color, and what the correction predicts.
cost           photometry, errors and spectra with the correction and without, in turn.

Each figure has one beside it that must fail: the corrections of other stars.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xpjax
from benchmarks import harness
from benchmarks.harness import DATA, Row, absent
from xpjax.core.status import Status
from xpjax.wiggles.linear.domain import carbon, make_domain, quasar
from xpjax.wiggles.linear.evidence import ALIASED, SYSTEMS, Evidence, robust
from xpjax.wiggles.linear.figures import figure
from xpjax.wiggles.linear.fit import Population, Training, behind_dust, dimming, multiplied, scaled_reference
from xpjax.wiggles.linear.pairs import Pairs, on_grid, read_pairs
from xpjax.wiggles.linear.train import STEPS, train_linear
from xpjax.xp import simulate

PAIRS = DATA / "calspec" / "xp_calspec_pairs.parquet"
SNFACTORY = DATA / "snfactory" / "snfactory_dev.parquet"
RANDOM, BLUE = DATA / "xp" / "xp_random_1200.fits", DATA / "xp" / "xp_blue_1800.fits"
SPLUS = DATA / "splus" / "stripe82_0001_400.fits"
CK04 = DATA / "grids" / "ck04"
NINE = tuple(band for band in SYSTEMS["JPLUS"] if band not in ALIASED)
BALMER, BALMER_WIDTH = (410.3, 434.2, 486.3, 656.5), 16.0
"""Lines of hydrogen [nm] in vacuum, and what is left out on either side: lines are no wiggles."""
LARGE = 0.15
"""A change of a magnitude that wants a flag [mag]."""
BRIGHT = 16.0
"""Random stars brighter than this G are the population."""


def population(model: xpjax.Instrument) -> Population:
    """Random stars, as `tools/build_correction.py` takes them."""
    value = xpjax.read(RANDOM, dtype=np.float64).coefficients.value
    g = xpjax.photometry(value, "GaiaDR3Vega:G", errors=False, float64=True).magnitude[:, 0]
    return Population.of(value[g < BRIGHT], model)


def pairs(data: Pairs, normal: Population, quick: bool) -> Row:
    """Every pair left out."""
    started = time.perf_counter()
    made = train_linear(data, normal, sizes=() if quick else range(10, len(data), 10))
    row = Row("linear", "pairs, left out", len(data), time.perf_counter() - started)
    row.note = "\n".join(made.evidence.table(made.correction))
    figure(made.correction, made.evidence, data.instrument, made.curve).savefig(harness.RESULTS / "linear.png", dpi=110)
    before, after = made.evidence.spectra()
    row.error, row.error_of = 100 * float(np.median(after)), "median RMS at XP's resolution, 400..990 nm [%]"
    shuffled = dataclasses.replace(made.evidence, after=_shuffled(made.evidence))
    row.ratios = {
        "as they stand": 100 * float(np.median(before)),
        "with other stars' corrections": 100 * float(np.median(shuffled.spectra()[1])),
        "336..400 nm": 100 * float(np.median(made.evidence.spectra(336, 400)[1])),
        **{f"{n} pairs": 100 * value for n, value in made.curve.items()},
    }
    judged = made.evidence[made.evidence.bp_rp < 2]
    for system, bands in SYSTEMS.items():
        chosen = [b for b in bands if b not in ALIASED]
        scatter = [1e3 * float(np.sqrt((robust(d) ** 2).mean())) for d in judged.magnitudes(system, chosen)]
        pull = float(robust(judged.pulls(made.correction, system, chosen).ravel()))
        row.ratios |= {f"{system} mmag before": scatter[0], f"{system} mmag": scatter[1], f"{system} pull": pull}
    return row


def _shuffled(evidence: Evidence) -> np.ndarray:
    """Spectra with the relative changes of other stars."""
    return np.asarray(evidence.before * np.roll(evidence.after / evidence.before, 17, axis=0))


def vacuum(air: np.ndarray) -> np.ndarray:
    """Wavelengths in vacuum [nm] of those in air [Angstrom] (Morton 2000, ApJS 130, 403; IAU standard)."""
    s = (1e4 / air) ** 2
    return np.asarray(0.1 * air * (1 + 8.34254e-5 + 2.406147e-2 / (130 - s) + 1.5998e-4 / (38.9 - s)))


def _trained(data: Pairs, normal: Population) -> tuple[Training, np.ndarray]:
    """A training of these pairs, weighed by what is left of them, and their distances."""
    training = Training(data, normal)
    distance = np.asarray(make_domain(data, normal).distance(data.coefficients, data.instrument.release))
    for _ in range(STEPS):
        training.weigh(training.left_out(), distance)
    return training, distance


def snfactory(data: Pairs, normal: Population) -> Row:
    """XP of the stars that SNfactory saw too, corrected by what the other pairs teach."""
    import pyarrow.parquet as pq

    stars = pq.read_table(SNFACTORY).to_pylist()
    names = {word.removeprefix("pair:"): s for s in stars for word in s["xp_in"].split(";") if word.startswith("pair:")}
    kept = ~np.isin(data.name, list(names))
    change = _trained(data[kept], normal)[0].fit()
    grid = data.instrument.wavelength
    seen = [names[n] for n in data.name[~kept]]
    true = np.stack([on_grid(vacuum(np.asarray(s["wave"], float)), np.asarray(s["flux"], float), grid) for s in seen])
    own = dataclasses.replace(data[~kept], reference=true)
    after = own.coefficients @ (data.instrument.default_design + change)
    evidence = Evidence.of(own, after, np.zeros(len(own)))
    row = Row("linear", "SNfactory, never trained on", len(own), float("nan"))
    for resolution in ("xp", "full"):
        found = evidence.spectra(400, 900, resolution)
        row.ratios |= {
            f"{resolution} before": 100 * float(np.median(found[0])),
            resolution: 100 * float(np.median(found[1])),
        }
    ratio = [100 * float(np.median(r)) for r in evidence.ratios(400, 900)]
    row.ratios |= {"ratio before": ratio[0], "ratio": ratio[1]}
    row.ratios["with other stars' corrections"] = 100 * float(
        np.median(dataclasses.replace(evidence, after=_shuffled(evidence)).spectra(400, 900)[1])
    )
    row.error, row.error_of = row.ratios["xp"], "median RMS at XP's resolution, 400..900 nm [%]"
    row.note = ", ".join(data.name[~kept])
    return row


def subdwarfs() -> Row:
    """The median pattern of hot subdwarfs beside their Balmer lines: spectra over smooth curves of their own."""
    value = xpjax.read(BLUE, dtype=np.float64).coefficients.value
    found = xpjax.photometry(value, "GaiaDR3Vega", errors=False, float64=True).magnitude
    hot = np.asarray(value)[(found[:, 1] - found[:, 2] < -0.4) & (found[:, 0] < 16)]
    row = Row("linear", "median pattern of hot subdwarfs, beside Balmer lines", len(hot), float("nan"))
    grid = np.arange(400.0, 900.1, 2.0)
    grid = grid[np.all([np.abs(grid - line) > BALMER_WIDTH for line in BALMER], axis=0)]
    smooth = np.polynomial.chebyshev.chebvander((grid - 650) / 250, 5)
    for resolution in ("full", "xp"):
        for name in ("none", "standard"):
            options = {"errors": False, "correction": name, "resolution": resolution, "float64": True}
            flux = xpjax.spectra(hot, grid, **options).flux
            logarithm = np.log(flux[(flux > 0).all(axis=1)])
            pattern = np.median(logarithm - logarithm @ np.linalg.pinv(smooth.T) @ smooth.T, axis=0)
            row.ratios[f"{resolution}, {name}"] = 100 * float(np.sqrt((pattern**2).mean()))
    row.error, row.error_of = row.ratios["full, standard"], "RMS of the median pattern [%]"
    return row


def chi2() -> Row:
    """Random stars against model spectra, with errors of 1 % of the flux: their correlations are unknown."""
    from benchmarks.labels import FLOOR
    from xpjax.stellar.dust import redden
    from xpjax.stellar.fit import fit_labels
    from xpjax.stellar.grid import build_grid
    from xpjax.stellar.interpolation import interpolate_grid

    table = xpjax.read(RANDOM)
    g = xpjax.photometry(table, "GaiaDR3Vega:G", errors=False).magnitude[:, 0]
    table = table[np.flatnonzero(g < 15)]
    grid = build_grid("ck04", CK04, resolution="xp")
    model = interpolate_grid(redden(grid, np.linspace(0, 1, 11)))
    row = Row("linear", "chi2/dof against CK04, G < 15", len(table), float("nan"))
    found = {}
    for name, correction in (("before", "none"), ("after", "standard")):
        made = xpjax.spectra(table, np.asarray(grid.wavelength), correction=correction, resolution="xp")
        fit = fit_labels(made.flux, np.zeros_like(made.flux), model, error_floor=FLOOR)
        found[name] = fit.labels[:, 0], fit.chi2 / fit.dof, fit.status
    teff = found["after"][0]
    for low, high in ((4500, 5500), (5500, 6500), (6500, 8000)):
        chosen = (teff >= low) & (teff < high)
        for name, (_, per, _) in found.items():
            row.ratios[f"{low}..{high} K {name} ({chosen.sum()})"] = float(np.nanmedian(per[chosen]))
    both = (teff >= 4500) & (teff < 6500)
    row.ratios["4500..6500 K before over after"] = float(
        np.nanmedian(found["before"][1][both]) / np.nanmedian(found["after"][1][both])
    )
    row.ratios |= {f"at an edge {name}": float(np.mean((s & 1) > 0)) for name, (_, _, s) in found.items()}
    return row


def moved() -> Row:
    """How far magnitudes of random stars move, and which of those that move far are flagged."""
    table = xpjax.read(RANDOM)
    row = Row("linear", f"magnitudes moved by more than {LARGE} mag", len(table), float("nan"))
    g = xpjax.photometry(table, "GaiaDR3Vega:G", errors=False).magnitude[:, 0]
    flagged_bits = np.uint32(
        Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED | Status.CORRECTION_LARGE | Status.NONPOSITIVE_FLUX
    )
    any_far, any_flag = np.zeros(len(table), bool), np.zeros(len(table), bool)
    for system, bands in SYSTEMS.items():
        curves = xpjax.load_passbands(system)[list(bands)]
        raw, found = (xpjax.photometry(table, curves, errors=False, correction=c) for c in (None, "standard"))
        with np.errstate(invalid="ignore"):
            far = (np.abs(found.magnitude - raw.magnitude) > LARGE + 1e-5) | (
                np.isfinite(raw.magnitude) != np.isfinite(found.magnitude)
            )
        flagged = (found.status & flagged_bits) != 0
        row.ratios[f"{system} far"] = float(far.any(axis=1).sum())
        row.ratios[f"{system} far, not flagged"] = float((far.any(axis=1) & ~flagged).sum())
        row.ratios[f"{system} flagged"] = float(flagged.sum())
        row.ratios[f"{system} largest"] = float(np.nanmax(np.abs(found.magnitude - raw.magnitude)))
        any_far |= far.any(axis=1)
        any_flag |= flagged
    for low, high in ((0, 15), (15, 16), (16, 17), (17, 19)):
        chosen = (g >= low) & (g < high)
        row.ratios |= {f"G {low}..{high}": float(chosen.sum()), f"G {low}..{high} far": float((chosen & any_far).sum())}
        row.ratios[f"G {low}..{high} flagged"] = float((chosen & any_flag).sum())
    row.note = "far: " + ", ".join(str(i) for i in table.source_id[any_far][:400])
    return row


def dust(data: Pairs, normal: Population) -> Row:
    """Pairs behind dust, XP and reference alike, corrected by what the other pairs teach."""
    training, distance = _trained(data, normal)
    fold, model = np.arange(len(data)) % 11, data.instrument
    changes = [training.fit(fold != k) for k in range(11)]
    row = Row("linear", "pairs behind dust, left out: J-PLUS of nine bands, PS1 [mmag]", len(data), float("nan"))
    for ebv in (0.0, 0.1, 0.3, 0.6, 1.0):
        coefficients = behind_dust(data.coefficients, ebv, normal, model) if ebv else data.coefficients
        reference = scaled_reference(data) * dimming(model.wavelength, ebv)
        own = dataclasses.replace(data, coefficients=coefficients, reference=reference)
        after = np.stack([c @ (model.default_design + changes[k]) for c, k in zip(coefficients, fold, strict=True)])
        evidence = Evidence.of(own, after, distance)
        evidence = evidence[evidence.bp_rp < 2 + 1.3 * ebv]
        for system, bands in (("JPLUS", NINE), ("PanSTARRS1", SYSTEMS["PanSTARRS1"])):
            both = [1e3 * float(np.sqrt((robust(d) ** 2).mean())) for d in evidence.magnitudes(system, bands)]
            row.ratios |= {f"E(B-V) {ebv:g} {system} before": both[0], f"E(B-V) {ebv:g} {system}": both[1]}
    return row


def cool(data: Pairs, normal: Population) -> Row:
    """M dwarfs among the pairs, and spectra like those of carbon stars and quasars: how far they move, and flags."""
    model = data.instrument
    _, bp, rp = xpjax.photometry(data.coefficients, "GaiaDR3Vega", errors=False, float64=True).magnitude.T
    late = bp - rp > 2
    ordinary = data.coefficients[~late]
    row = Row("linear", "cool and odd stars", int(late.sum()), float("nan"))
    bands = f"JPLUS:{','.join(SYSTEMS['JPLUS'])}"
    kinds = {
        "M dwarfs": data.coefficients[late],
        "carbon-like": multiplied(ordinary, carbon, normal, model),
        "quasar-like": multiplied(ordinary, quasar(2.0), normal, model),
        "E(B-V) = 3": behind_dust(ordinary, 3.0, normal, model),
        "ordinary": ordinary,
    }
    for name, value in kinds.items():
        raw, found = (
            xpjax.photometry(value, bands, errors=False, correction=c, float64=True) for c in (None, "standard")
        )
        with np.errstate(invalid="ignore"):
            row.ratios[f"{name}: largest change [mag]"] = float(np.nanmax(np.abs(found.magnitude - raw.magnitude)))
        row.ratios[f"{name}: flagged"] = float(np.mean((found.status & Status.OUTSIDE_TRAINING) != 0))
    return row


def splus() -> Row:
    """S-PLUS magnitudes minus XP's by g-i, and the change that the correction makes of random stars of that color.

    Both relative to stars of g-i 0.5..0.7; XP minus S-PLUS would be zero of perfect spectra and passbands.
    """
    from astropy.io import fits

    t = fits.getdata(SPLUS)
    row = Row("linear", "S-PLUS: observed minus XP by g-i [mmag], and the change of random stars", len(t), float("nan"))
    bands = {"J0430": "F430", "J0410": "F410", "J0395": "F395", "J0515": "F515", "J0660": "F660", "J0861": "F861"}
    chosen = {band: other for band, other in bands.items() if f"SPLUS_{other}_mod" in t.names}
    table = xpjax.read(RANDOM)
    names = f"JPLUS:{','.join([*chosen, 'gJPLUS', 'iJPLUS'])}"
    raw, found = (xpjax.photometry(table, names, errors=False, correction=c) for c in (None, "standard"))
    g_bright = xpjax.photometry(table, "GaiaDR3Vega:G", errors=False).magnitude[:, 0] < 16
    random_color = np.where(g_bright, raw["gJPLUS"] - raw["iJPLUS"], np.nan)
    color = t["SPLUS_G_mod"] - t["SPLUS_I_mod"]
    edges = ((0.5, 0.7), (0.7, 0.9), (0.9, 1.1), (1.1, 1.4), (1.4, 1.8), (1.8, 2.3))
    for band, other in chosen.items():
        seen = t[f"SPLUS_{other}"] - t[f"SPLUS_{other}_mod"]
        change = found[band] - raw[band]
        ratios = [
            (1e3 * np.nanmedian(x[(c >= low) & (c < high)])) for x, c in ((seen, color), (change, random_color))
            for low, high in edges
        ]  # fmt: skip
        n = len(edges)
        for k, (low, high) in enumerate(edges[1:], 1):
            row.ratios[f"{other} {low:g}..{high:g} seen"] = float(ratios[k] - ratios[0])
            row.ratios[f"{other} {low:g}..{high:g} predicted"] = float(ratios[n + k] - ratios[n])
    return row


def cost(quick: bool) -> Row:
    """Whole calls with the correction and without, in turn: the median of their ratios."""
    from benchmarks.photometry import tile

    n, n_error = (200_000, 20_000) if quick else (2_000_000, 100_000)
    base = simulate.simulate_sources(n_error, seed=1)
    plain = tile(base, n)
    systems = {c: xpjax.photometry(base[:10], "JPLUS", correction=c).system for c in (None, "standard")}
    row = Row("linear", "cost of the correction: time with over without", n, float("nan"))
    cases: dict[str, Callable[[Any], Any]] = {
        "magnitudes": lambda c: xpjax.photometry(plain, systems[c], errors=False),
        "with errors": lambda c: xpjax.photometry(base, systems[c]),
        "spectra": lambda c: xpjax.spectra(base, errors=False, correction=c, resolution="full"),
    }
    for name, call in cases.items():
        times: dict[Any, list[float]] = {None: [], "standard": []}
        for _ in range(8 if quick else 12):
            for c, kept in times.items():
                started = time.perf_counter()
                call(c)
                kept.append(time.perf_counter() - started)
        row.ratios[name] = float(np.min(times["standard"][1:]) / np.min(times[None][1:]))
    return row


def run(quick: bool) -> list[Row]:
    """A quick run: no learning curve, small sizes."""
    rows = [cost(quick)]
    if not all(path.exists() for path in (PAIRS, SNFACTORY, RANDOM, BLUE, CK04)):
        return [*rows, absent("linear", "real stars", f"no {DATA}")]
    data = read_pairs(PAIRS)
    normal = population(data.instrument)
    rows += [pairs(data, normal, quick), snfactory(data, normal), subdwarfs(), chi2(), moved(), dust(data, normal)]
    return [*rows, cool(data, normal), splus()]
