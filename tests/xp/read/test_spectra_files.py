"""Files of sampled spectra: round trips of xpjax's own, and what is made of others."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from xpjax.core.records import Catalogue
from xpjax.xp import SourceTable, Spectra, read_spectra

GRID = np.arange(336.0, 1021.0, 2.0)
FIELDS = ("source_id", "wavelength", "flux", "flux_error", "correlation", "status", "distance")


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    return xpjax.simulate_sources(4, seed=5)


def flux_of(stars: SourceTable) -> np.ndarray:
    return xpjax.spectra(stars, errors=False, float64=True).flux


@pytest.fixture(scope="module", params=["absolute", "corrected", "internal"])
def made(request: pytest.FixtureRequest, stars: SourceTable) -> Spectra:
    """Spectra with columns to pass on."""
    options = {
        "absolute": {"wavelength": np.arange(400.0, 500.0, 5.0), "correlation": True},
        "corrected": {"correction": "standard"},
        "internal": {"internal": True, "correlation": True, "wavelength": np.linspace(0, 60, 20)},
    }[request.param]
    columns = {"ra": stars.columns["ra"], "name": np.array(["a", "b", "c", "d"])}
    passed = Catalogue(columns, {"ra": "deg"}, {"ra": "Right ascension"})
    return dataclasses.replace(xpjax.spectra(stars, **options), passed=passed)


@pytest.mark.parametrize("suffix", [".h5", ".parquet", ".fits", ".vot", ".ecsv", ".csv", ".csv.gz"])
def test_spectra_are_read_back(made: Spectra, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"spectra{suffix}"
    xpjax.write(path, made)
    found = read_spectra(path)
    for name in FIELDS:
        before, after = getattr(made, name), getattr(found, name)
        if before is None:
            assert after is None, name
        else:
            np.testing.assert_array_equal(after.astype(before.dtype), before, err_msg=name)
    assert list(found.columns) == ["ra", "name"]
    np.testing.assert_array_equal(found.columns["name"], made.columns["name"])
    assert found.release == made.release
    if not suffix.startswith(".csv"):  # which holds no metadata
        assert dict(found.meta) == dict(made.meta)
        assert dict(found.passed.units) == {"ra": "deg"}
    elif made.distance is not None:
        assert found.meta["correction"] == "of no name"


def test_other_releases_are_read_back(tmp_path: Path, stars: SourceTable) -> None:
    other = xpjax.Release("another", (51, 55))
    made = dataclasses.replace(xpjax.spectra(stars, internal=True), release=other)
    xpjax.write(tmp_path / "s.h5", made)
    assert read_spectra(tmp_path / "s.h5").release == other


def test_internal_spectra_of_one_xp_are_refused(tmp_path: Path, stars: SourceTable) -> None:
    table = xpjax.spectra(stars, internal=True).catalogue()
    xpjax.write(tmp_path / "s.h5", table[::2])
    with pytest.raises(ValueError, match="are not bp and rp of each source"):
        read_spectra(tmp_path / "s.h5")


def test_units_are_converted_and_ids_are_whole(tmp_path: Path, stars: SourceTable) -> None:
    flux, ids = flux_of(stars), stars.source_id
    for name, unit, scale, axis in (
        ("cgs.h5", "erg / (s cm2 Angstrom)", 100.0, 10 * GRID),
        ("jansky.h5", "Jy", 1e26 * (1e-9 * GRID) ** 2 / 299792458.0 * 1e9, 10 * GRID),
    ):
        with h5py.File(tmp_path / name, "w") as file:
            file.update({"source_id": ids, "flux": flux * scale, "wavelength": axis})
            file["flux"].attrs["units"], file["wavelength"].attrs["unit"] = unit, "Angstrom"
        found = read_spectra(tmp_path / name)
        np.testing.assert_allclose(found.flux, flux, rtol=1e-9)
        np.testing.assert_allclose(found.wavelength, GRID)
        assert found.catalogue().units == {"flux": "W m-2 nm-1", "wavelength": "nm"}
    with h5py.File(tmp_path / name, "a") as file:
        file["flux"].attrs["units"] = "mag"
    with pytest.raises(ValueError, match=r"jansky\.h5: column 'flux' has the unit 'mag', which is none of a flux"):
        read_spectra(tmp_path / name)
    with h5py.File(tmp_path / name, "a") as file:
        file["flux"].attrs["units"] = "Jy"
        del file["source_id"]
        file["source_id"] = ids.astype(float)
    with pytest.raises(ValueError, match="'source_id' holds identifiers as floating-point numbers"):
        read_spectra(tmp_path / name)
    with h5py.File(tmp_path / name, "a") as file:
        del file["source_id"], file["wavelength"]
        file.update({"source_id": ids, "wavelength": GRID[::-1]})
    with pytest.raises(ValueError, match="do not ascend"):
        read_spectra(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"flux": np.ones((2, 9))}, "has no source_id"),
        ({"source_id": np.arange(2), "flux": np.ones(2)}, "one number for each source"),
        ({"source_id": np.arange(2), "flux": np.ones((2, 9))}, "has no wavelength for its 9 samples"),
        ({"source_id": np.arange(2), "flux": np.ones((2, 9)), "wavelength": np.arange(8.0)}, "wavelength has shape"),
        (
            {"source_id": np.arange(2), "flux": np.ones((2, 9)), "wavelength": np.arange(18.0).reshape(2, 9)},
            "differ from row to row",
        ),
        ({"source_id": np.arange(3), "flux": np.ones((2, 343))}, "has 3 rows, expected 2"),
        ({"source_id": np.arange(2), "flux": np.ones((2, 343)), "flux_error": np.ones(2)}, "flux_error has shape"),
        ({"source_id": [1, 2, 1], "flux": np.ones(3), "wavelength": np.arange(3.0)}, "not one after the other"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, columns: dict[str, np.ndarray], told: str) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update(columns)
    with pytest.raises(ValueError, match=told):
        read_spectra(tmp_path / "in.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("flux")
    with pytest.raises(ValueError, match="holds no table of spectra"):
        read_spectra(tmp_path / "group.h5")
