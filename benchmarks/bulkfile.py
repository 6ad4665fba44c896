"""A made bulk file in the archive's own layout: ECSV, 26 columns, arrays as "[a,b]", some 41 kB of text a source.

As in the archive, coefficients have the digits of float64, their errors and correlations those of float32.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np

from xpjax.xp.sources import SourceTable

ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations")
KINDS = {"source_id": "int64", "solution_id": "int64"} | {
    f"{xp}_{field}": kind
    for xp in ("bp", "rp")
    for field, kind in {
        "basis_function_id": "int16",
        "degrees_of_freedom": "int16",
        "n_parameters": "int16",
        "n_measurements": "int16",
        "n_rejected_measurements": "int16",
        "standard_deviation": "float32",
        "chi_squared": "float32",
        "coefficients": "string",
        "coefficient_errors": "string",
        "coefficient_correlations": "string",
        "n_relevant_bases": "int16",
        "relative_shrinking": "float32",
    }.items()
}
"""Columns of a bulk file and their types, in order."""


def header() -> str:
    """The lines before the first row."""
    lines = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name, kind in KINDS.items():
        lines += ["# -", f"#   name: {name}", f"#   datatype: {kind}", f"#   description: {name.replace('_', ' ')}"]
        if kind == "string":
            lines.append(f"#   subtype: {'float64' if name.endswith('_coefficients') else 'float32'}[null]")
    return "\n".join([*lines, "# meta:", "#   name: GaiaSource", ",".join(KINDS)]) + "\n"


def text(table: SourceTable, seed: int = 0, missing_bp: tuple[int, ...] = (), null: str = "null") -> bytes:
    """The file as plain text: sources of a table with correlations; no BP in some rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    c, release, n = table.coefficients, table.release, len(table)
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {
        "source_id": pa.array(table.source_id),
        "solution_id": pa.array(np.full(n, 4545469030156206080)),
    }
    for k, xp in enumerate(release.xp):
        gone = np.zeros(n, bool)
        gone[list(missing_bp) if k == 0 else []] = True
        value = c.value[:, release.slices[k]].astype(float)
        arrays = (
            # Digits that float32 does not hold, as in the archive.
            value * (1 + 2e-8 * rng.uniform(-1, 1, value.shape)),
            c.error[:, release.slices[k]].astype(np.float32),
            c.correlation[:, release.pair_slices[k]].astype(np.float32),
        )
        measured = rng.integers(300, 5000, n)
        scalars = {
            "basis_function_id": np.full(n, 56 + k),
            "degrees_of_freedom": measured - release.n_basis[k],
            "n_parameters": np.full(n, release.n_basis[k]),
            "n_measurements": measured,
            "n_rejected_measurements": rng.integers(0, 30, n),
            "standard_deviation": rng.uniform(0.9, 1.4, n).astype(np.float32),
            "chi_squared": rng.uniform(300, 6000, n).astype(np.float32),
            "n_relevant_bases": c.n_relevant[:, k],
            "relative_shrinking": rng.uniform(0, 1, n).astype(np.float32),
        }
        cells = {name: pc.cast(pa.array(array), pa.string()) for name, array in scalars.items()}
        for name, array in zip(ARRAYS, arrays, strict=True):
            offsets = np.arange(n + 1, dtype=np.int32) * np.int32(array.shape[1])
            lists = pa.ListArray.from_arrays(offsets, pc.cast(pa.array(array.ravel()), pa.string()))
            cells[name] = pc.binary_join_element_wise('"[', pc.binary_join(lists, ","), ']"', "")
        for name, cell in cells.items():
            columns[f"{xp}_{name}"] = pc.if_else(pa.array(gone), null, cell)
    ordered = [pc.cast(columns[name], pa.string()) for name in KINDS]
    rows = pc.binary_join_element_wise(*ordered, ",")
    return (header() + "\n".join(rows.to_pylist()) + "\n").encode()


def write(path: Path, data: bytes) -> Path:
    """The text as a file, compressed as the archive's where the name ends in .gz."""
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
    return path


def copies(data: bytes, n: int) -> bytes:
    """The rows of a text n times, under its header."""
    start = len(header())
    stream = io.BytesIO()
    stream.write(data[:start])
    for _ in range(n):
        stream.write(data[start:])
    return stream.getvalue()
