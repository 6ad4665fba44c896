"""Terms of the reference: the map of what XP is wrong by on the sky, scales and errors of what is given back."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.reference_terms import PatternedField, patterned
from xpjax.core.sky import cell_centers, cells_of
from xpjax.survey.joint.config import solve_survey
from xpjax.survey.joint.extend import extend_joint
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.sky import Sky
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Term, ZeroPoint
from xpjax.survey.observations import Observations, Origin
from xpjax.survey.sky_floor import sky_floor

MODEL = JointModel((ZeroPoint(),), star_prior=True, min_observations=1, robust="none", error_floor=0.0)


def solved(field: PatternedField, *terms: Term) -> JointSolution:
    return solve_joint(field.observations, dataclasses.replace(MODEL, terms=(ZeroPoint(), *terms)))


def sky(field: PatternedField) -> Sky:
    return Sky(ra=field.ra, dec=field.dec)


def map_off(field: PatternedField, found: JointSolution) -> tuple[np.ndarray, np.ndarray]:
    value, error = found.term("sky")
    pixel = [int(label.split()[1]) for label in found.block("sky").labels]
    return value - field.pattern[np.searchsorted(field.cells, pixel)], error


@pytest.fixture(scope="module")
def fields() -> list[PatternedField]:
    return [patterned(20, side=1.5, camera=0.6, density=250, seed=seed) for seed in range(16)]


def test_cells_are_those_of_healpix() -> None:
    ra, dec = np.array([10.0, 200.0, np.nan, 350.0]), np.array([-5.0, 80.0, 0.0, 91.0])
    cell = cells_of(ra, dec, 128)
    assert (cell[2:] == -1).all()
    from astropy_healpix import HEALPix

    center = HEALPix(128, order="nested").healpix_to_lonlat(cell[:2])
    np.testing.assert_allclose(cell_centers(cell[:2], 128), [a.deg for a in center])
    assert cells_of(*cell_centers(cell[:2], 128), 128).tolist() == cell[:2].tolist()


def test_the_map_and_all_on_the_true_scale_are_within_errors(fields: list[PatternedField]) -> None:
    maps, zero, stars, raw = [], [], [], []
    for field in fields:
        found = solved(field, sky(field))
        off, error = map_off(field, found)
        maps.append(off / error)
        value, error = found.term("zero_point")
        zero.append((value - field.zero_point) / error)
        few = found.star[::20]
        errors = np.sqrt(np.diag(found.covariance(stars=[(star, "g") for star in few])))
        stars.append((found.magnitude[::20, 0] - field.magnitude[few]) / errors)
        np.testing.assert_allclose(found.star_errors()[::20, 0], errors, rtol=1e-6)
        plain = solved(field)
        value, error = plain.term("zero_point")
        raw.append((value - field.zero_point) / error)
    for pulls in (maps, zero, stars):
        assert 0.75 < np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 1.25
    # Without the term errors are far too small: the check would see a wrong answer.
    assert np.sqrt(np.mean(np.concatenate(raw) ** 2)) > 1.4


def test_the_normal_equations_are_those_of_dense_least_squares(fields: list[PatternedField]) -> None:
    """All unknowns at once by NumPy: zero-points, cells and stars on the true scale."""
    field = fields[0]
    o, found = field.observations, solved(field, sky(field))
    star, number = np.unique(o.star, return_inverse=True)
    n_frame, pixel = len(o.frames), cells_of(field.ra, field.dec, 128)
    cells, own = np.unique(pixel, return_inverse=True)
    n = n_frame + len(cells) + len(star)
    rows = np.zeros((len(o), n))
    at = np.arange(len(o))
    rows[at, o.frame], rows[at, n_frame + len(cells) + number] = -1.0, 1.0
    first = np.unique(number, return_index=True)[1]
    prior = np.zeros((len(star), n))
    prior[np.arange(len(star)), n_frame + len(cells) + np.arange(len(star))] = 1.0
    prior[np.arange(len(star)), n_frame + own[first]] = 1.0  # XP's magnitude is the true one and the cell's error
    cell = np.zeros((len(cells), n))
    cell[np.arange(len(cells)), n_frame + np.arange(len(cells))] = 1.0
    weight = np.concatenate([1 / o.magnitude_error, 1 / o.model_error[first], np.full(len(cells), 1 / 0.004)])
    design = np.concatenate([rows, prior, cell]) * weight[:, None]
    right = np.concatenate([o.magnitude, o.model[first], np.zeros(len(cells))]) * weight
    covariance = np.linalg.inv(design.T @ design)
    expected = covariance @ (design.T @ right)
    np.testing.assert_allclose(found.value, expected[: n_frame + len(cells)], atol=1e-9)
    np.testing.assert_allclose(found.magnitude[:, 0], expected[n_frame + len(cells) :], atol=1e-9)
    error = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.error(np.arange(len(found.value))), error[: n_frame + len(cells)], rtol=1e-6)
    np.testing.assert_allclose(found.star_errors()[:, 0], error[n_frame + len(cells) :], rtol=1e-6)
    # Calibrated magnitudes are on the true scale, without the map; residuals are the same on both.
    made = found.calibrated(o).columns
    np.testing.assert_allclose(made["magnitude"], o.magnitude + found.term("zero_point")[0][o.frame], atol=1e-9)
    np.testing.assert_allclose(found.correction(o, errors=False)[0], found.term("zero_point")[0][o.frame], atol=1e-9)


def test_zero_points_without_the_term_have_its_floor(fields: list[PatternedField]) -> None:
    pulls = []
    for field in fields:
        value, error = solved(field).term("zero_point")
        first = np.unique(field.observations.star, return_index=True)[1]
        floor = sky_floor(field.ra[first], field.dec[first])[0]
        pulls.append((value - field.zero_point) / np.hypot(error, floor))
    assert 0.6 < np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 1.5


def test_floors_of_fields() -> None:
    ra, dec = (a.ravel() for a in np.meshgrid(np.linspace(10, 14, 60), np.linspace(-2, 2, 60)))
    one = sky_floor(np.full(5, 10.0), np.zeros(5), sigma=0.005)
    np.testing.assert_allclose(one, [0.005])
    whole = sky_floor(ra, dec, sigma=0.004)[0]
    assert whole == pytest.approx(0.004 / np.sqrt(16 / (58.6 / 128) ** 2), rel=0.1)
    group = (ra > 12).astype(int)
    halves = sky_floor(ra, dec, group, sigma=0.004)
    np.testing.assert_allclose(halves, np.sqrt(2) * whole, rtol=0.1)
    weight = np.where(cells_of(ra, dec, 128) == cells_of(ra[:1], dec[:1], 128), 1.0, 0.0)
    np.testing.assert_allclose(sky_floor(ra, dec, weight=weight, sigma=0.004), [0.004])
    np.testing.assert_allclose(sky_floor(np.full(3, np.nan), np.zeros(3)), [0.004])
    with pytest.raises(ValueError, match="expected equal numbers"):
        sky_floor(ra, dec[:3])
    with pytest.raises(ValueError, match="sigma must be zero or more"):
        sky_floor(ra, dec, sigma=-1.0)


def table_of(field: PatternedField) -> dict[str, Any]:
    o = field.observations
    return {
        "id": o.star, "e": o.frames.exposure[o.frame], "m": o.magnitude, "s": o.magnitude_error, "ra": field.ra,
        "dec": field.dec, "M": o.model, "dM": o.model_error, "b": o.frames.band[o.frame],
    }  # fmt: skip


COLUMNS = {
    "star": "id", "exposure": "e", "magnitude": "m", "magnitude_error": "s", "ra": "ra", "dec": "dec", "model": "M",
    "model_error": "dM", "band": "b",
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "columns": COLUMNS,
    "joint": {"star_prior": True, "robust": "none", "error_floor": 0.0, "min_observations": 1},
    "term": [{"kind": "zero_point"}, {"kind": "sky"}],
}


def test_the_same_from_a_configuration_and_from_a_file(fields: list[PatternedField], tmp_path: Any) -> None:
    field = fields[0]
    expected = solved(field, sky(field))
    found, reading = solve_survey(CONFIG, [table_of(field)])
    np.testing.assert_allclose(found.value, expected.value, atol=1e-10)
    assert "sky_floor" not in found.meta
    write_joint_solution(tmp_path / "joint.h5", found)
    again = read_joint_solution(tmp_path / "joint.h5")
    assert again.terms[1] == Sky()
    np.testing.assert_array_equal(again.design.of_reference, found.design.of_reference)
    for one in (found, again):
        np.testing.assert_allclose(
            one.correction(reading.observations)[1], one.term("zero_point")[1][reading.observations.frame], rtol=1e-6
        )
    # Without the term its floor is told.
    plain, _ = solve_survey({**CONFIG, "term": [{"kind": "zero_point"}]}, [table_of(field)])
    first = np.unique(field.observations.star, return_index=True)[1]
    assert plain.meta["sky_floor"]["g"] == pytest.approx(sky_floor(field.ra[first], field.dec[first])[0])
    assert any("errors on the sky" in line for line in plain.summary())
    by_band, _ = solve_survey({**CONFIG, "term": [{"kind": "zero_point"}, {"kind": "sky", "prior": {"g": 0.004}}]},
                              [table_of(field)])  # fmt: skip
    np.testing.assert_allclose(by_band.value, expected.value, atol=1e-10)


def test_stars_without_position_or_prior(fields: list[PatternedField]) -> None:
    field = fields[0]
    o = field.observations
    lost, free = o.star == o.star[0], o.star == o.star[1]
    unknown = lost | free
    ra, dec = (np.where(unknown, np.nan, a) for a in (field.ra, field.dec))
    o = dataclasses.replace(o, model=np.where(free, np.nan, o.model))
    found = solve_joint(o, dataclasses.replace(MODEL, terms=(ZeroPoint(), Sky(ra=ra, dec=dec))))
    # A star with a prior and no position cannot be used; one without prior can.
    assert not found.used[lost].any()
    assert found.used[free].all()
    off = found.magnitude[found.star == o.star[1], 0] - field.magnitude[o.star[1]]
    assert abs(off[0]) < 0.02
    # A star's position is that of its first row with one.
    part = np.where(np.arange(len(o)) == np.flatnonzero(o.star == o.star[2])[-1], np.nan, field.ra)
    same = solve_joint(field.observations, dataclasses.replace(MODEL, terms=(ZeroPoint(), Sky(ra=part, dec=field.dec))))
    np.testing.assert_allclose(same.value, solved(field, sky(field)).value, atol=1e-12)


def attempt(field: PatternedField, term: Term, **options: Any) -> None:
    solve_joint(field.observations, dataclasses.replace(MODEL, terms=(ZeroPoint(), term), **options))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: attempt(f, Sky()), r"name columns\.ra"),
        (lambda f: attempt(f, Sky(ra=f.ra[:3], dec=f.dec[:3])), "positions for"),
        (lambda f: attempt(f, sky(f), star_prior=False), "set star_prior = true"),
        (lambda f: attempt(f, Sky(ra=f.ra, dec=f.dec, prior={"r": 1.0})), "prior has no band 'g'"),
        (lambda f: attempt(f, Sky(ra=f.ra, dec=np.full(len(f.ra), np.nan))), "no row has a position"),
        (lambda _: Sky(nside=100), "power of two"),
        (lambda _: Sky(prior=0.0), "above zero"),
        (
            lambda _: solve_survey(
                {**CONFIG, "columns": {k: v for k, v in COLUMNS.items() if k not in ("ra", "dec")}}, [{}]
            ),
            r"the sky term needs columns\.dec|the sky term needs columns\.ra",
        ),
    ],
)
def test_refused(fields: list[PatternedField], make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(fields[0])


def placed(field: PatternedField) -> Observations:
    """The observations with positions of their own, as tables have them."""
    n = len(field.observations)
    origin = Origin(("a",), np.zeros(n, int), np.arange(n), {"ra": field.ra, "dec": field.dec})
    return dataclasses.replace(field.observations, origin=origin)


def test_positions_come_from_the_tables(fields: list[PatternedField]) -> None:
    field = fields[0]
    found = solve_joint(placed(field), dataclasses.replace(MODEL, terms=(ZeroPoint(), Sky())))
    np.testing.assert_allclose(found.value, solved(field, sky(field)).value, atol=1e-12)


def test_a_further_night_moves_the_map(fields: list[PatternedField]) -> None:
    o, n = placed(fields[0]), len(fields[0].observations.frames)
    model = dataclasses.replace(MODEL, terms=(ZeroPoint(), Sky()))
    whole = solve_joint(o, model)
    half = solve_joint(o.on_frames(np.arange(n // 2)), model)
    both = extend_joint(half, o.on_frames(np.arange(n // 2, n)))
    place = [whole.block("sky").labels.index(label) for label in both.block("sky").labels]
    value, error = whole.term("sky")
    np.testing.assert_allclose(both.term("sky")[0] / error[place], (value / error)[place], atol=0.01)
    np.testing.assert_allclose(both.term("sky")[1], error[place], rtol=1e-3)
    np.testing.assert_array_equal(both.star, whole.star)
    errors = whole.star_errors()
    np.testing.assert_allclose(both.magnitude / errors, whole.magnitude / errors, atol=0.01)
    np.testing.assert_allclose(both.star_errors(), errors, rtol=1e-3)
