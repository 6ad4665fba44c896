"""The terms of a joint solution: what each adds to instrumental magnitudes, as columns of a sparse design.

    M_star = m + zero_point_e + flat(x, y) + color(x, y) (C - C_zero) - k (X - 1) + ... + transmission(spectrum, p)

A term is a small frozen record that prepares itself for observations, checks and describes itself. `per` names fields
of frames whose values say which frames share a value of the term: "frame", "all", "night+band", or "band+detector:30"
for 30 days; see `blocks.frame_groups`.

Add a term
----------
Write one class with its kind, in a file of its own in this folder, and import the file in `joint/__init__.py`.
`prepare` says which frames share a value (`frame_groups`) and what a magnitude changes by with it (`derivative`).
Python, `[[term]] kind = "tilt"` in a survey.toml, tables of parameters and constraints then know it:

    @dataclasses.dataclass(frozen=True)
    class Tilt(Term, kind="tilt"):
        \"\"\"A gradient along the columns of the detector, such as of scattered moonlight.

        Parameters
        ----------
        name : str
            Name of the term in tables and messages.
        per : str
            Frames that share a value.
        prior : float or None [mag]
            Standard deviation about zero.
        \"\"\"

        name: str = "tilt"
        per: str = "exposure"
        prior: float | None = None
        needs = ("x", "y")

        def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
            _, v = scaled_places(observations, scale)
            groups = frame_groups(observations.frames, self.per)
            return Prepared(groups.block(self.name, observations, Part("slope", "mag", v, self.prior)))

A term with columns that act non-linearly returns a `Prepared` of its own: `blocks.Prepared` says what it has, and
`transmission` has the example. A term that reads a column of the table derives from `ColumnTerm`, whose `of_rows` has
its numbers. A `Part` may have a description of its own for tables.
`benchmarks.joint.dithered` simulates observations to try a term on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.config import Section, parse, section_of
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Part, Prepared, frame_groups, polynomials, scaled_places

OF_STANDARDS = "[standards]"
"""What `sources` of a term is where its spectra are those of [standards]."""
PIECE = 1 << 20
"""Rows that are prepared at once."""
TERMS: dict[str, type[Term]] = {}
"""Terms by their kinds in a survey.toml."""


class Term:
    """What all terms of a joint solution have in common; they are frozen dataclasses. The module says how to add one.

    kind: its name in a survey.toml; in_python: fields that a file cannot hold; zeros: fields that say what the term
    counts from, one value or one for each group, see `counts_from`; star_prior: whether it gives the stars
    prior magnitudes; of_reference: whether it says what the stars' prior magnitudes are wrong by, see `reference`;
    spectral_prior: whether these must be of spectra, a term's own or given, with their covariances between bands.
    """

    name: str
    kind: ClassVar[str] = ""
    in_python: ClassVar[tuple[str, ...]] = ()
    zeros: ClassVar[tuple[str, ...]] = ()
    star_prior: bool = False
    of_reference: ClassVar[bool] = False
    spectral_prior: ClassVar[bool] = False

    def __init_subclass__(cls, kind: str = "") -> None:
        """Make a term known by its kind to survey.toml and to solutions that are read from files."""
        if kind:
            cls.kind = kind
            TERMS[kind] = cls

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of [columns] without which the term means nothing."""
        return ()

    def counts_from(self, field: str, observations: Observations) -> float | dict[str, float] | None:
        """What the term counts from, of the observations that are solved for; None where the field means nothing."""
        raise NotImplementedError

    def settled(self, observations: Observations, scale: Scaling) -> Self:
        """The term with what it counts from, for other rows as well: zeros that are said, or known, stay."""
        made: dict[str, Any] = {}
        for field in self.zeros:
            said = getattr(self, field)
            if said is None or isinstance(said, Mapping):
                found = self.counts_from(field, observations)
                made[field] = {**found, **(said or {})} if isinstance(found, Mapping) else found
        return dataclasses.replace(self, **made) if made else self  # type: ignore[type-var]

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The term's columns for these observations. Raises ValueError where they lack what it needs."""
        raise NotImplementedError

    @classmethod
    def section(cls) -> type[Section]:
        """The entries of a [[term]] of a survey.toml."""
        return section_of(cls.__name__, cls, without=cls.in_python)

    @classmethod
    def from_entry(cls, entry: Mapping[str, object]) -> Self:
        """The term that a [[term]] of a survey.toml means. Raises XpjaxError for entries that it does not have."""
        return parse(cls.section(), entry, f"a {cls.kind} term").make(cls)

    def entry(self) -> dict[str, object]:
        """What a [[term]] of a survey.toml would say of the term: entries that are not its defaults."""
        said: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name not in self.in_python and value is not None and value != field.default:
                said[field.name] = value
        return said

    def wanted(self) -> tuple[str, ...]:
        """Columns of numbers that the term reads from the survey's tables, beside those of [columns]."""
        return ()

    def bound(self, folder: Path, columns: Mapping[str, np.ndarray]) -> Term:
        """The term with what its entry names: files in the folder, and columns (n,) of numbers that it wanted."""
        return self

    def describe(self) -> str:
        """The term in a line."""
        said = self.entry()
        return " ".join([str(said.pop("kind")), *(f"{name}={value!r}" for name, value in said.items())])

    def correction_name(self) -> str | None:
        """The linear correction of the spectra that the term takes; None for a term without spectra."""
        return None


class ColumnTerm(Term):
    """What terms have in common that take a number of each row: `values`, or what `column` of the tables has."""

    column: str
    values: np.ndarray | None
    in_python = ("values",)

    def wanted(self) -> tuple[str, ...]:
        """The column of the survey's tables."""
        return (self.column,) if self.column and self.values is None else ()

    def bound(self, folder: Path, columns: Mapping[str, np.ndarray]) -> Self:
        """The term with the numbers of its column."""
        return dataclasses.replace(self, values=columns[self.column]) if self.wanted() else self  # type: ignore[type-var]

    def of_rows(self, observations: Observations) -> np.ndarray:
        """The numbers (n,). Raises XpjaxError unless there is one for every row."""
        values = np.asarray([] if self.values is None else self.values, float)
        if values.shape != (len(observations),):
            raise XpjaxError(f"{self.name}: {values.shape} values for {len(observations)} rows of observations")
        return values


def term_from(entry: Mapping[str, Any]) -> Term:
    """The term that a [[term]] of a survey.toml means."""
    kind = entry.get("kind")
    if kind not in TERMS:
        raise XpjaxError(f"kind of a [[term]] is one of {', '.join(TERMS)}, not {kind!r}")
    return TERMS[kind].from_entry({name: value for name, value in entry.items() if name != "kind"})


@dataclasses.dataclass(frozen=True)
class ZeroPoint(Term, kind="zero_point"):
    """Fit a constant for each frame or group of frames.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "night+band"; ":30" for 30 days.
    prior : float or None [mag]
        Prior standard deviation about `mean`; none by default.
    mean : float [mag]
        Prior mean.

    Examples
    --------
    >>> xpjax.survey.joint.ZeroPoint(per="night+band", prior=0.05).describe()
    "zero_point per='night+band' prior=0.05"
    """

    name: str = "zero_point"
    per: str = "frame"
    prior: float | None = None
    mean: float = 0.0

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term."""
        groups = frame_groups(observations.frames, self.per)
        part = Part("constant", "mag", None, self.prior, self.mean, "Zero-point, added to instrumental magnitudes")
        return Prepared(groups.block(self.name, observations, part))


@dataclasses.dataclass(frozen=True)
class Color(Term, kind="color"):
    """Fit a polynomial in color - color_zero, with coefficients that may vary over the detector.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "night+band"; ":30" for 30 days.
    order : int
        Order of the polynomial in color, 1 to 3.
    position_order : int
        Total order of the Chebyshev polynomials of the position that each coefficient is, 0 to 9.
    prior : float or None [mag/mag^order]
        Prior standard deviation of every coefficient about zero; none by default.

    Notes
    -----
    The parts are color_1, color_1 x, color_1 y, ... for each order.

    Examples
    --------
    >>> xpjax.survey.joint.Color(order=2).describe()
    'color order=2'
    """

    name: str = "color"
    per: str = "frame"
    order: int = 1
    position_order: int = 0
    prior: float | None = None

    def __post_init__(self) -> None:
        check_whole(self.name, "order", self.order, 1, 3)
        check_whole(self.name, "position_order", self.position_order, 0, 9)

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of [columns] without which the term means nothing."""
        return ("x", "y", "color") if self.position_order else ("color",)

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term."""
        color = observations.color - scale.color_zero
        basis = polynomials(observations, scale, self.position_order) if self.position_order else {"": 1.0}
        parts = []
        for k in range(1, self.order + 1):
            power, unit = color**k, ("", "mag-1", "mag-2")[k - 1]
            said = f"{('Linear', 'Quadratic', 'Cubic')[k - 1]} color term"
            for name, b in basis.items():
                where = f", Chebyshev coefficient of {chebyshev(name)} over the detector" if name else ""
                parts.append(
                    Part(
                        f"color_{k} {name}".rstrip(),
                        unit,
                        power * b,
                        self.prior,
                        description=f"{said}{where}",
                        per=per_power("mag/mag", k),
                    )
                )
        groups = frame_groups(observations.frames, self.per)
        return Prepared(groups.block(self.name, observations, *parts))


@dataclasses.dataclass(frozen=True)
class Flat(Term, kind="flat"):
    """Fit the response over the detector, for each group of frames.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "band+detector"; ":30" for 30 days.
    form : str
        "superpixel": constant in cells; "chebyshev": polynomials without the constant, which zero-points have.
    bins : int
        Cells along each axis of the detector, for superpixels.
    order : int
        Largest total order of the Chebyshev polynomials.
    prior : float or None [mag]
        Prior standard deviation of every value about zero; none by default.

    Examples
    --------
    >>> xpjax.survey.joint.Flat(form="chebyshev", order=3).describe()
    "flat form='chebyshev' order=3"
    """

    name: str = "flat"
    per: str = "band+detector"
    form: str = "superpixel"
    bins: int = 20
    order: int = 2
    prior: float | None = None
    needs = ("x", "y")

    def __post_init__(self) -> None:
        if self.form not in ("superpixel", "chebyshev"):
            raise XpjaxError(f'{self.name}: form is "superpixel" or "chebyshev", not {self.form!r}')
        check_whole(self.name, "bins", self.bins, 1, 1000)
        check_whole(self.name, "order", self.order, 1, 30)

    @classmethod
    def from_entry(cls, entry: Mapping[str, object]) -> Self:
        """The term that a [[term]] means. Raises XpjaxError for entries that its form does not use."""
        made = super().from_entry(entry)
        idle = {"superpixel": "order", "chebyshev": "bins"}[made.form]
        if idle in entry:
            raise XpjaxError(f'[[term]] {made.name}: {idle} has no effect with form = "{made.form}": leave it out')
        return made

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term."""
        groups = frame_groups(observations.frames, self.per)
        if self.form == "chebyshev":
            slopes = polynomials(observations, scale, self.order)
            said = "Flat, Chebyshev coefficient of {} over the detector"
            parts = (
                Part(name, "mag", slope, self.prior, description=said.format(chebyshev(name)))
                for name, slope in slopes.items() if name
            )  # fmt: skip
            return Prepared(groups.block(self.name, observations, *parts))
        cell = self._cells(observations, scale)
        known = None if (cell >= 0).all() else np.where(cell >= 0, 1.0, np.nan)
        said = "Flat, added to magnitudes in a cell of the detector"
        block = groups.block(self.name, observations, Part("cell", "mag", known, self.prior, description=said))
        index = np.where(cell >= 0, block.index * np.int32(self.bins**2) + cell, np.int32(-1))
        labels = [f"{label} {i},{j}" for label in groups.labels for i in range(self.bins) for j in range(self.bins)]
        of_cell = np.repeat(np.arange(len(groups.labels)), self.bins**2)
        keys = {name: values[of_cell] for name, values in groups.keys.items()}
        return Prepared(dataclasses.replace(block, index=index, labels=tuple(labels), keys=keys, group=of_cell))

    def _cells(self, o: Observations, scale: Scaling) -> np.ndarray:
        """The cell (n,) of each row, rows along y; -1 where the place is unknown or off the detector."""
        out = np.empty(len(o), np.int32)
        for start in range(0, len(o), PIECE):
            rows = slice(start, start + PIECE)
            u, v = scaled_places(o, scale, rows)
            with np.errstate(invalid="ignore"):
                on = (np.abs(u) <= 1) & (np.abs(v) <= 1)
                i, j = (np.clip((0.5 * self.bins * (a + 1)).astype(np.int32), 0, self.bins - 1) for a in (v, u))
            out[rows] = np.where(on, i * self.bins + j, -1)
        return out


@dataclasses.dataclass(frozen=True)
class Extinction(Term, kind="extinction"):
    """Fit the atmospheric extinction -k (X - 1) of frames of airmass X.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "night+band"; ":30" for 30 days.
    second_order : bool
        Whether k depends linearly on color - color_zero.
    slope : bool
        Whether k changes linearly with time, in mag/airmass/day from the middle of the group.
    prior : float or None [mag/airmass]
        Prior standard deviation of k about `mean`, and of the other parts about zero; none by default.
    mean : float [mag/airmass]
        Prior mean of k.
    times : mapping of str to float or None [d]
        Times that k is of, by group, where it has a slope; by default the middle of each.

    Examples
    --------
    >>> xpjax.survey.joint.Extinction(prior=0.1, mean=0.2).describe()
    'extinction prior=0.1 mean=0.2'
    """

    name: str = "extinction"
    per: str = "night+band"
    second_order: bool = False
    slope: bool = False
    prior: float | None = None
    mean: float = 0.0
    times: Mapping[str, float] | None = None
    zeros = ("times",)

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of [columns] without which the term means nothing."""
        return ("color",) if self.second_order else ()

    def counts_from(self, field: str, observations: Observations) -> dict[str, float] | None:
        """The times that k is of in every group: the middle of each."""
        if not self.slope:
            return None
        labels, low, high = spans(observations.frames, self.per, f"{self.name}: slope")
        return dict(zip(labels, (0.5 * (low + high)).tolist(), strict=True))

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term. Raises ValueError where no exposure has an airmass, or a time for the slope."""
        o, frames = observations, observations.frames
        groups = frame_groups(frames, self.per)
        air = 1.0 - frames.airmass
        if not np.isfinite(air).any():
            raise XpjaxError(f"{self.name} needs the airmass of exposures: give columns.airmass")
        parts = [Part("k", "mag", air[o.frame], self.prior, self.mean, "Extinction coefficient k", "mag/airmass")]
        if self.second_order:
            slope = air[o.frame] * (o.color - scale.color_zero)
            said = "Second-order extinction: change of k with color"
            parts.append(Part("k_color", "", slope, self.prior, 0.0, said, "mag/airmass/mag"))
        if times := self.settled(o, scale).times:
            middle = np.array([times[label] for label in groups.labels])
            change = (air * (frames.time - middle[groups.index]))[o.frame]
            parts.append(Part("k_slope", "mag d-1", change, self.prior, 0.0, "Change of k with time", "mag/airmass/d"))
        return Prepared(groups.block(self.name, o, *parts))


@dataclasses.dataclass(frozen=True)
class Covariate(ColumnTerm, kind="covariate"):
    """Fit a coefficient of any column: of the seeing, of an aperture, of the magnitude.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    values : (n,) array or None
        A number for every row of the observations, in their order; None for what `column` names.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "night+band"; ":30" for 30 days.
    prior : float or None [mag per unit of the column]
        Prior standard deviation about zero; none by default.
    column : str
        Name of the column in the survey's tables.

    Examples
    --------
    >>> xpjax.survey.joint.Covariate("seeing", column="fwhm", per="band").describe()
    "covariate name='seeing' per='band' column='fwhm'"
    """

    name: str
    values: np.ndarray | None = None
    per: str = "frame"
    prior: float | None = None
    column: str = ""

    def __post_init__(self) -> None:
        if self.values is None and not self.column:
            raise XpjaxError("a covariate term has no column")

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term. Raises ValueError unless there is a number for every row."""
        values = self.of_rows(observations)
        groups = frame_groups(observations.frames, self.per)
        column = self.column or self.name
        part = Part("slope", "mag", values, self.prior, 0.0, f"Change with {column}", f"mag/unit of {column}")
        return Prepared(groups.block(self.name, observations, part))


def chebyshev(name: str) -> str:
    """The polynomial of a part, such as T2(x) T1(y) of "x2 y"."""
    return " ".join(f"T{order or 1}({axis})" for axis, order in re.findall(r"([xy])(\d*)", name))


def per_power(unit: str, order: int) -> str:
    """The unit in words of a coefficient of a polynomial, from that of its linear part: mag/h^2 from mag/h."""
    return f"{unit}^{order}" if order > 1 else unit


def spans(frames: Frames, per: str, what: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, first and last times (n_group,) [d] of groups of frames. Raises XpjaxError where a frame has none."""
    if not np.isfinite(frames.time).all():
        raise XpjaxError(f"{what} needs the times of all exposures: give columns.time")
    groups = frame_groups(frames, per)
    low, high = np.full(len(groups.labels), np.inf), np.full(len(groups.labels), -np.inf)
    np.minimum.at(low, groups.index, frames.time)
    np.maximum.at(high, groups.index, frames.time)
    return groups.labels, low, high


def check_whole(name: str, field: str, value: Any, low: int, high: int) -> None:
    """Raise XpjaxError for what is no whole number in a range."""
    if isinstance(value, bool) or not (isinstance(value, int) and low <= value <= high):
        raise XpjaxError(f"{name}: {field} must be a whole number {low}..{high}, not {value!r}")
