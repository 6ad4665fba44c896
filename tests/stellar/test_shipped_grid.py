"""The grid that comes with xpjax: against the models that it was made of, and what fits do with it by default."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import xp
from xpjax.core.paths import DATA
from xpjax.core.status import FitStatus
from xpjax.stellar import LabelFitter, build_grid, fit_labels, interpolate_grid, read_grid, read_labels
from xpjax.stellar.grid_file import SHIPPED, shipped_grids
from xpjax.stellar.validation import every_fifth, left_out_models


def test_it_is_in_the_package_and_says_what_it_is() -> None:
    path = shipped_grids()[SHIPPED]
    assert path == DATA / "grid_ck04.h5"
    assert path.stat().st_size < 1e6
    grid = read_grid("ck04")
    assert (grid.names, grid.shape) == (("teff", "logg", "mh"), (39, 11, 8))
    assert [(x[0], x[-1]) for x in grid.nodes] == [(3500, 13000), (0, 5), (-2.5, 0.5)]
    record = json.loads(grid.provenance)
    assert "Castelli & Kurucz 2004" in record["citation"]
    assert "STScI" in record["licence"]
    assert record["left_out"]["rms"] < 5e-5
    assert (~grid.holes).sum() == 2752


def test_a_user_adds_grids_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPJAX_DATA", str(tmp_path))
    (tmp_path / "grid_mine.h5").write_bytes((DATA / "grid_ck04.h5").read_bytes())
    assert sorted(shipped_grids()) == ["ck04", "mine"]
    assert read_grid("mine").shape == read_grid("ck04").shape
    with pytest.raises(FileNotFoundError, match=r"no grid of that name; there are ck04, mine"):
        read_grid("other")


@pytest.mark.slow
def test_its_stated_error_holds(shared: Callable[[str], Path]) -> None:
    """Every model of the library is there, and what the file is wrong by is what it says."""
    models = build_grid("ck04", shared("grids/ck04"), resolution="xp", fill=False)
    grid = read_grid("ck04")
    assert grid.filled is not None
    assert np.array_equal(~models.holes, ~grid.holes & ~np.asarray(grid.filled))
    np.testing.assert_allclose(models.wavelength, grid.wavelength, rtol=1e-12)  # the last bit is the processor's
    off = (np.asarray(grid.flux) - np.asarray(models.flux))[~models.holes]
    stated = json.loads(grid.provenance)["left_out"]
    assert np.sqrt(np.mean(off**2)) < 1.05 * stated["rms"]
    assert np.sqrt(np.mean(off**2, axis=1)).max() < 1.001 * stated["worst"] < 3e-4


@pytest.mark.slow
def test_left_out_models_come_back() -> None:
    """What the guide states: 10 % at random, and every fifth value of each label, RMS as a fraction of the flux."""
    grid = read_grid("ck04")
    random = np.random.default_rng(0).random(grid.shape) < 0.1
    limits = {"random": (3e-4, 1.2e-3), "teff": (6e-4, 8e-3), "logg": (6e-4, 2.5e-3), "mh": (6e-4, 1.5e-3)}
    for name, (median, high) in limits.items():
        where = random if name == "random" else every_fifth(grid, grid.names.index(name))
        labels, error, expected = left_out_models(grid, where)
        assert len(labels) > 250
        assert np.median(error) < median, name
        assert np.quantile(error, 0.9) < high, name
        assert 0.4 < np.median(error / expected) < 1.6, name


@pytest.mark.slow
def test_fits_take_it_by_default(tmp_path: Path) -> None:
    """Python and the line of README agree, with files that have no more columns than spectra, and name no grid."""
    readme = (Path(xpjax.__file__).parents[1] / "README.md").read_text()
    words = next(shlex.split(line) for line in readme.splitlines() if "xpjax labels fit" in line)
    sources = dataclasses.replace(xpjax.simulate_sources(8, seed=3), columns={})
    xpjax.write(tmp_path / "stars.parquet", sources)
    ours = LabelFitter(error_floor=0.01)(sources)
    assert (ours.meta["grid"], ours.meta["correction"]) == ("ck04", "standard")
    result = xp(*(tmp_path / word if "." in word and not word[0].isdigit() else word for word in words[1:]))
    assert result.exit_code == 0, result.stderr
    again = read_labels(tmp_path / "labels.fits")
    assert again.fit.names == ("teff", "logg", "mh", "ebv")
    np.testing.assert_allclose(again.fit.labels, ours.fit.labels, rtol=1e-4, atol=2e-3)


@pytest.mark.slow
def test_a_star_between_its_models_is_found() -> None:
    """A star at a model that the grid lacks: every second temperature is taken away."""
    grid = read_grid("ck04").select({"teff": (4000, 9000), "logg": (3.0, 5.0), "mh": (-1.0, 0.5)})
    rest = grid.select({"teff": (4000, 9000, 500)})
    star = np.asarray(grid.flux)[5, 3, 2][None]  # 5250 K, log g 4.5, [M/H] 0
    fit = fit_labels(star, 0.01 * star, interpolate_grid(rest))
    assert fit.status[0] == FitStatus.OK
    assert (np.abs(fit.labels[0] - [5250, 4.5, 0.0]) < [30, 0.1, 0.05]).all(), fit.labels
