"""What is fitted in a joint solution and how, and observations prepared for it: once, to be solved many times."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Observations
from xpjax.survey.exposures import ExposureModel, Scaling, scaling
from xpjax.survey.joint.blocks import Block, Linear, Prepared
from xpjax.survey.joint.constraints import Constraint, place_group
from xpjax.survey.joint.normal import HostRows
from xpjax.survey.joint.priors import SlotPrior, StarPrior, model_prior, slot_prior
from xpjax.survey.joint.reference import check_reference
from xpjax.survey.joint.rows import LostRows, SortedRows, fill_rows, lost_rows, row_flags, sort_rows
from xpjax.survey.joint.terms import Term


@dataclasses.dataclass(frozen=True)
class JointModel:
    """Say what a joint solution fits, and how.

    Parameters
    ----------
    terms : tuple of Term
        Terms that are added to instrumental magnitudes, such as `ZeroPoint()` and `Flat()`.
    constraints : tuple of Constraint
        What fixes combinations that the data leave open.
    star_prior : bool
        Whether the model magnitudes of the observations, with their errors, are priors of the stars' magnitudes.
    robust : str
        Weights of residuals before outliers are clipped: "huber", "tukey" or "none".
    clip : float [sigma]
        Limit beyond which a measurement is an outlier; 0 for none.
    error_floor : float or None [mag]
        Error added in quadrature to every measurement; by default fitted for each band.
    min_observations : int
        Measurements that a star without prior needs to take part.
    size : tuple of float or None [pixel]
        x and y from and to that scaled positions refer to; by default what the rows of each detector span.
    color_zero : float or None [mag]
        Color at which color terms are zero; by default the median.
    dense : int
        Most columns whose normal equations are formed; more are solved by conjugate gradients.

    Raises
    ------
    XpjaxError
        If there is no term, two have one name, or a value is out of its range.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint
    >>> JointModel((ZeroPoint(),), (Constraint("zero_point"),)).describe()
    ['zero_point', 'mean of zero_point = 0']
    """

    terms: tuple[Term, ...]
    constraints: tuple[Constraint, ...] = ()
    star_prior: bool = False
    robust: str = "huber"
    clip: float = 5.0
    error_floor: float | None = None
    min_observations: int = 10
    size: tuple[float, ...] | None = None
    color_zero: float | None = None
    dense: int = 20_000

    def __post_init__(self) -> None:
        if not self.terms:
            raise XpjaxError("a joint solution needs at least one term")
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise XpjaxError(f"terms of the same name {twice}: rename one")
        if self.robust not in ("huber", "tukey", "none"):
            raise XpjaxError(f'robust must be "huber", "tukey" or "none", not {self.robust!r}')
        if not self.clip >= 0:
            raise XpjaxError(f"clip must not be negative: {self.clip!r}")
        if self.error_floor is not None and not self.error_floor >= 0:
            raise XpjaxError(f"error_floor must be zero or more magnitudes, or left out: {self.error_floor!r}")
        if not self.min_observations >= 1:
            raise XpjaxError(f"min_observations must be at least 1, not {self.min_observations!r}")

    def describe(self) -> list[str]:
        """A line for each term and each constraint."""
        return [*(term.describe() for term in self.terms), *(one.describe() for one in self.constraints)]

    def correction_name(self) -> str | None:
        """The linear corrections of the spectra that terms take, separated by commas; None without spectra."""
        names = dict.fromkeys(name for term in self.terms if (name := term.correction_name()) is not None)
        return ", ".join(names) or None


@dataclasses.dataclass(frozen=True, repr=False)
class Columns(Record):
    """The columns of all terms, one block after the other.

    blocks: without rows; groups: of each block the places (n_place,) whose mean a constraint takes together.
    """

    blocks: tuple[Block, ...]
    groups: tuple[np.ndarray, ...]

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """Prior means (n_column,)."""
        return np.concatenate([block.mean for block in self.blocks])

    @functools.cached_property
    def precision(self) -> np.ndarray:
        """Prior precisions (n_column,)."""
        return np.concatenate([block.sigma for block in self.blocks]) ** -2.0


@dataclasses.dataclass(frozen=True, repr=False)
class NonLinear(Record):
    """A term whose columns act non-linearly: the numbers of its blocks, and its state at the start."""

    name: str
    blocks: range
    term: Prepared
    start: Linear


@dataclasses.dataclass(frozen=True, repr=False)
class JointProblem(Record):
    """Observations prepared for a joint solution by `prepare_joint`: rows sorted by star, with all their columns.

    flags (n,): RowFlag bits that keep rows out; lost: what the columns are of those kept out.
    """

    observations: Observations
    model: JointModel
    scale: Scaling
    columns: Columns
    nonlinear: tuple[NonLinear, ...]
    flags: np.ndarray
    sorted: SortedRows
    prior: SlotPrior
    rows: HostRows
    lost: LostRows

    def __repr__(self) -> str:
        return (
            f"JointProblem({len(self.sorted.order):,} of {len(self.observations):,} measurements, "
            f"{len(self.sorted.star):,} stars, {len(self.columns.mean):,} columns)"
        )


def prepare_joint(
    observations: Observations, model: JointModel, *, prior: StarPrior | None = None, devices: Devices = None
) -> JointProblem:
    """Prepare observations for joint solutions: sort them by star, and build the columns of all terms.

    Parameters
    ----------
    observations : Observations
        Measurements of stars on frames.
    model : JointModel
        Terms, constraints and settings.
    prior : StarPrior or None
        Prior magnitudes of the stars, instead of the model's `star_prior`.
    devices
        None for NumPy and SciPy on a CPU, and JAX where its first device is another; else a name such as "gpu".

    Returns
    -------
    JointProblem
        What `solve_prepared` solves, as often as is wanted.

    Raises
    ------
    XpjaxError
        If no row can be used, or a term lacks what it needs.

    Examples
    --------
    >>> from xpjax.survey.joint import JointModel, ZeroPoint, prepare_joint
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> prepare_joint(rows, JointModel((ZeroPoint(),)))
    JointProblem(60 of 60 measurements, 20 stars, 3 columns)
    """
    o = observations
    scale = scaling(o, ExposureModel(color_zero=model.color_zero), model.size)
    model = dataclasses.replace(model, terms=tuple(term.settled(o, scale) for term in model.terms))
    terms = [term.prepare(o, scale) for term in model.terms]
    blocks = [
        dataclasses.replace(block, of_reference=one.of_reference)
        for one, term in zip(model.terms, terms, strict=True)
        for block in term.blocks
    ]
    flags = row_flags(o, blocks)
    found = sort_rows(o, flags)
    nonlinear, first = [], 0
    for name, term in zip((one.name for one in model.terms), terms, strict=True):
        numbers = range(first, first := first + len(term.blocks))
        if not term.linear:
            nonlinear.append(NonLinear(name, numbers, term, term.begin(found.star, found.bands)))
    own = prior_of(o, model, [prior, *(one.start.star_prior for one in nonlinear)], found)
    check_reference(model.terms, own, model.star_prior)
    rows = fill_rows(blocks, found.order, found.slots(own.coupled), devices)
    lost = lost_rows(o, blocks, flags)
    columns = Columns(tuple(b.without_rows() for b in blocks), tuple(place_group(b, o) for b in blocks))
    for one in nonlinear:
        # Rows are in `rows` now: what the term made of them would be held a second time.
        one.term.blocks = ()
    return JointProblem(o, model, scale, columns, tuple(nonlinear), flags, found, own, rows, lost)


def prior_of(o: Observations, model: JointModel, priors: Sequence[StarPrior | None], found: SortedRows) -> SlotPrior:
    """The priors of the stars. Raises XpjaxError where they come from several sides."""
    known = [one for one in priors if one is not None]
    if len(known) + model.star_prior > 1:
        raise XpjaxError("stars have one prior: of the terms' spectra, or given, or of the models; take one")
    if known:
        return slot_prior(known[0], found.star, found.bands)
    n_slot = len(found.star) * len(found.bands)
    if not model.star_prior:
        return SlotPrior(np.zeros(n_slot), np.zeros(n_slot))
    return model_prior(o.model[found.usable], o.model_error[found.usable], found.code, n_slot)
