"""Blocks of columns: what a term adds to the sparse design of a joint solution, and the places that its values have.

A block has one column for each of its parts at each of its places: a color term of second order on 30 frames has the
parts color_1 and color_2, 30 places, and 60 columns. `per` says which frames share a place; see `frame_groups`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.noise import NoisySlopes

FIELDS = ("exposure", "band", "detector", "night")
"""Fields of frames that `per` may name."""


@dataclasses.dataclass(frozen=True, repr=False)
class Part(Record):
    """A parameter of a term, which has a value at each place of the term's block.

    unit: of the value, as files have it; per: in words, where these say more, as in "mag/airmass". derivative (n,):
    of each row's magnitude with respect to the value, None for ones; a row where it is not finite cannot be used.
    prior: standard deviation about the mean, None for no prior. description: what the value is, in tables; "" for
    "Slope of the term moon", of its name.
    """

    name: str
    unit: str = "mag"
    derivative: np.ndarray | None = None
    prior: float | None = None
    mean: float = 0.0
    description: str = ""
    per: str = ""

    @property
    def in_unit(self) -> str:
        """The unit in words."""
        return self.per or self.unit

    def said(self, term: str) -> str:
        """What the value is, as a part of the term of this name."""
        return self.description or f"{self.name[0].upper()}{self.name[1:]} of the term {term}"


@dataclasses.dataclass(frozen=True, repr=False)
class Block(Record):
    """Columns of a design: part j of row i is in column index[i] * len(parts) + j of the block.

    index (n,): the place of each row, -1 where the term says nothing of it; labels: names of the places; keys: fields
    of frames that all frames of a place share, (n_place,) each; group (n_place,): places whose mean a constraint takes
    together, None: by band. of_reference: of a term that is, see `Term`. sigmas (n_place,): prior standard deviations
    of all parts at each place, in place of the parts' own. Raises XpjaxError for a prior that is not above zero.
    """

    name: str
    index: np.ndarray
    labels: tuple[str, ...]
    parts: tuple[Part, ...]
    keys: Mapping[str, np.ndarray]
    group: np.ndarray | None = None
    of_reference: bool = False
    sigmas: np.ndarray | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.prior is not None and not part.prior > 0:
                raise XpjaxError(
                    f"{self.name}: prior = {part.prior!r} must be a standard deviation above zero, or left out"
                )

    @property
    def n_column(self) -> int:
        """The number of columns."""
        return len(self.labels) * len(self.parts)

    @property
    def sigma(self) -> np.ndarray:
        """Prior standard deviations (n_column,), infinite where there is no prior."""
        if self.sigmas is not None:
            return np.repeat(np.asarray(self.sigmas, float), len(self.parts))
        return np.tile([np.inf if part.prior is None else float(part.prior) for part in self.parts], len(self.labels))

    @property
    def mean(self) -> np.ndarray:
        """Prior means (n_column,)."""
        return np.tile([float(part.mean) for part in self.parts], len(self.labels))

    def without_rows(self) -> Block:
        """The block without what it says of single rows."""
        parts = tuple(dataclasses.replace(part, derivative=None) for part in self.parts)
        return dataclasses.replace(self, index=np.empty(0, np.int32), parts=parts)

    def column_name(self, column: int) -> str:
        """The name of a column in messages."""
        k = len(self.parts)
        part = "" if k == 1 else f" {self.parts[column % k].name}"
        return f"{self.name}{part} of {self.labels[column // k]}"

    def column(self, label: str, part: str | None = None) -> int:
        """The column of a place and part. Raises ValueError, with what there is, for one that is none."""
        names = tuple(one.name for one in self.parts)
        part = names[0] if part is None else part
        for name, known, what in ((label, self.labels, "place"), (part, names, "part")):
            if name not in known:
                raise XpjaxError(f"{self.name} has no {what} {name!r}; it has {', '.join(known[:8])}, ...")
        return self.labels.index(label) * len(self.parts) + names.index(part)


def column_name(blocks: Sequence[Block], column: int) -> str:
    """The name of a column of all blocks, one after the other."""
    for block in blocks:
        if column < block.n_column:
            return block.column_name(column)
        column -= block.n_column
    raise IndexError(column)


@dataclasses.dataclass(frozen=True, repr=False)
class Groups(Record):
    """Frames that share values: index (n_frame,) of each frame's group, and names of the groups.

    keys: fields of frames that all frames of a group share, (n_group,) each.
    """

    index: np.ndarray
    labels: tuple[str, ...]
    keys: Mapping[str, np.ndarray]

    def block(self, name: str, o: Observations, *parts: Part) -> Block:
        """A block with a place for each group."""
        return Block(name, self.index[o.frame], self.labels, parts, self.keys)


def frame_groups(frames: Frames, per: str) -> Groups:
    """Frames that share values, in order of their first frame.

    per: "frame" (every frame apart), "all", or fields of frames joined by plus signs, as in "night+band", whose values
    say which frames belong together; with ":D" after it, frames D days apart have values of their own, as in
    "band+detector:30". Raises ValueError for a field that frames do not have.
    """
    fields, _, days = per.partition(":")
    if fields == "frame":
        names = tuple(frames.name(k) for k in range(len(frames)))
        keys = {name: getattr(frames, name) for name in FIELDS}
        return Groups(np.arange(len(frames), dtype=np.int32), names, keys)
    names = () if fields == "all" else tuple(fields.split("+"))
    if unknown := [name for name in names if name not in FIELDS]:
        raise XpjaxError(f'per = {per!r}: {unknown[0]!r} is not one of "frame", "all" and {FIELDS} joined by "+"')
    columns = [getattr(frames, name).astype(str) for name in names]
    if days:
        try:
            span = float(days)
        except ValueError:
            span = -1.0
        if not span > 0:
            raise XpjaxError(f"per = {per!r}: expected a number of days after the colon")
        if not np.isfinite(frames.time).all():
            raise XpjaxError(f"per = {per!r} needs the times of all exposures")
        columns.append(np.array([f"{block:g}" for block in np.floor(frames.time / span) * span]))
    known: dict[tuple[str, ...], int] = {}
    each = zip(*(c.tolist() for c in columns), strict=True) if columns else [()] * len(frames)
    index = np.array([known.setdefault(key, len(known)) for key in each], np.int32)
    labels = tuple(" ".join(part for part in key if part) or "all" for key in known)
    return Groups(index, labels, {name: np.array([key[k] for key in known]) for k, name in enumerate(names)})


def row_groups(o: Observations, per: str) -> Groups:
    """Rows that share values: as `frame_groups`, with "amplifier" among the fields of `per`; index (n,) of rows."""
    fields, colon, days = per.partition(":")
    others = "+".join(name for name in fields.split("+") if name != "amplifier") or "all"
    groups = frame_groups(o.frames, f"{others}{colon}{days}")
    group = groups.index[o.frame].astype(np.int64)
    n_amplifier = int(o.amplifier.max(initial=0)) + 1
    seen, index = np.unique(group * n_amplifier + o.amplifier, return_inverse=True)
    own, amplifier = seen // n_amplifier, seen % n_amplifier
    named = [*groups.keys] or others == "frame"
    labels = tuple(f"{groups.labels[k]} amplifier {a}" if named else f"amplifier {a}" for k, a in zip(own, amplifier))
    return Groups(index.astype(np.int32), labels, {name: values[own] for name, values in groups.keys.items()})


def scaled_places(o: Observations, scale: Scaling, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """x, y of some rows scaled to -1..1; as `Scaling.places`, and three times as quick where all boxes are equal."""
    if len(scale.box) and (scale.box == scale.box[0]).all():
        left, right, low, high = scale.box[0]
        u, v = (np.asarray(a[rows], float) for a in (o.x, o.y))
        return (2 * u - (left + right)) / (right - left), (2 * v - (low + high)) / (high - low)
    return scale.places(o.frame[rows], o.x[rows], o.y[rows])


def polynomials(o: Observations, scale: Scaling, order: int) -> dict[str, np.ndarray]:
    """T_i(u) T_j(v) (n,) at the rows' scaled places, i + j up to the order, by their names: "", "x", "y", "x2", ..."""
    tables = []
    for place in scaled_places(o, scale):
        table = [np.ones_like(place), place]
        for _ in range(order - 1):
            table.append(2 * place * table[-1] - table[-2])
        tables.append(table)
    orders = [(total - j, j) for total in range(order + 1) for j in range(total + 1)]
    names = (" ".join(f"{axis}{n}" if n > 1 else axis for axis, n in zip("xy", ij, strict=True) if n) for ij in orders)
    return {name: tables[0][i] * tables[1][j] for name, (i, j) in zip(names, orders, strict=True)}


@dataclasses.dataclass(frozen=True, repr=False)
class Linear(Record):
    """A term about some values: added (n,) [mag] there, and the derivative (n,) of each block's part.

    values: those asked for, with any beyond its range put at the end of it. A derived record may have more, such as
    `star_prior`.
    """

    values: list[np.ndarray]
    added: np.ndarray
    slopes: list[np.ndarray]
    star_prior: Any = None
    """Prior magnitudes of the stars, as `priors.StarPrior`, where they moved."""


class Prepared:
    """A term prepared for some observations: its blocks.

    A linear term needs no more. A term whose columns act non-linearly derives from this class, sets `linear` to False,
    has blocks of one part each, and says in `begin` and `linearize` what it adds about some values.
    """

    linear = True

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks

    def begin(self, star: np.ndarray, bands: tuple[str, ...]) -> Linear:
        """What the first call of `linearize` gets as `last`, with prior magnitudes of the stars that the term knows."""
        return Linear([], np.empty(0), [])

    def linearize(self, values: Sequence[np.ndarray], last: Any = None, magnitude: np.ndarray | None = None) -> Linear:
        """What the term adds about values (n_place,) of each block.

        last: what the last call returned; magnitude (n_star, n_band): the stars' magnitudes as the solution has them,
        None at first.
        """
        raise NotImplementedError

    def noise(self, last: Any, solved: np.ndarray) -> NoisySlopes | None:
        """Noise of derivatives that come from measurements; None for none.

        solved (n_star, n_band, n_band): covariance of the stars' magnitudes.
        """
        return None
