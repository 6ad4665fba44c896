"""Errors of the interpolation in chi2 and in the errors of labels: against covariances written out, and mocks."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import xpjax
from tests.stellar.helpers import WAVELENGTH, made_grid, made_labels, spectrum
from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import pack
from xpjax.stellar.chi2 import Data, Part, Reach, Spread
from xpjax.stellar.doubt import SHARE, doubted
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid, fill_holes
from xpjax.stellar.grid_file import grid_digest, read_grid, write_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra

PLACE = (WAVELENGTH - 360) / 630
HOLES = ((0, 0, 0), (4, 1, 2), (5, 2, 1), (8, 3, 4))


def rough_grid(size: float = 0.012, holes: tuple[tuple[int, ...], ...] = ()) -> StellarGrid:
    """The made grid with models that are wrong, each in its own way, and what is found of it by leaving out each."""
    grid, rng = made_grid(holes=holes), np.random.default_rng(5)
    shapes = np.array([np.cos(k * PLACE) for k in (1, 2, 4, 7)])
    flux = np.asarray(grid.flux) * (1 + size * rng.normal(size=(*grid.shape, len(shapes))) @ shapes)
    return fill_holes(dataclasses.replace(grid, flux=flux / flux.mean(axis=-1, keepdims=True)))


@pytest.fixture(scope="module")
def grid() -> StellarGrid:
    return rough_grid(holes=HOLES)


@pytest.fixture(scope="module")
def model(grid: StellarGrid) -> Interpolator:
    return interpolate_grid(grid, components=None)


def by_hand(grid: StellarGrid, labels: np.ndarray) -> np.ndarray:
    """What the spectrum at labels (3,) may be wrong by, (n, n_wavelength)."""
    rows, flux = [], np.asarray(grid.flux)
    cell = [int(np.searchsorted(x, at, side="right")) - 1 for x, at in zip(grid.nodes, labels, strict=True)]
    part = [(at - x[k]) / (x[k + 1] - x[k]) for x, at, k in zip(grid.nodes, labels, cell, strict=True)]
    assert grid.doubt is not None
    for corner in itertools.product((0, 1), repeat=3):
        node = tuple(k + c for k, c in zip(cell, corner, strict=True))
        weight = np.prod([u if c else 1 - u for u, c in zip(part, corner, strict=True)])
        rows.append(SHARE * np.sqrt(weight) * grid.doubt[node] * flux[node])
    for axis in range(3):
        values = flux
        for label in reversed(range(3)):
            x, first = np.asarray(grid.nodes[label]), cell[label] - 1
            x, values = x[first : first + 4], np.moveaxis(values, label, 0)[first : first + 4]
            left, right = (
                np.array([np.prod([(labels[label] - p) / (q - p) for p in few if p != q]) for q in few])
                for few in (x[:3], x[1:])
            )
            sides = [np.tensordot(w, v, axes=1) for w, v in ((left, values[:3]), (right, values[1:]))]
            values = sides[0] - sides[1] if label == axis else (1 - part[label]) * sides[0] + part[label] * sides[1]
        rows.append(SHARE * values)
    return np.array(rows)


def doubts(model: Interpolator, labels: np.ndarray) -> np.ndarray:
    with engine.precision(True):
        at = jnp.asarray(labels)
        return np.asarray(model.doubts(at, model.locate(at)) @ model.basis)


def test_doubt_is_what_left_out_models_come_back_wrong_by(grid: StellarGrid) -> None:
    assert grid.doubt is not None
    assert grid.filled is not None
    assert grid.error is not None
    there = ~grid.holes
    size = np.sqrt(np.mean((grid.doubt * grid.flux)[there] ** 2, axis=-1))
    known = there & ~grid.filled
    whole = np.sqrt(np.mean(np.asarray(grid.flux)[known] ** 2))
    finite = np.isfinite(grid.error[there])
    np.testing.assert_allclose(size[finite] / whole, grid.error[there][finite], rtol=1e-3)
    assert grid.filled.any()
    assert finite.mean() > 0.95
    assert np.median(fill_holes(made_grid()).error) < 0.3 * np.median(grid.error[known])


def test_doubt_between_nodes(grid: StellarGrid, model: Interpolator) -> None:
    """Corners with the roots of their weights, and what two parabolas differ by."""
    for labels in ([4530.0, 4.13, -0.6], [4700.0, 4.4, -0.2]):
        expected = by_hand(grid, np.array(labels))
        expected[:8] -= expected[:8].mean(axis=1, keepdims=True) * model_spectra(model, [labels], float64=True)
        np.testing.assert_allclose(doubts(model, np.array(labels)), expected, atol=2e-4 * np.abs(expected).max())
    assert np.sum(np.abs(doubts(model, np.array([4600.0, 4.0, -0.5]))).max(axis=1) > 1e-9) == 1, "at a node its own"


def test_sums_of_columns_count_as_templates_do() -> None:
    """The same rows as templates of pixels, whose algebra is another."""
    rng, n, share = np.random.default_rng(0), 60, np.full(60, 1 / 60)
    columns, rows, t = rng.normal(size=(7, n)), 3 * rng.normal(size=(4, 7)), rng.normal(size=7)
    weight, value, slopes = rng.uniform(0.5, 2, n), rng.normal(size=n), rng.normal(size=(3, 7))
    spread = Spread(
        Reach((rng.normal(size=(5, 40)), rng.normal(size=(6, 30))), ((0, 40), (30, 60))), rng.uniform(size=11)
    )
    with engine.precision(True):
        own = Part(*map(jnp.asarray, (value, columns, weight)))
        matrix = jnp.asarray((columns * weight) @ columns.T)
        ours, made = doubted(Data((own,)), matrix, jnp.asarray(rows))
        theirs, expected = Data((own._replace(templates=jnp.asarray(rows @ columns)),)).widened(matrix)
        inverse = jnp.linalg.inv(slopes @ expected @ slopes.T)
        alone = float(Data((own,)).chi2(jnp.asarray(t)))
        pairs = [(made, expected), *((of.chi2(jnp.asarray(t)), of.gradient(jnp.asarray(t)), of.product(),
                 of.noise(jnp.asarray(slopes)), of.expected(spread, share, t, jnp.asarray(slopes), inverse))
                 for of in (ours, theirs))]  # fmt: skip
    np.testing.assert_allclose(*pairs[0], rtol=1e-9, atol=1e-9)
    for one, other in zip(*pairs[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)
    assert alone > 1.5 * float(pairs[1][0]), "what would fail"


@pytest.mark.slow
@pytest.mark.parametrize("case", ["diagonal", "some samples", "correlated", "scale"])
def test_chi2_and_errors_are_those_of_the_whole_covariance(model: Interpolator, case: str) -> None:
    labels = 0.6 * made_labels(30, seed=3) + 0.4 * np.array([4700, 4.3, -0.6])
    truth, part = spectrum(labels), 0.005
    flux = truth * (1 + part * np.random.default_rng(1).normal(size=truth.shape))
    used, options, matrix = np.ones(len(WAVELENGTH), bool), {}, np.eye(len(WAVELENGTH))
    if case == "some samples":
        used = (WAVELENGTH > 400) & (np.arange(len(WAVELENGTH)) % 7 != 0)
        options: dict[str, Any] = {"used": used}
    if case == "correlated":
        distance = np.abs(np.subtract.outer(np.arange(len(WAVELENGTH)), np.arange(len(WAVELENGTH))))
        matrix = 0.9 * np.exp(-distance / 3) + 0.1 * np.eye(len(WAVELENGTH))
        options = {"correlation": np.asarray(pack(matrix))}
    if case == "scale":
        options = {"normalization": "scale"}
    fit = fit_labels(3 * flux, 3 * part * truth, model, float64=True, **options)
    good, ratio = np.flatnonzero(fit.status == 0), []
    assert len(good) > 20
    for i in good:
        mean = flux[i, used].mean()
        normal = model_spectra(model, fit.labels[i : i + 1], float64=True)[0]
        sigma, floor = part * truth[i, used] / mean, 0.002 * flux[i, used] / mean
        noise = matrix[np.ix_(used, used)] * sigma[:, None] * sigma + np.diag(floor**2)
        step = np.diag([2.0, 0.002, 0.002])
        up, down = (model_spectra(model, fit.labels[i] + s * step, float64=True) for s in (1, -1))
        rows = np.concatenate([(up - down) / (2 * np.diagonal(step)[:, None]), doubts(model, fit.labels[i])])[:, used]
        own, data = normal[used], flux[i, used] / mean
        if case == "scale":
            scale = data.mean()
            rows = np.concatenate([scale * rows, own[None]])
            left = np.eye(len(rows))[[0, 1, 2, -1]]
        else:
            rows = (rows - own * rows.mean(axis=1, keepdims=True) / own.mean()) / own.mean()
            own, left = own / own.mean(), np.eye(len(rows))[:3]
        wrong = rows[3 : 3 + 11]
        inverse = np.linalg.inv(noise + wrong.T @ wrong)
        total = np.linalg.inv(left @ rows @ inverse @ rows.T @ left.T)
        off = data - own * (own @ inverse @ data) / (own @ inverse @ own) if case == "scale" else data - own
        made = total @ left @ rows @ inverse
        formal = np.sqrt(np.diagonal(made @ noise @ made.T))[:3]
        errors = np.sqrt(np.diagonal(total))[:3]
        ratio.append([fit.chi2[i] / (off @ inverse @ off), *(fit.error[i] / errors), *(fit.error_formal[i] / formal)])
    # The doubt is that of the place where the last steps began.
    np.testing.assert_allclose(np.median(ratio, axis=0), 1, atol=0.01)
    assert np.quantile(np.abs(np.array(ratio) - 1), 0.9) < 0.05
    alone = fit_labels(3 * flux, 3 * part * truth, model, float64=True, doubt=False, **options)
    assert alone.error_formal is None
    assert np.nanmedian(alone.error / fit.error) < 0.8, "what would fail"


@pytest.mark.slow
def test_errors_cover_what_models_are_wrong_by() -> None:
    """Mocks are spectra without the errors of the grid's models."""
    grid = rough_grid()
    labels = 0.8 * made_labels(600, seed=7) + 0.2 * np.array([4800, 4.2, -0.6])
    truth = spectrum(labels)
    flux = truth * (1 + 0.003 * np.random.default_rng(2).normal(size=truth.shape))
    found = {doubt: fit_labels(flux, 0.003 * truth, grid, doubt=doubt) for doubt in (True, False)}
    pulls = {doubt: ((fit.labels - labels) / fit.error)[fit.status == 0] for doubt, fit in found.items()}
    spread = {doubt: 1.4826 * np.median(np.abs(pull), axis=0) for doubt, pull in pulls.items()}
    far = {doubt: np.mean((np.abs(pull) > 8).any(axis=1)) for doubt, pull in pulls.items()}
    assert np.all((spread[True] > 0.6) & (spread[True] < 1.4)), spread
    assert far[True] <= 0.005
    assert np.median((found[True].chi2 / found[True].dof)[found[True].status == 0]) < 1.2
    assert np.all(spread[False] > 2), "what would fail"
    assert far[False] > 0.05, "what would fail"
    scatter = {k: np.nanmedian(np.abs(fit.labels - labels), axis=0) for k, fit in found.items()}
    assert np.all(scatter[True] < 1.05 * scatter[False]), "and labels are nearer to the truth, or as near"


def test_a_grid_without_doubt_is_fitted_as_before() -> None:
    grid = made_grid()
    labels = made_labels(20, seed=1)
    flux = spectrum(labels) * (1 + 0.01 * np.random.default_rng(0).normal(size=(20, len(WAVELENGTH))))
    one, other = (fit_labels(flux, 0.01 * flux, grid, doubt=doubt) for doubt in (True, False))
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.covariance, other.covariance)
    assert one.error_formal is None


def test_files_keep_it(grid: StellarGrid, tmp_path: Path) -> None:
    assert grid.doubt is not None
    write_grid(grid, tmp_path / "whole.h5")
    np.testing.assert_allclose(read_grid(tmp_path / "whole.h5").doubt, grid.doubt, rtol=1e-6)
    write_grid(grid, tmp_path / "compact.h5", compact=1e-4)
    small = np.asarray(read_grid(tmp_path / "compact.h5").doubt)
    assert np.sqrt(np.mean((small - grid.doubt) ** 2)) < 0.051 * np.sqrt(np.mean(grid.doubt**2))
    plain = dataclasses.replace(grid, doubt=None)
    write_grid(plain, tmp_path / "plain.h5")
    assert read_grid(tmp_path / "plain.h5").doubt is None
    assert grid_digest(plain) != grid_digest(grid) == grid_digest(read_grid(tmp_path / "whole.h5"))


def test_nodes_that_are_left_keep_theirs(grid: StellarGrid) -> None:
    few = grid.select({"teff": (4200, 5000), "mh": (-1.0, 0.0)})
    assert grid.doubt is not None
    np.testing.assert_array_equal(few.doubt, grid.doubt[1:6, :, 1:4])
    red = redden(grid, [0.0, 0.1, 0.2], r_v=[2.6, 3.1, 3.6])
    assert np.shape(red.doubt) == (*grid.shape, 1, 1, len(WAVELENGTH))
    np.testing.assert_array_equal(
        red.select({"ebv": (0.1, None), "teff": (4200, None)}).doubt[..., 0, 0, :], grid.doubt[1:]
    )
    with pytest.raises(XpjaxError, match="doubt has shape"):
        dataclasses.replace(grid, doubt=grid.doubt[:-1])


def test_dust_dims_doubt_as_it_dims_stars(grid: StellarGrid) -> None:
    """Doubt is a fraction of the flux; along E(B-V) there is none, and corners are not independent."""
    nodes = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    red, plain = (interpolate_grid(one, components=None) for one in (redden(grid, nodes), grid))
    labels = np.array([4530.0, 4.13, -0.6])
    seen, bare = doubts(red, np.array([*labels, 0.2])), doubts(plain, labels)
    assert len(seen) == len(bare) == 11
    dust = model_spectra(red, [[*labels, 0.2]], float64=True) / model_spectra(plain, labels[None], float64=True)
    own = bare * dust
    own -= own.mean(axis=1, keepdims=True) * model_spectra(red, [[*labels, 0.2]], float64=True)
    np.testing.assert_allclose(seen, own, atol=0.02 * np.abs(own).max())


@pytest.mark.slow
def test_sources_are_fitted_with_it(grid: StellarGrid) -> None:
    """With the covariance of coefficients, and with the chi2 that their noise lets expect; and draws."""
    table = xpjax.simulate_sources(60, seed=4)
    table = table[np.flatnonzero(table.columns["phot_g_mean_mag"] < 17)[:8]]
    how: dict[str, Any] = {"correction": None, "truncate": False}
    for more in ({"covariance": True, "error_floor": 0.02}, {}):
        fit = xpjax.stellar.LabelFitter(grid, **how, **more)(table).fit
        bare = xpjax.stellar.LabelFitter(grid, **how, **more, options={"doubt": False})(table).fit
        assert np.all(np.isfinite(fit.labels))
        assert np.all(fit.chi2 <= bare.chi2 + 0.1)
        assert fit.error_formal is not None
        assert np.all(fit.error_formal[fit.status == 0] <= fit.error[fit.status == 0] * 1.001)
    flux = spectrum(made_labels(3, seed=2))
    drawn = fit_labels(flux, 0.01 * flux, grid, posterior=400)
    assert drawn.draws is not None
    np.testing.assert_allclose(np.std(drawn.draws, axis=1) / drawn.error, 1, atol=0.35)
