"""What the commands share: messages, options, reading to writing file by file, progress, tables and figures."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import xpjax
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.synthetic import PassbandSet
    from xpjax.wiggles import Measurement
    from xpjax.xp import LinearCorrection

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=Any)


def combine(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which the help lists them."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


def comma_separated(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[str]:
    """The names in an option that may be repeated and may hold several, separated by commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def wavelength_grid(ctx: click.Context, parameter: click.Parameter, value: str | None) -> np.ndarray | None:
    """START:STOP:STEP as an array; STOP belongs to it where it falls on the grid."""
    if value is None:
        return None
    import numpy as np

    from xpjax.core.constants import PSEUDO_RANGE
    from xpjax.core.grids import check_grid

    try:
        start, stop, step = map(float, value.split(":"))
    except ValueError:
        raise XpjaxError(f"--wavelength {value!r}: expected START:STOP:STEP, as in 400:900:2.5") from None
    if not (np.isfinite([start, stop, step]).all() and step > 0 and start <= stop):
        raise XpjaxError(f"--wavelength {value!r}: the grid must ascend, from START up to STOP in steps above zero")
    if (stop - start) / step > 1e6:
        raise XpjaxError(f"--wavelength {value!r}: more than a million samples; choose a larger STEP")
    # The tolerance keeps STOP where (STOP - START) / STEP is whole but for rounding.
    grid = start + step * np.arange(int((stop - start) / step + 1e-6) + 1)
    if ctx.params.get("internal"):
        return check_grid(grid, PSEUDO_RANGE, "pseudo-wavelength", "")
    return grid  # its limits are those of the instrument of the sources' release


def parse_numbers(text: str, separator: str, count: int, option: str, expected: str) -> tuple[float, ...]:
    """The numbers of an option, so many with a separator between. Raises XpjaxError."""
    try:
        numbers = tuple(float(part) for part in text.split(separator))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise XpjaxError(f"{option} {text!r}: expected {expected}")
    return numbers


def assignments(option: str, values: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER of an option that may be repeated, and may hold several separated by commas, by name."""
    pairs: dict[str, float] = {}
    for text in (part.strip() for value in values for part in value.split(",")):
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            pairs[name] = float(number)
        except ValueError:
            raise XpjaxError(f"{option} {text!r}: expected NAME=NUMBER") from None
    return pairs


def load_passbands(source: str) -> PassbandSet:
    """The passbands that a SOURCE means. Raises ValueError and OSError."""
    try:
        return xpjax.load_passbands(source)
    except ValueError as exc:
        if re.search(r"--(clip|normalize|unit|detector|magnitude)\b", str(exc)):
            raise XpjaxError(f"{exc}; `xpjax passband build` has this option, and makes a SOURCE") from exc
        raise


def linear_only(correction: str, remedy: str) -> LinearCorrection | None:
    """The linear correction that --correction means. Raises XpjaxError for a network, with what to do."""
    from xpjax.wiggles import is_network

    if is_network(correction):
        raise XpjaxError(f"{Path(correction).name} is a network, and needs features of each star: {remedy}")
    return xpjax.load_correction(correction)


def asked_bands(
    systems: Sequence[str], passbands: Sequence[str], extrapolate: str, allow_outside: bool, **options: Any
) -> Measurement:
    """The photometry that options ask for: systems and passbands, in this order, and of which spectra.

    Raises XpjaxError and UsageError.
    """
    from xpjax.wiggles import measurement

    how: dict[str, Any] = {"extrapolate": extrapolate, "allow_outside": allow_outside, **options}
    made = measurement([], **how)
    if not (systems or passbands):
        raise click.UsageError("Missing option '--system' or '--passbands': give one of them, or both.")
    if not passbands and (extrapolate != "none" or allow_outside):
        raise click.UsageError("--extrapolate and --allow-outside are for --passbands; published systems are fixed.")
    sets = [load_passbands(source) for source in passbands]
    for passband_set in sets:
        tell_passbands(passband_set, extrapolate)
    return dataclasses.replace(made, system=[*systems, *sets])


def tell_passbands(passbands: PassbandSet, extrapolate: str) -> None:
    """A line for each band of which XP misses more than 0.1 %, and for each whose unit was guessed."""
    from xpjax.synthetic import describe_coverage

    for line in describe_coverage(passbands, extrapolate):
        tell(line)


FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)


class ExistingFile(click.Path):
    """A file that is there; of a folder of spectra it is said which commands take it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path as it was given. Fails where there is no such file."""
        from xpjax.xp import is_hats, is_store

        if os.path.isdir(value) and (is_hats(value) or is_store(value)):
            self.fail(
                f"{str(value)!r} is a {'HATS catalogue' if is_hats(value) else 'store'}, and a file is expected: "
                "`xpjax photometry`, `xpjax spectra` and `xpjax catalogue run` take all of it, `xpjax store select` "
                "makes a file of some sources of a store.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


EXISTING_FILE = ExistingFile(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class Grid(ExistingFile):
    """A grid of models: the name of one that is shipped, or its file."""

    name = "name|file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name, or the path. Fails where there is neither."""
        from xpjax.stellar import shipped_grids

        if str(value) in (names := shipped_grids()):
            return str(value)
        if not Path(value).exists():
            self.fail(f"no grid {str(value)!r}: there is no such file, and by name there are {', '.join(names)}.")
        return super().convert(value, param, ctx)


GRID = Grid(exists=True, dir_okay=False, path_type=Path)


class TableFile(click.ParamType):
    """A file with a table that is there, or `FILE[NAME]`, one of several tables in it."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path as it was given. Fails where there is no such file."""
        from xpjax.io.tables import split_part

        if not split_part(value)[0].is_file():
            self.fail(f"File {str(value)!r} does not exist.", param, ctx)
        return Path(value)


TABLE_FILE = TableFile()
RELEASE = click.option(
    "--release", metavar="NAME", help="Gaia release of the sources, DR3 or DR4; needed where a store has both."
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace the output if it exists; it is refused otherwise.")


def output_option(meaning: str) -> Callable[[F], F]:
    """--output, a file that has to be named."""
    return click.option("--output", "-o", required=True, type=FILE, help=meaning)


def names_option(name: str, metavar: str, meaning: str) -> Callable[[F], F]:
    """An option that may be repeated, and may hold several names separated by commas."""
    return click.option(name, multiple=True, metavar=metavar, callback=comma_separated, help=meaning)


def choice_option(name: str, words: Sequence[str], meaning: str) -> Callable[[F], F]:
    """An option that is one of some words, by default the first."""
    return click.option(name, type=click.Choice(words), default=words[0], show_default=True, help=meaning)


INPUT_OUTPUT = combine(
    click.argument("inputs", metavar="INPUT...", nargs=-1, type=EXISTING),
    output_option("File to write; its suffix names the format: csv, csv.gz, ecsv, fits, vot, xml, parquet, h5."),
)
TRUNCATE = click.option(
    "--truncate/--no-truncate",
    default=False,
    help="Use only the relevant coefficients (n_relevant_bases); default: all.",
)
GAIA = choice_option(
    "--gaia",
    ["synthetic", "columns"],
    "G, BP and RP of the features: synthetic, or from the columns phot_g_mean_mag, ...",
)


def _named(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str] | None:
    """WHAT=COLUMN of an option that may be repeated, and may hold several separated by commas; None of none."""
    pairs = [text.partition("=") for text in comma_separated(ctx, parameter, values)]
    for what, _, column in pairs:
        if not (what.strip() and column.strip()):
            raise click.BadParameter(f"{what!r}: expected WHAT=COLUMN, as in source_id=object_id")
    return {what.strip(): column.strip() for what, _, column in pairs} or None


COMPUTING = combine(
    click.option(
        "--columns",
        multiple=True,
        metavar="WHAT=COLUMN",
        callback=_named,
        help="Which column is what, where names do not say it: source_id, coefficients, coefficient_errors and "
        "coefficient_correlations (BP and RP in one array), bp_coefficients, ...; STRUCTURE.FIELD of nested ones.",
    ),
    TRUNCATE,
    click.option("--errors/--no-errors", default=True, help="Propagate errors with their correlations (default: yes)."),
    click.option("--float64", is_flag=True, help="Read and compute in float64; by default in float32."),
    names_option("--keep", "COLUMNS", "Input columns to pass on to the output, separated by commas; may be repeated."),
    click.option(
        "--device", "devices", metavar="NAME", help="cpu, gpu, gpu:2 or a number of devices; by default JAX's first."
    ),
    OVERWRITE,
)
PROJECTING = combine(
    choice_option(
        "--extrapolate",
        ["none", "linear"],
        "linear: within 322..336 nm passbands see the straight line fitted to the spectrum within 336..382 nm.",
    ),
    click.option(
        "--allow-outside", is_flag=True, help="Take passbands too of which XP (330..1050 nm) sees less than half."
    ),
)


def _correction(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """A name, or a file that is there."""
    if value not in ("standard", "none") and not Path(value).expanduser().is_file():
        raise click.BadParameter(f"{value!r} is neither standard nor none, and no such file exists.")
    return value


def correction_option(default: str, network: str = "") -> Callable[[F], F]:
    """--correction of commands that use XP coefficients; network: what is said of networks."""
    text = "Linear correction of XP's systematic errors: standard, none, or a FILE of one"
    return click.option(
        "--correction",
        metavar="standard|none|FILE",
        default=default,
        show_default=True,
        callback=_correction,
        help=f"{text}{network}.",
    )


BASE = click.option(
    "--base", metavar="FILE", type=EXISTING_FILE, help="Linear correction beneath a network, if not the standard one."
)
TYING = combine(
    click.option(
        "--tie",
        type=click.Choice(["G", "BP", "RP"]),
        help="Scale every source so that its synthetic magnitude is the given one, of phot_g_mean_mag (or bp, rp).",
    ),
    click.option(
        "--magnitude-terms",
        "terms",
        metavar="FILE",
        type=EXISTING_FILE,
        help="With --tie: what given magnitudes are too faint by; a table with the columns G_mag and G, BP or RP.",
    ),
)


def tying(
    tie: str | None, terms: Path | None, correction: str, truncate: bool
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """What the options of `TYING` make of a result for a table of sources, and the columns that are needed."""
    if tie is None:
        if terms is not None:
            raise click.UsageError("--magnitude-terms is for --tie: say which of Gaia's magnitudes.")
        return lambda table, result: result, ()
    from xpjax.synthetic import gaia_columns, tie_to_gaia

    linear = linear_only(correction, "leave --tie out")
    tied = functools.partial(tie_to_gaia, band=tie, terms=terms, correction=linear, truncate=truncate)
    return tied, gaia_columns(tie, terms)


CORRECTING = combine(
    correction_option("none", "; or of a network, from `xpjax wiggles train-network`"),
    BASE,
    click.option(
        "--features", metavar="FILE", type=EXISTING_FILE, help="Features by source_id; by default made of the sources."
    ),
    click.option("--ebv", metavar="COLUMN", help="Column of E(B-V), for a network."),
    GAIA,
    click.option("--teff", metavar="COLUMN", help="Column of Teff [K]: stars above 8000 are not corrected."),
    click.option("--mh", metavar="COLUMN", help="Column of [M/H]: stars at or below -2.5 are not corrected."),
)


class Progress(contextlib.AbstractContextManager["Progress"]):
    """A bar over the sources of all files, or of what is fetched in their place.

    Their number is guessed from the sizes of the files until all are read.
    """

    def __init__(self, files: Sequence[Any]) -> None:
        self.bar = bar(unit=" sources", unit_scale=True)
        self.bytes = sum(map(_size, files))
        self.bytes_read = self.sources = self.before = 0

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def read(self, path: Any, n: int) -> None:
        """A file of n sources was read and is to be computed."""
        self.bytes_read += _size(path)
        self.before, self.sources = self.sources, self.sources + n
        self.bar.total = round(self.sources * self.bytes / max(self.bytes_read, 1))
        self.bar.set_description(path.name, refresh=False)

    def done(self, n: int) -> None:
        """The first n sources of the file are done."""
        self.bar.update(self.before + n - self.bar.n)


def _size(path: Any) -> int:
    """Bytes of a file; what is fetched comes alone, and any number will do."""
    return path.stat().st_size if isinstance(path, Path) else 1


def one_of_many(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """I/N as two numbers."""
    if value is None:
        return None
    number, _, of = value.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise click.BadParameter(f"{value!r}: expected I/N with I within 1..N, as in 1/16")
    return int(number), int(of)


def record_call(context: click.Context) -> dict[str, Any]:
    """The call as metadata: names of files without their folders, every option, and the version."""

    def is_path(value: Any) -> bool:
        if isinstance(value, Path) or str(value).lower().endswith((".h5", ".hdf5")):
            return True
        # A passband SOURCE may name bands behind a colon.
        places = (value, value.partition(":")[0]) if isinstance(value, str) else ()
        return any(place and os.path.exists(os.path.expanduser(place)) for place in places)

    def plain(value: Any) -> Any:
        if is_path(value):
            return Path(value).name
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value if isinstance(value, bool | int | float | str) else str(value)

    # A wavelength grid is in the output itself.
    params = {name: value for name, value in context.params.items() if name not in ("output", "wavelength")}
    options = {f"option_{name}": plain(value) for name, value in params.items() if value is not None}
    command: list[str] = []
    outer = context
    while outer.parent is not None:  # the outermost is named as the program was called
        command, outer = [outer.info_name or "", *command], outer.parent
    return {"command": " ".join(["xpjax", *command]), "version": xpjax.__version__, **options}


def with_call(result: R) -> R:
    """A record with the call of the command in its metadata."""
    call = record_call(click.get_current_context())
    return dataclasses.replace(result, meta={**result.meta, **call})


def counted(counts: Mapping[Any, int]) -> list[str]:
    """A line for each flag of `Bits.counts`: how many rows have it, its name and number, what it says."""
    return [f"{count:12,}  {bit.name} ({int(bit)}): {bit.meaning}" for bit, count in counts.items()]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of text on standard output, in columns as wide as they need."""
    lines = [header, ["-" * len(cell) for cell in header], *rows]
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip())
