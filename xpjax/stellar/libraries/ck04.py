"""Model spectra of Castelli & Kurucz (2004), FITS tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.units import to_nm
from xpjax.stellar.libraries.fits import fits_parts
from xpjax.stellar.libraries.library import Library, Limits, Models, bins, prepared, within

NAMES = ("teff", "logg", "mh")


def read_ck04(path: Path, limits: Limits) -> Library:
    """Castelli & Kurucz (2004), FITS tables with a column gNN for each log g = NN / 10, zeros where there is no model.

    path: the folder with ckm25 .. ckp05, or one of these. The samples are means over the intervals of the opacity
    distribution functions, 2 nm wide in the visible. Their wavelengths are vacuum ones to within a tenth of an
    interval: the Balmer lines of hot models lie within 0.1 nm of their places in vacuum.
    """
    files = sorted(path.rglob("ck[mp][0-9][0-9]_*.fits*")) if path.is_dir() else [path]
    if not files:
        raise XpjaxError(f"{path} holds no models: no file such as ckp00_5750.fits or ckp00_5750.fits.gz")

    def read() -> Models:
        for file in files:
            known = re.match(r"ck([mp])(\d\d)_(\d+)\.fits", file.name)
            if known:
                mh = (-0.1 if known[1] == "m" else 0.1) * int(known[2])
                early = {name: limits[name] for name in ("teff", "mh") if name in limits}
                if not within(("teff", "mh"), np.array([[float(known[3]), mh]]), early)[0]:
                    continue
            yield from _models(file, limits)

    return Library(NAMES, files, f"Castelli & Kurucz 2004, {path.name}", read)


def _models(file: Path, limits: Limits) -> Models:
    for table in fits_parts(file):
        columns = [name for name in table.columns if re.fullmatch(r"g\d\d", name)]
        if columns and "WAVELENGTH" in table.columns and "TEFF" in table.header and "LOG_Z" in table.header:
            break
    else:
        raise XpjaxError(
            f"{file}: no Castelli & Kurucz table: expected keywords TEFF and LOG_Z, columns WAVELENGTH and g00..g50; "
            "take it out of the folder"
        )
    labels = np.array([[table.header["TEFF"], int(name[1:]) / 10, table.header["LOG_Z"]] for name in columns], float)
    flux = np.stack([table.column(name) for name in columns])
    there = within(NAMES, labels, limits) & (flux != 0).any(axis=1)
    wavelength = to_nm(table.column("WAVELENGTH"), "Angstrom", file)
    if there.any():
        yield prepared(file, wavelength, flux[there], labels[there], bins(wavelength))
