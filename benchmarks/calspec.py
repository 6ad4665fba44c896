"""XP spectra against CALSPEC, corrected star by star by what the others teach.

PAIRS: Parquet with star_name, star_type, wavelength [nm], gaia_spectrum, calspec_spectrum. LSF: two columns,
wavelength [nm] and R. RMS of flux over its mean on 400..990 nm, median of the stars, as the pairs stand, with CALSPEC
convolved, and corrected leaving the star itself out: by a kernel in one color, and by an ensemble of small networks. No
E(B-V) and few stars: the features are three SkyMapper colors, and the residuals are ratios, weighted by flux, so that
neither the Balmer jumps of hot stars nor the blue of cool ones rule. White dwarfs are learned from and corrected like
all others: u-v tells them from A stars.
"""

from __future__ import annotations

import re
import time

import numpy as np

import xpjax
from benchmarks.harness import DATA, Row, absent
from xpjax.correction.inputs import Features, features
from xpjax.correction.residuals import make_residuals
from xpjax.correction.training import Settings, predict, train
from xpjax.linalg import local_cubic

PAIRS, LSF = DATA / "calspec" / "xp_calspec_pairs.parquet", DATA / "xp_lsf" / "xp_resolution.csv"
GRID = np.arange(336.0, 1021.0, 2.0)
JUDGED, BLUE = (GRID >= 400) & (GRID <= 990), GRID < 400
NAMES = ("g-i", "v-g-0.9(g-i)", "u-v-0.9(g-i)")
SETTINGS = Settings(
    widths=(256,), epochs=400, learning_rate=3e-3, decay=1e-2, split=(0.84, 0.12, 0.04), stop=60, patience=25, batch=64
)
NETWORKS = 4


def convolved(flux: np.ndarray, resolution: np.ndarray | float) -> np.ndarray:
    """Spectra (n, m) seen with a Gaussian of FWHM lambda/R; at the ends by what is there."""
    fine = np.arange(GRID[0], GRID[-1] + 0.01, 0.25)
    sigma = GRID / np.broadcast_to(resolution, GRID.shape) / 2.3548
    kernel = np.exp(-0.5 * ((GRID[:, None] - fine) / sigma[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.stack([kernel @ np.asarray(local_cubic(fine, GRID, row)) for row in flux])


def normalised(flux: np.ndarray) -> np.ndarray:
    return flux / flux[:, JUDGED].mean(axis=1, keepdims=True)


def rms(seen: np.ndarray, true: np.ndarray, where: np.ndarray = JUDGED) -> np.ndarray:
    """RMS (n,) of the difference of mean-normalised fluxes (n, m)."""
    return np.sqrt(np.mean((normalised(seen) - normalised(true))[:, where] ** 2, axis=1))


def colors(flux: np.ndarray) -> Features:
    """Features of sampled spectra: through the part of each passband that the samples cover."""
    given: dict[str, np.ndarray] = {"source_id": np.arange(1, len(flux) + 1)}
    for band in xpjax.passbands("SkyMapper:u,v,g,i"):
        seen = np.interp(GRID, band.wavelength, band.transmission, left=0, right=0) * GRID
        given[band.name] = -2.5 * np.log10((normalised(flux) * seen).sum(axis=1) / (seen / GRID**2).sum())
    return features(given, NAMES)


def by_kernel(color: np.ndarray, ratio: np.ndarray, width: float = 0.15) -> np.ndarray:
    """The mean ratio of the other stars (n, m), weighted by their nearness in color."""
    near = np.exp(-0.5 * ((color[:, None] - color) / width) ** 2)
    np.fill_diagonal(near, 0)
    return (near / near.sum(axis=1, keepdims=True)) @ ratio


def by_networks(stars: Features, seen: np.ndarray, true: np.ndarray, n_network: int) -> np.ndarray:
    """The ratio (n, m) that networks predict which have not seen the star."""
    out = np.empty_like(seen)
    for k in range(len(seen)):
        others = np.arange(len(seen)) != k
        data, _ = make_residuals(
            stars[others], GRID, seen[others], true[others], kind="multiplicative", space="observed"
        )
        model = train(data, SETTINGS, n_network=n_network, kind="multiplicative", space="observed")
        out[k] = predict(model, stars[~others])[0]
    return out


def groups(types: np.ndarray) -> dict[str, np.ndarray]:
    """Stars by type: cooler and hotter than 10,000 K, and kinds."""
    white = np.array([kind.startswith("D") for kind in types])
    subdwarf = np.array([kind.startswith("sd") and kind[2] in "OB" for kind in types])
    letter = np.array([kind.removeprefix("sd")[:1] for kind in types])
    early = ~white & ~subdwarf & (np.isin(letter, ["O", "B"]) | np.array([kind.startswith("A0") for kind in types]))
    digit = np.array([float((re.findall(r"[\d.]+$", kind) or ["nan"])[0]) for kind in types])
    cool_dwarf = white & (digit >= 5.04)  # the figure of a white dwarf is 50,400 K / Teff
    hot = (white & ~cool_dwarf) | subdwarf | early
    return {
        "all": np.ones(len(types), bool),
        "cooler than 10,000 K": ~hot,
        "hotter": hot,
        "white dwarfs": white,
        "hot subdwarfs": subdwarf,
        "O, B, A0": early,
        "A1..A7": ~white & (letter == "A") & ~early,
        "F, G": ~white & np.isin(letter, ["F", "G"]),
        "K, M": ~white & np.isin(letter, ["K", "M"]),
    }


def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """XP and CALSPEC spectra (n, m), these convolved to the resolution of XP too, and types (n,)."""
    import pandas as pd

    table = pd.read_parquet(PAIRS)
    columns = table["wavelength"], table["gaia_spectrum"], table["calspec_spectrum"]
    both = [np.stack([np.interp(GRID, w, f) for w, f in zip(columns[0], c, strict=True)]) for c in columns[1:]]
    resolution = np.loadtxt(LSF, delimiter=",", skiprows=1, usecols=(0, 1))
    return *both, convolved(both[1], np.interp(GRID, *resolution.T)), table["star_type"].to_numpy().astype(str)


def run(quick: bool) -> list[Row]:
    """A quick run: one network a star, not four."""
    if not (PAIRS.exists() and LSF.exists()):
        return [absent("calspec", "CALSPEC", f"no {PAIRS} or {LSF}")]
    seen, calspec, true, types = pairs()
    stars = colors(seen)
    ratio = normalised(true) / normalised(seen) - 1
    started = time.perf_counter()
    networks = by_networks(stars, seen, true, 1 if quick else NETWORKS)
    seconds = time.perf_counter() - started
    cases: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "as the pairs stand": (seen, calspec),
        "CALSPEC at R = 104": (seen, convolved(calspec, 104.0)),
        "CALSPEC at R(lambda)": (seen, true),
        "kernel in g-i, left out": (seen * (1 + by_kernel(stars.value[:, 0], ratio)), true),
        "networks, left out": (seen * (1 + networks), true),
        # Must fail: what is learned of other stars than those at hand.
        "networks, stars shuffled": (seen * (1 + np.roll(networks, 17, axis=0)), true),
    }
    rows = []
    for name, (flux, reference) in cases.items():
        trained = name.startswith("networks")
        row = Row("calspec", name, len(seen), seconds if trained else float("nan"))
        value = rms(flux, reference)
        row.error, row.error_of = 100 * float(np.median(value)), "median RMS, 400..990 nm [%]"
        row.ratios = {
            f"{kind}, {where.sum()}": 100 * float(np.median(value[where])) for kind, where in groups(types).items()
        }
        row.ratios["all, 336..400 nm"] = 100 * float(np.median(rms(flux, reference, BLUE)))
        rows.append(row)
    return rows
