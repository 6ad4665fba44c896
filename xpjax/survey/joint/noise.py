"""Noise of the normal equations that comes from noisy derivatives, where spectra with errors are parameters too.

Derivatives with respect to a transmission are as noisy as the spectra, and a part N of R is noise (see `transmission`):
cov(p) = (R - N)^-1 R (R - N)^-1. N is not zero for few columns, so that with U = R^-1 E, E these columns, and S = E' U
all is found from R^-1:

    cov(p) = R^-1 + U (F + G' N G) U',   F = N (1 - S N)^-1,   G = (1 - S N)^-1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError

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


def noise_of_spectra(
    columns: Sequence[slice],
    index: Sequence[np.ndarray],
    amplitude: Sequence[np.ndarray],
    noise: np.ndarray,
    solved: np.ndarray,
    star: np.ndarray,
    band: np.ndarray,
    weight: np.ndarray,
) -> SlopeNoise:
    """N of a transmission term: noise of derivatives, summed as the normal equations sum the derivatives.

    columns: of each parameter; index, amplitude (n,) of each parameter: the places of the rows, and what their
    derivatives are of those in the middle of their bands. noise (n_star, n_band, n_parameter, n_band, n_parameter):
    covariance of these derivatives; solved (n_star, n_band, n_band): covariance of the stars' magnitudes; star, band
    and weight (n,) of rows.

        N = sum of rows w S_kk' - sum of stars W_bk S_bkb'k' D^-1_bb' W_b'k'
    """
    sizes = [part.stop - part.start for part in columns]
    first = np.cumsum([0, *sizes])
    out = np.zeros((first[-1], first[-1]))
    n_star, n_band = noise.shape[:2]
    sums = [
        [_sums(weight * a * (band == b), star, i, (n_star, size)) for b in range(n_band)]
        for a, i, size in zip(amplitude, index, sizes, strict=True)
    ]
    for j in range(len(columns)):
        for k in range(j, len(columns)):
            own = weight * amplitude[j] * amplitude[k] * noise[star, band, j, band, k]
            part = np.bincount(index[j] * sizes[k] + index[k], own, sizes[j] * sizes[k]).reshape(sizes[j], sizes[k])
            for a in range(n_band):
                for b in range(n_band):
                    shared = sparse.diags_array(noise[:, a, j, b, k] * solved[:, a, b])
                    part -= (sums[j][a].T @ shared @ sums[k][b]).toarray()
            out[first[j] : first[j + 1], first[k] : first[k + 1]] = part
            out[first[k] : first[k + 1], first[j] : first[j + 1]] = part.T
    where = np.concatenate([np.arange(part.start, part.stop) for part in columns])
    return SlopeNoise(where, out)


def _sums(weight: np.ndarray, star: np.ndarray, group: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Sums (n_star, n_group) of weights."""
    return sparse.csr_array((weight, (star, group)), shape=shape)
