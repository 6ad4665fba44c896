"""Compare the outputs of two versions of xpjax, file by file, to the bit.

    python tools/compare_outputs.py BEFORE AFTER

BEFORE and AFTER are folders in which both versions ran the same commands. Every table and HDF5 file of BEFORE is looked
up under its name in AFTER, and every column of numbers or flags is compared to the last bit. Columns that one of them
lacks are listed. The exit status is 1 where a number differs or a file is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

import xpjax

TABLES = (".parquet", ".ecsv", ".csv", ".fits")


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file by its name."""
    if path.suffix in TABLES:
        table = xpjax.read_table(path)
        return {name: np.asarray(table[name]) for name in table.colnames}
    found: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {name: np.asarray(array) for name, array in found.items()}


def same(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether shapes and bits are equal; texts by their characters."""
    if before.dtype.kind in "OSU" or after.dtype.kind in "OSU":
        return before.shape == after.shape and bool(np.all(before.astype(str) == after.astype(str)))
    return before.shape == after.shape and before.dtype == after.dtype and before.tobytes() == after.tobytes()


def main(before: Path, after: Path) -> int:
    """Compare two folders and print what differs."""
    wrong = compared = numbers = 0
    for path in sorted(p for p in before.rglob("*") if p.suffix in (*TABLES, ".h5")):
        name = path.relative_to(before)
        if not (after / name).is_file():
            print(f"{name}: missing")
            wrong += 1
            continue
        one, other = arrays(path), arrays(after / name)
        differing = [key for key in one if key in other and not same(one[key], other[key])]
        lacking = sorted(one.keys() ^ other.keys())
        compared += 1
        numbers += sum(array.size for key, array in one.items() if key in other and array.dtype.kind in "fiub")
        wrong += bool(differing)
        said = [f"differ: {', '.join(differing)}"] if differing else []
        said += [f"only in one: {', '.join(lacking)}"] if lacking else []
        print(f"{name}: {'; '.join(said) or 'the same'}")
    print(f"{compared} files, {numbers:,} numbers compared, {wrong} files differ or are missing")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
