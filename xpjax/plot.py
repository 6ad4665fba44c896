"""Figures of spectra, photometry, passbands and grids, as `matplotlib.figure.Figure`: no backend, no global state.

Save one with `figure.savefig("name.png")`; a notebook shows it as the value of a cell. Figures of spectra and
photometry take results, astropy, pandas and Arrow tables, and files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import columns_of
from xpjax.stellar import plot_grid as plot_grid
from xpjax.synthetic import (
    Passband,
    PhotometricSystem,
    curves_of,
    load_system,
    magnitude_bands,
    plot_passbands as plot_passbands,
    plot_photometry as plot_photometry,
    recover_passbands,
)
from xpjax.xp import FIRST_SPECTRA, SourceTable, draw_spectra, read, spectra as sampled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_file", "plot_grid", "plot_passbands", "plot_photometry", "plot_spectra"]


def plot_spectra(
    spectra: Any, sources: Sequence[int] | None = None, system: PhotometricSystem | str | None = None
) -> Figure:
    """Plot flux against wavelength with 1-sigma bands, a panel for each source.

    Parameters
    ----------
    spectra : Spectra, astropy.table.Table, pyarrow.Table, str or Path
        Sampled spectra as `xpjax.spectra` gives them, a table with a column `flux` (n, n_sample) and `wavelength`
        (n_sample,) [nm] for all rows, or its file.
    sources : sequence of int, optional
        The source_id of each source to plot, at most 24; by default the first six.
    system : PhotometricSystem or str, optional
        A photometric system whose passbands are drawn beneath absolute spectra. Published systems have recovered
        curves; of others they are recovered from the projections, which takes seconds.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there are no spectra, no rows, or not these sources, and for a system with internal spectra.

    Examples
    --------
    >>> spectra = xpjax.spectra(xpjax.simulate_sources(3, seed=1))
    >>> len(xpjax.plot.plot_spectra(spectra, system="JPLUS").axes)
    4
    """
    return draw_spectra(spectra, sources, _bands(system, spectra))


def _bands(system: PhotometricSystem | str | None, spectra: Any) -> Sequence[Passband]:
    """The curves of a system's bands; none where its projections are all that is known of it."""
    release = getattr(spectra, "release", None) or getattr(spectra, "meta", {}).get("release")
    chosen = load_system(system, release=release) if isinstance(system, str) else system
    if chosen is None or not chosen.model:
        return ()
    try:
        return curves_of(chosen)
    except XpjaxError:
        return recover_passbands(chosen)


def plot_file(path: str | Path, sources: Sequence[int] | None = None, system: str | None = None) -> Figure:
    """Plot what a file holds: photometry, sampled spectra, or the spectra of XP coefficients.

    Parameters
    ----------
    path : str or Path
        A file of `xpjax.write` or of the command line, or of XP coefficients.
    sources : sequence of int, optional
        The source_id of each spectrum to plot; by default the first six.
    system : str, optional
        Name of a photometric system whose passbands are drawn beneath spectra.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `plot_photometry` or `plot_spectra`.

    Raises
    ------
    XpjaxError
        If the file has nothing to plot or not these sources, and for sources or a system with photometry.

    Examples
    --------
    >>> figure = xpjax.plot.plot_file("xp.parquet")
    >>> len(figure.axes)
    6
    """
    table = _plottable(path, sources)
    if not magnitude_bands(table):
        return plot_spectra(table, sources, system)
    if sources:
        raise XpjaxError(f"{say('sources=', '--source')} chooses spectra; photometry is plotted whole")
    if system:
        raise XpjaxError(f"{say('system=', '--system')} marks bands under spectra; photometry has none to mark")
    return plot_photometry(table)


def _plottable(path: str | Path, sources: Sequence[int] | None) -> Catalogue:
    """Spectra or photometry as they are; of XP coefficients the spectra of the chosen or first sources."""
    table: Catalogue | SourceTable | None = None
    with contextlib.suppress(XpjaxError):  # XP files come in more formats than tables: their reader speaks below
        found = columns_of(path)
        table = found if "flux" in found.columns or magnitude_bands(found) else None
    if table is None:
        table = read(path, keep=[])
    if not len(table):
        raise XpjaxError(f"{path}: the file has no sources, so there is nothing to plot")
    if isinstance(table, Catalogue):
        return table
    rows = np.isin(table.source_id, sources) if sources else slice(FIRST_SPECTRA)
    chosen = table[rows]
    if not len(chosen):
        raise XpjaxError(f"{path}: no source {', '.join(map(str, sources or ()))} among {len(table):,}")
    return sampled(chosen).catalogue()
