"""What calibration gives: the solution of a survey, and calibrated measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.records import Catalogue, Record, Rows, concatenate_records, json_entry
from xpjax.core.types import RowIndex
from xpjax.io.results import TableResult
from xpjax.survey import FrameFlag, Frames, Observations, RowFlag, lacks_airmass, origin_columns, tabulate
from xpjax.survey.exposures.columns import MEASUREMENT, QUALITY, ZERO_POINT, term_columns
from xpjax.survey.exposures.flat import StackedFlats, Standards
from xpjax.survey.exposures.results import FRAME_ARRAYS, ExposureFits
from xpjax.survey.exposures.settings import CalibrationSettings


@dataclasses.dataclass(frozen=True, repr=False)
class Calibration(TableResult, Record):
    """Hold the solution of a survey; what `solution.h5` holds. As a table it has a row for each frame.

    Parameters
    ----------
    settings : CalibrationSettings
        How the survey was calibrated.
    frames : Frames
        The frames.
    fits : ExposureFits
        Their fits.
    flats : StackedFlats, optional
        Stacked flats.
    standards : Standards
        Standards that took part, for numerical flats.
    local_floor : (n_frame,) array [mag]
        Error floors after the numerical flat.
    common_floor : (n_frame,) array [mag]
        Parts of the error floors that are common to a star on all frames.
    record : mapping
        How the solution came about.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, _ = exposures.calibrate(observations)
    >>> solution.to_table()["zero_point"].unit
    Unit("mag")
    """

    bits = FrameFlag

    settings: CalibrationSettings
    frames: Frames
    fits: ExposureFits
    flats: StackedFlats | None
    standards: Standards
    local_floor: np.ndarray
    common_floor: np.ndarray
    record: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frames: RowIndex) -> Calibration:
        """The solution of some frames, by a slice, a mask or indices."""
        index = np.atleast_1d(np.arange(len(self))[frames])
        place = np.full(len(self), -1)
        place[index] = np.arange(len(index))
        mine = place[self.standards.frame]
        rows = np.flatnonzero(mine >= 0)
        rows = rows[np.argsort(mine[rows], kind="stable")]
        columns = {f.name: getattr(self.standards, f.name) for f in dataclasses.fields(Standards)}
        picked = {name: column[rows] if len(column) else column for name, column in columns.items()}
        picked["frame"] = mine[rows].astype(np.int32)
        return dataclasses.replace(
            self, frames=self.frames[index], fits=self.fits[index], local_floor=self.local_floor[index],
            common_floor=self.common_floor[index], standards=Standards(**picked),
        )  # fmt: skip

    def zero_point_systematic(self) -> np.ndarray:
        """Return the common error of the zero-points (n_frame,) [mag]; NaN where the data do not say.

        Returns
        -------
        (n_frame,) array [mag]
            The data say nothing of a band whose standards came without model errors, whose stars have no common error
            that shows, and for which no systematic_error was set.

        Notes
        -----
        The root of the sum of the squares of `fits.zero_point_common` (errors of the models of single stars, and of the
        flat), `fits.model_systematic` (what is wrong with all models alike) and the systematic_error of the settings.
        """
        error = np.hypot(self.fits.model_systematic, self.settings.systematic_error)
        group, first = self.frames.group("band")
        known = self.standards.model_error  # absent from solutions of old
        given = np.bincount(group[self.standards.frame[: len(known)]], known > 0, len(first)) > 0
        stated = given[group] | (self.common_floor > 0) | (error > 0)
        return np.where(stated, np.hypot(self.fits.zero_point_common, error), np.nan)

    def catalogue(self) -> Catalogue:
        """Return the zero-points, one row for each frame: what `zeropoints.ecsv` holds."""
        scale = self.fits.scaling
        meta = {
            **self.record, "color_zero": scale.color_zero, "magnitude_zero": scale.magnitude_zero,
            "x_range": scale.box[0, :2].tolist(), "y_range": scale.box[0, 2:].tolist(),
        }  # fmt: skip
        return tabulate([*ZERO_POINT, *term_columns(self), *QUALITY], self, meta)


def join_solutions(parts: Sequence[Calibration], place: np.ndarray, record: Mapping[str, Any]) -> Calibration:
    """The solution of a survey whose parts were calibrated one by one.

    place (n_frame,): where each frame of the parts, one after the other, is in the survey.
    """
    first, order = parts[0], np.argsort(place)
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part.fits, name) for part in parts])[order] for name in FRAME_ARRAYS
    }
    box = np.concatenate([part.fits.scaling.box for part in parts])[order]
    none = np.zeros(0, bool)
    fits = dataclasses.replace(
        first.fits, scaling=dataclasses.replace(first.fits.scaling, box=box), **arrays, residual=np.zeros(0), used=none,
        clipped=none,
    )  # fmt: skip
    starts = np.cumsum([0, *map(len, parts)])
    frame = np.concatenate([place[part.standards.frame + k] for part, k in zip(parts, starts, strict=False)])
    rows = np.argsort(frame, kind="stable")
    columns = {
        f.name: np.concatenate([getattr(part.standards, f.name) for part in parts])[rows]
        for f in dataclasses.fields(Standards)
    }
    frames = concatenate_records([part.frames for part in parts])[order]
    fits = fits.flagged(lacks_airmass(frames), FrameFlag.NO_AIRMASS)
    floors: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[order] for name in ("local_floor", "common_floor")
    }
    return dataclasses.replace(
        first, frames=frames, fits=fits,
        standards=Standards(**{**columns, "frame": frame[rows].astype(np.int32)}), **floors, record=record,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class Calibrated(Rows, TableResult, Record):
    """Hold calibrated magnitudes of rows (n,); NaN where there is none, and flags say why.

    Parameters
    ----------
    observations : Observations
        The measurements.
    magnitude : (n,) array [mag]
        Calibrated magnitudes.
    magnitude_error : (n,) array [mag]
        Statistical errors: photons, zero-point, flat.
    systematic_error : (n,) array [mag]
        Error floor of the frame and common error of the standards.
    residual : (n,) array [mag]
        Model - color term - magnitude, NaN without a model. A numerical flat is in both magnitude and residual; that of
        a standard does not contain the standard itself.
    flags : (n,) uint32 array
        RowFlag bits.
    record : mapping
        How the magnitudes came about.
    fits : ExposureFits, optional
        Fits of the frames.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> _, calibrated = exposures.calibrate(observations)
    >>> len(calibrated) == len(calibrated.to_table()), len(calibrated[:5])
    (True, 5)
    """

    row_fields = ("observations", "magnitude", "magnitude_error", "systematic_error", "residual", "flags")
    bits = RowFlag

    observations: Observations
    magnitude: np.ndarray
    magnitude_error: np.ndarray
    systematic_error: np.ndarray
    residual: np.ndarray
    flags: np.ndarray
    record: Mapping[str, object] = dataclasses.field(default_factory=dict)
    fits: ExposureFits | None = None

    def catalogue(self) -> Catalogue:
        """Return one row for each measurement; band and detector only where there are several or they have names."""
        amplifiers = json_entry(self.record, "amplifiers", "[]")
        origin = origin_columns(self.observations, [column.name for column in MEASUREMENT], amplifiers)
        return tabulate([*MEASUREMENT, *origin], self, dict(self.record))
