"""Standards from a table, matched to detections by identifier or by position; their columns stay their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.tables import Ids, Table, open_table
from xpjax.survey import Match, match_ids, match_positions, position_ids, separation
from xpjax.survey.reading.sections import StandardStars

OWN_EPOCH = 2016.0
"""Epoch of positions of Gaia DR3, from which proper motions carry standards [yr]; ref_epoch of a table says another."""
MISSING_IDS = (0, *(-(10**k - 1) for k in range(1, 6)), -1)
"""Identifiers that say, where several detections have them, that there is none."""
BY_POSITION = ("radius", "ra", "dec", "pm_ra", "pm_dec", "epoch", "years")
"""Entries of [standards] that only a match by position has."""


def check_standards(said: StandardStars) -> None:
    """Raise XpjaxError for entries of [standards] that are wrong, halves of pairs, or without effect."""
    given = said.given()
    if said.match == "source_id":
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
        if name in given and "pm_ra" not in given:
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
    epoch = own if said.epoch is None else said.epoch
    if isinstance(epoch, str):
        found = re.fullmatch(r"\s*J?(\d{4}(?:\.\d+)?)\s*", epoch)
        if found is None:
            raise XpjaxError(f"[standards] epoch = {epoch!r}: expected a year, such as 2021.5 or J2021.5")
        epoch = float(found[1])
    return float(epoch) - own


def coefficients_said(origin: object) -> str:
    """What is to be told of XP coefficients where a table of magnitudes is expected."""
    return (
        f"{origin} holds XP coefficients, not magnitudes: make magnitudes of them with `xpjax photometry` and name its "
        "output as [standards] file, or name them as [passband] sources with the chain of the telescope"
    )


def open_standards(path: Any) -> Table:
    """The table of standards. Raises XpjaxError for a store of XP coefficients, and as `open_table` does."""
    if isinstance(path, Path) and path.is_dir() and any(path.glob("*.h5")):
        raise XpjaxError(f"[standards] file {coefficients_said(path)}")
    return open_table(path)


class Standards:
    """A table of standards, ready to be matched to the tables of a survey, within radius [arcsec] if by position.

    wanted: columns that will be asked for, if they are there.
    """

    def __init__(self, table: Table, said: StandardStars, wanted: Iterable[str] = ()) -> None:
        self.table, self.radius = table, said.radius
        self.by_position = said.match == "position"
        named = [name for name in (said.ra, said.dec, said.pm_ra, said.pm_dec) if name and self.by_position]
        table.load([said.id, *named, *wanted])
        if self.by_position:
            self.ra, self.dec = self.positions(table, said.ra, said.dec)
        if self.by_position and "id" not in said.given() and said.id not in table:
            self.ids = Ids(position_ids(self.ra, self.dec), ~np.isfinite(self.ra + self.dec))
        else:
            self.ids = table.column(said.id, "[standards] id").ids()
        if self.by_position:
            motion = {key: name for key, name in (("pm_ra", said.pm_ra), ("pm_dec", said.pm_dec)) if name}
            columns = {key: table.column(name, f"[standards] {key}") for key, name in motion.items()}
            self.motion = {key: column.numbers("proper motion") for key, column in columns.items()}
            self.years = _years(said, _own_epoch(table))

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

    def match_positions(self, ra: np.ndarray, dec: np.ndarray) -> Match:
        """Detections within the radius of one standard, and of one only."""
        return match_positions(ra, dec, self.ra, self.dec, radius=self.radius, years=self.years, **self.motion)

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
