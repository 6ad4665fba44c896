"""`xpjax survey`: one FITS table of one exposure, several bands, standards apart, application, refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from tests.survey.exposures.helpers import made
from xpjax.core.records import Catalogue
from xpjax.core.shipped import filters_folder
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey.observations import FrameFlag, RowFlag
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.projection import passband_system
from xpjax.xp import simulate

TOML = """
[columns]
star = "source_id"
x = "X"
y = "Y"
magnitude = "MAG"
magnitude_error = "ERR"
model = "MOD"
color = ["G_mod", "I_mod"]
[model]
position_order = 2
color_order = 2
numerical_flat = true
"""
NAMES = {"zeropoints.ecsv", "solution.h5", "calibrated.parquet"}
FIRST = ["star", "exposure", "magnitude", "magnitude_error", "systematic_error", "residual", "status"]


def table(seed: int = 0, n: int = 300, **more: np.ndarray) -> Catalogue:
    o = made(seed, n)
    return Catalogue(
        {
            "source_id": o.star + (1 << 60), "X": o.x, "Y": o.y, "MAG": o.magnitude, "ERR": o.magnitude_error,
            "MOD": o.model, "G_mod": o.color, "I_mod": 0 * o.color, **more,
        }
    )  # fmt: skip


def part(whole: Catalogue, rows: np.ndarray) -> Catalogue:
    return Catalogue({name: column[rows] for name, column in whole.columns.items()}, meta=whole.meta)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "survey.toml").write_text(TOML)
    write(tmp_path / "field.fits", table())
    return tmp_path


def calibrated(folder: Path, *inputs: str, output: str = "solution", config: str = "survey.toml", rc: int = 0) -> str:
    done = xp(
        "survey", "calibrate", *(folder / name for name in inputs or ("field.fits",)), "--config", folder / config,
        "--output", folder / output,
    )  # fmt: skip
    assert done.exit_code == rc, done.stderr
    return done.stderr


@pytest.mark.slow
def test_one_exposure_from_one_table(folder: Path) -> None:
    said = calibrated(folder)
    assert "field: zero-point 3.0" in said
    assert set(files(folder / "solution")) == NAMES
    rows = read_catalogue(folder / "solution" / "calibrated.parquet")
    assert list(rows.columns)[:7] == FIRST
    assert {"x", "y", "file", "row"} <= set(rows.columns)
    assert rows.columns["star"][0] == 1 + (1 << 60)
    assert set(rows.columns["exposure"]) == {"field"}
    o = made()
    natural = o.model - 0.05 * (o.color - 1.15) + 0.02 * ((o.color - 1) ** 2 - 0.15**2)
    assert np.std(rows.columns["magnitude"] - natural) < 0.02
    zero = read_catalogue(folder / "solution" / "zeropoints.ecsv")
    assert zero.columns["quality"][0] == "OK"
    assert zero.meta["inputs"] == ["field.fits"]
    assert {"version", "date", "command"} <= set(zero.meta)


@pytest.mark.slow
def test_stars_that_took_no_part(folder: Path) -> None:
    held = np.arange(300) % 5 == 0
    write(folder / "train.fits", part(table(), ~held))
    write(folder / "test.parquet", part(table(), held))
    calibrated(folder, "train.fits")
    done = xp(
        "survey", "apply", folder / "test.parquet", "--solution", folder / "solution", "-o", folder / "out.parquet"
    )
    assert done.exit_code == 0, done.stderr
    rows = read_catalogue(folder / "out.parquet")
    assert list(rows.columns)[:7] == FIRST
    assert {"x", "y", "file", "row"} <= set(rows.columns)
    assert len(rows) == held.sum()
    assert set(rows.columns["exposure"]) == {"train"}
    assert "test.parquet: taken for exposure train, the only one of the solution" in done.stderr
    pull = rows.columns["residual"] / np.hypot(rows.columns["magnitude_error"], rows.columns["systematic_error"])
    assert np.std(pull) == pytest.approx(1, abs=0.25)
    assert not (rows.columns["status"] & np.uint32(RowFlag.STANDARD)).any()
    call = ("survey", "apply", folder / "test.parquet", "--solution", folder / "solution")
    new = xp(*call, "--new", "-o", folder / "new")
    assert new.exit_code == 0, new.stderr
    assert "FROZEN" in new.stderr
    assert files(folder / "new") == ["calibrated.parquet"]
    assert xp(*call, "--new", "--exposure", "train", "-o", folder / "no").exit_code == 2
    again = xp(*call, "-o", folder / "out.parquet")
    assert again.exit_code == 2
    assert "exists" in again.stderr


@pytest.mark.slow
def test_bands_by_pattern_and_by_tables(folder: Path) -> None:
    o = made(4)
    write(folder / "two.ecsv", table(r_mag=o.magnitude, r_err=o.magnitude_error, r_mod=o.model + 1, i_mag=o.magnitude))
    pattern = TOML.replace('"MAG"', '"{band}_mag"').replace('"ERR"', '"r_err"').replace('"MOD"', '"r_mod"')
    (folder / "pattern.toml").write_text(pattern.replace("[columns]", '[columns]\nbands = ["r", "i", "z"]'))
    said = calibrated(folder, "two.ecsv", config="pattern.toml", output="pattern")
    assert "band z of two is absent" in said
    zero = read_catalogue(folder / "pattern" / "zeropoints.ecsv")
    assert zero.columns["band"].tolist() == ["r", "i"]
    assert "band" in read_catalogue(folder / "pattern" / "calibrated.parquet").columns
    listed = TOML + '[[band]]\nname = "r"\nmagnitude = "r_mag"\nmodel = "r_mod"\n'
    (folder / "listed.toml").write_text(listed)
    calibrated(folder, "two.ecsv", config="listed.toml", output="listed")
    other = read_catalogue(folder / "listed" / "zeropoints.ecsv").columns["zero_point"][0]
    assert other == pytest.approx(zero.columns["zero_point"][0], abs=1e-3)


def test_standards_from_another_table(folder: Path) -> None:
    rng = np.random.default_rng(1)
    ra, dec = 10 + rng.uniform(0, 1, 300), rng.uniform(0, 1, 300)
    whole = table(ALPHA=ra, DELTA=dec)
    own = ("X", "Y", "MAG", "ERR", "ALPHA", "DELTA")
    write(folder / "seen.cat", Catalogue({name: whole.columns[name] for name in own}, meta={"AIRMASS": 1.3}))
    rows = rng.permutation(300)[:250]
    gaia = {name: whole.columns[name][rows] for name in ("source_id", "MOD", "G_mod", "I_mod")}
    write(folder / "gaia.parquet", Catalogue({**gaia, "ra": ra[rows] + 0.3 / 3600, "dec": dec[rows]}))
    (folder / "apart.toml").write_text(
        TOML.replace('star = "source_id"', 'ra = "ALPHA"\ndec = "DELTA"\nairmass = { header = "AIRMASS" }')
        + '[standards]\nfile = "gaia.parquet"\nmatch = "position"\n'
    )
    said = calibrated(folder, "seen.cat", config="apart.toml")
    assert "250 of 300 rows matched to standards, 0 ambiguous" in said
    rows_out = read_catalogue(folder / "solution" / "calibrated.parquet").columns
    assert np.isin(rows_out["star"][rows], gaia["source_id"]).all()
    assert np.count_nonzero(rows_out["star"] < 0) == 50
    assert np.isfinite(rows_out["magnitude"]).all()
    assert read_catalogue(folder / "solution" / "zeropoints.ecsv").columns["airmass"][0] == 1.3


def test_several_columns_name_a_detector(folder: Path) -> None:
    half = np.where(table().columns["X"] < 2000, "1", "2")
    write(folder / "mosaic.fits", table(TEL=np.full(300, "east"), CCD=half))
    (folder / "mosaic.toml").write_text(TOML.replace("[model]", 'detector = ["TEL", "CCD"]\n[model]'))
    calibrated(folder, "mosaic.fits", config="mosaic.toml")
    zero = read_catalogue(folder / "solution" / "zeropoints.ecsv").columns
    assert sorted(zero["detector"].tolist()) == ["east-1", "east-2"]


@pytest.mark.slow
def test_the_passband_at_each_exposures_airmass(tmp_path: Path) -> None:
    """Models and shifts from spectra; applied later from the files that the solution remembers."""
    stars = simulate.simulate_sources(60, seed=5)
    write(tmp_path / "xp.parquet", stars)
    chain = read_chain(filters_folder() / "minisitian" / "system.toml")
    parts = []
    for air in (1.0, 2.0):
        system = passband_system(chain.with_parameters(airmass=air).passbands())
        seen = np.asarray(photometry(stars, system, errors=False, float64=True).magnitude)[:, 0]
        parts.append((stars.source_id, seen - 22 + 0.2 * air, np.full(60, air), np.full(60, f"air{air:g}")))
    names = ("source_id", "MAG", "AIRMASS", "EXPOSURE")
    columns = {name: np.concatenate(c) for name, c in zip(names, zip(*parts, strict=True), strict=True)}
    write(tmp_path / "seen.parquet", Catalogue({**columns, "ERR": np.full(120, 0.002)}))
    (tmp_path / "survey.toml").write_text(
        '[columns]\nstar = "source_id"\nmagnitude = "MAG"\nmagnitude_error = "ERR"\nairmass = "AIRMASS"\n'
        'exposure = "EXPOSURE"\nbands = ["g"]\n[model]\nposition_order = 0\ncolor_order = 0\nmagnitude_order = 0\n'
        f'[passband]\nchain = "{filters_folder() / "minisitian" / "system.toml"}"\nsources = "xp.parquet"\n'
        'correction = "none"\n'
    )
    said = calibrated(tmp_path, "seen.parquet")
    assert "magnitudes at airmass 1.2: 120 by their spectra" in said
    rows = read_catalogue(tmp_path / "solution" / "calibrated.parquet").columns
    one, two = (rows["magnitude"][rows["exposure"] == f"air{k}"] for k in (1, 2))
    assert np.abs(one - two - np.median(one - two)).max() < 1e-4
    raw = columns["MAG"][:60] - columns["MAG"][60:]
    assert np.ptp(raw) > 5e-3
    done = xp(
        "survey",
        "apply",
        tmp_path / "seen.parquet",
        "--solution",
        tmp_path / "solution",
        "-o",
        tmp_path / "again.parquet",
    )
    assert done.exit_code == 0, done.stderr
    np.testing.assert_allclose(read_catalogue(tmp_path / "again.parquet").columns["magnitude"], rows["magnitude"])
    for air in (1, 2):  # alone, where the other exposure's airmass is not known
        rows_of = {name: column[columns["EXPOSURE"] == f"air{air}"] for name, column in columns.items()}
        write(tmp_path / f"{air}.parquet", Catalogue({**rows_of, "ERR": np.full(60, 0.002)}))
        call = ("survey", "apply", tmp_path / f"{air}.parquet", "--solution", tmp_path / "solution")
        assert xp(*call, "-o", tmp_path / f"alone{air}.parquet").exit_code == 0
        alone = read_catalogue(tmp_path / f"alone{air}.parquet").columns["magnitude"]
        np.testing.assert_array_equal(alone, one if air == 1 else two)
    text = (tmp_path / "survey.toml").read_text().replace('airmass = "AIRMASS"\n', "")
    (tmp_path / "airless.toml").write_text(text)
    done = xp(
        "survey", "calibrate", tmp_path / "seen.parquet", "--config", tmp_path / "airless.toml", "-o", tmp_path / "no"
    )
    assert done.exit_code == 2
    assert "[passband] needs columns.airmass" in done.stderr


def test_cuts_are_told(folder: Path) -> None:
    (folder / "cut.toml").write_text(
        TOML + '[selection]\ncuts = ["mini_sitian"]\nlimits = { magnitude_error = 0.015 }\n'
    )
    said = calibrated(folder, config="cut.toml")
    assert "cut magnitude_error: " in said
    assert "cut flags did not run: no column flags" in said
    flags = read_catalogue(folder / "solution" / "calibrated.parquet").columns["status"]
    np.testing.assert_array_equal((flags & np.uint32(RowFlag.CUT)) > 0, table().columns["ERR"] >= 0.015)


@pytest.mark.slow
def test_aperture_magnitudes_are_brought_together(folder: Path) -> None:
    o = made(2)
    lost = 0.2 + 0.05 * ((o.x / 2000 - 1) ** 2 + (o.y / 2000 - 1) ** 2)
    rng = np.random.default_rng(3)
    noise = [0.002, 0.004, 0.006, 0.006]
    light = [lost, 0.3 * lost, 0 * lost, 0 * lost]
    seen = np.stack([o.magnitude + a + rng.normal(size=300) * s for a, s in zip(light, noise, strict=True)], axis=1)
    write(
        folder / "field.fits", table(2, MAG_APER=seen, ERR_APER=np.broadcast_to(noise, (300, 4)).copy()), overwrite=True
    )
    text = TOML.replace('magnitude = "MAG"', 'apertures = "MAG_APER"').replace(
        'magnitude_error = "ERR"', 'aperture_errors = "ERR_APER"'
    )
    (folder / "aperture.toml").write_text(text)
    calibrated(folder, config="aperture.toml")
    zero = read_catalogue(folder / "solution" / "zeropoints.ecsv")
    assert zero.columns["zero_point"][0] == pytest.approx(3.0, abs=0.05)
    assert zero.columns["position_20"][0] == pytest.approx(0.0, abs=0.006)  # else the quadratic of the lost light


def test_refused_exposures_and_exit_status(folder: Path) -> None:
    whole = table()
    write(folder / "dark.fits", Catalogue({**whole.columns, "MOD": whole.columns["MOD"] * np.nan}))
    said = calibrated(folder, "field.fits", "dark.fits", rc=1)
    assert "NO_STANDARDS (1)" in said
    assert "[dark]" in said
    rows = read_catalogue(folder / "solution" / "calibrated.parquet").columns
    assert np.isnan(rows["magnitude"][rows["exposure"] == "dark"]).all()
    assert np.isfinite(rows["magnitude"][rows["exposure"] == "field"]).all()
    assert FrameFlag.NO_MODEL & int(read_catalogue(folder / "solution" / "zeropoints.ecsv").columns["status"][1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"MAG"', '"MAGG"'), "no column 'MAGG' for magnitude; did you mean MAG"),
        (("position_order = 2", "position_ordr = 2"), "did you mean position_order?"),
        (("position_order = 2", "position_order = 20"), "0..9"),
        (("[columns]", "[column]"), "did you mean columns?"),
        (('magnitude = "MAG"', ""), "has no magnitude"),
        (('["G_mod", "I_mod"]', '["G_mod"]'), "two columns, of which the difference"),
        (("numerical_flat = true", "numerical_flat = true\nsize = [1]"), "size is [nx, ny]"),
        (("[model]", '[selection]\ncuts = ["ruew"]\n[model]'), "no cut 'ruew'"),
        (("[model]", "[model"), "not TOML"),
    ],
)
def test_wrong_configurations_are_refused(folder: Path, change: tuple[str, str], message: str) -> None:
    (folder / "survey.toml").write_text(TOML.replace(*change))
    done = xp(
        "survey", "calibrate", folder / "field.fits", "--config", folder / "survey.toml", "-o", folder / "solution"
    )
    assert done.exit_code == 2
    assert message in done.stderr
    assert "solution" not in files(folder)


SIMULATED = """
[columns]
exposure = { header = "EXPOSURE" }
band = { header = "FILTER" }
x = "X"
y = "Y"
ra = "RA"
dec = "DEC"
magnitude = "MAG"
magnitude_error = "MAGERR"
airmass = { header = "AIRMASS" }
time = { header = "MJD-OBS" }
[standards]
spectra = "mock/xp.parquet"
match = "position"
[passband]
chain = "mock/telescope.toml"
[model]
position_order = 2
"""
"""What `survey simulate` writes into a folder mock."""


@pytest.mark.slow
def test_simulate_calibrate_and_stack(tmp_path: Path) -> None:
    few = ("--exposures", 12, "--stars", 400, "--nights", 2, "--bands", "g")
    made_up = xp("survey", "simulate", "-o", tmp_path / "mock", *few)
    assert made_up.exit_code == 0, made_up.stderr
    (tmp_path / "survey.toml").write_text(SIMULATED + "stacked_flat = true\n")
    done = xp(
        "survey", "calibrate", *sorted((tmp_path / "mock" / "detections").iterdir()),
        "--config", tmp_path / "survey.toml", "-o", tmp_path / "solution",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    true = read_catalogue(tmp_path / "mock" / "truth" / "exposures.ecsv").columns
    found = read_catalogue(tmp_path / "solution" / "zeropoints.ecsv").columns
    off = found["zero_point"] - true["true_zero_point"]
    assert np.std(off - off.mean()) < 3e-3
    assert np.abs(off / found["zero_point_systematic"]).max() < 4
    flat = xp("survey", "flat", tmp_path / "solution", "-o", tmp_path / "flat.ecsv", "--bins", 6)
    assert flat.exit_code == 0, flat.stderr
    cells = read_catalogue(tmp_path / "flat.ecsv").columns
    assert len(cells["flat"]) == 36
    assert 1e-3 < np.std(cells["flat"]) < 1e-2
    assert xp("survey", "simulate", "-o", tmp_path / "mock").exit_code == 2
    assert xp("survey", "simulate", "-o", tmp_path / "x", "--flat", "1").exit_code == 2
    assert xp("survey", "flat", tmp_path / "solution", "-o", tmp_path / "f.csv", "--epoch", "weekly").exit_code == 2


@pytest.mark.slow
def test_one_file_serves_all_commands(tmp_path: Path) -> None:
    one = tmp_path / "survey.toml"
    text = SIMULATED + "[simulate]\nn_exposure = 6\nn_star = 150\nn_night = 1\nbands = ['g']\n"
    text += "[joint]\nmin_observations = 3\n[camera]\ndiameter = 0.3\n[regression]\norder = 2\n"
    text += '[[term]]\nkind = "zero_point"\n'
    one.write_text(text)
    mock = tmp_path / "mock"
    assert xp("survey", "simulate", "--config", one, "--stars", 120, "-o", mock).exit_code == 0
    call = (*sorted((mock / "detections").iterdir()), "--config", one, "-o")
    for command in ("calibrate", "solve"):
        done = xp("survey", command, *call, tmp_path / command)
        assert done.exit_code == 0, done.stderr
    zero = read_catalogue(tmp_path / "calibrate" / "zeropoints.ecsv")
    assert len(zero) == 6
    one.write_text(text.replace("[camera]", "[camra]"))
    for command in ("calibrate", "solve"):
        done = xp("survey", command, *call, tmp_path / "no")
        assert done.exit_code == 2
        assert "unknown section 'camra'; did you mean camera?" in done.stderr


@pytest.mark.slow
def test_the_real_field_as_the_help_has_it(shared: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared("splus/stripe82_0001_400.fits")
    names = {
        "MAG": "SPLUS_R",
        "ERR": "SPLUS_R_err",
        "MOD": "SPLUS_R_mod",
        "G_mod": "SPLUS_G_mod",
        "I_mod": "SPLUS_I_mod",
    }
    text = TOML
    for ours, theirs in names.items():
        text = text.replace(f'"{ours}"', f'"{theirs}"')
    (tmp_path / "survey.toml").write_text(text)
    done = xp("survey", "calibrate", path, "--config", tmp_path / "survey.toml", "-o", tmp_path / "out", "--folds", 3)
    assert done.exit_code == 0, done.stderr
    assert "cross-validation in 3 folds: 1.48 MAD 1" in done.stderr
    zero = read_catalogue(tmp_path / "out" / "zeropoints.ecsv").columns
    assert zero["zero_point"][0] == pytest.approx(3.637, abs=0.005)
    assert zero["cross_validation_scatter"][0] < 0.013
