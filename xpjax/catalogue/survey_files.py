"""Rows of a survey, and what is known of it, as files between the steps of a calibration in units.

Rows of a batch are stored frame by frame, so that a unit reads its own alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from xpjax.core.ids import places_of
from xpjax.io.hdf5 import open_hdf5, plain_attribute, read_model, write_model
from xpjax.survey import Frames, Observations, Origin
from xpjax.survey.reading import Account, Batch, UnitPlan

ROWS, ARRAYS, VERSION = "xpjax survey rows", "xpjax survey arrays", 1
OWN = tuple(name for name in Observations.row_fields if name not in ("origin", "amplifier"))


KEPT_BYTES = 2**28
"""Of arrays that are kept in memory once they were read."""


class Stored(Sequence[Mapping[str, np.ndarray]]):
    """Named arrays in files, each read when it is asked for; the first ones are kept."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.kept, self.room = list(paths), dict[int, Mapping[str, np.ndarray]](), KEPT_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, np.ndarray]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Stored(self.paths[index])
        if index in self.kept:
            return self.kept[index]
        arrays = read_arrays(self.paths[index])
        if (size := sum(array.nbytes for array in arrays.values())) <= self.room:
            self.kept[index], self.room = arrays, self.room - size
        return arrays


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, ARRAYS, VERSION, arrays, {}, overwrite=True)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a file."""
    return dict(read_model(path, ARRAYS, VERSION, "part of a survey")[0])


def write_batch(path: Path, batch: Batch) -> None:
    """Write the rows of a batch, frame by frame."""
    o = batch.observations
    assert o.origin is not None
    order = np.argsort(o.frame, kind="stable")
    names, code = np.unique(batch.amplifier, return_inverse=True)
    columns = {name: getattr(o, name) for name in OWN if getattr(o, name) is not None}
    columns |= {"amplifier": code.astype(np.int32), "row": np.arange(len(o))}
    columns |= _origin_columns(o.origin)
    arrays = {name: column[order] for name, column in columns.items()}
    arrays |= {"edges": np.searchsorted(o.frame[order], np.arange(len(o.frames) + 1)), "amplifiers": names}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, ROWS, VERSION, arrays, {"origin": _said(o.origin)}, overwrite=True)


def _origin_columns(origin: Origin) -> dict[str, np.ndarray]:
    """Columns of an origin by name; of masked ones the mask too."""
    out = {"origin/file": origin.file, "origin/row": origin.row}
    for name, column in origin.columns.items():
        out[f"column/{name}"] = np.ma.getdata(column)
        if np.ma.isMaskedArray(column):
            out[f"mask/{name}"] = np.ma.getmaskarray(column)
    return out


def _said(origin: Origin) -> str:
    """Names of files and columns of an origin, in their order."""
    return json.dumps([list(origin.files), list(origin.columns)])


def _origin(said: str, columns: dict[str, np.ndarray]) -> Origin:
    """The origin whose columns these are; said: by `_said`."""
    files, names = json.loads(said)
    kept: dict[str, np.ndarray] = {}
    for name in names:
        mask, values = columns.get(f"mask/{name}"), columns[f"column/{name}"]
        kept[name] = values if mask is None else np.ma.array(values, mask=mask)
    return Origin(tuple(files), columns["origin/file"], columns["origin/row"], kept)


def read_unit_rows(path: Path, plan: UnitPlan, batch: int, unit: int, stars: Path) -> Observations | None:
    """The rows of a batch that are of a unit, with the names of their stars; None where there are none.

    stars: the file with the stars of the batch's detections without a name. Frames are those of the unit, in the order
    of the survey.
    """
    mine, place = np.flatnonzero(plan.unit == unit), plan.place[batch]
    own = np.flatnonzero(plan.unit[place] == unit)
    if not len(own):
        return None
    with open_hdf5(path) as file:
        edges = file["edges"][()]
        pieces = _runs([(int(edges[k]), int(edges[k + 1])) for k in own])
        columns: dict[str, np.ndarray] = {}
        file.visititems(lambda name, item: columns.update(_read(name, item, pieces)))
        amplifiers = np.asarray(file["amplifiers"].asstr()[()], str)
        said = plain_attribute(file.attrs["origin"])
    order = np.argsort(columns["row"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    star = columns["star"].astype(str) if plan.text else columns["star"]
    found = read_arrays(stars)
    at = places_of(columns["row"], found["row"])
    star = star.astype(np.result_type(star, found["star"]))
    star[at >= 0] = found["star"][at[at >= 0]]
    codes = np.searchsorted(plan.amplifiers, amplifiers).astype(np.int32)
    fields: dict[str, Any] = {name: columns.get(name) for name in OWN}
    fields |= {
        "star": star, "frame": np.searchsorted(mine, place[columns["frame"]]).astype(np.int32),
        "amplifier": codes[columns["amplifier"]], "origin": _origin(said, columns),
    }  # fmt: skip
    return Observations(frames=plan.frames[mine], **fields)


def _runs(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of rows, those that meet as one."""
    out: list[tuple[int, int]] = []
    for start, stop in pieces:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out


def _read(name: str, item: Any, pieces: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """These rows of a column of a file; nothing of what is no column."""
    import h5py

    if not hasattr(item, "shape") or name in ("edges", "amplifiers"):
        return {}
    text = h5py.check_string_dtype(item.dtype) is not None
    parts = [np.asarray(item.asstr()[a:b], str) if text else item[a:b] for a, b in pieces]
    return {name: np.concatenate(parts)}


def write_observations(path: Path, o: Observations, about: Mapping[str, Any]) -> None:
    """Write the rows of a unit, ready to be calibrated; about: what else is to be known, as JSON."""
    assert o.origin is not None
    arrays = {f"frames/{f.name}": getattr(o.frames, f.name) for f in dataclasses.fields(Frames)}
    arrays |= {name: getattr(o, name) for name in (*OWN, "amplifier") if getattr(o, name) is not None}
    attributes = {"origin": _said(o.origin), "about": json.dumps(dict(about))}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, ROWS, VERSION, arrays | _origin_columns(o.origin), attributes, overwrite=True)


def read_observations_of(path: Path) -> tuple[Observations, dict[str, Any]]:
    """What `write_observations` wrote."""
    arrays, attributes = read_model(path, ROWS, VERSION, "part of a survey")
    frames = Frames(**arrays.group("frames"))
    fields: dict[str, Any] = {name: arrays.get(name) for name in (*OWN, "amplifier")}
    origin = _origin(attributes["origin"], dict(arrays))
    return Observations(frames=frames, origin=origin, **fields), json.loads(attributes["about"])


def write_plan(path: Path, plan: UnitPlan, stars: Sequence[Path]) -> None:
    """Write a plan, and the stars of each batch into files that this batch alone needs."""
    arrays = {f"frames/{name}": getattr(plan.frames, name) for name in Frames.row_fields}
    arrays |= {"unit": plan.unit, "units": np.array(plan.units), "amplifiers": np.array(plan.amplifiers)}
    arrays |= {"n_row": np.array(plan.n_row), "text": np.array([plan.text])}
    arrays |= {"account": np.array([json.dumps(dataclasses.asdict(plan.account))])}
    for k, (place, own) in enumerate(zip(plan.place, stars, strict=True)):
        arrays[f"place/{k:06d}"] = place
        write_arrays(own, {"row": plan.rows[k], "star": plan.stars[k]})
    write_arrays(path, arrays)


def read_plan(path: Path) -> UnitPlan:
    """A plan, without the stars of batches."""
    found = read_arrays(path)
    frames = Frames(**{name: found[f"frames/{name}"] for name in Frames.row_fields})
    units, amplifiers = (tuple(found[name].tolist()) for name in ("units", "amplifiers"))
    place = tuple(found[name] for name in sorted(found) if name.startswith("place/"))
    account = Account(**json.loads(str(found["account"][0])))
    return UnitPlan(
        frames, found["unit"], units, place, (), (), bool(found["text"][0]), amplifiers, account,
        tuple(found["n_row"].tolist()),
    )  # fmt: skip
