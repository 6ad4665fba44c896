"""Errors common to stars, learned from stars with known labels: made ones are found, and others fitted as is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import xpjax
from tests.stellar.helpers import known_labels, warm_grid, wrong_stars
from xpjax.cli import main
from xpjax.core.errors import XpjaxError
from xpjax.stellar import (
    LabelFitter,
    StellarGrid,
    describe_grid,
    learn_errors,
    read_grid,
    write_grid,
)
from xpjax.stellar.description import LEARNED
from xpjax.stellar.learned import leading, moment, pulls


def test_moments_hold_errors_and_not_noise() -> None:
    rng = np.random.default_rng(1)
    ways, noise = np.array([[0.02, 0.0, -0.01], [0.0, 0.01, 0.01]]), np.array([0.01, 0.02, 0.015])
    residual = rng.normal(size=(200_000, 2)) @ ways + rng.normal(size=(200_000, 3)) * noise
    found = moment(residual, noise=np.broadcast_to(noise**2, residual.shape))
    assert np.allclose(found, ways.T @ ways, atol=4e-6)
    assert not np.allclose(moment(residual), ways.T @ ways, atol=4e-5)
    root = leading(found, 2)
    assert np.allclose(root.T @ root, ways.T @ ways, atol=4e-6)
    assert np.allclose(pulls(2 * rng.normal(size=(100_000, 1)), np.ones((100_000, 1))), 1.9, atol=0.05)


def test_what_cannot_be_learned_from_is_refused() -> None:
    table, more = xpjax.simulate_sources(20, seed=1), {name: np.full(20, 0.0) for name in ("logg", "mh", "ebv")}
    labels = {"source_id": table.source_id, "teff": np.full(20, 5000.0), **more}
    with pytest.raises(XpjaxError, match=r"has no columns ebv; it has .*`xpjax ebv`"):
        learn_errors(warm_grid(), table, {name: x for name, x in labels.items() if name != "ebv"})
    with pytest.raises(XpjaxError, match=r"0 of 20 stars can be learned from.* 20 outside the grid"):
        learn_errors(warm_grid(), table, {**labels, "teff": np.full(20, 30_000.0)})
    with pytest.raises(XpjaxError, match="no source_id of the table of labels"):
        learn_errors(warm_grid(), table, {**labels, "source_id": np.arange(20)})
    with pytest.raises(XpjaxError, match="at least two folds"):
        learn_errors(warm_grid(), table, labels, folds=1)
    bare = dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, correlation=None))
    with pytest.raises(XpjaxError, match="come without correlations"):
        learn_errors(warm_grid(), bare, labels)


def test_what_no_left_out_star_tells_is_told_as_unknown() -> None:
    nothing = {"median absolute difference": None, "pull": None}
    part = {
        "at an edge or not converged": 12,
        "teff": nothing,
        "chi2/dof by mean wavelength of the light": [[600.0, None]],
    }
    record = {"stars": 12, "templates": 3, "systematic_floor": 0.02, "without": part, "with": part}
    told = describe_grid(dataclasses.replace(warm_grid(), provenance=json.dumps({LEARNED: record})))
    assert "unknown at 600 nm" in told
    assert "12 of them are at an edge of the grid or did not converge" in told


@pytest.mark.slow
def test_stars_that_took_no_part_are_fitted_as_well_as_is_said() -> None:
    n = 320
    table, truth, _, ways = wrong_stars(n)
    learning, others = np.arange(n) % 2 == 0, np.flatnonzero(np.arange(n) % 2)
    grid = learn_errors(warm_grid(), table[learning], known_labels(n))
    record = json.loads(grid.provenance)[LEARNED]
    assert record["stars"] == n // 2
    assert (
        record["with"]["teff"]["median absolute difference"]
        < 0.6 * record["without"]["teff"]["median absolute difference"]
    )
    assert "learned from 160 stars" in describe_grid(grid)
    assert f"leave in each sample: {grid.systematic_floor:.1%} of the flux" in describe_grid(grid)

    def judged(model: StellarGrid) -> tuple[np.ndarray, np.ndarray, float]:
        fit = LabelFitter(model, priors={"ebv": ("ebv_known", "ebv_known_error")})(table[others]).fit
        good = fit.status == 0
        assert good.mean() > 0.7
        off = fit.labels[good, :3] - truth[others][good]
        return np.median(np.abs(off), axis=0), pulls(off, fit.error[good, :3]), float(np.median(fit.chi2 / fit.dof))

    off, pull, chi2 = judged(grid)
    off_before, pull_before, chi2_before = judged(warm_grid())
    assert chi2_before > 10
    assert np.all(pull_before > 2.5)
    assert 0.6 < chi2 < 1.4
    assert np.all((pull > 0.6) & (pull < 1.5))
    assert np.all(off < 0.7 * off_before)
    size = np.sqrt((grid.systematic_variance[0, 1:] @ np.asarray(grid.systematic) ** 2) / np.sum(ways**2, axis=0))
    assert 0.7 < np.median(size) < 2.5


@pytest.mark.slow
def test_the_command_does_the_same(tmp_path: Path) -> None:
    from astropy.table import Table

    n = 40
    table = wrong_stars(320)[0][np.arange(n)]
    write_grid(warm_grid(), tmp_path / "grid.h5")
    xpjax.write(tmp_path / "xp.fits", table)
    labels: Any = {name: x[:n] for name, x in known_labels(320).items()}
    Table(labels).write(tmp_path / "known.fits")
    files = [str(tmp_path / name) for name in ("grid.h5", "xp.fits", "known.fits")]
    call = ["labels", "grid", "learn", *files, "-o", str(tmp_path / "learned.h5"), "--templates", "6", "--folds", "2"]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    assert "learned from 40 stars" in done.output
    found = read_grid(tmp_path / "learned.h5")
    made = learn_errors(read_grid(tmp_path / "grid.h5"), tmp_path / "xp.fits", labels, templates=6, folds=2)
    assert np.allclose(found.systematic, made.systematic, rtol=1e-5, atol=1e-8)
    assert np.allclose(found.systematic_variance, made.systematic_variance, rtol=1e-6)
    assert json.loads(found.provenance)[LEARNED] == json.loads(made.provenance)[LEARNED]
    refused = CliRunner().invoke(main, call)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
