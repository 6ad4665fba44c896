"""Transmission curves on disk: read in the usual formats, recognized by content; written as ECSV, a file for each band.

Own files are ECSV with the columns `wavelength` and `transmission`, and in the header: name, label (of the system),
order (in the system), detector, magnitude, zero_point [mag], and whatever `Passband.meta` holds. Others that are read,
packed (gz, bz2, xz, zip) or not:

    text       columns with blanks, commas, semicolons or tabs between; comments as `# key: value`, `=`, tab or blank
    VOTable    of the SVO Filter Profile Service (Rodrigo & Solano 2020), with its detector type and zero point
    FITS       one table with the columns of a curve, with TUNIT and TNULL
    speclite   ECSV with the columns `wavelength` and `response`
    sedpy      `KFILTER 4000.0 0.1` rows of .par files [Angstrom]

Headers in all of them may state the detector (`detector`, pyphot's DETECTOR, the SVO's DetectorType), the magnitude
system (`magnitude`, MagSys), the zero point (`zero_point` [mag], ZeroPoint with a unit such as Jy), the units
(WAVELENGTH_UNIT, `[nm]` or `[%]` behind the names of columns) and the name; otherwise photon counting and AB hold.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import shipped_passbands
from xpjax.core.types import PathLike
from xpjax.core.units import to_nm
from xpjax.io.atomic import check_folder, check_output, expanded, write_bytes
from xpjax.io.streams import plain_suffix
from xpjax.synthetic.files.curve import FLUX, columns_of, curve_of, passband_of, plain_name, plain_stem, stated_units
from xpjax.synthetic.files.sheet import read_sheet
from xpjax.synthetic.passband import Passband, PassbandSet

SUFFIXES = (".ecsv", ".dat", ".txt", ".csv", ".ascii", ".par", ".xml", ".vot", ".fits", ".fit")
"""Suffixes, before those of packing, of files that are taken for curves in a folder; content tells their formats."""
NO_CURVES = ("readme", "license", "licence", "notice", "provenance", "copying")
"""Stems of files that are no curves, whatever their suffix."""
HEADER = ("name", "label", "order", "detector", "magnitude", "zero_point", "system")
"""Entries of a header that are not `Passband.meta`."""


def read_passbands(
    path: PathLike | Sequence[PathLike],
    *,
    label: str | None = None,
    names: Sequence[str] | None = None,
    unit: str | None = None,
    detector: str | None = None,
    magnitude: str | None = None,
    clip: bool = False,
    normalize: bool = False,
) -> PassbandSet:
    """Transmission curves from a file, a list of files in this order, or all of a folder; wavelengths come in nm.

    A folder is in the order of its headers' `order` where all files have one, else by mean wavelength. label, names:
    replace those of the files, which default to the stems; names in the order of the result. unit: of wavelengths in
    files that state none; files that state another one are refused. Without it, the unit of files that state none is
    guessed from the range: meta["wavelength_unit_guessed"] has it. detector, magnitude: replace what the files say;
    zero points stay with their magnitude system. clip sets negative samples to zero (meta["clipped"]: how many),
    normalize divides by the peak (meta["normalized_by"]).

    Raises FileNotFoundError, and XpjaxError for files that hold no curve or whose header is not understood, saying
    where and what to do.
    """
    files, home = _files(path)
    curves = [curve_of(read_sheet(file), unit, detector, magnitude) for file in files]
    bands = [passband_of(curve, clip=clip, normalize=normalize) for curve in curves]
    if home is not None:
        ordered = all(curve.order is not None for curve in curves)
        keys = [float(c.order or 0) if ordered else _mean_wavelength(b) for c, b in zip(curves, bands, strict=True)]
        rank = np.argsort(keys, kind="stable")
        curves, bands = [curves[i] for i in rank], [bands[i] for i in rank]
    if names is not None:
        if isinstance(names, str) or len(names) != len(bands):
            raise XpjaxError(f"names must be {len(bands)} names, for {[b.name for b in bands]}; found {names!r}")
        bands = [dataclasses.replace(band, name=name) for band, name in zip(bands, names, strict=True)]
    holder: dict[str, Path] = {}
    for band, curve in zip(bands, curves, strict=True):
        if band.name in holder:
            raise XpjaxError(
                f"{holder[band.name]} and {curve.path} both have a passband {band.name!r}; give names=, or drop one"
            )
        holder[band.name] = curve.path
    labels = {curve.label for curve in curves}
    shared = labels.pop() if len(labels) == 1 else ""
    system = next((curve.system for curve in curves if curve.system), {})
    return PassbandSet(label or shared or _stem_label(files, home), tuple(bands), system)


def read_curve(
    path: PathLike, *, extinction: bool = False, unit: str | None = None
) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
    """Wavelength (n,) ascending [nm], values (n,) as they stand, and header of any file that `read_passbands` reads.

    extinction: a column of this name [mag/airmass] stands in place of a transmission. Raises XpjaxError for files
    without a curve; what the values may be is for the caller to judge.
    """
    curve = curve_of(read_sheet(expanded(path)), unit, "photon", "AB", extinction=extinction)
    upward = slice(None, None, 1 if curve.wavelength[-1] > curve.wavelength[0] else -1)
    return curve.wavelength[upward].copy(), curve.transmission[upward].copy(), curve.meta


def read_spectrum(path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength (n,) [nm] and flux per wavelength (n,), in any unit, of a spectrum of alpha Lyr.

    It is read from any format that `read_passbands` reads; rows without a number are left out. Where no unit is stated,
    wavelengths are in the one that puts the peak, near 400 nm, within 100..1000 nm. Raises XpjaxError.
    """
    path = expanded(path)
    sheet = read_sheet(path)
    if len(sheet.columns) < 2:
        raise XpjaxError(f"{path}: expected a spectrum with wavelength and flux as two columns of numbers")
    i, j = columns_of(sheet, FLUX, "flux")
    wavelength, flux = (sheet.numbers(k, what, gaps=True) for k, what in ((i, "wavelength"), (j, "flux")))
    finite = np.isfinite(wavelength) & np.isfinite(flux)
    wavelength, flux = wavelength[finite], flux[finite]
    if len(wavelength) < 2 or not flux.max() > 0:
        raise XpjaxError(f"{path}: expected a spectrum with wavelength and flux as two columns of numbers")
    told = f"{sheet.names[j]} [{sheet.units[j]}]" if sheet.names else ""
    if re.search(r"hz|(?<![a-z])(?:[mu]?jy|f?nu)(?![a-z])", told.lower()):
        raise XpjaxError(f"{path}: {told} is per frequency; give it per wavelength, in any unit")
    peak = wavelength[np.argmax(flux)]
    stated = [unit for _, unit in stated_units(sheet, i)]
    wavelength = to_nm(wavelength, (stated or ["um" if peak < 10 else "nm" if peak < 1000 else "Angstrom"])[0], path)
    if not wavelength.min() < 550 < wavelength.max():
        raise XpjaxError(
            f"{path}: the spectrum covers {wavelength.min():g}..{wavelength.max():g} nm, and is scaled at 550 nm; give "
            "one that covers it, or state the unit of its wavelengths"
        )
    return wavelength, flux


def write_passbands(path: PathLike, passbands: PassbandSet | Passband, *, overwrite: bool = False) -> None:
    """Write passbands as ECSV: a file for each band in a folder, or one file; every digit is kept.

    Parameters
    ----------
    path : str or path
        A folder, or for a single passband a file NAME.ecsv. A new folder appears whole or not at all.
    passbands : PassbandSet or Passband
        The passbands; `load_passbands` reads them back.
    overwrite : bool
        Replace files that exist.

    Raises
    ------
    FileExistsError
        If the output exists, unless `overwrite`.
    XpjaxError
        If several passbands are to go to one file, or the folder has other curves, which would join the set.

    Examples
    --------
    >>> xpjax.synthetic.write_passbands("mine", xpjax.load_passbands("sdss2010:g,r"))
    >>> xpjax.load_passbands("mine")
    PassbandSet('sdss2010', g, r)
    """
    path = expanded(path)
    bands = (passbands,) if isinstance(passbands, Passband) else passbands.passbands
    label, system = ("", {}) if isinstance(passbands, Passband) else (passbands.label, passbands.meta)
    if path.suffix.lower() == ".ecsv":
        if len(bands) > 1:
            raise XpjaxError(f"{path}: a file holds one passband, not {len(bands)}; name a folder")
        check_output(path, overwrite=overwrite)
        write_bytes(path, _ecsv_bytes(bands[0], label, None, system))
        return
    files: dict[str, bytes] = {}
    for order, band in enumerate(bands, 1):
        stem, taken = band.name, {name.lower() for name in files}
        while f"{stem}.ecsv".lower() in taken:  # some disks do not tell g from G; the header does
            stem += f"_{order}"
        name = f"{stem}.ecsv"
        files[name] = _ecsv_bytes(band, label, order if len(bands) > 1 else None, system)
    check_folder(path, overwrite=overwrite)
    if path.exists():
        others = sorted(f.name for f in _curve_files(path) if f.name not in files)
        if others:
            raise XpjaxError(f"{path} holds other curves, {others[:5]}, which would join {label}; remove them first")
        for name, data in files.items():
            write_bytes(path / name, data)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        for name, data in files.items():
            write_bytes(temporary / name, data)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_passbands(name: PathLike) -> Path:
    """A path that exists as it is, or else the folder of the shipped system of this name, any case, with or without _.

    Raises ValueError for another name, with close ones.
    """
    if expanded(name).exists():
        return expanded(name)
    shipped = {plain_key(known): folder for known, folder in shipped_passbands().items()}
    key = plain_key(str(name))
    if key in shipped:
        return shipped[key]
    close = difflib.get_close_matches(key, shipped, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(shipped[c].name for c in close)}?" if close else ""
    known = [folder.name for folder in shipped.values()]
    raise XpjaxError(f"no file or folder {str(name)!r}, and no shipped passbands of this name; {hint or known}")


def plain_key(name: str) -> str:
    """A name of a system without case and underscores."""
    return name.replace("_", "").lower()


# --- files ------------------------------------------------------------------------------------------------------------


def _files(path: PathLike | Sequence[PathLike]) -> tuple[list[Path], Path | None]:
    """The files to read, and the folder that they were found in."""
    if not isinstance(path, str | os.PathLike):
        files = [expanded(p) for p in path]
        if not files:
            raise XpjaxError("the list of passband files is empty; expected at least one")
    elif expanded(path).is_dir():
        folder = expanded(path)
        files = _curve_files(folder)
        if not files:
            if (folder / "system.toml").is_file():
                raise XpjaxError(f"{folder} holds no curves but a transmission chain, system.toml; build it first")
            raise XpjaxError(f"{folder} holds no curves: no file with a suffix {', '.join(SUFFIXES)}; name another one")
        return files, folder
    else:
        files = [expanded(path)]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no file or folder {file}")
    return files, None


def _curve_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and plain_suffix(file) in SUFFIXES
        and not file.name.startswith(".")
        and plain_stem(file).lower() not in NO_CURVES
    )


def _stem_label(files: Sequence[Path], home: Path | None) -> str:
    """A label where the files agree on none: the folder's name, or the only file's."""
    folders = {file.resolve().parent for file in files}
    if home is not None:
        stem = home.resolve().name
    elif len(files) == 1:
        stem = plain_stem(files[0])
    else:
        stem = folders.pop().name if len(folders) == 1 else ""
    return plain_name(stem) or "passbands"


def _mean_wavelength(band: Passband) -> float:
    x, t = band.wavelength, band.transmission
    return float(np.trapezoid(x * t, x) / np.trapezoid(t, x))


# --- own files --------------------------------------------------------------------------------------------------------


def _ecsv_bytes(band: Passband, label: str, order: int | None, system: Mapping[str, Any]) -> bytes:
    from astropy.table import Column, Table

    table = Table(
        [
            Column(np.empty(0), "wavelength", unit="nm"),
            Column(np.empty(0), "transmission", description="fraction of the light that is counted"),
        ]
    )
    entries = {
        "name": band.name,
        "label": label or None,
        "order": order,
        "detector": band.detector,
        "magnitude": band.magnitude,
        "zero_point": band.zero_point,
        **{key: value for key, value in band.meta.items() if key not in HEADER},
        "system": dict(system) or None,
    }
    table.meta.update({key: _plain_entry(value) for key, value in entries.items() if value is not None})
    header = io.StringIO()
    table.write(header, format="ascii.ecsv")
    rows = zip(band.wavelength.tolist(), band.transmission.tolist(), strict=True)
    return (header.getvalue() + "".join(f"{x!r} {t!r}\n" for x, t in rows)).encode()


def _plain_entry(value: Any) -> Any:
    """Numbers, text and lists as YAML has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain_entry(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_entry(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)
