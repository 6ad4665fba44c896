"""One identity for each exposure and each star over all files of a survey, whatever files are given and in what order.

An exposure without a column that names it is called as its file, with as many folders before it as tell it from the
others; the solution keeps where each file lay, so that `apply` finds it again. A detection that no standard is matched
to is matched to the survey's other such detections by position.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.io.streams import PACKED
from xpjax.io.tables import split_part
from xpjax.survey.matching import unit_vectors

SUFFIXES = (
    *(".fits", ".fit", ".fts", ".fz", ".ldac", ".cat", ".parquet", ".pq", ".ecsv", ".csv", ".tsv", ".txt", ".dat"),
    *(".ascii", ".asc", ".tab", ".vot", ".votable", ".xml", ".h5", ".hdf5", ".hdf"),
)
"""What is no part of an exposure's name; any other dots are."""
FAR = 5.0
"""How far a detection of a star may be from the star's mean position [arcsec]."""
_BELOW_POSITIONS = -7_750_000_000_000_000_000
"""Less than any of `position_ids`."""


def stem(path: Path) -> str:
    """The name of a file without the suffixes that tell its format and packing."""
    name = path.name
    for suffixes in (PACKED, (".fz",), SUFFIXES):
        known = next((s for s in suffixes if name.lower().endswith(s) and len(name) > len(s)), "")
        name = name[: len(name) - len(known)]
    return name


@dataclasses.dataclass(frozen=True)
class Named:
    """The exposures of files, in their order; where each file lies; and what is worth telling."""

    names: tuple[str, ...]
    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


def name_exposures(paths: Sequence[Path], known: Mapping[str, str] | None = None, *, new: bool = False) -> Named:
    """Names of the exposures that files are, each file one.

    known: exposure -> file of an earlier solution. A file that lay in the same place is that exposure; so is one of the
    same name and folder elsewhere, or of a name that the solution has only once (and a note says so), unless `new`.
    Raises XpjaxError where several are as likely, and for a file that is given twice.
    """
    whole = [split_part(path)[0].resolve() for path in paths]
    given = [*zip(whole, (split_part(path)[1] for path in paths), strict=True)]
    twice = sorted({str(p) for p, part in given if given.count((p, part)) > 1 or (part and (p, "") in given)})
    if twice:
        raise XpjaxError(f"{twice[0]} is given twice: give each file once")
    known = dict(known or {})
    found = [_known(path, known, new) for path in whole]
    names, notes = [name for name, _ in found], [note for _, note in found if note]
    open_ones = [k for k, name in enumerate(names) if not name]
    taken = {Path(file) for file in known.values()}
    others = [*(whole[k] for k in open_ones), *(taken - {whole[k] for k in open_ones})]
    for k in open_ones:
        names[k] = _shortest(whole[k], [path for path in others if path != whole[k]])
    return Named(tuple(names), {name: str(path) for name, path in zip(names, whole, strict=True)}, tuple(notes))


def _shortest(path: Path, others: Sequence[Path]) -> str:
    """The stem, with as many folders before it as tell it from the others, or the whole name beside a like stem."""
    alike = any(other.parent == path.parent and stem(other) == stem(path) for other in others)
    pieces, *theirs = ([*p.parent.parts[1:], p.name if alike else stem(p)] for p in (path, *others))
    lengths = (n for n in range(1, len(pieces)) if not any(their[-n:] == pieces[-n:] for their in theirs))
    return "/".join(pieces[-next(lengths, len(pieces)) :])


def _known(path: Path, known: Mapping[str, str], new: bool) -> tuple[str, str]:
    """The exposure of a solution that a file is, or nothing; and what is to be told of it."""
    same = [name for name, file in known.items() if Path(file) == path]
    if same:
        return same[0], ""
    alike = [name for name, file in known.items() if stem(Path(file)) == stem(path)]
    if not alike or new:
        return "", ""
    near = [name for name in alike if Path(known[name]).parent.name == path.parent.name]
    if len(near) == 1 or len(alike) == 1:
        name = (near if len(near) == 1 else alike)[0]
        return name, f"{path} is taken for exposure {name}, which was read from {known[name]}"
    raise XpjaxError(
        f"{path} may be any of the exposures {alike} of the solution, by its name: give the file where it lay, or say "
        f"which it is with {say('exposure=', '--exposure')}; or that it is a new one with {say('new=True', '--new')}"
    )


def position_ids(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Negative int64 (n,) of positions [deg], to 0.36 mas: names of stars that no catalogue has."""
    east = np.round((np.asarray(ra, float) % 360) * 1e7).astype(np.int64)
    north = np.round((np.asarray(dec, float) + 90) * 1e7).astype(np.int64)
    return -((east << np.int64(31)) | north) - 1


def same_stars(ra: np.ndarray, dec: np.ndarray, frame: np.ndarray, radius: float) -> tuple[np.ndarray, int]:
    """The first detection (n,) of the star that each detection is of, and how many are ambiguous and stay alone.

    Detections [deg] within radius [arcsec] of each other, directly or through others, are one star, unless two of them
    are on the same frame (n,). First is by position, so that the order of the rows does not matter.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    n = len(ra)
    own = np.arange(n)
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(good) < 2:
        return own, 0
    tree = cKDTree(unit_vectors(ra[good], dec[good]))
    pairs = tree.query_pairs(2 * np.sin(np.deg2rad(radius / 3600) / 2), output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(good), len(good)))
    _, group = connected_components(links, directed=False)
    order = np.lexsort((dec[good], ra[good], group))
    first = np.r_[True, np.diff(group[order]) > 0]
    leader = order[first][np.cumsum(first) - 1]
    out = own.copy()
    out[good[order]] = good[leader]
    keys = np.stack([group, frame[good]], axis=1)
    _, inverse, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    clash = np.isin(group, group[count[inverse.ravel()] > 1])
    out[good[clash]] = good[clash]
    return out, int(clash.sum())


def detection_ids(name: str, part: str, n: int) -> np.ndarray:
    """Negative int64 (n,) of the rows of a table by its name and part, below all of `position_ids`; by splitmix64.

    They do not depend on what else is read. That any two of 10 million rows share one has a probability of 5e-5.
    """
    start = int.from_bytes(hashlib.blake2b(f"{name}\0{part}".encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        x = np.uint64(start) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.int64(_BELOW_POSITIONS) - (x >> np.uint64(4)).astype(np.int64)


def settle_stars(
    star: np.ndarray, unknown: np.ndarray, ra: np.ndarray, dec: np.ndarray, frame: np.ndarray, radius: float,
    own: np.ndarray,
) -> tuple[np.ndarray, int, int]:  # fmt: skip
    """Names (n,) of all stars: unknown ones (n,) are matched among themselves by position, or are each their own.

    Stars of integer ids get the negative number of `position_ids`, others its text; those without a position, and
    several at one place of one frame, get their own (n,), of `detection_ids`. Also how many stars were found among the
    unknown, and how many detections were ambiguous.
    """
    rows = np.flatnonzero(unknown)
    if not len(rows):
        return star, 0, 0
    leader, n_ambiguous = same_stars(ra[rows], dec[rows], frame[rows], radius)
    there = np.isfinite(ra[rows]) & np.isfinite(dec[rows])
    ids = np.zeros(len(rows), np.int64)
    ids[there] = position_ids(ra[rows][leader[there]], dec[rows][leader[there]])
    # Two detections at one place on one frame would have one name.
    lone = there & (leader == np.arange(len(rows)))
    _, inverse, count = np.unique(np.where(lone, ids, 0), return_inverse=True, return_counts=True)
    nameless = ~there | (lone & (count[inverse] > 1))
    ids[nameless] = own[rows][nameless]
    out = star.copy() if star.dtype.kind in "iu" else star.astype(object)
    out[rows] = ids if star.dtype.kind in "iu" else ids.astype(str)
    found = len(np.unique(ids[~nameless]))
    return (out if star.dtype.kind in "iu" else out.astype(str)), found, n_ambiguous


def rejoin_stars(star: np.ndarray, known: np.ndarray, radius: float) -> np.ndarray:
    """Names (n,) of stars in which those by position (`position_ids`) are what known names (n_star,) call them.

    Names by position are those of the first detection of a star that was read, and other tables have others. Each takes
    the name that lies nearest, within radius [arcsec], unless another of these names lies as near.
    """
    from scipy.spatial import cKDTree

    mine, theirs = np.unique(star), np.unique(known)
    (own, place), (other, there) = _positions(mine), _positions(theirs)
    if not len(own) or not len(other):
        return star
    tree = cKDTree(there)
    distance, nearest = tree.query(place, distance_upper_bound=2 * np.sin(np.deg2rad(radius / 3600) / 2))
    found = np.flatnonzero(np.isfinite(distance))
    _, first, count = np.unique(nearest[found], return_index=True, return_counts=True)
    found = found[first[count == 1]]  # two that would have one name keep their own
    names = mine.astype(np.result_type(mine, theirs))
    names[own[found]] = theirs[other[nearest[found]]]
    return names[np.searchsorted(mine, star)]


def _positions(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which names (n,) are of `position_ids`, and unit vectors (k, 3) of these."""
    if names.dtype.kind in "iu":
        number = names.astype(np.int64)
    else:
        text = np.char.startswith(names.astype(str), "-") & np.char.isdigit(np.char.lstrip(names.astype(str), "-"))
        number = np.array([int(n) if is_one else 0 for n, is_one in zip(names.tolist(), text.tolist(), strict=True)])
    which = np.flatnonzero((number < 0) & (number >= _BELOW_POSITIONS))
    code = -(number[which] + 1)
    return which, unit_vectors((code >> 31) / 1e7, (code & (2**31 - 1)) / 1e7 - 90)


def check_one_place(star: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> None:
    """Raise XpjaxError where names (n,) of stars are those of detections: positions [deg] of a name are far apart.

    More than a tenth of the names that are seen more than once lie more than FAR arcsec around their mean direction.
    """
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    name, number, count = np.unique(star[known], return_inverse=True, return_counts=True)
    place = unit_vectors(ra[known], dec[known])
    middle = np.stack([np.bincount(number, axis, len(name)) for axis in place.T], axis=1)
    middle = middle / np.linalg.norm(middle, axis=1)[:, None]
    off = np.rad2deg(np.linalg.norm(place - middle[number], axis=1)) * 3600
    far = np.zeros(len(name), bool)
    far[number[off > FAR]] = True
    often = count > 1
    if often.any() and far[often].mean() > 0.1:
        k = int(np.flatnonzero(far & often)[0])
        raise XpjaxError(
            f"columns.star does not tell stars: {int(far[often].sum()):,} of {int(often.sum()):,} names that come more "
            f"than once have positions more than {FAR:g} arcsec apart, such as {name[k]}; it may count the detections "
            "of each file: name a column of stars, or leave columns.star out, so that positions tell them"
        )
