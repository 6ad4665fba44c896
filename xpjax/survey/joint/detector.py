"""What detector, telescope and seeing add to magnitudes: nonlinearity, brighter-fatter, drifts, aperture losses.

    nonlinearity   b s (form "counts", "peak") or a polynomial in the magnitude: s = 10^(-0.4 (m - m_0)) (w_0 / w)^2
    drift          a polynomial in the hours since a night's first frame
    seeing         a polynomial in the seeing w - w_0

What frames, nights or bands share a value is said by `per`, as of all terms. m_0 and w_0 are medians of the rows that
are solved for unless they are said; a solution keeps them for other rows. Color times airmass is a part of the
extinction: `Extinction(second_order=True)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey import MISSING, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Part, Prepared, frame_groups
from xpjax.survey.joint.terms import ColumnTerm, Term, check_whole, per_power, spans

FORMS = ("counts", "peak", "polynomial")
HOURS = 24.0


def _middle(name: str, values: np.ndarray) -> float:
    """The median of the finite values, to four digits. Raises XpjaxError where there is none."""
    known = values[np.isfinite(values)]
    if not len(known):
        raise XpjaxError(f"{name}: no row has a value")
    return float(f"{np.median(known):.4g}")


@dataclasses.dataclass(frozen=True)
class Nonlinearity(ColumnTerm, kind="nonlinearity"):
    """Fit a response of the detector that depends on the light: nonlinearity, or brighter-fatter losses.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "band+detector"; ":30" for 30 days.
    form : str
        "counts": in proportion to the flux; "peak": to flux / seeing^2, the peak of an image, as brighter-fatter losses
        are; "polynomial": a polynomial in the instrumental magnitude.
    order : int
        Order of the polynomial, 1 to 4.
    prior : float or None [mag, mag/mag^order]
        Standard deviation of every value about zero; none by default.
    magnitude : float or None [mag]
        Instrumental magnitude at which the value is the change, or where the polynomial is zero; by default the median.
    column : str
        Column of the tables with the seeing, or keyword of their headers, for the form "peak".
    seeing : float or None [unit of the column]
        Seeing at which the value is the change; by default the median.
    values : (n,) array or None
        The seeing of every row, instead of a column.

    Raises
    ------
    XpjaxError
        If form or order are none, or the seeing is not given for the form "peak", or given for another.

    Notes
    -----
    What is added goes with the light that is measured: M = m + b 10^(-0.4 (m - m_0)) + other terms. A detector that
    loses the share e of the counts N at N = N_0 needs b = -1.0857 e there.

    Examples
    --------
    >>> xpjax.survey.joint.Nonlinearity(prior=0.01, magnitude=-12.0).describe()
    'nonlinearity prior=0.01 magnitude=-12.0'
    """

    name: str = "nonlinearity"
    per: str = "band+detector"
    form: str = "counts"
    order: int = 1
    prior: float | None = None
    magnitude: float | None = None
    column: str = ""
    seeing: float | None = None
    values: np.ndarray | None = None
    zeros = ("magnitude", "seeing")

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise XpjaxError(f"{self.name}: form is one of {', '.join(FORMS)}, not {self.form!r}")
        check_whole(self.name, "order", self.order, 1, 4)
        if self.form != "polynomial" and self.order != 1:
            raise XpjaxError(f'{self.name}: order has no effect with form = "{self.form}": leave it out')
        given = bool(self.column) or self.values is not None
        if self.form == "peak" and not given:
            raise XpjaxError(f'{self.name}: form = "peak" needs the seeing: give column')
        if self.form != "peak" and (given or self.seeing is not None):
            raise XpjaxError(f'{self.name}: the seeing has no effect with form = "{self.form}": leave it out')

    def counts_from(self, field: str, observations: Observations) -> float | None:
        """The medians of magnitude and seeing."""
        if field == "magnitude":
            measured = observations.magnitude
            return _middle(self.name, np.where(np.abs(measured) < MISSING, measured, np.nan))
        return _middle(self.name, self.of_rows(observations)) if self.form == "peak" else None

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term."""
        own = self.settled(observations, scale)
        groups = frame_groups(observations.frames, self.per)
        measured = observations.magnitude
        off = np.where(np.abs(measured) < MISSING, measured, np.nan) - own.magnitude
        if self.form == "polynomial":
            units = ("", "mag-1", "mag-2", "mag-3")
            parts = [
                Part(
                    f"magnitude_{k}",
                    units[k - 1],
                    off**k,
                    self.prior,
                    description=f"Order {k} in the instrumental magnitude less {own.magnitude:g}",
                    per=per_power("mag/mag", k),
                )
                for k in range(1, self.order + 1)
            ]
            return Prepared(groups.block(self.name, observations, *parts))
        slope = 10 ** (-0.4 * off)
        at = f"a star of {own.magnitude:g} mag"
        if self.form == "peak":
            width = self.of_rows(observations)
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = np.where(width > 0, slope * (own.seeing / width) ** 2, np.nan)
            at = f"{at} in seeing of {own.seeing:g}"
        part = Part(
            self.form, "mag", slope, self.prior, description=f"Change of {at}, in proportion to its {self.form}"
        )
        return Prepared(groups.block(self.name, observations, part))


@dataclasses.dataclass(frozen=True)
class Drift(Term, kind="drift"):
    """Fit a polynomial in time within each night.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "night+band" or other fields of frames; ":1" for days.
    order : int
        Order of the polynomial, 1 to 4.
    prior : float or None [mag/h^order]
        Standard deviation of every coefficient about zero; none by default.
    times : mapping of str to float or None [d]
        Times that hours count from, by group; by default the earliest of each.

    Raises
    ------
    XpjaxError
        If the order is none, or an exposure has no time.

    Notes
    -----
    Time counts from the earliest frame of each group, in hours. With a zero-point for every frame data say nothing of a
    drift: give zero-points for nights, as in ZeroPoint(per="night+band").

    Examples
    --------
    >>> xpjax.survey.joint.Drift(order=2, prior=0.01).describe()
    'drift order=2 prior=0.01'
    """

    name: str = "drift"
    per: str = "night+band"
    order: int = 1
    prior: float | None = None
    times: Mapping[str, float] | None = None
    zeros = ("times",)

    def __post_init__(self) -> None:
        check_whole(self.name, "order", self.order, 1, 4)

    def counts_from(self, field: str, observations: Observations) -> dict[str, float]:
        """The times that hours count from in every group: the earliest."""
        labels, first, _ = spans(observations.frames, self.per, self.name)
        return dict(zip(labels, first.tolist(), strict=True))

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term. Raises ValueError where an exposure has no time."""
        o, frames = observations, observations.frames
        times = self.settled(o, scale).times
        assert times is not None
        groups = frame_groups(frames, self.per)
        first = np.array([times[label] for label in groups.labels])
        hours = (HOURS * (frames.time - first[groups.index]))[o.frame]
        parts = [
            Part(
                f"time_{k}",
                f"mag h-{k}",
                hours**k,
                self.prior,
                description=f"Order {k} in the hours from the earliest exposure",
                per=per_power("mag/h", k),
            )
            for k in range(1, self.order + 1)
        ]
        return Prepared(groups.block(self.name, o, *parts))


@dataclasses.dataclass(frozen=True)
class Seeing(ColumnTerm, kind="seeing"):
    """Fit what an aperture loses with the seeing, as a polynomial in it.

    Parameters
    ----------
    column : str
        Column of the tables with the seeing, or keyword of their headers.
    name : str
        Name of the term in tables, messages and constraints.
    per : str
        Frames that share a value: "frame", "all", or fields of frames such as "band+detector"; ":30" for 30 days.
    order : int
        Order of the polynomial, 1 to 3.
    prior : float or None [mag/unit^order]
        Standard deviation of every coefficient about zero; none by default.
    zero : float or None [unit of the column]
        Seeing at which the term is zero; by default the median.
    values : (n,) array or None
        The seeing of every row, instead of a column.

    Raises
    ------
    XpjaxError
        If the order is none, or nothing says the seeing.

    Notes
    -----
    A seeing that is one number for a frame is degenerate with a zero-point for every frame: give zero-points for
    nights, as in ZeroPoint(per="night+band"), or the seeing at each star.

    Examples
    --------
    >>> xpjax.survey.joint.Seeing("FWHM_IMAGE", order=2).describe()
    "seeing column='FWHM_IMAGE' order=2"
    """

    column: str = ""
    name: str = "seeing"
    per: str = "band"
    order: int = 1
    prior: float | None = None
    zero: float | None = None
    values: np.ndarray | None = None
    zeros = ("zero",)

    def __post_init__(self) -> None:
        check_whole(self.name, "order", self.order, 1, 3)
        if self.values is None and not self.column:
            raise XpjaxError(f"{self.name}: nothing says the seeing: give column")

    def counts_from(self, field: str, observations: Observations) -> float:
        """The median of the seeing."""
        return _middle(self.name, self.of_rows(observations))

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term. Raises ValueError unless there is a number for every row."""
        values, own = self.of_rows(observations), self.settled(observations, scale)
        column = self.column or self.name
        unit = f"unit of {column}" if self.order == 1 else f"(unit of {column})"
        parts = [
            Part(f"seeing_{k}", "mag", (values - own.zero) ** k, self.prior,
                 description=f"Order {k} in {column} less {own.zero:g}", per=f"mag/{per_power(unit, k)}")
            for k in range(1, self.order + 1)
        ]  # fmt: skip
        return Prepared(frame_groups(observations.frames, self.per).block(self.name, observations, *parts))
