"""What a joint solution found: columns of terms, star magnitudes, their covariances, and corrections of other rows."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.io.catalogue import write_bytes
from xpjax.survey import Frames, Observations, RowFlag, columns_home
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.terms import Block, Term, column_name
from xpjax.survey.joint.transmission import Transmission

FORMAT, VERSION = "xpjax joint solution", 1
BATCH = 512
"""Right-hand sides that are solved for at once."""


@dataclasses.dataclass(frozen=True, repr=False)
class HeldOut(Record):
    """What rows that were kept back are off by; arrays (n,) for all rows of the observations, NaN elsewhere.

    residual: the star's magnitude less the calibrated one; error: the standard deviation expected of it, of the
    measurement and the star's magnitude together. Stars kept back have the mean of their own rows as magnitudes;
    exposures kept back have their own columns fitted to the stars, and all else as the others found it.
    """

    residual: np.ndarray
    error: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Uncertainty(Record):
    """What covariances come from: inverse (right -> R^-1 right), and of slots their rows and own covariance."""

    inverse: Callable[[np.ndarray], np.ndarray]
    star_rows: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, repr=False)
class JointSolution(Record):
    """A joint solution.

    blocks: of all terms, without their rows; value (n_column,): their columns one after the other [mag, or mag per
    unit], NaN where a column has no data. star (n_star,) ids, bands; magnitude, n_used (n_star, n_band) of them: NaN
    without data; left_out (n_star, n_band): too few measurements to take part. residual (n,): star less calibrated
    magnitude; used, clipped (n,); flags (n,): RowFlag bits. floor (n_band,) [mag]. gauge: what constraints decide, and
    data do not. chi2 and degrees_of_freedom of the used rows; converged; passes; steps of conjugate gradients.
    """

    terms: tuple[Term, ...]
    frames: Frames
    scaling: Scaling
    blocks: tuple[Block, ...]
    value: np.ndarray
    star: np.ndarray
    bands: tuple[str, ...]
    magnitude: np.ndarray
    n_used: np.ndarray
    left_out: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    clipped: np.ndarray
    flags: np.ndarray
    floor: np.ndarray
    gauge: tuple[str, ...]
    chi2: float
    degrees_of_freedom: int
    converged: bool
    passes: int
    steps: int
    held_out: HeldOut | None
    uncertainty: Uncertainty

    def columns(self, name: str) -> slice:
        """The columns of a block. Raises ValueError for a name that is none."""
        start = 0
        for block in self.blocks:
            if block.name == name:
                return slice(start, start + block.n_column)
            start += block.n_column
        raise XpjaxError(f"no term {name!r}; there are {[block.name for block in self.blocks]}")

    def block(self, name: str) -> Block:
        """A block by its name."""
        self.columns(name)
        return next(block for block in self.blocks if block.name == name)

    def places(self, name: str, part: str | None = None) -> np.ndarray:
        """The column (n_place,) of a part, by default the first, at every place of a block."""
        block, columns = self.block(name), self.columns(name)
        first = block.column(block.labels[0], part)
        return np.arange(columns.start + first, columns.stop, len(block.parts))

    def term(self, name: str, part: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors (n_place,) of a part of a block, in the order of its labels."""
        columns = self.places(name, part)
        return self.value[columns], self.error(columns)

    def error(self, columns: np.ndarray) -> np.ndarray:
        """Standard errors (k,) of columns; NaN of those without data."""
        out = np.empty(len(columns))
        for start in range(0, len(columns), BATCH):
            some = columns[start : start + BATCH]
            right = np.zeros((len(self.value), len(some)))
            right[some, np.arange(len(some))] = 1.0
            variance = self.uncertainty.inverse(right)[some, np.arange(len(some))]
            out[start : start + BATCH] = np.sqrt(np.maximum(variance, 0.0))
        return np.where(np.isnan(self.value[columns]), np.nan, out)

    def covariance(self, combinations: Any = None, stars: Sequence[tuple[Any, str]] = ()) -> np.ndarray:
        """Covariance (k, k) of combinations of columns (n_combination, n_column), then of stars' magnitudes (id, band).

        cov(p) = R^-1 less what constraints fix, cov(M) = D^-1 + D^-1 B cov(p) B' D^-1. Raises ValueError for stars that
        are not in the solution, and for combinations with columns that have no data.
        """
        n = len(self.value)
        if combinations is None:
            rows = np.zeros((0, n))
        else:
            rows = np.atleast_2d(combinations.toarray() if sparse.issparse(combinations) else combinations)
        if rows.shape[1] != n:
            raise XpjaxError(f"combinations have {rows.shape[1]} columns, the solution {n}")
        missing = np.flatnonzero((rows != 0).any(axis=0) & np.isnan(self.value))
        if len(missing):
            raise XpjaxError(f"{self.column_name(int(missing[0]))} has no data, and so no covariance")
        slots = np.array([self._slot(*one) for one in stars], int)
        own, alike = self.uncertainty.star_rows(slots)
        whole = np.concatenate([rows, own])
        out = whole @ self.uncertainty.inverse(whole.T)
        out[len(rows) :, len(rows) :] += alike
        return 0.5 * (out + out.T)

    def star_errors(self) -> np.ndarray:
        """Standard errors (n_star, n_band) of stars, of measurements and terms together; NaN without magnitude."""
        known = np.flatnonzero(np.isfinite(self.magnitude.ravel()))
        out = np.full(self.magnitude.size, np.nan)
        for start in range(0, len(known), BATCH):
            some = known[start : start + BATCH]
            rows, own = self.uncertainty.star_rows(some)
            variance = np.diagonal(own) + np.einsum("ij,ji->i", rows, self.uncertainty.inverse(rows.T))
            out[some] = np.sqrt(np.maximum(variance, 0.0))
        return out.reshape(self.magnitude.shape)

    def _slot(self, star: Any, band: str) -> int:
        place = np.flatnonzero(self.star == star)
        if not len(place) or band not in self.bands or np.isnan(self.magnitude[place[0], self.bands.index(band)]):
            raise XpjaxError(f"star {star!r} in band {band!r} has no magnitude in the solution")
        return int(place[0]) * len(self.bands) + self.bands.index(band)

    def column_name(self, column: int) -> str:
        """What a column is, in words."""
        return column_name(self.blocks, column)

    def design(self, observations: Observations) -> tuple[Any, np.ndarray]:
        """Sparse rows (n, n_column) and offsets (n,): design @ value + offset is what the terms add to other rows.

        Frames and places are matched by name; NaN for those without data, and where a term needs a color or place that
        a row does not have.
        """
        o = observations
        scale = self._scaling(o)
        rows, columns, values, offset = [], [], [], np.zeros(len(o))
        for term in self.terms:
            prepared = term.prepare(o) if isinstance(term, Transmission) else None
            blocks = prepared.blocks if prepared is not None else term.blocks(o, scale)
            matched = []
            for block in blocks:
                mine, start = self.block(block.name), self.columns(block.name).start
                known = {label: k for k, label in enumerate(mine.labels)}
                matched.append(start + len(mine.parts) * np.array([known.get(label, -1) for label in block.labels]))
            parts = [block.values for block in blocks]
            if prepared is not None:
                found = [np.where(m >= 0, self.value[m], np.nan) for m in matched]
                added, slopes = prepared.evaluate([np.nan_to_num(f) for f in found])
                offset += added
                parts = [(slope,) for slope in slopes]
                for block, slope, f in zip(blocks, slopes, found, strict=True):
                    offset -= slope * f[block.index]
            for block, place, made in zip(blocks, matched, parts, strict=True):
                first = np.where(block.index >= 0, place[block.index], -1)
                for j, value in enumerate(made):
                    column = first + j
                    lost = (first < 0) | np.isnan(self.value[column])
                    rows.append(np.arange(len(o)))
                    columns.append(np.where(lost, 0, column))
                    values.append(np.where(lost, np.nan, 1.0 if value is None else value))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(len(o), len(self.value))), offset

    def _scaling(self, o: Observations) -> Scaling:
        """Scaled coordinates of other observations: those of the same detector."""
        boxes = dict(zip(self.frames.detector.tolist(), self.scaling.box, strict=True))
        none = np.full(4, np.nan)
        box = np.array([boxes.get(d, none) for d in o.frames.detector.tolist()]).reshape(-1, 4)
        return dataclasses.replace(self.scaling, box=box)

    def correction(self, observations: Observations, *, errors: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """What the terms add to instrumental magnitudes of rows (n,), of these or other stars, and its errors [mag].

        NaN where `design` has NaN. Without errors these are NaN, and nothing is solved for them.
        """
        design, offset = self.design(observations)
        added = design @ np.nan_to_num(self.value) + offset
        error = np.full(len(added), np.nan)
        good = np.flatnonzero(np.isfinite(added)) if errors else np.empty(0, int)
        for start in range(0, len(good), BATCH):
            some = good[start : start + BATCH]
            dense = design[some].toarray()
            variance = np.einsum("ij,ji->i", dense, self.uncertainty.inverse(dense.T))
            error[some] = np.sqrt(np.maximum(variance, 0.0))
        return added, error

    def parameters(self) -> Catalogue:
        """A row for every column of every term: term, place, part, value and error."""
        names = [(b.name, label, part) for b in self.blocks for label in b.labels for part in b.parts]
        term, place, part = (np.array(column) for column in zip(*names, strict=True))
        columns = {
            "term": term, "place": place, "part": part, "value": self.value,
            "error": self.error(np.arange(len(self.value))),
        }  # fmt: skip
        return Catalogue(columns)

    def stars(self) -> Catalogue:
        """A row for every star in every band: magnitude, error, measurements used, and whether it took no part."""
        n, m = self.magnitude.shape
        columns = {
            "star": np.repeat(self.star, m), "band": np.tile(np.array(self.bands), n),
            "magnitude": self.magnitude.ravel(), "magnitude_error": self.star_errors().ravel(),
            "n_used": self.n_used.ravel(), "left_out": self.left_out.ravel(),
        }  # fmt: skip
        return Catalogue(columns, {"magnitude": "mag", "magnitude_error": "mag"})

    def calibrated(self, observations: Observations) -> Catalogue:
        """The rows that were solved for, with calibrated magnitudes, residuals and flags."""
        o, frames = observations, observations.frames
        place = dict(zip(self.star.tolist(), range(len(self.star)), strict=True))
        star = np.array([place.get(s, -1) for s in o.star.tolist()])
        band = np.array([self.bands.index(b) for b in frames.band.tolist()])[o.frame]
        truth = np.where(star >= 0, self.magnitude[star, band], np.nan)
        columns: dict[str, np.ndarray] = {
            "star": o.star, "exposure": frames.exposure[o.frame], "band": frames.band[o.frame],
            "magnitude": truth - self.residual, "magnitude_error": o.magnitude_error, "star_magnitude": truth,
            "residual": self.residual, "used": self.used, "status": self.flags,
            "quality": _described(self.flags),
        }  # fmt: skip
        home, units = columns_home(o, columns)
        units |= dict.fromkeys(("magnitude", "magnitude_error", "star_magnitude", "residual"), "mag")
        return Catalogue({**columns, **home}, units)


def write_joint(
    path: Path, solution: JointSolution, record: Mapping[str, Any], *, covariance: bool = True, overwrite: bool = False
) -> None:
    """All columns of a solution as HDF5: names, values, errors, star magnitudes, and the covariance of the columns.

    Raises FileExistsError where the file is there.
    """
    import h5py

    if path.exists() and not overwrite:
        raise FileExistsError(f"the output {path} exists; name another, or say overwrite")
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["record"] = json.dumps(dict(record), default=str)
        names = [solution.column_name(k).encode() for k in range(len(solution.value))]
        file["column"], file["value"] = np.array(names, "S"), solution.value
        if covariance:
            known = np.flatnonzero(np.isfinite(solution.value))
            whole = np.full((len(names), len(names)), np.nan)
            rows = np.zeros((len(known), len(names)))
            rows[np.arange(len(known)), known] = 1.0
            whole[np.ix_(known, known)] = solution.covariance(rows)
            file.create_dataset("covariance", data=whole, compression="gzip", shuffle=True)
        star = solution.star if solution.star.dtype.kind in "iu" else solution.star.astype("S")
        file["star"], file["band"] = star, np.array(solution.bands, "S")
        file["magnitude"], file["n_used"], file["floor"] = solution.magnitude, solution.n_used, solution.floor
        file["gauge"] = np.array([words.encode() for words in solution.gauge] or [b""], "S")
    write_bytes(path, memory.getvalue())


def _described(flags: np.ndarray) -> np.ndarray:
    """Names of the bits of each row."""
    kinds, inverse = np.unique(flags, return_inverse=True)
    return np.array([RowFlag.describe(int(bits)) for bits in kinds])[inverse]
