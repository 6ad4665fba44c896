"""GaiaXPy's interface against GaiaXPy 2.1.5 itself: function by function, option by option, on real and made input."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gaiaxpy as peer
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from gaiaxpy.colour_equation.xp_filter_system_colour_equation import apply_colour_equation as peer_color_equation
from pandas.testing import assert_frame_equal

import xpjax
from tests import oracles
from tests.archive.server import MadeArchive
from tests.archive.tap import Tap, gaia_source_of
from tests.marks import slow_after
from xpjax.compat import gaiaxpy
from xpjax.compat.gaiaxpy import frames
from xpjax.synthetic.files.gaiaxpy_files import write_gaiaxpy
from xpjax.xp import simulate
from xpjax.xp.download import job, request

FORMATS = Path(__file__).parents[2] / "shared" / "data" / "xp" / "formats"
FILES = sorted(path.name for path in FORMATS.glob("*")) or ["absent"]
GRID = np.array([330.0, 402, 520, 636.5, 640, 643, 700, 950, 1050])
ODD_GRID = np.array([400.0, 390.0, 400.0, 700.0])
SYSTEMS = ["JKC_Std", "SDSS_Std", "Gaia_DR3_Vega"]
FILE_SYSTEMS = ["JKC_Std", "JPLUS"]
MORE = {"chi": "bp_chi_squared", "name": "designation", "solution_id": "solution_id"}
NO_BP = 3

mpl.use("Agg")


def quiet(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The result without progress bars and notes."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*args, **options)


@functools.cache
def made() -> pd.DataFrame:
    """Eight mock sources, one without BP, as a frame with array cells."""
    table = simulate.simulate_sources(8, seed=5, dtype=np.float64)
    value = np.array(table.coefficients.value)
    value[NO_BP, : table.release.n_basis[0]] = np.nan
    c = table.coefficients
    coefficients = xpjax.XPCoefficients(value, c.error, c.correlation, c.n_relevant)
    frame = oracles.gaiaxpy_frame(xpjax.SourceTable(table.source_id, coefficients, table.status))
    rng = np.random.default_rng(4)
    for xp in ("bp", "rp"):
        frame[f"{xp}_standard_deviation"] *= rng.uniform(0.7, 2.0, len(frame))
        frame[f"{xp}_chi_squared"] = rng.uniform(300, 900, len(frame))
    frame["solution_id"] = 4545469030156206081
    frame["designation"] = [f"star {k}" for k in range(len(frame))]
    return frame


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made sources as the archive writes them."""
    text = made().map(lambda cell: str(tuple(cell.tolist())) if isinstance(cell, np.ndarray) else cell)
    path = tmp_path_factory.mktemp("gaiaxpy") / "made.csv"
    text.to_csv(path, index=False)
    return path


def systems(module: Any, names: list[str] | None = None) -> list[Any]:
    return [module.PhotometricSystem[name] for name in names or SYSTEMS]


def same(found: pd.DataFrame, expected: pd.DataFrame, rtol: float = 1e-10) -> None:
    """Frames of the same columns, types and values; arrays to rtol of their largest value."""
    arrays = [name for name in expected.columns if any(isinstance(cell, np.ndarray) for cell in expected[name])]
    assert_frame_equal(found.drop(columns=arrays), expected.drop(columns=arrays), rtol=rtol, atol=0)
    assert list(found.columns) == list(expected.columns)
    for name in arrays:
        for own, other in zip(found[name], expected[name], strict=True):
            if other is None:
                assert own is None
                continue
            assert own.shape == other.shape
            assert own.dtype == other.dtype
            np.testing.assert_allclose(own, other, rtol=rtol, atol=rtol * np.nanmax(np.abs(other)))


def pair(name: str, given: Any, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What both packages make of an input, and that they say the same sampling."""
    found, expected = (quiet(getattr(module, name), given, save_file=False, **options) for module in (gaiaxpy, peer))
    if name != "generate":
        np.testing.assert_array_equal(found[1], expected[1])
        assert found[0].attrs["data_type"].__name__ == expected[0].attrs["data_type"].__name__
        assert found[0].attrs["data_type"].get_units() == expected[0].attrs["data_type"].get_units()
        found, expected = found[0], expected[0]
    return found, expected


def photometry(given: Any, names: list[str], **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    found, expected = (
        quiet(module.generate, given, systems(module, names), save_file=False, **options) for module in (gaiaxpy, peer)
    )
    return found, expected


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*peer.__all__, "apply_colour_equation"])
def test_names_and_signatures(name: str) -> None:
    found, expected = getattr(gaiaxpy, name), getattr(peer, name, peer_color_equation)
    assert name in gaiaxpy.__all__
    if not inspect.isfunction(expected):
        return
    ours, theirs = (inspect.signature(f).parameters.values() for f in (found, expected))
    assert [(p.name, p.kind) for p in ours] == [(p.name, p.kind) for p in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.default, b.default)


def test_systems_are_the_same() -> None:
    assert [m.name for m in gaiaxpy.PhotometricSystem] == [m.name for m in peer.PhotometricSystem]
    available = (module.PhotometricSystem.get_available_systems() for module in (gaiaxpy, peer))
    assert len(set(available)) == 1
    for member in gaiaxpy.PhotometricSystem:
        other = peer.PhotometricSystem[member.name]
        assert isinstance(member, gaiaxpy.PhotometricSystem)
        assert member.get_system_name() == other.get_system_name()
        assert member.get_system_label() == other.get_system_label()
        assert member.get_bands() == other.get_bands()
        assert member.get_version() == other.get_version()
        assert type(member.value).__name__ == type(other.value).__name__
        np.testing.assert_array_equal(member.get_zero_points(), other.get_zero_points())
        np.testing.assert_allclose(member.get_offsets(), other.get_offsets(), rtol=1e-15)


@pytest.mark.parametrize("band", ["BP", "rp"])
def test_dispersion(band: str) -> None:
    for name, values in (("pwl_to_wl", np.linspace(-5, 65, 201)), ("wl_to_pwl", np.linspace(300, 1100, 201))):
        for at in (values, float(values[7])):
            found, expected = (getattr(module, name)(band, at) for module in (gaiaxpy, peer))
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
            assert isinstance(found, np.ndarray)
    assert gaiaxpy.wl_range(band) == peer.wl_range(band)
    np.testing.assert_allclose(gaiaxpy.pwl_range(band), peer.pwl_range(band), rtol=1e-12)
    for name in ("pwl_to_wl", "wl_to_pwl"):
        for module in (gaiaxpy, peer):
            with pytest.raises(ValueError, match="'BP' or 'RP'"):
                getattr(module, name)("xp", 1.0)


# --- made sources -----------------------------------------------------------------------------------------------------


def test_calibrate() -> None:
    same(*pair("calibrate", made().iloc[4:]))
    same(*pair("calibrate", made(), truncation=True))
    same(*pair("calibrate", made().iloc[2:5], sampling=ODD_GRID, truncation=True))


@pytest.mark.slow
def test_strict_correlations_of_merged_spectra() -> None:
    options = {"with_correlation": True}
    with gaiaxpy.strict():
        found, expected = pair("calibrate", made().iloc[2:4], **options)
    same(found, expected)
    right = quiet(gaiaxpy.calibrate, made().iloc[2:4], save_file=False, **options)[0]
    wrong = max(np.nanmax(np.abs(a - b)) for a, b in zip(right.correlation, expected.correlation, strict=True))
    assert wrong > 0.05
    same(right[["source_id", "flux", "flux_error"]], expected[["source_id", "flux", "flux_error"]])
    np.testing.assert_allclose(right.correlation[1], expected.correlation[1], rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_convert() -> None:
    same(*pair("convert", made().iloc[4:6]))
    options = {"truncation": True, "with_correlation": True, "sampling": np.linspace(-10, 70, 41)}
    same(*pair("convert", made().iloc[2:5], **options))


def test_plain_frames_are_read_as_others() -> None:
    found, expected = frames.plain_frame(made(), True), xpjax.read(made(), dtype=np.float64)
    assert found is not None
    np.testing.assert_array_equal(found.source_id, expected.source_id)
    np.testing.assert_array_equal(found.status, expected.status)
    for name in ("value", "error", "correlation"):
        np.testing.assert_array_equal(getattr(found.coefficients, name), getattr(expected.coefficients, name))
    there = np.arange(len(made())) != NO_BP
    np.testing.assert_array_equal(found.coefficients.n_relevant[there], expected.coefficients.n_relevant[there])
    for name, cell in (
        ("bp_coefficients", "(1.0, 2.0)"),
        ("rp_coefficient_correlations", np.eye(55)),
        ("rp_coefficients", np.ones(51)),
        ("rp_coefficients", np.ones(55, np.float32)),
        ("rp_coefficient_errors", None),
    ):
        odd = made().astype({name: object})
        odd.at[0, name] = cell
        assert frames.plain_frame(odd, False) is None, name
    for name, kind in (("source_id", "Int64"), ("source_id", str), ("bp_standard_deviation", "Float64")):
        assert frames.plain_frame(made().astype({name: kind}), False) is None, name


@pytest.mark.slow
def test_odd_numbers_in_plain_frames_are_read_as_others() -> None:
    odd = made().copy()
    for row, (name, numbers) in enumerate(
        (
            ("bp_coefficients", np.full(55, np.nan)),
            ("bp_coefficients", np.where(np.arange(55) == 3, np.inf, 1.0)),
            ("bp_coefficient_errors", -np.ones(55)),
            ("rp_coefficient_errors", np.where(np.arange(55) == 54, np.nan, 1.0)),
            ("rp_coefficient_correlations", np.full(1485, 1.5)),
        ),
        start=NO_BP + 1,
    ):
        odd = odd if row < len(odd) else pd.concat([odd, made().iloc[:1]], ignore_index=True)
        odd.at[row, name] = numbers
    assert frames.plain_frame(odd, False) is not None
    assert frames.plain_frame(odd.astype({"source_id": str}), False) is None
    for name, options in (("calibrate", {}), ("generate", {"photometric_system": systems(gaiaxpy, FILE_SYSTEMS)})):
        results = [
            quiet(getattr(gaiaxpy, name), frame, save_file=False, **options)
            for frame in (odd, odd.astype({"source_id": str}))
        ]
        found, expected = results if name == "generate" else [result[0] for result in results]
        same(found, expected)
        cells = np.stack(list(found.iloc[:, -1]))
        assert np.isnan(cells).any()
        assert np.isfinite(cells).any()
    inner = [quiet(gaiaxpy.find_fast, frame, save_file=False) for frame in (odd, odd.astype({"source_id": str}))]
    same(*inner)


def test_repeated_samples_have_correlation_one() -> None:
    grid = np.array([5.0, 20.0, 20.0, 30.0])
    found, expected = pair("convert", made().iloc[:2], with_correlation=True, sampling=grid)
    same(found, expected)
    assert found.correlation[0][2] == 1


@pytest.mark.parametrize(
    "options", slow_after(1, [{"truncation": True, "error_correction": True}, {}]), ids=["corrected", ""]
)
def test_generate_strict(csv: Path, options: dict[str, Any]) -> None:
    with gaiaxpy.strict():
        same(*photometry(made(), SYSTEMS, **options))
        same(*photometry(str(csv), SYSTEMS, additional_columns=MORE, **options))


@pytest.mark.slow
def test_generate_gives_what_one_band_can() -> None:
    found, expected = photometry(made(), FILE_SYSTEMS, error_correction=True)
    both = [k for k in range(len(found)) if k != NO_BP]
    same(found.iloc[both], expected.iloc[both])
    assert expected.iloc[NO_BP, 1:].isna().all()
    known = found.columns[found.iloc[NO_BP].notna()][1:]
    assert {"Jplus_mag_J0861", "Jplus_flux_error_zJPLUS"} <= {*known}


@pytest.mark.slow
def test_all_systems_but_the_broken_band() -> None:
    sample = made().iloc[:2]
    found, expected = photometry(sample, [member.name for member in peer.PhotometricSystem])
    broken = [name for name in expected.columns if name.endswith("_Halpha01nm")]
    assert found[broken].isna().all().all()
    same(found.drop(columns=broken), expected.drop(columns=broken))
    with gaiaxpy.strict():
        found, expected = photometry(sample, ["Halpha_Custom_AB", "JKC"], error_correction=True)
    same(found, expected)
    assert (found[broken[0]].dropna() < -100).all()


def test_members_of_gaiaxpy_itself_are_known() -> None:
    frame = made().iloc[:2]
    found, expected = (quiet(gaiaxpy.generate, frame, systems(m, ["JKC"]), save_file=False) for m in (peer, gaiaxpy))
    same(found, expected)


def test_float32_within_its_bound() -> None:
    frame = made().drop(index=NO_BP).reset_index(drop=True)
    with gaiaxpy.float32():
        found, expected = pair("calibrate", frame, sampling=GRID)
        magnitudes, expected_magnitudes = photometry(frame, ["JPLUS"])
    c = xpjax.read(frame).coefficients
    design = xpjax.load_instrument().design(GRID)
    sums = np.abs(c.value) @ np.abs(design.value) * design.scale
    error = np.abs(np.stack(found.flux) - np.stack(expected.flux))
    assert found.flux[0].dtype == np.float64
    assert np.all(error <= 1e-6 * sums)
    assert np.any(error > 1e-12 * sums)
    system = xpjax.load_system("JPLUS")
    sums = np.abs(c.value) @ np.abs(system.projection) * system.scale
    for k, band in enumerate(system.names):
        name = f"Jplus_flux_{band}"
        assert np.all(np.abs(magnitudes[name] - expected_magnitudes[name]) <= 1e-6 * sums[:, k])


@pytest.mark.parametrize("band", [None, "bp", "RP"])
@pytest.mark.parametrize("kind", ["get_inverse_covariance_matrix", "get_inverse_square_root_covariance_matrix"])
def test_inverse_covariances(kind: str, band: str | None) -> None:
    function, reference = getattr(gaiaxpy, kind), getattr(peer, kind)
    expected = quiet(reference, made(), band)
    with gaiaxpy.strict():
        same(quiet(function, made(), band), expected)
    one = made().iloc[[0]]
    with gaiaxpy.strict():
        found = quiet(function, one, "rp")
    np.testing.assert_allclose(found, quiet(reference, one, "rp"), rtol=1e-8, atol=1e-10 * np.abs(found).max())
    right = quiet(function, one, "rp")
    power = 2 if kind == "get_inverse_covariance_matrix" else 1
    np.testing.assert_allclose(right * one.rp_standard_deviation[0] ** power, found, rtol=1e-12)


def test_chi2_is_that_of_the_covariance() -> None:
    one = made().iloc[[0]]
    residuals = np.random.default_rng(1).normal(size=55)
    root = quiet(gaiaxpy.get_inverse_square_root_covariance_matrix, one, "bp")
    assert gaiaxpy.get_chi2(root, residuals) == peer.get_chi2(root, residuals)
    error, packed = one.bp_coefficient_errors[0], one.bp_coefficient_correlations[0]
    matrix = np.eye(55)
    rows, columns = np.tril_indices(55, -1)
    matrix[rows, columns] = matrix[columns, rows] = packed
    matrix *= np.outer(error, error)
    np.testing.assert_allclose(
        gaiaxpy.get_chi2(root, residuals), residuals @ np.linalg.solve(matrix, residuals), rtol=1e-8
    )


def test_corrections_of_frames() -> None:
    frame = quiet(peer.generate, made(), systems(peer), save_file=False)
    for chosen in (None, "SDSS_Std", ["Gaia_DR3_Vega", "JKC_Std"]):
        listed = [chosen] if isinstance(chosen, str) else chosen
        one, two = (systems(module, listed) if listed else None for module in (gaiaxpy, peer))
        if isinstance(chosen, str):
            one, two = one[0], two[0]
        found = quiet(gaiaxpy.apply_error_correction, frame, one, save_file=False)
        same(found, quiet(peer.apply_error_correction, frame, two, save_file=False))
        if chosen is not None:
            found = quiet(gaiaxpy.apply_colour_equation, frame, one, save_file=False)
            same(found, quiet(peer_color_equation, frame, two, save_file=False))
    both = quiet(gaiaxpy.apply_colour_equation, frame, save_file=False)
    same(both, quiet(peer_color_equation, frame, systems(peer), save_file=False))
    assert not np.allclose(both.JkcStd_mag_U, frame.JkcStd_mag_U, equal_nan=True)


def test_index_of_the_input_is_not_kept() -> None:
    frame = made().iloc[[5, 0]]
    found = quiet(gaiaxpy.generate, frame, systems(gaiaxpy, ["JKC"]), save_file=False, additional_columns="designation")
    assert list(found.designation) == ["star 5", "star 0"]
    assert list(found.index) == [0, 1]


def test_comparison_fails_on_a_wrong_answer() -> None:
    expected = quiet(peer.generate, made().iloc[:1], systems(peer, ["JKC"]), save_file=False)
    with pytest.raises(AssertionError):
        same(expected.assign(Jkc_mag_U=expected.Jkc_mag_U + 1e-7), expected)
    found, other = pair("calibrate", made().iloc[:1], sampling=GRID)
    found.at[0, "flux"] = found.flux[0] * (1 + 1e-8)
    with pytest.raises(AssertionError):
        same(found, other)


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_format_of_the_archive(name: str) -> None:
    path = FORMATS / name
    if not path.exists():
        pytest.skip("real data xp/formats not present beside this checkout")
    # GaiaXPy multiplies the errors of FITS, which are float32, in float32.
    rtol = 3e-7 if path.suffix == ".fits" else 1e-10
    calls: dict[str, Callable[[Any], pd.DataFrame]] = {
        "calibrate": lambda m: m.calibrate(path, GRID, truncation=True, with_correlation=True, save_file=False)[0],
        "convert": lambda m: m.convert(str(path), np.linspace(0, 60, 21), with_correlation=True, save_file=False)[0],
        "generate": lambda m: m.generate(
            path, systems(m, FILE_SYSTEMS), save_file=False, error_correction=path.suffix == ".ecsv"
        ),
        "inverse": lambda m: m.get_inverse_covariance_matrix(path),
    }
    if path.suffix == ".avro":  # GaiaXPy misses the errors, which AVRO has in the covariances
        del calls["inverse"]
    for kind, call in calls.items():
        expected, found = quiet(call, peer), quiet(call, gaiaxpy)
        loose = max(rtol, 1e-9) if kind == "inverse" else rtol
        with gaiaxpy.strict():
            same(quiet(call, gaiaxpy), expected, loose)
        same(*DOCUMENTED.get(kind, lambda a, b, _: (a, b))(found, expected, path), loose)


def _merged_correlations(found: pd.DataFrame, expected: pd.DataFrame, _: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlations differ where two bands are merged."""
    for k, (own, other) in enumerate(zip(found.correlation, expected.correlation, strict=True)):
        if np.isfinite(own).all():
            assert 1e-3 < np.abs(own - other).max() < 0.5
            expected.at[k, "correlation"] = own
    return found, expected


def _one_band_photometry(found: pd.DataFrame, expected: pd.DataFrame, _: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sources with one band have the photometry that it gives."""
    for k in np.flatnonzero(expected.iloc[:, 1:].isna().all(axis=1)):
        known = found.iloc[k].notna()
        assert 3 < known.sum() < 20
        assert known["Jplus_flux_zJPLUS"]
        assert not known["Jplus_flux_uJAVA"]
        found.iloc[[k], 1:] = np.nan
    return found, expected


def _errors_as_published(found: pd.DataFrame, expected: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Inverse covariances are divided by the squared standard deviation of the fit."""
    table = xpjax.read(path)
    for k in range(len(expected)):
        for xp in ("bp", "rp"):
            name = f"{xp}_inverse_covariance"
            if expected[name][k] is not None:
                expected.at[k, name] = expected[name][k] / float(table.columns[f"{xp}_standard_deviation"][k]) ** 2
    return found, expected


DOCUMENTED = {
    "calibrate": _merged_correlations,
    "generate": _one_band_photometry,
    "inverse": _errors_as_published,
}
"""What docs/moving-from-gaiaxpy.md says of the default mode: both frames without it, once it is seen to be so."""


@pytest.mark.parametrize("more", [MORE, ["bp_standard_deviation", "rp_coefficients", "bp_n_relevant_bases"]])
@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".xml", "_plain.xml", ".avro", "frame"])
def test_types_of_additional_columns(suffix: str, more: Any) -> None:
    name = "MeanSpectrumSolutionWithCov.avro" if suffix == ".avro" else f"XP_CONTINUOUS_RAW_with_missing_BP{suffix}"
    path = FORMATS / (name if suffix != "frame" else "XP_CONTINUOUS_RAW_with_missing_BP.csv")
    if not path.exists():
        pytest.skip("real data xp/formats not present beside this checkout")
    if suffix == ".avro":
        more = {"nu": ["specShape", "nuEff"], "solution": "solutionId"}
    elif isinstance(more, dict):
        more = {"chi": "bp_chi_squared", "dof": "bp_degrees_of_freedom", "solution": "solution_id"}
    given = pd.read_csv(path) if suffix == "frame" else path
    with gaiaxpy.strict():
        same(*photometry(given, ["JKC"], additional_columns=more), 3e-7 if suffix == ".fits" else 1e-10)


@pytest.mark.parametrize("suffix", ["frame", "csv", "ecsv", "fits", "xml"])
def test_source_id_in_capitals(tmp_path: Path, csv: Path, suffix: str) -> None:
    """As the archive's newer downloads have it: in frames and in files."""
    from astropy.table import Table

    path = tmp_path / f"capitals.{suffix}"
    if suffix == "csv":
        path.write_text(csv.read_text().replace("source_id", "SOURCE_ID", 1))
    elif suffix == "frame":
        path = made().rename(columns={"source_id": "SOURCE_ID"})
    else:
        table = Table.read(csv, format="ascii.csv")
        table.rename_column("source_id", "SOURCE_ID")
        table.write(path, format={"ecsv": "ascii.ecsv", "xml": "votable"}.get(suffix, suffix))
    system = gaiaxpy.PhotometricSystem.JKC
    found = quiet(gaiaxpy.generate, path, system, save_file=False)
    expected = quiet(gaiaxpy.generate, made(), system, save_file=False)
    assert found["source_id"].tolist() == made()["source_id"].tolist()
    pd.testing.assert_frame_equal(found[expected.columns], expected, rtol=1e-12)


def test_nested_columns_of_avro() -> None:
    path = FORMATS / "MeanSpectrumSolutionWithCov.avro"
    if not path.exists():
        pytest.skip("real data xp/formats not present beside this checkout")
    columns = {"chi": ["bpSpec", "solution", "chiSquared"], "solution": "solutionId"}
    same(*photometry(path, ["JKC"], additional_columns=columns))


# --- saved files ------------------------------------------------------------------------------------------------------


def read_back(path: Path) -> dict[str, list[Any]]:
    """A saved file as columns of plain values, and the types of what FITS and VOTable store."""
    if path.suffix == ".avro":
        import fastavro

        with path.open("rb") as stream:
            records = list(fastavro.reader(stream))
        return {name: [_parsed(record[name]) for record in records] for name in records[0]}
    if path.suffix in (".csv", ".ecsv"):
        frame = pd.read_csv(path, comment="#")
        return {name: [_parsed(cell) for cell in frame[name]] for name in frame.columns}
    from astropy.table import Table

    table = Table.read(path)
    columns = {name: np.ma.asanyarray(table[name]) for name in table.colnames}
    return {name: list(np.ma.filled(c, np.nan) if c.dtype.kind == "f" else c) for name, c in columns.items()}


def _parsed(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("(", "["):
        return np.array([np.nan if x.strip() in ("nan", "null") else float(x) for x in cell[1:-1].split(",")])
    return cell


@pytest.mark.parametrize("form", slow_after(2, ["csv", "avro", "ecsv", "fits", "xml", ".CSV"]))
def test_saved_files(form: str, tmp_path: Path) -> None:
    frame = made().iloc[:2]
    form_of_file = form.lower().lstrip(".")
    for name in ("calibrate", "convert", "generate"):
        for module in (gaiaxpy, peer):
            options: dict[str, Any] = {"output_path": tmp_path / module.__name__, "output_file": name}
            if name == "generate":
                quiet(module.generate, frame, systems(module, ["JPLUS"]), output_format=form, **options)
            else:
                options |= {"sampling": np.arange(350, 1050, 200) if name == "calibrate" else np.linspace(0, 60, 7)}
                options |= {"with_correlation": name == "convert", "output_format": form}
                quiet(getattr(module, name), frame, **options)
        ours, theirs = (sorted((tmp_path / m.__name__).glob(f"{name}*")) for m in (gaiaxpy, peer))
        assert [path.name for path in ours] == [path.name for path in theirs]
        assert f"{name}.{form_of_file}" in [path.name for path in ours]
        for own, other in zip(ours, theirs, strict=True):
            found, expected = read_back(own), read_back(other)
            assert list(found) == list(expected)
            for column, values in expected.items():
                for a, b in zip(found[column], values, strict=True):
                    assert getattr(a, "dtype", None) == getattr(b, "dtype", None) or form_of_file == "avro"
                    if isinstance(b, str):
                        assert str(a) == b
                    elif column == "source_id":
                        assert a == b
                    else:  # GaiaXPy stores some numbers in single precision
                        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-6, atol=0)


def test_sampling_is_saved_in_the_file(tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.io.votable import parse

    for form in ("ecsv", "fits", "xml"):
        for module in (gaiaxpy, peer):
            options = {"sampling": GRID, "output_path": tmp_path / module.__name__, "output_format": form}
            quiet(module.calibrate, made().iloc[:1], **options)
    ours, theirs = tmp_path / "xpjax.compat.gaiaxpy", tmp_path / "gaiaxpy"
    found, expected = (fits.getheader(folder / "output_spectra.fits", 1)["SAMPLING"] for folder in (ours, theirs))
    np.testing.assert_array_equal(_parsed(found), GRID)
    assert expected.count(",") == found.count(",")
    found, expected = (parse(folder / "output_spectra.xml").get_first_table().params[0] for folder in (ours, theirs))
    assert found.name == expected.name
    np.testing.assert_array_equal(found.value, expected.value)
    lines = [line for line in (ours / "output_spectra.ecsv").read_text().split("\n") if "sampling" in line]
    assert lines == [f"#   sampling: {GRID.tolist()}"]


def test_old_output_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(gaiaxpy.generate, made().iloc[:1], systems(gaiaxpy, ["JKC"]), output_path=tmp_path)
    path = tmp_path / "output_synthetic_photometry.csv"
    first = path.read_bytes()
    quiet(gaiaxpy.generate, made().iloc[:2], systems(gaiaxpy, ["JKC"]), output_path=tmp_path)
    assert path.read_bytes().startswith(first)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# --- errors -----------------------------------------------------------------------------------------------------------

WRONG: dict[str, Callable[[Any], Any]] = {
    "descending": lambda m: m.calibrate(made(), sampling=GRID[::-1], save_file=False),
    "below": lambda m: m.calibrate(made(), sampling=np.array([300.0, 500.0]), save_file=False),
    "beyond": lambda m: m.calibrate(made(), sampling=np.array([400.0, 1100.0]), save_file=False),
    "one sample": lambda m: m.calibrate(made(), sampling=np.array([400.0]), save_file=False),
    "no sampling": lambda m: m.convert(made(), sampling=None, save_file=False),
    "empty sampling": lambda m: m.convert(made(), sampling=np.array([]), save_file=False),
    "list": lambda m: m.convert(made(), sampling=[1.0, 2.0], save_file=False),
    "unsorted": lambda m: m.convert(made(), sampling=np.array([2.0, 1.0]), save_file=False),
    "pseudo beyond": lambda m: m.convert(made(), sampling=np.array([0.0, 71.0]), save_file=False),
    "no system": lambda m: m.generate(made(), None, save_file=False),
    "empty systems": lambda m: m.generate(made(), [], save_file=False),
    "name as system": lambda m: m.generate(made(), ["JPLUS"], save_file=False),
    "no input": lambda m: m.calibrate("nowhere.csv", save_file=False),
    "number": lambda m: m.calibrate(5, save_file=False),
    "empty list": lambda m: m.calibrate([], save_file=False),
    "save_file": lambda m: m.calibrate(made(), save_file="yes"),
    "format": lambda m: m.generate(made().iloc[:1], m.PhotometricSystem.JKC, output_format="doc"),
    "missing column": lambda m: m.calibrate(made().drop(columns="bp_coefficient_errors"), save_file=False),
    "missing truncation": lambda m: m.calibrate(
        made().drop(columns="bp_n_relevant_bases"), truncation=True, save_file=False
    ),
    "additional": lambda m: m.generate(made(), m.PhotometricSystem.JKC, additional_columns="none", save_file=False),
    "renamed": lambda m: m.generate(
        made(), m.PhotometricSystem.JKC, additional_columns={"a": "bp_coefficients"}, save_file=False
    ),
    "no G": lambda m: m.apply_error_correction(made()[["source_id"]], save_file=False),
    "band": lambda m: m.get_inverse_covariance_matrix(made(), "xp"),
    "number as band": lambda m: m.get_inverse_covariance_matrix(made(), 3),
    "chi2 None": lambda m: m.get_chi2(None, np.zeros(55)),
    "chi2 shape": lambda m: m.get_chi2(np.eye(54), np.zeros(55)),
    "no plot sampling": lambda m: m.plot_spectra(made()),
    "folder": lambda m: m.load_additional_systems("nowhere"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_by_class(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raised = []
    for module in (peer, gaiaxpy):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            quiet(WRONG[case], module)
        raised.append(caught.type)
    named = getattr(gaiaxpy, raised[0].__name__, raised[0])
    assert issubclass(raised[1], named), raised


def test_unknown_suffix(tmp_path: Path) -> None:
    path = tmp_path / "sources.txt"
    path.write_text("source_id\n1\n")
    with pytest.raises(gaiaxpy.InvalidExtensionError, match=r"unknown suffix 'txt'"):
        gaiaxpy.calibrate(path, save_file=False)


def test_missing_columns_of_files(csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "less.csv"
    pd.read_csv(csv).drop(columns=["rp_coefficient_correlations", "bp_coefficient_correlations"]).to_csv(path)
    for module in (peer, gaiaxpy):
        with pytest.raises(ValueError, match="correlations"):
            quiet(module.calibrate, path, save_file=False)
    for module in (peer, gaiaxpy):
        with pytest.raises(ValueError, match="nothing_here"):
            quiet(module.generate, csv, systems(module, ["JKC"]), additional_columns=["nothing_here"], save_file=False)


def test_source_without_bands() -> None:
    frame = made().iloc[[0, NO_BP]].reset_index(drop=True)
    for name in ("coefficients", "coefficient_errors", "coefficient_correlations", "standard_deviation"):
        frame[f"rp_{name}"] = frame[f"rp_{name}"].astype(object)
        frame.at[1, f"rp_{name}"] = np.nan
    found = quiet(gaiaxpy.calibrate, frame, save_file=False)[0]
    assert np.isnan(found.flux[1]).all()
    assert np.isfinite(found.flux[0]).all()
    with gaiaxpy.strict(), pytest.raises(gaiaxpy.NoBandsAvailableError):
        quiet(gaiaxpy.calibrate, frame, save_file=False)
    with gaiaxpy.strict(), pytest.raises(TypeError):
        quiet(gaiaxpy.apply_colour_equation, frame, save_file=False)


def test_contexts_end() -> None:
    with contextlib.suppress(KeyError), gaiaxpy.strict(), gaiaxpy.float32():
        raise KeyError
    found = quiet(gaiaxpy.get_inverse_covariance_matrix, made().iloc[[0]], "bp")
    with gaiaxpy.strict():
        assert not np.allclose(quiet(gaiaxpy.get_inverse_covariance_matrix, made().iloc[[0]], "bp"), found)
    np.testing.assert_array_equal(quiet(gaiaxpy.get_inverse_covariance_matrix, made().iloc[[0]], "bp"), found)


# --- systems of one's own, the archive, plots -------------------------------------------------------------------------


@pytest.mark.slow
def test_additional_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gaiaxpy(tmp_path, xpjax.load_system("JPLUS"), name="Mine")
    write_gaiaxpy(tmp_path, xpjax.load_system("HST_HUGS_Std"), name="HugsStd")
    try:
        monkeypatch.setattr("builtins.input", lambda *_: f"'{tmp_path}'")
        loaded = [quiet(gaiaxpy.load_additional_systems), quiet(peer.load_additional_systems, str(tmp_path))]
        assert [m.name for m in loaded[0]] == [m.name for m in loaded[1]]
        names = ["USER_Mine", "USER_HugsStd", "JKC"]
        for name in names:
            one, two = (members[name] for members in loaded)
            assert one.get_system_label() == two.get_system_label()
            assert one.get_bands() == two.get_bands()
            assert one.get_version() == two.get_version()
            assert type(one.value).__name__ == type(two.value).__name__
            np.testing.assert_allclose(one.get_zero_points(), two.get_zero_points(), rtol=1e-15)
            np.testing.assert_allclose(one.get_offsets(), two.get_offsets(), rtol=1e-15)
        results = [
            quiet(module.generate, made().iloc[:2], [members[name] for name in names], save_file=False)
            for module, members in zip((gaiaxpy, peer), loaded, strict=True)
        ]
        same(*results)
        assert "USER_Mine" in gaiaxpy.PhotometricSystem.get_available_systems()
    finally:
        rest = [quiet(module.remove_additional_systems) for module in (gaiaxpy, peer)]
    assert [m.name for m in rest[0]] == [m.name for m in rest[1]]
    assert "USER" not in gaiaxpy.PhotometricSystem.get_available_systems()


@pytest.mark.slow
def test_systems_for_other_numbers_of_bases(tmp_path: Path) -> None:
    sizes = (51, 55)
    system = xpjax.load_system("SDSS")
    keep = np.r_[0 : sizes[0], 55:110]
    release = xpjax.Release("DR4", sizes)
    short = dataclasses.replace(system, projection=np.asarray(system.projection)[keep], release=release)
    write_gaiaxpy(tmp_path, short, name="Short")
    frame = made().iloc[:2].reset_index(drop=True)
    frame["bp_coefficients"] = [cell[: sizes[0]] for cell in frame["bp_coefficients"]]
    frame["bp_coefficient_errors"] = [cell[: sizes[0]] for cell in frame["bp_coefficient_errors"]]
    pairs = sizes[0] * (sizes[0] - 1) // 2
    frame["bp_coefficient_correlations"] = [cell[:pairs] for cell in frame["bp_coefficient_correlations"]]
    frame["bp_n_parameters"] = sizes[0]
    frame["bp_n_relevant_bases"] = 20
    try:
        loaded = [quiet(module.load_additional_systems, str(tmp_path)) for module in (gaiaxpy, peer)]
        results = [
            quiet(module.generate, frame, members["USER_Short"], truncation=True, save_file=False)
            for module, members in zip((gaiaxpy, peer), loaded, strict=True)
        ]
        same(*results)
    finally:
        for module in (gaiaxpy, peer):
            quiet(module.remove_additional_systems)


@pytest.mark.parametrize("change", ["empty", "versions", "twice", "damaged"])
def test_bad_folders_of_systems(change: str, tmp_path: Path) -> None:
    for folder, version in (("a", "v1"), ("b", "v2" if change == "versions" else "v1")):
        if change != "empty":
            write_gaiaxpy(tmp_path / folder, xpjax.load_system("JKC"), name="Mine", version=version)
    if change == "damaged":
        next((tmp_path / "a").iterdir()).write_text("<config></config>")
        next((tmp_path / "b").iterdir()).unlink()
    message = {"empty": "no file", "versions": "several versions", "twice": "more than one", "damaged": "damaged"}
    with pytest.raises(ValueError, match=message[change]):
        gaiaxpy.load_additional_systems(tmp_path)
    assert "USER" not in gaiaxpy.PhotometricSystem.get_available_systems()


class FakeArchive:
    """The Gaia archive as astroquery shows it, with a recorded reply."""

    said: list[Any] = []  # noqa: RUF012
    reply: Any = None

    def __init__(self, **servers: str) -> None:
        self.said.append(servers)

    def login(self, **who: str) -> None:
        self.said.append(who)

    def launch_job_async(self, query: str, dump_to_file: bool) -> Any:
        from astropy.table import Table

        self.said.append(query)
        return types.SimpleNamespace(get_results=lambda: Table({"SOURCE_ID": list(made().source_id)}))

    def load_data(self, ids: Any, **options: Any) -> Any:
        self.said.append((list(ids), options))
        return self.reply


@pytest.fixture
def archive(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeArchive]:
    """The made archive for xpjax, and its recorded reply by astroquery for GaiaXPy."""
    from astropy.table import Table

    module = types.ModuleType("astroquery.gaia")
    module.GaiaClass = FakeArchive  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "astroquery.gaia", module)
    FakeArchive.said = []
    FakeArchive.reply = {"XP_CONTINUOUS_RAW.csv": [Table.read(csv, format="ascii.csv")]}
    sources = xpjax.read(csv)
    tap = Tap({"gaiadr3.gaia_source": gaia_source_of(sources)}, user=("me", "x"))
    with MadeArchive(sources, tap=tap) as made_archive:
        for home in (request, job.names):
            monkeypatch.setattr(home, "HOST", made_archive.url)
        monkeypatch.setenv("XPJAX_CACHE", str(tmp_path / "cache"))
        yield made_archive


@pytest.mark.parametrize("wanted", ["list", "texts", "query"])
def test_the_archive(archive: MadeArchive, wanted: str) -> None:
    ids = sorted(int(i) for i in made().source_id)
    given: Any = {
        "list": ids,
        "texts": [str(one) for one in ids],
        "query": "SELECT /* all */ source_id FROM gaiadr3.gaia_source ORDER BY source_id -- of them",
    }[wanted]
    own = quiet(gaiaxpy.calibrate, given, save_file=False, username="me", password="x")[0]
    theirs = quiet(peer.calibrate, given, save_file=False, username="me", password="x")[0]
    assert list(own.source_id) == ids
    same(own, theirs.sort_values("source_id").reset_index(drop=True))
    assert archive.tap is not None
    assert archive.tap.logins == ["/tap-server/login", "/data-server/login"]
    again = quiet(gaiaxpy.calibrate, given, save_file=False)[0]
    same(again, own, rtol=0)


def test_additional_columns_from_the_archive(archive: MadeArchive) -> None:
    ids = [int(i) for i in made().source_id[:3]]
    frame = made().iloc[:3].reset_index(drop=True)
    options: Any = {"save_file": False, "additional_columns": {"chi": "bp_chi_squared", "name": "designation"}}
    found = quiet(gaiaxpy.generate, ids, systems(gaiaxpy, ["SDSS"]), **options)
    same(found, quiet(peer.generate, frame, systems(peer, ["SDSS"]), **options))
    with pytest.raises(gaiaxpy.MissingColumnError):
        quiet(gaiaxpy.generate, ids, systems(gaiaxpy, ["SDSS"]), save_file=False, additional_columns="nothing")


def test_the_archive_has_nothing(archive: MadeArchive) -> None:
    FakeArchive.reply = {"XP_CONTINUOUS_RAW.csv": []}
    for module in (gaiaxpy, peer):
        for wanted in ([5], []):
            with pytest.raises(ValueError):  # noqa: PT011
                quiet(module.calibrate, wanted, save_file=False)
    with pytest.raises(ValueError, match="add source_id"):
        quiet(gaiaxpy.calibrate, "select ra from gaiadr3.gaia_source", save_file=False)
    with pytest.raises(ValueError, match="nothing"):
        quiet(gaiaxpy.calibrate, "select nothing from gaiadr3.gaia_source", save_file=False)
    with pytest.raises(ValueError, match="login of 'you'"):
        quiet(gaiaxpy.calibrate, [int(made().source_id[0])], save_file=False, username="you", password="x")


@pytest.mark.slow
def test_plots(tmp_path: Path) -> None:
    absolute, grid = quiet(gaiaxpy.calibrate, made().iloc[:4], save_file=False)
    internal, pseudo = quiet(gaiaxpy.convert, made().iloc[2:4], save_file=False)
    kind = "CalibrationAbsoluteSampledSpectrum"
    gaiaxpy.plot_spectra(absolute, grid, show_plot=False, output_path=tmp_path)
    options = {"show_plot": False, "output_path": tmp_path}
    gaiaxpy.plot_spectra(absolute, grid, multi=True, output_file="all", format="png", **options)
    gaiaxpy.plot_spectra(internal, pseudo, multi=True, show_plot=False, output_path=tmp_path, legend=False)
    gaiaxpy.plot_spectra(absolute.iloc[[0]], grid, show_plot=False, output_path=tmp_path, output_file="one")
    names = [f"{kind}_{k}.jpg" for k in range(4)] + ["all.png", "XpSampledSpectrum.jpg", "one.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all(path.stat().st_size > 10000 for path in tmp_path.iterdir())
    with pytest.warns(UserWarning, match="neither shown nor saved"):
        gaiaxpy.plot_spectra(absolute, grid, show_plot=False)
    many = pd.concat([absolute] * 11, ignore_index=True)
    many.attrs = absolute.attrs
    for options in ({}, {"multi": True}):
        for module, frame in ((gaiaxpy, many), (peer, many)):
            with pytest.raises(ValueError):  # noqa: PT011
                module.plot_spectra(frame, grid, **options)


def test_progress_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = systems(gaiaxpy, ["DECam"])
    gaiaxpy.generate(made().iloc[:1], chosen, save_file=False, error_correction=True, output_file="x")
    printed = capsys.readouterr()
    assert "Generating photometry" in printed.out
    assert "UserWarning: Decam" in printed.err
    assert "UserWarning: output_file" in printed.err


# --- lines ------------------------------------------------------------------------------------------------------------


def test_extrema_are_where_sampled_spectra_turn() -> None:
    frame = made().iloc[:3]
    grid = np.linspace(0, 60, 2001)
    found = quiet(gaiaxpy.find_fast, frame, save_file=False)
    spectra = quiet(gaiaxpy.convert, frame, sampling=grid, save_file=False)[0]
    for row in spectra.to_dict("records"):
        low, high = sorted(gaiaxpy.pwl_range(row["xp"]))
        slope = np.diff(row["flux"])
        turns = grid[1:-1][slope[:-1] * slope[1:] < 0]
        own = found.extrema[(found.source_id == row["source_id"]) & (found.xp == row["xp"])].to_numpy()
        turns = turns[(turns > low) & (turns < high)]
        np.testing.assert_allclose(own, turns, atol=3.1e-2)


@pytest.mark.slow
def test_lines_of_made_sources(tmp_path: Path) -> None:
    frame = made().iloc[[0, NO_BP]].reset_index(drop=True)
    plots = {"plot_spectra": True, "save_plots": True, "output_path": tmp_path}
    found = quiet(gaiaxpy.find_extrema, frame, save_file=False, **plots)
    assert len(list(tmp_path.glob("*.jpg"))) == 2
    assert not any(name.startswith("bp") for name in found.line_name[found.source_id == frame.source_id[1]])
    for source, part in found.groupby("source_id"):
        assert part.wavelength_nm.is_monotonic_increasing, source
    flux, grid = quiet(gaiaxpy.calibrate, frame.iloc[[0]], save_file=False)
    own = found[(found.source_id == frame.source_id[0]) & found.wavelength_nm.between(*grid[[0, -1]])]
    np.testing.assert_allclose(own.line_flux, np.interp(own.wavelength_nm, grid, flux.flux[0]), rtol=1e-12)
    line = own.iloc[len(own) // 2]
    wanted = [[line.wavelength_nm, 2000.0], ["mine", "nowhere"]]
    lines = quiet(gaiaxpy.find_lines, frame.iloc[[0]], user_lines=wanted, output_path=tmp_path)
    assert {*lines.line_name} == {"mine"}
    np.testing.assert_allclose(lines.wavelength_nm.iloc[0], line.wavelength_nm, rtol=1e-9)
    assert list(pd.read_csv(tmp_path / "output_lines.csv").columns) == list(lines.columns)
    z = [(int(frame.source_id[0]), line.wavelength_nm / 656.461 - 1)]
    quasar = quiet(gaiaxpy.find_lines, frame.iloc[[0]], source_type="QSO", redshift=z, save_file=False)
    assert "H_alpha" in {*quasar.line_name}
    for options, message in (
        ({"source_type": "galaxy"}, "'star' or 'qso'"),
        ({"source_type": "qso"}, "need redshift"),
        ({"source_type": "qso", "redshift": [(1, 0.1)]}, "no redshift for 1 sources"),
        ({"truncation": 1}, "truncation must be"),
        ({"save_plots": True}, "plot_spectra=True"),
        ({"user_lines": "nowhere.txt"}, "user_lines"),
    ):
        with pytest.raises(ValueError, match=message):
            quiet(gaiaxpy.find_lines, frame.iloc[[0]], save_file=False, **options)


@pytest.mark.slow
def test_lines_of_real_sources_as_published_with_the_branch() -> None:
    path, with_missing = (FORMATS / f"XP_CONTINUOUS_RAW{name}.csv" for name in ("", "_with_missing_BP"))
    if not path.exists():
        pytest.skip("real data xp/formats not present beside this checkout")
    found = quiet(gaiaxpy.find_lines, path, truncation=True, save_file=False)
    row = found[found.source_id == 5762406957886626816].set_index("line_name").loc["H_alpha"]
    expected = (655.94434191, 8.14907938e-17, -2.15285721e-17, 14.22357562, 19.59230213, 34.20873561)
    np.testing.assert_allclose(row.to_numpy(float)[1:], expected, rtol=1e-8)
    assert len(found) == 6
    fast = quiet(gaiaxpy.find_fast, path, truncation=True, save_file=False)
    assert fast.groupby(["source_id", "xp"], sort=False).size().tolist() == [18, 9, 7, 5]
    np.testing.assert_allclose(fast.extrema.iloc[[0, 17, 18, -1]], [14.87471948, 51.09522583, 15.66133668, 22.41186069])
    # Without BP: no BP lines, and no depth where the continuum would need BP.
    missing = quiet(gaiaxpy.find_extrema, with_missing, save_file=False)
    assert missing.groupby("source_id", sort=False).size().tolist() == [27, 20, 12]
    rows = missing[missing.source_id == 5405570973190252288].set_index("line_name")
    expected = (637.43405118, 5.53563646e-19, np.nan, 6.55806708, np.nan, 0.62373083)
    np.testing.assert_allclose(rows.loc["rp_637"].to_numpy(float)[1:], expected, rtol=1e-7)
    expected = (1014.41130379, -1.68611561e-19, -1.83929351e-17, 20.92077835, 8.05828348, 3.26714333)
    np.testing.assert_allclose(rows.loc["rp_1014"].to_numpy(float)[1:], expected, rtol=1e-7)


@pytest.mark.slow
def test_types_of_frames_of_lines(tmp_path: Path) -> None:
    alone = made().iloc[[NO_BP]].reset_index(drop=True)
    text = pd.Series(["x"]).dtype  # what pandas calls text by itself
    assert quiet(gaiaxpy.find_extrema, alone, save_file=False).line_name.dtype == text
    assert quiet(gaiaxpy.find_fast, alone, save_file=False).xp.dtype == text
    for form in ("csv", "ecsv", "fits", "xml"):
        nothing = quiet(
            gaiaxpy.find_lines, alone, user_lines=[[2000.0], ["none"]], output_path=tmp_path, output_format=form
        )
        assert len(nothing) == 0
        assert (tmp_path / f"output_lines.{form}").stat().st_size > 0
