"""The design of a joint solution for other rows than those it was solved for: frames and places are matched by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record, concatenate_records
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import ExposureModel, Scaling, scaling
from xpjax.survey.joint.blocks import Block, Linear, Prepared
from xpjax.survey.joint.terms import Term

MOVES = 6
"""How often spectra are moved to the magnitudes of their stars: each time they are where a thousandth is left."""


@dataclasses.dataclass(frozen=True, repr=False)
class StarMagnitudes(Record):
    """Magnitudes [mag] and measurements used (n_star, n_band) of stars (n_star,), NaN without data.

    left_out (n_star, n_band): too few measurements to take part; floor (n_band,) [mag]: the error floor.
    """

    star: np.ndarray
    bands: tuple[str, ...]
    magnitude: np.ndarray
    n_used: np.ndarray
    left_out: np.ndarray
    floor: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Entries(Record):
    """What rows (n,) have of the columns of a solution: columns (n, k), -1 for none, and derivatives (n, k).

    observations: the rows on the solution's frames and then their own; offset (n,): what non-linear terms add beside;
    blocks (k,) and parts (k,): whose columns they are.
    """

    observations: Observations
    column: np.ndarray
    slope: np.ndarray
    offset: np.ndarray
    blocks: tuple[Block, ...]
    parts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Design(Record):
    """What a solution fitted: terms, the frames they were fitted on, scaled coordinates, and blocks without rows."""

    terms: tuple[Term, ...]
    frames: Frames
    scaling: Scaling
    blocks: tuple[Block, ...]

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

    @property
    def of_reference(self) -> np.ndarray:
        """Which columns (n_column,) are of terms of the reference."""
        return np.concatenate([np.full(block.n_column, block.of_reference) for block in self.blocks])

    def rows(self, o: Observations, value: np.ndarray) -> tuple[Any, np.ndarray]:
        """Sparse rows (n, n_column) and offsets (n,): rows @ value + offset is what the terms add to magnitudes.

        As `entries`, with NaN for columns that a row lacks or that have no data.
        """
        made, n = self.entries(o, value), len(o)
        column, slope = made.column, made.slope
        lost = (column < 0) | np.isnan(value[column])
        values, columns = np.where(lost, np.nan, slope), np.where(lost, 0, column)
        ends = np.arange(0, column.size + 1, column.shape[1])
        return sparse.csr_array((values.ravel(), columns.ravel(), ends), shape=(n, len(value))), made.offset

    def entries(self, o: Observations, value: np.ndarray, stars: StarMagnitudes | None = None) -> Entries:
        """What rows have of each term's columns.

        Terms of the reference have none: they are of the stars' prior magnitudes, not of the measurements.
        value (n_column,): about which non-linear terms are linearized; stars: where these take magnitudes, of a
        solution, as what moves spectra.
        """
        o = self.after_known_frames(o)
        scale, offset, blocks = self.scaling_of(o), np.zeros(len(o)), []
        columns: list[np.ndarray] = []
        slopes: list[np.ndarray] = []
        for term in self.terms:
            if term.of_reference:
                continue
            prepared = term.prepare(o, scale)
            places = [self._matched(block) for block in prepared.blocks]
            made: list[list[Any]] = [[part.derivative for part in block.parts] for block in prepared.blocks]
            if not prepared.linear:
                found = [np.where(place >= 0, value[place], np.nan) for place in places]
                about = _about(term, prepared, [np.nan_to_num(one) for one in found], o, stars)
                offset += about.added
                made = [[slope] for slope in about.slopes]
                for block, slope, one in zip(prepared.blocks, about.slopes, found, strict=True):
                    offset -= slope * np.nan_to_num(one)[block.index]
            blocks += [(block.without_rows(), part.name) for block in prepared.blocks for part in block.parts]
            for block, place, parts in zip(prepared.blocks, places, made, strict=True):
                first = np.where(block.index >= 0, place[block.index], -1)
                for j, slope in enumerate(parts):
                    columns.append(np.where(first >= 0, first + j, -1))
                    slopes.append(np.ones(len(o)) if slope is None else slope)
        shape = (len(o), 0)
        return Entries(
            o, np.stack(columns, axis=1) if columns else np.zeros(shape, int),
            np.stack(slopes, axis=1) if slopes else np.zeros(shape), offset,
            tuple(block for block, _ in blocks), tuple(part for _, part in blocks),
        )  # fmt: skip

    def after_known_frames(self, o: Observations) -> Observations:
        """The observations with the solution's frames before new ones: what terms count from, as a time, is theirs."""
        known = {self.frames.name(k): k for k in range(len(self.frames))}
        place = np.array([known.get(o.frames.name(k), -1) for k in range(len(o.frames))], int)
        new = np.flatnonzero(place < 0)
        place[new] = len(known) + np.arange(len(new))
        frames = concatenate_records([self.frames, o.frames[new]])
        return dataclasses.replace(o, frames=frames, frame=place[o.frame].astype(np.int32))

    def _matched(self, block: Block) -> np.ndarray:
        """The first column (n_place,) of each place of a block in the solution, -1 for places that it does not have."""
        mine, start = self.block(block.name), self.columns(block.name).start
        known = {label: k for k, label in enumerate(mine.labels)}
        place = np.array([known.get(label, -1) for label in block.labels])
        return np.where(place >= 0, start + len(mine.parts) * place, -1)

    def scaling_of(self, o: Observations, model: Any = None) -> Scaling:
        """Scaled coordinates of other observations: those of the same detector.

        Of detectors that the solution does not have: NaN, or those that the model means.
        """
        boxes = dict(zip(self.frames.detector.tolist(), self.scaling.box, strict=True))
        none = np.full(4, np.nan)
        if model is not None and not set(o.frames.detector.tolist()) <= set(boxes):
            own = scaling(o, ExposureModel(color_zero=self.scaling.color_zero), model.size).box
            boxes = {**dict(zip(o.frames.detector.tolist(), own, strict=True)), **boxes}
        box = np.array([boxes.get(d, none) for d in o.frames.detector.tolist()]).reshape(-1, 4)
        return dataclasses.replace(self.scaling, box=box)


def _about(
    term: Term, prepared: Prepared, values: list[np.ndarray], o: Observations, stars: StarMagnitudes | None
) -> Linear:
    """A non-linear term about values of its blocks, with spectra moved to the magnitudes that their stars have."""
    if not term.star_prior or stars is None:
        return prepared.linearize(values)
    chosen = np.flatnonzero(np.isin(stars.star, o.star))
    about = prepared.begin(stars.star[chosen], stars.bands)
    for _ in range(MOVES):
        about = prepared.linearize(values, about, stars.magnitude[chosen])
    return about
