"""Observations of a few nights in two bands on two detectors, for solutions that are extended or applied."""

from __future__ import annotations

import numpy as np

from xpjax.survey import Observations, make_observations
from xpjax.survey.joint import Constraint, Flat, JointModel, ZeroPoint
from xpjax.survey.joint.terms import Color

N_NIGHT, PER_NIGHT, NEW = 5, 4, 20
MODEL = JointModel(
    (ZeroPoint(), Color(per="band"), Flat(bins=4)), tuple(Constraint(n) for n in ("zero_point", "color", "flat")),
    robust="none", error_floor=0.0, size=(0, 1, 0, 1), color_zero=0.0, min_observations=4,
)  # fmt: skip
"""Zero-points of frames, a color term of each band, flats; nothing says where magnitudes are zero."""


def observe(n_star: int = 250, *, seed: int = 0, noise: float = 0.004, outlier: float = 0.01) -> Observations:
    """Stars on four exposures a night of each band and detector; NEW of them are seen in the last night alone."""
    rng = np.random.default_rng(seed)
    color, true = rng.uniform(-0.8, 0.8, n_star), rng.uniform(13, 17, (n_star, 2))
    model = true + rng.normal(0, 0.01, true.shape)
    columns: dict[str, list[np.ndarray]] = {}
    for night in range(N_NIGHT):
        for b, band in enumerate("gr"):
            extinction = (0.2, 0.1)[b] * (1 + 0.1 * rng.normal())
            for shot in range(PER_NIGHT):
                airmass, known = rng.uniform(1.0, 2.0), n_star - NEW * (night < N_NIGHT - 1)
                for detector, sign in (("a", 1), ("b", -1)):
                    star = np.flatnonzero(rng.random(known) < 0.35)
                    n = len(star)
                    x, y = rng.uniform(0, 1, (2, n))
                    added = 25 + 0.05 * rng.normal() - extinction * (airmass - 1) + 0.03 * color[star]
                    added = added + sign * 0.02 * (x - 0.5) + 0.01 * (y - 0.5) ** 2
                    error = noise * rng.uniform(0.7, 1.5, n)
                    m = true[star, b] - added + error * rng.normal(size=n)
                    m += (rng.random(n) < outlier) * rng.choice([-1, 1], n) * rng.uniform(0.1, 0.5, n)
                    made = {
                        "star": star, "x": x, "y": y, "magnitude": m, "magnitude_error": error, "color": color[star],
                        "model": model[star, b], "exposure": f"n{night}e{shot}{band}", "band": band,
                        "detector": detector, "night": f"night {night}", "airmass": airmass,
                        "time": 60000.0 + night + 0.02 * shot,
                    }  # fmt: skip
                    for key, value in made.items():
                        columns.setdefault(key, []).append(np.broadcast_to(value, n))
    own = {key: np.concatenate(parts) for key, parts in columns.items()}
    first = [own.pop(key) for key in ("star", "x", "y", "magnitude", "magnitude_error", "model")]
    return make_observations(*first, model_error=np.full(len(first[0]), 0.01), **own)


def of_nights(o: Observations, *nights: int) -> Observations:
    """The rows of some nights."""
    return o.on_frames(np.isin(o.frames.night, [f"night {night}" for night in nights]))
