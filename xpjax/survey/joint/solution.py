"""What a joint solution found: columns of terms, star magnitudes, their covariances, and corrections of other rows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.records import Record, json_entry
from xpjax.survey import Observations, OutputColumn, SurveyTable, origin_columns, tabulate
from xpjax.survey.joint.blocks import FIELDS, Block, column_name
from xpjax.survey.joint.columns import FRAMES, MEASUREMENTS, PARAMETERS, STARS
from xpjax.survey.joint.covariance import Uncertainty
from xpjax.survey.joint.design import Design, StarMagnitudes
from xpjax.survey.joint.field_floor import field_lines
from xpjax.survey.joint.gauge import gauge_lines, of_priors_alone
from xpjax.survey.joint.held_out import HeldOut
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.sky import floor_lines
from xpjax.survey.joint.terms import Term


@dataclasses.dataclass(frozen=True, repr=False)
class RowResults(Record):
    """Of the rows (n,) that were solved for: frame, residual (star less calibrated magnitude) [mag], RowFlag bits.

    held_out: residuals of what was kept back, None where nothing was. earlier: of a solution that was extended, the
    number (n_frame,) of the measurements used before, and the sum (n_frame,) of their squared residuals [mag2].
    lost, lost_magnitude (k,): rows that took no part, and their calibrated magnitudes [mag]. frame_floor (n_frame,):
    error floors [mag], None for those of the bands.
    """

    frame: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    clipped: np.ndarray
    flags: np.ndarray
    held_out: HeldOut | None = None
    earlier: tuple[np.ndarray, np.ndarray] | None = None
    lost: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    lost_magnitude: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    frame_floor: np.ndarray | None = None

    def of_frames(self, n_frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The number (n_frame,) of measurements used, and the sum (n_frame,) of their squared residuals [mag2]."""
        count = np.bincount(self.frame, self.used, n_frame).astype(int)
        square = np.bincount(self.frame, np.where(self.used, np.square(self.residual), 0.0), n_frame)
        if self.earlier is None:
            return count, square
        return count + self.earlier[0], square + self.earlier[1]


@dataclasses.dataclass(frozen=True)
class FitQuality:
    """Chi2 and degrees of freedom of the used rows, whether the fit converged, passes, steps of conjugate gradients."""

    chi2: float
    degrees_of_freedom: int
    converged: bool
    passes: int
    steps: int


def _of(record: str, field: str, meaning: str) -> Any:
    """A field of one of the records of a solution."""
    return property(lambda self: getattr(getattr(self, record), field), doc=meaning)


@dataclasses.dataclass(frozen=True, repr=False)
class JointSolution(Record):
    """Keep what a joint solution found: values of its terms, star magnitudes, residuals and covariances.

    Parameters
    ----------
    design : Design
        The terms, the frames they were fitted on, and the blocks of their columns.
    value : (n_column,) array [mag, or the unit of the column]
        Values of all columns, one after the other; NaN where a column has no data.
    gauge : tuple of str
        What constraints decide, and data do not.
    magnitudes : StarMagnitudes
        Magnitudes of the stars.
    rows : RowResults
        Residuals and flags of the measurements.
    quality : FitQuality
        Chi2, degrees of freedom, and how the fit went.
    uncertainty : Uncertainty
        What errors and covariances come from.
    meta : mapping
        What is known of how the solution was made.
    model : JointModel or None
        What was fitted, and how.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> magnitude = 15.0 + 0.1 * star - np.repeat([0.0, 0.1, 0.2], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    >>> solution = solve_joint(rows, model)
    >>> solution
    JointSolution(3 columns of zero_point, 20 stars in 1 band, 60 of 60 measurements used, converged)
    >>> solution.parameters().to_table()["value"].round(3).tolist()
    [-0.1, 0.0, 0.1]
    """

    design: Design
    value: np.ndarray
    gauge: tuple[str, ...]
    magnitudes: StarMagnitudes
    rows: RowResults
    quality: FitQuality
    uncertainty: Uncertainty
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)
    model: JointModel | None = None

    terms = _of("design", "terms", "The terms that were fitted.")
    frames = _of("design", "frames", "The frames that they were fitted on.")
    blocks = _of("design", "blocks", "Blocks of columns.")
    star = _of("magnitudes", "star", "Identifiers (n_star,) of the stars.")
    bands = _of("magnitudes", "bands", "Names of the bands.")
    magnitude = _of("magnitudes", "magnitude", "Magnitudes (n_star, n_band) of the stars [mag].")
    n_used = _of("magnitudes", "n_used", "Measurements (n_star, n_band) that were used.")
    left_out = _of("magnitudes", "left_out", "Stars (n_star, n_band) with too few measurements.")
    floor = _of("magnitudes", "floor", "Error floors (n_band,) [mag].")
    residual = _of("rows", "residual", "Magnitude of the star less calibrated magnitude (n,) [mag].")
    used = _of("rows", "used", "Measurements (n,) that were used.")
    clipped = _of("rows", "clipped", "Measurements (n,) that were clipped.")
    flags = _of("rows", "flags", "RowFlag bits (n,) of the measurements.")
    held_out = _of("rows", "held_out", "Residuals of what was kept back.")
    chi2 = _of("quality", "chi2", "Chi2 of the used measurements and the priors.")
    degrees_of_freedom = _of("quality", "degrees_of_freedom", "Degrees of freedom of chi2.")
    converged = _of("quality", "converged", "Whether nothing changed in the last pass.")
    passes = _of("quality", "passes", "Passes of the reweighting.")
    steps = _of("quality", "steps", "Steps of conjugate gradients.")

    @property
    def field_floor(self) -> Mapping[str, float]:
        """Standard deviations [mag] of what stars at one place of the detector share, by band and detector.

        Empty where they share nothing beyond what the terms have. Errors and covariances allow for it.
        """
        return self.uncertainty.field_floor()

    def __repr__(self) -> str:
        bands = f"{len(self.bands)} band{'s' * (len(self.bands) > 1)}"
        return (
            f"JointSolution({len(self.value):,} columns of {', '.join(term.name for term in self.terms)}, "
            f"{len(self.star):,} stars in {bands}, {int(self.used.sum()):,} of {len(self.used):,} measurements used, "
            f"{'converged' if self.converged else 'NOT converged'})"
        )

    # --- values, errors and covariances -------------------------------------------------------------------------------

    def columns(self, name: str) -> slice:
        """Return the columns of a block. Raises ValueError for a name that is none."""
        return self.design.columns(name)

    def block(self, name: str) -> Block:
        """Return a block by its name."""
        return self.design.block(name)

    def places(self, name: str, part: str | None = None) -> np.ndarray:
        """Return the column (n_place,) of a part, by default the first, at every place of a block."""
        block, columns = self.block(name), self.columns(name)
        first = block.column(block.labels[0], part)
        return np.arange(columns.start + first, columns.stop, len(block.parts))

    def term(self, name: str, part: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return values and errors (n_place,) of a part of a block, in the order of its labels."""
        columns = self.places(name, part)
        return self.value[columns], self.error(columns)

    def error(self, columns: np.ndarray) -> np.ndarray:
        """Return standard errors (k,) of columns; NaN of those without data."""
        out = self.uncertainty.errors(columns, len(self.value))
        return np.where(np.isnan(self.value[columns]), np.nan, out)

    def covariance(
        self, combinations: ArrayLike | sparse.csr_array | None = None, stars: Sequence[tuple[str | int, str]] = ()
    ) -> np.ndarray:
        """Return the covariance (k, k) of combinations of columns, then of stars' magnitudes.

        combinations (n_combination, n_column); stars: pairs of id and band. cov(p) = R^-1 less what constraints fix,
        cov(M) = D^-1 + D^-1 B cov(p) B' D^-1. Raises ValueError for stars that are not in the solution, and for
        combinations with columns that have no data.
        """
        n = len(self.value)
        given: Any = np.zeros((0, n)) if combinations is None else combinations
        rows = np.atleast_2d(given.toarray() if sparse.issparse(given) else given)
        if rows.shape[1] != n:
            raise XpjaxError(f"combinations have {rows.shape[1]} columns, the solution {n}")
        if len(missing := np.flatnonzero((rows != 0).any(axis=0) & np.isnan(self.value))):
            raise XpjaxError(f"{self.column_name(int(missing[0]))} has no data, and so no covariance")
        slots = np.array([self._slot(*one) for one in stars], int)
        own, alike = self.uncertainty.star_rows(slots)
        whole = np.concatenate([rows, own])
        out = whole @ self.uncertainty.inverse(whole.T)
        out[len(rows) :, len(rows) :] += alike
        return 0.5 * (out + out.T)

    def star_errors(self) -> np.ndarray:
        """Return standard errors (n_star, n_band) of stars, of measurements and terms; NaN without magnitude."""
        known = np.flatnonzero(np.isfinite(self.magnitude.ravel()))
        out = np.full(self.magnitude.size, np.nan)
        out[known] = self.uncertainty.star_errors(known)
        return out.reshape(self.magnitude.shape)

    def _slot(self, star: Any, band: str) -> int:
        place = np.flatnonzero(self.star == star)
        if not len(place) or band not in self.bands or np.isnan(self.magnitude[place[0], self.bands.index(band)]):
            raise XpjaxError(f"star {star!r} in band {band!r} has no magnitude in the solution")
        return int(place[0]) * len(self.bands) + self.bands.index(band)

    def column_name(self, column: int) -> str:
        """Return the name of a column."""
        return column_name(self.blocks, column)

    # --- other rows ---------------------------------------------------------------------------------------------------

    def with_terms(self, *terms: Term) -> JointSolution:
        """Return the solution with terms that have data of their own for other rows: covariates, spectra of stars."""
        return dataclasses.replace(self, design=dataclasses.replace(self.design, terms=terms))

    def design_matrix(self, observations: Observations) -> tuple[sparse.csr_array, np.ndarray]:
        """Return sparse rows (n, n_column) and offsets (n,) of other measurements.

        rows @ value + offset is what the terms add to instrumental magnitudes. Frames and places are matched by name;
        NaN for those without data, and where a term needs a color or place that a row does not have.
        """
        return self.design.rows(observations, self.value)

    def correction(self, observations: Observations, *, errors: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return what the terms add to instrumental magnitudes (n,) of any measurements, and its errors [mag].

        NaN where `design_matrix` has NaN. Without errors these are NaN, and nothing is solved for them.
        """
        design, offset = self.design_matrix(observations)
        added = design @ np.nan_to_num(self.value) + offset
        error = np.full(len(added), np.nan)
        good = np.flatnonzero(np.isfinite(added) & errors)
        error[good] = self.uncertainty.errors_of(good, lambda some: (design[some].toarray(), 0.0))
        return added, error

    # --- tables -------------------------------------------------------------------------------------------------------

    def parameters(self) -> SurveyTable:
        """Return a table with a row for each column of each term: value, error, unit, prior, and its frames."""
        each, amplifiers = [], json_entry(self.meta, "amplifiers", "[]")
        for block in self.blocks:
            n, k = len(block.labels), len(block.parts)
            prior = block.sigma < np.inf
            each.append({
                "term": np.full(n * k, block.name), "place": np.repeat(_named(block.labels, amplifiers), k),
                "part": np.tile([part.name for part in block.parts], n),
                "unit": np.tile([part.in_unit for part in block.parts], n),
                "description": np.tile([part.said(block.name) for part in block.parts], n),
                "prior_mean": np.where(prior, block.mean, np.nan), "prior_error": np.where(prior, block.sigma, np.nan),
                **{name: np.repeat(block.keys.get(name, np.full(n, "")), k) for name in FIELDS},
            })  # fmt: skip
        found = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        found |= {"value": self.value, "error": self.error(np.arange(len(self.value)))}
        return self._table(PARAMETERS, found)

    def stars(self) -> SurveyTable:
        """Return a table with a row for each star in each band: magnitude, error, and measurements used."""
        return self._table(STARS, self)

    def exposures(self) -> SurveyTable:
        """Return a table with a row for each frame: residuals, and values and errors of the terms that it has."""
        more = []
        for block in self.blocks:
            if (place := self._of_frames(block)) is None:
                continue
            for part in block.parts:
                columns = self.places(block.name, part.name)
                name = (block.name if len(block.parts) == 1 else f"{block.name} {part.name}").replace(" ", "_")
                about = part.said(block.name) + f" [{part.per}]" * bool(part.per)
                for end, values, what in (
                    ("", self.value[columns], about),
                    ("_error", self.error(columns), f"Standard error of {about[0].lower()}{about[1:]}"),
                ):
                    more.append(OutputColumn.of(name + end, values[place], part.unit, what))
        return self._table((*FRAMES, *more), self)

    def _of_frames(self, block: Block) -> np.ndarray | None:
        """The place (n_frame,) of each frame in a block; None where its places are other than groups of frames."""
        keys = list(zip(*(block.keys[name].tolist() for name in block.keys), strict=True)) or [()] * len(block.labels)
        known = {key: k for k, key in enumerate(keys)}
        if block.group is not None or len(known) < len(keys):
            return None
        n = len(self.frames)
        own = list(zip(*(getattr(self.frames, name).tolist() for name in block.keys), strict=True)) or [()] * n
        return np.array([known[key] for key in own], int)

    def frame_counts(self) -> np.ndarray:
        """Return the number of measurements used (n_frame,) of each frame."""
        return self.rows.of_frames(len(self.frames))[0]

    def frame_floor(self) -> np.ndarray:
        """Return the error floor (n_frame,) [mag] of the measurements of each frame."""
        own = self.rows.frame_floor
        return self.floor[[self.bands.index(band) for band in self.frames.band.tolist()]] if own is None else own

    def frame_rms(self) -> np.ndarray:
        """Return the root mean square residual (n_frame,) [mag] of the measurements used of each frame."""
        count, square = self.rows.of_frames(len(self.frames))
        with np.errstate(invalid="ignore"):
            return np.sqrt(square / count)

    def calibrated(self, observations: Observations) -> SurveyTable:
        """Return the measurements that were given, with calibrated magnitudes, residuals and flags.

        Measurements that took no part are calibrated too; their flags say why they did not, or why they have no value.
        """
        o = observations
        star = places_of(o.star, self.star)
        band = np.array([self.bands.index(b) for b in o.frames.band.tolist()])[o.frame]
        truth = np.where(star >= 0, self.magnitude[star, band], np.nan)
        amplifiers = json_entry(self.meta, "amplifiers", "[]")
        origin = origin_columns(o, [column.name for column in MEASUREMENTS], amplifiers)
        magnitude, residual = truth - self.residual, self.residual.copy()
        magnitude[self.rows.lost] = self.rows.lost_magnitude
        residual[self.rows.lost] = (truth - magnitude)[self.rows.lost]
        rows = {"residual": residual, "used": self.used, "flags": self.flags}
        made = SimpleNamespace(observations=o, truth=truth, magnitude=magnitude, **rows)
        return self._table((*MEASUREMENTS, *origin), made)

    def _table(self, columns: Sequence[OutputColumn], result: Any) -> SurveyTable:
        made = tabulate(columns, result, self.meta)
        return SurveyTable(made.columns, made.units, made.descriptions, made.meta)

    def _errors_of_priors(self) -> np.ndarray:
        """Errors (n_column,) of values with a prior, NaN of others."""
        out = np.full(len(self.value), np.nan)
        mine = np.flatnonzero(np.isfinite(np.concatenate([block.sigma for block in self.blocks])))
        out[mine] = self.error(mine)
        return out

    def summary(self) -> list[str]:
        """Return what is worth telling of the solution, a line for each."""
        out = gauge_lines(self.gauge)
        out += of_priors_alone(self.blocks, self._errors_of_priors())
        if empty := int(np.isnan(self.value).sum()):
            out.append(f"{empty:,} columns have no data: NaN")
        before = self.rows.earlier
        earlier = "" if before is None else f"beside {int(before[0].sum()):,} of earlier exposures, "
        out.append(
            f"{int(self.used.sum()):,} measurements used, {earlier}{int(self.clipped.sum()):,} clipped; "
            f"{int(self.left_out.sum()):,} stars have too few; chi2 {self.chi2:.0f} for {self.degrees_of_freedom:,}"
        )
        own, frames = self.frame_floor(), np.unique(self.rows.frame)
        for band in self.bands:
            mine = frames[self.frames.band[frames] == band]
            if len(mine):
                out.append(
                    f"error floor {band}: {1e3 * own[mine[-1]]:.2f} mmag" + " of these exposures" * bool(earlier)
                )
        floors: Any = self.meta.get("sky_floor", {})
        out += floor_lines(floors)
        out += field_lines(self.field_floor)
        if self.held_out is not None:
            off = np.abs(self.held_out.residual)
            pull = off / np.where(self.held_out.error > 0, self.held_out.error, np.nan)
            out.append(
                f"cross-validation: {int(np.isfinite(off).sum()):,} measurements kept back, 1.48 MAD "
                f"{1482.6 * np.nanmedian(off):.1f} mmag, {1.4826 * np.nanmedian(pull):.2f} of what is expected"
            )
        if not self.converged:
            out.append("NOT CONVERGED: look at the terms that are nearly degenerate, and give priors")
        return out


def _named(labels: Sequence[str], amplifiers: Sequence[str]) -> list[str]:
    """Names of places with amplifiers by their names instead of their codes."""
    code = re.compile(r"(?<=amplifier )\d+$")
    return [code.sub(lambda found: amplifiers[int(found[0])], one) if amplifiers else one for one in labels]
