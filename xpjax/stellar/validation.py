"""How far a grid can be trusted: what labels are wrong by where nodes are missing."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.status import FitStatus
from xpjax.stellar.fit import FitOptions, fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import ENOUGH, interpolate_grid, model_spectra
from xpjax.stellar.scattered import krige


@dataclasses.dataclass(frozen=True)
class InterpolationError:
    """Tell what labels are wrong by when nodes of a grid are missing.

    Parameters
    ----------
    names : tuple of str
        Names of the n_label labels.
    rms : (n_label, n_label) array
        RMS error of fitted labels, in their units: row by label along which nodes were left out, column by label; NaN
        where no node of a label could be left out.
    count : (n_label,) array
        Spectra that were fitted.
    flux_rms : (n_label,) array
        RMS of interpolated minus true spectra, mean-normalized.
    order : (n_label,) array
        Power of the step between nodes with which the error of the interpolation goes, 2 to 4 as nodes allow.
    """

    names: tuple[str, ...]
    rms: np.ndarray
    count: np.ndarray
    flux_rms: np.ndarray
    order: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Expected error (n_label,) at the grid's own spacing, all rows in quadrature: a left-out node doubles it."""
        return np.sqrt(np.nansum((self.rms / 2.0 ** self.order[:, None]) ** 2, axis=0))


def interpolation_error(
    grid: StellarGrid, *, kind: str = "local", components: float | None = ENOUGH, **settings: Unpack[FitOptions]
) -> InterpolationError:
    """Estimate what the interpolation of a grid does to labels: leave out nodes, and fit their spectra with the rest.

    Parameters
    ----------
    grid : StellarGrid
        The grid.
    kind, components
        As of `interpolate_grid`.
    **settings
        More arguments of `fit_labels`; errors are one percent of the flux.

    Returns
    -------
    InterpolationError
        RMS errors of labels and spectra: a systematic error to be quoted beside the formal ones, the same for all stars
        of a kind, whatever their noise. Spectra at edges of the grid are not fitted.

    Examples
    --------
    >>> x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 5000.0, 6000.0])
    >>> grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    >>> xpjax.stellar.interpolation_error(grid).count
    array([1])
    """
    n_label = len(grid.names)
    rms, flux_rms = np.full((n_label, n_label), np.nan), np.full(n_label, np.nan)
    count, order = np.zeros(n_label, int), np.zeros(n_label)
    for label, nodes in enumerate(grid.nodes):
        order[label] = 2 if kind == "linear" else min(len(nodes) - 1, 4)
        found = [_left_out(grid, label, left, kind, components, settings) for left in range(1, len(nodes) - 1)]
        off = np.concatenate([one[0] for one in found]) if found else np.empty((0, n_label))
        count[label] = len(off)
        if len(off):
            rms[label] = np.sqrt(np.mean(off**2, axis=0))
            flux_rms[label] = np.sqrt(np.nanmean(np.concatenate([one[1] for one in found]) ** 2))
    return InterpolationError(grid.names, rms, count, flux_rms, order)


def _left_out(
    grid: StellarGrid, label: int, left: int, kind: str, components: float | None, settings: FitOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of labels (n, n_label) and of spectra (n, n_wavelength) at a node of a label that is left out."""
    keep = np.delete(np.arange(len(grid.nodes[label])), left)
    rest = dataclasses.replace(
        grid,
        nodes=tuple(np.asarray(x)[keep] if i == label else x for i, x in enumerate(grid.nodes)),
        flux=np.take(np.asarray(grid.flux), keep, axis=label),
        filled=None,
        error=None,
        doubt=None,
    )
    try:
        model = interpolate_grid(rest, kind=kind, components=components)
    except ValueError:  # nothing whole remains around these holes
        return np.empty((0, len(grid.names))), np.empty((0, len(grid.wavelength)))
    inner = [x[1:-1] if i != label else x[left : left + 1] for i, x in enumerate(grid.nodes)]
    truth = np.stack([x.ravel() for x in np.meshgrid(*inner, indexing="ij")], axis=1)
    place = (*(slice(1, -1) if i != label else slice(left, left + 1) for i in range(len(inner))), slice(None))
    flux = np.asarray(grid.flux)[place].reshape(len(truth), -1)
    there = np.isfinite(flux).all(axis=1)
    if grid.filled is not None:  # what was made of other models is no truth
        there &= ~np.asarray(grid.filled)[place[:-1]].reshape(-1)
    truth, flux = truth[there], flux[there]
    fit = fit_labels(flux, 0.01 * flux, model, **settings)
    good = fit.status == FitStatus.OK
    return (fit.labels - truth)[good], (model_spectra(model, truth, float64=True) - flux)[good]


def left_out_models(grid: StellarGrid, where: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (n, n_label) of the models at nodes (a mask) that are left out all at once, and what comes back of them.

    That is, RMS over samples as a fraction of the RMS flux: the error (n,) of kriging from all other models, and the
    error that it expects. Raises XpjaxError where too few models are left.
    """
    own = ~grid.holes if grid.filled is None else ~grid.holes & ~np.asarray(grid.filled)
    out, rest, flux = own & where, own & ~where, np.asarray(grid.flux, float)
    kriging = krige(grid.names, grid.labels_of(rest), flux[rest])
    if kriging is None or not out.any():
        raise XpjaxError(f"{out.sum()} of {own.sum()} models left out: leave out some, and keep more than the labels")
    made, expected = kriging(grid.labels_of(out))
    error = np.sqrt(np.mean((made - flux[out]) ** 2, axis=1) / np.mean(flux[rest] ** 2))
    return grid.labels_of(out), error, expected


def every_fifth(grid: StellarGrid, label: int) -> np.ndarray:
    """Which nodes have every fifth value of a label, neither the first nor the last."""
    n = len(grid.nodes[label])
    chosen = np.zeros(n, bool)
    chosen[min(2, n // 2) : n - 1 : 5] = n > 2
    shape = np.ones(len(grid.names), int)
    shape[label] = n
    return np.broadcast_to(chosen.reshape(shape), grid.shape)
