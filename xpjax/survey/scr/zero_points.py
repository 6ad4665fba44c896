"""Tables of zero-points of tiles: read from any survey command, and of two methods brought to one scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record, Rows, concatenate_records
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult
from xpjax.io.tables import open_table
from xpjax.survey import provenance
from xpjax.survey.scr.homogenize import FEWEST, BandZeroPoints, ScaleOffset, homogenize_band

TABLE = "zeropoints.ecsv"
UNKNOWN = 1 << 30
"""The number of stars of a zero-point whose table does not say it."""


@dataclasses.dataclass(frozen=True, repr=False)
class TileZeroPoints(Record, Rows, TableResult):
    """Hold zero-points of tiles (exposures) by one method, a row for each tile, band and detector.

    Parameters
    ----------
    tile, band, detector : (n,) arrays of str
        Names; the empty text where a table names no band or no detector.
    value, error : (n,) arrays [mag]
        Zero-point, model - instrumental magnitude, and its error.
    count : (n,) array of int
        Stars of the zero-point; 2^30 where unknown.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> tiles, value = np.array(["t1", "t2"]), np.array([24.1, 24.2])
    >>> found = scr.TileZeroPoints(tiles, np.full(2, "g"), np.full(2, ""), value, np.full(2, 0.002), np.full(2, 50))
    >>> found[1:].to_table().colnames
    ['tile', 'band', 'detector', 'zero_point', 'zero_point_error', 'n_used']
    """

    row_fields = ("tile", "band", "detector", "value", "error", "count")

    tile: np.ndarray
    band: np.ndarray
    detector: np.ndarray
    value: np.ndarray
    error: np.ndarray
    count: np.ndarray

    def rows(self) -> dict[tuple[str, str, str], int]:
        """The row of each tile, band and detector."""
        keys = zip(self.tile.tolist(), self.band.tolist(), self.detector.tolist(), strict=True)
        return {key: k for k, key in enumerate(keys)}

    def of(self, band: str, tiles: Sequence[tuple[str, str]]) -> BandZeroPoints:
        """Zero-points of these tiles and detectors in one band, NaN where there is none."""
        row = self.rows()
        at = np.array([row.get((tile, band, detector), -1) for tile, detector in tiles])
        value, error = (np.where(at >= 0, a[at], np.nan) for a in (self.value, self.error))
        return BandZeroPoints(value, error, np.where(at >= 0, self.count[at], 0))

    def catalogue(self) -> Catalogue:
        """The table that `read_zero_points` reads back."""
        columns = {
            "tile": self.tile, "band": self.band, "detector": self.detector, "zero_point": self.value,
            "zero_point_error": self.error, **({"n_used": self.count} if (self.count != UNKNOWN).all() else {}),
        }  # fmt: skip
        return Catalogue(columns, dict.fromkeys(("zero_point", "zero_point_error"), "mag"), _descriptions(columns))


def read_zero_points(path: str | Path, method: str = "") -> TileZeroPoints:
    """Read zero-points of tiles from a table of a survey command, or from the directory with it.

    Parameters
    ----------
    path : str or Path
        Table that `xpjax survey calibrate`, `scr`, `homogenize` or `simulate` wrote, or their output directory.
    method : str, optional
        Method to take, where the table has columns of several, such as "SCR".

    Returns
    -------
    TileZeroPoints
        A row for each tile, band and detector; errors include the systematic ones.

    Raises
    ------
    XpjaxError
        If the table names no tiles, or has no zero-points.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> table = {"tile": ["t1", "t2"], "zero_point": [24.1, 24.2], "zero_point_error": [0.003, 0.004]}
    >>> import pandas
    >>> pandas.DataFrame(table).to_csv("zeropoints.csv")
    >>> scr.read_zero_points("zeropoints.csv").value
    array([24.1, 24.2])
    """
    path = Path(path)
    file = path / TABLE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no {TABLE} in {path}: give a directory of `xpjax survey calibrate` or `scr`")
    c = open_table(file)
    n, low = len(c), method.lower()
    key = next((name for name in ("exposure", "tile") if name in c), None)
    value = next((name for name in (f"{low}_zero_point", "zero_point", "true_zero_point") if name in c), None)
    if key is None or value is None:
        missing = "exposure or tile" if key is None else "zero_point"
        raise XpjaxError(f"{file.name} has no column {missing}; it has {', '.join(c.names[:20])}")
    own = value.startswith(f"{low}_") and bool(low)

    def numbers(name: str, kind: str | None = "magnitude") -> np.ndarray:
        return c.column(name).numbers(kind) if name in c else np.full(n, np.nan)

    def text(name: str) -> np.ndarray:
        return c.column(name).texts() if name in c else np.full(n, "")

    error = numbers(f"{low}_zero_point_error" if own else "zero_point_error")
    if not own:
        error = np.hypot(error, np.nan_to_num(numbers("zero_point_systematic")))  # NaN where it is not stated
    count = f"{low}_n_used" if own else "n_used"
    many = np.nan_to_num(numbers(count, None)).astype(int) if count in c else np.full(n, UNKNOWN)
    return TileZeroPoints(text(key), text("band"), text("detector"), numbers(value), error, many)


@dataclasses.dataclass(frozen=True, repr=False)
class HomogenizedZeroPoints(Record, Rows, TableResult):
    """Hold one zero-point for each tile and band on the scale of the first of two methods.

    Parameters
    ----------
    value, error : (n,) arrays [mag]
        Zero-point, and its error of the tile alone; NaN where no method gives one.
    systematic : (n,) array [mag]
        Error of the offset between the methods, common to all tiles of the second method in a band.
    method : (n,) array of str
        Name of the method, empty for none.
    first, second : TileZeroPoints
        The zero-points by each method, of the same tiles, bands and detectors (n,).
    names : pair of str
        Names of the methods.
    scales : dict of str to ScaleOffset
        Difference of the methods in each band: `offset`, `offset_error` and `scatter` [mag] on `n_overlap` tiles.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> tiles, g, none, error = np.array(["t1", "t2", "t3", "t4"]), np.full(4, "g"), np.full(4, ""), np.full(4, 0.002)
    >>> xpsp = scr.TileZeroPoints(tiles, g, none, np.array([24.1, 24.2, 24.3, 24.4]), error, np.full(4, 50))
    >>> both = scr.homogenize(xpsp[1:], xpsp)
    >>> both.method.tolist()
    ['XPSP', 'SCR', 'SCR', 'SCR']
    >>> xpjax.write("both.ecsv", both)
    >>> scr.read_homogenized("both.ecsv").scales["g"].n_overlap
    3
    """

    row_fields = ("value", "error", "systematic", "method", "first", "second")

    value: np.ndarray
    error: np.ndarray
    systematic: np.ndarray
    method: np.ndarray
    first: TileZeroPoints
    second: TileZeroPoints
    names: tuple[str, str]
    scales: Mapping[str, ScaleOffset]

    @property
    def tile(self) -> np.ndarray:
        """Names (n,) of tiles."""
        return self.first.tile

    @property
    def band(self) -> np.ndarray:
        """Names (n,) of bands."""
        return self.first.band

    @property
    def n_missing(self) -> int:
        """The number of tiles and bands without a zero-point."""
        return int((~np.isfinite(self.value)).sum())

    def summary(self) -> list[str]:
        """The methods and their difference, a line for each band."""
        lines = []
        one, two = self.names
        for band, scale in self.scales.items():
            mine = self.method[self.band == band]
            said = ", ".join(f"{int((mine == name).sum()):,} by {name}" for name in self.names)
            if scale.n_overlap >= FEWEST and np.isfinite(scale.offset):
                said += (
                    f"; {one} - {two} = {1e3 * scale.offset:.2f} +- {1e3 * scale.offset_error:.2f} mmag on "
                    f"{scale.n_overlap:,} tiles, which scatter by {1e3 * scale.scatter:.2f} mmag beyond their errors"
                )
            lines.append(f"{band or 'all'}: {said}")
        if self.n_missing:
            why = "no method has one, or nothing ties the second to the first"
            lines.append(f"{self.n_missing:,} zero-points are missing: {why}")
        return lines

    def catalogue(self) -> Catalogue:
        """The table that `read_homogenized` reads back."""
        detector = self.first.detector
        columns: dict[str, np.ndarray] = {
            "tile": self.tile, **({"detector": detector} if (detector != "").any() else {}), "band": self.band,
            "zero_point": self.value, "zero_point_error": self.error, "zero_point_systematic": self.systematic,
            "method": self.method,
        }  # fmt: skip
        for name, part in zip(self.names, (self.first, self.second), strict=True):
            low = name.lower()
            columns |= {
                f"{low}_zero_point": part.value, f"{low}_zero_point_error": part.error, f"{low}_n_used": part.count,
            }  # fmt: skip
        for name in SCALE_COLUMNS:
            columns[name] = np.array([getattr(self.scales[band], name) for band in self.band.tolist()])
        units = {name: "mag" for name, column in columns.items() if column.dtype.kind == "f" and name != "tile"}
        return Catalogue(
            columns, units, _descriptions(columns, self.names), meta={**provenance(), "methods": list(self.names)}
        )


SCALE_COLUMNS = tuple(field.name for field in dataclasses.fields(ScaleOffset))


def homogenize(
    first: TileZeroPoints, second: TileZeroPoints, names: Sequence[str] = ("SCR", "XPSP"), fewest: int = FEWEST
) -> HomogenizedZeroPoints:
    """Bring the zero-points of two methods to one scale: the first where it has one, else the second less the offset.

    Parameters
    ----------
    first, second : TileZeroPoints
        Zero-points by each method, such as stellar color regression and XP synthetic photometry.
    names : pair of str
        Names of the methods.
    fewest : int
        Stars that the zero-point of a tile needs.

    Returns
    -------
    HomogenizedZeroPoints
        A row for each tile, detector and band that either method has.

    Raises
    ------
    XpjaxError
        If the methods have no tile in common, or the same name.

    Notes
    -----
    The offset between the methods is the weighted mean of their differences on tiles that have both, without 4-sigma
    outliers; the scatter of the differences beyond their errors is added to the error of each tile of the second method
    (Xiao et al. 2023, ApJS 269, 58). Where fewer than three tiles have both, nothing ties the methods, and tiles of the
    second have no zero-point; where the first method has no tile at all in a band, the second stands as it is.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> tiles, g, none, error = np.array(["t1", "t2", "t3", "t4"]), np.full(4, "g"), np.full(4, ""), np.full(4, 0.002)
    >>> xpsp = scr.TileZeroPoints(tiles, g, none, np.array([24.1, 24.2, 24.3, 24.4]), error, np.full(4, 50))
    >>> scr.homogenize(xpsp[1:], xpsp).value
    array([24.1, 24.2, 24.3, 24.4])
    """
    if len(names) != 2 or not all(names) or names[0].lower() == names[1].lower():
        raise XpjaxError(f"{say('names', '--names')} {','.join(names)!r}: give two different names, as in SCR,XPSP")
    tiles = [set(zip(one.tile.tolist(), one.detector.tolist(), strict=True)) for one in (first, second)]
    if not tiles[0] & tiles[1]:
        have = (sorted({tile for tile, _ in one})[:3] for one in tiles)
        raise XpjaxError(f"{names[0]} and {names[1]} have no tile in common: {next(have)} and {next(have)}, ...")
    both = sorted(tiles[0] | tiles[1])
    bands = dict.fromkeys([*first.band.tolist(), *second.band.tolist()])
    found = {band: (first.of(band, both), second.of(band, both)) for band in bands}
    tile, detector = (np.array(column) for column in zip(*both, strict=True))
    return homogenized(tile, detector, found, (names[0], names[1]), fewest)


def homogenized(
    tile: np.ndarray,
    detector: np.ndarray,
    bands: Mapping[str, tuple[BandZeroPoints, BandZeroPoints]],
    names: tuple[str, str] = ("SCR", "XPSP"),
    fewest: int = FEWEST,
) -> HomogenizedZeroPoints:
    """Both methods of each band, given for the same tiles and detectors (n_tile,), on the scale of the first."""
    found = [homogenize_band(*parts, names, fewest) for parts in bands.values()]
    named = np.tile(tile, len(bands)), np.repeat(list(bands), len(tile)), np.tile(detector, len(bands))
    one, two = (concatenate_records(parts) for parts in zip(*bands.values(), strict=True))
    both = concatenate_records(found)
    return HomogenizedZeroPoints(
        both.value, both.error, both.systematic, both.method, TileZeroPoints(*named, one.value, one.error, one.count),
        TileZeroPoints(*named, two.value, two.error, two.count), names,
        {band: part.scale for band, part in zip(bands, found, strict=True)},
    )  # fmt: skip


def read_homogenized(path: str | Path) -> HomogenizedZeroPoints:
    """Read zero-points of two methods on one scale.

    Parameters
    ----------
    path : str or Path
        Table that `xpjax survey homogenize` or `scr` wrote, or `xpjax.write` of a HomogenizedZeroPoints.

    Returns
    -------
    HomogenizedZeroPoints
        What was written.

    Raises
    ------
    XpjaxError
        If the table is another one.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> tiles, g, none, error = np.array(["t1", "t2", "t3", "t4"]), np.full(4, "g"), np.full(4, ""), np.full(4, 0.002)
    >>> xpsp = scr.TileZeroPoints(tiles, g, none, np.array([24.1, 24.2, 24.3, 24.4]), error, np.full(4, 50))
    >>> xpjax.write("both.ecsv", scr.homogenize(xpsp[1:], xpsp))
    >>> scr.read_homogenized("both.ecsv").names
    ('SCR', 'XPSP')
    """
    table = read_catalogue(path)
    c, names = table.columns, table.meta.get("methods")
    if names is None or "zero_point_systematic" not in c:
        raise XpjaxError(f"{Path(path).name} is no table of homogenized zero-points: it does not name two methods")
    if lost := [name for name in names if f"{name.lower()}_n_used" not in c]:
        raise XpjaxError(
            f"{Path(path).name} has no column {lost[0].lower()}_n_used: it is of an older version; make it anew with "
            "xpjax survey scr or homogenize"
        )
    detector = c.get("detector", np.full(len(table), ""))

    def method(name: str) -> TileZeroPoints:
        own = (c[f"{name.lower()}_{key}"] for key in ("zero_point", "zero_point_error", "n_used"))
        return TileZeroPoints(c["tile"], c["band"], detector, *own)

    first = {band: int(np.flatnonzero(c["band"] == band)[0]) for band in dict.fromkeys(c["band"].tolist())}
    scales = {band: ScaleOffset(*(c[name][row].item() for name in SCALE_COLUMNS)) for band, row in first.items()}
    return HomogenizedZeroPoints(
        c["zero_point"], c["zero_point_error"], c["zero_point_systematic"], c["method"], method(names[0]),
        method(names[1]), (str(names[0]), str(names[1])), scales,
    )  # fmt: skip


def _descriptions(columns: Mapping[str, np.ndarray], names: tuple[str, str] = ("SCR", "XPSP")) -> dict[str, str]:
    """What each column of zero-points is, as a table of a paper says it."""
    known = {
        "tile": "tile or exposure",
        "band": "photometric band",
        "detector": "detector",
        "zero_point": "zero-point: model - instrumental magnitude",
        "zero_point_error": "error of the zero-point, of this tile alone",
        "n_used": "number of stars",
        "zero_point_systematic": f"error of the offset between the methods, common to all tiles by {names[1]}",
        "method": "method of the zero-point",
        "offset": f"{names[0]} - {names[1]}, weighted mean over the tiles that have both",
        "offset_error": "error of the offset",
        "scatter": "scatter of the differences of tiles beyond their errors",
        "n_overlap": "number of tiles that have both methods",
    }
    for name in names:
        low = name.lower()
        known |= {
            f"{low}_zero_point": f"zero-point by {name}",
            f"{low}_zero_point_error": f"error of the zero-point by {name}",
            f"{low}_n_used": f"number of stars of the zero-point by {name}",
        }
    return {name: known[name] for name in columns}
