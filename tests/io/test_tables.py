"""The one reader of tables: formats agree, what is missing stays missing, ids keep their digits, doubt is refused."""

from __future__ import annotations

import bz2
import dataclasses
import decimal
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from benchmarks import odd_tables, untidy
from xpjax.core.errors import XpjaxError
from xpjax.io.tables import open_table, open_tables, split_part
from xpjax.io.tables.column import Column, Ids

BIG = (1 << 60) + 1
"""An id that float64 cannot hold."""
IDS = [BIG, BIG + 1, None, BIG + 2]
NUMBERS = [12.5, float("nan"), 13.25, -1.5]
NAMES = ["e1", "", "e2", "e1"]
GONE = np.array([value is None for value in IDS])
FORMATS = ("csv", "tsv", "txt", "ecsv", "fits", "votable", "parquet", "hdf5", "records", "pandas", "astropy", "dict",
           "arrow", "catalogue")  # fmt: skip


def masked() -> Table:
    ids = MaskedColumn([BIG, BIG + 1, 0, BIG + 2], mask=GONE)
    return Table({"id": ids, "mag": NUMBERS, "name": MaskedColumn(NAMES, mask=[False, True, False, False])})


def lines(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def text_file(path: Path, mark: str, null: str) -> Path:
    cells = zip(IDS, NUMBERS, NAMES, strict=True)
    rows = [mark.join(null if x in (None, "") or x != x else str(x) for x in row) for row in cells]
    return lines(path, mark.join(("id", "mag", "name")), *rows)


def in_format(form: str, folder: Path) -> Any:
    """The table of IDS, NUMBERS and NAMES: two gaps and a NaN."""
    path = folder / f"made.{form}"
    arrow = pa.table({"id": pa.array(IDS, pa.int64()), "mag": NUMBERS, "name": [name or None for name in NAMES]})
    if form in ("csv", "tsv", "txt"):
        return text_file(path, {"csv": ",", "tsv": "\t", "txt": "  "}[form], "null" if form == "txt" else "")
    if form == "ecsv":
        masked().write(path, format="ascii.ecsv")
    elif form == "fits":
        values = np.array([-1 if x is None else x for x in IDS])
        columns = [fits.Column("id", "K", array=values, null=-1), fits.Column("mag", "D", array=np.array(NUMBERS)),
                   fits.Column("name", "4A", array=np.array(NAMES))]  # fmt: skip
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    elif form == "votable":
        from_table(masked()).to_xml(str(path))
    elif form == "parquet":
        pq.write_table(arrow, path)
    elif form == "hdf5":
        with h5py.File(path, "w") as file:
            file["id"] = np.array([-1 if x is None else x for x in IDS])
            file["id"].attrs["_FillValue"] = np.int64(-1)
            file["mag"] = NUMBERS
            file.create_dataset("name", data=NAMES, dtype=h5py.string_dtype())
    elif form == "records":
        table = masked()
        table.convert_unicode_to_bytestring()
        table.write(path, path="made", format="hdf5", serialize_meta=True)
    else:
        ids = pd.array(IDS, "Int64")
        return {
            "pandas": lambda: pd.DataFrame({"id": ids, "mag": NUMBERS, "name": [name or None for name in NAMES]}),
            "astropy": masked, "arrow": lambda: arrow,
            "dict": lambda: {"id": IDS, "mag": NUMBERS, "name": [name or None for name in NAMES]},
            "catalogue": lambda: {"id": np.ma.array([x or 0 for x in IDS], mask=GONE), "mag": np.array(NUMBERS),
                                  "name": np.array(NAMES)},
        }[form]()  # fmt: skip
    return path


# --- formats agree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_is_the_same_in_every_format(tmp_path: Path, form: str) -> None:
    table = open_table(in_format(form, tmp_path))
    assert len(table) == 4
    assert table.names == ["id", "mag", "name"]
    ids = table.column("id").ids()
    assert ids.value.dtype == np.int64
    assert ids.value.tolist() == [BIG, BIG + 1, 0, BIG + 2]
    assert ids.missing.tolist() == GONE.tolist()
    np.testing.assert_array_equal(table.column("mag").numbers(), NUMBERS)
    assert table.column("name").texts().tolist() == NAMES
    assert not table.notes


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_passed_on_keeps_its_digits(tmp_path: Path, form: str) -> None:
    table = open_table(in_format(form, tmp_path))
    assert table.column("id").plain().tolist() == [BIG, BIG + 1, None, BIG + 2]
    np.testing.assert_array_equal(table.column("mag").plain(), NUMBERS)


def test_masks_that_astropy_writes_beside_columns_of_ecsv(tmp_path: Path) -> None:
    masked().write(tmp_path / "a.ecsv", format="ascii.ecsv", serialize_method="data_mask")
    table = open_table(tmp_path / "a.ecsv")
    assert table.names == ["id", "mag", "name"]
    assert table.column("id").ids().missing.tolist() == GONE.tolist()
    assert table.column("name").texts().tolist() == NAMES


def test_digits_that_say_more_than_their_number_are_passed_on_as_text(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "zeros,beyond,mixed,plain", f"007,{1 << 63},{BIG},1.50", "8,5,0.5,2")
    table = open_table(path)
    assert table.column("zeros").plain().tolist() == ["007", "8"]
    assert table.column("beyond").plain().tolist() == [str(1 << 63), "5"]
    assert table.column("mixed").plain().tolist() == [str(BIG), "0.5"]
    assert table.column("plain").plain().tolist() == [1.5, 2]


def test_nulls_of_scaled_integers_in_fits(tmp_path: Path) -> None:
    """TNULL is a value as it is stored, before TSCAL and TZERO."""
    gone, traits = np.array([False, False, True, False]), frozenset({"scale:0.5", "zero:10.0"})
    column = odd_tables.Made("mag", "mag", np.array([100, 200, 0, 7], "i2"), None, gone, traits=traits)
    fits.HDUList([fits.PrimaryHDU(), odd_tables.fits_table([column])]).writeto(tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits", 1)["TNULL1"] == -9999
    np.testing.assert_array_equal(open_table(tmp_path / "a.fits").column("mag").numbers(), [60, 110, np.nan, 13.5])


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "votable"])
def test_packed_files_whatever_their_name(tmp_path: Path, form: str, pack: str) -> None:
    data = in_format(form, tmp_path).read_bytes()
    path = tmp_path / ("packed.gz" if pack == "gz" else "packed")
    if pack == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner", data)
    else:
        path.write_bytes({"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[pack](data))
    assert open_table(path).column("id").ids().value.tolist() == [BIG, BIG + 1, 0, BIG + 2]


@pytest.mark.parametrize("form", ["fits", "votable", "parquet", "hdf5", "records"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, form: str) -> None:
    path = in_format(form, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data.rstrip(b"\0 ")) * 7 // 10])
    with pytest.raises(XpjaxError, match=r"made\.\w+.*download it again"):
        [open_table(path).column(name) for name in ("id", "mag", "name")]


def test_a_later_table_of_which_the_header_is_cut_is_not_lost(tmp_path: Path) -> None:
    whole = several("fits", tmp_path / "a.fits")
    with fits.open(whole) as hdus:
        start = hdus.fileinfo(2)["hdrLoc"]
    for path, pack in ((tmp_path / "b.fits", bytes), (tmp_path / "b.fits.gz", gzip.compress)):
        path.write_bytes(pack(whole.read_bytes()[: start + 400]))
        with pytest.raises(XpjaxError, match=rf"{path.name}: the file is truncated; download it again"):
            open_table(path)


def test_a_table_cut_before_its_objects_is_refused(tmp_path: Path) -> None:
    columns = list(odd_tables.tidy(np.random.default_rng(1)).values())
    path = odd_tables.write("ldac", columns, tmp_path / "a.ldac", np.random.default_rng(1))
    with fits.open(path) as hdus:
        keep = sum(hdu._data_offset + hdu._data_size if k == 1 else 0 for k, hdu in enumerate(hdus))
    path.write_bytes(path.read_bytes()[: -(-keep // 2880) * 2880])
    with pytest.raises(XpjaxError, match=r"a\.ldac ends after LDAC_IMHEAD.*download it again"):
        open_table(path)


def test_hdf5_is_opened_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class File(h5py.File):
        def __init__(self, *args: Any, locking: Any = None, **options: Any) -> None:
            asked.append(locking)
            super().__init__(*args, locking=locking, **options)

    paths = [in_format(form, tmp_path) for form in ("hdf5", "records")]
    monkeypatch.setattr(h5py, "File", File)
    for path in paths:
        open_table(path).column("mag")
    assert len(asked) == 4
    assert set(asked) == {False}


# --- columns that nobody asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pa.array([{"a": 1}] * 4), pa.array([[1.0], [1.0, 2.0], [], None]), pa.array([[{"a": 1}]] * 4),
        pa.array([b"\xff"] * 4), pa.array([True, None, True, False]),
    ],
)  # fmt: skip
def test_columns_not_asked_for_are_not_looked_at(tmp_path: Path, other: Any) -> None:
    table = pa.table({"id": pa.array(IDS, pa.int64()), "other": other})
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        opened = open_table(source)
        opened.load(["id", "other"])
        assert opened.column("id").ids().value[0] == BIG


def test_one_column_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    table = open_table(pa.table({"x": [1.0, 2.0], "bad": [["a"], ["b"]]}))
    table.load(["x", "bad"])
    assert table.column("x").numbers().tolist() == [1, 2]
    with pytest.raises(XpjaxError, match=r"memory: column 'bad' holds lists of string"):
        table.column("bad")


STRUCTURES = pa.table({
    "id": [1, 2, 3],
    "mag": pa.array([{"g": 15.0, "error": {"g": 0.1}}, None, {"g": 16.0, "error": None}]),
    "lists": pa.array([{"t": [1.0, 2.0], "v": [3.0, 4.0]}, {"t": [0.5, np.nan], "v": [5.0, 6.0]}, None]),
    "rows": pa.array([
        [{"t": 1.0, "v": 3.0}, {"t": 2.0, "v": 4.0}], None, [{"t": 7.0, "v": None}, {"t": 8.0, "v": 9.0}],
    ]),
    "mag.error": [7, 8, 9],
})  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "table", "slice", "pandas", "nested"])
def test_what_structures_hold_is_columns(tmp_path: Path, kind: str) -> None:
    """Numbers, structures of lists and lists of structures, from files and from memory, whole and in part."""
    pq.write_table(STRUCTURES, tmp_path / "a.parquet")
    source: Any = {
        "file": lambda: tmp_path / "a.parquet",
        "table": lambda: STRUCTURES,
        "slice": lambda: pa.concat_tables([STRUCTURES.slice(2), STRUCTURES]).slice(1),
        "pandas": lambda: STRUCTURES.to_pandas(types_mapper=pd.ArrowDtype),
        "nested": lambda: pytest.importorskip("nested_pandas").read_parquet(tmp_path / "a.parquet"),
    }[kind]()
    table = open_table(source)
    names = ["id", "mag.g", "mag.error.g", "lists.t", "lists.v", "rows.t", "rows.v", "mag.error"]
    assert sorted(table.names) == sorted(names)
    np.testing.assert_array_equal(table.column("mag.g").numbers(), [15, np.nan, 16])
    np.testing.assert_array_equal(table.column("mag.error.g").numbers(), [0.1, np.nan, np.nan])
    np.testing.assert_array_equal(table.column("mag.error").numbers(), [7, 8, 9])
    none = [np.nan, np.nan]
    np.testing.assert_array_equal(table.column("lists.t").array(), [[1, 2], [0.5, np.nan], none])
    np.testing.assert_array_equal(table.column("lists.v").array(), [[3, 4], [5, 6], none])
    np.testing.assert_array_equal(table.column("rows.t").array(), [[1, 2], none, [7, 8]])
    np.testing.assert_array_equal(table.column("rows.v").array(), [[3, 4], none, [np.nan, 9]])
    with pytest.raises(XpjaxError, match=r"no column 'mag'; did you mean .*mag\.g"):
        table.column("mag")


# --- names ------------------------------------------------------------------------------------------------------------


def with_name_twice(form: str, folder: Path) -> Any:
    path = folder / f"twice.{form}"
    if form in ("csv", "txt"):
        return lines(
            path, *(row.replace(",", "," if form == "csv" else " ") for row in ("x,mag,mag", "1,2,3", "4,5,6"))
        )
    if form == "fits":
        made = [fits.Column(name, "D", array=np.array([1.0, 4.0])) for name in ("x", "mag", "ZZZ")]
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(path)
        path.write_bytes(path.read_bytes().replace(b"'ZZZ", b"'mag"))
    elif form == "votable":
        from_table(Table({"x": [1.0, 4.0], "mag": [2.0, 5.0], "ZZZ": [3.0, 6.0]})).to_xml(str(path))
        path.write_bytes(path.read_bytes().replace(b'name="ZZZ"', b'name="mag"'))
    else:
        table = pa.table([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], names=["x", "mag", "mag"])
        if form == "arrow":
            return table
        if form == "pandas":
            return pd.DataFrame([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], columns=["x", "mag", "mag"])
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("form", ["csv", "txt", "fits", "votable", "parquet", "arrow", "pandas"])
def test_a_name_twice_is_refused_where_it_is_asked_for(tmp_path: Path, form: str) -> None:
    source = with_name_twice(form, tmp_path)
    table = open_table(source)
    assert table.column("x").numbers().tolist() == [1, 4]
    with pytest.raises(XpjaxError, match=rf"{'twice' if isinstance(source, Path) else 'memory'}.*'mag'.*there twice"):
        table.column("mag")


def test_names_in_fits_have_no_case(tmp_path: Path) -> None:
    made = [fits.Column(name, "D", array=np.array([k])) for k, name in enumerate(("x", "MAG", "ZZZ"))]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes((tmp_path / "a.fits").read_bytes().replace(b"'ZZZ", b"'mag"))
    table = open_table(tmp_path / "a.fits")
    assert table.column("x").numbers() == [0]
    with pytest.raises(XpjaxError, match=r"a\.fits: the column 'MAG' is there twice"):
        table.column("MAG")


def test_a_column_that_is_not_there_is_named_with_near_ones(tmp_path: Path) -> None:
    table = open_table(in_format("csv", tmp_path))
    with pytest.raises(XpjaxError, match=r"made\.csv has no column 'MAG' for magnitude; did you mean mag\?"):
        table.column("MAG", "magnitude")
    with pytest.raises(XpjaxError, match=r"it has id, mag, name"):
        table.column("wwww")


# --- several tables ---------------------------------------------------------------------------------------------------


def several(form: str, path: Path, unlike: bool = False) -> Path:
    rng = np.random.default_rng(3)
    columns = odd_tables.tidy(rng)
    return odd_tables.write_several(form, [columns["id"], columns["mag"]], path, rng, unlike)


@pytest.mark.parametrize("form", odd_tables.SEVERAL)
def test_like_tables_of_a_file_are_all_read(tmp_path: Path, form: str) -> None:
    columns = odd_tables.tidy(np.random.default_rng(3))
    path = several(form, tmp_path / "a.dat")
    parts = open_tables(path)
    assert len(parts) == 2
    assert sum(map(len, parts)) == odd_tables.N
    table = open_table(path)
    assert table.column("OBJ_ID").ids().value.tolist() == columns["id"].truth
    np.testing.assert_array_equal(table.column("MAG_PSF").numbers(), columns["mag"].truth)
    second = parts[1]
    chosen = open_tables(f"{path}[{second.part}]")
    assert [len(table) for table in chosen] == [len(second)]
    with pytest.raises(XpjaxError, match=r"a\.dat has no table 'nothing'"):
        open_tables(f"{path}[nothing]")


@pytest.mark.parametrize("form", odd_tables.SEVERAL)
def test_unlike_tables_of_a_file_are_named(tmp_path: Path, form: str) -> None:
    path = several(form, tmp_path / "a.dat", unlike=True)
    with pytest.raises(
        XpjaxError, match=r"a\.dat holds several tables of different columns: .*name one, as in a\.dat\["
    ):
        open_table(path)


def test_extensions_have_names(tmp_path: Path) -> None:
    path = several("fits", tmp_path / "a.fits", unlike=True)
    assert "MORE" in open_table(f"{path}[CCD2]")
    assert "MORE" not in open_table(f"{path}[1]")
    assert split_part(f"{path}[CCD2]") == (path, "CCD2")
    odd = lines(tmp_path / "b[1].csv", "x", "1")
    assert split_part(odd) == (odd, "")
    assert open_table(odd).column("x").numbers() == [1]


# --- identifiers ------------------------------------------------------------------------------------------------------


def ids_of(values: Any) -> Ids:
    return open_table({"id": values}).column("id").ids()


def ids_of_text(tmp_path: Path, *cells: str) -> Ids:
    return open_table(lines(tmp_path / "ids.csv", "id,x", *(f"{cell},1" for cell in cells))).column("id").ids()


@pytest.mark.parametrize("values", [
    np.array([BIG, BIG + 1], "u8"), np.array([BIG, BIG + 1], ">i8"), [decimal.Decimal(BIG), decimal.Decimal(BIG + 1)],
    pa.array([decimal.Decimal(BIG), decimal.Decimal(BIG + 1)], pa.decimal128(38, 0)),
    [str(BIG), f" {BIG + 1} "], [str(BIG).encode(), str(BIG + 1).encode()], pd.array([BIG, BIG + 1], "Int64"),
    pd.Series([str(BIG), str(BIG + 1)], dtype="category"), np.array([BIG, BIG + 1], object),
])  # fmt: skip
def test_ids_of_any_type_keep_their_digits(values: Any) -> None:
    found = ids_of(values)
    assert found.value.dtype == np.int64
    assert found.value.tolist() == [BIG, BIG + 1]


def test_ids_that_are_names_stay_as_they_are(tmp_path: Path) -> None:
    assert ids_of_text(tmp_path, "0012", "12", "").value.tolist() == ["0012", "12", ""]
    assert ids_of_text(tmp_path, "Gaia DR3 7", "8").value.tolist() == ["Gaia DR3 7", "8"]
    assert ids_of_text(tmp_path, "-3", "12").value.tolist() == [-3, 12]


def test_ids_beyond_int64_are_text_in_text_and_refused_as_numbers(tmp_path: Path) -> None:
    beyond = (1 << 63) + 5
    assert ids_of_text(tmp_path, str(beyond), "7").value.tolist() == [str(beyond), "7"]
    with pytest.raises(XpjaxError, match=rf"column 'id': row 2: {beyond} is beyond int64"):
        ids_of(np.array([7, beyond], "u8"))


@pytest.mark.parametrize("values", [
    np.array([BIG, 1.0]), np.array([1.5, 2.0]), np.array([2.0**25], "f4"), np.array([np.nan, 1e19]),
])  # fmt: skip
def test_ids_that_float_has_rounded_are_refused(values: Any) -> None:
    with pytest.raises(XpjaxError, match=r"memory: column 'id' holds identifiers as floating-point.*int64 or text"):
        ids_of(values)


def test_whole_floats_that_are_exact_are_ids(tmp_path: Path) -> None:
    assert ids_of(np.array([3.0, np.nan, 2.0**53])).value.tolist() == [3, 0, 2**53]
    assert ids_of_text(tmp_path, "3.0", "", "4.0").value.tolist() == [3, 0, 4]
    with pytest.raises(XpjaxError, match=r"ids\.csv: column 'id': row 1: the identifier '1.15e\+18' is a floating"):
        ids_of_text(tmp_path, "1.15e+18", "1.16e+18")
    with pytest.raises(XpjaxError, match=r"row 2: the identifier '1.15e18' is a floating"):
        ids_of_text(tmp_path, "7", "1.15e18", "8", "9")
    assert ids_of_text(tmp_path, "7", "1.15e18", "star 8").value.tolist() == ["7", "1.15e18", "star 8"]


# --- numbers and words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", odd_tables.WORDS)
def test_words_for_missing(tmp_path: Path, word: str) -> None:
    path = lines(tmp_path / "a.csv", "id,mag,name", f"{BIG},1.5,e1", f" {word} ,{word},{word}")
    for source in (path, {"id": [str(BIG), word], "mag": ["1.5", f" {word}"], "name": ["e1", word]}):
        table = open_table(source)
        assert table.column("id").ids().value.tolist() == [BIG, 0]
        np.testing.assert_array_equal(table.column("mag").numbers(), [1.5, np.nan])
        assert table.column("name").texts().tolist() == ["e1", ""]
        assert not table.notes


def test_one_odd_cell_is_missing_and_noted(tmp_path: Path) -> None:
    table = open_table(lines(tmp_path / "a.csv", "mag,x", "1.5,1", "saturated,2", "2.5,3"))
    np.testing.assert_array_equal(table.column("mag").numbers(), [1.5, np.nan, 2.5])
    (note,) = table.notes
    assert "a.csv: column 'mag': 1 cells are not a number, such as 'saturated' in row 2" in note


@pytest.mark.parametrize("cell", ["12,5", "1_5", "0x10", "12:30", "bright"])
def test_a_column_of_odd_cells_is_refused(tmp_path: Path, cell: str) -> None:
    table = open_table(lines(tmp_path / "a.tsv", "mag\tx", f"{cell}\t1", f"{cell}\t2"))
    with pytest.raises(XpjaxError, match=rf"a\.tsv: row 1: column 'mag' is '{cell}', expected a number; mend"):
        table.column("mag").numbers()


@pytest.mark.parametrize(("values", "message"), [
    ([True, False], "true and false"), ([1j, 2j], "complex"), (np.ones((2, 3)), "3 numbers a row, expected one"),
    (np.array(["2020-01-01", "2020-01-02"], "M8[us]"), "dates"), ([[1.0], [1.0, 2.0]], "numbers in row 1"),
    ([{"a": 1}, {"a": 2}], "struct"),
])  # fmt: skip
def test_what_holds_no_numbers_is_refused(values: Any, message: str) -> None:
    values = np.array(values) if message == "complex" else values
    with pytest.raises(XpjaxError, match=rf"memory: column 'mag'.*{message}"):
        open_table({"mag": values}).column("mag").numbers()


def test_infinities_are_missing_and_sentinels_are_numbers(tmp_path: Path) -> None:
    table = open_table(lines(tmp_path / "a.csv", "mag,x", "inf,1", "-Infinity,2", "99,3"))
    np.testing.assert_array_equal(table.column("mag").numbers(), [np.nan, np.nan, 99])
    table = open_table({"t": ["inf", "2020-01-01"], "v": np.array([[1, np.inf], [2, 99]]), "a": ["inf", "1:30:00"]})
    np.testing.assert_array_equal(table.column("t").times(), [np.nan, 58849])
    np.testing.assert_array_equal(table.column("v").array(), [[1, np.nan], [2, 99]])
    np.testing.assert_array_equal(table.column("a").angles(), [np.nan, 1.5])


def test_frames_called_by_numbers_have_one_name_in_every_format(tmp_path: Path) -> None:
    """pandas writes 1.0 for 1 where a cell of the column is missing."""
    path = lines(tmp_path / "a.csv", "ccd,zeros,version", "1.0,007,1.0", ",008,1.5", "2.0,,2.0")
    table = open_table(path)
    assert table.column("ccd").texts().tolist() == ["1", "", "2"]
    assert table.column("zeros").texts().tolist() == ["007", "008", ""]
    assert table.column("version").texts().tolist() == ["1.0", "1.5", "2.0"]
    for values in (np.array([1.0, np.nan, 2.0]), [1, None, 2]):
        assert open_table({"ccd": values}).column("ccd").texts().tolist() == ["1", "", "2"]
    assert open_table({"ccd": ["1.0", "2.0"]}).column("ccd").texts().tolist() == ["1.0", "2.0"]


def test_flags_are_whole_numbers() -> None:
    table = open_table({"a": [True, False], "b": [3.0, np.nan], "c": ["4", ""], "d": [1.5, 2.0]})
    assert [table.column(name).flags().tolist() for name in "abc"] == [[1, 0], [3, 0], [4, 0]]
    with pytest.raises(XpjaxError, match=r"column 'd': row 1: flags are whole numbers, not 1.5"):
        table.column("d").flags()


BITS = (1 << 60) | 1
"""Flags that float64 cannot hold."""


def test_flags_of_64_bits_keep_them_all(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "f,x", f"{BITS},1", ",2", "3,3")
    for source in (path, {"f": np.ma.array([BITS, 0, 3], mask=[False, True, False])}, {"f": [BITS, None, 3]}):
        assert open_table(source).column("f").flags().tolist() == [BITS, 0, 3]
    assert open_table({"f": [float("inf"), 3.0]}).column("f").flags().tolist() == [0, 3]
    with pytest.raises(XpjaxError, match=r"column 'f': row 1: flags are whole numbers, not 1.15.*write it as integers"):
        open_table({"f": np.array([float(BITS)])}).column("f").flags()


def test_numbers_that_netcdf_packed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["v"] = np.array([100, -1, 200], "i2")
        file["v"].attrs.update({"scale_factor": 0.01, "add_offset": 10.0, "_FillValue": np.int16(-1)})
    np.testing.assert_allclose(open_table(tmp_path / "a.nc").column("v").numbers(), [11, np.nan, 12], rtol=1e-14)


def test_tables_in_memory_of_odd_columns() -> None:
    moments = Time([58849.5, 58850.5], format="mjd")
    moments[1] = np.ma.masked
    for source in ({"t": moments}, Table({"t": moments})):
        np.testing.assert_array_equal(open_table(source).column("t").times(), [58849.5, np.nan])
    table = open_table(
        {7: [1.0, 2.0], "b": [np.ma.masked, 1.5], "c": np.array([0.1, 2], "f4"), "d": [[1.0], [2.0, 3.0]]}
    )
    assert table.column("7").numbers().tolist() == [1, 2]
    np.testing.assert_array_equal(table.column("b").numbers(), [np.nan, 1.5])
    assert table.column("c").texts().tolist() == ["0.1", "2"]
    for value in (3.0, "abc", np.array(1.0)):
        with pytest.raises(XpjaxError, match=r"memory: column 'a' is one value, expected one for each row"):
            open_table({"a": value})


# --- units, angles, times ---------------------------------------------------------------------------------------------


def with_unit(form: str, folder: Path, unit: str) -> Any:
    table = Table({"v": [1.0, 2.0]})
    table["v"].unit = unit
    path = folder / f"unit.{form}"
    if form == "hdf5":
        with h5py.File(path, "w") as file:
            file["v"] = [1.0, 2.0]
            file["v"].attrs["units"] = unit
    elif form == "parquet":
        field = pa.field("v", pa.float64(), metadata={"unit": unit})
        pq.write_table(pa.Table.from_arrays([pa.array([1.0, 2.0])], schema=pa.schema([field])), path)
    elif form == "sextractor":
        return lines(path, f"#   1 V      A magnitude   [{unit}]", "1.0", "2.0")
    elif form == "dict":
        return {"v": units.Quantity([1.0, 2.0], unit)}
    elif form == "astropy":
        return table
    else:
        written = {"ecsv": "ascii.ecsv", "fits": "fits", "votable": "votable"}[form]
        table.write(path, format=written)
    return path


@pytest.mark.parametrize("form", ["ecsv", "fits", "votable", "parquet", "hdf5", "sextractor", "dict", "astropy"])
def test_units_that_a_table_states_are_kept(tmp_path: Path, form: str) -> None:
    name = "V" if form == "sextractor" else "v"
    mmag = open_table(with_unit(form, tmp_path, "mmag")).column(name)
    np.testing.assert_allclose(mmag.numbers("magnitude"), [1e-3, 2e-3], rtol=1e-14)
    np.testing.assert_array_equal(mmag.numbers(), [1, 2])
    (tmp_path / f"unit.{form}").unlink(missing_ok=True)
    wrong = open_table(with_unit(form, tmp_path, "Jy")).column(name)
    with pytest.raises(XpjaxError, match=rf"column '{name}' has the unit 'Jy', which is none of a magnitude"):
        wrong.numbers("magnitude")


@pytest.mark.parametrize(("unit", "kind", "factor"), [
    ("rad", "angle", 180 / np.pi), ("hourangle", "angle", 15.0), ("arcsec", "angle", 1 / 3600),
    ("s", "time", 1 / 86400),
    ("arcsec/yr", "proper motion", 1000.0), ("", "magnitude", 1.0), ("mag(AB)", "magnitude", 1.0),
    ("'", "angle", 1 / 60), ('"', "angle", 1 / 3600), ("'deg'", "angle", 1.0),
    ("h", "time", 1 / 24), ("Angstrom", "wavelength", 0.1),
])  # fmt: skip
def test_kinds_of_units(unit: str, kind: str, factor: float) -> None:
    column = Column("memory", "v", np.array([2.0]), np.zeros(1, bool), unit)
    np.testing.assert_allclose(column.numbers(kind), [2 * factor], rtol=1e-12)


def test_positions_as_text(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", "ra,dec,x", "12:30:00.0,-00:30:00,1", "12h 30m 36s,+10d30m00s,2",
                 "1 0 0,-89 59 51.0,3", ",N/A,4", "0:0:0,oops,5")  # fmt: skip
    table = open_table(path)
    np.testing.assert_allclose(table.column("ra").angles(hours=True), [187.5, 187.65, 15, np.nan, 0], rtol=1e-14)
    np.testing.assert_allclose(table.column("dec").angles(), [-0.5, 10.5, -89.9975, np.nan, np.nan], rtol=1e-14)
    assert open_table({"a": ["12h30m00s"]}).column("a").angles().tolist() == [187.5]
    assert any("column 'dec': 1 cells are not an angle" in note for note in table.notes)


def test_dates_are_modified_julian_days(tmp_path: Path) -> None:
    cells = ["2020-01-01T12:00:00", "2020-01-01", "2020-01-01 06:00:00.5Z", "", "59000.25"]
    want = [58849.5, 58849.0, 58849.25 + 0.5 / 86400, np.nan, 59000.25]
    table = open_table(lines(tmp_path / "a.csv", "t,x", *(f"{cell},1" for cell in cells)))
    np.testing.assert_allclose(table.column("t").times(), want, rtol=1e-14)
    moments = np.array(["2020-01-01T12:00:00", "NaT"], "M8[us]")
    for values in (moments, pd.Series(moments), Time([58849.5, 58849.5], format="mjd")):
        found = open_table({"t": values}).column("t").times()
        assert found[0] == 58849.5


# --- layouts of text --------------------------------------------------------------------------------------------------

PLAIN = "a,b\n1,x\n2,y\n"


@pytest.mark.parametrize("change", [
    lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.encode("utf-16"), lambda t: t.replace("\n", "\r\n").encode(),
    lambda t: t.replace("\n", "\r").encode(), lambda t: t.rstrip().encode(), lambda t: t.replace(",", ";").encode(),
    lambda t: t.replace(",", "\t").encode(), lambda t: t.replace(",", "|").encode(), lambda t: t.encode() + b"\n\n \n",
    lambda t: t.replace("1,", "\n# a, remark\n1,").encode(), lambda t: t.replace("1", '"1"').encode(),
    lambda t: ("# made by hand\n#\n" + t).encode(), lambda t: t.replace(",", "  ").encode(),
    lambda t: (" " + t.replace(",", "   ").replace("\n", " \n ")).encode(),
    lambda t: ("# " + t.replace(",", " ")).encode(),
    lambda t: t.replace("y", "y ").encode(), lambda t: t.replace(",", " , ").encode(),
])  # fmt: skip
def test_layouts_of_text(tmp_path: Path, change: Callable[[str], bytes]) -> None:
    path = tmp_path / "a.weird"
    path.write_bytes(change(PLAIN))
    table = open_table(path)
    assert table.names == ["a", "b"]
    assert table.column("a").ids().value.tolist() == [1, 2]
    assert table.column("b").texts().tolist() == ["x", "y"]


def test_text_of_latin_1_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('a,b\n1,"Größe, ""x"""\n2,é\n'.encode("latin-1"))
    assert open_table(tmp_path / "a.csv").column("b").texts().tolist() == ['Größe, "x"', "é"]


@pytest.mark.parametrize("cell", ["x,y", '"x, y"', "x;y", "x|y"])
def test_names_in_a_comment_say_that_blanks_separate(tmp_path: Path, cell: str) -> None:
    table = open_table(lines(tmp_path / "a.txt", "# made by hand, once", "# a name b", f"1.5 {cell} 2", "2.5 z 3"))
    assert table.column("a").numbers().tolist() == [1.5, 2.5]
    assert table.column("name").texts().tolist() == [cell.strip('"'), "z"]
    table = open_table(lines(tmp_path / "a.cat", "# 1 NUMBER", "# 2 NAME", f"7 {cell}", "8 z"))
    assert table.column("NAME").texts().tolist() == [cell.strip('"'), "z"]
    table = open_table(lines(tmp_path / "b.txt", "# a, b", "1.5, 2", "2.5, 3"))
    assert table.column("b").numbers().tolist() == [2, 3]


def test_sextractor_columns_of_several_numbers(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.cat", "#   1 NUMBER    Running number", "#   2 MAG_APER  Apertures  [mag]",
                 "#   5 FLAGS     Flags", " 1 12.5 12.25 12.0 0", " 2 13.5 13.25 99.0 3")  # fmt: skip
    table = open_table(path)
    assert table.column("MAG_APER").array().tolist() == [[12.5, 12.25, 12], [13.5, 13.25, 99]]
    assert table.column("FLAGS").flags().tolist() == [0, 3]
    with pytest.raises(XpjaxError, match=r"a\.cat: column 'MAG_APER' has 3 numbers a row"):
        table.column("MAG_APER").numbers()
    assert not table.notes
    odd = open_table(lines(path, "# 1 MAG_APER", "# 3 FLAGS", "12.5 oops 0", "13.5 14.5 1"))
    np.testing.assert_array_equal(odd.column("MAG_APER").array(), [[12.5, np.nan], [13.5, 14.5]])
    assert odd.notes == [f"{path}: column 'MAG_APER': 1 cells are not a number: missing"]


@pytest.mark.parametrize(("text", "message"), [
    ("a,b\n1,2\n3\n", "row 2 has 1 cells, expected 2"), ("a,b\n1,2\n3,4,5\n", "row 2 has 3 cells"),
    ("1,2\n3,4\n", "holds numbers where names of columns are expected"), ('a,b\n1,"x\n2,y\n', "row 1: .*closed quotes"),
    ("# %ECSV 1.0\n# ---\n", "ends before the line of column names"), (" \n", "the file is empty"),
])  # fmt: skip
def test_text_that_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(XpjaxError, match=rf"a\.csv.*{message}"):
        open_table(tmp_path / "a.csv").column("b")


@pytest.mark.parametrize(("data", "message"), [
    (b"Obj\x01abc", "AVRO is read for XP coefficients alone"), (b"\x00\x01\x02\x03", "no table that is known"),
    (b"", "the file is empty"),
])  # fmt: skip
def test_files_that_are_no_tables(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(XpjaxError, match=rf"a\.bin: {message}"):
        open_table(tmp_path / "a.bin")


def test_objects_that_are_no_tables() -> None:
    with pytest.raises(XpjaxError, match=r"can't read a table from int; expected a path, a pandas DataFrame"):
        open_table(3)
    with pytest.raises(XpjaxError, match=r"different lengths: \{'a': 1, 'b': 2\}"):
        open_table({"a": [1], "b": [1, 2]})


# --- odd tables -------------------------------------------------------------------------------------------------------


def test_odd_tables_are_read_right_or_refused() -> None:
    found = untidy.search(60, 11, processes=1, routes=("columns", "survey", "standards", "gaia"))
    assert not found.wrong
    assert found.total("used") > 10_000
    assert found.total("refused") > 10


def through_floats(self: Column) -> Ids:
    if self.is_text or self.values.dtype.kind not in "iu":
        return RIGHT_IDS(self)
    return Ids(self.values.astype(np.float64).astype(np.int64), self.missing)


RIGHT_IDS = Column.ids


@pytest.mark.parametrize("wrong", ["ids", "units", "nulls", "twice", "notes"])
def test_the_comparison_fails_on_a_wrong_reader(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Ids through float64, units ignored, nulls that are values, the first of two names, odd cells without a note."""
    from xpjax.io.tables import table as module

    if wrong == "ids":
        monkeypatch.setattr(Column, "ids", through_floats)
    elif wrong == "units":
        monkeypatch.setattr(Column, "factor", lambda self, kind: 1.0)
    elif wrong == "nulls":
        post = module.Table.column

        def without(self: Any, name: str, meaning: str = "") -> Column:
            found = post(self, name, meaning)
            return found if found.is_text else dataclasses.replace(found, missing=np.zeros_like(found.missing))

        monkeypatch.setattr(module.Table, "column", without)
    elif wrong == "twice":
        monkeypatch.setattr(module.Table, "check", lambda self, name, meaning="": None)
    else:
        monkeypatch.setattr(module.Table, "_note", lambda self, text: None)
    only = {"ids": "gap", "units": "unit", "nulls": "scaled", "twice": "other_case", "notes": "odd_cell"}[wrong]
    found = untidy.search(12, 5, processes=1, only=only, routes=("columns",))
    assert found.total("WRONG") > 3, untidy.report(found)
