"""`--correction standard|none|FILE`: the same numbers as in Python, told in every output, contradictions refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import files, xp
from tests.stellar.test_fitter import xp_grid
from tests.wiggles.helpers import made_model, stars
from tests.xp.test_correction import standard
from xpjax.catalogue.run import run_catalogue
from xpjax.io.catalogue import read_catalogue, write
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.grid_file import write_grid
from xpjax.stellar.interpolation import interpolate_grid
from xpjax.survey.joint.config import joint_from
from xpjax.survey.reading.config import config_from, files_relative_to
from xpjax.synthetic.files.gaiaxpy_files import read_gaiaxpy
from xpjax.wiggles.feature_files import read_features
from xpjax.wiggles.network import read_network, write_network
from xpjax.wiggles.residuals import read_residuals
from xpjax.xp import write_store_file
from xpjax.xp.correction import write_correction

N = 30
TABLE = stars(N, correlations=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("linear")
    table = dataclasses.replace(TABLE, columns={**TABLE.columns, "ebv": np.full(N, 0.1)})
    write(home / "xp.parquet", table.catalogue())
    write_store_file(home / "store.h5", table)
    write_correction(home / "half.h5", dataclasses.replace(standard(), name="half", change=0.5 * standard().change))
    write_network(home / "network.h5", made_model(smooth=12.0, base="standard"))
    write_network(home / "on_half.h5", made_model(smooth=12.0, base="half"))
    write_grid(xp_grid(), home / "grid.h5")
    return home


def test_photometry_as_in_python(folder: Path, tmp_path: Path) -> None:
    base = ("photometry", folder / "xp.parquet", "--system", "JPLUS", "--float64")
    table = xpjax.read(folder / "xp.parquet", dtype=np.float64)
    for name in ("standard", "none", folder / "half.h5"):
        done = xp(*base, "--correction", name, "-o", tmp_path / "out.parquet", "--overwrite")
        assert done.exit_code == 0, done.stderr
        found = read_catalogue(tmp_path / "out.parquet")
        expected = xpjax.photometry(table, "JPLUS", correction=name, float64=True)
        want = expected.catalogue().columns
        assert {*want} == {*found.columns}
        for column in want:
            np.testing.assert_array_equal(found.columns[column], want[column])
        assert found.meta["correction"] == expected.system.correction == getattr(name, "stem", name)
    assert xp(*base, "-o", tmp_path / "default.parquet").exit_code == 0
    plain = read_catalogue(tmp_path / "default.parquet")
    assert plain.meta["correction"] == "none"
    assert np.nanmedian(np.abs(plain.columns["Jplus_mag_gJPLUS"] - want["Jplus_mag_gJPLUS"])) > 1e-4
    own = ("photometry", folder / "xp.parquet", "--passbands", "minisitian", "--correction", "standard")
    assert xp(*own, "-o", tmp_path / "own.parquet").exit_code == 0
    found = read_catalogue(tmp_path / "own.parquet")
    expected = xpjax.photometry(
        xpjax.read(folder / "xp.parquet"), xpjax.load_passbands("minisitian"), correction="standard"
    )
    columns = expected.catalogue().columns
    for column in columns:
        np.testing.assert_array_equal(found.columns[column], columns[column])


def test_spectra_as_in_python(folder: Path, tmp_path: Path) -> None:
    table = xpjax.read(folder / "xp.parquet")
    for resolution in ("full", "xp"):
        call = ("spectra", folder / "xp.parquet", "--correction", "standard", "--resolution", resolution)
        assert xp(*call, "-o", tmp_path / f"{resolution}.h5").exit_code == 0
        found = read_catalogue(tmp_path / f"{resolution}.h5")
        expected = xpjax.spectra(table, correction="standard", resolution=resolution)
        np.testing.assert_array_equal(found.columns["flux"], expected.flux)
        np.testing.assert_array_equal(found.columns["flux_error"], expected.flux_error)
        assert (found.meta["correction"], found.meta["resolution"]) == ("standard", resolution)
    assert xp("spectra", folder / "xp.parquet", "-o", tmp_path / "raw.h5").exit_code == 0
    raw = read_catalogue(tmp_path / "raw.h5")
    assert (raw.meta["correction"], raw.meta["resolution"]) == ("none", "full")
    np.testing.assert_array_equal(raw.columns["flux"], xpjax.spectra(table).flux)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("photometry", "--system", "JPLUS", "--correction", "standart"), "neither standard nor none"),
        (("photometry", "--system", "JPLUS", "--correction", "standard", "--ebv", "ebv"), "are for networks"),
        (("photometry", "--system", "JPLUS", "--correction", "half.h5", "--features", "half.h5"), "are for networks"),
        (("photometry", "--system", "JPLUS", "--correction", "half.h5", "--base", "half.h5"), "--base is for networks"),
        (("photometry", "--system", "SDSS_Std", "--correction", "standard"), "standardized"),
        (("photometry", "--system", "JPLUS", "--correction", "xp.parquet"), "no file of a wiggle correction"),
        (("photometry", "--system", "JPLUS", "--correction", "on_half.h5", "--ebv", "ebv"), "half is needed"),
        (("spectra", "--correction", "network.h5"), "run `xpjax wiggles correct`"),
        (("spectra", "--internal", "--correction", "standard"), "internal spectra have no correction"),
        (("wiggles features", "--correction", "network.h5", "--ebv", "ebv"), "not on another network"),
    ],
)
def test_refusals(folder: Path, tmp_path: Path, call: tuple[str, ...], told: str) -> None:
    command, *rest = (folder / word if (folder / word).is_file() else word for word in call)
    done = xp(*command.split(), folder / "xp.parquet", *rest, "-o", tmp_path / "out.h5")
    assert done.exit_code == 2
    assert told in done.stderr
    assert files(tmp_path) == []


def test_networks_stand_on_what_they_were_trained_on(folder: Path, tmp_path: Path) -> None:
    base = ("photometry", folder / "xp.parquet", "--system", "JPLUS:gJPLUS,rJPLUS", "--ebv", "ebv", "--no-errors")
    table = xpjax.read(folder / "xp.parquet", keep=["ebv"])
    for name, more in (("network", ()), ("on_half", ("--base", folder / "half.h5"))):
        out = tmp_path / f"{name}.parquet"
        done = xp(*base, "--correction", folder / f"{name}.h5", *more, "-o", out)
        assert done.exit_code == 0, done.stderr
        linear = "standard" if name == "network" else "half"
        assert read_catalogue(out).meta["correction"] == linear
        start = xpjax.photometry(table, "JPLUS:gJPLUS,rJPLUS", errors=False,
                                 correction="standard" if name == "network" else folder / "half.h5")  # fmt: skip
        found = read_catalogue(out).columns
        left = (found["xp_status"] & 8192) > 0
        np.testing.assert_array_equal(found["Jplus_mag_gJPLUS"][left], start["gJPLUS"][left])
        assert (found["Jplus_mag_gJPLUS"] != start["gJPLUS"])[~left].all()


def test_catalogues(folder: Path, tmp_path: Path) -> None:
    base = ("catalogue", folder / "store.h5", "--system", "JPLUS", "--output", tmp_path / "out")
    assert xp(*base, "--correction", "standard").exit_code == 0
    job = json.loads((tmp_path / "out" / "_xpjax" / "job.json").read_text())
    assert job["options"]["linear correction"] == "standard"
    for other in ((), ("--correction", "none"), ("--correction", folder / "half.h5"), ("--systematic",)):
        call = other if "--correction" in other or not other else ("--correction", "standard", *other)
        done = xp(*base, *call, "--resume")
        assert done.exit_code == 2, other
        assert "was begun with other options" in done.stderr
    assert xp(*base, "--correction", "standard", "--resume").exit_code == 0
    found = read_catalogue(tmp_path / "out" / "store.parquet")
    expected = xpjax.photometry(xpjax.read(folder / "xp.parquet"), "JPLUS", correction="standard")
    assert found.meta["correction"] == "standard"
    assert found.meta["mag_systematic"] == expected.meta["mag_systematic"]
    want = expected.catalogue().columns
    absent = {*want} - {*found.columns}
    assert absent == {name for name in want if "_mag_systematic_" in name}
    assert len(absent) == 12
    for name in {*want} - absent:
        np.testing.assert_allclose(found.columns[name], want[name], rtol=2e-5)
    python = run_catalogue(folder / "store.h5", tmp_path / "python", "JPLUS", correction="standard", systematic=True)
    assert python.complete
    whole = read_catalogue(tmp_path / "python" / "store.parquet").columns
    assert {*whole} == {*want}
    for name in found.columns:
        np.testing.assert_array_equal(whole[name], found.columns[name])
    np.testing.assert_allclose(whole["Jplus_mag_systematic_gJPLUS"], want["Jplus_mag_systematic_gJPLUS"], rtol=1e-4)
    run_catalogue(folder / "store.h5", tmp_path / "plain", "JPLUS")
    options = json.loads((tmp_path / "plain" / "_xpjax" / "job.json").read_text())["options"]
    assert "linear correction" not in options, "catalogues begun before are still resumed"


@pytest.mark.slow
def test_labels_are_of_corrected_spectra_by_default(folder: Path, tmp_path: Path) -> None:
    base = ("labels", "fit", folder / "xp.parquet", "--grid", folder / "grid.h5", "--error-floor", 0.02)
    base += ("--ebv", 0)
    table = xpjax.read(folder / "xp.parquet")
    found = {}
    for name, more in (("standard", ()), ("none", ("--correction", "none"))):
        done = xp(*base, *more, "-o", tmp_path / f"{name}.h5")
        assert done.exit_code == 0, done.stderr
        found[name] = read_catalogue(tmp_path / f"{name}.h5")
        expected = LabelFitter(interpolate_grid(xp_grid()), correction=name, error_floor=0.02)(table)
        np.testing.assert_allclose(found[name].columns["teff"], expected.fit.labels[:, 0], rtol=1e-5)
        assert found[name].meta["correction"] == name
    assert np.abs(found["standard"].columns["chi2"] - found["none"].columns["chi2"]).max() > 1
    out = tmp_path / "labels"
    done = xp("catalogue", "labels", folder / "store.h5", *base[3:], "--output", out)
    assert done.exit_code == 0, done.stderr
    rows = read_catalogue(out / "store.parquet")
    np.testing.assert_allclose(rows.columns["teff"], found["standard"].columns["teff"], rtol=1e-4)
    done = xp(
        "catalogue", "labels", folder / "store.h5", *base[3:], "--output", out, "--resume", "--correction", "none"
    )
    assert done.exit_code == 2
    assert "linear correction was 'standard'" in done.stderr
    spectra = ("spectra", folder / "xp.parquet", "--correction", "standard", "--wavelength", "350:1000:1", "--truncate")
    assert xp(*spectra, "-o", tmp_path / "s.h5").exit_code == 0
    sampled = ("labels", "fit", tmp_path / "s.h5", *base[3:])
    assert xp(*sampled, "-o", tmp_path / "s_labels.h5").exit_code == 0
    assert read_catalogue(tmp_path / "s_labels.h5").meta["correction"] == "standard"
    done = xp(*sampled, "--correction", "standard", "-o", tmp_path / "n.h5")
    assert done.exit_code == 2
    assert "taken as they are" in done.stderr


def test_a_network_on_the_standard_correction(folder: Path, tmp_path: Path) -> None:
    """Spectra, features and residuals keep the base; a training that gains nothing says so and ends well."""
    for name, call in (
        ("s.h5", ("spectra", folder / "xp.parquet", "--correction", "standard")),
        ("raw.h5", ("spectra", folder / "xp.parquet")),
        (
            "f.h5",
            (
                "wiggles",
                "features",
                folder / "xp.parquet",
                "--names",
                "shape",
                "--ebv",
                "ebv",
                "--correction",
                "standard",
            ),
        ),
    ):
        done = xp(*call, "-o", tmp_path / name)
        assert done.exit_code == 0, done.stderr
    assert (read_features(tmp_path / "f.h5").base, len(read_features(tmp_path / "f.h5").names)) == ("standard", 10)
    spectra = read_catalogue(tmp_path / "s.h5")
    rng = np.random.default_rng(0)
    true = spectra.columns["flux"] * (1 + 0.05 * rng.normal(size=spectra.columns["flux"].shape))
    write(tmp_path / "true.h5", dataclasses.replace(spectra, columns={**spectra.columns, "flux": true}))
    call = ("--true", tmp_path / "true.h5", "--features", tmp_path / "f.h5", "--snr", 0, "--space", "observed")
    done = xp("wiggles", "residuals", tmp_path / "raw.h5", *call, "-o", tmp_path / "n.h5")
    assert done.exit_code == 2
    assert "the spectra have the linear correction none, the features are of spectra with standard" in done.stderr
    done = xp("wiggles", "residuals", tmp_path / "s.h5", *call, "-o", tmp_path / "r.h5")
    assert done.exit_code == 0, done.stderr
    assert read_residuals(tmp_path / "r.h5").base == "standard"
    how = ("--epochs", 3, "--widths", "8", "--space", "observed")
    done = xp("wiggles", "train-network", tmp_path / "r.h5", "-o", tmp_path / "w.h5", *how)
    assert done.exit_code == 0, done.stderr
    assert "it starts from the linear correction standard" in done.stderr
    assert "NO GAIN: on the test stars the network does not beat the linear correction standard" in done.stderr
    assert read_network(tmp_path / "w.h5").base == "standard"


def test_export_for_gaiaxpy(tmp_path: Path) -> None:
    done = xp("passband", "export", "minisitian", "--correction", "standard", "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    (path,) = tmp_path.iterdir()
    system = xpjax.passband_system(xpjax.load_passbands("minisitian"), correction="standard")
    np.testing.assert_array_equal(
        read_gaiaxpy(path).projection, np.asarray(system.projection) * np.asarray(system.scale)
    )
    assert 'config correction="standard"' in path.read_text()


def test_survey_files_name_a_correction(folder: Path) -> None:
    columns = {"magnitude": "m", "x": "px", "y": "py", "airmass": "x"}
    table = {"columns": columns, "passband": {"chain": "t.toml", "sources": "s.h5"}}
    assert config_from(table).correction == "standard", "by default"
    named = {**table, "passband": {**table["passband"], "correction": "half.h5"}}
    assert config_from(named, folder).correction == "half"
    assert config_from({**table, "passband": {**table["passband"], "correction": "none"}}).correction == "none"
    moved = files_relative_to(named, folder, folder / "out")
    assert moved["passband"]["correction"] == "../half.h5"
    kept = files_relative_to({**table, "passband": {**table["passband"], "correction": "none"}}, folder, folder / "out")
    assert kept["passband"]["correction"] == "none"
    with pytest.raises(ValueError, match='expected "standard", "none" or a file'):
        config_from({**table, "passband": {**table["passband"], "correction": True}})
    term = {"kind": "transmission", "chain": "t.toml", "sources": "s.h5", "parameters": {"water": {}}}
    joint_from({"columns": {"star": "s", "magnitude": "m"}, "term": [{**term, "correction": "none"}]})
    with pytest.raises(ValueError, match="did you mean correction"):
        joint_from({"columns": {"star": "s", "magnitude": "m"}, "term": [{**term, "corection": "none"}]})
