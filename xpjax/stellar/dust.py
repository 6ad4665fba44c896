"""Grids seen through dust: E(B-V), and R_V, as labels."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.constants import FLUX_PER_MAGNITUDE
from xpjax.core.errors import XpjaxError
from xpjax.core.units import in_unit
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import COEFFICIENTS


def dust_exponent(wavelength: np.ndarray, law: str, r_v: float = R_V, per_ebv: float = AV_PER_SFD) -> np.ndarray:
    """What E(B-V) is multiplied by (n,) in the exponent of what dust lets through at wavelengths (n,), but for sign."""
    return FLUX_PER_MAGNITUDE * per_ebv * (r_v / R_V) * extinction_curve(wavelength, law, r_v)


def redden(
    grid: StellarGrid, ebv: ArrayLike, *, law: str = "ccm89", r_v: ArrayLike = R_V, per_ebv: float = AV_PER_SFD
) -> StellarGrid:
    """Add E(B-V), and R_V, to the labels of a grid: each spectrum is seen through dust and normalized anew.

    Parameters
    ----------
    grid : StellarGrid
        Model spectra.
    ebv : (n,) array
        Ascending nodes of E(B-V) [mag]; steps of 0.1 mag give fluxes to 1e-4, and 5e-4 next to either end.
    law : str, optional
        Reddening law, see `xpjax.extinction`.
    r_v : float or (n_rv,) array, optional
        R_V of the law, or ascending nodes of it.
    per_ebv : float, optional
        A_V / E(B-V) at R_V = 3.1, in proportion to R_V at others: E(B-V) then means the same reddening.

    Returns
    -------
    StellarGrid
        The grid with "ebv" as its last label, and "rv" behind it where there are nodes of R_V. A fit on it finds them
        like any other label, with exact derivatives, bounds and, on request, a prior.

    Raises
    ------
    XpjaxError
        If nodes do not ascend, or the grid holds XP coefficients.

    Examples
    --------
    >>> teff, wavelength = np.linspace(4000.0, 7000.0, 7), np.linspace(360.0, 990.0, 60)
    >>> flux = np.exp(-wavelength * 3000 / teff[:, None] / 1000)
    >>> grid = xpjax.stellar.StellarGrid((teff,), flux / flux.mean(axis=1, keepdims=True), wavelength, ("teff",))
    >>> xpjax.stellar.redden(grid, [0.0, 0.1, 0.2]).shape
    (7, 3)
    """
    ebv = np.asarray(in_unit(ebv, "mag", "E(B-V)"), float)
    if ebv.ndim != 1 or len(ebv) < 2 or np.any(np.diff(ebv) <= 0):
        raise XpjaxError(f"nodes of E(B-V) must be two or more ascending numbers, found {ebv}")
    if grid.sampling == COEFFICIENTS:
        raise XpjaxError("a grid of XP coefficients cannot be reddened; build it with sampling='log330'")
    each = np.asarray(r_v, float)
    if each.ndim > 1 or (each.ndim and (len(each) < 2 or np.any(np.diff(each) <= 0))):
        raise XpjaxError(f"R_V must be one number or two or more ascending nodes, found {each}")
    curves = np.stack([extinction_curve(np.asarray(grid.wavelength), law, float(one)) for one in each.ravel()])
    a_v = per_ebv * ebv[:, None, None] * (each.reshape(-1, 1) / R_V)
    dust = np.exp(-FLUX_PER_MAGNITUDE * a_v * curves).reshape(len(ebv), *each.shape, -1)
    flux = np.asarray(grid.flux, float).reshape(*grid.shape, *[1] * (dust.ndim - 1), -1) * dust
    flux /= flux.mean(axis=-1, keepdims=True)
    more = {
        name: np.array(
            np.broadcast_to(np.asarray(of_node).reshape(*grid.shape, *[1] * (dust.ndim - 1)), flux.shape[:-1])
        )
        for name, of_node in (("filled", grid.filled), ("error", grid.error))
        if of_node is not None
    }
    if grid.doubt is not None:  # fractions of the flux, which dust leaves as they are
        more["doubt"] = np.expand_dims(np.asarray(grid.doubt), tuple(range(-dust.ndim, -1)))
    nodes = (*grid.nodes, ebv, *([each] if each.ndim else []))
    names = (*grid.names, "ebv", *(["rv"] if each.ndim else []))
    return dataclasses.replace(grid, nodes=nodes, flux=flux, names=names, **more)  # type: ignore[arg-type]
