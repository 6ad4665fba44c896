"""Epoch spectra: magnitudes to the bit in four ways, errors of constant stars, periods found.

    python -m benchmarks.epochs [SOURCES] [STARS]

Made sources with 40 transits each, a third of which lack BP or RP. First: J-PLUS magnitudes in Python, from a file and
the command line, and from a store and a catalogue, against those of the same coefficients as mean spectra. Then RR
Lyrae stars of many periods and magnitudes: how many periods are right (to 1e-5, and within 5 stated errors), how many
are not stated, and how many are wrong.
"""

from __future__ import annotations

import collections
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import xpjax
from xpjax.io.catalogue import read_catalogue

TRANSITS = 40
AMPLITUDE, SHIFT = np.array([0.35, 0.17, 0.11, 0.07, 0.04]), np.array([0.0, 2.4, 5.0, 1.5, 4.0])


def to_the_bit(n: int) -> None:
    """The numbers of columns that are equal to the last bit, for each way."""
    epochs = xpjax.simulate_sources(n, seed=1, transits=TRANSITS)
    rest = {name: column for name, column in epochs.columns.items() if name not in epochs.transits}
    mean = dataclasses.replace(epochs, source_id=np.arange(1, len(epochs) + 1), columns=rest)
    expected = xpjax.photometry(mean, "JPLUS").catalogue().columns
    print(f"{epochs!r}"[:60].splitlines()[0], {bit.name: k for bit, k in xpjax.Status.counts(epochs.status).items()})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        xpjax.write(folder / "epochs.parquet", epochs)
        xpjax.write(folder / "python.parquet", xpjax.photometry(epochs, "JPLUS"))
        xpjax.write(folder / "file.parquet", xpjax.photometry(folder / "epochs.parquet", "JPLUS"))
        xpjax.ingest([folder / "epochs.parquet"], folder / "store", correlations="float32")
        xpjax.run_catalogue(folder / "store", folder / "catalogue", "JPLUS")
        call = ["xpjax", "photometry", "epochs.parquet", "--system", "JPLUS", "-o", "command.parquet"]
        subprocess.run(call, cwd=folder, check=True, capture_output=True)
        for path in ("python.parquet", "file.parquet", "catalogue/epochs.parquet", "command.parquet"):
            found = read_catalogue(folder / path).columns
            same = [
                np.array_equal(found[key], column, equal_nan=True)
                for key, column in expected.items()
                if key != "source_id"
            ]
            keys = all(np.array_equal(found[key], column) for key, column in epochs.transits.items())
            print(f"{path:26} {sum(same)} of {len(same)} columns equal to the bit; transit_id and time equal: {keys}")


def constant_stars(n: int) -> None:
    """Reduced chi^2 of constant stars, by band."""
    stars = xpjax.photometry(xpjax.simulate_sources(n, seed=2, transits=TRANSITS), "JPLUS")
    chi2 = np.array([stars.lightcurve(one).chi2() for one in np.unique(stars.source_id)])
    print(f"chi^2 of {n} constant stars: mean {np.nanmean(chi2):.3f}, by band", np.nanmean(chi2, axis=0).round(2))


def periods(n: int) -> None:
    """RR Lyrae stars of periods 0.3..0.8 d, and constant stars: what is stated of their periods."""
    rng = np.random.default_rng(3)
    true = rng.uniform(0.3, 0.8, n)

    def rr_lyrae(times: np.ndarray) -> np.ndarray:
        def curve(shift: float) -> np.ndarray:
            angle = 2 * np.pi * (times / true[:, None] - shift)[..., None] * np.arange(1, 6)
            return -(AMPLITUDE * np.cos(angle + SHIFT)).sum(axis=-1)

        return np.stack([curve(0.0), 0.7 * curve(0.02)], axis=-1)

    for name, variability in (("RR Lyrae", rr_lyrae), ("constant", None)):
        stars = xpjax.simulate_sources(n, seed=4, transits=TRANSITS, variability=variability)
        bands = xpjax.photometry(stars, "JPLUS:gJPLUS,rJPLUS,iJPLUS")
        told: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        started, pulls = time.process_time(), []
        for k in range(n):
            found = bands.lightcurve(stars.source_id[k * TRANSITS]).periods()
            g = stars.columns["phot_g_mean_mag"][k * TRANSITS]
            off = found.period / true[k] - 1
            values = [(found.period, found.error), *found.aliases]
            within = any(abs(p - true[k]) < 5 * e for p, e in values)
            if not np.isfinite(found.period):
                what = "none"
            elif variability is None or not within:
                what = "WRONG"
            elif found.aliases:
                what = "right among aliases"
            else:
                what = "right to 1e-5" if abs(off) < 1e-5 else "right within its error"
                pulls.append((found.period - true[k]) / found.error)
            told["G < 16" if g < 16 else "16..17" if g < 17 else "G > 17"][what] += 1
        spent = (time.process_time() - started) / n
        for magnitude in sorted(told, key=["G < 16", "16..17", "G > 17"].index):
            print(f"{name}, {magnitude}: {dict(told[magnitude])}")
        print(f"{name}: {spent:.2f} s of processor a star" + (f"; pulls {np.std(pulls):.2f}" if pulls else ""))


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:]]
    to_the_bit(sizes[0] if sizes else 1000)
    constant_stars(200)
    periods(sizes[1] if len(sizes) > 1 else 100)
