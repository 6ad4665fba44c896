"""Inverse covariances of the coefficients, and chi-squared with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.compat.gaiaxpy.reading import AnyInput, objects, parse_band, read_input
from xpjax.compat.gaiaxpy.settings import is_strict
from xpjax.core.release import DR3, RELEASES
from xpjax.xp import covariance_matrix

if TYPE_CHECKING:
    import pandas as pd


def get_inverse_covariance_matrix(input_object: AnyInput, band: str | None = None) -> pd.DataFrame | np.ndarray | None:
    """Inverse covariance matrices of the coefficients of one band, or of both: a frame, None where there is none.

    The matrix itself for one source and one band. Raises InvalidBandError, and as `read_input` does.
    """
    return _matrices(input_object, band, "inverse", "inverse_covariance")


def get_inverse_square_root_covariance_matrix(
    input_object: AnyInput, band: str | None = None
) -> pd.DataFrame | np.ndarray | None:
    """L^-1 with L L' the covariance of the coefficients of one band, or of both, as `get_inverse_covariance_matrix`."""
    return _matrices(input_object, band, "inverse_sqrt", "inverse_square_root_covariance_matrix")


def _matrices(input_object: Any, band: Any, kind: str, name: str) -> Any:
    import pandas as pd

    bands = DR3.xp if band is None else (parse_band(band),)
    given = read_input(input_object)
    data: dict[str, Any] = {"source_id": given.sources.source_id}
    for one in bands:
        matrix = covariance_matrix(given.sources, one, kind)
        if is_strict():  # GaiaXPy divides the errors by the standard deviation first
            deviation = given.deviation[:, DR3.xp.index(one)][:, None, None]
            matrix = matrix * (deviation**2 if kind == "inverse" else deviation)
        known = np.isfinite(matrix).all(axis=(1, 2))
        data[f"{one}_{name}"] = objects([m if ok else None for m, ok in zip(matrix, known, strict=True)])
    frame = pd.DataFrame(data)
    return frame[f"{bands[0]}_{name}"].iloc[0] if len(bands) == len(frame) == 1 else frame


def get_chi2(_L_inv: np.ndarray, residuals: np.ndarray) -> float:
    """|L^-1 r|^2 of residuals r (n_basis,), with L^-1 of `get_inverse_square_root_covariance_matrix`.

    Raises ValueError for other shapes, and None.
    """
    sizes = {n for release in RELEASES for n in release.n_basis}
    n = len(residuals) if np.ndim(residuals) == 1 and len(residuals) in sizes else DR3.n_basis[0]
    for what, array, shape in (("_L_inv", _L_inv, (n, n)), ("residuals", residuals, (n,))):
        if array is None or array.shape != shape:
            raise ValueError(f"{what} must be an array {shape}, not {'None' if array is None else array.shape}")
    x = np.dot(_L_inv, residuals)
    return np.dot(x, x)
