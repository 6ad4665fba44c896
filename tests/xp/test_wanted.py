"""Source ids of any list, table or file, exactly, in their order."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3
from xpjax.xp.wanted import is_query, wanted_ids

# float64 would give another number for each of them.
IDS = np.array([6842570949331122817, 4295806720, 5853498713190525697, 4295806720, 38655544961])
TEXTS = [str(one) for one in IDS]
GIVEN: dict[str, Callable[[], Any]] = {
    "list": IDS.tolist,
    "texts": lambda: TEXTS,
    "tuple": lambda: tuple(IDS.tolist()),
    "designations": lambda: [f"Gaia DR3 {one}" for one in TEXTS],
    "early designations": lambda: [f"Gaia EDR3 {one}" for one in TEXTS],
    "array": lambda: IDS,
    "unsigned": lambda: IDS.astype(np.uint64),
    "array of text": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array([*IDS.tolist()], object),
    "big-endian": lambda: IDS.astype(">i8"),
    "Series": lambda: pd.Series(IDS),
    "frame": lambda: pd.DataFrame({"ra": 1.0, "source_id": IDS}),
    "capitals": lambda: pd.DataFrame({"ra": 1.0, "SOURCE_ID": IDS}),
    "columns": lambda: {"source_id": IDS},
    "astropy": lambda: __import__("astropy.table").table.Table({"source_id": IDS}),
    "arrow": lambda: __import__("pyarrow").table({"source_id": IDS}),
    "records": lambda: np.array([(one, 1.0) for one in IDS.tolist()], [("source_id", "i8"), ("ra", "f8")]),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_ids_in_memory(kind: str) -> None:
    found = wanted_ids(GIVEN[kind](), release=DR3)
    np.testing.assert_array_equal(found, IDS)
    assert found.dtype == np.int64


LINES = {
    "plain": "\n".join(TEXTS),
    "comments": "# my stars\n\n" + "\r\n".join(f" {one}  # a star" for one in TEXTS) + "\n",
    "headed": "source_id\n" + "\n".join(TEXTS),
    "quoted": "\n".join(f'"{one}",' for one in TEXTS),
    "designations": "\n".join(f"Gaia DR3 {one}" for one in TEXTS),
    "csv": "ra,source_id,dec\n" + "\n".join(f"1.5,{one},2.5" for one in TEXTS),
    "blanks": "SOURCE_ID  G\n" + "\n".join(f"{one}  15.2" for one in TEXTS),
}


@pytest.mark.parametrize("kind", LINES)
def test_text_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(LINES[kind].encode())
    np.testing.assert_array_equal(wanted_ids(path), IDS)
    np.testing.assert_array_equal(wanted_ids(str(path)), IDS)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".fits", ".vot", ".parquet", ".h5", ".ecsv"])
def test_columns_of_tables(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stars{suffix}"
    xpjax.write(path, {"ra": np.arange(5.0), "source_id": IDS, "gaia_id": IDS[::-1], "name": np.array([*"abcde"])})
    np.testing.assert_array_equal(wanted_ids(path), IDS)
    np.testing.assert_array_equal(wanted_ids(path, column="gaia_id"), IDS[::-1])
    with pytest.raises(XpjaxError, match=r"no column 'gaia'.*gaia_id"):
        wanted_ids(path, column="gaia")


def test_empty_cells_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("source_id,ra\n6842570949331122817,1\n,2\nnull,3\n5853498713190525697,4\n")
    expected = [6842570949331122817, 0, 0, 5853498713190525697]
    assert wanted_ids(path).tolist() == expected
    frame = pd.DataFrame({"source_id": pd.array([expected[0], None, None, expected[3]], "Int64")})
    assert wanted_ids(frame).tolist() == expected
    assert wanted_ids([expected[0], None, float("nan"), expected[3]]).tolist() == expected


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "floats": (lambda: IDS.astype(float), "float64, which rounds them"),
    "list of floats": (lambda: [4295806720, 4295806721.0], r"source id 2 is 4295806721.0"),
    "column of floats": (lambda: pd.DataFrame({"source_id": IDS.astype(float)}), "floating-point"),
    "truth": (lambda: [True], "source id 1 is True"),
    "names": (lambda: ["Vega"], "'Vega' is no source id"),
    "rounded text": (lambda: ["6.84e18"], "no source id"),
    "another release": (lambda: ["Gaia DR2 4295806720"], "another release than Gaia DR3"),
    "too large": (lambda: [2**63], "source id 1"),
    "no column": (lambda: pd.DataFrame({"ra": [1.0]}), "no column of source ids: ra; add source_id"),
    "two axes": (lambda: np.zeros((2, 2), int), r"an array \(n,\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_id_is_refused(kind: str) -> None:
    given, message = WRONG[kind]
    with pytest.raises(XpjaxError, match=message):
        wanted_ids(given(), release=DR3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source_id,ra\n6.842570949331123e+18,1\n", "floating-point"),
        ("# mine\n\n4295806720\n\nVega\n", "ids.csv: line 5: 'Vega' is no source id"),
        ("DR3Name\nGaia DR3 4295806720\n", r"no column of source ids: DR3Name; add source_id, or name the column"),
        ("ra,dec\n1.5,2\n", r"no column of source ids: ra, dec; add source_id, or name the column: column="),
        ("4295806720\n4295806721.5\n", "line 2: '4295806721.5' is no source id"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(text)
    with pytest.raises(XpjaxError, match=message):
        wanted_ids(path)


def test_a_list_of_designations_with_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("DR3 Name\n" + "\n".join(f"Gaia DR3 {one}" for one in TEXTS))
    assert wanted_ids(path, column="DR3 Name").tolist() == IDS.tolist()
    with pytest.raises(XpjaxError, match="no column 'name': it has DR3 Name, or name the column"):
        wanted_ids(path, column="name")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(("# \xb5\n" + "\n".join(TEXTS)).encode(encoding))
    assert wanted_ids(path).tolist() == IDS.tolist()


def test_damaged_packed_files_are_told(tmp_path: Path) -> None:
    text = ("source_id\n" + "\n".join(TEXTS)).encode()
    for name, data in (
        ("cut.csv.gz", gzip.compress(text)[:-9]),
        ("cut.csv.bz2", bz2.compress(text)[:-9]),
        ("cut.csv.xz", lzma.compress(text)[:-9]),
        ("cut.zip", b"PK\x03\x04" + bytes(50)),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(XpjaxError, match=rf"{name}: the file is .*; download it again"):
            wanted_ids(tmp_path / name)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv: no such file of source ids"):
        wanted_ids("nowhere.csv")


def test_none_at_all() -> None:
    for nothing in ([], np.zeros(0), np.zeros(0, int), {"source_id": np.zeros(0, int)}):
        assert len(wanted_ids(nothing)) == 0


def test_what_is_a_query() -> None:
    queries = ["select 1", "  SELECT\n*", "-- mine\nselect a", "/* a\nb */ select a", "WITH x AS (select 1) select 2"]
    assert all(map(is_query, queries))
    assert not any(map(is_query, ["selection.csv", "select", "with.csv", "4295806720", "a select b", 5]))
