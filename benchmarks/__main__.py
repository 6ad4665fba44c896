"""Run the benchmarks: python -m benchmarks [--speed | --accuracy] [--quick] [--name NAME] [STAGE ...].

Every stage in turn, peers in the same run; then a table of all that was measured, a figure, and what was promised
beside what was found. Results are left in results/NAME.json, written after every stage, and NAME.png; a stage that
fails is told of, and the others run. The machine should be idle. Real data are looked for in ../shared/data; a row says
what was not measured for want of them. What a quick run does of a stage, its `run(quick)` says; some stages it leaves
out, and tells of what earlier full runs found. `--page FILE` measures nothing: it writes stored results as a page.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from benchmarks import harness, page, promises
from benchmarks.harness import Row

STAGES = (
    "read",
    "ingest",
    "spectra",
    "observe",
    "photometry",
    "scaling",
    "correction",
    "stellar",
    "survey",
    "joint",
    "catalogue",
    "lsdb",
    "passbands",
    "gaiaxpy",
)
LONG = ("faults", "exactness", "curves", "linear", "labels", "scr", "untidy")
"""Validation: they measure no speed, take minutes, and are not of a quick run."""


def measured(stage: str, quick: bool) -> tuple[list[Row], bool]:
    """The rows of a stage, or one that says it failed, and whether it did; its time is told on stderr."""
    import matplotlib as mpl

    wall, busy = time.perf_counter(), time.process_time()
    failed = False
    try:
        with mpl.rc_context():  # a peer's import may change how all later figures are drawn
            rows = importlib.import_module(f"benchmarks.{stage}").run(quick)
    except Exception as exc:
        traceback.print_exc()
        rows, failed = [harness.absent(stage, "the whole stage", repr(exc))], True
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    print(f"{stage}: {wall:.0f} s, {busy:.0f} s of processor time", file=sys.stderr, flush=True)
    return rows, failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {STAGES + LONG}; by default all")
    parser.add_argument("--quick", action="store_true", help=f"small sizes, under three minutes; not {LONG}")
    parser.add_argument("--name", help="results/NAME.json; by default platform and stages")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--speed", action="store_true", help=f"the stages {STAGES}")
    kind.add_argument("--accuracy", action="store_true", help=f"the stages {LONG}, minutes each")
    kind.add_argument("--page", type=Path, metavar="FILE", help="write what earlier runs stored as a Markdown page")
    options = parser.parse_args()
    if options.page:
        options.page.write_text(page.page())
        return
    options.stages += STAGES * options.speed + LONG * options.accuracy
    if unknown := set(options.stages) - {*STAGES, *LONG}:
        parser.error(f"unknown stages {sorted(unknown)}; choose from {STAGES + LONG}")
    started = time.perf_counter()
    platform = harness.machine()["platform"]
    name = options.name or "_".join([platform, *options.stages, *["quick"] * options.quick])
    path, limit = harness.RESULTS / f"{name}.json", harness.limits()
    rows: list[Row] = []
    failures = 0
    for stage in options.stages or STAGES + LONG * (not options.quick):
        found, failed = measured(stage, options.quick)
        rows, failures = rows + found, failures + failed
        harness.save(rows, path, limits=limit)
    if not options.stages:
        rows.append(Row("all", f"this {'quick' if options.quick else 'full'} run", 1, time.perf_counter() - started))
    print(harness.report(rows, path, limit) + "\n")
    print(promises.table(rows, options.stages, stored=harness.stored(platform, but=name)))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
