"""What is known of a joint solution: `JointEvidence`, its measurements, and which columns belong to which term."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Record, json_entry
from xpjax.io.catalogue import read_catalogue
from xpjax.survey import Observations
from xpjax.survey.joint import (
    TERMS,
    JointSolution,
    Transmission,
    find_joint,
    read_further,
    read_joint_config,
    read_joint_solution,
    solved_correction,
)
from xpjax.survey.reading import survey_chain
from xpjax.survey.report.evidence import color_name
from xpjax.xp import LinearCorrection, load_correction

CALIBRATED, CORRECTION = "calibrated.parquet", "correction.h5"


@dataclasses.dataclass(frozen=True, repr=False)
class JointEvidence(Record):
    """A joint solution, and the measurements that it was made from.

    rows: columns (n,) of the calibrated measurements, with `frame` (index into the frames of the solution), `x`, `y`
    [pixel], `color` [mag], `ra`, `dec` [deg], NaN where unknown. config: names and values of its survey.toml.
    transmissions: transmission terms by name, with their chains; those whose chain is not found are not there.
    correction: the linear correction that an instrument term makes.
    """

    solution: JointSolution
    rows: Mapping[str, np.ndarray]
    config: Mapping[str, Any]
    transmissions: Mapping[str, Transmission]
    correction: LinearCorrection | None = None

    @property
    def bands(self) -> list[str]:
        """Names of the bands, in the order of their frames."""
        return list(dict.fromkeys(self.solution.frames.band.tolist()))

    def of_band(self, band: str) -> np.ndarray:
        """Which rows (n,) are measurements in a band."""
        return self.solution.frames.band[self.rows["frame"]] == band

    @property
    def fitted(self) -> np.ndarray:
        """Residuals (n,) [mag] of the measurements that made the solution, outliers included; NaN for all others."""
        found = self.solution
        return np.where(found.used | found.clipped, found.residual, np.nan)

    @property
    def held_out(self) -> np.ndarray:
        """Residuals (n,) [mag] of the stars and exposures that were kept back; NaN for all others."""
        held = self.solution.held_out
        return np.full(len(self.rows["frame"]), np.nan) if held is None else held.residual

    def term_of(self, block: Any) -> Any:
        """The term that a block of columns is of: the one whose name its own begins with."""
        own = [term for term in self.solution.terms if f"{block.name} ".startswith(f"{term.name} ")]
        return max(own, key=lambda term: len(term.name))

    def kind(self, block: Any) -> str:
        """The kind of the term that a block of columns is of."""
        return kind_of_term(self.term_of(block))

    def places_of(self, block: Any, frames: np.ndarray) -> np.ndarray:
        """How many of these frames (k,) (indices) share each place (n_place,) of a block."""
        own, n = self.solution.frames, len(block.labels)
        count = np.zeros(n, int)
        keys = list(zip(*(block.keys[name].tolist() for name in block.keys), strict=True)) or [()] * n
        columns = [getattr(own, name)[frames].tolist() for name in block.keys]
        seen: dict[tuple[Any, ...], int] = {}
        for key in zip(*columns, strict=True) if columns else [()] * len(frames):
            seen[key] = seen.get(key, 0) + 1
        for k, key in enumerate(keys):
            count[k] = seen.get(key, 0)
        return count

    def means(self, block: Any, name: str) -> np.ndarray:
        """Mean time or airmass (n_place,) of the frames that share each place of a block; NaN where not known."""
        frames, n = self.solution.frames, len(block.labels)
        keys = list(zip(*(block.keys[key].tolist() for key in block.keys), strict=True)) or [()] * n
        own = list(zip(*(getattr(frames, key).tolist() for key in block.keys), strict=True)) or [()] * len(frames)
        codes = {key: k for k, key in enumerate(dict.fromkeys(own))}
        code = np.array([codes[key] for key in own], int)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(code, getattr(frames, name), len(codes)) / np.bincount(code, minlength=len(codes))
        return np.array([mean[codes[key]] if key in codes else np.nan for key in keys])

    def combined(self, columns: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums (n,) of columns, or combinations of them, times shapes (k, n), and their errors.

        columns (k,) or (k, n_column). Errors are NaN where the file of the solution has no covariance.
        """
        found, n = self.solution, len(self.solution.value)
        rows = unit_rows(columns, n) if columns.ndim == 1 else columns
        value = (rows @ np.nan_to_num(found.value)) @ shapes
        try:
            covariance = found.covariance(rows)
        except XpjaxError:
            return value, np.full(shapes.shape[1], np.nan)
        return value, np.sqrt(np.maximum(np.einsum("kn,kl,ln->n", shapes, covariance, shapes), 0))

    def color_name(self, band: str) -> str:
        """What the color of the stars is called in the configuration, for axes."""
        return color_name(self.config, band)


def bands_of(block: Any) -> np.ndarray:
    """The band (n_place,) of each place of a block, "" for several."""
    return np.asarray(block.keys.get("band", np.full(len(block.labels), ""))).astype(str)


def name_of(block: Any, part: Any) -> str:
    """The name of a part of a block, for headings and axes."""
    return str(block.name) if len(block.parts) == 1 else f"{block.name} {part.name}"


def unit_rows(columns: np.ndarray, n_column: int) -> np.ndarray:
    """Combinations (k, n_column) that are some columns (k,) themselves."""
    out = np.zeros((len(columns), n_column))
    out[np.arange(len(columns)), columns] = 1.0
    return out


def kind_of_term(term: Any) -> str:
    """The kind of a term, of one whose data a file does not hold as well."""
    return str(term.kind or term.describe().split()[0])


def about_term(term: Any) -> str:
    """What a term fits, in words: the first line of what its kind says of itself."""
    kind = TERMS.get(kind_of_term(term))
    said = ((kind and kind.__doc__) or "").strip().split("\n")[0].rstrip(".")
    return said.removeprefix("Fit ") or kind_of_term(term)


# --- gathered ---------------------------------------------------------------------------------------------------------


def joint_evidence(
    solution: JointSolution | str | Path,
    observations: Observations | None = None,
    catalogues: Sequence[str | Path] = (),
) -> JointEvidence:
    """The evidence of a joint solution: of its folder, or in memory with the observations that were solved for.

    catalogues: the tables that were solved for, where the calibrated measurements lack places and colors. Raises
    XpjaxError where measurements and solution are not of one another.
    """
    folder = None
    if isinstance(solution, str | Path):
        path = find_joint(solution)
        if path is None:
            raise XpjaxError(f"{solution} is no joint solution: give the directory that `xpjax survey solve` wrote")
        folder, solution = path.parent, read_joint_solution(path)
    if catalogues:
        solution, reading = read_further(solution, list(catalogues))
        observations = reading.observations
    if observations is not None:
        table = solution.calibrated(_checked(observations, solution)).columns
    elif folder is not None and (folder / CALIBRATED).is_file():
        table = read_catalogue(folder / CALIBRATED).columns
    else:
        need = say("the observations that were solved for", CALIBRATED)
        raise XpjaxError(f"the report of a joint solution needs its measurements: give {need} beside it")
    if len(table["residual"]) != len(solution.residual):
        raise XpjaxError(
            f"{CALIBRATED} has {len(table['residual']):,} measurements, the solution {len(solution.residual):,}: they "
            "are not of one another; solve again"
        )
    config = json_entry(solution.meta, "config", "{}")
    return JointEvidence(
        solution, _rows(solution, table), config, _transmissions(solution, config), _correction(solution, folder)
    )


def _correction(solution: JointSolution, folder: Path | None) -> LinearCorrection | None:
    """The linear correction that a solution makes, from the file beside it where that does not hold what it needs."""
    if folder is not None:
        return load_correction(folder / CORRECTION) if (folder / CORRECTION).is_file() else None
    try:
        return solved_correction(solution)
    except XpjaxError:  # read from a file, without what the term needs
        return None


def _checked(o: Observations, solution: JointSolution) -> Observations:
    """The observations, where they are those of the solution."""
    own = solution.frames
    if len(o) != len(solution.residual) or not (
        own.exposure[solution.rows.frame] == o.frames.exposure[o.frame]
    ).all():  # fmt: skip
        raise XpjaxError(
            f"{len(o):,} measurements for a solution of {len(solution.residual):,}: give the tables that were solved "
            "for, all of them and in their order"
        )
    return o


def _rows(solution: JointSolution, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns of the measurements, those that reports need at least."""
    rows = {name: np.asarray(column) for name, column in table.items()}
    n = len(solution.residual)
    rows["frame"] = np.asarray(solution.rows.frame)
    for name in ("x", "y", "ra", "dec", "color"):
        rows[name] = np.asarray(rows.get(name, np.full(n, np.nan)), float)
    return rows


def _transmissions(solution: JointSolution, config: Mapping[str, Any]) -> dict[str, Transmission]:
    """The transmission terms with their chains, from the solution or from the files of its configuration."""
    said = read_joint_config(config).terms if config.get("term") else ()
    known = {term.name: term for term in (*said, *solution.terms) if isinstance(term, Transmission)}
    out = {}
    for name, term in known.items():
        try:
            chain = survey_chain(term.chain, Path()) if isinstance(term.chain, str) else term.chain
        except (OSError, XpjaxError):  # the file has gone: transmissions cannot be drawn, all else can
            continue
        out[name] = dataclasses.replace(term, chain=chain)
    return out
