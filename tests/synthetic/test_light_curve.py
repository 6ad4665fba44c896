"""Light curves: the rows of a source, errors that are what they say, bins, periods."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import xp
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.synthetic import LightCurve, Photometry
from xpjax.synthetic.light_curve import _common
from xpjax.xp import SourceTable, concatenate

PERIOD = 0.56123456
BANDS = "JPLUS:gJPLUS,rJPLUS,iJPLUS"
N, TRANSITS = 8, 40


def rr_lyrae(time: np.ndarray, period: float = PERIOD) -> np.ndarray:
    """Magnitudes about the mean in BP and RP: a fast rise and a slow decline, less and a little later in RP."""
    amplitude, shift = np.array([0.35, 0.17, 0.11, 0.07, 0.04]), np.array([0.0, 2.4, 5.0, 1.5, 4.0])
    turns = 2 * np.pi * np.arange(1, 6)

    def curve(phase: np.ndarray) -> np.ndarray:
        return -(amplitude * np.cos(turns * phase[..., None] + shift)).sum(axis=-1)

    return np.stack([curve(time / period), 0.7 * curve(time / period - 0.02)], axis=-1)


@pytest.fixture(scope="module")
def constant() -> SourceTable:
    return xpjax.simulate_sources(N, seed=3, transits=TRANSITS)


@pytest.fixture(scope="module")
def stars(constant: SourceTable) -> Photometry:
    return xpjax.photometry(constant, BANDS)


@pytest.fixture(scope="module")
def variable() -> Photometry:
    return xpjax.photometry(xpjax.simulate_sources(N, seed=3, transits=TRANSITS, variability=rr_lyrae), BANDS)


def test_an_axis_is_not_that_of_the_worst_bar(variable: Photometry) -> None:
    curve = variable.lightcurve(int(variable.source_id[0]))
    error, magnitude = np.array(curve.magnitude_error), np.array(curve.magnitude)
    place = np.unravel_index(int(np.argmax(np.isfinite(magnitude))), magnitude.shape)
    error[place], magnitude[place] = 140.0, 25.0
    faint, bright = dataclasses.replace(curve, magnitude=magnitude, magnitude_error=error).plot().axes[0].get_ylim()
    rest = np.delete(magnitude.ravel(), np.ravel_multi_index(place, magnitude.shape))
    assert bright < np.nanmin(rest)
    assert np.nanmax(rest) < faint < np.nanmax(rest) + 2


def test_the_rows_of_a_source_by_time(stars: Photometry, constant: SourceTable) -> None:
    one = constant.source_id[TRANSITS]
    shuffled = stars[np.random.default_rng(0).permutation(len(stars))]
    curve = shuffled.lightcurve(one)
    mine = constant.source_id == one
    np.testing.assert_array_equal(curve.time, constant.columns["time"][mine])
    np.testing.assert_array_equal(curve.transit_id, constant.columns["transit_id"][mine])
    np.testing.assert_array_equal(curve.magnitude, stars.magnitude[mine])
    np.testing.assert_array_equal(curve.magnitude_error, stars.magnitude_error[mine])
    np.testing.assert_array_equal(curve["gJPLUS"], stars["gJPLUS"][mine])
    assert curve.bands == ("Jplus_gJPLUS", "Jplus_rJPLUS", "Jplus_iJPLUS")
    assert len(curve[:5]) == 5
    some = stars.lightcurve(one, ["iJPLUS", "Jplus_gJPLUS"])
    np.testing.assert_array_equal(some.magnitude, stars.magnitude[mine][:, [2, 0]])


def test_what_is_in_no_light_curve(constant: SourceTable, stars: Photometry) -> None:
    one = constant.source_id[0]
    time, status = stars.transits["time"].copy(), stars.status.copy()
    time[3] = np.nan
    status[5] |= np.uint32(Status.DUPLICATE)
    odd = dataclasses.replace(stars, transits={**stars.transits, "time": time}, status=status)
    curve = odd.lightcurve(one)
    assert curve.left_out == 2
    assert len(curve) == TRANSITS - 2
    with pytest.raises(XpjaxError, match="no source 17 among 8"):
        stars.lightcurve(17)
    with pytest.raises(XpjaxError, match="8 sources: say which by source_id="):
        stars.lightcurve()
    with pytest.raises(XpjaxError, match="'zJPLUS' is not among the bands"):
        stars.lightcurve(one, "zJPLUS")
    with pytest.raises(XpjaxError, match="magnitudes of mean spectra"):
        dataclasses.replace(stars, transits={}).lightcurve(one)
    with pytest.raises(XpjaxError, match="has mean spectra"):
        xpjax.lightcurve(xpjax.simulate_sources(2), None, "SDSS")
    with pytest.raises(XpjaxError, match="a mean magnitude is no transit's: give the magnitudes of each"):
        xpjax.synthetic.tie_to_gaia(constant, stars)
    with pytest.raises(XpjaxError, match="photometry is taken as it is: leave out truncate"):
        xpjax.lightcurve(stars, one, truncate=True)


@pytest.mark.slow
def test_transits_of_several_files_count_once(constant: SourceTable, stars: Photometry, tmp_path: Path) -> None:
    """Status tells what is repeated within each file alone; a copy with a time is used for one without."""
    one = int(constant.source_id[0])
    first, second = constant[:25], constant[15:TRANSITS]
    time = first.columns["time"].copy()
    time[20] = np.nan
    first = dataclasses.replace(first, columns={**first.columns, "time": time})
    xpjax.write(tmp_path / "a.parquet", first)
    xpjax.write(tmp_path / "b.parquet", second)
    xpjax.ingest([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "store", correlations="float32")
    for source in (tmp_path / "store", concatenate([first, second], "both")):
        curve = xpjax.lightcurve(source, one, BANDS)
        np.testing.assert_array_equal(curve.transit_id, constant.columns["transit_id"][:TRANSITS])
        np.testing.assert_allclose(curve.magnitude, stars.lightcurve(one).magnitude, rtol=1e-5)
        assert curve.left_out == 10
    with pytest.raises(XpjaxError, match=r"store: no source 77$"):
        xpjax.lightcurve(tmp_path / "store", 77, BANDS)


def test_numbers_that_are_none(stars: Photometry) -> None:
    one = int(stars.source_id[0])
    curve = stars.lightcurve(one)
    for wrong in (np.nan, np.inf, True, np.bool_(True), "0.5", [0.5]):
        with pytest.raises(XpjaxError, match="a period is a positive number of days, not"):
            curve.fold(wrong)
        with pytest.raises(XpjaxError, match="an epoch is a finite number of days, not"):
            curve.fold(0.5, wrong)
        with pytest.raises(XpjaxError, match="an epoch is a finite number of days, not"):
            xpjax.lightcurve(stars, one, period=0.5, epoch=wrong)
    for kind in (np.float32, np.float64, np.int64, np.int16, np.uint8, np.asarray):
        folded = xpjax.lightcurve(stars, one, period=kind(2), epoch=kind(3))
        assert (folded.period, folded.epoch) == (2.0, 3.0)
    for wrong in ("abc", 1.5, True, 1e19):
        with pytest.raises(XpjaxError, match="source_id is an integer of up to 19 digits, not"):
            xpjax.lightcurve(stars, wrong)
        with pytest.raises(XpjaxError, match="source_id is an integer of up to 19 digits, not"):
            stars.lightcurve(wrong)
    assert len(curve.bin(np.int32(5))) == 5
    for wrong in (2.5, "3", True, np.nan):
        with pytest.raises(XpjaxError, match="bins: give a whole number"):
            curve.bin(wrong)
    for wrong in (np.nan, "3", -1):
        with pytest.raises(XpjaxError, match="give a width: it is a positive number of days, or of phase, not"):
            curve.bin(width=wrong)


def test_chi2_of_constant_stars_is_one(stars: Photometry) -> None:
    found = np.array([stars.lightcurve(one).chi2() for one in np.unique(stars.source_id)])
    assert found.mean() == pytest.approx(1, abs=0.15)  # 24 of about 30 degrees of freedom each
    assert (found > 0.3).all()
    assert (found < 2.5).all()
    # In magnitudes the scatter is what the errors say, too.
    pull = [
        (c.magnitude - np.nanmean(c.magnitude, 0)) / c.magnitude_error
        for c in map(stars.lightcurve, {*stars.source_id.tolist()})
    ]
    assert 0.8 < np.nanstd(np.concatenate(pull)) < 1.2


def test_bins_are_weighted_means_of_fluxes(variable: Photometry) -> None:
    curve = variable.lightcurve(int(variable.source_id[0])).fold(PERIOD)
    bins = curve.bin(7)
    assert curve.phase is not None
    assert bins.phase is not None
    assert bins.number is not None
    place = np.floor(curve.phase * 7).astype(int)
    for row, number in enumerate(np.unique(place)):
        here = (place == number) & np.isfinite(curve.flux[:, 1])
        assert bins.number[row, 1] == here.sum()
        if not here.any():
            assert np.isnan(bins.magnitude[row, 1])
            continue
        flux, error = curve.flux[here, 1].astype(float), curve.flux_error[here, 1].astype(float)
        mean = np.average(flux, weights=error**-2)
        assert bins.flux[row, 1] == pytest.approx(mean, rel=1e-6)
        assert bins.flux_error[row, 1] == pytest.approx(np.sum(error**-2) ** -0.5, rel=1e-6)
        zero_point = np.nanmean(curve.magnitude[here, 1] + 2.5 * np.log10(flux))
        assert bins.magnitude[row, 1] == pytest.approx(zero_point - 2.5 * np.log10(mean), abs=1e-5)
        assert bins.phase[row] == pytest.approx(curve.phase[place == number].mean(), abs=1e-6)
    assert bins.number[:, 1].sum() == np.isfinite(curve.flux[:, 1]).sum()
    assert len(curve.bin(width=0.25)) <= 4
    by_time = variable.lightcurve(int(variable.source_id[0])).bin(width=200.0)
    assert len(by_time) <= 11
    assert (np.diff(by_time.time) > 0).all()
    bare = dataclasses.replace(curve, flux_error=None, magnitude_error=None).bin(5)
    assert np.isfinite(bare.magnitude_error[bare.number > 1]).all()
    for call in ({}, {"number": 3, "width": 0.1}, {"number": 0}, {"width": -1.0}):
        with pytest.raises(XpjaxError, match="give"):
            curve.bin(**call)
    with pytest.raises(XpjaxError, match="fold first"):
        bins.fold(1.0)


def test_a_constant_star_in_bins_is_constant(stars: Photometry) -> None:
    pulls = []
    for one in np.unique(stars.source_id):
        bins = stars.lightcurve(one).fold(PERIOD).bin(6)
        weight = bins.flux_error.astype(float) ** -2
        pulls.append((bins.flux - np.nansum(weight * bins.flux, 0) / np.nansum(weight, 0)) / bins.flux_error)
    assert 0.75 < np.nanstd(np.concatenate(pulls)) < 1.15


def test_tables_and_files(variable: Photometry, tmp_path: Path) -> None:
    curve = xpjax.lightcurve(variable, int(variable.source_id[0]), bands="gJPLUS", period=PERIOD)
    table = curve.to_table()
    assert table.colnames[:4] == ["source_id", "transit_id", "time", "phase"]
    assert table["time"].unit == "d"
    assert table["Jplus_mag_error_gJPLUS"].unit == "mag"
    xpjax.write(tmp_path / "curve.ecsv", curve)
    again = catalogue.read_catalogue(tmp_path / "curve.ecsv")
    assert again.meta["period"] == PERIOD
    np.testing.assert_array_equal(again.columns["transit_id"], curve.transit_id)
    np.testing.assert_array_equal(again.columns["time"], curve.time)
    binned = xpjax.lightcurve(variable, int(variable.source_id[0]), period=PERIOD, bins=4).to_table()
    assert "Jplus_number_gJPLUS" in binned.colnames
    assert "transit_id" not in binned.colnames
    figure = curve.plot()
    assert figure.axes[0].get_xlabel() == "Phase"
    assert figure.axes[0].yaxis_inverted()
    assert "BJD" in variable.lightcurve(int(variable.source_id[0])).plot().axes[0].get_xlabel()


def test_what_bands_have_in_common() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 0.3, 60)
    error = np.tile([0.02, 0.01, 0.05], (60, 1))
    magnitude = np.array([15.0, 14.0, 13.0]) + truth[:, None] * [1.3, 1.0, 0.7] + error * rng.normal(size=(60, 3))
    magnitude[rng.random((60, 3)) < 0.2] = np.nan
    series, sigma = _common(magnitude, error)
    there = np.isfinite(series)
    np.testing.assert_array_equal(there, np.isfinite(magnitude).any(axis=1))
    assert sigma is not None
    offset = series - (truth - truth.mean())
    assert np.nanstd(offset) < 0.02
    assert 0.7 < np.nanstd((offset - np.nanmean(offset)) / sigma) < 1.3


@pytest.mark.slow
def test_the_period_of_an_rr_lyrae_star(variable: Photometry) -> None:
    """To 1e-5 where a transit has 0.03 mag; of fainter stars within the error, or none, and never another one."""
    right = 0
    for one in np.unique(variable.source_id):
        curve = variable.lightcurve(one)
        found = curve.periods()
        if np.isfinite(found.period) and not found.aliases:
            assert found.period == pytest.approx(PERIOD, abs=4 * found.error)
            assert found.false_alarm < 1e-3
            assert found.error < 2e-5 * PERIOD
            right += abs(found.period / PERIOD - 1) < 1e-5
    assert right >= 5
    constant = xpjax.photometry(xpjax.simulate_sources(3, seed=11, transits=TRANSITS), BANDS)
    for one in np.unique(constant.source_id):
        assert not np.isfinite(constant.lightcurve(one).periods().period)
    with pytest.raises(XpjaxError, match="no significant period"):
        xpjax.lightcurve(constant, int(constant.source_id[0]), period="find")


@pytest.mark.slow
def test_every_way_gives_the_same_curve(constant: SourceTable, stars: Photometry, tmp_path: Path) -> None:
    """From sources, their file, a store and a file of photometry; in Python and by the command."""
    one = int(constant.source_id[0])
    expected = stars.lightcurve(one)
    xpjax.write(tmp_path / "epochs.parquet", constant)
    xpjax.write(tmp_path / "stars.parquet", stars)
    xpjax.ingest([tmp_path / "epochs.parquet"], tmp_path / "store", correlations="float32")

    def check(curve: LightCurve) -> None:
        np.testing.assert_array_equal(curve.time, expected.time)
        np.testing.assert_allclose(curve.flux, expected.flux, rtol=2e-5)
        np.testing.assert_allclose(curve.magnitude_error, expected.magnitude_error, rtol=2e-5)

    check(xpjax.lightcurve(constant, one, BANDS))
    check(xpjax.lightcurve(tmp_path / "epochs.parquet", one, BANDS))
    check(xpjax.lightcurve(tmp_path / "store", one, BANDS))
    check(xpjax.lightcurve(tmp_path / "stars.parquet", one))
    for source, system in (("store", ("--system", BANDS)), ("stars.parquet", ())):
        output, figure = tmp_path / "curve.ecsv", tmp_path / "curve.png"
        call = ("--source", one, *system, "--period", PERIOD, "--plot", figure, "-o", output, "--overwrite")
        done = xp("lightcurve", tmp_path / source, *call)
        assert done.exit_code == 0, done.stderr
        assert f"40 transits of source {one} written to curve.ecsv" in done.stderr
        found = catalogue.read_catalogue(output)
        assert found.meta["command"] == "xpjax lightcurve"
        np.testing.assert_array_equal(found.columns["transit_id"], expected.transit_id)
        np.testing.assert_allclose(found.columns["Jplus_mag_gJPLUS"], expected["gJPLUS"], rtol=1e-5)
        assert figure.stat().st_size > 1000


def test_wrong_calls_of_the_command(stars: Photometry, tmp_path: Path) -> None:
    xpjax.write(tmp_path / "stars.parquet", stars)
    call = ("lightcurve", tmp_path / "stars.parquet", "-o", tmp_path / "out.csv")
    for options, told in (
        ((), "8 sources: say which by --source"),
        (("--source", 17), "no source 17 among 8"),
        (("--source", stars.source_id[0], "--period", "often"), "expected a number of days, or find"),
        (("--source", stars.source_id[0], "--band", "u"), "'u' is not among the bands"),
        (("--source", stars.source_id[0], "--truncate"), "leave out truncate"),
        (("--source", stars.source_id[0], "--period", "-1"), "a positive number of days"),
        (("--source", stars.source_id[0], "--epoch", "3"), "an epoch is of a period: give --period"),
    ):
        done = xp(*call, *options)
        assert done.exit_code == 2, told
        assert told in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_what_the_command_cannot_use(stars: Photometry, tmp_path: Path) -> None:
    """Nothing is written before a figure is possible; a message names what was given, and options."""
    one, out = int(stars.source_id[0]), tmp_path / "out.csv"
    dark = dataclasses.replace(stars, magnitude=np.full_like(stars.magnitude, np.nan))
    without = dataclasses.replace(stars, transits={**stars.transits, "time": np.full(len(stars), np.nan)})
    xpjax.write(tmp_path / "dark.parquet", dark)
    xpjax.write(tmp_path / "without.parquet", without)
    xpjax.write(tmp_path / "stars.csv", stars)
    xpjax.write(tmp_path / "bins.parquet", stars.lightcurve(one).bin(3))
    for name, options, told in (
        ("dark.parquet", ("--plot", tmp_path / "a.png"), "no magnitudes to plot"),
        ("without.parquet", ("--plot", tmp_path / "a.png"), "no magnitudes to plot"),
        ("stars.csv", (), "does not name its systems; give --system or --passbands, as"),
        ("dark.parquet", ("--period", "0.5", "--epoch", "nan"), "an epoch is a finite number of days, not nan"),
        ("dark.parquet", ("--period", "inf"), "a period is a positive number of days, not inf"),
        ("bins.parquet", (), "is a light curve in bins, which have no transits"),
        (".", (), "is a directory, and no store: give one file of it"),
        (".", ("--system", "SDSS"), "is a directory, and no store: give one file of it"),
    ):
        done = xp("lightcurve", tmp_path / name, "--source", one, *options, "-o", out)
        assert done.exit_code == 2, done.stderr
        assert told in done.stderr
        assert not out.exists()
        assert not (tmp_path / "a.png").exists()
    for name, told in (("without.parquet", "no transit to use"), ("dark.parquet", "no transit has a flux above zero")):
        done = xp("lightcurve", tmp_path / name, "--source", one, "-o", out, "--overwrite")
        assert done.exit_code == 0
        assert f"no magnitudes: {told}" in done.stderr
    assert (
        "40 transits left out: without time, or repeated"
        in xp("lightcurve", tmp_path / "without.parquet", "--source", one, "-o", out, "--overwrite").stderr
    )
    with pytest.raises(XpjaxError, match="a light curve already"):
        xpjax.lightcurve(stars.lightcurve(one))
