"""Catalogues on disk: equal values in every format, and whole files or none."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

import xpjax
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3
from xpjax.io import catalogue
from xpjax.xp.sources import SourceTable, XPCoefficients

BINARY = (".fits", ".parquet", ".h5", ".hdf5")
TEXT = (".csv", ".csv.gz")


def made(n: int = 7) -> Catalogue:
    """Every kind of column: ids, floats of both sizes with NaN, arrays, flags, bools and text."""
    rng = np.random.default_rng(3)
    flux = (rng.normal(size=(n, 5)) * 1e-17).astype(np.float32)
    mag = rng.normal(15, 2, n)
    if n:
        flux[0, 2], flux[-1], mag[1] = np.nan, np.nan, np.nan
    return Catalogue(
        {
            "source_id": rng.integers(2**61, 2**62, n),
            "Sdss_mag_g": mag,
            "Sdss_flux_g": (mag * 1e-30).astype(np.float32),
            "flux": flux,
            "weight": rng.integers(0, 9, (n, 3)),
            "name": np.array(['M 31, "Andromeda"', "Barnard's é", ""] * n)[:n],
            "known": rng.random(n) > 0.5,
            "xp_status": rng.integers(0, 2**13, n).astype(np.uint32),
        },
        units={"Sdss_mag_g": "mag", "flux": "W m-2 nm-1", "wavelength": "nm"},
        descriptions={"xp_status": "bits, see xpjax.Status"},
        shared={"wavelength": np.linspace(400, 500.5, 5)},
        meta={"release": "Gaia DR3", "version": "0.1", "n": 3, "truncate": True, "inputs": ["a.csv", "b.csv"]},
    )


def same(expected: np.ndarray, found: np.ndarray) -> bool:
    """Equal values, NaN equal to NaN, in the type of the expected ones."""
    if expected.dtype.kind == "U":
        return np.array_equal(expected, found)
    return np.array_equal(expected, found.astype(expected.dtype), equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("suffix", catalogue.SUFFIXES)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    given = made()
    path = tmp_path / f"out{suffix}"
    catalogue.write(path, given)
    found = catalogue.read_catalogue(path)
    assert list(found.columns) == list(given.columns)
    for name, column in given.columns.items():
        assert same(column, found.columns[name]), name
    assert found.columns["source_id"].dtype == np.int64
    assert same(given.shared["wavelength"], found.shared["wavelength"])
    if suffix in BINARY:
        assert {n: c.dtype for n, c in found.columns.items() if c.dtype.kind != "U"} == {
            n: c.dtype for n, c in given.columns.items() if c.dtype.kind != "U"
        }
    if suffix not in TEXT:
        from astropy.units import Unit

        assert found.meta == given.meta
        assert found.descriptions == given.descriptions
        assert all(Unit(found.units[name]) == Unit(given.units[name]) for name in ("Sdss_mag_g", "flux"))
    leftovers = {p.name for p in tmp_path.iterdir()} - {path.name}
    assert leftovers == ({"out_wavelength.csv"} if suffix in TEXT else set())


@pytest.mark.parametrize("suffix", catalogue.SUFFIXES)
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    given = made(0)
    if suffix == ".ecsv":  # astropy cannot read array columns without rows
        given = Catalogue({name: column for name, column in given.columns.items() if column.ndim == 1})
    catalogue.write(tmp_path / f"out{suffix}", given)
    found = catalogue.read_catalogue(tmp_path / f"out{suffix}")
    assert list(found.columns) == list(given.columns)
    assert len(found) == 0


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.float32, (4, 2), elements=st.floats(width=32)),
    arrays(np.float64, 4, elements=st.floats(allow_infinity=False)),
)
def test_csv_digits_are_exact(tmp_path_factory: pytest.TempPathFactory, pairs: np.ndarray, single: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("csv") / "out.csv"
    catalogue.write(path, Catalogue({"single": single, "pairs": pairs}))
    found = catalogue.read_catalogue(path).columns
    assert same(single, found["single"])
    assert same(pairs, found["pairs"])


def test_csv_is_plain(tmp_path: Path) -> None:
    """What pandas reads without arguments: ids whole, NaN as empty cells, no comment lines; arrays as JSON."""
    import json

    import pandas as pd

    given = made()
    catalogue.write(tmp_path / "out.csv", given)
    frame = pd.read_csv(tmp_path / "out.csv")
    assert frame.source_id.tolist() == given.columns["source_id"].tolist()
    assert np.isnan(frame.Sdss_mag_g[1])
    assert frame.known.dtype == bool
    assert same(given.columns["flux"][3], np.array(json.loads(frame.flux[3])))
    assert pd.read_csv(tmp_path / "out_wavelength.csv").wavelength.tolist() == [400, 425.125, 450.25, 475.375, 500.5]
    assert "nan" not in (tmp_path / "out.csv").read_text()


def test_other_readers(tmp_path: Path) -> None:
    """h5py, astropy and pandas read the files without xpjax."""
    import h5py
    import pandas as pd
    from astropy.io import fits
    from astropy.table import Table

    given = made()
    for suffix in (".h5", ".fits", ".ecsv", ".vot", ".parquet"):
        catalogue.write(tmp_path / f"out{suffix}", given)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["flux"].shape == (7, 5)
        assert file["flux"].chunks is None
        assert file["flux"].attrs["unit"] == "W m-2 nm-1"
        assert file["wavelength"].shape == (5,)
        assert file.attrs["release"] == "Gaia DR3"
    for suffix in (".fits", ".ecsv", ".vot"):
        table = Table.read(tmp_path / f"out{suffix}", **({"hdu": 1} if suffix == ".fits" else {}))
        assert table["flux"].shape == (7, 5), suffix
        assert str(table["Sdss_mag_g"].unit) == "mag", suffix
    assert fits.getdata(tmp_path / "out.fits", "WAVELENGTH")["wavelength"].shape == (5,)
    assert len(pd.read_parquet(tmp_path / "out.parquet").flux[0]) == 5


@pytest.mark.slow
def test_blocks_of_rows(tmp_path: Path) -> None:
    """Text is written some rows at a time; a row wider than a block still goes out whole."""
    given = Catalogue({"source_id": np.arange(5), "wide": np.random.default_rng(0).random((5, 1 << 20))})
    catalogue.write(tmp_path / "out.csv", given)
    found = catalogue.read_catalogue(tmp_path / "out.csv")
    assert same(given.columns["wide"], found.columns["wide"])


def test_odd_columns(tmp_path: Path) -> None:
    """Masked, byte, object and big-endian columns are written as plain ones; others are refused by name."""
    given = Catalogue(
        {
            "masked": np.ma.masked_equal(np.arange(3), 1),
            "bytes": np.array([b"a", b"bc", b""]),
            "objects": np.array(["x", None, b"z"], object),
            "big": np.arange(3, dtype=">f8"),
        }
    )
    for suffix in catalogue.SUFFIXES:
        catalogue.write(tmp_path / f"out{suffix}", given)
        found = catalogue.read_catalogue(tmp_path / f"out{suffix}").columns
        assert same(np.array([0, np.nan, 2]), found["masked"]), suffix
        assert found["bytes"].tolist() == ["a", "bc", ""], suffix
        assert found["objects"].tolist() == ["x", "", "z"], suffix
        assert found["big"].tolist() == [0, 1, 2], suffix
    with pytest.raises(ValueError, match=r"'cube'.*cannot be written"):
        catalogue.write(tmp_path / "cube.h5", Catalogue({"cube": np.zeros((2, 2, 2))}))
    with pytest.raises(ValueError, match="different lengths"):
        catalogue.write(tmp_path / "cube.h5", Catalogue({"a": np.zeros(2), "b": np.zeros(3)}))
    assert not (tmp_path / "cube.h5").exists()


def test_arrays_without_numbers(tmp_path: Path) -> None:
    """A column of a photometer that no source has, as the archive gives it: (n, 0)."""
    given = Catalogue({"source_id": np.arange(3), "bp_coefficients": np.zeros((3, 0), np.float32)})
    for suffix in (".parquet", ".fits", ".h5"):
        catalogue.write(tmp_path / f"out{suffix}", given)
        found = catalogue.read_catalogue(tmp_path / f"out{suffix}").columns
        assert list(found) == [*given.columns], suffix
        assert found["bp_coefficients"].shape == (3, 0), suffix
    with pytest.raises(ValueError, match=r"bp_coefficients has no number .* write Parquet"):
        catalogue.write(tmp_path / "out.vot", given)
    assert not (tmp_path / "out.vot").exists()


def test_fits_has_limits(tmp_path: Path) -> None:
    wide = Catalogue({f"c{i}": np.zeros(1) for i in range(1000)})
    with pytest.raises(ValueError, match=r"999 columns.*parquet"):
        catalogue.write(tmp_path / "out.fits", wide)
    with pytest.raises(ValueError, match=r"does not tell the columns \['m', 'M'\] apart"):
        catalogue.write(tmp_path / "out.fits", Catalogue({"m": np.zeros(1), "x": np.zeros(1), "M": np.ones(1)}))
    assert list(tmp_path.iterdir()) == []


def test_concatenate() -> None:
    given = made()
    joined = catalogue.concatenate([given, given])
    assert len(joined) == 14
    assert joined.units == given.units
    with pytest.raises(ValueError, match="different columns"):
        catalogue.concatenate([given, Catalogue({"source_id": np.zeros(1)})])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("out.txt", ValueError, r"out.txt: the suffix names the format.*\.csv.*\.h5"),
        ("out", ValueError, "suffix names the format"),
        ("nowhere/out.csv", FileNotFoundError, "no directory .*nowhere.*make it first"),
        ("file/out.csv", NotADirectoryError, "is no directory"),
        ("old.csv", FileExistsError, "old.csv exists.*overwrite=True"),
        ("folder.h5", IsADirectoryError, "is a directory"),
        ("spectra.csv", FileExistsError, "spectra_wavelength.csv exists"),
    ],
)
def test_outputs_are_refused_early(tmp_path: Path, name: str, kind: type[Exception], message: str) -> None:
    for other in ("file", "old.csv", "spectra_wavelength.csv"):
        (tmp_path / other).write_text("old")
    (tmp_path / "folder.h5").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message):
        catalogue.check_output(tmp_path / name, shared=["wavelength"])
    with pytest.raises(kind, match=message):
        catalogue.write(tmp_path / name, made())
    assert sorted(tmp_path.rglob("*")) == before
    if kind is FileExistsError:
        catalogue.check_output(tmp_path / name, overwrite=True, shared=["wavelength"])
        catalogue.write(tmp_path / name, made(), overwrite=True)
        assert len(catalogue.read_catalogue(tmp_path / name)) == 7


def test_check_output_leaves_nothing(tmp_path: Path) -> None:
    catalogue.check_output(tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", catalogue.SUFFIXES)
def test_failure_keeps_the_old_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"out{suffix}: No space left on device; free some space") as caught:
        catalogue.write(path, made(), overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("suffix", [".csv", ".h5"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, suffix: str, there: bool) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / f"x{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(f"disk/x{suffix}")
    if there:
        target.write_text("old")
        with pytest.raises(FileExistsError, match=f"disk/x{suffix} exists"):
            catalogue.write(link, made())
        assert target.read_text() == "old"
    catalogue.check_output(link, overwrite=there)
    catalogue.write(link, made(), overwrite=there)
    assert link.is_symlink()
    assert len(catalogue.read_catalogue(target)) == 7
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_link_is_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "x.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("disk/x.csv")
    (tmp_path / "lost.csv").symlink_to("nowhere/x.csv")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"link\.csv: No space left"):
        catalogue.write(tmp_path / "link.csv", made(), overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere for the output"):
        catalogue.write(tmp_path / "lost.csv", made())
    assert (tmp_path / "link.csv").read_text() == "old"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["x.csv"]


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        catalogue.write(tmp_path / "out.h5", made())
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import numpy as np
from xpjax.io import catalogue
from xpjax.core.records import Catalogue
given = Catalogue({"flux": np.random.default_rng(0).random((4000, 20))}, shared={"wavelength": np.arange(20.0)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for suffix in catalogue.SUFFIXES:
    try:
        catalogue.write(f"out{suffix}", given)
    except OSError as exc:
        print(exc)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of file sizes as Linux has them")
def test_disk_that_takes_no_more(tmp_path: Path) -> None:
    """A real limit of the system, in every format: a message naming file and remedy, and no file."""
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(catalogue.SUFFIXES)
    for suffix, line in zip(catalogue.SUFFIXES, lines, strict=True):
        assert line.startswith(f"cannot write out{suffix}: ")
        assert line.endswith("(ulimit -f) allow; write several files")
        assert line.count("large") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", catalogue.SUFFIXES)
def test_sources_are_read_back(tmp_path: Path, suffix: str) -> None:
    """`write` writes sources as what `xpjax.read` reads, to the last digit, in every format."""
    rng = np.random.default_rng(5)
    n, total, pairs = 4, DR3.n_basis_total, DR3.n_pair_total
    table = SourceTable(
        np.arange(1, n + 1) << 40,
        XPCoefficients(
            rng.normal(size=(n, total)).astype(np.float32),
            rng.random((n, total)).astype(np.float32),
            rng.uniform(-0.1, 0.1, (n, pairs)).astype(np.float32),
            np.array([[20, 30]] * n, np.int32),
        ),
        np.zeros(n, np.uint32),
        {"bp_rp": rng.random(n)},
    )
    path = tmp_path / f"sources{suffix}"
    catalogue.write(path, table)
    found = xpjax.read(path, dtype=np.float32, keep=["bp_rp"])
    assert found.source_id.tolist() == table.source_id.tolist()
    assert not found.status.any()
    for name in ("value", "error", "correlation", "n_relevant"):
        assert np.array_equal(getattr(found.coefficients, name), getattr(table.coefficients, name)), name
    assert np.array_equal(found.columns["bp_rp"], table.columns["bp_rp"])
