"""Observations: a survey's measurements of stars, exposure by exposure, and what is known of each.

A *frame* is what gets a zero-point of its own: one exposure in one band on one detector. What belongs to a frame
(time, airmass) is kept once; a row is one star on one frame.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.records import Record
from xpjax.core.status import Bits
from xpjax.io.columns import join_columns


class RowFlag(Bits):
    """What is to be known of one measurement; append-only, so that stored values keep their meaning."""

    OK = 0
    NO_MAGNITUDE = 1 << 0, "The magnitude is missing (not finite, or 90 and fainter): nothing is calibrated."
    NO_ERROR = 1 << 1, "The magnitude error is missing or not positive: the star is no standard."
    NO_MODEL = 1 << 2, "No model magnitude, or no color where the model needs one: the star is no standard."
    CUT = 1 << 3, "A selection keeps the star from being a standard."
    OUTLIER = 1 << 4, "A standard that the fit clipped: variable, blended, saturated or matched wrongly."
    HELD_OUT = 1 << 5, "A standard that was kept back from the fit."
    NO_LOCAL_FLAT = 1 << 6, "Too few standards around for the numerical flat: it is not applied."
    EXTRAPOLATED = 1 << 7, "Outside the part of the detector where the frame has standards."
    EXPOSURE_REFUSED = 1 << 8, "The frame has no solution: nothing is calibrated."
    EXPOSURE_FLAGGED = 1 << 9, "The frame leans on its night's solution, or looks cloudy or drifting."
    NO_POSITION = 1 << 10, "X or Y is missing where the model needs them: nothing is calibrated."
    STANDARD = 1 << 11, "The star took part in the fit of its frame."


class FrameFlag(Bits):
    """What is to be known of one frame's solution; append-only."""

    OK = 0
    NO_STANDARDS = 1 << 0, "No usable standard: the frame is refused unless its night has a solution."
    LOWERED = 1 << 1, "Orders were lowered: too few standards, or they do not determine every term."
    ONE_COLOR = 1 << 2, "The standards have one color: no color term."
    ONE_POSITION = 1 << 3, "The standards lie at one position, or along a line: fewer position terms."
    ONE_MAGNITUDE = 1 << 4, "The standards have one magnitude: no magnitude term."
    FLOOR_NOT_FITTED = 1 << 5, "Too few standards to fit the error floor: it is zero."
    NO_ERRORS = 1 << 6, "No usable magnitude errors: equal weights, and the scatter is all in the error floor."
    NIGHT_PRIOR = 1 << 7, "Few standards: flat and color terms lean on the night's other frames."
    NIGHT_FALLBACK = 1 << 8, "No standards: zero-point and all else are those of the night."
    CLOUD = 1 << 9, "The zero-point lies below its night's by more than the limit."
    SCATTER = 1 << 10, "The error floor is far above its night's: patchy clouds or bad images."
    DRIFT = 1 << 11, "The zero-point departs from its night's by more than the limit, not towards clouds."
    NOT_CONVERGED = 1 << 12, "The robust fit ran out of steps."
    NO_MODEL = 1 << 13, "No star of the frame has a model magnitude in this band."
    FROZEN = 1 << 14, "Only the zero-point was fitted; flat and color terms are those of an earlier solution."


REFUSED = FrameFlag.NO_STANDARDS | FrameFlag.NO_MODEL
"""A frame with one of these has no solution of its own."""
SUSPECT = (
    FrameFlag.NIGHT_PRIOR | FrameFlag.NIGHT_FALLBACK | FrameFlag.CLOUD | FrameFlag.SCATTER | FrameFlag.DRIFT
)  # fmt: skip
MISSING = 90.0
"""Catalogues write 99 or -99 where there is no magnitude: values of this size and beyond are missing."""


@dataclasses.dataclass(frozen=True, repr=False)
class Frames(Record):
    """Frames, each with a name and what belongs to all of its stars; arrays (n_frame,).

    exposure, band, detector, night: text. time [d] and airmass: NaN where unknown.
    """

    exposure: np.ndarray
    band: np.ndarray
    detector: np.ndarray
    night: np.ndarray
    time: np.ndarray
    airmass: np.ndarray

    def __len__(self) -> int:
        return len(self.exposure)

    def __getitem__(self, rows: Any) -> Frames:
        return Frames(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def name(self, k: int) -> str:
        """How messages call frame k."""
        parts = (self.exposure[k], self.band[k], self.detector[k])
        return " ".join(str(part) for part in parts if part)

    def group(self, *fields: str) -> tuple[np.ndarray, np.ndarray]:
        """Frames with the same values of these fields: group (n_frame,) of each, and the first frame of each group."""
        if not len(self):
            return np.zeros(0, int), np.zeros(0, int)
        keys = np.array(["\x1f".join(map(str, key)) for key in zip(*(getattr(self, f) for f in fields), strict=True)])
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        return inverse, first


@dataclasses.dataclass(frozen=True, repr=False)
class Origin(Record):
    """Where rows come from, and what goes back with them: files, and for each row (n,) its file's index and its number.

    row: from 1, in the file's table. columns: by name, (n,): the input's own identifiers, positions, and whatever was
    to be kept.
    """

    files: tuple[str, ...]
    file: np.ndarray
    row: np.ndarray
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, rows: Any) -> Origin:
        return Origin(self.files, self.file[rows], self.row[rows], {k: v[rows] for k, v in self.columns.items()})


@dataclasses.dataclass(frozen=True, repr=False)
class Observations(Record):
    """Measurements of stars on frames; arrays (n,) on the host, NaN where missing.

    frame: index into frames. star: an id, the same on every frame (int64 or text). x, y [pixels]. magnitude,
    magnitude_error: instrumental [mag]. model, model_error: the standard's magnitude in the survey's passband [mag].
    color: of the star [mag]. amplifier: code from 0. excluded: RowFlag bits set before any fit, by `RowFlag.CUT` for
    stars that are not to be standards. origin: where rows come from, None where nobody said. Raises ValueError for
    arrays of different lengths.
    """

    frames: Frames
    frame: np.ndarray
    star: np.ndarray
    x: np.ndarray
    y: np.ndarray
    magnitude: np.ndarray
    magnitude_error: np.ndarray
    model: np.ndarray
    model_error: np.ndarray
    color: np.ndarray
    amplifier: np.ndarray
    excluded: np.ndarray
    origin: Origin | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in _ROWS}
        sizes |= {} if self.origin is None else {"origin": len(self.origin)}
        if len({*sizes.values()}) > 1:
            raise XpjaxError(f"the columns of observations have different lengths: {sizes}")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: Any) -> Observations:
        """Some rows, with all frames."""
        picked: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ROWS}
        return dataclasses.replace(self, origin=None if self.origin is None else self.origin[rows], **picked)

    def on_frames(self, chosen: np.ndarray) -> Observations:
        """The rows on these frames (indices or a mask), and these frames alone, in their order."""
        chosen = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        place = np.full(len(self.frames), -1)
        place[chosen] = np.arange(len(chosen))
        part = self[place[self.frame] >= 0]
        return dataclasses.replace(part, frames=self.frames[chosen], frame=place[part.frame].astype(np.int32))


def columns_home(o: Observations, taken: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What brings rows home: x, y, the input's own identifiers, positions and kept columns, file and row; and units.

    taken: names that other columns have; the input's columns of these names are called input_NAME.
    """
    columns: dict[str, np.ndarray] = {}
    used = {*taken, "x", "y", "file", "row"}
    if np.isfinite(o.x).any():
        columns |= {"x": o.x, "y": o.y}
    if o.origin is not None:
        for name, values in o.origin.columns.items():
            while name in used:
                name = f"input_{name}"
            used.add(name)
            columns[name] = values
        columns["file"] = np.array(o.origin.files, np.str_)[o.origin.file]
        columns["row"] = o.origin.row
    units = {"x": "pixel", "y": "pixel", "ra": "deg", "dec": "deg"}
    return columns, {name: unit for name, unit in units.items() if name in columns}


_ROWS = tuple(f.name for f in dataclasses.fields(Observations) if f.name not in ("frames", "origin"))
"""The arrays (n,) of observations."""


def make_observations(
    star: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    magnitude: np.ndarray,
    magnitude_error: np.ndarray | None,
    model: np.ndarray | None,
    *,
    color: np.ndarray | None = None,
    model_error: np.ndarray | None = None,
    exposure: np.ndarray | str = "",
    band: np.ndarray | str = "",
    detector: np.ndarray | str = "",
    night: np.ndarray | str = "",
    amplifier: np.ndarray | None = None,
    time: np.ndarray | float = np.nan,
    airmass: np.ndarray | float = np.nan,
    cut: np.ndarray | None = None,
) -> Observations:
    """Observations from columns (n,), or single values where all rows share one.

    Sentinels of 90 and beyond, and infinities, become NaN. Frames are the distinct (exposure, band, detector), in the
    order in which they come; time and airmass of a frame are the medians of its rows; cut marks stars that are not to
    be standards.
    """
    n = len(star)

    def number(values: Any, default: float = np.nan) -> np.ndarray:
        if values is None:
            return np.full(n, default)
        out = np.array(np.broadcast_to(np.asarray(values, float), n))
        out[~np.isfinite(out)] = np.nan
        return out

    def magnitudes(values: Any, default: float = np.nan) -> np.ndarray:
        out = number(values, default)
        out[np.abs(out) >= MISSING] = np.nan
        return out

    def codes(values: Any) -> tuple[np.ndarray, np.ndarray]:
        """Distinct values, in the order in which they come, and the number of each row's."""
        array = np.atleast_1d(np.asarray(values))
        if array.dtype.kind in "SO":
            array = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in array.tolist()])
        if len(array) == 1 and n != 1:
            return array, np.zeros(n, np.int64)
        kinds, first, inverse = np.unique(array, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return kinds[order], rank[inverse]

    parts = [codes(values) for values in (exposure, band, detector, night)]
    code = np.zeros(n, np.int64)
    for kinds, inverse in parts[:3]:
        code = code * len(kinds) + inverse
    _, first, frame = np.unique(code, return_index=True, return_inverse=True)
    texts = [kinds.astype(str)[inverse[first]] for kinds, inverse in parts]

    def middle(values: Any) -> np.ndarray:
        if np.ndim(values) == 0:
            return np.full(len(first), float(values))
        return group_median(number(values), frame, len(first))

    frames = Frames(texts[0], texts[1], texts[2], texts[3], middle(time), middle(airmass))
    amp = np.zeros(n, np.int32) if amplifier is None else codes(amplifier)[1].astype(np.int32)
    excluded = np.zeros(n, np.uint32)
    if cut is not None:
        excluded[np.asarray(cut, bool)] |= np.uint32(RowFlag.CUT)
    ids = np.asarray(star)
    if ids.dtype.kind in "SO":
        ids = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in ids.tolist()])
    return Observations(
        frames, frame.astype(np.int32), ids, number(x), number(y), magnitudes(magnitude), magnitudes(magnitude_error),
        magnitudes(model), np.nan_to_num(magnitudes(model_error, 0.0)), magnitudes(color, 0.0), amp, excluded,
    )  # fmt: skip


def concatenate(parts: Sequence[Observations]) -> Observations:
    """Observations one after the other; a frame is one exposure, band and detector, whatever parts it lies in.

    Time and airmass of a frame are the medians of its parts'; its night is the first that is known.
    """
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.frames) for part in parts[:-1])])
    fields: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ROWS[1:]}
    frames = Frames(
        *(np.concatenate([getattr(part.frames, f.name) for part in parts]) for f in dataclasses.fields(Frames))
    )
    frame = np.concatenate([part.frame + start for part, start in zip(parts, starts, strict=True)]).astype(np.int32)
    group, first = frames.group("exposure", "band", "detector")
    if len(first) < len(frames):
        order = np.argsort(first)  # in the order in which they come
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        group = place[group]
        middle = {name: group_median(getattr(frames, name), group, len(first)) for name in ("time", "airmass")}
        night = frames.night[first[order]].astype(object)
        for k in np.flatnonzero(frames.night != ""):
            night[group[k]] = night[group[k]] or frames.night[k]
        frames = dataclasses.replace(frames[first[order]], night=night.astype(str), **middle)
        frame = group[frame].astype(np.int32)
    return Observations(frames=frames, frame=frame, origin=_joined_origins([p.origin for p in parts]), **fields)


def _joined_origins(parts: Sequence[Origin | None]) -> Origin | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    files = tuple(dict.fromkeys(name for part in known for name in part.files))
    place = {name: k for k, name in enumerate(files)}
    codes = [np.array([place[name] for name in part.files], np.int32)[part.file] for part in known]
    names = dict.fromkeys(name for part in known for name in part.columns)
    sizes = [len(part) for part in known]
    columns = {name: join_columns([part.columns.get(name) for part in known], sizes) for name in names}
    return Origin(files, np.concatenate(codes), np.concatenate([part.row for part in known]), columns)


def with_nights(observations: Observations, gap: float = 0.25, known: Frames | None = None) -> Observations:
    """The observations with a night for frames that have a time [d] but none: a gap of six hours begins another.

    A frame less than the gap from one whose night is known, here or among `known` frames, is of that night.
    """
    frames = observations.frames
    open_ones = np.flatnonzero((frames.night == "") & np.isfinite(frames.time))
    if not len(open_ones):
        return observations
    named = [(f.time[there], f.night[there]) for f in (known, frames) if f is not None
             for there in [(f.night != "") & np.isfinite(f.time)]]  # fmt: skip
    time = np.concatenate([frames.time[open_ones], *(t for t, _ in named)])
    night = np.concatenate([np.full(len(open_ones), "", object), *(n.astype(object) for _, n in named)])
    order = np.argsort(time, kind="stable")
    number = np.empty(len(order), int)
    number[order] = np.cumsum(np.diff(time[order], prepend=time[order[0]]) > gap)
    name = {int(k): str(n) for k, n in zip(number[::-1], night[::-1], strict=True) if n}
    fresh = (f"night {k}" for k in itertools.count(1) if f"night {k}" not in name.values())
    for k in np.unique(number[: len(open_ones)]):
        name[int(k)] = name.get(int(k)) or next(fresh)
    found = frames.night.astype(object)
    found[open_ones] = [name[int(k)] for k in number[: len(open_ones)]]
    return dataclasses.replace(observations, frames=dataclasses.replace(frames, night=found.astype(str)))


def group_median(values: np.ndarray, group: np.ndarray, n_group: int) -> np.ndarray:
    """Median (n_group,) of the finite values (n,) in each group (n,); NaN where there is none."""
    good = np.isfinite(values)
    if not good.all():
        values, group = values[good], group[good]
    if len(values) > 100 * n_group:  # few large groups: no need to sort them
        if (np.diff(group) < 0).any():
            order = np.argsort(group, kind="stable")
            values, group = values[order], group[order]
        edges = np.searchsorted(group, np.arange(n_group + 1))
        parts = (values[a:b] for a, b in itertools.pairwise(edges))
        return np.array([_median(part) for part in parts])
    order = np.lexsort((values, group))
    values = values[order]
    count = np.bincount(group, minlength=n_group)
    start = np.cumsum(count) - count
    out = np.full(n_group, np.nan)
    some = count > 0
    low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
    out[some] = 0.5 * (values[low] + values[high])
    return out


def _median(values: np.ndarray) -> float:
    """The median of finite values, NaN of none; three times as quick as NumPy's for a few thousand."""
    n = len(values)
    if n == 0:
        return np.nan
    middle = np.partition(values, n // 2)
    upper = middle[n // 2]
    return float(upper if n % 2 else 0.5 * (upper + middle[: n // 2].max()))


# --- matching ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Match:
    """Which reference row each row is: index (n,), -1 for none; and how many were dropped as ambiguous."""

    index: np.ndarray
    n_ambiguous: int

    @property
    def n_matched(self) -> int:
        """Rows with a reference."""
        return int(np.count_nonzero(self.index >= 0))


def match_ids(ids: np.ndarray, reference: np.ndarray) -> Match:
    """Rows with the id of a reference row; ids that the reference has twice, or 0, are ambiguous and dropped."""
    place = places_of(ids, reference)
    if np.asarray(reference).dtype.kind in "iu":
        place = np.where(ids == 0, -1, place)
    times = np.bincount(places_of(reference, reference), minlength=1)  # how often the id of each first row comes
    twice = (place >= 0) & (times[place] > 1)
    return Match(np.where(twice, -1, place), int(np.count_nonzero(twice)))


def match_positions(
    ra: np.ndarray,
    dec: np.ndarray,
    reference_ra: np.ndarray,
    reference_dec: np.ndarray,
    *,
    radius: float = 1.0,
    pm_ra: np.ndarray | None = None,
    pm_dec: np.ndarray | None = None,
    years: float = 0.0,
) -> Match:
    """Rows within radius [arcsec] of one reference row, and of one only.

    ra, dec [deg] (n,); pm_ra (with cos dec), pm_dec [mas/yr] move the reference by `years`, where they are finite.
    A row with two references within the radius, and rows that share one, are ambiguous: dropped and counted. Nearest
    neighbours on unit vectors by scipy's cKDTree.
    """
    from scipy.spatial import cKDTree

    n, m = len(ra), len(reference_ra)
    if pm_ra is not None and pm_dec is not None and years:
        shift = years / 3.6e6
        moved = np.nan_to_num(np.asarray(pm_dec, float)) * shift
        cos = np.maximum(np.cos(np.deg2rad(reference_dec)), 1e-6)
        reference_ra = reference_ra + np.nan_to_num(np.asarray(pm_ra, float)) * shift / cos
        reference_dec = reference_dec + moved
    index = np.full(n, -1)
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    known = np.flatnonzero(np.isfinite(reference_ra) & np.isfinite(reference_dec))
    if not (len(good) and len(known) and m):
        return Match(index, 0)
    tree = cKDTree(unit_vectors(reference_ra[known], reference_dec[known]))
    chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
    distance, nearest = tree.query(unit_vectors(ra[good], dec[good]), k=2, distance_upper_bound=chord)
    one = np.isfinite(distance[:, 0]) & ~np.isfinite(distance[:, 1])
    two = np.isfinite(distance[:, 1])
    index[good[one]] = known[nearest[one, 0]]
    shared = np.bincount(index[index >= 0], minlength=m) > 1
    twice = (index >= 0) & shared[index]
    index[twice] = -1
    return Match(index, int(two.sum() + twice.sum()))


def separation(ra: np.ndarray, dec: np.ndarray, reference_ra: np.ndarray, reference_dec: np.ndarray) -> float:
    """The least separation [arcsec] of positions [deg] from reference positions, none of them missing."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(unit_vectors(reference_ra, reference_dec)).query(unit_vectors(ra, dec))
    return float(np.rad2deg(2 * np.arcsin(min(distance.min() / 2, 1.0))) * 3600)


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) of positions [deg]."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


# --- Gaia's own magnitudes --------------------------------------------------------------------------------------------


def correct_gaia(
    magnitudes: Mapping[str, np.ndarray], table: Mapping[str, np.ndarray], against: str = "G"
) -> dict[str, np.ndarray]:
    """Gaia magnitudes less their magnitude terms, by a user's table (after Yang et al. 2021, ApJL 908, L24).

    magnitudes: by name, `G`, `BP`, `RP` (n,). table: a column named like `against` with ascending nodes [mag], and a
    column `d_G`, `d_BP`, `d_RP` with observed minus true [mag] for each; linear between nodes, constant beyond them.
    Raises ValueError where the table has no such column or its nodes do not ascend.
    """
    if against not in table or against not in magnitudes:
        raise XpjaxError(f"corrections need {against!r} in the table and among the magnitudes: the nodes are in it")
    nodes = np.asarray(table[against], float)
    if len(nodes) < 2 or not (np.diff(nodes) > 0).all():
        raise XpjaxError(f"the nodes {against!r} of the magnitude corrections must ascend")
    out = {}
    for name, values in magnitudes.items():
        column = f"d_{name}"
        if column not in table:
            raise XpjaxError(f"the table of magnitude corrections has no column {column!r}; it has {list(table)}")
        out[name] = np.asarray(values, float) - np.interp(magnitudes[against], nodes, np.asarray(table[column], float))
    return out
