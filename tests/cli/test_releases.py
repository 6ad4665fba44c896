"""Gaia DR4's basis sizes, 51 + 55, through every command, beside DR3's; every wrong mixture is refused by name.

Instrument and systems of "Gaia DR4" are DR3's less the last four BP bases, found in XPJAX_DATA: DR3's sources whose
last four BP coefficients are zero have the same spectra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import files, xp
from tests.dr4 import cut, make_models, without_last
from tests.stellar.test_fitter import made_sources, xp_grid
from tests.wiggles.helpers import made_model
from tests.xp.read.test_archive import write as write_archive
from xpjax.core.paths import DATA
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, DR4
from xpjax.core.shipped import filters_folder
from xpjax.io.catalogue import read_catalogue, write
from xpjax.stellar.grid_file import write_grid
from xpjax.wiggles.network import write_network
from xpjax.xp import write_store_file

SUFFIXES = ("csv", "csv.gz", "ecsv", "fits", "vot", "binary2.vot", "tabledata.vot", "avro", "parquet", "h5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the same sources in both releases, in files and stores, and models of DR4 in XPJAX_DATA."""
    home = tmp_path_factory.mktemp("releases")
    (home / "models").mkdir()
    (home / "xp").mkdir()
    make_models(home / "models")
    dr3 = without_last(xpjax.simulate_sources(24, seed=5, dtype=np.float64))
    for name, table in (("dr3", dr3), ("dr4", cut(dr3))):
        for suffix in ("parquet", "csv", "fits"):
            write(home / f"{name}.{suffix}", table.catalogue())
        write_store_file(home / "xp" / f"{name}.h5", table)
    write_network(home / "network_dr3.h5", model := made_model(names="color", base="none"))
    write_network(home / "network_dr4.h5", made_model(names="color", base="none", release=DR4.name))
    assert (model.release, model.base) == (DR3.name, "none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPJAX_DATA", str(home / "models"))
        yield home


def good(*call: object) -> str:
    """What a command says that ends well."""
    result = xp(*call)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*call: object) -> str:
    """The one line that a command says that refuses its input."""
    result = xp(*call)
    assert result.exit_code == 2, result.output
    *_, line = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    return line


def both(home: Path, out: Path, *call: object, suffix: str = "parquet") -> tuple[dict, dict]:
    """The columns that a command gives of the same sources in DR3 and in DR4."""
    for name in ("dr3", "dr4"):
        good(call[0], home / f"{name}.{suffix}", *call[1:], "-o", out / f"{name}.parquet", "--overwrite")
    return tuple(dict(read_catalogue(out / f"{name}.parquet").columns) for name in ("dr3", "dr4"))  # type: ignore[return-value]


def assert_alike(a: dict, b: dict, rtol: float = 2e-5) -> None:
    """Columns of floats agree: the sums are the same but for zeros."""
    assert [*a] == [*b]
    for name, column in a.items():
        if np.asarray(column).dtype.kind == "f":
            scale = np.nanmax(np.abs(column), initial=0.0) if "flux" in name else 1.0
            np.testing.assert_allclose(b[name], column, rtol=rtol, atol=2e-6 * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(b[name], column, err_msg=name)


# --- every command


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format(home: Path, tmp_path: Path, suffix: str) -> None:
    """From any format to the same magnitudes, to the bit."""
    table = xpjax.read(home / "dr4.parquet")
    c = table.coefficients
    columns: dict = {"source_id": table.source_id.tolist()}
    for xp_name, rows, pairs, n in zip(("bp", "rp"), DR4.slices, DR4.pair_slices, DR4.n_basis, strict=True):
        columns[f"{xp_name}_n_parameters"] = [n] * len(table)
        for field, array in (("coefficients", c.value[:, rows]), ("coefficient_errors", c.error[:, rows])):
            columns[f"{xp_name}_{field}"] = [*array.astype(float)]
        columns[f"{xp_name}_coefficient_correlations"] = [*c.correlation[:, pairs].astype(float)]
        columns[f"{xp_name}_n_relevant_bases"] = np.asarray(c.n_relevant)[:, ("bp", "rp").index(xp_name)].tolist()
    path = write_archive(tmp_path / f"made.{suffix}", columns)
    good("photometry", path, "--system", "SDSS", "-o", tmp_path / "out.fits")
    good("photometry", home / "dr4.parquet", "--system", "SDSS", "-o", tmp_path / "expected.fits")
    found, expected = (read_catalogue(tmp_path / name).columns for name in ("out.fits", "expected.fits"))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.slow
def test_photometry_and_spectra(home: Path, tmp_path: Path) -> None:
    systems = ("--system", "JPLUS", "--system", "Sdss_Std", "--error-correction")
    for call in (
        ("photometry", *systems),
        ("photometry", "--passbands", "minisitian:g", "--system", "SDSS:g", "--tie", "G"),
        ("spectra", "--wavelength", "400:900:25", "--correlation"),
        ("spectra", "--internal", "--wavelength", "0:60:2"),
    ):
        assert_alike(*both(home, tmp_path, *call))
    told = read_catalogue(tmp_path / "dr4.parquet").meta
    assert told["release"] == DR4.name
    # A file of the system, and a file of the instrument, say their release themselves.
    good("photometry", home / "dr4.csv", "--system", home / "models" / "systems_dr4.h5", "-o", tmp_path / "a.h5")
    good("spectra", home / "dr4.fits", "--instrument", home / "models" / "instrument_dr4.h5", "-o", tmp_path / "b.h5")
    good("photometry", home / "dr4.csv", "--release", "DR4", "--system", "SDSS", "-o", tmp_path / "c.h5")


@pytest.mark.slow
def test_networks(home: Path, tmp_path: Path) -> None:
    for name in ("dr3", "dr4"):
        network = ("--correction", home / f"network_{name}.h5", "--ebv", "bp_rp")
        data = home / f"{name}.parquet"
        good("photometry", data, "--system", "SDSS", *network, "--keep", "bp_rp", "-o", tmp_path / f"{name}.parquet")
        good("wiggles", "features", data, "--names", "color", "--ebv", "bp_rp", "-o", tmp_path / f"f_{name}.h5")
        good("spectra", data, "-o", tmp_path / f"s_{name}.h5")
        call = ("--features", tmp_path / f"f_{name}.h5", "--correction", home / f"network_{name}.h5")
        good("wiggles", "correct", tmp_path / f"s_{name}.h5", *call, "-o", tmp_path / f"c_{name}.h5")
        true = ("--true", tmp_path / f"s_{name}.h5", "--space", "observed")
        spectra = ("wiggles", "residuals", tmp_path / f"s_{name}.h5")
        good(*spectra, *call[:2], *true, "-o", tmp_path / f"r_{name}.h5")
    assert_alike(*(dict(read_catalogue(tmp_path / f"{name}.parquet").columns) for name in ("dr3", "dr4")))
    assert xpjax.wiggles.read_residuals(tmp_path / "r_dr4.h5").meaning.release == DR4.name
    other = ("--features", tmp_path / "f_dr3.h5")
    line = refused(
        "wiggles",
        "correct",
        tmp_path / "s_dr4.h5",
        *call[:2],
        "--correction",
        home / "network_dr3.h5",
        "-o",
        tmp_path / "x.h5",
    )
    assert "the network was trained on spectra of Gaia DR3, these are of Gaia DR4" in line
    line = refused("wiggles", "correct", tmp_path / "s_dr4.h5", *other, *call[2:], "-o", tmp_path / "x.h5")
    assert "the network was trained on spectra of Gaia DR4, the features are of Gaia DR3" in line
    line = refused("wiggles", "residuals", tmp_path / "s_dr4.h5", *other, *true, "-o", tmp_path / "x.h5")
    assert "the spectra are of Gaia DR4, the features of Gaia DR3" in line
    line = refused("wiggles", "correct", tmp_path / "s_dr4.h5", "--correction", "standard", "-o", tmp_path / "x.h5")
    assert "the correction standard is for Gaia DR3" in line


@pytest.mark.slow
def test_stores_and_catalogues(home: Path, tmp_path: Path) -> None:
    store = tmp_path / "xp"
    good("store", "ingest", home / "dr3.csv", home / "dr4.fits", "--store", store, "--correlations", "float32")
    text = good("store", "info", store, "--files")
    assert "Gaia DR3, 55 + 55 coefficients: 24 sources" in text
    assert "Gaia DR4, 51 + 55 coefficients: 24 sources" in text
    assert "48 sources in 2 files: all checksums agree" in good("store", "verify", store)
    line = refused("store", "select", store, "--cone", "0,0,180", "-o", tmp_path / "x.h5")
    assert "24 of these sources are of Gaia DR3, 24 of these sources are of Gaia DR4; say which" in line
    for name in ("dr3", "dr4"):
        call = ("--cone", "0,0,180", "--release", name, "-o", tmp_path / f"{name}.h5")
        assert "24 of 24 sources" in good("store", "select", store, *call)
        found, expected = (xpjax.read(one).coefficients for one in (tmp_path / f"{name}.h5", home / f"{name}.csv"))
        np.testing.assert_array_equal(found.value, expected.value.astype(np.float32))
        good("catalogue", store, "--release", name, "--system", "SDSS", "-o", tmp_path / name)
    parts = [dict(read_catalogue(tmp_path / name / f"{name}.parquet").columns) for name in ("dr3", "dr4")]
    assert_alike(*parts)
    line = refused("catalogue", store, "--system", "SDSS", "-o", tmp_path / "none")
    assert "xp holds several data releases: 24 sources of Gaia DR3, 24 sources of Gaia DR4; say which" in line
    line = refused("catalogue", store, "--release", "DR4", "--system", "SDSS", "-o", tmp_path / "dr3", "--resume")
    assert "was begun with other options: release was 'Gaia DR3', now 'Gaia DR4'" in line
    assert not (tmp_path / "none").exists()
    # The same in Python.
    assert xpjax.run_catalogue(store, tmp_path / "again", "SDSS", release="Gaia DR4").rows == 24
    with pytest.raises(ValueError, match="several data releases"):
        xpjax.run_catalogue(store, tmp_path / "x", "SDSS")
    with pytest.raises(ValueError, match=r"is of Gaia DR4 .*but Gaia DR3 .*is expected"):
        xpjax.run_catalogue(store, tmp_path / "x", xpjax.load_system("SDSS"), release=DR4)


@pytest.mark.slow
def test_labels(home: Path, tmp_path: Path) -> None:
    table = without_last(made_sources(12)[0])
    write(tmp_path / "dr3.parquet", table.catalogue())
    write(tmp_path / "dr4.parquet", cut(table).catalogue())
    write_store_file(tmp_path / "store.h5", cut(table))
    write_grid(xp_grid(), tmp_path / "grid.h5")
    how = ("--grid", tmp_path / "grid.h5", "--error-floor", 0.01)
    a, b = _labels(tmp_path, how)
    for name in ("teff", "logg", "mh"):
        np.testing.assert_allclose(b[name], a[name], rtol=2e-3, atol=2e-3)
    good("catalogue", "labels", tmp_path / "store.h5", *how, "--correction", "none", "-o", tmp_path / "labels")
    assert read_catalogue(tmp_path / "labels" / "store.parquet").columns["teff"].shape == (12,)
    line = refused("labels", "fit", tmp_path / "dr4.parquet", *how, "-o", tmp_path / "x.parquet")
    assert "the correction standard is for Gaia DR3" in line
    assert "not for Gaia DR4" in line
    line = refused("catalogue", "labels", tmp_path / "store.h5", *how, "-o", tmp_path / "x")
    assert "the correction standard is for Gaia DR3" in line
    pair = (tmp_path / "dr3.parquet", tmp_path / "dr4.parquet")
    line = refused("labels", "fit", *pair, *how, "--correction", "none", "-o", tmp_path / "x.parquet")
    assert "dr4.parquet is of Gaia DR4" in line


def _labels(folder: Path, how: tuple) -> list[dict]:
    for name in ("dr3", "dr4"):
        call = ("labels", "fit", folder / f"{name}.parquet", *how, "--correction", "none")
        good(*call, "-o", folder / f"{name}_labels.parquet")
    return [dict(read_catalogue(folder / f"{name}_labels.parquet").columns) for name in ("dr3", "dr4")]


@pytest.mark.slow
def test_passbands_are_fitted(home: Path, tmp_path: Path) -> None:
    sources = xpjax.read(home / "dr4.parquet")
    magnitude = xpjax.photometry(sources, xpjax.load_passbands("minisitian:g"), errors=False).magnitude[:, 0] + 0.03
    write(tmp_path / "seen.csv", Catalogue({"source_id": sources.source_id, "g": magnitude.astype(float)}))
    how = ("--magnitudes", tmp_path / "seen.csv", "--column", "g", "--error", 0.003, "--curve", "minisitian:g")
    call = ("--fit", "zero_point", "--no-xp-errors", "-o", tmp_path / "g.ecsv")
    text = good("passband", "fit", home / "dr4.parquet", *how, *call, "--correction", "none")
    assert float(text.split("zero_point")[1].split()[0]) == pytest.approx(0.03, abs=2e-3)
    line = refused("passband", "fit", home / "dr4.parquet", *how, *call[:-1], tmp_path / "x.ecsv")
    assert "the correction standard is for Gaia DR3" in line
    pair = (home / "dr3.parquet", home / "dr4.parquet")
    line = refused("passband", "fit", *pair, *how, *call[:-1], tmp_path / "x.ecsv", "--correction", "none")
    assert "read each release by itself" in line


@pytest.mark.slow
def test_surveys(home: Path, tmp_path: Path) -> None:
    """Models and airmass shifts from DR4's spectra, without the excess factor, and refusals of DR3's correction."""
    stars = xpjax.read(home / "dr4.parquet")
    write(tmp_path / "xp.parquet", stars)
    seen = xpjax.photometry(stars, xpjax.load_passbands("minisitian:g"), errors=False, float64=True).magnitude[:, 0]
    gaia = {name: stars.columns[name] for name in ("bp_rp", "phot_g_mean_mag")}
    columns = {"source_id": stars.source_id, **gaia, "MAG": seen - 22.0, "ERR": np.full(len(stars), 0.002)}
    write(tmp_path / "seen.parquet", Catalogue({**columns, "AIRMASS": np.full(len(stars), 1.3)}))
    text = (
        '[columns]\nstar = "source_id"\nmagnitude = "MAG"\nmagnitude_error = "ERR"\nairmass = "AIRMASS"\n'
        'bp_rp = "bp_rp"\nphot_g_mean_mag = "phot_g_mean_mag"\nbands = ["g"]\n'
        "[model]\nposition_order = 0\ncolor_order = 0\nmagnitude_order = 0\n"
        '[selection]\ncuts = ["vetted", "excess_factor"]\n'
        f'[passband]\nchain = "{filters_folder() / "minisitian" / "system.toml"}"\nsources = "xp.parquet"\n'
    )
    (tmp_path / "survey.toml").write_text(text + 'correction = "none"\n')
    (tmp_path / "corrected.toml").write_text(text + 'correction = "standard"\n')
    call = ("survey", "calibrate", tmp_path / "seen.parquet", "--config")
    said = good(*call, tmp_path / "survey.toml", "-o", tmp_path / "solution")
    assert "cut excess_factor did not run: no column phot_bp_rp_excess_factor" in said
    assert "which releases after Gaia DR3 lack" in said
    rows = read_catalogue(tmp_path / "solution" / "calibrated.parquet").columns
    assert np.nanmax(np.abs(rows["magnitude"] - seen)) < 0.02
    line = refused(*call, tmp_path / "corrected.toml", "-o", tmp_path / "x")
    assert "the correction standard is for Gaia DR3" in line


# --- wrong mixtures


MIXTURES = [
    (("photometry", "dr3.csv", "--system", "models/systems_dr4.h5"), "dr3.csv is of Gaia DR3 .*but Gaia DR4"),
    (("photometry", "dr4.csv", "--system", "{DATA}/systems_dr3.h5"), "dr4.csv is of Gaia DR4 .*but Gaia DR3"),
    (("photometry", "dr4.fits", "--system", "{DATA}/systems_dr3.h5"), "dr4.fits is of Gaia DR4 .*but Gaia DR3"),
    (("spectra", "dr3.parquet", "--instrument", "models/instrument_dr4.h5"), "dr3.parquet is of Gaia DR3 .*Gaia DR4"),
    (("spectra", "dr4.csv", "--instrument", "{DATA}/instrument_dr3.h5"), "dr4.csv is of Gaia DR4 .*but Gaia DR3"),
    (("photometry", "dr4.csv", "--system", "SDSS", "--correction", "standard"), "correction standard is for Gaia DR3"),
    (("photometry", "dr4.fits", "--system", "SDSS", "--correction", "standard"), "correction standard is for Gaia DR3"),
    (("spectra", "dr4.csv", "--correction", "standard"), "correction standard is for Gaia DR3"),
    (("photometry", "dr3.csv", "dr4.csv", "--system", "SDSS"), "dr3.csv is of Gaia DR3 .*dr4.csv is of Gaia DR4"),
    (("photometry", "dr3.fits", "dr4.fits", "--system", "SDSS"), "dr4.fits is of Gaia DR4 .*but Gaia DR3"),
    (("spectra", "dr4.csv", "dr3.parquet"), "dr4.csv is of Gaia DR4 .*dr3.parquet is of Gaia DR3"),
    (("photometry", "dr4.csv", "--system", "SDSS", "--release", "DR3"), "dr4.csv is of Gaia DR4 .*but Gaia DR3"),
    (
        ("photometry", "dr4.csv", "--system", "SDSS", "--correction", "network_dr3.h5", "--ebv", "bp_rp"),
        "the network was trained on spectra of Gaia DR3, the system is of Gaia DR4",
    ),
    (
        ("photometry", "dr3.csv", "--system", "SDSS", "--correction", "network_dr4.h5", "--ebv", "bp_rp"),
        "the network was trained on spectra of Gaia DR4, the system is of Gaia DR3",
    ),
    (("wiggles", "features", "dr4.csv", "--names", "color", "--correction", "standard"), "standard is for Gaia DR3"),
    (("wiggles", "features", "dr4.csv", "--names", "shape"), "for Gaia DR3 .*not for Gaia DR4"),
    (("wiggles", "features", "dr3.csv", "dr4.csv", "--names", "color"), "of Gaia DR3, .*of Gaia DR4"),
    (("catalogue", "xp/dr4.h5", "--system", "{DATA}/systems_dr3.h5"), "is of Gaia DR4 .*but Gaia DR3"),
    (("catalogue", "xp/dr4.h5", "--system", "SDSS", "--correction", "standard"), "standard is for Gaia DR3"),
    (("catalogue", "xp", "--system", "SDSS", "--release", "DR7"), "unknown release 'DR7'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), MIXTURES, ids=[" ".join(call) for call, _ in MIXTURES])
def test_wrong_mixtures(home: Path, tmp_path: Path, call: tuple[str, ...], said: str) -> None:
    there = [word.replace("{DATA}", str(DATA)) for word in call]
    there = [str(home / word) if (home / word).exists() else word for word in there]
    line = refused(*there, "-o", tmp_path / "out.h5")
    assert re.search(said, line), line
    assert len(line) < 500
    assert files(tmp_path) == []


def test_without_models_of_the_release(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPJAX_DATA", str(tmp_path / "empty"))
    for call in (("photometry", home / "dr4.csv", "--system", "SDSS"), ("spectra", home / "dr4.fits")):
        line = refused(*call, "-o", tmp_path / "out.h5")
        assert "of Gaia DR4 (51, 55), but xpjax has" in line
        assert "of DR3 only" in line
    line = refused("catalogue", home / "xp", "--release", "DR4", "--system", "SDSS", "-o", tmp_path / "out")
    assert "photometric systems of DR3 only" in line
    assert files(tmp_path) == []


def test_a_wrong_name_is_told_before_anything_is_read(home: Path, tmp_path: Path) -> None:
    for data in ("dr3.fits", "dr4.fits", "dr4.csv"):
        line = refused("photometry", home / data, "--system", "JPLUSS", "-o", tmp_path / "out.h5")
        assert "unknown photometric system 'JPLUSS'" in line


def test_simulated_sources(tmp_path: Path) -> None:
    good("simulate", "-n", 5, "--release", "DR4", "-o", tmp_path / "mock.parquet")
    assert xpjax.read(tmp_path / "mock.parquet").release is DR4
