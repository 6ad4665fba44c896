"""The archive reader: every format against the others, against GaiaXPy's own parser, and at the door."""

import gzip
import io
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io import catalogue, cells
from xpjax.xp.read import loaders
from xpjax.xp.read.archive import read

DR4_LIKE = Release("Gaia DR4", (51, 55))
FORMATS = "xp/formats/XP_CONTINUOUS_RAW"
MADE = ("csv", "csv.gz", "ecsv", "fits", "fits.gz", "vot", "binary2.vot", "tabledata.vot", "parquet", "avro", "h5")


def make(n=4, n_basis=(55, 55), missing_bp=(2,), seed=0):
    """Columns of n random sources, None where BP is missing."""
    rng = np.random.default_rng(seed)
    columns = {"source_id": (rng.integers(2**55, 2**62, n) | 1).tolist(), "ra": rng.uniform(0, 360, n).tolist()}
    for xp, size in zip(("bp", "rp"), n_basis, strict=True):
        rows = range(n) if xp == "rp" else [i for i in range(n) if i not in missing_bp]
        fill = {i: None for i in range(n)}
        pairs = size * (size - 1) // 2
        columns[f"{xp}_n_parameters"] = [*(fill | {i: size for i in rows}).values()]
        columns[f"{xp}_coefficients"] = [*(fill | {i: rng.normal(size=size) * 1e3 for i in rows}).values()]
        columns[f"{xp}_coefficient_errors"] = [*(fill | {i: rng.uniform(1, 2, size) for i in rows}).values()]
        columns[f"{xp}_coefficient_correlations"] = [*(fill | {i: rng.uniform(-1, 1, pairs) for i in rows}).values()]
        columns[f"{xp}_n_relevant_bases"] = [*(fill | {i: int(rng.integers(1, size)) for i in rows}).values()]
    return columns


def cell(value, form="({})", separator=", "):
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        return form.format(separator.join(map(repr, value.tolist())))
    return repr(value) if not isinstance(value, str) else value


def write_csv(path, columns, form="({})", head="", delimiter=",", end="\n"):
    """Written by hand, so that the test does not lean on a library's idea of CSV."""
    rows = zip(*[[cell(value, form) for value in column] for column in columns.values()], strict=True)
    lines = [",".join(columns), *(delimiter.join(f'"{c}"' if "," in c else c for c in row) for row in rows)]
    path.write_bytes((head + end.join(lines) + end).encode())
    return path


def write(path, columns):
    """The same columns in any format, each by the library that owns it."""
    suffix = path.name.removeprefix("made.")
    if suffix == "csv":
        return write_csv(path, columns)
    if suffix == "csv.gz":
        path.write_bytes(gzip.compress(write_csv(path.with_suffix(""), columns).read_bytes()))
    elif suffix == "ecsv":
        head = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: source_id, datatype: int64}\n"
        return write_csv(path, columns, "[{}]", head)
    elif suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = {name: [v.tolist() if isinstance(v, np.ndarray) else v for v in c] for name, c in columns.items()}
        pq.write_table(pa.table(lists), path, row_group_size=2)
    elif suffix == "avro":
        import fastavro

        def kind(values):
            filled = next((v for v in values if v is not None), 0.0)
            array = {"type": "array", "items": "double"}
            return [
                "null",
                array if isinstance(filled, np.ndarray) else "long" if isinstance(filled, int) else "double",
            ]

        fields = [{"name": name, "type": kind(values)} for name, values in columns.items()]
        plain = [[v.tolist() if isinstance(v, np.ndarray) else v for v in c] for c in columns.values()]
        records = [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]
        with path.open("wb") as stream:
            fastavro.writer(stream, {"type": "record", "name": "made", "fields": fields}, records)
    elif suffix == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            file["wavelength"] = np.arange(343.0)
            for name, values in columns.items():
                full = next(v for v in values if v is not None)
                empty = np.full(np.shape(full), np.nan)
                whole = isinstance(full, int) and None not in values
                file[name] = np.array([empty if v is None else v for v in values], np.int64 if whole else np.float64)
    else:
        from astropy.table import Column, MaskedColumn, Table

        table = Table()
        for name, values in columns.items():
            full = next((v for v in values if v is not None), 0.0)
            if isinstance(full, np.ndarray):
                array = np.empty(len(values), object)
                array[:] = [
                    np.ma.array([] if v is None else v, float, mask=[] if v is None else v != v) for v in values
                ]
                table[name] = Column(array)
            else:
                mask = [v is None for v in values]
                filled = np.array([0 if v is None else v for v in values], type(full))
                if suffix == "vot" and any(mask):  # the binary serialisation has no null integers
                    filled, mask = np.where(mask, np.nan, filled), False
                table[name] = MaskedColumn(filled, mask=mask)
        if "fits" in suffix:
            table.write(path, format="fits")
        else:
            serialisation = suffix.removesuffix("vot").removesuffix(".") or "binary"
            table.write(path, format="votable", tabledata_format=serialisation)
    return path


def expect(columns, n_basis=(55, 55)):
    """Value, error, correlation and n_relevant of `make`'s columns."""

    def stack(field, sizes):
        both = []
        for xp, size in zip(("bp", "rp"), sizes, strict=True):
            both.append([np.full(size, np.nan) if v is None else v for v in columns[f"{xp}_{field}"]])
        return np.hstack([np.array(rows).reshape(len(rows), -1) for rows in both])

    pairs = [n * (n - 1) // 2 for n in n_basis]
    relevant = [[v or 0 for v in columns[f"{xp}_n_relevant_bases"]] for xp in ("bp", "rp")]
    fields = ("coefficients", "coefficient_errors", "coefficient_correlations")
    return (*(stack(f, s) for f, s in zip(fields, (n_basis, n_basis, pairs), strict=True)), np.array(relevant).T)


def assert_same(found, expected, rtol=0.0):
    """All arrays of two results, or of a result and `expect`'s tuple."""
    c = found.coefficients
    if hasattr(expected, "coefficients"):
        np.testing.assert_array_equal(found.source_id, expected.source_id)
        np.testing.assert_array_equal(found.status, expected.status)
        e = expected.coefficients
        expected = (e.value, e.error, e.correlation, e.n_relevant)
    for name, array, other in zip(
        ("value", "error", "correlation"), (c.value, c.error, c.correlation), expected, strict=False
    ):
        np.testing.assert_allclose(array, other, rtol=rtol, atol=0, equal_nan=True, err_msg=name)
    np.testing.assert_array_equal(c.n_relevant, expected[3])


# Real files


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".xml", "_plain.xml"])
@pytest.mark.parametrize("stem", ["", "_with_missing_BP"])
def test_formats_agree(shared, stem, suffix):
    reference = read(shared(f"{FORMATS}{stem}.csv"))
    found = read(shared(f"{FORMATS}{stem}{suffix}"))
    # The files hold float32 columns, of which the text is the shortest print.
    assert_same(found, reference, rtol=1.2e-7)
    assert found.release is DR3
    assert set(found.columns) == set(reference.columns)
    for name, column in reference.columns.items():
        if name == "solution_id" and stem:
            continue  # one digit differs between the files themselves
        np.testing.assert_allclose(found.columns[name], column, rtol=1.2e-7, err_msg=name)
    assert found.columns["solution_id"].dtype == np.int64


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".xml", "_plain.xml"])
def test_missing_bp(shared, suffix):
    for stem, row in (("_with_missing_BP", 1), ("_missing_BP_dr3int6", 0)):
        middle = stem.replace("_dr3int6", "_plain_dr3int6") if "plain" in suffix and row == 0 else stem
        name = f"{FORMATS}{middle}{suffix.replace('_plain', '') if row == 0 else suffix}"
        found = read(shared(name))
        c = found.coefficients
        assert found.source_id[row] == 5405570973190252288
        assert Status.describe(int(found.status[row])) == "BP_MISSING"
        assert np.isnan(c.value[row, :55]).all()
        assert np.isfinite(c.value[row, 55:]).all()
        assert np.isnan(c.correlation[row, :1485]).all()
        assert np.isfinite(c.correlation[row, 1485:]).all()
        assert c.n_relevant[row].tolist() == [0, 47]


def test_avro_covariances_equal_csv(shared):
    csv, avro = read(shared(f"{FORMATS}.csv")), read(shared("xp/formats/MeanSpectrumSolutionWithCov.avro"))
    np.testing.assert_array_equal(avro.source_id, csv.source_id)
    np.testing.assert_array_equal(avro.coefficients.n_relevant, csv.coefficients.n_relevant)
    np.testing.assert_allclose(avro.coefficients.value, csv.coefficients.value, rtol=1e-14)
    np.testing.assert_allclose(avro.coefficients.error, csv.coefficients.error, rtol=1.2e-7)
    np.testing.assert_allclose(avro.coefficients.correlation, csv.coefficients.correlation, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(avro.columns["bp_standard_deviation"], csv.columns["bp_standard_deviation"], rtol=1e-6)
    assert "rp_num_of_transits" in avro.columns


@pytest.mark.parametrize(
    "name", [*(f"{FORMATS}{s}" for s in (".csv", ".ecsv", ".fits", ".xml", "_with_missing_BP.csv")), "avro"]
)
def test_against_gaiaxpy(shared, name):
    parser = pytest.importorskip("gaiaxpy.file_parser.parse_internal_continuous").InternalContinuousParser
    path = shared("xp/formats/MeanSpectrumSolutionWithCov.avro" if name == "avro" else name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame, _ = parser().parse_file(str(path), disable_info=True)
    found = read(path)
    np.testing.assert_array_equal(found.source_id, frame["source_id"].to_numpy(np.int64))
    lower = np.tril_indices(55, -1)
    for xp, part, pairs in zip(("bp", "rp"), DR3.slices, DR3.pair_slices, strict=True):
        for i, row in frame.iterrows():
            if not np.size(row[f"{xp}_coefficients"]) > 1:
                assert np.isnan(found.coefficients.value[i, part]).all()
                continue
            np.testing.assert_array_equal(found.coefficients.value[i, part], row[f"{xp}_coefficients"])
            # GaiaXPy's covariance is without the squared standard deviation.
            covariance = row[f"{xp}_covariance_matrix"] * float(row[f"{xp}_standard_deviation"]) ** 2
            error = found.coefficients.error[i, part].astype(float)
            np.testing.assert_allclose(error**2, np.diag(covariance), rtol=1e-6)
            correlation = found.coefficients.correlation[i, pairs] * error[lower[0]] * error[lower[1]]
            np.testing.assert_allclose(correlation, covariance[lower], rtol=3e-6, atol=1e-12 * covariance.max())


def test_catalogues_without_correlations(shared):
    found = read(shared("xp/xp_random_1200.fits"))
    assert (len(found), found.coefficients.value.dtype, found.coefficients.correlation) == (1200, np.float32, None)
    assert np.isfinite(found.coefficients.error).all()
    assert (found.status == Status.BP_NO_ERROR | Status.RP_NO_ERROR).all()
    found = read(shared("xp/xp_blue_1800.fits"))
    assert len(found) == 1800
    assert found.coefficients.error is None
    assert found.coefficients.n_relevant is None


def test_parquet_of_text_arrays(shared):
    import pandas

    path = shared("xp/xp_bright_corr_20.parquet")
    found = read(path)
    assert (found.status == 0).all()
    text = pandas.read_parquet(path)["rp_coefficient_correlations"].iloc[7]
    np.testing.assert_array_equal(found.coefficients.correlation[7, 1485:], [float(x) for x in text[1:-1].split(",")])
    assert_same(read(pandas.read_parquet(path)), found)


@pytest.mark.parametrize("kind", ["csv", "ecsv", "fits", "vot"])
def test_golden_downloads(shared, tmp_path, kind):
    def extract(kind):
        with zipfile.ZipFile(shared(f"golden/gaia_dr3_source_id_5937083312263887616_dl_products_{kind}.zip")) as zipped:
            name = next(name for name in zipped.namelist() if name.startswith("XP_CONTINUOUS"))
            return read(zipped.extract(name, tmp_path / kind))

    found = extract(kind)
    assert found.source_id.tolist() == [5937083312263887616]
    assert found.status.tolist() == [0]
    assert_same(found, extract("csv"), rtol=1.2e-7)


# Made files


@pytest.mark.parametrize("n_basis", [(55, 55), (51, 55)])
@pytest.mark.parametrize("suffix", MADE)
def test_round_trip(tmp_path, suffix, n_basis):
    columns = make(n_basis=n_basis)
    found = read(write(tmp_path / f"made.{suffix}", columns))
    assert_same(found, expect(columns, n_basis))
    assert found.source_id.tolist() == columns["source_id"]
    assert found.source_id.dtype == np.int64
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "OK", "BP_MISSING", "OK"]
    assert found.release == (DR3 if n_basis == (55, 55) else DR4_LIKE)
    np.testing.assert_array_equal(found.columns["ra"], columns["ra"])
    assert set(found.columns) == {"ra", "bp_n_parameters", "rp_n_parameters"}
    assert found.columns["bp_n_parameters"][1] == n_basis[0]
    assert np.isnan(found.columns["bp_n_parameters"][2])


def test_tables_written_by_astropy(tmp_path):
    """Space-delimited ECSV; FITS with fixed-length vectors and bytes; the caller's table stays as it is."""
    from astropy.io import fits
    from astropy.table import Table

    columns = make(missing_bp=())
    columns["bp_coefficients"][2][7] = np.nan
    columns["rp_coefficients"][3][:] = np.nan
    table = Table({name: np.array(values) for name, values in columns.items()} | {"name": [b"a", b"b", b"c", b""]})
    found = read(table)
    assert table["name"].dtype.kind == "S"
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "OK", "BP_BAD", "RP_MISSING"]
    assert found.columns["name"].tolist() == ["a", "b", "c", ""]
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]).writeto(tmp_path / "one.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(read(tmp_path / "one.fits"), found)
    table["name"] = table["name"].astype(str)
    table.write(tmp_path / "table.ecsv")
    assert_same(read(tmp_path / "table.ecsv"), found)


def test_a_perturbed_value_is_caught(tmp_path):
    columns = make()
    path = write_csv(tmp_path / "made.csv", columns)
    digits = repr(float(columns["rp_coefficient_correlations"][1][700]))
    flipped = digits[:-1] + ("4" if digits[-1] != "4" else "6")
    path.write_text(path.read_text().replace(digits, flipped))
    with pytest.raises(AssertionError, match="correlation"):
        assert_same(read(path), expect(columns))


def test_every_number_is_exactly_rounded(tmp_path):
    bits = np.random.default_rng(1).bytes(8 * 55 * 40)
    values = np.frombuffer(bits, np.float64).copy()
    values[~np.isfinite(values)] = 5e-324
    columns = {"source_id": range(1, 21), "bp_coefficients": [*values[:1100].reshape(20, 55)]}
    columns["rp_coefficients"] = [*values[1100:].reshape(20, 55)]
    found = read(write_csv(tmp_path / "made.csv", columns)).coefficients.value
    assert found.tobytes() == np.hstack([columns["bp_coefficients"], columns["rp_coefficients"]]).tobytes()


def test_many_rows_cross_blocks(tmp_path):
    columns = make(2300, (4, 3), missing_bp=range(900, 1100))
    found = read(write_csv(tmp_path / "made.csv", columns), release=Release("small", (4, 3)))
    assert_same(found, expect(columns, (4, 3)))


@pytest.mark.parametrize("kind", ["pandas", "pandas_index", "pandas_text", "astropy", "pyarrow", "dict", "dict2d"])
def test_tables_in_memory(tmp_path, kind):
    import pandas
    import pyarrow
    from astropy.table import Table

    columns = make()
    frame = pandas.DataFrame(columns).astype({"bp_n_relevant_bases": "Int64"})
    source = {
        "pandas": frame,
        "pandas_index": frame.set_index("source_id"),
        "pandas_text": pandas.read_csv(write_csv(tmp_path / "t.csv", columns), dtype=str),
        "astropy": Table.read(write(tmp_path / "made.fits", columns)),
        "pyarrow": pyarrow.table({k: [None if v is None else v for v in c] for k, c in columns.items()}),
        "dict": columns,
        "dict2d": {"source_id": columns["source_id"], "RP_coefficients": np.array(columns["rp_coefficients"])},
    }[kind]
    if kind == "dict2d":
        source["bp_coefficients"] = np.ma.masked_all((4, 55))
        found = read(source)
        np.testing.assert_array_equal(found.coefficients.value[:, 55:], np.array(columns["rp_coefficients"]))
        assert (found.status == Status.BP_MISSING | Status.RP_NO_ERROR).all()
        return
    found = read(source)
    assert found.origin == "memory"
    assert_same(found, expect(columns))
    assert found.source_id.tolist() == columns["source_id"]


@pytest.mark.parametrize("form", ["[{}]", "({})", "{}", "  ( {}  ) ", "[ {} ]"])
def test_csv_dialects(tmp_path, form):
    columns = make()
    reference = read(write_csv(tmp_path / "plain.csv", columns))
    odd = {name.upper() if "source" in name else f" {name} ": column for name, column in columns.items()}
    for end, head in (("\r\n", "\ufeff"), ("\n\n", "# a comment, with a comma\n#\n")):
        path = write_csv(tmp_path / "odd.csv", odd, form, head, end=end)
        assert_same(read(path), reference)
        path.write_text(path.read_text().replace(',"', ' , "').replace('",', '"  ,'))
        assert_same(read(path), reference)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "null", "None", "()", "[]", "[ ]", '""'])
def test_words_for_missing(tmp_path, word):
    columns = make(missing_bp=())
    for name in columns:
        if name.startswith("bp"):
            columns[name][1] = word if "coefficient" in name or word[:1] not in ("(", "[") else ""
    found = read(write_csv(tmp_path / "made.csv", columns))
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "BP_MISSING", "OK", "OK"]
    assert found.coefficients.n_relevant[1, 0] == 0
    assert found.coefficients.value.dtype == np.float64


@pytest.mark.parametrize(
    "bad",
    ["hello", "(1, 2, x)", "(1, 2", "(1, 2]", "[1 2]", "[1,,2]", "5", "1_0, 2", "short", "long", "nan", "inf", "null"],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_bad_rows_are_flagged_alone(tmp_path, bad, suffix):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = make(missing_bp=())
    expected = expect(columns)
    row = columns["rp_coefficients"][1]
    numbers = {"short": row[:-1], "long": np.append(row, 1.0)}
    text = cell(numbers.get(bad, row)) if bad in numbers else bad
    if bad in ("nan", "inf", "null"):
        text = cell(row).replace(repr(float(row[3])), bad)
    texts = {name: [cell(value) for value in column] for name, column in columns.items()}
    texts["rp_coefficients"][1] = text
    path = tmp_path / f"made.{suffix}"
    if suffix == "csv":
        write_csv(path, texts, "{}")
    else:
        pq.write_table(pa.table(texts), path)
    found = read(path)
    for array, size in zip(expected[:3], (55, 55, 1485), strict=True):
        array[1, size:] = np.nan
    expected[3][1, 1] = 0
    assert_same(found, expected)
    assert [Status.describe(int(s)) for s in found.status] == ["OK", "RP_BAD", "OK", "OK"]


def test_errors_and_correlations_may_be_absent(tmp_path):
    no_error = Status.BP_NO_ERROR | Status.RP_NO_ERROR
    columns = make(missing_bp=())
    for xp in ("bp", "rp"):
        del columns[f"{xp}_coefficient_correlations"]
    found = read(columns)
    assert found.coefficients.correlation is None
    np.testing.assert_array_equal(found.coefficients.error, expect(make(missing_bp=()))[1])
    assert (found.status == no_error).all()
    for xp in ("bp", "rp"):
        del columns[f"{xp}_coefficient_errors"], columns[f"{xp}_n_relevant_bases"]
    found = read(columns)
    assert found.coefficients.error is None
    assert found.coefficients.n_relevant is None
    assert (found.status == no_error).all()

    columns = make()
    columns["bp_coefficient_errors"][0] = None
    columns["rp_coefficient_correlations"][1] = columns["rp_coefficient_correlations"][1] * np.nan
    columns["rp_coefficient_errors"][3] = -columns["rp_coefficient_errors"][3]
    found = read(columns)
    names = [Status.describe(int(s)) for s in found.status]
    assert names == ["BP_NO_ERROR", "RP_NO_ERROR", "BP_MISSING", "RP_NO_ERROR"]
    assert np.isnan(found.coefficients.error[0, :55]).all()
    assert np.isfinite(found.coefficients.error[1]).all()
    assert np.isnan(found.coefficients.correlation[1, 1485:]).all()
    assert np.isfinite(found.coefficients.correlation[1, :1485]).all()


@pytest.mark.parametrize("form", ["packed", "square", "text", "arrow"])
@pytest.mark.parametrize("field", ["coefficient_covariances", "covariance_matrix"])
def test_covariances(field, form):
    import pyarrow

    n = 6
    columns = make(missing_bp=(2,), n_basis=(n, n))
    expected = expect(columns, (n, n))
    lower, strict = np.tril_indices(n), np.tril_indices(n, -1)
    for xp in ("bp", "rp"):
        errors = columns.pop(f"{xp}_coefficient_errors")
        correlations = columns.pop(f"{xp}_coefficient_correlations")
        columns[f"{xp}_standard_deviation"] = [1.25, 0.8, 2.0, 1.0]
        column = []
        for error, correlation, deviation in zip(errors, correlations, (1.25, 0.8, 2.0, 1.0), strict=True):
            if error is None:
                column.append(None)
                continue
            matrix = np.eye(n)
            matrix[strict] = matrix.T[strict] = correlation
            matrix *= np.outer(error, error) / deviation**2
            column.append(matrix if form == "square" else matrix[lower])
            if form == "text":
                column[-1] = str(tuple(tuple(row) for row in matrix.tolist()))
        columns[f"{xp}_{field}"] = column
    found = read(pyarrow.table(columns) if form == "arrow" else columns)
    assert_same(found, expected, rtol=1e-13)
    assert (found.status == [0, 0, Status.BP_MISSING, 0]).all()
    columns["rp_standard_deviation"] = [1.25, "odd", None, -1.0]
    found = read(columns)
    no_error = Status.RP_NO_ERROR
    assert (found.status == [0, no_error | Status.CELL_REPAIRED, no_error | Status.BP_MISSING, no_error]).all()
    del columns["rp_standard_deviation"]
    with pytest.raises(ValueError, match="rp_standard_deviation"):
        read(columns)


def test_square_correlations(tmp_path):
    columns = make(n_basis=(7, 5))
    expected = expect(columns, (7, 5))
    for xp, n in (("bp", 7), ("rp", 5)):
        for i, packed in enumerate(columns[f"{xp}_coefficient_correlations"]):
            if packed is not None:
                matrix = np.eye(n)
                matrix[np.tril_indices(n, -1)] = packed
                columns[f"{xp}_coefficient_correlations"][i] = matrix + np.tril(matrix, -1).T
    assert_same(read(columns), expected)


def test_source_ids(tmp_path):
    columns = make(6, missing_bp=())
    ids = columns["source_id"]
    texts = [f" {ids[0]} ", "", "abc", str(ids[0]), "12.5", "-4"]
    found = read(write_csv(tmp_path / "made.csv", columns | {"source_id": texts}))
    assert found.source_id.tolist() == [ids[0], 0, 0, ids[0], 0, 0]
    missing = Status.ID_MISSING
    assert found.status.tolist() == [0, missing, missing, Status.DUPLICATE, missing, missing]
    masked = np.ma.array(ids, mask=[0, 1, 0, 0, 0, 0])
    found = read(columns | {"source_id": masked})
    assert found.source_id.tolist() == [ids[0], 0, *ids[2:]]
    with pytest.raises(ValueError, match=r"memory: row 1: source_id .* int64 or as text"):
        read(columns | {"source_id": np.array(ids, float)})
    assert read(columns | {"source_id": np.arange(6.0) + 1}).source_id.tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match=r"made.csv: row 1: source_id is '5.8e18'"):
        read(write_csv(tmp_path / "made.csv", columns | {"source_id": ["5.8e18"] * 6}))


def test_n_relevant_cells(tmp_path):
    columns = make(6, missing_bp=(5,))
    columns["bp_n_relevant_bases"] = ["12", "", "odd", "0", "99", ""]
    found = read(write_csv(tmp_path / "made.csv", columns))
    assert found.coefficients.n_relevant[:, 0].tolist() == [12, 55, 55, 55, 55, 0]
    assert np.issubdtype(found.coefficients.n_relevant.dtype, np.integer)
    repaired = Status.CELL_REPAIRED
    assert found.status.tolist() == [0, repaired, repaired, repaired, repaired, Status.BP_MISSING]


def test_other_columns(tmp_path):
    columns = make() | {
        "G": [12.5, "odd", "", 13],
        "designation": [f"Gaia DR3 {i}" for i in range(4)],
        "count": [1, 2, None, 4],
        "other_id": [2**60 + 1, None, 2**60 + 3, 5],
        "flag": ["true", "False", "true", "true"],
    }
    found = read(write_csv(tmp_path / "made.csv", columns))
    np.testing.assert_array_equal(found.columns["G"], [12.5, np.nan, np.nan, 13])
    assert found.columns["designation"].tolist() == columns["designation"]
    np.testing.assert_array_equal(found.columns["count"], [1, 2, np.nan, 4])
    assert found.columns["other_id"].tolist() == [2**60 + 1, None, 2**60 + 3, 5]
    assert found.columns["flag"].tolist() == [True, False, True, True]
    assert found.status.tolist() == [0, Status.CELL_REPAIRED, Status.BP_MISSING, 0]
    assert list(read(tmp_path / "made.csv", keep=["g", "source_id"]).columns) == ["g"]
    assert read(tmp_path / "made.csv", keep=[]).columns == {}
    assert read(tmp_path / "made.csv", keep=[]).status.tolist() == [0, 0, Status.BP_MISSING, 0]
    with pytest.raises(ValueError, match=r"made.csv: keep: no column 'desination'; did you mean designation\?"):
        read(tmp_path / "made.csv", keep=["desination"])
    vectors = read(make() | {"label": np.arange(8.0).reshape(4, 2)}, keep=["label"])
    np.testing.assert_array_equal(vectors.columns["label"], np.arange(8.0).reshape(4, 2))


def test_lists_are_joined(tmp_path):
    first, second = make(3, seed=1), make(2, missing_bp=(), seed=2)
    second["source_id"][1] = first["source_id"][0]
    bare = {k: v for k, v in second.items() if "correlation" not in k and "relevant" not in k and k != "ra"}
    bare["name"] = ["x", "y"]
    found = read([write(tmp_path / "made.fits", first), write_csv(tmp_path / "b.csv", second), bare])
    assert len(found) == 7
    assert found.source_id.tolist() == first["source_id"] + second["source_id"] * 2
    assert_same(found[:3], expect(first))
    assert_same(found[3:5], expect(second))
    np.testing.assert_array_equal(found.coefficients.error[5:], expect(second)[1])
    assert np.isnan(found.coefficients.correlation[5:]).all()
    assert (found.coefficients.n_relevant[5:] == 55).all()
    assert (found.status & Status.DUPLICATE).astype(bool).tolist() == [False] * 4 + [True] * 3
    np.testing.assert_array_equal(found.columns["ra"][:5], first["ra"] + second["ra"])
    assert np.isnan(found.columns["ra"][5:]).all()
    assert found.columns["name"].tolist() == [""] * 5 + ["x", "y"]
    with pytest.raises(ValueError, match=r"bp_coefficients has different lengths: 55 in .*made.fits, 51 in memory"):
        read([tmp_path / "made.fits", make(n_basis=(51, 55))])
    with pytest.raises(ValueError, match="empty"):
        read([])
    # A part that can't tell the release takes it from the others.
    assert read([make(2, missing_bp=(0, 1)), make(2, (51, 55), missing_bp=())]).release == DR4_LIKE


SOLUTION = 4545469030156206080


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([SOLUTION] * 3, [np.nan] * 2, [SOLUTION] * 3 + [None] * 2),
        ([np.nan] * 3, [SOLUTION] * 2, [None] * 3 + [SOLUTION] * 2),
        ([SOLUTION] * 3, [5.0, np.nan], [SOLUTION] * 3 + [5, None]),
        ([SOLUTION] * 3, [0.5, np.nan], [float(SOLUTION)] * 3 + [0.5, np.nan]),
        ([SOLUTION] * 3, None, [SOLUTION] * 3 + [None] * 2),
        ([1, 2, 3], [np.nan] * 2, [1, 2, 3, np.nan, np.nan]),
        ([1.5, 2, 3], None, [1.5, 2, 3, np.nan, np.nan]),
        (["a", "b", ""], [5.0, np.nan], ["a", "b", "", "5", ""]),
        (["a", "b", "c"], [SOLUTION, 1], ["a", "b", "c", str(SOLUTION), "1"]),
        (["", "", ""], [5, 6], [np.nan] * 3 + [5, 6]),
        (["a" * 70, "b", "c"], [np.nan] * 2, ["a" * 70, "b", "c", "", ""]),
    ],
)
def test_joined_columns_keep_their_digits(first, second, expected):
    pandas = pytest.importorskip("pandas")
    frames = []
    for seed, values, n in ((1, first, 3), (2, second, 2)):
        frame = pandas.DataFrame(make(n, missing_bp=(), seed=seed))
        frames.append(frame if values is None else frame.assign(x=values))
    found = read(frames, keep=None if second is None else ["x"]).columns["x"]
    assert np.asarray([0 if x is None else x for x in expected]).dtype.kind == (
        "U" if found.dtype == object else found.dtype.kind
    )
    if found.dtype.kind == "f":
        np.testing.assert_array_equal(found, expected)
    else:
        assert found.tolist() == expected
    # The command line joins results, not inputs.
    if second is not None:
        parts = [Catalogue({"x": read(frame, keep=["x"]).columns["x"]}) for frame in frames]
        joined = catalogue.concatenate(parts).columns["x"]
        assert joined.dtype == found.dtype
        assert joined.tolist() == found.tolist() or found.dtype.kind == "f"
        empty = Catalogue({"x": np.zeros(0)})
        assert catalogue.concatenate([empty, parts[0]]).columns["x"].dtype == parts[0].columns["x"].dtype


def test_joined_vectors():
    first = make(3, seed=1) | {"v": np.arange(6.0).reshape(3, 2)}
    second = make(2, seed=2, missing_bp=())
    found = read([first, second | {"v": np.ones((2, 2))}], keep=["v"]).columns["v"]
    np.testing.assert_array_equal(found, [[0, 1], [2, 3], [4, 5], [1, 1], [1, 1]])
    found = read([first | {"w": np.zeros((3, 2))}, make(0, missing_bp=()) | {"w": np.zeros((0, 2))}], keep=["w"])
    assert found.columns["w"].shape == (3, 2)
    found = read([first, second | {"v": np.ones((2, 3))}], keep=["v"]).columns["v"]
    assert [len(cell) for cell in found] == [2, 2, 2, 3, 3]


def test_source_tables_are_read_as_they_are(tmp_path):
    table = read(make(3))
    assert read(table) is table
    assert read([table]) is table
    both = read([table, write_csv(tmp_path / "made.csv", make(2, missing_bp=(), seed=3)), table])
    assert len(both) == 8
    assert_same(both[:3], expect(make(3)))
    assert (both.status & Status.DUPLICATE).astype(bool).tolist() == [False] * 5 + [True] * 3
    assert not (table.status & Status.DUPLICATE).any()
    asked = read(table, dtype=np.float32, keep=["ra"])
    assert asked.coefficients.correlation.dtype == np.float32
    assert read(table, keep=[]).columns == {}
    with pytest.raises(ValueError, match="no column 'rax'"):
        read(table, keep=["rax"])
    with pytest.raises(ValueError, match=r"memory is of Gaia DR3 with \(55, 55\) .*, but Gaia DR4 with \(51, 55\) is"):
        read(table, release=DR4_LIKE)


def test_structured_arrays(tmp_path):
    from astropy.io import fits

    columns = make(4, missing_bp=())
    kinds = [(n, np.array(c).dtype, np.shape(c)[1:]) for n, c in columns.items()]
    array = np.zeros(4, [*kinds, ("name", "S4")])
    for name, values in columns.items():
        array[name] = values
    array["name"] = b"star"
    for given_array in (array, array.view(np.recarray), np.ma.array(array)):
        found = read(given_array)
        assert_same(found, expect(columns))
        assert found.columns["name"].tolist() == ["star"] * 4
    assert_same(read([array, array])[:4], expect(columns))
    with fits.open(write(tmp_path / "made.fits", columns)) as hdus:
        assert_same(read(hdus[1].data), expect(columns))


def test_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    catalogue.write("~/made.h5", read(make(3)))
    assert (tmp_path / "made.h5").is_file()
    assert len(read("~/made.h5")) == 3
    assert len(catalogue.read_catalogue("~/made.h5")) == 3
    with pytest.raises(FileExistsError):
        catalogue.check_output("~/made.h5")


@pytest.mark.parametrize("name", ["bp_coefficients", "RP_coefficient_errors"])
def test_coefficients_cannot_be_kept(name):
    with pytest.raises(ValueError, match=f"keep: {name} cannot be kept: .* stay in the input"):
        read(make(), keep=["ra", name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(tmp_path, dtype):
    c = read(make(), dtype=dtype).coefficients
    assert {c.value.dtype, c.error.dtype, c.correlation.dtype} == {np.dtype(dtype)}
    columns = make()
    columns["rp_coefficients"][0] = columns["rp_coefficients"][0] * 1e300
    assert (read(columns, dtype=np.float32).status == [Status.RP_BAD, 0, Status.BP_MISSING, 0]).all()
    with pytest.raises(ValueError, match="float32 or float64"):
        read(columns, dtype=np.int32)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "ecsv", "fits", "vot", "h5", "parquet"])
def test_no_rows(tmp_path, suffix):
    path = tmp_path / f"made.{suffix}"
    names = list(make())
    if suffix in ("csv", "csv.gz", "ecsv"):
        path.write_bytes((gzip.compress if suffix.endswith("gz") else bytes)((",".join(names) + "\n").encode()))
    elif suffix == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table({n: pa.array([], pa.int64() if n == "source_id" else pa.list_(pa.float32())) for n in names}), path
        )
    elif suffix == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            for name in names:
                file[name] = np.zeros((0, 55)) if name.endswith("coefficients") else np.zeros(0)
    else:
        from astropy.table import Table

        Table(names=names, dtype=[np.int64 if "coeff" not in n else np.float64 for n in names]).write(
            path, format="votable" if suffix == "vot" else suffix
        )
    found = read(path)
    assert len(found) == 0
    assert found.coefficients.value.shape == (0, 110)
    assert found.coefficients.correlation.shape == (0, 2970)


def test_all_cells_empty_is_no_error(tmp_path):
    columns = make(2, missing_bp=(0, 1))
    for name in columns:
        if name.startswith("rp"):
            columns[name] = [None, None]
    found = read(write_csv(tmp_path / "made.csv", columns))
    assert (found.status == Status.BP_MISSING | Status.RP_MISSING).all()
    assert found.coefficients.value.shape == (2, 110)


def test_h5_states_its_release(tmp_path):
    import h5py

    path = write(tmp_path / "made.h5", make(n_basis=(51, 55)))
    with h5py.File(path, "a") as file:
        file.attrs["release"] = "Gaia DR4"
    assert read(path).release == Release("Gaia DR4", (51, 55))


# At the door


def rows_of(columns, **changes):
    """CSV text with some columns replaced."""
    stream = io.StringIO()
    table = {k: [cell(v) for v in c] for k, c in (columns | changes).items()}
    stream.write(",".join(table) + "\n")
    for row in zip(*table.values(), strict=True):
        stream.write(",".join(f'"{c}"' for c in row) + "\n")
    return stream.getvalue()


def door_cases():
    made = make(3, missing_bp=())
    good = rows_of(made)
    lines = good.splitlines()
    short = [row[:51] for row in made["bp_coefficients"]]
    uneven = [made["bp_coefficients"][0][:30], *short[1:]]
    plain = gzip.compress(good.encode())
    lone = {k: v for k, v in made.items() if "n_param" not in k and "error" not in k}
    yield "empty.csv", b"", {}, ["empty", "download"]
    yield "blank.csv", b"\n# nothing\n\n", {}, ["empty", "column names"]
    yield "empty.csv.gz", gzip.compress(b""), {}, ["empty"]
    yield "truncated.csv.gz", plain[: len(plain) // 2], {}, ["truncated", "download it again"]
    yield "damaged.csv.gz", plain[:500] + b"\0\1\2" + plain[503:], {}, ["download it again"]
    yield "tail.csv.gz", plain + b"x", {}, ["corrupt", "download it again"]
    yield "tails.csv.gz", plain + b"garbage" * 9, {}, ["corrupt", "download it again"]
    yield "zipped.csv.gz", plain + b"\x1f\x8bgarbage", {}, ["corrupt", "download it again"]
    yield "plain.csv.gz", good.encode(), {}, ["not a gzip file"]
    yield "columns.csv", b"a,b\n1,2\n", {}, ["wrong columns", "found a, b", "source_id", "bp_coefficients"]
    yield "noid.csv", good.replace("source_id", "id", 1).encode(), {}, ["wrong columns", "no source_id"]
    yield "twice.csv", good.replace("ra,", "SOURCE_ID,", 1).encode(), {}, ["source_id", "twice"]
    yield (
        "cells.csv",
        "\n".join([*lines[:2], lines[2] + ",1", lines[3]]).encode(),
        {},
        ["row 2", "13 cells", "expected 12"],
    )
    yield "cut.csv", good[: len(lines[0]) + len(lines[1]) + 900].encode(), {}, ["row 2", "truncated"]
    yield "quote.csv", good.replace('",', ",", 1).encode(), {}, ["row 1"]
    yield "latin.csv", good.replace("ra", "ré", 1).encode("latin-1"), {}, ["text"]
    yield (
        "text.csv",
        rows_of(made, rp_coefficients=["hello"] * 3).encode(),
        {},
        [
            *("row 1", "rp_coefficients", "'hello'", "55 numbers", "mend the column"),
        ],
    )
    yield (
        "texts.csv",
        rows_of(made, bp_coefficient_errors=["hello"] * 3).encode(),
        {},
        ["row 1", "bp_coefficient_errors"],
    )
    yield (
        "given.csv",
        rows_of(made, bp_coefficients=short).encode(),
        {"release": DR3},
        [
            *("row 1", "bp_coefficients", "51 numbers", "55 numbers", "pass release="),
        ],
    )
    yield (
        "parameters.csv",
        rows_of(made, bp_coefficients=short).encode(),
        {},
        ["row 1", "51 numbers", "bp_n_parameters is 55"],
    )
    no_count = {k: v for k, v in made.items() if "n_param" not in k}
    yield "errors.csv", rows_of(no_count, bp_coefficients=short).encode(), {}, ["51 numbers", "errors has 55"]
    yield (
        "uneven.csv",
        rows_of(lone, bp_coefficients=uneven).encode(),
        {},
        ["row 1", "1485 numbers", "Gaia DR4", "release="],
    )
    yield "pairs.csv", rows_of(lone, rp_coefficient_correlations=short).encode(), {}, ["row 1", "1485", "51"]
    yield "table.fits", b"SIMPLE  = nonsense", {}, ["FITS"]
    yield "table.vot", b"<VOTABLE><RESOURCE>", {}, ["VOTable"]
    yield "table.xml", b"hello", {}, ["VOTable"]
    yield "table.parquet", b"PAR1 and no more", {}, ["parquet"]
    yield "table.avro", b"Obj\1 and no more", {}, ["download it again"]
    yield "table.h5", b"hello", {}, ["HDF5"]
    yield "table.tbl", b"hello", {}, ["unknown suffix '.tbl'", ".csv", ".parquet"]
    yield "keep.csv", good.encode(), {"keep": ["Ra", "rax"]}, ["no column 'rax'", "did you mean ra?"]


@pytest.mark.parametrize(("name", "content", "options", "words"), [pytest.param(*c, id=c[0]) for c in door_cases()])
def test_errors_at_the_door(tmp_path, name, content, options, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        read(path, **options)
    for word in [name, *words]:
        assert word in str(caught.value)
    assert "--release" not in str(caught.value)
    assert "corrupt" not in words or "truncated" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("suffix", ["fits", "vot", "parquet", "avro", "h5", "fits.gz", "binary2.vot", "tabledata.vot"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.98])
def test_truncated_files(tmp_path, suffix, share):
    path = write(tmp_path / f"made.{suffix}", make(30, (9, 9), missing_bp=()))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"made\..*download it again"):
        read(path)


def test_other_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="directory"):
        read(tmp_path)
    with pytest.raises(ValueError, match="can't read a table from int"):
        read(3)
    with pytest.raises(ValueError, match="release must be"):
        read(make(), release=3)
    with pytest.raises(ValueError, match=r"unknown release 'DR9'; expected one of Gaia DR3"):
        read(make(), release="DR9")
    with pytest.raises(ValueError, match="ra has 3 rows, expected 4"):
        read(make() | {"ra": [1.0, 2.0, 3.0]})


def test_51_basis_functions_and_a_given_release(tmp_path):
    columns = make(n_basis=(51, 55))
    given_release = Release("Gaia DR4", (51, 55))
    assert read(columns, release=given_release).release is given_release
    columns["bp_coefficients"][0] = columns["bp_coefficients"][0][:40]
    found = read(columns, release=given_release)
    assert Status.describe(int(found.status[0])) == "BP_BAD"


@pytest.mark.slow
def test_import_is_cheap():
    code = (
        "import sys, jax, equinox, scipy, h5py; before = set(sys.modules); import xpjax.xp; "
        "print({m.split('.')[0] for m in set(sys.modules) - before} & "
        "{'pandas', 'pyarrow', 'astropy', 'fastavro', 'isal'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_suffixes_have_loaders():
    assert {".csv", ".ecsv", ".fits", ".vot", ".xml", ".avro", ".parquet", ".h5"} <= set(loaders.SUFFIXES)


# Cells

numbers = st.lists(st.floats(allow_nan=False), min_size=1, max_size=12)
spaces = st.text(" \t", max_size=3)


@settings(deadline=None, derandomize=True)
@given(numbers, spaces, spaces, spaces, st.sampled_from(["()", "[]"]), st.sampled_from([repr, "{:.17e}".format]))
def test_cell_round_trip(values, before, between, after, brackets, form):
    inner = f"{between},{after}".join(map(form, values))
    text = f"{before}{brackets[0]}{between}{inner}{after}{brackets[1]}{before}"
    np.testing.assert_array_equal(cells.parse_cell(text), values)
    column = cells.from_texts([text, "", text])
    assert column.length.tolist() == [len(values), 0, len(values)]
    np.testing.assert_array_equal(np.concatenate(column.cells()), values * 2)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 5), st.data(), spaces)
def test_square_cell_round_trip(n, data, space):
    values = np.array(data.draw(st.lists(st.floats(allow_nan=False), min_size=n * n, max_size=n * n))).reshape(n, n)
    text = str(tuple(tuple(row) for row in values.tolist()) if n > 1 else f"(({float(values[0, 0])!r}))")
    np.testing.assert_array_equal(cells.parse_cell(text.replace(" ", space)), values.ravel())


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text("()[],.- 0123456789enaif_", max_size=14), min_size=1, max_size=5))
def test_cells_together_read_as_cells_apart(texts):
    """The fast parsers accept nothing that the careful one refuses, and agree where both read."""
    found = cells.from_texts(texts)
    for i, text in enumerate(texts):
        try:
            apart = cells.parse_cell(text)
        except ValueError:
            assert found.length[i] == -1
        else:
            assert found.length[i] == len(apart)
            np.testing.assert_array_equal(found.cells()[i], apart)


@pytest.mark.parametrize(
    "text", ["hello", "(1,2", "1,2)", "(1,2]", "(1,,2)", "(1,2,)", "((1,2),(3))", "((1,2)(3,4))", "5", "(1 2)"]
)
def test_odd_cells_are_refused(text):
    with pytest.raises(ValueError, match=r"not a|could not|inhomogeneous"):
        cells.parse_cell(text)
