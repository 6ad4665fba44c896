"""Grids: assembled from libraries with and without holes, kept in files, and checked against the Sun."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator, RBFInterpolator

import xpjax
from tests.stellar.helpers import tensor
from tests.stellar.libraries.test_files import WAVE, spectrum, write_ck04, write_nextgen
from xpjax.core.status import FitStatus
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid, build_grid, fill_holes
from xpjax.stellar.grid_file import read_grid, write_grid
from xpjax.stellar.interpolation import interpolate_grid
from xpjax.stellar.libraries import read_library
from xpjax.stellar.libraries.library import ModelSpectra
from xpjax.stellar.sampling import Sampler, find_resolution

TEFF, LOGG, MH = (4000.0, 4250.0, 5000.0), (4.0, 4.5, 5.0), (-1.0, 0.0)
NODES = np.array([[t, g, m] for t in TEFF for g in LOGG for m in MH])
HOLES = ((4000.0, 4.5, 0.0), (4250.0, 4.0, -1.0))
NEXTGEN = "grids/nextgen/nextgen_1nm_300_1100.npz"
BLOCK = {"teff": (4000, 7000, 200), "logg": (3.5, 5), "mh": (-1.5, 0, 0.5)}
AT = np.arange(400.0, 901.0, 20.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A library with two holes, in no order."""
    rows = np.array([row for row in NODES.tolist() if tuple(row) not in HOLES])
    return write_nextgen(tmp_path / "models.npz", np.random.default_rng(0).permutation(rows))


def made(path: Path, **options: Any) -> StellarGrid:
    return build_grid("nextgen", path, resolution="own", sampling=AT, **{"fill": False, **options})


def test_models_come_to_their_nodes(path: Path) -> None:
    grid = made(path)
    assert (grid.names, grid.shape) == (("teff", "logg", "mh"), (3, 3, 2))
    assert [node.tolist() for node in grid.nodes] == [list(TEFF), list(LOGG), list(MH)]
    assert {tuple(row) for row in grid.labels_of(grid.holes).tolist()} == set(HOLES)
    assert np.isnan(grid.flux[grid.holes]).all()
    for labels in NODES.tolist():
        if tuple(labels) in HOLES:
            continue
        index = tuple(np.searchsorted(node, x) for node, x in zip(grid.nodes, labels, strict=True))
        expected = np.interp(AT, WAVE, spectrum(*labels))
        assert np.allclose(grid.flux[index], expected / expected.mean(), rtol=1e-9)
    record = json.loads(grid.provenance)
    assert (record["n_model"], record["n_file"], record["source"]) == (16, 1, "models.npz")
    assert (grid.resolution, grid.sampling, grid.filled) == ("as in the library", "own", None)


def test_limits_and_labels_of_one_value(path: Path) -> None:
    grid = made(path, limits={"teff": (4000, None, 500), "mh": (0, 0)})
    assert (grid.names, grid.shape) == (("teff", "logg"), (2, 3))
    assert grid.nodes[0].tolist() == [4000, 5000]
    assert grid.origin.endswith("models.npz, mh = 0")
    assert made(path).select({"logg": (4.2, 5)}).shape == (3, 2, 2)
    with pytest.raises(ValueError, match=r"one model, .* is no grid"):
        made(path, limits={"teff": (4000, 4000), "logg": (4, 4), "mh": (0, 0)})
    with pytest.raises(ValueError, match=r"models.npz: no model is within the limits .*; widen them"):
        made(path, limits={"teff": (9000, None)})
    with pytest.raises(ValueError, match="no label alpha to limit"):
        made(path).select({"alpha": (0, 1)})
    with pytest.raises(ValueError, match="no node of mh is within"):
        made(path).select({"mh": (3, 4)})


def test_two_models_of_the_same_labels(tmp_path: Path) -> None:
    twice = write_nextgen(tmp_path / "t.npz", np.vstack([NODES, NODES[:1]]))
    with pytest.raises(ValueError, match=r"t.npz: two models have the same labels, teff 4000, logg 4, mh -1;"):
        made(twice)


def smooth(teff: np.ndarray, logg: np.ndarray) -> StellarGrid:
    """A grid of two labels whose spectra are smooth."""
    t, g, x = teff[:, None, None] / 5000, logg[:, None], np.linspace(-1, 1, 20)
    flux = np.exp(0.4 * np.sin(2 * t + x) + 0.1 * g * np.cos(3 * x + t))
    return StellarGrid((teff, logg), flux / flux.mean(axis=-1, keepdims=True), 500 + 100 * x, ("teff", "logg"))


def with_holes(grid: StellarGrid, holes: np.ndarray) -> StellarGrid:
    flux = np.array(grid.flux)
    flux[holes] = np.nan
    return dataclasses.replace(grid, flux=flux)


def test_holes_between_models_are_filled_with_a_stated_error(path: Path) -> None:
    full, empty = smooth(np.arange(4000.0, 7001, 250), np.arange(1.0, 5.1, 0.5)), made(path)
    holes = np.zeros(full.shape, bool)
    holes[3, 2:5] = holes[8, 6] = holes[5:8, 4] = True
    grid = fill_holes(with_holes(full, holes))
    assert grid.filled is not None
    assert grid.error is not None
    assert np.array_equal(grid.filled, holes)
    assert not grid.holes.any()
    assert np.array_equal(grid.flux[~holes], full.flux[~holes])
    assert np.allclose(grid.flux.mean(axis=-1), 1, rtol=1e-9)
    off = np.sqrt(np.mean((grid.flux - full.flux)[holes] ** 2, axis=-1))
    assert off.max() < 2e-4
    assert (off < 4 * grid.error[holes]).all(), off / grid.error[holes]
    assert np.median(grid.error[holes] / off) < 10
    # A library as it is built: holes are filled unless that is declined, and nothing else changes.
    filled = build_grid("nextgen", path, resolution="own", sampling=AT)
    assert filled.filled is not None
    assert {tuple(row) for row in filled.labels_of(np.asarray(filled.filled)).tolist()} == set(HOLES)
    assert np.array_equal(filled.flux[~filled.filled], empty.flux[~empty.holes])
    with pytest.raises(ValueError, match=r"holes filled up to an error of 2: give a fraction of the flux"):
        made(path, fill=2)


def test_the_domain_is_that_of_the_models_and_no_box() -> None:
    """Steps of a border are closed, nothing is made beyond them, and no gap that is too wide to be known."""
    full = smooth(np.arange(4000.0, 7001, 250), np.arange(1.0, 5.1, 0.5))
    holes = np.zeros(full.shape, bool)
    for i, first in enumerate((0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3)):
        holes[i, :first] = True
    grid = fill_holes(with_holes(full, holes))
    assert grid.filled is not None
    assert np.argwhere(grid.filled).tolist() == [[3, 0], [6, 1], [10, 2]]
    assert grid.holes.sum() == holes.sum() - 3
    # Again, from what is known: what was filled makes no further steps.
    assert np.array_equal(np.asarray(fill_holes(grid).flux), np.asarray(grid.flux), equal_nan=True)
    gap = np.zeros(full.shape, bool)
    gap[2:11] = True
    assert fill_holes(with_holes(full, gap), 1e-4).holes[4:9].all()
    assert not fill_holes(with_holes(full, gap), 0.5).holes.any()
    # Two models say nothing of a third.
    few = dataclasses.replace(full, nodes=(full.nodes[0][:3], full.nodes[1][:1]), flux=full.flux[:3, :1])
    assert fill_holes(with_holes(few, np.array([[False], [True], [False]]))).holes.sum() == 1


def test_a_compact_file_says_what_it_leaves_out(tmp_path: Path) -> None:
    grid = fill_holes(with_holes(smooth(np.arange(4000.0, 7001, 250), np.arange(1.0, 5.1, 0.5)), np.eye(13, 9) > 0))
    write_grid(grid, tmp_path / "whole.h5")
    write_grid(grid, tmp_path / "small.h5", compact=1e-4)
    again, whole = read_grid(tmp_path / "small.h5"), read_grid(tmp_path / "whole.h5")
    left = json.loads(again.provenance)["left_out"]
    off = np.asarray(again.flux) - np.asarray(whole.flux)
    assert np.array_equal(again.holes, grid.holes)
    assert left["rms"] == pytest.approx(np.sqrt(np.nanmean(off**2)), rel=1e-6)
    assert left["worst"] == pytest.approx(np.sqrt(np.nanmax(np.mean(off**2, axis=-1))), rel=1e-6)
    assert 1e-5 < left["rms"] < 1.2e-4
    assert left["n_component"] < 8
    assert (tmp_path / "small.h5").stat().st_size < (tmp_path / "whole.h5").stat().st_size
    for name in ("filled", "error"):
        assert np.array_equal(getattr(again, name), getattr(grid, name), equal_nan=name == "error")
    for compact in (-1, 1, 20):
        with pytest.raises(ValueError, match="expected a fraction of the flux such as 5e-5"):
            write_grid(grid, tmp_path / "no.h5", compact=compact)


def test_a_file_holds_all(path: Path, tmp_path: Path) -> None:
    grid = made(path, fill=True)
    file = tmp_path / "grid.h5"
    write_grid(grid, file)
    again = read_grid(file)
    for name in ("flux", "wavelength", "filled", "error"):
        assert np.array_equal(getattr(grid, name), getattr(again, name), equal_nan=name == "flux")
    for name in ("names", "resolution", "sampling", "origin", "provenance"):
        assert getattr(grid, name) == getattr(again, name)
    assert all(np.array_equal(a, b) for a, b in zip(grid.nodes, again.nodes, strict=True))
    with h5py.File(file) as plain:
        assert list(plain.attrs["names"]) == ["teff", "logg", "mh"]
        assert plain["flux"].shape == (3, 3, 2, len(AT))
        assert plain["nodes/teff"].attrs["unit"] == "K"
        assert len(json.loads(plain.attrs["provenance"])["sha256"]) == 64
    with pytest.raises(FileExistsError, match=r"grid.h5 exists"):
        write_grid(grid, file)
    write_grid(made(path), file, overwrite=True)
    assert read_grid(file).filled is None
    with pytest.raises(ValueError, match="a grid is an HDF5 file"):
        write_grid(grid, tmp_path / "grid.fits")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.h5", "models.npz"]


def test_files_that_are_no_grids(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no grid file"):
        read_grid(tmp_path / "none.h5")
    with pytest.raises(
        ValueError, match=r"models.npz is no grid of model spectra .*`xpjax labels grid build` makes one"
    ):
        read_grid(path)
    file = tmp_path / "grid.h5"
    write_grid(made(path), file)
    with h5py.File(file, "a") as plain:
        plain.attrs["format_version"] = 99
    with pytest.raises(ValueError, match="has format version 99, this xpjax knows 2: update"):
        read_grid(file)
    with h5py.File(file, "a") as plain:
        plain.attrs["format"] = "another"
    with pytest.raises(ValueError, match="no attribute format"):
        read_grid(file)


def test_records_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"flux has shape \(2, 3\), expected \(2, 4\): the nodes of teff, then"):
        StellarGrid((np.arange(2.0),), np.ones((2, 3)), np.arange(4.0), ("teff",))
    with pytest.raises(ValueError, match="the nodes of teff do not ascend"):
        StellarGrid((np.zeros(2),), np.ones((2, 3)), np.arange(3.0), ("teff",))


def test_formats_agree(tmp_path: Path) -> None:
    """The same models from two formats make the same grid."""
    rows = np.array([[t, g, 0.0] for t in (5000.0, 5250.0) for g in (4.0, 4.5)])
    npz = write_nextgen(tmp_path / "models.npz", rows, flux=np.stack([spectrum(*r) for r in rows]).astype(np.float32))
    for teff in (5000, 5250):
        write_ck04(tmp_path / "ck", teff, 0.0, (4.0, 4.5))
    one, two = made(npz), build_grid("ck04", tmp_path / "ck", resolution="own", sampling=AT)
    assert one.names == two.names
    assert np.allclose(one.flux, two.flux, rtol=1e-6)


# --- real libraries ---------------------------------------------------------------------------------------------------


def test_the_regular_block_of_nextgen(shared: Callable[[str], Path]) -> None:
    """No holes from 4000 to 7000 K by 200 K; with all temperatures and [M/H] = -1.3 there are 23."""
    grid = build_grid("nextgen", shared(NEXTGEN), limits=BLOCK)
    assert (grid.shape, int(grid.holes.sum())) == ((16, 4, 4), 0)
    assert np.allclose(grid.flux.mean(axis=-1), 1, rtol=1e-12)
    assert (grid.resolution, grid.sampling, len(grid.wavelength)) == ("R = 104", "log330", 330)
    limits = {name: limit[:2] for name, limit in BLOCK.items()}
    dense = build_grid("nextgen", shared(NEXTGEN), limits=limits, fill=False)
    assert (dense.shape, int(dense.holes.sum())) == ((21, 4, 5), 23)
    assert not build_grid("nextgen", shared(NEXTGEN), limits=limits).holes.any()
    same = dense.select(BLOCK)
    assert np.array_equal(same.flux, grid.flux)


def test_xp_coefficients_as_samples(shared: Callable[[str], Path]) -> None:
    limits = {"teff": (5000, 6000, 200), "logg": (4.5, 5), "mh": (0, 0)}
    grid = build_grid("nextgen", shared(NEXTGEN), resolution="xp", sampling="coefficients", limits=limits)
    assert grid.flux.shape == (6, 2, xpjax.load_instrument().release.n_basis_total)
    assert grid.sampling == "coefficients"
    assert 0 < json.loads(grid.provenance)["missed_rms"]["largest"] < 8e-3


def test_castelli_and_kurucz_have_the_colors_of_the_sun(shared: Callable[[str], Path]) -> None:
    """g-r, r-i, i-z of 5772 K, log g 4.44, through SDSS: 0.44, 0.11, 0.03, each +- 0.02 (SDSS DR16, ugrizVegaSun)."""
    limits = {"teff": (5750, 6000), "logg": (4.0, 4.5)}
    colors, temperatures = np.zeros(3), []
    for part in read_library("ck04", shared("grids/ck04/ckp00"), limits=limits):
        for (teff, logg, _), flux in zip(part.labels, part.flux, strict=True):
            weight = (1 - abs(teff - 5772) / 250) * (1 - abs(logg - 4.44) / 0.5)
            # erg s-1 cm-2 A-1 are 1e-2 W m-2 nm-1.
            mean = [band.mean_flux(part.wavelength, 1e-2 * flux) for band in xpjax.load_passbands("sdss2010:g,r,i,z")]
            colors += weight * 2.5 * np.log10(np.divide(mean[1:], mean[:-1]))
            temperatures.append(weight)
    assert sum(temperatures) == pytest.approx(1)
    assert np.abs(colors - [0.44, 0.11, 0.03]).max() < 0.035
    # A star 250 K hotter is not the Sun.
    assert abs(colors[0] - 0.40) > 0.06


def test_castelli_and_kurucz_continue_kurucz(shared: Callable[[str], Path]) -> None:
    """The grid of 1991, independently packed, at XP's resolution: 2 % RMS, and not that of a neighbor."""
    shape = find_resolution("xp")
    limits = {"teff": (5500, 9000), "logg": (4.0, 4.5), "mh": (0, 0)}
    grid = build_grid("ck04", shared("grids/ck04"), resolution="xp", limits=limits)
    with np.load(shared("grids/kurucz91/kurucz91_solar.npz")) as old:
        labels, wavelength, flux = np.stack([old["teff"], old["logg"]], axis=1), old["wave_A"] / 10.0, old["flux"]
    models = ModelSpectra(wavelength, flux.astype(float), labels, np.gradient(wavelength) ** 2 / 12, Path("1991"))
    spectra = Sampler(models, grid.wavelength, shape)(models.flux)
    rms = {}
    for teff in (5750, 7000, 9000):
        one = spectra[np.flatnonzero((labels == [teff, 4.5]).all(axis=1))[0]]
        for other in (teff, teff - 250):
            new = grid.flux[np.searchsorted(grid.nodes[0], other), 1]
            rms[teff, other] = float(np.std(one / one.mean() / new))
    assert all(rms[teff, teff] < 0.02 for teff in (5750, 7000, 9000)), rms
    assert all(rms[teff, teff - 250] > 1.4 * rms[teff, teff] for teff in (5750, 7000, 9000)), rms


@pytest.mark.slow
def test_extent_of_castelli_and_kurucz(shared: Callable[[str], Path]) -> None:
    """Whole gravities of hot stars are missing; no metallicity is."""
    limits = {"teff": (3500, 13000, 500)}
    grid = build_grid("ck04", shared("grids/ck04"), resolution="xp", sampling="variable", limits=limits, fill=False)
    assert grid.shape == (20, 11, 8)
    holes = grid.holes
    assert np.array_equal(holes.any(axis=2), holes.all(axis=2))
    assert not holes[grid.nodes[0] <= 6000].any()
    assert not holes[:, grid.nodes[1] >= 2.5].any()
    # They lie at the side of low gravity, in steps: filling closes a step, and makes no model beyond.
    filled = fill_holes(grid)
    assert filled.filled is not None
    first = np.argmax(~holes[..., 0], axis=1)
    assert {tuple(x) for x in np.argwhere(filled.filled[..., 0])} == {
        (k, first[k] - 1) for k in range(1, 20) if first[k] > first[k - 1]
    }


@pytest.mark.slow
def test_all_of_nextgen_with_its_holes(shared: Callable[[str], Path]) -> None:
    """41.8 % of the nodes have no model: stars among them are fitted as well as the models tell, and few meet a hole.

    Mocks are made of all models by scipy's thin-plate splines, and of the regular block alone, by 200 K and 0.5 dex, by
    its PCHIP, with S/N 100. The latter are other spectra: the models between differ from them by a percent, which the
    errors of labels know.
    """
    grid, block = build_grid("nextgen", shared(NEXTGEN)), build_grid("nextgen", shared(NEXTGEN), limits=BLOCK)
    assert grid.filled is not None
    models = ~grid.holes & ~np.asarray(grid.filled)
    assert 1 - models.mean() == pytest.approx(0.418, abs=1e-3)
    rng, size = np.random.default_rng(0), np.array([200.0, 0.5, 0.5])
    labels = rng.uniform((4000, 3.5, -1.5), (7000, 5.0, 0.0), (2000, 3))
    known = grid.labels_of(models) / size
    thin_plates = RBFInterpolator(known, np.asarray(grid.flux)[models], neighbors=60)(labels / size)
    model = interpolate_grid(grid)
    for truth in (thin_plates, tensor(block, labels, PchipInterpolator)):
        flux = truth * (1 + 0.01 * rng.normal(size=truth.shape))
        fit, bare = (fit_labels(flux, 0.01 * truth, model, doubt=doubt) for doubt in (True, False))
        off = 1.4826 * np.nanmedian(np.abs(fit.labels - labels), axis=0)
        assert (off < [7, 0.032, 0.026]).all(), off
        assert np.mean(fit.status & FitStatus.HOLE > 0) < 0.01
        assert np.nanmedian(fit.chi2 / fit.dof) < 1.06
        far = [np.mean((np.abs(one.labels - labels) > 8 * one.error).any(axis=1)) for one in (fit, bare)]
        assert far[0] <= 0.005, far
        assert far[1] > 0.1, "what would fail"
        pull = 1.4826 * np.nanmedian(np.abs((fit.labels - labels) / fit.error), axis=0)
        assert np.all((pull > 0.8) & (pull < 1.4)), pull
