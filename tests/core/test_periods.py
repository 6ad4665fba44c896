"""Periods: those that were put in, none in noise, aliases by name; digits that the error supports."""

import numpy as np
import pytest

from tests.marks import slow_after
from xpjax.core.errors import XpjaxError
from xpjax.core.periods import FALSE_ALARM, _grid_power, _power, _Series, find_period, rounded

SIGMA = 0.01


def nightly(rng: np.random.Generator, n: int, days: int) -> np.ndarray:
    """Times [d] of n exposures at random within eight hours of random nights."""
    return np.sort(60000.7 + rng.integers(0, days, n) + rng.uniform(-0.17, 0.17, n))


def sine(rng: np.random.Generator, time: np.ndarray, period: float, amplitude: float, wild: float = 0.0) -> np.ndarray:
    """Magnitudes of a star, some of them spoilt."""
    out = 15 + amplitude * np.sin(2 * np.pi * time / period + rng.uniform(0, 6)) + rng.normal(0, SIGMA, len(time))
    return out + (rng.random(len(time)) < wild) * rng.uniform(0.05, 1, len(time)) * rng.choice([-1, 1], len(time))


@pytest.mark.parametrize(("n", "days", "wild"), [(15, 10, 0.0), (40, 30, 0.02)])
def test_periods_are_those_put_in_within_their_errors(n: int, days: int, wild: float) -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for _ in range(20):
        true, time = np.exp(rng.uniform(np.log(0.1), np.log(8))), nightly(rng, n, days)
        found = find_period(time, sine(rng, time, true, 0.1, wild), np.full(n, SIGMA))
        if not np.isfinite(found.period):
            continue
        values = [(found.period, found.error), *found.aliases]
        pulls.append(min(((value - true) / error for value, error in values), key=abs))
        printed = float(str(found).split()[1])
        assert abs(printed - found.period) <= 0.5 * found.error
    assert len(pulls) >= 16
    assert np.abs(pulls).max() < 5
    assert 0.4 < np.std(pulls) < 2


@pytest.mark.parametrize("n", slow_after(1, [40, 300]))
def test_constant_stars_have_no_periods(n: int) -> None:
    rng = np.random.default_rng(4)
    false = 0
    for k in range(n):
        time = nightly(rng, 20, 15)
        found = find_period(time, sine(rng, time, 1.0, 0.0, 0.05 * (k % 2)), np.full(20, SIGMA))
        false += np.isfinite(found.period)
        assert np.isfinite(found.period) or str(found).startswith("no ")
        assert found.false_alarm > FALSE_ALARM or np.isfinite(found.period) or found.aliases or found.slower
    assert false <= 2  # 0.04 and 0.3 of them expected


def test_a_gap_of_a_season() -> None:
    rng = np.random.default_rng(5)
    time = np.concatenate([nightly(rng, 40, 40), nightly(rng, 40, 40) + 250])
    found = find_period(time, sine(rng, time, 0.4321, 0.1), np.full(80, SIGMA))
    assert found.period == pytest.approx(0.4321, abs=5 * found.error)
    assert found.error < 1e-5
    assert found.longest == pytest.approx(290, abs=2)


def test_one_exposure_a_night_has_daily_aliases() -> None:
    rng = np.random.default_rng(6)
    time = 60000.7 + np.arange(40) + rng.normal(0, 0.05, 40)
    found = find_period(time, sine(rng, time, 0.37, 0.02), np.full(40, SIGMA))
    text = str(found)
    assert found.daily or not np.isfinite(found.period)
    assert any(abs(value - 0.37) < 5 * error for value, error in [(found.period, found.error), *found.aliases])
    assert "daily aliases" in text or "no unique period" in text


def test_a_sampling_that_repeats_itself_says_how_far_it_sees() -> None:
    time = 60000.0 + np.arange(40)
    rng = np.random.default_rng(7)
    found = find_period(time, sine(rng, time, 1 / 0.7, 0.1), np.full(40, SIGMA))
    assert found.repeats == pytest.approx(1.0, rel=1e-3)
    assert found.shortest == pytest.approx(2.0, rel=1e-3)
    assert found.period == pytest.approx(1 / 0.3, abs=5 * found.error)  # 0.7 cycles a day look like 0.3
    assert "if above 2 d, for exposures are every 1 d" in str(found)


def test_a_trend_is_no_period() -> None:
    rng = np.random.default_rng(8)
    time = nightly(rng, 60, 40)
    found = find_period(time, 15 + 0.01 * (time - 60000) + rng.normal(0, SIGMA, 60), np.full(60, SIGMA))
    assert np.isnan(found.period)
    assert str(found).startswith("no period: slower than the ")


def test_rows_that_cannot_be_used_cost_themselves() -> None:
    rng = np.random.default_rng(9)
    time = nightly(rng, 60, 40)
    magnitude, error = sine(rng, time, 0.37, 0.1), np.full(60, SIGMA)
    whole = find_period(time[5:], magnitude[5:], error[5:])
    magnitude[:3], time[3:5], error[10] = np.nan, np.nan, np.nan
    found = find_period(time, magnitude, error)
    assert found.period == pytest.approx(whole.period, abs=whole.error)
    with pytest.raises(XpjaxError, match="a period needs 10"):
        find_period(time[:9], magnitude[:9])
    with pytest.raises(XpjaxError, match="12 measurements at 1 times"):
        find_period(np.full(12, 60000.0), np.arange(12.0))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.3700123, 0.00004, "0.37001 \u00b1 0.00004"),
        (0.3700123, 0.000013, "0.370012 \u00b1 0.000013"),
        (12.34, 0.3, "12.3 \u00b1 0.3"),
        (123.4, 20.0, "123 \u00b1 20"),
        (1.5, np.nan, "1.5"),
    ],
)
def test_digits_are_those_the_error_supports(value: float, error: float, text: str) -> None:
    assert rounded(value, error) == text


# --- several sines ----------------------------------------------------------------------------------------------------


def sawtooth(rng: np.random.Generator, time: np.ndarray, period: float, sigma: float) -> np.ndarray:
    """Magnitudes of a star that brightens fast and fades slowly."""
    turns = np.arange(1, 7)
    angle = 2 * np.pi * turns * ((time / period + rng.random()) % 1)[:, None]
    return 15 + 0.5 * (np.sin(angle) / turns).sum(axis=1) + rng.normal(0, sigma, len(time))


def rarely(rng: np.random.Generator, n: int) -> np.ndarray:
    """Times of n transits in pairs over five years."""
    return np.sort(np.repeat(rng.uniform(0, 2000, n // 2), 2) + np.tile([0, 0.074], n // 2))


@pytest.mark.parametrize("sigma", slow_after(1, [0.03, 0.12]))
def test_periods_of_few_measurements_by_several_sines(sigma: float) -> None:
    rng = np.random.default_rng(10)
    pulls, stated = [], 0
    for _ in range(4 if sigma < 0.1 else 15):
        true, time = rng.uniform(0.4, 0.8), rarely(rng, 40)
        found = find_period(time, sawtooth(rng, time, true, sigma), np.full(40, sigma), sines=4)
        if not np.isfinite(found.period):
            continue
        stated += not found.aliases
        values = [(found.period, found.error), *found.aliases]
        pulls.append(min(((value - true) / error for value, error in values), key=abs))
    assert stated >= 3
    assert np.abs(pulls).max() < 5


@pytest.mark.parametrize("n", slow_after(1, [2, 12]))
def test_constant_stars_have_no_periods_by_several_sines(n: int) -> None:
    rng = np.random.default_rng(11)
    found = [find_period(rarely(rng, 40), rng.normal(15, SIGMA, 40), sines=4) for _ in range(n)]
    assert not any(np.isfinite(one.period) for one in found)
    assert all(one.false_alarm > FALSE_ALARM for one in found)


def test_one_sine_is_enough_for_a_sine() -> None:
    rng = np.random.default_rng(12)
    time = rarely(rng, 60)
    found = find_period(time, sine(rng, time, 0.37, 0.1), np.full(60, SIGMA), sines=4)
    assert found.sines == 1
    assert found.period == pytest.approx(0.37, abs=5 * found.error)
    assert not found.aliases


def test_of_a_period_and_its_multiples_the_shortest_is_stated() -> None:
    """Three sines of twice the period fit a little better, by chance: it is told, and not stated."""
    rng = np.random.default_rng(0)
    time = rarely(rng, 40)
    rng.choice([0.02, 0.05])
    magnitude = 15 + 0.1 * np.sin(2 * np.pi * time / 0.337 + 1) + rng.normal(0, 0.02, 40)
    found = find_period(time, magnitude, np.full(40, 0.02), sines=4)
    assert found.period == pytest.approx(0.337, abs=5 * found.error)
    assert found.sines == 1
    assert [round(period / 0.337, 3) for period, _ in found.aliases] == [2.0]


def test_powers_are_those_of_astropy() -> None:
    from astropy.timeseries import LombScargle

    rng = np.random.default_rng(13)
    time, weight = np.sort(rng.uniform(0, 30, 25)), rng.uniform(0.01, 0.05, 25)
    series = _Series(time - time[0], sine(rng, time, 0.7, 0.05), weight, 30.0, 5.0)
    frequency = 0.003 * np.arange(1, 1001)
    for k in (1, 2, 3):
        exact = LombScargle(series.t, series.y, weight, nterms=k).power(frequency[20:], method="chi2")
        np.testing.assert_allclose(_power(series, frequency[20:], k), exact, atol=1e-8)
    exact = LombScargle(series.t, series.y, weight).power(frequency[10:], method="slow")
    np.testing.assert_allclose(_grid_power(series, 0.003, 1000)[10:], exact, atol=1e-9)
