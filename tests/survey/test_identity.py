"""One identity of exposures, stars and detections over all files, in any order, alone or together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.joint import dithered
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.files import read_solution, write_solution
from xpjax.survey.identity import check_one_place, detection_ids, name_exposures, position_ids, same_stars, stem
from xpjax.survey.joint.config import build_joint, joint_from
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.observations import Frames, concatenate, make_observations, with_nights
from xpjax.survey.reading.config import SurveyConfig, config_from
from xpjax.survey.reading.tables import read_observations

ARCSEC = 1 / 3600


# --- exposures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.fits", "a"), ("a.b.01.fits.gz", "a.b.01"), ("v1.2_r.cat", "v1.2_r"), ("x.fits.fz", "x"),
        ("n.2024.1", "n.2024.1"), ("e.parquet", "e"), (".fits", ".fits"), ("A.FITS", "A"),
    ],
)  # fmt: skip
def test_dots_belong_to_names(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def names(*paths: str, known: Mapping[str, str] | None = None, new: bool = False) -> tuple[str, ...]:
    return name_exposures([Path(p) for p in paths], known, new=new).names


def test_equal_names_are_told_by_their_folders() -> None:
    paths = ["/s/n1/img.01.fits", "/s/n2/img.01.fits", "/s/n1/img.02.fits"]
    found = names(*paths)
    assert found == ("n1/img.01", "n2/img.01", "img.02")
    assert names(*paths[::-1]) == found[::-1]
    assert names("/a/n/i.fits", "/b/n/i.fits") == ("a/n/i", "b/n/i")
    assert names("/s/i.fits", "/s/i.csv") == ("i.fits", "i.csv")


def test_files_are_found_again_whatever_is_given() -> None:
    paths = ["/s/n1/img.01.fits", "/s/n2/img.01.fits", "/s/n1/img.02.fits"]
    whole = name_exposures([Path(p) for p in paths])
    for k, path in enumerate(paths):
        assert names(path, known=whole.files) == (whole.names[k],)
    assert names(*paths[::-1], known=whole.files) == whole.names[::-1]
    # A new file of an equal name gets a name that nobody has.
    assert names("/s/n3/img.01.fits", known=whole.files, new=True) == ("n3/img.01",)
    assert names("/s/n1/img.03.fits", known=whole.files) == ("img.03",)


def test_moved_folders() -> None:
    known = {"n1/a": "/s/n1/a.fits", "n2/a": "/s/n2/a.fits", "b": "/s/n1/b.fits"}
    moved = name_exposures([Path("/t/n2/a.fits"), Path("/t/x/b.fits")], known)
    assert moved.names == ("n2/a", "b")
    assert "/t/n2/a.fits is taken for exposure n2/a, which was read from /s/n2/a.fits" in moved.notes[0]
    with pytest.raises(ValueError, match=r"may be any of the exposures \['n1/a', 'n2/a'\].*exposure=.*new=True"):
        names("/t/x/a.fits", known=known)


def test_a_file_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"a\.fits is given twice"):
        names("a.fits", str(tmp_path / "a.fits"))
    for pair in (("a.fits[1]", "a.fits[1]"), ("a.fits", "a.fits[2]")):
        with pytest.raises(ValueError, match=r"a\.fits is given twice"):
            names(*pair)
    assert names("a.fits[1]", "a.fits[2]") == ("a", "a")


# --- stars ------------------------------------------------------------------------------------------------------------


def groups(leader: np.ndarray) -> list[list[int]]:
    return sorted(np.flatnonzero(leader == k).tolist() for k in np.unique(leader))


@pytest.mark.parametrize(("ra", "dec"), [(10.0, 0.0), (0.0, 5.0), (359.99999, -30.0), (120.0, 89.9999), (7.0, -90.0)])
def test_detections_of_one_place_are_one_star(ra: float, dec: float) -> None:
    cos = max(np.cos(np.deg2rad(dec)), 1e-3)
    off = np.array([-0.3, 0.0, 0.3, 30.0]) * ARCSEC
    alpha = (ra + off / cos) % 360 if abs(dec) < 89.999 else np.array([0.0, 120.0, 240.0, 10.0])
    delta = np.full(4, dec) if abs(dec) < 89.999 else dec - np.sign(dec) * np.array([0.1, 0.1, 0.1, 60]) * ARCSEC
    if 89.99 < dec < 90:
        alpha = np.full(4, ra)
        delta = dec + off / 2
    order = np.array([3, 1, 0, 2])
    leader, alone = same_stars(alpha, delta, np.arange(4), 1.0)
    assert groups(leader) == [[0, 1, 2], [3]]
    assert alone == 0
    again, _ = same_stars(alpha[order], delta[order], np.arange(4), 1.0)
    one, two = (position_ids(alpha[k], delta[k]) for k in (leader, order[again]))
    np.testing.assert_array_equal(two, one[order])


def test_two_detections_on_one_frame_stay_alone() -> None:
    ra, dec = 10 + np.array([0, 0.4, 0.8, 500]) * ARCSEC, np.zeros(4)
    leader, alone = same_stars(ra, dec, np.array([0, 1, 0, 0]), 0.5)
    assert leader.tolist() == [0, 1, 2, 3]
    assert alone == 3


def test_names_of_detections_are_unique_and_lie_below_positions() -> None:
    ids = np.concatenate([detection_ids(f"e{k}", part, 5000) for k in range(20) for part in ("", "2")])
    assert len(np.unique(ids)) == len(ids)
    lowest = position_ids(np.array([359.99999999]), np.array([90.0]))[0]
    assert ids.max() < lowest < 0
    np.testing.assert_array_equal(detection_ids("e3", "", 10), detection_ids("e3", "", 5000)[:10])


COLUMNS = {"ra": "ra", "dec": "dec", "magnitude": "m", "magnitude_error": "e"}


def test_nameless_stars_do_not_depend_on_the_order_of_files() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 0.2, 50) - 0.1, rng.uniform(-0.1, 0.1, 50)
    tables = {}
    for k in range(4):
        seen = np.sort(rng.permutation(50)[:35])
        noise = rng.normal(0, 0.05 * ARCSEC, (2, 35))
        table = {
            "ra": (ra[seen] + noise[0]) % 360,
            "dec": dec[seen] + noise[1],
            "m": seen + 0.0,
            "e": np.full(35, 0.01),
        }
        table["ra"][3] = np.nan
        tables[f"e{k}"] = table
    config = config_from({"columns": COLUMNS, "model": {"position_order": 0}})
    names = []
    for order in (sorted(tables), sorted(tables, reverse=True), ["e2", "e0", "e3", "e1"]):
        o = read_observations({name: tables[name] for name in order}, config).observations
        found = {(o.frames.exposure[f], m): s for f, m, s in zip(o.frame, o.magnitude, o.star.tolist(), strict=True)}
        names.append(found)
    assert names[0] == names[1] == names[2]
    true: dict[int, set[int]] = {}
    for (_, m), star in names[0].items():
        true.setdefault(star, set()).add(m)
    assert all(len(stars) == 1 for stars in true.values())
    assert len(true) == len({m for _, m in names[0]}) + 4 - sum(
        1 for k in range(4) if sum(m == tables[f"e{k}"]["m"][3] for _, m in names[0]) == 1
    )


def test_a_nameless_detection_is_one_star_in_all_bands() -> None:
    table = {"id": np.array([5, 0, 0]), "g": [12.0, 13, 14], "r": [11.0, 12, 13]}
    config = config_from(
        {"columns": {"star": "id", "magnitude": "{band}", "bands": ["g", "r"]}, "model": {"position_order": 0}}
    )
    star = read_observations({"e": table}, config).observations.star
    assert star[[0, 3]].tolist() == [5, 5]
    np.testing.assert_array_equal(star[:3], star[3:])
    assert len(np.unique(star)) == 3
    alone = read_observations({"e": {"id": np.array([5, 0, 4]), "g": [12.0, 13, 14]}}, config).observations.star
    assert alone.tolist() == [5, 0, 4]  # a star may be called 0, but not several of one exposure
    table = {"id": np.array([5, -99, -99, -7]), "g": [12.0, 13, 14, 15]}
    star = read_observations({"e": table}, config).observations.star
    assert star[[0, 3]].tolist() == [5, -7]
    assert len(np.unique(star)) == 4


# --- nights -----------------------------------------------------------------------------------------------------------


def frames(*times: float, night: str = "") -> Any:
    return concatenate([
        make_observations(
            np.array([1]), *[np.zeros(1)] * 2, np.ones(1), None, None, exposure=f"{t}", time=t, night=night
        )
        for t in times
    ])  # fmt: skip


def test_a_new_exposure_is_of_the_night_around_it() -> None:
    solved: Frames = with_nights(frames(60000.1, 60000.2, 60001.1, 60001.2)).frames
    assert solved.night.tolist() == ["night 1"] * 2 + ["night 2"] * 2
    assert with_nights(frames(60001.3), known=solved).frames.night.tolist() == ["night 2"]
    assert with_nights(frames(60005.0, 60000.0), known=solved).frames.night.tolist() == ["night 3", "night 1"]
    mixed = concatenate([frames(60000.1, night="night 1"), frames(60000.2, 60003.0)])
    assert with_nights(mixed).frames.night.tolist() == ["night 1", "night 1", "night 2"]


# --- a survey, whole and file by file ---------------------------------------------------------------------------------


def survey(folder: Path, n_file: int = 40, n: int = 120) -> list[Path]:
    """Files in two folders, with equal names that have dots, of four formats; one exposure in ten has few standards."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 4000, (2, n))
    magnitude, color = rng.uniform(12, 16, n), rng.uniform(0.3, 2, n)
    paths = []
    for k in range(n_file):
        second, j = divmod(k, n_file // 2)
        seen = np.sort(rng.permutation(n)[: 9 if j == 7 else int(rng.integers(60, 110))])
        m = len(seen)
        error = 0.004 + 0.01 * rng.random(m)
        noise = rng.normal(0, 0.1 * ARCSEC, (2, m))
        columns = {
            "source_id": seen + (1 << 60), "X": x[seen] + rng.normal(0, 3), "Y": y[seen] + rng.normal(0, 3),
            "MAG": magnitude[seen] - 3 + 0.1 * np.sin(k) - 0.03 * (color[seen] - 1) + rng.normal(0, error),
            "ERR": error,
            "MOD": np.where(rng.random(m) < 0.3, np.nan, magnitude[seen]), "COL": color[seen],
            "ra": 10 + x[seen] / 4000 + noise[0], "dec": 20 + y[seen] / 4000 + noise[1],
            "T": np.full(m, 60000 + second + 0.01 * j),
        }  # fmt: skip
        path = folder / f"n.{second}" / f"img.{j // 4:02d}.r{j % 4}{('.fits', '.parquet', '.csv', '.ecsv')[j % 4]}"
        path.parent.mkdir(exist_ok=True)
        write(path, Catalogue(columns))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return survey(tmp_path_factory.mktemp("survey"))


BASE = {
    "x": "X", "y": "Y", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD", "color": "COL", "time": "T",
}  # fmt: skip
IDS: dict[str, dict[str, str]] = {"star": {"star": "source_id"}, "position": {"ra": "ra", "dec": "dec"}, "row": {}}
FLAT = {"stacked_flat": True, "bins": 4}


@pytest.mark.parametrize(
    ("identity", "model"),
    [
        ("row", {**FLAT, "epoch": "night", "numerical_flat": True, "few": 40, "magnitude_order": 1}),
        pytest.param("star", {}, marks=pytest.mark.slow),
        pytest.param("star", {**FLAT, "epoch": 0.5, "numerical_flat": True}, marks=pytest.mark.slow),
        pytest.param("position", {"numerical_flat": True, "few": 40}, marks=pytest.mark.slow),
    ],
)
def test_a_survey_is_the_same_file_by_file(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str, model: dict[str, Any]
) -> None:
    """Calibrated whole, then applied to its files in another order from another folder: the same to the bit."""
    config = config_from({"columns": BASE | IDS[identity], "model": {"position_order": 2} | model})
    whole = read_observations(paths, config)
    assert len(set(whole.observations.frames.exposure.tolist())) == 40
    solution, expected = calibrate(whole.observations, config.settings)
    write_solution(tmp_path / "s.h5", solution)
    solution = read_solution(tmp_path / "s.h5")
    exposure = whole.observations.frames.exposure[whole.observations.frame]
    monkeypatch.chdir(paths[0].parent)
    for k in np.random.default_rng(1).permutation(40)[:: 1 if model else 4]:
        path = Path(paths[k].name) if paths[k].parent == paths[0].parent else paths[k]
        one = read_observations([path], config, known=whole.files)
        name = one.observations.frames.exposure[0]
        assert Path(whole.files[name]) == paths[k].resolve()
        found = apply_calibration(solution, one.observations)
        rows = exposure == name
        for field in ("magnitude", "magnitude_error", "systematic_error", "residual"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field)[rows])


def test_an_exposure_of_the_same_name_and_another_night_is_not_the_same() -> None:
    config = config_from({"columns": BASE, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}})
    rng = np.random.default_rng(0)
    table = {name: rng.uniform(0, 1, 30) for name in BASE.values()} | {"T": np.full(30, 60000.0)}
    solution, _ = calibrate(read_observations({"img.01": table}, config).observations, config.settings)
    tonight = read_observations({"img.01": {**table, "T": np.full(30, 60001.0)}}, config).observations
    with pytest.raises(ValueError, match=r"img.01: its time is 60001.00000, .* 60000.00000: it is another exposure"):
        apply_calibration(solution, tonight)


# --- joint solutions --------------------------------------------------------------------------------------------------


def test_names_that_count_detections_are_refused() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(10, 11, 300), rng.uniform(0, 1, 300)
    seen = np.concatenate([np.arange(300), rng.permutation(300)])
    check_one_place(seen, ra[seen] + rng.normal(0, ARCSEC, 600), dec[seen])
    with pytest.raises(
        ValueError, match=r"columns.star does not tell stars: \d+ of 300 names .* leave columns.star out"
    ):
        check_one_place(np.r_[np.arange(300), np.arange(300)], ra[seen], dec[seen])
    few = np.where(np.arange(600) < 20, np.arange(600) + 1, seen)  # single mistakes are the robust fit's
    check_one_place(few, ra[seen], dec[seen])
    check_one_place(np.arange(600), ra[seen], dec[seen])


JOINT = {
    "columns": {"magnitude": "m", "magnitude_error": "e", "exposure": "exposure", "color": "c", "x": "x", "y": "y"},
    "joint": {"min_observations": 2, "size": [0, 1, 0, 1], "color_zero": 0.0, "hold_out_exposures": 8},
    "term": [{"kind": "zero_point"}, {"kind": "color"}, {"kind": "flat", "bins": 3}],
    "constraint": [{"term": "zero_point"}, {"term": "color"}, {"term": "flat"}],
}


def joint(**columns: str) -> Any:
    return joint_from({**JOINT, "columns": {**JOINT["columns"], **columns}})  # type: ignore[dict-item]


def test_joint_solutions_do_not_depend_on_the_order_of_files() -> None:
    o, _ = dithered(16, 150, bins=3)
    rng = np.random.default_rng(2)
    place = rng.uniform(0, 1, (2, int(o.star.max()) + 1))
    columns = {name: getattr(o, name).astype(float) for name in ("x", "y")}
    columns |= {"m": o.magnitude, "e": o.magnitude_error, "c": o.color, "exposure": o.frames.exposure[o.frame]}
    columns |= {"ra": 10 + place[0, o.star], "dec": place[1, o.star], "count": np.zeros(len(o), int)}
    tables = []
    for k in range(4):
        rows = np.flatnonzero(o.frame % 4 == k)
        tables.append({name: values[rows] for name, values in columns.items()} | {"count": np.arange(1, len(rows) + 1)})
    config = joint(ra="ra", dec="dec")
    found = []
    for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
        reading, model = build_joint(config, [tables[k] for k in order])
        solution = solve_joint(reading.observations, model, **config.hold_out(reading.observations))
        found.append(dict(zip(solution.star.tolist(), solution.magnitude[:, 0].tolist(), strict=True)))
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == len(np.unique(o.star))
    np.testing.assert_allclose([found[1][s] for s in found[0]], [*found[0].values()], atol=1e-9)
    with pytest.raises(ValueError, match=r"columns\.star does not tell stars"):
        build_joint(joint(star="count", ra="ra", dec="dec"), tables)
    with pytest.raises(ValueError, match="must know which detections are of one star"):
        build_joint(joint(), tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"term": [{"kind": "zero_point"}], "joint": {"size": [9, 9]}}, "size has no effect"),
        ({"term": [{"kind": "zero_point"}], "joint": {"color_zero": 1.0}}, "color_zero has no effect"),
        ({"joint": {"star_prior": True}}, "star_prior needs columns.model"),
        ({"term": [{"kind": "flat", "form": "chebyshev", "bins": 4}]}, "bins has no effect with form"),
        ({"term": [{"kind": "flat", "order": 4}]}, "order has no effect with form"),
        ({"columns": {"magnitude": "m"}}, "the flat term needs columns.x"),
        ({"columns": {"magnitude": "m", "x": "x", "y": "y"}}, "the color term needs columns.color"),
    ],
)
def test_settings_of_joint_solutions_without_effect(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joint_from({**JOINT, **change})


def test_the_type_of_a_configuration() -> None:
    assert isinstance(config_from({"columns": {"magnitude": "m"}, "model": {"position_order": 0}}), SurveyConfig)
