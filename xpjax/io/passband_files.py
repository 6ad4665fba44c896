"""Transmission curves on disk: read in the usual formats, recognised by content; written as ECSV, a file for each band.

Own files are ECSV with the columns `wavelength` and `transmission`, and in the header: name, label (of the system),
order (in the system), detector, magnitude, zero_point [mag], and whatever `Passband.meta` holds. Others that are read:

    text       two columns with blanks, commas, semicolons or tabs between; photon counting, AB
    VOTable    of the SVO Filter Profile Service (Rodrigo & Solano 2020), with its detector type and zero point
    speclite   ECSV with the columns `wavelength` and `response`; photon counting, AB
    sedpy      `KFILTER 4000.0 0.1` rows of .par files [Angstrom]; photon counting, AB
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpjax.constants import SPEED_OF_LIGHT
from xpjax.errors import XpjaxError
from xpjax.io.catalogue import check_output, expanded, write_bytes
from xpjax.io.folders import shipped_passbands
from xpjax.records import Passband, PassbandSet

PathLike: TypeAlias = str | os.PathLike[str]

SUFFIXES = (".ecsv", ".dat", ".txt", ".csv", ".ascii", ".par", ".xml", ".vot")
"""Suffixes of the files that are taken for curves in a folder; their formats are told by content."""
NO_CURVES = ("readme", "license", "licence", "notice", "provenance", "copying")
"""Stems of files that are no curves, whatever their suffix."""
COMMENTS = ("#", "!", "%")
"""What lines of comments in text begin with."""
HEADER = ("name", "label", "order", "detector", "magnitude", "zero_point", "system")
"""Entries of a header that are not `Passband.meta`."""
_VALUES = ("transmission", "response", "throughput")
SAY_DETECTOR = 'pass detector="photon" or detector="energy" (--detector)'
SAY_UNIT = "pass unit= (--unit): nm, Angstrom, um or another length"


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
    text files; None takes it from their header, or guesses it from the range: meta["wavelength_unit_guessed"] has it.
    detector, magnitude: replace what the files say; zero points stay with their magnitude system. clip sets negative
    samples to zero (meta["clipped"]: how many), normalize divides by the peak (meta["normalized_by"]).

    Raises FileNotFoundError, and ValueError for files that hold no curve, saying where and what to do.
    """
    files, home = _files(path)
    curves = [_read(file, unit, detector) for file in files]
    bands = [_passband(curve, detector, magnitude, clip, normalize) for curve in curves]
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

    extinction: ECSV has a column of this name [mag/airmass] in place of a transmission. Raises ValueError for files
    without a curve; what the values may be is for the caller to judge.
    """
    curve = _read(expanded(path), unit, "photon", ("extinction",) if extinction else _VALUES)
    _check_rows(curve)
    upward = slice(None, None, 1 if curve.wavelength[-1] > curve.wavelength[0] else -1)
    return curve.wavelength[upward].copy(), curve.transmission[upward].copy(), curve.meta


def write_passbands(path: PathLike, passbands: PassbandSet | Passband, *, overwrite: bool = False) -> None:
    """Write passbands as ECSV: a file for each into a folder, or one into a file NAME.ecsv; every digit is kept.

    Files appear whole or not at all, and so does a new folder. Raises FileExistsError for what exists, unless
    overwrite, and ValueError for several passbands in one file or a folder with other curves, which would join the set.
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
    if path.exists():
        if not path.is_dir():
            raise NotADirectoryError(f"the output {path} is a file; name a folder, or a file with the suffix .ecsv")
        if not overwrite:
            raise FileExistsError(f"the folder {path} exists; name another one, or overwrite it with --overwrite")
        others = sorted(f.name for f in _curve_files(path) if f.name not in files)
        if others:
            raise XpjaxError(f"{path} holds other curves, {others[:5]}, which would join {label}; remove them first")
        for name, data in files.items():
            write_bytes(path / name, data)
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no directory {path.parent} for the folder {path.name}; make it first")
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
    shipped = {_key(known): folder for known, folder in shipped_passbands().items()}
    if _key(str(name)) in shipped:
        return shipped[_key(str(name))]
    close = difflib.get_close_matches(_key(str(name)), shipped, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(shipped[c].name for c in close)}?" if close else ""
    known = [folder.name for folder in shipped.values()]
    raise XpjaxError(f"no file or folder {str(name)!r}, and no shipped passbands of this name; {hint or known}")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


# --- from files to passbands ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Curve:
    """What a file says: wavelength (n,) [nm] and transmission (n,), in its order; rows: their places, for messages."""

    path: Path
    name: str
    label: str
    wavelength: np.ndarray
    transmission: np.ndarray
    rows: Sequence[str]
    detector: str = "photon"
    magnitude: str = "AB"
    zero_point: float | None = None
    order: float | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    system: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
        and file.suffix.lower() in SUFFIXES
        and not file.name.startswith(".")
        and file.stem.lower() not in NO_CURVES
    )


def _stem_label(files: Sequence[Path], home: Path | None) -> str:
    """A label where the files agree on none: the folder's name, or the only file's."""
    folders = {file.resolve().parent for file in files}
    if home is not None:
        stem = home.resolve().name
    elif len(files) == 1:
        stem = files[0].stem
    else:
        stem = folders.pop().name if len(folders) == 1 else ""
    return _plain_name(stem) or "passbands"


def _plain_name(text: str) -> str:
    """The text as a name of a passband or system: without what columns cannot be called."""
    return re.sub(r"[\s/\\,:]+", "_", text.strip())


def _check_rows(curve: _Curve) -> None:
    """ValueError, with the row, for a curve whose numbers are not finite or whose wavelengths are not in order."""
    wavelength = curve.wavelength
    if len(wavelength) < 2:
        raise XpjaxError(f"{curve.path}: {len(wavelength)} row(s) of numbers, but a curve has two or more")
    for what, array in (("wavelength", wavelength), ("transmission", curve.transmission)):
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise XpjaxError(
                f"{curve.path}: {curve.rows[bad[0]]}: the {what} is {array[bad[0]]}; drop the row or mend it"
            )
    steps = np.diff(wavelength)
    bad = np.flatnonzero(steps * (1 if wavelength[-1] > wavelength[0] else -1) <= 0)
    if len(bad):
        k = int(bad[0])
        raise XpjaxError(
            f"{curve.path}: {curve.rows[k + 1]}: the wavelengths are not monotonic: {wavelength[k + 1]:g} nm follows "
            f"{wavelength[k]:g} nm; sort the rows and drop repeated ones"
        )


def _passband(curve: _Curve, detector: str | None, magnitude: str | None, clip: bool, normalize: bool) -> Passband:
    """The curve as a record. Raises ValueError, with the row, for a curve that is none."""
    _check_rows(curve)
    wavelength, transmission, meta = curve.wavelength, curve.transmission, dict(curve.meta)
    if clip and transmission.min() < 0:
        meta["clipped"] = int(np.sum(transmission < 0))
        transmission = np.maximum(transmission, 0.0)
    if normalize and transmission.max() > 0:
        meta["normalized_by"] = float(transmission.max())
        transmission = transmission / transmission.max()
    chosen = magnitude or curve.magnitude
    if not chosen:
        raise XpjaxError(f"{curve.path}: its magnitude system is not AB, ST or Vega; pass magnitude= (--magnitude)")
    try:
        return Passband(
            curve.name,
            wavelength,
            transmission,
            detector or curve.detector,
            chosen,
            curve.zero_point if chosen == curve.magnitude else None,
            meta,
        )
    except ValueError as exc:
        raise XpjaxError(f"{curve.path}: {exc}") from exc


def _mean_wavelength(band: Passband) -> float:
    x, t = band.wavelength, band.transmission
    return float(np.trapezoid(x * t, x) / np.trapezoid(t, x))


def _read(path: Path, unit: str | None, detector: str | None, values: Sequence[str] = _VALUES) -> _Curve:
    """The curve in a file, whatever its format; unit and detector where the file states none.

    values: what the second column of ECSV may be called.
    """
    data = path.read_bytes()
    if b"\0" in data or data.startswith((b"SIMPLE", b"\x1f\x8b")):
        raise XpjaxError(
            f"{path}: a binary file (FITS, gzip, ...), expected a curve as text, ECSV, VOTable or .par; unpack it, or "
            "save wavelength and transmission as two columns of text"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # comments with a degree sign or an Angstrom ring
    if text.startswith("# %ECSV"):
        return _read_ecsv(path, text, values)
    if text.lstrip().startswith("<"):
        return _read_votable(path, data, detector)
    if re.search(r"^\s*kfilter\s", text, re.IGNORECASE | re.MULTILINE):
        return _read_par(path, text)
    return _read_text(path, text, unit)


# --- tables of text ---------------------------------------------------------------------------------------------------

_WAVELENGTH = re.compile(r"^(wave|wl|lam|λ)", re.IGNORECASE)
_TRANSMISSION = re.compile(r"trans|throughput|response|^pass|^t$|^qe$|efficiency|extinction", re.IGNORECASE)


def _split(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _delimiter(line: str) -> str | None:
    """What separates the cells of a row; None for blanks and tabs."""
    return next((mark for mark in (";", ",") if mark in line), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _columns(path: Path, header: Sequence[str], width: int) -> tuple[int, int]:
    """Which columns are wavelength and transmission. Raises ValueError where neither names nor number tell."""
    found = [[i for i, cell in enumerate(header) if pattern.search(cell)] for pattern in (_WAVELENGTH, _TRANSMISSION)]
    if [len(columns) for columns in found] == [1, 1] and found[0] != found[1]:
        return found[0][0], found[1][0]
    if width == 2:
        return 0, 1
    named = f"of the names {list(header)}" if header else "without names"
    raise XpjaxError(
        f"{path}: {width} column(s) {named}, expected two, or one called wavelength and one called transmission; "
        "keep these two"
    )


def _numbers(path: Path, lines: Sequence[tuple[int, str]], delimiter: str | None, width: int) -> np.ndarray:
    """The cells (n, width) of numbered lines. Raises ValueError with the line for a row or cell that is odd."""
    cells = [_split(line, delimiter) for _, line in lines]
    for (number, line), row in zip(lines, cells, strict=True):
        if len(row) != width:
            raise XpjaxError(f"{path}: line {number}: {len(row)} cell(s) in {line.strip()!r}, expected {width}")
    try:
        return np.array(cells, float).reshape(len(cells), width)
    except ValueError:
        for (number, _), row in zip(lines, cells, strict=True):
            for cell in row:
                if not _is_number(cell):
                    comma = "; write decimal points, not commas" if re.fullmatch(r"[-+]?\d*,\d+", cell) else ""
                    raise XpjaxError(
                        f"{path}: line {number}: {cell!r} is no number{comma or '; drop the row or mend it'}"
                    ) from None
        raise


def _read_text(path: Path, text: str, unit: str | None) -> _Curve:
    """Columns with or without a line of names, after, between or before comments (#; whole lines of ! and % too)."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    comments = [line.lstrip()[1:] for _, line in lines if line.lstrip().startswith(COMMENTS)]
    lines = [(number, line.partition("#")[0]) for number, line in lines if not line.lstrip().startswith(COMMENTS)]
    if not lines:
        raise XpjaxError(f"{path}: no rows, expected wavelength and transmission in two columns")
    first = _split(lines[0][1], _delimiter(lines[0][1]))
    named = not any(_is_number(cell) for cell in first)
    body = lines[1:] if named else lines
    if not body:
        raise XpjaxError(f"{path}: no rows of numbers, expected wavelength and transmission in two columns")
    delimiter = _delimiter(body[0][1])
    width = len(_split(body[0][1], delimiter))
    header = first if named else []
    if not named:  # the names may stand in the last comment
        last = comments[-1] if comments else ""
        cells = _split(last, _delimiter(last))
        header = cells if len(cells) == width and any(_WAVELENGTH.search(cell) for cell in cells) else []
    i, j = _columns(path, header, width)
    table = _numbers(path, body, delimiter, width)
    meta: dict[str, Any] = {"source": path.name}
    if unit is None:
        unit, guessed = _text_unit(path, header, comments, table[:, i], table[:, j])
        if guessed:
            meta["wavelength_unit_guessed"] = unit
    rows = [f"line {number}" for number, _ in body]
    return _Curve(path, _plain_name(path.stem), "", to_nm(table[:, i], unit, path), table[:, j], rows, meta=meta)


_UNIT_WORDS = {
    "Angstrom": re.compile(r"(?i:[aå]ngstr[oö]m)|\bAA\b|_AA\b|[\[(]\s*(?:AA|A|Å)\s*[\])]|Å"),
    "nm": re.compile(r"(?i:nanomet(?:er|re))|\bnm\b|_nm\b"),
    "um": re.compile(r"(?i:\bmicro(?:n|met(?:er|re)))|\b[uµμ]m\b|_um\b"),
}


def _text_unit(
    path: Path, header: Sequence[str], comments: Sequence[str], wavelength: np.ndarray, transmission: np.ndarray
) -> tuple[str, bool]:
    """The unit of wavelengths that a text file states, or that their range suggests, and whether it is the latter."""

    def stated(words: Sequence[str]) -> list[str]:
        return [unit for unit, pattern in _UNIT_WORDS.items() if any(pattern.search(word) for word in words)]

    in_header, in_comments = stated(header), stated(comments)
    if len(in_header) == 1:
        return in_header[0], False
    # Where the light is: tables may begin and end far out with zeros.
    weight = np.where(np.isfinite(wavelength) & (transmission > 0), transmission, 0.0)
    weight = weight if 0 < weight.sum() < np.inf else np.isfinite(wavelength).astype(float)
    middle = np.nan_to_num(wavelength, posinf=0.0, neginf=0.0) @ weight / max(weight.sum(), 1.0e-300)
    ranges = {"Angstrom": (2500, np.inf), "nm": (250, 2500), "um": (0.2, 3)}
    likely = next((unit for unit, (low, high) in ranges.items() if low <= middle < high), None)
    if len(in_comments) == 1 and likely in (None, in_comments[0]):
        return in_comments[0], False
    if len(in_comments) == 1 or likely is None:
        says = f"its comments say {in_comments[0]}" if len(in_comments) == 1 else "the header names no unit"
        looks = f" but look like {likely}" if likely else ""
        raise XpjaxError(
            f"{path}: {says}, and the wavelengths lie within {np.nanmin(wavelength):g}..{np.nanmax(wavelength):g}"
            f"{looks}; {SAY_UNIT}"
        )
    return likely, True


_IN_NM = {"nm": 1.0, "nanometer": 1.0, "nanometre": 1.0}
_IN_UM = ("um", "µm", "μm", "micron", "micrometer", "micrometre")
_IN_ANGSTROM = ("angstrom", "ångström", "aa", "a", "å")


def to_nm(wavelength: np.ndarray, unit: str, path: Path | str) -> np.ndarray:
    """Wavelengths (n,) of a unit in nm. Raises ValueError for what is no unit of length."""
    key = str(unit).strip().lower()
    key = key[:-1] if len(key) > 2 and key.endswith("s") else key
    # Divided, not multiplied by 0.1: 4001 Angstrom are then the number nearest to 400.1 nm.
    if key in _IN_ANGSTROM:
        return wavelength / 10.0
    if key in _IN_NM:
        return wavelength * 1.0
    if key in _IN_UM:
        return wavelength * 1000.0
    from astropy.units import Unit

    try:
        return np.asarray((wavelength * Unit(unit)).to_value("nm"))
    except (ValueError, TypeError) as exc:
        raise XpjaxError(f"{path}: {str(unit)!r} is no unit of wavelengths; {SAY_UNIT}") from exc


def _read_par(path: Path, text: str) -> _Curve:
    """sedpy's .par: rows `KFILTER lambda pass` [Angstrom], the order of columns from its typedef."""
    fields = re.search(r"typedef\s+struct\s*\{([^}]*)\}\s*kfilter", text, re.IGNORECASE)
    names = [str(f) for f in re.findall(r"\w+\s+(\w+)\s*(?:\[\d+\])?\s*;", fields.group(1))] if fields else []
    names = names or ["lambda", "pass"]
    lines = [
        (number, line.strip()[len("kfilter") :])
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r"\s*kfilter\s", line, re.IGNORECASE)
    ]
    if "lambda" not in names or "pass" not in names:
        raise XpjaxError(f"{path}: the columns are {names}, expected lambda and pass")
    table = _numbers(path, lines, None, len(names))
    wavelength, transmission = table[:, names.index("lambda")], table[:, names.index("pass")]
    rows = [f"line {number}" for number, _ in lines]
    meta = {"source": path.name}
    return _Curve(path, _plain_name(path.stem), "", to_nm(wavelength, "Angstrom", path), transmission, rows, meta=meta)


# --- ECSV -------------------------------------------------------------------------------------------------------------


def _read_ecsv(path: Path, text: str, values: Sequence[str]) -> _Curve:
    """Own and speclite's files: astropy reads the header; its reader of rows would take most of the time."""
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    lines = list(enumerate(text.splitlines(), 1))
    try:
        header = get_header_from_yaml([line[2:] for _, line in lines[1:] if line.startswith("#")])
        fields = {str(column["name"]).lower(): column for column in header["datatype"]}
    except (YamlParseError, KeyError, TypeError) as exc:
        raise XpjaxError(f"{path}: the ECSV header cannot be read: {exc}; write the file again") from exc
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    x = next((name for name in fields if _WAVELENGTH.search(name)), None)
    y = next((name for name in values if name in fields), None)
    if x is None or y is None or not lines:
        raise XpjaxError(f"{path}: the columns are {list(fields)}, expected wavelength and {values[0]}, and rows")
    names = list(fields)
    delimiter = "," if header.get("delimiter") == "," else None
    table = _numbers(path, lines[1:], delimiter, len(names))
    unit = fields[x].get("unit")
    if not unit:
        raise XpjaxError(f"{path}: the column {x} has no unit; write `unit: nm` into the header")
    transmission = table[:, names.index(y)]
    if fields[y].get("unit"):
        from astropy.units import Unit

        plain = "mag" if y == "extinction" else ""
        try:
            transmission = np.asarray(Unit(fields[y]["unit"]).to(plain, transmission))
        except (ValueError, TypeError) as exc:
            expected = plain or "a plain fraction"
            raise XpjaxError(f"{path}: the column {y} is in {fields[y]['unit']}, expected {expected}") from exc
    meta = dict(header.get("meta") or {})
    # speclite has its names under other words.
    name, label = meta.get("name", meta.get("band_name")), meta.get("label", meta.get("group_name"))
    zero_point, order = (_number_or_none(path, meta, key) for key in ("zero_point", "order"))
    return _Curve(
        path,
        _plain_name(str(name)) if name else _plain_name(path.stem),
        _plain_name(str(label)) if label else "",
        to_nm(table[:, names.index(x)], unit, path),
        transmission,
        [f"line {number}" for number, _ in lines[1:]],
        str(meta.get("detector", "photon")),
        str(meta.get("magnitude", "AB")),
        zero_point,
        order,
        {key: value for key, value in meta.items() if key not in (*HEADER, "band_name", "group_name")},
        dict(meta.get("system") or {}),
    )


def _number_or_none(path: Path, meta: Mapping[str, Any], key: str) -> float | None:
    if meta.get(key) is None:
        return None
    try:
        return float(meta[key])
    except (TypeError, ValueError):
        raise XpjaxError(f"{path}: {key} in the header is {meta[key]!r}, expected a number") from None


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


# --- SVO --------------------------------------------------------------------------------------------------------------


def _read_votable(path: Path, data: bytes, detector: str | None) -> _Curve:
    """A VOTable of the SVO Filter Profile Service."""
    from astropy.io.votable import parse

    expected = "expected a VOTable of a transmission curve, as the SVO Filter Profile Service gives it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the service's units and dates are not quite the standard's
            votable = parse(io.BytesIO(data), verify="ignore")
            table = next(votable.iter_tables(), None)
            columns = None if table is None else table.to_table(use_names_over_ids=True)
    except Exception as exc:  # astropy raises whatever its parsers do
        raise XpjaxError(f"{path}: {expected}, found XML that cannot be read as one: {exc}") from exc
    if table is None or columns is None or not {"Wavelength", "Transmission"} <= {*columns.colnames}:
        found = "no table" if columns is None else f"the columns {columns.colnames}"
        raise XpjaxError(f"{path}: {expected}, found {found}; download it again, by its filter id")
    params: dict[str, Any] = {}
    for param in table.params:
        params.setdefault(str(param.name), param.value)
    unit = columns["Wavelength"].unit or params.get("WavelengthUnit") or "Angstrom"
    wavelength, transmission = (np.ma.filled(columns[n], np.nan).astype(float) for n in ("Wavelength", "Transmission"))
    return _svo_curve(path, params, to_nm(wavelength, str(unit), path), transmission, detector)


def svo_passband(
    origin: PathLike,
    params: Mapping[str, Any],
    wavelength: np.ndarray,
    transmission: np.ndarray,
    *,
    detector: str | None = None,
    magnitude: str | None = None,
    clip: bool = False,
    normalize: bool = False,
) -> Passband:
    """The passband of a curve (n,) [nm] and the service's parameters by their names there; origin for messages.

    The options and errors of `read_passbands`.
    """
    curve = _svo_curve(Path(origin), params, wavelength, transmission, detector)
    return _passband(curve, detector, magnitude, clip, normalize)


def _svo_curve(
    path: Path, params: Mapping[str, Any], wavelength: np.ndarray, transmission: np.ndarray, otherwise: str | None
) -> _Curve:
    """A curve of the SVO Filter Profile Service; otherwise: the detector where nothing tells it.

    DetectorType is 0 for energy and 1 for photon counters; where it is not stated, the one that gives the stated
    WavelengthPivot. ZeroPoint [Jy] is the flux of magnitude Mag0; the service converts between f_nu and f_lambda with
    that pivot wavelength. Its AB zero point of 3631 Jy is the definition's.
    """
    ident = _text(params.get("filterID"))
    pivot = _float(params.get("WavelengthPivot"))
    stated = _text(params.get("DetectorType"))
    meta: dict[str, Any] = {"source": f"SVO Filter Profile Service, {ident}" if ident else path.name}
    if stated in ("0", "1", "0.0", "1.0"):
        detector = "photon" if stated.startswith("1") else "energy"
    elif np.isfinite(pivot):
        away = {d: abs(_pivot(wavelength, transmission, d) * 10 - pivot) for d in ("photon", "energy")}
        detector = min(away, key=lambda d: away[d])
        meta["detector_from"] = "WavelengthPivot"
    elif otherwise:
        detector = otherwise
    else:
        raise XpjaxError(
            f"{path}: neither DetectorType nor WavelengthPivot tells what the detector counts; {SAY_DETECTOR}"
        )
    magnitude = {"vega": "Vega", "ab": "AB", "st": "ST", "": "AB"}.get(_text(params.get("MagSys")).lower(), "")
    zero, unit = _float(params.get("ZeroPoint")), _text(params.get("ZeroPointUnit")) or "Jy"
    zero_point = None
    if np.isfinite(zero) and zero > 0 and unit == "Jy":
        meta["zero_point_jy"] = zero
        reference = _float(params.get("Mag0"))
        if magnitude == "Vega":
            center = pivot / 10 if np.isfinite(pivot) else _pivot(wavelength, transmission, detector)
            # f_lambda [W m-2 nm-1] = f_nu c / pivot^2, c in nm/s.
            zero_point = 2.5 * np.log10(zero * 1e-26 * 1e9 * SPEED_OF_LIGHT / center**2)
        elif magnitude == "AB" and abs(zero - 3631) > 1:
            zero_point = 2.5 * np.log10(zero * 1e-26)
        if zero_point is not None:
            zero_point = float(zero_point + (reference if np.isfinite(reference) else 0.0))
    for key, word in _SVO_META.items():
        if _text(params.get(word)):
            meta[key] = _text(params.get(word))
    facility, _, rest = ident.rpartition("/")
    instrument, _, band = rest.partition(".")
    return _Curve(
        path,
        _plain_name(band or path.stem),
        _plain_name(instrument or facility),
        wavelength,
        transmission,
        [f"row {k + 1}" for k in range(len(wavelength))],
        detector,
        magnitude,
        zero_point,
        None,
        meta,
    )


_SVO_META = {
    "filter_id": "filterID",
    "description": "Description",
    "facility": "Facility",
    "instrument": "Instrument",
    "reference": "ProfileReference",
    "calibration_reference": "CalibrationReference",
    "comments": "Comments",
}


def _text(value: Any) -> str:
    return "" if value is None or value is np.ma.masked else str(value).strip()


def _float(value: Any) -> float:
    try:
        return float(np.ma.filled(np.ma.asarray(value, float), np.nan))
    except (TypeError, ValueError):
        return np.nan


def _pivot(wavelength: np.ndarray, transmission: np.ndarray, detector: str) -> float:
    """Pivot wavelength [nm] by plain trapezoids, which agree with the service's to eight digits."""
    power = 1 if detector == "photon" else 0
    above, below = (np.trapezoid(transmission * wavelength ** (power - n), wavelength) for n in (0.0, 2.0))
    return float(np.sqrt(above / below))
