"""Errors common to stars whose sizes depend on the color of a star, and the ones that the shipped grid has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.stellar import StellarGrid, fit_labels, read_grid, write_grid

X = np.linspace(360.0, 990.0, 40)
TEFF = np.linspace(4000.0, 8000.0, 9)
FLUX = np.exp(-((X / 500) ** 2) * 5000 / TEFF[:, None])
TEMPLATES = np.stack([0.03 * np.sin(X / 90), 0.02 * np.cos(X / 40)])


def grid(**more: Any) -> StellarGrid:
    return StellarGrid((TEFF,), FLUX / FLUX.mean(axis=1, keepdims=True), X, ("teff",), systematic=TEMPLATES, **more)


def colors() -> np.ndarray:
    return FLUX @ X / FLUX.sum(axis=1)


def test_what_is_no_table_of_variances_is_refused() -> None:
    for table in (np.ones((2, 2)), np.array([[600.0, 1, 1], [500.0, 1, 1]]), np.array([[500.0, 1, -1]])):
        with pytest.raises(XpjaxError, match="systematic_variance has shape"):
            grid(systematic_variance=table)


def test_a_file_keeps_them_and_the_digest_tells_them_apart(tmp_path: Path) -> None:
    table = np.array([[500.0, 1, 0], [700.0, 0, 2]])
    write_grid(grid(systematic_variance=table), tmp_path / "grid.h5")
    assert np.array_equal(read_grid(tmp_path / "grid.h5").systematic_variance, table)
    assert xpjax.stellar.grid_file.grid_digest(grid()) != xpjax.stellar.grid_file.grid_digest(
        grid(systematic_variance=table)
    )


@pytest.mark.slow
def test_they_are_those_of_templates_scaled_for_each_color() -> None:
    """Against each star fitted with templates of the size that the table has at its color."""
    rng = np.random.default_rng(1)
    flux = (FLUX / FLUX.mean(axis=1, keepdims=True))[1:8:3] * (1 + 0.01 * rng.normal(size=(3, 40)))
    mean, error = colors()[1:8:3], np.full((3, 40), 0.01)
    table = np.array([[mean.min() - 100, 4.0, 0.5], [mean.max() + 100, 1.0, 3.0]])
    made = fit_labels(flux, error, grid(systematic_variance=table), float64=True)
    for star, color in enumerate(mean):
        share = (color - table[0, 0]) / (table[1, 0] - table[0, 0])
        size = np.sqrt([4 - 3 * share, 0.5 + 2.5 * share])[:, None]
        one = dataclasses.replace(grid(systematic_variance=np.array([[500.0, 1, 1]])), systematic=TEMPLATES * size)
        alone = fit_labels(flux[star][None], error[star][None], one, float64=True)
        # The color is that of a smooth sum of models, not that of the star's true model.
        assert made.labels[star, 0] == pytest.approx(alone.labels[0, 0], abs=5)
        assert made.chi2[star] == pytest.approx(alone.chi2[0], rel=0.02)
        assert made.error[star, 0] == pytest.approx(alone.error[0, 0], rel=0.02)


def test_the_shipped_grid_has_them_and_says_whence() -> None:
    own = read_grid("ck04")
    assert own.systematic is not None
    assert own.systematic_variance is not None
    assert len(own.systematic) + 1 == own.systematic_variance.shape[1]
    assert "build_label_errors" in json.loads(own.provenance)["systematic"]
    size = np.sqrt(np.sum(np.asarray(own.systematic) ** 2 * own.systematic_variance[1][1:, None], axis=0))
    x = np.asarray(own.wavelength)
    assert 0.005 < np.median(size[(x > 450) & (x < 900)]) < 0.05  # of stars like the Sun, as a fraction of the flux


def test_what_templates_leave_is_an_error_of_each_sample(tmp_path: Path) -> None:
    table = np.array([[500.0, 1, 1]])
    left = grid(systematic_variance=table, systematic_floor=0.03)
    write_grid(left, tmp_path / "grid.h5")
    assert read_grid(tmp_path / "grid.h5").systematic_floor == 0.03
    digest = xpjax.stellar.grid_file.grid_digest
    assert digest(left) == digest(read_grid(tmp_path / "grid.h5")) != digest(grid(systematic_variance=table))
    flux = (FLUX / FLUX.mean(axis=1, keepdims=True))[3:4]
    error = np.full_like(flux, 0.002)
    made = fit_labels(flux, error, left)
    plain = grid(systematic_variance=table)
    assert made.error[0, 0] > 2 * fit_labels(flux, error, plain).error[0, 0]
    # A floor that is asked for is not added to it, and stands where it is larger.
    for asked, expected in ((0.01, 0.03), (0.05, 0.05)):
        found = fit_labels(flux, error, left, error_floor=asked).error[0, 0]
        assert found == pytest.approx(fit_labels(flux, error, plain, error_floor=expected).error[0, 0], rel=1e-5)
    assert made.error_formal[0, 0] < made.error[0, 0]
    assert fit_labels(flux, error, left, systematic=False).error[0, 0] == pytest.approx(
        fit_labels(flux, error, plain, systematic=False).error[0, 0], rel=1e-6
    )
    with pytest.raises(XpjaxError, match="systematic_floor=-1"):
        grid(systematic_floor=-1.0)
