"""Constraints: equations between the columns of a term that say what the data leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Observations
from xpjax.survey.joint.blocks import Block

FEW = 0.1
"""Measurements of a cell of a flat, in those of the middlemost, below which its mean is without the cell."""


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
    force : bool
        Hold it where data or priors contradict it by more than five errors too, which is refused otherwise.

    Notes
    -----
    Where data or priors determine what is fixed, a solution says so, and holds the constraint all the same; everything
    else gives way to one that they contradict, hence `force`. Cells of a flat with less than a tenth of the
    measurements of the others are left out of its mean, to which they would add their errors.

    Examples
    --------
    >>> xpjax.survey.joint.Constraint("zero_point", value=25.0)
    Constraint(term='zero_point', part=None, place=None, value=25.0, force=False)
    """

    term: str
    part: str | None = None
    place: str | None = None
    value: float = 0.0
    force: bool = False

    def describe(self, part: str | None = None, where: str = "") -> str:
        """The constraint in words: of a part, and of some places."""
        name = " ".join(filter(None, (self.term, self.part or part)))
        return f"{f'mean of {name}' if self.place is None else f'{name} of {self.place}'}{where} = {self.value:g}"

    def rows(self, block: Block, count: np.ndarray, group: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
        """Words, coefficients (n_column,) and places that are left out of each equation.

        count (n_column,): measurements; group (n_place,).
        """
        out, several = [], len(block.parts) > 1
        for part in (one.name for one in block.parts) if self.part is None else (self.part,):
            first = block.column(block.labels[0], part)
            for one in np.unique(group) if self.place is None else [0]:
                columns = first + len(block.parts) * np.flatnonzero(group == one)
                columns = (
                    columns[count[columns] > 0] if self.place is None else np.array([block.column(self.place, part)])
                )
                if not len(columns):
                    continue
                where = "" if self.place is not None or (group == one).all() else _shared(block, group == one)
                row, known = np.zeros(block.n_column), count[columns]
                most = known >= FEW * np.median(known) if self.place is None and block.group is not None else known >= 0
                row[columns[most]] = 1 / most.sum()
                out.append((self.describe(part if several else None, where), row, int((~most).sum())))
        return out


def _shared(block: Block, places: np.ndarray) -> str:
    """What some places (n_place,) of a block have in common, in words."""
    same = {name: np.unique(values[places]) for name, values in block.keys.items()}
    said = [f"{name} {values[0]}" for name, values in same.items() if len(values) == 1 and values[0]]
    return f" ({', '.join(said)})" if said else ""


@dataclasses.dataclass(frozen=True, repr=False)
class Held(Record):
    """The equations of constraints: words, coefficients (n_equation, n_column) and values (n_equation,).

    forced (n_equation,): held against data too. notes: what is to be told of them.
    """

    words: tuple[str, ...]
    coefficients: np.ndarray
    values: np.ndarray
    forced: np.ndarray
    notes: tuple[str, ...] = ()

    def __getitem__(self, some: np.ndarray) -> Held:
        """Some of the equations: a mask (n_equation,)."""
        words = tuple(word for word, mine in zip(self.words, some, strict=True) if mine)
        return Held(words, self.coefficients[some], self.values[some], self.forced[some], self.notes)


def equations_of(
    constraints: Sequence[Constraint], blocks: Sequence[Block], groups: Sequence[np.ndarray], count: np.ndarray
) -> Held:
    """The equations of constraints. Raises XpjaxError for a term that there is none of.

    groups: of each block, see `place_group`; count (n_column,): measurements, one where there are priors.
    """
    words, equations, values, forced, notes = [], [], [], [], []
    edges = np.cumsum([0, *(block.n_column for block in blocks)])
    names = [block.name for block in blocks]
    for one in constraints:
        if one.term not in names:
            raise XpjaxError(f"a constraint names {one.term!r}; terms are {names}")
        b = names.index(one.term)
        columns = slice(edges[b], edges[b + 1])
        for said, row, lost in one.rows(blocks[b], count[columns], groups[b]):
            whole = np.zeros(len(count))
            whole[columns] = row
            words.append(said)
            equations.append(whole)
            values.append(one.value)
            forced.append(one.force)
            if lost:
                notes.append(
                    f"{said}, without {lost:,} of {lost + np.count_nonzero(row):,} cells, which have less than a tenth "
                    "of the measurements of the others"
                )
    coefficients = np.array(equations).reshape(-1, len(count))
    return Held(tuple(words), coefficients, np.array(values), np.array(forced, bool), tuple(notes))


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
