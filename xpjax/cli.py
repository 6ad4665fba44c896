"""The command line: read, compute, write. JAX, astropy and matplotlib wait until a command needs them.

Exit status: 0 done (bad rows are counted and flagged), 1 some units failed, 2 wrong input or call. Results go to
files and standard output; progress, summaries and errors to standard error.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from xpjax.records import Catalogue, Release, SourceTable

F = TypeVar("F", bound=Callable[..., Any])


class Refusal(click.ClickException):
    """One clear message and exit status 2."""

    exit_code = 2


class Group(click.Group):
    """Turns what the library raises for wrong input into messages; `--debug` lets it through."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; wrong input, and a device or memory that fails, become `Error: ...` and exit status 2."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, click.exceptions.Exit, click.Abort):  # of `xpjax systems | head`; click's own
            raise
        except (NotImplementedError, RecursionError):  # RuntimeErrors that only a mistake of ours raises
            raise
        except (ValueError, OSError, RuntimeError, MemoryError) as exc:
            if ctx.params["debug"]:
                raise
            if isinstance(exc, RuntimeError | MemoryError):
                raise Refusal(_failure(exc)) from exc
            if isinstance(exc, OSError) and exc.filename and exc.strerror:
                raise Refusal(f"{exc.filename}: {exc.strerror}") from exc
            raise Refusal(str(exc)) from exc


def _failure(exc: BaseException) -> str:
    """The first line of what JAX or the system says, and what to do."""
    text = str(exc).strip()
    lower, first = text.lower(), text.partition("\n")[0]
    if isinstance(exc, MemoryError) or "resource_exhausted" in lower or "out of memory" in lower:
        remedy = "give fewer or smaller files at once, leave out --correlation and --float64, or take --device cpu"
        return f"not enough memory ({first or type(exc).__name__}); {remedy}"
    if any(word in lower for word in ("backend", "device", "cuda", "gpu")):
        return f"{first}; choose another --device, or set JAX_PLATFORMS=cpu"
    return f"{first or type(exc).__name__}; `xpjax --debug ...` shows where"


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which the help lists them."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _comma_separated(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _grid(ctx: click.Context, parameter: click.Parameter, value: str | None) -> np.ndarray | None:
    """START:STOP:STEP as an array; STOP belongs to it where it falls on the grid."""
    if value is None:
        return None
    import numpy as np

    from xpjax.constants import PSEUDO_RANGE, XP_RANGE
    from xpjax.xp.instrument import check_grid

    try:
        start, stop, step = map(float, value.split(":"))
    except ValueError:
        raise ValueError(f"--wavelength {value!r}: expected START:STOP:STEP, as in 400:900:2.5") from None
    if not (np.isfinite([start, stop, step]).all() and step > 0 and start <= stop):
        raise ValueError(f"--wavelength {value!r}: the grid must ascend, from START up to STOP in steps above zero")
    if (stop - start) / step > 1e6:
        raise ValueError(f"--wavelength {value!r}: more than a million samples; choose a larger STEP")
    # The tolerance keeps STOP where (STOP - START) / STEP is whole but for rounding.
    grid = start + step * np.arange(int((stop - start) / step + 1e-6) + 1)
    if ctx.params.get("internal"):
        return check_grid(grid, PSEUDO_RANGE, "pseudo-wavelength", "")
    return check_grid(grid, XP_RANGE, "wavelength", "nm")


FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace the output if it exists; it is refused otherwise.")
INPUT_OUTPUT = _options(
    click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=EXISTING_FILE),
    click.option(
        "--output",
        "-o",
        required=True,
        type=FILE,
        help="File to write; its suffix names the format: csv, csv.gz, ecsv, fits, vot, xml, parquet, h5.",
    ),
)
COMPUTING = _options(
    click.option("--truncate", is_flag=True, help="Use only the relevant coefficients (n_relevant_bases)."),
    click.option("--errors/--no-errors", default=True, help="Propagate errors with their correlations (default: yes)."),
    click.option("--float64", is_flag=True, help="Read and compute in float64; by default in float32."),
    click.option(
        "--keep",
        multiple=True,
        metavar="COLUMNS",
        callback=_comma_separated,
        help="Input columns to pass on to the output, separated by commas; may be repeated.",
    ),
    click.option(
        "--device", "devices", metavar="NAME", help="cpu, gpu, gpu:2 or a number of devices; by default JAX's first."
    ),
    OVERWRITE,
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="xpjax")
def main(debug: bool) -> None:
    """Gaia XP spectra on CPUs and GPUs: synthetic photometry and absolute spectra.

    \b
    Start here:
      xpjax demo
      xpjax photometry XpContinuousMeanSpectrum.csv.gz --system JPLUS --output jplus.parquet
      xpjax spectra XP_CONTINUOUS_RAW.fits --output spectra.h5

    Exit status: 0 done, bad rows are counted and flagged in xp_status; 1 some units failed; 2 wrong input or call.
    """


# --- photometry and spectra -------------------------------------------------------------------------------------------


@main.command()
@INPUT_OUTPUT
@click.option(
    "--system",
    "systems",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Photometric system, in any case (`xpjax systems` lists them), some of its bands as in "
    "JPLUS:gJPLUS,rJPLUS, or an .h5 file of systems; may be repeated.",
)
@click.option("--error-correction", is_flag=True, help="Multiply errors by the published factors, by G magnitude.")
@COMPUTING
def photometry(
    inputs: tuple[Path, ...], output: Path, systems: tuple[str, ...], keep: list[str], overwrite: bool, **options: Any
) -> None:
    """Synthetic magnitudes and fluxes of XP spectra in published photometric systems.

    INPUT is a file of XP coefficients: csv, csv.gz, ecsv, fits, VOTable, avro or parquet. Columns of the output:
    source_id, then for each system LABEL_mag_BAND, LABEL_flux_BAND, LABEL_flux_error_BAND and LABEL_mag_error_BAND,
    the kept columns, and xp_status, whose bits tell what is to be known of a source.

    \b
    Examples:
      xpjax photometry xp.fits --system JPLUS --output jplus.csv
      xpjax photometry part1.csv.gz part2.csv.gz --system SDSS --system Gaia_DR3_Vega -o mags.parquet
      xpjax photometry xp.parquet --system jkc_std --truncate --keep ra,dec,bp_rp -o mags.fits
      xpjax photometry xp.h5 --system JPLUS --no-errors --device gpu -o mags.h5
    """
    import xpjax

    system = xpjax.system(*systems)

    def compute(table: SourceTable, progress: Callable[[int], None]) -> Any:
        return xpjax.photometry(table, system, progress=progress, **options)

    _run(compute, inputs, output, keep, overwrite, system.release)


@main.command()
@INPUT_OUTPUT
@click.option("--internal", is_flag=True, is_eager=True, help="Internal BP and RP spectra, e-/s on pseudo-wavelengths.")
@click.option(
    "--wavelength",
    metavar="START:STOP:STEP",
    callback=_grid,
    help="Sampling in nm within 330..1050, STOP included where it falls on the grid; by default 336:1020:2. "
    "With --internal pseudo-wavelengths within -10..70.",
)
@click.option("--correlation", is_flag=True, help="Write correlations too: strict lower triangle, row by row.")
@click.option("--instrument", "model", metavar="MODEL", help="Instrument model (`xpjax info` lists them), or .h5 file.")
@COMPUTING
def spectra(
    inputs: tuple[Path, ...], output: Path, model: str | None, keep: list[str], overwrite: bool, **options: Any
) -> None:
    """Absolute (or internal) sampled spectra of XP coefficients.

    Columns of the output: source_id, the arrays flux and flux_error in W m-2 nm-1 (and correlation), the kept
    columns and xp_status. The wavelengths are stored once: an HDF5 dataset, metadata of the other formats, or beside
    a CSV file the file NAME_wavelength.csv.

    \b
    Examples:
      xpjax spectra xp.fits --output spectra.h5
      xpjax spectra xp.csv.gz --wavelength 400:900:2.5 --truncate -o spectra.parquet
      xpjax spectra xp.fits --correlation --float64 -o spectra.h5
      xpjax spectra xp.fits --internal --wavelength 0:60:0.1 -o internal.fits
    """
    import xpjax

    is_file = model is not None and model.lower().endswith((".h5", ".hdf5"))
    instrument = xpjax.instrument(path=model) if is_file else xpjax.instrument(*filter(None, [model]))

    def compute(table: SourceTable, progress: Callable[[int], None]) -> Any:
        return xpjax.spectra(table, instrument=instrument, progress=progress, **options)

    _run(compute, inputs, output, keep, overwrite, instrument.release, shared=["wavelength"])


def _run(
    compute: Callable[[SourceTable, Callable[[int], None]], Any],
    inputs: Sequence[Path],
    output: Path,
    keep: list[str],
    overwrite: bool,
    release: Release,
    shared: Sequence[str] = (),
) -> None:
    """Read and compute file by file, write one output, tell what was done."""
    import dataclasses

    import numpy as np

    import xpjax
    from xpjax.io import catalogue
    from xpjax.records import Status

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite, shared=shared)
    context = click.get_current_context()
    dtype = np.float64 if context.params["float64"] else np.float32
    parts, status = [], []
    seen = np.empty(0, np.int64)
    with Progress(inputs) as progress:
        for path in inputs:
            table = xpjax.read(path, release=release, dtype=dtype, keep=keep)
            repeated = np.isin(table.source_id, seen) & (table.source_id != 0)
            table = dataclasses.replace(table, status=table.status | np.uint32(Status.DUPLICATE) * repeated)
            seen = np.concatenate([seen, table.source_id])
            progress.read(path, len(table))
            result = _complete(compute(table, progress.done), context.params)
            parts.append(result.catalogue(table.columns))
            status.append(result.status)
    whole = catalogue.concatenate(parts)
    whole = dataclasses.replace(whole, meta={**whole.meta, **_record(context)})
    catalogue.write(output, whole, overwrite=overwrite)
    _summary(context, whole, np.concatenate(status), time.perf_counter() - started)


def _complete(result: Any, params: dict[str, Any]) -> Any:
    """Errors and correlations that were asked for and that the input cannot give, as NaN: all files fit together."""
    import dataclasses

    import numpy as np

    wanted = ["flux_error", "magnitude_error"] * params["errors"] + ["correlation"] * params.get("correlation", False)
    absent = {}
    for name in wanted:
        if getattr(result, name, ...) is None:
            *rows, n = result.flux.shape
            shape = (*rows, n * (n - 1) // 2) if name == "correlation" else result.flux.shape
            absent[name] = np.full(shape, np.nan, result.flux.dtype)
    return dataclasses.replace(result, **absent)


class Progress:
    """A bar over the sources of all files; their number is guessed from the sizes of the files until all are read."""

    def __init__(self, files: Sequence[Path]) -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        # A log file wants a line now and then, and none for short work.
        self.bar = tqdm(
            unit=" sources",
            unit_scale=True,
            delay=0 if terminal else 1,
            mininterval=0.1 if terminal else 10,
            file=sys.stderr,
            leave=False,
        )
        self.bytes = sum(path.stat().st_size for path in files)
        self.bytes_read = self.sources = self.before = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def read(self, path: Path, n: int) -> None:
        """A file of n sources was read and is to be computed."""
        self.bytes_read += path.stat().st_size
        self.before, self.sources = self.sources, self.sources + n
        self.bar.total = round(self.sources * self.bytes / max(self.bytes_read, 1))
        self.bar.set_description(path.name, refresh=False)

    def done(self, n: int) -> None:
        """The first n sources of the file are done."""
        self.bar.update(self.before + n - self.bar.n)


def _record(context: click.Context) -> dict[str, Any]:
    """The call as metadata: names of files without their folders, every option, and the version."""
    import xpjax

    def plain(value: Any) -> Any:
        if isinstance(value, Path) or str(value).lower().endswith((".h5", ".hdf5")):
            return Path(value).name
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value if isinstance(value, bool | int | float | str) else str(value)

    # A wavelength grid is in the output itself.
    params = {name: value for name, value in context.params.items() if name not in ("output", "wavelength")}
    options = {f"option_{name}": plain(value) for name, value in params.items() if value is not None}
    return {"command": f"xpjax {context.info_name}", "version": xpjax.__version__, **options}


def _summary(context: click.Context, whole: Catalogue, status: np.ndarray, seconds: float) -> None:
    import numpy as np

    from xpjax.records import Status

    n, params = len(status), context.params
    files = f"{len(params['inputs'])} file{'s' * (len(params['inputs']) != 1)}"
    lines = [f"{n:,} sources read from {files}, {len(whole):,} rows written to {params['output'].name}"]
    flagged = int(np.count_nonzero(status))
    if flagged:
        lines.append(f"{flagged:,} flagged in xp_status:")
        for bit in Status:
            count = int(np.count_nonzero(status & np.uint32(bit))) if bit else 0
            if count:
                lines.append(f"{count:12,}  {bit.name} ({int(bit)}): {bit.meaning}")
    else:
        lines.append("none flagged in xp_status")
    without = int(np.count_nonzero(status & np.uint32(Status.BP_NO_ERROR | Status.RP_NO_ERROR)))
    if params["errors"] and without:
        whose = "all sources" if without == n else f"{without:,} sources"
        lines.append(f"{whose} came without usable errors or correlations: errors are NaN there, not guessed")
    lines.append(f"{seconds:.1f} s, {n / seconds:,.0f} sources/s with reading, compiling and writing")
    click.echo("\n".join(lines), err=True)


# --- the rest ---------------------------------------------------------------------------------------------------------


@main.command()
@click.option("-n", "number", default=1000, show_default=True, type=click.IntRange(1), help="Number of sources.")
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same sources.")
@click.option("--correlations/--no-correlations", default=True, help="Correlations of coefficients (default: yes).")
@OVERWRITE
def simulate(number: int, output: Path, seed: int, correlations: bool, overwrite: bool) -> None:
    """Mock XP sources with realistic coefficients, errors and correlations.

    A source with correlations takes 12 kB in binary formats and 30 kB as text.

    \b
    Examples:
      xpjax simulate -n 1000 -o mock.parquet
      xpjax simulate -n 100000 --seed 7 --no-correlations -o mock.h5
    """
    import dataclasses

    from xpjax import simulate as simulator
    from xpjax.io import catalogue

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    table = catalogue.from_sources(simulator.sources(number, seed=seed, correlations=correlations))
    record = _record(click.get_current_context())
    catalogue.write(output, dataclasses.replace(table, meta={**table.meta, **record}), overwrite=overwrite)
    seconds = time.perf_counter() - started
    click.echo(f"{number:,} mock sources written to {output.name} in {seconds:.1f} s", err=True)


@main.command()
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
            system = xpjax.system(known)
            bands = " ".join(system.names[:8]) + (f" ... ({len(system.names)})" if len(system.names) > 8 else "")
            rows.append((known, _magnitudes(system.flux_unit[0]), bands))
        _table(("system", "magnitudes", "bands"), rows)
        return
    system = xpjax.system(name)
    columns = zip(system.names, system.mean_wavelength, system.zero_point, system.flux_unit, strict=True)
    lines = [(band, f"{mean:.1f}", f"{zero:.4f}", unit) for band, mean, zero, unit in columns]
    click.echo(f"{system.labels[0]}: {_magnitudes(system.flux_unit[0])} magnitudes, release {system.release.name}")
    _table(("band", "mean [nm]", "zero point [mag]", "flux unit"), lines)


def _magnitudes(flux_unit: str) -> str:
    # The published systems' zero points are AB where their flux is per frequency, and Vega where per wavelength.
    return "AB" if "Hz" in flux_unit else "Vega"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [header, ["-" * len(cell) for cell in header], *rows]
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip())


@main.command()
def info() -> None:
    """Versions, devices, instrument models and data files: what to add to a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import h5py
    import jax

    from xpjax.xp.instrument import DATA, DEFAULT_MODEL

    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    for package in ("xpjax", "jax", "numpy", "equinox", "astropy", "h5py"):
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "not installed"))
    rows.append(("devices", ", ".join(f"{device} ({device.device_kind})" for device in jax.devices())))
    for path in sorted(DATA.glob("*.h5")):
        with h5py.File(path) as file:
            a = file.attrs
            made = f"from {a['source_package']} {a['source_version']}" if "source_package" in a else "made here"
            rows.append((path.name, f"{a.get('title', '')}, {made}"))
            for model in file.get("model", ()):
                name = model.replace("_", "/", 1)
                rows.append(("model", f"{name}, {a['release_name']}{' (default)' * (name == DEFAULT_MODEL)}"))
    _table(("what", "found"), rows)


@main.command()
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
    _check_figure(output, overwrite)
    data = _plottable(file, sources)
    if draw.magnitude_bands(data):
        if sources:
            raise ValueError("--source chooses spectra; photometry is plotted whole")
        if system_name:
            raise ValueError("--system marks bands under spectra; photometry has none to mark")
        figure = draw.plot_photometry(data)
    else:
        system = xpjax.system(system_name) if system_name else None
        figure = draw.plot_spectra(data, sources or None, system)
    _save(figure, output)
    click.echo(f"wrote {output}", err=True)


def _save(figure: Figure, output: Path) -> None:
    """A figure as a file, whole or not at all."""
    from xpjax.io import catalogue

    drawn = io.BytesIO()
    figure.savefig(drawn, format=output.suffix.lower().removeprefix("."))
    catalogue.write_bytes(output, drawn.getvalue())


def _check_figure(output: Path, overwrite: bool) -> None:
    if output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{output.name}: the suffix of a figure is .png, .pdf or .svg")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no directory {output.parent} for the figure {output.name}; make it first")
    if output.exists() and not overwrite:
        raise FileExistsError(f"the figure {output} exists; name another one with --output, or add --overwrite")


def _plottable(file: Path, sources: Sequence[int]) -> Catalogue:
    """A catalogue of spectra or photometry as it is; of XP coefficients the spectra of the chosen or first sources."""
    import numpy as np

    import xpjax
    from xpjax.io import catalogue
    from xpjax.plot import magnitude_bands
    from xpjax.records import SourceTable

    table: Catalogue | SourceTable | None = None
    with contextlib.suppress(Exception):  # XP files come in more formats than catalogues: their reader speaks below
        found = catalogue.read_catalogue(file)
        if "flux" in found.columns or magnitude_bands(found):
            table = found
    if table is None:
        table = xpjax.read(file, keep=[])
    if not len(table):
        raise ValueError(f"{file.name}: the file has no sources, so there is nothing to plot")
    if not isinstance(table, SourceTable):
        return table
    rows = np.flatnonzero(np.isin(table.source_id, sources)) if sources else np.arange(min(6, len(table)))
    if not len(rows):
        raise ValueError(f"{file.name}: no source {', '.join(map(str, sources))} among {len(table):,}")
    return xpjax.spectra(table[rows]).catalogue({})


@main.command()
@click.option("-n", "number", default=20_000, show_default=True, type=click.IntRange(1), help="Number of mock sources.")
@click.option(
    "--output-dir",
    "folder",
    default="xpjax-demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the results; it is made.",
)
@OVERWRITE
def demo(number: int, folder: Path, overwrite: bool) -> None:
    """Simulate sources, make a J-PLUS and SDSS catalogue and two figures: a minute from install to magnitudes.

    \b
    Examples:
      xpjax demo
      xpjax demo -n 200000 --output-dir big-demo
    """
    import dataclasses

    import xpjax
    from xpjax import plot as draw
    from xpjax import simulate as simulator
    from xpjax.io import catalogue

    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    table_file, sample_file = folder / "photometry.parquet", folder / "sources.parquet"
    figures = folder / "photometry.png", folder / "spectra.png"
    for path in (table_file, sample_file):
        catalogue.check_output(path, overwrite=overwrite)
    for path in figures:
        _check_figure(path, overwrite)

    click.echo(f"simulating {number:,} sources ...", err=True)
    table = simulator.sources(number, seed=0)
    system = xpjax.system("JPLUS", "SDSS")
    seconds = []
    for what in ("compiling and computing", "computing again, compiled"):
        click.echo(f"{len(system.names)} magnitudes with errors and full correlations: {what} ...", err=True)
        before = time.perf_counter()
        photometry = xpjax.photometry(table, system)
        seconds.append(time.perf_counter() - before)

    record = _record(click.get_current_context())
    result = photometry.catalogue({})
    catalogue.write(table_file, dataclasses.replace(result, meta={**result.meta, **record}), overwrite=overwrite)
    sample = catalogue.from_sources(table[:100])
    catalogue.write(sample_file, dataclasses.replace(sample, meta={**sample.meta, **record}), overwrite=overwrite)
    _save(draw.plot_photometry(result), figures[0])
    _save(draw.plot_spectra(xpjax.spectra(table[:4]), system=xpjax.system("JPLUS")), figures[1])

    click.echo(
        f"\n{number:,} sources in {len(system.names)} bands: {number / seconds[1]:,.0f} sources/s"
        f" ({seconds[0]:.2f} s with compiling, {seconds[1]:.2f} s without); peak memory {_peak_memory()};"
        f" {time.perf_counter() - started:.0f} s in all.\n\n"
        f"Made in {folder}:\n"
        f"  {table_file.name:20} J-PLUS and SDSS magnitudes, fluxes and errors of {number:,} mock sources\n"
        f"  {figures[0].name:20} their color-magnitude diagram\n"
        f"  {figures[1].name:20} absolute spectra of four of them\n"
        f"  {sample_file.name:20} XP coefficients of the first {len(sample)} sources\n\n"
        "Try next:\n"
        f"  xpjax photometry {sample_file} --system Gaia_DR3_Vega --output mags.csv\n"
        f"  xpjax spectra {sample_file} --wavelength 400:900:2.5 --output spectra.h5\n"
        "  xpjax plot spectra.h5\n"
        "  xpjax systems"
    )


def _peak_memory() -> str:
    """The most memory that this process has held, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return "unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 2**30:.1f} GiB"


if __name__ == "__main__":
    main()
