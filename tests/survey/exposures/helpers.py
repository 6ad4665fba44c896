"""Made exposures and degenerate ones, and how tests fit them."""

import dataclasses

import numpy as np

from xpjax.survey.exposures.fit import fit_prepared, prepare_exposures
from xpjax.survey.exposures.model import ExposureModel, scaling
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.observations import FrameFlag, Observations, RowFlag, concatenate, make_observations

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
    prepared = prepare_exposures(o, model, scaling(o, model, BOX))
    return fit_prepared(prepared, **options)  # type: ignore[arg-type]


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


SETTINGS = CalibrationSettings(PLAIN, size=BOX)


def nights(counts: list[int], airmass: float = 0.0) -> Observations:
    """Exposures of one night with so many stars each."""
    parts = []
    for k, n in enumerate(counts):
        part = made(k, max(n, 1), 0.005, name=f"e{k}")
        if n == 0:
            part = dataclasses.replace(part, model=part.model * np.nan)
        night = np.full(1, "n1")
        parts.append(
            dataclasses.replace(
                part, frames=dataclasses.replace(part.frames, night=night, airmass=np.array([1.0 + airmass * k])),
                star=part.star + 1000 * k, model=part.model - 0.2 * airmass * k,
            )
        )  # fmt: skip
    return concatenate(parts)


def detectors(seed: int, name: str) -> Observations:
    """One exposure of two detectors, the second 0.4 mag and a tilt apart."""
    parts = []
    for k in range(2):
        o = made(seed + 50 * k, name=name)
        u = o.x / 2000 - 1
        frames = dataclasses.replace(o.frames, detector=np.array([f"ccd{k}"]), night=np.array(["n1"]))
        parts.append(
            dataclasses.replace(
                o, frames=frames, model=o.model + k * (0.4 + 0.1 * u + 0.2 * u**2), star=o.star + 1000 * k
            )
        )
    return concatenate(parts)
