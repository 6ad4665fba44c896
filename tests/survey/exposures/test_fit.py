"""Many exposures: terms, degenerate frames, bad rows, compiles."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.survey.exposures.helpers import BOX, DEGENERATE, PLAIN, N, fit, made
from xpjax.survey.exposures.fit import fit_exposures, needs_magnitude, prepare_exposures, standards
from xpjax.survey.exposures.model import scaling
from xpjax.survey.observations import FrameFlag, RowFlag, concatenate
from xpjax.survey.robust import MAD


@pytest.mark.slow
def test_magnitude_term_is_found_where_there_is_one() -> None:
    auto = dataclasses.replace(PLAIN, magnitude_order="auto")
    o = made()
    bent = dataclasses.replace(o, model=o.model + 0.005 * (o.magnitude - 13))
    assert not needs_magnitude(prepare_exposures(o, auto, scaling(o, auto, BOX)))[0, -1]
    allowed = needs_magnitude(prepare_exposures(bent, auto, scaling(bent, auto, BOX)))
    assert allowed.all()
    found = fit(bent, auto, allowed=allowed)
    k = found.terms.names.index("magnitude_1")
    assert found.value[0, k] == pytest.approx(0.005, abs=4 * np.sqrt(found.covariance[0, k, k]))


@pytest.mark.slow
def test_amplifiers_have_offsets() -> None:
    o = made()
    amplifier = (o.x > 2000).astype(np.int32)
    o = dataclasses.replace(o, amplifier=amplifier, model=o.model + 0.03 * amplifier)
    found = fit(o, dataclasses.replace(PLAIN, amplifiers=True))
    assert found.terms.names[-1] == "amplifier_1"
    assert found.value[0, -1] == pytest.approx(0.03, abs=4 * np.sqrt(found.covariance[0, -1, -1]))


@pytest.mark.parametrize("what", DEGENERATE)
def test_degenerate_frames_are_named_and_harm_no_other(what: str) -> None:
    bad, flag = DEGENERATE[what]
    good = made(3, name="good")
    both = concatenate([bad(), good])
    found = fit(both)
    assert found.status[0] & np.uint32(flag), FrameFlag.describe(int(found.status[0]))
    assert found.status[1] == 0
    np.testing.assert_allclose(found.value[1], fit(good).value[0], rtol=1e-6, atol=1e-9)
    if flag in (FrameFlag.NO_MODEL, FrameFlag.NO_STANDARDS):
        assert np.isnan(found.zero_point[0])
        assert np.isnan(found.value[0]).all()
    else:
        assert found.zero_point[0] == pytest.approx(3.0, abs=0.15)
        assert found.zero_point_error[0] > 0


def test_a_single_star_gives_its_own_difference_and_error() -> None:
    o = made(n=1)
    found = fit(o)
    assert found.zero_point[0] == pytest.approx(float(o.model[0] - o.magnitude[0]), abs=1e-12)
    assert found.zero_point_error[0] == pytest.approx(float(o.magnitude_error[0]), rel=1e-9)
    assert found.status[0] & FrameFlag.FLOOR_NOT_FITTED


def test_bad_rows_cost_only_themselves() -> None:
    o = made()
    rows = np.arange(N)
    broken = dataclasses.replace(
        o, x=np.where(rows == 1, np.nan, o.x), magnitude=np.where(rows == 2, np.nan, o.magnitude),
        model=np.where(rows == 3, np.nan, o.model), magnitude_error=np.where(rows == 4, 0, o.magnitude_error),
        color=np.where(rows == 5, np.nan, o.color),
    )  # fmt: skip
    found = fit(broken)
    expected = fit_exposures(o, PLAIN, scale=scaling(o, PLAIN, BOX), use=~np.isin(rows, [1, 2, 3, 4, 5]))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-12)
    _, flags = standards(broken, PLAIN)
    names = [RowFlag.NO_POSITION, RowFlag.NO_MAGNITUDE, RowFlag.NO_MODEL, RowFlag.NO_ERROR, RowFlag.NO_MODEL]
    assert [int(f) for f in flags[1:6]] == [int(name) for name in names]


def test_one_compile_for_any_number_of_stars() -> None:
    fit(concatenate([made(1, 250, name="a"), made(2, 300, name="b")]))
    with _counting() as count:
        fit(concatenate([made(1, 240, name="a"), made(2, 310, name="b")]))
        fit(concatenate([made(1, 200, name="a"), made(2, 260, name="b")]))
    assert count[0] == 0


class _counting:
    """Counts backend compiles by JAX's own monitoring."""

    def __enter__(self) -> list[int]:
        self.n = [0]
        self.live = True

        def listen(name: str, seconds: float, **_: object) -> None:
            if self.live and name == "/jax/core/compile/backend_compile_duration":
                self.n[0] += 1

        jax.monitoring.register_event_duration_secs_listener(listen)
        return self.n

    def __exit__(self, *exc: object) -> None:
        self.live = False


def test_scatter_is_the_mad() -> None:
    found = fit(made())
    r = found.residual
    assert found.scatter[0] == pytest.approx(MAD * np.median(np.abs(r - np.median(r))), rel=1e-12)
