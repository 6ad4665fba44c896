"""Run the benchmarks: python -m benchmarks [--quick] [--name NAME] [STAGE ...]."""

from __future__ import annotations

import argparse
import importlib

from benchmarks import harness

STAGES = (
    "photometry",
    "spectra",
    "passbands",
    "ingest",
    "catalogue",
    "faults",
    "correction",
    "survey",
    "stellar",
    "gaiaxpy",
    "joint",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {STAGES}; by default all")
    parser.add_argument("--quick", action="store_true", help="small sizes, under three minutes")
    parser.add_argument("--name", help="results/NAME.json; by default platform and stages")
    options = parser.parse_args()
    unknown = set(options.stages) - set(STAGES)
    if unknown:
        parser.error(f"unknown stages {sorted(unknown)}; choose from {STAGES}")
    rows = []
    for stage in options.stages or STAGES:
        rows += importlib.import_module(f"benchmarks.{stage}").run(options.quick)
    platform = harness.machine()["platform"]
    name = "_".join([platform, *options.stages, *["quick"] * options.quick])
    path = harness.save(rows, options.name or name)
    print(harness.table(rows))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
