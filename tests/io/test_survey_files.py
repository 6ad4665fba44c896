"""Observation tables on disk: every format gives the same columns; LDAC headers; damage is named."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from xpjax.io.survey_files import read_observation_table, write_observation_table
from xpjax.records import Catalogue

COLUMNS = {
    "NUMBER": np.arange(1, 5), "X_IMAGE": np.array([1.5, 2.5, np.nan, 4.0]),
    "MAG_APER": np.arange(8.0).reshape(4, 2), "FLAGS": np.array([0, 1, 2, 3], np.int16),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".fits", ".ldac", ".cat", ".parquet", ".ecsv", ".h5"])
def test_formats_give_the_same_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_observation_table(path, Catalogue(COLUMNS, meta={"AIRMASS": 1.25}))
    read = read_observation_table(path)
    assert list(read.columns) == list(COLUMNS)
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(read.columns[name], column)
        assert read.columns[name].dtype.isnative
    with pytest.raises(FileExistsError):
        write_observation_table(path, Catalogue(COLUMNS))
    write_observation_table(path, Catalogue(COLUMNS), overwrite=True)


def test_ldac_is_astropys_fits_with_the_images_header(tmp_path: Path) -> None:
    path = tmp_path / "image.cat"
    write_observation_table(path, Catalogue(COLUMNS, meta={"AIRMASS": 1.25, "FILTER": "r", "NCOMBINE": 3}))
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "LDAC_IMHEAD", "LDAC_OBJECTS"]
    np.testing.assert_array_equal(Table.read(path, hdu="LDAC_OBJECTS")["NUMBER"], COLUMNS["NUMBER"])
    meta = read_observation_table(path).meta
    assert (meta["AIRMASS"], meta["FILTER"], meta["NCOMBINE"]) == (1.25, "r", 3)


def test_sextractors_own_layout_of_the_header(tmp_path: Path) -> None:
    """SExtractor writes LDAC_IMHEAD as one long string without dimensions."""
    header = fits.Header({"AIRMASS": 1.5, "EXPTIME": 30.0})
    text = header.tostring(sep="", endcard=True, padding=True)
    image = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", f"{len(text)}A", array=[text])])
    image.name = "LDAC_IMHEAD"
    objects = fits.table_to_hdu(Table({"FLAGS": [1, 2]}))
    objects.name = "LDAC_OBJECTS"
    path = tmp_path / "sex.fits"
    fits.HDUList([fits.PrimaryHDU(), image, objects]).writeto(path)
    read = read_observation_table(path)
    assert read.meta["AIRMASS"] == 1.5
    assert read.columns["FLAGS"].tolist() == [1, 2]


def test_text_and_header_of_plain_fits(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    table = Table({"name": ["a", "bb"], "m": [1.0, 2.0]})
    table.meta["AIRMASS"] = 2.0
    table.write(path)
    read = read_observation_table(path)
    assert read.columns["name"].tolist() == ["a", "bb"]
    assert read.meta["AIRMASS"] == 2.0


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_observation_table(tmp_path / "nowhere.fits")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="has no table"):
        read_observation_table(tmp_path / "image.fits")
    (tmp_path / "torn.fits").write_bytes(b"SIMPLE")
    with pytest.raises(ValueError, match=r"torn.fits cannot be read as FITS"):
        read_observation_table(tmp_path / "torn.fits")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"torn.parquet"):
        read_observation_table(tmp_path / "torn.parquet")
    (tmp_path / "table.doc").write_text("x")
    with pytest.raises(ValueError, match="suffix"):
        read_observation_table(tmp_path / "table.doc")


def test_sextractors_text(tmp_path: Path) -> None:
    path = tmp_path / "field.cat"
    path.write_text(
        "#   1 NUMBER     Running object number\n"
        "#   2 X_IMAGE    Object position along x          [pixel]\n"
        "#   3 MAG_APER   Fixed aperture magnitude vector  [mag]\n"
        "#   6 FLAGS      Extraction flags\n"
        "1 10.5 -12.1 -12.2 -12.3 0\n"
        "2 11.5 -11.1 -11.2 99.0 3\n"
    )
    columns = read_observation_table(path).columns
    assert list(columns) == ["NUMBER", "X_IMAGE", "MAG_APER", "FLAGS"]
    np.testing.assert_array_equal(columns["MAG_APER"], [[-12.1, -12.2, -12.3], [-11.1, -11.2, 99.0]])
    path.write_text("# nothing of the kind\n1 2 3\n")
    with pytest.raises(ValueError, match="cannot be read as SExtractor's text"):
        read_observation_table(path)
