"""What happened on the way from tables to observations, to be told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from xpjax.survey import Selected, absent_columns


@dataclasses.dataclass
class Account:
    """Rows, matches, bands that are absent, rows that cuts removed, cuts that did not run, and further notes.

    epochs: the first and the last Julian year to which standards were carried; n_untimed: rows whose time is not known;
    offsets: of some matched detections from their standards, to the east and north (2, n) [arcsec].
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
    notes: list[str] = dataclasses.field(default_factory=list)
    why_none: str = ""
    """What is to be told where no row of the whole survey is matched, where only a part of it was read."""

    @classmethod
    def joined(cls, parts: Sequence[Account]) -> Account:
        """The account of a survey that was read in parts."""
        out = cls()
        for part in parts:
            for name in ("n_row", "n_matched", "n_ambiguous", "n_untimed"):
                setattr(out, name, getattr(out, name) + getattr(part, name))
            out.bands_absent += part.bands_absent
            for name, n in part.removed.items():
                out.removed[name] = out.removed.get(name, 0) + n
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
        out += [f"cut {name}: {n:,} removed" for name, n in self.removed.items()]
        out += [f"cut {name} did not run: no column {absent_columns(need)}" for name, need in self.not_run.items()]
        return out + self.notes
