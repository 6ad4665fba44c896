"""Published systems: names, bands, stacking and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax
from xpjax.core.release import Release
from xpjax.synthetic.system import from_projection, select_bands, stack


def test_stacking_keeps_everything() -> None:
    parts = [xpjax.load_system("SDSS"), xpjax.load_system("DECam"), xpjax.load_system("JKC_Std")]
    both = stack(parts)
    assert both.columns == sum((p.columns for p in parts), ())
    assert both.color_equations[0].band == 10
    factor = both.error_correction.factor
    assert np.all(factor[:, 5:10] == 1)  # DECam has no table
    assert np.any(factor[:, :5] != 1)
    with pytest.raises(ValueError, match="twice"):
        xpjax.load_system("SDSS", "sdss")


def test_projection_must_fit_the_release() -> None:
    release = Release("DR4-like", (51, 55))
    with pytest.raises(ValueError, match=r"expected \(106, 1\)"):
        from_projection(np.zeros((110, 1)), np.zeros(1), ("x",), "Made", release)
    with pytest.raises(ValueError, match="not finite"):
        from_projection(np.full((106, 1), np.nan), np.zeros(1), ("x",), "Made", release)
    other = from_projection(np.ones((106, 1)), np.zeros(1), ("x",), "Made", release)
    with pytest.raises(ValueError, match="different releases"):
        stack([other, xpjax.load_system("SDSS")])
    assert select_bands(other, ["x"]).names == ("x",)


def test_scaling_changes_no_digit() -> None:
    import h5py

    from xpjax.core.paths import DATA

    system = xpjax.load_system("SDSS")
    with h5py.File(DATA / "systems_dr3.h5") as file:
        np.testing.assert_array_equal(system.projection * system.scale, file["Sdss/projection"][()])
        assert file.attrs["source_version"] == "2.1.5"
        assert "BSD-3-Clause" in file.attrs["source_licence"]


def test_band_lists_are_checked() -> None:
    with pytest.raises(ValueError, match="names no band"):
        xpjax.load_system("JPLUS:")
    with pytest.raises(ValueError, match="twice"):
        xpjax.load_system("JPLUS:J0515,J0515")
