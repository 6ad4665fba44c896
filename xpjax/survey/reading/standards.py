"""Standards from a table, matched to detections by identifier or by position; their columns stay their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.tables import Ids, Table, open_table
from xpjax.survey import Match, match_ids, match_positions, position_ids, separation
from xpjax.survey.reading.sections import StandardStars

if TYPE_CHECKING:
    from xpjax.survey.reading.spectra import FieldSpectra

OWN_EPOCH = 2016.0
"""Epoch of positions of Gaia DR3, from which proper motions carry standards [yr]; ref_epoch of a table says another."""
SOME = 2000
"""Matched detections of a table whose offsets from their standards are told."""
MISSING_IDS = (0, *(-(10**k - 1) for k in range(1, 6)), -1)
"""Identifiers that say, where several detections have them, that there is none."""
BY_POSITION = ("radius", "ra", "dec", "pm_ra", "pm_dec", "epoch", "years")
"""Entries of [standards] that only a match by position has."""


TIME = "time"
"""The epoch of standards that are carried to the time of each exposure."""
SPECTRA_MOTION = ("pmra", "pmdec")
"""Columns of proper motions beside XP coefficients."""
EPOCHS = ((30_000.0, 90_000.0, 51_544.5), (2_430_000.0, 2_490_000.0, 2_451_545.0))
"""Modified Julian days and Julian days, from and to, and J2000.0 in either."""


def check_standards(said: StandardStars) -> None:
    """Raise XpjaxError for entries of [standards] that are wrong, halves of pairs, or without effect."""
    given = said.given()
    if said.file is None and not said.has_spectra:
        raise XpjaxError('[standards] names no standards: give spectra = "FILE", fetch = true or file = "FILE"')
    if said.spectra is not None and said.fetch:
        raise XpjaxError("[standards] has spectra and fetch = true: leave one of them out")
    if said.file is None and "id" in given:
        raise XpjaxError("[standards] id is of a table of stars, and spectra have source_id: leave it out")
    if said.match == "source_id" or (said.match is None and not said.has_spectra):
        if idle := [name for name in BY_POSITION if name in given]:
            raise XpjaxError(f'[standards] {idle[0]} has no effect with match = "source_id": leave it out')
        return
    for pair in (("ra", "dec"), ("pm_ra", "pm_dec")):
        have = [name for name in pair if name in given]
        if len(have) == 1:
            raise XpjaxError(f"[standards] has {have[0]} and no {({*pair} - {*have}).pop()}: give both")
    if "epoch" in given and "years" in given:
        raise XpjaxError("[standards] has epoch and years, which say the same: give one")
    for name in ("epoch", "years"):
        if name in given and "pm_ra" not in given and not said.has_spectra:
            raise XpjaxError(
                f"[standards] {name} moves no position without pm_ra and pm_dec: name them, or leave it out"
            )
    if not 0 < said.radius < 3600:
        raise XpjaxError(f"[standards] radius = {said.radius!r}: expected arcseconds, such as 1.0")
    _years(said)


def _own_epoch(table: Table) -> float:
    """Epoch of the positions of standards [yr]: Gaia's column ref_epoch, as 2017.5 in Gaia DR4, else that of Gaia DR3.

    Raises XpjaxError where it differs from star to star.
    """
    if "ref_epoch" not in table:
        return OWN_EPOCH
    epochs = table.column("ref_epoch").numbers()
    known = np.unique(epochs[np.isfinite(epochs)])
    if len(known) > 1:
        raise XpjaxError(
            f"{table.origin}: ref_epoch is {known[0]:g} and {known[-1]:g}: give standards with positions of one epoch"
        )
    return float(known[0]) if len(known) else OWN_EPOCH


def _years(said: StandardStars, own: float = OWN_EPOCH) -> float:
    """How far proper motions carry the standards [yr] from their own epoch."""
    if said.years is not None:
        return said.years
    epoch = own if said.epoch in (None, TIME) else said.epoch
    if isinstance(epoch, str):
        found = re.fullmatch(r"\s*J?(\d{4}(?:\.\d+)?)\s*", epoch)
        if found is None:
            raise XpjaxError(f'[standards] epoch = {epoch!r}: expected a year, such as 2021.5 or J2021.5, or "time"')
        epoch = float(found[1])
    if not 1800 <= epoch <= 2100:
        raise XpjaxError(f'[standards] epoch = {epoch:g}: expected a year, such as 2021.5, or "time"')
    return float(epoch) - own


def julian_years(time: np.ndarray) -> np.ndarray:
    """Julian years (n,) of times (n,) that are (modified) Julian days; NaN for others."""
    time = np.asarray(time, float)
    out = np.full(time.shape, np.nan)
    for low, high, zero in EPOCHS:
        with np.errstate(invalid="ignore"):
            out = np.where((time > low) & (time < high), 2000.0 + (time - zero) / 365.25, out)
    return out


def coefficients_said(origin: object) -> str:
    """What is to be told of XP coefficients where a table of magnitudes is expected."""
    return (
        f"{origin} holds XP coefficients, not magnitudes: make magnitudes of them with `xpjax photometry` and name its "
        "output as [standards] file, or name them as [standards] spectra, with the survey's passbands in [passband]"
    )


def open_standards(path: Any) -> Table:
    """The table of standards. Raises XpjaxError for a store of XP coefficients, and as `open_table` does."""
    if isinstance(path, Path) and path.is_dir() and any(path.glob("*.h5")):
        raise XpjaxError(f"[standards] file {coefficients_said(path)}")
    return open_table(path)


class Standards:
    """A table of standards, ready to be matched to the tables of a survey, within radius [arcsec] if by position.

    by_position: how they are matched; wanted: columns that will be asked for, if they are there. spectra: XP spectra of
    the standards, where they are such.
    """

    def __init__(
        self,
        table: Table,
        said: StandardStars,
        wanted: Iterable[str] = (),
        *,
        by_position: bool | None = None,
        spectra: FieldSpectra | None = None,
    ) -> None:
        self.table, self.radius, self.spectra = table, said.radius, spectra
        self.by_position = said.match == "position" if by_position is None else by_position
        motion = (said.pm_ra, said.pm_dec)
        if said.pm_ra is None and spectra is not None and all(name in table for name in SPECTRA_MOTION):
            motion = SPECTRA_MOTION
        named = [name for name in (said.ra, said.dec, *motion) if name and self.by_position]
        own = said.id if spectra is None else "source_id"
        table.load([own, *named, *wanted])
        if self.by_position:
            self.ra, self.dec = self.positions(table, said.ra, said.dec)
        if self.by_position and "id" not in said.given() and own not in table:
            self.ids = Ids(position_ids(self.ra, self.dec), ~np.isfinite(self.ra + self.dec))
        else:
            self.ids = table.column(own, "[standards] id").ids()
        if self.by_position:
            names = {key: name for key, name in zip(("pm_ra", "pm_dec"), motion, strict=True) if name}
            columns = {key: table.column(name, f"[standards] {key}") for key, name in names.items()}
            self.motion = {key: column.numbers("proper motion") for key, column in columns.items()}
            self.own = _own_epoch(table)
            self.years = _years(said, self.own)
            unsaid = said.epoch is None and said.years is None and spectra is not None
            self.at_times = bool(self.motion) and (said.epoch == TIME or unsaid)
        if spectra is not None:
            how = f"by position, within {self.radius:g} arcsec" if self.by_position else "by identifier"
            name = os.path.basename(table.origin)
            table.notes.insert(0, f"standards: {len(table):,} XP spectra of {name}, matched {how}")
            if self.by_position and not self.motion:
                table.notes.insert(1, f"{name} has no proper motions: stars are matched where it lists them")

    @property
    def holds_coefficients(self) -> bool:
        """Whether the table is one of XP coefficients, be it with columns of Gaia beside them."""
        return any(re.search(r"(^|_|/)[br]p_coefficients$", name.lower()) for name in self.table.names)

    @staticmethod
    def positions(table: Table, ra: str, dec: str) -> tuple[np.ndarray, np.ndarray]:
        """Right ascensions and declinations (n,) [deg], NaN where missing or impossible, which a note tells."""
        a = table.column(ra, "ra").angles(hours=True)
        d = table.column(dec, "dec").angles()
        with np.errstate(invalid="ignore"):
            bad = (np.abs(d) > 90) | (a < -360) | (a > 720)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            table.notes.append(
                f"{table.origin}: {int(bad.sum()):,} positions are impossible, such as {a[row]:g}, {d[row]:g} in row "
                f"{row + 1}: missing"
            )
        return np.where(bad, np.nan, a), np.where(bad, np.nan, d)

    def match_ids(self, ids: Ids, where: str) -> Match:
        """Detections with these identifiers. Raises XpjaxError where one side is text and the other numbers."""
        own, theirs = self.ids.value, ids.value
        if (own.dtype.kind in "iu") != (theirs.dtype.kind in "iu") and len(own) and not ids.missing.all():
            kinds = ("integers", "text") if own.dtype.kind in "iu" else ("text", "integers")
            raise XpjaxError(
                f"{self.table.origin}: its identifiers are {kinds[0]}, those of {where} {kinds[1]}: they never agree; "
                "name columns of one kind"
            )
        if own.dtype.kind != theirs.dtype.kind and not (own.dtype.kind in "iu" and theirs.dtype.kind in "iu"):
            return Match(np.full(len(theirs), -1), 0)
        known = np.flatnonzero(~self.ids.missing)
        found = match_ids(theirs, own[known])
        none = ids.missing
        if theirs.dtype.kind in "iu":
            for value in MISSING_IDS:
                same = theirs == value
                none = none | same if same.sum() > 1 else none
        index = np.where((found.index >= 0) & ~none, known[found.index] if len(known) else -1, -1)
        return Match(index, found.n_ambiguous)

    def match_positions(self, ra: np.ndarray, dec: np.ndarray, time: np.ndarray, frame: np.ndarray) -> Match:
        """Detections on frames (n,) at times (n,) [d] within the radius of one standard, and of one only.

        A detection whose time is not known is matched to the standards at their own epoch.
        """
        years = np.nan_to_num(julian_years(time) - self.own) if self.at_times else self.years
        return match_positions(
            ra, dec, self.ra, self.dec, radius=self.radius, years=years, frame=frame, **self.motion
        )  # fmt: skip

    def offsets(self, index: np.ndarray, ra: np.ndarray, dec: np.ndarray, time: np.ndarray) -> np.ndarray:
        """How far some matched detections are from their standards to the east and north, and how these move.

        (4, n) [arcsec, arcsec/yr]; a motion that is not known is zero.
        """
        rows = np.flatnonzero(index >= 0)
        rows = rows[:: max(1, len(rows) // SOME)]
        of = index[rows]
        years = np.nan_to_num(julian_years(time[rows]) - self.own) if self.at_times else self.years
        east, north = (np.nan_to_num(self.motion[key][of]) / 1e3 if key in self.motion else np.zeros(len(of))
                       for key in ("pm_ra", "pm_dec"))  # fmt: skip
        turn = (ra[rows] - self.ra[of] + 180) % 360 - 180
        return np.stack([
            3600 * turn * np.cos(np.radians(dec[rows])) - east * years,
            3600 * (dec[rows] - self.dec[of]) - north * years, east, north,
        ])  # fmt: skip

    def why_none(self, ra: np.ndarray, dec: np.ndarray) -> str:
        """Where no detection is matched by position: how far the nearest is, and what the positions look like."""
        good, known = np.isfinite(ra) & np.isfinite(dec), np.isfinite(self.ra) & np.isfinite(self.dec)
        if not good.any() or not known.any():
            whose = "the detections have" if not good.any() else "the standards have"
            return f"no detection is matched: {whose} no positions"
        nearest = separation(ra[good], dec[good], self.ra[known], self.dec[known])
        said = f"no detection lies within {self.radius:g} arcsec of a standard: the nearest is {_angle(nearest)} away"
        ours, theirs = (ra[good], dec[good]), (self.ra[known], self.dec[known])
        turn = np.rad2deg(1.0)
        for look, a, d in (("radians", turn, turn), ("hours of right ascension", 15.0, 1.0)):
            for whose, one, two in (
                ("detections", (a * ours[0], d * ours[1]), theirs), ("standards", ours, (a * theirs[0], d * theirs[1])),
            ):  # fmt: skip
                if max(np.abs(one[1]).max(), np.abs(two[1]).max()) <= 90 and separation(*one, *two) < nearest / 10:
                    said += f"; positions of the {whose} look like {look}: state the unit in the table"
        return said


def _angle(arcsec: float) -> str:
    for size, unit in ((3600.0, "deg"), (60.0, "arcmin")):
        if arcsec >= size:
            return f"{arcsec / size:.3g} {unit}"
    return f"{arcsec:.3g} arcsec"
