"""From spectra to XP: what comes back of model spectra, by spectral type, and how real stars compare.

Castelli & Kurucz models (3500..10000 K) are observed, and their spectra and magnitudes compared with the models' own:
spectra seen with XP's line spread on 400..900 nm, magnitudes by direct integration over the same curves. CALSPEC stars
are observed from their reference spectra, without and with XP's systematic errors, and their internal spectra compared
with the real ones. `python -m benchmarks.observe` prints the table of models as Markdown.
"""

from __future__ import annotations

import time

import numpy as np

import xpjax
from benchmarks.harness import DATA, Row, absent
from xpjax.stellar.libraries import read_library
from xpjax.wiggles import read_pairs
from xpjax.xp import observation_matrix

GRIDS, PAIRS = DATA / "grids" / "ck04", DATA / "calspec" / "xp_calspec_pairs.parquet"
TYPES = {"A": (7500, 10000), "F": (6000, 7400), "G": (5250, 5900), "K": (4000, 5200), "M": (3500, 3900)}
"""Effective temperatures [K] of spectral types."""
AT = np.arange(400.0, 900.1, 1.0)
SYSTEMS = {"J-PLUS": "JPLUS", "PS1": "panstarrs:g,r,i,z,y", "SDSS": "sdss2010:u,g,r,i,z"}


def models() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelengths (m,), spectra (n, m) and labels (n, 3): dwarfs, and giants below 6000 K, [M/H] -2, -1, 0."""
    labels, flux = [], []
    for part in read_library("ck04", GRIDS, limits={"teff": (3500, 10000), "mh": (-2, 0, 1)}):
        teff, logg = part.labels[:, 0], part.labels[:, 1]
        rows = (logg == 4.5) | ((logg == 2.5) & (teff < 6000))
        inside = (part.wavelength > 250) & (part.wavelength < 1300)
        labels.append(part.labels[rows])
        flux.append(part.flux[rows][:, inside])
        x = part.wavelength[inside]
    whole = np.concatenate(flux)
    return x, 1e-17 * whole / whole.mean(axis=1, keepdims=True), np.concatenate(labels)


def spectra_off(x: np.ndarray, flux: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Relative differences (n, m) on AT of spectra of coefficients and spectra, both seen with XP's line spread."""
    from xpjax.core.linalg import interpolation

    model, fine = xpjax.load_instrument(), np.arange(330.0, 1050.1, 0.1)
    seen = model.smoothed_design(AT)
    true = np.asarray((interpolation(x, fine) @ flux.T).T) @ model.line_spread(AT, fine).T
    return np.asarray(value @ (np.asarray(seen.value) * float(seen.scale)) / true - 1)


def bands_off(x: np.ndarray, flux: np.ndarray, value: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Magnitudes of the coefficients less those of the spectra [mmag] (n,) by band."""
    from xpjax.core.linalg import interpolation

    fine = np.arange(x[0], x[-1], 0.1)
    dense = np.asarray((interpolation(x, fine) @ flux.T).T)
    bands = xpjax.load_passbands(SYSTEMS[name])
    system = xpjax.passband_system(bands)
    made = value @ (np.asarray(system.projection, float) * np.asarray(system.scale))
    return {b.name: -2500 * np.log10(made[:, k] / b.mean_flux(fine, dense)) for k, b in enumerate(bands)}


def measured() -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, dict[str, np.ndarray]], float, float]:
    """Rows of each type, spectra_off, bands_off by system, seconds of the matrix, and seconds of all models."""
    x, flux, labels = models()
    started = time.perf_counter()
    observation_matrix(x)
    made = time.perf_counter()
    value = xpjax.observe(x, flux).coefficients.value
    observed = time.perf_counter() - made
    rows = {name: (labels[:, 0] >= low) & (labels[:, 0] <= high) for name, (low, high) in TYPES.items()}
    bands = {name: bands_off(x, flux, value, name) for name in SYSTEMS}
    return rows, spectra_off(x, flux, value), bands, made - started, observed


def real_stars() -> list[Row]:
    """Internal spectra of CALSPEC stars, observed from their references, against the real ones."""
    pairs, model = read_pairs(PAIRS), xpjax.load_instrument()
    x, spectra = model.wavelength, []
    for reference in pairs.reference:
        good = np.isfinite(reference)
        spectra.append(np.interp(x, x[good], reference[good]))
    flux, inside = np.stack(spectra), (x > 400) & (x < 900)
    flux *= ((pairs.coefficients @ model.default_design)[:, inside].mean(1) / flux[:, inside].mean(1))[:, None]
    cool = np.isin([str(kind)[:1] for kind in pairs.kind], ["F", "G", "K"])
    out, u = [], np.arange(0.0, 60.0, 0.25)
    for correction in ("none", "standard"):
        started = time.perf_counter()
        value = xpjax.observe(x, flux, correction=correction, errors=False, extend=True).coefficients.value
        for kind, chosen in (("F, G, K", cool), ("hot", ~cool)):
            row = Row("observe", f"CALSPEC {kind}, correction {correction}", int(chosen.sum()), 0.0)
            row.seconds = time.perf_counter() - started
            for columns, xp in zip(model.release.slices, model.release.xp, strict=True):
                bases = model.internal["hermite"][xp](u)
                true, seen = (c[chosen][:, columns] @ bases for c in (pairs.coefficients, value))
                off = np.sqrt(np.mean(((seen - true) / true.max(axis=1, keepdims=True)) ** 2, axis=1))
                row.ratios[f"{xp.upper()} RMS of the peak [%]"] = 100 * float(np.sqrt(np.mean(off**2)))
                row.ratios[f"{xp.upper()} median [%]"] = 100 * float(np.median(off))
            out.append(row)
    return out


def run(quick: bool = False) -> list[Row]:
    """Models by spectral type, and real stars."""
    if not GRIDS.is_dir():
        return [absent("observe", "models", f"no {GRIDS}")]
    rows, off, bands, matrix, observed = measured()
    out = [Row("observe", "the matrix", 1, matrix), Row("observe", "all models", len(off), observed)]
    for name, chosen in rows.items():
        row = Row("observe", f"type {name}", int(chosen.sum()), observed)
        row.error = float(np.sqrt(np.mean(off[chosen] ** 2)))
        row.error_of = "RMS of spectra at XP's resolution, 400..900 nm"
        for system, values in bands.items():
            row.ratios |= {f"{system} {band} [mmag]": float(np.abs(v[chosen]).max()) for band, v in values.items()}
        out.append(row)
    return out + (real_stars() if PAIRS.is_file() else [absent("observe", "CALSPEC", f"no {PAIRS}")])


def table() -> str:
    """The figures of the models as a Markdown table: a row for each band, the worst model of each type."""
    rows, off, bands, _, _ = measured()
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "--:|" * len(rows)]

    def line(name: str, values: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(values) + " |")

    red = AT > 440
    rms = [np.sqrt(np.mean(off[chosen] ** 2, axis=1)) for chosen in rows.values()]
    line("spectrum, 400..900 nm, RMS [%]: median", [f"{100 * np.median(r):.2f}" for r in rms])
    line("the same: largest", [f"{100 * r.max():.2f}" for r in rms])
    far = [np.sqrt(np.mean(off[chosen][:, red] ** 2, axis=1)) for chosen in rows.values()]
    line("440..900 nm: median", [f"{100 * np.median(r):.2f}" for r in far])
    for system, values in bands.items():
        for band, v in values.items():
            line(f"{system} {band} [mmag]", [f"{np.abs(v[chosen]).max():.1f}" for chosen in rows.values()])
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
    for found in real_stars():
        print(found.case, found.n, {name: round(value, 2) for name, value in found.ratios.items()})
