"""A survey from its files to its products in one call: read, calibrate, cross-validate, apply, write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Record, json_entry
from xpjax.core.types import AnyTables
from xpjax.io.atomic import check_products
from xpjax.io.catalogue import check_output, write
from xpjax.survey import REFUSED, FrameFlag, Frames, SurveyTable, provenance, tabulate
from xpjax.survey.exposures import (
    CROSS_VALIDATION_COLUMNS,
    Calibrated,
    Calibration,
    CrossValidation,
    ExposureFits,
    apply_calibration,
    calibrate,
    cross_validate,
    read_solution,
    wide_table,
    write_solution,
)
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.config import SurveyConfig, config_from, files_relative_to, read_config
from xpjax.survey.reading.odd import alarms
from xpjax.survey.reading.passbands import as_called_before
from xpjax.survey.reading.rows import TEXTS
from xpjax.survey.reading.tables import SurveyReading, read_observations

ZERO_POINTS, SOLUTION, CALIBRATED = "zeropoints.ecsv", "solution.h5", "calibrated.parquet"
WIDE, CROSS_VALIDATION = "wide.parquet", "cross_validation.parquet"
PRODUCTS = (ZERO_POINTS, SOLUTION, CALIBRATED, CROSS_VALIDATION)
FEW = 12
"""Exposures of which each is told."""


@dataclasses.dataclass(frozen=True, repr=False)
class SurveyCalibration(Record):
    """Hold what `calibrate_survey` and `apply_survey` give.

    Parameters
    ----------
    solution : Calibration
        The solution.
    calibrated : Calibrated
        The measurements.
    account : Account
        What happened to the rows of the input.
    cross_validation : CrossValidation, optional
        Cross-validation, where folds were asked for.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> found = xpjax.survey.reading.calibrate_survey({"e1": tonight}, config)
    >>> found.complete, found.lines()[0]
    (True, 'e1: zero-point 3.0000 +- 0.0022 mag, 20 of 20 standards, 1.48 MAD 0.0 mmag, standard deviation 0.0 mmag')
    """

    solution: Calibration
    calibrated: Calibrated
    account: Account
    cross_validation: CrossValidation | None = None

    @property
    def fits(self) -> ExposureFits:
        """The fits of the exposures of the measurements."""
        assert self.calibrated.fits is not None
        return self.calibrated.fits

    @property
    def complete(self) -> bool:
        """Whether every exposure that has a name and a band has a zero-point; rows without cost only themselves.

        Not where the header of an exposure does not say them.
        """
        return not {*TEXTS} & {*self.account.lacking} and all_calibrated(self.calibrated.observations.frames, self.fits)

    def zero_points(self) -> SurveyTable:
        """The zero-points of the solution, with the scatter of cross-validation where there is one."""
        table, tested = self.solution.catalogue(), self.cross_validation
        more = tabulate(CROSS_VALIDATION_COLUMNS if tested is not None else (), tested, {})
        return SurveyTable(
            {**table.columns, **more.columns}, {**table.units, **more.units},
            {**table.descriptions, **more.descriptions}, table.meta,
        )  # fmt: skip

    def write(self, folder: str | Path, *, wide: bool = False, overwrite: bool = False) -> None:
        """Write solution, zero-points, calibrated measurements and cross-validation into a directory.

        Parameters
        ----------
        folder : str or Path
            The directory; it is made.
        wide : bool
            Whether to write a table with a row for each star too.
        overwrite : bool
            Whether to replace files that exist.

        Raises
        ------
        FileExistsError
            If a file exists, unless overwrite.
        """
        folder = Path(folder)
        check_products(folder, *PRODUCTS, *[WIDE] * wide, overwrite=overwrite)
        record = dict(self.solution.record)
        record["config"] = json.dumps(files_relative_to(json_entry(record, "config"), Path(), folder))
        solution = dataclasses.replace(self.solution, record=record)
        calibrated = dataclasses.replace(self.calibrated, record=record)
        _write_tables(folder, calibrated, wide, overwrite)
        write_solution(folder / SOLUTION, solution, overwrite=overwrite)
        if self.cross_validation is not None:
            tested = dataclasses.replace(self.cross_validation, calibrated=calibrated)
            write(folder / CROSS_VALIDATION, tested, overwrite=overwrite)
        else:  # that of an earlier solution
            (folder / CROSS_VALIDATION).unlink(missing_ok=True)
        write(folder / ZERO_POINTS, dataclasses.replace(self, solution=solution).zero_points(), overwrite=overwrite)

    def lines(self) -> list[str]:
        """What is worth telling."""
        lines = [*self.account.lines(), *frame_lines(self.calibrated.observations.frames, self.fits)]
        if (tested := self.cross_validation) is not None:
            lines.append(
                f"cross-validation in {tested.folds} folds: 1.48 MAD {1e3 * np.nanmedian(tested.scatter):.1f} mmag, "
                f"standard deviation {1e3 * np.nanmedian(tested.rms):.1f} mmag (median exposure, outliers included)"
            )
        return lines


def calibrate_survey(
    sources: AnyTables,
    config: SurveyConfig | str | Path | Mapping[str, object],
    output: str | Path | None = None,
    *,
    folds: int | None = None,
    keep: Sequence[str] = (),
    wide: bool = False,
    overwrite: bool = False,
    devices: Devices = None,
    record: Mapping[str, object] | None = None,
) -> SurveyCalibration:
    """Calibrate tables of detections as a `survey.toml` says: what `xpjax survey calibrate` does.

    Parameters
    ----------
    sources : path, table, list of these, or mapping
        Files and tables; a mapping has them by the names of their exposures.
    config : SurveyConfig, path or mapping
        What the columns mean, the standards and the model.
    output : str or Path, optional
        Directory for `zeropoints.ecsv`, `solution.h5`, `calibrated.parquet`, and `cross_validation.parquet` with folds.
    folds : int, optional
        Number of folds of a cross-validation with the standards.
    keep : sequence of str
        Columns of the tables to pass on.
    wide : bool
        Whether to write `wide.parquet` too, with a row for each star.
    overwrite : bool
        Whether to replace files that exist.
    devices : str or int, optional
        Device; by default the first of JAX.
    record : mapping, optional
        Metadata of the products.

    Returns
    -------
    SurveyCalibration
        Solution, measurements, and what happened to the rows.

    Raises
    ------
    XpjaxError
        If configuration or tables are wrong.
    FileExistsError
        If a file of the output exists, unless overwrite.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> found = xpjax.survey.reading.calibrate_survey({"e1": tonight}, config, "solution")
    >>> float(found.solution.fits.zero_point[0].round(3)), len(xpjax.read_table("solution/calibrated.parquet"))
    (3.0, 20)
    """
    if output is not None:
        check_products(Path(output), *PRODUCTS, *[WIDE] * wide, overwrite=overwrite)
    chosen = config if isinstance(config, SurveyConfig) else read_config(config)
    reading = read_observations(sources, chosen, keep=keep)
    rows = reading.observations
    odd = alarms(rows, chosen, reading.spectra, offsets=reading.account.offsets)
    reading.account.notes += [f"WARNING: {one}" for one in odd]
    about = about_survey(
        chosen, reading.account, reading.files, reading.amplifiers, reading.airmass_laws, _names(sources), record
    )
    solution, calibrated = calibrate(rows, chosen.settings, devices=devices, record=about)
    tested = None
    if folds is not None:
        tested = cross_validate(rows, chosen.settings, folds=folds, calibrated=calibrated, devices=devices)
    found = SurveyCalibration(solution, calibrated, reading.account, tested)
    if output is not None:
        found.write(output, wide=wide, overwrite=overwrite)
    return found


def about_survey(
    config: SurveyConfig,
    account: Account,
    files: Mapping[str, str],
    amplifiers: Sequence[str],
    airmass_laws: Mapping[str, Any],
    inputs: Sequence[str],
    record: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a solution says of the tables that it was made of; see `SurveyReading`, inputs: names of their files."""
    return {
        **(record or {}), "inputs": list(inputs),
        "config": json.dumps(files_relative_to(config.table, config.folder, Path())),
        **({"correction": config.correction} if config.passband is not None else {}),
        "account": json.dumps(account.lines()), "exposure_files": json.dumps(dict(files)),
        "amplifiers": json.dumps(amplifiers), "airmass_laws": json.dumps(airmass_laws),
    }  # fmt: skip


def apply_survey(
    sources: AnyTables,
    solution: Calibration | str | Path,
    output: str | Path | None = None,
    *,
    config: SurveyConfig | str | Path | Mapping[str, object] | None = None,
    exposure: str | None = None,
    new: bool = False,
    keep: Sequence[str] = (),
    wide: bool = False,
    overwrite: bool = False,
    devices: Devices = None,
    record: Mapping[str, object] | None = None,
) -> SurveyCalibration:
    """Calibrate other stars of the exposures of a solution, or new exposures: what `xpjax survey apply` does.

    An exposure is known by its name: a column, `exposure`, or the file that the solution was made of. A table that is
    none of these is a new exposure; or, unless `new`, the one exposure of a solution that has only one.

    Parameters
    ----------
    sources : path, table, list of these, or mapping
        Files and tables; a mapping has them by the names of their exposures.
    solution : Calibration or path
        The solution, its file or directory.
    output : str or Path, optional
        A file, whose suffix names the format, or a directory for `calibrated.parquet`.
    config : SurveyConfig, path or mapping, optional
        What the columns of these tables mean; by default as in the solution.
    exposure : str, optional
        The exposure of all tables, where no column says it.
    new : bool
        Whether they are new exposures: their zero-points are fitted, flats stay as they are.
    keep : sequence of str
        Columns of the tables to pass on.
    wide, overwrite : bool
        Whether to write `wide.parquet` too, with a row for each star; whether to replace files that exist.
    devices : str or int, optional
        Device; by default the first of JAX.
    record : mapping, optional
        Metadata of the products.

    Returns
    -------
    SurveyCalibration
        The solution, the measurements, and what happened to the rows.

    Raises
    ------
    XpjaxError
        If the solution has no such band or detector, or configuration or tables are wrong.
    FileExistsError
        If a file of the output exists, unless overwrite.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> _ = xpjax.survey.reading.calibrate_survey({"e1": tonight}, config, "solution")
    >>> found = xpjax.survey.reading.apply_survey({"e1": {**tonight, "m": tonight["m"] + 0.1}}, "solution")
    >>> found.calibrated.magnitude[:2].round(3).tolist()
    [17.1, 17.211]
    """
    solved, chosen = _opened(solution, config)
    if output is not None and Path(output).suffix:
        if wide:
            raise XpjaxError(f"{say('wide=True', '--wide')} needs a directory as output: two files are written")
        check_output(output, overwrite=overwrite)
    elif output is not None:
        check_products(Path(output), CALIBRATED, *[WIDE] * wide, overwrite=overwrite)
    reading = _read_for(solved, chosen, sources, exposure, new, keep)
    calibrated = apply_calibration(solved, reading.observations, devices=devices)
    made = {f"solution_{name}": solved.record[name] for name in ("version", "date", "inputs") if name in solved.record}
    about = {**calibrated.record, **made, **(record or {}), **provenance(), "inputs": _names(sources)}
    found = SurveyCalibration(solved, dataclasses.replace(calibrated, record=about), reading.account)
    if output is not None:
        _write_measurements(Path(output), found.calibrated, wide, overwrite)
    return found


def _read_for(
    solved: Calibration, config: SurveyConfig, sources: Any, exposure: str | None, new: bool, keep: Sequence[str]
) -> SurveyReading:
    """Observations whose exposures are known as those of a solution, or are new ones, which notes tell.

    Raises XpjaxError where a new exposure is called as one of the solution.
    """
    only, files = np.unique(solved.frames.exposure), json_entry(solved.record, "exposure_files", "{}")
    alone = not config.names_exposures and exposure is None and not new and len(only) == 1
    reading = read_observations(
        sources, config, exposure=str(only[0]) if alone else exposure, keep=keep, new=new, known=files,
        amplifiers=json_entry(solved.record, "amplifiers", "null"),
        airmass_laws=json_entry(solved.record, "airmass_laws", "null"),
    )  # fmt: skip
    odd = alarms(reading.observations, config, reading.spectra, offsets=reading.account.offsets)
    reading.account.notes += [f"WARNING: {one}" for one in odd]
    o, before = reading.observations, json_entry(solved.record, "config", "{}").get("passband", {})
    called = as_called_before(o.frames, config.passband, solved.frames.band.tolist(), before.get("bands", {}))
    reading = dataclasses.replace(reading, observations=dataclasses.replace(o, frames=called))
    notes, exposures = reading.account.notes, called.exposure
    clash = np.intersect1d(exposures, only)
    if new and len(clash):
        raise XpjaxError(
            f"the solution has an exposure {str(clash[0])!r} already: rename it, or leave out {say('new=', '--new')}"
        )
    own = files.values()
    if alone and (strange := [path.name for path in _paths(sources) if str(path.resolve()) not in own]):
        taken = f"taken for exposure {only[0]}, the only one of the solution; {say('new=True', '--new')} says otherwise"
        notes.append(f"{_few(strange)}: {taken}")
    fresh = np.setdiff1d(exposures, [*only, ""])
    if len(fresh):
        notes.append(f"{len(fresh):,} new exposure{'s' * (len(fresh) > 1)}: {_few(fresh.tolist())}")
    return reading


def _opened(
    solution: Calibration | str | Path, config: SurveyConfig | str | Path | Mapping[str, Any] | None
) -> tuple[Calibration, SurveyConfig]:
    """The solution, and the configuration: by default the solution's own, with files relative to its folder."""
    home = Path()
    if not isinstance(solution, Calibration):
        path = Path(solution)
        home, solution = path if path.is_dir() else path.parent, read_solution(path)
    if isinstance(config, SurveyConfig):
        return solution, config
    if config is not None:
        return solution, read_config(config)
    if "config" not in solution.record:
        raise XpjaxError(f"the solution does not say what columns mean: give {say('config=', '--config')}")
    return solution, config_from(json_entry(solution.record, "config"), home)


def _write_measurements(output: Path, calibrated: Calibrated, wide: bool, overwrite: bool) -> None:
    """Write into a file where the name has a suffix, else into a folder."""
    if output.suffix:
        write(output, calibrated, overwrite=overwrite)
    else:
        _write_tables(output, calibrated, wide, overwrite)


def _write_tables(folder: Path, calibrated: Calibrated, wide: bool, overwrite: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / CALIBRATED, calibrated, overwrite=overwrite)
    if wide:
        write(folder / WIDE, wide_table(calibrated), overwrite=overwrite)
    else:  # that of an earlier solution
        (folder / WIDE).unlink(missing_ok=True)


def _paths(sources: Any) -> list[Path]:
    """The files among the sources."""
    several = sources.values() if isinstance(sources, Mapping) else sources
    listed = list(several) if isinstance(several, list | tuple) or isinstance(sources, Mapping) else [sources]
    return [Path(one) for one in listed if isinstance(one, str | Path)]


def _names(sources: Any) -> list[str]:
    return [path.name for path in _paths(sources)]


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")


def all_calibrated(frames: Frames, fits: ExposureFits) -> bool:
    """Whether every frame that has a name and a band has a zero-point."""
    named = (frames.exposure != "") & ((frames.band != "") | (frames.band == "").all())
    return bool(np.isfinite(fits.zero_point[named]).all())


def frame_lines(frames: Frames, fits: ExposureFits) -> list[str]:
    """The exposures in a few lines: each for a few, in sum for many, and whatever was flagged."""
    lines = []
    if len(frames) <= FEW:
        lines += [f"{frames.name(k)}: {_frame_line(fits, k)}" for k in range(len(frames))]
    elif np.isfinite(fits.zero_point).any():
        lines.append(
            f"{np.isfinite(fits.zero_point).sum():,} zero-points, median error "
            f"{1e3 * np.nanmedian(fits.zero_point_error):.2f} mmag, median scatter of standards "
            f"{1e3 * np.nanmedian(fits.scatter):.1f} mmag"
        )
    for bit in FrameFlag:
        marked = np.flatnonzero(fits.status & np.uint32(bit))
        if len(marked):
            names = _few([frames.name(int(k)) for k in marked])
            lines.append(f"{len(marked):6,}  {bit.name} ({int(bit)}): {bit.meaning} [{names}]")
    return lines


def _frame_line(fits: ExposureFits, k: int) -> str:
    """The zero-point of frame k, or why it has none."""
    if not np.isfinite(fits.zero_point[k]):
        why = [bit.meaning for bit in FrameFlag if bit & REFUSED and fits.status[k] & np.uint32(bit)]
        return f"not calibrated. {' '.join(why)}".rstrip()
    line = f"zero-point {fits.zero_point[k]:.4f} +- {fits.zero_point_error[k]:.4f} mag"
    if not fits.n_standard[k]:
        return f"{line}, of its night: no standards"
    return (
        f"{line}, {fits.n_used[k]} of {fits.n_standard[k]} standards, 1.48 MAD {1e3 * fits.scatter[k]:.1f} mmag, "
        f"standard deviation {1e3 * fits.rms[k]:.1f} mmag"
    )
