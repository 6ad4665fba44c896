"""To look at: the systems, the installation, and figures of what was computed."""

from __future__ import annotations

import platform
from pathlib import Path

import click

import xpjax
from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, comma_separated, print_table
from xpjax.cli.terminal import tell, versions
from xpjax.io.figures import check_figure, write_figure


@click.command()
@click.argument("name", required=False)
@click.option("--release", metavar="NAME", default="DR3", show_default=True, help="Gaia release of the coefficients.")
def systems(name: str | None, release: str) -> None:
    """List the published photometric systems, or the bands of one.

    Each Gaia release has its own: those of a release that xpjax does not ship come from systems_dr4.h5 in the folder
    that the environment variable XPJAX_DATA names (`xpjax info` lists files).

    \b
    Examples:
      xpjax systems
      xpjax systems JPLUS
    """
    if name is None:
        rows = []
        for known in xpjax.available_systems(release=release):
            system = xpjax.load_system(known, release=release)
            bands = " ".join(system.names[:8]) + (f" ... ({len(system.names)})" if len(system.names) > 8 else "")
            rows.append((known, _magnitudes(system.flux_unit[0]), bands))
        print_table(("system", "magnitudes", "bands"), rows)
        return
    system = xpjax.load_system(name, release=None if name.endswith((".h5", ".hdf5")) else release)
    columns = zip(system.names, system.mean_wavelength, system.zero_point, system.flux_unit, strict=True)
    lines = [(band, f"{mean:.1f}", f"{zero:.4f}", unit) for band, mean, zero, unit in columns]
    click.echo(f"{system.labels[0]}: {_magnitudes(system.flux_unit[0])} magnitudes, release {system.release.name}")
    print_table(("band", "mean [nm]", "zero point [mag]", "flux unit"), lines)


def _magnitudes(flux_unit: str) -> str:
    # The published systems' zero points are AB where their flux is per frequency, and Vega where per wavelength.
    return "AB" if "Hz" in flux_unit else "Vega"


@click.command()
def info() -> None:
    """Versions, devices, models and data files, for a bug report."""
    import jax

    from xpjax.core.paths import DATA, user_data
    from xpjax.io.hdf5 import open_hdf5

    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    rows += versions("xpjax", "jax", "numpy", "equinox", "astropy", "h5py")
    rows.append(("devices", ", ".join(f"{device} ({device.device_kind})" for device in jax.devices())))
    rows.append(("your own models", f"{user_data()} (XPJAX_DATA)"))
    for path in (*sorted(DATA.glob("*.h5")), *sorted(user_data().glob("*.h5"))):
        with open_hdf5(path) as file:
            a = file.attrs
            made = f"from {a['source_package']} {a['source_version']}" if "source_package" in a else "made here"
            rows.append((path.name, f"{a.get('title', '')}, {made}"))
            for model in file.get("model", {}).values():
                name = "/".join(map(str, model.attrs["parts"]))
                default = " (default)" * (name == a.get("default_model"))
                rows.append(("model", f"{name}, {a['release_name']}{default}"))
    print_table(("what", "found"), rows)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=EXISTING_FILE)
@click.option("--source", "sources", multiple=True, type=int, metavar="ID", help="source_id to plot; may be repeated.")
@click.option("--system", "system_name", metavar="NAME", help="Mark this system's bands under the spectra.")
@click.option(
    "--bands", multiple=True, metavar="BLUE,RED,MAG", callback=comma_separated,
    help="Bands of the color and of the magnitude, or one for a histogram.",
)  # fmt: skip
@click.option("--limits", nargs=2, type=float, metavar="LOW HIGH", help="Range of wavelength [nm], or of color [mag].")
@click.option("--output", "-o", type=FILE, help="Figure to write (png, pdf, svg); by default FILE's name with .png.")
@OVERWRITE
def plot(
    files: tuple[Path, ...],
    sources: tuple[int, ...],
    system_name: str | None,
    bands: list[str],
    limits: tuple[float, float] | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Plot spectra with their errors, or a color-magnitude diagram.

    FILE is what `xpjax spectra` or `xpjax photometry` wrote, or a file of XP coefficients, whose spectra are made.
    Spectra of several files are drawn over each other.

    \b
    Examples:
      xpjax plot spectra.h5 --source 5937083312263887616
      xpjax plot mags.parquet --bands uJAVA,rJPLUS,gJPLUS --limits 0 4
      xpjax plot published.h5 corrected.h5 --limits 400 700 -o both.pdf
      xpjax plot XP_CONTINUOUS_RAW.fits --system JPLUS -o figure.pdf
    """
    from xpjax.plot import plot_file

    first = files[0]
    output = output or first.with_name(first.name.removesuffix(".gz")).with_suffix(".png")
    check_figure(output, overwrite)
    write_figure(plot_file(files, sources or None, system_name, bands or None, limits), output)
    tell(f"wrote {output}")
