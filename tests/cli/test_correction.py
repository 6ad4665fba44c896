"""`xpjax wiggles train-network` and `xpjax wiggles correct`: files in, files out, refusals."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.cli.helpers import files, xp
from tests.wiggles.helpers import made, star_features, stars
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.io.catalogue import read_catalogue, write
from xpjax.wiggles.epochs import remove_checkpoints
from xpjax.wiggles.feature_files import read_features, write_features
from xpjax.wiggles.features import Features, make_features
from xpjax.wiggles.judgment import predict_residuals
from xpjax.wiggles.magnitude import corrected_photometry
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import read_network
from xpjax.wiggles.residuals import write_residuals
from xpjax.wiggles.spectra import correct_spectra
from xpjax.xp import write_store_file

N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """residuals.h5, model.h5 trained on it, spectra.h5 and features.h5."""
    home = tmp_path_factory.mktemp("correction")
    write_residuals(home / "residuals.h5", made(400))
    done = xp(
        "wiggles", "train-network", home / "residuals.h5", "-o", home / "model.h5", "--widths", "16,16", "--epochs", 4,
        "--figure", home / "patterns.png", "--ensemble", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "400 stars (240, 80, 80 for training, validation and test)" in done.stderr
    assert "4 + 4 epochs" in done.stderr
    write(home / "sources.h5", stars()[:N].catalogue())
    write(home / "sources.parquet", stars()[:N].catalogue())
    assert xp("spectra", home / "sources.parquet", "-o", home / "spectra.h5").exit_code == 0
    gaia = star_features()[:N].select(("BP-RP", "G", "E(B-V)"))
    # In another order, and one star is not there.
    write_features(home / "features.h5", gaia[np.arange(N - 1)[::-1]])
    return home


def test_training_leaves_a_model_a_figure_and_no_checkpoint(folder: Path) -> None:
    assert not [name for name in files(folder) if "checkpoint" in name]
    assert (folder / "patterns.png").stat().st_size > 10_000
    model = read_network(folder / "model.h5")
    assert len(model.networks) == 2
    assert model.networks[0].widths == (16, 16)
    assert '"command": "xpjax wiggles train-network"' in model.record
    assert np.isfinite(predict_residuals(model, made(5).stars)).all()


def test_features_are_those_of_python(folder: Path, tmp_path: Path) -> None:
    table = stars()[:N]
    table = dataclasses.replace(table, columns={**table.columns, "ebv": np.linspace(0, 0.3, N)})
    halves = [tmp_path / "a.parquet", tmp_path / "b.fits"]
    for path, rows in zip(halves, (slice(0, 7), slice(7, N)), strict=True):
        write(path, table[rows].catalogue())
    done = xp("wiggles", "features", *halves, "--ebv", "ebv", "--errors", "-o", tmp_path / "f.h5")
    assert done.exit_code == 0, done.stderr
    assert f"14 features of {N} sources written to f.h5" in done.stderr
    found, expected = read_features(tmp_path / "f.h5"), make_features(table, ebv="ebv", errors=True, float64=True)
    assert found.names == expected.names
    np.testing.assert_array_equal(found.source_id, expected.source_id)
    for name in ("value", "ebv", "input_error"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    again = xp("wiggles", "features", *halves, "--names", "gaia", "-o", tmp_path / "g.h5")
    assert again.exit_code == 2
    assert "E(B-V) is a feature" in again.stderr
    assert xp("wiggles", "features", *halves, "--ebv", "ebv", "-o", tmp_path / "f.h5").exit_code == 2
    some = xp("wiggles", "features", *halves, "--names", "BP-RP,G", "--gaia", "columns", "-o", tmp_path / "s.h5")
    assert some.exit_code == 0, some.stderr
    given = read_features(tmp_path / "s.h5").select(("BP-RP", "G"))
    bp, rp, g = (table.columns[f"phot_{name}_mean_mag"] for name in ("bp", "rp", "g"))
    np.testing.assert_allclose(given.value, np.stack([bp - rp, g], axis=1), rtol=1e-6)
    assert "choose" in xp("wiggles", "features", *halves, "--names", "magic", "-o", tmp_path / "m.h5").stderr


def test_correct_writes_the_layout_of_spectra_again(folder: Path, tmp_path: Path) -> None:
    arguments = ("--correction", folder / "model.h5", "--features", folder / "features.h5")
    done = xp("wiggles", "correct", folder / "spectra.h5", *arguments, "-o", tmp_path / "out.h5")
    assert done.exit_code == 0, done.stderr
    before, after = read_catalogue(folder / "spectra.h5"), read_catalogue(tmp_path / "out.h5")
    assert list(before.columns) == list(after.columns)
    np.testing.assert_array_equal(before.shared["wavelength"], after.shared["wavelength"])
    model = read_network(folder / "model.h5")
    gaia = star_features()[:N].select(("BP-RP", "G", "E(B-V)"))
    expected = correct_spectra(xpjax.spectra(stars()[:N]), model, gaia)
    np.testing.assert_allclose(after.columns["flux"][:-1], expected.flux[:-1], rtol=1e-5, atol=1e-22)
    np.testing.assert_array_equal(after.columns["xp_status"][:-1] & 0x1E000, expected.status[:-1] & 0x1E000)
    last = after.columns["xp_status"][-1]
    assert last & Status.NOT_CORRECTED
    assert last & Status.FEATURE_MISSING
    np.testing.assert_allclose(after.columns["flux"][-1], before.columns["flux"][-1], rtol=1e-6)
    assert "NOT_CORRECTED" in done.stderr
    again = xp("wiggles", "correct", tmp_path / "out.h5", *arguments, "-o", tmp_path / "twice.h5")
    assert again.exit_code == 2
    assert "already corrected" in again.stderr


@pytest.mark.slow
def test_a_killed_training_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of the same command, from the first one's checkpoint."""
    call = ("wiggles", "train-network", folder / "residuals.h5", "-o", tmp_path / "m.h5", "--widths", "8")
    with monkeypatch.context() as patch:
        patch.setattr("xpjax.wiggles.remove_checkpoints", lambda *_: None)
        assert xp(*call, "--epochs", 3).exit_code == 0
    assert files(tmp_path) == ["m.h5", "m.h5.checkpoint.0"]
    assert xp(*call, "--epochs", 6, "--overwrite").exit_code == 0
    resumed = read_network(tmp_path / "m.h5")
    assert xp(*call, "--epochs", 6, "--overwrite").exit_code == 0
    whole = read_network(tmp_path / "m.h5")
    np.testing.assert_array_equal(resumed.networks[0].weight[-1], whole.networks[0].weight[-1])
    remove_checkpoints(tmp_path / "m.h5.checkpoint")
    assert files(tmp_path) == ["m.h5"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("wiggles", "train-network", "features.h5", "-o", "new.h5"), "no file of residuals"),
        (("wiggles", "train-network", "residuals.h5", "-o", "model.h5"), "--overwrite"),
        (("wiggles", "train-network", "residuals.h5", "-o", "new.npz"), ".h5"),
        (("wiggles", "train-network", "residuals.h5", "-o", "new.h5", "--widths", "wide"), "--widths 'wide'"),
        (("wiggles", "train-network", "residuals.h5", "-o", "new.h5", "--features", "u"), "are needed"),
        (("wiggles", "train-network", "residuals.h5", "-o", "new.h5", "--figure", "x.txt"), "suffix of a figure"),
        (
            ("wiggles", "correct", "sources.h5", "--correction", "model.h5", "--features", "features.h5", "-o", "n.h5"),
            "xpjax spectra",
        ),
        (
            (
                "wiggles",
                "correct",
                "spectra.h5",
                "--correction",
                "spectra.h5",
                "--features",
                "features.h5",
                "-o",
                "n.h5",
            ),
            "correction",
        ),
        (
            ("wiggles", "correct", "spectra.h5", "--correction", "model.h5", "--features", "model.h5", "-o", "n.h5"),
            "no file of features",
        ),
        (
            (
                "wiggles",
                "correct",
                "spectra.h5",
                "--correction",
                "model.h5",
                "--features",
                "features.h5",
                "-o",
                "n.h5",
                "--mh",
                "mh",
            ),
            "no column mh",
        ),
    ],
)
def test_wrong_calls_exit_with_2_and_leave_nothing(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    before = files(folder)
    names = {*before, "new.h5", "new.npz", "n.h5", "x.txt"}
    done = xp(*[folder / word if word in names else word for word in arguments])
    assert done.exit_code == 2
    assert says in done.stderr
    assert files(folder) == before


def test_features_without_ebv_are_refused(folder: Path, tmp_path: Path) -> None:
    model = read_network(folder / "model.h5")
    write_features(tmp_path / "f.h5", Features(np.arange(3), model.names[:2], np.zeros((3, 2))))
    done = xp(
        "wiggles", "correct", folder / "spectra.h5", "--correction", folder / "model.h5",
        "--features", tmp_path / "f.h5", "-o", tmp_path / "n.h5",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "are needed" in done.stderr
    with h5py.File(folder / "model.h5") as file:
        assert list(file.attrs["features"]) == list(model.names)


def test_photometry_is_corrected_by_files_columns_and_in_a_catalogue(folder: Path, tmp_path: Path) -> None:
    """The command line, the store's driver and Python agree; sources without features are passed through, flagged."""
    sources = stars()[:N]
    ebv = np.linspace(0.05, 0.3, N)
    table = xpjax.SourceTable(
        sources.source_id, sources.coefficients, sources.status, {"ebv": ebv, **sources.columns}, sources.origin
    )
    write(tmp_path / "xp.parquet", table.catalogue())
    write_store_file(tmp_path / "store.h5", table, correlations="none")
    model = ("--correction", folder / "model.h5")
    common = ("--system", "JPLUS", *model, "--no-errors")
    by_column = xp("photometry", tmp_path / "xp.parquet", *common, "--ebv", "ebv", "-o", tmp_path / "a.parquet")
    assert by_column.exit_code == 0, by_column.stderr
    done = xp("catalogue", tmp_path / "store.h5", *common, "--ebv", "ebv", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    a, b = read_catalogue(tmp_path / "a.parquet"), read_catalogue(tmp_path / "out" / "store.parquet")
    assert list(a.columns) == list(b.columns)
    assert "Jplus_mag_systematic_gJPLUS" in a.columns  # an ensemble knows
    assert "ebv" not in a.columns
    stars_ = make_features(sources, ("BP-RP", "G", "E(B-V)"), ebv=ebv)
    found = corrected_photometry(sources, "JPLUS", read_network(folder / "model.h5"), stars_, errors=False)
    for name, column in found.catalogue().columns.items():
        np.testing.assert_allclose(a.columns[name], column, rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(b.columns[name], column, rtol=2e-5, err_msg=name)
    assert not found.status.all()
    plain = xpjax.photometry(sources, "JPLUS", errors=False)
    assert np.abs(found.magnitude - plain.magnitude)[found.status == 0].max() > 1e-4

    by_file = xp(
        "photometry", tmp_path / "xp.parquet", *common, "--features", folder / "features.h5", "-o", tmp_path / "c.csv"
    )
    assert by_file.exit_code == 0, by_file.stderr
    status = read_catalogue(tmp_path / "c.csv").columns["xp_status"].astype(int)
    assert status[-1] & Status.FEATURE_MISSING
    assert "1  FEATURE_MISSING" in by_file.stderr

    resumed = xp(
        "catalogue", tmp_path / "store.h5", "--system", "JPLUS", "--no-errors", "-o", tmp_path / "out", "--resume"
    )
    assert resumed.exit_code == 2
    assert "begun with other options" in resumed.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--ebv", "ebv"), "are for networks"),
        (("--correction", "model.h5"), "needs E(B-V)"),
        (("--correction", "model.h5", "--ebv", "av"), "av"),
        (("--correction", "model.h5", "--features", "features.h5", "--ebv", "ebv"), "leave out --ebv"),
        (("--correction", "model.h5", "--features", "features.h5", "--truncate"), "not truncated"),
        (("--correction", "model.h5", "--features", "features.h5", "--error-correction"), "uncorrected magnitudes"),
        (("--correction", "sources.h5", "--features", "features.h5"), "is no file of a wiggle correction"),
    ],
)
def test_corrected_photometry_refuses(folder: Path, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    given = [folder / one if one.endswith(".h5") else one for one in arguments]
    done = xp("photometry", folder / "sources.parquet", "--system", "JPLUS", *given, "-o", tmp_path / "out.csv")
    assert done.exit_code == 2
    assert told in done.stderr
    assert not files(tmp_path)


def test_training_needs_no_options_and_refuses_contradictions(folder: Path, tmp_path: Path) -> None:
    data = made(60)
    ratio = dataclasses.replace(data, meaning=Meaning("multiplicative", "observed", truncate=True))
    write_residuals(tmp_path / "ratio.h5", ratio)
    call = ("wiggles", "train-network", tmp_path / "ratio.h5", "-o", tmp_path / "m.h5", "--widths", "4", "--epochs", 1)
    assert xp(*call).exit_code == 0
    model = read_network(tmp_path / "m.h5")
    assert (model.kind, model.space, model.truncate) == ("multiplicative", "observed", True)
    other = xp(*call, "--overwrite", "--kind", "additive")
    assert other.exit_code == 2
    assert "made with kind 'multiplicative', but --kind additive was asked for" in other.stderr
    write(tmp_path / "plain.parquet", Catalogue({
        "source_id": data.source_id, **dict(zip(data.names, data.features.T, strict=True)), "residual": data.residual,
        "wavelength": np.tile(data.wavelength, (60, 1)),
    }))  # fmt: skip
    plain = ("wiggles", "train-network", tmp_path / "plain.parquet", *call[3:], "--overwrite")
    silent = xp(*plain)
    assert silent.exit_code == 2
    assert "--kind additive, --space dereddened, --no-truncate, --law ccm89, --r-v 3.1" in silent.stderr
    done = xp(*plain, "--kind", "additive", "--space", "dereddened", "--no-truncate", "--law", "odonnell94", "--r-v",
              2.9, "--per-ebv", 2.6)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    model = read_network(tmp_path / "m.h5")
    assert (model.kind, model.law, float(model.r_v), float(model.per_ebv)) == ("additive", "odonnell94", 2.9, 2.6)


def test_a_network_must_know_whether_spectra_are_truncated(folder: Path, tmp_path: Path) -> None:
    """Plain spectra in Angstrom and erg s-1 cm-2 A-1 are corrected as those of `xpjax spectra`, once they say so."""
    known = read_catalogue(folder / "spectra.h5")
    flux = {name: 100 * known.columns[name] for name in ("flux", "flux_error")}
    axis = np.tile(10 * known.shared["wavelength"], (N, 1))
    units = {**dict.fromkeys(flux, "erg / (s cm2 Angstrom)"), "wavelength": "Angstrom"}
    write(
        tmp_path / "cgs.fits", Catalogue({"source_id": known.columns["source_id"], **flux, "wavelength": axis}, units)
    )
    how = ("--correction", folder / "model.h5", "--features", folder / "features.h5")
    silent = xp("wiggles", "correct", tmp_path / "cgs.fits", *how, "-o", tmp_path / "out.h5")
    assert silent.exit_code == 2
    assert "cgs.fits does not say whether its spectra are of truncated coefficients" in silent.stderr
    assert (
        xp("wiggles", "correct", tmp_path / "cgs.fits", *how, "--no-truncate", "-o", tmp_path / "out.h5").exit_code == 0
    )
    assert xp("wiggles", "correct", folder / "spectra.h5", *how, "-o", tmp_path / "same.h5").exit_code == 0
    a, b = (read_catalogue(tmp_path / name) for name in ("out.h5", "same.h5"))
    np.testing.assert_allclose(a.columns["flux"], b.columns["flux"], rtol=1e-5)
    np.testing.assert_allclose(a.columns["flux_error"], b.columns["flux_error"], rtol=1e-5)
    np.testing.assert_allclose(a.shared["wavelength"], b.shared["wavelength"])
    assert a.units["flux"] == "W m-2 nm-1"
    wrong = xp("wiggles", "correct", folder / "spectra.h5", *how, "--truncate", "-o", tmp_path / "no.h5")
    assert wrong.exit_code == 2
    assert "spectra.h5 holds full spectra, as it says; leave --truncate out" in wrong.stderr
    linear = xp("wiggles", "correct", folder / "spectra.h5", "--no-truncate", "-o", tmp_path / "no.h5")
    assert linear.exit_code == 2
