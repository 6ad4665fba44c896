"""Numerical and stacked flats: against NumPy's planes, and against injected structure."""

import numpy as np
import pytest

from xpjax.survey.exposures.flat import FEWEST, Standards, error_floor, numerical_flat, stack
from xpjax.survey.observations import Frames


def frames(n: int, night: np.ndarray | None = None) -> Frames:
    text = np.full(n, "")
    names = np.array([f"e{k}" for k in range(n)])
    return Frames(names, text, text, text if night is None else night, np.arange(float(n)), np.ones(n))


def field(rng: np.random.Generator, n: int = 400) -> Standards:
    x, y = rng.uniform(0, 1000, (2, n))
    return Standards(
        np.zeros(n, np.int32), np.arange(n), x, y, 0.01 * np.sin(x / 200) + rng.normal(size=n) * 0.005,
        rng.uniform(1, 4, n) * 0.005**2,
    )  # fmt: skip


def plane(s: Standards, rows: np.ndarray, x: float, y: float) -> tuple[float, float]:
    """NumPy's weighted plane at a place, and its error."""
    a = np.stack([np.ones(len(rows)), s.x[rows] - x, s.y[rows] - y], axis=1) / np.sqrt(s.variance[rows])[:, None]
    value, *_ = np.linalg.lstsq(a, s.residual[rows] / np.sqrt(s.variance[rows]), rcond=None)
    return float(value[0]), float(np.sqrt(np.linalg.inv(a.T @ a)[0, 0]))


def test_planes_are_numpys_and_standards_stay_out_of_their_own(rng: np.random.Generator) -> None:
    s = field(rng)
    value, error = numerical_flat(s, s.frame, s.star, s.x, s.y)
    other, _ = numerical_flat(s, s.frame, s.star + 10_000, s.x, s.y)
    for k in range(0, 400, 37):
        distance = np.hypot(s.x - s.x[k], s.y - s.y[k])
        order = np.argsort(distance)
        expected = plane(s, order[1:21], s.x[k], s.y[k])
        np.testing.assert_allclose((value[k], error[k]), expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(other[k], plane(s, order[:20], s.x[k], s.y[k])[0], rtol=1e-6, atol=1e-12)
        assert abs(value[k] - other[k]) > 1e-7  # a star in its own plane would be seen
    # With itself in, a star's residual looks smaller than it is.
    assert np.std(s.residual - other) < 0.97 * np.std(s.residual - value)


def test_errors_of_planes_are_honest(rng: np.random.Generator) -> None:
    s = field(rng, 2000)
    noise = rng.normal(size=2000) * np.sqrt(s.variance)
    s = Standards(s.frame, s.star, s.x, s.y, noise, s.variance)
    value, error = numerical_flat(s, s.frame, s.star, s.x, s.y)
    assert np.std(value / error) == pytest.approx(1, abs=0.1)


def test_places_without_standards_get_none(rng: np.random.Generator) -> None:
    s = field(rng, FEWEST - 1)
    value, _ = numerical_flat(s, s.frame, s.star + 100, s.x, s.y)
    assert np.isnan(value).all()
    s = field(rng, FEWEST)
    value, _ = numerical_flat(
        s, np.array([0, 0, 1]), np.array([-1, -2, -3]), np.array([5.0, np.nan, 5]), np.ones(3) * 5
    )
    assert np.isfinite(value).tolist() == [True, False, False]
    same = Standards(s.frame, s.star, 0 * s.x, 0 * s.y, s.residual, s.variance)
    value, _ = numerical_flat(same, np.zeros(1, int), np.array([-1]), np.zeros(1), np.zeros(1))
    assert value[0] == pytest.approx(np.average(s.residual, weights=1 / s.variance), rel=1e-9)


def test_the_floor_makes_residuals_scatter_as_said(rng: np.random.Generator) -> None:
    group = np.repeat([0, 1, 2], 4000)
    own = np.full(12000, 0.004)
    extra = np.repeat([0.0, 0.003, 0.01], 4000)
    residual = rng.normal(size=12000) * np.hypot(own, extra)
    found = error_floor(residual, own**2, group, 3)
    np.testing.assert_allclose(found[1:], [0.003, 0.01], rtol=0.1)
    assert found[0] < 0.0015


def stacked(rng: np.random.Generator, star_error: float = 0.0, dither: float = 0.2, n: int = 60, **options: object):
    """Exposures of the same stars with one flat; returns the flats and the flat at random places, both ways."""

    def true(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return 0.005 * np.cos(9 * u + 1) * np.cos(7 * v)

    stars = rng.uniform(-1, 1, (2, 1500))
    wrong = rng.normal(size=1500) * star_error
    parts = []
    for k in range(n):
        u, v = stars + rng.uniform(-dither, dither, (2, 1))
        seen = np.flatnonzero((np.abs(u) < 1) & (np.abs(v) < 1))
        noise = rng.normal(size=len(seen)) * 0.004
        parts.append((np.full(len(seen), k), seen, u[seen], v[seen], true(u[seen], v[seen]) + wrong[seen] + noise))
    frame, star, u, v, residual = (np.concatenate(column) for column in zip(*parts, strict=True))
    flats = stack(frames(n), frame, star, u, v, residual, np.full(len(u), 0.004**2), **options)  # type: ignore[arg-type]
    a, b = rng.uniform(-0.97, 0.97, (2, 5000))
    off = flats.at(np.zeros(5000, int), a, b) - true(a, b)
    return flats, off - off.mean()


def test_stacked_flats_find_injected_structure(rng: np.random.Generator) -> None:
    flats, off = stacked(rng)
    assert off.std() < 0.6e-3  # of 2.5 mmag rms; 60 measurements of 4 mmag in a cell
    assert flats.count.sum() > 50_000
    np.testing.assert_allclose(flats.error[0][flats.count[0] == 64][:3], 0.004 / 8, rtol=1e-9)
    _, rough = stacked(rng, order=1, bins=8)
    assert rough.std() > 2 * off.std()


def test_errors_of_stars_stay_out_of_the_flat(rng: np.random.Generator) -> None:
    seed = rng.integers(1 << 30)
    flats, with_offsets = stacked(np.random.default_rng(seed), star_error=0.006)
    without = stacked(np.random.default_rng(seed), star_error=0.006, star_offsets=False)[1]
    assert with_offsets.std() < 0.75 * without.std()
    # What dithers do not tell of them is in its errors: a star is wrong by the same on all frames.
    assert 0.6 < with_offsets.std() / np.median(flats.error) < 1.3
    assert np.median(flats.error) > 1.1 * 0.004 / np.sqrt(np.median(flats.count))
    small = stacked(np.random.default_rng(seed), star_error=0.006, dither=0.05)[0]
    assert np.median(small.error) > 1.4 * np.median(flats.error)


def test_empty_cells_are_filled_and_epochs_kept_apart(rng: np.random.Generator) -> None:
    n = 4000
    u, v = rng.uniform(-1, 0, n), rng.uniform(-1, 1, n)
    frame = np.repeat([0, 1], n // 2)
    residual = np.where(frame == 0, 0.01, -0.02)
    two = frames(2, np.array(["a", "b"]))
    flats = stack(two, frame, np.arange(n), u, v, residual, np.ones(n), bins=10, epoch="night")
    assert flats.labels[:, 2].tolist() == ["a", "b"]
    np.testing.assert_allclose(flats.value[0], 0.01, rtol=1e-6)
    np.testing.assert_allclose(flats.value[1], -0.02, rtol=1e-6)
    assert np.isinf(flats.error[0][:, 7:]).all()
    assert flats.at(np.array([-1, 0]), np.zeros(2), np.zeros(2)).tolist() == pytest.approx([0, 0.01])
    with pytest.raises(ValueError, match="epoch of flats"):
        stack(two, frame, np.arange(n), u, v, residual, np.ones(n), epoch="weekly")
