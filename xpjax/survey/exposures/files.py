"""A survey's solution as one HDF5 file."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.catalogue import write_bytes
from xpjax.survey import Frames
from xpjax.survey.exposures.flat import StackedFlats, Standards
from xpjax.survey.exposures.model import ExposureModel, Scaling, Terms
from xpjax.survey.exposures.solution import Calibration, CalibrationSettings
from xpjax.survey.exposures.zeropoint import ExposureFits

FORMAT, VERSION = "xpjax survey solution", 1

_FRAME_ARRAYS = (
    "value", "covariance", "common_covariance", "zero_point", "zero_point_error", "zero_point_common", "floor",
    "scatter", "rms", "n_standard", "n_used", "status", "active",
)  # fmt: skip


def write_solution(path: str | Path, solution: Calibration, *, overwrite: bool = False) -> None:
    """A solution as one HDF5 file, whole or not at all. Raises FileExistsError unless overwrite."""
    import h5py

    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or pass overwrite=True (--overwrite)")
    buffer = io.BytesIO()
    fits, terms = solution.fits, solution.fits.terms
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION})
        file.attrs["settings"] = json.dumps(dataclasses.asdict(solution.settings))
        file.attrs["record"] = json.dumps(dict(solution.record))
        file.attrs["terms"] = [terms.position_order, terms.color_order, terms.magnitude_order, terms.n_amplifier]
        file.attrs["term_names"] = terms.names
        file.attrs["zeros"] = [fits.scaling.color_zero, fits.scaling.magnitude_zero]
        for field in dataclasses.fields(Frames):
            _put(file, f"frames/{field.name}", getattr(solution.frames, field.name))
        for name in _FRAME_ARRAYS:
            file[f"fits/{name}"] = getattr(fits, name)
        file["fits/box"] = fits.scaling.box
        for name in ("local_floor", "common_floor"):
            file[f"fits/{name}"] = getattr(solution, name)
        for field in dataclasses.fields(Standards):
            _put(file, f"standards/{field.name}", getattr(solution.standards, field.name))
        if solution.flats is not None:
            for name in ("labels", "value", "error", "count"):
                _put(file, f"flats/{name}", getattr(solution.flats, name))
            file["flats"].attrs["order"] = solution.flats.order
    write_bytes(path, buffer.getvalue())


def _put(file: Any, name: str, array: np.ndarray) -> None:
    import h5py

    text = array.dtype.kind == "U"
    file.create_dataset(name, data=array.astype(object) if text else array, dtype=h5py.string_dtype() if text else None)


def _get(file: Any, name: str) -> np.ndarray:
    import h5py

    item = file[name]
    return np.asarray(item.asstr()[()], str) if h5py.check_string_dtype(item.dtype) else item[()]


def read_solution(path: str | Path) -> Calibration:
    """A solution from a file of `write_solution`, or from the folder with it. Raises ValueError for another file."""
    import h5py

    path = Path(path)
    if path.is_dir():
        path = path / "solution.h5"
    if not path.exists():
        raise FileNotFoundError(f"no solution {path}: make it with `xpjax survey calibrate`")
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise KeyError("no attribute format")
            if int(file.attrs["format_version"]) > VERSION:
                raise XpjaxError(f"{path} has format version {int(file.attrs['format_version'])}: update xpjax")
            settings = settings_from(json.loads(file.attrs["settings"]))
            frames = Frames(*(_get(file, f"frames/{field.name}") for field in dataclasses.fields(Frames)))
            zeros = [float(z) for z in file.attrs["zeros"]]
            scale = Scaling(file["fits/box"][()], *zeros)
            arrays = {name: file[f"fits/{name}"][()] for name in _FRAME_ARRAYS}
            empty = np.zeros(0)
            fits = ExposureFits(
                terms=Terms(*(int(k) for k in file.attrs["terms"])), scaling=scale, **arrays, residual=empty,
                used=empty.astype(bool), clipped=empty.astype(bool),
            )  # fmt: skip
            kept = Standards(**{name: _get(file, f"standards/{name}") for name in file["standards"]})
            flats = None
            if "flats" in file:
                parts = {name: _get(file, f"flats/{name}") for name in ("labels", "value", "error", "count")}
                flats = StackedFlats(**parts, order=int(file["flats"].attrs["order"]))
            local, common = (file[f"fits/{name}"][()] for name in ("local_floor", "common_floor"))
            record = json.loads(file.attrs["record"])
    except (OSError, KeyError) as error:
        raise XpjaxError(f"{path} is no solution of a survey ({error})") from error
    return Calibration(settings, frames, fits, flats, kept, local, common, record)


def settings_from(table: Mapping[str, Any]) -> CalibrationSettings:
    """Settings from nested names and values, as `dataclasses.asdict` gives them."""
    values = dict(table)
    model = ExposureModel(**values.pop("model", {}))
    if values.get("size") is not None:
        values["size"] = tuple(values["size"])
    return CalibrationSettings(model=model, **values)
