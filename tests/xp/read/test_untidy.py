"""XP files that are untidy: several tables, packed, nulls, repeated names, other products, odd rows among others."""

import bz2
import csv
import gzip
import io
import lzma
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from tests.xp.read.test_archive import assert_same, cell, expect, make, rows_of, write, write_csv
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.xp import open_store
from xpjax.xp.read import text as text_reader
from xpjax.xp.read.archive import read
from xpjax.xp.store import ingest as bulk

SMALL = Release("small", (4, 3))
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def zipped(path, members):
    """A zip file of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def halves(columns, n):
    """The first n rows, and the others."""
    return ({k: v[:n] for k, v in columns.items()}, {k: v[n:] for k, v in columns.items()})


def as_table(columns):
    """An astropy table without missing cells."""
    from astropy.table import Table

    return Table({name: np.array(values) for name, values in columns.items()})


def write_hdus(path, tables):
    from astropy.io import fits

    fits.HDUList([fits.PrimaryHDU(), *map(fits.table_to_hdu, tables)]).writeto(path)
    return path


def write_votable(path, tables, resources=True, status=None):
    """Tables in resources of their own, or all in one."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info, VOTableFile

    whole = VOTableFile()
    for k, table in enumerate(tables):
        resource = from_table(table).resources[0]
        if k and not resources:
            whole.resources[0].tables.append(resource.tables[0])
        else:
            whole.resources.append(resource)
    if status:
        whole.resources[0].infos.append(Info(name="QUERY_STATUS", value=status))
    whole.to_xml(str(path))
    return path


# --- several tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fits", "resources", "tables"])
def test_like_tables_of_a_file_are_read_in_order(tmp_path, kind):
    columns = make(6, missing_bp=())
    parts = [as_table(part) for part in halves(columns, 2)]
    if kind == "fits":
        path = write_hdus(tmp_path / "two.fits", parts)
    else:
        path = write_votable(tmp_path / "two.vot", parts, resources=kind == "resources")
    found = read(path)
    assert found.source_id.tolist() == columns["source_id"]
    assert_same(found, expect(columns))
    np.testing.assert_array_equal(found.columns["ra"], columns["ra"])
    assert bulk.ingest([path], tmp_path / "store", correlations="float32").sources == 6
    stored = open_store(tmp_path / "store").read()
    np.testing.assert_array_equal(stored.source_id, columns["source_id"])
    np.testing.assert_array_equal(stored.coefficients.value, expect(columns)[0].astype(np.float32))


@pytest.mark.parametrize("suffix", ["fits", "vot"])
def test_unlike_tables_are_refused_and_named(tmp_path, suffix):
    from astropy.table import Table

    tables = [as_table(make(2, missing_bp=())), Table({"node": [1], "weight": [0.5]})]
    path = (write_hdus if suffix == "fits" else write_votable)(tmp_path / f"two.{suffix}", tables)
    message = rf"two.{suffix} holds several tables of different columns: .*node, weight.*name one"
    with pytest.raises(ValueError, match=message):
        read(path)
    report = bulk.ingest([path], tmp_path / "store")
    assert "node, weight" in report.failures[path.name]


def test_what_the_server_cut_is_said(tmp_path):
    table = as_table(make(2, missing_bp=()))
    with pytest.warns(UserWarning, match=r"cut.vot: the server cut this result .*OVERFLOW"):
        assert len(read(write_votable(tmp_path / "cut.vot", [table], status="OVERFLOW"))) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(write_votable(tmp_path / "whole.vot", [table], status="OK"))


# --- packed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet", "h5"])
@pytest.mark.parametrize("packed", ["gz", "bz2", "xz", "zip"])
def test_packed_files(tmp_path, suffix, packed):
    columns = make(3, (4, 3))
    plain = write(tmp_path / f"made.{suffix}", columns)
    if packed == "zip":
        path = zipped(tmp_path / "made.zip", {f"inner.{suffix}": plain.read_bytes()})
    else:
        path = tmp_path / f"made.{suffix}.{packed}"
        path.write_bytes(PACK[packed](plain.read_bytes()))
    assert_same(read(path, release=SMALL), expect(columns, (4, 3)))
    report = bulk.ingest([path], tmp_path / "store")
    assert report.failures == {}
    assert report.done[0].output.name == "made.h5"


def test_zip_files_of_the_archive(tmp_path):
    """Several files of one product are joined; those of other products are left; what is no table is named."""
    columns = make(5, missing_bp=())
    first, second = (rows_of(part).encode() for part in halves(columns, 3))
    other = b"source_id,solution_id,flux,flux_error\n1,2,(1.0),(0.1)\n"
    path = zipped(
        tmp_path / "dl.zip",
        {
            "d/XP_CONTINUOUS-1.csv": first,
            "d/XP_CONTINUOUS-2.csv": second,
            "d/XP_SAMPLED-1.csv": other,
            "d/readme.txt": b"hello",
        },
    )
    found = read(path)
    assert found.source_id.tolist() == columns["source_id"]
    assert_same(found, expect(columns))
    assert bulk.ingest([path], tmp_path / "store").sources == 5
    with pytest.raises(ValueError, match=r"none.zip: a zip file of readme.txt; expected"):
        read(zipped(tmp_path / "none.zip", {"readme.txt": b"hello"}))
    less = rows_of({k: v for k, v in halves(columns, 3)[1].items() if "errors" not in k}).encode()
    with pytest.raises(ValueError, match=r"unlike.zip: holds tables of different columns: .*a.csv.*b.csv"):
        read(zipped(tmp_path / "unlike.zip", {"a.csv": first, "b.csv": less}))
    (tmp_path / "half.zip").write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"half.zip.*download it again"):
        read(tmp_path / "half.zip")


# --- nulls, names, other products -------------------------------------------------------------------------------------


def test_fits_nulls_are_missing(tmp_path):
    """Also where the integers are scaled, or unsigned: the null is the stored number."""
    from astropy.io import fits
    from astropy.table import Table

    columns = make(3, missing_bp=())
    hdu = fits.table_to_hdu(Table({k: np.array(v) for k, v in columns.items() if k not in ("source_id", "ra")}))
    more = [
        fits.Column("SOURCE_ID", "K", array=np.array([columns["source_id"][0], -1, 7]), null=-1),
        fits.Column("mag", "I", array=np.array([15250, -32768, 16000], np.int16)),
        fits.Column("count", "J", array=np.array([5, 6, 7], np.uint32), bzero=2**31, null=6 - 2**31),
    ]
    hdu = fits.BinTableHDU.from_columns([*more, *hdu.columns])
    hdu.header["TSCAL2"], hdu.header["TNULL2"] = 0.001, -32768
    hdu.writeto(tmp_path / "null.fits")
    with fits.open(tmp_path / "null.fits") as hdus:
        tables = [tmp_path / "null.fits", hdus[1].data]
        for found in map(read, tables):
            assert found.source_id.tolist() == [columns["source_id"][0], 0, 7]
            assert (found.status == [0, Status.ID_MISSING, 0]).all()
            np.testing.assert_allclose(found.columns["mag"], [15.25, np.nan, 16.0], rtol=1e-12)
            np.testing.assert_array_equal(found.columns["count"], [5, np.nan, 7])
            assert_same(found, expect(columns))


@pytest.mark.parametrize("suffix", ["csv", "fits", "vot", "h5"])
def test_a_name_twice_is_refused(tmp_path, suffix):
    from astropy.io import fits

    path = tmp_path / f"made.{suffix}"
    columns = make(2, missing_bp=()) | {"dec": [1.0, 2.0]}
    if suffix == "csv":
        path.write_text(rows_of(columns).replace("dec", "ra", 1))
    elif suffix == "fits":
        fits.table_to_hdu(as_table(columns)).writeto(path)
        path.write_bytes(path.read_bytes().replace(b"'dec     '", b"'RA      '"))
    elif suffix == "vot":
        write_votable(path, [as_table(columns)])
        path.write_text(path.read_text().replace('name="dec"', 'name="ra"'))
    else:
        with h5py.File(write(path, columns), "a") as file:
            file["BP_coefficients"] = file["bp_coefficients"][()]
    name = "bp_coefficients" if suffix == "h5" else "ra"
    with pytest.raises(ValueError, match=rf"made.{suffix}: the column (?i:{name}) is there twice; rename one"):
        read(path)


@pytest.mark.parametrize("suffix", ["csv", "fits", "h5", "parquet"])
def test_sampled_spectra_are_told_from_coefficients(tmp_path, suffix):
    flux = np.arange(6.0).reshape(2, 3)
    columns = {"source_id": [1, 2], "flux": [*flux], "flux_error": [*flux]}
    path = write(tmp_path / f"made.{suffix}", columns)
    if suffix == "h5":
        with h5py.File(path, "a") as file:
            file["wavelength"][...] = 400.0
    with pytest.raises(
        ValueError, match=r"holds sampled spectra .*XP_CONTINUOUS.*`xpjax wiggles correct`.*read_spectra"
    ):
        read(path)


def test_hdf5_is_opened_without_a_lock(tmp_path, monkeypatch):
    path = write(tmp_path / "made.h5", make(2))
    asked = []

    class File(h5py.File):
        def __init__(self, *args, locking=None, **options):
            asked.append(locking)
            super().__init__(*args, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", File)
    assert len(read(path)) == 2
    assert asked
    assert not any(locking is not False for locking in asked)


@pytest.mark.parametrize("word", ["-", "...", r"\N", "#N/A", "nil", "NULL", "<NA>", "INDEF"])
def test_more_words_for_missing(tmp_path, word):
    columns = make(3, (4, 3), missing_bp=())
    for name in (
        "bp_coefficients",
        "bp_coefficient_errors",
        "bp_coefficient_correlations",
        "bp_n_relevant_bases",
        "ra",
    ):
        columns[name][1] = word
    found = read(write_csv(tmp_path / "made.csv", columns), release=SMALL)
    assert found.status.tolist() == [0, Status.BP_MISSING, 0]
    np.testing.assert_array_equal(found.columns["ra"], [columns["ra"][0], np.nan, columns["ra"][2]])


# --- the text reader --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[300, 5_000, 1 << 23])
def chunk(request, monkeypatch):
    """Chunks that are shorter than a row, than a file, and longer."""
    monkeypatch.setattr(text_reader, "CHUNK", request.param)
    return request.param


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", ["all", "needed", "tabs"])
def test_rows_of_any_dialect(tmp_path, chunk, quoting, end):
    """Text with quotes, commas, quotation marks and line breaks in cells, in rows among others, in any order."""
    columns = make(40, (4, 3), missing_bp=(3, 39))
    odd = {5: "a, b", 6: 'say "x"', 7: "two\nlines", 11: "", 12: ' " ', 39: "é"}
    columns = {"note": [odd.get(i, f"n{i}") for i in range(40)]} | dict(reversed(columns.items()))
    stream = io.StringIO(newline="")
    writer = csv.writer(
        stream,
        delimiter="\t" if quoting == "tabs" else ",",
        quoting=csv.QUOTE_ALL if quoting == "all" else csv.QUOTE_MINIMAL,
        lineterminator=end,
    )
    writer.writerow(columns)
    writer.writerows(zip(*[[cell(value) for value in column] for column in columns.values()], strict=True))
    head = '# %ECSV 1.0\n# delimiter: "\\t"\n' if quoting == "tabs" else ""
    path = tmp_path / "made.csv"
    path.write_bytes((head + stream.getvalue()).encode())
    found = read(path, release=SMALL)
    assert_same(found, expect(columns, (4, 3)))
    assert found.source_id.tolist() == columns["source_id"]
    assert found.columns["note"].tolist() == [text.strip() for text in columns["note"]]
    assert [Status.describe(int(s)) for s in found.status[[3, 4]]] == ["BP_MISSING", "OK"]


def test_a_quote_that_is_not_closed_is_named(tmp_path, chunk):
    lines = rows_of(make(30, (4, 3), missing_bp=())).splitlines()
    lines[9] = lines[9].replace(')"', ")", 1)
    path = tmp_path / "open.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"open.csv: row 9: "):
        read(path, release=SMALL)
    lines[9] = lines[10] + ',"'
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"open.csv: row (9|10)"):
        read(path, release=SMALL)


def test_a_stray_quote_costs_its_row(tmp_path, chunk):
    columns = make(6, (4, 3), missing_bp=())
    lines = rows_of(columns).splitlines()
    column = lines[0].split(",").index("rp_coefficients")
    for row, where in ((2, -3), (5, -1)):
        cells = lines[row][1:-1].split('","')
        cells[column] = cells[column][:where] + '"' + cells[column][where:]
        lines[row] = '"' + '","'.join(cells) + '"'
    path = tmp_path / "stray.csv"
    path.write_text("\n".join(lines))
    found = read(path, release=SMALL)
    assert found.source_id.tolist() == columns["source_id"]
    assert found.status.tolist() == [0, Status.RP_BAD, 0, 0, Status.RP_BAD, 0]
    # After a quote in the midst of a number nobody knows what the number is.
    path.write_text(rows_of(columns).replace('",', '"7,', 1))
    with pytest.raises(ValueError, match=r"stray.csv: .*row 1"):
        read(path, release=SMALL)


@pytest.mark.parametrize("fast", [True, False])
def test_lengths_that_change_along_a_file(tmp_path, monkeypatch, fast):
    """Packed correlations in some rows, square ones in others; no BP in all the first rows; few bytes a row."""
    if not fast:
        monkeypatch.setitem(__import__("sys").modules, "simdjson", None)
    monkeypatch.setattr(text_reader, "CHUNK", 2_000)
    columns = make(60, (4, 4), missing_bp=range(20))
    expected = expect(columns, (4, 4))
    for i in range(30, 50):
        packed = columns["rp_coefficient_correlations"][i]
        matrix = np.eye(4)
        matrix[np.tril_indices(4, -1)] = packed
        columns["rp_coefficient_correlations"][i] = (matrix + np.tril(matrix, -1).T).ravel()
    path = tmp_path / "made.csv.gz"
    path.write_bytes(gzip.compress(write_csv(tmp_path / "made.csv", columns).read_bytes()))
    assert_same(read(path, release=Release("small", (4, 4))), expected)


def test_text_that_packs_well(tmp_path, monkeypatch):
    """More rows than the length of the packed file lets one expect."""
    monkeypatch.setattr(text_reader, "CHUNK", 10_000)
    columns = {name: values * 50 for name, values in make(2, (4, 3), missing_bp=()).items()}
    path = tmp_path / "made.csv.gz"
    path.write_bytes(gzip.compress(write_csv(tmp_path / "made.csv", columns).read_bytes()))
    found = read(path, release=SMALL)
    assert_same(found, expect(columns, (4, 3)))
    assert (found.status[2:] == Status.DUPLICATE).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefficients_are_read_into_one_array(tmp_path, dtype):
    """No copy of them is made, with or without a source that lacks BP."""
    found = read(write_csv(tmp_path / "made.csv", make()), dtype=dtype).coefficients
    for array in (found.value, found.error, found.correlation):
        assert array.dtype == dtype
        assert array.base is not None
        assert array.flags.c_contiguous
    assert found.value.shape == (4, DR3.n_basis_total)
    assert np.isnan(found.correlation[2, DR3.pair_slices[0]]).all()


def test_a_list_within_an_array_costs_its_row(tmp_path):
    columns = make(3, (4, 3), missing_bp=())
    columns["rp_coefficients"][1] = "[1,2,[3]]"
    path = write_csv(tmp_path / "made.csv", columns)
    assert read(path, release=SMALL).status.tolist() == [0, Status.RP_BAD, 0]
    bulk.ingest([path], tmp_path / "store")
    assert open_store(tmp_path / "store").read().status[1] & Status.RP_BAD


def test_tables_that_xpjax_wrote_are_read_one_after_the_other(tmp_path):
    from astropy.io import fits

    columns = make(4, missing_bp=())
    catalogue.write(tmp_path / "own.fits", read(columns))
    with fits.open(tmp_path / "own.fits") as hdus:
        parts = [fits.BinTableHDU(hdus[1].data[rows], hdus[1].header) for rows in (slice(0, 3), slice(3, 4))]
        fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "two.fits")
    assert read(tmp_path / "two.fits").source_id.tolist() == columns["source_id"]
