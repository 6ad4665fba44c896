"""Saved files, laid out as GaiaXPy's are; each appears under its name when it is whole."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.compat.gaiaxpy.errors import InvalidExtensionError
from xpjax.io.atomic import expanded, write_bytes

if TYPE_CHECKING:
    import pandas as pd

_ABOUT = {
    "source_id": ("int64", "Gaia source id", "meta.id;meta.main"),
    "xp": ("string", "Photometer", ""),
    "flux": ("float64", "Flux of each sample", "phot.flux"),
    "flux_error": ("float64", "Error of the flux of each sample", "stat.error;phot.flux"),
    "correlation": ("float64", "Correlations between samples, strict lower triangle by rows", "stat.correlation"),
    "standard_deviation": ("float64", "Standard deviation of the fit", "stat.stdev"),
}
"""Type, description and UCD of the columns of spectra."""
SINGLE = ("flux_error", "standard_deviation")
"""Columns of spectra that are in single precision in FITS and VOTable, as GaiaXPy's are."""


def save(
    frame: pd.DataFrame,
    save_file: bool,
    output_path: str | Path,
    output_file: str | None,
    output_format: str,
    positions: Any = None,
) -> None:
    """Save a frame as OUTPUT_PATH/OUTPUT_FILE.FORMAT, over an old file; positions: the sampling of spectra.

    CSV and AVRO have the sampling in a second file, ..._sampling. Raises ValueError, InvalidExtensionError, OSError.
    """
    if not save_file:
        return
    if output_file is None:
        raise ValueError("output_file must be a name, not None")
    form = output_format.lower().removeprefix(".")
    if form not in _WRITERS:
        raise InvalidExtensionError(f"no output format {output_format!r}; choose one of {', '.join(_WRITERS)}")
    folder = expanded(output_path)
    folder.mkdir(parents=True, exist_ok=True)
    sampling = None if positions is None else np.asarray(positions).tolist()
    if sampling is not None and form in ("csv", "avro"):
        import pandas as pd

        side = pd.DataFrame({"pos": [str(tuple(sampling))]})
        write_bytes(folder / f"{output_file}_sampling.{form}", _WRITERS[form](side, None))
    write_bytes(folder / f"{output_file}.{form}", _WRITERS[form](frame, sampling))


def _text_cells(frame: pd.DataFrame, brackets: str, null: str) -> pd.DataFrame:
    """The frame with arrays as text."""
    plain = frame.copy()
    for name in frame.columns:
        if any(isinstance(cell, np.ndarray) for cell in frame[name]):
            plain[name] = [_text(cell, brackets, null) for cell in frame[name]]
    return plain


def _text(cell: Any, brackets: str, null: str) -> str | None:
    if cell is None:
        return None
    numbers = ", ".join(map(repr, cell.tolist()))
    return brackets[0] + (numbers.replace("nan", null) if null != "nan" else numbers) + brackets[1]


def _csv(frame: pd.DataFrame, sampling: list[float] | None) -> bytes:
    return _text_cells(frame, "()", "nan").to_csv(index=False).encode()


def _ecsv(frame: pd.DataFrame, sampling: list[float] | None) -> bytes:
    lines = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name, (kind, length, about, ucd, unit) in _columns(frame).items():
        lines += ["# -", f"#   name: {name}", f"#   datatype: {'string' if length else kind}"]
        lines += [f"#   subtype: {kind}[{length}]"] * bool(length) + [f"#   description: {about}"] * bool(about)
        lines += [f"#   unit: {unit}"] * bool(unit) + ["#   meta:", f"#     ucd: {ucd}"] * bool(ucd)
    if sampling is not None:
        lines += ["# meta:", f"#   sampling: {sampling}"]
    return "\n".join([*lines, ""]).encode() + _text_cells(frame, "[]", "null").to_csv(index=False).encode()


def _columns(frame: pd.DataFrame) -> dict[str, tuple[str, int, str, str, str]]:
    """Type, length of its arrays (0: a scalar), description, UCD and unit of each column."""
    kind = frame.attrs.get("data_type")
    units = kind.get_units() if kind else {}
    out = {}
    for name in frame.columns:
        length = next((len(cell) for cell in frame[name] if isinstance(cell, np.ndarray)), 0)
        dtype = getattr(frame[name].dtype, "numpy_dtype", frame[name].dtype)
        letter = dtype.kind if isinstance(dtype, np.dtype) else "O"
        guess = {"i": "int64", "u": "int64", "f": "float64", "b": "bool"}.get(letter, "string")
        known, about, ucd = _ABOUT.get(name, (guess, "", ""))
        out[name] = (known, length, about, ucd, units.get(name, ""))
    return out


def _table(frame: pd.DataFrame, sampling: list[float] | None) -> Any:
    """An astropy table; arrays that are missing are NaN, scalars masked."""
    from astropy.table import Column, Table

    if sampling is None:
        return Table.from_pandas(frame)
    table = Table()
    for name, (_, length, about, _, unit) in _columns(frame).items():
        cells: Any = frame[name]
        if length:
            cells = np.stack([np.full(length, np.nan) if cell is None else cell for cell in cells])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pwl and electron/s are no units of the standards
            values = np.asarray(cells, np.str_ if name == "xp" else np.float32 if name in SINGLE else None)
            table[name] = Column(values, description=about, unit=unit or None)
    return table


def _fits(frame: pd.DataFrame, sampling: list[float] | None) -> bytes:
    from astropy.io import fits

    table = _table(frame, sampling)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = fits.table_to_hdu(table)
        if sampling is not None:
            for k, (name, (_, _, about, ucd, _)) in enumerate(_columns(frame).items(), 1):
                hdu.header[f"TCOMM{k}"], hdu.header[f"TUCD{k}"] = about, ucd
                hdu.header[f"TTYPE{k}"] = name
            hdu.header["SAMPLING"] = str(tuple(sampling))
        return _bytes(fits.HDUList([fits.PrimaryHDU(), hdu]).writeto)


def _xml(frame: pd.DataFrame, sampling: list[float] | None) -> bytes:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Param

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = from_table(_table(frame, sampling))
        if sampling is not None:
            node = file.get_first_table()
            unit = frame.attrs["data_type"].get_units()["pos"]
            values = {"datatype": "double", "arraysize": "*", "value": sampling}
            node.params.append(Param(file, name="sampling", ID="_sampling", ucd="em.wl", unit=unit, **values))
            for field, (kind, length, _, ucd, _) in zip(node.fields, _columns(frame).values(), strict=True):
                field.ucd = ucd or None
                if length or kind == "string":
                    field.ID = f"_{field.name}"
        return _bytes(file.to_xml)


def _avro(frame: pd.DataFrame, sampling: list[float] | None) -> bytes:
    import fastavro

    plain = _text_cells(frame, "()", "nan")
    kinds = {name: kind if not length else "string" for name, (kind, length, *_) in _columns(frame).items()}
    words = {"int64": "long", "float64": "double", "bool": "boolean", "string": "string"}
    fields = [{"name": n, "type": "double" if k == "float64" else ["null", words[k]]} for n, k in kinds.items()]
    schema = {"name": "Spectra" if sampling else "Photometry", "namespace": "xpjax", "type": "record", "fields": fields}
    whole = [name for name, kind in kinds.items() if kind != "float64"]
    plain = plain.astype({name: object if name in whole else float for name in plain.columns})
    plain[whole] = plain[whole].where(plain[whole].notna(), None)
    records = plain.to_dict("records")
    return _bytes(lambda stream: fastavro.writer(stream, fastavro.parse_schema(schema), records))


def _bytes(write: Callable[[Any], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


_WRITERS = {"avro": _avro, "csv": _csv, "ecsv": _ecsv, "fits": _fits, "xml": _xml}
