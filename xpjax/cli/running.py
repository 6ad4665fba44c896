"""From files of XP coefficients, or sources of the archive, to one output: read, compute and write, file by file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from xpjax.cli.common import Progress, counted, with_call
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.cli.archive import Asked
    from xpjax.core.records import Catalogue
    from xpjax.core.release import Release
    from xpjax.xp import SourceTable

Compute: TypeAlias = "Callable[[SourceTable, Callable[[int], None]], Any]"
"""What a command does with the sources of a file; it tells how many are done."""


class Models:
    """What a command computes with, for the release of its input: made when that is known, or when it is guessed.

    prepare: makes it for a release, and says which release it is for. A release that --release says, or that the first
    rows of the files tell, is prepared before they are read; else all are, so that a wrong name is told at once. Raises
    what prepare raises.
    """

    def __init__(
        self, prepare: Callable[[Release], tuple[Release, Compute]], inputs: Sequence[Path | Asked], said: str | None
    ) -> None:
        from xpjax.core.release import RELEASES, find_release
        from xpjax.xp import peek_release

        self.prepare, self.said = prepare, said is not None
        self.release = None if said is None else find_release(said)
        self.ready: dict[Release, tuple[Release, Compute]] = {}
        files = [path for path in inputs if isinstance(path, Path)]
        if self.release is None and (told := peek_release(files)) is not None:
            self.release = told[1]
            self._of(told[0], told[1])
            return
        refused: list[XpjaxError] = []
        for release in RELEASES if self.release is None else [self.release]:
            try:
                self.ready[release] = prepare(release)
            except XpjaxError as error:
                refused.append(error)
        if not self.ready:
            raise refused[0]

    def read(self, path: Path | Asked, dtype: Any, keep: Sequence[str]) -> tuple[SourceTable, Compute]:
        """The sources of a file, or of the archive, and what is done with them. Raises XpjaxError."""
        from xpjax.xp import read_for

        source = path if isinstance(path, Path) else path.fetch(lambda release: self._of(path, release))
        columns = click.get_current_context().params.get("columns") if isinstance(path, Path) else None
        table = read_for(source, self.release, dtype, keep, columns, said=self.said)
        self.release = table.release
        return table, self._of(path, table.release)

    def _of(self, path: Any, release: Release) -> Compute:
        """What is done with sources of a release. Raises XpjaxError for one that it is not for."""
        from xpjax.core.release import DR3, other_release

        if release not in self.ready:
            try:
                self.ready[release] = self.prepare(release)
            except XpjaxError as error:
                # With another release than the usual one it matters whose it is.
                if release.fits(DR3) or not isinstance(path, Path):
                    raise
                raise XpjaxError(f"{path}: {error}") from error
        model, compute = self.ready[release]
        if not model.fits(release):
            raise other_release(path if isinstance(path, Path) else "what is asked for", release, model)
        return compute


def run(
    prepare: Callable[[Release], tuple[Release, Compute]],
    inputs: Sequence[Path | Asked],
    output: Path,
    keep: list[str],
    overwrite: bool,
    shared: Sequence[str] = (),
    needed: Sequence[str] = (),
    release: str | None = None,
) -> None:
    """Read or fetch, and compute, file by file, write one output, tell what was done.

    prepare: what is done with sources of a release, and the release that it is for (`Models`); needed: columns read and
    not kept; release: what --release says.
    """
    import numpy as np

    from xpjax.core.status import Status
    from xpjax.io import catalogue
    from xpjax.xp import repeated

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite, shared=shared)
    context = click.get_current_context()
    inputs = [file for one in inputs for file in _files(one, release, context.params.get("columns"))]
    dtype = np.float64 if context.params["float64"] else np.float32
    models, parts, status = Models(prepare, inputs, release), [], []
    seen, seen_transits = np.empty((2, 0), np.int64)
    with Progress(inputs) as progress:
        for path in inputs:
            table, compute = models.read(path, dtype, [*dict.fromkeys([*keep, *needed])])
            seen = np.concatenate([seen, table.source_id])
            transits = table.transits.get("transit_id")
            if transits is not None:
                transits = seen_transits = np.concatenate([seen_transits, transits])
            if len(seen_transits) != (0 if transits is None else len(seen)):
                raise XpjaxError(f"{path}: mean and epoch spectra (transit_id) in one call; give each by itself")
            twice = repeated(seen, transits)[len(seen) - len(table) :]
            table = dataclasses.replace(table, status=table.status | np.uint32(Status.DUPLICATE) * twice)
            progress.read(path, len(table))
            result = _complete(compute(table, progress.done), context.params)
            known = {"source_id": table.source_id, **table.columns}
            parts.append(result.catalogue({name: known[name] for name in keep}))
            status.append(result.status)
    whole = with_call(catalogue.concatenate(parts))
    catalogue.write(output, whole, overwrite=overwrite)
    _summary(context, len(inputs), whole, np.concatenate(status), time.perf_counter() - started)


def _files(path: Path | Asked, release: str | None, columns: dict[str, str] | None) -> Sequence[Path | Asked]:
    """The files of a folder that is a store or a HATS catalogue, those of one release; a file as it is.

    Raises XpjaxError for other folders, damaged files, and several releases of which none is said.
    """
    if not isinstance(path, Path) or path.is_file():
        return [path]
    from xpjax.catalogue import open_sources
    from xpjax.xp import is_hats, is_store

    if not (is_hats(path) or is_store(path)):
        raise XpjaxError(f"{path} is a folder, and neither a store nor a HATS catalogue; name its files")
    store = open_sources(path, release, columns if is_hats(path) else None)
    store.release  # noqa: B018  # refuses several
    for file in store.files:
        if file.damage:
            raise XpjaxError(file.damage)
    return [file.path for file in store.files if len(file)] or [store.files[0].path]


def _complete(result: Any, params: dict[str, Any]) -> Any:
    """Errors and correlations that were asked for and that the input cannot give, as NaN: all files fit together."""
    import numpy as np

    wanted = ["flux_error", "magnitude_error"] * params["errors"] + ["correlation"] * params.get("correlation", False)
    absent = {}
    for name in wanted:
        if getattr(result, name, ...) is None:
            *rows, n = result.flux.shape
            shape = (*rows, n * (n - 1) // 2) if name == "correlation" else result.flux.shape
            absent[name] = np.full(shape, np.nan, result.flux.dtype)
    return dataclasses.replace(result, **absent)


def _summary(context: click.Context, n_file: int, whole: Catalogue, status: np.ndarray, seconds: float) -> None:
    import numpy as np

    from xpjax.core.status import Status

    n, params = len(status), context.params
    files = f"{n_file} file{'s' * (n_file != 1)}" if params["inputs"] else "the archive"
    what = "epoch spectra" if "transit_id" in whole.columns else "sources"
    lines = [f"{n:,} {what} read from {files}, {len(whole):,} rows written to {params['output'].name}"]
    flagged = int(np.count_nonzero(status))
    counts = [f"{flagged:,} flagged in xp_status:", *counted(Status.counts(status))]
    lines += counts if flagged else ["none flagged in xp_status"]
    without = int(np.count_nonzero(status & np.uint32(Status.BP_NO_ERROR | Status.RP_NO_ERROR)))
    if params["errors"] and without:
        whose = "all sources" if without == n else f"{without:,} sources"
        lines.append(f"{whose} came without usable errors or correlations: errors are NaN there, not guessed")
    lines.append(f"{seconds:.1f} s, {n / seconds:,.0f} sources/s with reading, compiling and writing")
    tell("\n".join(lines))
