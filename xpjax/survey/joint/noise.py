"""Noise of the normal equations that comes from noisy derivatives, where spectra with errors are parameters too.

Derivatives with respect to a transmission are as noisy as the spectra, and a part N of R is noise (see `transmission`):
cov(p) = (R - N)^-1 R (R - N)^-1. N is not zero for few columns, so that with U = R^-1 E, E these columns, and S = E' U
all is found from R^-1:

    cov(p) = R^-1 + U (F + G' N G) U',   F = N (1 - S N)^-1,   G = (1 - S N)^-1
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record

MOST_NOISE = 0.9
"""Share of noise in what rows seem to say beyond which errors mean nothing."""


@dataclasses.dataclass(frozen=True)
class SlopeNoise:
    """The part N (k, k) of the normal equations of columns (k,) that is noise of spectra."""

    columns: np.ndarray
    matrix: np.ndarray

    def correction(self, variance: np.ndarray) -> np.ndarray:
        """The matrix between U and U', F + G' N G (k, k), for the variance S (k, k) of the columns.

        Raises ValueError where noise is more than MOST_NOISE of some combination of the columns.
        """
        values, vectors = np.linalg.eigh(self.matrix)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        share = float(np.linalg.eigvalsh(root.T @ variance @ root)[-1])
        if share > MOST_NOISE:
            raise XpjaxError(
                f"of what the stars say of the transmission {share:.0%} is noise of their spectra: take stars with "
                "better spectra, or give priors of the parameters"
            )
        gain = np.linalg.inv(np.eye(len(values)) - variance @ self.matrix)
        made = self.matrix @ gain + gain.T @ self.matrix @ gain
        return 0.5 * (made + made.T)


@dataclasses.dataclass(frozen=True, repr=False)
class NoisySlopes(Record):
    """Derivatives of a transmission term as far as they are noise.

    Of each block of columns: its parameter; index (n,) of the rows' places; basis (n,), by which a row's derivative is
    that with respect to the parameter, None for one. frame (n,) of rows; amplitude (n_frame, n_parameter): what a
    frame's derivatives are of those in the middle of its band; covariance (n_star, n_band, n_parameter, n_band,
    n_parameter): of the latter.
    """

    parameter: Sequence[int]
    index: Sequence[np.ndarray]
    basis: Sequence[np.ndarray | None]
    frame: np.ndarray
    amplitude: np.ndarray
    covariance: np.ndarray

    def summed(
        self, columns: Sequence[slice], solved: np.ndarray, rows: np.ndarray, slot: np.ndarray, weight: np.ndarray
    ) -> SlopeNoise:
        """N: the noise, summed as the normal equations sum the derivatives.

        columns: of each block; solved (n_star, n_band, n_band): covariance of the stars' magnitudes; rows (n,) that are
        summed over, their slots (star * n_band + band) and weights (n,).

            N = sum of rows w S_kk' - sum of stars W_bk S_bkb'k' D^-1_bb' W_b'k'
        """
        sizes = [part.stop - part.start for part in columns]
        first, noise = np.cumsum([0, *sizes]), self.covariance
        out = np.zeros((first[-1], first[-1]))
        n_star, n_band = noise.shape[:2]
        star, band = slot // n_band, slot % n_band
        index, by_frame = [one[rows] for one in self.index], self.amplitude[self.frame[rows]].T
        amplitude = [
            by_frame[j] if basis is None else by_frame[j] * basis[rows]
            for j, basis in zip(self.parameter, self.basis, strict=True)
        ]
        sums = [
            [sparse.csr_array((weight * a * (band == b), (star, i)), shape=(n_star, n)) for b in range(n_band)]
            for a, i, n in zip(amplitude, index, sizes, strict=True)
        ]
        for j, k in itertools.combinations_with_replacement(range(len(columns)), 2):
            one, other = self.parameter[j], self.parameter[k]
            own = weight * amplitude[j] * amplitude[k] * noise[star, band, one, band, other]
            part = np.bincount(index[j] * sizes[k] + index[k], own, sizes[j] * sizes[k]).reshape(sizes[j], sizes[k])
            for a, b in itertools.product(range(n_band), repeat=2):
                shared = sparse.diags_array(noise[:, a, one, b, other] * solved[:, a, b])
                part -= (sums[j][a].T @ shared @ sums[k][b]).toarray()
            out[first[j] : first[j + 1], first[k] : first[k + 1]] = part
            out[first[k] : first[k + 1], first[j] : first[j + 1]] = part.T
        return SlopeNoise(np.concatenate([np.arange(part.start, part.stop) for part in columns]), out)
