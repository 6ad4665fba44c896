"""`xpjax survey homogenise`: zero-points of tiles by two methods on one scale; and tables of zero-points."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xpjax.cli.common import FILE, OVERWRITE, record_call
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.survey.scr import Homogenized, TileZeroPoints

TABLE = "zeropoints.ecsv"
ANY = click.Path(exists=True, path_type=Path)
Key = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class ZeroPoints:
    """Zero-points (n,) [mag] of tiles (exposures), bands and detectors, with errors and numbers of stars."""

    tile: np.ndarray
    band: np.ndarray
    detector: np.ndarray
    value: np.ndarray
    error: np.ndarray
    count: np.ndarray

    def places(self) -> dict[Key, int]:
        """The row of each tile, band and detector."""
        keys = zip(self.tile.tolist(), self.band.tolist(), self.detector.tolist(), strict=True)
        return {key: k for k, key in enumerate(keys)}

    def of(self, band: str, tiles: list[tuple[str, str]]) -> TileZeroPoints:
        """Those of these tiles and detectors in one band, NaN where there is none."""
        import numpy as np

        from xpjax.survey.scr import TileZeroPoints

        row = self.places()
        at = np.array([row.get((tile, band, detector), -1) for tile, detector in tiles])
        value, error = (np.where(at >= 0, a[at], np.nan) for a in (self.value, self.error))
        return TileZeroPoints(value, error, np.where(at >= 0, self.count[at], 0))


def read_zero_points(path: Path, method: str = "") -> ZeroPoints:
    """Zero-points from a table by `survey calibrate`, `scr`, `homogenise` or `simulate`, or from the folder with it.

    method: where the table has columns of several methods, the one to take. Raises ValueError for another table.
    """
    import numpy as np

    from xpjax.io.tables import open_table

    file = path / TABLE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no {TABLE} in {path}: give a directory of `xpjax survey calibrate` or `scr`")
    c = open_table(file)
    n = len(c)
    key = next((name for name in ("exposure", "tile") if name in c), None)
    low = method.lower()
    value = next((name for name in (f"{low}_zero_point", "zero_point", "true_zero_point") if name in c), None)
    if key is None or value is None:
        missing = "exposure or tile" if key is None else "zero_point"
        raise XpjaxError(f"{file.name} has no column {missing}; it has {', '.join(c.names[:20])}")
    own = value.startswith(f"{low}_") and bool(low)

    def numbers(name: str, kind: str | None = "magnitude") -> np.ndarray:
        return c.column(name).numbers(kind) if name in c else np.full(n, np.nan)

    def text(name: str) -> np.ndarray:
        return c.column(name).texts() if name in c else np.full(n, "")

    error = numbers(f"{low}_error" if own else "zero_point_error")
    if not own:
        error = np.hypot(error, np.nan_to_num(numbers("zero_point_systematic")))  # NaN where it is not stated
    count = f"{low}_count" if own else "n_used"
    many = np.nan_to_num(numbers(count, None)).astype(int) if count in c else np.full(n, 1 << 30)
    return ZeroPoints(text(key), text("band"), text("detector"), numbers(value), error, many)


@click.command("homogenise")
@click.argument("first", type=ANY)
@click.argument("second", type=ANY)
@click.option("--output", "-o", required=True, type=FILE, help="Table of zero-points; its suffix names the format.")
@click.option(
    "--names", default="SCR,XPSP", show_default=True, metavar="FIRST,SECOND", help="What the two methods are called."
)
@click.option(
    "--fewest", default=3, show_default=True, type=click.IntRange(1), help="Stars that a tile's zero-point needs."
)
@OVERWRITE
def homogenise(first: Path, second: Path, output: Path, names: str, fewest: int, overwrite: bool) -> None:
    """One zero-point for each tile and band: by the FIRST method where it has one, else by the SECOND on its scale.

    FIRST and SECOND are directories of `xpjax survey scr` or `survey calibrate`, or their tables of zero-points. What
    they differ by is measured on the tiles that have both, for each band. Exit status 1 where a tile is left without.

    \b
    Examples:
      xpjax survey homogenise scr xpsp --output homogenised.ecsv
      xpjax survey homogenise scr/zeropoints.ecsv solution --names SCR,XPSP --output homogenised.ecsv
    """
    import numpy as np

    from xpjax.io import catalogue
    from xpjax.survey.exposures import provenance
    from xpjax.survey.scr import homogenize as bring_together
    from xpjax.survey.scr import zero_point_table

    catalogue.check_output(output, overwrite=overwrite)
    methods = [name.strip() for name in names.split(",")]
    if len(methods) != 2 or not all(methods) or methods[0].lower() == methods[1].lower():
        raise XpjaxError(f"--names {names!r}: give two different names, as in SCR,XPSP")
    one, two = (read_zero_points(path, name) for path, name in zip((first, second), methods, strict=True))
    if not set(zip(one.tile, one.detector, strict=True)) & set(zip(two.tile, two.detector, strict=True)):
        have = (sorted(set(one.tile.tolist()))[:3], sorted(set(two.tile.tolist()))[:3])
        raise XpjaxError(f"{first.name} and {second.name} have no tile in common: {have[0]} and {have[1]}, ...")
    pairs = [*zip(one.tile.tolist(), one.detector.tolist(), strict=True)]
    tiles = sorted({*pairs, *zip(two.tile.tolist(), two.detector.tolist(), strict=True)})
    found, lines = {}, []
    for band in dict.fromkeys([*one.band.tolist(), *two.band.tolist()]):
        parts = one.of(band, tiles), two.of(band, tiles)
        found[band] = (bring_together(*parts, (methods[0], methods[1]), fewest), *parts)
        lines.append(_line(band, found[band][0], methods))
    meta = {**record_call(click.get_current_context()), **provenance()}
    table = zero_point_table(np.array([tile for tile, _ in tiles]), found, methods, meta)
    if any(detector for _, detector in tiles):
        column = np.tile(np.array([detector for _, detector in tiles]), len(found))
        table = dataclasses.replace(table, columns={"tile": table.columns["tile"], "detector": column, **table.columns})
    catalogue.write(output, table, overwrite=overwrite)
    without = int((~np.isfinite(table.columns["zero_point"])).sum())
    if without:
        lines.append(f"{without:,} zero-points are missing: no method has one, or nothing ties the second to the first")
    lines.append(f"{len(tiles):,} tiles in {len(found)} bands, to {output.name}")
    tell("\n".join(lines))
    if without:
        raise SystemExit(1)


def _line(band: str, found: Homogenized, names: list[str]) -> str:
    by = ", ".join(f"{int((found.method == name).sum()):,} by {name}" for name in names)
    said = f"{band or 'all'}: {by}"
    if found.n_overlap >= 3:
        said += (
            f"; {names[0]} - {names[1]} = {1e3 * found.offset:.2f} +- {1e3 * found.offset_error:.2f} mmag on "
            f"{found.n_overlap:,} tiles, which scatter by {1e3 * found.scatter:.2f} mmag beyond their errors"
        )
    return said
