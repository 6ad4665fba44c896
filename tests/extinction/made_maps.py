"""Small maps of reddening in the layout of the published files, at the names that dustmaps reads."""

from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits

NSIDE = 8
SCALE = 32
"""Half the pixels of a side of SFD's maps, 2048 in the published ones."""
MODULI = np.linspace(4.0, 19.0, 31)


def plane(n: int) -> np.ndarray:
    """A smooth map of one hemisphere (n = 1: north, -1: south), different in both."""
    y, x = np.mgrid[: 2 * SCALE, : 2 * SCALE] / (2.0 * SCALE)
    return (0.2 + 0.1 * n + 0.3 * x + 0.5 * y**2 + 0.2 * x * y).astype(np.float32)


def make_sfd(folder: Path) -> Path:
    """Both hemispheres in Lambert's zenithal equal-area projection."""
    folder.mkdir(parents=True, exist_ok=True)
    step = np.degrees(np.sqrt(2)) / SCALE
    for pole, n in (("ngp", 1), ("sgp", -1)):
        header = fits.Header()
        header["CTYPE1"], header["CTYPE2"] = "GLON-ZEA", "GLAT-ZEA"
        header["CRPIX1"] = header["CRPIX2"] = SCALE + 0.5
        header["CDELT1"], header["CDELT2"] = -step, step
        header["CRVAL1"], header["CRVAL2"], header["LONPOLE"] = 90.0, 90.0 * n, 180.0
        header["LAM_NSGP"], header["LAM_SCAL"] = n, SCALE
        fits.PrimaryHDU(plane(n), header).writeto(folder / f"SFD_dust_4096_{pole}.fits")
    return folder


def galactic(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """l and b [rad] by spherical trigonometry, with the pole and origin of the Hipparcos catalogue (ESA 1997)."""
    a, d, pole = np.radians(ra) - np.radians(192.85948), np.radians(dec), np.radians(27.12825)
    b = np.arcsin(np.sin(d) * np.sin(pole) + np.cos(d) * np.cos(pole) * np.cos(a))
    from_pole = np.arctan2(
        np.cos(d) * np.sin(a), np.sin(d) * np.cos(pole) - np.cos(d) * np.sin(pole) * np.cos(a)
    )  # fmt: skip
    return np.radians(122.93192) - from_pole, b


def sfd_by_hand(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Bilinear interpolation after Schlegel et al. (1998, equations C1 and C2)."""
    length, b = galactic(ra, dec)
    n = np.where(b >= 0, 1, -1)
    radius = SCALE * np.sqrt(1 - n * np.sin(b))
    x, y = radius * np.cos(length) + SCALE - 0.5, -n * radius * np.sin(length) + SCALE - 0.5
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = x - i, y - j
    both = {1: plane(1).astype(float), -1: plane(-1).astype(float)}

    def at(dj: int, di: int) -> np.ndarray:
        rows, columns = (np.clip(k, 0, 2 * SCALE - 1) for k in (j + dj, i + di))
        return np.where(n > 0, both[1][rows, columns], both[-1][rows, columns])

    return (1 - v) * ((1 - u) * at(0, 0) + u * at(0, 1)) + v * ((1 - u) * at(1, 0) + u * at(1, 1))


def pixel_values(name: str) -> np.ndarray:
    """What a HEALPix map has in its pixels, (12 NSIDE^2,)."""
    rng = np.random.default_rng(len(name))
    return rng.uniform(0.01, 1.0, 12 * NSIDE**2).astype(np.float32)


def make_healpix(folder: Path) -> Path:
    """CSFD (ring) and both maps of Planck (nested)."""
    folder.mkdir(parents=True, exist_ok=True)

    def table(path: str, name: str, ordering: str, **columns: np.ndarray) -> None:
        made = [fits.Column(key, f"{np.size(c) // len(c)}E", array=c) for key, c in columns.items()]
        hdu = fits.BinTableHDU.from_columns(made, name=name)
        hdu.header["ORDERING"], hdu.header["NSIDE"] = ordering, NSIDE
        hdu.writeto(folder / path)

    planck, tau = pixel_values("planck"), pixel_values("gnilc") / 1.49e4
    table("HFI_CompMap_ThermalDustModel_2048_R1.20.fits", "COMP-MAP", "NESTED", TAU353=planck * 0, EBV=planck)
    table("COM_CompMap_Dust-GNILC-Model-Opacity_2048_R2.01.fits", "GNILC", "NESTED", TAU353=tau, TAU353ERR=tau / 7)
    rows = pixel_values("csfd").reshape(-1, 64)
    table("csfd_ebv.fits", "xtension", "RING", T=rows)
    table("mask.fits", "xtension", "RING", T=np.ones_like(rows))
    return folder


def make_bayestar(folder: Path) -> Path:
    """A three-dimensional map of the pixels of the northern half of the ecliptic of HEALPix: E = slope * modulus."""
    folder.mkdir(parents=True, exist_ok=True)
    n = 6 * NSIDE**2
    kinds = [("nside", "u4"), ("healpix_index", "u8"), ("converged", "u1")]
    pixels = np.zeros(n, [*kinds, ("DM_reliable_min", "f4"), ("DM_reliable_max", "f4")])
    pixels["nside"], pixels["healpix_index"], pixels["converged"] = NSIDE, np.arange(n), 1
    pixels["DM_reliable_min"], pixels["DM_reliable_max"] = 6.0, 15.0
    spread = 1 + 0.1 * np.arange(-2, 3)
    samples = (pixel_values("bayestar")[:n, None, None] * spread[:, None] * MODULI / 10).astype(np.float32)
    with h5py.File(folder / "bayestar2019.h5", "w") as file:
        file["pixel_info"], file["samples"], file["best_fit"] = pixels, samples, samples[:, 2]
        file["pixel_info"].attrs["DM_bin_edges"] = MODULI
    return folder
