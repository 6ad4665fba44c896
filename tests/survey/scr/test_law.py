"""Predictions of a color relation, and its table."""

from pathlib import Path

import numpy as np
import pytest

import xpjax
from benchmarks.scr import Sky, trend
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey.scr.law import coefficient_table, predict_scr, read_regressions, regressions_from
from xpjax.survey.scr.population import find_population
from xpjax.survey.scr.regression import fit_scr

U = 0
"""A band of the simulation."""


def test_predictions_have_errors_that_hold_and_no_trend() -> None:
    sky = Sky.make(6, 40, 100, common=False)
    sky.zero_point[:] = 0
    color, error = sky.color(U)
    half = np.arange(len(color)) % 2 == 0
    law = fit_scr(
        np.where(half, color, np.nan), error, sky.labels, label_covariance=sky.covariance, tile=sky.tile
    ).regression
    told = predict_scr(law, 0 * color, 0.0, sky.labels, label_covariance=sky.covariance, tile=sky.tile)
    off = (-told.magnitude - color)[~half]
    off, total = off[np.abs(off) < 0.5], np.hypot(told.error, error)[~half][np.abs(off) < 0.5]
    assert 0.9 < np.std(off / total) < 1.1
    with_teff = trend(sky.labels[~half, 0], (-told.magnitude - color)[~half])
    assert (np.abs(with_teff[:, 1]) < 0.003 + 3 * with_teff[:, 2]).all()
    # The true law at measured labels does have one: this would be seen.
    naive = predict_scr(law, 0 * color, 0.0, sky.labels)
    worst = trend(sky.labels[~half, 0], (-naive.magnitude - color)[~half])
    assert (np.abs(worst[:, 1]) > 0.003 + 3 * worst[:, 2]).any()
    assert told.outside.mean() < 0.06
    assert (told.systematic < told.error).all()


def test_tables_come_back(tmp_path: Path) -> None:
    sky = Sky.make(1, 20, 60)
    fits = [sky.fit(k, find_population(sky.labels, sky.covariance, sky.tile))[0].regression for k in (U, 9)]
    write(tmp_path / "c.ecsv", coefficient_table(fits, {"survey": "made"}))
    back = regressions_from(read_catalogue(tmp_path / "c.ecsv"))
    assert list(back) == ["u", "i"]
    for law in fits:
        other = back[law.band]
        for field in ("exponents", "value", "covariance", "label_range", "zero", "scale"):
            np.testing.assert_allclose(getattr(other, field), getattr(law, field), rtol=1e-12)
        told = [
            predict_scr(one, np.full(len(sky.labels), 15.0), 0.01, sky.labels, label_covariance=sky.covariance)
            for one in (law, other)
        ]
        np.testing.assert_allclose(told[0].magnitude, told[1].magnitude, rtol=1e-12)
        np.testing.assert_allclose(told[0].error, told[1].error, rtol=1e-9)
    plain = sky.fit(U, None, errors=False)[0].regression
    (again,) = regressions_from(coefficient_table([plain])).values()
    assert again.population is None
    with pytest.raises(ValueError, match="no table of SCR coefficients"):
        regressions_from(Catalogue({"band": np.array(["u"])}))


def test_a_relation_is_a_table(tmp_path: Path) -> None:
    law = Sky.make(1, 20, 60).fit(U, None, errors=False)[0].regression
    table = law.to_table()
    assert table["value"].unit == "mag"
    assert table["covariance"].description
    xpjax.write(tmp_path / "u.ecsv", law)
    (back,) = read_regressions(tmp_path / "u.ecsv").values()
    np.testing.assert_array_equal(back.value, law.value)
    assert len(repr(law).splitlines()) < 20
