"""Interpolation: against scipy, against polynomials it must reproduce, and where it must give nothing."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from astropy import units
from scipy.interpolate import BSpline, RegularGridInterpolator, make_interp_spline

from tests.stellar.helpers import NODES, made_grid, made_labels, tensor
from xpjax.extinction import extinction_curve, transmission
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import KINDS, interpolate_grid, model_spectra


def not_a_knot(nodes: np.ndarray, values: np.ndarray, axis: int) -> BSpline:
    return make_interp_spline(nodes, values, k=min(3, len(nodes) - 1), axis=axis)


def nested_spline(grid: StellarGrid, labels: np.ndarray) -> np.ndarray:
    """Not-a-knot splines of scipy, one label after the other."""
    return tensor(grid, labels, not_a_knot)


def quadratic(labels: np.ndarray) -> np.ndarray:
    """Two samples whose mean is one, quadratic in labels scaled to -1..1, with a product of two of them."""
    u = (labels - [5000, 4.2, -0.5]) / [1000, 0.7, 0.8]
    x = 0.2 * u[..., 0] ** 2 - 0.1 * u[..., 1] ** 2 + 0.05 * u[..., 2] + 0.03 * u[..., 0] * u[..., 1] * u[..., 2]
    return np.stack([1 + x, 1 - x], axis=-1)


def quadratic_grid(holes: tuple[tuple[int, ...], ...] = ()) -> StellarGrid:
    flux = quadratic(np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1))
    for hole in holes:
        flux[hole] = np.nan
    return StellarGrid(NODES, flux, np.array([400.0, 500.0]), ("teff", "logg", "mh"))


def test_spline_is_scipys_and_notices_a_wrong_node() -> None:
    grid, labels = made_grid(), made_labels(20)
    ours = model_spectra(interpolate_grid(grid, kind="spline", components=None), labels, float64=True)
    np.testing.assert_allclose(ours, nested_spline(grid, labels), rtol=1e-10)
    wrong = np.array(grid.flux)
    wrong[4, 2, 2] *= 1.001
    assert np.abs(nested_spline(dataclasses.replace(grid, flux=wrong), labels) - ours).max() > 1e-5


def test_linear_is_scipys() -> None:
    grid, labels = made_grid(), made_labels(50)
    ours = model_spectra(interpolate_grid(grid, kind="linear", components=None), labels, float64=True)
    np.testing.assert_allclose(ours, RegularGridInterpolator(grid.nodes, grid.flux)(labels), rtol=1e-10)


def test_two_nodes_make_a_line_and_three_a_parabola() -> None:
    nodes = (NODES[0][:3], NODES[1][:2], NODES[2])
    grid = made_grid(nodes)
    labels = np.random.default_rng(1).uniform([x[0] for x in nodes], [x[-1] for x in nodes], (20, 3))
    ours = model_spectra(interpolate_grid(grid, kind="spline", components=None), labels, float64=True)
    np.testing.assert_allclose(ours, nested_spline(grid, labels), rtol=1e-10)


@pytest.mark.parametrize("holes", [(), ((3, 1, 2),), ((0, 0, 0), (4, 3, 1), (5, 3, 1))])
def test_local_cubics_reproduce_parabolas_at_edges_and_next_to_holes(holes: tuple) -> None:
    labels = made_labels(400)
    model = interpolate_grid(quadratic_grid(holes), kind="local", components=None)
    ours = model_spectra(model, labels, float64=True)
    hole = np.isnan(ours).any(axis=1)
    assert hole.any() == bool(holes)
    np.testing.assert_allclose(ours[~hole], quadratic(labels)[~hole], rtol=1e-10)
    assert np.abs(ours[~hole] - quadratic(labels * [1, 1, 1.02])[~hole]).max() > 1e-4


def test_local_cubics_next_to_holes_have_no_steps() -> None:
    model = interpolate_grid(made_grid(holes=((4, 1, 2), (4, 2, 2))), components=None)
    assert model.kind == "local"
    edges = np.array([[x, 4.6, m] for x in NODES[0][1:-1] for m in (-1.4, -0.2, 0.1)])
    below, above = (model_spectra(model, edges + np.array([d, 0, 0]), float64=True) for d in (-1e-6, 1e-6))
    both = np.isfinite(below).all(axis=1) & np.isfinite(above).all(axis=1)
    assert both.sum() > 10
    np.testing.assert_allclose(below[both], above[both], rtol=1e-7)


def test_nothing_beyond_the_grid_or_in_a_hole() -> None:
    model = interpolate_grid(made_grid(holes=((4, 1, 2),)))
    inside, hole, low, high = [4300, 3.7, -1.2], [4850, 4.1, -0.4], [3999, 4, 0], [5000, 4, 0.31]
    known = np.isfinite(model_spectra(model, [inside, hole, low, high])).all(axis=1)
    np.testing.assert_array_equal(known, [True, False, False, False])
    corners = [[4000, 3.5, -1.5], [6200, 5.0, 0.3]]
    assert np.isfinite(model_spectra(model, corners)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_exact(kind: str) -> None:
    model = interpolate_grid(made_grid(), kind=kind)
    with jax.enable_x64(True):
        for x in made_labels(3, seed=4):
            flux, slopes = model.value_and_gradient(x)
            np.testing.assert_allclose(jax.jacfwd(model)(x).T, slopes, rtol=1e-9, atol=1e-12)
            for label, step in enumerate((1e-2, 1e-5, 1e-5)):
                shift = step * np.eye(3)[label]
                numeric = (model(x + shift) - model(x - shift)) / (2 * step)
                np.testing.assert_allclose(slopes[label], numeric, rtol=1e-5, atol=1e-7 * np.abs(slopes[label]).max())
            np.testing.assert_array_equal(flux, model(x))


def test_compression_says_what_it_leaves_out() -> None:
    grid = made_grid()
    model = interpolate_grid(grid, components=3)
    nodes = np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1).reshape(-1, 3)
    flux = grid.flux.reshape(len(nodes), -1)
    left = (model_spectra(model, nodes, float64=True) - flux) / flux.mean(axis=0)
    np.testing.assert_allclose(np.sqrt(np.mean(left**2)), model.compression_rms, rtol=1e-6)
    np.testing.assert_allclose(np.abs(left).max(), model.compression_max, rtol=1e-6)
    assert model.compression_rms > 10 * interpolate_grid(grid, components=8).compression_rms


def test_reddened_grids_follow_the_law_between_their_nodes() -> None:
    grid = made_grid()
    red = redden(grid, np.arange(0, 1.01, 0.1))
    assert red.names == (*grid.names, "ebv")
    dust = np.asarray(transmission(extinction_curve(grid.wavelength), 0.437))
    expected = grid.flux[3, 1, 2] * dust
    found = model_spectra(interpolate_grid(red, components=None), [[4600, 4.0, -0.5, 0.437]], float64=True)[0]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=2e-4)


def test_grids_that_cannot_be_interpolated_are_refused() -> None:
    grid = made_grid()
    with pytest.raises(ValueError, match="choose from"):
        interpolate_grid(grid, kind="quintic")
    with pytest.raises(ValueError, match="kind='local'"):
        interpolate_grid(made_grid(holes=((0, 0, 0),)), kind="spline")
    with pytest.raises(ValueError, match="nothing to interpolate"):
        interpolate_grid(made_grid((NODES[0], NODES[1][:1], NODES[2])))
    with pytest.raises(ValueError, match="no cell"):
        interpolate_grid(
            dataclasses.replace(grid, flux=np.where(np.arange(9)[:, None, None, None] % 2, np.nan, grid.flux))
        )
    with pytest.raises(ValueError, match="labels must be"):
        model_spectra(grid, [4000, 4, 0])
    with pytest.raises(ValueError, match="ascending"):
        redden(grid, [0.0])
    with pytest.raises(ValueError, match="cannot be reddened"):
        redden(dataclasses.replace(grid, sampling="coefficients"), [0.0, 0.1])


def test_labels_with_units_are_converted_or_refused() -> None:
    grid, ebv = made_grid(), np.array([0.0, 0.1])
    assert redden(grid, ebv * units.mag).nodes[-1].tolist() == [0, 0.1]
    assert redden(grid, ebv * 1000 * units.mmag).nodes[-1] == pytest.approx(ebv)
    with pytest.raises(ValueError, match=r"E\(B-V\) has the unit K"):
        redden(grid, ebv * units.K)
    with pytest.raises(ValueError, match="labels has the unit K; expected numbers without one"):
        model_spectra(grid, np.array([[5000, 4.5, 0]]) * units.K)
    flux = np.ones((1, len(grid.wavelength)))
    with pytest.raises(ValueError, match="prior of teff has the unit m; expected values in K"):
        fit_labels(flux, flux, grid, priors={"teff": (5 * units.m, 1 * units.m)})
