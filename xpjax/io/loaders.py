"""Any input as tables of named columns: files of each format of the archive, packed or not, and tables in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from xpjax.errors import XpjaxError
from xpjax.io.formats import (
    File,
    Pairs,
    from_arrow,
    from_astropy,
    from_fits,
    load_avro,
    load_fits,
    load_hdf5,
    load_parquet,
    load_votable,
)
from xpjax.io.layout import Table, make_table
from xpjax.io.streams import PACKED, check_file, members, packing, reading
from xpjax.io.text import PACKED_RATIO, TextReader

TEXT = (".csv", ".ecsv")
LOADERS: Mapping[str, tuple[str, Callable[[File, Sequence[str]], list[Table]]]] = {
    **dict.fromkeys((".fits", ".fit"), ("FITS", load_fits)),
    **dict.fromkeys((".vot", ".votable", ".xml"), ("VOTable", load_votable)),
    ".avro": ("AVRO", load_avro),
    ".parquet": ("parquet", load_parquet),
    **dict.fromkeys((".h5", ".hdf5"), ("HDF5", load_hdf5)),
}
SUFFIXES = (*TEXT, *LOADERS)
"""What can be read, besides what is packed: these with one of `PACKED` after them, and zip files of them."""


def load(source: Any, xp: Sequence[str], dtype: DTypeLike | None = None) -> list[Table]:
    """The tables of one input, under archive names. Raises FileNotFoundError and ValueError.

    dtype: what text becomes where it is coefficients, errors or correlations; None is float64.
    """
    if isinstance(source, str | os.PathLike):
        tables = [table for file in files_of(source) for table in _load_file(file, xp, dtype)]
        kinds = [{*table.columns} for table in tables]
        if any(kind != kinds[0] for kind in kinds):
            others = ", ".join(table.origin for table in tables)
            raise XpjaxError(f"{source}: holds tables of different columns: {others}; unzip it and give one of them")
        return tables
    pandas, arrow, astropy = (sys.modules.get(name) for name in ("pandas", "pyarrow", "astropy.table"))
    if isinstance(source, Mapping):
        pairs: Iterable[tuple[str, Any]] = source.items()
    elif pandas is not None and isinstance(source, pandas.DataFrame):
        pairs = _from_pandas(source)
    elif arrow is not None and isinstance(source, arrow.Table):
        pairs = from_arrow(source)
    elif astropy is not None and isinstance(source, astropy.Table):
        pairs = from_astropy(source)
    elif isinstance(source, np.ndarray) and source.dtype.names and source.ndim == 1:
        fits = sys.modules.get("astropy.io.fits")
        is_fits = fits is not None and isinstance(source, fits.FITS_rec)
        pairs = from_fits(source) if is_fits else ((name, source[name]) for name in source.dtype.names)
    else:
        raise XpjaxError(
            f"can't read from {type(source).__name__}; expected a path, a pandas DataFrame, an astropy or pyarrow "
            f"Table, a structured NumPy array, a dict of columns, a SourceTable, or a list of these"
        )
    return [make_table(pairs, xp, "memory")]


def _from_pandas(frame: Any) -> Pairs:
    if "source_id" not in [str(name).lower() for name in frame.columns] and any(frame.index.names):
        frame = frame.reset_index()
    for i, name in enumerate(frame.columns):
        series = frame.iloc[:, i]
        plain = isinstance(series.dtype, np.dtype) and series.dtype != object
        yield str(name), series.to_numpy() if plain else series.to_numpy(object, na_value=None)


def files_of(source: str | os.PathLike[str]) -> list[File]:
    """The file of a path, or the members of a zip file that hold XP coefficients. Raises as `load`."""
    path = Path(os.path.expanduser(source))
    check_file(path)
    if packing(path) != ".zip":
        stem_of(path)
        return [File(path)]
    with reading(path, "zip"):
        inside = members(path)
    known = [name for name in inside if Path(name).suffix.lower() in SUFFIXES]
    # The archive's zip files may have a file of each product.
    known = [name for name in known if Path(name).name.upper().startswith("XP_CONTINUOUS")] or known
    if not known:
        raise XpjaxError(
            f"{path}: a zip file of {', '.join(inside[:5]) or 'nothing'}; expected files that end in one of "
            f"{', '.join(SUFFIXES)}"
        )
    return [File(path, name) for name in sorted(known)]


def stem_of(path: Path) -> str:
    """The name of a file without the suffixes that tell its format. Raises ValueError for an unknown suffix."""
    name = path.name
    packed = next((suffix for suffix in PACKED if name.lower().endswith(suffix)), "")
    name = name[: len(name) - len(packed)]
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    if not suffix and packed != ".zip":
        raise XpjaxError(
            f"{path}: unknown suffix {path.suffix.lower()!r}; expected one of {', '.join(SUFFIXES)}, or one of these "
            f"and {', '.join(PACKED)}"
        )
    return name[: len(name) - len(suffix)]


def _load_file(file: File, xp: Sequence[str], dtype: DTypeLike | None) -> list[Table]:
    if file.suffix in TEXT:
        with reading(file.path, "text"), file.open() as stream:
            n_byte = file.path.stat().st_size * (PACKED_RATIO if packing(file.path) else 1)
            return [TextReader(stream, file.origin, xp, dtype=dtype).whole(n_byte)]
    kind, loader = LOADERS[file.suffix]
    with reading(file.path, kind):
        return loader(file, xp)
