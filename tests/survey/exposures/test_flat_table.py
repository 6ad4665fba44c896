"""Stacked flats as a table of cells."""

import dataclasses

import numpy as np

from tests.survey.exposures.helpers import SETTINGS, nights
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.flat_table import flat_table


def test_cells_have_centers_flats_and_counts() -> None:
    o = nights([300] * 4)
    wave = 0.02 * np.sign(o.x - 2000)
    settings = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, position_order=0))
    solution, _ = calibrate(dataclasses.replace(o, magnitude=o.magnitude - wave), settings)
    table = flat_table(solution, bins=4, record={"command": "x"})
    c = table.columns
    assert len(table) == 16
    np.testing.assert_allclose(np.unique(c["x"]), [500, 1500, 2500, 3500])
    assert c["n_measurement"].sum() == len(solution.standards)
    assert np.mean(c["flat"][c["x"] > 2000]) - np.mean(c["flat"][c["x"] < 2000]) > 0.02
    assert table.units["flat_error"] == "mag"
    assert table.meta["command"] == "x"
