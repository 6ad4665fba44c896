"""Stellar color regression against statsmodels, scipy, quadrature and known truth; real stars; tables; bad input."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scr import REDDENING, Sky, Spectroscopic, read_monster, trend, truth_of
from xpjax.survey.scr.labels import SCALE, ZERO, mean_monomials, terms
from xpjax.survey.scr.law import predict_scr
from xpjax.survey.scr.regression import ColorModel, fit_scr

U, G, R = 0, 5, 7
"""Bands of the simulation."""


def stars(seed: int = 0, n: int = 2000, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Color, error and labels without errors of one band, u."""
    sky = Sky.make(seed, 20, n // 20, noisy=False, common=False)
    rng = np.random.default_rng(seed + 100)
    error = noise * rng.uniform(0.5, 2, n)
    color = mean_monomials((sky.true - ZERO) / SCALE, None, terms(3)) @ truth_of(U) + error * rng.normal(size=n)
    return color, error, sky.true


def test_without_clipping_it_is_weighted_least_squares() -> None:
    """Against NumPy's least squares, and White's covariance (HC1) written out."""
    color, error, labels = stars()
    found = fit_scr(color, error, labels, ColorModel(clip=0, floor=0.0)).regression
    a = mean_monomials((labels - ZERO) / SCALE, None, terms(3))
    expected = np.linalg.lstsq(a / error[:, None], color / error, rcond=None)[0]
    np.testing.assert_allclose(found.value, expected, rtol=1e-7, atol=1e-9)
    unweighted = np.linalg.lstsq(a, color, rcond=None)[0]
    assert np.abs(unweighted - expected).max() > 1e-4
    inverse = np.linalg.pinv((a / error[:, None] ** 2).T @ a)
    score = a * ((color - a @ expected) / error**2)[:, None]
    n, k = a.shape
    np.testing.assert_allclose(
        found.covariance, n / (n - k) * inverse @ (score.T @ score) @ inverse, rtol=1e-5, atol=1e-14
    )


def test_tiles_are_dummy_terms() -> None:
    """Elimination of the tiles is least squares with a column for each, and the gauge is a mean of zero."""
    color, error, labels = stars()
    tile = np.arange(len(color)) % 30
    color = color + 0.1 * np.sin(tile) + 3e-4 * (labels[:, 0] - 6000)
    found = fit_scr(color, error, labels, ColorModel(clip=0, floor=0.0), tile=tile)
    a = mean_monomials((labels - ZERO) / SCALE, None, terms(3))[:, 1:]
    whole = np.concatenate([a, np.eye(30)[tile]], axis=1) / error[:, None]
    expected = np.linalg.lstsq(whole, color / error, rcond=None)[0]
    np.testing.assert_allclose(found.regression.value[1:], expected[: a.shape[1]], rtol=1e-6, atol=1e-8)
    offsets = expected[a.shape[1] :]
    np.testing.assert_allclose(found.zero_point - found.zero_point[0], offsets - offsets[0], atol=1e-8)
    weight = np.bincount(tile, error**-2)
    assert abs(weight @ found.zero_point) < 1e-6 * weight.sum()


def test_the_papers_iteration_ends_where_the_fit_is() -> None:
    """C0 of low-extinction stars and R of the others, one after the other until nothing moves."""
    color, error, labels = stars()
    low = labels[:, 2] < 0.04
    found = fit_scr(color, error, labels, ColorModel(low_extinction=0.04, clip=0, floor=0.0)).regression
    a = mean_monomials((labels - ZERO) / SCALE, None, terms(3))
    red = 0.0
    for _ in range(200):
        left = (color - red * labels[:, 2]) / error
        c = np.linalg.lstsq((a[:, :-1] / error[:, None])[low], left[low], rcond=None)[0]
        e = labels[~low, 2] / error[~low]
        red = float(e @ ((color - a[:, :-1] @ c)[~low] / error[~low]) / (e @ e))
    np.testing.assert_allclose(found.value, [*c, red], rtol=1e-6, atol=1e-8)
    joint = fit_scr(color, error, labels, ColorModel(clip=0, floor=0.0)).regression
    assert abs(joint.value[-1] - red) > 1e-5


def test_outliers_go_and_stars_come_back() -> None:
    color, error, labels = stars()
    spoilt = np.zeros(len(color), bool)
    spoilt[:200] = True
    color = color + np.where(spoilt, 0.5, 0)
    found = fit_scr(color, error, labels)
    assert found.regression.converged
    assert found.clipped[spoilt].all()
    assert found.clipped[~spoilt].mean() < 0.01
    assert abs(found.regression.value[-1] - REDDENING[U]) < 5 * found.regression.error[-1]
    assert not fit_scr(color, error, labels, ColorModel(clip=0)).clipped.any()


def test_outliers_do_not_cost_their_tile() -> None:
    """One star that is far off moves the mean of its tile beyond all others; the median holds."""
    color, error, labels = stars(noise=0.004)
    tile = np.arange(len(color)) % 100
    color[:60:3] += 3.0
    found = fit_scr(color, error, labels, tile=tile)
    assert np.isfinite(found.zero_point).all()
    assert found.n_used.min() >= 17
    assert found.clipped[:60:3].all()
    assert found.zero_point.std() < 1.4 * np.sqrt(np.mean(found.zero_point_error**2))


@pytest.mark.parametrize("form", ["quadratic", -1.08])
def test_reddening_that_varies_or_is_known(form: str | float, rng: np.random.Generator) -> None:
    color, error, labels = stars(n=6000)
    z = (labels - ZERO) / SCALE
    extra = np.array([0.15, 0.3, 0.05, -0.1, 0.2])
    if form == "quadratic":
        color = color + mean_monomials(z, None, terms(3, "quadratic")[11:]) @ extra
    law = fit_scr(color, error, labels, ColorModel(reddening=form)).regression
    if form == "quadratic":
        pull = (law.value[10:] - [-1.08, *extra]) / law.error[10:]
        assert np.abs(pull).max() < 4
        expected = -1.08 + 0.15 * z[:, 0] + 0.3 * z[:, 2]
        assert np.abs(law.reddening_coefficient(labels) - expected).mean() < 0.2
    else:
        assert law.value[-1] == -1.08
        assert law.error[-1] == 0
        assert (law.error[:-1] > 0).all()
    bare = labels * (1, 1, 0)
    np.testing.assert_allclose(law.intrinsic(labels), predict_scr(law, 0 * color, 0.0, bare).magnitude * -1)
    np.testing.assert_allclose(
        law.intrinsic(labels) + law.reddening_coefficient(labels) * labels[:, 2],
        -predict_scr(law, 0 * color, 0.0, labels).magnitude,
        rtol=1e-9,
    )


@pytest.mark.slow
def test_errors_of_labels_attenuate_the_plain_fit_only() -> None:
    """Cut in measured labels, as the papers do: slopes within their errors with the errors known, not without."""
    sky = Sky.make(5, 40, 100, common=False)
    color, error = sky.color(U)
    inside = (sky.labels[:, 0] > 5500) & (sky.labels[:, 0] < 6500)
    color = np.where(inside, color, np.nan)
    both = [
        fit_scr(color, error, sky.labels, tile=sky.tile, label_covariance=covariance).regression
        for covariance in (sky.covariance, None)
    ]
    known, plain = ((law.value - truth_of(U))[[1, 2, -1]] / law.error[[1, 2, -1]] for law in both)
    assert np.abs(known).max() < 3.5
    assert plain[0] < -5
    assert -0.25 < both[1].value[1] / truth_of(U)[1] - 1 < -0.06
    assert both[0].floor < 0.02 < both[1].floor


@pytest.mark.slow
def test_coefficients_are_recovered() -> None:
    """A few seeds; benchmarks/scr.py has twenty."""
    from benchmarks.scr import pulls

    for noisy in (False, True):
        found = pulls(range(3), (R,), noisy, noisy, n_tile=40, per_tile=50)
        assert 0.6 < np.sqrt(np.mean(found**2)) < 1.4


def test_bad_input_is_named_and_bad_rows_cost_themselves() -> None:
    color, error, labels = stars()
    color[3], labels[5, 1], error[7] = np.nan, np.nan, np.nan
    found = fit_scr(color, error, labels)
    assert np.isnan(found.residual[[3, 5, 7]]).all()
    assert found.regression.n_used > 1900
    told = predict_scr(found.regression, np.full(len(color), 15.0), 0.01, labels)
    assert np.flatnonzero(~np.isfinite(told.magnitude)).tolist() == [5]
    assert told.outside[5]
    with pytest.raises(ValueError, match="too few for 11 terms"):
        fit_scr(color[:20], error[:20], labels[:20])
    same = labels.copy()
    same[:, 0] = 6000
    with pytest.raises(ValueError, match="do not determine all terms"):
        fit_scr(color, error, same)
    with pytest.raises(ValueError, match="expected 2000 errors and labels"):
        fit_scr(color, error[:5], labels)
    with pytest.raises(ValueError, match="label_covariance must be"):
        fit_scr(color, error, labels, label_covariance=np.eye(2))
    alone = np.zeros(len(color), int)
    alone[0] = 4
    few = fit_scr(color, error, labels, tile=alone)
    assert few.n_used.tolist() == [few.regression.n_used - 1, 0, 0, 0, 1]
    assert np.isnan(few.zero_point[1:4]).all()


# --- real stars -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lamost_stars_in_ps1(shared: Callable[[str], Path]) -> None:
    """Stars kept back: no trend with labels and reddening above 3 mmag plus twice its error."""
    read = Spectroscopic.read(shared("lamost/lamost_7000.h5"))
    residual, whole = read.held_out("i")
    spread = 1.4826 * np.nanmedian(np.abs(residual - np.nanmedian(residual)))
    assert spread < 0.009
    for x in read.labels.T:
        t = trend(x, residual)
        assert (np.abs(t[:, 1]) < 0.003 + 2 * t[:, 2]).all()
    assert whole.regression.n_used > 1600
    # The comparison sees a law that is not there: color without its reddening term.
    flat = trend(read.labels[:, 2], residual - 0.1 * read.labels[:, 2])
    assert (np.abs(flat[:, 1]) > 0.003 + 2 * flat[:, 2]).any()


def test_xp_against_ps1(shared: Callable[[str], Path]) -> None:
    found = read_monster(shared("monster"))
    for band in "rizy":
        one = found[band]
        assert one.n > 250
        assert abs(one.zero_point[0]) < 0.02
        assert one.zero_point[1] < 0.0015
        assert one.slope[1] < 0.003
        assert one.parts[0] < 0.006
    assert dataclasses.asdict(found["g"])["slope"][0] < -0.03  # of the magnitudes that are not standardized
