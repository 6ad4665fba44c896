"""Fitted parameters of a transmission, on frames, amplifiers and over the field; and passbands at every place.

What a parameter of the chain is changed by on row i, at x, y of the detector, is

    p_i = p_0 + sum over parts p_k b_k(x, y)

with values p_0, p_k that frames (or amplifiers) share. Parts of the field are r^2, r^4, ... where light comes from all
sides alike, r the distance from the optical center: an interference filter that it crosses at an angle theta has its
passband at lambda_0 sqrt(1 - (sin theta / n)^2), n its effective index. Or they are polynomials in x and y.

A row's passband then depends on its place, and a projection a row would be too many: they are smooth in the parameters,
so that those at a few Chebyshev nodes of each parameter that varies, over the range that it has on a frame, give those
of all its rows by interpolation. A frame with shift and scale costs 32 projections, whatever the number of its stars.
Of shifts within 5 nm either way and scales within 2 % 0.01 mmag are lost at most in bands of 20 nm and more, in those
of 10 nm 0.2 mmag for all but one in a hundred stars.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block, Groups, Part, frame_groups, polynomials, row_groups
from xpjax.survey.joint.terms import chebyshev
from xpjax.synthetic import RANGES, TransmissionChain, parameter_meaning

FIELDS = ("radial", "polynomial")
"""Forms of a field."""
NODES, FEW = {"filter_shift": 8}, 4
"""Nodes of parameters that vary within frames, and of all others."""
MOST_VARYING = 3
"""Parameters of a term that may vary within frames."""
NARROWEST = 0.1
"""Least factor on the width of a filter."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Fit a parameter of a transmission chain, as a change from its value there.

    Parameters
    ----------
    per : str
        What shares a value: "frame", "all", or fields of frames such as "night"; ":30" for 30 days. "amplifier" may be
        one of the fields, as in "band+amplifier".
    prior : float or None [unit of the parameter]
        Prior standard deviation about no change; none by default.
    field : str or None
        How the parameter varies over the detector: "radial", "polynomial", or not at all.
    order : int or None
        Largest power of the radius (even), or total order of the polynomials; 2 by default.
    center : tuple of float or None [pixel]
        x and y of the optical center of a radial field; by default the middle of the detector.
    field_prior : float or None [unit of the parameter]
        Prior standard deviation of each part of the field about zero; none by default.

    Raises
    ------
    XpjaxError
        If the field or its order is not known, something is said of a field that there is none of, or a prior is not
        above zero.

    Notes
    -----
    A radial field has the parts r2, r4, ...: powers of the distance from the center in units of half the detector's
    diagonal, so that they sum up to the change from the center to a corner. A polynomial field has the Chebyshev parts
    x, y, x2 = 2 x^2 - 1, x y, ... of places scaled to -1..1. The value without a part is that at the center of a radial
    field; of a polynomial field it is the constant, to which x2 and y2 add -1 each at the center of the detector.

    Examples
    --------
    >>> xpjax.survey.joint.Parameter("night", prior=3.0)
    Parameter(per='night', prior=3.0)
    >>> xpjax.survey.joint.Parameter("band", prior=2.0, field="radial", order=4)
    Parameter(per='band', prior=2.0, field='radial', order=4)
    """

    per: str = "all"
    prior: float | None = None
    field: str | None = None
    order: int | None = None
    center: tuple[float, float] | None = None
    field_prior: float | None = None

    def __post_init__(self) -> None:
        for name in ("prior", "field_prior"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise XpjaxError(f"{name} = {value!r} must be a standard deviation above zero, or left out")
        if self.field is None:
            said = [name for name in ("order", "center", "field_prior") if getattr(self, name) is not None]
            if said:
                raise XpjaxError(f'{said[0]} of a parameter has no effect without field = "radial" or "polynomial"')
            return
        if self.field not in FIELDS:
            raise XpjaxError(f'field of a parameter is "radial" or "polynomial", not {self.field!r}')
        radial, order = self.field == "radial", 2 if self.order is None else self.order
        known = (2, 4, 6, 8) if radial else (1, 2, 3, 4, 5, 6)
        if isinstance(order, bool) or order not in known:
            raise XpjaxError(f"order of a {self.field} field is one of {known}, not {order!r}")
        if self.center is not None and not radial:
            raise XpjaxError("center has no effect on a polynomial field: leave it out")
        if self.center is not None and not (len(self.center) == 2 and np.isfinite(self.center).all()):
            raise XpjaxError(f"center of a radial field is x and y [pixel], not {self.center!r}")

    def __repr__(self) -> str:
        said = self.said()
        return f"Parameter({', '.join(f'{name}={said[name]!r}' for name in said | {'prior': 0} if name in said)})"

    def said(self) -> dict[str, object]:
        """The fields, without those of a field that there is none of."""
        every = dataclasses.asdict(self)
        return {name: value for name, value in every.items() if value is not None or name in ("per", "prior")}

    @property
    def by_amplifier(self) -> bool:
        """Whether amplifiers have values of their own."""
        return "amplifier" in self.per.partition(":")[0].split("+")

    def basis(self, o: Observations, scale: Scaling) -> dict[str, np.ndarray]:
        """The parts (n,) of the field at the places of rows, by name."""
        order = self.order or 2
        if self.field == "polynomial":
            return {name: part for name, part in polynomials(o, scale, order).items() if name}
        if self.field is None:
            return {}
        left, right, low, high = scale.box[o.frame].T
        x, y = (0.5 * (left + right), 0.5 * (low + high)) if self.center is None else self.center
        square = 4 * ((o.x - x) ** 2 + (o.y - y) ** 2) / ((right - left) ** 2 + (high - low) ** 2)
        return {f"r{power}": square ** (power // 2) for power in range(2, order + 1, 2)}


@dataclasses.dataclass(frozen=True, repr=False)
class FittedParameter(Record):
    """A parameter of the chain on some observations.

    groups: what shares a value, of frames, or of rows where amplifiers do; low, high: what changes keep it in its
    range; basis: parts (n,) of its field, of this form, by name; prior, field_prior: standard deviations.
    """

    name: str
    field: str | None
    groups: Groups
    low: float
    high: float
    by_amplifier: bool
    basis: Mapping[str, np.ndarray]
    prior: float | None
    field_prior: float | None

    @classmethod
    def of(
        cls, name: str, one: Parameter, chain: TransmissionChain, o: Observations, scale: Scaling
    ) -> FittedParameter:
        """A parameter of a chain on observations."""
        own = float(np.mean(np.asarray(chain.parameters[name])))
        low, high = RANGES.get(name, (-np.inf, np.inf))
        if name == "filter_scale":
            low = NARROWEST
        if name == "airmass":  # about the frame's own
            own = float(np.nanmin(o.frames.airmass, initial=own))
        groups = row_groups(o, one.per) if one.by_amplifier else frame_groups(o.frames, one.per)
        basis = one.basis(o, scale)
        return cls(
            name, one.field, groups, low - own, high - own, one.by_amplifier, basis, one.prior,
            one.field_prior,
        )  # fmt: skip

    @property
    def n_part(self) -> int:
        """Its parts, each of which is a block of columns: the constant and those of the field."""
        return 1 + len(self.basis)

    @property
    def varies(self) -> bool:
        """Whether it has several values on a frame."""
        return self.by_amplifier or bool(self.basis)

    @property
    def nodes(self) -> np.ndarray:
        """Its Chebyshev nodes within -1..1."""
        k = NODES.get(self.name, FEW)
        return np.cos(np.pi * (np.arange(k) + 0.5) / k)

    def place(self, frame: np.ndarray) -> np.ndarray:
        """The place (n,) of all rows, on these frames (n,)."""
        return self.groups.index if self.by_amplifier else self.groups.index[frame]

    def of_rows(self, values: Sequence[np.ndarray], frame: np.ndarray) -> np.ndarray:
        """What it is changed by on all rows (n,), for values (n_place,) of its parts."""
        place = self.place(frame)
        out = values[0][place]
        for part, value in zip(self.basis.values(), values[1:], strict=True):
            out = out + part * value[place]
        return out

    def slopes(self, slope: np.ndarray) -> list[np.ndarray]:
        """Derivatives (n,) with respect to its parts, by those with respect to itself."""
        return [slope, *(slope * part for part in self.basis.values())]

    def blocks(self, term: str, frame: np.ndarray, slopes: Iterator[np.ndarray]) -> Iterable[Block]:
        """A block of columns for each part of the parameter of a term, with its derivatives (n,)."""
        place, label = self.place(frame), f"{term} {self.name}"
        unit, meaning = parameter_meaning(self.name)
        for part in ("", *self.basis):
            prior = self.field_prior if part else self.prior
            said = f"{meaning[0].upper()}{meaning[1:]}, {self._said(part)}"
            column = Part(f"{self.name} {part}".rstrip(), unit, next(slopes), prior, description=said)
            yield Block(f"{label} {part}".rstrip(), place, self.groups.labels, (column,), self.groups.keys)

    def _said(self, part: str) -> str:
        """What a part of the field is of the parameter, in words."""
        if not part:
            where = {"radial": ", at the optical center", "polynomial": ", constant over the detector"}
            return f"less the chain's{where.get(self.field or '', '')}"
        if self.field == "polynomial":
            return f"Chebyshev coefficient of {chebyshev(part)} over the detector"
        return f"change as radius^{part[1:]} from the optical center to half the detector's diagonal from it"


# --- nodes ------------------------------------------------------------------------------------------------------------


def _series(nodes: np.ndarray) -> np.ndarray:
    """The weights of k Chebyshev nodes (k,) as Chebyshev series (k, k), one a column."""
    out = 2.0 / len(nodes) * np.polynomial.chebyshev.chebvander(nodes, len(nodes) - 1).T
    out[0] *= 0.5
    return out


@dataclasses.dataclass(frozen=True, repr=False)
class Nodes(Record):
    """The nodes of parameters on each frame, and where rows are between them.

    change (n_frame, n_node, n_parameter). For each parameter that varies within frames: its nodes within -1..1, and
    place, where rows (n,) are in the range that it has on their frame.
    """

    change: np.ndarray
    nodes: tuple[np.ndarray, ...]
    place: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, parameters: Sequence[FittedParameter], values: Sequence[np.ndarray], frame: np.ndarray, n_frame: int
    ) -> Nodes:
        """The nodes on frames for values (n_place,) of each block; frame (n,) of all rows."""
        nodes = tuple(one.nodes for one in parameters if one.varies)
        shape = (n_frame, *map(len, nodes))
        blocks, changes = iter(values), []
        places: list[np.ndarray] = []
        for one in parameters:
            own = [next(blocks) for _ in range(one.n_part)]
            if not one.varies:
                changed = own[0][one.groups.index].reshape(n_frame, *[1] * len(nodes))
            else:
                of_rows = one.of_rows(own, frame)
                low, high = np.full(n_frame, np.inf), np.full(n_frame, -np.inf)
                known = np.isfinite(of_rows)
                np.minimum.at(low, frame[known], of_rows[known])
                np.maximum.at(high, frame[known], of_rows[known])
                low, high = (np.where(low <= high, end, 0.0) for end in (low, high))  # frames without rows
                middle, half = 0.5 * (high + low), 0.5 * (high - low)
                at = middle[:, None] + half[:, None] * one.nodes
                changed = at.reshape(n_frame, *[-1 if k == len(places) else 1 for k in range(len(nodes))])
                places.append((of_rows - middle[frame]) / np.where(half > 0, half, 1.0)[frame])
            changes.append(np.broadcast_to(np.clip(changed, one.low, one.high), shape).reshape(n_frame, -1))
        return cls(np.stack(changes, axis=2), nodes, tuple(places))

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """The weights (k, n_node) by which some rows (k,) have their passbands from those at the nodes."""
        out = np.ones((len(rows), 1))
        for nodes, place in zip(self.nodes, self.place, strict=True):
            own = np.polynomial.chebyshev.chebvander(place[rows], len(nodes) - 1) @ _series(nodes)
            out = (out[:, :, None] * own[:, None, :]).reshape(len(rows), -1)
        return out
