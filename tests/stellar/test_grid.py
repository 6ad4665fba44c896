"""Grids: assembled from libraries with and without holes, kept in files, and checked against the Sun."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.stellar.libraries.test_files import WAVE, spectrum, write_ck04, write_nextgen
from xpjax.stellar.grid import StellarGrid, build_grid, fill_holes, read_grid, write_grid
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


def made(path: Path, **options: object) -> StellarGrid:
    return build_grid("nextgen", path, resolution="own", sampling=AT, **options)


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


def test_holes_are_filled_on_request_within_their_neighbors(path: Path) -> None:
    """(4000, 4.5) lies between two gravities; (4250, 4.0, -1) between two temperatures only."""
    grid = made(path)
    full = made(path, fill=True)
    assert full.filled is not None
    assert {tuple(row) for row in full.labels_of(full.filled).tolist()} == set(HOLES)
    assert not full.holes.any()
    assert np.array_equal(full.flux[~grid.holes], grid.flux[~grid.holes])
    # Between three points of a straight line monotone cubics are straight: before the normalization log g is one.
    node = full.flux[0, 1, 1]
    assert node.mean() == pytest.approx(1, rel=1e-12)
    assert np.allclose(node, 0.5 * (grid.flux[0, 0, 1] + grid.flux[0, 2, 1]), rtol=1e-3)
    one = fill_holes(grid, ["logg"])
    assert one.filled is not None
    assert one.labels_of(one.filled).tolist() == [[4000.0, 4.5, 0.0]]
    assert one.holes.sum() == 1
    # At the side of the grid there is nothing to interpolate between.
    corner = np.array(grid.flux)
    corner[2, 2, 1] = np.nan
    assert fill_holes(dataclasses.replace(grid, flux=corner)).holes.sum() == 1
    with pytest.raises(ValueError, match="no label alpha to fill along"):
        fill_holes(grid, ["alpha"])


def test_a_file_holds_all(path: Path, tmp_path: Path) -> None:
    grid = made(path, fill="logg")
    file = tmp_path / "grid.h5"
    write_grid(grid, file)
    again = read_grid(file)
    for name in ("flux", "wavelength", "filled"):
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
    with pytest.raises(ValueError, match="has format version 99, this xpjax knows 1: update"):
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
    dense = build_grid("nextgen", shared(NEXTGEN), limits={name: limit[:2] for name, limit in BLOCK.items()})
    assert (dense.shape, int(dense.holes.sum())) == ((21, 4, 5), 23)
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
    grid = build_grid("ck04", shared("grids/ck04"), resolution="xp", sampling="variable", limits=limits)
    assert grid.shape == (20, 11, 8)
    holes = grid.holes
    assert np.array_equal(holes.any(axis=2), holes.all(axis=2))
    assert not holes[grid.nodes[0] <= 6000].any()
    assert not holes[:, grid.nodes[1] >= 2.5].any()
    # They lie at the side of low gravity: filling leaves them.
    assert fill_holes(grid).filled is None
