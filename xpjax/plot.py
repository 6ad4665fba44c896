"""Figures of spectra, photometry, passbands and grids, as `matplotlib.figure.Figure`: no backend, no global state.

Save one with `figure.savefig("name.png")`; a notebook shows it as the value of a cell. Figures of spectra and
photometry take results, astropy, pandas and Arrow tables, and files. `matplotlib.pyplot.style.use("xpjax.style")` gives
other figures the same style.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import columns_of
from xpjax.stellar import plot_grid as plot_grid
from xpjax.synthetic import (
    AnySystem,
    Passband,
    PassbandSet,
    TransmissionChain,
    curves_of,
    load_system,
    magnitude_bands,
    plot_passbands as plot_passbands,
    plot_photometry as plot_photometry,
    recover_passbands,
)
from xpjax.xp import FIRST_SPECTRA, AnySpectra, SourceTable, draw_spectra, read, spectra as sampled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_file", "plot_grid", "plot_passbands", "plot_photometry", "plot_spectra"]


def plot_spectra(
    spectra: AnySpectra,
    sources: Sequence[int] | None = None,
    system: AnySystem | None = None,
    limits: Sequence[float] | None = None,
) -> Figure:
    """Plot flux against wavelength with 1-sigma bands, a panel for each source.

    Parameters
    ----------
    spectra : Spectra, astropy.table.Table, pyarrow.Table, str or Path, or mapping of str to these
        Sampled spectra as `xpjax.spectra` gives them, a table with a column `flux` (n, n_sample) and `wavelength`
        (n_sample,) [nm] for all rows, or its file. Several by name are drawn over each other.
    sources : sequence of int, optional
        The source_id of each source to plot, at most 24; by default the first six.
    system : str, PhotometricSystem, Passband or PassbandSet, optional
        The passbands that are drawn beneath absolute spectra; `JPLUS:gJPLUS,rJPLUS` names some of a system. Published
        systems have recovered curves; of others they are recovered from the projections, which takes seconds.
    limits : (2,) sequence of float [nm], optional
        Lowest and highest wavelength; of internal spectra pseudo-wavelength.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there are no spectra, no rows, not these sources, or nothing within the limits, and for a system with
        internal spectra.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(3, seed=1)
    >>> spectra = xpjax.spectra(sources)
    >>> len(xpjax.plot.plot_spectra(spectra, system="JPLUS").axes)
    4
    >>> both = {"published": spectra, "corrected": xpjax.spectra(sources, correction="standard")}
    >>> figure = xpjax.plot.plot_spectra(both, spectra.source_id[:1], limits=(400, 700))
    >>> [text.get_text() for text in figure.legends[0].get_texts()][:2]
    ['published', 'corrected']
    """
    return draw_spectra(spectra, sources, _bands(system, spectra), limits)


def _bands(system: AnySystem | None, spectra: Any) -> Sequence[Passband]:
    """The curves of a system's bands; none where its projections are all that is known of it."""
    if isinstance(system, TransmissionChain):
        system = system.passbands()
    if isinstance(system, Passband | PassbandSet):
        return list(system) if isinstance(system, PassbandSet) else [system]
    first = next(iter(spectra.values()), None) if isinstance(spectra, Mapping) and "flux" not in spectra else spectra
    release = getattr(first, "release", None) or getattr(first, "meta", {}).get("release")
    chosen = load_system(system, release=release) if isinstance(system, str) else system
    if chosen is None or not chosen.model:
        return ()
    try:
        return curves_of(chosen)
    except XpjaxError:
        return recover_passbands(chosen)


def plot_file(
    path: str | Path | Sequence[str | Path],
    sources: Sequence[int] | None = None,
    system: str | None = None,
    bands: Sequence[str] | None = None,
    limits: Sequence[float] | None = None,
) -> Figure:
    """Plot what a file holds: photometry, sampled spectra, or the spectra of XP coefficients.

    Parameters
    ----------
    path : str or Path, or sequence of these
        A file of `xpjax.write` or of the command line, or of XP coefficients. Spectra of several files are drawn over
        each other.
    sources : sequence of int, optional
        The source_id of each source to plot; by default the first six spectra, or all of a diagram.
    system : str, optional
        Name of a photometric system whose passbands are drawn beneath spectra.
    bands : sequence of str, optional
        Of photometry the blue and the red band of the color and the band of the magnitude, or one for a histogram.
    limits : (2,) sequence of float, optional
        Lowest and highest wavelength [nm] of spectra, or color [mag] of a diagram.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `plot_photometry` or `plot_spectra`.

    Raises
    ------
    XpjaxError
        If the file has nothing to plot or not these sources, for several files of photometry, a system with
        photometry, and bands with spectra.

    Examples
    --------
    >>> figure = xpjax.plot.plot_file("xp.parquet")
    >>> len(figure.axes)
    6
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise XpjaxError("no file to plot: name one")
    tables, counts = zip(*(_plottable(one, sources) for one in paths), strict=True)
    if not any(magnitude_bands(table) for table in tables):
        if bands:
            raise XpjaxError(f"{say('bands=', '--bands')} chooses magnitudes; {say('system=', '--system')} marks bands")
        named = {Path(one).stem: table for one, table in zip(paths, tables, strict=True)}
        if len(named) < len(paths):
            raise XpjaxError(f"spectra of {len(paths)} files are drawn over each other by name, and two have the same")
        several = named if len(paths) > 1 else tables[0]
        return draw_spectra(several, sources, _bands(system, tables[0]), limits, max(counts))
    if len(tables) > 1:
        raise XpjaxError("spectra are drawn over each other, photometry is not: name one file")
    if system:
        raise XpjaxError(f"{say('system=', '--system')} marks bands under spectra; photometry has none to mark")
    return plot_photometry(tables[0], bands, limits, sources)


def _plottable(path: str | Path, sources: Sequence[int] | None) -> tuple[Catalogue, int]:
    """Spectra or photometry as they are, of XP coefficients the spectra of the chosen or first sources; the rows."""
    table: Catalogue | SourceTable | None = None
    with contextlib.suppress(XpjaxError):  # XP files come in more formats than tables: their reader speaks below
        found = columns_of(path)
        table = found if "flux" in found.columns or magnitude_bands(found) else None
    if table is None:
        table = read(path, keep=[])
    if not len(table):
        raise XpjaxError(f"{path}: the file has no sources, so there is nothing to plot")
    if isinstance(table, Catalogue):
        return table, 0
    rows = np.isin(table.source_id, sources) if sources else slice(FIRST_SPECTRA)
    chosen = table[rows]
    if not len(chosen):
        raise XpjaxError(f"{path}: no source {', '.join(map(str, sources or ()))} among {len(table):,}")
    return sampled(chosen).catalogue(), len(table)
