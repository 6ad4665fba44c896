"""A survey's solution, and calibrated measurements, as files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.catalogue import read_catalogue
from xpjax.io.hdf5 import read_model, write_model
from xpjax.survey import Frames, Origin, make_observations
from xpjax.survey.exposures.columns import MEASUREMENT
from xpjax.survey.exposures.flat import StackedFlats, Standards
from xpjax.survey.exposures.model import ExposureModel, Scaling, Terms
from xpjax.survey.exposures.results import FRAME_ARRAYS, ExposureFits
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import Calibrated, Calibration

FORMAT, VERSION = "xpjax survey solution", 1
SOLUTION = "solution.h5"
ROWS = ("magnitude", "magnitude_error", "systematic_error", "residual")
FLATS = ("labels", "value", "error", "count")


def write_solution(path: str | Path, solution: Calibration, *, overwrite: bool = False) -> None:
    """Write a solution as one HDF5 file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file.
    solution : Calibration
        What is written.
    overwrite : bool
        Whether to replace a file of that name.

    Raises
    ------
    FileExistsError
        If the file exists, unless overwrite.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, _ = exposures.calibrate(observations)
    >>> exposures.write_solution("solution.h5", solution)
    >>> bool((exposures.read_solution("solution.h5").fits.zero_point == solution.fits.zero_point).all())
    True
    """
    fits, terms = solution.fits, solution.fits.terms
    attributes: dict[str, Any] = {
        "settings": json.dumps(dataclasses.asdict(solution.settings)), "record": json.dumps(dict(solution.record)),
        "terms": [terms.position_order, terms.color_order, terms.magnitude_order, terms.n_amplifier],
        "term_names": terms.names, "zeros": [fits.scaling.color_zero, fits.scaling.magnitude_zero],
    }  # fmt: skip
    arrays = {f"frames/{field.name}": getattr(solution.frames, field.name) for field in dataclasses.fields(Frames)}
    arrays |= {f"fits/{name}": getattr(fits, name) for name in FRAME_ARRAYS}
    arrays |= {"fits/box": fits.scaling.box, "fits/local_floor": solution.local_floor,
               "fits/common_floor": solution.common_floor}  # fmt: skip
    arrays |= {f"standards/{f.name}": getattr(solution.standards, f.name) for f in dataclasses.fields(Standards)}
    if solution.flats is not None:
        arrays |= {f"flats/{name}": getattr(solution.flats, name) for name in FLATS}
    write_model(path, FORMAT, VERSION, arrays, attributes, overwrite=overwrite)


def read_solution(path: str | Path) -> Calibration:
    """Read a solution from a file of `write_solution`, or from the directory with it.

    Parameters
    ----------
    path : str or Path
        `solution.h5`, or its directory.

    Returns
    -------
    Calibration
        The solution; what became of single rows is not in the file.

    Raises
    ------
    XpjaxError
        If the file is another one.
    FileNotFoundError
        If there is none.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, _ = exposures.calibrate(observations)
    >>> exposures.write_solution("solution.h5", solution)
    >>> len(exposures.read_solution("solution.h5").frames)
    3
    """
    path = Path(path)
    if path.is_dir():
        path = path / SOLUTION
    if not path.exists():
        raise FileNotFoundError(f"no solution {path}: make it with `xpjax survey calibrate`")
    arrays, attributes = read_model(path, FORMAT, VERSION, "solution of a survey")
    said = json.loads(attributes["settings"])
    size = said["size"] and tuple(said["size"])
    settings = CalibrationSettings(**{**said, "size": size, "model": ExposureModel(**said["model"])})
    parts, none = arrays.group("fits"), np.zeros(0)
    parts.setdefault("model_systematic", np.zeros(len(parts["floor"])))  # absent from solutions of old
    fits = ExposureFits(
        terms=Terms(*(int(k) for k in attributes["terms"])),
        scaling=Scaling(parts["box"], *(float(zero) for zero in attributes["zeros"])),
        **{name: parts[name] for name in FRAME_ARRAYS}, residual=none, used=none.astype(bool),
        clipped=none.astype(bool),
    )  # fmt: skip
    flats = None
    if found := arrays.group("flats"):
        flats = StackedFlats(**found, order=settings.interpolation)
    return Calibration(
        settings, Frames(**arrays.group("frames")), fits, flats, Standards(**arrays.group("standards")),
        parts["local_floor"], parts["common_floor"], json.loads(attributes["record"]),
    )  # fmt: skip


def read_calibrated(path: str | Path) -> Calibrated:
    """Read calibrated measurements from a table that `xpjax.write` or `xpjax survey calibrate` wrote.

    Parameters
    ----------
    path : str or Path
        The table.

    Returns
    -------
    Calibrated
        The measurements; instrumental magnitudes and models are not in the file: NaN.

    Raises
    ------
    XpjaxError
        If the table is another one.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> _, calibrated = exposures.calibrate(observations)
    >>> xpjax.write("calibrated.parquet", calibrated)
    >>> bool((exposures.read_calibrated("calibrated.parquet").magnitude == calibrated.magnitude).all())
    True
    """
    table = read_catalogue(path)
    columns = dict(table.columns)
    lacking = [name for name in (*ROWS, "star", "exposure", "status") if name not in columns]
    if lacking:
        raise XpjaxError(f"{path} is no table of calibrated measurements: it has no column {lacking[0]}")
    star, exposure, flags = (columns.pop(name) for name in ("star", "exposure", "status"))
    n = len(star)
    values: dict[str, Any] = {name: columns.pop(name) for name in ROWS}
    x, y = (columns.pop(name, np.full(n, np.nan)) for name in ("x", "y"))
    names: dict[str, Any] = {name: columns.pop(name, "") for name in ("band", "detector")}
    color, amplifier = (columns.pop(name, None) for name in ("color", "amplifier"))
    for derived in MEASUREMENT:  # made of the others again, and no column of the input
        columns.pop(derived.name, None)
    origin = None
    if "file" in columns and "row" in columns:
        files, file = np.unique(columns.pop("file"), return_inverse=True)
        origin = Origin(tuple(files.tolist()), file.astype(np.int32), columns.pop("row"), columns)
    o = make_observations(star, x, y, np.full(n, np.nan), None, None, color=color, exposure=exposure, **names)
    if amplifier is not None:
        known = json.loads(table.meta.get("amplifiers", "[]")) or np.unique(amplifier).tolist()
        code = {name: k for k, name in enumerate(known)}
        o = dataclasses.replace(o, amplifier=np.array([code[name] for name in amplifier.tolist()], np.int32))
    return Calibrated(dataclasses.replace(o, origin=origin), **values, flags=flags, record=dict(table.meta))
