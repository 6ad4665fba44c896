"""What a process does for a survey that is calibrated in units: items of phases, and what all items together say.

An item is a batch of tables that is read, or a unit in one step of its calibration. It depends on the items of earlier
phases alone, and gives the same bits whoever does it, and however often.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.catalogue.locks import write_json
from xpjax.catalogue.survey_files import (
    Stored,
    read_arrays,
    read_observations_of,
    read_plan,
    read_unit_rows,
    write_arrays,
    write_batch,
    write_observations,
    write_plan,
)
from xpjax.catalogue.survey_job import PREPARE, PRODUCTS, READ, SHIFTS, SurveyJob, clean, names_of_batches, note, unused
from xpjax.core.records import json_entry
from xpjax.core.version import __version__
from xpjax.io.catalogue import write
from xpjax.survey import Frames, Observations, concatenate
from xpjax.survey.exposures import (
    Extent,
    Part,
    Scaling,
    calibrated_part,
    extent,
    join_solutions,
    prepare,
    read_solution,
    scaling_of,
    write_solution,
)
from xpjax.survey.reading import (
    Account,
    SurveyCalibration,
    UnitPlan,
    about_survey,
    files_relative_to,
    plan_units,
    read_batch,
    shift_laws,
    tell,
    tell_shifts,
    unit_observations,
)

SHOWN = 3
"""Units of which lines of each are told."""


def do_item(job: SurveyJob, phase: str, name: str) -> str:
    """Do one item of a phase; its name."""
    if phase == READ:
        batch = read_batch([Path(f) for f in job.batches[int(name)]], job.config, known=job.known, keep=job.keep)
        write_batch(job.rows(name), batch)
        write_arrays(job.share(READ, name), tell(batch))
        return name
    plan = read_plan(job.told(READ))
    k = plan.units.index(name)
    if phase == SHIFTS:
        write_arrays(job.share(SHIFTS, name), tell_shifts(_rows(job, plan, k), job.config, plan.frames.airmass))
    elif phase == PREPARE:
        write_arrays(job.share(PREPARE, name), _prepare(job, plan, k))
    elif phase == PRODUCTS:
        _write_products(job, plan, k)
    else:
        part, _ = _part(job, plan, k, phase)
        write_arrays(job.share(phase, name), job.steps[phase].share(part))
    return name


def _rows(job: SurveyJob, plan: UnitPlan, k: int) -> Observations:
    """The rows of a unit as they were read, in the order of the tables."""
    parts = (
        read_unit_rows(job.rows(batch), plan, j, k, job.rows(f"stars-{batch}"))
        for j, batch in enumerate(names_of_batches(job))
    )
    return _on_frames([part for part in parts if part is not None])


def _prepare(job: SurveyJob, plan: UnitPlan, k: int) -> dict[str, np.ndarray]:
    """Write the rows of a unit as its calibration takes them; what scaled coordinates are made of."""
    solved = json.loads(str(read_arrays(job.told(SHIFTS))["laws"][0])) if SHIFTS in job.phases else None
    rows, lines, laws = unit_observations(_rows(job, plan, k), job.config, solved)
    write_observations(job.rows(plan.units[k]), rows, {"lines": lines, "laws": laws})
    seen = extent(rows).sorted()
    return {f.name: getattr(seen, f.name) for f in dataclasses.fields(Extent)}


def _on_frames(parts: Sequence[Observations]) -> Observations:
    """Rows of the same frames one after the other."""
    frames = parts[0].frames
    joined = concatenate([dataclasses.replace(part, frames=_numbered(frames)) for part in parts])
    return dataclasses.replace(joined, frames=frames)


def _numbered(frames: Frames) -> Frames:
    """Frames that are told apart by their numbers, so that they keep their order whatever they are called."""
    return dataclasses.replace(frames, exposure=np.arange(len(frames)).astype(str))


def _part(job: SurveyJob, plan: UnitPlan, k: int, phase: str) -> tuple[Part, dict[str, Any]]:
    """A unit with all that is known before a phase."""
    rows, about = read_observations_of(job.rows(plan.units[k]))
    before = np.bincount(plan.unit, minlength=len(plan.units))[:k].sum()
    told = read_arrays(job.told(PREPARE))
    box = told["box"][before : before + len(rows.frames)]
    scale = Scaling(box, float(told["color_zero"][0]), float(told["magnitude_zero"][0]))
    prepared = prepare(rows, job.config.settings, scale, len(plan.amplifiers))
    part = Part(prepared, job.config.settings, first=int(before), devices=job.devices)
    for name, step in job.steps.items():
        if name == phase:
            break
        step.learn(part, read_arrays(job.told(name)))
    return part, about


def _write_products(job: SurveyJob, plan: UnitPlan, k: int) -> None:
    """Write what becomes of a unit; its manifest last."""
    started, name = time.perf_counter(), plan.units[k]
    part, about = _part(job, plan, k, PRODUCTS)
    o = part.observations
    assert o.origin is not None
    account = dataclasses.replace(plan.account, notes=[*plan.account.notes, *about["lines"]])
    record = _record(job, plan, account, about["laws"], o.frames.exposure, o.origin.files)
    solution, calibrated = calibrated_part(part, record)
    origin = dataclasses.replace(o.origin, files=tuple(map(job.as_called, o.origin.files)))
    calibrated = dataclasses.replace(calibrated, observations=dataclasses.replace(o, origin=origin))
    SurveyCalibration(solution, calibrated, account).write(job.products(name), overwrite=True)
    status = solution.fits.status
    bits, counts = np.unique(status, return_counts=True)
    manifest = {
        "unit": name, "options": job.digest, "version": __version__, "rows": len(o), "sources": len(o), "status": {},
        "frames": len(o.frames), "frame_status": {str(b): int(n) for b, n in zip(bits, counts, strict=True)},
        "calibrated": int(np.isfinite(calibrated.magnitude).sum()), "lines": about["lines"],
        "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip
    write_json(job.manifest(name), manifest)


def _record(
    job: SurveyJob, plan: UnitPlan, account: Account, laws: dict[str, Any], exposures: np.ndarray, files: Sequence[str]
) -> dict[str, Any]:
    """What solutions say of their tables, those with the exposures."""
    named = {str(name) for name in exposures}
    known = {name: file for name, file in job.known.items() if name in named}
    inputs = [Path(file).name for file in dict.fromkeys(files)]
    return about_survey(job.config, account, known, plan.amplifiers, laws, inputs, job.record)


def reduce_phase(job: SurveyJob, phase: str) -> None:
    """Write what all items of a phase together say; after the last one the products of the whole survey."""
    if phase == READ:
        batches = names_of_batches(job)
        plan = plan_units(list(Stored([job.share(READ, name) for name in batches])), job.units)
        note(job, units=[[name, n] for name, n in zip(plan.units, plan.n_row, strict=True)])
        write_plan(job.told(READ), plan, [job.rows(f"stars-{name}") for name in batches])
        return
    plan = read_plan(job.told(READ))
    if phase == PRODUCTS:
        _write_whole(job, plan)
        return
    shares = Stored([job.share(phase, name) for name in plan.units])
    if phase == SHIFTS:
        write_arrays(job.told(SHIFTS), {"laws": np.array([json.dumps(shift_laws(list(shares)))])})
    elif phase == PREPARE:
        settings = job.config.settings
        parts = [Extent(**share) for share in shares]  # 16 bytes for each standard
        scale = scaling_of(parts, plan.frames[plan.order], settings.model, settings.size)
        zeros = {name: np.array([getattr(scale, name)]) for name in ("color_zero", "magnitude_zero")}
        write_arrays(job.told(PREPARE), {"box": scale.box, **zeros})
        unused([job.rows(name) for name in names_of_batches(job)])
    else:
        write_arrays(job.told(phase), job.steps[phase].reduce(shares, job.config.settings))
    unused([job.work / "shares" / phase])


def _write_whole(job: SurveyJob, plan: UnitPlan) -> None:
    """Write zero-points and solution of the whole survey from those of its units."""
    manifests = [job.finished(name) for name in plan.units]
    lines = [f"{one['unit']}: {line}" for one in manifests[:SHOWN] for line in one["lines"]]
    if lines and len(manifests) > SHOWN:
        lines.append(f"likewise {len(manifests) - SHOWN:,} more units; their solutions have it")
    account = dataclasses.replace(plan.account, notes=[*plan.account.notes, *lines])
    solutions = [read_solution(job.products(name)) for name in plan.units]
    laws = json_entry(solutions[0].record, "airmass_laws")
    record = {**solutions[0].record, **_record(job, plan, account, laws, plan.frames.exposure, job.files)}
    record["config"] = json.dumps(files_relative_to(job.config.table, job.config.folder, job.output))
    whole = join_solutions(solutions, plan.order, record)
    write_solution(job.output / "solution.h5", whole, overwrite=True)
    write(job.output / "zeropoints.ecsv", whole, overwrite=True)
    note(job, complete=True)
    clean(job)
