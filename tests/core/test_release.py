"""Other basis sizes, as Gaia DR4 will have: 51 BP + 55 RP through the whole path, from a file to magnitudes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests import oracles
from xpjax.core.errors import XpjaxError
from xpjax.core.paths import DATA
from xpjax.core.release import DR4, find_release
from xpjax.xp.sources import XPCoefficients

N_BP = 51


@pytest.fixture(scope="module")
def dr4(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An instrument and systems as DR3's, less the last four BP bases, and a csv of such sources."""
    folder = tmp_path_factory.mktemp("dr4")
    keep = np.r_[0:N_BP, 55:110]
    paths = {name: folder / f"{name}_dr4.h5" for name in ("instrument", "systems")}
    for name, path in paths.items():
        with h5py.File(DATA / f"{name}_dr3.h5") as old, h5py.File(path, "w") as new:
            for key in old:
                old.copy(key, new)
            new.attrs.update(old.attrs)
            new.attrs.update(release_name="Gaia DR4-like", release_n_basis=[N_BP, 55])
    with h5py.File(paths["instrument"], "a") as file:
        replace(file, "internal/hermite/bp/transformation", lambda x: x[:N_BP])
        for model in ("v375wi", "v211w"):
            replace(file, f"absolute/bp/{model}/transformation", lambda x: x[:N_BP])
        for model in file["model"]:
            replace(file, f"model/{model}/bp_design", lambda x: x[:N_BP])
    with h5py.File(paths["systems"], "a") as file:
        for label in file:
            replace(file, f"{label}/projection", lambda x: x[keep])
    c = oracles.coefficients(np.random.default_rng(4), 4)
    c.value[:, N_BP:55] = 0
    c.error[:, N_BP:55] = 0
    lines = [
        "source_id,bp_coefficients,bp_coefficient_errors,bp_coefficient_correlations,bp_n_relevant_bases,"
        "rp_coefficients,rp_coefficient_errors,rp_coefficient_correlations,rp_n_relevant_bases"
    ]
    for row in range(4):
        cells = [str(10 + row)]
        for n, start, pair in ((N_BP, 0, 0), (55, 55, 1485)):
            n_pair = n * (n - 1) // 2
            for array in (
                c.value[row, start : start + n],
                c.error[row, start : start + n],
                c.correlation[row, pair : pair + n_pair],
            ):
                cells.append('"[' + ",".join(map(repr, array.tolist())) + ']"')
            cells.append("40")
        lines.append(",".join(cells))
    paths["csv"] = folder / "sources.csv"
    paths["csv"].write_text("\n".join(lines) + "\n")
    np.savez(folder / "dr3.npz", value=c.value, error=c.error, correlation=c.correlation)
    paths["dr3"] = folder / "dr3.npz"
    return paths


def replace(file: h5py.File, key: str, change) -> None:
    data = change(file[key][()])
    del file[key]
    file[key] = data


def same(dr4: dict[str, Path]) -> XPCoefficients:
    """The same sources with DR3's sizes: the bases that DR4-like lacks are zero."""
    data = np.load(dr4["dr3"])
    return XPCoefficients(data["value"], data["error"], data["correlation"], np.full((4, 2), 40))


def test_sizes_are_read_from_the_file(dr4) -> None:
    table = xpjax.read(dr4["csv"])
    assert table.release.n_basis == (51, 55)
    assert table.coefficients.correlation.shape == (4, 1275 + 1485)


@pytest.mark.slow
@pytest.mark.parametrize("truncate", [False, True])
def test_spectra_and_photometry(dr4, truncate: bool) -> None:
    table = xpjax.read(dr4["csv"])
    instrument = xpjax.load_instrument(path=dr4["instrument"])
    for options in ({}, {"wavelength": np.arange(400.0, 900, 7)}, {"internal": True}):
        a = xpjax.spectra(table, instrument=instrument, float64=True, truncate=truncate, **options)
        b = xpjax.spectra(same(dr4), float64=True, truncate=truncate, **options)
        np.testing.assert_allclose(a.flux, b.flux, rtol=1e-10)
        np.testing.assert_allclose(a.flux_error, b.flux_error, rtol=1e-11)
    system = xpjax.load_system("JPLUS", "SDSS_Std", path=dr4["systems"])
    assert system.release.name == "Gaia DR4-like"
    a = xpjax.photometry(table, system, float64=True, truncate=truncate, error_correction=True)
    b = xpjax.photometry(same(dr4), ["JPLUS", "SDSS_Std"], float64=True, truncate=truncate, error_correction=True)
    np.testing.assert_allclose(a.flux, b.flux, rtol=1e-11)
    np.testing.assert_allclose(a.flux_error, b.flux_error, rtol=1e-11)
    assert np.all(np.isfinite(xpjax.covariance_matrix(table, "bp")))


def test_a_release_that_does_not_fit_is_refused(dr4) -> None:
    table = xpjax.read(dr4["csv"])
    with pytest.raises(ValueError, match=r"Gaia DR4 \(51, 55\), but xpjax has photometric systems of DR3 only"):
        xpjax.photometry(table, "JPLUS")
    with pytest.raises(ValueError, match=r"\(51, 55\).*Gaia DR3.*\(55, 55\)"):
        xpjax.photometry(table, xpjax.load_system("JPLUS"))
    with pytest.raises(ValueError, match=r"instrument models of DR3 only.*build_instrument\.py.*XPJAX_DATA"):
        xpjax.spectra(table)


@pytest.mark.slow
def test_command_line(dr4, tmp_path) -> None:
    from click.testing import CliRunner

    from xpjax.cli import main

    run = CliRunner().invoke(
        main, ["photometry", str(dr4["csv"]), "--system", str(dr4["systems"]), "-o", str(tmp_path / "p.h5")]
    )
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        main, ["spectra", str(dr4["csv"]), "--instrument", str(dr4["instrument"]), "-o", str(tmp_path / "s.h5")]
    )
    assert run.exit_code == 0, run.output
    with h5py.File(tmp_path / "s.h5") as file:
        expected = xpjax.spectra(same(dr4)).flux
        np.testing.assert_allclose(file["flux"], expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["Gaia DR4", "dr4", "DR4", "gaia_dr4", "GaiaDR4"])
def test_releases_by_name(name: str) -> None:
    assert find_release(name) is DR4
    assert find_release(DR4) is DR4


def test_unknown_releases_are_refused_by_name() -> None:
    with pytest.raises(XpjaxError, match=r"unknown release 'DR5'; expected one of Gaia DR3, Gaia DR4"):
        find_release("DR5")
