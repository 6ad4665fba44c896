"""Simulated surveys: the truth that they state is the one that they were made of."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from click.testing import CliRunner
from scipy.interpolate import RegularGridInterpolator

import xpjax
from xpjax.cli import main
from xpjax.core.constants import SPEED_OF_LIGHT
from xpjax.core.sky import cells_of, pixel_centers
from xpjax.survey import SimulatedSurvey, SurveyEffects, SurveySetup, simulate_survey
from xpjax.survey.exposures import CalibrationSettings, ExposureModel, calibrate
from xpjax.survey.reading import read_setup

EXACT = SurveyEffects(
    flat=(0.03, 0.0, 0.0), cloudy=0.0, sky=0.0, instrument=0.0, standard_error=0.0, variable=0.0, outlier=0.0
)
"""Nothing but what the calibration knows of."""


def small(n_exposure: int = 3, n_star: int = 80, **more: object) -> SurveySetup:
    return SurveySetup(n_exposure=n_exposure, n_star=n_star, n_night=1, seed=1, **more)  # type: ignore[arg-type]


def test_simulated_exposures_are_the_same_however_asked() -> None:
    survey = SimulatedSurvey(small(4))
    whole, truth = survey.observe()
    part, _ = survey.observe([2])
    mine = whole.frame == 2
    np.testing.assert_array_equal(part.magnitude, whole.magnitude[mine])
    good = ~truth.disturbed
    off = (whole.magnitude + truth.correction - truth.magnitude)[good] / truth.error[good]
    assert off.std() == pytest.approx(1, abs=0.15)
    assert whole.frames.band.tolist() == ["g", "r", "i", "g"]


def test_magnitudes_are_integrals_of_the_true_spectra_through_the_true_chain() -> None:
    """By the trapezoidal rule over spectra on a fine grid, at an airmass and a shift between the nodes."""
    effects = SurveyEffects(field_shift=2.5, instrument=0.0)
    survey = SimulatedSurvey(small(6, correction="none", effects=effects))
    made, star = survey.magnitudes, np.arange(40)
    grid = np.arange(335.0, 1045.0, 0.5)
    flux = xpjax.spectra(survey.stars.true[star], grid, errors=False, float64=True).flux
    airmass, shift = float(survey.plan.airmass[1]), -1.37
    for k, band in enumerate(survey.bands):
        moved = np.asarray(made.true_chain.filter_shift) + shift
        curve = np.asarray(made.true_chain.transmission(grid, band, airmass=airmass, filter_shift=moved), float)
        mean = np.trapezoid(flux * curve * grid, grid) / (
            1e9 * SPEED_OF_LIGHT * np.trapezoid(curve / grid, grid)
        )  # W m-2 Hz-1
        expected = -2.5 * np.log10(mean) - 56.1
        found = made.true(star, k, airmass, np.full(len(star), shift))
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found - made.true(star, k, airmass)).max() > 2e-3  # what the shift does


@pytest.mark.slow
def test_zero_points_are_those_that_a_calibration_finds() -> None:
    survey = SimulatedSurvey(small(6, 400, effects=EXACT))
    rows, _ = survey.observe()
    size = (0.0, survey.setup.size[0], 0.0, survey.setup.size[1])
    solution, _ = calibrate(rows, CalibrationSettings(ExposureModel(magnitude_order=0, color_zero=1.1), size=size))
    error = np.hypot(solution.fits.zero_point_error, solution.fits.zero_point_common)
    pull = (solution.fits.zero_point - survey.true_zero_points(color_zero=1.1)) / error
    assert np.abs(pull).max() < 3.5
    elsewhere = (solution.fits.zero_point - survey.true_zero_points(color_zero=0.3)) / error
    assert np.abs(elsewhere).max() > 4  # color terms are in the truth


@pytest.mark.slow
def test_errors_of_xp_have_the_sizes_that_were_set() -> None:
    effects = SurveyEffects(sky=0.01, instrument=0.0, standard_error=0.0, filter_shift=0.0, missing=0.0)
    wrong = SimulatedSurvey(small(3, 1500, bright=11.0, faint=14.0, effects=effects))
    model, error = wrong.models.value[:, 1, 0], wrong.models.error[:, 1, 0]
    off = model - wrong.magnitudes.true(np.arange(len(model)), 0, float(wrong.magnitudes.airmass[1]))
    known = np.isfinite(off) & (error < 0.004)
    pattern = wrong.stars.xp_error[known, 0]
    assert pattern.std() == pytest.approx(0.01, rel=0.4)  # of some thirty cells
    assert np.corrcoef(off[known], pattern)[0, 1] > 0.9
    assert (off[known] - pattern).std() < 0.004

    spectra = SimulatedSurvey(small(3, 100, effects=dataclasses.replace(EXACT, filter_shift=0.0, instrument=1.0)))
    star, airmass = np.arange(len(spectra.stars)), float(spectra.magnitudes.airmass[1])
    true = np.stack([spectra.magnitudes.true(star, k, airmass) for k in range(3)], axis=1)
    off = spectra.models.value[:, 1] - true
    common = np.nanmedian(off, axis=0)
    stated = np.nanmedian(spectra.models.systematic[:, 1], axis=0)
    assert (np.abs(common) < 4 * stated).all()
    assert (np.abs(common) > 0.05 * stated).any()
    with pytest.raises(ValueError, match="instrument = 0"):
        SimulatedSurvey(small(correction="none"))


def test_fields_overlap_and_detectors_differ() -> None:
    survey = SimulatedSurvey(small(12, 60, tiles=(2, 1), detectors=(2, 1), size=(4000.0, 4000.0)))
    rows, _ = survey.observe()
    frames = rows.frames
    assert len(survey) == len(frames) == 24
    assert sorted(set(frames.detector.tolist())) == ["ccd1", "ccd2"]
    seen = [set(rows.star[rows.frame == f].tolist()) for f in range(len(frames))]
    assert not seen[0] & seen[1]  # two detectors of one exposure
    tiles = [seen[6 * t] | seen[6 * t + 1] for t in range(2)]  # g on either field
    assert 0.05 < len(tiles[0] & tiles[1]) / len(tiles[0]) < 0.6
    assert survey.flat(np.array([[0.2, 0.7]]), f=0) != survey.flat(np.array([[0.2, 0.7]]), f=1)


def test_filters_are_bluer_at_the_corners_of_the_field() -> None:
    plan = SimulatedSurvey(small(detectors=(2, 2), n_star=20)).plan
    assert plan.off_axis(0, np.array([[0.0, 0.0], [1.005, 1.005]])) == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey") / "mock"
    simulate_survey(small(), folder)
    return folder


def test_detections_are_fits_tables_with_their_truth_beside(folder: Path) -> None:
    truth = xpjax.read_table(folder / "truth" / "exposures.ecsv")
    rows = xpjax.read_table(folder / "truth" / "detections.parquet")
    assert rows["true_magnitude"].unit == units.mag
    assert rows["true_magnitude"].description.endswith("at the airmass and the place of the exposure")
    files = sorted((folder / "detections").iterdir())
    assert [file.name for file in files] == [f"e0000{k}_ccd1.fits" for k in range(3)]
    for k, file in enumerate(files):
        with fits.open(file) as opened:
            header, table = opened[1].header, Table(opened[1].data)
        assert table.colnames == ["NUMBER", "X", "Y", "RA", "DEC", "MAG", "MAGERR", "FLAGS"]
        assert [header[f"TUNIT{k}"] for k in (2, 4, 6)] == ["pixel", "deg", "mag"]
        assert (header["FILTER"], header["EXPOSURE"], header["DETECTOR"]) == ("gri"[k], f"e0000{k}", "ccd1")
        assert Time(header["DATE-OBS"]).mjd == pytest.approx(header["MJD-OBS"])
        assert header["AIRMASS"] == pytest.approx(truth["airmass"][k], abs=1e-6)
        mine = rows[rows["exposure"] == header["EXPOSURE"]]
        assert mine["NUMBER"].tolist() == table["NUMBER"].tolist()
        pull = (table["MAG"] + mine["true_correction"] - mine["true_magnitude"]) / mine["true_error"]
        assert np.median(np.abs(pull)) == pytest.approx(0.67, abs=0.25)


def truth_of(folder: Path, name: str) -> Table:
    table = xpjax.read_table(folder / "truth" / name)
    assert all(column.description for column in table.itercols())
    return table


GIVEN = SurveyEffects(
    flat=(0.03, 0.01, 0.0), cloudy=0.0, sky=0.02, instrument=3.0, standard_error=0.0, variable=0.2, outlier=0.0,
    nonlinearity=0.02, brighter_fatter=0.01, field_shift=2.0, aperture=0.05, drift=0.02, missing=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulatedSurvey]:
    """A survey of two detectors with everything that there is, without air: zero-points are sums of their parts."""
    folder = tmp_path_factory.mktemp("given") / "mock"
    setup = small(6, 60, chain="JPLUS", bands=("gJPLUS", "rJPLUS"), detectors=(2, 1), size=(4000.0, 4000.0),
                  effects=GIVEN)  # fmt: skip
    return folder, simulate_survey(setup, folder)


def test_the_truth_of_xp_is_what_its_spectra_and_magnitudes_are_wrong_by(given: tuple[Path, SimulatedSurvey]) -> None:
    folder, made = given
    sky, bands, curve = (truth_of(folder, f"{name}.parquet") for name in ("sky", "bands", "instrument"))
    assert sky["xp_error_BP"].unit == curve["xp_error"].unit == units.mag
    clean = SimulatedSurvey(dataclasses.replace(made.setup, effects=dataclasses.replace(GIVEN, sky=0.0)))
    row = {int(pixel): k for k, pixel in enumerate(sky["pixel"])}
    of_star = np.array([row[int(pixel)] for pixel in cells_of(*made.stars.positions(0.0), 128)])
    wrong, right = (np.asarray(one.stars.table.coefficients.value, float) for one in (made, clean))
    for part, rows in zip(("BP", "RP"), made.stars.table.release.slices, strict=True):
        found = -2.5 * np.log10(wrong[:, rows.start] / right[:, rows.start])
        np.testing.assert_allclose(found, np.asarray(sky[f"xp_error_{part}"])[of_star], atol=1e-5)
        assert np.ptp(found) > 0.005
    off = made.models.value - clean.models.value  # of magnitudes that are made of these spectra
    for k, band in enumerate(made.bands):
        told = np.asarray(sky[f"xp_error_{band}"])[of_star]
        assert np.nanmedian(np.abs(off[:, 0, k] - told)) < 0.15 * np.abs(told).mean()
        true = clean.magnitudes.true(np.arange(len(clean.stars)), k, 1.2)
        described = clean.magnitudes.color_term(k, 1.2) + true  # through the described chain, with the true correction
        error = float(np.nanmedian(clean.models.value[:, 0, k] - described))
        assert bands["instrument_error"][k] == pytest.approx(error, abs=1.5e-3)
        assert abs(bands["instrument_error"][k]) > 1e-4
    grid, value = np.asarray(curve["wavelength"]), np.asarray(made.stars.true.coefficients.value[:5], float)
    flux = []
    for correction in ("standard", made.xp_correction):
        design = xpjax.load_instrument().corrected(correction).design(grid)
        flux.append(value @ np.asarray(design.value, float))
    np.testing.assert_allclose(-2.5 * np.log10(flux[0] / flux[1]), [np.asarray(curve["xp_error"])] * 5, atol=1e-6)
    assert np.abs(curve["xp_error"]).max() > 0.005


def test_the_truth_of_zero_points_flats_and_the_response_adds_up(given: tuple[Path, SimulatedSurvey]) -> None:
    folder, made = given
    e, rows, flats = (truth_of(folder, name) for name in ("exposures.ecsv", "detections.parquet", "flats.parquet"))
    parts = e["night_level"] + e["drift"] + e["aperture"] + e["detector_offset"]
    parts = parts - e["night_extinction"] * (e["airmass"] - 1) - e["cloud"]
    level = made.setup.bright - e["bright_magnitude"]
    for band in made.bands:
        mine = e["band"] == band
        assert np.ptp((level - parts)[mine]) < 1e-9
        assert np.ptp(level[mine]) > 0.01
    for f in range(len(made)):
        mine = (rows["exposure"] == e["exposure"][f]) & (rows["detector"] == e["detector"][f])
        one = rows[mine]
        total = level[f] + one["true_flat"] + one["true_response"]
        np.testing.assert_allclose(total, one["true_correction"], atol=1e-9)
        seen = Table.read(folder / "detections" / f"{e['exposure'][f]}_{e['detector'][f]}.fits")
        grid = flats[(flats["band"] == e["band"][f]) & (flats["detector"] == e["detector"][f])]
        side = (np.unique(grid["x"]), np.unique(grid["y"]))
        flat = RegularGridInterpolator(side, np.asarray(grid["flat"]).reshape(50, 50).T, method="cubic")
        at = np.stack([seen["X"], seen["Y"]], axis=1).clip(0, 4000)
        np.testing.assert_allclose(flat(at), one["true_flat"], atol=3e-4)
        assert np.ptp(one["true_flat"]) > 0.02
        bright = 10 ** (-0.4 * (seen["MAG"] - e["bright_magnitude"][f]))  # as terms of joint solutions say it
        said = (e["nonlinearity"][f] + e["brighter_fatter"][f]) * bright
        assert np.abs(said - one["true_response"]).max() < 0.15 * np.abs(one["true_response"]).max()
        assert np.abs(one["true_response"]).max() > 2e-3
    shift = truth_of(folder, "bands.parquet")
    assert rows["filter_shift"].min() < (shift["filter_shift"] + shift["field_shift"]).min() + 0.6
    stars = truth_of(folder, "stars.parquet")
    assert (np.asarray(stars["amplitude"] > 0) == np.asarray(stars["variable"])).all()


@pytest.mark.filterwarnings("ignore:ERFA")
def test_stars_have_moved_since_gaia(folder: Path) -> None:
    table = Table.read(folder / "detections" / "e00000_ccd1.fits")
    gaia = xpjax.read(folder / "xp.parquet")
    c, time = gaia.columns, Time(table.meta["MJD-OBS"], format="mjd")
    at = SkyCoord(
        c["ra"] * units.deg, c["dec"] * units.deg, pm_ra_cosdec=c["pmra"] * units.mas / units.yr,
        pm_dec=c["pmdec"] * units.mas / units.yr, obstime=Time(c["ref_epoch"][0], format="jyear"),
    ).apply_space_motion(time)  # fmt: skip
    seen = SkyCoord(table["RA"], table["DEC"], unit="deg")
    _, distance, _ = seen.match_to_catalog_sky(at)
    assert np.median(distance.arcsec) == pytest.approx(0.03 * np.sqrt(2 * np.log(2)), rel=0.3)
    assert len(np.unique(gaia.source_id)) == len(gaia)
    ra, dec = pixel_centers(gaia.source_id)  # the identifier says where the star is
    assert SkyCoord(ra, dec, unit="deg").separation(SkyCoord(c["ra"], c["dec"], unit="deg")).arcmin.max() < 1


def test_the_telescope_is_the_chain_with_its_curves(folder: Path) -> None:
    copied, shipped = (xpjax.synthetic.read_chain(name) for name in (folder / "telescope.toml", "minisitian"))
    for mine, theirs in zip(copied.passbands(), shipped.passbands(), strict=True):
        np.testing.assert_array_equal(mine.transmission, theirs.transmission)


def test_a_smaller_survey_leaves_no_tables_of_a_larger_one(tmp_path: Path) -> None:
    simulate_survey(small(3, 20), tmp_path / "mock")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        simulate_survey(small(2, 20), tmp_path / "mock")
    simulate_survey(small(2, 20), tmp_path / "mock", overwrite=True)
    assert len(list((tmp_path / "mock" / "detections").iterdir())) == 2
    with pytest.raises(ValueError, match="none of fits, parquet"):
        simulate_survey(small(2, 20), tmp_path / "other", format="docx")
    assert not (tmp_path / "other").exists()


def test_formats_without_headers_have_columns(tmp_path: Path) -> None:
    simulate_survey(small(1, 20), tmp_path / "mock", format="csv")
    table = xpjax.read_table(tmp_path / "mock" / "detections" / "e00000_ccd1.csv")
    assert set(table["FILTER"]) == {"g"}
    assert len(set(table["MJD-OBS"])) == 1


def test_the_command_and_the_section_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "simulate.toml").write_text('[simulate]\nn_exposure = 2\nn_star = 20\nsky = 0.0\nbands = ["r"]\n')
    told = CliRunner().invoke(
        main, ["survey", "simulate", "--config", str(tmp_path / "simulate.toml"), "--nights", "1", "--chain",
               "JPLUS", "--bands", "rJPLUS", "-o", str(tmp_path / "mock")],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    with fits.open(tmp_path / "mock" / "detections" / "e00001_ccd1.fits") as opened:
        assert opened[1].header["FILTER"] == "rJPLUS"
    assert "rJPLUS" in xpjax.synthetic.read_chain(tmp_path / "mock" / "telescope.toml").bands
    setup = read_setup(tmp_path / "simulate.toml", camera="ccd", flat=(0.1, 0.0, 0.0))
    assert (setup.n_exposure, setup.bands, setup.effects.sky, setup.effects.flat[0]) == (2, ("r",), 0.0, 0.1)
    assert setup.camera.read_noise == 4.0


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"n_exposure": 0}, "needs exposures"),
        ({"bright": 17.0}, "expected bright < faint"),
        ({"dither": 0.7}, "dither"),
        ({"outlier": 2.0}, "outlier is a part"),
        ({"sky": -1.0}, "sky is a size"),
        ({"center": (0.0, 89.0)}, "within 80 degrees"),
        ({"skyy": 1.0}, "did you mean sky"),
    ],
)
def test_wrong_entries_are_refused(entries: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_setup(**entries)


def test_wrong_chains_and_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="has no band 'u'"):
        SimulatedSurvey(small(bands=("u",)))
    with pytest.raises(ValueError, match="no such file"):
        SimulatedSurvey(small(chain="nowhere.toml"))
    with pytest.raises(ValueError, match=r"SPLUS: no such file; .* or shipped passbands by name: .*minisitian"):
        SimulatedSurvey(small(chain="SPLUS"))
