"""Configurations that are guessed: what columns of many programs mean, what is not taken, and that calibrations run."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import xpjax
from tests.survey.reading.flavors import N, field, flavors
from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.config import read_joint_config
from xpjax.survey.reading.calibration import calibrate_survey
from xpjax.survey.reading.config import read_config
from xpjax.survey.reading.initial import InitialConfig, initial_config
from xpjax.survey.reading.tables import read_observations

FLAVORS = flavors()


def columns(found: InitialConfig) -> dict[str, Any]:
    return dict(found.table["columns"])


def sure(found: InitialConfig, entry: str) -> str:
    return next(guess.sure for guess in found.guesses if guess.entry == entry)


@pytest.mark.parametrize("name", FLAVORS)
def test_columns_of_many_programs(name: str) -> None:
    table, expected = FLAVORS[name]
    found = initial_config([table])
    mine = columns(found)
    assert {key: mine.get(key) for key in expected} == expected
    assert not found.ready
    assert "standards are not known" in found.notes[-1]
    # What is written is read as it is meant, and every guess says why.
    assert {**tomllib.loads(found.text)["columns"]} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in mine.items()
    }
    assert all(guess.why in found.text for guess in found.guesses)


def test_what_is_as_likely_is_told_and_can_be_said() -> None:
    c = field()
    table = {"x": c["x"], "y": c["y"], "mag_a": c["m"], "mag_a_err": c["e"], "mag_b2": c["m"], "mag_b2_err": c["e"]}
    found = initial_config({"e": table})
    assert sure(found, "columns.magnitude") == "guess"
    assert "the first of 2 that are as likely; also there: mag_b2" in found.text
    found = initial_config({"e": table}, entries={"columns.magnitude": "mag_b2", "columns.x": None, "columns.y": None})
    assert columns(found) == {"magnitude": "mag_b2", "magnitude_error": "mag_b2_err"}
    found = initial_config(
        {"e": table}, entries={"columns.apertures": ["mag_a", "mag_b2"], "columns.x": None, "columns.y": None}
    )
    assert {*columns(found)} == {"apertures"}
    with pytest.raises(XpjaxError, match=r"unknown entry of \[model\] 'order'"):
        initial_config({"e": table}, entries={"model.order": 2})
    with pytest.raises(XpjaxError, match=r"no column 'mag_c' for columns\.magnitude; did you mean"):
        initial_config({"e": table}, entries={"columns.magnitude": "mag_c"})
    with pytest.raises(XpjaxError, match="is no entry: expected one of columns"):
        initial_config({"e": table}, entries={"magnitude": "mag_b2"})


@pytest.mark.parametrize(("factor", "said"), [(1e3, "too much for magnitudes"), (1.0, "")])
def test_errors_in_another_unit_are_told(factor: float, said: str) -> None:
    c = field()
    found = initial_config({"e": {"mag": c["m"], "magerr": c["e"] * factor}})
    assert (said in " ".join(found.notes)) if said else "magerr" not in " ".join(found.notes)


def test_radians_and_no_magnitudes_are_told() -> None:
    c = field()
    found = initial_config({"e": {"ra": np.radians(c["ra"]), "dec": np.radians(c["dec"]), "mag": c["m"]}})
    assert sure(found, "columns.ra") == "guess"
    assert any("may be radians" in note for note in found.notes)
    with pytest.raises(XpjaxError, match=r"no column that looks like a magnitude or a flux; it has x, y\. Say which"):
        initial_config({"e": {"x": c["x"], "y": c["y"]}})


@pytest.mark.parametrize("moved", [0.0, 30.0])
def test_identifiers_of_gaia_encode_positions(moved: float) -> None:
    stars = xpjax.simulate_sources(40, seed=1)
    from xpjax.core.sky import pixel_centers

    ra, dec = pixel_centers(stars.source_id)
    found = initial_config(
        {"e": {"source_id": stars.source_id, "ra": (ra + moved) % 360, "dec": dec, "mag": np.linspace(-9, -7, 40)}}
    )
    if moved:
        assert "star" not in columns(found)
        assert any("source_id is not taken for Gaia's identifier" in note for note in found.notes)
    else:
        assert sure(found, "columns.star") == "certain"


def write(folder: Path, name: str, table: dict[str, Any], **header: Any) -> Path:
    made = Table(table)
    made.meta.update(header)
    made.write(folder / name)
    return folder / name


def test_headers_tell_exposures_bands_detectors_times_and_airmass(tmp_path: Path) -> None:
    c = field()
    table = {"X": c["x"], "Y": c["y"], "MAG": c["m"], "MAGERR": c["e"]}
    paths = [
        write(tmp_path, f"e{k}_{ccd}.fits", table, EXPID=k, CCDNUM=ccd, FILTER="gr"[k % 2], AIRMASS=1.0 + 0.1 * k,
              EXPOSURE=30.0, **{"DATE-OBS": f"2026-01-3{k}T01:02:03", "OBSID": 7})
        for k in (0, 1) for ccd in (3, 4)
    ]  # fmt: skip
    found = initial_config(paths)
    mine = columns(found)
    expected = {"exposure": "EXPID", "band": "FILTER", "detector": "CCDNUM", "time": "DATE-OBS", "airmass": "AIRMASS"}
    assert {key: mine[key] for key in expected} == {key: {"header": word} for key, word in expected.items()}
    # The time that an exposure took is no name of it.
    assert "header EXPOSURE = 30.0 does not tell the exposures: not taken" in found.notes


def test_an_airmass_of_zero_is_none(tmp_path: Path) -> None:
    c = field()
    found = initial_config(write(tmp_path, "e.fits", {"mag": c["m"]}, AIRMASS=0.0))
    assert "airmass" not in columns(found)
    assert "header AIRMASS = 0.0 is no airmass: not taken" in found.notes


@pytest.mark.slow
def test_bands_in_names_of_files(tmp_path: Path) -> None:
    c = field()
    table = {"X": c["x"], "Y": c["y"], "MAG": c["m"], "MAGERR": c["e"], "model": c["model"], "bp_rp": c["color"]}
    paths = [write(tmp_path, f"tile_{band}_{k}.fits", table) for band in ("m425", "m450") for k in (1, 2)]
    found = initial_config(paths)
    assert sure(found, "columns.band") == "likely"
    found.write(tmp_path / "survey.toml")
    calibrated = calibrate_survey(paths, tmp_path / "survey.toml")
    assert calibrated.complete
    assert sorted(calibrated.calibrated.observations.frames.band.tolist()) == ["m425"] * 2 + ["m450"] * 2


def test_fluxes_are_read_as_their_magnitudes_are() -> None:
    c = field()
    common = {"x": c["x"], "y": c["y"], "model": c["model"], "bp_rp": c["color"]}
    by_flux = {**common, "flux": c["f"], "flux_err": c["f"] * c["e"] * np.log(10) / 2.5}
    by_flux["flux"][3] = -1.0
    read = read_observations({"e": by_flux}, read_config(tomllib.loads(initial_config({"e": by_flux}).text)))
    o = read.observations
    np.testing.assert_allclose(np.delete(o.magnitude, 3), np.delete(c["m"], 3), atol=1e-9)
    np.testing.assert_allclose(np.delete(o.magnitude_error, 3), np.delete(c["e"], 3), rtol=1e-9)
    assert np.isnan(o.magnitude[3])  # a flux below zero has no magnitude


def test_the_model_is_what_the_standards_can_pay_for() -> None:
    c = field()
    table = {"x": c["x"], "y": c["y"], "mag": c["m"], "mag_err": c["e"], "model": c["model"], "bp_rp": c["color"]}
    orders = {}
    for n in (N, 45, 14):
        found = initial_config({"e": {name: values[:n] for name, values in table.items()}})
        assert found.ready
        orders[n] = (found.table["model"]["position_order"], found.table["model"]["color_order"])
    assert orders == {N: (2, 2), 45: (1, 1), 14: (0, 0)}
    # Without a color, or positions, there are no such terms, and the configuration is one that is read.
    found = initial_config({"e": {name: table[name] for name in ("mag", "mag_err", "model")}})
    assert (found.table["model"]["position_order"], found.table["model"]["color_order"]) == (0, 0)
    read_config(tomllib.loads(found.text))


def test_a_table_of_standards_is_joined(tmp_path: Path) -> None:
    c = field()
    stars = {"source_id": c["k"] + (1 << 50), "ra": c["ra"], "dec": c["dec"], "model": c["model"], "bp_rp": c["color"]}
    path = write(tmp_path, "standards.fits", stars)
    table = {**{name: c[name] for name in ("x", "y", "ra", "dec")}, "mag": c["m"], "mag_err": c["e"], "bp_rp": c["e"]}
    found = initial_config({"e": table}, standards=path)
    assert found.table["standards"] == {"file": str(path), "match": "position"}
    assert columns(found)["color"] == "standards.bp_rp"  # the detections have such a column too
    found.write(tmp_path / "survey.toml")
    assert 'file = "standards.fits"' in (tmp_path / "survey.toml").read_text()  # relative to the configuration
    read = read_observations({"e": table}, read_config(tmp_path / "survey.toml"))
    assert read.account.n_matched == N
    assert np.isfinite(read.observations.model).all()
    with pytest.raises(FileExistsError):
        found.write(tmp_path / "survey.toml")


def test_tables_of_one_file_are_detectors(tmp_path: Path) -> None:
    c = field()
    parts = [fits.PrimaryHDU(), *(fits.table_to_hdu(Table({"mag": c["m"], "magerr": c["e"]})) for _ in "ab")]
    parts[0].header.update({"EXPNUM": 77, "FILTER": "g"})
    for part, name in zip(parts[1:], ("S1", "N4"), strict=True):
        part.name = name
    fits.HDUList(parts).writeto(tmp_path / "decam.fits")
    found = initial_config(tmp_path / "decam.fits")
    expected = {"exposure": {"header": "EXPNUM"}, "band": {"header": "FILTER"}, "detector": None}
    assert {key: columns(found).get(key) for key in expected} == expected


def test_large_tables_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    table, expected = FLAVORS["LSST sources"]
    monkeypatch.setattr("xpjax.survey.reading.look.ROWS", 20)
    mine = columns(initial_config([table]))
    assert {key: mine.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"flux_error": "e"}, "flux_error and no flux"),
        ({"flux": "f"}, "magnitude and flux, of which one is calibrated"),
    ],
)
def test_fluxes_come_instead_of_magnitudes(more: dict[str, str], said: str) -> None:
    with pytest.raises(XpjaxError, match=said):
        read_config({"columns": {"star": "id", "magnitude": "m", **more}, "model": {"position_order": 0}})


def test_patterns_of_file_names_have_one_group(tmp_path: Path) -> None:
    c = field()
    path = write(tmp_path, "tile_r_1.fits", {"mag": c["m"], "M": c["model"]})
    chosen = {"magnitude": "mag", "model": "M", "band": {"file": "_[ugriz]_"}}
    with pytest.raises(XpjaxError, match="expected a regular expression with one group in brackets"):
        calibrate_survey(path, {"columns": chosen, "model": {"position_order": 0, "color_order": 0}})


def test_stars_that_come_again_are_told_by_their_number() -> None:
    c, k = field(), np.arange(N)
    table = {"star": k % 30, "exposure": k // 30, "mag": c["m"], "mag_err": c["e"]}
    assert sure(initial_config([table]), "columns.star") == "guess"
    found = initial_config([{"star": k, "mag": c["m"]}])  # a number of the row
    assert "star" not in columns(found)
    assert "star is not taken for an identifier of stars: it counts the rows" in found.notes


def test_spectra_need_passbands() -> None:
    c = field()
    with pytest.raises(XpjaxError, match="spectra need the passbands of the survey"):
        initial_config({"e": {"mag": c["m"]}}, spectra="xp.parquet")


def test_bands_are_called_as_the_passbands_are(tmp_path: Path) -> None:
    c = field()
    paths = [write(tmp_path, f"{k}.fits", {"mag": c["m"], "ra": c["ra"], "dec": c["dec"]}, FILTER=name)
             for k, name in enumerate(("r DECam SDSS c0002 6415.0 1480.0", "g", "VR"))]  # fmt: skip
    found = initial_config(paths, passband="SDSS", entries={"standards.fetch": True, "columns.star": None})
    assert found.table["passband"]["bands"] == {"r DECam SDSS c0002 6415.0 1480.0": "r"}
    assert any("no passband is called as the survey's band 'VR'" in note for note in found.notes)


def test_bands_without_a_passband_are_left_out_in_a_line(tmp_path: Path) -> None:
    c = field()
    base = {"ra": c["ra"], "dec": c["dec"], "x": c["x"], "y": c["y"], "MAG": c["m"], "MAGERR": c["e"]}
    files = [write(tmp_path, f"{band}.fits", base, FILTER=band, NIGHT="1") for band in ("g", "r", "Halpha")]
    entries = {"standards.fetch": True, "model.position_order": 0}
    found = initial_config(files, passband="SDSS", entries=entries)
    assert found.table["selection"]["bands"] == ["g", "r"]
    assert 'bands = ["g", "r"]  # left out, as no passband is theirs: Halpha' in found.text
    assert "cuts" in found.table["selection"]
    wide = {"ra": c["ra"], "dec": c["dec"], **{f"mag_{band}": c["m"] for band in ("g", "r", "w")}}
    found = initial_config({"e": wide}, passband="SDSS", entries={"standards.fetch": True})
    assert columns(found)["bands"] == ["g", "r"]


def test_a_keyword_that_counts_exposures_is_no_detector(tmp_path: Path) -> None:
    c = field()
    table = {"x": c["x"], "y": c["y"], "MAG": c["m"], "MAGERR": c["e"], "model": c["m"] + 3}
    times = [60000.0, 60000.1, 60000.2]
    files = [write(tmp_path, f"{k}.fits", table, CCDNUM=k, **{"MJD-OBS": time}) for k, time in enumerate(times)]
    found = initial_config(files)
    assert "detector" not in columns(found)
    assert "header CCDNUM is another one in each exposure: not taken for the detector" in found.notes
    files = [write(tmp_path, f"c{k}.fits", table, CCDNUM=k, **{"MJD-OBS": 60000.0}) for k in range(3)]
    assert columns(initial_config(files))["detector"] == {"header": "CCDNUM"}


def test_terms_of_a_joint_solution_are_those_that_the_columns_allow(tmp_path: Path) -> None:
    c = field()
    plain = {"star": c["k"], "MAG": c["m"], "MAGERR": c["e"], "model": c["m"] + 3}
    everything = {**plain, "x": c["x"], "y": c["y"], "bp_rp": np.linspace(0.5, 1.5, len(c["m"]))}
    for table, kinds in ((plain, ["zero_point"]), (everything, ["zero_point", "color", "flat"])):
        text = initial_config({"e": table}).text
        head, mark, rest = text.partition("# [[term]]")
        lines = [line.removeprefix("# ") for line in (mark + rest).splitlines() if not line.startswith("# On")]
        (tmp_path / "joint.toml").write_text(head + "\n".join(lines))
        made = read_joint_config(tmp_path / "joint.toml")
        assert [term.kind for term in made.terms] == kinds


def test_tables_of_different_columns_have_some_in_common() -> None:
    c = field()
    found = initial_config({"a": {"mag": c["m"], "x": c["x"], "y": c["y"]}, "b": {"mag": c["m"], "z": c["x"]}})
    assert columns(found) == {"magnitude": "mag"}
    assert any("columns of some tables only, which are left alone: x, y, z" in note for note in found.notes)
    with pytest.raises(XpjaxError, match="no column in common"):
        initial_config({"a": {"mag": c["m"]}, "b": {"m": c["m"]}})


@pytest.mark.slow
def test_the_real_field(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared("splus/stripe82_0001_400.fits")
    found = initial_config(path)
    mine = columns(found)
    assert (mine["magnitude"], mine["magnitude_error"], mine["model"]) == (
        "SPLUS_{band}", "SPLUS_{band}_err", "SPLUS_{band}_mod",
    )  # fmt: skip
    assert mine["color"] == ("SPLUS_G_mod", "SPLUS_I_mod")
    assert sure(found, "columns.star") == "certain"
    assert "U" not in mine["bands"]
    found.write(tmp_path / "survey.toml")
    tested = calibrate_survey(path, tmp_path / "survey.toml", folds=10).cross_validation
    assert tested is not None
    scatter = dict(zip(tested.observations.frames.band.tolist(), (1e3 * tested.scatter).tolist(), strict=True))
    for band, limit in {"R": 10.8, "I": 10.0, "G": 14.7, "Z": 10.3}.items():
        assert scatter[band] < limit + 0.05
