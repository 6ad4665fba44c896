"""Curves with parameters: passbands that are moved, widened and tilted, bands of transmission chains, the free form.

Parameters of a curve T0 with mean wavelength m and full width w at half maximum:

    shift, width           T(l) = T0(m + (l - shift - m) / (1 + width))          [nm], relative
    blue_edge, red_edge    the half-maximum on either side moves by so much      [nm]
    tilt                   T (1 + tilt (l - m) / w): relative change across the width
    bend                   T (1 + bend ((l - m) / w)^2)

or any parameter of a transmission chain (airmass, water, filter_shift, detector_slope, ...). In the free form T is also
multiplied by exp of a cubic through nodes with mean zero; it holds tilt and bend.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.engine import precision
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import local_cubic
from xpjax.core.records import AnyArray
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.loading import chain_file, load_passbands, split_bands
from xpjax.synthetic.passband import Passband

STEP = 0.5
"""Sampling [nm] of the curves that are fitted."""
MARGIN = 25.0
"""How far [nm] a curve may move or grow beyond its samples."""
PARAMETERS = ("shift", "width", "blue_edge", "red_edge", "tilt", "bend")
FREE = "free"
"""Name of the values at the nodes of the free form."""


class WarpedCurve(eqx.Module):
    """A curve with parameters, on a grid (m,) [nm]: samples (n,) at knots (n,) [nm], its mean wavelength and width.

    nodes (k,) [nm]: where the free form has its values; empty without it.
    """

    knots: Float[AnyArray, " n"]
    samples: Float[AnyArray, " n"]
    grid: Float[AnyArray, " m"]
    center: Float[AnyArray, ""]
    width: Float[AnyArray, ""]
    nodes: Float[AnyArray, " k"]

    def __call__(self, change: Mapping[str, Array]) -> Float[Array, " m"]:
        """Transmission (m,) on the grid, for parameters by name; those left out change nothing."""
        shift, width, blue, red, tilt, bend = (change.get(name, 0.0) for name in PARAMETERS)
        x, center, own_width = jnp.asarray(self.grid), jnp.asarray(self.center), jnp.asarray(self.width)
        # Both edges move as a line through their displacements would, constant beyond them.
        place = jnp.clip(2 * (x - center) / own_width, -1.0, 1.0)
        own = x - 0.5 * (blue * (1 - place) + red * (1 + place))
        own = center + (own - shift - center) / (1 + width)
        across = (x - center) / own_width
        curve = local_cubic(own, self.knots, self.samples) * (1 + tilt * across + bend * across**2)
        if FREE in change:
            inside = jnp.clip(x, self.nodes[0], self.nodes[-1])
            curve *= jnp.exp(local_cubic(inside, self.nodes, change[FREE]))
        return curve


def warped(band: Passband, spacing: float | None = None) -> WarpedCurve:
    """The curve of a passband, ready to be changed; spacing [nm] of the nodes of the free form."""
    grid = np.arange(band.wavelength[0] - MARGIN, band.wavelength[-1] + MARGIN + STEP, STEP)
    nodes = np.empty(0)
    if spacing is not None:
        bright = np.flatnonzero(band.transmission > 0.01 * band.transmission.max())
        low, high = band.wavelength[bright[0]], band.wavelength[bright[-1]]
        nodes = np.linspace(low, high, max(int(np.ceil((high - low) / spacing)) + 1, 4))
    center, width = np.asarray(band.mean_wavelength), np.asarray(band.fwhm)
    return WarpedCurve(band.wavelength, band.transmission, grid, center, width, nodes)


class ChainCurve(eqx.Module):
    """One band of a transmission chain on a grid (m,) [nm], as a curve with parameters."""

    chain: TransmissionChain
    grid: Float[AnyArray, " m"]
    band: str = eqx.field(static=True)

    def __call__(self, change: Mapping[str, Array]) -> Float[Array, " m"]:
        """Transmission (m,) on the grid, for parameters of the chain by name."""
        return self.chain.transmission(jnp.asarray(self.grid), self.band, **change)


def warp_passband(band: Passband, **parameters: float) -> Passband:
    """Change a passband by the parameters that `fit_passband` fits.

    Parameters
    ----------
    band : Passband
        The passband.
    **parameters : float
        shift [nm], width (relative), blue_edge and red_edge [nm], tilt and bend (relative changes across the width).

    Returns
    -------
    Passband
        The changed curve, in steps of 0.5 nm, of peak one or below.

    Raises
    ------
    XpjaxError
        If a parameter has another name.

    Notes
    -----
    T(l) = T0(m + (l - shift - m) / (1 + width)) (1 + tilt (l - m) / w + bend ((l - m) / w)^2), with the mean wavelength
    m and the full width w at half maximum of T0.

    Examples
    --------
    >>> g = xpjax.load_passbands("sdss2010")["g"]
    >>> moved = xpjax.synthetic.warp_passband(g, shift=2.0)
    >>> round(moved.mean_wavelength - g.mean_wavelength, 2)
    2.0
    """
    check_names(list(parameters), PARAMETERS)
    curve = warped(band)
    with precision(float64=True):
        values = np.asarray(curve({name: jnp.asarray(value) for name, value in parameters.items()}))
    transmission = np.clip(values, 0.0, None) / max(values.max(), 1.0)
    return dataclasses.replace(band, wavelength=np.asarray(curve.grid), transmission=transmission)


def find_start(source: str | os.PathLike[str], free: bool) -> tuple[Passband | TransmissionChain, str | None, str]:
    """What a fit starts from by its name: a passband, or a chain and its band; and the label of its set.

    The free form is of a passband, also of one that a chain makes. Raises XpjaxError.
    """
    chosen = load_passbands(source)
    if len(chosen) != 1:
        remedy = f"name one, as in {split_bands(source)[0]}:{chosen.names[0]}"
        raise XpjaxError(f"{say('curve', '--curve')} {source} has the passbands {list(chosen.names)}; {remedy}")
    (name,) = chosen.names
    described = chain_file(source)
    if free or described is None:
        return chosen[name], None, chosen.label
    return read_chain(described), name, chosen.label


def prepare_curve(
    curve: Passband | TransmissionChain, band: str | None, parameters: Sequence[str] | None, free: float | None
) -> tuple[Passband, WarpedCurve | ChainCurve, list[str], np.ndarray]:
    """The passband at the start, the curve with parameters, their names and starting values."""
    default = "filter_shift" if isinstance(curve, TransmissionChain) else "shift"
    names = list(dict.fromkeys(parameters or ("zero_point", default)))
    own = [name for name in names if name != "zero_point"]
    if isinstance(curve, TransmissionChain):
        if free is not None:
            raise XpjaxError("the free form is for a passband; give chain.passbands()[band] to fit freely")
        if band not in curve.bands:
            raise XpjaxError(f"band {band!r} is not in the chain {curve.name}; it has {list(curve.bands)}")
        known = curve.parameters
        check_names(own, list(known))
        # Filters have a shift and a scale each, the rest of the chain is common to all bands.
        each = {name: np.broadcast_to(known[name], len(curve.bands))[curve.bands.index(band)] for name in own}
        start = [float(each.get(name, 0.0)) for name in names]
        return curve.passbands()[band], ChainCurve(curve, np.asarray(curve.wavelength), band), names, np.array(start)
    check_names(own, [name for name in PARAMETERS if free is None or name not in ("tilt", "bend")])
    if free is not None and not free > 0:
        raise XpjaxError(f"free = {free}: give the spacing of the nodes in nm")
    return curve, warped(curve, free), names, np.zeros(len(names))


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise XpjaxError for names of parameters that are none."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise XpjaxError(f"no parameter {', '.join(unknown)}; choose from {['zero_point', *known]}")
