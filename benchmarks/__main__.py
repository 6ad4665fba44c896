"""Run the benchmarks: python -m benchmarks [--quick] [--name NAME] [STAGE ...].

Every stage in turn, peers in the same run; then a table of all that was measured, a figure, and what was promised
beside what was found. Results are left in results/NAME.json and NAME.png. The machine should be idle.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from benchmarks import harness, promises, quick

STAGES = (
    "read",
    "ingest",
    "spectra",
    "photometry",
    "scaling",
    "correction",
    "stellar",
    "survey",
    "joint",
    "catalogue",
    "passbands",
    "gaiaxpy",
    "faults",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {STAGES}; by default all")
    parser.add_argument("--quick", action="store_true", help="small sizes, under three minutes")
    parser.add_argument("--name", help="results/NAME.json; by default platform and stages")
    options = parser.parse_args()
    unknown = set(options.stages) - set(STAGES)
    if unknown:
        parser.error(f"unknown stages {sorted(unknown)}; choose from {STAGES}")
    chosen = options.stages or [s for s in STAGES if not (options.quick and s in quick.LEFT_OUT)]
    started = time.perf_counter()
    rows = []
    for stage in chosen:
        before, busy = time.perf_counter(), time.process_time()
        short = quick.STAGES.get(stage) if options.quick else None
        rows += short() if short else importlib.import_module(f"benchmarks.{stage}").run(options.quick)
        spent = f"{time.perf_counter() - before:.0f} s, {time.process_time() - busy:.0f} s of processor time"
        print(f"{stage}: {spent}", file=sys.stderr, flush=True)
    limit = harness.limits()
    found = harness.machine()
    if options.quick and not options.stages:
        rows.append(harness.Row("all", "this quick run", 1, time.perf_counter() - started))
    name = options.name or "_".join([found["platform"], *options.stages, *["quick"] * options.quick])
    path = harness.save(rows, harness.RESULTS / f"{name}.json", limits=limit)
    figure = harness.figure(rows, limit, path.with_suffix(".png"))
    print(harness.table(rows, limit))
    print(f"\nlimits: copy {limit.bytes_per_second / 1e9:.1f} GB/s, product {limit.flops / 1e9:.0f} GFLOP/s")
    print(f"{path}, {figure}\n")
    stored = harness.stored(f"{found['platform']}*.json", but=path)
    print(promises.table(rows, [] if not options.stages else {*options.stages}, stored=stored))


if __name__ == "__main__":
    main()
