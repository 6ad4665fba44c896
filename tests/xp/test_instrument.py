"""Instrument models: grids, resolution, merge weights, and files that are none."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from xpjax.core.constants import SIGMA_PER_FWHM
from xpjax.xp import dispersion, merge_weights

GRID = np.arange(400.0, 901.0, 4.0)


def test_the_model_on_the_published_grid_is_the_published_matrix() -> None:
    """Below 450 nm the published matrix has another response; elsewhere it has seven digits."""
    instrument = xpjax.load_instrument()
    made = instrument.design(instrument.wavelength)
    red = instrument.wavelength > 450
    ours = (np.asarray(made.value) * made.scale)[:, red]
    published = instrument.default_design[:, red]
    assert np.abs(ours - published).max() < 1e-5 * np.abs(published).max()


def test_merge_weights_hand_over_linearly() -> None:
    np.testing.assert_allclose(merge_weights(np.array([600.0, 635.0, 637.0, 643.0, 700.0]))[1], [0, 0, 0.25, 1, 1])


def test_line_spread_is_a_gaussian_of_the_resolving_power() -> None:
    instrument = xpjax.load_instrument()
    fine = np.arange(330.0, 1050.0, 0.25)
    kernel = instrument.line_spread(GRID, fine)
    np.testing.assert_allclose(kernel.sum(axis=1), 1)
    mean = kernel @ fine
    width = np.sqrt(kernel @ fine**2 - mean**2)
    inside = (GRID > 420) & (GRID < 850)
    np.testing.assert_allclose(mean[inside], GRID[inside], atol=0.01)
    np.testing.assert_allclose(width[inside], (GRID / instrument.resolution(GRID) * SIGMA_PER_FWHM)[inside], rtol=1e-3)


def test_dispersion_ascends() -> None:
    assert set(dispersion()) == {"bp", "rp"}
    for wavelength, pseudo in dispersion().values():
        assert (np.diff(wavelength) > 0).all()
        assert (np.diff(pseudo) > 0).all() or (np.diff(pseudo) < 0).all()


def test_what_is_no_instrument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no instrument model 'v1'"):
        xpjax.load_instrument("v1")
    with pytest.raises(FileNotFoundError, match="no instrument file"):
        xpjax.load_instrument(path=tmp_path / "absent.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["wavelength"] = GRID
    with pytest.raises(ValueError, match=r"other\.h5 is no xpjax instrument file"):
        xpjax.load_instrument(path=tmp_path / "other.h5")
