"""Stars named by position: those of further tables are called as in a solution."""

import numpy as np

from tests.survey.joint.nights import observe
from xpjax.survey.identity import position_ids, rejoin_stars
from xpjax.survey.joint import apply_joint, solve_survey


def test_names_by_position_are_rejoined() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 500), rng.uniform(-89, 89, 500)
    known = np.append(position_ids(ra, dec), [7, 8])
    moved = position_ids(ra + 0.3 / 3600 / np.cos(np.deg2rad(dec)), dec - 0.2 / 3600)
    names = np.concatenate([moved[::-1], [7, 9], position_ids(np.array([10.0]), np.array([89.9]))])
    found = rejoin_stars(names, known, 1.0)
    np.testing.assert_array_equal(found[:502], np.append(known[:500][::-1], [7, 9]))
    assert found[-1] == names[-1]  # nothing lies near
    np.testing.assert_array_equal(rejoin_stars(names.astype(str), known.astype(str), 1.0), found.astype(str))
    np.testing.assert_array_equal(rejoin_stars(names, known, 0.1)[:500], moved[::-1])
    # Two that would have one name keep their own.
    both = position_ids(np.array([20.0, 20.0]), np.array([5.0, 5.0 + 0.4 / 3600]))
    one = position_ids(np.array([20.0]), np.array([5.0 + 0.2 / 3600]))
    np.testing.assert_array_equal(rejoin_stars(both, one, 1.0), both)


def test_a_survey_that_has_positions_alone() -> None:
    """A night joined by position gives what all nights at once give."""
    o = observe(120)
    rng = np.random.default_rng(1)
    ra, dec = 150 + rng.uniform(0, 0.5, 120), 2 + rng.uniform(0, 0.5, 120)
    jitter = rng.normal(0, 0.05 / 3600, (2, len(o)))
    columns = {
        "ra": ra[o.star] + jitter[0], "dec": dec[o.star] + jitter[1], "m": o.magnitude, "s": o.magnitude_error,
        "e": o.frames.exposure[o.frame], "b": o.frames.band[o.frame], "d": o.frames.detector[o.frame],
    }  # fmt: skip
    last = o.frames.night[o.frame] == "night 4"
    names = {"ra": "ra", "dec": "dec", "magnitude": "m", "magnitude_error": "s", "exposure": "e", "band": "b"}
    config = {
        "columns": {**names, "detector": "d"}, "term": [{"kind": "zero_point"}], "constraint": [{"term": "zero_point"}],
        "joint": {"robust": "none", "error_floor": 0.0, "min_observations": 4, "clip": 0.0},
    }  # fmt: skip
    whole, _ = solve_survey(config, [columns])
    first, _ = solve_survey(config, [{name: values[~last] for name, values in columns.items()}])
    new = {name: values[last] for name, values in columns.items()}
    found, reading = solve_survey(None, [new], extend=first)
    assert len(found.star) == len(whole.star) == 120
    theirs = dict(zip((whole.column_name(k) for k in range(len(whole.value))), whole.value, strict=True))
    off = [found.value[k] - theirs[found.column_name(k)] for k in range(len(found.value))]
    assert np.abs(off).max() < 1e-6
    assert np.isin(reading.observations.star, first.star).mean() > 0.8
    applied = apply_joint(first, [new]).columns
    assert np.isfinite(applied["star_magnitude"]).mean() > 0.8
