"""What figures share: no backend and no global state, units as axes show them, colors of wavelengths, files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.io import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"all": "#1f3a5f", "bp": "#0072B2", "rp": "#D55E00", "flag": "#D55E00"}
"""Okabe & Ito's (2008) blue and vermillion, told apart with any color vision, and a dark neutral one."""
SUFFIXES = (".png", ".pdf", ".svg")


def new_figure(width: float, height: float) -> Figure:
    """A figure [inches] of no backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def bracket(unit: str) -> str:
    """A unit as an axis shows it: `W m-2 nm-1` gives ` [W m$^{-2}$ nm$^{-1}$]`."""
    from astropy.units import Unit

    if not unit:
        return ""
    known = Unit(unit, parse_strict="silent")
    text = known.to_string("latex_inline") if type(known).__name__ != "UnrecognizedUnit" else unit
    return f" [{text}]"


def spectral_color(wavelength: float) -> tuple[float, ...]:
    """A color from blue to red for a wavelength [nm] in XP's range; RGBA."""
    import matplotlib as mpl

    place = (wavelength - XP_RANGE[0]) / (XP_RANGE[1] - XP_RANGE[0])
    return tuple(mpl.colormaps["turbo"](min(max(float(place), 0.05), 0.95)))


def check_figure(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuse, before anything is computed, a figure that cannot be written. Raises XpjaxError and OSError."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise XpjaxError(f"{Path(path).name}: the suffix of a figure is .png, .pdf or .svg")
    atomic.check_output(path, overwrite=overwrite)


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the suffix (png, pdf, svg), whole or not at all, over an old one."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix.lower().removeprefix("."))
    atomic.write_bytes(path, drawn.getvalue())
