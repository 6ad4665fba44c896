"""Build xpjax/data/correction_dr3.h5, the linear correction "standard", from pairs of XP and CALSPEC spectra.

    python tools/build_correction.py DATA

DATA holds calspec/xp_calspec_pairs.parquet (66 stars: Gaia DR3 XP spectra and CALSPEC on the same grid) and
xp/xp_random_1200.fits (coefficients of random Gaia DR3 sources, of which those brighter than G = 16 say what is normal,
and errors of the coefficients of fainter ones what noise is). Every pair is left out once; the table of what is left is
printed, and goes into the file. No spectrum of any star does. It takes half a minute.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

import xpjax
from xpjax.wiggles.linear.fit import LEVEL_RANGE, LinearSettings, Population
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.wiggles.linear.train import train_linear
from xpjax.xp.correction import STANDARD, Domain, LinearCorrection, write_correction

OUTPUT = Path(xpjax.__file__).parent / "data" / "correction_dr3.h5"
PAIRS, RANDOM = "calspec/xp_calspec_pairs.parquet", "xp/xp_random_1200.fits"
SOURCES = {
    "XP spectra": "ESA/Gaia/DPAC, Gaia DR3: Gaia Collaboration (Vallenari) et al. 2023, A&A 674, A1; De Angeli et al. "
    "2023, A&A 674, A2; Montegriffo et al. 2023, A&A 674, A3",
    "references": "CALSPEC, STScI: Bohlin, Gordon & Tremblay 2014, PASP 126, 711; Bohlin, Hubeny & Rauch 2020, AJ 160, "
    "21",
    "licence": "computed from data of ESA's mission Gaia, processed by DPAC, and of CALSPEC, which is in the public "
    "domain; no spectrum of any star is in this file, which is under xpjax's own licence",
}


def population(path: Path, instrument: xpjax.Instrument, faintest: float = 16.0) -> Population:
    """Ordinary stars: random sources brighter than a magnitude, and the noise of fainter ones."""
    table = xpjax.read(path, dtype=np.float64)
    value = table.coefficients.value
    g = xpjax.photometry(value, "GaiaDR3Vega:G", errors=False, float64=True).magnitude[:, 0]
    return Population.of(value[g < faintest], instrument)


def blank(normal: Population, instrument: xpjax.Instrument) -> LinearCorrection:
    """A correction that changes nothing: the population alone, for the way back from samples to coefficients."""
    domain = Domain(np.zeros((2, 1)), np.ones(2), np.zeros(1), np.asarray(1.0), (1, 1))
    change = np.zeros_like(instrument.default_design)
    ordinary = normal.center @ instrument.default_design
    return LinearCorrection(
        "blank", instrument.model, instrument.release, instrument.wavelength, change, np.zeros((1, len(ordinary))), 0.0,
        domain, normal.center, normal.root(), LEVEL_RANGE, ordinary
    )  # fmt: skip


def main() -> None:
    """Train, print what is left, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    instrument = xpjax.load_instrument()
    files = {name: hashlib.sha256((args.data / name).read_bytes()).hexdigest() for name in (PAIRS, RANDOM)}
    normal = population(args.data / RANDOM, instrument)
    pairs = read_pairs(args.data / PAIRS, instrument, blank(normal, instrument))
    made = train_linear(
        pairs, normal, LinearSettings(), name=STANDARD, meta={"sources": SOURCES, "files (sha256)": files}
    )
    table = made.evidence.table(made.correction)
    print("\n".join(table))
    made.correction.meta["left out"] = table  # type: ignore[index]
    write_correction(OUTPUT, made.correction, overwrite=True)
    print(f"{OUTPUT} written, {OUTPUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
