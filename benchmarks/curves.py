"""Magnitudes through measured curves against published ones, on real stars.

For measured curves of filters/ whose system is published too, the difference of magnitudes. S-PLUS: a table with
columns SPLUS_BAND_mod of other stars (synthetic magnitudes from XP, not of ours) and a folder of curves SPLUS_BAND.dat:
does each band of those stars stand to the other bands as it does for our stars through the curves, and through
J-PLUS's? Offsets at fixed colors, by a local plane through the nearest of our stars.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from benchmarks.harness import DATA, Row, absent
from xpjax.synthetic.files.passband_files import read_passbands
from xpjax.synthetic.projection import passband_system

STARS, CATALOGUE = DATA / "xp" / "xp_random_1200.fits", DATA / "splus" / "stripe82_0001_400.fits"
PAIRS = (
    ("PanSTARRS1", "panstarrs", ("gp", "rp", "ip", "zp", "yp")),
    ("DECam", "decamDR1", ("g", "r", "i", "z", "Y")),
    ("SDSS", "sdss2010", ("g", "r", "i", "z")),
)
SPLUS = ("F378", "F395", "F410", "F430", "G", "F515", "R", "F660", "I", "F861", "Z")
JPLUS = "JPLUS:J0378,J0395,J0410,J0430,gJPLUS,J0515,rJPLUS,J0660,iJPLUS,J0861,zJPLUS"
NEAREST, FARTHEST = 12, 0.25


def magnitudes(sources: Any, system: xpjax.PhotometricSystem) -> np.ndarray:
    return xpjax.photometry(sources, system, errors=False, float64=True).magnitude


def published(sources: Any) -> list[Row]:
    """Bands with published counterparts: |measured - published|."""
    rows = []
    for system, name, bands in PAIRS:
        started = time.perf_counter()
        theirs = magnitudes(sources, xpjax.load_system(f"{system}:{','.join(bands)}"))
        ours = magnitudes(
            sources, passband_system(xpjax.load_passbands(name)[[band.removesuffix("p") for band in bands]])
        )
        seconds = time.perf_counter() - started
        for band, difference in zip(bands, np.abs(ours - theirs).T, strict=True):
            row = Row("curves", f"{name} {band.removesuffix('p')}", len(ours), seconds)
            middle, most, row.error = (float(x) for x in np.nanpercentile(difference, [50, 99, 100]))
            row.error_of = "worst |measured - published| [mag]"
            row.ratios = {"median [mmag]": 1e3 * middle, "99 % [mmag]": 1e3 * most}
            rows.append(row)
    return rows


def splus(sources: Any, table: Path, folder: Path) -> list[Row]:
    """S-PLUS's catalogue at fixed colors, through its curves and through J-PLUS's."""
    from astropy.table import Table
    from scipy.spatial import cKDTree

    rows = Table.read(table)
    catalogue = np.stack([np.asarray(rows[f"SPLUS_{band}_mod"], float) for band in SPLUS], axis=1)
    catalogue = catalogue[np.all((catalogue > 0) & (catalogue < 90), axis=1)]
    out = []
    curves = read_passbands([folder / f"SPLUS_{band}.dat" for band in SPLUS], names=SPLUS, clip=True)
    started = time.perf_counter()
    for title, system in (("S-PLUS curves", passband_system(curves)), ("J-PLUS system", xpjax.load_system(JPLUS))):
        ours = magnitudes(sources, system)
        ours = ours[np.all(np.isfinite(ours), axis=1)]
        for k, band in enumerate(SPLUS):
            others = [i for i in range(len(SPLUS)) if i != k]

            def split(m: np.ndarray, k: int = k, others: list[int] = others) -> tuple[np.ndarray, np.ndarray]:
                mean = m[:, others].mean(axis=1)
                return m[:, others[:-1]] - mean[:, None], m[:, k] - mean

            (color, value), (color_c, value_c) = split(ours), split(catalogue)
            distance, index = cKDTree(color).query(color_c, k=NEAREST)
            offsets = []
            for row in np.flatnonzero(distance.max(axis=1) < FARTHEST):
                near = color[index[row]] - color_c[row]
                axes = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][:3]
                plane = np.column_stack([np.ones(NEAREST), near @ axes.T])
                offsets.append(value_c[row] - np.linalg.lstsq(plane, value[index[row]], rcond=None)[0][0])
            middle = np.median(offsets)
            spread = 1.4826 * np.median(np.abs(offsets - middle)) * 1.25 / np.sqrt(len(offsets))
            row = Row("curves", f"S-PLUS catalogue, {title}, {band}", len(offsets), time.perf_counter() - started)
            row.error, row.error_of = float(abs(middle)), "median offset at fixed colors [mag]"
            row.ratios = {"offset [mmag]": 1e3 * float(middle), "its error [mmag]": 1e3 * float(spread)}
            out.append(row)
    return out


def run(quick: bool) -> list[Row]:
    """A quick run is the same."""
    if not STARS.exists():
        return [absent("curves", "measured curves", f"no {STARS}")]
    sources = xpjax.read(STARS, dtype=np.float64)
    if not CATALOGUE.exists():
        return [*published(sources), absent("curves", "S-PLUS catalogue", f"no {CATALOGUE}")]
    return [*published(sources), *splus(sources, CATALOGUE, CATALOGUE.parent / "filters")]
