"""E(B-V) from made maps, against interpolation by hand and pixels by another package; tables, scales, lacking maps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy_healpix import HEALPix

import xpjax
from tests.extinction.made_maps import (
    MODULI,
    NSIDE,
    galactic,
    make_bayestar,
    make_healpix,
    make_sfd,
    pixel_values,
    sfd_by_hand,
)
from xpjax.core.sky import pixel_centers
from xpjax.extinction import add_ebv, ebv
from xpjax.xp import write_store_file

pytest.importorskip("dustmaps", reason="needs dustmaps: pip install 'xpjax[dust]'")
RNG = np.random.default_rng(3)
RA, DEC = RNG.uniform(0, 360, 500), np.degrees(np.arcsin(RNG.uniform(-1, 1, 500)))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with all made maps, SFD's in a folder of its own as dustmaps has it."""
    folder = tmp_path_factory.mktemp("maps")
    make_sfd(folder / "sfd")
    make_healpix(folder)
    return make_bayestar(folder)


def test_sfd_is_interpolated_as_by_hand(maps: Path) -> None:
    found = ebv(RA, DEC, folder=maps)
    expected = sfd_by_hand(RA, DEC)
    np.testing.assert_allclose(found.ebv, expected, rtol=2e-5)
    np.testing.assert_allclose(found.ebv_error, 0.16 * expected, rtol=2e-5)
    assert (np.abs(sfd_by_hand(RA + 1, DEC) / expected - 1) > 1e-3).any()


def test_directions_that_everybody_knows() -> None:
    """Galactic coordinates [deg] of the poles, the center, M 31 and the Large Magellanic Cloud."""
    ra = np.array([192.8595, 266.4050, 10.6847, 80.8938])
    length, b = np.degrees(galactic(ra, np.array([27.1283, -28.9362, 41.2688, -69.7561])))
    np.testing.assert_allclose(b, [90, 0, -21.573, -32.888], atol=0.01)
    np.testing.assert_allclose((length[1:] + 1) % 360, [1, 122.174, 281.465], atol=0.01)


@pytest.mark.parametrize(("name", "order", "to_sfd"), [("planck", "nested", 1 / 0.86), ("csfd", "ring", 1.0)])
def test_healpix_maps_give_the_pixel_of_another_package(maps: Path, name: str, order: str, to_sfd: float) -> None:
    place = SkyCoord(RA, DEC, unit="deg").galactic
    pixel = HEALPix(NSIDE, order).lonlat_to_healpix(place.l, place.b)
    found = ebv(RA, DEC, name, folder=maps)
    np.testing.assert_allclose(found.ebv, to_sfd * pixel_values(name)[pixel], rtol=1e-6)
    assert np.isnan(found.ebv_error).all()
    assert any("have no error" in note for note in found.notes)


def test_gnilc_has_errors_of_its_own(maps: Path) -> None:
    place = SkyCoord(RA, DEC, unit="deg").galactic
    expected = pixel_values("gnilc")[HEALPix(NSIDE, "nested").lonlat_to_healpix(place.l, place.b)]
    found = ebv(RA, DEC, "GNILC", scale="true", folder=maps)
    np.testing.assert_allclose(found.ebv, expected, rtol=1e-6)
    np.testing.assert_allclose(found.ebv_error, expected / 7, rtol=1e-6)
    assert found.scale == "true"


def test_the_scale_of_stars_is_86_percent(maps: Path) -> None:
    plain, true = (ebv(RA, DEC, scale=scale, folder=maps) for scale in ("sfd", "true"))
    np.testing.assert_allclose(true.ebv, 0.86 * plain.ebv, rtol=1e-12)
    np.testing.assert_allclose(true.ebv_error, 0.86 * plain.ebv_error, rtol=1e-12)
    assert "A_V = 3.1 E(B-V)" in true.catalogue().descriptions["ebv"]
    assert plain.catalogue().meta["ebv_a_v"] == 2.742


def test_bayestar_goes_to_the_distance(maps: Path) -> None:
    """Between the nodes the made map is linear in the modulus; nearer and farther than it trusts it has no error."""
    modulus = RNG.uniform(4.5, 18, len(RA))
    distance = 10 ** (0.2 * modulus + 1)
    place = SkyCoord(RA, DEC, unit="deg").galactic
    pixel = HEALPix(NSIDE, "nested").lonlat_to_healpix(place.l, place.b)
    inside = pixel < 6 * NSIDE**2
    found = ebv(RA, DEC, "bayestar", distance=distance * units.pc, folder=maps)
    np.testing.assert_array_equal(np.isnan(found.ebv), ~inside)
    expected = pixel_values("bayestar")[pixel] * modulus / 10
    np.testing.assert_allclose(found.ebv[inside], expected[inside], rtol=1e-5)
    trusted = inside & (modulus > 6) & (modulus < 15)
    np.testing.assert_array_equal(np.isfinite(found.ebv_error), trusted)
    scatter = 0.1 * np.std(np.arange(-2, 3), ddof=1)
    np.testing.assert_allclose(found.ebv_error[trusted], scatter * expected[trusted], rtol=1e-4)
    assert f"{(~inside).sum()} of 500 rows are not on the map" in " ".join(found.notes)
    assert MODULI[0] == 4


def test_what_is_missing_stays_missing(maps: Path) -> None:
    ra, dec = np.array([10.0, np.nan, 30.0, -999.0, 370.0]), np.array([10.0, 20.0, 91.0, -999.0, 0.0])
    found = ebv(ra, dec, folder=maps)
    np.testing.assert_array_equal(np.isfinite(found.ebv), [True, False, False, False, False])
    np.testing.assert_array_equal(np.isfinite(found.ebv_error), np.isfinite(found.ebv))
    assert "4 of 5 rows have no position, hence no E(B-V)" in found.notes
    assert len(ebv([], [], folder=maps)) == 0
    assert len(found[:2]) == 2


def test_wrong_calls_are_refused(maps: Path, tmp_path: Path) -> None:
    with pytest.raises(xpjax.XpjaxError, match="unknown map 'sdf'; choose from sfd"):
        ebv([1.0], [2.0], "sdf")
    with pytest.raises(xpjax.XpjaxError, match="unknown scale 'SF11'"):
        ebv([1.0], [2.0], scale="SF11", folder=maps)
    with pytest.raises(xpjax.XpjaxError, match="bayestar needs distances"):
        ebv([1.0], [2.0], "bayestar", folder=maps)
    with pytest.raises(xpjax.XpjaxError, match="sfd has no distances"):
        ebv([1.0], [2.0], distance=[3.0], folder=maps)
    with pytest.raises(xpjax.XpjaxError, match="shapes"):
        ebv([1.0, 2.0], [2.0], folder=maps)
    damaged = make_sfd(tmp_path / "damaged")
    (damaged / "SFD_dust_4096_sgp.fits").write_bytes(b"SIMPLE")
    with pytest.raises(xpjax.XpjaxError, match="damaged"):
        ebv([1.0], [2.0], folder=damaged)


def test_positions_that_are_no_numbers() -> None:
    for given, message in (
        ((["1h"], [2.0]), r"ra: expected degrees, found .*1h"),
        (([1.0], ["+2:30"]), r"dec: expected degrees, found .*\+2:30"),
        ((1.0, 2.0), "one-dimensional"),
    ):
        with pytest.raises(xpjax.XpjaxError, match=message):
            ebv(*given)
    with pytest.raises(xpjax.XpjaxError, match=r"distance: expected parsecs, found .*near"):
        ebv([1.0], [2.0], "bayestar", distance=["near"])


def test_a_map_that_is_not_there_is_said_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(xpjax.XpjaxError) as error:
        ebv([1.0], [2.0], "gnilc", folder=tmp_path)
    said = str(error.value)
    for part in (
        *(str(tmp_path), "COM_CompMap_Dust-GNILC-Model-Opacity_2048_R2.01.fits", "0.4 GB", "folder="),
        *("dustmaps.planck.fetch(which='GNILC')", "config['data_dir'] = 'FOLDER'"),
    ):
        assert part in said
    assert capsys.readouterr() == ("", "")


def test_tables_give_what_arrays_give(maps: Path, tmp_path: Path) -> None:
    expected = ebv(RA, DEC, folder=maps)
    columns = {"RA": RA, "Dec": DEC, "teff": np.arange(500), "name": np.array(["a", "bc"] * 250)}
    frame = pd.DataFrame(columns)
    radians = Table(columns)
    radians["RA"] = np.radians(RA) * units.rad
    xpjax.write(tmp_path / "stars.csv", frame)
    radians.write(tmp_path / "stars.fits")
    for source, rtol in ((frame, 0), (tmp_path / "stars.csv", 0), (tmp_path / "stars.fits", 1e-6)):
        found = add_ebv(source, folder=maps)
        np.testing.assert_allclose(found.ebv, expected.ebv, rtol=rtol)
        assert list(found.catalogue().columns) == ["RA", "Dec", "teff", "name", "ebv", "ebv_error"]
        assert list(add_ebv(source, folder=maps, keep=["teff"]).columns) == ["RA", "Dec", "teff"]
    other = add_ebv(add_ebv(frame, folder=maps), "csfd", column="ebv_csfd", folder=maps)
    assert list(other.catalogue().columns)[-4:] == ["ebv", "ebv_error", "ebv_csfd", "ebv_csfd_error"]
    np.testing.assert_array_equal(other.columns["ebv"], expected.ebv)
    named = add_ebv(frame.rename(columns={"RA": "lon", "Dec": "lat"}), ra="lon", dec="lat", folder=maps)
    np.testing.assert_array_equal(named.ebv, expected.ebv)


def test_positions_come_from_source_ids_where_there_are_no_others(maps: Path) -> None:
    sources = xpjax.simulate_sources(40, seed=2)
    number = sources.source_id.copy()
    center = ebv(*pixel_centers(number), folder=maps)
    found = add_ebv({"source_id": number, "x": np.arange(40.0)}, folder=maps)
    np.testing.assert_array_equal(found.ebv, center.ebv)
    assert "source_id encodes" in found.notes[0]
    # The mock sources have positions in the pixels of their ids.
    measured = add_ebv(sources, folder=maps)
    np.testing.assert_allclose(measured.ebv, found.ebv, rtol=5e-3)
    assert not np.array_equal(measured.ebv, found.ebv)
    number[:3] = 0, -5, 2**62 + 2**61 + 2**60
    lost = add_ebv({"source_id": number}, folder=maps)
    np.testing.assert_array_equal(np.isnan(lost.ebv), np.arange(40) < 3)


def test_tables_that_lack_columns_are_refused(maps: Path) -> None:
    with pytest.raises(xpjax.XpjaxError, match="has no dec: name the columns of the position by ra= and dec="):
        add_ebv({"ra": [1.0], "source_id": [1]}, folder=maps)
    with pytest.raises(xpjax.XpjaxError, match="has no source_id, ra or dec"):
        add_ebv({"x": [1.0]}, folder=maps)
    with pytest.raises(xpjax.XpjaxError, match=r"has a column 'EBV'.*column=.ebv_sfd"):
        add_ebv({"ra": [1.0], "dec": [1.0], "EBV": [0.0]}, folder=maps)
    with pytest.raises(xpjax.XpjaxError, match="no column 'parallax'"):
        add_ebv({"ra": [1.0], "dec": [1.0]}, "bayestar", folder=maps)


def test_stores_are_refused(maps: Path, tmp_path: Path) -> None:
    """Their correlations are packed: passed on as they are they would be other numbers."""
    write_store_file(tmp_path / "store.h5", xpjax.simulate_sources(3, seed=1), correlations="int16")
    for path in (tmp_path, tmp_path / "store.h5"):
        with pytest.raises(xpjax.XpjaxError, match=r"is a store.*xpjax.open_store"):
            add_ebv(path, folder=maps)
    with pytest.raises(FileNotFoundError, match="no such file"):
        add_ebv(tmp_path / "nothing.csv", folder=maps)


def test_distances_come_from_good_parallaxes(maps: Path) -> None:
    place = SkyCoord(10 * units.deg, 60 * units.deg, frame="galactic").icrs
    n = 4
    table = {
        "ra": np.full(n, place.ra.deg), "dec": np.full(n, place.dec.deg),
        "parallax": np.array([1.0, 1.0, -1.0, np.nan]), "parallax_error": np.array([0.1, 0.3, 0.01, 0.1]),
    }  # fmt: skip
    found = add_ebv(table, "bayestar", folder=maps)
    one = ebv(table["ra"][:1], table["dec"][:1], "bayestar", distance=[1000.0], folder=maps)
    np.testing.assert_array_equal(found.ebv, [one.ebv[0], np.nan, np.nan, np.nan])
    assert "in 1 of 4 rows" in found.notes[0]


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "xml"])
@pytest.mark.parametrize("name", ["XP_CONTINUOUS_RAW_with_missing_BP", "XP_CONTINUOUS_RAW_missing_BP_dr3int6"])
def test_the_archives_files_are_passed_on_whole(
    maps: Path, tmp_path: Path, shared: Callable[[str], Path], name: str, suffix: str
) -> None:
    """Coefficients, errors and correlations of real sources, one of them, or the only one, without BP."""
    path = shared(f"xp/formats/{name}.{suffix}")
    found = add_ebv(path, folder=maps)
    xpjax.write(tmp_path / "out.parquet", found)
    before, after = (xpjax.read(one, release="Gaia DR3") for one in (path, tmp_path / "out.parquet"))
    np.testing.assert_array_equal(after.source_id, before.source_id)
    np.testing.assert_array_equal(after.status, before.status)
    for key in ("value", "error", "correlation", "n_relevant"):
        pair = (getattr(table.coefficients, key) for table in (after, before))
        np.testing.assert_allclose(*pair, rtol=1e-7, err_msg=key)  # text of float32 is float64
    assert np.isfinite(after.columns["ebv"]).all()
