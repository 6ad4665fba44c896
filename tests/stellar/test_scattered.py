"""Kriging of scattered models: against scipy's splines, and against what models that are left out come back as."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from tests.stellar.helpers import NAMES, spectrum
from xpjax.stellar.scattered import Kriging, krige


def library(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, 3) at random places, and spectra (n, 40)."""
    labels = np.random.default_rng(seed).uniform((4000, 3.5, -1.5), (6500, 5.0, 0.3), (n, 3))
    return labels, spectrum(labels, np.geomspace(360.0, 990.0, 40))


def kriging(labels: np.ndarray, flux: np.ndarray) -> Kriging:
    made = krige(NAMES, labels, flux)
    assert made is not None
    return made


@pytest.mark.parametrize(("spline", "kernel"), [((3, 1), "cubic"), ((5, 2), "quintic")])
def test_weights_are_those_of_scipys_splines(
    spline: tuple[int, int], kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xpjax.stellar.scattered.SPLINES", (spline,))
    labels, flux = library()
    ours = kriging(labels, flux)
    at = library(50, 1)[0]
    place = np.column_stack([np.log(at[:, 0]), at[:, 1:]]) / ours.scale
    scipys = RBFInterpolator(ours.place, flux, neighbors=60, kernel=kernel, degree=spline[1])(place)
    np.testing.assert_allclose(ours(at)[0], scipys, rtol=1e-5)


def test_what_is_left_out_is_not_used() -> None:
    """The error of a model is that of a library without it, and so is the one that is expected."""
    labels, flux = library(200)
    ours = kriging(labels, flux)
    rest = Kriging(
        NAMES, ours.place[1:], flux[1:], ours.scale, ours.spline, ours.left_out[1:], ours.ratio[1:], ours.missed[1:]
    )
    made, _ = rest(labels[:1])
    by_hand = np.sqrt(np.mean((made[0] - flux[0]) ** 2) / np.mean(flux**2))
    assert ours.left_out[0] == pytest.approx(by_hand, rel=1e-6)


def test_the_expected_error_is_that_found() -> None:
    labels, flux = library()
    at, truth = library(300, 2)
    made, expected = kriging(labels, flux)(at)
    off = np.sqrt(np.mean((made - truth) ** 2, axis=1) / np.mean(flux**2))
    assert 0.5 < np.median(off / expected) < 1.5
    assert np.quantile(off / expected, 0.95) < 3.5
    # Models of which each is wrong by chance let one expect as much: twice the errors, twice the expectation.
    rough = flux * (1 + 0.02 * np.random.default_rng(3).normal(size=(len(flux), 1)) * np.sin(np.arange(40)))
    assert np.median(kriging(labels, rough)(at)[1] / expected) > 5


def test_the_error_grows_beyond_the_models_and_in_gaps() -> None:
    labels, flux = library()
    kept = (labels[:, 0] < 4700) | (labels[:, 0] > 5700)
    gap = kriging(labels[kept], flux[kept])
    inside, middle, beyond = gap(np.array([[4400.0, 4.2, -0.6], [5200.0, 4.2, -0.6], [8000.0, 4.2, -0.6]]))[1]
    assert middle > 3 * inside
    assert beyond > 30 * inside


def test_models_in_a_plane_say_nothing_beside_it() -> None:
    labels, flux = library(300)
    labels[:, 2] = np.where(np.arange(300) < 290, 0.0, -1.0)
    labels[290:, 0] += 4000  # far away, so that the nearest are all in the plane
    assert not np.isfinite(kriging(labels, flux)(np.array([[5000.0, 4.2, -0.5]]))[1]).any()
    assert krige(NAMES, labels[:5], flux[:5]) is None
