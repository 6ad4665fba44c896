"""Constraints: equations between the columns of a term that say what the data leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey import Observations
from xpjax.survey.joint.blocks import Block


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Fix what the data leave open: the mean of a term's values over its places, or its value at one place.

    Parameters
    ----------
    term : str
        Name of the term.
    part : str or None
        Part of the term, such as "color_1"; by default each part has an equation of its own.
    place : str or None
        The place whose value is fixed; by default the mean is, over the places of each band or the cells of each flat.
    value : float [unit of the part]
        What the mean, or the value at the place, is to be.

    Examples
    --------
    >>> xpjax.survey.joint.Constraint("zero_point", value=25.0)
    Constraint(term='zero_point', part=None, place=None, value=25.0)
    """

    term: str
    part: str | None = None
    place: str | None = None
    value: float = 0.0

    def rows(self, block: Block, seen: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
        """Coefficients (n_column,) of each equation; seen (n_column,): columns with data; group (n_place,)."""
        out = []
        for part in (one.name for one in block.parts) if self.part is None else (self.part,):
            first = block.column(block.labels[0], part)
            for one in np.unique(group) if self.place is None else [0]:
                columns = first + len(block.parts) * np.flatnonzero(group == one)
                columns = columns[seen[columns]] if self.place is None else np.array([block.column(self.place, part)])
                if len(columns):
                    out.append(np.zeros(block.n_column))
                    out[-1][columns] = 1 / len(columns)
        return out


def equations_of(
    constraints: Sequence[Constraint], blocks: Sequence[Block], groups: Sequence[np.ndarray], seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_equation, n_column) and values (n_equation,) of constraints.

    groups: of each block, see `place_group`; seen (n_column,): columns with data. Raises XpjaxError for a term that
    there is none of.
    """
    equations, values = [], []
    edges = np.cumsum([0, *(block.n_column for block in blocks)])
    names = [block.name for block in blocks]
    for one in constraints:
        if one.term not in names:
            raise XpjaxError(f"a constraint names {one.term!r}; terms are {names}")
        b = names.index(one.term)
        columns = slice(edges[b], edges[b + 1])
        for row in one.rows(blocks[b], seen[columns], groups[b]):
            whole = np.zeros(len(seen))
            whole[columns] = row
            equations.append(whole)
            values.append(one.value)
    return np.array(equations).reshape(-1, len(seen)), np.array(values)


def place_group(block: Block, o: Observations) -> np.ndarray:
    """The group (n_place,) of each place of a block: its own, or the band; places of several bands are one group."""
    if block.group is not None:
        return block.group
    names, band = np.unique(o.frames.band, return_inverse=True)
    n = len(block.labels)
    if len(names) == 1:
        return np.zeros(n, int)
    low, high = np.full(n, len(names)), np.full(n, -1)
    rows = block.index >= 0
    np.minimum.at(low, block.index[rows], band[o.frame[rows]])
    np.maximum.at(high, block.index[rows], band[o.frame[rows]])
    return np.where(low == high, low, -1)
