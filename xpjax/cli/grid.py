"""Grids of model spectra: built from a library, described, drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, check_figure, print_table, write_figure
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.stellar import StellarGrid

LISTED = 12
"""Holes that are listed one by one."""


@click.group()
def grid() -> None:
    """Grids of model spectra, to which `xpjax fit-stars` fits stellar labels.

    A grid file is HDF5: flux (a spectrum for each node, divided by its mean, NaN where there is none), wavelength and
    nodes/LABEL.
    """


@grid.command()
@click.argument("format", metavar="FORMAT", type=click.Choice(["ck04", "nextgen", "ferre", "files"]))
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the grid.")
@click.option(
    "--resolution",
    default="104",
    show_default=True,
    metavar="R|xp|own|FILE",
    help="Resolving power lambda/FWHM: a number; xp, that of XP spectra from the instrument model; a file of "
    "wavelength in nm and R; own, as it is in the library.",
)
@click.option(
    "--sampling",
    type=click.Choice(["log330", "variable", "coefficients"]),
    default="log330",
    show_default=True,
    help="330 samples on 360..990 nm; 270 with steps as R(lambda); XP coefficients.",
)
@click.option(
    "--limits",
    multiple=True,
    metavar="LABEL=LOW:HIGH[:STEP]",
    help="Take models within these limits only, and on steps from LOW; may be repeated.",
)
@click.option("--fill", is_flag=True, help="Interpolate holes that lie between other models.")
@click.option("--nlte", is_flag=True, help="nextgen: the non-LTE models.")
@click.option("--medium", type=click.Choice(["vacuum", "air"]), help="ferre, files: where wavelengths are.")
@click.option("--per", type=click.Choice(["wavelength", "frequency"]), help="ferre, files: what flux is per.")
@click.option("--pattern", metavar="TEXT", help="files: names of files, as in 'lte{teff}-{logg}{mh}*'.")
@click.option("--keyword", "keywords", multiple=True, metavar="LABEL=KEY", help="files: a label's FITS keyword.")
@click.option("--wavelengths", type=EXISTING_FILE, help="files: a file with the wavelengths of all.")
@click.option("--unit", help="files: of wavelengths, nm or Angstrom, if files are silent.")
@click.option("--own-resolution", type=float, help="files: lambda/FWHM that the spectra have already.")
@OVERWRITE
def build(
    format: str,
    path: Path,
    output: Path,
    resolution: str,
    sampling: str,
    limits: tuple[str, ...],
    fill: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Build a grid from a library of model spectra at PATH.

    \b
    FORMAT is
      ck04     Castelli & Kurucz 2004, the folder with ckm25 .. ckp05 as STScI distributes it
      nextgen  NextGen spectra in one .npz file: teff, logg, mh, wave_nm, flux
      ferre    a text grid of FERRE, with its header &SYNTH
      files    a folder with a FITS or text file for each spectrum: see --pattern, --keyword, --medium

    Wavelengths in air become vacuum wavelengths. Options say what files do not say themselves; where both do and
    differ, nothing is built. Combinations of labels without a model are holes, which are told, as are the labels found:
    look whether their signs and decimals are right.

    \b
    Examples:
      xpjax grid build nextgen nextgen.npz -o grid.h5 --limits teff=4000:7000:200 --limits logg=3.5:5 \\
        --limits mh=-1.5:0:0.5
      xpjax grid build ck04 ck04models/ -o ck04.h5 --resolution xp --sampling variable
      xpjax grid build files phoenix/ -o p.h5 --pattern 'lte{teff}-{logg}{mh}.PHOENIX*' --medium vacuum \\
        --wavelengths WAVE_PHOENIX.fits --unit Angstrom
    """
    from xpjax.stellar import build_grid, check_grid_output, write_grid

    started = time.perf_counter()
    check_grid_output(output, overwrite=overwrite)
    with _Models() as bar:
        made = build_grid(
            format,
            path,
            resolution=resolution,
            sampling=sampling,
            limits=_limits(limits),
            fill=fill,
            progress=bar,
            **_options(options),
        )
    write_grid(made, output, overwrite=overwrite)
    seconds = time.perf_counter() - started
    tell("\n".join([_labels_found(made), *_holes(made), f"written to {output.name} in {seconds:.1f} s"]))


def _labels_found(grid: StellarGrid) -> str:
    """How many values each label has in the library, and their range."""
    import json

    found = json.loads(grid.provenance)["labels"].items()
    spans = (f"{n} {name} {low:g}" + (f"..{high:g}" if n > 1 else "") for name, (n, low, high) in found)
    return f"labels found: {', '.join(spans)}"


def _limits(texts: Sequence[str]) -> dict[str, list[float | None]]:
    """Limits by label of LABEL=LOW:HIGH[:STEP]; LOW and HIGH may be left out."""
    found: dict[str, list[float | None]] = {}
    for text in texts:
        name, _, span = text.partition("=")
        parts = span.split(":")
        try:
            values = [float(part) if part.strip() else None for part in parts]
        except ValueError:
            values = []
        if not 2 <= len(values) <= 3 or not name.strip():
            raise XpjaxError(f"--limits {text!r}: expected LABEL=LOW:HIGH or LABEL=LOW:HIGH:STEP, as in teff=4000:7000")
        found[name.strip()] = values
    return found


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as the readers call them."""
    keywords = dict(text.partition("=")[::2] for text in options.pop("keywords"))
    if "" in {*keywords, *keywords.values()}:
        raise XpjaxError("--keyword: expected LABEL=KEY, as in teff=PHXTEFF")
    return {name: value for name, value in {**options, "keywords": keywords}.items() if value}


class _Models:
    """A count of the models, on a terminal and in long runs."""

    def __init__(self) -> None:
        self.bar = bar(unit=" models")

    def __enter__(self) -> _Models:
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def __call__(self, n: int) -> None:
        self.bar.update(n - self.bar.n)


@grid.command()
@click.argument("file", metavar="GRID", type=EXISTING_FILE)
@click.option("--holes", "every", is_flag=True, help="List every hole.")
def info(file: Path, every: bool) -> None:
    """Describe a grid: labels, nodes, holes, resolution, sampling, origin and size.

    \b
    Example:
      xpjax grid info grid.h5 --holes
    """
    import json

    import numpy as np

    from xpjax.stellar import UNITS, read_grid

    found = read_grid(file)
    x = found.wavelength
    samples = f"{len(x)} coefficients" if found.sampling == "coefficients" else f"{len(x)} on {x[0]:g}..{x[-1]:g} nm"
    record = json.loads(found.provenance)
    rows = [
        ("origin", found.origin),
        ("library", f"{record.get('n_file', '?')} files, SHA-256 {str(record.get('sha256', '?'))[:16]}"),
        ("resolution", found.resolution),
        ("sampling", f"{found.sampling}, {samples}"),
        ("size", f"{int(np.prod(found.shape)):,} nodes, {np.asarray(found.flux).nbytes / 1e6:.1f} MB"),
    ]
    if "missed_rms" in record:
        missed = record["missed_rms"]
        rows.append(("not in XP's basis", f"{missed['median']:.2%} RMS, at most {missed['largest']:.2%}"))
    print_table(("what", "found"), rows)
    click.echo("")
    holes = found.holes
    lines = []
    for k, (name, node) in enumerate(zip(found.names, found.nodes, strict=True)):
        others = tuple(j for j in range(holes.ndim) if j != k)
        lines.append(
            (f"{name} [{UNITS[name]}]" if name in UNITS else name, str(len(node)), _nodes(node, holes.mean(others)))
        )
    print_table(("label", "nodes", "values (share of holes)"), lines)
    click.echo("\n" + "\n".join(_holes(found, every)))


def _nodes(node: np.ndarray, share: np.ndarray) -> str:
    """Values of a label, runs with even steps as FIRST..LAST:STEP, the share of holes where there are some."""
    if not share.any():
        import numpy as np

        steps = np.diff(node)
        breaks = np.flatnonzero(np.abs(np.diff(steps)) > 1e-6 * np.abs(steps[1:])) + 1
        runs, start = [], 0
        for stop in [*breaks, len(node) - 1]:
            runs.append(f"{node[start]:g}..{node[stop]:g} by {steps[start]:g}")
            start = int(stop)
        if len(runs) < len(node) / 2:
            return ", ".join(runs)
    return " ".join(f"{x:g}" + (f" ({s:.0%})" if s else "") for x, s in zip(node, share, strict=True))


def _holes(grid: StellarGrid, every: bool = False) -> list[str]:
    """What is missing, in words."""
    import numpy as np

    holes, n = grid.holes, int(np.prod(grid.shape))
    sizes = " x ".join(f"{k} {name}" for k, name in zip(grid.shape, grid.names, strict=True))
    count = int(holes.sum())
    lines = [f"{n - count:,} spectra on {n:,} nodes ({sizes})" + ("; no holes" if not count else "")]
    if grid.filled is not None:
        lines.append(f"{int(np.sum(grid.filled)):,} of the spectra were interpolated between others")
    if count:
        labels = grid.labels_of(holes)
        shown = labels if every else labels[:LISTED]
        lines.append(f"{count:,} holes ({count / n:.1%}), {', '.join(grid.names)}:")
        lines += ["  " + "  ".join(f"{x:g}" for x in row) for row in shown]
        if len(shown) < count:
            lines.append("  ... (`xpjax grid info GRID --holes` lists them all)")
        for k, (name, node) in enumerate(zip(grid.names, grid.nodes, strict=True)):
            share = holes.mean(tuple(j for j in range(holes.ndim) if j != k))
            worst = int(np.argmax(share))
            if share[worst] > 2 * holes.mean() and share[worst] > 0.5:
                lines.append(
                    f"{share[worst]:.0%} of the nodes with {name} {node[worst]:g} are holes; --limits leaves it out"
                )
    return lines


@grid.command()
@click.argument("file", metavar="GRID", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="Figure to write: png, pdf or svg.")
@OVERWRITE
def plot(file: Path, output: Path, overwrite: bool) -> None:
    """Draw a grid: spectra along each label, and where it has holes.

    \b
    Example:
      xpjax grid plot grid.h5 -o grid.png
    """
    from xpjax.plot import plot_grid
    from xpjax.stellar import read_grid

    check_figure(output, overwrite)
    write_figure(plot_grid(read_grid(file)), output)
    tell(f"wrote {output}")
