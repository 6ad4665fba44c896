"""Survey calibration: zero-points and flats of exposures, their application, stacked flats, and simulated surveys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, TABLE_FILE, comma_separated, correction_option, record_call
from xpjax.cli.homogenise import homogenise
from xpjax.cli.report import HELD, report
from xpjax.cli.scr import scr
from xpjax.cli.solve import solve
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.survey import Frames, Observations
    from xpjax.survey.exposures import ExposureFits
    from xpjax.survey.reading import Config, Reading

CATALOGUES = click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)
FOLDER = click.Path(file_okay=False, path_type=Path)
DEVICE = click.option("--device", metavar="NAME", help="cpu, gpu or gpu:2; by default JAX's first.")
TABLE, SOLUTION, CALIBRATED = "zeropoints.ecsv", "solution.h5", "calibrated.parquet"
WIDE = "wide.parquet"
KEEP = click.option(
    "--keep",
    multiple=True,
    metavar="COLUMNS",
    callback=comma_separated,
    help="Columns of the catalogues to pass on, separated by commas; may be repeated.",
)
AS_WIDE = click.option("--wide", is_flag=True, help=f"Also {WIDE}: a row for each star, columns for each band.")


@click.group()
def survey() -> None:
    """Calibrate a survey with standards from XP spectra.

    \b
    Examples:
      xpjax survey simulate --output mock
      xpjax survey calibrate mock/observations.parquet --config mock/survey.toml --output solution
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey report solution --compare mock/exposures.ecsv --camera cmos
    """


@survey.command()
@CATALOGUES
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and model.")
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for the products; it is made.")
@click.option("--folds", type=click.IntRange(2), help="Also tell what stars are off by that are kept back, one in N.")
@KEEP
@AS_WIDE
@DEVICE
@OVERWRITE
def calibrate(
    catalogues: Sequence[Path],
    config: Path,
    output: Path,
    folds: int | None,
    keep: list[str],
    wide: bool,
    device: str | None,
    overwrite: bool,
) -> None:
    """Zero-points, color terms and flats of exposures from their standards, and calibrated magnitudes.

    CATALOGUES are FITS, FITS_LDAC, VOTable, Parquet, HDF5, ECSV, CSV or other text tables, FILE[NAME] one of several in
    a file. Without a column for the exposure a file is one, and without one for the detector each of its tables is one.
    OUTPUT gets zeropoints.ecsv, solution.h5 and calibrated.parquet, with --folds held_out.parquet too. Exit status 1
    where exposures were refused.

    \b
    survey.toml:
      [columns]
      star = "source_id"
      x = "X"
      y = "Y"
      magnitude = "SPLUS_R"
      magnitude_error = "SPLUS_R_err"
      model = "SPLUS_R_mod"
      color = ["SPLUS_G_mod", "SPLUS_I_mod"]
      [model]
      position_order = 2
      color_order = 2
      numerical_flat = true
    """
    import json
    import tomllib

    import numpy as np

    from xpjax.io import catalogue
    from xpjax.survey import FrameFlag
    from xpjax.survey.exposures import calibrate as solve_survey
    from xpjax.survey.exposures import cross_validate, write_solution
    from xpjax.survey.reading import files_relative_to, read_config

    started = time.perf_counter()
    chosen = read_config(config)
    _check_folder(output, (TABLE, SOLUTION, CALIBRATED, HELD, *[WIDE] * wide), overwrite)
    reading = read_rows(catalogues, chosen, keep=keep)
    rows, account = reading.observations, reading.account
    said = tomllib.loads(config.read_text(encoding="utf-8"))
    record = {
        **record_call(click.get_current_context()),
        "inputs": [path.name for path in catalogues],
        "config": json.dumps(files_relative_to(said, config.parent, output)),
        **({"correction": chosen.correction} if chosen.passband else {}),
        "account": json.dumps(account.lines()),
        "exposure_files": json.dumps(dict(reading.files)),
        "amplifiers": json.dumps(reading.amplifiers),
        "airmass_laws": json.dumps(reading.airmass_laws),
    }
    solved, calibrated = solve_survey(rows, chosen.settings, devices=device, record=record)
    table = solved.zero_points()
    told = kept_back = None
    if folds is not None:
        told = cross_validate(rows, chosen.settings, folds=folds, devices=device)
        import dataclasses

        held = {"held_out_scatter": told.scatter, "held_out_rms": told.rms, "n_held_out": told.number}
        units = {**table.units, "held_out_scatter": "mag", "held_out_rms": "mag"}
        table = dataclasses.replace(table.with_columns(held, {}), units=units)
        kept_back = told.catalogue(calibrated)
    output.mkdir(parents=True, exist_ok=True)
    catalogue.write(output / CALIBRATED, calibrated, overwrite=overwrite)
    write_solution(output / SOLUTION, solved, overwrite=overwrite)
    if wide:
        from xpjax.survey.exposures import wide_table as by_star

        catalogue.write(output / WIDE, by_star(calibrated), overwrite=overwrite)
    else:  # that of an earlier solution, as below
        (output / WIDE).unlink(missing_ok=True)
    if kept_back is not None:
        catalogue.write(output / HELD, kept_back, overwrite=overwrite)
    else:
        (output / HELD).unlink(missing_ok=True)
    catalogue.write(output / TABLE, table, overwrite=overwrite)
    lines = [*account.lines(), *_frame_lines(rows, solved.fits)]
    if told is not None:
        lines.append(
            f"stars kept back, one in {folds}: 1.48 MAD {1e3 * np.nanmedian(told.scatter):.1f} mmag, "
            f"standard deviation {1e3 * np.nanmedian(told.rms):.1f} mmag (median exposure, outliers included)"
        )
    seconds = time.perf_counter() - started
    lines.append(f"{len(rows):,} measurements on {len(solved.frames):,} exposures, to {output} in {seconds:.1f} s")
    tell("\n".join(lines))
    refused = (solved.fits.status & np.uint32(FrameFlag.NO_STANDARDS)) > 0
    if (refused & _named(solved.frames)).any() and not np.isfinite(solved.fits.zero_point).all():
        raise SystemExit(1)


def _named(frames: Frames) -> np.ndarray:
    """Which frames (n_frame,) have an exposure and a band, where others have: rows without cost only themselves."""
    return (frames.exposure != "") & ((frames.band != "") | (frames.band == "").all())


def _check_folder(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuse, before anything is computed, a directory whose files would be replaced."""
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise FileExistsError(f"the output {folder / name} exists; name another directory, or add --overwrite")


def read_rows(
    catalogues: Sequence[Path], config: Config, solved: Mapping[str, Any] | None = None, **options: Any
) -> Reading:
    """The observations in these files, joined to what the configuration names, in its passband at one airmass.

    solved: the record of an earlier solution, whose laws of that passband are taken.
    """
    import dataclasses
    import json

    from xpjax.survey.reading import read_observations

    reading = read_observations(list(catalogues), config, **options)
    if not config.passband:
        return reading
    from xpjax.survey.reading import to_reference

    before = json.loads((solved or {}).get("airmass_laws", "null"))
    rows, line, laws = to_reference(reading.observations, config, before)
    reading.account.notes.append(line)
    return dataclasses.replace(reading, observations=rows, airmass_laws=laws)


def _frame_lines(rows: Observations, fits: ExposureFits) -> list[str]:
    """The exposures in a few lines: each for a few, in sum for many, and whatever was flagged."""
    import numpy as np

    from xpjax.survey import FrameFlag

    lines = []
    n = len(rows.frames)
    if n <= 12:
        for k in range(n):
            lines.append(
                f"{rows.frames.name(k)}: zero-point {fits.zero_point[k]:.4f} +- {fits.zero_point_error[k]:.4f} mag, "
                f"{fits.n_used[k]} of {fits.n_standard[k]} standards, 1.48 MAD {1e3 * fits.scatter[k]:.1f} mmag, "
                f"standard deviation {1e3 * fits.rms[k]:.1f} mmag"
            )
    elif np.isfinite(fits.zero_point).any():
        lines.append(
            f"{np.isfinite(fits.zero_point).sum():,} zero-points, median error "
            f"{1e3 * np.nanmedian(fits.zero_point_error):.2f} mmag, median scatter of standards "
            f"{1e3 * np.nanmedian(fits.scatter):.1f} mmag"
        )
    for bit in FrameFlag:
        marked = np.flatnonzero(fits.status & np.uint32(bit))
        if len(marked):
            names = ", ".join(rows.frames.name(k) for k in marked[:5]) + (", ..." if len(marked) > 5 else "")
            lines.append(f"{len(marked):6,}  {bit.name} ({int(bit)}): {bit.meaning} [{names}]")
    return lines


@survey.command()
@CATALOGUES
@click.option("--solution", required=True, type=click.Path(exists=True, path_type=Path), help="Of `survey calibrate`.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="File, its suffix names the format; or directory.",
)
@click.option("--config", type=EXISTING_FILE, help="TOML file for these catalogues; by default the solution's own.")
@click.option("--exposure", metavar="NAME", help="The exposure that the catalogues are of, where no column says it.")
@click.option(
    "--new", is_flag=True, help="They are new exposures: their zero-points are fitted, flats stay as they are."
)
@KEEP
@AS_WIDE
@DEVICE
@OVERWRITE
def apply(
    catalogues: Sequence[Path],
    solution: Path,
    output: Path,
    config: Path | None,
    exposure: str | None,
    new: bool,
    keep: list[str],
    wide: bool,
    device: str | None,
    overwrite: bool,
) -> None:
    """Calibrate other stars of a solution's exposures, or new exposures.

    An exposure is known by its name: a column, or --exposure, or the file that the solution was made of. A catalogue
    that is none of these files is a new exposure, which a line tells; or, unless --new says otherwise, the one exposure
    of a solution that has only one.

    \b
    Examples:
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey apply tonight.fits --solution solution --new --output tonight
    """
    import json

    import numpy as np

    from xpjax.io import catalogue
    from xpjax.survey.exposures import apply_calibration_with_fits, provenance, read_solution
    from xpjax.survey.reading import config_from, read_config

    started = time.perf_counter()
    solved = read_solution(solution)
    if config is not None:
        chosen = read_config(config)
    elif "config" in solved.record:
        chosen = config_from(json.loads(solved.record["config"]), _home(solution))
    else:
        raise XpjaxError(f"{solution} does not say what columns mean: give --config")
    whole = not output.suffix
    target = output / CALIBRATED if whole else output
    if wide and not whole:
        raise XpjaxError("--wide needs a directory as --output: two files are written")
    if whole:
        _check_folder(output, [CALIBRATED, *[WIDE] * wide], overwrite)
    else:
        catalogue.check_output(target, overwrite=overwrite)
    only = np.unique(solved.frames.exposure)
    unnamed = all("exposure" not in mapping for mapping in chosen.bands.values())
    files = json.loads(solved.record.get("exposure_files", "{}"))
    alone = unnamed and exposure is None and not new and len(only) == 1
    reading = read_rows(
        catalogues, chosen, solved.record, exposure=str(only[0]) if alone else exposure, keep=keep, known=files,
        new=new, amplifiers=json.loads(solved.record.get("amplifiers", "null")),
    )  # fmt: skip
    rows, account = reading.observations, reading.account
    clash = np.intersect1d(rows.frames.exposure, only)
    if new and len(clash):
        raise XpjaxError(f"the solution has an exposure {str(clash[0])!r} already: rename it, or leave out --new")
    strange = [path.name for path in catalogues if str(path.resolve()) not in files.values()] if alone else []
    if strange:
        taken = f"taken for exposure {only[0]}, the only one of the solution; --new says otherwise"
        account.notes.append(f"{', '.join(strange[:5])}{', ...' if len(strange) > 5 else ''}: {taken}")
    fresh = np.setdiff1d(rows.frames.exposure, [*only, ""])
    if len(fresh):
        more = ", ..." if len(fresh) > 5 else ""
        account.notes.append(f"{len(fresh):,} new exposures: {', '.join(fresh[:5])}{more}")
    result, fits = apply_calibration_with_fits(solved, rows, devices=device)
    import dataclasses

    record = {**record_call(click.get_current_context()), **provenance(), "inputs": [path.name for path in catalogues]}
    made = {f"solution_{name}": solved.record[name] for name in ("version", "date", "inputs") if name in solved.record}
    result = dataclasses.replace(result, record={**result.record, **made, **record})
    if whole:
        output.mkdir(parents=True, exist_ok=True)
    catalogue.write(target, result, overwrite=overwrite)
    if wide:
        from xpjax.survey.exposures import wide_table as by_star

        catalogue.write(output / WIDE, by_star(result), overwrite=overwrite)
    elif whole:
        (output / WIDE).unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    done = int(np.isfinite(result.magnitude).sum())
    lines = [*account.lines(), *_frame_lines(rows, fits)]
    lines.append(f"{done:,} of {len(rows):,} measurements calibrated, to {target} in {seconds:.1f} s")
    tell("\n".join(lines))
    if not np.isfinite(fits.zero_point[_named(rows.frames)]).all():
        raise SystemExit(1)


def _home(solution: Path) -> Path:
    return solution if solution.is_dir() else solution.parent


@survey.command()
@click.argument("solution", type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=FILE, help="Table of cells; its suffix names the format.")
@click.option("--bins", default=30, show_default=True, type=click.IntRange(2, 1000), help="Cells along a side.")
@click.option("--smooth", default=0.0, show_default=True, type=click.FloatRange(0), help="Gaussian sigma, in cells.")
@click.option("--epoch", default="all", show_default=True, help="all, night, or a number of days.")
@OVERWRITE
def flat(solution: Path, output: Path, bins: int, smooth: float, epoch: str, overwrite: bool) -> None:
    """Stacked flats of a SOLUTION: the standards' residuals of all exposures, in cells, for each band and detector.

    The table has a row for each cell: its centre, the flat [mag] that is added to magnitudes, its error and the number
    of measurements. A flat that the solution holds already is in it.

    \b
    Examples:
      xpjax survey flat solution --output flats.ecsv
      xpjax survey flat solution --bins 50 --smooth 1 --epoch night --output flats.fits
    """
    import numpy as np

    from xpjax.core.records import Catalogue
    from xpjax.io import catalogue
    from xpjax.survey.exposures import epochs, provenance, read_solution, stack

    catalogue.check_output(output, overwrite=overwrite)
    span: str | float = epoch
    if epoch not in ("all", "night"):
        try:
            span = float(epoch)
        except ValueError:
            raise XpjaxError(f"--epoch {epoch!r}: give all, night or a number of days") from None
    solved = read_solution(solution)
    s, scale = solved.standards, solved.fits.scaling
    u, v = scale.places(s.frame, s.x, s.y)
    residual = s.residual
    if solved.flats is not None:
        own = solved.flats.groups(solved.frames, epochs(solved.frames, solved.settings.epoch))
        residual = residual + solved.flats.at(own[s.frame], u, v)
    made = stack(
        solved.frames, s.frame, s.star, u, v, residual, s.variance, bins=bins, smooth=smooth, epoch=span,
        star_offsets=solved.settings.star_offsets,
    )  # fmt: skip
    n_group = len(made.labels)
    centre = (np.arange(bins) + 0.5) / bins
    group, i, j = (index.ravel() for index in np.indices((n_group, bins, bins)))
    box = scale.box[0]
    columns = {
        "band": made.labels[group, 0], "detector": made.labels[group, 1], "epoch": made.labels[group, 2],
        "x": box[0] + (box[1] - box[0]) * centre[j], "y": box[2] + (box[3] - box[2]) * centre[i],
        "flat": made.value.ravel(), "flat_error": made.error.ravel(), "n_measurement": made.count.ravel(),
    }  # fmt: skip
    units = {"x": "pixel", "y": "pixel", "flat": "mag", "flat_error": "mag"}
    meta = {**solved.record, **record_call(click.get_current_context()), **provenance()}
    catalogue.write(output, Catalogue(columns, units, meta=meta), overwrite=overwrite)
    tell(
        f"{n_group} flats of {bins} x {bins} cells from {len(s):,} measurements, rms "
        f"{1e3 * made.value.std():.2f} mmag, median error {1e3 * np.median(made.error):.2f} mmag, to {output.name}"
    )


@survey.command()
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for observations, truth and survey.toml.")
@click.option("--exposures", default=60, show_default=True, type=click.IntRange(1), help="Number of exposures.")
@click.option("--stars", default=2200, show_default=True, type=click.IntRange(1), help="Number of stars.")
@click.option("--nights", default=5, show_default=True, type=click.IntRange(1), help="Number of nights.")
@click.option("--camera", type=click.Choice(["cmos", "ccd"]), default="cmos", show_default=True, help="Its noise.")
@click.option(
    "--flat", "flats", default="0.05,0.005,0.0005", show_default=True, help="Large, medium and small flats [mag]."
)
@click.option(
    "--outliers", default=0.01, show_default=True, type=click.FloatRange(0, 0.5), help="Part of measurements."
)
@click.option("--variables", default=0.01, show_default=True, type=click.FloatRange(0, 0.5), help="Part of stars.")
@click.option("--cloudy", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Part of nights.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same survey.")
@correction_option("none")
@OVERWRITE
def simulate(
    output: Path,
    exposures: int,
    stars: int,
    nights: int,
    camera: str,
    flats: str,
    outliers: float,
    variables: float,
    cloudy: float,
    seed: int,
    correction: str,
    overwrite: bool,
) -> None:
    """A simulated survey with known truth: mock XP standards, dithers, flats, clouds, noise, variables, outliers.

    OUTPUT gets observations.parquet, with true_magnitude and true_correction beside what is measured; exposures.ecsv
    with the true zero-points; and a survey.toml for `xpjax survey calibrate`.

    \b
    Examples:
      xpjax survey simulate --output mock
      xpjax survey simulate --exposures 200 --stars 3000 --nights 10 --camera ccd --output ccd
    """
    from xpjax.core.records import Catalogue
    from xpjax.io import catalogue
    from xpjax.survey import CCD, COLOR_ZERO, Camera, Setup, Survey, as_table
    from xpjax.survey.exposures import provenance

    started = time.perf_counter()
    try:
        large, medium, small = map(float, flats.split(","))
    except ValueError:
        raise XpjaxError(f"--flat {flats!r}: expected three magnitudes, as in 0.05,0.005,0.0005") from None
    names = ("observations.parquet", "exposures.ecsv", "survey.toml")
    _check_folder(output, names, overwrite)
    made = Survey(
        Setup(
            n_exposure=exposures, n_star=stars, n_night=nights, flat=(large, medium, small), variable=variables,
            outlier=outliers, cloudy=cloudy, camera=CCD if camera == "ccd" else Camera(), seed=seed,
            correction=correction,
        )
    )  # fmt: skip
    rows, truth = made.observe()
    record = {**record_call(click.get_current_context()), **provenance(), "correction": Path(correction).name}
    table = Catalogue(as_table(rows, truth), meta=record)
    frames = {
        "exposure": rows.frames.exposure, "night": rows.frames.night, "time": made.time, "airmass": made.airmass,
        "true_zero_point": made.true_zero_points(), "cloud": made.cloud,
    }  # fmt: skip
    width, height = made.setup.size
    text = "[columns]\n" + "".join(
        f'{name} = "{name}"\n'
        for name in ("star", "exposure", "night", "time", "airmass", "x", "y", "magnitude", "magnitude_error", "model")
    )
    text += 'model_error = "model_error"\ncolor = "color"\n\n[model]\nposition_order = 2\ncolor_order = 2\n'
    text += f"color_zero = {COLOR_ZERO}\nsize = [{width:g}, {height:g}]\nstacked_flat = true\nnumerical_flat = false\n"
    output.mkdir(parents=True, exist_ok=True)
    catalogue.write(output / names[0], table, overwrite=overwrite)
    catalogue.write(output / names[1], Catalogue(frames, meta=record), overwrite=overwrite)
    catalogue.write_bytes(output / names[2], text.encode())
    seconds = time.perf_counter() - started
    tell(f"{len(rows):,} measurements of {stars:,} stars on {exposures:,} exposures, to {output} in {seconds:.1f} s")


survey.add_command(scr)
survey.add_command(report)
survey.add_command(homogenise)
survey.add_command(solve)
