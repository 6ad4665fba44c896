"""What happened on the way from tables to observations, to be told."""

from __future__ import annotations

import dataclasses

from xpjax.survey import Selected, absent_columns


@dataclasses.dataclass
class Account:
    """Rows, matches, bands that are absent, rows that cuts removed, cuts that did not run, and further notes."""

    n_row: int = 0
    n_matched: int = 0
    n_ambiguous: int = 0
    bands_absent: list[str] = dataclasses.field(default_factory=list)
    removed: dict[str, int] = dataclasses.field(default_factory=dict)
    not_run: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    matched: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, selected: Selected) -> None:
        """Sum up another selection."""
        for name, n in selected.removed.items():
            self.removed[name] = self.removed.get(name, 0) + n
        self.not_run |= selected.not_run

    def lines(self) -> list[str]:
        """What is worth telling."""
        out = []
        if self.matched:
            out.append(
                f"{self.n_matched:,} of {self.n_row:,} rows matched to standards, {self.n_ambiguous:,} ambiguous"
            )
        out += [f"band {name} is absent" for name in self.bands_absent]
        out += [f"cut {name}: {n:,} removed" for name, n in self.removed.items()]
        out += [f"cut {name} did not run: no column {absent_columns(need)}" for name, need in self.not_run.items()]
        return out + self.notes
