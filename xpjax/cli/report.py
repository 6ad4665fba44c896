"""`xpjax survey report`: one HTML page of numbers and figures about a solution."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, assignments
from xpjax.cli.homogenise import ANY, read_zero_points
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.core.records import Catalogue
    from xpjax.survey import Camera, Observations
    from xpjax.survey.exposures import Calibration
    from xpjax.survey.report import Evidence

PAGE, HELD = "report.html", "held_out.parquet"


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=FILE, help=f"HTML file to write; by default {PAGE} in DIR.")
@click.option(
    "--catalogue", "catalogues", multiple=True, type=EXISTING_FILE,
    help="Tables that were calibrated: x, y and color of stars that are no standards, positions of exposures.",
)  # fmt: skip
@click.option(
    "--held-out", "held_out", multiple=True, type=EXISTING_FILE,
    help="Tables by `survey apply` of exposures that took no part.",
)  # fmt: skip
@click.option(
    "--compare", multiple=True, type=ANY,
    help="Zero-points to compare with: another DIR, or a table by `survey calibrate`, `scr` or `simulate`.",
)  # fmt: skip
@click.option("--tiles", type=EXISTING_FILE, help="Table of exposures or tiles with ra, dec, ebv, rv (any of these).")
@click.option(
    "--stars", type=EXISTING_FILE,
    help="Table of stars with bp_rp, phot_g_mean_mag, {band}_scr, {band}_xpsp, {band}_xpsp_corrected.",
)  # fmt: skip
@click.option("--camera", metavar="NAME", help="cmos, ccd, or a TOML file, for the theory of repeatability.")
@click.option("--period", "periods", multiple=True, metavar="STAR=DAYS", help="Light curves of these stars, so folded.")
@OVERWRITE
def report(
    folder: Path,
    output: Path | None,
    catalogues: Sequence[Path],
    held_out: Sequence[Path],
    compare: Sequence[Path],
    tiles: Path | None,
    stars: Path | None,
    camera: str | None,
    periods: Sequence[str],
    overwrite: bool,
) -> None:
    """Numbers and figures about a solution in DIR, as one HTML page.

    DIR is what `xpjax survey calibrate` wrote. A figure that cannot be made is named on the page with what it would
    have needed. A camera's TOML file has any of diameter [m], altitude [m], exposure_time [s], zero_point [mag], sky
    [mag arcsec-2], pixel [arcsec], aperture [pixels], read_noise [electrons], noisy_pixels.

    \b
    Examples:
      xpjax survey report solution
      xpjax survey report solution --catalogue night1.fits --compare other --tiles tiles.ecsv --camera ccd
    """
    import json

    from xpjax.io import catalogue
    from xpjax.survey.exposures import read_solution
    from xpjax.survey.report import figures

    started = time.perf_counter()
    target = output or folder / PAGE
    if target.suffix.lower() not in (".html", ".htm"):
        raise XpjaxError(f"{target.name}: the suffix of a report is .html")
    if target.exists() and not overwrite:
        raise FileExistsError(f"the report {target} exists; name another one with --output, or add --overwrite")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no directory {target.parent} for the report {target.name}; make it first")
    solution = read_solution(folder)
    evidence = _gathered(folder, solution, catalogues)
    more: dict[str, Any] = {
        "camera": None if camera is None else read_camera(camera),
        "periods": assignments("--period", periods),
        "differences": {_title(path): _difference(path, solution) for path in compare},
    }
    if held_out:
        more["held_frames"] = _held_frames(held_out, solution)
    if tiles is not None:
        more["tiles"] = {**evidence.tiles, **_tile_columns(tiles, solution)}
    if stars is not None:
        more["stars"] = _numbers(_read(stars))
    evidence = dataclasses.replace(evidence, **more)
    made = figures.sections(evidence)
    account = json.loads(solution.record.get("account", "[]"))
    page = figures.page(f"Survey calibration: {folder.resolve().name}", evidence, made, account)
    catalogue.write_bytes(target, page)
    for section in made:
        if section.figure is None:
            tell(f"not made: {section.title}: {section.missing}")
    drawn = sum(section.figure is not None for section in made)
    tell(f"{drawn} figures, to {target} in {time.perf_counter() - started:.1f} s")


def _read(path: Path) -> Catalogue:
    from xpjax.io.catalogue import read_catalogue

    return read_catalogue(path)


def _title(path: Path) -> str:
    return path.name or path.resolve().name


def _numbers(table: Catalogue) -> dict[str, np.ndarray]:
    """The columns of numbers, as floats."""
    import numpy as np

    return {name: np.asarray(c, float) for name, c in table.columns.items() if c.dtype.kind in "iuf" and c.ndim == 1}


def _gathered(folder: Path, solution: Calibration, catalogues: Sequence[Path]) -> Evidence:
    """The evidence of a folder, with the stars kept back where there are some, and positions where catalogues tell."""
    import json

    from xpjax.cli.survey import CALIBRATED, TABLE, read_rows
    from xpjax.survey.reading import config_from
    from xpjax.survey.report import gather_evidence, with_frames

    for name in (CALIBRATED, TABLE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: give the directory that `xpjax survey calibrate` wrote")
    rows: Observations | None = None
    tiles: dict[str, np.ndarray] = {}
    if catalogues:
        if "config" not in solution.record:
            raise XpjaxError(f"{folder} does not say what columns mean; leave out --catalogue")
        chosen = config_from(json.loads(solution.record["config"]), folder)
        only = list(dict.fromkeys(solution.frames.exposure.tolist()))
        unnamed = all("exposure" not in mapping for mapping in chosen.bands.values())
        exposure = only[0] if unnamed and len(only) == len(catalogues) == 1 else None
        files = json.loads(solution.record.get("exposure_files", "{}"))
        plain = dataclasses.replace(chosen, cuts=(), passband={})
        rows = read_rows(catalogues, plain, exposure=exposure, known=files).observations
        tiles = _places(rows, solution)
    evidence = gather_evidence(solution, _read(folder / CALIBRATED), _read(folder / TABLE), rows)
    held = with_frames(solution, _read(folder / HELD)) if (folder / HELD).is_file() else None
    return dataclasses.replace(evidence, held_stars=held, tiles=tiles)


def _places(rows: Observations, solution: Calibration) -> dict[str, np.ndarray]:
    """Median ra and dec (n_frame,) [deg] of the stars of each exposure, where the catalogues tell."""
    import numpy as np

    if rows.origin is None or "ra" not in rows.origin.columns:
        return {}
    ra, dec = (rows.origin.columns[name] for name in ("ra", "dec"))
    names = rows.frames.exposure[rows.frame]
    found: dict[str, tuple[float, float]] = {}
    for name in np.unique(names):
        mine = np.flatnonzero((names == name) & np.isfinite(ra + dec))
        if len(mine):
            # Counted from one star, so that a field across 0 h has its middle within it.
            turn = (ra[mine] - ra[mine[0]] + 180) % 360 - 180
            found[str(name)] = (float((ra[mine[0]] + np.median(turn)) % 360), float(np.median(dec[mine])))
    pairs = np.array([found.get(name, (np.nan, np.nan)) for name in solution.frames.exposure.tolist()])
    return {"ra": pairs[:, 0], "dec": pairs[:, 1]}


def _by_name(table: Catalogue, name: str) -> str:
    """The column that names exposures or tiles."""
    for key in ("exposure", "tile"):
        if key in table.columns:
            return key
    raise XpjaxError(f"{name} has no column exposure or tile; it has {', '.join(list(table.columns)[:20])}")


def _difference(path: Path, solution: Calibration) -> np.ndarray:
    """Our zero-points (n_frame,) less those of a table or another solution, NaN where it has none."""
    import numpy as np

    theirs = read_zero_points(path)
    row, f = theirs.places(), solution.frames
    if not theirs.band.any():  # a table of one band, which it does not name
        row = {(tile, band, detector): k for (tile, _, detector), k in row.items() for band in set(f.band.tolist())}
    if not theirs.detector.any():
        row = {(tile, band, ccd): k for (tile, band, _), k in row.items() for ccd in set(f.detector.tolist())}
    keys = zip(f.exposure.tolist(), f.band.tolist(), f.detector.tolist(), strict=True)
    at = np.array([row.get(key, -1) for key in keys], int)
    return solution.fits.zero_point - np.where(at >= 0, theirs.value[at], np.nan)


def _tile_columns(path: Path, solution: Calibration) -> dict[str, np.ndarray]:
    """Columns of numbers (n_frame,) of a table of exposures or tiles. Raises ValueError where it has none of use."""
    import numpy as np

    table = _read(path)
    names = table.columns[_by_name(table, path.name)].astype(str)
    row = {name: k for k, name in enumerate(names.tolist())}
    at = np.array([row.get(name, -1) for name in solution.frames.exposure.astype(str).tolist()])
    useful = {k: v for k, v in _numbers(table).items() if k in ("ra", "dec", "ebv", "rv")}
    if not useful:
        raise XpjaxError(f"{path.name} has none of the columns ra, dec, ebv, rv; it has {list(table.columns)[:20]}")
    return {name: np.where(at >= 0, values[at], np.nan) for name, values in useful.items()}


def _held_frames(paths: Sequence[Path], solution: Calibration) -> dict[str, np.ndarray]:
    """The rows of several tables one after the other, of columns that all have."""
    import numpy as np

    from xpjax.survey.report import with_frames

    parts = [with_frames(solution, _read(path)) for path in paths]
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in common}


def read_camera(name: str) -> Camera:
    """A camera by its name, or of a TOML file. Raises ValueError for what it does not know."""
    import tomllib

    from xpjax.survey import CCD, Camera
    from xpjax.survey.reading import check_names

    known = {"cmos": Camera(), "ccd": CCD}
    if name.lower() in known:
        return known[name.lower()]
    path = Path(name)
    if not path.is_file():
        raise XpjaxError(f"--camera {name!r}: give cmos, ccd or the TOML file of a camera")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise XpjaxError(f"{path}: not TOML: {error}") from error
    check_names(table, [field.name for field in dataclasses.fields(Camera)], f"entry of {path.name}")
    bad = [key for key, value in table.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    if bad:
        raise XpjaxError(f"{path.name}: {bad[0]} is a number, not {table[bad[0]]!r}")
    return Camera(**{key: float(value) for key, value in table.items()})
