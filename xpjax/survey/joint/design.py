"""The design of a joint solution for other rows than those it was solved for: frames and places are matched by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.terms import Term


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

    def rows(self, o: Observations, value: np.ndarray) -> tuple[Any, np.ndarray]:
        """Sparse rows (n, n_column) and offsets (n,): rows @ value + offset is what the terms add to magnitudes.

        value (n_column,): about which non-linear terms are linearized. NaN for places without data, and where a term
        needs a color or place that a row does not have.
        """
        rows, columns, values, offset = [], [], [], np.zeros(len(o))
        scale = self._scaling(o)
        for term in self.terms:
            prepared = term.prepare(o, scale)
            places = [self._matched(block) for block in prepared.blocks]
            slopes: list[list[Any]] = [[part.derivative for part in block.parts] for block in prepared.blocks]
            if not prepared.linear:
                found = [np.where(place >= 0, value[place], np.nan) for place in places]
                about = prepared.linearize([np.nan_to_num(one) for one in found])
                offset += about.added
                slopes = [[slope] for slope in about.slopes]
                for block, slope, one in zip(prepared.blocks, about.slopes, found, strict=True):
                    offset -= slope * one[block.index]
            for block, place, made in zip(prepared.blocks, places, slopes, strict=True):
                first = np.where(block.index >= 0, place[block.index], -1)
                for j, slope in enumerate(made):
                    column = first + j
                    lost = (first < 0) | np.isnan(value[column])
                    rows.append(np.arange(len(o)))
                    columns.append(np.where(lost, 0, column))
                    values.append(np.where(lost, np.nan, 1.0 if slope is None else slope))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(entries, shape=(len(o), len(value))), offset

    def _matched(self, block: Block) -> np.ndarray:
        """The first column (n_place,) of each place of a block in the solution, -1 for places that it does not have."""
        mine, start = self.block(block.name), self.columns(block.name).start
        known = {label: k for k, label in enumerate(mine.labels)}
        place = np.array([known.get(label, -1) for label in block.labels])
        return np.where(place >= 0, start + len(mine.parts) * place, -1)

    def _scaling(self, o: Observations) -> Scaling:
        """Scaled coordinates of other observations: those of the same detector."""
        boxes = dict(zip(self.frames.detector.tolist(), self.scaling.box, strict=True))
        none = np.full(4, np.nan)
        box = np.array([boxes.get(d, none) for d in o.frames.detector.tolist()]).reshape(-1, 4)
        return dataclasses.replace(self.scaling, box=box)
