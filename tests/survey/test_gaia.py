"""Gaia's magnitude terms."""

import numpy as np
import pytest

from xpjax.survey.gaia import correct_gaia


def test_gaia_corrections_interpolate_and_clamp() -> None:
    table = {"G": np.array([10.0, 12.0]), "d_G": np.array([0.0, 0.01]), "d_BP": np.array([0.002, 0.002])}
    out = correct_gaia({"G": np.array([9.0, 11.0, 15.0]), "BP": np.array([9.0, 11.0, 15.0])}, table)
    np.testing.assert_allclose(out["G"], [9.0, 10.995, 14.99])
    np.testing.assert_allclose(out["BP"], [8.998, 10.998, 14.998])
    with pytest.raises(ValueError, match="no column 'd_RP'"):
        correct_gaia({"G": np.ones(1), "RP": np.ones(1)}, table)
    with pytest.raises(ValueError, match="ascend"):
        correct_gaia({"G": np.ones(1)}, {"G": np.array([2.0, 1.0]), "d_G": np.zeros(2)})
