"""Features against their definition, and their files."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import stars
from xpjax.wiggles.feature_files import read_features, write_features
from xpjax.wiggles.features import FEATURES, INPUTS, Features, check_names, make_features


def test_the_papers_features_are_gaiaxpy_magnitudes_combined() -> None:
    table = stars()
    ebv = np.linspace(0, 1, len(table))
    found = make_features(table, ebv=ebv, float64=True)
    mags = xpjax.photometry(table, ["SkyMapper", "Gaia_DR3_Vega"], errors=False, float64=True)
    u, v, g, i = (mags[f"SkyMapper_{band}"] for band in "uvgi")
    big, bp, rp = (mags[f"GaiaDr3Vega_{band}"] for band in ("G", "BP", "RP"))
    expected = [g - i, v - g - 0.9 * (g - i), u - v - 0.9 * (g - i), u, v, g, i, big, bp, rp, bp - rp, bp - big,
                rp - big, ebv]  # fmt: skip
    assert found.names == tuple(FEATURES)
    assert len(found.names) == 14
    np.testing.assert_allclose(found.value, np.stack(expected, axis=1), atol=1e-10)


def test_given_gaia_magnitudes_and_columns() -> None:
    table = stars()
    given = {"G": table.columns["phot_g_mean_mag"], "BP": np.full(len(table), 14.0), "RP": 13.0}
    by_mapping = make_features(table, ("G", "BP-RP"), gaia=given)
    np.testing.assert_array_equal(by_mapping.value[:, 0], given["G"])
    np.testing.assert_array_equal(by_mapping.value[:, 1], 1.0)
    by_column = make_features(table, ("G",), gaia="columns")
    np.testing.assert_array_equal(by_column.value[:, 0], given["G"])
    mapped = make_features({"G": given["G"], "BP": 14.0, "RP": 13.0, "E(B-V)": 0.1}, "gaia")
    np.testing.assert_allclose(mapped.value[:, 0], 1.0)
    np.testing.assert_array_equal(mapped.ebv, 0.1)


def test_missing_inputs_spoil_only_what_needs_them() -> None:
    table = stars(4)
    value = table.coefficients.value.copy()
    value[1, table.release.slices[0]] = np.nan
    found = make_features(xpjax.XPCoefficients(value), "no-ebv")
    assert np.isfinite(found.value[[0, 2, 3]]).all()
    assert np.isnan(found.value[1, found.names.index("u")])


def test_errors_are_those_of_the_inputs() -> None:
    table = stars(20, correlations=True)
    found = make_features(table, "no-ebv", errors=True)
    assert found.input_error is not None
    assert np.all(found.input_error[:, INPUTS.index("G")] > 0)
    assert np.all(found.input_error[:, INPUTS.index("E(B-V)")] == 0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"names": ("nothing",)}, "unknown features"),
        ({"names": "gaia"}, "give ebv="),
        ({"names": ("G",), "gaia": "columns"}, "phot_g_mean_mag"),
        ({"names": ("G",), "gaia": "else"}, "synthetic"),
        ({"names": "gaia", "ebv": [0.1, 0.2]}, r"shape \(2,\)"),
        ({"names": "gaia", "ebv": "ebv"}, "has no ebv"),
    ],
)
def test_wrong_calls(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_features(stars(4).coefficients, **arguments)


def test_sets_and_shapes() -> None:
    assert len(check_names("paper")) == 14
    assert check_names("G") == ("G",)
    with pytest.raises(ValueError, match="expected"):
        Features(np.arange(3), ("G",), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="are needed"):
        Features(np.arange(3), ("G",), np.zeros((3, 1))).select(("BP",))


def test_matching_by_source_id() -> None:
    table = Features(np.array([30, 10, 20]), ("G",), np.array([[3.0], [1.0], [2.0]]), np.array([0.3, 0.1, 0.2]))
    found = table.matched(np.array([10, 11, 30, 99, 0]))
    np.testing.assert_array_equal(found.value[:, 0], [1, np.nan, 3, np.nan, np.nan])
    np.testing.assert_array_equal(found.ebv, [0.1, np.nan, 0.3, np.nan, np.nan])


def test_files(tmp_path: Path) -> None:
    table = make_features(stars(5, correlations=True), "no-ebv", errors=True, ebv=np.full(5, 0.2))
    write_features(tmp_path / "f.h5", table)
    back = read_features(tmp_path / "f.h5")
    for name in ("source_id", "value", "ebv", "input_error"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    assert back.names == table.names
    with pytest.raises(FileExistsError):
        write_features(tmp_path / "f.h5", table)
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["source_id"] = [1]
    with pytest.raises(ValueError, match=r"g.h5 is no file of features"):
        read_features(tmp_path / "g.h5")
