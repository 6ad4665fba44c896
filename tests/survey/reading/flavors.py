"""One made field as many programs and surveys would write it, and what its columns mean."""

from __future__ import annotations

from typing import Any

import numpy as np

N = 90


def field(seed: int = 1) -> dict[str, np.ndarray]:
    """Places, positions, magnitudes, errors, flags, numbers and models of a field."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 4000, (2, N))
    m, color = rng.uniform(-12, -7, N), rng.uniform(0.4, 1.6, N)
    return {
        "x": x, "y": y, "ra": 150 + x / 2e4, "dec": 2 + y / 2e4, "m": m, "e": rng.uniform(0.003, 0.02, N),
        "f": 10 ** (-0.4 * m), "k": np.arange(1, N + 1), "flags": rng.choice([0, 0, 0, 4], N), "color": color,
        "model": m + 25 + 0.02 * color + rng.normal(0, 0.005, N),
    }  # fmt: skip


def _bands(bands: str | tuple[str, ...], values: np.ndarray, pattern: str) -> dict[str, np.ndarray]:
    return {pattern.replace("{band}", band): values for band in bands}


def flavors() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By name a table, and entries of [columns] that it means."""
    c = field()
    x, y, ra, dec, m, e, f, k, flags = (c[name] for name in ("x", "y", "ra", "dec", "m", "e", "f", "k", "flags"))
    medium = ("u", "J0378", "g", "r")
    bits = {"flags": flags}
    return {
        "SExtractor": (
            {"NUMBER": k, "X_IMAGE": x, "Y_IMAGE": y, "XWIN_IMAGE": x, "YWIN_IMAGE": y, "ALPHA_J2000": ra,
             "DELTA_J2000": dec, "MAG_AUTO": m, "MAGERR_AUTO": e, "MAG_APER": np.c_[m, m], "MAGERR_APER": np.c_[e, e],
             "MAG_ISO": m, "MAGERR_ISO": e, "FLUX_AUTO": f, "FLUXERR_AUTO": e * f, "FLAGS": flags, "CLASS_STAR": e,
             "MU_MAX": m, "FLUX_RADIUS": e},
            {"magnitude": "MAG_AUTO", "magnitude_error": "MAGERR_AUTO", "ra": "ALPHA_J2000", "dec": "DELTA_J2000",
             "flags": "FLAGS"},
        ),
        "SourceXtractor++": (
            {"source_id": k, "pixel_centroid_x": x, "pixel_centroid_y": y, "world_centroid_alpha": ra,
             "world_centroid_delta": dec, "auto_mag": m, "auto_mag_err": e, "auto_flux": f, "auto_flux_err": e * f,
             "source_flags": flags},
            {"x": "pixel_centroid_x", "y": "pixel_centroid_y", "dec": "world_centroid_delta", "magnitude": "auto_mag",
             "magnitude_error": "auto_mag_err", "flags": "source_flags", "star": None},
        ),
        "photutils apertures": (
            {"id": k, "xcenter": x, "ycenter": y, "aperture_sum": f, "aperture_sum_err": e * f},
            {"flux": "aperture_sum", "flux_error": "aperture_sum_err", "x": "xcenter", "y": "ycenter", "star": None},
        ),
        "photutils psf": (
            {"id": k, "x_init": x, "y_init": y, "flux_init": f, "x_fit": x, "y_fit": y, "flux_fit": f, "x_err": e,
             "y_err": e, "flux_err": e * f, "qfit": e, "flags": flags},
            {"flux": "flux_fit", "flux_error": "flux_err", "x": "x_fit", "y": "y_fit"},
        ),
        "DAOPHOT": (
            {"ID": k, "XCENTER": x, "YCENTER": y, "MAG": m, "MERR": e, "MSKY": e, "CHI": e},
            {"x": "XCENTER", "y": "YCENTER", "magnitude": "MAG", "magnitude_error": "MERR", "star": None},
        ),
        "ALLFRAME": (
            {"id": k, "x": x, "y": y, "mag": m, "err": e, "sky": e, "chi": e},
            {"magnitude": "mag", "magnitude_error": "err"},
        ),
        "LSST sources": (
            {"sourceId": k + 10**17, "visit": k % 3 + 100, "detector": k % 2, "band": np.full(N, "g"), "coord_ra": ra,
             "coord_dec": dec, "x": x, "y": y, "psfFlux": f, "psfFluxErr": e * f, "apFlux_12_0_instFlux": f,
             "midpointMjdTai": np.full(N, 60000.1)},
            {"flux": "psfFlux", "flux_error": "psfFluxErr", "exposure": "visit", "detector": "detector",
             "band": "band", "time": "midpointMjdTai", "ra": "coord_ra", "star": None},
        ),
        "HSC": (
            {"object_id": k + 10**16, "ra": ra, "dec": dec, **_bands("grizy", m, "{band}_psfflux_mag"),
             **_bands("grizy", e, "{band}_psfflux_magerr"), **_bands("grizy", m, "{band}_cmodel_mag"),
             **_bands("grizy", e, "{band}_cmodel_magerr"), "a_g": e},
            {"magnitude": "{band}_psfflux_mag", "magnitude_error": "{band}_psfflux_magerr", "bands": [*"grizy"]},
        ),
        "S-PLUS": (
            {"ID": k.astype(str), "RA": ra, "DEC": dec, "X": x, "Y": y, **_bands(medium, m, "{band}_PStotal"),
             **_bands(medium, e, "e_{band}_PStotal")},
            {"magnitude": "{band}_PStotal", "magnitude_error": "e_{band}_PStotal", "bands": list(medium), "ra": "RA"},
        ),
        "J-PLUS": (
            {"TILE_ID": np.full(N, 85560), "NUMBER": k, "ALPHA_J2000": ra, "DELTA_J2000": dec, "X_IMAGE": x,
             "Y_IMAGE": y, "MAG_APER_6_0": m, "MAG_ERR_APER_6_0": e, "FLAGS": flags,
             "FILTER_NAME": np.full(N, "J0378")},
            {"magnitude": "MAG_APER_6_0", "magnitude_error": "MAG_ERR_APER_6_0", "band": "FILTER_NAME",
             "exposure": None},
        ),
        "SkyMapper": (
            {"object_id": k + 10**8, "raj2000": ra, "dej2000": dec, **bits, **_bands("uvgriz", m, "{band}_psf"),
             **_bands("uvgriz", e, "e_{band}_psf"), **_bands("uvgriz", m, "{band}_petro"),
             **_bands("uvgriz", e, "e_{band}_petro")},
            {"magnitude": "{band}_psf", "magnitude_error": "e_{band}_psf", "bands": [*"uvgriz"], "dec": "dej2000"},
        ),
        "PS1": (
            {"objID": k + 10**17, "raMean": ra, "decMean": dec, **_bands("grizy", m, "{band}MeanPSFMag"),
             **_bands("grizy", e, "{band}MeanPSFMagErr"), **_bands("grizy", m, "{band}MeanKronMag")},
            {"magnitude": "{band}MeanPSFMag", "magnitude_error": "{band}MeanPSFMagErr", "bands": [*"grizy"]},
        ),
        "VizieR": (
            {"RAJ2000": ra, "DEJ2000": dec, **_bands("gri", m, "{band}mag"), **_bands("gri", e, "e_{band}mag")},
            {"magnitude": "{band}mag", "magnitude_error": "e_{band}mag", "bands": [*"gri"], "ra": "RAJ2000"},
        ),
        "ZTF": (
            {"jd": np.full(N, 2459000.1), "fid": k % 2 + 1, "ccdid": k % 16, "qid": k % 4, "ra": ra, "dec": dec,
             "xpos": x, "ypos": y, "magpsf": m, "sigmapsf": e, "magap": m, "sigmagap": e, "magzpsci": m},
            {"magnitude": "magpsf", "magnitude_error": "sigmapsf", "band": "fid", "time": "jd", "x": "xpos",
             "detector": ("ccdid", "qid")},
        ),
        "LAST": (
            {"X": x, "Y": y, "X1": x, "Y1": y, "RA": ra, "Dec": dec, "MAG_PSF": m, "MAGERR_PSF": e, "MAG_APER_2": m,
             "MAGERR_APER_2": e, "FLUX_PSF": f, "FLAGS": flags, "SN": 1 / e},
            {"magnitude": "MAG_PSF", "magnitude_error": "MAGERR_PSF", "dec": "Dec", "x": "X"},
        ),
        "own text": (
            {"expid": np.repeat(["a", "b", "c"], N // 3), "filter": np.full(N, "V"), "airmass": np.full(N, 1.3),
             "mag": m, "mag_error": e, "dateobs": np.full(N, "2026-01-31T01:02:03")},
            {"exposure": "expid", "band": "filter", "airmass": "airmass", "time": "dateobs",
             "magnitude_error": "mag_error"},
        ),
        "bands at the end": (
            {"ra": ra, "dec": dec, **_bands("BVR", m, "mag_{band}"), **_bands("BVR", e, "err_mag_{band}")},
            {"magnitude": "mag_{band}", "magnitude_error": "err_mag_{band}", "bands": [*"BVR"]},
        ),
        "references beside": (
            {"x": x, "y": y, "inst_mag": m, "inst_mag_err": e, **_bands("gr", m, "{band}_ps1"),
             **_bands("gr", e, "e_{band}_ps1")},
            {"magnitude": "inst_mag", "magnitude_error": "inst_mag_err", "bands": None},
        ),
        "sexagesimal": (
            {"RA": np.full(N, "10:00:00.1"), "DEC": np.full(N, "+02:00:00.1"), "mag": m, "emag": e, "xpix": x,
             "ypix": y},
            {"magnitude": "mag", "magnitude_error": "emag", "ra": "RA", "x": "xpix", "y": "ypix"},
        ),
        "apertures alone": (
            {"X_IMAGE": x, "Y_IMAGE": y, "MAG_APER": np.c_[m, m], "MAGERR_APER": np.c_[e, e]},
            {"apertures": "MAG_APER", "aperture_errors": "MAGERR_APER", "magnitude": None},
        ),
    }  # fmt: skip
