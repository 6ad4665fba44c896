"""The evidence of a report, gathered from what the survey commands wrote and from tables of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, json_entry
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.survey import Camera, Observations
from xpjax.survey.exposures import Calibrated, Calibration, read_solution
from xpjax.survey.reading import Selection, SurveyCalibration, config_from, read_observations
from xpjax.survey.report.camera import camera_of, load_camera
from xpjax.survey.report.evidence import Evidence, evidence_of, with_frames
from xpjax.survey.scr import read_zero_points

CALIBRATED, CROSS_VALIDATION = "calibrated.parquet", "cross_validation.parquet"
OF_TILES = ("ra", "dec", "ebv", "rv")
"""Columns of a table of tiles that a report shows."""

File = str | Path


class EvidenceOptions(TypedDict, total=False):
    """Options of `gather_evidence`."""

    catalogues: Sequence[File]
    validation: Sequence[File]
    compare: Sequence[File]
    tiles: File | None
    stars: File | None
    camera: Camera | File | None
    periods: Mapping[str, float] | None


def gather_evidence(
    solution: File | SurveyCalibration | tuple[Calibration, Calibrated],
    *,
    catalogues: Sequence[File] = (),
    validation: Sequence[File] = (),
    compare: Sequence[File] = (),
    tiles: File | None = None,
    stars: File | None = None,
    camera: Camera | File | None = None,
    periods: Mapping[str, float] | None = None,
) -> Evidence:
    """Gather what a report shows of a calibration.

    Parameters
    ----------
    solution : str, Path, SurveyCalibration or pair of Calibration and Calibrated
        Directory that `xpjax survey calibrate` wrote, or what `calibrate_survey` or `calibrate` returned.
    catalogues : sequence of str or Path
        Tables that were calibrated: position on the detector and color of stars that are no standards, positions of
        exposures on the sky.
    validation : sequence of str or Path
        Tables by `xpjax survey apply` of exposures that took no part in the calibration.
    compare : sequence of str or Path
        Zero-points to compare with: see `xpjax.survey.scr.read_zero_points`.
    tiles : str or Path, optional
        Table of exposures or tiles with `ra`, `dec` [deg], `ebv` [mag], `rv` (any of these).
    stars : str or Path, optional
        Table of stars with `bp_rp`, `phot_g_mean_mag`, `{band}_scr`, `{band}_xpsp`, `{band}_xpsp_corrected` [mag].
    camera : Camera, str or Path, optional
        Camera for the theory of repeatability: "cmos", "ccd", a TOML file with a section [camera], or a Camera. By
        default that of the section [camera] of the configuration of the calibration, if it has one.
    periods : dict of str to float, optional
        Periods [d] of stars whose light curves are wanted.

    Returns
    -------
    Evidence
        The calibration and what a report compares it with.

    Raises
    ------
    XpjaxError
        If a table lacks what it is given for.

    Examples
    --------
    >>> from xpjax.survey import SurveySetup, SimulatedSurvey, exposures, report
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> settings = exposures.CalibrationSettings(exposures.ExposureModel(position_order=1, color_order=0))
    >>> evidence = report.gather_evidence(exposures.calibrate(observations, settings), camera="ccd")
    >>> evidence.bands
    ['g', 'r', 'i']
    """
    evidence = _from_folder(Path(solution), catalogues) if isinstance(solution, File) else _in_memory(solution)
    fits, more = evidence.solution, dict[str, Any]()
    if camera is not None:
        more["camera"] = camera if isinstance(camera, Camera) else load_camera(camera)
    if validation:
        more["validation"] = _rows_of(validation, fits)
    if tiles is not None:
        more["tiles"] = {**evidence.tiles, **_tile_columns(Path(tiles), fits)}
    if stars is not None:
        more["stars"] = _numbers(read_catalogue(stars))
    more["differences"] = {path.name or path.resolve().name: _difference(path, fits) for path in map(Path, compare)}
    return dataclasses.replace(evidence, periods=dict(periods or {}), **more)


def _in_memory(found: SurveyCalibration | tuple[Calibration, Calibrated]) -> Evidence:
    solution, calibrated = found if isinstance(found, tuple) else (found.solution, found.calibrated)
    evidence = evidence_of(solution, calibrated.catalogue(), calibrated.observations)
    if isinstance(found, tuple) or found.cross_validation is None:
        return evidence
    tested = dataclasses.replace(found.cross_validation, calibrated=calibrated)
    return dataclasses.replace(evidence, cross_validation=with_frames(solution, tested.catalogue()))


def _from_folder(folder: Path, catalogues: Sequence[File]) -> Evidence:
    """The evidence of a directory, with cross-validation where there is some."""
    solution = read_solution(folder)
    said: Mapping[str, Any] = json_entry(solution.record, "config", "{}")
    rows = _observations(folder, solution, said, catalogues) if catalogues else None
    evidence = evidence_of(solution, _measurements(folder), rows)
    tested = folder / CROSS_VALIDATION
    return dataclasses.replace(
        evidence,
        cross_validation=with_frames(solution, read_catalogue(tested)) if tested.is_file() else None,
        camera=camera_of(said["camera"]) if "camera" in said else None,
    )


def _measurements(folder: Path) -> Catalogue:
    """The calibrated measurements of a directory, or of its units one after the other."""
    files = [folder / CALIBRATED] if (folder / CALIBRATED).is_file() else sorted(folder.glob(f"units/*/{CALIBRATED}"))
    if not files:
        raise FileNotFoundError(f"no {CALIBRATED} in {folder}: give the directory that `xpjax survey calibrate` wrote")
    parts = [read_catalogue(file) for file in files]
    kinds = {name: column.dtype.kind for part in parts for name, column in part.columns.items()}
    none = {name: "" if kind in "UO" else np.nan for name, kind in kinds.items()}  # a unit may lack what others have
    whole = [{name: part.columns.get(name, np.full(len(part), none[name])) for name in kinds} for part in parts]
    return concatenate([dataclasses.replace(one, columns=columns) for one, columns in zip(parts, whole, strict=True)])


def _observations(
    folder: Path, solution: Calibration, said: Mapping[str, Any], catalogues: Sequence[File]
) -> Observations:
    """All rows of the catalogues that were calibrated, without cuts."""
    if not said:
        raise XpjaxError(f"{folder} does not say what columns mean; leave out --catalogue")
    chosen = dataclasses.replace(config_from(said, folder), selection=Selection(), passband=None)
    only = list(dict.fromkeys(solution.frames.exposure.tolist()))
    exposure = only[0] if not chosen.names_exposures and len(only) == len(catalogues) == 1 else None
    files = json_entry(solution.record, "exposure_files", "{}")
    return read_observations(list(catalogues), chosen, exposure=exposure, known=files).observations


def _numbers(table: Catalogue) -> dict[str, np.ndarray]:
    """The columns of numbers, as floats."""
    return {name: np.asarray(c, float) for name, c in table.columns.items() if c.dtype.kind in "iuf" and c.ndim == 1}


def _difference(path: File, solution: Calibration) -> np.ndarray:
    """Zero-points (n_frame,) of the solution less those of a table or another solution, NaN where it has none."""
    theirs = read_zero_points(path)
    row, f = theirs.rows(), solution.frames
    if not (theirs.band != "").any():  # a table of one band, which it does not name
        row = {(tile, band, detector): k for (tile, _, detector), k in row.items() for band in set(f.band.tolist())}
    if not (theirs.detector != "").any():
        row = {(tile, band, ccd): k for (tile, band, _), k in row.items() for ccd in set(f.detector.tolist())}
    if not (f.detector != "").any() and len(set(theirs.detector.tolist())) == 1:  # a survey of one detector
        row = {(tile, band, ""): k for (tile, band, _), k in row.items()}
    keys = zip(f.exposure.tolist(), f.band.tolist(), f.detector.tolist(), strict=True)
    at = np.array([row.get(key, -1) for key in keys], int)
    return solution.fits.zero_point - np.where(at >= 0, theirs.value[at], np.nan)


def _tile_columns(path: Path, solution: Calibration) -> dict[str, np.ndarray]:
    """Columns of numbers (n_frame,) of a table of exposures or tiles. Raises XpjaxError where it has none of use."""
    table = read_catalogue(path)
    key = next((name for name in ("exposure", "tile") if name in table.columns), None)
    if key is None:
        raise XpjaxError(f"{path.name} has no column exposure or tile; it has {', '.join(list(table.columns)[:20])}")
    row = {name: k for k, name in enumerate(table.columns[key].astype(str).tolist())}
    at = np.array([row.get(name, -1) for name in solution.frames.exposure.astype(str).tolist()])
    useful = {name: values for name, values in _numbers(table).items() if name in OF_TILES}
    if not useful:
        raise XpjaxError(f"{path.name} has none of the columns ra, dec, ebv, rv; it has {list(table.columns)[:20]}")
    return {name: np.where(at >= 0, values[at], np.nan) for name, values in useful.items()}


def _rows_of(paths: Sequence[File], solution: Calibration) -> dict[str, np.ndarray]:
    """The measurements of several tables one after the other, in columns that all have."""
    parts = [with_frames(solution, read_catalogue(path)) for path in paths]
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in common}
