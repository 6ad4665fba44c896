"""A table of any origin: names, units and headers at once, columns when they are asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import reading
from xpjax.io.tables.column import Column, concatenate
from xpjax.io.tables.raw import Raw


@dataclasses.dataclass(frozen=True)
class Field:
    """What a table says of a column before it is read."""

    name: str
    unit: str | None = None
    description: str | None = None


Pull = Callable[[Sequence[str]], Mapping[str, Raw]]


class Table:
    """A table of n rows.

    origin: how messages call it; fields: its columns in order; header: keywords of the file and this table; meta,
    shared: of files that xpjax wrote, else empty; notes: what was odd, for whoever reports. pull gives columns by name.
    """

    def __init__(
        self,
        origin: str,
        fields: Iterable[Field],
        n: int,
        pull: Pull,
        *,
        header: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        shared: Mapping[str, np.ndarray] | None = None,
        shared_units: Mapping[str, str] | None = None,
        part: str = "",
    ) -> None:
        self.origin, self.n, self.part = origin, n, part
        named = [(field.name, field) for field in fields]
        self.fields = dict(named)
        self.repeated = {name for name, count in Counter(name for name, _ in named).items() if count > 1}
        self.header, self.meta, self.shared = dict(header or {}), dict(meta or {}), dict(shared or {})
        self.notes: list[str] = []
        self.shared_units = dict(shared_units or {})
        self._pull, self._raw = pull, dict[str, Raw]()

    def __repr__(self) -> str:
        names = ", ".join(list(self.fields)[:8]) + (", ..." if len(self.fields) > 8 else "")
        return f"Table({self.origin!r}, {self.n} rows, columns {names})"

    def __len__(self) -> int:
        return self.n

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    @property
    def names(self) -> list[str]:
        """The names of all columns, in order."""
        return list(self.fields)

    def check(self, name: str, meaning: str = "") -> None:
        """Raise XpjaxError for a column that is not there, with close names, or is there twice."""
        purpose = f" for {meaning}" if meaning else ""
        if name in self.repeated:
            raise XpjaxError(f"{self.origin}: the column {name!r}{purpose} is there twice; rename one of them")
        if name not in self.fields:
            near = difflib.get_close_matches(name, self.names, 3, 0.5)
            folded = [known for known in self.names if known.lower() == name.lower()]
            close = [*dict.fromkeys([*folded, *near])]
            listed = ", ".join(self.names[:20]) + (f" and {len(self.names) - 20} more" if len(self.names) > 20 else "")
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {listed or 'no columns'}"
            raise XpjaxError(f"{self.origin} has no column {name!r}{purpose}; {hint}")

    def load(self, names: Iterable[str]) -> None:
        """Read those of the names that can be in one go; others are read, or refused, when they are asked for."""
        wanted = [n for n in dict.fromkeys(names) if n in self.fields and n not in self._raw and n not in self.repeated]
        if wanted:
            with contextlib.suppress(XpjaxError):
                self._raw |= self._pull(wanted)

    def guard(self, path: Path, kind: str) -> None:
        """Turn what libraries raise for a damaged file, when columns are read later on, into XpjaxError."""
        pull = self._pull

        def guarded(names: Sequence[str]) -> Mapping[str, Raw]:
            with reading(path, kind):
                return pull(names)

        self._pull = guarded

    def raw(self, name: str, meaning: str = "") -> Raw:
        """A column as its format gives it. Raises XpjaxError where it is not there, is there twice, or is no column."""
        self.check(name, meaning)
        if name not in self._raw:
            self._raw |= self._pull([name])
        return self._raw[name]

    def column(self, name: str, meaning: str = "") -> Column:
        """A column. Raises XpjaxError as `raw` does."""
        raw = self.raw(name, meaning)
        return Column(self.origin, name, raw.values, raw.missing, self.fields[name].unit, raw.typed, note=self._note)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def drop(self) -> None:
        """Forget what was read: the memory of many tables is that of one."""
        self._raw = {}


def like(tables: Sequence[Table]) -> bool:
    """Whether tables have the same columns, in any order."""
    return len({frozenset(table.fields) for table in tables}) == 1


def joined(tables: Sequence[Table], origin: object) -> Table:
    """Tables of like columns as one, row after row; a single one as it is."""
    if len(tables) == 1:
        return tables[0]

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        for table in tables:
            table.load(names)
        out = {}
        for name in names:
            column = concatenate([table.column(name) for table in tables])
            out[name] = Raw(column.values, column.missing, column.typed)
        return out

    first = tables[0]
    out = Table(
        str(origin), first.fields.values(), sum(map(len, tables)), pull,
        header=first.header, meta=first.meta, shared=first.shared, shared_units=first.shared_units,
    )  # fmt: skip
    out.repeated = set().union(*(table.repeated for table in tables))
    return out
