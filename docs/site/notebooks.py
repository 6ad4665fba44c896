"""Executed notebooks: each runs once, and again when it or the package has changed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbclient

PACKAGE = Path(__file__).parents[2] / "xpjax"


def executed(folder: Path, made: Path, processes: int = 2) -> list[Path]:
    """Notebooks of a folder with their outputs, as .ipynb files in another."""
    with ThreadPoolExecutor(processes) as pool:  # each notebook is a process of its own
        return list(pool.map(lambda path: execute(path, made), sorted(folder.glob("*.py"))))


def execute(source: Path, made: Path) -> Path:
    """One notebook with its outputs, as .ipynb file in a folder; the one that is there where nothing has changed."""
    made.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    target, mark = made / f"{source.stem}.ipynb", hashlib.sha256(source.read_bytes() + _package()).hexdigest()
    if target.exists() and json.loads(target.read_text())["metadata"].get("made_of") == mark:
        return target
    notebook = jupytext.read(source)
    place = {"metadata": {"path": source.parent}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:  # times of execution say nothing to a reader
        cell.metadata.pop("execution", None)
    notebook.metadata["made_of"] = mark
    target.write_text(json.dumps(notebook, indent=1))
    return target


@functools.cache
def _package() -> bytes:
    return b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*")) if path.suffix in (".py", ".mplstyle"))
