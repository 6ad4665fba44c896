"""What figures share: one style, no backend and no global state, units as axes show them, colors, files."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.io import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"all": "#1f3a5f", "bp": "#0072B2", "rp": "#D55E00", "flag": "#D55E00"}
"""Okabe & Ito's (2008) blue and vermillion, told apart with any color vision, and a dark neutral one."""
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's colors for what has no order; the same as in the style file."""
STYLE = Path(__file__).parents[1] / "style.mplstyle"
"""The style of every figure; `matplotlib.pyplot.style.use("xpjax.style")` gives it to others."""
SUFFIXES = (".png", ".pdf", ".svg")
PIXELS = 96
"""Pixels of a browser for an inch: a figure in a notebook is as large as it says."""

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in the style of xpjax, whatever the settings of the process are."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context(fname=STYLE):
            return draw(*args, **options)

    return drawn


@functools.cache
def figure_type() -> type[Figure]:
    """The class of the figures: a matplotlib Figure that shows itself in a notebook, without pyplot."""
    from matplotlib.figure import Figure

    class XpjaxFigure(Figure):
        """A figure that a notebook shows as the value of a cell."""

        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            drawn = io.BytesIO()
            self.savefig(drawn, format="png")
            width, height = self.get_size_inches()
            return drawn.getvalue(), {"width": round(PIXELS * width), "height": round(PIXELS * height)}

        @styled
        def savefig(self, *args: object, **options: object) -> None:
            super().savefig(*args, **options)  # type: ignore[arg-type]

    return XpjaxFigure


@styled
def new_figure(width: float, height: float) -> Figure:
    """A figure [inches] of no backend that shows itself in a notebook."""
    return figure_type()(figsize=(width, height), dpi=150, layout="constrained")


def bracket(unit: str) -> str:
    """A unit as an axis shows it: `W m-2 nm-1` gives ` [W m$^{-2}$ nm$^{-1}$]`."""
    from astropy.units import Unit

    if not unit:
        return ""
    known = Unit(unit, parse_strict="silent")
    text = known.to_string("latex_inline") if type(known).__name__ != "UnrecognizedUnit" else unit
    return f" [{text}]"


def spectral_color(wavelength: float) -> tuple[float, ...]:
    """A color from dark blue by purple to orange for a wavelength [nm] in XP's range; RGBA.

    Lightness grows with it: its order is seen in gray and with any color vision, which a rainbow does not give.
    """
    import matplotlib as mpl

    place = (wavelength - XP_RANGE[0]) / (XP_RANGE[1] - XP_RANGE[0])
    return tuple(mpl.colormaps["plasma"](0.82 * min(max(float(place), 0.0), 1.0)))


def some_of(shown: int, there: int, what: str = "sources") -> str:
    """How many are shown, where these are not all: "6 of 20 sources"."""
    return f"{shown:,} of {there:,} {what}" if shown < there else f"{there:,} {what if there != 1 else what[:-1]}"


def between(values: np.ndarray, limits: Sequence[float] | None, what: str) -> np.ndarray:
    """Which values lie within limits (low, high), all without them. Raises XpjaxError where none do."""
    if limits is None:
        return np.ones(len(values), bool)
    low, high = _pair(limits, what)
    inside = (values >= low) & (values <= high)
    if not inside.any():
        raise XpjaxError(
            f"no {what} from {low:g} to {high:g}: there are {np.nanmin(values):.5g} to {np.nanmax(values):.5g}"
        )
    return inside


def _pair(limits: Sequence[float], what: str) -> tuple[float, float]:
    """Two limits in order. Raises XpjaxError."""
    pair = tuple(map(float, limits))
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise XpjaxError(f"limits of {what} are {', '.join(map(str, limits))}; expected two numbers, low before high")
    return pair[0], pair[1]


def color_scale(axes: Axes, values: np.ndarray, label: str, cmap: str = "cividis") -> Callable[[float], object]:
    """A color for each of some values in order, and the bar beside the panel that says which."""
    import matplotlib as mpl

    low, high = float(np.min(values)), float(np.max(values))
    place, paint = mpl.colors.Normalize(low, high if high > low else low + 1), mpl.colormaps[cmap]
    bar = axes.figure.colorbar(mpl.cm.ScalarMappable(place, paint), ax=axes, label=label, pad=0.02)
    if len(values) <= 12:
        bar.set_ticks(list(values), labels=[f"{value:g}" for value in values])
    return lambda value: paint(place(value))


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
