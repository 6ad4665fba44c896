"""Calibrated measurements as a row for each star."""

import numpy as np
import pytest

from xpjax.survey.exposures.solution import Calibrated
from xpjax.survey.exposures.wide import wide_table
from xpjax.survey.observations import Origin, concatenate, make_observations


def calibrated(bands: tuple[str, ...] = ("g", "r")) -> Calibrated:
    """Two exposures in each band of stars 7, 3, 9; star 9 is not seen in the last one."""
    parts, values, errors = [], [], []
    for k, band in enumerate(bands):
        for e in range(2):
            star = np.array([7, 3, 9])[: 2 if (k, e) == (1, 1) else 3]
            n = len(star)
            part = make_observations(star, *[np.zeros(n)] * 2, np.ones(n), None, None, exposure=f"e{e}", band=band)
            parts.append(part)
            values.append(10.0 * k + star + (0.3 if e else 0.0))
            errors.append(np.full(n, 0.02 if e else 0.01))
    o = concatenate(parts)
    value, error = np.concatenate(values), np.concatenate(errors)
    value[0] = np.nan
    return Calibrated(o, value, error, np.full(len(o), 0.005), 0 * value, np.zeros(len(o), np.uint32), {"version": "x"})


def test_means_are_weighted_and_counted() -> None:
    table = wide_table(calibrated())
    c = table.columns
    assert c["star"].tolist() == [3, 7, 9]
    weighted = (4 * 3.0 + 3.3) / 5
    np.testing.assert_allclose(c["mag_g"], [weighted, 7.3, 9 + 0.06], rtol=1e-12)
    np.testing.assert_allclose(c["mag_error_g"], [0.01 / np.sqrt(1.25), 0.02, 0.01 / np.sqrt(1.25)])
    np.testing.assert_allclose(c["mag_systematic_g"], 0.005)
    assert c["n_g"].tolist() == [2, 1, 2]
    assert c["n_r"].tolist() == [2, 2, 1]
    assert c["mag_r"][2] == pytest.approx(19.0)
    assert table.units["mag_g"] == table.units["mag_error_r"] == "mag"
    assert table.meta["version"] == "x"


def test_one_band_without_a_name_positions_and_stars_without_errors() -> None:
    made = calibrated(("",))
    n = len(made)
    place = {"ra": np.where(np.arange(n) < 3, np.nan, 10.0 + made.observations.star), "dec": np.zeros(n)}
    o = made.observations
    origin = Origin(("f",), np.zeros(n, np.int32), np.arange(n), place)
    o = type(o)(**{f: getattr(o, f) for f in o.__dataclass_fields__ if f != "origin"}, origin=origin)
    error = np.where(o.star == 3, np.nan, made.magnitude_error)
    value = np.where(o.star == 9, np.nan, made.magnitude)
    table = wide_table(Calibrated(o, value, error, made.systematic_error, made.residual, made.flags))
    c = table.columns
    assert [*c] == [
        "star", "ra", "dec", "magnitude", "magnitude_error", "magnitude_systematic", "n_measurement",
    ]  # fmt: skip
    np.testing.assert_allclose(c["ra"], [13, 17, 19])
    np.testing.assert_allclose(c["magnitude"], [3.15, 7.3, np.nan])
    np.testing.assert_allclose(c["magnitude_error"], [np.nan, 0.02, np.nan])
    assert c["n_measurement"].tolist() == [2, 1, 0]
