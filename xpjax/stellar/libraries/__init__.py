"""Libraries of model spectra on disk, read file by file: wavelengths in nm and in vacuum, flux per wavelength.

    ck04      Castelli & Kurucz (2004) as STScI distributes it: ckp00/ckp00_5750.fits, a column for each log g
    nextgen   one .npz file: teff, logg, mh (n,), wave_nm (m,), flux (n, m) in bins, optionally nlte (n,)
    ferre     FERRE's text grids: namelist headers &SYNTH ... /, then a line for each node, the last label fastest
    files     a spectrum a file, FITS or text, with its labels in the file name or in FITS keywords

XP wavelengths are in vacuum, as are those of the standards behind their calibration (Montegriffo et al. 2023, A&A 674
A3), so wavelengths in air are converted, with the refractive index of Ciddor (1996, Applied Optics 35, 1566).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict, Unpack

from xpjax.core.errors import XpjaxError
from xpjax.io.atomic import expanded
from xpjax.stellar.libraries.ck04 import read_ck04
from xpjax.stellar.libraries.ferre import read_ferre
from xpjax.stellar.libraries.files import read_files
from xpjax.stellar.libraries.library import Library, Limits, check_choices, check_limits, plain_limits
from xpjax.stellar.libraries.nextgen import read_nextgen


class LibraryOptions(TypedDict, total=False):
    """What files of libraries do not say, see `read_library`."""

    nlte: bool
    medium: str | None
    per: str
    pattern: str
    keywords: Mapping[str, str] | None
    wavelengths: str | Path | None
    flux_column: int | None
    unit: str | None
    own_resolution: float | None


FORMATS: dict[str, Callable[..., Library]] = {
    "ck04": read_ck04,
    "nextgen": read_nextgen,
    "ferre": read_ferre,
    "files": read_files,
}
"""Readers by format."""


def read_library(
    format: str, path: str | Path, *, limits: Limits | None = None, **options: Unpack[LibraryOptions]
) -> Library:
    """A library by its format, one of `FORMATS`, and its folder or file.

    limits: by label (low, high) or (low, high, step), numbers or Quantities; other models are left out. Options by
    format: nextgen nlte; ferre medium, per; files pattern, keywords, wavelengths, flux_column, unit, medium,
    per, own_resolution (see `read_ck04`, `read_nextgen`, `read_ferre`, `read_files`). Raises FileNotFoundError, and
    XpjaxError for files that are none of the format, naming file, place and remedy; also while it is iterated over.
    """
    if format not in FORMATS:
        raise XpjaxError(f"unknown format {format!r} of a library; choose one of {', '.join(FORMATS)}")
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    limits = plain_limits(limits or {})
    check_choices(options.get("medium"), options.get("per"))
    try:
        library = FORMATS[format](path, limits, **options)
    except TypeError as exc:
        if "unexpected keyword" not in str(exc) and "required keyword" not in str(exc):
            raise
        raise XpjaxError(f"format {format}: {str(exc).partition(' ')[2]}; see its options") from exc
    check_limits(limits, library.names, "the library", f"{path}: ")
    return library
