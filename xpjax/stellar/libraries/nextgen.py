"""NextGen's model spectra, one NumPy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import reading
from xpjax.stellar.libraries.library import Library, Limits, Models, bins, prepared, within

WANTED = ("teff", "logg", "mh", "wave_nm", "flux")


def read_nextgen(path: Path, limits: Limits, *, nlte: bool = False) -> Library:
    """NextGen (Hauschildt et al. 1999) as one .npz file of means over bins; the Balmer lines lie at vacuum wavelengths.

    nlte: take the non-LTE models, of hot and metal-poor stars, instead of the LTE ones. Raises XpjaxError.
    """
    with reading(path, f"an .npz file with {', '.join(WANTED)}"), np.load(path) as file:
        data = {name: file[name] for name in (*WANTED, *(["nlte"] if "nlte" in file else []))}
    names = ("teff", "logg", "mh")
    sizes = {name: np.shape(data[name]) for name in (*names, "nlte") if name in data}
    if len({*sizes.values()}) != 1:
        raise XpjaxError(f"{path}: {sizes}; expected as many of each")
    labels = np.round(np.stack([np.asarray(data[name], float) for name in names], axis=1), 6)
    if data["flux"].shape != (len(labels), len(data["wave_nm"])):
        raise XpjaxError(f"{path}: flux has shape {data['flux'].shape}, expected {len(labels), len(data['wave_nm'])}")

    def read() -> Models:
        kind = np.asarray(data.get("nlte", np.zeros(len(labels))), bool)
        there = within(names, labels, limits) & (kind == nlte)
        if there.any():
            wavelength = np.asarray(data["wave_nm"], float)
            yield prepared(path, wavelength, data["flux"][there], labels[there], bins(wavelength))

    return Library(names, [path], f"NextGen {'non-LTE' if nlte else 'LTE'}, {path.name}", read)
