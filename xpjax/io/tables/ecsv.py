"""Headers of ECSV, which astropy also writes into Parquet and HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.tables.parsing import parse_numbers
from xpjax.io.tables.raw import Raw
from xpjax.io.tables.vectors import matrix


def yaml_header(lines: Sequence[str]) -> dict[str, Any]:
    """What a header of YAML says, by astropy. Raises XpjaxError for one that is none."""
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    try:
        return dict(get_header_from_yaml(lines))
    except (YamlParseError, KeyError, TypeError, ValueError) as error:
        raise XpjaxError(f"the ECSV header cannot be read: {error}") from error


def stated_units(lines: Sequence[str]) -> dict[str, str]:
    """The units of a header of YAML by column."""
    columns = yaml_header(lines).get("datatype", [])
    return {column["name"]: str(column["unit"]) for column in columns if column.get("unit")}


def masks(header: Mapping[str, Any]) -> dict[str, str]:
    """The column of booleans that says where another one is missing, by the name of that one."""
    serialized = (header.get("meta") or {}).get("__serialized_columns__") or {}
    out = {}
    for entry in serialized.values():
        if isinstance(entry, Mapping) and "mask" in entry and "data" in entry:
            names = [entry[key].get("name") for key in ("data", "mask") if isinstance(entry[key], Mapping)]
            if len(names) == 2:
                out[str(names[0])] = str(names[1])
    return out


def typed(raw: Raw, datatype: str, subtype: str | None) -> Raw:
    """Cells of text as the type that the header states; as they are where some cell is not of it."""
    if subtype and "[" in subtype:
        found = matrix(raw.values)
        kind = subtype.partition("[")[0]
        if found is None:
            return raw
        found = found.astype(kind) if kind in ("float32", "float64") or np.isfinite(found).all() else found
        return Raw(found, np.isnan(found) if found.dtype.kind == "f" else np.zeros(found.shape, bool))
    if datatype == "string":
        return Raw(raw.values, raw.missing, typed=True)
    if datatype == "bool":
        import pyarrow.compute as pc

        lower = pc.utf8_lower(pc.utf8_trim_whitespace(raw.values)).to_pylist()
        if all(cell in ("true", "false", "", None) for cell in lower):
            missing = np.array([not cell for cell in lower], bool)
            return Raw(np.array([cell == "true" for cell in lower], bool), missing)
        return raw
    if datatype.startswith("float"):
        numbers, odd = parse_numbers(raw.values)
        if odd.any():
            return raw
        with np.errstate(over="ignore"):
            return Raw(numbers.astype(datatype if datatype != "float128" else "float64"), np.isnan(numbers))
    return raw  # integers are told by their cells: they never pass through float64
