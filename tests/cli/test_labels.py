"""`xpjax labels fit` and residuals of fits: files in, files out, refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from tests.extinction.made_maps import make_sfd, sfd_by_hand
from tests.stellar.helpers import NAMES, WAVELENGTH
from tests.stellar.test_fitter import made_sources, xp_grid
from xpjax.core.records import Catalogue
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.io.catalogue import read_catalogue, write
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.grid_file import write_grid
from xpjax.stellar.interpolation import interpolate_grid
from xpjax.stellar.results import read_labels
from xpjax.wiggles.feature_files import write_features
from xpjax.wiggles.features import make_features
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.residuals import read_residuals
from xpjax.xp import write_store_file

N = 24
LABELS = made_sources(N)[1]
PLAIN = ("--error-floor", 0.01, "--correction", "none")
"""Made spectra have no systematic errors."""
BARE = (*PLAIN, "--ebv", 0)
"""Nor have most of them dust."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stellar")
    table, labels = made_sources(N)
    write_grid(xp_grid(), home / "grid.h5")
    write(home / "xp.parquet", table.catalogue())
    write_store_file(home / "store.h5", table)
    sampled = ("spectra", home / "xp.parquet", "--truncate", "--wavelength", "350:1000:1")
    assert xp(*sampled, "-o", home / "spectra.h5").exit_code == 0
    write_features(home / "features.h5", make_features(table, ("BP-RP", "G", "E(B-V)"), ebv="ebv", truncate=True))
    reference = {"source_id": table.source_id, **dict(zip(NAMES, labels.T, strict=True))}
    reference["teff"] = reference["teff"] + 300 * (np.arange(N) == 2)
    write(home / "reference.fits", Catalogue(reference))
    write(home / "nobody.fits", Catalogue({name: column[:0] for name, column in reference.items()}))
    return home


def plain_spectra(folder: Path) -> Catalogue:
    """The spectra of a file of xpjax as others would write them: in Angstrom, without metadata."""
    known = read_catalogue(folder / "spectra.h5")
    axis = np.tile(10 * known.shared["wavelength"], (N, 1))
    columns = {name: known.columns[name] for name in ("source_id", "flux", "flux_error")}
    return Catalogue({**columns, "wavelength": axis}, {"wavelength": "Angstrom"})


@pytest.mark.slow
def test_every_input_gives_the_same_labels(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "plain.parquet", plain_spectra(folder))
    inputs = (("xp.parquet", "a.parquet"), ("store.h5", "b.h5"), ("spectra.h5", "c.fits"), ("plain.parquet", "d.fits"))
    for name, out in inputs:
        path = tmp_path / name if name == "plain.parquet" else folder / name
        done = xp("labels", "fit", path, "--grid", folder / "grid.h5", *BARE, "-o", tmp_path / out)
        assert done.exit_code == 0, done.stderr
        assert f"{N} spectra fitted, {N} rows written to {out}" in done.stderr
    a, b, c = (read_catalogue(tmp_path / name).columns for name in ("a.parquet", "b.h5", "c.fits"))
    d = read_catalogue(tmp_path / "d.fits").columns
    found = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=0.01)(made_sources(N)[0])
    for k, name in enumerate(NAMES):
        np.testing.assert_allclose(d[name], c[name], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(a[name], found.fit.labels[:, k], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-5)
        assert np.median(np.abs(np.asarray(c[name], float) - a[name])) < 0.1 * np.median(a[f"{name}_error"])
    assert {"teff_error", "teff_logg_covariance", "chi2", "dflux_per", "fit_status", "xp_status"} <= {*a}
    assert np.median(np.abs(a["teff"] - LABELS[:, 0])) < 20


@pytest.mark.slow
def test_dust_columns_and_selections(folder: Path, tmp_path: Path) -> None:
    base = ("labels", "fit", folder / "xp.parquet", "--grid", folder / "grid.h5", *PLAIN)
    done = xp(*base, "--ebv", "ebv", "--keep", "ra", "--select", "learn", "-o", tmp_path / "a.csv")
    assert done.exit_code == 0, done.stderr
    assert "selected as 'learn'" in done.stderr
    assert "the grid ends at 4000 and 6200" in done.stderr
    rows = read_catalogue(tmp_path / "a.csv").columns
    assert "ra" in rows
    assert "ebv" not in rows
    assert 0 < len(rows["ra"]) <= N
    fitted = xp(*base, "--fit-ebv", "0:0.4:5", "--normalization", "scale", "--continuum", 1, "-o", tmp_path / "b.csv")
    assert fitted.exit_code == 0, fitted.stderr
    assert {"ebv", "ebv_error"} <= {*read_catalogue(tmp_path / "b.csv").columns}


@pytest.mark.slow
def test_priors_and_posteriors_as_in_python(folder: Path, tmp_path: Path) -> None:
    """E(B-V) with an error, and draws: files, arrays and the command line agree, and what became of fits is told."""
    base = ("labels", "fit", folder / "xp.parquet", "--grid", folder / "grid.h5", *PLAIN, "--keep", "ra")
    more = ("--prior", "ebv=ebv,0.01", "--prior", "mh=-0.5,2", "--posterior", 50, "--law", "f19")
    done = xp(*base, *more, "-o", tmp_path / "a.parquet")
    assert done.exit_code == 0, done.stderr
    assert "converged inside the grid" in done.stderr
    if "EDGE" in done.stderr:
        assert "At least one label is at the edge of the grid. The labels at the edge have no error; give a prior" in (
            " ".join(done.stderr.split())
        )
    priors = {"ebv": ("ebv", 0.01), "mh": (-0.5, 2.0)}
    how = {"priors": priors, "posterior": 50, "error_floor": 0.01, "options": {"law": "f19"}}
    ours = LabelFitter(xp_grid(), None, **how)(made_sources(N)[0]).fit
    found = read_labels(tmp_path / "a.parquet")
    np.testing.assert_allclose(found.fit.labels, ours.labels, rtol=1e-3, atol=5e-3)
    assert found.fit.draws is not None
    assert ours.draws is not None
    assert found.fit.draws.shape == ours.draws.shape == (N, 50, 4)
    inside = (ours.status == 0) & (ours.n_effective > 200)
    assert inside.sum() > 5
    spread = np.std(ours.draws[inside], axis=1) / ours.error[inside]
    np.testing.assert_allclose(np.median(spread, axis=0), 1, atol=0.3)
    write(tmp_path / "b.h5", found)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.h5").fit.draws, found.fit.draws)


@pytest.mark.slow
def test_what_a_grid_may_be_wrong_by_is_left_out_on_request(folder: Path, tmp_path: Path) -> None:
    grid = xp_grid()
    wave = 0.05 * np.cos(np.asarray(grid.wavelength) / 40)
    rough = dataclasses.replace(grid, doubt=np.broadcast_to(wave, np.shape(grid.flux)))
    write_grid(rough, tmp_path / "rough.h5")
    found = {}
    for name, option in (("with", ()), ("without", ("--no-doubt",))):
        out = tmp_path / f"{name}.parquet"
        done = xp("labels", "fit", folder / "xp.parquet", "--grid", tmp_path / "rough.h5", *BARE, *option, "-o", out)
        assert done.exit_code == 0, done.stderr
        found[name] = read_catalogue(out).columns
        fitter = LabelFitter(interpolate_grid(rough), None, error_floor=0.01, options={"doubt": name == "with"})
        ours = fitter(made_sources(N)[0]).fit
        np.testing.assert_allclose(found[name]["teff"], ours.labels[:, 0], rtol=1e-4)
        np.testing.assert_allclose(found[name]["teff_error"], ours.error[:, 0], rtol=1e-2)
    assert np.nanmedian(found["with"]["teff_error"] / found["without"]["teff_error"]) > 1.02


@pytest.mark.slow
def test_the_column_of_a_map_is_taken(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("dustmaps", reason="needs dustmaps: pip install 'xpjax[dust]'")
    table = made_sources(N)[0]
    columns = {name: column for name, column in table.columns.items() if name not in ("ebv", "ra", "dec")}
    columns |= {"ra": np.linspace(0, 359, N), "dec": np.linspace(-80, 80, N)}
    write(tmp_path / "bare.parquet", dataclasses.replace(table, columns=columns).catalogue())
    done = xp("ebv", tmp_path / "bare.parquet", "--map-dir", make_sfd(tmp_path), "-o", tmp_path / "xp.parquet")
    assert done.exit_code == 0, done.stderr
    base = ("labels", "fit", tmp_path / "xp.parquet", "--grid", folder / "grid.h5", *PLAIN)
    done = xp(*base, "--ebv", "ebv", "--keep", "ebv,ebv_error", "-o", tmp_path / "a.csv")
    assert done.exit_code == 0, done.stderr
    rows = read_catalogue(tmp_path / "a.csv").columns
    np.testing.assert_allclose(rows["ebv"], sfd_by_hand(columns["ra"], columns["dec"]), rtol=2e-5)
    np.testing.assert_allclose(rows["ebv_error"], 0.16 * rows["ebv"], rtol=1e-6)


@pytest.mark.slow
def test_residuals_of_fits_and_of_true_spectra(folder: Path, tmp_path: Path) -> None:
    fitted = ("labels", "fit", folder / "xp.parquet", "--grid", folder / "grid.h5", *BARE)
    assert xp(*fitted, "-o", tmp_path / "l.fits").exit_code == 0
    call = ("wiggles", "residuals", folder / "spectra.h5", "--features", folder / "features.h5")
    fits = ("--fits", tmp_path / "l.fits", "--grid", folder / "grid.h5", "--labels", folder / "reference.fits")
    done = xp(*call, *fits, "--snr", 5, "-o", tmp_path / "r.h5")
    assert done.exit_code == 0, done.stderr
    assert "1  teff differs by 200 or more" in done.stderr
    found = read_residuals(tmp_path / "r.h5")
    assert made_sources(N)[0].source_id[2] not in found.source_id
    np.testing.assert_allclose(found.wavelength, WAVELENGTH)
    assert np.sqrt(np.mean(found.residual**2)) < 0.02
    assert found.meaning == Meaning("additive", "dereddened", "ccm89", R_V, AV_PER_SFD, True, "synthetic", "Gaia DR3")
    labels = read_catalogue(tmp_path / "l.fits")
    assert (labels.meta["truncate"], labels.meta["correction"], labels.meta["grid"]) == (True, "none", "grid.h5")
    assert "law" not in labels.meta, "spectra were fitted as they are"
    for key, value, told in (
        ("grid_digest", "0" * 16, "fitted on another grid (grid.h5) than grid.h5"),
        (
            "law",
            "odonnell94",
            "dereddened with law odonnell94, the residuals would be with ccm89: give --law odonnell94",
        ),
        ("r_v", 2.5, "dereddened with r_v 2.5, the residuals would be with 3.1"),
    ):
        other = dataclasses.replace(labels, meta={**labels.meta, key: value})
        write(tmp_path / "o.fits", other, overwrite=True)
        no = xp(*call, "--fits", tmp_path / "o.fits", "--grid", folder / "grid.h5", "-o", tmp_path / "n.h5")
        assert no.exit_code == 2
        assert told in no.stderr
    same = xp(
        *call, "--true", folder / "spectra.h5", "--space", "observed", "--kind", "multiplicative", "--snr", 5,
        "-o", tmp_path / "s.h5",
    )  # fmt: skip
    assert same.exit_code == 0, same.stderr
    assert not read_residuals(tmp_path / "s.h5").residual.any()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("labels", "fit", "xp.parquet", "--grid", "features.h5"), "features.h5"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--ebv", "ebv", "--fit-ebv", "0:1:3"), "choose one"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--fit-ebv", "0:1"), "expected LOW:HIGH:N"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--ebv", "av"), "av"),
        (("labels", "fit", "store.h5", "--grid", "grid.h5", "--ebv", "av"), "has no columns av"),
        (("labels", "fit", "store.h5", "--grid", "grid.h5", "--prior", "mh=av,0.1"), "has no columns av"),
        (("labels", "fit", "store.h5", "--grid", "grid.h5", "--parallax", "plx"), "has no columns plx, plx_error"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--prior", "mh=0.1"), "expected LABEL=MEAN,ERROR"),
        (
            ("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--prior", "feh=0,1"),
            "a prior of feh, which is no label",
        ),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--ebv", "0", "--prior", "ebv=0,1"), "leave --ebv out"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--law", "dust"), "unknown extinction law 'dust'"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--features", "features.h5"), "are for networks"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--select", "best"), "'learn', 'good', 'metal-poor'"),
        (("labels", "fit", "xp.parquet", "--grid", "grid.h5", "--continuum", "2"), "'scale' only"),
        (("wiggles", "residuals", "spectra.h5", "--features", "features.h5"), "Give --fits with --grid, or --true"),
        (("wiggles", "residuals", "xp.parquet", "--features", "features.h5", "--true", "spectra.h5"), "has no flux"),
        (
            (
                "wiggles",
                "residuals",
                "spectra.h5",
                "--features",
                "features.h5",
                "--fits",
                "nobody.fits",
                "--grid",
                "grid.h5",
            ),
            "nobody.fits has no rows",
        ),
    ],
)
def test_refusals(folder: Path, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    given = [folder / one if (folder / one).is_file() else one for one in arguments]
    done = xp(*given, "-o", tmp_path / "out.h5")
    assert done.exit_code == 2
    assert told in done.stderr
    assert not files(tmp_path)


@pytest.mark.slow
def test_labels_of_a_store_are_a_catalogue_that_resumes(folder: Path, tmp_path: Path) -> None:
    """The driver's rows are those of labels fit; other options are refused on the same output."""
    table = made_sources(N)[0]
    (tmp_path / "store").mkdir()
    for k, rows in enumerate((slice(0, 10), slice(10, N))):
        write_store_file(tmp_path / "store" / f"XP_{k}.h5", table[rows])
    base = ("catalogue", "labels", tmp_path / "store", "--grid", folder / "grid.h5", *BARE)
    done = xp(*base, "--keep", "ra", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert f"{N} sources read from 2 units" in done.stderr
    again = xp(*base, "--keep", "ra", "-o", tmp_path / "out", "--resume")
    assert "2 units were finished before" in again.stderr
    other = xp(*base, "--keep", "ra", "--starts", 2, "-o", tmp_path / "out", "--resume")
    assert other.exit_code == 2
    assert "begun with other options: fitted with" in other.stderr
    parts = [read_catalogue(tmp_path / "out" / f"XP_{k}.parquet").columns for k in range(2)]
    found = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=0.01)(table)
    for k, name in enumerate(NAMES):
        column = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(column, found.fit.labels[:, k], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(np.concatenate([part["ra"] for part in parts]), table.columns["ra"])
    missing = xp(*base, "--ebv", "av", "-o", tmp_path / "none")
    assert missing.exit_code == 2
    assert "has no columns av" in missing.stderr
