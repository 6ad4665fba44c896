"""What a run is asked for, as a job that its store can answer."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from xpjax.catalogue import hats
from xpjax.catalogue.job import FORMATS, HATS_ROWS, Job, Unit, units_of
from xpjax.catalogue.partitions import named_columns, open_sources
from xpjax.catalogue.products import Content, Labels, Magnitudes
from xpjax.catalogue.state import check_shard
from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.core.release import Release
from xpjax.io.atomic import expanded
from xpjax.io.catalogue import FITS_COLUMNS
from xpjax.stellar import LabelFitter
from xpjax.synthetic import AnySystem
from xpjax.wiggles import AnyCorrection
from xpjax.xp import Store, StoreError


class CatalogueOptions(TypedDict, total=False):
    """Options of `run_catalogue` that say what the catalogue is."""

    errors: bool
    truncate: bool
    error_correction: bool
    float64: bool
    correction: AnyCorrection
    fitter: LabelFitter | None
    format: str
    where: str | None
    keep: Sequence[str]
    shard: tuple[int, int]
    hats_rows: int
    systematic: bool
    release: Release | str | None
    columns: Mapping[str, str] | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job, the units of its store, and the shard of these that is asked for; empty: the catalogue without rows."""

    store: Store
    job: Job
    units: tuple[Unit, ...]
    shard: tuple[int, int]
    empty: Catalogue | None

    @property
    def own(self) -> tuple[Unit, ...]:
        """The units of the shard."""
        number, of = self.shard
        return self.units[number - 1 :: of]

    @classmethod
    def of(
        cls,
        store: Store | str | os.PathLike[str],
        output: str | os.PathLike[str],
        systems: AnySystem | Sequence[AnySystem] | None,
        *,
        errors: bool = True,
        truncate: bool = False,
        error_correction: bool = False,
        float64: bool = False,
        correction: AnyCorrection = None,
        fitter: LabelFitter | None = None,
        format: str = "parquet",
        where: str | None = None,
        keep: Sequence[str] = (),
        shard: tuple[int, int] = (1, 1),
        hats_rows: int = HATS_ROWS,
        systematic: bool = False,
        release: Release | str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Plan:
        """What `run_catalogue` is asked for by arguments of the same names. Raises XpjaxError."""
        store = open_sources(store, release, columns)
        options = correction, systematic, store.release, errors, truncate, error_correction, float64
        content = _content(systems, fitter, store.release, options)
        output = expanded(output).absolute()
        job = Job(output, content, format, where, tuple(keep), hats_rows, named_columns(store))
        job, empty = _checked(store, job)
        check_shard(shard)
        units = units_of(store)
        chunk = int(np.median([min(len(unit), job.chunk_rows(unit.file)) for unit in units]))
        return cls(store, dataclasses.replace(job, chunk=max(chunk, 1)), tuple(units), shard, empty)


def _content(systems: Any, fitter: LabelFitter | None, release: Release, options: tuple[Any, ...]) -> Content:
    """What the rows are made of; options: those of `Magnitudes.of`. Raises XpjaxError unless it is one of both."""
    if systems is None and fitter is not None:
        return Labels(fitter, release)
    if systems is not None and fitter is None:
        return Magnitudes.of(systems, *options)
    raise XpjaxError("give systems for magnitudes, or a fitter for stellar labels")


def _checked(store: Store, job: Job) -> tuple[Job, Catalogue | None]:
    """The job, its questions answerable by the store, and its catalogue without rows, if that is known.

    Raises XpjaxError.
    """
    if job.format not in FORMATS:
        raise XpjaxError(f"no format {job.format!r}; choose from {', '.join(FORMATS)}")
    if job.hats_rows < 1:
        raise XpjaxError(f"a pixel of a HATS catalogue needs at least one row, not {job.hats_rows}")
    job.content.check(store.release, store.path)
    if job.format == "hats" and {"ra", "dec"} <= {*store.columns}:
        job = dataclasses.replace(job, keep=tuple(dict.fromkeys(("ra", "dec", *job.keep))))
    absent = [name for name in job.columns if name not in store.columns]
    if absent:
        raise XpjaxError(
            f"{store.path} has no columns {', '.join(absent)}; it has source_id, xp_status, "
            f"{', '.join(store.columns) or 'and no others'}"
        )
    table = None
    for file in store.files:
        with contextlib.suppress(StoreError):  # that unit will fail, by name
            table = file.read(0, 0, columns=job.columns)
            break
    if table is None:
        return job, None
    if job.where:
        parse_where(job.where)({**table.columns, "source_id": table.source_id, "xp_status": table.status})
    job.content.check_errors(table)
    part = job.content.empty(table, {name: table.columns[name] for name in job.keep})
    if part is None:
        return job, None
    taken = [name for name in (hats.INDEX, hats.GUESSED) if name in part.columns]
    if job.format == "hats" and taken:
        raise XpjaxError(f"cannot keep columns {taken}: a HATS catalogue has columns of these names")
    if job.format == "fits" and len(part.columns) > FITS_COLUMNS:
        raise XpjaxError(
            f"a FITS table holds {FITS_COLUMNS} columns, this catalogue has {len(part.columns)}; choose "
            "parquet, or fewer systems"
        )
    return job, part
