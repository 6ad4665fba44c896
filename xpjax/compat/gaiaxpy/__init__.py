"""GaiaXPy's interface on xpjax: change one import line.

    from xpjax.compat import gaiaxpy
    photometry = gaiaxpy.generate("XP_CONTINUOUS.csv", gaiaxpy.PhotometricSystem.JPLUS, save_file=False)

Functions, signatures, column names, types and saved files are those of GaiaXPy 2.1.5. Numbers differ where
docs/moving-from-gaiaxpy.md says so, with the size of each difference; `with gaiaxpy.strict():` gives GaiaXPy's own.
Everything is computed in float64, as there; `with gaiaxpy.float32():` is faster.
"""

from __future__ import annotations

from typing import Any

from xpjax.compat.gaiaxpy.covariances import (
    get_chi2,
    get_inverse_covariance_matrix,
    get_inverse_square_root_covariance_matrix,
)
from xpjax.compat.gaiaxpy.errors import (
    ExtensionNotImplementedError,
    InvalidBandError,
    InvalidExtensionError,
    MissingColumnError,
    NoBandsAvailableError,
    SelectorNotImplementedError,
)
from xpjax.compat.gaiaxpy.line_finder import find_extrema, find_fast, find_lines
from xpjax.compat.gaiaxpy.photometry import apply_colour_equation, apply_error_correction, generate
from xpjax.compat.gaiaxpy.plotting import plot_spectra
from xpjax.compat.gaiaxpy.reading import VERSION as __version__
from xpjax.compat.gaiaxpy.settings import float32, strict
from xpjax.compat.gaiaxpy.spectra import calibrate, convert, pwl_range, pwl_to_wl, wl_range, wl_to_pwl
from xpjax.compat.gaiaxpy.systems import load_additional_systems, remove_additional_systems

__all__ = [
    "ExtensionNotImplementedError",
    "InvalidBandError",
    "InvalidExtensionError",
    "MissingColumnError",
    "NoBandsAvailableError",
    "PhotometricSystem",
    "SelectorNotImplementedError",
    "__version__",
    "apply_colour_equation",
    "apply_error_correction",
    "calibrate",
    "convert",
    "find_extrema",
    "find_fast",
    "find_lines",
    "float32",
    "generate",
    "get_chi2",
    "get_inverse_covariance_matrix",
    "get_inverse_square_root_covariance_matrix",
    "load_additional_systems",
    "plot_spectra",
    "pwl_range",
    "pwl_to_wl",
    "remove_additional_systems",
    "strict",
    "wl_range",
    "wl_to_pwl",
]


def __getattr__(name: str) -> Any:
    """`PhotometricSystem` is made when it is first asked for: importing reads no file."""
    if name == "PhotometricSystem":
        from xpjax.compat.gaiaxpy.systems import enumeration

        globals()[name] = enumeration()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
