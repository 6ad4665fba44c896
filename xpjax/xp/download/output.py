"""Where fetched sources go: a file of any format, a store file, or the folder of a store; whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.records import Catalogue
from xpjax.io.atomic import check_folder, check_output as check_file, explain
from xpjax.io.catalogue import SUFFIXES, check_output, write
from xpjax.xp.sources import HEALPIX_SHIFT, SourceTable
from xpjax.xp.store.format import SUFFIX
from xpjax.xp.store.writer import write_store_file

STORE_FILE = 20_000
"""Sources of a file of a store."""
CREATED = "2000-01-01T00:00:00+00:00"
"""What files of a store say of their making: the same sources give the same bytes."""

Make = Callable[[np.ndarray], SourceTable]


class Output:
    """An output, checked before anything is fetched. Raises XpjaxError and OSError as `xpjax.write` does."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        self.path, self.overwrite = path, overwrite
        self.folder = path.is_dir() or not path.suffix
        if self.folder:
            check_folder(path, overwrite=overwrite or (path.is_dir() and not any(path.iterdir())))
        elif path.suffix.lower() == SUFFIX:
            check_file(path, overwrite=overwrite)
        else:
            check_output(path, overwrite=overwrite)

    def write(self, ids: np.ndarray, without: np.ndarray, make: Make) -> Path | None:
        """Write the sources with these ids, as they are made; the file that names those without, if there are any."""
        known = (end for end in SUFFIXES if self.path.name.lower().endswith(end))
        suffix = "" if self.folder else next(known, self.path.suffix)
        beside = self.path.with_name(f"{self.path.name[: len(self.path.name) - len(suffix)]}_missing.csv")
        _remove_left(self.path, beside)
        if len(without):
            write(beside, Catalogue({"source_id": without}), overwrite=True)
        else:
            beside.unlink(missing_ok=True)
        options: dict[str, Any] = {"overwrite": self.overwrite, "attrs": {"created": CREATED}}
        if self.folder:
            self._write_store(np.sort(ids), make)
        elif self.path.suffix.lower() == SUFFIX:
            write_store_file(self.path, make(ids), **options)
        else:
            write(self.path, make(ids), overwrite=self.overwrite)
        return beside if len(without) else None

    def _write_store(self, ids: np.ndarray, make: Make) -> None:
        """The folder of a store, file by file under another name, then renamed."""
        path = Path(os.path.realpath(self.path))
        new, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
        try:
            new.mkdir()
            for start in range(0, len(ids), STORE_FILE):
                some = ids[start : start + STORE_FILE]
                first, last = (int(one) >> HEALPIX_SHIFT + 8 for one in (some[0], some[-1]))
                name = f"XP_{start // STORE_FILE:04d}_{first:06d}-{last:06d}{SUFFIX}"
                write_store_file(new / name, make(some), attrs={"created": CREATED})
            if path.exists():
                os.replace(path, old)
            os.replace(new, path)
        except OSError as error:
            raise explain(error, self.path) from error
        finally:
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)


def _remove_left(*outputs: Path) -> None:
    """Remove what killed processes left of these outputs: files and folders under names that have their number."""
    for path in outputs:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
            number, kind = left.name.rsplit(".", 2)[1:]
            if not (kind in ("tmp", "new") and number.isdigit()):
                continue
            try:
                os.kill(int(number), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
            except OSError:  # somebody else's
                continue
