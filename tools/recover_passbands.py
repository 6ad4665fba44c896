"""Recover the passbands of the published photometric systems from their projection vectors, into filters/.

    python tools/recover_passbands.py [SYSTEM ...] [--output FOLDER]

Prints for each band the residual, the share of its integral inside 330..1050 nm and the mean wavelength against the
published one, which counts what lies beyond too; then those that are not reproduced, and why. Bands that no curve
comes near to are not written. Run by hand; the output is committed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from xpjax.synthetic.files.passband_files import write_passbands
from xpjax.synthetic.passband import PassbandSet
from xpjax.synthetic.published import available_systems, load_system
from xpjax.synthetic.recover import GOOD, recover_passbands

OUTPUT = Path(__file__).parents[1] / "filters"
HOPELESS = 0.1
"""A curve with a larger residual is no passband."""
REMARKS = {
    "HstWfc3uvis_f658n": "not written: its published mean wavelength, 504.55 nm, is not that of a filter at 658 nm",
}


def main() -> None:
    """Recover, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=list(available_systems()), help="default: all")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    poor, total, start = [], 0, time.perf_counter()
    print(f"{'band':28} {'residual':>9} {'inside':>8} {'mean':>8} {'published':>9} {'samples':>7}  from      to")
    for name in options.systems:
        full = load_system(name)
        bands = recover_passbands(full)
        total += len(bands)
        for column, band, published in zip(full.columns, bands, np.asarray(full.mean_wavelength), strict=True):
            x, residual = band.wavelength, band.meta["residual"]
            print(
                f"{column:28} {residual:9.1e} {band.meta['inside']:8.5f} {band.mean_wavelength:8.2f} "
                f"{published:9.2f} {len(x):7d}  {x[0]:.2f} {x[-1]:.2f}"
            )
            if residual >= GOOD:
                poor.append((column, band))
        kept = tuple(band for band in bands if band.meta["residual"] < HOPELESS)
        title = f"{name}, recovered from its published projection vectors"
        if any(full.standardized):
            title += "; without flux biases and color equations"
        passbands = PassbandSet(f"{full.labels[0]}_recovered", kept, {"title": title})
        write_passbands(options.output / name, passbands, overwrite=True)
    print(f"\n{total - len(poor)} of {total} below {GOOD:g} in {time.perf_counter() - start:.0f} s; the rest:")
    for column, band in sorted(poor, key=lambda pair: pair[1].meta["residual"]):
        remark = REMARKS.get(column, "")
        print(f"{column:28} {band.meta['residual']:9.1e}  {'; '.join(filter(None, (band.meta['method'], remark)))}")


if __name__ == "__main__":
    main()
