"""Stellar labels of real stars, and the loop of fit, learn, correct, fit on mocks.

Real stars are fitted as LabelFitter does by default, on ck04, corrected, E(B-V) free with the prior of a layer of dust;
coefficients without correlations are given errors as if uncorrelated. CALSPEC: XP spectra of stars whose labels are in
literature_labels.ecsv, with the errors that the grid says are common to stars and without them. The grid was taught by
these stars and by the random ones: beside them stand the figures of stars left out in folds, as the grid's provenance
has them (`python tools/build_label_errors.py DATA` makes them anew). The loop is closed twice. On stars interpolated in
NextGen, whose true labels are known: wiggles as large as in Ye et al. (2024) are put into their coefficients. And on
real stars, on top of the standard correction: a network learns what half of the random stars differ from their fitted
models by, and is judged by the other half and by CALSPEC, of which it has seen none. Figures of real stars are left in
results/labels_FILE.png. What `learn_errors` is worth is shown on mock stars whose models are wrong in common ways,
and on CALSPEC's, of which the linear correction knows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from benchmarks import harness
from benchmarks.correction import pattern
from benchmarks.harness import DATA, Row, absent
from benchmarks.stellar import BLOCK, NEXTGEN, mad
from tests.stellar.helpers import known_labels, warm_grid, wrong_stars
from tools.build_label_errors import GRAVITY, NO_DWARFS, literature, truths
from xpjax.core.linalg import interpolation
from xpjax.core.release import DR3
from xpjax.core.status import FitStatus
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.stellar.description import LEARNED as LEARNED_FROM
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.grid import StellarGrid, build_grid
from xpjax.stellar.grid_file import read_grid
from xpjax.stellar.interpolation import interpolate_grid, model_spectra
from xpjax.stellar.learned import learn_errors, pulls
from xpjax.stellar.priors import EBV_NODES
from xpjax.stellar.results import StellarFit
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.comparison import Trust, make_residuals
from xpjax.wiggles.epochs import TrainingSettings
from xpjax.wiggles.features import make_features
from xpjax.wiggles.limits import Limits
from xpjax.wiggles.linear.evidence import smoothing
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.wiggles.network import WiggleCorrection
from xpjax.wiggles.spectra import correct_spectra
from xpjax.wiggles.training import train_network
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.wavelengths import constant_grid

XP = DATA / "xp"
SAMPLES = ("xp_random_1200.fits", "xp_bright_corr_20.parquet")
CALSPEC = DATA / "calspec" / "xp_calspec_pairs.parquet"
LEARNED, SNR = ("BP-RP", "G"), 30.0
"""What the network of real stars sees of a star, and the S/N from which it learns of it."""
FLOOR, FLOOR_FAINT = 0.01, 0.0
"""Of the flux, for bright stars that come without errors, and for random ones, whose errors are known."""
COLORS = (-0.5, 0.4, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.6, 4.0)


# --- real stars -------------------------------------------------------------------------------------------------------


def with_errors(table: SourceTable) -> SourceTable:
    """Sources whose coefficients have errors but no correlations, as if these were zero."""
    c = table.coefficients
    if c.correlation is not None:
        return table
    none = np.broadcast_to(np.zeros(1, np.float32), (len(table), c.release.n_pair_total))
    return dataclasses.replace(table, coefficients=dataclasses.replace(c, correlation=none))


def summary(fit: StellarFit) -> dict[str, float]:
    """How many stars bear each bit, chi2 and dflux_per, and the middle of each label."""
    out = {f"{bit.name}": float(np.sum(fit.status & bit > 0)) for bit in FitStatus if bit}
    good = fit.status == 0
    out |= {"inside and converged": float(good.sum()), "dflux_per": float(np.nanmedian(fit.dflux_per[good]))}
    values = {"chi2/dof": fit.chi2 / fit.dof, **dict(zip(fit.names, fit.labels.T, strict=True))}
    for name, column in values.items():
        low, middle, high = np.nanpercentile(column[good], [16, 50, 84])
        out |= {name: float(middle), f"{name} 16 %": float(low), f"{name} 84 %": float(high)}
    return out


def sequences(fit: StellarFit) -> dict[str, float]:
    """How many good stars are, within 2 errors or 0.3 dex, on the main sequence or the giant branch, or between."""
    good = fit.status == 0
    teff, logg = (fit.labels[good, fit.names.index(name)] for name in ("teff", "logg"))
    allowed = np.maximum(2 * fit.error[good, fit.names.index("logg")], 0.3)
    dwarf, giant = (np.interp(teff, GRAVITY[0], gravity) for gravity in GRAVITY[1:])
    near = [np.abs(logg - gravity) <= allowed for gravity in (dwarf, giant)]
    return {
        "on the main sequence, fraction": float(np.mean(near[0])),
        "on the giant branch alone, fraction": float(np.mean(near[1] & ~near[0])),
        "between, fraction": float(np.mean((logg < dwarf) & (logg > giant) & ~near[0] & ~near[1])),
        "above the main sequence's gravity, fraction": float(np.mean((logg > dwarf) & ~near[0])),
        "below the giants' gravity, fraction": float(np.mean((logg < giant) & ~near[1] & ~near[0])),
    }


def figure(
    fit: StellarFit, wavelength: np.ndarray, flux: np.ndarray, color: np.ndarray, path: Path, title: str
) -> None:
    """chi2, residuals by color, and labels."""
    from matplotlib.figure import Figure

    good = fit.status == 0
    page = Figure(figsize=(11, 7.5), layout="constrained")
    page.suptitle(title)
    axes = page.subplots(2, 3)
    per = np.log10((fit.chi2 / fit.dof)[good])
    axes[0, 0].hist(per, 40, color="0.4")
    axes[0, 0].set(xlabel="log10 chi2 / dof", ylabel="stars")
    assert fit.flux is not None
    edges = np.nanquantile(color[good], np.linspace(0, 1, 5))
    for low, high, shade in zip(edges[:-1], edges[1:], ("C0", "C2", "C1", "C3"), strict=True):
        rows = good & (color >= low) & (color <= high)
        middle = 100 * np.nanmedian(flux[rows] - fit.flux[rows], axis=0)
        axes[0, 1].plot(wavelength, middle, color=shade, lw=1, label=f"BP-RP {low:.2f}..{high:.2f}")
    axes[0, 1].axhline(0, color="0.7", lw=0.5)
    axes[0, 1].set(xlabel="wavelength [nm]", ylabel="median of data - model [% of the mean flux]")
    axes[0, 1].legend(fontsize=7)
    teff, logg, mh = (fit.labels[:, fit.names.index(name)] for name in ("teff", "logg", "mh"))
    points = axes[0, 2].scatter(teff[good], logg[good], c=mh[good], s=4, cmap="viridis")
    axes[0, 2].plot(teff[~good], logg[~good], "x", color="0.7", ms=3, label="at an edge, not converged")
    page.colorbar(points, ax=axes[0, 2], label="[M/H]")
    for name, gravity, dashes in zip(("main sequence", "giants"), GRAVITY[1:], ("-", "--"), strict=True):
        axes[0, 2].plot(GRAVITY[0], gravity, dashes, color="k", lw=1, label=name)
    axes[0, 2].invert_xaxis()
    axes[0, 2].invert_yaxis()
    axes[0, 2].set(xlabel="Teff [K]", ylabel="log g")
    axes[0, 2].legend(fontsize=7)
    for axis, values, label in zip(axes[1], (teff, logg, mh), ("Teff [K]", "log g", "[M/H]"), strict=True):
        axis.hist(values[good], 30, color="0.4")
        axis.set(xlabel=label, ylabel="stars")
    page.savefig(path, dpi=110)


def real(path: Path) -> Row:
    """One sample of stars as a user fits them, with chi2 and edges by color, and a figure."""
    table = with_errors(xpjax.read(path))
    fitter = LabelFitter(error_floor=FLOOR_FAINT, options={"spectra": True})
    started = time.perf_counter()
    fit = fitter(table).fit
    row = Row("labels", f"real stars, {path.stem}", len(fit), time.perf_counter() - started)
    made = xpjax.spectra(table, np.asarray(fitter.model.wavelength), truncate=True, correction="standard")
    magnitudes = xpjax.photometry(table, "GAIA_DR3_VEGA").magnitude
    color = magnitudes[:, 1] - magnitudes[:, 2]
    flux = made.flux / made.flux.mean(axis=1, keepdims=True)
    figure(fit, made.wavelength, flux, color, harness.RESULTS / f"labels_{path.stem}.png", path.stem)
    row.ratios = summary(fit)
    edge = fit.status & FitStatus.EDGE > 0
    row.ratios["at an edge, fraction"] = float(np.mean(edge))
    row.ratios |= sequences(fit)
    for low, high in itertools.pairwise(COLORS):
        rows = (color >= low) & (color < high)
        if rows.sum() > 4:
            name = f"BP-RP {low}..{high}, {rows.sum()} stars"
            row.ratios[f"chi2/dof, {name}"] = float(np.nanmedian((fit.chi2 / fit.dof)[rows]))
            row.ratios[f"at an edge, {name}"] = float(np.mean(edge[rows]))
    row.error, row.error_of = row.ratios["NO_CONVERGENCE"] / len(fit), "fraction that has not converged"
    return row


# --- CALSPEC ----------------------------------------------------------------------------------------------------------


def dwarfs(known: Any, truth: np.ndarray) -> np.ndarray:
    """Which stars are A to G dwarfs."""
    return np.asarray(~np.isin(known["star"], NO_DWARFS) & (truth[:, 0] < 10_300))


def calspec(path: Path, grid: StellarGrid) -> Row:
    """Labels of CALSPEC's A to G dwarfs against the literature, with the grid's common errors and without."""
    known = literature()
    pairs = read_pairs(path)
    rows = [list(pairs.name).index(star) for star in known["star"]]
    wavelength, ebv = np.asarray(grid.wavelength), np.asarray(known["ebv"], float)
    flux = xpjax.spectra(pairs.coefficients[rows], wavelength, correction="standard", errors=False).flux
    truth = truths(known)
    dwarf = dwarfs(known, truth)
    model = interpolate_grid(redden(grid, np.array(EBV_NODES)))
    started = time.perf_counter()
    row = Row("labels", "CALSPEC, A..G dwarfs of the literature", int(dwarf.sum()), 0.0)
    for name, common in (("", True), (", without common errors", False)):
        priors = {"ebv": (ebv, 0.02)}
        fit = fit_labels(flux, np.zeros_like(flux), model, error_floor=FLOOR, priors=priors, systematic=common)
        off, error = (fit.labels[:, :3] - truth)[dwarf], fit.error[dwarf, :3]
        for k, label in enumerate(fit.names[:3]):
            row.ratios[f"{label}, median of absolute differences{name}"] = float(np.nanmedian(np.abs(off[:, k])))
            row.ratios[f"{label}, pull{name}"] = float(1.4826 * np.nanmedian(np.abs(off[:, k] / error[:, k])))
        close = np.abs(off[:, 0]) < np.minimum(100, 2 * error[:, 0])
        row.ratios[f"Teff within 100 K and 2 errors, fraction{name}"] = float(np.mean(close))
        if common:
            row.note = ", ".join(
                f"{star} {x[0]:+.0f} K {x[1]:+.2f} {x[2]:+.2f}"
                for star, x in zip(known["star"][dwarf], off, strict=True)
            )
    row.seconds = time.perf_counter() - started
    stated = json.loads(grid.provenance)["systematic_left_out"]
    for kind, what in itertools.product(("A", "F, G", "all"), stated["all"]):
        values = stated[kind][what]
        names = fit.names[:3] if len(values) == 3 else ("number", "fraction")
        row.ratios |= {f"left out, {kind}, {what}: {name}": x for name, x in zip(names, values, strict=True)}
    return row


# --- errors that are learned ------------------------------------------------------------------------------------------


def taught(n: int) -> Row:
    """Mock stars whose models are wrong in common ways, on a grid without errors and on one that others taught."""
    started = time.perf_counter()
    table, truth, _, _ = wrong_stars(n)
    learning, others = np.arange(n) % 2 == 0, np.flatnonzero(np.arange(n) % 2)
    grid = learn_errors(warm_grid(), table[learning], known_labels(n))
    row = Row("labels", "errors learned from mock stars, fits of others", len(others), 0.0)
    for when, model in (("before", warm_grid()), ("after", grid)):
        fit = LabelFitter(model, priors={"ebv": ("ebv_known", "ebv_known_error")})(table[others]).fit
        good = fit.status == 0
        off, error = (fit.labels[:, :3] - truth[others])[good], fit.error[good, :3]
        row.ratios |= {f"{name}, median off {when}": float(x) for name, x in zip(fit.names, np.median(np.abs(off), 0))}
        row.ratios |= {f"{name}, pull {when}": float(x) for name, x in zip(fit.names, pulls(off, error))}
        row.ratios[f"chi2/dof {when}"] = float(np.median(fit.chi2 / fit.dof))
        row.ratios[f"inside and converged {when}, fraction"] = float(good.mean())
    row.seconds = time.perf_counter() - started
    row.error, row.error_of = row.ratios["chi2/dof after"], "chi2/dof of others"
    return row


def taught_by_calspec(path: Path) -> Row:
    """CALSPEC's stars of the literature, a fifth at a time fitted on a grid that the others taught."""
    known, pairs, started = literature(), read_pairs(path), time.perf_counter()
    value = np.asarray(pairs.coefficients)[[list(pairs.name).index(star) for star in known["star"]]]
    error, n = 3e-4 * np.abs(value).max(axis=1, keepdims=True) * np.ones_like(value), len(known)
    full = np.broadcast_to(np.array(DR3.n_basis), (n, len(DR3.n_basis))).copy()
    ids = np.arange(1, n + 1) << 35
    table = with_errors(SourceTable(ids, XPCoefficients(value, error, None, full), np.zeros(n, np.uint32)))
    teff, logg, mh = truths(known).T
    logg = np.where(np.isnan(logg), np.interp(teff, *GRAVITY[:2]), logg)
    labels = {"source_id": ids, "teff": teff, "logg": logg, "mh": mh, "ebv": np.asarray(known["ebv"], float)}
    found = json.loads(learn_errors("ck04", table, labels).provenance)[LEARNED_FROM]
    row = Row("labels", "errors learned from CALSPEC, left-out stars", found["stars"], time.perf_counter() - started)
    for when in ("without", "with"):
        for name in ("teff", "logg", "mh"):
            row.ratios |= {f"{name}, {what} {when}": x for what, x in found[when][name].items()}
    row.error, row.error_of = row.ratios["teff, pull with"], "pull of Teff"
    return row


# --- the loop on simulation -------------------------------------------------------------------------------------------


def loop(nextgen: Path, n: int, epochs: int) -> Row:
    """Wiggles put in; fitted, learned from stars with references, corrected, fitted again: labels of other stars."""
    started = time.perf_counter()
    wide = np.arange(331.0, 1049.5, 1.0)
    at = constant_grid()
    instrument = xpjax.load_instrument()
    solver = np.linalg.pinv(np.asarray(instrument.design(wide).value), rcond=1e-4)
    library = build_grid("nextgen", nextgen, limits=BLOCK, resolution="xp", sampling=wide)
    seen = np.asarray(library.flux) @ solver @ np.asarray(instrument.design(at).value)
    # Mocks are interpolated in this grid: it has no error.
    grid = dataclasses.replace(library, flux=seen / seen.mean(axis=-1, keepdims=True), wavelength=at, doubt=None)
    model, source = interpolate_grid(grid), interpolate_grid(library, components=None)
    rng = np.random.default_rng(3)
    low, high = ([x[k] for x in grid.nodes] for k in (0, -1))
    labels = rng.uniform(low, high, (n, 3))
    ebv = rng.exponential(0.1, n).clip(0, 0.8)
    flux = model_spectra(source, labels, float64=True)
    dust = 10 ** (-0.4 * AV_PER_SFD * ebv[:, None] * extinction_curve(wide))
    g = rng.uniform(9, 15, n)
    color = 2.6 - (labels[:, 0] - 4000) / 1500  # bluer with temperature; what the network sees is synthetic
    value = ((flux + pattern(color, g, ebv, wide)) * dust) @ solver
    value *= 100 * 10 ** (-0.4 * (g[:, None] - 15)) / np.abs(value).max()
    error = 1e-4 * np.abs(value).max(axis=1, keepdims=True) * np.ones_like(value)
    value = value + error * rng.normal(size=value.shape)
    full = np.broadcast_to(np.array(DR3.n_basis), (n, len(DR3.n_basis))).copy()
    table = with_errors(
        SourceTable(
            np.arange(1, n + 1) << 35, XPCoefficients(value, error, None, full), np.zeros(n, np.uint32), {"ebv": ebv}
        )
    )
    learn, test = np.arange(n) < n // 2, np.arange(n) >= n // 2
    reference = labels[learn] + rng.normal(size=(learn.sum(), 3)) * [60, 0.1, 0.05]  # a spectroscopic survey's errors
    first = LabelFitter(model, None, "ebv", error_floor=0.02)(table[learn])
    made = xpjax.spectra(table[learn], at)
    stars = make_features(table[learn], ("BP-RP", "G", "E(B-V)"), ebv="ebv")
    data, counts = make_residuals(
        stars, at, made.flux, model_spectra(model, np.clip(reference, low, high)), flux_error=made.flux_error,
        fitted=dict(zip(grid.names, first.fit.labels.T, strict=True)),
        reference=dict(zip(grid.names, reference.T, strict=True)), trust=Trust(),
    )  # fmt: skip
    correction = train_network(data, TrainingSettings(epochs=epochs, batch=256))
    how = NetworkCorrection(correction, ebv="ebv", limits=Limits(None, None, None))
    fits = LabelFitter(model, how, "ebv", error_floor=0.02)(table[test])
    assert fits.before is not None
    row = Row("labels", "loop of fit, learn, correct, fit", n, time.perf_counter() - started)
    row.ratios = {"learned from": float(len(data)), "left out": float(learn.sum() - len(data))}
    row.ratios |= closed(fits.before, fits.fit, labels[test])
    row.error, row.error_of = row.ratios["bias of cool stars after, teff"], "bias of cool stars in Teff [K]"
    row.note = f"left out: {counts}"
    return row


def real_loop(path: Path, pairs_path: Path, epochs: int) -> Row:
    """The same on real stars after the standard correction: labels, spectra and chi2 of stars that took no part."""
    started = time.perf_counter()
    table = with_errors(xpjax.read(path))
    fitter = LabelFitter(options={"spectra": True})
    at = np.asarray(fitter.model.wavelength, float)
    learn, test = (np.arange(len(table)) % 2 == k for k in (0, 1))
    first = fitter(table[learn]).fit
    assert first.flux is not None
    made = xpjax.spectra(table[learn], at, truncate=True, correction="standard")
    good = np.flatnonzero(first.status == 0)
    stars = make_features(table[learn][good], LEARNED, truncate=True, correction="standard")
    data, counts = make_residuals(
        stars, at, made.flux[good], first.flux[good], flux_error=made.flux_error[good], space="observed",
        trust=Trust(snr=SNR, differences={}),
    )  # fmt: skip
    network = train_network(data, TrainingSettings(epochs=epochs, batch=64))
    how = NetworkCorrection(network, limits=Limits(None, None, None))
    fits = dataclasses.replace(fitter, correction=how)(table[test])
    before, after = fits.before, fits.fit
    assert before is not None
    row = Row("labels", "loop on real stars, standard correction before", len(table), 0.0)
    row.ratios = {"learned from": float(len(data))}
    magnitudes = xpjax.photometry(table[test], "GAIA_DR3_VEGA", errors=False).magnitude
    for name, rows in (("G < 15", magnitudes[:, 0] < 15), ("all", np.ones(len(magnitudes), bool))):
        for when, fit in (("before", before), ("after", after)):
            row.ratios[f"chi2/dof {when}, {name}, {rows.sum()} others"] = float(
                np.nanmedian((fit.chi2 / fit.dof)[rows])
            )
            row.ratios[f"at an edge {when}, {name}"] = float(np.mean(fit.status[rows] & FitStatus.EDGE > 0))
    row.ratios |= independent(pairs_path, network, fitter)
    row.error, row.error_of = (
        row.ratios["CALSPEC, Teff after over before"],
        "of errors of Teff after over before, CALSPEC",
    )
    row.seconds, row.note = time.perf_counter() - started, f"left out: {counts}"
    return row


def independent(path: Path, network: WiggleCorrection, fitter: LabelFitter) -> dict[str, float]:
    """CALSPEC's stars: labels against the literature and spectra against its own, without a network and with it."""
    pairs, at = read_pairs(path), np.asarray(fitter.model.wavelength, float)
    # Of stars as bright as these all coefficients are relevant.
    stars = make_features(pairs.coefficients, LEARNED, correction="standard")
    stars = dataclasses.replace(stars, truncate=True)
    plain = xpjax.spectra(pairs.coefficients, at, correction="standard", errors=False)
    plain = dataclasses.replace(plain, meta={**plain.meta, "truncate": True})
    networked = correct_spectra(plain, network, stars, limits=Limits(None, None, None))
    known = literature()
    rows = [list(pairs.name).index(star) for star in known["star"]]
    truth = truths(known)
    own = pairs.instrument.wavelength
    reference = (pairs.reference @ smoothing(pairs.instrument)) @ interpolation(own, np.clip(at, own[0], own[-1])).T
    inner, found = (at > 400) & (at < 990), {}
    out: dict[str, float] = {}
    for when, made in (("before", plain), ("after", networked)):
        ratio = (made.flux / reference)[:, inner]
        ratio = ratio[np.isfinite(ratio).all(axis=1)]
        ratio /= np.median(ratio, axis=1, keepdims=True)
        out[f"CALSPEC, spectra, median RMS {when} [%]"] = 100 * float(np.median(np.std(ratio, axis=1)))
        priors, flux = {"ebv": (np.asarray(known["ebv"], float), 0.02)}, made.flux[rows]
        fit = fit_labels(flux, np.zeros_like(flux), fitter.model, error_floor=FLOOR, priors=priors)
        found[when] = np.nanmedian(np.abs(fit.labels[:, :3] - truth)[dwarfs(known, truth)], axis=0)
        for label, off in zip(("Teff", "log g", "[M/H]"), found[when], strict=True):
            out[f"CALSPEC, {label}, median of absolute differences {when}"] = float(off)
    out["CALSPEC, Teff after over before"] = float(found["after"][0] / found["before"][0])
    return out


def closed(before: StellarFit, after: StellarFit, truth: np.ndarray) -> dict[str, float]:
    """Biases of cool stars and RMS of each label, before and after, and their ratio."""
    cool, out = truth[:, 0] < 5500, {}
    for k, name in enumerate(after.names):
        off = [(fit.labels - truth)[:, k] for fit in (before, after)]
        bias = [float(np.nanmedian(x[cool])) for x in off]
        rms = [float(np.sqrt(np.nanmean(x**2))) for x in off]
        for when, *figures in zip(("before", "after"), bias, rms, map(mad, off), strict=True):
            for what, figure in zip(("bias of cool stars", "RMS", "1.48 MAD"), figures, strict=True):
                out[f"{what} {when}, {name}"] = float(figure)
        out[f"bias after over before, {name}"] = abs(bias[1] / bias[0])
        out[f"RMS after over before, {name}"] = rms[1] / rms[0]
    return out


def run(quick: bool) -> list[Row]:
    """A quick run: a shorter loop on fewer mocks."""
    rows = [taught(80 if quick else 400)]
    if CALSPEC.exists():
        rows += [taught_by_calspec(CALSPEC)]
        rows += [real(XP / name) for name in SAMPLES] + [calspec(CALSPEC, read_grid("ck04"))]
        rows.append(real_loop(XP / SAMPLES[0], CALSPEC, 100 if quick else 1000))
    else:
        rows.append(absent("labels", "real stars", f"no {CALSPEC}"))
    if not NEXTGEN.exists():
        return [*rows, absent("labels", "loop of fit, learn, correct, fit", f"no {NEXTGEN}")]
    return [*rows, loop(NEXTGEN, *((2000, 30) if quick else (8000, 150)))]
