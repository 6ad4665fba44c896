"""Joint solutions on disk: one HDF5 file that is read back as the same class."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.io.hdf5 import Parts, model_kind, read_model, write_model
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block, Part, Prepared
from xpjax.survey.joint.cells import CellSums
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.covariance import StoredUncertainty, unit_columns
from xpjax.survey.joint.design import Design, StarMagnitudes
from xpjax.survey.joint.factor import Factor
from xpjax.survey.joint.field_floor import FieldFloor
from xpjax.survey.joint.held_out import HeldOut
from xpjax.survey.joint.information import Information, SpareRows
from xpjax.survey.joint.priors import SlotPrior
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import FitQuality, JointSolution, RowResults
from xpjax.survey.joint.terms import OF_STANDARDS, Term, term_from
from xpjax.survey.reading import files_relative_to

FORMAT, VERSION = "xpjax joint solution", 2
TERM_FILES = ("chain", "sources", "correction")
"""Entries of a [[term]] that name files."""
LARGEST = 4000
"""Columns up to which the whole covariance is written unless it is said."""


@dataclasses.dataclass(frozen=True)
class AbsentTerm(Term):
    """A term of a solution in a file that holds no data of it: values of a covariate, a chain, spectra."""

    name: str
    said: str
    of_reference: bool = False  # type: ignore[misc]  # of each instance
    star_prior: bool = False

    def describe(self) -> str:
        """The term in a line."""
        return self.said

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """Raise XpjaxError: the term must be given."""
        raise XpjaxError(
            f"{self.name}: a file of a solution does not hold the data of this term; give it with solution.with_terms"
        )


def write_joint_solution(
    path: str | os.PathLike[str],
    solution: JointSolution,
    *,
    covariance: bool | None = None,
    information: bool | None = None,
    overwrite: bool = False,
) -> None:
    """Write a joint solution as an HDF5 file that `read_joint_solution` reads.

    Parameters
    ----------
    path
        The file, with the suffix .h5.
    solution : JointSolution
        The solution.
    covariance : bool or None
        Whether to write the covariance of all columns; by default for up to 4000 columns.
    information : bool or None
        Whether to write the normal equations, which `extend_joint` needs: some 12 bytes for each star and column that
        it was seen with. By default where the covariance is written, and the solution can be extended.
    overwrite : bool
        Whether to replace a file of this name.

    Raises
    ------
    OSError
        If the file is there, or the disk refuses.
    XpjaxError
        If the normal equations are to be written, and the solution has none to be extended by.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint, write_joint_solution
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), min_observations=1)
    >>> write_joint_solution("joint.h5", solve_joint(rows, model))
    >>> xpjax.survey.joint.read_joint_solution("joint.h5")
    JointSolution(3 columns of zero_point, 20 stars in 1 band, 60 of 60 measurements used, converged)
    """
    n = len(solution.value)
    matrix, whole = None, n <= LARGEST if covariance is None else covariance
    if whole:
        known = np.flatnonzero(np.isfinite(solution.value))
        matrix = np.full((n, n), np.nan)
        matrix[np.ix_(known, known)] = solution.covariance(unit_columns(known, n).T)
    found, results, scaling = solution.magnitudes, solution.rows, solution.design.scaling
    arrays: dict[str, Any] = {
        "column": np.array([solution.column_name(k) for k in range(n)]), "value": solution.value,
        "error": solution.error(np.arange(n)), "covariance": matrix, "star": found.star, "band": np.array(found.bands),
        "magnitude": found.magnitude, "magnitude_error": solution.star_errors(), "n_used": found.n_used,
        "left_out": found.left_out, "floor": found.floor,
        **{f"frames/{f.name}": getattr(solution.frames, f.name) for f in dataclasses.fields(Frames)},
        **{f"rows/{name}": getattr(results, name) for name in ROWS}, "box": scaling.box,
        "blocks": json.dumps([_block_said(block) for block in solution.blocks]),
        "terms": json.dumps([_term_said(one) for one in solution.terms], default=str),
        "gauge": json.dumps(solution.gauge), "field_floor": json.dumps(dict(solution.field_floor)),
        **_field(solution.uncertainty.field),
        "model": json.dumps(_model_said(solution.model)),
        "meta": json.dumps(with_files_between(solution.meta, Path(), Path(path).parent), default=str),
    }  # fmt: skip
    if results.held_out is not None:
        arrays |= {"held_out/residual": results.held_out.residual, "held_out/error": results.held_out.error}
    attributes = {
        **dataclasses.asdict(solution.quality),
        "color_zero": scaling.color_zero, "magnitude_zero": scaling.magnitude_zero,
    }  # fmt: skip
    if results.earlier is not None:
        arrays |= {"earlier/count": results.earlier[0], "earlier/square": results.earlier[1]}
    kept, about = _information(solution, whole if information is None else information, required=bool(information))
    of_rows = (f"rows/{name}" for name in ROWS)
    packed = {"covariance", *OF_FIELD, *of_rows, *(name for name in kept if name.endswith("indices"))}
    arrays, attributes = {**arrays, **kept}, {**attributes, **about}
    write_model(path, FORMAT, VERSION, arrays, attributes, packed=packed, overwrite=overwrite)


ROWS = ("frame", "residual", "used", "clipped", "flags", "lost", "lost_magnitude", "frame_floor")
OF_SLOTS = ("weight", "count", "value", "magnitude", "column_right", "slot_right", "rows")
OF_FIELD = ("field/cells", "field/covariance", "field/moves")
OF_CELLS = ("bins", "own", "score", "chi2", "count")
SETTINGS = ("star_prior", "robust", "clip", "error_floor", "min_observations", "size", "color_zero", "dense")


def _model_said(model: JointModel | None) -> dict[str, Any] | None:
    if model is None:
        return None
    said = {name: getattr(model, name) for name in SETTINGS}
    return {**said, "constraints": [dataclasses.asdict(one) for one in model.constraints]}


def _field(field: FieldFloor | None) -> dict[str, np.ndarray]:
    """What stars at one place of the detector share, as arrays."""
    if field is None:
        return {}
    return dict(zip(OF_FIELD, (field.cells, field.covariance, field.moves.astype(np.float32)), strict=True))


def _information(solution: JointSolution, wanted: bool, *, required: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The normal equations as arrays and attributes, or why there are none."""
    if not wanted:
        why = "the file has no normal equations: write it with information=True to extend it"
        return {}, {"not_extended": why}
    try:
        known = solution.uncertainty.information()
    except XpjaxError as error:
        if required:
            raise
        return {}, {"not_extended": str(error)}
    sparse_parts = {"gram": sparse.triu(known.gram, format="csr"), "cross": sparse.csr_array(known.cross)}
    cells = known.cells
    if cells is not None:
        sparse_parts |= {"cells/columns": cells.columns, "cells/stars": cells.stars}
    arrays: dict[str, Any] = {
        f"information/{name}/{part}": getattr(matrix, part)
        for name, matrix in sparse_parts.items()
        for part in ("data", "indices", "indptr")
    }
    arrays |= {f"information/{name}": getattr(known, name) for name in OF_SLOTS}
    arrays |= {f"information/prior/{name}": getattr(known.prior, name) for name in ("precision", "right")}
    arrays |= {f"information/group/{b}": group for b, group in enumerate(known.groups)}
    arrays |= {f"information/spare/{f.name}": getattr(known.spare, f.name) for f in dataclasses.fields(SpareRows)}
    arrays |= {f"information/{name}": value for name, value in known.factor.packed().items()}
    arrays["information/null"] = known.null
    if cells is not None:
        arrays |= {f"information/cells/{name}": getattr(cells, name) for name in OF_CELLS}
        arrays["information/cells/groups"] = np.array(cells.groups)
    return arrays, {"information_chi2": known.chi2}


def _read_information(arrays: Parts, said: Parts, n_block: int) -> Information | str:
    """The normal equations of a file, or why it has none."""
    if "information_chi2" not in said or "information/rows" not in arrays:
        return str(said.get("not_extended", "the file of the solution is an older one: solve it again to extend it"))
    parts = arrays.group("information")
    n, n_slot = len(parts["value"]), len(parts["weight"])

    def matrix(name: str, *shape: int) -> Any:
        return sparse.csr_array(tuple(parts[f"{name}/{part}"] for part in ("data", "indices", "indptr")), shape=shape)

    upper, cross, cells = matrix("gram", n, n), matrix("cross", n_slot, n), None
    if "cells/groups" in parts:
        n_cell = len(parts["cells/own"])
        cells = CellSums(
            groups=tuple(parts["cells/groups"].tolist()), columns=matrix("cells/columns", n, n_cell),
            stars=matrix("cells/stars", n_slot, n_cell), **{name: parts[f"cells/{name}"] for name in OF_CELLS},
        )  # fmt: skip
    gram, null = upper + sparse.triu(upper, 1).T, parts["null"]
    return Information(
        gram, cross, **{name: parts[name] for name in OF_SLOTS},
        chi2=float(said["information_chi2"]), prior=SlotPrior(**parts.group("prior")),
        groups=tuple(parts[f"group/{b}"] for b in range(n_block)), spare=SpareRows(**parts.group("spare")),
        factor=Factor.unpacked(parts["factor"], parts["scale"]), place=np.arange(n), null=null, null_gram=gram @ null,
        null_cross=cross @ null, cells=cells,
    )  # fmt: skip


def with_files_between(meta: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """What is known of a solution, with the files of its configuration as they are called from another folder."""
    if "config" not in meta:
        return dict(meta)
    return {**meta, "config": json.dumps(config_between(json.loads(meta["config"]), old, new))}


def config_between(table: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The names and values of a configuration in a folder, with its files as they are called from another."""
    moved = files_relative_to(table, old, new)
    return {**moved, "term": [_term_between(one, old, new) for one in table.get("term", ())]}


def lost_files(table: Mapping[str, Any]) -> list[str]:
    """Files that a configuration names, and that are not there."""
    named = [item for name in ("standards", "gaia", "passband") for item in table.get(name, {}).items()]
    named += [item for term in table.get("term", ()) for item in term.items()]
    texts: list[Any] = []
    for name, value in named:
        if name in (*TERM_FILES, "file", "files", "spectra", "corrections", "passbands"):
            texts += value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    return sorted({one for one in texts if isinstance(one, str) and Path(one).suffix and not Path(one).exists()})


def _term_between(entry: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """A [[term]] with its files, which are called as those of [passband]."""
    files = {name: entry[name] for name in TERM_FILES if name in entry and entry[name] != OF_STANDARDS}
    return {**entry, **files_relative_to({"passband": files}, old, new)["passband"]}


def _term_said(term: Term) -> dict[str, Any]:
    about = {"said": term.describe(), "of_reference": term.of_reference, "gives_prior": term.star_prior}
    return {"name": term.name, **term.entry(), **about}


def _block_said(block: Block) -> dict[str, Any]:
    parts = [{n: getattr(p, n) for n in ("name", "unit", "prior", "mean", "description", "per")} for p in block.parts]
    keys = {name: values.tolist() for name, values in block.keys.items()}
    group = None if block.group is None else block.group.tolist()
    said = {"name": block.name, "labels": block.labels, "parts": parts, "keys": keys, "group": group}
    sigmas = None if block.sigmas is None else np.asarray(block.sigmas).tolist()
    return {**said, "of_reference": block.of_reference, "sigmas": sigmas}


def read_joint_solution(path: str | os.PathLike[str]) -> JointSolution:
    """Read a joint solution that `write_joint_solution` or `xpjax survey solve` wrote.

    Parameters
    ----------
    path
        The HDF5 file.

    Returns
    -------
    JointSolution
        The solution. Covariances of columns are there where the file has them, those between stars are not; terms with
        data of their own (values of a covariate, spectra) must be given with `with_terms` before `correction`.

    Raises
    ------
    XpjaxError
        If the file is no joint solution.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint, write_joint_solution
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), min_observations=1)
    >>> write_joint_solution("joint.h5", solve_joint(rows, model))
    >>> len(xpjax.survey.joint.read_joint_solution("joint.h5").stars())
    20
    """
    arrays, said = read_model(path, FORMAT, VERSION, "joint solution", "write one with xpjax survey solve")
    frames = Frames(**arrays.group("frames"))
    scaling = Scaling(arrays["box"], said["color_zero"], said["magnitude_zero"])
    terms = tuple(_term(one) for one in json.loads(str(arrays["terms"])))
    blocks = tuple(_block(one) for one in json.loads(str(arrays["blocks"])))
    magnitudes = StarMagnitudes(
        arrays["star"], tuple(arrays["band"].tolist()),
        *(arrays[name] for name in ("magnitude", "n_used", "left_out", "floor")),
    )  # fmt: skip
    held = arrays.group("held_out")
    before = arrays.group("earlier")
    rows = RowResults(
        **arrays.group("rows"), held_out=HeldOut(**held) if held else None,
        earlier=(before["count"], before["square"]) if before else None,
    )  # fmt: skip
    quality = FitQuality(*(said[field.name] for field in dataclasses.fields(FitQuality)))
    reference = np.concatenate([np.full(block.n_column, block.of_reference) for block in blocks])
    errors = StoredUncertainty(
        arrays.get("covariance"), arrays["error"], arrays["magnitude_error"].ravel(),
        _read_information(arrays, said, len(blocks)), reference,
        FieldFloor(json.loads(str(arrays["field_floor"])), **arrays.group("field")) if OF_FIELD[0] in arrays else None,
    )  # fmt: skip
    model = None
    if kept := json.loads(str(arrays.get("model", "null"))):
        constraints = tuple(Constraint(**one) for one in kept.pop("constraints"))
        size = kept.pop("size")
        model = JointModel(terms, constraints, size=None if size is None else tuple(size), **kept)
    return JointSolution(
        Design(terms, frames, scaling, blocks), arrays["value"], tuple(json.loads(str(arrays["gauge"]))), magnitudes,
        rows, quality, errors, with_files_between(json.loads(str(arrays["meta"])), Path(path).parent, Path()), model,
    )  # fmt: skip


def find_joint(path: str | os.PathLike[str]) -> Path | None:
    """The file of a joint solution that a path is, or that the folder of `xpjax survey solve` has; None for others."""
    path = Path(path)
    if path.is_dir():
        path = path / "joint.h5"
    return path if model_kind(path) == FORMAT else None


def _block(said: Mapping[str, Any]) -> Block:
    keys = {name: np.array(values) for name, values in said["keys"].items()}
    group = None if said["group"] is None else np.array(said["group"])
    parts = tuple(Part(**part) for part in said["parts"])
    sigmas = None if said.get("sigmas") is None else np.array(said["sigmas"])
    return Block(
        said["name"], np.empty(0, np.int32), tuple(said["labels"]), parts, keys, group,
        said.get("of_reference", False), sigmas,
    )  # fmt: skip


def _term(said: Mapping[str, Any]) -> Term:
    """A term as the file has it; one whose data it lacks is an `AbsentTerm`."""
    entry = {name: value for name, value in said.items() if name not in ("said", "of_reference", "gives_prior")}
    try:
        return term_from(entry)
    except XpjaxError:
        return AbsentTerm(said["name"], said["said"], said.get("of_reference", False), said.get("gives_prior", False))
