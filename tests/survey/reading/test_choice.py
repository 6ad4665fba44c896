"""The model that data can pay for: orders by standards, flats by exposures and by cross-validation."""

from __future__ import annotations

import numpy as np
import pytest

from xpjax.survey.observations import Observations, concatenate, make_observations
from xpjax.survey.reading.choice import choose_model, error_limit


def frames(n: int, n_frame: int = 1, wave: float = 0.0, spread: float = 1.0, seed: int = 0) -> Observations:
    """Standards with 5 mmag of noise, and a flat that is a wave of 3000 pixels."""
    rng, parts = np.random.default_rng(seed), []
    for k in range(n_frame):
        x, y = rng.uniform(0, 4000, (2, n))
        model, color = rng.uniform(14, 17, n), 1 + spread * rng.uniform(-0.5, 0.5, n)
        flat = wave * np.sin(2 * np.pi * x / 3000) * np.sin(2 * np.pi * y / 3000)
        m = model - 25 + flat + rng.normal(0, 0.005, n)
        parts.append(make_observations(np.arange(n), x, y, m, np.full(n, 0.005), model, color=color, exposure=f"e{k}"))
    return concatenate(parts)


@pytest.mark.parametrize(
    ("n", "spread", "orders"), [(95, 1.0, (2, 2)), (80, 1.0, (2, 2)), (60, 1.0, (1, 2)), (20, 1.0, (0, 1)),
                                (12, 1.0, (0, 0)), (95, 0.1, (0, 0))],
)  # fmt: skip
def test_ten_standards_for_each_term(n: int, spread: float, orders: tuple[int, int]) -> None:
    found = choose_model(frames(n, spread=spread), color=True, n_frame=1)
    position, color = found.entries["position_order"], found.entries["color_order"]
    if spread < 0.2:
        assert color == 0  # standards of one color determine no color term
    else:
        assert (position, color) == orders
        assert (position + 1) * (position + 2) // 2 + color <= max(n / 10, 1)


def test_without_positions_or_colors_there_are_no_such_terms() -> None:
    o = frames(95)
    assert choose_model(o, color=False, n_frame=1).entries["color_order"] == 0
    blind = make_observations(o.star, np.full(95, np.nan), np.full(95, np.nan), o.magnitude, o.magnitude_error, o.model,
                              color=o.color)  # fmt: skip
    assert choose_model(blind, color=True, n_frame=1).entries == {"position_order": 0, "color_order": 2}


def test_many_exposures_share_a_flat() -> None:
    found = choose_model(frames(300), color=True, n_frame=40)
    assert found.entries["stacked_flat"]
    assert found.entries["bins"] == 10  # at least 100 of 12,000 standards in a cell
    assert "numerical_flat" not in found.entries


@pytest.mark.slow
@pytest.mark.parametrize(("wave", "helps"), [(0.02, True), (0.0, False)])
def test_a_numerical_flat_where_it_helps(wave: float, helps: bool) -> None:
    found = choose_model(frames(400, 2, wave), color=True, n_frame=2)
    assert found.entries["numerical_flat"] == helps
    assert "in cross-validation" in found.reasons["numerical_flat"]


def test_faint_stars_are_left_out_where_enough_remain() -> None:
    o = frames(200)
    assert error_limit(o) == 0.05
    o.magnitude_error[:150] = 0.08
    assert error_limit(o) == 0.1
