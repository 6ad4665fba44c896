"""Measured transmission curves in filters/, from the package speclite (BSD-3-Clause), which says where each is from.

    python tools/build_measured.py

Wavelengths become nanometres, repeated samples and zeros beyond the first on either side go, curves sampled more finely
than 0.5 nm keep every n-th sample; nothing else changes. Run by hand; the output is committed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import speclite
from astropy.table import Table

from xpjax.synthetic.files.passband_files import write_passbands
from xpjax.synthetic.passband import Passband, PassbandSet

OUTPUT = Path(__file__).parents[1] / "filters"
SOURCE = Path(speclite.__file__).parent / "data" / "filters"
FINE = 0.5
REFERENCES = {"panstarrs": "Tonry et al. 2012, ApJ 750, 99"}
"""Where speclite's file names none but in its description."""
SYSTEMS = {
    "sdss2010": ("SDSS 2.5 m telescope, through airmass 1.3", "ugriz"),
    "panstarrs": ("Pan-STARRS1, through airmass 1.2", "grizyw"),
    "decam2014": ("DECam, Blanco 4 m telescope, measured 2014", "ugrizY"),
    "decamDR1": ("DECam, Dark Energy Survey DR1 standard bandpasses", "grizY"),
    "lsst2023": ("LSST, Rubin Observatory, expected, version 1.9", "ugrizy"),
    "gaiadr3": ("Gaia DR3 G, BP and RP", ("G", "BP", "RP")),
    "bessell": ("Bessell (1990) UBVRI", "UBVRI"),
}


def thinned(wavelength: np.ndarray, transmission: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The curve without repeated samples and outer zeros, and the stride with which its samples were taken."""
    new = np.append(True, np.diff(wavelength) > 1e-9)
    x, t = wavelength[new], transmission[new]
    light = np.flatnonzero(t > 0)
    part = slice(max(light[0] - 1, 0), light[-1] + 2)
    x, t = x[part], t[part]
    stride = max(int(FINE / np.median(np.diff(x)) + 1e-6), 1)
    keep = np.unique(np.append(np.arange(0, len(x), stride), len(x) - 1))
    return x[keep], t[keep], stride


def build(name: str, title: str, bands: str | tuple[str, ...]) -> PassbandSet:
    """One system as speclite has it."""
    made = []
    for order, band in enumerate(bands, 1):
        path = SOURCE / f"{name}-{band}.ecsv"
        table = Table.read(path, format="ascii.ecsv")
        wavelength = np.round(table["wavelength"].to("nm").value, 6)
        x, t, stride = thinned(wavelength, np.asarray(table["response"], float))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        meta = {
            "kind": "measured",
            "title": title,
            "description": re.sub(r"\s+", " ", str(table.meta.get("description", ""))).strip(),
            "reference": str(table.meta.get("url", "")) or REFERENCES[name],
            "source": f"speclite {speclite.__version__}, {path.name}, SHA-256 {digest}, by tools/build_measured.py",
            "license": "BSD-3-Clause (speclite)",
            "airmass": float(table.meta.get("airmass", 0)),
        }
        if stride > 1:
            meta["thinned"] = f"every {stride}th sample"
        made.append(Passband(band, x, np.clip(t, 0, None), meta=meta))
        print(f"{name}-{band}: {len(table)} -> {len(x)} samples, {order} of {len(bands)}")
    return PassbandSet(name, tuple(made), {"title": title})


if __name__ == "__main__":
    for name, (title, bands) in SYSTEMS.items():
        write_passbands(OUTPUT / name, build(name, title, bands), overwrite=True)
