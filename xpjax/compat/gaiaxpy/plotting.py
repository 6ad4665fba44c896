"""Figures of spectra, through pyplot as in GaiaXPy; without LaTeX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.io.atomic import expanded
from xpjax.xp import Spectra

if TYPE_CHECKING:
    import pandas as pd

MOST_TOGETHER, MOST_SINGLE = 40, 20
"""Spectra in one figure with a legend, and figures of single spectra."""


def plot_spectra(
    spectra: pd.DataFrame,
    sampling: np.ndarray | None = None,
    multi: bool = False,
    show_plot: bool = True,
    output_path: str | Path | None = None,
    output_file: str | None = None,
    format: str | None = None,
    legend: bool = True,
) -> None:
    """Plot spectra of `calibrate` or `convert` on their sampling: a figure each, or multi: all in one, without errors.

    Figures are shown, and saved where output_path, output_file or format (jpg) is given. Raises ValueError for no
    sampling, no frame, or too many spectra.
    """
    import pandas as pd
    from matplotlib import pyplot as plt

    if sampling is None:
        raise ValueError("plot_spectra needs the sampling, which calibrate and convert return")
    save = bool(output_path) or bool(output_file) or bool(format)
    if not save and not show_plot:
        warnings.warn("nothing to do: the plot is neither shown nor saved", stacklevel=2)
        return
    if isinstance(spectra, pd.Series):
        attrs = spectra.attrs
        spectra = spectra.to_frame().T
        spectra.attrs = attrs
    if not isinstance(spectra, pd.DataFrame) or "data_type" not in spectra.attrs:
        raise ValueError("spectra must be a DataFrame that calibrate or convert returned")
    if multi and show_plot and legend and len(spectra) > MOST_TOGETHER:
        raise ValueError(f"{len(spectra)} spectra are too many for a legend: at most {MOST_TOGETHER}; legend=False")
    if not multi and len(spectra) > MOST_SINGLE:
        raise ValueError(f"{len(spectra)} figures are too many: at most {MOST_SINGLE}; choose rows, or multi=True")
    kind = spectra.attrs["data_type"]
    groups = [spectra] if multi else [spectra.iloc[[k]] for k in range(len(spectra))]
    for k, group in enumerate(groups):
        figure = _figure(group, sampling, kind, multi, legend)
        if save:
            number = "" if len(groups) == 1 else f"_{k}"
            folder = expanded(output_path or ".")
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{output_file or kind.__name__}{number}.{format or 'jpg'}", format=format or "jpg")
        if show_plot:
            plt.show()
        plt.close(figure)


def _figure(group: pd.DataFrame, sampling: np.ndarray, kind: Any, multi: bool, legend: bool) -> Any:
    """One figure of some spectra; internal ones together have a panel for each XP."""
    from matplotlib import pyplot as plt

    panels = ["BP", "RP"] if multi and "xp" in group.columns else [""]
    figure, axes = plt.subplots(ncols=len(panels), figsize=(16, 9), squeeze=False, sharey=True, layout="tight")
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.set(xlabel=kind.get_position_label(), ylabel=kind.get_flux_label(), title=panel)
        for row in group.to_dict("records"):
            if row["flux"] is None or (panel and row["xp"] != panel):
                continue
            axis.plot(sampling, row["flux"], lw=2, label=str(row["source_id"]))
            if not multi:
                axis.fill_between(sampling, row["flux"] - row["flux_error"], row["flux"] + row["flux_error"], alpha=0.2)
                axis.set_title(str(row["source_id"]))
        if multi and legend:
            axis.legend()
    return figure


def plot_lines(inner: Spectra, outer: Spectra, row: int, lines: pd.DataFrame, folder: str | Path | None) -> None:
    """One source's internal and absolute spectra with the wavelengths of its lines; saved in a folder, or shown."""
    from matplotlib import pyplot as plt

    from xpjax.compat.gaiaxpy.spectra import CalibrationAbsoluteSampledSpectrum, XpSampledSpectrum

    figure, axes = plt.subplots(ncols=3, figsize=(18, 6), layout="tight")
    for axis, xp, flux in zip(axes, inner.release.xp, inner.flux[row], strict=False):
        axis.plot(inner.wavelength, flux)
        axis.set(xlabel=XpSampledSpectrum.labels[0], ylabel=XpSampledSpectrum.labels[1], title=xp.upper())
    axes[2].plot(outer.wavelength, outer.flux[row])
    labels = CalibrationAbsoluteSampledSpectrum.labels
    axes[2].set(xlabel=labels[0], ylabel=labels[1], title=str(inner.source_id[row]))
    for line in lines.itertuples():
        axes[2].axvline(line.wavelength_nm, lw=0.5, color="gray")
        axes[2].annotate(
            str(line.line_name), (line.wavelength_nm, 0.98), xycoords=("data", "axes fraction"), rotation=90
        )
    if folder is None:
        plt.show()
    else:
        expanded(folder).mkdir(parents=True, exist_ok=True)
        figure.savefig(expanded(folder) / f"lines_{inner.source_id[row]}.jpg")
    plt.close(figure)
