"""Grids of wavelengths: what is taken, and what the refusal says."""

import astropy.units as u
import numpy as np
import pytest

from xpjax.core.constants import XP_RANGE
from xpjax.core.grids import check_grid


def test_grids_are_float64_within_their_limits() -> None:
    np.testing.assert_array_equal(check_grid([400, 500], XP_RANGE, "wavelength", "nm"), [400.0, 500.0])
    np.testing.assert_allclose(check_grid([4000, 5000] * u.AA, XP_RANGE, "wavelength", "nm"), [400, 500])
    assert check_grid(np.array([330.0, 1050 + 1e-10]), XP_RANGE, "wavelength", "nm")[-1] == 1050.0


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ([], "one-dimensional and not empty"),
        ([400.0, np.nan], "1 values that are not finite"),
        ([500.0, 400.0], "500 is followed by 400; sort it first"),
        ([4000.0, 9000.0], "are these Angstrom"),
        ([0.4, 0.9], "are these micrometers"),
        ([300.0, 900.0], "goes beyond 330..1050 nm"),
    ],
)
def test_bad_grids_are_refused(grid: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_grid(grid, XP_RANGE, "wavelength", "nm")
