"""Odd tables whose truth is known: columns with one oddity each, and the files and objects in memory that hold them.

A `Made` is a column as it is stored, and what each of its cells means. An oddity changes both; a writer stores columns
in one format. Neither looks at how xpjax reads.
"""

from __future__ import annotations

import bz2
import dataclasses
import decimal
import gzip
import io
import json
import lzma
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

N = 60
"""Rows of every table: JAX compiles once."""
TEXT = ("csv", "tsv", "semicolon", "txt", "ecsv", "sextractor")
BINARY = ("fits", "ldac", "votable", "parquet", "hdf5", "records")
MEMORY = ("pandas", "astropy", "dict", "arrow", "structured")
FORMATS = TEXT + BINARY + MEMORY
SUFFIX = {"csv": ".csv", "tsv": ".tsv", "semicolon": ".csv", "txt": ".txt", "ecsv": ".ecsv", "sextractor": ".cat",
          "fits": ".fits", "ldac": ".ldac", "votable": ".vot", "parquet": ".parquet", "hdf5": ".h5",
          "records": ".h5"}  # fmt: skip
UNITED = ("ecsv", "sextractor", "fits", "ldac", "votable", "parquet", "hdf5", "records", "astropy", "arrow", "dict")
"""Formats that state units."""
WORDS = ("nan", "NaN", "NULL", "null", "N/A", "NA", "--", "None", "\\N", "<NA>", "masked", "INDEF", "-")
NUMERIC = ("x", "y", "mag", "err", "model", "color", "airmass")
TEXTS = ("exposure", "band", "detector")
ROLES = ("id", "ra", "dec", *NUMERIC, "flags", "time", *TEXTS, "unused")
HOUR = "hourangle"
UNITS = {
    **dict.fromkeys(("mag", "err", "model", "color"), (("mmag", 1e-3), ("mag", 1.0), ("mag(AB)", 1.0))),
    "ra": (("rad", 180 / np.pi), (HOUR, 15.0), ("arcsec", 1 / 3600), ("deg", 1.0)),
    "dec": (("rad", 180 / np.pi), ("arcmin", 1 / 60), ("deg", 1.0)),
    "time": (("s", 1 / 86400), ("h", 1 / 24), ("d", 1.0)),
}  # fmt: skip
"""Units and what they are in the unit of a role."""
FALSE_UNITS = {**dict.fromkeys(("mag", "err", "model", "color"), ("Jy", "adu", "count", "%")), "ra": ("mag", "km"),
               "dec": ("s", "mag"), "time": ("mag", "deg")}  # fmt: skip
TWIN = "ZZTWIN0"
"""A name that a file is written with, and that is then replaced by another of the same length."""


@dataclasses.dataclass
class Made:
    """A column: what is stored, and what it means.

    stored (n,): a NumPy array of one type, or a list of objects. gone (n,): the format's own null is stored. truth (n,)
    float64 in the unit of the role, NaN where there is no value; or a list of int, text or None for names. odd (n,):
    cells that may be missing, with a note. refusal: whether the column must, may or must not be refused.
    """

    name: str
    role: str
    stored: Any
    truth: Any
    gone: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(N, bool))
    odd: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(N, bool))
    unit: str | None = None
    refusal: str = "never"
    kind: str = ""
    tolerance: float = 1e-12
    traits: frozenset[str] = frozenset()

    def but(self, **changes: Any) -> Made:
        return dataclasses.replace(self, **changes)

    @property
    def is_names(self) -> bool:
        """Whether the truth is names and not numbers."""
        return isinstance(self.truth, list)

    @property
    def untouched(self) -> bool:
        """Whether what is stored is as it was made."""
        return not self.kind or self.kind in ("gap", "name")


def tidy(rng: np.random.Generator) -> dict[str, Made]:
    """The columns of a survey of two exposures with known zero-points and a standard for each row, without oddities."""
    ids = (np.int64(1) << 60) + np.cumsum(rng.integers(1, 90, N))
    exposure = np.arange(N) % 2
    model = np.round(rng.uniform(14, 19, N), 4)
    values: dict[str, Any] = {
        "id": rng.permutation(ids), "ra": 120 + rng.uniform(-0.4, 0.4, N), "dec": np.linspace(-0.5, 0.5, N) + 0.003,
        "x": np.round(rng.uniform(1, 4000, N), 2), "y": np.round(rng.uniform(1, 4000, N), 2),
        "mag": np.round(model - ZERO_POINTS[exposure] + rng.normal(0, 0.002, N), 5),
        "err": np.round(rng.uniform(0.002, 0.01, N), 5), "model": model, "color": np.round(rng.uniform(0.3, 1.5, N), 4),
        "airmass": np.round(1.1 + 0.3 * exposure, 3), "flags": rng.integers(0, 4, N) * (rng.random(N) < 0.2),
        "time": 59000.25 + exposure, "unused": rng.normal(size=N),
    }  # fmt: skip
    texts = {"exposure": ["e1", "e2"], "band": ["g", "g"], "detector": ["ccd7", "ccd7"]}
    columns = {role: Made(NAMES[role], role, np.asarray(v), np.asarray(v, float)) for role, v in values.items()}
    columns["id"].truth = columns["id"].stored.tolist()
    for role, pair in texts.items():
        cells = [pair[k] for k in exposure]
        columns[role] = Made(NAMES[role], role, np.array(cells), cells)
    return {role: columns[role] for role in ROLES}


ZERO_POINTS = np.array([3.0, 3.2])
NAMES = {"id": "OBJ_ID", "ra": "RA_J20", "dec": "DE_J20", "x": "X_IMG", "y": "Y_IMG", "mag": "MAG_PSF",
         "err": "ERR_PSF", "model": "MOD_MAG", "color": "COLOR_1", "airmass": "AIRMAS1", "flags": "FLAGSUM",
         "time": "MJD_MID", "unused": "COMMENT", "exposure": "EXPO_NM", "band": "BAND_NM",
         "detector": "DETECT1"}  # fmt: skip


# --- oddities of a column: each gives the column as it is with it, or None where it makes no sense

Oddity = Callable[[np.random.Generator, Made, str], "Made | None"]
ODDITIES: dict[str, tuple[Oddity, tuple[str, ...], tuple[str, ...]]] = {}
"""By name: what it does, to which roles, in which formats."""


def oddity(roles: Sequence[str] = ROLES, formats: Sequence[str] = FORMATS) -> Callable[[Oddity], Oddity]:
    def keep(function: Oddity) -> Oddity:
        ODDITIES[function.__name__] = (function, tuple(roles), tuple(formats))
        return function

    return keep


def _some(rng: np.random.Generator, n: int = 4) -> np.ndarray:
    out = np.zeros(N, bool)
    out[rng.choice(N, int(rng.integers(1, n + 1)), replace=False)] = True
    return out


def _without(c: Made, rows: np.ndarray) -> Any:
    """The truth, with no value in these rows."""
    if c.is_names:
        return [None if gone else value for value, gone in zip(c.truth, rows, strict=True)]
    return np.where(rows, 0.0 if c.role == "flags" else np.nan, c.truth)


def _as_texts(c: Made) -> list[str]:
    """What is stored, as text of full precision."""
    if isinstance(c.stored, np.ndarray) and c.stored.dtype.kind == "f":
        return [repr(float(x)) for x in c.stored]
    return [str(x) for x in c.stored]


@oddity()
def gap(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    rows = _some(rng)
    if isinstance(c.stored, np.ndarray) and c.stored.dtype.kind == "b" and form in ("fits", "ldac", "votable"):
        return None
    if form == "structured" and not (isinstance(c.stored, np.ndarray) and c.stored.dtype.kind in "fU"):
        return None
    return c.but(gone=c.gone | rows, truth=_without(c, rows), kind="gap")


@oddity([*NUMERIC, "id", "ra", "dec", "time", "flags", *TEXTS])
def word(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Words for missing among the cells of text."""
    rows, said = _some(rng), rng.choice(WORDS)
    if said == "-" and form == "sextractor":
        return None
    pad = " " * int(rng.integers(0, 2)) if form not in ("txt", "sextractor") else ""
    cells = [f"{pad}{said}" if gone else cell for cell, gone in zip(_as_texts(c), rows, strict=True)]
    return c.but(stored=np.array(cells), truth=_without(c, rows), kind="word", traits=c.traits | {"text"})


@oddity([*NUMERIC, "ra", "dec", "time", "id", "flags"], BINARY + MEMORY)
def strings(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Numbers as text."""
    pad = rng.choice(["", " "])
    return c.but(stored=np.array([f"{pad}{cell}{pad}" for cell in _as_texts(c)]), kind="strings")


@oddity(tuple(UNITS), UNITED)
def unit(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    name, factor = UNITS[c.role][rng.integers(len(UNITS[c.role]))]
    if (form in ("fits", "ldac") and name == HOUR) or (name == HOUR and form == "votable"):
        name, factor = "rad", 180 / np.pi
    stored = np.asarray(c.stored, float) / factor
    # The product of the reader's factor and ours may differ in the last digits.
    return c.but(stored=stored, unit=name, truth=stored * factor, kind="unit", tolerance=1e-9)


@oddity(tuple(FALSE_UNITS), UNITED)
def false_unit(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(unit=str(rng.choice(FALSE_UNITS[c.role])), refusal="must", kind="false_unit")


@oddity([*NUMERIC, "ra", "dec"], BINARY + MEMORY)
def single(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    kind = ">f4" if rng.random() < 0.5 and form in ("dict", "structured", "hdf5", "records", "astropy") else "<f4"
    stored = np.asarray(c.stored).astype(kind)
    return c.but(stored=stored, truth=stored.astype(float), kind="single")


@oddity([*NUMERIC, "ra", "dec", "time", "id", "flags"], ("hdf5", "records", "dict", "structured", "astropy", "pandas"))
def byte_order(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=c.stored.astype(c.stored.dtype.newbyteorder(">")), kind="byte_order")


@oddity([*NUMERIC, "flags", "unused"], BINARY + MEMORY)
def whole(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Small integers of some type."""
    kinds = ["i2", "i4", "i8", "u1"] if form in ("fits", "ldac", "votable") else ["i1", "i2", "u2", "u4", "u8", "u1"]
    stored = rng.integers(1, 80, N).astype(rng.choice(kinds))
    return c.but(stored=stored, truth=stored.astype(float), kind="whole")


@oddity([*NUMERIC, "ra", "time"])
def infinity(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    rows = _some(rng)
    stored = np.where(rows, rng.choice([np.inf, -np.inf]), c.stored)
    return c.but(stored=stored, truth=_without(c, rows), kind="infinity")


@oddity(("mag", "err", "model", "color"))
def sentinel(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """99 and -99 are numbers to the table, and no magnitudes to the survey."""
    rows = _some(rng)
    stored = np.where(rows, rng.choice([99.0, -99.0, 99.999, 999.0, -999.0]), c.stored)
    return c.but(stored=stored, truth=stored.copy(), kind="sentinel", traits=c.traits | {"sentinel"})


@oddity([*NUMERIC, "ra", "time"])
def odd_cell(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    rows = _some(rng)
    said = rng.choice(["saturated", "*", "12,345", "1_5", "0x10", "1.2.3", ">12.3", "12.3mag", "12.3:", "1e", "#REF!"])
    if (said == "12,345" and form in ("txt", "sextractor")) or (said == "#REF!" and form in ("txt", "sextractor")):
        return None
    cells = [str(said) if odd else cell for cell, odd in zip(_as_texts(c), rows, strict=True)]
    return c.but(stored=np.array(cells), odd=c.odd | rows, truth=_without(c, rows), kind="odd_cell")


@oddity([*NUMERIC, "ra", "time"])
def odd_column(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    said = rng.choice(["bright", "1_000", "12:30", "1.5.2", "0x1F", "true"])
    if said == "12:30" and c.role == "ra":
        return None
    return c.but(stored=np.array([str(said)] * N), truth=np.full(N, np.nan), odd=np.ones(N, bool), refusal="must",
                 kind="odd_column")  # fmt: skip


@oddity([*NUMERIC], TEXT)
def decimal_comma(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    if form in ("txt", "sextractor"):
        return None
    cells = [cell.replace(".", ",") for cell in _as_texts(c)]
    return c.but(stored=np.array(cells), refusal="must", truth=np.full(N, np.nan), odd=np.ones(N, bool),
                 kind="decimal_comma")  # fmt: skip


@oddity(NUMERIC)
def fortran(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    cells = [f"{float(x):.17E}".replace("E", "D") for x in c.stored]
    return c.but(stored=np.array(cells), refusal="may", odd=np.ones(N, bool), kind="fortran", tolerance=1e-12)


@oddity(NUMERIC, TEXT)
def spelling(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Numbers as no Python would write them."""
    how = rng.choice(["plus", "zeros", "long", "exponent", "blank"])
    if how == "blank" and form in ("txt", "sextractor"):
        return None
    makers = {
        "plus": lambda x: f"{x:+.17g}", "zeros": lambda x: f"000{x:.17g}" if x > 0 else f"{x:.17g}",
        "long": lambda x: f"{decimal.Decimal(x):f}", "exponent": lambda x: f"{x:.17E}", "blank": lambda x: f"  {x!r} ",
    }  # fmt: skip
    return c.but(stored=np.array([makers[how](float(x)) for x in c.stored]), kind=f"spelling {how}")


@oddity([*NUMERIC, "id"], ("pandas", "dict", "parquet", "arrow"))
def decimals(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    if c.role == "id":
        return c.but(stored=[decimal.Decimal(int(x)) for x in c.stored], kind="decimals")
    stored = [decimal.Decimal(repr(float(x))) for x in c.stored]
    return c.but(stored=stored, kind="decimals", tolerance=1e-12)


@oddity([*NUMERIC], BINARY + MEMORY)
def truth_values(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=rng.random(N) < 0.5, refusal="must", kind="truth_values", truth=np.full(N, np.nan))


@oddity(("flags",), BINARY + MEMORY)
def true_flags(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    stored = rng.random(N) < 0.3
    return c.but(stored=stored, truth=stored.astype(float), kind="true_flags")


@oddity(("flags",))
def flags_of_floats(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=np.asarray(c.stored, float), kind="flags_of_floats")


@oddity(("flags",))
def broken_flags(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    stored = np.where(_some(rng), 1.5, np.asarray(c.stored, float))
    return c.but(stored=stored, refusal="must", kind="broken_flags")


@oddity(("mag", "err", "model", "color", "x", "y", "airmass"), ("fits", "ldac"))
def scaled(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """int16 with TSCAL, TZERO and TNULL."""
    scale, zero = float(rng.choice([1e-3, 0.5, 2.0])), float(rng.choice([0.0, 10.0, -3.0]))
    stored = rng.integers(-2000, 2000, N).astype(np.int16)
    rows = _some(rng)
    c = c.but(stored=stored, truth=stored * scale + zero, kind="scaled", tolerance=1e-9,
              traits=c.traits | {f"scale:{scale}", f"zero:{zero}"})  # fmt: skip
    return c.but(gone=rows, truth=_without(c, rows))


@oddity([*NUMERIC, "id", "ra", "time"], BINARY + MEMORY)
def vector(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    if form in ("structured", "arrow", "pandas", "parquet"):
        return c.but(stored=[[1.0, 2.0]] * N, refusal="must", kind="vector", traits=c.traits | {"vector"})
    return c.but(stored=np.ones((N, 3)), refusal="must", kind="vector", traits=c.traits | {"vector"})


@oddity([*NUMERIC, "id", "ra", "unused"], ("parquet", "arrow", "pandas", "dict"))
def ragged(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    stored = [[1.0] * int(k) for k in rng.integers(1, 4, N)]
    return c.but(stored=stored, refusal="must", kind="ragged", traits=c.traits | {"vector"})


@oddity([*NUMERIC, "id", "unused"], ("parquet", "arrow", "pandas", "dict"))
def nested(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=[{"a": 1, "b": "x"}] * N, refusal="must", kind="nested", traits=c.traits | {"vector"})


@oddity([*NUMERIC, "id", "unused"], ("fits", "votable", "dict", "structured", "astropy"))
def complex_numbers(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=np.full(N, 1 + 2j), refusal="must", kind="complex_numbers")


@oddity(("id",))
def id_floats(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Beyond 2**53: rounded before xpjax sees them."""
    if form in TEXT:
        cells = [repr(float(x)) for x in c.stored]
        return c.but(stored=np.array(cells), refusal="must", kind="id_floats")
    return c.but(stored=np.asarray(c.stored, float), refusal="must", kind="id_floats")


@oddity(("id",), BINARY + MEMORY)
def id_single(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=(c.stored - (1 << 60) + (1 << 25) + 1).astype(np.float32), refusal="must", kind="id_single")


@oddity(("id",))
def small_ids(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Whole floats that float64 holds exactly are as good as integers."""
    ids = rng.permutation(10 * N)[:N] + 1
    stored = ids.astype(float) if rng.random() < 0.7 else ids.astype(np.int32)
    return c.but(stored=stored, truth=ids.tolist(), kind="small_ids")


@oddity(("id",))
def broken_ids(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    stored = np.arange(N) + 0.5
    truth = [repr(float(x)) for x in stored] if form in TEXT else c.truth
    return c.but(stored=stored, refusal="may" if form in TEXT else "must", truth=truth, kind="broken_ids")


@oddity(("id",), ("hdf5", "records", "parquet", "dict", "pandas", "arrow", "astropy", "structured"))
def id_unsigned(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=c.stored.astype(np.uint64), kind="id_unsigned")


@oddity(("id",), ("hdf5", "records", "parquet", "dict", "pandas", "arrow", "astropy", "structured", "csv", "txt"))
def id_beyond(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Beyond int64: as text in text, refused elsewhere."""
    stored = c.stored.astype(np.uint64) + np.uint64(1 << 63)
    truth = [str(x) for x in stored] if form in TEXT else c.truth
    return c.but(stored=stored, truth=truth, refusal="never" if form in TEXT else "must", kind="id_beyond")


@oddity(("id",))
def id_text(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    blank = " " if form not in ("sextractor",) else "_"
    cells = [f"Gaia{blank}DR3{blank}{x}" for x in c.stored]
    return c.but(stored=np.array(cells), truth=cells, kind="id_text")


@oddity(("id",))
def leading_zeros(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    cells = [f"{x:0{1 + k % 2 * 4}d}" for k, x in enumerate(rng.permutation(N) + 1)]
    return c.but(stored=np.array(cells), truth=cells, kind="leading_zeros")


@oddity(("id",))
def negative_ids(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(stored=-c.stored, truth=[-x for x in c.truth], kind="negative_ids")


@oddity(("ra", "dec"))
def sexagesimal(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    styles = ["{s}{d:02d}:{m:02d}:{f:09.6f}", "{s}{d:02d}{u}{m:02d}m{f:09.6f}s"]
    styles += [] if form == "sextractor" else ["{s}{d:02d} {m:02d} {f:09.6f}"]
    style = str(rng.choice(styles))
    per, mark = (15.0, "h") if c.role == "ra" else (1.0, "d")
    cells, truth = [], []
    for value in np.asarray(c.stored, float) / per:
        micro = round(abs(value) * 3600e6)
        seconds, whole_seconds = micro % 60_000_000, micro // 60_000_000
        parts = {"s": "-" if value < 0 else rng.choice(["", "+"]), "d": whole_seconds // 60, "m": whole_seconds % 60}
        cells.append(style.format(**parts, f=seconds / 1e6, u=mark))
        truth.append((-1 if value < 0 else 1) * micro / 3600e6 * per)
    stated = (
        c.role == "ra" and form in UNITED and form not in ("fits", "ldac", "votable", "dict") and rng.random() < 0.3
    )
    return c.but(stored=np.array(cells), truth=np.array(truth), unit="h:m:s" if stated and form != "astropy" else None,
                 kind="sexagesimal", tolerance=1e-11)  # fmt: skip


@oddity(("time",))
def dates(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    moments = [np.datetime64("1858-11-17T00:00:00.000000") + np.timedelta64(round(x * 86400e6), "us") for x in c.stored]
    if form in ("pandas", "parquet", "arrow", "dict", "structured") and rng.random() < 0.5:
        return c.but(stored=np.array(moments, "datetime64[us]"), kind="dates")
    style = rng.choice(["T", " ", "Z"] if form not in ("txt", "sextractor") else ["T", "Z"])
    cells = [str(x).replace("T", " " if style == " " else "T") + ("Z" if style == "Z" else "") for x in moments]
    return c.but(stored=np.array(cells), kind="dates", tolerance=1e-14)


@oddity(TEXTS)
def numbered(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Exposures, bands and detectors called by numbers."""
    numbers = np.array([1 + (cell == "e2") for cell in c.truth])
    how = rng.choice(["int", "float", "zeros"])
    if how == "zeros":
        cells = [f"{x:03d}" for x in numbers]
        return c.but(stored=np.array(cells), truth=cells, kind="numbered zeros")
    stored = numbers.astype(float) if how == "float" else numbers
    truth = [str(x) for x in numbers]
    return c.but(stored=stored, truth=truth, kind=f"numbered {how}", traits=c.traits | {"point"} if how == "float"
                 and form in TEXT else c.traits)  # fmt: skip


@oddity(TEXTS)
def blanks_around(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    if form == "sextractor":
        return None
    return c.but(stored=np.array([f" {cell}  " for cell in c.stored]), kind="blanks_around")


@oddity(TEXTS)
def strange_text(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    extra = rng.choice(["é", "ß,x", 'a"b', "a'b", "x;y", "x|y", "ö z"])
    if form in ("fits", "ldac", "sextractor", "votable") or (form == "txt" and extra == 'a"b'):
        return None
    cells = [f"{cell}{extra}" for cell in c.stored]
    return c.but(stored=np.array(cells), truth=cells, kind="strange_text")


@oddity([*TEXTS, "id"], ("fits", "hdf5", "records", "dict", "astropy", "structured", "pandas", "parquet", "arrow"))
def bytes_cells(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    cells = [str(x).encode() for x in c.stored]
    return c.but(stored=np.array(cells) if form not in ("pandas", "parquet", "arrow") else cells, kind="bytes_cells")


@oddity([*TEXTS, "id", "mag"], ("pandas", "parquet", "arrow"))
def dictionary(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Categories."""
    return c.but(kind="dictionary", traits=c.traits | {"dictionary"})


@oddity([*NUMERIC, "id", "unused"], ("csv", "tsv", "semicolon", "txt", "sextractor", "fits", "votable", "pandas",
                                     "arrow", "parquet"))  # fmt: skip
def twice(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    return c.but(refusal="must", kind="twice", traits=c.traits | {"twice"})


@oddity([*NUMERIC, "id"])
def other_case(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    """Another column has the same name in lower case."""
    return c.but(refusal="must" if form in ("fits", "ldac") else "never", kind="other_case",
                 traits=c.traits | {"other_case"})  # fmt: skip


@oddity(ROLES[:-1])
def name(rng: np.random.Generator, c: Made, form: str) -> Made | None:
    extra = rng.choice(["_é", " x", ".x", "[2]", "-x", "(1)", "%", "/x", "#x"])
    if (extra in (" x", "#x") and form in ("txt", "sextractor")) or (extra == "/x" and form in ("hdf5", "records")):
        return None
    if (form in ("fits", "ldac", "sextractor") and extra == "_é") or (form == "sextractor" and extra == "[2]"):
        return None
    return c.but(name=c.name + str(extra), kind="name")


# --- formats


def write(form: str, columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Any:
    """The columns in a format: a path, or what is in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form in TEXT:
            return _write_text(form, columns, path, rng)
        return _WRITERS[form](columns, path, rng)


def with_others(columns: Sequence[Made]) -> list[Made]:
    """The columns, and further ones whose names collide with theirs, or are to be made to."""
    out = []
    for c in columns:
        out.append(c)
        if "twice" in c.traits:
            out.append(Made(TWIN, "unused", np.arange(len(c.gone)) + 0.5, 0 * c.gone, 0 * c.gone > 0))
        if "other_case" in c.traits:
            out.append(Made(c.name.swapcase(), "unused", np.arange(len(c.gone)) + 0.5, 0 * c.gone, 0 * c.gone > 0))
    return out


def cells_of(c: Made, null: str = "") -> list[str]:
    """The cells of a column as text has them."""
    if isinstance(c.stored, np.ndarray) and c.stored.dtype.kind == "f":
        cells = [repr(float(x)) for x in c.stored]
    elif isinstance(c.stored, np.ndarray) and c.stored.dtype.kind == "M":
        cells = [str(x) for x in c.stored]
    else:
        cells = [str(x) for x in c.stored]
    return [null if gone else cell for cell, gone in zip(cells, c.gone, strict=True)]


_DELIMITERS = {"csv": ",", "tsv": "\t", "semicolon": ";", "txt": " ", "ecsv": " ", "sextractor": " "}


def quoted(cell: str, delimiter: str, always: bool = False) -> str:
    special = always or any(mark in cell for mark in (delimiter, '"', "\n")) or (delimiter == " " and not cell)
    special = special or cell.startswith("#")
    return '"' + cell.replace('"', '""') + '"' if special else cell


def text_rows(form: str, columns: Sequence[Made], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """The lines of a header and of rows."""
    mark = _DELIMITERS[form]
    null = "" if form not in ("txt", "sextractor") else str(rng.choice(["nan", "null", "--"]))
    cells = [cells_of(c, null) for c in columns]
    always = form == "csv" and rng.random() < 0.15
    rows = [mark.join(quoted(cell, mark, always) for cell in row) for row in zip(*cells, strict=True)]
    names = mark.join(quoted(c.name, mark, always) for c in columns)
    if form == "sextractor":
        return [f"# {k:3d} {c.name:24s} A comment on it" + (f"  [{c.unit}]" if c.unit else "") for k, c in
                enumerate(columns, 1)], rows  # fmt: skip
    if form == "ecsv":
        kinds = {"i": "int64", "u": "int64", "f": "float64", "U": "string", "b": "bool", "M": "string"}
        lines = ["# %ECSV 1.0", "# ---", "# datatype:"]
        for c in columns:
            kind = kinds.get(c.stored.dtype.kind, "string") if isinstance(c.stored, np.ndarray) else "string"
            entry = {"name": c.name, "datatype": kind, **({"unit": c.unit} if c.unit else {})}
            lines.append("# - " + json.dumps(entry))
        return [*lines, names], rows
    if form == "txt" and rng.random() < 0.4:
        names = f"# {names}"
    return [names], rows


def _write_text(form: str, columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Path:
    columns = with_others(columns)
    head, rows = text_rows(form, columns, rng)
    twin = next((c.name for c in columns if "twice" in c.traits), TWIN)
    text = "\n".join([*(line.replace(TWIN, twin) for line in head), *rows]) + "\n"
    path.write_bytes(text.encode())
    return path


def _strings(c: Made, width: bool = True) -> np.ndarray:
    return np.where(c.gone, "", c.stored)


def _fits(columns: Sequence[Made], path: Path, rng: np.random.Generator, ldac: bool = False) -> Path:
    return _fits_of([columns], path, ldac)


def _fits_of(tables: Sequence[Sequence[Made]], path: Path, ldac: bool) -> Path:
    from astropy.io import fits

    twin = next((c.name for c in tables[0] if "twice" in c.traits), "")
    parts = [fits.PrimaryHDU()]
    for k, columns in enumerate(tables, 1):
        hdu = fits_table(with_others(columns))
        hdu.name = "LDAC_OBJECTS" if ldac else f"CCD{k}"
        if ldac:
            text = fits.Header({"EXPTIME": 30.0}).tostring(endcard=True, padding=False)
            cell = fits.Column("Field Header Card", f"{len(text)}A", array=np.array([text]))
            parts.append(fits.BinTableHDU.from_columns([cell], name="LDAC_IMHEAD"))
        parts.append(hdu)
    fits.HDUList(parts).writeto(path, overwrite=True)
    while twin and (place := (data := path.read_bytes()).find(f"'{TWIN}".encode())) >= 0:
        card = (data[place - 10 : place] + f"'{twin:8s}'".encode()).ljust(80)
        path.write_bytes(data[: place - 10] + card + data[place + 70 :])
    return path


def fits_table(columns: Sequence[Made]) -> Any:
    """A table of FITS: nulls of integers by TNULL, of floats NaN, of text blanks."""
    from astropy.io import fits

    made = []
    for c in columns:
        traits = dict(t.split(":") for t in c.traits if ":" in t)
        values, options = c.stored, {}
        if values.dtype.kind == "U":
            values = _strings(c)
            form = f"{max(values.dtype.itemsize // 4, 1)}A"
        elif values.dtype.kind == "S":
            form, values = f"{max(values.dtype.itemsize, 1)}A", np.where(c.gone, b"", values)
        elif values.ndim > 1:
            form = f"{values.shape[1]}D"
        else:
            form = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K", "u1": "B", "b1": "L", "c16": "M"}[
                values.dtype.str[1:]
            ]
        if values.dtype.kind == "f":
            values = np.where(c.gone, np.nan, values) if values.ndim == 1 else values
        if values.dtype.kind in "iu" and c.gone.any():
            options["null"] = 255 if values.dtype == np.uint8 else -9999
            if "scale" not in traits:
                values = np.where(c.gone, options["null"], values).astype(values.dtype)
        if "scale" in traits:
            options |= {"bscale": float(traits["scale"]), "bzero": float(traits["zero"])}
            values = None
        made.append(fits.Column(c.name, form, unit=c.unit, array=values, **options))
    hdu = fits.BinTableHDU.from_columns(made, nrows=len(columns[0].gone))
    scaled_ones = [k for k, c in enumerate(columns) if any(t.startswith("scale:") for t in c.traits)]
    if scaled_ones:  # what is stored goes past astropy's scaling
        stream = io.BytesIO()
        hdu.writeto(stream)
        with fits.open(io.BytesIO(stream.getvalue()), do_not_scale_image_data=True) as hdus:
            raw = hdus[1].data
            base = np.array(raw.view(np.ndarray))
            for k in scaled_ones:
                base[base.dtype.names[k]] = np.where(columns[k].gone, -9999, columns[k].stored)
            out = fits.BinTableHDU.from_columns(hdus[1].columns, nrows=len(base))
            head = hdus[1].header.copy()
        body = base.tobytes()
        body += b"\0" * (-len(body) % 2880)
        out = fits.BinTableHDU.fromstring(head.tostring().encode() + body)
        return out
    return hdu


def astropy_table(columns: Sequence[Made], rng: np.random.Generator) -> Any:
    from astropy.table import Column, MaskedColumn, Table

    out = Table()
    for c in columns:
        values: Any = c.stored
        if isinstance(values, list):
            values = np.array(values, dtype=object)
        if c.gone.any() and not (values.dtype.kind == "f" and rng.random() < 0.5):
            out[c.name] = MaskedColumn(values, mask=c.gone, unit=c.unit)
        elif c.gone.any():
            out[c.name] = Column(np.where(c.gone, np.nan, values), unit=c.unit)
        else:
            out[c.name] = Column(values, unit=c.unit)
    return out


def _blank_gaps(columns: Sequence[Made]) -> list[Made]:
    """Null text without a text beneath: of VOTables, astropy reads what is beneath a null of BINARY2."""
    return [c.but(stored=_strings(c)) if c.gone.any() and c.stored.dtype.kind == "U" else c for c in columns]


def _rename_twin(path: Path, columns: Sequence[Made]) -> None:
    twin = next((c.name for c in columns if "twice" in c.traits), TWIN)
    path.write_bytes(path.read_bytes().replace(f'name="{TWIN}"'.encode(), f'name="{twin}"'.encode()))


def _votable(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Path:
    from astropy.io.votable import from_table

    votable = from_table(astropy_table(with_others(_blank_gaps(columns)), rng))
    votable.to_xml(str(path), tabledata_format=str(rng.choice(["tabledata", "binary", "binary2"])))
    _rename_twin(path, columns)
    return path


def arrow_table(columns: Sequence[Made], rng: np.random.Generator) -> Any:
    import pyarrow as pa

    arrays, fields = [], []
    for c in with_others(columns):
        values = c.stored
        if isinstance(values, np.ndarray) and values.ndim == 1:
            kind = pa.string() if values.dtype.kind == "U" else None
            native = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind != "U" else values
            array = pa.array(native.tolist() if kind else native, kind, mask=c.gone)
        else:
            array = pa.array([None if gone else x for x, gone in zip(values, c.gone, strict=True)])
        array = array.dictionary_encode() if "dictionary" in c.traits else array
        arrays.append(array)
        label = next(d.name for d in columns if "twice" in d.traits) if c.name == TWIN else c.name
        fields.append(pa.field(label, array.type, metadata={"unit": c.unit} if c.unit else None))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _parquet(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(arrow_table(columns, rng), path)
    return path


def _hdf5(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for c in with_others(columns):
            values = c.stored
            fill = None
            if values.dtype.kind in "UO":
                file.create_dataset(c.name, data=[str(x) for x in _strings(c)], dtype=h5py.string_dtype())
            else:
                if c.gone.any():
                    fill = {"f": np.nan, "i": np.iinfo(values.dtype).min if values.dtype.kind == "i" else 0,
                            "u": 255, "b": False, "S": b""}[values.dtype.kind]  # fmt: skip
                    values = np.where(c.gone, fill, values).astype(values.dtype)
                file.create_dataset(c.name, data=values, **({"compression": "gzip"} if rng.random() < 0.3 else {}))
            if c.unit:
                file[c.name].attrs[str(rng.choice(["unit", "units"]))] = c.unit
            if fill is not None and values.dtype.kind in "iu":
                file[c.name].attrs["_FillValue"] = np.asarray(fill, values.dtype)
            elif fill is not None and values.dtype.kind == "b":
                file[f"{c.name}.mask"] = c.gone
    return path


def _records(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Path:
    table = astropy_table(with_others(columns), rng)
    table.convert_unicode_to_bytestring()
    table.write(path, path="table", format="hdf5", serialize_meta=True, overwrite=True)
    return path


def _pandas(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Any:
    import pandas as pd

    made = with_others(columns)
    data = {}
    for k, c in enumerate(made):
        values = c.stored
        if isinstance(values, list) or values.dtype.kind in "US":
            cells = [None if gone else x for x, gone in zip(list(values), c.gone, strict=True)]
            series = pd.Series(cells, dtype=object if isinstance(values, list) or values.dtype.kind == "S" else None)
        elif c.gone.any() and values.dtype.kind in "iub":
            series = pd.Series(values).astype("boolean" if values.dtype.kind == "b" else values.dtype.name.capitalize()
                                              .replace("Uint", "UInt"))  # fmt: skip
            series[c.gone] = pd.NA
        elif c.gone.any() and values.dtype.kind == "M":
            series = pd.Series(np.where(c.gone, np.datetime64("NaT"), values))
        else:
            series = pd.Series(np.where(c.gone, np.nan, values) if c.gone.any() else values)
        data[k] = series.astype("category") if "dictionary" in c.traits else series
    out = pd.DataFrame(data)
    twin = next((c.name for c in columns if "twice" in c.traits), TWIN)
    out.columns = [twin if c.name == TWIN else c.name for c in made]
    return out


def _dict(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Any:
    from astropy import units

    out: dict[str, Any] = {}
    for c in with_others(columns):
        values: Any = c.stored
        if c.unit:
            out[c.name] = units.Quantity(np.where(c.gone, np.nan, values), c.unit)
        elif not c.gone.any():
            out[c.name] = values
        elif isinstance(values, list) or values.dtype.kind in "UM" or rng.random() < 0.4:
            plain = values if isinstance(values, list) else values.tolist()
            out[c.name] = [None if gone else x for x, gone in zip(plain, c.gone, strict=True)]
        else:
            out[c.name] = np.ma.masked_array(values, c.gone)
    return out


def _structured(columns: Sequence[Made], path: Path, rng: np.random.Generator) -> Any:
    made = with_others(columns)
    kinds = [(c.name, "f8", (2,)) if isinstance(c.stored, list) else (c.name, c.stored.dtype) for c in made]
    out = np.zeros(N, kinds)
    for c in made:
        values = c.stored
        if not isinstance(values, list) and c.gone.any():
            values = np.where(c.gone, np.nan if values.dtype.kind == "f" else "", values)
        out[c.name] = values
    return out


_WRITERS: dict[str, Callable[..., Any]] = {
    "fits": _fits, "ldac": lambda c, p, r: _fits(c, p, r, ldac=True), "votable": _votable, "parquet": _parquet,
    "hdf5": _hdf5, "records": _records, "pandas": _pandas, "dict": _dict, "structured": _structured,
    "astropy": lambda c, p, r: astropy_table(with_others(c), r), "arrow": lambda c, p, r: arrow_table(c, r),
}  # fmt: skip


SEVERAL = ("fits", "ldac", "votable", "records")


def write_several(form: str, columns: Sequence[Made], path: Path, rng: np.random.Generator, unlike: bool) -> Path:
    """The first and the last rows as two tables of one file; unlike: the second has a column more."""
    place = int(rng.integers(1, N))
    halves = [[c.but(stored=c.stored[rows], gone=c.gone[rows]) for c in columns] for rows in
              (slice(0, place), slice(place, N))]  # fmt: skip
    if unlike:
        halves[1].append(Made("MORE", "unused", np.zeros(N - place), np.zeros(N - place), np.zeros(N - place, bool)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form in ("fits", "ldac"):
            return _fits_of(halves, path, form == "ldac")
        tables = [astropy_table(with_others(_blank_gaps(half)), rng) for half in halves]
        if form == "votable":
            from astropy.io.votable import from_table

            first, second = (from_table(table) for table in tables)
            if rng.random() < 0.5:
                first.resources[0].tables.append(second.resources[0].tables[0])
            else:
                first.resources.append(second.resources[0])
            first.to_xml(str(path))
            _rename_twin(path, columns)
            return path
        for k, table in enumerate(tables):
            table.convert_unicode_to_bytestring()
            table.write(path, path=f"t{k}", format="hdf5", serialize_meta=True, append=k > 0)
    return path


# --- oddities of a file: bytes in, bytes out; and whether it must be read, may be refused, or must be

FileOddity = Callable[[np.random.Generator, bytes], "tuple[bytes, str, str] | None"]
"""The bytes, a suffix to add, and the refusal: never, may (a row may be lost) or must."""
FILE_ODDITIES: dict[str, tuple[FileOddity, tuple[str, ...]]] = {}


def file_oddity(formats: Sequence[str]) -> Callable[[FileOddity], FileOddity]:
    def keep(function: FileOddity) -> FileOddity:
        FILE_ODDITIES[function.__name__] = (function, tuple(formats))
        return function

    return keep


def _lines(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Lines of header (comments and names) and of rows."""
    lines = data.rstrip(b"\n").split(b"\n")
    return lines[:-N], lines[-N:]


@file_oddity(TEXT)
def bom(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return b"\xef\xbb\xbf" + data, "", "never"


@file_oddity(TEXT)
def utf16(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    kind = str(rng.choice(["utf-16-le", "utf-16-be"]))
    return "\ufeff".encode(kind) + data.decode().encode(kind), "", "never"


@file_oddity(TEXT)
def latin1(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str] | None:
    try:
        return data.decode().encode("latin-1"), "", "never"
    except UnicodeEncodeError:
        return None


@file_oddity(TEXT)
def line_ends(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return data.replace(b"\n", rng.choice([b"\r\n", b"\r"])), "", "never"


@file_oddity(TEXT)
def no_last_end(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return data.rstrip(b"\n"), "", "never"


@file_oddity(TEXT)
def empty_rows(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    head, rows = _lines(data)
    for place in sorted(rng.integers(0, N, 3), reverse=True):
        rows.insert(int(place), rng.choice([b"", b"  "]))
    return b"\n".join([*head, *rows, b"", b"", b""]), "", "never"


@file_oddity(TEXT)
def comments(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    head, rows = _lines(data)
    rows.insert(int(rng.integers(1, N)), b'# a remark, with commas; and "quotes')
    if not head[0].startswith(b"#"):
        head = [b"# made by hand", b"#", *head]
    return b"\n".join([*head, *rows]) + b"\n", "", "never"


@file_oddity(TEXT)
def lacking_cell(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str] | None:
    head, rows = _lines(data)
    place = int(rng.integers(0, N))
    mark = next(m for m in (b"\t", b";", b",", b" ") if m in rows[0])
    if b'"' in rows[place]:
        return None
    rows[place] = rows[place].rpartition(mark)[0]
    return b"\n".join([*head, *rows]) + b"\n", "", "must"


@file_oddity(TEXT)
def cut_text(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    head, rows = _lines(data)
    last = int(rng.integers(5, N))
    mark = next(m for m in (b"\t", b";", b",", b" ") if m in rows[0])
    kept = rows[last][: rows[last].rfind(mark) // 2]
    return b"\n".join([*head, *rows[:last], kept]), "", "must"


@file_oddity(("csv", "tsv", "semicolon"))
def no_names(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return b"\n".join(_lines(data)[1]) + b"\n", "", "must"


@file_oddity((*TEXT, "fits", "ldac", "votable"))
def packed(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    how = rng.choice(["gz", "bz2", "xz", "zip"])
    return pack(data, str(how)), f".{how}", "never"


def pack(data: bytes, how: str) -> bytes:
    if how == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.dat", data)
        return stream.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[how](data)


@file_oddity((*TEXT, "fits", "votable"))
def cut_packed(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    how = str(rng.choice(["gz", "bz2", "xz", "zip"]))
    whole = pack(data, how)
    return whole[: int(len(whole) * rng.uniform(0.3, 0.9))], f".{how}", "must"


@file_oddity(BINARY)
def cut_binary(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return data[: int(len(data.rstrip(b"\0 ")) * rng.uniform(0.1, 0.85))], "", "must"


@file_oddity(FORMATS[:12])
def other_suffix(rng: np.random.Generator, data: bytes) -> tuple[bytes, str, str]:
    return data, str(rng.choice([".dat", ".TXT", ".csv", ".weird"])), "never"
