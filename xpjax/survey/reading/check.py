"""What a run would do, told before anything is fitted: rows, matches, cuts, standards of exposures, terms, ranges.

Rows are read as `calibrate_survey` reads them; only the fits are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.records import Record
from xpjax.core.types import AnyTables
from xpjax.survey import FrameFlag, Observations, OutputColumn, RowFlag, SurveyTable, tabulate, with_nights
from xpjax.survey.exposures import CalibrationSettings, determined_terms, prepare, usable_standards
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.config import SurveyConfig, read_config
from xpjax.survey.reading.look import few
from xpjax.survey.reading.odd import alarms, hints
from xpjax.survey.reading.tables import SurveyReading, read_observations

FINE, SOME_REFUSED, CANNOT = 0, 1, 2
"""Exit status: a run would give every exposure a zero-point, refuse some, refuse all."""
LOST = {
    RowFlag.NO_MAGNITUDE: "no magnitude",
    RowFlag.NO_POSITION: "no position on the detector",
    RowFlag.NO_MODEL: "no model magnitude, or no color",
    RowFlag.NO_ERROR: "no magnitude error above zero",
    RowFlag.OUTSIDE_DOMAIN: "the correction of XP spectra does not hold for the star",
    RowFlag.DUPLICATE: "the same measurement comes before on the frame",
    RowFlag.CUT: "excluded by a cut",
}
"""Why rows are no standards; the first reason counts."""
COLUMNS = (
    OutputColumn("exposure", lambda c: c.frames.exposure, "", "Exposure"),
    OutputColumn("band", lambda c: c.frames.band, "", "Band"),
    OutputColumn("detector", lambda c: c.frames.detector, "", "Detector"),
    OutputColumn("night", lambda c: c.frames.night, "", "Night"),
    OutputColumn("time", lambda c: c.frames.time, "d", "Time of the exposure"),
    OutputColumn("airmass", lambda c: c.frames.airmass, "", "Airmass of the exposure"),
    OutputColumn("n_row", lambda c: c.n_row, "", "Number of rows"),
    OutputColumn("n_standard", lambda c: c.n_standard, "", "Number of stars that may be standards"),
    OutputColumn("n_term", lambda c: c.n_term, "", "Number of terms that the standards determine"),
    OutputColumn("status", lambda c: c.status, "", "FrameFlag bits that are known before the fit"),
)


@dataclasses.dataclass(frozen=True, repr=False)
class SurveyCheck(Record):
    """Hold what is known of a calibration before anything is fitted.

    Parameters
    ----------
    observations : Observations
        The measurements, as they would be calibrated.
    account : Account
        What happened to the rows of the input.
    lost : mapping of str to int
        Rows that are no standards, by the first reason.
    n_row, n_standard, n_term : (n_frame,) int array
        Rows of each frame, stars that may be standards, and terms that these determine; of a joint solution no terms.
    status : (n_frame,) uint32 array
        FrameFlag bits that are known before the fit.
    terms : tuple of str
        Which terms are determined, in words.
    warnings : tuple of str
        What is odd.
    determined : bool
        Whether data, priors and constraints determine every term of a joint solution.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> found = xpjax.survey.reading.check_survey({"e1": tonight}, config)
    >>> found.exit_status, found.exposures()["n_standard"].tolist()
    (0, [20])
    """

    observations: Observations
    account: Account
    lost: Mapping[str, int]
    n_row: np.ndarray
    n_standard: np.ndarray
    n_term: np.ndarray | None
    status: np.ndarray
    terms: tuple[str, ...]
    warnings: tuple[str, ...]
    determined: bool = True

    @property
    def frames(self) -> Any:
        """The frames of the observations."""
        return self.observations.frames

    @property
    def refused(self) -> np.ndarray:
        """Frames (n_frame,) that have no standards."""
        return self.n_standard == 0

    @property
    def exit_status(self) -> int:
        """0 where a run would go through, 1 where it would refuse some exposures, 2 where all."""
        if not self.determined or self.refused.all():
            return CANNOT
        return SOME_REFUSED if self.refused.any() else FINE

    def exposures(self) -> SurveyTable:
        """Return a table with a row for each frame: its standards and terms."""
        table = tabulate(COLUMNS, self, {})
        return SurveyTable(table.columns, table.units, table.descriptions, table.meta)

    def lines(self) -> list[str]:
        """What is worth telling."""
        o, frames = self.observations, self.frames
        texts = {name: getattr(frames, name) for name in ("exposure", "band", "detector", "night")}
        kinds = [_counted(len(np.unique(text)), name) for name, text in texts.items() if (text != "").any()]
        out = [f"{self.account.n_row:,} rows read: {len(o):,} measurements on {_counted(len(frames), 'frame')}"]
        out[0] += f" ({', '.join(kinds)})" if kinds else ""
        out += self.account.lines()
        out += [said] if (said := _separations(self.account.offsets)) else []
        out += [f"{n:,} measurements are no standards: {reason}" for reason, n in self.lost.items()]
        what = "measurements that may take part" if self.n_term is None else "standards"
        out += [f"{what} on a frame{where}: {_range(n)}" for where, n in self._by_band()]
        out += self.terms
        for bit in FrameFlag:
            if bit and (marked := np.flatnonzero(self.status & np.uint32(bit))).size:
                named = few([frames.name(int(k)) for k in marked])
                out.append(f"{_counted(len(marked), 'frame')} {bit.name}: {bit.meaning} [{named}]")
        out += [f"WARNING: {warning}" for warning in self.warnings]
        verdict = (
            "a run would go through", f"a run would refuse {int(self.refused.sum()):,} of {len(frames):,} frames",
            "a run would refuse all frames" if self.determined else "a run would be refused",
        )  # fmt: skip
        return [*out, verdict[self.exit_status]]

    def _by_band(self) -> list[tuple[str, np.ndarray]]:
        bands = np.unique(self.frames.band)
        return [(f" in {band}" if band else "", self.n_standard[self.frames.band == band]) for band in bands.tolist()]


def check_survey(sources: AnyTables, config: SurveyConfig | str | Path | Mapping[str, object]) -> SurveyCheck:
    """Tell what `calibrate_survey` would do, before anything is fitted: what `xpjax survey check` does.

    Parameters
    ----------
    sources : path, table, list of these, or mapping
        Files and tables; a mapping has them by the names of their exposures.
    config : SurveyConfig, path or mapping
        What the columns mean, the standards and the model.

    Returns
    -------
    SurveyCheck
        Rows, matches, cuts, standards of exposures, terms that are determined, and what is odd.

    Raises
    ------
    XpjaxError
        If configuration or tables are wrong.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> found = xpjax.survey.reading.check_survey({"e1": tonight}, config)
    >>> found.lines()[0], found.lines()[-1]
    ('20 rows read: 20 measurements on 1 frame (1 exposure)', 'a run would go through')
    """
    chosen = config if isinstance(config, SurveyConfig) else read_config(config)
    return checked(read_observations(sources, chosen), chosen)


def checked(reading: SurveyReading, config: SurveyConfig, joint: Sequence[str] | None = None) -> SurveyCheck:
    """The check of what was read. joint: of a joint solution its terms, in words."""
    o, settings = with_nights(reading.observations), config.settings
    n, terms = len(o.frames), joint or ()
    if joint is not None:
        good = np.isfinite(o.magnitude) & (o.magnitude_error > 0) & (o.excluded == 0)
        lost = {"no magnitude, or no error": int((~np.isfinite(o.magnitude) | ~(o.magnitude_error > 0)).sum())}
        count, n_term, status = np.bincount(o.frame[good], minlength=n), None, np.zeros(n, np.uint32)
    else:
        good, flags = usable_standards(o, settings.model)
        lost = _lost(flags)
        prepared = prepare(o, settings)
        active, status = determined_terms(prepared)
        count, n_term = np.bincount(o.frame[good], minlength=n), active.sum(axis=1)
        terms = _terms(prepared.terms.names, active[count > 0], settings)
    odd = alarms(o, config, reading.spectra, good, reading.account.offsets)
    color = joint is None and settings.model.color_order > 0
    odd += hints(o, good, spectral=reading.spectra is not None, color=color)
    return SurveyCheck(
        o, reading.account, {reason: k for reason, k in lost.items() if k}, np.bincount(o.frame, minlength=n), count,
        n_term, status, tuple(terms), tuple(odd),
    )  # fmt: skip


def _lost(flags: np.ndarray) -> dict[str, int]:
    """Rows that are no standards, each by its first reason."""
    left, out = flags != 0, {}
    for bit, reason in LOST.items():
        mine = left & ((flags & np.uint32(bit)) > 0)
        out[reason] = int(mine.sum())
        left &= ~mine
    out["other flags"] = int(left.sum())
    return out


def _terms(names: Sequence[str], active: np.ndarray, settings: CalibrationSettings) -> list[str]:
    """Which terms of the exposures are determined, and what flats there are."""
    if not len(active):
        return []
    everywhere = [name for name, on in zip(names, np.all(active, axis=0).tolist(), strict=True) if on]
    out = [f"terms of every frame, {len(everywhere)} of {len(names)}: {', '.join(everywhere)}"]
    for k, name in enumerate(names):
        if not active[:, k].all():
            out.append(f"term {name}: determined on {int(active[:, k].sum()):,} of {len(active):,} frames")
    if settings.model.magnitude_order == "auto":
        out.append("the magnitude term is fitted where the data need it")
    if settings.numerical_flat:
        out.append(f"numerical flat from the {settings.neighbors} nearest standards")
    if settings.stacked_flat:
        out.append(f"stacked flat in {settings.bins} x {settings.bins} cells")
    return out


def _range(n: np.ndarray) -> str:
    """Numbers of frames, in words."""
    low, high = int(n.min()), int(n.max())
    return f"{low:,} to {high:,}, median {np.median(n):,.0f}" if low < high else f"{low:,}"


def _counted(n: int, noun: str) -> str:
    """A number of things."""
    return f"{n:,} {noun}" + "s" * (n != 1)


def _separations(offsets: Sequence[np.ndarray]) -> str:
    """The separations of detections from their standards, in words; empty where nothing was matched by position."""
    whole = np.concatenate(offsets, axis=1)[:2] if offsets else np.zeros((2, 0))
    if not whole.shape[1]:
        return ""
    far = np.hypot(*whole)
    east, north = np.median(whole, axis=1)
    return (
        f"separations from the standards: median {np.median(far):.3f}, 95 % below {np.percentile(far, 95):.3f} arcsec; "
        f"median offset {east:+.3f} to the east, {north:+.3f} to the north"
    )
