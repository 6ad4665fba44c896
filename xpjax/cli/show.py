"""To look at: the systems, the installation, and figures of what was computed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, check_figure, print_table, write_figure
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    from xpjax.core.records import Catalogue
    from xpjax.xp import SourceTable


@click.command()
@click.argument("name", required=False)
def systems(name: str | None) -> None:
    """List the published photometric systems, or the bands of one.

    \b
    Examples:
      xpjax systems
      xpjax systems JPLUS
    """
    import xpjax

    if name is None:
        rows = []
        for known in xpjax.available_systems():
            system = xpjax.load_system(known)
            bands = " ".join(system.names[:8]) + (f" ... ({len(system.names)})" if len(system.names) > 8 else "")
            rows.append((known, _magnitudes(system.flux_unit[0]), bands))
        print_table(("system", "magnitudes", "bands"), rows)
        return
    system = xpjax.load_system(name)
    columns = zip(system.names, system.mean_wavelength, system.zero_point, system.flux_unit, strict=True)
    lines = [(band, f"{mean:.1f}", f"{zero:.4f}", unit) for band, mean, zero, unit in columns]
    click.echo(f"{system.labels[0]}: {_magnitudes(system.flux_unit[0])} magnitudes, release {system.release.name}")
    print_table(("band", "mean [nm]", "zero point [mag]", "flux unit"), lines)


def _magnitudes(flux_unit: str) -> str:
    # The published systems' zero points are AB where their flux is per frequency, and Vega where per wavelength.
    return "AB" if "Hz" in flux_unit else "Vega"


@click.command()
def info() -> None:
    """Versions, devices, instrument models and data files: what to add to a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import jax

    from xpjax.core.paths import DATA
    from xpjax.io.hdf5 import open_hdf5
    from xpjax.xp import DEFAULT_MODEL

    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    for package in ("xpjax", "jax", "numpy", "equinox", "astropy", "h5py"):
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "not installed"))
    rows.append(("devices", ", ".join(f"{device} ({device.device_kind})" for device in jax.devices())))
    for path in sorted(DATA.glob("*.h5")):
        with open_hdf5(path) as file:
            a = file.attrs
            made = f"from {a['source_package']} {a['source_version']}" if "source_package" in a else "made here"
            rows.append((path.name, f"{a.get('title', '')}, {made}"))
            for model in file.get("model", ()):
                name = model.replace("_", "/", 1)
                rows.append(("model", f"{name}, {a['release_name']}{' (default)' * (name == DEFAULT_MODEL)}"))
    print_table(("what", "found"), rows)


@click.command()
@click.argument("file", type=EXISTING_FILE)
@click.option("--source", "sources", multiple=True, type=int, metavar="ID", help="source_id to plot; may be repeated.")
@click.option("--system", "system_name", metavar="NAME", help="Mark this system's bands under the spectra.")
@click.option("--output", "-o", type=FILE, help="Figure to write (png, pdf, svg); by default FILE's name with .png.")
@OVERWRITE
def plot(file: Path, sources: tuple[int, ...], system_name: str | None, output: Path | None, overwrite: bool) -> None:
    """Plot spectra with their errors, or photometry as a color-magnitude diagram.

    FILE is what `xpjax spectra` or `xpjax photometry` wrote, or a file of XP coefficients, whose spectra are made.

    \b
    Examples:
      xpjax plot spectra.h5 --source 5937083312263887616
      xpjax plot mags.parquet
      xpjax plot XP_CONTINUOUS_RAW.fits --system JPLUS -o figure.pdf
    """
    import xpjax
    from xpjax import plot as draw

    output = output or file.with_name(file.name.removesuffix(".gz")).with_suffix(".png")
    check_figure(output, overwrite)
    data = _plottable(file, sources)
    if draw.magnitude_bands(data):
        if sources:
            raise XpjaxError("--source chooses spectra; photometry is plotted whole")
        if system_name:
            raise XpjaxError("--system marks bands under spectra; photometry has none to mark")
        figure = draw.plot_photometry(data)
    else:
        system = xpjax.load_system(system_name) if system_name else None
        figure = draw.plot_spectra(data, sources or None, system)
    write_figure(figure, output)
    tell(f"wrote {output}")


def _plottable(file: Path, sources: Sequence[int]) -> Catalogue:
    """A catalogue of spectra or photometry as it is; of XP coefficients the spectra of the chosen or first sources."""
    import numpy as np

    import xpjax
    from xpjax.io import catalogue
    from xpjax.plot import magnitude_bands
    from xpjax.xp import SourceTable

    table: Catalogue | SourceTable | None = None
    with contextlib.suppress(XpjaxError):  # XP files come in more formats than tables: their reader speaks below
        found = catalogue.read_catalogue(file)
        if "flux" in found.columns or magnitude_bands(found):
            table = found
    if table is None:
        table = xpjax.read(file, keep=[])
    if not len(table):
        raise XpjaxError(f"{file.name}: the file has no sources, so there is nothing to plot")
    if not isinstance(table, SourceTable):
        return table
    rows = np.flatnonzero(np.isin(table.source_id, sources)) if sources else np.arange(min(6, len(table)))
    if not len(rows):
        raise XpjaxError(f"{file.name}: no source {', '.join(map(str, sources))} among {len(table):,}")
    return xpjax.spectra(table[rows]).catalogue({})
