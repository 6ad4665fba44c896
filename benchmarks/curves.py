"""Magnitudes through measured curves against published ones: python -m benchmarks.curves XP_FILE [--splus TABLE DIR].

For measured curves of filters/ whose system is published too, the difference of magnitudes of real stars. With --splus,
a table with columns SPLUS_BAND_mod of other stars (synthetic magnitudes from XP, not of ours) and a folder of curves
SPLUS_BAND.dat: does each band of those stars stand to the other bands as it does for our stars through the curves, and
through J-PLUS's? Offsets at fixed colors, by a local plane through the nearest of our stars.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from xpjax.io.passband_files import read_passbands
from xpjax.synthetic.passband import passband_system

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


def published(sources: Any) -> None:
    print(f"{'curve':16} {'median':>9} {'99 %':>8} {'worst':>8}  mmag, |measured - published|")
    for system, name, bands in PAIRS:
        theirs = magnitudes(sources, xpjax.system(f"{system}:{','.join(bands)}"))
        ours = magnitudes(sources, passband_system(xpjax.passbands(name)[[band.removesuffix("p") for band in bands]]))
        for band, difference in zip(bands, 1000 * np.abs(ours - theirs).T, strict=True):
            middle, most, worst = np.nanpercentile(difference, [50, 99, 100])
            print(f"{name:11} {band:4} {middle:9.4f} {most:8.4f} {worst:8.4f}")


def splus(sources: Any, table: Path, folder: Path) -> None:
    from astropy.table import Table
    from scipy.spatial import cKDTree

    rows = Table.read(table)
    catalogue = np.stack([np.asarray(rows[f"SPLUS_{band}_mod"], float) for band in SPLUS], axis=1)
    catalogue = catalogue[np.all((catalogue > 0) & (catalogue < 90), axis=1)]
    curves = read_passbands([folder / f"SPLUS_{band}.dat" for band in SPLUS], names=SPLUS, clip=True)
    for title, system in (("S-PLUS curves", passband_system(curves)), ("J-PLUS system", xpjax.system(JPLUS))):
        ours = magnitudes(sources, system)
        ours = ours[np.all(np.isfinite(ours), axis=1)]
        print(f"{title}: catalogue minus curves at fixed colors, median +- its error [mmag]")
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
            print(f"  {band:5} {1000 * middle:+7.1f} +- {1000 * spread:.1f}  ({len(offsets)} stars)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("xp_file")
    parser.add_argument("--splus", nargs=2, type=Path, metavar=("TABLE", "FOLDER"))
    options = parser.parse_args()
    sources = xpjax.read(options.xp_file, dtype=np.float64)
    published(sources)
    if options.splus:
        splus(sources, *options.splus)


if __name__ == "__main__":
    main()
