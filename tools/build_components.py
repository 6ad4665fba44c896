"""Write the component tables `filters/components/` and the stand-in filters of `filters/minisitian/`.

    python tools/build_components.py

Nothing here is read from a file: sites are computed from the formulas of `xpjax.synthetic.atmosphere` with the few
parameters below, chosen in round numbers near what is usual for the site (the fit to its published curve, where there
is one); detectors, mirrors and filters are drawn by ourselves as smooth curves through a few points. Run by
hand; the output is committed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from astropy import units
from astropy.table import Table
from scipy.interpolate import PchipInterpolator

from xpjax.synthetic import atmosphere

FILTERS = Path(__file__).parents[1] / "filters"
COMPONENTS = FILTERS / "components"
LICENSE = "BSD-3-Clause"
SOURCE = "xpjax, tools/build_components.py"
# Finer where ozone bends the curve: it is read linearly.
SITE_GRID = np.r_[np.arange(300.0, 350.0, 2.0), np.arange(350.0, 1101.0, 5.0)]


@dataclasses.dataclass(frozen=True)
class Site:
    """Altitude [m], ozone column [DU], optical depth of aerosol at 1000 nm, its exponent, and why these."""

    title: str
    altitude: float
    ozone: float
    aerosol: float
    angstrom: float
    choice: str


HAZE = "round numbers of ours for a clear night, near the curve that is usual for the site"
SITES = {
    "xinglong": Site("Xinglong, China", 900, 320, 0.050, 0.7, f"{HAZE} under continental haze"),
    "lijiang": Site("Lijiang, China", 3193, 260, 0.030, 1.4, f"{HAZE}, high but with haze in the dry season"),
    "ctio": Site("Cerro Tololo, Chile", 2207, 270, 0.020, 1.3, f"{HAZE}"),
    "pachon": Site(
        "Cerro Pachon, Chile", 2715, 265, 0.016, 1.3, "round numbers of ours, somewhat less than at Cerro Tololo"
    ),
    "kpno": Site("Kitt Peak, USA", 2096, 290, 0.022, 1.0, f"{HAZE}"),
    "lapalma": Site("Roque de los Muchachos, La Palma, Spain", 2396, 290, 0.008, 1.0, f"{HAZE} free of Saharan dust"),
    "paranal": Site(
        "Cerro Paranal, Chile",
        2635,
        260,
        0.012,
        1.38,
        "aerosol 0.013 mag (lambda / 1000 nm)^-1.38, Patat et al. 2011, A&A 527, A91",
    ),
    "javalambre": Site("Pico del Buitre, Javalambre, Spain", 1957, 310, 0.030, 1.2, f"{HAZE}"),
    "maunakea": Site("Maunakea, USA", 4205, 260, 0.0084, 1.26, "mean of Buton et al. 2013, A&A 549, A8"),
    "palomar": Site("Palomar Mountain, USA", 1713, 300, 0.022, 1.0, f"{HAZE}"),
    "mthamilton": Site("Mount Hamilton, USA", 1283, 300, 0.042, 0.5, f"{HAZE} with a gray part"),
}

MODEL = (
    "A model of a clear night, not a measurement: nights differ by several 0.01 mag/airmass, and by more with dust. "
    "Smooth extinction only; the bands of O2 and H2O are apart."
)
FORMULAS = (
    "Rayleigh: Bodhaine et al. 1999, J. Atmos. Oceanic Technol. 16, 1854, eq. 30; pressure: U.S. Standard Atmosphere "
    "1976; ozone: xpjax.synthetic.atmosphere.ozone_depth; aerosol: aerosol (lambda / 1000 nm)^-angstrom"
)

# Points (wavelength [nm], value) that a monotone cubic is drawn through.
DETECTORS: dict[str, tuple[str, str, Mapping[int, float]]] = {
    "imx455": (
        "Sony IMX455, back-illuminated CMOS",
        "Quantum efficiency of the type of this sensor, drawn by hand from its general form (peak near 475 nm, 40 % at "
        "700 nm): replace it by a measured curve of the camera where one is at hand.",
        {
            **{300: 0.05, 325: 0.06, 350: 0.17, 375: 0.43, 400: 0.68, 425: 0.83, 450: 0.90, 475: 0.92, 500: 0.91},
            **{550: 0.82, 600: 0.69, 650: 0.56, 700: 0.43, 750: 0.31, 800: 0.225, 850: 0.165, 900: 0.105, 950: 0.062},
            **{1000: 0.030, 1050: 0.012, 1100: 0.004},
        },
    ),
    "ccd_blue": (
        "thinned CCD with a blue-optimized coating",
        "A generic device of 16 um silicon.",
        {
            **{300: 0.30, 325: 0.48, 350: 0.60, 400: 0.82, 450: 0.90, 500: 0.92, 550: 0.92, 600: 0.91, 650: 0.90},
            **{700: 0.86, 750: 0.78, 800: 0.67, 850: 0.53, 900: 0.37, 950: 0.20, 1000: 0.08, 1050: 0.02, 1100: 0.002},
        },
    ),
    "ccd_deep_depletion": (
        "deep-depletion CCD with a red-optimized coating",
        "A generic device of 200 um or so of silicon.",
        {
            **{300: 0.10, 350: 0.35, 400: 0.60, 450: 0.75, 500: 0.85, 550: 0.90, 600: 0.93, 700: 0.95, 800: 0.94},
            **{850: 0.92, 900: 0.87, 950: 0.72, 1000: 0.45, 1050: 0.15, 1100: 0.02},
        },
    ),
}
OPTICS: dict[str, tuple[str, str, Mapping[int, float]]] = {
    "aluminium": (
        "fresh bare aluminium mirror",
        "Reflectivity of one mirror, drawn by hand: 92 % in the blue, the dip of aluminium near 825 nm.",
        {
            **{300: 0.920, 400: 0.920, 500: 0.917, 600: 0.911, 700: 0.899, 750: 0.887, 800: 0.870, 825: 0.865},
            **{850: 0.870, 900: 0.893, 950: 0.917, 1000: 0.935, 1100: 0.950},
        },
    ),
    "silver": (
        "protected silver mirror",
        "Reflectivity of one mirror, drawn by hand: the drop of silver below 400 nm.",
        {
            **{300: 0.20, 320: 0.10, 340: 0.55, 360: 0.80, 380: 0.89, 400: 0.93, 450: 0.962, 500: 0.973, 600: 0.981},
            **{700: 0.984, 900: 0.986, 1100: 0.987},
        },
    ),
}

# Edges [nm] at half height, of the filters that are sold as SDSS g', r', i' to small telescopes.
MINISITIAN = {"g": (401.0, 550.0), "r": (562.0, 695.0), "i": (695.0, 844.0)}
EDGE, PEAK = 3.0, 0.95


def write(path: Path, name: str, wavelength: np.ndarray, meta: dict[str, str | float], **column: np.ndarray) -> None:
    """One curve as ECSV: wavelength [nm] and a column, rounded to 1e-5."""
    ((label, values),) = column.items()
    table = Table({"wavelength": wavelength * units.nm})
    table[label] = np.round(values, 5) * (units.mag if label == "extinction" else units.dimensionless_unscaled)
    table.meta.update(name=name, **meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, format="ascii.ecsv", overwrite=True)
    print(f"{path.relative_to(FILTERS.parent)}: {len(table)} samples")


def site(name: str, s: Site) -> None:
    """Extinction of a clear night at a site [mag/airmass]."""
    pressure = atmosphere.pressure(s.altitude)
    with jax.enable_x64(True):
        air = atmosphere.Atmosphere(ozone=s.ozone, aerosol=s.aerosol, angstrom=s.angstrom, pressure=pressure)
        k = np.asarray(air.extinction(SITE_GRID))
    meta = {
        "title": s.title,
        "kind": "computed",
        "note": MODEL,
        "altitude": s.altitude,
        "pressure": round(pressure, 2),
        "ozone": s.ozone,
        "aerosol": s.aerosol,
        "angstrom": s.angstrom,
        "choice": s.choice,
        "source": SOURCE,
        "reference": FORMULAS,
        "license": LICENSE,
    }
    write(COMPONENTS / "sites" / f"{name}.ecsv", name, SITE_GRID, meta, extinction=k)


def drawn(path: Path, title: str, note: str, points: Mapping[int, float]) -> None:
    """A smooth curve through a few points."""
    grid = np.arange(300.0, 1101.0, 5.0)
    curve = PchipInterpolator(list(points), list(points.values()))(grid)
    meta = {
        "title": title,
        "kind": "stand-in",
        "note": note,
        "source": SOURCE,
        "reference": "none: drawn by hand",
        "license": LICENSE,
    }
    write(path, path.stem, grid, dict(meta), transmission=curve)


def box(name: str, blue: float, red: float) -> None:
    """A box with smooth edges: hyperbolic tangents."""
    grid = np.arange(np.floor(blue - 20.0), np.ceil(red + 20.0) + 1.0)
    curve = PEAK * 0.25 * (1 + np.tanh((grid - blue) / EDGE)) * (1 - np.tanh((grid - red) / EDGE))
    meta = {
        "title": f"mini-SiTian {name}, filter alone",
        "kind": "stand-in",
        "note": f"A smooth box from {blue:g} to {red:g} nm in place of the vendor's curve of an SDSS-like filter.",
        "source": SOURCE,
        "reference": "none: drawn by hand",
        "license": LICENSE,
        "detector": "photon",
        "magnitude": "AB",
    }
    write(FILTERS / "minisitian" / f"{name}.ecsv", name, grid, dict(meta), transmission=curve)


def main() -> None:
    """Write everything."""
    for name, s in SITES.items():
        site(name, s)
    for folder, tables in (("detectors", DETECTORS), ("optics", OPTICS)):
        for name, (title, note, points) in tables.items():
            drawn(COMPONENTS / folder / f"{name}.ecsv", title, note, points)
    ideal = {
        "title": "ideal detector",
        "kind": "computed",
        "note": "1 at every wavelength.",
        "source": SOURCE,
        "reference": "by definition",
        "license": LICENSE,
    }
    write(
        COMPONENTS / "detectors" / "ideal.ecsv",
        "ideal",
        np.array([100.0, 3000.0]),
        dict(ideal),
        transmission=np.ones(2),
    )
    for name, edges in MINISITIAN.items():
        box(name, *edges)


if __name__ == "__main__":
    main()
