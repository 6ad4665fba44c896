"""XP spectra as the standards of a survey: in files, in a store, or from the Gaia archive.

Positions and columns of all stars of the field come first, to be matched; spectra with their covariances are taken of
the stars that are matched alone. Of a store only the pixels of the field are read, and of several files what lies in
the field is kept.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.sky import cell_centers, cells_of, pixel_centers
from xpjax.io.tables import Table, open_table
from xpjax.survey import unit_vectors
from xpjax.survey.reading.sections import IN_MEMORY, StandardStars
from xpjax.synthetic import gaia_system, photometry
from xpjax.xp import SourceTable, Store, XPCoefficients, concatenate, fetch, is_hats, is_store, open_store, read

OF_STARS = (
    *("ra", "dec", "pmra", "pmdec", "ref_epoch"),
    *("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp"),
)
"""Columns of a table of stars that go with their spectra, beside those that are asked for."""
LEVEL = 9
"""HEALPix level of the pixels of a field, of 6.9 arcmin; stars move by less than one."""
APART = 0.5
"""Detections further apart [deg] are of different fields, which the archive is asked for one by one."""
LARGEST = 5.0
"""Radius [deg] of the largest field that is fetched."""
ROOM = 1.1
"""A field is fetched with a radius larger by this factor, so that dithers of later exposures lie in it."""
IN_FOLDER = re.compile(r"^[^._].*[.](parquet|csv|ecsv|fits?|vot|votable|xml|avro|h5|hdf5)([.](gz|zip|bz2|xz))?$")
"""What files of spectra in a folder are called."""
KEPT = re.compile(r"gaia_xp_([\d.]+)_([+-][\d.]+)_([\d.]+)\.parquet")
"""Fetched fields by their names: ra, dec and radius [deg]."""


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a survey's detections are: pixels of LEVEL on the sky, or the identifiers of their stars."""

    pixels: np.ndarray | None = None
    ids: np.ndarray | None = None

    @property
    def with_rim(self) -> np.ndarray:
        """The pixels and their neighbors: stars move, and lie near the edges of pixels."""
        from astropy_healpix.core import neighbours

        assert self.pixels is not None
        around = neighbours(self.pixels, 1 << LEVEL, order="nested")
        return np.unique(np.concatenate([self.pixels, around[around >= 0]]))

    def has(self, table: SourceTable) -> np.ndarray:
        """Which sources (n,) may be of the field: by positions where there are some, else by source_id."""
        if self.ids is not None:
            return np.isin(table.source_id, self.ids)
        pixel = cells_of(*positions_of(table), 1 << LEVEL)
        return np.isin(pixel, self.with_rim)

    def cones(self) -> list[tuple[float, float, float]]:
        """Cones [deg] that hold the pixels, one for each part of the field. Raises XpjaxError for a large one."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree

        assert self.pixels is not None
        place = unit_vectors(*cell_centers(self.pixels, 1 << LEVEL))
        pairs = cKDTree(place).query_pairs(np.radians(APART), output_type="ndarray")
        links = coo_matrix((np.ones(len(pairs)), pairs.T), (len(place), len(place)))
        out = []
        n_part, part_of = connected_components(links, directed=False)
        for part in range(n_part):
            mine = place[part_of == part]
            middle = mine.mean(axis=0) / np.linalg.norm(mine.mean(axis=0))
            far = 2 * np.degrees(np.arcsin(np.linalg.norm(mine - middle, axis=1).max() / 2)) + 0.1
            if far > LARGEST:
                raise XpjaxError(
                    f"the detections span {2 * far:.0f} deg, and fetch = true takes fields of up to {2 * LARGEST:g}: "
                    "calibrate field by field, or name a store of spectra as [standards] spectra (xpjax store ingest)"
                )
            a, d = np.degrees(np.arctan2(middle[1], middle[0])) % 360, np.degrees(np.arcsin(middle[2]))
            out.append((float(a), float(d), float(far)))
        return out


@dataclasses.dataclass(frozen=True)
class FieldSpectra:
    """XP spectra that may be of the detections.

    stars: all of them, each once, without errors; parts: where spectra with errors are, in tables and stores.
    """

    stars: SourceTable
    parts: tuple[SourceTable | Store, ...]
    notes: tuple[str, ...] = ()

    def of(self, source_ids: np.ndarray) -> SourceTable:
        """The spectra of these stars with errors and correlations where there are some, in any order."""
        left, found = np.intersect1d(source_ids, self.stars.source_id), []
        for part in self.parts:
            if isinstance(part, Store):
                own = _selected(part, source_ids=left) if len(left) else self.stars[:0]
            else:
                place = places_of(left, part.source_id)
                own = part[place[place >= 0]]
            if len(own):
                found.append(own)
                left = np.setdiff1d(left, own.source_id)
        if not found:
            return self.stars[:0]
        return found[0] if len(found) == 1 else concatenate(found, self.stars.origin)

    def beside(self, table: Table, name: str, wanted: Iterable[str]) -> FieldSpectra:
        """The same with columns of a table of stars, joined by the identifiers in its column `name`.

        Raises XpjaxError where no identifier is that of a spectrum.
        """
        place = places_of(self.stars.source_id, table.column(name, "[standards] id").ids().value)
        rows = np.flatnonzero(place >= 0)
        if not len(rows):
            raise XpjaxError(
                f"[standards] file: no {name} of {table.origin} is a source_id of {self.stars.origin}: name the column "
                "of Gaia's identifiers as [standards] id"
            )
        have = [one for one in dict.fromkeys([*OF_STARS, *wanted]) if one in table and one != name]
        columns = {one: table.column(one).plain()[place[rows]] for one in have}
        joined = dataclasses.replace(self.stars[rows], columns={**self.stars[rows].columns, **columns})
        return dataclasses.replace(self, stars=joined, notes=(*self.notes, *table.notes))

    def table(self) -> Table:
        """Columns of the stars; bp_rp and phot_g_mean_mag are of the spectra where the columns do not say."""
        stars = self.stars
        columns = {"source_id": stars.source_id, **{n: c for n, c in stars.columns.items() if np.ndim(c) == 1}}
        given = open_table(columns)

        def numbers(name: str) -> np.ndarray:
            return given.column(name).numbers("magnitude") if name in given else np.full(len(stars), np.nan)

        g, color = numbers("phot_g_mean_mag"), numbers("bp_rp")
        color = np.where(np.isfinite(color), color, numbers("phot_bp_mean_mag") - numbers("phot_rp_mean_mag"))
        lacking = np.flatnonzero(~np.isfinite(g + color))
        if len(lacking):
            seen = photometry(stars[lacking], gaia_system(stars.release), errors=False, float64=True)
            for own, made in ((g, seen["G"]), (color, seen["BP"] - seen["RP"])):
                own[lacking] = np.where(np.isfinite(own[lacking]), own[lacking], made)
        out = open_table({**columns, "phot_g_mean_mag": g, "bp_rp": color})
        out.origin = stars.origin
        out.notes = list(self.notes)
        if len(lacking):
            out.notes.append(f"BP - RP or G of {len(lacking):,} of {len(stars):,} stars are those of their spectra")
        return out


def needs_field(said: StandardStars) -> bool:
    """Whether it must be known where the detections are before spectra are read."""
    one = isinstance(said.spectra, str | Path) and not re.search(r"[*?]", str(said.spectra))
    return bool(said.fetch) or not (one and Path(said.spectra).suffix)


def open_spectra(said: StandardStars, folder: Path, field: Field | None) -> FieldSpectra:
    """The spectra that [standards] names. Raises XpjaxError for files that are not there, or of transits."""
    notes: list[str] = []
    items = fetched_files(said, folder, field, notes) if said.fetch else _listed(said.spectra, folder)
    parts = [one for one in (_part(item, field) for item in items) if one is not None]
    stars = [_stars(part, field) for part in parts]
    if not parts or not sum(map(len, stars)):
        raise XpjaxError(
            f"no spectrum of {_called(items)} lies in the field of the detections: check the positions of both, or the "
            "identifiers in columns.star"
        )
    whole = stars[0] if len(stars) == 1 else concatenate(stars, f"{stars[0].origin} and {len(stars) - 1} more")
    if whole.is_epoch:
        raise XpjaxError(f"{whole.origin} has epoch spectra: standards are made of mean spectra, name these")
    _, first = np.unique(whole.source_id, return_index=True)
    first = np.sort(first[whole.source_id[first] > 0])
    if len(first) < len(whole):
        notes.append(
            f"{whole.origin}: {len(whole) - len(first):,} spectra are repeated, or without source_id: left out"
        )
        whole = whole[first]
    return FieldSpectra(whole, tuple(parts), tuple(notes))


def _listed(spectra: Any, folder: Path) -> list[Any]:
    """The files, stores and tables that an entry names. Raises XpjaxError for what is not there."""
    out: list[Any] = []
    for one in spectra if isinstance(spectra, list | tuple) else [spectra]:
        if not isinstance(one, str | Path):
            out.append(one)
            continue
        if one == IN_MEMORY:
            raise XpjaxError(
                "the XP spectra of the solution were in memory: give "
                + say("config=", "--config")
                + " with [standards] spectra, a file of them"
            )
        path = folder / Path(one).expanduser()
        found = [path]
        if re.search(r"[*?]", str(one)) and not path.exists():
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not found or not found[0].exists():
            raise XpjaxError(
                f"no file {path} with the spectra of [standards]: mend the name, or fetch them with `xpjax fetch` or "
                "fetch = true"
            )
        out += [file for one in found for file in _files_in(one)]
    return out


def _files_in(path: Path) -> list[Path]:
    """A file, a store or a HATS catalogue as it is, and the files in any other folder. Raises XpjaxError for none."""
    if not path.is_dir() or is_store(path) or is_hats(path):
        return [path]
    found = sorted(file for file in path.rglob("*") if IN_FOLDER.search(file.name.lower()) and file.is_file())
    if not found:
        raise XpjaxError(
            f"{path} is a folder without spectra: expected Parquet, CSV, FITS, VOTable, Avro or HDF5 files in it, a "
            "store (`xpjax store ingest`) or a HATS catalogue"
        )
    return found


def _called(items: Sequence[Any]) -> str:
    names = [item.name if isinstance(item, Path) else "memory" for item in items]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _part(item: Any, field: Field | None) -> SourceTable | Store | None:
    """A store, or the sources of a file that may be of the field; None for none."""
    if isinstance(item, Path) and is_store(item):
        return open_store(item)
    table = read(item)
    if field is None:
        return table
    rows = np.flatnonzero(field.has(table))
    return table[rows] if len(rows) else None


def _stars(part: SourceTable | Store, field: Field | None) -> SourceTable:
    """The stars of a part, without errors."""
    if isinstance(part, Store):
        if field is None:
            return part.read(errors=False, correlations=False)
        known = {"source_ids": field.ids} if field.ids is not None else {"healpix": (LEVEL, field.with_rim)}
        return _selected(part, errors=False, correlations=False, **known)
    value = XPCoefficients(part.coefficients.value, release=part.release)
    return dataclasses.replace(part, coefficients=value)


def _selected(store: Store, **conditions: Any) -> SourceTable:
    """The sources of a store that meet conditions; that some ids are not in it is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return store.select(**conditions)


def positions_of(table: SourceTable) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) [deg] of sources by their columns, else the centers of the pixels that their ids begin with."""
    if not {"ra", "dec"} <= {*table.columns}:
        return pixel_centers(table.source_id)
    ra: Any = np.ma.asarray(table.columns["ra"], float)
    dec: Any = np.ma.asarray(table.columns["dec"], float)
    return np.ma.filled(ra, np.nan), np.ma.filled(dec, np.nan)


# --- the archive


def fetched_files(said: StandardStars, folder: Path, field: Field | None, notes: list[str]) -> list[Path]:
    """Files of the spectra of a field beside the configuration; what is not there is fetched first."""
    assert field is not None
    home = folder if said.fetch is True else folder / str(said.fetch)
    if field.ids is not None:
        wanted = np.sort(field.ids)
        name = hashlib.blake2b(wanted.tobytes(), digest_size=6).hexdigest()
        return [_kept(home / f"gaia_xp_{name}.parquet", wanted, notes)]
    out = []
    for cone in field.cones():
        there = [path for path in sorted(home.glob("gaia_xp_*.parquet")) if _covers(path, cone)]
        ra, dec, radius = *cone[:2], ROOM * cone[2]
        name = f"gaia_xp_{ra:.4f}_{dec:+.4f}_{radius:.4f}.parquet"
        out.append(_kept(there[0] if there else home / name, (ra, dec, radius), notes))
    return out


def _covers(path: Path, cone: tuple[float, float, float]) -> bool:
    """Whether a file that was fetched for a cone holds another cone [deg]."""
    found = KEPT.fullmatch(path.name)
    if found is None:
        return False
    ra, dec, radius = (float(one) for one in found.groups())
    a, d, b, e = np.radians([cone[0], cone[1], ra, dec])
    h = np.sin((d - e) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((a - b) / 2) ** 2
    return bool(np.degrees(2 * np.arcsin(np.sqrt(min(h, 1.0)))) + cone[2] <= radius)


def _kept(path: Path, wanted: Any, notes: list[str]) -> Path:
    """The file, fetched unless it is there, as a whole; a note tells which."""
    if path.exists():
        notes.append(f"spectra of {path.name}, fetched before")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    done = fetch(wanted, output=path)
    assert not isinstance(done, SourceTable)
    notes.append(f"{done.found:,} spectra fetched from the Gaia archive into {path.name}")
    return path


def gaia_ids(ids: np.ndarray) -> bool:
    """Whether identifiers (n,) look like Gaia's source_id: integers, most of them beyond any count of detections."""
    return bool(ids.dtype.kind in "iu" and len(ids) and np.median(ids) > 1 << 33)
