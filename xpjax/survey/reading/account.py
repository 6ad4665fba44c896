"""What happened on the way from tables to observations, to be told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey import Selected, absent_columns
from xpjax.survey.reading.look import few

AIRMASSES = (1.0, 20.0)
"""Airmasses of observations, from and to: 20 is at an altitude of two degrees."""
SPARED = ("airmass", "time", "night")
"""What an exposure is calibrated without."""


@dataclasses.dataclass
class Account:
    """Rows, matches, bands that are absent, rows that cuts removed, cuts that did not run, and further notes.

    epochs: the first and the last Julian year to which standards were carried; n_untimed: rows whose time is not known;
    offsets: of some matched detections from their standards, to the east and north, and the proper motions of these
    (4, n) [arcsec, arcsec/yr]. lacking: of tables whose headers do not say what they were to say of their frames what
    is wrong, by entries of [columns]. no_airmass: frames whose airmass is none. bands: rows of bands that
    [selection] leaves out.
    """

    n_row: int = 0
    n_matched: int = 0
    n_ambiguous: int = 0
    bands_absent: list[str] = dataclasses.field(default_factory=list)
    removed: dict[str, int] = dataclasses.field(default_factory=dict)
    not_run: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    matched: bool = False
    epochs: tuple[float, float] | None = None
    n_untimed: int = 0
    offsets: list[np.ndarray] = dataclasses.field(default_factory=list)
    n_table: int = 0
    lacking: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    no_airmass: list[str] = dataclasses.field(default_factory=list)
    bands: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    why_none: str = ""
    """What is to be told where no row of the whole survey is matched, where only a part of it was read."""

    @classmethod
    def joined(cls, parts: Sequence[Account]) -> Account:
        """The account of a survey that was read in parts."""
        out = cls()
        for part in parts:
            for name in ("n_table", "n_row", "n_matched", "n_ambiguous", "n_untimed"):
                setattr(out, name, getattr(out, name) + getattr(part, name))
            out.bands_absent += part.bands_absent
            out.no_airmass += part.no_airmass
            for key, messages in part.lacking.items():
                out.lacking.setdefault(key, []).extend(messages)
            for name in ("removed", "bands"):
                for key, n in getattr(part, name).items():
                    getattr(out, name)[key] = getattr(out, name).get(key, 0) + n
            out.not_run |= part.not_run
            out.matched |= part.matched
            known = [epochs for epochs in (out.epochs, part.epochs) if epochs]
            out.epochs = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        alike: dict[str, list[str]] = {}
        for note in dict.fromkeys(note for part in parts for note in part.notes):
            alike.setdefault(re.sub(r"[\d,.]+", "#", note), []).append(note)
        out.notes = [one + (f" (and {len(more):,} more such notes)" if more else "") for one, *more in alike.values()]
        if out.n_row and not out.n_matched and parts[0].why_none:
            out.notes.insert(0, parts[0].why_none)
        return out

    def add(self, selected: Selected) -> None:
        """Sum up another selection."""
        for name, n in selected.removed.items():
            self.removed[name] = self.removed.get(name, 0) + n
        self.not_run |= selected.not_run

    def leave_out(self, band: str, n: int) -> None:
        """Take up rows of a band that [selection] does not name."""
        self.bands[band] = self.bands.get(band, 0) + n

    def lacks(self, key: str, message: str) -> None:
        """Take up what is wrong with the header of a table, once for all its bands."""
        messages = self.lacking.setdefault(key, [])
        if messages[-1:] != [message]:
            messages.append(message)

    def check_headers(self, *, solved: bool = False) -> None:
        """Raise XpjaxError where no table says what all were to say: the configuration is wrong, not one exposure.

        solved: the tables of a solution did say it; a further exposure may lack what `SPARED` names.
        """
        for key, messages in self.lacking.items():
            if len(messages) == self.n_table and not (solved and key in SPARED):
                raise XpjaxError(messages[0])

    def carried(self, years: np.ndarray) -> None:
        """Take up rows whose standards were carried to these Julian years (n,), NaN where the time is not known."""
        known = years[np.isfinite(years)]
        self.n_untimed += len(years) - len(known)
        if len(known):
            low, high = self.epochs or (np.inf, -np.inf)
            self.epochs = min(low, float(known.min())), max(high, float(known.max()))

    def lines(self) -> list[str]:
        """What is worth telling."""
        out = []
        if self.matched:
            out.append(
                f"{self.n_matched:,} of {self.n_row:,} rows matched to standards, {self.n_ambiguous:,} ambiguous"
            )
        if self.epochs:
            low, high = (f"J{year:.2f}" for year in self.epochs)
            said = low if low == high else f"{low} to {high}"
            out.append(f"proper motions carry the standards to the time of each exposure, {said}")
        if self.n_untimed:
            out.append(
                f"{self.n_untimed:,} rows have no time in (modified) Julian days: matched to the standards where these "
                "are listed"
            )
        out += [f"band {name} is absent" for name in self.bands_absent]
        out += [
            f"band {name or 'without a name'} is left out by [selection] bands: {n:,} rows"
            for name, n in self.bands.items()
        ]
        for key, messages in self.lacking.items():
            lost = f"{key} not known" if key in SPARED else "not calibrated"
            do = "does" if len(messages) == 1 else "do"
            out.append(f"WARNING: {len(messages):,} of {self.n_table:,} tables {do} not say the {key}, {lost}: "
                       + "; ".join(messages[:3]) + ("; ..." if len(messages) > 3 else ""))  # fmt: skip
        if self.no_airmass:
            out.append(
                f"WARNING: impossible airmasses, expected {AIRMASSES[0]:g} to {AIRMASSES[1]:g}, are taken as not "
                f"known: {few(self.no_airmass, 6)}"
            )
        out += [f"cut {name}: {n:,} removed" for name, n in self.removed.items()]
        out += [f"cut {name} did not run: no column {absent_columns(need)}" for name, need in self.not_run.items()]
        return out + self.notes
