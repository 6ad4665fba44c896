"""The per-exposure fit against scipy, NumPy and known truth; degenerate frames; compiles."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.optimize import least_squares

from xpjax.survey.exposures.model import ExposureModel, scaling
from xpjax.survey.exposures.zeropoint import Prior, evaluate, fit_exposures, needs_magnitude, standards
from xpjax.survey.observations import FrameFlag, Observations, RowFlag, concatenate, make_observations
from xpjax.survey.robust import HUBER, MAD, SCALE

N = 300
PLAIN = ExposureModel(magnitude_order=0, color_zero=1.0)


def made(seed: int = 0, n: int = N, noise: float = 0.01, outliers: float = 0.0, name: str = "e") -> Observations:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 4000, (2, n))
    color = rng.uniform(0.3, 2.0, n)
    magnitude = rng.uniform(11, 16, n)
    error = noise * rng.uniform(0.5, 2, n)
    u, v = x / 2000 - 1, y / 2000 - 1
    c = color - 1
    model = magnitude + 3 + 0.03 * u - 0.02 * v * u + 0.04 * v**2 + 0.05 * c - 0.02 * c**2 + rng.normal(size=n) * error
    spoilt = rng.random(n) < outliers
    model = model + np.where(spoilt, rng.uniform(0.2, 3, n), 0)
    return make_observations(np.arange(1, n + 1), x, y, magnitude, error, model, color=color, exposure=name)


def matrix(o: Observations) -> np.ndarray:
    """The design written out once more, with the same terms."""
    u, v, c = o.x / 2000 - 1, o.y / 2000 - 1, o.color - 1
    return np.stack([1 + 0 * u, u, v, 2 * u * u - 1, u * v, 2 * v * v - 1, c, c * c], axis=1)


BOX = (0.0, 4000.0, 0.0, 4000.0)


def fit(o: Observations, model: ExposureModel = PLAIN, **options: object):
    return fit_exposures(o, model, scale=scaling(o, model, BOX), **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_without_robustness_it_is_weighted_least_squares() -> None:
    o = made()
    found = fit(o, dataclasses.replace(PLAIN, robust="none", clip=0, error_floor=0.0))
    a, w = matrix(o), 1 / o.magnitude_error
    expected, *_ = np.linalg.lstsq(a * w[:, None], (o.model - o.magnitude) * w, rcond=None)
    np.testing.assert_allclose(found.value[0], expected, rtol=1e-9)
    covariance = np.linalg.inv((a * w[:, None] ** 2).T @ a)
    np.testing.assert_allclose(found.covariance[0], covariance, rtol=1e-8, atol=1e-16)
    wrong, *_ = np.linalg.lstsq(a, o.model - o.magnitude, rcond=None)
    assert np.abs(found.value[0] - wrong).max() > 1e-5  # the comparison would see missing weights


def test_huber_is_scipys() -> None:
    """The same estimator as scipy.optimize's huber loss, with the floor given."""
    o = made(outliers=0.1)
    found = fit(o, dataclasses.replace(PLAIN, robust="huber", clip=0, error_floor=0.003), tolerance=1e-10)
    a, s = matrix(o), np.hypot(o.magnitude_error, 0.003)
    y = o.model - o.magnitude
    start, *_ = np.linalg.lstsq(a, y, rcond=None)
    options = {"f_scale": HUBER, "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    expected = least_squares(lambda p: (y - a @ p) / s, start, loss="huber", **options).x
    np.testing.assert_allclose(found.value[0], expected, rtol=0, atol=2e-7)
    assert np.abs(start - expected).max() > 1e-3


def test_tukey_leaves_outliers_alone_and_finds_them() -> None:
    clean, dirty = fit(made()), made(outliers=0.2)
    found = fit(dirty)
    error = np.sqrt(np.diagonal(found.covariance[0]))
    assert np.all(np.abs(found.value[0] - clean.value[0]) < 3 * error)
    off = np.abs(dirty.model - made().model) > 0.1
    assert found.clipped[off].all()
    assert np.count_nonzero(found.clipped & ~off) < 0.02 * N
    naive = fit(dirty, dataclasses.replace(PLAIN, robust="none", clip=0))
    assert np.abs(naive.value[0] - clean.value[0]).max() > 20 * error.max()


def test_the_floor_solves_its_own_equation() -> None:
    o = made(noise=0.004)
    rng = np.random.default_rng(5)
    o = dataclasses.replace(o, model=o.model + rng.normal(size=N) * 0.012)
    found = fit(o, tolerance=1e-10)
    total = o.magnitude_error**2 + found.floor[0] ** 2
    q = np.minimum(found.residual**2 / (SCALE**2 * total), 1)
    assert np.sum(1 - (1 - q) ** 3) == pytest.approx(0.5 * (N - 8), rel=1e-6)
    assert found.floor[0] == pytest.approx(0.012, rel=0.15)
    assert fit(made()).floor[0] < 0.004


def test_zero_point_is_the_median_over_the_grid_and_errors_are_honest() -> None:
    parts = [made(seed, name=f"e{seed}") for seed in range(120)]
    o = concatenate(parts)
    found = fit(o)
    g = (np.arange(20) + 0.5) * 200
    x, y = (a.ravel() for a in np.meshgrid(g, g))
    u, v = x / 2000 - 1, y / 2000 - 1
    truth = np.median(3 + 0.03 * u - 0.02 * v * u + 0.04 * v**2)
    pull = (found.zero_point - truth) / found.zero_point_error
    assert 0.85 < pull.std() < 1.2
    assert abs(pull.mean()) < 0.35
    one = matrix(make_observations(np.zeros(400), x, y, 0 * x, None, None, color=0 * x + 1.0))
    np.testing.assert_allclose(found.zero_point[3], np.median(one @ found.value[3]), rtol=1e-12)
    pulls = (found.value - [3.02, 0.03, 0, 0, -0.02, 0.02, 0.05, -0.02]) / np.sqrt(
        np.diagonal(found.covariance, axis1=1, axis2=2)
    )
    assert np.all(np.abs(pulls.std(axis=0) - 1) < 0.25)


def test_evaluation_is_the_design_at_every_row() -> None:
    o = made()
    found = fit(o)
    parts = evaluate(found, o)
    a = matrix(o)
    np.testing.assert_allclose(parts.added, a[:, :6] @ found.value[0, :6], rtol=1e-12)
    np.testing.assert_allclose(parts.taken, a[:, 6:] @ found.value[0, 6:], rtol=1e-9, atol=1e-15)
    variance = np.einsum("ni,ij,nj->n", a[:, :6], found.covariance[0, :6, :6], a[:, :6])
    np.testing.assert_allclose(parts.error, np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(o.model - o.magnitude - parts.added - parts.taken, found.residual, atol=1e-12)


def test_common_errors_are_quoted_apart() -> None:
    o = made()
    o = dataclasses.replace(o, model_error=np.full(N, 0.02))
    found = fit(o, dataclasses.replace(PLAIN, robust="none", clip=0, error_floor=0.0))
    a, w = matrix(o), 1 / (o.magnitude_error**2 + 0.02**2)
    h = np.linalg.solve((a.T * w) @ a, a.T * w)
    np.testing.assert_allclose(found.covariance[0], (h * o.magnitude_error**2) @ h.T, rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(found.common_covariance[0], (h * 0.02**2) @ h.T, rtol=1e-7, atol=1e-15)


@pytest.mark.slow
def test_magnitude_term_is_found_where_there_is_one() -> None:
    auto = dataclasses.replace(PLAIN, magnitude_order="auto")
    o = made()
    bent = dataclasses.replace(o, model=o.model + 0.005 * (o.magnitude - 13))
    assert not needs_magnitude(o, auto, scale=scaling(o, auto, BOX))[0, -1]
    allowed = needs_magnitude(bent, auto, scale=scaling(bent, auto, BOX))
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


@pytest.mark.slow
def test_high_orders_stay_exact() -> None:
    o = made(noise=1e-9)
    u, v = o.x / 2000 - 1, o.y / 2000 - 1
    o = dataclasses.replace(o, model=o.model + 0.02 * u**4 - 0.01 * u**2 * v**2 + 0.03 * v**3)
    found = fit(o, dataclasses.replace(PLAIN, position_order=4))
    assert np.abs(found.residual).max() < 2e-8


@pytest.mark.slow
def test_a_prior_holds_what_stars_do_not_tell() -> None:
    o = made(n=5)
    mean = np.array([[0, 0.03, 0, 0, -0.02, 0.02, 0.05, -0.02]])
    prior = Prior(mean, np.array([[0.0, *[1e10] * 7]]))
    found = fit(o, prior=prior)
    np.testing.assert_allclose(found.value[0, 1:], mean[0, 1:], atol=1e-4)
    assert found.value[0, 0] == pytest.approx(3.02, abs=0.03)


def change(o: Observations, **columns: object) -> Observations:
    return dataclasses.replace(
        o, **{k: np.broadcast_to(np.asarray(v, float), len(o)).copy() for k, v in columns.items()}
    )


DEGENERATE = {
    "one star": (lambda: made(n=1), FrameFlag.LOWERED),
    "two stars": (lambda: made(n=2), FrameFlag.LOWERED),
    "one color": (lambda: change(made(), color=0.8), FrameFlag.ONE_COLOR),
    "one position": (lambda: change(made(), x=7.0, y=9.0), FrameFlag.ONE_POSITION),
    "on a line": (lambda: change(made(), y=9.0), FrameFlag.ONE_POSITION),
    "no errors": (lambda: change(made(), magnitude_error=0.0), FrameFlag.NO_ERRORS),
    "no model": (lambda: change(made(), model=np.nan), FrameFlag.NO_MODEL),
    "no standards": (
        lambda: dataclasses.replace(made(), excluded=np.full(N, np.uint32(RowFlag.CUT))), FrameFlag.NO_STANDARDS,
    ),
}  # fmt: skip


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
    expected = fit(o, use=~np.isin(rows, [1, 2, 3, 4, 5]))
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


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("position_order", 10, "0..9"), ("color_order", -1, "0..3"), ("robust", "median", "robust must be one of"),
        ("clip", -1, "must not be negative"), ("error_floor", -0.1, "error_floor"), ("magnitude_order", True, "0..2"),
    ],
)  # fmt: skip
def test_models_that_cannot_be(entry: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExposureModel(**{entry: value})  # type: ignore[arg-type]


def test_scatter_is_the_mad() -> None:
    found = fit(made())
    r = found.residual
    assert found.scatter[0] == pytest.approx(MAD * np.median(np.abs(r - np.median(r))), rel=1e-12)
