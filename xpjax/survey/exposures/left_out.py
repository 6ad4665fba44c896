"""What frames with few standards could not tell, by what other frames say: terms that were left out, and error floors.

A term that is left out counts as zero, and is none: beforehand it is zero +- its root mean square s over the frames of
the same band and detector that have it (of all frames where none has). With w the weights of the standards, X the
design of the terms that are fitted, C the inverse of their normal matrix and X_t the column of the term, the standards
tell it with the weight I = X_t' w X_t - X_t' w X C X' w X_t: nothing where they are few, much where the fit could have
had the term and had no need of it. Its variance is s^2 / (1 + s^2 I), and the others follow it by -C X' w X_t.
The floor of a frame with hardly more standards than terms is at least that of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from xpjax.survey.exposures.results import ExposureFits

FREE = 5
"""Standards beyond the number of terms that tell a floor."""
LACKING = ("lacking/square", "lacking/number")
"""Squares and numbers of terms and floors, summed over frames."""


def places_of(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each of labels (n, k) is among known ones (n_known, k)."""
    index = {tuple(label): k for k, label in enumerate(known.tolist())}
    return np.array([index[tuple(label)] for label in labels.tolist()], int)


class LeftOut:
    """What is lacking in the fits of a survey, or of a part of it, and what they say to help other frames.

    kind (n_frame,) of each frame, by labels (n_kind, k); frame, weight (n,) and design (n, n_term) of the standards,
    frame by frame.
    """

    def __init__(
        self, fits: ExposureFits, kind: np.ndarray, labels: np.ndarray, frame: np.ndarray, design: np.ndarray,
        weight: np.ndarray,
    ) -> None:  # fmt: skip
        self.fits, self.kind, self.labels = fits, kind, labels
        fitted = (fits.n_standard > 0) & np.isfinite(fits.zero_point)
        self.few = fitted & (fits.n_used - fits.active.sum(axis=1) < FREE)
        self.sound = fitted & ~self.few
        self.products: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        edges = np.searchsorted(frame, np.arange(len(fits) + 1))
        for k in np.flatnonzero(fitted & (self.few | ~fits.active.all(axis=1))):
            mine = slice(edges[k], edges[k + 1])
            weighted = design[mine] * weight[mine, None]
            self.products[int(k)] = weighted.T @ design[mine], weighted.T @ weighted

    def sums(self) -> dict[str, np.ndarray]:
        """Squares and numbers of terms and floors over the frames of each kind that tell them."""
        fits, n_kind = self.fits, len(self.labels)
        told = np.concatenate([fits.active, np.ones((len(fits), 1), bool)], axis=1) & self.sound[:, None]
        square = np.where(told, np.concatenate([fits.value, fits.floor[:, None]], axis=1) ** 2, 0.0)
        out = np.zeros((2, n_kind, told.shape[1]))
        for one, values in zip(out, (square, told), strict=True):
            np.add.at(one, self.kind, values)
        return dict(zip(LACKING, out, strict=True))

    def known(self, whole: Mapping[str, np.ndarray]) -> ExposureFits:
        """The fits with errors of what was left out, and floors; whole: kinds, and means over their frames."""
        if not self.products:
            return self.fits
        square, number = (whole[name] * whole["n_frame"][:, None] for name in LACKING)
        square = np.where(number > 0, square, square.sum(axis=0))
        number = np.where(number > 0, number, number.sum(axis=0))
        typical = np.divide(square, number, out=np.zeros_like(square), where=number > 0)
        typical = typical[places_of(self.labels, whole["kinds"])][self.kind]
        covariance, floor = self.fits.covariance.copy(), self.fits.floor.copy()
        for k, (normal, squared) in self.products.items():
            inverse = self.fits.covariance[k] + self.fits.common_covariance[k]
            if self.few[k] and typical[k, -1] > floor[k] ** 2:
                covariance[k] += (typical[k, -1] - floor[k] ** 2) * inverse @ squared @ inverse
                floor[k] = np.sqrt(typical[k, -1])
            for t in np.flatnonzero(~self.fits.active[k]):
                moved = -inverse @ normal[:, t]
                told = max(normal[t, t] + normal[:, t] @ moved, 0.0)
                moved[t] += 1
                covariance[k] += typical[k, t] / (1 + typical[k, t] * told) * np.outer(moved, moved)
        return dataclasses.replace(self.fits, covariance=covariance, floor=floor)
