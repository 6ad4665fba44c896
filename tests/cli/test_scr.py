"""`xpjax survey scr`: a table to coefficients, zero-points and magnitudes; refusals; a band that cannot be fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from click.testing import CliRunner, Result

from benchmarks.scr import BANDS, Sky, truth_of
from tests.cli.helpers import files
from xpjax.cli.scr import scr
from xpjax.cli.terminal import Group
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey.scr.law import regressions_from

TOML = """
[columns]
star = "source_id"
tile = "tile"
teff = "teff"
feh = "feh"
logg = "logg"
reddening = "e"
g = "G"
bp = "BP"
rp = "RP"
magnitude = "{band}"
magnitude_error = "{band}_err"
model = "{band}_xp"
x = "X"
y = "Y"
[regression]
order = 2
position_order = 0
[selection]
cuts = ["main_sequence", "temperature", "metallicity"]
[[band]]
name = "i"
gaia = "RP"
[[band]]
name = "z"
gaia = "RP"
"""
NAMES = ["coefficients.ecsv", "predicted.parquet", "zeropoints.ecsv"]


def run(*arguments: object) -> Result:
    """`survey scr` under a group that turns errors into messages, as the program's does."""

    import click

    @click.group(cls=Group)
    @click.option("--debug", is_flag=True)
    def main(debug: bool) -> None:
        pass

    main.add_command(scr)
    result = CliRunner().invoke(main, ["scr", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def table(noisy: bool = False) -> tuple[Catalogue, Sky]:
    """20 tiles of 60 stars; the last three have no spectroscopy."""
    sky = Sky.make(2, 20, 60, noisy=noisy, common=False)
    rng = np.random.default_rng(9)
    n = len(sky.tile)
    without = sky.tile >= 17
    labels = np.where(without[:, None], np.nan, sky.labels)
    rp = rng.uniform(13, 15, n)
    columns = {
        "source_id": np.arange(1, n + 1) + (1 << 60), "tile": sky.tile + 500, "teff": labels[:, 0],
        "feh": labels[:, 1], "logg": np.full(n, 4.4), "e": labels[:, 2], "G": rp + 0.5, "BP": rp + 0.8, "RP": rp,
        "X": rng.uniform(0, 9000, n), "Y": rng.uniform(0, 9000, n),
    }  # fmt: skip
    for name in ("i", "z"):
        k = BANDS.index(name)
        color, error = sky.color(k)
        columns |= {name: rp - color, f"{name}_err": error}
        columns[f"{name}_xp"] = columns[name] + sky.zero_point[sky.tile, k] - 0.05 + 0.01 * rng.normal(size=n)
    columns["i"][5] = 99.0
    if noisy:
        columns |= {f"s{k}": np.sqrt(sky.covariance[:, k, k]) for k in range(3)}
    return Catalogue(columns), sky


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scr.toml").write_text(TOML)
    write(tmp_path / "stars.fits", table()[0])
    return tmp_path


def test_a_table_becomes_coefficients_zero_points_and_magnitudes(folder: Path) -> None:
    done = run(folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 0, done.stderr
    assert files(folder / "out") == NAMES
    assert "SCR - XPSP" in done.stderr
    sky = table()[1]
    laws = regressions_from(read_catalogue(folder / "out" / "coefficients.ecsv"))
    for name, law in laws.items():
        k = BANDS.index(name)
        assert law.gaia == "RP"
        assert (np.abs(law.value - truth_of(k))[1:] < 5 * law.error[1:]).all()
    zero = read_catalogue(folder / "out" / "zeropoints.ecsv").columns
    one = zero["band"] == "z"
    assert zero["tile"][one].tolist() == list(range(500, 520))
    assert zero["method"][one].tolist() == ["SCR"] * 17 + ["XPSP"] * 3
    off = zero["zero_point"][one] - sky.zero_point[:, BANDS.index("z")]
    assert np.abs(off - off.mean()).max() < 0.006
    assert np.abs(off[17:].mean() - off[:17].mean()) < 0.003  # the offset of 0.05 is gone
    rows = read_catalogue(folder / "out" / "predicted.parquet")
    assert rows.columns["star"][0] == 1 + (1 << 60)
    assert rows.meta["command"]
    given = table()[0].columns
    seen = rows.columns["z_scr"] - given["z"] - sky.zero_point[sky.tile, BANDS.index("z")]
    assert np.nanstd(seen[rows.columns["z_used"]]) < 0.01
    assert np.isnan(rows.columns["z_scr"][sky.tile >= 17]).all()
    assert not rows.columns["i_used"][5]


@pytest.mark.slow
def test_flats_label_errors_and_known_reddening(folder: Path) -> None:
    write(folder / "noisy.fits", table(noisy=True)[0])
    text = TOML.replace("position_order = 0", "position_order = 1\nreddening = 0.32")
    text = text.replace("[regression]", 'teff_error = "s0"\nfeh_error = "s1"\nreddening_error = 0.006\n[regression]')
    (folder / "noisy.toml").write_text(text)
    done = run(folder / "noisy.fits", "--config", folder / "noisy.toml", "--output", folder / "out")
    assert done.exit_code == 0, done.stderr
    laws = regressions_from(read_catalogue(folder / "out" / "coefficients.ecsv"))
    assert laws["z"].population is not None
    assert laws["z"].value[-1] == 0.32
    zero = read_catalogue(folder / "out" / "zeropoints.ecsv").columns
    one = zero["band"] == "z"
    off = zero["zero_point"][one] - table(noisy=True)[1].zero_point[:, BANDS.index("z")]
    assert np.std(off[:17]) < 0.005


def test_gaia_corrections_and_star_pairs(folder: Path) -> None:
    write(
        folder / "gaia.ecsv",
        Catalogue({"G": np.array([10.0, 20.0]), **{f"d_{b}": np.array([0.02, 0.02]) for b in ("G", "BP", "RP")}}),
    )
    given = table()[0].columns
    write(folder / "stars.fits", Catalogue({**given, "BP": given["RP"] + 0.7 + given["e"]}), overwrite=True)
    text = TOML + '[gaia]\ncorrections = "gaia.ecsv"\n'
    (folder / "scr.toml").write_text(text.replace("order = 2\n", "order = 2\nstar_pairs = 0.05\n"))
    done = run(folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 0, done.stderr
    assert "star pairs:" in done.stderr
    law = regressions_from(read_catalogue(folder / "out" / "coefficients.ecsv"))["z"]
    sky = table()[1]
    level = np.average(sky.zero_point[sky.tile, BANDS.index("z")][sky.tile < 17])
    assert abs(law.value[0] - truth_of(BANDS.index("z"))[0] - level + 0.02) < 0.005  # RP is 0.02 less
    assert abs(law.value[-1] - 0.32) < 0.1


def test_a_band_that_cannot_be_fitted_costs_only_itself(folder: Path) -> None:
    given = table()[0].columns
    bad = {**given, "i": np.full(len(given["i"]), np.nan)}
    write(folder / "stars.fits", Catalogue(bad), overwrite=True)
    done = run(folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 1
    assert "not fitted: band i" in done.stderr
    assert set(read_catalogue(folder / "out" / "coefficients.ecsv").columns["band"]) == {"z"}
    write(folder / "none.fits", Catalogue({**bad, "z": bad["i"]}))
    done = run(folder / "none.fits", "--config", folder / "scr.toml", "--output", folder / "none")
    assert done.exit_code == 2
    assert "no band could be fitted" in done.stderr
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("teff =", "tef ="), "did you mean teff"),
        (('gaia = "RP"', 'gaia = "G"'), 'gaia must be "BP" or "RP"'),
        (('bp = "BP"', ""), "[columns] has no bp"),
        (('bp = "BP"', 'bp = "BB"'), "did you mean BP"),
        (("order = 2", "order = 7"), "order must be 1, 2 or 3"),
        (('cuts = ["main', 'cuts = ["maine'), "no cut"),
        (("[regression]", "[regressions]"), "did you mean regression"),
        (('x = "X"', 'x = "XX"'), "no column 'XX' for x"),
        (('g = "G"', 'snrg = "SNR"'), "no column 'SNR' for snrg"),
        (
            ('x = "X"\ny = "Y"\n[regression]\norder = 2\nposition_order = 0', "[regression]\nposition_order = 1"),
            "position_order has no effect on band i without columns.x and columns.y",
        ),
        (("order = 2\n", "label_errors = true\n"), "label_errors has no effect on band i without columns.teff_error"),
        (('logg = "logg"', ""), "the cut 'main_sequence' cannot be made"),
        (('model = "{band}_xp"', "model_error = 0.01"), "model_error and no model"),
        (("[selection]", "[selection]\nlimits = { ruwe = 1.4 }"), "no limit 'ruwe' in the cuts"),
    ],
)
def test_wrong_configurations(folder: Path, change: tuple[str, str], message: str) -> None:
    (folder / "scr.toml").write_text(TOML.replace(*change))
    done = run(folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (folder / "out").exists()


def test_star_pairs_need_gravities(folder: Path) -> None:
    text = (
        TOML.replace('logg = "logg"', "")
        .replace('"main_sequence", ', "")
        .replace("order = 2\n", "star_pairs = 0.1\n", 1)
    )
    (folder / "scr.toml").write_text(text)
    done = run(folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 2
    assert "star_pairs has no effect on band i without columns.logg" in done.stderr


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_names_of_stars_and_tiles_with_gaps(folder: Path, suffix: str) -> None:
    """Ids stay exact beside a missing one; rows without a tile take no part."""
    columns = dict(table()[0].columns)
    n = len(columns["source_id"])
    frame = {k: np.ma.masked_array(v, mask=np.zeros(n, bool)) for k, v in columns.items()}
    frame["source_id"] = np.ma.masked_array(columns["source_id"], mask=np.arange(n) == 3, fill_value=-1)
    frame["tile"] = np.ma.masked_array(columns["tile"], mask=np.arange(n) == 4, fill_value=-1)
    path = folder / f"gaps{suffix}"
    if suffix == ".parquet":
        pd.DataFrame(
            {k: pd.array(v.data, "Int64") if k in ("source_id", "tile") else v.data for k, v in frame.items()}
        ).mask(pd.DataFrame({k: v.mask for k, v in frame.items()}), pd.NA).to_parquet(path)
    else:
        Table(frame).write(path, **({"format": "ascii.csv"} if suffix == ".csv" else {}))
    done = run(path, "--config", folder / "scr.toml", "--output", folder / "out")
    assert done.exit_code == 0, done.stderr
    assert "1 rows have no tile: they take no part" in done.stderr
    rows = read_catalogue(folder / "out" / "predicted.parquet").columns
    assert rows["star"].dtype == np.int64
    np.testing.assert_array_equal(np.delete(rows["star"], 3), np.delete(columns["source_id"], 3))
    assert rows["star"][3] < 0
    assert not rows["z_used"][4]
    zero = read_catalogue(folder / "out" / "zeropoints.ecsv").columns
    assert zero["tile"][zero["band"] == "z"].astype(str).tolist() == [str(k) for k in range(500, 520)]


def test_sentinels_are_missing(folder: Path) -> None:
    from xpjax.survey.scr.config import read_scr_config
    from xpjax.survey.scr.stars import read_stars

    columns = {name: values.copy() for name, values in table()[0].columns.items()}
    columns["z_err"] = np.broadcast_to(columns["z_err"], columns["z"].shape).copy()
    for row, name in enumerate(("z", "z_err", "BP", "RP", "G", "e", "z_xp")):
        columns[name][row] = -999.0
    config = read_scr_config(folder / "scr.toml")
    stars = read_stars(columns, config)
    magnitude, error = stars.magnitudes(config.bands[1])
    found = [magnitude[0], error[1], stars.gaia["BP"][2], stars.gaia["RP"][3], stars.gaia["G"][4], stars.labels[5, 2]]
    assert np.isnan(found).all()
    assert np.isfinite(magnitude[1:]).all()


def test_overwrite(folder: Path) -> None:
    call = (folder / "stars.fits", "--config", folder / "scr.toml", "--output", folder / "out")
    assert run(*call).exit_code == 0
    again = run(*call)
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert run(*call, "--overwrite").exit_code == 0
