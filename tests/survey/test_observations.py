"""Observations: sentinels, frames, nights, medians."""

import dataclasses

import numpy as np
import pytest

from xpjax.survey.observations import concatenate, group_median, make_observations, with_nights


def test_sentinels_become_nan_and_frames_keep_their_order() -> None:
    o = make_observations(
        np.array([5, 6, 7]), np.array([1.0, np.inf, 3]), np.zeros(3), np.array([12.0, 99, -99]),
        np.array([0.1, 99, 0.1]),
        np.array([12.0, 13, 14]), exposure=np.array(["b", "a", "b"]), band="r", airmass=np.array([1.0, 1.5, 1.2]),
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(o.magnitude), [False, True, True])
    np.testing.assert_array_equal(np.isnan(o.magnitude_error), [False, True, False])
    assert np.isnan(o.x[1])
    names = o.frames.exposure[o.frame].tolist()
    assert names == ["b", "a", "b"]
    np.testing.assert_allclose(o.frames.airmass[o.frame], [1.1, 1.5, 1.1])
    part = o.on_frames(o.frames.exposure == "b")
    assert len(part) == 2
    assert part.frames.exposure.tolist() == ["b"]
    with pytest.raises(ValueError, match="different lengths"):
        dataclasses.replace(o, x=np.zeros(2))


def test_nights_begin_after_gaps() -> None:
    times = [60000.1, 60000.3, 60000.9, 60001.0]
    parts = [
        make_observations(np.array([1]), *[np.zeros(1)] * 2, np.ones(1), None, None, exposure=str(t), time=t)
        for t in times
    ]
    nights = with_nights(concatenate(parts)).frames.night
    assert nights[0] == nights[1] != nights[2] == nights[3]


@pytest.mark.parametrize(("times", "nights"), [
    ([60000.53, 60000.87, 60001.6], [0, 0, 1]),  # eight hours apart, and one night
    ([60000.9, 60001.2, 60001.9, 60002.25], [0, 0, 1, 1]),  # nights over midnight
    ([60000.1, 60000.3, 60000.5, 60000.7, 60000.9, 60001.5], [0, 0, 0, 0, 0, 1]),  # no part of the day without any
])  # fmt: skip
def test_days_change_where_nobody_observes(times: list[float], nights: list[int]) -> None:
    one = np.arange(len(times), dtype=float)
    o = make_observations(
        one.astype(int), one, one, one, None, None, exposure=np.array([f"e{t}" for t in times]), time=np.array(times)
    )
    assert with_nights(o).frames.night.tolist() == [f"night {k + 1}" for k in nights]


def test_group_median_is_numpys(rng: np.random.Generator) -> None:
    for n, groups in ((50, 20), (5000, 4)):
        values, group = rng.normal(size=n), rng.integers(0, groups, n)
        values[::7] = np.nan
        found = group_median(values, group, groups + 1)
        for k in range(groups):
            mine = values[(group == k) & np.isfinite(values)]
            np.testing.assert_equal(found[k], np.median(mine) if len(mine) else np.nan)
        assert np.isnan(found[groups])


def test_systematic_errors_of_models_are_joined() -> None:
    x = np.arange(2.0)
    plain = make_observations(np.arange(2), x, x, x, x, x, exposure="a")
    stated = dataclasses.replace(plain, model_systematic=np.array([0.003, 0.004]))
    assert concatenate([plain, plain]).model_systematic is None
    joined = concatenate([plain, stated])
    np.testing.assert_array_equal(joined.model_systematic, [0, 0, 0.003, 0.004])
    np.testing.assert_array_equal(joined[2:].model_systematic, [0.003, 0.004])
