"""Flats of three scales: a quadratic, and waves of medium and of small length."""

from __future__ import annotations

import numpy as np

GRID = np.stack(np.meshgrid(*[np.linspace(0, 1, 50)] * 2), axis=-1).reshape(-1, 2)
"""Places at which flats are normalized."""


class Flat:
    """A flat over a detector, constant in time: sizes [mag] are the peak of the quadratic and the rms of the waves."""

    def __init__(self, sizes: tuple[float, float, float], rng: np.random.Generator) -> None:
        self.sizes = sizes
        self._quadratic = rng.normal(size=5) * np.array([1, 1, 1, 0.7, 1])
        self._quadratic /= np.abs(_quadratics(GRID) @ self._quadratic).max()
        self._waves = [_waves(rng, 40, low, high) for low, high in ((2, 5), (30, 60))]
        self._scale = [1 / _wave(GRID, waves).std() for waves in self._waves]

    def __call__(self, place: np.ndarray, grain: bool = True) -> np.ndarray:
        """The flat (n,) [mag] at places (n, 2), in units of the detector. grain: with its small scales."""
        large, medium, small = self.sizes
        out = large * (_quadratics(place) @ self._quadratic)
        for size, waves, scale in zip((medium, small if grain else 0.0), self._waves, self._scale, strict=True):
            if size:
                out += size * scale * _wave(place, waves)
        return out


def _quadratics(place: np.ndarray) -> np.ndarray:
    u, v = 2 * place.T - 1
    return np.stack([u, v, u * u - 1 / 3, u * v, v * v - 1 / 3], axis=1)


def _waves(rng: np.random.Generator, n: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave vectors (n, 2) of low..high waves over the detector, and phases (n,)."""
    k, angle = 2 * np.pi * rng.uniform(low, high, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([k * np.cos(angle), k * np.sin(angle)], axis=1), rng.uniform(0, 2 * np.pi, n)


def _wave(place: np.ndarray, waves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    vectors, phases = waves
    out = np.zeros(len(place))
    for vector, phase in zip(vectors, phases, strict=True):
        out += np.cos(place @ vector + phase)
    return out
